package origin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/larderhq/larder/internal/field"
	"github.com/larderhq/larder/internal/interim"
)

// An exchange is one request on one connection, and what comes of it. The
// goroutine that calls RoundTrip has it, and then whoever reads the body.
type exchange struct {
	up     *Upstream
	c      *conn
	out    outgoing
	caller context.Context
	forget func() bool // ends the watch over caller; nil: there is none
	upload *upload     // nil: there is no content

	answered bool // an octet of an answer came
	last     bool // no further exchange on this connection
	resp     http.Response
	body     body

	over atomic.Bool // the connection is given back, or up

	mu     sync.Mutex // guards what follows
	headed bool       // the final head is there
	failed *Error     // the first failure
	client error      // what the content broke off with
}

func newExchange(u *Upstream, c *conn, out outgoing) *exchange {
	x := &exchange{up: u, c: c, out: out, caller: out.Context()}
	x.body.x = x
	return x
}

// run sends the request and returns its final response.
func (x *exchange) run() (*http.Response, error) {
	x.c.open()
	if x.caller.Done() != nil {
		x.forget = context.AfterFunc(x.caller, x.c.shut)
	}
	err := x.send()
	if err == nil {
		err = x.receive()
	}
	if err != nil {
		x.abandon()
		x.c.settle()
		return nil, x.explain(err)
	}
	return &x.resp, nil
}

// send sends the head, and has the content sent.
func (x *exchange) send() error {
	if x.out.length != 0 {
		x.upload = newUpload(x)
	}
	*x.c.buf = x.out.appendHead((*x.c.buf)[:0])
	err := x.c.write(*x.c.buf, x.up.opt.StallTimeout)
	*x.c.buf = (*x.c.buf)[:cap(*x.c.buf)]
	switch {
	case err != nil:
		if x.upload != nil {
			_ = x.upload.body.Close()
		}
		return x.unsent(err)
	case x.upload != nil:
		x.c.await(0)
		go x.upload.run()
		return nil
	}
	x.c.await(x.up.opt.ResponseHeaderTimeout)
	return nil
}

// sent bounds the wait for the answer, now that the content is out.
func (x *exchange) sent() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.headed {
		x.c.await(x.up.opt.ResponseHeaderTimeout)
	}
}

// unsent notes why the request did not get out.
func (x *exchange) unsent(err error) error {
	switch {
	case errors.Is(err, net.ErrClosed):
		return err // by us
	case errors.Is(err, os.ErrDeadlineExceeded):
		return x.note(ConnectionWriteTimeout, err)
	}
	return x.note(ConnectionTerminated, err)
}

// receive reads heads until the final one has come.
func (x *exchange) receive() error {
	h, pass := &x.c.found, interim.From(x.caller)
	for n := 0; ; n++ {
		if err := x.head(); err != nil {
			return err
		}
		switch {
		case h.status == http.StatusSwitchingProtocols:
			return x.change()
		case h.status >= 200:
			return x.final()
		case n == interim.Max:
			return x.note(ProtocolError, fmt.Errorf("response head: more than %d interim responses", interim.Max))
		}
		fields := h.fields(x.text())
		switch {
		case h.status == http.StatusContinue:
			if x.upload != nil {
				x.upload.proceed(true)
			}
		case pass != nil:
			if err := pass(h.status, fields); err != nil {
				return stopped{err}
			}
		}
	}
}

// stopped is an error of the interim.Func.
type stopped struct{ error }

// head reads the next response head into the window.
func (x *exchange) head() error {
	c, h := x.c, &x.c.found
	h.begin()
	for {
		p := c.pending()[h.size:]
		n := bytes.IndexByte(p, '\n') + 1
		if n > 0 {
			p = p[:n]
		}
		if h.size+len(p) > x.up.opt.MaxHeadBytes {
			return x.note(ResponseHeaderSize, fmt.Errorf("response head: longer than %d octets", x.up.opt.MaxHeadBytes))
		}
		if n == 0 {
			if err := c.fill(); err != nil {
				return x.brokenHead(err)
			}
			x.answered = true
			continue
		}
		over, kind, err := h.parse(p)
		switch {
		case err != nil:
			return x.note(kind, fmt.Errorf("response head: %w", err))
		case over:
			return nil
		}
	}
}

// text takes the head from the window.
func (x *exchange) text() string {
	text := string(x.c.pending()[:x.c.found.size])
	x.c.r += len(text)
	return text
}

// brokenHead tells what the end of the connection means before a head is there.
func (x *exchange) brokenHead(err error) error {
	switch {
	case closed(err):
		return err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return x.note(ConnectionReadTimeout, fmt.Errorf("no answer for %v: %w", x.up.opt.ResponseHeaderTimeout, err))
	case !x.answered:
		return x.note(ConnectionTerminated, fmt.Errorf("closed before any octet of the answer: %w", err))
	}
	return x.note(ResponseIncomplete, fmt.Errorf("the head was cut short: %w", cut(err)))
}

// closed tells whether a read failed because we closed the connection, which net.Pipe
// says by an error of its own.
func closed(err error) bool { return errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) }

// cut is an error in place of err by which readers know that something is missing.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, err)
}

// answer makes the response of the head that was read, without its body.
func (x *exchange) answer() {
	if x.upload != nil {
		x.mu.Lock()
		x.headed = true
		x.mu.Unlock()
	}
	h, text := &x.c.found, x.text()
	x.resp = http.Response{
		Status: h.reason.in(text), StatusCode: h.status, Proto: text[:len("HTTP/1.1")], ProtoMajor: 1, ProtoMinor: int(h.minor - '0'),
		Header: h.fields(text), Body: http.NoBody, Request: x.out.Request, TLS: x.c.tls,
	}
}

// final makes the final response (RFC 9112 §6.3).
func (x *exchange) final() error {
	x.answer()
	h, r := &x.c.found, &x.resp
	if h.options || h.minor == '0' {
		options := r.Header["Connection"]
		r.Close = field.HasToken(options, "close") || h.minor == '0' && !field.HasToken(options, "keep-alive")
	}
	if h.chunked {
		r.TransferEncoding = []string{"chunked"}
		if err := x.announce(h); err != nil {
			return err
		}
	}
	b := &x.body
	switch {
	case x.out.method == http.MethodHead:
		r.ContentLength = -1
		if h.sized {
			r.ContentLength = h.length
		}
	case h.status == http.StatusNoContent, h.status == http.StatusNotModified:
	case h.chunked:
		delete(r.Header, "Content-Length")
		b.frame, r.ContentLength = inChunks, -1
	case h.sized:
		r.ContentLength, b.left = h.length, h.length
		if h.length > 0 {
			b.frame = sized
		}
	default:
		b.frame, r.ContentLength, r.Close = untilClose, -1, true
	}
	x.last = r.Close || x.out.last || h.chunked && h.sized
	if x.upload != nil {
		x.upload.proceed(!x.last)
	}
	if b.frame == none {
		x.end()
	} else {
		r.Body = b
	}
	return nil
}

// announce has Response.Trailer name the fields that are to follow the body.
func (x *exchange) announce(h *head) error {
	if !h.trails {
		return nil
	}
	r := &x.resp
	for name := range strings.SplitSeq(strings.Join(r.Header["Trailer"], ","), ",") {
		name = http.CanonicalHeaderKey(strings.Trim(name, " \t"))
		switch name {
		case "Transfer-Encoding", "Trailer", "Content-Length":
			return x.note(ProtocolError, fmt.Errorf("response head: %s as a trailer, RFC 9110 §6.5.1", name))
		}
		if !field.IsToken(name) {
			continue
		}
		if r.Trailer == nil {
			r.Trailer = make(http.Header)
		}
		r.Trailer[name] = nil
	}
	delete(r.Header, "Trailer")
	return nil
}

// change makes the response of a 101, after which the connection is a tunnel (RFC 9110 §7.8).
func (x *exchange) change() error {
	if !x.out.upgrade {
		return x.note(ProtocolError, errors.New("response head: 101 to a request without Upgrade, RFC 9110 §15.2.2"))
	}
	x.answer()
	fields := x.resp.Header
	switch {
	case len(fields["Upgrade"]) == 0 || !field.HasToken(fields["Connection"], "upgrade"):
		return x.note(UpgradeFailed, errors.New("101 without Connection: upgrade, RFC 9110 §7.8"))
	case x.upload != nil && !x.upload.whole():
		return x.note(UpgradeFailed, errors.New("101 before the content was sent, RFC 9110 §7.8"))
	case x.forget != nil && !x.forget():
		return net.ErrClosed
	case !x.over.CompareAndSwap(false, true):
		return net.ErrClosed
	}
	x.up.pool.release()
	x.resp.Body = &tunnel{x.c}
	return x.c.free()
}

// end gives the connection back, now that the response is complete. It may serve
// again if nobody wants it closed, and nothing is left of either message.
func (x *exchange) end() {
	if !x.over.CompareAndSwap(false, true) {
		return
	}
	c := x.c
	good := !x.last && c.r == c.w && (x.upload == nil || x.upload.whole())
	if x.forget != nil && !x.forget() {
		good = false // it is being closed
	}
	c.settle()
	if good {
		x.up.pool.put(c)
	} else {
		x.up.pool.drop(c)
	}
}

// abandon gives the connection up. Whoever reads from it may still do so.
func (x *exchange) abandon() {
	if !x.over.CompareAndSwap(false, true) {
		return
	}
	if x.forget != nil {
		x.forget()
	}
	x.up.pool.drop(x.c)
	if x.upload != nil {
		x.upload.proceed(false)
	}
}

// note keeps the first failure, and returns it.
func (x *exchange) note(kind Kind, err error) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.failed == nil {
		x.failed = x.up.fault(kind, err)
	}
	return x.failed
}

// explain tells why the exchange ended with err: what the caller did to itself is
// returned as it is.
func (x *exchange) explain(err error) error {
	if x.caller.Err() != nil {
		return context.Cause(x.caller)
	}
	var (
		own  *Error
		stop stopped
	)
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case errors.As(err, &stop):
		return stop.error
	case errors.As(err, &own):
		return own
	case x.client != nil:
		return x.client
	case x.failed != nil:
		return x.failed
	}
	return http.ErrBodyReadAfterClose // nobody else closes the connection
}

// repeatable tells whether the request is known to have been in vain: the
// connection had served before, and broke before any octet of an answer came.
func (x *exchange) repeatable() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.c.served && !x.answered && x.client == nil && x.failed != nil && x.failed.Kind == ConnectionTerminated && x.caller.Err() == nil
}
