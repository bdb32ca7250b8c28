package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/larderhq/larder/internal/interim"
)

// Bounds, in octets.
const (
	heldBack = 4 << 10  // written before the head goes out by itself
	ahead    = 32 << 10 // written and not yet read
)

// An exchange is one answer on its way from the handler to the reader of the
// response body. The handler's side is writer, the reader's is body.
type exchange struct {
	req     *http.Request   // as it came to RoundTrip
	head    bool            // the request's method is HEAD
	ctx     context.Context // the handler's
	cancel  context.CancelCauseFunc
	unwatch func() bool // stops watching the request's context

	interimMu sync.Mutex // held while interim runs
	interim   interim.Func
	answers   int

	ready chan struct{} // closed once resp or failure is set

	mu      sync.Mutex // guards what follows
	moved   sync.Cond  // the buffer, or one of the ends, changed
	header  http.Header
	status  int          // 0 until the handler chose one
	frozen  http.Header  // the header when it did
	length  int64        // declared, or -1
	written int64        // by the handler, HEAD included
	buf     bytes.Buffer // at most ahead octets
	resp    *http.Response
	done    bool  // the handler has returned
	failure error // why the answer is not complete
	gone    error // why nobody reads any more
	trailer http.Header
}

// writer is the http.ResponseWriter. As in net/http, one goroutine at a time.
type writer exchange

// Header returns the header, or what will be the trailers.
func (w *writer) Header() http.Header { return w.header }

// WriteHeader sends an interim response or chooses the final status. A second
// final status is ignored.
func (w *writer) WriteHeader(status int) {
	x := (*exchange)(w)
	switch {
	case status < 100 || status > 999:
		panic(fmt.Sprintf("local: invalid WriteHeader code %v", status))
	case status == http.StatusSwitchingProtocols:
		x.fail(&Error{Err: errors.New("101 from a handler in process"), token: protocolError})
	case status < 200:
		x.early(status)
	default:
		x.mu.Lock()
		defer x.mu.Unlock()
		x.choose(status)
	}
}

// early passes an interim response on.
func (x *exchange) early(status int) {
	x.interimMu.Lock()
	defer x.interimMu.Unlock()
	x.mu.Lock()
	late := x.status != 0 || x.resp != nil || x.gone != nil || x.failure != nil
	x.mu.Unlock()
	if late || x.answers < 0 {
		return
	}
	if x.answers++; x.answers > interim.Max {
		x.fail(&Error{Err: fmt.Errorf("more than %d interim responses", interim.Max), token: protocolError})
		return
	}
	if status == http.StatusContinue || x.interim == nil {
		return
	}
	if err := x.interim(status, x.header.Clone()); err != nil {
		x.fail(err)
	}
}

// choose fixes status and header. The caller holds mu.
func (x *exchange) choose(status int) {
	if x.status != 0 {
		return
	}
	x.status, x.length = status, -1
	x.frozen = x.header.Clone()
	for name := range x.frozen {
		if strings.HasPrefix(name, http.TrailerPrefix) {
			delete(x.frozen, name)
		}
	}
	delete(x.frozen, "Transfer-Encoding") // of the connection there is not
	if v, ok := x.frozen["Content-Length"]; ok {
		n, err := strconv.ParseInt(x.frozen.Get("Content-Length"), 10, 64)
		switch {
		case err == nil && n >= 0 && len(v) == 1 && hasBody(status):
			x.length = n
		default:
			delete(x.frozen, "Content-Length")
		}
	}
}

// hasBody reports whether a response with status may have a body, to a request
// other than HEAD (RFC 9110 §6.4.1).
func hasBody(status int) bool { return status >= 200 && status != 204 && status != 304 }

// Write hands p to the reader, waiting while too much is unread. It fails
// with http.ErrBodyNotAllowed, http.ErrContentLength, or why nobody reads.
func (w *writer) Write(p []byte) (int, error) {
	x := (*exchange)(w)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.choose(http.StatusOK)
	switch {
	case !hasBody(x.status):
		return 0, http.ErrBodyNotAllowed
	case x.length >= 0 && x.written+int64(len(p)) > x.length:
		return 0, http.ErrContentLength
	}
	if x.head {
		return x.discard(p)
	}
	for n := 0; ; {
		switch {
		case x.stopped() != nil:
			return n, x.stopped()
		case n == len(p):
			if x.written > heldBack || x.length >= 0 && n > 0 {
				x.publish()
			}
			return n, nil
		}
		k := min(len(p)-n, ahead-x.buf.Len())
		if k == 0 {
			x.publish() // or nobody would ever read
			x.moved.Wait()
			continue
		}
		x.buf.Write(p[n : n+k])
		x.moved.Broadcast()
		n += k
		x.written += int64(k)
	}
}

// discard takes the body that HEAD does not get, but for what tells its type.
// The caller holds mu.
func (x *exchange) discard(p []byte) (int, error) {
	if err := x.stopped(); err != nil {
		return 0, err
	}
	if x.resp == nil {
		x.buf.Write(p[:min(len(p), max(0, heldBack-x.buf.Len()))])
	}
	if x.written += int64(len(p)); x.written > heldBack || x.length >= 0 && len(p) > 0 {
		x.publish()
	}
	return len(p), nil
}

// stopped tells why nothing more can be written, if so. The caller holds mu.
func (x *exchange) stopped() error {
	switch {
	case x.gone != nil:
		return x.gone
	case x.failure != nil:
		return x.failure
	case x.done:
		return errReturned
	}
	return nil
}

var errReturned = errors.New("local: Write after the handler has returned")

// WriteString is Write.
func (w *writer) WriteString(s string) (int, error) { return w.Write([]byte(s)) }

// ReadFrom is Write for all that src has, by a buffer that is used again.
func (w *writer) ReadFrom(src io.Reader) (int64, error) {
	buf := buffers.Get().(*[ahead]byte)
	defer buffers.Put(buf)
	// Without their own ways, which would lead back here.
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{src}, buf[:])
}

var buffers = sync.Pool{New: func() any { return new([ahead]byte) }}

// Flush is FlushError without the error.
func (w *writer) Flush() { _ = w.FlushError() }

// FlushError sends the head. The body needs no flushing: a reader gets what
// there is. It fails if nobody reads any more.
func (w *writer) FlushError() error {
	x := (*exchange)(w)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.choose(http.StatusOK)
	x.publish()
	if x.gone != nil {
		return x.gone
	}
	return x.failure
}

// CloseNotify implements http.CloseNotifier, which is out of date, and which gin
// asks for.
func (w *writer) CloseNotify() <-chan bool {
	closed := make(chan bool, 1)
	context.AfterFunc(w.ctx, func() { closed <- true })
	return closed
}

// EnableFullDuplex does nothing: request and response never hinder each other.
func (w *writer) EnableFullDuplex() error { return nil }

// publish makes the head available. The caller holds mu and has chosen.
func (x *exchange) publish() {
	if x.resp != nil || x.failure != nil {
		return
	}
	h := x.frozen
	prefix := x.buf.Bytes()
	// As net/http's server, for handlers that rely on it.
	_, typed := h["Content-Type"]
	if !typed && hasBody(x.status) && len(prefix) > 0 && h.Get("Content-Encoding") == "" {
		h.Set("Content-Type", http.DetectContentType(prefix))
	}
	for name, v := range h {
		if len(v) == 0 {
			delete(h, name) // no value, no field
		}
	}
	resp := &http.Response{
		Status:        strconv.Itoa(x.status) + " " + http.StatusText(x.status),
		StatusCode:    x.status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        h,
		Body:          (*body)(x),
		ContentLength: x.length,
		Request:       x.req,
	}
	if !hasBody(x.status) {
		resp.ContentLength = 0
	}
	for _, name := range announced(h) {
		if resp.Trailer == nil {
			resp.Trailer = http.Header{}
		}
		resp.Trailer[name] = nil
	}
	if resp.Trailer != nil {
		delete(h, "Trailer")
	}
	if x.head {
		x.buf = bytes.Buffer{}
	}
	x.resp = resp
	close(x.ready)
}

// announced returns the names in the Trailer field (RFC 9110 §6.6.2) that may
// be trailers (RFC 9110 §6.5.1).
func announced(h http.Header) []string {
	var names []string
	for _, line := range h["Trailer"] {
		for name := range strings.SplitSeq(line, ",") {
			switch name = http.CanonicalHeaderKey(strings.Trim(name, " \t")); name {
			case "", "Transfer-Encoding", "Content-Length", "Trailer":
			default:
				names = append(names, name)
			}
		}
	}
	return names
}

// fail ends the answer. The first failure stays.
func (x *exchange) fail(err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.failure == nil && !x.done {
		x.failure = err
		if x.resp == nil {
			close(x.ready)
		}
		x.moved.Broadcast()
		x.cancel(err)
	}
}

// finish records that the handler has returned, with why in disorder.
func (x *exchange) finish(failure *Error) {
	if failure != nil {
		x.fail(failure)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.failure == nil {
		x.choose(http.StatusOK)
		if x.resp == nil {
			x.measure()
		}
		if x.length >= 0 && x.written < x.length && !x.head && hasBody(x.status) {
			x.failure = incomplete(fmt.Sprintf("wrote %d of %d octets", x.written, x.length))
			if x.resp == nil {
				close(x.ready)
			}
		} else {
			x.publish()
			x.collectTrailers()
		}
	}
	x.done = true
	x.moved.Broadcast()
	x.unwatch()
	x.cancel(nil)
}

// measure gives a response that was held back whole its length.
func (x *exchange) measure() {
	_, announces := x.frozen["Trailer"]
	if x.length < 0 && hasBody(x.status) && !announces && (!x.head || x.written > 0) {
		x.length = x.written
		x.frozen.Set("Content-Length", strconv.FormatInt(x.written, 10))
	}
}

// collectTrailers takes the trailers from the header, as net/http's server.
func (x *exchange) collectTrailers() {
	if x.head || !hasBody(x.status) {
		return
	}
	t := http.Header{}
	for name := range x.resp.Trailer {
		if v, ok := x.header[name]; ok {
			t[name] = append([]string(nil), v...)
		}
	}
	for name, v := range x.header {
		if name, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			t[http.CanonicalHeaderKey(name)] = append([]string(nil), v...)
		}
	}
	if len(t) > 0 {
		x.trailer = t
	}
}

// abandon records that nobody reads any more.
func (x *exchange) abandon(why error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.gone == nil {
		x.gone = why
		x.buf = bytes.Buffer{}
		x.moved.Broadcast()
		x.cancel(why)
	}
}

// response is what RoundTrip returns.
func (x *exchange) response() (*http.Response, error) {
	x.interimMu.Lock() // no interim.Func runs, and none will
	x.answers = -1
	x.interimMu.Unlock()
	outer := x.req.Context()
	x.mu.Lock()
	resp, failure := x.resp, x.failure
	x.mu.Unlock()
	switch {
	case resp != nil:
		return resp, nil // its body tells the rest
	case outer.Err() != nil:
		x.abandon(context.Cause(outer))
		return nil, context.Cause(outer)
	}
	return nil, failure
}

// body is the response body.
type body exchange

// errClosed is what reads and writes meet after the body was closed.
var errClosed = fmt.Errorf("local: the response body is closed: %w", io.ErrClosedPipe)

// Read returns what the handler wrote, io.EOF after its end.
func (b *body) Read(p []byte) (int, error) {
	x := (*exchange)(b)
	x.mu.Lock()
	defer x.mu.Unlock()
	for {
		switch {
		case x.gone != nil:
			return 0, x.gone
		case x.head || !hasBody(x.resp.StatusCode):
			return 0, io.EOF
		case len(p) == 0:
			return 0, nil
		case x.buf.Len() > 0:
			n, err := x.buf.Read(p)
			x.moved.Broadcast()
			return n, err
		case x.failure != nil:
			return 0, x.failure
		case x.done:
			if x.trailer != nil && x.resp.Trailer == nil {
				x.resp.Trailer = http.Header{}
			}
			for name, v := range x.trailer {
				x.resp.Trailer[name] = v
			}
			x.trailer = nil
			return 0, io.EOF
		}
		x.moved.Wait()
	}
}

// Close tells the handler that nobody reads. It does not wait for it.
func (b *body) Close() error {
	x := (*exchange)(b)
	x.unwatch()
	x.abandon(errClosed)
	return nil
}
