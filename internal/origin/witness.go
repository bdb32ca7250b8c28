package origin

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/larderhq/larder/internal/field"
	"github.com/larderhq/larder/internal/interim"
)

// Limits of a chunked body, in octets. RFC 9112 §7.1.1 asks for a bound on
// extensions; the trailer section must fit into readBuffer.
const (
	maxChunkLine = 4096
	maxTrailer   = 8 << 10
)

// A phase is the part of a response that the next octet belongs to.
type phase uint8

const (
	idle       phase = iota // none: no request is out, or its answer is complete
	statusLine              // also before the first octet
	fields
	length     // body by Content-Length
	untilClose // body by close of the connection
	chunkSize
	chunkData
	chunkEnd
	trailer
	tunnel // after 101: no longer HTTP
)

// inBody reports whether p belongs to a body that the consumer waits for.
func (p phase) inBody() bool { return p >= length && p <= trailer }

// A witness is a connection to the origin that follows the responses passing
// through it (RFC 9112 §§4-8). It hands out no octet beyond the end of a
// message, and ends the connection where the library must not use it again.
//
// net/http reads from one goroutine at a time and writes from one other.
type witness struct {
	net.Conn
	up     *Upstream
	tls    *tls.ConnectionState // nil without TLS
	closed *closure             // the transport below TLS, nil without TLS

	timed bool // a read deadline is set; only the reader touches it

	mu     sync.Mutex // guards what follows
	ex     *exchange  // the one that has the connection, or had it last
	begun  bool       // its first octet was let out
	reused bool       // the connection served another exchange before
	spoilt bool       // octets came that belong to no answer
	phase  phase

	// The message being read.
	part    []byte // a line whose end has not come yet
	room    int    // octets that the current section may still have
	left    int64  // octets of body or chunk still to come
	status  int
	minor   byte // of the HTTP version
	answers int  // interim responses so far
	lines   int  // field lines of the head so far
	coded   int  // Transfer-Encoding lines
	chunked bool
	sized   bool // Content-Length seen, in size
	size    int64
	framing bool // the last field line decides about framing
	caching bool // Cache-Control seen
	last    bool // no further exchange on this connection
}

// arm lends the connection to x.
func (w *witness) arm(x *exchange, reused bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.spoilt = w.spoilt || w.phase != idle
	w.ex, w.begun, w.reused = x, false, reused
}

// Write lets a request out, if its exchange may still be sent.
func (w *witness) Write(p []byte) (int, error) {
	more := 0
	w.mu.Lock()
	x := w.ex
	if !w.begun {
		if w.spoilt || x == nil {
			w.mu.Unlock()
			return 0, errSpoilt
		}
		if err := x.admit(w.reused); err != nil {
			w.mu.Unlock()
			return 0, err
		}
		w.begun, w.answers = true, 0
		w.newHead()
		p, more = x.restoreSlashes(p)
	}
	stall := w.up.opt.StallTimeout > 0 && w.phase != tunnel
	w.mu.Unlock()

	if stall {
		// An error here means a closed connection, which Write reports too.
		_ = w.Conn.SetWriteDeadline(time.Now().Add(w.up.opt.StallTimeout))
	}
	n, err := w.Conn.Write(p)
	if err != nil && !errors.Is(err, net.ErrClosed) {
		kind := ConnectionTerminated
		if errors.Is(err, os.ErrDeadlineExceeded) {
			kind = ConnectionWriteTimeout
		}
		err = x.note(kind, err)
	}
	return max(0, n-more), err
}

// Read hands out octets of the current response.
func (w *witness) Read(p []byte) (int, error) {
	w.mu.Lock()
	body := w.phase.inBody()
	w.mu.Unlock()
	switch stall := w.up.opt.StallTimeout; {
	case body && stall > 0:
		w.timed = true
		_ = w.Conn.SetReadDeadline(time.Now().Add(stall)) // as in Write
	case w.timed:
		w.timed = false
		_ = w.Conn.SetReadDeadline(time.Time{})
	}

	n, err := w.Conn.Read(p)

	w.mu.Lock()
	defer w.mu.Unlock()
	if n > 0 {
		taken, stop := w.take(p[:n])
		if stop != nil {
			return taken, stop
		}
	}
	if err != nil {
		err = w.broken(err)
	}
	return n, err
}

// CloseWrite ends our side of an upgraded connection, if the transport can.
func (w *witness) CloseWrite() error {
	if c, ok := w.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return errors.ErrUnsupported
}

// broken tells what the end of the connection means for the answer.
func (w *witness) broken(err error) error {
	x := w.ex
	eof := errors.Is(err, io.EOF)
	switch {
	case errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrClosedPipe):
		return err // by us, the latter with net.Pipe
	case w.phase == idle, w.phase == tunnel, x == nil:
		return err
	case w.phase == untilClose && eof && (w.closed == nil || !w.closed.abrupt()):
		w.phase = idle
		return io.EOF
	case errors.Is(err, os.ErrDeadlineExceeded):
		return x.note(ConnectionReadTimeout, fmt.Errorf("no octet of the body for %v: %w", w.up.opt.StallTimeout, err))
	case w.phase == statusLine && w.answers == 0 && w.room == w.up.opt.MaxHeadBytes:
		x.note(ConnectionTerminated, fmt.Errorf("closed before any octet of the answer: %w", err))
		return err // as it is, for net/http to know that it may retry
	case eof:
		err = io.ErrUnexpectedEOF
	default:
		err = fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, err)
	}
	if w.phase.inBody() {
		return x.note(ResponseIncomplete, fmt.Errorf("the body was cut short: %w", err))
	}
	return x.note(ResponseIncomplete, fmt.Errorf("the head was cut short: %w", err))
}

// take follows the response through p. It returns how many of these octets
// may be handed out, and with an error if none may follow.
func (w *witness) take(p []byte) (int, error) {
	for i := 0; ; {
		switch w.phase {
		case idle:
			if i < len(p) {
				w.spoilt = true
			} else if !w.last {
				return i, nil
			}
			// io.EOF keeps net/http from using the connection again (RFC 9112
			// §9.2, and §6.3 for a message with both ways of framing).
			return i, io.EOF
		case untilClose, tunnel:
			return len(p), nil
		}
		if i == len(p) {
			return i, nil
		}
		if w.ex != nil {
			w.ex.answer()
		}
		if w.phase == length || w.phase == chunkData {
			n := min(w.left, int64(len(p)-i))
			i += int(n)
			if w.left -= n; w.left > 0 {
				continue
			}
			if w.phase == length {
				w.phase = idle
			} else {
				w.phase, w.room = chunkEnd, len("\r\n")
			}
			continue
		}
		start := i
		line, n := w.line(p[i:])
		i += n
		if w.room < 0 {
			return w.fail(start, w.tooLong(), errors.New("longer than its limit"))
		}
		if line == nil {
			continue
		}
		if kind, err := w.parse(line); err != nil {
			return w.fail(start, kind, err)
		}
	}
}

// fail ends the message at offset good of the octets read.
func (w *witness) fail(good int, kind Kind, err error) (int, error) {
	where := "head"
	if w.phase.inBody() {
		where = "body"
	} else {
		good = 0
	}
	return good, w.ex.note(kind, fmt.Errorf("response %s: %w", where, err))
}

// tooLong is the kind of a section over its limit.
func (w *witness) tooLong() Kind {
	switch w.phase {
	case statusLine, fields:
		return ResponseHeaderSize
	case trailer:
		return ResponseTrailerSize
	}
	return ProtocolError
}

// line cuts a line off p, with its end, and says how many octets of p it
// took. The line is nil if its end is not there yet, and valid until the next
// call.
func (w *witness) line(p []byte) ([]byte, int) {
	n := bytes.IndexByte(p, '\n') + 1
	if n == 0 {
		n = len(p)
		if w.room -= n; w.room >= 0 {
			w.part = append(w.part, p...)
		}
		return nil, n
	}
	w.room -= n
	line := p[:n]
	if len(w.part) > 0 {
		line = append(w.part, line...)
		w.part = line[:0]
		if cap(w.part) > maxChunkLine {
			w.part = nil
		}
	}
	return line, n
}

// parse takes one line, with its end, of a head, a chunk or a trailer.
func (w *witness) parse(line []byte) (Kind, error) {
	text := line[:len(line)-1]
	cr := len(text) > 0 && text[len(text)-1] == '\r'
	if cr {
		text = text[:len(text)-1]
	}
	if !cr && w.phase.inBody() {
		return ProtocolError, errors.New("bare LF in chunked framing, RFC 9112 §7.1")
	}
	if bytes.IndexByte(text, '\r') >= 0 || bytes.IndexByte(text, 0) >= 0 {
		return ProtocolError, errors.New("CR or NUL within a line, RFC 9110 §5.5")
	}
	switch w.phase {
	case statusLine:
		return w.parseStatus(text)
	case fields:
		if len(text) == 0 {
			return w.endHead()
		}
		return w.parseField(text)
	case chunkSize:
		return w.parseChunk(text)
	case chunkEnd:
		if len(text) != 0 {
			return ProtocolError, errors.New("chunk data longer than its size, RFC 9112 §7.1")
		}
		w.phase, w.room = chunkSize, maxChunkLine
	case trailer:
		if len(text) == 0 {
			w.phase = idle
			return "", nil
		}
		if _, _, ok := cutField(text); !ok {
			return ProtocolError, errors.New("malformed trailer field, RFC 9112 §5")
		}
	}
	return "", nil
}

// newHead expects a status line.
func (w *witness) newHead() {
	w.phase, w.room = statusLine, w.up.opt.MaxHeadBytes
	w.status, w.minor, w.lines, w.coded = 0, 0, 0, 0
	w.chunked, w.sized, w.framing, w.caching = false, false, false, false
}

// parseStatus reads a status line (RFC 9112 §4).
func (w *witness) parseStatus(s []byte) (Kind, error) {
	const sample = "HTTP/1.1 200"
	if len(s) < len(sample) || string(s[:7]) != "HTTP/1." || !digit(s[7]) || s[8] != ' ' ||
		!digit(s[9]) || !digit(s[10]) || !digit(s[11]) || len(s) > len(sample) && s[12] != ' ' {
		return ProtocolError, errors.New("no HTTP/1 status line, RFC 9112 §4")
	}
	w.minor = s[7] - '0'
	w.status = int(s[9]-'0')*100 + int(s[10]-'0')*10 + int(s[11]-'0')
	// RFC 9110 §15 calls what is above 599 invalid, yet origins in use answer
	// so; a client treats it as 5xx, and a proxy passes it on.
	if w.status < 100 {
		return ProtocolError, fmt.Errorf("status %d is below 100, RFC 9110 §15", w.status)
	}
	w.phase = fields
	return "", nil
}

// parseField notes what a field line says about framing and caching.
func (w *witness) parseField(s []byte) (Kind, error) {
	if s[0] == ' ' || s[0] == '\t' {
		if w.lines == 0 || w.framing {
			return ProtocolError, errors.New("folded line where framing depends on it, RFC 9112 §5.2")
		}
		return "", nil
	}
	name, value, ok := cutField(s)
	if !ok {
		return ProtocolError, errors.New("malformed field line, RFC 9112 §5")
	}
	w.lines++
	w.framing = false
	switch {
	case field.EqualFold(name, "cache-control"):
		w.caching = true
	case field.EqualFold(name, "transfer-encoding"):
		w.framing = true
		w.coded++
		w.chunked = field.EqualFold(value, "chunked")
	case field.EqualFold(name, "content-length"):
		w.framing = true
		n, err := strconv.ParseUint(string(value), 10, 63) // takes digits only
		if err != nil {
			return ProtocolError, errors.New("invalid Content-Length, RFC 9112 §6.3")
		}
		if w.sized && w.size != int64(n) {
			return ProtocolError, errors.New("differing Content-Length values, RFC 9112 §6.3")
		}
		w.sized, w.size = true, int64(n)
	}
	return "", nil
}

// endHead chooses the framing of the body (RFC 9112 §6.3).
func (w *witness) endHead() (Kind, error) {
	x := w.ex
	switch {
	case w.coded > 0 && w.minor == 0:
		return ResponseTransferCoding, errors.New("Transfer-Encoding from HTTP/1.0, RFC 9112 §6.1")
	case w.coded > 1 || w.coded == 1 && !w.chunked:
		return ResponseTransferCoding, errors.New("a transfer coding other than chunked, RFC 9112 §6.1")
	case w.status == 101:
		if !x.upgrade {
			return ProtocolError, errors.New("101 to a request without Upgrade, RFC 9110 §15.2.2")
		}
		w.phase = tunnel
		w.timed = false
		return "", w.Conn.SetDeadline(time.Time{})
	case w.status < 200:
		if w.coded > 0 {
			return ProtocolError, errors.New("interim response with a body, RFC 9110 §15.2")
		}
		if w.answers++; w.answers > interim.Max {
			return ProtocolError, fmt.Errorf("more than %d interim responses", interim.Max)
		}
		x.head(w.caching, true)
		w.newHead()
		return "", nil
	}
	x.head(w.caching, false)
	w.last = w.coded > 0 && w.sized
	switch {
	case x.method == "HEAD", w.status == 204, w.status == 304:
		w.phase = idle
	case w.coded > 0:
		w.phase, w.room = chunkSize, maxChunkLine
	case w.sized && w.size == 0:
		w.phase = idle
	case w.sized:
		w.phase, w.left = length, w.size
	default:
		w.phase = untilClose
	}
	return "", nil
}

// parseChunk reads the line before a chunk (RFC 9112 §7.1). Blanks around the
// size are refused, extensions are ignored.
func (w *witness) parseChunk(s []byte) (Kind, error) {
	if i := bytes.IndexByte(s, ';'); i >= 0 {
		s = s[:i]
	}
	for _, c := range s {
		if !digit(c) && (c|0x20 < 'a' || c|0x20 > 'f') {
			return ProtocolError, errors.New("invalid chunk size, RFC 9112 §7.1")
		}
	}
	n, err := strconv.ParseUint(string(s), 16, 64)
	if err != nil || n > math.MaxInt64 {
		return ProtocolError, errors.New("invalid chunk size, RFC 9112 §7.1")
	}
	if n == 0 {
		w.phase, w.room = trailer, maxTrailer
	} else {
		w.phase, w.left = chunkData, int64(n)
	}
	return "", nil
}

// cutField splits a field line; the name must be a token (RFC 9110 §5.6.2).
func cutField(s []byte) (name, value []byte, ok bool) {
	name, value, ok = bytes.Cut(s, []byte(":"))
	if !ok || !field.IsToken(name) {
		return nil, nil, false
	}
	return name, bytes.Trim(value, " \t"), true
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

// A closure is the connection below TLS. It remembers whether that ended
// before TLS did: crypto/tls takes an end of the connection between two
// records for a proper one, even without the closure alert that RFC 9112 §9.8
// asks for.
type closure struct {
	net.Conn
	mu  sync.Mutex
	eof bool
}

func (c *closure) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if errors.Is(err, io.EOF) {
		c.mu.Lock()
		c.eof = true
		c.mu.Unlock()
	}
	return n, err
}

// abrupt reports whether the connection ended without a closure alert, if TLS
// says that it ended: after the alert, TLS reads no further.
func (c *closure) abrupt() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.eof
}
