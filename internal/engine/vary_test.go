package engine_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/sim"
	"github.com/larderhq/larder/store"
)

// varying has the origin answer with the lines of the fields that vary names,
// to be kept for an hour.
func varying(w *sim.World, vary ...string) {
	w.Handle(func(r *http.Request) sim.Reply {
		reply := sim.Reply{Header: []string{"Cache-Control: max-age=3600", `ETag: "1"`}}
		for _, line := range vary {
			reply.Header = append(reply.Header, "Vary: "+line)
			for name := range strings.SplitSeq(line, ",") {
				reply.Body += fmt.Sprintf("%q;", r.Header[http.CanonicalHeaderKey(strings.TrimSpace(name))])
			}
		}
		return reply
	})
}

func TestVRY01_ReusedOnlyIfEveryNamedFieldMatches(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		varying(w, "Foo, Bar")
		a := []string{"Foo: 1", "Bar: 2"}
		w.Get("/a", a...).Want(200, `["1"];["2"];`).WantMiss("uri-miss")
		w.Get("/a", a...).Want(200, `["1"];["2"];`).WantHit().WantField("Vary", "Foo, Bar")
		w.Get("/a", "Foo: 1", "Bar: 3").Want(200, `["1"];["3"];`).WantMiss("vary-miss")
		w.Get("/a", "Foo: 2", "Bar: 2").Want(200, `["2"];["2"];`).WantMiss("vary-miss")
		w.Get("/a", "Foo: 1").Want(200, `["1"];[];`).WantMiss("vary-miss")
		w.Get("/a", "Foo: 1", "Bar: ").Want(200, `["1"];[""];`).WantMiss("vary-miss") // VRY-02
		w.Get("/a").Want(200, `[];[];`).WantMiss("vary-miss")
		w.WantCount(6)
		// VRY-07: all of them are there side by side. VRY-08: what is not named
		// does not matter.
		w.Get("/a", "Foo: 1", "Bar: 2", "Baz: 3").Want(200, `["1"];["2"];`).WantHit()
		w.Get("/a", "Foo: 1", "Bar: 3", "User-Agent: x").Want(200, `["1"];["3"];`).WantHit()
		w.Get("/a", "Foo: 2", "Bar: 2", "Cookie: a=b").Want(200, `["2"];["2"];`).WantHit()
		w.Get("/a", "Foo: 1", "Accept-Encoding: br").Want(200, `["1"];[];`).WantHit()
		w.Get("/a", "Foo: 1", "Bar: ", "Baz: ").Want(200, `["1"];[""];`).WantHit()
		w.Get("/a", "Accept-Language: de").Want(200, `[];[];`).WantHit()
		w.WantCount(6)
	})
}

func TestVRY03_StarNeverMatches(t *testing.T) {
	for _, vary := range [][]string{{"*"}, {"*, *"}, {", *"}, {"Foo, *"}, {"*, Foo"}, {"Foo", "*"}, {"", "*,"}, {"Foo", "Bar, *, Baz"}} {
		sim.Run(t, func(w *sim.World) {
			varying(w, vary...)
			for i := range 3 {
				if a := w.Get("/a", "Foo: 1"); a.Status != 200 || a.Hit() {
					t.Errorf("Vary: %q: %q", vary, a.CacheStatus())
				}
				w.WantCount(i + 1)
			}
		})
	}
}

// What varies on everything is nobody else's answer either, though they wait
// for it together.
func TestVRY03_StarIsNotSharedByThoseWhoWait(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		bodies := make(chan string, 20)
		for i := range cap(bodies) {
			bodies <- fmt.Sprint("for ", i)
		}
		w.Handle(func(*http.Request) sim.Reply {
			return sim.Reply{Header: []string{"Cache-Control: max-age=60", "Vary: *"}, Body: <-bodies, Delay: time.Second}
		})
		var answers []*sim.Answer
		for range 10 {
			answers = append(answers, w.Start("GET", "/a", ""))
		}
		seen := map[string]bool{}
		for _, a := range answers {
			if a.Wait(); a.Status != 200 || seen[a.Body()] {
				t.Errorf("%d, %q, given twice: %v", a.Status, a.Body(), seen[a.Body()])
			}
			seen[a.Body()] = true
		}
	})
}

func TestVRY04_NamesInAnyCaseOverSeveralLines(t *testing.T) {
	for _, vary := range [][]string{{"foo, bAR"}, {"FOO", "bar"}, {",,foo,", "", ", Bar ,"}} {
		sim.Run(t, func(w *sim.World) {
			w.Handle(func(r *http.Request) sim.Reply {
				reply := sim.Reply{Header: []string{"Cache-Control: max-age=60"}, Body: r.Header.Get("Foo") + r.Header.Get("Bar")}
				for _, line := range vary {
					reply.Header = append(reply.Header, "Vary: "+line)
				}
				return reply
			})
			w.Get("/a", "Foo: 1", "Bar: 1").Want(200, "11")
			w.Get("/a", "FOO: 1", "bar: 1").Want(200, "11").WantHit().WantField("Vary", vary...)
			w.Get("/a", "Foo: 2", "Bar: 1").Want(200, "21").WantMiss("vary-miss")
			w.Get("/a", "Foo: 1", "Bar: 2").Want(200, "12").WantMiss("vary-miss")
		})
	}
}

func TestVRY05_LinesAndBlanks(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		varying(w, "Foo")
		w.Get("/a", "Foo: 1", "Foo: 2").Want(200, `["1" "2"];`)
		w.Get("/a", "Foo: 1, 2").Want(200, `["1" "2"];`).WantHit()
		w.Get("/a", "Foo: 1,2").WantHit()
		w.Get("/a", "Foo: 1 ,\t2").WantHit()
		w.Get("/a", "Foo: 2, 1").Want(200, `["2, 1"];`).WantMiss("vary-miss")
		w.Get("/a", "Foo: 1 2").WantMiss("vary-miss")
		w.Get("/a", `Foo: "1, 2"`).Want(200, `["\"1, 2\""];`).WantMiss("vary-miss")
		w.Get("/a", `Foo: "1,2"`).WantMiss("vary-miss") // VRY-06
		w.Get("/a", `Foo: "1, 2"`).WantHit()
	})
}

func TestVRY07_VariantsAreReplacedOneByOne(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		age, n := 60, 0
		w.Handle(func(r *http.Request) sim.Reply {
			n++
			return sim.Reply{Header: []string{fmt.Sprint("Cache-Control: max-age=", age), "Vary: Foo"}, Body: fmt.Sprint(r.Header.Get("Foo"), n)}
		})
		w.Get("/a", "Foo: a").Want(200, "a1")
		age = 3600
		w.Get("/a", "Foo: b").Want(200, "b2")
		w.Advance(time.Minute)
		w.Get("/a", "Foo: a").Want(200, "a3").WantMiss("stale")
		w.Get("/a", "Foo: a").Want(200, "a3").WantHit()
		w.Get("/a", "Foo: b").Want(200, "b2").WantHit()
		if n := len(variants(t, w)); n != 2 {
			t.Errorf("%d entries, want 2", n)
		}
	})
}

// variants are the entries under the key of /a.
func variants(t *testing.T, w *sim.World) []store.Entry {
	t.Helper()
	entries, err := w.Store.Lookup(context.Background(), keyOf("/a"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func TestVRY09_LatestDateThenLastReceived(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		hour := "Cache-Control: max-age=3600"
		w.Origin(
			sim.Reply{Header: []string{hour, "Date: " + sim.Date(-20*time.Second), "Vary: Foo"}, Body: "by foo"},
			sim.Reply{Header: []string{hour, "Date: " + sim.Date(-30*time.Second), "Vary: Bar"}, Body: "by bar"},
			sim.Reply{Header: []string{hour, "Date: " + sim.Date(-20*time.Second), "Vary: Baz"}, Body: "by baz"},
		)
		w.Get("/a", "Foo: 1").Want(200, "by foo")
		w.Get("/a", "Foo: 2", "Bar: 1").Want(200, "by bar")
		w.Get("/a", "Foo: 1", "Bar: 1").Want(200, "by foo").WantHit() // later, though received before
		w.Get("/a", "Foo: 2", "Bar: 1").Want(200, "by bar").WantHit()
		w.Get("/a", "Foo: 2", "Bar: 2", "Baz: 1").Want(200, "by baz").WantMiss("vary-miss")
		w.Get("/a", "Foo: 1", "Bar: 1", "Baz: 1").Want(200, "by baz").WantHit() // a tie
	})
}

func TestVRY10_WhatVariesGoesFirst(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(
			sim.Reply{Header: []string{"Cache-Control: max-age=3600", "Vary: Foo"}, Body: "varies"},
			sim.Reply{Header: []string{"Cache-Control: max-age=3600"}, Body: "does not"},
		)
		w.Get("/a", "Foo: 1").Want(200, "varies")
		w.Advance(time.Second)
		w.Get("/a", "Foo: 2").Want(200, "does not").WantMiss("vary-miss")
		w.Get("/a", "Foo: 1").Want(200, "varies").WantHit()
		w.Get("/a", "Foo: 3").Want(200, "does not").WantHit()
		w.WantCount(2)
	})
}

func TestVRY11_PreferencesByMeaning(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		varying(w, "Accept-Language, Accept-Encoding")
		w.Get("/a", "Accept-Language: en, de;q=0.5", "Accept-Encoding: gzip, br")
		w.Get("/a", "Accept-Language: DE ; q=0.50,EN;q=1", "Accept-Encoding: br , X-Gzip;q=1.0").Want(200, `["en, de;q=0.5"];["gzip, br"];`).WantHit()
		w.Get("/a", "Accept-Language: en, de;q=0.6", "Accept-Encoding: gzip, br").WantMiss("vary-miss")
		w.Get("/a", "Accept-Language: en, de;q=0.5", "Accept-Encoding: gzip, br;q=0.9").WantMiss("vary-miss")
		// The origin got what the client said.
		if got := w.Last().Header["Accept-Encoding"]; len(got) != 1 || got[0] != "gzip, br;q=0.9" {
			t.Errorf("the origin got %q", got)
		}
	})
}

func TestVRY13_LanguageSelect(t *testing.T) {
	german := sim.Reply{Header: []string{"Cache-Control: max-age=60", "Vary: Accept-Language", "Content-Language: de"}, Body: "Seite"}
	english := sim.Reply{Header: []string{"Cache-Control: max-age=60", "Vary: Accept-Language", "Content-Language: en"}, Body: "page"}
	for _, on := range []bool{false, true} {
		sim.RunWith(t, func(c *engine.Config) { c.Terms.LanguageSelect = on }, func(w *sim.World) {
			w.Origin(german, english)
			w.Get("/a", "Accept-Language: en, de").Want(200, "Seite")
			a := w.Get("/a", "Accept-Language: fr;q=0.5, de;q=1.0")
			if on {
				a.Want(200, "Seite").WantHit()
			} else {
				a.Want(200, "page").WantMiss("vary-miss")
			}
		})
	}
}

func TestVRY14_MatchingUsesWhatTheOriginSaw(t *testing.T) {
	// A field that is taken away is not there, for nobody.
	sim.Run(t, func(w *sim.World) {
		varying(w, "X-Forwarded-Host, Hop")
		w.Get("/a", "X-Forwarded-Host: evil", "Connection: hop", "Hop: 1").Want(200, `[];[];`)
		w.Get("/a", "X-Forwarded-Host: other").Want(200, `[];[];`).WantHit()
		w.Get("/a").Want(200, `[];[];`).WantHit()
		w.Get("/a", "Hop: 1").Want(200, `[];["1"];`).WantMiss("vary-miss")
	})
	// One that is written anew counts as it was written.
	configure := func(c *engine.Config) { c.Forwarded = engine.ForwardX }
	sim.RunWith(t, configure, func(w *sim.World) {
		varying(w, "X-Forwarded-For")
		from := func(addr, claim string) *sim.Answer {
			r := sim.Request("GET", "/a", "", "X-Forwarded-For: "+claim)
			r.RemoteAddr = addr
			a := w.Send(r)
			a.Wait()
			return a
		}
		from("192.0.2.1:1", "evil").Want(200, `["192.0.2.1"];`).WantMiss("uri-miss")
		from("192.0.2.1:2", "198.51.100.1").Want(200, `["192.0.2.1"];`).WantHit()
		from("192.0.2.2:1", "192.0.2.1").Want(200, `["192.0.2.2"];`).WantMiss("vary-miss")
	})
	// A condition that stays here did not choose the response.
	configure = func(c *engine.Config) { c.Terms.FillConditionals = true }
	sim.RunWith(t, configure, func(w *sim.World) {
		varying(w, "If-None-Match")
		w.Get("/a", `If-None-Match: "2"`).Want(200, `[];`)
		w.Get("/a").Want(200, `[];`).WantHit()
	})
}

func TestVRY15_VariantsAreBounded(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		varying(w, "Foo")
		w.Get("/a", "Foo: old")
		w.Get("/a", "Foo: favourite")
		for i := range 10000 {
			if a := w.Get("/a", fmt.Sprint("Foo: ", i)); a.Status != 200 || a.Body() != fmt.Sprintf(`["%d"];`, i) {
				t.Fatalf("variant %d: %d %q", i, a.Status, a.Body())
			}
			if i%50 == 0 {
				w.Get("/a", "Foo: favourite").Want(200, `["favourite"];`).WantHit()
			}
		}
		if n := len(variants(t, w)); n != store.MaxVariants {
			t.Errorf("%d variants are kept, want %d", n, store.MaxVariants)
		}
		w.Get("/a", "Foo: favourite").WantHit()
		w.Get("/a", "Foo: 9999").WantHit()
		w.Get("/a", "Foo: old").WantMiss("vary-miss")
	})
}

func TestVRY16_A304ChangesVary(t *testing.T) {
	page := sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "1"`, "Vary: Foo"}, Body: "page"}
	again := func(lines ...string) sim.Reply {
		return sim.Reply{Status: 304, Header: append([]string{`ETag: "1"`, "Cache-Control: max-age=60"}, lines...)}
	}
	for name, c := range map[string]struct {
		reply      sim.Reply
		hit, missA []string // missA is empty if there is nothing to miss
		vary       []string
	}{
		"another":  {again("Vary: Bar"), []string{"Foo: 2", "Bar: 1"}, []string{"Foo: 1", "Bar: 2"}, []string{"Bar"}},
		"one more": {again("Vary: Foo", "Vary: Bar"), []string{"Foo: 1", "Bar: 1"}, []string{"Foo: 1"}, []string{"Foo", "Bar"}},
		"none":     {again("Vary: "), []string{"Foo: 2"}, nil, []string{""}},
		"silent":   {again(), []string{"Foo: 1", "Bar: 2"}, []string{"Foo: 2", "Bar: 1"}, []string{"Foo"}},
	} {
		t.Run(name, func(t *testing.T) {
			sim.Run(t, func(w *sim.World) {
				w.Origin(page, c.reply, sim.Reply{Body: "other", Header: []string{"Cache-Control: no-store"}})
				w.Get("/a", "Foo: 1", "Bar: 1").Want(200, "page")
				w.Advance(time.Minute)
				w.Get("/a", "Foo: 1", "Bar: 1").Want(200, "page").WantMiss("stale").WantField("Vary", c.vary...)
				w.Get("/a", "Foo: 1", "Bar: 1").Want(200, "page").WantHit().WantField("Vary", c.vary...)
				w.Get("/a", c.hit...).Want(200, "page").WantHit()
				if c.missA != nil {
					w.Get("/a", c.missA...).Want(200, "other").WantMiss("vary-miss")
				}
			})
		})
	}
}

// A 304 that brings a star leaves nothing to be used without validation, not
// even where staleness is permitted.
func TestVRY16_A304BringsAStar(t *testing.T) {
	for _, lines := range [][]string{
		{"Cache-Control: max-age=60"},
		{"Cache-Control: max-age=60, stale-while-revalidate=3600"},
		{"Cache-Control: max-age=60, stale-if-error=3600"},
	} {
		sim.Run(t, func(w *sim.World) {
			w.Origin(
				sim.Reply{Header: append(lines, `ETag: "1"`, "Vary: Foo"), Body: "page"},
				sim.Reply{Status: 304, Header: append(lines, `ETag: "1"`, "Vary: *"), Delay: time.Second},
				sim.Reply{Status: 500, Body: "sorry"},
			)
			w.Get("/a", "Foo: 1").Want(200, "page")
			w.Advance(2 * time.Minute)
			w.Get("/a", "Foo: 1").Want(200, "page")
			w.Advance(time.Second)
			w.Settle()
			w.WantCount(2)
			w.Get("/a", "Foo: 1").Want(500, "sorry")
		})
	}
}

func TestVRY17_VaryIsPassedOnAsItCame(t *testing.T) {
	for _, vary := range [][]string{nil, {"Foo"}, {"foo,  BAR", "Accept-Encoding"}, {"*"}, {""}} {
		sim.Run(t, func(w *sim.World) {
			reply := sim.Reply{Header: []string{"Cache-Control: max-age=60", "Content-Type: text/html", `ETag: "1"`}, Body: strings.Repeat("<p>", 1000)}
			for _, line := range vary {
				reply.Header = append(reply.Header, "Vary: "+line)
			}
			w.Origin(reply)
			lines := []string{"Accept-Encoding: gzip", "Cookie: a=b"}
			w.Get("/a", lines...).WantField("Vary", vary...)
			w.Get("/a", lines...).WantField("Vary", vary...)
			w.Get("/a", append(lines, `If-None-Match: "1"`)...).WantField("Vary", vary...)
			w.Get("/a", append(lines, "Range: bytes=0-1")...).WantField("Vary", vary...)
			w.Do("HEAD", "/a", "", lines...).WantField("Vary", vary...)
			w.Do("POST", "/a", "", lines...).WantField("Vary", vary...)
		})
	}
}
