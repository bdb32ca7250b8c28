package rules

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/larderhq/larder/internal/field"
)

// ReadPart finds the part that a 206 holds. length is its Content-Length, or
// negative. The zero Part: there is no single sound one, and the response is
// not stored (RFC 9110 §14.4, RFC 9111 §3.3).
//
// With terms.PartTolerance a Content-Range that contradicts the length yields
// to the octets, and if its end was the end of the whole, so does the total.
func ReadPart(h Header, length int64, terms *Terms) Part {
	lines := h["Content-Range"]
	if len(lines) != 1 || multipart(h) {
		return Part{}
	}
	cr, ok := field.ParseContentRange(lines[0])
	if !ok || cr.First < 0 {
		return Part{}
	}
	p := Part{First: cr.First, Last: cr.Last, Total: cr.Total}
	if length < 0 || length == p.Size() {
		return p
	}
	if !terms.PartTolerance || length == 0 {
		return Part{}
	}
	last := p.First + length - 1
	if p.Total >= 0 && p.Last == p.Total-1 {
		p.Total = last + 1
	}
	if p.Last = last; p.Total >= 0 && p.Last >= p.Total {
		return Part{}
	}
	return p
}

func multipart(h Header) bool {
	kind, _, _ := strings.Cut(get(h, "Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(kind), "multipart/byteranges")
}

// Joinable tells whether two stored responses are parts of one representation
// for certain: the same strong tag (RFC 9111 §3.4).
//
// Octets that are coded differently are never mixed, not even where an origin
// gives both the same tag (RFC 9110 §8.8.3.3, §14.1.2).
func Joinable(a, b *Stored) bool {
	return a.ETag.StrongEqual(b.ETag) && SameVariant(a, b) &&
		slices.Equal(a.Header["Content-Encoding"], b.Header["Content-Encoding"])
}

// Entire tells whether a part in reply to req is all there is, so that it may
// be kept as an ordinary 200 (RFC 9110 §15.3.7.3). An answer to If-Range need
// not have all the fields of one (RFC 9110 §15.3.7).
func Entire(req *Request, s *Stored) bool {
	return s.Part.First == 0 && s.Part.Total == s.Part.Last+1 && len(req.Header["If-Range"]) == 0
}

// Join is the response that older and newer, which are Joinable, make when
// their octets cover part. The fields of the newer win; a part that is the
// whole makes an ordinary 200 (RFC 9111 §3.4, RFC 9110 §15.3.7.3).
func Join(older, newer *Stored, part Part, terms *Terms) *Stored {
	joined := *newer
	joined.Header = maps.Clone(older.Header)
	delete(joined.Header, "Age") // one that the newer does not repeat is over
	maps.Copy(joined.Header, newer.Header)
	delete(joined.Header, "Content-Range")
	if joined.Part = part; part.First == 0 && part.Total == part.Last+1 {
		joined.Part, joined.Status = Part{}, 200
	}
	joined.Stamp = min(older.Stamp, newer.Stamp) // what is about one of them is about both
	joined.Marks = slices.Concat(older.Marks, newer.Marks)
	joined.Policy = field.Directives{}
	joined.Read(terms)
	return &joined
}

// Union is the span that two parts cover together; ok is false if there is a
// gap between them or they contradict each other on the length of the whole.
func Union(a, b Part) (u Part, ok bool) {
	u = Part{min(a.First, b.First), max(a.Last, b.Last), max(a.Total, b.Total)}
	if a.Total >= 0 && b.Total >= 0 && a.Total != b.Total || u.Total >= 0 && u.Last >= u.Total ||
		a.First > b.Last+1 || b.First > a.Last+1 {
		return Part{}, false
	}
	return u, true
}

// Rest asks, on header, for what follows the stored prefix s (RFC 9111 §3.3).
func Rest(s *Stored, header Header) {
	header["Range"] = []string{"bytes=" + strconv.FormatInt(s.Part.Last+1, 10) + "-"}
	if s.ETag.Opaque != "" && !s.ETag.Weak {
		header["If-Range"] = s.Header["Etag"]
	}
}
