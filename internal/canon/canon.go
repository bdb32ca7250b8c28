// Package canon turns any request into one clean, bounded, keyed form. The key
// and the forwarded URL come from this one parse.
package canon

import (
	"encoding/binary"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// MaxTarget is the longest request target in octets; longer ones get 414.
const MaxTarget = 16 << 10

// An Error is a request that is refused at the door.
type Error struct {
	// Status is the answer to give.
	Status int
	// Why is what to tell the client; it holds no octet of the request.
	Why string
}

func (e *Error) Error() string { return e.Why }

// The client is at fault, and only the client can mend it.
var (
	errTarget    = &Error{http.StatusBadRequest, "the request target has octets that no URI has, or a fragment (RFC 9112 3.2)"}
	errLong      = &Error{http.StatusRequestURITooLong, "the request target is too long (RFC 9112 3)"}
	errAuthority = &Error{http.StatusBadRequest, "Host, or the host in the request target, is not a host (RFC 9112 3.2)"}
	errForm      = &Error{http.StatusBadRequest, "the request target has none of the forms that this method takes (RFC 9112 3.2)"}
	errScheme    = &Error{http.StatusBadRequest, "only http and https are served here (RFC 9110 4.2)"}

	errHTTPS = &Error{http.StatusMisdirectedRequest, "the request target is https, but the connection is not encrypted (RFC 9110 7.4)"}
	errHTTP  = &Error{http.StatusMisdirectedRequest, "the request target is http, but the connection is encrypted (RFC 9110 7.4)"}
)

// A Target is what a request is about.
type Target struct {
	// Scheme is http or https, Host lower case and without the scheme's own
	// port.
	Scheme, Host string
	// Path and Query are the octets received; Path begins with a slash, or is
	// `*` for OPTIONS. HasQuery tells an empty query from none.
	Path, Query string
	HasQuery    bool
}

// Parse reads the target of r, as net/http received it, and checks what
// net/http leaves unchecked. secure says that the connection was encrypted; a
// target may not claim otherwise.
func Parse(r *http.Request, secure bool) (Target, error) {
	raw := r.RequestURI
	if raw == "" {
		raw = r.URL.RequestURI() // a request that no server read
	}
	switch {
	case len(raw) > MaxTarget:
		return Target{}, errLong
	case !clean(raw):
		return Target{}, errTarget
	}
	t := Target{Scheme: "http", Host: r.Host}
	if secure {
		t.Scheme = "https"
	}
	switch {
	case raw[0] == '/':
	case raw == "*" && r.Method == http.MethodOptions:
	default:
		scheme, rest, ok := strings.Cut(raw, "://")
		if !ok {
			return Target{}, errForm
		}
		switch t.Scheme = strings.ToLower(scheme); {
		case t.Scheme != "http" && t.Scheme != "https":
			return Target{}, errScheme
		case secure && t.Scheme == "http":
			return Target{}, errHTTP
		case !secure && t.Scheme == "https":
			return Target{}, errHTTPS
		}
		end := strings.IndexAny(rest, "/?")
		if end < 0 {
			end = len(rest)
		}
		t.Host, raw = rest[:end], rest[end:]
	}
	t.Path, t.Query, t.HasQuery = strings.Cut(raw, "?")
	if t.Path == "" {
		t.Path = "/"
	}
	var ok bool
	if t.Host, ok = authority(t.Host, t.Scheme); !ok {
		return Target{}, errAuthority
	}
	return t, nil
}

// TargetOctet tells whether c may occur in a request target that Parse takes.
func TargetOctet(c byte) bool { return c > ' ' && c < 0x7f && c != '#' && c != '\\' }

// clean refuses control octets, blanks, octets beyond ASCII, backslashes and
// fragments: servers behind us disagree on what they mean.
func clean(raw string) bool {
	if raw == "" {
		return false
	}
	for i := 0; i < len(raw); i++ {
		if !TargetOctet(raw[i]) {
			return false
		}
	}
	return true
}

// authority lowers a host and takes the default port off (RFC 9110 §4.2.3).
func authority(host, scheme string) (string, bool) {
	if host == "" {
		return "", false
	}
	name, port := host, ""
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		name, port = host[:i], host[i+1:]
	}
	if !hostName(name) || len(port) > 5 {
		return "", false
	}
	for i := 0; i < len(port); i++ {
		if port[i] < '0' || port[i] > '9' {
			return "", false
		}
	}
	if port == "" || scheme == "http" && port == "80" || scheme == "https" && port == "443" {
		return strings.ToLower(name), true
	}
	return strings.ToLower(host), true
}

// Host tells whether a Host field may say so (RFC 9112 §3.2).
func Host(value string) bool {
	_, ok := authority(value, "")
	return ok
}

func isHex(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f' }

func hostName(name string) bool {
	if inner, ok := strings.CutPrefix(name, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		a, err := netip.ParseAddr(inner)
		return ok && err == nil && a.Is6() && a.Zone() == ""
	}
	if name == "" || len(name) > 255 {
		return false
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case strings.IndexByte("-._~!$&'()*+,;=", c) >= 0: // RFC 3986 §3.2.2
		case c == '%' && i+2 < len(name) && isHex(name[i+1]) && isHex(name[i+2]):
		default:
			return false
		}
	}
	return true
}

// AppendKey writes the key of the target for site: every part with its length
// in front, so that no part can pretend to be two. Two targets have the same
// key exactly if they are the same resource (RFC 9110 §4.2.3).
func (t *Target) AppendKey(dst []byte, site string) []byte {
	for _, part := range [...]string{site, t.Scheme, t.Host, t.Path} {
		dst = binary.AppendUvarint(dst, uint64(len(part)))
		dst = append(dst, part...)
	}
	if t.HasQuery {
		dst = append(dst, '?')
		dst = append(dst, t.Query...)
	}
	return dst
}

// AppendPathKey writes the key of the target for a site that knows resources by their
// paths alone, whichever host, scheme and query they are asked for with. Paths that
// differ only in what is escaped without need have one key; an escaped slash is
// none.
func (t *Target) AppendPathKey(dst []byte, site string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(site)))
	dst = append(append(dst, site...), 0, 0) // no scheme, no host
	path := t.PlainPath()
	dst = binary.AppendUvarint(dst, uint64(len(path)))
	return append(dst, path...)
}

// PlainPath is the path with only that escaped which has to be.
func (t *Target) PlainPath() string {
	path := make([]byte, 0, len(t.Path)+8)
	for i := 0; i < len(t.Path); i++ {
		c := t.Path[i]
		switch {
		case c == '%' && i+2 < len(t.Path) && isHex(t.Path[i+1]) && isHex(t.Path[i+2]):
			c = unhex(t.Path[i+1])<<4 | unhex(t.Path[i+2])
			i += 2
			if c == '/' || c == '%' || !TargetOctet(c) || c == '?' {
				path = append(path, '%', upperHex[c>>4], upperHex[c&15])
				continue
			}
		}
		path = append(path, c)
	}
	return string(path)
}

const upperHex = "0123456789ABCDEF"

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}

// String is the target as a URI.
func (t *Target) String() string {
	s := t.Scheme + "://" + t.Host + t.Path
	if t.HasQuery {
		s += "?" + t.Query
	}
	return s
}

// URL is the target as a URL.
func (t *Target) URL() *url.URL {
	u := &url.URL{Scheme: t.Scheme, Host: t.Host, RawQuery: t.Query, ForceQuery: t.HasQuery && t.Query == ""}
	if path, err := url.PathUnescape(t.Path); err == nil {
		u.Path, u.RawPath = path, t.Path
	} else {
		u.Path = t.Path
	}
	return u
}

// Outgoing is the URL of a request to the origin. Opaque holds the octets of
// the path as they were received, which Path and RawPath cannot always: a
// RoundTripper of ours sends those.
func (t *Target) Outgoing() *url.URL {
	u := t.URL()
	if t.Path != "*" { // which no Opaque can stand for (RFC 9112 §3.2.4)
		u.Opaque = t.Path
	}
	return u
}

// Resource is the target of another URI on the same site, as for the
// invalidation of what Location names.
func Resource(u *url.URL) (Target, bool) {
	t := Target{Scheme: strings.ToLower(u.Scheme), Path: u.EscapedPath(), Query: u.RawQuery, HasQuery: u.RawQuery != "" || u.ForceQuery}
	if t.Path == "" {
		t.Path = "/"
	}
	var ok bool
	t.Host, ok = authority(u.Host, t.Scheme)
	return t, ok
}
