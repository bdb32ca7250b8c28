package webdav

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/larderhq/larder/gateway/internal/conduit"
)

// Variables of the environment that Parse reads.
const (
	EnvUser     = "LARDER_STORAGE_USER"
	EnvPassword = "LARDER_STORAGE_PASSWORD"
	EnvToken    = "LARDER_STORAGE_TOKEN"
)

// Options say where a server is, and who asks.
type Options struct {
	// URL is the folder that is the root: http or https, without credentials, query
	// and fragment. It has to exist. A slash at its end makes no difference.
	URL string

	// User and Password are sent with each request (Basic, RFC 7617), Token likewise
	// (Bearer, RFC 6750). Both kinds together are an error. All empty: none is sent.
	// By http anybody on the way can read them.
	User, Password string
	Token          string

	// Transport makes the requests, and is its owner's. Nil: a pool of connections of
	// this Source, without a proxy, of which at most 64 are kept idle for 60 s. How many
	// are in use at a time is for the caller to bound.
	Transport http.RoundTripper

	// Now is the clock that ages are told by where the server does not tell the time.
	// Nil: time.Now.
	Now func() time.Time
}

// Parse makes Options of a URL: webdav://host/path is http, webdavs://host/path is
// https, and webdav:https://host/path is what follows the colon. Credentials are those of the URL, otherwise those
// of the environment. getenv looks a variable up; nil: os.Getenv.
func Parse(raw string, getenv func(string) string) (Options, error) {
	if getenv == nil {
		getenv = os.Getenv
	}
	var address string
	scheme, rest, _ := strings.Cut(raw, ":")
	switch {
	case scheme == "webdav" && strings.HasPrefix(rest, "//"):
		address = "http:" + rest
	case scheme == "webdavs" && strings.HasPrefix(rest, "//"):
		address = "https:" + rest
	case scheme == "webdav":
		address = rest
	default:
		return Options{}, errors.New("webdav: the URL is not of the form webdav://host/path or webdavs://host/path")
	}
	u, err := url.Parse(address)
	if err != nil { // it would show the password
		return Options{}, errors.New("webdav: the URL cannot be read; what is special in a name or password is % and two digits")
	}
	o := Options{User: getenv(EnvUser), Password: getenv(EnvPassword), Token: getenv(EnvToken)}
	if u.User != nil {
		o.Token = ""
		o.User = u.User.Username()
		if p, ok := u.User.Password(); ok {
			o.Password = p
		}
		u.User = nil
	}
	o.URL = u.String()
	if _, _, err := root(o.URL); err != nil {
		given := shown(u)
		if address != rest { // the scheme in it is not the one that was given
			given = strings.TrimPrefix(given, u.Scheme+":")
		}
		return Options{}, fmt.Errorf("webdav: %q %w", scheme+":"+given, err)
	}
	return o, nil
}

// shown is a URL without what may be secret in it.
func shown(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
}

// root takes the URL of a root apart: scheme and host, and the segments of its path. The
// error is what comes after the URL.
func root(raw string) (*url.URL, []string, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.User != nil: // the error would show the password
		return nil, nil, errors.New("cannot be read, or has credentials in it; give them apart")
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return nil, nil, errors.New("is no address of http or https with a host")
	case u.RawQuery != "", u.Fragment != "":
		return nil, nil, errors.New("has a query or fragment, which WebDAV does not have")
	}
	path := strings.Trim(u.EscapedPath(), "/")
	if path == "" {
		return u, nil, nil
	}
	segments, ok := decode(path)
	if !ok {
		return nil, nil, errors.New("has empty segments or dots in its path")
	}
	return u, segments, nil
}

// Open returns a Source. Nothing is asked yet: a wrong address or password shows when
// it is used. The caller closes it.
func Open(o Options) (*Source, error) {
	u, base, err := root(o.URL)
	if err != nil {
		given := "URL"
		if u, err := url.Parse(o.URL); err == nil {
			given = strconv.Quote(shown(u))
		}
		return nil, fmt.Errorf("webdav: %s %w", given, err)
	}
	s := &Source{scheme: u.Scheme, host: u.Host, base: base, transport: o.Transport, now: o.Now}
	switch basic := o.User != "" || o.Password != ""; {
	case basic && o.Token != "":
		return nil, fmt.Errorf("webdav %s: both a user and a token are given; give one of them", u.Host)
	case basic:
		r := http.Request{Header: http.Header{}}
		r.SetBasicAuth(o.User, o.Password)
		s.authorization = r.Header.Get("Authorization")
	case o.Token != "":
		s.authorization = "Bearer " + o.Token
	}
	if s.transport == nil {
		s.pool = conduit.Transport()
		s.transport = s.pool
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s, nil
}
