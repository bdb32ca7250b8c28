package h2

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// options are those of most tests.
func options(h http.HandlerFunc) Options {
	return Options{
		Handler: h, Head: 32 << 10, Fields: 100, Log: slog.New(slog.DiscardHandler),
		HeadTimeout: 10 * time.Second, IdleTimeout: 120 * time.Second, StallTimeout: 60 * time.Second, Least: 15 << 10,
	}
}

// A client speaks frames, and says nothing that it is not told to.
type client struct {
	t      testing.TB
	s      *Server
	nc     net.Conn
	fr     *http2.Framer
	block  bytes.Buffer
	enc    *hpack.Encoder
	came   chan event
	served chan struct{} // closed when the server has closed the connection

	answers map[uint32]*answer
	order   []uint32 // of the streams whose DATA came
	goAway  []event
	pings   []event       // that were answered
	acks    int           // of settings
	credit  bool          // give back at once what content took
	ears    chan struct{} // whoever takes what is in it keeps frames from being read
}

// An event is a frame that came, or why none will.
type event struct {
	http2.FrameHeader
	fields   []hpack.HeaderField
	data     []byte
	code     http2.ErrCode
	last     uint32
	settings map[http2.SettingID]uint32
	fault    error
}

// An answer is what came on a stream.
type answer struct {
	interim []int
	status  int
	fields  http.Header
	body    []byte
	trailer http.Header
	whole   bool // it ended as it should
	reset   bool
	code    http2.ErrCode
	window  int // that it has given, in so many frames
	updates int
}

func (a *answer) over() bool { return a.whole || a.reset }

// begin serves one connection by o, and returns its other end, which has said nothing yet.
func begin(t testing.TB, o Options) *client {
	t.Helper()
	here, there := net.Pipe()
	c := &client{
		t: t, s: New(o), nc: here, fr: http2.NewFramer(here, here), came: make(chan event, 12_000),
		served: make(chan struct{}), answers: make(map[uint32]*answer), credit: true, ears: make(chan struct{}, 1),
	}
	c.ears <- struct{}{}
	c.enc = hpack.NewEncoder(&c.block)
	c.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.fr.AllowIllegalWrites = true
	go func() {
		defer close(c.served)
		c.s.Serve(there, nil)
	}()
	go c.read()
	t.Cleanup(c.end)
	return c
}

// dial is begin, and the prefaces have been exchanged.
func dial(t testing.TB, o Options) *client {
	t.Helper()
	c := begin(t, o)
	c.preface()
	return c
}

func (c *client) preface(settings ...http2.Setting) {
	c.t.Helper()
	c.raw([]byte(Preface))
	c.must(c.fr.WriteSettings(settings...))
	c.until("the server's settings are acknowledged", func() bool { return c.acks > 0 })
}

// end closes, and sees that the server does not go on without a client.
func (c *client) end() {
	_ = c.nc.Close()
	if err := c.s.Drain(context.Background()); err != nil {
		c.t.Error(err)
	}
	<-c.served
}

// read has all frames come.
func (c *client) read() {
	defer close(c.came)
	for {
		f, err := c.fr.ReadFrame()
		c.ears <- <-c.ears
		if err != nil {
			c.came <- event{fault: err}
			return
		}
		e := event{FrameHeader: f.Header()}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			e.fields = f.Fields
		case *http2.HeadersFrame:
			e.data = bytes.Clone(f.HeaderBlockFragment())
		case *http2.DataFrame:
			e.data = bytes.Clone(f.Data())
		case *http2.RSTStreamFrame:
			e.code = f.ErrCode
		case *http2.GoAwayFrame:
			e.code, e.last = f.ErrCode, f.LastStreamID
		case *http2.PingFrame:
			e.data = bytes.Clone(f.Data[:])
		case *http2.WindowUpdateFrame:
			e.last = f.Increment
		case *http2.SettingsFrame:
			e.settings = make(map[http2.SettingID]uint32)
			_ = f.ForeachSetting(func(s http2.Setting) error { e.settings[s.ID] = s.Val; return nil })
		}
		c.came <- e
	}
}

func (c *client) must(err error) {
	c.t.Helper()
	if err != nil {
		c.settle()
		c.t.Fatalf("%v; GOAWAY: %+v", err, c.goAway)
	}
}

func (c *client) raw(p []byte) {
	c.t.Helper()
	_, err := c.nc.Write(p)
	c.must(err)
}

// head returns a header block.
func (c *client) head(lines ...string) []byte {
	c.block.Reset()
	for i := 0; i < len(lines); i += 2 {
		_ = c.enc.WriteField(hpack.HeaderField{Name: lines[i], Value: lines[i+1]})
	}
	return c.block.Bytes()
}

// ask sends a request; end: it has no content.
func (c *client) ask(id uint32, end bool, method, path string, lines ...string) {
	c.t.Helper()
	all := append([]string{":method", method, ":scheme", "http", ":authority", "h.example", ":path", path}, lines...)
	c.raw(appendHeaders(nil, id, c.head(all...), end))
}

func (c *client) get(id uint32, path string, lines ...string) { c.ask(id, true, "GET", path, lines...) }

// of is the answer on a stream, so far.
func (c *client) of(id uint32) *answer {
	a := c.answers[id]
	if a == nil {
		a = &answer{}
		c.answers[id] = a
	}
	return a
}

// next takes the next frame in. It reports false if there will be none.
func (c *client) next() (event, bool) {
	select {
	case e, ok := <-c.came:
		if !ok || e.fault != nil {
			return e, false
		}
		c.take(e)
		return e, true
	case <-time.After(time.Minute):
		c.t.Fatal("the server has nothing to say")
		panic("unreachable")
	}
}

// until takes frames in until ok; what says what for.
func (c *client) until(what string, ok func() bool) {
	c.t.Helper()
	for !ok() {
		if e, more := c.next(); !more {
			c.t.Fatalf("the connection ended, for %v, before %s; GOAWAY: %v", e.fault, what, c.goAway)
		}
	}
}

// settle takes in what has come.
func (c *client) settle() {
	for {
		select {
		case e, ok := <-c.came:
			if !ok {
				return
			}
			if e.fault == nil {
				c.take(e)
			}
		default:
			return
		}
	}
}

// answer waits until the answer on a stream is over.
func (c *client) answer(id uint32) *answer {
	c.t.Helper()
	c.until("the answer on stream "+strconv.Itoa(int(id)), c.of(id).over)
	return c.of(id)
}

// gone waits until the server has ended the connection, and returns what it said last.
func (c *client) gone() event {
	for {
		if _, more := c.next(); !more {
			<-c.served
			if n := len(c.goAway); n > 0 {
				return c.goAway[n-1]
			}
			return event{}
		}
	}
}

// pong waits until the server has handled all that was sent: what it has to send for that
// comes after the first answer, and before the second.
func (c *client) pong() {
	c.t.Helper()
	for range 2 {
		n := len(c.pings)
		c.must(c.fr.WritePing(false, [8]byte{1}))
		c.until("the PING is answered", func() bool { return len(c.pings) > n })
	}
}

func (c *client) take(e event) {
	c.t.Helper()
	a := c.of(e.StreamID)
	if e.StreamID != 0 && a.over() && e.Type != http2.FrameRSTStream && e.Type != http2.FrameWindowUpdate {
		c.t.Errorf("%v after the end of the stream", e.FrameHeader)
	}
	switch e.Type {
	case http2.FrameHeaders:
		c.takeFields(a, e)
	case http2.FrameData:
		a.body = append(a.body, e.data...)
		a.whole = e.Flags.Has(http2.FlagDataEndStream)
		if len(e.data) > 0 {
			c.order = append(c.order, e.StreamID)
		}
		if n := uint32(len(e.data)); c.credit && n > 0 {
			_ = c.fr.WriteWindowUpdate(0, n) // the connection may have ended
			if !a.whole {
				_ = c.fr.WriteWindowUpdate(e.StreamID, n)
			}
		}
	case http2.FrameRSTStream:
		a.reset, a.code = true, e.code
	case http2.FrameGoAway:
		c.goAway = append(c.goAway, e)
	case http2.FrameWindowUpdate:
		a.window += int(e.last)
		a.updates++
	case http2.FramePing:
		if e.Flags.Has(http2.FlagPingAck) {
			c.pings = append(c.pings, e)
		}
	case http2.FrameSettings:
		if e.Flags.Has(http2.FlagSettingsAck) {
			c.acks++
		}
	}
}

func (c *client) takeFields(a *answer, e event) {
	h := make(http.Header)
	status := 0
	for _, f := range e.fields {
		if f.Name == ":status" {
			status, _ = strconv.Atoi(f.Value)
			continue
		}
		h.Add(f.Name, f.Value)
	}
	switch {
	case a.status != 0:
		a.trailer = h
	case status < 200:
		a.interim = append(a.interim, status)
		return
	default:
		a.status, a.fields = status, h
	}
	a.whole = e.StreamEnded()
}

// StreamEnded tells whether the frame ends its stream.
func (e event) StreamEnded() bool { return e.Flags.Has(http2.FlagHeadersEndStream) }

// wants sees that the answer is whole, with that status and body.
func (a *answer) wants(t testing.TB, status int, body string) {
	t.Helper()
	if !a.whole || a.reset || a.status != status || string(a.body) != body {
		t.Errorf("the answer: whole %v, reset %v (%v), status %d, %d octets %.40q; want status %d, %d octets", a.whole, a.reset, a.code, a.status, len(a.body), a.body, status, len(body))
	}
}

func (a *answer) wasReset(t testing.TB, code http2.ErrCode) {
	t.Helper()
	if !a.reset || a.code != code {
		t.Errorf("the answer: whole %v, reset %v with %v, status %d; want a reset with %v", a.whole, a.reset, a.code, a.status, code)
	}
}

// A gate holds Handlers up until it is opened.
type gate chan struct{}

func (g gate) pass(r *http.Request) bool {
	select {
	case <-g:
		return true
	case <-r.Context().Done():
		return false
	}
}

// echo answers with what it is sent.
func echo(w http.ResponseWriter, r *http.Request) {
	all, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Trailers", strings.Join(slices.Sorted(maps.Keys(r.Trailer)), ","))
	_, _ = w.Write(all)
}

var errBody = errors.New("the body is damaged")

// A shelf is a Prompt that has an answer for each of its paths.
type shelf struct {
	bodies map[string][]byte
	found  []byte
	open   int // Bodies that are not closed yet
	ended  []error
	broken bool // bodies cannot be read to their end
	head   []byte
}

func (s *shelf) prompt(o Options) Options {
	o.Prompt = func(string, *tls.ConnectionState) Prompt { return s }
	return o
}

func (s *shelf) Answer(r *Request) (head []byte, size int64, ok bool) {
	s.found, ok = s.bodies[string(r.Path)]
	if !ok {
		return nil, 0, false
	}
	s.head = append(s.head[:0], "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Long-Name: a value\r\nContent-Length: "...)
	s.head = append(strconv.AppendInt(s.head, int64(len(s.found)), 10), "\r\n\r\n"...)
	if string(r.Method) == http.MethodHead {
		s.found = nil
	}
	return s.head, int64(len(s.found)), true
}

func (s *shelf) Append(dst []byte) ([]byte, bool) { return append(dst, s.found...), true }

func (s *shelf) Open() (Body, bool) {
	s.open++
	return &shelfBody{s, s.found, len(s.found)}, true
}

type shelfBody struct {
	s    *shelf
	rest []byte
	size int
}

func (b *shelfBody) Next() ([]byte, error) {
	if b.s.broken && len(b.rest) < b.size {
		return nil, errBody
	}
	return b.rest[:min(len(b.rest), 5000)], nil
}
func (b *shelfBody) Advance(n int) { b.rest = b.rest[n:] }

func (b *shelfBody) Close(_ int64, fault error) {
	b.s.open--
	b.s.ended = append(b.s.ended, fault)
}
