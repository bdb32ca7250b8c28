package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/rules"
	"github.com/larderhq/larder/internal/sim"
	"github.com/larderhq/larder/store"
)

// wantInterims fails the test unless exactly these statuses came before the
// final one.
func wantInterims(t *testing.T, a *sim.Answer, want ...int) {
	t.Helper()
	var got []int
	for _, i := range a.Interims {
		got = append(got, i.Status)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("interim answers %v, want %v", got, want)
	}
}

func TestINT01_EveryInterimAtOnceAndInOrder(t *testing.T) {
	early := []sim.Interim{
		{Status: 103, Header: []string{"Link: </a.css>; rel=preload", "Link: </b.css>"}}, {Status: 102}, {Status: 199, Header: []string{"X: y"}}, {Status: 103},
	}
	for _, method := range []string{"GET", "HEAD", "POST", "OPTIONS", "QUERY"} {
		t.Run(method, func(t *testing.T) {
			sim.Run(t, func(w *sim.World) {
				w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=60"}, Body: "page", Interim: early, Delay: time.Hour})
				a := w.Start(method, "/a", "")
				w.Settle() // the final answer is an hour away
				wantInterims(t, a, 103, 102, 199, 103)
				if got := a.Interims[0].Header; len(got) != 1 || len(got["Link"]) != 2 || got["Link"][0] != "</a.css>; rel=preload" {
					t.Errorf("103 with %v", got)
				}
				if got := a.Interims[2].Header; len(got) != 1 || got.Get("X") != "y" {
					t.Errorf("199 with %v", got)
				}
				if a.Done() || a.Body() != "" {
					t.Fatal("the final answer is there already")
				}
				a.Wait()
				wantInterims(t, a, 103, 102, 199, 103)
				a.WantField("Link").WantField("X")
			})
		})
	}
	// A validation brings them as well, and a failure after them is a failure.
	sim.Run(t, func(w *sim.World) {
		w.Origin(minute, sim.Reply{Status: 304, Interim: early}, sim.Reply{Interim: early[:1], Err: errors.New("gone")})
		wantInterims(t, w.Get("/a"))
		w.Advance(time.Hour)
		wantInterims(t, w.Get("/a").Want(200, "page"), 103, 102, 199, 103)
		a := w.Get("/b").WantField("Link")
		wantInterims(t, a, 103)
		if a.Status != 502 {
			t.Errorf("status %d", a.Status)
		}
	})
}

// A doorWriter notes the heads that were sent.
type doorWriter struct {
	header http.Header
	heads  []http.Header
}

func (w *doorWriter) Header() http.Header         { return w.header }
func (w *doorWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w *doorWriter) WriteHeader(int)             { w.heads = append(w.heads, w.header.Clone()) }

// What was set before the engine came is for the final answer: it is there, and
// no interim answer has it.
func TestINT01_FieldsOfTheDoorWaitForTheFinalAnswer(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		early := []sim.Interim{{Status: 103, Header: []string{"Link: </a>"}}, {Status: 103, Header: []string{"Link: </b>", "X-Door: origin"}}}
		w.Origin(sim.Reply{Interim: early, Body: "page"})
		for _, method := range []string{"GET", "POST"} {
			door := &doorWriter{header: http.Header{"Connection": {"close"}, "X-Door": {"door"}}}
			w.Engine.ServeHTTP(door, sim.Request(method, "/a", ""))
			if len(door.heads) != 3 {
				t.Fatalf("%s: %d heads", method, len(door.heads))
			}
			first, second, final := door.heads[0], door.heads[1], door.heads[2]
			if len(first) != 1 || first.Get("Link") != "</a>" || len(second) != 2 || second.Get("X-Door") != "origin" {
				t.Errorf("%s: interim answers with %v and %v", method, first, second)
			}
			if final.Get("Connection") != "close" || final.Get("X-Door") != "door" || final.Get("Link") != "" {
				t.Errorf("%s: final answer with %v", method, final)
			}
		}
	})
}

// A losing store has lost an entry when its parts are opened, once.
type losing struct {
	store.Store
	opens int
}

func (s *losing) Open(ctx context.Context, key store.Key, id store.ID, off, n int64) (io.ReadCloser, error) {
	if s.opens--; s.opens == 0 {
		return nil, store.ErrGone
	}
	return s.Store.Open(ctx, key, id, off, n)
}

// Also where several ranges are to be sent and the entry goes between two.
func TestSRV11_FieldsOfTheDoorOutlastALostPart(t *testing.T) {
	var s *losing
	sim.RunWith(t, func(c *engine.Config) { s = &losing{Store: c.Store}; c.Store = s }, func(w *sim.World) {
		w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=60"}, Body: "0123456789"})
		w.Get("/a").Want(200, "0123456789")
		w.Settle()
		s.opens = 3
		door := &doorWriter{header: http.Header{"Connection": {"close"}, "X-Door": {"door"}}}
		w.Engine.ServeHTTP(door, sim.Request("GET", "/a", "", "Range: bytes=0-0,8-8"))
		if s.opens >= 0 || len(door.heads) != 1 {
			t.Fatalf("%d heads, %d opens left", len(door.heads), s.opens)
		}
		h := door.heads[0]
		if h.Get("Connection") != "close" || h.Get("X-Door") != "door" || len(h["Cache-Status"]) != 1 {
			t.Errorf("answered with %v", h)
		}
	})
}

func TestINT02_NoneFromTheStoreAndNothingOfThemIsKept(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(sim.Reply{
			Header:  []string{"Cache-Control: max-age=60", "Link: </final>"},
			Interim: []sim.Interim{{Status: 103, Header: []string{"Link: </early>", "Set-Cookie: a=b", "Cache-Control: no-store", "X: y"}}},
			Body:    "page",
		})
		a := w.Get("/a").Want(200, "page")
		wantInterims(t, a, 103)
		for range 2 {
			a.WantField("Link", "</final>").WantField("Set-Cookie").WantField("X").WantField("Cache-Control", "max-age=60")
			a = w.Get("/a").Want(200, "page").WantHit()
			wantInterims(t, a)
		}
		wantInterims(t, w.Do("HEAD", "/a", "").WantHit())
		wantInterims(t, w.Get("/a", "Range: bytes=0-0").Want(206, "p").WantHit())
	})
}

// SRV-09: HTTP/1.0 knows no interim answers.
func TestINT01_NoneForHTTP10(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(sim.Reply{Interim: []sim.Interim{{Status: 103}}, Header: []string{"Cache-Control: max-age=60"}, Body: "page"})
		for _, method := range []string{"GET", "POST"} {
			r := sim.Request(method, "/a", "")
			r.ProtoMinor = 0
			a := w.Send(r)
			a.Wait()
			wantInterims(t, a.Want(200, "page"))
		}
	})
}

func TestINT03_AsManyAsAnOriginMaySend(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		var many []sim.Interim
		var want []int
		for range 100 {
			many = append(many, sim.Interim{Status: 103})
			want = append(want, 103)
		}
		w.Origin(sim.Reply{Interim: many, Body: "page"})
		wantInterims(t, w.Get("/a").Want(200, "page"), want...)
		wantInterims(t, w.Do("POST", "/a", "x").Want(200, "page"), want...)
	})
}

func TestINT04_ExpectGoesOnWithContentOnly(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(minute)
		w.Do("POST", "/a", "content", "Expect: 100-continue").Want(200, "page")
		arrived(t, w.Last(), "Expect", "100-continue")
		for _, method := range []string{"POST", "GET", "HEAD", "OPTIONS"} {
			w.Do(method, "/"+method, "", "Expect: 100-continue")
			arrived(t, w.Last(), "Expect")
		}
	})
}

func TestEAR01_EarlyDataIsNeverRemoved(t *testing.T) {
	for way, ask := range ways {
		t.Run(way, func(t *testing.T) {
			sim.Run(t, func(w *sim.World) {
				w.Origin(minute)
				ask(w, "Early-Data: 1", "Connection: Early-Data")
				arrived(t, w.Last(), "Early-Data", "1")
			})
			sim.Run(t, func(w *sim.World) {
				w.Origin(minute)
				ask(w)
				arrived(t, w.Last(), "Early-Data")
			})
		})
	}
}

func TestEAR02_TooEarlyIsPassedOnAndNotStored(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		for _, fields := range [][]string{nil, {`ETag: "1"`}, {"Last-Modified: Sat, 01 Jan 2000 00:00:00 GMT"}, {"Cache-Control: public"}} {
			for _, method := range []string{"GET", "HEAD", "POST"} {
				w.Origin(sim.Reply{Status: 425, Header: fields})
				n := w.Count()
				w.Do(method, "/a", "", "Early-Data: 1").Want(425, "")
				w.WantCount(n + 1) // it is the client's part to come again
			}
			w.Origin(sim.Reply{Header: []string{"Cache-Control: no-store"}, Body: "page"})
			w.Get("/a").Want(200, "page").WantMiss("uri-miss")
		}
	})
}

// Nothing that we send is early data: an origin that takes it for that is asked once more, if
// that can do no harm, and then believed.
func TestEAR02_WhatWasNotEarlyIsAskedAgain(t *testing.T) {
	early := sim.Reply{Status: 425, Body: "early", Header: []string{"Cache-Control: no-store"}}
	for _, c := range []struct {
		method, content string
		fields          []string
		again           bool
	}{
		{"GET", "", nil, true},
		{"HEAD", "", nil, true},
		{"OPTIONS", "", nil, true},
		{"GET", "content", nil, false},
		{"POST", "", nil, false},
		{"PUT", "x", nil, false},
		{"GET", "", []string{"Early-Data: 1"}, false},
		{"OPTIONS", "", []string{"Early-Data: 1"}, false},
	} {
		sim.Run(t, func(w *sim.World) {
			w.Origin(early, sim.Reply{Header: []string{"Cache-Control: no-store"}})
			status, n := 425, 1
			if c.again {
				status, n = 200, 2
			}
			if a := w.Do(c.method, "/a", c.content, c.fields...); a.Status != status {
				t.Errorf("%s %q %q: %d, want %d", c.method, c.content, c.fields, a.Status, status)
			}
			w.WantCount(n)
			w.Origin(early)
			if a := w.Do(c.method, "/a", c.content, c.fields...); a.Status != 425 {
				t.Errorf("%s %q %q: %d, want what the origin insists on", c.method, c.content, c.fields, a.Status)
			}
			w.WantCount(2 * n)
		})
	}
	// A validation is no other request.
	sim.Run(t, func(w *sim.World) {
		w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "1"`}, Body: "page"}, early, sim.Reply{Status: 304})
		w.Get("/a")
		w.Advance(time.Hour)
		w.Get("/a").Want(200, "page")
		w.WantCount(3)
		arrived(t, w.Last(), "If-None-Match", `"1"`)
	})
}

// Who waits for a request that came too early is not told so.
func TestEAR02_OthersDoNotShareIt(t *testing.T) {
	sim.RunWith(t, func(*engine.Config) {}, func(w *sim.World) {
		w.Origin(sim.Reply{Status: 425, Delay: time.Second}, minute)
		early := w.Start("GET", "/a", "", "Early-Data: 1")
		w.Settle()
		late := w.Start("GET", "/a", "")
		early.Wait()
		late.Wait()
		early.Want(425, "")
		late.Want(200, "page")
		w.WantCount(2)
	})
}

// What a client may fetch while it waits is told it, by what is stale: the links that it can
// use, once, and nothing else. The final answer is as if nobody had.
func TestINT05_LinksOfWhatIsStale(t *testing.T) {
	const style = "</a.css>; rel=preload; as=style"
	links := []string{"Link: " + style + ", </p2>; rel=next", "Link: <https://cdn.example>; rel=preconnect"}
	hints := []string{style, "<https://cdn.example>; rel=preconnect"}
	stale := append([]string{"Cache-Control: max-age=60", `ETag: "1"`, "X: y"}, links...)
	on := func(c *engine.Config) { c.Terms.EarlyHints = true }
	hinted := func(t *testing.T, a *sim.Answer) {
		t.Helper()
		wantInterims(t, a, 103)
		if got := a.Interims[0].Header; len(got) != 1 || fmt.Sprint(got["Link"]) != fmt.Sprint(hints) {
			t.Errorf("103 with %v, want Link %q", got, hints)
		}
	}
	for name, confirmed := range map[string]sim.Reply{
		"validated": {Status: 304, Delay: time.Second},
		"replaced":  {Header: []string{"Cache-Control: max-age=60", "Link: </b.css>; rel=preload"}, Body: "other", Delay: time.Second},
		"gone":      {Status: 404, Body: "none", Delay: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			sim.RunWith(t, on, func(w *sim.World) {
				w.Origin(sim.Reply{Header: stale, Body: "page"}, confirmed)
				wantInterims(t, w.Get("/a").Want(200, "page"))
				wantInterims(t, w.Get("/a").WantHit())
				w.Advance(time.Hour)
				leader, other, old := w.Start("GET", "/a", ""), w.Start("GET", "/a", ""), sim.Request("GET", "/a", "")
				old.ProtoMinor = 0
				ancient := w.Send(old)
				w.Settle() // the origin takes a second
				for _, a := range []*sim.Answer{leader, other} {
					if a.Done() {
						t.Fatal("the answer is there already")
					}
					hinted(t, a)
				}
				for _, a := range []*sim.Answer{leader, other, ancient} {
					a.Wait()
					switch name {
					case "validated":
						a.Want(200, "page").WantField("Link", links[0][6:], links[1][6:]).WantField("X", "y")
					case "replaced":
						a.Want(200, "other").WantField("Link", "</b.css>; rel=preload").WantField("X")
					default:
						a.Want(404, "none").WantField("Link").WantField("X")
					}
				}
				hinted(t, leader)
				wantInterims(t, ancient)
			})
		})
	}
	// Without validators, and before the origin's own, which go on.
	sim.RunWith(t, on, func(w *sim.World) {
		w.Origin(sim.Reply{Header: append([]string{"Cache-Control: max-age=60"}, links...), Body: "page"},
			sim.Reply{Interim: []sim.Interim{{Status: 103, Header: []string{"Link: </c>"}}}, Body: "new"})
		w.Get("/a")
		w.Advance(time.Hour)
		a := w.Get("/a").Want(200, "new")
		wantInterims(t, a, 103, 103)
		if got := a.Interims[1].Header.Get("Link"); got != "</c>" {
			t.Errorf("the origin's has %q", got)
		}
	})
	// Once, also for who has waited for another's fetch, which failed.
	sim.RunWith(t, on, func(w *sim.World) {
		w.Origin(sim.Reply{Header: append([]string{"Cache-Control: must-revalidate"}, stale...), Body: "page"}, sim.Reply{Err: errors.New("gone"), Delay: time.Second})
		w.Get("/a")
		w.Advance(time.Hour)
		one, two := w.Start("GET", "/a", ""), w.Start("GET", "/a", "")
		one.Wait()
		two.Wait()
		w.WantCount(3)
		hinted(t, one)
		hinted(t, two)
	})
}

func TestINT05_NoLinksWhereTheyAreNotFor(t *testing.T) {
	const link = "Link: </a.css>; rel=preload"
	reload := rules.Terms{EarlyHints: true, ClientReload: true}
	for name, c := range map[string]struct {
		terms  rules.Terms
		header []string // of what is stored
		method string
		asked  []string
		after  time.Duration
	}{
		"off":               {rules.Terms{}, []string{"Cache-Control: max-age=60", link}, "GET", nil, time.Hour},
		"fresh, reloaded":   {reload, []string{"Cache-Control: max-age=60", link}, "GET", []string{"Cache-Control: no-cache"}, 0},
		"an error":          {reload, []string{"Cache-Control: max-age=60", link}, "GET", nil, time.Hour},
		"HEAD":              {reload, []string{"Cache-Control: max-age=60", link}, "HEAD", nil, time.Hour},
		"a range":           {reload, []string{"Cache-Control: max-age=60", link}, "GET", []string{"Range: bytes=0-0"}, time.Hour},
		"credentials":       {reload, []string{"Cache-Control: public, max-age=60", link}, "GET", []string{"Authorization: a"}, time.Hour},
		"no-cache":          {reload, []string{"Cache-Control: no-cache, max-age=60", link}, "GET", nil, time.Hour},
		"no-cache of Link":  {reload, []string{`Cache-Control: no-cache="link", max-age=60`, link}, "GET", nil, time.Hour},
		"private Link":      {reload, []string{`Cache-Control: private="link", max-age=60`, link}, "GET", nil, time.Hour},
		"served meanwhile":  {reload, []string{"Cache-Control: max-age=60, stale-while-revalidate=9999", link}, "GET", nil, time.Hour},
		"no such links":     {reload, []string{"Cache-Control: max-age=60", "Link: </p2>; rel=next"}, "GET", nil, time.Hour},
		"another variant's": {reload, []string{"Cache-Control: max-age=60", "Vary: X", link}, "GET", []string{"X: other"}, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			sim.RunWith(t, func(e *engine.Config) { e.Terms = c.terms }, func(w *sim.World) {
				status := 200
				if name == "an error" {
					status = 404
				}
				w.Origin(sim.Reply{Status: status, Header: append(c.header, `ETag: "1"`), Body: "page"})
				w.Get("/a").Want(status, "page")
				w.Settle()
				w.Advance(c.after)
				a := w.Do(c.method, "/a", "", c.asked...)
				wantInterims(t, a)
				w.Settle()
				w.WantCount(2) // or there was nothing to wait for
			})
		})
	}
}
