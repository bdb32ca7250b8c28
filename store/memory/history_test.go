package memory

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/larderhq/larder/store"
)

// history plays what octets say on a small store, holds each answer to what
// was committed, and audits the store after each step.
func history(t *testing.T, s *Store, octets []byte) {
	type known struct {
		key  byte
		body []byte
		rev  uint32
	}
	entries := map[store.ID]*known{}
	var readers []opened
	type begun struct {
		store.Writer
		key  byte
		body []byte
	}
	var writers []begun
	next := func() (n int) {
		if len(octets) > 0 {
			n, octets = int(octets[0]), octets[1:]
		}
		return n
	}
	head := func(key byte, rev, n int) []byte {
		return append([]byte{key}, bytes.Repeat([]byte{byte(rev)}, n)...)
	}
	octet := func(n int) []byte {
		b := make([]byte, n)
		fillOctets(b, uint64(len(octets)+1))
		return b
	}
	for len(octets) > 0 {
		key := byte(next() % 8)
		name := store.Key(bytes.Repeat([]byte{key}, int(key)*40))
		es, err := s.Lookup(ctx, name, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range es {
			if k := entries[e.ID]; k == nil || k.key != key || e.Size != int64(len(k.body)) || e.Rev != k.rev {
				t.Fatalf("Lookup returned %+v, known is %+v", e, k)
			}
		}
		do, n := next(), next()
		switch do % 10 {
		case 0, 1, 2: // a body of a length of any magnitude
			size := n << (do / 10 % 11)
			declared := int64(size)
			if do%2 == 0 {
				declared = -1
			}
			body := octet(size)
			w, err := s.Create(ctx, name, store.Head{Octets: head(key, 0, n)}, declared)
			if err != nil {
				break
			}
			if _, err := w.Write(body); err != nil {
				w.Abort(nil)
				break
			}
			var replaces []store.ID
			for i, e := range es {
				if i%2 == n%2 {
					replaces = append(replaces, e.ID)
				}
			}
			if e, err := w.Commit(ctx, replaces...); err == nil {
				entries[e.ID] = &known{key: key, body: body}
			} else {
				w.Abort(err)
			}
		case 3:
			if w, err := s.Create(ctx, name, store.Head{Octets: head(key, 0, 0)}, -1); err == nil {
				writers = append(writers, begun{Writer: w, key: key})
			}
		case 4:
			if len(writers) > 0 {
				w := &writers[n%len(writers)]
				p := octet(do << (n % 8))
				if _, err := w.Write(p); err == nil {
					w.body = append(w.body, p...)
				}
				if r, err := w.Open(ctx, 0); err == nil && n%3 == 0 {
					p := make([]byte, len(w.body))
					if _, err := io.ReadFull(r, p); err != nil || !bytes.Equal(p, w.body) {
						t.Fatalf("a follower read something else, or %v", err)
					}
					readers = append(readers, opened{ReadCloser: r})
				} else if err == nil {
					r.Close()
				}
			}
		case 5:
			if len(writers) > 0 {
				w := writers[0]
				writers = writers[1:]
				if e, err := w.Commit(ctx); err == nil {
					entries[e.ID] = &known{key: w.key, body: w.body}
				} else {
					w.Abort(err)
				}
			}
		case 6:
			for _, e := range es {
				if k := entries[e.ID]; int(e.ID)%2 == n%2 {
					err := s.Amend(ctx, name, e.ID, store.Head{Octets: head(key, int(k.rev)+1, n*n%3000)})
					if err == nil {
						k.rev++
					} else if !errors.Is(err, store.ErrFull) && !errors.Is(err, store.ErrGone) {
						t.Fatal(err)
					}
				}
			}
		case 7:
			for i, e := range es {
				if i%3 == n%3 {
					s.Remove(ctx, name, e.ID)
				}
			}
		case 8:
			for _, e := range es {
				k := entries[e.ID]
				off := n * len(k.body) / 256
				r, err := s.Open(ctx, name, e.ID, int64(off), -1)
				if err != nil {
					t.Fatal(err)
				}
				readers = append(readers, opened{r, k.body[off:]})
				h, err := s.Head(ctx, name, e.ID, e.Rev)
				if err != nil || h[0] != key || len(h) > 1 && h[len(h)-1] != byte(e.Rev) {
					t.Fatalf("the head of %+v is %d octets, %v", e, len(h), err)
				}
			}
		case 9:
			for len(readers) > n%4 {
				readers[0].finish(t)
				readers = readers[1:]
			}
		}
		if len(readers) > 0 || len(writers) > 0 {
			continue // audit does not know of followers
		}
		audit(t, s)
		if t.Failed() {
			t.Fatalf("after %d, %d of key %d; %d octets are left", do, n, key, len(octets))
		}
	}
	for _, r := range readers {
		r.finish(t)
	}
	for _, w := range writers {
		w.Abort(nil)
	}
	audit(t, s)
	wantEmpty(t, s)
}

// opened is a reader and what it has yet to give.
type opened struct {
	io.ReadCloser
	rest []byte
}

func (o opened) finish(t *testing.T) {
	t.Helper()
	if o.rest != nil {
		if got, err := io.ReadAll(o); err != nil || !bytes.Equal(got, o.rest) {
			t.Errorf("read %d octets that are not the %d expected, or %v", len(got), len(o.rest), err)
		}
	}
	o.Close()
}

// FuzzHistory tries any order of calls, in stores that are always full.
func FuzzHistory(f *testing.F) {
	for seed := range uint64(12) {
		b := make([]byte, 3000)
		fillOctets(b, seed)
		for i := 0; i+8 <= len(b); i += 8 { // as random as it gets
			x := binary.LittleEndian.Uint64(b[i:])
			x ^= x >> 31
			binary.LittleEndian.PutUint64(b[i:], x*0xbf58476d1ce4e5b9)
		}
		f.Add(b, uint32(40_000<<(seed%6)), seed%2 == 0, seed%3 == 0)
	}
	f.Fuzz(func(t *testing.T, octets []byte, budget uint32, heap, collide bool) {
		s := New(Options{Budget: int64(budget%(4<<20)) + 1, MaxObject: 1 << 20, Heap: heap})
		if collide {
			s.mask = 3
		}
		history(t, s, octets[:min(len(octets), 3000)])
	})
}
