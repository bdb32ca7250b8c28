package disk

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larderhq/larder/internal/vfs"
	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/disk/internal/index"
)

// Bounds of what a disk can be.
const (
	minSegment  = 64 << 10
	maxSegment  = 1 << 30
	minSegments = 4
	maxSize     = (index.MaxAddr + 1) * unit
	maxEpoch    = 1<<23 - 1
	epochShift  = 40 // of IDs
	seqShift    = 32 // of segment numbers: the epoch stands above
)

// errOut says that the disk is out: callers go on without it.
var errOut = errors.New("store/disk: the disk was taken out")

// A volume is one disk as long as it works. When it fails it is out for good;
// the store may make a new volume of the same folder, empty.
//
// Locks are taken in this order: a stripe, mu, late.mu. No lock is held while the
// disk works, save that a stripe waits for mu.
type volume struct {
	opts     *Options
	fs       vfs.FS
	name     string // for notes
	super    *superblock
	key      secret
	segment  int64 // octets
	chunkMax int64 // octets of a body in one chunk
	bodyMax  int64 // octets of a body that lies in its object's record

	// counts says whether the entry of an ID is to be believed: see type set.
	counts func(v *volume, key store.Key, id store.ID) bool
	admit  *admission

	segments, table vfs.File
	unprompt        atomic.Bool // segments cannot be read at once on this system

	index   *index.Index
	lent    index.Flags     // the flag that means "lent" in this epoch
	stripes [stripes]stripe // by hash: guard what is done to the entries of one key
	hints   [hintCount]atomic.Uint64
	kept    [keepCount]atomic.Pointer[record]

	// seqs are the segments that live in each place of the file. Zero: what
	// lies there is nobody's.
	seqs []atomic.Uint64

	mu      sync.Mutex
	log     log
	places  places
	stopped bool // nothing is appended any more

	late   late
	gate   sync.RWMutex // held by changes during recovery, and by its end
	saving sync.Mutex   // held while a checkpoint is written
	saved  uint64       // checkpoints of this run

	known   int                // places that the table has told of before
	first   uint64             // segment of this run
	shown   atomic.Uint64      // what is in segments from this one on has been recovered
	resumed *checkpoint        // where the last run ended in peace, or nil
	life    context.Context    // ends with the volume
	die     context.CancelFunc // ends life

	ready  chan struct{}   // closed when recovery is over
	out    chan struct{}   // closed when the disk is taken out
	stop   <-chan struct{} // closed with life
	failed sync.Once
	watch  *watch

	preparing chan struct{}  // one for each Prepare that reads
	work      sync.WaitGroup // background goroutines that end with stop

	begun      bool          // what is removed is removed from this disk
	describing sync.Mutex    // held while super changes and is written
	disowned   chan struct{} // closed when the disk, being out, has been told so or cannot be
	void       atomic.Bool   // it has been told
	held       atomic.Int64  // readers, calls and the owner; the files close with the last

	tally counters
}

// stripes is how many parts the keys are in that wait for each other.
const stripes = 256

type stripe struct {
	sync.Mutex
	_ [56]byte
}

// counters are what Stats tells of a volume.
type counters struct {
	written, reclaimed, moved, damaged, refused, hits atomic.Int64
}

// offset is where a place begins in the file.
func (v *volume) offset(place int) int64 { return int64(place) * v.segment }

// placeOf returns the place of an address, or false if there is none.
func (v *volume) placeOf(addr uint64) (int, bool) {
	if addr > index.MaxAddr {
		return 0, false
	}
	p := int64(addr) * unit / v.segment
	return int(p), p < int64(len(v.seqs))
}

// seqAt returns the segment that lives at an address, or zero.
func (v *volume) seqAt(addr uint64) uint64 {
	p, ok := v.placeOf(addr)
	if !ok {
		return 0
	}
	return v.seqs[p].Load()
}

// limitAt is the most octets that a record at addr can have: records do not
// cross segments.
func (v *volume) limitAt(addr uint64) int64 {
	return v.segment - int64(addr)*unit%v.segment
}

func (v *volume) lock(hash uint64) *stripe {
	s := &v.stripes[hash%stripes]
	s.Lock()
	return s
}

// isOut says whether the disk was taken out.
func (v *volume) isOut() bool {
	select {
	case <-v.out:
		return true
	default:
		return false
	}
}

func (v *volume) recovering() bool {
	select {
	case <-v.ready:
		return false
	default:
		return true
	}
}

// fail takes the disk out.
func (v *volume) fail(err error) {
	v.failed.Do(func() {
		close(v.out)
		if !v.begun {
			close(v.disowned)
			return // whoever began is told
		}
		v.note("taken out of use: %v", err)
		go v.disown()
	})
}

// How often a disk is told that it is out, and how long it is left alone in
// between: it is over before the disk is tried again.
const (
	tellings  = 50
	tellEvery = 100 * time.Millisecond
)

// disown tells the disk, as far as it listens, to begin anew when it is opened
// again: it will not hear of what is removed from now on. Nobody waits for it but
// those who would write there next. If it does not listen, what it has may come
// back after a restart: Remove says so.
func (v *volume) disown() {
	defer close(v.disowned)
	for range tellings {
		if v.describe(func(s *superblock) { s.Void = true }) == nil {
			v.void.Store(true)
			return
		}
		select {
		case <-time.After(tellEvery):
		case <-v.stop:
			return
		}
	}
}

// describe changes what the disk says of itself, and makes that durable.
func (v *volume) describe(change func(*superblock)) error {
	v.describing.Lock()
	defer v.describing.Unlock()
	v.watch.mark(slotDescribe)
	defer v.watch.clear(slotDescribe)
	change(v.super)
	return writeSuper(v.fs, v.super)
}

func (v *volume) note(format string, args ...any) { v.opts.note(v.name, format, args...) }

// hold keeps the files open until release.
func (v *volume) hold() { v.held.Add(1) }

func (v *volume) release() {
	if v.held.Add(-1) == 0 && v.segments != nil {
		v.segments.Close()
		v.table.Close()
	}
}

// The table is a file with one sector for each place. It says which segment
// lives there, so that opening a disk reads one dense file.
const tableMark = 0x6c626154 // "Tabl"

func newSector(place int, seq uint64, k secret) []byte {
	b := make([]byte, unit)
	le := binary.LittleEndian
	le.PutUint32(b, tableMark)
	le.PutUint32(b[4:], recordVersion)
	le.PutUint64(b[8:], uint64(place))
	le.PutUint64(b[16:], seq)
	le.PutUint64(b[24:], k.sum(b[:24]))
	return b
}

// damagedSector says whether b is not what newSector returns.
func damagedSector(b []byte, place int, k secret) bool {
	return !bytes.Equal(b, newSector(place, parseSector(b, place, k), k))
}

// parseSector returns the segment that lives in place. What is damaged is free.
func parseSector(b []byte, place int, k secret) uint64 {
	le := binary.LittleEndian
	if le.Uint32(b) != tableMark || le.Uint32(b[4:]) != recordVersion || le.Uint64(b[8:]) != uint64(place) ||
		le.Uint64(b[24:]) != k.sum(b[:24]) {
		return 0
	}
	return le.Uint64(b[16:])
}

// places are the segments of a volume by their states. The volume's mu guards
// them.
type places struct {
	current int      // where the log is written; negative: nowhere
	end     int64    // of what is reserved there, from the start of the segment
	lines   []line   // of its footer
	next    uint64   // number of the next segment
	free    []int    // nobody's
	live    []int    // sealed, the oldest first
	waiting []leaver // retired, but still read
	pins    map[uint64]int
	wake    chan struct{} // tells the reclaimer that free became less
}

// A leaver is a segment that was retired while somebody reads it.
type leaver struct {
	place int
	seq   uint64
}

// pin keeps the octets of the segment seq at addr from being overwritten, until
// unpin. It reports false if they may have been already.
func (v *volume) pin(addr, seq uint64) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if seq == 0 || v.seqAt(addr) != seq && v.places.pins[seq] == 0 {
		return false
	}
	v.places.pins[seq]++
	return true
}

func (v *volume) unpin(seq uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	p := &v.places
	if p.pins[seq]--; p.pins[seq] > 0 {
		return
	}
	delete(p.pins, seq)
	for i, w := range p.waiting {
		if w.seq == seq {
			p.waiting = append(p.waiting[:i], p.waiting[i+1:]...)
			p.free = append(p.free, w.place)
			return
		}
	}
}

// intact says whether what was pinned may still be read: a segment that waits
// too long for its readers is overwritten under them.
func (v *volume) intact(addr, seq uint64) bool {
	if v.seqAt(addr) == seq {
		return true
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, w := range v.places.waiting {
		if w.seq == seq {
			return true
		}
	}
	return false
}

// readAt fills p with what lies at off of the segments, written or not yet. If
// it fails with anything but an error of the disk itself, somebody may go on
// writing to p: the caller must let go of it.
func (v *volume) readAt(ctx context.Context, p []byte, off int64) error {
	holes, some := v.overlay(p, off)
	if !some {
		return v.pread(ctx, p, off)
	}
	for _, hole := range holes {
		if err := v.pread(ctx, p[hole.from:hole.to], off+int64(hole.from)); err != nil {
			return err
		}
	}
	return nil
}

type span struct{ from, to int }

// overlay copies to p what is not written yet of the octets at off, and returns
// what else is wanted. What it found missing is in the file already. It reports
// false if that is all of it.
func (v *volume) overlay(p []byte, off int64) (holes []span, some bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, e := range v.log.pending {
		if e.file != v.segments || e.off >= off+int64(len(p)) || e.off+int64(len(e.octets)) <= off {
			continue
		}
		if !some {
			holes, some = []span{{0, len(p)}}, true
		}
		from := max(0, int(e.off-off))
		to := min(len(p), int(e.off-off)+len(e.octets))
		copy(p[from:to], e.octets[from-int(e.off-off):])
		holes = punch(holes, span{from, to})
	}
	return holes, some
}

// punch takes s out of holes.
func punch(holes []span, s span) []span {
	var left []span
	for _, h := range holes {
		if h.from < min(h.to, s.from) {
			left = append(left, span{h.from, min(h.to, s.from)})
		}
		if max(h.from, s.to) < h.to {
			left = append(left, span{max(h.from, s.to), h.to})
		}
	}
	return left
}

// pread reads the file, for as long as ctx and the disk's patience last. What the
// system has in memory is read at once; for the rest there is a goroutine, which
// is left behind if the disk hangs.
//
// If ctx has ended, only what can be read at once is.
func (v *volume) pread(ctx context.Context, p []byte, off int64) error {
	if err := ctx.Err(); err != nil {
		v.hold()
		defer v.release()
		if v.readNow(p, off) < len(p) {
			return err
		}
		return nil
	}
	slot, err := v.watch.begin(ctx, v.out)
	if err != nil {
		return err
	}
	v.hold()
	n := v.readNow(p, off)
	if n == len(p) {
		v.watch.end(slot)
		v.release()
		return nil
	}
	done := make(chan error, 1)
	go func() {
		defer v.release()
		done <- v.readLater(p[n:], off+int64(n), slot)
	}()
	select {
	case err := <-done:
		if err != nil {
			return v.readFault(err)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-v.out:
		return errOut
	}
}

// readLater reads as long as that takes, and gives the slot back.
func (v *volume) readLater(p []byte, off int64, slot int) error {
	defer v.watch.end(slot)
	n, err := v.segments.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	return err
}

// readNow reads the first n octets of p without waiting for the disk, as far as
// the system can do that. Whoever asks it may still have to wait if it wants to
// read ahead and the disk takes no more: so it is not asked while the disk keeps
// anybody waiting for longer than it should.
func (v *volume) readNow(p []byte, off int64) (n int) {
	if !v.prompt() {
		return 0
	}
	n, err := v.segments.(vfs.Prompt).ReadNow(p, off)
	if errors.Is(err, errors.ErrUnsupported) {
		v.unprompt.Store(true)
	}
	return n
}

// prompt tells whether readNow may read anything.
func (v *volume) prompt() bool {
	_, ok := v.segments.(vfs.Prompt)
	return ok && !v.unprompt.Load() && v.watch.longest() <= v.opts.Patience/8
}

// errRead wraps what the disk said when it could not read.
var errRead = errors.New("store/disk: cannot read")

// readFaults is how many reads may fail before the disk is taken out. They are
// halved each time the index is saved.
const readFaults = 8

func (v *volume) readFault(err error) error {
	if errors.Is(err, io.EOF) || v.watch.faults.Add(1) >= readFaults {
		v.fail(fmt.Errorf("reading: %w", err))
	}
	return fmt.Errorf("%w: %w", errRead, err)
}

// A watch knows which operations of the disk go on, and since when.
type watch struct {
	born   time.Time
	slots  chan int       // free ones, for reads
	since  []atomic.Int64 // when what has the slot began, from born; zero: nothing
	faults atomic.Int64
}

// Slots of those who work alone, and how many reads go on at once.
const (
	slotWrite = iota
	slotSync
	slotSave
	slotDescribe
	slotReads
	readers = 64
)

func newWatch() *watch {
	w := &watch{born: time.Now(), slots: make(chan int, readers), since: make([]atomic.Int64, slotReads+readers)}
	for i := range readers {
		w.slots <- slotReads + i
	}
	return w
}

func (w *watch) begin(ctx context.Context, out <-chan struct{}) (int, error) {
	select {
	case slot := <-w.slots:
		w.mark(slot)
		return slot, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-out:
		return 0, errOut
	}
}

func (w *watch) mark(slot int) { w.since[slot].Store(int64(time.Since(w.born)) + 1) }

func (w *watch) clear(slot int) { w.since[slot].Store(0) }

func (w *watch) end(slot int) {
	w.clear(slot)
	w.slots <- slot
}

// longest returns how long the oldest operation has been going on. A sync writes
// what others have written, and nobody waits for saving the index, so these may
// take five times as long, and so may the description of the disk, which is
// synced too.
func (w *watch) longest() time.Duration {
	now, most := int64(time.Since(w.born)), int64(0)
	for slot := range w.since {
		at := w.since[slot].Load()
		if at == 0 {
			continue
		}
		age := now - at
		if slot == slotSync || slot == slotSave || slot == slotDescribe {
			age /= 5
		}
		most = max(most, age)
	}
	return time.Duration(most)
}

// guard takes the disk out when it keeps somebody waiting for too long. It goes
// on until all others have ended.
func (v *volume) guard() {
	ended := make(chan struct{})
	go func() {
		v.work.Wait()
		close(ended)
	}()
	tick := time.NewTicker(v.opts.Patience / 4)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return
		case <-v.out:
			return
		case <-tick.C:
			if age := v.watch.longest(); age > v.opts.Patience*3/4 {
				v.fail(fmt.Errorf("it has not answered for %v", age.Round(time.Millisecond)))
			}
		}
	}
}

// late are the entries that were killed while older records are still being
// found.
type late struct {
	mu sync.Mutex
	by map[uint64][]kill // hash
}

func (l *late) add(kills []kill) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.by == nil {
		l.by = map[uint64][]kill{}
	}
	for _, k := range kills {
		l.by[k.hash] = append(l.by[k.hash], k)
	}
}

// covers says whether the record that o is about was killed.
func (l *late) covers(o line) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.by[o.hash] {
		if k.covers(o.id, o.addr) {
			return true
		}
	}
	return false
}

// take returns what was added.
func (l *late) take() (kills []kill) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.by {
		kills = append(kills, k...)
	}
	l.by = nil
	return kills
}
