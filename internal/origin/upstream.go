package origin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/larderhq/larder/internal/interim"
)

// An Upstream is an http.RoundTripper toward one origin. Any number of
// goroutines may use it. It must come from New.
type Upstream struct {
	opt  Options
	name string // scheme and authority, for errors
	base string // path before every request's
	tls  *tls.Config
	tr   *http.Transport
}

// New returns an Upstream for the origin of o. It opens no connection. The
// error says which option to change and how.
func New(o Options) (*Upstream, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	u := &Upstream{
		opt:  o,
		name: o.URL.Scheme + "://" + o.URL.Host,
		base: basePath(o.URL),
		tls: &tls.Config{
			MinVersion:           tls.VersionTLS12,
			ServerName:           o.ServerName,
			RootCAs:              o.RootCAs,
			GetClientCertificate: o.Certificate,
			NextProtos:           []string{"http/1.1"},
			ClientSessionCache:   tls.NewLRUClientSessionCache(0),
		},
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	u.tr = &http.Transport{
		Protocols:      protocols,
		DialContext:    u.dial,
		DialTLSContext: u.dialTLS,

		// No proxy from the environment, nothing added, nothing decoded.
		Proxy:              nil,
		DisableCompression: true,

		MaxConnsPerHost:       o.MaxConns,
		MaxIdleConns:          o.MaxIdle,
		MaxIdleConnsPerHost:   o.MaxIdle,
		IdleConnTimeout:       o.IdleTimeout,
		ResponseHeaderTimeout: max(0, o.ResponseHeaderTimeout),
		ExpectContinueTimeout: expectContinueTimeout,
		ReadBufferSize:        readBuffer,

		// The witness counts exactly; this one counts body octets too.
		MaxResponseHeaderBytes: int64(o.MaxHeadBytes) + 2*readBuffer,
	}
	return u, nil
}

// CloseIdle closes the connections that wait for work. Exchanges under way
// are not disturbed, and the Upstream stays usable.
func (u *Upstream) CloseIdle() { u.tr.CloseIdleConnections() }

// RoundTrip sends req to the origin and returns its final response.
//
// Of req.URL only path and query count. They go out octet for octet, after
// the base path: Opaque if it is set, else RawPath if it stands for Path, else
// the escaped Path; then RawQuery. Nothing is added to the header; removing
// what belongs to one hop (RFC 9110 §7.6.1) is the caller's part, but Upgrade
// with Connection, where an upgrade is wanted. req.Method must not be CONNECT.
//
// A request is sent once; GET, HEAD, OPTIONS and TRACE whose body can be had
// again are sent once more if the connection had served before and broke
// before any octet of an answer came (RFC 9110 §9.2.2).
//
// Interim responses go to the interim.Func of the request's context.
//
// The caller closes the body. Reading it ends in io.EOF only if the response
// is complete (RFC 9112 §8); what is cut short ends in an *Error, and in
// io.ErrUnexpectedEOF as errors.Is sees it. Trailers are in Response.Trailer
// after io.EOF. A response to an accepted upgrade has an io.ReadWriteCloser as
// its body, which outlives the request's context.
//
// Errors are of type *Error, save the caller's own (see there).
func (u *Upstream) RoundTrip(req *http.Request) (*http.Response, error) {
	x := &exchange{up: u, caller: req.Context(), method: req.Method, interim: interim.From(req.Context())}
	out, err := x.prepare(req)
	if err != nil {
		if req.Body != nil {
			err = errors.Join(err, req.Body.Close())
		}
		return nil, &Error{Kind: RequestError, Origin: u.name, Err: err}
	}
	resp, err := u.tr.RoundTrip(out)
	x.closeInterim()
	if err != nil {
		err = x.explain(err)
		x.end()
		return nil, err
	}
	return x.finish(req, resp)
}

// finish turns the library's response into what the origin said.
func (x *exchange) finish(req *http.Request, resp *http.Response) (*http.Response, error) {
	x.mu.Lock()
	caching, state := x.caching, x.tls
	x.mu.Unlock()
	if !caching {
		delete(resp.Header, "Cache-Control") // added for Pragma: RFC 9110 §7.7 forbids
	}
	resp.Request, resp.TLS = req, state
	switch {
	case resp.StatusCode == http.StatusSwitchingProtocols:
		x.end()
		if _, ok := resp.Body.(io.ReadWriteCloser); !ok {
			return nil, x.fault(UpgradeFailed, errors.Join(
				errors.New("101 without Connection: upgrade, RFC 9110 §7.8"), resp.Body.Close()))
		}
	case resp.Body == http.NoBody:
		x.end()
	default:
		resp.Body = &body{ReadCloser: resp.Body, x: x}
	}
	return resp, nil
}

// dial opens a plain connection.
func (u *Upstream) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, u.opt.ConnectTimeout)
	defer cancel()
	c, err := u.opt.Dial(ctx, network, addr)
	if err != nil {
		return nil, &Error{Kind: dialKind(err), Origin: u.name, Err: err}
	}
	return &witness{Conn: c, up: u}, nil
}

// dialTLS opens a connection under TLS.
func (u *Upstream) dialTLS(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, u.opt.ConnectTimeout)
	defer cancel()
	raw, err := u.opt.Dial(ctx, network, addr)
	if err != nil {
		return nil, &Error{Kind: dialKind(err), Origin: u.name, Err: err}
	}
	below := &closure{Conn: raw}
	c := tls.Client(below, u.tls)
	if err := c.HandshakeContext(ctx); err != nil {
		kind := handshakeKind(err)
		return nil, &Error{Kind: kind, Origin: u.name, Err: errors.Join(err, ignoreClosed(raw.Close()))}
	}
	state := c.ConnectionState()
	return &witness{Conn: c, up: u, tls: &state, closed: below}, nil
}

// ignoreClosed drops the error of closing twice: HandshakeContext closes the
// connection itself when its context ends.
func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

var (
	errSpoilt = errors.New("octets that answer nothing came on this connection")
	errAgain  = errors.New("the request must not be sent again, RFC 9110 §9.2.2")
)

// An exchange is one request and what became of it.
type exchange struct {
	up      *Upstream
	caller  context.Context
	method  string
	upgrade bool // the request asks for one
	slashes int  // leading slashes of the target that net/http cannot write
	cancel  context.CancelCauseFunc
	queue   *time.Timer

	interimMu sync.Mutex   // held while interim runs
	interim   interim.Func // nil: drop
	closed    bool         // RoundTrip is about to return
	stopped   error        // what interim returned

	mu       sync.Mutex
	got      bool // had a connection
	sent     int  // times the request was let out
	answered bool // an octet of an answer came
	failed   *Error
	upload   error  // what reading the request body ended in
	early    []bool // interim heads not yet reported: was Cache-Control there?
	caching  bool   // the same of the final head
	tls      *tls.ConnectionState
}

// prepare returns req as net/http shall see it.
func (x *exchange) prepare(req *http.Request) (*http.Request, error) {
	if req.URL == nil {
		return nil, errors.New("the request has no URL")
	}
	if req.Method == http.MethodConnect {
		return nil, errors.New("CONNECT is not for origins, RFC 9110 §9.3.6")
	}
	target, err := x.up.target(req.URL)
	if err != nil {
		return nil, err
	}
	// A target that begins with two slashes would be taken for an authority
	// by url.URL.RequestURI: keep one, the witness puts back the rest.
	if rest := strings.TrimLeft(target, "/"); len(target)-len(rest) > 1 {
		x.slashes = len(target) - len(rest) - 1
		target = "/" + rest
	}

	ctx, cancel := context.WithCancelCause(req.Context())
	x.cancel = cancel
	x.queue = time.AfterFunc(x.up.opt.QueueTimeout, x.queuedTooLong)
	out := req.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn:        x.gotConn,
		Got1xxResponse: x.got1xx,
	}))
	out.URL = &url.URL{Scheme: x.up.opt.URL.Scheme, Host: x.up.opt.URL.Host, Opaque: target}
	switch {
	case x.up.opt.Host != "":
		out.Host = x.up.opt.Host
	case out.Host == "":
		out.Host = x.up.opt.URL.Host
	}
	if _, ok := req.Header["User-Agent"]; !ok {
		out.Header = maps.Clone(req.Header)
		if out.Header == nil {
			out.Header = http.Header{}
		}
		out.Header["User-Agent"] = []string{""} // net/http: send none
	}
	x.upgrade = req.Header.Get("Upgrade") != ""
	if req.Body != nil && req.Body != http.NoBody {
		out.Body = &upload{ReadCloser: req.Body, x: x, left: req.ContentLength}
		if again := req.GetBody; again != nil {
			out.GetBody = func() (io.ReadCloser, error) {
				b, err := again()
				if err != nil {
					return nil, err
				}
				return &upload{ReadCloser: b, x: x, left: req.ContentLength}, nil
			}
		}
	}
	return out, nil
}

// target returns the request-target for u (RFC 9112 §3.2.1).
func (u *Upstream) target(in *url.URL) (string, error) {
	path := in.Opaque
	if path == "" {
		path = in.EscapedPath()
		if in.RawPath != "" {
			if p, err := url.PathUnescape(in.RawPath); err == nil && p == in.Path {
				path = in.RawPath // as written, where EscapedPath would mend it
			}
		}
	}
	switch {
	case path == "*" && in.Opaque == "" && in.RawQuery == "" && !in.ForceQuery:
		return path, nil // RFC 9112 §3.2.4
	case path == "" && u.base == "":
		path = "/"
	case path != "" && path[0] != '/':
		return "", errors.New("the path does not begin with a slash")
	}
	path = u.base + path
	if in.RawQuery != "" || in.ForceQuery {
		path += "?" + in.RawQuery
	}
	if badTarget(path) {
		return "", errors.New("a blank or control character in the request target")
	}
	return path, nil
}

// badTarget reports whether s would end the request-target, or the line. Any
// other octet passes.
func badTarget(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f {
			return true
		}
	}
	return false
}

// restoreSlashes puts the slashes that prepare withheld into p, the first
// octets of a request, and says how many there are.
func (x *exchange) restoreSlashes(p []byte) ([]byte, int) {
	if x.slashes == 0 {
		return p, 0
	}
	method := x.method
	if method == "" {
		method = http.MethodGet
	}
	i := min(len(method)+1, len(p))
	out := make([]byte, 0, len(p)+x.slashes)
	out = append(out, p[:i]...)
	out = append(out, strings.Repeat("/", x.slashes)...)
	return append(out, p[i:]...), x.slashes
}

// gotConn lends the connection to the exchange. It runs before net/http
// writes to it.
func (x *exchange) gotConn(info httptrace.GotConnInfo) {
	x.queue.Stop()
	w, ok := info.Conn.(*witness)
	if !ok {
		x.cancel(x.fault(RequestError, fmt.Errorf("a connection of type %T that no witness watches", info.Conn)))
		return
	}
	w.arm(x, info.Reused)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.got = true
	x.tls = w.tls
}

// queuedTooLong ends an exchange that never had a connection.
func (x *exchange) queuedTooLong() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.got {
		x.cancel(x.fault(ConnectionLimit, fmt.Errorf("no connection free for %v, %d at most", x.up.opt.QueueTimeout, x.up.opt.MaxConns)))
	}
}

// admit decides whether the request may be let out, for the first time or
// again: FWD-09. net/http repeats by itself what broke on a reused connection;
// the repetition gets a fresh one, for its neighbours are likely dead as well.
func (x *exchange) admit(reused bool) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.sent > 0 {
		if x.sent > 1 || x.answered || !idempotent(x.method) {
			var cause error = errAgain
			if x.failed != nil {
				cause = x.failed
			}
			x.cancel(cause)
			return errAgain
		}
		if reused {
			return errAgain // nothing written: net/http takes the next connection
		}
		x.failed = nil
	}
	x.sent++
	return nil
}

// idempotent is RFC 9110 §9.2.2 for the methods registered there.
func idempotent(method string) bool {
	switch method {
	case "", "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}

// fault makes an Error.
func (x *exchange) fault(kind Kind, err error) *Error {
	return &Error{Kind: kind, Origin: x.up.name, Err: err}
}

// note keeps the first failure that a witness saw, and returns it.
func (x *exchange) note(kind Kind, err error) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.failed == nil {
		x.failed = x.fault(kind, err)
	}
	return x.failed
}

// answer notes that an octet of an answer came.
func (x *exchange) answer() {
	x.mu.Lock()
	x.answered = true
	x.mu.Unlock()
}

// head notes whether a head really had Cache-Control.
func (x *exchange) head(caching, isInterim bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if isInterim {
		x.early = append(x.early, caching)
	} else {
		x.caching = caching
	}
}

// got1xx passes an interim response on: INT-01.
func (x *exchange) got1xx(status int, header textproto.MIMEHeader) error {
	x.mu.Lock()
	caching := true
	if len(x.early) > 0 {
		caching, x.early = x.early[0], x.early[1:]
	}
	x.mu.Unlock()
	if !caching {
		delete(header, "Cache-Control")
	}

	x.interimMu.Lock()
	defer x.interimMu.Unlock()
	switch {
	case x.closed:
		return errAgain
	case status == http.StatusContinue, x.interim == nil:
		return nil
	}
	x.stopped = x.interim(status, http.Header(header))
	return x.stopped
}

// closeInterim waits for a running interim.Func and lets no other begin.
func (x *exchange) closeInterim() {
	x.interimMu.Lock()
	x.closed = true
	x.interimMu.Unlock()
}

// end frees what the exchange holds.
func (x *exchange) end() {
	x.queue.Stop()
	x.cancel(nil)
}

// explain turns an error of net/http into an Error, or the caller's own.
func (x *exchange) explain(err error) error {
	if x.caller.Err() != nil {
		return context.Cause(x.caller)
	}
	if x.stopped != nil { // no interim.Func runs any more
		return x.stopped
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	var own *Error
	switch {
	case x.upload != nil && errors.Is(err, x.upload):
		return err
	case errors.As(err, &own):
		return own
	case isTimeout(err): // before what the witness saw: it may be the close that follows
		return x.fault(ConnectionReadTimeout, err)
	case x.failed != nil:
		return x.failed
	case !x.got:
		return x.fault(RequestError, err) // refused before it left
	case x.answered:
		return x.fault(ProtocolError, err)
	}
	return x.fault(ConnectionTerminated, err)
}

// A body is a response body whose errors are told apart.
type body struct {
	io.ReadCloser
	x *exchange
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch {
	case err == nil:
	case errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		b.x.end()
		return n, io.EOF
	case errors.Is(err, http.ErrBodyReadAfterClose):
	default:
		err = b.x.cut(err)
		b.x.end()
	}
	return n, err
}

func (b *body) Close() error {
	err := b.ReadCloser.Close()
	b.x.end()
	return err
}

// cut tells why a body ended early.
func (x *exchange) cut(err error) error {
	if x.caller.Err() != nil {
		return context.Cause(x.caller)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	var own *Error
	switch {
	case errors.As(err, &own):
		return own
	case x.failed != nil:
		return x.failed
	case errors.Is(err, io.ErrUnexpectedEOF):
		return x.fault(ResponseIncomplete, err)
	}
	return x.fault(ResponseIncomplete, fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, err))
}

// An upload is a request body that notes how it ended, so that the client's
// failure is not blamed on the origin.
type upload struct {
	io.ReadCloser
	x    *exchange
	left int64 // declared octets still to come; not positive: unknown
}

func (u *upload) Read(p []byte) (int, error) {
	n, err := u.ReadCloser.Read(p)
	declared := u.left > 0
	u.left -= int64(n)
	if declared && errors.Is(err, io.EOF) && u.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && !errors.Is(err, io.EOF) {
		u.x.mu.Lock()
		u.x.upload = err
		u.x.mu.Unlock()
	}
	return n, err
}
