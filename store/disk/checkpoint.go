package disk

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/larderhq/larder/internal/vfs"
	"github.com/larderhq/larder/store/disk/internal/index"
)

// A checkpoint is what a file index.N begins with; the saved index follows. It
// knows all that was written before the segment from, and some of what came
// later.
type checkpoint struct {
	name  string
	epoch uint64   // of the run that wrote it
	from  uint64   // segments from this one on are to be read again
	seqs  []uint64 // what lived in each place

	// Of a run that ended in peace: where the log goes on.
	clean bool
	place int // negative: nowhere
	end   int64
	lines []line
}

const (
	checkpointMark = 0x78496472614c // "LardIx"
	checkpointHead = 72
)

// encode returns c as it is written.
func (c *checkpoint) encode(k secret) []byte {
	le := binary.LittleEndian
	b := make([]byte, checkpointHead+8*len(c.seqs)+lineLen*len(c.lines)+8)
	le.PutUint64(b, checkpointMark)
	le.PutUint64(b[8:], recordVersion)
	le.PutUint64(b[16:], c.epoch)
	le.PutUint64(b[24:], c.from)
	le.PutUint32(b[32:], uint32(len(c.seqs)))
	le.PutUint32(b[36:], uint32(len(c.lines)))
	if c.clean {
		b[40] = 1
	}
	le.PutUint32(b[44:], uint32(c.place+1))
	le.PutUint64(b[48:], uint64(c.end))
	le.PutUint64(b[64:], k.sum(b[:64]))
	rest := b[checkpointHead:]
	for i, seq := range c.seqs {
		le.PutUint64(rest[8*i:], seq)
	}
	for i, l := range c.lines {
		l.put(rest[8*len(c.seqs)+lineLen*i:])
	}
	le.PutUint64(b[len(b)-8:], k.sum(b[:len(b)-8]))
	return b
}

var errNotCheckpoint = errors.New("it is not a checkpoint of this disk")

// readCheckpoint reads what encode wrote, of a disk with so many segments of
// these octets or with others.
func readCheckpoint(r io.Reader, k secret, segment int64) (*checkpoint, error) {
	le := binary.LittleEndian
	b := make([]byte, checkpointHead)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	c := &checkpoint{epoch: le.Uint64(b[16:]), from: le.Uint64(b[24:]), clean: b[40] == 1}
	c.place, c.end = int(le.Uint32(b[44:]))-1, int64(le.Uint64(b[48:]))
	places, lines := int64(le.Uint32(b[32:])), int64(le.Uint32(b[36:]))
	if le.Uint64(b) != checkpointMark || le.Uint64(b[8:]) != recordVersion || le.Uint64(b[64:]) != k.sum(b[:64]) ||
		places > maxSize/segment || lines > segment/lineLen || int64(c.place) >= places || c.end < 0 || c.end > segment {
		return nil, errNotCheckpoint
	}
	rest := make([]byte, 8*places+lineLen*lines+8)
	if _, err := io.ReadFull(r, rest); err != nil {
		return nil, err
	}
	b = append(b, rest...)
	if le.Uint64(b[len(b)-8:]) != k.sum(b[:len(b)-8]) {
		return nil, errNotCheckpoint
	}
	for i := range places {
		c.seqs = append(c.seqs, le.Uint64(rest[8*i:]))
	}
	for i := range lines {
		c.lines = append(c.lines, parseLine(rest[8*places+lineLen*i:]))
	}
	return c, nil
}

// saves writes a checkpoint now and then, if anything changed.
func (v *volume) saves() {
	select {
	case <-v.ready:
	case <-v.stop:
		return
	case <-v.out:
		return
	}
	tick := time.NewTicker(v.opts.CheckpointEvery)
	defer tick.Stop()
	last := uint64(0)
	for {
		select {
		case <-tick.C:
		case <-v.stop:
			return
		case <-v.out:
			return
		}
		v.watch.faults.Store(v.watch.faults.Load() / 2)
		v.mu.Lock()
		given := v.log.given
		v.mu.Unlock()
		if given == last {
			continue
		}
		if err := v.checkpoint(v.life); err != nil && v.life.Err() == nil {
			v.note("the index could not be saved: %v; a restart will take longer", err)
		}
		last = given
	}
}

// checkpoint saves the index while others go on using it. An index that is not
// complete yet is not saved: what it does not know to be gone would come back.
func (v *volume) checkpoint(ctx context.Context) error {
	if v.recovering() {
		return nil
	}
	c, ticket := v.position()
	for i := range v.stripes { // who has appended by then has changed the index too
		v.lock(uint64(i)).Unlock()
	}
	if err := v.wait(ctx, ticket, true); err != nil {
		return err
	}
	return v.writeCheckpoint(c)
}

// position returns a checkpoint of this moment, and the ticket of what it wants
// to be durable.
func (v *volume) position() (*checkpoint, uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	c := &checkpoint{epoch: v.super.Epoch, from: v.places.next, place: -1}
	for i := range v.seqs {
		c.seqs = append(c.seqs, v.seqs[i].Load())
	}
	if v.places.current >= 0 {
		c.from = c.seqs[v.places.current]
	}
	return c, v.log.given
}

// lastCheckpoint saves where everything is, when nothing is appended any more.
func (v *volume) lastCheckpoint() error {
	c, _ := v.position()
	v.mu.Lock()
	c.clean, c.place, c.end, c.lines = true, v.places.current, v.places.end, v.places.lines
	v.mu.Unlock()
	return v.writeCheckpoint(c)
}

func (v *volume) writeCheckpoint(c *checkpoint) error {
	v.saving.Lock()
	defer v.saving.Unlock()
	v.saved++
	name := fmt.Sprintf("%s%016x", indexPrefix, v.super.Epoch<<seqShift+v.saved)
	f, err := v.fs.Open(name+newSuffix, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(&watched{v.watch, io.NewOffsetWriter(f, 0)}, 1<<20)
	_, err = w.Write(c.encode(v.key))
	if err == nil {
		err = v.index.Save(w)
	}
	if err == nil {
		err = w.Flush()
	}
	v.watch.mark(slotSave)
	defer v.watch.clear(slotSave)
	if err == nil {
		err = f.Sync()
	}
	if err := commitFile(v.fs, f, name, err); err != nil {
		_ = v.fs.Remove(name + newSuffix) // it takes room and is nothing
		return err
	}
	return v.removeCheckpoints(name)
}

// A watched writer is one whose every Write the watch knows of.
type watched struct {
	watch *watch
	to    io.Writer
}

func (w *watched) Write(p []byte) (int, error) {
	w.watch.mark(slotSave)
	defer w.watch.clear(slotSave)
	return w.to.Write(p)
}

// removeCheckpoints removes all checkpoints but one, and what is left of those
// that were not finished.
func (v *volume) removeCheckpoints(but string) error {
	names, err := v.fs.List()
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, indexPrefix) && name != but {
			if err := v.fs.Remove(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkpoints returns the names of checkpoints, the newest first.
func checkpoints(fsys vfs.FS) ([]string, error) {
	names, err := fsys.List()
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		number, ok := strings.CutPrefix(name, indexPrefix)
		_, err := strconv.ParseUint(number, 16, 64)
		return !ok || err != nil || len(number) != 16
	})
	slices.Sort(names)
	slices.Reverse(names)
	return names, nil
}

// openCheckpoint returns the start of a checkpoint, and what follows it. The
// caller closes.
func openCheckpoint(fsys vfs.FS, name string, k secret, segment int64) (*checkpoint, io.Reader, io.Closer, error) {
	f, err := fsys.Open(name, os.O_RDONLY)
	if err != nil {
		return nil, nil, nil, err
	}
	size, err := f.Size()
	if err != nil {
		return nil, nil, nil, errors.Join(err, f.Close())
	}
	r := bufio.NewReaderSize(io.NewSectionReader(f, 0, size), 1<<20)
	c, err := readCheckpoint(r, k, segment)
	if err != nil {
		return nil, nil, nil, errors.Join(err, f.Close())
	}
	c.name = name
	return c, r, f, nil
}

// resumable returns the newest checkpoint if the last run ended with it.
func (v *volume) resumable(epoch uint64) *checkpoint {
	names, err := checkpoints(v.fs)
	if err != nil || len(names) == 0 {
		return nil
	}
	c, _, f, err := openCheckpoint(v.fs, names[0], v.key, v.segment)
	if err != nil {
		return nil
	}
	f.Close()
	if !c.clean || c.epoch != epoch || len(c.seqs) != len(v.seqs) || c.end < unit && c.place >= 0 {
		return nil
	}
	for place := range v.seqs {
		if c.seqs[place] != v.seqs[place].Load() {
			return nil
		}
	}
	return c
}

// load reads the index that follows c, save what is not there any more, what
// was read already, and what killed says is gone.
func (v *volume) load(c *checkpoint, r io.Reader, killed *killed) error {
	return v.index.Load(r, func(ref index.Ref) bool {
		place, ok := v.placeOf(ref.Addr)
		if !ok || place >= len(c.seqs) {
			return false
		}
		seq := v.seqs[place].Load()
		// A mark of this epoch's kind was made eight openings ago.
		return seq != 0 && seq < c.from && seq == c.seqs[place] && ref.Flags&v.lent == 0 && !killed.addrs[ref.Addr]
	})
}
