package simulate

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
)

// Fields are the names that a log in JSON has for what is needed. An empty one
// leaves it at the names that are known. A dot reaches into an object, as in
// request.uri.
type Fields struct{ Host, Method, Target, Status, Octets string }

// role is what a field is good for.
type role int

const (
	roleHost role = iota
	roleMethod
	roleTarget
	roleQuery
	roleStatus
	roleOctets
	roleCache
	roleLost
	roles
)

// known are the names in the logs of Larder, nginx (as its users write them),
// Caddy, Traefik, Envoy and Google's load balancers, the most exact first.
var known = [roles][]string{
	roleHost:   {"http_host", "request.host", "RequestHost", ":authority", "authority", "vhost", "host", "server_name", "domain"},
	roleMethod: {"method", "request_method", "request.method", "RequestMethod", "httpRequest.requestMethod", "verb"},
	roleTarget: {"target", "request_uri", "request.uri", "uri", "url", "RequestPath", "httpRequest.requestUrl", "request_url", "path", "request"},
	roleQuery:  {"args", "query", "query_string"},
	roleStatus: {"status", "status_code", "DownstreamStatus", "httpRequest.status", "response_code", "response_status"},
	roleOctets: {"body_bytes_sent", "bytes", "size", "DownstreamContentSize", "bytes_sent", "httpRequest.responseSize", "response_size", "bytes_out"},
	roleCache:  {"cache"},
	roleLost:   {"dropped"},
}

// A meaning is a role, and how exact a name is for it: less is more.
type meaning struct {
	role role
	rank int
}

// names tells what the fields of a log mean.
type names struct {
	of      map[string]meaning
	objects map[string]bool // names that have others in them
}

func (f Fields) names() names {
	n := names{of: map[string]meaning{}, objects: map[string]bool{}}
	own := [roles]string{roleHost: f.Host, roleMethod: f.Method, roleTarget: f.Target, roleStatus: f.Status, roleOctets: f.Octets}
	for r, list := range known {
		for rank, name := range list {
			n.of[name] = meaning{role(r), rank}
		}
	}
	for r, name := range own {
		if name != "" {
			n.of[name] = meaning{role(r), -1}
		}
	}
	for name := range n.of {
		if outer, _, ok := strings.Cut(name, "."); ok {
			n.objects[outer] = true
		}
	}
	return n
}

var errJSON = errors.New("no object in JSON")

// A finding is the best value so far for each role.
type finding struct {
	value [roles][]byte
	rank  [roles]int
	found [roles]bool
}

// parse reads a line that is an object in JSON. What is missing is GET, 200,
// no host and an unknown size; only the target must be there.
func (n *names) parse(line []byte, r *record) error {
	var f finding
	if !n.look(line, "", &f) {
		return errJSON
	}
	if f.found[roleLost] && !f.found[roleTarget] {
		if lost, ok := parseOctets(f.value[roleLost]); ok {
			r.lost = lost
			return nil
		}
	}
	*r = record{host: f.value[roleHost], method: []byte("GET"), target: f.value[roleTarget], status: 200, octets: unknown}
	if method, _, ok := bytes.Cut(r.target, []byte(" ")); ok && isMethod(method) {
		r.splitRequest(r.target) // a whole request line
	}
	if f.found[roleQuery] && len(f.value[roleQuery]) > 0 && bytes.IndexByte(r.target, '?') < 0 {
		r.target = append(append(r.target[:len(r.target):len(r.target)], '?'), f.value[roleQuery]...)
	}
	if len(r.target) == 0 {
		return errTarget
	}
	if f.found[roleMethod] {
		r.method = f.value[roleMethod]
	}
	var ok bool
	if f.found[roleStatus] {
		if r.status, ok = parseStatus(f.value[roleStatus]); !ok && string(f.value[roleStatus]) != "0" {
			return errStatus
		}
	}
	if octets := f.value[roleOctets]; len(octets) > 0 {
		if r.octets, ok = parseOctets(octets); !ok {
			return errSize
		}
	}
	r.passed = passedBy(f.value[roleCache]) || r.status == 0
	return nil
}

func isMethod(b []byte) bool {
	for _, c := range b {
		if c < 'A' || c > 'Z' {
			return false
		}
	}
	return len(b) > 0
}

// look goes through the members of an object whose own name ends in a dot.
func (n *names) look(object []byte, outer string, f *finding) bool {
	return members(object, func(name, value []byte) bool {
		text, ok := plain(name)
		if !ok {
			return false
		}
		if outer == "" && value[0] == '{' {
			return !n.objects[string(text)] || n.look(value, string(text)+".", f)
		}
		var m meaning
		if outer == "" {
			m, ok = n.of[string(text)]
		} else {
			m, ok = n.of[outer+string(text)]
		}
		if !ok || f.found[m.role] && f.rank[m.role] <= m.rank {
			return true
		}
		if value, ok = scalar(value); !ok {
			return true // null, true, a list: as if it were not there
		}
		f.value[m.role], f.rank[m.role], f.found[m.role] = value, m.rank, true
		return true
	})
}

// scalar returns the text of a string or a number.
func scalar(value []byte) ([]byte, bool) {
	switch c := value[0]; {
	case c == '"':
		return plain(value)
	case c == '-', c >= '0' && c <= '9':
		return value, true
	}
	return nil, false
}

// plain returns what a string in JSON says.
func plain(s []byte) ([]byte, bool) {
	if bytes.IndexByte(s, '\\') < 0 {
		return s[1 : len(s)-1], true
	}
	var text string
	err := json.Unmarshal(s, &text)
	return []byte(text), err == nil
}

// members calls visit with name and value of each member of an object, both as
// they stand in it, until visit reports false. It reports whether it came to
// the end, and found nothing there that cannot be. It is some ten times as fast
// as a decoder: a value that nobody asks for is not looked into.
func members(object []byte, visit func(name, value []byte) bool) bool {
	s := bytes.TrimSpace(object)
	if len(s) < 2 || s[0] != '{' || s[len(s)-1] != '}' {
		return false
	}
	s = skip(s[1:])
	if s[0] == '}' {
		return len(s) == 1
	}
	for {
		n := stringEnd(s)
		if n == 0 {
			return false
		}
		name := s[:n]
		if s = skip(s[n:]); len(s) == 0 || s[0] != ':' {
			return false
		}
		s = skip(s[1:])
		n = valueEnd(s)
		if n == 0 || !visit(name, s[:n]) {
			return false
		}
		if s = skip(s[n:]); len(s) == 0 {
			return false
		}
		switch s[0] {
		case ',':
			s = skip(s[1:])
		case '}':
			return len(s) == 1
		default:
			return false
		}
	}
}

// skip leaves blanks out.
func skip(s []byte) []byte {
	for len(s) > 0 && (s[0] == ' ' || s[0] == '\t' || s[0] == '\r' || s[0] == '\n') {
		s = s[1:]
	}
	return s
}

// stringEnd is the length of the string that s begins with, or 0.
func stringEnd(s []byte) int {
	if len(s) == 0 || s[0] != '"' {
		return 0
	}
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return 0
}

// valueEnd is the length of the value that s begins with, or 0.
func valueEnd(s []byte) int {
	if len(s) == 0 {
		return 0
	}
	switch s[0] {
	case '"':
		return stringEnd(s)
	case '{', '[':
		return nestEnd(s)
	}
	n := bytes.IndexAny(s, ",}] \t\r\n")
	return max(n, 0) // an object ends in a brace: n is found
}

// nestEnd is the length of the object or list that s begins with, or 0.
func nestEnd(s []byte) int {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		case '"':
			n := stringEnd(s[i:])
			if n == 0 {
				return 0
			}
			i += n - 1
		}
	}
	return 0
}
