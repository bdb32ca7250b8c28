package field

import "strings"

// ETag is an entity tag (RFC 9110, 8.8.3). The zero ETag means none and is
// equal to nothing, itself included.
type ETag struct {
	// Opaque is the tag without `W/`, its quotes included, octets as received.
	Opaque string
	// Weak is set by the prefix `W/`.
	Weak bool
}

// ParseETag reads a single entity tag. ok is false if s breaks the syntax in
// any way; such tags never match.
func ParseETag(s string) (tag ETag, ok bool) {
	opaque, weak := strings.CutPrefix(s, "W/")
	last := len(opaque) - 1
	if last < 1 || opaque[0] != '"' || opaque[last] != '"' {
		return ETag{}, false
	}
	for i := 1; i < last; i++ {
		// Octets above 0x7F are allowed; a backslash escapes nothing.
		if c := opaque[i]; c <= ' ' || c == '"' || c == 0x7F {
			return ETag{}, false
		}
	}
	return ETag{opaque, weak}, true
}

// StrongEqual is the strong comparison (RFC 9110, 8.8.3.2): neither tag weak.
func (a ETag) StrongEqual(b ETag) bool {
	return !a.Weak && !b.Weak && a.WeakEqual(b)
}

// WeakEqual is the weak comparison (RFC 9110, 8.8.3.2).
func (a ETag) WeakEqual(b ETag) bool {
	return a.Opaque != "" && a.Opaque == b.Opaque
}

// ETags is the content of If-Match or If-None-Match (RFC 9110, 13.1.1 and
// 13.1.2). The zero value matches nothing.
type ETags struct {
	// Any is set if the value is `*`. Beside other members, where the grammar
	// does not allow it, a `*` counts as malformed and is skipped.
	Any bool
	// Tags are the well-formed members in the order received.
	Tags []ETag
}

// ParseETags reads a list of entity tags. Malformed members are skipped.
func ParseETags(lines []string) ETags {
	var e ETags
	var s etagScan
	for _, s.rest = range lines {
		for s.next() {
			if s.tag.Opaque != "" {
				e.Tags = append(e.Tags, s.tag)
			}
		}
	}
	e.Any = s.any()
	return e
}

// MatchWeak reports whether tag is weakly equal to one of e.Tags. It does not
// look at e.Any, which is about there being a representation, not about tags.
func (e ETags) MatchWeak(tag ETag) bool {
	for _, t := range e.Tags {
		if t.WeakEqual(tag) {
			return true
		}
	}
	return false
}

// MatchesETag reports whether the list in lines is `*` or has a member weakly
// equal to tag. It is ParseETags and MatchWeak without an allocation.
func MatchesETag(lines []string, tag ETag) bool {
	var s etagScan
	for _, s.rest = range lines {
		for s.next() {
			if s.tag.WeakEqual(tag) {
				return true
			}
		}
	}
	return s.any()
}

// etagScan walks over the members of a list of entity tags. Members cannot be
// taken for those of Members: within a tag a backslash is an ordinary octet.
type etagScan struct {
	rest  string // of the line
	tag   ETag   // the last member if well-formed
	star  bool   // there was a `*`
	other bool   // there was something else
}

func (s *etagScan) any() bool { return s.star && !s.other }

// next takes one member off s.rest; false at the end of the line.
func (s *etagScan) next() bool {
	for s.rest != "" && (isBlank(s.rest[0]) || s.rest[0] == ',') {
		s.rest = s.rest[1:]
	}
	if s.rest == "" {
		return false
	}

	// A tag ends at its second quote, whatever lies between.
	quote := 0
	if strings.HasPrefix(s.rest, `W/"`) {
		quote = len("W/")
	}
	end := 0
	if s.rest[quote] == '"' {
		n := strings.IndexByte(s.rest[quote+1:], '"')
		if n < 0 {
			n = len(s.rest) - quote - 2 // unterminated, takes the whole line
		}
		end = quote + n + 2
	}
	if n := strings.IndexByte(s.rest[end:], ','); n >= 0 {
		end += n
	} else {
		end = len(s.rest)
	}

	member := trimBlanks(s.rest[:end])
	s.rest = s.rest[end:]
	s.tag, _ = ParseETag(member)
	if member == "*" {
		s.star = true
	} else {
		s.other = true
	}
	return true
}
