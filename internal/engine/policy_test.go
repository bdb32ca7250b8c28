package engine_test

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/rules"
	"github.com/larderhq/larder/internal/sim"
)

// by runs body in a world whose engine has these terms.
func by(t *testing.T, terms rules.Terms, body func(w *sim.World)) {
	t.Helper()
	sim.RunWith(t, func(c *engine.Config) { c.Terms = terms }, body)
}

// echo answers with the value of a field of the request.
func echo(field string, header ...string) func(*http.Request) sim.Reply {
	return func(r *http.Request) sim.Reply {
		return sim.Reply{Status: 200, Header: header, Body: r.Header.Get(field)}
	}
}

func TestPOL01_DirectivesByName(t *testing.T) {
	for i, name := range rules.RequestNames {
		only := rules.Terms{Requests: 1 << i}
		others := rules.Terms{Requests: rules.HonorRequests &^ only.Requests}
		for _, terms := range []rules.Terms{only, others} {
			heeded := terms.Requests == only.Requests
			by(t, terms, func(w *sim.World) {
				w.Origin(keptPage("max-age=60"), sim.Reply{Status: 503}, sim.Reply{Status: 503})
				if name == "no-store" {
					w.Get("/a", "Cache-Control: no-store").Want(200, "page")
					w.Settle()
					if hit := w.Get("/a").Hit(); hit == heeded {
						t.Errorf("%s, heeded %t: hit %t", name, heeded, hit)
					}
					return
				}
				if name == "only-if-cached" {
					if a := w.Get("/a", "Cache-Control: only-if-cached"); (a.Status == 504) != heeded {
						t.Errorf("%s, heeded %t: status %d", name, heeded, a.Status)
					}
					return
				}
				w.Get("/a").Want(200, "page")
				w.Advance(30 * time.Second)
				directive, asked := name, true
				switch name {
				case "max-age":
					directive = "max-age=10"
				case "min-fresh":
					directive = "min-fresh=40"
				case "max-stale", "stale-if-error":
					w.Advance(40 * time.Second)
					directive, asked = name+"=100", name != "max-stale"
				}
				w.Get("/a", "Cache-Control: "+directive)
				w.Settle()
				want := 1
				if asked == heeded || name == "stale-if-error" {
					want = 2
				}
				w.WantCount(want)
			})
		}
	}
}

func TestPOL04_DateNow(t *testing.T) {
	by(t, rules.Terms{DateNow: true, HideAge: true}, func(w *sim.World) {
		w.Origin(sim.Reply{Status: 200, Header: []string{"Date: " + sim.Date(0), "Expires: " + sim.Date(time.Minute)}, Body: "page"})
		w.Get("/a").Want(200, "page")
		w.Advance(40 * time.Second)
		w.Get("/a").WantHit().WantField("Age").WantField("Date", sim.Date(0)).WantField("Expires", sim.Date(time.Minute))
		w.Advance(20 * time.Second)
		w.Get("/a").WantMiss("stale") // it counts from when it was made, all the same
	})
}

func TestPOL05_AuthorizationAsKey(t *testing.T) {
	const one, other = "Authorization: Basic b25l", "Authorization: Basic b3RoZXI="
	key := rules.Terms{Authorized: rules.AuthorizedKey}
	by(t, key, func(w *sim.World) {
		w.Handle(echo("Authorization", "Cache-Control: max-age=60"))
		w.Get("/a", one).Want(200, "Basic b25l")
		w.Get("/a", one).WantHit().Want(200, "Basic b25l").WantField("Vary")
		w.Get("/a", other).WantMiss("vary-miss").Want(200, "Basic b3RoZXI=")
		w.Get("/a").WantMiss("vary-miss").Want(200, "") // who sends none has an answer of its own, too
		w.Get("/a", one).WantHit().Want(200, "Basic b25l")
		w.Get("/a", other).WantHit().Want(200, "Basic b3RoZXI=")
		w.Get("/a").WantHit().Want(200, "")
		w.WantCount(3)
	})
	for _, shared := range []string{"public, max-age=60", "s-maxage=60", "must-revalidate, max-age=60"} {
		by(t, key, func(w *sim.World) {
			w.Origin(keptPage(shared))
			w.Get("/a", one)
			w.Get("/a", other).WantHit()
		})
	}
	for _, directives := range []string{"private, max-age=60", "no-store", "private"} { // which win
		by(t, key, func(w *sim.World) {
			w.Origin(keptPage(directives), keptPage(directives))
			w.Get("/a", one)
			w.Get("/a", one).WantMiss("uri-miss")
		})
	}
}

// CLI-02: one client may act for several users.
func TestCLI02_PrivateCachesKeepUsersApart(t *testing.T) {
	by(t, rules.Terms{Private: true}, func(w *sim.World) {
		w.Handle(echo("Authorization", "Cache-Control: private, max-age=60"))
		w.Get("/a", "Authorization: one").Want(200, "one")
		w.Get("/a", "Authorization: other").WantMiss("vary-miss").Want(200, "other")
		w.Get("/a").WantMiss("vary-miss").Want(200, "")
		w.Get("/a", "Authorization: one").WantHit().Want(200, "one")
	})
	by(t, rules.Terms{Private: true}, func(w *sim.World) {
		w.Origin(keptPage("public, max-age=60"))
		w.Get("/a", "Authorization: one")
		w.Get("/a", "Authorization: other").WantHit()
	})
}

func TestVaryHeadersChooseWithoutVary(t *testing.T) {
	by(t, rules.Terms{VaryHeaders: []string{"X-Tenant"}}, func(w *sim.World) {
		w.Handle(echo("X-Tenant", "Cache-Control: max-age=60", "Vary: Accept, x-tenant"))
		w.Get("/listed", "X-Tenant: a").WantField("Vary", "Accept, x-tenant")
		w.Handle(echo("X-Tenant", "Cache-Control: max-age=60", "Vary: Accept"))
		w.Get("/a", "X-Tenant: a").Want(200, "a").WantField("Vary", "Accept", "X-Tenant")
		w.Get("/a", "X-Tenant: b").WantMiss("vary-miss").Want(200, "b")
		w.Get("/a").WantMiss("vary-miss").Want(200, "")
		w.Get("/a", "X-Tenant: a").WantHit().Want(200, "a").WantField("Vary", "Accept", "X-Tenant")
		w.Get("/a", "X-Tenant: b").WantHit().Want(200, "b")
	})
}

func TestPOL10_Statuses(t *testing.T) {
	by(t, rules.Terms{Statuses: []int{200}}, func(w *sim.World) {
		for status, kept := range map[int]bool{200: true, 404: false, 203: false} {
			w.Origin(sim.Reply{Status: status, Header: []string{"Cache-Control: max-age=60"}}, sim.Reply{Status: 500})
			target := "/" + strconv.Itoa(status)
			w.Get(target)
			if hit := w.Get(target).Hit(); hit != kept {
				t.Errorf("%d: hit %t", status, hit)
			}
		}
	})
}

func TestPOL20_Lifetimes(t *testing.T) {
	all := rules.Terms{DefaultTTL: time.Minute, NegativeTTL: 10 * time.Second, MinTTL: 5 * time.Second, MaxTTL: 10 * time.Minute}
	for _, c := range []struct {
		status   int
		header   string
		lifetime time.Duration // 0: not kept
	}{
		{200, "X: y", time.Minute},
		{200, "Cache-Control: no-store", 0},
		{200, "Cache-Control: private", 0},
		{200, "Cache-Control: public", time.Minute},
		{200, "Cache-Control: max-age=1", 5 * time.Second},
		{200, "Cache-Control: max-age=0", 5 * time.Second},
		{200, "Cache-Control: max-age=100", 100 * time.Second},
		{200, "Cache-Control: max-age=10000", 10 * time.Minute},
		{200, "Set-Cookie: id=1", 0},
		{302, "X: y", 0},
		{302, "Cache-Control: max-age=60", time.Minute},
		{404, "X: y", 10 * time.Second},
		{404, "Cache-Control: max-age=60", time.Minute},
		{503, "X: y", 10 * time.Second},
		{401, "X: y", 0},
		{429, "X: y", 0},
	} {
		by(t, all, func(w *sim.World) {
			w.Origin(sim.Reply{Status: c.status, Header: []string{c.header}}, sim.Reply{Status: 500, Header: []string{"Cache-Control: no-store"}})
			w.Get("/a")
			if c.lifetime == 0 {
				w.Get("/a").WantMiss("uri-miss")
				return
			}
			w.Advance(c.lifetime - time.Second)
			w.Get("/a").WantHit()
			w.Advance(time.Second)
			w.Get("/a").WantMiss("stale")
		})
	}
}

func TestPOL20_OverrulingIsTold(t *testing.T) {
	for i, name := range rules.OverruleNames {
		only := rules.Terms{Overrule: 1 << i}
		for _, directive := range rules.OverruleNames {
			by(t, only, func(w *sim.World) {
				w.Origin(keptPage(directive+", max-age=60"), keptPage(directive+", max-age=60"))
				w.Get("/a").Want(200, "page")
				a := w.Get("/a")
				overruled := name == directive
				if told := strings.Contains(a.CacheStatus(), `detail="overruled: `+name+`"`); a.Hit() != overruled || told != overruled {
					t.Errorf("%s overruled, %s sent: %s", name, directive, a.CacheStatus())
				}
				if events := w.Events(); (events[len(events)-1].Overruled == name) != overruled {
					t.Errorf("%s overruled, %s sent: the log has %q", name, directive, events[len(events)-1].Overruled)
				}
			})
		}
	}
}

// A request has the policy that PolicyFor names, and what is stored is read by it.
func TestPoliciesByRequest(t *testing.T) {
	secret := engine.NewSecret()
	long := &engine.Policy{Label: "long", Terms: rules.Terms{Secret: secret, MinTTL: time.Hour}}
	past := &engine.Policy{Label: "past", Terms: rules.Terms{Secret: secret}, Bypass: func(*http.Request) string { return "as wished" }}
	configure := func(c *engine.Config) {
		c.Terms.Secret = secret
		c.PolicyFor = func(r *http.Request) *engine.Policy {
			return map[string]*engine.Policy{"long": long, "past": past}[r.Header.Get("Policy")]
		}
	}
	sim.RunWith(t, configure, func(w *sim.World) {
		w.Origin(keptPage("max-age=60"), keptPage("max-age=60"), keptPage("max-age=60"))
		w.Get("/a").Want(200, "page")
		w.Get("/a", "Policy: past").WantMiss("bypass")
		w.Get("/a").WantHit()
		w.Advance(2 * time.Minute)
		w.Get("/a", "Policy: long").WantHit()
		w.Get("/a").WantMiss("stale")
		w.WantCount(3)
	})
}

// A fetch that was asked before the version changed again, and whose body is still
// coming, does not stand in for the refresh; one runs beside it, and no more.
func TestCOL10_AnOldFetchIsNoRefresh(t *testing.T) {
	version := "1"
	sim.RunWith(t, func(c *engine.Config) { c.Version = func(*http.Request) string { return version } }, func(w *sim.World) {
		in, out := io.Pipe()
		w.Origin(keptPage("max-age=600"), sim.Reply{Header: []string{"Cache-Control: max-age=600"}, Stream: in, Length: -1},
			sim.Reply{Header: []string{"Cache-Control: max-age=600"}, Body: "third", Delay: time.Second})
		w.Get("/a").Want(200, "page")
		w.Settle()
		version = "2"
		w.Get("/a").Want(200, "page").WantHit()
		w.Settle()
		w.Get("/a").Want(200, "page").WantHit()
		w.WantCount(2)
		version = "3"
		for range 3 {
			w.Get("/a").Want(200, "page").WantHit()
			w.Settle()
		}
		w.WantCount(3)
		w.Advance(2 * time.Second)
		w.Get("/a").Want(200, "third").WantHit()
		out.CloseWithError(io.ErrUnexpectedEOF)
		w.Settle()
		w.WantCount(3)
	})
}
