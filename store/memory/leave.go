package memory

import (
	"runtime"

	"github.com/larderhq/larder/internal/evict"
	"github.com/larderhq/larder/store"
)

// evict lets the victim go.
func (sh *shard) evict(v evict.Victim) {
	e := sh.book.at(v.Slot)
	if leaving := sh.store.leaving; leaving != nil && !v.Expired {
		o := sh.object(e)
		leaving(&o)
	}
	sh.evictions++
	sh.policy.Evict(v, e.hash)
	sh.cut(v.Slot, e)
	sh.lose(v.Slot, e)
	sh.shrink()
}

// drop lets an entry go that nobody wants any more.
func (sh *shard) drop(n uint32) {
	e := sh.book.at(n)
	sh.policy.Remove(n, e.hash)
	sh.cut(n, e)
	sh.lose(n, e)
	sh.shrink()
}

// before returns the entry that leads to entry n, or nil and the slot of the
// index that does.
func (sh *shard) before(n uint32, e *entry) (last *entry, slot uint64) {
	_, slot, _ = sh.index.find(table(sh.index.current.Load()), e.hash, func(m uint32) bool {
		last = nil
		for i := 0; i < store.MaxVariants; i++ {
			if m == n {
				return true
			}
			last = sh.book.at(m)
			if last.next == 0 {
				break
			}
			m = last.next - 1
		}
		return false
	})
	return last, slot
}

// cut makes an entry invisible.
func (sh *shard) cut(n uint32, e *entry) {
	hash := e.hash
	last, slot := sh.before(n, e)
	sh.begin(hash)
	defer sh.end(hash)
	switch {
	case last != nil:
		last.next = e.next
	case e.next != 0:
		sh.index.set(slot, e.next-1)
	default:
		sh.index.drop(slot)
		sh.keys--
	}
	e.hash = 0
	sh.objects--
}

// lose gives back what an invisible entry takes, save its run while somebody
// reads that.
func (sh *shard) lose(n uint32, e *entry) {
	s := sh.store
	sh.eraseRecord(e)
	e.head, e.next = 0, 0
	pages := runPages(e.size())
	s.content.Add(-(e.key() + tail(e.size())))
	if pages > 0 && e.bury() {
		s.held.Add(s.cost(pages))
		return
	}
	sh.free(n, e)
}

// eraseRecord gives the record of e back.
func (sh *shard) eraseRecord(e *entry) {
	s := sh.store
	n := e.record()
	s.content.Add(-int64(e.head))
	place := e.place()
	if place == wide {
		pages := pagesOf(n)
		s.giveRun(s.wide(pages), e.page, pages)
		return
	}
	sh.sheets.erase(e.page, uint32(place)*recordAlign, n)
	sh.sheets.sort(e.page, sh.sheets.at(e.page))
}

// free gives the run and the entry itself back.
func (sh *shard) free(n uint32, e *entry) {
	s := sh.store
	size := e.size()
	if pages := runPages(size); pages > 0 {
		if e.shown() {
			s.giveCold(s.runs(pages), e.run, pages)
		} else {
			s.giveRun(s.runs(pages), e.run, pages)
		}
		s.content.Add(-(size - tail(size)))
	}
	sh.giveEntry(n)
}

// giveEntry lets an entry go that leads to nothing any more.
func (sh *shard) giveEntry(n uint32) {
	e := sh.book.at(n)
	e.id, e.mark, e.when, e.span, e.head, e.page, e.next, e.rev, e.run = 0, 0, 0, 0, 0, 0, 0, 0, 0
	e.hide()
	if !sh.book.give(n) {
		return
	}
	// A reader inside a door may be about to add a pin in this page and to take
	// it back. Any that comes after finds nothing here.
	for i := range sh.doors {
		for sh.doors[i].inside.Load() != 0 {
			runtime.Gosched()
		}
	}
	sh.book.pages.vacate(n/perPage, pageSize)
	sh.store.release(pageSize)
}

// unpin ends a reader of e, which is entry n and stays that until then. The lock
// is not held.
func (sh *shard) unpin(n uint32, e *entry) {
	if e.unpin() {
		sh.exhume(n)
	}
}

// exhume gives back what the last reader of entry n left. The lock is not
// held: another may have come and gone, and have done the same.
func (sh *shard) exhume(n uint32) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e := sh.book.at(n)
	if e != nil && e.exhume() {
		sh.store.held.Add(-sh.store.cost(runPages(e.size())))
		sh.free(n, e)
	}
}

// close forgets everything and ends the waiting of all followers.
func (sh *shard) close() {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.closed = true
	sh.book.all(func(n uint32, e *entry) bool {
		if e.hash != 0 {
			sh.cut(n, e)
			sh.lose(n, e)
		}
		return true
	})
	for sh.compact() {
	}
	t := table(sh.index.current.Swap(0))
	if t != 0 {
		sh.index.places.vacate(t.place(), t.pages()*pageSize)
	}
	sh.store.release(t.pages()*pageSize + sh.words.used)
	sh.words.vacate()
	for w := range sh.writers {
		w.end(store.ErrClosed)
	}
}
