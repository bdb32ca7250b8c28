package gateway

import (
	"net/http"
	"net/url"
	"strings"
)

// maxPath is how many octets a path may have.
const maxPath = 4096

// locate finds the name that u stands for, and whether it has a slash after it; or
// the status to refuse u with.
func (h *Handler) locate(u *url.URL) (name string, folder bool, status int) {
	p := u.Path
	switch {
	case len(p) > maxPath:
		return "", false, http.StatusNotFound
	case !strings.HasPrefix(p, "/"), strings.ContainsRune(p, 0), !h.traits.Flat && strings.Contains(p, `\`):
		return "", false, http.StatusBadRequest
	case strings.Contains(strings.ToLower(u.RawPath), "%2f"):
		return "", false, http.StatusNotFound // it would be a second path of an object
	case p == "/":
		return "", true, 0
	}
	name, folder = strings.CutSuffix(p[1:], "/")
	if name == "" {
		return "", false, http.StatusNotFound // it would be a second path of the root
	}
	for i, s := range strings.Split(name, "/") {
		switch {
		case s == "." || s == "..":
			return "", false, http.StatusBadRequest
		case h.opt.hides(i, s):
			return "", false, http.StatusNotFound
		}
	}
	if !ValidName(name, h.traits.Flat) {
		return "", false, http.StatusNotFound
	}
	return name, folder, 0
}

// Shows tells whether what has this name, or is below it, can be asked for.
func (o *Options) Shows(name string) bool {
	for i, s := range strings.Split(name, "/") {
		if o.hides(i, s) {
			return false
		}
	}
	return true
}

// hides tells whether the segment of a name at i keeps it from being served. Listings
// show /.well-known as little as others.
func (o *Options) hides(i int, segment string) bool {
	return strings.HasPrefix(segment, Draft) || !o.Dotfiles && strings.HasPrefix(segment, ".") && !(i == 0 && segment == ".well-known")
}

// reference is a segment as a reference to it from a page of its folder. The "./"
// keeps a colon in it from making it a scheme (RFC 3986 §4.2).
func reference(segment string, folder bool) string {
	ref := "./" + url.PathEscape(segment)
	if folder {
		ref += "/"
	}
	return ref
}
