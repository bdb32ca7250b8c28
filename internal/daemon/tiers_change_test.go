package daemon

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/sim"
)

// An unsafe request through the edge has both forget what they have, once the origin has
// not refused it; nothing else does.
func TestTiersUnsafeMethods(t *testing.T) {
	for _, test := range []struct {
		method  string
		status  int
		forgets bool
	}{
		{"POST", 200, true},
		{"POST", 303, true},
		{"PUT", 204, true},
		{"DELETE", 200, true},
		{"PATCH", 200, true},
		{"FROB", 200, true},
		{"POST", 404, false},
		{"PUT", 500, false},
		{"DELETE", 403, false},
		{"OPTIONS", 200, false},
	} {
		t.Run(test.method+" "+http.StatusText(test.status), func(t *testing.T) {
			inPair(t, nil, func(p *pair) {
				p.Handle(func(r *http.Request) sim.Reply {
					if r.Method == http.MethodGet {
						return sim.Reply{Header: []string{"Cache-Control: max-age=600"}, Body: "page"}
					}
					return sim.Reply{Status: test.status, Header: []string{"Location: /b", "Content-Location: http://" + sim.Host + "/c"}}
				})
				paths := []string{"/a", "/b", "/c", "/d"}
				for _, path := range paths {
					p.Get(path).Want(200, "page")
				}
				a := p.Do(test.method, "/a", "content")
				if a.Status != test.status || p.Count() != 5 {
					t.Fatalf("%d, after %d requests", a.Status, p.Count())
				}
				for i, path := range paths {
					if forgotten := test.forgets && path != "/d"; !forgotten {
						p.Get(path).Want(200, "page").WantHit()
						p.up(path)
						p.WantCount(5 + i*btoi(test.forgets))
						continue
					}
					p.Get(path).Want(200, "page").WantField("Cache-Status", "parent; fwd=uri-miss; ttl=600; stored", "edge; fwd=uri-miss; ttl=600; stored")
				}
			})
		})
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// What was asked for before a change, and comes after it, is kept by neither.
func TestTiersChangeOvertakesAFetch(t *testing.T) {
	inPair(t, nil, func(p *pair) {
		var changed atomic.Bool
		p.Handle(func(r *http.Request) sim.Reply {
			reply := sim.Reply{Header: []string{"Cache-Control: max-age=600"}, Body: "old", Delay: 5 * time.Second}
			switch {
			case r.Method == http.MethodPost:
				changed.Store(true)
				return sim.Reply{Status: 204}
			case changed.Load():
				reply.Body = "new"
			}
			return reply
		})
		slow := p.Start("GET", "/a", "")
		p.Advance(time.Second)
		p.Do("POST", "/a", "content").Want(204, "")
		slow.Wait()
		slow.Want(200, "old") // asked for before
		p.Get("/a").Want(200, "new").WantMiss("uri-miss")
		p.Get("/a").Want(200, "new").WantHit()
		p.up("/a")
		p.WantCount(3)
	})
}

// What the loops of both replay ends with a change that comes through both.
func TestTiersChangeEndsWhatIsReplayed(t *testing.T) {
	var version atomic.Int64
	origin, seen := serveOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		if r.Method == http.MethodGet {
			fmt.Fprint(w, "version ", version.Load())
		} else {
			version.Add(1)
		}
	})
	c := newTiers(t, origin, nil)
	for i, method := range []string{"POST", "PUT", "DELETE"} {
		for range 4 {
			c.want(c.get("/a"), 200, fmt.Sprint("version ", i))
			c.want(c.ask(c.parent.URL(), "GET", "/a", ""), 200, fmt.Sprint("version ", i))
		}
		c.want(c.ask(c.edge.URL(), method, "/a", "content"), 200, "")
	}
	c.want(c.get("/a"), 200, "version 3")
	if n := seen.count(); n != 7 {
		t.Errorf("the origin was asked %d times, want 4 times for what there is and 3 to change it", n)
	}
}

// A change that never reached the origin, or whose answer never came, has the tier that
// met the fault validate before the next use.
func TestTiersChangeOfUnknownOutcome(t *testing.T) {
	inPair(t, nil, func(p *pair) {
		d := &document{version: 1, lifetime: "max-age=600"}
		p.Handle(func(r *http.Request) sim.Reply {
			if r.Method == http.MethodPost {
				return sim.Reply{Err: http.ErrServerClosed}
			}
			return d.answer(r)
		})
		p.Get("/a").Want(200, d.body())
		if a := p.Do("POST", "/a", "content"); a.Status != 502 {
			t.Errorf("got %d", a.Status)
		}
		p.wantFields(p.up("/a").Header, "Cache-Status: parent; fwd=stale; fwd-status=304; ttl=600")
		p.WantCount(3)
	})
}

// The answer to a POST that says what a GET would get serves both tiers from then on.
func TestTiersPostedIsKept(t *testing.T) {
	inPair(t, nil, func(p *pair) {
		p.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=600", "Content-Location: /a"}, Body: "posted"})
		p.Do("POST", "/a", "content").Want(200, "posted")
		p.Settle()
		p.Get("/a").Want(200, "posted").WantHit()
		p.wantFields(p.up("/a").Header, "Cache-Status: parent; hit; ttl=600")
		p.WantCount(1)
	})
}

// What the parent does not know of a change, the edge does not know either.
func TestTiersChangeOfUnknownOutcomeReachesTheEdge(t *testing.T) {
	for _, err := range []error{http.ErrServerClosed, context.DeadlineExceeded} { // 502 and 504
		inPair(t, nil, func(p *pair) {
			d := &document{version: 1, lifetime: "max-age=600"}
			p.Handle(func(r *http.Request) sim.Reply {
				if r.Method == http.MethodPost {
					d.version++ // and the answer is lost
					return sim.Reply{Err: err}
				}
				return d.answer(r)
			})
			p.Get("/a").Want(200, d.body())
			p.Do("POST", "/a", "content")
			p.Get("/a").Want(200, d.body()).WantMiss("stale")
		})
	}
}
