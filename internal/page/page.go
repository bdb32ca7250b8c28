// Package page has responses assembled that ask for it: between a cache, which keeps
// templates and fragments as they are, and the client, who gets a page (ESI 1.0).
package page

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/larderhq/larder/internal/esi"
	"github.com/larderhq/larder/internal/field"
)

// Settings are the operator's choices for the pages of a request. They must not
// change.
type Settings struct {
	// Hosts are those, beside the template's own, whose fragments are included, as
	// host or host:port, in lower case.
	Hosts []string
	// Cookies are those that pages may show.
	Cookies []string
	// Drop has fragments that fail vanish; otherwise they fail the page.
	Drop bool
	// Strict has malformed markup fail the page; otherwise it is text.
	Strict bool
	// Limits bound a page.
	Limits esi.Limits
	// Device is our name in Surrogate-Control.
	Device string
	// Targeted are the fields, beside those that end in -Cache-Control, that speak to
	// caches of the lifetime.
	Targeted []string
	// Hide keeps Surrogate-Control from clients, of responses that are no
	// templates, too.
	Hide bool
}

// A Handler answers by Cache, and assembles what asks for it. Any number of goroutines
// may use it.
type Handler struct {
	// Cache answers, with Surrogate-Control where there is one.
	Cache http.Handler
	// Fetch gets a fragment through the cache. The URL of its request is absolute.
	Fetch func(*http.Request) (*http.Response, error)
	// Settings are those for a request; nil: nothing is assembled.
	Settings func(*http.Request) *Settings
	// Name identifies us in Proxy-Status.
	Name string
	// Failed, where set, is told why a page could not be assembled.
	Failed func(r *http.Request, err error)
}

// ServeHTTP implements http.Handler. It panics as the Cache does, and with
// http.ErrAbortHandler when a page that was begun cannot be finished.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := &answer{ResponseWriter: w, h: h, r: r, before: maps.Clone(w.Header())}
	a.serve()
	if a.partial {
		// Neither ranges nor conditions are about a template (ESI 1.0 §6).
		whole := &answer{ResponseWriter: w, h: h, r: r.WithContext(r.Context()), before: a.before, whole: true}
		whole.r.Header = unconditional(r.Header)
		whole.serve()
	}
}

// unconditional is a header without what asks for less than the whole.
func unconditional(h http.Header) http.Header {
	h = maps.Clone(h)
	for _, name := range []string{"Range", "If-Range", "If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since"} {
		delete(h, name)
	}
	return h
}

// An answer is the http.ResponseWriter of the Cache.
type answer struct {
	http.ResponseWriter
	h *Handler
	r *http.Request
	// before are the fields that were there before the Cache had any.
	before http.Header

	whole   bool // all of it was asked for
	decided bool
	partial bool // a template, but not all of it: nothing of this is sent

	// Of a page:
	pipe *io.PipeWriter // the template; nil: this is no page
	out  *output
	done chan error
	// private is what the Cache has for a header from then on: the real one is the
	// assembly's.
	private http.Header
}

// Header implements http.ResponseWriter.
func (a *answer) Header() http.Header {
	if a.private != nil {
		return a.private
	}
	return a.ResponseWriter.Header()
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *answer) serve() {
	defer a.finish()
	a.h.Cache.ServeHTTP(a, a.r)
}

// finish ends the page, however the Cache ended.
func (a *answer) finish() {
	if a.pipe == nil {
		return
	}
	panicked := recover()
	if panicked != nil {
		_ = a.pipe.CloseWithError(io.ErrUnexpectedEOF)
	} else {
		_ = a.pipe.Close()
	}
	err := <-a.done
	if err == nil && panicked == nil {
		err = a.out.end()
	}
	begun := a.out.stop()
	switch {
	case err == nil && panicked == nil:
		return
	case err == nil: // the client has its page; what failed came later
		panic(panicked)
	case a.h.Failed != nil && a.r.Context().Err() == nil:
		a.h.Failed(a.r, err)
	}
	if begun || a.r.Context().Err() != nil {
		panic(http.ErrAbortHandler)
	}
	a.fail(err)
}

// reset takes back what the Cache has set, and returns the header.
func (a *answer) reset() http.Header {
	h := a.ResponseWriter.Header()
	clear(h)
	maps.Copy(h, a.before)
	return h
}

// fail answers for a page of which nothing was sent.
func (a *answer) fail(err error) {
	h := a.reset()
	status, token := http.StatusBadGateway, "http_protocol_error"
	if errors.Is(err, esi.ErrTime) {
		status, token = http.StatusGatewayTimeout, "connection_timeout"
	}
	h["Proxy-Status"] = []string{string(field.AppendSFIdentifier(nil, a.h.Name)) + "; error=" + token}
	h["Content-Type"], h["Cache-Control"] = []string{"text/plain; charset=utf-8"}, []string{"no-store"}
	body := strconv.Itoa(status) + " " + http.StatusText(status) + ": the page cannot be assembled\n"
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	a.ResponseWriter.WriteHeader(status)
	_, _ = io.WriteString(a.ResponseWriter, body) // a client that is gone is told nothing
}

// WriteHeader decides whether this is a page.
func (a *answer) WriteHeader(status int) {
	if status < 200 || a.decided {
		a.ResponseWriter.WriteHeader(status)
		return
	}
	a.decided = true
	h := a.Header()
	if len(h["Surrogate-Control"]) > 0 {
		if s := a.h.Settings(a.r); s != nil && a.decide(s, status) {
			return
		}
	}
	a.ResponseWriter.WriteHeader(status)
}

// decide begins a page, if there is to be one, and returns true then.
func (a *answer) decide(s *Settings, status int) bool {
	h := a.Header()
	if !esi.Asks(h, s.Device) || len(h["Content-Encoding"]) > 0 || a.r.Method != http.MethodGet && a.r.Method != http.MethodHead {
		if s.Hide {
			delete(h, "Surrogate-Control")
		}
		return false
	}
	switch status {
	case http.StatusPartialContent, http.StatusNotModified, http.StatusPreconditionFailed, http.StatusRequestedRangeNotSatisfiable:
		if !a.whole {
			a.reset()
			a.partial, a.private = true, http.Header{}
			return true
		}
	case http.StatusNoContent:
		return false
	}
	a.dress(s)
	if a.r.Method == http.MethodHead {
		return false
	}
	template, pipe := io.Pipe()
	a.pipe, a.done, a.out = pipe, make(chan error, 1), &output{w: a.ResponseWriter, status: status}
	a.private = http.Header{}
	p := a.page(s)
	go func() {
		err := p.Assemble(a.r.Context(), a.out, template)
		_ = template.CloseWithError(cause(err)) // so that the Cache does not wait for who reads no more
		a.done <- err
	}()
	return true
}

// cause is err, or why there is nobody to read the rest.
func cause(err error) error {
	if err == nil {
		return io.ErrClosedPipe
	}
	return err
}

// dress makes the header of a template that of a page. Caches further down may not keep
// it: fragments that are private, or live for a moment, may come after the head.
func (a *answer) dress(s *Settings) {
	h := a.Header()
	esi.Strip(h, s.Device)
	delete(h, "Surrogate-Control") // also what it says of the template's lifetime
	delete(h, "Trailer")
	downstream := "private, no-cache"
	if field.ParseDirectives(h["Cache-Control"]).NoStore {
		downstream = "no-store"
	}
	for name := range h {
		if strings.HasSuffix(name, "-Cache-Control") || slices.Contains(s.Targeted, name) { // RFC 9213
			delete(h, name)
		}
	}
	delete(h, "Age")
	delete(h, "Expires")
	h["Cache-Control"] = []string{downstream}
}

// page is what is to be assembled.
func (a *answer) page(s *Settings) *esi.Page {
	u := *a.r.URL
	u.Scheme, u.Host = "http", a.r.Host
	if a.r.TLS != nil {
		u.Scheme = "https"
	}
	own, others := a.fields()
	return &esi.Page{
		Request: a.r, URL: &u, Cookies: s.Cookies, Device: s.Device, Drop: s.Drop, Strict: s.Strict, Limits: s.Limits,
		Allowed: func(to *url.URL) bool {
			return esi.SameOrigin(&u, to) || slices.Contains(s.Hosts, strings.ToLower(to.Host))
		},
		Fetch: func(ctx context.Context, to *url.URL) (*http.Response, error) {
			fields := others
			if esi.SameOrigin(&u, to) {
				fields = own
			}
			r := &http.Request{Method: http.MethodGet, URL: to, Host: to.Host, Header: fields.Clone(), RemoteAddr: a.r.RemoteAddr, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
			return a.h.Fetch(r.WithContext(ctx))
		},
	}
}

// fields are those that go along with the requests for fragments of the page's own
// origin, and of others, who learn no secrets.
func (a *answer) fields() (own, others http.Header) {
	own = unconditional(a.r.Header)
	for _, name := range []string{"Cache-Control", "Pragma", "Connection", "Upgrade", "Te", "Expect", "Content-Length", "Content-Type"} {
		delete(own, name)
	}
	own["Accept-Encoding"] = []string{"identity"}
	others = maps.Clone(own)
	for _, name := range []string{"Cookie", "Authorization", "Proxy-Authorization"} {
		delete(others, name)
	}
	return own, others
}

// Write takes what the Cache has.
func (a *answer) Write(p []byte) (int, error) {
	if !a.decided {
		a.WriteHeader(http.StatusOK)
	}
	switch {
	case a.partial:
		return len(p), nil
	case a.pipe != nil:
		return a.pipe.Write(p)
	}
	return a.ResponseWriter.Write(p)
}

// FlushError sends what there is. A page is flushed as it is assembled.
func (a *answer) FlushError() error {
	if a.partial || a.pipe != nil {
		return nil
	}
	return http.NewResponseController(a.ResponseWriter).Flush()
}
