package engine_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/rules"
	"github.com/larderhq/larder/internal/sim"
)

// A judgement is a condition of a client and the status that it leads to.
type judgement struct {
	header []string
	status int
}

// judged stores page and asks for it under each condition: none of them may
// reach the origin, and what is no 304 is the page.
func judged(t *testing.T, page sim.Reply, cases ...judgement) {
	t.Helper()
	sim.Run(t, func(w *sim.World) {
		w.Origin(page)
		w.Get("/a").Want(max(page.Status, 200), page.Body)
		for _, c := range cases {
			for _, method := range []string{"GET", "HEAD"} {
				body := page.Body
				if c.status == 304 || method == "HEAD" {
					body = ""
				}
				a := w.Do(method, "/a", "", c.header...).WantHit()
				if a.Status != c.status || a.Body() != body {
					t.Errorf("%s with %q: status %d, body %q; want %d, %q", method, c.header, a.Status, a.Body(), c.status, body)
				}
			}
		}
		w.WantCount(1)
	})
}

func TestCND01_MatchIsWeakAndAsksNobody(t *testing.T) {
	for _, stored := range []string{`"1"`, `W/"1"`} {
		judged(t, sim.Reply{Header: []string{"Cache-Control: max-age=60", "ETag: " + stored}, Body: "page"},
			judgement{[]string{`If-None-Match: "1"`}, 304},
			judgement{[]string{`If-None-Match: W/"1"`}, 304},
			judgement{[]string{`If-None-Match: "2"`}, 200},
			judgement{[]string{`If-None-Match: W/"2"`}, 200},
		)
	}
}

func TestCND02_AnyPlaceInTheListAndTheStar(t *testing.T) {
	judged(t, minute,
		judgement{[]string{`If-None-Match: "1", "2"`}, 304},
		judgement{[]string{`If-None-Match: "0", "1", "2"`}, 304},
		judgement{[]string{`If-None-Match: "0",W/"x,y" , "1"`}, 304},
		judgement{[]string{`If-None-Match: "0"`, `If-None-Match: "2", "1"`}, 304},
		judgement{[]string{`If-None-Match: "0", "2"`}, 200},
		judgement{[]string{`If-None-Match: *`}, 304},
		judgement{[]string{`If-None-Match: "*"`}, 200},
	)
	judged(t, sim.Reply{Header: []string{"Cache-Control: max-age=60"}, Body: "no validator"},
		judgement{[]string{`If-None-Match: *`}, 304},
		judgement{[]string{`If-None-Match: "1"`}, 200},
	)
}

const (
	modified   = "Last-Modified: Tue, 15 Nov 1994 12:45:26 GMT"
	sinceThen  = "If-Modified-Since: Tue, 15 Nov 1994 12:45:26 GMT"
	sinceLater = "If-Modified-Since: Tue, 15 Nov 1994 12:45:27 GMT"
	sinceEarly = "If-Modified-Since: Tue, 15 Nov 1994 12:45:25 GMT"
)

func TestCND03_TagsSilenceTheDate(t *testing.T) {
	judged(t, sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "1"`, modified}, Body: "page"},
		judgement{[]string{`If-None-Match: "0"`, sinceThen}, 200},
		judgement{[]string{`If-None-Match: "0"`, sinceLater}, 200},
		judgement{[]string{`If-None-Match: nonsense`, sinceLater}, 200},
		judgement{[]string{`If-None-Match: `, sinceLater}, 200},
		judgement{[]string{`If-None-Match: "1"`, sinceEarly}, 304},
		judgement{[]string{`If-None-Match: "1"`, "If-Modified-Since: nonsense"}, 304},
	)
	judged(t, sim.Reply{Header: []string{"Cache-Control: max-age=60", modified}, Body: "no tag"},
		judgement{[]string{`If-None-Match: "1"`, sinceLater}, 200},
	)
}

func TestCND04_ModifiedSinceInThreeForms(t *testing.T) {
	judged(t, sim.Reply{Header: []string{"Cache-Control: max-age=60", modified}, Body: "page"},
		judgement{[]string{sinceThen}, 304},
		judgement{[]string{sinceLater}, 304},
		judgement{[]string{sinceEarly}, 200},
		judgement{[]string{"If-Modified-Since: Tuesday, 15-Nov-94 12:45:26 GMT"}, 304},
		judgement{[]string{"If-Modified-Since: Tuesday, 15-Nov-94 12:45:25 GMT"}, 200},
		judgement{[]string{"If-Modified-Since: Tue Nov 15 12:45:26 1994"}, 304},
		judgement{[]string{"If-Modified-Since: Tue Nov 15 12:45:25 1994"}, 200},
		judgement{[]string{"If-Modified-Since: Fri, 15 Nov 2199 12:45:26 GMT"}, 304},
	)
}

func TestCND05_BadDateIsNoCondition(t *testing.T) {
	judged(t, sim.Reply{Header: []string{"Cache-Control: max-age=60", modified}, Body: "page"},
		judgement{[]string{"If-Modified-Since: 0"}, 200},
		judgement{[]string{"If-Modified-Since: "}, 200},
		judgement{[]string{"If-Modified-Since: Tue, 15 Nov 1994 12:45:26 UTC"}, 200},
		judgement{[]string{sinceThen, sinceThen}, 200},
		judgement{[]string{sinceThen + ", Tue, 15 Nov 1994 12:45:26 GMT"}, 200},
	)
}

func TestCND06_DateStandsInForLastModified(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		for _, header := range [][]string{
			{"Cache-Control: max-age=600", "Date: " + sim.Date(-time.Minute)},
			{"Cache-Control: max-age=600", "Date: " + sim.Date(-time.Minute), `ETag: "1"`},
			{"Cache-Control: max-age=600", "Date: " + sim.Date(-time.Minute), "Last-Modified: unknown"},
		} {
			w.Origin(sim.Reply{Header: header, Body: "page"})
			w.Get("/a?"+header[len(header)-1][:4]).Want(200, "page")
			for from, status := range map[time.Duration]int{-time.Minute: 304, -59 * time.Second: 304, 0: 304, -61 * time.Second: 200, -time.Hour: 200} {
				a := w.Get("/a?"+header[len(header)-1][:4], "If-Modified-Since: "+sim.Date(from)).WantHit()
				if a.Status != status {
					t.Errorf("%q, condition %v from now: status %d, want %d", header, from, a.Status, status)
				}
			}
		}
		w.WantCount(3)
	})
}

// What has neither Last-Modified nor Date is as old as its arrival.
func TestCND06_ArrivalStandsInForDate(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		before := sim.Date(-time.Second)
		now := sim.Date(0)
		w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=600"}, Body: "page"})
		w.Get("/a").Want(200, "page")
		w.Advance(time.Minute)
		w.Get("/a", "If-Modified-Since: "+now).Want(304, "").WantHit()
		w.Get("/a", "If-Modified-Since: "+before).Want(200, "page").WantHit()
	})
}

func TestCND07_WithoutAnEntryConditionsGoOnUnchanged(t *testing.T) {
	fields := []string{
		"If-None-Match:  W/\"a\" ,, \"b\xe4\", nonsense", `If-None-Match: "c"`, "If-Modified-Since: Tue,  15 Nov 1994",
		"If-Range: \"x\"", "Range: bytes=0-1,  7-", `If-Match: "m" , *`, "If-Unmodified-Since: never",
	}
	for _, method := range []string{"GET", "HEAD"} {
		for _, n := range []int{2, 3, 5, 7} {
			sim.Run(t, func(w *sim.World) {
				w.Origin(sim.Reply{Status: 304, Header: []string{`ETag: "b"`}}, sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "1"`}, Body: "page"})
				a := w.Do(method, "/a", "", fields[:n]...)
				a.Want(304, "").WantField("ETag", `"b"`)
				want := http.Header{}
				for _, f := range fields[:n] {
					name, value, _ := strings.Cut(f, ":")
					want.Add(name, strings.TrimSpace(value))
				}
				for name, lines := range want {
					if got := w.Last().Header[name]; !slices.Equal(got, lines) {
						t.Errorf("%s: the origin saw %q, the client sent %q", name, got, lines)
					}
				}
				// The 304 has made no entry.
				w.Get("/a").Want(200, "page").WantMiss("uri-miss")
				w.WantCount(2)
			})
		}
	}
}

// What another variant holds is no reason to judge the condition here.
func TestCND07_AnotherVariantIsNoEntry(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Handle(func(r *http.Request) sim.Reply {
			lang := r.Header.Get("Accept-Language")
			return sim.Reply{Header: []string{"Cache-Control: max-age=60", "Vary: Accept-Language", `ETag: "` + lang + `"`}, Body: lang}
		})
		w.Get("/a", "Accept-Language: de").Want(200, "de")
		w.Get("/a", "Accept-Language: en", `If-None-Match: "de"`).Want(200, "en")
		w.WantCount(2)
		if got := w.Last().Header["If-None-Match"]; !slices.Equal(got, []string{`"de"`}) {
			t.Errorf("the origin saw If-None-Match %q", got)
		}
		w.Get("/a", "Accept-Language: en", `If-None-Match: "en"`).Want(304, "").WantHit()
	})
}

func TestCND08_GuardsAreForTheOrigin(t *testing.T) {
	for _, guard := range []string{`If-Match: "1"`, `If-Match: *`, "If-Unmodified-Since: Tue, 15 Nov 1994 12:45:26 GMT", "If-Unmodified-Since: nonsense"} {
		for _, method := range []string{"GET", "HEAD"} {
			sim.Run(t, func(w *sim.World) {
				w.Origin(minute, sim.Reply{Status: 412, Header: []string{"X-From: origin", "Cache-Control: max-age=60"}})
				w.Get("/a").Want(200, "page")
				w.Do(method, "/a", "", guard).Want(412, "").WantField("X-From", "origin").WantMiss("request")
				w.WantCount(2)
				name, value, _ := strings.Cut(guard, ": ")
				if got := w.Last().Header[name]; !slices.Equal(got, []string{value}) {
					t.Errorf("%s at the origin: %q", name, got)
				}
				w.Get("/a").Want(200, "page").WantHit()
			})
		}
	}
}

func TestCND09_OnlySuccessIsJudged(t *testing.T) {
	for _, status := range []int{203, 300, 301, 308, 404, 410, 451, 501} {
		judged(t, sim.Reply{Status: status, Header: []string{"Cache-Control: max-age=60", `ETag: "1"`, modified, "Location: /b"}, Body: "whole"},
			judgement{[]string{`If-None-Match: "1"`}, status},
			judgement{[]string{`If-None-Match: *`}, status},
			judgement{[]string{sinceLater}, status},
		)
	}
}

func TestCND09_APartIsJudgedForWhatItHolds(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(sim.Reply{Status: 206, Header: []string{"Cache-Control: max-age=60", `ETag: "1"`, "Content-Range: bytes 0-3/10"}, Body: "0123"})
		w.Get("/a", "Range: bytes=0-3").Want(206, "0123")
		w.Get("/a", "Range: bytes=1-2", `If-None-Match: "1"`).Want(304, "").WantHit().WantField("Content-Range").WantField("ETag", `"1"`)
		w.Get("/a", "Range: bytes=1-2", `If-None-Match: "2"`).Want(206, "12").WantHit()
		w.Get("/a", `If-None-Match: "1"`).Want(304, "").WantHit()
		w.WantCount(1)
	})
}

func TestCND10_304CarriesWhatThe200Would(t *testing.T) {
	fields := []string{"Cache-Control: max-age=60", "Content-Location: /a.en", "Date: Sat, 01 Jan 2000 00:00:00 GMT", `Etag: "1"`, "Expires: Sat, 01 Jan 2000 00:01:00 GMT", "Vary: Accept-Language"}
	sim.Run(t, func(w *sim.World) {
		w.Origin(sim.Reply{Header: fields, Body: "page", Delay: time.Second})
		first := w.Start("GET", "/a", "")
		w.Settle()
		waited := w.Start("GET", "/a", "", `If-None-Match: "1"`) // judged while the fetch is under way
		first.Wait()
		waited.Wait()
		for _, a := range []*sim.Answer{waited, w.Get("/a", `If-None-Match: "1"`).WantHit()} {
			a.Want(304, "").WantField("Content-Length")
			for _, f := range fields {
				name, value, _ := strings.Cut(f, ": ")
				a.WantField(name, value)
			}
		}
		w.WantCount(1)
	})
}

func TestCND10_304AfterAValidationCarriesTheNewFields(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(minute, sim.Reply{Status: 304, Header: []string{"Cache-Control: max-age=90", "Content-Location: /new", `ETag: "1"`}})
		w.Get("/a")
		w.Advance(time.Hour)
		w.Get("/a", `If-None-Match: "1"`).Want(304, "").WantField("Cache-Control", "max-age=90").WantField("Content-Location", "/new").
			WantField("ETag", `"1"`).WantField("Date", sim.Date(0)).WantField("Content-Length")
	})
}

func TestCND11_OtherMethodsAreNeverJudgedHere(t *testing.T) {
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "QUERY", "M-SEARCH"} {
		for _, condition := range []string{`If-None-Match: "1"`, "If-None-Match: *", sinceLater, `If-Match: "0"`, "If-Unmodified-Since: Tue, 15 Nov 1994 12:45:25 GMT"} {
			sim.Run(t, func(w *sim.World) {
				w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "1"`, modified}, Body: "page"})
				w.Get("/a")
				w.Do(method, "/a", "content", condition).Want(200, "page")
				w.WantCount(2)
				name, value, _ := strings.Cut(condition, ": ")
				if got := w.Last().Header[name]; !slices.Equal(got, []string{value}) {
					t.Errorf("%s: %s at the origin: %q", method, name, got)
				}
			})
		}
	}
}

// The response to a POST that is kept for later GETs is still the answer to the
// POST.
func TestCND11_KeptPOSTIsNotJudgedEither(t *testing.T) {
	for _, condition := range []string{`If-None-Match: "1"`, sinceLater} {
		sim.Run(t, func(w *sim.World) {
			w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "1"`, modified, "Content-Location: /a"}, Body: "page"})
			w.Do("POST", "/a", "content", condition, "Range: bytes=0-1").Want(200, "page")
			w.Get("/a", condition).Want(304, "").WantHit()
			w.WantCount(1)
		})
	}
}

func TestCND12_MalformedTagsMatchNothing(t *testing.T) {
	for _, tag := range []string{`abc`, `w/"x"`, `W\"x"`, `"x`, `x"`, `'x'`, `W/x`, `"a"b"`, `"a b"`, `W/ "x"`} {
		judged(t, sim.Reply{Header: []string{"Cache-Control: max-age=60", "ETag: " + tag}, Body: "page"},
			judgement{[]string{"If-None-Match: " + tag}, 200},
			judgement{[]string{`If-None-Match: "x"`}, 200},
		)
		judged(t, sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "x"`}, Body: "page"},
			judgement{[]string{"If-None-Match: " + tag}, 200},
		)
	}
}

func TestCND13_OctetsOfATagStayAsTheyAre(t *testing.T) {
	tag := "\"\x80\xff\xc3\xa4\\\""
	judged(t, sim.Reply{Header: []string{"Cache-Control: max-age=60", "ETag: " + tag}, Body: "page"},
		judgement{[]string{"If-None-Match: " + tag}, 304},
		judgement{[]string{"If-None-Match: \"\x80\xff\xc3\xa5\\\""}, 200},
		judgement{[]string{"If-None-Match: \"\ufffd\ufffdä\\\""}, 200},
	)
	sim.Run(t, func(w *sim.World) {
		w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=1", "ETag: " + tag}, Body: "page"}, sim.Reply{Status: 304})
		w.Get("/a").WantField("ETag", tag)
		w.Get("/a").WantHit().WantField("ETag", tag)
		w.Advance(time.Minute)
		w.Get("/a").Want(200, "page").WantField("ETag", tag)
		if got := w.Last().Header["If-None-Match"]; !slices.Equal(got, []string{tag}) {
			t.Errorf("the origin saw %q", got)
		}
		w.Get("/b", "If-None-Match: "+tag)
		if got := w.Last().Header["If-None-Match"]; !slices.Equal(got, []string{tag}) {
			t.Errorf("the origin saw %q", got)
		}
	})
}

func TestCND14_StaleIsValidatedBeforeItIsJudged(t *testing.T) {
	for _, c := range []struct {
		name      string
		validated sim.Reply
		condition string
		status    int
		body      string
	}{
		{"holds, matches", sim.Reply{Status: 304}, `If-None-Match: "1"`, 304, ""},
		{"holds, does not match", sim.Reply{Status: 304}, `If-None-Match: "0"`, 200, "page"},
		{"changed, matches the old", sim.Reply{Header: []string{`ETag: "2"`}, Body: "new"}, `If-None-Match: "1"`, 200, "new"},
		{"changed, matches the new", sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "2"`}, Body: "new"}, `If-None-Match: "2"`, 304, ""},
		{"touched, date is too old", sim.Reply{Status: 304, Header: []string{"Last-Modified: Wed, 16 Nov 1994 12:45:26 GMT", `ETag: "1"`}}, sinceLater, 200, "page"},
		{"gone", sim.Reply{Status: 410, Body: "gone"}, `If-None-Match: "1"`, 410, "gone"},
	} {
		t.Run(c.name, func(t *testing.T) {
			sim.Run(t, func(w *sim.World) {
				w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "1"`, modified}, Body: "page"}, c.validated)
				w.Get("/a")
				w.Advance(time.Hour)
				w.Get("/a", c.condition).Want(c.status, c.body).WantMiss("stale")
				w.WantCount(2)
				// The client's own condition did not go along.
				if got := w.Last().Header["If-None-Match"]; !slices.Equal(got, []string{`"1"`}) {
					t.Errorf("the origin saw If-None-Match %q", got)
				}
				if got := w.Last().Header["If-Modified-Since"]; !slices.Equal(got, []string{strings.TrimPrefix(modified, "Last-Modified: ")}) {
					t.Errorf("the origin saw If-Modified-Since %q", got)
				}
			})
		})
	}
}

// With conditional-miss: fill the response to a condition is fetched whole, and
// the condition is judged then.
func TestCND07_FillTurnsAConditionIntoAFetch(t *testing.T) {
	fill := func(c *engine.Config) { c.Terms = rules.Terms{FillConditionals: true} }
	sim.RunWith(t, fill, func(w *sim.World) {
		w.Origin(minute)
		w.Get("/a", `If-None-Match: "1"`).Want(304, "").WantField("ETag", `"1"`)
		if got := w.Last().Header["If-None-Match"]; got != nil {
			t.Errorf("the origin saw %q", got)
		}
		w.Settle() // a 304 does not wait for the content
		w.Get("/a").Want(200, "page").WantHit()
	})
	// A range goes along, and the 304 says nothing of it.
	sim.RunWith(t, fill, func(w *sim.World) {
		w.Origin(sim.Reply{Status: 206, Header: []string{"Cache-Control: max-age=60", `ETag: "1"`, "Content-Range: bytes 0-3/10"}, Body: "0123"})
		w.Get("/a", `If-None-Match: "1"`, "Range: bytes=0-3").Want(304, "").WantField("Content-Range").WantField("ETag", `"1"`)
	})
}
