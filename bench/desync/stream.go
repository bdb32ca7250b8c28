//go:build linux

package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// smuggled marks requests that are hidden where the reference sees none.
const smuggled = "/smuggled/"

// Parts of a target that the echo heeds.
const (
	asEarly   = "/early"   // answer before the body has come
	asHit     = "/hit"     // the answer may be kept for a minute
	asChunked = "/chunked" // the length of the answer is not declared
)

// A stream is all that one client says on one connection.
type stream struct {
	number   int
	octets   []byte
	cuts     []int     // where the client pauses between writes
	sent     int       // requests that the grammar meant
	messages []message // as the reference reads them
}

// newStream makes the stream of that number: the same for the same seed.
func newStream(seed uint64, number int) *stream {
	g := generator{Rand: rand.New(rand.NewPCG(seed, uint64(number))), number: number}
	for {
		s := &stream{number: number, sent: 1 + g.IntN(4)}
		g.again = ""
		sound := g.chance(40)
		for i := range s.sent {
			g.index = i
			s.octets = append(s.octets, g.one(sound)...)
		}
		s.messages = messages(s.octets)
		if !slices.ContainsFunc(s.messages, func(m message) bool { return strings.Contains(m.target, smuggled) }) {
			s.cuts = g.segments(len(s.octets))
			return s
		}
		// A marker came to stand where a request begins for everybody: that
		// would be no smuggling, so another try.
	}
}

// A generator makes the requests of one stream.
type generator struct {
	*rand.Rand
	number, index int
	again         string // a target of this stream that may be asked for again
	againHost     string
}

// chance is true so many times in a hundred.
func (g *generator) chance(percent int) bool { return g.IntN(100) < percent }

func pick[T any](g *generator, from ...T) T { return from[g.IntN(len(from))] }

// one is a request: sound, or not if that is allowed.
func (g *generator) one(sound bool) []byte {
	q := g.request()
	if sound || strings.HasSuffix(q.target, asHit) || g.chance(45) {
		return q.octets() // targets that are asked for twice stand for one request
	}
	for range 1 + g.IntN(2) {
		attempts[g.IntN(len(attempts))](g, q)
	}
	octets := q.octets()
	if g.chance(8) {
		octets = g.damage(octets)
	}
	return octets
}

// damage changes single octets.
func (g *generator) damage(octets []byte) []byte {
	for range 1 + g.IntN(3) {
		i := g.IntN(len(octets))
		switch g.IntN(4) {
		case 0:
			octets[i] = byte(g.IntN(256))
		case 1:
			octets = slices.Insert(octets, i, pick[byte](g, '\r', '\n', ' ', '\t', 0, ':', ';', ',', '0', 0x0b, 0x85, 0xa0))
		case 2:
			octets = slices.Delete(octets, i, i+1)
		default:
			octets = slices.Insert(octets, i, octets[i])
		}
	}
	return octets
}

// segments are places to cut so many octets at.
func (g *generator) segments(length int) (cuts []int) {
	if length < 2 || g.chance(50) {
		return nil
	}
	for range 1 + g.IntN(6) {
		cuts = append(cuts, 1+g.IntN(length-1))
	}
	slices.Sort(cuts)
	return slices.Compact(cuts)
}

// A request is one before it becomes octets. All of it may be broken.
type request struct {
	method, target, version string
	host                    string   // what the Host field should be
	fields                  []string // lines
	framing                 []string // the lines that say where the body ends
	content                 string   // the body that is meant
	body                    string   // the octets of it
	before                  string   // octets before the request line
	ends                    map[int]string
}

// octets writes the request. ends has the ends of lines that are not CRLF,
// counted from the request line on.
func (q *request) octets() []byte {
	all := []string{strings.TrimLeft(q.method+" "+q.target+" "+q.version, " ")}
	all = append(all, q.fields...)
	all = append(append(all, q.framing...), "")
	b := []byte(q.before)
	for i, line := range all {
		end, odd := q.ends[i]
		if !odd {
			end = "\r\n"
		}
		b = append(append(b, line...), end...)
	}
	return append(b, q.body...)
}

func (g *generator) token() string { return fmt.Sprintf("%016x", g.Uint64()) }

// request is a sound one.
func (g *generator) request() *request {
	q := &request{
		method: g.method(), version: "HTTP/1.1", ends: map[int]string{},
		host:   pick(g, "a.test", "b.test:8080", "C.Test", "d.test:80", "[::1]", "[2001:db8::1]:81", "127.0.0.1", "e_f.test"),
		target: fmt.Sprintf("/s%d/r%d/%s", g.number, g.index, g.token()),
	}
	if g.chance(15) {
		q.target += pick(g, asChunked, "?", "?q=1&r=%20", "/%41%2fb", "/;p=1", "//x", "/?http://h/", "/a'b(c)!$&,=@:~*+", asChunked+"?a")
	}
	q.fields = g.fields()
	if g.carriesBody(q.method) {
		g.fill(q)
	} else {
		g.maybeHit(q)
	}
	q.fields = slices.Insert(q.fields, g.IntN(len(q.fields)+1), "Host: "+q.host)
	switch {
	case g.chance(6):
		q.target = pick(g, "http://", "HTTP://") + q.host + q.target
	case g.chance(1) && q.content == "":
		q.method, q.target, q.fields = "OPTIONS", "*", []string{"Host: " + g.token() + ".test"}
	}
	if g.chance(5) {
		q.before = "\r\n"
	}
	return q
}

func (g *generator) method() string {
	switch n := g.IntN(100); {
	case n < 33:
		return "GET"
	case n < 63:
		return "POST"
	case n < 75:
		return "PUT"
	case n < 83:
		return "HEAD"
	case n < 88:
		return "DELETE"
	case n < 92:
		return "PATCH"
	case n < 95:
		return "OPTIONS"
	}
	return pick(g, "PROPFIND", "M-SEARCH", "REPORT", "get", "Post", "X!$%&'*+.^_|~", "G", "PRI", "LOCK")
}

func (g *generator) carriesBody(method string) bool {
	switch method {
	case "POST", "PUT", "PATCH":
		return !g.chance(8)
	case "HEAD":
		return g.chance(4)
	}
	return g.chance(12)
}

// maybeHit makes a GET one whose answer is kept, or asks for such a one again.
func (g *generator) maybeHit(q *request) {
	switch {
	case q.method != "GET":
	case g.again != "" && g.chance(40):
		q.target, q.host = g.again, g.againHost
	case g.chance(20):
		q.target, _, _ = strings.Cut(q.target, "?")
		q.target += asHit
		g.again, g.againHost = q.target, q.host
	}
}

// ordinary are fields as clients send them, and as they might; %s is a token.
var ordinary = []string{
	"User-Agent: desync/1", "Accept: */*", "Accept-Encoding: gzip, br", "Cookie: a=b; c=\"d\"", "X-Empty:", "X-Blank:  \t ", "X-Tab: a\tb",
	"X-Octets: \x80\xff\xa0", "X-Utf: \xc3\xa4", "X-Colon: a:b:c", "X-Request: GET /smuggled/%s HTTP/1.1", "X-Comma: a,,b, ,", "Pragma: no-cache",
	"pragma:no-cache", "Cache-Control: no-cache", "cache-CONTROL: max-age=0", "Connection: keep-alive", "Connection: Keep-Alive, X-Hop", "X-Hop: 1",
	"Connection: TE", "TE: trailers", "Trailer: X-T", "Keep-Alive: timeout=5", "X-Forwarded-Host: evil", "X-Original-URL: /smuggled/%s",
	"X-HTTP-Method-Override: DELETE", "Content_Length: 5", "Transfer_Encoding: chunked", "X-Transfer-Encoding: chunked", "Content-Type: text/plain",
	"If-None-Match: \"x\"", "Authorization: Basic YTpi", "Proxy-Connection: keep-alive", "Content-Length-X: 7", "Max-Forwards: 5", "Via: 1.0 other",
	"Origin: null", "X!#$%%&'*+-.^_`|~: token", "Accept-Charset: utf-8", "X-Long: %s",
}

func (g *generator) fields() (all []string) {
	for range g.IntN(5) {
		line := pick(g, ordinary...)
		switch {
		case strings.HasPrefix(line, "X-Long"):
			line = fmt.Sprintf(line, strings.Repeat("l", 1+g.IntN(3000)))
		case strings.Contains(line, "%s"):
			line = fmt.Sprintf(line, g.token())
		}
		all = append(all, line)
	}
	return all
}

// fill gives the request a body, with a length or in chunks.
func (g *generator) fill(q *request) {
	q.content = g.content()
	if g.chance(50) {
		g.declare(q)
	} else {
		g.chunk(q)
	}
	if g.chance(6) {
		q.fields = append(q.fields, pick(g, "Expect: 100-continue", "expect:100-Continue"))
	}
	if g.chance(12) {
		q.target, _, _ = strings.Cut(q.target, "?")
		q.target += asEarly
	}
}

func (g *generator) declare(q *request) {
	q.body = q.content
	q.framing = []string{fmt.Sprintf(pick(g, "Content-Length: %d", "content-length:%d", "CONTENT-LENGTH: \t%d "), len(q.body))}
}

// chunk writes the body in chunks.
func (g *generator) chunk(q *request) {
	var b strings.Builder
	for rest := q.content; rest != ""; {
		n := 1 + g.IntN(len(rest))
		fmt.Fprintf(&b, pick(g, "%x", "%X", "0%x", "0000%x"), n)
		b.WriteString(g.extension() + "\r\n" + rest[:n] + "\r\n")
		rest = rest[n:]
	}
	b.WriteString(pick(g, "0", "0", "00", "0;a=b") + "\r\n")
	for g.chance(15) {
		b.WriteString(pick(g, "X-T: u", "X-T:", "Content-MD5: x", "Host: evil", "X-Auth-User: root", "Content-Length: 44") + "\r\n")
	}
	q.body = b.String() + "\r\n"
	q.framing = []string{pick(g, "Transfer-Encoding: chunked", "transfer-encoding:chunked", "Transfer-Encoding: \tChunked \t")}
}

func (g *generator) extension() string {
	if !g.chance(20) {
		return ""
	}
	return pick(g, ";a", ";a=b", ";a=\"b;c\"", ";a;b=c", "; a = b", ";a=\"\\\"\"", ";\x80", ";"+strings.Repeat("e", g.IntN(200)))
}

// content is what a body holds: nothing much, or what looks like HTTP.
func (g *generator) content() string {
	switch g.IntN(6) {
	case 0:
		b := make([]byte, g.IntN(600))
		for i := range b {
			b[i] = byte(g.IntN(256))
		}
		return string(b)
	case 1:
		return strings.Repeat("x", g.IntN(9000))
	case 2:
		return pick(g, "", "\r\n", "0\r\n\r\n", "\r\n\r\n") + g.hidden()
	case 3:
		return "0\r\n\r\n" + g.hidden()
	case 4:
		return pick(g, "5\r\nhello\r\n0\r\n\r\n", "a=b", "\r\n", "\n", "") + g.hidden() + pick(g, "", "\r\n", "X: ")
	}
	return pick(g, "a=b&c=d", "{}", "0", "\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
}

// hidden is a whole request that nobody may take for one.
func (g *generator) hidden() string {
	head := pick(g, "GET", "POST", "HEAD") + " " + smuggled + g.token() + " HTTP/1.1\r\nHost: " + pick(g, "a.test", "evil.test") + "\r\n"
	return head + pick(g, "\r\n", "\r\n", "Content-Length: 10\r\n\r\n", "X: ")
}
