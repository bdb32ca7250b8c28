package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
)

// An exact reader gives as many octets as were announced, and fails otherwise: it
// gives the last of them only when it has seen the end after them, so that a server
// cannot take too long a body for whole.
type exact struct {
	r    io.Reader
	left int64
	err  error // of r, or that it has another size; kept
}

func (e *exact) Read(p []byte) (int, error) {
	if e.err != nil {
		return 0, e.err
	}
	if e.left == 0 {
		return 0, io.EOF
	}
	n, err := e.r.Read(p[:min(int64(len(p)), e.left)])
	if e.left -= int64(n); e.left == 0 {
		if err == nil {
			err = atEnd(e.r)
		}
		if err == nil || errors.Is(err, io.EOF) {
			return n, nil
		}
		n = 0
	} else if errors.Is(err, io.EOF) {
		err = fmt.Errorf("the body ended %d octets early: %w", e.left, io.ErrUnexpectedEOF)
	}
	e.err = err
	return n, err
}

// atEnd returns nil if r has nothing more.
func atEnd(r io.Reader) error {
	n, err := io.ReadFull(r, make([]byte, 1))
	switch {
	case n > 0:
		return errors.New("the body is longer than announced")
	case errors.Is(err, io.EOF):
		return nil
	}
	return err
}

// A lent body belongs to a caller, who wants it back: net/http may go on reading a
// body after it has an answer.
type lent struct {
	r       io.Reader
	turn    chan struct{} // held while r is read, and for good when it is given back
	touched atomic.Bool
	over    atomic.Bool
}

var errOver = errors.New("the request is over")

func lend(r io.Reader) *lent { return &lent{r: r, turn: make(chan struct{}, 1)} }

func (l *lent) Read(p []byte) (int, error) {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	default:
		return 0, errOver
	}
	if l.over.Load() {
		return 0, errOver
	}
	l.touched.Store(true)
	return l.r.Read(p)
}

// giveBack waits for a Read that is under way, unless ctx ends. There is none after.
func (l *lent) giveBack(ctx context.Context) {
	l.over.Store(true)
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
	}
}

// Close does nothing: what was lent is not ours.
func (l *lent) Close() error { return nil }

// rewind allows another attempt while nothing was read.
func (l *lent) rewind() (io.ReadCloser, error) {
	if l.touched.Load() {
		return nil, errOver
	}
	return l, nil
}
