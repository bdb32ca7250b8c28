package front_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/larderhq/larder/internal/certs/certstest"
	"github.com/larderhq/larder/internal/front"
)

// soon is the second within which a connection has to be over that has taken too much, and
// what a busy machine adds to it.
const soon = 5 * time.Second

// atOnce is how many requests a client may have running on one connection.
const atOnce = 100

// A secureServer serves by TLS at addr.
type secureServer struct {
	*front.Server
	t     *testing.T
	addr  string
	trust *tls.Config
	done  chan error
}

func serveSecurely(t *testing.T, h http.HandlerFunc, l front.Limits) *secureServer {
	t.Helper()
	a := certstest.New(t)
	config := &tls.Config{Certificates: []tls.Certificate{a.Pair("h.example")}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &secureServer{
		Server: front.New(front.Options{Handler: h, Limits: l, TLS: &front.TLS{Config: config}}), t: t, addr: listener.Addr().String(),
		trust: &tls.Config{RootCAs: a.Pool, ServerName: "h.example", MinVersion: tls.VersionTLS12}, done: make(chan error, 1),
	}
	go func() { s.done <- s.ServeTLS(listener) }()
	return s
}

// end drains, which has to go well.
func (s *secureServer) end() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := errors.Join(s.Drain(ctx), <-s.done); err != nil {
		s.t.Error(err)
	}
}

// A rogue is a client that speaks HTTP/2 frame by frame, and not always as it should. One
// goroutine writes; what the server says is heard by another once listen was called.
type rogue struct {
	t      *testing.T
	conn   *tls.Conn
	out    *bufio.Writer
	frames *http2.Framer
	sent   int64         // octets of frames
	runs   bool          // requests of it run for long
	over   chan struct{} // closed when the server has ended the connection
	once   sync.Once

	mu      sync.Mutex
	news    chan struct{} // closed when something of what follows has changed
	streams map[uint32]*heard
	leaves  string // the code of its GOAWAY
	err     error  // how the connection ended
}

// heard is what the server has said about a stream.
type heard struct {
	status string // of the answer; empty if there is none
	octets int    // of its content
	whole  bool   // it has ended
	reset  *http2.ErrCode
}

// remembered is the last stream about which it is: a flood of answers is not to be held by its
// client.
const remembered = 2000

// of is what was heard about a stream, and never nil. The caller has mu, as what until calls does, or
// the connection is over.
func (c *rogue) of(stream uint32) *heard {
	h := c.streams[stream]
	if h == nil {
		h = new(heard)
		if stream <= remembered {
			c.streams[stream] = h
		}
	}
	return h
}

// count tells of how many streams something is true. As of.
func (c *rogue) count(is func(*heard) bool) (n int) {
	for _, h := range c.streams {
		if is(h) {
			n++
		}
	}
	return n
}

// said is of for others.
func (c *rogue) said(stream uint32) heard {
	c.mu.Lock()
	defer c.mu.Unlock()
	return *c.of(stream)
}

// tally is count for others.
func (c *rogue) tally(is func(*heard) bool) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count(is)
}

// fault is how the connection ended; nil: it has not.
func (c *rogue) fault() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (h *heard) isReset() bool { return h.reset != nil }

// isOver tells that the server has nothing more to say about it.
func (h *heard) isOver() bool { return h.whole || h.reset != nil }

// countedWriter counts what passes.
type countedWriter struct{ c *rogue }

func (w countedWriter) Write(p []byte) (int, error) {
	w.c.sent += int64(len(p))
	return w.c.out.Write(p)
}

// connect agrees on keys and nothing else.
func (s *secureServer) connect() *tls.Conn {
	s.t.Helper()
	trust := s.trust.Clone()
	trust.NextProtos = []string{"h2"}
	ctx, cancel := context.WithTimeout(s.t.Context(), soon)
	defer cancel()
	c, err := (&tls.Dialer{Config: trust}).DialContext(ctx, "tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c.(*tls.Conn)
}

// rogue connects, and comes as far as its first request. The server is heard up to its SETTINGS.
func (s *secureServer) rogue(settings ...http2.Setting) *rogue {
	s.t.Helper()
	c := &rogue{
		t: s.t, conn: s.connect(), over: make(chan struct{}), news: make(chan struct{}), streams: map[uint32]*heard{},
	}
	c.out = bufio.NewWriterSize(c.conn, 16<<10)
	c.frames = http2.NewFramer(countedWriter{c}, bufio.NewReader(c.conn))
	c.frames.AllowIllegalWrites = true
	c.frames.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.must(c.conn.SetDeadline(time.Now().Add(time.Minute))) // so that no failure hangs
	_, err := c.out.WriteString(http2.ClientPreface)
	c.must(err)
	c.must(c.frames.WriteSettings(settings...))
	c.must(c.out.Flush())
	for {
		f, err := c.frames.ReadFrame()
		c.must(err)
		if s, ok := f.(*http2.SettingsFrame); ok && !s.IsAck() {
			break
		}
	}
	c.must(c.frames.WriteSettingsAck())
	c.must(c.out.Flush())
	return c
}

func (c *rogue) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// listen hears from now on what the server says.
func (c *rogue) listen() { c.once.Do(func() { go c.hear() }) }

func (c *rogue) hear() {
	defer close(c.over)
	for {
		f, err := c.frames.ReadFrame()
		c.mu.Lock()
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			h := c.of(f.StreamID)
			h.status, h.whole = f.PseudoValue("status"), f.StreamEnded()
		case *http2.DataFrame:
			h := c.of(f.StreamID)
			h.octets += len(f.Data())
			h.whole = f.StreamEnded()
		case *http2.RSTStreamFrame:
			c.of(f.StreamID).reset = &f.ErrCode
		case *http2.GoAwayFrame:
			c.leaves = f.ErrCode.String()
		}
		_, malformed := err.(http2.StreamError)
		if err != nil && !malformed {
			c.err = err
		}
		close(c.news)
		c.news = make(chan struct{})
		c.mu.Unlock()
		if err != nil && !malformed {
			return
		}
	}
}

// until waits until seen, which is called with what was heard, and reports false if that is not
// to be within a time.
func (c *rogue) until(limit time.Duration, seen func() bool) bool {
	c.listen()
	for late := time.After(limit); ; {
		c.mu.Lock()
		ok, news := seen(), c.news
		c.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-news:
		case <-c.over:
			c.mu.Lock()
			defer c.mu.Unlock()
			return seen()
		case <-late:
			return false
		}
	}
}

// ends waits until the server has ended the connection, which has to be within a time.
func (c *rogue) ends(limit time.Duration) {
	c.t.Helper()
	c.listen()
	begun := time.Now()
	select {
	case <-c.over:
	case <-time.After(limit):
		c.t.Errorf("after %d octets the connection is still there", c.sent)
		return
	}
	c.t.Logf("ended %v later, %d octets sent, GOAWAY %q, %v", time.Since(begun).Round(time.Millisecond), c.sent, c.leaves, c.err)
}

// answered has a request made on a stream, and answered: it tells whether the client is still served.
func (c *rogue) answered(stream uint32) {
	c.t.Helper()
	c.must(c.head(stream, true, request("/small")))
	c.must(c.out.Flush())
	if !c.until(soon, func() bool { return c.of(stream).isOver() }) || c.said(stream).status != "200" {
		c.t.Errorf("stream %d is not answered: %+v, %v", stream, c.said(stream), c.fault())
	}
}

// request is a head that needs nothing of what was sent before it, and leaves nothing behind.
func request(path string, more ...hpack.HeaderField) []byte {
	return encode(append([]hpack.HeaderField{
		{Name: ":method", Value: http.MethodGet},
		{Name: ":scheme", Value: "https"},
		{Name: ":authority", Value: "h.example"},
		{Name: ":path", Value: path},
	}, more...))
}

// upload is request for one that has a body.
func upload(path string, more ...hpack.HeaderField) []byte {
	return encode(append([]hpack.HeaderField{
		{Name: ":method", Value: http.MethodPost},
		{Name: ":scheme", Value: "https"},
		{Name: ":authority", Value: "h.example"},
		{Name: ":path", Value: path},
	}, more...))
}

func encode(fields []hpack.HeaderField) []byte {
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for _, f := range fields {
		f.Sensitive = true // so it is in no table
		_ = e.WriteField(f)
	}
	return block.Bytes()
}

// head writes a head in as many frames as it needs.
func (c *rogue) head(stream uint32, end bool, block []byte) error {
	const most = 16 << 10
	first := block[:min(most, len(block))]
	rest := block[len(first):]
	if err := c.frames.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: first, EndStream: end, EndHeaders: len(rest) == 0}); err != nil {
		return err
	}
	for len(rest) > 0 {
		piece := rest[:min(most, len(rest))]
		rest = rest[len(piece):]
		if err := c.frames.WriteContinuation(stream, len(rest) == 0, piece); err != nil {
			return err
		}
	}
	return nil
}

// held is what the process holds in its heap, in octets.
func held() int64 {
	runtime.GC()
	runtime.GC() // what the first one has only put aside
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A scale weighs what a client makes the server hold.
type scale struct {
	c          *rogue
	base, peak int64
}

// weigh begins: what is held by now does not count.
func (c *rogue) weigh() *scale { return &scale{c: c, base: held()} }

// look is called by who writes: what the server has thrown away while it was looked is not
// there a moment later.
func (s *scale) look() { s.peak = max(s.peak, min(held(), held(), held(), held())-s.base) }

// judge wants that never more was held than a mebibyte, nor, as far as that can be told, more
// than four octets for each that was sent. A request that runs costs more than the few octets that
// make it, and that there are no more than a hundred of them is another matter.
func (s *scale) judge() {
	s.c.t.Helper()
	const most, doubt = 1 << 20, 256 << 10 // doubt: what cannot be told from chance
	bound := min(most, max(doubt, 4*s.c.sent))
	if s.c.runs {
		bound = most
	}
	s.c.t.Logf("%d KiB held for %d KiB sent", s.peak>>10, s.c.sent>>10)
	if s.peak > bound {
		s.c.t.Errorf("%d octets are held for %d that were sent, more than %d", s.peak, s.c.sent, bound)
	}
}

// flood writes so many times, until it cannot, weighing now and then.
func (c *rogue) flood(times int, write func(i int) error) {
	s := c.weigh()
	defer s.judge()
	defer s.look()
	for i := range times {
		if err := write(i); err != nil {
			return // the connection has ended
		}
		if i%(times/8) == 0 {
			s.look()
		}
	}
	_ = c.out.Flush() // as above
}

// work counts the requests that a handler is busy with.
type work struct{ running, most, all, cancelled atomic.Int64 }

// begin counts one; the caller calls what it returns.
func (w *work) begin() (end func()) {
	w.all.Add(1)
	n := w.running.Add(1)
	for {
		most := w.most.Load()
		if n <= most || w.most.CompareAndSwap(most, n) {
			return func() { w.running.Add(-1) }
		}
	}
}

// asked answers /small, and has everything else wait until it is cancelled, as for an origin.
func (w *work) asked(rw http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/small" {
		_, _ = rw.Write([]byte("small"))
		return
	}
	defer w.begin()()
	<-r.Context().Done()
	w.cancelled.Add(1)
}
