package memory

import (
	"bytes"
	"errors"
	"io"
	"math"
	"sync"
	"testing"

	"github.com/larderhq/larder/store"
)

func commit(t *testing.T, s *Store, key string, body []byte) store.Entry {
	t.Helper()
	w, err := s.Create(ctx, store.Key(key), store.Head{}, int64(len(body)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(body); err != nil {
		t.Fatal(err)
	}
	e, err := w.Commit(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// A reader that first looked at the wrong entry, whose number the right one had
// before, forgets how little of it there was.
func TestLookAgain(t *testing.T) {
	s := New(Options{Budget: 8 << 20})
	defer s.Close()
	key := []byte("k")
	sh, hash := s.locate(key)
	o := opening{shard: sh, hash: hash, key: key, id: 7, want: -1}
	for _, size := range []int64{100, 9000} {
		if err := s.Forget(ctx, key); err != nil {
			t.Fatal(err)
		}
		body := make([]byte, size)
		fillOctets(body, uint64(size))
		if err := s.Put(&store.Object{Key: key, ID: 7, Size: size, Body: bytes.NewReader(body)}); err != nil {
			t.Fatal(err)
		}
		o.look()
		if !o.there || !bytes.Equal(o.buffer.octets[:o.copied], body) {
			t.Errorf("%d octets of %d were copied, or others", o.copied, size)
		}
	}
	o.buffer.give()
}

// An entry that becomes another one while somebody compares its key has a
// record that may be shorter than that key.
func TestKeyOfAnotherEntry(t *testing.T) {
	s := New(Options{Budget: 1 << 20})
	defer s.Close()
	if s.heap {
		return // readers have the lock
	}
	key := bytes.Repeat([]byte("long "), 3000)
	commit(t, s, string(key), nil)
	sh, hash := s.locate(key)
	n, _, _ := sh.find(hash, key)
	e := sh.book.at(n)
	was := e.snapshot()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			for range 100 { // as giveEntry does, and whoever takes the entry next
				e.when, e.span = 0, 0
				e.when, e.span = was.when, was.span
			}
		}
	})
	for range 200_000 {
		sh.attempt(hash, func() { sh.find(hash, key) })
	}
	close(stop)
	wg.Wait()
}

// Who lets go of an entry needs no lock, also while more entries come.
func TestUnpinOnHeap(t *testing.T) {
	s := New(Options{Budget: 32 << 20, Heap: true})
	defer s.Close()
	body := make([]byte, 100_000)
	e := commit(t, s, "k", body)
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 2000 {
			r, err := s.Open(ctx, store.Key("k"), e.ID, 0, -1)
			if err != nil {
				t.Error(err)
				return
			}
			r.Close()
		}
	})
	for i := range 20_000 {
		commit(t, s, string(rune(i)), nil)
	}
	wg.Wait()
}

// A body that finds no room while somebody reads it.
func TestFullWhileFollowed(t *testing.T) {
	s := New(Options{Budget: 1 << 20, MaxObject: 1 << 20})
	defer s.Close()
	w, err := s.Create(ctx, store.Key("k"), store.Head{}, -1)
	if err != nil {
		t.Fatal(err)
	}
	r, err := w.Open(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		defer r.Close()
		var err error
		p, total := make([]byte, 16), 0
		for err == nil {
			n := 0
			n, err = r.Read(p)
			total += n
		}
		if !errors.Is(err, store.ErrFull) || total < 256<<10 {
			t.Errorf("%d octets were read, then %v", total, err)
		}
	})
	p := make([]byte, 4096)
	for err == nil {
		_, err = w.Write(p)
	}
	w.Abort(err)
	wg.Wait()
}

// A store that is half closed has nobody who could leave.
func TestVictimOfClosedShard(t *testing.T) {
	for _, heap := range []bool{false, true} {
		s := New(Options{Budget: 256 << 20, Heap: heap})
		for i := range 1000 {
			commit(t, s, string(rune(i)), nil)
		}
		s.shards[0].close()
		c := claim{shard: &s.shards[0], size: 1}
		if s.letGo(&c); s.shards[0].evictions != 0 {
			t.Error("somebody left a shard where nobody was")
		}
		s.Close()
	}
}

// Turns are counted on, and come round.
func TestTurns(t *testing.T) {
	s := New(Options{Budget: 256 << 20})
	defer s.Close()
	for _, turn := range []uint32{math.MaxInt32 - 3, math.MaxUint32 - 3} {
		s.turn.Store(turn)
		for range 6 {
			s.letGo(&claim{shard: &s.shards[0], size: 1 << 20, admitted: true})
		}
	}
}

// Nothing was written: that is what readers receive, and the cause.
func TestOpenAfterEmptyAbort(t *testing.T) {
	s := New(Options{})
	defer s.Close()
	w, err := s.Create(ctx, store.Key("k"), store.Head{}, -1)
	if err != nil {
		t.Fatal(err)
	}
	cause := errors.New("cause")
	w.Abort(cause)
	r, err := w.Open(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if b, err := io.ReadAll(r); len(b) != 0 || err != cause {
		t.Errorf("%d octets and %v", len(b), err)
	}
}
