package disk

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"slices"
	"sync"

	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/internal/flow"
)

var (
	errOffset  = errors.New("store/disk: negative offset")
	errReading = errors.New("store/disk: read after Close of the reader")
	errDamaged = errors.New("store/disk: the octets on disk are not those that were written")
)

// A part is a run of octets of a body that lies in one record.
type part struct {
	at   int64 // of its first octet, in the body
	size int64
	addr uint64 // of the record
	seq  uint64 // of its segment

	// Known from the start for some, read from the record for others.
	data int64    // offset of the octets in the file
	sums []uint32 // of its blocks
}

// A body is where the octets of a body lie. Any number of goroutines may read it.
type body struct {
	v    *volume
	size int64

	mu    sync.Mutex
	parts []part
}

// bodyOf returns the body of r.
func (v *volume) bodyOf(ctx context.Context, r *record) (*body, error) {
	b := &body{v: v, size: r.size}
	if r.size == 0 {
		return b, nil
	}
	table, said, err := v.partOf(ctx, r, r.killsAt(), r.headAt()-r.killsAt())
	if err != nil || sumOf(table) != r.tableSum {
		return nil, v.lose(r, said, err)
	}
	if r.pieces == 0 {
		sums := parseSums(table[r.sumsAt()-r.killsAt():])
		b.parts = []part{{size: r.size, addr: r.addr, seq: r.seq, data: r.at(r.bodyAt()), sums: sums}}
		return b, nil
	}
	pieces, ok := parsePieces(table[r.piecesAt()-r.killsAt():r.sumsAt()-r.killsAt()], r.size)
	if !ok {
		return nil, v.lose(r, damaged, nil)
	}
	at := int64(0)
	for _, p := range pieces {
		if v.seqAt(p.addr) != p.seq {
			return nil, v.lose(r, gone, nil)
		}
		b.parts = append(b.parts, part{at: at, size: p.size, addr: p.addr, seq: p.seq})
		at += p.size
	}
	return b, nil
}

// find returns the part that has the octet at off.
func (b *body) find(off int64) int {
	i, _ := slices.BinarySearchFunc(b.parts, off, func(p part, off int64) int {
		if off < p.at {
			return 1
		}
		if off >= p.at+p.size {
			return -1
		}
		return 0
	})
	return i
}

// segments returns the segments that hold the octets [off, end), each once.
func (b *body) segments(off, end int64) []part {
	var all []part
	for _, p := range b.parts[b.find(off):] {
		if p.at >= end {
			break
		}
		if len(all) == 0 || all[len(all)-1].seq != p.seq {
			all = append(all, p)
		}
	}
	return all
}

// pin keeps [off, end) readable until the result is called. It reports false if
// some of it is gone.
func (b *body) pin(off, end int64) (unpin func(), ok bool) {
	var pinned []part
	unpin = func() {
		for _, p := range pinned {
			b.v.unpin(p.seq)
		}
	}
	for _, p := range b.segments(off, end) {
		if !b.v.pin(p.addr, p.seq) {
			unpin()
			return nil, false
		}
		pinned = append(pinned, p)
	}
	return unpin, true
}

// part returns the part that has the octet at off, with its sums.
func (b *body) part(ctx context.Context, off int64) (part, error) {
	b.mu.Lock()
	i := b.find(off)
	p := b.parts[i]
	b.mu.Unlock()
	if p.sums != nil {
		return p, nil
	}
	if err := b.v.locate(ctx, &p); err != nil {
		return part{}, err
	}
	b.mu.Lock()
	b.parts[i] = p
	b.mu.Unlock()
	return p, nil
}

// locate finds the octets and sums of p in its record.
func (v *volume) locate(ctx context.Context, p *part) error {
	r := record{start: make([]byte, unit)}
	if _, err := v.readRecord(ctx, r.start, int64(p.addr)*unit); err != nil {
		return err
	}
	h, ok := parseHeader(r.start, v.key, v.limitAt(p.addr))
	if !ok || h.addr != p.addr || h.seq != p.seq || h.size != p.size || h.kind == kindTombstone || h.pieces > 0 {
		return errDamaged
	}
	r.header = h
	from, n := h.killsAt(), h.headAt()-h.killsAt() // all three lists, for their sum
	if h.kind == kindChunk {
		from, n = headerLen, int64(h.blocks)*4
	}
	table, _, err := v.partOf(ctx, &r, from, n)
	if err != nil {
		return err
	}
	if sumOf(table) != h.tableSum {
		return errDamaged
	}
	p.data, p.sums = h.at(h.bodyAt()), parseSums(table[n-int64(h.blocks)*4:])
	return nil
}

// block reads and verifies the block that has the octet at off, into room if
// that is large enough, and returns what follows there from off on. After an
// error room must not be used again.
func (b *body) block(ctx context.Context, off int64, room []byte) ([]byte, error) {
	return b.blocks(ctx, off, off+1, room)
}

// blocks is block for as many blocks up to end as follow each other on disk and
// have room together.
func (b *body) blocks(ctx context.Context, off, end int64, room []byte) ([]byte, error) {
	p, err := b.part(ctx, off)
	if err != nil {
		return nil, err
	}
	first := (off - p.at) / blockLen
	at := first * blockLen
	most := max(int64(cap(room))/blockLen, 1)
	n := min(min(blocksOf(end-p.at-at), most)*blockLen, p.size-at)
	if int64(cap(room)) < n {
		room = make([]byte, n)
	}
	room = room[:n]
	if err := b.v.readAt(ctx, room, p.data+at); err != nil {
		return nil, err
	}
	if !verifyBlocks(room, p.sums[first:first+blocksOf(n)]) {
		return nil, errDamaged
	}
	return room[off-p.at-at:], nil
}

// ReadAt implements io.ReaderAt.
func (b *body) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errOffset
	}
	for n < len(p) {
		if off >= b.size {
			return n, io.EOF
		}
		block, err := b.block(context.Background(), off, nil)
		if err != nil {
			return n, err
		}
		m := copy(p[n:], block)
		n, off = n+m, off+int64(m)
	}
	return n, nil
}

// windowLen is how much of a long body is read at once, in octets.
const windowLen = 128 << 10

// A reader reads a part of a committed body.
type reader struct {
	body   *body // nil if all there is to read is in block
	record record
	served int
	whole  []byte // the body, if it was read in one

	mu    sync.Mutex // held while it reads
	off   int64      // of what follows block
	end   int64
	block []byte // verified, to be handed out next
	room  *room
	done  func() // nil after Close
}

// openBody returns a reader of n octets of r from off; n < 0 means to the end. What
// comes first is read here, so that damage to it is nobody's but the store's. The
// room of r is the reader's from now on.
func (v *volume) openBody(ctx context.Context, r *record, off, n int64) (*reader, error) {
	rd := &reader{record: *r, served: int(r.ref.Hits), done: func() {}}
	r.start, r.room = nil, nil
	if left := max(r.size-off, 0); n < 0 || n > left {
		n = left
	}
	if n == 0 {
		rd.record.let()
		v.touch(rd)
		return rd, nil
	}
	if !v.pin(r.addr, r.seq) {
		return nil, store.ErrGone
	}
	defer v.unpin(r.seq)
	var err error
	if r.pieces == 0 && r.size <= blockLen {
		err = v.openBlock(ctx, rd, off, n)
	} else {
		err = v.openLong(ctx, rd, off, n)
	}
	if err != nil {
		return nil, err
	}
	v.touch(rd)
	return rd, nil
}

// touch counts a use of what rd reads.
func (v *volume) touch(rd *reader) {
	v.index.Touch(rd.record.hash, rd.record.addr)
	v.tally.hits.Add(1)
}

// openBlock reads a body of one block, all of it. The record is pinned until it
// returns, and not needed any more then.
func (v *volume) openBlock(ctx context.Context, rd *reader, off, n int64) error {
	r := &rd.record
	table, said, err := v.partOf(ctx, r, r.killsAt(), r.headAt()-r.killsAt())
	if err != nil || sumOf(table) != r.tableSum {
		return v.lose(r, said, err)
	}
	from := r.bodyAt()
	if end := from + r.size; end <= int64(len(r.start)) {
		rd.whole = r.start[from:end]
	} else {
		rd.room = takeRoom(r.size)
		rd.whole = rd.room.octets[:r.size]
		if err := v.readAt(ctx, rd.whole, r.at(from)); err != nil {
			v.distrust(r, r.addr, r.seq, err)
			return unopened(ctx)
		}
	}
	if sumOf(rd.whole) != binary.LittleEndian.Uint32(table[r.sumsAt()-r.killsAt():]) {
		v.distrust(r, r.addr, r.seq, errDamaged)
		return unopened(ctx)
	}
	rd.block = rd.whole[off : off+n]
	return nil
}

// openLong finds where the body lies, and reads what is wanted first.
func (v *volume) openLong(ctx context.Context, rd *reader, off, n int64) error {
	b, err := v.bodyOf(ctx, &rd.record)
	if err != nil {
		return err
	}
	unpin, ok := b.pin(off, off+n)
	if !ok {
		return store.ErrGone
	}
	rd.record.let()
	v.hold()
	rd.body, rd.off, rd.end = b, off, off+n
	rd.done = func() { unpin(); v.release() }
	if _, err := rd.next(ctx); err != nil {
		rd.done()
		return unopened(ctx)
	}
	return nil
}

// unopened is what the caller of Open is told if the body could not be read.
func unopened(ctx context.Context) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return store.ErrGone
}

// distrust takes r out of the index if err says that what was read of its body, in
// the segment seq at addr, was damaged or unreadable, and not only reclaimed.
func (v *volume) distrust(r *record, addr, seq uint64, err error) {
	if errors.Is(err, errDamaged) && v.intact(addr, seq) {
		v.drop(r.hash, r.addr, r.seq, damaged)
	} else if errors.Is(err, errRead) {
		v.drop(r.hash, r.addr, r.seq, unread)
	}
}

// Served implements Served.
func (r *reader) Served() int { return r.served }

// Size implements Served.
func (r *reader) Size() int64 { return r.record.size }

// Whole implements Served.
func (r *reader) Whole(key store.Key) (store.Object, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := &r.record
	if r.whole == nil || r.done == nil || rec.bodyAt() > int64(len(rec.start)) {
		return store.Object{}, false
	}
	head := rec.start[rec.headAt():rec.bodyAt()]
	return store.Object{
		Key: key, ID: rec.id, Rev: rec.rev, Head: store.Head{Octets: head, Until: rec.until},
		Size: rec.size, Body: store.Octets(r.whole), Mark: mark(rec.addr, rec.seq),
	}, sumOf(head) == rec.headSum
}

// Next implements flow.Source, under mu, and store.Pinned.
func (r *reader) Next() ([]byte, error) { return r.next(context.Background()) }

// next is Next for as long as ctx lasts. The caller holds mu, or is the only one
// that knows r.
func (r *reader) next(ctx context.Context) ([]byte, error) {
	switch {
	case r.done == nil:
		return nil, errReading
	case len(r.block) > 0:
		return r.block, nil
	case r.off >= r.end:
		return nil, io.EOF
	}
	if r.room == nil {
		r.room = takeRoom(min(windowLen, blocksOf(r.end-r.off)*blockLen))
	}
	block, err := r.body.blocks(ctx, r.off, r.end, r.room.octets)
	if err != nil {
		r.room = nil // somebody may go on writing to it
		addr, seq := r.body.place(r.off)
		r.body.v.distrust(&r.record, addr, seq, err)
		return nil, err
	}
	r.block = block[:min(int64(len(block)), r.end-r.off)]
	r.off += int64(len(r.block))
	return r.block, nil
}

// place returns where the octet at off lies: an address, and its segment.
func (b *body) place(off int64) (addr, seq uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := &b.parts[b.find(off)]
	return p.addr, p.seq
}

// Advance implements flow.Source and store.Pinned.
func (r *reader) Advance(n int) { r.block = r.block[n:] }

// File implements store.Pinned: what is in the file may change there after it was
// verified.
func (r *reader) File() (f *os.File, off, n int64) { return nil, 0, 0 }

func (r *reader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return flow.Read(r, p)
}

func (r *reader) WriteTo(to io.Writer) (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return flow.WriteTo(r, to)
}

func (r *reader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done != nil {
		r.done()
		r.room.give()
		r.record.let()
		r.done, r.whole, r.block, r.room = nil, nil, nil, nil
	}
	return nil
}
