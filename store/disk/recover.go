package disk

import (
	"context"
	"fmt"
	"slices"

	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/disk/internal/index"
)

// recover fills the index with what an earlier run left: from the newest whole
// checkpoint, and from the segments written since. Nobody sees any of it before
// the end, for what comes later in the log may say that it is gone. What is
// committed and removed meanwhile has the last word.
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
	c, err := v.loadCheckpoint()
	if err != nil {
		return err
	}
	v.mu.Lock()
	live := slices.Clone(v.places.live)
	v.mu.Unlock()
	for _, place := range live {
		seq := v.seqs[place].Load()
		if c != nil && seq < c.from || seq >= v.first {
			continue
		}
		if err := v.restoreSegment(place, seq); err != nil {
			return err
		}
	}
	if c == nil && v.resumed != nil { // the lines of its segment are in memory alone
		return v.replay(v.resumed.lines, v.resumed.place)
	}
	return nil
}

// restoreSegment replays a segment, and gives it the footer that a crash kept it
// from having, so that it need not be read to the end again.
func (v *volume) restoreSegment(place int, seq uint64) error {
	lines, end, sealed, err := v.linesIn(place, seq)
	if err != nil {
		// It may say that older entries are gone: without it none can be
		// believed, so the disk has to begin anew.
		return fmt.Errorf("segment %d: %w", seq, err)
	}
	if err := v.replay(lines, place); err != nil || sealed {
		return err
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

// replay does to the index what the lines say that stand in a place.
func (v *volume) replay(lines []line, place int) error {
	for _, l := range lines {
		if l.kind != kindObject {
			if err := v.execute(kill{l.hash, l.id, l.addr}); err != nil {
				return err
			}
		} else if at, ok := v.placeOf(l.addr); ok && at == place {
			v.index.Insert(l.hash, index.Ref{Addr: l.addr, Class: min(l.class, index.MaxClass)})
		}
	}
	return nil
}

// execute takes what k names out of the index.
func (v *volume) execute(k kill) error {
	if k.addr != 0 && k.addr != everything {
		v.index.Remove(k.hash, k.addr)
		return nil
	}
	for _, ref := range v.index.Find(k.hash, nil) {
		id, err := v.idAt(v.life, ref.Addr)
		if err != nil {
			return err
		}
		if id == k.id || k.addr == everything && id < k.id {
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
