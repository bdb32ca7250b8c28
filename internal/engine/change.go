package engine

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/larderhq/larder/internal/canon"
	"github.com/larderhq/larder/internal/flight"
	"github.com/larderhq/larder/internal/message"
	"github.com/larderhq/larder/internal/rules"
)

// ForgetURL forgets what is stored for u, all variants of it, and keeps fetches under
// way from storing it again. It returns false if u is no URI that could be asked for.
func (e *Engine) ForgetURL(ctx context.Context, u *url.URL) bool {
	t, ok := canon.Resource(u)
	if ok {
		e.invalidate(ctx, &t, nil)
	}
	return ok
}

// ForgetAll has nothing that was asked for until now be served any more. It takes no time,
// however much there is. Where a store lasts, it is found again after a restart.
func (e *Engine) ForgetAll() { e.Ledger.Bump() }

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
	key := e.key(&t)
	e.flights.Forget(key, nil) // what they bring may be of before
	p := &e.Config.Policy
	for _, k := range e.entries(ctx, key, p) {
		old := *k.Stored
		old.Version = outdated
		_ = e.rewrite(ctx, key, k.entry.ID, p.head(&old)) // an error: it has gone, or will not be served either
	}
	return true
}

// A Passing is a request that may change something, on its way past the Engine by a
// client that asks the origin itself (RFC 9111 §4.4). One of Answered and Failed is
// called, once.
type Passing struct {
	e      *Engine
	policy *Policy
	r      *http.Request
	target canon.Target
	known  bool // the target is one that could be kept
	asked  time.Time
	posted *flight.Flight[*landing]
	stamp  uint64 // when it was asked
	left   uint64
}

// Pass begins a Passing, before the origin is asked. r is as the client made it.
func (e *Engine) Pass(r *http.Request) *Passing {
	p := &Passing{e: e, policy: e.policy(r), r: r}
	p.asked, _ = e.Clock()
	u := *r.URL
	if r.Host != "" { // by which it is known (RFC 9110 §7.1)
		u.Host = r.Host
	}
	if p.target, p.known = canon.Resource(&u); p.known && r.Method == http.MethodPost {
		p.posted, p.stamp, p.left = e.flights.Alone(e.key(&p.target)), e.Ledger.Stamp(), e.Ledger.Left() // see Engine.pass
	}
	return p
}

// Failed says that there was no answer: nobody knows what has changed.
func (p *Passing) Failed() {
	p.end()
	if p.known && !rules.Safe(p.r.Method) {
		p.e.doubt(p.r.Context(), &p.target, p.policy)
	}
}

// Answered forgets what has changed. What POST brought that a later GET may get is kept
// (RFC 9110 §9.3.3); then res has another body.
func (p *Passing) Answered(res *http.Response) {
	defer p.end()
	if !p.known {
		return
	}
	stamp := &rules.Stored{Header: rules.Header(res.Header), Stamp: p.stamp}
	if ctx := context.WithoutCancel(p.r.Context()); rules.Invalidates(p.r.Method, res.StatusCode) {
		p.e.forget(ctx, &p.target, stamp, p.policy, p.posted)
	} else if rules.Doubts(p.r.Method, res.StatusCode, stamp.Header) {
		p.e.doubt(ctx, &p.target, p.policy)
	}
	if p.posted != nil {
		p.keep(res, stamp.Stamp)
	}
}

func (p *Passing) end() {
	if p.posted != nil {
		p.posted.End()
	}
}

// keep has the answer to a POST go into the store while it is read, if it may.
func (p *Passing) keep(res *http.Response, stamp uint64) {
	e, terms := p.e, &p.policy.Terms
	req := rules.ReadRequest(p.r.Method, rules.Header(message.EndToEnd(p.r.Header)))
	req.Marks = p.policy.marks(p.r)
	at := rules.Receipt{Asked: p.asked}
	at.Arrived, at.Wall = e.Clock()
	stored := rules.Receive(&req, res.StatusCode, message.EndToEnd(res.Header), at, terms)
	stored.Stamp = stamp
	if !rules.Storable(&req, stored, p.target.URL(), terms).Store {
		return
	}
	req.Method = http.MethodGet // whom it may answer from now on
	client, leave := context.WithCancel(p.r.Context())
	j := &job{f: p.posted, policy: p.policy, key: e.key(&p.target), target: p.target, req: req, client: client}
	var l landing
	from := res.Body
	fill := e.spoolPosted(e.ctx, j, &l, stored, from, res.ContentLength, p.left)
	if fill == nil {
		leave()
		return // the caller has the body as it came
	}
	res.Body, p.posted = &postedBody{body: l.first, leave: leave}, nil
	unbind := context.AfterFunc(e.ctx, func() { _ = from.Close() }) // which ends a Read that waits
	e.spawn(func() {
		defer unbind()
		fill()
	})
}

// A postedBody is the body of an answer on its way into the store, for a client of
// net/http, who may close it while another goroutine reads.
type postedBody struct {
	leave context.CancelFunc // ends a Read that waits
	mu    sync.Mutex
	body  io.ReadCloser
}

func (b *postedBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.body.Read(p)
}

func (b *postedBody) Close() error {
	b.leave()
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.body.Close()
}
