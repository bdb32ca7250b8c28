package origin

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// window is how many octets of a response are read ahead: a head, and what of its
// body comes with it. It holds a line of a chunk and a trailer section.
const window = 16 << 10

// usualLines is for how many field lines a connection keeps the room.
const usualLines = 64

var windows = sync.Pool{New: func() any {
	b := make([]byte, window)
	return &b
}}

// A conn is a connection to the origin. One exchange has it, or the pool.
//
// One goroutine reads, and one writes; that any may close it.
type conn struct {
	stream net.Conn
	tls    *tls.ConnectionState // nil: there is no TLS
	below  *closure             // the transport below TLS; nil without it
	probe  *probe               // nil: nobody can tell whether octets wait
	shut   func()               // is close, made once
	served bool                 // an exchange has ended well on it
	since  time.Time            // when it was last given to nobody; zero: never

	// Octets that were read and belong to nobody yet: buf[r:w]. It is nil
	// between exchanges.
	buf  *[]byte
	r, w int

	found head // in the response being read; its room is used again

	deadlines sync.Mutex // guards limit and readBy
	limit     time.Time  // when a read has taken too long; zero: never
	readBy    time.Time  // the read deadline that is set
	writeBy   time.Time  // and that for writing
}

// newConn takes over stream, which is TLS by way of below if state is not nil.
func newConn(stream net.Conn, state *tls.ConnectionState, below *closure) *conn {
	c := &conn{stream: stream, tls: state, below: below}
	c.probe, c.shut = newProbe(c.transport()), c.close
	return c
}

// transport is the connection without TLS.
func (c *conn) transport() net.Conn {
	if c.below != nil {
		return c.below.Conn
	}
	return c.stream
}

// close ends the connection at once: TLS would first try to say goodbye. Whoever
// reads or writes learns of it by net.ErrClosed.
func (c *conn) close() { _ = c.transport().Close() }

// quiet tells whether nothing has come since the last answer was over. What has
// come answers nothing, and the connection is of no use (RFC 9112 §9.3).
func (c *conn) quiet() bool {
	if c.probe != nil && !c.probe.quiet() {
		return false
	}
	if c.below == nil {
		return true
	}
	// Nothing waits below TLS. It may have read ahead.
	c.below.held.Store(true)
	defer c.below.held.Store(false)
	n, err := c.stream.Read(make([]byte, 1))
	return n == 0 && errors.Is(err, os.ErrDeadlineExceeded)
}

// open takes a window for the exchange that begins.
func (c *conn) open() { c.buf, c.r, c.w = windows.Get().(*[]byte), 0, 0 }

// settle gives the window back. Nobody may be reading.
func (c *conn) settle() {
	if c.buf != nil && len(*c.buf) == window {
		windows.Put(c.buf)
	}
	c.buf, c.r, c.w = nil, 0, 0
	if cap(c.found.lines) > usualLines {
		c.found.lines = nil
	}
}

// pending are the octets that were read and not taken.
func (c *conn) pending() []byte { return (*c.buf)[c.r:c.w] }

// await has reads fail that are not over in d; not positive: none does. Setting a
// deadline is dear: one that is set stays if it is not much too early, and read
// goes on behind it.
func (c *conn) await(d time.Duration) {
	c.deadlines.Lock()
	defer c.deadlines.Unlock()
	if d <= 0 {
		c.limit = time.Time{}
		if !c.readBy.IsZero() {
			c.readBefore(time.Time{})
		}
		return
	}
	now := time.Now()
	c.limit = now.Add(d)
	if c.readBy.Before(now.Add(d-d/4)) || c.readBy.After(c.limit) {
		c.readBefore(c.limit)
	}
}

// readBefore sets the read deadline. It fails on a closed connection only, as
// reads do then.
func (c *conn) readBefore(t time.Time) {
	c.readBy = t
	_ = c.stream.SetReadDeadline(t)
}

// early tells whether a read failed by a deadline from before the one that counts,
// which it sets.
func (c *conn) early() bool {
	c.deadlines.Lock()
	defer c.deadlines.Unlock()
	if !c.limit.IsZero() && !time.Now().Before(c.limit) {
		return false
	}
	c.readBefore(c.limit)
	return true
}

// read reads from the network. See await.
func (c *conn) read(p []byte) (int, error) {
	for {
		n, err := c.stream.Read(p)
		if n > 0 {
			return n, nil // an error comes again
		}
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) || !c.early() {
			return 0, err
		}
	}
}

// fill reads more octets into the window, which grows if it is full.
func (c *conn) fill() error {
	b := *c.buf
	switch {
	case c.r == c.w:
		c.r, c.w = 0, 0
	case c.w < len(b):
	case c.r > 0:
		c.r, c.w = 0, copy(b, b[c.r:c.w])
	default:
		b = slices.Grow(b, len(b))
		b = b[:cap(b)]
		c.buf = &b
	}
	n, err := c.read(b[c.w:])
	c.w += n
	return err
}

// write gives up when the origin takes nothing for stall, or up to a quarter less;
// not positive: never.
func (c *conn) write(p []byte, stall time.Duration) error {
	if stall > 0 {
		if now := time.Now(); c.writeBy.Before(now.Add(stall - stall/4)) {
			c.writeBy = now.Add(stall)
			_ = c.stream.SetWriteDeadline(c.writeBy) // as in readBefore
		}
	}
	_, err := c.stream.Write(p)
	return err
}

// free takes all limits of time from the connection.
func (c *conn) free() error {
	c.deadlines.Lock()
	defer c.deadlines.Unlock()
	c.limit, c.readBy, c.writeBy = time.Time{}, time.Time{}, time.Time{}
	return c.stream.SetDeadline(time.Time{})
}

// A closure is the connection below TLS. It remembers whether that ended
// before TLS did: crypto/tls takes an end of the connection between two
// records for a proper one, even without the closure alert that RFC 9112 §9.8
// asks for.
type closure struct {
	net.Conn
	eof  atomic.Bool
	held atomic.Bool // nothing is to be read
}

func (c *closure) Read(p []byte) (int, error) {
	if c.held.Load() {
		return 0, os.ErrDeadlineExceeded // TLS goes on after it
	}
	n, err := c.Conn.Read(p)
	if errors.Is(err, io.EOF) {
		c.eof.Store(true)
	}
	return n, err
}

// abrupt reports whether the connection ended without a closure alert, if TLS
// says that it ended: after the alert, TLS reads no further.
func (c *closure) abrupt() bool { return c.eof.Load() }
