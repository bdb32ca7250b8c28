package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/larderhq/larder/store"
)

// walkHammer walks a store while some entries stay, and are used and amended, and
// others come and go. Those that stay are more than a small memory over a disk
// holds, so there they move up and down all the time. Each walk shows all that stay;
// most do, for less is committed than any store has room for.
func walkHammer(t *testing.T, s walkStore) {
	const staying, walks, changers, users = 160, 20, 2, 2
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	h := &walked{t: t, s: s, done: make(chan struct{})}
	for i := range staying {
		key := fmt.Sprint("stays ", i/2) // two variants each
		size := 1000 + i*131%16_000
		h.stay = append(h.stay, staysAs{key, put(t, s, key, mintHead(key, uint64(i), size, 0), pattern(key, uint64(i), size))})
	}
	var wg sync.WaitGroup
	for g := range uint64(changers + users) {
		r := rand.New(rand.NewPCG(seed, g))
		do := h.use
		if g < changers {
			do = h.change
		}
		wg.Go(func() {
			for n := 0; !h.over() && do(r, n); n++ {
			}
		})
	}
	for n := range walks {
		if h.walk(n); t.Failed() {
			break
		}
	}
	close(h.done)
	wg.Wait()
	there := 0
	for _, e := range h.stay {
		if h.there(e) {
			there++
		}
	}
	if there < staying/2 {
		t.Errorf("%d of %d stay, of which to miss some is no art", there, staying)
	}
}

type walked struct {
	t    *testing.T
	s    walkStore
	stay []staysAs
	done chan struct{}
}

// A staysAs is an entry that stays, in its first revision.
type staysAs struct {
	key string
	store.Entry
}

func (h *walked) over() bool {
	select {
	case <-h.done:
		return true
	default:
		return h.t.Failed()
	}
}

// walk walks once, for the nth time, and holds that to what stays.
func (h *walked) walk(n int) {
	seen := map[store.ID]bool{}
	err := h.s.Walk(h.t.Context(), func(key store.Key, e store.Entry, head []byte) bool {
		seen[e.ID] = true
		if !wholeHead(h.t, string(key), e, head) {
			return false
		}
		if len(seen)%(1+n%7) == 0 {
			runtime.Gosched() // a visit that takes its time
		}
		return true
	})
	if err != nil {
		h.t.Errorf("Walk: %v", err)
	}
	missed := 0
	for _, e := range h.stay {
		if !seen[e.ID] && h.there(e) {
			missed++
		}
	}
	if missed > 0 {
		h.t.Errorf("walk %d showed %d entries, and not %d of the %d that stay", n, len(seen), missed, len(h.stay))
	}
}

// use reads an entry that stays, or gives it another head.
func (h *walked) use(r *rand.Rand, _ int) bool {
	i := r.IntN(len(h.stay))
	e := h.stay[i]
	var err error
	if r.IntN(200) == 0 {
		head := mintHead(e.key, uint64(i), int(e.Size), uint32(r.IntN(200)))
		err = h.s.Amend(h.t.Context(), store.Key(e.key), e.ID, store.Head{Octets: head})
	} else {
		err = take(h.t.Context(), h.s, store.Key(e.key), e.ID, -1)
	}
	if err != nil && !errors.Is(err, store.ErrGone) && !errors.Is(err, store.ErrFull) {
		h.t.Errorf("using %q: %v", e.key, err)
	}
	return true
}

// there says whether e was not forgotten.
func (h *walked) there(e staysAs) bool {
	es, err := h.s.Lookup(h.t.Context(), store.Key(e.key), nil)
	if err != nil {
		h.t.Errorf("Lookup(%q): %v", e.key, err)
	}
	return slices.ContainsFunc(es, func(now store.Entry) bool { return now.ID == e.ID })
}

// change commits an entry, for the nth time, and removes it, or the one before it.
func (h *walked) change(r *rand.Rand, n int) bool {
	const most = 400 // of up to 2 KiB: less than Room
	if n == most {
		return false
	}
	key := fmt.Sprint("comes ", r.IntN(200))
	generation, size := r.Uint64(), r.IntN(2<<10)
	e, err := commit(h.t.Context(), h.s, key, mintHead(key, generation, size, 0), pattern(key, generation, size), int64(size))
	if err != nil {
		h.t.Errorf("storing under %q: %v", key, err)
		return false
	}
	if r.IntN(4) == 0 {
		return true
	}
	if err := h.s.Remove(h.t.Context(), store.Key(key), e.ID); err != nil {
		h.t.Error(err)
	}
	return true
}
