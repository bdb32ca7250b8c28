package admin

import (
	"crypto/subtle"
	"errors"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// admit tells who may ask. A browser may not, whatever it knows: a page of another site
// could have it ask.
func (o *Options) admit(r *http.Request) error {
	if Browser(r.Header) {
		return errors.New("browsers have no business here")
	}
	if r.TLS == nil && !o.local(r.Host) { // a certificate is for the right name, or is not taken
		return errors.New("the host asked for is neither an address nor localhost nor the name given to --admin: ask by one of those")
	}
	if o.Token == "" {
		return nil
	}
	if !Knows(o.Token, Bearer(r.Header)) {
		return errToken
	}
	return nil
}

// Browser tells whether a request with these fields is one that a page has a browser send.
func Browser(h http.Header) bool { return len(h["Origin"])+len(h["Sec-Fetch-Site"]) > 0 }

// Bearer is the token of a request with these fields (RFC 6750 §2.1); empty if it has none, or
// several.
func Bearer(h http.Header) string {
	given := h["Authorization"]
	if len(given) != 1 {
		return ""
	}
	scheme, token, _ := strings.Cut(given[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// Knows tells whether what somebody has given is the token, which is not empty, in a time
// that does not tell how near it is.
func Knows(token, given string) bool {
	return subtle.ConstantTimeCompare([]byte(given), []byte(token)) == 1
}

var errToken = errors.New("the token is missing or wrong: send Authorization: Bearer TOKEN")

// local tells whether a Host is none that a stranger's DNS could have led here. Also a
// socket can be reached by one, through whatever forwards to it.
func (o *Options) local(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true
	}
	return strings.EqualFold(host, "localhost") || o.Host != "" && strings.EqualFold(host, o.Host) ||
		o.Token == "" && !strings.Contains(host, ".")
}

func (o *Options) refused(r *http.Request, why error) {
	if o.Refused != nil {
		o.Refused(r.RemoteAddr, why.Error())
	}
}

// typed tells whether a request says that it brings JSON, or answers it: what else there is
// a page of another site can have a browser send.
func typed(w http.ResponseWriter, r *http.Request) bool {
	kinds := r.Header["Content-Type"]
	if len(kinds) == 1 {
		if kind, _, err := mime.ParseMediaType(kinds[0]); err == nil && kind == "application/json" {
			return true
		}
	}
	fail(w, http.StatusUnsupportedMediaType, errors.New("send JSON, as application/json"))
	return false
}
