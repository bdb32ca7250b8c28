package esi

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/larderhq/larder/internal/field"
)

// capability is the token by which content asks for assembly, compared exactly
// (Edge Architecture Specification, W3C Note, 4 August 2001).
const capability = "ESI/1.0"

// Asks reports whether the response with header h asks to be assembled by the
// surrogate with the token device: the content of its Surrogate-Control has
// `ESI/1.0`, alone or among others. See field.ParseSurrogate for device.
func Asks(h http.Header, device string) bool {
	return slices.Contains(processing(h["Surrogate-Control"], device), capability)
}

// processing returns what the field asks for, in its order.
func processing(lines []string, device string) []string {
	s, _ := field.ParseSurrogate(lines, device)
	return strings.FieldsFunc(s.Content, func(r rune) bool { return r == ' ' || r == '\t' || r == ',' })
}

// ofTemplate are the fields that are true of the template's octets only.
var ofTemplate = []string{
	"Accept-Ranges", "Content-Digest", "Content-Length", "Content-Md5", "Digest", "Etag", "Last-Modified", "Repr-Digest", "Unencoded-Digest",
}

// Strip makes h, the template's header, that of the assembled page: it removes
// validators, length, digests and Accept-Ranges, and from Surrogate-Control the
// `ESI/1.0` that was meant for device or for nobody in particular, with the
// field if nothing is left. Values of h are replaced, not changed. Freshness
// and Content-Range are the caller's.
func Strip(h http.Header, device string) {
	for _, name := range ofTemplate {
		delete(h, name)
	}
	var rest []string
	for member := range field.Members(h["Surrogate-Control"]) {
		if member = withoutCapability(member, device); member != "" {
			rest = append(rest, member)
		}
	}
	delete(h, "Surrogate-Control")
	if rest != nil {
		h["Surrogate-Control"] = []string{strings.Join(rest, ", ")}
	}
}

// withoutCapability returns one directive of Surrogate-Control without the
// request for assembly; empty if it said nothing else.
func withoutCapability(member, device string) string {
	asked := processing([]string{member}, device)
	if !slices.Contains(asked, capability) {
		return member
	}
	asked = slices.DeleteFunc(asked, func(s string) bool { return s == capability })
	if len(asked) == 0 {
		return ""
	}
	addressee := ""
	if len(processing([]string{member}, "")) == 0 {
		addressee = ";" + device
	}
	return `content="` + quoting.Replace(strings.Join(asked, " ")) + `"` + addressee
}

var quoting = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// SameOrigin reports whether a and b have the same scheme, host and port (RFC
// 9110, 4.3.1). Default ports count, and the case of letters does not.
func SameOrigin(a, b *url.URL) bool { return origin(a) == origin(b) }

// origin is scheme, host and port of u in one form for all that are equal.
func origin(u *url.URL) string {
	scheme, port := strings.ToLower(u.Scheme), u.Port()
	switch {
	case port == "" && scheme == "http":
		port = "80"
	case port == "" && scheme == "https":
		port = "443"
	}
	return scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
}
