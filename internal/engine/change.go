package engine

import (
	"context"
	"net/http"
	"net/url"

	"github.com/larderhq/larder/internal/canon"
	"github.com/larderhq/larder/internal/rules"
)

// Purge forgets what is stored for u, all variants of it, and keeps fetches under
// way from storing it again. It returns false if u is no URI that could be asked for.
func (e *Engine) Purge(ctx context.Context, u *url.URL) bool {
	t, ok := canon.Resource(u)
	if ok {
		e.invalidate(ctx, &t, nil)
	}
	return ok
}

// outdated is a version that nothing ever has.
const outdated = "\x00outdated"

// Touch has what is stored for u taken as of an old version (Policy.Version): the next
// request gets it still, where stale is allowed, and refreshes it. It returns
// false if u is no URI that could be asked for.
func (e *Engine) Touch(ctx context.Context, u *url.URL) bool {
	t, ok := canon.Resource(u)
	if !ok {
		return false
	}
	key := t.AppendKey(nil, e.Site)
	e.flights.Forget(key, nil) // what they bring may be of before
	p := &e.Config.Policy
	for _, k := range e.entries(ctx, key, p) {
		old := *k.Stored
		old.Version = outdated
		_ = e.Store.Amend(ctx, key, k.entry.ID, p.head(&old)) // an error: it has gone, or will not be served either
	}
	return true
}

// Changed forgets what r, which went past the Engine, has changed by its answer (RFC
// 9111 §4.4). res nil: nobody knows whether it has.
func (e *Engine) Changed(r *http.Request, res *http.Response) {
	if rules.Safe(r.Method) {
		return
	}
	u := *r.URL
	if r.Host != "" { // by which it is known (RFC 9110 §7.1)
		u.Host = r.Host
	}
	t, ok := canon.Resource(&u)
	if !ok {
		return
	}
	ctx := context.WithoutCancel(r.Context())
	p := e.policy(r)
	if res == nil {
		e.doubt(ctx, &t, p)
		return
	}
	if rules.Invalidates(r.Method, res.StatusCode) {
		e.forget(ctx, &t, rules.Header(res.Header), p, nil)
	}
}
