package engine_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/rules"
	"github.com/larderhq/larder/internal/sim"
)

// targeted maps header sections, their lines parted by "|", to what becomes of
// a response with them.
type targeted map[string]string

func (cases targeted) test(t *testing.T, terms rules.Terms) {
	t.Helper()
	for lines, want := range cases {
		t.Run(lines, func(t *testing.T) {
			t.Helper()
			if got := afterTwoSeconds(t, terms, strings.Split(lines, "|")); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		})
	}
}

func TestTGT01_TheFirstThatIsValidDecides(t *testing.T) {
	targeted{
		"CDN-Cache-Control: max-age=60|Cache-Control: max-age=1":                                fresh,
		"CDN-Cache-Control: max-age=1|Cache-Control: max-age=60":                                validated,
		"CDN-Cache-Control: max-age=1|Cache-Control: s-maxage=60":                               validated,
		"CDN-Cache-Control: max-age=1|Expires: Thu, 18 Aug 2050 02:01:18 GMT":                   validated,
		"CDN-Cache-Control: max-age=60|Expires: 0":                                              fresh,
		"CDN-Cache-Control: max-age=60|Cache-Control: no-cache, private, s-maxage=0|Expires: 0": fresh,
		// Without a lifetime in it there is only the heuristic, never Expires.
		"CDN-Cache-Control: no-cache=?0|Expires: 0": fresh,
	}.test(t, rules.Terms{})
	targeted{
		"A-Control: max-age=60|B-Control: max-age=1|Cache-Control: no-store": fresh,
		"A-Control: max-age=1|B-Control: max-age=60|Cache-Control: no-store": validated,
		"A-Control: MAX-AGE=1|B-Control: max-age=60|Cache-Control: no-store": fresh,
		"A-Control:|B-Control: max-age=60|Cache-Control: no-store":           fresh,
		"A-Control:|B-Control: max-age=60,|Cache-Control: max-age=1":         validated,
		"B-Control: max-age=60|Cache-Control: no-store":                      fresh,
	}.test(t, rules.Terms{TargetedFields: []string{"A-Control", "B-Control"}})
}

func TestTGT02_FieldsNotOnTheList(t *testing.T) {
	targeted{
		"Other-Cache-Control: no-store|Cache-Control: max-age=60":       fresh,
		"Surrogate-Control: no-store|Cache-Control: max-age=60":         fresh,
		"Other-Cache-Control: max-age=60|Cache-Control: max-age=1":      validated,
		"CDN-Cache-Control: no-store|Other-Cache-Control: max-age=3600": absent,
	}.test(t, rules.Terms{})
	for _, terms := range []rules.Terms{{Private: true}, {Private: true, TargetedFields: []string{"Cdn-Cache-Control"}}, {TargetedFields: []string{}}} {
		targeted{
			"CDN-Cache-Control: no-store|Cache-Control: max-age=60": fresh,
			"CDN-Cache-Control: max-age=60|Cache-Control: no-store": absent,
		}.test(t, terms)
	}
	sim.Run(t, func(w *sim.World) {
		w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=60", "Other-Cache-Control: MAX AGE"}, Body: "page"})
		w.Get("/").WantField("Other-Cache-Control", "MAX AGE")
		w.Get("/").WantHit().WantField("Other-Cache-Control", "MAX AGE")
	})
}

func TestTGT03_SyntaxErrorsVoidTheField(t *testing.T) {
	cases := targeted{}
	for _, value := range []string{"Max-Age=60", "max-age =60", "max-age= 60", "max-age=60,", "max-age=60 private", "&, max-age=60", "max-age=60|CDN-Cache-Control: ,"} {
		cases["CDN-Cache-Control: "+value+"|Cache-Control: no-store"] = absent
		cases["CDN-Cache-Control: no-store, "+value+"|Cache-Control: max-age=60"] = fresh
	}
	cases["CDN-Cache-Control: no-store|CDN-Cache-Control: max-age=60|Cache-Control: max-age=60"] = absent // two lines, one dictionary
	cases.test(t, rules.Terms{})
}

func TestTGT04_WrongTypesAreNotUsed(t *testing.T) {
	targeted{
		`CDN-Cache-Control: max-age="1"|Cache-Control: no-store`:                        fresh, // by the heuristic
		"CDN-Cache-Control: max-age=1.5|Cache-Control: no-store":                        fresh,
		"CDN-Cache-Control: no-store=?0, max-age=60|Cache-Control: max-age=1":           fresh,
		"CDN-Cache-Control: no-store=1, max-age=60|Cache-Control: max-age=1":            fresh,
		"CDN-Cache-Control: s-maxage=1.5, max-age=60|Cache-Control: max-age=1, private": fresh,
	}.test(t, rules.Terms{})
}

func TestTGT05_TheLastKeyCounts(t *testing.T) {
	targeted{
		"CDN-Cache-Control: max-age=1, max-age=60":                         fresh,
		"CDN-Cache-Control: max-age=60, max-age=1":                         validated,
		"CDN-Cache-Control: max-age=60|CDN-Cache-Control: max-age=1":       validated,
		"CDN-Cache-Control: max-age=60;max-age=1;no-store, public;a=\"b\"": fresh,
	}.test(t, rules.Terms{})
}

func TestTGT06_EveryDirectiveWorks(t *testing.T) {
	targeted{
		"CDN-Cache-Control: max-age=60":                            fresh,
		"CDN-Cache-Control: max-age=60, no-store":                  absent,
		"CDN-Cache-Control: max-age=60, no-cache":                  validated,
		"CDN-Cache-Control: max-age=60, private":                   absent,
		`CDN-Cache-Control: max-age=60, private="x"`:               fresh,
		"CDN-Cache-Control: max-age=1, s-maxage=60":                fresh,
		"CDN-Cache-Control: max-age=60, s-maxage=1":                validated,
		"CDN-Cache-Control: no-store, must-understand, max-age=60": fresh,
	}.test(t, rules.Terms{})
	// What may be done once it is stale.
	for _, c := range []struct {
		directives string
		status     int
	}{
		{"max-age=1", 200},
		{"max-age=1, must-revalidate", 504},
		{"max-age=1, proxy-revalidate", 504},
		{"max-age=1, stale-if-error=0", 504},
		{"max-age=1, stale-if-error=60", 200},
		{"max-age=1, stale-while-revalidate=60", 200},
		{"max-age=1, stale-while-revalidate=60, must-revalidate", 504},
	} {
		sim.Run(t, func(w *sim.World) {
			w.Origin(sim.Reply{Header: []string{"CDN-Cache-Control: " + c.directives, "Cache-Control: no-store"}, Body: "page"}, sim.Reply{Err: errDown})
			w.Get("/").Want(200, "page")
			w.Advance(2 * time.Second)
			if a := w.Get("/"); a.Status != c.status {
				t.Errorf("%s: status %d, want %d", c.directives, a.Status, c.status)
			}
		})
	}
	// Whose credentials do not matter.
	for directives, stored := range map[string]bool{"max-age=60": false, "max-age=60, public": true, "max-age=60, must-revalidate": true} {
		sim.Run(t, func(w *sim.World) {
			w.Origin(sim.Reply{Header: []string{"CDN-Cache-Control: " + directives, "Cache-Control: public"}, Body: "page"})
			w.Get("/", "Authorization: x")
			if a := w.Get("/", "Authorization: x"); a.Hit() != stored {
				t.Errorf("%s: %s", directives, a.CacheStatus())
			}
		})
	}
}

func TestTGT07_BesideNoStore(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(sim.Reply{Header: []string{"Cache-Control: no-store", "CDN-Cache-Control: max-age=60"}, Body: "page"})
		w.Get("/").Want(200, "page")
		w.Advance(59 * time.Second)
		w.Get("/").Want(200, "page").WantHit().WantField("Cache-Control", "no-store")
		w.Advance(time.Second)
		w.Get("/").Want(200, "page").WantMiss("stale")
	})
	sim.Run(t, func(w *sim.World) {
		w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=60", "CDN-Cache-Control: no-store"}, Body: "page"})
		w.Get("/").Want(200, "page")
		w.Settle()
		wantNothingStored(t, w.Store)
	})
}

func TestTGT08_UnknownMembersDisplace(t *testing.T) {
	targeted{
		"CDN-Cache-Control: foo|Cache-Control: max-age=1":              fresh, // by the heuristic
		"CDN-Cache-Control: foo, bar=(1 2)|Cache-Control: no-store":    fresh,
		"CDN-Cache-Control:|Cache-Control: no-store":                   absent,
		"CDN-Cache-Control:|Cache-Control: max-age=60":                 fresh,
		"CDN-Cache-Control:|CDN-Cache-Control:|Cache-Control: private": absent,
	}.test(t, rules.Terms{})
	sim.Run(t, func(w *sim.World) {
		w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=60", "CDN-Cache-Control: foo"}, Body: "page"})
		w.Get("/")
		w.Settle()
		wantNothingStored(t, w.Store) // neither freshness nor a validator is left
	})
}

func TestTGT09_AgeCountsAgainstTheTargetedLifetime(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(sim.Reply{Header: []string{"Age: 1800", "Cache-Control: max-age=600", "CDN-Cache-Control: max-age=3600"}, Body: "page"}, sim.Reply{Body: "new"})
		w.Get("/").Want(200, "page").WantField("Age", "1800")
		w.Advance(1799 * time.Second)
		w.Get("/").Want(200, "page").WantHit().WantField("Age", "3599")
		w.Advance(time.Second)
		w.Get("/").Want(200, "new").WantMiss("stale")
	})
	sim.Run(t, func(w *sim.World) {
		w.Origin(sim.Reply{Header: []string{"Age: 3600", "Cache-Control: max-age=7200", "CDN-Cache-Control: max-age=3600", `ETag: "1"`}, Body: "page"}, sim.Reply{Body: "new"})
		w.Get("/").Want(200, "page")
		w.Get("/").Want(200, "new").WantMiss("stale")
	})
}

func TestTGT10_PassedDownstream(t *testing.T) {
	for _, strip := range [][]string{nil, {"Cdn-Cache-Control"}} {
		sim.RunWith(t, func(c *engine.Config) { c.Terms.StripTargeted = strip }, func(w *sim.World) {
			date, expires := sim.Date(-5*time.Second), sim.Date(10*time.Second)
			lines := []string{"Date: " + date, "Expires: " + expires, "CDN-Cache-Control: max-age=60", "CDN-Cache-Control: public", "My-Cache-Control: x", `ETag: "1"`}
			w.Origin(sim.Reply{Header: lines, Body: "page"}, sim.Reply{Status: 304, Header: lines[2:]}, sim.Reply{Header: lines, Body: "posted"})
			want := []string{"max-age=60", "public"}
			if strip != nil {
				want = nil
			}
			check := func(a *sim.Answer) *sim.Answer {
				t.Helper()
				return a.WantField("CDN-Cache-Control", want...).WantField("My-Cache-Control", "x").WantField("Expires", expires)
			}
			check(w.Get("/")).WantField("Date", date).WantField("Age")
			w.Advance(30 * time.Second) // past Expires
			check(w.Get("/").WantHit()).WantField("Date", date).WantField("Age", "35")
			w.Advance(30 * time.Second)
			check(w.Get("/").WantMiss("stale"))
			check(w.Get("/").WantHit())
			check(w.Do("POST", "/", "x"))
			w.WantCount(3)
		})
	}
}

var surrogate = rules.Terms{Surrogate: true}

func TestSUR01_SurrogateControl(t *testing.T) {
	targeted{
		"Surrogate-Control: max-age=60|Cache-Control: no-store":                               fresh,
		"Surrogate-Control: max-age=1|Cache-Control: max-age=60":                              validated,
		"Surrogate-Control: no-store|Cache-Control: max-age=60":                               absent,
		"Surrogate-Control: max-age=60|CDN-Cache-Control: no-store":                           fresh,
		"Surrogate-Control: no-store-remote|Cache-Control: max-age=60":                        fresh,
		"Surrogate-Control: no-store-remote, max-age=60|Cache-Control: no-store":              fresh,
		"Surrogate-Control: content=\"ESI/1.0\"|Cache-Control: max-age=1":                     validated,
		"Surrogate-Control: content=\"ESI/1.0\"|CDN-Cache-Control: max-age=60|Expires: 0":     fresh,
		"Surrogate-Control: max-age=60, content=\"ESI/1.0\"|Cache-Control: private, no-cache": fresh,
	}.test(t, surrogate)
	targeted{"Surrogate-Control: max-age=60|Cache-Control: no-store": absent}.test(t, rules.Terms{})
	targeted{"Surrogate-Control: max-age=60|Cache-Control: no-store": absent}.test(t, rules.Terms{Surrogate: true, Private: true})

	// N+M: stale for M seconds more, while it is fetched.
	sim.RunWith(t, func(c *engine.Config) { c.Terms = surrogate }, func(w *sim.World) {
		w.Origin(sim.Reply{Header: []string{"Surrogate-Control: max-age=10+20"}, Body: "page"}, sim.Reply{Status: 503})
		w.Get("/").Want(200, "page")
		w.Advance(9 * time.Second)
		w.Get("/").Want(200, "page").WantHit()
		w.WantCount(1)
		w.Advance(20 * time.Second)
		w.Get("/").Want(200, "page").WantHit().WantField("Age", "29")
		w.Settle()
		w.WantCount(2)
		w.Advance(time.Second)
		w.Get("/").WantMiss("stale")
	})
}

func TestSUR02_Addressees(t *testing.T) {
	cases := targeted{
		"Surrogate-Control: max-age=1, max-age=60;TOKEN|Cache-Control: no-store":              fresh,
		"Surrogate-Control: max-age=60;TOKEN, max-age=1|Cache-Control: no-store":              fresh,
		"Surrogate-Control: max-age=60;TOKEN|Surrogate-Control: max-age=1|Cache-Control: foo": fresh,
		"Surrogate-Control: max-age=60, max-age=1;TOKEN|Cache-Control: no-store":              validated,
		"Surrogate-Control: max-age=60;other|Cache-Control: no-store":                         absent,
		"Surrogate-Control: no-store;other, max-age=60|Cache-Control: no-store":               fresh,
		"Surrogate-Control: no-store;TOKEN, max-age=60|Cache-Control: max-age=60":             absent,
		"Surrogate-Control: max-age=60, max-age=1;other|Cache-Control: no-store":              fresh,
	}
	for _, device := range []string{"", "edge7"} {
		addressed := targeted{}
		for lines, want := range cases {
			token := device
			if token == "" {
				token = "larder"
			}
			addressed[strings.ReplaceAll(lines, "TOKEN", token)] = want
		}
		addressed.test(t, rules.Terms{Surrogate: true, Device: device})
	}
}

func TestSUR03_RemovedFromResponses(t *testing.T) {
	for _, terms := range []rules.Terms{surrogate, {}} {
		var want []string
		if !terms.Surrogate {
			want = []string{"max-age=60"} // none of ours: passed on
		}
		sim.RunWith(t, func(c *engine.Config) { c.Terms = terms }, func(w *sim.World) {
			lines := []string{"Surrogate-Control: max-age=60", "Cache-Control: max-age=60", `ETag: "1"`}
			w.Origin(sim.Reply{Header: lines, Body: "page"}, sim.Reply{Status: 304, Header: lines}, sim.Reply{Header: lines, Body: "other"})
			w.Get("/").Want(200, "page").WantField("Surrogate-Control", want...)
			w.Get("/").Want(200, "page").WantHit().WantField("Surrogate-Control", want...)
			w.Get("/", `If-None-Match: "1"`).Want(304, "").WantHit().WantField("Surrogate-Control", want...)
			w.Advance(time.Minute)
			w.Get("/").Want(200, "page").WantMiss("stale").WantField("Surrogate-Control", want...)
			w.Get("/").Want(200, "page").WantHit().WantField("Surrogate-Control", want...)
			w.Do("HEAD", "/other", "").Want(200, "").WantField("Surrogate-Control", want...)
			w.Do("POST", "/", "x").Want(200, "other").WantField("Surrogate-Control", want...)
			w.WantCount(4)
		})
	}
}

func TestSUR04_CapabilityIsAnnounced(t *testing.T) {
	for _, c := range []struct {
		terms rules.Terms
		want  []string
	}{
		{surrogate, []string{`abc="Surrogate/1.0 ESI/1.0"`, `larder="Surrogate/1.0"`}},
		{rules.Terms{Surrogate: true, Device: "edge7"}, []string{`abc="Surrogate/1.0 ESI/1.0"`, `edge7="Surrogate/1.0"`}},
		{rules.Terms{}, []string{`abc="Surrogate/1.0 ESI/1.0"`}},
	} {
		sim.RunWith(t, func(e *engine.Config) { e.Terms = c.terms }, func(w *sim.World) {
			w.Origin(minute, sim.Reply{Status: 304}, minute)
			w.Get("/", "Surrogate-Capability: "+c.want[0])
			w.Advance(time.Minute)
			w.Get("/", "Surrogate-Capability: "+c.want[0]).WantMiss("stale")
			w.Do("POST", "/", "x", "Surrogate-Capability: "+c.want[0])
			w.Get("/own")
			w.WantCount(4)
			for i, seen := range w.Seen() {
				want := c.want
				if i == 3 {
					want = want[1:] // the client has announced nothing
				}
				if got := seen.Header["Surrogate-Capability"]; !slices.Equal(got, want) {
					t.Errorf("%s %s: the origin got %q, want %q", seen.Method, seen.Target, got, want)
				}
			}
		})
	}
}
