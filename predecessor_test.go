package larder_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/larderhq/larder"
)

// What repoze.accelerator, from whose notes policies came, did wrong.
func TestDefectsOfThePredecessor(t *testing.T) {
	for name, c := range map[string]struct {
		answer     []string
		one, other []string
		asked      int64
	}{
		"private with max-age is kept":                {[]string{"Cache-Control: private, max-age=60"}, nil, nil, 2},
		"no-store with max-age is kept":               {[]string{"Cache-Control: no-store, max-age=60"}, nil, nil, 2},
		"public with Expires is refused":              {[]string{"Cache-Control: public", "Expires: Sat, 01 Jan 2050 00:00:00 GMT"}, nil, nil, 1},
		"max-age=0 is kept":                           {[]string{"Cache-Control: max-age=0"}, nil, nil, 2},
		"max-age=x is kept":                           {[]string{"Cache-Control: max-age=x"}, nil, nil, 2},
		"max-age does not go before Expires":          {[]string{"Cache-Control: max-age=60", "Expires: Sat, 01 Jan 2000 00:00:00 GMT"}, nil, nil, 1},
		"an invalid Expires is none":                  {[]string{"Expires: 0", "Last-Modified: Fri, 01 Jan 1999 00:00:00 GMT"}, nil, nil, 2},
		"no-cache is kept":                            {[]string{"Cache-Control: no-cache, max-age=60"}, nil, nil, 2},
		"Vary: * is kept":                             {[]string{"Cache-Control: max-age=60", "Vary: *"}, nil, nil, 2},
		"a field that was absent matches every other": {[]string{"Cache-Control: max-age=60", "Vary: X-A"}, nil, []string{"X-A: 1"}, 2},
		"no-cache is looked for as a part of a word":  {[]string{"Cache-Control: max-age=60, x-no-cache"}, nil, nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, larder.Policy{}, answer(c.answer...), func(w *world, _ *larder.Cache) {
				if got := w.asked(c.one, c.other); got != c.asked {
					t.Errorf("the handler was asked %d times, want %d", got, c.asked)
				}
			})
		})
	}
	t.Run("what is never served is kept", func(t *testing.T) {
		inWorld(t, larder.Policy{}, answer("X: y"), func(w *world, _ *larder.Cache) {
			if got := w.get("http://h/").Header().Get("Cache-Status"); strings.Contains(got, "stored") {
				t.Errorf("Cache-Status: %s", got)
			}
		})
	})
	t.Run("an arbitrary variant is picked", func(t *testing.T) {
		vary := func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("Vary", "X-A, X-B")
			fmt.Fprint(w, r.Header["X-A"], r.Header["X-B"])
		}
		inWorld(t, larder.Policy{}, vary, func(w *world, _ *larder.Cache) {
			for range 2 {
				for _, lines := range [][]string{nil, {"X-A: 1"}, {"X-B: 1"}, {"X-A: 1", "X-B: 1"}, {"X-A: "}} {
					var a, b []string
					for _, line := range lines {
						name, value, _ := strings.Cut(line, ": ")
						*map[string]*[]string{"X-A": &a, "X-B": &b}[name] = []string{value}
					}
					if got, want := w.get("http://h/", lines...).Body.String(), fmt.Sprint(a, b); got != want {
						t.Errorf("%q gets %s, want %s", lines, got, want)
					}
				}
			}
			if got := w.calls.Load(); got != 5 {
				t.Errorf("asked %d times", got)
			}
		})
	})
	t.Run("repeated and hop-by-hop fields", func(t *testing.T) {
		lines := []string{"Cache-Control: max-age=60", "Set-Cookie: a=1", "Set-Cookie: b=2", "Link: <a>", "Link: <b>", "Connection: X-Hop", "X-Hop: 1", "Keep-Alive: 5", "Proxy-Connection: x"}
		inWorld(t, larder.Policy{}, answer(lines...), func(w *world, _ *larder.Cache) {
			w.get("http://h/")
			h := w.get("http://h/").Header()
			if fmt.Sprint(h["Set-Cookie"], h["Link"]) != "[a=1 b=2] [<a> <b>]" {
				t.Errorf("Set-Cookie %q, Link %q", h["Set-Cookie"], h["Link"])
			}
			for _, name := range []string{"Connection", "X-Hop", "Keep-Alive", "Proxy-Connection"} {
				if h[name] != nil {
					t.Errorf("%s came from the cache: %q", name, h[name])
				}
			}
		})
	})
	t.Run("no bound and no eviction", func(t *testing.T) {
		var cache larder.Cache
		cache.Memory = 4 << 20
		defer cache.Close()
		large := bytes.Repeat([]byte("x"), 100_000)
		h := cache.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60")
			w.Write(large)
		}))
		hits := 0
		for range 2 {
			for i := range 200 {
				if strings.Contains(get(h, fmt.Sprintf("http://h/%d", i)).Header().Get("Cache-Status"), "; hit") {
					hits++
				}
			}
		}
		if hits*len(large) > 4<<20 {
			t.Errorf("%d hits: more than 4 MiB were kept", hits)
		}
	})
	t.Run("no invalidation by writes", func(t *testing.T) {
		inWorld(t, larder.Policy{}, answer("Cache-Control: max-age=60"), func(w *world, _ *larder.Cache) {
			w.get("http://h/")
			for i, method := range []string{"POST", "PUT", "DELETE", "PATCH"} {
				w.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, "http://h/", nil))
				w.get("http://h/")
				if got := w.calls.Load(); got != int64(3+2*i) {
					t.Errorf("after %s: asked %d times", method, got)
				}
			}
		})
	})
}

func TestLog(t *testing.T) {
	var logged strings.Builder
	cache := larder.Cache{Log: slog.New(slog.NewTextHandler(&logged, nil)), Explain: true}
	defer cache.Close()
	h := cache.Handler(answer("Cache-Control: max-age=60"))
	for _, want := range []string{
		`msg=request method=GET host=example.org target=http://example.org/a?b status=200 octets=4`,
		`cache="larder; hit; ttl=`, // 60, or a moment less
	} {
		a := get(h, "http://example.org/a?b")
		if !strings.Contains(logged.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, &logged)
		}
		if got := a.Header().Get("Cache-Status"); !strings.Contains(got, `key="http://example.org/a?b"`) {
			t.Errorf("Explain: %s", got)
		}
	}
}
