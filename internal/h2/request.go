package h2

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/larderhq/larder/internal/canon"
	"github.com/larderhq/larder/internal/field"
)

// A Request is the head of a request, for a Prompt. Its octets are good until the
// Prompt returns.
type Request struct {
	Method, Scheme, Authority, Path []byte

	// Fields are in the order they came in, with names in lower case; Cookie is one.
	Fields []Field

	protocol []byte // of an extended CONNECT (RFC 8441 §4)
	length   int64  // of the content; negative: nobody knows
	urgency  int8   // RFC 9218 §4.1
	mixed    bool   // incremental (RFC 9218 §4.2)
	cookie   []byte // the crumbs together
}

// A Field is a line of a header section.
type Field struct {
	Name, Value []byte

	entry entryID
}

// sharedLen is how long a field has to be for its text to be that of the table, in octets.
const sharedLen = 64

// handlerField is about what a line of a http.Header takes beside its octets.
const handlerField = 96

// size is what a field takes that a Handler has, in octets.
func (f *Field) size() int {
	if f.shared() {
		return handlerField
	}
	return len(f.Name) + len(f.Value) + handlerField
}

// shared tells whether the text of the table is used, so that what a client has said once is
// held once, however often it refers to it.
func (f *Field) shared() bool { return f.entry != (entryID{}) && len(f.Name)+len(f.Value) >= sharedLen }

const defaultUrgency = 3 // RFC 9218 §4.1

var cookieName = []byte("cookie")

var (
	errPseudo     = errors.New("the pseudo-header fields are not those of a request (RFC 9113 8.3)")
	errName       = errors.New("a field name is no token in lower case (RFC 9113 8.2.1)")
	errValue      = errors.New("a field value has a control character (RFC 9113 8.2.1)")
	errConnection = errors.New("a field of the connection, which HTTP/2 has not (RFC 9113 8.2.2)")
	errPath       = errors.New("the path is none (RFC 9113 8.3.1)")
	errAuthority  = errors.New("the authority is no host and port (RFC 9113 8.3.1)")
	errHost       = errors.New("another host in the Host field than in :authority (RFC 9113 8.3.1)")
	errLength     = errors.New("the length of the content is none, or two (RFC 9110 8.6)")
)

// read takes what d has decoded. What it makes of it is good until the next block. An error
// means that the request is malformed (RFC 9113 §8.1.1).
func (r *Request) read(d *decoder) error {
	*r = Request{Fields: r.Fields[:0], cookie: r.cookie[:0], length: -1, urgency: defaultUrgency}
	var host []byte
	regular := false
	for _, s := range d.spans {
		name, value := d.field(s)
		if !soundValue(value) {
			return errValue
		}
		if name = name[:len(name):len(name)]; len(name) > 0 && name[0] == ':' {
			if regular || !r.pseudo(name, value) {
				return errPseudo
			}
			continue
		}
		regular, value = true, bytes.Trim(value, " \t")
		if !soundName(name) {
			return errName
		}
		switch string(name) {
		case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
			return errConnection
		case "te":
			if !field.EqualFold(value, "trailers") {
				return errConnection
			}
		case "cookie":
			if len(r.cookie) > 0 {
				r.cookie = append(r.cookie, "; "...)
			}
			r.cookie = append(r.cookie, value...)
			continue
		case "host":
			if host != nil {
				return errHost
			}
			host = value
			continue
		case "content-length":
			n, err := strconv.ParseUint(string(value), 10, 63)
			if err != nil || r.length >= 0 || len(value) > 1 && value[0] == '0' {
				return errLength
			}
			r.length = int64(n)
		case "priority":
			r.urgency, r.mixed = priority(value, r.urgency, r.mixed)
		}
		r.Fields = append(r.Fields, Field{name, value, s.entry})
	}
	if len(r.cookie) > 0 {
		r.Fields = append(r.Fields, Field{Name: cookieName, Value: r.cookie})
	}
	return r.complete(host)
}

// complete looks at what all fields say together (RFC 9113 §8.3.1).
func (r *Request) complete(host []byte) error {
	if r.Authority == nil {
		r.Authority = host
	} else if host != nil && !bytes.EqualFold(host, r.Authority) {
		return errHost
	}
	if len(r.Method) == 0 || len(r.Authority) == 0 {
		return errPseudo
	}
	for _, c := range r.Authority {
		if !authorityOctet(c) {
			return errAuthority
		}
	}
	if connect := string(r.Method) == http.MethodConnect; r.protocol != nil && (!connect || !field.IsToken(r.protocol)) {
		return errPseudo
	} else if connect && r.protocol == nil {
		if r.Scheme != nil || r.Path != nil {
			return errPseudo
		}
		return nil
	}
	if string(r.Scheme) != "https" && string(r.Scheme) != "http" {
		return errPseudo
	}
	if string(r.Path) == "*" && string(r.Method) == http.MethodOptions {
		return nil
	}
	if len(r.Path) == 0 || r.Path[0] != '/' {
		return errPath
	}
	for _, c := range r.Path {
		if !canon.TargetOctet(c) {
			return errPath
		}
	}
	return nil
}

// pseudo takes a pseudo-header field. It reports false if there is no such one in requests,
// or it came before.
func (r *Request) pseudo(name, value []byte) bool {
	var to *[]byte
	switch string(name) {
	case ":method":
		if !field.IsToken(value) {
			return false
		}
		to = &r.Method
	case ":scheme":
		to = &r.Scheme
	case ":authority":
		to = &r.Authority
	case ":path":
		to = &r.Path
	case ":protocol":
		to = &r.protocol
	default:
		return false
	}
	if *to != nil {
		return false
	}
	*to = value[:len(value):len(value)]
	return true
}

// authorityOctet tells whether c may be in a host or its port (RFC 3986 §3.2): what comes
// before an @ is for nobody's eyes, and no part of it.
func authorityOctet(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= ':' || 'A' <= c && c <= 'Z' || bytes.IndexByte(authorityMarks, c) >= 0
}

var authorityMarks = []byte("-._~%!$&'()*+,;=[]")

// soundName tells whether b is a token without capital letters.
func soundName(b []byte) bool {
	for _, c := range b {
		if !field.TokenOctets[c] || 'A' <= c && c <= 'Z' {
			return false
		}
	}
	return len(b) > 0
}

// soundValue tells whether b may be the value of a field: with nothing in it that could end
// a line elsewhere. Blanks around it make a request malformed too (RFC 9113 §8.2.1), but the
// client of Node sends them; they are no part of the value (RFC 9110 §5.5).
func soundValue(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// priority reads a Priority field, of what other than the urgency u and whether it is
// incremental nothing is known here (RFC 9218 §4). What is not understood changes nothing.
func priority(value []byte, u int8, mixed bool) (int8, bool) {
	for member := range bytes.SplitSeq(value, []byte(",")) {
		switch member = bytes.TrimSpace(member); {
		case len(member) == 3 && string(member[:2]) == "u=" && '0' <= member[2] && member[2] <= '7':
			u = int8(member[2] - '0')
		case string(member) == "i" || string(member) == "i=?1":
			mixed = true
		case string(member) == "i=?0":
			mixed = false
		}
	}
	return u, mixed
}

// size is what r takes that a Handler has, in octets.
func (r *Request) size() int {
	n := len(r.Method) + len(r.Authority) + len(r.Path)
	for i := range r.Fields {
		n += r.Fields[i].size()
	}
	return n
}

// forHandler makes an http.Request of r, which shares nothing with it. It has no body yet.
func (r *Request) forHandler(ctx context.Context, t *table) (*http.Request, error) {
	var b strings.Builder // one string for most
	b.Grow(r.size())
	for _, part := range [][]byte{r.Method, r.Authority, r.Path} {
		b.Write(part)
	}
	for i := range r.Fields {
		if f := &r.Fields[i]; !f.shared() {
			b.Write(f.Value)
		}
	}
	text := b.String()
	next := func(b []byte) string {
		s := text[:len(b)]
		text = text[len(b):]
		return s
	}
	q := &http.Request{Method: next(r.Method), Host: next(r.Authority), RequestURI: next(r.Path), Proto: "HTTP/2.0", ProtoMajor: 2, Header: make(http.Header, len(r.Fields)), Body: http.NoBody}
	switch {
	case r.Path == nil: // CONNECT
		q.URL, q.RequestURI = &url.URL{Host: q.Host}, q.Host
	default:
		u, err := url.ParseRequestURI(q.RequestURI)
		if err != nil {
			return nil, errPath
		}
		q.URL = u
	}
	lines := make([]string, len(r.Fields))
	for i := range r.Fields {
		f := &r.Fields[i]
		var name, value string
		if f.shared() {
			name, value = t.line(f)
		} else {
			name, value = canonical(f.Name), next(f.Value)
		}
		if before, ok := q.Header[name]; ok {
			q.Header[name] = append(before, value) // which has no room in lines
			continue
		}
		lines[i] = value
		q.Header[name] = lines[i : i+1 : i+1]
	}
	announce(q)
	if r.protocol != nil {
		asUpgrade(q, string(r.protocol))
	}
	return q.WithContext(ctx), nil
}

// line returns the text of f, which the table had when it was read.
func (t *table) line(f *Field) (name, value string) {
	e := t.text(f.entry)
	if e == nil { // the rest of the block has taken its place
		return canonical(f.Name), string(f.Value)
	}
	if e.name == "" {
		e.name, e.value = canonical(f.Name), string(f.Value)
	}
	return e.name, e.value
}

// announce moves the names of the fields that are to come after the content from Trailer to
// where a handler looks for them (RFC 9110 §6.6.2).
func announce(q *http.Request) {
	named, ok := q.Header["Trailer"]
	if !ok {
		return
	}
	delete(q.Header, "Trailer")
	for _, line := range named {
		for name := range strings.SplitSeq(line, ",") {
			switch name = http.CanonicalHeaderKey(strings.TrimSpace(name)); name {
			case "", "Transfer-Encoding", "Trailer", "Content-Length":
			default:
				if q.Trailer == nil {
					q.Trailer = make(http.Header)
				}
				q.Trailer[name] = nil
			}
		}
	}
}

// canonical is http.CanonicalHeaderKey for names in lower case.
func canonical(name []byte) string {
	if s, ok := canonicalNames[string(name)]; ok {
		return s
	}
	return http.CanonicalHeaderKey(string(name))
}

// canonicalNames are those that are asked with most.
var canonicalNames = func() map[string]string {
	m := make(map[string]string)
	names := []string{
		"x-forwarded-for", "x-requested-with", "origin", "dnt", "priority", "te", "pragma", "upgrade-insecure-requests", "sec-ch-ua", "sec-ch-ua-mobile",
		"sec-ch-ua-platform", "sec-fetch-dest", "sec-fetch-mode", "sec-fetch-site", "sec-fetch-user",
	}
	for _, s := range static {
		names = append(names, string(s.name))
	}
	for _, name := range slices.Compact(names) {
		m[name] = http.CanonicalHeaderKey(name)
	}
	return m
}()
