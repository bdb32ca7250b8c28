package main

import (
	"net/http"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/larderhq/larder"
	"github.com/larderhq/larder/examples/internal/ask"
)

func TestHit(t *testing.T) {
	var cache larder.Cache
	defer cache.Close()
	h := handler(&cache)
	ask.Want(t, ask.Get(h, "/items/7"), 200, "item 7\n", "fwd=uri-miss")
	ask.Want(t, ask.Get(h, "/items/7"), 200, "item 7\n", "; hit;")
	ask.Want(t, ask.Get(h, "/items/8"), 200, "item 8\n", "fwd=uri-miss")
}

func TestPostForgets(t *testing.T) {
	var cache larder.Cache
	defer cache.Close()
	h := handler(&cache)
	ask.Get(h, "/items/7")
	ask.Want(t, ask.Send(h, http.MethodPost, "/items/7"), 204, "", "fwd=method")
	ask.Want(t, ask.Get(h, "/items/7"), 200, "item 7\n", "fwd=uri-miss")
}

// The router's own errors arrive as they are, and are not kept.
func TestErrors(t *testing.T) {
	var cache larder.Cache
	defer cache.Close()
	h := handler(&cache)
	for range 2 {
		ask.Want(t, ask.Get(h, "/nothing"), 404, "404 page not found\n", "fwd=uri-miss")
		ask.Want(t, ask.Send(h, http.MethodPost, "/countdown"), 405, "Method Not Allowed\n", "fwd=method")
	}
}

// What is flushed arrives while the handler goes on.
func TestStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cache larder.Cache
		defer cache.Close()
		got := ask.Stream(handler(&cache), "/countdown")
		if want := []string{"0s: 3\n", "1s: 2\n", "2s: 1\n"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}
