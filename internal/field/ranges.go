package field

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// maxRangeSpecs bounds the members ParseRange accepts; real requests have a
// handful.
const maxRangeSpecs = 1024

// RangeSpec is one range of a Range field as asked for (RFC 9110, 14.1.2).
type RangeSpec struct {
	// First is the first octet's position, or negative for a suffix range.
	First int64
	// Last is the last octet's position, inclusive, or negative for a range
	// that reaches to the end. For a suffix range it is the number of octets
	// wanted, which may be 0.
	Last int64
}

// Span is a piece of a representation of known length: 0 <= First <= Last.
type Span struct {
	// First and Last are octet positions, both inclusive.
	First, Last int64
}

// ParseRange reads the value of a Range field (RFC 9110, 14.2). ok is false if
// the unit is not bytes, if any member is malformed, or if there are none or
// more than 1024; such a field is to be ignored. Numbers beyond 2^63-1 count as
// 2^63-1.
func ParseRange(value string) (specs []RangeSpec, ok bool) {
	unit, set, _ := strings.Cut(value, "=")
	if !EqualFold(unit, "bytes") {
		return nil, false
	}
	for set != "" {
		var member string
		member, set, _ = strings.Cut(set, ",")
		if member = trimBlanks(member); member == "" {
			continue
		}
		spec, ok := parseRangeSpec(member)
		if !ok || len(specs) == maxRangeSpecs {
			return nil, false
		}
		specs = append(specs, spec)
	}
	return specs, len(specs) > 0
}

func parseRangeSpec(s string) (spec RangeSpec, ok bool) {
	first, last, found := strings.Cut(s, "-")
	if !found || first == "" && last == "" {
		return RangeSpec{}, false
	}
	spec = RangeSpec{-1, -1}
	if first != "" {
		if spec.First, ok = parsePosition(first); !ok {
			return RangeSpec{}, false
		}
	}
	if last != "" {
		if spec.Last, ok = parsePosition(last); !ok || spec.Last < spec.First {
			return RangeSpec{}, false
		}
	}
	return spec, true
}

// parsePosition reads digits, at least one; large numbers yield 2^63-1.
func parsePosition(s string) (n int64, ok bool) {
	for i := range len(s) {
		if !isDigit(s[i]) {
			return 0, false
		}
		digit := int64(s[i] - '0')
		if n > (math.MaxInt64-digit)/10 {
			n = math.MaxInt64
			continue
		}
		n = n*10 + digit
	}
	return n, s != ""
}

// ResolveRanges applies specs to a representation of size octets: ends are
// clipped, ranges without a single octet in it are dropped, the order asked for
// is kept. An empty result calls for 416 (RFC 9110, 15.5.17); nothing of an
// empty representation can be had.
func ResolveRanges(specs []RangeSpec, size int64) []Span {
	if size <= 0 {
		return nil
	}
	spans := make([]Span, 0, len(specs))
	for _, spec := range specs {
		span := Span{spec.First, size - 1}
		switch {
		case spec.First < 0:
			if spec.Last <= 0 {
				continue
			}
			span.First = max(0, size-spec.Last)
		case spec.First >= size:
			continue
		case spec.Last >= 0:
			span.Last = min(spec.Last, size-1)
		}
		spans = append(spans, span)
	}
	return spans
}

// CoalesceRanges decides whether spans may be answered one by one. ok is false
// if there are more than limit of them or if any two overlap; then the whole
// representation is sent instead, which bounds the work a request can cause
// (RFC 9110, 14.2 and 17.15). Otherwise out is spans as asked for: ranges that
// merely touch stay apart, as the client wants them in that order.
func CoalesceRanges(spans []Span, limit int) (out []Span, ok bool) {
	if len(spans) > limit {
		return nil, false
	}
	if len(spans) < 2 {
		return spans, true
	}
	var few [8]Span
	sorted := append(few[:0], spans...)
	slices.SortFunc(sorted, func(a, b Span) int { return cmp.Compare(a.First, b.First) })
	for i := 1; i < len(sorted); i++ {
		if sorted[i].First <= sorted[i-1].Last {
			return nil, false
		}
	}
	return spans, true
}
