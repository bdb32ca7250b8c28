package daemon

import (
	"context"
	"crypto/x509"
	"fmt"
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
)

// HTTPS is how clients are served that come by https.
type HTTPS struct {
	// Listen is the address to listen at, as in Options.
	Listen string

	// Certs are the certificates, at least one, which are read again when they change.
	Certs []certs.Pair

	// Clients is a file of authorities: only those get in who have a certificate of one of
	// them. Empty: everybody does.
	Clients string

	// Redirect sends those who come by http to https.
	Redirect bool

	// HSTS is for how long clients are told to come by https alone (RFC 6797), unless the
	// origin says something else. Zero: nothing is said.
	HSTS time.Duration
}

// tls is what the front needs of h.
func (h *HTTPS) tls(d *Daemon) (*front.TLS, error) {
	keeper, err := certs.Open(h.Certs, d.opt.Notes)
	if err != nil {
		return nil, &Error{Option: "Certs", Err: err}
	}
	var clients *x509.CertPool
	if h.Clients != "" {
		if clients, err = certs.Authorities(h.Clients); err != nil {
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
	if d.tls, err = h.tls(d); err != nil {
		return err
	}
	if d.secure, err = net.Listen("tcp", h.Listen); err != nil {
		return &Error{Option: "HTTPS", Err: err}
	}
	return nil
}

// newServer makes the servers: one, or another one for those who are sent to https.
func (d *Daemon) newServer(o front.Options) {
	o.Limits, o.Refused, o.Log, o.TLS = d.opt.Limits, d.refused, d.opt.Notes, d.tls
	h := d.opt.HTTPS
	if fields := h.fields(); fields != nil {
		o.Handler = strictly(o.Handler, fields)
	}
	d.server = front.New(o)
	d.plain = d.server
	if h != nil && h.Redirect {
		d.plain = front.New(front.Options{Handler: http.HandlerFunc(d.redirect), Limits: o.Limits, Refused: o.Refused, Log: o.Log})
	}
}

// fields are what answers by https have, unless the origin says something else. h may be nil.
func (h *HTTPS) fields() http.Header {
	if h == nil || h.HSTS <= 0 {
		return nil
	}
	return http.Header{"Strict-Transport-Security": {"max-age=" + strconv.FormatInt(int64(h.HSTS/time.Second), 10)}}
}

// strictly has clients told to come by https alone (RFC 6797 §7.1).
func strictly(next http.Handler, fields http.Header) http.Handler {
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
	serve := func(by func(net.Listener) error, l net.Listener) {
		serving.Go(func() {
			if err := by(l); err != nil {
				select {
				case failed <- err:
				default: // another one did first
				}
			}
		})
	}
	serve(d.plain.Serve, d.listener)
	if d.secure != nil {
		serve(d.server.ServeTLS, d.secure)
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
