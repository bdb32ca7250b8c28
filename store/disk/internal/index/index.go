// Package index finds where on disk the records of a key may lie. It is the
// part of the disk store that is asked on every request, and the part that is
// in memory for every record, so it is built for two figures: a question about
// an absent hash takes no lock, changes no memory that others read, allocates
// nothing and costs about one cache miss; and an entry takes at most 24 octets,
// spare room and bookkeeping included, however many there are from a million on
// (below that the whole index stays within about one MiB and 24 octets each).
//
// An entry is a 64-bit hash and a Ref. Several entries may have one hash:
// variants of a key, or keys that collide. The index cannot tell these apart;
// whoever reads the record compares the key.
//
// # How it is built
//
// The top 8 bits of the hash choose one of 256 partitions. Each is a table of
// buckets of four slots, one cache line each, that is filled to 81 per cent at
// most and grows by an eighth. The other 56 bits, taken as a fraction, choose
// the bucket; what finds no room there goes to the next one. As the order of
// buckets is the order of hashes, growing copies one run of memory to another.
//
// Writers hold the lock of the partition. Readers hold nothing: a sequence
// number says whether entries moved while they looked, and then they look
// again. Entries move when one is removed, and when a table that was copied to
// another size takes the place of the old one; an insertion moves none, and
// neither do changes to an entry, as all that can change is in one word. Chunks
// of a table that was replaced may serve another partition at once, with
// readers still in them; those find the sequence changed. All access to slots
// is atomic.
package index

import (
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"
)

const (
	partitionBits  = 8
	partitionCount = 1 << partitionBits
)

// Options are what New is told. The zero value works.
type Options struct {
	// Alloc gives memory for entries: so many octets, a multiple of 2048 and at
	// least 256 KiB, all zero, which from then on belong to the index and are
	// never given back, but used again for other entries. Memory that is
	// aligned to 64 octets makes for one cache miss a question instead of two.
	// One goroutine at a time calls it, with locks held: it must not call the
	// index. If it gives less than it was asked for, or if it is nil, the
	// memory comes from the Go heap, where the collector does not look into it.
	Alloc func(octets int) []uint64
}

// An Index is made by New. All methods may be called by any number of
// goroutines. Hashes must be evenly distributed in all their 64 bits: the index
// stays correct with others, but becomes slow.
//
// No two entries have both hash and address in common.
type Index struct {
	partitions [partitionCount]partition
	pool       pool
	entries    atomic.Int64
	loading    sync.Mutex // held by Load
}

// New returns an empty index.
func New(o Options) *Index {
	return &Index{pool: pool{alloc: o.Alloc}}
}

// partition returns the partition of hash, and the key it has in there.
func (x *Index) partition(hash uint64) (*partition, uint64) {
	return &x.partitions[hash>>(64-partitionBits)], keyOf(hash)
}

// Find appends to into what is known under hash, in no order, and returns it.
// It sees all entries that were there throughout the call, and none twice.
func (x *Index) Find(hash uint64, into []Ref) []Ref {
	p, key := x.partition(hash)
	had := len(into)
	for try := 0; ; try++ {
		seq := p.seq.Load()
		if seq&1 == 0 {
			if t := p.table.Load(); t != nil {
				into = t.find(key, into[:had])
			}
			if p.seq.Load() == seq {
				return into
			}
		}
		// A move takes well below a microsecond, unless its maker has lost the
		// processor: then this one may be what it waits for.
		if try > 8 {
			runtime.Gosched()
		}
	}
}

// Touch counts a use of the entry, up to MaxHits; further uses write nothing.
// It takes no lock. A use that meets a change of the partition may be lost.
func (x *Index) Touch(hash, addr uint64) {
	p, key := x.partition(hash)
	t := p.table.Load()
	if t == nil {
		return
	}
	// The slot may be another's by the time of the swap. But then the swap fails,
	// or it counts a use of another record that now has this very address.
	if line, i, found := t.seek(key, addr); found {
		word := atomic.LoadUint64(&line[i+1])
		if word&addrMask == addr && word&hitsMask != hitsMask {
			atomic.CompareAndSwapUint64(&line[i+1], word, word+hitsOne)
		}
	}
}

// Insert adds an entry. If there is one with this hash and address, it becomes
// ref. Insert panics if ref is out of range.
func (x *Index) Insert(hash uint64, ref Ref) {
	word := ref.pack()
	p, key := x.partition(hash)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.put(&x.pool, key, word) {
		x.entries.Add(1)
	}
}

// Remove takes an entry out and reports whether it was there. Once Remove has
// returned the entry stays away, also if a Load that runs brings it.
func (x *Index) Remove(hash, addr uint64) bool {
	p, key := x.partition(hash)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.note(key, addr)
	if !p.remove(key, addr) {
		return false
	}
	x.entries.Add(-1)
	p.trim(&x.pool)
	return true
}

// Replace makes the entry at old be ref, as when a record was copied to
// elsewhere, and reports whether there was one. A Find sees the one or the other.
// As for Remove, a Load does not bring back what was replaced. Replace panics if
// ref is out of range.
func (x *Index) Replace(hash, old uint64, ref Ref) bool {
	word := ref.pack()
	p, key := x.partition(hash)
	p.mu.Lock()
	defer p.mu.Unlock()
	if ref.Addr != old {
		p.note(key, old)
	}
	line, i, found := p.seek(key, old)
	if !found {
		return false
	}
	if _, _, both := p.seek(key, ref.Addr); both && ref.Addr != old {
		p.merge(key, old, word)
		x.entries.Add(-1)
		return true
	}
	atomic.StoreUint64(&line[i+1], word)
	return true
}

// Update sets and then clears flags of an entry, and reports whether it was
// there. While a Load runs, entries that it brings are not there yet.
func (x *Index) Update(hash, addr uint64, set, unset Flags) bool {
	p, key := x.partition(hash)
	p.mu.Lock()
	defer p.mu.Unlock()
	line, i, found := p.seek(key, addr)
	for found {
		word := atomic.LoadUint64(&line[i+1])
		next := (word | uint64(set)<<flagsShift) &^ (uint64(unset) << flagsShift)
		if atomic.CompareAndSwapUint64(&line[i+1], word, next) {
			break // otherwise a Touch came between
		}
	}
	return found
}

// DropAddrs removes the entries whose address a is lo <= a < hi, and returns how
// many these were. It reads the whole index. Once it has returned they stay
// away, also if a Load that runs brings them.
func (x *Index) DropAddrs(lo, hi uint64) int {
	dropped := 0
	for i := range x.partitions {
		p := &x.partitions[i]
		p.mu.Lock()
		p.noteSpan(lo, hi)
		n := p.removeSpan(lo, hi)
		x.entries.Add(int64(-n))
		p.trim(&x.pool)
		p.mu.Unlock()
		dropped += n
	}
	return dropped
}

// Len returns how many entries there are.
func (x *Index) Len() int { return int(x.entries.Load()) }

// Bytes returns the octets of memory that the index holds, whether in use or
// spare. What it has got for entries it uses again, and never gives back.
func (x *Index) Bytes() int64 {
	return int64(unsafe.Sizeof(*x)) + x.pool.held()
}
