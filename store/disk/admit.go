package disk

import "sync"

// An admission decides whether an object that comes from memory is worth writing:
// one that is seen for the second time is, always; one that is new is while the
// disk has room or at least half of the budget of writes is left.
type admission struct {
	now    func() int64
	budget int64 // octets a second; zero: no limit

	mu     sync.Mutex
	tokens int64 // octets
	last   int64 // when tokens were counted
	seen   sketch
}

// budgetSpan is how long unused budget is saved up for, in seconds.
const budgetSpan = 3600

func newAdmission(opts *Options, size int64) *admission {
	a := &admission{now: opts.Now, budget: opts.WriteBudget, seen: newSketch(size / (16 << 10))}
	a.tokens, a.last = a.budget*budgetSpan, a.now()
	return a
}

// admits decides on an object of so many octets, which it expects to be written
// then. full says that the disk has no room but by reclaiming.
func (a *admission) admits(hash uint64, octets int64, full bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	again := a.seen.add(hash) > 1
	if a.budget == 0 {
		return true
	}
	now := a.now()
	most := a.budget * budgetSpan
	a.tokens = min(most, a.tokens+max(0, min(now-a.last, budgetSpan))*a.budget)
	a.last = now
	if full && !again && a.tokens <= most/2 {
		return false
	}
	a.tokens = max(-most, a.tokens-octets)
	return true
}

// A sketch remembers about how often hashes were added lately: never too few,
// up to 15, and too many for few. It takes four octets for each it is made for.
type sketch struct {
	counts []uint64 // sixteen of four bits each
	added  int
}

// Bounds of a sketch, in counters.
const (
	leastSketch = 1 << 12
	mostSketch  = 1 << 25
)

func newSketch(entries int64) sketch {
	n := int64(leastSketch)
	for n < 8*entries && n < mostSketch {
		n *= 2
	}
	return sketch{counts: make([]uint64, n/16)}
}

// add counts hash and returns its count.
func (s *sketch) add(hash uint64) int {
	least := 15
	for row := range 4 {
		at, shift := s.at(hash, row)
		least = min(least, int(s.counts[at]>>shift&15))
	}
	if least < 15 {
		for row := range 4 {
			if at, shift := s.at(hash, row); int(s.counts[at]>>shift&15) == least {
				s.counts[at] += 1 << shift
			}
		}
		least++
	}
	if s.added++; s.added >= 8*len(s.counts) {
		s.halve()
	}
	return least
}

// at returns where the counter of hash in one of four rows is.
func (s *sketch) at(hash uint64, row int) (word int, shift int) {
	h := (hash + uint64(row)*0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9
	h ^= h >> 31
	return int(h % uint64(len(s.counts))), int(h>>60) * 4
}

// halve lets half of the past go.
func (s *sketch) halve() {
	for i := range s.counts {
		s.counts[i] = s.counts[i] >> 1 & 0x7777777777777777
	}
	s.added = 0
}
