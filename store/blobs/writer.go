package blobs

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/internal/flow"
)

const (
	// leastRoom is what a body of unknown length has room for at first, and
	// mostRoom what one has for the asking: an origin may promise more than it
	// sends. In octets.
	leastRoom = 2 << 10
	mostRoom  = 64 << 10
)

// A writer is an entry in the making: the value of its body, of which the seal is
// filled in at the end.
type writer struct {
	store    *Store
	place    *place
	head     []byte
	until    int64
	front    int64 // where the body begins in value
	declared int64 // length of the body, or negative

	// Of the one goroutine that writes.
	failed error // why Commit must fail

	mu       sync.Mutex
	value    []byte // followers keep what they saw of the one before
	progress flow.Progress
}

var _ store.Writer = (*writer)(nil)

func newWriter(s *Store, p *place, h store.Head, size int64) *writer {
	w := &writer{
		store:    s,
		place:    p,
		head:     slices.Clone(h.Octets),
		until:    h.Until,
		front:    bodyAt(p.label),
		declared: size,
	}
	room := int64(leastRoom)
	if size >= 0 {
		room = min(size, mostRoom)
	}
	w.value = appendBodySeal(make([]byte, 0, w.front+room), p.label)
	return w
}

// Write implements store.Writer. More octets than were declared are refused as
// well. After a refusal the writer takes no more and cannot be committed.
func (w *writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	over := w.progress.Over()
	switch {
	case over == store.ErrClosed:
		return 0, over
	case over != nil:
		return 0, errEnded
	case w.failed != nil:
		return 0, w.failed
	case len(p) == 0:
		return 0, nil
	}
	size := int64(len(w.value)) + int64(len(p))
	if w.declared >= 0 && size-w.front > w.declared {
		w.failed = fmt.Errorf("store/blobs: the body is longer than the %d octets declared", w.declared)
		return 0, w.failed
	}
	if size > w.store.maxValue {
		w.failed = store.ErrFull
		return 0, w.failed
	}
	w.grow(size)
	w.value = append(w.value, p...)
	w.progress.Move()
	return len(p), nil
}

// grow makes room for a value of size octets, which it may be.
func (w *writer) grow(size int64) {
	have := int64(cap(w.value))
	if size <= have {
		return
	}
	most := w.store.maxValue
	if w.declared >= 0 {
		most = w.front + w.declared
	}
	w.value = append(make([]byte, 0, min(max(2*have, size), most)), w.value...)
}

// seal returns the value of the body of r, which is that of the writer, and says
// in r how long it is. The backend may keep it for long, so it has no room to
// spare.
func (w *writer) seal(r *record) []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.value); cap(w.value)-n > n/8 {
		w.value = append(make([]byte, 0, n), w.value...)
	}
	r.size = int64(len(w.value)) - w.front
	sealBody(w.value, w.place.label, r)
	return w.value
}

// end lets followers finish: with io.EOF if cause is nil.
func (w *writer) end(cause error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.progress.End(cause)
}

// Commit implements store.Writer. It fails if a Write failed, if the body is not
// as long as Create was told, or if the backend goes on showing what is replaced.
// What a backend loses at once was committed, and forgotten.
func (w *writer) Commit(ctx context.Context, replaces ...store.ID) (store.Entry, error) {
	s := w.store
	if err := s.enter(ctx); err != nil {
		return store.Entry{}, err
	}
	defer s.leave()
	if err := w.ready(); err != nil {
		return store.Entry{}, err
	}
	w.failed = errEnded // for good if the backend panics: it may have the value
	e, err := s.add(w, replaces)
	if w.failed = err; err != nil {
		return store.Entry{}, err
	}
	s.mu.Lock()
	delete(s.writers, w)
	s.mu.Unlock()
	w.end(nil)
	return e, nil
}

// ready says why the writer cannot be committed.
func (w *writer) ready() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	size := int64(len(w.value)) - w.front
	switch {
	case w.progress.Over() != nil:
		return errEnded
	case w.failed != nil:
		return fmt.Errorf("store/blobs: commit of an incomplete body: %w", w.failed)
	case w.declared >= 0 && size != w.declared:
		return fmt.Errorf("store/blobs: commit of %d octets where %d were declared: %w", size, w.declared, io.ErrUnexpectedEOF)
	}
	return nil
}

// Abort implements store.Writer.
func (w *writer) Abort(cause error) {
	w.store.mu.Lock()
	delete(w.store.writers, w)
	w.store.mu.Unlock()
	w.end(cause)
}

// Open implements store.Writer. The octets are those of the writer, also after
// its end; the backend is not asked. The reader is like that of Store.Open.
func (w *writer) Open(ctx context.Context, off int64) (io.ReadCloser, error) {
	switch {
	case off < 0:
		return nil, errOffset
	case w.store.closed.Load():
		return nil, store.ErrClosed
	}
	return &follower{ctx: ctx, writer: w, off: off}, nil
}

// A follower reads a body from its writer, and waits at the end for more.
type follower struct {
	ctx    context.Context
	writer *writer
	off    int64 // of the next octet
	closed atomic.Bool
}

// Next implements flow.Source: it waits until there is something.
func (f *follower) Next() ([]byte, error) { return flow.Follow(f.ctx, f.from) }

// from returns what follows, or why nothing will, or a channel: see flow.Follow.
func (f *follower) from() (piece []byte, moved <-chan struct{}, err error) {
	w := f.writer
	if f.closed.Load() {
		return nil, nil, errClosed
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	body := w.value[w.front:len(w.value):len(w.value)]
	if f.off < int64(len(body)) {
		return body[f.off:], nil, nil
	}
	if over := w.progress.Over(); over != nil {
		return nil, nil, over
	}
	return nil, w.progress.Moved(), nil
}

// Advance implements flow.Source.
func (f *follower) Advance(n int) { f.off += int64(n) }

func (f *follower) Read(p []byte) (int, error) { return flow.Read(f, p) }

func (f *follower) WriteTo(to io.Writer) (int64, error) { return flow.WriteTo(f, to) }

func (f *follower) Close() error {
	f.closed.Store(true)
	return nil
}

// A reader reads a part of a committed body, which it holds.
type reader struct {
	rest   []byte
	closed bool
}

// Next implements flow.Source.
func (r *reader) Next() ([]byte, error) {
	switch {
	case r.closed:
		return nil, errClosed
	case len(r.rest) == 0:
		return nil, io.EOF
	}
	return r.rest, nil
}

// Advance implements flow.Source.
func (r *reader) Advance(n int) { r.rest = r.rest[n:] }

func (r *reader) Read(p []byte) (int, error) { return flow.Read(r, p) }

func (r *reader) WriteTo(to io.Writer) (int64, error) { return flow.WriteTo(r, to) }

func (r *reader) Close() error {
	r.rest, r.closed = nil, true
	return nil
}
