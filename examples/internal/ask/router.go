package ask

import (
	"net/http"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/larderhq/larder"
)

// Router tests what the examples with routers have in common. handler is theirs, absent
// and refused what their router answers, with which status, to a path that is not there
// and to a POST that is not allowed.
func Router(t *testing.T, handler func(*larder.Cache) http.Handler, absent, refused Answer) {
	t.Run("hit", func(t *testing.T) {
		var cache larder.Cache
		defer cache.Close()
		h := handler(&cache)
		Want(t, Get(h, "/items/7"), 200, "item 7\n", "fwd=uri-miss")
		Want(t, Get(h, "/items/7"), 200, "item 7\n", "; hit;")
		Want(t, Get(h, "/items/8"), 200, "item 8\n", "fwd=uri-miss")
	})
	t.Run("a POST forgets", func(t *testing.T) {
		var cache larder.Cache
		defer cache.Close()
		h := handler(&cache)
		Get(h, "/items/7")
		Want(t, Send(h, http.MethodPost, "/items/7"), 204, "", "fwd=method")
		Want(t, Get(h, "/items/7"), 200, "item 7\n", "fwd=uri-miss")
	})
	// The router's own errors arrive as they are, and are not kept.
	t.Run("errors", func(t *testing.T) {
		var cache larder.Cache
		defer cache.Close()
		h := handler(&cache)
		for range 2 {
			Want(t, Get(h, "/nothing"), absent.Code, absent.Body, "fwd=uri-miss")
			Want(t, Send(h, http.MethodPost, "/countdown"), refused.Code, refused.Body, "fwd=method")
		}
	})
	// What is flushed arrives while the handler goes on.
	t.Run("stream", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var cache larder.Cache
			defer cache.Close()
			got := Stream(handler(&cache), "/countdown")
			if want := []string{"0s: 3\n", "1s: 2\n", "2s: 1\n"}; !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	})
}
