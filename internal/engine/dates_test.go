package engine_test

import (
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/rules"
	"github.com/larderhq/larder/internal/sim"
)

// forms writes a moment in the three forms of RFC 9110 §5.6.7.
func forms(fromNow time.Duration) []string {
	t := time.Now().Add(fromNow).UTC()
	return []string{
		t.Format("Mon, 02 Jan 2006 15:04:05 GMT"),
		t.Format("Monday, 02-Jan-06 15:04:05 GMT"),
		t.Format("Mon Jan _2 15:04:05 2006"),
	}
}

func TestDAT01_ThreeFormsInEveryField(t *testing.T) {
	for form := range 3 {
		date := func(fromNow time.Duration) string { return forms(fromNow)[form] }
		sim.Run(t, func(w *sim.World) {
			w.Origin(
				sim.Reply{Header: []string{"Date: " + date(-10*time.Second), "Expires: " + date(50*time.Second), "Last-Modified: " + date(-time.Hour)}, Body: "0123456789"},
				sim.Reply{Status: 412},
				sim.Reply{Header: []string{"Date: " + date(time.Minute), "Last-Modified: " + date(-time.Hour)}, Body: "heuristic"},
			)
			modified, before := date(-time.Hour), date(-time.Hour-time.Second)
			w.Get("/").Want(200, "0123456789")
			w.Advance(49 * time.Second)
			w.Get("/").Want(200, "0123456789").WantHit().WantField("Age", "59")
			w.Get("/", "If-Modified-Since: "+modified).Want(304, "").WantHit()
			w.Get("/", "If-Modified-Since: "+before).Want(200, "0123456789").WantHit()
			w.Get("/", "Range: bytes=0-2", "If-Range: "+modified).Want(206, "012").WantHit()
			w.Get("/", "Range: bytes=0-2", "If-Range: "+before).Want(200, "0123456789").WantHit()
			// The origin judges this one, and reads it as the client wrote it.
			w.Get("/", "If-Unmodified-Since: "+before).Want(412, "")
			if got := w.Last().Header.Get("If-Unmodified-Since"); got != before {
				t.Errorf("the origin got %q, want %q", got, before)
			}
			w.Advance(time.Second)
			w.Get("/").Want(200, "heuristic").WantMiss("stale")
			w.Advance(300 * time.Second)
			w.Get("/").Want(200, "heuristic").WantHit()
		})
	}
}

func TestDAT02_LettersInAnyCase(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		at := sim.Date(time.Hour)
		for _, expires := range []string{strings.ToUpper(at), strings.ToLower(at), strings.Replace(at, "GMT", "gMT", 1)} {
			w.Origin(sim.Reply{Header: []string{"Expires: " + expires}, Body: "page"})
			w.Get("/?" + strings.ReplaceAll(expires[17:], " ", "_"))
			w.Get("/?" + strings.ReplaceAll(expires[17:], " ", "_")).WantHit()
		}
	})
}

func TestDAT03_TwoDigitYearsInExpires(t *testing.T) {
	sim.Run(t, func(w *sim.World) { // it is the year 2000
		for year, hit := range map[string]bool{"49": true, "51": false, "99": false, "01": true} {
			w.Origin(sim.Reply{Header: []string{"Expires: Friday, 01-Dec-" + year + " 00:00:00 GMT", `ETag: "1"`}, Body: "page"})
			w.Get("/" + year)
			if a := w.Get("/" + year); a.Hit() != hit {
				t.Errorf("-%s: %s", year, a.CacheStatus())
			}
		}
	})
}

func TestDAT08_FarDates(t *testing.T) {
	for _, c := range []struct{ date, expires, modified, want string }{
		{"", "Fri, 31 Dec 9999 23:59:59 GMT", "", fresh},
		{"", "Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 1601 00:00:00 GMT", fresh},
		{"", "Tue, 19 Jan 2038 03:14:08 GMT", "", fresh},
		{"", "Mon, 01 Jan 1601 00:00:00 GMT", "", validated},
		{"", "Sat, 01 Jan 0000 00:00:00 GMT", "", validated},
		{"", "Wed, 31 Dec 1969 23:59:59 GMT", "", validated},
		{"Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 1601 00:00:00 GMT", "", validated},
		{"Fri, 31 Dec 9999 23:59:58 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "", validated},
		{"Mon, 01 Jan 1601 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "", validated}, // as old as an age can be
		{"", "", "Mon, 01 Jan 1601 00:00:00 GMT", fresh},
		{"", "", "Fri, 31 Dec 9999 23:59:59 GMT", validated},
		{"Fri, 31 Dec 9999 23:59:59 GMT", "", "Mon, 01 Jan 1601 00:00:00 GMT", fresh},
	} {
		header := []string{}
		if c.date != "" {
			header = append(header, "Date: "+c.date)
		}
		if c.expires != "" {
			header = append(header, "Expires: "+c.expires)
		}
		if c.modified == "" {
			c.modified = "Sat, 01 Jan 2000 00:00:00 GMT"
		}
		sim.Run(t, func(w *sim.World) {
			w.Origin(sim.Reply{Header: append(header, `ETag: "1"`, "Last-Modified: "+c.modified), Body: "page"}, sim.Reply{Status: 304})
			w.Get("/").Want(200, "page")
			w.Advance(2 * time.Second)
			a := w.Get("/").Want(200, "page")
			if a.Hit() != (c.want == fresh) {
				t.Errorf("%+v: %s", c, a.CacheStatus())
			}
		})
	}
}

func TestDAT09_InvalidExpiresHasExpired(t *testing.T) {
	for _, expires := range []string{
		"0", "-1", "", "Thu, 18 Aug 50 02:01:18 GMT", "Thu 18 Aug 2050 02:01:18 GMT", "Thu, 18  Aug  2050 02:01:18 GMT",
		"Thu, 18-Aug-2050 02:01:18 GMT", "Thu, 18 Aug 2050 02.01.18 GMT", "Thu, 18 Aug 2050 2:01:18 GMT", "Thu, 18 Aug 2050 02:01:18 GMT x",
		"Wed, 30 Feb 2050 02:01:18 GMT", "Thu, 18 Aug 2050 24:00:00 GMT", "Thu, 18 Aug 2050 02:01:18 AEST", "Foo, 18 Aug 2050 02:01:18 GMT",
	} {
		if got := afterTwoSeconds(t, rules.Terms{}, []string{"Expires: " + expires}); got != validated {
			t.Errorf("%q: %s, want %s", expires, got, validated)
		}
	}
}

func TestDAT10_SeveralExpires(t *testing.T) {
	const far, farther = "Expires: Thu, 18 Aug 2050 02:01:18 GMT", "Expires: Thu, 18 Aug 2051 02:01:18 GMT"
	for _, c := range []struct {
		lines []string
		want  string
	}{
		{[]string{far, far, far}, fresh},
		{[]string{far, farther}, validated},
		{[]string{farther, far}, validated},
		{[]string{far, far, "Expires: 0"}, validated},
	} {
		if got := afterTwoSeconds(t, rules.Terms{}, c.lines); got != c.want {
			t.Errorf("%q: %s, want %s", c.lines, got, c.want)
		}
	}
}

func TestDAT11_DateIsAddedOnReceipt(t *testing.T) {
	for name, lines := range map[string][]string{
		"none":           nil,
		"DAT12 invalid":  {"Date: yesterday"},
		"DAT12 zone":     {"Date: Thu, 18 Aug 2050 02:01:18 UTC"},
		"DAT12 empty":    {"Date: "},
		"DAT12 two many": {"Date: Sat, 01 Jan 2000 00:00:00 GMT", "Date: Sat, 01 Jan 2000 00:00:01 GMT"},
	} {
		t.Run(name, func(t *testing.T) {
			sim.Run(t, func(w *sim.World) {
				w.Advance(7 * time.Hour)
				receipt := sim.Date(2 * time.Second)
				w.Origin(
					sim.Reply{Header: append([]string{"Cache-Control: max-age=60"}, lines...), Body: "page", Delay: 2 * time.Second},
					sim.Reply{Header: lines, Body: "posted"},
					sim.Reply{Header: append([]string{"Cache-Control: no-store"}, lines...), Body: "private"},
				)
				w.Get("/").Want(200, "page").WantField("Date", receipt)
				w.Advance(30 * time.Second)
				w.Get("/").Want(200, "page").WantHit().WantField("Date", receipt).WantField("Age", "32")
				w.Do("POST", "/", "x").Want(200, "posted").WantField("Date", sim.Date(0))
				w.Get("/").Want(200, "private").WantField("Date", sim.Date(0))
			})
		})
	}
}

func TestDAT12_LifetimeCountsFromReceipt(t *testing.T) {
	for _, date := range []string{"Date: garbage", "Date: Thu, 18 Aug 2050 02:01:18 UTC"} {
		sim.Run(t, func(w *sim.World) {
			w.Origin(sim.Reply{Header: []string{date, "Expires: " + sim.Date(time.Minute)}, Body: "page"}, sim.Reply{Body: "new"})
			w.Get("/").Want(200, "page")
			w.Advance(59 * time.Second)
			w.Get("/").Want(200, "page").WantHit()
			w.Advance(time.Second)
			w.Get("/").Want(200, "new").WantMiss("stale")
		})
	}
}

func TestDAT14_ClockSteps(t *testing.T) {
	var step time.Duration
	stepped := func(c *engine.Config) {
		step = 0
		c.Clock = func() (steady, wall time.Time) { now := time.Now(); return now, now.Add(step) }
	}
	for _, to := range []time.Duration{-time.Hour, time.Hour} {
		t.Run(to.String(), func(t *testing.T) {
			sim.RunWith(t, stepped, func(w *sim.World) {
				dated := minute
				dated.Header = append([]string{"Date: " + sim.Date(0)}, minute.Header...)
				w.Origin(dated, sim.Reply{Status: 304, Header: []string{"Date: " + sim.Date(61*time.Second)}})
				w.Get("/").Want(200, "page")
				w.Advance(30 * time.Second)
				step = to
				w.Get("/").Want(200, "page").WantHit().WantField("Age", "30")
				w.Advance(29 * time.Second)
				w.Get("/").Want(200, "page").WantHit().WantField("Age", "59")
				w.Advance(time.Second)
				w.Get("/").Want(200, "page").WantMiss("stale") // not revived
				w.WantCount(2)
			})
		})
	}
	// Received while the clock is an hour slow: its Date seems to lie ahead.
	sim.RunWith(t, stepped, func(w *sim.World) {
		step = -time.Hour
		dated := minute
		dated.Header = append([]string{"Date: " + sim.Date(0)}, minute.Header...)
		w.Origin(dated, sim.Reply{Status: 304})
		w.Get("/").Want(200, "page")
		w.Get("/").Want(200, "page").WantHit().WantField("Age", "0")
		step = 0
		w.Advance(59 * time.Second)
		w.Get("/").Want(200, "page").WantHit().WantField("Age", "59")
		w.Advance(time.Second)
		w.Get("/").Want(200, "page").WantMiss("stale")
	})
}

// Its readings must not turn back into those of the wall clock when they are
// written down or compared. (In a bubble, time has no monotonic reading.)
func TestDAT14_SystemClockIsSteady(t *testing.T) {
	clock := engine.SystemClock()
	before, wall := clock()
	if d := wall.Sub(before); d < -time.Second || d > time.Second {
		t.Errorf("the clocks began %v apart", d)
	}
	for range 1000 {
		after, _ := clock()
		if after != after.Round(0) {
			t.Fatal("the steady time has a monotonic reading, which a store would lose")
		}
		if after.Before(before) {
			t.Fatal("the steady time went back")
		}
		before = after
	}
	sim.Run(t, func(w *sim.World) {
		clock := engine.SystemClock()
		before, _ := clock()
		w.Advance(90 * time.Second)
		if after, _ := clock(); after.Sub(before) != 90*time.Second {
			t.Errorf("90 s took %v on the steady clock", after.Sub(before))
		}
	})
}
