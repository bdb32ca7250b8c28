// Package daemon is the one place where everything meets: it puts store,
// origin, engine and front together, and takes them apart in order.
package daemon

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"time"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/internal/certs"
	"github.com/larderhq/larder/internal/encode"
	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/front"
	"github.com/larderhq/larder/internal/front3"
	"github.com/larderhq/larder/internal/local"
	"github.com/larderhq/larder/internal/observe"
	"github.com/larderhq/larder/internal/origin"
	"github.com/larderhq/larder/internal/page"
	"github.com/larderhq/larder/internal/purge"
	"github.com/larderhq/larder/internal/rules"
	"github.com/larderhq/larder/store"
)

// logPatience is how long the log may take to be written out at the end.
const logPatience = 2 * time.Second

// Options are what a Daemon is made of.
type Options struct {
	// Origin is a URL with http:// or https://. Unused with Storage.
	Origin string

	// Host is sent to the origin in place of the client's Host. Empty: the
	// client's.
	Host string

	// OriginCert is the certificate that Origin is shown if it asks for one, which is read again
	// when it changes; the zero Pair: none. OriginCA is a file of authorities of which one has to
	// have signed that of Origin; empty: those of the system.
	OriginCert certs.Pair
	OriginCA   string

	// Storage, where set, is asked in place of an origin, as Gateway says, of which
	// Wrote and Failed are set here. The Daemon closes it, also if New fails. What is
	// kept of it is found again by StorageName alone, its address without secrets.
	Storage     gateway.Source
	StorageName string
	Gateway     gateway.Options

	// Uncached has what Storage answers go to clients as it is. Memory, Disks,
	// Engine and Pages are unused.
	Uncached bool

	// Listen is the address to listen at, host:port. Port 0 is any free one.
	Listen string

	// H2C has clients come with HTTP/2 without TLS, too, if they know of it (RFC 9113 §3.3).
	H2C bool

	// HTTPS, where set, has clients come by https too.
	HTTPS *HTTPS

	// Admin is where the admin API listens: the path of a socket, with a slash in
	// it, or host:port, which takes AdminToken. Empty: nowhere. Usual: at the socket
	// where it is looked for, or nowhere if that cannot be had.
	Admin, AdminToken string

	// AdminCert has the API at host:port asked by https alone: the certificate is read again
	// when it changes. The zero Pair: by http. AdminClients is a file of authorities, as
	// HTTPS.Clients, which takes the place of AdminToken if there is none.
	AdminCert    certs.Pair
	AdminClients string

	// PurgeFrom tells which peers, given their addresses as host:port, may purge by the
	// methods that package habit knows; so may who sends PurgeToken. Nil, and empty: nobody
	// may, and they are methods like any other.
	PurgeFrom  func(peer string) bool
	PurgeToken string

	// Hot is the file that the URLs of what is kept are written to at the end. Empty: none is.
	Hot string

	// Memory is the most that is kept in memory, in octets. The process takes
	// up to 64 MiB more, and 24 octets for each entry on disk.
	Memory int64

	// Disks are where more is kept, also over restarts. None: nowhere.
	Disks []Disk

	// Drain is how long running requests may take to end when the Daemon
	// stops.
	Drain time.Duration

	// Engine holds the operator's choices. Store, Forward, Pseudonym and Sink
	// are set here. With Negotiate set, what the origin sends is compressed.
	Engine engine.Config

	// Pages holds for pages that are assembled, where Engine.Assembles.
	Pages page.Settings

	// Limits are those of the front.
	Limits front.Limits

	// Log is told of every request. The Daemon closes it. Nil: nobody is.
	Log *observe.Log

	// Notes gets what a person should know while the Daemon runs.
	Notes *slog.Logger
}

// A Daemon is a cache before one origin. Make one with New.
type Daemon struct {
	opt       Options
	listener  net.Listener
	secure    net.Listener   // for https, or nil
	tls       *front.TLS     // nil: as secure
	third     *front3.Server // of datagrams
	datagrams net.PacketConn // for HTTP/3, or nil
	server    *front.Server
	plain     *front.Server // of listener
	engine    *engine.Engine
	store     store.Store
	ledger    *purge.Ledger
	leave     func() error // the origin
	watch     watching

	adminListener net.Listener // nil: there is no admin API
	adminTLS      *tls.Config  // nil: it is asked by http
}

// An Error is a choice of the operator's that cannot be carried out.
type Error struct {
	// Option is which one, as Options calls it.
	Option string
	Err    error
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// New makes a Daemon that listens, but does not answer before Run. Its errors
// are of type *Error; after one, nothing is left behind, and Log is not closed.
func New(o Options) (_ *Daemon, err error) {
	d := &Daemon{opt: o}
	forward, err := d.open()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			d.abandon()
		}
	}()
	if d.listener, err = net.Listen("tcp", o.Listen); err != nil {
		return nil, &Error{Option: "Listen", Err: err}
	}
	if err = d.listenHTTPS(); err != nil {
		return nil, err
	}
	if err = d.listenAdmin(); err != nil {
		return nil, err
	}
	d.opt.Limits.Conns = places(o.Limits.Conns, openFiles())
	if o.Uncached {
		if err = d.newServer(front.Options{Handler: d.logged(forward.handler)}); err != nil {
			return nil, err
		}
		return d, nil
	}
	c := o.Engine
	c.Name = cmp.Or(c.Name, c.LoopID, "larder") // each tier has a name where it has one in CDN-Loop
	kept, err := openStore(&o)
	if err != nil {
		return nil, err
	}
	d.store, d.ledger, c.Terms.Secret = kept.store, kept.ledger, kept.secret
	c.Forward = forward.transport
	if c.Negotiate != nil {
		c.Forward = encode.RoundTripper(c.Forward, encode.Options{})
	}
	c.Store, c.Pseudonym = d.store, pseudonym()
	site := ""
	if g := forward.handler; g != nil {
		c.Paths, site, c.Negotiate = true, d.site(), negotiating(c.Negotiate, g.Negotiate)
	}
	if o.Log != nil {
		c.Sink = o.Log
	}
	c.Site, c.Ledger, c.Recent = site+kept.lineage, kept.ledger, new(observe.Recent)
	c.Clock, c.Standing, c.Secure = engine.SystemClock(), engine.Standing(c.SpokenFor), d.announced()
	d.engine = engine.New(c)
	var handler http.Handler = d.engine
	if c.Assembles {
		handler = d.assembled(c.Name, &c.Terms)
	}
	err = d.newServer(front.Options{
		Handler:  d.habits(handler),
		Standing: c.Standing, Store: d.store, Clock: c.Clock, Sink: c.Sink, Recent: c.Recent, Decide: d.engine.Decide,
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// abandon lets go of what New has opened. Nothing was asked yet.
func (d *Daemon) abandon() {
	_ = d.leave()
	for _, l := range []net.Listener{d.listener, d.secure, d.adminListener} {
		if l != nil {
			_ = l.Close()
		}
	}
	if d.datagrams != nil {
		_ = d.datagrams.Close()
	}
	if d.engine != nil {
		d.engine.Close()
		_ = d.store.Close()
		_ = d.ledger.Close()
	}
}

// assembled has the engine answer, and assembles pages.
func (d *Daemon) assembled(name string, terms *rules.Terms) http.Handler {
	settings := d.opt.Pages
	settings.Device, settings.Hide, settings.Targeted = "larder", terms.Surrogate, terms.TargetedFields
	return &page.Handler{
		Cache: d.engine, Name: name,
		Settings: func(*http.Request) *page.Settings { return &settings },
		Fetch:    local.RoundTripper(d.engine).RoundTrip,
		Failed: func(r *http.Request, err error) {
			d.opt.Notes.Error(fmt.Sprintf("the page http://%s%s cannot be assembled: %v", r.Host, r.RequestURI, err))
		},
	}
}

// A way leads to what is cached.
type way struct {
	transport http.RoundTripper
	handler   *gateway.Handler // of storage
}

// open makes the way to the origin, and the way to leave it. It asks nothing of it: an
// origin that is down now may be up when it is needed.
func (d *Daemon) open() (way, error) {
	if d.opt.Storage != nil {
		g := d.gateway()
		d.leave = g.Close
		return way{local.RoundTripper(g), g}, nil
	}
	u, err := url.Parse(d.opt.Origin)
	if err != nil {
		return way{}, &Error{Option: "Origin", Err: fmt.Errorf("%q is no URL: write it as http://host:port", d.opt.Origin)}
	}
	oo := origin.Options{URL: u, Host: d.opt.Host}
	if err := d.authenticate(&oo); err != nil {
		return way{}, err
	}
	up, err := origin.New(oo)
	if err != nil {
		return way{}, &Error{Option: "Origin", Err: err}
	}
	d.leave = func() error { up.CloseIdle(); return nil }
	return way{transport: up}, nil
}

// places is how many connections of clients there may be with so many open
// files allowed: some are kept for the origin and for ourselves, or clients
// could shut both out. Zero is the default of front.
func places(conns, files int) int {
	const others = 320 // 256 to the origin, and our own
	if left := max(files-others, 16); files > 0 && left < 10000 && (conns <= 0 || left < conns) {
		return left
	}
	return conns
}

// pseudonym is our name in Via: one of our own for each process, so that two
// of us in a row do not take each other for themselves (RFC 9110 §7.6.3).
func pseudonym() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return "larder-" + hex.EncodeToString(b[:])
}

// refused logs a request that was none.
func (d *Daemon) refused(client string, status int, why string) {
	if d.opt.Log == nil {
		return
	}
	d.opt.Log.Observe(&observe.Event{Start: time.Now(), Client: client, Status: status, Why: why})
}

// URL is where the Daemon listens.
func (d *Daemon) URL() string { return "http://" + reachable(d.listener.Addr()) }

// reachable is host and port of a listener as they work from here.
func reachable(a net.Addr) string {
	host, port, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1" // all addresses: name one that works from here
	}
	return net.JoinHostPort(host, port)
}

// Run answers requests until ctx ends, then drains and lets go of everything.
// The error is nil if that went well, also if requests had to be cut off.
func (d *Daemon) Run(ctx context.Context) error {
	defer runtime.KeepAlive(calmCollector())
	stopWatching, stopTending, stopAdmin := d.startWatching(), d.startTending(), d.startAdmin()
	failed := make(chan error, 1)
	served := d.serve(failed)
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.opt.Drain)
	defer cancel()
	d.drain(bounded)
	served()
	stopWatching()
	stopAdmin()
	stopTending()
	closing := []func() error{d.leave, d.closeLog}
	if d.engine != nil {
		d.saveHot()
		d.engine.Close()
		closing = []func() error{d.leave, d.store.Close, d.ledger.Close, d.closeLog}
	}
	for _, c := range closing {
		if cerr := c(); err == nil {
			err = cerr
		}
	}
	return err
}

func (d *Daemon) closeLog() error {
	if d.opt.Log == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), logPatience)
	defer cancel()
	err := d.opt.Log.Close(ctx)
	if n := d.opt.Log.Dropped(); n > 0 || err != nil {
		d.opt.Notes.Warn(fmt.Sprintf("%d lines of the access log were lost: they could not be written as fast as they came, or not at all", n))
	}
	return nil // a log that cannot be written is no reason to fail
}
