package memory

import (
	"math/bits"
	"unsafe"
)

// A sheet is a page of records, of 4 to 32 KiB: this head, then records one
// after the other, then room. Records move: to close the gaps in a sheet, and
// to other sheets, so that one of them becomes free. Nobody holds on to a
// record, so any of them may move at any time, under the shard's lock.
type sheet struct {
	used uint32 // octets up to the end of the last record, this head included
	gaps uint32 // of which in freed records
	live uint32 // records in use
	bin  uint32 // the list that it is in
	next uint32 // in that list: slot plus one, or 0
	prev uint32
	_    [8]byte
}

const (
	sheetHead = 32
	binCount  = 64
)

// sheets are the sheets of one shard, in lists by how much room they have.
type sheets struct {
	region *region
	size   uint32 // of a sheet, in octets
	widest int64  // longest record that goes in a sheet

	bins    [binCount]uint32 // first of each list: slot plus one, or 0
	filled  uint64           // which lists are not empty
	current uint32           // where records are added: slot plus one, or 0
	count   int64            // sheets
	room    int64            // octets free in all of them
}

func newSheets(r *region) sheets {
	s := sheets{region: r, size: uint32(r.slot), widest: r.slot - sheetHead}
	if r.slot >= 16<<10 {
		s.widest /= 2 // else most sheets would hold one and a gap
	}
	return s
}

func (s *sheets) at(slot uint32) *sheet {
	return (*sheet)(unsafe.Pointer(&s.region.bytes(slot, int64(s.size))[0]))
}

// free returns the octets that p has room for, once its gaps are closed.
func (s *sheets) free(p *sheet) uint32 { return s.size - p.used + p.gaps }

func (s *sheets) binOf(free uint32) uint32 {
	return min(free*binCount/s.size, binCount-1)
}

func (s *sheets) link(slot uint32, p *sheet) {
	p.bin = s.binOf(s.free(p))
	p.prev, p.next = 0, s.bins[p.bin]
	if p.next != 0 {
		s.at(p.next - 1).prev = slot + 1
	}
	s.bins[p.bin] = slot + 1
	s.filled |= 1 << p.bin
}

func (s *sheets) unlink(p *sheet) {
	if p.next != 0 {
		s.at(p.next - 1).prev = p.prev
	}
	if p.prev != 0 {
		s.at(p.prev - 1).next = p.next
		return
	}
	if s.bins[p.bin] = p.next; p.next == 0 {
		s.filled &^= 1 << p.bin
	}
}

// sort puts p in the list where it belongs.
func (s *sheets) sort(slot uint32, p *sheet) {
	if s.binOf(s.free(p)) != p.bin {
		s.unlink(p)
		s.link(slot, p)
	}
}

// find returns a sheet with room for n octets, of those with least.
func (s *sheets) find(n int64) (slot uint32, ok bool) {
	bin := s.binOf(uint32(n))
	const looks = 8 // in the list where some have room and some have not
	at := s.bins[bin]
	for i := 0; at != 0 && i < looks; i++ {
		p := s.at(at - 1)
		if int64(s.free(p)) >= n {
			return at - 1, true
		}
		at = p.next
	}
	above := s.filled &^ (2<<bin - 1)
	if above == 0 {
		return 0, false
	}
	return s.bins[bits.TrailingZeros64(above)] - 1, true
}

// open returns a sheet to add n octets to: the one that others were added to
// last, as long as they fit in behind those, or one with so much room that to
// close its gaps, which takes longer the more records it has, is worth it.
func (s *sheets) open(n int64) (slot uint32, ok bool) {
	if s.current != 0 && int64(s.at(s.current-1).used)+n <= int64(s.size) {
		return s.current - 1, true
	}
	if slot, ok = s.find(max(n, int64(s.size)/16)); ok {
		s.current = slot + 1
	}
	return slot, ok
}

// roomiest returns the sheet with most room, or about.
func (s *sheets) roomiest() (slot uint32, ok bool) {
	if s.filled == 0 {
		return 0, false
	}
	return s.bins[63-bits.LeadingZeros64(s.filled)] - 1, true
}

// add makes a slot, which the caller has taken, an empty sheet.
func (s *sheets) add(slot uint32) {
	p := s.at(slot)
	*p = sheet{used: sheetHead}
	s.link(slot, p)
	s.current = slot + 1
	s.count++
	s.room += int64(s.free(p))
}

// remove forgets a sheet that is not in any list, and empty.
func (s *sheets) remove(slot uint32, p *sheet) {
	if s.current == slot+1 {
		s.current = 0
	}
	s.count--
	s.room -= int64(s.free(p))
}

// append gives n octets at the end of p to entry number. There is room, and
// no gap has to be closed.
func (s *sheets) append(slot uint32, p *sheet, n int64, number uint32) (at uint32) {
	at = p.used
	p.used += uint32(n)
	p.live++
	s.room -= n
	setRecordHead(s.octets(slot, at, 4), number)
	return at
}

// erase frees the record of n octets at octet at.
func (s *sheets) erase(slot, at uint32, n int64) {
	p := s.at(slot)
	b := s.octets(slot, at, n)
	if poison {
		spoil(b)
	}
	p.live--
	s.room += n
	if at+uint32(n) == p.used {
		p.used = at
		setRecordHead(b, freed)
	} else {
		p.gaps += uint32(n)
		setRecordHead(b, freed|uint32(n))
	}
	if p.live == 0 {
		p.used, p.gaps = sheetHead, 0
	}
}

// octets returns n octets of a sheet from octet at, or nil if they are not
// within it.
func (s *sheets) octets(slot, at uint32, n int64) []byte {
	if n < 0 || int64(at)+n > int64(s.size) {
		return nil
	}
	b := s.region.bytes(slot, int64(s.size))
	if b == nil {
		return nil
	}
	return b[at : int64(at)+n]
}
