package storetest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/larderhq/larder/store"
)

// None is not an error.
func lookupNone(t *testing.T, s store.Store) {
	wantIDs(t, s, "nobody")
	put(t, s, "somebody", nil, nil)
	wantIDs(t, s, "nobody")
}

// Create begins an entry that Lookup cannot see until Writer.Commit.
func lookupVisible(t *testing.T, s store.Store) {
	w := create(t, s, "k", -1)
	wantIDs(t, s, "k")
	write(t, w, []byte("body"))
	wantIDs(t, s, "k")
	e, err := w.Commit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wantIDs(t, s, "k", e.ID)
	got := look(t, s, "k")[0]
	if got.ID != e.ID || got.Rev != e.Rev || got.Size != 4 || e.Size != 4 ||
		string(got.Head) != "head" || string(e.Head) != "head" {
		t.Errorf("Commit returned %+v and Lookup %+v, want 4 octets under the head %q", e, got, "head")
	}
	if _, err := w.Commit(t.Context()); err == nil {
		t.Error("a second Commit succeeded")
	}
	wantIDs(t, s, "k", e.ID)
}

// The one committed last comes first, whenever it was begun or used.
func lookupOrder(t *testing.T, s store.Store) {
	early := create(t, s, "k", 0)
	a := put(t, s, "k", nil, nil)
	b := put(t, s, "k", nil, nil)
	c, err := early.Commit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	touch(t, s, a.ID)
	if err := s.Amend(t.Context(), b.ID, []byte("new")); err != nil {
		t.Fatal(err)
	}
	wantIDs(t, s, "k", c.ID, b.ID, a.ID)
}

// Keys are octets, compared in full, and copied.
func lookupKeys(t *testing.T, s store.Store) {
	long := strings.Repeat("long", 2000)
	keys := []string{"", "\x00", "\x00\x00", "a", "a\x00", "A", "ab", "\xff\xfe", "ä", long, long + "!", "!" + long}
	for i, k := range keys {
		octets := []byte(k)
		w, err := s.Create(t.Context(), octets, []byte{byte(i)}, -1)
		if err != nil {
			t.Fatal(err)
		}
		for j := range octets {
			octets[j] = 'z' // the caller may reuse the octets
		}
		write(t, w, pattern(k, 0, i))
		if _, err := w.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for i, k := range keys {
		octets := []byte(k)
		es, err := s.Lookup(t.Context(), octets)
		if err != nil || len(es) != 1 {
			t.Fatalf("Lookup(%.10q) returned %d entries and the error %v, want one", k, len(es), err)
		}
		for j := range octets {
			octets[j] = 'z'
		}
		if !bytes.Equal(es[0].Head, []byte{byte(i)}) {
			t.Errorf("Lookup(%.10q) returned the head %v, want %v", k, es[0].Head, i)
		}
		wantBody(t, openBody(t, s, es[0].ID, 0, -1), pattern(k, 0, i))
	}
	wantIDs(t, s, strings.Repeat("z", len(long)))
}

// An Entry is a kept response as it was at one moment: what Lookup returned
// does not change afterwards.
func lookupShared(t *testing.T, s store.Store) {
	var ids []store.ID
	for i := range 5 {
		ids = append(ids, put(t, s, "k", fmt.Append(nil, "head ", i), nil).ID)
	}
	shared := look(t, s, "k")
	before := slices.Clone(shared)
	heads := make([]string, len(before))
	for i, e := range before {
		heads[i] = string(e.Head)
	}
	_ = append(shared, store.Entry{}) // must not reach what others see

	if err := s.Amend(t.Context(), ids[1], []byte("amended")); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context(), ids[2]); err != nil {
		t.Fatal(err)
	}
	last := put(t, s, "k", []byte("replaced"), nil, ids[3])
	for i, e := range shared {
		if e.ID != before[i].ID || e.Rev != before[i].Rev || string(e.Head) != heads[i] {
			t.Errorf("the entry %+v changed to %+v under its holder", before[i], e)
		}
	}
	wantIDs(t, s, "k", last.ID, ids[4], ids[1], ids[0])
}

// An ID is never given twice in the life of a store, and is never zero.
func lookupID(t *testing.T, s store.Store) {
	const each = 200
	given := make([][]store.ID, 4)
	var wg sync.WaitGroup
	for g := range given {
		wg.Go(func() {
			for i := range each {
				e, err := commit(t.Context(), s, fmt.Sprint("k", (g+i)%7), nil, nil, 0)
				if err != nil {
					t.Error(err)
					return
				}
				given[g] = append(given[g], e.ID)
				if i%2 == 0 {
					if err := s.Remove(t.Context(), e.ID); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	seen := map[store.ID]bool{0: true}
	for _, ids := range given {
		for _, id := range ids {
			if seen[id] {
				t.Fatalf("the ID %d was given twice, or is zero", id)
			}
			seen[id] = true
		}
	}
}

// A commit past MaxVariants lets the least recently used entry of that key go.
// An Open counts as a use, also with n = 0; a Lookup does not.
func lookupMaxVariants(t *testing.T, s store.Store) {
	other := put(t, s, "other", nil, nil) // older than all, but of another key
	var ids []store.ID
	for i := range store.MaxVariants {
		ids = append(ids, put(t, s, "k", nil, pattern("k", uint64(i), 10)).ID)
	}
	touch(t, s, ids[0])
	wantBody(t, openBody(t, s, ids[2], 0, -1), pattern("k", 2, 10))
	look(t, s, "k")
	ids = append(ids, put(t, s, "k", nil, nil).ID)          // lets ids[1] go
	ids = append(ids, put(t, s, "k", nil, nil).ID)          // lets ids[3] go
	ids = append(ids, put(t, s, "k", nil, nil, ids[40]).ID) // has room
	want := slices.Concat([]store.ID{ids[0], ids[2]}, ids[4:40], ids[41:])
	slices.Reverse(want)
	wantIDs(t, s, "k", want...)
	wantIDs(t, s, "other", other.ID)
	for _, id := range []store.ID{ids[1], ids[3], ids[40]} {
		_, err := s.Open(t.Context(), id, 0, 0)
		wantErr(t, "Open of a variant that was let go", err, store.ErrGone)
	}
	for range 3 * store.MaxVariants {
		put(t, s, "k", nil, nil)
	}
	if n := len(look(t, s, "k")); n != store.MaxVariants {
		t.Errorf("%d variants are kept, want %d", n, store.MaxVariants)
	}
}
