//go:build soak

package larder_test

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larderhq/larder"
)

// 200 goroutines on one expiring key for 10 s, in real time: the handler runs once for
// each expiry, and within the grace nobody waits.
func TestDogpileForReal(t *testing.T) {
	var calls atomic.Int64
	cache := larder.Cache{Policy: larder.Policy{Grace: 10 * time.Second}}
	defer cache.Close()
	h := cache.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		<-time.After(200 * time.Millisecond) // what it does
		w.Header().Set("Cache-Control", "max-age=1")
	}))
	get(h, "/a")
	var all sync.WaitGroup
	var waits [200][]time.Duration
	began := time.Now()
	for i := range waits {
		all.Go(func() {
			for time.Since(began) < 10*time.Second {
				asked := time.Now()
				a := get(h, "/a")
				waits[i] = append(waits[i], time.Since(asked))
				if !strings.Contains(a.Header().Get("Cache-Status"), "; hit") {
					t.Errorf("Cache-Status: %s", a.Header().Get("Cache-Status"))
				}
				<-time.After(5 * time.Millisecond)
			}
		})
	}
	all.Wait()
	every := slices.Sorted(func(yield func(time.Duration) bool) {
		for _, some := range waits {
			for _, d := range some {
				if !yield(d) {
					return
				}
			}
		}
	})
	longest := every[len(every)-1]
	t.Logf("%d requests, the handler ran %d times; waits: p50 %v, p99 %v, longest %v", len(every), calls.Load(), every[len(every)/2], every[len(every)*99/100], longest)
	if n := calls.Load(); n < 9 || n > 12 {
		t.Errorf("the handler ran %d times in 10 s, with a lifetime of 1 s that began 0.2 s before it came", n)
	}
	if longest > 5*time.Millisecond {
		t.Errorf("somebody waited %v", longest)
	}
}
