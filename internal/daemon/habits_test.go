package daemon

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/larderhq/larder/internal/habit"
)

// purging is a Daemon before an origin that counts, with a client for it.
func purging(t *testing.T, change func(*Options)) (c *tiers, methods *atomic.Pointer[string]) {
	var n atomic.Int64
	methods = new(atomic.Pointer[string])
	origin, _ := serveOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		methods.Store(&r.Method)
		w.Header().Set("Cache-Control", "max-age=600")
		w.Header().Set("Surrogate-Key", "all page"+r.URL.Path)
		fmt.Fprint(w, n.Add(1))
	})
	c = &tiers{t: t, edge: startWith(t, Options{Origin: origin}, change)}
	c.client = clientOf(t)
	return c, methods
}

// Nobody is listened to who is not allowed by address or token; without either the methods
// are like any other (PRG-01).
func TestPRG01_WhoMayPurge(t *testing.T) {
	const token = "a word that nobody guesses"
	loopback := func(peer string) bool { return strings.HasPrefix(peer, "127.0.0.1:") }
	elsewhere := func(string) bool { return false }
	for name, c := range map[string]struct {
		from   func(string) bool
		token  string
		header string
		status int
	}{
		"by address":                    {from: loopback, status: 200},
		"from elsewhere":                {from: elsewhere, status: 405},
		"through a proxy":               {from: loopback, header: "X-Forwarded-For: 127.0.0.1", status: 405},
		"through another proxy":         {from: loopback, header: "Via: 1.1 x", status: 405},
		"by a page":                     {from: loopback, header: "Origin: http://evil.example", status: 405},
		"by a page of nowhere":          {from: loopback, header: "Origin: null", status: 405},
		"by a page, says the browser":   {from: loopback, header: "Sec-Fetch-Site: same-origin", status: 405},
		"by token":                      {token: token, header: "Authorization: Bearer " + token, status: 200},
		"by token, as Fastly":           {token: token, header: "Fastly-Key: " + token, status: 200},
		"by token, as others":           {token: token, header: "X-Purge-Token: " + token, status: 200},
		"by token, through a proxy":     {from: elsewhere, token: token, header: "X-Purge-Token: " + token, status: 200},
		"without a token":               {token: token, status: 405},
		"by an empty token":             {token: token, header: "X-Purge-Token: ", status: 405},
		"by a part of the token":        {token: token, header: "X-Purge-Token: " + token[:8], status: 405},
		"by the token in another place": {token: token, header: "Authorization: Basic " + token, status: 405},
	} {
		t.Run(name, func(t *testing.T) {
			p, _ := purging(t, func(o *Options) { o.PurgeFrom, o.PurgeToken = c.from, c.token })
			for _, method := range []string{"PURGE", "BAN", "REFRESH"} {
				if !habit.Is(method) {
					t.Fatalf("%s is no habit", method)
				}
			}
			p.want(p.get("/a"), 200, "1")
			var header []string
			if c.header != "" {
				header = []string{c.header}
			}
			a := p.ask(p.edge.URL(), "PURGE", "/a", "", header...)
			if a.status != c.status {
				t.Fatalf("status %d: %s", a.status, a.body)
			}
			after := "1"
			if c.status == 200 {
				after = "2"
			}
			p.want(p.get("/a"), 200, after)
			if all := p.edge.ledger.Receipts(); (len(all) == 1) != (c.status == 200) {
				t.Errorf("purges: %+v", all)
			}
		})
	}
}

func TestPRG01_OffTheyAreLikeAnyOther(t *testing.T) {
	p, seen := purging(t, nil)
	p.want(p.get("/a"), 200, "1")
	for _, method := range []string{"PURGE", "BAN"} {
		p.ask(p.edge.URL(), method, "/b", "")
		if got := *seen.Load(); got != method {
			t.Errorf("the origin got %s for %s", got, method)
		}
	}
	p.want(p.get("/a"), 200, "1")
}

// What is not understood is refused, and purges nothing.
func TestHabitsThatAreNotUnderstood(t *testing.T) {
	p, _ := purging(t, func(o *Options) {
		o.PurgeFrom = func(peer string) bool { return strings.HasPrefix(peer, "127.0.0.1:") }
	})
	p.want(p.get("/a"), 200, "1")
	for _, header := range []string{"X-Magento-Tags-Pattern: (", "X-Purge-Method: guess"} {
		a := p.ask(p.edge.URL(), "PURGE", "/a", "", header)
		if a.status != 400 || strings.TrimSpace(a.body) == "" {
			t.Errorf("%s: %d %q", header, a.status, a.body)
		}
	}
	p.want(p.get("/a"), 200, "1")
}

func TestHabitsPurgeTags(t *testing.T) {
	p, _ := purging(t, func(o *Options) {
		o.PurgeFrom = func(peer string) bool { return strings.HasPrefix(peer, "127.0.0.1:") }
	})
	p.want(p.get("/a"), 200, "1")
	p.want(p.get("/b"), 200, "2")
	if a := p.ask(p.edge.URL(), "PURGE", "/", "", "xkey: page/a"); a.status != 200 || !strings.Contains(a.body, `"status":"ok"`) {
		t.Errorf("%d %s", a.status, a.body)
	}
	p.want(p.get("/a"), 200, "3")
	p.want(p.get("/b"), 200, "2")
}
