package memory

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/larderhq/larder/store"
)

// A writer is an entry in the making. Its octets stay readable through it for
// as long as somebody keeps the Writer; they are charged while it is not
// ended, while the entry is stored, and while a reader is open.
type writer struct {
	object   *object
	hash     uint64
	key      []byte
	head     []byte
	declared int64 // length of the body, or negative

	// Of the one goroutine that writes.
	room   int64 // capacity of the chunks
	failed error // why Commit must fail

	mu    sync.Mutex // also guards object.chunks until the writer ended
	size  int64      // octets that readers may see
	ended bool
	cause error         // why it ended; nil after a Commit
	wake  chan struct{} // closed when size or ended changes; nil if nobody waits
}

var _ store.Writer = (*writer)(nil)

// Write implements store.Writer. More octets than were declared are refused
// as well. After a refusal the writer takes no more and cannot be committed.
func (w *writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	ended, cause := w.ended, w.cause
	w.mu.Unlock()
	switch {
	case ended && cause == store.ErrClosed:
		return 0, cause
	case ended:
		return 0, errEnded
	case w.failed != nil:
		return 0, w.failed
	case len(p) == 0:
		return 0, nil
	}
	size := w.size + int64(len(p))
	if w.declared >= 0 && size > w.declared {
		w.failed = fmt.Errorf("store/memory: the body is longer than the %d octets declared", w.declared)
		return 0, w.failed
	}
	s := w.object.shard.store
	if size > s.maxObject || !w.reserve(size) {
		w.failed = store.ErrFull
		return 0, w.failed
	}
	w.fill(p)
	return len(p), nil
}

// reserve charges the chunks that a body of size octets needs beyond those it
// has.
func (w *writer) reserve(size int64) bool {
	var charge int64
	for room := w.room; room < size; {
		n := chunkLen(room, size-room, w.declared, w.object.shard.store.maxObject)
		charge += allot(int(n))
		room += n
	}
	if charge > 0 && !w.object.shard.store.reserve(charge, 0) {
		return false
	}
	w.object.charge += charge
	return true
}

// fill appends p, for which reserve found room. Octets are copied without the
// lock: readers do not look beyond the length of a chunk as they saw it.
func (w *writer) fill(p []byte) {
	o := w.object
	s := o.shard.store
	size := w.size + int64(len(p))
	var tail []byte
	old := len(o.chunks) - 1
	if old >= 0 {
		tail = o.chunks[old]
		n := min(len(p), int(w.room-w.size))
		tail = append(tail, p[:n]...)
		p = p[n:]
	}
	var fresh [][]byte
	for len(p) > 0 {
		n := int(chunkLen(w.room, int64(len(p)), w.declared, s.maxObject))
		chunk := newChunk(n)
		spare := allot(n) - int64(cap(chunk))
		s.release(spare)
		o.charge -= spare
		w.room += int64(n)
		n = min(n, len(p))
		fresh = append(fresh, append(chunk, p[:n]...))
		p = p[n:]
	}

	w.mu.Lock()
	defer w.mu.Unlock()
	if old >= 0 {
		o.chunks[old] = tail
	}
	o.chunks = append(o.chunks, fresh...)
	w.size = size
	w.broadcast()
}

// broadcast wakes the readers that wait. The caller holds w.mu.
func (w *writer) broadcast() {
	if w.wake != nil {
		close(w.wake)
		w.wake = nil
	}
}

// end lets readers finish: with io.EOF if cause is nil.
func (w *writer) end(cause error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ended {
		w.ended, w.cause = true, cause
		w.broadcast()
	}
}

// Commit implements store.Writer. It fails, which is an Abort, if a Write
// failed or if the body is not as long as Create was told.
func (w *writer) Commit(_ context.Context, replaces ...store.ID) (store.Entry, error) {
	o, sh := w.object, w.object.shard
	sh.mu.Lock()
	_, live := sh.writers[w]
	var err error
	switch {
	case sh.closed:
		err = store.ErrClosed
	case !live:
		err = errEnded
	case w.failed != nil:
		err = fmt.Errorf("store/memory: commit of an incomplete body: %w", w.failed)
	case w.declared >= 0 && w.size != w.declared:
		err = fmt.Errorf("store/memory: commit of %d octets where %d were declared: %w", w.size, w.declared, io.ErrUnexpectedEOF)
	}
	if err != nil {
		sh.mu.Unlock()
		w.Abort(err)
		return store.Entry{}, err
	}
	delete(sh.writers, w)
	o.size = w.size
	e := sh.link(o, w.hash, w.key, w.head, replaces)
	sh.mu.Unlock()
	w.end(nil)
	sh.unpin(o)
	return e, nil
}

// Abort implements store.Writer.
func (w *writer) Abort(cause error) {
	sh := w.object.shard
	sh.mu.Lock()
	_, live := sh.writers[w]
	delete(sh.writers, w)
	sh.mu.Unlock()
	if live {
		w.end(cause)
		sh.unpin(w.object)
	}
}

// Open implements store.Writer. It works as well after Commit or Abort, also
// when the entry was forgotten since; ErrFull says that its octets had been
// given back by then and there is no room to read them. The reader is an
// io.WriterTo, like that of Store.Open.
func (w *writer) Open(ctx context.Context, off int64) (io.ReadCloser, error) {
	if off < 0 {
		return nil, errOffset
	}
	o, sh := w.object, w.object.shard
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.closed {
		return nil, store.ErrClosed
	}
	for o.freed {
		sh.mu.Unlock()
		ok := sh.store.reserve(o.charge, 0)
		sh.mu.Lock()
		switch {
		case !ok:
			return nil, store.ErrFull
		case o.freed:
			o.freed = false
		default:
			sh.store.release(o.charge) // somebody else was first
		}
	}
	sh.pin(o)
	return &follower{ctx: ctx, writer: w, off: off}, nil
}
