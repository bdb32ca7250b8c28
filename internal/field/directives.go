package field

import (
	"strings"
	"time"
)

// Directives are the known directives of a Cache-Control field (RFC 9111, 5.2;
// RFC 5861; RFC 8246) or of a field that takes its place. The zero value means
// none. Requests and responses share the type; the caller looks only at those
// that apply to the message at hand. Contradictions are kept: the caller lets
// the most restrictive directive win.
type Directives struct {
	Public          bool
	NoStore         bool
	NoTransform     bool
	Immutable       bool
	OnlyIfCached    bool
	MustRevalidate  bool
	ProxyRevalidate bool
	MustUnderstand  bool

	// NoCache and Private are the forms that cover the whole response. A field
	// list that is empty or cannot be read counts as this form.
	NoCache bool
	Private bool

	// NoCacheFields and PrivateFields hold the field names of the qualified
	// forms in canonical MIME form. They are nil if the unqualified form, being
	// stricter, was sent as well.
	NoCacheFields []string
	PrivateFields []string

	// MaxAge and SMaxAge are present and zero if the argument was invalid, or
	// if the directive occurred with differing values of which the first was
	// not the smallest.
	MaxAge  Delta
	SMaxAge Delta

	// MinFresh is the longest span asked for; an invalid one is zero.
	MinFresh Delta

	// MaxStale is MaxDelta if sent without a value and absent if invalid.
	MaxStale Delta

	// StaleWhileRevalidate and StaleIfError follow the rule of MaxAge, so that
	// doubtful ones permit nothing.
	StaleWhileRevalidate Delta
	StaleIfError         Delta
}

// ParseDirectives reads the lines of a Cache-Control field. It never fails:
// unknown members are skipped, arguments of directives that take none are
// ignored, and known directives with invalid arguments count in the most
// restrictive way.
func ParseDirectives(lines []string) Directives {
	p := directiveParser{}
	for _, rest := range lines {
		for rest != "" {
			var member string
			var open bool
			member, rest, open = cutQuoted(rest, ',')
			if member = trimBlanks(member); member != "" {
				p.add(member, open)
			}
		}
	}
	return p.result()
}

// directiveParser gathers directives; badMaxStale remembers what Directives has
// no room for.
type directiveParser struct {
	d           Directives
	badMaxStale bool
}

func (p *directiveParser) result() Directives {
	if p.d.NoCache {
		p.d.NoCacheFields = nil
	}
	if p.d.Private {
		p.d.PrivateFields = nil
	}
	if p.badMaxStale {
		p.d.MaxStale = Delta{}
	}
	return p.d
}

// longestName is the length of `stale-while-revalidate`.
const longestName = 22

// add takes in one member. open tells that a quoted string in it never ended,
// which means that the sender and we may disagree on what it says. Such a
// member can only restrict: it neither permits storing nor marks as immutable.
func (p *directiveParser) add(member string, open bool) {
	name, arg, _ := strings.Cut(member, "=")
	a := argument{text: arg, given: len(name) < len(member)}
	if a.given && name != "" && isBlank(name[len(name)-1]) {
		a.spaced = true
		name = trimBlanks(name)
	}

	var lower [longestName]byte
	if len(name) > len(lower) {
		return
	}
	for i := range len(name) {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower[i] = c
	}

	d := &p.d
	switch string(lower[:len(name)]) {
	case "no-store":
		d.NoStore = true
	case "no-transform":
		d.NoTransform = true
	case "only-if-cached":
		d.OnlyIfCached = true
	case "must-revalidate":
		d.MustRevalidate = true
	case "proxy-revalidate":
		d.ProxyRevalidate = true
	case "public":
		d.Public = d.Public || !open
	case "immutable":
		d.Immutable = d.Immutable || !open
	case "must-understand":
		// It can set no-store aside (RFC 9111, 5.2.2.3), hence permits.
		d.MustUnderstand = d.MustUnderstand || !open
	case "no-cache":
		a.names(&d.NoCache, &d.NoCacheFields)
	case "private":
		a.names(&d.Private, &d.PrivateFields)
	case "max-age":
		d.MaxAge.limit(a.seconds())
	case "s-maxage":
		d.SMaxAge.limit(a.seconds())
	case "min-fresh":
		d.MinFresh.demand(a.seconds())
	case "stale-while-revalidate":
		d.StaleWhileRevalidate.limit(a.seconds())
	case "stale-if-error":
		d.StaleIfError.limit(a.seconds())
	case "max-stale":
		if !a.given {
			d.MaxStale.limit(MaxDelta)
		} else if v, ok := a.valid(); ok {
			d.MaxStale.limit(v)
		} else {
			p.badMaxStale = true
		}
	}
}

// argument is what follows the name of a directive.
type argument struct {
	text   string
	given  bool // there was a `=`
	spaced bool // a blank came before it, which the grammar forbids
}

// valid returns the argument as a span; ok is false if it is not one.
func (a argument) valid() (v time.Duration, ok bool) {
	text, ok := unquote(a.text)
	if !ok || a.spaced {
		return 0, false
	}
	return parseSeconds(text)
}

// seconds is valid with zero for everything invalid, missing ones included.
func (a argument) seconds() time.Duration {
	v, ok := a.valid()
	if !ok {
		return 0
	}
	return v
}

// names adds the field names in the argument to fields, or sets all if the
// argument is missing, empty or not a list of field names.
func (a argument) names(all *bool, fields *[]string) {
	text, ok := unquote(a.text)
	if !ok || a.spaced || !appendFieldNames(fields, text) {
		*all = true
	}
}

// appendFieldNames adds the comma-separated names in text to fields. It reports
// false if there is none or one that cannot be a field name.
func appendFieldNames(fields *[]string, text string) bool {
	found := false
	for text != "" {
		var name string
		name, text, _ = strings.Cut(text, ",")
		if name = trimBlanks(name); name == "" {
			continue
		}
		if !appendFieldName(fields, name) {
			return false
		}
		found = true
	}
	return found
}
