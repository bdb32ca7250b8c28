package origin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"
)

// Options says where an origin is and how far to trust its pace. Every zero
// value but that of URL stands for the default named with it.
type Options struct {
	// URL is the origin: http or https, a host, perhaps a port and a base
	// path that is put before the path of every request ("http://h/app"; a
	// final slash of it is dropped). Required. It is copied by New.
	URL *url.URL

	// Host replaces the Host field sent. Empty: the Host of the request, or
	// the authority of URL if the request has none.
	Host string

	// ServerName is the name that the certificate must bear and that SNI
	// announces. Empty: the host of URL. Host has no influence on it.
	ServerName string

	// RootCAs are trusted to sign the origin's certificate. Nil: those of
	// the system. There is no way to switch verification off.
	RootCAs *x509.CertPool

	// Certificate is asked for the certificate that the origin is shown if it
	// wants one, as in tls.Config. Nil: none.
	Certificate func(*tls.CertificateRequestInfo) (*tls.Certificate, error)

	// ConnectTimeout bounds the opening of a connection: name look-up, TCP
	// and TLS together. Default 10 s.
	ConnectTimeout time.Duration

	// QueueTimeout bounds the wait for a connection while MaxConns are in
	// use, including the opening of one. Default 30 s.
	QueueTimeout time.Duration

	// ResponseHeaderTimeout bounds the wait for the final response head once
	// the request is written; interim responses do not extend it. Default
	// 60 s; negative: no limit but that of the request's context.
	ResponseHeaderTimeout time.Duration

	// StallTimeout is how long the origin may neither send an octet of a
	// body we wait for nor take one of ours; for the latter it may have up to
	// a quarter less. The pace of the client does not count, nor do the pauses
	// of an upgraded connection. Default 60 s; negative: no limit.
	StallTimeout time.Duration

	// MaxConns bounds the connections, but for upgraded ones, MaxIdle those of
	// them that wait for work, IdleTimeout for how long. Defaults 256, MaxConns
	// and 30 s.
	MaxConns    int
	MaxIdle     int
	IdleTimeout time.Duration

	// MaxHeadBytes bounds one response head, status line included. Default
	// 64 KiB.
	MaxHeadBytes int

	// Resolver looks names up. Nil: net.DefaultResolver. Unused with Dial.
	Resolver *net.Resolver

	// Dial opens the transport connection to addr (host:port); the context
	// carries ConnectTimeout. Where it is no socket (syscall.Conn), octets that
	// come while it is idle are not noticed. Nil: TCP with keep-alive probes.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// The defaults of Options.
const (
	defaultConnectTimeout  = 10 * time.Second
	defaultQueueTimeout    = 30 * time.Second
	defaultResponseTimeout = 60 * time.Second
	defaultStallTimeout    = 60 * time.Second
	defaultIdleTimeout     = 30 * time.Second
	defaultMaxConns        = 256
	defaultMaxHead         = 64 << 10

	expectContinueTimeout = time.Second
)

// complete returns o with defaults in place of zeros, or says what to mend.
func (o Options) complete() (Options, error) {
	u := o.URL
	switch {
	case u == nil:
		return o, errors.New("origin: no URL; give one such as http://127.0.0.1:8080")
	case u.Scheme != "http" && u.Scheme != "https":
		return o, fmt.Errorf("origin %q: the scheme is %q; write http:// or https:// in front of the host", u.Redacted(), u.Scheme)
	case u.Opaque != "" || u.Hostname() == "":
		return o, fmt.Errorf("origin %q: no host; write it as http://host:port", u.Redacted())
	case u.User != nil:
		return o, fmt.Errorf("origin %q: user and password in the URL are not sent; remove them and set an Authorization field for the site", u.Redacted())
	case u.RawQuery != "" || u.ForceQuery:
		return o, fmt.Errorf("origin %q: a query cannot be part of an origin; remove everything from the question mark on", u.Redacted())
	case u.Fragment != "" || u.RawFragment != "":
		return o, fmt.Errorf("origin %q: a fragment cannot be part of an origin; remove everything from the # on", u.Redacted())
	case badTarget(basePath(u)):
		return o, fmt.Errorf("origin %q: the path has a blank or control character; escape it with %%XX", u.Redacted())
	case o.MaxConns < 0 || o.MaxIdle < 0 || o.MaxHeadBytes < 0:
		return o, fmt.Errorf("origin %q: MaxConns, MaxIdle and MaxHeadBytes cannot be negative; use 0 for the default", u.Redacted())
	case o.ConnectTimeout < 0 || o.QueueTimeout < 0 || o.IdleTimeout < 0:
		return o, fmt.Errorf("origin %q: ConnectTimeout, QueueTimeout and IdleTimeout cannot be negative; use 0 for the default", u.Redacted())
	}
	c := *u
	o.URL = &c
	or(&o.ConnectTimeout, defaultConnectTimeout)
	or(&o.QueueTimeout, defaultQueueTimeout)
	or(&o.ResponseHeaderTimeout, defaultResponseTimeout)
	or(&o.StallTimeout, defaultStallTimeout)
	or(&o.IdleTimeout, defaultIdleTimeout)
	or(&o.MaxConns, defaultMaxConns)
	or(&o.MaxIdle, o.MaxConns)
	or(&o.MaxHeadBytes, defaultMaxHead)
	or(&o.ServerName, u.Hostname())
	if o.Dial == nil {
		d := &net.Dialer{Resolver: o.Resolver}
		o.Dial = d.DialContext
	}
	return o, nil
}

// or gives *v the value def if it has none.
func or[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// basePath returns the path of u as written, without a final slash.
func basePath(u *url.URL) string { return strings.TrimRight(u.EscapedPath(), "/") }
