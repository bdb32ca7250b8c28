package blobs

import (
	"errors"
	"strings"
	"testing"

	"github.com/larderhq/larder/store"
)

// shownBy returns the heads that s shows, by ID.
func shownBy(t *testing.T, s *Store) map[store.ID]string {
	t.Helper()
	seen := map[store.ID]string{}
	err := s.Walk(t.Context(), func(_ store.Key, e store.Entry, head []byte) bool {
		seen[e.ID] = string(head)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return seen
}

// counting is a backend that knows what was asked for.
type counting struct {
	*mapCache
	gets []string
}

func (c *counting) Get(key string) ([]byte, bool) {
	c.gets = append(c.gets, key)
	return c.mapCache.Get(key)
}

// It costs one Get for each key, of its index.
func TestWalkReadsNoBodies(t *testing.T) {
	c := &counting{mapCache: newMapCache(t)}
	s := open(t, c, Options{})
	for _, key := range []string{"a", "a", "b"} {
		put(t, s, key, "head", "body")
	}
	c.gets = nil
	if seen := shownBy(t, s); len(seen) != 3 || len(c.gets) != 2 || !isIndex(c.gets[0]) || !isIndex(c.gets[1]) {
		t.Errorf("to show %d entries of two keys it asked for %q", len(seen), c.gets)
	}
}

// A backend that cannot say what it has is not walked, and that is an error: nobody
// takes it for empty.
func TestWalkWithoutNames(t *testing.T) {
	s := open(t, &hooked{Cache: newMapCache(t)}, Options{})
	put(t, s, "k", "head", "body")
	err := s.Walk(t.Context(), func(store.Key, store.Entry, []byte) bool { t.Error("something is shown"); return true })
	if !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Walk: %v, want ErrUnsupported", err)
	}
}

// forgetful is a backend that fails in the middle of its names.
type forgetful struct {
	*mapCache
	err error
}

func (c forgetful) Names(visit func(string) bool) error {
	names := c.names()
	for _, name := range names[:len(names)/2] {
		visit(name)
	}
	return c.err
}

// It fails with the error of the backend: not all was shown.
func TestWalkOfNamesThatFail(t *testing.T) {
	c := forgetful{newMapCache(t), errors.New("the test's own")}
	s := open(t, c, Options{})
	for _, key := range []string{"a", "b", "c", "d"} {
		put(t, s, key, "head", "body")
	}
	if err := s.Walk(t.Context(), func(store.Key, store.Entry, []byte) bool { return true }); !errors.Is(err, c.err) {
		t.Errorf("Walk: %v, want %v", err, c.err)
	}
}

// Only what is whole, in its place and of this prefix is shown, each as it was
// committed; whatever else is in the backend is nobody's.
func TestWalkAmongOthers(t *testing.T) {
	c := newMapCache(t)
	s := open(t, c, Options{Prefix: "p-"})
	want := put(t, s, "k", "mine", "body")
	for _, prefix := range []string{"p-p-", "p", "other-", "p-" + strings.Repeat("0", indexName)} {
		put(t, open(t, c, Options{Prefix: prefix}), "k", "of "+prefix, "body")
	}
	index := s.place(store.Key("k")).index
	value, _ := c.Get(index)
	name := func(digit string) string { return "p-" + strings.Repeat(digit, indexName) }
	c.Set(name("0"), value) // whole, and in another's place
	c.Set(name("1"), nil)
	c.Set(name("2"), []byte("of another program"))
	c.Set(name("3"), value[:labelAt+3])
	torn := labelAt + 4 + len("p-")
	c.Set(name("4"), value[:torn:torn])
	c.Set(name("5"), append(make([]byte, labelAt), value[labelAt:]...)) // with a label of no length
	if seen := shownBy(t, s); len(seen) != 1 || seen[want.ID] != "mine" {
		t.Errorf("%v are shown, want %d alone", seen, want.ID)
	}
	damaged := append([]byte(nil), value...)
	damaged[len(damaged)-1] ^= 1
	c.Set(index, damaged)
	if seen := shownBy(t, s); len(seen) != 0 {
		t.Errorf("%v are shown of a damaged index", seen)
	}
}
