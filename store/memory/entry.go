package memory

import (
	"encoding/binary"
	"math/bits"
	"sync/atomic"

	"github.com/larderhq/larder/store"
)

// An entry is what is known of one response: 64 octets, a cache line. Entries
// have numbers in their shard, and lie in pages of 64, which come and go.
//
// All fields are written under the shard's lock, between begin and end of the
// stripe of hash, but pins, which is atomic.
type entry struct {
	hash uint64 // of the key; zero: nobody can find this entry
	id   store.ID
	mark uint64
	when uint64 // until: 48 bits; place of the record in its page, in words: 16 bits
	span uint64 // length of the body: 40 bits; of the key: 24 bits
	head uint32 // length of the head
	page uint32 // slot of the page that the record is in
	next uint32 // the entry of this key committed before, plus one; 0: none
	rev  uint32
	run  uint32 // slot of the whole pages of the body
	pins uint32 // readers of run; see pin
}

const (
	entrySize   = 64
	perPage     = pageSize / entrySize
	wide        = 1<<16 - 1 // place of a record that has pages of its own
	maxUntil    = 1<<47 - 1
	maxSize     = 1<<40 - 1
	maxKey      = 1<<24 - 1
	dead        = 1 << 31 // in pins: forgotten, and the last reader lets go
	shown       = 1 << 30 // in pins: sockets may send the very pages of run
	recordAlign = 4

	// Bodies up to smallBody lie in anonymous memory: what fills no page goes
	// to the record. Longer ones lie in the file, in pages of their own.
	smallBody = 64 << 10
)

func (e *entry) size() int64  { return int64(e.span & maxSize) }
func (e *entry) key() int64   { return int64(e.span >> 40) }
func (e *entry) until() int64 { return int64(e.when >> 16) }
func (e *entry) place() int64 { return int64(e.when & wide) }

// tail returns how many octets of the body are in the record: its last.
func tail(size int64) int64 {
	if size > smallBody {
		return 0
	}
	return size % pageSize
}

// runPages returns how many pages of its own a body has.
func runPages(size int64) int64 {
	if size > smallBody {
		return pagesOf(size)
	}
	return size / pageSize
}

// record returns the length of e's record: its number, key, head and tail.
func (e *entry) record() int64 {
	return recordLen(e.key(), int64(e.head), e.size())
}

func recordLen(key, head, size int64) int64 {
	return (4 + key + head + tail(size) + recordAlign - 1) &^ (recordAlign - 1)
}

// weight is what the policy is told of the size of an entry whose body and
// record have these lengths: of all that leaves with it.
func weight(size, record int64) int64 { return size - tail(size) + record + overhead }

// clampUntil brings a time into 48 bits: what is before 1970 has passed as
// well, and four million years are for ever.
func clampUntil(t int64) uint64 {
	switch {
	case t == 0:
		return 0
	case t < 0:
		return 1
	}
	return uint64(min(t, maxUntil))
}

func (e *entry) expired(now int64) bool { return e.when>>16 != 0 && e.until() <= now }

// An entryBook gives out the entries of a shard, the lowest number first: the
// policy wants them dense. It is guarded by the shard's lock, but for at.
type entryBook struct {
	pages *region
	free  bitset // a page all of whose entries are free has no memory
	top   uint32 // entries below which all are that there are, in whole pages
	limit uint32
	live  uint32 // entries in use
	there uint32 // pages with memory
}

const allFree = 1<<64 - 1

func newEntryBook(limit int64) entryBook {
	pages := max((limit+perPage-1)/perPage, 1)
	return entryBook{pages: newPlain(pageSize, pages), free: newBitset(pages * perPage), limit: uint32(pages * perPage)}
}

// at returns entry n, or nil if there is none. In mapped memory there is one
// up to the limit, but it may say nothing.
func (b *entryBook) at(n uint32) *entry {
	return (*entry)(b.pages.at(n/perPage, int64(n%perPage)*entrySize))
}

// next returns the entry that take would give, and whether that needs a page
// more. It reports false if there are no more.
func (b *entryBook) next() (n uint32, page, ok bool) {
	n, ok = b.free.first()
	if !ok {
		if b.top == b.limit {
			return 0, false, false
		}
		return b.top, true, true
	}
	return n, b.free[0][n/perPage] == allFree, true
}

// take puts entry n to use, which next or gap returned.
func (b *entryBook) take(n uint32) {
	if n == b.top {
		for range perPage {
			b.free.set(b.top)
			b.top++
		}
	}
	if b.free[0][n/perPage] == allFree {
		b.pages.occupy(n/perPage, pageSize)
		b.there++
	}
	b.free.clear(n)
	b.live++
}

// give lets entry n go. It reports whether its page is free now: then the
// caller vacates it.
func (b *entryBook) give(n uint32) (empty bool) {
	b.free.set(n)
	b.live--
	if b.free[0][n/perPage] != allFree {
		return false
	}
	b.there--
	for b.top > 0 && b.free[0][b.top/perPage-1] == allFree {
		for range perPage {
			b.top--
			b.free.clear(b.top)
		}
	}
	return true
}

// sparse says whether too many pages are there for what is in them.
func (b *entryBook) sparse() bool {
	return b.there*perPage > b.live+max(b.live/4, 2*perPage)
}

// gap returns a free entry in a page below page that has others in use.
func (b *entryBook) gap(page uint32) (n uint32, ok bool) {
	for i, free := range b.free[0][:page] {
		if free != 0 && free != allFree {
			return uint32(i*perPage + bits.TrailingZeros64(free)), true
		}
	}
	return 0, false
}

// all visits the entries in use, until visit returns false.
func (b *entryBook) all(visit func(n uint32, e *entry) bool) {
	for page := range b.top / perPage {
		for used := ^b.free[0][page]; used != 0; used &= used - 1 {
			n := page*perPage + uint32(bits.TrailingZeros64(used))
			if !visit(n, b.at(n)) {
				return
			}
		}
	}
}

// pin adds a reader of e's run. It returns with the count raised whatever
// becomes of e meanwhile: the caller has to make sure that it was in use, and
// undo it otherwise.
func (e *entry) pin(n uint32) { atomic.AddUint32(&e.pins, n) }

// unpin takes one reader off. It reports whether e was forgotten and this was
// the last: then the caller lets go of it.
func (e *entry) unpin() bool { return atomic.AddUint32(&e.pins, ^uint32(0))&^shown == dead }

// show notes that somebody was told where in a file e's run is. A socket sends
// the pages themselves, and maybe long after it was told to: who has the run next
// must have others. The caller has pinned e.
func (e *entry) show() {
	if !e.shown() {
		atomic.OrUint32(&e.pins, shown)
	}
}

func (e *entry) shown() bool { return atomic.LoadUint32(&e.pins)&shown != 0 }

// hide forgets that e was shown, for the entry that comes next.
func (e *entry) hide() { atomic.AndUint32(&e.pins, ^uint32(shown)) }

// snapshot returns a copy of e but for pins, which changes at any time.
func (e *entry) snapshot() entry {
	return entry{
		hash: e.hash, id: e.id, mark: e.mark, when: e.when, span: e.span,
		head: e.head, page: e.page, next: e.next, rev: e.rev, run: e.run,
	}
}

// pinned says whether anybody reads e's run.
func (e *entry) pinned() bool { return atomic.LoadUint32(&e.pins)&^shown != 0 }

// bury says what happens to an entry that nobody can find any more: true if
// somebody reads it still, and the last one will let go of it.
func (e *entry) bury() bool {
	for {
		n := atomic.LoadUint32(&e.pins)
		if n&^shown == 0 {
			return false
		}
		if atomic.CompareAndSwapUint32(&e.pins, n, n|dead) {
			return true
		}
	}
}

// exhume undoes bury, if nobody reads e any more.
func (e *entry) exhume() bool {
	n := atomic.LoadUint32(&e.pins)
	return n&^shown == dead && atomic.CompareAndSwapUint32(&e.pins, n, n&^dead)
}

// A record begins with the number of its entry; in a free one there is its
// length instead, and a mark.
const freed = 1 << 31

func recordHead(b []byte) uint32       { return binary.NativeEndian.Uint32(b) }
func setRecordHead(b []byte, n uint32) { binary.NativeEndian.PutUint32(b, n) }
