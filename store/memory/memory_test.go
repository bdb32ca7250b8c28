package memory

import (
	"context"
	"fmt"
	"io"
	"testing"

	"go.uber.org/goleak"

	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/storetest"
)

// ctx is for calls that have no use for one.
var ctx = context.Background()

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		s := New(Options{Budget: 4 * storetest.Room, MaxObject: 8 << 20})
		t.Cleanup(func() { s.Close() })
		return s
	})
}

func BenchmarkStore(b *testing.B) {
	storetest.Bench(b, func(b *testing.B) store.Store {
		s := New(Options{Budget: 4 * storetest.Room, MaxObject: 8 << 20})
		b.Cleanup(func() { s.Close() })
		return s
	})
}

// An equal hash is not an equal key.
func TestCollisions(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		s := New(Options{Budget: 4 * storetest.Room, MaxObject: 8 << 20})
		s.mask = 0
		t.Cleanup(func() { s.Close() })
		return s
	})
	s := New(Options{})
	s.mask = 0
	const n = 50
	for i := range n {
		mustPut(t, s, fmt.Sprint(i), i)
	}
	if got := len(s.shards[0].families); got != 1 || s.Stats().Keys != n {
		t.Fatalf("%d keys with %d hashes, want %d with one", s.Stats().Keys, got, n)
	}
	for at, i := range []int{n - 1, 0, 20, 21, 19, 48} { // first, last and inside of the chain
		es, _ := s.Lookup(ctx, fmt.Append(nil, i))
		if len(es) != 1 || es[0].Size != int64(i) {
			t.Fatalf("key %d has the entries %+v", i, es)
		}
		s.Remove(ctx, es[0].ID)
		if has(s, fmt.Sprint(i)) || s.Stats().Keys != n-at-1 {
			t.Errorf("key %d is there after Remove, or others left: %+v", i, s.Stats())
		}
	}
	wantEmpty(t, s)
}

// Open readers finish undisturbed after Close, and then nothing is charged.
func TestCloseLeavesReaders(t *testing.T) {
	s := New(Options{})
	e := mustPut(t, s, "k", 50_000)
	r := mustOpen(t, s, e.ID)
	mustPut(t, s, "other", 50_000)
	s.Close()
	if got := s.Stats(); got.Bytes < 50_000 || got.Bytes > 60_000 {
		t.Errorf("with one reader left: %+v", got)
	}
	if got, err := io.ReadAll(r); len(got) != 50_000 || err != nil {
		t.Errorf("read %d octets and %v", len(got), err)
	}
	r.Close()
	if got := s.Stats(); got.Bytes != 0 || got.Objects != 0 || got.Keys != 0 {
		t.Errorf("after the last reader: %+v", got)
	}
}

// The zero Options are a store of 64 MiB for bodies of 8 MiB.
func TestOptions(t *testing.T) {
	s := New(Options{})
	if s.budget != 64<<20 || s.maxObject != 8<<20 {
		t.Errorf("budget %d, longest body %d", s.budget, s.maxObject)
	}
	if _, err := s.Create(ctx, nil, nil, 8<<20+1); err != store.ErrFull {
		t.Errorf("Create beyond the longest body: %v", err)
	}
	for _, off := range []int64{-1, -1 << 63} {
		if _, err := s.Open(ctx, mustPut(t, s, "k", 1).ID, off, 1); err == nil {
			t.Errorf("Open at the offset %d succeeded", off)
		}
	}
}

// The way of a hit allocates a reader and nothing else.
func TestAllocations(t *testing.T) {
	s := New(Options{})
	e := mustPut(t, s, "k", 5000)
	key := store.Key("k")
	for _, c := range []struct {
		name string
		most float64
		do   func()
	}{
		{"Lookup", 0, func() { s.Lookup(ctx, key) }},
		{"Open for use", 0, func() { r, _ := s.Open(ctx, e.ID, 0, 0); r.Close() }},
		{"Open", 1, func() { r, _ := s.Open(ctx, e.ID, 0, -1); r.(io.WriterTo).WriteTo(io.Discard); r.Close() }},
	} {
		if got := testing.AllocsPerRun(100, c.do); got > c.most {
			t.Errorf("%s allocates %v times, want %v", c.name, got, c.most)
		}
	}
}
