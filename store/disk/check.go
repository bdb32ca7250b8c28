package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/larderhq/larder/internal/vfs"
	"github.com/larderhq/larder/store/disk/internal/index"
)

// A Finding is one thing that Check found wrong.
type Finding struct {
	File   string
	Offset int64 // in octets, where the damaged thing begins
	What   string
}

// String says what was found and where, in one line.
func (f Finding) String() string { return fmt.Sprintf("%s at %d: %s", f.File, f.Offset, f.What) }

// A Summary is what Check found on a disk.
type Summary struct {
	Objects  int   // entries that are whole
	Octets   int64 // of their bodies
	Segments int
	Free     int // of the segments
	Unsealed int // segments without a list of what is in them: the last one, and those of a crash
	Gone     int // entries of which a piece was reclaimed, which is no damage
	Damaged  int // findings
	Repaired bool
}

// Check reads every octet of every entry on a disk that is not in use, and tells
// report of what is damaged; report may be nil. With repair, damaged entries are
// forgotten and what Check can rebuild is written anew: a second Check finds
// nothing. It takes time in proportion to what is on the disk, and memory like an
// open Store.
//
// An error says that the disk cannot be checked: it is in use, there is none, it
// was written by another version, or its description of itself is destroyed. vfs
// errors are wrapped.
func Check(fsys vfs.FS, repair bool, report func(Finding)) (sum Summary, err error) {
	lock, err := fsys.Lock(lockName)
	if err != nil {
		return Summary{}, fmt.Errorf("store/disk: check: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	c := &checker{fs: fsys, report: report}
	if err = c.run(repair); err != nil {
		err = fmt.Errorf("store/disk: check: %w", err)
	}
	return c.sum, err
}

type checker struct {
	fs     vfs.FS
	report func(Finding)
	sum    Summary
	v      *volume
	bad    []line // objects that are to be forgotten
}

func (c *checker) found(file string, offset int64, format string, args ...any) {
	c.sum.Damaged++
	if c.report != nil {
		c.report(Finding{file, offset, fmt.Sprintf(format, args...)})
	}
}

func (c *checker) run(repair bool) error {
	super, err := c.checkSuper()
	if err != nil {
		return err
	}
	if err := c.open(super); err != nil {
		return err
	}
	err = c.checkAll()
	c.v.die()
	c.v.release()
	if err == nil && repair && c.sum.Damaged+c.sum.Gone > 0 {
		err = c.repair(super)
		c.sum.Repaired = err == nil
	}
	return err
}

// checkSuper returns what the disk says it is.
func (c *checker) checkSuper() (*superblock, error) {
	super, err := readSuper(c.fs)
	switch {
	case errors.Is(err, errNotSuper):
		return nil, fmt.Errorf("%w, and so is its spare; nothing on this disk can be read, and it begins anew when it is next used", err)
	case err != nil:
		return nil, err
	case super == nil:
		return nil, fmt.Errorf("there is no %s: this is no disk of larder's: %w", superName, fs.ErrNotExist)
	}
	for _, name := range []string{superName, spareName} {
		one, err := readSuperFile(c.fs, name)
		switch {
		case errors.Is(err, errNotSuper) || err == nil && one == nil:
			c.found(name, 0, "the description of the disk is damaged, but there are two")
		case err != nil:
			return nil, err
		}
	}
	return super, nil
}

// open opens the volume without changing anything.
func (c *checker) open(super *superblock) error {
	size := int64(super.Segments) * super.Segment
	opts := Options{}
	opts.fill()
	copied := *super
	c.v = newVolume(&Store{opts: opts}, Disk{FS: c.fs, Size: size}, &copied)
	if err := c.v.openFiles(); err != nil {
		return err
	}
	return c.v.readTable()
}

func (c *checker) checkAll() error {
	c.v.resumed = c.v.resumable(c.v.super.Epoch)
	c.v.arrange(c.v.super.Epoch)
	c.v.first = math.MaxUint64 // none is of this run
	c.sum.Segments, c.sum.Free = len(c.v.seqs), len(c.v.places.free)
	if err := c.checkTable(); err != nil {
		return err
	}
	if err := c.checkCheckpoints(); err != nil {
		return err
	}
	if err := c.v.restore(); err != nil {
		return err
	}
	for _, place := range c.v.places.live {
		lines, _, sealed, err := c.v.linesIn(place, c.v.seqs[place].Load())
		if err != nil {
			return err
		}
		if !sealed {
			c.sum.Unsealed++
		}
		c.checkLines(place, lines)
	}
	if c.v.resumed != nil {
		c.checkLines(c.v.resumed.place, c.v.resumed.lines)
	}
	return nil
}

func (c *checker) checkLines(place int, lines []line) {
	for _, l := range lines {
		c.checkLine(place, l)
	}
}

func (c *checker) checkTable() error {
	b := make([]byte, len(c.v.seqs)*unit)
	if n, err := c.v.table.ReadAt(b, 0); n < len(b) {
		return err
	}
	for place := range c.v.seqs {
		if sector := b[place*unit:][:unit]; damagedSector(sector, place, c.v.key) {
			c.found(tableName, int64(place)*unit, "it does not say what is in segment %d", place)
		}
	}
	return nil
}

func (c *checker) checkCheckpoints() error {
	names, err := checkpoints(c.fs)
	if err != nil {
		return err
	}
	for _, name := range names {
		_, r, f, err := openCheckpoint(c.fs, name, c.v.key, c.v.segment)
		if err == nil {
			err = index.New(index.Options{}).Load(r, func(index.Ref) bool { return false })
			f.Close()
		}
		if err != nil {
			c.found(name, 0, "the saved index is of no use: %v", err)
		}
	}
	return nil
}

// checkLine verifies the object of l, if the index leads there.
func (c *checker) checkLine(place int, l line) {
	at, ok := c.v.placeOf(l.addr)
	if l.kind != kindObject || !ok || at != place ||
		!slices.ContainsFunc(c.v.index.Find(l.hash, nil), func(r index.Ref) bool { return r.Addr == l.addr }) {
		return
	}
	h, octets := c.v.wholeRecord(c.v.life, l.addr, c.v.seqs[place].Load())
	if octets == nil || h.kind != kindObject || h.hash != l.hash || c.v.key.sum(octets[headerLen:h.killsAt()]) != l.hash {
		c.spoiled(l, "the record is damaged")
		return
	}
	if h.pieces > 0 && !c.checkPieces(l, &h, octets) {
		return
	}
	c.sum.Objects++
	c.sum.Octets += h.size
}

// checkPieces verifies a body that lies in other records.
func (c *checker) checkPieces(l line, h *header, octets []byte) bool {
	pieces, ok := parsePieces(octets[h.piecesAt():h.sumsAt()], h.size)
	if !ok {
		c.spoiled(l, "the list of pieces is damaged")
		return false
	}
	for _, p := range pieces {
		if c.v.seqAt(p.addr) != p.seq {
			c.sum.Gone++
			c.bad = append(c.bad, l)
			return false
		}
		if err := c.checkPiece(p); err != nil {
			c.spoiled(l, "the piece of its body at %d is damaged: %v", int64(p.addr)*unit, err)
			return false
		}
	}
	return true
}

// spoiled says what is wrong with the object of l.
func (c *checker) spoiled(l line, format string, args ...any) {
	c.bad = append(c.bad, l)
	c.found(segmentsName, int64(l.addr)*unit, "entry %d: "+format, append([]any{l.id}, args...)...)
}

// checkPiece reads all blocks of p.
func (c *checker) checkPiece(p piece) error {
	b := body{v: c.v, size: p.size, parts: []part{{size: p.size, addr: p.addr, seq: p.seq}}}
	var room []byte
	for off := int64(0); off < p.size; {
		block, err := b.block(c.v.life, off, room)
		if err != nil {
			return err
		}
		off += int64(len(block))
		room = block[:0]
	}
	return nil
}

// repair forgets what is bad. It goes on with the epoch of the last run, so that
// other disks of the same store do not take notice.
func (c *checker) repair(super *superblock) error {
	opts := Options{}
	opts.fill()
	s := &Store{opts: opts}
	s.sets.Store(newSets([]set{{}})) // all entries count
	v := newVolume(s, Disk{FS: c.fs, Size: int64(super.Segments) * super.Segment}, super)
	if err := v.openFiles(); err != nil {
		return err
	}
	if err := v.reopen(super.Epoch); err != nil {
		v.die()
		v.release()
		return err
	}
	v.start()
	defer func() {
		if v.isOut() {
			<-v.disowned // or it would be written to when the lock is gone
		}
	}()
	select {
	case <-v.ready:
	case <-v.out:
	}
	for _, l := range c.bad {
		if err := v.condemn(l); err != nil {
			return errors.Join(err, v.close())
		}
	}
	return v.close()
}

// reopen makes the volume ready to start in an epoch that it had before.
func (v *volume) reopen(epoch uint64) error {
	names, err := checkpoints(v.fs)
	if err != nil {
		return err
	}
	if len(names) > 0 {
		newest, _ := strconv.ParseUint(strings.TrimPrefix(names[0], indexPrefix), 16, 64) // it was one
		v.saved = newest & (1<<seqShift - 1)
	}
	if err := v.readTable(); err != nil {
		return err
	}
	v.resumed = v.resumable(epoch)
	v.arrange(epoch)
	for place := range v.seqs {
		v.places.next = max(v.places.next, v.seqs[place].Load()+1)
	}
	v.first = v.places.next
	return writeSuper(v.fs, v.super)
}

// condemn takes the object of l out of the index for good.
func (v *volume) condemn(l line) error {
	return v.insist(v.life, func() error {
		defer v.lock(l.hash).Unlock()
		return v.kill([]kill{{l.hash, l.id, l.addr}})
	})
}
