package engine_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/rules"
	"github.com/larderhq/larder/internal/sim"
)

// ways of caches to take request directives.
var (
	ignoring  = rules.Terms{Requests: rules.IgnoreRequests}
	loadSafe  = rules.Terms{}
	honoring  = rules.Terms{Requests: rules.HonorRequests}
	privately = rules.Terms{Private: true}
)

// A directed is a request for a page that was stored with directives, so long ago,
// and what is to become of it. The origin would confirm the page.
type directed struct {
	terms   rules.Terms
	stored  string
	age     time.Duration
	request []string
	want    string // hit, a fwd, or 504
}

func (c directed) run(t *testing.T) {
	t.Helper()
	t.Run(fmt.Sprint(c.terms.Requests, c.terms.Private, " ", c.stored, " at ", c.age, c.request), func(t *testing.T) {
		sim.RunWith(t, func(conf *engine.Config) { conf.Terms = c.terms }, func(w *sim.World) {
			w.Origin(keptPage(c.stored), sim.Reply{Status: 304})
			w.Get("/a").Want(200, "page")
			w.Advance(c.age)
			a := w.Get("/a", c.request...)
			w.Settle()
			switch c.want {
			case "hit":
				a.Want(200, "page").WantHit()
				w.WantCount(1)
			case "504":
				if a.Status != http.StatusGatewayTimeout {
					t.Errorf("status %d", a.Status)
				}
				w.WantCount(1)
			default:
				a.Want(200, "page").WantMiss(c.want)
				w.WantCount(2)
				if tag := w.Last().Header.Get("If-None-Match"); tag != `"1"` {
					t.Errorf("asked with If-None-Match %q", tag)
				}
			}
		})
	})
}

func TestREQ01_IgnoredDirectivesChangeNothing(t *testing.T) {
	for _, directive := range []string{
		"Cache-Control: no-cache", "Cache-Control: max-age=0", "Cache-Control: max-age=5", "Cache-Control: min-fresh=600", "Pragma: no-cache",
		"Cache-Control: no-store", "Cache-Control: only-if-cached", "Cache-Control: max-stale=1000", "Cache-Control: stale-if-error=1000",
		"Cache-Control: no-transform",
	} {
		directed{ignoring, "max-age=60", 30 * time.Second, []string{directive}, "hit"}.run(t)
		directed{ignoring, "max-age=60", 60 * time.Second, []string{directive}, "stale"}.run(t)
		t.Run("miss "+directive, func(t *testing.T) {
			sim.RunWith(t, func(c *engine.Config) { c.Terms = ignoring }, func(w *sim.World) {
				w.Origin(minute)
				w.Get("/a", directive).Want(200, "page").WantMiss("uri-miss")
				w.Get("/a", directive).Want(200, "page").WantHit() // it was stored, no-store or not
				w.WantCount(1)
			})
		})
		t.Run("error "+directive, func(t *testing.T) {
			sim.RunWith(t, func(c *engine.Config) { c.Terms = ignoring; c.Terms.NeverStaleOnError = true }, func(w *sim.World) {
				w.Origin(minute, refusing)
				w.Get("/a")
				w.Advance(time.Minute)
				if a := w.Get("/a", directive); a.Status < 500 {
					t.Errorf("status %d: the client had stale served", a.Status)
				}
			})
		})
	}
}

func TestREQ02_NoStoreKeepsTheAnswerOut(t *testing.T) {
	for _, terms := range []rules.Terms{loadSafe, honoring, privately} {
		for _, directives := range []string{"Cache-Control: no-store", "Cache-Control: max-age=600, No-Store=x"} {
			t.Run(fmt.Sprint(terms.Requests, terms.Private, directives), func(t *testing.T) {
				sim.RunWith(t, func(c *engine.Config) { c.Terms = terms }, func(w *sim.World) {
					w.Origin(minute)
					w.Get("/a", directives).Want(200, "page").WantMiss("uri-miss")
					wantKept(t, w, "/a", 0)
					w.Get("/a").Want(200, "page").WantMiss("uri-miss")
					w.Get("/a", directives).Want(200, "page").WantHit() // what is there may serve
					w.WantCount(2)
				})
			})
		}
	}
	t.Run("not even behind a stale answer", func(t *testing.T) {
		sim.Run(t, func(w *sim.World) {
			w.Origin(keptPage("max-age=60, stale-while-revalidate=60"), sim.Reply{Header: minute.Header, Body: "secret"})
			w.Get("/a").Want(200, "page")
			w.Advance(time.Minute)
			w.Get("/a", "Cache-Control: no-store").Want(200, "page").WantHit()
			w.Settle()
			w.Get("/a").Want(200, "page").WantHit() // and not "secret"
			w.Settle()
			w.WantCount(2)
			w.Get("/a").Want(200, "secret").WantHit()
		})
	})
	t.Run("nor by another's fetch", func(t *testing.T) {
		sim.Run(t, func(w *sim.World) {
			slow := minute
			slow.Delay = time.Second
			w.Origin(slow)
			waitAll(crowd(w, 5, func(int) []string { return []string{"Cache-Control: no-store"} }))
			w.WantCount(5)
			wantKept(t, w, "/a", 0)
		})
	})
}

func TestREQ03_OnlyIfCachedNeverAsksTheOrigin(t *testing.T) {
	only := []string{"Cache-Control: only-if-cached"}
	for _, terms := range []rules.Terms{loadSafe, honoring, privately} {
		directed{terms, "max-age=60", 59 * time.Second, only, "hit"}.run(t)
		directed{terms, "max-age=60", 60 * time.Second, only, "504"}.run(t)
		directed{terms, "no-cache", 0, only, "504"}.run(t)
		directed{terms, "max-age=60, stale-while-revalidate=60", 61 * time.Second, only, "hit"}.run(t)
		directed{terms, "max-age=60", 61 * time.Second, []string{"Cache-Control: only-if-cached, max-stale=1"}, "hit"}.run(t)
		directed{terms, "max-age=60", 62 * time.Second, []string{"Cache-Control: only-if-cached, max-stale=1"}, "504"}.run(t)
	}
	directed{honoring, "max-age=60", 10 * time.Second, []string{"Cache-Control: only-if-cached, max-age=5"}, "504"}.run(t)
	directed{honoring, "max-age=60", 10 * time.Second, []string{"Cache-Control: only-if-cached, min-fresh=55"}, "504"}.run(t)
	for name, c := range map[string]struct {
		terms   rules.Terms
		method  string
		request []string
	}{
		"a miss":          {loadSafe, "GET", nil},
		"a HEAD":          {loadSafe, "HEAD", nil},
		"a guard":         {loadSafe, "GET", []string{`If-Match: "1"`}},
		"a condition":     {loadSafe, "GET", []string{`If-None-Match: "1"`}},
		"a range":         {loadSafe, "GET", []string{"Range: bytes=0-1"}},
		"ranges pass":     {rules.Terms{Ranges: rules.RangesPass}, "GET", []string{"Range: bytes=0-1"}},
		"conditions pass": {rules.Terms{PassConditionals: true}, "GET", []string{`If-None-Match: "1"`}},
	} {
		t.Run(name, func(t *testing.T) {
			sim.RunWith(t, func(conf *engine.Config) { conf.Terms = c.terms }, func(w *sim.World) {
				w.Origin(minute)
				if a := w.Do(c.method, "/a", "", append(c.request, only...)...); a.Status != http.StatusGatewayTimeout {
					t.Errorf("status %d", a.Status)
				}
				w.WantCount(0)
			})
		})
	}
	t.Run("while another asks", func(t *testing.T) {
		sim.Run(t, func(w *sim.World) {
			slow := minute
			slow.Delay = time.Second
			w.Origin(slow)
			other := w.Start("GET", "/a", "")
			w.Settle()
			if a := w.Get("/a", only...); a.Status != http.StatusGatewayTimeout {
				t.Errorf("status %d", a.Status)
			}
			other.Wait()
		})
	})
}

func TestREQ04_MaxStale(t *testing.T) {
	for _, terms := range []rules.Terms{loadSafe, honoring, privately} {
		for _, c := range []struct {
			stored  string
			age     time.Duration
			request string
			want    string
		}{
			{"max-age=60", 61 * time.Second, "max-stale", "hit"},
			{"max-age=60", 100 * time.Hour, "max-stale", "hit"},
			{"max-age=60", 90 * time.Second, "max-stale=30", "hit"},
			{"max-age=60", 91 * time.Second, "max-stale=30", "stale"},
			{"max-age=60", 60 * time.Second, "max-stale=0", "hit"},
			{"max-age=60", 61 * time.Second, "max-stale=0", "stale"},
			{"max-age=60", 61 * time.Second, "max-stale=x", "stale"},
			{"max-age=60, must-revalidate", 61 * time.Second, "max-stale", "stale"},
			{"max-age=60, no-cache", 0, "max-stale", "stale"},
		} {
			directed{terms, c.stored, c.age, []string{"Cache-Control: " + c.request}, c.want}.run(t)
		}
	}
	for _, directives := range []string{"max-age=60, proxy-revalidate", "s-maxage=60"} {
		directed{loadSafe, directives, 61 * time.Second, []string{"Cache-Control: max-stale"}, "stale"}.run(t)
	}
	directed{privately, "max-age=60, proxy-revalidate", 61 * time.Second, []string{"Cache-Control: max-stale"}, "hit"}.run(t)
}

func TestREQ05_ClientsCannotForceTraffic(t *testing.T) {
	for _, request := range [][]string{
		{"Cache-Control: no-cache"},
		{"Cache-Control: max-age=0"},
		{"Cache-Control: max-age=1"},
		{"Cache-Control: min-fresh=600"},
		{"Pragma: no-cache"},
		{"Cache-Control: no-cache, no-store, max-age=0, min-fresh=99", "Pragma: no-cache"},
		{"Cache-Control: stale-if-error=0"},
	} {
		directed{loadSafe, "max-age=60", 59 * time.Second, request, "hit"}.run(t)
	}
	t.Run("nor by many at once", func(t *testing.T) {
		sim.Run(t, func(w *sim.World) {
			slow := minute
			slow.Delay = time.Second
			w.Origin(slow)
			waitAll(crowd(w, 50, func(i int) []string {
				return []string{"Cache-Control: " + []string{"no-cache", "max-age=0", "min-fresh=100"}[i%3]}
			}))
			w.WantCount(1)
		})
	})
}

func TestREQ06_HonoredNoCacheValidates(t *testing.T) {
	for _, terms := range []rules.Terms{honoring, privately} {
		directed{terms, "max-age=60", time.Second, []string{"Cache-Control: no-cache"}, "request"}.run(t)
		directed{terms, "max-age=60", time.Second, []string{"Cache-Control: NO-CACHE=x"}, "request"}.run(t)
		directed{terms, "max-age=60", time.Second, []string{"Cache-Control: no-cache, max-stale"}, "request"}.run(t)
		t.Run("changed", func(t *testing.T) {
			sim.RunWith(t, func(c *engine.Config) { c.Terms = terms }, func(w *sim.World) {
				w.Origin(minute, sim.Reply{Header: minute.Header, Body: "new"})
				w.Get("/a").Want(200, "page")
				w.Get("/a", "Cache-Control: no-cache").Want(200, "new").WantMiss("request")
				w.Get("/a").Want(200, "new").WantHit()
			})
		})
	}
}

func TestREQ07_HonoredMaxAgeAndMinFresh(t *testing.T) {
	for _, terms := range []rules.Terms{honoring, privately} {
		for _, c := range []struct {
			age     time.Duration
			request string
			want    string
		}{
			{10 * time.Second, "max-age=10", "hit"},
			{11 * time.Second, "max-age=10", "request"},
			{0, "max-age=0", "hit"}, // no older than that
			{time.Second, "max-age=0", "request"},
			{0, "max-age=x", "hit"},
			{time.Second, "max-age=x", "request"},
			{10 * time.Second, "max-age=99999999999", "hit"},
			{30 * time.Second, "min-fresh=30", "hit"},
			{31 * time.Second, "min-fresh=30", "request"},
			{0, "min-fresh=60", "hit"},
			{0, "min-fresh=61", "request"},
			{20 * time.Second, "max-age=30, min-fresh=50", "request"},
			{70 * time.Second, "max-age=100", "stale"}, // old enough for itself
			{70 * time.Second, "max-age=100, max-stale=10", "hit"},
			{70 * time.Second, "max-age=60, max-stale=10", "request"},
		} {
			directed{terms, "max-age=60", c.age, []string{"Cache-Control: " + c.request}, c.want}.run(t)
		}
		t.Run("received Age", func(t *testing.T) {
			sim.RunWith(t, func(c *engine.Config) { c.Terms = terms }, func(w *sim.World) {
				aged := keptPage("max-age=60")
				aged.Header = append(aged.Header, "Age: 30")
				w.Origin(aged, sim.Reply{Status: 304, Header: []string{"Age: 40"}})
				w.Get("/a").Want(200, "page")
				w.Get("/a", "Cache-Control: max-age=30").WantHit()
				w.Get("/a", "Cache-Control: min-fresh=30").WantHit()
				w.Get("/a", "Cache-Control: max-age=29").WantMiss("request")
				w.Get("/a", "Cache-Control: min-fresh=21").WantMiss("request")
			})
		})
	}
}

func TestREQ08_HonoredPragma(t *testing.T) {
	for _, terms := range []rules.Terms{honoring, privately} {
		for _, c := range []struct {
			request []string
			want    string
		}{
			{[]string{"Pragma: no-cache"}, "request"},
			{[]string{"Pragma: No-Cache"}, "request"},
			{[]string{"Pragma: x, no-cache"}, "request"},
			{[]string{"Pragma: x"}, "hit"},
			{[]string{"Pragma: no-store"}, "hit"},
			{[]string{`Pragma: x="no-cache"`}, "hit"},
			{[]string{"Pragma: no-cache", "Cache-Control: max-age=600"}, "hit"},
			{[]string{"Pragma: no-cache", "Cache-Control: x"}, "hit"},
		} {
			directed{terms, "max-age=60", time.Second, c.request, c.want}.run(t)
		}
	}
}

func TestREQ09_HonoredStaleIfError(t *testing.T) {
	for _, c := range []struct {
		name    string
		terms   rules.Terms
		stored  string
		request string
		age     time.Duration
		reply   sim.Reply
		stale   bool
	}{
		{"permits", honoring, "max-age=60", "stale-if-error=30", 89 * time.Second, refusing, true},
		{"a status", honoring, "max-age=60", "stale-if-error=30", 89 * time.Second, sim.Reply{Status: 503}, true},
		{"not a 404", honoring, "max-age=60", "stale-if-error=30", 89 * time.Second, sim.Reply{Status: 404}, false},
		{"is over", honoring, "max-age=60", "stale-if-error=30", 90 * time.Second, refusing, false},
		{"in private", privately, "max-age=60", "stale-if-error=30", 89 * time.Second, refusing, true},
		{"within what forbids", honoring, "max-age=60, must-revalidate", "stale-if-error=30", 61 * time.Second, refusing, false},
		{"not at load-safe", loadSafe, "max-age=60", "stale-if-error=30", 61 * time.Second, refusing, false},
		{"for that request only", honoring, "max-age=60", "x", 61 * time.Second, refusing, false},
		{"beyond the response's", honoring, "max-age=60, stale-if-error=1", "stale-if-error=30", 70 * time.Second, refusing, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			sim.RunWith(t, func(conf *engine.Config) { conf.Terms = c.terms; conf.Terms.NeverStaleOnError = true }, func(w *sim.World) {
				w.Origin(keptPage(c.stored), c.reply)
				w.Get("/a").Want(200, "page")
				w.Advance(c.age)
				a := w.Get("/a", "Cache-Control: "+c.request)
				if stale := a.Status == 200 && a.Body() == "page"; stale != c.stale {
					t.Errorf("status %d, body %q", a.Status, a.Body())
				}
			})
		})
	}
}

func TestREQ10_ClientReload(t *testing.T) {
	for _, level := range []rules.RequestSet{rules.LoadSafe, rules.IgnoreRequests, rules.HonorRequests} {
		terms := rules.Terms{Requests: level, ClientReload: true}
		for _, request := range []string{"Cache-Control: no-cache", "Cache-Control: max-age=0", "Pragma: no-cache"} {
			directed{terms, "max-age=60", time.Second, []string{request}, "request"}.run(t)
		}
		directed{terms, "max-age=60", time.Second, []string{"Cache-Control: x"}, "hit"}.run(t)
	}
	t.Run("refreshes", func(t *testing.T) {
		sim.RunWith(t, func(c *engine.Config) { c.Terms.ClientReload = true }, func(w *sim.World) {
			w.Origin(minute, sim.Reply{Header: minute.Header, Body: "new"})
			w.Get("/a").Want(200, "page")
			w.Get("/a", "Cache-Control: no-cache").Want(200, "new")
			w.Get("/a").Want(200, "new").WantHit()
			w.WantCount(2)
		})
	})
}
