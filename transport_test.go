package larder_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/larderhq/larder"
)

// A site is a server for the tests of clients. count is how often it was asked.
type site struct {
	*httptest.Server
	count atomic.Int64
}

func newSite(t *testing.T, serve http.HandlerFunc) *site {
	s := &site{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.count.Add(1)
		serve(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *site) wantCount(t *testing.T, n int64) {
	t.Helper()
	if got := s.count.Load(); got != n {
		t.Errorf("the origin was asked %d times, want %d", got, n)
	}
}

// client is a client with a cache of its own.
func client(t *testing.T, cache *larder.Cache) *http.Client {
	base := &http.Transport{}
	c := &http.Client{Transport: cache.Transport(base)}
	t.Cleanup(func() { cache.Close(); c.CloseIdleConnections() })
	return c
}

// ask sends a request with field lines, reads the answer, and gives it back as far
// as it is in words.
func ask(t *testing.T, c *http.Client, method, target string, lines ...string) (res *http.Response, content string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	res, err = c.Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	defer res.Body.Close()
	octets, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	return res, string(octets)
}

func isHit(res *http.Response) bool {
	return strings.HasPrefix(res.Header.Get("Cache-Status"), "larder; hit")
}

func page(directives string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", directives)
		fmt.Fprintf(w, "%s for %s", r.URL, r.Header.Get("Authorization"))
	}
}

func TestTransportIsAPrivateCache(t *testing.T) {
	s := newSite(t, page("private, max-age=60"))
	c := client(t, &larder.Cache{})
	for i := range 3 {
		res, content := ask(t, c, "GET", s.URL+"/a?b")
		if content != "/a?b for " || isHit(res) != (i > 0) || (res.Header.Get("Age") != "") != (i > 0) {
			t.Errorf("%d: %q, %q", i, content, res.Header)
		}
	}
	s.wantCount(t, 1)
	if res, _ := ask(t, c, "GET", s.URL+"/a?b", "Cache-Control: no-cache"); isHit(res) {
		t.Error("the client's no-cache was not heeded")
	}
	if res, content := ask(t, c, "HEAD", s.URL+"/a?b"); !isHit(res) || content != "" || res.ContentLength != 9 {
		t.Errorf("HEAD: %q, length %d", res.Header, res.ContentLength)
	}
	if res, _ := ask(t, c, "GET", s.URL+"/new", "Cache-Control: only-if-cached"); res.StatusCode != http.StatusGatewayTimeout {
		t.Errorf("only-if-cached: %s", res.Status)
	}
}

// CLI-02.
func TestTransportKeepsUsersApart(t *testing.T) {
	s := newSite(t, page("private, max-age=60"))
	c := client(t, &larder.Cache{})
	for range 2 {
		for _, user := range []string{"", "one", "other"} {
			if _, content := ask(t, c, "GET", s.URL+"/a", "Authorization: "+user); content != "/a for "+user {
				t.Errorf("%q gets %q", user, content)
			}
		}
	}
	s.wantCount(t, 3)
}

func TestTransportSharedKeepsNothingPrivate(t *testing.T) {
	s := newSite(t, page("private, max-age=60"))
	c := client(t, &larder.Cache{Policy: larder.Policy{Sharing: larder.Shared}})
	for range 2 {
		ask(t, c, "GET", s.URL+"/a")
	}
	s.wantCount(t, 2)
}

// CLI-01: the request stays as it is, and the response belongs to it.
func TestTransportLeavesTheRequestAlone(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=0")
		w.Header().Set("ETag", `"1"`)
		if r.Header.Get("If-None-Match") == `"1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		if got := r.Header.Get("User-Agent"); got != "Go-http-client/1.1" {
			t.Errorf("User-Agent: %q", got)
		}
		io.WriteString(w, "page")
	})
	var cache larder.Cache
	c := client(t, &cache)
	for i := range 3 {
		r, _ := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/%7ea?", nil)
		r.Header["X-Odd"] = []string{"1", "2"}
		before := r.Clone(r.Context())
		res, err := c.Transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(res.Body)
		res.Body.Close()
		if string(content) != "page" || err != nil || res.StatusCode != 200 {
			t.Errorf("%d: %s, %q, %v", i, res.Status, content, err)
		}
		if res.Request != r {
			t.Errorf("%d: the response is one to %v", i, res.Request)
		}
		if !reflect.DeepEqual(r.Header, before.Header) || *r.URL != *before.URL || r.Host != before.Host || r.Body != nil || r.TLS != nil {
			t.Errorf("%d: the request is %+v, was %+v", i, r, before)
		}
	}
	s.wantCount(t, 3)
}

// CLI-03.
func TestTransportConditionsOfTheCaller(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("ETag", `"1"`)
		http.ServeContent(w, r, "", timeZero, strings.NewReader("0123456789"))
	})
	c := client(t, &larder.Cache{})
	for _, cached := range []bool{false, true} {
		for _, test := range []struct {
			lines   []string
			status  int
			content string
		}{
			{[]string{`If-None-Match: "1"`}, 304, ""},
			{[]string{"Range: bytes=2-4"}, 206, "234"},
			{[]string{"Range: bytes=20-"}, 416, ""},
			{[]string{`If-Match: "2"`}, 412, ""},
			{nil, 200, "0123456789"},
		} {
			res, content := ask(t, c, "GET", s.URL+"/a", test.lines...)
			if res.StatusCode != test.status || test.status < 300 && content != test.content {
				t.Errorf("cached %t, %q: %s %q, want %d %q", cached, test.lines, res.Status, content, test.status, test.content)
			}
		}
	}
}

func TestTransportUnsafeRequests(t *testing.T) {
	version := "1"
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			content, _ := io.ReadAll(r.Body)
			version = string(content)
			return
		}
		w.Header().Set("Cache-Control", "max-age=60")
		io.WriteString(w, version)
	})
	c := client(t, &larder.Cache{})
	ask(t, c, "GET", s.URL+"/a")
	res, err := c.Post(s.URL+"/a", "text/plain", strings.NewReader("2"))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if got := res.Header.Get("Cache-Status"); got != "larder; fwd=method" {
		t.Errorf("Cache-Status: %s", got)
	}
	if _, content := ask(t, c, "GET", s.URL+"/a"); content != "2" {
		t.Errorf("after a POST: %q", content)
	}
}

// What a POST brings may answer a GET (RFC 9110 9.3.3).
func TestTransportKeepsAnswersToPOST(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Content-Location", r.URL.Path)
		io.WriteString(w, r.Method)
	})
	for _, cache := range []*larder.Cache{{}, {Policies: map[string]larder.Policy{"a": {}}, PolicyFor: func(r *http.Request) string {
		if r.URL.Host == "" {
			t.Errorf("PolicyFor sees %v", r.URL)
		}
		return "a"
	}}} {
		c := client(t, cache)
		res, err := c.Post(s.URL+"/a", "text/plain", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(res.Body)
		res.Body.Close()
		if string(content) != "POST" || err != nil {
			t.Errorf("%q, %v", content, err)
		}
		if res, content := ask(t, c, "GET", s.URL+"/a"); content != "POST" || !isHit(res) {
			t.Errorf("GET: %q, %q", content, res.Header)
		}
	}
}

// A roundTripper is a function that asks an origin.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestTransportErrorsAreThoseOfTheBase(t *testing.T) {
	broken := errors.New("broken")
	var cache larder.Cache
	defer cache.Close()
	transport := cache.Transport(roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.URL.Path == "/none" {
			return nil, broken
		}
		body := io.MultiReader(strings.NewReader("begin"), errReader{broken})
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(body), ContentLength: -1, Request: r, ProtoMajor: 1, ProtoMinor: 1}, nil
	}))
	for _, method := range []string{"GET", "POST"} {
		r, _ := http.NewRequest(method, "http://h/none", nil)
		if _, err := transport.RoundTrip(r); !errors.Is(err, broken) {
			t.Errorf("%s: %v", method, err)
		}
	}
	for range 2 { // nothing is kept of it
		r, _ := http.NewRequest("GET", "http://h/half", nil)
		res, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(res.Body)
		res.Body.Close()
		if string(content) != "begin" || !errors.Is(err, broken) || isHit(res) {
			t.Errorf("%q, %v, %q", content, err, res.Header)
		}
	}
}

type errReader struct{ error }

func (r errReader) Read([]byte) (int, error) { return 0, r.error }

// CLI-04, before the head and within the body.
func TestTransportContextEndsTheCall(t *testing.T) {
	asked := make(chan struct{})
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		if r.URL.Path == "/body" {
			io.WriteString(w, "begin")
			w.(http.Flusher).Flush()
		}
		asked <- struct{}{}
		<-r.Context().Done()
	})
	c := client(t, &larder.Cache{})
	for _, path := range []string{"/head", "/body"} {
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-asked; cancel() }()
		r, _ := http.NewRequestWithContext(ctx, "GET", s.URL+path, nil)
		res, err := c.Do(r)
		if err == nil {
			_, err = io.ReadAll(res.Body)
			res.Body.Close()
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", path, err)
		}
		cancel()
	}
}

// Who closes an endless body ends its transfer, and nothing is kept.
func TestTransportClosedBody(t *testing.T) {
	ended := make(chan struct{}, 1)
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		for {
			if _, err := w.Write(bytes.Repeat([]byte("x"), 10000)); err != nil {
				ended <- struct{}{}
				return
			}
		}
	})
	c := client(t, &larder.Cache{})
	for range 2 {
		res, err := c.Get(s.URL + "/endless")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(res.Body, make([]byte, 100)); err != nil || isHit(res) {
			t.Errorf("%v, %q", err, res.Header)
		}
		res.Body.Close()
		<-ended
	}
}

func TestTransportRedirectsHopByHop(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		if r.URL.Path == "/old" {
			http.Redirect(w, r, "/new", http.StatusMovedPermanently)
			return
		}
		io.WriteString(w, "new")
	})
	c := client(t, &larder.Cache{})
	for range 2 {
		if res, content := ask(t, c, "GET", s.URL+"/old"); content != "new" || res.Request.URL.Path != "/new" {
			t.Errorf("%q from %v", content, res.Request.URL)
		}
	}
	s.wantCount(t, 2)
}

// What http.Transport decompresses is not what the origin's strong tag names.
func TestTransportDecompressed(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "max-age=60")
		h.Set("ETag", `"1"`)
		h.Set("Vary", "Accept-Encoding")
		if r.Header.Get("Accept-Encoding") == "gzip" {
			h.Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			io.WriteString(z, "page")
			z.Close()
			return
		}
		io.WriteString(w, "page")
	})
	c := client(t, &larder.Cache{})
	for range 2 {
		if res, content := ask(t, c, "GET", s.URL); content != "page" || res.Header.Get("Etag") != `W/"1"` || res.Header.Get("Content-Encoding") != "" {
			t.Errorf("%q, %q", content, res.Header)
		}
	}
	if res, content := ask(t, c, "GET", s.URL, "Accept-Encoding: gzip"); content == "page" || res.Header.Get("Content-Encoding") != "gzip" || res.Header.Get("Etag") != `"1"` {
		t.Errorf("asked for: %q, %q", content, res.Header)
	}
	s.wantCount(t, 2)
}

// Two servers that go by one name are not one.
func TestTransportServersBehindOneName(t *testing.T) {
	one, other := newSite(t, page("max-age=60")), newSite(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		io.WriteString(w, r.Host)
	})
	c := client(t, &larder.Cache{})
	for range 2 {
		for _, s := range []*site{one, other} {
			r, _ := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/a", nil)
			r.Host = "www.example.org"
			res, err := c.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			content, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if want := map[*site]string{one: "/a for ", other: "www.example.org"}[s]; string(content) != want {
				t.Errorf("got %q, want %q", content, want)
			}
		}
	}
	one.wantCount(t, 1)
	other.wantCount(t, 1)
}

// Under a reverse proxy: gregjones/httpcache sends the client 304 and 206 that it has
// not asked for there, and breaks on what the proxy does with requests.
func TestTransportUnderReverseProxy(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Cache-Control", "max-age=0")
		if r.URL.Path == "/endless" {
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, strings.Repeat("x", 5000)); err != nil {
					return
				}
			}
			return
		}
		http.ServeContent(w, r, "a.txt", timeZero, strings.NewReader("0123456789"))
	})
	u, _ := url.Parse(s.URL)
	proxy := httputil.NewSingleHostReverseProxy(u)
	proxy.ErrorLog = log.New(io.Discard, "", 0)
	proxy.Transport = client(t, &larder.Cache{Policy: larder.Policy{Sharing: larder.Shared}}).Transport
	front := httptest.NewServer(proxy)
	t.Cleanup(front.Close)
	c := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(c.CloseIdleConnections)
	for i := range 3 {
		if res, content := ask(t, c, "GET", front.URL+"/a"); res.StatusCode != 200 || content != "0123456789" {
			t.Errorf("%d: %s %q", i, res.Status, content)
		}
		if res, content := ask(t, c, "GET", front.URL+"/a", "Range: bytes=2-3"); res.StatusCode != 206 || content != "23" {
			t.Errorf("%d: %s %q", i, res.Status, content)
		}
		if res, _ := ask(t, c, "GET", front.URL+"/a", `If-None-Match: "1"`); res.StatusCode != 304 {
			t.Errorf("%d: %s", i, res.Status)
		}
		res, err := c.Get(front.URL + "/endless")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(res.Body, make([]byte, 10000)); err != nil {
			t.Errorf("%d: endless: %v", i, err)
		}
		res.Body.Close()
	}
}

func TestTransportForMany(t *testing.T) {
	s := newSite(t, page("max-age=60"))
	c := client(t, &larder.Cache{})
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for i := range 30 {
				path := fmt.Sprintf("/%d", i)
				if _, content := ask(t, c, "GET", s.URL+path); content != path+" for " {
					t.Errorf("%s is %q", path, content)
				}
			}
		})
	}
	all.Wait()
	s.wantCount(t, 30)
}
