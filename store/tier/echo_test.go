package tier

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/larderhq/larder/internal/vfs"
	"github.com/larderhq/larder/store"
)

// held says whether memory has something under key.
func held(t *testing.T, s *Store, key string) bool {
	t.Helper()
	es, err := s.memory.Lookup(ctx, store.Key(key), nil)
	if err != nil {
		t.Fatal(err)
	}
	return len(es) > 0
}

// A short body comes back with the second reader, from what it has read.
func TestComesBackInHand(t *testing.T) {
	var reads atomic.Int64
	fs := &vfs.Faulty{FS: vfs.NewMem(1 << 30), Hook: func(op vfs.Op) vfs.Fault {
		if op.Kind == vfs.OpReadAt {
			reads.Add(1)
		}
		return vfs.Fault{}
	}}
	s := over(t, fs, 1<<20)
	e := mustPut(t, s, "k", 1, 20_000)
	for i := range 200 {
		mustPut(t, s, fmt.Sprint("other ", i), 1, 20_000)
	}
	for try := range 2 {
		reads.Store(0)
		r, err := s.Open(ctx, store.Key("k"), e.ID, 0, 10)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := held(t, s, "k"), try == 1; got != want {
			t.Errorf("served %d times: in memory %t, want %t", try+1, got, want)
		}
		if n := reads.Load(); n > 2 {
			t.Errorf("served %d times: %d reads", try+1, n)
		}
		r.Close()
	}
	if g := generation(t, s, "k"); g != 1 {
		t.Errorf("generation %d came back", g)
	}
}

// What is asked for in turn, and is much more than memory holds, stays on disk
// for the most part; what is asked for again and again among it comes back.
func TestInTurn(t *testing.T) {
	s := over(t, vfs.NewMem(1<<30), 1<<20)
	const n, rounds = 800, 4
	for i := range n {
		mustPut(t, s, fmt.Sprint(i), 1, 20_000)
	}
	before := s.Memory().Stats().Evictions
	for range rounds {
		for i := range n {
			if g := generation(t, s, fmt.Sprint(i)); g != 1 {
				t.Fatalf("generation %d of %d", g, i)
			}
		}
	}
	if moved := s.Memory().Stats().Evictions - before; moved > n*rounds/20 {
		t.Errorf("%d entries left memory for %d others", moved, n*rounds)
	}
	// Memory may refuse it once, and its echo may be lost to another.
	for try := 0; !held(t, s, "1"); try++ {
		if generation(t, s, "1"); try > 10 {
			t.Fatal("what is asked for again and again is not in memory")
		}
	}
}

// As long as memory has room, what the disk has served before comes back however
// long that was ago: so it is after a restart.
func TestComesBackToRoom(t *testing.T) {
	fs := vfs.NewMem(1 << 30)
	s := over(t, fs, 32<<20)
	const n = 800
	for i := range n {
		mustPut(t, s, fmt.Sprint(i), 1, 20_000)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = over(t, fs, 32<<20)
	for range 2 {
		for i := range n {
			generation(t, s, fmt.Sprint(i))
		}
	}
	if got := s.Memory().Stats().Objects; got < n*9/10 {
		t.Errorf("%d of %d are in memory", got, n)
	}
}
