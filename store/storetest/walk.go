package storetest

import (
	"context"
	"fmt"
	"io"
	"maps"
	"strings"
	"testing"

	"github.com/larderhq/larder/store"
)

// A walkStore is a store that is held to the contract of store.Walker too.
type walkStore interface {
	store.Store
	store.Walker
}

// walking makes test one of every store: of those that do not walk nothing is asked.
func walking(test func(t *testing.T, s walkStore)) func(t *testing.T, s store.Store) {
	return func(t *testing.T, s store.Store) {
		if w, ok := s.(walkStore); ok {
			test(t, w)
		}
	}
}

// A shown is what Walk shows of an entry.
type shown struct {
	store.Entry
	key, head string
}

// walk returns all that s shows, or fails the test.
func walk(t *testing.T, s walkStore) map[store.ID]shown {
	t.Helper()
	all := map[store.ID]shown{}
	err := s.Walk(t.Context(), func(key store.Key, e store.Entry, head []byte) bool {
		all[e.ID] = shown{e, string(key), string(head)}
		return true
	})
	if err != nil {
		t.Fatalf("Walk: %v", err)
	}
	return all
}

// wantShown fails the test unless got is exactly want.
func wantShown(t *testing.T, got, want map[store.ID]shown) {
	t.Helper()
	for id, w := range want {
		if g, ok := got[id]; !ok {
			t.Errorf("entry %d under %.20q is not shown", id, w.key)
		} else if g != w {
			t.Errorf("entry %d is shown as %+v under %.20q, with a head of %d octets; want %+v, %.20q, %d", id, g.Entry, g.key, len(g.head), w.Entry, w.key, len(w.head))
		}
		delete(got, id)
	}
	for id, g := range got {
		t.Errorf("shown is the entry %d under %.20q, which is not there", id, g.key)
	}
}

// walkFill commits n entries of up to 20 KiB, two under each key.
func walkFill(t *testing.T, s walkStore, n int) map[store.ID]shown {
	t.Helper()
	all := map[store.ID]shown{}
	for i := range n {
		key, head := fmt.Sprint("key ", i/2), strings.Repeat("head ", i*7%100)+fmt.Sprint(i)
		e := put(t, s, key, []byte(head), pattern(key, uint64(i%2), i*977%20_000))
		all[e.ID] = shown{e, key, head}
	}
	return all
}

// Walk shows every entry that is kept, with its key, its revision, its size and its
// head, and nothing else.
func walkAll(t *testing.T, s walkStore) {
	wantShown(t, walk(t, s), map[store.ID]shown{})
	want := walkFill(t, s, 300)
	add := func(key, head string, size int, replaces ...store.ID) store.Entry {
		e := put(t, s, key, []byte(head), pattern(key, 1, size), replaces...)
		want[e.ID] = shown{e, key, head}
		return e
	}
	remove := func(key string, id store.ID) {
		if err := s.Remove(t.Context(), store.Key(key), id); err != nil {
			t.Fatal(err)
		}
		delete(want, id)
	}
	for i, size := range []int{0, 1, 4096, 70_000, 300_001, Kept} { // variants of one key
		add("k", fmt.Sprint("variant ", i), size)
	}
	long := strings.Repeat("long", 2000)
	for _, key := range []string{"", "\x00", "\xff\xfe", long, long + "!"} {
		add(key, "", 10)
		add(key, strings.Repeat("h", 20_000), 10)
	}
	for i, size := range []int{10, 5000, 100_000} {
		key := fmt.Sprint("amended ", i)
		e := add(key, "before", size)
		if err := amend(t, s, key, e.ID, "after"+long); err != nil {
			t.Fatal(err)
		}
		e.Rev++
		want[e.ID] = shown{e, key, "after" + long}

		key = fmt.Sprint("replaced ", i)
		e = add(key, "old", size)
		delete(want, e.ID)
		e = add(key, "new", size, e.ID)
		add(key, "other variant", size)
		remove(key, e.ID)
	}
	for _, size := range []int{10, 50_000, 300_001} { // removed, and read still
		r := openBody(t, s, "read", add("read", "head", size).ID, 0, -1)
		defer r.Close()
	}
	for _, e := range look(t, s, "read") {
		remove("read", e.ID)
	}
	for _, size := range []int64{-1, 3, Kept} { // in the making
		w := create(t, s, "k", size)
		write(t, w, []byte("bo"))
		defer w.Abort(nil)
	}
	wantShown(t, walk(t, s), want)
}

// visit may call any method of the Store, and what it does counts.
func walkChange(t *testing.T, s walkStore) {
	want := walkFill(t, s, 300)
	seen := map[store.ID]bool{}
	add := func(key, head string, e store.Entry) {
		want[e.ID] = shown{e, key, head}
		seen[e.ID] = true
	}
	err := s.Walk(t.Context(), func(key store.Key, e store.Entry, head []byte) bool {
		name := string(key)
		if _, ok := want[e.ID]; !ok || seen[e.ID] { // forgotten meanwhile, or shown again
			return true
		}
		seen[e.ID] = true
		if got := headOf(t, s, name, e); got != string(head) {
			t.Errorf("the head of %q is shown as %.20q, and is %.20q", key, head, got)
		}
		switch len(seen) % 5 {
		case 0:
			if err := s.Remove(t.Context(), key, e.ID); err != nil {
				t.Error(err)
			}
			delete(want, e.ID)
		case 1, 2:
			if err := amend(t, s, name, e.ID, "amended"); err != nil {
				t.Error(err)
			}
			e.Rev++
			add(name, "amended", e)
		case 3:
			if err := s.Forget(t.Context(), key); err != nil {
				t.Error(err)
			}
			maps.DeleteFunc(want, func(_ store.ID, w shown) bool { return w.key == name })
			add(name, "new", put(t, s, name, []byte("new"), []byte("body")))
		default:
			r := openBody(t, s, name, e.ID, 0, -1)
			if n, err := io.Copy(io.Discard, r); n != e.Size || err != nil {
				t.Errorf("the body of %q has %d octets, %v; want %d", name, n, err, e.Size)
			}
			closeBody(t, r)
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	for id := range want {
		if !seen[id] {
			t.Errorf("entry %d was not shown", id)
		}
	}
	wantShown(t, walk(t, s), want)
}

// visit ends the walk by returning false.
func walkEnds(t *testing.T, s walkStore) {
	walkFill(t, s, 100)
	for _, want := range []int{1, 2, 37} {
		n := 0
		err := s.Walk(t.Context(), func(store.Key, store.Entry, []byte) bool {
			n++
			return n < want
		})
		if n != want || err != nil {
			t.Errorf("ended after %d of 100, Walk went on to %d, and said %v", want, n, err)
		}
	}
}

// It fails with the error of ctx.
func walkContext(t *testing.T, s walkStore) {
	walkFill(t, s, 100)
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	err := s.Walk(ctx, func(store.Key, store.Entry, []byte) bool {
		if n++; n == 9 {
			cancel()
		}
		return true
	})
	wantErr(t, "Walk under a context that ended", err, context.Canceled)
	if n != 9 {
		t.Errorf("the context ended at the 9th entry of 100, and Walk went on to the %dth", n)
	}
	err = s.Walk(ctx, func(store.Key, store.Entry, []byte) bool { return true })
	wantErr(t, "Walk under a context that had ended", err, context.Canceled)
}

// It fails with ErrClosed, also if the Store is closed meanwhile.
func walkClosed(t *testing.T, s walkStore) {
	walkFill(t, s, 100)
	n := 0
	visit := func(store.Key, store.Entry, []byte) bool {
		if n++; n == 9 {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		return true
	}
	wantErr(t, "Walk of a store that was closed meanwhile", s.Walk(t.Context(), visit), store.ErrClosed)
	if n != 9 {
		t.Errorf("closed at the 9th entry of 100, Walk went on to the %dth", n)
	}
	wantErr(t, "Walk after Close", s.Walk(t.Context(), visit), store.ErrClosed)
}
