package storetest

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/larderhq/larder/store"
)

// Open reads n octets from offset off; n < 0 means to the end. Less is there
// than asked: the reader ends early.
func openRange(t *testing.T, s store.Store) {
	const size = 10_000
	body := pattern("k", 0, size)
	e := put(t, s, "k", nil, body)
	for _, off := range []int64{0, 1, 4095, 4096, size - 1, size, size + 1, 1 << 62} {
		for _, n := range []int64{-1, 0, 1, 2, 4096, size, size + 1, 1<<63 - 1} {
			t.Run(fmt.Sprint(off, "+", n), func(t *testing.T) {
				rest := body[min(off, size):]
				if n >= 0 {
					rest = rest[:min(n, int64(len(rest)))]
				}
				wantReader(t, func() io.ReadCloser { return openBody(t, s, "k", e.ID, off, n) }, rest)
			})
		}
	}
}

// A body is given back octet for octet, whatever its size, whether that is
// known or not, and however it was cut in writing.
func openSizes(t *testing.T, s store.Store) {
	for i, size := range []int{0, 1, 4095, 4096, 4097, 65536, 300_001, 1 << 20, 1<<20 + 1, Kept} {
		for _, piece := range []int{Kept, 1000 + i, 32 << 10} {
			for _, declared := range []int{size, -1} {
				body := pattern("k", uint64(size), size)
				w := create(t, s, "k", int64(declared))
				for rest := body; len(rest) > 0; rest = rest[min(piece, len(rest)):] {
					write(t, w, rest[:min(piece, len(rest))])
				}
				e, err := w.Commit(t.Context())
				if err != nil || e.Size != int64(size) {
					t.Fatalf("Commit of %d octets, declared as %d: size %d, error %v", size, declared, e.Size, err)
				}
				wantBody(t, openBody(t, s, "k", e.ID, 0, -1), body)
				wantBody(t, openBody(t, s, "k", e.ID, int64(size/2), int64(size/3)), body[size/2:size/2+size/3])
				if err := s.Remove(t.Context(), store.Key("k"), e.ID); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// ErrGone: forgotten since Lookup.
func openGone(t *testing.T, s store.Store) {
	e := put(t, s, "k", nil, []byte("body"))
	if err := s.Remove(t.Context(), store.Key("k"), e.ID); err != nil {
		t.Fatal(err)
	}
	replaced := put(t, s, "k", nil, []byte("body"))
	put(t, s, "k", nil, nil, replaced.ID)
	for _, id := range []store.ID{0, e.ID, replaced.ID, 1 << 63} {
		for _, n := range []int64{-1, 0, 4} {
			_, err := s.Open(t.Context(), store.Key("k"), id, 0, n)
			wantErr(t, "Open of a name of nothing", err, store.ErrGone)
		}
		wantErr(t, "Amend of a name of nothing", amend(t, s, "k", id, ""), store.ErrGone)
		_, err := s.Head(t.Context(), store.Key("k"), id, 0)
		wantErr(t, "Head of a name of nothing", err, store.ErrGone)
		wantErr(t, "Remove of a name of nothing", s.Remove(t.Context(), store.Key("k"), id), nil)
	}
}

// A key that the ID was not given for is answered as if the entry were gone.
func openForeign(t *testing.T, s store.Store) {
	e := put(t, s, "k", nil, []byte("body"))
	other := put(t, s, "other", nil, []byte("other body"))
	for _, key := range []string{"other", "nobody", "", "kk"} {
		_, err := s.Open(t.Context(), store.Key(key), e.ID, 0, -1)
		wantErr(t, "Open under a foreign key", err, store.ErrGone)
		_, err = s.Head(t.Context(), store.Key(key), e.ID, e.Rev)
		wantErr(t, "Head under a foreign key", err, store.ErrGone)
		wantErr(t, "Amend under a foreign key", amend(t, s, key, e.ID, "foreign"), store.ErrGone)
		wantErr(t, "Remove under a foreign key", s.Remove(t.Context(), store.Key(key), e.ID), nil)
	}
	wantIDs(t, s, "k", e.ID)
	wantIDs(t, s, "other", other.ID)
	wantBody(t, openBody(t, s, "k", e.ID, 0, -1), []byte("body"))
}

// The octets stay readable until Close, whatever happens to the entry.
func openOutlives(t *testing.T, s store.Store) {
	const size = 400_000
	begun := func(generation uint64) (store.Entry, func()) {
		body := pattern("k", generation, size)
		w := create(t, s, "k", -1)
		follower := follow(t, w, 0)
		write(t, w, body)
		e, err := w.Commit(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		readers := []io.ReadCloser{follower, openBody(t, s, "k", e.ID, 0, -1)}
		first := make([]byte, 100)
		for _, r := range readers {
			if _, err := io.ReadFull(r, first); err != nil || !bytes.Equal(first, body[:100]) {
				t.Fatalf("the first octets are wrong, or %v", err)
			}
		}
		return e, func() {
			t.Helper()
			for _, r := range readers {
				wantBody(t, r, body[100:])
			}
		}
	}
	removed, finishRemoved := begun(1)
	if err := s.Remove(t.Context(), store.Key("k"), removed.ID); err != nil {
		t.Fatal(err)
	}
	replaced, finishReplaced := begun(2)
	put(t, s, "k", nil, nil, replaced.ID)
	amended, finishAmended := begun(3)
	if err := amend(t, s, "k", amended.ID, "new head"); err != nil {
		t.Fatal(err)
	}
	dropped, finishDropped := begun(4)
	for n := 0; slices.ContainsFunc(look(t, s, "k"), func(e store.Entry) bool { return e.ID == dropped.ID }); n++ {
		put(t, s, "k", nil, nil)
		if n > 100*store.MaxVariants {
			t.Fatal("a variant that nobody uses never leaves")
		}
	}
	for i := range 20 { // whoever reuses room too early, reuses it now
		put(t, s, "other", nil, pattern("other", uint64(i), size))
	}
	finishRemoved()
	finishReplaced()
	finishDropped()
	finishAmended()
}

// Remove forgets id, or nothing if it is already gone.
func remove(t *testing.T, s store.Store) {
	a := put(t, s, "k", nil, nil)
	b := put(t, s, "k", nil, []byte("body"))
	c := put(t, s, "k", nil, nil)
	for range 2 {
		if err := s.Remove(t.Context(), store.Key("k"), b.ID); err != nil {
			t.Fatal(err)
		}
		wantIDs(t, s, "k", c.ID, a.ID)
	}
	for _, id := range []store.ID{a.ID, c.ID} {
		if err := s.Remove(t.Context(), store.Key("k"), id); err != nil {
			t.Fatal(err)
		}
	}
	wantIDs(t, s, "k")
	d := put(t, s, "k", nil, nil)
	wantIDs(t, s, "k", d.ID)
}

// Forget removes all that was committed under key, and nothing else.
func forget(t *testing.T, s store.Store) {
	other := put(t, s, "other", nil, []byte("other"))
	for range 2 {
		if err := s.Forget(t.Context(), store.Key("k")); err != nil { // also what was never there
			t.Fatal(err)
		}
		a, b := put(t, s, "k", nil, []byte("a")), put(t, s, "k", nil, []byte("b"))
		begun := create(t, s, "k", -1)
		r := openBody(t, s, "k", a.ID, 0, -1)
		if err := s.Forget(t.Context(), store.Key("k")); err != nil {
			t.Fatal(err)
		}
		wantIDs(t, s, "k")
		_, err := s.Open(t.Context(), store.Key("k"), b.ID, 0, -1)
		wantErr(t, "Open of what was forgotten", err, store.ErrGone)
		wantBody(t, r, []byte("a"))
		e, err := begun.Commit(t.Context()) // it was not there before
		if err != nil {
			t.Fatal(err)
		}
		wantIDs(t, s, "k", e.ID)
	}
	wantIDs(t, s, "other", other.ID)
}
