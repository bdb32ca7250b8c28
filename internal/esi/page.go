package esi

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"time"
)

// A Page tells how the pages of one template are assembled for one request. It
// is not changed: Assemble may be called many times and by many goroutines.
type Page struct {
	// Request is the client's, read for variables and not changed. nil: all
	// variables are unset.
	Request *http.Request

	// URL is the absolute URL of the template, against which its relative
	// sources are resolved. It is required and not changed.
	URL *url.URL

	// Fetch gets a fragment, in the usual case through the cache. It is required
	// and called from many goroutines; u is its own. Of the response only
	// StatusCode, ContentLength, Body, and of Header Surrogate-Control and
	// Content-Encoding count. A fragment is included if its status is 200, 203
	// or 204 and it has no content coding. Body is never nil and is closed by
	// the assembly.
	//
	// Fetch returns redirects (3xx) as they are, sends cookies and credentials
	// only if SameOrigin(Page.URL, u), and does not panic. Once ctx is done,
	// Fetch and the Read of bodies return soon: Assemble waits for them.
	Fetch func(ctx context.Context, u *url.URL) (*http.Response, error)

	// Allowed tells whether a fragment may be fetched from u, an http or https
	// URL with a host and without user information or fragment identifier. It
	// is called from many goroutines. nil: only the origin of URL.
	Allowed func(u *url.URL) bool

	// Cookies are the names, compared exactly, of the cookies that pages can
	// read as variables; $(HTTP_COOKIE) shows these alone. nil: none.
	Cookies []string

	// Device is the token by which Surrogate-Control addresses us, see
	// field.ParseSurrogate. Empty: only unaddressed directives count.
	Device string

	// Drop makes an include that fails without a remedy of its own vanish;
	// otherwise it fails the page. In an attempt it leads to except all the
	// same. It does not help once text of the fragment has been written.
	Drop bool

	// Strict makes malformed markup and unknown esi elements fail the page, or
	// the fragment they are in. Otherwise they are passed on as text.
	Strict bool

	// Limits bound the assembly.
	Limits Limits
}

// Limits bound one assembly. Values of zero and below mean the default.
type Limits struct {
	// Depth is how deep fragments may lie in each other: those named by the
	// template have depth 1. Default 3.
	Depth int

	// Includes is how many sources may be tried for the page: src, alt where src
	// failed, and those of fragments. Default 256.
	Includes int

	// Parallel is how many fragments may be fetched, or wait with up to 64 KiB
	// of their text for their turn, at one time. They start in document order.
	// A fragment within a fragment, or in the place of one that failed, does not
	// wait for a place once its turn has come, or those after it would stop the
	// page; there may be Depth more for that. Default 32.
	Parallel int

	// Size is the longest page, in octets. Default 64 MiB.
	Size int64

	// Fragment is the longest body of one fragment, in octets as received, and
	// how much is held back for attempts. Default 16 MiB.
	Fragment int64

	// Time is how long fragments may hold up the page in all; a slow template
	// or client does not count. When it is over, those under way fail, and
	// none is fetched any more. Default 10 s.
	Time time.Duration

	// Markup is the longest tag or variable, in octets. What is longer is
	// malformed. Default 8 KiB.
	Markup int
}

// withDefaults returns l with its defaults filled in.
func (l Limits) withDefaults() Limits {
	fill(&l.Depth, 3)
	fill(&l.Includes, 256)
	fill(&l.Parallel, 32)
	fill(&l.Size, 64<<20)
	fill(&l.Fragment, 16<<20)
	fill(&l.Time, 10*time.Second)
	fill(&l.Markup, 8<<10)
	return l
}

func fill[N int | int64 | time.Duration](value *N, standard N) {
	if *value <= 0 {
		*value = standard
	}
}

// Assemble reads template and writes the page to dst, from the calling
// goroutine, in pieces and as soon as they are known. If dst has FlushError or
// is an http.Flusher it is flushed before a wait.
//
// The fragments ahead are fetched meanwhile. Memory is bounded by about 200 KiB
// for each of Limits.Parallel, the text that waits for its turn and what it is
// read from, 512 KiB for the template, and Limits.Fragment for attempts.
//
// An error means that the page is incomplete, whatever of it was written: one
// of this package's (ErrTime, IncludeError and so on), of template or dst, or
// the cause of ctx. When Assemble returns no goroutine of it is left, for which
// it waits until calls of template.Read, dst.Write and Fetch have returned.
func (p *Page) Assemble(ctx context.Context, dst io.Writer, template io.Reader) error {
	a := newAssembly(ctx, p, dst)
	defer a.running.Wait()
	defer a.stop(nil)

	q := newQueue(templateAhead, false)
	doc := &document{url: p.URL, name: p.URL.String(), key: canonical(p.URL), ctx: a.fetching}
	a.running.Go(func() { q.end(a.scan(a.ctx, doc, template, q)) })
	return a.walk(q, part{})
}
