package h2

import (
	"bytes"
	"sync"
	"time"
)

// outs are what frames are gathered in.
var outs = sync.Pool{New: func() any {
	b := make([]byte, 0, outLen+2*frameLen)
	return &b
}}

// ready has room for frames in out.
func (c *conn) ready() {
	if c.out == nil {
		c.box = outs.Get().(*[]byte)
		c.out = *c.box
	}
}

// release gives the room of frames back that are sent, with the box it came in.
func release(b []byte, box *[]byte) {
	if box != nil && cap(b) <= 2*(outLen+2*frameLen) {
		*box = b[:0]
		outs.Put(box)
	}
}

// await waits until so much is sent that a Handler may add to it. It reports false if st is
// over. The caller holds mu.
func (c *conn) await(st *stream) bool {
	for c.writing && len(c.out) > outLen && !st.over {
		c.written.Wait()
	}
	return !st.over
}

// send sends what there is, unless somebody does already: once for the reader, who is no
// stream, and until it has all of its content out for st. What is left then goes out
// elsewhere. With too much waiting, the reader waits. The caller holds mu, which is free
// while octets go out.
func (c *conn) send(st *stream) {
	if c.writing {
		for st == nil && c.writing && len(c.out) > outLen && c.err == nil {
			c.written.Wait()
		}
		return
	}
	c.writing = true
	for first := true; c.fill(); first = false {
		if !first && (st == nil || len(st.data) == 0) {
			go c.sendRest()
			return
		}
		c.write()
	}
	c.sent()
}

// sendLater has somebody else send what there is. The caller holds mu.
func (c *conn) sendLater() {
	if !c.writing && (len(c.out) > 0 || c.pick() != nil) {
		c.writing = true
		go c.sendRest()
	}
}

// sendRest sends until there is nothing left, for whoever has set writing.
func (c *conn) sendRest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.fill() {
		c.write()
	}
	c.sent()
}

func (c *conn) sent() {
	c.writing = false
	if c.out != nil && len(c.out) == 0 {
		release(c.out, c.box)
		c.out, c.box = nil, nil
	}
	c.written.Broadcast()
}

// write sends out.
func (c *conn) write() {
	b, box := c.out, c.box
	c.out, c.box = nil, nil
	c.mu.Unlock()
	_, err := c.nc.Write(b)
	c.mu.Lock()
	release(b, box)
	if err != nil && c.err == nil {
		c.err = err
		for id, st := range c.streams {
			c.end(id, st, err)
		}
		_ = c.nc.SetReadDeadline(time.Unix(1, 0)) // so the reader ends, who closes: that may take long
	}
	c.written.Broadcast()
}

// fill gathers content until a write is worth it, and tells whether there is anything to be
// sent.
func (c *conn) fill() bool {
	c.ready()
	for c.err == nil && len(c.out) < outLen {
		st := c.pick()
		if st == nil {
			break
		}
		c.turns++
		st.turn = c.turns
		if st.body != nil {
			c.sendBody(st)
		} else {
			c.sendData(st)
		}
	}
	return c.err == nil && len(c.out) > 0
}

// pick returns the stream whose turn it is to send content: one of the most urgent, and of
// those the one that had no turn for the longest time. Among those whose content is of no use
// in parts, that is only the first (RFC 9218 §10).
func (c *conn) pick() *stream {
	c.prune()
	if c.window <= 0 {
		return nil
	}
	var best, whole *stream
	for _, st := range c.queue {
		switch {
		case st.window <= 0:
		case st.mixed:
			best = st.before(best)
		case whole == nil || st.urgency < whole.urgency || st.urgency == whole.urgency && st.id < whole.id:
			whole = st
		}
	}
	if whole != nil {
		best = whole.before(best)
	}
	return best
}

// before returns st or other, whichever has its turn first. other may be nil.
func (st *stream) before(other *stream) *stream {
	if other == nil || st.urgency < other.urgency || st.urgency == other.urgency && st.turn < other.turn {
		return st
	}
	return other
}

// prune takes those out of the queue that have nothing to send any more.
func (c *conn) prune() {
	kept := c.queue[:0]
	for _, st := range c.queue {
		if st.over || st.body == nil && len(st.data) == 0 {
			st.queued = false
			continue
		}
		kept = append(kept, st)
	}
	clear(c.queue[len(kept):])
	c.queue = kept
}

// enqueue has the content of st sent in its turn.
func (c *conn) enqueue(st *stream) {
	if !st.queued {
		st.queued, st.pace = true, pace{}
		c.queue = append(c.queue, st)
	}
}

// allowed is how many octets of n may go out in the next frame.
func (st *stream) allowed(n int64) int { return int(min(n, frameLen, st.window, st.c.window)) }

// frameOf appends a frame with content. end: none follows.
func (c *conn) frameOf(st *stream, p []byte, end bool) {
	flags := byte(0)
	if end {
		flags = flagEndStream
	}
	c.out = append(appendFrameHeader(c.out, len(p), frameData, flags, st.id), p...)
	n := int64(len(p))
	c.window -= n
	st.window -= n
	st.pace.moved += n
	c.took(n)
}

// took counts content that goes to the client, which may say of each KiB that it has come
// and of each frame (RFC 9113 §6.9).
func (c *conn) took(n int64) {
	c.pace.moved += n
	c.calm.earn(2 + int(n)/512)
}

// sendData sends what a Handler has written.
func (c *conn) sendData(st *stream) {
	n := st.allowed(int64(len(st.data)))
	end := st.last && n == len(st.data)
	c.frameOf(st, st.data[:n], end)
	if st.data = st.data[n:]; len(st.data) == 0 {
		st.data = nil
		st.wake.Broadcast()
	}
	if end {
		c.answered(st)
	}
}

// sendBody sends a piece of a Body, which may have to be read.
func (c *conn) sendBody(st *stream) {
	st.busy = true
	c.mu.Unlock()
	piece, err := st.body.Next()
	c.mu.Lock()
	st.busy = false
	switch {
	case st.over:
		st.closeBody(st.err)
	case err != nil:
		st.closeBody(err)
		c.refuse(st.id, internalError)
	default:
		n := st.allowed(min(st.left, int64(len(piece))))
		if n <= 0 {
			return // the reader was quicker
		}
		st.left -= int64(n)
		st.sent += int64(n)
		c.ready()
		c.frameOf(st, piece[:n], st.left == 0)
		st.body.Advance(n)
		if st.left == 0 {
			st.closeBody(nil)
			c.end(st.id, st, nil)
		}
	}
}

func (st *stream) closeBody(fault error) {
	st.body.Close(st.sent, fault)
	st.body = nil
}

// instant answers the request on stream id, if the Prompt can. It reports false if it cannot.
func (c *conn) instant(id uint32) bool {
	head, size, ok := c.prompt.Answer(&c.request)
	if !ok {
		return false
	}
	at := len(c.out)
	c.out = appendFrameHeader(c.out, 0, frameHeaders, flagEndHeaders, id)
	if c.unshrunk {
		c.out = append(c.out, 0x20) // RFC 7541 §6.3
	}
	c.out = appendHead(c.out, head)
	n := len(c.out) - at - frameHeaderLen
	setFrameLength(c.out, at, n)
	if n > frameLen || !c.instantBody(id, at, size) {
		c.out = c.out[:at]
		return false
	}
	c.unshrunk = false
	return true
}

// instantBody adds the body to the head that is at.
func (c *conn) instantBody(id uint32, at int, size int64) (ok bool) {
	if size == 0 {
		c.out[at+4] |= flagEndStream
		c.out, ok = c.prompt.Append(c.out)
		return ok
	}
	if size <= frameLen && size <= c.window && size <= c.initial && !c.hasUrgent(c.request.urgency) {
		c.out = appendFrameHeader(c.out, int(size), frameData, flagEndStream, id)
		if c.out, ok = c.prompt.Append(c.out); ok {
			c.window -= size
			c.took(size)
		}
		return ok
	}
	body, ok := c.prompt.Open()
	if !ok {
		return false
	}
	st := &stream{c: c, id: id, window: c.initial, urgency: c.request.urgency, mixed: c.request.mixed, body: body, left: size, closed: true}
	c.streams[id] = st
	c.enqueue(st)
	return true
}

// hasUrgent tells whether somebody waits for content who goes before others of that urgency.
func (c *conn) hasUrgent(urgency int8) bool {
	for _, st := range c.queue {
		if st.urgency < urgency && st.window > 0 && !st.over {
			return true
		}
	}
	return false
}

// appendHead writes a header block for a status line and fields of HTTP/1.1.
func appendHead(dst, head []byte) []byte {
	const version = "HTTP/1.1 "
	dst = appendStatus(dst, int(head[len(version)]-'0')*100+int(head[len(version)+1]-'0')*10+int(head[len(version)+2]-'0'))
	for {
		end := bytes.IndexByte(head, '\n')
		if end < 0 {
			return dst
		}
		head = head[end+1:]
		name, rest, ok := bytes.Cut(head, colon)
		if !ok {
			return dst
		}
		end = bytes.IndexByte(rest, '\r')
		dst = appendField(dst, name, rest[:end])
		head = rest[end:]
	}
}

var colon = []byte(": ")
