package rules

import (
	"net/url"
	"strings"
)

// Safe tells the methods that are registered as safe (RFC 9110 §9.2.1, IANA).
// What is unknown is not safe.
func Safe(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "TRACE", "QUERY", "PROPFIND", "REPORT", "SEARCH", "PRI":
		return true
	}
	return false
}

// Idempotent tells the methods that may be sent again when no answer came (RFC
// 9110 §9.2.2).
func Idempotent(method string) bool { return Safe(method) || method == "PUT" || method == "DELETE" }

// Invalidates tells whether an answer to method ends what is stored for its
// target (RFC 9111 §4.4).
func Invalidates(method string, status int) bool {
	return !Safe(method) && status >= 200 && status < 400
}

// Doubts tells whether an answer to method leaves open what became of the request: a
// gateway further up says that it had none itself (RFC 9110 §15.6.3, §15.6.5, RFC 9209).
func Doubts(method string, status int, h Header) bool {
	return !Safe(method) && (status == 502 || status == 504) && len(h["Proxy-Status"]) > 0
}

// Related are the URIs besides target that an answer to an unsafe request
// invalidates: those of Location and Content-Location, on target's own origin
// only (RFC 9111 §4.4).
func Related(target *url.URL, h Header, terms *Terms) []*url.URL {
	if terms.KeepRelated {
		return nil
	}
	var related []*url.URL
	for _, name := range []string{"Location", "Content-Location"} {
		for _, line := range h[name] {
			u, ok := resolve(target, line)
			if ok && sameOrigin(u, target) && !sameResource(u, target) {
				related = append(related, u)
			}
		}
	}
	return related
}

func resolve(base *url.URL, reference string) (*url.URL, bool) {
	u, err := base.Parse(strings.TrimSpace(reference))
	return u, err == nil
}

func sameOrigin(a, b *url.URL) bool {
	return strings.EqualFold(a.Scheme, b.Scheme) && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

func port(u *url.URL) string {
	switch p := u.Port(); {
	case p != "":
		return p
	case strings.EqualFold(u.Scheme, "https"):
		return "443"
	}
	return "80"
}

// sameResource compares path and query exactly (RFC 9110 §4.2.3).
func sameResource(a, b *url.URL) bool {
	return sameOrigin(a, b) && rootPath(a) == rootPath(b) && a.RawQuery == b.RawQuery
}

func rootPath(u *url.URL) string {
	if p := u.EscapedPath(); p != "" {
		return p
	}
	return "/"
}
