package front

import (
	"crypto/tls"
	"errors"
	"hash/maphash"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// poison is what net/http gets to read in place of what was refused. It
	// is no request line, no field, no chunk size, no line end: wherever it
	// comes, the message fails and is the last of its connection. So the 400
	// goes out in its turn, after the answers that are owed before it.
	poison = "\x00\r\n\r\n"

	windowed = 4 << 10 // octets of a window at first

	// How long a client may take to read our last answer, and how many octets it
	// may send meanwhile.
	linger       = 250 * time.Millisecond
	lingerOctets = 64 << 10
)

// A conn is a connection whose requests are checked before net/http reads
// them. net/http calls it from one goroutine for reading and one for writing.
type conn struct {
	net.Conn
	limits  *Limits
	tell    func(client string, status int, why string)
	release func()               // gives the place back
	secure  *tls.ConnectionState // nil: there is no TLS

	closing sync.Once
	closed  error
	ended   atomic.Bool // the client hears or says nothing any more

	scan     scanner
	passed   passed
	refused  atomic.Bool
	hijacked atomic.Bool // a tunnel from now on
	idle     atomic.Bool // net/http has answered, and waits for another request
	over     atomic.Bool // so is the loan
	loan     *loan       // how it is lent; nil: it is not
	peeked   bool        // an octet after the last request was handed out

	// window holds octets that could not go straight to the reader: up to ok
	// they are checked, the rest is a line without its end. Nil when empty.
	window *[]byte
	ok     int

	writeArmed time.Time   // when the write deadline was last set
	readArmed  bool        // the read deadline is ours
	past       atomic.Bool // the one that was set is over
	stalled    error       // the client did not go on with a body

	// waited is how long we have waited for octets of a body, and came how many
	// came meanwhile, since both were last compared.
	waited time.Duration
	came   int64
}

// watch has a new conn check what it reads, as o says.
func (c *conn) watch(o *Options) *conn {
	c.limits, c.tell = &o.Limits, o.Refused
	c.scan.maxHead = o.Limits.Head + 2*windowed // net/http allows for one buffer more, and the mark
	c.scan.began = c.passed.begin
	return c
}

// A passed knows which requests have passed the door, and net/http has not handed
// out yet. Whatever else that hands out was found where no request began, such as
// within content that it gave up reading, and must go nowhere (RFC 9112 §11.2).
type passed struct {
	mu    sync.Mutex
	lines []uint64 // hashes of their request lines
}

var lineSeed = maphash.MakeSeed()

// begin takes down a request line that goes to net/http.
func (b *passed) begin(line []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, maphash.Bytes(lineSeed, line))
}

// next tells whether r is the next of those that have passed.
func (b *passed) next(r *http.Request) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.lines) == 0 || b.lines[0] != maphash.String(lineSeed, r.Method+" "+r.RequestURI+" "+r.Proto) {
		return false
	}
	b.lines = slices.Delete(b.lines, 0, 1)
	return true
}

var windows = sync.Pool{New: func() any {
	b := make([]byte, 0, windowed)
	return &b
}}

// Read returns octets of requests that are sound so far, and those of a tunnel.
func (c *conn) Read(p []byte) (int, error) {
	for {
		if c.ok > 0 {
			return c.take(p), nil
		}
		if c.refused.Load() {
			return 0, io.EOF
		}
		if c.scan.state == beyond || c.hijacked.Load() {
			return c.tunnel(p)
		}
		if c.scan.state == between {
			if err := c.loan.wait(c); err != nil {
				return 0, err
			}
			continue
		}
		if c.window == nil {
			n, err := c.receive(p)
			ok, k, do := c.scan.accept(p[:n])
			if do == pass {
				c.settle()
				return n, err
			}
			c.window = windows.Get().(*[]byte)
			*c.window = append((*c.window)[:0], p[ok:n]...)
			c.sift(k, do)
			if ok > 0 {
				return ok, nil // an error comes again
			}
			if err != nil && c.ok == 0 {
				return 0, err
			}
			continue
		}
		w := slices.Grow(*c.window, windowed)
		n, err := c.receive(w[len(w):cap(w)])
		*c.window = w[:len(w)+n]
		c.sift(0, pass)
		if err != nil && c.ok == 0 {
			return 0, err
		}
	}
}

// tunnel reads what comes after the last request. Until a handler has taken the
// connection over that is one octet, which net/http keeps to see whether the
// client is still there; and no request has so few.
func (c *conn) tunnel(p []byte) (n int, err error) {
	if !c.hijacked.Load() {
		if c.peeked {
			return 0, io.EOF
		}
		p = p[:min(1, len(p))]
	}
	if c.window != nil {
		c.ok = len(*c.window)
		n = c.take(p)
		c.ok = 0
	} else {
		n, err = c.Conn.Read(p)
	}
	c.peeked = c.peeked || n > 0
	return n, err
}

// take hands out what is checked.
func (c *conn) take(p []byte) int {
	w := *c.window
	n := copy(p, w[:c.ok])
	c.ok -= n
	if *c.window = slices.Delete(w, 0, n); len(w) == n {
		if cap(w) <= 4*windowed {
			windows.Put(c.window)
		}
		c.window = nil
	}
	return n
}

// sift does what was found to do with the n octets of the window after those
// that are checked, and goes on until it has to wait for more.
func (c *conn) sift(n int, do action) {
	w := *c.window
	for {
		switch do {
		case drop:
			w = slices.Delete(w, c.ok, c.ok+n)
		case insert:
			w = slices.Insert(w, c.ok, []byte(mark)...)
			c.ok += len(mark)
		case refuse:
			w = append(w[:c.ok], poison...)
			c.ok = len(w)
			c.refused.Store(true)
			if c.tell != nil {
				c.tell(c.RemoteAddr().String(), http.StatusBadRequest, c.scan.why)
			}
		}
		if c.refused.Load() || do == more || do == hold || c.ok == len(w) {
			break
		}
		var ok int
		ok, n, do = c.scan.accept(w[c.ok:])
		c.ok += ok
	}
	c.settle()
	*c.window = w
	if len(w) == 0 {
		windows.Put(c.window)
		c.window = nil
	}
}

// receive reads from the network. Within a body it does not wait for ever, nor for
// a client that sends too little at a time; elsewhere net/http sets the deadline.
// Who has waited once in vain does not wait again, however often net/http and the
// handler come back for the rest.
func (c *conn) receive(p []byte) (int, error) {
	if c.stalled != nil {
		return 0, c.stalled
	}
	if !c.scan.inBody() {
		n, err := c.Conn.Read(p)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			c.ended.Store(true)
		}
		return n, err
	}
	if c.waited >= c.limits.StallTimeout {
		if c.came < c.limits.least() {
			c.stalled = os.ErrDeadlineExceeded
			return 0, c.stalled
		}
		c.waited, c.came = 0, 0
	}
	c.readArmed = true
	begun := time.Now()
	if err := c.Conn.SetReadDeadline(begun.Add(c.limits.StallTimeout)); err != nil {
		return 0, err
	}
	if c.past.Load() { // which our own deadline may just have taken the place of
		return 0, os.ErrDeadlineExceeded
	}
	n, err := c.Conn.Read(p)
	c.waited, c.came = c.waited+time.Since(begun), c.came+int64(n)
	switch {
	case !errors.Is(err, os.ErrDeadlineExceeded):
		if err != nil {
			c.ended.Store(true)
		}
	case !c.past.Load(): // or others have called us back
		c.stalled = err
	}
	return n, err
}

// SetReadDeadline implements net.Conn. One that is over ends what is read of a body.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.past.Store(!t.IsZero() && !t.After(time.Now()))
	return c.Conn.SetReadDeadline(t)
}

// settle takes our read deadline back once the body is over. That has to be
// before net/http learns of it, and sets deadlines of its own.
func (c *conn) settle() {
	if c.readArmed && !c.scan.inBody() {
		c.readArmed, c.waited, c.came = false, 0, 0
		_ = c.Conn.SetReadDeadline(time.Time{}) // fails on a closed connection only
	}
}

// Write gives up on a client that takes less than it has to in StallTimeout.
func (c *conn) Write(p []byte) (n int, err error) {
	if c.secure != nil {
		n, err = c.Conn.Write(p) // sill does that
	} else {
		n, err = c.limits.write(c.Conn, &c.writeArmed, p)
	}
	if err != nil {
		c.ended.Store(true)
	}
	return n, err
}

// arm sets a deadline of StallTimeout; armed is when that was last done. Setting one is dear,
// so it is done now and then, and the client may get a quarter less than it is due.
func (l *Limits) arm(armed *time.Time, set func(time.Time) error) error {
	now := time.Now()
	if now.Sub(*armed) <= l.StallTimeout/4 {
		return nil
	}
	*armed = now
	return set(now.Add(l.StallTimeout))
}

// A writer is a connection that is written to.
type writer interface {
	io.Writer
	SetWriteDeadline(time.Time) error
}

// write writes p to c, unless the client takes less than it has to in StallTimeout. armed is
// when the write deadline of c was last set.
func (l *Limits) write(c writer, armed *time.Time, p []byte) (n int, err error) {
	for {
		if err := l.arm(armed, c.SetWriteDeadline); err != nil {
			return n, err
		}
		m, err := c.Write(p[n:])
		n += m
		if err == nil || int64(m) < l.least() || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		*armed = time.Time{}
	}
}

// CloseWrite tells the client that nothing follows. net/http calls it before it
// closes on a client that may still be sending (RFC 9112 §9.6).
func (c *conn) CloseWrite() error { return closeWrite(c.Conn) }

// closeWrite tells the other end that nothing follows, if c can.
func closeWrite(c net.Conn) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Close closes the connection, or gives it back, once.
func (c *conn) Close() error {
	c.closing.Do(func() {
		c.loan.callBack()
		switch {
		case c.over.Load():
			c.closed = c.loan.giveBack(c)
		case c.ended.Load() || c.hijacked.Load() || c.CloseWrite() != nil:
			c.closed = c.Conn.Close()
			c.release()
		default:
			go c.bid()
		}
	})
	return c.closed
}

// bid gives the client a moment to read our last answer: closing with octets
// unread would reset the connection, and the answer might be lost (RFC 9112 §9.6).
func (c *conn) bid() {
	defer c.release()
	defer c.Conn.Close()
	if c.Conn.SetReadDeadline(time.Now().Add(linger)) == nil {
		_, _ = io.CopyN(io.Discard, c.Conn, lingerOctets)
	}
}

// A listener hands out no more connections than there are places.
type listener struct {
	net.Listener
	server *Server
	stop   chan struct{} // closed with the listener
	once   sync.Once
}

// guard makes l keep to the limits.
func (s *Server) guard(l net.Listener) net.Listener {
	return &listener{Listener: l, server: s, stop: make(chan struct{})}
}

// Accept waits for a place, then for a client that may have one. net/http waits a
// little longer each time after errors that pass, such as one file too many.
func (l *listener) Accept() (net.Conn, error) {
	s := l.server
	for {
		if !s.place(l.stop) {
			return nil, net.ErrClosed
		}
		raw, err := l.Listener.Accept()
		if err != nil {
			<-s.places
			return nil, err
		}
		var client netip.Addr
		if a, err := netip.ParseAddrPort(raw.RemoteAddr().String()); err == nil {
			client = clientOf(a.Addr())
		}
		if s.admits(client) {
			c := &conn{Conn: raw, release: func() { s.crowd.leave(client); <-s.places }}
			return c.watch(&s.opt), nil
		}
		_ = raw.Close() // nothing was said
		<-s.places
	}
}

// Close ends Accept.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.stop) })
	return l.Listener.Close()
}
