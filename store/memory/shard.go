package memory

import (
	"bytes"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/larderhq/larder/internal/evict"
	"github.com/larderhq/larder/store"
)

const (
	// stripeCount is how many sequences a shard has. Each counts the changes
	// to the keys of some hashes.
	stripeCount = 256

	// doorCount is how many counters of readers about to pin a shard has. Each
	// has a cache line, so that readers seldom meet there.
	doorCount = 8
)

// A shard is a part of the store, by hash of the key, that one lock guards.
//
// Readers take no lock. They note the stripe of their key, read what they
// need, and note the stripe again: if it is the same, and even, nothing that
// belongs to the keys of that stripe has changed meanwhile. Whatever they read
// before they know may be torn, stale or of somebody else, and is looked at
// with care: numbers are checked against the bounds of the memory they lead
// to, which stays mapped, and loops end.
type shard struct {
	seq   [stripeCount]atomic.Uint32 // odd while keys of that stripe change
	index index
	book  entryBook

	store  *Store
	number int
	policy *evict.SHD
	words  words

	mu        sync.Mutex
	closed    bool
	sheets    sheets
	writers   map[*writer]struct{} // begun and not yet ended by their owners
	keys      int
	objects   int
	evictions uint64
	refusals  uint64
	now       int64 // at the last choice of a victim

	doors [doorCount]door
}

// A door counts readers that are about to pin an entry and do not know yet
// whether it is still the one they found.
type door struct {
	inside atomic.Int32
	_      [60]byte
}

// words is the memory of the policy.
type words struct {
	region *region
	used   int64
	count  uint32
}

// give returns n words for the policy, or nil if there is no room.
func (sh *shard) give(n int) []uint64 {
	w := &sh.words
	octets := pagesOf(int64(n)*8) * pageSize
	if w.region.mem == nil { // each its own slot
		if !sh.store.charge(octets) {
			return nil
		}
		w.region.occupy(w.count, octets)
		w.count++
		w.used += octets
		return unsafe.Slice((*uint64)(w.region.at(w.count-1, 0)), n)
	}
	if w.used+octets > w.region.slot || !sh.store.charge(octets) {
		return nil
	}
	b := w.region.at(0, w.used)
	w.used += octets
	return unsafe.Slice((*uint64)(b), n)
}

// vacate gives the memory back. The policy sees that nobody is resident.
func (w *words) vacate() {
	if w.region.mem != nil {
		w.region.vacate(0, w.used)
	}
}

func (sh *shard) stripe(hash uint64) *atomic.Uint32 { return &sh.seq[hash>>8%stripeCount] }

// begin makes readers of hash wait, or try again, until end.
func (sh *shard) begin(hash uint64) {
	sh.stripe(hash).Add(1)
	fence()
}

func (sh *shard) end(hash uint64) { sh.stripe(hash).Add(1) }

// attempt runs read without the lock, and reports whether what it read is what
// there was at one moment. It is only for hash's own keys.
func (sh *shard) attempt(hash uint64, read func()) bool {
	stripe := sh.stripe(hash)
	before := stripe.Load()
	if before%2 != 0 {
		return false
	}
	t := sh.index.current.Load()
	read()
	fence()
	return stripe.Load() == before && sh.index.current.Load() == t
}

// fence keeps what is read and written before it apart from what is read and
// written behind it: a reader must not look at the stripe before it has read
// what that vouches for, nor a writer change that before readers see the
// stripe. On x86 neither happens to loads, nor to stores behind an addition to
// the stripe, and the compiler does not move either across atomic operations.
// Elsewhere another one does it, on a word that nobody else sees.
func fence() {
	if runtime.GOARCH != "amd64" {
		var w atomic.Uint32
		w.Add(1)
	}
}

// attempts is how often a reader tries without the lock.
const attempts = 16

// view runs read so that what it read is of one moment. It may run many times:
// what counts is the last one. The lock is not held.
func (sh *shard) view(hash uint64, read func()) {
	if !sh.store.heap {
		for range attempts {
			if sh.attempt(hash, read) {
				return
			}
		}
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	read()
}

// find returns the newest entry of key, and its slot in the index.
func (sh *shard) find(hash uint64, key []byte) (n uint32, slot uint64, ok bool) {
	return sh.index.find(table(sh.index.current.Load()), hash, func(n uint32) bool {
		e := sh.book.at(n)
		if e == nil || e.hash != hash || e.key() != int64(len(key)) {
			return false
		}
		b := sh.record(e)
		// It may be another entry's by now, with a shorter record.
		return len(b) >= 4+len(key) && bytes.Equal(b[4:4+len(key)], key)
	})
}

// record returns the octets of e's record, or nil if e makes no sense.
func (sh *shard) record(e *entry) []byte {
	n := e.record()
	if place := e.place(); place != wide {
		return sh.sheets.octets(e.page, uint32(place)*recordAlign, n)
	}
	r := sh.store.wide(pagesOf(n))
	if r == nil {
		return nil
	}
	return r.bytes(e.page, n)
}

// of finds the entry id of key. Chains that do not end are torn.
func (sh *shard) of(hash uint64, key []byte, id store.ID) (n uint32, e *entry) {
	n, _, ok := sh.find(hash, key)
	for i := 0; ok && i < store.MaxVariants; i++ {
		e := sh.book.at(n)
		if e == nil {
			break
		}
		if e.id == id {
			return n, e
		}
		ok = e.next != 0
		n = e.next - 1
	}
	return 0, nil
}

// chain appends the entries of a key, the newest of which is n.
func (sh *shard) chain(n uint32, to []uint32) []uint32 {
	for i := 0; i < store.MaxVariants; i++ {
		to = append(to, n)
		e := sh.book.at(n)
		if e == nil || e.next == 0 {
			break
		}
		n = e.next - 1
	}
	return to
}

// victim chooses who should leave. After close there is nobody.
func (sh *shard) victim() (evict.Victim, bool) {
	if sh.closed {
		return evict.Victim{}, false
	}
	if sh.store.now != nil {
		sh.now = sh.store.now()
	}
	return sh.policy.Victim(sh.ask)
}

// ask tells the policy about a resident.
func (sh *shard) ask(n uint32) evict.State {
	e := sh.book.at(n)
	switch {
	case e.hash == 0 || e.pinned():
		return evict.Pinned
	case sh.store.now != nil && e.expired(sh.now):
		return evict.Expired
	}
	return evict.Idle
}

// bookkeeping returns the octets charged for entries, index and policy.
func (sh *shard) bookkeeping() int64 {
	pages := table(sh.index.current.Load()).pages() + int64(sh.book.there)
	return pages*pageSize + sh.words.used
}
