package index

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// allHashes goes through x as Hashes says, calling between after each part.
func allHashes(t *testing.T, x *Index, between func()) (all []uint64) {
	t.Helper()
	for from, more := uint64(0), true; more; {
		old, had := from, len(all)
		all, from, more = x.Hashes(from, all)
		part := all[had:]
		if more && from <= old {
			t.Fatalf("from %016x on it goes on at %016x", old, from)
		}
		if len(part) > 0 && (part[0] < old || more && part[len(part)-1] >= from) {
			t.Fatalf("from %016x up to %016x there are %016x to %016x", old, from, part[0], part[len(part)-1])
		}
		if between != nil {
			between()
		}
	}
	return all
}

// A crowd is hashes of all kinds, in no order: spread evenly or in one partition,
// the least and the greatest that there are, each others' neighbours, and some that
// overflow a partition from its end to its beginning.
func crowd(r *rand.Rand, n int) []uint64 {
	hashes := []uint64{0, 1, ^uint64(0), ^uint64(0) - 1, 7 << 56, 7<<56 - 1}
	for i := range n {
		h := r.Uint64()
		switch {
		case i < 60:
			h = 8<<56 - 1 - h>>24
		case i%8 == 0:
			h = hashes[len(hashes)-1] + 1
		case i%8 < 6:
			h = h<<8>>8 | 7<<56
		}
		hashes = append(hashes, h)
	}
	slices.Sort(hashes)
	hashes = slices.Compact(hashes)
	r.Shuffle(len(hashes), func(i, j int) { hashes[i], hashes[j] = hashes[j], hashes[i] })
	return hashes
}

// Hashes are all that have entries, each once, in order.
func TestHashes(t *testing.T) {
	r := seeded(t)
	if all := allHashes(t, New(Options{}), nil); len(all) > 0 {
		t.Errorf("there are %x in an empty index", all)
	}
	for _, n := range []int{1, 100, 3000, 15_000} {
		x := New(Options{})
		want := crowd(r, n)
		for _, hash := range want {
			for addr := range r.Uint64N(3) + 1 {
				x.Insert(hash, Ref{Addr: addr})
			}
		}
		slices.Sort(want)
		if all := allHashes(t, x, nil); !slices.Equal(all, want) {
			t.Errorf("%d hashes, want %d, or others", len(all), len(want))
		}
	}
}

// A hash that has an entry all the time is met, though the tables are made larger
// and smaller meanwhile and its entry moves.
func TestHashesOfThoseThatStay(t *testing.T) {
	r := seeded(t)
	x := New(Options{})
	staying := crowd(r, 2000)
	for _, hash := range staying {
		x.Insert(hash, Ref{Addr: 1})
	}
	others := crowd(r, 20_000)
	rounds := 0
	for range 5 {
		all := allHashes(t, x, func() {
			change := func(hash uint64) { x.Insert(hash, Ref{Addr: 2}) }
			if rounds++; rounds/30%2 == 1 {
				change = func(hash uint64) { x.Remove(hash, 2) }
			}
			for range 300 {
				change(others[r.IntN(len(others))])
			}
			hash := staying[r.IntN(len(staying))]
			if !x.Replace(hash, 1, Ref{Addr: 3}) {
				x.Replace(hash, 3, Ref{Addr: 1})
			}
		})
		for _, hash := range staying {
			if _, found := slices.BinarySearch(all, hash); !found {
				t.Fatalf("%016x was there all the time, and was not met", hash)
			}
		}
	}
}
