package origin

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/larderhq/larder/internal/field"
)

// A head is what a response head says, found line by line while it comes. It refers
// to the octets by where they stand in it.
type head struct {
	size   int  // octets of the lines so far
	minor  byte // of the HTTP version, a digit
	status int
	reason span // the status and what follows
	lines  []line

	framing bool // the last line decides about framing
	coded   int  // lines of Transfer-Encoding
	chunked bool // what they say
	sized   bool // there is a Content-Length, and this is what it says:
	length  int64
	digits  span
	options bool // there is a line of Connection
	trails  bool // and one of Trailer
}

// A span is a run of octets.
type span struct{ from, to int }

func (s span) in(text string) string { return text[s.from:s.to] }

// A line is a field line. One without a name goes on with the line before.
type line struct{ name, value span }

// begin makes h ready for another head.
func (h *head) begin() { *h = head{lines: h.lines[:0]} }

// parse takes the next line, with its end. It says whether that ends the head.
func (h *head) parse(p []byte) (over bool, kind Kind, err error) {
	at := h.size
	h.size += len(p)
	p = p[:len(p)-1]
	if n := len(p) - 1; n >= 0 && p[n] == '\r' {
		p = p[:n]
	}
	switch {
	case h.status == 0:
		kind, err = h.parseStatus(p)
	case len(p) == 0:
		kind, err = h.check()
		over = true
	default:
		kind, err = h.parseField(at, p)
	}
	return over, kind, err
}

// parseStatus reads a status line (RFC 9112 §4).
func (h *head) parseStatus(p []byte) (Kind, error) {
	const sample = "HTTP/1.1 200"
	if len(p) < len(sample) || string(p[:7]) != "HTTP/1." || !digit(p[7]) || p[8] != ' ' ||
		!digit(p[9]) || !digit(p[10]) || !digit(p[11]) || len(p) > len(sample) && p[12] != ' ' {
		return ProtocolError, errors.New("no HTTP/1 status line, RFC 9112 §4")
	}
	if bytes.IndexByte(p, '\r') >= 0 || bytes.IndexByte(p, 0) >= 0 {
		return ProtocolError, errBadValue
	}
	h.minor = p[7]
	h.status = int(p[9]-'0')*100 + int(p[10]-'0')*10 + int(p[11]-'0')
	h.reason = span{9, len(p)}
	// RFC 9110 §15 calls what is above 599 invalid, yet origins in use answer
	// so; a client treats it as 5xx, and a proxy passes it on.
	if h.status < 100 {
		return ProtocolError, fmt.Errorf("status %d is below 100, RFC 9110 §15", h.status)
	}
	return "", nil
}

// parseField reads the field line p, which stands at offset at (RFC 9112 §5).
func (h *head) parseField(at int, p []byte) (Kind, error) {
	if p[0] == ' ' || p[0] == '\t' {
		if len(h.lines) == 0 || h.framing {
			return ProtocolError, errors.New("folded line where framing depends on it, RFC 9112 §5.2")
		}
		value, ok := fieldValue(p, 0)
		if !ok {
			return ProtocolError, errBadValue
		}
		h.lines = append(h.lines, line{value: span{at + value.from, at + value.to}})
		return "", nil
	}
	n := fieldName(p)
	if n < 0 {
		return ProtocolError, errors.New("malformed field line, RFC 9112 §5")
	}
	v, ok := fieldValue(p, n+1)
	if !ok {
		return ProtocolError, errBadValue
	}
	name, value := p[:n], p[v.from:v.to]
	v = span{at + v.from, at + v.to}
	h.framing = false
	switch n {
	case len("Trailer"):
		h.trails = h.trails || field.EqualFold(name, "trailer")
	case len("Connection"):
		h.options = h.options || field.EqualFold(name, "connection")
	case len("Content-Length"):
		if field.EqualFold(name, "content-length") {
			return h.parseLength(value, v)
		}
	case len("Transfer-Encoding"):
		if field.EqualFold(name, "transfer-encoding") {
			h.framing = true
			h.coded++
			h.chunked = field.EqualFold(value, "chunked")
			return "", nil
		}
	}
	h.lines = append(h.lines, line{span{at, at + n}, v})
	return "", nil
}

// parseLength reads a Content-Length, which stands at v. What says the same again
// is left out (RFC 9110 §8.6).
func (h *head) parseLength(value []byte, v span) (Kind, error) {
	h.framing = true
	n, err := strconv.ParseUint(string(value), 10, 63) // takes digits only
	switch {
	case err != nil:
		return ProtocolError, errors.New("invalid Content-Length, RFC 9112 §6.3")
	case h.sized && (h.length != int64(n) || h.digits.to-h.digits.from != v.to-v.from):
		return ProtocolError, errors.New("differing Content-Length values, RFC 9112 §6.3")
	}
	h.sized, h.length, h.digits = true, int64(n), v
	return "", nil
}

var errBadValue = errors.New("CR, NUL or another control character within a line, RFC 9110 §5.5")

// check tells whether the framing of a complete head can be trusted (RFC 9112 §6.1).
func (h *head) check() (Kind, error) {
	switch {
	case h.coded > 0 && h.minor == '0':
		return ResponseTransferCoding, errors.New("Transfer-Encoding from HTTP/1.0, RFC 9112 §6.1")
	case h.coded > 1 || h.coded == 1 && !h.chunked:
		return ResponseTransferCoding, errors.New("a transfer coding other than chunked, RFC 9112 §6.1")
	case h.coded > 0 && h.status < 200:
		return ProtocolError, errors.New("interim response with a body, RFC 9110 §15.2")
	}
	return "", nil
}

// fieldName returns the length of the name that p begins with; negative: there is
// none, or what follows is no colon.
func fieldName(p []byte) int {
	for i, c := range p {
		if !field.TokenOctets[c] {
			if c != ':' || i == 0 {
				break
			}
			return i
		}
	}
	return -1
}

// fieldValue returns where the value in p[from:] stands.
func fieldValue(p []byte, from int) (span, bool) {
	to := len(p)
	for from < to && blank(p[from]) {
		from++
	}
	for from < to && blank(p[to-1]) {
		to--
	}
	for _, c := range p[from:to] {
		if c < ' ' && c != '\t' || c == 0x7f {
			return span{}, false
		}
	}
	return span{from, to}, true
}

func blank(c byte) bool { return c == ' ' || c == '\t' }

func digit(c byte) bool { return '0' <= c && c <= '9' }

// fields returns the header section of a complete head, whose octets are text, but
// for Transfer-Encoding. The values share one backing.
func (h *head) fields(text string) http.Header {
	lengths := 0
	if h.sized {
		lengths = 1
	}
	out := make(http.Header, len(h.lines)+lengths)
	values := make([]string, 0, len(h.lines)+lengths)
	last := ""
	for _, l := range h.lines {
		value := l.value.in(text)
		if l.name.to == 0 { // RFC 9112 §5.2
			lines := out[last]
			if before := lines[len(lines)-1]; before != "" {
				value = before + " " + value
			}
			lines[len(lines)-1] = value
			continue
		}
		last = canonical(l.name.in(text))
		values = add(out, values, last, value)
	}
	if h.sized {
		add(out, values, "Content-Length", h.digits.in(text))
	}
	return out
}

// add adds a line to h, whose lines stand in values as long as names differ.
func add(h http.Header, values []string, name, value string) []string {
	if lines, ok := h[name]; ok {
		h[name] = append(lines, value) // which has no room in values
		return values
	}
	values = append(values, value)
	n := len(values)
	h[name] = values[n-1 : n : n]
	return values
}

// canonical is http.CanonicalHeaderKey. Usual names are not made again each time, and
// keep no head alive.
func canonical(name string) string {
	if known, ok := usual[name]; ok {
		return known
	}
	return http.CanonicalHeaderKey(name)
}

// usual are the fields that most responses have, as they are written by most.
var usual = func() map[string]string {
	m := make(map[string]string)
	for _, name := range []string{
		"Accept-Ranges", "Access-Control-Allow-Origin", "Age", "Alt-Svc", "Cache-Control", "Cache-Tag", "Cdn-Cache-Control", "Connection",
		"Content-Disposition", "Content-Encoding", "Content-Language", "Content-Length", "Content-Range", "Content-Security-Policy",
		"Content-Type", "Date", "Etag", "Expires", "Keep-Alive", "Last-Modified", "Link", "Location", "Pragma", "Referrer-Policy",
		"Retry-After", "Server", "Set-Cookie", "Strict-Transport-Security", "Surrogate-Control", "Surrogate-Key", "Vary", "Via",
		"X-Cache", "X-Cache-Tags", "X-Content-Type-Options", "X-Frame-Options", "X-Powered-By", "X-Request-Id", "X-Xss-Protection",
	} {
		m[name] = name
		m[string(bytes.ToLower([]byte(name)))] = name
	}
	m["ETag"], m["X-XSS-Protection"], m["X-Request-ID"], m["CDN-Cache-Control"] = "Etag", "X-Xss-Protection", "X-Request-Id", "Cdn-Cache-Control"
	return m
}()
