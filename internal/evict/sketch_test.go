package evict

import "testing"

func newSketch(n int) *sketch {
	s := &sketch{words: func(n int) []uint64 { return make([]uint64, n) }}
	s.fit(n)
	return s
}

// A count is never too low, and with few keys it is exact.
func TestSketchCounts(t *testing.T) {
	random := chance(t)
	for residents, worst := range map[int]float64{1000: 0.4, 16_000: 0} {
		s := newSketch(residents)
		exact := map[uint64]uint8{}
		for range 2000 {
			key := random.Uint64N(1000)
			s.miss(key, residents)
			exact[key] = min(exact[key]+1, maxCount)
		}
		wrong := 0
		for key := range uint64(2000) {
			switch got := s.count(key); {
			case got < exact[key]:
				t.Errorf("key %d was seen %d times, not %d", key, exact[key], got)
			case got > exact[key]:
				wrong++
			}
		}
		if share := float64(wrong) / 2000; share > worst+0.01 {
			t.Errorf("%d residents: %.3f of all counts are too high", residents, share)
		}
	}
}

// Growing forgets nothing.
func TestSketchGrows(t *testing.T) {
	s := newSketch(1)
	for key := range uint64(50) {
		for range key%7 + 1 {
			s.miss(key, 50)
		}
	}
	var before [50]uint8
	for key := range before {
		before[key] = s.count(uint64(key))
	}
	for n := 1; n < 100_000; n *= 2 {
		s.fit(n)
		for key, want := range before {
			if got := s.count(uint64(key)); got != want {
				t.Fatalf("for %d residents key %d is counted %d, was %d", n, key, got, want)
			}
		}
	}
}

// All counts are halved after ten misses for each resident.
func TestSketchAges(t *testing.T) {
	const residents = 1000
	s := newSketch(residents)
	s.atLeast(1, 200)
	if s.count(1) != maxCount {
		t.Fatalf("200 is counted as %d", s.count(1))
	}
	for range agePeriod * residents {
		s.miss(2, residents)
	}
	if s.count(1) != maxCount || s.count(2) != maxCount {
		t.Errorf("%d and %d before the time", s.count(1), s.count(2))
	}
	s.miss(3, residents)
	if s.count(1) != maxCount/2 || s.count(2) != maxCount/2 || s.count(3) != 1 {
		t.Errorf("halved: %d, %d; new: %d", s.count(1), s.count(2), s.count(3))
	}
}
