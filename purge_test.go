package larder_test

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/larderhq/larder"
	"github.com/larderhq/larder/store/blobs"
	"github.com/larderhq/larder/store/memory"
)

// labelled is a site whose pages are labelled with their paths, and count how often they
// were made.
func labelled(calls *atomic.Int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Surrogate-Key", "all page"+r.URL.Path)
		w.Header().Set("Cache-Groups", `"pages"`)
		fmt.Fprint(w, calls.Add(1))
	})
}

func TestPurgeWhere(t *testing.T) {
	for _, c := range []struct {
		selector larder.Selector
		purged   bool
	}{
		{larder.Selector{URL: "http://example.org/a/b?c"}, true},
		{larder.Selector{URL: "//example.org/a/b?c"}, true},
		{larder.Selector{URL: "/a/b?c"}, true},
		{larder.Selector{URL: "/a/b"}, false},
		{larder.Selector{URL: "https://example.org/a/b?c"}, false},
		{larder.Selector{Prefix: "http://example.org"}, true},
		{larder.Selector{Prefix: "/a/"}, true},
		{larder.Selector{Prefix: "//example.com/a"}, false},
		{larder.Selector{Glob: "/*/b"}, true},
		{larder.Selector{Glob: "/*/b?c*"}, true},
		{larder.Selector{Glob: "/*"}, false},
		{larder.Selector{Regex: `/b\?c$`}, true},
		{larder.Selector{Regex: `/b$`}, false},
		{larder.Selector{Tag: "all"}, true},
		{larder.Selector{Tag: "page/a/b"}, true},
		{larder.Selector{Tag: "All"}, false},
		{larder.Selector{Group: "pages", Origin: "http://example.org"}, true},
		{larder.Selector{Group: "pages", Origin: "http://example.com"}, false},
		{larder.Selector{All: true}, true},
	} {
		var calls atomic.Int64
		var cache larder.Cache
		h := cache.Handler(labelled(&calls))
		if a := get(h, "http://example.org/a/b?c"); a.Header()["Surrogate-Key"] != nil {
			t.Errorf("clients get to see %q", a.Header()["Surrogate-Key"])
		}
		if err := cache.PurgeWhere(t.Context(), c.selector); err != nil {
			t.Error(err)
		}
		got, want := get(h, "http://example.org/a/b?c").Body.String(), "1"
		if c.purged {
			want = "2"
		}
		if got != want {
			t.Errorf("%+v: got %s, want %s", c.selector, got, want)
		}
		cache.Close()
	}
}

// A touch has nobody wait, and asks the origin once.
func TestTouchWhere(t *testing.T) {
	var calls atomic.Int64
	var cache larder.Cache
	made, asked := labelled(&calls), make(chan struct{}, 8)
	h := cache.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		made.ServeHTTP(w, r)
	}))
	get(h, "http://example.org/a")
	<-asked
	if err := cache.TouchWhere(t.Context(), larder.Selector{Tag: "all"}); err != nil {
		t.Error(err)
	}
	if got := get(h, "http://example.org/a"); got.Body.String() != "1" {
		t.Errorf("it waited, and got %s", got.Body)
	}
	<-asked
	cache.Close()
	if len(asked) > 0 {
		t.Error("the origin was asked more than once")
	}
}

func TestPurgeOfNothing(t *testing.T) {
	var calls atomic.Int64
	var cache larder.Cache
	defer cache.Close()
	h := cache.Handler(labelled(&calls))
	get(h, "http://example.org/a")
	for _, bad := range [][]larder.Selector{
		nil,
		{{}},
		{{Prefix: "/"}},
		{{Regex: "("}},
		{{Regex: ".*"}},
		{{Glob: "/**"}},
		{{Glob: "["}},
		{{URL: "ftp://a/"}},
		{{Tag: "a", All: true}},
		{{Group: "g"}},
		{{Tag: "page/a"}, {Tag: "\x00"}},
	} {
		if err := cache.PurgeWhere(t.Context(), bad...); err == nil {
			t.Errorf("%+v was purged", bad)
		}
	}
	if got := get(h, "http://example.org/a").Body.String(); got != "1" {
		t.Error("something was purged")
	}
}

// What was purged in a Store is purged for all who share it, and for who comes later.
func TestPurgeOfAStore(t *testing.T) {
	kept, calls := memory.New(memory.Options{Budget: 16 << 20}), atomic.Int64{}
	defer kept.Close()
	one, other := larder.Cache{Store: kept}, larder.Cache{Store: kept}
	a, b := one.Handler(labelled(&calls)), other.Handler(labelled(&calls))
	get(a, "http://example.org/a")
	get(b, "http://example.org/b")
	for _, h := range []http.Handler{a, b} {
		if x, y := get(h, "http://example.org/a").Body.String(), get(h, "http://example.org/b").Body.String(); x != "1" || y != "2" {
			t.Fatalf("they do not share: %s %s", x, y)
		}
	}
	if err := one.PurgeWhere(t.Context(), larder.Selector{Tag: "all"}); err != nil {
		t.Fatal(err)
	}
	one.Close()
	if x, y := get(b, "http://example.org/a").Body.String(), get(b, "http://example.org/b").Body.String(); x != "3" || y != "4" {
		t.Errorf("the other has %s and %s still", x, y)
	}
	other.Close()
}

// A Store that cannot show what it keeps forgets URLs for all, and says so of the rest.
func TestPurgeOfAStoreThatCannotBeGoneThrough(t *testing.T) {
	kept, calls := blobs.New(&values{}, blobs.Options{}), atomic.Int64{}
	defer kept.Close()
	cache := larder.Cache{Store: kept}
	h := cache.Handler(labelled(&calls))
	get(h, "http://example.org/a")
	if err := cache.PurgeWhere(t.Context(), larder.Selector{URL: "http://example.org/a"}); err != nil {
		t.Error(err)
	}
	cache.Close()
	cache = larder.Cache{Store: kept}
	defer cache.Close()
	h = cache.Handler(labelled(&calls))
	if got := get(h, "http://example.org/a").Body.String(); got != "2" {
		t.Errorf("the next one has %s", got)
	}
	if err := cache.PurgeWhere(t.Context(), larder.Selector{Tag: "all"}); err == nil {
		t.Error("it is said to have forgotten what it cannot find")
	}
	if got := get(h, "http://example.org/a").Body.String(); got != "3" {
		t.Errorf("this process has %s still", got)
	}
}
