package blobs

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larderhq/larder/store"
)

// What one Store of a backend does the others see.
func TestShared(t *testing.T) {
	m := newMapCache(t)
	a, b := open(t, m, Options{}), open(t, m, Options{})
	first := put(t, a, "k", "head", "first")
	wantBody(t, b, "k", first.ID, "first")
	second := put(t, b, "k", "head", "second")
	wantIDs(t, a, "k", second.ID, first.ID)
	if err := b.Amend(t.Context(), store.Key("k"), first.ID, store.Head{Octets: []byte("amended")}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Head(t.Context(), store.Key("k"), first.ID, first.Rev); !errors.Is(err, store.ErrGone) {
		t.Errorf("the head before Amend: %v", err)
	}
	wantHead(t, a, "k", store.Entry{ID: first.ID, Rev: first.Rev + 1}, "amended")
	third := put(t, a, "k", "head", "third", second.ID)
	wantGone(t, b, "k", second.ID)
	if err := b.Remove(t.Context(), store.Key("k"), third.ID); err != nil {
		t.Fatal(err)
	}
	wantIDs(t, a, "k", first.ID)
	if err := b.Forget(t.Context(), store.Key("k")); err != nil {
		t.Fatal(err)
	}
	wantGone(t, a, "k", first.ID)
	if left := m.names(); len(left) > 0 {
		t.Errorf("what is left after Forget: %q", left)
	}
}

// Several Stores change the same keys at once. What is found under a key was
// committed there, head and body belong together, and no ID is given twice.
func TestSharedAtOnce(t *testing.T) {
	m := newMapCache(t)
	var mu sync.Mutex
	given := map[store.ID]string{}
	name := func(t *testing.T, e store.Entry, what string) {
		mu.Lock()
		defer mu.Unlock()
		if was, ok := given[e.ID]; ok || e.ID == 0 {
			t.Errorf("the ID %d was given to %q and to %q", e.ID, was, what)
		}
		given[e.ID] = what
	}
	check := func(t *testing.T, s *Store, key string, e store.Entry) {
		head, err := s.Head(t.Context(), store.Key(key), e.ID, e.Rev)
		if errors.Is(err, store.ErrGone) {
			return
		}
		what, _, _ := strings.Cut(string(head), ";")
		if err != nil || !strings.HasPrefix(what, key+" ") {
			t.Errorf("the head of %d under %q: %q, %v", e.ID, key, head, err)
			return
		}
		got, err := body(t.Context(), s, key, e.ID)
		if !errors.Is(err, store.ErrGone) && (err != nil || got != what) {
			t.Errorf("the body of %q is %q, %v", what, got, err)
		}
	}
	var wg sync.WaitGroup
	for i := range 3 {
		s := open(t, m, Options{})
		for j := range 2 {
			wg.Go(func() {
				for n := range 300 {
					key := fmt.Sprint("key ", n%3)
					what := fmt.Sprintf("%s of %d.%d.%d", key, i, j, n)
					es, err := s.Lookup(t.Context(), store.Key(key), nil)
					if err != nil {
						t.Error(err)
						return
					}
					for _, e := range es {
						check(t, s, key, e)
					}
					var replaces []store.ID
					if len(es) > 5 {
						replaces = append(replaces, es[1].ID, es[4].ID)
						_ = s.Remove(t.Context(), store.Key(key), es[2].ID) // others may bring it back
						if head, err := s.Head(t.Context(), store.Key(key), es[3].ID, es[3].Rev); err == nil {
							_ = s.Amend(t.Context(), store.Key(key), es[3].ID, store.Head{Octets: append(head, ';')})
						}
					}
					e, err := commit(t.Context(), s, key, store.Head{Octets: []byte(what)}, what, replaces...)
					if err == nil {
						name(t, e, what)
					} else if !errors.Is(err, errStuck) {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	if len(given) == 0 {
		t.Error("nothing was committed")
	}
}

// One that does not know of a removal yet writes the index last. What was removed
// is shown again, but not given.
func TestSharedLastIndexStands(t *testing.T) {
	m := newMapCache(t)
	c := &hooked{Cache: m}
	a, b := open(t, m, Options{}), open(t, c, Options{})
	old := put(t, a, "k", "head", "old")
	c.set = func(key string, value []byte) {
		if c.set = nil; isIndex(key) {
			t.Error("the index was written before the body")
		}
		m.Set(key, value)
		if err := a.Forget(t.Context(), store.Key("k")); err != nil { // b has read the index
			t.Error(err)
		}
	}
	e := put(t, b, "k", "head", "new")
	wantBody(t, a, "k", e.ID, "new")
	wantGone(t, a, "k", old.ID)
	wantIDs(t, a, "k", e.ID)
}

// A Store finds what the one before left, and gives none of its IDs again,
// wherever the clock stands.
func TestRestart(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	m := newMapCache(t)
	given := map[store.ID]bool{0: true}
	var last store.ID
	want := map[store.ID]string{}
	for life, ahead := range []time.Duration{0, time.Hour, 0, 0, -24 * time.Hour, -60 * 365 * 24 * time.Hour, time.Minute} {
		s := New(m, Options{})
		s.now = func() time.Time { return now.Add(ahead) }
		got := ids(t, s, "k")
		if len(got) != len(want) {
			t.Fatalf("life %d: %d entries are left of %d", life, len(got), len(want))
		}
		for _, id := range got {
			wantBody(t, s, "k", id, want[id])
			wantHead(t, s, "k", store.Entry{ID: id}, "head of "+want[id])
		}
		for n := range 9 {
			what := fmt.Sprint(life, ".", n)
			e := put(t, s, "k", "head of "+what, what)
			if given[e.ID] || e.ID <= last {
				t.Fatalf("life %d: the ID %d after %d", life, e.ID, last)
			}
			given[e.ID], last, want[e.ID] = true, e.ID, what
		}
		s.Close()
	}
}

// Under keys that are new, or whose index was lost, it is the clock that keeps
// the lives apart.
func TestRestartForgotten(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	given := map[store.ID]bool{0: true}
	for range 3 {
		s := open(t, newMapCache(t), Options{})
		s.now = func() time.Time { return now }
		for n := range 200 {
			e := put(t, s, fmt.Sprint(n), "head", "body")
			if given[e.ID] {
				t.Fatalf("the ID %d was given twice", e.ID)
			}
			given[e.ID] = true
		}
		now = now.Add(time.Second)
	}
}

// A clock that stands still makes no difference in a process.
func TestIDsRise(t *testing.T) {
	s := open(t, newMapCache(t), Options{})
	for _, now := range []int64{0, 1e18, 1e18, 5, -1e18} {
		s.now = func() time.Time { return time.Unix(0, now) }
		for range 1000 {
			if last, id := store.ID(s.named.Load()), s.id(0); id <= last {
				t.Fatalf("at %d: %d after %d", now, id, last)
			}
		}
	}
}

// Even one ID given by two processes at once does not mix up their bodies.
func TestSameID(t *testing.T) {
	m := newMapCache(t)
	a, b := open(t, m, Options{}), open(t, m, Options{})
	e := put(t, a, "k", "head a", "body a")
	list, _ := a.read(a.place(store.Key("k")))
	p := b.place(store.Key("k"))
	w := newWriter(b, p, store.Head{Octets: []byte("head b")}, -1)
	if _, err := w.Write([]byte("body b")); err != nil {
		t.Fatal(err)
	}
	r := record{id: e.ID, nonce: nonce{1}, head: w.head}
	m.Set(p.body(&r), w.seal(&r))
	wantHead(t, a, "k", e, "head a")
	wantBody(t, a, "k", e.ID, "body a")
	b.write(p, []record{r})
	wantHead(t, a, "k", e, "head b")
	wantBody(t, a, "k", e.ID, "body b")
	value, _ := m.Get(p.body(&list[0]))
	m.Set(p.body(&r), value) // which differs in the nonce alone
	wantGone(t, a, "k", e.ID)
}

// Stores with different prefixes do not see each other, even where the backend
// does not tell the prefixes from each other.
func TestPrefix(t *testing.T) {
	m := newMapCache(t)
	fold := func(name string) string { return strings.ToLower(name) }
	var current string // of the names, whoever asks
	c := &hooked{
		Cache: m,
		get:   func(key string) ([]byte, bool) { return m.Get(fold(key)) },
		set: func(key string, value []byte) {
			if !strings.HasPrefix(key, current) {
				t.Errorf("the name %q does not begin with %q", key, current)
			}
			m.Set(fold(key), value)
		},
		delete: func(key string) { m.Delete(fold(key)) },
	}
	a, b := open(t, c, Options{Prefix: "a:"}), open(t, c, Options{Prefix: "A:"})
	current = "a:"
	e := put(t, a, "k", "head", "body")
	wantIDs(t, b, "k")
	wantGone(t, b, "k", e.ID)

	// Names are as good as equal here: the values are not.
	for _, name := range m.names() {
		value, _ := m.Get(name)
		p := b.place(store.Key("k"))
		m.Set(fold(p.index)+strings.TrimPrefix(name, a.place(store.Key("k")).index), value)
	}
	wantIDs(t, b, "k")
	wantGone(t, b, "k", e.ID)
	wantBody(t, a, "k", e.ID, "body")
	if !slices.Equal(ids(t, a, "k"), []store.ID{e.ID}) {
		t.Error("the entry has gone")
	}
}
