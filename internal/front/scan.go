package front

import (
	"bytes"
	"crypto/rand"
	"math"
	"net/http"
	"strconv"

	"github.com/larderhq/larder/internal/canon"
	"github.com/larderhq/larder/internal/field"
)

// Bounds of lines, in octets. All are less than what net/http takes: where it gave up
// within content, it could take what follows for another request (RFC 9112 §11.2).
const (
	maxChunkLine = 1 << 10 // the size of a chunk and its extensions
	maxTrailer   = 3 << 10 // the trailer section
	maxChunk     = 15      // hexadecimal digits of the size of a chunk
	maxExcess    = 8 << 10 // what chunks may take up beside twice their octets, and 16 for each
)

// mark stands in for the Cache-Control that a request with Pragma does not
// have, or net/http would add one of its own (RFC 9110 §7.7 has no place for
// that). No client can know the value.
var (
	markValue = rand.Text()
	mark      = "Cache-Control: " + markValue + "\r\n"
)

// unmark takes the mark out.
func unmark(h http.Header) {
	if lines := h["Cache-Control"]; len(lines) == 1 && lines[0] == markValue {
		delete(h, "Cache-Control")
	}
}

// A scanner follows the requests on one connection, and tells where what
// net/http would make of them is not what they say. It judges whole lines; the
// rest of what HTTP demands of a line is left to net/http, which comes after.
type scanner struct {
	maxHead int  // octets of a line of the head
	single  bool // follows one request, and no more
	state   state
	left    int64 // octets of the body, or of the chunk, that are to come
	excess  int64 // see maxExcess
	trailed int   // octets of the trailer section so far
	skipped bool  // an empty line went before
	head    head
	why     string // of a refusal

	// began, where set, is told of each request line that passes.
	began func(line []byte)
}

// A head is what is known of the request head that is being read.
type head struct {
	old      bool  // HTTP/1.0
	length   int64 // Content-Length, or -1
	coded    bool  // Transfer-Encoding is there
	unknown  bool  // with a coding before chunked
	pragma   bool
	control  bool // Cache-Control is there, or the mark
	upgrades bool
}

type state uint8

const (
	start     state = iota // before a request line
	fields                 // in the header section
	body                   // in a body of known length
	chunkSize              // before the size of a chunk
	chunk                  // in a chunk
	chunkEnd               // before the line end after a chunk
	trailer                // in the trailer section
	blind                  // in a head that net/http refuses: whatever follows is passed on
	beyond                 // no request comes any more: what follows is another protocol, or nothing
	between                // after a request, and the next one is for others to read
)

// An action is what to do with octets.
type action uint8

const (
	pass   action = iota // pass them on
	more                 // wait for the rest of the line
	drop                 // leave them out
	insert               // pass the mark on first
	refuse               // these and what follows are no HTTP
	hold                 // what follows is no part of a request
)

// inBody tells whether the octets of a body are still to come.
func (s *scanner) inBody() bool { return s.state >= body && s.state <= trailer }

// accept finds how much of in can pass as it is, and what is to be done with
// the n octets after that: pass if there are none.
func (s *scanner) accept(in []byte) (ok, n int, do action) {
	for ok < len(in) {
		if n, do = s.next(in[ok:]); do != pass {
			return ok, n, do
		}
		ok += n
	}
	return ok, 0, pass
}

// next judges the beginning of in, which is not empty.
func (s *scanner) next(in []byte) (n int, do action) {
	switch s.state {
	case blind:
		return len(in), pass
	case beyond, between:
		return 0, hold
	case body, chunk:
		return s.data(in)
	case chunkEnd:
		switch {
		case in[0] != '\r' || len(in) > 1 && in[1] != '\n':
			return s.refuse("a chunk is not followed by CRLF (RFC 9112 7.1)")
		case len(in) < 2:
			return 0, more
		}
		s.state = chunkSize
		return 2, pass
	}
	end := bytes.IndexByte(in, '\n')
	if end < 0 {
		return s.unended(len(in))
	}
	if end == 0 || in[end-1] != '\r' {
		return s.refuse("a line ends in LF without CR (RFC 9112 2.2)")
	}
	line := in[:end-1]
	if bytes.IndexByte(line, '\r') >= 0 {
		return s.refuse("CR without LF (RFC 9112 2.2)")
	}
	switch s.state {
	case start:
		do = s.requestLine(line)
	case fields:
		if do = s.field(line); do == insert {
			return 0, insert
		}
	case chunkSize:
		do = s.size(line)
	default:
		do = s.trailerLine(line)
	}
	return end + 1, do
}

func (s *scanner) refuse(why string) (int, action) {
	s.why = why
	return 0, refuse
}

func (s *scanner) refused(why string) action {
	s.why = why
	return refuse
}

// unended judges n octets of a line whose end is not there yet.
func (s *scanner) unended(n int) (int, action) {
	switch {
	case s.state == chunkSize && n > maxChunkLine:
		return s.refuse("the size of a chunk or its extensions are too long (RFC 9112 7.1.1)")
	case s.state == trailer && s.trailed+n > maxTrailer:
		return s.refuse("the trailer section is too long (RFC 9110 5.4)")
	case n > s.maxHead:
		s.state = blind // net/http answers 431 and closes
		return n, pass
	}
	return 0, more
}

// data passes octets of a body.
func (s *scanner) data(in []byte) (int, action) {
	n := int(min(s.left, int64(len(in))))
	if s.left -= int64(n); s.left == 0 {
		if s.state == chunk {
			s.state = chunkEnd
		} else {
			s.state = s.afterwards()
		}
	}
	return n, pass
}

// afterwards is the state after a request. One with Upgrade is the last of its
// connection: nobody has to know whether the octets after it are HTTP.
func (s *scanner) afterwards() state {
	switch {
	case s.head.upgrades:
		return beyond
	case s.single:
		return between
	}
	return start
}

// requestLine begins a head. One empty line before it is skipped (RFC 9112
// §2.2).
func (s *scanner) requestLine(line []byte) action {
	if len(line) == 0 {
		if s.skipped {
			return s.refused("empty lines before a request (RFC 9112 2.2)")
		}
		s.skipped = true
		return drop
	}
	const version = " HTTP/1.x"
	i := len(line) - len(version)
	minor := line[len(line)-1]
	if i < 0 || string(line[i:len(line)-1]) != version[:len(version)-1] || minor < '0' || minor > '9' {
		return s.refused("not HTTP/1 (RFC 9112 2.3)")
	}
	if s.began != nil {
		s.began(line)
	}
	s.skipped = false
	s.state = fields
	s.head = head{length: -1, old: minor == '0'}
	return pass
}

// field reads those fields that decide where the request ends, and those that
// we have to know of.
func (s *scanner) field(line []byte) action {
	if len(line) == 0 {
		return s.endHead()
	}
	h := &s.head
	switch line[0] | 0x20 {
	case ' ', '\t' | 0x20:
		return s.refused("a folded line (RFC 9112 5.2)")
	case 'c', 'h', 'p', 't', 'u':
	default:
		return pass
	}
	colon := bytes.IndexByte(line, ':')
	if colon < 0 {
		return pass // net/http refuses it
	}
	value := line[colon+1:]
	switch name := line[:colon]; {
	case field.EqualFold(name, "content-length"):
		return s.contentLength(bytes.Trim(value, " \t"))
	case field.EqualFold(name, "transfer-encoding"):
		return s.transferEncoding(bytes.Trim(value, " \t"))
	case field.EqualFold(name, "host"):
		if value = bytes.Trim(value, " \t"); len(value) > 0 && !canon.Host(string(value)) {
			return s.refused("Host is no host (RFC 9112 3.2)")
		}
	case field.EqualFold(name, "cache-control"):
		h.control = true
	case field.EqualFold(name, "pragma"):
		h.pragma = true
	case field.EqualFold(name, "upgrade"):
		h.upgrades = true
	}
	return pass
}

// contentLength takes one plain number, once (RFC 9112 §6.3).
func (s *scanner) contentLength(value []byte) action {
	if s.head.length >= 0 {
		return s.refused("Content-Length is there twice (RFC 9112 6.3)")
	}
	n, err := strconv.ParseUint(string(value), 10, 63) // takes no sign, no underscore
	if err != nil || n > math.MaxInt64 || len(value) > 1 && value[0] == '0' {
		return s.refused("Content-Length is no plain number (RFC 9110 8.6)")
	}
	s.head.length = int64(n)
	return pass
}

// transferEncoding takes chunked, and leaves codings before it to net/http,
// which answers 501. Where chunked is not last, nobody knows where the body
// ends (RFC 9112 §6.1, §6.3).
func (s *scanner) transferEncoding(value []byte) action {
	h := &s.head
	if h.coded {
		return s.refused("Transfer-Encoding is there twice (RFC 9112 6.1)")
	}
	h.coded = true
	codings := bytes.Split(value, []byte(","))
	for i, c := range codings {
		c = bytes.Trim(c, " \t")
		switch last := i == len(codings)-1; {
		case last != field.EqualFold(c, "chunked"):
			return s.refused("Transfer-Encoding does not end in chunked, or has it twice (RFC 9112 6.1)")
		case len(c) == 0:
			return s.refused("Transfer-Encoding has an empty member (RFC 9112 6.1)")
		case !last:
			h.unknown = true
		}
	}
	return pass
}

// endHead decides what comes after a head.
func (s *scanner) endHead() action {
	h := &s.head
	switch {
	case h.coded && h.length >= 0:
		return s.refused("Content-Length with Transfer-Encoding (RFC 9112 6.1)")
	case h.coded && h.old:
		return s.refused("Transfer-Encoding in HTTP/1.0 (RFC 9112 6.1)")
	case h.pragma && !h.control:
		h.control = true
		return insert
	case h.unknown:
		s.state = beyond
	case h.coded:
		s.state, s.excess, s.trailed = chunkSize, 0, 0
	case h.length > 0:
		s.state, s.left = body, h.length
	default:
		s.state = s.afterwards()
	}
	return pass
}

// size reads the size of a chunk. Extensions pass: net/http drops them.
func (s *scanner) size(line []byte) action {
	digits, extensions, extended := bytes.Cut(line, []byte(";"))
	n, err := strconv.ParseUint(string(digits), 16, 63)
	switch {
	case err != nil || len(digits) > maxChunk:
		return s.refused("the size of a chunk is no hexadecimal number, or too large (RFC 9112 7.1)")
	case len(line) > maxChunkLine || extended && !printable(extensions):
		return s.refused("chunk extensions that are too long, or have control octets (RFC 9112 7.1.1)")
	case n == 0:
		s.state = trailer
		return pass
	}
	if s.excess = max(s.excess+int64(len(line))+4-16-2*int64(min(n, maxExcess)), 0); s.excess > maxExcess {
		return s.refused("chunks that hold hardly anything (RFC 9112 7.1.1)")
	}
	s.state, s.left = chunk, int64(n)
	return pass
}

// trailerLine takes what is a field, and nothing else (RFC 9112 §7.1.2).
func (s *scanner) trailerLine(line []byte) action {
	if len(line) == 0 {
		s.state = s.afterwards()
		return pass
	}
	if line[0] == ' ' || line[0] == '\t' {
		return s.refused("a folded line (RFC 9112 5.2)")
	}
	name, value, ok := bytes.Cut(line, []byte(":"))
	if s.trailed += len(line) + 2; s.trailed > maxTrailer {
		return s.refused("the trailer section is too long (RFC 9110 5.4)")
	}
	if !ok || !field.IsToken(name) || !printable(value) {
		return s.refused("a line in the trailer section is no field (RFC 9112 7.1.2)")
	}
	return pass
}

// printable tells whether b is what a field value may be (RFC 9110 §5.5).
func printable(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
