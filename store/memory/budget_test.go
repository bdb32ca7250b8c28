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
	w, err := s.Create(ctx, store.Key(key), []byte("head"), declared)
	if err != nil {
		return store.Entry{}, err
	}
	for rest := body; len(rest) > 0; rest = rest[min(piece, len(rest)):] {
		if _, err := w.Write(rest[:min(piece, len(rest))]); err != nil {
			w.Abort(err)
			return store.Entry{}, err
		}
	}
	return w.Commit(ctx)
}

func mustPut(t *testing.T, s *Store, key string, size int) store.Entry {
	t.Helper()
	e, err := put(s, key, make([]byte, size), int64(size), size+1)
	if err != nil {
		t.Fatalf("storing %d octets under %q: %v; %+v", size, key, err, s.Stats())
	}
	return e
}

func mustOpen(t *testing.T, s *Store, id store.ID) io.ReadCloser {
	t.Helper()
	r, err := s.Open(ctx, id, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func has(s *Store, key string) bool {
	es, _ := s.Lookup(ctx, store.Key(key))
	return len(es) > 0
}

// audit adds the charges up and compares them with what the store believes.
// Nobody else may use s meanwhile, and no forgotten entry be read.
func audit(t *testing.T, s *Store) {
	t.Helper()
	var sum int64
	for i := range s.shards {
		sh := &s.shards[i]
		var idle int64
		listed := 0
		for _, o := range sh.byID {
			charge := int64(entryOverhead + cap(o.family.key) + o.headroom)
			for _, c := range o.chunks {
				charge += int64(cap(c))
			}
			if charge != o.charge {
				t.Errorf("an entry is charged %d octets and holds %d", o.charge, charge)
			}
			sum += charge
			if o.readers == 0 {
				idle += charge
			}
			if o.listed {
				listed++
			}
		}
		if got := sh.idle.Load(); got != idle {
			t.Errorf("shard %d counts %d idle octets, and holds %d", i, got, idle)
		}
		stamp := uint64(0)
		for o := sh.last; o != nil; o = o.newer {
			if o.stamp <= stamp {
				t.Errorf("shard %d: its list is out of order", i)
			}
			stamp = o.stamp
			listed--
		}
		if listed != 0 {
			t.Errorf("shard %d: its list is %d entries short", i, listed)
		}
		for w := range sh.writers {
			sum += w.object.charge
		}
	}
	if st := s.Stats(); st.Bytes != sum {
		t.Errorf("the store is charged %d octets and holds %d", st.Bytes, sum)
	}
}

// wantEmpty closes s and holds it to having given everything back.
func wantEmpty(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.Bytes != 0 || st.Objects != 0 || st.Keys != 0 {
		t.Errorf("after Close and the last reader: %+v", st)
	}
}

// watch fails the test if s is ever above its budget, until stop is called.
func watch(t *testing.T, s *Store) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			if st := s.Stats(); st.Bytes > st.Budget || st.Bytes < 0 {
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

// The budget holds while many write, read and leave readers open, in a store
// of about forty bodies, and one that fits hardly any.
func TestBudgetHammer(t *testing.T) {
	for _, budget := range []int64{1 << 20, 100 << 10, 8 << 10} {
		t.Run(fmt.Sprint(budget), func(t *testing.T) {
			s := New(Options{Budget: budget})
			stop := watch(t, s)
			storetest.Hammer(t, s)
			stop()
			audit(t, s)
			wantEmpty(t, s)
		})
	}
}

// Whoever reserves at the same time as others gets what none of them got.
func TestReserve(t *testing.T) {
	s := New(Options{Budget: 3})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 500_000 {
				if s.reserve(2, 0) {
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
	wantEmpty(t, s)
}

// Small and large bodies share one budget; the large ones displace the small,
// and the small ones the large, and readers are in the way.
func TestBudgetMix(t *testing.T) {
	const budget = 4 << 20
	s := New(Options{Budget: budget, MaxObject: budget / 2})
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
				e, err := put(s, fmt.Sprint(r.IntN(3000)), make([]byte, size), declared, 1+r.IntN(100_000))
				if err != nil {
					if !errors.Is(err, store.ErrFull) {
						t.Error(err)
					}
				} else if reader, err := s.Open(ctx, e.ID, 0, -1); err == nil {
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
	if st.Evictions == 0 || st.Bytes < budget/2 {
		t.Errorf("the load did not fill the store: %+v", st)
	}
	wantEmpty(t, s)
}

// Whoever was used least recently leaves first, across all shards.
func TestEvictionOrder(t *testing.T) {
	const n = 100
	s := New(Options{Budget: 64 << 10, MaxObject: 64 << 10})
	var ids []store.ID
	for i := range n {
		ids = append(ids, mustPut(t, s, fmt.Sprint(i), 0).ID)
	}
	var order []int
	for i := range n {
		i = i * 37 % n
		order = append(order, i)
		r, err := s.Open(ctx, ids[i], 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
	}
	before := s.Stats()
	for left := n; left > 0; {
		mustPut(t, s, fmt.Sprint("filler", left), 900)
		evicted := int(s.Stats().Evictions - before.Evictions)
		left = max(n-evicted, 0)
		for at, i := range order {
			if gone := at < evicted; has(s, fmt.Sprint(i)) == gone {
				t.Fatalf("after %d evictions, number %d in the order of use is gone: %t", evicted, at, !gone)
			}
		}
	}
	audit(t, s)
}

// An entry in the making is never evicted, and neither is one that is read:
// when they have it all, the store is full, and those who could not be
// helped cost nobody their entry.
func TestPinned(t *testing.T) {
	const size = 30_000
	s := New(Options{Budget: 100_000, MaxObject: 100_000})
	read := mustPut(t, s, "read", size)
	r := mustOpen(t, s, read.ID)
	w, err := s.Create(ctx, store.Key("begun"), nil, size)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	idle := mustPut(t, s, "idle", 10_000)
	evictions := s.Stats().Evictions

	if _, err := put(s, "large", nil, 50_000, 1); !errors.Is(err, store.ErrFull) {
		t.Errorf("Create beyond what can be had: %v, want ErrFull", err)
	}
	if _, err := put(s, "large", make([]byte, 50_000), -1, 50_000); !errors.Is(err, store.ErrFull) {
		t.Errorf("Write beyond what can be had: %v, want ErrFull", err)
	}
	if err := s.Amend(ctx, idle.ID, make([]byte, 50_000)); !errors.Is(err, store.ErrFull) {
		t.Errorf("Amend beyond what can be had: %v, want ErrFull", err)
	}
	if got := s.Stats().Evictions; got != evictions || !has(s, "idle") {
		t.Errorf("%d entries left for others that had no room either", got-evictions)
	}
	if es, _ := s.Lookup(ctx, store.Key("idle")); es[0].Rev != 0 || string(es[0].Head) != "head" {
		t.Errorf("the refused Amend left %+v", es[0])
	}

	mustPut(t, s, "more", 20_000) // takes the place of idle
	if has(s, "idle") || !has(s, "read") {
		t.Error("the entry that is read left, or the one that is not stayed")
	}
	if _, err := w.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	r.Close()
	audit(t, s)
	mustPut(t, s, "all", 90_000)
	if st := s.Stats(); st.Objects != 1 {
		t.Errorf("want one entry that takes all the room: %+v", st)
	}
	audit(t, s)
	wantEmpty(t, s)
}

// A forgotten entry is charged until its last reader closes, also twice.
func TestForgottenIsCharged(t *testing.T) {
	s := New(Options{})
	e := mustPut(t, s, "k", 100_000)
	r1, r2 := mustOpen(t, s, e.ID), mustOpen(t, s, e.ID)
	full := s.Stats().Bytes
	if err := s.Remove(ctx, e.ID); err != nil {
		t.Fatal(err)
	}
	r1.Close()
	r1.Close()
	if got := s.Stats(); got.Bytes != full || got.Objects != 0 || got.Keys != 0 {
		t.Errorf("with one reader left: %+v, want %d octets", got, full)
	}
	if _, err := r1.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("Read after Close: %v", err)
	}
	r2.Close()
	wantEmpty(t, s)
}

// An aborted writer is charged while it is read; whoever opens it afterwards
// is charged again, or turned away if there is no room.
func TestAbortedIsCharged(t *testing.T) {
	s := New(Options{Budget: 100_000, MaxObject: 100_000})
	cause := errors.New("cause")
	w, err := s.Create(ctx, store.Key("k"), nil, -1)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(make([]byte, 60_000))
	held := s.Stats().Bytes
	r, _ := w.Open(t.Context(), 0)
	w.Abort(cause)
	if got := s.Stats().Bytes; got != held {
		t.Errorf("charged %d octets while it is read, want %d", got, held)
	}
	r.Close()
	if got := s.Stats().Bytes; got != 0 {
		t.Errorf("charged %d octets after the last reader", got)
	}
	for range 2 {
		r, err := w.Open(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Stats().Bytes; got != held {
			t.Errorf("charged %d octets while it is read again, want %d", got, held)
		}
		if got, err := io.ReadAll(r); len(got) != 60_000 || err != cause {
			t.Errorf("read %d octets and %v", len(got), err)
		}
		r.Close()
	}
	other := mustOpen(t, s, mustPut(t, s, "other", 50_000).ID)
	if _, err := w.Open(t.Context(), 0); err != store.ErrFull {
		t.Errorf("Open without room: %v, want ErrFull", err)
	}
	other.Close()
	wantEmpty(t, s)
}

// A body of unknown length ends in a chunk that is cut to its length, at the
// latest when its last reader closes.
func TestTrim(t *testing.T) {
	s := New(Options{})
	body := bytes.Repeat([]byte("0123456789"), 30_001)
	for _, size := range []int{1, 100, 4000, 5000, 70_000, len(body)} {
		for _, read := range []bool{false, true} {
			w, err := s.Create(ctx, store.Key("k"), nil, -1)
			if err != nil {
				t.Fatal(err)
			}
			var r io.ReadCloser
			if read {
				r, _ = w.Open(t.Context(), 0)
			}
			for rest := body[:size]; len(rest) > 0; rest = rest[min(1000, len(rest)):] {
				w.Write(rest[:min(1000, len(rest))])
			}
			e, err := w.Commit(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if read {
				r.Close()
			}
			charged := s.Stats().Bytes - entryOverhead
			if charged > int64(size+size/4+64) {
				t.Errorf("%d octets, read meanwhile: %t; are charged %d", size, read, charged)
			}
			audit(t, s)
			got, err := io.ReadAll(mustOpen(t, s, e.ID))
			if err != nil || !bytes.Equal(got, body[:size]) {
				t.Errorf("%d octets came back as %d, %v", size, len(got), err)
			}
			s.shardOfID(e.ID).unpin(s.shardOfID(e.ID).byID[e.ID]) // the reader above
			s.Remove(ctx, e.ID)
		}
	}
	wantEmpty(t, s)
}

// While a chunk is being cut somebody may open the entry: then it is left as
// it is, for the new reader may hold it.
func TestTrimLosesToReader(t *testing.T) {
	s := New(Options{})
	w, _ := s.Create(ctx, store.Key("k"), nil, -1)
	w.Write([]byte("body"))
	follower, _ := w.Open(ctx, 0) // keeps Commit from cutting
	e, err := w.Commit(ctx)
	if err != nil {
		t.Fatal(err)
	}
	r := mustOpen(t, s, e.ID)
	before := s.Stats().Bytes
	sh := s.shardOfID(e.ID)
	sh.mu.Lock()
	sh.trim(sh.byID[e.ID]) // as if r had come in between
	if got := cap(sh.byID[e.ID].chunks[0]); got != firstChunk {
		t.Errorf("the chunk has %d octets under its reader, and had %d", got, firstChunk)
	}
	sh.mu.Unlock()
	if got := s.Stats().Bytes; got != before {
		t.Errorf("charged %d octets, want %d", got, before)
	}
	r.Close()
	follower.Close()
	if got := s.Stats().Bytes; got >= before {
		t.Errorf("charged %d octets after the last reader, want less than %d", got, before)
	}
	audit(t, s)
	wantEmpty(t, s)
}

// What is charged is at least nine tenths of what the heap grows by.
func TestOverhead(t *testing.T) {
	if testing.Short() {
		t.Skip("measures the heap")
	}
	for _, c := range []struct {
		name     string
		entries  int
		variants int
		body     int
		known    bool
	}{
		{"empty", 30_000, 1, 0, true},
		{"tiny", 30_000, 1, 1, true},
		{"tiny, grown maps", 57_500, 1, 1, true}, // just after the indexes doubled
		{"unknown", 20_000, 1, 700, false},
		{"variants", 20_000, 50, 10, true},
		{"odd", 2_000, 1, 33_000, true},
		{"chunks", 200, 1, 300_000, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			body := make([]byte, c.body)
			declared := int64(-1)
			if c.known {
				declared = int64(c.body)
			}
			before := heap()
			s := New(Options{Budget: 1 << 30})
			for i := range c.entries {
				w, err := s.Create(ctx, fmt.Append(nil, "key ", i/c.variants), fmt.Append(make([]byte, 0, 8), i), declared)
				if err != nil {
					t.Fatal(err)
				}
				w.Write(body)
				if _, err := w.Commit(ctx); err != nil {
					t.Fatal(err)
				}
			}
			grown := heap() - before
			charged := s.Stats().Bytes
			t.Logf("charged %d, grown %d: %d%%; %d octets of overhead an entry", charged, grown, 100*charged/grown,
				(grown-charged)/int64(c.entries)+entryOverhead)
			if charged < grown*9/10 {
				t.Errorf("charged %d octets where the heap grew by %d", charged, grown)
			}
			if got := s.Stats().Objects; got != c.entries {
				t.Errorf("%d entries are there, want %d", got, c.entries)
			}
			runtime.KeepAlive(body)
			s.Close()
		})
	}
}

// heap returns the octets in use after a collection.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// An allocation takes no more than was reserved for it, which is not much
// more than was asked.
func TestAllot(t *testing.T) {
	for n := 1; n < 80_000; n += 1 + n/300 {
		c := newChunk(n)
		if full := append([]byte(nil), make([]byte, n)...); cap(c) != cap(full) {
			t.Fatalf("a chunk for %d octets has %d, and the heap gave %d", n, cap(c), cap(full))
		}
	}
}
