package field

import "strings"

// Surrogate is what Surrogate-Control (W3C Note edge-arch, 2001) asks of one
// surrogate.
type Surrogate struct {
	// Directives has NoStore, MaxAge and StaleWhileRevalidate at most:
	// `max-age=60+30` is a lifetime of 60 s and 30 s of permitted staleness.
	Directives
	// Content names the processing asked for, as in `ESI/1.0`; empty if none.
	// It counts even if ParseSurrogate reports false.
	Content string
}

// ParseSurrogate reads the lines of a Surrogate-Control field for the surrogate
// whose device token is device, compared exactly; an empty one means that only
// unaddressed directives count. ok is false if none of the directives for us
// says anything about storing. Such a field, like the bare `content="ESI/1.0"`
// that frameworks send beside Cache-Control, leaves the lifetime to the next
// source.
//
// A directive addressed to device beats an unaddressed one of the same name;
// those addressed elsewhere are ignored. Names compare without regard to case,
// invalid lifetimes count as zero and differing ones as in Cache-Control.
//
// no-store-remote has no effect: it is meant for surrogates far from the
// origin, and the operator who switches Surrogate-Control on declares this one
// to be the origin's own.
func ParseSurrogate(lines []string, device string) (s Surrogate, ok bool) {
	var general, ours surrogateParser
	for member := range Members(lines) {
		directive, target, _ := cutQuoted(member, ';')
		directive = trimBlanks(directive)
		switch target = trimBlanks(target); target {
		case "":
			general.add(directive)
		case device:
			ours.add(directive)
		}
	}

	s.NoStore = general.NoStore || ours.NoStore
	s.Content = general.Content
	if ours.Content != "" {
		s.Content = ours.Content
	}
	lifetime := general
	if ours.MaxAge.Present {
		lifetime = ours
	}
	s.MaxAge = lifetime.MaxAge
	if lifetime.extended {
		s.StaleWhileRevalidate = lifetime.stale
	}
	return s, s.NoStore || s.MaxAge.Present
}

// surrogateParser gathers the directives of one addressee.
type surrogateParser struct {
	Surrogate
	stale    Delta // the M of `N+M`, 0 where there is none
	extended bool  // there was one
}

func (p *surrogateParser) add(directive string) {
	name, arg, _ := strings.Cut(directive, "=")
	trimmed := trimBlanks(name)
	switch {
	case EqualFold(trimmed, "no-store"):
		p.NoStore = true
	case EqualFold(trimmed, "max-age"):
		if trimmed != name {
			arg = "" // a blank before `=` makes any argument invalid
		}
		p.addMaxAge(arg)
	case EqualFold(trimmed, "content"):
		if p.Content == "" {
			p.Content = contentText(arg)
		}
	}
}

// addMaxAge takes in `N` or `N+M`; if either number is invalid both count as 0.
func (p *surrogateParser) addMaxAge(arg string) {
	text, _ := unquote(arg)
	first, second, extended := strings.Cut(text, "+")
	lifetime, ok := parseSeconds(first)
	stale, okStale := parseSeconds(second)
	if !ok || extended && !okStale {
		lifetime, stale = 0, 0
	}
	p.MaxAge.limit(lifetime)
	p.stale.limit(stale)
	p.extended = p.extended || extended
}

// contentText is the argument of content, whose usual values hold a slash and
// are therefore no tokens when sent without quotes.
func contentText(arg string) string {
	if strings.HasPrefix(arg, `"`) {
		arg, _ = unquote(arg)
	}
	return arg
}
