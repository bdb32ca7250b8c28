//go:build unix

package cli

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A shelf is one URL, whose body follows from the URL and a generation that a
// PUT raises.
type shelf struct {
	path string

	// at is the generation that the origin has; told the last one that a client
	// was told of, older than which nothing may be served from then on.
	at, told atomic.Int64
}

// bodyOf is what a shelf holds in a generation: a few KiB in most cases, more
// than a MiB in some.
func bodyOf(path string, generation int64) string {
	line := fmt.Sprintf("%s in generation %d\n", path, generation)
	h := fnv.New32a()
	_, _ = io.WriteString(h, line) // it never fails
	size := int(h.Sum32()>>8) % (40 << 10)
	if h.Sum32()%64 == 0 {
		size += 1 << 20
	}
	return strings.Repeat(line, size/len(line)+1)[:size]
}

// A pantry is an origin of shelves, and what its clients found out.
type pantry struct {
	shelves []*shelf
	life    atomic.Int64 // which larder is running

	answers, revived atomic.Int64 // revived: hits on what an earlier life stored
	faults           chan string
}

func newPantry(n int) *pantry {
	p := &pantry{faults: make(chan string, 100)}
	for i := range n {
		p.shelves = append(p.shelves, &shelf{path: "/" + strconv.Itoa(i)})
	}
	return p
}

// ServeHTTP is the origin.
func (p *pantry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
	if err != nil || n >= len(p.shelves) {
		http.NotFound(w, r)
		return
	}
	s := p.shelves[n]
	if r.Method == http.MethodPut {
		w.Header().Set("Generation", strconv.FormatInt(s.at.Add(1), 10))
		return
	}
	generation := s.at.Load()
	h := w.Header()
	h.Set("Cache-Control", "max-age=3600")
	h.Set("ETag", fmt.Sprintf(`"%d"`, generation))
	h.Set("Life", strconv.FormatInt(p.life.Load(), 10))
	http.ServeContent(w, r, "body.txt", time.Time{}, strings.NewReader(bodyOf(s.path, generation)))
}

// errWrong says that an answer is not what it has to be, whoever was killed.
var errWrong = errors.New("wrong")

// ask makes one request for a shelf chosen by chance, and judges the answer.
func (p *pantry) ask(ctx context.Context, client *http.Client, method, url string, random *rand.Rand) error {
	s := p.shelves[random.IntN(len(p.shelves))]
	floor := s.told.Load()
	req, err := http.NewRequestWithContext(ctx, method, url+s.path, nil)
	if err != nil {
		return err
	}
	req.Host = "pantry" // the same in each life, whichever port larder has
	from := 0
	if random.IntN(4) == 0 {
		from = random.IntN(len(bodyOf(s.path, floor)) + 1)
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	p.answers.Add(1)
	if method == http.MethodPut {
		generation, err := strconv.ParseInt(resp.Header.Get("Generation"), 10, 64)
		for old := s.told.Load(); err == nil && old < generation && !s.told.CompareAndSwap(old, generation); {
			old = s.told.Load()
		}
		return err
	}
	return p.judge(resp, string(body), s, floor, from)
}

// judge compares an answer with all that it has to be.
func (p *pantry) judge(resp *http.Response, body string, s *shelf, floor int64, from int) error {
	if resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && from > 0 {
		return nil // the offset was that of another generation
	}
	generation, err := strconv.ParseInt(strings.Trim(resp.Header.Get("ETag"), `"`), 10, 64)
	if err != nil {
		return fmt.Errorf("GET %s: status %d, Proxy-Status %q: %w", s.path, resp.StatusCode, resp.Header.Get("Proxy-Status"), errWrong)
	}
	want := bodyOf(s.path, generation)
	if resp.StatusCode == http.StatusPartialContent {
		want = want[min(from, len(want)):]
	}
	status := resp.Header.Get("Cache-Status")
	switch {
	case body != want:
		return fmt.Errorf("GET %s from octet %d: %d octets of generation %d are not those %d (%s): %w", s.path, from, len(body), generation, len(want), status, errWrong)
	case generation < floor:
		return fmt.Errorf("GET %s: generation %d came back after a PUT had made it %d (%s): %w", s.path, generation, floor, status, errWrong)
	}
	stored, err := strconv.ParseInt(resp.Header.Get("Life"), 10, 64)
	if strings.Contains(status, "; hit") && stored < p.life.Load() {
		p.revived.Add(1)
	}
	return err
}

// live starts larder on a disk, has clients ask for about so many answers, and
// kills it in the middle of that. It returns how long the start took, up to the
// first answer.
func (p *pantry) live(t *testing.T, origin, disk string, random *rand.Rand, answers int64) time.Duration {
	t.Helper()
	p.life.Add(1)
	began := time.Now()
	larder := start(t, origin, "--memory", "2MiB", "--disk", disk+":256MiB", "--log", "off")
	var clients sync.WaitGroup
	var killed atomic.Bool
	var took time.Duration
	first := sync.OnceFunc(func() { took = time.Since(began) })
	enough, until := make(chan struct{}), p.answers.Load()+answers
	tell := sync.OnceFunc(func() { close(enough) })
	for range 8 {
		chance := rand.New(rand.NewPCG(random.Uint64(), 0))
		clients.Go(func() {
			defer tell() // also if all of them give up
			transport := &http.Transport{DisableCompression: true}
			defer transport.CloseIdleConnections()
			method := http.MethodPut // the first at once, when larder may not know yet what is on disk
			for {
				err := p.ask(t.Context(), &http.Client{Transport: transport}, method, larder.url, chance)
				if err != nil && (errors.Is(err, errWrong) || !killed.Load()) {
					select {
					case p.faults <- err.Error():
					default: // there are enough of them
					}
				}
				if err != nil {
					return
				}
				first()
				if p.answers.Load() >= until {
					tell()
				}
				if method = http.MethodGet; chance.IntN(25) == 0 {
					method = http.MethodPut
				}
			}
		})
	}
	<-enough
	killed.Store(true)
	if err := larder.Process.Kill(); err != nil {
		t.Error(err)
	}
	<-larder.exited
	clients.Wait()
	return took
}

// verdict reports the faults. Something must have outlived a kill.
func (p *pantry) verdict(t *testing.T) {
	t.Helper()
	close(p.faults)
	for f := range p.faults {
		t.Error(f)
	}
	t.Logf("%d answers, %d of them hits on what an earlier life stored", p.answers.Load(), p.revived.Load())
	if p.revived.Load() == 0 {
		t.Error("nothing outlived a kill: this proves nothing")
	}
}

// chance is random numbers whose seed is in the log.
func chance(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// Killed at any moment under load, larder starts again on the same disk at
// once, and whatever it serves then is right: each octet of it, and never what
// a PUT had made invalid before (RFC 9111 §4.4). No client sees an error, but
// for the connections that the kill cut. bench/crash does the same at length.
func TestKilled(t *testing.T) {
	const kills, bound = 15, 5 * time.Second // a second, where nothing else runs
	random, disk, p := chance(t), t.TempDir(), newPantry(300)
	origin := httptest.NewServer(p)
	defer origin.Close()
	for range kills {
		if took := p.live(t, origin.URL, disk, random, 50+random.Int64N(600)); took > bound {
			t.Errorf("a start took %v", took)
		}
	}
	p.verdict(t)
	start(t, origin.URL, "--disk", disk+":256MiB", "--log", "off").stop(t)
	if out, err := exec.CommandContext(t.Context(), larder, "check", "disk", disk).CombinedOutput(); err != nil {
		t.Errorf("larder check disk: %v\n%s", err, out)
	}
}

// A disk that was damaged while larder did not run costs hits, and nothing else.
func TestDamagedDisk(t *testing.T) {
	random, disk, p := chance(t), t.TempDir(), newPantry(300)
	origin := httptest.NewServer(p)
	defer origin.Close()
	p.live(t, origin.URL, disk, random, 1500)
	damage(t, filepath.Join(disk, "segments"), random)
	p.live(t, origin.URL, disk, random, 1500)
	p.verdict(t)
}

// damage changes an octet somewhere in every 64 KiB of the first 16 MiB.
func damage(t *testing.T, name string, random *rand.Rand) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const every = 64 << 10
	for at := int64(0); at < 16<<20; at += every {
		octet, where := make([]byte, 1), at+random.Int64N(every)
		if _, err := f.ReadAt(octet, where); err != nil {
			t.Fatal(err)
		}
		octet[0] ^= 1 << random.IntN(8)
		if _, err := f.WriteAt(octet, where); err != nil {
			t.Fatal(err)
		}
	}
}
