package rules

import (
	"time"

	"github.com/larderhq/larder/internal/field"
)

// NotModified tells whether the client's own condition lets a 304 take the
// place of s (RFC 9110 §13.1.2 and §13.1.3, RFC 9111 §4.3.2). Only 200 and 206
// are ever judged.
func NotModified(req *Request, s *Stored) bool {
	if s.Status != 200 && s.Status != 206 {
		return false
	}
	if lines := req.Header["If-None-Match"]; len(lines) > 0 {
		return field.MatchesETag(lines, s.ETag)
	}
	lines := req.Header["If-Modified-Since"]
	if len(lines) != 1 {
		return false
	}
	since, ok := field.ParseDate(lines[0], s.Received)
	return ok && !s.changedAfter(since)
}

// changedAfter compares with Last-Modified, or with Date where there is none:
// never a 304 for what is newer than the condition.
func (s *Stored) changedAfter(t time.Time) bool {
	if s.LastModified.IsZero() {
		return s.Date.After(t)
	}
	return s.LastModified.After(t)
}

// A Cut says how much of a representation a request gets.
type Cut struct {
	// Spans are the octets to send, in the order asked. None and not
	// Unsatisfiable: the whole.
	Spans []field.Span
	// Unsatisfiable: 416.
	Unsatisfiable bool
}

// CutRange decides which octets of s, a complete response with a body of size
// octets, req gets (RFC 9110 §14.2, §13.1.5). Range comes after the other
// conditions; whatever cannot be honored in full yields the whole.
func CutRange(req *Request, s *Stored, size int64, terms *Terms) Cut {
	lines := req.Header["Range"]
	if len(lines) != 1 || !req.Ranged() || s.Status != 200 || !s.ifRange(req) {
		return Cut{}
	}
	specs, ok := field.ParseRange(lines[0])
	if !ok {
		return Cut{}
	}
	spans := field.ResolveRanges(specs, size)
	if len(spans) == 0 {
		return Cut{Unsatisfiable: true}
	}
	spans, ok = field.CoalesceRanges(spans, terms.RangeLimit())
	if !ok {
		return Cut{}
	}
	return Cut{Spans: spans}
}

// ifRange is RFC 9110 §13.1.5: the range counts only if the validator is the
// same, and strong.
func (s *Stored) ifRange(req *Request) bool {
	lines := req.Header["If-Range"]
	if len(lines) == 0 {
		return true
	}
	if len(lines) > 1 {
		return false
	}
	if tag, ok := field.ParseETag(lines[0]); ok {
		return tag.StrongEqual(s.ETag)
	}
	t, ok := field.ParseDate(lines[0], s.Received)
	// RFC 9110 §8.8.2.2: a date is strong once a second has passed over it.
	return ok && t.Equal(s.LastModified) && !s.Date.Before(s.LastModified.Add(time.Second))
}

// Holds tells whether s has all that req asks for: a part need not (RFC 9111
// §3.3).
func Holds(req *Request, s *Stored) bool { return s.Part.IsZero() || s.covers(req) }

// covers tells whether the one range that req asks for lies wholly within the
// part that s holds (RFC 9111 §3.3).
func (s *Stored) covers(req *Request) bool {
	_, ok := CutPart(req, s)
	return ok
}

// CutPart finds the octets of the representation that req asks for, if s, a
// stored part, holds all of them. Suffixes and open ends need the end to be
// known and held.
func CutPart(req *Request, s *Stored) (span field.Span, ok bool) {
	lines := req.Header["Range"]
	if len(lines) != 1 || !req.Ranged() || !s.ifRange(req) {
		return span, false
	}
	specs, ok := field.ParseRange(lines[0])
	if !ok || len(specs) != 1 {
		return span, false
	}
	p := s.Part
	spec := specs[0]
	if p.Total < 0 {
		if spec.First < p.First || spec.Last < 0 || spec.Last > p.Last {
			return span, false
		}
		return field.Span(spec), true
	}
	spans := field.ResolveRanges(specs, p.Total)
	if len(spans) != 1 || spans[0].First < p.First || spans[0].Last > p.Last {
		return span, false
	}
	return spans[0], true
}
