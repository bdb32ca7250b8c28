package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/larderhq/larder/internal/admin"
	"github.com/larderhq/larder/internal/canon"
	"github.com/larderhq/larder/internal/habit"
	"github.com/larderhq/larder/internal/observe"
	"github.com/larderhq/larder/internal/purge"
)

// habits has clients purge by the methods that others know, if anybody may.
func (d *Daemon) habits(next http.Handler) http.Handler {
	if d.opt.PurgeFrom == nil && d.opt.PurgeToken == "" {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if habit.Is(r.Method) {
			d.purgeBy(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// purgeBy purges what a request asks to.
func (d *Daemon) purgeBy(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if !d.mayPurge(r) {
		// RFC 9110 §15.5.6: those that are served here, whoever asks.
		w.Header().Set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
		d.refusePurge(w, r, http.StatusMethodNotAllowed, errors.New("this client may not purge: its address is not among --purge-from, or it came through a proxy, and it has not sent the token"))
		return
	}
	receipt, err := d.purgeAs(r)
	switch {
	case errors.Is(err, purge.ErrFull):
		w.Header().Set("Retry-After", "10")
		d.refusePurge(w, r, http.StatusTooManyRequests, err)
	case receipt.ID == 0:
		d.refusePurge(w, r, http.StatusBadRequest, err)
	case err != nil:
		d.refusePurge(w, r, http.StatusInternalServerError, err)
	default:
		d.audit(receipt)
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{ // the client has gone
			"status": "ok", "id": receipt.ID, "objects": receipt.Objects, "complete": receipt.Complete,
		})
	}
}

// purgeAs purges what r asks to. If nothing was purged the Receipt is empty.
func (d *Daemon) purgeAs(r *http.Request) (purge.Receipt, error) {
	t, err := canon.Parse(r, r.TLS != nil)
	if err != nil {
		return purge.Receipt{}, err
	}
	o, err := habit.Order(r, &t)
	if err != nil {
		return purge.Receipt{}, err
	}
	if d.opt.Storage != nil && slices.ContainsFunc(o.Selectors, func(s purge.Selector) bool { return s.Regex != "" }) {
		return purge.Receipt{}, errors.New("storage knows no hosts, and this asks for an expression over one: purge by URL, or by larder purge")
	}
	return d.engine.Purge(context.WithoutCancel(r.Context()), o)
}

// refusePurge answers that nothing was purged, or that something was and may come back.
func (d *Daemon) refusePurge(w http.ResponseWriter, r *http.Request, status int, err error) {
	http.Error(w, err.Error(), status)
	if d.opt.Log != nil {
		d.opt.Log.Observe(&observe.Event{
			Start: time.Now(), Client: r.RemoteAddr, Method: r.Method, Host: r.Host, Target: r.RequestURI, Proto: r.Proto, Status: status,
			Why: fmt.Sprintf("not purged: %v", err),
		})
	}
}

// throughProxy are the fields that say that the peer is not the client.
var throughProxy = []string{"Via", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip", "True-Client-Ip", "Cf-Connecting-Ip", "Cdn-Loop"}

// mayPurge tells whether r is of somebody who may: by the token, or by an address that is
// the client's own. A browser may not: a page of another site could have it ask.
func (d *Daemon) mayPurge(r *http.Request) bool {
	h := r.Header
	if admin.Browser(h) {
		return false
	}
	if d.opt.PurgeToken != "" {
		// The fields that Fastly, Ibexa and WordPress plugins have for it.
		for _, token := range []string{admin.Bearer(h), h.Get("Fastly-Key"), h.Get("X-Purge-Token"), h.Get("X-Purge-Key"), h.Get("X-Invalidate-Token"), h.Get("X-Vc-Purge-Key")} {
			if admin.Knows(d.opt.PurgeToken, token) {
				return true
			}
		}
	}
	if slices.ContainsFunc(throughProxy, func(name string) bool { return len(h[name]) > 0 }) {
		return false
	}
	return d.opt.PurgeFrom != nil && d.opt.PurgeFrom(r.RemoteAddr)
}
