// Package upload reads what is sent to storage over HTTP, no octet too many, and never
// longer than its request lives.
package upload

import (
	"context"
	"errors"
	"io"
	"sync"
)

// ErrLonger is for a body that has more octets than were announced.
var ErrLonger = errors.New("the body is longer than was announced")

// ErrEarly is for a server that answers before it had the whole body.
var ErrEarly = errors.New("the server did not take the whole body")

// A Body is what is uploaded: exactly size octets, or it fails. It is read by a
// goroutine of its own, from the first Read on, as net/http waits for a read that goes
// on even when the context ended.
type Body struct {
	r       exactly
	started sync.Once
	out     *io.PipeReader
	in      *io.PipeWriter
	over    chan struct{} // closed once r is not read any more
	err     error         // why it ended; from then on
}

// New returns the body of an upload: size octets of r, or all there are if size is
// negative. The caller calls Finish when the request is over.
func New(r io.Reader, size int64) *Body {
	b := &Body{r: exactly{r: r, left: size}, over: make(chan struct{})}
	b.out, b.in = io.Pipe()
	return b
}

// Read implements io.Reader.
func (b *Body) Read(p []byte) (int, error) {
	b.started.Do(func() { go b.pump() })
	return b.out.Read(p)
}

func (b *Body) pump() {
	defer close(b.over)
	_, b.err = io.Copy(b.in, &b.r)
	_ = b.in.CloseWithError(b.err) // never fails
}

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

// exactly reads so many octets, and fails if there are less or more. It looks for more
// before it gives the last ones, so that a server never has all of a body that is
// too long.
type exactly struct {
	r    io.Reader
	left int64 // negative: as many as there are
}

func (e *exactly) Read(p []byte) (int, error) {
	switch {
	case e.left < 0:
		return e.r.Read(p)
	case e.left == 0:
		return 0, e.end()
	}
	n, err := e.r.Read(p[:min(int64(len(p)), e.left)])
	e.left -= int64(n)
	switch {
	case e.left > 0 && errors.Is(err, io.EOF):
		return n, io.ErrUnexpectedEOF
	case e.left > 0:
		return n, err
	}
	if err := e.end(); !errors.Is(err, io.EOF) {
		return 0, err
	}
	return n, io.EOF
}

// end is io.EOF if nothing follows.
func (e *exactly) end() error {
	var more [1]byte
	if n, err := io.ReadFull(e.r, more[:]); n == 0 {
		return err
	}
	return ErrLonger
}
