package tier

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"

	"github.com/larderhq/larder/store"
)

// errMoved ends the readers of a body that goes on on disk.
var errMoved = errors.New("store/tier: the body goes on on disk")

// Create implements store.Store. What memory does not keep, for its length or
// because others are worth more, goes to disk: at once, or as soon as that is
// known.
func (s *Store) Create(ctx context.Context, key store.Key, head store.Head, size int64) (store.Writer, error) {
	inner, err := s.memory.Create(ctx, key, head, size)
	if err == nil {
		head.Octets = slices.Clone(head.Octets)
		return &writer{store: s, key: slices.Clone(key), head: head, size: size, inner: inner}, nil
	}
	if !errors.Is(err, store.ErrFull) {
		return nil, err
	}
	if inner, err = s.disk.Create(ctx, key, head, size); err != nil {
		return nil, err
	}
	return &writer{store: s, key: slices.Clone(key), inner: inner, onDisk: true}, nil
}

// A writer is an entry in the making, in memory or on disk.
type writer struct {
	store *Store
	key   store.Key
	head  store.Head // if it may yet go over to disk
	size  int64      // as declared

	// Of the one goroutine that writes.
	written int64

	mu     sync.Mutex // guards what follows against those who open
	inner  store.Writer
	onDisk bool
	entry  store.ID // what Commit made of it
}

var _ store.Writer = (*writer)(nil)

// Write implements store.Writer.
func (w *writer) Write(p []byte) (int, error) {
	n, err := w.inner.Write(p)
	if errors.Is(err, store.ErrFull) && w.move() {
		n, err = w.inner.Write(p)
	}
	w.written += int64(n)
	return n, err
}

// move goes over to disk with what was written so far. It reports false, and
// all is as it was, if the disk does not keep it either.
func (w *writer) move() bool {
	if w.onDisk {
		return false
	}
	ctx := context.Background()
	lower, err := w.store.disk.Create(ctx, w.key, w.head, w.size)
	if err != nil {
		return false
	}
	r, err := w.inner.Open(ctx, 0)
	if err == nil {
		_, err = io.CopyN(lower, r, w.written)
		r.Close()
	}
	if err != nil {
		lower.Abort(err)
		return false
	}
	w.mu.Lock()
	upper := w.inner
	w.inner, w.onDisk = lower, true
	w.mu.Unlock()
	upper.Abort(errMoved)
	return true
}

// Commit implements store.Writer.
func (w *writer) Commit(ctx context.Context, replaces ...store.ID) (store.Entry, error) {
	e, err := w.commit(ctx, replaces)
	if errors.Is(err, store.ErrFull) && w.move() {
		e, err = w.commit(ctx, replaces)
	}
	if err == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.entry = e.ID
	}
	return e, err
}

func (w *writer) commit(ctx context.Context, replaces []store.ID) (store.Entry, error) {
	st := w.store.stripeOf(w.key)
	st.mu.Lock()
	defer st.mu.Unlock()
	if len(replaces) > 0 {
		st.turns.Add(1)
		defer st.turns.Add(1)
	}
	elsewhere := replaces
	if w.onDisk {
		var err error
		if elsewhere, err = w.above(ctx, replaces); err != nil {
			return store.Entry{}, err
		}
	}
	e, err := w.inner.Commit(ctx, replaces...)
	if err != nil {
		return e, err
	}
	for _, id := range elsewhere {
		if err := w.forget(ctx, id); err != nil {
			// The old one may be there yet: then neither is to be used.
			return store.Entry{}, errors.Join(err, w.forget(context.WithoutCancel(ctx), e.ID))
		}
	}
	return e, nil
}

// above returns which of ids are in memory. Others do not come there before the
// caller lets go of the stripe.
func (w *writer) above(ctx context.Context, ids []store.ID) ([]store.ID, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	entries, err := w.store.memory.Lookup(ctx, w.key, nil)
	var above []store.ID
	for _, e := range entries {
		if slices.Contains(ids, e.ID) {
			above = append(above, e.ID)
		}
	}
	return above, err
}

// forget forgets id wherever it is: in memory first, from where it may just be
// leaving for the disk. See leaving. The caller holds the stripe.
func (w *writer) forget(ctx context.Context, id store.ID) error {
	return errors.Join(w.store.memory.Remove(ctx, w.key, id), w.store.disk.Remove(ctx, w.key, id))
}

// Abort implements store.Writer.
func (w *writer) Abort(cause error) { w.inner.Abort(cause) }

// Open implements store.Writer. After Commit it finds the entry in either tier.
func (w *writer) Open(ctx context.Context, off int64) (io.ReadCloser, error) {
	for {
		inner, onDisk, id := w.now()
		r, err := inner.Open(ctx, off)
		if err == nil {
			if onDisk {
				return r, nil
			}
			return &reader{ctx: ctx, writer: w, inner: r, off: off}, nil
		}
		if id != 0 && errors.Is(err, store.ErrGone) {
			return w.store.Open(ctx, w.key, id, off, -1)
		}
		if next, _, made := w.now(); next == inner && made == id {
			return nil, err
		} // else it went on, or was committed, meanwhile
	}
}

// now returns where the body is, and the entry that was made of it, or zero.
func (w *writer) now() (inner store.Writer, onDisk bool, id store.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.inner, w.onDisk, w.entry
}

// A reader follows a body that may go over to disk. One goroutine uses it, but
// for Close.
type reader struct {
	ctx    context.Context
	writer *writer
	off    int64 // of the next octet

	mu     sync.Mutex // guards inner against Close
	inner  io.ReadCloser
	closed bool
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.inner.Read(p)
	r.off += int64(n)
	if !errors.Is(err, errMoved) {
		return n, err
	}
	if n > 0 {
		return n, nil
	}
	next, err := r.writer.Open(r.ctx, r.off)
	if err != nil {
		return 0, err
	}
	r.mu.Lock()
	before := r.inner
	r.inner = next
	closed := r.closed
	r.mu.Unlock()
	if closed {
		next.Close()
	}
	before.Close()
	return r.Read(p)
}

func (r *reader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	return r.inner.Close()
}
