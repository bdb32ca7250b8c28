package field

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func span(seconds int) Delta {
	return Delta{time.Duration(seconds) * time.Second, true}
}

// directiveCase gives lines and what must come of them.
type directiveCase struct {
	lines []string
	want  Directives
}

func line(s string) []string { return []string{s} }

func testDirectives(t *testing.T, cases []directiveCase) {
	t.Helper()
	for _, c := range cases {
		if got := ParseDirectives(c.lines); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q:\n got %+v\nwant %+v", c.lines, got, c.want)
		}
	}
}

func TestCCP01_NamesIgnoreCase(t *testing.T) {
	testDirectives(t, []directiveCase{
		{line("MaX-aGe=60, No-StOrE"), Directives{MaxAge: span(60), NoStore: true}},
		{line("PUBLIC, S-MAXAGE=5, STALE-WHILE-REVALIDATE=7"), Directives{Public: true, SMaxAge: span(5), StaleWhileRevalidate: span(7)}},
		{line("no\u212Aache, max\u2010age=5"), Directives{}},
	})
}

func TestCCP02_LinesActAsOneList(t *testing.T) {
	testDirectives(t, []directiveCase{
		{nil, Directives{}},
		{[]string{"no-cache", "max-age=60", "private"}, Directives{NoCache: true, MaxAge: span(60), Private: true}},
		{[]string{"max-age=60", "max-age=30"}, ParseDirectives(line("max-age=60, max-age=30"))},
		{[]string{"private=a", "", `private="b"`}, ParseDirectives(line(`private=a, private="b"`))},
		{[]string{`x="`, "max-age=60"}, Directives{MaxAge: span(60)}},
	})
}

func TestCCP03_EmptyMembersAndBlanks(t *testing.T) {
	for _, s := range []string{", ,max-age=60,", "\t max-age=60 \t", ",,\t,max-age=60 ,", ",max-age=60"} {
		testDirectives(t, []directiveCase{{line(s), Directives{MaxAge: span(60)}}})
	}
}

func TestCCP04_QuotedTextIsNoDirective(t *testing.T) {
	for _, s := range []string{
		`x="max-age=3600", max-age=1`,
		`max-age=1, x="max-age=3600"`,
		`x="max-age=3600, no-store", max-age="1"`,
		`max-age="1", x="a, max-age=3600"`,
		`"max-age=3600", max-age=1`,
		`x="\", max-age=3600", max-age=1`,
		`x="\\", max-age=1, y="\\\", no-store"`,
	} {
		testDirectives(t, []directiveCase{{line(s), Directives{MaxAge: span(1)}}})
	}
}

func TestCCP05_EscapesAndUnterminatedQuotes(t *testing.T) {
	testDirectives(t, []directiveCase{
		{line(`max-age="6\0"`), Directives{MaxAge: span(60)}},
		{line(`private="Set\-Cookie"`), Directives{PrivateFields: []string{"Set-Cookie"}}},
		{line(`x="abc, no-store, max-age=60`), Directives{}},
		{line(`max-age=60, x="\`), Directives{MaxAge: span(60)}},
		{[]string{`x="abc, no-store`, "max-age=60"}, Directives{MaxAge: span(60)}},
		{line(`", no-store`), Directives{}},
		// A known directive with such an argument may only restrict.
		{line(`public="x, max-age=60`), Directives{}},
		{line(`immutable="x, max-age=60`), Directives{}},
		{line(`must-understand="x, max-age=60`), Directives{}},
		{line(`no-store="x, max-age=60`), Directives{NoStore: true}},
		{line(`private="x, max-age=60`), Directives{Private: true}},
		{line(`max-age="60, public`), Directives{MaxAge: span(0)}},
		{line(`max-stale="60`), Directives{}},
	})
}

func TestCCP06_QuotedArgument(t *testing.T) {
	testDirectives(t, []directiveCase{
		{line(`max-age="60"`), Directives{MaxAge: span(60)}},
		{line(`s-maxage="60", stale-if-error="5", max-stale="7", min-fresh="9"`), Directives{
			SMaxAge: span(60), StaleIfError: span(5), MaxStale: span(7), MinFresh: span(9),
		}},
	})
}

func TestCCP07_UnknownDirectives(t *testing.T) {
	testDirectives(t, []directiveCase{
		{line(`foo, max-age=60, bar=1, baz="a,b", a-directive-name-longer-than-any-we-know=3, =5, "", no-store`), Directives{MaxAge: span(60), NoStore: true}},
		{line("max-ag=5, max-age-x=5, no store, nostore, xpublic"), Directives{}},
	})
}

func TestCCP08_InvalidFreshnessIsZero(t *testing.T) {
	for _, arg := range []string{
		"", "=", "=-1", "=+1", "=1.5", "=3600.0", "=60s", "=a60", "='60'", " =60", "= 60", "\t=60", "=\t60",
		`=""`, `=" 60"`, `="60 "`, `="60"x`, `=x"60"`, `="60" x`, "=6 0", "=60;a", "=0x10", "=٣", ` ="60"`, `= "60"`,
	} {
		testDirectives(t, []directiveCase{
			{line("max-age" + arg), Directives{MaxAge: span(0)}},
			{line("s-maxage" + arg + ", public"), Directives{SMaxAge: span(0), Public: true}},
			{line("stale-while-revalidate" + arg), Directives{StaleWhileRevalidate: span(0)}},
			{line("stale-if-error" + arg), Directives{StaleIfError: span(0)}},
			{line("min-fresh" + arg), Directives{MinFresh: span(0)}},
		})
	}
}

func TestCCP09_LeadingZeros(t *testing.T) {
	testDirectives(t, []directiveCase{
		{line("max-age=003600"), Directives{MaxAge: span(3600)}},
		{line("max-age=" + strings.Repeat("0", 50) + "7"), Directives{MaxAge: span(7)}},
	})
}

func TestCCP10_HugeValuesSaturate(t *testing.T) {
	const years68 = 68 * 365 * 24 * time.Hour
	for _, n := range []string{"2147483647", "2147483648", "99999999999", "9223372036854775807", "9223372036854775808", strings.Repeat("9", 40)} {
		d := ParseDirectives(line("max-age=" + n))
		if !d.MaxAge.Present || d.MaxAge.Value < years68 || d.MaxAge.Value > MaxDelta {
			t.Errorf("%s: %v", n, d.MaxAge)
		}
	}
	limit := MaxDelta // not constant, so that the sum is one of run time
	if sum := limit + limit + limit + limit; sum <= limit {
		t.Errorf("sum of saturated spans wraps to %v", sum)
	}
	if got := ParseDirectives(line("max-age=2147483649")).MaxAge.Value; got != MaxDelta {
		t.Errorf("got %v, want MaxDelta", got)
	}
}

func TestCCP11_DuplicateFreshness(t *testing.T) {
	testDirectives(t, []directiveCase{
		{line("max-age=60, max-age=60"), Directives{MaxAge: span(60)}},
		{line("max-age=60, max-age=060"), Directives{MaxAge: span(60)}},
		{line("max-age=1, max-age=1800"), Directives{MaxAge: span(1)}},
		{line("max-age=1800, max-age=1"), Directives{MaxAge: span(0)}},
		{line("max-age=5, max-age=7, max-age=3"), Directives{MaxAge: span(0)}},
		{line("max-age=60, max-age=x"), Directives{MaxAge: span(0)}},
		{line("max-age=x, max-age=60"), Directives{MaxAge: span(0)}},
		{[]string{"s-maxage=9", "s-maxage=8"}, Directives{SMaxAge: span(0)}},
		{line("s-maxage=8, max-age=9, s-maxage=9"), Directives{SMaxAge: span(8), MaxAge: span(9)}},
		{line("stale-if-error=9, stale-if-error=8"), Directives{StaleIfError: span(0)}},
		{line("stale-while-revalidate=8, stale-while-revalidate=9"), Directives{StaleWhileRevalidate: span(8)}},
		// The longest demand is the strictest.
		{line("min-fresh=8, min-fresh=9, min-fresh=7"), Directives{MinFresh: span(9)}},
	})
}

func TestCCP12_ContradictionsAreKept(t *testing.T) {
	testDirectives(t, []directiveCase{
		{line("public, no-store"), Directives{Public: true, NoStore: true}},
		{line("max-age=60, no-cache"), Directives{MaxAge: span(60), NoCache: true}},
		{line("public, private"), Directives{Public: true, Private: true}},
		// The stricter form of one directive stands, in either order.
		{line(`private="a", private`), Directives{Private: true}},
		{line(`no-cache, no-cache="a"`), Directives{NoCache: true}},
	})
}

func TestCCP13_NeedlessArguments(t *testing.T) {
	testDirectives(t, []directiveCase{
		{line(`no-store=1, must-revalidate="x", immutable=0`), Directives{NoStore: true, MustRevalidate: true, Immutable: true}},
		{line(`public=, proxy-revalidate = no, must-understand="a,b", no-transform=?0, only-if-cached="x"y`), Directives{
			Public: true, ProxyRevalidate: true, MustUnderstand: true, NoTransform: true, OnlyIfCached: true,
		}},
	})
}

func TestCCP14_EmptyOrUnparsableFieldList(t *testing.T) {
	for _, arg := range []string{"", "=", `=""`, `=","`, `=" , "`, `="a b"`, `="a, b;c"`, "=a;b", `="a"x`, `= "a"`, ` ="a"`, " = a", `="a`, `="ä"`} {
		testDirectives(t, []directiveCase{
			{line("no-cache" + arg), Directives{NoCache: true}},
			{line("private" + arg), Directives{Private: true}},
		})
	}
}

func TestCCP15_FieldLists(t *testing.T) {
	testDirectives(t, []directiveCase{
		{line("no-cache=Set-Cookie"), Directives{NoCacheFields: []string{"Set-Cookie"}}},
		{line("private=sEt-cOOkie"), Directives{PrivateFields: []string{"Set-Cookie"}}},
		{line(`private="a, SET-COOKIE,,x-b ", no-cache="X-C"`), Directives{
			PrivateFields: []string{"A", "Set-Cookie", "X-B"}, NoCacheFields: []string{"X-C"},
		}},
		{line(`private="a", private="b"`), Directives{PrivateFields: []string{"A", "B"}}},
	})
}

// There is no clock in this test: on input of this size a quadratic parser runs
// into the time limit of go test.
func TestCCP20_LinearTime(t *testing.T) {
	const n = 1 << 20
	for _, unit := range []string{",", `"`, `\`, `"\`, `",`, `a="`, " ", " ,", "=", ";", "a,", "W/", `""`, "(", "1"} {
		s := strings.Repeat(unit, n/len(unit))
		for _, lines := range [][]string{{s}, {`private="` + s}, {`max-age="` + s + `"`}, {"bytes=" + s}} {
			ParseDirectives(lines)
			ParseTargeted(lines)
			ParseSurrogate(lines, "us")
			ParseAge(lines)
			ParseETags(lines)
			MatchesETag(lines, ETag{Opaque: `"x"`})
			ParseRange(lines[0])
			ParseContentRange(lines[0])
			ParseDate(lines[0], time.Time{})
			ParseVary(lines)
			VaryValue("Foo", lines, true)
			VaryValue("Accept-Language", lines, true)
			LanguageSelects(lines, lines)
			HasToken(lines, "close")
			CountVia(lines, "us")
			CountCDNLoop(lines, "us")
		}
	}
	hostile := strings.Repeat(",", 64<<10) + "max-age=60" + strings.Repeat(",", 64<<10)
	testDirectives(t, []directiveCase{{line(hostile), Directives{MaxAge: span(60)}}})
}

func TestREQ04_MaxStale(t *testing.T) {
	testDirectives(t, []directiveCase{
		{line("max-stale"), Directives{MaxStale: Delta{MaxDelta, true}}},
		{line("max-stale=10"), Directives{MaxStale: span(10)}},
		// Nothing invalid may widen what the client takes.
		{line("max-stale="), Directives{}},
		{line("max-stale=x"), Directives{}},
		{line("max-stale =5"), Directives{}},
		{line("max-stale=10, max-stale=x"), Directives{}},
		{line("max-stale=-1, max-stale"), Directives{}},
		{line("max-stale=10, max-stale"), Directives{MaxStale: span(10)}},
	})
}

func TestDelta_Covers(t *testing.T) {
	for _, c := range []struct {
		d       Delta
		overdue time.Duration
		want    bool
	}{
		{Delta{}, 0, false},
		{span(0), 0, false},
		{span(1), 0, true},
		{span(1), time.Second - 1, true},
		{span(1), time.Second, false},
	} {
		if got := c.d.Covers(c.overdue); got != c.want {
			t.Errorf("%v.Covers(%v) = %v", c.d, c.overdue, got)
		}
	}
}

func FuzzDirectives(f *testing.F) {
	for _, s := range []string{
		"max-age=60, no-store", `x="max-age=3600", max-age=1`, `private="a, b", no-cache`, "max-age=1,max-age=2",
		`max-age="6\0", x="`, "max-stale, max-stale=7, min-fresh=9", ",, ,", `s-maxage = "5"`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := ParseDirectives([]string{s})

		var split, spaced []string
		for member := range Members([]string{s}) {
			split = append(split, member)
			spaced = append(spaced, "\t, "+member, "")
		}
		for _, lines := range [][]string{split, spaced} {
			if other := ParseDirectives(lines); !reflect.DeepEqual(got, other) {
				t.Fatalf("%q: %+v\nsplit into %q: %+v", s, got, lines, other)
			}
		}

		for _, member := range split {
			name, arg, _ := strings.Cut(member, "=")
			sent, ok := parseSeconds(arg)
			if !ok {
				continue
			}
			for name2, d := range map[string]Delta{
				"max-age": got.MaxAge, "s-maxage": got.SMaxAge, "max-stale": got.MaxStale,
				"stale-while-revalidate": got.StaleWhileRevalidate, "stale-if-error": got.StaleIfError,
			} {
				if strings.EqualFold(name, name2) && d.Value > sent {
					t.Fatalf("%q: %s is %v, but %v was sent", s, name2, d.Value, sent)
				}
			}
		}

		for _, d := range []Delta{got.MaxAge, got.SMaxAge, got.MinFresh, got.MaxStale, got.StaleWhileRevalidate, got.StaleIfError} {
			if d.Value < 0 || d.Value > MaxDelta || !d.Present && d.Value != 0 {
				t.Fatalf("%q: %+v", s, got)
			}
		}
		if got.NoCache && got.NoCacheFields != nil || got.Private && got.PrivateFields != nil {
			t.Fatalf("%q: both forms: %+v", s, got)
		}
		for _, name := range append(got.NoCacheFields, got.PrivateFields...) {
			if !IsToken(name) {
				t.Fatalf("%q: field name %q", s, name)
			}
		}
	})
}

func BenchmarkDirectives(b *testing.B) {
	for name, s := range map[string]string{
		"short": "max-age=3600",
		"long":  `public, max-age=60, s-maxage=3600, stale-while-revalidate=30, stale-if-error="86400", must-revalidate`,
	} {
		lines := []string{s}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ParseDirectives(lines)
			}
		})
	}
}
