package disk

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/bits"
	mathrand "math/rand/v2"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/larderhq/larder/store/disk/internal/index"
)

// newSuper describes a disk that is used for the first time.
func newSuper(opts *Options, size int64, number uint64) *superblock {
	return &superblock{
		Format: format, Segment: opts.Segment, Segments: int(size / opts.Segment),
		Identity: newKey(opts.Seed, 2*number), Secret: newKey(opts.Seed, 2*number+1),
	}
}

// newKey returns 16 octets in hexadecimal digits: the number-th of a seed, or
// unpredictable ones.
func newKey(seed, number uint64) string {
	var b [32]byte
	if seed == 0 {
		rand.Read(b[:])
	} else {
		binary.LittleEndian.PutUint64(b[:], seed)
		binary.LittleEndian.PutUint64(b[8:], number)
		mathrand.NewChaCha8(b).Read(b[:])
	}
	return hex.EncodeToString(b[:16])
}

// newVolume returns a volume that is not open yet.
func newVolume(s *Store, d Disk, super *superblock) *volume {
	opts := &s.opts
	v := &volume{
		opts: opts, fs: d.FS, name: d.Name, super: super, key: super.key(), segment: super.Segment,
		bodyMax: min(1<<20, super.Segment/4), chunkMax: chunkLimit(super.Segment),
		counts: s.counts, admit: newAdmission(opts, d.Size),
		index: index.New(index.Options{}),
		ready: make(chan struct{}), out: make(chan struct{}), disowned: make(chan struct{}), watch: newWatch(), preparing: make(chan struct{}, readers),
	}
	if super.Epoch > 0 {
		v.known = super.Segments
	}
	if n := int(d.Size / super.Segment); n >= minSegments {
		super.Segments = n // the operator has given it more room, or less
	}
	v.life, v.die = context.WithCancel(context.Background())
	v.stop = v.life.Done()
	v.log.room = opts.Buffer
	v.log.moved, v.log.wake, v.log.sync = make(chan struct{}), make(chan struct{}, 1), make(chan struct{}, 1)
	v.places.pins, v.places.wake, v.places.current = map[uint64]int{}, make(chan struct{}, 1), -1
	return v
}

// chunkLimit returns the most octets of a chunk: whole blocks, or an even part of
// one.
func chunkLimit(segment int64) int64 {
	most := min(4<<20, segment/4)
	if most >= blockLen {
		return most &^ (blockLen - 1)
	}
	return 1 << (bits.Len64(uint64(most)) - 1)
}

// open opens the files and finds out what lives where, in a run of this epoch.
func (v *volume) open(epoch uint64) error {
	last := v.super.Epoch
	if err := v.openFiles(); err != nil {
		return err
	}
	if v.known == 0 { // what another disk in this folder has saved is of no use
		if err := v.removeCheckpoints(""); err != nil {
			return err
		}
	}
	if err := v.readTable(); err != nil {
		return err
	}
	v.resumed = v.resumable(last)
	v.arrange(epoch)
	v.super.Epoch = epoch
	v.lent = 1 << (epoch % 8)
	return writeSuper(v.fs, v.super)
}

func (v *volume) openFiles() (err error) {
	if v.segments, err = v.fs.Open(segmentsName, os.O_RDWR|os.O_CREATE); err != nil {
		return err
	}
	if v.table, err = v.fs.Open(tableName, os.O_RDWR|os.O_CREATE); err != nil {
		err = errors.Join(err, v.segments.Close())
		v.segments = nil
		return err
	}
	v.hold()
	err = resize(v.segments, int64(v.super.Segments)*v.segment)
	if err == nil {
		err = resize(v.table, int64(v.super.Segments)*unit)
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", errRoom, err)
	}
	return err
}

// errRoom wraps why a disk cannot have the size that it is to have.
var errRoom = errors.New("making room")

// resize makes a file size octets long, all of them allocated.
func resize(f interface {
	Size() (int64, error)
	Truncate(int64) error
	Allocate(int64) error
}, size int64,
) error {
	had, err := f.Size()
	if err != nil || had == size {
		return err
	}
	if had > size {
		return f.Truncate(size)
	}
	return f.Allocate(size)
}

// readTable finds out what lives in each place. Sectors of the table that are
// damaged are mended from what the segments say of themselves; if that is too
// many, nothing on the disk is believed.
func (v *volume) readTable() error {
	b := make([]byte, v.super.Segments*unit)
	if n, err := v.table.ReadAt(b, 0); n < len(b) {
		return err
	}
	v.seqs = make([]atomic.Uint64, v.super.Segments)
	var damaged []int
	for place := range v.seqs {
		seq := parseSector(b[place*unit:][:unit], place, v.key)
		switch {
		case place >= v.known: // never used
			v.mend(place, 0)
		case damagedSector(b[place*unit:][:unit], place, v.key):
			damaged = append(damaged, place)
		default:
			v.seqs[place].Store(seq)
		}
	}
	if len(damaged) > v.super.Segments/4 || len(damaged) > mostMended {
		v.note("%d of %d sectors of the table are damaged; what was cached is lost", len(damaged), v.super.Segments)
		for place := range v.seqs {
			v.mend(place, 0)
		}
		return nil
	}
	return v.mendAll(damaged)
}

// mostMended is how many damaged sectors are worth reading segments for.
const mostMended = 16

// mendAll finds out what lives in places whose sectors are damaged. Segments are
// retired in the order of their numbers: one that is older than all that live
// was retired.
func (v *volume) mendAll(damaged []int) error {
	oldest := uint64(math.MaxUint64)
	for place := range v.seqs {
		if seq := v.seqs[place].Load(); seq != 0 {
			oldest = min(oldest, seq)
		}
	}
	for _, place := range damaged {
		seq, err := v.seqIn(place)
		if err != nil {
			return err
		}
		if seq < oldest && oldest != math.MaxUint64 {
			seq = 0
		}
		v.mend(place, seq)
	}
	return nil
}

// mend writes a sector of the table.
func (v *volume) mend(place int, seq uint64) {
	v.seqs[place].Store(seq)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.enqueue(v.table, int64(place)*unit, newSector(place, seq, v.key))
}

// seqIn returns the newest segment that has a record in a place, or zero.
func (v *volume) seqIn(place int) (newest uint64, err error) {
	b := make([]byte, v.segment)
	if err := v.readAt(v.life, b, v.offset(place)); err != nil {
		return 0, err
	}
	for at := int64(0); at < v.segment; at += unit {
		h, ok := parseHeader(b[at:], v.key, v.segment-at)
		if ok && int64(h.addr)*unit == v.offset(place)+at {
			newest = max(newest, h.seq)
		}
	}
	return newest, nil
}

// arrange sorts the places, and goes on where the last run ended in peace.
func (v *volume) arrange(epoch uint64) {
	p := &v.places
	for place := range v.seqs {
		if v.seqs[place].Load() == 0 {
			p.free = append(p.free, place)
		} else {
			p.live = append(p.live, place)
		}
	}
	slices.SortFunc(p.live, func(a, b int) int {
		return int(int64(v.seqs[a].Load() - v.seqs[b].Load()))
	})
	p.next = epoch<<seqShift + 1
	v.first = p.next
	v.shown.Store(v.first)
	if c := v.resumed; c != nil && c.place >= 0 {
		p.live = slices.DeleteFunc(p.live, func(place int) bool { return place == c.place })
		p.current, p.end, p.lines = c.place, c.end, slices.Clone(c.lines)
	}
}

// start begins what goes on in the background until close.
func (v *volume) start() {
	v.begun = true
	for _, work := range []func(){v.flush, v.syncs, v.reclaims, v.saves, v.recover} {
		v.hold()
		v.work.Go(func() {
			defer v.release()
			work()
		})
	}
	v.hold()
	go func() {
		defer v.release()
		v.guard()
	}()
}

// expiry returns a channel that receives when the patience with the disk is over.
func (v *volume) expiry() (stop func() bool, expired <-chan time.Time) {
	t := time.NewTimer(v.opts.Patience)
	return t.Stop, t.C
}

// close writes what is pending, saves the index and ends all that goes on. A disk
// that hangs is not waited for.
func (v *volume) close() error {
	v.mu.Lock()
	v.stopped = true
	ticket := v.log.given
	v.mu.Unlock()
	signal(v.log.wake)
	err := v.wait(context.Background(), ticket, true)
	if err == nil && !v.recovering() && !v.isOut() {
		err = v.unlessOut(v.lastCheckpoint)
	}
	v.die()
	if err == nil {
		err = v.unlessOut(func() error { v.work.Wait(); return nil })
	}
	v.release()
	if errors.Is(err, errOut) {
		return nil // which was noted
	}
	return err
}

// abandon lets go of a volume that was not started.
func (v *volume) abandon() {
	v.die()
	if v.segments != nil {
		v.release()
	}
}

// unlessOut returns what do says, or errOut if the disk goes out before.
func (v *volume) unlessOut(do func() error) error {
	said := make(chan error, 1)
	v.hold()
	go func() {
		defer v.release()
		said <- do()
	}()
	select {
	case err := <-said:
		return err
	case <-v.out:
		return errOut
	}
}
