package engine_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/rules"
	"github.com/larderhq/larder/store/memory"
)

// byPath plays an origin that answers with octets by path, whatever the method;
// "|close" at their end closes the connection.
func byPath(answers map[string]string) func(o *peer, _ int) {
	return func(o *peer, _ int) {
		for {
			start, fields := o.head()
			if start == "" {
				return
			}
			if len(of("Expect", fields)) > 0 {
				o.say("HTTP/1.1 100 Continue", "")
			}
			if lines := of("Content-Length", fields); len(lines) == 1 {
				var n int
				_, _ = fmt.Sscanf(strings.ToLower(lines[0]), "content-length: %d", &n)
				o.octets(n)
			}
			path := strings.Fields(start)[1]
			octets, keep := strings.CutSuffix(answers[path], "|close")
			_, _ = io.WriteString(o, octets)
			if keep {
				return
			}
		}
	}
}

// stored asks for path until the answer comes from the store: a client may have
// all of the first one before that is kept.
func (e *edge) stored(path string) {
	e.t.Helper()
	for range 1000 {
		c := e.dial()
		c.say("GET "+path+" HTTP/1.1", "Host: h", "Connection: close", "")
		fields := c.want("HTTP/1.1 200")
		_, _ = io.Copy(io.Discard, c.r)
		if strings.Contains(strings.Join(of("Cache-Status", fields), ""), "; hit") {
			return
		}
	}
	e.t.Fatalf("%s is never kept", path)
}

const sentinel = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 8\r\n\r\nsentinel"

func TestSRV08_NoContentOnTheWire(t *testing.T) {
	etag := "ETag: \"1\"\r\nCache-Control: max-age=60\r\n"
	answers := map[string]string{
		"/sentinel":       sentinel,
		"/204":            "HTTP/1.1 204 No Content\r\n" + etag + "\r\n",
		"/204-length":     "HTTP/1.1 204 No Content\r\n" + etag + "Content-Length: 0\r\n\r\n",
		"/204-pass":       "HTTP/1.1 204 No Content\r\nCache-Control: no-store\r\n\r\n",
		"/304":            "HTTP/1.1 304 Not Modified\r\n" + etag + "\r\n",
		"/304-length":     "HTTP/1.1 304 Not Modified\r\n" + etag + "Content-Length: 45\r\n\r\n",
		"/200":            "HTTP/1.1 200 OK\r\n" + etag + "Content-Length: 4\r\n\r\npage",
		"/200-chunked":    "HTTP/1.1 200 OK\r\n" + etag + "Transfer-Encoding: chunked\r\n\r\n4\r\npage\r\n0\r\n\r\n",
		"/200-empty":      "HTTP/1.1 200 OK\r\n" + etag + "Content-Length: 0\r\n\r\n",
		"/post-304-wrong": "HTTP/1.1 304 Not Modified\r\nContent-Length: 45\r\n\r\n",
	}
	condition := "If-None-Match: \"1\""
	for _, version := range []string{"HTTP/1.1", "HTTP/1.0"} {
		e := newEdge(t, byPath(answers))
		for _, path := range []string{"/200", "/200-chunked", "/200-empty"} {
			e.stored(path)
		}
		c := e.dial()
		for _, ask := range []struct {
			method, path, field string
			status              string
		}{
			{"GET", "/204", "", "204"},
			{"GET", "/204", "", "204"}, // from the store
			{"HEAD", "/204", "", "204"},
			{"POST", "/204", "", "204"},
			{"GET", "/204-length", "", "204"},
			{"GET", "/204-length", "", "204"},
			{"GET", "/204-pass", "", "204"},
			{"DELETE", "/204-length", "", "204"},
			{"GET", "/304", condition, "304"}, // nothing stored: the origin's own
			{"HEAD", "/304", condition, "304"},
			{"GET", "/304-length", condition, "304"},
			{"POST", "/post-304-wrong", condition, "304"},
			{"GET", "/200", condition, "304"}, // from the store
			{"HEAD", "/200", condition, "304"},
			{"GET", "/200-chunked", condition, "304"},
			{"GET", "/200-empty", condition, "304"},
		} {
			lines := []string{ask.method + " " + ask.path + " " + version, "Host: h", "Connection: keep-alive"}
			if ask.field != "" {
				lines = append(lines, ask.field)
			}
			if ask.method == "POST" {
				lines = append(lines, "Content-Length: 0")
			}
			c.say(append(lines, "")...)
			start, fields := c.head()
			if !strings.Contains(start, " "+ask.status+" ") {
				t.Fatalf("%v over %s: got %q %q", ask, version, start, fields)
			}
			if framing := append(of("Content-Length", fields), of("Transfer-Encoding", fields)...); len(framing) > 0 {
				t.Errorf("%v over %s: %q", ask, version, framing)
			}
			// Whatever follows is the next answer.
			c.say("GET /sentinel "+version, "Host: h", "Connection: keep-alive", "")
			start, fields = c.head()
			if !strings.Contains(start, " 200 ") || c.octets(8) != "sentinel" {
				t.Fatalf("%v over %s: followed by %q %q", ask, version, start, fields)
			}
		}
	}
}

func TestSRV09_NoChunksForHTTP10(t *testing.T) {
	// Longer than what a server holds back to count it.
	body := strings.Repeat("0123456789abcdef", 4<<10)
	chunked := "Transfer-Encoding: chunked\r\n\r\n10\r\n0123456789abcdef\r\nfff0\r\n" + body[16:] + "\r\n0\r\n\r\n"
	hints := "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"
	answers := map[string]string{
		"/kept":     "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n" + chunked,
		"/passed":   "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\n" + chunked,
		"/hints":    hints + "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\n" + chunked,
		"/to-close": "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\n\r\n" + body + "|close",
	}
	e := newEdge(t, byPath(answers))
	for _, ask := range []struct {
		start  string
		fields []string
		body   string
	}{
		{"GET /kept", nil, body},
		{"GET /kept", nil, body},
		{"GET /kept", []string{"Connection: keep-alive"}, body},
		{"HEAD /kept", nil, ""},
		{"GET /kept", []string{"TE: chunked, trailers", "Connection: TE"}, body},
		{"GET /passed", nil, body},
		{"GET /passed", []string{"Connection: keep-alive"}, body},
		{"GET /hints", nil, body},
		{"HEAD /hints", nil, ""},
		{"POST /hints", []string{"Content-Length: 2"}, body},
		{"POST /hints", []string{"Content-Length: 2", "Expect: 100-continue"}, body},
		{"GET /to-close", nil, body},
	} {
		c := e.dial()
		c.say(append(append([]string{ask.start + " HTTP/1.0", "Host: h"}, ask.fields...), "")...)
		if strings.HasPrefix(ask.start, "POST") {
			_, _ = io.WriteString(c, "hi")
		}
		start, fields := c.head()
		if !strings.Contains(start, " 200 ") {
			t.Errorf("%s: got %q", ask.start, start) // no 1xx comes first
			continue
		}
		if len(of("Transfer-Encoding", fields)) > 0 || len(of("Trailer", fields)) > 0 {
			t.Errorf("%s: %q", ask.start, fields)
		}
		var got string
		if lines := of("Content-Length", fields); len(lines) == 1 && !strings.HasPrefix(ask.start, "HEAD") {
			got = c.octets(len(ask.body))
		} else {
			rest, err := io.ReadAll(c.r)
			if got = string(rest); err != nil {
				t.Errorf("%s: %v", ask.start, err)
			}
		}
		if got != ask.body {
			t.Errorf("%s: %d octets of body, want %d", ask.start, len(got), len(ask.body))
		}
	}
	// The same for HTTP/1.1, so that the above is not for lack of hints.
	c := e.dial()
	c.say("GET /hints HTTP/1.1", "Host: h", "")
	if fields := c.want("HTTP/1.1 103"); len(of("Link", fields)) != 1 {
		t.Errorf("103 with %q", fields)
	}
	c.want("HTTP/1.1 102")
	if fields := c.want("HTTP/1.1 200"); len(of("Transfer-Encoding", fields)) != 1 {
		t.Errorf("200 with %q", fields)
	}
}

func TestSRV10_StoredOverOneVersionServedOverAny(t *testing.T) {
	// Each resource is first asked for over another version, each time with
	// fields that belong to its connection.
	forward := roundTripFunc(func(r *http.Request) (*http.Response, error) {
		res := &http.Response{
			StatusCode: 200, Request: r, ContentLength: -1, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header: http.Header{"Cache-Control": {"max-age=60"}, "Connection": {"close, X-Hop"}, "X-Hop": {"1"}, "Keep-Alive": {"timeout=5"}, "X-End": {"2"}},
			Body:   io.NopCloser(strings.NewReader("made for " + r.URL.Opaque)),
		}
		if strings.HasSuffix(r.URL.Opaque, "/from-1.0") {
			res.Proto, res.ProtoMinor = "HTTP/1.0", 0
		}
		return res, nil
	})
	store := memory.New(memory.Options{Budget: 1 << 20})
	e := engine.New(engine.Config{Store: store, Forward: forward})
	server := httptest.NewUnstartedServer(e)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(func() {
		server.Close()
		e.Close()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	ask := map[string]func(path string) (status, body string, header http.Header){}
	two := server.Client()
	one := &http.Client{Transport: &http.Transport{TLSClientConfig: two.Transport.(*http.Transport).TLSClientConfig.Clone(), TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}}
	one.Transport.(*http.Transport).TLSClientConfig.NextProtos = nil
	t.Cleanup(one.CloseIdleConnections)
	for version, client := range map[string]*http.Client{"HTTP/2.0": two, "HTTP/1.1": one} {
		ask[version] = func(path string) (string, string, http.Header) {
			ctx, cancel := context.WithTimeout(t.Context(), tooLong)
			defer cancel()
			r, err := http.NewRequestWithContext(ctx, "GET", server.URL+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			res, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			if err != nil || res.Proto != version {
				t.Fatalf("%s: %s, %v", version, res.Proto, err)
			}
			return res.Status, string(body), res.Header
		}
	}
	ask["HTTP/1.0"] = func(path string) (string, string, http.Header) {
		dialer := tls.Dialer{Config: one.Transport.(*http.Transport).TLSClientConfig}
		conn, err := dialer.DialContext(t.Context(), "tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		c := newPeer(t, conn)
		c.say("GET "+path+" HTTP/1.0", "Host: "+server.Listener.Addr().String(), "")
		start, fields := c.head()
		header := http.Header{}
		for _, line := range fields {
			name, value, _ := strings.Cut(line, ": ")
			header.Add(name, value)
		}
		body, err := io.ReadAll(c.r)
		if err != nil {
			t.Fatal(err)
		}
		_, status, _ := strings.Cut(start, " ")
		return status, string(body), header
	}
	for i, first := range []string{"HTTP/1.0", "HTTP/1.1", "HTTP/2.0"} {
		for _, from := range []string{"/from-1.0", "/from-1.1"} {
			path := fmt.Sprint("/", i, from)
			for round, version := range []string{first, "HTTP/1.0", "HTTP/1.1", "HTTP/2.0"} {
				status, body, header := ask[version](path)
				if status != "200 OK" || body != "made for "+path || header.Get("X-End") != "2" || header.Get("X-Hop")+header.Get("Keep-Alive") != "" {
					t.Errorf("%s first over %s, then %s: %s %q %v", path, first, version, status, body, header)
				}
				if hit := strings.Contains(header.Get("Cache-Status"), "; hit"); hit != (round > 0) {
					t.Errorf("%s first over %s, then %s: Cache-Status %q", path, first, version, header.Get("Cache-Status"))
				}
			}
		}
	}
}

// What ends with the connection may have been cut: immutable does not count.
func TestSRV13_ImmutableOfABodyToTheClose(t *testing.T) {
	head := "HTTP/1.1 200 OK\r\nCache-Control: max-age=60, immutable\r\nETag: \"1\"\r\n"
	answers := map[string]string{
		"/to-close": head + "\r\npage|close",
		"/old":      strings.Replace(head, "1.1", "1.0", 1) + "\r\npage|close",
		"/length":   head + "Content-Length: 4\r\nConnection: close\r\n\r\npage|close",
		"/chunked":  head + "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n4\r\npage\r\n0\r\n\r\n|close",
	}
	var moment atomic.Int64 // what the engine's clock has moved on
	begin := time.Now()
	e := newEdge(t, byPath(answers), func(c *engine.Config) {
		c.Terms.Requests = rules.HonorRequests
		c.Clock = func() (steady, wall time.Time) {
			now := begin.Add(time.Duration(moment.Load()))
			return now, now
		}
	})
	for path, hit := range map[string]bool{"/to-close": false, "/old": false, "/length": true, "/chunked": true} {
		ask := func(field string) string {
			c := e.dial()
			c.say("GET "+path+" HTTP/1.1", "Host: h", "Connection: close", field, "")
			fields := c.want("HTTP/1.1 200")
			if rest, err := io.ReadAll(c.r); err != nil || !strings.Contains(string(rest), "page") {
				t.Errorf("%s: %q, %v", path, rest, err)
			}
			return strings.Join(of("Cache-Status", fields), "")
		}
		e.stored(path)
		moment.Add(int64(5 * time.Second))
		if got := ask("Cache-Control: max-age=0"); strings.Contains(got, "; hit") != hit {
			t.Errorf("%s, reloaded: %q", path, got)
		}
	}
}
