package memory

import (
	"math/bits"
	"os"
	"sync"
	"unsafe"
)

// pageSize is the unit in which memory is taken and given back, in octets.
const pageSize = 4 << 10

// pagesOf returns how many pages n octets need.
func pagesOf(n int64) int64 { return (n + pageSize - 1) / pageSize }

// A region is a range of slots of one size. Only what is written in a slot
// takes memory: a region is as large as it could ever need to be, and costs
// nothing where it is empty. A slot given back costs nothing either, so no
// memory stays with one size of object when another comes up.
//
// Which octets of which slot are in use is the affair of the caller, and so is
// the budget.
type region struct {
	mem   []byte   // all slots, one after the other; nil on the Go heap
	file  *os.File // what mem is a mapping of; nil if it is anonymous
	slot  int64    // octets from one slot to the next
	base  int64    // where mem begins in file
	limit uint32   // slots

	mu   sync.Mutex
	heap [][]byte // the slots in use, without mem
	free bitset
	top  uint32 // slots that were ever taken
	warm []warmSlot
}

// A warmSlot is free, and has memory still: to take that from the kernel again
// costs more than all else about a small body.
type warmSlot struct{ slot, pages uint32 }

// rest makes a slot warm whose first pages have memory.
func (r *region) rest(slot uint32, pages int64) {
	if poison {
		spoil(r.bytes(slot, pages*pageSize))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.warm = append(r.warm, warmSlot{slot, uint32(pages)})
}

// wake takes the slot that became warm last. It is in use then.
func (r *region) wake() (slot uint32, pages int64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.warm) == 0 {
		return 0, 0, false
	}
	last := r.warm[len(r.warm)-1]
	r.warm = r.warm[:len(r.warm)-1]
	return last.slot, int64(last.pages), true
}

func newRegion(slot, limit int64) *region {
	limit = max(min(limit, 1<<32-1), 1)
	return &region{slot: slot, limit: uint32(limit), free: newBitset(limit)}
}

// newPlain returns a region whose owner chooses the slots, under a lock of its
// own, with occupy and vacate.
func newPlain(slot, limit int64) *region {
	return &region{slot: slot, limit: uint32(min(limit, 1<<32-1))}
}

// occupy makes the first n octets of a slot usable. They are zero.
func (r *region) occupy(slot uint32, n int64) {
	if r.mem != nil {
		return
	}
	for int(slot) >= len(r.heap) {
		r.heap = append(r.heap, nil)
	}
	// Words make sure that what is read as words can be.
	words := make([]uint64, n/8)
	r.heap[slot] = unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), n)
}

// vacate gives the first n octets of a slot back.
func (r *region) vacate(slot uint32, n int64) {
	if r.mem != nil {
		discard(r.bytes(slot, n), false)
		return
	}
	r.heap[slot] = nil
}

// at returns the octet at n of a slot of a plain region, or nil if it has none.
func (r *region) at(slot uint32, n int64) unsafe.Pointer {
	if r.mem != nil {
		if slot >= r.limit || n >= r.slot {
			return nil
		}
		return unsafe.Pointer(&r.mem[int64(slot)*r.slot+n])
	}
	if int(slot) >= len(r.heap) || n >= int64(len(r.heap[slot])) {
		return nil
	}
	return unsafe.Pointer(&r.heap[slot][n])
}

// span returns how long the region is, in octets.
func (r *region) span() int64 { return r.slot * int64(r.limit) }

// take returns a free slot, of which the first n octets will be used: the
// lowest, so that what is in use stays close together. Here and below n is a
// number of whole pages.
func (r *region) take(n int64) (slot uint32, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	slot, ok = r.free.first()
	switch {
	case ok:
		r.free.clear(slot)
	case r.top == r.limit:
		return 0, false
	default:
		slot = r.top
		r.top++
	}
	if r.mem == nil {
		for int(slot) >= len(r.heap) {
			r.heap = append(r.heap, nil)
		}
		r.heap[slot] = make([]byte, n)
	}
	return slot, true
}

// give lets a slot go whose first n octets were used.
func (r *region) give(slot uint32, n int64) {
	if poison {
		spoil(r.bytes(slot, n))
	}
	if r.mem != nil {
		discard(r.bytes(slot, n), r.file != nil)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mem == nil {
		r.heap[slot] = nil
	}
	r.free.set(slot)
}

// trim makes a slot of which old octets were used one of n octets. Whoever
// reads the first n meanwhile is not disturbed.
func (r *region) trim(slot uint32, n, old int64) {
	if n == old {
		return
	}
	if r.mem != nil {
		discard(r.bytes(slot, old)[n:], r.file != nil)
		return
	}
	exact := append(make([]byte, 0, n), r.bytes(slot, n)...)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heap[slot] = exact
}

// bytes returns the first n octets of a slot, or nil if they are not all
// within the region.
func (r *region) bytes(slot uint32, n int64) []byte {
	if slot >= r.limit || n < 0 || n > r.slot {
		return nil
	}
	if r.mem != nil {
		at := int64(slot) * r.slot
		return r.mem[at : at+n : at+n]
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if int(slot) >= len(r.heap) || int64(len(r.heap[slot])) < n {
		return nil
	}
	return r.heap[slot][:n:n]
}

// write puts p into a slot at octet off. A mapped file is written as a file:
// where memory is short, that is an error and not a signal.
func (r *region) write(slot uint32, off int64, p []byte) error {
	if r.file != nil {
		_, err := r.file.WriteAt(p, r.base+int64(slot)*r.slot+off)
		return err
	}
	copy(r.bytes(slot, off+int64(len(p)))[off:], p)
	return nil
}

// A bitset is a set of numbers below a limit, that finds its least member at
// once. Each bit of a level tells whether a word of the level below has any.
type bitset [][]uint64

func newBitset(limit int64) bitset {
	var b bitset
	for {
		limit = (limit + 63) / 64
		b = append(b, make([]uint64, limit))
		if limit == 1 {
			return b
		}
	}
}

// octets returns what b takes.
func (b bitset) octets() (n int64) {
	for _, level := range b {
		n += int64(len(level)) * 8
	}
	return n
}

func (b bitset) set(n uint32) {
	for _, level := range b {
		w := &level[n/64]
		before := *w
		*w |= 1 << (n % 64)
		if before != 0 {
			return
		}
		n /= 64
	}
}

func (b bitset) clear(n uint32) {
	for _, level := range b {
		w := &level[n/64]
		if *w &^= 1 << (n % 64); *w != 0 {
			return
		}
		n /= 64
	}
}

// first returns the least member.
func (b bitset) first() (n uint32, ok bool) {
	for i := len(b) - 1; i >= 0; i-- {
		w := b[i][n]
		if w == 0 {
			return 0, false
		}
		n = n*64 + uint32(bits.TrailingZeros64(w))
	}
	return n, true
}
