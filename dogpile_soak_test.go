//go:build soak

package larder_test

import (
	"math/rand/v2"
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
// each expiry, and within the grace nobody waits. What goroutines wait for the machine
// is measured first, with a handler that has nothing to do, and no cache.
func TestDogpileForReal(t *testing.T) {
	var calls atomic.Int64
	idle := longestWait(t, "no cache", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }), func(http.Header) {})
	cache := larder.Cache{Policy: larder.Policy{Grace: 10 * time.Second}}
	defer cache.Close()
	h := cache.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		<-time.After(200 * time.Millisecond) // what it does
		w.Header().Set("Cache-Control", "max-age=1")
	}))
	get(h, "/a")
	longest := longestWait(t, "cache", h, func(answer http.Header) {
		if got := answer.Get("Cache-Status"); !strings.Contains(got, "; hit") {
			t.Errorf("Cache-Status: %s", got)
		}
	})
	t.Logf("the handler ran %d times", calls.Load())
	if n := calls.Load(); n < 9 || n > 12 {
		t.Errorf("the handler ran %d times in 10 s, with a lifetime of 1 s that began 0.2 s before it came", n)
	}
	if longest > idle+5*time.Millisecond {
		t.Errorf("somebody waited %v, where nothing takes %v", longest, idle)
	}
}

// longestWait has 200 goroutines ask for 10 s, each some 50 times a second.
func longestWait(t *testing.T, name string, h http.Handler, check func(answer http.Header)) time.Duration {
	var all sync.WaitGroup
	var waits [200][]time.Duration
	began := time.Now()
	for i := range waits {
		all.Go(func() {
			for time.Since(began) < 10*time.Second {
				asked := time.Now()
				a := get(h, "/a")
				waits[i] = append(waits[i], time.Since(asked))
				check(a.Header())
				<-time.After(10*time.Millisecond + rand.N(20*time.Millisecond)) // or all would come at once
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
	t.Logf("%s: %d requests, waits: p50 %v, p99 %v, longest %v", name, len(every), every[len(every)/2], every[len(every)*99/100], longest)
	return longest
}
