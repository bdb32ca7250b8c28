package memory

import (
	"encoding/binary"
	"testing"

	"github.com/larderhq/larder/store"
)

// smallKey is the key of the small entry id.
func smallKey(id store.ID) store.Key {
	return append(binary.BigEndian.AppendUint64(nil, uint64(id)), "a key of forty octets: 32 more"...)
}

// putSmall puts entries of some 200 octets, with the IDs from first to last.
func putSmall(s *Store, first, last store.ID) {
	head, body := make([]byte, 100), make([]byte, 40)
	for id := first; id <= last; id++ {
		o := store.Object{Key: smallKey(id), ID: id, Head: store.Head{Octets: head}, Size: int64(len(body)), Body: store.Octets(body)}
		_ = s.Put(&o) // who is refused is the store's affair
	}
}

// Entries that get other numbers while somebody walks, to close up after most of
// their neighbours have left, are shown all the same: who walked up would miss them.
func TestWalkWhileRenumbered(t *testing.T) {
	both(t, func(t *testing.T, heap bool) {
		s := New(Options{Budget: 8 << 20, Heap: heap})
		defer s.Close()
		const n = 6000
		putSmall(s, 1, n)
		sh := &s.shards[0]
		seen := map[store.ID]bool{}
		err := s.Walk(ctx, func(_ store.Key, e store.Entry, _ []byte) bool {
			if seen[e.ID] = true; len(seen) != n/2 {
				return true
			}
			for id := store.ID(1); id <= n; id++ {
				if id%10 != 0 {
					if err := s.Remove(ctx, smallKey(id), id); err != nil {
						t.Error(err)
					}
				}
			}
			sh.mu.Lock()
			defer sh.mu.Unlock()
			before := sh.book.there
			for sh.compact() {
			}
			if sh.book.there > before/4 {
				t.Errorf("of %d pages of entries there are %d yet: nobody has moved", before, sh.book.there)
			}
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		for id := store.ID(10); id <= n; id += 10 {
			if !seen[id] {
				t.Fatalf("entry %d stayed, and was not shown", id)
			}
		}
	})
}

// To be shown is no use: those leave that would have left if nobody had walked.
func TestWalkIsNoUse(t *testing.T) {
	both(t, func(t *testing.T, heap bool) {
		left := func(s *Store, walks int) (left [5001]bool) {
			defer s.Close()
			putSmall(s, 1, 2000)
			for id := store.ID(1); id <= 2000; id += 3 {
				if r, err := s.Open(ctx, smallKey(id), id, 0, 0); err == nil {
					r.Close()
				}
			}
			n := 0
			for range walks {
				err := s.Walk(ctx, func(_ store.Key, e store.Entry, _ []byte) bool {
					n++
					return n%700 != 0 // some are shown more often than others
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			for range 3 {
				putSmall(s, 2001, 5000)
			}
			for id := range store.ID(len(left)) {
				es, err := s.Lookup(ctx, smallKey(id), nil)
				if err != nil {
					t.Fatal(err)
				}
				left[id] = len(es) == 0
			}
			if s.Stats().Evictions == 0 {
				t.Error("nobody left")
			}
			return left
		}
		one := New(Options{Budget: 512 << 10, Heap: heap, Seed: 1})
		other := New(Options{Budget: 512 << 10, Heap: heap, Seed: 1})
		other.seed = one.seed
		if left(one, 0) != left(other, 5) {
			t.Error("others left because somebody walked")
		}
	})
}

// BenchmarkWalk walks over a million entries of some 200 octets.
func BenchmarkWalk(b *testing.B) {
	s := New(Options{Budget: 600 << 20})
	defer s.Close()
	putSmall(s, 1, 1_000_000)
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		if err := s.Walk(ctx, func(store.Key, store.Entry, []byte) bool { n++; return true }); err != nil || n != s.Stats().Objects {
			b.Fatal(n, err)
		}
		b.ReportMetric(float64(n), "entries/op")
	}
}
