package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/rules"
	"github.com/larderhq/larder/internal/sim"
)

// errRefused is an origin that nobody reaches.
var errRefused = fmt.Errorf("dial: %w", syscall.ECONNREFUSED)

var refusing = sim.Reply{Err: errRefused}

// keptPage is a page with a validator and these directives.
func keptPage(directives string) sim.Reply {
	return sim.Reply{Header: []string{"Cache-Control: " + directives, `ETag: "1"`, "X-Inner: secret"}, Body: "page"}
}

func TestSTL01_StaleIsServedOnlyWithLeave(t *testing.T) {
	confirmed := sim.Reply{Status: 304, Delay: time.Second}
	for _, c := range []struct {
		name, directives string
		request          []string
		terms            rules.Terms
		origin           sim.Reply
		age              time.Duration
		atOnce           bool   // nobody waits for the origin
		why              string // fwd; empty is a hit
	}{
		{name: "nothing", directives: "max-age=60", origin: confirmed, age: 60 * time.Second, why: "stale"},
		{name: "fresh", directives: "max-age=60", origin: confirmed, age: 59 * time.Second, atOnce: true},
		{name: "stale-if-error speaks of errors only", directives: "max-age=60, stale-if-error=600", origin: confirmed, age: 60 * time.Second, why: "stale"},
		{name: "stale-while-revalidate", directives: "max-age=60, stale-while-revalidate=30", origin: confirmed, age: 60 * time.Second, atOnce: true},
		{name: "soft-ttl", directives: "max-age=60", terms: rules.Terms{SoftTTL: 30 * time.Second}, origin: confirmed, age: 60 * time.Second, atOnce: true},
		{name: "max-stale", directives: "max-age=60", request: []string{"Cache-Control: max-stale"}, origin: confirmed, age: 60 * time.Second, atOnce: true},
		{name: "unreachable", directives: "max-age=60", origin: sim.Reply{Err: errRefused, Delay: time.Second}, age: 60 * time.Second, why: "stale"},
	} {
		t.Run(c.name, func(t *testing.T) {
			sim.RunWith(t, func(conf *engine.Config) { conf.Terms = c.terms }, func(w *sim.World) {
				w.Origin(keptPage(c.directives), c.origin)
				w.Get("/a").Want(200, "page")
				w.Advance(c.age)
				start := time.Now()
				a := w.Get("/a", c.request...).Want(200, "page")
				if waited := time.Since(start) > 0; waited == c.atOnce {
					t.Errorf("waited for the origin: %v", waited)
				}
				if c.why == "" {
					a.WantHit()
				} else {
					a.WantMiss(c.why)
				}
			})
		})
	}
}

// It covers STL-04 and STL-14 as well: whatever else permits staleness.
func TestSTL02_ForbiddenStaleIsAnError(t *testing.T) {
	const leave = ", stale-while-revalidate=600, stale-if-error=600"
	for _, directives := range []string{
		"max-age=60, must-revalidate", "max-age=60, no-cache", "max-age=60, proxy-revalidate", "s-maxage=60", "max-age=600, s-maxage=60",
		"max-age=60, must-revalidate=1", "no-cache", "max-age=60, MUST-REVALIDATE",
	} {
		for _, failing := range []sim.Reply{
			refusing,
			{Status: 503, Header: []string{"Retry-After: 1"}, Body: "busy"},
		} {
			t.Run(fmt.Sprint(directives, failing.Status), func(t *testing.T) {
				sim.RunWith(t, func(c *engine.Config) {
					c.Terms = rules.Terms{SoftTTL: time.Hour, RevalidateTimeout: time.Second}
				}, func(w *sim.World) {
					failing.Delay = 2 * time.Second // no timeout of ours permits it either
					w.Origin(keptPage(directives+leave), failing)
					w.Get("/a").Want(200, "page")
					w.Advance(61 * time.Second)
					a := w.Get("/a", "Cache-Control: max-stale, stale-if-error=600")
					want := http.StatusGatewayTimeout
					if failing.Status != 0 {
						want = failing.Status
					}
					if a.Status != want || strings.Contains(a.Body(), "page") || a.Hit() {
						t.Fatalf("status %d, body %q, %q", a.Status, a.Body(), a.CacheStatus())
					}
					a.WantField("ETag").WantField("X-Inner").WantField("Age")
					w.WantCount(2)
				})
			})
		}
	}
}

func TestSTL02_InvalidatedIsNeverServed(t *testing.T) {
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "UNKNOWN"} {
		t.Run(method, func(t *testing.T) {
			sim.RunWith(t, func(c *engine.Config) { c.Terms.SoftTTL = time.Hour }, func(w *sim.World) {
				w.Origin(keptPage("max-age=60, stale-while-revalidate=600, stale-if-error=600"), sim.Reply{Status: 204}, refusing)
				w.Get("/a").Want(200, "page")
				w.Do(method, "/a", "x").Want(204, "")
				if a := w.Get("/a", "Cache-Control: max-stale"); a.Status < 500 || strings.Contains(a.Body(), "page") {
					t.Fatalf("status %d, body %q", a.Status, a.Body())
				}
				w.WantCount(3)
			})
		})
	}
}

func TestSTL03_PrivateCachesIgnoreSharedDirectives(t *testing.T) {
	for _, directives := range []string{"max-age=60, proxy-revalidate", "max-age=60, s-maxage=60", "private, max-age=60"} {
		sim.RunWith(t, func(c *engine.Config) { c.Terms.Private = true }, func(w *sim.World) {
			w.Origin(keptPage(directives), refusing)
			w.Get("/a").Want(200, "page")
			w.Advance(2 * time.Minute)
			w.Get("/a").Want(200, "page").WantField("Age", "120")
			w.WantCount(2)
		})
	}
}

func TestSTL05_StaleUpToTheMaximum(t *testing.T) {
	for _, c := range []struct {
		name  string
		terms rules.Terms
		err   error
		age   time.Duration
		stale bool
	}{
		{"refused", rules.Terms{}, errRefused, time.Hour, true},
		{"reset", rules.Terms{}, syscall.ECONNRESET, time.Hour, true},
		{"timed out", rules.Terms{}, context.DeadlineExceeded, time.Hour, true},
		{"closed early", rules.Terms{}, io.ErrUnexpectedEOF, time.Hour, true},
		{"end of the day", rules.Terms{}, errRefused, 24*time.Hour + 59*time.Second, true},
		{"after a day", rules.Terms{}, errRefused, 24*time.Hour + 60*time.Second, false},
		{"within a maximum", rules.Terms{StaleOnErrorMax: time.Minute}, errRefused, 119 * time.Second, true},
		{"past a maximum", rules.Terms{StaleOnErrorMax: time.Minute}, errRefused, 120 * time.Second, false},
		{"off", rules.Terms{NeverStaleOnError: true}, errRefused, 61 * time.Second, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			sim.RunWith(t, func(conf *engine.Config) { conf.Terms = c.terms }, func(w *sim.World) {
				w.Origin(minute, sim.Reply{Err: c.err})
				w.Get("/a").Want(200, "page")
				w.Advance(c.age)
				a := w.Get("/a")
				if c.stale {
					a.Want(200, "page").WantField("Age", fmt.Sprint(int(c.age/time.Second)))
				} else if a.Status != http.StatusGatewayTimeout || strings.Contains(a.Body(), "page") {
					t.Fatalf("status %d, body %q", a.Status, a.Body())
				}
				w.WantCount(2)
			})
		})
	}
}

func TestSTL06_ErrorRepliesToAValidation(t *testing.T) {
	for status, stale := range map[int]bool{500: true, 502: true, 503: true, 504: true, 501: false, 505: false, 599: false} {
		for _, off := range []bool{false, true} {
			t.Run(fmt.Sprint(status, off), func(t *testing.T) {
				sim.RunWith(t, func(c *engine.Config) { c.Terms.NeverStaleOnError = off }, func(w *sim.World) {
					w.Origin(minute, sim.Reply{Status: status, Body: "sorry"}, sim.Reply{Status: 304})
					w.Get("/a").Want(200, "page")
					w.Advance(time.Minute)
					if stale && !off {
						w.Get("/a").Want(200, "page").WantField("Age", "60")
					} else {
						w.Get("/a").Want(status, "sorry").WantField("Age")
					}
					w.WantCount(2)
					w.Get("/a").Want(200, "page") // a server error does not end the entry
					w.WantCount(3)
				})
			})
		}
	}
}

func TestSTL07_ClientErrorsEndTheEntry(t *testing.T) {
	validators := map[string]string{"with a tag": `ETag: "1"`, "without": "X: y"}
	for _, status := range []int{401, 403, 404, 410, 451} {
		for name, validator := range validators {
			t.Run(fmt.Sprint(status, name), func(t *testing.T) {
				sim.Run(t, func(w *sim.World) {
					w.Origin(
						sim.Reply{Header: []string{"Cache-Control: max-age=60, stale-if-error=6000", validator}, Body: "page"},
						sim.Reply{Status: status, Body: "no"}, refusing)
					w.Get("/a").Want(200, "page")
					w.Advance(time.Minute)
					w.Get("/a").Want(status, "no").WantMiss("stale")
					if a := w.Get("/a"); a.Status < 500 || strings.Contains(a.Body(), "page") {
						t.Fatalf("afterwards: status %d, body %q", a.Status, a.Body())
					}
					w.WantCount(3)
				})
			})
		}
	}
}

// It covers STL-09 as well.
func TestSTL08_StaleWhileRevalidateWithinItsWindow(t *testing.T) {
	for _, c := range []struct {
		name, age string // that it came with
		after     time.Duration
		atOnce    bool
		now       string // Age
	}{
		{"freshness just ended", "0", 60 * time.Second, true, "60"},
		{"window ends", "0", 89 * time.Second, true, "89"},
		{"window over", "0", 90 * time.Second, false, ""},
		{"stale on arrival", "70", 19 * time.Second, true, "89"},
		{"stale on arrival, over", "70", 20 * time.Second, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			sim.Run(t, func(w *sim.World) {
				first := keptPage("max-age=60, stale-while-revalidate=30")
				first.Header = append(first.Header, "Age: "+c.age)
				w.Origin(first, sim.Reply{Status: 304, Delay: 2 * time.Second})
				w.Get("/a").Want(200, "page")
				w.Advance(c.after)
				start := time.Now()
				a := w.Get("/a").Want(200, "page")
				if atOnce := time.Since(start) == 0; atOnce != c.atOnce {
					t.Fatalf("served at once: %v", atOnce)
				}
				if c.atOnce {
					a.WantHit().WantField("Age", c.now)
				} else {
					a.WantMiss("stale").WantField("Age")
				}
				w.Advance(3 * time.Second)
				w.WantCount(2)
				w.Get("/a").Want(200, "page").WantHit() // fresh once more
				w.WantCount(2)
			})
		})
	}
}

func TestSTL10_OneBackgroundFetchAtATimeAndOnlyOnRequest(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		slow := sim.Reply{Status: 304, Delay: 3 * time.Second}
		w.Origin(keptPage("max-age=60, stale-while-revalidate=600"), slow)
		w.Get("/a").Want(200, "page")
		w.Advance(5 * time.Minute)
		w.WantCount(1) // nobody asks, nobody is asked
		var answers []*sim.Answer
		for range 100 {
			answers = append(answers, w.Start("GET", "/a", ""))
		}
		for _, a := range answers {
			a.Wait()
			a.Want(200, "page").WantHit()
			a.Leave()
		}
		w.Advance(time.Second)
		w.Get("/a").WantHit()
		w.WantCount(2)
		w.Advance(3 * time.Second)
		w.Get("/a").WantHit().WantField("Age", "4") // it outlived its clients, and took 3 s
		w.WantCount(2)
	})
}

// An entry is one whatever other entries of its key vary on.
func TestSTL10_OnePerEntryAmongVariants(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Handle(func(r *http.Request) sim.Reply {
			if r.Header.Get("If-None-Match") != "" {
				return sim.Reply{Status: 304, Delay: time.Second}
			}
			vary := "A"
			if r.Header.Get("A") == "2" {
				vary = "A, B"
			}
			return sim.Reply{
				Header: []string{"Cache-Control: max-age=60, stale-while-revalidate=600", "Vary: " + vary, `ETag: "` + r.Header.Get("A") + `"`}, Body: r.Header.Get("A"),
			}
		})
		w.Get("/a", "A: 1").Want(200, "1")
		w.Get("/a", "A: 2", "B: 0").Want(200, "2")
		w.Advance(2 * time.Minute)
		for i := range 10 {
			w.Get("/a", "A: 1", fmt.Sprint("B: ", i)).Want(200, "1").WantHit()
		}
		w.Settle()
		w.WantCount(3)
		w.Get("/a", "A: 2", "B: 0").Want(200, "2").WantHit()
		w.Settle()
		w.WantCount(4)
		if tag := w.Last().Header.Get("If-None-Match"); tag != `"2"` {
			t.Errorf("the second variant was asked for with %s", tag)
		}
	})
}

func TestSTL11_TheBackgroundRequestIsCompleteInItself(t *testing.T) {
	for name, validators := range map[string][]string{
		"tag":           {`ETag: "1"`},
		"date":          {"Last-Modified: Fri, 31 Dec 1999 00:00:00 GMT"},
		"both":          {`ETag: "1"`, "Last-Modified: Fri, 31 Dec 1999 00:00:00 GMT"},
		"no validators": nil,
	} {
		for _, method := range []string{"GET", "HEAD"} {
			t.Run(name+" "+method, func(t *testing.T) {
				sim.Run(t, func(w *sim.World) {
					old := sim.Reply{Header: append([]string{"Cache-Control: max-age=60, stale-while-revalidate=60", "Vary: Accept-Language, X-Kind"}, validators...), Body: "0123456789"}
					young := old
					young.Body = "abcdefghij"
					w.Origin(old, young)
					same := []string{"Accept-Language: en", "X-Kind: a", "X-Kind: b"}
					w.Get("/a", same...).Want(200, "0123456789")
					w.Advance(time.Minute)
					own := []string{
						"Range: bytes=2-4", `If-None-Match: "zzz"`, "If-Modified-Since: Sat, 01 Jan 1994 00:00:00 GMT", `If-Range: "1"`,
						"Cache-Control: only-if-cachedx", "Cookie: c=1",
					}
					w.Do(method, "/a", "", append(own, same...)...).WantHit()
					w.Settle()
					w.WantCount(2)
					h := w.Last().Header
					if w.Last().Method != "GET" {
						t.Errorf("the method is %s", w.Last().Method)
					}
					for _, gone := range []string{"Range", "If-Range", "If-Match", "If-Unmodified-Since"} {
						if h[gone] != nil {
							t.Errorf("%s: %q went along", gone, h[gone])
						}
					}
					for field, stored := range map[string]string{"If-None-Match": "ETag: ", "If-Modified-Since": "Last-Modified: "} {
						want := ""
						for _, line := range validators {
							if v, ok := strings.CutPrefix(line, stored); ok {
								want = v
							}
						}
						if got := strings.Join(h[field], "|"); got != want {
							t.Errorf("%s is %q, want %q", field, got, want)
						}
					}
					if h.Get("Accept-Language") != "en" || len(h["X-Kind"]) != 2 {
						t.Errorf("fields of Vary are missing: %v", h)
					}
					w.Get("/a", same...).Want(200, "abcdefghij").WantHit() // it was stored, whole
				})
			})
		}
	}
}

func TestSTL12_WhatTheBackgroundBringsTakesEffect(t *testing.T) {
	for _, validator := range []string{`ETag: "1"`, "X-None: 1"} {
		old := sim.Reply{Header: []string{"Cache-Control: max-age=60, stale-while-revalidate=600", validator}, Body: "page"}
		for _, c := range []struct {
			name  string
			reply sim.Reply
			next  sim.Reply
			want  int
			body  string
		}{
			{"no-cache waits", sim.Reply{Header: []string{"Cache-Control: no-cache", `ETag: "2"`}, Body: "new"}, sim.Reply{Status: 304, Delay: time.Second}, 200, "new"},
			{"no-store ends", sim.Reply{Header: []string{"Cache-Control: no-store"}, Body: "new"}, sim.Reply{Body: "later", Delay: time.Second}, 200, "later"},
			{"404 ends", sim.Reply{Status: 404, Body: "gone"}, sim.Reply{Status: 404, Body: "gone", Delay: time.Second}, 404, "gone"},
			{"404 replaces", sim.Reply{Status: 404, Header: []string{"Cache-Control: max-age=60"}, Body: "gone"}, refusing, 404, "gone"},
			{"200 replaces", sim.Reply{Header: []string{"Cache-Control: max-age=60"}, Body: "new"}, refusing, 200, "new"},
		} {
			t.Run(c.name+" "+validator, func(t *testing.T) {
				sim.Run(t, func(w *sim.World) {
					w.Origin(old, c.reply, c.next)
					w.Get("/a").Want(200, "page")
					w.Advance(time.Minute)
					w.Get("/a").Want(200, "page").WantHit()
					w.Settle()
					w.WantCount(2)
					start := time.Now()
					w.Get("/a").Want(c.want, c.body)
					if waited := time.Since(start); waited != c.next.Delay {
						t.Errorf("waited %v for the origin, want %v", waited, c.next.Delay)
					}
				})
			})
		}
	}
}

func TestSTL13_FailedBackgroundFetchesBackOff(t *testing.T) {
	for name, failing := range map[string]sim.Reply{
		"refused":                refusing,
		"500":                    {Status: 500, Body: "oops"},
		"503 that may be stored": {Status: 503, Header: []string{"Cache-Control: max-age=60"}, Body: "busy"},
	} {
		for _, backoff := range []time.Duration{0, 20 * time.Second} {
			t.Run(fmt.Sprint(name, backoff), func(t *testing.T) {
				sim.RunWith(t, func(c *engine.Config) { c.Terms.RevalidateBackoff = backoff }, func(w *sim.World) {
					w.Origin(keptPage("max-age=60, stale-while-revalidate=600"), failing)
					w.Get("/a").Want(200, "page")
					w.Advance(time.Minute + 900*time.Millisecond) // seconds begin elsewhere than the clock's
					start, every := time.Now(), backoff
					if every == 0 {
						every = 5 * time.Second
					}
					last := w.Count()
					asked := start.Add(-every)
					for time.Since(start) < time.Minute {
						w.Get("/a").Want(200, "page").WantHit()
						w.Settle()
						if n := w.Count(); n > last {
							if since := time.Since(asked); since < every {
								t.Fatalf("asked again after %v", since)
							}
							last, asked = n, time.Now()
						}
						w.Advance(100 * time.Millisecond)
					}
					if least := int(time.Minute/(every+time.Second)) + 1; last < least {
						t.Errorf("%d requests, want %d or more: it gave up", last, least)
					}
				})
			})
		}
	}
}

func TestSTL15_StaleIfError(t *testing.T) {
	busy := sim.Reply{Status: 503, Body: "busy"}
	for _, c := range []struct {
		name, directives string
		reply            sim.Reply
		age              time.Duration
		want             int
	}{
		{"500", "max-age=60, stale-if-error=30", sim.Reply{Status: 500, Body: "x"}, 60 * time.Second, 200},
		{"502", "max-age=60, stale-if-error=30", sim.Reply{Status: 502, Body: "x"}, 60 * time.Second, 200},
		{"503 to the end", "max-age=60, stale-if-error=30", busy, 89 * time.Second, 200},
		{"503 after the end", "max-age=60, stale-if-error=30", busy, 90 * time.Second, 503},
		{"504", "max-age=60, stale-if-error=30", sim.Reply{Status: 504, Body: "x"}, 60 * time.Second, 200},
		{"501 is an answer", "max-age=60, stale-if-error=30", sim.Reply{Status: 501, Body: "x"}, 60 * time.Second, 501},
		{"refused", "max-age=60, stale-if-error=30", refusing, 89 * time.Second, 200},
		{"refused after the end", "max-age=60, stale-if-error=30", refusing, 90 * time.Second, 504},
		{"zero", "max-age=60, stale-if-error=0", refusing, 60 * time.Second, 504},
		{"garbled", "max-age=60, stale-if-error=x", refusing, 60 * time.Second, 504},
		{"longer than the switch", "max-age=60, stale-if-error=1000000", refusing, 100 * time.Hour, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			sim.Run(t, func(w *sim.World) {
				w.Origin(keptPage(c.directives), c.reply)
				w.Get("/a").Want(200, "page")
				w.Advance(c.age)
				if a := w.Get("/a"); a.Status != c.want || (a.Body() == "page") != (c.want == 200) {
					t.Errorf("status %d, body %q, want %d", a.Status, a.Body(), c.want)
				}
				w.WantCount(2)
			})
		})
	}
	t.Run("without the switch", func(t *testing.T) {
		sim.RunWith(t, func(c *engine.Config) { c.Terms.NeverStaleOnError = true }, func(w *sim.World) {
			w.Origin(keptPage("max-age=60, stale-if-error=30"), busy)
			w.Get("/a").Want(200, "page")
			w.Advance(time.Minute)
			w.Get("/a").Want(200, "page")
			w.Advance(time.Minute)
			w.Get("/a").Want(503, "busy")
		})
	})
}

func TestSTL16_AnErrorDoesNotReplaceWhatIsUsable(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		busy := sim.Reply{Status: 503, Header: []string{"Cache-Control: max-age=600"}, Body: "busy"}
		w.Origin(keptPage("max-age=60, stale-if-error=60"), busy, busy, sim.Reply{Status: 304})
		w.Get("/a").Want(200, "page")
		w.Advance(time.Minute)
		w.Get("/a").Want(200, "page").WantMiss("stale")
		w.Get("/a").Want(200, "page").WantMiss("stale")
		w.Get("/a").Want(200, "page") // and it is validated with its own validator
		if tag := w.Last().Header.Get("If-None-Match"); tag != `"1"` {
			t.Errorf("validated with %q", tag)
		}
		w.WantCount(4)
	})
	t.Run("afterwards", func(t *testing.T) {
		sim.Run(t, func(w *sim.World) {
			w.Origin(keptPage("max-age=60, stale-if-error=60"), sim.Reply{Status: 503, Header: []string{"Cache-Control: max-age=600"}, Body: "busy"})
			w.Get("/a").Want(200, "page")
			w.Advance(2 * time.Minute)
			w.Get("/a").Want(503, "busy")
			w.Get("/a").Want(503, "busy").WantHit()
			w.WantCount(2)
		})
	})
}

func TestSTL17_StaleCarriesItsAgeAndNoWarning(t *testing.T) {
	for name, warning := range map[string][]string{"none": nil, "received": {`199 other "it is old"`, `299 - "x"`}} {
		t.Run(name, func(t *testing.T) {
			sim.RunWith(t, func(c *engine.Config) { c.Terms.SoftTTL = 2 * time.Hour }, func(w *sim.World) {
				page := keptPage("max-age=60")
				page.Header = append(page.Header, "Age: 30")
				for _, line := range warning {
					page.Header = append(page.Header, "Warning: "+line)
				}
				w.Origin(page, refusing)
				w.Get("/a").Want(200, "page")
				w.Advance(time.Hour)
				w.Get("/a").Want(200, "page").WantHit().WantField("Age", "3630").WantField("Warning", warning...)
				w.Advance(2 * time.Hour)
				w.Get("/a").Want(200, "page").WantMiss("stale").WantField("Age", "10830").WantField("Warning", warning...)
			})
		})
	}
}

func TestSTL18_VersionExpiredIsStale(t *testing.T) {
	for _, forbidding := range []string{"", ", must-revalidate", ", proxy-revalidate"} {
		t.Run(forbidding, func(t *testing.T) {
			version := "1"
			sim.RunWith(t, func(c *engine.Config) { c.Version = func(*http.Request) string { return version } }, func(w *sim.World) {
				w.Origin(keptPage("max-age=600"+forbidding), sim.Reply{Status: 304, Delay: time.Second})
				w.Get("/a").Want(200, "page")
				w.Settle() // its fetch is over
				w.Get("/a").WantHit()
				version = "2"
				start := time.Now()
				a := w.Get("/a").Want(200, "page")
				if waited := time.Since(start) > 0; waited != (forbidding != "") {
					t.Errorf("waited for the origin: %v (%s)", waited, a.CacheStatus())
				}
				w.Advance(2 * time.Second)
				w.WantCount(2)
				w.Get("/a").WantHit()
				w.WantCount(2)
			})
		})
	}
}

func TestSTL19_RevalidateTimeout(t *testing.T) {
	slow := sim.Reply{Status: 304, Delay: 3 * time.Second}
	for _, c := range []struct {
		name, directives string
		request          []string
		timeout, took    time.Duration
	}{
		{"off", "max-age=60", nil, 0, 3 * time.Second},
		{"on", "max-age=60", nil, time.Second, time.Second},
		{"on, not shared", "max-age=60, public", []string{"Authorization: x"}, time.Second, time.Second},
		{"stale forbidden", "max-age=60, must-revalidate", nil, time.Second, 3 * time.Second},
		{"stale-if-error over", "max-age=60, stale-if-error=1", nil, time.Second, 3 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			sim.RunWith(t, func(conf *engine.Config) { conf.Terms.RevalidateTimeout = c.timeout }, func(w *sim.World) {
				w.Origin(keptPage(c.directives), slow)
				w.Get("/a", c.request...).Want(200, "page")
				w.Advance(2 * time.Minute)
				start := time.Now()
				var answers []*sim.Answer
				for range 3 {
					answers = append(answers, w.Start("GET", "/a", "", c.request...))
				}
				for _, a := range answers {
					a.Wait()
					a.Want(200, "page")
					if took := time.Since(start); took != c.took {
						t.Errorf("took %v, want %v", took, c.took)
					}
					if c.took < slow.Delay {
						a.WantField("Age", "121")
					}
				}
				asked := w.Count()
				w.Advance(4 * time.Second)
				w.Get("/a").WantHit() // the validation went on
				w.WantCount(asked)
			})
		})
	}
	t.Run("then it fails", func(t *testing.T) {
		sim.RunWith(t, func(conf *engine.Config) { conf.Terms.RevalidateTimeout = time.Second }, func(w *sim.World) {
			w.Origin(minute, sim.Reply{Delay: 2 * time.Second, Err: errors.New("reset")})
			w.Get("/a").Want(200, "page")
			w.Advance(time.Minute)
			w.Get("/a").Want(200, "page")
			w.Advance(2 * time.Second)
			w.Get("/a").Want(200, "page")
		})
	})
}
