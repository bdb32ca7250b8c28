package daemon

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/sim"
)

// A client's condition gets the same answer wherever what it is about is stored, and in
// whatever state; and it never harms what the next client gets.
func TestTiersConditions(t *testing.T) {
	states := []struct {
		name    string
		prepare func(p *pair, d *document)
		asked   int // how often the origin is asked for it afterwards, where the condition holds
	}{
		{"neither has it", func(*pair, *document) {}, 1},
		{"the parent alone has it", func(p *pair, _ *document) { p.up("/a") }, 0},
		{"the parent alone has it, stale", func(p *pair, _ *document) { p.up("/a"); p.Advance(70 * time.Second) }, 1},
		{"the parent alone has an old version", func(p *pair, d *document) { p.up("/a"); p.Advance(70 * time.Second); d.version++ }, 1},
		{"fresh in the edge", func(p *pair, _ *document) { p.Get("/a"); p.Advance(10 * time.Second) }, 0},
		{"stale in the edge, fresh in the parent", func(p *pair, _ *document) {
			p.Get("/a")
			p.Advance(70 * time.Second)
			p.up("/a")
			p.Advance(10 * time.Second)
		}, 0},
		{"stale in the edge, a new version in the parent", func(p *pair, d *document) {
			p.Get("/a")
			p.Advance(70 * time.Second)
			d.version++
			p.up("/a")
			p.Advance(10 * time.Second)
		}, 0},
		{"stale in both", func(p *pair, _ *document) { p.Get("/a"); p.Advance(70 * time.Second) }, 1},
		{"stale in both, and there is a new version", func(p *pair, d *document) { p.Get("/a"); p.Advance(70 * time.Second); d.version++ }, 1},
	}
	conditions := []struct {
		name   string
		fields func(d *document) []string
		status int
	}{
		{"none", func(*document) []string { return nil }, 200},
		{"its tag", func(d *document) []string { return []string{"If-None-Match: " + d.tag()} }, 304},
		{"its tag, weak, among others", func(d *document) []string { return []string{`If-None-Match: "x", W/` + d.tag()} }, 304},
		{"another tag", func(*document) []string { return []string{`If-None-Match: "x"`} }, 200},
		{"its date", func(d *document) []string { return []string{"If-Modified-Since: " + d.modified()} }, 304},
		{"an earlier date", func(*document) []string {
			return []string{"If-Modified-Since: " + documentDate.Format(http.TimeFormat)}
		}, 200},
		{"another tag and its date", func(d *document) []string {
			return []string{`If-None-Match: "x"`, "If-Modified-Since: " + d.modified()}
		}, 200},
	}
	for _, state := range states {
		for _, condition := range conditions {
			t.Run(state.name+", "+condition.name, func(t *testing.T) {
				inPair(t, nil, func(p *pair) {
					d := &document{version: 1, lifetime: "max-age=60"}
					p.Handle(func(r *http.Request) sim.Reply {
						reply := d.answer(r)
						if lines := r.Header["If-None-Match"]; len(lines) > 0 && strings.Contains(lines[0], "W/"+d.tag()) {
							reply.Status, reply.Body = 304, ""
						}
						return reply
					})
					state.prepare(p, d)
					before := p.Count()
					body := d.body()
					if condition.status == 304 {
						body = ""
					}
					a := p.Get("/a", condition.fields(d)...).Want(condition.status, body)
					p.wantFields(a.Header, "ETag:"+d.tag(), "Last-Modified:"+d.modified())
					if n := p.Count() - before; n != state.asked {
						t.Errorf("the origin was asked %d times, want %d", n, state.asked)
					}
					round := a.Header.Get("Round")
					next := p.Get("/a").Want(200, d.body()).WantField("Content-Length", fmt.Sprint(len(d.body()))).WantField("ETag", d.tag())
					if p.Count() == before+state.asked {
						next.WantField("Round", round) // what the 304 has brought is kept
					} else if state.name != "neither has it" && state.name != "the parent alone has it, stale" && state.name != "the parent alone has an old version" {
						t.Error("the origin was asked again for what it had just said")
					}
					p.Get("/a").Want(200, d.body()).WantHit()
					p.Do("HEAD", "/a", "").Want(200, "").WantHit().WantField("Content-Length", fmt.Sprint(len(d.body())))
				})
			})
		}
	}
}

// A 304 that the parent gives or passes on renews the fields in the edge, and its lifetime.
func TestTiersA304RenewsTheEdge(t *testing.T) {
	inPair(t, nil, func(p *pair) {
		d := &document{version: 1, lifetime: "max-age=60"}
		p.Handle(d.answer)
		p.Get("/a").Want(200, d.body()).WantField("Round", "1")
		p.Advance(70 * time.Second)
		d.lifetime = "max-age=600"
		p.Get("/a").Want(200, d.body()).WantMiss("stale").WantField("Round", "2") // the origin's
		p.Advance(500 * time.Second)
		p.Get("/a").Want(200, d.body()).WantHit().WantField("Round", "2").WantField("Cache-Control", "max-age=600").WantField("Age", "500")
		p.Advance(100 * time.Second)
		d.lifetime = "max-age=60"
		p.up("/a")
		p.Advance(10 * time.Second)
		p.Get("/a").Want(200, d.body()).WantMiss("stale").WantField("Round", "3") // the parent's
		p.Advance(49 * time.Second)
		p.Get("/a").Want(200, d.body()).WantHit().WantField("Round", "3").WantField("Cache-Control", "max-age=60").WantField("Age", "59")
		p.WantCount(3)
	})
}

// An origin that sends Content-Length with its 304, as some frameworks do, shortens no
// body: neither in the tier that it answers, nor in the one before that.
func TestTiersSeed0_ContentLengthOf304(t *testing.T) {
	body := strings.Repeat("x", 45)
	for _, length := range []string{"0", "10", "45", "90"} {
		t.Run(length, func(t *testing.T) {
			asked := 0
			origin := serveOctets(t, func(n int, r *http.Request) string {
				asked = n + 1
				const head = "Cache-Control: max-age=60\r\nETag: \"1\"\r\nConnection: close\r\n"
				if r.Header.Get("If-None-Match") == `"1"` {
					return "HTTP/1.1 304 Not Modified\r\n" + head + "Content-Length: " + length + "\r\n\r\n"
				}
				return "HTTP/1.1 200 OK\r\n" + head + "Age: 100\r\nContent-Length: 45\r\n\r\n" + body
			})
			c := newTiers(t, origin, nil)
			for _, want := range []string{"parent; fwd=uri-miss", "edge; fwd=stale; fwd-status=304", "edge; hit", "edge; hit"} {
				a := c.want(c.get("/f"), 200, body)
				c.wantField(a, "Content-Length", "45")
				if got := strings.Join(a.header["Cache-Status"], ", "); !strings.Contains(got, want) {
					t.Fatalf("Cache-Status is %q, want %q", got, want)
				}
			}
			c.want(c.get("/f", "Range: bytes=40-"), 206, body[40:])
			c.want(c.ask(c.parent.URL(), "GET", "/f", ""), 200, body)
			c.want(c.get("/f", `If-None-Match: "1"`), 304, "")
			c.want(c.get("/f"), 200, body)
			if asked != 2 {
				t.Errorf("the origin was asked %d times", asked)
			}
		})
	}
}
