package memory

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/storetest"
)

// put commits body under key, in writes of piece octets, or says why not.
func put(s *Store, key string, body []byte, declared int64, piece int) (store.Entry, error) {
	return putUntil(s, key, body, declared, piece, 0)
}

func putUntil(s *Store, key string, body []byte, declared int64, piece int, until int64) (store.Entry, error) {
	w, err := s.Create(ctx, store.Key(key), store.Head{Octets: []byte("head"), Until: until}, declared)
	if err != nil {
		return store.Entry{}, err
	}
	for rest := body; len(rest) > 0; rest = rest[min(piece, len(rest)):] {
		if _, err := w.Write(rest[:min(piece, len(rest))]); err != nil {
			w.Abort(err)
			return store.Entry{}, err
		}
	}
	e, err := w.Commit(ctx)
	if err != nil {
		w.Abort(err)
	}
	return e, err
}

func mustPut(t *testing.T, s *Store, key string, size int) store.Entry {
	t.Helper()
	e, err := put(s, key, make([]byte, size), int64(size), size+1)
	if err != nil {
		t.Fatalf("storing %d octets under %q: %v; %+v", size, key, err, s.Stats())
	}
	return e
}

func mustOpen(t *testing.T, s *Store, key string, id store.ID) io.ReadCloser {
	t.Helper()
	r, err := s.Open(ctx, store.Key(key), id, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func has(s *Store, key string) bool {
	es, _ := s.Lookup(ctx, store.Key(key), nil)
	return len(es) > 0
}

// watch fails the test if s is ever above its budget, until stop is called.
func watch(t *testing.T, s *Store) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			if st := s.Stats(); st.Used > st.Budget || st.Used < 0 {
				t.Errorf("over the budget: %+v", st)
				return
			}
			select {
			case <-done:
				return
			default:
				runtime.Gosched()
			}
		}
	})
	return func() { close(done); wg.Wait() }
}

// both runs a test in mapped memory and on the Go heap.
func both(t *testing.T, test func(t *testing.T, heap bool)) {
	for _, heap := range []bool{false, true} {
		t.Run(fmt.Sprintf("heap=%t", heap), func(t *testing.T) { test(t, heap) })
	}
}

// The budget holds while many write, read and leave readers open, in a store
// of about forty bodies, and one that fits hardly any.
func TestBudgetHammer(t *testing.T) {
	both(t, func(t *testing.T, heap bool) {
		for _, budget := range []int64{1 << 20, 100 << 10, 64 << 10, 8 << 10} {
			t.Run(fmt.Sprint(budget), func(t *testing.T) {
				s := New(Options{Budget: budget, MaxObject: budget / 2, Heap: heap})
				stop := watch(t, s)
				storetest.Hammer(t, s)
				stop()
				audit(t, s)
				wantEmpty(t, s)
			})
		}
	})
}

// A store of any size works, or refuses.
func TestSmallBudgets(t *testing.T) {
	both(t, func(t *testing.T, heap bool) {
		for budget := int64(1); budget < 4<<20; budget += budget/3 + 1 {
			s := New(Options{Budget: budget, MaxObject: budget, Heap: heap})
			kept := 0
			for i := range 100 {
				size := i * i * 3
				switch _, err := put(s, fmt.Sprint(i), make([]byte, size), int64(size), 1<<20); {
				case err == nil:
					kept++
				case !errors.Is(err, store.ErrFull):
					t.Fatal(err)
				}
			}
			if least := int64(32 << 10); budget >= least && kept == 0 {
				t.Errorf("a store of %d octets keeps nothing", budget)
			}
			audit(t, s)
			wantEmpty(t, s)
		}
	})
}

// Whoever reserves at the same time as others gets what none of them got.
func TestReserve(t *testing.T) {
	s := New(Options{Budget: 1 << 20})
	s.release(s.used.Load())
	s.budget, s.fixed = 3, 0
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100_000 {
				if s.charge(2) {
					if used := s.used.Load(); used > s.budget {
						t.Errorf("%d octets reserved of %d", used, s.budget)
						return
					}
					s.release(2)
				}
			}
		})
	}
	wg.Wait()
}

// Small and large bodies share one budget; the large ones displace the small,
// and the small ones the large, and readers are in the way.
func TestBudgetMix(t *testing.T) {
	both(t, func(t *testing.T, heap bool) {
		const budget = 4 << 20
		s := New(Options{Budget: budget, MaxObject: budget / 2, Heap: heap})
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		stop := watch(t, s)
		var wg sync.WaitGroup
		for g := range uint64(4) {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(seed, g))
				var readers []io.ReadCloser
				for range 600 {
					size := r.IntN(2000)
					if r.IntN(10) == 0 {
						size = r.IntN(budget / 2)
					}
					declared := int64(size)
					if r.IntN(2) == 0 {
						declared = -1
					}
					key := fmt.Sprint(r.IntN(3000))
					e, err := put(s, key, make([]byte, size), declared, 1+r.IntN(100_000))
					if err != nil {
						if !errors.Is(err, store.ErrFull) {
							t.Error(err)
						}
					} else if reader, err := s.Open(ctx, store.Key(key), e.ID, 0, -1); err == nil {
						readers = append(readers, reader)
					}
					if len(readers) > 8 {
						for _, reader := range readers {
							reader.Close()
						}
						readers = nil
					}
				}
				for _, reader := range readers {
					reader.Close()
				}
			})
		}
		wg.Wait()
		stop()
		audit(t, s)
		st := s.Stats()
		// A long body that comes last may have driven out much and failed.
		if st.Evictions == 0 || st.Bytes < budget/32 {
			t.Errorf("the load did not fill the store: %+v", st)
		}
		wantEmpty(t, s)
	})
}

// An entry in the making is never evicted, and neither is one that is read:
// when they have it all, the store is full, and those who could not be
// helped cost nobody their entry.
func TestPinned(t *testing.T) {
	both(t, func(t *testing.T, heap bool) {
		const size = 300_000
		s := New(Options{Budget: 1 << 20, MaxObject: 1 << 20, Heap: heap})
		read := mustPut(t, s, "read", size)
		r := mustOpen(t, s, "read", read.ID)
		w, err := s.Create(ctx, store.Key("begun"), store.Head{}, size)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		idle := mustPut(t, s, "idle", 100_000)
		evictions := s.Stats().Evictions

		if _, err := put(s, "large", nil, 800_000, 1); !errors.Is(err, store.ErrFull) {
			t.Errorf("Create beyond what can be had: %v, want ErrFull", err)
		}
		if _, err := put(s, "large", make([]byte, 800_000), -1, 800_000); !errors.Is(err, store.ErrFull) {
			t.Errorf("Write beyond what can be had: %v, want ErrFull", err)
		}
		if got := s.Stats().Evictions; got != evictions || !has(s, "idle") {
			t.Errorf("%d entries left for one that had no room either", got-evictions)
		}
		if err := s.Amend(ctx, store.Key("idle"), idle.ID, store.Head{Octets: make([]byte, 1<<20)}); !errors.Is(err, store.ErrFull) {
			t.Errorf("Amend beyond what can be had: %v, want ErrFull", err)
		}
		if es, _ := s.Lookup(ctx, store.Key("idle"), nil); len(es) != 1 || es[0].Rev != 0 {
			t.Errorf("the refused Amend left %+v", es)
		}
		for i := range 3 { // one of them takes the place of idle
			put(s, "more", make([]byte, 340_000), 340_000, 400_000+i)
		}
		if has(s, "idle") || !has(s, "read") {
			t.Error("the entry that is read left, or the one that is not stayed")
		}
		if _, err := w.Commit(ctx); err != nil {
			t.Fatal(err)
		}
		r.Close()
		audit(t, s)
		wantEmpty(t, s)
	})
}

// A forgotten entry is charged until its last reader closes, also twice.
func TestForgottenIsCharged(t *testing.T) {
	both(t, func(t *testing.T, heap bool) {
		s := New(Options{Heap: heap})
		e := mustPut(t, s, "k", 100_000)
		r1, r2 := mustOpen(t, s, "k", e.ID), mustOpen(t, s, "k", e.ID)
		if err := s.Remove(ctx, store.Key("k"), e.ID); err != nil {
			t.Fatal(err)
		}
		r1.Close()
		r1.Close()
		if got := s.Stats(); got.Bytes != 100_000 || got.Objects != 0 || got.Keys != 0 {
			t.Errorf("with one reader left: %+v", got)
		}
		if _, err := r1.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Errorf("Read after Close: %v", err)
		}
		audit(t, s)
		r2.Close()
		if got := s.Stats(); got.Bytes != 0 {
			t.Errorf("with no reader left: %+v", got)
		}
		audit(t, s)
		wantEmpty(t, s)
	})
}

// An aborted writer is charged while it is followed, and no longer; a body in
// the making costs what was written, not what was declared.
func TestWritersAreCharged(t *testing.T) {
	both(t, func(t *testing.T, heap bool) {
		for _, size := range []int{1000, 60_000, 100_000, 500_000} {
			s := New(Options{Heap: heap})
			empty := s.Stats().Used
			cause := errors.New("cause")
			w, err := s.Create(ctx, store.Key("k"), store.Head{}, -1)
			if err != nil {
				t.Fatal(err)
			}
			for range 10 {
				if _, err := w.Write(make([]byte, size/10)); err != nil {
					t.Fatal(err)
				}
			}
			held := s.Stats()
			if held.Bytes != int64(size) || held.Used < empty+int64(size) {
				t.Errorf("%d octets in the making: %+v, empty %d", size, held, empty)
			}
			r, _ := w.Open(t.Context(), 0)
			w.Abort(cause)
			if got := s.Stats(); got != held {
				t.Errorf("%+v while it is read, want %+v", got, held)
			}
			if got, err := io.ReadAll(r); len(got) != size || err != cause {
				t.Errorf("read %d octets and %v", len(got), err)
			}
			r.Close()
			r.Close()
			for s.cool() {
			}
			if got := s.Stats(); got.Bytes != 0 || got.Used != empty {
				t.Errorf("%+v after the last reader, want %d", got, empty)
			}
			switch r, err := w.Open(t.Context(), 10); {
			case size > smallBody:
				if err != store.ErrGone {
					t.Errorf("Open of a long body that nobody read any more: %v", err)
				}
			case err != nil:
				t.Errorf("Open of a short body that was aborted: %v", err)
			default:
				if got := s.Stats(); got.Bytes != int64(size) || got.Used < empty+int64(size) {
					t.Errorf("%d octets that were asked for again: %+v, empty %d", size, got, empty)
				}
				if got, err := io.ReadAll(r); len(got) != size-10 || err != cause {
					t.Errorf("read %d octets and %v", len(got), err)
				}
				r.Close()
				if got := s.Stats(); got.Bytes != 0 || got.Used != empty {
					t.Errorf("%+v after they were read again, want %d", got, empty)
				}
			}
			if !heap {
				w, _ := s.Create(ctx, store.Key("k"), store.Head{}, 8<<20)
				w.Write(make([]byte, 10))
				if got := s.Stats().Used - empty; got > 3*pageSize {
					t.Errorf("10 octets of 8 MiB declared cost %d", got)
				}
				w.Abort(nil)
			}
			audit(t, s)
			wantEmpty(t, s)
		}
	})
}

// A body of unknown length outgrows its place, and is read meanwhile.
func TestGrowth(t *testing.T) {
	both(t, func(t *testing.T, heap bool) {
		s := New(Options{Budget: 32 << 20, MaxObject: 8 << 20, Heap: heap})
		whole := make([]byte, 5<<20)
		rand.NewChaCha8([32]byte{}).Read(whole)
		w, err := s.Create(ctx, store.Key("k"), store.Head{}, -1)
		if err != nil {
			t.Fatal(err)
		}
		var readers []io.ReadCloser
		for rest := whole; len(rest) > 0; rest = rest[min(70_001, len(rest)):] {
			r, err := w.Open(ctx, 0)
			if err != nil {
				t.Fatal(err)
			}
			readers = append(readers, r)
			if _, err := w.Write(rest[:min(70_001, len(rest))]); err != nil {
				t.Fatal(err)
			}
			if len(readers)%7 == 0 {
				readers[0].Close()
				readers = readers[1:]
			}
		}
		audit(t, s)
		e, err := w.Commit(ctx)
		if err != nil {
			t.Fatal(err)
		}
		audit2 := s.Stats().Bytes
		if audit2 != int64(len(whole))+1 {
			t.Errorf("%d octets of content", audit2)
		}
		s.Remove(ctx, store.Key("k"), e.ID)
		for _, r := range readers {
			var got bytes.Buffer
			if _, err := r.(io.WriterTo).WriteTo(&got); err != nil || !bytes.Equal(got.Bytes(), whole) {
				t.Fatalf("read %d octets and %v", got.Len(), err)
			}
			r.Close()
		}
		audit(t, s)
		wantEmpty(t, s)
	})
}

// Open readers finish undisturbed after Close, and then nothing is charged.
func TestCloseLeavesReaders(t *testing.T) {
	both(t, func(t *testing.T, heap bool) {
		s := New(Options{Heap: heap})
		for _, size := range []int{1000, 50_000, 500_000} {
			mustPut(t, s, fmt.Sprint(size), size)
		}
		var readers []io.ReadCloser
		for _, size := range []int{1000, 50_000, 500_000} {
			es, _ := s.Lookup(ctx, fmt.Append(nil, size), nil)
			readers = append(readers, mustOpen(t, s, fmt.Sprint(size), es[0].ID))
		}
		w, _ := s.Create(ctx, store.Key("w"), store.Head{}, -1)
		w.Write(make([]byte, 100_000))
		s.Close()
		for i, size := range []int{1000, 50_000, 500_000} {
			if got, err := io.ReadAll(readers[i]); len(got) != size || err != nil {
				t.Errorf("read %d octets and %v", len(got), err)
			}
			readers[i].Close()
		}
		w.Abort(nil)
		if got := s.Stats(); got.Bytes != 0 || got.Used != 0 || got.Objects != 0 {
			t.Errorf("after the last reader: %+v", got)
		}
	})
}

// Where there are several shards, a long body takes its room from all of them,
// and from no more entries than it must.
func TestShards(t *testing.T) {
	s := New(Options{Budget: 2 * shardBudget, MaxObject: 200 << 20})
	if len(s.shards) != 2 {
		t.Fatalf("%d shards", len(s.shards))
	}
	body := make([]byte, 4<<20)
	for i := range 80 {
		mustPutTwice(t, s, fmt.Sprint(i), body)
	}
	audit(t, s)
	before := s.Stats()
	if before.Evictions == 0 || before.Bytes < before.Budget*9/10 {
		t.Errorf("not full: %+v", before)
	}
	mustPutTwice(t, s, "long", make([]byte, 40*len(body)))
	audit(t, s)
	if st := s.Stats(); st.Evictions-before.Evictions > 42 || s.shards[0].objects == 0 || s.shards[1].objects == 0 {
		t.Errorf("%d entries left for one of the size of 40, and %d and %d are left", st.Evictions-before.Evictions, s.shards[0].objects, s.shards[1].objects)
	}
	wantEmpty(t, s)
}

// mustPutTwice stores what may be refused as long as it is not known.
func mustPutTwice(t *testing.T, s *Store, key string, body []byte) {
	t.Helper()
	for range 3 {
		if _, err := put(s, key, body, int64(len(body)), 1<<20); err == nil {
			return
		} else if !errors.Is(err, store.ErrFull) {
			t.Fatal(err)
		}
	}
	t.Fatalf("%q was refused three times", key)
}
