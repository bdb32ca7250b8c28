package larder_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/andybalholm/brotli"

	"github.com/larderhq/larder"
)

// One compression for each coding, however clients write what they accept; ranges,
// conditions and validations are about what was sent.
func TestCompress(t *testing.T) {
	text := strings.Repeat("the quick brown fox jumps over the lazy dog; ", 500)
	var calls atomic.Int64
	s := serve(t, &larder.Cache{Compress: true}, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("ETag", `"1"`)
		switch {
		case r.URL.Path == "/coded":
			w.Header().Set("Content-Encoding", "x")
		case r.Header.Get("If-None-Match") == `"1"`:
			w.WriteHeader(http.StatusNotModified)
			return
		case r.URL.Path == "/stale":
			w.Header().Set("Cache-Control", "max-age=0")
		}
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, text)
	})
	c := plainClient(t)
	var coded string
	for _, accepted := range []string{"br", "gzip, br", "gzip;q=0.5, br;q=0.9", "br, zstd, gzip"} {
		res, content := ask(t, c, "GET", s.URL+"/a", "Accept-Encoding: "+accepted)
		decoded, err := io.ReadAll(brotli.NewReader(strings.NewReader(content)))
		if err != nil || string(decoded) != text || res.Header.Get("Etag") != `W/"1-br"` || res.Header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%s: %d octets, %v, %q", accepted, len(content), err, res.Header)
		}
		coded = content
	}
	if calls.Load() != 1 || len(coded) > len(text)/10 {
		t.Errorf("asked %d times for %d octets", calls.Load(), len(coded))
	}
	for _, lines := range [][]string{nil, {"Accept-Encoding: identity"}, {"Accept-Encoding: deflate"}, {"Accept-Encoding: br", "Cache-Control: no-transform"}} {
		if res, content := ask(t, c, "GET", s.URL+"/a", lines...); content != text || res.Header.Get("Content-Encoding") != "" || res.Header.Get("Etag") != `"1"` {
			t.Errorf("%q: %q", lines, res.Header)
		}
	}
	if got := calls.Load(); got != 2 {
		t.Errorf("asked %d times for two forms", got)
	}
	if res, content := ask(t, c, "GET", s.URL+"/a", "Accept-Encoding: br", "Range: bytes=10-19"); res.StatusCode != 206 || content != coded[10:20] {
		t.Errorf("range: %s, %q", res.Status, content)
	}
	if res, _ := ask(t, c, "GET", s.URL+"/a", "Accept-Encoding: br", `If-None-Match: W/"1-br"`); res.StatusCode != 304 {
		t.Errorf("condition: %s", res.Status)
	}
	for i := range 2 { // the second is a validation by the origin's own tag
		res, content := ask(t, c, "GET", s.URL+"/stale", "Accept-Encoding: gzip")
		if res.StatusCode != 200 || res.Header.Get("Content-Encoding") != "gzip" || len(content) > len(text)/10 {
			t.Errorf("stale, %d: %s, %d octets, %q", i, res.Status, len(content), res.Header)
		}
	}
	if res, content := ask(t, c, "GET", s.URL+"/coded", "Accept-Encoding: br"); content != text || fmt.Sprint(res.Header["Content-Encoding"]) != "[x]" {
		t.Errorf("what was coded: %q", res.Header)
	}
}
