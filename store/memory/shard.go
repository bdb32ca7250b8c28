package memory

import (
	"bytes"
	"hash/maphash"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/larderhq/larder/store"
)

// An ID is a running number above the index of its shard.
const (
	shardBits  = 4
	shardCount = 1 << shardBits
)

// A shard is the part of the index that one lock guards. Its entries form a
// list by last use; stamps come from the clock of the store, so the ends of
// all lists can be compared and the budget is one for all shards.
type shard struct {
	store *Store
	index uint64

	mu       sync.Mutex
	closed   bool
	families map[uint64]*family // by hash; those of one hash are chained
	byID     map[store.ID]*object
	writers  map[*writer]struct{} // begun and not yet ended by their owners
	keys     int
	newest   *object // most recently used
	last     *object // least recently used

	evictions uint64

	// Written under mu, read without.
	idle   atomic.Int64  // octets of linked entries that nobody reads
	oldest atomic.Uint64 // stamp of last, or MaxUint64 if there is none
}

// A family is a key and its entries.
type family struct {
	next    *family // same hash, other key
	hash    uint64
	key     []byte
	entries []store.Entry // last committed first; replaced, never changed
}

// An object is an entry, or one in the making, or one that was forgotten and
// is still read.
type object struct {
	shard  *shard
	family *family // nil unless Lookup can find it
	id     store.ID
	size   int64
	chunks [][]byte // changed only by the writer, and by trim when nobody reads

	charge   int64 // octets charged, all in all
	headroom int   // of which the capacity of the head

	stamp        uint64 // of the last use
	newer, older *object
	listed       bool // in the list by use; see evict for when it is not
	freed        bool // charge was given back; a Writer may still revive it
	readers      int  // open readers, plus one for a writer in progress
}

func (sh *shard) init(s *Store, index int) {
	sh.store, sh.index = s, uint64(index)
	sh.families = make(map[uint64]*family)
	sh.byID = make(map[store.ID]*object)
	sh.writers = make(map[*writer]struct{})
	sh.oldest.Store(math.MaxUint64)
}

func (s *Store) shardOf(key []byte) (*shard, uint64) {
	hash := maphash.Bytes(s.seed, key) & s.mask
	return &s.shards[hash%shardCount], hash
}

func (s *Store) shardOfID(id store.ID) *shard { return &s.shards[id%shardCount] }

// find returns the family of key, or nil. An equal hash is not an equal key.
func (sh *shard) find(hash uint64, key []byte) *family {
	for f := sh.families[hash]; f != nil; f = f.next {
		if bytes.Equal(f.key, key) {
			return f
		}
	}
	return nil
}

// link makes o visible under key, forgets those that replaces names, and
// holds the family to store.MaxVariants.
func (sh *shard) link(o *object, hash uint64, key, head []byte, replaces []store.ID) store.Entry {
	f := sh.find(hash, key)
	if f == nil {
		f = &family{hash: hash, key: key, next: sh.families[hash]}
		sh.families[hash] = f
		sh.keys++
	}
	o.family = f
	o.id = store.ID(sh.store.names.Add(1)<<shardBits | sh.index)
	sh.byID[o.id] = o
	o.stamp = sh.store.clock.Add(1)
	sh.enlist(o)

	var leaving []store.ID
	for _, e := range f.entries {
		if slices.Contains(replaces, e.ID) {
			leaving = append(leaving, e.ID)
		}
	}
	if len(f.entries)-len(leaving) >= store.MaxVariants {
		leaving = append(leaving, sh.leastUsed(f, leaving))
		sh.evictions++
	}
	entries := make([]store.Entry, 1, 1+len(f.entries)-len(leaving))
	entries[0] = store.Entry{ID: o.id, Head: head, Size: o.size}
	for _, e := range f.entries {
		if slices.Contains(leaving, e.ID) {
			sh.forget(sh.byID[e.ID])
		} else {
			entries = append(entries, e)
		}
	}
	f.entries = entries
	return entries[0]
}

// leastUsed returns the entry of f, those in except aside, whose last use is
// longest ago.
func (sh *shard) leastUsed(f *family, except []store.ID) (id store.ID) {
	first := uint64(math.MaxUint64)
	for _, e := range f.entries {
		if t := sh.byID[e.ID].stamp; t < first && !slices.Contains(except, e.ID) {
			id, first = e.ID, t
		}
	}
	return id
}

// amend gives the entry id of f another head.
func (f *family) amend(id store.ID, head []byte) {
	entries := slices.Clone(f.entries)
	for i := range entries {
		if entries[i].ID == id {
			entries[i].Head = head
			entries[i].Rev++
		}
	}
	f.entries = slices.Clip(entries)
}

// remove makes o invisible.
func (sh *shard) remove(o *object) {
	f := o.family
	if len(f.entries) == 1 {
		sh.drop(f)
	} else {
		entries := make([]store.Entry, 0, len(f.entries)-1)
		for _, e := range f.entries {
			if e.ID != o.id {
				entries = append(entries, e)
			}
		}
		f.entries = entries
	}
	sh.forget(o)
}

// drop takes the empty family f out of the index.
func (sh *shard) drop(f *family) {
	sh.keys--
	if first := sh.families[f.hash]; first != f {
		for first.next != f {
			first = first.next
		}
		first.next = f.next
	} else if f.next != nil {
		sh.families[f.hash] = f.next
	} else {
		delete(sh.families, f.hash)
	}
}

// forget lets o go once it is out of its family, and gives its octets back
// unless somebody reads them.
func (sh *shard) forget(o *object) {
	o.family = nil
	delete(sh.byID, o.id)
	sh.unlist(o)
	if o.readers == 0 {
		o.free()
		sh.idle.Add(-o.charge) // after free: see reserve
	}
}

// growth returns by how many octets the charge of o grows if its head becomes
// head; negative if it shrinks.
func (o *object) growth(head []byte) int64 { return int64(cap(head) - o.headroom) }

// free gives the charge of o back.
func (o *object) free() {
	o.freed = true
	o.shard.store.release(o.charge)
}

// evict lets the least recently used entry go that nobody reads. An entry
// with readers would give no room back: it is taken off the list until its
// last reader closes, and stays visible.
func (sh *shard) evict() {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for o := sh.last; o != nil; o = sh.last {
		if o.readers == 0 {
			sh.evictions++
			sh.remove(o)
			return
		}
		sh.unlist(o)
	}
}

// touch makes o the most recently used.
func (sh *shard) touch(o *object) {
	listed := o.listed
	sh.unlist(o)
	o.stamp = sh.store.clock.Add(1)
	if listed {
		sh.enlist(o)
	}
}

// enlist puts o at the head of the list by use.
func (sh *shard) enlist(o *object) {
	o.listed = true
	o.newer, o.older = nil, sh.newest
	if sh.newest != nil {
		sh.newest.newer = o
	} else {
		sh.last = o
		sh.oldest.Store(o.stamp)
	}
	sh.newest = o
}

// unlist takes o off the list by use, if it is on it.
func (sh *shard) unlist(o *object) {
	if !o.listed {
		return
	}
	o.listed = false
	if o.newer != nil {
		o.newer.older = o.older
	} else {
		sh.newest = o.older
	}
	if o.older != nil {
		o.older.newer = o.newer
	} else if sh.last = o.newer; sh.last != nil {
		sh.oldest.Store(sh.last.stamp)
	} else {
		sh.oldest.Store(math.MaxUint64)
	}
	o.newer, o.older = nil, nil
}

// pin keeps the octets of o until unpin.
func (sh *shard) pin(o *object) {
	if o.readers == 0 && o.family != nil {
		sh.idle.Add(-o.charge)
	}
	o.readers++
}

// unpin ends one pin. The shard must not be locked.
func (sh *shard) unpin(o *object) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if o.readers == 1 && o.family != nil && wasteful(o.chunks) {
		sh.trim(o)
	}
	o.readers--
	switch {
	case o.readers > 0:
	case o.family == nil:
		o.free()
	default:
		sh.idle.Add(o.charge)
		if !o.listed {
			o.stamp = sh.store.clock.Add(1)
			sh.enlist(o)
		}
	}
}

// trim gives the unused end of the last chunk back. The caller holds the only
// pin on o; the lock is let go of while octets are copied.
func (sh *shard) trim(o *object) {
	last := len(o.chunks) - 1
	tail := o.chunks[last]
	room := allot(len(tail)) // both copies count while there are two
	sh.mu.Unlock()
	if !sh.store.reserve(room, 0) {
		sh.mu.Lock()
		return
	}
	chunk := append(newChunk(len(tail)), tail...)
	sh.mu.Lock()
	if o.readers > 1 { // somebody opened it meanwhile and may hold the old chunk
		sh.store.release(room)
		return
	}
	chunks := make([][]byte, last+1)
	copy(chunks, o.chunks[:last])
	chunks[last] = chunk
	o.chunks = chunks
	saved := int64(cap(tail) - cap(chunk))
	o.charge -= saved
	sh.store.release(room + saved)
}

// close forgets everything and ends the waiting of all readers.
func (sh *shard) close() {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.closed = true
	for _, o := range sh.byID {
		sh.forget(o)
	}
	clear(sh.families)
	sh.keys = 0
	for w := range sh.writers {
		w.end(store.ErrClosed)
	}
}
