package rclone

import (
	"context"
	"errors"
	"io"
)

// A lent body gives exactly as many octets as were announced, or fails: the last of
// them come only once the end has been seen. Whoever has it may go on
// to read when the lender has gone away, and gets nothing more.
type lent struct {
	ctx  context.Context // no Read begins after its end
	turn chan struct{}   // whose it is has what follows
	r    io.Reader
	left int64 // octets to come; negative: all that come
	err  error // what every Read returns from now on
}

var (
	errLong  = errors.New("the body is longer than announced")
	errShort = errors.New("the body is shorter than announced")
	errTaken = errors.New("nobody waits for the end of the body")
)

func lend(ctx context.Context, r io.Reader, size int64) *lent {
	return &lent{ctx: ctx, turn: make(chan struct{}, 1), r: r, left: size}
}

// alone runs f while no Read runs, and not at all if ctx ends before: a Read may take
// for ever.
func (l *lent) alone(f func()) error {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
		f()
		return nil
	case <-l.ctx.Done():
		return l.ctx.Err()
	}
}

func (l *lent) Read(p []byte) (n int, err error) {
	if over := l.alone(func() { n, err = l.next(p) }); over != nil {
		return 0, over
	}
	return n, err
}

// next is Read for whoever has the turn.
func (l *lent) next(p []byte) (n int, err error) {
	if l.err == nil {
		l.err = l.ctx.Err()
	}
	if l.err != nil {
		return 0, l.err
	}
	if l.left < 0 {
		n, l.err = l.r.Read(p)
		return n, l.err
	}
	if l.left > 0 {
		n, err = l.r.Read(p[:min(int64(len(p)), l.left)])
		l.left -= int64(n)
		switch {
		case l.left > 0 && errors.Is(err, io.EOF):
			l.err = errShort
			return 0, l.err
		case l.left > 0:
			l.err = err
			return n, err
		}
	}
	if l.err = end(l.r); !errors.Is(l.err, io.EOF) {
		return 0, l.err
	}
	return n, io.EOF
}

// end is io.EOF if r has ended.
func end(r io.Reader) error {
	if _, err := io.ReadFull(r, make([]byte, 1)); err != nil {
		return err
	}
	return errLong
}

// takeBack waits for a Read that runs until ctx ends, and lets no other begin.
func (l *lent) takeBack() {
	_ = l.alone(func() { // else no Read begins either
		if l.err == nil {
			l.err = errTaken
		}
	})
}

// broken is why the body could not be read to its end.
func (l *lent) broken() (err error) {
	over := l.alone(func() {
		if l.err != nil && !errors.Is(l.err, io.EOF) {
			err = ours{l.err}
		}
	})
	if over != nil {
		return ours{over}
	}
	return err
}
