package blobs

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/store"
)

// limited is a backend that fails the test if a value is longer than it takes.
func limited(t *testing.T, limit int) *hooked {
	m := newMapCache(t)
	return &hooked{Cache: m, set: func(key string, value []byte) {
		if len(value) > limit {
			t.Errorf("a value of %d octets, where %d is the limit", len(value), limit)
		}
		if cap(value) > len(value)+len(value)/8 {
			t.Errorf("a value of %d octets holds %d", len(value), cap(value))
		}
		m.Set(key, value)
	}}
}

// No value is longer than MaxValue, and none that may be is refused.
func TestMaxValue(t *testing.T) {
	const limit = 10_000
	s := open(t, limited(t, limit), Options{MaxValue: limit})
	most := limit - int(bodyAt(s.place(store.Key("k")).label))
	for _, declared := range []bool{false, true} {
		for _, n := range []int{0, 1, most - 1, most, most + 1, limit, 10 * limit} {
			size := int64(-1)
			if declared {
				size = int64(n)
			}
			w, err := s.Create(t.Context(), store.Key("k"), store.Head{}, size)
			if declared && n > most && err == nil {
				t.Errorf("Create of %d of %d octets did not fail", n, most)
			}
			if err == nil {
				_, err = w.Write(make([]byte, n))
			}
			if n > most != errors.Is(err, store.ErrFull) {
				t.Errorf("%d of %d octets, declared: %v: %v", n, most, declared, err)
			}
			if w == nil {
				continue
			}
			if e, err := w.Commit(t.Context()); (err != nil) != (n > most) || err == nil && e.Size != int64(n) {
				t.Errorf("Commit of %d of %d octets: %+v, %v", n, most, e, err)
			}
			w.Abort(nil)
		}
	}
}

// A head that is too long is refused, and so is a key. Of heads that are too long
// together the oldest go, with their bodies.
func TestMaxHeads(t *testing.T) {
	const limit = 10_000
	c := limited(t, limit)
	s := open(t, c, Options{MaxValue: limit})
	head := strings.Repeat("h", 3000)
	a, b, d := put(t, s, "k", head, "a"), put(t, s, "k", head, "b"), put(t, s, "k", head, "d")
	e := put(t, s, "k", head, "e")
	wantIDs(t, s, "k", e.ID, d.ID, b.ID)
	wantGone(t, s, "k", a.ID)
	if names := c.Cache.(*mapCache).names(); len(names) != 4 {
		t.Errorf("%d values of 3 entries, want 4", len(names))
	}
	amend := func(id store.ID, n int) error {
		return s.Amend(t.Context(), store.Key("k"), id, store.Head{Octets: make([]byte, n)})
	}
	if err := amend(b.ID, 6500); err != nil { // it stays, and is the oldest
		t.Fatal(err)
	}
	wantIDs(t, s, "k", e.ID, b.ID)
	if names := c.Cache.(*mapCache).names(); len(names) != 3 {
		t.Errorf("%d values of 2 entries, want 3", len(names))
	}
	if err := amend(b.ID, limit-50); !errors.Is(err, store.ErrFull) {
		t.Errorf("Amend with a head that is too long: %v", err)
	}
	wantIDs(t, s, "k", e.ID, b.ID)
	for key, head := range map[string]int{"k": limit - 50, strings.Repeat("k", limit): 0} {
		if _, err := s.Create(t.Context(), store.Key(key), store.Head{Octets: make([]byte, head)}, 0); !errors.Is(err, store.ErrFull) {
			t.Errorf("a key of %d octets and a head of %d: %v", len(key), head, err)
		}
	}
}

// Of more than MaxVariants one that has expired goes first, then the oldest.
func TestExpired(t *testing.T) {
	s := open(t, newMapCache(t), Options{})
	const now = 1_900_000_000
	s.now = func() time.Time { return time.Unix(now, 0) }
	var want []store.ID
	for i := range store.MaxVariants {
		h := store.Head{Until: 0}
		switch i {
		case 20:
			h.Until = now
		case 21:
			h.Until = now + 1
		}
		e, err := commit(t.Context(), s, "k", h, "body")
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, e.ID)
	}
	for _, leaves := range []int{20, 0, 0} {
		want = slices.Delete(want, leaves, leaves+1)
		want = append(want, put(t, s, "k", "", "body").ID)
		newest := slices.Clone(want)
		slices.Reverse(newest)
		wantIDs(t, s, "k", newest...)
	}
}

// A length that is promised takes no memory, and one that is kept no more than
// that.
func TestPromise(t *testing.T) {
	const size = 600 << 10
	s := open(t, newMapCache(t), Options{})
	created, err := s.Create(t.Context(), store.Key("k"), store.Head{}, size)
	if err != nil {
		t.Fatal(err)
	}
	defer created.Abort(nil)
	w := created.(*writer)
	if n := cap(w.value); n > 100<<10 {
		t.Errorf("%d octets for a body of which nothing has come", n)
	}
	for range size / 1024 {
		if _, err := w.Write(make([]byte, 1024)); err != nil {
			t.Fatal(err)
		}
	}
	if n := cap(w.value); n > size+size/8 {
		t.Errorf("%d octets for a body of %d", n, size)
	}
}

// The values of a key that is removed, replaced or displaced go with it.
func TestNothingLeft(t *testing.T) {
	m := newMapCache(t)
	s := open(t, m, Options{})
	want := func(n int, after string) {
		t.Helper()
		if names := m.names(); len(names) != n {
			t.Errorf("after %s: %d values, want %d", after, len(names), n)
		}
	}
	a := put(t, s, "k", "", "a")
	b := put(t, s, "k", "", "b", a.ID)
	want(2, "Commit")
	for range 2 * store.MaxVariants {
		put(t, s, "k", "", "body")
	}
	want(1+store.MaxVariants, "many commits")
	wantGone(t, s, "k", b.ID)
	for _, id := range ids(t, s, "k")[1:] {
		if err := s.Remove(t.Context(), store.Key("k"), id); err != nil {
			t.Fatal(err)
		}
	}
	want(2, "Remove of all but one")
	if err := s.Remove(t.Context(), store.Key("k"), ids(t, s, "k")[0]); err != nil {
		t.Fatal(err)
	}
	want(0, "Remove")
	w, err := s.Create(t.Context(), store.Key("k"), store.Head{}, -1)
	if err != nil {
		t.Fatal(err)
	}
	w.Abort(nil)
	want(0, "Abort")
}
