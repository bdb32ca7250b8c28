package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larderhq/larder/internal/vfs"
	"github.com/larderhq/larder/store"
)

// A breaker breaks a disk: once it is on, the calls that it is about fail, or wait.
type breaker struct {
	vfs.Faulty
	on atomic.Bool
}

func newBreaker(fsys vfs.FS, fault vfs.Fault, about func(op vfs.Op) bool) *breaker {
	b := &breaker{}
	b.FS = fsys
	b.Hook = func(op vfs.Op) vfs.Fault {
		if b.on.Load() && about(op) {
			return fault
		}
		return vfs.Fault{}
	}
	return b
}

// A disk that was taken out does not hear of what is removed: it begins anew when
// it is opened again, whatever it was that failed, and however the run ended.
func TestOutBeginsAnew(t *testing.T) {
	for _, kind := range []vfs.Kind{vfs.OpReadAt, vfs.OpWriteAt, vfs.OpSync} {
		for _, killed := range []bool{true, false} {
			t.Run(fmt.Sprint(kind, killed), func(t *testing.T) {
				mem := vfs.NewMem(1 << 30)
				disk := newBreaker(mem, vfs.Fail(syscall.EIO), func(op vfs.Op) bool { return op.Kind == kind && op.Name == segmentsName })
				s := mustOpen(t, quiet(tiny(disk)))
				var last store.Entry
				for i := range 2 * readFaults {
					last = put(t, s, fmt.Sprint(i), 100)
				}
				if err := s.Flush(ctx); err != nil {
					t.Fatal(err)
				}
				disk.on.Store(true)
				for i := range 2 * readFaults {
					_ = s.Remove(ctx, store.Key(fmt.Sprint(i)), last.ID) // another key's: it has to look
				}
				v := s.volumeOf(0)
				if kind == vfs.OpReadAt {
					<-v.out
				} else {
					_ = s.Forget(ctx, store.Key("0")) // it may fail: the disk does not write
				}
				<-v.disowned
				if killed {
					mem = reboot(s, mem, nil, vfs.ProcessDied)
				} else {
					s.Close()
				}

				var notes []string
				opts := tiny(mem)
				opts.Notes = func(line string) { notes = append(notes, line) }
				s = mustOpen(t, opts)
				if n := s.Stats().Objects; n > 0 {
					t.Errorf("%d entries are back", n)
				}
				if len(notes) != 1 || !strings.Contains(notes[0], "begins anew") {
					t.Errorf("notes: %q", notes)
				}
				if e := put(t, s, "new", 100); e.ID <= last.ID {
					t.Errorf("the ID %d was given after %d", e.ID, last.ID)
				}
				s.Close()
				s = mustOpen(t, opts)
				if len(found(t, s, "new")) != 1 || len(notes) != 1 {
					t.Errorf("the disk does not stay in use: notes %q", notes)
				}
				s.Close()
			})
		}
	}
}

// Nobody waits for a disk that hangs while it is told to begin anew, but nobody
// else may have it either, nor does the same store use it, until it has answered:
// what is written late would be written over what is new.
func TestSlowToHearThatItIsOut(t *testing.T) {
	for _, revived := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			mem, hang := vfs.NewMem(1<<30), make(chan struct{})
			disk := newBreaker(mem, vfs.Fault{}.After(hang), func(op vfs.Op) bool { return op.Kind == vfs.OpWriteAt && op.Name != tableName })
			s := mustOpen(t, quiet(tiny(disk)))
			put(t, s, "k", 100)
			synctest.Wait()
			disk.on.Store(true)
			w := within(t, defaultPatience)
			put(t, s, "k", 100)
			<-s.volumeOf(0).out
			w()
			if revived {
				time.Sleep(firstRetry + time.Second)
				synctest.Wait()
				if s.Stats().Out != 1 {
					t.Error("a disk that hangs is in use again")
				}
				disk.on.Store(false)
				close(hang)
				time.Sleep(2 * firstRetry)
				synctest.Wait()
				if s.Stats().Out != 0 {
					t.Error("a disk that works again is not in use")
				}
				put(t, s, "new", 100)
				s.Close()
			} else {
				w = within(t, defaultPatience)
				if err := s.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
				w()
				if _, err := Open(quiet(tiny(mem))); !errors.Is(err, vfs.ErrLocked) {
					t.Errorf("Open of a disk that is still being written: %v", err)
				}
				close(hang)
				synctest.Wait()
			}
			s = mustOpen(t, quiet(tiny(mem)))
			if ids := found(t, s, "k"); len(ids) > 0 {
				t.Errorf("%v are back", ids)
			}
			if ids := found(t, s, "new"); revived != (len(ids) == 1) {
				t.Errorf("revived %t, and of what came after it there is %v", revived, ids)
			}
			s.Close()
		})
	}
}

// The superblock is written in place. Whenever the process or the machine dies
// meanwhile, the disk has the old one or the new one.
func TestSuperblockIsNeverHalf(t *testing.T) {
	seed := newSeed(t)
	chance := rand.New(rand.NewPCG(seed, 0))
	for n := int64(1); ; n++ {
		mem := vfs.NewMem(1 << 30)
		super := newSuper(&Options{Segment: minSegment, Seed: 1}, 1<<20, 0)
		for range maxSets { // it has many sectors
			super.Sets = append(super.Sets, set{0, slices.Repeat([]member{{super.Identity, super.Secret, 1 << 20}}, 8)})
		}
		if err := writeSuper(mem, super); err != nil {
			t.Fatal(err)
		}
		disk := &vfs.Faulty{FS: mem, Hook: vfs.CrashNth(n)}
		told := super.Epoch // the last one that was acknowledged
		for range 3 {
			super.Epoch++
			if writeSuper(disk, super) != nil {
				break
			}
			told = super.Epoch
		}
		for mode := vfs.ProcessDied; mode <= vfs.PowerCutWide; mode++ {
			for range 6 {
				after := mem.Clone().Crash(chance, mode)
				got, err := readSuper(after)
				if err != nil || got == nil || got.Epoch < told || got.Epoch > told+1 {
					t.Fatalf("crash at call %d, mode %d: %v, want epoch %d or the next", n, mode, err, told)
				}
				// And once more, from there on: what tears is not the newest copy. It
				// may become whole: by the octets that the crash let through.
				next := *got
				next.Epoch++
				torn := &vfs.Faulty{FS: after, Hook: func(op vfs.Op) vfs.Fault {
					if op.Kind == vfs.OpWriteAt {
						return vfs.Torn(1000, syscall.EIO)
					}
					return vfs.Fault{}
				}}
				err = writeSuper(torn, &next)
				if last, rerr := readSuper(after); err == nil || rerr != nil || last.Epoch != got.Epoch && last.Epoch != next.Epoch {
					t.Fatalf("crash at call %d, mode %d, and a torn write: %v, %v, want epoch %d or the next", n, mode, err, rerr, got.Epoch)
				}
			}
		}
		if disk.Count() < n {
			break
		}
	}
}

// A restart needs no room: a file system that is full keeps no disk from being
// used, nor from being disowned.
func TestRestartWithoutRoom(t *testing.T) {
	mem := vfs.NewMem(8 << 20)
	s := mustOpen(t, tiny(mem))
	e := put(t, s, "k", 100)
	if err := s.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	mem = reboot(s, mem, nil, vfs.ProcessDied)
	ballast, err := mem.Open("ballast", os.O_RDWR|os.O_CREATE)
	if err != nil {
		t.Fatal(err)
	}
	defer ballast.Close()
	room, err := mem.Free()
	if err != nil {
		t.Fatal(err)
	}
	if err := ballast.Allocate(room); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		s, err := Open(quiet(tiny(mem)))
		if err != nil {
			t.Fatalf("Open where there is no room: %v", err)
		}
		<-s.Ready()
		if ids := found(t, s, "k"); !slices.Equal(ids, []store.ID{e.ID}) {
			t.Errorf("there are %v", ids)
		}
		put(t, s, "other", 100)
		mem = reboot(s, mem, nil, vfs.ProcessDied)
	}
	s = mustOpen(t, quiet(tiny(mem)))
	v := s.volumeOf(0)
	v.fail(errRead)
	<-v.disowned
	s.Close()
	if super, err := readSuper(mem); err != nil || !super.Void {
		t.Errorf("a disk without room was not disowned: %+v, %v", super, err)
	}
}

// used returns a disk that was in use before and has an entry of the key k.
func used(t *testing.T) *vfs.Mem {
	mem := vfs.NewMem(1 << 30)
	s := mustOpen(t, quiet(tiny(mem)))
	put(t, s, "k", 100)
	s.Close()
	return mem
}

// One call that fails while a disk is opened that was in use before is no reason
// not to begin, and mostly nothing is lost by it.
func TestOneFaultAtOpen(t *testing.T) {
	lost, moments := 0, 0
	for _, errno := range []error{syscall.EIO, syscall.EMFILE} {
		for n := int64(1); ; n++ {
			disk := &vfs.Faulty{FS: used(t), Hook: vfs.FailNth(n, errno)}
			s, err := Open(quiet(tiny(disk)))
			if err != nil {
				t.Fatalf("call %d of Open fails: %v", n, err)
			}
			opened := disk.Count()
			<-s.Ready()
			if lost++; len(found(t, s, "k")) == 1 {
				lost--
			}
			newWorld(t, 1).usableOrOut(s)
			s.Close()
			if moments++; opened < n {
				break
			}
		}
	}
	if t.Logf("%d of %d entries were lost", lost, moments); lost > moments/4 {
		t.Error("a single fault loses too much")
	}
}

// usableOrOut holds s to being usable if its disk is not out.
func (w *world) usableOrOut(s *Store) {
	if s.Stats().Out == 0 {
		w.usable(s)
	}
}

// A disk that fails from the start, and was in use before, is out; whoever opens
// the store hears of it in one line, and can use it, with the other disks if there
// are any. When the disk works again it begins anew.
func TestDeadAtOpen(t *testing.T) {
	for _, kind := range []vfs.Kind{vfs.OpLock, vfs.OpOpen, vfs.OpReadAt, vfs.OpWriteAt, vfs.OpSync, vfs.OpSize} {
		t.Run(string(kind), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dead := newBreaker(used(t), vfs.Fail(syscall.EIO), func(op vfs.Op) bool { return op.Kind == kind })
				dead.on.Store(true)
				var notes []string
				opts := tiny(dead)
				opts.Notes = func(line string) { notes = append(notes, line) }
				s := mustOpen(t, opts)
				synctest.Wait()
				if st := s.Stats(); st.Out != 1 {
					t.Errorf("%+v", st)
				}
				if len(notes) != 1 || !strings.Contains(notes[0], "disk 0: ") || !strings.Contains(notes[0], "opening") {
					t.Errorf("notes: %q", notes)
				}
				if ids := found(t, s, "k"); len(ids) > 0 {
					t.Errorf("there are %v", ids)
				}
				if _, err := s.Create(ctx, store.Key("k"), store.Head{}, 1); !errors.Is(err, store.ErrFull) {
					t.Errorf("Create: %v, want ErrFull", err)
				}
				told := kind == vfs.OpReadAt // that it is to begin anew
				if err := s.Forget(ctx, store.Key("k")); (err == nil) != told {
					t.Errorf("Forget without a disk: %v", err)
				}
				time.Sleep(firstRetry + time.Second) // in vain
				dead.on.Store(false)
				time.Sleep(2 * firstRetry)
				synctest.Wait()
				if s.Stats().Out != 0 {
					t.Fatal("a disk that works again is not in use")
				}
				e := put(t, s, "new", 100)
				s.Close()
				s = mustOpen(t, opts)
				if len(found(t, s, "k")) > 0 || !slices.Equal(found(t, s, "new"), []store.ID{e.ID}) {
					t.Error("what was there before is back, or what came later is lost")
				}
				s.Close()
			})
		})
	}
}

// One that was told so when the store went on without it begins anew also if the
// process is killed before it works again.
func TestDeadAtOpenThenKilled(t *testing.T) {
	mem := used(t)
	dead := newBreaker(mem, vfs.Fail(syscall.EIO), func(op vfs.Op) bool {
		return op.Kind == vfs.OpReadAt || op.Kind == vfs.OpWriteAt && op.Name == superName // and it hears with one ear
	})
	dead.on.Store(true)
	s := mustOpen(t, quiet(tiny(dead)))
	<-s.volumeOf(0).disowned
	mem = reboot(s, mem, nil, vfs.ProcessDied)
	s = mustOpen(t, quiet(tiny(mem)))
	if ids := found(t, s, "k"); len(ids) > 0 {
		t.Errorf("%v are back", ids)
	}
}

// A disk that does not listen at first is told again, for as long as the store is
// in use and the disk is not.
func TestDeafAtFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := used(t)
		deaf := newBreaker(mem, vfs.Fail(syscall.EIO), func(op vfs.Op) bool { return op.Kind == vfs.OpWriteAt })
		s := mustOpen(t, quiet(tiny(deaf)))
		deaf.on.Store(true)
		put(t, s, "other", 100)
		time.Sleep(time.Second)
		deaf.on.Store(false)
		time.Sleep(tellings * tellEvery)
		synctest.Wait()
		if s.Stats().Out != 1 {
			t.Fatal("the disk is in use")
		}
		s2 := mustOpen(t, quiet(tiny(reboot(s, mem, nil, vfs.ProcessDied))))
		if ids := found(t, s2, "k"); len(ids) > 0 {
			t.Errorf("%v are back", ids)
		}
		s2.Close()
	})
}

// The other disks keep what they have when one is dead at the start.
func TestOneOfSeveralDeadAtOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disks := []*flaky{newFlaky(), newFlaky(), newFlaky()}
		opts := quiet(tiny(disks[0], disks[1], disks[2]))
		s := mustOpen(t, opts)
		home := map[string]*volume{}
		for i := range 60 {
			key := fmt.Sprint(i)
			put(t, s, key, 100)
			home[key], _ = s.home(store.Key(key))
		}
		gone := s.volumeOf(1)
		s.Close()
		disks[1].broken.Store(true)
		for range 2 { // twice: the second time the others know
			s = mustOpen(t, opts)
			synctest.Wait()
			for key, v := range home {
				if n := len(found(t, s, key)); (n == 0) != (v == gone) {
					t.Errorf("key %s of the disk %s has %d entries", key, v.name, n)
				}
			}
			if err := s.Forget(ctx, store.Key("0")); err != nil {
				t.Errorf("Forget: %v", err)
			}
			delete(home, "0")
			s.Close()
		}
		disks[1].broken.Store(false)
		s = mustOpen(t, opts)
		for key, v := range home {
			if n := len(found(t, s, key)); n > 0 && v == gone {
				t.Errorf("key %s of the disk that was away has %d entries", key, n)
			}
		}
		put(t, s, "new", 100)
		if s.Stats().Out > 0 || len(found(t, s, "0")) > 0 {
			t.Errorf("what was forgotten is back, or the disk is out: %+v", s.Stats())
		}
		s.Close()
	})
}

// What only an operator can put right is an error; and so is all on first use.
func TestOpenRefusesToGuess(t *testing.T) {
	for _, err := range []error{vfs.ErrLocked, fs.ErrPermission} {
		dead := newBreaker(used(t), vfs.Fail(err), func(op vfs.Op) bool { return op.Kind == vfs.OpLock })
		dead.on.Store(true)
		if _, got := Open(quiet(tiny(dead))); !errors.Is(got, err) {
			t.Errorf("Open: %v, want %v", got, err)
		}
	}
	grown := tiny(newBreaker(used(t), vfs.Fault{}, nil))
	grown.Disks[0].Size = 2 << 30
	if _, err := Open(quiet(grown)); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Open with more room than there is: %v", err)
	}
	for _, kind := range []vfs.Kind{vfs.OpLock, vfs.OpOpen, vfs.OpWriteAt, vfs.OpSync, vfs.OpAllocate} {
		dead := newBreaker(vfs.NewMem(1<<30), vfs.Fail(syscall.EIO), func(op vfs.Op) bool { return op.Kind == kind })
		dead.on.Store(true)
		if _, err := Open(quiet(tiny(dead))); !errors.Is(err, syscall.EIO) {
			t.Errorf("first use of a disk that fails to %s: %v", kind, err)
		}
	}
}
