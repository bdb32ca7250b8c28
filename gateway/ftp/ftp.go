// Package ftp is a gateway.Source and Writer over the files of an FTP server, with or
// without TLS.
//
// FTP moves one thing at a time over a connection, so each request has one to itself, of
// a small pool, until its octets are read. A range that ends long before the file does
// costs its connection: there is no better way to stop a server. Versions are made of size
// and time of modification (MLST, or SIZE and MDTM), and looked at once more after
// the octets came. A server that tells no times has no versions, and only a change
// of size is noticed.
//
// Data connections go to the address of the control connection, whatever the server
// says. Where symbolic links lead is the server's affair: FTP does not tell. A
// chroot on the server keeps them inside.
package ftp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/larderhq/larder/gateway"
)

// A Security is how connections are encrypted.
type Security int

// The ways there are.
const (
	Plain    Security = iota // not at all: the password and all octets can be read on the way
	Explicit                 // by AUTH TLS (RFC 4217)
	Implicit                 // from the first octet on
)

// Options say which folder of which server is served, and how to get in.
type Options struct {
	// Addr is host:port.
	Addr string

	// User and Password are who logs in. No User: anonymous.
	User, Password string

	// Root is a folder on the server. A relative one is below the folder where a
	// login begins; "" is that folder.
	Root string

	// Security is about control and data connections alike. TLS says whom to trust; nil
	// is what the system trusts. Its ServerName is the host of Addr if empty.
	Security Security
	TLS      *tls.Config

	// Conns is how many connections there are at most, data connections not
	// counted. Zero: 4.
	Conns int

	// Now is the clock that ages of files are told by. Nil: time.Now.
	Now func() time.Time
}

// A Source is a folder of an FTP server. It comes from Open. Any number of goroutines may use it.
type Source struct {
	opt      Options
	conns    *pool
	restarts atomic.Bool // the server was seen to heed REST
}

var _ gateway.Writer = (*Source)(nil)

// Open returns the Source that o says. It asks the network nothing: a server that
// is not there is an error of the first request. The caller closes the Source.
func Open(o Options) (*Source, error) {
	host, _, err := net.SplitHostPort(o.Addr)
	if err != nil {
		return nil, fmt.Errorf("ftp: %q is not host:port: %w", o.Addr, err)
	}
	switch {
	case o.Security < Plain || o.Security > Implicit:
		return nil, fmt.Errorf("ftp %s: there is no security %d", o.Addr, o.Security)
	case strings.ContainsFunc(o.User+o.Password+o.Root, control):
		return nil, fmt.Errorf("ftp %s: there are control characters in the user, password or root", o.Addr)
	case o.Conns < 0:
		return nil, fmt.Errorf("ftp %s: %d connections are none", o.Addr, o.Conns)
	case o.Conns == 0:
		o.Conns = 4
	}
	if o.User == "" {
		o.User, o.Password = "anonymous", either(o.Password, "anonymous@")
	}
	o.TLS = o.TLS.Clone()
	if o.TLS == nil {
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	o.TLS.ServerName = either(o.TLS.ServerName, host)
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Source{opt: o}
	s.conns = newPool(o.Conns, s.dial)
	return s, nil
}

func either(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// Traits implements gateway.Source.
func (s *Source) Traits() gateway.Traits { return gateway.Traits{Remote: true} }

// Close hangs up. Readers that are open stay usable.
func (s *Source) Close() error {
	s.conns.close()
	return nil
}

// with lends a connection to f, and says of its error what it was about.
func (s *Source) with(ctx context.Context, name string, f func(*lease) error) error {
	if err := check(name); err != nil {
		return s.failed(name, err)
	}
	l, err := s.conns.lease(ctx)
	if err != nil {
		return s.failed(name, err)
	}
	defer l.end()
	return s.failed(name, l.explain(l.guarded(func() error { return f(l) })))
}

// change is with for what is not tried again when it fails: over a connection on which the server listens.
func (s *Source) change(ctx context.Context, name string, f func(*lease) error) error {
	return s.with(ctx, name, func(l *lease) error {
		if err := l.awake(); err != nil {
			return err
		}
		return f(l)
	})
}

// failed says where err comes from. Nil stays nil.
func (s *Source) failed(name string, err error) error {
	var said *saidError
	if err == nil || errors.As(err, &said) {
		return err
	}
	return &saidError{fmt.Errorf("ftp %s: %q: %w", s.opt.Addr, name, meaning(err))}
}

// A saidError tells where it comes from already.
type saidError struct{ error }

func (e *saidError) Unwrap() error { return e.error }
