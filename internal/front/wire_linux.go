package front

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// A wire is what a client's TLS is on. While somebody waits on the connection (for a
// handshake, as net/http, with HTTP/2) it is a file; while the client is a loop's, or a
// reply's, nobody waits: a Read that finds nothing fails for the moment, which crypto/tls
// takes for that and goes on with later, and what is written is gathered in out.
type wire struct {
	client *client
	tls    *tls.Conn
	file   *os.File  // nil: nobody waits
	armed  time.Time // when the write deadline of file was last set
	out    []byte
	dry    bool // there is nothing to be read, until the loop hears of more
	spent  bool // and TLS has nothing left either

	scope scope
}

// errDry is what a Read says that finds nothing.
var errDry net.Error = dry{}

type dry struct{}

func (dry) Error() string   { return "nothing has come yet" }
func (dry) Timeout() bool   { return true }
func (dry) Temporary() bool { return true }

// open has somebody wait on the connection.
func (w *wire) open() {
	w.file, w.armed = os.NewFile(uintptr(w.client.fd), "connection"), time.Time{}
}

func (w *wire) Read(p []byte) (int, error) {
	if w.file != nil {
		n, err := w.file.Read(p)
		return n, bare(err)
	}
	if w.dry {
		return 0, errDry
	}
	n, err := readNow(w.client.fd, p)
	switch w.dry = n < len(p); {
	case err == syscall.EAGAIN || err == syscall.EINTR:
		return 0, errDry
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// bare takes off an error what a file says of itself: crypto/tls has to see that a deadline
// passes, and is no end.
func bare(err error) error {
	var of *os.PathError
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}

func (w *wire) Write(p []byte) (int, error) {
	if w.file != nil {
		n, err := w.client.loop.s.opt.Limits.write(w.file, &w.armed, p) // as sill does
		return n, bare(err)
	}
	w.out = append(w.out, p...)
	return len(p), nil
}

// CloseWrite tells the client that nothing follows. It is for who has the connection as a file.
func (w *wire) CloseWrite() error { return shut(w.file) }

func (w *wire) Close() error {
	if w.file == nil {
		return nil
	}
	return w.file.Close()
}

func (w *wire) LocalAddr() net.Addr  { return w.client.local }
func (w *wire) RemoteAddr() net.Addr { return peer(w.client.addr) }

func (w *wire) SetDeadline(t time.Time) error {
	return errors.Join(w.SetReadDeadline(t), w.SetWriteDeadline(t))
}

func (w *wire) SetReadDeadline(t time.Time) error {
	if w.file == nil {
		return nil
	}
	return w.file.SetReadDeadline(t)
}

// SetWriteDeadline implements net.Conn, as that of sill.
func (w *wire) SetWriteDeadline(t time.Time) error {
	if w.file == nil || t.IsZero() || t.After(time.Now()) {
		return nil
	}
	return w.file.SetWriteDeadline(t)
}

// seal appends p to dst as the client gets it. An error is that of a TLS that has ended.
func (w *wire) seal(dst, p []byte) ([]byte, error) {
	w.out = dst
	_, err := w.tls.Write(p)
	dst, w.out = w.out, nil
	return dst, err
}

// read is Read of what the client has said, without waiting. What TLS says to that goes out at
// once, or never: it is an octet or two a connection.
func (w *wire) read(p []byte) (int, error) {
	n, err := w.tls.Read(p)
	if len(w.out) > 0 {
		if m, werr := writeNow(w.client.fd, w.out); m < len(w.out) {
			return 0, errors.Join(werr, io.ErrShortWrite)
		}
		w.out = nil
	}
	if w.spent = n == 0 && err == errDry; w.spent {
		return 0, syscall.EAGAIN
	}
	if n > 0 {
		return n, nil
	}
	return 0, err
}

// ahead reads what has come after the last request, and has not been seen by a loop. It reports
// false if the client is gone.
func (w *wire) ahead() bool {
	if w.spent || len(w.client.held) > 0 {
		return true
	}
	window := windows.Get().(*[]byte)
	defer windows.Put(window)
	n, err := w.read((*window)[:cap(*window)])
	if n > 0 {
		w.client.held = append([]byte(nil), (*window)[:n]...)
	}
	return n > 0 || w.spent || err == nil
}

// welcomeTLS has a new client, which has a place, served by TLS. Its loop counts it before that
// returns, and so waits for it.
func (s *Server) welcomeTLS(fd int, peer netip.AddrPort, local net.Addr) {
	if c := s.newClient(fd, peer, local); c != nil {
		s.lent.Add(1)
		go s.shake(c)
	}
}

// shake agrees on keys and a protocol with a client, and serves it or gives it to its loop.
func (s *Server) shake(c *client) {
	w := &wire{client: c}
	w.open()
	w.tls = tls.Server(w, s.opt.TLS.Config)
	if err := s.agree(w.tls); err != nil {
		s.opt.Log.Debug("connection", "what", "no TLS: "+err.Error(), "client", c.addr)
		_ = w.Close() // after the alert, if there was one
		c.repay()
		return
	}
	state := w.tls.ConnectionState()
	c.state = &state
	if state.NegotiatedProtocol == "h2" {
		s.serve2(w.tls, c.state)
		c.repay()
		return
	}
	c.wire = w
	_ = w.settle() // or the client is gone
}

// settle gives the client to its loop, from whoever waited on the connection.
func (w *wire) settle() error {
	file := w.file
	w.file = nil
	w.dry, w.spent = false, false
	return w.client.settle(file, toWrite) // as TLS may have read what the loop has to see
}
