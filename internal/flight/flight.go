// Package flight lets one fetch serve many that wait for it.
package flight

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// A Group holds the fetches under way. The zero value works. All methods of it
// and its flights may be called by any number of goroutines.
//
// Flights are named by a key, which is the resource, and a lane within it:
// requests that may share one answer take the same lane. R is what a fetch
// comes to.
type Group[R any] struct {
	mu    sync.Mutex
	byKey map[string]*hangar[R]
}

// A hangar holds the flights of one key. Most have one, so maps are made when they are
// needed.
type hangar[R any] struct {
	key   string
	lanes map[string]*Flight[R]
	alone map[*Flight[R]]struct{}
	// forgotten are those that may still be in the middle of a Commit.
	forgotten map[*Flight[R]]struct{}
}

// put has m hold a value. The caller has the lock of the group.
func put[K comparable, V any](m *map[K]V, k K, v V) {
	if *m == nil {
		*m = make(map[K]V)
	}
	(*m)[k] = v
}

func (h *hangar[R]) remove(f *Flight[R]) {
	if h.lanes[f.lane] == f {
		delete(h.lanes, f.lane)
	}
	delete(h.alone, f)
}

func (h *hangar[R]) empty() bool { return len(h.lanes)+len(h.alone)+len(h.forgotten) == 0 }

// A Flight is one fetch under way, from Join or Alone until End.
type Flight[R any] struct {
	group  *Group[R]
	home   *hangar[R]
	lane   string
	shared bool

	// Since is the caller's: when what the flight brings was asked for. Zero: it was not yet.
	Since atomic.Uint64

	landed chan struct{}
	result R

	forgotten atomic.Bool
	commit    sync.Mutex // held by Commit from before it asks whether it is forgotten
}

// Join returns the flight of lane under key. If there is none it begins one;
// then leader is true, and the caller sees to it that somebody calls Land and
// End.
func (g *Group[R]) Join(key []byte, lane string) (f *Flight[R], leader bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f := g.find(key, lane); f != nil {
		return f, false
	}
	return g.begin(key, lane, true), true
}

// Alone begins a flight that nobody joins. Forget still reaches it.
func (g *Group[R]) Alone(key []byte) *Flight[R] {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.begin(key, "", false)
}

// Active returns the flight of lane under key, or nil.
func (g *Group[R]) Active(key []byte, lane string) *Flight[R] {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.find(key, lane)
}

func (g *Group[R]) find(key []byte, lane string) *Flight[R] {
	if h := g.byKey[string(key)]; h != nil {
		return h.lanes[lane]
	}
	return nil
}

func (g *Group[R]) begin(key []byte, lane string, shared bool) *Flight[R] {
	h := g.byKey[string(key)]
	if h == nil {
		h = &hangar[R]{key: string(key)}
		if g.byKey == nil {
			g.byKey = make(map[string]*hangar[R])
		}
		g.byKey[h.key] = h
	}
	f := &Flight[R]{group: g, home: h, lane: lane, shared: shared, landed: make(chan struct{})}
	if shared {
		put(&h.lanes, lane, f)
	} else {
		put(&h.alone, f, struct{}{})
	}
	return f
}

// Forget takes all flights of key but spare, which may be nil, out of the group:
// later requests do not join them, and they will not Commit. Once Forget
// returns, whatever they had committed before is visible in the store. Those who
// wait already still get their answer. A spare that was forgotten before stays so.
func (g *Group[R]) Forget(key []byte, spare *Flight[R]) {
	g.mu.Lock()
	var flights []*Flight[R]
	if h := g.byKey[string(key)]; h != nil {
		flights = slices.AppendSeq(slices.Collect(maps.Values(h.lanes)), maps.Keys(h.alone))
		flights = slices.DeleteFunc(flights, func(f *Flight[R]) bool { return f == spare })
		for _, f := range flights {
			f.forgotten.Store(true)
			h.remove(f)
			put(&h.forgotten, f, struct{}{})
		}
		// Also those that another call forgets just now: it may not have
		// waited for them yet.
		flights = slices.Collect(maps.Keys(h.forgotten))
	}
	g.mu.Unlock()
	for _, f := range flights {
		f.awaitCommit()
	}
}

// Disown is Forget for this flight alone. It does not wait for a Commit that is under way.
func (f *Flight[R]) Disown() {
	g := f.group
	g.mu.Lock()
	defer g.mu.Unlock()
	f.forgotten.Store(true)
	if h := f.home; h.lanes[f.lane] == f {
		h.remove(f)
		put(&h.forgotten, f, struct{}{}) // until End
	}
}

// Len is the number of flights under way.
func (g *Group[R]) Len() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for _, h := range g.byKey {
		n += len(h.lanes) + len(h.alone)
	}
	return n
}

// Shared tells whether others may join.
func (f *Flight[R]) Shared() bool { return f.shared }

// Land tells all who wait what the fetch has come to. It is called once.
func (f *Flight[R]) Land(result R) {
	f.result = result
	close(f.landed)
}

// Landed is closed by Land; Result may be called from then on.
func (f *Flight[R]) Landed() <-chan struct{} { return f.landed }

// Result is what Land was given.
func (f *Flight[R]) Result() R { return f.result }

// Commit calls keep, which makes the outcome visible in the store, unless the
// flight was forgotten: then it returns false and nothing of it may be kept.
// keep must not call methods of the Group.
func (f *Flight[R]) Commit(keep func()) bool {
	f.commit.Lock()
	defer f.commit.Unlock()
	if f.forgotten.Load() {
		return false
	}
	keep()
	return true
}

// awaitCommit returns when no Commit is under way.
func (f *Flight[R]) awaitCommit() {
	f.commit.Lock()
	defer f.commit.Unlock()
}

// End takes the flight out of the group. Nobody joins it any more.
func (f *Flight[R]) End() {
	g, h := f.group, f.home
	g.mu.Lock()
	defer g.mu.Unlock()
	h.remove(f)
	delete(h.forgotten, f)
	if g.byKey[h.key] == h && h.empty() {
		delete(g.byKey, h.key)
	}
}
