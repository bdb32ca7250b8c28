package disk

import (
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larderhq/larder/internal/vfs"
	"github.com/larderhq/larder/store"
)

// faults are what may go wrong with one call.
var faults = []struct {
	name  string
	fault vfs.Fault
}{
	{"EIO", vfs.Fail(syscall.EIO)},
	{"ENOSPC", vfs.Fail(syscall.ENOSPC)},
	{"EROFS", vfs.Fail(syscall.EROFS)},
	{"EMFILE", vfs.Fail(syscall.EMFILE)},
	{"short write", vfs.Short(700, syscall.ENOSPC)},
	{"torn write", vfs.Torn(700, syscall.EIO)},
	{"late EIO", vfs.Late(syscall.EIO)},
	{"bit flip", vfs.FlipBit(4321)},
}

// Each call to the disk may fail once, in any way. No octet is wrong, no call
// fails but as the contract allows, and the next run works.
func TestFaultAtEveryCall(t *testing.T) {
	seed := newSeed(t)
	moments := 0
	for i, f := range faults {
		for n := int64(1 + i); ; n += faultStep {
			w := newWorld(t, seed+uint64(n))
			mem := vfs.NewMem(1 << 30)
			disk := &vfs.Faulty{FS: mem, Hook: func(op vfs.Op) vfs.Fault {
				if op.N == n {
					return f.fault
				}
				return vfs.Fault{}
			}}
			w.live(disk)
			s := mustOpen(t, quiet(tiny(mem)))
			w.verify(s, false)
			w.usable(s)
			s.Close()
			if t.Failed() {
				t.Fatalf("%s at call %d", f.name, n)
			}
			moments++
			if disk.Count() < n {
				break
			}
		}
	}
	t.Logf("%d faults", moments)
}

// live runs two short runs of a store, whatever becomes of them.
func (w *world) live(disk *vfs.Faulty) {
	for range 2 {
		s, err := Open(quiet(tiny(disk)))
		if err != nil {
			continue
		}
		for range 25 {
			w.step(s)
		}
		if w.r.IntN(2) == 0 {
			_ = s.volumeOf(0).checkpoint(ctx) // which may fail, and is of no matter then
		}
		w.verify(s, true)
		s.Close()
	}
}

// A disk that fails for good is out: nothing is found there, nothing is kept, and
// whoever removes is told that it is not certain until the disk has been told to
// begin anew. It is noted once.
func TestOut(t *testing.T) {
	for _, kind := range []vfs.Kind{vfs.OpWriteAt, vfs.OpReadAt, vfs.OpSync} {
		t.Run(string(kind), func(t *testing.T) {
			broken := make(chan struct{})
			disk := &vfs.Faulty{FS: vfs.NewMem(1 << 30), Hook: func(op vfs.Op) vfs.Fault {
				select {
				case <-broken:
					if op.Kind == kind && op.Name == segmentsName {
						return vfs.Fail(syscall.EIO)
					}
				default:
				}
				return vfs.Fault{}
			}}
			opts := tiny(disk)
			var notes []string
			opts.Notes = func(line string) { notes = append(notes, line) }
			s := mustOpen(t, opts)
			var entries []store.Entry
			for range 2 * readFaults {
				entries = append(entries, put(t, s, "k", 100))
			}
			if err := s.Flush(ctx); err != nil {
				t.Fatal(err)
			}
			close(broken)
			// Whatever fails first: reading, writing a tombstone, making it durable.
			err := s.Remove(ctx, store.Key("k"), entries[0].ID)
			<-s.volumeOf(0).out
			if err == nil && kind != vfs.OpReadAt {
				t.Error("Remove succeeded on a disk that does not write")
			}
			if es, err := s.Lookup(ctx, store.Key("k"), nil); len(es) > 0 || err != nil {
				t.Errorf("Lookup finds %d entries, %v", len(es), err)
			}
			if _, err := s.Create(ctx, store.Key("k"), store.Head{}, 1); !errors.Is(err, store.ErrFull) {
				t.Errorf("Create: %v, want ErrFull", err)
			}
			<-s.volumeOf(0).disowned
			if err := s.Remove(ctx, store.Key("k"), entries[1].ID); err != nil {
				t.Errorf("Remove from a disk that is out, and begins anew: %v", err)
			}
			if _, err := s.Open(ctx, store.Key("k"), entries[1].ID, 0, -1); !errors.Is(err, store.ErrGone) {
				t.Errorf("Open: %v, want ErrGone", err)
			}
			if err := s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			if len(notes) != 1 || !strings.Contains(notes[0], "disk 0: taken out") {
				t.Errorf("notes: %q, want one", notes)
			}
		})
	}
}

// put commits size octets under key or fails the test.
func put(t testing.TB, s *Store, key string, size int, replaces ...store.ID) store.Entry {
	t.Helper()
	w, err := s.Create(ctx, store.Key(key), store.Head{Octets: []byte("head")}, int64(size))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort(nil)
	if _, err := w.Write(pattern(key, 0, size)); err != nil {
		t.Fatal(err)
	}
	e, err := w.Commit(ctx, replaces...)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// A disk that hangs keeps nobody for longer than the patience with it.
func TestHang(t *testing.T) {
	for _, kind := range []vfs.Kind{vfs.OpReadAt, vfs.OpWriteAt, vfs.OpSync} {
		t.Run(string(kind), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hang := make(chan struct{})
				var broken bool
				disk := &vfs.Faulty{FS: vfs.NewMem(1 << 30), Hook: func(op vfs.Op) vfs.Fault {
					if broken && op.Kind == kind {
						return vfs.Fault{}.After(hang)
					}
					return vfs.Fault{}
				}}
				opts := tiny(disk)
				opts.Patience = 3 * time.Second
				s := mustOpen(t, opts)
				e := put(t, s, "k", 40_000)
				if err := s.Flush(ctx); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				broken = true
				if kind == vfs.OpReadAt {
					w := within(t, opts.Patience)
					if _, err := s.Open(ctx, store.Key("k"), e.ID, 0, -1); !errors.Is(err, store.ErrGone) {
						t.Errorf("Open: %v, want ErrGone", err)
					}
					w()
				} else {
					w := within(t, 5*opts.Patience)
					if err := s.Remove(ctx, store.Key("k"), e.ID); err == nil {
						t.Error("Remove succeeded on a disk that hangs")
					}
					w()
				}
				w := within(t, 0)
				if es, err := s.Lookup(ctx, store.Key("k"), nil); err != nil || len(es) > 0 {
					t.Errorf("Lookup finds %d entries, %v", len(es), err)
				}
				if _, err := s.Create(ctx, store.Key("k"), store.Head{}, 1); !errors.Is(err, store.ErrFull) {
					t.Errorf("Create: %v, want ErrFull", err)
				}
				w()
				s.Close()
				close(hang)
			})
		})
	}
}

// within fails the test if more than d passes before the result is called.
func within(t *testing.T, d time.Duration) func() {
	began := time.Now()
	return func() {
		t.Helper()
		if took := time.Since(began); took > d {
			t.Errorf("it took %v, want %v at most", took, d)
		}
	}
}

// One bit may turn and a file be cut short, anywhere. No octet is wrong, nothing
// that was removed comes back, and the next run works.
func TestRot(t *testing.T) {
	seed := newSeed(t)
	for _, peace := range []bool{true, false} {
		w := newWorld(t, seed)
		mem := vfs.NewMem(1 << 30)
		s := mustOpen(t, tiny(mem))
		for i := range 120 {
			w.step(s)
			if i == 60 {
				s.volumeOf(0).checkpoint(ctx)
			}
		}
		if peace {
			s.Close()
		} else {
			mem = reboot(s, mem, nil, vfs.ProcessDied)
			w.removed = nil // a tombstone may rot as well
		}
		for i := range flips {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			rotten := mem.Clone()
			what := rot(t, rotten, r)
			s, err := Open(quiet(tiny(rotten)))
			if err != nil {
				t.Fatalf("Open after %s: %v", what, err)
			}
			if i%2 == 0 {
				<-s.Ready()
			}
			w.verify(s, true)
			w.usable(s)
			if s.Stats().Out > 0 {
				t.Errorf("the disk is out after %s", what)
			}
			s.Close()
			if t.Failed() {
				t.Fatalf("in peace %t, flip %d: %s", peace, i, what)
			}
		}
	}
}

// rot spoils one file a little, and says how.
func rot(t testing.TB, mem *vfs.Mem, r *rand.Rand) string {
	t.Helper()
	names, err := mem.List()
	if err != nil {
		t.Fatal(err)
	}
	name := segmentsName
	if r.IntN(2) == 0 {
		name = names[r.IntN(len(names))]
	}
	f, err := mem.Open(name, os.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	if size == 0 {
		return "nothing"
	}
	if r.IntN(10) == 0 {
		if err := f.Truncate(r.Int64N(size)); err != nil {
			t.Fatal(err)
		}
		return "cutting " + name
	}
	if err := mem.Flip(name, r.Int64N(size), r.IntN(8)); err != nil {
		t.Fatal(err)
	}
	return "a flip in " + name
}

// Close does not wait for a disk that hangs, wherever it does.
func TestHangAtClose(t *testing.T) {
	for _, name := range []string{segmentsName, indexPrefix} {
		for _, kind := range []vfs.Kind{vfs.OpWriteAt, vfs.OpSync, vfs.OpRename} {
			synctest.Test(t, func(t *testing.T) {
				hang := make(chan struct{})
				var broken atomic.Bool
				disk := &vfs.Faulty{FS: vfs.NewMem(1 << 30), Hook: func(op vfs.Op) vfs.Fault {
					if broken.Load() && op.Kind == kind && strings.HasPrefix(op.Name, name) {
						return vfs.Fault{}.After(hang)
					}
					return vfs.Fault{}
				}}
				s := mustOpen(t, tiny(disk))
				broken.Store(true)
				put(t, s, "k", 100)
				w := within(t, 5*defaultPatience)
				if err := s.Close(); err != nil {
					t.Errorf("%s of %s hangs: Close: %v", kind, name, err)
				}
				w()
				close(hang)
			})
		}
	}
}
