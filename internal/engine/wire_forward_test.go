package engine_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/interim"
	"github.com/larderhq/larder/internal/origin"
	"github.com/larderhq/larder/store/memory"
)

// tooLong ends what would otherwise hang.
const tooLong = 20 * time.Second

// An edge is an Engine between two sockets on 127.0.0.1: Go's server before it,
// an origin of the test's own behind.
type edge struct {
	t    *testing.T
	addr string
}

// A peer is one end of a connection: what it says and hears are octets.
type peer struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

func newPeer(t *testing.T, c net.Conn) *peer {
	_ = c.SetDeadline(time.Now().Add(tooLong)) // a failure shows when reading
	return &peer{t, c, bufio.NewReader(c)}
}

// newEdge starts an edge before an origin that plays serve on each connection,
// nth counting from 1, and closes the connection when serve returns.
func newEdge(t *testing.T, serve func(o *peer, nth int), configure ...func(*engine.Config)) *edge {
	t.Helper()
	back, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	open := map[net.Conn]bool{}
	wg.Go(func() {
		for nth := 1; ; nth++ {
			c, err := back.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				serve(newPeer(t, c), nth)
			})
		}
	})
	up, err := origin.New(origin.Options{URL: &url.URL{Scheme: "http", Host: back.Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	store := memory.New(memory.Options{Budget: 16 << 20})
	c := engine.Config{Store: store, Forward: up, Pseudonym: "edge"}
	for _, f := range configure {
		f(&c)
	}
	e := engine.New(c)
	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: e}
	wg.Go(func() { _ = server.Serve(front) }) // ends with Close
	t.Cleanup(func() {
		_ = server.Close()
		_ = back.Close()
		mu.Lock()
		for c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
		e.Close()
		up.CloseIdle()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return &edge{t, front.Addr().String()}
}

// dial opens a client's connection.
func (e *edge) dial() *peer {
	e.t.Helper()
	c, err := net.Dial("tcp", e.addr)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { _ = c.Close() })
	return newPeer(e.t, c)
}

// say writes lines; each gets its CRLF.
func (p *peer) say(lines ...string) {
	_, _ = io.WriteString(p, strings.Join(lines, "\r\n")+"\r\n") // who does not hear it will miss it
}

// head reads a start-line and the field lines behind it; "" at the end of the
// connection.
func (p *peer) head() (start string, fields []string) {
	for {
		line, err := p.r.ReadString('\n')
		if err != nil {
			return "", nil
		}
		line = strings.TrimSuffix(line, "\r\n")
		switch {
		case start == "":
			start = line
		case line == "":
			return start, fields
		default:
			fields = append(fields, line)
		}
	}
}

// octets reads n octets of content.
func (p *peer) octets(n int) string {
	b := make([]byte, n)
	n, _ = io.ReadFull(p.r, b)
	return string(b[:n])
}

// ended tells whether the connection has ended.
func (p *peer) ended() bool {
	_, err := p.r.ReadByte()
	return err != nil
}

// want fails the test unless the next head begins so, and returns its fields.
func (p *peer) want(start string) []string {
	p.t.Helper()
	got, fields := p.head()
	if !strings.HasPrefix(got, start) {
		p.t.Fatalf("got %q with %q, want %q", got, fields, start)
	}
	return fields
}

// of are the lines of one field, with its name as it was written.
func of(name string, fields []string) []string {
	var out []string
	for _, f := range fields {
		if n, _, _ := strings.Cut(f, ":"); strings.EqualFold(n, name) {
			out = append(out, f)
		}
	}
	return out
}

// names are those of all fields, sorted, as often as there are lines.
func names(fields []string) string {
	out := make([]string, len(fields))
	for i, f := range fields {
		out[i], _, _ = strings.Cut(f, ":")
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func TestFWD09_OnTheWire(t *testing.T) {
	for _, c := range []struct {
		ask  []string
		want int64
	}{
		{[]string{"POST /lost HTTP/1.1", "Host: h", "Content-Length: 0", ""}, 1},
		{[]string{"POST /lost HTTP/1.1", "Host: h", "Idempotency-Key: 1", "Content-Length: 2", "", "hi"}, 1},
		{[]string{"PATCH /lost HTTP/1.1", "Host: h", "Content-Length: 0", ""}, 1},
		{[]string{"FOO /lost HTTP/1.1", "Host: h", ""}, 1},
		{[]string{"GET /lost HTTP/1.1", "Host: h", ""}, 2},
		{[]string{"HEAD /lost HTTP/1.1", "Host: h", ""}, 2},
		{[]string{"OPTIONS /lost HTTP/1.1", "Host: h", ""}, 2},
		{[]string{"GET /half HTTP/1.1", "Host: h", ""}, 1},
	} {
		t.Run(c.ask[0], func(t *testing.T) {
			var lost atomic.Int64
			e := newEdge(t, func(o *peer, _ int) {
				for {
					start, _ := o.head()
					switch {
					case start == "":
						return
					case strings.Contains(start, "/lost"):
						lost.Add(1)
						return
					case strings.Contains(start, "/half"):
						lost.Add(1)
						_, _ = io.WriteString(o, "HTTP/1.1 2")
						return
					}
					o.say("HTTP/1.1 200 OK", "Content-Length: 0", "")
				}
			})
			client := e.dial()
			client.say("GET /warm HTTP/1.1", "Host: h", "")
			client.want("HTTP/1.1 200") // the connection to the origin has served once
			client.say(c.ask...)
			client.want("HTTP/1.1 502")
			if got := lost.Load(); got != c.want {
				t.Errorf("sent %d times, want %d", got, c.want)
			}
		})
	}
}

func TestFWD10_ValuesArriveOctetForOctet(t *testing.T) {
	sent := []string{
		"X-Dup: 1", "X-Bin: \x80\xff\tb \xc3\xa4", "X-Dup: 2 ,  3", "X-Dup:", "X-Dup: 1", `X-Quoted: "a, \" b" ,, ;`,
		"X-Outer:  \t blank \t ", "X-Long: " + strings.Repeat("x", 7000),
	}
	want := map[string][]string{
		"X-Dup": {"1", "2 ,  3", "", "1"}, "X-Bin": {"\x80\xff\tb \xc3\xa4"}, "X-Quoted": {`"a, \" b" ,, ;`}, "X-Outer": {"blank"},
		"X-Long": {strings.Repeat("x", 7000)},
	}
	check := func(who string, fields []string) {
		t.Helper()
		for name, values := range want {
			var got []string
			for _, line := range of(name, fields) {
				_, v, _ := strings.Cut(line, ":")
				got = append(got, strings.TrimPrefix(v, " "))
			}
			if !slices.Equal(got, values) {
				t.Errorf("%s: %s is %q, want %q", who, name, got, values)
			}
		}
	}
	cookies := []string{"Cookie: a=b; c=d", "Cookie: e=f"}
	set := []string{"Set-Cookie: a=b, c; Path=/", "Set-Cookie: d=e; Expires=Wed, 09 Jun 2027 10:18:14 GMT"}
	heads := make(chan []string, 1)
	e := newEdge(t, func(o *peer, _ int) {
		for {
			start, fields := o.head()
			if start == "" {
				return
			}
			heads <- fields
			o.say(slices.Concat([]string{"HTTP/1.1 200 OK", "Cache-Control: max-age=60", "Content-Length: 0"}, set, sent, []string{""})...)
		}
	})
	client := e.dial()
	for i, method := range []string{"GET", "GET", "POST", "HEAD"} { // the second and the last from the store, but for the POST
		client.say(slices.Concat([]string{method + " /" + []string{"a", "a", "b", "a"}[i] + " HTTP/1.1", "Host: h"}, cookies, sent, []string{""})...)
		answer := client.want("HTTP/1.1 200")
		if hit := strings.Contains(fmt.Sprint(of("Cache-Status", answer)), "hit"); hit != (i == 1 || i == 3) {
			t.Fatalf("%s: %q", method, of("Cache-Status", answer))
		} else if !hit {
			fields := <-heads
			check("origin, "+method, fields)
			if got := of("Cookie", fields); !slices.Equal(got, cookies) {
				t.Errorf("%s: %q", method, got)
			}
		}
		check("client, "+method, answer)
		if got := of("Set-Cookie", answer); !slices.Equal(got, set) {
			t.Errorf("%s: %q", method, got)
		}
	}
}

func TestFWD11_NothingIsAddedOnTheWire(t *testing.T) {
	heads := make(chan []string, 1)
	answers := make(chan []string, 1)
	e := newEdge(t, func(o *peer, _ int) {
		for {
			start, fields := o.head()
			if start == "" {
				return
			}
			if len(of("Content-Length", fields)) > 0 && fields[0] != "" && strings.HasPrefix(start, "POST") {
				o.octets(4)
			}
			heads <- append([]string{start}, fields...)
			o.say(<-answers...)
		}
	})
	client := e.dial()
	const date = "Date: Thu, 01 Jan 2026 00:00:00 GMT"
	for _, c := range []struct {
		name     string
		ask      []string
		answer   []string
		toOrigin string
		toClient string
		content  int
	}{
		{
			"bare",
			[]string{"GET /1 HTTP/1.1", "Host: h", ""},
			[]string{"HTTP/1.1 200 OK", "Content-Length: 8", "", "<html>"},
			"Host Via", "Cache-Status Content-Length Date", 8,
		},
		{
			"dated and coded",
			[]string{"GET /2 HTTP/1.1", "Host: h", "User-Agent: x", "Accept-Encoding: br", ""},
			[]string{"HTTP/1.1 200 OK", date, "Content-Encoding: gzip", "Content-Length: 2", "", ""},
			"Accept-Encoding Host User-Agent Via", "Cache-Status Content-Encoding Content-Length Date", 2,
		},
		{
			"HEAD",
			[]string{"HEAD /3 HTTP/1.1", "Host: h", ""},
			[]string{"HTTP/1.1 200 OK", "Content-Length: 7", ""},
			"Host Via", "Cache-Status Content-Length Date", 0,
		},
		{
			"POST",
			[]string{"POST /4 HTTP/1.1", "Host: h", "Content-Length: 4", "", "ab"},
			[]string{"HTTP/1.1 201 Created", "Content-Length: 2", "", ""},
			"Content-Length Host Via", "Cache-Status Content-Length Date", 2,
		},
		{"204", []string{"DELETE /5 HTTP/1.1", "Host: h", ""}, []string{"HTTP/1.1 204 No Content", ""}, "Host Via", "Cache-Status Date", 0},
		{
			"not found",
			[]string{"GET /6 HTTP/1.1", "Host: h", ""},
			[]string{"HTTP/1.1 404 Not Found", "Content-Length: 0", ""},
			"Host Via", "Cache-Status Content-Length Date", 0,
		},
		{
			"unmodified",
			[]string{"GET /7 HTTP/1.1", "Host: h", `If-None-Match: "1"`, ""},
			[]string{"HTTP/1.1 304 Not Modified", ""},
			"Host If-None-Match Via", "Cache-Status Date", 0,
		},
		{
			"Pragma of the origin",
			[]string{"GET /8 HTTP/1.1", "Host: h", ""},
			[]string{"HTTP/1.1 200 OK", "Pragma: no-cache", "Content-Length: 0", ""},
			"Host Via", "Cache-Status Content-Length Date Pragma", 0,
		},
	} {
		answers <- c.answer
		client.say(c.ask...)
		fields := client.want("HTTP/1.1")
		content := client.octets(c.content)
		got := <-heads
		if names(got[1:]) != c.toOrigin {
			t.Errorf("%s: the origin got %q", c.name, got)
		}
		if names(fields) != c.toClient || len(content) != c.content {
			t.Errorf("%s: the client got %q and %q", c.name, fields, content)
		}
		if d := of("Date", c.answer); len(d) > 0 && !slices.Equal(of("Date", fields), d) {
			t.Errorf("%s: the client got %q", c.name, of("Date", fields))
		}
	}
}

func TestFWD13_CONNECTOnTheWire(t *testing.T) {
	e := newEdge(t, func(o *peer, _ int) {
		if start, _ := o.head(); start != "" {
			t.Errorf("the origin was asked %q", start)
		}
	})
	client := e.dial()
	client.say("CONNECT h:443 HTTP/1.1", "Host: h:443", "", "GET /for-the-other-end HTTP/1.1", "Host: h", "")
	if fields := client.want("HTTP/1.1 405"); strings.Join(of("Connection", fields), "") != "Connection: close" {
		t.Errorf("after it there is more to come: %q", fields)
	}
	_, _ = io.Copy(io.Discard, client.r) // nothing else is asked for
}

func TestFWD14_Tunnel(t *testing.T) {
	seen := make(chan []string, 1)
	upgrades := func(c *engine.Config) { c.Upgrades = []string{"websocket"} }
	e := newEdge(t, func(o *peer, _ int) {
		for {
			start, fields := o.head()
			switch {
			case start == "":
				return
			case len(of("Upgrade", fields)) == 0:
				o.say("HTTP/1.1 200 OK", "Cache-Control: max-age=60", "Content-Length: 4", "", "pa")
				continue
			}
			seen <- fields
			o.say("HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Accept: x", "", "hello")
			for { // an echo
				line, err := o.r.ReadString('\n')
				if err != nil || line == "bye\r\n" {
					return
				}
				_, _ = io.WriteString(o, line)
			}
		}
	}, upgrades)
	before := e.dial()
	before.say("GET /ws HTTP/1.1", "Host: h", "")
	before.want("HTTP/1.1 200")

	client := e.dial()
	client.say("GET /ws HTTP/1.1", "Host: h", "Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: y", "", "early")
	fields := client.want("HTTP/1.1 101")
	if got := names(fields); got != "Connection Sec-Websocket-Accept Upgrade" {
		t.Errorf("the client got %q", fields)
	}
	if got := <-seen; names(got) != "Connection Host Sec-Websocket-Key Upgrade Via" || of("Connection", got)[0] != "Connection: Upgrade" {
		t.Errorf("the origin got %q", got)
	}
	if got := client.octets(14); got != "hello\r\nearly\r\n" {
		t.Errorf("through the tunnel came %q", got)
	}
	for i := range 100 {
		line := fmt.Sprintf("%d: \x00\xff GET / HTTP/1.1", i)
		client.say(line)
		if got := client.octets(len(line) + 2); got != line+"\r\n" {
			t.Fatalf("through the tunnel came %q", got)
		}
	}
	client.say("bye")
	if !client.ended() {
		t.Error("the origin left, and the tunnel stays")
	}

	after := e.dial()
	after.say("GET /ws HTTP/1.1", "Host: h", "")
	if fields := after.want("HTTP/1.1 200"); !strings.Contains(of("Cache-Status", fields)[0], "hit") {
		t.Errorf("%q", fields)
	}
}

// RS-17: without a 101 there is no tunnel, and what the client sent too early
// is a request of its own.
func TestFWD14_NoTunnelWithout101(t *testing.T) {
	upgrades := func(c *engine.Config) { c.Upgrades = []string{"websocket"} }
	e := newEdge(t, func(o *peer, _ int) {
		for {
			start, _ := o.head()
			if start == "" {
				return
			}
			_, target, _ := strings.Cut(start, " ")
			target, _, _ = strings.Cut(target, " ")
			o.say("HTTP/1.1 200 OK", fmt.Sprintf("Content-Length: %d", len(target)), "")
			_, _ = io.WriteString(o, target)
		}
	}, upgrades)
	client := e.dial()
	client.say("GET /ws HTTP/1.1", "Host: h", "Connection: Upgrade", "Upgrade: websocket", "", "GET /next HTTP/1.1", "Host: h", "")
	client.want("HTTP/1.1 200")
	if got := client.octets(3); got != "/ws" {
		t.Errorf("content %q", got)
	}
	client.want("HTTP/1.1 200")
	if got := client.octets(5); got != "/next" {
		t.Errorf("content %q", got)
	}
}

func TestFWD15_TrailersDoNotBecomeFields(t *testing.T) {
	e := newEdge(t, func(o *peer, _ int) {
		for {
			if start, fields := o.head(); start == "" {
				return
			} else if len(of("X-Evil", fields)) > 0 {
				t.Error("a trailer of the client became a field")
			}
			o.say("HTTP/1.1 200 OK", "Cache-Control: max-age=60", "Trailer: X-Late", "Transfer-Encoding: chunked", "", "4", "page", "0",
				"X-Late: 1", "Proxy-Status: origin; error=dns_error", "Set-Cookie: a=b", "")
		}
	})
	client := e.dial()
	for _, ask := range [][]string{
		{"GET /a HTTP/1.1", "Host: h", "TE: trailers", "Connection: TE", ""}, {"GET /a HTTP/1.1", "Host: h", ""}, {"POST /b HTTP/1.1", "Host: h", "Content-Length: 0", ""},
	} {
		client.say(ask...)
		fields := client.want("HTTP/1.1 200")
		for _, name := range []string{"X-Late", "Proxy-Status", "Set-Cookie", "Trailer"} {
			if got := of(name, fields); len(got) > 0 {
				t.Errorf("%s: %q", ask[0], got)
			}
		}
		if len(of("Content-Length", fields)) > 0 {
			if got := client.octets(4); got != "page" {
				t.Errorf("content %q", got)
			}
			continue
		}
		if got := client.octets(14); got != "4\r\npage\r\n0\r\n\r\n" {
			t.Errorf("%s: chunks %q", ask[0], got)
		}
	}
}

func TestFWD16_OctetsLeaveAsTheyArrive(t *testing.T) {
	arrived := make(chan string)
	next := make(chan bool)
	e := newEdge(t, func(o *peer, _ int) {
		for {
			start, _ := o.head()
			switch {
			case start == "":
				return
			case strings.HasPrefix(start, "GET"):
				o.say("HTTP/1.1 200 OK", "Cache-Control: "+strings.Fields(start)[1][1:], "Transfer-Encoding: chunked", "", "5", "first")
				<-next
				o.say("6", "second", "0", "")
			default: // net/http may cut chunks as it likes
				arrived <- o.octets(len("5\r\nfirst\r\n"))
				arrived <- o.octets(len("6\r\nsecond\r\n0\r\n\r\n"))
				o.say("HTTP/1.1 200 OK", "Content-Length: 0", "")
			}
		}
	})
	client := e.dial()
	for _, cc := range []string{"no-store", "max-age=60"} {
		client.say("GET /"+cc+" HTTP/1.1", "Host: h", "")
		client.want("HTTP/1.1 200")
		if got := client.octets(10); got != "5\r\nfirst\r\n" {
			t.Fatalf("%s: %q", cc, got)
		}
		next <- true // not before the client has the first octets
		if got := client.octets(16); got != "6\r\nsecond\r\n0\r\n\r\n" {
			t.Fatalf("%s: %q", cc, got)
		}
	}
	client.say("POST /up HTTP/1.1", "Host: h", "Transfer-Encoding: chunked", "", "5", "first")
	if got := <-arrived; got != "5\r\nfirst\r\n" {
		t.Fatalf("the origin got %q", got)
	}
	client.say("6", "second", "0", "") // not before the origin has the first octets
	if got := <-arrived; got != "6\r\nsecond\r\n0\r\n\r\n" {
		t.Fatalf("the origin got %q", got)
	}
	client.want("HTTP/1.1 200")
}

// An answer may begin before the request has ended, and each go on while the
// other waits.
func TestFWD16_BothWaysAtOnce(t *testing.T) {
	e := newEdge(t, func(o *peer, _ int) {
		if start, _ := o.head(); start == "" {
			return
		}
		o.say("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "")
		for { // an echo of chunks
			size, err := o.r.ReadString('\n')
			if err != nil {
				return
			}
			rest, err := o.r.ReadString('\n')
			if err != nil {
				return
			}
			_, _ = io.WriteString(o, size+rest)
			if size == "0\r\n" {
				return
			}
		}
	})
	client := e.dial()
	client.say("POST /echo HTTP/1.1", "Host: h", "Transfer-Encoding: chunked", "")
	for i := range 5 {
		chunk := fmt.Sprintf("6\r\nchunk%d\r\n", i)
		_, _ = io.WriteString(client, chunk)
		if i == 0 {
			client.want("HTTP/1.1 200")
		}
		if got := client.octets(len(chunk)); got != chunk {
			t.Fatalf("got %q, want %q", got, chunk)
		}
	}
	client.say("0", "")
	if got := client.octets(5); got != "0\r\n\r\n" {
		t.Fatalf("at the end %q", got)
	}
}

func TestINT01_OnTheWire(t *testing.T) {
	next := make(chan bool)
	e := newEdge(t, func(o *peer, _ int) {
		for {
			if start, _ := o.head(); start == "" {
				return
			}
			o.say("HTTP/1.1 103 Early Hints", "Link: </a>", "Link: </b>", "Connection: X-Hop", "X-Hop: 1", "")
			<-next
			o.say("HTTP/1.1 100 Continue", "", "HTTP/1.1 102 Processing", "", "HTTP/1.1 142 What", "X: y", "", "HTTP/1.1 200 OK", "Content-Length: 0", "")
		}
	})
	client := e.dial()
	for _, method := range []string{"GET", "HEAD", "OPTIONS", "POST"} {
		client.say(method+" /"+method+" HTTP/1.1", "Host: h", "Content-Length: 0", "")
		if got := client.want("HTTP/1.1 103"); !slices.Equal(of("Link", got), []string{"Link: </a>", "Link: </b>"}) || len(got) != 2 {
			t.Errorf("%s: 103 with %q", method, got)
		}
		next <- true // not before the client has the first
		client.want("HTTP/1.1 102")
		if got := client.want("HTTP/1.1 142"); !slices.Equal(got, []string{"X: y"}) {
			t.Errorf("%s: 142 with %q", method, got)
		}
		if got := client.want("HTTP/1.1 200"); len(of("Link", got))+len(of("X", got)) > 0 {
			t.Errorf("%s: 200 with %q", method, got)
		}
	}
}

func TestINT03_EndlessInterimsEndIn502(t *testing.T) {
	stopped := make(chan bool, 2)
	e := newEdge(t, func(o *peer, _ int) {
		start, _ := o.head()
		n, end := 32, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
		if strings.Contains(start, "/endless") {
			n, end = 1<<30, ""
		}
		for range n {
			if _, err := io.WriteString(o, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"); err != nil {
				stopped <- true
				return
			}
		}
		_, _ = io.WriteString(o, end)
	})
	for _, method := range []string{"GET", "POST"} {
		client := e.dial()
		client.say(method+" /32 HTTP/1.1", "Host: h", "Content-Length: 0", "")
		for range 32 {
			client.want("HTTP/1.1 103")
		}
		client.want("HTTP/1.1 200")

		client = e.dial()
		client.say(method+" /endless HTTP/1.1", "Host: h", "Content-Length: 0", "")
		for n := 0; ; n++ {
			start, fields := client.head()
			if strings.HasPrefix(start, "HTTP/1.1 103") && n <= interim.Max {
				continue
			}
			if !strings.HasPrefix(start, "HTTP/1.1 502") || !strings.Contains(fmt.Sprint(fields), "http_protocol_error") {
				t.Fatalf("%s: after %d came %q with %q", method, n, start, fields)
			}
			break
		}
		<-stopped
	}
}

func TestINT04_ExpectOnTheWire(t *testing.T) {
	e := newEdge(t, func(o *peer, _ int) {
		for {
			start, fields := o.head()
			if start == "" {
				return
			}
			if !slices.Equal(of("Expect", fields), []string{"Expect: 100-continue"}) {
				t.Errorf("the origin got %q", fields)
			}
			if strings.Contains(start, "/no") {
				o.say("HTTP/1.1 413 Content Too Large", "Content-Length: 0", "Connection: close", "")
				return
			}
			o.say("HTTP/1.1 100 Continue", "")
			content := o.octets(7)
			o.say("HTTP/1.1 200 OK", "Content-Length: 7", "")
			_, _ = io.WriteString(o, content)
		}
	})
	client := e.dial()
	client.say("POST /yes HTTP/1.1", "Host: h", "Expect: 100-continue", "Content-Length: 7", "")
	client.want("HTTP/1.1 100") // not before that is there content
	_, _ = io.WriteString(client, "content")
	client.want("HTTP/1.1 200")
	if got := client.octets(7); got != "content" {
		t.Errorf("content %q", got)
	}
	client = e.dial()
	client.say("POST /no HTTP/1.1", "Host: h", "Expect: 100-continue", "Content-Length: 7", "")
	client.want("HTTP/1.1 413") // without the content, and without asking for it
}

func TestMSG16_OurOwnVersionBothWays(t *testing.T) {
	starts := make(chan string, 1)
	e := newEdge(t, func(o *peer, _ int) {
		start, _ := o.head()
		starts <- start
		o.say("HTTP/1.0 200 OK", "Content-Length: 0", "")
	})
	for _, version := range []string{"HTTP/1.0", "HTTP/1.1"} {
		for _, method := range []string{"GET", "DELETE"} {
			client := e.dial()
			client.say(method+" /a "+version, "Host: h", "")
			client.want(version + " 200") // Go's server goes by the client; the origin's version is never copied
			if got := <-starts; got != method+" /a HTTP/1.1" {
				t.Errorf("the origin got %q", got)
			}
		}
	}
}

// RS-06: content that nobody read is no request.
func TestMSG19_UnreadContentIsNoRequest(t *testing.T) {
	targets := make(chan string, 10)
	e := newEdge(t, func(o *peer, _ int) {
		start, _ := o.head()
		if start == "" {
			return
		}
		targets <- start
		o.say("HTTP/1.1 413 Content Too Large", "Content-Length: 0", "Connection: close", "") // without a look at the content
	})
	smuggled := "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
	for _, head := range []string{"OPTIONS /own HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0", "TRACE /own HTTP/1.1\r\nHost: h", "GET /own HTTP/1.1\r\nHost: h\r\nVia: 1.1 edge", "POST /origin HTTP/1.1\r\nHost: h"} {
		client := e.dial()
		_, _ = io.WriteString(client, head+fmt.Sprintf("\r\nContent-Length: %d\r\n\r\n", len(smuggled))+smuggled)
		client.say("GET /next HTTP/1.1", "Host: h", "Connection: close", "")
		client.want("HTTP/1.1")
		_, _ = io.Copy(io.Discard, client.r)
	}
	close(targets)
	for got := range targets {
		if strings.Contains(got, "smuggled") {
			t.Errorf("the origin got %q", got)
		}
	}
}

// RS-08, RS-15: where net/http gives up within content that is not as it should be,
// what follows is no request, also without our own door before it.
func TestMSG19_BrokenContentHidesNoRequest(t *testing.T) {
	var hidden atomic.Int64
	e := newEdge(t, func(o *peer, _ int) {
		if start, _ := o.head(); strings.Contains(start, "smuggled") {
			hidden.Add(1)
			return
		}
		_, _ = io.Copy(io.Discard, o.r) // no answer of its own: an early one is the next test's
	})
	smuggled := "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
	chunk := fmt.Sprintf("%x;%s\r\n%s\r\n", len(smuggled), strings.Repeat("e", 1000), smuggled)
	for name, content := range map[string]string{
		"chunks of extensions":    strings.Repeat(chunk, 20) + "0\r\n\r\n",
		"a trailer line":          "1\r\na\r\n0\r\nX\r\n" + smuggled,
		"an octet in a trailer":   "1\r\na\r\n0\r\nX: a\x00\r\n" + smuggled,
		"long trailers":           "1\r\na\r\n0\r\n" + strings.Repeat("X: "+strings.Repeat("x", 3000)+"\r\n", 2) + smuggled,
		"a chunk without its end": "1\r\nab\r\n" + smuggled,
		"a size that is none":     "1\r\na\r\nx\r\n" + smuggled,
	} {
		for _, method := range []string{"POST", "GET", "DELETE"} {
			client := e.dial()
			_, _ = io.WriteString(client, method+" /own HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"+content)
			if start, fields := client.head(); !strings.Contains(start, " 400 ") || strings.Join(of("Connection", fields), "") != "Connection: close" {
				t.Errorf("%s in %s: %q %q", name, method, start, fields)
			}
			_, _ = io.Copy(io.Discard, client.r)
		}
	}
	if n := hidden.Load(); n > 0 {
		t.Errorf("%d requests were found in content", n)
	}
}

// RS-16: an answer that comes before all of the content ends the connection, and
// says so: whoever reads the rest is called back before the next request could be read.
func TestMSG19_EarlyAnswersAreTheLast(t *testing.T) {
	e := newEdge(t, func(o *peer, _ int) {
		if start, _ := o.head(); start != "" {
			o.say("HTTP/1.1 400 Bad Request", "Content-Length: 0", "Connection: close", "")
			_, _ = io.Copy(io.Discard, o.r) // or the answer might be lost
		}
	})
	for i := range 100 {
		for _, request := range []string{
			"PRI /a HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nabc|def",
			"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n|3\r\nabc\r\n0\r\n\r\n",
		} {
			client := e.dial()
			first, rest, _ := strings.Cut(request, "|")
			_, _ = io.WriteString(client, first)
			if i%2 == 0 {
				_, _ = io.WriteString(client, rest)
			}
			start, fields := client.head()
			if !strings.Contains(start, " 400 ") {
				t.Fatalf("try %d: %q %q", i, start, fields)
			}
			if i%2 != 0 && strings.Join(of("Connection", fields), "") != "Connection: close" {
				t.Fatalf("try %d: %q", i, fields)
			}
			client.Close()
		}
	}
}
