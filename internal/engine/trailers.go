package engine

import (
	"net/http"
	"slices"
)

// announce says which fields come after the content of a response that is passed on,
// where that is wished for (RFC 9110 §6.6.2). The length is then not said: HTTP/1.1 has
// trailers behind chunks alone (RFC 9112 §7.1.2).
func (x *exchange) announce(l *landing) {
	if !x.e.Trailers || l.response == nil || x.r.Method == http.MethodHead {
		return
	}
	var names []string
	for name := range l.response.Trailer {
		if trails(name) {
			names = append(names, name)
		}
	}
	if len(names) > 0 {
		slices.Sort(names)
		h := x.w.Header()
		h["Trailer"] = names
		delete(h, "Content-Length")
	}
}

// trail sends what came after the content, also what was not announced.
func (x *exchange) trail(l *landing) {
	if !x.e.Trailers || l.response == nil {
		return
	}
	h := x.w.Header()
	announced := h["Trailer"]
	for name, lines := range l.response.Trailer {
		switch {
		case !trails(name):
		case slices.Contains(announced, name):
			h[name] = lines
		default:
			h[http.TrailerPrefix+name] = lines
		}
	}
}

// trails tells whether a field may come after the content. What frames, routes,
// authenticates, describes the content or controls caches may not (RFC 9110 §6.5.1).
func trails(name string) bool {
	switch name {
	case "Age", "Authorization", "Cache-Control", "Cache-Status", "Connection", "Content-Encoding", "Content-Length", "Content-Range",
		"Content-Type", "Date", "Etag", "Expires", "Host", "Keep-Alive", "Last-Modified", "Location", "Max-Forwards", "Pragma",
		"Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "Proxy-Status", "Set-Cookie", "Te", "Trailer",
		"Transfer-Encoding", "Upgrade", "Vary", "Via", "Www-Authenticate":
		return false
	}
	return true
}
