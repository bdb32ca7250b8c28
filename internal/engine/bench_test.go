package engine_test

import (
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/purge"
	"github.com/larderhq/larder/internal/sim"
	"github.com/larderhq/larder/internal/standing"
	"github.com/larderhq/larder/store"
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

// page is the head of an ordinary response.
func page() http.Header {
	h := http.Header{}
	for _, line := range []string{
		"Cache-Control: public, max-age=3600", `Etag: "v1-1024"`, "Content-Type: application/octet-stream",
		"Last-Modified: Tue, 15 Nov 2022 12:45:26 GMT",
	} {
		name, value, _ := strings.Cut(line, ": ")
		h.Set(name, value)
	}
	return h
}

// BenchmarkHit is a hit at the engine's door: no sockets, a whole response
// with its head, as a browser asks for it.
func BenchmarkHit(b *testing.B) {
	s := memory.New(memory.Options{Budget: 64 << 20})
	defer s.Close()
	e := engine.New(engine.Config{Store: s, Forward: once{page()}})
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

// BenchmarkMiss is a miss at the engine's door: the answer of an origin that takes no
// time goes to the client and into the store.
func BenchmarkMiss(b *testing.B) {
	s := memory.New(memory.Options{Budget: 256 << 20})
	defer s.Close()
	e := engine.New(engine.Config{Store: s, Forward: once{page()}, Standing: engine.Standing(nil)})
	defer e.Close()
	w := &discard{header: make(http.Header, 16)}
	r := sim.Request("GET", "/1024/", "", "User-Agent: Mozilla/5.0", "Accept: text/html")
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		clear(w.header)
		w.n = 0
		r.RequestURI = "/1024/" + strconv.Itoa(n)
		r.URL.Path = r.RequestURI
		e.ServeHTTP(w, r)
	}
	if w.status != 200 || !strings.Contains(w.header.Get("Cache-Status"), "stored") {
		b.Fatalf("not a miss: %d %v", w.status, w.header)
	}
}

// BenchmarkDecide is a decision about one of more objects than are remembered
// decoded, as a browser asks for them.
func BenchmarkDecide(b *testing.B) {
	const objects = 60_000
	s := memory.New(memory.Options{Budget: 256 << 20})
	defer s.Close()
	e := engine.New(engine.Config{Store: s, Forward: once{page()}, Standing: engine.Standing(nil)})
	defer e.Close()
	w := &discard{header: make(http.Header, 16)}
	requests := make([]*http.Request, objects)
	for i := range requests {
		r := sim.Request("GET", fmt.Sprint("/1024/", i), "", "User-Agent: Mozilla/5.0", "Accept: text/html", "Accept-Encoding: gzip, br", "Accept-Language: en", "Cookie: a=b")
		clear(w.header)
		e.ServeHTTP(w, r)
		requests[i] = r.WithContext(store.AtOnce)
	}
	var a standing.Answer
	for e.Decide(requests[objects-1], &a) != standing.Decided { // the last fetch may be under way
		runtime.Gosched()
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if n = (n + 7919) % objects; e.Decide(requests[n], &a) != standing.Decided {
			b.Fatal("nothing was decided")
		}
	}
}

// BenchmarkWalk is a soft purge by tag of many objects, gone through. Per op is per walk
// of all; per object is what counts.
func BenchmarkWalk(b *testing.B) {
	const objects = 20_000
	s := memory.New(memory.Options{Budget: 256 << 20})
	defer s.Close()
	header := page()
	header.Set("Surrogate-Key", "shoes sale item-4711")
	e := engine.New(engine.Config{Store: s, Forward: once{header}, Standing: engine.Standing(nil)})
	defer e.Close()
	w := &discard{header: make(http.Header, 16)}
	for i := range objects {
		clear(w.header)
		e.ServeHTTP(w, sim.Request("GET", fmt.Sprint("/1024/", i), ""))
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n := 0
	for b.Loop() {
		if _, err := e.Ledger.Publish(purge.Order{Selectors: []purge.Selector{{Tag: "sale"}}, Mode: purge.Refresh}); err != nil {
			b.Fatal(err)
		}
		if err := e.Walk(b.Context()); err != nil {
			b.Fatal(err)
		}
		n += objects
	}
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/float64(n), "allocs/object")
	b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/float64(n), "B/object")
}
