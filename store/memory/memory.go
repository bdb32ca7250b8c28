// Package memory keeps responses outside the Go heap, inside one exact budget
// of octets. Whoever is worth least by internal/evict leaves first, and what
// has expired before all others.
//
// The budget covers everything: the index, the entries, the policy, keys,
// heads and bodies with the pages that they fill only in part, bodies in the
// making, and what was forgotten while somebody reads it. Memory is taken page
// by page and given back to the kernel page by page, so that none stays with
// one size of object when another comes up. What the budget does not cover is
// what readers take along: a reader of a small body has its own copy of up to
// 16 KiB, in a buffer that is used again.
//
// Lookup, Head, and Open of up to 16 KiB of a body of up to 64 KiB take no lock
// and write nothing that other readers read. A reader of more than that counts
// itself in at the entry it reads: one atomic addition to the line of that
// entry, and one to a counter chosen at random, when it opens.
//
// Bodies above 64 KiB lie in a file without a name, where the platform has
// such, and their readers say where in it: see Store.Open. A key and its head
// together may be about 250 KiB long, and no longer.
//
// On platforms other than Linux, where its pages are not of 4 KiB, where
// address space may not be reserved, and where Options.Heap says so, the same
// is done with memory of the Go heap; then readers share a lock.
//
// No method waits for anything but a short lock, so contexts are ignored, save
// by a reader that waits for a body in the making.
package memory

import (
	"context"
	"errors"
	"hash/maphash"
	"math/bits"
	"os"
	"runtime"
	"sync/atomic"
	"unsafe"

	"github.com/larderhq/larder/internal/evict"
	"github.com/larderhq/larder/store"
)

const (
	// defaultBudget is the budget of a zero Options, in octets.
	defaultBudget = 64 << 20

	// shardBudget is the least that a shard is made for, in octets: smaller
	// ones would see too little to choose well who leaves.
	shardBudget = 128 << 20
	maxShards   = 64

	// leastObject is what the smallest objects take in all, in octets. Of
	// smaller ones fewer are kept than there would be room for.
	leastObject = 128

	// overhead is about what an object costs beside its octets: its entry, its
	// share of the index and of the policy.
	overhead = 93
)

var (
	errOffset = errors.New("store/memory: negative offset")
	errEnded  = errors.New("store/memory: the writer was already committed or aborted")
	errClosed = errors.New("store/memory: read after Close of the reader")
)

// Options bound a Store. The zero value is a store of 64 MiB.
type Options struct {
	// Budget is the most that the store holds, in octets, its own bookkeeping
	// included. Zero or less means 64 MiB. Below about 32 KiB nothing fits.
	Budget int64

	// MaxObject is the longest body that is kept, in octets. Zero or less
	// means a quarter of Budget; the most is Budget, and 1 TiB.
	MaxObject int64

	// Now returns the time as a Head.Until gives it, in Unix seconds. It must
	// not block, and is called under locks. Nil: nothing ever expires.
	Now func() int64

	// Heap keeps everything on the Go heap, where readers share a lock.
	Heap bool

	// Leaving is told of each entry that leaves for want of room, just before
	// it does: not of those that expired, that were removed or replaced, or
	// that another variant of their key displaced. It is called under the lock
	// that guards the entry, and must not call the store. The Object is valid
	// until it returns, and nothing in it may be changed. Nil: nobody is told.
	Leaving func(*store.Object)

	// IDs names the next entry: above all before, also of other stores that
	// the entries may come to. It is called under locks, in the order of
	// commits to one key. Nil: the store counts, from above the highest ID
	// that Put brought.
	IDs func() store.ID

	// Seed decides which entries are compared when room is short. Any value
	// is good, zero included.
	Seed uint64
}

// A Store keeps responses in memory. It is safe for use by any number of
// goroutines. Make one with New.
type Store struct {
	budget    int64
	maxObject int64
	fixed     int64 // octets charged before anything is kept
	warmest   int64 // the most that free runs may have, in octets
	heap      bool
	now       func() int64
	leaving   func(*store.Object)
	ids       func() store.ID
	seed      maphash.Seed
	mask      uint64 // of the hash; all ones but in tests that force collisions

	small  []*region // runs of up to 1, 4 and 16 pages, and wide records of up to 64
	large  []*region // runs of up to 64 pages, 256, and so on
	sheets *region
	shards []shard

	closed  atomic.Bool
	named   atomic.Uint64 // the highest ID given here, without Options.IDs
	turn    atomic.Uint32 // whose turn it is to make room
	used    atomic.Int64  // octets charged; never above budget
	warm    atomic.Int64  // of which for runs that are free and have memory still
	held    atomic.Int64  // of which for writers, and for what is only read still
	content atomic.Int64  // octets of keys, heads and bodies
}

var (
	_ store.Store  = (*Store)(nil)
	_ store.Prompt = (*Store)(nil)
)

// New returns an empty Store with the limits of opts.
func New(opts Options) *Store {
	s := &Store{
		budget:    opts.Budget,
		maxObject: opts.MaxObject,
		heap:      opts.Heap || !mappable(),
		now:       opts.Now,
		leaving:   opts.Leaving,
		ids:       opts.IDs,
		seed:      maphash.MakeSeed(),
		mask:      ^uint64(0),
	}
	if s.budget <= 0 {
		s.budget = defaultBudget
	}
	if s.maxObject <= 0 {
		s.maxObject = s.budget / 4
	}
	s.maxObject = min(s.maxObject, s.budget, maxSize)
	s.warmest = min(s.budget/64, 4<<20)
	if s.ids == nil {
		s.ids = func() store.ID { return store.ID(s.named.Add(1)) }
	}
	s.layOut()
	s.charge(min(s.fixed, s.budget)) // where nothing else fits, nothing is kept
	for i := range s.shards {
		sh := &s.shards[i]
		sh.policy = evict.New(evict.Options{Seed: opts.Seed + uint64(i), Words: sh.give})
	}
	return s
}

// layOut decides what lies where. A region is as long as it needs to be if
// everything in the store were of its kind.
func (s *Store) layOut() {
	count := int64(1)
	for count < maxShards && count*2*shardBudget <= s.budget {
		count *= 2
	}
	entries := s.budget/count/leastObject + 1
	if count > 1 {
		entries += entries / 4 // no two shards are alike
	}
	entries = min(entries, 1<<31)
	s.shards = make([]shard, count)

	sheet := int64(pageSize)
	for sheet < 32<<10 && sheet*64 < s.budget {
		sheet *= 2
	}
	s.sheets = newRegion(sheet, s.budget/sheet+1)
	anonymous := []*region{s.sheets}
	for i := range 4 {
		s.small = append(s.small, s.runRegion(i))
	}
	anonymous = append(anonymous, s.small...)
	for i := 3; i == 3 || s.large[i-4].slot < s.maxObject; i++ {
		s.large = append(s.large, s.runRegion(i))
	}
	const shardMore = 3 << 10 // of the policy, and of the Go heap for all the parts
	s.fixed = int64(unsafe.Sizeof(*s))
	for i := range s.shards {
		sh := &s.shards[i]
		sh.store, sh.number = s, i
		sh.writers = make(map[*writer]struct{})
		sh.book = newEntryBook(entries)
		sh.index = newIndex(int64(sh.book.limit))
		sh.sheets = newSheets(s.sheets)
		words := &sh.words
		words.region = newPlain(wordsFor(int64(sh.book.limit)), 1)
		anonymous = append(anonymous, sh.book.pages, sh.index.places, words.region)
		s.fixed += int64(unsafe.Sizeof(*sh)) + shardMore + sh.book.free.octets()
	}
	for _, r := range append(anonymous[:5:5], s.large...) {
		s.fixed += int64(unsafe.Sizeof(*r)) + r.free.octets()
	}
	if !s.heap {
		s.mapRegions(anonymous)
	}
}

// runRegion returns the region of the runs of at most 4^i pages, and more than
// those of the one before it.
func (s *Store) runRegion(i int) *region {
	least := int64(1)
	if i > 0 {
		least += 1 << (2*i - 2)
	}
	return newRegion(pageSize<<(2*i), s.budget/(least*pageSize)+1)
}

// wordsFor returns what the policy of so many entries may ask for, in octets:
// 8 for each in chunks that double, and as much again for the history.
func wordsFor(entries int64) int64 {
	n := int64(1) << bits.Len64(uint64(entries))
	return 2*max(n*8, pageSize) + 2*max(n*8, pageSize)
}

// mapRegions reserves address space for all regions. Where there is none, the
// Go heap has to do.
//
// The space is let go of when nobody can reach the store any more, and not by
// Close: a reader without a lock may look at anything at any time.
func (s *Store) mapRegions(anonymous []*region) {
	mem, err := reserve(spans(anonymous))
	if err != nil {
		s.heap = true
		return
	}
	filed, file, err := reserveFile(spans(s.large))
	if err != nil {
		filed, err = reserve(spans(s.large))
	}
	if err != nil {
		unmap(mem)
		s.heap = true
		return
	}
	cutUp(mem, nil, anonymous)
	cutUp(filed, file, s.large)
	type kept struct {
		mem, filed []byte
		file       *os.File
	}
	runtime.AddCleanup(s, func(k kept) {
		unmap(k.mem)
		unmap(k.filed)
		if k.file != nil {
			_ = k.file.Close() // it has no name: nothing is lost
		}
	}, kept{mem, filed, file})
}

func spans(regions []*region) (n int64) {
	for _, r := range regions {
		n += r.span()
	}
	return n
}

func cutUp(mem []byte, file *os.File, regions []*region) {
	at := int64(0)
	for _, r := range regions {
		r.mem = mem[at : at+r.span() : at+r.span()]
		r.file, r.base = file, at
		at += r.span()
	}
}

// size4 returns the least i for which 4^i is at least pages.
func size4(pages int64) int { return (bits.Len64(uint64(pages-1)) + 1) / 2 }

// runs returns the region of runs of so many pages. There is one for whatever
// is at most maxObject long.
func (s *Store) runs(pages int64) *region {
	i := size4(pages)
	switch {
	case i < 3:
		return s.small[i]
	case i-3 < len(s.large):
		return s.large[i-3]
	}
	return nil // of a torn entry
}

// wide returns the region for records of so many pages, or nil if records are
// not that long.
func (s *Store) wide(pages int64) *region {
	if pages > 64 {
		return nil
	}
	return s.small[size4(pages)]
}

// locate returns the hash of a key, and the shard that it belongs to.
func (s *Store) locate(key []byte) (*shard, uint64) {
	hash := maphash.Bytes(s.seed, key) & s.mask
	if hash == 0 {
		hash = 1
	}
	return &s.shards[hash&uint64(len(s.shards)-1)], hash
}

// Lookup implements store.Store. It does not allocate unless into is too
// short, and is not a use: the entry that is then opened is the one that was
// used.
func (s *Store) Lookup(_ context.Context, key store.Key, into []store.Entry) ([]store.Entry, error) {
	if s.closed.Load() {
		return into, store.ErrClosed
	}
	sh, hash := s.locate(key)
	before := len(into)
	sh.view(hash, func() {
		into = into[:before]
		n, _, ok := sh.find(hash, key)
		for i := 0; ok && i < store.MaxVariants; i++ {
			e := sh.book.at(n)
			if e == nil {
				break
			}
			into = append(into, store.Entry{ID: e.id, Rev: e.rev, Size: e.size()})
			ok = e.next != 0
			n = e.next - 1
		}
	})
	return into, nil
}

// Head implements store.Store.
func (s *Store) Head(_ context.Context, key store.Key, id store.ID, rev uint32) ([]byte, error) {
	if s.closed.Load() {
		return nil, store.ErrClosed
	}
	sh, hash := s.locate(key)
	var head []byte
	var there bool
	var number, first uint32
	sh.view(hash, func() {
		there = false
		n, e := sh.of(hash, key, id)
		if e == nil || e.rev != rev {
			return
		}
		was := e.snapshot()
		b := sh.record(&was)
		if b == nil {
			return
		}
		there, number, first = true, n, recordHead(b)
		head = append(head[:0], b[4+was.key():][:was.head]...)
	})
	if !there {
		return nil, store.ErrGone
	}
	inspect(first, number)
	return head, nil
}

// Create implements store.Store. Room for the body is taken as it arrives, so
// a length that is declared and never sent takes no memory, but one of the
// places for bodies of about that length, of which there are as many as the
// budget holds; a later Write, or the Commit, may therefore find the store full.
//
// ErrFull is also what those get who are worth less than whoever would leave
// for them, and are not known yet.
func (s *Store) Create(_ context.Context, key store.Key, h store.Head, size int64) (store.Writer, error) {
	if s.closed.Load() {
		return nil, store.ErrClosed
	}
	if size > s.maxObject || !s.fits(key, h.Octets) {
		return nil, store.ErrFull
	}
	sh, hash := s.locate(key)
	w := newWriter(sh, hash, key, h, size)
	sh.mu.Lock()
	if sh.closed {
		sh.mu.Unlock()
		return nil, store.ErrClosed
	}
	sh.policy.Miss(hash)
	sh.writers[w] = struct{}{}
	if s.used.Load()+size > s.budget {
		sh.admit(&w.claim)
	}
	sh.mu.Unlock()
	own := int64(len(key)+len(h.Octets)) + writerOverhead
	if w.refused || s.held.Load()+own+size > s.budget-s.fixed || !w.charge(own) {
		w.Abort(store.ErrFull)
		return nil, store.ErrFull
	}
	w.own = own
	return w, nil
}

// fits says whether there are pages for a record with that key and head.
func (s *Store) fits(key, head []byte) bool {
	n := recordLen(int64(len(key)), int64(len(head)), pageSize-1)
	return len(key) <= maxKey && n <= s.small[3].slot && n <= s.budget-s.fixed
}

// Amend implements store.Store. ErrFull: the new head is longer and there is
// no room for it; the old one stands. An Object's Mark is gone afterwards.
func (s *Store) Amend(_ context.Context, key store.Key, id store.ID, h store.Head) error {
	sh, hash := s.locate(key)
	if !s.fits(key, h.Octets) {
		return store.ErrFull
	}
	var result error
	c := claim{shard: sh, hash: hash, admitted: true}
	err := s.keep(&c, func() (ok bool) {
		ok, result = sh.amend(&c, key, id, h)
		return ok
	})
	if err != nil {
		return err
	}
	return result
}

// Remove implements store.Store.
func (s *Store) Remove(_ context.Context, key store.Key, id store.ID) error {
	sh, hash := s.locate(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.closed {
		return store.ErrClosed
	}
	if n, e := sh.of(hash, key, id); e != nil {
		sh.drop(n)
	}
	return nil
}

// Forget implements store.Store.
func (s *Store) Forget(_ context.Context, key store.Key) error {
	sh, hash := s.locate(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.closed {
		return store.ErrClosed
	}
	for {
		n, _, ok := sh.find(hash, key)
		if !ok {
			return nil
		}
		sh.drop(n)
	}
}

// Close implements store.Store. Open readers of committed entries finish
// undisturbed; those of writers that did not end receive what was written and
// then ErrClosed. The writers still have to be ended by their owners.
//
// All memory goes back to the kernel, save what is read or written still. The
// addresses are given back when the store is out of reach.
func (s *Store) Close() error {
	if !s.closed.CompareAndSwap(false, true) {
		return store.ErrClosed
	}
	for i := range s.shards {
		s.shards[i].close()
	}
	for s.cool() {
	}
	s.release(min(s.fixed, s.budget))
	return nil
}

// Stats are the figures of a Store at about one moment.
type Stats struct {
	Objects     int    // entries that Lookup can find
	Keys        int    // keys that have at least one entry
	Bytes       int64  // octets of keys, heads and bodies, those in the making or only read still included
	Used        int64  // octets charged to the budget
	Bookkeeping int64  // of which for entries, index and policy, used or not
	Budget      int64  // octets; Used never exceeds it
	Evictions   uint64 // entries let go for want of room or past store.MaxVariants, since New
	Heap        bool   // everything is on the Go heap, by choice or for want of an alternative
	Refusals    uint64 // newcomers that were worth less than whoever would have left, since New
}

// Stats returns the figures of s. Shards are visited one after the other, so
// under load the counts may differ by what happened meanwhile. It also works
// after Close.
func (s *Store) Stats() Stats {
	st := Stats{Budget: s.budget, Heap: s.heap}
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		st.Objects += sh.objects
		st.Keys += sh.keys
		st.Evictions += sh.evictions
		st.Refusals += sh.refusals
		if !sh.closed {
			st.Bookkeeping += sh.bookkeeping()
		}
		sh.mu.Unlock()
	}
	if !s.closed.Load() {
		st.Bookkeeping += min(s.fixed, s.budget)
	}
	st.Bytes = s.content.Load()
	st.Used = s.used.Load()
	return st
}
