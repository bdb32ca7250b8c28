package engine_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/local"
	"github.com/larderhq/larder/internal/sim"
	"github.com/larderhq/larder/store/memory"
)

// lasts tells how many seconds a response serves without the origin, asked
// every second for up to limit seconds.
func lasts(t *testing.T, limit int, status int, lines ...string) (seconds int) {
	t.Helper()
	sim.Run(t, func(w *sim.World) {
		w.Origin(sim.Reply{Status: status, Header: lines, Body: "first"}, sim.Reply{Body: "second", Header: []string{"Cache-Control: no-store"}})
		if a := w.Get("/a"); a.Status != status || a.Body() != "first" {
			t.Fatalf("%q: %d %q", lines, a.Status, a.Body())
		}
		for ; seconds < limit; seconds++ {
			if w.Get("/a").Body() != "first" {
				break
			}
			w.Advance(time.Second)
		}
	})
	return seconds
}

func TestFRS01_SourcesInOrder(t *testing.T) {
	for _, c := range []struct {
		want  int
		lines []string
	}{
		{1, []string{"CDN-Cache-Control: max-age=1", "Cache-Control: s-maxage=2, max-age=3", "Expires: {4}", "Last-Modified: {-50}"}},
		{2, []string{"Cache-Control: s-maxage=2, max-age=3", "Expires: {4}", "Last-Modified: {-50}"}},
		{2, []string{"Cache-Control: max-age=3", "Expires: {4}", "Cache-Control: s-maxage=2"}}, // FRS-02
		{6, []string{"Cache-Control: max-age=0, s-maxage=6", "Expires: {-50}"}},
		{3, []string{"Cache-Control: max-age=3", "Expires: {4}", "Last-Modified: {-50}"}},
		{3, []string{"Cache-Control: max-age=3", "Expires: {-4}"}}, // FRS-04
		{3, []string{"Cache-Control: max-age=3", "Expires: 0"}},
		{0, []string{"Cache-Control: max-age=0", "Expires: {4}"}},
		{4, []string{"Expires: {4}", "Last-Modified: {-50}"}},
		{0, []string{"Expires: {0}", "Date: {0}", "Last-Modified: {-50}"}}, // FRS-05
		{0, []string{"Expires: {50}", "Date: {50}"}},
		{4, []string{"Expires: {54}", "Date: {50}"}},
		{5, []string{"Last-Modified: {-50}"}},
		{5, []string{"Last-Modified: {-50}", "Date: {0}"}},
		{0, []string{"Last-Modified: {1}", `ETag: "1"`}}, // FRS-07
		{0, []string{`ETag: "1"`}},
		{0, []string{"Expires: {-50}", "Last-Modified: {-500}"}},
		{5, []string{"Cache-Control: max-age=10", "Age: 5"}},
		{9, []string{"Cache-Control: max-age=10", "Date: {-1}"}},
		{10, []string{"Cache-Control: max-age=10", "Date: {50}"}},
		{2, []string{"Cache-Control: max-age=7202", "Age: 7200, 0"}}, // FRS-09
		{2, []string{"Cache-Control: max-age=7202", "Age: 7200", "Age: 0"}},
		{10, []string{"Cache-Control: max-age=10", "Age: 0, 7200"}},
		{10, []string{"Cache-Control: max-age=10", "Age: 0", "Age: 7200"}},
		{10, []string{"Cache-Control: max-age=10", "Age: abc"}}, // FRS-10
		{10, []string{"Cache-Control: max-age=10", "Age: -1"}},
		{10, []string{"Cache-Control: max-age=10", "Age: 7200.0"}},
		{10, []string{"Cache-Control: max-age=10", "Age: 7200;a=b"}},
		{0, []string{"Cache-Control: max-age=3600", "Age: 2147483648"}}, // FRS-11
		{0, []string{"Cache-Control: max-age=2147483648", "Age: 99999999999"}},
		{0, []string{"Cache-Control: max-age=99999999999", "Age: " + strings.Repeat("9", 40)}},
		{0, []string{"Cache-Control: max-age=10", "Age: 10"}}, // FRS-12
		{0, []string{"Cache-Control: max-age=10", "Age: 7200"}},
		{0, []string{"Cache-Control: max-age=10", "Date: {-20}"}}, // FRS-14
		{0, []string{"Expires: {-20}", "Date: {-30}"}},
	} {
		for _, tagged := range []bool{false, true} {
			lines := make([]string, len(c.lines))
			for i, line := range c.lines {
				lines[i] = dated(line)
			}
			if tagged && !strings.Contains(strings.Join(lines, "\n"), "ETag") {
				lines = append(lines, `ETag: "1"`) // a validator changes nothing
			}
			if got := lasts(t, 15, 200, lines...); got != c.want {
				t.Errorf("%q lasts %d s, want %d", c.lines, got, c.want)
			}
		}
	}
}

// dated replaces {n} by the date n seconds after the beginning of a world.
func dated(line string) string {
	before, rest, ok := strings.Cut(line, "{")
	if !ok {
		return line
	}
	number, after, _ := strings.Cut(rest, "}")
	n, err := strconv.Atoi(number)
	if err != nil {
		panic(err)
	}
	begin := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // as of testing/synctest
	return before + begin.Add(time.Duration(n)*time.Second).Format(http.TimeFormat) + after
}

func TestFRS03_StaleAtEquality(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(minute, sim.Reply{Status: 304})
		w.Get("/a").Want(200, "page")
		w.Advance(time.Minute - 1)
		w.Get("/a").Want(200, "page").WantHit().WantField("Age", "59")
		w.Advance(1)
		w.Get("/a").Want(200, "page").WantMiss("stale")
		w.WantCount(2)
	})
}

func TestFRS06_HeuristicsOnlyWhereAllowed(t *testing.T) {
	lm := dated("Last-Modified: {-1000}")
	for status, want := range map[int]int{
		200: 100, 203: 100, 204: 0, 300: 100, 301: 100, 308: 100, 404: 100, 405: 100, 410: 100, 414: 100, 451: 100, 501: 100,
		201: 0, 202: 0, 302: 0, 303: 0, 307: 0, 400: 0, 403: 0, 500: 0, 502: 0, 503: 0, 504: 0, 599: 0,
	} {
		if status == 204 {
			continue // has no body to tell it by: TestFRS06_HeuristicNoContent
		}
		if got := lasts(t, 200, status, lm); got != want {
			t.Errorf("%d lasts %d s, want %d", status, got, want)
		}
	}
	// FRS-08
	if got := lasts(t, 200, 599, lm, "Cache-Control: public"); got != 100 {
		t.Errorf("599 with public lasts %d s", got)
	}
}

func TestFRS06_HeuristicNoContent(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(sim.Reply{Status: 204, Header: []string{dated("Last-Modified: {-1000}")}})
		w.Get("/a").Want(204, "")
		w.Advance(99 * time.Second)
		w.Get("/a").Want(204, "").WantHit()
		w.Advance(time.Second)
		w.Get("/a").Want(204, "").WantMiss("stale")
	})
}

func TestFRS13_WaitingForTheOriginAges(t *testing.T) {
	for _, c := range []struct {
		lines []string
		age   int
	}{
		{nil, 4},
		{[]string{"Age: 30"}, 34},
		{[]string{"Age: 30, 0"}, 34},
		{[]string{"Age: x"}, 4},
		{[]string{"Age: 30", "Date: {4}"}, 34},  // written as it was sent
		{[]string{"Age: 30", "Date: {0}"}, 34},  // written as it was asked for
		{[]string{"Age: 1", "Date: {-20}"}, 24}, // FRS-14: the greater, not the sum
	} {
		sim.Run(t, func(w *sim.World) {
			reply := sim.Reply{Header: []string{"Cache-Control: max-age=60"}, Body: "page", Delay: 4 * time.Second}
			for _, line := range c.lines {
				reply.Header = append(reply.Header, dated(line))
			}
			w.Origin(reply)
			w.Get("/a").Want(200, "page").WantMiss("uri-miss")
			w.Get("/a").Want(200, "page").WantHit().WantField("Age", strconv.Itoa(c.age))
			w.Advance(time.Duration(59-c.age) * time.Second)
			w.Get("/a").Want(200, "page").WantHit().WantField("Age", "59")
			w.Advance(time.Second)
			w.Get("/a").Want(200, "page").WantMiss("stale")
		})
	}
}

// A validation that took its time ages as well.
func TestFRS13_WaitingForAValidationAges(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(minute, sim.Reply{Status: 304, Header: []string{"Age: 10"}, Delay: 4 * time.Second})
		w.Get("/a")
		w.Advance(time.Minute)
		w.Get("/a").Want(200, "page").WantMiss("stale").WantField("Age", "10") // FRS-16
		w.Get("/a").Want(200, "page").WantHit().WantField("Age", "14")
		w.Advance(45 * time.Second)
		w.Get("/a").Want(200, "page").WantHit().WantField("Age", "59")
		w.Advance(time.Second)
		w.Get("/a").Want(200, "page").WantMiss("stale")
	})
}

func TestFRS14_ApparentAge(t *testing.T) {
	for _, c := range []struct {
		trust bool
		date  time.Duration
		age   string
	}{{false, -30 * time.Second, "32"}, {true, -30 * time.Second, "2"}, {false, 30 * time.Second, "2"}, {true, 30 * time.Second, "2"}} {
		sim.RunWith(t, func(cfg *engine.Config) { cfg.Terms.TrustDate = c.trust }, func(w *sim.World) {
			date := sim.Date(c.date)
			w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=60", "Date: " + date}, Body: "page"})
			w.Get("/a").Want(200, "page").WantField("Age").WantField("Date", date)
			w.Advance(2 * time.Second)
			w.Get("/a").Want(200, "page").WantHit().WantField("Age", c.age).WantField("Date", date)
		})
	}
}

func TestFRS15_OneAgeInWholeSeconds(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "1"`, "Age: 30", "Age: 99"}, Body: "0123456789"})
		w.Get("/a").Want(200, "0123456789").WantField("Age", "30", "99") // FRS-16: the origin's own
		w.Get("/a").WantHit().WantField("Age", "30")
		w.Advance(2999 * time.Millisecond)
		w.Get("/a").WantHit().WantField("Age", "32")
		w.Advance(time.Millisecond)
		w.Get("/a").WantHit().WantField("Age", "33")
		// FRS-19: whatever form the answer takes.
		w.Do("HEAD", "/a", "").Want(200, "").WantHit().WantField("Age", "33")
		w.Get("/a", `If-None-Match: "1"`).Want(304, "").WantHit().WantField("Age", "33")
		w.Get("/a", "Range: bytes=2-4").Want(206, "234").WantHit().WantField("Age", "33")
		if a := w.Get("/a", "Range: bytes=0-0,5-5").WantHit().WantField("Age", "33"); a.Status != 206 {
			t.Errorf("status %d", a.Status)
		}
		w.WantCount(1)
	})
	// A stored part.
	sim.Run(t, func(w *sim.World) {
		w.Origin(sim.Reply{Status: 206, Header: []string{"Cache-Control: max-age=60", `ETag: "1"`, "Content-Range: bytes 0-4/10", "Age: 5"}, Body: "01234"})
		w.Get("/a", "Range: bytes=0-4").Want(206, "01234").WantField("Age", "5")
		w.Advance(3 * time.Second)
		w.Get("/a", "Range: bytes=1-2").Want(206, "12").WantHit().WantField("Age", "8")
	})
	// Stale answers too, and stored errors.
	sim.Run(t, func(w *sim.World) {
		w.Origin(sim.Reply{Status: 404, Header: []string{"Cache-Control: max-age=60, stale-while-revalidate=60", "Age: 5"}, Body: "none"}, refusing)
		w.Get("/a").Want(404, "none")
		w.Advance(70 * time.Second)
		w.Get("/a").Want(404, "none").WantField("Age", "75")
		w.Settle()
	})
}

func TestFRS15_NoAgeWhereItIsHidden(t *testing.T) {
	sim.RunWith(t, func(c *engine.Config) { c.Terms.HideAge = true }, func(w *sim.World) {
		reply := minute
		reply.Header = append([]string{"Age: 30"}, minute.Header...)
		reply.Delay = time.Second
		w.Origin(reply)
		one, other := w.Start("GET", "/a", ""), w.Start("GET", "/a", "")
		one.Wait()
		other.Wait()
		if one.Header.Get("Age") == "" {
			one, other = other, one
		}
		one.Want(200, "page").WantField("Age", "30") // from the origin
		other.Want(200, "page").WantField("Age")     // waited for it
		w.Get("/a").Want(200, "page").WantHit().WantField("Age")
		w.Advance(28 * time.Second)
		w.Get("/a").Want(200, "page").WantHit().WantField("Age")
		w.Advance(time.Second)
		w.Get("/a").WantMiss("stale") // it counts all the same
	})
}

func TestFRS16_NoAgeOfOursOnWhatJustCame(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		slow := minute
		slow.Delay = 4 * time.Second // other-age-delay of the public test-suite
		w.Origin(slow, sim.Reply{Status: 304}, sim.Reply{Status: 304, Header: []string{"Age: 7"}}, sim.Reply{Body: "new", Header: []string{"Age: 9"}})
		w.Get("/a").Want(200, "page").WantField("Age")
		w.Advance(time.Minute)
		w.Get("/a").Want(200, "page").WantMiss("stale").WantField("Age")
		w.Advance(time.Minute)
		w.Get("/a").Want(200, "page").WantMiss("stale").WantField("Age", "7")
		w.Advance(time.Minute)
		w.Get("/a").Want(200, "new").WantMiss("stale").WantField("Age", "9")
		w.Get("/b").Want(200, "new").WantMiss("uri-miss").WantField("Age", "9")
		w.Do("POST", "/b", "").Want(200, "new").WantField("Age", "9")
	})
	// Who waits for another's answer gets one that has aged meanwhile.
	sim.Run(t, func(w *sim.World) {
		slow := minute
		slow.Header = append([]string{"Age: 30"}, minute.Header...)
		slow.Delay = 4 * time.Second
		w.Origin(slow)
		first := w.Start("GET", "/a", "")
		w.Settle()
		second := w.Start("GET", "/a", "")
		first.Wait()
		second.Wait()
		first.Want(200, "page").WantField("Age", "30")
		second.Want(200, "page").WantField("Age", "34")
		w.WantCount(1)
	})
}

func TestFRS17_AgeStartsAnewFromThe304(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(
			sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "1"`, "Age: 30", "Date: " + sim.Date(-20*time.Second)}, Body: "page"},
			sim.Reply{Status: 304, Header: []string{"Date: " + sim.Date(31*time.Second)}},
			sim.Reply{Status: 304, Header: []string{"Cache-Control: max-age=10", "Date: " + sim.Date(92*time.Second), "Age: 2"}},
		)
		w.Get("/a").Want(200, "page")
		w.Advance(31 * time.Second)
		w.Get("/a").Want(200, "page").WantMiss("stale").WantField("Age")
		w.Advance(2 * time.Second)
		w.Get("/a").Want(200, "page").WantHit().WantField("Age", "2").WantField("Date", sim.Date(-2*time.Second))
		w.Advance(57 * time.Second)
		w.Get("/a").WantHit().WantField("Age", "59")
		w.Advance(2 * time.Second)
		w.Get("/a").WantMiss("stale").WantField("Age", "2")
		w.Get("/a").WantHit().WantField("Age", "2")
		w.Advance(7 * time.Second)
		w.Get("/a").WantHit().WantField("Age", "9")
		w.Advance(time.Second)
		w.Get("/a").WantMiss("stale")
	})
}

func TestFRS18_DateAndExpiresStay(t *testing.T) {
	for name, c := range map[string][]string{
		"now":       {"Date: {0}", "Expires: {60}"},
		"past":      {"Date: {-10}", "Expires: {50}"},
		"ahead":     {"Date: {100}", "Expires: {160}"},
		"max-age":   {"Date: {-10}", "Expires: {-10}", "Cache-Control: max-age=60"},
		"bad":       {"Date: {0}", "Expires: 0", "Cache-Control: max-age=60"},
		"twice":     {"Date: {0}", "Expires: {60}", "Expires: {60}"},
		"RFC 850":   {"Date: Saturday, 01-Jan-00 00:00:00 GMT", "Expires: Saturday, 01-Jan-00 00:01:00 GMT"},
		"lowercase": {"Date: sat, 01 jan 2000 00:00:00 gmt", "Expires: sat, 01 jan 2000 00:01:00 gmt"},
	} {
		sim.Run(t, func(w *sim.World) {
			reply := sim.Reply{Body: "page", Header: []string{`ETag: "1"`}}
			var dates, expires []string
			for _, line := range c {
				line = dated(line)
				reply.Header = append(reply.Header, line)
				if v, ok := strings.CutPrefix(line, "Date: "); ok {
					dates = append(dates, v)
				}
				if v, ok := strings.CutPrefix(line, "Expires: "); ok {
					expires = append(expires, v)
				}
			}
			w.Origin(reply, sim.Reply{Status: 304, Header: []string{"Cache-Control: max-age=60"}})
			w.Get("/a").Want(200, "page").WantField("Date", dates...).WantField("Expires", expires...)
			for range 3 {
				w.Advance(13 * time.Second)
				if a := w.Get("/a").WantHit(); strings.Join(a.Header["Date"], "\n") != strings.Join(dates, "\n") {
					t.Errorf("%s: Date is %q", name, a.Header["Date"])
				}
				w.Get("/a").WantHit().WantField("Expires", expires...)
				w.Get("/a", `If-None-Match: "1"`).Want(304, "").WantHit().WantField("Date", dates...).WantField("Expires", expires...)
			}
			// other-date-update-expires-update: a 304 without Expires leaves it.
			w.Advance(time.Minute)
			w.Get("/a").Want(200, "page").WantMiss("stale").WantField("Expires", expires...)
			w.Get("/a").Want(200, "page").WantHit().WantField("Expires", expires...)
		})
	}
	// A Date of ours stays as well.
	sim.Run(t, func(w *sim.World) {
		w.Origin(minute)
		date := sim.Date(0)
		w.Get("/a").WantField("Date", date)
		w.Advance(30 * time.Second)
		w.Get("/a").WantHit().WantField("Date", date)
	})
}

func TestFRS20_TwoCachesInARow(t *testing.T) {
	for _, step := range []time.Duration{time.Second, 700 * time.Millisecond, 1900 * time.Millisecond} {
		for _, delay := range []time.Duration{0, 1500 * time.Millisecond} {
			for _, lines := range [][]string{{"Cache-Control: max-age=60"}, {"Expires"}, {"Cache-Control: max-age=60", "Age: 20"}, {"Cache-Control: max-age=60", "Date"}} {
				t.Run(fmt.Sprint(step, delay, lines), func(t *testing.T) { twoInARow(t, step, delay, lines) })
			}
		}
	}
}

// twoInARow asks an outer cache, in front of that of the world, and the inner
// one now and then. The body says when the origin made it.
func twoInARow(t *testing.T, step, delay time.Duration, lines []string) {
	sim.Run(t, func(w *sim.World) {
		w.Advance(300 * time.Millisecond) // dates have no fractions
		w.Handle(func(*http.Request) sim.Reply {
			reply := sim.Reply{Body: time.Now().Format(time.RFC3339Nano), Delay: delay}
			for _, line := range lines {
				switch line {
				case "Expires":
					reply.Header = append(reply.Header, "Date: "+sim.Date(0), "Expires: "+sim.Date(time.Minute))
				case "Date":
					reply.Header = append(reply.Header, "Date: "+sim.Date(0))
				default:
					reply.Header = append(reply.Header, line)
				}
			}
			return reply
		})
		inner := w.Engine
		s := memory.New(memory.Options{Budget: 1 << 20})
		defer s.Close()
		outer := engine.New(engine.Config{Name: "outer", Pseudonym: "outer", Store: s, Forward: local.RoundTripper(inner)})
		defer outer.Close()

		ask := func(e *engine.Engine) (made time.Time, age time.Duration) {
			w.Engine = e
			a := w.Get("/a")
			made, err := time.Parse(time.RFC3339Nano, a.Body())
			if a.Status != 200 || err != nil || len(a.Header["Age"]) > 1 {
				t.Fatalf("%d %q, Age %q, %v", a.Status, a.Body(), a.Header["Age"], err)
			}
			n, _ := strconv.Atoi(a.Header.Get("Age"))
			return made, time.Duration(n) * time.Second
		}
		received := time.Duration(0)
		if len(lines) > 1 && lines[1] == "Age: 20" {
			received = 20 * time.Second
		}
		const limit = time.Minute
		ask(inner)
		w.Advance(17 * time.Second)
		var last time.Time
		var lastAge time.Duration
		responses := map[time.Time]bool{}
		for begin := time.Now(); time.Since(begin) < 5*time.Minute; w.Advance(step) {
			made, age := ask(outer)
			old := time.Since(made) + received
			switch {
			case made.Equal(last) && age < lastAge:
				t.Fatalf("Age goes back from %v to %v", lastAge, age)
			case made.Before(last):
				t.Fatal("an older response takes the place of a newer one")
			case old > limit+2*time.Second:
				t.Fatalf("used for %v, Age %v", old, age)
			case last.IsZero():
			case !made.Equal(last) && made.Sub(last)+received < limit-2*time.Second-delay:
				t.Fatalf("fetched again after %v", made.Sub(last))
			}
			if age < old-2*time.Second && age > 0 || age > old+2*time.Second {
				t.Fatalf("Age %v of what is %v old", age, old)
			}
			last, lastAge = made, age
			responses[made] = true
			if _, innerAge := ask(inner); time.Since(made)+received > limit+2*time.Second && innerAge > limit {
				t.Fatal("the inner cache serves it for longer")
			}
		}
		if n := len(responses); n < 4 || n > 9 {
			t.Errorf("%d responses in 5 minutes", n)
		}
	})
}
