package blobs

import (
	"bytes"
	"context"
	"errors"
	"hash/maphash"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/storetest"
)

var seed = maphash.MakeSeed()

// A mapCache is a backend in memory. Like others of its kind it keeps and hands
// out the very octets it was given, so it finds out who changes them.
type mapCache struct {
	t testing.TB

	mu     sync.Mutex
	values map[string][]byte
	sums   map[string]uint64
}

func newMapCache(t testing.TB) *mapCache {
	c := &mapCache{t: t, values: map[string][]byte{}, sums: map[string]uint64{}}
	t.Cleanup(func() {
		for _, name := range c.names() {
			c.Delete(name)
		}
	})
	return c
}

func (c *mapCache) Get(key string) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	value, ok := c.values[key]
	return value, ok
}

func (c *mapCache) Set(key string, value []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inspect(key)
	c.values[key], c.sums[key] = value, maphash.Bytes(seed, value)
}

func (c *mapCache) Delete(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inspect(key)
	delete(c.values, key)
}

// inspect looks at a value before it goes.
func (c *mapCache) inspect(key string) {
	if value, ok := c.values[key]; ok && maphash.Bytes(seed, value) != c.sums[key] {
		c.t.Errorf("the value %q was changed after Set", key)
	}
}

// names returns what there is, each index before its bodies.
func (c *mapCache) names() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.values))
}

// Names implements Lister.
func (c *mapCache) Names(visit func(name string) bool) error {
	for _, name := range c.names() {
		if !visit(name) {
			return nil
		}
	}
	return nil
}

// hooked is a backend of which a test replaces what it likes.
type hooked struct {
	Cache
	get    func(key string) ([]byte, bool)
	set    func(key string, value []byte)
	delete func(key string)
}

func (c *hooked) Get(key string) ([]byte, bool) {
	if c.get != nil {
		return c.get(key)
	}
	return c.Cache.Get(key)
}

func (c *hooked) Set(key string, value []byte) {
	if c.set != nil {
		c.set(key, value)
		return
	}
	c.Cache.Set(key, value)
}

func (c *hooked) Delete(key string) {
	if c.delete != nil {
		c.delete(key)
		return
	}
	c.Cache.Delete(key)
}

// isIndex tells the names of indexes from those of bodies.
func isIndex(name string) bool { return !strings.Contains(name, ".") }

func open(t testing.TB, c Cache, opts Options) *Store {
	s := New(c, opts)
	t.Cleanup(func() { s.Close() })
	return s
}

// put commits an entry or fails the test.
func put(t *testing.T, s *Store, key, head, body string, replaces ...store.ID) store.Entry {
	t.Helper()
	e, err := commit(t.Context(), s, key, store.Head{Octets: []byte(head)}, body, replaces...)
	if err != nil {
		t.Fatalf("storing under %q: %v", key, err)
	}
	return e
}

func commit(ctx context.Context, s *Store, key string, head store.Head, body string, replaces ...store.ID) (store.Entry, error) {
	w, err := s.Create(ctx, store.Key(key), head, -1)
	if err != nil {
		return store.Entry{}, err
	}
	if _, err = io.WriteString(w, body); err != nil {
		w.Abort(err)
		return store.Entry{}, err
	}
	e, err := w.Commit(ctx, replaces...)
	if err != nil {
		w.Abort(err)
	}
	return e, err
}

// ids returns what Lookup has under key.
func ids(t *testing.T, s *Store, key string) []store.ID {
	t.Helper()
	es, err := s.Lookup(t.Context(), store.Key(key), nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []store.ID
	for _, e := range es {
		got = append(got, e.ID)
	}
	return got
}

func wantIDs(t *testing.T, s *Store, key string, want ...store.ID) {
	t.Helper()
	if got := ids(t, s, key); !slices.Equal(got, want) {
		t.Fatalf("the entries %d are under %q, want %d", got, key, want)
	}
}

// body reads the body of id.
func body(ctx context.Context, s *Store, key string, id store.ID) (string, error) {
	r, err := s.Open(ctx, store.Key(key), id, 0, -1)
	if err != nil {
		return "", err
	}
	defer r.Close()
	octets, err := io.ReadAll(r)
	return string(octets), err
}

func wantBody(t *testing.T, s *Store, key string, id store.ID, want string) {
	t.Helper()
	if got, err := body(t.Context(), s, key, id); err != nil || got != want {
		t.Fatalf("the body of %d is %q, %v; want %q", id, got, err, want)
	}
}

func wantGone(t *testing.T, s *Store, key string, id store.ID) {
	t.Helper()
	if got, err := body(t.Context(), s, key, id); !errors.Is(err, store.ErrGone) {
		t.Fatalf("Open of %d: %q, %v; want ErrGone", id, got, err)
	}
}

func wantHead(t *testing.T, s *Store, key string, e store.Entry, want string) {
	t.Helper()
	if got, err := s.Head(t.Context(), store.Key(key), e.ID, e.Rev); err != nil || string(got) != want {
		t.Fatalf("the head of %+v is %q, %v; want %q", e, got, err, want)
	}
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, newMapCache(t), Options{}) })
}

func BenchmarkStore(b *testing.B) {
	storetest.Bench(b, func(b *testing.B) store.Store { return open(b, newMapCache(b), Options{}) })
}

// Under a context that has ended the backend is not asked: it might take long.
func TestAtOnce(t *testing.T) {
	c := &hooked{Cache: newMapCache(t)}
	s := open(t, c, Options{})
	e := put(t, s, "k", "head", "body")
	w, err := s.Create(t.Context(), store.Key("k"), store.Head{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort(nil)
	c.get = func(string) ([]byte, bool) { t.Error("Get was called"); return nil, false }
	c.set = func(string, []byte) { t.Error("Set was called") }
	c.delete = func(string) { t.Error("Delete was called") }
	ctx, key := store.AtOnce, store.Key("k")
	_, looked := s.Lookup(ctx, key, nil)
	_, headed := s.Head(ctx, key, e.ID, e.Rev)
	_, opened := s.Open(ctx, key, e.ID, 0, -1)
	_, created := s.Create(ctx, key, store.Head{}, -1)
	_, committed := w.Commit(ctx)
	for name, err := range map[string]error{
		"Lookup": looked, "Head": headed, "Open": opened, "Create": created, "Commit": committed,
		"Amend":  s.Amend(ctx, key, e.ID, store.Head{}),
		"Remove": s.Remove(ctx, key, e.ID),
		"Forget": s.Forget(ctx, key),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Names suit backends that take 250 octets without spaces, or file names without
// regard to case.
func TestNames(t *testing.T) {
	c := newMapCache(t)
	s := open(t, c, Options{})
	for _, key := range []string{"", "\x00 \r\n", strings.Repeat("/../", 1000), "a", "A"} {
		put(t, s, key, "head", "body")
	}
	names := c.names()
	if len(names) != 10 {
		t.Errorf("%d values of 5 entries, want 10", len(names))
	}
	for _, name := range names {
		rest, ok := strings.CutPrefix(name, "larder-")
		if !ok || len(rest) > 97 || strings.Trim(rest, "0123456789abcdef.") != "" {
			t.Errorf("the name %q", name)
		}
	}
}

// A panic of the backend is the caller's, and leaves nothing locked.
func TestPanic(t *testing.T) {
	for _, method := range []string{"get", "set", "delete"} {
		t.Run(method, func(t *testing.T) {
			c := &hooked{Cache: newMapCache(t)}
			s := open(t, c, Options{})
			e := put(t, s, "k", "head", "body")
			switch method {
			case "get":
				c.get = func(string) ([]byte, bool) { panic("the backend's") }
			case "set":
				c.set = func(string, []byte) { panic("the backend's") }
			case "delete":
				c.delete = func(string) { panic("the backend's") }
			}
			panicked := 0
			for _, call := range []func(){
				func() { s.Lookup(t.Context(), store.Key("k"), nil) },
				func() { body(t.Context(), s, "k", e.ID) },
				func() { commit(t.Context(), s, "k", store.Head{}, "other", e.ID) },
				func() { s.Amend(t.Context(), store.Key("k"), e.ID, store.Head{}) },
				func() { s.Forget(t.Context(), store.Key("k")) },
			} {
				func() {
					defer func() {
						if recover() != nil {
							panicked++
						}
					}()
					call()
				}()
			}
			if panicked == 0 {
				t.Error("no panic came through")
			}
			c.get, c.set, c.delete = nil, nil, nil
			e = put(t, s, "k", "head", "new body")
			wantBody(t, s, "k", e.ID, "new body")
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Once Close has returned the backend can be closed too.
func TestCloseWaits(t *testing.T) {
	c := &hooked{Cache: newMapCache(t)}
	s := open(t, c, Options{})
	begun := make(chan struct{})
	over := false // only Close orders what follows
	c.get = func(string) ([]byte, bool) {
		close(begun)
		for !s.closed.Load() {
		}
		over = true
		return nil, false
	}
	var wg sync.WaitGroup
	wg.Go(func() { s.Lookup(context.Background(), store.Key("k"), nil) })
	<-begun
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if !over {
		t.Error("Close returned during a call of the backend")
	}
	wg.Wait()
}

// What is given to a reader stays what it is, whatever the backend does.
func TestReaderOutlivesClose(t *testing.T) {
	s := open(t, newMapCache(t), Options{})
	e := put(t, s, "k", "head", "body")
	r, err := s.Open(t.Context(), store.Key("k"), e.ID, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, []byte("od")) {
		t.Errorf("%q, %v", got, err)
	}
	r.Close()
	if n, err := r.Read(make([]byte, 1)); n != 0 || err == nil || err == io.EOF {
		t.Errorf("Read after Close: %d, %v", n, err)
	}
}
