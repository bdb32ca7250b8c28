package larder

import (
	"io"
	"net/http"
	"strings"

	"github.com/larderhq/larder/internal/engine"
)

// Transport returns a RoundTripper that answers from the cache where it may, and asks
// base where it must. Nil means http.DefaultTransport. Each transport has its part of
// the cache to itself, but all share Memory.
//
// Unless the policy says otherwise it is a private cache (RFC 9111 §1), as a browser
// has one: it keeps what is `private`, heeds Cache-Control in requests, and keeps users
// apart that differ in Authorization. Where one client acts for several users that
// differ in other ways, in a Cookie say, set Policy.Sharing to Shared, or VaryOn: a
// private cache would give one user what was made for another. Under a reverse
// proxy, set Sharing to Shared.
//
// Cache-Status in each response tells what was made of the request (RFC 9211). Who
// sets no Range and no conditions never gets 206 or 304; who does gets what belongs to
// them. A body need not be read to its end, only closed: if it has not all arrived by
// then, a private cache calls off the rest and keeps nothing, unless others read it too.
// Errors are those of base. Nobody knows what fields change that speak for others, such
// as X-Forwarded-For: requests that have them go past a private cache, and a shared one
// keeps the fields from the origin. What the origin sends compressed only because base asked for it,
// as http.Transport does by itself, is kept as base gives it: decompressed.
//
// A mistake in a policy panics: see Check.
func (c *Cache) Transport(base http.RoundTripper) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	return &transport{base: base, face: c.add(engine.Config{Forward: outbound{base}}, Private, asCalled), shared: c.anyShared()}
}

// via is the server that r goes to, if that is not the one whose name it has: with
// several behind one name, as under a reverse proxy, each has responses of its own.
func via(r *http.Request) string {
	if r.Host == "" || strings.EqualFold(r.Host, r.URL.Host) {
		return ""
	}
	return r.URL.Host
}

type transport struct {
	*face
	base   http.RoundTripper
	shared bool
}

// anyShared tells whether what a transport gets may be for everybody.
func (c *Cache) anyShared() bool {
	shared := c.Policy.Sharing == Shared
	for _, p := range c.Policies {
		shared = shared || p.Sharing == Shared
	}
	return shared
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if !cacheable(r) || !t.shared && t.SpeaksFor(r.Header) {
		return t.past(r)
	}
	return t.fetch(r.Context(), r, r.URL)
}

// CloseIdleConnections does so in the RoundTripper that the transport asks, for
// http.Client.
func (t *transport) CloseIdleConnections() {
	if base, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

// cacheable tells whether the cache has a part in r. What has not goes to the base as
// it is, so that all that it knows of it, such as how to get the content a second
// time, is there.
func cacheable(r *http.Request) bool {
	return (r.Method == "" || r.Method == http.MethodGet || r.Method == http.MethodHead) &&
		(r.Body == nil || r.Body == http.NoBody) && len(r.Header["Upgrade"]) == 0 &&
		r.URL != nil && (r.URL.Scheme == "http" || r.URL.Scheme == "https")
}

// past sends r past the cache, which learns of what it changes.
func (t *transport) past(r *http.Request) (*http.Response, error) {
	if r.URL == nil {
		return t.base.RoundTrip(r)
	}
	p := t.Pass(called(r.Context(), r, r.URL, &call{}))
	answered := false
	defer func() { // also if base panics
		if !answered {
			p.Failed()
		}
	}()
	res, err := t.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if res.Header == nil {
		res.Header = http.Header{}
	}
	if res.Uncompressed {
		weaken(res.Header)
	}
	answered = true
	p.Answered(res)
	why := "larder; fwd=bypass"
	if r.Method != "" && r.Method != http.MethodGet && r.Method != http.MethodHead {
		why = "larder; fwd=method"
	}
	res.Header["Cache-Status"] = append(res.Header["Cache-Status"], why)
	return res, nil
}

// A body ends in the error that broke it, not in how the cache tells of that.
type body struct {
	io.ReadCloser
	call *call
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = b.call.failed(err)
	}
	return n, err
}

// outbound asks base what the engine wants to know, where the caller would have.
type outbound struct{ base http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (o outbound) RoundTrip(r *http.Request) (*http.Response, error) {
	asked := asCalled(r)
	out := new(http.Request)
	*out = *r
	out.URL, out.Host, out.Close, out.Body = asked.URL, asked.Host, asked.Close, nil
	if lines, ok := r.Header["User-Agent"]; ok && lines == nil { // the engine's word for none
		out.Header = r.Header.Clone()
		delete(out.Header, "User-Agent")
	}
	res, err := o.base.RoundTrip(out)
	if err == nil && res.Uncompressed {
		weaken(res.Header)
	}
	return res, err
}

// weaken makes a strong entity tag a weak one: the octets are not those that the
// origin named by it (RFC 9110 §8.8.3.3).
func weaken(h http.Header) {
	if tag := h.Get("Etag"); strings.HasPrefix(tag, `"`) {
		h["Etag"] = []string{"W/" + tag}
	}
}
