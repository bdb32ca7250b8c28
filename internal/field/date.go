package field

import (
	"strings"
	"time"
)

const (
	months   = "JanFebMarAprMayJunJulAugSepOctNovDec"
	lastYear = 9999 // the largest year four digits can name
)

var weekdays = [...]string{
	"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday",
}

// ParseDate reads an HTTP date in any of its three forms (RFC 9110, 5.6.7). The
// result is in UTC and has whole seconds. ok is false if s is anything else:
// the form is taken strictly, save that letters may be in any case and that the
// weekday need not fit the date. Second 60 is the second after 59.
//
// now places the two-digit years of the RFC 850 form: the latest year that
// makes the date at most 50 years ahead of now.
//
// http.ParseTime is no substitute: it lets one-digit hours, doubled blanks and
// any zone pass, refuses `gmt` and second 60, and splits two-digit years at 69
// for ever.
func ParseDate(s string, now time.Time) (t time.Time, ok bool) {
	const (
		fixedLen   = len("Sun, 06 Nov 1994 08:49:37 GMT")
		asctimeLen = len("Sun Nov  6 08:49:37 1994")
	)
	var d civil
	switch comma := strings.IndexByte(s, ','); {
	case comma == 3 && len(s) == fixedLen:
		ok = d.fixed(s)
	case comma > 3:
		ok = d.rfc850(s[:comma], s[comma:], now)
	case comma < 0 && len(s) == asctimeLen:
		ok = d.asctime(s)
	}
	if !ok || !d.exists() {
		return time.Time{}, false
	}
	t = d.instant()
	// Second 60 may lead into a year that AppendDate could not give back.
	if t.Year() > lastYear {
		return time.Time{}, false
	}
	return t, true
}

// AppendDate appends t to dst in the fixed form (RFC 9110, 5.6.7), fractions of
// a second cut off. Times outside the years 0 to 9999, which that form cannot
// express, become its first or last second.
func AppendDate(dst []byte, t time.Time) []byte {
	t = t.UTC()
	switch year := t.Year(); {
	case year < 0:
		t = time.Date(0, time.January, 1, 0, 0, 0, 0, time.UTC)
	case year > lastYear:
		t = time.Date(lastYear, time.December, 31, 23, 59, 59, 0, time.UTC)
	}
	return t.AppendFormat(dst, "Mon, 02 Jan 2006 15:04:05 GMT")
}

// civil is a date as written; numbers that are none are negative.
type civil struct {
	year, day, hour, minute, second int
	month                           time.Month
}

// fixed reads `Sun, 06 Nov 1994 08:49:37 GMT`.
func (d *civil) fixed(s string) bool {
	d.day, d.month, d.year = number(s[5:7]), month(s[8:11]), number(s[12:16])
	return isWeekday(s[:3], true) && s[4] == ' ' && s[7] == ' ' && s[11] == ' ' &&
		d.clock(s[16:25]) && EqualFold(s[25:], " GMT")
}

// rfc850 reads `Sunday, 06-Nov-94 08:49:37 GMT`, cut before the comma.
func (d *civil) rfc850(weekday, s string, now time.Time) bool {
	if len(s) != len(", 06-Nov-94 08:49:37 GMT") {
		return false
	}
	d.day, d.month, d.year = number(s[2:4]), month(s[5:8]), number(s[9:11])
	if !isWeekday(weekday, false) || s[1] != ' ' || s[4] != '-' || s[8] != '-' ||
		!d.clock(s[11:20]) || !EqualFold(s[20:], " GMT") || d.year < 0 {
		return false
	}
	limit := now.UTC().AddDate(50, 0, 0)
	d.year += limit.Year() / 100 * 100
	if d.instant().After(limit) {
		d.year -= 100
	}
	return true
}

// asctime reads `Sun Nov  6 08:49:37 1994`.
func (d *civil) asctime(s string) bool {
	day := s[8:10]
	if day[0] == ' ' {
		day = day[1:]
	}
	d.day, d.month, d.year = number(day), month(s[4:7]), number(s[20:])
	return isWeekday(s[:3], true) && s[3] == ' ' && s[7] == ' ' &&
		d.clock(s[10:19]) && s[19] == ' '
}

// clock reads ` 08:49:37`.
func (d *civil) clock(s string) bool {
	d.hour, d.minute, d.second = number(s[1:3]), number(s[4:6]), number(s[7:9])
	return s[0] == ' ' && s[3] == ':' && s[6] == ':'
}

// instant is the point in time; days past the end of the month run over.
func (d *civil) instant() time.Time {
	return time.Date(d.year, d.month, d.day, d.hour, d.minute, d.second, 0, time.UTC)
}

// exists reports whether there is such a date and time of day.
func (d *civil) exists() bool {
	if d.year < 0 || d.month == 0 || d.day < 1 || d.hour < 0 || d.hour > 23 ||
		d.minute < 0 || d.minute > 59 || d.second < 0 || d.second > 60 {
		return false
	}
	midnight := time.Date(d.year, d.month, d.day, 0, 0, 0, 0, time.UTC)
	return midnight.Day() == d.day
}

// number reads digits; -1 if there is anything else.
func number(s string) int {
	n := 0
	for i := range len(s) {
		if !isDigit(s[i]) {
			return -1
		}
		n = n*10 + int(s[i]-'0')
	}
	return n
}

// month reads a month's three letters; 0 if they are none.
func month(s string) time.Month {
	for i := 0; i < len(months); i += 3 {
		if EqualFold(s, months[i:i+3]) {
			return time.Month(i/3 + 1)
		}
	}
	return 0
}

func isWeekday(s string, short bool) bool {
	for _, name := range weekdays {
		if short {
			name = name[:3]
		}
		if EqualFold(s, name) {
			return true
		}
	}
	return false
}
