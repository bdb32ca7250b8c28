package larder_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larderhq/larder"
)

// shop has templates and fragments: /page includes what its query says, one path each
// line, /slow/N takes 20 ms.
func shop(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/html")
	h.Set("Cache-Control", "max-age=60")
	switch path := r.URL.Path; {
	case strings.HasPrefix(path, "/page"):
		h.Set("Surrogate-Control", `content="ESI/1.0"`)
		h.Set("ETag", `"template"`)
		h.Set("Last-Modified", "Sat, 01 Jan 2000 00:00:00 GMT")
		h.Set("Expires", "Sat, 01 Jan 2050 00:00:00 GMT")
		for src := range strings.SplitSeq(r.URL.RawQuery, ",") {
			fmt.Fprintf(w, `[<esi:include src="%s"/>]`, src)
		}
		if path == "/page/user" {
			io.WriteString(w, `<esi:vars>$(HTTP_COOKIE{name}) $(HTTP_COOKIE{secret})</esi:vars>`)
		}
	case strings.HasPrefix(path, "/slow/"):
		time.Sleep(20 * time.Millisecond)
		io.WriteString(w, path)
	case path == "/who":
		h.Set("Cache-Control", "private")
		fmt.Fprintf(w, "%s %s %q", r.Header.Get("Cookie"), r.Host, r.Header["Range"])
	case path == "/fails":
		h.Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusServiceUnavailable)
	default:
		io.WriteString(w, path)
	}
}

var esiOn = larder.Policy{ESI: &larder.ESI{Cookies: []string{"name"}, Hosts: []string{"Other.example"}}}

func TestESI(t *testing.T) {
	before := slog.Default()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	defer slog.SetDefault(before)
	inWorld(t, esiOn, shop, func(w *world, _ *larder.Cache) {
		for name, c := range map[string]struct {
			target string
			lines  []string
			status int
			body   string
		}{
			"includes":       {"/page?/a,/b", nil, 200, "[/a][/b]"},
			"conditions":     {"/page?/a,/b", []string{`If-None-Match: "template"`, "If-Modified-Since: Sat, 01 Jan 2000 00:00:00 GMT"}, 200, "[/a][/b]"},
			"a range":        {"/page?/a,/b", []string{"Range: bytes=2-3"}, 200, "[/a][/b]"},
			"no range":       {"/page?/a,/b", []string{"Range: bytes=2000-"}, 200, "[/a][/b]"},
			"nested":         {"/page?/page/in?/a", nil, 200, "[[/a]]"},
			"own fields":     {"/page?/who", []string{"Cookie: a=1", "Range: bytes=0-0"}, 200, "[a=1 h []]"},
			"other host":     {"/page?http://other.example/who", []string{"Cookie: a=1"}, 200, "[ other.example []]"},
			"refused host":   {"/page?http://evil.example/who", nil, 502, "502 Bad Gateway: the page cannot be assembled\n"},
			"fails":          {"/page?/fails", nil, 502, "502 Bad Gateway: the page cannot be assembled\n"},
			"itself":         {"/page?/page?/a", nil, 200, "[[/a]]"},
			"named cookie":   {"/page/user?/a", []string{"Cookie: name=x<y; secret=z"}, 200, "[/a]x&lt;y "},
			"what asks not":  {"/plain", nil, 200, "/plain"},
			"another cookie": {"/page/user?/a", []string{"Cookie: name=other"}, 200, "[/a]other "},
		} {
			for range 2 { // not kept, and kept
				a := w.get("http://h"+c.target, c.lines...)
				if a.Code != c.status || a.Body.String() != c.body {
					t.Errorf("%s: %d %q, want %d %q", name, a.Code, a.Body, c.status, c.body)
				}
				if !strings.HasPrefix(c.target, "/page") || c.status != 200 {
					continue
				}
				for _, field := range []string{"Etag", "Last-Modified", "Expires", "Age", "Content-Length", "Surrogate-Control", "Content-Range"} {
					if lines := a.Header()[field]; lines != nil {
						t.Errorf("%s: the page has %s: %q", name, field, lines)
					}
				}
				if got := a.Header().Get("Cache-Control"); got != "private, no-cache" {
					t.Errorf("%s: Cache-Control: %s", name, got)
				}
			}
		}
	})
}

func TestESILeavesOthersAlone(t *testing.T) {
	inWorld(t, esiOn, shop, func(w *world, _ *larder.Cache) {
		w.get("http://h/plain")
		if a := w.get("http://h/plain", "Range: bytes=1-2"); a.Code != 206 || a.Body.String() != "pl" || a.Header().Get("Age") == "" {
			t.Errorf("%d %q, %q", a.Code, a.Body, a.Header())
		}
	})
}

func TestESIOffPassesTemplatesOn(t *testing.T) {
	inWorld(t, larder.Policy{}, shop, func(w *world, _ *larder.Cache) {
		if a := w.get("http://h/page?/a"); a.Body.String() != `[<esi:include src="/a"/>]` || a.Header().Get("Etag") == "" {
			t.Errorf("%q, %q", a.Body, a.Header())
		}
	})
}

func TestESICapabilityIsTold(t *testing.T) {
	for want, p := range map[string]larder.Policy{
		"": {}, `larder="ESI/1.0"`: {ESI: &larder.ESI{}}, `larder="Surrogate/1.0 ESI/1.0"`: {ESI: &larder.ESI{}, Surrogate: true},
	} {
		inWorld(t, p, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Header.Get("Surrogate-Capability")) }, func(w *world, _ *larder.Cache) {
			if got := w.get("http://h/").Body.String(); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

// A page that cannot be begun is an error; one that breaks later is broken off.
func TestESIFailures(t *testing.T) {
	before := slog.Default()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	defer slog.SetDefault(before)
	next := func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/broken": // a template that breaks off
			w.Header().Set("Surrogate-Control", `content="ESI/1.0"`)
			io.WriteString(w, strings.Repeat("text", 100_000))
			panic(http.ErrAbortHandler)
		case "/first":
			w.Header().Set("Surrogate-Control", `content="ESI/1.0"`)
			w.Header().Set("ETag", `"1"`)
			io.WriteString(w, `<esi:include src="/endless"/>`)
		case "/endless":
			time.Sleep(time.Minute)
		default:
			shop(w, r)
		}
	}
	inWorld(t, larder.Policy{ESI: &larder.ESI{Time: time.Second}}, next, func(w *world, _ *larder.Cache) {
		if a := w.get("http://h/first"); a.Code != http.StatusGatewayTimeout || a.Header().Get("Proxy-Status") != "larder; error=connection_timeout" || a.Header().Get("Etag") != "" {
			t.Errorf("too slow: %d %q", a.Code, a.Header())
		}
		for _, target := range []string{"/broken", "/page?/endless"} {
			func() {
				defer func() {
					if p := recover(); p != http.ErrAbortHandler {
						t.Errorf("%s: %v", target, p)
					}
				}()
				a := w.get("http://h" + target)
				t.Errorf("%s is a page: %d, %d octets", target, a.Code, a.Body.Len())
			}()
		}
		time.Sleep(2 * time.Minute)
	})
}

// 50 fragments of 20 ms each: fetched in parallel, and then from the cache.
func TestESIFiftyFragments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		cache := larder.Cache{Policy: esiOn}
		h := cache.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { calls.Add(1); shop(w, r) }))
		defer cache.Close()
		target, want := fiftyFragments()
		for _, most := range []time.Duration{100 * time.Millisecond, 0} {
			began := time.Now()
			if got := get(h, target).Body.String(); got != want {
				t.Errorf("the page is %q", got)
			}
			if took := time.Since(began); took > most {
				t.Errorf("took %v, more than %v", took, most)
			}
			synctest.Wait()
		}
		if got := calls.Load(); got != 51 {
			t.Errorf("the handler was asked %d times", got)
		}
	})
}

func fiftyFragments() (target, page string) {
	var sources []string
	for i := range 50 {
		sources = append(sources, fmt.Sprintf("/slow/%d", i))
		page += "[" + sources[i] + "]"
	}
	return "http://h/page?" + strings.Join(sources, ","), page
}

// BenchmarkESI assembles a page of 50 fragments of 20 ms each: cold, with nothing
// kept, and warm.
func BenchmarkESI(b *testing.B) {
	target, want := fiftyFragments()
	for _, cold := range []bool{true, false} {
		b.Run(map[bool]string{true: "cold", false: "warm"}[cold], func(b *testing.B) {
			cache := larder.Cache{Policy: esiOn}
			h := cache.Handler(http.HandlerFunc(shop))
			defer cache.Close()
			for i := 0; b.Loop(); i++ {
				u := target
				page := want
				if cold {
					mark := fmt.Sprintf("/%d,", i)
					u, page = strings.ReplaceAll(u+",", ",", mark), strings.ReplaceAll(page, "]", strings.TrimSuffix(mark, ",")+"]")
					u = strings.TrimSuffix(u, ",")
				}
				if got := get(h, u).Body.String(); got != page {
					b.Fatalf("the page is %q, want %q", got, page)
				}
			}
		})
	}
}

// What a template says to caches of its lifetime is not said of the page.
func TestESIPagesAreNobodysToKeep(t *testing.T) {
	policy := larder.Policy{ESI: &larder.ESI{}, TargetedFields: []string{"my-cache", "CDN-Cache-Control"}}
	next := answer(`Surrogate-Control: max-age=3600, content="ESI/1.0"`, "CDN-Cache-Control: max-age=60", "My-Cache: max-age=60", "Other-Cache-Control: max-age=60")
	inWorld(t, policy, next, func(w *world, _ *larder.Cache) {
		for range 2 {
			h := w.get("http://h/").Header()
			for _, name := range []string{"Surrogate-Control", "Cdn-Cache-Control", "My-Cache", "Other-Cache-Control"} {
				if h[name] != nil {
					t.Errorf("the page has %s: %q", name, h[name])
				}
			}
		}
	})
}

// The status of a template is that of the page, also one that speaks of conditions.
func TestESIStatuses(t *testing.T) {
	for _, status := range []int{200, 404, 412, 416, 500} {
		next := func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Surrogate-Control", `content="ESI/1.0"`)
			w.WriteHeader(status)
			io.WriteString(w, "page<esi:remove>x</esi:remove>")
		}
		inWorld(t, esiOn, next, func(w *world, _ *larder.Cache) {
			if a := w.get("http://h/"); a.Code != status || a.Body.String() != "page" {
				t.Errorf("%d: %d %q", status, a.Code, a.Body)
			}
		})
	}
}

// Trailers of a template come when the page is being sent by somebody else.
func TestESITemplatesWithTrailers(t *testing.T) {
	s := serve(t, &larder.Cache{Policy: esiOn}, func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Surrogate-Control", `content="ESI/1.0"`)
		for i := range 100 {
			h.Set(fmt.Sprint("X-", i), "1")
		}
		io.WriteString(w, strings.Repeat("x", 17000))
		for i := range 100 {
			h.Set(http.TrailerPrefix+fmt.Sprint("X-Sum", i), "1")
		}
	})
	c := plainClient(t)
	for range 50 {
		if _, content := ask(t, c, "GET", s.URL); len(content) != 17000 {
			t.Errorf("%d octets", len(content))
		}
	}
}
