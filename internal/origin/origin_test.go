package origin_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/larderhq/larder/internal/origin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A script is an origin on 127.0.0.1 that plays serve on each connection.
type script struct {
	addr  string
	conns atomic.Int64
}

// play starts an origin. It closes each connection when serve returns, and at
// the end of the test all that are open.
func play(t *testing.T, serve func(c net.Conn, r *bufio.Reader, nth int)) *script {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &script{addr: l.Addr().String()}
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		open = map[net.Conn]bool{}
	)
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			nth := int(s.conns.Add(1))
			wg.Go(func() {
				defer c.Close()
				serve(c, bufio.NewReader(c), nth)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return s
}

// answer plays one answer to each request on a connection, then closes it.
func answer(t *testing.T, answers ...string) *script {
	t.Helper()
	return play(t, func(c net.Conn, r *bufio.Reader, _ int) {
		for _, a := range answers {
			if _, _, ok := readHead(r); !ok {
				return
			}
			_, _ = io.WriteString(c, a)
		}
	})
}

// readHead reads a request without body.
func readHead(r *bufio.Reader) (line string, head []string, ok bool) {
	for {
		l, err := r.ReadString('\n')
		if err != nil {
			return "", nil, false
		}
		l = strings.TrimSuffix(l, "\r\n")
		switch {
		case line == "":
			line = l
		case l == "":
			return line, head, true
		default:
			head = append(head, l)
		}
	}
}

func upstream(t *testing.T, rawURL string, change ...func(*origin.Options)) *origin.Upstream {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	o := origin.Options{URL: u}
	for _, f := range change {
		f(&o)
	}
	up, err := origin.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(up.CloseIdle)
	return up
}

func (s *script) upstream(t *testing.T, change ...func(*origin.Options)) *origin.Upstream {
	t.Helper()
	return upstream(t, "http://"+s.addr, change...)
}

func request(t *testing.T, ctx context.Context, method, target string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, "http://client.example"+target, body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// fetch does a GET and reads the body.
func fetch(t *testing.T, up *origin.Upstream, method string) (*http.Response, string, error) {
	t.Helper()
	resp, err := up.RoundTrip(request(t, t.Context(), method, "/", nil))
	if err != nil {
		return nil, "", err
	}
	b, err := io.ReadAll(resp.Body)
	if cerr := resp.Body.Close(); cerr != nil && err == nil {
		t.Errorf("close: %v", cerr)
	}
	return resp, string(b), err
}

func TestORG_NewRefuses(t *testing.T) {
	for raw, hint := range map[string]string{
		"ftp://h/":           "write http://",
		"//h/":               "write http://",
		"http:h":             "no host",
		"http:///x":          "no host",
		"http://u:secret@h/": "Authorization",
		"http://h/?a":        "question mark",
		"http://h/?":         "question mark",
		"http://h/#f":        "from the #",
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		_, err = origin.New(origin.Options{URL: u})
		if err == nil || !strings.Contains(err.Error(), hint) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v, want an error with %q", raw, err, hint)
		}
	}
	if _, err := origin.New(origin.Options{}); err == nil {
		t.Error("no URL: no error")
	}
	if _, err := origin.New(origin.Options{URL: &url.URL{Scheme: "http", Host: "h"}, MaxConns: -1}); err == nil {
		t.Error("negative MaxConns: no error")
	}
}

func TestKEY05_TargetOctetForOctet(t *testing.T) {
	lines := make(chan string, 1)
	s := play(t, func(c net.Conn, r *bufio.Reader, _ int) {
		for {
			line, _, ok := readHead(r)
			if !ok {
				return
			}
			lines <- line
			_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
		}
	})
	up, base := s.upstream(t), upstream(t, "http://"+s.addr+"/app/")
	for _, target := range []string{
		"/", "/?", "/a?", "/a?b=c&d", "/a??x", "/a%2Fb", "/a%2fb", "/%61", "/a%20b", "/a+b?c+d",
		"//", "//evil/x", "///a//b//", "//a{b|c", "////?q", "/a;b,c=d", "/a!$&'()*[]", "/{x}", "/a\"b<c>^`",
		"/caf\xc3\xa9", "/\xff?\xfe", "/a/../b/./c", "/a#b", "/a\\b", "/?a=%zz", "/a:b", "/http://x/",
	} {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			t.Fatalf("%q: %v", target, err)
		}
		for _, in := range []*url.URL{u, {Opaque: target}} {
			for up, want := range map[*origin.Upstream]string{up: target, base: "/app" + target} {
				resp, err := up.RoundTrip(&http.Request{Method: "GET", URL: in, Header: http.Header{}})
				if err != nil {
					t.Fatalf("%q: %v", target, err)
				}
				_ = resp.Body.Close()
				if got := <-lines; got != "GET "+want+" HTTP/1.1" {
					t.Errorf("%q arrived as %q", want, got)
				}
			}
		}
	}
	// What ParseRequestURI does not take can still be sent as it came.
	for _, target := range []string{"/%zz", "/%", "//%2"} {
		resp, err := up.RoundTrip(&http.Request{Method: "GET", URL: &url.URL{Opaque: target}})
		if err != nil {
			t.Fatalf("%q: %v", target, err)
		}
		_ = resp.Body.Close()
		if got := <-lines; got != "GET "+target+" HTTP/1.1" {
			t.Errorf("%q arrived as %q", target, got)
		}
	}
	resp, err := base.RoundTrip(&http.Request{Method: "OPTIONS", URL: &url.URL{Path: "*"}})
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if got := <-lines; got != "OPTIONS * HTTP/1.1" {
		t.Errorf("asterisk arrived as %q", got)
	}
}

func TestKEY05_TargetThatWouldEndTheLine(t *testing.T) {
	up := upstream(t, "http://127.0.0.1:1")
	for _, u := range []*url.URL{
		{Opaque: "/a b"},
		{Opaque: "/a\r\nX: y"},
		{Opaque: "/a\x7f"},
		{Path: "/", RawQuery: "a b"},
		{Path: "/", RawQuery: "a\nb"},
		{Path: "a"},
	} {
		_, err := up.RoundTrip(&http.Request{Method: "GET", URL: u})
		wantError(t, err, "http_request_error", 400, false)
	}
}

func TestFWD11_NothingAdded(t *testing.T) {
	heads := make(chan []string, 1)
	s := play(t, func(c net.Conn, r *bufio.Reader, _ int) {
		for {
			_, head, ok := readHead(r)
			if !ok {
				return
			}
			heads <- head
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Encoding: gzip\r\n\r\nhi")
		}
	})
	for name, c := range map[string]struct {
		up     *origin.Upstream
		header http.Header
		want   string
	}{
		"nothing":    {s.upstream(t), nil, "Host: client.example"},
		"user agent": {s.upstream(t), http.Header{"User-Agent": {"x/1"}}, "Host: client.example|User-Agent: x/1"},
		"own host": {
			s.upstream(t, func(o *origin.Options) { o.Host = "inner:81" }),
			http.Header{"Pragma": {"no-cache"}},
			"Host: inner:81|Pragma: no-cache",
		},
	} {
		req := request(t, t.Context(), "GET", "/", nil)
		req.Header = c.header
		resp, err := c.up.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if got := strings.Join(<-heads, "|"); got != c.want {
			t.Errorf("%s: header %q, want %q", name, got, c.want)
		}
		if string(b) != "hi" || err != nil {
			t.Errorf("%s: body %q, %v; must not be decoded", name, b, err)
		}
		want := http.Header{"Content-Length": {"2"}, "Content-Encoding": {"gzip"}}
		if fmt.Sprint(resp.Header) != fmt.Sprint(want) {
			t.Errorf("%s: response header %v, want %v", name, resp.Header, want)
		}
		if resp.Request != req || len(req.Header) != len(c.header) {
			t.Errorf("%s: the request was changed", name)
		}
	}
}

func TestFWD16_ContentThatNobodyMeasured(t *testing.T) {
	got := make(chan string, 1)
	s := play(t, func(c net.Conn, r *bufio.Reader, _ int) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			b, _ := io.ReadAll(req.Body)
			got <- fmt.Sprint(req.TransferEncoding, req.Header["Content-Length"], string(b))
			_, _ = io.WriteString(c, "HTTP/1.1 204 x\r\n\r\n")
		}
	})
	up := s.upstream(t)
	for _, c := range []struct{ method, content, want string }{
		{"GET", "", "[] []"},
		{"DELETE", "body", "[chunked] []body"},
		{"POST", "", "[chunked] []"},
		{"POST", "body", "[chunked] []body"},
	} {
		req := request(t, t.Context(), c.method, "/", io.NopCloser(strings.NewReader(c.content)))
		resp, err := up.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if g := <-got; g != c.want {
			t.Errorf("%s %q: the origin got %q, want %q", c.method, c.content, g, c.want)
		}
	}
	if n := s.conns.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

func TestCCP19_CacheControlNotAdded(t *testing.T) {
	const (
		alone  = "HTTP/1.1 200 OK\r\nPragma: no-cache\r\nContent-Length: 1\r\n\r\nx"
		both   = "HTTP/1.1 200 OK\r\nPragma: no-cache\r\nCACHE-control:no-cache\r\nContent-Length: 1\r\n\r\nx"
		hinted = "HTTP/1.1 103 Early Hints\r\nCache-Control: no-cache\r\n\r\n" + alone
		split  = "HTTP/1.1 103 Early Hints\r\nPragma: no-cache\r\n\r\n" + both
		empty  = "HTTP/1.1 200 OK\r\nPragma: no-cache\r\nCache-Control:\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
	)
	s := answer(t, alone, both, alone, hinted, split, empty, alone)
	up := s.upstream(t)
	for i, want := range []string{"[]", "[no-cache]", "[]", "[]", "[no-cache]", "[]", "[]"} {
		resp, body, err := fetch(t, up, "GET")
		if err != nil || body != "x" {
			t.Fatalf("%d: %q, %v", i, body, err)
		}
		if got := fmt.Sprint(resp.Header["Cache-Control"]); got != want {
			t.Errorf("%d: Cache-Control %s, want %s", i, got, want)
		}
		if _, there := resp.Header["Cache-Control"]; there != (i == 1 || i == 4 || i == 5) {
			t.Errorf("%d: Cache-Control there: %t", i, there)
		}
		if resp.Header.Get("Pragma") != "no-cache" {
			t.Errorf("%d: Pragma is gone", i)
		}
	}
	if n := s.conns.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}
