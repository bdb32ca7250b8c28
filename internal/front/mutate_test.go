package front

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/canon"
	"github.com/larderhq/larder/internal/standing"
)

// streams are what clients may say, besides what other tests have: each with one
// thing in it that the others lack.
var streams = []string{
	crlf("GET / HTTP/1.1\nHost: h\n\nHEAD /b HTTP/1.1\nHost: h\n\nOPTIONS * HTTP/1.1\nHost: h\n\n"),
	crlf("GET /a?b=c&d=%2f HTTP/1.1\nHost: example.org:8080\nUser-Agent: x/1\nAccept: */*\nCookie: a=b; c=d\n\n"),
	crlf("POST /a HTTP/1.1\nHost: h\nContent-Length: 5\n\nhello"),
	crlf("POST /a HTTP/1.1\nHost: h\nContent-Length: 10\nContent-Type: text/plain\n\n0123456789GET /b HTTP/1.1\nHost: h\n\n"),
	crlf("POST /a HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n5\nhello\n6;a=b\n world\n0\n\nGET /b HTTP/1.1\nHost: h\n\n"),
	crlf("PUT /a HTTP/1.1\nTransfer-Encoding: chunked\nTrailer: X-Sum\nHost: h\n\n00A;q=\"x y\";z\n0123456789\n000\nX-Sum: 1\nY: 2\n\n"),
	crlf("POST / HTTP/1.1\nHost: h\nTransfer-Encoding: gzip, chunked\n\n0\n\n"),
	crlf("POST / HTTP/1.1\nHost: h\nExpect: 100-continue\nContent-Length: 2\n\nab"),
	crlf("POST / HTTP/1.1\nHost: h\nExpect: something\n\n"),
	crlf("GET http://example.org:80/a?b HTTP/1.1\nHost: example.org\n\nGET https://h/ HTTP/1.1\nHost: h\n\n"),
	crlf("GET http://[2001:db8::1]:80?b HTTP/1.1\nHost: [2001:db8::1]\n\n"),
	crlf("GET / HTTP/1.0\nHost: h\nConnection: keep-alive\n\nGET / HTTP/1.0\n\n"),
	crlf("GET / HTTP/1.2\nHost: h\nConnection: keep-alive, close\n\nGET / HTTP/1.1\nHost: h\n\n"),
	crlf("GET /chat HTTP/1.1\nHost: h\nConnection: Upgrade\nUpgrade: websocket\n\nGET / HTTP/1.1\nHost: h\n\n"),
	crlf("GET / HTTP/1.1\nHost: h\nPragma: no-cache\n\nGET / HTTP/1.1\nHost: h\nPragma: no-cache\nCache-Control: max-age=0\n\n"),
	crlf("\nDELETE /a HTTP/1.1\nHost: h\nX:\nX: \t a \t b \t\n\n\nM-SEARCH /b HTTP/1.1\nhost:h\nx: \xe4\n\n"),
	crlf("CONNECT h:443 HTTP/1.1\nHost: h:443\n\n"),
}

// corpus are the streams that mutants are made of, and sounds those of them in which
// nothing is wrong.
func corpus() (all, sounds []string) {
	for _, s := range sound {
		sounds = append(sounds, s.octets)
	}
	sounds = append(sounds, streams...)
	all = slices.Clone(sounds)
	for _, p := range plains {
		all = append(all, crlf(p.head))
	}
	for _, u := range unsound {
		all = append(all, crlf(u.octets))
	}
	for _, u := range slices.Concat(baseline, threats) {
		all = append(all, u.octets)
	}
	return slices.DeleteFunc(all, func(s string) bool { return len(s) > 1<<10 || s == "" }), sounds
}

// particles are what HTTP is made of, and what is mistaken for it.
var particles = []string{
	"\r\n", "\n", "\r", " ", "\t", ":", "\x00", ";", ",", "=", "/", "?", "#", "%", "\"", "\\", "0", "1", "a", "-", "_", ".", "\x0b", "\x7f", "\x80", "\xff",
	"\r\n\r\n", "\r\r\n", " \r\n", "\r\n ", "\n\n", "\xc2\xa0", "chunked", "0\r\n\r\n", "HTTP/1.1", "HTTP/1.0", "GET", "%41", "://", "close",
}

// lineParticles are whole lines.
var lineParticles = []string{
	"Content-Length: 0", "Content-Length: 1", "Content-Length: 5", "Transfer-Encoding: chunked", "transfer-encoding: gzip", "Host: h", "Host: a,b", "Host:",
	"Connection: close", "Connection: keep-alive", "Upgrade: h2c", "Expect: 100-continue", "Expect: x", "Pragma: no-cache", "Cache-Control: no-cache",
	"Trailer: X", "Trailer: Content-Length", "X: a", "X : a", ": a", "X", " a", "\ta", "", "0", "1", "5;a=b", "GET / HTTP/1.1", "POST /a HTTP/1.1", "GET http://h HTTP/1.1",
}

// A mutator makes inputs.
type mutator struct {
	*rand.Rand
	all, sounds []string
}

func pick[T any](m *mutator, from []T) T { return from[m.IntN(len(from))] }

// input makes the next one.
func (m *mutator) input() string {
	s := pick(m, m.all)
	if m.IntN(6) > 0 {
		s = pick(m, m.sounds)
	}
	if m.IntN(4) == 0 {
		s = pick(m, m.sounds) + s
	}
	for range min(1+int(m.ExpFloat64()), 6) {
		s = m.mutate(s)
	}
	return s
}

// mutate changes one thing.
func (m *mutator) mutate(s string) string {
	i, j := m.IntN(len(s)+1), m.IntN(len(s)+1)
	i, j = min(i, j), max(i, j)
	near := min(i+1+m.IntN(4), len(s))
	switch m.IntN(12) {
	case 0: // flip
		if i < near {
			return s[:i] + string([]byte{s[i] ^ 1<<m.IntN(8)}) + s[i+1:]
		}
	case 1: // insert
		return s[:i] + pick(m, particles) + s[i:]
	case 2: // replace
		return s[:i] + pick(m, particles) + s[near:]
	case 3: // delete
		return s[:i] + s[near:]
	case 4: // duplicate
		return s[:near] + s[i:]
	case 5: // swap
		if near < j {
			return s[:i] + s[j-1:j] + s[i+1:j-1] + s[i:i+1] + s[j:]
		}
	case 6: // splice
		other := pick(m, m.all)
		return s[:i] + other[m.IntN(len(other)):]
	case 7: // another case
		if i < j {
			return s[:i] + strings.ToUpper(s[i:near]) + strings.ToLower(s[near:max(near, j)]) + s[max(near, j):]
		}
	case 8:
		return m.mutateNumber(s, i)
	case 9: // a piece is lost
		return s[:j]
	default:
		return m.mutateLines(s)
	}
	return s
}

// mutateNumber changes the first number from i on.
func (m *mutator) mutateNumber(s string, i int) string {
	k := strings.IndexAny(s[i:], "0123456789")
	if k < 0 {
		return s
	}
	i += k
	end := i
	for end < len(s) && s[end] >= '0' && s[end] <= '9' {
		end++
	}
	n, _ := strconv.Atoi(s[i:end]) // 0 is as good as any
	return s[:i] + pick(m, []string{
		strconv.Itoa(n + 1), strconv.Itoa(max(n-1, 0)), strconv.Itoa(m.IntN(20)), strconv.Itoa(-n), "0" + s[i:end], s[i:end] + "0", "+" + s[i:end],
		s[i:end] + "," + s[i:end], strconv.FormatInt(int64(n), 16), "9223372036854775807", "9223372036854775808", "ffffffffffffffff", "fffffffffffffff", "",
	}) + s[end:]
}

// mutateLines changes whole lines.
func (m *mutator) mutateLines(s string) string {
	lines := strings.SplitAfter(s, "\n")
	i, j := m.IntN(len(lines)), m.IntN(len(lines))
	switch m.IntN(5) {
	case 0:
		lines[i], lines[j] = lines[j], lines[i]
	case 1:
		lines = slices.Insert(lines, j, lines[i])
	case 2:
		lines = slices.Delete(lines, i, i+1)
	case 3:
		lines[i] = strings.Replace(lines[i], "\r\n", pick(m, []string{"\n", "\r", "\r\r\n", " \r\n", "\n\r", "\r\n\t"}), 1)
	default:
		lines = slices.Insert(lines, i, pick(m, lineParticles)+"\r\n")
	}
	return strings.Join(lines, "")
}

// A visit is a connection without a network: the client says all at once, and hears
// until the end.
type visit struct {
	segments
	out  []byte
	got  []entireRequest // that the handler had
	once sync.Once
	done chan struct{}
}

func (v *visit) Write(p []byte) (int, error) {
	v.out = append(v.out, p...)
	return len(p), nil
}

func (v *visit) Close() error {
	v.once.Do(func() { close(v.done) })
	return nil
}

func (*visit) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (*visit) SetDeadline(time.Time) error      { return nil }
func (*visit) SetReadDeadline(time.Time) error  { return nil }
func (*visit) SetWriteDeadline(time.Time) error { return nil }

// statuses are those of the final answers. All but the last have no content.
func (v *visit) statuses() (all []int) {
	for out := string(v.out); out != ""; {
		head, rest, _ := strings.Cut(out, "\r\n\r\n")
		status, err := strconv.Atoi(head[len("HTTP/1.1 "):][:3])
		if err != nil {
			return append(all, -1)
		}
		if out = rest; status != http.StatusContinue {
			all = append(all, status)
		}
		if status >= 400 {
			break
		}
	}
	return all
}

// A strictDoor is a Server of visits, with the engine's view of what it asks for.
type strictDoor struct {
	server *Server
	visits pipes
	served chan error
}

func newStrictDoor(t *testing.T) *strictDoor {
	d := &strictDoor{visits: newPipes(), served: make(chan error, 1)}
	d.server = New(Options{Handler: http.HandlerFunc(welcome), Log: slog.New(slog.NewTextHandler(panicking{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	go func() { d.served <- d.server.serveHTTP(d.visits) }()
	t.Cleanup(func() { (&world{server: d.server, served: d.served}).end(t) })
	return d
}

// panicking is where net/http says that a connection has panicked.
type panicking struct{ *testing.T }

func (p panicking) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("panic")) {
		p.Errorf("%s", line)
	}
	return len(line), nil
}

// welcome remembers a request, and answers as the engine does to what is none.
func welcome(w http.ResponseWriter, r *http.Request) {
	v := r.Context().Value(connKey{}).(*conn).Conn.(*visit)
	content, err := io.ReadAll(r.Body)
	status := http.StatusNoContent
	var fault *canon.Error
	if _, cerr := canon.Parse(r, false); r.Method == http.MethodConnect {
		status = http.StatusMethodNotAllowed
	} else if errors.As(cerr, &fault) {
		status = fault.Status
	} else if err != nil {
		status = http.StatusBadRequest
	}
	if status >= 400 {
		w.Header()["Connection"] = []string{"close"}
		w.WriteHeader(status)
		return
	}
	v.got = append(v.got, entireRequest{method: r.Method, target: r.RequestURI, host: r.Host, fields: r.Header, content: string(content)})
	w.WriteHeader(status)
}

// hear is a whole visit.
func (d *strictDoor) hear(octets string) *visit {
	v := &visit{segments: segments{octets: []byte(octets)}, done: make(chan struct{})}
	d.visits.conns <- v
	<-v.done
	return v
}

// differs says how what the door made of a stream is not what the reference reads;
// empty: it is.
func (v *visit) differs(want *reading) string {
	if len(v.got) != len(want.messages) {
		return fmt.Sprintf("%d requests, not %d", len(v.got), len(want.messages))
	}
	for i := range v.got {
		got, m := &v.got[i], &want.messages[i]
		host, err := url.PathUnescape(m.host)
		if err != nil || !strings.HasPrefix(strings.ToLower(m.target), "http") { // net/http reads that of a whole URI so
			host = m.host
		}
		if got.method != m.method || got.target != m.target || got.host != host || got.content != m.content || !sameFields(got.fields, m.fields) {
			return fmt.Sprintf("request %d is %+v, not %+v", i, *got, *m)
		}
	}
	statuses := v.statuses()
	n := len(want.messages)
	for i, status := range statuses {
		if i < n && status != http.StatusNoContent || i > n {
			return fmt.Sprintf("answers %v to %d requests", statuses, n)
		}
	}
	switch {
	case len(statuses) < n:
		return fmt.Sprintf("answers %v to %d requests", statuses, n)
	case want.end == refused && (len(statuses) == n || !slices.ContainsFunc(want.faults, func(f fault) bool { return f.status == statuses[n] })):
		return fmt.Sprintf("answers %v, but it is to be refused: %+v", statuses, want.faults)
	case want.end == cutOff && len(statuses) > n && statuses[n] != http.StatusBadRequest,
		(want.end == ended || want.end == final) && len(statuses) > n:
		return fmt.Sprintf("answers %v, but it is %s", statuses, want.end)
	}
	return ""
}

// sameFields compares what net/http leaves of fields: it keeps those that frame a
// message to itself, and Trailer.
func sameFields(got http.Header, want map[string][]string) bool {
	n := 0
	for name, lines := range want {
		switch name {
		case "host", "transfer-encoding", "trailer":
			continue
		}
		if n++; !slices.Equal(got[http.CanonicalHeaderKey(name)], lines) {
			return false
		}
	}
	delete(got, "Trailer")
	return len(got) == n
}

// A passage is what a scanner makes of a stream.
type passage struct {
	passed  []byte
	refused bool
	state   state
	why     string
}

// scanAll has a scanner read in, given step octets more at a time.
func scanAll(in []byte, step int, single bool) (p passage) {
	l := Limits{}.complete()
	s := scanner{maxHead: l.Head + 2*windowed, single: single}
	at, seen := 0, 0
	for {
		if at == seen {
			if seen = min(seen+step, len(in)); at == seen {
				break
			}
		}
		n, do := s.next(in[at:seen])
		switch do {
		case pass:
			p.passed = append(p.passed, in[at:at+n]...)
		case insert:
			p.passed = append(p.passed, mark...)
		case more:
			if seen == len(in) {
				return p.end(&s)
			}
			seen = min(seen+step, len(in))
		case refuse:
			p.refused = true
			return p.end(&s)
		case hold:
			if s.state != between {
				return p.end(&s)
			}
			s.state = start // as for the next loan
		}
		at += n
	}
	return p.end(&s)
}

func (p passage) end(s *scanner) passage {
	p.state, p.why = s.state, s.why
	if s.state == between {
		p.state = start
	}
	return p
}

func (p *passage) is(q *passage) bool {
	return bytes.Equal(p.passed, q.passed) && p.refused == q.refused && p.state == q.state && p.why == q.why
}

// plainDiffers says how what loops would take for requests at the beginning of a
// stream is not what the reference reads; empty: it is. It counts them.
func plainDiffers(table *standing.Table, p *plain, octets string) (taken int, how string) {
	for in := []byte(octets); len(in) > 0; taken++ {
		n, is := p.read(table, in)
		if is != entire {
			return taken, ""
		}
		want := readRequests(string(in[:n]))
		in = in[n:]
		if len(want.messages) == 0 && want.end == refused && !slices.ContainsFunc(want.faults, func(f fault) bool { return !f.address }) {
			continue // nothing stands for such an address
		}
		if len(want.messages) != 1 || want.end != ended && !want.messages[0].closes {
			return taken, fmt.Sprintf("a loop takes what is %+v", want)
		}
		m := &want.messages[0]
		method := "GET"
		if p.Head {
			method = "HEAD"
		}
		fields := map[string][]string{"host": {string(p.Host)}}
		for _, f := range p.Fields {
			name := strings.ToLower(string(f.Name))
			fields[name] = append(fields[name], string(f.Value))
		}
		if m.method != method || m.target != string(p.Target) || m.host != string(p.Host) || m.content != "" || m.closes != p.close ||
			fmt.Sprint(m.fields) != fmt.Sprint(fields) {
			return taken, fmt.Sprintf("a loop takes %s %s at %s, %v, close %t, for %+v", method, p.Target, p.Host, fields, p.close, *m)
		}
	}
	return taken, ""
}

// TestMutants holds the door against the reference, on streams of requests of which
// each has been damaged: both find the same requests with the same content, and
// refuse what comes then for the same reasons; the scanner does not mind how a
// stream is cut, nor whether connections are lent for one request at a time; and what
// loops would answer themselves is what it seems to be.
//
// MUTANTS_SEED makes the inputs of an earlier run again.
func TestMutants(t *testing.T) {
	seed := rand.Uint64()
	if s := os.Getenv("MUTANTS_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("MUTANTS_SEED=%d", seed)
	n := mutants
	if testing.Short() {
		n /= 20
	}
	d := newStrictDoor(t)
	begun := time.Now()
	const parts = 50 // whatever the machine, the same inputs
	counts := make([]map[string]int, parts)
	var wg sync.WaitGroup
	room := make(chan struct{}, 8*runtime.GOMAXPROCS(0))
	for part := range parts {
		wg.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			way := uint64(part)
			if byLoops {
				way += parts
			}
			counts[part] = d.try(t, rand.New(rand.NewPCG(seed, way)), n/parts)
		})
	}
	wg.Wait()
	total := map[string]int{}
	for _, c := range counts {
		for outcome, n := range c {
			total[outcome] += n
		}
	}
	t.Logf("%d inputs in %v: %v", n, time.Since(begun), total)
	for outcome, least := range map[string]int{ // in 1000
		string(ended): 50, string(cutOff): 50, string(refused): 200, string(final): 30, "taken by a loop": 30, "several requests": 50,
		"content": 30, "status 400": 200, "status 417": 2, "status 421": 2, "status 501": 5,
	} {
		if total[outcome]*1000 < least*n && !t.Failed() {
			t.Errorf("of %d inputs only %d: %s", n, total[outcome], outcome)
		}
	}
}

// try makes n inputs, and counts what becomes of them.
func (d *strictDoor) try(t *testing.T, r *rand.Rand, n int) map[string]int {
	m := &mutator{Rand: r}
	m.all, m.sounds = corpus()
	table, p := standing.New(nil), new(plain)
	count := map[string]int{}
	for range n {
		input := m.input()
		want := readRequests(input)
		in := []byte(input)
		whole, single, small := scanAll(in, len(in), false), scanAll(in, 1, true), scanAll(in, 1, false)
		if !whole.is(&small) || !whole.is(&single) {
			t.Errorf("%q\nwhole: %+v\nsmall: %+v\nsingle: %+v", input, whole, small, single)
			return count
		}
		taken, how := plainDiffers(table, p, input)
		v := d.hear(input)
		if how == "" {
			how = v.differs(&want)
		}
		if how != "" {
			t.Errorf("%q\n%s", input, how)
			return count
		}
		count[string(want.end)]++
		if taken > 0 {
			count["taken by a loop"]++
		}
		if len(want.messages) > 1 {
			count["several requests"]++
		}
		if slices.ContainsFunc(want.messages, func(m entireRequest) bool { return m.content != "" }) {
			count["content"]++
		}
		if s := v.statuses(); want.end == refused {
			count["status "+strconv.Itoa(s[len(s)-1])]++
		}
	}
	return count
}
