package larder_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/larderhq/larder"
)

// serve has h behind a cache on a real server.
func serve(t *testing.T, cache *larder.Cache, h http.HandlerFunc) *httptest.Server {
	s := httptest.NewServer(cache.Handler(h))
	t.Cleanup(func() { s.Close(); cache.Close() })
	return s
}

func plainClient(t *testing.T) *http.Client {
	c := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// What a handler flushes arrives while it goes on, also for who joins later.
func TestHandlerStreams(t *testing.T) {
	next := make(chan string)
	s := serve(t, &larder.Cache{}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		for text := range next {
			io.WriteString(w, text)
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
		}
	})
	c := plainClient(t)
	var readers []*bufio.Reader
	join := func() {
		res, err := c.Get(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { res.Body.Close() })
		readers = append(readers, bufio.NewReader(res.Body))
	}
	go func() { next <- "one\n" }()
	join()
	want := func(r *bufio.Reader, text string) {
		t.Helper()
		if got, err := r.ReadString('\n'); got != text || err != nil {
			t.Errorf("got %q, %v, want %q", got, err, text)
		}
	}
	want(readers[0], "one\n")
	join()
	want(readers[1], "one\n")
	next <- "two\n"
	want(readers[0], "two\n")
	want(readers[1], "two\n")
	close(next)
	for _, r := range readers {
		if rest, err := io.ReadAll(r); len(rest) > 0 || err != nil {
			t.Errorf("at the end: %q, %v", rest, err)
		}
	}
}

func TestHandlerPassesInterimResponses(t *testing.T) {
	s := serve(t, &larder.Cache{}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		w.Header().Set("Cache-Control", "no-store")
		io.WriteString(w, "page")
	})
	wantEarlyHints(t, s.URL)
}

func TestProxyPassesInterimResponses(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
	}))
	t.Cleanup(origin.Close)
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	var cache larder.Cache
	s := httptest.NewServer(cache.Proxy(elsewhere{origin.Listener.Addr().String()}))
	t.Cleanup(func() { s.Close(); cache.Close() })
	wantEarlyHints(t, s.URL)
}

func wantEarlyHints(t *testing.T, target string) {
	t.Helper()
	var early []string
	trace := &httptrace.ClientTrace{Got1xxResponse: func(status int, h textproto.MIMEHeader) error {
		early = append(early, fmt.Sprint(status, h.Get("Link")))
		return nil
	}}
	r, _ := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), "GET", target, nil)
	res, err := plainClient(t).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if len(early) != 1 || early[0] != "103</a.css>; rel=preload" || res.StatusCode != 200 || res.Header.Get("Link") != "" {
		t.Errorf("early %q, then %s %q", early, res.Status, res.Header)
	}
}

func TestHandlerReadFrom(t *testing.T) {
	s := serve(t, &larder.Cache{}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		if _, ok := w.(io.ReaderFrom); !ok {
			t.Errorf("a %T is no io.ReaderFrom", w)
		}
		if n, err := io.Copy(w, strings.NewReader(strings.Repeat("x", 1<<20))); n != 1<<20 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	})
	for range 2 {
		if _, content := ask(t, plainClient(t), "GET", s.URL); content != strings.Repeat("x", 1<<20) {
			t.Errorf("%d octets", len(content))
		}
	}
}

// Whatever stops a handler early, nothing is kept, and its client learns of it.
func TestHandlerThatStopsEarlyStoresNothing(t *testing.T) {
	for name, stop := range map[string]func(w http.ResponseWriter){
		"panic":        func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
		"too little":   func(http.ResponseWriter) {},
		"panic, flush": func(w http.ResponseWriter) { w.(http.Flusher).Flush(); panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int64
			s := serve(t, &larder.Cache{}, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Cache-Control", "max-age=60")
				if calls.Add(1) > 1 {
					io.WriteString(w, "0123456789")
					return
				}
				if name == "too little" {
					w.Header().Set("Content-Length", "10")
				}
				io.WriteString(w, "01234")
				stop(w)
			})
			res, err := plainClient(t).Get(s.URL)
			if err == nil {
				var content []byte
				content, err = io.ReadAll(res.Body)
				res.Body.Close()
				if res.StatusCode == http.StatusBadGateway {
					err = errors.New(res.Status)
				}
				if err == nil {
					t.Errorf("got %q as if that were all", content)
				}
			}
			if _, content := ask(t, plainClient(t), "GET", s.URL); content != "0123456789" {
				t.Errorf("then %q", content)
			}
		})
	}
}

// A client that leaves ends what is for it alone, and nothing that others use.
func TestHandlerContextEndsWithItsClient(t *testing.T) {
	ended := make(chan error, 1)
	began := make(chan struct{})
	s := serve(t, &larder.Cache{}, func(_ http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
		ended <- r.Context().Err()
	})
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
	<-began
	conn.Close()
	if err := <-ended; err == nil {
		t.Error("the context has not ended")
	}
}

// Trailers of what is not kept arrive, announced or not; those of what is kept do not,
// nor does what may be none.
func TestHandlerTrailers(t *testing.T) {
	s := serve(t, &larder.Cache{}, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", r.URL.Query().Get("cc"))
		h["Trailer"] = []string{"X-Sum, X-None", "Content-Type"}
		io.WriteString(w, "page")
		h.Set("X-Sum", "1")
		h.Set("Content-Type", "x/y")
		h.Set(http.TrailerPrefix+"X-Late", "2")
		h.Set(http.TrailerPrefix+"Set-Cookie", "3")
	})
	for cc, want := range map[string]string{"no-store": "map[X-Late:[2] X-Sum:[1]]", "max-age=60": "map[]"} {
		for _, method := range []string{"GET", "POST"} {
			if cc == "max-age=60" && method == "POST" {
				continue // is not kept either
			}
			res, content := ask(t, plainClient(t), method, s.URL+"?cc="+cc)
			got := http.Header{}
			for name, lines := range res.Trailer {
				if lines != nil {
					got[name] = lines
				}
			}
			if fmt.Sprint(map[string][]string(got)) != want || content != "page" {
				t.Errorf("%s %s: %q with trailers %v, want %s", method, cc, content, got, want)
			}
		}
	}
}

// WebSocket and its like reach the handler with a connection to take over.
func TestHandlerHijack(t *testing.T) {
	s := serve(t, &larder.Cache{}, func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		rw.Flush()
		io.Copy(conn, rw)
	})
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	in := bufio.NewReader(conn)
	res, err := http.ReadResponse(in, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", res, err)
	}
	io.WriteString(conn, "echo\n")
	if line, err := in.ReadString('\n'); line != "echo\n" {
		t.Errorf("%q, %v", line, err)
	}
}

func TestPurge(t *testing.T) {
	var cache larder.Cache
	var calls atomic.Int64
	h := cache.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Vary", "Accept")
		fmt.Fprint(w, calls.Add(1))
	}))
	defer cache.Close()
	for _, want := range []string{"1", "1"} {
		if got := get(h, "http://example.org/a?b").Body.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	for _, uri := range []string{"http://example.org/b", "https://example.org/a?b", "http://example.org/a"} {
		if err := cache.Purge(t.Context(), uri); err != nil {
			t.Error(err)
		}
	}
	if got := get(h, "http://example.org/a?b").Body.String(); got != "1" {
		t.Errorf("after purges of others: %s", got)
	}
	if err := cache.Purge(t.Context(), "HTTP://Example.org:80/a?b"); err != nil {
		t.Error(err)
	}
	if got := get(h, "http://example.org/a?b").Body.String(); got != "2" {
		t.Errorf("after the purge: %s", got)
	}
	for _, bad := range []string{"/a", "example.org", "ftp://example.org/", "http://", "http://a b/", "://"} {
		if err := cache.Purge(t.Context(), bad); err == nil {
			t.Errorf("%q was purged", bad)
		}
	}
}

func TestFetch(t *testing.T) {
	var cache larder.Cache
	defer cache.Close()
	fetched := func(r *http.Request, target string) string {
		in, err := http.NewRequestWithContext(r.Context(), "GET", target, nil)
		if err != nil {
			return err.Error()
		}
		res, err := cache.Fetch(r.Context(), in)
		if err != nil {
			return fmt.Sprintf("(%v)", err)
		}
		defer res.Body.Close()
		content, _ := io.ReadAll(res.Body)
		if age := res.Header.Get("Age"); age != "" {
			t.Errorf("%s has Age: %s", target, age)
		}
		return string(content)
	}
	var calls atomic.Int64
	h := cache.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		switch r.URL.Path {
		case "/part":
			w.Header().Set("Cache-Control", "max-age=60")
			fmt.Fprintf(w, "part %d of %s", calls.Add(1), r.Host)
		case "/page":
			fmt.Fprintf(w, "[%s] [%s]", fetched(r, "/part"), fetched(r, "http://example.org/part"))
		case "/loop", "/pool":
			fmt.Fprint(w, fetched(r, map[string]string{"/loop": "/pool", "/pool": "/loop"}[r.URL.Path]))
		case "/deep":
			fmt.Fprint(w, fetched(r, "/deep?"+r.URL.RawQuery+"x"))
		}
	}))
	for range 2 {
		if got := get(h, "http://example.org/page").Body.String(); got != "[part 1 of example.org] [part 1 of example.org]" {
			t.Errorf("the page is %q", got)
		}
	}
	if got := get(h, "http://example.org/loop").Body.String(); !strings.Contains(got, "is part of itself") {
		t.Errorf("a loop gives %q", got)
	}
	if got := get(h, "http://example.org/deep").Body.String(); !strings.Contains(got, "nested too deep") {
		t.Errorf("depth gives %q", got)
	}
	r := httptest.NewRequest("GET", "http://example.org/", nil)
	if got := fetched(r, "http://example.org/part"); got != "part 1 of example.org" {
		t.Errorf("without a page: %q", got)
	}
	if got := fetched(r, "/part"); !strings.Contains(got, "no host") {
		t.Errorf("without a page or a host: %q", got)
	}
	var none larder.Cache
	if _, err := none.Fetch(t.Context(), r); !errors.Is(err, larder.ErrFetch) {
		t.Errorf("without a handler: %v", err)
	}
}
