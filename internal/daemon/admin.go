package daemon

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/internal/admin"
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
			d.adminListener, err = admin.Listen(d.opt.Admin, "")
		}
		if err != nil { // nobody has asked for it
			d.opt.Admin = ""
			d.opt.Notes.Warn(fmt.Sprintf("no admin API: %v; --admin names another place, or none", err))
		}
		return nil
	}
	if d.adminListener, err = admin.Listen(d.opt.Admin, d.opt.AdminToken); err != nil {
		return &Error{Option: "Admin", Err: err}
	}
	return nil
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

// AdminAt is where the admin API listens; empty: nowhere.
func (d *Daemon) AdminAt() string { return d.opt.Admin }

// host is that of host:port.
func host(where string) string {
	name, _, _ := net.SplitHostPort(where)
	return name
}

// startAdmin serves the admin API. The function returned ends that.
func (d *Daemon) startAdmin() (stop func()) {
	if d.adminListener == nil {
		return func() {}
	}
	o := admin.Options{Host: host(d.opt.Admin), Changed: d.changed, Refused: atMost(time.Minute, func(why string) {
		d.opt.Notes.Warn("--admin: a request was refused: " + why)
	})}
	if d.engine != nil {
		o.Purges = purges{d.ledger, d.engine, d.audit}
	}
	if s, ok := d.opt.Storage.(gateway.Notified); ok {
		o.Events = s.Changes
	}
	if _, file := d.adminListener.Addr().(*net.UnixAddr); !file {
		o.Token = d.opt.AdminToken
	}
	living, die := context.WithCancel(context.Background())
	server := &http.Server{
		Handler: admin.Handler(o), ReadTimeout: adminPatience, MaxHeaderBytes: 16 << 10,
		BaseContext: func(net.Listener) context.Context { return living },
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.Serve(d.adminListener); err != http.ErrServerClosed {
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
	}
}
