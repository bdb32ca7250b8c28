package disk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/internal/flow"
)

var errEnded = errors.New("store/disk: the writer was already committed or aborted")

// stageMax is how much of a body of unknown length is kept in memory before it
// goes to the disk in chunks, in octets.
const stageMax = 128 << 10

// Lengths of chunks in octets: a large body begins with the first, and doubles
// every so often.
const (
	firstChunk = 256 << 10
	chunkEvery = 8
)

// A writer is an entry in the making. Its last octets are in memory: all of a
// short body, and up to one block of one that is being written in chunks.
type writer struct {
	s        *Store
	v        *volume
	hash     uint64
	key      store.Key
	head     store.Head
	declared int64 // length of the body, or negative

	// Of an entry that comes from memory: its names, and that nobody may wait.
	id    store.ID
	rev   uint32
	hasty bool

	// Of the one goroutine that writes.
	failed error // why Commit must fail
	length int64 // of what was taken, seen or not
	chunk  chunk // being written

	mu     sync.Mutex
	parts  []part // of what is on disk; the last may grow
	stored int64  // octets of parts
	tail   []byte // what follows; never changed, only appended to
	size   int64  // octets that readers may see
	users  int    // readers, and the writer until it ended; parts are pinned meanwhile

	progress flow.Progress
}

// A chunk is a piece of a body in the making. Its header is written last.
type chunk struct {
	addr, seq uint64
	room      int64 // octets of the body that it can hold
	size      int64 // octets in it
	sums      []uint32
	begun     int // how many chunks came before
}

var _ store.Writer = (*writer)(nil)

// Write implements store.Writer.
func (w *writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	over := w.progress.Over()
	w.mu.Unlock()
	length := w.length + int64(len(p))
	switch {
	case over == store.ErrClosed:
		return 0, over
	case over != nil:
		return 0, errEnded
	case w.failed != nil:
		return 0, w.failed
	case len(p) == 0:
		return 0, nil
	case w.declared >= 0 && length > w.declared:
		w.failed = fmt.Errorf("store/disk: the body is longer than the %d octets declared", w.declared)
	case length > w.s.maxObject:
		w.failed = store.ErrFull
	default:
		w.failed = w.take(p)
	}
	if w.failed != nil {
		return 0, w.failed
	}
	w.length = length
	w.mu.Lock()
	defer w.mu.Unlock()
	w.size = length
	w.progress.Move()
	return len(p), nil
}

// staged says whether the body stays in memory until Commit if it has so many
// octets.
func (w *writer) staged(length int64) bool {
	if w.stored > 0 || w.chunk.room > 0 {
		return false
	}
	if w.declared >= 0 {
		return w.declared <= w.v.bodyMax
	}
	return length <= min(stageMax, w.v.bodyMax)
}

// take appends p to the tail, and moves whole blocks of it to the disk.
func (w *writer) take(p []byte) error {
	if w.staged(w.length + int64(len(p))) {
		w.extend(p, max(w.declared, 0))
		return nil
	}
	for len(w.tail) >= blockLen { // staged until now
		if err := w.store(w.tail[:blockLen:blockLen]); err != nil {
			return err
		}
	}
	for len(p) > 0 {
		n := min(len(p), blockLen-len(w.tail))
		w.extend(p[:n], blockLen)
		p = p[n:]
		if len(w.tail) == blockLen {
			if err := w.store(w.tail); err != nil {
				return err
			}
		}
	}
	return nil
}

// extend appends p to the tail, which is to have room for so many octets.
func (w *writer) extend(p []byte, room int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.tail == nil && room > 0 {
		w.tail = make([]byte, 0, room)
	}
	w.tail = append(w.tail, p...)
}

// store moves the first octets of the tail, one block at most, to the disk. They
// belong to the log from then on.
func (w *writer) store(octets []byte) error {
	for len(octets) > 0 {
		if w.chunk.size == w.chunk.room {
			if err := w.nextChunk(); err != nil {
				return err
			}
		}
		n := min(int64(len(octets)), w.chunk.room-w.chunk.size)
		if err := w.storeIn(octets[:n:n]); err != nil {
			return err
		}
		octets = octets[n:]
	}
	return nil
}

// storeIn puts a block into the chunk.
func (w *writer) storeIn(block []byte) error {
	c := &w.chunk
	off := int64(c.addr)*unit + unit + c.size
	padding := block
	if n := padded(int64(len(block))); n > int64(len(block)) {
		padding = append(make([]byte, 0, n), block...)[:n]
	}
	if err := w.v.write(off, padding, w.hasty); err != nil {
		return err
	}
	c.sums = append(c.sums, sumOf(block))
	c.size += int64(len(block))

	w.mu.Lock()
	defer w.mu.Unlock()
	last := &w.parts[len(w.parts)-1]
	last.size, last.sums = c.size, c.sums
	w.stored += int64(len(block))
	w.tail = w.tail[len(block):]
	if len(w.tail) == 0 {
		w.tail = nil
	}
	return nil
}

// nextChunk ends the chunk, if there is one, and begins another.
func (w *writer) nextChunk() error {
	if err := w.endChunk(); err != nil {
		return err
	}
	c := chunk{begun: w.chunk.begun + 1}
	want := min(int64(firstChunk)<<min(c.begun/chunkEvery, 20), w.v.chunkMax)
	if w.declared >= 0 {
		want = min(want, w.declared-w.stored)
	}
	var err error
	c.addr, c.seq, c.room, err = w.v.reserveChunk(want, w.hasty)
	if err != nil {
		return err
	}
	w.chunk = c
	w.mu.Lock()
	defer w.mu.Unlock()
	w.parts = append(w.parts, part{at: w.stored, addr: c.addr, seq: c.seq, data: int64(c.addr)*unit + unit})
	return nil
}

// endChunk writes the header of the chunk, and gives back what it has no use for.
func (w *writer) endChunk() error {
	c := &w.chunk
	if c.size == 0 {
		return nil
	}
	h := header{kind: kindChunk, seq: c.seq, addr: c.addr, size: c.size, blocks: uint32(len(c.sums))}
	b := make([]byte, unit)
	for i, sum := range c.sums {
		binary.LittleEndian.PutUint32(b[headerLen+4*i:], sum)
	}
	h.tableSum = sumOf(b[headerLen : headerLen+4*len(c.sums)])
	h.put(b, w.v.key)
	w.v.giveBack(c.addr, unit+padded(c.room), unit+padded(c.size))
	return w.v.write(int64(c.addr)*unit, b, w.hasty)
}

// Commit implements store.Writer. ErrFull: the disk does not keep up with what is
// committed, or is out; then there is nothing left to do but Abort.
func (w *writer) Commit(ctx context.Context, replaces ...store.ID) (store.Entry, error) {
	w.mu.Lock()
	over := w.progress.Over()
	w.mu.Unlock()
	switch {
	case over == store.ErrClosed:
		return store.Entry{}, over
	case over != nil:
		return store.Entry{}, errEnded
	}
	var e store.Entry
	err := w.complete()
	if err == nil {
		e, err = w.commit(ctx, replaces)
	}
	if err != nil {
		if w.failed == nil {
			w.failed = err
		}
		return store.Entry{}, err
	}
	w.end(nil)
	return e, nil
}

// complete says why the body cannot be committed.
func (w *writer) complete() error {
	switch {
	case w.failed != nil:
		return fmt.Errorf("store/disk: commit of an incomplete body: %w", w.failed)
	case w.declared >= 0 && w.length != w.declared:
		return fmt.Errorf("store/disk: commit of %d octets where %d were declared: %w", w.length, w.declared, io.ErrUnexpectedEOF)
	}
	return nil
}

func (w *writer) commit(ctx context.Context, replaces []store.ID) (store.Entry, error) {
	c := &change{key: w.key, hash: w.hash, head: w.head, id: w.id, rev: w.rev, size: w.length, replaces: replaces}
	if w.staged(w.length) {
		c.body = w.tail
	} else {
		if err := w.store(w.tail); err != nil {
			return store.Entry{}, full(err)
		}
		if err := w.endChunk(); err != nil {
			return store.Entry{}, full(err)
		}
		w.chunk.size = 0 // it is ended
		for _, p := range w.parts {
			c.pieces = append(c.pieces, piece{p.addr, p.seq, p.size})
		}
	}
	e, err := w.v.commit(ctx, c, w.s.NextID)
	if err == nil && len(replaces) > 0 {
		// What was replaced may lie on a disk that is out. The entry is there,
		// whatever becomes of this wait.
		_ = w.s.told(context.WithoutCancel(ctx))
	}
	return e, full(err)
}

// full is what a caller that cannot do without an answer is told of a disk that
// went out.
func full(err error) error {
	if errors.Is(err, errOut) {
		return store.ErrFull
	}
	return err
}

// Abort implements store.Writer.
func (w *writer) Abort(cause error) { w.end(cause) }

// end lets readers finish: with io.EOF if cause is nil.
func (w *writer) end(cause error) {
	w.mu.Lock()
	first := w.progress.End(cause)
	w.mu.Unlock()
	if first {
		w.s.forget(w)
		w.leave()
	}
}

// leave unpins the chunks when the last user goes.
func (w *writer) leave() {
	w.mu.Lock()
	w.users--
	last := w.users == 0
	parts := w.parts
	w.mu.Unlock()
	if !last {
		return
	}
	for _, p := range parts {
		w.v.unpin(p.seq)
	}
	w.v.release()
}

// enter pins the chunks again if the last user had gone. ErrGone: too late.
func (w *writer) enter() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.users > 0 {
		w.users++
		return nil
	}
	for i, p := range w.parts {
		if !w.v.pin(p.addr, p.seq) {
			for _, p := range w.parts[:i] {
				w.v.unpin(p.seq)
			}
			return store.ErrGone
		}
	}
	w.users++
	w.v.hold()
	return nil
}

// Open implements store.Writer. It works as well after Commit or Abort, but then
// a body that was written in chunks may be gone: ErrGone.
func (w *writer) Open(ctx context.Context, off int64) (io.ReadCloser, error) {
	if off < 0 {
		return nil, errOffset
	}
	if w.s.closed.Load() {
		return nil, store.ErrClosed
	}
	if err := w.enter(); err != nil {
		return nil, err
	}
	return &follower{ctx: ctx, writer: w, off: off}, nil
}

// A follower reads a body from its writer, and waits at the end for more.
type follower struct {
	ctx    context.Context
	writer *writer
	closed atomic.Bool

	off   int64  // of what follows block
	block []byte // to be handed out next
}

// Next implements flow.Source: it waits until there is something.
func (f *follower) Next() ([]byte, error) {
	if f.closed.Load() {
		return nil, errReading
	}
	if len(f.block) > 0 {
		return f.block, nil
	}
	var err error
	if f.block, err = flow.Follow(f.ctx, f.from); err != nil {
		f.block = nil
		return nil, err
	}
	f.off += int64(len(f.block))
	return f.block, nil
}

// from returns what follows at off, or why nothing will, or a channel: see flow.Follow.
func (f *follower) from() (piece []byte, moved <-chan struct{}, err error) {
	w := f.writer
	w.mu.Lock()
	switch over := w.progress.Over(); {
	case f.off >= w.size && over != nil:
		w.mu.Unlock()
		return nil, nil, over
	case f.off >= w.size:
		defer w.mu.Unlock()
		return nil, w.progress.Moved(), nil
	case f.off >= w.stored:
		octets := w.tail[f.off-w.stored : w.size-w.stored]
		w.mu.Unlock()
		return octets[:len(octets):len(octets)], nil, nil
	}
	b := body{v: w.v, size: w.stored, parts: w.parts}
	p := w.parts[b.find(f.off)]
	seen := w.size
	w.mu.Unlock()
	b.parts = []part{p}
	octets, err := b.block(f.ctx, f.off, nil)
	if err == nil && int64(len(octets)) > seen-f.off {
		octets = octets[:seen-f.off]
	}
	return octets, nil, err
}

// Advance implements flow.Source.
func (f *follower) Advance(n int) { f.block = f.block[n:] }

func (f *follower) Read(p []byte) (int, error) { return flow.Read(f, p) }

func (f *follower) WriteTo(to io.Writer) (int64, error) { return flow.WriteTo(f, to) }

func (f *follower) Close() error {
	if f.closed.CompareAndSwap(false, true) {
		f.writer.leave()
	}
	return nil
}
