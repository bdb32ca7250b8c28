package larder_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larderhq/larder"
)

// httputil.ReverseProxy breaks off by a panic only where it thinks that somebody will
// catch it; a refresh in the background has no server, and what it brings must not pass
// for whole either.
func TestHalfAnAnswerIsNotKept(t *testing.T) {
	var calls atomic.Int64
	origin := newSite(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		io.WriteString(w, "half")
		w.(http.Flusher).Flush()
		if calls.Add(1) > 1 {
			panic(http.ErrAbortHandler)
		}
		io.WriteString(w, " and half")
	})
	u, _ := url.Parse(origin.URL)
	var cache larder.Cache
	base := &http.Transport{}
	silent := log.New(io.Discard, "", 0)
	ended := make(chan bool, 10)
	proxy := &httputil.ReverseProxy{Transport: base, ErrorLog: silent, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(u) }}
	h := cache.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { ended <- true }()
		proxy.ServeHTTP(w, r)
	}))
	defer func() { cache.Close(); base.CloseIdleConnections() }()
	for range 5 {
		if got := get(h, "http://h/x").Body.String(); got != "half and half" {
			t.Fatalf("got %q", got)
		}
		<-ended
		if err := cache.Touch(t.Context(), "http://h/x"); err != nil {
			t.Fatal(err)
		}
	}
	part, _ := http.NewRequest(http.MethodGet, "http://h/y", nil)
	if res, err := cache.Fetch(t.Context(), part); err == nil {
		content, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err == nil {
			t.Errorf("a part is %q, as if that were all", content)
		}
	}
}

type valueKey struct{}

// Values of a client's context are there while its request is served, and then not any
// more: whoever put them there may use them for another.
func TestValuesOfContextsAreOnLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cache := larder.Cache{Policy: larder.Policy{RevalidateTimeout: time.Second, Grace: time.Minute}}
		defer cache.Close()
		var seen []any
		goOn := make(chan bool, 10)
		h := cache.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			at := r.Context().Value(valueKey{})
			<-goOn
			seen = append(seen, at, r.Context().Value(valueKey{}))
			w.Header().Set("Cache-Control", "max-age=10, must-revalidate")
			if r.URL.Path == "/grace" {
				w.Header().Set("Cache-Control", "max-age=10")
			}
		}))
		ask := func(path string) {
			ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), valueKey{}, path), time.Second)
			defer cancel()
			defer func() { _ = recover() }() // of a client that left
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "GET", "http://h"+path, nil))
		}
		goOn <- true
		ask("/a")
		time.Sleep(20 * time.Second)
		ask("/a") // leaves before the answer is there
		goOn <- true
		synctest.Wait()
		goOn <- true
		ask("/grace")
		time.Sleep(20 * time.Second)
		goOn <- true
		ask("/grace") // gets something stale, and has it refreshed
		synctest.Wait()
		if got := fmt.Sprint(seen); got != "[/a /a /a <nil> /grace /grace <nil> <nil>]" {
			t.Errorf("the handler saw %s", got)
		}
	})
}

// A part of a page has the values that the page came with, not those that the router
// of the page has added.
func TestPartsHaveTheValuesOfThePage(t *testing.T) {
	var cache larder.Cache
	defer cache.Close()
	inner := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/part" {
			fmt.Fprint(w, r.Context().Value(valueKey{}))
			return
		}
		part, _ := http.NewRequest(http.MethodGet, "/part", nil)
		res, err := cache.Fetch(r.Context(), part)
		if err != nil {
			t.Error(err)
			return
		}
		defer res.Body.Close()
		io.Copy(w, res.Body)
	})
	h := cache.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/page" {
			r = r.WithContext(context.WithValue(r.Context(), valueKey{}, "the router's"))
		}
		inner.ServeHTTP(w, r)
	}))
	r := httptest.NewRequest("GET", "http://h/page", nil)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), valueKey{}, "the server's")))
	if got := w.Body.String(); got != "the server's" {
		t.Errorf("the part has %s", got)
	}
}

// A handler knows that a request came by https, and can tell gin when its client left.
func TestHandlerSeesTLSAndTheEnd(t *testing.T) {
	var cache larder.Cache
	defer cache.Close()
	h := cache.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := w.(interface{ CloseNotify() <-chan bool }); !ok {
			t.Errorf("a %T does not notify", w)
		}
		fmt.Fprint(w, r.TLS != nil)
	}))
	for _, method := range []string{"GET", "POST"} {
		for _, scheme := range []string{"http", "https"} {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(method, scheme+"://h/", nil))
			if got, want := w.Body.String(), fmt.Sprint(scheme == "https"); got != want {
				t.Errorf("%s by %s: TLS %s", method, scheme, got)
			}
		}
	}
}

// A refresh in the background asks the server that the request went to.
func TestTransportRefreshesWhereItAsked(t *testing.T) {
	asked := make(chan string, 10)
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		asked <- r.Host
	})
	var cache larder.Cache
	c := client(t, &cache)
	for range 2 {
		r, _ := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/a", nil)
		r.Host = "www.example.invalid"
		res, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if got := <-asked; got != "www.example.invalid" {
			t.Errorf("asked %s", got)
		}
		if err := cache.Touch(t.Context(), "http://www.example.invalid/a"); err != nil {
			t.Fatal(err)
		}
	}
}

// What an origin's RoundTripper decompresses by itself loses its strong tag.
func TestProxyDecompressed(t *testing.T) {
	var z bytes.Buffer
	gz := gzip.NewWriter(&z)
	io.WriteString(gz, "page")
	gz.Close()
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(z.Bytes())
		}
	})
	var cache larder.Cache
	defer cache.Close()
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	a := get(cache.Proxy(elsewhere{s.Listener.Addr().String()}), "http://h/")
	if a.Body.String() != "page" || a.Header().Get("Etag") != `W/"1"` {
		t.Errorf("%q, %q", a.Body, a.Header())
	}
}
