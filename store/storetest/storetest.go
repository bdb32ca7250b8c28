// Package storetest holds every implementation of store.Store to its
// contract, sentence by sentence.
package storetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/larderhq/larder/store"
)

// What the suite asks of the store it is given, in octets: it keeps a body of
// Kept, it does not keep one of Refused, and it does not let an entry go
// before Room were committed.
const (
	Kept    = 2 << 20
	Refused = 64 << 20
	Room    = 16 << 20
)

// Run holds a store to the contract. Each call of open returns an empty store
// within the bounds of Kept, Refused and Room, and arranges for its end with
// t.Cleanup; a second Close must be harmless there. Tests run in parallel,
// those that wait inside a synctest bubble, in which open is called.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, s store.Store)
	}{
		{"Lookup/None", lookupNone},
		{"Lookup/Visible", lookupVisible},
		{"Lookup/Order", lookupOrder},
		{"Lookup/Keys", lookupKeys},
		{"Lookup/Shared", lookupShared},
		{"Lookup/ID", lookupID},
		{"Lookup/MaxVariants", lookupMaxVariants},
		{"Open/Range", openRange},
		{"Open/Sizes", openSizes},
		{"Open/Gone", openGone},
		{"Open/Foreign", openForeign},
		{"Open/Outlives", openOutlives},
		{"Amend/Head", amendHead},
		{"Amend/Whole", amendWhole},
		{"Remove", remove},
		{"Forget", forget},
		{"Replace/Names", replaceNames},
		{"Replace/Atomic", replaceAtomic},
		{"Write/Copies", writeCopies},
		{"Write/Full", writeFull},
		{"Write/Declared", writeDeclared},
		{"Abort/Cause", abortCause},
		{"Abort/After", abortAfter},
		{"Follow/Late", followLate},
		{"Walk/All", walking(walkAll)},
		{"Walk/Change", walking(walkChange)},
		{"Walk/Ends", walking(walkEnds)},
		{"Walk/Context", walking(walkContext)},
		{"Walk/Closed", walking(walkClosed)},
		{"Walk/Hammer", walking(walkHammer)},
		{"Closed", closed},
		{"Hammer", Hammer},
		{"Model", model},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t, open(t))
		})
	}
	for _, c := range []struct {
		name string
		test func(t *testing.T, s store.Store)
	}{
		{"Follow/Waits", followWaits},
		{"Follow/Offset", followOffset},
		{"Follow/Aborted", followAborted},
		{"Follow/Context", followContext},
		{"Follow/Closed", followClosed},
		{"Follow/Many", followMany},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, open, c.test)
		})
	}
}

// pattern returns size octets that no other (key, generation) has.
func pattern(key string, generation uint64, size int) []byte {
	h := sha256.New()
	h.Write(binary.BigEndian.AppendUint64(nil, generation))
	io.WriteString(h, key)
	b := make([]byte, size)
	rand.NewChaCha8([32]byte(h.Sum(nil))).Read(b)
	return b
}

// put commits an entry or fails the test.
func put(t *testing.T, s store.Store, key string, head, body []byte, replaces ...store.ID) store.Entry {
	t.Helper()
	e, err := commit(t.Context(), s, key, head, body, int64(len(body)), replaces...)
	if err != nil {
		t.Fatalf("storing %d octets under %q: %v", len(body), key, err)
	}
	return e
}

// commit stores body under key, declared as size octets.
func commit(ctx context.Context, s store.Store, key string, head, body []byte, size int64, replaces ...store.ID) (store.Entry, error) {
	w, err := s.Create(ctx, store.Key(key), store.Head{Octets: head}, size)
	if err != nil {
		return store.Entry{}, err
	}
	if n, err := w.Write(body); err != nil {
		w.Abort(err)
		return store.Entry{}, err
	} else if n != len(body) {
		w.Abort(io.ErrShortWrite)
		return store.Entry{}, io.ErrShortWrite
	}
	e, err := w.Commit(ctx, replaces...)
	if err != nil {
		w.Abort(err)
	}
	return e, err
}

// create begins an entry or fails the test.
func create(t *testing.T, s store.Store, key string, size int64) store.Writer {
	t.Helper()
	w, err := s.Create(t.Context(), store.Key(key), store.Head{Octets: []byte("head")}, size)
	if err != nil {
		t.Fatalf("Create(%q, size %d): %v", key, size, err)
	}
	return w
}

// write appends body or fails the test.
func write(t *testing.T, w store.Writer, body []byte) {
	t.Helper()
	if n, err := w.Write(body); n != len(body) || err != nil {
		t.Fatalf("Write of %d octets = %d, %v", len(body), n, err)
	}
}

// follow opens w or fails the test.
func follow(t *testing.T, w store.Writer, off int64) io.ReadCloser {
	t.Helper()
	r, err := w.Open(t.Context(), off)
	if err != nil {
		t.Fatalf("Writer.Open(%d): %v", off, err)
	}
	return r
}

// openBody opens n octets of id from off or fails the test.
func openBody(t *testing.T, s store.Store, key string, id store.ID, off, n int64) io.ReadCloser {
	t.Helper()
	r, err := s.Open(t.Context(), store.Key(key), id, off, n)
	if err != nil {
		t.Fatalf("Open(%q, %d, %d, %d): %v", key, id, off, n, err)
	}
	return r
}

// amend gives id another head.
func amend(t *testing.T, s store.Store, key string, id store.ID, head string) error {
	return s.Amend(t.Context(), store.Key(key), id, store.Head{Octets: []byte(head)})
}

// headOf returns the head of e or fails the test.
func headOf(t *testing.T, s store.Store, key string, e store.Entry) string {
	t.Helper()
	head, err := s.Head(t.Context(), store.Key(key), e.ID, e.Rev)
	if err != nil {
		t.Fatalf("Head(%q, %d, %d): %v", key, e.ID, e.Rev, err)
	}
	return string(head)
}

// touch uses id or fails the test.
func touch(t *testing.T, s store.Store, key string, id store.ID) {
	t.Helper()
	closeBody(t, openBody(t, s, key, id, 0, 0))
}

func closeBody(t *testing.T, r io.Closer) {
	t.Helper()
	if err := r.Close(); err != nil {
		t.Errorf("Close of a reader: %v", err)
	}
}

// look returns the entries under key or fails the test.
func look(t *testing.T, s store.Store, key string) []store.Entry {
	t.Helper()
	es, err := s.Lookup(t.Context(), store.Key(key), nil)
	if err != nil {
		t.Fatalf("Lookup(%q): %v", key, err)
	}
	if len(es) > store.MaxVariants {
		t.Fatalf("Lookup(%q) returned %d entries, more than %d", key, len(es), store.MaxVariants)
	}
	return es
}

// wantIDs fails the test unless exactly ids are under key, in that order.
func wantIDs(t *testing.T, s store.Store, key string, ids ...store.ID) {
	t.Helper()
	var got []store.ID
	for _, e := range look(t, s, key) {
		got = append(got, e.ID)
	}
	if !slices.Equal(got, ids) {
		t.Fatalf("Lookup(%q) returned the entries %v, want %v", key, got, ids)
	}
}

// wantBody reads r to its end, which must be io.EOF, and closes it.
func wantBody(t *testing.T, r io.ReadCloser, want []byte) {
	t.Helper()
	wantEnd(t, r, want, nil)
}

// wantEnd reads r until it fails with end, or with io.EOF if that is nil, and
// closes it.
func wantEnd(t *testing.T, r io.ReadCloser, want []byte, end error) {
	t.Helper()
	got, err := io.ReadAll(r)
	wantSame(t, got, want)
	if !errors.Is(err, end) {
		t.Errorf("the body ends with %v, want %v", err, end)
	}
	closeBody(t, r)
}

func wantSame(t *testing.T, got, want []byte) {
	t.Helper()
	if bytes.Equal(got, want) {
		return
	}
	at := 0
	for at < len(got) && at < len(want) && got[at] == want[at] {
		at++
	}
	t.Errorf("read %d octets, want %d; the first difference is at %d", len(got), len(want), at)
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// wantReader holds r to the rules of io.Reader and io.Copy to want.
func wantReader(t *testing.T, open func() io.ReadCloser, want []byte) {
	t.Helper()
	r := open()
	if err := iotest.TestReader(r, want); err != nil {
		t.Error(err)
	}
	closeBody(t, r)
	r = open()
	var to bytes.Buffer
	if _, err := io.Copy(&to, r); err != nil {
		t.Errorf("io.Copy: %v", err)
	}
	wantSame(t, to.Bytes(), want)
	closeBody(t, r)
}
