package field

import (
	"testing"
	"time"
)

var now2026 = time.Date(2026, time.October, 18, 12, 0, 0, 0, time.UTC)

func testValidDates(t *testing.T, cases map[string]time.Time) {
	t.Helper()
	for s, want := range cases {
		got, ok := ParseDate(s, now2026)
		if !ok || !got.Equal(want) || got.Location() != time.UTC {
			t.Errorf("%q: %v %v, want %v", s, got, ok, want)
		}
	}
}

func testInvalidDates(t *testing.T, cases ...string) {
	t.Helper()
	for _, s := range cases {
		if got, ok := ParseDate(s, now2026); ok || !got.IsZero() {
			t.Errorf("%q accepted as %v", s, got)
		}
	}
}

func utc(year int, month time.Month, day, hour, minute, second int) time.Time {
	return time.Date(year, month, day, hour, minute, second, 0, time.UTC)
}

func testDAT01(t *testing.T) {
	want := utc(1994, time.November, 6, 8, 49, 37)
	testValidDates(t, map[string]time.Time{
		"Sun, 06 Nov 1994 08:49:37 GMT":  want,
		"Sunday, 06-Nov-94 08:49:37 GMT": want,
		"Sun Nov  6 08:49:37 1994":       want,
		"Wed Nov 16 08:49:37 1994":       utc(1994, time.November, 16, 8, 49, 37),
	})
}

func TestDAT01_ThreeForms(t *testing.T) { testDAT01(t) }

func TestCND04_ThreeForms(t *testing.T) { testDAT01(t) }

func testDAT02(t *testing.T) {
	testValidDates(t, map[string]time.Time{
		"THU, 18 AUG 2050 02:01:18 gMT":    utc(2050, time.August, 18, 2, 1, 18),
		"thu, 18 aug 2050 02:01:18 gmt":    utc(2050, time.August, 18, 2, 1, 18),
		"THURSDAY, 18-aUg-50 02:01:18 Gmt": utc(2050, time.August, 18, 2, 1, 18),
		"tHU aUG 18 02:01:18 2050":         utc(2050, time.August, 18, 2, 1, 18),
	})
	testInvalidDates(t, "\u017funday, 06-Nov-94 08:49:37 GMT") // a letter that Unicode folds to s
}

func TestDAT02_LettersInAnyCase(t *testing.T) { testDAT02(t) }

func testDAT03(t *testing.T) {
	testValidDates(t, map[string]time.Time{
		"Sunday, 06-Nov-75 08:49:37 GMT":   utc(2075, time.November, 6, 8, 49, 37),
		"Sunday, 06-Nov-99 08:49:37 GMT":   utc(1999, time.November, 6, 8, 49, 37),
		"Sunday, 18-Oct-76 12:00:00 GMT":   utc(2076, time.October, 18, 12, 0, 0),
		"Sunday, 18-Oct-76 12:00:01 GMT":   utc(1976, time.October, 18, 12, 0, 1),
		"Sunday, 01-Jan-00 00:00:00 GMT":   utc(2000, time.January, 1, 0, 0, 0),
		"Tuesday, 29-Feb-00 00:00:00 GMT":  utc(2000, time.February, 29, 0, 0, 0),
		"Thursday, 01-Jan-70 00:00:00 GMT": utc(2070, time.January, 1, 0, 0, 0),
	})
	for _, c := range []struct {
		now  int
		s    string
		want int
	}{
		{1994, "Sunday, 06-Nov-94 08:49:37 GMT", 1994},
		{1994, "Sunday, 06-Nov-43 08:49:37 GMT", 2043},
		{1994, "Sunday, 06-Nov-45 08:49:37 GMT", 1945},
		{2060, "Sunday, 06-Nov-05 08:49:37 GMT", 2105},
		{2060, "Sunday, 06-Nov-11 08:49:37 GMT", 2011},
		{2099, "Sunday, 06-Nov-00 08:49:37 GMT", 2100},
	} {
		got, ok := ParseDate(c.s, utc(c.now, time.June, 1, 0, 0, 0))
		if !ok || got.Year() != c.want {
			t.Errorf("%q in %d: %v %v, want year %d", c.s, c.now, got, ok, c.want)
		}
	}
	// 2100 is no leap year, and it is the century that now selects.
	if got, ok := ParseDate("Monday, 29-Feb-00 00:00:00 GMT", utc(2090, time.June, 1, 0, 0, 0)); ok {
		t.Errorf("29 February 2100 accepted as %v", got)
	}
	// now is a point in time, not a reading on a wall clock.
	west := time.FixedZone("", -11*3600)
	if got, _ := ParseDate("Friday, 01-Jan-00 00:30:00 GMT", utc(2050, time.January, 1, 1, 0, 0).In(west)); got.Year() != 2100 {
		t.Errorf("zone of now matters: %v", got)
	}
}

func TestDAT03_TwoDigitYears(t *testing.T) { testDAT03(t) }

func testDAT04(t *testing.T) {
	testInvalidDates(t,
		"Thu, 18 Aug 2050 02:01:18 UTC",
		"Thu, 18 Aug 2050 02:01:18 AEST",
		"Thu, 18 Aug 2050 02:01:18 +0000",
		"Thu, 18 Aug 2050 02:01:18 Z",
		"Thu, 18 Aug 2050 02:01:18",
		"Thursday, 18-Aug-50 02:01:18 UTC",
		"Thursday, 18-Aug-50 02:01:18 EST",
		"Thu Aug 18 02:01:18 GMT 2050",
		"Thu Aug 18 02:01:18 2050 GMT",
	)
}

func TestDAT04_OtherZones(t *testing.T) { testDAT04(t) }

func testDAT05(t *testing.T) {
	testInvalidDates(t,
		"", "0", "-1", "now",
		"Thu, 18 Aug 50 02:01:18 GMT",
		"Thu 18 Aug 2050 02:01:18 GMT",
		"Thu, 18  Aug  2050 02:01:18 GMT",
		"Thu,  18 Aug 2050 02:01:18 GMT",
		"Thu,18 Aug 2050 02:01:18 GMT",
		"Thu, 18 Aug 2050  02:01:18 GMT",
		"Thu, 18 Aug 2050 02:01:18  GMT",
		"Thu, 18-Aug-2050 02:01:18 GMT",
		"Thursday, 18-Aug-2050 02:01:18 GMT",
		"Thursday, 18 Aug 50 02:01:18 GMT",
		"Thu, 18 Aug 2050 02.01.18 GMT",
		"Thu, 18 Aug 2050 2:01:18 GMT",
		"Thu, 18 Aug 2050  2:01:18 GMT",
		"Thursday, 18-Aug-50 2:01:18 GMT",
		"Thursday, 18-Aug-50  2:01:18 GMT",
		"Thu Aug 18 2:01:18 2050",
		"Thu Aug 18  2:01:18 2050",
		"Thu Aug 6 02:01:18 2050",
		"Thu  Aug 18 02:01:18 2050",
		"Thu, 8 Aug 2050 02:01:18 GMT",
		"Thu,  8 Aug 2050 02:01:18 GMT",
		"Thu, 18 Aug 2050 02:01:18 GMT ",
		"Thu, 18 Aug 2050 02:01:18 GMT x",
		" Thu, 18 Aug 2050 02:01:18 GMT",
		"Thu Aug 18 02:01:18 2050 ",
		"Wed, 30 Feb 2050 02:01:18 GMT",
		"Mon, 29 Feb 2100 02:01:18 GMT",
		"Thu, 31 Apr 2050 02:01:18 GMT",
		"Thu, 00 Aug 2050 02:01:18 GMT",
		"Thu, 32 Aug 2050 02:01:18 GMT",
		"Thu, 18 Aug 2050 24:00:00 GMT",
		"Thu, 18 Aug 2050 02:60:18 GMT",
		"Thu, 18 Aug 2050 02:01:61 GMT",
		"Thu, 18 Aug 2050 02:01:-1 GMT",
		"Thu, +8 Aug 2050 02:01:18 GMT",
		"Thu, 18 Aug -050 02:01:18 GMT",
		"Thu, 18 Agu 2050 02:01:18 GMT",
		"Thu, 18 anF 2050 02:01:18 GMT",
		"Thursday, 30-Feb-50 02:01:18 GMT",
		"Thursday, 18-Aug-5x 02:01:18 GMT",
		"Thu Feb 30 02:01:18 2050",
		"Thu Feb  0 02:01:18 2050",
		"Thu Feb    02:01:18 2050",
	)
	testValidDates(t, map[string]time.Time{
		"Thu, 18 Aug 2050 02:01:60 GMT":    utc(2050, time.August, 18, 2, 2, 0),
		"Sat, 31 Dec 2016 23:59:60 GMT":    utc(2017, time.January, 1, 0, 0, 0),
		"Thursday, 18-Aug-50 02:01:60 GMT": utc(2050, time.August, 18, 2, 2, 0),
		"Thu Aug 18 02:01:60 2050":         utc(2050, time.August, 18, 2, 2, 0),
		"Thu, 29 Feb 2024 00:00:00 GMT":    utc(2024, time.February, 29, 0, 0, 0),
	})
}

func TestDAT05_InvalidForms(t *testing.T) { testDAT05(t) }

func testDAT06(t *testing.T) {
	testValidDates(t, map[string]time.Time{
		"Mon, 06 Nov 1994 08:49:37 GMT":  utc(1994, time.November, 6, 8, 49, 37),
		"Friday, 06-Nov-94 08:49:37 GMT": utc(1994, time.November, 6, 8, 49, 37),
		"Sat Nov  6 08:49:37 1994":       utc(1994, time.November, 6, 8, 49, 37),
	})
	testInvalidDates(t,
		"Foo, 06 Nov 1994 08:49:37 GMT", "Fooday, 06-Nov-94 08:49:37 GMT", "Foo Nov  6 08:49:37 1994",
		"Sun, 06-Nov-94 08:49:37 GMT", "Sunday, 06 Nov 1994 08:49:37 GMT", "   , 06 Nov 1994 08:49:37 GMT",
	)
}

func TestDAT06_WeekdayNeedNotFit(t *testing.T) { testDAT06(t) }

// Not parallel with anything: it sets the zone of the process.
func TestDAT07_AnyTimeZone(t *testing.T) {
	local := time.Local
	defer func() { time.Local = local }()
	for _, zone := range []*time.Location{
		time.UTC, time.FixedZone("GMT", 14*3600), time.FixedZone("AEST", 10*3600), time.FixedZone("west", -11*3600-1800),
	} {
		time.Local = zone
		t.Run(zone.String(), func(t *testing.T) {
			testDAT01(t)
			testDAT02(t)
			testDAT03(t)
			testDAT04(t)
			testDAT05(t)
			testDAT06(t)
			testDAT08(t)
			testDAT13(t)
		})
	}
}

func testDAT08(t *testing.T) {
	cases := map[string]time.Time{
		"Wed, 31 Dec 1969 23:59:59 GMT": utc(1969, time.December, 31, 23, 59, 59),
		"Mon, 01 Jan 1601 00:00:00 GMT": utc(1601, time.January, 1, 0, 0, 0),
		"Tue, 19 Jan 2038 03:14:08 GMT": utc(2038, time.January, 19, 3, 14, 8),
		"Fri, 31 Dec 9999 23:59:59 GMT": utc(9999, time.December, 31, 23, 59, 59),
		"Sat, 01 Jan 0000 00:00:00 GMT": utc(0, time.January, 1, 0, 0, 0),
	}
	testValidDates(t, cases)
	for s := range cases {
		d, _ := ParseDate(s, now2026)
		if got := string(AppendDate(nil, d)); got != s {
			t.Errorf("%q comes back as %q", s, got)
		}
	}
	last, _ := ParseDate("Fri, 31 Dec 9999 23:59:59 GMT", now2026)
	if last.Sub(now2026) <= 0 || now2026.Sub(last) >= 0 {
		t.Error("difference to the year 9999 overflows")
	}
	testInvalidDates(t, "Fri, 31 Dec 9999 23:59:60 GMT") // would be year 10000
}

func TestDAT08_FarDates(t *testing.T) { testDAT08(t) }

// DAT-09 and CND-05 at the level of syntax: none of these is a date.
func TestDAT09_InvalidExpires(t *testing.T) {
	testInvalidDates(t, "", "0", "-1", "3600", "never")
}

func TestCND05_ListOfDates(t *testing.T) {
	testInvalidDates(t,
		"Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
		"Sun, 06 Nov 1994 08:49:37 GMT,",
		`"Sun, 06 Nov 1994 08:49:37 GMT"`,
		"Sun, 06 Nov 1994 08:49:37 GMT; length=5",
	)
}

func testDAT13(t *testing.T) {
	for _, c := range []struct {
		t    time.Time
		want string
	}{
		{utc(1994, time.November, 6, 8, 49, 37), "Sun, 06 Nov 1994 08:49:37 GMT"},
		{utc(1994, time.November, 6, 8, 49, 37).Local().Add(999 * time.Millisecond), "Sun, 06 Nov 1994 08:49:37 GMT"},
		{time.Date(2026, time.January, 1, 1, 0, 0, 0, time.FixedZone("", 2*3600)), "Wed, 31 Dec 2025 23:00:00 GMT"},
		{utc(10000, time.January, 1, 0, 0, 0), "Fri, 31 Dec 9999 23:59:59 GMT"},
		{utc(-1, time.January, 1, 0, 0, 0), "Sat, 01 Jan 0000 00:00:00 GMT"},
	} {
		if got := string(AppendDate([]byte("x"), c.t)); got != "x"+c.want {
			t.Errorf("%v: %q, want %q", c.t, got, c.want)
		}
	}
}

func TestDAT13_FixedForm(t *testing.T) { testDAT13(t) }

// Each of these is one that http.ParseTime gets wrong.
func TestGO08_BetterThanTheStandardLibrary(t *testing.T) {
	testInvalidDates(t, "Thu, 18 Aug 2050 2:01:18 GMT", "Thu, 18  Aug  2050 02:01:18 GMT", "Thursday, 18-Aug-50 02:01:18 UTC")
	testValidDates(t, map[string]time.Time{
		"Thu, 18 Aug 2050 02:01:18 gMT":    utc(2050, time.August, 18, 2, 1, 18),
		"Thu, 18 Aug 2050 02:01:60 GMT":    utc(2050, time.August, 18, 2, 2, 0),
		"Thursday, 18-Aug-70 02:01:18 GMT": utc(2070, time.August, 18, 2, 1, 18),
	})
}

func FuzzDate(f *testing.F) {
	for _, s := range []string{
		"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "Thu, 18 Aug 2050 02:01:60 GMT",
		"Fri, 31 Dec 9999 23:59:60 GMT", "Monday, 29-Feb-00 00:00:00 GMT", "0",
	} {
		f.Add(s, int64(1792324800))
	}
	f.Fuzz(func(t *testing.T, s string, seconds int64) {
		now := time.Unix(seconds%(1<<38), 0)
		got, ok := ParseDate(s, now)
		if !ok {
			return
		}
		if got.Nanosecond() != 0 || got.Location() != time.UTC || got.Year() < 0 || got.Year() > 9999 {
			t.Fatalf("%q: %v", s, got)
		}
		text := string(AppendDate(nil, got))
		if again, ok := ParseDate(text, now); !ok || !again.Equal(got) {
			t.Fatalf("%q is %v, written %q, read %v", s, got, text, again)
		}
		if len(s) > 29 && s[2] != ',' && got.After(now.UTC().AddDate(50, 0, 0)) {
			t.Fatalf("%q in %v is %v", s, now, got)
		}
		// What the standard library takes as well, it takes for the same time.
		for _, layout := range []string{"Mon, 02 Jan 2006 15:04:05 GMT", time.ANSIC} {
			if std, err := time.Parse(layout, s); err == nil && !std.Equal(got) {
				t.Fatalf("%q: %v, package time %v", s, got, std)
			}
		}
	})
}

func BenchmarkDate(b *testing.B) {
	for name, s := range map[string]string{
		"fixed": "Sun, 06 Nov 1994 08:49:37 GMT", "rfc850": "Sunday, 06-Nov-94 08:49:37 GMT", "asctime": "Sun Nov  6 08:49:37 1994",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ParseDate(s, now2026)
			}
		})
	}
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		var buf [32]byte
		for b.Loop() {
			AppendDate(buf[:0], now2026)
		}
	})
}
