package storetest

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/larderhq/larder/store"
)

// A PromptStore is what Prompt tests.
type PromptStore interface {
	store.Store
	store.Prompt
}

// Prompt holds a store to the contract of store.Prompt. Each call of open returns
// what it does for Run, and all it keeps of bodies up to store.PromptLen is at hand
// once it was prepared.
func Prompt(t *testing.T, open func(t *testing.T) PromptStore) {
	for name, test := range map[string]func(t *testing.T, s PromptStore){
		"Same": promptSame, "Refusals": promptRefusals, "Outlives": promptOutlives,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

// prepare brings what is under key to hand, if that takes anything.
func prepare(s PromptStore, key string) {
	done := make(chan struct{})
	if s.Prepare(store.Key(key), func() { close(done) }) {
		<-done
	}
}

// promptSame compares what is had at once with what Open gives.
func promptSame(t *testing.T, s PromptStore) {
	for _, size := range []int{0, 1, 4095, 4096, 4097, 20_000, store.PromptLen - 1, store.PromptLen} {
		key := fmt.Sprint("k", size)
		want := pattern(key, 1, size)
		e := put(t, s, key, []byte("head"), want)
		for _, c := range [][2]int{{0, size}, {0, 0}, {size, 0}, {0, size / 2}, {size / 2, size - size/2}, {size / 3, size / 3}} {
			off, n := c[0], c[1]
			prepare(s, key)
			got, ok := s.AppendNow([]byte("before"), store.Key(key), e.ID, e.Rev, int64(off), int64(n))
			if !ok || !bytes.Equal(got, append([]byte("before"), want[off:off+n]...)) {
				t.Errorf("%d octets, %d from %d: AppendNow returned %d octets, %v", size, n, off, len(got), ok)
			}
			if n > 0 {
				wantPinned(t, openNow(t, s, key, e, off, n), want[off:off+n])
			}
		}
	}
}

// openNow opens n octets from off, which are at hand, or fails the test.
func openNow(t *testing.T, s PromptStore, key string, e store.Entry, off, n int) store.Pinned {
	t.Helper()
	p, ok := s.OpenNow(store.Key(key), e.ID, e.Rev, int64(off), int64(n))
	if !ok {
		t.Fatalf("%d octets from %d of entry %d are not at hand", n, off, e.ID)
	}
	return p
}

// wantPinned reads p in small steps, and closes it twice.
func wantPinned(t *testing.T, p store.Pinned, want []byte) {
	t.Helper()
	var got []byte
	for {
		piece, err := p.Next()
		if err == io.EOF {
			break
		}
		if err != nil || len(piece) == 0 {
			t.Fatalf("after %d octets: Next = %d octets, %v", len(got), len(piece), err)
		}
		if f, off, n := p.File(); f != nil {
			same := make([]byte, n)
			if _, err := f.ReadAt(same, off); err != nil || !bytes.HasPrefix(piece, same) && !bytes.HasPrefix(same, piece) {
				t.Errorf("File has other octets than Next, or none: %v", err)
			}
		}
		step := min(len(piece), 1000)
		got = append(got, piece[:step]...)
		p.Advance(step)
	}
	wantSame(t, got, want)
	closeBody(t, p)
	closeBody(t, p)
}

// promptRefusals asks for what is not there.
func promptRefusals(t *testing.T, s PromptStore) {
	const size = 5000
	e := put(t, s, "k", []byte("head"), pattern("k", 1, size))
	other := put(t, s, "other", []byte("head"), pattern("other", 1, size))
	none := func(what, key string, id store.ID, rev uint32, off, n int64) {
		t.Helper()
		prepare(s, key)
		if got, ok := s.AppendNow([]byte("before"), store.Key(key), id, rev, off, n); ok || string(got) != "before" {
			t.Errorf("%s: AppendNow returned %q, %v", what, got[:min(len(got), 20)], ok)
		}
		if p, ok := s.OpenNow(store.Key(key), id, rev, off, n); ok {
			t.Errorf("%s: OpenNow has it", what)
			p.Close()
		}
	}
	none("another revision", "k", e.ID, e.Rev+1, 0, size)
	none("another entry", "k", e.ID+1000, e.Rev, 0, size)
	none("the entry of another key", "k", other.ID, other.Rev, 0, size)
	none("a key that is not there", "nobody", e.ID, e.Rev, 0, size)
	none("more than there is", "k", e.ID, e.Rev, 0, size+1)
	none("more than is left", "k", e.ID, e.Rev, 1, size)
	none("behind the end", "k", e.ID, e.Rev, size+1, 1)
	none("before the beginning", "k", e.ID, e.Rev, -1, 1)
	if s.Prepare(store.Key("nobody"), func() { t.Error("done with nothing") }) {
		t.Error("a key that is not there is read")
	}
	if err := amend(t, s, "k", e.ID, "another head"); err != nil {
		t.Fatal(err)
	}
	none("the revision before", "k", e.ID, e.Rev, 0, size)
	e = look(t, s, "k")[0]
	prepare(s, "k")
	wantPinned(t, openNow(t, s, "k", e, 0, size), pattern("k", 1, size))
	if err := s.Remove(t.Context(), store.Key("k"), e.ID); err != nil {
		t.Fatal(err)
	}
	none("what was removed", "k", e.ID, e.Rev, 0, size)
}

// promptOutlives removes what is pinned, and has others take its room.
func promptOutlives(t *testing.T, s PromptStore) {
	want := pattern("k", 1, store.PromptLen)
	e := put(t, s, "k", []byte("head"), want)
	prepare(s, "k")
	p := openNow(t, s, "k", e, 0, len(want))
	if err := s.Forget(t.Context(), store.Key("k")); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(Room / store.PromptLen) {
		put(t, s, "next", []byte("head"), pattern("next", i, store.PromptLen))
	}
	wantPinned(t, p, want)
}
