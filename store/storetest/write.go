package storetest

import (
	"errors"
	"io"
	"math"
	"testing"

	"github.com/larderhq/larder/store"
)

// Write appends to the body and keeps a copy of p.
func writeCopies(t *testing.T, s store.Store) {
	body := pattern("k", 0, 100_000)
	w := create(t, s, "k", -1)
	write(t, w, nil)
	p := make([]byte, 0, 999)
	for rest := body; len(rest) > 0; rest = rest[len(p):] {
		p = append(p[:0], rest[:min(cap(p), len(rest))]...)
		n := len(p)
		write(t, w, p)
		clear(p)
		p = p[:n]
	}
	e, err := w.Commit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wantBody(t, openBody(t, s, "k", e.ID, 0, -1), body)
}

// ErrFull: a body of this size is not kept, or has grown past what is. What
// was written before stays readable, nothing of p was taken, and all that is
// left to do is Abort.
func writeFull(t *testing.T, s store.Store) {
	for _, size := range []int64{Refused, math.MaxInt64} {
		_, err := s.Create(t.Context(), store.Key("k"), store.Head{}, size)
		wantErr(t, "Create of a body that is too large", err, store.ErrFull)
	}

	w := create(t, s, "k", -1)
	piece := pattern("k", 0, 1<<20)
	written := 0
	for ; ; written += len(piece) {
		n, err := w.Write(piece)
		if err == nil && n == len(piece) && written < Refused {
			continue
		}
		if n != 0 {
			t.Errorf("Write took %d octets at %d and failed with %v, want none", n, written, err)
		}
		wantErr(t, "Write past what the store keeps", err, store.ErrFull)
		break
	}
	if written < Kept {
		t.Errorf("a body of %d octets is too large, want %d to be kept", written+len(piece), Kept)
	}
	during, late := follow(t, w, 0), follow(t, w, int64(written)-10)
	if _, err := w.Commit(t.Context()); err == nil {
		t.Error("Commit after ErrFull succeeded")
	}
	cause := errors.New("the caller's cause")
	w.Abort(cause)
	wantIDs(t, s, "k")
	tail, err := io.ReadAll(late)
	wantSame(t, tail, piece[len(piece)-10:])
	if err == nil {
		t.Error("the incomplete body ends with io.EOF")
	}
	closeBody(t, late)
	if n, err := io.Copy(io.Discard, during); n != int64(written) || err == nil {
		t.Errorf("read %d octets and the error %v, want the %d written before and an error", n, err, written)
	}
	closeBody(t, during)

	// A body of size at once takes nothing either, and does the store no harm.
	w = create(t, s, "k", -1)
	if n, err := w.Write(make([]byte, Refused)); n != 0 || !errors.Is(err, store.ErrFull) {
		t.Errorf("Write of %d octets = %d, %v", Refused, n, err)
	}
	w.Abort(cause)
	e := put(t, s, "k", nil, piece)
	wantBody(t, openBody(t, s, "k", e.ID, 0, -1), piece)
}

// Size is the length of the body: what is committed is as long as was
// declared, or is not committed.
func writeDeclared(t *testing.T, s store.Store) {
	const size = 5000
	body := pattern("k", 0, size+1)
	for _, n := range []int{0, 1, size - 1} {
		w := create(t, s, "k", size)
		r := follow(t, w, 0)
		write(t, w, body[:n])
		if _, err := w.Commit(t.Context()); err == nil {
			t.Errorf("Commit of %d octets where %d were declared succeeded", n, size)
		}
		wantIDs(t, s, "k")
		cause := errors.New("cut short")
		w.Abort(cause) // a failed Commit left that to us
		wantEnd(t, r, body[:n], cause)
	}
	for _, first := range []int{0, 1, size} {
		w := create(t, s, "k", size)
		write(t, w, body[:first])
		if n, err := w.Write(body[first:]); n != 0 || err == nil {
			t.Errorf("Write past the declared size = %d, %v; want nothing taken and an error", n, err)
		}
		if _, err := w.Commit(t.Context()); err == nil {
			t.Error("Commit after a Write failed succeeded")
		}
		wantIDs(t, s, "k")
		w.Abort(nil)
	}
	if _, err := commit(t.Context(), s, "k", nil, []byte("x"), 0); err == nil {
		t.Error("a body declared to be empty was committed with an octet")
	}
	wantIDs(t, s, "k")
	e := put(t, s, "k", nil, body[:size])
	wantIDs(t, s, "k", e.ID)
}

// Abort ends the writer without an entry. Readers receive what was written
// and then cause, or io.EOF if cause is nil.
func abortCause(t *testing.T, s store.Store) {
	body := pattern("k", 0, 9000)
	for _, size := range []int64{-1, 9000, 10_000} {
		for _, cause := range []error{nil, errors.New("the origin went away")} {
			w := create(t, s, "k", size)
			write(t, w, body)
			before := follow(t, w, 0)
			w.Abort(cause)
			wantIDs(t, s, "k")
			after, err := w.Open(t.Context(), 8000)
			if err != nil {
				t.Fatalf("Open of an aborted writer: %v", err)
			}
			wantEnd(t, before, body, cause)
			wantEnd(t, after, body[8000:], cause)
			if _, err := w.Commit(t.Context()); err == nil {
				t.Error("Commit after Abort succeeded")
			}
			if n, err := w.Write(body[:1]); n != 0 || err == nil {
				t.Errorf("Write after Abort = %d, %v", n, err)
			}
			wantIDs(t, s, "k")
		}
	}
}

// After Commit or another Abort it does nothing.
func abortAfter(t *testing.T, s store.Store) {
	body := pattern("k", 0, 9000)
	late := errors.New("too late")

	w := create(t, s, "k", -1)
	write(t, w, body)
	r := follow(t, w, 0)
	e, err := w.Commit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.Abort(late)
	wantIDs(t, s, "k", e.ID)
	wantBody(t, openBody(t, s, "k", e.ID, 0, -1), body)
	wantBody(t, r, body)
	wantBody(t, follow(t, w, 0), body)
	if n, err := w.Write(body); n != 0 || err == nil {
		t.Errorf("Write after Commit = %d, %v", n, err)
	}
	wantBody(t, openBody(t, s, "k", e.ID, 0, -1), body)

	first := errors.New("first")
	w = create(t, s, "k", -1)
	write(t, w, body)
	r = follow(t, w, 0)
	w.Abort(first)
	w.Abort(late)
	w.Abort(nil)
	wantEnd(t, r, body, first)
	wantIDs(t, s, "k", e.ID)
}
