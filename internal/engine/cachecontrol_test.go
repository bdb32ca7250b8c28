package engine_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/rules"
	"github.com/larderhq/larder/internal/sim"
)

// What became of a response two seconds after it was received.
const (
	fresh     = "served from the store"
	validated = "kept and validated"
	absent    = "not kept"
)

// afterTwoSeconds tells what a cache makes of a response with these fields,
// which also has both validators, old enough for any heuristic.
func afterTwoSeconds(t *testing.T, terms rules.Terms, header []string, request ...string) (outcome string) {
	t.Helper()
	sim.RunWith(t, func(c *engine.Config) { c.Terms = terms }, func(w *sim.World) {
		validators := []string{`ETag: "v"`, "Last-Modified: " + sim.Date(-2400*time.Hour)}
		w.Handle(func(r *http.Request) sim.Reply {
			if r.Header.Get("If-None-Match") == `"v"` {
				return sim.Reply{Status: 304, Header: []string{`ETag: "v"`}}
			}
			return sim.Reply{Header: append(slices.Clone(header), validators...), Body: "page"}
		})
		w.Get("/", request...).Want(200, "page")
		w.Advance(2 * time.Second)
		w.Get("/", request...).Want(200, "page")
		switch {
		case w.Count() == 1:
			outcome = fresh
		case w.Last().Header.Get("If-None-Match") != "":
			outcome = validated
		default:
			outcome = absent
		}
	})
	return outcome
}

var errDown = errors.New("the origin is down")

// cacheControl maps Cache-Control, its lines parted by "|", to what becomes of
// a response with it.
type cacheControl map[string]string

func (cases cacheControl) test(t *testing.T, terms rules.Terms) {
	t.Helper()
	for value, want := range cases {
		t.Run(value, func(t *testing.T) {
			t.Helper()
			var header []string
			for line := range strings.SplitSeq(value, "|") {
				header = append(header, "Cache-Control: "+line)
			}
			if got := afterTwoSeconds(t, terms, header); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		})
	}
}

func TestCCP01_NamesIgnoreCase(t *testing.T) {
	cacheControl{"MaX-aGe=60": fresh, "max-age=60, No-StOrE": absent, "S-MAXAGE=0, max-age=60": validated}.test(t, rules.Terms{})
}

func TestCCP02_LinesAreOneList(t *testing.T) {
	cacheControl{
		"max-age=60, no-store": absent, "max-age=60|no-store": absent, "no-store|max-age=60": absent,
		"max-age=1, max-age=60": validated, "max-age=1|max-age=60": validated, "|max-age=60|": fresh,
	}.test(t, rules.Terms{})
}

func TestCCP04_QuotedTextIsNoDirective(t *testing.T) {
	cacheControl{
		`x="max-age=3600", max-age=1`: validated, `max-age=1, x="max-age=3600"`: validated,
		`x="no-store", max-age=60`: fresh, `x="a\"b, no-store, ", max-age=60`: fresh,
	}.test(t, rules.Terms{})
}

func TestCCP08_InvalidFreshnessIsKeptAndNeverReused(t *testing.T) {
	cases := cacheControl{}
	for _, arg := range []string{"", "=", "=-1", "=1.5", "=60s", "=a60", "='60'", " =60", "= 60", " = 60", "=60 60"} {
		cases["max-age"+arg] = validated
		cases["s-maxage"+arg+", max-age=60"] = validated
	}
	cases.test(t, rules.Terms{})
}

func TestCCP10_HugeLifetimes(t *testing.T) {
	for _, value := range []string{"2147483647", "2147483648", "99999999999", strings.Repeat("9", 40)} {
		t.Run(value, func(t *testing.T) {
			sim.Run(t, func(w *sim.World) {
				w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=" + value}, Body: "old"}, sim.Reply{Body: "new"})
				w.Get("/").Want(200, "old")
				w.Advance(68 * 365 * 24 * time.Hour)
				w.Get("/").Want(200, "old").WantHit()
				w.Advance(365 * 24 * time.Hour)
				w.Get("/").Want(200, "new").WantMiss("stale")
			})
			sim.Run(t, func(w *sim.World) {
				w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=" + value, "Age: " + value, `ETag: "1"`}, Body: "old"}, sim.Reply{Status: 304})
				w.Get("/").Want(200, "old")
				w.Advance(68 * 365 * 24 * time.Hour)
				w.Get("/").Want(200, "old").WantMiss("stale")
			})
		})
	}
}

func TestCCP11_DifferingDuplicates(t *testing.T) {
	cacheControl{
		"max-age=60, max-age=60": fresh, "max-age=60, max-age=3600": fresh, "max-age=3600, max-age=60": validated,
		"max-age=1, max-age=3600": validated, "s-maxage=3600, s-maxage=60, max-age=3600": validated,
		"max-age=60, max-age=x": validated,
	}.test(t, rules.Terms{})
}

func TestCCP12_MostRestrictiveWins(t *testing.T) {
	both := cacheControl{
		"public, no-store": absent, "no-store, public": absent, "max-age=60, no-cache": validated, "no-cache, max-age=60, immutable": validated,
		`max-age=60, no-cache="a", no-cache`: validated,
	}
	both.test(t, rules.Terms{})
	both.test(t, rules.Terms{Private: true})
	cacheControl{"public, private, max-age=60": absent, `max-age=60, private="a", private`: absent}.test(t, rules.Terms{})
	cacheControl{"public, private, max-age=60": fresh}.test(t, rules.Terms{Private: true})
}

func TestCCP13_NeedlessArguments(t *testing.T) {
	cacheControl{"max-age=60, no-store=1": absent, `max-age=60, no-store="x"`: absent, "public=0, immutable=0, max-age=60": fresh}.test(t, rules.Terms{})
	// must-revalidate="x" forbids what the directive forbids.
	sim.Run(t, func(w *sim.World) {
		w.Origin(sim.Reply{Header: []string{`Cache-Control: max-age=1, must-revalidate="x"`}, Body: "page"}, sim.Reply{Err: errDown})
		w.Get("/").Want(200, "page")
		w.Advance(2 * time.Second)
		if a := w.Get("/"); a.Status != 504 {
			t.Errorf("status %d, want 504", a.Status)
		}
	})
}

func TestCCP14_EmptyOrUnparsableFieldLists(t *testing.T) {
	cases := cacheControl{}
	for _, list := range []string{"=", `=""`, `=", ,"`, `="a b"`, `="a`} {
		cases["max-age=60, no-cache"+list] = validated
		cases["max-age=60, private"+list] = absent
	}
	cases.test(t, rules.Terms{})
}

func TestCCP15_FieldNamesOfLists(t *testing.T) {
	for _, directive := range []string{"no-cache=Set-Cookie", "private=Set-Cookie", `no-cache="sEt-cOOKIE"`, `private="x,SET-COOKIE"`} {
		t.Run(directive, func(t *testing.T) {
			sim.Run(t, func(w *sim.World) {
				w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=60, " + directive, "Set-Cookie: id=1", "X-Other: 2"}, Body: "page"})
				w.Get("/").Want(200, "page").WantField("Set-Cookie", "id=1")
				w.Get("/").Want(200, "page").WantHit().WantField("Set-Cookie").WantField("X-Other", "2")
			})
		})
	}
}

func TestCCP16_ForwardedAsReceived(t *testing.T) {
	lines := []string{"max-age=60 , foo=\"a, b\"", "", "NO-transform,, must-revalidate"}
	asked := []string{"max-stale=5,x", " no-transform"}
	var header, request []string
	for _, line := range lines {
		header = append(header, "Cache-Control: "+line)
	}
	for _, line := range asked {
		request = append(request, "Cache-Control: "+line)
	}
	want := []string{"max-stale=5,x", "no-transform"}
	for _, terms := range []rules.Terms{{}, {Private: true}, {Requests: rules.IgnoreRequests}, {TargetedFields: []string{"My-Control"}}} {
		sim.RunWith(t, func(c *engine.Config) { c.Terms = terms }, func(w *sim.World) {
			w.Origin(
				sim.Reply{Header: append(header, `ETag: "1"`), Body: "page"},
				sim.Reply{Status: 304, Header: []string{`ETag: "1"`}},
				sim.Reply{Header: header, Body: "posted"},
			)
			w.Get("/", request...).Want(200, "page").WantField("Cache-Control", lines...)
			w.Get("/", request...).Want(200, "page").WantHit().WantField("Cache-Control", lines...)
			w.Advance(100 * time.Second)
			w.Get("/", request...).Want(200, "page").WantMiss("stale").WantField("Cache-Control", lines...)
			w.Do("POST", "/", "x", request...).Want(200, "posted").WantField("Cache-Control", lines...)
			w.WantCount(3)
			for _, seen := range w.Seen() {
				if got := seen.Header["Cache-Control"]; !slices.Equal(got, want) {
					t.Errorf("%s: the origin got %q, want %q", seen.Method, got, want)
				}
			}
		})
	}
}

func TestCCP17_DirectivesInTheWrongMessage(t *testing.T) {
	// In a response: none of them lets a stale entry be served, or forbids a
	// fresh one.
	cacheControl{
		"max-age=1, max-stale": validated, "max-age=1, max-stale=3600": validated, "max-age=60, min-fresh=3600": fresh,
		"max-age=60, only-if-cached": fresh,
	}.test(t, rules.Terms{})
	// In a request.
	for directive, want := range map[string]string{
		"public": absent, "s-maxage=60": absent, "must-revalidate": absent, "must-understand": absent, "private": absent, "immutable": absent,
	} {
		t.Run("request "+directive, func(t *testing.T) {
			for _, terms := range []rules.Terms{{}, {Requests: rules.HonorRequests}} {
				if got := afterTwoSeconds(t, terms, []string{"Cache-Control: max-age=60"}, "Cache-Control: "+directive, "Authorization: x"); got != want {
					t.Errorf("with Authorization: %s, want %s", got, want)
				}
				if got := afterTwoSeconds(t, terms, []string{"Cache-Control: max-age=60"}, "Cache-Control: "+directive); got != fresh {
					t.Errorf("%s, want %s", got, fresh)
				}
			}
		})
	}
	// immutable in a request does not stop a reload that is honored.
	sim.RunWith(t, func(c *engine.Config) { c.Terms.Requests = rules.HonorRequests }, func(w *sim.World) {
		w.Origin(minute, sim.Reply{Status: 304})
		w.Get("/")
		w.Advance(time.Second)
		w.Get("/", "Cache-Control: max-age=0, immutable").Want(200, "page").WantMiss("request")
	})
}

func TestCCP18_PragmaInResponses(t *testing.T) {
	for _, pragma := range []string{"no-cache", "foo", "no-cache, foo"} {
		for _, header := range [][]string{nil, {"Cache-Control: max-age=60"}, {"Expires: Thu, 01 Jan 2099 00:00:00 GMT"}} {
			if got := afterTwoSeconds(t, rules.Terms{}, append([]string{"Pragma: " + pragma}, header...)); got != fresh {
				t.Errorf("Pragma: %s with %q: %s, want %s", pragma, header, got, fresh)
			}
		}
	}
}

// What net/http would add on the wire is kept off it in front and origin.
func TestCCP19_CacheControlNotAdded(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(sim.Reply{Header: []string{"Pragma: no-cache", "Last-Modified: " + sim.Date(-100*time.Hour)}, Body: "page"})
		w.Get("/", "Pragma: no-cache").Want(200, "page").WantField("Cache-Control").WantField("Pragma", "no-cache")
		w.Get("/", "Pragma: no-cache").Want(200, "page").WantHit().WantField("Cache-Control").WantField("Pragma", "no-cache")
		w.Do("POST", "/", "x", "Pragma: no-cache").WantField("Cache-Control").WantField("Pragma", "no-cache")
		w.WantCount(2)
		for _, seen := range w.Seen() {
			if seen.Header.Get("Pragma") != "no-cache" || len(seen.Header["Cache-Control"]) > 0 {
				t.Errorf("%s: the origin got %v", seen.Method, seen.Header)
			}
		}
	})
}
