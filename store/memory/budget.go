package memory

import (
	"math"
	"runtime"
)

// entryOverhead is what one entry is charged beyond its octets: its place in
// both indexes, its family, its line in what Lookup returns, its chunk list.
// A variant is charged its key and a family as well, though it shares them
// with its siblings: so the charge of an entry never depends on others.
//
// The figure is measured; TestOverhead fails when it is too small.
const entryOverhead = 384

// reserve charges n octets, letting entries go as needed. It reports false,
// and has charged nothing, if there is no such room. With more > 0 it also
// reports false if more octets beyond n could not be had at this moment.
//
// It asks first whether letting go would do, so that a refusal costs nobody
// their entries. No shard may be locked by the caller.
func (s *Store) reserve(n, more int64) bool {
	for {
		used := s.used.Load()
		if used+n+more <= s.budget {
			if s.used.CompareAndSwap(used, used+n) {
				return true
			}
			continue
		}
		idle, oldest := s.survey()
		switch {
		case used-idle > s.budget-n-more:
			if s.used.Load() == used {
				return false
			}
		case used+n <= s.budget:
			more = 0 // it could be had, and will be when it is needed
		case oldest == nil:
			runtime.Gosched() // an entry is between its reader and the list
		default:
			oldest.evict()
		}
	}
}

// release gives n octets back.
func (s *Store) release(n int64) {
	if n != 0 {
		s.used.Add(-n)
	}
}

// survey returns how many octets belong to entries that nobody reads, and the
// shard whose last entry has gone unused for longest, or nil if all are empty.
func (s *Store) survey() (idle int64, oldest *shard) {
	first := uint64(math.MaxUint64)
	for i := range s.shards {
		sh := &s.shards[i]
		idle += sh.idle.Load()
		if t := sh.oldest.Load(); t < first {
			first, oldest = t, sh
		}
	}
	return idle, oldest
}
