package gateway

import (
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"time"
)

// conditions are those of a request that are judged here, rather than by
// http.ServeContent: what must hold (RFC 9110 §§13.1.1, 13.1.4), and what storage
// can be asked with.
type conditions struct {
	match       []string   // If-Match; nil: none
	since       *time.Time // If-Unmodified-Since; nil: none
	unless      string     // If-None-Match, if it is one tag, without quotes
	unlessSince time.Time  // If-Modified-Since, if it counts
}

func readConditions(h http.Header) (c conditions) {
	if v := h.Values("If-Match"); v != nil {
		c.match = tags(v)
	} else if t, ok := date(h, "If-Unmodified-Since"); ok {
		c.since = &t
	}
	if c.match != nil || c.since != nil {
		return c // what is unchanged may still be refused
	}
	if v := h.Values("If-None-Match"); v != nil {
		if t := tags(v); len(t) == 1 && t[0] != "*" {
			c.unless, _ = opaque(t[0])
		}
	} else if t, ok := date(h, "If-Modified-Since"); ok {
		c.unlessSince = t
	}
	return c
}

// date reads a field that is one date; several are as good as none (RFC 9110 §13.1.3).
func date(h http.Header, field string) (time.Time, bool) {
	v := h.Values(field)
	if len(v) != 1 {
		return time.Time{}, false
	}
	t, err := http.ParseTime(v[0])
	return t, err == nil
}

// withoutGuards returns r as http.ServeContent is to see it: without the conditions
// that were found to hold, and with lists in one field.
func (c *conditions) withoutGuards(r *http.Request) *http.Request {
	r = r.Clone(r.Context())
	r.Header.Del("If-Match")
	r.Header.Del("If-Unmodified-Since")
	if len(r.Header.Values("If-Modified-Since")) > 1 || r.Header.Values("If-None-Match") != nil {
		r.Header.Del("If-Modified-Since")
	}
	if v := r.Header.Values("If-None-Match"); len(v) > 1 {
		r.Header.Set("If-None-Match", strings.Join(v, ", ")) // RFC 9110 §5.3
	}
	return r
}

// hold tells whether what must hold does, for an object with these validators. No
// object has none: tag is "" and modified is zero.
func (c *conditions) hold(tag string, modified time.Time) bool {
	switch {
	case c.match != nil:
		return slices.ContainsFunc(c.match, func(t string) bool {
			return t == tag && strings.HasPrefix(t, `"`) || t == "*"
		})
	case c.since != nil:
		return modified.IsZero() || !modified.Truncate(time.Second).After(*c.since)
	}
	return true
}

// tell sets the validators of an object that is as the client has it.
func (c *conditions) tell(head http.Header, i *Info) {
	if c.unless != "" {
		i.Version = c.unless
	}
	i.Certain = true // or the storage could not have told
	if tag, _ := validators(i); tag != "" {
		head.Set("ETag", tag)
	} else if !i.Modified.IsZero() {
		head.Set("Last-Modified", i.Modified.UTC().Format(http.TimeFormat))
	}
}

// want is what these conditions and the range of r make of an object's opening.
func (c *conditions) want(r *http.Request) Want {
	w := Want{Unless: c.unless, UnlessSince: c.unlessSince}
	if r.Method == http.MethodHead {
		return w
	}
	w.N = -1
	if s, ok := readRange(r.Header); ok { // of several, the first is read first
		switch a := s[0]; {
		case a.first < 0 && a.last == 0:
			w.N = 0
		case a.first < 0:
			w.Off = -a.last
		case a.last < 0:
			w.Off = a.first
		default:
			w.Off, w.N = a.first, a.last-a.first+1
		}
	}
	return w
}

// tags reads a list of entity tags, or "*". What is none ends it.
func tags(values []string) []string {
	list := []string{}
	for s := strings.Join(values, ","); ; {
		s = strings.TrimLeft(s, " \t,")
		if s == "" {
			return list
		}
		if rest, ok := strings.CutPrefix(s, "*"); ok {
			list, s = append(list, "*"), rest
			continue
		}
		_, n := opaque(s)
		if n == 0 {
			return list
		}
		list, s = append(list, s[:n]), s[n:]
	}
}

// opaque returns what is between the quotes of the entity tag that s begins with, and
// its length with them; 0 if there is none (RFC 9110 §8.8.3).
func opaque(s string) (text string, n int) {
	rest := strings.TrimPrefix(s, "W/")
	if !strings.HasPrefix(rest, `"`) {
		return "", 0
	}
	end := strings.IndexByte(rest[1:], '"')
	if end < 0 {
		return "", 0
	}
	return rest[1 : 1+end], len(s) - len(rest) + end + 2
}

// maxRanges is how many ranges are answered; more, and such that overlap, are as good
// as none (RFC 9110 §14.2).
const maxRanges = 16

// A span is octets from start up to end.
type span struct{ start, end int64 }

// An asked range has a first and a last position; a negative last is the end, a
// negative first has last octets from the end.
type asked struct{ first, last int64 }

// readRange reads Range. It is not ok if the field says nothing that has to be
// heeded: another unit, or no ranges (RFC 9110 §§14.1, 14.2).
func readRange(h http.Header) (list []asked, ok bool) {
	values := h.Values("Range")
	if len(values) != 1 {
		return nil, false
	}
	unit, set, ok := strings.Cut(values[0], "=")
	if !ok || !strings.EqualFold(textproto.TrimString(unit), "bytes") {
		return nil, false
	}
	for part := range strings.SplitSeq(set, ",") {
		part = textproto.TrimString(part)
		if part == "" {
			continue // RFC 9110 §5.6.1
		}
		a, ok := readAsked(part)
		if !ok || len(list) == maxRanges {
			return nil, false
		}
		list = append(list, a)
	}
	return list, len(list) > 0
}

func readAsked(s string) (asked, bool) {
	from, to, ok := strings.Cut(s, "-")
	a := asked{-1, -1}
	if ok && from != "" {
		a.first, ok = position(from)
	}
	if ok && to != "" {
		a.last, ok = position(to)
	}
	return a, ok && (from != "" || to != "") && (a.first < 0 || a.last < 0 || a.first <= a.last)
}

// position reads a number; what is too large for one lies beyond every end.
func position(s string) (int64, bool) {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	n, _ := strconv.ParseInt(s, 10, 64) // the largest, if it is larger
	return min(n, 1<<63-2), true        // and one more can be counted
}

// in returns the octets of an object of this size that are asked for.
func (a asked) in(size int64) (span, bool) {
	s := span{a.first, size}
	switch {
	case a.first < 0:
		s.start = max(size-a.last, 0)
	case a.last >= 0:
		s.end = min(a.last+1, size)
	}
	return s, s.start < s.end
}

// settleRange leaves Range in r only where it is to be heeded, in the one form that
// every reader understands, and returns the octets that it asks for; nil: all.
func settleRange(r *http.Request, size int64) []span {
	list, ok := readRange(r.Header)
	r.Header.Del("Range")
	if r.Method != http.MethodGet { // RFC 9110 §14.2
		return []span{}
	}
	if !ok {
		return nil
	}
	var spans []span
	var form strings.Builder
	for _, a := range list {
		s, ok := a.in(size)
		if !ok {
			continue
		}
		for _, other := range spans {
			if s.start < other.end && other.start < s.end {
				return nil
			}
		}
		spans = append(spans, s)
		form.WriteString("," + strconv.FormatInt(s.start, 10) + "-" + strconv.FormatInt(s.end-1, 10))
	}
	if len(spans) == 0 {
		r.Header.Set("Range", "bytes="+strconv.FormatInt(size, 10)+"-") // 416, unless If-Range says otherwise
		return []span{}
	}
	r.Header.Set("Range", "bytes="+form.String()[1:])
	return spans
}
