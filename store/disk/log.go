package disk

import (
	"context"
	"fmt"
	"time"

	"github.com/larderhq/larder/internal/vfs"
	"github.com/larderhq/larder/store"
)

// Lengths in octets.
const (
	smallRecord = 32 << 10  // up to here records share an extent
	extentRoom  = 128 << 10 // of a shared extent
)

// A log is what was appended and not written yet. The volume's mu guards it.
type log struct {
	pending []*extent // in the order of appending
	octets  int64     // of all these
	tail    *extent   // the last one, if more may be added to it
	room    int64     // the most that octets may be

	// Tickets count what was appended; extents are written in their order, so
	// one number says how far that has come, and one how far syncing has.
	given, written, synced uint64
	killed                 [stripes]uint64 // ticket of the last to kill something there

	moved chan struct{} // closed when written or synced rise
	wake  chan struct{} // tells the flusher that there is something
	sync  chan struct{} // tells the syncer that somebody waits
}

// An extent is a run of octets on its way to a file.
type extent struct {
	file   vfs.File
	off    int64
	octets []byte
	ticket uint64
}

// append gives the record d its place and takes it over. It is readable at once,
// and written behind. ErrFull: the disk does not keep up, or has no segment free.
// The ticket is for wait.
func (v *volume) append(d *draft, kills []kill, class uint8) (ticket uint64, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.admits(int64(len(d.octets))); err != nil {
		return 0, err
	}
	off, err := v.reserve(int64(len(d.octets)), len(kills)+1)
	if err != nil {
		return 0, err
	}
	d.settle(uint64(off/unit), v.seqs[v.places.current].Load(), v.key)
	v.places.lines = append(v.places.lines, linesOf(&d.header, kills, class)...)
	ticket = v.enqueue(v.segments, off, d.octets)
	for _, k := range kills {
		v.log.killed[k.hash%stripes] = ticket
	}
	return ticket, nil
}

// admits says whether n octets more may wait to be written. The caller holds mu.
func (v *volume) admits(n int64) error {
	switch {
	case v.stopped:
		return store.ErrClosed
	case v.isOut():
		return errOut
	case v.log.octets+n > v.log.room:
		v.tally.refused.Add(1)
		return store.ErrFull
	}
	return nil
}

// reserve returns the offset in the file of n octets that are the caller's, with
// room for so many lines in the footer. The caller holds mu.
func (v *volume) reserve(n int64, lines int) (int64, error) {
	p := &v.places
	if unit+n+footerLen(lines) > v.segment {
		return 0, store.ErrFull
	}
	if p.current < 0 || p.end+n+footerLen(len(p.lines)+lines) > v.segment {
		if err := v.turn(); err != nil {
			return 0, err
		}
	}
	off := v.offset(p.current) + p.end
	p.end += n
	return off, nil
}

// room is how many octets the current segment has left. The caller holds mu.
func (v *volume) room() int64 {
	if v.places.current < 0 {
		return 0
	}
	return v.segment - v.places.end - footerLen(len(v.places.lines))
}

// turn seals the current segment and begins another one. The caller holds mu.
func (v *volume) turn() error {
	p := &v.places
	v.wakeReclaimer()
	if len(p.free) == 0 {
		v.tally.refused.Add(1)
		return store.ErrFull
	}
	v.seal()
	p.current = p.free[0]
	p.free = p.free[1:]
	p.end = unit
	v.seqs[p.current].Store(p.next)
	v.enqueue(v.table, int64(p.current)*unit, newSector(p.current, p.next, v.key))
	p.next++
	return nil
}

// seal ends the current segment with its footer. The caller holds mu.
func (v *volume) seal() {
	p := &v.places
	if p.current < 0 {
		return
	}
	footer := newFooter(p.lines, v.seqs[p.current].Load(), p.end, v.key)
	v.enqueue(v.segments, v.offset(p.current)+v.segment-int64(len(footer)), footer)
	p.live = append(p.live, p.current)
	p.current, p.lines = -1, nil
}

// enqueue adds octets to what is to be written; large ones become the log's. The
// caller holds mu.
func (v *volume) enqueue(file vfs.File, off int64, octets []byte) uint64 {
	l := &v.log
	l.given++
	l.octets += int64(len(octets))
	v.tally.written.Add(int64(len(octets)))
	if t := l.tail; t != nil && t.file == file && t.off+int64(len(t.octets)) == off && len(t.octets)+len(octets) <= extentRoom {
		t.octets = append(t.octets, octets...)
		t.ticket = l.given
		return l.given
	}
	e := &extent{file: file, off: off, octets: octets, ticket: l.given}
	l.tail = nil
	if len(octets) <= smallRecord {
		l.tail = e
	}
	l.pending = append(l.pending, e)
	signal(l.wake)
	return l.given
}

// signal leaves a word in a channel of one, if there is none.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// flush writes what is pending, until the volume ends and nothing is left.
func (v *volume) flush() {
	for {
		e := v.nextExtent()
		if e == nil {
			return
		}
		v.watch.mark(slotWrite)
		_, err := e.file.WriteAt(e.octets, e.off)
		v.watch.clear(slotWrite)
		if err != nil {
			v.fail(fmt.Errorf("writing: %w", err))
			return
		}
		v.mu.Lock()
		v.log.pending[0] = nil
		v.log.pending = v.log.pending[1:]
		v.log.octets -= int64(len(e.octets))
		v.log.written = e.ticket
		v.log.broadcast()
		v.mu.Unlock()
	}
}

// nextExtent waits for something to write, and returns nil at the end.
func (v *volume) nextExtent() *extent {
	for {
		v.mu.Lock()
		if v.isOut() {
			v.mu.Unlock()
			return nil
		}
		if len(v.log.pending) > 0 {
			e := v.log.pending[0]
			if v.log.tail == e {
				v.log.tail = nil
			}
			v.mu.Unlock()
			return e
		}
		stopped := v.stopped
		v.mu.Unlock()
		if stopped {
			return nil
		}
		select {
		case <-v.log.wake:
		case <-v.out:
		}
	}
}

// broadcast wakes those in wait. The caller holds mu.
func (l *log) broadcast() {
	close(l.moved)
	l.moved = make(chan struct{})
}

// wait returns when the append of ticket was handed to the operating system and,
// if durable, has reached the disk.
func (v *volume) wait(ctx context.Context, ticket uint64, durable bool) error {
	for {
		v.mu.Lock()
		reached := v.log.written
		if durable {
			reached = v.log.synced
		}
		moved := v.log.moved
		v.mu.Unlock()
		if reached >= ticket {
			return nil
		}
		if durable {
			signal(v.log.sync)
		}
		select {
		case <-moved:
		case <-v.out:
			return errOut
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// syncEvery is how long what was written may wait to be durable.
const syncEvery = time.Second

// syncs makes what was written durable, every second and when somebody waits.
func (v *volume) syncs() {
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	for {
		select {
		case <-v.stop:
			return
		case <-v.out:
			return
		case <-v.log.sync:
			v.syncNow() // who waits for what is not written yet asks again then
		case <-tick.C:
			v.syncNow()
		}
	}
}

// syncNow makes durable what was written so far, and reports whether that was
// anything.
func (v *volume) syncNow() bool {
	v.mu.Lock()
	written := v.log.written
	dirty := written > v.log.synced
	v.mu.Unlock()
	if !dirty || v.isOut() {
		return false
	}
	v.watch.mark(slotSync)
	err := v.segments.Sync()
	if err == nil {
		err = v.table.Sync()
	}
	v.watch.clear(slotSync)
	if err != nil {
		v.fail(fmt.Errorf("making durable: %w", err))
		return false
	}
	v.mu.Lock()
	v.log.synced = max(v.log.synced, written)
	v.log.broadcast()
	v.mu.Unlock()
	return true
}
