//go:build unix

package gateway_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/larderhq/larder/gateway"
)

// leastSwaps is how many have to be made. All names are asked for once at least.
var leastSwaps int64 = 1000

// FG-02, R-31: whatever is swapped for a link while it is looked for, opened, listed or
// read, no octet and no name from outside comes.
func TestFG02_HundredThousandFilesAndSwaps(t *testing.T) {
	const folders, each = 100, 1000
	top := t.TempDir()
	root := filepath.Join(top, "root")
	check(t, os.Mkdir(root, 0o755))
	// What is outside has the names that are inside, so that a folder that leads there
	// has them all.
	put(t, filepath.Join(top, outside), outside)
	check(t, os.Mkdir(filepath.Join(top, "sub"), 0o755))
	inside := func(i int) string { return fmt.Sprintf("%02d/%03d", i/each, i%each) }
	for i := range each {
		check(t, os.Link(filepath.Join(top, outside), filepath.Join(top, fmt.Sprintf("%03d", i))))
		check(t, os.Link(filepath.Join(top, outside), filepath.Join(top, "sub", fmt.Sprintf("%03d", i))))
	}
	var making sync.WaitGroup
	for worker := range 4 {
		making.Go(func() {
			for d := worker; d < folders; d += 4 {
				// Links are made faster than files.
				first := filepath.Join(root, inside(d*each))
				put(t, first, "inside")
				for i := 1; i < each; i++ {
					check(t, os.Link(first, filepath.Join(root, inside(d*each+i))))
				}
			}
		})
	}
	making.Wait()
	h := serve(t, root, gateway.Options{Listing: true})

	var swaps atomic.Int64
	var hot atomic.Value // a name that is being swapped
	hot.Store(inside(0))
	stop, turns := make(chan struct{}), make(chan struct{}, 16)
	var swapping sync.WaitGroup
	// swap runs one swap after the other, as many as leave time for reading.
	swap := func(worker int, once func(r *rand.Rand)) {
		swapping.Go(func() {
			for r := rand.New(rand.NewPCG(1, uint64(worker))); ; {
				select {
				case <-stop:
					return
				case <-turns:
					once(r)
					swaps.Add(1)
				}
			}
		})
	}
	leads := []string{"../../" + outside, filepath.Join(top, outside), "../../sub/001"}
	for worker := range 2 {
		spare := filepath.Join(root, fmt.Sprintf("spare%d", worker))
		swap(worker, func(r *rand.Rand) { // each step may meet the swap of a folder, and fail
			name := inside(worker*each + r.IntN(folders/2)*2*each + r.IntN(each)) // the other has the other folders
			hot.Store(name)
			full := filepath.Join(root, name)
			_ = os.Symlink(leads[r.IntN(len(leads))], spare)
			_ = os.Rename(spare, full)
			_ = os.Remove(spare) // if it is there still, writing would go where it leads
			_ = os.WriteFile(spare, []byte("inside"), 0o644)
			_ = os.Rename(spare, full)
		})
	}
	swap(2, func(r *rand.Rand) {
		name := fmt.Sprintf("%02d", r.IntN(folders))
		hot.Store(fmt.Sprintf("%s/%03d", name, r.IntN(each)))
		full, aside := filepath.Join(root, name), filepath.Join(root, "aside")
		_ = os.Rename(full, aside)
		_ = os.Symlink([]string{"..", top, "../sub"}[r.IntN(3)], full)
		_ = os.Remove(full)
		_ = os.Rename(aside, full)
	})

	var mu sync.Mutex
	statuses, aborted, octets := map[int]int{}, 0, 0
	judge := func(target string) {
		a := run(h, &http.Request{Method: http.MethodGet, URL: &url.URL{Path: target}, Header: http.Header{}})
		mu.Lock()
		defer mu.Unlock()
		octets += a.Body.Len()
		if a.aborted != nil {
			aborted++
		}
		statuses[a.Code]++
		switch a.Code {
		case 200, 301, 404, 503:
		default:
			t.Errorf("%s: %d %q", target, a.Code, a.Body)
		}
		if strings.Contains(a.Body.String(), outside) || strings.Contains(fmt.Sprint(a.Header()), outside) {
			t.Errorf("%s: from outside comes %q", target, a.Body)
		}
		if a.Code == 200 && !strings.HasSuffix(target, "/") && a.Body.String() != "inside" && target != "/spare0" { // which begins empty
			t.Errorf("%s: %q", target, a.Body)
		}
	}
	var getting sync.WaitGroup
	for worker := range 3 {
		getting.Go(func() {
			for n := worker; n < folders*each || swaps.Load() < leastSwaps; n += 3 {
				i := n % (folders * each)
				judge("/" + inside(i))
				if n/3%2 == 0 {
					select {
					case turns <- struct{}{}:
					default:
					}
				}
				switch name := hot.Load().(string); i % 100 {
				case 0, 25, 50, 75:
					judge("/" + name)
				case 1:
					judge("/" + name[:2])
				case 2:
					judge("/spare0")
				}
				if i%30_000 == 3 {
					judge("/" + hot.Load().(string)[:2] + "/") // a listing, which takes a thousand looks
				}
			}
		})
	}
	getting.Wait()
	close(stop)
	swapping.Wait()
	if secret, err := os.ReadFile(filepath.Join(top, "sub", "001")); err != nil || string(secret) != outside {
		t.Errorf("what is outside is %q (%v)", secret, err)
	}
	if swaps.Load() < leastSwaps || statuses[200] < folders*each/2 || statuses[404] == 0 {
		t.Error("there was no contest")
	}
	t.Logf("%d files, %d swaps, answers by status %v, %d aborted, %d octets, none from outside", folders*each, swaps.Load(), statuses, aborted, octets)
}
