package disk

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/larderhq/larder/internal/vfs"
	"github.com/larderhq/larder/store"
)

// A held disk keeps recovery from beginning until it is told to let go.
type held struct {
	vfs.Faulty
	lists atomic.Int64
	free  chan struct{}
}

func newHeld(fsys vfs.FS) *held {
	h := &held{free: make(chan struct{})}
	h.FS = fsys
	h.Hook = func(op vfs.Op) vfs.Fault {
		if op.Kind == vfs.OpList && h.lists.Add(1) > 1 { // the first is part of Open
			return vfs.Fault{}.After(h.free)
		}
		return vfs.Fault{}
	}
	return h
}

// letGo has recovery go on and come to its end.
func (h *held) letGo(s *Store) {
	close(h.free)
	<-s.Ready()
}

// openHeld opens a store that is still being recovered.
func openHeld(t *testing.T, mem ...*vfs.Mem) (s *Store, disks []*held) {
	t.Helper()
	var fsys []vfs.FS
	for _, m := range mem {
		h := newHeld(m)
		disks, fsys = append(disks, h), append(fsys, h)
	}
	s, err := Open(quiet(tiny(fsys...)))
	if err != nil {
		t.Fatal(err)
	}
	return s, disks
}

// endings are the ways a run may end, and what a restart must find then.
var endings = map[string]func(t *testing.T, s *Store, mem *vfs.Mem) *vfs.Mem{
	"in peace": func(t *testing.T, s *Store, mem *vfs.Mem) *vfs.Mem {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return mem
	},
	"killed": func(t *testing.T, s *Store, mem *vfs.Mem) *vfs.Mem {
		if err := s.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		return reboot(s, mem, nil, vfs.ProcessDied)
	},
	"killed after a checkpoint": func(t *testing.T, s *Store, mem *vfs.Mem) *vfs.Mem {
		if err := s.volumeOf(0).checkpoint(ctx); err != nil {
			t.Fatal(err)
		}
		return reboot(s, mem, nil, vfs.ProcessDied)
	},
}

// What is forgotten before it was found after a restart is not found later, and
// what is committed afterwards is not touched: in this run, and in those that
// follow, however they end.
func TestForgetDuringRecovery(t *testing.T) {
	for before, end := range endings {
		for after, endAgain := range endings {
			t.Run(before+", "+after, func(t *testing.T) {
				mem := vfs.NewMem(1 << 30)
				s := mustOpen(t, tiny(mem))
				put(t, s, "k", 100)
				put(t, s, "k", 30_000)
				other := put(t, s, "other", 100)
				mem = end(t, s, mem)

				s, disks := openHeld(t, mem)
				defer s.Close()
				fresh := put(t, s, "k", 200)
				if ids := found(t, s, "k"); !slices.Equal(ids, []store.ID{fresh.ID}) {
					t.Fatalf("recovery is not held back: %v", ids)
				}
				if err := s.Forget(ctx, store.Key("k")); err != nil {
					t.Fatal(err)
				}
				if ids := found(t, s, "k"); len(ids) > 0 {
					t.Errorf("Forget leaves %v", ids)
				}
				now := put(t, s, "k", 300)
				want := func(s *Store, when string) {
					t.Helper()
					if ids := found(t, s, "k"); !slices.Equal(ids, []store.ID{now.ID}) {
						t.Errorf("%s there are %v, want %d", when, ids, now.ID)
					}
					if ids := found(t, s, "other"); !slices.Equal(ids, []store.ID{other.ID}) {
						t.Errorf("%s another key has %v, want %d", when, ids, other.ID)
					}
				}
				disks[0].letGo(s)
				want(s, "after recovery")
				for i := range 2 {
					mem = endAgain(t, s, mem)
					s = mustOpen(t, tiny(mem))
					want(s, fmt.Sprintf("after %d restarts", i+1))
				}
			})
		}
	}
}

// Whoever was told that a key is forgotten may rely on it, even if nothing of
// what it had was read again before the process was killed or power was lost.
func TestKilledAfterForget(t *testing.T) {
	for before, end := range endings {
		for _, mode := range []vfs.CrashMode{vfs.ProcessDied, vfs.UnsyncedLost} {
			t.Run(fmt.Sprintf("%s, mode %d", before, mode), func(t *testing.T) {
				mem := vfs.NewMem(1 << 30)
				s := mustOpen(t, tiny(mem))
				put(t, s, "k", 100)
				put(t, s, "k", 30_000)
				put(t, s, "other", 100)
				if err := s.volumeOf(0).checkpoint(ctx); err != nil { // which syncs
					t.Fatal(err)
				}
				mem = end(t, s, mem)
				for range 2 { // a run that was killed during recovery is followed by another
					s, disks := openHeld(t, mem)
					if err := s.Forget(ctx, store.Key("k")); err != nil {
						t.Fatal(err)
					}
					after := mem.Clone().Crash(nil, mode)
					disks[0].letGo(s)
					s.Close()
					mem = after
				}
				for i := range 2 {
					s = mustOpen(t, tiny(mem))
					if ids := found(t, s, "k"); len(ids) > 0 {
						t.Errorf("after %d restarts %v are back", i+1, ids)
					}
					if ids := found(t, s, "other"); len(ids) != 1 {
						t.Errorf("after %d restarts another key has %v", i+1, ids)
					}
					s.Close()
				}
			})
		}
	}
}

// On several disks too, and with one of them gone meanwhile: what was forgotten
// does not come back with it.
func TestForgetOnSeveralDisks(t *testing.T) {
	mems := []*vfs.Mem{vfs.NewMem(1 << 30), vfs.NewMem(1 << 30), vfs.NewMem(1 << 30)}
	s := mustOpen(t, tiny(mems[0], mems[1], mems[2]))
	const keys = 60
	for i := range keys {
		put(t, s, fmt.Sprint(i), 100)
	}
	s.Close()
	for _, gone := range []int{-1, 1} {
		var now []*vfs.Mem
		for i, m := range mems {
			if i != gone {
				now = append(now, m.Clone())
			}
		}
		s, disks := openHeld(t, now...)
		for i := range keys / 2 {
			if err := s.Forget(ctx, store.Key(fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
		}
		var after []vfs.FS
		for _, m := range now {
			after = append(after, m.Clone().Crash(nil, vfs.ProcessDied))
		}
		for _, d := range disks {
			close(d.free)
		}
		s.Close()
		if gone >= 0 {
			after = slices.Insert(after, gone, vfs.FS(mems[gone].Clone()))
		}
		s = mustOpen(t, quiet(tiny(after...)))
		left := 0
		for i := range keys {
			ids := found(t, s, fmt.Sprint(i))
			if left += len(ids); i < keys/2 && len(ids) > 0 {
				t.Errorf("without disk %d: key %d has %v", gone, i, ids)
			}
		}
		if gone < 0 && left != keys/2 || left < keys/8 {
			t.Errorf("without disk %d: %d entries are left of %d that were not forgotten", gone, left, keys/2)
		}
		s.Close()
	}
}

// Whoever finds nothing to remove waits for the disk only if somebody has just
// taken it away: then it must not say so before that one may.
func TestRemoveOfNothing(t *testing.T) {
	for name, takeAway := range map[string]func(t *testing.T, s *Store, e store.Entry){
		"removed": func(t *testing.T, s *Store, e store.Entry) {
			go s.Remove(ctx, store.Key("k"), e.ID)
		},
		"replaced": func(t *testing.T, s *Store, e store.Entry) {
			put(t, s, "k", 200, e.ID)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hang := make(chan struct{})
				var busy bool
				disk := &vfs.Faulty{FS: vfs.NewMem(1 << 30), Hook: func(op vfs.Op) vfs.Fault {
					if busy && op.Kind == vfs.OpSync {
						return vfs.Fault{}.After(hang)
					}
					return vfs.Fault{}
				}}
				s := mustOpen(t, tiny(disk))
				e := put(t, s, "k", 100)
				synctest.Wait()
				busy = true
				takeAway(t, s, e)
				synctest.Wait()

				remove := func(key string) chan error {
					done := make(chan error, 1)
					go func() { done <- s.Remove(ctx, store.Key(key), e.ID) }()
					synctest.Wait()
					return done
				}
				another, same := remove("another"), remove("k")
				if len(another) == 0 {
					t.Error("another key's waits")
				}
				if len(same) > 0 {
					t.Error("that of the same does not wait")
				}
				close(hang)
				for _, done := range []chan error{another, same} {
					if err := <-done; err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}
