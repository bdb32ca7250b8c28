package tier

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/larderhq/larder/internal/vfs"
	"github.com/larderhq/larder/store"
)

// shownBy returns how often s shows each entry. at is called when the first is shown.
func shownBy(t *testing.T, s *Store, at func()) map[store.ID]int {
	t.Helper()
	seen := map[store.ID]int{}
	err := s.Walk(ctx, func(_ store.Key, e store.Entry, _ []byte) bool {
		if len(seen) == 0 && at != nil {
			at()
		}
		seen[e.ID]++
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return seen
}

// below puts n small entries on disk, past memory, two under each key, and returns
// these.
func below(t *testing.T, s *Store, n int) map[store.ID]store.Key {
	t.Helper()
	all := map[store.ID]store.Key{}
	for i := range n {
		o := &store.Object{Key: fmt.Appendf(nil, "below %d", i/2), ID: s.disk.NextID(), Size: 10, Body: store.Octets(make([]byte, 10))}
		if err := s.disk.Put(o); err != nil {
			t.Fatal(err)
		}
		all[o.ID] = o.Key
	}
	return all
}

// What comes back to memory when the walk has been there, and is not on disk when it
// gets there, is shown all the same, also if it is more than a walk remembers.
func TestWalkWhileRaised(t *testing.T) {
	for _, n := range []int{1, notesKept / 2, notesKept + 500} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			s := over(t, vfs.NewMem(1<<30), 16<<20)
			above := mustPut(t, s, "above", 1, 10)
			lower := below(t, s, n)
			seen := shownBy(t, s, func() {
				for id, key := range lower {
					s.raise(key, id)
				}
				if st := s.memory.Stats(); st.Objects != n+1 {
					t.Fatalf("%d entries are in memory, want %d", st.Objects, n+1)
				}
			})
			if lower[above.ID] = nil; len(seen) != len(lower) {
				t.Errorf("%d entries are shown, want %d", len(seen), len(lower))
			}
		})
	}
}

// What comes back to memory and leaves it again, over and over, is shown.
func TestWalkWhileRaisedAndSunk(t *testing.T) {
	s := over(t, vfs.NewMem(1<<30), 64<<10)
	mustPut(t, s, "above", 1, 10)
	lower := below(t, s, 3000) // many times what memory holds
	seen := shownBy(t, s, func() {
		for id, key := range lower {
			s.raise(key, id)
		}
	})
	for id := range lower {
		if seen[id] == 0 {
			t.Fatalf("of %d entries some are not shown", len(lower))
		}
	}
}

// An entry that nobody moves is shown by the tier it is in, and by no other: what
// the disk has lent it does not even read.
func TestWalkShowsOnce(t *testing.T) {
	fs := &watchedFS{FS: vfs.NewMem(1 << 30)}
	s := over(t, fs, 4<<20)
	lower := below(t, s, 100)
	if err := s.disk.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	raised := store.ID(0)
	for n, reads := range []bool{true, true, false} {
		read := false
		watch := func() { read = true }
		fs.read.Store(&watch)
		seen := shownBy(t, s, nil)
		fs.read.Store(nil)
		for id := range lower {
			if seen[id] != 1 {
				t.Errorf("walk %d shows entry %d %d times", n, id, seen[id])
			}
		}
		if read != reads {
			t.Errorf("walk %d read from the disk: %t, want %t", n, read, reads)
		}
		for id, key := range lower { // those with odd IDs at first
			if id%2 != raised {
				s.raise(key, id)
			}
		}
		raised = 1
	}
}

// What comes back while a walk goes on is shown as it goes on, and not in another
// round, however much it is.
func TestWalkKeepsUp(t *testing.T) {
	s := over(t, vfs.NewMem(1<<30), 16<<20)
	const each, upper = 100, 2 * notesKept / 100
	var above []store.ID
	for i := range upper {
		above = append(above, mustPut(t, s, fmt.Sprint("above ", i), 1, 10).ID)
	}
	lower := below(t, s, each*upper)
	ids := slices.Collect(maps.Keys(lower))
	seen := map[store.ID]int{}
	err := s.Walk(ctx, func(_ store.Key, e store.Entry, _ []byte) bool {
		if seen[e.ID]++; lower[e.ID] != nil {
			return true
		}
		n := min(each, len(ids))
		for _, id := range ids[:n] {
			s.raise(lower[id], id)
		}
		ids = ids[n:]
		return true
	})
	if err != nil || len(seen) != len(lower)+upper {
		t.Errorf("%d entries are shown, want %d, or %v", len(seen), len(lower)+upper, err)
	}
	for _, id := range above {
		if seen[id] != 1 {
			t.Fatalf("entry %d, which stayed where it was, is shown %d times", id, seen[id])
		}
	}
}
