package field

import (
	"math"
	"strconv"
	"strings"
)

// ContentRange is the value of a Content-Range field in bytes (RFC 9110, 14.4).
type ContentRange struct {
	// First and Last are octet positions, both inclusive. First is negative in
	// the form `bytes */N` of a 416.
	First, Last int64
	// Total is the length of the whole representation, negative if unknown.
	Total int64
}

// ParseContentRange reads the value of a Content-Range field. ok is false if
// the unit is not bytes, the syntax is broken, a number reaches 2^63-1, the end
// lies before the start or the total does not exceed the end. Such a value is
// passed on but never relied upon. With ok, Last-First+1 does not overflow.
func ParseContentRange(s string) (c ContentRange, ok bool) {
	unit, rest, _ := strings.Cut(s, " ")
	span, total, found := strings.Cut(rest, "/")
	if !EqualFold(unit, "bytes") || !found {
		return ContentRange{}, false
	}

	c = ContentRange{-1, -1, -1}
	if total != "*" {
		if c.Total, ok = parseSmallPosition(total); !ok {
			return ContentRange{}, false
		}
	}
	if span == "*" {
		if c.Total < 0 {
			return ContentRange{}, false
		}
		return c, true
	}

	first, last, _ := strings.Cut(span, "-")
	var okFirst, okLast bool
	c.First, okFirst = parseSmallPosition(first)
	c.Last, okLast = parseSmallPosition(last)
	if !okFirst || !okLast || c.Last < c.First || c.Total >= 0 && c.Total <= c.Last {
		return ContentRange{}, false
	}
	return c, true
}

// parseSmallPosition is parsePosition without the numbers it had to cut.
func parseSmallPosition(s string) (int64, bool) {
	n, ok := parsePosition(s)
	return n, ok && n < math.MaxInt64
}

// AppendTo appends the field value to dst.
func (c ContentRange) AppendTo(dst []byte) []byte {
	dst = append(dst, "bytes "...)
	if c.First < 0 {
		dst = append(dst, '*')
	} else {
		dst = strconv.AppendInt(dst, c.First, 10)
		dst = append(dst, '-')
		dst = strconv.AppendInt(dst, c.Last, 10)
	}
	dst = append(dst, '/')
	if c.Total < 0 {
		return append(dst, '*')
	}
	return strconv.AppendInt(dst, c.Total, 10)
}
