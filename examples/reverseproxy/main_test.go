package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/larderhq/larder"
	"github.com/larderhq/larder/examples/internal/ask"
)

// before is the example before an origin of one page.
func before(t *testing.T) (h http.Handler, origin *httptest.Server) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /page", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		fmt.Fprint(w, "page of ", r.Host)
	})
	mux.HandleFunc("POST /page", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	origin = httptest.NewServer(mux)
	u, err := url.Parse(origin.URL)
	if err != nil {
		t.Fatal(err)
	}
	var cache larder.Cache
	t.Cleanup(func() { origin.Close(); cache.Close() })
	return handler(&cache, u), origin
}

func TestHit(t *testing.T) {
	h, _ := before(t)
	ask.Want(t, ask.Get(h, "/page"), 200, "page of example.org", "fwd=uri-miss")
	ask.Want(t, ask.Get(h, "/page"), 200, "page of example.org", "; hit;")
	ask.Want(t, ask.Send(h, http.MethodPost, "/page"), 204, "", "fwd=method")
	ask.Want(t, ask.Get(h, "/page"), 200, "page of example.org", "fwd=uri-miss")
}

func TestErrors(t *testing.T) {
	h, origin := before(t)
	ask.Get(h, "/page")
	ask.Want(t, ask.Get(h, "/none"), 404, "404 page not found\n", "fwd=uri-miss")
	origin.Close()
	if got := ask.Get(h, "/none"); got.Code != 502 {
		t.Errorf("without an origin: %+v", got)
	}
	ask.Want(t, ask.Get(h, "/page"), 200, "page of example.org", "; hit;")
}
