package front

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// A loan is a connection that net/http has for one request. It reads what came of
// that already, and then the rest, and not an octet of the next one: while the
// request is answered it sees only whether the client is still there.
type loan struct {
	*os.File // the connection, as Go's own poller knows it
	client   *client

	next plain // the request after that

	mu    sync.Mutex
	past  bool          // the read deadline is over
	over  bool          // so is the loan
	abort chan struct{} // closed when that comes to be; nil: nobody waits for it
}

// lend gives c to net/http, with what has come so far.
func (s *Server) lend(c *client, in []byte) {
	if !s.detach(c) {
		return
	}
	window := windows.Get().(*[]byte)
	*window = append((*window)[:0], in...)
	lent := &conn{window: window, release: c.repay, loan: &loan{client: c}, secure: c.state, scan: scanner{single: true}}
	s.loans <- lent.watch(&s.opt) // there is room for as many as there are clients
}

// lend2 has c served with HTTP/2, of which in has come.
func (s *Server) lend2(c *client, in []byte) {
	if !s.detach(c) {
		return
	}
	w := &wire{client: c}
	w.open()
	began := &begunConn{w, append([]byte(nil), in...)}
	go func() {
		s.serve2(began, nil)
		c.repay()
	}()
}

// detach takes c from its loop. It reports false if c is gone.
func (s *Server) detach(c *client) bool {
	c.lent.Store(true)
	c.begun = time.Time{} // others measure from here
	if syscall.EpollCtl(c.loop.ep, syscall.EPOLL_CTL_DEL, c.fd, nil) != nil {
		c.loop.drop(c)
		return false
	}
	s.clients.at(c.fd).Store(nil)
	s.lent.Add(1)
	return true
}

// tunnel says that a handler has taken the connection over, for as long as it
// likes: nobody waits for it when the server drains.
func (l *loan) tunnel() {
	l.client.tunnel = true
	l.client.loop.load.Add(-1)
}

// repay gives the place of a connection back that net/http has closed.
func (c *client) repay() {
	c.loop.s.lent.Add(-1)
	if c.leave(); c.loop.s.draining.Load() {
		c.loop.s.wake() // this may have been the last
	}
}

// lender is the listener from which net/http has its connections.
type lender struct{ s *Server }

func (l lender) Accept() (net.Conn, error) {
	for {
		select {
		case c := <-l.s.loans:
			c.loan.open()
			c.Conn = c.loan
			c.sift(0, pass)
			return c, nil
		case <-l.s.ended:
			return nil, net.ErrClosed
		}
	}
}

func (l lender) Close() error {
	l.s.ending.Do(func() { close(l.s.ended) })
	return nil
}

func (l lender) Addr() net.Addr { return &net.TCPAddr{} }

// open has net/http wait on the connection.
func (l *loan) open() {
	if w := l.client.wire; w != nil {
		w.open()
		l.File = w.file
		return
	}
	l.File = os.NewFile(uintptr(l.client.fd), "connection")
}

// Read implements net.Conn, and so does Write.
func (l *loan) Read(p []byte) (int, error) {
	if w := l.client.wire; w != nil {
		return w.tls.Read(p)
	}
	return l.File.Read(p)
}

func (l *loan) Write(p []byte) (int, error) {
	if w := l.client.wire; w != nil {
		return w.tls.Write(p)
	}
	return l.File.Write(p)
}

// Close implements net.Conn.
func (l *loan) Close() error {
	if w := l.client.wire; w != nil {
		return w.tls.Close() // and the file
	}
	return l.File.Close()
}

// LocalAddr implements net.Conn.
func (l *loan) LocalAddr() net.Addr { return l.client.local }

// RemoteAddr implements net.Conn.
func (l *loan) RemoteAddr() net.Addr { return peer(l.client.addr) }

// peer is the address of the other end as a net.Addr.
type peer string

func (peer) Network() string  { return "tcp" }
func (p peer) String() string { return string(p) }

// CloseWrite tells the client that nothing follows.
func (l *loan) CloseWrite() error {
	if w := l.client.wire; w != nil {
		if err := w.tls.CloseWrite(); err != nil {
			return err
		}
	}
	return shut(l.File)
}

// shut tells the other end of f, a connection, that nothing follows.
func shut(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var down error
	err = raw.Control(func(fd uintptr) { down = syscall.Shutdown(int(fd), syscall.SHUT_WR) })
	return errors.Join(err, down)
}

// SetReadDeadline implements net.Conn. net/http ends a Read by a deadline that is
// over.
func (l *loan) SetReadDeadline(t time.Time) error {
	l.mu.Lock()
	if l.past = !t.IsZero() && !t.After(time.Now()); l.past && l.abort != nil {
		close(l.abort)
		l.abort = nil
	}
	l.mu.Unlock()
	return l.File.SetReadDeadline(t)
}

// wait returns what a Read has to say that would read the next request: that the
// client is gone, or that net/http has given up waiting. Once that is idle it is
// given the next request too, unless that comes late or is one for the loop.
func (l *loan) wait(c *conn) error {
	if c.idle.Load() {
		return l.extend(c)
	}
	if c.window == nil {
		if err := l.peek(c); err != nil {
			return err
		}
	}
	// The next request is there, and waits until this one is answered.
	l.mu.Lock()
	if l.past || l.over {
		l.mu.Unlock()
		return os.ErrDeadlineExceeded
	}
	if l.abort == nil {
		l.abort = make(chan struct{})
	}
	abort := l.abort
	l.mu.Unlock()
	<-abort
	return os.ErrDeadlineExceeded
}

// callBack ends wait, if somebody is in there, for the connection ends. A nil loan has
// nobody.
func (l *loan) callBack() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over = true; l.abort != nil {
		close(l.abort)
		l.abort = nil
	}
}

// encore is how long net/http may keep a connection that it has nothing to do on.
const encore = time.Second

// ahead reads what comes next into the window.
func (l *loan) ahead(c *conn) error {
	window := windows.Get().(*[]byte)
	n, err := l.Read((*window)[:cap(*window)])
	if n <= 0 {
		windows.Put(window)
		if err == nil {
			err = io.EOF
		}
		return err
	}
	*window = (*window)[:n]
	c.window = window
	return nil
}

// extend lets net/http have the next request. io.EOF: it is not to have that.
func (l *loan) extend(c *conn) error {
	s := l.client.loop.s
	if c.window == nil && !s.draining.Load() {
		if err := l.File.SetReadDeadline(time.Now().Add(encore)); err != nil {
			return err
		}
		if err := l.ahead(c); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return c.end()
			}
			c.ended.Store(true)
			return io.EOF
		}
		// net/http sets its own once it has the first octets, which are not there
		// before the line is.
		if err := l.File.SetReadDeadline(time.Now().Add(s.opt.Limits.HeadTimeout)); err != nil {
			return err
		}
	}
	if s.draining.Load() {
		return c.end()
	}
	if _, is := l.next.read(s.opt.Standing, *c.window); is == entire {
		return c.end()
	}
	c.idle.Store(false)
	c.scan.state = start
	c.sift(0, pass)
	return nil
}

// end has net/http close the connection, by which it comes back.
func (c *conn) end() error {
	c.over.Store(true)
	return io.EOF
}

// peek waits until something can be read, and leaves it there.
func (l *loan) peek(c *conn) error {
	if l.client.wire != nil {
		return l.ahead(c)
	}
	raw, err := l.SyscallConn()
	if err != nil {
		return err
	}
	var n int
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		var e error
		n, _, e = syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		return !errors.Is(e, syscall.EAGAIN)
	})
	if err == nil && n <= 0 {
		err = io.EOF
	}
	return err
}

// giveBack returns the connection to its loop, with what has come of the next
// request.
func (l *loan) giveBack(c *conn) error {
	k, events := l.client, uint32(toRead)
	if c.window != nil {
		k.held = append([]byte(nil), *c.window...)
		events = toWrite // which it is: so the loop looks at once
		windows.Put(c.window)
		c.window = nil
	}
	if k.wire != nil {
		return k.wire.settle()
	}
	return k.settle(l.File, events)
}

// settle takes c from whoever has it as a file, and has its loop wait for events.
func (c *client) settle(f *os.File, events uint32) error {
	c.loop.s.lent.Add(-1)
	// There is no other way to take a descriptor from Go's poller.
	fd, _, e := syscall.Syscall(syscall.SYS_FCNTL, uintptr(c.fd), syscall.F_DUPFD_CLOEXEC, 0)
	err := f.Close()
	if e != 0 {
		c.leave()
		return errors.Join(os.NewSyscallError("fcntl", e), err)
	}
	c.fd = int(fd)
	c.active, _ = c.loop.s.opt.Clock()
	if c.fd >= len(c.loop.s.clients)*pageClients {
		c.leave()
		return syscall.Close(c.fd)
	}
	c.loop.s.clients.at(c.fd).Store(c)
	if err := c.listen(syscall.EPOLL_CTL_ADD, events); err != nil {
		c.close()
		return err
	}
	c.lent.Store(false) // until then the loop does not heed what it is told
	return nil
}
