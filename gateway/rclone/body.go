package rclone

import (
	"errors"
	"io"
	"sync"
)

// A lent body gives exactly as many octets as were announced, or fails: the last of
// them come only once the end has been seen. Whoever has it may go on
// to read when the lender has gone away, and gets nothing more.
type lent struct {
	mu   sync.Mutex
	r    io.Reader
	left int64 // octets to come; negative: all that come
	err  error // what every Read returns from now on
}

var (
	errLong  = errors.New("the body is longer than announced")
	errShort = errors.New("the body is shorter than announced")
	errTaken = errors.New("nobody waits for the end of the body")
)

func (l *lent) Read(p []byte) (n int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
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

// takeBack waits for a Read that runs, and lets no other begin.
func (l *lent) takeBack() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = errTaken
	}
}

// broken is why the body could not be read to its end.
func (l *lent) broken() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil || errors.Is(l.err, io.EOF) {
		return nil
	}
	return ours{l.err}
}
