package simulate

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larderhq/larder/internal/evict"
)

// A Plan is what to try.
type Plan struct {
	// Policies are names out of Policies. None means all.
	Policies []string
	// Memory is the sizes to try, in octets.
	Memory []int64
	// Overhead is what each object costs beside its body, in octets.
	Overhead int64
	// MaxObject is the largest body that is kept, in octets. Zero or less
	// means a quarter of the memory, as in Larder's store.
	MaxObject int64
	// Alpha is how much size counts in shd; the zero value is 0.5.
	Alpha evict.Alpha
	// Workers is how many caches are tried at a time. Less than 1 means 1.
	Workers int
	// Now tells the time, to say what a request costs. Nil: nobody asks.
	Now func() time.Time
	// Progress is told now and then which share is done, from 0 to 1, by any
	// goroutine. Nil: nobody is.
	Progress func(done float64)
}

// A Result is what one cache did.
type Result struct {
	Policy string
	Memory int64 // octets
	// Hits and HitOctets are what it answered.
	Hits, HitOctets int64
	// ObjectRatio and OctetRatio are those in relation to all, from 0 to 1.
	ObjectRatio, OctetRatio float64
	// Objects is how many it held in the end.
	Objects int
	// PerRequest is what a request cost the simulation; 0 if not measured.
	PerRequest time.Duration
}

// step is how many requests pass between two looks at the progress.
const step = 1 << 16

// Run tries all policies at all sizes, and returns the results by memory, then
// by policy, both in the order of the plan. The error names a policy that does
// not exist.
func (t *Trace) Run(p Plan) ([]Result, error) {
	if len(p.Policies) == 0 {
		p.Policies = Policies()
	}
	for _, name := range p.Policies {
		if !slices.Contains(Policies(), name) {
			return nil, fmt.Errorf("there is no policy %q", name)
		}
	}
	var octets int64
	for _, o := range t.requests {
		octets += t.sizes[o]
	}
	var results []Result
	for _, memory := range p.Memory {
		for _, name := range p.Policies {
			results = append(results, Result{Policy: name, Memory: memory})
		}
	}
	var next, done atomic.Int64
	all := int64(len(results)) * int64(len(t.requests))
	progress := func(n int) {
		if p.Progress != nil {
			p.Progress(ratio(done.Add(int64(n)), all))
		}
	}
	var workers sync.WaitGroup
	for range max(p.Workers, 1) {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(results)); i = next.Add(1) - 1 {
				t.try(&p, &results[i], progress)
			}
		})
	}
	workers.Wait()
	for i := range results {
		r := &results[i]
		r.ObjectRatio = ratio(r.Hits, int64(len(t.requests)))
		r.OctetRatio = ratio(r.HitOctets, octets)
	}
	return results, nil
}

// try runs one cache.
func (t *Trace) try(p *Plan, r *Result, progress func(int)) {
	cache := t.policy(r.Policy, evict.Room{Capacity: r.Memory, Overhead: p.Overhead, MaxObject: p.MaxObject}, p.Alpha)
	var start time.Time
	if p.Now != nil {
		start = p.Now()
	}
	for part := range slices.Chunk(t.requests, step) {
		for _, o := range part {
			if cache.Request(o) {
				r.Hits++
				r.HitOctets += t.sizes[o]
			}
		}
		progress(len(part))
	}
	if p.Now != nil && len(t.requests) > 0 {
		r.PerRequest = p.Now().Sub(start) / time.Duration(len(t.requests))
	}
	r.Objects = cache.Len()
}
