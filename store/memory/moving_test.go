package memory

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larderhq/larder/store"
)

// fillOctets writes octets that follow from seed and from where they are.
func fillOctets(b []byte, seed uint64) {
	at := 0
	for ; at+8 <= len(b); at += 8 {
		binary.LittleEndian.PutUint64(b[at:], (seed+uint64(at))*0x9e3779b97f4a7c15)
	}
	for ; at < len(b); at++ {
		b[at] = byte(seed) + byte(at)
	}
}

// A load is what the readers and writers of this test do.
type load struct {
	t    *testing.T
	s    *Store
	keys int

	hits, lost, writes atomic.Int64
}

func (l *load) key(i int) []byte {
	return append(fmt.Appendf(nil, "key %d ", i), bytes.Repeat([]byte{byte(i)}, i%97)...)
}

// head says what the body is: its seed and its length; and then some more,
// which follows from salt.
func (l *load) head(key []byte, seed uint64, size int, salt uint32) []byte {
	b := binary.BigEndian.AppendUint64(nil, seed)
	b = binary.BigEndian.AppendUint64(b, uint64(size))
	b = binary.BigEndian.AppendUint32(b, salt)
	b = append(b, key...)
	more := make([]byte, salt%700)
	fillOctets(more, uint64(salt))
	return append(b, more...)
}

// size is mostly small: records have to move.
func size(r *rand.Rand) int {
	switch r.IntN(20) {
	case 0:
		return r.IntN(200_000)
	case 1, 2:
		return r.IntN(50_000)
	case 3, 4, 5:
		return r.IntN(12_000)
	}
	return r.IntN(2000)
}

func (l *load) write(r *rand.Rand) {
	l.writes.Add(1)
	key := l.key(r.IntN(l.keys))
	es, err := l.s.Lookup(ctx, key, nil)
	if err != nil {
		l.t.Error(err)
		return
	}
	if len(es) > 0 {
		e := es[r.IntN(len(es))]
		switch r.IntN(8) {
		case 0:
			if err := l.s.Remove(ctx, key, e.ID); err != nil {
				l.t.Error(err)
			}
			return
		case 1, 2, 3:
			if head, err := l.s.Head(ctx, key, e.ID, e.Rev); err == nil {
				seed := binary.BigEndian.Uint64(head)
				h := store.Head{Octets: l.head(key, seed, int(e.Size), r.Uint32())}
				if err := l.s.Amend(ctx, key, e.ID, h); err != nil && !errors.Is(err, store.ErrGone) && !errors.Is(err, store.ErrFull) {
					l.t.Error(err)
				}
			}
			return
		}
	}
	var replaces []store.ID
	for _, e := range es {
		if r.IntN(3) > 0 {
			replaces = append(replaces, e.ID)
		}
	}
	n := size(r)
	seed := r.Uint64()
	w, err := l.s.Create(ctx, key, store.Head{Octets: l.head(key, seed, n, r.Uint32())}, int64(n))
	if err == nil {
		body := make([]byte, n)
		fillOctets(body, seed)
		if _, err = w.Write(body); err == nil {
			_, err = w.Commit(ctx, replaces...)
		}
		w.Abort(err)
	}
	if err != nil && !errors.Is(err, store.ErrFull) {
		l.t.Error(err)
	}
}

func (l *load) read(r *rand.Rand, p, want []byte) {
	key := l.key(r.IntN(l.keys))
	var room [8]store.Entry
	es, err := l.s.Lookup(ctx, key, room[:0])
	if err != nil {
		l.t.Error(err)
		return
	}
	for i := 1; i < len(es); i++ {
		if es[i].ID >= es[i-1].ID {
			l.t.Errorf("the entries of a key are out of order: %+v", es)
		}
	}
	for _, e := range es {
		head, err := l.s.Head(ctx, key, e.ID, e.Rev)
		if err != nil {
			if !errors.Is(err, store.ErrGone) {
				l.t.Error(err)
			}
			l.lost.Add(1)
			continue
		}
		if len(head) < 20 || !bytes.Equal(head, l.head(key, binary.BigEndian.Uint64(head), int(e.Size), binary.BigEndian.Uint32(head[16:]))) {
			l.t.Errorf("entry %+v of %.20q has a foreign or torn head", e, key)
			continue
		}
		off, n := 0, int(e.Size)
		if n > 0 && r.IntN(3) == 0 {
			off = r.IntN(n)
			n = r.IntN(n - off + 1)
		}
		body, err := l.s.Open(ctx, key, e.ID, int64(off), int64(n))
		if err != nil {
			if !errors.Is(err, store.ErrGone) {
				l.t.Error(err)
			}
			l.lost.Add(1)
			continue
		}
		if r.IntN(4) == 0 {
			runtime.Gosched() // others may do something about it meanwhile
		}
		got, err := io.ReadFull(body, p[:n])
		body.Close()
		fillOctets(want[:e.Size], binary.BigEndian.Uint64(head))
		if err != nil && n > 0 || !bytes.Equal(p[:got], want[off:off+n]) {
			l.t.Errorf("entry %+v of %.20q: %d octets from %d are wrong, or %v", e, key, n, off, err)
		}
		l.hits.Add(1)
	}
}

// span is how long readers and movers go on.
func span(t *testing.T) time.Duration {
	seconds := os.Getenv("MOVING_SECONDS")
	if seconds == "" {
		return time.Second / 2
	}
	n, err := strconv.Atoi(seconds)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(n) * time.Second
}

// Readers without a lock see what is, or was, and never a mixture, while
// records move, heads change, and entries come and go around them.
//
// MOVING_SECONDS makes this test, and the next, longer than by default.
func TestReadersAgainstMoves(t *testing.T) {
	for _, budget := range []int64{1 << 20, 4 << 20} {
		t.Run(fmt.Sprint(budget), func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			s := New(Options{Budget: budget, MaxObject: budget / 4})
			l := &load{t: t, s: s, keys: int(budget / 4000)}
			stop := make(chan struct{})
			enough := func() bool { return l.hits.Load() > 500 && s.Stats().Evictions > 100 }
			var wg sync.WaitGroup
			for g := range uint64(6) {
				wg.Go(func() {
					r := rand.New(rand.NewPCG(seed, g))
					p, want := make([]byte, 200_000), make([]byte, 200_000)
					for {
						select {
						case <-stop:
							if enough() {
								return
							}
						default:
						}
						if t.Failed() {
							return
						}
						if g < 2 {
							l.write(r)
						} else {
							l.read(r, p, want)
						}
					}
				})
			}
			<-time.After(span(t))
			close(stop)
			wg.Wait()
			audit(t, s)
			st := s.Stats()
			t.Logf("%d bodies read, %d lost on the way, %d writes, %d evictions", l.hits.Load(), l.lost.Load(), l.writes.Load(), st.Evictions)
			wantEmpty(t, s)
		})
	}
}
