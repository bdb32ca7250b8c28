package rules

import (
	"slices"
	"time"

	"github.com/larderhq/larder/internal/field"
)

// Header is the fields of a message: canonical names to lines in the order
// received. An http.Header is one.
type Header = map[string][]string

// get is the first line of a field, or nothing.
func get(h Header, name string) string {
	if lines := h[name]; len(lines) > 0 {
		return lines[0]
	}
	return ""
}

// A Stored is a response as a cache keeps it, with all that the rules read
// from it read once.
//
// The first group of fields is what is kept; Read derives the others. A Stored
// is immutable once it was read and may be used by any number of goroutines.
type Stored struct {
	// Status is the final status code.
	Status int

	// Header holds the end-to-end fields as they are given back, with a Date.
	// Content-Length is not among them: the length of a body is what the store
	// says it is.
	Header Header

	// Received is when the response arrived, on the steady clock: the one that
	// nobody sets.
	Received time.Time

	// InitialAge is corrected_initial_age of RFC 9111 §4.2.3: how old the
	// response was when it arrived.
	InitialAge time.Duration

	// Delay is the part of InitialAge that was spent waiting for the origin.
	Delay time.Duration

	// Selecting are the request fields that Vary names, as the request that
	// made this response had them.
	Selecting []Selecting

	// Extra is what the operator added to the key of that request, concealed.
	Extra string

	// Part says which octets the body holds if it is not the whole
	// representation. The zero value means all of it.
	Part Part

	// Spent demands a validation before the next use, whatever the freshness:
	// a HEAD or a failed unsafe request has put the entry in doubt.
	Spent bool

	// ToClose says that only the end of the connection ended the body, so that
	// nobody can tell whether all of it came (RFC 8246 §3).
	ToClose bool

	// Version is that of the request that made this response.
	Version string

	// Stamp is how many purges there had been when the response was asked for, and Marks
	// are those that have made it stale since (package purge). They are numbers here.
	Stamp uint64
	Marks []uint64

	// Policy is what the origin allows: from a targeted field, from
	// Surrogate-Control or from Cache-Control.
	Policy field.Directives

	// Lifetime is how long the response is fresh, counted as age; never
	// negative.
	Lifetime time.Duration

	// Basis says where Lifetime comes from.
	Basis Basis

	// Overruled are the directives that Policy would have, had the operator not
	// overruled them.
	Overruled OverruleSet

	// Date is when the origin says it made the response, or when it arrived.
	Date time.Time

	// LastModified is the zero time if the response has none or a bad one.
	LastModified time.Time

	// ETag is the entity tag; the zero ETag if there is none.
	ETag field.ETag

	// Vary are the names that Vary lists, and those that choose a response by the
	// terms, canonical and sorted.
	Vary []string

	// VaryAny says that Vary lists `*`: no request ever matches.
	VaryAny bool
}

// A Selecting is one request field that chose a response (RFC 9111 §4.1).
type Selecting struct {
	// Name is canonical.
	Name string
	// Value is normalised by field.VaryValue; of a secret field it is a keyed
	// hash of that.
	Value string
	// Present tells an empty field from an absent one.
	Present bool
	// Line is the one line that the field had, or empty: what is equal to the
	// letter need not be normalised. Secret fields have none.
	Line string
}

// A Part is a span of octets of a representation, both ends included. Total is
// negative while the length of the whole is unknown. The zero Part is none.
type Part struct {
	First, Last, Total int64
}

// IsZero tells whether there is no part: the body is the whole representation.
func (p Part) IsZero() bool { return p == Part{} }

// Size is the number of octets in the part.
func (p Part) Size() int64 { return p.Last - p.First + 1 }

// Basis says where a lifetime comes from, in the order of RFC 9111 §4.2.1.
type Basis uint8

const (
	// NoBasis: nothing says anything about freshness; the lifetime is 0.
	NoBasis Basis = iota
	// FromTargeted: a targeted field (RFC 9213 §2.2).
	FromTargeted
	// FromSMaxAge: s-maxage.
	FromSMaxAge
	// FromMaxAge: max-age.
	FromMaxAge
	// FromExpires: Expires minus Date.
	FromExpires
	// FromHeuristic: a tenth of the time since Last-Modified.
	FromHeuristic
	// FromTerms: the operator's word, where the origin has none.
	FromTerms
)

// Explicit tells whether the origin itself stated the lifetime.
func (b Basis) Explicit() bool { return b.Known() && b != FromTerms }

// Known tells whether anybody stated the lifetime.
func (b Basis) Known() bool { return b != NoBasis && b != FromHeuristic }

// Validator tells whether the response can be validated at all.
func (s *Stored) Validator() bool { return s.ETag.Opaque != "" || !s.LastModified.IsZero() }

// Age is how old the response is at now, on the steady clock (RFC 9111
// §4.2.3). It saturates.
func (s *Stored) Age(now time.Time) time.Duration {
	return sum(s.InitialAge, max(0, now.Sub(s.Received)))
}

// sum adds two spans without wrapping.
func sum(a, b time.Duration) time.Duration {
	if c := a + b; c >= a {
		return min(c, 2*field.MaxDelta)
	}
	return 2 * field.MaxDelta
}

// A Receipt tells when a response was asked for and when its head arrived. The
// wall clock is compared with the origin's Date, the steady clock measures.
type Receipt struct {
	Asked, Arrived time.Time // steady
	Wall           time.Time // at arrival
}

// Receive makes a Stored of a final response to req. header must hold
// end-to-end fields only; Receive takes it over and mends Date (RFC 9110
// §6.6.1).
func Receive(req *Request, status int, header Header, at Receipt, terms *Terms) *Stored {
	if lines := header["Date"]; len(lines) != 1 {
		header["Date"] = []string{string(field.AppendDate(nil, at.Wall))}
	} else if _, ok := field.ParseDate(lines[0], at.Wall); !ok {
		header["Date"] = []string{string(field.AppendDate(nil, at.Wall))}
	}
	delete(header, "Content-Length")
	s := &Stored{Status: status, Header: header, Received: at.Arrived, Version: req.Version}
	s.Delay = max(0, at.Arrived.Sub(at.Asked))
	s.Read(terms)
	age := sum(field.ParseAge(header["Age"]).Value, s.Delay)
	if !terms.TrustDate {
		age = max(age, at.Wall.Sub(s.Date))
	}
	s.InitialAge = min(age, sum(field.MaxDelta, s.Delay)) // still too much without the Delay
	s.Selecting = req.selecting(s.Vary, terms)
	s.Extra = req.Extra
	return s
}

// Read derives what the rules need from what is kept. It is called once, by
// whoever made the Stored, before it is shared.
func (s *Stored) Read(terms *Terms) {
	h := s.Header
	s.Date, _ = field.ParseDate(get(h, "Date"), s.Received)
	if lines := h["Last-Modified"]; len(lines) == 1 {
		s.LastModified, _ = field.ParseDate(lines[0], s.Received)
	}
	if lines := h["Etag"]; len(lines) == 1 {
		s.ETag, _ = field.ParseETag(lines[0])
	}
	s.Vary, s.VaryAny = field.ParseVary(h["Vary"])
	if len(terms.VaryIgnore) > 0 {
		s.Vary = slices.DeleteFunc(s.Vary, func(name string) bool { return slices.Contains(terms.VaryIgnore, name) })
	}
	targeted := s.readPolicy(terms)
	s.overrule(terms.Overrule)
	s.Vary = terms.varying(s.Vary, &s.Policy)
	s.Lifetime, s.Basis = s.lifetime(targeted, terms)
	if s.Basis != NoBasis && s.Basis != FromTerms {
		s.Lifetime = max(s.Lifetime, terms.MinTTL)
	}
	if terms.MaxTTL > 0 {
		s.Lifetime = min(s.Lifetime, terms.MaxTTL)
	}
	s.Lifetime = max(0, s.Lifetime)
}

// overrule takes out of the Policy what does not count.
func (s *Stored) overrule(set OverruleSet) {
	s.Overruled = 0
	p := &s.Policy
	for i, is := range [...]*bool{&p.NoStore, &p.Private, &p.NoCache} { // as OverruleNames
		if directive := OverruleSet(1) << i; set&directive != 0 && *is {
			*is = false
			s.Overruled |= directive
		}
	}
}

// Chosen tells whether Selecting has all fields that choose the response. It has
// not if it was stored by other terms.
func (s *Stored) Chosen() bool {
	i := 0
	for _, name := range s.Vary {
		for i < len(s.Selecting) && s.Selecting[i].Name < name {
			i++
		}
		if i == len(s.Selecting) || s.Selecting[i].Name != name {
			return false
		}
	}
	return true
}

// readPolicy finds the field that speaks to us (RFC 9213 §2.2) and tells
// whether it is a targeted one, so that Cache-Control and Expires are out.
func (s *Stored) readPolicy(terms *Terms) (targeted bool) {
	if terms.Surrogate && !terms.Private {
		if d, ok := field.ParseSurrogate(s.Header["Surrogate-Control"], terms.DeviceToken()); ok {
			s.Policy = d.Directives
			return true
		}
	}
	for _, name := range terms.targets() {
		lines := s.Header[name]
		if len(lines) == 0 {
			continue
		}
		if d, ok := field.ParseTargeted(lines); ok {
			s.Policy = d
			return true
		}
	}
	s.Policy = field.ParseDirectives(s.Header["Cache-Control"])
	return false
}

// lifetime is RFC 9111 §4.2.1, first match first.
func (s *Stored) lifetime(targeted bool, terms *Terms) (time.Duration, Basis) {
	p := &s.Policy
	shared := !terms.Private && !terms.IgnoreSMaxAge
	switch {
	case shared && p.SMaxAge.Present && targeted:
		return p.SMaxAge.Value, FromTargeted
	case p.MaxAge.Present && targeted:
		return p.MaxAge.Value, FromTargeted
	case shared && p.SMaxAge.Present:
		return p.SMaxAge.Value, FromSMaxAge
	case p.MaxAge.Present:
		return p.MaxAge.Value, FromMaxAge
	case !targeted && len(s.Header["Expires"]) > 0:
		return s.untilExpires(), FromExpires
	case terms.DefaultTTL > 0 && s.Status < 400 && heuristicStatus(s.Status):
		return terms.DefaultTTL, FromTerms
	case terms.NegativeTTL > 0 && s.Status >= 400 && (heuristicStatus(s.Status) || s.Status >= 500 && s.Status <= 504):
		return terms.NegativeTTL, FromTerms
	}
	return s.heuristic(terms)
}

// untilExpires is Expires minus Date. What cannot be read, or is said twice
// and differently, has expired (RFC 9111 §5.3, §4.2.1).
func (s *Stored) untilExpires() time.Duration {
	lines := s.Header["Expires"]
	for _, line := range lines[1:] {
		if line != lines[0] {
			return 0
		}
	}
	expires, ok := field.ParseDate(lines[0], s.Received)
	if !ok {
		return 0
	}
	return min(expires.Sub(s.Date), field.MaxDelta)
}

// heuristic is RFC 9111 §4.2.2: a tenth of the time since the last change.
func (s *Stored) heuristic(terms *Terms) (time.Duration, Basis) {
	switch {
	case terms.NoHeuristics,
		!s.Policy.Public && !heuristicStatus(s.Status),
		s.LastModified.IsZero():
		return 0, NoBasis
	}
	tenth := s.Date.Sub(s.LastModified) / 10
	return min(max(0, tenth), orDefault(terms.HeuristicMax, 24*time.Hour)), FromHeuristic
}

// heuristicStatus tells the statuses that may be kept without being told to
// (RFC 9110 §15.1; 451 by RFC 7725 §3).
func heuristicStatus(status int) bool {
	switch status {
	case 200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 451, 501:
		return true
	}
	return false
}
