package h2

import (
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
)

// bufferLen is how much a Handler may write before it goes out, unless it is flushed.
const bufferLen = frameLen

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
	stuck   int64  // since when taken is measured, Unix nanoseconds; 0: not yet
	taken   int64

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
	held    int  // octets of the request's head
	expects bool // the client waits for 100 (RFC 9110 §10.1.1)
	running bool // the Handler is

	header http.Header
	status int // 0: nothing was said yet
	sealed http.Header
	began  bool  // the head is out
	wrote  int64 // octets of the body
	length int64 // that the Handler has promised; negative: nothing
	buffer *[]byte
}

// An upload is the content of a request.
type upload struct {
	octets  []byte // that have come and nobody has read
	length  int64  // that was promised; negative: nothing
	came    int64
	receive int64 // octets that the client may send
	owed    int64 // octets that were read, and the client does not know of
	trailer http.Header
	done    bool // all of it has come
	shut    bool // nobody reads any more

	deadline int64 // for reading, Unix nanoseconds; 0: none
	since    int64 // since when somebody waits; 0: nobody does
	waited   int64 // how long that was before, and heard how much came, since both were last compared
	heard    int64
	late     bool // the client has taken too long
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
	if h.stream == 0 || h.stream > c.last {
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
	case st == nil && c.wasReset(h.stream):
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
	if padding > 0 && !st.over {
		u.receive += padding
		c.out = appendWindowUpdate(c.out, st.id, padding)
	}
	return nil
}

// takeContent takes what has come of a DATA frame.
func (c *conn) takeContent(in []byte) int {
	d := &c.content
	n := min(len(in), d.left)
	real := max(min(n, d.left-d.pad), 0)
	if st := d.st; real > 0 && st != nil && !st.over && !st.upload.shut {
		st.upload.octets = append(st.upload.octets, in[:real]...)
		st.upload.heard += int64(real)
		st.wake.Broadcast()
	} else {
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
	if c.dec.decode(block) != nil {
		return &fault{compressionError, errCompression.Error()}
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
	c.last = id
	c.calm.earn(4)
	err := c.request.read(&c.dec)
	over := c.dec.over()
	switch {
	case err != nil && !over:
		c.refused(err.Error())
		return c.wrong(id, protocolError)
	case len(c.streams)+c.orphans >= Streams, c.held+c.request.size() > mostHeld && c.held > 0:
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
	c.room = c.appendSize(c.room[:0])
	c.room = appendStatus(c.room, http.StatusRequestHeaderFieldsTooLarge)
	c.room = appendField(c.room, "content-length", "0")
	c.out = appendHeaders(c.out, id, c.room, true)
	if end {
		return c.forgive()
	}
	return c.wrong(id, noError)
}

// appendSize begins a header block.
func (c *conn) appendSize(dst []byte) []byte {
	if c.unshrunk {
		c.unshrunk = false
		dst = append(dst, 0x20) // RFC 7541 §6.3
	}
	return dst
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
	for _, s := range c.dec.spans {
		name, value := c.dec.field(s)
		if !soundName(name) || !soundValue(value) {
			return c.wrong(st.id, protocolError)
		}
		if key := canonical(name); u.trailer != nil {
			if _, announced := u.trailer[key]; announced {
				u.trailer[key] = append(u.trailer[key], string(value))
			}
		}
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
		method: q.Method, cancel: cancel, held: c.request.size(), running: true, header: make(http.Header), length: -1,
		upload: upload{length: c.request.length, receive: streamWindow, trailer: q.Trailer, done: end},
	}
	st.wake.L = &c.mu
	q.RemoteAddr, q.TLS, q.ContentLength = c.addr, c.tls, c.request.length
	if end {
		q.ContentLength = 0
	} else {
		q.Body = (*uploadBody)(st)
		if lines := q.Header["Expect"]; len(lines) == 1 && strings.EqualFold(lines[0], "100-continue") {
			st.expects = true
		}
	}
	c.streams[id] = st
	c.held += st.held
	go st.run(q)
	return nil
}

// end takes a stream out of the connection, which has ended for err; nil: it was answered.
// The caller holds mu.
func (c *conn) end(id uint32, st *stream, err error) {
	delete(c.streams, id)
	st.over, st.err = true, err
	if st.running {
		c.orphans++
		st.cancel()
		st.wake.Broadcast()
	}
	u := &st.upload
	c.credit(int64(len(u.octets)))
	u.octets, u.shut = nil, true
	if st.body != nil && !st.busy {
		st.closeBody(err)
	}
	c.closeIdle()
}

// stalls tells whether the client keeps a stream from going on, as of now, and calls those
// back who read for too long.
func (st *stream) stalls(now int64, o *Options) bool {
	u := &st.upload
	limit := int64(o.StallTimeout)
	if u.since != 0 && u.waited+now-u.since > limit && u.heard < o.Least || u.deadline != 0 && now >= u.deadline {
		u.late = true
		st.wake.Broadcast()
	}
	if !st.queued {
		return false
	}
	switch {
	case st.stuck == 0:
		st.stuck, st.taken = now, 0
	case now-st.stuck > limit && st.taken < o.Least:
		return true
	case now-st.stuck > limit:
		st.stuck, st.taken = now, 0
	}
	return false
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
	c.held -= st.held
	st.cancel()
	switch {
	case st.over:
		c.orphans--
		c.closeIdle()
	case !well:
		c.refuse(st.id, internalError)
	case !st.closed:
		c.refuse(st.id, noError) // RFC 9113 §8.1
	default:
		c.end(st.id, st, nil)
		c.patience.earn(1)
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
	if !st.began && st.length < 0 && st.lengthFits() {
		if _, said := st.sealed["Content-Length"]; !said {
			st.length = int64(st.buffered())
			st.sealed["Content-Length"] = []string{strconv.FormatInt(st.length, 10)}
		}
	}
	trailers := st.trailers()
	_ = st.flush(len(trailers) == 0)
	if len(trailers) > 0 {
		st.sendTrailers(trailers)
	}
	return true
}

// lengthFits tells whether an answer without a length may be given one.
func (st *stream) lengthFits() bool {
	return st.method != http.MethodHead && st.hasBody() && len(st.trailers()) == 0
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
	st.status, st.sealed = status, st.header.Clone()
	if lines := st.sealed["Content-Length"]; len(lines) == 1 {
		if n, err := strconv.ParseUint(lines[0], 10, 63); err == nil {
			st.length = int64(n)
		}
	}
	if _, said := st.sealed["Date"]; !said {
		st.sealed["Date"] = []string{time.Now().UTC().Format(http.TimeFormat)}
	}
}

func (st *stream) interim(status int) {
	c := st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if st.over {
		return
	}
	if status == http.StatusContinue {
		st.expects = false
	}
	c.ready()
	c.room = appendStatus(c.appendSize(c.room[:0]), status)
	c.room = appendFields(c.room, st.header)
	c.out = appendHeaders(c.out, st.id, c.room, false)
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
	st.wrote += int64(len(p))
	if st.length >= 0 && st.wrote > st.length {
		return 0, http.ErrContentLength
	}
	if st.method == http.MethodHead || len(p) == 0 {
		return len(p), nil
	}
	if st.buffered()+len(p) > bufferLen {
		if err := st.flush(false); err != nil {
			return 0, err
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
	if st.over {
		return 0, st.fault()
	}
	c.ready()
	if !st.began {
		st.began = true
		c.room = appendFields(appendStatus(c.appendSize(c.room[:0]), st.status), st.sealed)
		c.out = appendHeaders(c.out, st.id, c.room, end && len(p) == 0)
	} else if end && len(p) == 0 {
		c.frameOf(st, nil, true)
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

// trailers returns the fields that come after the content: those that were announced, and
// those with http.TrailerPrefix.
func (st *stream) trailers() http.Header {
	var t http.Header
	add := func(name string, lines []string) {
		if t == nil {
			t = make(http.Header)
		}
		t[name] = lines
	}
	for _, line := range st.sealed["Trailer"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = http.CanonicalHeaderKey(strings.TrimSpace(name)); len(st.header[name]) > 0 {
				add(name, st.header[name])
			}
		}
	}
	for name, lines := range st.header {
		if rest, ok := strings.CutPrefix(name, http.TrailerPrefix); ok && len(lines) > 0 {
			add(rest, lines)
		}
	}
	return t
}

func (st *stream) sendTrailers(t http.Header) {
	c := st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if st.over {
		return
	}
	c.ready()
	c.room = appendFields(c.appendSize(c.room[:0]), t)
	c.out = appendHeaders(c.out, st.id, c.room, true)
	c.send(st)
}

// appendFields writes the fields of h in order, but those of a connection (RFC 9113 §8.2.2)
// and those that come after the content.
func appendFields(dst []byte, h http.Header) []byte {
	var room [32]string
	names := room[:0]
	for name := range h {
		switch name {
		case "Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade":
			continue
		}
		if !strings.HasPrefix(name, http.TrailerPrefix) {
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

// oneLine takes out of a field value what would end its line elsewhere, as net/http does, and
// blanks around it (RFC 9113 §8.2.1).
func oneLine(value string) string {
	if strings.ContainsAny(value, "\r\n\x00") {
		value = strings.NewReplacer("\r", " ", "\n", " ", "\x00", " ").Replace(value)
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
	if st.expects && len(u.octets) == 0 && !st.over && st.status == 0 {
		st.expects = false
		c.ready()
		c.room = appendStatus(c.appendSize(c.room[:0]), http.StatusContinue)
		c.out = appendHeaders(c.out, st.id, c.room, false)
		c.send(st)
	}
	for len(u.octets) == 0 && !u.done && !st.over && !u.late && len(p) > 0 {
		u.await(c.s.now.Load(), &c.s.opt)
		st.wake.Wait()
		u.resume(c.s.now.Load())
	}
	switch {
	case len(p) == 0:
		return 0, nil
	case len(u.octets) > 0 && !u.shut:
		n := copy(p, u.octets)
		if u.octets = u.octets[n:]; len(u.octets) == 0 {
			u.octets = nil
		}
		st.credit(int64(n))
		return n, nil
	case u.done && !st.aborted():
		return 0, io.EOF
	case u.late:
		return 0, os.ErrDeadlineExceeded
	case st.over:
		return 0, st.fault()
	}
	return 0, errReadAfterClose
}

// aborted tells whether the stream ended before the content had come.
func (st *stream) aborted() bool { return st.over && !st.upload.done }

// await and resume measure how long a reader waits.
func (u *upload) await(now int64, o *Options) {
	if u.waited > int64(o.StallTimeout) {
		u.waited, u.heard = 0, 0
	}
	u.since = now
}

func (u *upload) resume(now int64) {
	u.waited += now - u.since
	u.since = 0
}

// credit lets the client send n octets more for the stream, and on the connection.
func (st *stream) credit(n int64) {
	c, u := st.c, &st.upload
	c.credit(n)
	if u.owed += n; u.owed >= streamWindow/4 && !u.done && !st.over {
		u.receive += u.owed
		c.out = appendWindowUpdate(c.out, st.id, u.owed)
		u.owed = 0
	}
	c.sendLater()
}

// Close implements io.Closer: what comes of the content from now on goes nowhere.
func (b *uploadBody) Close() error {
	st := (*stream)(b)
	st.c.mu.Lock()
	defer st.c.mu.Unlock()
	u := &st.upload
	if !u.shut {
		u.shut = true
		st.credit(int64(len(u.octets)))
		u.octets = nil
	}
	return nil
}
