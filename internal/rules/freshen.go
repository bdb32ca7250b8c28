package rules

import (
	"maps"
	"slices"

	"github.com/larderhq/larder/internal/field"
)

// Conditional sets on header, a request of ours, the conditions that ask
// whether s still holds (RFC 9111 §4.3.1): the stored octets, and both
// validators where there are two.
func Conditional(s *Stored, header Header) {
	if s.ETag.Opaque != "" {
		header["If-None-Match"] = s.Header["Etag"]
	}
	if !s.LastModified.IsZero() {
		header["If-Modified-Since"] = s.Header["Last-Modified"]
	}
}

// Freshen applies fresh, a 304 that answered the validation of s by req, and
// returns s as it is from now on (RFC 9111 §4.3.4, §3.2). s is left as it was.
//
// ok is false if the 304 does not speak of s; then nothing may be updated, and
// the request is repeated without conditions.
func Freshen(s *Stored, req *Request, fresh *Stored, terms *Terms) (updated *Stored, ok bool, why string) {
	switch {
	case len(fresh.Header["Etag"]) > 0 && !fresh.sameTag(s):
		return nil, false, "304 with another ETag (RFC 9111 4.3.4)"
	case len(fresh.Header["Etag"]) == 0 && len(fresh.Header["Last-Modified"]) > 0 && !fresh.LastModified.Equal(s.LastModified):
		return nil, false, "304 with another Last-Modified (RFC 9111 4.3.4)"
	case len(fresh.Header["Content-Encoding"]) > 0 && !slices.Equal(fresh.Header["Content-Encoding"], s.Header["Content-Encoding"]):
		return nil, false, "304 with another Content-Encoding (RFC 9111 3.2)"
	}
	updated = s.merge(fresh, terms)
	updated.Received, updated.InitialAge, updated.Delay = fresh.Received, fresh.InitialAge, fresh.Delay
	updated.Version, updated.Stamp, updated.Marks = fresh.Version, fresh.Stamp, nil
	updated.Selecting = req.selecting(updated.Vary, terms)
	return updated, true, "validated (RFC 9111 4.3.3)"
}

// Ended tells whether a 304 that made s of a stored response ended the entry: it
// takes back what had allowed to keep it, from whoever asks (RFC 9111 §3.2).
func (s *Stored) Ended(terms *Terms) bool {
	p := &s.Policy
	return p.NoStore && !p.MustUnderstand || p.Private && !terms.Private || s.VaryAny
}

// sameTag compares the tag of a 304 with the stored one: strongly if the 304
// has a strong one, else weakly (RFC 9111 §4.3.4).
func (s *Stored) sameTag(stored *Stored) bool {
	if s.ETag.Weak {
		return s.ETag.WeakEqual(stored.ETag)
	}
	return s.ETag.StrongEqual(stored.ETag)
}

// merge is RFC 9111 §3.2: the fields of the newer message replace those of the
// same name, and all others stay. What frames or labels the stored octets is
// theirs and stays too, and an Age that is not repeated is over. What fresh
// brings for its own client alone is there as well, until Kept drops it.
func (s *Stored) merge(fresh *Stored, terms *Terms) *Stored {
	header := maps.Clone(s.Header)
	delete(header, "Age")
	for name, lines := range fresh.Header {
		switch name {
		case "Content-Length", "Content-Encoding", "Content-Range", "Etag", "Transfer-Encoding":
		default:
			header[name] = lines
		}
	}
	updated := *s
	updated.Header = header
	updated.Spent = false
	updated.Policy = field.Directives{}
	updated.Read(terms)
	for _, name := range Withheld(&updated, terms) {
		if len(fresh.Header[name]) == 0 {
			delete(header, name)
		}
	}
	return &updated
}

// A HeadEffect is what a response to HEAD does to a stored response to GET.
type HeadEffect uint8

const (
	// HeadNothing leaves it as it is.
	HeadNothing HeadEffect = iota
	// HeadUpdates refreshes it.
	HeadUpdates
	// HeadSpends demands its validation before the next use.
	HeadSpends
)

// AfterHead decides what fresh, a response to HEAD, does to s, whose body has
// size octets (RFC 9111 §4.3.5). length is the Content-Length of fresh, or
// negative. updated is set for HeadUpdates and HeadSpends; s is left as it was.
// A part is never updated, but is in doubt for the same reasons.
func AfterHead(s *Stored, size int64, req *Request, fresh *Stored, length int64, terms *Terms) (effect HeadEffect, updated *Stored) {
	part := !s.Part.IsZero()
	if part {
		size = s.Part.Total
	}
	gone := fresh.Status == 404 || fresh.Status == 410
	tagged := len(fresh.Header["Etag"]) > 0
	dated := len(fresh.Header["Last-Modified"]) > 0 && !(fresh.LastModified.IsZero() && s.LastModified.IsZero())
	switch {
	case terms.HeadFreshening == HeadNever,
		fresh.Status != 200 && !gone, gone && fresh.Status == s.Status:
		return HeadNothing, nil
	case gone,
		s.Status != 200 && !part,
		tagged && !fresh.sameTag(s),
		dated && !fresh.LastModified.Equal(s.LastModified),
		length >= 0 && size >= 0 && length != size:
		return HeadSpends, Doubt(s)
	case part:
		return HeadNothing, nil
	case terms.HeadFreshening == HeadValidators && !tagged && !dated:
		return HeadNothing, nil
	}
	updated = s.merge(fresh, terms)
	updated.Received, updated.InitialAge, updated.Delay = fresh.Received, fresh.InitialAge, fresh.Delay
	updated.Selecting = req.selecting(updated.Vary, terms)
	// To update is to store: what may not be stored of a response to this
	// request as a GET may not come in by HEAD either (RFC 9111 §3, §3.5).
	get := *req
	get.Method = "GET"
	if Storable(&get, updated, nil, terms).Store {
		return HeadUpdates, updated
	}
	if anyone := get.Impersonal(); Storable(&anyone, updated, nil, terms).Store {
		return HeadNothing, nil // it concerns this client alone
	}
	return HeadSpends, Doubt(s)
}

// Doubt is s with a validation due before its next use, as after an unsafe
// request whose outcome nobody knows.
func Doubt(s *Stored) *Stored {
	c := *s
	c.Spent = true
	return &c
}
