package warm

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// clean reads a URL that a cache can be asked for. Scheme and host of it are lower
// case, the scheme's own port and the fragment are gone, the path is not empty,
// and what is beyond ASCII is percent-encoded.
func clean(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return nil, fmt.Errorf("%s is no URL: write it as https://example.org/page", quote(text))
	case strings.ContainsAny(text, " \t\u00a0"):
		return nil, fmt.Errorf("%s has a blank in it: write that as %%20", quote(text))
	case u.User != nil:
		return nil, errors.New("the URL has the name of a user in it, or a password: leave them out")
	}
	u.Host = strings.ToLower(u.Host)
	if port := u.Port(); port == "" || port == ownPort(u.Scheme) {
		u.Host = strings.TrimSuffix(u.Host, ":"+port)
	}
	if u.Path == "" {
		u.Path = "/"
	}
	u.Fragment, u.RawFragment = "", ""
	u.RawQuery = ascii(u.RawQuery)
	return u, nil
}

// ascii percent-encodes what is beyond ASCII. url.URL does it for paths.
func ascii(query string) string {
	var b strings.Builder
	for _, c := range []byte(query) {
		if c >= 0x80 {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func ownPort(scheme string) string {
	if scheme == "https" {
		return "443"
	}
	return "80"
}

// sameHost tells whether a and b are of the same host: of the same port, too, if
// it is not the scheme's own, for behind each port is another server.
func sameHost(a, b *url.URL) bool {
	port := func(u *url.URL) string {
		if p := u.Port(); p != ownPort(u.Scheme) {
			return p
		}
		return ""
	}
	return strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

// quote is text for a message: short, and without control characters.
func quote(text string) string {
	const most = 80
	if len(text) > most {
		text = text[:most] + "..."
	}
	return fmt.Sprintf("%q", text)
}
