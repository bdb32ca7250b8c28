// Package memory keeps responses on the Go heap, the least recently used one
// leaving first, inside one exact budget of octets.
//
// The budget covers everything that grows with use: keys, heads, the capacity
// of body chunks, and 384 octets per entry for the index and the bookkeeping.
// Bodies in the making count from their first octet, and an entry that was
// forgotten while somebody reads it counts until the last reader closes. What
// the budget cannot cover is the collector's own reserve: a process needs
// about Budget × (1 + GOGC/100) of memory unless GOMEMLIMIT says otherwise.
//
// No method waits for anything but a short lock, so contexts are ignored, save
// by a reader that waits for a body in the making.
package memory

import (
	"context"
	"errors"
	"hash/maphash"
	"io"
	"slices"
	"sync/atomic"

	"github.com/larderhq/larder/store"
)

// defaultBudget is the budget of a zero Options, in octets.
const defaultBudget = 64 << 20

var (
	errOffset = errors.New("store/memory: negative offset")
	errEnded  = errors.New("store/memory: the writer was already committed or aborted")
	errClosed = errors.New("store/memory: read after Close of the reader")
	errCount  = errors.New("store/memory: the receiver of a body returned an impossible count")
)

// Options bound a Store. The zero value is a store of 64 MiB.
type Options struct {
	// Budget is the most that the store holds, in octets, its own bookkeeping
	// included. Zero or less means 64 MiB.
	Budget int64

	// MaxObject is the longest body that is kept, in octets. Zero or less
	// means an eighth of Budget.
	MaxObject int64
}

// A Store keeps responses on the heap. It is safe for use by any number of
// goroutines. Make one with New.
type Store struct {
	budget    int64
	maxObject int64

	used  atomic.Int64  // octets charged; never above budget
	clock atomic.Uint64 // stamps uses; the shards' lists are ordered by it
	names atomic.Uint64 // entries named so far

	seed   maphash.Seed
	mask   uint64 // of the hash; all ones but in tests that force collisions
	closed atomic.Bool
	shards [shardCount]shard
}

var _ store.Store = (*Store)(nil)

// New returns an empty Store with the limits of opts.
func New(opts Options) *Store {
	s := &Store{budget: opts.Budget, maxObject: opts.MaxObject, seed: maphash.MakeSeed(), mask: ^uint64(0)}
	if s.budget <= 0 {
		s.budget = defaultBudget
	}
	if s.maxObject <= 0 {
		s.maxObject = s.budget / 8
	}
	for i := range s.shards {
		s.shards[i].init(s, i)
	}
	return s
}

// Lookup implements store.Store. It does not allocate and is not a use: the
// entry that is then opened is the one that was used.
func (s *Store) Lookup(_ context.Context, key store.Key) ([]store.Entry, error) {
	sh, hash := s.shardOf(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.closed {
		return nil, store.ErrClosed
	}
	if f := sh.find(hash, key); f != nil {
		return f.entries, nil
	}
	return nil, nil
}

// Open implements store.Store. The reader is an io.WriterTo that hands out
// the stored octets without copying them: whoever receives them must not
// change them. The reader is for one goroutine at a time; its Close may be
// called more than once.
func (s *Store) Open(_ context.Context, id store.ID, off, n int64) (io.ReadCloser, error) {
	if off < 0 {
		return nil, errOffset
	}
	sh := s.shardOfID(id)
	sh.mu.Lock()
	if sh.closed {
		sh.mu.Unlock()
		return nil, store.ErrClosed
	}
	o := sh.byID[id]
	if o == nil {
		sh.mu.Unlock()
		return nil, store.ErrGone
	}
	sh.touch(o)
	if left := max(o.size-off, 0); n < 0 || n > left {
		n = left
	}
	if n == 0 {
		sh.mu.Unlock()
		return nothing{}, nil
	}
	sh.pin(o)
	chunks := o.chunks
	sh.mu.Unlock()
	return newReader(o, chunks, off, n), nil
}

// Create implements store.Store. Room for the body is taken as it arrives, a
// chunk at a time, so a length that is declared and never sent costs little;
// a later Write may therefore find the store full.
func (s *Store) Create(_ context.Context, key store.Key, head []byte, size int64) (store.Writer, error) {
	if s.closed.Load() {
		return nil, store.ErrClosed
	}
	if size > s.maxObject {
		return nil, store.ErrFull
	}
	octets := append([]byte(nil), key...)
	charge := int64(entryOverhead + cap(octets) + cap(head))
	if size > s.budget-charge || !s.reserve(charge, max(size, 0)) {
		return nil, store.ErrFull
	}
	sh, hash := s.shardOf(octets)
	w := &writer{
		object:   &object{shard: sh, charge: charge, headroom: cap(head), readers: 1},
		hash:     hash,
		key:      octets,
		head:     slices.Clip(head),
		declared: size,
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.closed {
		s.release(charge)
		return nil, store.ErrClosed
	}
	sh.writers[w] = struct{}{}
	return w, nil
}

// Amend implements store.Store. ErrFull: the new head is longer and there is
// no room for it; the old one stands.
func (s *Store) Amend(_ context.Context, id store.ID, head []byte) error {
	sh := s.shardOfID(id)
	sh.mu.Lock()
	if sh.closed {
		sh.mu.Unlock()
		return store.ErrClosed
	}
	o := sh.byID[id]
	if o == nil {
		sh.mu.Unlock()
		return store.ErrGone
	}
	sh.pin(o) // making room must not let this very entry go
	defer sh.unpin(o)
	var reserved int64
	for o.family != nil && o.growth(head) > reserved {
		more := o.growth(head) - reserved
		sh.mu.Unlock()
		ok := s.reserve(more, 0)
		sh.mu.Lock()
		if !ok {
			sh.mu.Unlock()
			s.release(reserved)
			return store.ErrFull
		}
		reserved += more
	}
	defer sh.mu.Unlock()
	if o.family == nil {
		s.release(reserved)
		if sh.closed {
			return store.ErrClosed
		}
		return store.ErrGone
	}
	grown := o.growth(head)
	s.release(reserved - grown)
	o.charge += grown
	o.headroom = cap(head)
	o.family.amend(id, slices.Clip(head))
	return nil
}

// Remove implements store.Store.
func (s *Store) Remove(_ context.Context, id store.ID) error {
	sh := s.shardOfID(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.closed {
		return store.ErrClosed
	}
	if o := sh.byID[id]; o != nil {
		sh.remove(o)
	}
	return nil
}

// Close implements store.Store. Open readers of committed entries finish
// undisturbed; those of writers that did not end receive what was written and
// then ErrClosed. The writers still have to be ended by their owners.
func (s *Store) Close() error {
	if !s.closed.CompareAndSwap(false, true) {
		return store.ErrClosed
	}
	for i := range s.shards {
		s.shards[i].close()
	}
	return nil
}

// Stats are the figures of a Store at about one moment.
type Stats struct {
	Objects   int    // entries that Lookup can find
	Keys      int    // keys that have at least one entry
	Bytes     int64  // octets charged to the budget, writers and open readers included
	Budget    int64  // octets; Bytes never exceeds it
	Evictions uint64 // entries let go for want of room or past store.MaxVariants, since New
}

// Stats returns the figures of s. Shards are visited one after the other, so
// under load the counts may differ by what happened meanwhile. It also works
// after Close.
func (s *Store) Stats() Stats {
	st := Stats{Budget: s.budget}
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		st.Objects += len(sh.byID)
		st.Keys += sh.keys
		st.Evictions += sh.evictions
		sh.mu.Unlock()
	}
	st.Bytes = s.used.Load()
	return st
}
