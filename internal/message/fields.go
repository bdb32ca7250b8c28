// Package message turns HTTP messages into facts for the rules and octets for
// the stores, and strips them of what belongs to one connection only.
package message

import (
	"net/http"

	"github.com/larderhq/larder/internal/field"
)

// hopByHop are the fields that end at the next hop even if Connection does not
// name them (RFC 9110 §7.6.1, RFC 9111 §3.1).
var hopByHop = []string{
	"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings",
}

// EndToEnd is h without the fields of one connection: the usual ones, and
// those that Connection names (RFC 9110 §7.6.1). h is left as it was; the lines
// are shared.
//
// Some names have no effect in Connection: a peer could otherwise have framing,
// routing, the traces of a loop or of early data (RFC 8470 §5.1), or the cache's own instructions removed.
func EndToEnd(h http.Header) http.Header {
	room := len(h) + 4 // for what is added
	if len(h) <= 8 {
		room = min(room, 8) // beyond which a map costs twice as much
	}
	out := make(http.Header, room)
	for name, lines := range h {
		out[name] = lines[:len(lines):len(lines)]
	}
	if lines := h["Connection"]; len(lines) > 0 {
		for _, name := range field.ConnectionNames(lines) {
			if !protected(name) {
				delete(out, name)
			}
		}
	}
	for _, name := range hopByHop {
		delete(out, name)
	}
	return out
}

func protected(name string) bool {
	switch name {
	case "Host", "Content-Length", "Cache-Control", "Cdn-Cache-Control", "Via", "Cdn-Loop", "Early-Data":
		return true
	}
	return false
}
