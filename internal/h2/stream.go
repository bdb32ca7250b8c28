package h2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"
)

// bufferLen is how much a Handler may write before it goes out, unless it is flushed.
const bufferLen = 4 << 10

var buffers = sync.Pool{New: func() any {
	b := make([]byte, 0, bufferLen)
	return &b
}}

// A stream is a request that could not be answered at once, and its answer. For a Handler it
// is the http.ResponseWriter, and one goroutine's. What is shared is guarded by the mu of its
// connection.
type stream struct {
	c  *conn
	id uint32

	urgency int8
	mixed   bool
	turn    uint64 // when it was last its turn to send
	queued  bool   // it is in the queue
	window  int64  // octets that the client takes
	closed  bool   // the client sends no more
	over    bool   // it is none of the connection's any more
	err     error  // why
	pace    pace   // at which the client takes content

	// Of a Prompt's answer.
	body Body
	left int64
	sent int64
	busy bool // somebody reads the body

	// Of a Handler's.
	method  string
	cancel  context.CancelFunc
	wake    sync.Cond // data was taken, content has come, or the stream is over
	data    []byte    // what is written: Write waits until it is taken
	last    bool      // nothing follows data
	upload  upload
	held    int           // octets of the request's head
	asked   *http.Request // that no Handler has yet
	expects bool          // the client waits for 100 (RFC 9110 §10.1.1)
	running bool          // the Handler is

	tunnels bool // an extended CONNECT that is not answered yet
	header  http.Header
	status  int // 0: nothing was said yet
	sealed  http.Header
	began   bool  // the head is out
	wrote   int64 // octets of the body
	length  int64 // that the Handler has promised; negative: nothing
	buffer  *[]byte
}

// An upload is the content of a request.
type upload struct {
	octets  []byte // that have come and nobody has read
	length  int64  // that was promised; negative: nothing
	came    int64
	receive int64       // octets that the client may send
	owed    int64       // octets that were read, and the client does not know of
	trailer http.Header // of the request, which is the Handler's until it is told of the end
	after   http.Header // what has come of that
	done    bool        // all of it has come
	cut     bool        // and not all was kept
	shut    bool        // nobody reads any more

	deadline int64 // for reading, Unix nanoseconds; 0: none
	since    int64 // since when somebody waits and pace does not know; 0: nobody does
	pace     pace
	patient  bool // a tunnel's, where nothing may come for as long as it likes
	late     bool // the client has taken too long
}

// A pace is how much came or went, in octets, of what we have waited for, in nanoseconds.
type pace struct{ moved, waited int64 }

// tooSlow counts that we have waited so much longer, and tells whether what came in
// StallTimeout was too little.
func (p *pace) tooSlow(waited int64, o *Options) bool {
	if p.waited += waited; p.waited <= int64(o.StallTimeout) {
		return false
	}
	slow := p.moved < o.Least
	*p = pace{}
	return slow
}

// content is what of a DATA frame has not come yet.
type content struct {
	left, pad int // octets of the payload, of which so many are padding
	st        *stream
	end       bool
}

// data begins a DATA frame, of which rest is there.
func (c *conn) data(h frameHeader, rest []byte) (used int, err error) {
	pad := 0
	if h.has(flagPadded) {
		if len(rest) == 0 && h.length > 0 {
			return 0, nil
		}
		if h.length == 0 || int(rest[0]) >= h.length {
			return 0, &fault{protocolError, "the padding is longer than the frame (RFC 9113 6.1)"}
		}
		pad = int(rest[0])
		used = 1
	}
	if c.isIdle(h.stream) {
		return 0, &fault{protocolError, "DATA on no stream (RFC 9113 6.1)"}
	}
	if c.receive -= int64(h.length); c.receive < 0 {
		return 0, &fault{flowControlError, "more content than the window has room for (RFC 9113 6.9)"}
	}
	payload := h.length - used - pad
	if payload == 0 && !h.has(flagEndStream) && !c.calm.pay(10) {
		return 0, errTooBusy
	}
	st := c.streams[h.stream]
	c.credit(int64(used)) // the octet that says how much padding there is
	c.content = content{left: payload + pad, pad: pad, st: st, end: h.has(flagEndStream)}
	switch {
	case st == nil && (h.stream > c.last || c.wasReset(h.stream)):
	case st == nil || st.closed:
		err = c.wrong(h.stream, streamClosed)
	default:
		err = c.admit(st, int64(h.length), int64(payload), int64(used+pad))
	}
	if err == nil && c.content.left == 0 {
		c.endContent()
	}
	return frameHeaderLen + used, err
}

// admit sees whether content of st is what it should be: a frame of so many octets, of which
// payload are not padding.
func (c *conn) admit(st *stream, length, payload, padding int64) error {
	u := &st.upload
	if u.receive -= length; u.receive < 0 {
		return c.wrong(st.id, flowControlError)
	}
	u.came += payload
	if u.length >= 0 && (u.came > u.length || c.content.end && u.came != u.length) {
		c.refused("the content has another length than it was to have (RFC 9113 8.1.1)")
		return c.wrong(st.id, protocolError)
	}
	st.restore(padding)
	return nil
}

// takeContent takes what has come of a DATA frame.
func (c *conn) takeContent(in []byte) int {
	d := &c.content
	n := min(len(in), d.left)
	real := max(min(n, d.left-d.pad), 0)
	if st := d.st; real > 0 && st != nil && !st.over && !st.upload.shut {
		st.upload.octets = append(st.upload.octets, in[:real]...)
		st.upload.pace.moved += int64(real)
		st.wake.Broadcast()
	} else {
		if st != nil && real > 0 {
			st.upload.cut = true
		}
		c.credit(int64(real))
	}
	c.credit(int64(n - real))
	if d.left -= n; d.left == 0 {
		c.endContent()
	}
	return n
}

// endContent ends a DATA frame.
func (c *conn) endContent() {
	if st := c.content.st; st != nil && !st.over && c.content.end {
		st.closed, st.upload.done = true, true
		st.wake.Broadcast()
	}
	c.content = content{}
}

// credit lets the client send n octets of content more on the connection.
func (c *conn) credit(n int64) {
	c.owed += n
	if c.owed >= connWindow/4 {
		c.receive += c.owed
		c.out = appendWindowUpdate(c.out, 0, c.owed)
		c.owed = 0
	}
}

// refused tells of a client that does not speak HTTP/2 as it should.
func (c *conn) refused(why string) {
	if c.s.opt.Refused != nil {
		c.s.opt.Refused(c.addr, http.StatusBadRequest, why)
	}
}

// section handles a header section whose block is there.
func (c *conn) section(h frameHeader, block []byte) error {
	switch err := c.dec.decode(block); err {
	case nil:
	case errBomb:
		return &fault{enhanceYourCalm, err.Error()}
	default:
		return &fault{compressionError, err.Error()}
	}
	id, end := h.stream, h.has(flagEndStream)
	if st := c.streams[id]; st != nil {
		return c.trailers(st, end)
	}
	if id <= c.last {
		if c.wasReset(id) {
			return nil
		}
		return &fault{streamClosed, "HEADERS on a stream that is over (RFC 9113 5.1)"}
	}
	if c.final {
		return nil // the client knows, or will (RFC 9113 §6.8)
	}
	c.last, c.active = id, c.s.now.Load()
	c.calm.earn(4)
	err := c.request.read(&c.dec)
	over := c.dec.over()
	switch {
	case err != nil && !over:
		c.refused(err.Error())
		return c.wrong(id, protocolError)
	case len(c.streams) >= Streams, c.held+c.request.size() > mostHeld && c.held > 0:
		return c.wrong(id, refusedStream)
	case over:
		c.refused("the head is too long or has too many lines (RFC 6585 5)")
		return c.tooLarge(id, end)
	}
	r := &c.request
	if end && r.length > 0 {
		c.refused(errLength.Error())
		return c.wrong(id, protocolError)
	}
	if c.prompt != nil && end && (string(r.Method) == http.MethodGet || string(r.Method) == http.MethodHead) && c.instant(id) {
		c.patience.earn(1)
		return nil
	}
	return c.ask(id, end)
}

// tooLarge answers a request whose head is not kept.
func (c *conn) tooLarge(id uint32, end bool) error {
	c.say(id, http.StatusRequestHeaderFieldsTooLarge, http.Header{"Content-Length": {"0"}}, true)
	if end {
		return c.forgive()
	}
	return c.wrong(id, noError)
}

// say adds a header section to what goes out on stream id: one with a status, or the trailers,
// which have 0. end: nothing follows.
func (c *conn) say(id uint32, status int, h http.Header, end bool) {
	c.ready()
	b := c.room[:0]
	if c.unshrunk {
		c.unshrunk = false
		b = append(b, 0x20) // RFC 7541 §6.3
	}
	if status != 0 {
		b = appendStatus(b, status)
	}
	c.room = appendFields(b, h)
	c.out = appendHeaders(c.out, id, c.room, end)
}

// trailers ends the content of st (RFC 9113 §8.1).
func (c *conn) trailers(st *stream, end bool) error {
	u := &st.upload
	switch {
	case st.closed:
		return c.wrong(st.id, streamClosed)
	case !end || c.dec.over() || u.length >= 0 && u.came != u.length:
		return c.wrong(st.id, protocolError)
	}
	u.after = make(http.Header)
	for _, s := range c.dec.spans {
		name, value := c.dec.field(s)
		if !soundName(name) || !soundValue(value) {
			return c.wrong(st.id, protocolError)
		}
		u.after.Add(canonical(name), string(bytes.Trim(value, " \t")))
	}
	st.closed, u.done = true, true
	st.wake.Broadcast()
	return nil
}

// ask has the Handler answer the request.
func (c *conn) ask(id uint32, end bool) error {
	ctx, cancel := context.WithCancel(c.ctx)
	q, err := c.request.forHandler(ctx, &c.dec.table)
	if err != nil {
		cancel()
		c.refused(err.Error())
		return c.wrong(id, protocolError)
	}
	st := &stream{
		c: c, id: id, urgency: c.request.urgency, mixed: c.request.mixed, window: c.initial, closed: end,
		method: q.Method, cancel: cancel, held: c.request.size(), asked: q, header: make(http.Header), length: -1,
		upload: upload{length: c.request.length, receive: streamWindow, trailer: q.Trailer, done: end},
	}
	st.wake.L = &c.mu
	q.RemoteAddr, q.TLS, q.ContentLength = c.addr, c.tls, c.request.length
	switch {
	case c.request.protocol != nil:
		q.ContentLength, st.tunnels, st.upload.patient = 0, true, true
	case end:
		q.ContentLength = 0
	default:
		q.Body = (*uploadBody)(st)
		if lines := q.Header["Expect"]; len(lines) == 1 && strings.EqualFold(lines[0], "100-continue") {
			st.expects = true
		}
	}
	c.streams[id] = st
	c.held += st.held
	c.line = append(c.line, st)
	c.start()
	return nil
}

// start has Handlers answer those who wait, as far as so many may run.
func (c *conn) start() {
	for len(c.line) > 0 && c.running < Streams {
		st := c.line[0]
		c.line = slices.Delete(c.line, 0, 1)
		c.running++
		st.running = true
		go st.run(st.asked)
		st.asked = nil
	}
}

// end takes a stream out of the connection, which has ended for err; nil: it was answered.
// The caller holds mu.
func (c *conn) end(id uint32, st *stream, err error) {
	delete(c.streams, id)
	c.active = c.s.now.Load()
	st.over, st.err = true, err
	switch {
	case st.running:
		st.cancel()
		st.wake.Broadcast()
		c.written.Broadcast()
	case st.asked != nil: // and will not be
		st.asked = nil
		st.cancel()
		c.held -= st.held
		c.line = slices.DeleteFunc(c.line, func(other *stream) bool { return other == st })
	}
	st.upload.close(c)
	if st.body != nil && !st.busy {
		st.closeBody(err)
	}
	c.closeIdle()
}

// answered ends a stream whose answer will go out with all there is, if the request is whole
// too: the client may ask the next thing as soon as it knows, and before the Handler has noticed.
func (c *conn) answered(st *stream) {
	if st.closed {
		c.end(st.id, st, nil)
		c.patience.earn(1)
	}
}

// hasten calls those back who have read for too long, as of now.
func (st *stream) hasten(now int64, o *Options) {
	u := &st.upload
	slow := u.since != 0 && !u.patient && u.pace.tooSlow(now-u.since, o)
	if u.since != 0 {
		u.since = now
	}
	if slow || u.deadline != 0 && now >= u.deadline {
		u.late = true
		st.wake.Broadcast()
	}
}

// run has the Handler answer q.
func (st *stream) run(q *http.Request) {
	c := st.c
	defer func() {
		v := recover()
		if v != nil && v != http.ErrAbortHandler {
			c.s.opt.Log.Error("a handler panicked; please report it", "panic", v, "stack", string(debug.Stack()))
		}
		st.finish(v == nil)
	}()
	c.s.opt.Handler.ServeHTTP(st, q)
}

// finish ends the answer: well, or for an abort.
func (st *stream) finish(well bool) {
	well = well && st.conclude()
	if st.buffer != nil {
		*st.buffer = (*st.buffer)[:0]
		buffers.Put(st.buffer)
		st.buffer = nil
	}
	c := st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	st.running = false
	c.running--
	c.held -= st.held
	st.cancel()
	c.start()
	switch {
	case st.over:
	case !well:
		c.refuse(st.id, internalError)
	case !st.closed:
		c.refuse(st.id, noError) // RFC 9113 §8.1
	default:
		c.answered(st)
	}
	c.sendLater()
}

// conclude sends what is left of the answer. It reports false if that is less than was promised.
func (st *stream) conclude() bool {
	if st.status == 0 {
		st.WriteHeader(http.StatusOK)
	}
	if st.wrote < st.length && st.method != http.MethodHead && st.hasBody() {
		return false
	}
	trailers := Trailers(st.sealed, st.header)
	if !st.began && st.length < 0 && st.method != http.MethodHead && st.hasBody() && len(trailers) == 0 {
		if _, said := st.sealed["Content-Length"]; !said {
			st.length = int64(st.buffered())
			st.sealed["Content-Length"] = []string{strconv.FormatInt(st.length, 10)}
		}
	}
	_ = st.flush(len(trailers) == 0)
	if len(trailers) > 0 {
		st.sendTrailers(trailers)
	}
	return true
}

func (st *stream) hasBody() bool {
	return st.status != http.StatusNoContent && st.status != http.StatusNotModified
}

func (st *stream) buffered() int {
	if st.buffer == nil {
		return 0
	}
	return len(*st.buffer)
}

// Header implements http.ResponseWriter.
func (st *stream) Header() http.Header { return st.header }

// WriteHeader implements http.ResponseWriter. An interim response goes out at once.
func (st *stream) WriteHeader(status int) {
	if status < 100 || status > 999 {
		panic(fmt.Sprintf("h2: status %d", status))
	}
	switch {
	case st.status != 0, status == http.StatusSwitchingProtocols:
		return
	case status < 200:
		st.interim(status)
		return
	}
	if st.tunnels && status < 300 { // the client would take it for a tunnel (RFC 8441 §5)
		status, st.header, st.method = http.StatusNotImplemented, make(http.Header), http.MethodHead // the body goes nowhere
	}
	st.status, st.sealed = status, st.header.Clone()
	if lines, said := st.sealed["Content-Length"]; said {
		n, err := strconv.ParseUint(strings.Join(lines, ","), 10, 63)
		if err == nil && status != http.StatusNoContent { // RFC 9110 §8.6
			st.length = int64(n)
		} else {
			delete(st.sealed, "Content-Length")
		}
	}
	st.unexpect()
	if _, said := st.sealed["Date"]; !said {
		st.sealed["Date"] = []string{time.Now().UTC().Format(http.TimeFormat)}
	}
}

// unexpect lets nobody say 100 any more.
func (st *stream) unexpect() {
	st.c.mu.Lock()
	defer st.c.mu.Unlock()
	st.expects = false
}

func (st *stream) interim(status int) {
	h := st.header
	if _, said := h["Content-Length"]; said { // RFC 9110 §8.6
		h = h.Clone()
		delete(h, "Content-Length")
	}
	if status == http.StatusContinue {
		st.unexpect()
	}
	c := st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.await(st) {
		return
	}
	c.say(st.id, status, h, false)
	c.send(st)
}

// Write implements http.ResponseWriter.
func (st *stream) Write(p []byte) (int, error) {
	if st.status == 0 {
		st.WriteHeader(http.StatusOK)
	}
	if !st.hasBody() {
		return 0, http.ErrBodyNotAllowed
	}
	if st.length >= 0 && int64(len(p)) > st.length-st.wrote {
		return 0, http.ErrContentLength
	}
	st.wrote += int64(len(p))
	if st.method == http.MethodHead || len(p) == 0 {
		return len(p), nil
	}
	if n := st.buffered(); n+len(p) > bufferLen {
		if n > 0 {
			if err := st.flush(false); err != nil {
				return 0, err
			}
		}
		if len(p) >= bufferLen {
			return st.out(p, false)
		}
	}
	if st.buffer == nil {
		st.buffer = buffers.Get().(*[]byte)
	}
	*st.buffer = append(*st.buffer, p...)
	return len(p), nil
}

// Flush implements http.Flusher.
func (st *stream) Flush() { _ = st.FlushError() }

// FlushError is Flush, and says whether it was of use.
func (st *stream) FlushError() error {
	if st.status == 0 {
		st.WriteHeader(http.StatusOK)
	}
	return st.flush(false)
}

// flush sends what is buffered. end: nothing follows.
func (st *stream) flush(end bool) error {
	var p []byte
	if st.buffer != nil {
		p = *st.buffer
	}
	_, err := st.out(p, end)
	if st.buffer != nil {
		*st.buffer = (*st.buffer)[:0]
	}
	return err
}

// out sends p, after the head if that is not out yet, and returns when it is taken.
func (st *stream) out(p []byte, end bool) (int, error) {
	c := st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.await(st) {
		return 0, st.fault()
	}
	c.ready()
	if !st.began {
		st.began = true
		c.say(st.id, st.status, st.sealed, end && len(p) == 0)
	} else if end && len(p) == 0 {
		c.frameOf(st, nil, true)
	}
	if end && len(p) == 0 {
		c.answered(st)
	}
	if len(p) > 0 {
		st.data, st.last = p, end
		c.enqueue(st)
	}
	c.send(st)
	for len(st.data) > 0 && !st.over {
		st.wake.Wait()
	}
	n := len(p) - len(st.data)
	st.data = nil
	if st.over && n < len(p) {
		return n, st.fault()
	}
	return n, nil
}

// fault is why nothing can be sent any more.
func (st *stream) fault() error {
	if st.err == nil {
		return errGone
	}
	return st.err
}

func (st *stream) sendTrailers(t http.Header) {
	c := st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.await(st) {
		return
	}
	c.say(st.id, 0, t, true)
	c.answered(st)
	c.send(st)
}

// appendFields writes the fields of h in order, but those of a connection (RFC 9113 §8.2.2),
// those that come after the content, and those whose name is none: it could be one of HTTP/2's.
func appendFields(dst []byte, h http.Header) []byte {
	var room [32]string
	names := room[:0]
	for name := range h {
		switch http.CanonicalHeaderKey(name) {
		case "Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade":
			continue
		}
		if httpguts.ValidHeaderFieldName(name) { // none with http.TrailerPrefix is
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		for _, line := range h[name] {
			dst = appendField(dst, name, oneLine(line))
		}
	}
	return dst
}

// oneLine takes out of a field value what would end its line elsewhere, as net/http does,
// other control characters, and blanks around it (RFC 9113 §8.2.1).
func oneLine(value string) string {
	if !httpguts.ValidHeaderFieldValue(value) {
		b := []byte(value)
		for i, c := range b {
			if c < ' ' || c == 0x7f {
				b[i] = ' '
			}
		}
		value = string(b)
	}
	return strings.Trim(value, " \t")
}

// SetReadDeadline is for http.ResponseController: reading the content ends then, or up to
// a tick later. One that is over ends it at once.
func (st *stream) SetReadDeadline(t time.Time) error {
	st.c.mu.Lock()
	defer st.c.mu.Unlock()
	u := &st.upload
	switch {
	case t.IsZero():
		u.deadline, u.late = 0, false
	case !t.After(time.Now()):
		u.late = true
		st.wake.Broadcast()
	default:
		u.deadline, u.late = t.UnixNano(), false
	}
	return nil
}

// EnableFullDuplex is for http.ResponseController: HTTP/2 always is.
func (st *stream) EnableFullDuplex() error { return nil }

// An uploadBody is a stream as its Handler reads the content.
type uploadBody stream

var errReadAfterClose = errors.New("the content was read after it was closed")

// Read implements io.Reader.
func (b *uploadBody) Read(p []byte) (int, error) {
	st := (*stream)(b)
	c, u := st.c, &st.upload
	c.mu.Lock()
	defer c.mu.Unlock()
	if st.expects && len(u.octets) == 0 && !u.done && !u.shut {
		st.expects = false
		c.say(st.id, http.StatusContinue, nil, false)
		c.send(st)
	}
	for len(u.octets) == 0 && !u.done && !u.shut && !u.late && len(p) > 0 {
		u.since = c.s.now.Load()
		st.wake.Wait()
		u.pace.waited += c.s.now.Load() - u.since
		u.since = 0
	}
	switch {
	case len(p) == 0:
		return 0, nil
	case len(u.octets) > 0:
		n := copy(p, u.octets)
		if u.octets = u.octets[n:]; len(u.octets) == 0 {
			u.octets = nil
		}
		c.credit(int64(n))
		st.restore(int64(n))
		c.sendLater()
		return n, nil
	case u.done && !u.cut:
		u.tell()
		return 0, io.EOF
	case u.late:
		return 0, os.ErrDeadlineExceeded
	case st.over:
		return 0, st.fault()
	}
	return 0, errReadAfterClose
}

// tell has the Handler know the fields that came after the content, of those that were
// announced.
func (u *upload) tell() {
	for name := range u.trailer {
		if lines := u.after[name]; lines != nil {
			u.trailer[name] = lines
		}
	}
	u.after = nil
}

// restore lets the client send n octets more for the stream.
func (st *stream) restore(n int64) {
	c, u := st.c, &st.upload
	if u.owed += n; u.owed >= streamWindow/4 && !u.done && !st.over {
		u.receive += u.owed
		c.out = appendWindowUpdate(c.out, st.id, u.owed)
		u.owed = 0
	}
}

// close has nobody read what came and what comes. The client may send as much on the connection.
func (u *upload) close(c *conn) {
	c.credit(int64(len(u.octets)))
	u.cut = u.cut || len(u.octets) > 0
	u.octets, u.shut = nil, true
}

// Close implements io.Closer: what comes of the content from now on goes nowhere.
func (b *uploadBody) Close() error {
	st := (*stream)(b)
	st.c.mu.Lock()
	defer st.c.mu.Unlock()
	st.upload.close(st.c)
	st.wake.Broadcast()
	st.c.sendLater()
	return nil
}
