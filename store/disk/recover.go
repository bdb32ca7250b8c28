package disk

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/disk/internal/index"
)

// recover fills the index with what an earlier run left: from the segments that
// were written since the newest whole checkpoint, the last one first, and then
// from that. So what says that an entry is gone is known before the entry, which
// can be shown as soon as its segment was read. What is committed and removed
// meanwhile has the last word.
func (v *volume) recover() {
	err := v.restore()
	if err == nil {
		err = v.settleLate()
	}
	if err != nil && !v.over() {
		v.fail(fmt.Errorf("recovering: %w", err))
	}
}

// over says whether the volume has no use for what is being done.
func (v *volume) over() bool { return v.isOut() || v.life.Err() != nil }

func (v *volume) restore() error {
	names, err := checkpoints(v.fs)
	if err != nil {
		return err
	}
	r := &restoring{volume: v, killed: newKilled(), last: v.resumed}
	v.mu.Lock()
	r.left = slices.Clone(v.places.live)
	v.mu.Unlock()
	for _, name := range names {
		err := r.fromCheckpoint(name)
		if err == nil || v.over() || errors.Is(err, errSegment) {
			return err
		}
		v.note("%s is of no use: %v; the segments will do", name, err)
	}
	r.replayLast()
	return r.downTo(0)
}

// A restoring goes back in the log.
type restoring struct {
	*volume
	killed *killed
	left   []int       // places that are to be read, the oldest segment first
	last   *checkpoint // that of a last run that ended in peace, until it is replayed
}

// errSegment says that a segment cannot be read. It may say that older entries
// are gone: without it none can be believed, and the disk has to begin anew.
var errSegment = errors.New("a segment cannot be read")

// replayLast replays the segment where the log goes on. Its lines are in memory
// alone, for the run that ended in peace gave it no footer.
func (r *restoring) replayLast() {
	if c := r.last; c != nil {
		r.replay(c.lines, c.place, r.killed)
		r.last = nil
	}
}

// downTo replays the segments that are left from seq on, the last one first.
func (r *restoring) downTo(seq uint64) error {
	for len(r.left) > 0 {
		place := r.left[len(r.left)-1]
		at := r.seqs[place].Load()
		if at < seq {
			return nil
		}
		if r.left = r.left[:len(r.left)-1]; at >= r.first {
			continue
		}
		if err := r.segment(place, at); err != nil {
			return err
		}
		r.shown.Store(at)
	}
	return nil
}

// fromCheckpoint replays what came after a checkpoint, and loads it.
func (r *restoring) fromCheckpoint(name string) error {
	c, rest, f, err := openCheckpoint(r.fs, name, r.key, r.volume.segment)
	if err != nil {
		return err
	}
	defer f.Close()
	if r.last != nil && r.last.name == name {
		c.from = math.MaxUint64 // nobody has written since
	} else {
		r.replayLast()
	}
	if err := r.downTo(c.from); err != nil {
		return err
	}
	if err := r.load(c, rest, r.killed); err != nil {
		return err
	}
	return r.killed.rest(r.execute)
}

// segment replays a segment, and gives it the footer that a crash kept it from
// having, so that it need not be read to the end again.
func (r *restoring) segment(place int, seq uint64) error {
	v := r.volume
	lines, end, sealed, err := v.linesIn(place, seq)
	if err != nil {
		return fmt.Errorf("%w: %d: %w", errSegment, seq, err)
	}
	if !sealed { // the crash may have come in the middle of what was written last
		lines = slices.DeleteFunc(lines, func(l line) bool {
			if l.kind != kindObject {
				return false
			}
			_, octets := v.wholeRecord(v.life, l.addr, seq)
			return octets == nil
		})
	}
	if v.replay(lines, place, r.killed); sealed {
		return nil
	}
	footer := newFooter(lines, seq, end, v.key)
	if end+int64(len(footer)) > v.segment {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.admits(int64(len(footer))) == nil {
		v.enqueue(v.segments, v.offset(place)+v.segment-int64(len(footer)), footer)
	}
	return nil
}

// replay does to the index what the lines say that stand in a place. All later
// lines of the log have been replayed.
func (v *volume) replay(lines []line, place int, killed *killed) {
	for _, l := range slices.Backward(lines) {
		if l.kind != kindObject {
			killed.add(kill{l.hash, l.id, l.addr})
		} else if at, ok := v.placeOf(l.addr); ok && at == place && !killed.covers(l) {
			v.revive(l)
		}
	}
}

// revive puts the object of l into the index, unless it was killed in this run.
func (v *volume) revive(l line) {
	defer v.lock(l.hash).Unlock()
	if !v.late.covers(l) {
		v.index.Insert(l.hash, index.Ref{Addr: l.addr, Class: min(l.class, index.MaxClass)})
	}
}

// killed are the kills that were met on the way back through the log. All are
// about what lies further back.
type killed struct {
	addrs  map[uint64]bool
	ids    map[kill]bool // with no address
	bounds map[uint64]store.ID
}

func newKilled() *killed {
	return &killed{addrs: map[uint64]bool{}, ids: map[kill]bool{}, bounds: map[uint64]store.ID{}}
}

func (d *killed) add(k kill) {
	switch k.addr {
	case 0:
		d.ids[k] = true
	case everything:
		d.bounds[k.hash] = max(d.bounds[k.hash], k.id)
	default:
		d.addrs[k.addr] = true
	}
}

// covers says whether the object of l is gone.
func (d *killed) covers(l line) bool {
	return d.addrs[l.addr] || d.ids[kill{hash: l.hash, id: l.id}] || l.id <= d.bounds[l.hash]
}

// rest executes the kills that do not name an address.
func (d *killed) rest(execute func(kill) error) error {
	for k := range d.ids {
		if err := execute(k); err != nil {
			return err
		}
	}
	for hash, id := range d.bounds {
		if err := execute(kill{hash, id, everything}); err != nil {
			return err
		}
	}
	return nil
}

// covers says whether k is about the record of id at addr.
func (k kill) covers(id store.ID, addr uint64) bool {
	switch k.addr {
	case 0:
		return id == k.id
	case everything:
		return id <= k.id
	}
	return addr == k.addr
}

// execute takes what k names out of the index, save what this run has committed.
func (v *volume) execute(k kill) error {
	if k.addr != 0 && k.addr != everything {
		v.index.Remove(k.hash, k.addr)
		return nil
	}
	for _, ref := range v.index.Find(k.hash, nil) {
		if v.fresh(ref.Addr) {
			continue
		}
		id, err := v.idAt(v.life, ref.Addr)
		if err != nil {
			return err
		}
		if k.covers(id, ref.Addr) {
			v.index.Remove(k.hash, ref.Addr)
		}
	}
	return nil
}

// idAt returns the ID of the object at addr, or zero if there is none.
func (v *volume) idAt(ctx context.Context, addr uint64) (store.ID, error) {
	b := make([]byte, unit)
	if err := v.readAt(ctx, b, int64(addr)*unit); err != nil {
		return 0, err
	}
	h, ok := parseHeader(b, v.key, v.limitAt(addr))
	if !ok || h.addr != addr || h.seq != v.seqAt(addr) {
		return 0, nil
	}
	return h.id, nil
}

// settleLate kills what was killed during recovery and found since, and ends
// recovery. Nobody commits or removes meanwhile.
func (v *volume) settleLate() error {
	v.gate.Lock()
	defer v.gate.Unlock()
	for _, k := range v.late.take() {
		if err := v.execute(k); err != nil {
			return err
		}
	}
	close(v.ready)
	return nil
}

// enterChange keeps recovery from ending between looking and changing, until the
// result is called.
func (v *volume) enterChange() (leave func()) {
	if !v.recovering() {
		return func() {}
	}
	v.gate.RLock()
	return v.gate.RUnlock
}
