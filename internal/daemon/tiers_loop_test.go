package daemon

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/engine"
)

// sayNames has both tiers say who they are, wherever they can.
func sayNames(edge, parent *engine.Config) {
	edge.LoopID, edge.ViaResponse = "edge.example", true
	parent.LoopID, parent.ViaResponse = "parent.example", true
}

// Each tier adds one member to Via and one to CDN-Loop, in the order of the way, after
// what the client says; on the way back as well, where hits repeat none.
func TestTiersViaAndCDNLoop(t *testing.T) {
	origin, seen := serveOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Via", "1.1 origin")
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Cache-Control", r.URL.Query().Get("keep"))
		if r.Header.Get("If-None-Match") == `"1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		io.WriteString(w, "page")
	})
	c := newTiers(t, origin, sayNames)
	for _, path := range []string{"/?keep=max-age=60", "/?keep=no-cache", "/?keep=no-store"} {
		for round := range 4 {
			before := seen.count()
			a := c.want(c.get(path, "Via: 1.0 client", "CDN-Loop: client.example"), 200, "page")
			via := a.header.Values("Via")
			if len(via) != 3 || via[0] != "1.1 origin" || !strings.HasPrefix(via[1], "1.1 larder-") || !strings.HasPrefix(via[2], "1.1 larder-") || via[1] == via[2] {
				t.Fatalf("%s, round %d: Via of the answer is %q", path, round, via)
			}
			if seen.count() == before {
				continue
			}
			r := seen.last()
			asked := strings.Split(strings.Join(r.Header.Values("Via"), ", "), ", ")
			if len(asked) != 3 || asked[0] != "1.0 client" || asked[1] != via[2] || asked[2] != via[1] {
				t.Errorf("%s, round %d: Via of the request is %q, of its answer %q", path, round, asked, via)
			}
			if got := strings.Join(r.Header.Values("CDN-Loop"), ", "); got != "client.example, edge.example, parent.example" {
				t.Errorf("%s, round %d: CDN-Loop is %q", path, round, got)
			}
		}
	}
	if n := seen.count(); n != 9 {
		t.Errorf("the origin was asked %d times, want 1, 4 and 4", n)
	}
}

// Tiers of one name in CDN-Loop take each other for themselves, unless the parent lets its
// requests pass once; nobody needs to say anything where they have two names, or none.
func TestTiersOfOneLoopID(t *testing.T) {
	for name, test := range map[string]struct {
		configure func(edge, parent *engine.Config)
		status    int
	}{
		"none": {nil, 200},
		"two":  {sayNames, 200},
		"one":  {func(edge, parent *engine.Config) { edge.LoopID, parent.LoopID = "cdn.example", "cdn.example" }, 502},
		"one, and once passes": {func(edge, parent *engine.Config) {
			edge.LoopID, parent.LoopID, parent.LoopLimit = "cdn.example", "cdn.example", 1
		}, 200},
	} {
		t.Run(name, func(t *testing.T) {
			origin, _ := serveOrigin(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "page") })
			c := newTiers(t, origin, test.configure)
			a := c.get("/")
			if a.status != test.status {
				t.Errorf("got %d, want %d: %q", a.status, test.status, a.header)
			}
			if looped := a.header.Get("Proxy-Status") == "parent; error=proxy_loop_detected"; looped != (test.status == 502) {
				t.Errorf("Proxy-Status is %q", a.header["Proxy-Status"])
			}
		})
	}
}

// A way that leads from the parent back to the edge is seen when it has come round once,
// whatever the request is, by Via or by CDN-Loop, and nothing of it is kept.
func TestTiersInACircle(t *testing.T) {
	for name, test := range map[string]struct {
		configure func(edge, parent *engine.Config)
		drops     string
	}{
		"by default":        {nil, ""},
		"by CDN-Loop alone": {sayNames, "Via"},
		"by Via alone":      {sayNames, "Cdn-Loop"},
		"one name, once allowed": {func(edge, parent *engine.Config) {
			edge.LoopID, parent.LoopID, parent.LoopLimit = "cdn.example", "cdn.example", 1
		}, "Via"},
	} {
		t.Run(name, func(t *testing.T) {
			bend, turns := newBend(t, test.drops)
			c := newTiers(t, bend.URL, test.configure)
			bend.to.Store(c.edge.URL())
			began := time.Now()
			for i, ask := range []func() answer{
				func() answer { return c.get("/") },
				func() answer { return c.get("/") },
				func() answer { return c.get("/", "Range: bytes=0-1") },
				func() answer { return c.get("/", `If-None-Match: "1"`) },
				func() answer { return c.ask(c.edge.URL(), "HEAD", "/", "") },
				func() answer { return c.ask(c.edge.URL(), "POST", "/", "content") },
			} {
				turns.Store(0)
				a := ask()
				if a.status != 502 || a.header.Get("Proxy-Status") != "edge; error=proxy_loop_detected" || len(a.header["Proxy-Status"]) != 1 {
					t.Errorf("%d: %d, %q", i, a.status, a.header)
				}
				if n := turns.Load(); n != 1 {
					t.Errorf("%d: the request came round %d times", i, n)
				}
			}
			if took := time.Since(began); took > 4*time.Second {
				t.Errorf("it took %v: somebody waited for himself", took)
			}
		})
	}
}

// A bend leads requests to an address that is known later only.
type bend struct {
	*httptest.Server
	to atomic.Value // string
}

// newBend returns a bend, and how many requests have come through it. It loses the field
// that drops names.
func newBend(t *testing.T, drops string) (b *bend, turns *atomic.Int64) {
	b, turns = new(bend), new(atomic.Int64)
	way := &http.Transport{DisableCompression: true, DisableKeepAlives: true}
	b.Server = httptest.NewServer(&httputil.ReverseProxy{Transport: way, Rewrite: func(r *httputil.ProxyRequest) {
		turns.Add(1)
		u, err := url.Parse(b.to.Load().(string))
		if err != nil {
			t.Error(err)
		}
		r.SetURL(u)
		r.Out.Host = r.In.Host
		r.Out.Header.Del(drops)
		r.Out = r.Out.WithContext(context.WithoutCancel(r.Out.Context()))
	}})
	t.Cleanup(b.Server.Close)
	return b, turns
}
