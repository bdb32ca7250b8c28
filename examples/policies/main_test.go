package main

import (
	"net/http"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larderhq/larder/examples/internal/ask"
)

func TestPolicies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // ages are exact here, and time passes at once
		cache := newCache()
		defer cache.Close()
		h := handler(cache)
		ask.Want(t, ask.Get(h, "/shop/"), 200, "price list 1 in CHF\n", "fwd=uri-miss; ttl=10; stored")
		ask.Want(t, ask.Get(h, "/shop/", "Cookie: session=7"), 200, "price list 1 in CHF\n", "; hit;")
		ask.Want(t, ask.Get(h, "/shop/", "Cookie: session=7; currency=EUR"), 200, "price list 2 in EUR\n", "fwd=vary-miss")
		ask.Want(t, ask.Get(h, "/assets/site.css"), 200, "/* site.css */\n", "fwd=uri-miss; ttl=3600; stored")
		ask.Want(t, ask.Get(h, "/assets/site.css"), 200, "/* site.css */\n", "; hit;")
		ask.Want(t, ask.Get(h, "/other"), 404, "404 page not found\n", "fwd=uri-miss")
	})
}

// Within Grace everybody gets the old price at once, and one request makes the new.
func TestGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cache := newCache()
		defer cache.Close()
		h := handler(cache)
		ask.Get(h, "/shop/")
		time.Sleep(15 * time.Second)
		ask.Want(t, ask.Get(h, "/shop/"), 200, "price list 1 in CHF\n", "; hit; ttl=-5")
		synctest.Wait() // for the refresh in the background
		ask.Want(t, ask.Get(h, "/shop/"), 200, "price list 2 in CHF\n", "; hit; ttl=10")
	})
}

func TestTouch(t *testing.T) {
	t.Setenv("ADMIN_TOKEN", "secret")
	synctest.Test(t, func(t *testing.T) {
		cache := newCache()
		defer cache.Close()
		h := handler(cache)
		touch := func(uri, token string, code int) {
			t.Helper()
			got := ask.Send(h, http.MethodPost, "/admin/touch?uri="+url.QueryEscape(uri), "Authorization: Bearer "+token)
			if got.Code != code || got.Cache != "" {
				t.Errorf("touch %q: %+v, want %d", uri, got, code)
			}
		}
		ask.Get(h, "/shop/")
		touch(ask.Site+"/shop/", "guess", 401)
		touch("/shop/", "secret", 400) // is not absolute
		touch(ask.Site+"/shop/", "secret", 200)
		ask.Want(t, ask.Get(h, "/shop/"), 200, "price list 1 in CHF\n", "; hit;")
		synctest.Wait()
		ask.Want(t, ask.Get(h, "/shop/"), 200, "price list 2 in CHF\n", "; hit;")
	})
}
