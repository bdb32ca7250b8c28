package h2

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	roomLen = 4 << 10  // octets that are read at once, until frames are longer
	outLen  = 32 << 10 // octets of frames that go out in one write; with as many again waiting, nothing is read

	// How long a client may take to hear of the end, and what it may send meanwhile: closing
	// with octets unread would reset the connection, and the end would be lost.
	linger       = time.Second
	lingerOctets = 2 * connWindow

	pseudoFields = 4 // of most requests, which are no lines of theirs
)

// errGone is what a Handler hears when its client does not want the answer any more.
var errGone = errors.New("the client has given the stream up")

// A conn is one connection. One goroutine reads; whoever has something to send, and finds
// nobody sending, sends what there is.
type conn struct {
	s      *Server
	nc     net.Conn
	tls    *tls.ConnectionState // nil: there is none
	addr   string
	prompt Prompt // nil: there is none
	ctx    context.Context
	cancel context.CancelFunc

	// The reader's alone.
	in      []byte // octets that came and are not used yet
	dec     decoder
	request Request
	block   []byte // of header fields, until its end has come
	head    frameHeader
	within  bool // the block is being waited for (RFC 9113 §6.10)
	greeted bool // the preface has come, and the client's settings
	content content

	mu      sync.Mutex // guards what follows, and all of streams that says nothing else
	streams map[uint32]*stream
	running int       // Handlers, with those whose streams are over and who have not noticed yet
	line    []*stream // those that wait for a Handler, because so many are running
	held    int       // octets of heads that Handlers have
	last    uint32
	resets  [2 * Streams]uint32 // streams that we have reset last: what still comes for them is nothing wrong
	reset   int

	window   int64 // octets of content that the client takes
	initial  int64 // of a new stream
	receive  int64 // octets that the client may send, and owed those that were used, and it does not know of
	owed     int64
	unshrunk bool // a client that remembers less than we could have it does not know yet that we never do

	out     []byte    // frames that are not sent yet
	box     *[]byte   // what out came in from outs; nil: it did not
	queue   []*stream // those that have content to send
	turns   uint64    // that streams had so far
	writing bool      // somebody sends
	written sync.Cond // out has become shorter, or nobody sends any more
	room    []byte    // for header blocks

	calm       purse // for frames that only keep us busy
	patience   purse // for streams that come to nothing
	pace       pace  // at which the client takes content
	looked     int64 // when that was last seen to, Unix nanoseconds
	active     int64 // when a request last began or ended
	unfinished int64 // since when a head is waited for that is incomplete; 0: none is
	goingAway  int64 // since when the client knows that it should ask no more; 0: it does not
	final      bool  // it knows what was the last that we answer
	farewell   bool  // nothing is sent any more after out
	err        error // why nothing can be
}

func newConn(s *Server, nc net.Conn, state *tls.ConnectionState) *conn {
	c := &conn{
		s: s, nc: nc, tls: state, addr: nc.RemoteAddr().String(), streams: make(map[uint32]*stream),
		window: defaultWindow, initial: defaultWindow, receive: connWindow,
		calm: purse{most: 10_000, gain: 50}, patience: purse{most: 200, gain: 5},
	}
	c.calm.fill()
	c.patience.fill()
	c.written.L = &c.mu
	c.dec = decoder{mostOctets: s.opt.Head, mostFields: s.opt.Fields + pseudoFields}
	c.ctx, c.cancel = context.WithCancel(s.base)
	if s.opt.Prompt != nil {
		c.prompt = s.opt.Prompt(c.addr, state)
	}
	c.greet()
	return c
}

// greet says what has to be said before all else (RFC 9113 §3.4).
func (c *conn) greet() {
	settings := []byte{}
	for _, s := range [...]struct {
		id    uint16
		value uint32
	}{{settingStreams, Streams}, {settingWindow, streamWindow}, {settingHeaderList, uint32(c.s.opt.Head)}, {settingConnect, 1}, {settingNoOldPriorities, 1}} {
		settings = appendSetting(settings, s.id, s.value)
	}
	c.ready()
	c.out = append(appendFrameHeader(c.out, len(settings), frameSettings, 0, 0), settings...)
	c.out = appendWindowUpdate(c.out, 0, connWindow-defaultWindow)
}

// A purse is what a client may do of what costs us more than it, for nothing. It is filled up
// slowly, and by what is of use.
type purse struct{ left, most, gain int }

func (p *purse) fill()          { p.left = p.most }
func (p *purse) earn(n int)     { p.left = min(p.left+n, p.most) }
func (p *purse) pay(n int) bool { p.left -= n; return p.left >= 0 }

// serve reads until the connection is over.
func (c *conn) serve() {
	c.mu.Lock()
	c.send(nil)
	c.mu.Unlock()

	err := c.read()
	var f *fault
	if errors.As(err, &f) {
		c.s.opt.Log.Debug("connection", "what", f.Error(), "client", c.addr)
		if c.s.opt.Refused != nil && f.code != noError {
			c.s.opt.Refused(c.addr, http.StatusBadRequest, f.why)
		}
		c.bid(f.code)
	}
	c.fail(err)
	_ = c.nc.Close() // which may wait for a client that takes nothing
	c.mu.Lock()
	for c.writing {
		c.written.Wait()
	}
	c.mu.Unlock()
}

// bid says goodbye, and why, and gives the client a moment to read it.
func (c *conn) bid(why code) {
	c.mu.Lock()
	if why != noError {
		c.out = appendGoAway(c.out, c.last, why)
	}
	c.farewell = true
	for id, st := range c.streams {
		c.end(id, st, errGone)
	}
	c.send(nil)
	for c.writing {
		c.written.Wait()
	}
	failed := c.err != nil
	c.mu.Unlock()
	if failed {
		return
	}
	if half, ok := c.nc.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil && c.nc.SetReadDeadline(time.Now().Add(linger)) == nil {
		_, _ = io.CopyN(io.Discard, c.nc, lingerOctets)
	}
}

// abandon ends the connection at once, and waits for nobody.
func (c *conn) abandon(err error) {
	c.fail(err)
	go c.nc.Close()
}

// fail ends what the connection is for. It has to be closed then.
func (c *conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		if err == nil || errors.Is(err, io.EOF) {
			err = errGone
		}
		c.err = err
	}
	c.cancel()
	for id, st := range c.streams {
		c.end(id, st, c.err)
	}
	c.written.Broadcast()
}

// read handles what comes, until the connection is over.
func (c *conn) read() error {
	room := make([]byte, roomLen)
	c.in = room[:0]
	for {
		used, err := c.batch()
		if err != nil {
			return err
		}
		n := copy(room, c.in[used:])
		if need := c.need(room[:n]); need > len(room) {
			room = append(make([]byte, 0, need), room[:n]...)[:need]
		}
		m, err := c.nc.Read(room[n:])
		if m == 0 && err != nil {
			if c.isOver() {
				return errDrained
			}
			return err
		}
		c.in = room[:n+m]
	}
}

// need is how much room the frame takes that b begins with, which step has seen.
func (c *conn) need(b []byte) int {
	if len(b) < frameHeaderLen || c.head.kind == 0 { // that is a piece of the preface
		return 0
	}
	if h := readFrameHeader(b); h.kind != frameData {
		return frameHeaderLen + h.length
	}
	return 0
}

// batch handles all frames that have come, and sends the answers. It returns how much of in
// was used.
func (c *conn) batch() (used int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	began, since := c.s.now.Load(), c.unfinished
	c.unfinished = 0 // as long as we do not wait for the client
	c.ready()
	in, whole := c.in, false
	for err == nil && !c.farewell && c.err == nil {
		var n int
		if n, err = c.step(in); n == 0 {
			break
		}
		in = in[n:]
		whole = whole || !c.within
		if len(c.out) >= outLen {
			c.send(nil)
			c.ready()
		}
	}
	c.send(nil)
	now := c.s.now.Load()
	switch {
	case err != nil:
	case c.err != nil:
		err = c.err
	case c.farewell:
		err = errDrained
	case len(in) == 0 && !c.within && c.greeted:
	case whole || since == 0:
		c.unfinished = now
	default:
		c.unfinished = since + now - began
	}
	return len(c.in) - len(in), err
}

var errDrained = &fault{noError, "drained"}

// step handles what in begins with. It returns 0 if more has to come first.
func (c *conn) step(in []byte) (int, error) {
	if c.content.left > 0 {
		return c.takeContent(in), nil
	}
	if !c.greeted && c.head.kind == 0 {
		n := min(len(in), len(Preface))
		if string(in[:n]) != Preface[:n] {
			return 0, &fault{protocolError, "not the preface of HTTP/2 (RFC 9113 3.4)"}
		}
		if n < len(Preface) {
			return 0, nil
		}
		c.head.kind = frameSettings
		return n, nil
	}
	if len(in) < frameHeaderLen {
		return 0, nil
	}
	h := readFrameHeader(in)
	switch {
	case h.length > frameLen:
		return 0, &fault{frameSizeError, "a frame is longer than allowed (RFC 9113 4.2)"}
	case !c.greeted && (h.kind != frameSettings || h.has(flagAck)):
		return 0, &fault{protocolError, "the preface has no settings (RFC 9113 3.4)"}
	case c.within && (h.kind != frameContinuation || h.stream != c.head.stream):
		return 0, &fault{protocolError, "a frame within a header block (RFC 9113 6.10)"}
	case h.kind == frameData:
		return c.data(h, in[frameHeaderLen:])
	case len(in) < frameHeaderLen+h.length:
		return 0, nil
	}
	c.greeted = true
	return frameHeaderLen + h.length, c.frame(h, in[frameHeaderLen:frameHeaderLen+h.length])
}

var errTooBusy = &fault{enhanceYourCalm, "too many frames that ask for nothing (RFC 9113 10.5)"}

// frame handles a whole frame that is not DATA.
func (c *conn) frame(h frameHeader, p []byte) error {
	if h.kind != frameHeaders && !c.calm.pay(1) {
		return errTooBusy
	}
	switch h.kind {
	case frameHeaders:
		return c.headers(h, p)
	case frameContinuation:
		return c.continuation(h, p)
	case framePriority:
		return c.oldPriority(h, p)
	case framePriorityUpdate:
		return c.priorityUpdate(h, p)
	case frameReset:
		return c.resetByClient(h, p)
	case frameSettings:
		return c.settings(h, p)
	case framePush:
		return &fault{protocolError, "PUSH_PROMISE from a client (RFC 9113 8.4)"}
	case framePing:
		return c.ping(h, p)
	case frameGoAway:
		if h.stream != 0 {
			return &fault{protocolError, "GOAWAY on a stream (RFC 9113 6.8)"}
		}
		if len(p) < 8 {
			return &fault{frameSizeError, "GOAWAY is too short (RFC 9113 6.8)"}
		}
	case frameWindowUpdate:
		return c.windowUpdate(h, p)
	}
	return nil // RFC 9113 §5.5
}

// mostBlock is the longest header block, as it comes, for a section of at most head octets.
func mostBlock(head int) int { return head + frameLen }

func (c *conn) headers(h frameHeader, p []byte) error {
	if h.stream%2 == 0 {
		return &fault{protocolError, "HEADERS on a stream that is no client's (RFC 9113 5.1.1)"}
	}
	ok := true
	if h.has(flagPadded) {
		if p, ok = unpad(p); !ok {
			return &fault{protocolError, "the padding is longer than the frame (RFC 9113 6.2)"}
		}
	}
	c.head = h
	if h.has(flagPriority) {
		if len(p) < 5 {
			return &fault{frameSizeError, "HEADERS without its priority (RFC 9113 6.2)"}
		}
		if binary.BigEndian.Uint32(p)&highestStream == h.stream {
			return &fault{protocolError, "a stream that depends on itself (RFC 7540 5.3.1)"}
		}
		p = p[5:]
	}
	if h.has(flagEndHeaders) {
		return c.section(h, p)
	}
	c.within = true
	c.block = append(c.block[:0], p...)
	return nil
}

func (c *conn) continuation(h frameHeader, p []byte) error {
	if !c.within {
		return &fault{protocolError, "CONTINUATION of nothing (RFC 9113 6.10)"}
	}
	if len(c.block)+len(p) > mostBlock(c.s.opt.Head) {
		return &fault{enhanceYourCalm, "a header block is too long (RFC 9113 10.5.1)"}
	}
	const small = 1 << 10
	if len(p) < small && !h.has(flagEndHeaders) && !c.calm.pay(100) { // nobody cuts so small for good
		return errTooBusy
	}
	c.block = append(c.block, p...)
	if !h.has(flagEndHeaders) {
		return nil
	}
	c.within = false
	err := c.section(c.head, c.block)
	if cap(c.block) > roomLen {
		c.block = nil
	}
	return err
}

// oldPriority is about what nobody heeds any more, and has to look right all the same.
func (c *conn) oldPriority(h frameHeader, p []byte) error {
	switch {
	case h.stream == 0:
		return &fault{protocolError, "PRIORITY on no stream (RFC 9113 6.3)"}
	case len(p) != 5:
		return c.wrong(h.stream, frameSizeError)
	case binary.BigEndian.Uint32(p)&highestStream == h.stream:
		return c.wrong(h.stream, protocolError)
	}
	return nil
}

// priorityUpdate changes what a request said of its priority (RFC 9218 §7.1).
func (c *conn) priorityUpdate(h frameHeader, p []byte) error {
	if h.stream != 0 {
		return &fault{protocolError, "PRIORITY_UPDATE on a stream (RFC 9218 7.1)"}
	}
	if len(p) < 4 {
		return &fault{frameSizeError, "PRIORITY_UPDATE is too short (RFC 9218 7.1)"}
	}
	id := binary.BigEndian.Uint32(p) & highestStream
	if id == 0 {
		return &fault{protocolError, "PRIORITY_UPDATE for no stream (RFC 9218 7.1)"}
	}
	if st := c.streams[id]; st != nil {
		st.urgency, st.mixed = priority(p[4:], defaultUrgency, false)
	}
	return nil
}

func (c *conn) resetByClient(h frameHeader, p []byte) error {
	switch {
	case c.isIdle(h.stream):
		return &fault{protocolError, "RST_STREAM of no stream (RFC 9113 6.4)"}
	case len(p) != 4:
		return &fault{frameSizeError, "RST_STREAM is not of its length (RFC 9113 6.4)"}
	}
	if st := c.streams[h.stream]; st != nil {
		c.end(h.stream, st, errGone)
		return c.forgive()
	}
	return nil
}

// mostSettings is how many settings one frame may have.
const mostSettings = 64

func (c *conn) settings(h frameHeader, p []byte) error {
	switch {
	case h.stream != 0:
		return &fault{protocolError, "SETTINGS on a stream (RFC 9113 6.5)"}
	case h.has(flagAck) && len(p) > 0 || len(p)%settingLen != 0 || len(p) > mostSettings*settingLen:
		return &fault{frameSizeError, "SETTINGS is not of its length (RFC 9113 6.5)"}
	case h.has(flagAck):
		return nil
	}
	for ; len(p) > 0; p = p[settingLen:] {
		if err := c.setting(binary.BigEndian.Uint16(p), binary.BigEndian.Uint32(p[2:])); err != nil {
			return err
		}
	}
	c.out = appendFrameHeader(c.out, 0, frameSettings, flagAck, 0)
	return nil
}

func (c *conn) setting(id uint16, value uint32) error {
	switch id {
	case settingTableSize:
		// We use no table, and have to say so where it may be smaller than it began (RFC 7541 §4.2).
		c.unshrunk = c.unshrunk || value < tableSize
	case settingPush:
		if value > 1 {
			return &fault{protocolError, "ENABLE_PUSH is neither 0 nor 1 (RFC 9113 6.5.2)"}
		}
	case settingWindow:
		if value > largestWindow {
			return &fault{flowControlError, "INITIAL_WINDOW_SIZE is too large (RFC 9113 6.5.2)"}
		}
		grown := int64(value) - c.initial
		c.initial = int64(value)
		for _, st := range c.streams {
			if st.window += grown; st.window > largestWindow {
				return &fault{flowControlError, "a window is too large (RFC 9113 6.9.2)"}
			}
		}
	case settingFrame:
		if value < frameLen || value > 1<<24-1 {
			return &fault{protocolError, "MAX_FRAME_SIZE is out of bounds (RFC 9113 6.5.2)"}
		}
	}
	return nil
}

// leaving is what the PING says that follows the first GOAWAY: once it comes back, whatever
// the client sent before it knew has come.
var leaving = [8]byte{'d', 'r', 'a', 'i', 'n'}

func (c *conn) ping(h frameHeader, p []byte) error {
	switch {
	case h.stream != 0:
		return &fault{protocolError, "PING on a stream (RFC 9113 6.7)"}
	case len(p) != len(leaving):
		return &fault{frameSizeError, "PING is not of its length (RFC 9113 6.7)"}
	case !h.has(flagAck):
		c.out = append(appendFrameHeader(c.out, len(p), framePing, flagAck, 0), p...)
	case c.goingAway != 0 && bytes.Equal(p, leaving[:]):
		c.close()
	}
	return nil
}

func (c *conn) windowUpdate(h frameHeader, p []byte) error {
	if len(p) != 4 {
		return &fault{frameSizeError, "WINDOW_UPDATE is not of its length (RFC 9113 6.9)"}
	}
	n := int64(binary.BigEndian.Uint32(p) & highestStream)
	if h.stream == 0 {
		if c.window += n; n == 0 {
			return &fault{protocolError, "WINDOW_UPDATE of nothing (RFC 9113 6.9)"}
		}
		if c.window > largestWindow {
			return &fault{flowControlError, "the window is too large (RFC 9113 6.9.1)"}
		}
		return nil
	}
	if c.isIdle(h.stream) {
		return &fault{protocolError, "WINDOW_UPDATE on a stream that is idle (RFC 9113 5.1)"}
	}
	st := c.streams[h.stream]
	switch {
	case h.stream > c.last:
		return nil // it came too late, and the client will know
	case n == 0:
		return c.wrong(h.stream, protocolError)
	case st == nil:
		return nil // it may have been over for us alone
	}
	if st.window += n; st.window > largestWindow {
		return c.wrong(h.stream, flowControlError)
	}
	return nil
}

// wrong resets a stream for what the client did.
func (c *conn) wrong(id uint32, why code) error {
	c.refuse(id, why)
	return c.forgive()
}

// forgive counts a stream that came to nothing. There may be so many (CVE-2023-44487,
// CVE-2025-8671).
func (c *conn) forgive() error {
	if !c.patience.pay(1) {
		return &fault{enhanceYourCalm, "too many streams that came to nothing (RFC 9113 10.5)"}
	}
	return nil
}

// refuse resets a stream.
func (c *conn) refuse(id uint32, why code) {
	c.out = appendReset(c.out, id, why)
	c.resets[c.reset] = id
	c.reset = (c.reset + 1) % len(c.resets)
	if st := c.streams[id]; st != nil {
		c.end(id, st, errGone)
	}
}

// isIdle tells whether no request has begun a stream (RFC 9113 §5.1). Once we have said which
// was the last that we answer, others may begin and are not looked at.
func (c *conn) isIdle(id uint32) bool { return id%2 == 0 || id > c.last && !c.final }

// wasReset tells whether we have reset a stream not long ago.
func (c *conn) wasReset(id uint32) bool { return slices.Contains(c.resets[:], id) }

// drain has the client ask no more on this connection, which ends with what runs.
func (c *conn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.goingAway != 0 || c.farewell {
		return
	}
	c.goingAway = c.s.now.Load()
	c.out = appendGoAway(c.out, highestStream, noError) // RFC 9113 §6.8
	c.out = append(appendFrameHeader(c.out, len(leaving), framePing, 0, 0), leaving[:]...)
	c.sendLater()
}

// close ends what drain has begun: nothing that comes from now on is answered.
func (c *conn) close() {
	if c.final {
		return
	}
	c.final = true
	c.out = appendGoAway(c.out, c.last, noError)
	c.closeIdle()
}

// closeIdle ends the connection if it is to, and nothing runs any more. The reader has to be
// woken for that, who may be waiting for more.
func (c *conn) closeIdle() {
	if c.final && len(c.streams) == 0 && !c.farewell {
		c.farewell = true
		_ = c.nc.SetReadDeadline(time.Unix(1, 0))
	}
}

// isOver tells whether the connection has ended as it should.
func (c *conn) isOver() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.farewell && c.err == nil
}

// idle tells whether nothing is asked, and since when.
func (c *conn) idle() (since int64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.active, len(c.streams) == 0 && c.goingAway == 0 && c.unfinished == 0
}

// look sees whether the client has taken too long, as of now.
func (c *conn) look(now int64) {
	c.mu.Lock()
	o := &c.s.opt
	past := func(since int64, limit time.Duration) bool { return since != 0 && now-since > int64(limit) }
	var ended error
	switch {
	case c.err != nil || c.farewell:
	case past(c.unfinished, o.HeadTimeout):
		ended = errors.New("a head did not come in time")
	case len(c.streams) == 0 && past(c.active, o.IdleTimeout) && c.goingAway == 0:
		c.goingAway = now
		c.close()
	case past(c.goingAway, time.Second) && !c.final:
		c.close()
	}
	c.calm.earn(c.calm.gain)
	c.patience.earn(c.patience.gain)
	passed := now - c.looked
	c.looked = now
	// A client is to blame for its windows alone: what waits for its turn behind others, or for
	// room below us, does not wait for it.
	stuck := c.window <= 0 && len(c.queue) > 0 && c.pace.tooSlow(passed, o)
	for id, st := range c.streams {
		st.hasten(now, o)
		if st.queued && (stuck || st.window <= 0 && st.pace.tooSlow(passed, o)) {
			c.refuse(id, cancelled)
		}
	}
	c.sendLater()
	c.mu.Unlock()
	if ended != nil {
		c.abandon(ended)
	}
}
