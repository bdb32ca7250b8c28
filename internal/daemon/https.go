package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/larderhq/larder/internal/canon"
	"github.com/larderhq/larder/internal/certs"
	"github.com/larderhq/larder/internal/front"
	"github.com/larderhq/larder/internal/front3"
	"github.com/larderhq/larder/internal/origin"
)

// HTTPS is how clients are served that come by https.
type HTTPS struct {
	// Listen is the address to listen at, as in Options.
	Listen string

	// Certs are the certificates, at least one, which are read again when they change.
	Certs []certs.Pair

	// Clients is a file of authorities: only those get in who have a certificate of one of
	// them. It is read again when it changes. Empty: everybody does.
	Clients string

	// Redirect sends those who come by http to https.
	Redirect bool

	// HSTS is for how long clients are told to come by https alone (RFC 6797), unless the
	// origin says something else. Zero: nothing is said.
	HSTS time.Duration

	// HTTP3 has clients come by HTTP/3 too, at the same address by UDP, and tells the others of
	// it (Alt-Svc, RFC 7838), unless the origin says something else.
	HTTP3 bool
}

// tls is what the front needs of h.
func (h *HTTPS) tls(notes *slog.Logger) (*front.TLS, *Error) {
	keeper, err := certs.Open(h.Certs, notes)
	if err != nil {
		return nil, &Error{Option: "Certs", Err: err}
	}
	var clients *certs.Trust
	if h.Clients != "" {
		if clients, err = certs.OpenTrust(h.Clients, notes); err != nil {
			return nil, &Error{Option: "Clients", Err: err}
		}
	}
	return &front.TLS{Config: keeper.Config(clients), Covers: keeper.Covers}, nil
}

// listenHTTPS is called before newServer.
func (d *Daemon) listenHTTPS() (err error) {
	h := d.opt.HTTPS
	if h == nil {
		return nil
	}
	var fault *Error
	if d.tls, fault = h.tls(d.opt.Notes); fault != nil {
		return fault
	}
	if d.secure, err = net.Listen("tcp", h.Listen); err != nil {
		return &Error{Option: "HTTPS", Err: err}
	}
	if h.HTTP3 {
		at := h.Listen
		if host, port, _ := net.SplitHostPort(at); port != "0" { // or any free one, which need not be the same
			_, port, _ = net.SplitHostPort(d.secure.Addr().String())
			at = net.JoinHostPort(host, port)
		}
		if d.datagrams, err = net.ListenPacket("udp", at); err != nil {
			return &Error{Option: "HTTP3", Err: err}
		}
	}
	return nil
}

// newServer makes the servers: one, or another one for those who are sent to https, and one for
// HTTP/3 beside it.
func (d *Daemon) newServer(o front.Options) (err error) {
	o.Limits, o.Refused, o.Log, o.TLS, o.H2C = d.opt.Limits, d.refused, d.opt.Notes, d.tls, d.opt.H2C
	h := d.opt.HTTPS
	if fields := d.announced(); len(fields) > 0 {
		o.Handler = announcing(o.Handler, fields)
	}
	d.server = front.New(o)
	d.plain = d.server
	if h != nil && h.Redirect {
		d.plain = front.New(front.Options{Handler: http.HandlerFunc(d.redirect), Limits: o.Limits, Refused: o.Refused, Log: o.Log})
	}
	if d.datagrams != nil {
		if d.third, err = front3.New(d.datagrams, front3.Options{Front: d.server, TLS: d.tls.Config, Log: o.Log}); err != nil {
			return &Error{Option: "HTTP3", Err: err}
		}
	}
	return nil
}

// announced are the fields that answers by https have unless the origin sends others.
func (d *Daemon) announced() http.Header {
	fields := make(http.Header)
	if h := d.opt.HTTPS; h != nil && h.HSTS > 0 { // RFC 6797 §7.1
		fields["Strict-Transport-Security"] = []string{"max-age=" + strconv.FormatInt(int64(h.HSTS/time.Second), 10)}
	}
	if d.datagrams != nil { // RFC 9114 §3.1.1
		_, port, _ := net.SplitHostPort(d.datagrams.LocalAddr().String())
		fields["Alt-Svc"] = []string{`h3=":` + port + `"`}
	}
	return fields
}

// announcing has answers by https begin with these fields.
func announcing(next http.Handler, fields http.Header) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil {
			maps.Copy(w.Header(), fields)
		}
		next.ServeHTTP(w, r)
	})
}

// redirect sends a client to https, to ask for the same there.
func (d *Daemon) redirect(w http.ResponseWriter, r *http.Request) {
	t, err := canon.Parse(r, false)
	if err != nil || t.Path == "*" {
		http.Error(w, "400 Bad Request: this server is for https, and nobody can tell which URL that would be", http.StatusBadRequest)
		return
	}
	host := (&url.URL{Host: t.Host}).Hostname()
	if _, port, err := net.SplitHostPort(d.secure.Addr().String()); err == nil && port != "443" {
		host = net.JoinHostPort(host, port)
	} else if ip := net.ParseIP(host); ip != nil && ip.To4() == nil {
		host = "[" + host + "]"
	}
	to := "https://" + host + t.Path
	if t.HasQuery {
		to += "?" + t.Query
	}
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusPermanentRedirect)
}

// serve answers until the servers are drained, and reports what failed before.
func (d *Daemon) serve(failed chan<- error) (wait func()) {
	var serving sync.WaitGroup
	serve := func(by func() error) {
		serving.Go(func() {
			if err := by(); err != nil {
				select {
				case failed <- err:
				default: // another one did first
				}
			}
		})
	}
	serve(func() error { return d.plain.Serve(d.listener) })
	if d.secure != nil {
		serve(func() error { return d.server.ServeTLS(d.secure) })
	}
	if d.third != nil {
		serve(d.third.Serve)
	}
	return serving.Wait
}

// drain lets requests that are running end, until ctx does.
func (d *Daemon) drain(ctx context.Context) {
	var draining sync.WaitGroup
	if d.plain != d.server {
		draining.Go(func() { _ = d.plain.Drain(ctx) }) // it has nothing that takes long
	}
	if d.server.Drain(ctx) != nil {
		d.opt.Notes.Warn(fmt.Sprintf("requests that were still running after %v were cut off", d.opt.Drain))
	}
	draining.Wait()
}

// SecureURL is where the Daemon listens for https, or empty.
func (d *Daemon) SecureURL() string {
	if d.secure == nil {
		return ""
	}
	return "https://" + reachable(d.secure.Addr())
}

// authenticate has the origin know us, and us the origin, as was asked for.
func (d *Daemon) authenticate(o *origin.Options) error {
	if d.opt.OriginCert != (certs.Pair{}) {
		keeper, err := certs.Open([]certs.Pair{d.opt.OriginCert}, d.opt.Notes)
		if err != nil {
			return &Error{Option: "OriginCert", Err: err}
		}
		o.Certificate = keeper.GetClientCertificate
	}
	if d.opt.OriginCA != "" {
		trust, err := certs.OpenTrust(d.opt.OriginCA, d.opt.Notes)
		if err != nil {
			return &Error{Option: "OriginCA", Err: err}
		}
		o.RootCAs = trust.Pool()
	}
	return nil
}
