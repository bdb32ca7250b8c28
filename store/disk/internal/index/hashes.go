package index

import (
	"math/bits"
	"slices"
	"sync/atomic"
)

// rangeBuckets is how much of a table Hashes looks at under a lock: some 800
// entries, which takes a few microseconds.
const rangeBuckets = 256

// Hashes appends to into the hashes from from on up to next that have entries,
// each once, in their order; how far that goes is its own affair. more is false
// when there are no hashes from next on. Who goes on with next until then has met
// every hash that had an entry all the time, whatever else came and went, and
// whatever became of the tables: a range of hashes stays where it is.
func (x *Index) Hashes(from uint64, into []uint64) (hashes []uint64, next uint64, more bool) {
	had := len(into)
	i := int(from >> (64 - partitionBits))
	into, key := x.partitions[i].keys(i, keyOf(from), into)
	if key != 0 {
		next, more = hashOf(i, key), true
	} else if i++; i < partitionCount {
		next, more = hashOf(i, 0), true
	}
	slices.Sort(into[had:])
	return append(into[:had], slices.Compact(into[had:])...), next, more
}

// keys appends to into the hashes of entries with keys from from on up to next, in
// no order. Zero is the end of the partition, which is number i.
func (p *partition) keys(i int, from uint64, into []uint64) (hashes []uint64, next uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.table.Load()
	if t == nil {
		return into, 0
	}
	b := t.home(from)
	left := uint64(rangeBuckets) // buckets that are home to this range
	if t.buckets-b <= left {
		left = t.buckets - b
	} else {
		next = t.first(b + left)
	}
	// Behind these lie those that found no room there, up to a bucket that has some.
	for full := true; left > 0 || full; b = t.next(b) {
		line := t.bucket(b)
		for at := 0; at < bucketWords; at += 2 {
			key := atomic.LoadUint64(&line[at])
			if full = key != 0; !full {
				break
			}
			if key >= from && (next == 0 || key < next) {
				into = append(into, hashOf(i, key))
			}
		}
		if left > 0 {
			left--
		}
	}
	return into, next
}

// first returns a key below which none has its home in bucket b or in a later one,
// about the greatest of these.
func (t *table) first(b uint64) uint64 {
	key, _ := bits.Div64(b, 0, t.buckets)
	return key>>partitionBits<<partitionBits | 1
}
