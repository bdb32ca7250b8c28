package daemon

import (
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/sim"
)

// target has each tier obey a field of its own, before the one that is for both.
func target(edge, parent *engine.Config) {
	edge.Terms.TargetedFields = []string{"Edge-Cache-Control", "Cdn-Cache-Control"}
	parent.Terms.TargetedFields = []string{"Parent-Cache-Control", "Cdn-Cache-Control"}
}

// targeted is an origin that sends these fields, and 304 to whoever has its page.
func targeted(p *pair, header ...string) {
	p.Origin(sim.Reply{Header: append(header, `ETag: "1"`), Body: "page"}, sim.Reply{Status: 304, Header: append(header, `ETag: "1"`)})
}

// Each tier obeys the field that is meant for it; clients get them all, with the Age by
// which they count.
func TestTiersTargetedLifetimes(t *testing.T) {
	inPair(t, target, func(p *pair) {
		fields := []string{"Cache-Control: max-age=5", "CDN-Cache-Control: max-age=1", "Edge-Cache-Control: max-age=600", "Parent-Cache-Control: max-age=60"}
		targeted(p, fields...)
		p.Get("/a").Want(200, "page")
		p.Advance(59 * time.Second)
		p.Get("/a").WantHit().WantField("Age", "59").WantField("Cache-Control", "max-age=5").WantField("CDN-Cache-Control", "max-age=1")
		p.wantFields(p.up("/a").Header, append(fields, "Age: 59")...)
		p.WantCount(1)
		p.Advance(time.Second)
		p.up("/a")
		p.WantCount(2) // it is over in the parent
		p.Advance(539 * time.Second)
		p.Get("/a").Want(200, "page").WantHit().WantField("Age", "599")
		p.WantCount(2)
		p.Advance(time.Second)
		p.Get("/a").Want(200, "page").WantMiss("stale")
		p.WantCount(3)
	})
}

// What the edge may keep for a shorter time than the parent is validated there, without
// the origin. As its lifetime counts from the origin, it is not kept again without
// validation before the origin has been asked.
func TestTiersTargetedShorterInTheEdge(t *testing.T) {
	inPair(t, target, func(p *pair) {
		targeted(p, "Cache-Control: no-store", "Edge-Cache-Control: max-age=60", "Parent-Cache-Control: max-age=600")
		p.Get("/a").Want(200, "page")
		p.Advance(59 * time.Second)
		p.Get("/a").Want(200, "page").WantHit()
		for range 3 {
			p.Advance(100 * time.Second)
			p.Get("/a").Want(200, "page").WantMiss("stale").WantField("Content-Length", "4")
		}
		p.WantCount(1)
		p.Advance(300 * time.Second)
		p.Get("/a").Want(200, "page").WantMiss("stale")
		p.WantCount(2)
		p.Get("/a").Want(200, "page").WantHit()
	})
}

// An operator may have lifetimes begin anew in the edge: with emit-age=off and date-mode=now
// at the parent, where a short one in the edge works as one would think.
func TestTiersLifetimesBegunAnew(t *testing.T) {
	inPair(t, func(edge, parent *engine.Config) {
		target(edge, parent)
		parent.Terms.HideAge, parent.Terms.DateNow = true, true
	}, func(p *pair) {
		targeted(p, "Edge-Cache-Control: max-age=60", "Parent-Cache-Control: max-age=600", "Date: "+sim.Date(0))
		p.Get("/a").Want(200, "page")
		for range 9 {
			p.Advance(60 * time.Second)
			p.Get("/a").Want(200, "page").WantMiss("stale")
			p.Advance(3 * time.Second)
			p.Get("/a").Want(200, "page").WantHit().WantField("Age", "3")
		}
		p.WantCount(1)
	})
}

// What one tier must not keep, the other may.
func TestTiersTargetedNoStore(t *testing.T) {
	for name, test := range map[string]struct {
		fields           []string
		atParent, atEdge bool // whether it is kept
	}{
		"in the edge":            {[]string{"CDN-Cache-Control: max-age=60", "Edge-Cache-Control: no-store"}, true, false},
		"in the parent":          {[]string{"CDN-Cache-Control: max-age=60", "Parent-Cache-Control: no-store"}, false, true},
		"in both":                {[]string{"Cache-Control: max-age=60", "CDN-Cache-Control: no-store"}, false, false},
		"nowhere":                {[]string{"Cache-Control: no-store", "CDN-Cache-Control: max-age=60"}, true, true},
		"in clients":             {[]string{"Cache-Control: no-store", "Edge-Cache-Control: max-age=60", "Parent-Cache-Control: max-age=60"}, true, true},
		"elsewhere, unreadable":  {[]string{"Cache-Control: max-age=60", "Edge-Cache-Control: ((", "Parent-Cache-Control: no-store"}, false, true},
		"in the parent, private": {[]string{"Cache-Control: max-age=60", "Parent-Cache-Control: private"}, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			inPair(t, target, func(p *pair) {
				p.Origin(sim.Reply{Header: test.fields, Body: "page"})
				p.Get("/a").Want(200, "page")
				if hit := p.Get("/a").Want(200, "page").Hit(); hit != test.atEdge {
					t.Errorf("a hit of the edge: %v, want %v", hit, test.atEdge)
				}
				before := p.Count()
				p.up("/a")
				if hit := p.Count() == before; hit != test.atParent {
					t.Errorf("a hit of the parent: %v, want %v", hit, test.atParent)
				}
			})
		})
	}
}

// strip-targeted keeps a field from whoever asks, after it was obeyed: at the parent from
// the edge, at the edge from clients, on all kinds of answers.
func TestTiersStripTargeted(t *testing.T) {
	inPair(t, func(edge, parent *engine.Config) {
		target(edge, parent)
		parent.Terms.StripTargeted = []string{"Parent-Cache-Control"}
		edge.Terms.StripTargeted = []string{"Edge-Cache-Control", "Cdn-Cache-Control"}
	}, func(p *pair) {
		targeted(p, "Cache-Control: no-cache", "CDN-Cache-Control: max-age=1", "Edge-Cache-Control: max-age=60", "Parent-Cache-Control: max-age=60")
		stripped := func(a *sim.Answer) {
			t.Helper()
			a.WantField("Cache-Control", "no-cache").WantField("CDN-Cache-Control").WantField("Edge-Cache-Control").WantField("Parent-Cache-Control")
		}
		stripped(p.Get("/a").Want(200, "page"))
		p.Advance(59 * time.Second)
		stripped(p.Get("/a").Want(200, "page").WantHit())
		stripped(p.Get("/a", `If-None-Match: "1"`).Want(304, "").WantHit())
		stripped(p.Get("/a", "Range: bytes=1-2").Want(206, "ag").WantHit())
		p.wantFields(p.up("/a").Header, "Parent-Cache-Control:", "Edge-Cache-Control: max-age=60", "CDN-Cache-Control: max-age=1")
		p.Advance(time.Second)
		stripped(p.Get("/a").Want(200, "page").WantMiss("stale"))
		p.WantCount(2)
		p.Advance(59 * time.Second) // what was stripped on the way is obeyed still
		stripped(p.Get("/a").Want(200, "page").WantHit())
		p.wantFields(p.up("/a").Header, "Age: 59")
		p.WantCount(2)
	})
	inPair(t, func(edge, parent *engine.Config) {
		target(edge, parent)
		parent.Terms.StripTargeted = []string{"Parent-Cache-Control", "Cdn-Cache-Control"}
	}, func(p *pair) { // what the parent strips is nothing that the edge could obey
		targeted(p, "Cache-Control: max-age=5", "CDN-Cache-Control: max-age=60")
		p.Get("/a").Want(200, "page")
		p.Advance(6 * time.Second)
		p.Get("/a").Want(200, "page").WantMiss("stale").WantField("Age", "6")
		p.WantCount(1)
	})
}

// Surrogate-Control is for the tier that is told to obey it, which keeps it to itself.
func TestTiersSurrogateControl(t *testing.T) {
	for name, test := range map[string]struct {
		edge, parent          bool
		edgeLives, parentLive time.Duration
		sees, capable         string // what the edge is sent, and the origin
	}{
		"nobody's": {false, false, 5 * time.Second, 5 * time.Second, "max-age=60", ""},
		"parent's": {false, true, 5 * time.Second, 60 * time.Second, "", `larder="Surrogate/1.0"`},
		"edge's":   {true, false, 60 * time.Second, 5 * time.Second, "max-age=60", `larder="Surrogate/1.0"`},
	} {
		t.Run(name, func(t *testing.T) {
			configure := func(edge, parent *engine.Config) {
				edge.Terms.Surrogate, parent.Terms.Surrogate = test.edge, test.parent
			}
			fields := []string{"Cache-Control: max-age=5", `Surrogate-Control: max-age=60`}
			inPair(t, configure, func(p *pair) {
				targeted(p, fields...)
				a := p.Get("/a").Want(200, "page")
				p.wantFields(p.Last().Header, "Surrogate-Capability: "+test.capable)
				if test.edge {
					a.WantField("Surrogate-Control")
				}
				p.Advance(test.edgeLives - time.Second)
				p.Get("/a").Want(200, "page").WantHit()
				p.Advance(time.Second)
				p.Get("/a").Want(200, "page").WantMiss("stale")
			})
			inPair(t, configure, func(p *pair) {
				targeted(p, fields...)
				p.wantFields(p.up("/a").Header, "Surrogate-Control: "+test.sees)
				p.Advance(test.parentLive - time.Second)
				p.wantFields(p.up("/a").Header, "Cache-Status: parent; hit; ttl=1")
				p.Advance(time.Second)
				p.up("/a")
				p.WantCount(2)
			})
		})
	}
}

// Two tiers of one token are announced once: it names one of them to the origin.
func TestTiersAnnounceThemselvesOnce(t *testing.T) {
	inPair(t, func(edge, parent *engine.Config) { edge.Terms.Surrogate, parent.Terms.Surrogate = true, true }, func(p *pair) {
		targeted(p, "Surrogate-Control: max-age=60")
		p.Get("/a").Want(200, "page")
		tokens := map[string]bool{}
		for _, line := range p.Last().Header["Surrogate-Capability"] {
			for member := range strings.SplitSeq(line, ",") {
				token, _, _ := strings.Cut(strings.TrimSpace(member), "=")
				if tokens[token] {
					t.Errorf("%s is there twice: %q", token, p.Last().Header["Surrogate-Capability"])
				}
				tokens[token] = true
			}
		}
	})
}
