package index

import (
	"math/bits"
	"sync/atomic"
)

// A bucket is four slots of two words each, in one cache line. Slots in use come
// first.
const bucketWords = 8

const (
	bucketSlots  = bucketWords / 2
	chunkBuckets = 32
	chunkWords   = chunkBuckets * bucketWords
	chunkSlots   = chunkBuckets * bucketSlots
	chunkOctets  = chunkWords * 8
)

type (
	bucket [bucketWords]uint64
	chunk  [chunkWords]uint64
)

// A table is a ring of buckets. An entry is in its home, or in a later bucket if
// all from its home up to there are full. Its size never changes.
type table struct {
	buckets uint64
	chunks  []*chunk
}

func (t *table) slots() int { return len(t.chunks) * chunkSlots }

func (t *table) bucket(b uint64) *bucket {
	return (*bucket)(t.chunks[b/chunkBuckets][b%chunkBuckets*bucketWords:])
}

func (t *table) home(key uint64) uint64 {
	b, _ := bits.Mul64(key, t.buckets)
	return b
}

func (t *table) next(b uint64) uint64 {
	if b++; b < t.buckets {
		return b
	}
	return 0
}

// distance returns how many steps it is from a to b.
func (t *table) distance(a, b uint64) uint64 {
	if a <= b {
		return b - a
	}
	return b + t.buckets - a
}

// find appends what is there under key to into.
func (t *table) find(key uint64, into []Ref) []Ref {
	b := t.home(key)
	for range t.buckets {
		line := t.bucket(b)
		for i := 0; i < bucketWords; i += 2 {
			switch atomic.LoadUint64(&line[i]) {
			case key:
				into = append(into, unpack(atomic.LoadUint64(&line[i+1])))
			case 0:
				return into
			}
		}
		b = t.next(b)
	}
	return into
}

// locate returns where the entry is: the bucket and the word in it. If it is not
// found, this is where it belongs. There is always a free slot, except for a
// reader in a table that was replaced.
func (t *table) locate(key, addr uint64) (b uint64, i int, found bool) {
	b = t.home(key)
	for range t.buckets {
		line := t.bucket(b)
		for i := 0; i < bucketWords; i += 2 {
			switch atomic.LoadUint64(&line[i]) {
			case key:
				if atomic.LoadUint64(&line[i+1])&addrMask == addr {
					return b, i, true
				}
			case 0:
				return b, i, false
			}
		}
		b = t.next(b)
	}
	return b, 0, false
}

func (t *table) seek(key, addr uint64) (line *bucket, i int, found bool) {
	b, i, found := t.locate(key, addr)
	return t.bucket(b), i, found
}

// put makes word be the entry with this key and its address, and reports whether
// there was none. Its caller knows that there is a free slot. A reader sees the
// slot free until the key is in it, and then the word is.
func (t *table) put(key, word uint64) (added bool) {
	line, i, found := t.seek(key, word&addrMask)
	atomic.StoreUint64(&line[i+1], word)
	if !found {
		atomic.StoreUint64(&line[i], key)
	}
	return !found
}

// add is put for an entry that is known not to be there.
func (t *table) add(key, word uint64) {
	for b := t.home(key); ; b = t.next(b) {
		line := t.bucket(b)
		for i := 0; i < bucketWords; i += 2 {
			if atomic.LoadUint64(&line[i]) == 0 {
				atomic.StoreUint64(&line[i+1], word)
				atomic.StoreUint64(&line[i], key)
				return
			}
		}
	}
}

// remove frees the slot at word i of bucket b. If the bucket was full, others may
// lie further on for want of room here: one of them comes back, and so on with
// the slot that it leaves.
func (t *table) remove(b uint64, i int) {
	for {
		line := t.bucket(b)
		last := bucketWords - 2
		for atomic.LoadUint64(&line[last]) == 0 {
			last -= 2
		}
		copySlot(line, i, line, last)
		if last == bucketWords-2 {
			if from, at, found := t.stray(b); found {
				copySlot(line, last, t.bucket(from), at)
				b, i = from, at
				continue
			}
		}
		atomic.StoreUint64(&line[last], 0)
		return
	}
}

// stray returns where the nearest entry lies that would be in bucket b if there
// were room.
func (t *table) stray(b uint64) (from uint64, i int, found bool) {
	for from = t.next(b); from != b; from = t.next(from) {
		line := t.bucket(from)
		for i = 0; i < bucketWords; i += 2 {
			key := atomic.LoadUint64(&line[i])
			if key == 0 {
				return 0, 0, false
			}
			if t.distance(t.home(key), from) >= t.distance(b, from) {
				return from, i, true
			}
		}
	}
	return 0, 0, false
}

func copySlot(to *bucket, i int, from *bucket, j int) {
	atomic.StoreUint64(&to[i+1], atomic.LoadUint64(&from[j+1]))
	atomic.StoreUint64(&to[i], atomic.LoadUint64(&from[j]))
}

// all calls yield with each entry, in the order of buckets. A nil table has none.
func (t *table) all(yield func(key, word uint64) bool) {
	if t == nil {
		return
	}
	for _, c := range t.chunks {
		for i := 0; i < chunkWords; i += 2 {
			key := atomic.LoadUint64(&c[i])
			if key != 0 && !yield(key, atomic.LoadUint64(&c[i+1])) {
				return
			}
		}
	}
}
