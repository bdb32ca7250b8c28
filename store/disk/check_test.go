package disk

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/larderhq/larder/internal/vfs"
)

// Check finds nothing on a disk that is whole, after any end of a run, and counts
// what is there.
func TestCheckWhole(t *testing.T) {
	seed := newSeed(t)
	for round := range 10 {
		w := newWorld(t, seed+uint64(round))
		mem := vfs.NewMem(1 << 30)
		s := mustOpen(t, quiet(tiny(mem)))
		for range 60 {
			w.step(s)
		}
		n := w.verify(s, false)
		if _, err := Check(mem, false, nil); !errors.Is(err, vfs.ErrLocked) {
			t.Errorf("Check of a disk in use: %v", err)
		}
		if round%2 == 0 {
			s.Close()
		} else {
			if err := s.Flush(ctx); err != nil {
				t.Fatal(err)
			}
			mem = reboot(s, mem, nil, vfs.ProcessDied)
		}
		sum, err := Check(mem, false, func(f Finding) { t.Errorf("round %d: %v", round, f) })
		if err != nil || sum.Damaged != 0 || sum.Objects != n || sum.Segments != 16 {
			t.Errorf("round %d: %+v, %v; want %d entries", round, sum, err, n)
		}
		s = mustOpen(t, quiet(tiny(mem)))
		if after := w.verify(s, false); after != n {
			t.Errorf("%d entries after Check, %d before", after, n)
		}
		s.Close()
	}
}

// A crash in the middle of a record is no damage: it was never committed.
func TestCheckTorn(t *testing.T) {
	for _, octets := range []int{unit, 3 * unit} {
		mem := vfs.NewMem(1 << 30)
		var torn atomic.Bool
		disk := &vfs.Faulty{FS: mem, Hook: func(op vfs.Op) vfs.Fault {
			switch {
			case torn.Load():
				return vfs.Fail(vfs.ErrCrashed)
			case op.Kind == vfs.OpWriteAt && op.Name == segmentsName && op.Len > 5*unit:
				torn.Store(true)
				return vfs.Torn(octets, vfs.ErrCrashed)
			}
			return vfs.Fault{}
		}}
		s := mustOpen(t, quiet(tiny(disk)))
		whole := put(t, s, "whole", 100)
		if err := s.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		put(t, s, "torn", 10*unit)
		<-s.volumeOf(0).out
		s.Close()
		for range 2 {
			if sum, err := Check(mem, false, func(f Finding) { t.Errorf("%d octets of it: %v", octets, f) }); err != nil || sum.Objects != 1 {
				t.Errorf("%d octets of it: %+v, %v", octets, sum, err)
			}
			s = mustOpen(t, quiet(tiny(mem)))
			if ids := found(t, s, "whole"); len(ids) != 1 || ids[0] != whole.ID {
				t.Errorf("what was written before is %v", ids)
			}
			if ids := found(t, s, "torn"); len(ids) > 0 {
				t.Errorf("what is torn is %v", ids)
			}
			s.Close()
		}
	}
}

// What is damaged is found and, with repair, forgotten: a second Check finds
// nothing, the rest is there, and what was removed stays away.
func TestCheckRepair(t *testing.T) {
	seed := newSeed(t)
	w := newWorld(t, seed)
	whole := vfs.NewMem(1 << 30)
	s := mustOpen(t, quiet(tiny(whole)))
	for range 100 {
		w.step(s)
	}
	n := w.verify(s, false)
	s.Close()
	damaged := 0
	for i := range flips {
		mem := whole.Clone()
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		what := rot(t, mem, r)
		sum, err := Check(mem, true, nil)
		if errors.Is(err, errFormat) || errors.Is(err, errNotSuper) {
			continue // a superblock
		}
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		damaged += sum.Damaged
		again, err := Check(mem, true, func(f Finding) { t.Errorf("%s, after repair: %v", what, f) })
		if err != nil || again.Damaged > 0 || again.Gone > 0 || again.Repaired || again.Objects != sum.Objects {
			t.Errorf("%s: first %+v, then %+v, %v", what, sum, again, err)
		}
		s := mustOpen(t, quiet(tiny(mem)))
		if after := w.verify(s, false); after != sum.Objects || after > n {
			t.Errorf("%s: %d entries after repair, Check counted %d of %d", what, after, sum.Objects, n)
		}
		w.usable(s)
		s.Close()
		if t.Failed() {
			t.FailNow()
		}
	}
	if damaged < flips/10 { // much of a disk is empty
		t.Errorf("%d findings after %d times of damage", damaged, flips)
	}
}

// What is no disk of ours is not checked, and not changed.
func TestCheckNothing(t *testing.T) {
	mem := vfs.NewMem(1 << 20)
	if _, err := Check(mem, true, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Check of an empty folder: %v", err)
	}
	if names, _ := mem.List(); len(names) > 1 {
		t.Errorf("it left %q", names)
	}
}
