package evict

import (
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// chance is seeded, and says so.
func chance(t testing.TB) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// words counts what it gives.
type words struct{ given, limit int }

func (w *words) more(n int) []uint64 {
	if w.given+n > w.limit {
		return nil
	}
	w.given += n
	return make([]uint64, n)
}

// A shelf is the obvious form of what an SHD keeps: residents in a list, and
// the least of all is found by looking at all.
type shelf struct {
	alpha, smoothing float64
	clock            float64
	residents        map[uint32]*book
	past             sketch // tested by itself
}

type book struct {
	hash  uint64
	stamp float32
	hits  int
	size  int64
}

func (s *shelf) weight(size int64) float32 {
	return float32(math.Pow(classSize(0)/classSize(SizeClass(size)), s.alpha))
}

func (s *shelf) value(b *book) float32 { return b.stamp + float32(b.hits)*s.weight(b.size) }

func (s *shelf) least() float32 {
	least := float32(math.Inf(1))
	for _, b := range s.residents {
		least = min(least, s.value(b))
	}
	return least
}

// With as many samples as residents, each victim is the least of all, and the
// clock follows as it is told to.
func TestVictimIsTheLeast(t *testing.T) {
	random := chance(t)
	for _, alpha := range []float64{0, 0.5, 1} {
		shd := New(Options{Alpha: AlphaOf(alpha), Samples: 300, Smoothing: 0.5})
		heap := func(n int) []uint64 { return make([]uint64, n) }
		model := shelf{alpha: alpha, smoothing: 0.5, residents: map[uint32]*book{}, past: sketch{words: heap}}
		model.past.fit(1)
		for range 10_000 {
			slot, hash, size := uint32(random.IntN(300)), uint64(random.IntN(900)), random.Int64N(1<<uint(random.IntN(40)))
			switch b := model.residents[slot]; {
			case b == nil:
				shd.Miss(hash)
				model.past.miss(hash, len(model.residents))
				if !shd.Insert(slot, hash, size) {
					t.Fatal("no memory on the heap")
				}
				model.past.fit(len(model.residents) + 1)
				model.residents[slot] = &book{hash, float32(model.clock), max(int(model.past.count(hash)), 1), size}
			case random.IntN(50) == 0:
				shd.Resize(slot, size)
				b.size = size
			case random.IntN(50) == 0:
				shd.Remove(slot, b.hash)
				model.past.atLeast(b.hash, uint8(b.hits))
				delete(model.residents, slot)
			default:
				shd.Hit(slot)
				if clock := float32(model.clock); b.hits < exactHits || clock-b.stamp > stampShare*float32(b.hits)*model.weight(b.size) {
					b.hits, b.stamp = min(b.hits+1, 255), clock
				}
			}
			if len(model.residents) < 200 {
				continue
			}
			v, ok := shd.Victim(nil)
			leaves := model.residents[v.Slot]
			if !ok || leaves == nil || v.value != model.least() || model.value(leaves) != v.value {
				t.Fatalf("victim %+v, %v; the least is worth %v", v, ok, model.least())
			}
			shd.Evict(v, leaves.hash)
			model.past.atLeast(leaves.hash, uint8(leaves.hits))
			delete(model.residents, v.Slot)
			if gain := float64(v.value) - model.clock; gain > 0 {
				model.clock += model.smoothing * gain
			}
			if shd.turns == 0 { // it was set back: so are we
				back := float32(model.clock)
				for _, b := range model.residents {
					b.stamp -= back
				}
				model.clock = 0
			}
			if shd.now() != float32(model.clock) || shd.Len() != len(model.residents) {
				t.Fatalf("clock %v, %d residents; want %v, %d", shd.now(), shd.Len(), model.clock, len(model.residents))
			}
		}
	}
}

// Whatever the samples, the victim is in the lowest part of all in nearly all
// cases: of 64 the least is among the lowest fifth but once in a million times.
func TestSampleFindsLow(t *testing.T) {
	shd := New(Options{Seed: 1})
	const n = 10_000
	order := rand.New(rand.NewPCG(2, 3)).Perm(n)
	for slot, rank := range order { // rank decides the value: more hits for higher ones
		shd.Insert(uint32(slot), uint64(slot), 1<<20)
		for range rank * 200 / n {
			shd.Hit(uint32(slot))
		}
	}
	// Hits above exactHits are not written while the clock stands still, so
	// that the upper 5/6 are equal.
	for range 1000 {
		if v, ok := shd.Victim(nil); !ok || order[v.Slot] > n/5 {
			t.Fatalf("the victim ranks %d of %d", order[v.Slot], n)
		}
	}
}

// Expired residents leave first, whatever their rank, and do not move the
// clock. They are met in a sample, and there need not be more than one.
func TestExpiredFirst(t *testing.T) {
	shd := New(Options{})
	for slot := range uint32(60) {
		shd.Insert(slot, uint64(slot), 1000)
	}
	for range 30 {
		shd.Hit(41)
	}
	v, ok := shd.Victim(func(slot uint32) State {
		if slot == 41 {
			return Expired
		}
		return Idle
	})
	if !ok || v.Slot != 41 || !v.Expired {
		t.Fatalf("victim %+v, %v", v, ok)
	}
	if !shd.Admit(99, 1<<30, v) {
		t.Error("nobody is worth less than what has expired")
	}
	shd.Evict(v, 41)
	if shd.now() != 0 || shd.Len() != 59 {
		t.Errorf("clock %v, %d residents", shd.now(), shd.Len())
	}
}

// The only one who may leave is found, in a shard however sparse or pinned,
// and nobody is named if there is none.
func TestFindsTheLast(t *testing.T) {
	for name, test := range map[string]struct {
		residents int
		step      uint32
	}{
		"one":          {1, 1},
		"few":          {30, 1},
		"dense":        {5000, 1},
		"sparse":       {500, 97},
		"very sparse":  {70, 100_003},
		"ends askew":   {65, 1},
		"sparse, few":  {3, 50_001},
		"one run":      {8, 1},
		"whole chunks": {128, 1},
	} {
		t.Run(name, func(t *testing.T) {
			shd := New(Options{Seed: 5})
			for i := range test.residents {
				shd.Insert(uint32(i)*test.step, uint64(i), 100)
			}
			for _, only := range []int{0, test.residents / 2, test.residents - 1} {
				v, ok := shd.Victim(func(slot uint32) State {
					if slot == uint32(only)*test.step {
						return Idle
					}
					return Pinned
				})
				if !ok || v.Slot != uint32(only)*test.step {
					t.Errorf("victim %+v, %v; want %d", v, ok, uint32(only)*test.step)
				}
			}
			if v, ok := shd.Victim(func(uint32) State { return Pinned }); ok {
				t.Errorf("all are pinned, and %+v should leave", v)
			}
			for i := range test.residents {
				shd.Remove(uint32(i)*test.step, uint64(i))
			}
			if v, ok := shd.Victim(nil); ok || shd.Len() != 0 || shd.top != 0 {
				t.Errorf("nobody is there, and %+v should leave of %d up to slot %d", v, shd.Len(), shd.top)
			}
		})
	}
}

// A newcomer is refused only if it is worth less than the victim and was not
// seen before.
func TestAdmit(t *testing.T) {
	shd := New(Options{})
	for slot := range uint32(100) {
		shd.Insert(slot, uint64(slot), 1000)
		shd.Hit(slot)
	}
	v, _ := shd.Victim(nil)
	const large, small, again = 501, 502, 503
	shd.Miss(large)
	shd.Miss(small)
	shd.Miss(again)
	shd.Miss(again)
	if shd.Admit(large, 1<<20, v) {
		t.Error("a large object asked for once was let in")
	}
	if !shd.Admit(small, 100, v) {
		t.Error("a small object worth more than the victim was refused")
	}
	if !shd.Admit(again, 1<<20, v) {
		t.Error("an object asked for twice was refused")
	}
}

// Who comes back takes up its former rank.
func TestRankIsRemembered(t *testing.T) {
	shd := New(Options{})
	for slot := range uint32(40) {
		shd.Insert(slot, uint64(slot), 1000)
	}
	for range 9 {
		shd.Hit(7)
	}
	shd.Remove(7, 7)
	shd.Insert(7, 7, 1000)
	if _, hits, _ := unpack(*shd.word(7)); hits != 10 {
		t.Errorf("it came back with %d hits, want 10", hits)
	}
	if _, hits, _ := unpack(*shd.word(8)); hits != 1 {
		t.Errorf("a newcomer has %d hits, want 1", hits)
	}
}

// Hits on what is hot write nothing while nobody leaves; hits on what is free
// or has no memory do nothing. A new size changes the size alone.
func TestHotLinesStayPut(t *testing.T) {
	shd := New(Options{})
	shd.Insert(3, 3, 1000)
	for range exactHits {
		shd.Hit(3)
	}
	before := *shd.word(3)
	for range 1000 {
		shd.Hit(3)
	}
	if *shd.word(3) != before {
		t.Errorf("the word of a hot object went from %x to %x", before, *shd.word(3))
	}
	shd.clock.Store(math.Float32bits(100))
	shd.Hit(3)
	if stamp, hits, _ := unpack(*shd.word(3)); stamp != 100 || hits != exactHits+1 {
		t.Errorf("the clock went on, and the object has stamp %v and %d hits", stamp, hits)
	}
	shd.Resize(3, 1<<20)
	if stamp, hits, class := unpack(*shd.word(3)); stamp != 100 || hits != exactHits+1 || class != SizeClass(1<<20) {
		t.Errorf("with a new size it has stamp %v, %d hits and class %d", stamp, hits, class)
	}
	shd.Hit(4)
	shd.Resize(4, 1)
	shd.Hit(1 << 30)
	shd.Hit(math.MaxUint32)
	if *shd.word(4) != 0 {
		t.Error("a free slot did not stay free")
	}
}

// After the clock is set back, all rank as before, also in the face of a hit
// that did not notice.
func TestRebase(t *testing.T) {
	shd := New(Options{Samples: 1000})
	for slot := range uint32(500) {
		shd.precise = float64(slot)
		shd.clock.Store(math.Float32bits(float32(slot)))
		shd.Insert(slot, uint64(slot), 1000)
	}
	shd.rebase()
	atomic.StoreUint64(shd.word(0), pack(499, 1, SizeClass(1000))) // stamped late with the old clock
	for want := uint32(1); want < 499; want++ {
		v, _ := shd.Victim(nil)
		if v.Slot != want {
			t.Fatalf("victim %d, want %d", v.Slot, want)
		}
		shd.Remove(v.Slot, uint64(v.Slot))
	}
	if stamp, _, _ := unpack(*shd.word(0)); stamp > shd.now() {
		t.Errorf("a stamp stayed ahead of the clock: %v after %v", stamp, shd.now())
	}
}

// However long a shard lives, the clock stays where float32 is fine.
func TestClockStaysSmall(t *testing.T) {
	shd := New(Options{Smoothing: 1})
	highest := float32(0)
	for n := range uint64(50_000) {
		slot := uint32(n)
		if n >= 100 {
			v, _ := shd.Victim(nil)
			shd.Evict(v, n-1) // whoever it is, it does not come back
			slot = v.Slot
		}
		shd.Insert(slot, 1<<32+n, 64) // worth one more than the clock
		highest = max(highest, shd.now())
	}
	if highest < rebaseTurns/2 || highest > 3*rebaseTurns {
		t.Errorf("the clock went up to %v; the test wants some %d", highest, rebaseTurns)
	}
}

// All memory comes from the owner, in the amounts that are promised, and none
// is no reason to fail.
func TestWords(t *testing.T) {
	w := &words{limit: 1 << 30}
	shd := New(Options{Words: w.more})
	for n := range 100_000 {
		if !shd.Insert(uint32(n), uint64(n), 100) {
			t.Fatal("there was memory")
		}
		slots, history := firstSlots, firstBlocks*blockWords
		for slots <= n {
			slots *= 2
		}
		for history*2 < n+1 {
			history *= 2
		}
		if w.given != slots+history {
			t.Fatalf("%d residents take %d words, want %d and %d", n+1, w.given, slots, history)
		}
	}

	w = &words{}
	shd = New(Options{Words: w.more})
	shd.Miss(1)
	if shd.Insert(0, 1, 100) || shd.Len() != 0 {
		t.Error("there was no memory, and somebody came in")
	}
	shd.Hit(0)
	shd.Remove(0, 1)
	shd.Resize(0, 5)
	if _, ok := shd.Victim(nil); ok {
		t.Error("nobody is there")
	}
	w.limit = firstSlots // for slots, and not for history
	for slot := range uint32(firstSlots + 1) {
		shd.Miss(uint64(slot))
		if ok := shd.Insert(slot, uint64(slot), 100); ok != (slot < firstSlots) {
			t.Errorf("slot %d: %v", slot, ok)
		}
	}
	v, ok := shd.Victim(nil)
	shd.Evict(v, uint64(v.Slot))
	if !ok || shd.Len() != firstSlots-1 {
		t.Errorf("victim %+v, %v; %d residents", v, ok, shd.Len())
	}
	if shd.Insert(maxSlots, 1, 1) {
		t.Error("slot 2^31 was taken")
	}
}

// The same seed makes the same choices.
func TestSeedDecides(t *testing.T) {
	choices := func(seed uint64) (slots []uint32) {
		shd := New(Options{Seed: seed})
		for n := range uint64(3000) {
			slot := uint32(n)
			if n >= 1000 {
				v, _ := shd.Victim(nil)
				shd.Evict(v, 0)
				slots = append(slots, v.Slot)
				slot = v.Slot
			}
			shd.Insert(slot, n, int64(n%97*1000))
		}
		return slots
	}
	one, same, other := choices(1), choices(1), choices(2)
	different := 0
	for i := range one {
		if one[i] != same[i] {
			t.Fatalf("choice %d is slot %d, then slot %d", i, one[i], same[i])
		}
		if one[i] != other[i] {
			different++
		}
	}
	if different == 0 {
		t.Error("the seed does not matter")
	}
}

// A hit that began before a slot was freed, or given to another, does not bring
// the old resident back.
func TestLateHits(t *testing.T) {
	shd := New(Options{})
	const slot = 0
	var done atomic.Bool
	go func() {
		defer done.Store(true)
		for range 8_000_000 {
			shd.Hit(slot)
		}
	}()
	for n := uint64(0); !done.Load() && !t.Failed(); n++ {
		shd.Insert(slot, n, 100)
		shd.Remove(slot, n) // while its first hits come in, which all want to be written
		for range 5 {
			if word := atomic.LoadUint64(shd.word(slot)); word != 0 {
				t.Errorf("round %d: a free slot became %x", n, word)
			}
		}
	}
	for !done.Load() {
		runtime.Gosched()
	}
}

// Hits may come at any time, from anywhere. They never change what the owner
// said: who is there, and how large.
func TestHitsAtAnyTime(t *testing.T) {
	shd := New(Options{})
	const slots = 600
	stop := make(chan struct{})
	var hitters sync.WaitGroup
	for g := range 2 {
		hitters.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 1))
			for {
				select {
				case <-stop:
					return
				default:
					shd.Hit(uint32(r.IntN(slots + 50)))
				}
			}
		})
	}
	random := chance(t)
	size := map[uint32]int64{}
	for n := range 30_000 {
		slot := uint32(random.IntN(slots))
		_, here := size[slot]
		switch {
		case !here:
			size[slot] = random.Int64N(1 << 30)
			shd.Insert(slot, uint64(slot), size[slot])
		case n%3 == 0:
			size[slot] = random.Int64N(1 << 30)
			shd.Resize(slot, size[slot])
		case n%3 == 1:
			shd.Remove(slot, uint64(slot))
			delete(size, slot)
		default:
			v, _ := shd.Victim(nil)
			if _, here := size[v.Slot]; !here {
				t.Fatalf("%d should leave and is not there", v.Slot)
			}
			shd.Evict(v, uint64(v.Slot))
			delete(size, v.Slot)
		}
		if n%1000 == 0 {
			shd.rebase()
		}
	}
	close(stop)
	hitters.Wait()
	for slot := range uint32(slots) {
		want, here := size[slot]
		word := *shd.word(slot)
		if _, _, class := unpack(word); here && (word&occupied == 0 || class != SizeClass(want)) || !here && word != 0 {
			t.Errorf("slot %d: %x, want %d, %v", slot, word, want, here)
		}
	}
	if shd.Len() != len(size) {
		t.Errorf("%d residents, want %d", shd.Len(), len(size))
	}
}

func TestNothingIsAllocated(t *testing.T) {
	shd := New(Options{})
	for n := range uint32(1000) {
		shd.Insert(n, uint64(n), 100)
	}
	hash := uint64(1000)
	pinned := func(slot uint32) State { return State(slot & 1) }
	if n := testing.AllocsPerRun(100, func() {
		shd.Miss(hash)
		v, _ := shd.Victim(pinned)
		shd.Admit(hash, 100, v)
		shd.Evict(v, hash)
		shd.Insert(v.Slot, hash, 100)
		shd.Hit(v.Slot)
		hash++
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Classes rise with sizes, are as narrow as they say, and cover all there is.
func TestSizeClasses(t *testing.T) {
	if SizeClass(-1) != 0 || SizeClass(0) != 0 || SizeClass(math.MaxInt64) != 255 {
		t.Error("sizes that cannot be have odd classes")
	}
	last := uint8(0)
	for size := int64(1); size < 1<<38; size += max(1, size/100) {
		class := SizeClass(size)
		if class < last || int(class) > int(last)+1 {
			t.Fatalf("size %d has class %d after %d", size, class, last)
		}
		last = class
		if off := classSize(class) / float64(size); size >= 64 && (off < 1/1.07 || off > 1.07) {
			t.Fatalf("class %d stands for %v and has %d", class, classSize(class), size)
		}
	}
	if last != 255 {
		t.Errorf("the last class is %d", last)
	}
}

func TestAlpha(t *testing.T) {
	var zero Alpha
	for want, a := range map[float64]Alpha{0.5: zero, 0: AlphaOf(0), 1: AlphaOf(7), 0.25: AlphaOf(0.25)} {
		if a.Value() != want {
			t.Errorf("%v is %v, want %v", a, a.Value(), want)
		}
	}
	if AlphaOf(math.NaN()).Value() != 0 || AlphaOf(-1).Value() != 0 {
		t.Error("what is no exponent is not 0")
	}
	if w := AlphaOf(0).weights(); w[0] != 1 || w[255] != 1 {
		t.Error("size counts though alpha is 0")
	}
	if w := AlphaOf(1).weights(); math.Abs(float64(w[8])-0.5) > 1e-6 {
		t.Errorf("twice the size weighs %v", w[8])
	}
}

func BenchmarkHit(b *testing.B) {
	for name, step := range map[string]uint32{"one object": 0, "spread": 1} {
		b.Run(name, func(b *testing.B) {
			shd := New(Options{})
			const slots = 1 << 16
			for slot := range uint32(slots) {
				shd.Insert(slot, uint64(slot), 10_000)
			}
			var next atomic.Uint32
			b.RunParallel(func(p *testing.PB) {
				for slot := next.Add(1000) * step; p.Next(); slot += 7 * step {
					shd.Hit(slot % slots)
				}
			})
		})
	}
}

// A whole miss: look up history, choose, evict, insert.
func BenchmarkMiss(b *testing.B) {
	shd := New(Options{})
	const slots = 1 << 20
	for slot := range uint32(slots) {
		shd.Insert(slot, uint64(slot), int64(slot%9999*10))
	}
	b.ReportAllocs()
	for hash := uint64(slots); b.Loop(); hash++ {
		shd.Miss(hash)
		v, _ := shd.Victim(nil)
		if shd.Admit(hash, int64(hash%9999*10), v) {
			shd.Evict(v, hash)
			shd.Insert(v.Slot, hash, int64(hash%9999*10))
		}
	}
}

// Whoever moves to another slot is worth what it was worth before.
func TestMove(t *testing.T) {
	s := New(Options{})
	s.Insert(100, 1, 1000)
	for range 20 {
		s.Hit(100)
	}
	s.Insert(3, 2, 1000)
	s.Hit(3)
	before := atomic.LoadUint64(s.word(100))
	if !s.Move(100, 5) || atomic.LoadUint64(s.word(5)) != before || atomic.LoadUint64(s.word(100)) != 0 {
		t.Fatalf("slot 5 holds %x, slot 100 %x, want %x and nothing", atomic.LoadUint64(s.word(5)), atomic.LoadUint64(s.word(100)), before)
	}
	if v, ok := s.Victim(nil); !ok || v.Slot != 3 || s.Len() != 2 {
		t.Errorf("the victim is in slot %d of %d residents, want 3 of 2", v.Slot, s.Len())
	}
	if s.top != 6 {
		t.Errorf("slots up to %d are looked at", s.top)
	}
	poor := New(Options{Words: func(n int) []uint64 {
		if n > 64 {
			return nil
		}
		return make([]uint64, n)
	}})
	poor.Insert(1, 1, 1000)
	if poor.Move(1, 1000) || poor.Len() != 1 || atomic.LoadUint64(poor.word(1)) == 0 {
		t.Error("a move without memory changed something")
	}
}

func TestWeakest(t *testing.T) {
	s := New(Options{})
	for slot := range uint32(5) {
		s.Insert(slot, uint64(slot), 1000)
	}
	for _, hit := range []uint32{0, 0, 2, 4} {
		s.Hit(hit)
	}
	if i, _ := s.Weakest([]uint32{4, 3, 2, 1, 0}); i != 3 {
		t.Errorf("%d is worth least, want the last of two that are worth the same", i)
	}
	if i, _ := s.Weakest([]uint32{4, 0, 2}); i != 2 {
		t.Errorf("%d is worth least of three that were hit", i)
	}
	s.Resize(2, 100)
	if i, _ := s.Weakest([]uint32{2, 4}); i != 1 {
		t.Error("the larger one of two is worth more")
	}
	// Who was used once is not there for ever, while others come and go.
	for n := range 100 {
		if i, v := s.Weakest([]uint32{0, 1}); i == 0 {
			return
		} else if s.Evict(v, 0); v.Slot != 1 {
			t.Fatalf("the victim is in slot %d", v.Slot)
		}
		s.Insert(1, uint64(1000+n), 1000)
	}
	t.Error("it never leaves")
}

// Another object of the same hash does not inherit its rank.
func TestUnrank(t *testing.T) {
	s := New(Options{})
	s.Insert(0, 7, 1000)
	for range 9 {
		s.Hit(0)
	}
	s.Remove(0, 7)
	s.Insert(0, 7, 1000)
	s.Insert(1, 7, 1000)
	s.Insert(2, 8, 1000)
	s.Unrank(1)
	if i, _ := s.Weakest([]uint32{0, 1, 2}); i != 2 {
		t.Errorf("%d is worth least, want the last of the two that nobody has asked for", i)
	}
	if i, _ := s.Weakest([]uint32{0, 1}); i != 1 {
		t.Error("the rank was taken from the wrong one")
	}
	s.Remove(1, 7)
	s.Unrank(1)
	if s.Len() != 2 || atomic.LoadUint64(s.word(1)) != 0 {
		t.Error("a free slot was ranked")
	}
}
