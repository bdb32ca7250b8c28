package tier

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/larderhq/larder/internal/vfs"
	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/disk"
	"github.com/larderhq/larder/store/memory"
	"github.com/larderhq/larder/store/storetest"
)

var ctx = context.Background()

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lower returns a disk of that many octets on fs.
func lower(t testing.TB, fs vfs.FS, size int64) *disk.Store {
	t.Helper()
	d, err := disk.Open(disk.Options{Disks: []disk.Disk{{FS: fs, Size: size}}, Segment: 1 << 20, MaxObject: 8 << 20})
	if err != nil {
		t.Fatal(err)
	}
	<-d.Ready()
	return d
}

// over returns a tier with a memory of that many octets over fs.
func over(t testing.TB, fs vfs.FS, budget int64) *Store {
	s := New(memory.Options{Budget: budget, MaxObject: 64 << 10}, lower(t, fs, 128<<20))
	t.Cleanup(func() { s.Close() })
	return s
}

// What is not in memory is at hand once it was read: with a system that keeps what
// was written, and with one that does not.
func TestPrompt(t *testing.T) {
	for name, cold := range map[string]bool{"warm": false, "cold": true} {
		t.Run(name, func(t *testing.T) {
			storetest.Prompt(t, func(t *testing.T) storetest.PromptStore {
				var fs vfs.FS = vfs.NewMem(1 << 30)
				if cold {
					fs = vfs.Cold{FS: fs}
				}
				return over(t, fs, 64<<10)
			})
		})
	}
}

func TestStore(t *testing.T) {
	for name, budget := range map[string]int64{"all in memory": 4 * storetest.Room, "most on disk": 1 << 20} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) store.Store {
				return over(t, vfs.NewMem(1<<30), budget)
			})
		})
	}
}

// body is what generation g of key has.
func body(key string, g uint64, size int) []byte {
	b := make([]byte, size)
	var seed [32]byte
	copy(seed[:], fmt.Sprint(g, " ", key))
	rand.NewChaCha8(seed).Read(b)
	return b
}

// put commits generation g of key in place of all there is.
func put(s store.Store, key string, g uint64, size int) (store.Entry, error) {
	head := binary.BigEndian.AppendUint64(nil, g)
	old, err := s.Lookup(ctx, store.Key(key), nil)
	if err != nil {
		return store.Entry{}, err
	}
	var replaces []store.ID
	for _, e := range old {
		replaces = append(replaces, e.ID)
	}
	w, err := s.Create(ctx, store.Key(key), store.Head{Octets: head}, int64(size))
	if err != nil {
		return store.Entry{}, err
	}
	if _, err = w.Write(body(key, g, size)); err == nil {
		var e store.Entry
		if e, err = w.Commit(ctx, replaces...); err == nil {
			return e, nil
		}
	}
	w.Abort(err)
	return store.Entry{}, err
}

// generation reads what is under key and checks it to the last octet; 0 if
// there is nothing.
func generation(t *testing.T, s store.Store, key string) uint64 {
	t.Helper()
	for {
		es, err := s.Lookup(ctx, store.Key(key), nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(es) == 0 {
			return 0
		}
		if len(es) > 1 {
			t.Errorf("%d entries under %q", len(es), key)
		}
		head, err := s.Head(ctx, store.Key(key), es[0].ID, es[0].Rev)
		if errors.Is(err, store.ErrGone) {
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		r, err := s.Open(ctx, store.Key(key), es[0].ID, 0, -1)
		if errors.Is(err, store.ErrGone) {
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		r.Close()
		g := binary.BigEndian.Uint64(head)
		if err != nil || !bytes.Equal(got, body(key, g, int(es[0].Size))) {
			t.Fatalf("under %q: %d octets that are not those of generation %d, or %v", key, len(got), g, err)
		}
		return g
	}
}

func mustPut(t *testing.T, s store.Store, key string, g uint64, size int) store.Entry {
	t.Helper()
	e, err := put(s, key, g, size)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// What memory lets go is on disk, under its name, and what the disk has served
// twice comes back, and is not written again when it leaves.
func TestDownAndUp(t *testing.T) {
	s := over(t, vfs.NewMem(1<<30), 1<<20)
	e := mustPut(t, s, "k", 1, 20_000)
	for i := range 200 {
		mustPut(t, s, fmt.Sprint("other ", i), 1, 20_000)
	}
	if es, _ := s.memory.Lookup(ctx, store.Key("k"), nil); len(es) != 0 {
		t.Fatal("it is in memory yet")
	}
	es, err := s.Lookup(ctx, store.Key("k"), nil)
	if err != nil || len(es) != 1 || es[0] != e {
		t.Fatalf("on disk there is %+v, %v; want %+v", es, err, e)
	}
	for range 3 {
		if g := generation(t, s, "k"); g != 1 {
			t.Fatalf("generation %d", g)
		}
		s.moving.Wait()
	}
	if es, _ := s.memory.Lookup(ctx, store.Key("k"), nil); len(es) != 1 || es[0] != e {
		t.Fatalf("in memory there is %+v, want %+v", es, e)
	}
	if es, _ := s.disk.Lookup(ctx, store.Key("k"), nil); len(es) != 0 {
		t.Fatalf("the disk shows what it has lent: %+v", es)
	}
	if es, _ := s.Lookup(ctx, store.Key("k"), nil); len(es) != 1 {
		t.Fatalf("both tiers together show %+v", es)
	}
	if err := s.Remove(ctx, store.Key("k"), e.ID); err != nil {
		t.Fatal(err)
	}
	if g := generation(t, s, "k"); g != 0 {
		t.Errorf("generation %d came back from disk", g)
	}
}

// A head that was amended in memory is the one that comes back from disk.
func TestAmendedAbove(t *testing.T) {
	fs := vfs.NewMem(1 << 30)
	s := over(t, fs, 1<<20)
	e := mustPut(t, s, "k", 1, 20_000)
	down := func() {
		for i := range 200 {
			mustPut(t, s, fmt.Sprint("other ", i), 1, 20_000)
		}
	}
	down()
	for range 3 {
		generation(t, s, "k")
		s.moving.Wait()
	}
	if err := s.Amend(ctx, store.Key("k"), e.ID, store.Head{Octets: []byte("amended")}); err != nil {
		t.Fatal(err)
	}
	down()
	es, err := s.Lookup(ctx, store.Key("k"), nil)
	if err != nil || len(es) != 1 || es[0].Rev != e.Rev+1 {
		t.Fatalf("there is %+v, %v", es, err)
	}
	if head, err := s.Head(ctx, store.Key("k"), e.ID, e.Rev+1); string(head) != "amended" {
		t.Errorf("the head is %q, %v", head, err)
	}
}

// What is in memory at the end is there after a restart.
func TestRestart(t *testing.T) {
	fs := vfs.NewMem(1 << 30)
	s := over(t, fs, 4<<20)
	const n = 300
	for i := range n {
		mustPut(t, s, fmt.Sprint(i), uint64(i+1), 30_000)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = over(t, fs, 4<<20)
	for i := range n {
		if g := generation(t, s, fmt.Sprint(i)); g != uint64(i+1) {
			t.Errorf("number %d has generation %d", i, g)
		}
	}
}

// A body whose length nobody told goes over to disk once it is too long for
// memory; those who read it notice nothing.
func TestOutgrows(t *testing.T) {
	s := over(t, vfs.NewMem(1<<30), 1<<20)
	whole := body("k", 1, 700_000)
	w, err := s.Create(ctx, store.Key("k"), store.Head{Octets: []byte("head")}, -1)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, off := range []int{0, 10, 64 << 10, 600_000} {
		r, err := w.Open(ctx, int64(off))
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer r.Close()
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, whole[off:]) {
				t.Errorf("from %d: %d octets, %v", off, len(got), err)
			}
		})
	}
	for rest := whole; len(rest) > 0; rest = rest[min(7000, len(rest)):] {
		if _, err := w.Write(rest[:min(7000, len(rest))]); err != nil {
			t.Fatal(err)
		}
	}
	e, err := w.Commit(ctx)
	if err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	r, err := s.Open(ctx, store.Key("k"), e.ID, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, whole) {
		t.Errorf("%d octets came back, %v", len(got), err)
	}
}

// However entries move between the tiers: what was replaced or removed does not
// come back, and what is there is whole.
func TestNothingComesBack(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	s := over(t, vfs.NewMem(1<<30), 256<<10)
	const keys = 40
	var oldest [keys]atomic.Uint64 // the generation that may be there at the least
	var mu [keys]sync.Mutex        // one changes a key at a time
	var generations atomic.Uint64
	var found atomic.Int64
	var wg sync.WaitGroup
	for worker := range uint64(8) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, worker))
			for range 600 {
				i := r.IntN(keys)
				key := fmt.Sprint("key ", i)
				switch n := r.IntN(10); {
				case n < 2:
					mu[i].Lock()
					g := generations.Add(1)
					if _, err := put(s, key, g, r.IntN(30_000)); err == nil {
						oldest[i].Store(g)
					} else if !errors.Is(err, store.ErrFull) {
						t.Error(err)
					}
					mu[i].Unlock()
				case n < 3:
					mu[i].Lock()
					es, err := s.Lookup(ctx, store.Key(key), nil)
					if err != nil {
						t.Error(err)
					}
					for _, e := range es {
						if err := s.Remove(ctx, store.Key(key), e.ID); err != nil {
							t.Error(err)
						}
					}
					oldest[i].Store(generations.Load() + 1)
					if g := generation(t, s, key); g != 0 {
						t.Errorf("generation %d is there after Remove", g)
					}
					mu[i].Unlock()
				default:
					least := oldest[i].Load()
					g := generation(t, s, key)
					if g != 0 && g < least {
						t.Errorf("generation %d of %q is there; %d was acknowledged", g, key, least)
					}
					if g != 0 {
						found.Add(1)
					}
				}
				if t.Failed() {
					return
				}
			}
		})
	}
	wg.Wait()
	if found.Load() < 500 {
		t.Errorf("only %d found: nothing was tried", found.Load())
	}
}
