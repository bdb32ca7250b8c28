package front

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/larderhq/larder/internal/h2"
)

// TLS is what a Server needs for clients that come by TLS.
type TLS struct {
	// Config is what is agreed with them. It should offer h2 and http/1.1 (RFC 7301).
	Config *tls.Config

	// Covers tells whether a connection that was made for the name sni may be asked for
	// host, which has no port; the others get 421 (RFC 9110 §7.4). Nil: all may.
	Covers func(sni, host string) bool
}

// encrypted is what a Server needs for TLS.
type encrypted struct {
	http2 *h2.Server
	h1    *queue // connections on which both ends have agreed to speak so

	entering  sync.Mutex // guards entrances
	entrances []net.Listener

	greeting context.Context // of those who are being agreed with; when it ends nobody is let in any more
	dismiss  context.CancelFunc
}

func (s *Server) initTLS() {
	s.h1, s.http2 = newQueue(), s.newHTTP2()
	s.greeting, s.dismiss = context.WithCancel(context.Background())
}

// ServeTLS is Serve for clients that come by TLS, as Options.TLS says.
func (s *Server) ServeTLS(l net.Listener) error {
	if ok, err := s.serveFast(l, s.welcomeTLS); ok {
		return err
	}
	defer l.Close()
	g := s.guard(l)
	if !s.enters(g) {
		return nil
	}
	for patience := (patience{log: s.opt.Log}); ; {
		c, err := g.Accept()
		if err == nil {
			patience.renew()
			go s.greet(c.(*conn))
			continue
		}
		if s.greeting.Err() != nil {
			return nil
		}
		if fault, ok := err.(interface{ Temporary() bool }); !ok || !fault.Temporary() {
			return err
		}
		if !patience.wait(err, s.greeting.Done()) {
			return nil
		}
	}
}

// enters takes down a listener for Drain. The first one has net/http wait for connections.
// It reports false if the Server was drained already.
func (s *Server) enters(l net.Listener) bool {
	s.entering.Lock()
	defer s.entering.Unlock()
	if s.greeting.Err() != nil {
		return false
	}
	if s.entrances == nil {
		go func() { _ = s.http.Serve(s.h1) }() // until Drain
	}
	s.entrances = append(s.entrances, l)
	return true
}

// drainTLS lets nobody in any more, and every client have the answers it waits for, until
// ctx ends: then the error is that of ctx.
func (s *Server) drainTLS(ctx context.Context) error {
	s.entering.Lock()
	s.dismiss()
	for _, l := range s.entrances {
		_ = l.Close()
	}
	s.entering.Unlock()
	return s.http2.Drain(ctx)
}

// greet agrees on keys and a protocol with a client, and serves it, or has net/http do so.
func (s *Server) greet(c *conn) {
	d := &sill{Conn: c.Conn, limits: c.limits, release: c.release}
	t := tls.Server(d, s.opt.TLS.Config)
	if err := s.agree(t); err != nil {
		s.opt.Log.Debug("connection", "what", "no TLS: "+err.Error(), "client", d.RemoteAddr().String())
		_ = d.Close() // after the alert, if there was one
		return
	}
	state := t.ConnectionState()
	if state.NegotiatedProtocol == "h2" {
		s.serve2(t, &state)
		return
	}
	c.Conn, c.secure, c.release = t, &state, func() {} // which d does
	s.h1.give(c)
}

// agree makes the handshake, for which a client has as long as for a head.
func (s *Server) agree(t *tls.Conn) error {
	ctx, cancel := context.WithTimeout(s.greeting, s.opt.Limits.HeadTimeout)
	defer cancel()
	return t.HandshakeContext(ctx)
}

// misdirected tells whether r is about another server than the one that the client has
// agreed on keys with.
func (s *Server) misdirected(r *http.Request) bool {
	return r.TLS != nil && !s.covers(r.TLS, []byte(cmp.Or(r.Host, r.TLS.ServerName)))
}

// covers tells whether a client may ask for host, which may have a port. state is that of its
// TLS; nil: there is none.
func (s *Server) covers(state *tls.ConnectionState, host []byte) bool {
	if state == nil || s.opt.TLS == nil || s.opt.TLS.Covers == nil {
		return true
	}
	return s.opt.TLS.Covers(state.ServerName, (&url.URL{Host: string(host)}).Hostname())
}

// A scope remembers what covers has said of the host that a client asked for last.
type scope struct {
	host    []byte
	covered bool
}

func (m *scope) covers(s *Server, state *tls.ConnectionState, host []byte) bool {
	if state == nil {
		return true
	}
	if !bytes.Equal(host, m.host) {
		m.host, m.covered = append(m.host[:0], host...), s.covers(state, host)
	}
	return m.covered
}

// A sill is a connection below its TLS. It gives up on a client that takes less than it has
// to, as conn does without TLS: what TLS has begun to send cannot be taken back.
type sill struct {
	net.Conn
	limits  *Limits
	armed   time.Time // when the write deadline was last set
	closing sync.Once
	release func() // gives the place back
}

func (d *sill) Write(p []byte) (int, error) { return d.limits.write(d.Conn, &d.armed, p) }

// SetWriteDeadline implements net.Conn. Write has deadlines of its own, but for one that is
// over, and ends it.
func (d *sill) SetWriteDeadline(t time.Time) error {
	if t.IsZero() || t.After(time.Now()) {
		return nil
	}
	return d.Conn.SetWriteDeadline(t)
}

// SetDeadline implements net.Conn.
func (d *sill) SetDeadline(t time.Time) error {
	if err := d.SetWriteDeadline(t); err != nil {
		return err
	}
	return d.SetReadDeadline(t)
}

// CloseWrite tells the client that nothing follows.
func (d *sill) CloseWrite() error { return closeWrite(d.Conn) }

func (d *sill) Close() error {
	err := d.Conn.Close()
	d.closing.Do(d.release)
	return err
}

// A queue is a listener for connections that others have accepted.
type queue struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newQueue() *queue { return &queue{conns: make(chan net.Conn), closed: make(chan struct{})} }

// give waits until somebody takes c, or closes it if nobody will.
func (q *queue) give(c net.Conn) {
	select {
	case q.conns <- c:
	case <-q.closed:
		_ = c.Close()
	}
}

func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.closed:
		return nil, net.ErrClosed
	}
}

func (q *queue) Close() error {
	q.once.Do(func() { close(q.closed) })
	return nil
}

func (q *queue) Addr() net.Addr { return &net.TCPAddr{} }
