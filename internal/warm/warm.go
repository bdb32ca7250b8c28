// Package warm asks a cache for URLs, so that it has them before somebody waits
// for them.
package warm

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dunglas/httpsfv"
)

// Options say how to ask.
type Options struct {
	// To is where the cache is: scheme, host and port count. Requests name the host
	// of their URL all the same, also in TLS where To has https; the scheme of a URL
	// says nothing. No proxy is used.
	To *url.URL
	// TLS is how the cache is known where To has https. Nil: as the system knows others.
	TLS *tls.Config
	// Concurrency is how many URLs are asked for at the same time; at least 1.
	Concurrency int
	// Rate is how many requests begin in a second, at most. Zero: as many as can.
	Rate float64
	// Header is sent with each request. Host and what frames messages have no effect
	// in it. Without Accept-Encoding the cache is asked for what is not compressed.
	Header http.Header
	// Timeout is how long a request may take, its body included. Zero: as long as it
	// takes.
	Timeout time.Duration
	// Progress is called after each URL, by one goroutine at a time. Nil: nobody is.
	Progress func(Report)
}

// A Report says what came of the URLs so far.
type Report struct {
	// Fetched is how many the cache had to ask for, or to confirm.
	Fetched int
	// Unkept is how many of Fetched the cache does not keep, by its Cache-Status
	// (RFC 9211).
	Unkept int
	// Hits is how many it had already.
	Hits int
	// Failed is how many had no whole answer, or one with a status of 400 or more.
	Failed int
	// Failures are the first of the Failed.
	Failures []Failure
	// Octets is the size of all bodies, also of errors.
	Octets int64
	// Left is how many were not asked for, or not to the end, because it was told to
	// stop.
	Left int
}

// A Failure is a URL that is not warm.
type Failure struct {
	URL string
	Err error
}

// maxFailures is how many are named.
const maxFailures = 5

// Unreachable is that nothing is where the cache should be.
type Unreachable struct{ Err error }

func (e *Unreachable) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Unreachable) Unwrap() error { return e.Err }

// Run asks for all urls, as those of Sources are, in their order. It returns early
// with the cause if ctx ends, and with an *Unreachable if the first connections
// fail. What fails by itself is in the Report alone. It leaves no goroutine behind.
func Run(ctx context.Context, urls []string, o Options) (Report, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	t := transport(&o, cancel)
	defer t.CloseIdleConnections()
	return run(ctx, urls, &o, t)
}

// dialTimeout is how long a connection may take to be made, at most.
const dialTimeout = 5 * time.Second

// transport connects to o.To, whatever the host is. It calls unreachable if the
// first connection cannot be made, which spares a million failures.
func transport(o *Options, unreachable context.CancelCauseFunc) *http.Transport {
	port := o.To.Port()
	if port == "" {
		port = ownPort(o.To.Scheme)
	}
	address := net.JoinHostPort(o.To.Hostname(), port)
	dialer := net.Dialer{Timeout: dialTimeout}
	if o.Timeout > 0 { // who is not there is told from who is slow
		dialer.Timeout = min(dialTimeout, o.Timeout/2)
	}
	var connected atomic.Bool
	return &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, network, address)
			if err == nil {
				connected.Store(true)
			} else if !connected.Load() && ctx.Err() == nil {
				unreachable(&Unreachable{err})
			}
			return c, err
		},
		TLSClientConfig:     o.TLS,
		DisableCompression:  true, // what is asked for is the operator's choice
		MaxConnsPerHost:     o.Concurrency,
		MaxIdleConns:        o.Concurrency,
		MaxIdleConnsPerHost: o.Concurrency,
	}
}

// A tour is what Run makes of a list of URLs.
type tour struct {
	*Options
	via http.RoundTripper

	mu     sync.Mutex
	report Report // guarded by mu
}

func run(ctx context.Context, urls []string, o *Options, via http.RoundTripper) (Report, error) {
	t := &tour{Options: o, via: via}
	t.report.Left = len(urls)
	work := make(chan string)
	var workers sync.WaitGroup
	for range min(o.Concurrency, len(urls)) {
		workers.Go(func() {
			for u := range work {
				t.visit(ctx, u)
			}
		})
	}
	o.feed(ctx, urls, work)
	workers.Wait()
	if t.report.Left > 0 {
		return t.report, context.Cause(ctx)
	}
	return t.report, nil
}

// feed hands out the URLs, no faster than Rate.
func (o *Options) feed(ctx context.Context, urls []string, work chan<- string) {
	defer close(work)
	var pace <-chan time.Time
	if o.Rate > 0 {
		ticker := time.NewTicker(max(time.Duration(float64(time.Second)/o.Rate), 1))
		defer ticker.Stop()
		pace = ticker.C
	}
	for i, u := range urls {
		if pace != nil && i > 0 {
			select {
			case <-pace:
			case <-ctx.Done():
				return
			}
		}
		select {
		case work <- u:
		case <-ctx.Done():
			return
		}
	}
}

// visit asks for u, and notes what came of it, unless it was told to stop.
func (t *tour) visit(ctx context.Context, u string) {
	hit, kept, octets, err := t.ask(ctx, u)
	if ctx.Err() != nil && err != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	r := &t.report
	r.Left--
	r.Octets += octets
	switch {
	case err != nil:
		r.Failed++
		if len(r.Failures) < maxFailures {
			r.Failures = append(r.Failures, Failure{u, err})
		}
	case hit:
		r.Hits++
	default:
		r.Fetched++
		if !kept {
			r.Unkept++
		}
	}
	if t.Progress != nil {
		t.Progress(*r)
	}
}

// ask makes one request, and reads the answer to its end.
func (t *tour) ask(ctx context.Context, text string) (hit, kept bool, octets int64, err error) {
	u, err := url.Parse(text)
	if err != nil {
		return false, false, 0, err
	}
	u.Scheme = t.To.Scheme
	if t.Timeout > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, t.Timeout)
		defer stop()
	}
	r := (&http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: t.Header}).WithContext(ctx)
	if r.Header == nil {
		r.Header = http.Header{}
	}
	resp, err := t.via.RoundTrip(r)
	if err != nil {
		return false, false, 0, t.reason("no answer", err)
	}
	defer resp.Body.Close()
	octets, err = io.Copy(io.Discard, resp.Body)
	switch {
	case resp.StatusCode >= http.StatusBadRequest:
		return false, false, octets, fmt.Errorf("answered %s", status(resp.StatusCode))
	case err != nil:
		return false, false, octets, t.reason("the answer broke off", err)
	}
	hit, kept = cached(resp.Header)
	return hit, kept, octets, nil
}

// reason says why there is no whole answer.
func (t *tour) reason(what string, err error) error {
	var slow interface{ Timeout() bool }
	if errors.As(err, &slow) && slow.Timeout() {
		return fmt.Errorf("no whole answer within %v", t.Timeout)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// cached tells whether the cache that we asked had the response, and whether it
// has it now. Of the caches that an answer went through the last one is it
// (RFC 9211 §2). What it confirmed with a 304 it keeps, as what another request
// stored at the same time.
func cached(h http.Header) (hit, kept bool) {
	list, err := httpsfv.UnmarshalList(h.Values("Cache-Status"))
	if err != nil || len(list) == 0 {
		return false, false
	}
	last, ok := list[len(list)-1].(httpsfv.Item)
	if !ok {
		return false, false
	}
	is := func(name string, want any) bool {
		v, _ := last.Params.Get(name)
		return v == want
	}
	hit = is("hit", true)
	return hit, hit || is("stored", true) || is("collapsed", true) || is("fwd-status", int64(http.StatusNotModified))
}
