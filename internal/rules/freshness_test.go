package rules_test

import (
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/field"
	"github.com/larderhq/larder/internal/rules"
)

// arrival is the moment at which the responses of these tests arrive.
var arrival = time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)

// at is a date so long after arrival.
func at(d time.Duration) string { return arrival.Add(d).Format(http.TimeFormat) }

// response is what a cache makes of a response that took no time to arrive.
// "Name" followed by an empty value is an empty field.
func response(terms *rules.Terms, status int, lines ...string) *rules.Stored {
	return delayed(terms, 0, status, lines...)
}

func delayed(terms *rules.Terms, delay time.Duration, status int, lines ...string) *rules.Stored {
	h := rules.Header{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ":")
		name = http.CanonicalHeaderKey(name)
		h[name] = append(h[name], strings.TrimSpace(value))
	}
	req := rules.ReadRequest("GET", rules.Header{})
	return rules.Receive(&req, status, h, rules.Receipt{Asked: arrival.Add(-delay), Arrived: arrival, Wall: arrival}, terms)
}

const day = 24 * time.Hour

type lifetimeCase struct {
	name  string
	lines []string
	want  time.Duration
	basis rules.Basis
}

func lifetimes(t *testing.T, terms *rules.Terms, cases []lifetimeCase) {
	t.Helper()
	for _, c := range cases {
		s := response(terms, 200, c.lines...)
		if s.Lifetime != c.want || s.Basis != c.basis {
			t.Errorf("%s: %v by %v, want %v by %v", c.name, s.Lifetime, s.Basis, c.want, c.basis)
		}
	}
}

func TestFRS01_FirstSourceCounts(t *testing.T) {
	all := []string{
		"CDN-Cache-Control: max-age=1", "Cache-Control: s-maxage=2, max-age=3",
		"Date: " + at(0), "Expires: " + at(4*time.Second), "Last-Modified: " + at(-50*time.Second),
	}
	lifetimes(t, &rules.Terms{}, []lifetimeCase{
		{"targeted", all, time.Second, rules.FromTargeted},
		{"s-maxage", all[1:], 2 * time.Second, rules.FromSMaxAge},
		{"max-age", append([]string{"Cache-Control: max-age=3"}, all[2:]...), 3 * time.Second, rules.FromMaxAge},
		{"Expires", all[2:], 4 * time.Second, rules.FromExpires},
		{"heuristic", []string{all[2], all[4]}, 5 * time.Second, rules.FromHeuristic},
		{"nothing", nil, 0, rules.NoBasis},
	})
	// The order is the same where the later sources promise more, or nothing.
	lifetimes(t, &rules.Terms{}, []lifetimeCase{
		{"short targeted", []string{"CDN-Cache-Control: max-age=0", "Cache-Control: max-age=100"}, 0, rules.FromTargeted},
		{"short s-maxage", []string{"Cache-Control: max-age=100, s-maxage=0"}, 0, rules.FromSMaxAge},
		{"short max-age", []string{"Cache-Control: max-age=0", "Expires: " + at(day)}, 0, rules.FromMaxAge},
		{"past Expires", []string{"Expires: " + at(-day), "Last-Modified: " + at(-100*day)}, 0, rules.FromExpires},
		{"targeted without freshness", []string{"CDN-Cache-Control: public", "Cache-Control: max-age=9", "Expires: " + at(day)}, 0, rules.NoBasis},
	})
}

func TestFRS02_SMaxAge(t *testing.T) {
	private := &rules.Terms{Private: true}
	ignoring := &rules.Terms{IgnoreSMaxAge: true}
	for _, lines := range [][]string{
		{"Cache-Control: s-maxage=5, max-age=3600"},
		{"Cache-Control: max-age=3600, s-maxage=5"},
		{"Cache-Control: max-age=3600", "Cache-Control: s-maxage=5"},
		{"Cache-Control: s-maxage=5", "Expires: " + at(time.Hour), "Cache-Control: max-age=3600"},
	} {
		lifetimes(t, &rules.Terms{}, []lifetimeCase{{"short", lines, 5 * time.Second, rules.FromSMaxAge}})
		lifetimes(t, private, []lifetimeCase{{"short, private", lines, time.Hour, rules.FromMaxAge}})
		lifetimes(t, ignoring, []lifetimeCase{{"short, ignored", lines, time.Hour, rules.FromMaxAge}})
	}
	for _, lines := range [][]string{
		{"Cache-Control: s-maxage=3600, max-age=0"},
		{"Cache-Control: max-age=0", "Cache-Control: s-maxage=3600"},
		{"Cache-Control: s-maxage=3600", "Cache-Control: max-age=0", "Expires: " + at(-time.Hour)},
	} {
		lifetimes(t, &rules.Terms{}, []lifetimeCase{{"long", lines, time.Hour, rules.FromSMaxAge}})
		lifetimes(t, private, []lifetimeCase{{"long, private", lines, 0, rules.FromMaxAge}})
	}
	past := []string{"Cache-Control: s-maxage=3600", "Expires: " + at(-time.Hour)}
	lifetimes(t, &rules.Terms{}, []lifetimeCase{{"past Expires", past, time.Hour, rules.FromSMaxAge}})
	lifetimes(t, private, []lifetimeCase{{"past Expires, private", past, 0, rules.FromExpires}})
}

func TestFRS03_StaleAtEquality(t *testing.T) {
	req := rules.ReadRequest("GET", rules.Header{})
	s := response(&rules.Terms{}, 200, "Cache-Control: max-age=60", `ETag: "1"`, "Age: 10")
	for after, want := range map[time.Duration]rules.Action{
		0: rules.Serve, 50*time.Second - 1: rules.Serve, 50 * time.Second: rules.Validate, 50*time.Second + 1: rules.Validate,
	} {
		if d := rules.Reuse(&req, s, &rules.Terms{}, arrival.Add(after), false); d.Action != want {
			t.Errorf("after %v: %+v", after, d)
		}
	}
}

func TestFRS04_MaxAgeSilencesExpires(t *testing.T) {
	for _, expires := range []string{at(-100 * day), at(100 * day), at(0), "0", "-1", "", "tomorrow"} {
		lifetimes(t, &rules.Terms{}, []lifetimeCase{
			{"max-age, Expires " + expires, []string{"Cache-Control: max-age=60", "Expires: " + expires}, time.Minute, rules.FromMaxAge},
			{"max-age=0, Expires " + expires, []string{"Cache-Control: max-age=0", "Expires: " + expires}, 0, rules.FromMaxAge},
			{"bad max-age, Expires " + expires, []string{"Cache-Control: max-age=a", "Expires: " + expires}, 0, rules.FromMaxAge},
		})
	}
}

func TestFRS05_ExpiresCountsFromDate(t *testing.T) {
	lifetimes(t, &rules.Terms{}, []lifetimeCase{
		{"both ahead, equal", []string{"Date: " + at(day), "Expires: " + at(day)}, 0, rules.FromExpires},
		{"both ahead, earlier", []string{"Date: " + at(2*day), "Expires: " + at(day)}, 0, rules.FromExpires},
		{"both ahead, later", []string{"Date: " + at(day), "Expires: " + at(day+time.Minute)}, time.Minute, rules.FromExpires},
		{"both past, later", []string{"Date: " + at(-day), "Expires: " + at(-day+time.Minute)}, time.Minute, rules.FromExpires},
		{"no Date", []string{"Expires: " + at(time.Minute)}, time.Minute, rules.FromExpires},
		{"bad Date", []string{"Date: yesterday", "Expires: " + at(time.Minute)}, time.Minute, rules.FromExpires},
		{"two Dates", []string{"Date: " + at(-day), "Date: " + at(0), "Expires: " + at(time.Minute)}, time.Minute, rules.FromExpires},
	})
	// A lifetime that is over by the clock is over, although it is positive.
	if s := response(&rules.Terms{}, 200, "Date: "+at(-day), "Expires: "+at(-day+time.Minute)); s.Age(arrival) < s.Lifetime {
		t.Error("a response of yesterday is fresh")
	}
}

func TestFRS06_HeuristicsOnlyWhereAllowed(t *testing.T) {
	old := []string{"Date: " + at(0), "Last-Modified: " + at(-1000*time.Second)}
	allowed := map[int]bool{}
	for _, status := range []int{200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 451, 501} {
		allowed[status] = true
	}
	for status := 200; status < 600; status++ {
		s := response(&rules.Terms{}, status, old...)
		if got := s.Lifetime > 0; got != allowed[status] || s.Basis.Explicit() {
			t.Errorf("%d: heuristic lifetime %v", status, s.Lifetime)
		}
		if s := response(&rules.Terms{}, status, append([]string{"Cache-Control: public"}, old...)...); s.Lifetime != 100*time.Second {
			t.Errorf("%d, public: heuristic lifetime %v", status, s.Lifetime)
		}
	}
	for _, explicit := range []string{
		"Cache-Control: max-age=0", "Cache-Control: s-maxage=0", "Cache-Control: max-age=x", "Cache-Control: max-age", "Expires: 0", "Expires: ",
		"Expires: " + at(-day), "CDN-Cache-Control: max-age=0",
	} {
		if s := response(&rules.Terms{}, 200, append([]string{explicit}, old...)...); s.Lifetime != 0 || !s.Basis.Explicit() {
			t.Errorf("%s: lifetime %v by %v", explicit, s.Lifetime, s.Basis)
		}
	}
	if s := response(&rules.Terms{NoHeuristics: true}, 200, old...); s.Lifetime != 0 || s.Basis != rules.NoBasis {
		t.Errorf("heuristics off: %v", s.Lifetime)
	}
}

func TestFRS07_ATenthOfTheTimeSinceTheChange(t *testing.T) {
	date := "Date: " + at(0)
	for _, c := range []struct {
		terms rules.Terms
		lines []string
		want  time.Duration
	}{
		{rules.Terms{}, []string{date, "Last-Modified: " + at(-100*time.Second)}, 10 * time.Second},
		{rules.Terms{}, []string{date, "Last-Modified: " + at(-5*time.Second)}, 500 * time.Millisecond},
		{rules.Terms{}, []string{"Last-Modified: " + at(-100*time.Second)}, 10 * time.Second}, // without Date: arrival
		{rules.Terms{}, []string{"Date: " + at(100*time.Second), "Last-Modified: " + at(0)}, 10 * time.Second},
		{rules.Terms{}, []string{date, "Last-Modified: " + at(-10*day)}, day},
		{rules.Terms{}, []string{date, "Last-Modified: " + at(-1000*day)}, day},
		{rules.Terms{}, []string{date, "Last-Modified: Mon, 01 Jan 0001 00:00:01 GMT"}, day},
		{rules.Terms{HeuristicMax: time.Hour}, []string{date, "Last-Modified: " + at(-1000*day)}, time.Hour},
		{rules.Terms{HeuristicMax: 200 * day}, []string{date, "Last-Modified: " + at(-1000*day)}, 100 * day},
		{rules.Terms{}, []string{date, "Last-Modified: " + at(0)}, 0},
		{rules.Terms{}, []string{date, "Last-Modified: " + at(day)}, 0},
		{rules.Terms{}, []string{date}, 0},
		{rules.Terms{}, []string{date, `ETag: "1"`}, 0},
		{rules.Terms{}, []string{date, "Last-Modified: long ago"}, 0},
		{rules.Terms{}, []string{date, "Last-Modified: " + at(-100*day), "Last-Modified: " + at(-50*day)}, 0},
	} {
		if s := response(&c.terms, 200, c.lines...); s.Lifetime != c.want {
			t.Errorf("%q: %v, want %v", c.lines, s.Lifetime, c.want)
		}
	}
}

// The public test-suite's heuristic-delta tests, 3 s after the response.
func TestFRS07_HeuristicDeltas(t *testing.T) {
	req := rules.ReadRequest("GET", rules.Header{})
	for delta, fresh := range map[int]bool{
		5: false, 10: false, 30: false, 60: true, 300: true, 600: true, 1200: true, 1800: true, 3600: true, 43200: true, 86400: true,
	} {
		s := response(&rules.Terms{}, 200, "Date: "+at(0), "Last-Modified: "+at(-time.Duration(delta)*time.Second))
		d := rules.Reuse(&req, s, &rules.Terms{}, arrival.Add(3*time.Second), false)
		if got := d.Action == rules.Serve; got != fresh {
			t.Errorf("changed %d s before: served %v", delta, got)
		}
	}
}

func TestFRS11_HugeAgesSaturate(t *testing.T) {
	for _, age := range []string{"2147483647", "2147483648", "2147483649", "4294967296", "99999999999", "9223372036854775807", "18446744073709551616", strings.Repeat("9", 40)} {
		for _, lifetime := range []string{"max-age=3600", "max-age=2147483647", "max-age=" + age, "max-age=" + strings.Repeat("9", 40)} {
			s := delayed(&rules.Terms{}, 4*time.Second, 200, "Age: "+age, "Cache-Control: "+lifetime)
			for _, after := range []time.Duration{0, time.Second, 100 * 365 * day, math.MaxInt64} {
				got := s.Age(arrival.Add(after))
				if got < field.MaxDelta-time.Second || got < s.Lifetime {
					t.Errorf("Age %s, %s: age %v, lifetime %v after %v", age, lifetime, got, s.Lifetime, after)
				}
			}
			if req := rules.ReadRequest("GET", rules.Header{}); age != "2147483647" && rules.Shareable(&req, s, &rules.Terms{}) {
				t.Errorf("Age %s, %s: shared as if fresh", age, lifetime)
			}
		}
	}
}

func TestFRS14_ApparentAge(t *testing.T) {
	trusting := &rules.Terms{TrustDate: true}
	for _, c := range []struct {
		date  time.Duration
		age   string
		delay time.Duration
		want  time.Duration
	}{
		{-30 * time.Second, "", 0, 30 * time.Second},
		{30 * time.Second, "", 0, 0},
		{30 * time.Second, "", time.Second, time.Second},
		{-30 * time.Second, "10", 0, 30 * time.Second},
		{-30 * time.Second, "50", 0, 50 * time.Second},
		{-30 * time.Second, "28", 4 * time.Second, 32 * time.Second}, // not added up
		{-200 * 365 * day, "", 0, field.MaxDelta},
	} {
		lines := []string{"Date: " + at(c.date), "Cache-Control: max-age=60"}
		own := c.delay
		if c.age != "" {
			lines = append(lines, "Age: "+c.age)
			n, _ := time.ParseDuration(c.age + "s")
			own += n
		}
		if s := delayed(&rules.Terms{}, c.delay, 200, lines...); s.InitialAge != c.want {
			t.Errorf("%q after %v: initial age %v, want %v", lines, c.delay, s.InitialAge, c.want)
		}
		if s := delayed(trusting, c.delay, 200, lines...); s.InitialAge != own {
			t.Errorf("%q after %v, apparent-age off: initial age %v, want %v", lines, c.delay, s.InitialAge, own)
		}
	}
}

func TestSRV12_Immutable(t *testing.T) {
	honoring := rules.Terms{Requests: rules.HonorRequests}
	reloading := rules.Terms{ClientReload: true}
	for _, c := range []struct {
		terms  rules.Terms
		policy string
		ask    string
		after  time.Duration
		want   rules.Action
	}{
		{honoring, "max-age=60, immutable", "max-age=0", 5 * time.Second, rules.Serve},
		{honoring, "max-age=60, immutable=1", "max-age=0", 5 * time.Second, rules.Serve},
		{honoring, "max-age=60", "max-age=0", 5 * time.Second, rules.Validate},
		{honoring, "max-age=60, immutable", "no-cache", 5 * time.Second, rules.Validate},
		{honoring, "max-age=60, immutable", "max-age=0, no-cache", 5 * time.Second, rules.Validate},
		{honoring, "max-age=60, immutable", "max-age=1", 5 * time.Second, rules.Validate},
		{honoring, "max-age=60, immutable", "", 60 * time.Second, rules.Validate},
		{honoring, "max-age=60, immutable", "max-age=0", 60 * time.Second, rules.Validate},
		{honoring, "max-age=60, immutable, no-cache", "max-age=0", 5 * time.Second, rules.Validate},
		{reloading, "max-age=60, immutable", "no-cache", 5 * time.Second, rules.Validate},
		{reloading, "max-age=60", "max-age=0", 5 * time.Second, rules.Validate},
		{rules.Terms{}, "max-age=60", "max-age=0", 5 * time.Second, rules.Serve},
		{rules.Terms{}, "max-age=60, immutable", "", 60 * time.Second, rules.Validate},
	} {
		h := rules.Header{}
		if c.ask != "" {
			h["Cache-Control"] = []string{c.ask}
		}
		req := rules.ReadRequest("GET", h)
		s := response(&c.terms, 200, "Cache-Control: "+c.policy, `ETag: "1"`)
		if d := rules.Reuse(&req, s, &c.terms, arrival.Add(c.after), false); d.Action != c.want {
			t.Errorf("%s for %q after %v: %+v, want action %d", c.policy, c.ask, c.after, d, c.want)
		}
	}
}

func TestSRV13_ImmutableOfABodyToTheClose(t *testing.T) {
	terms := rules.Terms{Requests: rules.HonorRequests}
	req := rules.ReadRequest("GET", rules.Header{"Cache-Control": {"max-age=0"}})
	s := response(&terms, 200, "Cache-Control: max-age=60, immutable", `ETag: "1"`)
	s.ToClose = true
	if d := rules.Reuse(&req, s, &terms, arrival.Add(5*time.Second), false); d.Action != rules.Validate {
		t.Errorf("%+v", d)
	}
}

func ExampleStored_Age() {
	s := delayed(&rules.Terms{}, 4*time.Second, 200, "Age: 30")
	fmt.Println(s.Age(arrival), s.Age(arrival.Add(3*time.Second)))
	// Output: 34s 37s
}

// A store is told from when on a response is of no use by itself: after its
// freshness, and after what may be served stale without asking.
func TestUntil(t *testing.T) {
	soft := &rules.Terms{SoftTTL: 20 * time.Second}
	for _, c := range []struct {
		name  string
		terms *rules.Terms
		lines []string
		want  time.Duration // after arrival; negative: it never ends
	}{
		{"fresh", &rules.Terms{}, []string{"Cache-Control: max-age=60"}, time.Minute},
		{"aged on the way", &rules.Terms{}, []string{"Cache-Control: max-age=60", "Age: 45"}, 15 * time.Second},
		{"stale-while-revalidate", &rules.Terms{}, []string{"Cache-Control: max-age=60, stale-while-revalidate=30"}, 90 * time.Second},
		{"soft-ttl", soft, []string{"Cache-Control: max-age=60"}, 80 * time.Second},
		{"the longer of both", soft, []string{"Cache-Control: max-age=60, stale-while-revalidate=30"}, 90 * time.Second},
		{"stale forbidden", soft, []string{"Cache-Control: max-age=60, must-revalidate, stale-while-revalidate=30"}, time.Minute},
		{"never by itself", &rules.Terms{}, []string{"Cache-Control: no-cache", `ETag: "1"`}, -1},
		{"never fresh", &rules.Terms{}, []string{"Cache-Control: max-age=0", `ETag: "1"`}, -1},
		{"for ever", &rules.Terms{}, []string{"Cache-Control: max-age=99999999999"}, field.MaxDelta},
	} {
		until, ends := response(c.terms, 200, c.lines...).Until(c.terms)
		switch {
		case ends != (c.want >= 0):
			t.Errorf("%s: ends is %t", c.name, ends)
		case ends && until.Sub(arrival) != c.want:
			t.Errorf("%s: until %v after arrival, want %v", c.name, until.Sub(arrival), c.want)
		}
	}
}
