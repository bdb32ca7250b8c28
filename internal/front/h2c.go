package front

import (
	"net"
	"time"

	"github.com/larderhq/larder/internal/h2"
)

// knows tells whether a connection that begins with in is one of HTTP/2 without TLS, by a client
// that knows that we speak it (RFC 9113 §3.3), or may become one.
func knows(in []byte) (is, perhaps bool) {
	n := min(len(in), len(h2.Preface))
	perhaps = string(in[:n]) == h2.Preface[:n]
	return perhaps && n == len(h2.Preface), perhaps
}

// A begunConn is a connection that has more to be read than is still to come.
type begunConn struct {
	net.Conn
	first []byte
}

func (c *begunConn) Read(p []byte) (int, error) {
	if len(c.first) > 0 {
		n := copy(p, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// CloseWrite tells the client that nothing follows.
func (c *begunConn) CloseWrite() error { return closeWrite(c.Conn) }

// sorted is a listener for the connections of g that are HTTP/1. The others it serves.
func (s *Server) sorted(g net.Listener) net.Listener {
	q := newQueue()
	go func() {
		<-q.closed
		_ = g.Close()
	}()
	go func() {
		defer q.Close()
		for {
			c, err := g.Accept()
			if err != nil {
				return
			}
			go s.sort(c.(*conn), q)
		}
	}()
	return q
}

// sort serves c if it is HTTP/2, or gives it to q.
func (s *Server) sort(c *conn, q *queue) {
	in := make([]byte, 0, len(h2.Preface))
	_ = c.Conn.SetReadDeadline(time.Now().Add(s.opt.Limits.HeadTimeout)) // fails where Read does, too
	for is, perhaps := knows(in); perhaps; is, perhaps = knows(in) {
		if is {
			_ = c.Conn.SetReadDeadline(time.Time{})
			s.serve2(&sill{Conn: &begunConn{c.Conn, in}, limits: c.limits, release: c.release}, nil)
			return
		}
		n, err := c.Conn.Read(in[len(in):cap(in)])
		if in = in[:len(in)+n]; err != nil {
			break // which the next Read says again
		}
	}
	_ = c.Conn.SetReadDeadline(time.Time{})
	c.Conn = &begunConn{c.Conn, in}
	q.give(c)
}
