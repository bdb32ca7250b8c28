// Package tier keeps responses in memory over disk: what memory lets go is
// offered to the disk, and what the disk serves twice comes back to memory; if
// that is full, only what it serves twice within a short while.
//
// An entry has one name wherever it is. It is in memory, or on disk, or in
// memory with its place on disk lent to it: then the disk keeps the octets and
// does not show them, and takes the entry back without writing when memory
// lets it go. What goes straight to disk is what memory does not keep for its
// size.
package tier

import (
	"cmp"
	"context"
	"errors"
	"hash/maphash"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/disk"
	"github.com/larderhq/larder/store/memory"
)

const (
	// stripeCount is how many locks there are for changes; keys share them.
	stripeCount = 256

	// savePatience is how long Close waits for the disk to write a part of what
	// is in memory.
	savePatience = 5 * time.Second

	// maxPromoted is the longest body that comes back to memory, in octets:
	// what is longer is read from the disk with few calls anyway.
	maxPromoted = 1 << 20

	// promoters is how many entries come back to memory in the background at the
	// same time. Each holds one body of at most maxPromoted in the meantime.
	promoters = 2

	// promotable is how often the disk has served before what comes back: once,
	// so that the second time brings it.
	promotable = 1
)

// A Store is memory over disk. Make one with New. Any number of goroutines may
// use it.
type Store struct {
	memory *memory.Store
	disk   *disk.Store
	seed   maphash.Seed

	stripes [stripeCount]stripe

	maxRaised int64  // longest body that comes back to memory, in octets
	echoes    echoes // of what the disk served
	walks     walks

	promoting chan struct{} // one for each promotion in the background
	wanted    sync.Map      // store.ID: those under way
	moving    sync.WaitGroup
	closing   sync.RWMutex // held for reading while a promotion begins
	closed    bool
}

// A stripe orders the changes to the keys that share it. Lookups lock it only where
// changes keep them from seeing one moment.
type stripe struct {
	// mu is held while an entry is committed, amended, removed or raised, so
	// that none comes back that is being forgotten. What sinks needs no lock:
	// see leaving.
	mu sync.Mutex

	// turns is odd while an entry changes tiers in a way that a Lookup could
	// see twice or not at all.
	turns atomic.Uint64

	_ [48]byte // a line of its own
}

// await returns when nobody changes anything.
func (st *stripe) await() {
	st.mu.Lock()
	defer st.mu.Unlock()
}

var (
	_ store.Store  = (*Store)(nil)
	_ store.Prompt = (*Store)(nil)
)

// New returns a Store over lower, with a memory tier as opts say but for what
// joins the two: IDs and Leaving. The Store closes both.
func New(opts memory.Options, lower *disk.Store) *Store {
	s := &Store{disk: lower, seed: maphash.MakeSeed(), maxRaised: maxPromoted, promoting: make(chan struct{}, promoters)}
	if opts.MaxObject > 0 {
		s.maxRaised = min(s.maxRaised, opts.MaxObject)
	}
	opts.IDs, opts.Leaving = lower.NextID, s.leaving
	s.memory = memory.New(opts)
	s.echoes.init(s.memory.Stats().Budget)
	return s
}

// Memory returns the upper tier, for its figures.
func (s *Store) Memory() *memory.Store { return s.memory }

// Sync returns when all that was changed on disk before outlasts a failure of power.
func (s *Store) Sync(ctx context.Context) error { return s.disk.Sync(ctx) }

// Ready is closed when the Store shows all that the disk had before a restart: see
// disk.Store.Ready.
func (s *Store) Ready() <-chan struct{} { return s.disk.Ready() }

func (s *Store) stripeOf(key store.Key) *stripe {
	return &s.stripes[maphash.Bytes(s.seed, key)%stripeCount]
}

// Lookup implements store.Store.
func (s *Store) Lookup(ctx context.Context, key store.Key, into []store.Entry) ([]store.Entry, error) {
	const attempts = 4
	st, old := s.stripeOf(key), len(into)
	for range attempts {
		turn := st.turns.Load()
		if turn%2 != 0 {
			if err := ctx.Err(); err != nil {
				return into, err // whoever changes something may wait for a disk
			}
			st.await()
			continue
		}
		found, err := s.lookup(ctx, key, into)
		if st.turns.Load() == turn {
			return found, err
		}
		into = found[:old]
	}
	if err := ctx.Err(); err != nil {
		return into, err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	return s.lookup(ctx, key, into)
}

// lookup looks into both tiers, one after the other.
func (s *Store) lookup(ctx context.Context, key store.Key, into []store.Entry) ([]store.Entry, error) {
	old := len(into)
	into, err := s.memory.Lookup(ctx, key, into)
	if err != nil {
		return into, err
	}
	upper := len(into)
	// A disk that fails has nothing: what memory has is as good as ever.
	into, err = s.disk.Lookup(ctx, key, into)
	if err != nil && ctx.Err() != nil {
		return into[:old], err // nobody knows what the disk has
	}
	if upper > old && len(into) > upper {
		into = merge(into, old)
	} else if err != nil && len(into) == old {
		return into, err
	}
	return into, nil
}

// merge puts the entries from old on in order. One that is just leaving memory
// may be there twice.
func merge(entries []store.Entry, old int) []store.Entry {
	found := entries[old:]
	slices.SortStableFunc(found, func(a, b store.Entry) int { return cmp.Compare(b.ID, a.ID) })
	found = slices.CompactFunc(found, func(a, b store.Entry) bool { return a.ID == b.ID })
	return entries[:old+min(len(found), store.MaxVariants)]
}

// Head implements store.Store.
func (s *Store) Head(ctx context.Context, key store.Key, id store.ID, rev uint32) ([]byte, error) {
	head, err := s.memory.Head(ctx, key, id, rev)
	if errors.Is(err, store.ErrGone) {
		return s.disk.Head(ctx, key, id, rev)
	}
	return head, err
}

// Open implements store.Store.
func (s *Store) Open(ctx context.Context, key store.Key, id store.ID, off, n int64) (io.ReadCloser, error) {
	r, err := s.memory.Open(ctx, key, id, off, n)
	if !errors.Is(err, store.ErrGone) {
		return r, err
	}
	r, err = s.disk.Open(ctx, key, id, off, n)
	if err == nil && n != 0 {
		s.served(key, id, r.(disk.Served))
	}
	return r, err
}

// AppendNow implements store.Prompt.
func (s *Store) AppendNow(dst []byte, key store.Key, id store.ID, rev uint32, off, n int64) ([]byte, bool) {
	if all, ok := s.memory.AppendNow(dst, key, id, rev, off, n); ok {
		return all, true
	}
	r, ok := s.lowerNow(key, id, rev, off, n)
	if !ok {
		return dst, false
	}
	defer r.Close()
	if n == 0 {
		return dst, true
	}
	piece, err := r.Next() // which is all, of what can be had at once
	if err != nil || int64(len(piece)) != n {
		return dst, false
	}
	return append(dst, piece...), true
}

// OpenNow implements store.Prompt.
func (s *Store) OpenNow(key store.Key, id store.ID, rev uint32, off, n int64) (store.Pinned, bool) {
	if r, ok := s.memory.OpenNow(key, id, rev, off, n); ok {
		return r, true
	}
	return s.lowerNow(key, id, rev, off, n)
}

// Prepare implements store.Prompt.
func (s *Store) Prepare(key store.Key, done func()) bool { return s.disk.Prepare(key, done) }

// lowerNow opens what the disk can give at once.
func (s *Store) lowerNow(key store.Key, id store.ID, rev uint32, off, n int64) (store.Pinned, bool) {
	r, ok := s.disk.OpenNow(key, id, rev, off, n)
	if !ok {
		return nil, false
	}
	if n > 0 {
		s.served(key, id, r)
	}
	return r, true
}

// Amend implements store.Store. In memory the entry goes on alone: its place
// on disk holds a head that is out of date.
func (s *Store) Amend(ctx context.Context, key store.Key, id store.ID, head store.Head) error {
	st := s.stripeOf(key)
	st.mu.Lock()
	defer st.mu.Unlock()
	err := s.memory.Amend(ctx, key, id, head)
	switch {
	case errors.Is(err, store.ErrGone):
		return s.disk.Amend(ctx, key, id, head)
	case err == nil:
		return s.disk.Remove(ctx, key, id)
	}
	return err
}

// Remove implements store.Store.
func (s *Store) Remove(ctx context.Context, key store.Key, id store.ID) error {
	st := s.stripeOf(key)
	st.mu.Lock()
	defer st.mu.Unlock()
	return errors.Join(s.memory.Remove(ctx, key, id), s.disk.Remove(ctx, key, id))
}

// Forget implements store.Store.
func (s *Store) Forget(ctx context.Context, key store.Key) error {
	st := s.stripeOf(key)
	st.mu.Lock()
	defer st.mu.Unlock()
	return errors.Join(s.memory.Forget(ctx, key), s.disk.Forget(ctx, key))
}

// Close implements store.Store. What is in memory goes to disk as far as there
// is room, so that the next start finds it.
func (s *Store) Close() error {
	s.closing.Lock()
	if s.closed {
		s.closing.Unlock()
		return store.ErrClosed
	}
	s.closed = true
	s.closing.Unlock()
	s.moving.Wait()
	s.memory.Each(func(o *store.Object) bool { return s.save(o) == nil })
	return errors.Join(s.memory.Close(), s.disk.Close())
}

// save puts o on disk if it is not there. A disk that cannot keep up is waited
// for, one that has no room is not.
func (s *Store) save(o *store.Object) error {
	if o.Mark != 0 && s.disk.Return(o.Key, o.Mark) {
		return nil
	}
	err := s.disk.Put(o)
	if !errors.Is(err, store.ErrFull) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), savePatience)
	defer cancel()
	if err := s.disk.Flush(ctx); err != nil {
		return err
	}
	if err := s.disk.Put(o); !errors.Is(err, store.ErrFull) {
		return err
	}
	return nil
}
