// Package conduit carries octets to and from storage: no octet too many, and for no longer
// than the request lives.
package conduit

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
)

// ErrLonger is for a body that has more octets than were announced.
var ErrLonger = errors.New("the body is longer than was announced")

// ErrEarly is for a server that answers before it had the whole body.
var ErrEarly = errors.New("the server did not take the whole body")

// A Body is what is uploaded: exactly size octets, or it fails. It is read by a
// goroutine of its own, from the first Read on, as net/http waits for a read that goes
// on even when the context ended.
type Body struct {
	r       io.Reader
	started sync.Once
	begun   atomic.Bool
	out     *io.PipeReader
	in      *io.PipeWriter
	over    chan struct{} // closed once r is not read any more
	err     error         // why it ended; from then on
}

// New returns the body of an upload: size octets of r, or all there are if size is
// negative. The caller calls Finish when the request is over.
func New(r io.Reader, size int64) *Body {
	b := &Body{r: Exactly(r, size), over: make(chan struct{})}
	b.out, b.in = io.Pipe()
	return b
}

// Read implements io.Reader.
func (b *Body) Read(p []byte) (int, error) {
	b.started.Do(func() {
		b.begun.Store(true)
		go b.pump()
	})
	return b.out.Read(p)
}

func (b *Body) pump() {
	defer close(b.over)
	_, b.err = io.Copy(b.in, b.r)
	_ = b.in.CloseWithError(b.err) // never fails
}

// Begun tells whether anything was asked for; after Finish that does not change.
func (b *Body) Begun() bool { return b.begun.Load() }

// GiveUp makes a Read that waits fail.
func (b *Body) GiveUp(err error) { _ = b.in.CloseWithError(err) }

// Finish ends reading, and says how it went: nil if all was taken, ErrEarly if
// nobody asked for all of it. From then on r is not read, unless a read goes on that ctx
// does not wait for.
func (b *Body) Finish(ctx context.Context) error {
	_ = b.out.CloseWithError(ErrEarly)
	b.started.Do(func() {
		b.err = ErrEarly
		close(b.over)
	})
	select {
	case <-b.over:
		if b.err == nil || ctx.Err() == nil {
			return b.err
		}
	case <-ctx.Done():
	}
	return ctx.Err()
}

// Exactly returns a reader of size octets of r, or of all there are if size is negative.
// It fails with io.ErrUnexpectedEOF if there are less, and with ErrLonger if there are
// more: that it finds out before it gives the last ones, so that nobody ever has all of
// what is too long.
func Exactly(r io.Reader, size int64) io.Reader {
	if size < 0 {
		return r
	}
	return &exactly{r: r, left: size}
}

type exactly struct {
	r    io.Reader
	left int64
	err  error // how it ended
}

func (e *exactly) Read(p []byte) (n int, err error) {
	if e.err != nil {
		return 0, e.err
	}
	if e.left > 0 {
		n, err = e.r.Read(p[:min(int64(len(p)), e.left)])
		e.left -= int64(n)
	}
	switch {
	case e.left == 0:
		if err = e.end(); !errors.Is(err, io.EOF) {
			n = 0
		}
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	e.err = err
	return n, err
}

// end is io.EOF if nothing follows.
func (e *exactly) end() error {
	var more [1]byte
	if n, err := io.ReadFull(e.r, more[:]); n == 0 {
		return err
	}
	return ErrLonger
}
