package sim

import (
	"context"
	"net/http"
	"strings"
	"sync"
)

// An Answer is what a client received. It grows while the exchange is under
// way; after Wait it stands.
type Answer struct {
	w      *World
	cancel context.CancelFunc
	done   chan struct{}

	mu sync.Mutex
	// Status is 0 until the final head was sent.
	Status int
	Header http.Header
	// Interims are the 1xx answers in order.
	Interims []Received
	// Aborted says that the transfer was broken off.
	Aborted bool
	body    []byte
	flushed int
	header  http.Header
}

// Received is one 1xx answer as a client received it.
type Received struct {
	Status int
	Header http.Header
}

// Get asks and waits for the whole answer.
func (w *World) Get(target string, header ...string) *Answer {
	w.t.Helper()
	return w.Do(http.MethodGet, target, "", header...)
}

// Do asks and waits for the whole answer.
func (w *World) Do(method, target, content string, header ...string) *Answer {
	w.t.Helper()
	a := w.Start(method, target, content, header...)
	a.Wait()
	return a
}

// Start asks and returns at once.
func (w *World) Start(method, target, content string, header ...string) *Answer {
	return w.Send(Request(method, target, content, header...))
}

// Send is Start for a request made by hand.
func (w *World) Send(r *http.Request) *Answer {
	ctx, cancel := context.WithCancel(r.Context())
	a := &Answer{w: w, cancel: cancel, done: make(chan struct{}), header: http.Header{}}
	go func() {
		defer close(a.done)
		defer cancel()
		defer a.finish()
		w.Engine.ServeHTTP(answerWriter{a}, r.WithContext(ctx))
	}()
	return a
}

func (a *Answer) finish() {
	switch p := recover(); p {
	case nil:
	case http.ErrAbortHandler:
		a.mu.Lock()
		a.Aborted = true
		a.mu.Unlock()
	default:
		panic(p)
	}
}

// Wait waits for the end of the exchange.
func (a *Answer) Wait() { <-a.done }

// Leave is what a client does that goes away.
func (a *Answer) Leave() { a.cancel() }

// Done tells whether the exchange is over.
func (a *Answer) Done() bool {
	select {
	case <-a.done:
		return true
	default:
		return false
	}
}

// Body is what has been received.
func (a *Answer) Body() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return string(a.body)
}

// Flushed is what has been received if nothing but flushed octets ever leave.
func (a *Answer) Flushed() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return string(a.body[:a.flushed])
}

// CacheStatus is the last member of Cache-Status: ours.
func (a *Answer) CacheStatus() string {
	lines := a.Header["Cache-Status"]
	if len(lines) == 0 {
		return ""
	}
	return lines[len(lines)-1]
}

// Hit tells whether the store answered without the origin.
func (a *Answer) Hit() bool { return strings.Contains(a.CacheStatus(), "; hit") }

// Want fails the test unless the answer is whole and has this status and body.
func (a *Answer) Want(status int, body string) *Answer {
	a.w.t.Helper()
	if a.Aborted || a.Status != status || a.Body() != body {
		a.w.t.Fatalf("got status %d, body %q, aborted %v (Cache-Status %q); want %d, %q", a.Status, cut(a.Body()), a.Aborted, a.CacheStatus(), status, cut(body))
	}
	return a
}

// WantHit fails the test unless the store answered.
func (a *Answer) WantHit() *Answer {
	a.w.t.Helper()
	if !a.Hit() {
		a.w.t.Fatalf("not a hit: status %d, Cache-Status %q", a.Status, a.CacheStatus())
	}
	return a
}

// WantMiss fails the test unless the origin was asked, for this reason (fwd of
// Cache-Status).
func (a *Answer) WantMiss(fwd string) *Answer {
	a.w.t.Helper()
	if !strings.Contains(a.CacheStatus()+";", "; fwd="+fwd+";") {
		a.w.t.Fatalf("not fwd=%s: status %d, Cache-Status %q", fwd, a.Status, a.CacheStatus())
	}
	return a
}

// WantField fails the test unless the field has exactly these lines; none means
// that it is absent.
func (a *Answer) WantField(name string, lines ...string) *Answer {
	a.w.t.Helper()
	got := a.Header[http.CanonicalHeaderKey(name)]
	if strings.Join(got, "\n") != strings.Join(lines, "\n") || len(got) != len(lines) {
		a.w.t.Fatalf("%s is %q, want %q", name, got, lines)
	}
	return a
}

func cut(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}

// An answerWriter is the server's side of an Answer.
type answerWriter struct{ a *Answer }

func (w answerWriter) Header() http.Header { return w.a.header }

func (w answerWriter) WriteHeader(status int) {
	a := w.a
	a.mu.Lock()
	defer a.mu.Unlock()
	if status < 200 {
		a.Interims = append(a.Interims, Received{status, a.header.Clone()})
		return
	}
	if a.Status == 0 {
		a.Status, a.Header = status, a.header.Clone()
	}
}

func (w answerWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	a := w.a
	a.mu.Lock()
	defer a.mu.Unlock()
	a.body = append(a.body, p...)
	return len(p), nil
}

func (w answerWriter) Flush() {
	a := w.a
	a.mu.Lock()
	defer a.mu.Unlock()
	a.flushed = len(a.body)
}
