package rules

import (
	"slices"
	"time"

	"github.com/larderhq/larder/internal/field"
)

// A Request is what the rules ask of a request. It belongs to one goroutine,
// and so does each copy. Once it was compared with a response, Header must not
// change, nor the Terms be others.
type Request struct {
	Method string
	// Header holds the end-to-end fields.
	Header Header
	// Directives are those of Cache-Control, or of Pragma where there is no
	// Cache-Control.
	Directives field.Directives
	Marks

	conditional, guards, ranged, authorized bool

	// compared are the fields that responses varied on so far. What it holds
	// is never overwritten, so that copies may share it.
	compared []compared
}

// A compared is the value of a request field in the form in which it is
// compared: normalised, and concealed if hidden.
type compared struct {
	name   string
	value  string
	hidden bool
}

// Marks are what the operator says of a request. The zero Marks say nothing.
type Marks struct {
	// Extra is what is added to the key, concealed; empty if nothing.
	Extra string
	// Lane keeps requests apart that do not wait for each other: those that different
	// Terms hold for.
	Lane string
	// Version is the version of what the origin makes for such a request now; empty
	// where there are none.
	Version string
	// Touched is when what was asked for before became outdated, on the steady clock;
	// the zero time: never.
	Touched time.Time
}

// comparedLimit is how many fields are remembered; any further ones are
// normalised anew for each response.
const comparedLimit = 32

// ReadRequest reads the facts of a request, in one pass. header is kept, not
// copied.
func ReadRequest(method string, header Header) Request {
	r := Request{Method: method, Header: header}
	for name, lines := range header {
		if len(lines) == 0 {
			continue
		}
		switch name {
		case "Cache-Control":
			r.Directives = field.ParseDirectives(lines)
			if len(r.Directives.NoCacheFields) > 0 { // it takes no argument here (RFC 9111 §5.2.1.4)
				r.Directives.NoCache, r.Directives.NoCacheFields = true, nil
			}
		case "Pragma":
			// RFC 9111 §5.4: only where there is no Cache-Control.
			if len(header["Cache-Control"]) == 0 {
				r.Directives.NoCache = field.HasToken(lines, "no-cache")
			}
		case "If-None-Match", "If-Modified-Since":
			r.conditional = true
		case "If-Match", "If-Unmodified-Since":
			r.guards = true
		case "Range":
			r.ranged = method == "GET" // RFC 9110 §14.2
		case "Authorization":
			r.authorized = true
		}
	}
	return r
}

// Conditional tells whether the client attached a condition of its own that
// asks about the stored representation (RFC 9110 §13.1.2 and §13.1.3).
func (r *Request) Conditional() bool { return r.conditional }

// GuardsState tells whether the client attached a condition that only the
// origin can judge (RFC 9110 §13.1.1 and §13.1.4).
func (r *Request) GuardsState() bool { return r.guards }

// Ranged tells whether the Range field counts: on GET only (RFC 9110 §14.2).
func (r *Request) Ranged() bool { return r.ranged }

// Authorized tells whether the request carries credentials.
func (r *Request) Authorized() bool { return r.authorized }

// Impersonal is the request without what concerns its sender alone: no-store,
// and credentials. What the rules forbid it, they forbid everybody.
func (r *Request) Impersonal() Request {
	c := *r
	c.Directives.NoStore, c.authorized = false, false
	return c
}

// selecting is what the request says about the fields that vary. terms conceal
// the values of secret ones; nil leaves them in clear.
func (r *Request) selecting(names []string, terms *Terms) []Selecting {
	if len(names) == 0 {
		return nil
	}
	out := make([]Selecting, len(names))
	for i, name := range names {
		out[i].Name = name
		out[i].Value, out[i].Present = r.compare(name, terms)
		if lines := r.Header[name]; len(lines) == 1 && (terms == nil || !secret(name)) {
			out[i].Line = lines[0]
		}
	}
	return out
}

// compare is the value of a field as responses that vary on it compare it. It
// is made once, however many responses there are to choose from. terms conceal
// it if it is secret; nil leaves it in clear.
func (r *Request) compare(name string, terms *Terms) (value string, present bool) {
	lines, present := r.Header[name]
	if !present {
		return "", false
	}
	hidden := terms != nil && secret(name)
	for i := range r.compared {
		if c := &r.compared[i]; c.name == name && c.hidden == hidden {
			return c.value, true
		}
	}
	value, _ = field.VaryValue(name, lines, true)
	if hidden {
		value = terms.Conceal(value)
	}
	if len(r.compared) < comparedLimit {
		r.compared = append(slices.Clip(r.compared), compared{name, value, hidden})
	}
	return value, true
}

// Variant is a text that is equal for two requests exactly if responses that
// vary on names do not tell them apart.
func (r *Request) Variant(names []string) string {
	var b []byte
	if r.Lane != "" {
		b = append(appendCounted(b, r.Lane), ':')
	}
	if r.Extra != "" {
		b = appendCounted(b, r.Extra)
	}
	for _, s := range r.selecting(names, nil) {
		b = appendCounted(b, s.Name)
		if s.Present {
			b = append(b, '=')
			b = appendCounted(b, s.Value)
		}
	}
	return string(b)
}

// appendCounted writes a text with its length in front, so that no text can
// pretend to be two.
func appendCounted(dst []byte, s string) []byte {
	n := len(s)
	dst = append(dst, byte(n), byte(n>>8), byte(n>>16), byte(n>>24))
	return append(dst, s...)
}
