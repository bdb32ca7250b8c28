package local_test

import (
	"io"
	"net/http"
	"net/url"
	"testing"

	"github.com/larderhq/larder/internal/local"
)

// A handler sees the octets of the target, be they such that url.URL would
// write them otherwise.
func TestKEY05_HandlerSeesTheTargetOctetForOctet(t *testing.T) {
	for _, path := range []string{"/", "/a", "//a", "//a//b", "/a%2Fb", "/%7E~", `/a"b|c`, "/a//../b", "/http://h/", "*"} {
		for _, query := range []string{"", "?", "?a=%zz", "?a=1&b=2"} {
			u := &url.URL{Scheme: "http", Host: "h.example", Opaque: path}
			if path == "*" {
				u.Opaque, u.Path = "", "*"
			}
			if query != "" {
				u.RawQuery, u.ForceQuery = query[1:], true
			}
			rt := local.RoundTripper(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL == nil || r.URL.Host != "" || r.URL.Scheme != "" || r.URL.RawQuery != u.RawQuery {
					t.Errorf("%q: URL is %#v", path+query, r.URL)
				}
				_, _ = io.WriteString(w, r.RequestURI)
			}))
			resp, err := rt.RoundTrip(&http.Request{Method: "OPTIONS", URL: u, Host: u.Host})
			if err != nil {
				t.Errorf("%q: %v", path+query, err)
				continue
			}
			got, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if string(got) != path+query || err != nil {
				t.Errorf("%q arrives as %q, %v", path+query, got, err)
			}
		}
	}
}
