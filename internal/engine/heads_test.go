package engine

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/message"
	"github.com/larderhq/larder/internal/rules"
	"github.com/larderhq/larder/store"
)

// A shelf is a store of heads, for an engine that does nothing but decode them.
type shelf struct {
	store.Store
	mu    sync.Mutex
	heads map[store.ID][]byte
}

func newShelf() (*shelf, *Engine) {
	s := &shelf{heads: make(map[store.ID][]byte)}
	return s, &Engine{Config: Config{Store: s}}
}

// Head gives out the same octets whatever the revision.
func (s *shelf) Head(_ context.Context, _ store.Key, id store.ID, _ uint32) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heads[id], nil
}

// put adds n entries, the IDs from first on, whose heads have that many lines
// of so many octets.
func (s *shelf) put(first store.ID, n, lines, octets int) []store.Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	header := rules.Header{"Cache-Control": {"max-age=3600"}}
	for range lines {
		header["X-Line"] = append(header["X-Line"], strings.Repeat("x", octets))
	}
	entries := make([]store.Entry, n)
	for i := range entries {
		header["Etag"] = []string{strconv.Quote(strconv.Itoa(i))}
		head := message.Encode(&rules.Stored{Status: 200, Header: header, Received: time.Unix(0, 0)})
		entries[i] = store.Entry{ID: first + store.ID(i)}
		s.heads[entries[i].ID] = head
	}
	return entries
}

// remembered decodes entries and counts those for which there was nothing to do.
func (h *heads) remembered(t *testing.T, e *Engine, entries []store.Entry) (n int) {
	t.Helper()
	for i := range entries {
		before := h.slots[uint64(entries[i].ID)%headSlots].Load()
		k, err := h.decode(t.Context(), nil, entries[i], e, &e.Config.Policy)
		if err != nil || k == nil || k.entry.ID != entries[i].ID {
			t.Fatalf("entry %d is %v, %v", entries[i].ID, k, err)
		}
		if k == before {
			n++
		}
	}
	return n
}

// wantBudget compares what the slots hold with what is on the books.
func (h *heads) wantBudget(t *testing.T) {
	t.Helper()
	sum := int64(0)
	for i := range h.slots {
		if k := h.slots[i].Load(); k != nil {
			sum += k.weight
		}
	}
	if held := h.held.Load(); held != sum || held > headBudget {
		t.Errorf("%d held, %d on the books, %d allowed", sum, held, headBudget)
	}
}

// Heads above 2 KiB were never remembered: a hit decoded those of all variants.
func TestLongHeadsWereDecodedAtEveryHit(t *testing.T) {
	for _, octets := range []int{100, 2100, 8000, 30000, 64000} {
		var h heads
		s, e := newShelf()
		variants := s.put(1, store.MaxVariants, 1, octets)
		h.remembered(t, e, variants)
		if n := h.remembered(t, e, variants); n != len(variants) {
			t.Errorf("heads of %d octets: %d of %d remembered", octets, n, len(variants))
		}
		if n := testing.AllocsPerRun(10, func() { h.remembered(t, e, variants) }); n > 0 {
			t.Errorf("heads of %d octets: a hit allocates %v times", octets, n)
		}
	}
}

func TestHeadsStayWithinTheirBudget(t *testing.T) {
	for name, c := range map[string]struct{ lines, octets int }{
		"long": {1, 60000}, "many lines": {300, 1}, "middling": {4, 2000}, "small": {4, 100},
	} {
		t.Run(name, func(t *testing.T) {
			var h heads
			s, e := newShelf()
			entries := s.put(1, headSlots+100, c.lines, c.octets)
			h.remembered(t, e, entries)
			h.wantBudget(t)
			// It is not just empty, and what came last is there.
			last := entries[len(entries)-store.MaxVariants/2:]
			if n := h.remembered(t, e, last); n != len(last) {
				t.Errorf("%d of the last %d remembered", n, len(last))
			}
			weight := h.slots[uint64(last[0].ID)%headSlots].Load().weight
			if held := h.held.Load(); held < min(headBudget, headSlots*weight)*9/10 { // weights differ a little
				t.Errorf("only %d held", held)
			}
			// Nor does what is there keep others out.
			others := s.put(1<<20, store.MaxVariants, 1, 100)
			h.remembered(t, e, others)
			if n := h.remembered(t, e, others); n != len(others) {
				t.Errorf("%d of %d others remembered", n, len(others))
			}
			h.wantBudget(t)
		})
	}
	t.Run("too long", func(t *testing.T) {
		var h heads
		s, e := newShelf()
		entries := s.put(1, 1, 1, headLimit)
		h.remembered(t, e, entries)
		if n := h.remembered(t, e, entries); n != 0 || h.held.Load() != 0 {
			t.Errorf("%d remembered, %d octets held", n, h.held.Load())
		}
	})
	t.Run("another revision", func(t *testing.T) {
		var h heads
		s, e := newShelf()
		entries := s.put(1, 1, 1, 9000)
		for rev := range 3 {
			entries[0].Rev = uint32(rev)
			if n := h.remembered(t, e, entries); n != 0 {
				t.Errorf("revision %d is taken for another", rev)
			}
			h.wantBudget(t)
		}
	})
}

func TestHeadsOfManyGoroutinesStayOnTheBooks(t *testing.T) {
	var h heads
	s, e := newShelf()
	var all sync.WaitGroup
	for i := range 4 {
		// Two at a time have the same entries; all share the slots.
		entries := s.put(store.ID(1+i/2*headSlots), 600, 1, 40000+i/2)
		all.Go(func() {
			for range 2 {
				for i := range entries {
					if k, err := h.decode(t.Context(), nil, entries[i], e, &e.Config.Policy); err != nil || k == nil || k.entry.ID != entries[i].ID {
						t.Errorf("entry %d is %v, %v", entries[i].ID, k, err)
					}
				}
			}
		})
	}
	all.Wait()
	h.wantBudget(t)
}
