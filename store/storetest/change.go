package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/larderhq/larder/store"
)

// Amend replaces the head of id and leaves its body; Rev rises by one.
func amendHead(t *testing.T, s store.Store) {
	body := pattern("k", 0, 5000)
	other := put(t, s, "k", []byte("other"), nil)
	e := put(t, s, "k", []byte("head"), body)
	for i, head := range []string{"longer than before", "", "head", string(bytes.Repeat([]byte("x"), 10_000))} {
		if err := amend(t, s, "k", e.ID, head); err != nil {
			t.Fatal(err)
		}
		wantIDs(t, s, "k", e.ID, other.ID)
		got := look(t, s, "k")[0]
		if h := headOf(t, s, "k", got); got.Rev != e.Rev+uint32(i)+1 || h != head || got.Size != e.Size {
			t.Errorf("Amend number %d left revision %d (first %d), the head %.20q and size %d", i+1, got.Rev, e.Rev, h, got.Size)
		}
		wantBody(t, openBody(t, s, "k", e.ID, 0, -1), body)
	}
	if got := look(t, s, "k")[1]; headOf(t, s, "k", got) != "other" || got.Rev != other.Rev {
		t.Errorf("Amend of one entry changed another to %+v", got)
	}
}

// A Lookup sees the old head or the new one whole, and (ID, Rev) names one
// head for ever.
func amendWhole(t *testing.T, s store.Store) {
	head := func(i uint32) []byte { return bytes.Repeat(fmt.Append(nil, i, " "), int(i%50)+1) }
	e := put(t, s, "k", head(0), nil)
	const rounds = 500
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			last := e.Rev
			for {
				es, err := s.Lookup(t.Context(), store.Key("k"), nil)
				if err != nil || len(es) != 1 {
					t.Errorf("Lookup during Amend returned %d entries and the error %v", len(es), err)
					return
				}
				got := es[0]
				octets, err := s.Head(t.Context(), store.Key("k"), got.ID, got.Rev)
				if err != nil && !errors.Is(err, store.ErrGone) {
					t.Errorf("Head during Amend: %v", err)
					return
				}
				if got.Rev < last || err == nil && !bytes.Equal(octets, head(got.Rev-e.Rev)) {
					t.Errorf("revision %d, after %d, has the head %.40q", got.Rev-e.Rev, last-e.Rev, octets)
					return
				}
				last = got.Rev
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for i := range uint32(rounds) {
		if err := s.Amend(t.Context(), store.Key("k"), e.ID, store.Head{Octets: head(i + 1)}); err != nil {
			t.Error(err)
			break
		}
	}
	close(done)
	wg.Wait()
}

// Commit forgets the entries of the same key named by replaces. A name that
// is already gone is no error.
func replaceNames(t *testing.T, s store.Store) {
	a := put(t, s, "k", nil, nil)
	b := put(t, s, "k", nil, nil)
	c := put(t, s, "k", nil, nil)
	other := put(t, s, "other", nil, nil)
	d := put(t, s, "k", nil, nil, a.ID, c.ID, a.ID, 0, 1<<63, other.ID)
	wantIDs(t, s, "k", d.ID, b.ID)
	wantIDs(t, s, "other", other.ID)
	e := put(t, s, "k", nil, nil, a.ID, b.ID, d.ID)
	wantIDs(t, s, "k", e.ID)

	w := create(t, s, "k", 4)
	write(t, w, []byte("bod"))
	if _, err := w.Commit(t.Context(), e.ID); err == nil {
		t.Error("Commit of a body that is cut short succeeded")
	}
	w.Abort(nil)
	wantIDs(t, s, "k", e.ID) // a failed Commit replaces nothing
}

// In one step: a Lookup sees the old entry or the new one, never neither and
// never both.
func replaceAtomic(t *testing.T, s store.Store) {
	last := put(t, s, "k", []byte{0}, nil)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				es, err := s.Lookup(t.Context(), store.Key("k"), nil)
				if err != nil || len(es) != 1 {
					t.Errorf("Lookup during replacement returned %d entries and the error %v, want one", len(es), err)
					return
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for i := range 3000 {
		e, err := commit(t.Context(), s, "k", []byte{byte(i)}, nil, 0, last.ID)
		if err != nil {
			t.Error(err)
			break
		}
		last = e
	}
	close(done)
	wg.Wait()
}
