package engine_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/sim"
	"github.com/larderhq/larder/store/memory"
)

// once answers every request with the same storable response.
type once struct{ header http.Header }

func (o once) RoundTrip(r *http.Request) (*http.Response, error) {
	body := strings.Repeat("x", 1024)
	return &http.Response{
		StatusCode: 200, Header: o.header.Clone(), ContentLength: int64(len(body)),
		Body: io.NopCloser(strings.NewReader(body)), Request: r, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}, nil
}

// discard is a client that takes everything at once.
type discard struct {
	header http.Header
	status int
	n      int
}

func (d *discard) Header() http.Header { return d.header }

func (d *discard) WriteHeader(status int) { d.status = status }

func (d *discard) Write(p []byte) (int, error) { d.n += len(p); return len(p), nil }

// BenchmarkHit is a hit at the engine's door: no sockets, a whole response
// with its head, as a browser asks for it.
func BenchmarkHit(b *testing.B) {
	s := memory.New(memory.Options{Budget: 64 << 20})
	defer s.Close()
	h := http.Header{}
	for _, line := range []string{
		"Cache-Control: public, max-age=3600", `Etag: "v1-1024"`, "Content-Type: application/octet-stream",
		"Last-Modified: Tue, 15 Nov 2022 12:45:26 GMT",
	} {
		name, value, _ := strings.Cut(line, ": ")
		h.Set(name, value)
	}
	e := engine.New(engine.Config{Store: s, Forward: once{h}})
	defer e.Close()
	r := sim.Request("GET", "/1024/hot", "", "User-Agent: Mozilla/5.0", "Accept: text/html", "Accept-Encoding: gzip, br", "Accept-Language: en", "Cookie: a=b")
	w := &discard{header: make(http.Header, 16)}
	e.ServeHTTP(w, r)
	for w.header.Get("Age") == "" {
		clear(w.header)
		e.ServeHTTP(w, r)
	}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		w.n = 0
		e.ServeHTTP(w, r)
	}
	if w.status != 200 || !strings.Contains(w.header.Get("Cache-Status"), "hit") {
		b.Fatalf("not a hit: %d %v", w.status, w.header)
	}
}
