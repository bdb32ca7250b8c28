package engine

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"github.com/larderhq/larder/internal/canon"
	"github.com/larderhq/larder/internal/field"
)

// A fault is why there is no answer from the origin.
type fault struct {
	// status is what the client gets, token the error of Proxy-Status (RFC
	// 9209 §2.3).
	status int
	token  string
	// unreachable says that there was no answer at all, so that a stale one
	// may stand in.
	unreachable bool
	// why adds what had gone wrong before.
	why string
	err error
}

// A proxyError is an error of a RoundTripper that knows what it means.
type proxyError interface {
	error
	ProxyError() string
	Status() int
	Unreachable() bool
}

var errLoop = errors.New("the request has passed here before: the origin leads back to this cache")

// asFault reads an error of Forward. What says nothing of itself counts as an
// origin that left without an answer.
func asFault(err error) *fault {
	var p proxyError
	switch {
	case errors.As(err, &p):
		return &fault{status: p.Status(), token: p.ProxyError(), unreachable: p.Unreachable(), err: err}
	case errors.Is(err, context.DeadlineExceeded):
		return &fault{status: http.StatusGatewayTimeout, token: "connection_timeout", unreachable: true, err: err}
	}
	return &fault{status: http.StatusBadGateway, token: "connection_terminated", unreachable: true, err: err}
}

// fault answers for an origin that did not. A stale answer that a directive
// forbids is owed as 504 (RFC 9111 §5.2.2.2).
func (x *exchange) fault(f *fault) {
	x.event.Fault, x.event.Forward, x.event.Hit = f.err, "", false
	x.report(f.err)
	status := f.status
	if f.unreachable && x.chosen() != nil {
		status = http.StatusGatewayTimeout
	}
	x.blame(f.token)
	x.event.Why = f.token
	if f.why != "" {
		x.event.Why = f.token + " after " + f.why
	}
	x.plain(status, sentence(f.token))
}

type reportKey struct{}

// Reporting returns a context for a request for which a failure to get an answer is
// not answered: what fails, before the answer or within it, is told to report before
// ServeHTTP panics with http.ErrAbortHandler. That is what a client expects that takes
// the origin's errors for its own. report may be called more than once, and by any
// goroutine.
func Reporting(ctx context.Context, report func(error)) context.Context {
	return context.WithValue(ctx, reportKey{}, report)
}

// unreported is ctx without a Reporting.
func unreported(ctx context.Context) context.Context {
	if ctx.Value(reportKey{}) == nil {
		return ctx
	}
	return context.WithValue(ctx, reportKey{}, nil)
}

// report breaks off where there is somebody who wants to know err instead of an
// answer about it.
func (x *exchange) report(err error) {
	if x.r.Context().Value(reportKey{}) != nil {
		x.abort(err)
	}
}

// blame says in Proxy-Status what went wrong (RFC 9209 §2).
func (x *exchange) blame(token string) {
	b := field.AppendSFIdentifier(nil, x.e.Name)
	x.w.Header()["Proxy-Status"] = []string{string(append(append(b, "; error="...), token...))}
}

// sentence is what a person reads of an error token.
func sentence(token string) string {
	switch token {
	case "proxy_loop_detected":
		return errLoop.Error()
	case "http_request_error":
		return "the content of the request did not come as it was announced"
	case "dns_error", "dns_timeout":
		return "the name of the origin cannot be resolved"
	case "connection_refused", "destination_unavailable":
		return "the origin cannot be reached"
	case "connection_timeout", "connection_read_timeout":
		return "the origin did not answer in time"
	case "connection_terminated":
		return "the origin closed the connection without an answer"
	case "tls_certificate_error", "tls_protocol_error":
		return "the origin cannot be trusted"
	}
	return "the origin's answer is not one that can be passed on"
}

// refuse answers a request that is no good.
func (x *exchange) refuse(err error) {
	var e *canon.Error
	if !errors.As(err, &e) {
		e = &canon.Error{Status: http.StatusBadRequest, Why: "bad request"}
	}
	x.event.Why = e.Why
	x.report(err)
	x.w.Header()["Connection"] = []string{"close"}
	x.blame("http_request_error")
	x.plain(e.Status, e.Why)
}

// methods are those that no client need be told to leave alone.
const methods = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

// unserved answers a method that ends here (RFC 9110 §9.3.6, §9.3.8).
func (x *exchange) unserved() {
	x.event.Why = "method not served (RFC 9110 9.3)"
	x.w.Header()["Allow"] = []string{methods}
	x.blame("http_request_error")
	x.plain(http.StatusMethodNotAllowed, "the method "+x.r.Method+" is not served here")
}

// plain answers with a sentence of ours. It repeats nothing of the request.
func (x *exchange) plain(status int, why string) {
	h := x.w.Header()
	body := strconv.Itoa(status) + " " + http.StatusText(status) + ": " + why + "\n"
	h["Content-Type"] = []string{"text/plain; charset=utf-8"}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	h["Cache-Control"] = []string{"no-store"}
	x.respond(status)
	if x.r.Method != http.MethodHead {
		n, _ := x.w.Write([]byte(body)) // a client that is gone is told nothing
		x.event.Sent += int64(n)
	}
}
