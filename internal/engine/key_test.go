package engine_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/canon"
	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/sim"
	"github.com/larderhq/larder/store"
)

// byTarget has the origin answer with what it was asked for, to be kept for an
// hour.
func byTarget(w *sim.World) {
	w.Handle(func(r *http.Request) sim.Reply {
		target := r.URL.Opaque
		if r.URL.RawQuery != "" || r.URL.ForceQuery {
			target += "?" + r.URL.RawQuery
		}
		return sim.Reply{Header: []string{"Cache-Control: max-age=3600"}, Body: r.Method + " " + r.URL.Scheme + " " + r.Host + " " + target}
	})
}

func TestKEY01_EachResourceHasItsEntry(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		byTarget(w)
		for _, c := range []struct{ target, host, want string }{
			{"/a", "ex.com", "GET http ex.com /a"},
			{"/a?", "ex.com", "GET http ex.com /a?"},
			{"/a?b", "ex.com", "GET http ex.com /a?b"},
			{"/a?b=1&c=2", "ex.com", "GET http ex.com /a?b=1&c=2"},
			{"/a?c=2&b=1", "ex.com", "GET http ex.com /a?c=2&b=1"}, // KEY-08: nothing is sorted
			{"/a?utm_source=x", "ex.com", "GET http ex.com /a?utm_source=x"},
			{"/A", "ex.com", "GET http ex.com /A"}, // KEY-03
			{"/a?B", "ex.com", "GET http ex.com /a?B"},
			{"//a", "ex.com", "GET http ex.com //a"}, // KEY-05
			{"/%61", "ex.com", "GET http ex.com /%61"},
			{"/a/../a", "ex.com", "GET http ex.com /a/../a"},
			{`/a"b|c`, "ex.com", `GET http ex.com /a"b|c`},
			{"/%zz", "ex.com", "GET http ex.com /%zz"},
			{"/a", "ex.org", "GET http ex.org /a"},
			{"/a", "ex.com:8080", "GET http ex.com:8080 /a"},
			{"https://ex.com/a", "", "GET https ex.com /a"},
		} {
			w.Get(c.target, "Host: "+c.host).Want(200, c.want).WantMiss("uri-miss")
			w.Get(c.target, "Host: "+c.host).Want(200, c.want).WantHit()
		}
		w.WantCount(16)
		// KEY-02, KEY-06: other words for the same.
		for _, c := range []struct{ target, host, want string }{
			{"/a", "EX.com:80", "GET http ex.com /a"},
			{"HTTP://EX.COM:80/a", "evil.example", "GET http ex.com /a"},
			{"hTTps://ex.com:443/a", "ex.com:8080", "GET https ex.com /a"},
		} {
			w.Get(c.target, "Host: "+c.host).Want(200, c.want).WantHit()
		}
		secure := sim.Request("GET", "/a", "", "Host: ex.com")
		secure.TLS = &tls.ConnectionState{}
		a := w.Send(secure)
		a.Wait()
		a.Want(200, "GET https ex.com /a").WantHit()
	})
}

func TestKEY07_MethodsDoNotMix(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		byTarget(w)
		w.Get("/a").WantMiss("uri-miss")
		w.Get("/a").WantHit()
		w.Do("HEAD", "/a", "").Want(200, "").WantHit()
		w.WantCount(1)
		for i, method := range []string{"QUERY", "OPTIONS", "PROPFIND", "REPORT", "get", "Get", "head", "UNKNOWN", "POST", "PUT", "DELETE", "PATCH"} {
			w.Do(method, "/a", "").Want(200, method+" http shop.example /a").WantMiss("method")
			w.WantCount(2 + 2*i)
			w.Do(method, "/a", "").Want(200, method+" http shop.example /a").WantMiss("method")
			w.WantCount(3 + 2*i)
		}
	})
	// What they bring answers no GET either.
	sim.Run(t, func(w *sim.World) {
		byTarget(w)
		for i, method := range []string{"QUERY", "OPTIONS", "UNKNOWN", "PUT", "DELETE"} {
			target := fmt.Sprint("/", i)
			w.Do(method, target, "")
			w.Get(target).Want(200, "GET http shop.example "+target).WantMiss("uri-miss")
		}
	})
}

// spying lets look at every octet that a store is given.
type spying struct {
	store.Store
	mu   sync.Mutex
	seen []byte
}

func (s *spying) note(octets []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(append(s.seen, octets...), '\n')
}

func (s *spying) Create(ctx context.Context, key store.Key, head store.Head, size int64) (store.Writer, error) {
	s.note(key)
	s.note(head.Octets)
	return s.Store.Create(ctx, key, head, size)
}

func (s *spying) Amend(ctx context.Context, key store.Key, id store.ID, head store.Head) error {
	s.note(head.Octets)
	return s.Store.Amend(ctx, key, id, head)
}

func TestKEY11_SecretsAreKeptAsHashesOnly(t *testing.T) {
	var spy *spying
	configure := func(c *engine.Config) {
		spy = &spying{Store: c.Store}
		c.Store = spy
		c.Explain = true
	}
	sim.RunWith(t, configure, func(w *sim.World) {
		w.Handle(func(r *http.Request) sim.Reply {
			reply := sim.Reply{
				Header: []string{"Cache-Control: public, max-age=60", `ETag: "1"`, "Vary: Cookie, Authorization, Proxy-Authorization, Foo"},
				Body:   r.Header.Get("Cookie") + r.Header.Get("Authorization"),
			}
			if r.Header.Get("If-None-Match") != "" {
				reply.Status, reply.Body = 304, ""
			}
			return reply
		})
		secrets := []string{"hunter2", "QWxhZGRpbg", "tr0ub4dor", "open sesame"}
		var answers []*sim.Answer
		ask := func(lines ...string) *sim.Answer {
			a := w.Get("/a", lines...)
			answers = append(answers, a)
			return a
		}
		mine := []string{"Cookie: session=hunter2", "Authorization: Basic QWxhZGRpbg", "Foo: visible"}
		ask(mine...).Want(200, "session=hunter2Basic QWxhZGRpbg").WantMiss("uri-miss")
		ask(mine...).Want(200, "session=hunter2Basic QWxhZGRpbg").WantHit()
		for _, others := range [][]string{
			nil,
			{"Cookie: ", "Authorization: Basic QWxhZGRpbg", "Foo: visible"},
			{"Cookie: session=hunter3", "Authorization: Basic QWxhZGRpbg", "Foo: visible"},
			{"Cookie: session=hunter2", "Authorization: Basic tr0ub4dor", "Foo: visible"},
			{"Cookie: session=hunter2", "Authorization: Basic QWxhZGRpbg", "Foo: visible", "Proxy-Authorization: open sesame"},
			{"Cookie: session=hunter2", "Authorization: Basic QWxhZGRpbg"},
		} {
			ask(others...).WantMiss("vary-miss")
			ask(others...).WantHit()
		}
		ask("Cookie: session=hunter2; a", "Foo: visible").WantMiss("vary-miss")
		w.Advance(time.Minute)
		ask(mine...).Want(200, "session=hunter2Basic QWxhZGRpbg").WantMiss("stale")
		ask(mine...).Want(200, "session=hunter2Basic QWxhZGRpbg").WantHit()

		seen := string(spy.seen)
		if !strings.Contains(seen, "visible") || !strings.Contains(seen, "/a") {
			t.Fatal("the spy sees nothing")
		}
		for _, e := range w.Events() {
			seen += fmt.Sprintf("%+v\n", e)
		}
		for _, a := range answers {
			seen += fmt.Sprintf("%+v\n", a.Header)
		}
		for _, secret := range secrets {
			if strings.Contains(seen, secret) {
				t.Errorf("%q is there to be read", secret)
			}
		}
	})
}

// The hashes are keyed: who has a store, but not the key, cannot try cookies.
func TestKEY11_HashesDependOnTheSecret(t *testing.T) {
	var heads []string
	for _, secret := range []string{"a", "b", "a", "", ""} {
		var spy *spying
		configure := func(c *engine.Config) {
			spy = &spying{Store: c.Store}
			c.Store = spy
			c.Terms.Secret = []byte(secret)
		}
		sim.RunWith(t, configure, func(w *sim.World) {
			w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=60", "Vary: Cookie"}, Body: "page"})
			w.Get("/a", "Cookie: c").Want(200, "page")
			w.Get("/a", "Cookie: c").Want(200, "page").WantHit()
			_, head, _ := strings.Cut(string(spy.seen), "Cookie")
			head, _, _ = strings.Cut(head, "Cache-Control")
			heads = append(heads, head[:34])
		})
	}
	if heads[0] != heads[2] {
		t.Error("one key, two hashes: nothing is found after a restart")
	}
	slices.Sort(heads)
	if n := len(slices.Compact(heads)); n != 4 {
		t.Errorf("%d different hashes under 4 keys", n)
	}
}

func TestKEY12_TargetsThatAreRefused(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(minute)
		for _, method := range []string{"GET", "HEAD", "POST", "QUERY"} {
			for _, target := range []string{"/a#b", "/a#", "/a\tb", "/a\x00b", "/a\rb", "/a\nb", "/a\x7fb", "/a b", "/a?b#c", "http://ex.com/a#b", "/\xff", "/a\\b"} {
				a := w.Do(method, target, "")
				if a.Status != 400 || a.CacheStatus() != "" {
					t.Errorf("%s %q: %d", method, target, a.Status)
				}
				if strings.Contains(a.Body(), "a#") {
					t.Errorf("%q comes back in %q", target, a.Body())
				}
			}
		}
		w.WantCount(0)
	})
}

// A target cannot claim another scheme than that of the connection, neither to
// read nor to change what is stored (RFC 9110 §7.4).
func TestKEY06_SchemeIsThatOfTheConnection(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		byTarget(w)
		w.Get("https://ex.com/a").Want(200, "GET https ex.com /a").WantMiss("uri-miss")
		w.WantCount(1)
		for _, method := range []string{"GET", "HEAD", "POST", "QUERY"} {
			for _, target := range []string{"https://ex.com/a", "http://ex.com/a"} {
				r := sim.Request(method, target, "")
				if r.TLS = nil; strings.HasPrefix(target, "http:") {
					r.TLS = &tls.ConnectionState{}
				}
				a := w.Send(r)
				a.Wait()
				if a.Status != http.StatusMisdirectedRequest || method != "HEAD" && !strings.Contains(a.Body(), "encrypted") {
					t.Errorf("%s %s: %d %q", method, target, a.Status, a.Body())
				}
			}
		}
		w.WantCount(1)
		w.Get("https://ex.com/a").WantHit()
	})
}

// An equal hash is not an equal key: TestCollisions of the store forces them
// there. Above it nothing but the key names an entry, or a fetch under way.
func TestKEY09_EntriesAreToldApartByTheWholeKey(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Handle(func(r *http.Request) sim.Reply {
			return sim.Reply{Header: []string{"Cache-Control: max-age=3600"}, Body: r.URL.Opaque, Delay: time.Second}
		})
		// More keys than there are slots in any table of the engine.
		const n = 10000
		for round := range 2 {
			var answers [n]*sim.Answer
			for i := range answers {
				answers[i] = w.Start("GET", fmt.Sprint("/", i), "")
			}
			for i, a := range answers {
				a.Wait()
				a.Want(200, fmt.Sprint("/", i))
				if round > 0 {
					a.WantHit()
				}
			}
		}
		w.WantCount(n)
	})
}

// Two sites in one store are two worlds.
func TestKEY01_SitesAreKeptApart(t *testing.T) {
	sim.RunWith(t, func(c *engine.Config) { c.Site = "one" }, func(w *sim.World) {
		byTarget(w)
		w.Get("/a").WantMiss("uri-miss")
		other := engine.New(engine.Config{Site: "two", Store: w.Store, Forward: roundTripFunc(func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Header: http.Header{"Cache-Control": {"max-age=60"}}, Body: io.NopCloser(strings.NewReader("two")), ContentLength: 3, Request: r}, nil
		})})
		defer other.Close()
		one := w.Engine
		w.Engine = other
		w.Get("/a").Want(200, "two").WantMiss("uri-miss")
		w.Get("/a").Want(200, "two").WantHit()
		w.Engine = one
		w.Get("/a").Want(200, "GET http shop.example /a").WantHit()
	})
}

type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestKEY10_ExtraPartsCountForLookupAndStoring(t *testing.T) {
	var spy *spying
	configure := func(c *engine.Config) {
		spy = &spying{Store: c.Store}
		c.Store = spy
		c.KeyPart = func(r *http.Request) string {
			cookie, err := r.Cookie("tier")
			if err != nil {
				return ""
			}
			return "tier of " + cookie.Value
		}
	}
	sim.RunWith(t, configure, func(w *sim.World) {
		n := 0
		w.Handle(func(r *http.Request) sim.Reply {
			n++
			return sim.Reply{
				Header: []string{"Cache-Control: max-age=60", fmt.Sprintf("ETag: %q", r.Header.Get("Cookie")), "Vary: Foo"},
				Body:   fmt.Sprint(r.Header.Get("Cookie"), " ", n), Delay: time.Second,
			}
		})
		gold, lead, none := "Cookie: tier=gold; id=1", "Cookie: id=2; tier=lead", "Cookie: id=3"
		// Also those who come at once do not get each other's.
		var answers []*sim.Answer
		for _, cookie := range []string{gold, lead, none, gold, lead, none} {
			answers = append(answers, w.Start("GET", "/a", "", cookie))
			w.Settle()
		}
		for i, a := range answers {
			a.Wait()
			a.Want(200, []string{"tier=gold; id=1 1", "id=2; tier=lead 2", "id=3 3"}[i%3])
		}
		w.WantCount(3)
		w.Get("/a", "Cookie: tier=gold; id=9").Want(200, "tier=gold; id=1 1").WantHit()
		w.Get("/a", "Cookie: tier=lead").Want(200, "id=2; tier=lead 2").WantHit()
		w.Get("/a").Want(200, "id=3 3").WantHit()
		w.Get("/a", "Cookie: tier=tin").Want(200, "tier=tin 4").WantMiss("vary-miss")
		w.Get("/a", "Cookie: tier=gold", "Foo: 1").Want(200, "tier=gold 5").WantMiss("vary-miss")
		w.Get("/a", "Cookie: tier=gold", "Foo: 1").Want(200, "tier=gold 5").WantHit()
		w.Do("HEAD", "/a", "", "Cookie: tier=gold").Want(200, "").WantHit().WantField("Etag", `"tier=gold; id=1"`)
		// A new one takes the place of its own kind only.
		w.Advance(time.Minute)
		w.Get("/a", gold).Want(200, "tier=gold; id=1 6").WantMiss("stale")
		w.Get("/a", gold).Want(200, "tier=gold; id=1 6").WantHit()
		w.Get("/a", lead).Want(200, "id=2; tier=lead 7").WantMiss("stale")
		// What ends one ends all (RFC 9111 §4.4).
		w.Do("POST", "/a", "", gold)
		w.Get("/a", lead).Want(200, "id=2; tier=lead 9").WantMiss("uri-miss")
	})
	if strings.Contains(string(spy.seen), "tier of") || !strings.Contains(string(spy.seen), "Vary") {
		t.Error("the part is kept in clear") // KEY-11
	}
}

// A validated entry stays that of its part.
func TestKEY10_ExtraPartsOutlastAValidation(t *testing.T) {
	configure := func(c *engine.Config) { c.KeyPart = func(r *http.Request) string { return r.Header.Get("X-Part") } }
	sim.RunWith(t, configure, func(w *sim.World) {
		w.Origin(minute, sim.Reply{Status: 304}, sim.Reply{Body: "other"})
		w.Get("/a", "X-Part: 1").Want(200, "page")
		w.Advance(time.Minute)
		w.Get("/a", "X-Part: 1").Want(200, "page").WantMiss("stale")
		w.Get("/a", "X-Part: 1").Want(200, "page").WantHit()
		w.Get("/a", "X-Part: 2").Want(200, "other").WantMiss("vary-miss")
		w.Get("/a").Want(200, "other").WantMiss("vary-miss")
	})
}

// keyOf is the key of a path at sim.Host.
func keyOf(path string) store.Key {
	t := canon.Target{Scheme: "http", Host: sim.Host, Path: path}
	return t.AppendKey(nil, "")
}
