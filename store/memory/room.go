package memory

import (
	"github.com/larderhq/larder/internal/evict"
	"github.com/larderhq/larder/store"
)

// A claim is somebody's wish for room, who may have to show that he is worth
// more than who would leave for him.
type claim struct {
	shard    *shard // where the newcomer belongs
	hash     uint64
	size     int64 // of its body, as far as that is known
	admitted bool  // others may leave for it
	refused  bool  // or may not
	credit   int64 // octets charged for it and not yet used
	short    int64 // octets that could not be had from its own shard
}

// charge takes n octets of the budget, if they are there, or are only kept
// warm.
func (s *Store) charge(n int64) bool {
	for {
		used := s.used.Load()
		switch {
		case used+n <= s.budget:
			if s.used.CompareAndSwap(used, used+n) {
				return true
			}
		case !s.cool():
			return false
		}
	}
}

// giveRun gives a run back. It stays warm, and charged, if there are not many
// such: on the heap there are none, where the collector has a reserve anyway.
func (s *Store) giveRun(r *region, slot uint32, pages int64) {
	cost := s.cost(pages)
	if !s.heap {
		if s.warm.Add(cost) <= s.warmest {
			r.rest(slot, pages)
			if s.closed.Load() { // and nobody else may come to cool it
				s.cool()
			}
			return
		}
		s.warm.Add(-cost)
	}
	s.giveCold(r, slot, pages)
}

// giveCold gives a run and its memory back.
func (s *Store) giveCold(r *region, slot uint32, pages int64) {
	r.give(slot, pages*pageSize)
	s.release(s.cost(pages))
}

// wakeRun takes a warm run, which is paid for.
func (s *Store) wakeRun(r *region) (slot uint32, pages int64, ok bool) {
	if s.warm.Load() == 0 {
		return 0, 0, false
	}
	if slot, pages, ok = r.wake(); ok {
		s.warm.Add(-s.cost(pages))
	}
	return slot, pages, ok
}

// cool gives the memory of a warm run back, if there is any.
func (s *Store) cool() bool {
	for _, regions := range [][]*region{s.large, s.small} {
		for _, r := range regions {
			if slot, pages, ok := s.wakeRun(r); ok {
				s.giveCold(r, slot, pages)
				return true
			}
		}
	}
	return false
}

// takeRun takes a run, for which others of this shard leave as needed. The
// lock is held.
func (sh *shard) takeRun(c *claim, r *region, pages int64) (slot uint32, ok bool) {
	s := sh.store
	cost := s.cost(pages)
	for {
		if slot, have, ok := s.wakeRun(r); ok {
			if have < pages && !sh.spend(c, cost-s.cost(have)) {
				s.giveRun(r, slot, have)
				return 0, false
			}
			if have > pages {
				r.trim(slot, pages*pageSize, have*pageSize)
				s.release(s.cost(have) - cost)
			}
			return slot, true
		}
		if c.credit >= cost {
			c.credit -= cost
			break
		}
		if s.charge(cost) {
			break
		}
		if !sh.yield(c) {
			c.short = cost
			return 0, false
		}
	}
	if slot, ok = r.take(pages * pageSize); !ok {
		s.release(cost)
	}
	return slot, ok
}

// release gives n octets back.
func (s *Store) release(n int64) {
	if n != 0 {
		s.used.Add(-n)
	}
}

// cost returns what so many pages of one slot are charged. The Go heap rounds
// up what is longer than its size classes.
func (s *Store) cost(pages int64) int64 {
	if s.heap && pages > 8 {
		pages = (pages + 1) &^ 1
	}
	return pages * pageSize
}

// reserve puts n octets to the credit of c, for which others leave as needed.
// It asks first whether that could do at all, so that whoever is refused for
// what others hold costs nobody their place. No shard may be locked.
func (s *Store) reserve(c *claim, n int64) bool {
	for !s.charge(n) {
		if s.held.Load()+n > s.budget-s.fixed || !s.letGo(c) {
			return false
		}
	}
	c.credit += n
	return true
}

// settle gives back what c did not use.
func (s *Store) settle(c *claim) {
	s.release(c.credit)
	c.credit = 0
}

// letGo makes somebody leave for c. Small ones drive out their neighbours;
// large ones are a burden that all shards bear in turn.
func (s *Store) letGo(c *claim) bool {
	if c.refused {
		return false
	}
	if !c.admitted {
		c.shard.mu.Lock()
		c.shard.admit(c)
		c.shard.mu.Unlock()
		if c.refused {
			return false
		}
	}
	first := c.shard.number
	if c.size > smallBody {
		first = int(s.turn.Add(1) % uint32(len(s.shards)))
	}
	for i := range s.shards {
		sh := &s.shards[(first+i)%len(s.shards)]
		sh.mu.Lock()
		ok := sh.yield(c)
		sh.mu.Unlock()
		if ok {
			return true
		}
	}
	return false
}

// admit decides whether others may leave for c, which is so if nobody would.
func (sh *shard) admit(c *claim) {
	v, ok := sh.victim()
	sh.judge(c, v, ok)
}

// judge compares a newcomer with whoever would leave for it.
func (sh *shard) judge(c *claim, v evict.Victim, ok bool) {
	if ok && !sh.policy.Admit(c.hash, c.size, v) {
		c.refused = true
		sh.refusals++
		return
	}
	c.admitted = true
}

// spend uses n octets of c's credit or of the budget, for which others of this
// shard leave as needed. The lock is held.
func (sh *shard) spend(c *claim, n int64) bool {
	if c.credit >= n {
		c.credit -= n
		return true
	}
	for !sh.store.charge(n) {
		if !sh.yield(c) {
			c.short = n
			return false
		}
	}
	return true
}

// yield makes a little room in this shard, if only by putting together what is
// scattered. The lock is held. It reports false if there is none to be had.
func (sh *shard) yield(c *claim) bool {
	if sh.compact() {
		return true
	}
	v, ok := sh.victim()
	if !ok {
		return false
	}
	if !c.admitted {
		if sh.judge(c, v, true); c.refused {
			return false
		}
	}
	sh.evict(v)
	return true
}

// keep runs add under the shard's lock until it has the room it needs. What
// the shard cannot give is taken from the others. add reports false if it was
// short of room, and has changed nothing then.
func (s *Store) keep(c *claim, add func() bool) error {
	defer s.settle(c)
	const rounds = 16 // others may be faster, but not always
	for range rounds {
		c.short = 0
		c.shard.mu.Lock()
		ok := add()
		c.shard.mu.Unlock()
		switch {
		case ok:
			return nil
		case c.refused || c.short == 0 || !s.reserve(c, c.short):
			return store.ErrFull
		}
	}
	return store.ErrFull
}
