package engine_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/canon"
	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/rules"
	"github.com/larderhq/larder/internal/sim"
)

const lastModified = "Fri, 31 Dec 1999 00:00:00 GMT"

// wantKept fails the test unless so many entries are stored for a path.
func wantKept(t *testing.T, w *sim.World, path string, n int) {
	t.Helper()
	target := canon.Target{Scheme: "http", Host: sim.Host, Path: path}
	entries, err := w.Store.Lookup(context.Background(), target.AppendKey(nil, ""), nil)
	if err != nil || len(entries) != n {
		t.Fatalf("%d entries are stored for %s (%v), want %d", len(entries), path, err, n)
	}
}

// It covers VAL-02 and VAL-03 as well.
func TestVAL01_TheStoredValidatorsAreSentAsTheyAre(t *testing.T) {
	for _, c := range []struct{ tag, date string }{
		{tag: `"a"`},
		{tag: `W/"a"`},
		{tag: `""`},
		{tag: "\"\xe4\\ä!,\""},
		{date: lastModified},
		{date: "Friday, 31-Dec-99 00:00:00 GMT"},
		{date: "Fri Dec 31 00:00:00 1999"},
		{tag: `"a"`, date: lastModified},
		{tag: `W/"a"`, date: "Friday, 31-Dec-99 00:00:00 GMT"},
		{},
	} {
		t.Run(c.tag+c.date, func(t *testing.T) {
			sim.Run(t, func(w *sim.World) {
				page := sim.Reply{Header: []string{"Cache-Control: max-age=60"}, Body: "page"}
				if c.tag != "" {
					page.Header = append(page.Header, "ETag: "+c.tag)
				}
				if c.date != "" {
					page.Header = append(page.Header, "Last-Modified: "+c.date)
				}
				w.Origin(page)
				w.Get("/a").Want(200, "page")
				w.Advance(time.Minute)
				w.Get("/a").Want(200, "page").WantMiss("stale")
				w.WantCount(2)
				h := w.Last().Header
				for field, want := range map[string]string{"If-None-Match": c.tag, "If-Modified-Since": c.date} {
					if got := strings.Join(h[field], "|"); got != want {
						t.Errorf("%s is %q, want %q", field, got, want)
					}
				}
			})
		})
	}
}

// It covers VAL-16 as well: the client gets what it asked for.
func TestVAL04_TheClientsConditionsAreJudgedAfterwards(t *testing.T) {
	const text = "0123456789"
	stored := sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "1"`, "Last-Modified: " + lastModified}, Body: text}
	changed := sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "2"`, "Last-Modified: Sat, 01 Jan 2000 00:00:30 GMT"}, Body: "abcdefghij"}
	for _, c := range []struct {
		name    string
		method  string
		request []string
		reply   sim.Reply
		status  int
		body    string
	}{
		{"plain", "GET", nil, sim.Reply{Status: 304}, 200, text},
		{"HEAD", "HEAD", nil, sim.Reply{Status: 200, Header: stored.Header}, 200, ""},
		{"the stored tag", "GET", []string{`If-None-Match: "x", W/"1"`}, sim.Reply{Status: 304}, 304, ""},
		{"another tag", "GET", []string{`If-None-Match: "x"`}, sim.Reply{Status: 304}, 200, text},
		{"another tag hides the date", "GET", []string{`If-None-Match: "x"`, "If-Modified-Since: " + lastModified}, sim.Reply{Status: 304}, 200, text},
		{"the stored date", "GET", []string{"If-Modified-Since: " + lastModified}, sim.Reply{Status: 304}, 304, ""},
		{"an older date", "GET", []string{"If-Modified-Since: Thu, 30 Dec 1999 00:00:00 GMT"}, sim.Reply{Status: 304}, 200, text},
		{"a range", "GET", []string{"Range: bytes=2-4"}, sim.Reply{Status: 304}, 206, "234"},
		{"a range and the stored tag", "GET", []string{"Range: bytes=2-4", `If-None-Match: "1"`}, sim.Reply{Status: 304}, 304, ""},
		{"a range if it is the stored one", "GET", []string{"Range: bytes=2-4", `If-Range: "1"`}, sim.Reply{Status: 304}, 206, "234"},
		{"a range if it is another one", "GET", []string{"Range: bytes=2-4", `If-Range: "2"`}, sim.Reply{Status: 304}, 200, text},
		{"a range past the end", "GET", []string{"Range: bytes=10-"}, sim.Reply{Status: 304}, 416, "416 Requested Range Not Satisfiable: no octet of the range exists\n"},
		{"changed, a stored tag", "GET", []string{`If-None-Match: "1"`}, changed, 200, "abcdefghij"},
		{"changed, to what the client has", "GET", []string{`If-None-Match: "2"`}, changed, 304, ""},
		{"changed, a range", "GET", []string{"Range: bytes=2-4"}, changed, 206, "cde"},
		{"changed, a range of the old one", "GET", []string{"Range: bytes=2-4", `If-Range: "1"`}, changed, 200, "abcdefghij"},
	} {
		t.Run(c.name, func(t *testing.T) {
			sim.Run(t, func(w *sim.World) {
				w.Origin(stored, c.reply)
				w.Get("/a").Want(200, text)
				w.Advance(time.Minute)
				w.Do(c.method, "/a", "", c.request...).Want(c.status, c.body).WantMiss("stale")
				w.WantCount(2)
				h := w.Last().Header
				if got := h["If-None-Match"]; c.method == "GET" && strings.Join(got, "|") != `"1"` {
					t.Errorf("If-None-Match is %q", got)
				}
				if got := h["If-Modified-Since"]; c.method == "GET" && strings.Join(got, "|") != lastModified {
					t.Errorf("If-Modified-Since is %q", got)
				}
				for _, gone := range []string{"Range", "If-Range", "If-Match", "If-Unmodified-Since"} {
					if h[gone] != nil {
						t.Errorf("%s: %q went along", gone, h[gone])
					}
				}
				w.Settle()
				// Whatever this client got, the entry is whole and fresh.
				want := text
				if c.reply.Status == 0 {
					want = changed.Body
				}
				w.Get("/a").Want(200, want).WantHit()
			})
		})
	}
}

// What a client demands of the origin's state is no validation of ours.
func TestVAL04_GuardsGoToTheOriginAlone(t *testing.T) {
	for _, guard := range []string{`If-Match: "7"`, "If-Unmodified-Since: " + lastModified} {
		sim.Run(t, func(w *sim.World) {
			w.Origin(minute, sim.Reply{Status: 412, Body: "no"}, refusing)
			w.Get("/a").Want(200, "page")
			w.Advance(time.Minute)
			w.Get("/a", guard).Want(412, "no")
			name, value, _ := strings.Cut(guard, ": ")
			if h := w.Last().Header; h.Get(name) != value || h["If-None-Match"] != nil {
				t.Errorf("the origin got %v", h)
			}
			w.Get("/a").Want(200, "page") // stale, but still there
		})
	}
}

func TestVAL06_A304WithAnotherValidatorUpdatesNothing(t *testing.T) {
	for _, c := range []struct{ name, stored, fresh string }{
		{"strong", `ETag: "1"`, `ETag: "2"`},
		{"strong for weak", `ETag: W/"1"`, `ETag: "1"`},
		{"weak", `ETag: W/"1"`, `ETag: W/"2"`},
		{"tag for a date", "Last-Modified: " + lastModified, `ETag: "2"`},
		{"date", "Last-Modified: " + lastModified, "Last-Modified: Thu, 30 Dec 1999 00:00:00 GMT"},
		{"garbled tag", `ETag: "1"`, `ETag: 1`},
	} {
		t.Run(c.name, func(t *testing.T) {
			sim.Run(t, func(w *sim.World) {
				w.Origin(
					sim.Reply{Header: []string{"Cache-Control: max-age=60", c.stored}, Body: "page"},
					sim.Reply{Status: 304, Header: []string{"Cache-Control: max-age=600", "X-New: 1", c.fresh}},
					sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "3"`}, Body: "new"},
				)
				w.Get("/a").Want(200, "page")
				w.Advance(time.Minute)
				w.Get("/a", `If-None-Match: "9"`, "Range: bytes=0-").Want(206, "new").WantField("X-New")
				w.WantCount(3)
				if h := w.Last().Header; h["If-None-Match"] != nil || h["If-Modified-Since"] != nil || h["Range"] != nil {
					t.Errorf("repeated with conditions: %v", h)
				}
				w.Settle() // a client that wanted a part is done before the entry is
				w.Get("/a").Want(200, "new").WantHit().WantField("X-New")
				wantKept(t, w, "/a", 1)
			})
		})
	}
	t.Run("repeated once only", func(t *testing.T) {
		sim.Run(t, func(w *sim.World) {
			w.Origin(keptPage("max-age=60, must-revalidate"), sim.Reply{Status: 304, Header: []string{`ETag: "2"`}})
			w.Get("/a").Want(200, "page")
			w.Advance(time.Minute)
			if a := w.Get("/a"); a.Status != http.StatusBadGateway {
				t.Errorf("status %d", a.Status)
			}
			w.WantCount(3)
		})
	})
}

func TestVAL06_A304UpdatesItsOwnVariantOnly(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Handle(func(r *http.Request) sim.Reply {
			language := r.Header.Get("Accept-Language")
			header := []string{"Cache-Control: max-age=60", "Vary: Accept-Language", `ETag: "` + language + `"`}
			if r.Header.Get("If-None-Match") == `"`+language+`"` {
				return sim.Reply{Status: 304, Header: header}
			}
			return sim.Reply{Header: header, Body: language}
		})
		w.Get("/a", "Accept-Language: en").Want(200, "en")
		w.Get("/a", "Accept-Language: de").Want(200, "de")
		w.Advance(time.Minute)
		w.Get("/a", "Accept-Language: en").Want(200, "en").WantMiss("stale")
		w.Get("/a", "Accept-Language: en").WantHit()
		w.Get("/a", "Accept-Language: de").Want(200, "de").WantMiss("stale")
		w.WantCount(4)
	})
}

// It covers VAL-08 as well.
func TestVAL07_WeakOrNoValidatorsIn304(t *testing.T) {
	for _, c := range []struct{ name, stored, fresh string }{
		{"weak for weak", `ETag: W/"1"`, `ETag: W/"1"`},
		{"weak for strong", `ETag: "1"`, `ETag: W/"1"`},
		{"date", "Last-Modified: " + lastModified, "Last-Modified: " + lastModified},
		{"date in another form", "Last-Modified: " + lastModified, "Last-Modified: Fri Dec 31 00:00:00 1999"},
		{"none for a tag", `ETag: "1"`, "X: y"},
		{"none for a date", "Last-Modified: " + lastModified, "X: y"},
	} {
		t.Run(c.name, func(t *testing.T) {
			sim.Run(t, func(w *sim.World) {
				w.Origin(
					sim.Reply{Header: []string{"Cache-Control: max-age=60", c.stored}, Body: "page"},
					sim.Reply{Status: 304, Header: []string{c.fresh, "X-New: 1"}},
				)
				w.Get("/a").Want(200, "page")
				w.Advance(time.Minute)
				w.Get("/a").Want(200, "page").WantMiss("stale").WantField("X-New", "1")
				w.Advance(59 * time.Second)
				w.Get("/a").Want(200, "page").WantHit().WantField("X-New", "1")
				w.WantCount(2)
			})
		})
	}
}

// A 304 is taken for the entry that was asked about, not for another that
// matches the request as well.
func TestVAL07_TheSelectedOneOfSeveralIsUpdated(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Handle(func(r *http.Request) sim.Reply {
			switch {
			case r.Header.Get("If-None-Match") != "":
				return sim.Reply{Status: 304, Header: []string{`ETag: W/"1"`, "X-New: 1"}}
			case r.Header.Get("A") == "1":
				return sim.Reply{Header: []string{"Cache-Control: max-age=60", "Vary: A", `ETag: W/"1"`}, Body: "one"}
			}
			return sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: W/"1"`}, Body: "any"}
		})
		w.Get("/a", "A: 1").Want(200, "one")
		w.Advance(time.Second)
		w.Get("/a", "A: 2").Want(200, "any")
		w.Advance(time.Minute)
		w.Get("/a", "A: 1").Want(200, "one").WantField("X-New", "1")
		w.Get("/a", "A: 1").Want(200, "one").WantHit()
		w.Get("/a", "A: 2").Want(200, "any").WantMiss("stale")
		w.WantCount(4)
	})
}

// It covers VAL-13 as well.
func TestVAL09_FieldsOf304ReplaceThoseOfTheSameName(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		expires := sim.Date(time.Hour)
		w.Origin(
			sim.Reply{Header: []string{
				"Cache-Control: max-age=60", "Expires: " + sim.Date(time.Minute), `ETag: "1"`, "Content-Type: text/plain", "Content-Location: /old",
				"Content-Security-Policy: a", "Set-Cookie: a=1", "Set-Cookie: b=2", "X-Unknown: 1", "X-Unknown: 2", "X-Stays: 1", "X-Stays: 2",
			}, Body: "page"},
			sim.Reply{Status: 304, Header: []string{
				"Cache-Control: max-age=120", "Expires: " + expires, "Content-Type: text/html", "Content-Location: /new",
				"Content-Security-Policy: b", "Content-Security-Policy: c", "Set-Cookie: a=3", "X-Unknown: 3", "X-Added: 1",
			}},
		)
		w.Get("/a").Want(200, "page")
		w.Advance(time.Minute)
		for _, way := range []func(a *sim.Answer){
			func(a *sim.Answer) { a.WantMiss("stale") },
			func(a *sim.Answer) { a.WantHit() },
		} {
			a := w.Get("/a").Want(200, "page")
			way(a)
			a.WantField("Cache-Control", "max-age=120").WantField("Expires", expires).WantField("ETag", `"1"`).
				WantField("Content-Type", "text/html").WantField("Content-Location", "/new").
				WantField("Content-Security-Policy", "b", "c").WantField("Set-Cookie", "a=3").
				WantField("X-Unknown", "3").WantField("X-Added", "1").WantField("X-Stays", "1", "2")
		}
		w.Advance(119 * time.Second)
		w.Get("/a").WantHit()
		w.WantCount(2)
	})
}

func TestVAL11_FramingAndHopFieldsOf304AreNotTakenOver(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(minute, sim.Reply{Status: 304, Header: []string{
			"Content-Range: bytes 0-1/2", "Transfer-Encoding: chunked", "Content-Length: 2", "Connection: X-Hop, close", "X-Hop: 1",
			"Keep-Alive: timeout=5", "Proxy-Connection: close", "TE: trailers", "Upgrade: h2c", "Trailer: X",
			"Proxy-Authenticate: Basic", "Proxy-Authentication-Info: x", "Proxy-Authorization: y", "X-End: 1",
		}})
		w.Get("/a").Want(200, "page")
		w.Advance(time.Minute)
		w.Get("/a").Want(200, "page").WantMiss("stale")
		a := w.Get("/a").Want(200, "page").WantHit().WantField("X-End", "1").WantField("Content-Length", "4")
		for _, name := range []string{
			"Content-Range", "Transfer-Encoding", "Connection", "X-Hop", "Keep-Alive", "Proxy-Connection", "Te", "Upgrade", "Trailer",
			"Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Authorization",
		} {
			a.WantField(name)
		}
	})
}

func TestVAL12_AnotherContentEncodingIsFetchedAnew(t *testing.T) {
	for _, c := range []struct {
		stored, fresh string
		anew          bool
	}{
		{"Content-Encoding: gzip", "Content-Encoding: br", true},
		{"X: y", "Content-Encoding: gzip", true},
		{"Content-Encoding: gzip", "Content-Encoding: gzip", false},
		{"Content-Encoding: gzip", "X: y", false},
	} {
		t.Run(c.stored+c.fresh, func(t *testing.T) {
			sim.Run(t, func(w *sim.World) {
				w.Origin(
					sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "1"`, c.stored}, Body: "coded"},
					sim.Reply{Status: 304, Header: []string{`ETag: "1"`, c.fresh}},
					sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "1"`, c.fresh}, Body: "anew"},
				)
				w.Get("/a").Want(200, "coded")
				w.Advance(time.Minute)
				want, count, label := "coded", 2, c.stored
				if c.anew {
					want, count, label = "anew", 3, c.fresh
				}
				label, _ = strings.CutPrefix(label, "Content-Encoding: ")
				w.Get("/a").Want(200, want).WantField("Content-Encoding", label)
				w.Get("/a").Want(200, want).WantField("Content-Encoding", label).WantHit()
				w.WantCount(count)
				if c.anew && w.Last().Header["If-None-Match"] != nil {
					t.Error("fetched anew, but with a condition")
				}
				wantKept(t, w, "/a", 1)
			})
		})
	}
}

func TestVAL14_FreshnessCountsFromTheDateOf304(t *testing.T) {
	for _, c := range []struct {
		name   string
		stored []string
		fresh  func() []string
		left   time.Duration
	}{
		{"new max-age", []string{"Cache-Control: max-age=60"}, func() []string { return []string{"Cache-Control: max-age=120"} }, 120 * time.Second},
		{"new max-age, dated", []string{"Cache-Control: max-age=60"}, func() []string {
			return []string{"Cache-Control: max-age=120", "Date: " + sim.Date(-20*time.Second)}
		}, 100 * time.Second},
		{"new max-age, aged", []string{"Cache-Control: max-age=60"}, func() []string {
			return []string{"Cache-Control: max-age=120", "Age: 30"}
		}, 90 * time.Second},
		{"stored max-age", []string{"Cache-Control: max-age=60"}, func() []string { return nil }, 60 * time.Second},
		{"stored max-age, dated", []string{"Cache-Control: max-age=60"}, func() []string { return []string{"Date: " + sim.Date(-20*time.Second)} }, 40 * time.Second},
		{"stored Age is over", []string{"Cache-Control: max-age=60", "Age: 59"}, func() []string { return nil }, 60 * time.Second},
		{"new Expires", []string{"Expires: " + lastModified}, func() []string { return []string{"Expires: " + sim.Date(70*time.Second)} }, 70 * time.Second},
		{"stored Expires has passed", []string{"Expires: " + lastModified}, func() []string { return nil }, 0},
		{"no freshness any more", []string{"Cache-Control: max-age=60"}, func() []string { return []string{"Cache-Control: max-age=0"} }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			sim.Run(t, func(w *sim.World) {
				w.Origin(sim.Reply{Header: append([]string{`ETag: "1"`}, c.stored...), Body: "page"})
				w.Get("/a").Want(200, "page")
				w.Advance(5 * time.Minute)
				w.Origin(sim.Reply{Status: 304, Header: c.fresh()})
				w.Get("/a").Want(200, "page").WantMiss("stale")
				if c.left > 0 {
					w.Advance(c.left - time.Second)
					w.Get("/a").Want(200, "page").WantHit()
					w.Advance(time.Second)
				}
				w.Get("/a").Want(200, "page").WantMiss("stale")
				w.WantCount(3)
			})
		})
	}
}

func TestVAL15_A304ThatForbidsStoringEndsTheEntry(t *testing.T) {
	for _, c := range []struct {
		name  string
		fresh string
		terms rules.Terms
		ends  bool
	}{
		{"no-store", "Cache-Control: no-store", rules.Terms{}, true},
		{"no-store and more", "Cache-Control: max-age=60, no-store", rules.Terms{}, true},
		{"private", "Cache-Control: private, max-age=60", rules.Terms{}, true},
		{"private in a private cache", "Cache-Control: private, max-age=60", rules.Terms{Private: true}, false},
		{"no-store in a private cache", "Cache-Control: no-store", rules.Terms{Private: true}, true},
		{"Vary: *", "Vary: *", rules.Terms{}, true},
		{"a targeted no-store", "CDN-Cache-Control: no-store", rules.Terms{}, true},
	} {
		for _, request := range [][]string{nil, {`If-None-Match: "1"`}, {"Range: bytes=1-2"}, {"Range: bytes=0-0,3-3"}} {
			t.Run(fmt.Sprint(c.name, request), func(t *testing.T) {
				sim.RunWith(t, func(conf *engine.Config) { conf.Terms = c.terms }, func(w *sim.World) {
					w.Origin(minute, sim.Reply{Status: 304, Header: []string{c.fresh}}, refusing)
					w.Get("/a").Want(200, "page")
					w.Advance(time.Minute)
					switch a := w.Get("/a", request...); {
					case request == nil:
						a.Want(200, "page")
					case strings.HasPrefix(request[0], "If"):
						a.Want(304, "")
					case a.Aborted || a.Status != 206:
						t.Fatalf("status %d, aborted %v", a.Status, a.Aborted)
					}
					w.Settle()
					if !c.ends {
						w.Get("/a").Want(200, "page").WantHit()
						return
					}
					wantKept(t, w, "/a", 0)
					if a := w.Get("/a"); strings.Contains(a.Body(), "page") || a.Status < 500 {
						t.Errorf("afterwards: status %d, body %q", a.Status, a.Body())
					}
				})
			})
		}
	}
}

// Nobody else may have what the 304 made one client's own, or nobody's.
func TestVAL15_WaitingClientsFetchTheirOwn(t *testing.T) {
	for _, forbids := range []string{"no-store", "private, max-age=60"} {
		sim.Run(t, func(w *sim.World) {
			w.Origin(minute,
				sim.Reply{Status: 304, Header: []string{"Cache-Control: " + forbids}, Delay: time.Second},
				sim.Reply{Header: []string{"Cache-Control: " + forbids}, Body: "own", Delay: time.Second})
			w.Get("/a").Want(200, "page")
			w.Advance(time.Minute)
			start := time.Now()
			var answers []*sim.Answer
			for range 20 {
				answers = append(answers, w.Start("GET", "/a", ""))
			}
			first := 0
			for _, a := range answers {
				if a.Wait(); a.Body() == "page" {
					first++
				} else {
					a.Want(200, "own")
				}
			}
			if took := time.Since(start); first != 1 || took > 2*time.Second {
				t.Errorf("%d got the old entry, the last after %v", first, took)
			}
			wantKept(t, w, "/a", 0)
		})
	}
}

func TestVAL15_WithoutAClientToo(t *testing.T) {
	fresh := sim.Reply{Status: 304, Header: []string{"Cache-Control: no-store"}, Delay: time.Second}
	t.Run("in the background", func(t *testing.T) {
		sim.Run(t, func(w *sim.World) {
			w.Origin(keptPage("max-age=60, stale-while-revalidate=600"), fresh)
			w.Get("/a").Want(200, "page")
			w.Advance(time.Minute)
			w.Get("/a").Want(200, "page").WantHit()
			w.Advance(2 * time.Second)
			wantKept(t, w, "/a", 0)
		})
	})
	t.Run("after the client left", func(t *testing.T) {
		sim.Run(t, func(w *sim.World) {
			w.Origin(minute, fresh)
			w.Get("/a").Want(200, "page")
			w.Advance(time.Minute)
			a := w.Start("GET", "/a", "")
			w.Settle()
			a.Leave()
			w.Advance(2 * time.Second)
			wantKept(t, w, "/a", 0)
		})
	})
	t.Run("after a stale answer", func(t *testing.T) {
		sim.RunWith(t, func(c *engine.Config) { c.Terms.RevalidateTimeout = 100 * time.Millisecond }, func(w *sim.World) {
			w.Origin(minute, fresh)
			w.Get("/a").Want(200, "page")
			w.Advance(time.Minute)
			w.Get("/a").Want(200, "page")
			w.Advance(2 * time.Second)
			wantKept(t, w, "/a", 0)
		})
	})
}

// What one request may not store does not end what is there for others.
func TestVAL15_ARequestCannotEndTheEntry(t *testing.T) {
	for _, own := range []string{"Cache-Control: no-store", "Authorization: x"} {
		sim.Run(t, func(w *sim.World) {
			w.Origin(minute, sim.Reply{Status: 304})
			w.Get("/a").Want(200, "page")
			w.Advance(time.Minute)
			w.Get("/a", own).Want(200, "page")
			wantKept(t, w, "/a", 1)
			w.Get("/a").Want(200, "page").WantMiss("stale")
			w.Get("/a").Want(200, "page").WantHit()
		})
	}
}

func TestVAL17_UpdatesAreAtomicForReaders(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		var mu sync.Mutex
		n := 0
		w.Handle(func(r *http.Request) sim.Reply {
			mu.Lock()
			defer mu.Unlock()
			n++
			header := []string{"Cache-Control: max-age=1, stale-while-revalidate=60", `ETag: "1"`, fmt.Sprint("X-First: ", n), fmt.Sprint("X-Last: ", n)}
			if r.Header.Get("If-None-Match") != "" {
				return sim.Reply{Status: 304, Header: header}
			}
			return sim.Reply{Header: header, Body: strings.Repeat("x", 100_000)}
		})
		w.Get("/a")
		for range 20 {
			w.Advance(2 * time.Second)
			var answers []*sim.Answer
			for range 20 {
				answers = append(answers, w.Start("GET", "/a", ""))
			}
			for _, a := range answers {
				a.Wait()
				if a.Status != 200 || len(a.Body()) != 100_000 || a.Header.Get("X-First") != a.Header.Get("X-Last") {
					t.Fatalf("status %d, %d octets, %q and %q", a.Status, len(a.Body()), a.Header["X-First"], a.Header["X-Last"])
				}
			}
		}
		if w.Count() < 20 {
			t.Errorf("only %d updates", w.Count())
		}
	})
}

func TestVAL18_FieldsOfVaryAreThoseOfTheCurrentRequest(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=60", "Vary: X-Kind, Accept-Language", `ETag: "1"`}, Body: "page"}, sim.Reply{Status: 304})
		w.Get("/a", "X-Kind: 1,2", "Accept-Language: en").Want(200, "page")
		w.Advance(time.Minute)
		w.Get("/a", "X-Kind: 1", "X-Kind: 2", "Accept-Language: en").Want(200, "page").WantMiss("stale")
		h := w.Last().Header
		if got := strings.Join(h["X-Kind"], "|"); got != "1|2" || h.Get("Accept-Language") != "en" || h.Get("If-None-Match") != `"1"` {
			t.Errorf("the origin got %v", h)
		}
		w.Get("/a", "X-Kind: 1, 2", "Accept-Language: en").WantHit()
	})
}

func TestVAL19_A304ForTheClientAloneChangesNothing(t *testing.T) {
	t.Run("nothing stored", func(t *testing.T) {
		sim.Run(t, func(w *sim.World) {
			w.Origin(sim.Reply{Status: 304, Header: []string{"Cache-Control: max-age=60", `ETag: "7"`, "X-New: 1"}}, minute)
			w.Get("/a", `If-None-Match: "7"`).Want(304, "").WantField("X-New", "1").WantField("ETag", `"7"`)
			if got := w.Last().Header.Get("If-None-Match"); got != `"7"` {
				t.Errorf("the origin got %q", got)
			}
			wantKept(t, w, "/a", 0)
			w.Get("/a").Want(200, "page").WantMiss("uri-miss")
		})
	})
	t.Run("another variant stored", func(t *testing.T) {
		sim.Run(t, func(w *sim.World) {
			w.Origin(
				sim.Reply{Header: []string{"Cache-Control: max-age=60", "Vary: A", `ETag: "1"`}, Body: "one"},
				sim.Reply{Status: 304, Header: []string{"Cache-Control: max-age=600", "Vary: A", `ETag: "1"`, "X-New: 1"}},
				refusing)
			w.Get("/a", "A: 1").Want(200, "one")
			w.Advance(50 * time.Second)
			w.Get("/a", "A: 2", `If-None-Match: "1"`).Want(304, "").WantMiss("vary-miss")
			w.Get("/a", "A: 1").Want(200, "one").WantHit().WantField("X-New").WantField("Age", "50")
			w.Advance(10 * time.Second)
			w.Get("/a", "A: 1").Want(200, "one").WantMiss("stale")
			wantKept(t, w, "/a", 1)
		})
	})
}

func TestVAL20_KeptToBeValidatedOnEachUse(t *testing.T) {
	for _, directives := range []string{"max-age=0", "no-cache", "no-cache, max-age=60", "max-age=0, must-revalidate"} {
		for _, validator := range []string{`ETag: "1"`, "Last-Modified: " + lastModified} {
			t.Run(directives+validator[:4], func(t *testing.T) {
				sim.Run(t, func(w *sim.World) {
					w.Origin(sim.Reply{Header: []string{"Cache-Control: " + directives, validator}, Body: "page"}, sim.Reply{Status: 304})
					w.Get("/a").Want(200, "page")
					for n := 2; n < 5; n++ {
						w.Get("/a").Want(200, "page").WantMiss("stale")
						w.WantCount(n)
						if h := w.Last().Header; h["If-None-Match"] == nil && h["If-Modified-Since"] == nil {
							t.Fatalf("not validated: %v", h)
						}
					}
				})
			})
		}
	}
}
