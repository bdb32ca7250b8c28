// Package local lets an http.Handler answer as if it were an origin on the
// network: an http.RoundTripper without sockets, streaming both ways.
//
// What net/http's server would do to a handler's response happens here too, so
// that a handler cannot tell the difference: the head is held back until
// 4 KiB are written, the handler flushes or returns; a short response gets its
// Content-Length, a response without Content-Type a guessed one. Date is left
// to the receiver (RFC 9110 §6.6.1).
package local

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"

	"github.com/larderhq/larder/internal/interim"
)

// An Error is a handler's failure to answer, or to finish its answer: a
// panic, an early stop, fewer octets than declared. It is immutable.
//
// It has the methods of origin.Error, so that users can treat both alike.
type Error struct {
	// Panic is what the handler panicked with, nil if it did not, and
	// http.ErrAbortHandler if it meant to break off. Stack is where, nil for
	// http.ErrAbortHandler.
	Panic any
	Stack []byte

	// Err says what happened; it is or wraps io.ErrUnexpectedEOF if the
	// answer broke off.
	Err error

	token  string
	remote bool
}

func (e *Error) Error() string { return "handler: " + e.Err.Error() }

// Unwrap returns Err and, if that is an error, Panic.
func (e *Error) Unwrap() []error {
	if p, ok := e.Panic.(error); ok {
		return []error{e.Err, p}
	}
	return []error{e.Err}
}

// ProxyError returns the error type for Proxy-Status (RFC 9209 §2.3).
func (e *Error) ProxyError() string { return e.token }

// Status returns the status recommended for the answer.
func (e *Error) Status() int {
	if e.token == requestError {
		return http.StatusBadRequest
	}
	return http.StatusBadGateway
}

// Unreachable reports whether the answer broke off, so that a stale response
// may stand in for it (RFC 9111 §4.2.4).
func (e *Error) Unreachable() bool { return e.remote }

// The error types of RFC 9209 §2.3 that a handler can cause.
const (
	requestError       = "http_request_error"
	responseIncomplete = "http_response_incomplete"
	protocolError      = "http_protocol_error"
)

func incomplete(what string) *Error {
	return &Error{Err: fmt.Errorf("%s: %w", what, io.ErrUnexpectedEOF), token: responseIncomplete, remote: true}
}

// RoundTripper returns a RoundTripper that has h answer. Any number of
// goroutines may use it. A nil h is a mistake that panics at once.
//
// Each RoundTrip runs h in a goroutine of its own and returns when the head
// of the answer is there. The handler may write at most 32 KiB ahead of the
// reader of the response body. It sees its request's context end, and its
// writes fail, when that body is closed or the context of the request ends,
// also where there is no body to read, as with HEAD; the goroutine lives until
// the handler returns.
//
// The body ends in io.EOF only after the handler returned in good order. If
// it panics, stops early or writes less than it declared, the body ends in an
// *Error that is an io.ErrUnexpectedEOF to errors.Is, however many octets were
// right; if it does so before the head, RoundTrip returns that *Error. A panic
// is never passed on: its value and stack are in the Error, and in the log, or
// nobody would learn of a mistake in h (http.ErrAbortHandler is none).
//
// Interim responses go to the interim.Func of the request's context. 101 and
// hijacking are not supported. http.ResponseController can flush and enable
// full duplex, which is always on; deadlines are http.ErrNotSupported. The
// request body is closed when the handler has returned. The handler's TLS is that of
// the request, or an empty one where the URL says https.
func RoundTripper(h http.Handler) http.RoundTripper {
	if h == nil {
		panic("local: nil handler")
	}
	return roundTripper{h}
}

type roundTripper struct{ handler http.Handler }

func (rt roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	in, err := inbound(req)
	if err != nil {
		if req.Body != nil {
			err = errors.Join(err, req.Body.Close())
		}
		return nil, &Error{Err: err, token: requestError}
	}
	outer := req.Context()
	if outer.Err() != nil {
		_ = in.Body.Close() // nobody has read it
		return nil, context.Cause(outer)
	}
	ctx, cancel := context.WithCancelCause(outer)
	ctx = context.WithValue(ctx, http.ServerContextKey, cmp.Or(serverOf(outer), nobody))
	x := &exchange{
		head:    req.Method == http.MethodHead,
		header:  http.Header{},
		ready:   make(chan struct{}),
		cancel:  cancel,
		interim: interim.From(outer),
		req:     req,
	}
	x.moved.L = &x.mu
	x.unwatch = context.AfterFunc(outer, func() { x.abandon(context.Cause(outer)) })
	x.ctx = ctx
	go rt.run(in.WithContext(ctx), x)

	select {
	case <-x.ready:
	case <-outer.Done():
	}
	return x.response()
}

// nobody is the server of a request that came from none. There must be one: by it
// httputil.ReverseProxy knows that its panic, which is how it breaks off, is caught.
var nobody = new(http.Server)

func serverOf(ctx context.Context) *http.Server {
	s, _ := ctx.Value(http.ServerContextKey).(*http.Server)
	return s
}

// run has the handler answer. The deferred function also runs if the handler
// ends the goroutine, as testing's FailNow does.
func (rt roundTripper) run(in *http.Request, x *exchange) {
	returned := false
	defer func() {
		var failure *Error
		switch p := recover(); {
		case returned:
		case p == nil:
			failure = incomplete("stopped before it returned")
		case p == http.ErrAbortHandler:
			failure = incomplete("broke off")
			failure.Panic = p
		default:
			failure = incomplete(fmt.Sprintf("panic: %v", p))
			failure.Panic, failure.Stack = p, debug.Stack()
			slog.Error("a handler panicked", "method", in.Method, "path", in.URL.Path, "panic", fmt.Sprint(p), "stack", string(failure.Stack))
		}
		x.finish(failure)
		_ = in.Body.Close() // its error concerns what nobody reads any more
	}()
	rt.handler.ServeHTTP((*writer)(x), in)
	returned = true
}

// inbound returns req as a server would hand it to a handler.
func inbound(req *http.Request) (*http.Request, error) {
	if req.URL == nil {
		return nil, errors.New("the request has no URL")
	}
	in := new(http.Request)
	*in = *req
	if in.Method == "" {
		in.Method = http.MethodGet
	}
	if in.Host == "" {
		in.Host = req.URL.Host
	}
	target := *req.URL
	octets := target.Opaque
	if octets != "" {
		if target.RawQuery != "" || target.ForceQuery {
			octets += "?" + target.RawQuery
		}
		u, err := url.ParseRequestURI(octets)
		if err != nil {
			return nil, fmt.Errorf("request target: %w", err)
		}
		target = *u
	}
	target.Scheme, target.Host, target.User, target.Fragment, target.RawFragment = "", "", nil, "", ""
	if target.Path == "" {
		target.Path = "/"
	}
	in.URL = &target
	if in.RequestURI = octets; octets == "" {
		in.RequestURI = target.RequestURI()
	}
	in.Header = req.Header.Clone()
	if in.Header == nil {
		in.Header = http.Header{}
	}
	if in.TLS == nil && req.URL.Scheme == "https" {
		in.TLS = &tls.ConnectionState{} // that it came so is all that is known
	}
	in.Proto, in.ProtoMajor, in.ProtoMinor = "HTTP/1.1", 1, 1
	in.GetBody, in.Response = nil, nil
	if in.Body == nil {
		in.Body = http.NoBody
	} else if in.Body != http.NoBody && in.ContentLength == 0 {
		in.ContentLength = -1 // a client's 0 means unknown, a server's means none
	}
	return in, nil
}
