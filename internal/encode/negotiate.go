package encode

import (
	"maps"
	"net/http"
)

// Negotiate returns a function that says, for the fields of a GET or HEAD, what a
// cache above the layer is to take them for, so that it has one variant for each
// coding and not one for each way to write Accept-Encoding: the coding that the client
// gets alone, or identity. codings are those of Options. The function does not change
// its argument, which it returns if there is nothing to do, and may be used
// concurrently.
//
// identity is also for who says no-transform: the answer must not be kept as another.
// Who holds dictionaries (RFC 9842) is left to the origin. Who asks for a range on the
// condition of a date gets everything where a coding is chosen: see RoundTripper.
func Negotiate(codings []string) func(http.Header) http.Header {
	return func(h http.Header) http.Header {
		if len(h["Available-Dictionary"]) > 0 {
			return h
		}
		chosen := "identity"
		if !noTransform(h) {
			if coding := Choose(h["Accept-Encoding"], codings); coding != "" {
				chosen = coding
			}
		}
		dated := chosen != "identity" && resumesByDate(h)
		if lines := h["Accept-Encoding"]; len(lines) == 1 && lines[0] == chosen && !dated {
			return h
		}
		h = maps.Clone(h)
		if h == nil {
			h = http.Header{}
		}
		h["Accept-Encoding"] = []string{chosen}
		if dated {
			delete(h, "Range")
			delete(h, "If-Range")
		}
		return h
	}
}
