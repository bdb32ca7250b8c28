package rules

import (
	"github.com/larderhq/larder/internal/field"
)

// A Request is what the rules ask of a request. It belongs to one goroutine.
type Request struct {
	Method string
	// Header holds the end-to-end fields.
	Header Header
	// Directives are those of Cache-Control, or of Pragma where there is no
	// Cache-Control.
	Directives field.Directives
	// Extra is what the operator adds to the key, concealed; empty if nothing.
	Extra string

	conditional, guards, ranged, authorized bool
}

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

// selecting is what the request says about the fields that vary. terms conceal
// the values of secret ones; nil leaves them in clear.
func (r *Request) selecting(names []string, terms *Terms) []Selecting {
	if len(names) == 0 {
		return nil
	}
	out := make([]Selecting, len(names))
	for i, name := range names {
		lines, present := r.Header[name]
		out[i].Name = name
		out[i].Value, out[i].Present = field.VaryValue(name, lines, present)
		switch {
		case terms != nil && present && secret(name):
			out[i].Value = terms.Conceal(out[i].Value)
		case len(lines) == 1:
			out[i].Line = lines[0]
		}
	}
	return out
}

// Variant is a text that is equal for two requests exactly if responses that
// vary on names do not tell them apart.
func (r *Request) Variant(names []string) string {
	var b []byte
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
