// Package simulate asks what a cache would have done: it reads access logs and
// traces, runs eviction policies over them at several sizes, and draws what
// came of it.
//
// All requests count, the first ones included, when every cache is empty.
// Nothing expires: a log does not say for how long an answer was fresh, so the
// figures are what memory alone allows.
package simulate

import (
	"iter"
	"slices"

	"github.com/larderhq/larder/internal/evict"
)

// A Trace is a sequence of requests in compact form: 4 octets a request, 8
// octets an object. It does not change, and any number of goroutines may use
// it. A Reader makes one.
type Trace struct {
	requests []uint32 // objects, in the order of the requests
	sizes    []int64  // octets, by object
}

// All yields the object of each request, and its size in octets.
func (t *Trace) All() iter.Seq2[uint32, int64] {
	return func(yield func(uint32, int64) bool) {
		for _, o := range t.requests {
			if !yield(o, t.sizes[o]) {
				return
			}
		}
	}
}

// Facts are what is known of a Trace before any cache is tried.
type Facts struct {
	// Requests is their number; Octets is what they asked for together.
	Requests, Octets int64
	// Objects is the number of different objects; Footprint is the octets of
	// all of them, each counted once.
	Objects, Footprint int64
	// Once is the number of objects that were asked for once.
	Once int64
	// Median is the size of the object in the middle, in octets.
	Median int64
}

// Facts counts. It takes a moment, and 4 octets an object.
func (t *Trace) Facts() Facts {
	f := Facts{Requests: int64(len(t.requests)), Objects: int64(len(t.sizes))}
	asked := make([]uint32, len(t.sizes))
	for _, o := range t.requests {
		f.Octets += t.sizes[o]
		asked[o]++
	}
	for o, n := range asked {
		f.Footprint += t.sizes[o]
		if n == 1 {
			f.Once++
		}
	}
	if n := len(t.sizes); n > 0 {
		sorted := slices.Clone(t.sizes)
		slices.Sort(sorted)
		f.Median = sorted[n/2]
	}
	return f
}

// Bound is the hit ratios, from 0 to 1, of a cache that keeps everything for
// ever: by requests and by octets.
func (f Facts) Bound() (objects, octets float64) {
	return ratio(f.Requests-f.Objects, f.Requests), ratio(f.Octets-f.Footprint, f.Octets)
}

// ratio is a/b, where nothing of nothing is 0.
func ratio(a, b int64) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

// Policies are the names of what can be tried, the best first.
func Policies() []string { return []string{"shd", "lru", "sieve", "s3-fifo"} }

func (t *Trace) policy(name string, room evict.Room, alpha evict.Alpha) evict.Policy {
	switch name {
	case "shd":
		return evict.NewSHD(room, t.sizes, evict.Options{Alpha: alpha})
	case "lru":
		return evict.NewLRU(room, t.sizes)
	case "sieve":
		return evict.NewSIEVE(room, t.sizes)
	case "s3-fifo":
		return evict.NewS3FIFO(room, t.sizes)
	}
	return nil
}
