package rules_test

import (
	"net/url"
	"testing"

	"github.com/larderhq/larder/internal/rules"
)

func TestINV04_MethodsAndStatuses(t *testing.T) {
	safe := map[string]bool{"GET": true, "HEAD": true, "OPTIONS": true, "TRACE": true, "QUERY": true, "PROPFIND": true, "REPORT": true, "SEARCH": true, "PRI": true}
	for _, method := range []string{
		"GET", "HEAD", "OPTIONS", "TRACE", "QUERY", "PROPFIND", "REPORT", "SEARCH", "PRI",
		"POST", "PUT", "DELETE", "PATCH", "CONNECT", "M-SEARCH", "MKCOL", "COPY", "MOVE", "LOCK", "PURGE", "get", "Get", "", "GET ",
	} {
		if rules.Safe(method) != safe[method] {
			t.Errorf("%q: safe %v", method, !safe[method])
		}
		for status := 100; status < 600; status++ {
			want := !safe[method] && status >= 200 && status <= 399
			if rules.Invalidates(method, status) != want {
				t.Errorf("%q with %d: %v", method, status, !want)
			}
		}
	}
}

func TestINV06_RelatedIsOfTheSameOrigin(t *testing.T) {
	for _, target := range []string{"http://shop.example/a", "http://shop.example:80/a", "https://shop.example/a", "https://shop.example:8443/a", "http://[::1]:8080/a"} {
		for _, reference := range []string{"http://shop.example/b", "https://shop.example/b", "https://shop.example:443/b", "https://shop.example:8443/b", "http://shop.example:8443/b", "http://[::1]:8080/b", "http://[::1]/b", "//evil.example/b", "ftp://shop.example/b"} {
			base, err := url.Parse(target)
			if err != nil {
				t.Fatal(err)
			}
			ref, err := base.Parse(reference)
			if err != nil {
				t.Fatal(err)
			}
			port := func(u *url.URL) string {
				if u.Port() == "" {
					return map[string]string{"http": "80", "https": "443"}[u.Scheme]
				}
				return u.Port()
			}
			same := base.Scheme == ref.Scheme && base.Hostname() == ref.Hostname() && port(base) == port(ref)
			got := rules.Related(base, rules.Header{"Location": {reference}}, &rules.Terms{})
			if same != (len(got) == 1) {
				t.Errorf("%s at %s: %v", reference, target, got)
			}
		}
	}
}
