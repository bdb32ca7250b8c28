package storetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/larderhq/larder/store"
)

// Hammer calls a store from many goroutines at once and checks every octet
// that it returns: each head and body says, or follows from, the key it
// belongs to. The store may be of any size, and may forget as it likes. It is
// part of Run, and worth running again on a store that is too small.
func Hammer(t *testing.T, s store.Store) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	h := &hammer{t: t, s: s}
	var wg sync.WaitGroup
	for g := range uint64(8) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, g))
			for range 250 {
				if t.Failed() {
					return
				}
				h.step(r)
			}
			for _, r := range h.take() {
				h.finish(r)
			}
		})
	}
	wg.Wait()
	for _, r := range h.take() {
		h.finish(r)
	}
}

type hammer struct {
	t           *testing.T
	s           store.Store
	generations atomic.Uint64

	mu   sync.Mutex
	open []opened // readers left open for whoever comes next
}

// opened is a reader and what it has yet to give.
type opened struct {
	io.ReadCloser
	rest []byte
	what string
}

func (h *hammer) leave(o opened) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open = append(h.open, o)
}

func (h *hammer) take() []opened {
	h.mu.Lock()
	defer h.mu.Unlock()
	open := h.open
	h.open = nil
	return open
}

func (h *hammer) finish(o opened) {
	got, err := io.ReadAll(o)
	if err != nil || !bytes.Equal(got, o.rest) {
		h.t.Errorf("%s: %d octets that are not the %d expected, or %v", o.what, len(got), len(o.rest), err)
	}
	if err := o.Close(); err != nil {
		h.t.Error(err)
	}
}

// mintHead is a head that names what it belongs to, and is whole or wrong.
func mintHead(key string, generation uint64, size int, salt uint32) []byte {
	b := binary.BigEndian.AppendUint64(nil, generation)
	b = binary.BigEndian.AppendUint64(b, uint64(size))
	b = binary.BigEndian.AppendUint32(b, salt)
	b = append(b, key...)
	b = append(b, bytes.Repeat([]byte{byte(salt)}, int(salt%300))...)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// check returns the body that the entry e under key must have, and its number; false if the
// entry has gone meanwhile, or is wrong.
func (h *hammer) check(key string, e store.Entry) (generation uint64, body []byte, ok bool) {
	head, err := h.s.Head(h.t.Context(), store.Key(key), e.ID, e.Rev)
	switch {
	case errors.Is(err, store.ErrGone):
		return 0, nil, false
	case err != nil:
		h.t.Errorf("Head: %v", err)
		return 0, nil, false
	case !wholeHead(h.t, key, e, head):
		return 0, nil, false
	}
	generation = binary.BigEndian.Uint64(head)
	return generation, pattern(key, generation, int(e.Size)), true
}

// wholeHead tells whether head is of mintHead, for e under key, and fails the test if it is not.
func wholeHead(t *testing.T, key string, e store.Entry, head []byte) bool {
	if len(head) < 20 {
		t.Errorf("under %q: a head of %d octets", key, len(head))
		return false
	}
	size, salt := int(binary.BigEndian.Uint64(head[8:])), binary.BigEndian.Uint32(head[16:])
	if !bytes.Equal(head, mintHead(key, binary.BigEndian.Uint64(head), size, salt)) || e.Size != int64(size) {
		t.Errorf("under %q: a foreign or torn head, or size %d where the head says %d", key, e.Size, size)
		return false
	}
	return true
}

func (h *hammer) step(r *rand.Rand) {
	ctx := h.t.Context()
	key := fmt.Sprint("key ", r.IntN(12))
	es, err := h.s.Lookup(ctx, store.Key(key), nil)
	if err != nil {
		h.t.Error(err)
		return
	}
	bodies, generations := make([][]byte, len(es)), make([]uint64, len(es))
	for i, e := range es {
		var ok bool
		if generations[i], bodies[i], ok = h.check(key, e); !ok {
			return
		}
	}
	if n := r.IntN(10); n < 3 || len(es) == 0 {
		h.create(ctx, r, key, es)
		return
	} else if n == 9 {
		for _, o := range h.take() {
			h.finish(o)
		}
		return
	}
	i := r.IntN(len(es))
	e, body := es[i], bodies[i]
	switch n := r.IntN(10); {
	case n == 0:
		if err := h.s.Remove(ctx, store.Key(key), e.ID); err != nil {
			h.t.Errorf("Remove: %v", err)
		}
	case n == 1:
		head := mintHead(key, generations[i], len(body), r.Uint32())
		if err := h.s.Amend(ctx, store.Key(key), e.ID, store.Head{Octets: head}); err != nil && !errors.Is(err, store.ErrGone) && !errors.Is(err, store.ErrFull) {
			h.t.Errorf("Amend: %v", err)
		}
	default:
		off, want := 0, body
		limit := int64(-1)
		if n > 5 {
			off = r.IntN(len(body) + 1)
			limit = int64(r.IntN(len(body) - off + 1))
			want = body[off : off+int(limit)]
		}
		reader, err := h.s.Open(ctx, store.Key(key), e.ID, int64(off), limit)
		if err != nil {
			if !errors.Is(err, store.ErrGone) {
				h.t.Errorf("Open: %v", err)
			}
			return
		}
		o := opened{ReadCloser: reader, rest: want, what: fmt.Sprintf("%q, %d of %d octets from %d", key, limit, len(body), off)}
		if n == 2 {
			h.leave(o)
		} else {
			h.finish(o)
		}
	}
}

// create stores a body under key, read by others while it is written, and
// replaces some of the entries es.
func (h *hammer) create(ctx context.Context, r *rand.Rand, key string, es []store.Entry) {
	generation := h.generations.Add(1)
	body := pattern(key, generation, r.IntN(1<<r.IntN(17)))
	declared := int64(len(body))
	if r.IntN(2) == 0 {
		declared = -1
	}
	w, err := h.s.Create(ctx, store.Key(key), store.Head{Octets: mintHead(key, generation, len(body), 0)}, declared)
	if errors.Is(err, store.ErrFull) {
		return
	} else if err != nil {
		h.t.Errorf("Create: %v", err)
		return
	}
	abort := r.IntN(8) == 0
	cause := errors.New("the hammer's cause")
	var wg sync.WaitGroup
	defer wg.Wait()
	for range r.IntN(3) {
		off := r.IntN(len(body) + 1)
		reader, err := w.Open(ctx, int64(off))
		if err != nil {
			h.t.Errorf("Writer.Open: %v", err)
			continue
		}
		wg.Go(func() {
			got, err := io.ReadAll(reader)
			reader.Close()
			rest := body[off:]
			switch {
			case err == nil && bytes.Equal(got, rest):
			case (errors.Is(err, cause) || errors.Is(err, store.ErrFull)) && bytes.HasPrefix(rest, got):
			default:
				h.t.Errorf("following %q from %d: %d octets that are not the %d expected, or %v", key, off, len(got), len(rest), err)
			}
		})
	}
	for rest := body; len(rest) > 0; {
		n := 1 + r.IntN(len(rest))
		if _, err := w.Write(rest[:n]); err != nil {
			if !errors.Is(err, store.ErrFull) {
				h.t.Errorf("Write: %v", err)
			}
			w.Abort(err)
			return
		}
		rest = rest[n:]
	}
	if abort {
		w.Abort(cause)
		return
	}
	var replaces []store.ID
	for _, e := range es {
		if r.IntN(3) == 0 {
			replaces = append(replaces, e.ID)
		}
	}
	e, err := w.Commit(ctx, replaces...)
	if err != nil {
		if !errors.Is(err, store.ErrFull) {
			h.t.Errorf("Commit: %v", err)
		}
		w.Abort(err)
		return
	}
	h.check(key, e)
	now, err := h.s.Lookup(ctx, store.Key(key), nil)
	if err != nil {
		h.t.Error(err)
	}
	for _, e := range now {
		if slices.Contains(replaces, e.ID) {
			h.t.Errorf("under %q: entry %d was replaced and is there", key, e.ID)
		}
	}
}
