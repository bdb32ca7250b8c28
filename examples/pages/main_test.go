package main

import (
	"strings"
	"testing"

	"github.com/larderhq/larder/examples/internal/ask"
)

const news = "<p>The news.</p>\n"

func TestFetch(t *testing.T) {
	cache := newCache()
	defer cache.Close()
	h := handler(cache)
	for _, of := range []string{"fwd=uri-miss", "; hit;"} {
		page := ask.Get(h, "/") // is made each time, of a part that is kept
		ask.Want(t, page, 200, page.Body, "fwd=uri-miss")
		if !strings.Contains(page.Body, of) || !strings.HasSuffix(page.Body, news) {
			t.Errorf("got %q, want news with %s", page.Body, of)
		}
	}
	ask.Want(t, ask.Get(h, "/news"), 200, news, "; hit;")
}

func TestESI(t *testing.T) {
	cache := newCache()
	defer cache.Close()
	h := handler(cache)
	ask.Want(t, ask.Get(h, "/esi"), 200, "<h1>Hello</h1>\n"+news, "fwd=uri-miss")
	ask.Want(t, ask.Get(h, "/esi"), 200, "<h1>Hello</h1>\n"+news, "; hit;")
	ask.Want(t, ask.Get(h, "/news"), 200, news, "; hit;") // is kept by itself
}
