package storetest

import (
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
		headOf(t, s, "k", got) != "head" {
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
	touch(t, s, "k", a.ID)
	if err := amend(t, s, "k", b.ID, "new"); err != nil {
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
		w, err := s.Create(t.Context(), octets, store.Head{Octets: []byte{byte(i)}}, -1)
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
		es, err := s.Lookup(t.Context(), octets, nil)
		if err != nil || len(es) != 1 {
			t.Fatalf("Lookup(%.10q) returned %d entries and the error %v, want one", k, len(es), err)
		}
		for j := range octets {
			octets[j] = 'z'
		}
		if head := headOf(t, s, k, es[0]); head != string([]byte{byte(i)}) {
			t.Errorf("Lookup(%.10q) leads to the head %q, want %v", k, head, i)
		}
		wantBody(t, openBody(t, s, k, es[0].ID, 0, -1), pattern(k, 0, i))
	}
	wantIDs(t, s, strings.Repeat("z", len(long)))
}

// What Lookup and Head returned belongs to the caller: it does not change
// afterwards, and nothing changes with it.
func lookupShared(t *testing.T, s store.Store) {
	var ids []store.ID
	for i := range 5 {
		ids = append(ids, put(t, s, "k", fmt.Append(nil, "head ", i), nil).ID)
	}
	own := look(t, s, "k")
	before := slices.Clone(own)
	head, err := s.Head(t.Context(), store.Key("k"), ids[1], own[3].Rev)
	if err != nil {
		t.Fatal(err)
	}
	head = append(head, '!') // must not reach what others see

	if err := amend(t, s, "k", ids[1], "amended"); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context(), store.Key("k"), ids[2]); err != nil {
		t.Fatal(err)
	}
	last := put(t, s, "k", []byte("replaced"), nil, ids[3])
	if !slices.Equal(own, before) || string(head) != "head 1!" {
		t.Errorf("%+v changed to %+v, or %q, under its holder", before, own, head)
	}
	_, err = s.Head(t.Context(), store.Key("k"), ids[1], own[3].Rev)
	wantErr(t, "the head before Amend", err, store.ErrGone)
	_, err = s.Head(t.Context(), store.Key("k"), ids[2], own[2].Rev)
	wantErr(t, "the head of what was removed", err, store.ErrGone)
	_, err = s.Head(t.Context(), store.Key("other"), last.ID, last.Rev)
	wantErr(t, "the head under another key", err, store.ErrGone)
	wantIDs(t, s, "k", last.ID, ids[4], ids[1], ids[0])
}

// An ID is never given twice in the life of a store, rises, and is never zero.
func lookupID(t *testing.T, s store.Store) {
	const each = 200
	given := make([][]store.ID, 4)
	var wg sync.WaitGroup
	for g := range given {
		wg.Go(func() {
			for i := range each {
				key := fmt.Sprint("k", (g+i)%7)
				e, err := commit(t.Context(), s, key, nil, nil, 0)
				if err != nil {
					t.Error(err)
					return
				}
				if last := len(given[g]) - 1; last >= 0 && given[g][last] >= e.ID {
					t.Errorf("the ID %d was given after %d", e.ID, given[g][last])
				}
				given[g] = append(given[g], e.ID)
				if i%2 == 0 {
					if err := s.Remove(t.Context(), store.Key(key), e.ID); err != nil {
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

// A commit past MaxVariants lets another entry of that key go.
func lookupMaxVariants(t *testing.T, s store.Store) {
	other := put(t, s, "other", nil, nil) // older than all, but of another key
	var ids []store.ID
	for i := range store.MaxVariants {
		ids = append(ids, put(t, s, "k", nil, pattern("k", uint64(i), 10)).ID)
	}
	ids = append(ids, put(t, s, "k", nil, nil, ids[40]).ID) // has room
	want := slices.Delete(slices.Clone(ids), 40, 41)
	slices.Reverse(want)
	wantIDs(t, s, "k", want...)
	for range 3 * store.MaxVariants {
		before := look(t, s, "k")
		e := put(t, s, "k", nil, nil)
		now := look(t, s, "k")
		if len(now) != store.MaxVariants || now[0].ID != e.ID {
			t.Fatalf("%d variants, the first of them %+v; want %d and %+v", len(now), now[0], store.MaxVariants, e)
		}
		gone := slices.DeleteFunc(before, func(e store.Entry) bool { return slices.Contains(now, e) })
		if len(gone) != 1 {
			t.Fatalf("%d variants left for one", len(gone))
		}
		_, err := s.Open(t.Context(), store.Key("k"), gone[0].ID, 0, 0)
		wantErr(t, "Open of a variant that was let go", err, store.ErrGone)
	}
	wantIDs(t, s, "other", other.ID)
}
