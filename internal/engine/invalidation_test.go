package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/rules"
	"github.com/larderhq/larder/internal/sim"
	"github.com/larderhq/larder/store"
)

// A versioned origin counts what it has been told to change. Its pages last for
// an hour and tell their version.
type versioned struct {
	now   atomic.Int64
	slow  time.Duration // of a GET
	extra []string      // fields of a page
	reply sim.Reply     // to anything but GET and HEAD
}

func (v *versioned) serve(r *http.Request) sim.Reply {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		v.now.Add(1)
		return v.reply
	}
	n := v.now.Load() // the page as it was when it was asked for
	header := append([]string{"Cache-Control: max-age=3600", fmt.Sprintf(`ETag: "%d"`, n)}, v.extra...)
	return sim.Reply{Header: header, Body: fmt.Sprint("version ", n), Delay: v.slow}
}

func TestINV01_SuccessOfAnUnsafeMethodInvalidates(t *testing.T) {
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH"} {
		for _, status := range []int{200, 201, 202, 204, 205, 226, 299, 301, 302, 303, 307, 308} {
			sim.Run(t, func(w *sim.World) {
				v := &versioned{reply: sim.Reply{Status: status}}
				w.Handle(v.serve)
				w.Get("/a?q=1").Want(200, "version 0")
				w.Get("/a").Want(200, "version 0")
				w.Do(method, "/a?q=1", "content").Want(status, "")
				w.Get("/a?q=1").Want(200, "version 1").WantMiss("uri-miss")
				w.Get("/a").Want(200, "version 0").WantHit() // another URI
			})
		}
	}
}

func TestINV01_AllVariantsAndParts(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		v := &versioned{reply: sim.Reply{Status: 204}, extra: []string{"Vary: Accept-Language"}}
		w.Handle(v.serve)
		languages := []string{"Accept-Language: de", "Accept-Language: en", "X-No: language"}
		for _, language := range languages {
			w.Get("/a", language).Want(200, "version 0")
		}
		for _, language := range languages {
			w.Get("/a", language).WantHit()
		}
		w.Do("DELETE", "/a", "", languages[0])
		for _, language := range languages {
			w.Get("/a", language).Want(200, "version 1")
		}
	})
	sim.Run(t, func(w *sim.World) {
		w.Handle(tenDigits.serve)
		fetched(w, "0-2")
		fetched(w, "5-7")
		fetched(w, "6-6").WantHit()
		w.Do("PUT", "/a", "content")
		w.Handle(file{body: "ABCDEFGHIJ", header: tenDigits.header}.serve)
		wantPart(t, fetched(w, "6-6"), "G", 6, 6, "10")
		w.Get("/a").Want(200, "ABCDEFGHIJ")
	})
}

func TestINV02_UnknownMethodsAreUnsafe(t *testing.T) {
	for _, method := range []string{"M-SEARCH", "PURGE", "BAN", "FOO", "get", "head", "MKCOL", "LOCK", "PROPPATCH"} {
		sim.Run(t, func(w *sim.World) {
			v := &versioned{reply: sim.Reply{Status: 200}}
			w.Handle(v.serve)
			w.Get("/a").Want(200, "version 0")
			w.Do(method, "/a", "").Want(200, "").WantMiss("method")
			w.Get("/a").Want(200, "version 1")
		})
	}
}

func TestINV03_FailuresInvalidateNothing(t *testing.T) {
	for _, status := range []int{400, 401, 403, 404, 405, 409, 410, 412, 428, 500, 501, 502, 503, 504} {
		sim.Run(t, func(w *sim.World) {
			v := &versioned{reply: sim.Reply{Status: status, Header: []string{"Location: /b", "Content-Location: /b", "Cache-Control: max-age=60"}}}
			w.Handle(v.serve)
			w.Get("/a")
			w.Get("/b")
			w.Do("POST", "/a", "content").Want(status, "")
			w.Get("/a").Want(200, "version 0").WantHit()
			w.Get("/b").Want(200, "version 0").WantHit()
		})
	}
}

func TestINV04_SafeMethodsInvalidateNothing(t *testing.T) {
	for _, method := range []string{"OPTIONS", "TRACE", "QUERY", "PROPFIND", "REPORT", "SEARCH"} {
		sim.Run(t, func(w *sim.World) {
			v := &versioned{reply: sim.Reply{Status: 200, Header: []string{"Location: /b"}}}
			w.Handle(v.serve)
			w.Get("/a")
			w.Get("/b")
			w.Do(method, "/a", "")
			w.Get("/a").Want(200, "version 0").WantHit()
			w.Get("/b").Want(200, "version 0").WantHit()
		})
	}
	sim.Run(t, func(w *sim.World) { // GET and HEAD, also those that pass by
		w.Handle((&versioned{extra: []string{"Location: /b"}}).serve)
		w.Get("/a")
		w.Do("GET", "/a", "content")
		w.Do("HEAD", "/a", "content")
		w.Do("HEAD", "/a", "", "If-Match: *")
		w.Get("/a", "If-Match: *")
		w.Get("/a").Want(200, "version 0").WantHit()
	})
}

// related sends a POST to http://shop.example/dir/a?x that is answered with
// Location and Content-Location, and tells whether that invalidated target.
func related(t *testing.T, terms rules.Terms, reference, target string, header ...string) (invalidated bool) {
	t.Helper()
	for i, name := range []string{"Location", "Content-Location"} {
		sim.RunWith(t, func(c *engine.Config) { c.Terms = terms }, func(w *sim.World) {
			v := &versioned{reply: sim.Reply{Status: 201, Header: []string{name + ": " + reference}}}
			w.Handle(v.serve)
			w.Get(target, header...).Want(200, "version 0")
			w.Get("/untouched").Want(200, "version 0")
			w.Do("POST", "/dir/a?x", "content").Want(201, "")
			a := w.Get(target, header...)
			if got := !a.Hit(); i > 0 && got != invalidated {
				t.Errorf("%q: Location and Content-Location differ", reference)
			} else {
				invalidated = got
			}
			if invalidated {
				a.Want(200, "version 1")
			}
			w.Get("/untouched").WantHit()
		})
	}
	return invalidated
}

func TestINV05_LocationsOnTheSameOrigin(t *testing.T) {
	for _, c := range []struct{ reference, target string }{
		{"/b", "/b"},
		{"b", "/dir/b"},
		{"./b", "/dir/b"},
		{"../b", "/b"},
		{"?y=1", "/dir/a?y=1"},
		{"/b?", "/b?"},
		{"/b?y=1&z=2#fragment", "/b?y=1&z=2"},
		{"#fragment-only", "/dir/a?x"},
		{"//shop.example/b", "/b"},
		{"http://shop.example/b", "/b"},
		{"HTTP://SHOP.example:80/b", "/b"},
		{"http://shop.example", "/"},
		{"http://shop.example:/b", "/b"},
		{"/b%2Fc", "/b%2Fc"},
		{"/%C3%A4", "/%C3%A4"},
		{" /b ", "/b"},
	} {
		if !related(t, rules.Terms{}, c.reference, c.target) {
			t.Errorf("%q leaves %s", c.reference, c.target)
		}
		if c.target != "/dir/a?x" && related(t, rules.Terms{KeepRelated: true}, c.reference, c.target) {
			t.Errorf("%q invalidates %s with the switch off", c.reference, c.target)
		}
	}
	for _, c := range []struct{ reference, target string }{
		{"/b", "/B"}, {"/b", "/b?"}, {"/b?y", "/b"}, {"b", "/b"}, {"/b/", "/b"}, {"/b%2Fc", "/b/c"}, {"http://[::1", "/b"}, {"%zz", "/%zz"}, {"mailto:b@shop.example", "/b"}, {"", "/b"},
	} {
		if related(t, rules.Terms{}, c.reference, c.target) {
			t.Errorf("%q invalidates %s", c.reference, c.target)
		}
	}
}

func TestINV05_BothFieldsAtOnce(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		v := &versioned{reply: sim.Reply{Status: 303, Header: []string{"Location: /b", "Content-Location: /c", "Content-Location: /d"}}}
		w.Handle(v.serve)
		for _, target := range []string{"/a", "/b", "/c"} {
			w.Get(target)
		}
		w.Do("POST", "/a", "content")
		for _, target := range []string{"/a", "/b", "/c"} {
			w.Get(target).Want(200, "version 1")
		}
	})
}

func TestINV06_NeverOnAnotherOrigin(t *testing.T) {
	for _, c := range []struct {
		reference, target string
		header            []string
	}{
		{"http://other.example/b", "/b", []string{"Host: other.example"}},
		{"//other.example/b", "/b", []string{"Host: other.example"}},
		{"http://shop.example:8080/b", "/b", []string{"Host: shop.example:8080"}},
		{"http://shop.example:443/b", "/b", []string{"Host: shop.example:443"}},
		{"https://shop.example/b", "https://shop.example/b", nil},
		{"https://shop.example:80/b", "https://shop.example:80/b", nil},
		{"ftp://shop.example/b", "/b", nil},
		{"http://www.shop.example/b", "/b", []string{"Host: www.shop.example"}},
		{"http://shop.example@other.example/b", "/b", []string{"Host: other.example"}},
		// and what is named elsewhere is not what is here
		{"http://other.example/b", "/b", nil},
		{"https://shop.example/b", "/b", nil},
		{"http://shop.example:8080/b", "/b", nil},
		{"http://shop.example.:80/b", "/b", nil},
	} {
		if related(t, rules.Terms{}, c.reference, c.target, c.header...) {
			t.Errorf("%q invalidates %s %q", c.reference, c.target, c.header)
		}
	}
}

// The other way about: a target with a port invalidates under that port only.
func TestINV06_TargetWithAPort(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		v := &versioned{}
		w.Handle(v.serve)
		const host = "Host: shop.example:8080"
		w.Get("/b", host)
		w.Get("/b")
		w.Get("/c", host)
		v.reply = sim.Reply{Status: 204, Header: []string{"Location: http://shop.example/b"}}
		w.Do("POST", "/a", "content", host)
		w.Get("/b", host).WantHit()
		w.Get("/b").WantHit()
		v.reply = sim.Reply{Status: 204, Header: []string{"Location: http://SHOP.example:8080/b", "Content-Location: c"}}
		w.Do("POST", "/a", "content", host)
		w.Get("/b", host).Want(200, "version 2")
		w.Get("/c", host).Want(200, "version 2")
		w.Get("/b").WantHit()
	})
}

// Nothing of the old is served from the moment that the client has the answer,
// and not from the moment that its head is there either.
func TestINV07_OldEntryIsGoneWhenTheClientHasTheAnswer(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		r, pipe := io.Pipe()
		v := &versioned{reply: sim.Reply{Status: 200, Header: []string{"Location: /b"}, Stream: r}}
		w.Handle(v.serve)
		w.Get("/a")
		w.Get("/b")
		post := w.Start("POST", "/a", "content")
		io.WriteString(pipe, "begun")
		w.Settle()
		if post.Status != 200 || post.Body() != "begun" || post.Done() {
			t.Fatalf("status %d, body %q", post.Status, post.Body())
		}
		w.Get("/a").Want(200, "version 1")
		w.Get("/b").Want(200, "version 1")
		pipe.Close()
		post.Wait()
		w.Get("/a").Want(200, "version 1").WantHit()
	})
}

// A client that leaves before the answer is there has changed the origin all
// the same.
func TestINV07_ClientThatLeaves(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		v := &versioned{reply: sim.Reply{Status: 204, Delay: time.Second}}
		w.Handle(v.serve)
		w.Get("/a").Want(200, "version 0")
		post := w.Start("POST", "/a", "content")
		w.Settle()
		post.Leave()
		post.Wait()
		w.Get("/a").Want(200, "version 1").WantMiss("stale")
	})
}

// The octets that a reader of the old entry has begun with stay as they were.
func TestINV07_ReaderThatHadBegunIsNotDisturbed(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		r, pipe := io.Pipe()
		w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=60"}, Stream: r, Length: 10}, sim.Reply{Status: 204}, minute)
		reader := w.Start("GET", "/a", "")
		w.Settle()
		io.WriteString(pipe, "01234")
		w.Settle()
		w.Do("POST", "/a", "content")
		w.Get("/a").Want(200, "page").WantMiss("uri-miss")
		io.WriteString(pipe, "56789")
		pipe.Close()
		reader.Wait()
		reader.Want(200, digits)
		w.Get("/a").Want(200, "page").WantHit()
		w.WantCount(3)
	})
}

func TestINV08_FetchUnderWayIsNotKept(t *testing.T) {
	for name, ask := range map[string][]string{
		"whole": nil, "range": {"Range: bytes=0-3"}, "condition": {`If-None-Match: "9"`}, "guard": {`If-Match: "0"`}, "credentials": {"Authorization: Basic YTpi"},
	} {
		t.Run(name, func(t *testing.T) {
			sim.Run(t, func(w *sim.World) {
				v := &versioned{reply: sim.Reply{Status: 204}, slow: time.Second, extra: []string{"Cache-Control: public"}}
				w.Handle(v.serve)
				old := w.Start("GET", "/a", "", ask...)
				w.Settle()
				w.Do("POST", "/a", "content").Want(204, "")
				later := w.Start("GET", "/a", "", ask...) // does not join
				w.Settle()
				w.WantCount(3)
				old.Wait()
				old.Want(200, "version 0") // it had asked before
				later.Wait()
				later.Want(200, "version 1")
				w.Get("/a").Want(200, "version 1")
			})
		})
	}
}

// Those that had waited for the fetch before the invalidation may get its
// answer, those that come after it may not.
func TestINV08_LaterRequestsDoNotJoin(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		v := &versioned{reply: sim.Reply{Status: 204}, slow: 3 * time.Second}
		w.Handle(v.serve)
		var before, after []*sim.Answer
		for range 10 {
			before = append(before, w.Start("GET", "/a", ""))
		}
		w.Settle()
		w.Advance(time.Second)
		w.Do("DELETE", "/a", "")
		for range 10 {
			after = append(after, w.Start("GET", "/a", ""))
			w.Settle()
			after = append(after, w.Start("GET", "/a", "", "Range: bytes=8-"))
			w.Settle()
		}
		for _, a := range before {
			a.Wait()
			if a.Status != 200 || a.Body() != "version 0" && a.Body() != "version 1" {
				t.Errorf("status %d, body %q", a.Status, a.Body())
			}
		}
		for _, a := range after {
			a.Wait()
			if a.Body() != "version 1" && a.Body() != "1" {
				t.Errorf("status %d, body %q after the invalidation", a.Status, a.Body())
			}
		}
		w.WantCount(3)
	})
}

// A validation that was under way confirms nothing, whether it ran in the
// foreground or behind an answer.
func TestINV08_ValidationUnderWay(t *testing.T) {
	for name, policy := range map[string]string{"foreground": "max-age=60", "background": "max-age=60, stale-while-revalidate=600"} {
		for answer, validated := range map[string]sim.Reply{
			"304": {Status: 304, Header: []string{"Cache-Control: max-age=600", `ETag: "1"`}},
			"200": {Header: []string{"Cache-Control: max-age=600", `ETag: "1"`}, Body: "old page"},
		} {
			t.Run(name+" "+answer, func(t *testing.T) {
				sim.Run(t, func(w *sim.World) {
					validated.Delay = 5 * time.Second
					w.Origin(sim.Reply{Header: []string{"Cache-Control: " + policy, `ETag: "1"`}, Body: "old page"}, validated, sim.Reply{Status: 204},
						sim.Reply{Header: []string{"Cache-Control: max-age=600", `ETag: "2"`}, Body: "new page"})
					w.Get("/a")
					w.Advance(2 * time.Minute)
					w.Start("GET", "/a", "")
					w.Settle()
					w.WantCount(2)
					w.Do("PUT", "/a", "new page").Want(204, "")
					w.Get("/a").Want(200, "new page").WantMiss("uri-miss")
					w.Advance(time.Minute)
					w.Get("/a").Want(200, "new page").WantHit()
				})
			})
		}
	}
}

// The rest of a prefix that was under way is not joined to what came after.
func TestINV08_CompletionUnderWay(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		parts(w, part(0, 3, `ETag: "1"`))
		rest := part(4, 9, `ETag: "1"`)
		rest.Delay = time.Second
		w.Origin(rest, sim.Reply{Status: 204}, sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "2"`}, Body: "new"})
		w.Start("GET", "/a", "")
		w.Settle()
		w.Do("POST", "/a", "content")
		w.Get("/a").Want(200, "new")
		w.Advance(10 * time.Second)
		w.Get("/a").Want(200, "new").WantHit()
		wantPart(t, fetched(w, "0-1").WantHit(), "ne", 0, 1, "3")
	})
}

// A heldStore lets the nth Create wait until it is released.
type heldStore struct {
	store.Store
	nth     atomic.Int64
	release chan struct{}
}

func (s *heldStore) Create(ctx context.Context, key store.Key, head store.Head, size int64) (store.Writer, error) {
	if s.nth.Add(-1) == 0 {
		<-s.release
	}
	return s.Store.Create(ctx, key, head, size)
}

// Two parts that were being joined when they were invalidated do not come back
// as one.
func TestINV08_JoiningUnderWay(t *testing.T) {
	var held *heldStore
	hold := func(c *engine.Config) {
		held = &heldStore{Store: c.Store, release: make(chan struct{})}
		held.nth.Store(3)
		c.Store = held
	}
	sim.RunWith(t, hold, func(w *sim.World) {
		w.Origin(part(0, 4, `ETag: "1"`), part(5, 9, `ETag: "1"`), sim.Reply{Status: 204}, minute)
		fetched(w, "0-4")
		fetched(w, "5-9")
		if n := held.nth.Load(); n != 0 {
			t.Fatalf("the parts are not being joined: %d more entries to come", n)
		}
		w.Do("POST", "/a", "content")
		close(held.release)
		w.Settle()
		w.Get("/a").Want(200, "page").WantMiss("uri-miss")
	})
}

// A fetch of what Location names is under way as well.
func TestINV08_FetchOfARelatedURI(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		v := &versioned{reply: sim.Reply{Status: 201, Header: []string{"Location: /b"}}, slow: time.Second}
		w.Handle(v.serve)
		old := w.Start("GET", "/b", "")
		w.Settle()
		w.Do("POST", "/a", "content")
		old.Wait()
		w.Get("/b").Want(200, "version 1").WantMiss("uri-miss")
	})
}

func TestINV09_ResponseToPOSTIsKeptAfterwards(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		v := &versioned{reply: sim.Reply{Header: []string{"Cache-Control: max-age=60", "Content-Location: /a", `ETag: "p"`}, Body: "posted"}}
		w.Handle(v.serve)
		w.Get("/a").Want(200, "version 0")
		w.Do("POST", "/a", "content").Want(200, "posted")
		w.Get("/a").Want(200, "posted").WantHit().WantField("ETag", `"p"`)
		w.WantCount(2)
		// The next one does away with it.
		v.reply = sim.Reply{Status: 204}
		w.Do("POST", "/a", "content")
		w.Get("/a").Want(200, "version 2")
	})
}

// Nor is the response to a POST kept if another change came while it arrived.
func TestINV09_POSTOvertakenByAnother(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		r, pipe := io.Pipe()
		w.Origin(
			sim.Reply{Header: []string{"Cache-Control: max-age=60", "Content-Location: /a"}, Stream: r},
			sim.Reply{Status: 204},
			minute,
		)
		post := w.Start("POST", "/a", "content")
		w.Settle()
		w.Do("DELETE", "/a", "")
		io.WriteString(pipe, "posted")
		pipe.Close()
		post.Wait()
		post.Want(200, "posted")
		w.Get("/a").Want(200, "page").WantMiss("uri-miss")
	})
}

func TestINV10_InvalidatedStandsInForNobody(t *testing.T) {
	for name, policy := range map[string]string{"stale-on-error": "max-age=60", "both": "max-age=60, stale-while-revalidate=600, stale-if-error=600"} {
		for age, wait := range map[string]time.Duration{"fresh": 0, "stale": 2 * time.Minute} {
			for outcome, reply := range map[string]sim.Reply{"succeeded": {Status: 204}, "failed": {Err: errors.New("reset")}} {
				t.Run(name+" "+age+" "+outcome, func(t *testing.T) {
					sim.Run(t, func(w *sim.World) {
						w.Origin(sim.Reply{Header: []string{"Cache-Control: " + policy, `ETag: "1"`}, Body: "old page"}, reply, sim.Reply{Err: errors.New("refused")})
						w.Get("/a")
						w.Advance(wait)
						w.Do("POST", "/a", "content")
						for _, header := range []string{"X-No: thing", "Cache-Control: max-stale", "Range: bytes=0-2"} {
							if a := w.Get("/a", header); a.Status < 500 || strings.Contains(a.Body(), "old") {
								t.Errorf("%s: status %d, body %q", header, a.Status, a.Body())
							}
						}
						w.WantCount(5)
					})
				})
			}
		}
	}
}

func TestINV11_FailedUnsafeRequestDemandsValidation(t *testing.T) {
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "M-SEARCH"} {
		sim.Run(t, func(w *sim.World) {
			w.Origin(minute, sim.Reply{Err: errors.New("reset")}, sim.Reply{Status: 304})
			w.Get("/a")
			w.Get("/a").WantHit()
			if a := w.Do(method, "/a", "content"); a.Status < 500 {
				t.Errorf("status %d", a.Status)
			}
			w.Get("/a").Want(200, "page").WantMiss("stale")
			if got := w.Last().Header.Get("If-None-Match"); got != `"1"` {
				t.Errorf("If-None-Match %q", got)
			}
			w.Get("/a").Want(200, "page").WantHit() // confirmed
			w.WantCount(3)
		})
	}
	sim.Run(t, func(w *sim.World) { // variants and parts as well
		w.Origin(part(0, 3, `ETag: "1"`), sim.Reply{Err: errors.New("reset")}, sim.Reply{Status: 304})
		fetched(w, "0-3")
		w.Do("POST", "/a", "content")
		wantPart(t, fetched(w, "0-3").WantMiss("stale"), "0123", 0, 3, "10")
	})
	sim.Run(t, func(w *sim.World) { // a safe method has changed nothing
		w.Origin(minute, sim.Reply{Err: errors.New("reset")})
		w.Get("/a")
		w.Do("QUERY", "/a", "content")
		w.Do("OPTIONS", "/a", "")
		w.Get("/a").Want(200, "page").WantHit()
	})
}

// A forgetful store shows nothing for a while, as after a restart.
type forgetful struct {
	store.Store
	hides bool
}

func (s *forgetful) Lookup(ctx context.Context, key store.Key, into []store.Entry) ([]store.Entry, error) {
	if s.hides {
		return into, nil
	}
	return s.Store.Lookup(ctx, key, into)
}

// What the store has not read yet is not used after a change, nor after what may
// have been one.
func TestINV11_WhatTheStoreHasNotReadYet(t *testing.T) {
	for name, outcome := range map[string]sim.Reply{"succeeded": {Status: 204}, "failed": {Err: errors.New("reset")}} {
		t.Run(name, func(t *testing.T) {
			var s *forgetful
			sim.RunWith(t, func(c *engine.Config) { s = &forgetful{Store: c.Store}; c.Store = s }, func(w *sim.World) {
				w.Origin(minute, outcome, sim.Reply{Body: "new page"})
				w.Get("/a")
				s.hides = true
				w.Do("POST", "/a", "content")
				s.hides = false
				w.Get("/a").Want(200, "new page")
			})
		})
	}
}

// A fetch that was under way when the outcome became doubtful brings no answer
// to the doubt.
func TestINV11_FetchUnderWay(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		v := &versioned{reply: sim.Reply{Err: errors.New("reset")}, slow: time.Second}
		w.Handle(v.serve)
		old := w.Start("GET", "/a", "")
		w.Settle()
		w.Do("POST", "/a", "content")
		old.Wait()
		w.Get("/a").Want(200, "version 1").WantMiss("uri-miss")
	})
}

// Readers and writers at once: whoever asks after a change was acknowledged
// sees that change or a later one, in whatever order things happen.
func TestINV07_NobodySeesThePastAfterwards(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		var state atomic.Int64
		w.Handle(func(r *http.Request) sim.Reply {
			if r.Method == http.MethodPut {
				w.Advance(time.Duration(state.Load()%3) * time.Millisecond)
				return sim.Reply{Status: 204, Header: []string{fmt.Sprintf("X-Version: %d", state.Add(1))}, Delay: time.Millisecond}
			}
			n := state.Load()
			return sim.Reply{
				Header: []string{"Cache-Control: max-age=60, stale-while-revalidate=60", fmt.Sprintf(`ETag: "%d"`, n)}, Body: fmt.Sprint(n),
				Delay: time.Duration(n%5) * time.Millisecond,
			}
		})
		var acknowledged atomic.Int64
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 100 {
				a := w.Do("PUT", "/a", "x")
				var n int64
				fmt.Sscan(a.Header.Get("X-Version"), &n)
				acknowledged.Store(n)
				w.Advance(2 * time.Millisecond)
			}
		}()
		for i := range 8 {
			go func() {
				for {
					select {
					case <-done:
						return
					default:
					}
					least := acknowledged.Load()
					a := w.Get("/a")
					var n int64
					if _, err := fmt.Sscan(a.Body(), &n); err != nil || a.Status != 200 || n < least {
						t.Errorf("status %d, version %q after %d was acknowledged", a.Status, a.Body(), least)
					}
					w.Advance(time.Duration(i+1) * 700 * time.Microsecond)
				}
			}()
		}
		<-done
		w.Advance(time.Second)
		if n := len(w.Seen()); n < 150 {
			t.Errorf("only %d requests reached the origin", n)
		}
	})
}
