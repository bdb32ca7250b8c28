package origin

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"sync"
)

// Limits of a chunked body, in octets. RFC 9112 §7.1.1 asks for a bound on
// extensions.
const (
	maxChunkLine = 4096
	maxTrailer   = 8 << 10
	maxOverhead  = 16 << 10 // beyond 16 for each chunk, and twice what is in it
	maxDigits    = 16       // of the size of a chunk
)

// A framing is how the end of a body is known (RFC 9112 §6.3).
type framing uint8

const (
	none framing = iota // there is no body
	sized
	untilClose
	inChunks
)

// A phase is what comes next in a body in chunks, after the data (RFC 9112 §7.1).
type phase uint8

const (
	beforeChunk phase = iota // the line with its size
	afterChunk               // the line end after it
	inTrailer
)

// A body is that of a response. One goroutine reads it; any may close it.
type body struct {
	x     *exchange
	frame framing
	left  int64 // octets to come, of the body or of the chunk

	// Of a body in chunks:
	next     phase
	overhead int64 // octets that were no data, beyond what is usual
	room     int   // octets that the trailer section may still have

	reading sync.Mutex // held by who reads; guards all but x
	err     error      // what the body ended in
}

// Read implements io.Reader. Its errors are those of RoundTrip.
func (b *body) Read(p []byte) (int, error) {
	b.reading.Lock()
	defer b.reading.Unlock()
	switch {
	case b.err != nil:
		return 0, b.err
	case len(p) == 0:
		return 0, nil
	}
	n, err := b.read(p, true)
	switch {
	case err == io.EOF:
		b.err = io.EOF
		b.x.end()
	case err != nil:
		b.x.abandon()
		b.x.c.settle()
		b.err = b.x.explain(err)
	}
	return n, b.err
}

// Close implements io.Closer. The connection may serve again if all of the body has
// come, read or not.
func (b *body) Close() error {
	if !b.reading.TryLock() { // somebody waits for the origin
		b.x.abandon()
		return nil
	}
	defer b.reading.Unlock()
	if b.err != nil {
		return nil
	}
	b.err = http.ErrBodyReadAfterClose
	if b.frame != untilClose && b.rest() {
		b.x.end()
		return nil
	}
	b.x.abandon()
	b.x.c.settle()
	return nil
}

// rest tells whether the end of the body is in the window, and goes there.
func (b *body) rest() bool {
	var scrap [512]byte
	for {
		if _, err := b.read(scrap[:], false); err != nil {
			return err == io.EOF
		}
	}
}

// errWaits says that nothing can be had without waiting.
var errWaits = errors.New("origin: octets are still to come")

// read returns some octets, and waits for them if it has to and may. io.EOF: the
// body is complete, which is said with its last octets if that is known.
func (b *body) read(p []byte, wait bool) (n int, err error) {
	switch b.frame {
	case sized:
		n, err = b.take(p[:min(int64(len(p)), b.left)], wait)
		if b.left -= int64(n); b.left == 0 {
			return n, io.EOF
		}
	case untilClose:
		return b.take(p, wait)
	case inChunks:
		return b.chunks(p, wait)
	}
	return n, err
}

// direct is the size from which octets are read straight to where they are wanted.
const direct = 4 << 10

// take returns octets of the window, or of the network.
func (b *body) take(p []byte, wait bool) (int, error) {
	c := b.x.c
	if c.r == c.w {
		if !wait {
			return 0, errWaits
		}
		c.await(b.x.up.opt.StallTimeout)
		if len(p) >= direct {
			n, err := c.read(p)
			return n, b.broken(err)
		}
		if err := c.fill(); err != nil {
			return 0, b.broken(err)
		}
	}
	n := copy(p, c.pending())
	c.r += n
	return n, nil
}

// broken tells what the end of the connection means for the body.
func (b *body) broken(err error) error {
	x := b.x
	switch {
	case err == nil, closed(err):
		return err
	case b.frame == untilClose && errors.Is(err, io.EOF) && (x.c.below == nil || !x.c.below.abrupt()):
		return io.EOF
	case errors.Is(err, os.ErrDeadlineExceeded):
		return x.note(ConnectionReadTimeout, fmt.Errorf("no octet of the body for %v: %w", x.up.opt.StallTimeout, err))
	}
	return x.note(ResponseIncomplete, fmt.Errorf("the body was cut short: %w", cut(err)))
}

// bad refuses the body.
func (b *body) bad(kind Kind, text string) error {
	return b.x.note(kind, errors.New("response body: "+text))
}

// chunks is read for a body in chunks (RFC 9112 §7.1). What is there already is not
// kept back for what is still to come.
func (b *body) chunks(p []byte, wait bool) (n int, err error) {
	for err == nil && (n < len(p) || b.left == 0) {
		if b.left == 0 {
			err = b.turn(wait && n == 0)
			continue
		}
		var m int
		m, err = b.take(p[n:][:min(int64(len(p)-n), b.left)], wait && n == 0)
		n += m
		b.left -= int64(m)
	}
	if err == errWaits && n > 0 {
		err = nil
	}
	return n, err
}

// turn takes one line that is no data. io.EOF: it was the last.
func (b *body) turn(wait bool) error {
	switch b.next {
	case afterChunk:
		line, err := b.line(len("\r\n"), ProtocolError, wait)
		if err != nil {
			return err
		}
		if len(line) > 0 {
			return b.bad(ProtocolError, "chunk data longer than its size, RFC 9112 §7.1")
		}
		b.next = beforeChunk
		return nil
	case inTrailer:
		line, err := b.line(b.room, ResponseTrailerSize, wait)
		if err != nil {
			return err
		}
		if len(line) == 0 {
			return io.EOF
		}
		b.room -= len(line) + len("\r\n")
		return b.field(line)
	}
	line, err := b.line(maxChunkLine, ProtocolError, wait)
	if err != nil {
		return err
	}
	n, ok := chunkSize(line)
	if !ok {
		return b.bad(ProtocolError, "invalid chunk size, RFC 9112 §7.1")
	}
	b.overhead += int64(len(line)+len("\r\n\r\n")) - 16 - 2*min(n, maxOverhead)
	if b.overhead = max(0, b.overhead); b.overhead > maxOverhead {
		return b.bad(ProtocolError, "far more framing than data, RFC 9112 §7.1.1")
	}
	if b.left, b.next = n, afterChunk; n == 0 {
		b.next, b.room = inTrailer, maxTrailer
	}
	return nil
}

// line takes a line of the framing, and returns it without its end. It has at most
// so many octets; kind says what is wrong with more.
func (b *body) line(most int, kind Kind, wait bool) ([]byte, error) {
	c := b.x.c
	for {
		p := c.pending()
		n := bytes.IndexByte(p, '\n') + 1
		switch {
		case n > most || n == 0 && len(p) >= most:
			return nil, b.bad(kind, "a line longer than its limit")
		case n > 0:
			c.r += n
			if n < 2 || p[n-2] != '\r' {
				return nil, b.bad(ProtocolError, "bare LF in chunked framing, RFC 9112 §7.1")
			}
			p = p[:n-2]
			if bytes.IndexByte(p, '\r') >= 0 || bytes.IndexByte(p, 0) >= 0 {
				return nil, b.bad(ProtocolError, "CR or NUL within a line, RFC 9110 §5.5")
			}
			return p, nil
		case !wait:
			return nil, errWaits
		}
		c.await(b.x.up.opt.StallTimeout)
		if err := c.fill(); err != nil {
			return nil, b.broken(err)
		}
	}
}

// chunkSize reads the line before a chunk. Blanks around the size are refused,
// extensions are ignored.
func chunkSize(line []byte) (int64, bool) {
	if i := bytes.IndexByte(line, ';'); i >= 0 {
		line = line[:i]
	}
	if len(line) == 0 || len(line) > maxDigits {
		return 0, false
	}
	var n uint64
	for _, c := range line {
		switch {
		case digit(c):
			c -= '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		n = n<<4 | uint64(c)
	}
	return int64(n), n <= math.MaxInt64
}

// field takes a trailer field.
func (b *body) field(line []byte) error {
	n := fieldName(line)
	if n < 0 {
		return b.bad(ProtocolError, "malformed trailer field, RFC 9112 §5")
	}
	v, ok := fieldValue(line, n+1)
	if !ok {
		return b.bad(ProtocolError, "a control character in a trailer field, RFC 9110 §5.5")
	}
	r := &b.x.resp
	if r.Trailer == nil {
		r.Trailer = make(http.Header)
	}
	name := http.CanonicalHeaderKey(string(line[:n]))
	r.Trailer[name] = append(r.Trailer[name], string(line[v.from:v.to]))
	return nil
}
