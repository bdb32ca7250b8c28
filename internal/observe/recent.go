package observe

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// SampleEvery is how many requests there are for one that Recent remembers.
	SampleEvery = 64

	// samples is how many it remembers, and longest how long each is at most, in octets.
	samples = 8192
	longest = 512
)

// A Sample is a request that was answered.
type Sample struct {
	Host, Target string // as they came
	At           time.Time
}

// Recent remembers a sample of the requests that came last. The zero value is ready for
// use by any number of goroutines.
type Recent struct {
	seen  atomic.Uint64
	asked atomic.Bool

	mu   sync.Mutex
	ring []Sample
	next int
}

// Saw notes one request in SampleEvery. The strings are copied.
func (r *Recent) Saw(host, target string, at time.Time) {
	r.Stir()
	if r.seen.Add(1)%SampleEvery == 0 {
		r.Note(host, target, at)
	}
}

// Stir notes that there was a request. Usually it only reads.
func (r *Recent) Stir() {
	if !r.asked.Load() {
		r.asked.Store(true)
	}
}

// Stirred tells whether there was a request since it was last asked.
func (r *Recent) Stirred() bool { return r.asked.Load() && r.asked.Swap(false) }

// Note notes a request that Stir was told of, which stands for SampleEvery of them.
func (r *Recent) Note(host, target string, at time.Time) {
	if len(host)+len(target) > longest {
		return // anybody can make them long
	}
	s := Sample{strings.Clone(host), strings.Clone(target), at}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ring) < samples {
		r.ring = append(r.ring, s)
		return
	}
	r.ring[r.next] = s
	r.next = (r.next + 1) % samples
}

// Samples are those that are remembered, the oldest first.
func (r *Recent) Samples() []Sample {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append(append([]Sample(nil), r.ring[r.next:]...), r.ring[:r.next]...)
}
