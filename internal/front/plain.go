package front

import (
	"bytes"
	"strings"

	"github.com/larderhq/larder/internal/canon"
	"github.com/larderhq/larder/internal/field"
	"github.com/larderhq/larder/internal/standing"
)

// maxPlain is the longest head that is waited for, in octets, and maxFields the most
// lines it may have. What is longer goes the other way.
const (
	maxPlain  = 32 << 10
	maxFields = 100
)

// A plain request has no content, and wants an answer in HTTP/1.1 and nothing else.
type plain struct {
	standing.Request
	close   bool // the client wants no other answer on this connection
	special bool // there is a field that decides by more than its value: no answer stands for it
}

// A shape is what the octets at the start of a connection are.
type shape uint8

const (
	other  shape = iota // nothing that is understood here: net/http and its guard have to look
	begun               // so far a plain request, without its end
	entire              // a plain request
)

// read tells what in begins with, which is not empty, and how long a plain
// request is. It takes a part of what RFC 9112 allows, and mends nothing; whether
// target and host are good ones is left to whoever knows them. in must not change
// as long as p is used.
func (p *plain) read(t *standing.Table, in []byte) (n int, is shape) {
	p.Reset()
	p.close, p.special = false, false
	rest, is := p.requestLine(in)
	if is != entire {
		return 0, is
	}
	for {
		end := bytes.IndexByte(rest, '\n')
		switch {
		case end < 0 && len(in) <= maxPlain:
			return 0, begun
		case end < 1 || rest[end-1] != '\r':
			return 0, other
		case end == 1:
			if p.Host == nil {
				return 0, other
			}
			return len(in) - len(rest) + 2, entire
		}
		if len(p.Fields) == maxFields || !p.field(t, rest[:end-1]) {
			return 0, other
		}
		rest = rest[end+1:]
	}
}

// requestLine reads GET or HEAD of a path in HTTP/1.1, and returns what follows.
func (p *plain) requestLine(in []byte) (rest []byte, is shape) {
	const get, head, version = "GET ", "HEAD ", " HTTP/1.1\r\n"
	switch {
	case bytes.HasPrefix(in, []byte(get)):
		p.Head, rest = false, in[len(get):]
	case bytes.HasPrefix(in, []byte(head)):
		p.Head, rest = true, in[len(head):]
	case len(in) < len(head) && (get[:min(len(in), len(get))] == string(in) || head[:len(in)] == string(in)):
		return nil, begun
	default:
		return nil, other
	}
	n := 0
	for n < len(rest) && canon.TargetOctet(rest[n]) {
		n++
	}
	after := rest[n:]
	switch {
	case len(rest) == 0:
		return nil, begun
	case rest[0] != '/' || len(in) > maxPlain && n == len(rest):
		return nil, other
	case len(after) < len(version) && version[:len(after)] == string(after) && len(in) <= maxPlain:
		return nil, begun
	case !bytes.HasPrefix(after, []byte(version)):
		return nil, other
	}
	p.Target = rest[:n]
	return after[len(version):], entire
}

// field reads a line without its end.
func (p *plain) field(t *standing.Table, line []byte) bool {
	colon := 0
	for colon < len(line) && field.TokenOctets[line[colon]] {
		colon++
	}
	if colon == 0 || colon == len(line) || line[colon] != ':' {
		return false
	}
	name, value := line[:colon], line[colon+1:]
	for len(value) > 0 && (value[0] == ' ' || value[0] == '\t') {
		value = value[1:]
	}
	for len(value) > 0 && (value[len(value)-1] == ' ' || value[len(value)-1] == '\t') {
		value = value[:len(value)-1]
	}
	if !printable(value) {
		return false
	}
	if field.EqualFold(name, "host") {
		if p.Host != nil || len(value) == 0 {
			return false
		}
		p.Host = value
		return true
	}
	if t.Add(&p.Request, name, value) != standing.Deciding {
		return true
	}
	if field.EqualFold(name, "connection") && !p.close {
		p.close = field.EqualFold(value, "close")
		return p.close || field.EqualFold(value, "keep-alive")
	}
	p.special = true
	return !unusual[strings.ToLower(string(name))]
}

// unusual are the fields by which a request has content, or wants more than an answer, and
// one that net/http makes another of (see mark).
var unusual = map[string]bool{
	"connection": true, "content-length": true, "expect": true, "http2-settings": true, "keep-alive": true, "pragma": true, "proxy-connection": true,
	"te": true, "trailer": true, "transfer-encoding": true, "upgrade": true,
}
