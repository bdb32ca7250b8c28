package h2

import (
	"cmp"
	"context"
	"crypto/tls"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Streams is how many requests a client may have on one connection, and how many Handlers run
// for it: one that has given its requests up may ask at once again, and waits for those.
const Streams = 100

const (
	// What a client may send of contents on one connection, and for one request, before a
	// Handler has read it, in octets.
	connWindow   = 384 << 10
	streamWindow = 256 << 10

	// mostHeld is how many octets of heads may belong to the requests that a Handler has of
	// one connection. What they are is as long as we like: a client can have said it with few.
	mostHeld = 320 << 10
)

// Options are what a Server is made of.
type Options struct {
	// Handler answers what no Prompt does. Its ResponseWriters are http.Flushers, and can set
	// deadlines for reading (http.ResponseController); they send trailers as net/http does.
	// Required.
	Handler http.Handler

	// Prompt, where set, makes what answers at once on one connection, whose client is at
	// addr. state is that of its TLS, or nil.
	Prompt func(addr string, state *tls.ConnectionState) Prompt

	// Head is the longest header section in octets, as RFC 9113 §6.5.2 counts them, and Fields
	// the most lines. What has more is answered with 431.
	Head, Fields int

	// HeadTimeout is how long a header section may take to come, IdleTimeout how long a
	// connection may wait for the next one, and StallTimeout how long a client may leave us
	// waiting that is to send content, or to take it: less than Least octets in that time are
	// too few.
	HeadTimeout, IdleTimeout, StallTimeout time.Duration
	Least                                  int64

	// Refused, where set, is told of a client whose octets are not HTTP/2 as it is spoken
	// here, and why. It must not block.
	Refused func(client string, status int, why string)

	// Log gets what is wrong with single connections, at debug level, and Handlers that
	// panicked. Required.
	Log *slog.Logger
}

// A Prompt answers requests for which nobody needs to be waited for. None of its methods
// runs while another one does, or the Close of one of its Bodies.
type Prompt interface {
	// Answer looks for the answer to r, which is GET or HEAD without content. It returns a
	// status line and fields as HTTP/1.1 has them, each with its end, and how many octets of
	// body follow. They are good until the next call. It reports false if the Handler has to
	// be asked.
	Answer(r *Request) (head []byte, size int64, ok bool)

	// Append appends the body of the last Answer to dst, and the answer is over. It reports
	// false, and returns dst as it was, if the body is not at hand any more. With a size of 0
	// it is called too.
	Append(dst []byte) ([]byte, bool)

	// Open is Append for bodies that are sent in pieces.
	Open() (Body, bool)
}

// A Body is what follows the head of a Prompt's answer. It is one goroutine's at a time.
type Body interface {
	// Next returns octets that follow, at least one while there are any left, without moving
	// on. They are not to be changed, nor kept after Close.
	Next() ([]byte, error)

	// Advance moves on by n octets of those.
	Advance(n int)

	// Close is called once, when sent octets have gone, and with why no more will.
	Close(sent int64, fault error)
}

// A Server serves connections. Make one with New.
type Server struct {
	opt  Options
	now  atomic.Int64 // Unix nanoseconds, as of the last look around
	base context.Context
	cut  context.CancelFunc

	mu       sync.Mutex
	conns    map[*conn]struct{}
	draining bool
	watching chan struct{} // closed when nobody looks around any more; nil: nobody did yet
	ended    chan struct{} // closed when draining, and there is no connection left
}

// New makes a Server.
func New(o Options) *Server {
	s := &Server{opt: o, conns: make(map[*conn]struct{}), ended: make(chan struct{})}
	s.base, s.cut = context.WithCancel(context.Background())
	return s
}

// Serve serves a connection on which both ends have agreed on HTTP/2, and closes it. state is
// that of its TLS; nil: it has none.
func (s *Server) Serve(nc net.Conn, state *tls.ConnectionState) {
	c := newConn(s, nc, state)
	if !s.enter(c) {
		_ = nc.Close() // nothing was said
		return
	}
	c.serve()
	s.leave(c)
}

func (s *Server) enter(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return false
	}
	if s.watching == nil {
		s.watching = make(chan struct{})
		s.now.Store(time.Now().UnixNano())
		go s.watch()
	}
	c.active = s.now.Load()
	c.unfinished, c.looked = c.active, c.active
	s.conns[c] = struct{}{}
	return true
}

func (s *Server) leave(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if s.draining && len(s.conns) == 0 {
		close(s.ended)
	}
}

// tick is how often the Server looks for clients that have taken too long.
const tick = 250 * time.Millisecond

// watch looks around until the Server has ended.
func (s *Server) watch() {
	defer close(s.watching)
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case now := <-t.C:
			s.look(now)
		case <-s.ended:
			return
		}
	}
}

func (s *Server) look(now time.Time) {
	s.now.Store(now.UnixNano())
	for _, c := range s.all() {
		c.look(now.UnixNano())
	}
}

// all returns the connections there are.
func (s *Server) all() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.conns))
}

// MakeRoom ends a share of the connections on which nothing is asked, those that have waited
// longest.
func (s *Server) MakeRoom() {
	const share = 16 // one of so many, so that not each new client costs a look at all
	type waiting struct {
		c     *conn
		since int64
	}
	var idle []waiting
	for _, c := range s.all() {
		if since, ok := c.idle(); ok {
			idle = append(idle, waiting{c, since})
		}
	}
	slices.SortFunc(idle, func(a, b waiting) int { return cmp.Compare(a.since, b.since) })
	for _, w := range idle[:(len(idle)+share-1)/share] {
		w.c.drain()
	}
}

// Drain lets no connection in any more, and requests that are running end, until ctx does:
// then the others are cut off, and the error is that of ctx.
func (s *Server) Drain(ctx context.Context) error {
	s.mu.Lock()
	if !s.draining {
		s.draining = true
		if len(s.conns) == 0 {
			close(s.ended)
		}
	}
	s.mu.Unlock()
	all := s.all() // nobody comes any more
	for _, c := range all {
		c.drain()
	}
	select {
	case <-s.ended:
		return nil
	case <-ctx.Done():
		s.cut()
		for _, c := range all {
			c.abandon(context.Cause(ctx))
		}
		return ctx.Err()
	}
}
