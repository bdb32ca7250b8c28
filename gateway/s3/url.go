package s3

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
)

// styles are by what Parse calls them.
var styles = map[string]Style{"auto": Auto, "path": Path, "host": Host}

// Parse makes Options of a URL: s3://bucket/prefix, with these parameters:
//
//	endpoint   Options.Endpoint; otherwise AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL
//	region     Options.Region; otherwise AWS_REGION or AWS_DEFAULT_REGION
//	anonymous  true or false
//	style      auto, path or host
//
// getenv looks a variable up; nil: os.Getenv. Credentials do not belong into a URL.
func Parse(u string, getenv func(string) string) (Options, error) {
	if getenv == nil {
		getenv = os.Getenv
	}
	first := func(names ...string) string {
		for _, n := range names {
			if v := getenv(n); v != "" {
				return v
			}
		}
		return ""
	}
	p, err := url.Parse(u)
	switch {
	case err != nil:
		return Options{}, errors.New("s3: the URL cannot be read; it is s3://bucket/prefix, with % and two digits for what is special")
	case p.User != nil:
		return Options{}, fmt.Errorf("s3: the URL of bucket %q has credentials in it; give them by the environment or a file", p.Host)
	case p.Scheme != "s3" || p.Host == "" || p.Opaque != "" || p.Fragment != "":
		return Options{}, fmt.Errorf("s3: %q is not of the form s3://bucket/prefix", u)
	}
	opt := Options{
		Bucket: p.Host, Prefix: strings.Trim(p.Path, "/"),
		Endpoint: first("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
		Region:   first("AWS_REGION", "AWS_DEFAULT_REGION"),
	}
	set := map[string]func(string) error{
		"endpoint": func(v string) error { opt.Endpoint = v; return nil },
		"region":   func(v string) error { opt.Region = v; return nil },
		"anonymous": func(v string) error {
			var err error
			opt.Anonymous, err = strconv.ParseBool(v)
			return err
		},
		"style": func(v string) error {
			var ok bool
			if opt.Style, ok = styles[v]; !ok {
				return errors.New("it is auto, path or host")
			}
			return nil
		},
	}
	query, err := url.ParseQuery(p.RawQuery)
	if err != nil {
		return Options{}, fmt.Errorf("s3: the parameters of the URL of bucket %q cannot be read", p.Host)
	}
	for name, values := range query {
		f, ok := set[name]
		if !ok {
			return Options{}, fmt.Errorf("s3: parameter %q is none of %s", name, strings.Join(slices.Sorted(maps.Keys(set)), ", "))
		}
		if len(values) > 1 {
			return Options{}, fmt.Errorf("s3: parameter %q is given %d times", name, len(values))
		}
		if err := f(values[0]); err != nil {
			return Options{}, fmt.Errorf("s3: parameter %q: %q: %w", name, values[0], err)
		}
	}
	return opt, nil
}
