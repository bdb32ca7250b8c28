package h2

import (
	"net/http"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// Trailers returns the fields that a handler has sent behind the content (RFC 9110 §6.5): those
// that it named in Trailer when it sent the head, which sent was, and those with
// http.TrailerPrefix, but none that may not be there (RFC 9110 §6.5.1). now is its header when it
// was done. Nil: there are none.
func Trailers(sent, now http.Header) http.Header {
	var t http.Header
	add := func(name string, lines []string) {
		if len(lines) == 0 || !httpguts.ValidTrailerHeader(name) {
			return
		}
		if t == nil {
			t = make(http.Header)
		}
		t[name] = lines
	}
	for _, line := range sent["Trailer"] {
		for name := range strings.SplitSeq(line, ",") {
			name = http.CanonicalHeaderKey(strings.TrimSpace(name))
			add(name, now[name])
		}
	}
	for name, lines := range now {
		if rest, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			add(http.CanonicalHeaderKey(rest), lines)
		}
	}
	return t
}
