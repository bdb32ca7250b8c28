package memory

import (
	"sync/atomic"
	"unsafe"
)

// The index of a shard is an open table of words, in memory of its own. A word
// is 32 bits of the key's hash and the number of the newest entry of that key:
//
//	0         free, and free ever since
//	1         freed
//	tag, n+2  entry n
//
// The tag alone says where a word belongs, so a table grows without a look at
// the entries; and words never move within a table, so a reader without a lock
// finds what was there before it came and is there still.
const (
	vacant    = 0
	tombstone = 1
	firstWord = 2

	slotSize   = 8
	slotsPage  = pageSize / slotSize
	fullness   = 0.80 // used slots, those freed included, before a table is made anew
	crowded    = 0.62 // live slots in a table made anew
	deserted   = 0.25
	maxVersion = 1<<16 - 1
)

// A table is where the index is: its version, which of two places it has, and
// its length in pages. Zero is no table.
//
//	bits 0-39 pages, bit 40 the place, bits 48-63 version
type table uint64

func makeTable(pages int64, place uint32, version uint64) table {
	return table(uint64(pages) | uint64(place)<<40 | version&maxVersion<<48)
}

func (t table) pages() int64    { return int64(t & (1<<40 - 1)) }
func (t table) place() uint32   { return uint32(t >> 40 & 1) }
func (t table) version() uint64 { return uint64(t >> 48) }
func (t table) slots() uint64   { return uint64(t.pages()) * slotsPage }

// An index finds entries by tag. It is changed under the shard's lock, and
// read with or without.
type index struct {
	places  *region // two: one for the table, one for the next
	current atomic.Uint64
	used    int64 // slots that are not vacant
	live    int64 // slots with an entry
}

func newIndex(entries int64) index {
	return index{places: newPlain(tableFor(entries)*pageSize, 2)}
}

// word returns slot i of t, or nil.
func (x *index) word(t table, i uint64) *uint64 {
	return (*uint64)(x.places.at(t.place(), int64(i)*slotSize))
}

// home returns where the search for a tag begins.
func (t table) home(tag uint32) uint64 { return uint64(tag) * t.slots() >> 32 }

// find returns the first entry with hash's tag that is, and the slot that it
// is in.
func (x *index) find(t table, hash uint64, is func(n uint32) bool) (n uint32, slot uint64, ok bool) {
	slots := t.slots()
	if slots == 0 {
		return 0, 0, false
	}
	tag := uint32(hash >> 32)
	i := t.home(tag)
	base := x.places.at(t.place(), 0)
	if base == nil {
		return 0, 0, false
	}
	for range slots {
		w := atomic.LoadUint64((*uint64)(unsafe.Add(base, i*slotSize)))
		if w == vacant {
			break
		}
		if uint32(w>>32) == tag && uint32(w) >= firstWord {
			if n := uint32(w) - firstWord; is(n) {
				return n, i, true
			}
		}
		if i++; i == slots {
			i = 0
		}
	}
	return 0, 0, false
}

// crowded says whether another entry needs a larger table, or one without the
// slots that were freed, and how many pages that has.
func (x *index) crowded() (pages int64, yes bool) {
	t := table(x.current.Load())
	if float64(x.used+1) <= fullness*float64(t.slots()) {
		return 0, false
	}
	return tableFor(x.live + 1), true
}

// deserted says whether the table is far too large, and how many pages a
// better one has.
func (x *index) deserted() (pages int64, yes bool) {
	t := table(x.current.Load())
	if t.pages() <= 1 || float64(x.live) > deserted*float64(t.slots()) {
		return 0, false
	}
	return tableFor(x.live), true
}

func tableFor(live int64) int64 { return int64(float64(live)/crowded)/slotsPage + 1 }

// remake moves all to a table of so many pages, and returns the old one, whose
// memory the caller gives back.
func (x *index) remake(pages int64) (old table) {
	old = table(x.current.Load())
	place := uint32(0)
	if old != 0 {
		place = 1 - old.place()
	}
	t := makeTable(pages, place, old.version()+1)
	x.places.occupy(place, pages*pageSize)
	for i := range old.slots() {
		if w := *x.word(old, i); uint32(w) >= firstWord {
			*x.room(t, uint32(w>>32)) = w
		}
	}
	x.used = x.live
	x.current.Store(uint64(t))
	return old
}

// room returns the first slot for a tag that is not in use.
func (x *index) room(t table, tag uint32) *uint64 {
	i := t.home(tag)
	for {
		w := x.word(t, i)
		if uint32(*w) < firstWord {
			return w
		}
		if i++; i == t.slots() {
			i = 0
		}
	}
}

// add puts entry n in. There is room: crowded said so.
func (x *index) add(hash uint64, n uint32) {
	tag := uint32(hash >> 32)
	w := x.room(table(x.current.Load()), tag)
	if *w == vacant {
		x.used++
	}
	x.live++
	atomic.StoreUint64(w, uint64(tag)<<32|uint64(n)+firstWord)
}

// set makes entry n the one in a slot.
func (x *index) set(slot uint64, n uint32) {
	w := x.word(table(x.current.Load()), slot)
	atomic.StoreUint64(w, *w>>32<<32|uint64(n)+firstWord)
}

// drop frees a slot. Where the next one is vacant nobody has to look further:
// then this one is vacant too, and those freed before it.
func (x *index) drop(slot uint64) {
	t := table(x.current.Load())
	x.live--
	next := slot + 1
	if next == t.slots() {
		next = 0
	}
	if *x.word(t, next) != vacant {
		atomic.StoreUint64(x.word(t, slot), tombstone)
		return
	}
	for {
		atomic.StoreUint64(x.word(t, slot), vacant)
		x.used--
		if slot == 0 {
			slot = t.slots()
		}
		slot--
		if *x.word(t, slot) != tombstone {
			return
		}
	}
}
