package daemon

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/netutil"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/internal/admin"
	"github.com/larderhq/larder/internal/certs"
)

// adminPatience is how long an admin request may take to arrive, or to end when the
// Daemon stops.
const adminPatience = 5 * time.Second

// Usual is Options.Admin for the place where others look for it.
const Usual = "usual"

// listenAdmin has the admin API wait for its turn, if there is to be one.
func (d *Daemon) listenAdmin() (err error) {
	switch d.opt.Admin {
	case "":
		return nil
	case Usual:
		_, port, _ := net.SplitHostPort(d.listener.Addr().String())
		if d.opt.Admin, err = admin.Place(port, true); err == nil {
			d.adminListener, err = admin.Listen(d.opt.Admin, "", false)
		}
		if err != nil { // nobody has asked for it
			d.opt.Admin = ""
			d.opt.Notes.Warn(fmt.Sprintf("no admin API: %v; --admin names another place, or none", err))
		}
		return nil
	}
	if d.adminTLS, err = d.adminConfig(); err != nil {
		return err
	}
	if d.adminListener, err = admin.Listen(d.opt.Admin, d.opt.AdminToken, d.opt.AdminClients != ""); err != nil {
		return &Error{Option: "Admin", Err: err}
	}
	if a, ok := d.adminListener.Addr().(*net.TCPAddr); ok { // the port may have been any free one
		d.opt.Admin = net.JoinHostPort(host(d.opt.Admin), strconv.Itoa(a.Port))
	}
	return nil
}

// adminConfig is what is agreed with those who ask the admin API by https, or nil.
func (d *Daemon) adminConfig() (*tls.Config, error) {
	if d.opt.AdminCert == (certs.Pair{}) {
		return nil, nil
	}
	door, fault := (&HTTPS{Certs: []certs.Pair{d.opt.AdminCert}, Clients: d.opt.AdminClients}).tls(d.opt.Notes)
	if fault != nil {
		return nil, &Error{Option: map[string]string{"Certs": "AdminCert", "Clients": "AdminClients"}[fault.Option], Err: fault.Err}
	}
	return door.Config, nil
}

// atMost has f called no more often than once in so long.
func atMost(pause time.Duration, f func(string)) func(string) {
	var mu sync.Mutex
	var last time.Time
	return func(s string) {
		mu.Lock()
		defer mu.Unlock()
		if now := time.Now(); last.IsZero() || now.Sub(last) >= pause {
			last = now
			f(s)
		}
	}
}

// AdminAt is where the admin API is asked, as admin.NewClient takes it; empty: nowhere.
func (d *Daemon) AdminAt() string {
	if d.adminTLS != nil {
		return "https://" + d.opt.Admin
	}
	return d.opt.Admin
}

// host is that of host:port.
func host(where string) string {
	name, _, _ := net.SplitHostPort(where)
	return name
}

// adminOptions say who may ask for what.
func (d *Daemon) adminOptions() admin.Options {
	note := atMost(time.Minute, func(why string) { d.opt.Notes.Warn("--admin: a request was refused: " + why) })
	o := admin.Options{Host: host(d.opt.Admin), Changed: d.changed, Refused: func(who, why string) {
		note(strings.TrimPrefix(who+": "+why, "@: ")) // who is nobody over a socket
	}}
	if d.engine != nil {
		o.Purges = purges{d.ledger, d.engine, d.audit}
	}
	if s, ok := d.opt.Storage.(gateway.Notified); ok {
		o.Events = s.Changes
	}
	if _, file := d.adminListener.Addr().(*net.UnixAddr); !file {
		o.Token = d.opt.AdminToken
	}
	return o
}

// adminConns is how many connections the admin API has at most: those who have no business
// there are not to have the files that clients and the origin need.
const adminConns = 64

// startAdmin serves the admin API. The function returned ends that, and returns when all
// that was asked for is done.
func (d *Daemon) startAdmin() (stop func()) {
	if d.adminListener == nil {
		return func() {}
	}
	var running sync.RWMutex // held by requests, and in the end by nobody else
	api := admin.Handler(d.adminOptions())
	living, die := context.WithCancel(context.Background())
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if running.TryRLock() {
				defer running.RUnlock()
				api.ServeHTTP(w, r)
			}
		}),
		ReadTimeout: adminPatience, MaxHeaderBytes: 16 << 10,
		DisableGeneralOptionsHandler: true, // it would answer anybody
		BaseContext:                  func(net.Listener) context.Context { return living },
		ErrorLog:                     slog.NewLogLogger(d.opt.Notes.Handler(), slog.LevelDebug),
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l := netutil.LimitListener(d.adminListener, adminConns)
		if d.adminTLS != nil {
			l = tls.NewListener(l, d.adminTLS)
		}
		if err := server.Serve(l); err != http.ErrServerClosed {
			d.opt.Notes.Error(fmt.Sprintf("the admin API has ended: %v", err))
		}
	}()
	return func() {
		die() // who waits for a purge has waited long enough
		ctx, cancel := context.WithTimeout(context.Background(), adminPatience)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			_ = server.Close() // they had their time
		}
		<-ended
		running.Lock() // a purge is done when it is written down
	}
}
