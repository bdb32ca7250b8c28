package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/larderhq/larder/examples/internal/ask"
)

// behind is the example with a module proxy that knows one module.
func behind(t *testing.T) (h http.Handler, proxy *httptest.Server) {
	mux := http.NewServeMux()
	mux.HandleFunc("/example.org/module/@v/list", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "v1.2.3\n")
	})
	proxy = httptest.NewServer(mux)
	u, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	cache := newCache()
	t.Cleanup(func() { proxy.Close(); cache.Close() })
	return handler(cache, u), proxy
}

func TestHit(t *testing.T) {
	h, _ := behind(t)
	ask.Want(t, ask.Get(h, "/example.org/module"), 200, "v1.2.3\n", "fwd=uri-miss; ttl=")
	ask.Want(t, ask.Get(h, "/example.org/module"), 200, "v1.2.3\n", "; hit;")
}

func TestErrors(t *testing.T) {
	h, proxy := behind(t)
	ask.Get(h, "/example.org/module")
	ask.Want(t, ask.Get(h, "/example.org/none"), 502, "404 Not Found\n", "fwd=uri-miss")
	proxy.Close()
	if got := ask.Get(h, "/example.org/other"); got.Code != 502 {
		t.Errorf("without a proxy: %+v", got)
	}
	ask.Want(t, ask.Get(h, "/example.org/module"), 200, "v1.2.3\n", "; hit;")
}
