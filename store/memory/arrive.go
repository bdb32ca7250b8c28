package memory

import (
	"slices"

	"github.com/larderhq/larder/internal/evict"
	"github.com/larderhq/larder/store"
)

// recordRoom finds room for a record of n octets, for entry number. The place
// is that of entry.when.
func (sh *shard) recordRoom(c *claim, n int64, number uint32) (page uint32, place uint64, ok bool) {
	s, ss := sh.store, &sh.sheets
	if n > ss.widest {
		pages := pagesOf(n)
		r := s.wide(pages)
		if r == nil {
			return 0, 0, false
		}
		if page, ok = sh.takeRun(c, r, pages); !ok {
			return 0, 0, false
		}
		setRecordHead(r.bytes(page, 4), number)
		return page, wide, true
	}
	for {
		page, ok := ss.open(n)
		if ok {
			return page, uint64(sh.append(page, n, number) / recordAlign), true
		}
		switch {
		case c.credit >= int64(ss.size):
			c.credit -= int64(ss.size)
		case s.charge(int64(ss.size)):
		case sh.yield(c):
			continue
		default:
			if page, ok = ss.find(n); ok {
				return page, uint64(sh.append(page, n, number) / recordAlign), true
			}
			c.short = int64(ss.size)
			return 0, 0, false
		}
		page, ok = ss.region.take(int64(ss.size))
		if !ok {
			s.release(int64(ss.size))
			return 0, 0, false
		}
		ss.add(page)
	}
}

// indexRoom makes sure that another key has room in the index.
func (sh *shard) indexRoom(c *claim) bool {
	pages, crowded := sh.index.crowded()
	if !crowded {
		return true
	}
	if !sh.spend(c, pages*pageSize) {
		return false
	}
	sh.remake(pages)
	return true
}

// entryRoom takes an entry.
func (sh *shard) entryRoom(c *claim) (n uint32, ok bool) {
	for {
		n, page, ok := sh.book.next()
		switch {
		case !ok:
			if !sh.yield(c) {
				return 0, false
			}
			continue
		case page:
			if !sh.spend(c, pageSize) {
				return 0, false
			}
			if n, page, ok = sh.book.next(); !ok || !page { // somebody left for it
				c.credit += pageSize
				continue
			}
		}
		sh.book.take(n)
		return n, true
	}
}

// policyRoom makes an entry a resident. The policy takes what it needs from
// the budget: what c has of it has to be there.
func (sh *shard) policyRoom(c *claim, n uint32, hash uint64, size int64) bool {
	for !sh.policy.Insert(n, hash, size) {
		if c.credit > 0 {
			sh.store.settle(c)
			continue
		}
		if !sh.yield(c) {
			c.short = 2 * pageSize // at least, and enough for another try
			return false
		}
	}
	return true
}

// An arrival is an entry on its way in.
type arrival struct {
	claim
	key, head []byte
	id        store.ID // zero: the next
	rev       uint32
	until     int64
	mark      uint64
	replaces  []store.ID

	body []byte // whole, if it is at most smallBody
	run  uint32 // otherwise where it is, which is paid for
	n    uint32 // the entry, once it is in
}

// add makes the arrival visible. It reports false if there is no room, and has
// changed nothing but who else is there.
func (sh *shard) add(a *arrival) bool {
	s := sh.store
	size := a.size
	pages := runPages(size)
	bought := size <= smallBody && pages > 0
	if bought {
		run, ok := sh.takeRun(&a.claim, s.runs(pages), pages)
		if !ok {
			return false
		}
		a.run = run
	}
	if !sh.settleIn(a) {
		if bought {
			s.giveRun(s.runs(pages), a.run, pages)
		}
		return false
	}
	if bought {
		copy(s.runs(pages).bytes(a.run, pages*pageSize), a.body)
	}
	e := sh.book.at(a.n)
	e.run = a.run
	s.content.Add(int64(len(a.key)) + int64(len(a.head)) + size)
	sh.link(a, e)
	return true
}

// settleIn finds room for all of an arrival but its run, and fills it.
func (sh *shard) settleIn(a *arrival) bool {
	if !sh.indexRoom(&a.claim) {
		return false
	}
	n, ok := sh.entryRoom(&a.claim)
	if !ok {
		return false
	}
	length := recordLen(int64(len(a.key)), int64(len(a.head)), a.size)
	if !sh.policyRoom(&a.claim, n, a.hash, weight(a.size, length)) {
		sh.giveEntry(n)
		return false
	}
	page, place, ok := sh.recordRoom(&a.claim, length, n)
	if !ok {
		sh.policy.Remove(n, a.hash)
		sh.giveEntry(n)
		return false
	}
	e := sh.book.at(n)
	e.mark = a.mark
	e.when = clampUntil(a.until)<<16 | place
	e.span = uint64(len(a.key))<<40 | uint64(a.size)
	e.head = uint32(len(a.head))
	e.page = page
	e.rev = a.rev
	b := sh.record(e)[4:]
	b = b[copy(b, a.key):]
	b = b[copy(b, a.head):]
	if t := tail(a.size); t > 0 {
		copy(b, a.body[a.size-t:])
	}
	a.n = n
	return true
}

// link puts an entry that is complete in its place among those of its key, in
// one step with what it replaces.
func (sh *shard) link(a *arrival, e *entry) {
	var room [store.MaxVariants + 1]uint32
	entries := room[:0]
	head, slot, found := sh.find(a.hash, a.key)
	if found {
		entries = sh.chain(head, entries)
	}
	if e.id = a.id; e.id == 0 {
		e.id = sh.store.ids()
	}
	a.id = e.id
	var gone [store.MaxVariants + 1]uint32
	leaving := gone[:0]
	entries = slices.DeleteFunc(entries, func(n uint32) bool {
		id := sh.book.at(n).id
		if id != e.id && !slices.Contains(a.replaces, id) {
			return false
		}
		leaving = append(leaving, n)
		return true
	})
	if len(entries) > 0 {
		sh.policy.Unrank(a.n) // what was asked for so far may have been the others
	}
	if len(entries) == store.MaxVariants {
		i, v := sh.superfluous(entries)
		sh.policy.Evict(v, a.hash)
		leaving = append(leaving, entries[i])
		entries = slices.Delete(entries, i, i+1)
		sh.evictions++
	}
	at := 0
	for at < len(entries) && sh.book.at(entries[at]).id > e.id {
		at++
	}
	entries = slices.Insert(entries, at, a.n)

	sh.begin(a.hash)
	for i, n := range entries {
		next := uint32(0)
		if i+1 < len(entries) {
			next = entries[i+1] + 1
		}
		if m := sh.book.at(n); m.next != next {
			m.next = next
		}
	}
	for _, n := range leaving {
		sh.book.at(n).hash = 0
	}
	e.hash = a.hash
	if found {
		sh.index.set(slot, entries[0])
	} else {
		sh.index.add(a.hash, entries[0])
		sh.keys++
	}
	sh.end(a.hash)

	sh.objects += 1 - len(leaving)
	for _, n := range leaving {
		sh.policy.Remove(n, a.hash)
		sh.lose(n, sh.book.at(n))
	}
}

// superfluous chooses the variant that leaves for another: one that expired,
// or the one that is worth least.
func (sh *shard) superfluous(entries []uint32) (int, evict.Victim) {
	if sh.store.now != nil {
		now := sh.store.now()
		for i, n := range entries {
			if sh.book.at(n).expired(now) {
				return i, evict.Victim{Slot: n, Expired: true}
			}
		}
	}
	return sh.policy.Weakest(entries)
}

// amend gives the entry id another head. It reports false if there is no room.
func (sh *shard) amend(c *claim, key []byte, id store.ID, h store.Head) (ok bool, err error) {
	if sh.closed {
		return true, store.ErrClosed
	}
	n, e := sh.of(c.hash, key, id)
	if e == nil {
		return true, store.ErrGone
	}
	size := e.size()
	length := recordLen(e.key(), int64(len(h.Octets)), size)
	page, place := e.page, e.when&wide
	moves := length != e.record() || len(h.Octets) != int(e.head)
	if moves {
		e.pin(1) // making room must not let this very entry go
		page, place, ok = sh.recordRoom(c, length, n)
		e.pin(^uint32(0))
		if !ok {
			return false, nil
		}
	}
	was := e.snapshot()
	now := was
	now.page, now.when = page, clampUntil(h.Until)<<16|place
	now.head, now.mark = uint32(len(h.Octets)), 0
	now.rev++
	from := sh.record(&was)
	to := sh.record(&now)
	sh.begin(c.hash)
	if moves {
		copy(to[4:], from[4:4+was.key()])
		rest := 4 + was.key()
		copy(to[rest+int64(now.head):], from[rest+int64(was.head):rest+int64(was.head)+tail(size)])
	}
	copy(to[4+was.key():], h.Octets)
	e.page, e.when, e.head, e.mark, e.rev = now.page, now.when, now.head, now.mark, now.rev
	sh.end(c.hash)
	sh.store.content.Add(int64(now.head))
	if moves {
		sh.eraseRecord(&was)
	} else {
		sh.store.content.Add(-int64(was.head))
	}
	sh.policy.Resize(n, weight(size, length))
	return true, nil
}
