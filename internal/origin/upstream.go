package origin

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"

	"golang.org/x/net/http/httpguts"
)

// An Upstream is an http.RoundTripper toward one origin. Any number of
// goroutines may use it. It must come from New.
type Upstream struct {
	opt  Options
	name string // scheme and authority, for errors
	addr string // host and port to connect to
	base string // path before every request's
	tls  *tls.Config
	pool pool
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
	u.addr = address(o)
	u.pool.up = u
	return u, nil
}

// CloseIdle closes the connections that wait for work. Exchanges under way
// are not disturbed, and the Upstream stays usable.
func (u *Upstream) CloseIdle() { u.pool.closeIdle() }

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
	out, err := u.outgoing(req)
	if err != nil {
		return nil, u.fault(RequestError, errors.Join(err, out.close()))
	}
	ctx := req.Context()
	for again := false; ; again = true {
		var c *conn
		if err = context.Cause(ctx); err == nil {
			err = out.look()
		}
		if err == nil {
			c, err = u.pool.get(ctx, again)
		}
		if err != nil {
			_ = out.close()
			return nil, err
		}
		x := newExchange(u, c, out)
		resp, err := x.run()
		if err == nil || again || !x.repeatable() {
			return resp, err
		}
		// On a connection of its own: the neighbours of one that broke are
		// likely to be dead as well.
		if next, ok := out.again(); ok {
			out = next
			continue
		}
		return nil, err
	}
}

// fault makes an Error.
func (u *Upstream) fault(kind Kind, err error) *Error {
	return &Error{Kind: kind, Origin: u.name, Err: err}
}

// dial opens a connection.
func (u *Upstream) dial(ctx context.Context) (*conn, error) {
	raw, err := u.opt.Dial(ctx, "tcp", u.addr)
	if err != nil {
		return nil, u.fault(dialKind(err), err)
	}
	if u.opt.URL.Scheme == "http" {
		return newConn(raw, nil, nil), nil
	}
	below := &closure{Conn: raw}
	c := tls.Client(below, u.tls)
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, u.fault(handshakeKind(err), errors.Join(err, ignoreClosed(raw.Close())))
	}
	state := c.ConnectionState()
	return newConn(c, &state, below), nil
}

// ignoreClosed drops the error of closing twice: HandshakeContext closes the
// connection itself when its context ends.
func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// address is where o's origin is to be found.
func address(o Options) string {
	host, port := o.URL.Hostname(), o.URL.Port()
	if ascii, err := httpguts.PunycodeHostPort(host); err == nil {
		host = ascii
	}
	switch {
	case port != "":
	case o.URL.Scheme == "https":
		port = "443"
	default:
		port = "80"
	}
	return net.JoinHostPort(host, port)
}
