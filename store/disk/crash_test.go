package disk

import (
	"math/rand/v2"
	"testing"

	"github.com/larderhq/larder/internal/vfs"
)

// A restart finds what was there, and nothing that was not: whether the last run
// ended in peace or was killed, and how often.
func TestRestarts(t *testing.T) {
	seed := newSeed(t)
	w := newWorld(t, seed)
	mem := vfs.NewMem(1 << 30)
	for round := range histories {
		s, err := Open(tiny(mem))
		if err != nil {
			t.Fatal(err)
		}
		if round%3 > 0 {
			<-s.Ready()
		}
		for range 20 + w.r.IntN(60) {
			w.step(s)
		}
		if w.stopped || s.Stats().Out > 0 {
			t.Fatalf("Remove failed: %t; %+v", w.stopped, s.Stats())
		}
		<-s.Ready()
		before := w.verify(s, false)
		switch round % 4 {
		case 0:
			mem = reboot(s, mem, nil, vfs.ProcessDied)
		default:
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s := mustOpen(t, quiet(tiny(mem)))
			if after := w.verify(s, false); after != before {
				t.Errorf("round %d: %d entries after a restart in peace, and %d before", round, after, before)
			}
			s.Close()
		}
		if t.Failed() {
			return
		}
	}
}

// reboot ends s without peace.
func reboot(s *Store, mem *vfs.Mem, chance vfs.Chance, mode vfs.CrashMode) *vfs.Mem {
	after := mem.Clone().Crash(chance, mode)
	s.Close()
	return after
}

func quiet(opts Options) Options {
	opts.Notes = func(string) {}
	return opts
}

// The process or the machine may die at each call to the disk. Then the store
// opens, has no wrong octet, has nothing that was acknowledged as gone, and works.
func TestCrashAtEveryCall(t *testing.T) {
	seed := newSeed(t)
	calls := 0
	for n := int64(1); ; n += crashStep {
		w := newWorld(t, seed)
		mem := vfs.NewMem(1 << 30)
		crashed := w.crashAt(mem, n)
		for mode := vfs.ProcessDied; mode <= vfs.PowerCutWide; mode++ {
			chance := rand.New(rand.NewPCG(seed, uint64(n)))
			w.afterCrash(mem.Clone().Crash(chance, mode), mode, chance)
			if t.Failed() {
				t.Fatalf("crash at call %d, mode %d", n, mode)
			}
		}
		calls++
		if !crashed {
			break
		}
	}
	t.Logf("%d moments, four crashes each", calls)
}

// crashAt runs a history that the n-th call to the disk ends. It reports whether
// it came so far.
func (w *world) crashAt(mem *vfs.Mem, n int64) bool {
	disk := &vfs.Faulty{FS: mem, Hook: vfs.CrashNth(n)}
	opts := quiet(tiny(disk))
	for range 3 {
		s, err := Open(opts)
		if err != nil {
			break
		}
		for i := 0; i < 30 && disk.Count() < n; i++ {
			w.step(s)
		}
		if disk.Count() < n {
			s.volumeOf(0).checkpoint(ctx)
		}
		s.Close()
	}
	return disk.Count() >= n
}

func (s *Store) volumeOf(i int) *volume { return s.disks[i].volume.Load() }

// afterCrash holds what a crash left to what a store must be then.
func (w *world) afterCrash(mem *vfs.Mem, mode vfs.CrashMode, chance vfs.Chance) {
	for round := range 2 {
		s, err := Open(quiet(tiny(mem)))
		if err != nil {
			w.t.Errorf("Open after a crash: %v", err)
			return
		}
		if round > 0 {
			<-s.Ready()
		}
		w.verify(s, mode != vfs.ProcessDied)
		w.usable(s)
		<-s.Ready()
		w.verify(s, mode != vfs.ProcessDied)
		if s.Stats().Out > 0 {
			w.t.Error("the disk is out after a crash")
		}
		if round == 0 && chance.IntN(2) == 0 {
			mem = reboot(s, mem, chance, mode)
		} else {
			s.Close()
		}
	}
}
