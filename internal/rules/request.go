package rules

import (
	"github.com/larderhq/larder/internal/field"
)

// A Request is what the rules ask of a request. Header holds its end-to-end
// fields; Directives are read from it once. It belongs to one goroutine.
type Request struct {
	Method     string
	Header     Header
	Directives field.Directives
}

// ReadRequest reads the facts of a request. header is kept, not copied.
func ReadRequest(method string, header Header) Request {
	r := Request{Method: method, Header: header}
	if lines := header["Cache-Control"]; len(lines) > 0 {
		r.Directives = field.ParseDirectives(lines)
	} else if lines := header["Pragma"]; len(lines) > 0 {
		// RFC 9111 §5.4: only where there is no Cache-Control.
		r.Directives.NoCache = field.HasToken(lines, "no-cache")
	}
	return r
}

// Conditional tells whether the client attached a condition of its own that
// asks about the stored representation (RFC 9110 §13.1.2 and §13.1.3).
func (r *Request) Conditional() bool {
	return len(r.Header["If-None-Match"]) > 0 || len(r.Header["If-Modified-Since"]) > 0
}

// GuardsState tells whether the client attached a condition that only the
// origin can judge (RFC 9110 §13.1.1 and §13.1.4).
func (r *Request) GuardsState() bool {
	return len(r.Header["If-Match"]) > 0 || len(r.Header["If-Unmodified-Since"]) > 0
}

// Ranged tells whether the Range field counts: on GET only (RFC 9110 §14.2).
func (r *Request) Ranged() bool { return r.Method == "GET" && len(r.Header["Range"]) > 0 }

// Authorized tells whether the request carries credentials.
func (r *Request) Authorized() bool { return len(r.Header["Authorization"]) > 0 }

// selecting is what the request says about the fields that vary.
func (r *Request) selecting(names []string) []Selecting {
	if len(names) == 0 {
		return nil
	}
	out := make([]Selecting, len(names))
	for i, name := range names {
		lines, present := r.Header[name]
		out[i].Name = name
		out[i].Value, out[i].Present = field.VaryValue(name, lines, present)
	}
	return out
}

// Variant is a text that is equal for two requests exactly if responses that
// vary on names do not tell them apart.
func (r *Request) Variant(names []string) string {
	var b []byte
	for _, s := range r.selecting(names) {
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
