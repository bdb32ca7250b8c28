package cli

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// The story that the gateway was made for: an object in S3 is served, expires, is
// validated by a 304, and is whole then and on the next request. With Squid in it,
// bench/seed plays it.
func TestSeed_ValidatedBodiesAreWhole(t *testing.T) {
	object := bytes.Repeat([]byte("0123456789"), 50_000)
	backend := s3mem.New()
	if err := backend.CreateBucket("shop"); err != nil {
		t.Fatal(err)
	}
	if _, err := backend.PutObject("shop", "in/report.txt", map[string]string{"Content-Type": "text/plain"}, bytes.NewReader(object), int64(len(object)), nil); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var asked []string
	s3 := gofakes3.New(backend).Server()
	storage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		condition := ""
		if r.Header.Get("If-None-Match") != "" {
			condition = " if none match"
		}
		asked = append(asked, r.Method+" "+r.URL.Path+condition)
		mu.Unlock()
		s3.ServeHTTP(w, r)
	}))
	defer storage.Close()

	p := start(t, "s3://shop/in?anonymous=true&endpoint="+storage.URL, "--fresh", "*.txt=0s")
	for i, want := range []string{"fwd=uri-miss", "fwd-status=304", "fwd-status=304"} {
		resp, body := get(t, p.url+"/report.txt")
		if cs := resp.Header.Get("Cache-Status"); body != string(object) || resp.StatusCode != 200 || !strings.Contains(cs, want) {
			t.Errorf("answer %d: %d, %d octets, Cache-Status %q", i, resp.StatusCode, len(body), cs)
		}
	}
	p.stop(t)
	want := []string{"GET /shop/in/report.txt", "GET /shop/in/report.txt if none match", "GET /shop/in/report.txt if none match"}
	if got := strings.Join(asked, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("the storage was asked\n%s", got)
	}
}
