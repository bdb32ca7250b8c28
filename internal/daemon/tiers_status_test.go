package daemon

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/sim"
)

// Each tier adds one member to Cache-Status, the one nearer to the origin first, and after
// what the origin itself says (RFC 9211 2). What is stored repeats none, however often it
// is used and validated.
func TestTiersCacheStatus(t *testing.T) {
	for _, first := range [][]string{nil, {"origin; hit"}, {"far; hit, near; fwd=uri-miss"}, {"far; hit", "near; hit"}} {
		t.Run(strings.Join(first, "|"), func(t *testing.T) {
			inPair(t, nil, func(p *pair) {
				d := &document{version: 1, lifetime: "max-age=60, stale-while-revalidate=10"}
				p.Handle(func(r *http.Request) sim.Reply {
					reply := d.answer(r)
					for _, line := range first {
						reply.Header = append(reply.Header, "Cache-Status: "+line)
					}
					return reply
				})
				asked := func(what string, a *sim.Answer, members ...string) {
					t.Helper()
					if got, want := strings.Join(a.Header["Cache-Status"], "\n"), strings.Join(append(first[:len(first):len(first)], members...), "\n"); got != want {
						t.Errorf("%s: Cache-Status is\n%s\nwant\n%s", what, got, want)
					}
				}
				for round := range 3 { // each leaves behind what the next one finds
					if round == 0 {
						asked("a miss of both", p.Get("/a"), "parent; fwd=uri-miss; ttl=60; stored", "edge; fwd=uri-miss; ttl=60; stored")
						asked("a hit of what both have missed", p.Get("/a"), "parent; fwd=uri-miss; ttl=60; stored", "edge; hit; ttl=60")
					} else {
						asked("a hit", p.Get("/a"), "parent; fwd=stale; ttl=60; stored", "edge; hit; ttl=60")
					}
					p.Advance(65 * time.Second)
					p.Get("/a") // stale, which refreshes it
					p.Settle()
					asked("a hit of what was refreshed", p.Get("/a"), "parent; hit; ttl=-5", "edge; hit; ttl=-5")
					p.Settle()
					p.Advance(80 * time.Second)
					asked("validated by both", p.Get("/a"), "parent; fwd=stale; ttl=60", "edge; fwd=stale; fwd-status=304; ttl=60")
					asked("a hit of what both have validated", p.Get("/a"), "parent; fwd=stale; ttl=60", "edge; hit; ttl=60")
					p.Advance(80 * time.Second)
					p.up("/a")
					p.Advance(20 * time.Second)
					asked("validated by the parent", p.Get("/a"), "parent; hit; ttl=40", "edge; fwd=stale; fwd-status=304; ttl=40")
					asked("a hit of what the parent has validated", p.Get("/a"), "parent; hit; ttl=40", "edge; hit; ttl=40")
					p.Advance(80 * time.Second)
					d.version++
					asked("both get a new version", p.Get("/a"), "parent; fwd=stale; ttl=60; stored", "edge; fwd=stale; ttl=60; stored")
				}
				asked("POST", p.Do("POST", "/a", "content"), "parent; fwd=method", "edge; fwd=method")
				asked("HEAD", p.Do("HEAD", "/b", ""), "parent; fwd=uri-miss", "edge; fwd=uri-miss")
				p.up("/b")
				asked("HEAD of what the parent has", p.Do("HEAD", "/b", ""), "parent; hit; ttl=60", "edge; fwd=uri-miss")
				asked("a miss of the edge alone", p.Get("/b"), "parent; hit; ttl=60", "edge; fwd=uri-miss; ttl=60; stored")
				asked("a range", p.Get("/b", "Range: bytes=0-3"), "parent; hit; ttl=60", "edge; hit; ttl=60")
				asked("a condition", p.Get("/b", "If-None-Match: "+d.tag()), "parent; hit; ttl=60", "edge; hit; ttl=60")
				d.lifetime = "no-store"
				asked("what nobody keeps", p.Get("/c"), "parent; fwd=uri-miss", "edge; fwd=uri-miss")
			})
		})
	}
}

// What both have joined of parts has the members of one of them.
func TestTiersCacheStatusOfParts(t *testing.T) {
	inPair(t, nil, func(p *pair) {
		content := contentOf(100)
		part := func(first, last int) sim.Reply {
			return sim.Reply{Status: 206, Body: content[first : last+1], Header: []string{
				"Cache-Control: max-age=60", `ETag: "1"`, "Cache-Status: origin; hit", fmt.Sprintf("Content-Range: bytes %d-%d/100", first, last),
			}}
		}
		p.Origin(part(0, 49), part(50, 99))
		p.Get("/a", "Range: bytes=0-49").Want(206, content[:50])
		p.Get("/a").Want(200, content)
		a := p.Get("/a").Want(200, content).WantHit()
		if lines := a.Header["Cache-Status"]; len(lines) != 3 || lines[0] != "origin; hit" || !strings.HasPrefix(lines[1], "parent; fwd=") || lines[2] != "edge; hit; ttl=60" {
			t.Errorf("Cache-Status is %q", lines)
		}
		p.WantCount(2)
	})
}

// Two tiers that nobody has named have one name, and yet a member each.
func TestTiersCacheStatusByDefault(t *testing.T) {
	origin, _ := serveOrigin(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Cache-Control", "max-age=60") })
	c := newTiers(t, origin, func(edge, parent *engine.Config) { edge.Name, parent.Name = "", "" })
	for round, want := range []string{"larder; fwd=uri-miss; ttl=", "larder; hit; ttl=", "larder; hit; ttl=", "larder; hit; ttl="} {
		lines := c.get("/").header["Cache-Status"]
		if len(lines) != 2 || !strings.HasPrefix(lines[0], "larder; fwd=uri-miss; ttl=") || !strings.HasPrefix(lines[1], want) {
			t.Errorf("round %d: Cache-Status is %q", round, lines)
		}
	}
}

// A part that is of no help is a part all the same (RFC 9211 §2.2).
func TestTiersCacheStatusOfAnotherPart(t *testing.T) {
	inPair(t, nil, func(p *pair) {
		content := contentOf(100)
		part := func(first, last int) sim.Reply {
			return sim.Reply{Status: 206, Body: content[first : last+1], Header: []string{
				"Cache-Control: max-age=60", `ETag: "1"`, fmt.Sprintf("Content-Range: bytes %d-%d/100", first, last),
			}}
		}
		p.Origin(part(0, 49), part(50, 99))
		p.Get("/a", "Range: bytes=0-49").Want(206, content[:50])
		p.Get("/a").Want(200, content).WantField("Cache-Status", "parent; fwd=partial; ttl=60; stored", "edge; fwd=partial; fwd-status=206; ttl=60; stored")
	})
}
