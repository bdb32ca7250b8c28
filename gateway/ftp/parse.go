package ftp

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
)

// Parse makes Options of ftp://user:password@host:port/path, of ftps:// for TLS from the first octet
// on (port 990), or of ftpes:// or ftp://…?tls=explicit for TLS by AUTH. Without a user it is
// anonymous. A user's password that is not in the URL is the variable
// LARDER_STORAGE_PASSWORD, which get returns; nil is os.Getenv.
//
// As in RFC 1738, the path is below the folder where a login begins; one that begins with
// two slashes, or with /%2F, is absolute. Errors do not contain the password.
func Parse(rawURL string, get func(string) string) (Options, error) {
	if get == nil {
		get = os.Getenv
	}
	u, err := url.Parse(rawURL)
	if err != nil {
		var e *url.Error
		if errors.As(err, &e) {
			err = e.Err // the rest has the URL in it, with the password
		}
		return Options{}, fmt.Errorf("ftp: the URL is malformed: %w", err)
	}
	o := Options{User: u.User.Username(), Root: strings.TrimPrefix(u.Path, "/")}
	port := "21"
	switch u.Scheme {
	case "ftp":
	case "ftpes":
		o.Security = Explicit
	case "ftps":
		o.Security, port = Implicit, "990"
	default:
		return Options{}, fmt.Errorf("%q is not ftp://, ftps:// or ftpes://", u.Redacted())
	}
	switch {
	case u.Hostname() == "" || u.Opaque != "":
		return Options{}, fmt.Errorf("%q names no host", u.Redacted())
	case u.RawQuery == "tls=explicit" && u.Scheme != "ftps":
		o.Security = Explicit
	case u.RawQuery != "" || u.Fragment != "":
		return Options{}, fmt.Errorf("%q: of queries only tls=explicit of ftp:// means something, fragments nothing; escape ? as %%3F and # as %%23", u.Redacted())
	}
	o.Addr = net.JoinHostPort(u.Hostname(), either(u.Port(), port))
	if p, ok := u.User.Password(); ok {
		o.Password = p
	} else if o.User != "" {
		o.Password = get("LARDER_STORAGE_PASSWORD")
	}
	return o, nil
}
