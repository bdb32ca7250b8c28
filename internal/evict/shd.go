package evict

import (
	"math"
	"math/bits"
	"sync/atomic"
)

const (
	defaultSamples   = 64
	defaultSmoothing = 0.3

	cacheLine  = 64 // octets
	run        = 8  // neighbours that are looked at together: one cache line
	ahead      = 8  // runs that memory is asked for together
	firstSlots = 64 // in the first chunk of words: 512 octets
	chunkCount = 27 // the last, for slots from maxSlots on, stays nil
	maxSlots   = 1 << 31

	maxHits = math.MaxUint8
	// exactHits are written one by one; from then on a hit is written only if
	// the clock has gained stampShare of the object's own hits / size^alpha.
	exactHits  = 32
	stampShare = 1.0 / 16
	// rebaseTurns is how many times as many victims as there are residents
	// leave before the clock is set back to zero.
	rebaseTurns = 64
)

// A word is all that is known of a slot:
//
//	bits  0-31  the clock at the last hit, as float32
//	bits 32-39  hits, saturating
//	bits 40-47  size class
//	bit  63     the slot is occupied
//
// The other bits are zero. A free slot is zero throughout.
const (
	hitsShift  = 32
	classShift = 40
	occupied   = 1 << 63
)

func pack(stamp float32, hits, class uint8) uint64 {
	return occupied | uint64(class)<<classShift | uint64(hits)<<hitsShift | uint64(math.Float32bits(stamp))
}

func unpack(w uint64) (stamp float32, hits, class uint8) {
	return math.Float32frombits(uint32(w)), uint8(w >> hitsShift), uint8(w >> classShift)
}

// Options choose how an SHD works. The zero value is good.
type Options struct {
	// Alpha is how much size counts; the zero value is 0.5.
	Alpha Alpha

	// Samples is how many residents are looked at to find a victim, in runs
	// of 8 neighbours. Zero or less means 64. With as many samples as there
	// are residents, or more, the choice is exact.
	Samples int

	// Smoothing is the share of the way that the clock goes towards the value
	// of each victim, above 0 and at most 1. Anything else means 0.3. Less
	// favours hits, more favours octets.
	Smoothing float64

	// Seed decides what is sampled. Any value is good, zero included.
	Seed uint64

	// Words gives n zero words, aligned to 8 octets, that stay where they are
	// and belong to the SHD from then on. It may return nil: there is no
	// memory. New and Insert call it, under the owner's lock. A nil Words
	// means the Go heap.
	//
	// Words are asked for in chunks that double: for slots 64, 64, 128, 256
	// words and so on, up to the chunk that holds the highest slot, and for
	// history 32, 32, 64 words and so on, up to one word a resident.
	Words func(n int) []uint64
}

// An SHD ("sampled hit density") ranks the residents of one shard of a store
// and names who leaves. The value of a resident is
//
//	clock at its last hit + hits / size^alpha
//
// and who has the least among a sample leaves, whereupon the clock follows its
// value: what is not asked for any more is overtaken, whatever its hits were.
//
// The owner gives each resident a slot: a small number below 2^31, dense,
// reused as the owner likes, the low ones best. A slot costs 8 octets up to the
// highest one ever used; history costs 4 to 8 octets for each of the most
// residents there ever were, and not less than 256.
//
// A hit costs a few nanoseconds, a victim a look at 8 cache lines. Once in ten
// misses for each resident Miss halves all history, once in as many inserts as
// there are residents Insert copies it, and once in 64 victims for each
// resident Evict sets all stamps back: these take about a millisecond for each
// million residents.
//
// Hit may be called by any number of goroutines at any time. All else is
// called under the owner's lock, one call at a time. Make one with New.
type SHD struct {
	// Hit reads these. They have cache lines of their own, so that misses do
	// not slow hits down.
	chunks [chunkCount]atomic.Pointer[[]uint64] // see place
	weight *[classes]float32
	_      [cacheLine]byte
	clock  atomic.Uint32 // float32; moves with each victim
	_      [cacheLine]byte

	// What follows is guarded by the owner's lock.

	precise   float64 // the clock, as it adds up
	smoothing float64
	samples   int
	top       uint32 // all slots from here on are free
	residents int
	turns     int // victims since the clock was set back
	random    random
	words     func(n int) []uint64
	past      sketch
}

// New returns an SHD without residents.
func New(opts Options) *SHD {
	s := &SHD{
		weight:    opts.Alpha.weights(),
		samples:   opts.Samples,
		smoothing: opts.Smoothing,
		random:    random(opts.Seed),
		words:     opts.Words,
	}
	if s.samples <= 0 {
		s.samples = defaultSamples
	}
	if !(s.smoothing > 0 && s.smoothing <= 1) { // also NaN
		s.smoothing = defaultSmoothing
	}
	if s.words == nil {
		s.words = func(n int) []uint64 { return make([]uint64, n) }
	}
	s.past.words = s.words
	s.past.fit(1)
	return s
}

// place returns the chunk of a slot, and where it is in it. Chunk 0 has
// firstSlots words; each other has as many as all before it.
func place(slot uint32) (chunk int, offset uint32) {
	chunk = bits.Len32(slot / firstSlots)
	if chunk > 0 {
		slot -= firstSlots << (chunk - 1)
	}
	return chunk, slot
}

// word returns the word of a slot, or nil if there is no memory for it yet.
func (s *SHD) word(slot uint32) *uint64 {
	i, offset := place(slot)
	chunk := s.chunks[i].Load()
	if chunk == nil {
		return nil
	}
	return &(*chunk)[offset]
}

// now is the clock.
func (s *SHD) now() float32 { return math.Float32frombits(s.clock.Load()) }

// valueOf is what a resident is worth. The product is rounded before the sum,
// so that every machine makes the same choices.
func valueOf(stamp float32, hits uint8, weight float32) float32 {
	return stamp + float32(float32(hits)*weight)
}

// Hit notes that the resident of a slot was asked for. It takes no lock and
// does not wait. It may run while the slot is removed or given to another:
// then it counts for the other, or for nobody. Of hits at the very same time
// some may not be counted.
//
// It writes only what matters, so that cores do not take the lines of hot
// objects from each other: an object's first 32 hits, and then no more than
// one while the clock gains a sixteenth of the object's own hits / size^alpha.
// The clock stands still while nobody leaves. On recorded traces this loses no
// hits: the differences are below 0.2 points, of either sign.
func (s *SHD) Hit(slot uint32) {
	w := s.word(slot)
	if w == nil {
		return
	}
	old := atomic.LoadUint64(w)
	if old&occupied == 0 {
		return
	}
	stamp, hits, class := unpack(old)
	clock := s.now()
	if hits >= exactHits && clock-stamp <= stampShare*float32(hits)*s.weight[class] {
		return
	}
	if hits < maxHits {
		hits++
	}
	atomic.CompareAndSwapUint64(w, old, pack(clock, hits, class))
}

// Miss notes that an object was asked for that is not resident. Call it before
// Admit and Insert of the same object, which take it into account.
func (s *SHD) Miss(hash uint64) {
	s.past.miss(hash, s.residents)
}

// Insert makes an object of size octets the resident of a free slot. If it was
// here before, it takes up its former rank, as far as that is remembered. The
// hash identifies the object in 64 bits. It reports false if there is no
// memory for the slot, or no such slot; then nothing has changed.
func (s *SHD) Insert(slot uint32, hash uint64, size int64) bool {
	if !s.grow(slot) {
		return false
	}
	s.residents++
	s.past.fit(s.residents)
	hits := max(s.past.count(hash), 1)
	atomic.StoreUint64(s.word(slot), pack(s.now(), hits, SizeClass(size)))
	return true
}

// Unrank takes from a resident what Insert gave it for its hash: it is not the
// object that had the rank, but another one of that hash.
func (s *SHD) Unrank(slot uint32) {
	w := s.word(slot)
	for {
		old := atomic.LoadUint64(w)
		stamp, _, class := unpack(old)
		if old&occupied == 0 || atomic.CompareAndSwapUint64(w, old, pack(stamp, 1, class)) {
			return
		}
	}
}

// grow provides for the word of a slot.
func (s *SHD) grow(slot uint32) bool {
	if slot >= maxSlots {
		return false
	}
	last, _ := place(slot)
	for i := 0; i <= last; i++ {
		if s.chunks[i].Load() != nil {
			continue
		}
		n := firstSlots << max(i-1, 0)
		chunk := s.words(n)
		if len(chunk) < n {
			return false
		}
		s.chunks[i].Store(&chunk)
	}
	s.top = max(s.top, slot+1)
	return true
}

// Resize says that the resident of a slot has a new size in octets. Nothing
// else about it changes. A free slot stays free.
func (s *SHD) Resize(slot uint32, size int64) {
	w := s.word(slot)
	for w != nil {
		old := atomic.LoadUint64(w)
		if old&occupied == 0 {
			return
		}
		stamp, hits, _ := unpack(old)
		if atomic.CompareAndSwapUint64(w, old, pack(stamp, hits, SizeClass(size))) {
			return
		}
	}
}

// Move takes a resident to another slot, which must be free, with all that is
// known of it. It reports false, and nothing has changed, if there is no memory
// for the slot. A hit on the old slot meanwhile may be lost.
func (s *SHD) Move(from, to uint32) bool {
	if !s.grow(to) {
		return false
	}
	w := atomic.SwapUint64(s.word(from), 0)
	atomic.StoreUint64(s.word(to), w)
	s.lower()
	return true
}

// lower lets top follow the highest resident.
func (s *SHD) lower() {
	for s.top > 0 && atomic.LoadUint64(s.word(s.top-1)) == 0 {
		s.top--
	}
}

// Remove frees a slot, for any reason but having been chosen by Victim. The
// rank of its resident, whose hash it is, is remembered. Nothing happens if
// the slot is free.
func (s *SHD) Remove(slot uint32, hash uint64) {
	w := s.word(slot)
	if w == nil {
		return
	}
	old := atomic.SwapUint64(w, 0)
	if old&occupied == 0 {
		return
	}
	_, hits, _ := unpack(old)
	s.residents--
	s.lower()
	s.past.atLeast(hash, hits)
}

// A State is what the owner says of a resident that might leave.
type State uint8

const (
	// Idle residents may leave.
	Idle State = iota
	// Pinned residents may not leave now.
	Pinned
	// Expired residents are worth nothing and leave first.
	Expired
)

// A Victim is who should leave.
type Victim struct {
	// Slot is the victim's slot.
	Slot uint32
	// Expired says that it was chosen for being Expired, not for its rank.
	Expired bool

	value float32 // 0 if Expired, which is less than anything else
}

// Victim names the resident that should leave, among a sample: the first that
// is Expired, otherwise the one of least value that is Idle. It reports false
// if there is none: all are pinned, or there are none.
//
// The owner tells each one's state through ask, which must not call the SHD,
// may be asked twice about the same one, and may be nil: all are Idle. Usually
// it is called for a sample; if none of it may leave, Victim goes on until it
// finds one. Nothing changes until Evict is called with the result, which must
// come before any other change.
func (s *SHD) Victim(ask func(slot uint32) State) (v Victim, ok bool) {
	c := choice{SHD: s, ask: ask, clock: s.now(), best: Victim{value: nobody}}
	if s.residents > s.samples {
		c.sample()
	}
	if c.best.value == nobody {
		c.search()
	}
	return c.best, c.best.value != nobody
}

// Weakest returns which of several residents is worth least, for an owner who
// has to let one of them go whatever the others are worth: as an index into
// slots, of equals the last, and as the Victim for Evict.
func (s *SHD) Weakest(slots []uint32) (least int, v Victim) {
	v.value = nobody
	for i, slot := range slots {
		stamp, hits, class := unpack(atomic.LoadUint64(s.word(slot)))
		if worth := valueOf(stamp, hits, s.weight[class]); worth <= v.value {
			least, v = i, Victim{Slot: slot, value: worth}
		}
	}
	return least, v
}

// nobody is more than any value can be.
var nobody = float32(math.Inf(1))

// A choice is the search for one Victim.
type choice struct {
	*SHD
	ask   func(slot uint32) State
	clock float32
	seen  int    // residents
	best  Victim // of value nobody if there is none
}

// sample looks at random runs. A sparse shard needs more of them than a dense
// one to show as many residents, up to the eightfold.
func (c *choice) sample() {
	runs := (c.top + run - 1) / run
	for n := 0; n < c.samples; n += ahead {
		var first [ahead]uint32
		for i := range first {
			first[i] = c.random.below(runs) * run
			atomic.LoadUint64(c.word(first[i])) // memory brings all of them at once
		}
		for _, slot := range first {
			if c.look(slot); c.seen >= c.samples || c.best.Expired {
				return
			}
		}
	}
}

// search looks at all, or, where exactness is not asked for, until there is
// somebody who may leave.
func (c *choice) search() {
	runs := (c.top + run - 1) / run
	start := c.random.below(runs)
	for n := range runs {
		if c.best.Expired || c.best.value != nobody && c.residents > c.samples {
			return
		}
		c.look((start + n) % runs * run)
	}
}

// look considers a run of slots, up to the first that is Expired.
func (c *choice) look(first uint32) {
	i, offset := place(first)
	words := (*c.chunks[i].Load())[offset:][:run]
	weight, best := c.weight, c.best
	for n := range words {
		word := atomic.LoadUint64(&words[n])
		if word&occupied == 0 {
			continue
		}
		c.seen++
		slot := first + uint32(n)
		if c.ask != nil {
			switch c.ask(slot) {
			case Pinned:
				continue
			case Expired:
				c.best = Victim{Slot: slot, Expired: true}
				return
			}
		}
		stamp, hits, class := unpack(word)
		if stamp > c.clock {
			// A hit that began before the clock was set back ended after it.
			stamp = c.clock
			atomic.CompareAndSwapUint64(&words[n], word, pack(stamp, hits, class))
		}
		if value := valueOf(stamp, hits, weight[class]); value < best.value {
			best = Victim{Slot: slot, value: value}
		}
	}
	c.best = best
}

// Admit tells whether a newcomer of size octets is worth the victim's place.
// Only what is worth less than the victim and was not seen before, so far as
// is remembered, is refused. Miss must have been called.
func (s *SHD) Admit(hash uint64, size int64, v Victim) bool {
	seen := s.past.count(hash)
	if seen >= 2 {
		return true
	}
	return valueOf(s.now(), max(seen, 1), s.weight[SizeClass(size)]) >= v.value
}

// Evict frees the slot of the victim, whose hash it is, and lets the clock
// follow its value, unless it has Expired. The rank is remembered.
func (s *SHD) Evict(v Victim, hash uint64) {
	s.Remove(v.Slot, hash)
	if gain := float64(v.value) - s.precise; gain > 0 {
		s.precise += float64(s.smoothing * gain)
		s.clock.Store(math.Float32bits(float32(s.precise)))
	}
	if s.turns++; s.turns > rebaseTurns*max(s.residents, firstSlots) {
		s.rebase()
	}
}

// rebase sets the clock back to zero and all stamps with it, so that float32
// keeps telling them apart however long the shard lives. A hit at the same
// time may leave a stamp ahead of the clock; the next look mends that.
func (s *SHD) rebase() {
	s.turns = 0
	back := s.now()
	for slot := range s.top {
		setBack(s.word(slot), back)
	}
	s.precise = 0
	s.clock.Store(0)
}

func setBack(w *uint64, by float32) {
	for {
		old := atomic.LoadUint64(w)
		if old&occupied == 0 {
			return
		}
		stamp, hits, class := unpack(old)
		if atomic.CompareAndSwapUint64(w, old, pack(stamp-by, hits, class)) {
			return
		}
	}
}

// Len returns the number of residents.
func (s *SHD) Len() int { return s.residents }
