package daemon

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/sim"
)

// The Age of the edge is that of the parent and its own together (RFC 9111 4.2.3).
func TestTiersAgeAddsUp(t *testing.T) {
	inPair(t, nil, func(p *pair) {
		p.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=600", `ETag: "1"`, "Age: 5"}, Body: "page"})
		p.wantFields(p.up("/a").Header, "Age: 5")
		p.Advance(50 * time.Second)
		p.Get("/a").Want(200, "page").WantField("Age", "55")
		p.Advance(20 * time.Second)
		p.Get("/a").Want(200, "page").WantHit().WantField("Age", "75").WantField("Cache-Status", "parent; hit; ttl=545", "edge; hit; ttl=525")
		p.wantFields(p.up("/a").Header, "Age: 75")
		p.WantCount(1)
	})
}

// What has lived in the parent is not young in the edge, whether the parent says so by
// Age or by Date, and whether the edge believes Date or not.
func TestTiersFreshnessIsLivedOnce(t *testing.T) {
	for name, configure := range map[string]func(edge, parent *engine.Config){
		"both": nil,
		"Age":  func(edge, _ *engine.Config) { edge.Terms.TrustDate = true },
		"Date": func(_, parent *engine.Config) { parent.Terms.HideAge = true },
	} {
		t.Run(name, func(t *testing.T) {
			inPair(t, configure, func(p *pair) {
				p.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "1"`}, Body: "page"}, sim.Reply{Status: 304})
				p.up("/a")
				p.Advance(50 * time.Second)
				p.Get("/a").Want(200, "page").WantMiss("uri-miss")
				p.Advance(9 * time.Second)
				p.Get("/a").Want(200, "page").WantHit().WantField("Age", "59")
				p.WantCount(1)
				p.Advance(time.Second)
				p.Get("/a").Want(200, "page").WantMiss("stale")
				p.WantCount(2)
				p.Advance(59 * time.Second) // the origin has confirmed it just now
				p.Get("/a").Want(200, "page").WantHit().WantField("Age", "59")
				p.WantCount(2)
			})
		})
	}
}

// A 304 from the store of the parent is as old as what it confirms.
func TestTiersA304FromTheParentHasItsAge(t *testing.T) {
	inPair(t, nil, func(p *pair) {
		p.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "1"`}, Body: "page"}, sim.Reply{Status: 304})
		p.Get("/a").Want(200, "page")
		p.Advance(60 * time.Second)
		p.up("/a") // has the parent validate
		p.WantCount(2)
		p.Advance(40 * time.Second)
		p.Get("/a").Want(200, "page").WantField("Age", "40").WantField("Cache-Status", "parent; hit; ttl=20", "edge; fwd=stale; fwd-status=304; ttl=20")
		p.Advance(19 * time.Second)
		p.Get("/a").Want(200, "page").WantHit().WantField("Age", "59")
		p.WantCount(2)
		p.Advance(time.Second)
		p.Get("/a").Want(200, "page").WantMiss("stale").WantField("Age")
		p.WantCount(3)
	})
}

// The time that an answer was on its way counts, on each leg of it.
func TestTiersAgeHasTheDelays(t *testing.T) {
	inPair(t, nil, func(p *pair) {
		p.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "1"`}, Body: "page", Delay: 3 * time.Second})
		p.Get("/a").Want(200, "page")
		p.Get("/a").Want(200, "page").WantHit().WantField("Age", "3")
		p.wantFields(p.up("/a").Header, "Age: 3")
		p.Advance(57 * time.Second)
		p.Get("/a").WantMiss("stale")
	})
}

// What the parent serves stale while it refreshes is as old in the edge as it is.
func TestTiersStaleFromTheParentIsStale(t *testing.T) {
	page := func(lifetime, tag string) sim.Reply {
		return sim.Reply{Header: []string{"Cache-Control: " + lifetime, "ETag: " + tag}, Body: tag}
	}
	t.Run("by the origin's leave", func(t *testing.T) {
		const lifetime = "max-age=60, stale-while-revalidate=30"
		inPair(t, nil, func(p *pair) {
			p.Origin(page(lifetime, "1"), page(lifetime, "2"))
			p.up("/a")
			p.Advance(70 * time.Second)
			p.Get("/a").Want(200, "1").WantField("Age", "70").WantField("Cache-Status", "parent; hit; ttl=-10", "edge; fwd=uri-miss; ttl=-10; stored")
			p.Settle()
			p.WantCount(2)
			p.Get("/a").Want(200, "1").WantField("Age", "70").WantField("Cache-Status", "parent; hit; ttl=-10", "edge; hit; ttl=-10")
			p.Settle()
			p.Get("/a").Want(200, "2").WantHit().WantField("Age", "0")
			p.WantCount(2)
		})
	})
	t.Run("by the parent's operator", func(t *testing.T) {
		inPair(t, func(_, parent *engine.Config) { parent.Terms.SoftTTL = 30 * time.Second }, func(p *pair) {
			p.Origin(page("max-age=60", "1"), page("max-age=60", "2"))
			p.Get("/a").Want(200, "1")
			p.Advance(70 * time.Second)
			p.Get("/a").Want(200, "1").WantMiss("stale").WantField("Age", "70") // the parent refreshes meanwhile
			p.Settle()
			p.Get("/a").Want(200, "2").WantMiss("stale").WantField("Age", "0")
			p.Get("/a").Want(200, "2").WantHit()
			p.WantCount(2)
		})
	})
}

// What the edge serves stale itself is never older than both were allowed together, for
// it counts from when the origin had it.
func TestTiersStaleWhileRevalidateIsCountedFromTheOrigin(t *testing.T) {
	inPair(t, nil, func(p *pair) {
		p.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=60, stale-while-revalidate=30", `ETag: "1"`}, Body: "page"}, sim.Reply{Status: 304})
		p.up("/a")
		p.Advance(59 * time.Second)
		p.Get("/a").Want(200, "page")
		p.Advance(30 * time.Second)
		p.Get("/a").Want(200, "page").WantHit().WantField("Age", "89")
		p.Settle()
		p.Advance(90 * time.Second)
		p.Get("/a").Want(200, "page").WantMiss("stale")
	})
}

// Many random requests to both tiers over a long time, with an origin that says in each
// answer when it gave it: no hit of the edge says less than the truth, and none is older
// than the origin allows. Age is in whole seconds, so each tier may lose less than one.
func TestTiersNoAgeIsTooLow(t *testing.T) {
	lifetimes := map[string]int{"/a": 60, "/b": 7, "/c": 200}
	for seed := range uint64(8) {
		inPair(t, nil, func(p *pair) {
			random := rand.New(rand.NewPCG(seed, 1))
			born := time.Now()
			p.Handle(func(r *http.Request) sim.Reply {
				age := time.Since(born)
				version := int(age / (150 * time.Second))
				reply := sim.Reply{Status: 304, Header: []string{
					fmt.Sprintf("Cache-Control: max-age=%d, must-revalidate", lifetimes[r.URL.Path]), fmt.Sprintf(`ETag: "%d"`, version), fmt.Sprint("Given: ", int64(age)),
				}}
				if random.IntN(2) == 0 {
					reply.Header = append(reply.Header, "Date: "+sim.Date(0))
				}
				if random.IntN(3) == 0 {
					reply.Delay = time.Duration(random.Int64N(int64(4 * time.Second)))
				}
				if !strings.Contains(r.Header.Get("If-None-Match"), fmt.Sprintf(`"%d"`, version)) {
					reply.Status, reply.Body = 200, strconv.Itoa(version)
				}
				return reply
			})
			hits := 0
			for range 400 {
				p.Advance(time.Duration(random.Int64N(int64(20 * time.Second))))
				path := []string{"/a", "/b", "/c"}[random.IntN(3)]
				if random.IntN(3) == 0 {
					p.up(path)
					continue
				}
				a := p.Get(path)
				given, err := strconv.ParseInt(a.Header.Get("Given"), 10, 64)
				if err != nil || a.Status != 200 || a.Body() != strings.Trim(a.Header.Get("ETag"), `"`) {
					t.Fatalf("seed %d: %d %q %q", seed, a.Status, a.Body(), a.Header)
				}
				old := time.Since(born) - time.Duration(given)
				said, _ := strconv.Atoi(a.Header.Get("Age"))
				if !strings.Contains(strings.Join(a.Header["Cache-Status"], ","), "; hit") {
					continue // it has come from the origin just now
				}
				hits++
				if said <= int(old/time.Second)-2 || old >= time.Duration(lifetimes[path]+1)*time.Second {
					t.Fatalf("seed %d: %s is %v old and says %d; %q", seed, path, old, said, a.Header["Cache-Status"])
				}
			}
			if hits < 100 {
				t.Errorf("seed %d: %d hits alone", seed, hits)
			}
		})
	}
}
