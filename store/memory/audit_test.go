package memory

import (
	"math/bits"
	"sync/atomic"
	"testing"

	"github.com/larderhq/larder/store"
)

// A tally is what an audit finds.
type tally struct {
	t       *testing.T
	s       *Store
	used    int64
	content int64
	slots   map[*region]map[uint32]bool
}

func (a *tally) slot(r *region, slot uint32, what string) {
	if a.slots[r] == nil {
		a.slots[r] = map[uint32]bool{}
	}
	if a.slots[r][slot] {
		a.t.Errorf("a slot of %d octets has two owners, one of them %s", r.slot, what)
	}
	a.slots[r][slot] = true
}

// audit walks through everything and compares it with what the store believes.
// Nobody else may use s meanwhile.
func audit(t *testing.T, s *Store) {
	t.Helper()
	a := &tally{t: t, s: s, used: min(s.fixed, s.budget), slots: map[*region]map[uint32]bool{}}
	for i := range s.shards {
		a.shard(&s.shards[i])
	}
	for _, regions := range [][]*region{s.small, s.large} {
		for _, r := range regions {
			for _, w := range r.warm {
				a.slot(r, w.slot, "a warm run")
				a.used += s.cost(int64(w.pages))
			}
		}
	}
	for _, regions := range [][]*region{s.small, s.large, {s.sheets}} {
		for _, r := range regions {
			free := 0
			for _, w := range r.free[0] {
				free += bits.OnesCount64(w)
			}
			if got, want := int(r.top)-free, len(a.slots[r]); got != want {
				t.Errorf("%d slots of %d octets are taken, and %d in use", got, r.slot, want)
			}
		}
	}
	if got := s.used.Load(); got != a.used || got > s.budget {
		t.Errorf("the store is charged %d octets of %d and holds %d", got, s.budget, a.used)
	}
	if got := s.content.Load(); got != a.content {
		t.Errorf("the store believes in %d octets of content and holds %d", got, a.content)
	}
}

func (a *tally) shard(sh *shard) {
	t, s := a.t, a.s
	a.used += sh.bookkeeping()
	objects, keys := 0, 0
	records := map[uint32]int64{} // octets, by sheet
	for n := range sh.book.top {
		if sh.book.free[0][n/64] == allFree {
			continue // there is no such page, and to look would make one
		}
		e := sh.book.at(n)
		if sh.book.free[0][n/64]>>(n%64)&1 != 0 {
			if e.hash != 0 || e.pins != 0 {
				t.Errorf("entry %d is free and has hash %#x, pins %#x", n, e.hash, e.pins)
			}
			continue
		}
		if pages := runPages(e.size()); pages > 0 {
			a.slot(s.runs(pages), e.run, "an entry")
			a.used += s.cost(pages)
			a.content += e.size() - tail(e.size())
		}
		if e.hash == 0 {
			if atomic.LoadUint32(&e.pins)&dead == 0 {
				t.Errorf("entry %d is in use, and neither visible nor read", n)
			}
			continue
		}
		objects++
		a.content += e.key() + int64(e.head) + tail(e.size())
		record := sh.record(e)
		if recordHead(record) != n {
			t.Errorf("entry %d has the record of %d", n, recordHead(record))
		}
		if e.place() == wide {
			pages := pagesOf(e.record())
			a.slot(s.wide(pages), e.page, "a wide record")
			a.used += s.cost(pages)
		} else {
			records[e.page] += e.record()
		}
		if m, _ := sh.of(e.hash, record[4:4+e.key()], e.id); m != n {
			t.Errorf("entry %d is not found by its key", n)
		}
		if m, _, _ := sh.find(e.hash, record[4:4+e.key()]); m == n {
			keys++
			last := store.ID(1<<64 - 1)
			for _, v := range sh.chain(m, nil) {
				if id := sh.book.at(v).id; id >= last {
					t.Errorf("the entries of a key are not in the order of their commits")
				} else {
					last = id
				}
			}
		}
	}
	if objects != sh.objects || objects != sh.policy.Len() || keys != sh.keys || int64(keys) != sh.index.live {
		t.Errorf("%d entries of %d keys; the shard counts %d of %d, the policy %d, the index %d",
			objects, keys, sh.objects, sh.keys, sh.policy.Len(), sh.index.live)
	}
	used, live := int64(0), int64(0)
	table := table(sh.index.current.Load())
	for i := range table.slots() {
		if w := *sh.index.word(table, i); w != vacant {
			used++
			if uint32(w) >= firstWord {
				live++
			}
		}
	}
	if used != sh.index.used || live != sh.index.live {
		t.Errorf("%d slots of the index are used, %d of them live; it counts %d and %d", used, live, sh.index.used, sh.index.live)
	}
	a.sheets(sh, records)
	for w := range sh.writers {
		a.used += w.own
		a.content += w.size
		for _, p := range append(w.outgrown[:len(w.outgrown):len(w.outgrown)], w.run) {
			if p.region != nil {
				a.slot(p.region, p.slot, "a writer")
				a.used += s.cost(p.have)
			}
		}
	}
}

func (a *tally) sheets(sh *shard, records map[uint32]int64) {
	ss := &sh.sheets
	count, room := int64(0), int64(0)
	for bin, first := range ss.bins {
		if (first != 0) != (ss.filled>>bin&1 != 0) {
			a.t.Errorf("list %d of sheets is marked wrongly", bin)
		}
		for at := first; at != 0; at = ss.at(at - 1).next {
			p := ss.at(at - 1)
			a.slot(ss.region, at-1, "a sheet")
			a.used += int64(ss.size)
			count++
			room += int64(ss.free(p))
			if ss.binOf(ss.free(p)) != uint32(bin) {
				a.t.Errorf("a sheet with room for %d octets is in list %d", ss.free(p), bin)
			}
			if got := int64(p.used-p.gaps) - sheetHead; got != records[at-1] {
				a.t.Errorf("a sheet counts %d octets of records and has %d", got, records[at-1])
			}
		}
	}
	if count != ss.count || room != ss.room {
		a.t.Errorf("%d sheets with room for %d octets; the shard counts %d with %d", count, room, ss.count, ss.room)
	}
}

// wantEmpty closes s and holds it to having given everything back.
func wantEmpty(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.Bytes != 0 || st.Used != 0 || st.Objects != 0 || st.Keys != 0 || st.Bookkeeping != 0 || s.held.Load() != 0 {
		t.Errorf("after Close and the last reader: %+v, %d held", st, s.held.Load())
	}
}
