package larder_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/larderhq/larder"
)

// sink is a ResponseWriter that costs nothing.
type sink struct{ h http.Header }

func (s sink) Header() http.Header         { return s.h }
func (s sink) Write(p []byte) (int, error) { return len(p), nil }
func (s sink) WriteHeader(int)             {}

// canned answers as a hit does.
var canned = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h["Cache-Control"], h["Content-Type"] = []string{"max-age=100000"}, []string{"text/plain"}
	_, _ = w.Write(kibibyte)
})

var kibibyte = []byte(strings.Repeat("x", 1<<10))

// BenchmarkHandler is a hit of 1 KiB through the middleware, beside calling the handler
// directly: the difference is what the cache costs.
func BenchmarkHandler(b *testing.B) {
	var cache larder.Cache
	defer cache.Close()
	for _, c := range []struct {
		name string
		h    http.Handler
	}{{"next", canned}, {"hit", cache.Handler(canned)}} {
		b.Run(c.name, func(b *testing.B) {
			r := httptest.NewRequest(http.MethodGet, "http://example.org/a", nil)
			r.Header.Set("Accept", "*/*")
			w := sink{http.Header{}}
			c.h.ServeHTTP(w, r)
			b.ReportAllocs()
			for b.Loop() {
				clear(w.h)
				c.h.ServeHTTP(w, r)
			}
			if c.name == "hit" && !strings.Contains(w.h.Get("Cache-Status"), "; hit") {
				b.Fatalf("no hit: %q", w.h)
			}
		})
	}
}

// BenchmarkTransport is a hit of 1 KiB through a transport.
func BenchmarkTransport(b *testing.B) {
	var cache larder.Cache
	defer cache.Close()
	t := cache.Transport(roundTripper(func(r *http.Request) (*http.Response, error) {
		w := httptest.NewRecorder()
		canned(w, r)
		return w.Result(), nil
	}))
	r, _ := http.NewRequest(http.MethodGet, "http://example.org/a", nil)
	b.ReportAllocs()
	buf := make([]byte, 2<<10)
	for b.Loop() {
		res, err := t.RoundTrip(r)
		if err != nil {
			b.Fatal(err)
		}
		for err == nil {
			_, err = res.Body.Read(buf)
		}
		res.Body.Close()
	}
}
