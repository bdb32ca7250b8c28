package engine_test

import (
	"errors"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/sim"
)

// arrived fails the test unless the field reached the origin with exactly these
// lines; none means that it did not.
func arrived(t *testing.T, seen *sim.Seen, name string, lines ...string) {
	t.Helper()
	if got := seen.Header[http.CanonicalHeaderKey(name)]; !slices.Equal(got, lines) {
		t.Fatalf("%s %s: the origin got %s %q, want %q", seen.Method, seen.Target, name, got, lines)
	}
}

// ways are the ways of a request through the engine to the origin.
var ways = map[string]func(w *sim.World, header ...string) *sim.Answer{
	"fetch":   func(w *sim.World, h ...string) *sim.Answer { return w.Get("/fetch", h...) },
	"head":    func(w *sim.World, h ...string) *sim.Answer { return w.Do("HEAD", "/head", "", h...) },
	"range":   func(w *sim.World, h ...string) *sim.Answer { return w.Get("/range", append(h, "Range: bytes=0-1")...) },
	"guarded": func(w *sim.World, h ...string) *sim.Answer { return w.Get("/guarded", append(h, "If-Match: *")...) },
	"pass":    func(w *sim.World, h ...string) *sim.Answer { return w.Do("POST", "/pass", "content", h...) },
	"options": func(w *sim.World, h ...string) *sim.Answer { return w.Do("OPTIONS", "/options", "", h...) },
}

func TestFWD01_HopByHopFieldsEndHere(t *testing.T) {
	hop := []string{
		"Connection: close, X-Mine", "Connection: \"x-quoted\", x-second , ", "X-Mine: 1", "X-Second: 2", "Keep-Alive: timeout=5",
		"Proxy-Connection: keep-alive", "Te: trailers, deflate", "Trailer: X-Late", "Transfer-Encoding: chunked",
		"Upgrade: h2c, websocket", "Http2-Settings: AAMAAABkAAQAAP__", "X-Stays: 3",
	}
	gone := []string{
		"Connection", "X-Mine", "X-Second", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings",
	}
	for way, ask := range ways {
		t.Run(way, func(t *testing.T) {
			sim.Run(t, func(w *sim.World) {
				w.Origin(sim.Reply{
					Header:  append([]string{"Cache-Control: max-age=60"}, hop...),
					Interim: []sim.Interim{{Status: 103, Header: hop}}, Body: "page",
				})
				for range 2 { // from the origin, and perhaps from the store
					a := ask(w, hop...)
					seen := w.Last()
					heads := []http.Header{seen.Header, a.Header}
					for _, i := range a.Interims {
						heads = append(heads, i.Header)
					}
					for _, h := range heads {
						for _, name := range gone {
							if lines, ok := h[name]; ok {
								t.Errorf("%s: %q is in %v", name, lines, h)
							}
						}
						if h.Get("X-Stays") != "3" {
							t.Errorf("X-Stays is not in %v", h)
						}
					}
				}
			})
		})
	}
}

func TestFWD02_NobodyNamesOurFieldsAway(t *testing.T) {
	configure := func(c *engine.Config) {
		c.LoopID, c.Forwarded, c.ViaResponse = "shop", engine.ForwardX, true
		c.Terms.Surrogate = true
	}
	for way, ask := range ways {
		t.Run(way, func(t *testing.T) {
			sim.RunWith(t, configure, func(w *sim.World) {
				names := "Via, CDN-Loop, X-Forwarded-For, X-Forwarded-Host, X-Forwarded-Proto, Surrogate-Capability, Host, Content-Length, Cache-Control, Cookie"
				w.Origin(sim.Reply{Header: []string{
					"Connection: Via, Date, Cache-Status, Age, Cache-Control, Content-Length", "Cache-Control: max-age=60", "Via: 1.0 inner",
				}, Body: "page"})
				a := ask(w, "Connection: "+names, "Via: 1.0 before", "CDN-Loop: other; a=b", "X-Forwarded-For: 1.2.3.4",
					"Surrogate-Capability: outer=\"x\"", "Cache-Control: max-stale", "Cookie: a=b")
				seen := w.Last()
				arrived(t, seen, "Via", "1.0 before", "1.1 sim")
				arrived(t, seen, "CDN-Loop", "other; a=b", "shop")
				arrived(t, seen, "X-Forwarded-For", "192.0.2.1")
				arrived(t, seen, "X-Forwarded-Host", sim.Host)
				arrived(t, seen, "X-Forwarded-Proto", "http")
				arrived(t, seen, "Cache-Control", "max-stale")
				arrived(t, seen, "Cookie")
				if got := seen.Header["Surrogate-Capability"]; len(got) == 0 || !strings.Contains(got[len(got)-1], "Surrogate/1.0") {
					t.Errorf("Surrogate-Capability %q", got)
				}
				if seen.Host != sim.Host {
					t.Errorf("Host %q", seen.Host)
				}
				if way == "pass" && (seen.Content != "content" || seen.ContentLength != 7) {
					t.Errorf("content %q of %d octets", seen.Content, seen.ContentLength)
				}
				a.WantField("Cache-Control", "max-age=60").WantField("Via", "1.0 inner", "1.1 sim")
				if len(a.Header["Date"]) != 1 || len(a.Header["Cache-Status"]) != 1 {
					t.Errorf("the answer has %v", a.Header)
				}
				if way == "fetch" && w.Get("/fetch").WantHit().Body() != "page" {
					t.Error("not stored")
				}
			})
		})
	}
}

func TestFWD03_ViaAfterOthersWithTheVersionReceived(t *testing.T) {
	for version, want := range map[[2]int]string{{1, 0}: "1.0 sim", {1, 1}: "1.1 sim", {2, 0}: "2 sim", {3, 0}: "3 sim"} {
		sim.Run(t, func(w *sim.World) {
			w.Origin(minute)
			for _, method := range []string{"GET", "POST"} {
				r := sim.Request(method, "/a", "", "Via: 1.1 first, 2 second", "Via: 1.0 third (x, y)")
				r.ProtoMajor, r.ProtoMinor = version[0], version[1]
				a := w.Send(r)
				a.Wait()
				a.Want(200, "page").WantField("Via")
				arrived(t, w.Last(), "Via", "1.1 first, 2 second", "1.0 third (x, y)", want)
			}
		})
	}
	sim.RunWith(t, func(c *engine.Config) { c.ViaResponse = true }, func(w *sim.World) {
		r := minute
		r.Header = append(slices.Clip(r.Header), "Via: 1.0 inner")
		w.Origin(r)
		w.Get("/a").WantField("Via", "1.0 inner", "1.1 sim")
		w.Get("/a").WantHit().WantField("Via", "1.0 inner", "1.1 sim")
		w.Do("POST", "/a", "").WantField("Via", "1.0 inner", "1.1 sim")
	})
}

func TestFWD04_CirclesAreRefused(t *testing.T) {
	for _, c := range []struct {
		limit  int
		header []string
		status int
	}{
		{0, []string{"Via: 1.1 other"}, 200},
		{0, []string{"Via: 1.1 sim"}, 502},
		{0, []string{"Via: 1.1 other, 2 SIM (comment)"}, 502},
		{0, []string{"Via: 1.1 other", "Via: HTTP/1.0 sim"}, 502},
		{0, []string{"Via: 1.1 simulator"}, 200},
		{0, []string{"CDN-Loop: other, shop; a=b"}, 502},
		{0, []string{"CDN-Loop: shopper"}, 200},
		{1, []string{"Via: 1.1 sim", "CDN-Loop: shop"}, 200},
		{1, []string{"Via: 1.1 sim, 1.1 sim"}, 502},
		{1, []string{"CDN-Loop: shop", "CDN-Loop: shop"}, 502},
		{0, []string{"Via: 1.1 sim", "Connection: Via"}, 502},
		{0, []string{"CDN-Loop: shop", "Connection: CDN-Loop"}, 502},
	} {
		configure := func(cfg *engine.Config) { cfg.LoopID, cfg.LoopLimit = "shop", c.limit }
		sim.RunWith(t, configure, func(w *sim.World) {
			w.Origin(minute)
			for _, method := range []string{"GET", "HEAD", "POST", "OPTIONS"} {
				a := w.Do(method, "/"+method, "", c.header...)
				if a.Status != c.status {
					t.Errorf("%s %q, limit %d: status %d, want %d", method, c.header, c.limit, a.Status, c.status)
				}
				if c.status == 502 {
					a.WantField("Proxy-Status", "larder; error=proxy_loop_detected")
				}
			}
			if c.status == 502 {
				w.WantCount(0)
			}
		})
	}
}

func TestFWD05_CDNLoopOnlyGrows(t *testing.T) {
	for _, id := range []string{"", "shop"} {
		sim.RunWith(t, func(c *engine.Config) { c.LoopID = id }, func(w *sim.World) {
			w.Origin(minute)
			for _, ask := range ways {
				ask(w, "CDN-Loop: a; b=\"c, d\" , e", "CDN-Loop: f", "Connection: cdn-loop")
				want := []string{"a; b=\"c, d\" , e", "f"}
				if id != "" {
					want = append(want, id)
				}
				arrived(t, w.Last(), "CDN-Loop", want...)
			}
		})
	}
}

func TestFWD06_ForwardedAsConfigured(t *testing.T) {
	said := []string{
		"Forwarded: for=1.2.3.4;proto=https", "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Host: evil", "X-Forwarded-Proto: https", "X-Forwarded-Anything: evil",
	}
	for name, c := range map[string]struct {
		mode    engine.ForwardedMode
		trusted bool
		peer    string
		host    string
		want    map[string][]string
	}{
		"nothing":  {engine.ForwardNothing, false, "192.0.2.1:5", "shop.example", nil},
		"standard": {engine.ForwardStandard, false, "192.0.2.1:5", "shop.example", map[string][]string{"Forwarded": {"for=192.0.2.1;host=shop.example;proto=http"}}},
		"standard, IPv6": {engine.ForwardStandard, false, "[2001:db8::1]:5", "shop.example:8080", map[string][]string{
			"Forwarded": {`for="[2001:db8::1]";host="shop.example:8080";proto=http`},
		}},
		"standard, no address": {engine.ForwardStandard, false, "@", "shop.example", map[string][]string{"Forwarded": {"for=unknown;host=shop.example;proto=http"}}},
		"standard, sly host":   {engine.ForwardStandard, false, "192.0.2.1:5", "a;for=1.2.3.4", map[string][]string{"Forwarded": {`for=192.0.2.1;host="a;for=1.2.3.4";proto=http`}}},
		"standard, slyer host": {engine.ForwardStandard, false, "192.0.2.1:5", "a,for=1.2.3.4", map[string][]string{"Forwarded": {`for=192.0.2.1;host="a,for=1.2.3.4";proto=http`}}},
		"standard, trusted peer": {engine.ForwardStandard, true, "192.0.2.1:5", "shop.example", map[string][]string{
			"Forwarded":       {"for=1.2.3.4;proto=https", "for=192.0.2.1;host=shop.example;proto=http"},
			"X-Forwarded-For": {"1.2.3.4"}, "X-Forwarded-Host": {"evil"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Anything": {"evil"},
		}},
		"x": {engine.ForwardX, false, "192.0.2.1:5", "shop.example", map[string][]string{
			"X-Forwarded-For": {"192.0.2.1"}, "X-Forwarded-Host": {"shop.example"}, "X-Forwarded-Proto": {"http"},
		}},
		"x, IPv6": {engine.ForwardX, false, "[2001:db8::1]:5", "shop.example", map[string][]string{
			"X-Forwarded-For": {"2001:db8::1"}, "X-Forwarded-Host": {"shop.example"}, "X-Forwarded-Proto": {"http"},
		}},
		"x, trusted peer": {engine.ForwardX, true, "192.0.2.1:5", "shop.example", map[string][]string{
			"Forwarded":       {"for=1.2.3.4;proto=https"},
			"X-Forwarded-For": {"1.2.3.4, 192.0.2.1"}, "X-Forwarded-Host": {"evil"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Anything": {"evil"},
		}},
		"nothing, trusted peer": {engine.ForwardNothing, true, "192.0.2.1:5", "shop.example", map[string][]string{
			"Forwarded":       {"for=1.2.3.4;proto=https"},
			"X-Forwarded-For": {"1.2.3.4"}, "X-Forwarded-Host": {"evil"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Anything": {"evil"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			configure := func(cfg *engine.Config) {
				cfg.Forwarded = c.mode
				if c.trusted {
					cfg.Trusts = func(peer string) bool { return peer == c.peer }
				}
			}
			sim.RunWith(t, configure, func(w *sim.World) {
				w.Origin(minute)
				for _, method := range []string{"GET", "POST"} {
					r := sim.Request(method, "/a", "", said...)
					r.RemoteAddr, r.Host = c.peer, c.host
					a := w.Send(r)
					a.Wait()
					a.Want(200, "page")
					got := map[string][]string{}
					for name, lines := range w.Last().Header {
						if name == "Forwarded" || strings.HasPrefix(name, "X-Forwarded") {
							got[name] = lines
						}
					}
					if !maps.EqualFunc(got, c.want, slices.Equal) {
						t.Errorf("%s: the origin got %q, want %q", method, got, c.want)
					}
				}
			})
		})
	}
}

func TestFWD07_MaxForwards(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(minute)
		if a := w.Do("OPTIONS", "/a", "", "Max-Forwards: 0"); a.Status != 200 || a.Header.Get("Allow") == "" || a.Body() != "" {
			t.Errorf("status %d, Allow %q", a.Status, a.Header["Allow"])
		}
		if a := w.Do("TRACE", "/a", "", "Max-Forwards: 0"); a.Status != 405 {
			t.Errorf("TRACE: status %d", a.Status)
		}
		w.WantCount(0)
		for in, out := range map[string]string{"1": "0", "10": "9", "007": "6", "9223372036854775807": "9223372036854775806", "x": "x", "-1": "-1", "": ""} {
			w.Do("OPTIONS", "/a", "", "Max-Forwards: "+in).Want(200, "page")
			arrived(t, w.Last(), "Max-Forwards", out)
		}
		for _, method := range []string{"GET", "POST"} { // where it says nothing
			w.Do(method, "/"+method, "", "Max-Forwards: 0").Want(200, "page")
			arrived(t, w.Last(), "Max-Forwards", "0")
		}
	})
}

func TestFWD08_TheUnknownPassesThrough(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		for status := 200; status < 600; status++ {
			if status == 206 || status == 304 { // nobody asked
				continue
			}
			body := "page"
			if status == 204 {
				body = ""
			}
			w.Origin(sim.Reply{Status: status, Header: []string{"X-New: 1, 2", "x_odd!: 3"}, Body: body})
			for _, method := range []string{"GET", "POST"} {
				w.Do(method, "/a", "").Want(status, body).WantField("X-New", "1, 2").WantField("x_odd!", "3")
			}
		}
		w.Origin(minute)
		for _, method := range []string{"M-SEARCH", "PURGE", "BAN", "PATCH", "QUERY", "PROPFIND", "get", "Post", "X"} {
			w.Do(method, "/b", "content", "X-New: 1").Want(200, "page").WantMiss("method")
			seen := w.Last()
			arrived(t, seen, "X-New", "1")
			if seen.Method != method || seen.Content != "content" {
				t.Errorf("%s reached the origin as %s with %q", method, seen.Method, seen.Content)
			}
		}
	})
}

// A RoundTripper of the standard library adds User-Agent where the map says
// nothing about it.
func TestFWD11_NoUserAgentUnlessTheClientHasOne(t *testing.T) {
	for way, ask := range ways {
		sim.Run(t, func(w *sim.World) {
			w.Origin(minute)
			ask(w)
			if lines, ok := w.Last().Header["User-Agent"]; !ok || len(lines) > 0 {
				t.Errorf("%s: User-Agent %q, present %v", way, lines, ok)
			}
			w.Do("DELETE", "/x", "", "User-Agent: x")
			arrived(t, w.Last(), "User-Agent", "x")
		})
	}
}

func TestFWD12_NoTransformLeavesContentAlone(t *testing.T) {
	body := strings.Repeat("compress me, please. ", 1000)
	sim.Run(t, func(w *sim.World) {
		fields := []string{`ETag: "strong"`, "Content-Type: text/html", "Digest: sha-256=x", "Repr-Digest: sha-256=:x:"}
		w.Origin(sim.Reply{Header: append(fields, "Cache-Control: max-age=60, no-transform"), Body: body})
		for range 2 {
			a := w.Get("/a", "Accept-Encoding: gzip, br").Want(200, body).WantField("Content-Encoding").WantField("Vary")
			a.WantField("ETag", `"strong"`).WantField("Digest", "sha-256=x").WantField("Cache-Control", "max-age=60, no-transform")
		}
		w.Origin(sim.Reply{Header: append(fields, "Cache-Control: max-age=60"), Body: body})
		for range 2 {
			a := w.Get("/b", "Accept-Encoding: gzip, br", "Cache-Control: no-transform").Want(200, body).WantField("Content-Encoding")
			a.WantField("ETag", `"strong"`)
		}
		arrived(t, w.Last(), "Cache-Control", "no-transform")
	})
}

func TestFWD13_CONNECTIsRefused(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(minute)
		for _, target := range []string{"shop.example:443", "/a", "http://shop.example/"} {
			if a := w.Do("CONNECT", target, ""); a.Status != 405 || a.Header.Get("Allow") == "" {
				t.Errorf("%s: status %d, Allow %q", target, a.Status, a.Header["Allow"])
			}
		}
		w.WantCount(0)
	})
}

func TestFWD14_UpgradeElsewhereGoesOnWithout(t *testing.T) {
	ask := []string{"Connection: Upgrade", "Upgrade: websocket"}
	sim.Run(t, func(w *sim.World) { // configured for nothing
		w.Origin(minute)
		w.Get("/a", ask...).Want(200, "page").WantMiss("uri-miss")
		arrived(t, w.Last(), "Upgrade")
		arrived(t, w.Last(), "Connection")
		w.Get("/a", ask...).WantHit()
	})
	sim.RunWith(t, func(c *engine.Config) { c.Upgrades = []string{"websocket"} }, func(w *sim.World) {
		w.Origin(minute)
		w.Get("/a").WantMiss("uri-miss")
		w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=60"}, Body: "no upgrade here"})
		w.Get("/a", ask...).Want(200, "no upgrade here").WantMiss("bypass")
		arrived(t, w.Last(), "Upgrade", "websocket")
		w.Get("/a").WantHit().Want(200, "page") // touched by none of it
		for _, other := range [][]string{
			{"Connection: Upgrade", "Upgrade: h2c"},
			{"Upgrade: websocket"},
			{"Connection: Upgrade", "Upgrade: websocket, h2c"},
			{"Connection: Upgrade", "Upgrade: websocket", "Upgrade: h2c"},
		} {
			w.Get("/a", other...).WantHit()
			w.Do("POST", "/b", "", other...).WantMiss("method")
			arrived(t, w.Last(), "Upgrade")
		}
		r := sim.Request("GET", "/a", "", ask...)
		r.ProtoMinor = 0
		a := w.Send(r)
		a.Wait()
		a.WantHit()
	})
}

// What is not idempotent is sent once, whatever comes of it; what is, and
// failed, is the business of the origin's pool.
func TestFWD09_TheEngineSendsOnce(t *testing.T) {
	for _, err := range []error{errors.New("down"), saying{"http_protocol_error", 502, false}, saying{"connection_terminated", 502, true}} {
		sim.Run(t, func(w *sim.World) {
			w.Origin(sim.Reply{Err: err})
			for i, method := range []string{"POST", "PATCH", "PUT", "DELETE", "GET", "HEAD", "OPTIONS", "X"} {
				w.Do(method, "/a", "")
				w.WantCount(i + 1)
			}
		})
	}
	// A 304 that nobody asked for is an answer, too.
	sim.Run(t, func(w *sim.World) {
		w.Origin(sim.Reply{Status: 304})
		w.Do("POST", "/a", "content")
		w.WantCount(1)
	})
}

// An endless stream of octets, counted.
type endless struct{ n atomic.Int64 }

func (e *endless) Read(p []byte) (int, error) {
	e.n.Add(int64(len(p)))
	return len(p), nil
}

// A client that takes nothing until it goes away.
type stuckWriter struct {
	header http.Header
	gone   chan struct{}
}

func (w stuckWriter) Header() http.Header { return w.header }
func (w stuckWriter) WriteHeader(int)     {}
func (w stuckWriter) Write([]byte) (int, error) {
	<-w.gone
	return 0, net.ErrClosed
}

func TestFWD16_AClientThatDoesNotReadHoldsTheOriginBack(t *testing.T) {
	for cc, limit := range map[string]int64{"no-store": 1 << 20, "max-age=60": 18 << 20} { // the store holds 16 MiB
		for _, method := range []string{"GET", "POST"} {
			t.Run(method+" "+cc, func(t *testing.T) {
				sim.Run(t, func(w *sim.World) {
					body := &endless{}
					w.Origin(sim.Reply{Header: []string{"Cache-Control: " + cc}, Stream: body})
					client := stuckWriter{http.Header{}, make(chan struct{})}
					over := make(chan struct{})
					go func() {
						defer close(over)
						defer func() {
							if p := recover(); p != http.ErrAbortHandler {
								t.Errorf("ended with %v", p)
							}
						}()
						w.Engine.ServeHTTP(client, sim.Request(method, "/endless", ""))
					}()
					w.Settle()
					if n := body.n.Load(); n > limit {
						t.Errorf("%d octets were taken from the origin, for none that the client took", n)
					}
					close(client.gone)
					<-over
					w.Settle()
				})
			})
		}
	}
}

func TestQRY01_QUERYIsSafeAndNotStored(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(minute)
		w.Get("/a").WantMiss("uri-miss")
		for i := range 2 {
			w.Do("QUERY", "/a", "select", "Content-Type: text/plain").Want(200, "page").WantMiss("method")
			w.WantCount(2 + i)
			if got := w.Last().Content; got != "select" {
				t.Errorf("the origin got %q", got)
			}
		}
		w.Get("/a").WantHit() // nothing was invalidated
		w.Do("QUERY", "/b", "select").WantMiss("method")
		w.Get("/b").WantMiss("uri-miss")
	})
}

func TestENC05_DictionariesPassThrough(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=60", `Use-As-Dictionary: match="/js/*"`, "Vary: accept-encoding, available-dictionary"}, Body: "page"})
		ask := []string{"Available-Dictionary: :pZGm1A==:", `Dictionary-ID: "x"`, "Accept-Encoding: gzip, br, zstd, dcb, dcz"}
		for range 2 {
			w.Get("/a", ask...).Want(200, "page").WantField("Use-As-Dictionary", `match="/js/*"`)
		}
		w.WantCount(1)
		arrived(t, w.Last(), "Available-Dictionary", ":pZGm1A==:")
		arrived(t, w.Last(), "Dictionary-ID", `"x"`)
		arrived(t, w.Last(), "Accept-Encoding", "gzip, br, zstd, dcb, dcz")
		w.Get("/a", "Available-Dictionary: :AAAA:", ask[1], ask[2]).WantMiss("vary-miss")
	})
}

func TestESI01_MarkupIsPassedOnUnread(t *testing.T) {
	page := `<p><esi:include src="/part"/><!--esi <b>x</b> --><esi:remove>y</esi:remove></p>`
	sim.Run(t, func(w *sim.World) {
		w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=60", `Surrogate-Control: content="ESI/1.0"`, `ETag: "1"`}, Body: page})
		for range 2 {
			w.Get("/a").Want(200, page).WantField("ETag", `"1"`).WantField("Surrogate-Control", `content="ESI/1.0"`)
		}
		w.WantCount(1)
	})
}
