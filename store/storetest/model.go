package storetest

import (
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/larderhq/larder/store"
)

// modelled is an entry as it ought to be.
type modelled struct {
	id   store.ID
	rev  uint32
	head string
	body []byte
}

// model runs a random history and compares each step with a list.
func model(t *testing.T, s store.Store) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	keys := map[string][]*modelled{} // newest first
	type open struct {
		io.ReadCloser
		rest []byte
	}
	var readers []open
	for now := range 3000 {
		key := fmt.Sprint("key ", r.IntN(3))
		es := keys[key]
		var e *modelled
		if len(es) > 0 {
			e = es[r.IntN(len(es))]
		}
		switch n := r.IntN(20); {
		case n < 8 || e == nil:
			added := &modelled{
				head: fmt.Sprint("head ", now),
				body: pattern(key, uint64(now), r.IntN(1<<r.IntN(13))),
			}
			var replaces []store.ID
			if e != nil && r.IntN(4) == 0 {
				replaces = append(replaces, e.id)
				es = slices.DeleteFunc(slices.Clone(es), func(m *modelled) bool { return m == e })
			}
			got := put(t, s, key, []byte(added.head), added.body, replaces...)
			added.id, added.rev = got.ID, got.Rev
			es = slices.Insert(slices.Clone(es), 0, added)
			if len(es) > store.MaxVariants {
				kept := look(t, s, key) // which one has gone is the store's affair
				es = slices.DeleteFunc(es, func(m *modelled) bool {
					return !slices.ContainsFunc(kept, func(e store.Entry) bool { return e.ID == m.id })
				})
				if len(es) != store.MaxVariants {
					t.Fatalf("step %d: %d variants are left", now, len(es))
				}
			}
			keys[key] = es
		case n < 9:
			if err := s.Remove(t.Context(), store.Key(key), e.id); err != nil {
				t.Fatal(err)
			}
			keys[key] = slices.DeleteFunc(slices.Clone(es), func(m *modelled) bool { return m == e })
		case n < 12:
			e.head = fmt.Sprint("amended ", now)
			e.rev++
			if err := amend(t, s, key, e.id, e.head); err != nil {
				t.Fatal(err)
			}
		case n < 13:
			w := create(t, s, key, -1)
			write(t, w, []byte("nothing"))
			w.Abort(nil)
		case n < 16:
			touch(t, s, key, e.id)
		case n < 19:
			off := r.IntN(len(e.body) + 1)
			readers = append(readers, open{openBody(t, s, key, e.id, int64(off), -1), e.body[off:]})
		default:
			for _, o := range readers {
				wantBody(t, o.ReadCloser, o.rest)
			}
			readers = nil
		}
		compare(t, s, key, keys[key])
		if t.Failed() {
			t.Fatalf("step %d", now)
		}
	}
	for _, o := range readers {
		wantBody(t, o.ReadCloser, o.rest)
	}
}

// compare holds what is under key to want.
func compare(t *testing.T, s store.Store, key string, want []*modelled) {
	t.Helper()
	got := look(t, s, key)
	if len(got) != len(want) {
		t.Fatalf("%d entries under %q, want %d", len(got), key, len(want))
	}
	for i, e := range got {
		m := want[i]
		if e.ID != m.id || e.Rev != m.rev || headOf(t, s, key, e) != m.head || e.Size != int64(len(m.body)) {
			t.Fatalf("entry %d under %q is %+v, want %d, revision %d, %q, %d octets", i, key, e, m.id, m.rev, m.head, len(m.body))
		}
	}
}
