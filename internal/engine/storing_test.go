package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/rules"
	"github.com/larderhq/larder/internal/sim"
	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/memory"
)

// wantNothingStored fails the test if a store holds anything at all.
func wantNothingStored(t *testing.T, s *memory.Store) {
	t.Helper()
	if st := s.Stats(); st.Objects != 0 || st.Keys != 0 || st.Bytes != 0 {
		t.Errorf("the store holds %d entries, %d octets; want none", st.Objects, st.Bytes)
	}
}

func TestSTO01_OtherMethods(t *testing.T) {
	for _, method := range []string{"PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH", "POST", "PROPFIND", "QUERY", "PURGE", "get", "M-SEARCH"} {
		t.Run(method, func(t *testing.T) {
			sim.Run(t, func(w *sim.World) {
				w.Origin(sim.Reply{Header: []string{"Cache-Control: public, max-age=60", `ETag: "1"`}, Body: method}, minute)
				w.Do(method, "/", "")
				w.Settle()
				wantNothingStored(t, w.Store)
				w.Get("/").WantMiss("uri-miss")
			})
		})
	}
}

func TestSTO02_InterimResponses(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(sim.Reply{
			Interim: []sim.Interim{
				{Status: 102, Header: []string{"X-Interim: 1"}},
				{Status: 103, Header: []string{"Link: </style.css>; rel=preload", "Cache-Control: no-store", `ETag: "interim"`}},
			},
			Header: []string{"Cache-Control: max-age=60", "Link: </final>"}, Body: "page",
		})
		a := w.Get("/").Want(200, "page")
		if len(a.Interims) != 2 || a.Interims[1].Status != 103 || a.Interims[1].Header.Get("Etag") != `"interim"` {
			t.Errorf("interim answers: %v", a.Interims)
		}
		for _, a := range []*sim.Answer{a, w.Get("/").WantHit()} {
			a.Want(200, "page").WantField("X-Interim").WantField("Etag").WantField("Link", "</final>").WantField("Cache-Control", "max-age=60")
		}
	})
}

func TestSTO03_NotModifiedIsNoEntry(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(sim.Reply{Status: 304, Header: []string{"Cache-Control: public, max-age=60", `ETag: "1"`}}, minute)
		w.Get("/", `If-None-Match: "1"`).Want(304, "")
		wantNothingStored(t, w.Store)
		w.Get("/", `If-None-Match: "1"`).WantMiss("uri-miss")
	})
}

func TestSTO04_NoStoreLeavesNoTrace(t *testing.T) {
	for _, directives := range []string{"no-store", "no-store, max-age=60", "public, max-age=60, no-store", "s-maxage=60, no-store, immutable"} {
		for _, terms := range []rules.Terms{{}, {Private: true}} {
			sim.RunWith(t, func(c *engine.Config) { c.Terms = terms }, func(w *sim.World) {
				w.Origin(sim.Reply{Header: []string{"Cache-Control: " + directives, "Expires: " + sim.Date(time.Hour), `ETag: "1"`, "Last-Modified: " + sim.Date(-time.Hour)}, Body: "secret"})
				w.Get("/").Want(200, "secret").WantMiss("uri-miss")
				w.Settle()
				wantNothingStored(t, w.Store)
				w.Get("/").Want(200, "secret").WantMiss("uri-miss")
			})
		}
	}
}

// The no-store answer comes when an older one is there: the old one has been
// superseded, and may not come back, whether it could be validated or not.
func TestSTO04_NoStoreSupersedesTheOlderEntry(t *testing.T) {
	for name, validator := range map[string]string{"validated": `ETag: "1"`, "refetched": "X-No: validator"} {
		t.Run(name, func(t *testing.T) {
			sim.Run(t, func(w *sim.World) {
				w.Origin(
					sim.Reply{Header: []string{"Cache-Control: max-age=1", validator}, Body: "old"},
					sim.Reply{Header: []string{"Cache-Control: no-store"}, Body: "new"},
					sim.Reply{Err: errDown},
				)
				w.Get("/").Want(200, "old")
				w.Advance(2 * time.Second)
				w.Get("/").Want(200, "new").WantMiss("stale")
				w.Settle()
				wantNothingStored(t, w.Store)
				if a := w.Get("/"); a.Status < 500 {
					t.Errorf("status %d, body %q: what was superseded came back", a.Status, a.Body())
				}
			})
		})
	}
}

func TestSTO05_MustUnderstandBesideNoStore(t *testing.T) {
	cacheControl{
		"no-store, must-understand, max-age=60": fresh, "max-age=60, must-understand, no-store": fresh,
		"must-understand, max-age=60": fresh, "no-store, must-understand, private, max-age=60": absent,
	}.test(t, rules.Terms{})
}

func TestSTO06_MustUnderstandOnUnknownStatus(t *testing.T) {
	for status, hit := range map[int]bool{200: true, 404: true, 451: true, 503: true, 299: false, 226: false, 418: false, 499: false, 599: false} {
		for _, directives := range []string{"must-understand, public, max-age=60", "must-understand, no-store, max-age=60"} {
			sim.Run(t, func(w *sim.World) {
				w.Origin(sim.Reply{Status: status, Header: []string{"Cache-Control: " + directives}, Body: "page"})
				w.Get("/").Want(status, "page")
				if a := w.Get("/").Want(status, "page"); a.Hit() != hit {
					t.Errorf("%d %s: %s", status, directives, a.CacheStatus())
				}
			})
		}
	}
}

func TestSTO07_Private(t *testing.T) {
	cacheControl{"private, max-age=60": absent, "max-age=60, PRIVATE": absent}.test(t, rules.Terms{})
	cacheControl{"private, max-age=60": fresh, `private="etag", max-age=60`: fresh, "private": fresh}.test(t, rules.Terms{Private: true})
}

func TestSTO08_QualifiedPrivate(t *testing.T) {
	reply := sim.Reply{Header: []string{`Cache-Control: private="X-A, x-b", max-age=60`, "X-A: 1", "X-B: 2", "X-B: 3", "X-C: 4", `ETag: "1"`}, Body: "page", Delay: time.Second}
	sim.Run(t, func(w *sim.World) {
		w.Origin(reply)
		first, waits := w.Start("GET", "/", ""), w.Start("GET", "/", "")
		first.Wait()
		waits.Wait()
		if strings.Contains(first.CacheStatus(), "collapsed") {
			first, waits = waits, first
		}
		first.Want(200, "page").WantField("X-A", "1").WantField("X-B", "2", "3").WantField("X-C", "4")
		waits.Want(200, "page").WantField("X-A").WantField("X-B").WantField("X-C", "4")
		w.Get("/").Want(200, "page").WantHit().WantField("X-A").WantField("X-B").WantField("X-C", "4")
		w.WantCount(1)
	})
	sim.RunWith(t, func(c *engine.Config) { c.Terms.Private = true }, func(w *sim.World) {
		w.Origin(reply)
		w.Get("/")
		w.Get("/").Want(200, "page").WantHit().WantField("X-A", "1").WantField("X-B", "2", "3")
	})
}

// A validation is a fetch too: what it brings of those fields is for the client
// that caused it, whether the 304 names them again or not.
func TestSTO08_QualifiedPrivateAndValidation(t *testing.T) {
	for name, again := range map[string][]string{"named again": {`Cache-Control: private="X-A", max-age=60`}, "not named": {"Age: 0"}} {
		for _, method := range []string{"GET", "HEAD"} {
			t.Run(name+" "+method, func(t *testing.T) {
				sim.Run(t, func(w *sim.World) {
					w.Origin(
						sim.Reply{Header: []string{`Cache-Control: private="X-A", max-age=60`, "X-A: first", `ETag: "1"`}, Body: "page"},
						sim.Reply{Status: map[string]int{"GET": 304, "HEAD": 200}[method], Header: append([]string{"X-A: second", `ETag: "1"`}, again...)},
					)
					w.Get("/").Want(200, "page").WantField("X-A", "first")
					w.Advance(time.Minute)
					w.Do(method, "/", "").WantMiss("stale").WantField("X-A", "second")
					w.Get("/").Want(200, "page").WantHit().WantField("X-A")
				})
			})
		}
	}
}

func TestSTO09_Authorization(t *testing.T) {
	const credentials = "Authorization: Basic YTpi"
	for directives, stored := range map[string]bool{
		"max-age=60": false, "max-age=60, proxy-revalidate": false, "max-age=60, immutable": false, "no-cache, max-age=60": false,
		"max-age=60, public": true, "s-maxage=60": true, "max-age=60, must-revalidate": true,
		"max-age=60, must-understand": false,
	} {
		t.Run(directives, func(t *testing.T) {
			sim.Run(t, func(w *sim.World) {
				w.Origin(sim.Reply{Header: []string{"Cache-Control: " + directives, `ETag: "1"`}, Body: "page"})
				w.Get("/", credentials).Want(200, "page")
				if !stored {
					wantNothingStored(t, w.Store)
				}
				for i, request := range [][]string{{credentials}, {"Authorization: other"}, nil} {
					if a := w.Get(fmt.Sprint("/?", i), credentials); a.Hit() {
						t.Fatalf("hit at first: %s", a.CacheStatus())
					}
					if a := w.Get(fmt.Sprint("/?", i), request...).Want(200, "page"); a.Hit() != stored {
						t.Errorf("%q: %s", request, a.CacheStatus())
					}
				}
			})
		})
	}
	// The rule is for shared caches only.
	sim.RunWith(t, func(c *engine.Config) { c.Terms.Private = true }, func(w *sim.World) {
		w.Origin(minute)
		w.Get("/", credentials)
		w.Get("/", credentials).WantHit()
	})
}

// While one waits for the origin with credentials, nobody gets the answer but
// its owner.
func TestSTO09_AuthorizedAnswersAreNotShared(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Handle(func(r *http.Request) sim.Reply {
			return sim.Reply{Header: []string{"Cache-Control: max-age=60"}, Body: "for " + r.Header.Get("Authorization"), Delay: time.Second}
		})
		a := w.Start("GET", "/", "", "Authorization: a")
		w.Settle()
		b, c := w.Start("GET", "/", "", "Authorization: b"), w.Start("GET", "/", "")
		for answer, want := range map[*sim.Answer]string{a: "for a", b: "for b", c: "for "} {
			answer.Wait()
			answer.Want(200, want)
		}
	})
}

func TestSTO10_WhatPermitsStoring(t *testing.T) {
	const modified = "Last-Modified: Sat, 01 Jan 1994 00:00:00 GMT"
	for _, c := range []struct {
		header []string
		shared bool
		own    bool
	}{
		{nil, false, false},
		{[]string{"Cache-Control: foo"}, false, false},
		{[]string{modified, `ETag: "1"`}, false, false}, // 599 has no heuristic
		{[]string{"Cache-Control: public", modified}, true, true},
		{[]string{"Cache-Control: max-age=60"}, true, true},
		{[]string{"Expires: Thu, 18 Aug 2050 02:01:18 GMT"}, true, true},
		{[]string{"Cache-Control: s-maxage=60"}, true, false},
		{[]string{"Cache-Control: private", modified, `ETag: "1"`}, false, true},
		{[]string{"CDN-Cache-Control: max-age=60"}, true, false},
	} {
		for _, private := range []bool{false, true} {
			sim.RunWith(t, func(e *engine.Config) { e.Terms.Private = private }, func(w *sim.World) {
				w.Origin(sim.Reply{Status: 599, Header: c.header, Body: "page"})
				w.Get("/").Want(599, "page")
				w.Settle()
				stored := w.Store.Stats().Objects > 0
				if want := !private && c.shared || private && c.own; stored != want {
					t.Errorf("%q, private cache %v: stored %v", c.header, private, stored)
				}
			})
		}
	}
}

func TestSTO11_EveryStatusWithExplicitFreshness(t *testing.T) {
	for _, status := range []int{
		200, 201, 202, 203, 204, 205, 207, 208, 226, 299, 300, 301, 302, 303, 305, 307, 308, 399, 400, 401, 402, 403, 404, 405, 406, 407, 408, 409,
		410, 411, 414, 415, 418, 422, 423, 424, 451, 499, 500, 501, 502, 503, 504, 505, 507, 508, 510, 599,
	} {
		body := "page"
		if status == 204 {
			body = ""
		}
		for _, freshness := range []string{"Cache-Control: max-age=60", "Expires: " + "Thu, 18 Aug 2050 02:01:18 GMT"} {
			sim.Run(t, func(w *sim.World) {
				w.Origin(sim.Reply{Status: status, Header: []string{freshness, "Location: /other"}, Body: body})
				w.Get("/").Want(status, body)
				w.Advance(59 * time.Second)
				a := w.Get("/").Want(status, body).WantField("Location", "/other")
				if !a.Hit() || w.Count() != 1 {
					t.Errorf("%d %s: %s", status, freshness, a.CacheStatus())
				}
			})
		}
	}
}

func TestSTO12_StatusesOfOneRequest(t *testing.T) {
	for _, status := range []int{428, 429, 431, 511} {
		sim.Run(t, func(w *sim.World) {
			w.Origin(sim.Reply{Status: status, Header: []string{"Cache-Control: public, max-age=60", `ETag: "1"`}, Body: "no"})
			w.Get("/").Want(status, "no")
			w.Settle()
			wantNothingStored(t, w.Store)
		})
	}
}

func TestSTO13_HeuristicStatuses(t *testing.T) {
	heuristic := []int{200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 451, 501} // 206 is below
	for _, status := range append([]int{201, 202, 207, 299, 302, 303, 307, 400, 401, 403, 406, 409, 418, 500, 502, 503, 504, 599}, heuristic...) {
		sim.Run(t, func(w *sim.World) {
			w.Origin(sim.Reply{Status: status, Header: []string{"Last-Modified: " + sim.Date(-100*time.Hour)}, Body: ""})
			w.Get("/")
			w.Advance(time.Hour)
			if a := w.Get("/"); a.Hit() != slices.Contains(heuristic, status) {
				t.Errorf("%d: %s", status, a.CacheStatus())
			}
		})
	}
	sim.Run(t, func(w *sim.World) {
		w.Origin(sim.Reply{Status: 206, Header: []string{"Last-Modified: " + sim.Date(-100*time.Hour), "Content-Range: bytes 0-3/9"}, Body: "page"})
		w.Get("/", "Range: bytes=0-3").Want(206, "page")
		w.Get("/", "Range: bytes=0-3").Want(206, "page").WantHit()
	})
}

func TestSTO14_NeitherFreshnessNorValidator(t *testing.T) {
	for _, header := range [][]string{nil, {"Cache-Control: public"}, {"Cache-Control: must-revalidate"}, {"Date: Sat, 01 Jan 2000 00:00:00 GMT"}, {"Last-Modified: garbage", "ETag: garbage"}} {
		sim.Run(t, func(w *sim.World) {
			w.Origin(sim.Reply{Header: header, Body: "page"})
			w.Get("/").Want(200, "page")
			w.Settle()
			wantNothingStored(t, w.Store)
		})
	}
}

func TestSTO15_EveryFieldIsGivenBack(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(sim.Reply{Header: []string{
			"Cache-Control: max-age=60", "X-Unknown: b", "X-Other: 1", "X-Unknown: a", "x-unknown:  c , d", "Server: x/1", "Warning: 110 - x",
			"Content-Language: de", "Clear-Site-Data: \"cache\"", "Content-Md5: x", "Public-Key-Pins: y", "X-Empty:", "Www-Authenticate: Basic", "X-High: \xfc\xe4",
		}, Body: "page"})
		w.Get("/").Want(200, "page")
		w.Get("/").Want(200, "page").WantHit().WantField("X-Unknown", "b", "a", "c , d").WantField("X-Other", "1").WantField("Server", "x/1").
			WantField("Warning", "110 - x").WantField("Content-Language", "de").WantField("Clear-Site-Data", `"cache"`).WantField("Content-Md5", "x").
			WantField("Public-Key-Pins", "y").WantField("X-Empty", "").WantField("Www-Authenticate", "Basic").WantField("X-High", "\xfc\xe4")
	})
}

// connectionFields are the fields of one connection, and what must be left of
// a, b and c.
var connectionFields = []string{
	"Connection: X-A, x-b", "Connection: close", "Keep-Alive: timeout=5", "Proxy-Connection: keep-alive", "TE: trailers", "Transfer-Encoding: gzip", "Upgrade: x",
	"Trailer: X-T", "X-A: 1", "X-B: 2", "X-C: 3",
}

func TestSTO16_FieldsOfAConnection(t *testing.T) {
	gone := []string{"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Transfer-Encoding", "Upgrade", "Trailer", "X-A", "X-B"}
	check := func(a *sim.Answer) {
		t.Helper()
		for _, name := range gone {
			a.WantField(name)
		}
		a.Want(200, "page").WantField("X-C", "3").WantField("Cache-Control", "max-age=60")
	}
	sim.Run(t, func(w *sim.World) {
		w.Origin(
			sim.Reply{Header: append([]string{"Cache-Control: max-age=60", `ETag: "1"`}, connectionFields...), Body: "page"},
			sim.Reply{Status: 304, Header: append([]string{`ETag: "1"`}, connectionFields...)},
		)
		check(w.Get("/"))
		check(w.Get("/").WantHit())
		w.Advance(time.Minute)
		check(w.Get("/").WantMiss("stale"))
		check(w.Get("/").WantHit())
		w.WantCount(2)
	})
	// Connection cannot take away what decides about storing.
	sim.Run(t, func(w *sim.World) {
		w.Origin(sim.Reply{Header: []string{"Connection: cache-control", "Cache-Control: no-store", "Expires: " + sim.Date(time.Hour)}, Body: "page"})
		w.Get("/").WantField("Cache-Control", "no-store")
		wantNothingStored(t, w.Store)
	})
}

func TestSTO17_ProxyCredentials(t *testing.T) {
	names := []string{"Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Authorization"}
	var lines []string
	for _, name := range names {
		lines = append(lines, name+": x")
	}
	sim.Run(t, func(w *sim.World) {
		w.Origin(
			sim.Reply{Header: append([]string{"Cache-Control: max-age=60", `ETag: "1"`}, lines...), Body: "page"},
			sim.Reply{Status: 304, Header: append([]string{`ETag: "1"`}, lines...)},
		)
		w.Get("/").Want(200, "page")
		for range 2 {
			a := w.Get("/").Want(200, "page").WantHit()
			for _, name := range names {
				a.WantField(name)
			}
			w.Advance(time.Minute)
			w.Get("/").WantMiss("stale")
		}
	})
}

// roundTrip is an origin made of a function.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestSTO18_TrailersAreNoHeaders(t *testing.T) {
	configure := func(c *engine.Config) {
		c.Forward = roundTrip(func(r *http.Request) (*http.Response, error) {
			trailer := http.Header{"X-Trailer": {"late"}, "Cache-Control": {"no-store"}, "Etag": {`"late"`}}
			return &http.Response{
				StatusCode: 200, ContentLength: -1, Body: io.NopCloser(strings.NewReader("page")), Request: r,
				Header: http.Header{"Cache-Control": {"max-age=60"}, "Trailer": {"X-Trailer, Etag"}}, Trailer: trailer,
			}, nil
		})
	}
	sim.RunWith(t, configure, func(w *sim.World) {
		w.Get("/").Want(200, "page").WantField("X-Trailer").WantField("Etag")
		w.Get("/").Want(200, "page").WantHit().WantField("X-Trailer").WantField("Etag").WantField("Cache-Control", "max-age=60").WantField("Trailer")
	})
}

func TestSTO19_SetCookieLines(t *testing.T) {
	cookies := []string{"a=1; Expires=Thu, 18 Aug 2050 02:01:18 GMT", "b=\"2, 3\"; Path=/", "c=;  HttpOnly"}
	header := []string{"Cache-Control: max-age=60", `ETag: "1"`}
	for _, c := range cookies {
		header = append(header, "Set-Cookie: "+c)
	}
	sim.Run(t, func(w *sim.World) {
		w.Origin(sim.Reply{Header: header, Body: "page"}, sim.Reply{Status: 304, Header: header[1:]})
		w.Get("/").WantField("Set-Cookie", cookies...)
		w.Get("/").WantHit().WantField("Set-Cookie", cookies...)
		w.Advance(time.Minute)
		w.Get("/").WantMiss("stale").WantField("Set-Cookie", cookies...)
		w.Get("/").WantHit().WantField("Set-Cookie", cookies...)
	})
}

func TestSTO20_CutShort(t *testing.T) {
	broken := errors.New("reset")
	for name, reply := range map[string]sim.Reply{
		"fewer octets than declared": {Body: "half", Length: 8},
		"connection reset":           {Body: "half", Length: 8, BodyErr: broken},
		"no final chunk":             {Body: "half", Length: -1, BodyErr: io.ErrUnexpectedEOF},
		"nothing but a head":         {Length: 8, BodyErr: broken},
	} {
		t.Run(name, func(t *testing.T) {
			sim.Run(t, func(w *sim.World) {
				reply.Header, reply.Delay = []string{"Cache-Control: max-age=60", `ETag: "1"`}, time.Second
				w.Origin(reply, sim.Reply{Header: minute.Header, Body: "complete"})
				answers := []*sim.Answer{w.Start("GET", "/", ""), w.Start("GET", "/", "")} // one waits for the other
				for _, a := range answers {
					a.Wait()
					if a.Aborted && !strings.HasPrefix("half", a.Body()) || !a.Aborted && a.Body() != "complete" {
						t.Errorf("body %q, aborted %v", a.Body(), a.Aborted)
					}
				}
				if !answers[0].Aborted && !answers[1].Aborted {
					t.Error("nobody saw an aborted transfer")
				}
				w.Settle()
				w.Get("/").Want(200, "complete")
			})
		})
	}
	// Not stored: neither kept, nor as the entry that is there already.
	sim.Run(t, func(w *sim.World) {
		w.Origin(sim.Reply{Body: "half", Length: 8, Header: minute.Header})
		if a := w.Get("/"); !a.Aborted {
			t.Error("the client saw a whole transfer")
		}
		w.Settle()
		wantNothingStored(t, w.Store)
	})
	// One for whom nothing is stored sees the same.
	sim.Run(t, func(w *sim.World) {
		for _, length := range []int64{8, -1} {
			w.Origin(sim.Reply{Body: "half", Length: length, BodyErr: broken})
			for _, method := range []string{"GET", "POST"} {
				if a := w.Do(method, "/", ""); !a.Aborted || a.Body() != "half" {
					t.Errorf("%s, length %d: body %q, aborted %v", method, length, a.Body(), a.Aborted)
				}
			}
		}
	})
}

// slowly is a body that arrives in two halves, a second apart.
func slowly() io.Reader {
	r, w := io.Pipe()
	go func() {
		_, _ = io.WriteString(w, "first half,")
		time.Sleep(time.Second)
		_, _ = io.WriteString(w, " second half")
		w.Close()
	}()
	return r
}

func TestSTO22_ClientGoesAway(t *testing.T) {
	const whole = "first half, second half"
	for name, c := range map[string]struct {
		directives, request string
		completed           bool
	}{
		"for all":       {"max-age=60", "X: y", true},
		"for one, kept": {"max-age=60, public", "Authorization: x", true},
		"for one, not":  {"max-age=60", "Authorization: x", false},
		"for nobody":    {"no-store", "X: y", false},
	} {
		for _, length := range []int64{int64(len(whole)), 0} {
			t.Run(fmt.Sprint(name, length), func(t *testing.T) {
				sim.Run(t, func(w *sim.World) {
					w.Handle(func(*http.Request) sim.Reply {
						return sim.Reply{Header: []string{"Cache-Control: " + c.directives}, Stream: slowly(), Length: length}
					})
					a := w.Start("GET", "/", "", c.request)
					w.Settle()
					if a.Body() != "first half," {
						t.Fatalf("body %q", a.Body())
					}
					a.Leave()
					a.Wait()
					if !a.Aborted {
						t.Error("the client that left saw a whole transfer")
					}
					w.Advance(500 * time.Millisecond)
					if n := w.Store.Stats().Objects; n != 0 {
						t.Errorf("%d entries while the body is on its way", n)
					}
					w.Advance(10 * time.Second)
					if got := w.Get("/").Want(200, whole); got.Hit() != c.completed {
						t.Errorf("afterwards: %s", got.CacheStatus())
					}
				})
			})
		}
	}
}

// withStore runs a world on a store of its own.
func withStore(t *testing.T, opts memory.Options, body func(w *sim.World, s *memory.Store)) {
	t.Helper()
	s := memory.New(opts)
	defer s.Close()
	sim.RunWith(t, func(c *engine.Config) { c.Store = s }, func(w *sim.World) { body(w, s) })
}

func TestSTO23_LargerThanTheStoreKeeps(t *testing.T) {
	large := strings.Repeat("0123456789", 400_000)
	for name, reply := range map[string]sim.Reply{
		"declared": {Body: large}, "chunked": {Body: large, Length: -1}, "wrongly declared": {Body: large, Length: int64(len(large))},
	} {
		t.Run(name, func(t *testing.T) {
			withStore(t, memory.Options{Budget: 1 << 20, MaxObject: 100_000}, func(w *sim.World, s *memory.Store) {
				reply.Header = minute.Header
				w.Origin(reply)
				for range 2 {
					w.Get("/").Want(200, large).WantMiss("uri-miss")
					w.Settle()
					wantNothingStored(t, s)
				}
			})
		})
	}
}

// The origin may have sent everything before the client's goroutine runs once.
func TestSTO23_FasterThanTheClient(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	large := strings.Repeat("x", 500_000)
	withStore(t, memory.Options{Budget: 1 << 20, MaxObject: 1000}, func(w *sim.World, s *memory.Store) {
		w.Origin(sim.Reply{Header: minute.Header, Body: large, Length: -1})
		for range 20 {
			w.Get("/").Want(200, large)
		}
	})
}

func TestSTO24_MoreOctetsThanDeclared(t *testing.T) {
	for _, cacheControl := range []string{"max-age=60", "no-store"} {
		sim.Run(t, func(w *sim.World) {
			w.Origin(sim.Reply{Header: []string{"Cache-Control: " + cacheControl}, Body: "pageHTTP/1.1 200 OK", Length: 4})
			for range 2 {
				w.Get("/").Want(200, "page").WantField("Content-Length", "4")
			}
		})
	}
}

func TestSTO25_PostThatAnswersGet(t *testing.T) {
	const target = "/form?a=1"
	for _, c := range []struct {
		name   string
		header []string
		stored bool
	}{
		{"both", []string{"Cache-Control: max-age=60", "Content-Location: " + target}, true},
		{"both, with a validator", []string{"Cache-Control: max-age=60", "Content-Location: " + target, `ETag: "1"`}, true},
		{"absolute", []string{"Expires: Thu, 18 Aug 2050 02:01:18 GMT", "Content-Location: http://SHOP.example:80" + target}, true},
		{"relative", []string{"Cache-Control: s-maxage=60", "Content-Location: form?a=1"}, true},
		{"targeted", []string{"CDN-Cache-Control: max-age=60", "Content-Location: " + target}, true},
		{"no Content-Location", []string{"Cache-Control: max-age=60"}, false},
		{"another query", []string{"Cache-Control: max-age=60", "Content-Location: /form?a=2"}, false},
		{"no query", []string{"Cache-Control: max-age=60", "Content-Location: /form"}, false},
		{"another host", []string{"Cache-Control: max-age=60", "Content-Location: http://other.example" + target}, false},
		{"two of them", []string{"Cache-Control: max-age=60", "Content-Location: " + target, "Content-Location: /other"}, false},
		{"heuristic", []string{"Last-Modified: Sat, 01 Jan 1994 00:00:00 GMT", "Content-Location: " + target}, false},
		{"public only", []string{"Cache-Control: public", "Content-Location: " + target, `ETag: "1"`}, false},
		{"no-store", []string{"Cache-Control: max-age=60, no-store", "Content-Location: " + target}, false},
		{"private", []string{"Cache-Control: max-age=60, private", "Content-Location: " + target}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			sim.Run(t, func(w *sim.World) {
				w.Handle(func(r *http.Request) sim.Reply {
					if r.Method == "POST" {
						return sim.Reply{Header: c.header, Body: "posted"}
					}
					return sim.Reply{Body: "got"}
				})
				w.Do("POST", target, "x", `If-None-Match: "1"`).Want(200, "posted") // the condition was the origin's to judge
				if !c.stored {
					wantNothingStored(t, w.Store)
					w.Get(target).Want(200, "got").WantMiss("uri-miss")
					return
				}
				w.Get(target).Want(200, "posted").WantHit()
				w.Do("HEAD", target, "").Want(200, "").WantHit()
				w.WantCount(1)
				w.Do("POST", target, "y").Want(200, "posted").WantMiss("method")
				w.WantCount(2)
			})
		})
	}
}

func TestSTO26_PatchIsNotStored(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=60", "Content-Location: /"}, Body: "patched"})
		w.Do("PATCH", "/", "x").Want(200, "patched")
		wantNothingStored(t, w.Store)
	})
}

func TestSTO27_HeadNeverAnswersGet(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(minute)
		w.Do("HEAD", "/", "").Want(200, "")
		wantNothingStored(t, w.Store)
		w.Get("/").Want(200, "page").WantMiss("uri-miss")
	})
	// Not even one that waits for it.
	sim.Run(t, func(w *sim.World) {
		slow := minute
		slow.Delay = time.Second
		w.Origin(slow)
		head, get := w.Start("HEAD", "/", ""), w.Start("GET", "/", "")
		head.Wait()
		get.Wait()
		head.Want(200, "")
		get.Want(200, "page")
		w.WantCount(2)
	})
}

func TestSTO28_FullAnswerToAValidation(t *testing.T) {
	old := sim.Reply{Header: []string{"Cache-Control: max-age=1", `ETag: "1"`}, Body: "old"}
	for name, c := range map[string]struct {
		reply  sim.Reply
		stored bool
	}{
		"replaces":       {sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "2"`}, Body: "new"}, true},
		"another status": {sim.Reply{Status: 404, Header: []string{"Cache-Control: max-age=60"}, Body: "new"}, true},
		"varies":         {sim.Reply{Header: []string{"Cache-Control: max-age=60", "Vary: X"}, Body: "new"}, true},
		"no-store":       {sim.Reply{Header: []string{"Cache-Control: no-store, max-age=60"}, Body: "new"}, false},
		"private":        {sim.Reply{Header: []string{"Cache-Control: private, max-age=60"}, Body: "new"}, false},
		"no freshness":   {sim.Reply{Body: "new"}, false},
		"404":            {sim.Reply{Status: 404, Body: "new"}, false},
		"Vary: *":        {sim.Reply{Header: []string{"Cache-Control: max-age=60", "Vary: *"}, Body: "new"}, false},
		"too large":      {sim.Reply{Header: []string{"Cache-Control: max-age=60"}, Body: strings.Repeat("new", 1000)}, false},
		"grew too large": {sim.Reply{Header: []string{"Cache-Control: max-age=60"}, Body: strings.Repeat("new", 1000), Length: -1}, false},
	} {
		status := max(c.reply.Status, 200)
		for _, before := range []string{"", "304 of another"} {
			t.Run(name+before, func(t *testing.T) {
				withStore(t, memory.Options{MaxObject: 1000}, func(w *sim.World, s *memory.Store) {
					script := []sim.Reply{old, c.reply, {Err: errDown}}
					if before != "" {
						script = slices.Insert(script, 1, sim.Reply{Status: 304, Header: []string{`ETag: "other"`}})
					}
					w.Origin(script...)
					w.Get("/").Want(200, "old")
					w.Advance(2 * time.Second)
					w.Get("/").Want(status, c.reply.Body).WantMiss("stale")
					w.Settle()
					if c.stored {
						w.Get("/").Want(status, c.reply.Body).WantHit()
						if n := s.Stats().Objects; n != 1 {
							t.Errorf("%d entries, want the new one", n)
						}
						return
					}
					wantNothingStored(t, s)
					if a := w.Get("/"); a.Status < 500 {
						t.Errorf("status %d, body %q: the old one came back", a.Status, a.Body())
					}
				})
			})
		}
	}
}

// An entry without validators cannot be validated, but what is asked for in its
// place supersedes it all the same.
func TestSTO28_WithoutValidators(t *testing.T) {
	sim.RunWith(t, func(c *engine.Config) { c.Terms.Requests = rules.HonorRequests }, func(w *sim.World) {
		w.Origin(
			sim.Reply{Header: []string{"Cache-Control: max-age=60"}, Body: "old"},
			sim.Reply{Header: []string{"Cache-Control: no-store"}, Body: "new"},
		)
		w.Get("/").Want(200, "old")
		w.Get("/", "Cache-Control: no-cache").Want(200, "new").WantMiss("request")
		w.Get("/").Want(200, "new").WantMiss("uri-miss")
	})
	sim.Run(t, func(w *sim.World) {
		w.Origin(
			sim.Reply{Header: []string{"Cache-Control: max-age=1, stale-while-revalidate=60"}, Body: "old"},
			sim.Reply{Status: 404, Body: "gone"},
		)
		w.Get("/").Want(200, "old")
		w.Advance(2 * time.Second)
		w.Get("/").Want(200, "old").WantHit()
		w.Settle()
		w.Get("/").Want(404, "gone").WantMiss("uri-miss")
	})
	// What comes in the background and is too large to keep, too.
	withStore(t, memory.Options{MaxObject: 1000}, func(w *sim.World, s *memory.Store) {
		large := sim.Reply{Header: []string{"Cache-Control: max-age=60"}, Body: strings.Repeat("new", 1_000_000), Length: -1}
		w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=1, stale-while-revalidate=60"}, Body: "old"}, large)
		w.Get("/").Want(200, "old")
		w.Advance(2 * time.Second)
		w.Get("/").Want(200, "old").WantHit()
		w.Settle()
		w.Get("/").Want(200, large.Body).WantMiss("uri-miss")
	})
	// A server error leaves it for a better moment.
	sim.Run(t, func(w *sim.World) {
		w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=1"}, Body: "old"}, sim.Reply{Status: 503})
		w.Get("/").Want(200, "old")
		w.Advance(2 * time.Second)
		for range 2 {
			w.Get("/").Want(200, "old")
			w.Advance(10 * time.Second)
		}
		w.WantCount(3)
	})
}

// A brittle store fails at its nth operation.
type brittle struct {
	store.Store
	nth int64
	ops atomic.Int64
	err error
}

func (b *brittle) fails() error {
	if b.ops.Add(1) == b.nth {
		return b.err
	}
	return nil
}

func (b *brittle) Lookup(ctx context.Context, key store.Key, into []store.Entry) ([]store.Entry, error) {
	if err := b.fails(); err != nil {
		return into, err
	}
	return b.Store.Lookup(ctx, key, into)
}

func (b *brittle) Head(ctx context.Context, key store.Key, id store.ID, rev uint32) ([]byte, error) {
	if err := b.fails(); err != nil {
		return nil, err
	}
	return b.Store.Head(ctx, key, id, rev)
}

func (b *brittle) Open(ctx context.Context, key store.Key, id store.ID, off, n int64) (io.ReadCloser, error) {
	if err := b.fails(); err != nil {
		return nil, err
	}
	return b.Store.Open(ctx, key, id, off, n)
}

func (b *brittle) Create(ctx context.Context, key store.Key, head store.Head, size int64) (store.Writer, error) {
	if err := b.fails(); err != nil {
		return nil, err
	}
	w, err := b.Store.Create(ctx, key, head, size)
	return &brittleWriter{w, b}, err
}

func (b *brittle) Amend(ctx context.Context, key store.Key, id store.ID, head store.Head) error {
	if err := b.fails(); err != nil {
		return err
	}
	return b.Store.Amend(ctx, key, id, head)
}

func (b *brittle) Remove(ctx context.Context, key store.Key, id store.ID) error {
	if err := b.fails(); err != nil {
		return err
	}
	return b.Store.Remove(ctx, key, id)
}

func (b *brittle) Forget(ctx context.Context, key store.Key) error {
	if err := b.fails(); err != nil {
		return err
	}
	return b.Store.Forget(ctx, key)
}

type brittleWriter struct {
	store.Writer
	b *brittle
}

func (w *brittleWriter) Write(p []byte) (int, error) {
	if err := w.b.fails(); err != nil {
		n, _ := w.Writer.Write(p[:len(p)/2])
		return n, err
	}
	return w.Writer.Write(p)
}

func (w *brittleWriter) Open(ctx context.Context, off int64) (io.ReadCloser, error) {
	if err := w.b.fails(); err != nil {
		return nil, err
	}
	return w.Writer.Open(ctx, off)
}

func (w *brittleWriter) Commit(ctx context.Context, replaces ...store.ID) (store.Entry, error) {
	if err := w.b.fails(); err != nil {
		return store.Entry{}, err
	}
	return w.Writer.Commit(ctx, replaces...)
}

func TestSTO29_EveryStepOfTheStoreFailsOnce(t *testing.T) {
	body := strings.Repeat("0123456789", 20_000)
	for _, broken := range []error{errors.New("disk on fire"), store.ErrFull, store.ErrGone} {
		for nth := int64(1); ; nth++ {
			inner := memory.New(memory.Options{})
			b := &brittle{Store: inner, nth: nth, err: broken}
			sim.RunWith(t, func(c *engine.Config) { c.Store = b }, func(w *sim.World) {
				w.Handle(func(r *http.Request) sim.Reply {
					if r.Header.Get("If-None-Match") == `"v"` {
						return sim.Reply{Status: 304, Header: []string{"Cache-Control: max-age=60", `ETag: "v"`}}
					}
					return sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "v"`}, Body: body}
				})
				for range 2 {
					w.Get("/").Want(200, body).WantField("Content-Length", fmt.Sprint(len(body)))
					w.Get("/").Want(200, body)
					if a := w.Get("/", "Range: bytes=5-9"); a.Aborted || a.Body() != "56789" && a.Body() != body {
						t.Errorf("step %d, range: status %d, %d octets, aborted %v", nth, a.Status, len(a.Body()), a.Aborted)
					}
					w.Get("/", `If-None-Match: "v"`).Want(304, "")
					w.Do("HEAD", "/", "").Want(200, "")
					w.Settle()
					w.Advance(2 * time.Minute)
				}
			})
			inner.Close()
			if n := b.ops.Load(); n < nth {
				if n < 10 {
					t.Errorf("only %d operations: nothing was tried", n)
				}
				break
			}
		}
	}
}

func TestSTO29_FullStore(t *testing.T) {
	withStore(t, memory.Options{Budget: 1000, MaxObject: 1 << 20}, func(w *sim.World, s *memory.Store) {
		for _, length := range []int64{0, -1} {
			body := strings.Repeat("x", 5000)
			w.Origin(sim.Reply{Header: minute.Header, Body: body, Length: length})
			w.Get("/").Want(200, body)
			w.Get("/").Want(200, body).WantMiss("uri-miss")
		}
	})
}

func TestSTO30_AgeingThroughARestart(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(minute, sim.Reply{Status: 304})
		w.Get("/").Want(200, "page")
		w.Advance(10 * time.Second)
		w.Engine.Close()
		w.Advance(20 * time.Second)
		again := w.Engine.Config
		again.Clock = nil // a new process has a clock of its own
		w.Engine = engine.New(again)
		defer w.Engine.Close()
		w.Get("/").Want(200, "page").WantHit().WantField("Age", "30")
		w.Advance(29 * time.Second)
		w.Get("/").Want(200, "page").WantHit().WantField("Age", "59")
		w.Advance(time.Second)
		w.Get("/").Want(200, "page").WantMiss("stale")
	})
}

func TestSTO31_OctetForOctet(t *testing.T) {
	var b bytes.Buffer
	b.WriteString("\x1f\x8b\x08\x00\r\n\x00\xff\xfe")
	for i := range 70_000 {
		b.WriteByte(byte(i * i >> 3))
	}
	body := b.String()
	for _, coding := range []string{"gzip", "br", "identity, unknown", ""} {
		for _, length := range []int64{0, -1} {
			sim.Run(t, func(w *sim.World) {
				header := []string{"Cache-Control: max-age=60", "Content-Type: application/x-strange"}
				var want []string
				if coding != "" {
					header = append(header, "Content-Encoding: "+coding)
					want = []string{coding}
				}
				w.Origin(sim.Reply{Header: header, Body: body, Length: length})
				w.Get("/", "Accept-Encoding: gzip").Want(200, body).WantField("Content-Encoding", want...)
				w.Get("/").Want(200, body).WantHit().WantField("Content-Encoding", want...).WantField("Content-Type", "application/x-strange").
					WantField("Content-Length", fmt.Sprint(len(body)))
				if got := w.Last().Header["Accept-Encoding"]; !slices.Equal(got, []string{"gzip"}) {
					t.Errorf("the origin was asked for %q", got)
				}
			})
		}
	}
}

func TestSTO32_SetCookie(t *testing.T) {
	const modified = "Last-Modified: Sat, 01 Jan 1994 00:00:00 GMT"
	for _, c := range []struct {
		mode   rules.SetCookieMode
		header []string
		stored bool
		given  []string
	}{
		{rules.CookieIfExplicit, []string{"Cache-Control: max-age=60"}, true, []string{"id=1"}},
		{rules.CookieIfExplicit, []string{"Expires: Thu, 18 Aug 2050 02:01:18 GMT"}, true, []string{"id=1"}},
		{rules.CookieIfExplicit, []string{modified}, false, nil},
		{rules.CookieIfExplicit, []string{modified, "Cache-Control: public"}, false, nil},
		{rules.CookieRefuse, []string{"Cache-Control: max-age=60"}, false, nil},
		{rules.CookieStrip, []string{"Cache-Control: max-age=60"}, true, nil},
		{rules.CookieStrip, []string{modified}, true, nil},
		{rules.CookieStore, []string{modified}, true, []string{"id=1"}},
	} {
		sim.RunWith(t, func(e *engine.Config) { e.Terms.SetCookie = c.mode }, func(w *sim.World) {
			w.Origin(sim.Reply{Header: append([]string{"Set-Cookie: id=1"}, c.header...), Body: "page"})
			w.Get("/").Want(200, "page").WantField("Set-Cookie", "id=1")
			w.Settle()
			if !c.stored {
				wantNothingStored(t, w.Store)
				return
			}
			w.Get("/").Want(200, "page").WantHit().WantField("Set-Cookie", c.given...)
		})
	}
}
