package storetest

import (
	"io"
	"testing"

	"github.com/larderhq/larder/store"
)

// Calls after Close fail with ErrClosed.
func closed(t *testing.T, s store.Store) {
	e := put(t, s, "k", nil, []byte("body"))
	w, idle := create(t, s, "k", -1), create(t, s, "other", -1)
	write(t, w, []byte("begun"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := s.Lookup(t.Context(), store.Key("k"), nil)
	wantErr(t, "Lookup", err, store.ErrClosed)
	_, err = s.Head(t.Context(), store.Key("k"), e.ID, e.Rev)
	wantErr(t, "Head", err, store.ErrClosed)
	for _, n := range []int64{-1, 0} {
		_, err = s.Open(t.Context(), store.Key("k"), e.ID, 0, n)
		wantErr(t, "Open", err, store.ErrClosed)
	}
	_, err = s.Create(t.Context(), store.Key("k"), store.Head{}, -1)
	wantErr(t, "Create", err, store.ErrClosed)
	wantErr(t, "Amend", s.Amend(t.Context(), store.Key("k"), e.ID, store.Head{}), store.ErrClosed)
	wantErr(t, "Remove", s.Remove(t.Context(), store.Key("k"), e.ID), store.ErrClosed)
	wantErr(t, "Forget", s.Forget(t.Context(), store.Key("k")), store.ErrClosed)
	n, err := w.Write([]byte("more"))
	wantErr(t, "Write", err, store.ErrClosed)
	if n != 0 {
		t.Errorf("Write took %d octets", n)
	}
	if r, err := w.Open(t.Context(), 0); err == nil {
		_, err = io.ReadAll(r)
		wantErr(t, "reading a writer", err, store.ErrClosed)
		closeBody(t, r)
	} else {
		wantErr(t, "Writer.Open", err, store.ErrClosed)
	}
	_, err = w.Commit(t.Context())
	wantErr(t, "Commit", err, store.ErrClosed)
	w.Abort(nil)
	idle.Abort(nil)
	if err := s.Close(); err != nil {
		wantErr(t, "a second Close", err, store.ErrClosed)
	}
}
