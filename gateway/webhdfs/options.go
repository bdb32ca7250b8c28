package webhdfs

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/larderhq/larder/gateway/internal/conduit"
)

// Variables of the environment that Parse reads.
const (
	EnvUser  = "LARDER_STORAGE_USER"
	EnvToken = "LARDER_STORAGE_TOKEN"
)

// Options say where a name node is, and who asks.
type Options struct {
	// URL is the name node: http://host:9870 or https://host:9871, and nothing more.
	URL string

	// Root is the path of the folder that is the root. It has to exist. "" is "/".
	Root string

	// User is who asks where Hadoop's security is off, Token a delegation token for
	// where it is on. Both together are an error; without either the name node decides.
	// By http anybody on the way can read the token.
	User, Token string

	// Transport makes the requests, and is its owner's. Nil: a pool of connections of
	// this Source, without a proxy, of which at most 64 are kept idle for 60 s. How many
	// are in use at a time is for the caller to bound.
	Transport http.RoundTripper

	// Now is the clock that ages are told by. Nil: time.Now.
	Now func() time.Time
}

// Parse makes Options of a URL: hdfs://host:9870/path, the port being that of HTTP. Its
// parameters are user, otherwise that of the environment, and tls=on for https. A token
// comes from the environment only. getenv looks a variable up; nil: os.Getenv.
func Parse(raw string, getenv func(string) string) (Options, error) {
	if getenv == nil {
		getenv = os.Getenv
	}
	u, err := url.Parse(raw)
	if err != nil {
		return Options{}, errors.New("webhdfs: the URL cannot be read; it is hdfs://host:9870/path, with % and two digits for what is special")
	}
	if u.User != nil || u.Scheme != "hdfs" || u.Host == "" || u.Fragment != "" {
		return Options{}, fmt.Errorf("webhdfs: %q is not of the form hdfs://host:9870/path?user=name", u.Redacted())
	}
	o := Options{Root: u.Path, User: getenv(EnvUser), Token: getenv(EnvToken)}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Options{}, fmt.Errorf("webhdfs: the parameters for %s cannot be read", u.Host)
	}
	scheme := "http"
	for name, values := range query {
		switch v := values[len(values)-1]; {
		case len(values) > 1:
			return Options{}, fmt.Errorf("webhdfs: parameter %q is given %d times", name, len(values))
		case name == "user":
			o.User = v
		case name == "tls" && v == "on":
			scheme = "https"
		case name == "tls" && v == "off":
		default:
			return Options{}, fmt.Errorf("webhdfs: parameter %q is neither user=name nor tls=on or off", name)
		}
	}
	o.URL = scheme + "://" + u.Host
	if _, err := split(o.Root); err != nil {
		return Options{}, err
	}
	return o, nil
}

// split takes the path of a root apart.
func split(root string) ([]string, error) {
	path := strings.Trim(root, "/")
	if err := check(path); err != nil {
		return nil, fmt.Errorf("webhdfs: the root %q has empty segments, dots or a colon in it", root)
	}
	if path == "" {
		return nil, nil
	}
	return strings.Split(path, "/"), nil
}

// Open returns a Source. Nothing is asked yet: a wrong address or user shows when it is
// used. The caller closes it.
func Open(o Options) (*Source, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.User != nil {
		return nil, errors.New("webhdfs: the URL cannot be read, or has credentials in it; give them apart")
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("webhdfs: %q is not of the form http://host:9870 or https://host:9871", u.Redacted())
	}
	base, err := split(o.Root)
	switch {
	case err != nil:
		return nil, err
	case o.User != "" && o.Token != "":
		return nil, fmt.Errorf("webhdfs %s: both a user and a token are given; the token says who asks", u.Host)
	}
	s := &Source{scheme: u.Scheme, host: u.Host, base: base, who: url.Values{}, transport: o.Transport, now: o.Now}
	if o.User != "" {
		s.who.Set("user.name", o.User)
	}
	if o.Token != "" {
		s.who.Set("delegation", o.Token)
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
