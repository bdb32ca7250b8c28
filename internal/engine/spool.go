package engine

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larderhq/larder/store"
)

const (
	// relayWindow is how far the origin may be ahead of the slowest client of
	// a body that is too large to keep, in octets. It is no part of the store's
	// budget, so it is small.
	relayWindow = 128 << 10
	// relayPatience is how long one client may hold up the others of such a
	// body.
	relayPatience = 10 * time.Second
)

var (
	errOverflow = errors.New("engine: body too large to keep")
	errTooLate  = errors.New("engine: this body cannot be had from its beginning any more")
	errTooSlow  = errors.New("engine: client too slow for a body that others read too")
	errNobody   = errors.New("engine: nobody reads this body any more")
	errForsaken = errors.New("engine: the client wants no more of this body")
)

// A spool is a body on its way from the origin: into the store, and from there
// to any number of clients while it arrives. A body that grows past what the
// store keeps goes on through a relay of bounded size.
type spool struct {
	w store.Writer
	// forsaken, where set, is called when nobody reads any more, before all has come.
	forsaken func()
	size     int64        // as declared, or negative
	written  atomic.Int64 // octets that have come

	// ctx ends the writing, where set, of what waits for clients: of what is not kept.
	// unbind ends the watch over it; nil: there is none yet.
	ctx    context.Context
	unbind func() bool

	mu      sync.Mutex
	readers []*spoolReader
	relay   *relay
	stopped error
	cause   error  // how the origin broke it off; nil: it has not
	lost    string // why it will not be in the store, once that is known
	dropped func() // called then; nil: nobody is told
}

func newSpool(w store.Writer, size int64) *spool {
	return &spool{w: w, size: size}
}

// Write appends to the body. errNobody: it is not kept, and nobody reads it.
func (s *spool) Write(p []byte) (int, error) {
	size := len(p)
	if s.relay == nil {
		n, err := s.w.Write(p)
		s.written.Add(int64(n))
		if err == nil {
			return size, nil
		}
		// ErrFull, or a store that failed: the clients must not notice.
		p = p[n:]
		s.overflow()
	}
	return size, s.relay.write(p)
}

// overflow goes over from the store to the relay.
func (s *spool) overflow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.relay = newRelay(s.written.Load())
	if s.ctx != nil {
		s.unbind = context.AfterFunc(s.ctx, func() { s.stop(context.Cause(s.ctx)) })
	}
	s.relay.stopped = s.stopped
	s.lost = "larger than the store keeps"
	for _, r := range s.readers {
		s.relay.join(r)
	}
	s.w.Abort(errOverflow)
	if s.dropped != nil {
		s.dropped()
	}
}

// stop has writes to a body that is not kept fail from now on, also those that
// wait for a client.
func (s *spool) stop(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped = cause; s.relay != nil {
		s.relay.stop(cause)
	}
}

// kept tells whether the whole body went into the store so far.
func (s *spool) kept() bool { return s.relay == nil }

// end closes the body for its readers without keeping it: cause nil means that
// it is complete.
func (s *spool) end(cause error) {
	s.mu.Lock()
	if s.cause = cause; cause != nil {
		s.lost = "it broke off"
	} else if s.lost == "" {
		s.lost = "not what was declared, or invalidated meanwhile"
	}
	s.mu.Unlock()
	if s.relay != nil {
		s.relay.end(cause)
		return
	}
	s.w.Abort(cause)
}

// brokenOff is why no more of the body was wanted, or nil.
func (s *spool) brokenOff() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cause
}

// carryOn has all of the body come, whoever reads it.
func (s *spool) carryOn() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forsaken = nil
}

// notKept is why the body will not be in the store; empty as long as it may be.
func (s *spool) notKept() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost
}

// open reads the body from off while it arrives. errTooLate: it is too large to
// keep, and has gone on without us, or it has failed already.
func (s *spool) open(ctx context.Context, off int64) (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.relay != nil || s.cause != nil {
		return nil, errTooLate
	}
	inner, err := s.w.Open(ctx, off)
	if err != nil {
		return nil, err
	}
	r := &spoolReader{spool: s, ctx: ctx, inner: inner, from: off}
	s.readers = append(s.readers, r)
	return r, nil
}

// A storeLoss is why a body cannot be read although the origin has sent it.
type storeLoss struct{ error }

// Unwrap returns what the store said.
func (l *storeLoss) Unwrap() error { return l.error }

// ended tells whether err is how the origin ended the body.
func (s *spool) ended(err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return err == io.EOF || s.cause != nil && errors.Is(err, s.cause)
}

// A spoolReader reads from the store's writer, and then from the relay if the
// body outgrew the store. One goroutine uses it.
type spoolReader struct {
	spool *spool
	ctx   context.Context
	inner io.ReadCloser
	relay *relay // set once inner is used up
	from  int64  // where it began
}

func (r *spoolReader) Read(p []byte) (int, error) {
	if r.relay == nil {
		n, err := r.inner.Read(p)
		switch {
		case err == nil, r.ctx.Err() != nil:
			return n, err
		case !errors.Is(err, errOverflow):
			if !r.spool.ended(err) {
				err = &storeLoss{err}
			}
			return n, err
		}
		r.spool.mu.Lock()
		r.relay = r.spool.relay
		r.spool.mu.Unlock()
		if n > 0 {
			return n, nil
		}
	}
	return r.relay.read(r.ctx, r, p)
}

func (r *spoolReader) Close() error {
	s := r.spool
	s.mu.Lock()
	if i := slices.Index(s.readers, r); i >= 0 {
		s.readers = slices.Delete(s.readers, i, i+1)
	}
	relay := s.relay
	forsaken := s.forsaken != nil && len(s.readers) == 0 && s.cause == nil && (s.size < 0 || s.written.Load() < s.size)
	if forsaken {
		s.cause = errForsaken // who comes now is not to join
	}
	callOff := s.forsaken
	s.mu.Unlock()
	if relay != nil {
		relay.leave(r)
	}
	if forsaken {
		callOff()
	}
	return r.inner.Close()
}

// A relay passes a body on to those who read it, and keeps no more than
// relayWindow of it.
type relay struct {
	mu   sync.Mutex
	turn sync.Cond // something changed
	buf  []byte
	base int64 // offset of buf[0] in the body
	at   map[*spoolReader]int64
	done bool
	err  error
	// stopped, if set, is why nothing more is written.
	stopped error
}

func newRelay(base int64) *relay {
	r := &relay{base: base, at: make(map[*spoolReader]int64)}
	r.turn.L = &r.mu
	return r
}

// join lets a reader that is still busy with what was kept, or begins further
// on, go on here.
func (r *relay) join(reader *spoolReader) { r.at[reader] = max(r.base, reader.from) }

func (r *relay) leave(reader *spoolReader) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.at, reader)
	r.turn.Broadcast()
}

func (r *relay) write(p []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.trim(); len(r.buf)+len(p) > relayWindow && len(r.buf) > 0 && len(r.at) > 0 && r.stopped == nil; r.trim() {
		base := r.base
		patience := time.AfterFunc(relayPatience, func() { r.dropSlowest(base) })
		r.turn.Wait()
		patience.Stop()
	}
	switch {
	case r.stopped != nil:
		return r.stopped
	case len(r.at) == 0:
		return errNobody
	}
	r.buf = append(r.buf, p...)
	r.turn.Broadcast()
	return nil
}

func (r *relay) stop(cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = cause
	r.turn.Broadcast()
}

// trim lets go of what everybody has read.
func (r *relay) trim() {
	low := r.base + int64(len(r.buf))
	for _, at := range r.at {
		low = min(low, at)
	}
	if n := low - r.base; n > 0 {
		r.buf = r.buf[:copy(r.buf, r.buf[n:])]
		r.base = low
	}
}

// dropSlowest cuts off those who hold the others up at base. A lone reader may
// take its time: it holds up nobody but the origin.
func (r *relay) dropSlowest(base int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	waiting := false
	for _, at := range r.at {
		waiting = waiting || at >= r.base+int64(len(r.buf))
	}
	if r.base != base || !waiting {
		return
	}
	for reader, at := range r.at {
		if at == base {
			delete(r.at, reader)
		}
	}
	r.turn.Broadcast()
}

func (r *relay) read(ctx context.Context, reader *spoolReader, p []byte) (int, error) {
	stop := context.AfterFunc(ctx, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.turn.Broadcast()
	})
	defer stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		at, member := r.at[reader]
		switch {
		case ctx.Err() != nil:
			return 0, ctx.Err()
		case !member:
			return 0, errTooSlow
		}
		if n := copy(p, r.buf[min(at-r.base, int64(len(r.buf))):]); n > 0 {
			r.at[reader] = at + int64(n)
			r.turn.Broadcast()
			return n, nil
		}
		switch {
		case r.done && r.err != nil:
			return 0, r.err
		case r.done:
			return 0, io.EOF
		}
		r.turn.Wait()
	}
}

func (r *relay) end(cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done, r.err = true, cause
	r.turn.Broadcast()
}
