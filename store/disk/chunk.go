package disk

import (
	"time"

	"github.com/larderhq/larder/store"
)

// reserveChunk returns the place of a chunk of want octets of a body, or of less
// if less is left of the segment, and pins it. It waits for a segment for as long
// as the disk's patience lasts.
func (v *volume) reserveChunk(want int64, hasty bool) (addr, seq uint64, room int64, err error) {
	err = v.patiently(hasty, func() error {
		if left := v.room() - unit; left >= blockLen && left < want {
			want = left &^ (blockLen - 1)
		}
		off, err := v.reserve(unit+padded(want), 0)
		if err != nil {
			return err
		}
		addr, seq = uint64(off/unit), v.seqs[v.places.current].Load()
		v.places.pins[seq]++
		return nil
	})
	return addr, seq, want, full(err)
}

// write appends octets at a place that was reserved; they become the log's. It
// waits for the disk as long as its patience lasts.
func (v *volume) write(off int64, octets []byte, hasty bool) error {
	return full(v.patiently(hasty, func() error {
		if err := v.admits(int64(len(octets))); err != nil {
			return err
		}
		v.enqueue(v.segments, off, octets)
		return nil
	}))
}

// giveBack says that of a reserved run of had octets at addr only need are used.
func (v *volume) giveBack(addr uint64, had, need int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	p := &v.places
	if p.current >= 0 && v.offset(p.current)+p.end == int64(addr)*unit+had {
		p.end -= had - need
	}
}

// patiently calls try with mu held until it does not say ErrFull, or the patience
// with the disk is over; or once, if hasty.
func (v *volume) patiently(hasty bool, try func() error) error {
	var late <-chan time.Time
	for {
		v.mu.Lock()
		err := try()
		moved := v.log.moved
		v.mu.Unlock()
		if err != store.ErrFull || hasty {
			return err
		}
		if late == nil {
			stop, expired := v.expiry()
			defer stop()
			late = expired
		}
		select {
		case <-moved:
		case <-v.out:
			return errOut
		case <-late:
			return store.ErrFull
		}
	}
}
