package disk

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larderhq/larder/internal/vfs"
	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/storetest"
)

func TestSeveralDisks(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		return mustOpen(t, roomy(vfs.NewMem(1<<30), vfs.NewMem(1<<30), vfs.NewMem(1<<30)))
	})
}

// Keys are spread by the sizes of the disks, and when one fails only its own keys
// move.
func TestSpread(t *testing.T) {
	var a set
	for i, octets := range []int64{100, 100, 200} {
		a.Disks = append(a.Disks, member{Identity: fmt.Sprint(i), Secret: newKey(1, uint64(i)), Octets: octets})
	}
	b := set{Disks: a.Disks[:2]}
	counts := map[string]int{}
	const n = 8000
	for i := range n {
		key := fmt.Append(nil, i)
		home := a.home(key)
		counts[home]++
		if now := b.home(key); home != "2" && now != home {
			t.Errorf("a key moved from disk %s to %s", home, now)
		}
	}
	for i, share := range []int{n / 4, n / 4, n / 2} {
		if got := counts[fmt.Sprint(i)]; got < share*9/10 || got > share*11/10 {
			t.Errorf("disk %d has %d of %d keys, want about %d", i, got, n, share)
		}
	}
}

// flaky is a disk that can be broken and mended.
type flaky struct {
	vfs.Faulty
	broken atomic.Bool
}

func newFlaky() *flaky {
	f := &flaky{}
	f.FS = vfs.NewMem(1 << 30)
	f.Hook = func(op vfs.Op) vfs.Fault {
		if f.broken.Load() && op.Kind != vfs.OpClose && op.Kind != vfs.OpUnlock {
			return vfs.Fail(syscall.EIO)
		}
		return vfs.Fault{}
	}
	return f
}

// Disks fail and come back, are taken away and given again, in any order. No octet
// is wrong, and what was removed or replaced meanwhile never comes back.
func TestDisksComeAndGo(t *testing.T) {
	seed := newSeed(t)
	for round := range histories {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, seed+uint64(round))
			w.keys, w.large = 16, 20_000
			disks := []*flaky{newFlaky(), newFlaky(), newFlaky()}
			for range 5 {
				var fsys []vfs.FS
				for i, d := range disks {
					d.broken.Store(false)
					if i == 0 || w.r.IntN(3) > 0 {
						fsys = append(fsys, d)
					}
				}
				s, err := Open(quiet(tiny(fsys...)))
				if err != nil {
					t.Fatal(err)
				}
				<-s.Ready()
				w.weather(s, disks)
				w.verify(s, false)
				s.Close()
			}
		})
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
}

// weather uses s while its disks break and are mended.
func (w *world) weather(s *Store, disks []*flaky) {
	for range 30 {
		for range 5 {
			w.step(s)
		}
		synctest.Wait()
		d := disks[w.r.IntN(len(disks))]
		d.broken.Store(!d.broken.Load() && w.r.IntN(3) == 0)
		synctest.Wait()
		if w.r.IntN(4) == 0 {
			time.Sleep(firstRetry)
			synctest.Wait()
		}
	}
}

// A disk that failed is tried again after a while, and is used, empty.
func TestRevival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFlaky()
		opts := tiny(d)
		var notes []string
		opts.Notes = func(line string) { notes = append(notes, line) }
		s := mustOpen(t, opts)
		e := put(t, s, "k", 100)
		if err := s.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		d.broken.Store(true)
		put(t, s, "other", 100)
		synctest.Wait()
		if s.Stats().Out != 1 {
			t.Fatalf("a disk that does not write is in use: %+v", s.Stats())
		}
		if err := s.Remove(ctx, store.Key("k"), e.ID); !errors.Is(err, errAlone) {
			t.Errorf("Remove: %v", err)
		}
		time.Sleep(firstRetry + time.Second) // in vain
		synctest.Wait()
		d.broken.Store(false)
		time.Sleep(2 * firstRetry)
		synctest.Wait()
		if s.Stats().Out != 0 {
			t.Fatalf("a disk that works again is not in use: %+v", s.Stats())
		}
		if ids := found(t, s, "k"); len(ids) > 0 {
			t.Errorf("it is not empty: %v", ids)
		}
		if err := s.Remove(ctx, store.Key("k"), e.ID); err != nil {
			t.Errorf("Remove: %v", err)
		}
		put(t, s, "k", 100)
		synctest.Wait()
		s.Close()
		s = mustOpen(t, opts)
		if ids := found(t, s, "k"); len(ids) != 1 || slices.Contains(ids, e.ID) {
			t.Errorf("after a restart there are %v", ids)
		}
		if len(notes) != 2 || !strings.Contains(notes[0], "taken out") || !strings.Contains(notes[1], "in use again") {
			t.Errorf("notes: %q", notes)
		}
	})
}
