package disk

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larderhq/larder/internal/vfs"
	"github.com/larderhq/larder/store"
)

// shownBy returns what s shows, by ID, and fails the test if it shows one twice. at is
// called when the first is shown.
func shownBy(t *testing.T, s *Store, at func()) map[store.ID]store.Entry {
	t.Helper()
	seen := map[store.ID]store.Entry{}
	err := s.Walk(ctx, func(_ store.Key, e store.Entry, _ []byte) bool {
		if len(seen) == 0 && at != nil {
			at()
		}
		if _, twice := seen[e.ID]; twice && at == nil {
			t.Errorf("entry %d is shown twice", e.ID)
		}
		seen[e.ID] = e
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return seen
}

// Entries whose records are written again elsewhere while somebody walks are shown,
// also where the walk had already learnt where they were, or was reading there.
func TestWalkWhileMoved(t *testing.T) {
	for _, reading := range []bool{false, true} {
		t.Run(fmt.Sprint("reading=", reading), func(t *testing.T) {
			var read atomic.Pointer[func()]
			opts := tiny(&vfs.Faulty{FS: vfs.NewMem(1 << 30), Hook: func(op vfs.Op) vfs.Fault {
				if op.Kind == vfs.OpReadAt && op.Name == segmentsName {
					if do := read.Swap(nil); do != nil {
						(*do)()
					}
				}
				return vfs.Fault{}
			}})
			opts.Patience = time.Hour
			s := mustOpen(t, opts)
			hot := newHot(t, s)
			move := func() { fill(t, s, 20, 8000, hot.use) }
			at := move
			if reading {
				if err := s.Flush(ctx); err != nil {
					t.Fatal(err)
				}
				read.Store(&move)
				at = func() {}
			}
			seen := shownBy(t, s, at)
			if s.Stats().Moved < int64(len(hot.all)) {
				t.Fatal("not all have moved")
			}
			there := 0
			for id, key := range hot.all {
				if !slices.Contains(found(t, s, key), id) {
					continue
				}
				there++
				if _, ok := seen[id]; !ok {
					t.Errorf("entry %d has moved, and was not shown", id)
				}
			}
			if there < len(hot.all)/2 {
				t.Errorf("%d of %d entries stayed", there, len(hot.all))
			}
		})
	}
}

// hot are entries that are used again and again: one that lies first of all, and
// others in pairs.
type hot struct {
	t   *testing.T
	s   *Store
	all map[store.ID]string
}

func newHot(t *testing.T, s *Store) *hot {
	h := &hot{t, s, map[store.ID]string{}}
	h.all[put(t, s, "alone", 500).ID] = "alone"
	for i := range 20 {
		key := fmt.Sprint("hot ", i)
		h.all[put(t, s, key, 500).ID] = key
		h.all[put(t, s, key, 700).ID] = key
		put(t, s, "cold", 12_000) // so that no segment has more of them than are written again
	}
	h.use()
	return h
}

func (h *hot) use() {
	for id, key := range h.all {
		if r, err := h.s.Open(ctx, store.Key(key), id, 0, -1); err == nil {
			r.Close()
		}
	}
}

// Walk waits until what an earlier run left can be found.
func TestWalkWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem(1 << 30)
		s := mustOpen(t, tiny(mem))
		want := map[store.ID]bool{}
		for i := range 40 {
			want[put(t, s, fmt.Sprint(i), 3000).ID] = true
		}
		if err := s.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		mem = reboot(s, mem, nil, vfs.ProcessDied)
		hold := make(chan struct{})
		opts := tiny(&vfs.Faulty{FS: mem, Hook: func(op vfs.Op) vfs.Fault {
			if op.Kind == vfs.OpReadAt && op.Name == segmentsName && op.Off < 64<<10 {
				return vfs.Fault{}.After(hold)
			}
			return vfs.Fault{}
		}})
		opts.Patience = time.Hour
		s, err := Open(opts)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		done := make(chan map[store.ID]store.Entry)
		go func() { done <- shownBy(t, s, nil) }()
		synctest.Wait()
		close(hold)
		seen := <-done
		for id := range want {
			if _, ok := seen[id]; !ok {
				t.Errorf("entry %d is not shown", id)
			}
		}
	})
}

// What is lent is not shown, and of an entry that came back from memory in a later
// revision that one alone.
func TestWalkOfLent(t *testing.T) {
	s := mustOpen(t, tiny(vfs.NewMem(1<<30)))
	var marks []uint64
	o := object(s, "k", 1, 100)
	other := object(s, "k", 2, 100)
	for _, o := range []*store.Object{o, other} {
		if err := s.Put(o); err != nil {
			t.Fatal(err)
		}
		k, err := s.Get(ctx, o.Key, o.ID)
		if err != nil {
			t.Fatal(err)
		}
		marks = append(marks, k.Mark)
		k.Close()
	}
	want := func(when string, want ...store.Entry) {
		t.Helper()
		seen := shownBy(t, s, nil)
		for _, e := range want {
			if seen[e.ID] != e {
				t.Errorf("%s: %+v is shown, want %+v", when, seen[e.ID], e)
			}
		}
		if len(seen) != len(want) {
			t.Errorf("%s: %d are shown, want %d", when, len(seen), len(want))
		}
	}
	one, two := store.Entry{ID: o.ID, Rev: 3, Size: 100}, store.Entry{ID: other.ID, Rev: 3, Size: 100}
	want("both there", one, two)
	s.Lend(o.Key, marks[0])
	want("one lent", two)
	s.Lend(o.Key, marks[1])
	want("both lent")
	s.Return(o.Key, marks[1])
	o.Rev++
	if err := s.Put(o); err != nil {
		t.Fatal(err)
	}
	one.Rev++
	want("one come back amended", one, two)
	s.Return(o.Key, marks[0])
	want("and the older record there", one, two)
}

// What is damaged is not shown, and what cannot be read neither: both are forgotten,
// and all others are shown.
func TestWalkOfDamaged(t *testing.T) {
	for name, fault := range map[string]vfs.Fault{
		"unreadable": vfs.Fail(syscall.EIO), "header": vfs.FlipBit(100), "key": vfs.FlipBit(headerLen * 8), "head": vfs.FlipBit((headerLen + 1 + 4) * 8),
	} {
		t.Run(name, func(t *testing.T) {
			var off int64
			disk := newBreaker(vfs.NewMem(1<<30), fault, func(op vfs.Op) bool {
				return op.Kind == vfs.OpReadAt && op.Name == segmentsName && op.Off == off
			})
			s := mustOpen(t, quiet(tiny(disk)))
			var all []store.Entry
			for i := range 20 {
				all = append(all, put(t, s, fmt.Sprint(i), 3000))
			}
			if err := s.Flush(ctx); err != nil {
				t.Fatal(err)
			}
			v := s.volumeOf(0)
			off = int64(v.index.Find(v.key.sum([]byte("7")), nil)[0].Addr) * unit
			disk.on.Store(true)
			seen := shownBy(t, s, nil)
			disk.on.Store(false)
			for i, e := range all {
				if _, ok := seen[e.ID]; ok != (i != 7) {
					t.Errorf("entry %d of %d is shown: %t", i, len(all), ok)
				}
			}
			if ids := found(t, s, "7"); len(ids) > 0 {
				t.Errorf("%d was not shown, and is there", ids)
			}
		})
	}
}

// A disk that is out, or goes out meanwhile, shows nothing more, and the others all
// they have.
func TestWalkOfDiskThatIsOut(t *testing.T) {
	disks := []*flaky{newFlaky(), newFlaky()}
	opts := quiet(tiny(disks[0], disks[1]))
	s := mustOpen(t, opts)
	homes := [2]map[store.ID]bool{{}, {}}
	for i := range 60 {
		key := fmt.Sprint(i)
		e := put(t, s, key, 500)
		v, _ := s.home(store.Key(key))
		if v == s.volumeOf(1) {
			homes[1][e.ID] = true
		} else {
			homes[0][e.ID] = true
		}
	}
	n := 0
	for when, at := range []func(){func() { s.volumeOf(0).fail(errors.New("broken by the test")) }, nil} {
		seen := shownBy(t, s, at)
		for id := range homes[1] {
			if _, ok := seen[id]; !ok {
				t.Errorf("walk %d does not show entry %d of the disk that works", when, id)
			}
			delete(seen, id)
		}
		if n = len(seen); n != 1-when {
			t.Errorf("walk %d shows %d entries of the disk that is out", when, n)
		}
	}
}

// What a disk kept for another one, while that was out, is not shown once the other
// is back: its key may have been forgotten there since.
func TestWalkOfWhatDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disks := []*flaky{newFlaky(), newFlaky()}
		s := mustOpen(t, quiet(tiny(disks[0], disks[1])))
		disks[1].broken.Store(true)
		for i := range 60 { // until it notices
			_ = s.Put(object(s, fmt.Sprint(i), 1, 500))
		}
		synctest.Wait()
		if st := s.Stats(); st.Out != 1 {
			t.Fatalf("%+v", st)
		}
		for i := range 60 { // all that the first disk gets now
			put(t, s, fmt.Sprint(i), 500)
		}
		disks[1].broken.Store(false)
		time.Sleep(2 * firstRetry)
		synctest.Wait()
		if st := s.Stats(); st.Out != 0 {
			t.Fatalf("%+v", st)
		}
		there := 0
		seen := shownBy(t, s, nil)
		for i := range 60 {
			for _, id := range found(t, s, fmt.Sprint(i)) {
				if _, ok := seen[id]; !ok {
					t.Errorf("entry %d is not shown", id)
				}
				there++
			}
		}
		if len(seen) != there || there == 0 {
			t.Errorf("%d entries are shown, and %d are there", len(seen), there)
		}
		s.Close()
	})
}

// To be shown is no use: what is not used leaves, though somebody walks.
func TestWalkIsNoUse(t *testing.T) {
	s := mustOpen(t, tiny(vfs.NewMem(1<<30)))
	for i := range 20 {
		put(t, s, fmt.Sprint(i), 500)
	}
	for range 3 {
		shownBy(t, s, nil)
	}
	v := s.volumeOf(0)
	for i := range 20 {
		for _, ref := range v.index.Find(v.key.sum(fmt.Append(nil, i)), nil) {
			if ref.Hits > 0 {
				t.Fatalf("what was shown counts as used %d times", ref.Hits)
			}
		}
	}
	if st := s.Stats(); st.Hits > 0 {
		t.Errorf("%+v", st)
	}
}
