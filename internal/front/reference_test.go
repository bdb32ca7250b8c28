package front

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// This file reads HTTP/1.1 requests once more, slowly and by the book: RFC 9112,
// with the names of RFC 9110 and RFC 3986, over all that a client sends. It was
// written from the RFCs, and knows nothing of the scanner.
//
// Where the door is stricter than the RFCs must be, that is a rule with a name, and
// so is where it passes more than their grammar has. There are no other differences.
//
//	fold       a folded line is refused, never mended (RFC 9112 5.2 leaves the choice)
//	lf         no line ends in LF alone, which not every server takes for an end (RFC 9112 2.2 leaves the choice)
//	empty      one empty line before a request is skipped, and no more (RFC 9112 2.2)
//	major      HTTP/2.0 and the like in such a line is no HTTP/1: 400, since 505 (RFC 9110 15.6.6) helps nobody
//	once       Content-Length and Transfer-Encoding are one line each, and no list of equal lengths (RFC 9112 6.3 leaves the choice)
//	zeros      a length has no leading zeros, which some take for octal
//	members    Transfer-Encoding has no empty members, which RFC 9110 5.6.1.2 would skip
//	both       there is no length beside Transfer-Encoding (RFC 9112 6.1 leaves the choice)
//	codings    chunked is the one transfer coding: 501 (RFC 9112 6.1)
//	announced  Trailer names no field that frames messages (RFC 9110 6.5.1)
//	blank      no blank comes between the size of a chunk and a semicolon: senders must not (RFC 9112 7.1.1)
//	digits     the size of a chunk has 15 digits at most, and its line 1 KiB
//	nohost     HTTP/1.0 without a host is refused too: there is nothing to look for
//	port       a port has five digits at most, and a name 255 octets
//	literal    brackets have an IPv6 address in them, without a zone, and no future one
//	ascii      the host of a whole URI escapes no octet of ASCII, and needs not (RFC 9110 4.2.3)
//	clear      https without encryption is 421 (RFC 9110 7.4), another scheme 400
//	expect     what is expected is 100-continue, once and in these words, or 417 (RFC 9110 10.1.1)
//	connect    CONNECT is 405 (RFC 9110 9.3.6), with any target or none
//	last       HTTP/1.0 (RFC 9112 9.3) and Upgrade end a connection: nobody knows what comes after
//
// And what is passed although the grammar does not have it:
//
//	minor      every HTTP/1.x but 1.0 is read as HTTP/1.1 (RFC 9110 2.5)
//	sent       a target may have octets that no URI has and browsers send: they go on as they are
//	percent    a % in a query that begins no escape goes on as it is
//	unused     beside a whole URI, Host may be empty
//	extension  an extension of a chunk is any octets of a field: it is dropped
//	word       in the first line of Connection, close counts after a blank as after a comma: to end early is no harm
type reading struct {
	messages []entireRequest
	end      ending
	faults   []fault // why it was refused; the answer has the status of one
}

// An entireRequest is one that is there from its first octet to its last.
type entireRequest struct {
	method, target, host string
	fields               map[string][]string // by name in lower case
	content              string
	closes               bool // the client wants no other answer
}

type ending string

const (
	ended   ending = "ended between requests"
	cutOff  ending = "cut off in a request"
	refused ending = "refused"
	final   ending = "a request after which nothing counts"
)

// A fault is of the address if another target or Host would mend it.
type fault struct {
	status  int
	why     string
	address bool
}

// Octets by their names in the RFCs, with what the rules add.
var (
	digits     = octets("0123456789")
	hexdigs    = octets("0123456789ABCDEFabcdef")
	letters    = octets("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
	tchars     = octets("!#$%&'*+-.^_`|~").and(digits).and(letters)
	valueChars = octets(" \t").and(span('!', '~')).and(span(0x80, 0xff))
	regName    = octets("-._~!$&'()*+,;=").and(digits).and(letters) // escapes apart
	pathChars  = octets("/:@").and(regName).and(octets("\"<>[]^`{|}"))
	queryChars = octets("?%").and(pathChars)
)

type octetSet [256]bool

func octets(chars string) (s octetSet) {
	for _, c := range []byte(chars) {
		s[c] = true
	}
	return s
}

func span(first, last int) (s octetSet) {
	for c := first; c <= last; c++ {
		s[c] = true
	}
	return s
}

func (s octetSet) and(o octetSet) octetSet {
	for c := range s {
		s[c] = s[c] || o[c]
	}
	return s
}

// all tells whether text has no other octets, and some whether it has any, too.
func (s *octetSet) all(text string) bool {
	for i := range len(text) {
		if !s[text[i]] {
			return false
		}
	}
	return true
}

func (s *octetSet) some(text string) bool { return text != "" && s.all(text) }

// A reader reads what is left of the octets.
type reader struct {
	rest   string
	faults []fault
	end    ending // of all that is read, once it is known
}

// readRequests reads all that a client said.
func readRequests(octets string) (r reading) {
	p := &reader{rest: octets}
	for p.end == "" {
		if p.rest = strings.TrimPrefix(p.rest, "\r\n"); p.rest == "" { // rule empty
			p.end = ended
			break
		}
		if m := p.message(); m != nil {
			r.messages = append(r.messages, *m)
		}
	}
	r.end, r.faults = p.end, p.faults
	return r
}

// refuse notes a fault.
func (p *reader) refuse(status int, why string) {
	p.end = refused
	p.faults = append(p.faults, fault{status, why, false})
}

// refuseAddress notes a fault of the target or Host.
func (p *reader) refuseAddress(status int, why string) {
	p.end = refused
	p.faults = append(p.faults, fault{status, why, true})
}

// line is the next line. It reports false if there is none.
func (p *reader) line() (line string, ok bool) {
	line, rest, ok := strings.Cut(p.rest, "\n")
	if !ok {
		if p.end == "" {
			p.end = cutOff
		}
		return "", false
	}
	p.rest = rest
	line, ok = strings.CutSuffix(line, "\r")
	if !ok || strings.Contains(line, "\r") {
		p.refuse(400, "CR or LF alone (RFC 9112 2.2), rule lf")
		return "", false
	}
	return line, true
}

// message reads HTTP-message (RFC 9112 §2.1). Nil: there is no whole and good one.
func (p *reader) message() *entireRequest {
	m := &entireRequest{fields: map[string][]string{}}
	line, ok := p.line()
	if !ok {
		return nil
	}
	version, ok := p.requestLine(m, line)
	if !ok || !p.fields(m) {
		return nil
	}
	old := version == "HTTP/1.0"
	chunked, length := p.framing(m, old)
	p.address(m, old)
	if lines := m.fields["expect"]; len(lines) > 1 || len(lines) == 1 && !strings.EqualFold(lines[0], "100-continue") {
		p.refuse(417, "rule expect")
	}
	if p.end != "" {
		return nil
	}
	if chunked {
		ok = p.chunkedBody(m)
	} else {
		m.content, ok = p.take(length)
	}
	if !ok {
		return nil
	}
	m.closes = slices.ContainsFunc(options(m.fields["connection"]), func(option string) bool { return strings.EqualFold(option, "close") })
	if m.closes || old || m.fields["upgrade"] != nil { // rule last
		p.end = final
	}
	return m
}

// requestLine reads request-line (RFC 9112 §3).
func (p *reader) requestLine(m *entireRequest, line string) (version string, ok bool) {
	parts := strings.Split(line, " ")
	if len(parts) != 3 || !tchars.some(parts[0]) || parts[1] == "" {
		p.refuse(400, "no request line (RFC 9112 3)")
		if len(parts) != 3 || parts[0] != "CONNECT" { // rule connect
			return "", false
		}
	}
	m.method, m.target, version = parts[0], parts[1], parts[2]
	minor, ok := strings.CutPrefix(version, "HTTP/1.") // rule minor
	if !ok || len(minor) != 1 || !digits.all(minor) {
		p.refuse(400, "no version (RFC 9112 2.3), or rule major")
		return "", false
	}
	return version, true
}

// fields reads *( field-line CRLF ) CRLF (RFC 9112 §5). What can be read is, though
// some of it is refused: several answers are right then.
func (p *reader) fields(m *entireRequest) bool {
	for {
		line, ok := p.line()
		if !ok || line == "" {
			return ok
		}
		if line[0] == ' ' || line[0] == '\t' {
			p.refuse(400, "rule fold")
			return false
		}
		name, value, colon := strings.Cut(line, ":")
		value = strings.Trim(value, " \t")
		if !colon || !tchars.some(name) || !valueChars.all(value) {
			p.refuse(400, "no field line (RFC 9112 5)")
			continue
		}
		name = strings.ToLower(name)
		m.fields[name] = append(m.fields[name], value)
	}
}

// framing tells where the content ends (RFC 9112 §6.3).
func (p *reader) framing(m *entireRequest, old bool) (chunked bool, length int64) {
	lengths, encodings := m.fields["content-length"], m.fields["transfer-encoding"]
	if len(lengths) > 0 {
		n, err := strconv.ParseInt(lengths[0], 10, 64)
		if length = n; len(lengths) > 1 || err != nil || !digits.some(lengths[0]) || lengths[0] != "0" && lengths[0][0] == '0' {
			p.refuse(400, "no Content-Length (RFC 9110 8.6), or rule once or zeros")
		}
	}
	if len(encodings) == 0 {
		return false, length
	}
	if old || len(lengths) > 0 || len(encodings) > 1 {
		p.refuse(400, "Transfer-Encoding in HTTP/1.0 (RFC 9112 6.1), or rule both or once")
	}
	codings := strings.Split(encodings[0], ",")
	for i, coding := range codings {
		coding = strings.Trim(coding, " \t")
		switch isLast := i == len(codings)-1; {
		case coding == "":
			p.refuse(400, "rule members")
		case isLast && !strings.EqualFold(coding, "chunked"):
			p.refuse(400, "chunked is not last (RFC 9112 6.3)")
		case !isLast && strings.EqualFold(coding, "chunked"):
			p.refuse(400, "chunked twice (RFC 9112 6.1)")
		case !isLast:
			p.refuse(501, "rule codings")
		}
	}
	for _, name := range members(m.fields["trailer"]) {
		switch strings.ToLower(name) {
		case "transfer-encoding", "trailer", "content-length":
			p.refuse(400, "rule announced")
		}
	}
	return true, 0
}

// members are those of a list (RFC 9110 §5.6.1).
func members(lines []string) (all []string) {
	for _, line := range lines {
		for member := range strings.SplitSeq(line, ",") {
			all = append(all, strings.Trim(member, " \t"))
		}
	}
	return all
}

// options are those of Connection (RFC 9110 §7.6.1).
func options(lines []string) []string {
	all := members(lines)
	if len(lines) > 0 {
		all = append(all, strings.FieldsFunc(lines[0], func(c rune) bool { return c == ' ' || c == '\t' || c == ',' })...) // rule word
	}
	return all
}

// address reads request-target (RFC 9112 §3.2) and Host.
func (p *reader) address(m *entireRequest, old bool) {
	hosts := m.fields["host"]
	if len(hosts) > 1 || len(hosts) == 0 && !old {
		p.refuse(400, "no Host, or several (RFC 9112 3.2)")
	}
	if len(hosts) > 0 {
		m.host = hosts[0]
	}
	target, whole := m.target, false
	switch scheme, rest, ok := strings.Cut(m.target, "://"); {
	case m.method == "CONNECT":
		p.refuse(405, "rule connect")
		p.refuse(400, "or the target is no authority (RFC 9112 3.2.3)")
		return
	case target == "*" && m.method == "OPTIONS":
		target = "/"
	case target[0] == '/':
	case ok && strings.EqualFold(scheme, "http"), ok && strings.EqualFold(scheme, "https"):
		if len(scheme) == len("https") {
			p.refuseAddress(421, "rule clear")
		}
		if m.host != "" && !authority(m.host, false) { // rule unused
			p.refuseAddress(400, "no Host (RFC 9112 3.2)")
		}
		end := strings.IndexAny(rest+"/", "/?")
		m.host, target, whole = rest[:end], "/"+strings.TrimPrefix(rest[end:], "/"), true
	default:
		p.refuseAddress(400, "no form of a target (RFC 9112 3.2), or rule clear")
		return
	}
	if !authority(m.host, whole) {
		p.refuseAddress(400, "no host (RFC 9110 7.2), or rule nohost or port")
	}
	if path, query, _ := strings.Cut(target, "?"); !escaped(path, &pathChars, hexdigs) || !queryChars.all(query) {
		p.refuseAddress(400, "no URI (RFC 3986 3.3), though rules sent and percent")
	}
}

// escaped tells whether text is of those octets and pct-encoded, which begins with
// one of first.
func escaped(text string, plain *octetSet, first octetSet) bool {
	parts := strings.Split(text, "%")
	for _, p := range parts[1:] {
		if len(p) < 2 || !first[p[0]] || !hexdigs[p[1]] {
			return false
		}
	}
	return plain.all(strings.Join(parts, ""))
}

// authority reads host [ ":" port ] (RFC 9110 §7.2), of a whole URI or of Host.
func authority(text string, whole bool) bool {
	name, port, _ := strings.Cut(text, ":")
	if strings.HasPrefix(text, "[") {
		inner, rest, ok := strings.Cut(text[1:], "]")
		a, err := netip.ParseAddr(inner)
		if !ok || err != nil || !a.Is6() || a.Zone() != "" || rest != "" && rest[0] != ':' { // rule literal
			return false
		}
		name, port = "literal", strings.TrimPrefix(rest, ":")
	}
	first := hexdigs
	if whole {
		first = octets("89ABCDEFabcdef") // rule ascii
	}
	return name != "" && escaped(name, &regName, first) && len(name) <= 255 && digits.all(port) && len(port) <= 5
}

// chunkedBody reads chunked-body (RFC 9112 §7.1).
func (p *reader) chunkedBody(m *entireRequest) bool {
	for {
		line, ok := p.line()
		if !ok {
			return false
		}
		size, extension, _ := strings.Cut(line, ";")
		n, err := strconv.ParseInt(size, 16, 64)
		if err != nil || !hexdigs.some(size) || len(size) > 15 || len(line) > 1<<10 || !valueChars.all(extension) {
			p.refuse(400, "no chunk (RFC 9112 7.1), or rule blank or digits")
			return false
		}
		if n == 0 {
			return p.trailers()
		}
		data, ok := p.take(n)
		if !ok {
			return false
		}
		m.content += data
		for _, want := range []string{"\r", "\n"} { // each can tell by itself
			if end, ok := p.take(1); !ok || end != want {
				if ok {
					p.refuse(400, "no CRLF after a chunk (RFC 9112 7.1)")
				}
				return false
			}
		}
	}
}

// trailers reads trailer-section CRLF (RFC 9112 §7.1.2).
func (p *reader) trailers() bool {
	for {
		line, ok := p.line()
		if !ok || line == "" {
			return ok
		}
		name, value, colon := strings.Cut(line, ":")
		if !colon || !tchars.some(name) || !valueChars.all(value) {
			p.refuse(400, "no trailer field (RFC 9112 7.1.2)")
			return false
		}
	}
}

// take takes n octets.
func (p *reader) take(n int64) (octets string, ok bool) {
	if n > int64(len(p.rest)) {
		p.end = cutOff
		return "", false
	}
	octets, p.rest = p.rest[:n], p.rest[n:]
	return octets, true
}
