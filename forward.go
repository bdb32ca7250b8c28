package larder

import (
	"errors"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"

	"github.com/larderhq/larder/internal/interim"
)

// plain gives requests a URL such as clients of net/http make. The engine's
// own has the path in Opaque, too, where an http.Transport takes one that
// begins with two slashes for a host.
type plain struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (p plain) RoundTrip(r *http.Request) (*http.Response, error) {
	out := r
	if strings.HasPrefix(r.URL.Opaque, "//") {
		u := *r.URL
		u.Opaque = ""
		out = new(http.Request)
		*out = *r
		out.URL = &u
	}
	res, err := p.RoundTripper.RoundTrip(out)
	if err == nil && res.Uncompressed {
		weaken(res.Header)
	}
	return res, err
}

var errInterim = errors.New("larder: more interim responses than any origin needs")

// traced reports interim responses (RFC 9110 §15.2), which http.Transport tells
// nobody but who traces it.
type traced struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t traced) RoundTrip(r *http.Request) (*http.Response, error) {
	report := interim.From(r.Context())
	if report == nil {
		return t.RoundTripper.RoundTrip(r)
	}
	var mu sync.Mutex
	over, seen := false, 0
	trace := &httptrace.ClientTrace{Got1xxResponse: func(status int, header textproto.MIMEHeader) error {
		mu.Lock()
		defer mu.Unlock()
		if seen++; seen > interim.Max {
			return errInterim
		}
		if over || status == http.StatusContinue {
			return nil
		}
		return report(status, http.Header(header).Clone())
	}}
	defer func() { // nothing is reported after this has returned
		mu.Lock()
		defer mu.Unlock()
		over = true
	}()
	return t.RoundTripper.RoundTrip(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
}
