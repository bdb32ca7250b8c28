package daemon

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/encode"
	"github.com/larderhq/larder/internal/engine"
)

// unsized does not tell how long content is.
type unsized struct{ http.ResponseWriter }

func (w unsized) WriteHeader(status int) {
	if status == http.StatusOK {
		w.Header().Del("Content-Length")
	}
	w.ResponseWriter.WriteHeader(status)
}

// things are what an origin has: all sorts of content, validators and lifetimes.
func things() map[string]*thing {
	all := map[string]*thing{}
	for i, lifetime := range []string{"max-age=600", "max-age=0", "no-cache", "no-store", "private, max-age=60", "", "max-age=60, stale-while-revalidate=60", "s-maxage=600, max-age=1"} {
		for j, tag := range []string{`"strong"`, `W/"weak"`, ""} {
			for k, modified := range []time.Time{documentDate, {}} {
				for l, size := range []int{1, 700, 90000} {
					all[fmt.Sprintf("/%d/%d/%d/%d", i, j, k, l)] = &thing{content: contentOf(size), lifetime: lifetime, tag: tag, modified: modified}
				}
			}
		}
	}
	return all
}

// wish makes up a request for o.
func wish(random *rand.Rand, o *thing) (method string, header []string) {
	pick := func(from ...string) string { return from[random.IntN(len(from))] }
	size := len(o.content)
	at := func() int { return random.IntN(size + size/8 + 2) }
	span := func() string {
		first := at()
		return pick(fmt.Sprintf("%d-%d", first, first+at()), fmt.Sprintf("%d-", first), fmt.Sprintf("-%d", at()+1))
	}
	if method = "GET"; random.IntN(6) == 0 {
		method = "HEAD"
	}
	dates := []string{documentDate.Format(http.TimeFormat), documentDate.Add(-time.Hour).Format(http.TimeFormat)}
	tags := []string{`"strong"`, `W/"weak"`, `"weak"`, `W/"strong"`, `"other"`}
	if random.IntN(2) == 0 {
		header = append(header, "Range: bytes="+pick(span(), span(), span()+","+span(), span()+", "+span()+","+span()))
		if random.IntN(3) == 0 {
			header = append(header, "If-Range: "+pick(append(tags, dates...)...))
		}
	}
	if random.IntN(3) == 0 {
		header = append(header, "If-None-Match: "+pick(append(tags, "*", tags[0]+", "+tags[1])...))
	}
	if random.IntN(4) == 0 {
		header = append(header, "If-Modified-Since: "+pick(dates...))
	}
	if random.IntN(15) == 0 {
		header = append(header, pick("If-Match: "+pick(tags...), "If-Unmodified-Since: "+pick(dates...)))
	}
	if random.IntN(6) == 0 {
		header = append(header, "Cache-Control: "+pick("no-cache", "no-store", "max-age=0", "max-stale", "min-fresh=9"))
	}
	return method, header
}

// Thousands of random requests for things that never change get through both tiers what
// the origin itself answers: status, octets, validators and Content-Range.
func TestTiersAgreeWithTheOrigin(t *testing.T) {
	all := things()
	paths := make([]string, 0, len(all))
	for path := range all {
		paths = append(paths, path)
	}
	serve := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("unsized") {
			w = unsized{w}
		}
		all[r.URL.Path].serve(w, r)
	}
	origin, seen := serveOrigin(t, serve)
	c := newTiers(t, origin, nil)
	var clients sync.WaitGroup
	for n := range uint64(2) {
		random := rand.New(rand.NewPCG(7, n))
		clients.Go(func() {
			for i := range 1000 {
				path := paths[random.IntN(len(paths))]
				o := all[path]
				method, header := wish(random, o)
				query := []string{"", "?unsized"}[random.IntN(2)]
				r := httptest.NewRequest(method, path+query, nil)
				addTo(r.Header, header)
				w := httptest.NewRecorder()
				serve(w, r.Clone(t.Context()))
				want := answer{status: w.Code, header: w.Header(), body: w.Body.String()}
				if method == "HEAD" {
					want.body = ""
				}
				got := c.ask(c.edge.URL(), method, path+query, "", header...)
				if query != "" {
					delete(want.header, "Content-Length")
					if got.status == 200 {
						delete(got.header, "Content-Length")
					}
				}
				if why := o.agrees(r, got, want); why != "" {
					t.Errorf("client %d, request %d, %s %s%s %q (%s %s): %s; %q", n, i, method, path, query, header, o.lifetime, o.tag, why, got.header)
					return
				}
			}
		})
	}
	clients.Wait()
	if n := seen.count(); n > 1700 {
		t.Errorf("the origin was asked %d times for 2000", n)
	}
}

// The same with compression in both: the content is the same however it is coded.
func TestTiersAgreeWithTheOriginCompressed(t *testing.T) {
	all := things()
	origin, _ := serveOrigin(t, func(w http.ResponseWriter, r *http.Request) { all[r.URL.Path].serve(w, r) })
	c := newTiers(t, origin, func(edge, parent *engine.Config) {
		edge.Negotiate, parent.Negotiate = encode.Negotiate(nil), encode.Negotiate(nil)
	})
	random := rand.New(rand.NewPCG(8, 8))
	tags := map[string]string{} // the last tag of a path and a coding
	for path, o := range all {
		if len(o.content) > 1000 && o.lifetime != "no-cache" {
			continue // they cost much
		}
		for range 4 {
			accept := []string{"br", "gzip", "identity", "br, gzip"}[random.IntN(4)]
			known := tags[path+accept]
			header := []string{"Accept-Encoding: " + accept}
			if known != "" && random.IntN(2) == 0 {
				header = append(header, "If-None-Match: "+known)
			}
			a := c.get(path, header...)
			switch {
			case a.status == 304 && len(header) == 2 && a.header.Get("ETag") == known && a.body == "":
			case a.status == 200 && len(header) == 1 && a.broken == nil && uncoded(t, a) == o.content:
			default:
				t.Fatalf("%s, %q: %d, %d octets (%v), %q", path, header, a.status, len(a.body), a.broken, a.header)
			}
			tags[path+accept] = a.header.Get("ETag")
		}
	}
}
