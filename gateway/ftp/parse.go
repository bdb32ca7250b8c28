package ftp

import (
	"errors"
	"net"
	"net/url"
	"os"
	"strconv"
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
	// No part of the URL is told: any may be one of a password that was not escaped.
	wrong := errors.New("ftp: the URL is not ftp://user@host/path, ftps:// or ftpes://, or a character in it is not escaped, like / as %2F")
	if err != nil || u.Hostname() == "" || u.Opaque != "" {
		return Options{}, wrong
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
		return Options{}, wrong
	}
	switch {
	case u.RawQuery == "tls=explicit" && u.Scheme != "ftps":
		o.Security = Explicit
	case u.RawQuery != "" || u.Fragment != "":
		return Options{}, errors.New("ftp: of queries in the URL only tls=explicit of ftp:// means something, fragments nothing; escape ? as %3F and # as %23")
	}
	port = either(u.Port(), port)
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return Options{}, errors.New("ftp: the port of the URL is not one of 1 to 65535")
	}
	o.Addr = net.JoinHostPort(u.Hostname(), port)
	if p, ok := u.User.Password(); ok {
		o.Password = p
	} else if o.User != "" {
		o.Password = get("LARDER_STORAGE_PASSWORD")
	}
	return o, nil
}
