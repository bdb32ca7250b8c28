package larder

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"

	"github.com/larderhq/larder/internal/engine"
)

// MaxFetchDepth is how deep a page may be made of parts that are made of parts.
const MaxFetchDepth = 8

// ErrFetch is why Fetch does not begin to fetch: a part that contains itself, parts
// nested deeper than MaxFetchDepth, or a request that has nobody to go to.
var ErrFetch = errors.New("larder: this part cannot be fetched")

// A frame is a call of a handler behind the cache, and those that it is made for.
type frame struct {
	cache *Cache
	face  *face
	url   string
	depth int
	above *frame
	ctx   context.Context // as the handler behind the cache got it
}

type frameKey struct{}

func frameOf(ctx context.Context) *frame {
	f, _ := ctx.Value(frameKey{}).(*frame)
	return f
}

// framed tells a handler behind the cache, by its context, where it is.
type framed struct {
	http.RoundTripper
	cache *Cache
	face  *face
}

// RoundTrip implements http.RoundTripper.
func (f *framed) RoundTrip(r *http.Request) (*http.Response, error) {
	here := &frame{cache: f.cache, face: f.face, url: absolute(r.URL), above: frameOf(r.Context())}
	if here.above != nil {
		here.depth = here.above.depth + 1
	}
	here.ctx = context.WithValue(r.Context(), frameKey{}, here)
	return f.RoundTripper.RoundTrip(r.WithContext(here.ctx))
}

// absolute is u as pages and parts are told apart by.
func absolute(u *url.URL) string { return u.Scheme + "://" + u.Host + u.RequestURI() }

// A part is the context of a request for a part of a page. It ends with that of the
// program, but its values are those that the page came with: what a router has added
// since is about the page, and would lead the part astray.
type part struct {
	context.Context
	page context.Context
}

// Value implements context.Context.
func (p part) Value(key any) any { return p.page.Value(key) }

// Fetch gets a part of a page through the cache, for a program that makes a page of it:
// each part has a lifetime of its own, and requests for the same one wait for one
// answer. ctx is that of the request for the page, as a handler behind the cache gets
// it: the part then comes through the same handler, and a URL without host is one of the
// same site. With any other ctx, also that of a handler behind another Cache, the first
// handler or transport of this one is asked.
//
// The response never goes to a client as it is, and has no Age. The caller closes its
// body. If the origin fails, and nothing stale may stand in, the error is the origin's;
// an answer of the origin with an error status is none. A page that is part of itself,
// and parts nested deeper than MaxFetchDepth, are an ErrFetch.
func (c *Cache) Fetch(ctx context.Context, r *http.Request) (*http.Response, error) {
	page := frameOf(ctx)
	target := c.first()
	u := r.URL
	if page != nil && page.cache == c {
		target = page.face
		ctx = part{ctx, page.ctx}
		if !u.IsAbs() {
			base, err := u.Parse(page.url)
			if err != nil {
				return nil, fmt.Errorf("%w: %w", ErrFetch, err)
			}
			u = base.ResolveReference(u)
		}
	}
	switch {
	case target == nil:
		return nil, fmt.Errorf("%w: the cache has no handler and no transport yet", ErrFetch)
	case u.Host == "" && r.Host == "":
		return nil, fmt.Errorf("%w: %q names no host, and the context is not that of a page", ErrFetch, u)
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("%w: %q is neither http nor https", ErrFetch, u)
	case r.Body != nil && r.Body != http.NoBody:
		return nil, fmt.Errorf("%w: the request has content", ErrFetch)
	}
	asked := absolute(u)
	for f := page; f != nil; f = f.above {
		if f.depth >= MaxFetchDepth {
			return nil, fmt.Errorf("%w: %s is nested too deep", ErrFetch, asked)
		}
		if f.url == asked {
			return nil, fmt.Errorf("%w: %s is part of itself", ErrFetch, asked)
		}
	}
	res, err := target.fetch(ctx, r, u)
	if err == nil {
		delete(res.Header, "Age")
	}
	return res, err
}

// first is the first face, or nil.
func (c *Cache) first() *face {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.faces) == 0 {
		return nil
	}
	return c.faces[0]
}

// fetch asks the cache for what r does, at u. What it asks with is its own: fetches may
// go on when r and u are their owner's again.
func (f *face) fetch(ctx context.Context, r *http.Request, u *url.URL) (*http.Response, error) {
	call := &call{}
	in := called(engine.Reporting(ctx, call.fail), r, u, call)
	res, err := f.cached.RoundTrip(in)
	if err != nil {
		return nil, call.failed(err)
	}
	res.Request = r
	if res.Body != http.NoBody {
		res.Body = &body{res.Body, call}
	}
	return res, nil
}

// called is a copy of r at u, which the policies' functions get to see.
func called(ctx context.Context, r *http.Request, u *url.URL, c *call) *http.Request {
	in := r.WithContext(context.WithValue(ctx, callKey{}, c))
	at := *u
	in.URL, in.Header = &at, canonicalHeader(r.Header)
	if u.Scheme == "https" {
		in.TLS = &tls.ConnectionState{} // which is how the engine knows
	}
	c.request = in
	return in
}

// canonicalHeader is a copy of h by whose names fields are found: http.Transport sends
// those of another spelling, too.
func canonicalHeader(h http.Header) http.Header {
	out := make(http.Header, len(h))
	for _, name := range slices.Sorted(maps.Keys(h)) {
		at := http.CanonicalHeaderKey(name)
		out[at] = append(out[at], h[name]...)
	}
	return out
}

// A call is one request to the cache by a program, not by a client.
type call struct {
	request *http.Request // as the cache got it
	failure atomic.Pointer[error]
}

type callKey struct{}

// asCalled is the request as the program made it that r is of, or r.
func asCalled(r *http.Request) *http.Request {
	if c, ok := r.Context().Value(callKey{}).(*call); ok {
		return c.request
	}
	return r
}

func (c *call) fail(err error) { c.failure.CompareAndSwap(nil, &err) }

// failed is what went wrong, which err is only a consequence of.
func (c *call) failed(err error) error {
	if cause := c.failure.Load(); cause != nil {
		return *cause
	}
	return err
}
