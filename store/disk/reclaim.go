package disk

import (
	"context"
	"slices"

	"github.com/larderhq/larder/store/disk/internal/index"
)

// spare is how many segments the reclaimer keeps free of so many.
func spare(segments int) int {
	if segments < 16 {
		return 1
	}
	return 2
}

func (v *volume) wakeReclaimer() { signal(v.places.wake) }

// reclaims keeps segments free, the oldest going first.
func (v *volume) reclaims() {
	select {
	case <-v.ready:
	case <-v.stop:
		return
	case <-v.out:
		return
	}
	var last uint64 // ticket of the last retirement
	for {
		if place, seq, ok := v.oldest(); ok {
			// A segment may hold the tombstones of older ones: those must be
			// known to be gone before it is.
			if v.wait(v.life, last, true) != nil {
				return
			}
			last = v.retire(place, seq)
			continue
		}
		select {
		case <-v.places.wake:
		case <-v.stop:
			return
		case <-v.out:
			return
		}
	}
}

// oldest returns the segment to retire, if one is to be.
func (v *volume) oldest() (place int, seq uint64, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	p := &v.places
	if v.stopped || v.isOut() || len(p.live) == 0 || len(p.free) >= spare(len(v.seqs)) {
		return 0, 0, false
	}
	place = p.live[0]
	return place, v.seqs[place].Load(), true
}

// retire takes all of a segment out of the index, save what was used and is
// written again, and frees its place once nobody reads there. The ticket is that
// of the note on disk.
func (v *volume) retire(place int, seq uint64) (ticket uint64) {
	lines, _, _, err := v.linesIn(place, seq)
	if err != nil {
		lo := uint64(v.offset(place) / unit)
		v.index.DropAddrs(lo, lo+uint64(v.segment/unit))
	}
	budget := v.segment / 4
	for _, l := range lines {
		if at, ok := v.placeOf(l.addr); l.kind == kindObject && ok && at == place {
			budget -= v.relocate(l, seq, budget)
		}
	}
	v.tally.reclaimed.Add(1)

	v.mu.Lock()
	defer v.mu.Unlock()
	p := &v.places
	p.live = p.live[1:]
	v.seqs[place].Store(0)
	ticket = v.enqueue(v.table, int64(place)*unit, newSector(place, 0, v.key))
	if p.pins[seq] > 0 {
		p.waiting = append(p.waiting, leaver{place, seq})
	} else {
		p.free = append(p.free, place)
	}
	// Readers who never end may hold up half of the disk, not more.
	for len(p.waiting) > len(v.seqs)/2 {
		p.free = append(p.free, p.waiting[0].place)
		p.waiting = p.waiting[1:]
	}
	v.log.broadcast()
	return ticket
}

// relocate takes the object of l, which lies in the segment seq, out of the
// index. If it was used since it was written and has at most budget octets, it
// is written again; relocate returns how many octets that took.
func (v *volume) relocate(l line, seq uint64, budget int64) int64 {
	var room [8]index.Ref
	refs := v.index.Find(l.hash, room[:0])
	i := slices.IndexFunc(refs, func(r index.Ref) bool { return r.Addr == l.addr })
	if i < 0 {
		return 0
	}
	var d *draft
	if ref := refs[i]; ref.Hits > 0 && ref.Flags&v.lent == 0 && index.ClassSize(ref.Class) <= min(budget, v.bodyMax/4) {
		d = v.copyRecord(l.addr, seq)
	}
	defer v.lock(l.hash).Unlock()
	if d == nil {
		v.index.Remove(l.hash, l.addr)
		return 0
	}
	if !slices.ContainsFunc(v.index.Find(l.hash, room[:0]), func(r index.Ref) bool { return r.Addr == l.addr }) {
		return 0
	}
	class := index.Class(int64(len(d.octets)))
	if _, err := v.append(d, nil, class); err != nil {
		v.index.Remove(l.hash, l.addr)
		return 0
	}
	v.index.Replace(l.hash, l.addr, index.Ref{Addr: d.addr, Class: class})
	v.tally.moved.Add(1)
	return int64(len(d.octets))
}

// copyRecord returns the object at addr as a new draft, or nil if it is not
// whole or its body lies elsewhere.
func (v *volume) copyRecord(addr, seq uint64) *draft {
	h, octets := v.wholeRecord(v.life, addr, seq)
	if octets == nil || h.kind != kindObject || h.pieces > 0 {
		return nil
	}
	key, head, body := octets[headerLen:h.killsAt()], octets[h.headAt():h.bodyAt()], octets[h.bodyAt():]
	return newDraft(header{kind: kindObject, hash: h.hash, id: h.id, rev: h.rev, until: h.until, size: h.size}, key, head, nil, nil, body)
}

// wholeRecord reads a record other than a chunk and verifies every octet of it.
// It returns nil if there is none.
func (v *volume) wholeRecord(ctx context.Context, addr, seq uint64) (header, []byte) {
	start := make([]byte, unit)
	if v.readAt(ctx, start, int64(addr)*unit) != nil {
		return header{}, nil
	}
	h, ok := parseHeader(start, v.key, v.limitAt(addr))
	if !ok || h.addr != addr || h.seq != seq || h.kind == kindChunk {
		return header{}, nil
	}
	octets := make([]byte, h.octets())
	if v.readAt(ctx, octets, int64(addr)*unit) != nil || !h.verify(octets) {
		return header{}, nil
	}
	return h, octets
}

// verify says whether the octets of the record h are those that were written.
func (h *header) verify(octets []byte) bool {
	if sumOf(octets[h.killsAt():h.headAt()]) != h.tableSum || sumOf(octets[h.headAt():h.bodyAt()]) != h.headSum {
		return false
	}
	if h.kind != kindObject || h.pieces > 0 {
		return true
	}
	return verifyBlocks(octets[h.bodyAt():], parseSums(octets[h.sumsAt():h.headAt()]))
}

// verifyBlocks holds a body to the sums of its blocks.
func verifyBlocks(body []byte, sums []uint32) bool {
	for i := range sums {
		n := min(len(body), blockLen)
		if sumOf(body[:n]) != sums[i] {
			return false
		}
		body = body[n:]
	}
	return len(body) == 0
}
