package blobs

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/storetest"
)

// A dice is for many goroutines.
type dice struct {
	mu sync.Mutex
	r  *rand.Rand
}

func newDice(t *testing.T) *dice {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return &dice{r: rand.New(rand.NewPCG(seed, 0))}
}

func (d *dice) below(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.r.IntN(n)
}

// A backend may lose any value at any time.
func TestForgetful(t *testing.T) {
	d, m := newDice(t), newMapCache(t)
	lost := 0
	c := &hooked{Cache: m, get: func(key string) ([]byte, bool) {
		if names := m.names(); d.below(8) == 0 && len(names) > 0 {
			m.Delete(names[d.below(len(names))])
			d.mu.Lock()
			lost++
			d.mu.Unlock()
		}
		return m.Get(key)
	}}
	storetest.Hammer(t, open(t, c, Options{}))
	if lost == 0 {
		t.Error("nothing was lost")
	}
}

// A Set may fail without a word. What was replaced or removed does not come back.
func TestDropsSets(t *testing.T) {
	d, m := newDice(t), newMapCache(t)
	c := &hooked{Cache: m, set: func(key string, value []byte) {
		if d.below(3) > 0 {
			m.Set(key, value)
		}
	}}
	storetest.Hammer(t, open(t, c, Options{}))
}

// damage returns value as it never was.
func damage(d *dice, m *mapCache, value []byte) []byte {
	switch b := bytes.Clone(value); d.below(5) {
	case 0:
		return b[:d.below(len(b))]
	case 1:
		return append(b, byte(d.below(256)))
	case 2: // that of somebody else
		names := m.names()
		if len(names) == 0 {
			return nil
		}
		other, _ := m.Get(names[d.below(len(names))])
		return other
	default:
		for range 1 + d.below(3) {
			b[d.below(len(b))] ^= 1 << d.below(8)
		}
		return b
	}
}

// Values may come back damaged. No octet is wrong.
func TestDamagedAtRandom(t *testing.T) {
	d, m := newDice(t), newMapCache(t)
	c := &hooked{Cache: m, get: func(key string) ([]byte, bool) {
		value, ok := m.Get(key)
		if ok && d.below(10) == 0 {
			value = damage(d, m, value)
		}
		return value, ok
	}}
	storetest.Hammer(t, open(t, c, Options{}))
}

// One bit is flipped anywhere, or the value is cut anywhere, or goes on: it is
// a miss.
func TestDamagedAnywhere(t *testing.T) {
	m := newMapCache(t)
	writer := open(t, m, Options{})
	e := put(t, writer, "the key", "the head", "the body")
	for _, name := range m.names() {
		whole, _ := m.Get(name)
		var bad [][]byte
		for at := range whole {
			for bit := range 8 {
				b := bytes.Clone(whole)
				b[at] ^= 1 << bit
				bad = append(bad, b)
			}
			bad = append(bad, whole[:at], append(bytes.Clone(whole[:at]), make([]byte, len(whole)-at)...))
		}
		bad = append(bad, append(bytes.Clone(whole), 0), append(bytes.Clone(whole), whole...), nil)
		for i, b := range bad {
			if bytes.Equal(b, whole) {
				continue // which ends with noughts
			}
			c := newMapCache(t)
			for _, other := range m.names() {
				value, _ := m.Get(other)
				c.Set(other, value)
			}
			c.Set(name, b)
			s := open(t, c, Options{})
			if isIndex(name) {
				wantIDs(t, s, "the key")
			} else {
				wantIDs(t, s, "the key", e.ID)
				wantHead(t, s, "the key", e, "the head")
			}
			wantGone(t, s, "the key", e.ID)
			wantIDs(t, s, "the key") // the entry has gone with its body
			if t.Failed() {
				t.Fatalf("damage %d of %q", i, name)
			}
			put(t, s, "the key", "the head", "the next") // damage is no obstacle
			wantBody(t, s, "the key", ids(t, s, "the key")[0], "the next")
		}
	}
}

// An entry without its body is nobody's, but others of its key stay.
func TestBodyLost(t *testing.T) {
	m := newMapCache(t)
	s := open(t, m, Options{})
	a := put(t, s, "k", "head a", "body a")
	before := m.names()
	b := put(t, s, "k", "head b", "body b")
	for _, name := range m.names() {
		if !slices.Contains(before, name) {
			m.Delete(name)
		}
	}
	if _, err := s.Open(t.Context(), store.Key("k"), b.ID, 0, 0); !errors.Is(err, store.ErrGone) {
		t.Errorf("Open of nothing of what was lost: %v", err)
	}
	wantIDs(t, s, "k", a.ID)
	wantBody(t, s, "k", a.ID, "body a")
}

// What the index of another entry, or of another moment, leads to is not its
// body: a name alone proves nothing.
func TestBodySwapped(t *testing.T) {
	m := newMapCache(t)
	s := open(t, m, Options{})
	a := put(t, s, "k", "head", "body a")
	b := put(t, s, "k", "head", "body b")
	names := m.names()[1:]
	x, _ := m.Get(names[0])
	y, _ := m.Get(names[1])
	m.Set(names[0], y)
	m.Set(names[1], x)
	wantGone(t, s, "k", a.ID)
	wantGone(t, s, "k", b.ID)
}

// What the backend still shows after Set is deleted: forgotten is better than
// back again.
func TestSetFails(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, s *Store, e store.Entry){
		"Remove": func(t *testing.T, s *Store, e store.Entry) {
			if err := s.Remove(t.Context(), store.Key("k"), e.ID); err != nil {
				t.Error(err)
			}
		},
		"Amend": func(t *testing.T, s *Store, e store.Entry) {
			if err := s.Amend(t.Context(), store.Key("k"), e.ID, store.Head{}); err != nil {
				t.Error(err)
			}
		},
		"Commit": func(t *testing.T, s *Store, e store.Entry) {
			put(t, s, "k", "head", "new", e.ID)
		},
		"Forget": func(t *testing.T, s *Store, e store.Entry) {
			if err := s.Forget(t.Context(), store.Key("k")); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMapCache(t)
			c := &hooked{Cache: m}
			s := open(t, c, Options{})
			e := put(t, s, "k", "old head", "old")
			put(t, s, "k", "other head", "other")
			c.set = func(string, []byte) {}
			change(t, s, e)
			for _, s := range []*Store{s, New(m, Options{})} {
				if slices.Contains(ids(t, s, "k"), e.ID) {
					t.Error("Lookup shows what has gone")
				}
				wantGone(t, s, "k", e.ID)
			}
		})
	}
}

// Whoever cannot have something removed is told. A commit that fails leaves
// nothing.
func TestStuck(t *testing.T) {
	m := newMapCache(t)
	c := &hooked{Cache: m}
	s := open(t, c, Options{})
	e := put(t, s, "k", "head", "body")
	c.set = func(key string, value []byte) {
		if !isIndex(key) {
			m.Set(key, value)
		}
	}
	c.delete = func(key string) {
		if !isIndex(key) {
			m.Delete(key)
		}
	}
	if _, err := commit(t.Context(), s, "k", store.Head{}, "new", e.ID); !errors.Is(err, errStuck) {
		t.Errorf("Commit: %v", err)
	}
	wantBody(t, s, "k", e.ID, "body")
	if names := m.names(); len(names) != 2 {
		t.Errorf("%d values after a Commit that failed, want 2", len(names))
	}
	if err := s.Amend(t.Context(), store.Key("k"), e.ID, store.Head{}); !errors.Is(err, errStuck) {
		t.Errorf("Amend: %v", err)
	}
	if err := s.Remove(t.Context(), store.Key("k"), e.ID); !errors.Is(err, errStuck) {
		t.Errorf("Remove: %v", err)
	}
	if err := s.Forget(t.Context(), store.Key("k")); !errors.Is(err, errStuck) {
		t.Errorf("Forget: %v", err)
	}
	wantGone(t, s, "k", e.ID) // it has no body any more
}

// What was read as damaged may be whole the next time: to remove under such a
// key, or what may be there still, is to delete the index.
func TestRemoveUnread(t *testing.T) {
	for bad := range 2 {
		m := newMapCache(t)
		c := &hooked{Cache: m}
		s := open(t, c, Options{})
		put(t, s, "k", "head", "other body")
		e := put(t, s, "k", "head", "body")
		reads := 0
		c.set = func(string, []byte) {}
		c.get = func(key string) ([]byte, bool) {
			if reads++; reads == bad+1 {
				return []byte("noise"), true
			}
			return m.Get(key)
		}
		if err := s.Remove(t.Context(), store.Key("k"), e.ID); err != nil {
			t.Fatal(err)
		}
		wantIDs(t, s, "k")
	}
}

// A whole index that makes no sense is a miss too: of another version, perhaps.
func TestIndexNonsense(t *testing.T) {
	var many []record
	for i := range store.MaxVariants + 1 {
		many = append(many, record{id: store.ID(1000 - i)})
	}
	for name, c := range map[string]struct {
		list []record
		cut  int
		ok   bool
	}{
		"in order":          {[]record{{id: 3}, {id: 2, head: []byte("head")}, {id: 1}}, 0, true},
		"the most there is": {many[1:], 0, true},
		"out of order":      {[]record{{id: 1}, {id: 2}}, 0, false},
		"one ID twice":      {[]record{{id: 1}, {id: 1}}, 0, false},
		"no ID":             {[]record{{id: 1}, {id: 0}}, 0, false},
		"too many":          {many, 0, false},
		"a negative size":   {[]record{{id: 1, size: -1}}, 0, false},
		"an immense size":   {[]record{{id: 1, size: 1 << 62}}, 0, false},
		"half a head":       {[]record{{id: 1, head: []byte("head")}}, 2, false},
		"half a record":     {[]record{{id: 2}, {id: 1}}, 2, false},
	} {
		label := labelOf("prefix", []byte("k"))
		value := sealIndex(label, c.list)
		value = value[:len(value)-c.cut]
		sum(value)
		if list, ok := unsealIndex(value, label); ok != c.ok || ok && len(list) != len(c.list) {
			t.Errorf("%s: %d records, %v", name, len(list), ok)
		}
	}
}

// Whatever a backend returns is a miss, and no more than that.
func FuzzUnseal(f *testing.F) {
	label := labelOf("prefix", []byte("k"))
	f.Add(sealIndex(label, []record{{id: 2, head: []byte("head")}, {id: 1}})[labelAt:])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, rest []byte) {
		for _, magic := range []string{indexMagic, bodyMagic} {
			value := append(appendSeal(nil, magic, label), rest...)
			sum(value)
			list, ok := unsealIndex(value, label)
			if ok && (magic != indexMagic || !bytes.Equal(sealIndex(label, list), value)) {
				t.Errorf("%d records of %x", len(list), value)
			}
			r := record{size: max(int64(len(rest))-ownLen, 0)}
			if _, ok := unsealBody(value, label, &r); ok && magic != bodyMagic {
				t.Errorf("a body of %x", value)
			}
		}
	})
}
