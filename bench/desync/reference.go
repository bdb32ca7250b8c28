//go:build linux

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
)

// The reference reads a connection as RFC 9112 has it and RS-01 to RS-15 of the
// threat list narrow it down: whatever two servers could read in two ways is
// unsound. It shares no code with Larder and none with net/http, and prefers
// being plain to being fast.

// A state is what the reference made of a request.
type state uint8

const (
	whole   state = iota // sound from its first octet to its last
	partial              // a sound head; the body is unsound, or the octets end in it
	unsound              // no request at all: neither it nor what follows may reach an origin
)

var stateNames = [...]string{"whole", "partial", "unsound"}

// A message is one request as the reference reads it.
type message struct {
	state                state
	method, target, host string
	body                 []byte // as far as it came
	sum                  string // of body, as sum makes it
	short                bool   // the octets end before the request does
	upgrade              bool   // the client asks for another protocol
	why                  string // it is not whole
	start, end           int    // where it is among the octets
}

// sum is how bodies are told apart in records.
func sum(body []byte) string {
	h := sha256.Sum256(body)
	return hex.EncodeToString(h[:6])
}

var (
	errShort = errors.New("the octets end")

	errLF       = errors.New("a line that does not end in CRLF")
	errCR       = errors.New("CR within a line")
	errLine     = errors.New("the request line is none")
	errTarget   = errors.New("the request target is none")
	errField    = errors.New("a field line is none")
	errHost     = errors.New("no Host, two, or one that is no host")
	errLength   = errors.New("Content-Length twice, or no plain number")
	errCoding   = errors.New("Transfer-Encoding twice, or other than chunked")
	errBoth     = errors.New("Content-Length with Transfer-Encoding")
	errOld      = errors.New("Transfer-Encoding in HTTP/1.0")
	errExpect   = errors.New("an expectation that is not 100-continue")
	errChunk    = errors.New("the size of a chunk is none")
	errChunkEnd = errors.New("a chunk that does not end where it says")
)

// messages reads what a client says on one connection. Only the last of them can
// be other than whole.
func messages(octets []byte) (all []message) {
	for at := 0; at < len(octets); {
		m := readMessage(octets[at:])
		m.start, m.end = m.start+at, m.end+at
		if m.short && m.end == m.start {
			break // an empty line, or nothing
		}
		all = append(all, m)
		if m.state != whole {
			break
		}
		at = m.end
	}
	return all
}

// readMessage reads one request from the beginning of octets.
func readMessage(octets []byte) message {
	r := reader{in: octets}
	if bytes.HasPrefix(octets, []byte("\r\n")) {
		r.at += 2 // RFC 9112 §2.2: at least one
	}
	m := message{start: r.at}
	h, err := r.head(&m)
	if err == nil {
		m.state = partial
		err = r.content(&m, h)
	} else {
		m.state = unsound
	}
	if err == nil {
		m.state = whole
	} else {
		m.why, m.short = err.Error(), errors.Is(err, errShort)
	}
	m.sum, m.end = sum(m.body), r.at
	return m
}

// A reader goes through octets.
type reader struct {
	in []byte
	at int
}

// line is the next line, without its end.
func (r *reader) line() (string, error) {
	rest := r.in[r.at:]
	end := bytes.IndexByte(rest, '\n')
	switch {
	case end < 0:
		return "", errShort
	case end == 0 || rest[end-1] != '\r':
		return "", errLF
	}
	r.at += end + 1
	line := string(rest[:end-1])
	if strings.Contains(line, "\r") {
		return "", errCR
	}
	return line, nil
}

// A head is what the fields say of the connection and the body.
type head struct {
	old               bool
	hosts             int
	lengths, codings  []string
	expects, upgrades []string
}

func (r *reader) head(m *message) (h head, err error) {
	line, err := r.line()
	if err != nil {
		return h, err
	}
	absolute := ""
	if absolute, err = m.requestLine(line, &h); err != nil {
		return h, err
	}
	if err := r.fields(func(name, value string) { h.take(m, name, value) }); err != nil {
		return h, err
	}
	switch {
	case h.hosts > 1, h.hosts == 0 && !h.old, h.hosts == 1 && absolute == "" && !isHost(m.host):
		return h, errHost // of what goes unread, beside an absolute target, nothing depends
	case len(h.lengths) > 0 && len(h.codings) > 0:
		return h, errBoth
	case len(h.codings) > 0 && h.old:
		return h, errOld
	case len(h.codings) > 1 || len(h.codings) == 1 && !strings.EqualFold(h.codings[0], "chunked"):
		return h, errCoding
	case len(h.lengths) > 1 || len(h.lengths) == 1 && !isLength(h.lengths[0]):
		return h, errLength
	case len(h.expects) > 1 || len(h.expects) == 1 && !strings.EqualFold(h.expects[0], "100-continue"):
		return h, errExpect
	}
	if absolute != "" {
		m.host = absolute // RFC 9112 §3.2.2
	}
	m.host, m.upgrade = canonicalHost(m.host), len(h.upgrades) > 0
	return h, nil
}

// take keeps the fields that matter.
func (h *head) take(m *message, name, value string) {
	switch strings.ToLower(name) {
	case "host":
		h.hosts++
		m.host = value
	case "content-length":
		h.lengths = append(h.lengths, value)
	case "transfer-encoding":
		h.codings = append(h.codings, value)
	case "expect":
		h.expects = append(h.expects, value)
	case "upgrade":
		h.upgrades = append(h.upgrades, value)
	}
}

// requestLine reads method, target and version. absolute is the authority of a
// target that has one.
func (m *message) requestLine(line string, h *head) (absolute string, err error) {
	parts := strings.Split(line, " ")
	if len(parts) != 3 || !isToken(parts[0]) || len(parts[2]) != 8 || parts[2][:7] != "HTTP/1." || !isDigit(parts[2][7]) {
		return "", errLine
	}
	m.method, m.target, h.old = parts[0], parts[1], parts[2][7] == '0'
	for _, c := range []byte(m.target) {
		if c <= ' ' || c >= 0x7f || c == '#' || c == '\\' {
			return "", errTarget
		}
	}
	switch {
	case strings.HasPrefix(m.target, "/"), m.target == "*" && m.method == "OPTIONS":
		return "", nil
	case len(m.target) < 7 || !strings.EqualFold(m.target[:7], "http://"):
		return "", errTarget
	}
	rest := m.target[7:]
	slash := strings.IndexAny(rest, "/?")
	if slash < 0 {
		slash = len(rest)
	}
	absolute, m.target = rest[:slash], rest[slash:]
	if !isHost(absolute) {
		return "", errTarget
	}
	if !strings.HasPrefix(m.target, "/") {
		m.target = "/" + m.target
	}
	return absolute, nil
}

// fields reads field lines up to the empty one.
func (r *reader) fields(take func(name, value string)) error {
	for {
		line, err := r.line()
		if err != nil || line == "" {
			return err
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || !isToken(name) {
			return errField
		}
		value = strings.Trim(value, " \t")
		if strings.ContainsFunc(value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
			return errField
		}
		take(name, value)
	}
}

// content reads the body.
func (r *reader) content(m *message, h head) error {
	switch {
	case len(h.codings) > 0:
		return r.chunks(m)
	case len(h.lengths) == 0:
		return nil
	}
	n, err := strconv.ParseInt(h.lengths[0], 10, 64)
	if err != nil {
		return errLength
	}
	return r.data(m, n)
}

// data takes n octets of the body.
func (r *reader) data(m *message, n int64) error {
	there := min(n, int64(len(r.in)-r.at))
	m.body = append(m.body, r.in[r.at:r.at+int(there)]...)
	r.at += int(there)
	if there < n {
		return errShort
	}
	return nil
}

func (r *reader) chunks(m *message) error {
	for {
		line, err := r.line()
		if err != nil {
			return err
		}
		digits, extension, _ := strings.Cut(line, ";")
		n, err := strconv.ParseUint(digits, 16, 63) // takes neither sign nor blank, nor 0x
		if err != nil || len(digits) > 16 || strings.ContainsFunc(extension, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
			return errChunk
		}
		if n == 0 {
			return r.fields(func(string, string) {})
		}
		if n > math.MaxInt64 {
			return errChunk
		}
		if err := r.data(m, int64(n)); err != nil {
			return err
		}
		switch rest := r.in[r.at:]; {
		case len(rest) < 2 && bytes.HasPrefix([]byte("\r\n"), rest):
			return errShort
		case !bytes.HasPrefix(rest, []byte("\r\n")):
			return errChunkEnd
		}
		r.at += 2
	}
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

func isToken(s string) bool {
	return s != "" && !slices.ContainsFunc([]byte(s), func(c byte) bool {
		return !isDigit(c) && !isLetter(c) && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0
	})
}

// isLength tells whether s is a number as anybody would write it.
func isLength(s string) bool {
	if s == "" || len(s) > 1 && s[0] == '0' || slices.ContainsFunc([]byte(s), func(c byte) bool { return !isDigit(c) }) {
		return false
	}
	_, err := strconv.ParseInt(s, 10, 64)
	return err == nil
}

// isHost tells whether s is a host, with or without a port (RFC 3986 §3.2.2).
func isHost(s string) bool {
	name, port := s, ""
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasSuffix(s, "]") {
		name, port = s[:i], s[i+1:]
	}
	if slices.ContainsFunc([]byte(port), func(c byte) bool { return !isDigit(c) }) {
		return false
	}
	if inner, ok := strings.CutPrefix(name, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		return ok && inner != "" && strings.Trim(inner, "0123456789abcdefABCDEF:.") == ""
	}
	return name != "" && !slices.ContainsFunc([]byte(name), func(c byte) bool {
		return !isDigit(c) && !isLetter(c) && strings.IndexByte("-._~%!$&'()*+,;=", c) < 0
	})
}

// canonicalHost is the one spelling of a host (RFC 9110 §4.2.3).
func canonicalHost(s string) string {
	return strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(s), ":80"), ":")
}
