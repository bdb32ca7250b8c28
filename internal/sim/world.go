// Package sim is a small world for tests: one cache, one scripted origin, any
// number of clients, and time that passes only when everybody waits
// (testing/synctest). Only tests import it.
package sim

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/interim"
	"github.com/larderhq/larder/internal/observe"
	"github.com/larderhq/larder/store/memory"
)

// Host is whom the clients of a world ask.
const Host = "shop.example"

// A World is one cache between clients and a scripted origin. Its methods are
// called from inside Run's body.
type World struct {
	t      *testing.T
	Engine *engine.Engine
	Store  *memory.Store

	mu       sync.Mutex
	handle   func(*http.Request) Reply
	script   []Reply
	requests []*Seen
	events   []observe.Event
}

// A Seen is a request as the origin received it.
type Seen struct {
	*http.Request
	// Content is its body.
	Content string
	// Target is the request target as octets.
	Target string
}

// A Reply is what the origin answers.
type Reply struct {
	// Status is 200 if it is 0.
	Status int
	// Header are lines such as "Cache-Control: max-age=60". There is no field
	// that is not named here, not even Date.
	Header []string
	Body   string
	// Length is the declared Content-Length: 0 means that of Body, negative
	// means none (the body is chunked).
	Length int64
	// Delay passes before the head is sent.
	Delay time.Duration
	// Stream, if set, is the body in place of Body; its length is Length, or
	// unknown if that is 0. If it is an io.Closer it is closed when the cache
	// gives the body up.
	Stream io.Reader
	// BodyErr ends the body in place of io.EOF.
	BodyErr error
	// Interim are 1xx answers sent before the final one.
	Interim []Interim
	// Err is returned in place of an answer.
	Err error
}

// An Interim is one 1xx answer.
type Interim struct {
	Status int
	Header []string
}

// Run calls body with a world in which the cache has default settings.
func Run(t *testing.T, body func(w *World)) {
	t.Helper()
	RunWith(t, nil, body)
}

// RunWith is Run with a cache that configure has adapted.
func RunWith(t *testing.T, configure func(c *engine.Config), body func(w *World)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &World{t: t}
		w.Store = memory.New(memory.Options{Budget: 16 << 20})
		c := engine.Config{Store: w.Store, Forward: origin{w}, Pseudonym: "sim", Sink: sink{w}}
		if configure != nil {
			configure(&c)
		}
		w.Engine = engine.New(c)
		defer w.Store.Close()
		defer w.Engine.Close()
		body(w)
		synctest.Wait()
	})
}

type sink struct{ w *World }

func (s sink) Observe(e *observe.Event) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.w.events = append(s.w.events, *e)
}

// Events are those of all requests that are over.
func (w *World) Events() []observe.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]observe.Event(nil), w.events...)
}

// Origin lets the origin give these answers, one after the other; the last one
// is repeated for ever.
func (w *World) Origin(script ...Reply) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.script, w.handle = script, nil
}

// Handle lets the origin answer by a function, which may be called by several
// goroutines.
func (w *World) Handle(handle func(*http.Request) Reply) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.handle = handle
}

// Seen are the requests that reached the origin so far.
func (w *World) Seen() []*Seen {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]*Seen(nil), w.requests...)
}

// Last is the last request that reached the origin.
func (w *World) Last() *Seen {
	w.t.Helper()
	seen := w.Seen()
	if len(seen) == 0 {
		w.t.Fatal("no request reached the origin")
	}
	return seen[len(seen)-1]
}

// Count is how many requests reached the origin so far.
func (w *World) Count() int { return len(w.Seen()) }

// WantCount fails the test unless n requests have reached the origin.
func (w *World) WantCount(n int) {
	w.t.Helper()
	if got := w.Count(); got != n {
		w.t.Fatalf("%d requests reached the origin, want %d", got, n)
	}
}

// Advance lets time pass.
func (w *World) Advance(d time.Duration) { time.Sleep(d) }

// Settle waits until nothing moves but by the passing of time.
func (w *World) Settle() { synctest.Wait() }

// Date is a moment from now, as Date and its like have it.
func Date(fromNow time.Duration) string {
	return time.Now().Add(fromNow).UTC().Format(http.TimeFormat)
}

type origin struct{ w *World }

func (o origin) RoundTrip(r *http.Request) (*http.Response, error) {
	w := o.w
	seen := &Seen{Request: r, Target: r.URL.Opaque}
	if seen.Target == "" {
		seen.Target = r.URL.Path
	}
	if r.URL.RawQuery != "" || r.URL.ForceQuery {
		seen.Target += "?" + r.URL.RawQuery
	}
	if r.Body != nil {
		content, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil {
			return nil, err
		}
		seen.Content = string(content)
	}
	w.mu.Lock()
	w.requests = append(w.requests, seen)
	handle, reply := w.handle, Reply{Status: 599}
	if n := len(w.script); n > 0 {
		reply = w.script[0]
		if n > 1 {
			w.script = w.script[1:]
		}
	}
	w.mu.Unlock()
	if handle != nil {
		reply = handle(r)
	}
	return reply.response(r)
}

func (reply Reply) response(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	for _, i := range reply.Interim {
		if fn := interim.From(ctx); fn != nil {
			if err := fn(i.Status, parse(i.Header)); err != nil {
				return nil, err
			}
		}
	}
	if reply.Delay > 0 {
		select {
		case <-time.After(reply.Delay):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if reply.Err != nil {
		return nil, reply.Err
	}
	res := &http.Response{
		StatusCode: max(reply.Status, 200), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: parse(reply.Header), Request: r, ContentLength: reply.Length,
	}
	if reply.Status > 0 {
		res.StatusCode = reply.Status
	}
	var from io.Reader = strings.NewReader(reply.Body)
	switch {
	case reply.Stream != nil:
		from = reply.Stream
		if reply.Length == 0 {
			res.ContentLength = -1
		}
	case reply.Length == 0:
		res.ContentLength = int64(len(reply.Body))
	}
	if r.Method == http.MethodHead && res.ContentLength == 0 && res.Header["Content-Length"] == nil {
		res.ContentLength = -1
	}
	if r.Method == http.MethodHead || res.StatusCode == 304 || res.StatusCode == 204 {
		from = strings.NewReader("")
	} else if res.ContentLength >= 0 && reply.BodyErr == nil && res.Header["Content-Length"] == nil {
		res.Header.Set("Content-Length", itoa(res.ContentLength))
	}
	if res.StatusCode == 304 || res.StatusCode == 204 {
		res.ContentLength = 0
	}
	b := &body{ctx: ctx, from: from, end: reply.BodyErr, stop: func() bool { return true }}
	if c, ok := from.(io.Closer); ok {
		b.stop = context.AfterFunc(ctx, func() { c.Close() })
	}
	res.Body = b
	return res, nil
}

// A body ends as it was told to, or with its context.
type body struct {
	ctx  context.Context
	from io.Reader
	end  error
	stop func() bool
}

func (b *body) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := b.from.Read(p)
	switch {
	case err != nil && b.ctx.Err() != nil:
		err = b.ctx.Err()
	case errors.Is(err, io.EOF) && b.end != nil:
		err = b.end
	}
	return n, err
}

func (b *body) Close() error {
	b.stop()
	if c, ok := b.from.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

func parse(lines []string) http.Header {
	h := http.Header{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ":")
		h.Add(name, strings.TrimSpace(value))
	}
	return h
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// Request is a request as a server hands it on. Lines of header are as in
// Reply; "Host: x" replaces Host.
func Request(method, target string, content string, header ...string) *http.Request {
	h := parse(header)
	host := Host
	if h.Get("Host") != "" {
		host = h.Get("Host")
		h.Del("Host")
	}
	u, err := url.ParseRequestURI(target)
	if err != nil {
		u = &url.URL{Path: target}
	}
	r := &http.Request{
		Method: method, URL: u, RequestURI: target, Host: host, Header: h, Body: http.NoBody,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RemoteAddr: "192.0.2.1:1234",
	}
	if strings.EqualFold(u.Scheme, "https") {
		r.TLS = &tls.ConnectionState{} // as httptest.NewRequest does
	}
	if content != "" {
		r.Body, r.ContentLength = io.NopCloser(bytes.NewBufferString(content)), int64(len(content))
	}
	return r
}
