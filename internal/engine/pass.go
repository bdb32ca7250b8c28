package engine

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/larderhq/larder/internal/canon"
	"github.com/larderhq/larder/internal/flight"
	"github.com/larderhq/larder/internal/interim"
	"github.com/larderhq/larder/internal/message"
	"github.com/larderhq/larder/internal/purge"
	"github.com/larderhq/larder/internal/rules"
)

// pass sends a request to the origin without asking the store, and the answer
// back. It ends with its client. What an unsafe method has changed is forgotten
// before the client learns of it (RFC 9111 §4.4).
func (x *exchange) pass(reason rules.Reason, why string) {
	e := x.e
	x.event.Forward, x.event.Why = string(reason), why
	if x.onlyCached() {
		x.uncached()
		return
	}
	protocol := x.upgrading()
	header := e.outbound(x.policy, x.req.Header, x.r)
	if protocol != "" {
		header["Connection"], header["Upgrade"] = []string{"Upgrade"}, []string{protocol}
	}
	inform := func(status int, header http.Header) error {
		x.inform([]interimResponse{{status, message.EndToEnd(header)}})
		return nil
	}
	content := &upload{body: x.r.Body, left: x.r.ContentLength}
	out := &http.Request{
		Method: x.r.Method, URL: x.target.Outgoing(), Host: x.target.Host, Header: header,
		Body: content, ContentLength: x.r.ContentLength,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RemoteAddr: x.r.RemoteAddr, TLS: x.r.TLS,
	}
	if x.r.ContentLength == 0 {
		out.Body = http.NoBody
		delete(header, "Expect") // there is nothing to wait with (RFC 9110 §10.1.1)
	} else {
		// The answer may begin before the content has come. A writer that
		// cannot be told so needs not be.
		control := http.NewResponseController(x.w)
		_ = control.EnableFullDuplex()
		defer content.end(control)
	}
	// Begun before the origin is asked, so that an invalidation meanwhile keeps
	// the answer out of the store (RFC 9110 §9.3.3, RFC 9111 §4.4).
	var posted *flight.Flight[*landing]
	stamp, left := e.Ledger.Stamp(), e.Ledger.Left()
	if x.r.Method == http.MethodPost {
		posted = e.flights.Alone(x.key)
		defer func() {
			if posted != nil {
				posted.End()
			}
		}()
	}
	a, f := e.send(out.WithContext(interim.With(unreported(x.r.Context()), inform)), &x.req, x.policy)
	if !content.whole() {
		// What is still to come of it may be no content as it should be, and
		// net/http would go on behind that (RFC 9112 §11.2).
		x.last()
	}
	if f != nil {
		if !rules.Safe(x.r.Method) {
			e.doubt(x.r.Context(), &x.target, x.policy)
		}
		if err := content.broken(); err != nil {
			f = asBrokenUpload(err)
		}
		x.fault(f)
		return
	}
	x.event.ForwardStatus = a.StatusCode
	if a.StatusCode == http.StatusSwitchingProtocols {
		x.tunnel(a, protocol)
		return
	}
	a.stored.Stamp = stamp
	l := &landing{status: a.StatusCode, res: a.stored, length: a.ContentLength, origin: a.Body, response: a.Response}
	if rules.Invalidates(x.r.Method, a.StatusCode) {
		e.forget(context.WithoutCancel(x.r.Context()), &x.target, a.stored, x.policy, posted)
	}
	if rules.Doubts(x.r.Method, a.StatusCode, a.stored.Header) {
		e.doubt(x.r.Context(), &x.target, x.policy)
	}
	if posted != nil && rules.Storable(&x.req, a.stored, x.target.URL(), &x.policy.Terms).Store {
		j := &job{f: posted, policy: x.policy, key: bytes.Clone(x.key), target: x.target, req: x.req, client: x.r.Context()}
		j.req.Method = http.MethodGet // whom it may answer from now on
		if fill := e.spoolPosted(x.r.Context(), j, l, a.stored, a.Body, a.ContentLength, left); fill != nil {
			posted = nil
			x.deliverPosted(j, l, fill)
			return
		}
	}
	x.deliverOrigin(l)
}

// An upload is content on its way from a client. It remembers if the client
// broke it, so that the origin does not get the blame. The origin may answer before
// it has read all, and go on reading.
type upload struct {
	body    io.ReadCloser
	reading sync.Mutex // held by who reads

	mu    sync.Mutex
	left  int64 // octets to come; negative: nobody knows
	all   bool  // they have come
	err   error // what ended it too early
	ended bool  // nobody is to read any more
}

var errEnded = errors.New("engine: the request is answered, and its content read no further")

// Read implements io.Reader.
func (u *upload) Read(p []byte) (int, error) {
	u.reading.Lock()
	defer u.reading.Unlock()
	if u.over() {
		return 0, errEnded
	}
	n, err := u.body.Read(p)
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.left > 0 {
		u.left -= int64(n)
	}
	switch {
	case err == io.EOF:
		u.all = true
	case err != nil:
		u.err = err
	}
	return n, err
}

// Close implements io.Closer. The content is net/http's to close.
func (u *upload) Close() error { return nil }

func (u *upload) over() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.ended
}

// broken is what ended the content too early, or nil.
func (u *upload) broken() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.err
}

// whole tells whether all of the content has come.
func (u *upload) whole() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.all || u.left == 0
}

// end has nobody read any more: net/http must not find somebody who does when the
// answer is over (go.dev/issue/68560). Who waits for the client is called back.
func (u *upload) end(control *http.ResponseController) {
	u.mu.Lock()
	u.ended = true
	u.mu.Unlock()
	if !u.whole() && control.SetReadDeadline(time.Now()) != nil {
		return // nobody can be called back
	}
	u.reading.Lock()
	defer u.reading.Unlock()
}

// asBrokenUpload blames the client (RFC 9110 §15.5.1, §15.5.9).
func asBrokenUpload(err error) *fault {
	f := &fault{status: http.StatusBadRequest, token: "http_request_error", err: err}
	var slow interface{ Timeout() bool }
	if errors.As(err, &slow) && slow.Timeout() {
		f.status = http.StatusRequestTimeout
	}
	return f
}

// spoolPosted is spool for the answer to a POST, which was asked for when the Ledger's Left was
// left. fill ends the flight too. It is nil if nothing is kept: then the body is as it came.
func (e *Engine) spoolPosted(ctx context.Context, j *job, l *landing, res *rules.Stored, body io.ReadCloser, size int64, left uint64) (fill func()) {
	j.ticket = e.Ledger.Begin() // now, and not before the content has come: a client may take its time for that
	if e.Ledger.Left() == left {
		if fill, err := e.spool(ctx, j, l, res, body, size); err == nil {
			return func() {
				defer j.release()
				defer j.f.End()
				fill()
			}
		}
	}
	j.release()
	return nil
}

// deliverPosted delivers the response to a POST while it goes into the store,
// and ends its flight.
func (x *exchange) deliverPosted(j *job, l *landing, fill func()) {
	l.origin, l.judged = nil, true
	x.event.Stored = true
	done := make(chan struct{})
	x.e.spawn(func() {
		defer close(done)
		fill()
	})
	x.deliverSpool(l, &rules.Decision{Action: rules.Validate})
	<-done
}

// invalidate forgets what is stored for a target, and keeps fetches under way
// from storing it again.
//
// spare, which may be nil, is the flight of the very answer that invalidates.
func (e *Engine) invalidate(ctx context.Context, target *canon.Target, spare *flight.Flight[*landing]) {
	key := e.key(target)
	e.flights.Forget(key, spare)
	_ = e.Store.Forget(ctx, key) // a store that fails has nothing to serve
}

// forget invalidates target, what the header of res names, which is an answer of it, and
// the groups that either names (RFC 9875 §2.2.1, §3).
func (e *Engine) forget(ctx context.Context, target *canon.Target, res *rules.Stored, p *Policy, spare *flight.Flight[*landing]) {
	targets := []canon.Target{*target}
	for _, u := range rules.Related(target.URL(), res.Header, &p.Terms) {
		if t, ok := canon.Resource(u); ok {
			targets = append(targets, t)
		}
	}
	groups := rules.InvalidatedGroups(res.Header, &p.Terms)
	for i := range targets {
		groups = append(groups, e.groupsOf(ctx, &targets[i], p)...)
	}
	for i := range targets {
		e.invalidate(ctx, &targets[i], spare)
		spare = nil
	}
	e.forgetGroups(ctx, target, groups, res)
}

// groupsOf are the groups of what is stored for a target, if they go with it.
func (e *Engine) groupsOf(ctx context.Context, target *canon.Target, p *Policy) (groups []string) {
	if p.Terms.KeepGroups || e.Paths {
		return nil
	}
	for _, k := range e.entries(ctx, e.key(target), p) {
		groups = append(groups, k.Groups(&p.Terms)...)
	}
	return groups
}

// forgetGroups purges groups of the origin of target, but not res, whose answer says so.
func (e *Engine) forgetGroups(ctx context.Context, target *canon.Target, groups []string, res *rules.Stored) {
	if len(groups) == 0 || e.Paths {
		return
	}
	slices.Sort(groups)
	var selectors []purge.Selector
	for _, g := range slices.Compact(groups) {
		if s := (purge.Selector{Group: g, Origin: target.Scheme + "://" + target.Host}); s.Valid() == nil { // or nothing can be in it
			selectors = append(selectors, s)
		}
	}
	for some := range slices.Chunk(selectors, purge.MaxSelectors) {
		before := e.Ledger.Stamp()
		r, err := e.Purge(ctx, purge.Order{Selectors: some, By: "an answer of " + target.Host})
		if errors.Is(err, purge.ErrFull) { // better too much than too little
			r, _ = e.Purge(ctx, purge.Order{Selectors: []purge.Selector{{All: true}}, By: "an answer of " + target.Host})
		}
		if before == res.Stamp && uint64(r.ID) == before+1 {
			res.Stamp = uint64(r.ID) // it is what it was made with, and nothing else came between
		}
	}
	if len(selectors) > 0 && e.Purged != nil {
		e.Purged()
	}
}

// doubt has what is stored for a target validated before its next use: nobody
// knows whether an unsafe request that failed has changed it. Where the store
// shows nothing it may still be reading what it has, and that is forgotten.
func (e *Engine) doubt(ctx context.Context, target *canon.Target, p *Policy) {
	ctx = context.WithoutCancel(ctx)
	key := e.key(target)
	e.flights.Forget(key, nil)
	known := e.entries(ctx, key, p)
	if len(known) == 0 {
		_ = e.Store.Forget(ctx, key) // as in invalidate
	}
	for _, k := range known {
		if err := e.rewrite(ctx, key, k.entry.ID, p.head(rules.Doubt(k.Stored))); err != nil {
			_ = e.Store.Remove(ctx, key, k.entry.ID)
		}
	}
}

var errTunnel = errors.New("the origin changed protocols, and the two connections cannot be joined")

// tunnel joins client and origin after a 101 (RFC 9110 §7.8).
func (x *exchange) tunnel(a *arrival, protocol string) {
	origin, ok := a.Body.(io.ReadWriteCloser)
	if !ok || protocol == "" {
		a.Body.Close()
		x.fault(&fault{status: http.StatusBadGateway, token: "http_upgrade_failed", err: errTunnel})
		return
	}
	defer origin.Close()
	conn, rw, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		x.fault(&fault{status: http.StatusBadGateway, token: "http_upgrade_failed", err: err})
		return
	}
	defer conn.Close()
	x.event.Status = http.StatusSwitchingProtocols
	head := &http.Response{
		StatusCode: http.StatusSwitchingProtocols, ProtoMajor: 1, ProtoMinor: 1,
		Header: message.EndToEnd(a.Header),
	}
	head.Header["Connection"], head.Header["Upgrade"] = []string{"Upgrade"}, a.Header["Upgrade"]
	if err := head.Write(rw); err != nil {
		return
	}
	if err := rw.Flush(); err != nil {
		return
	}
	x.event.Sent = join(conn, rw.Reader, origin)
}

// join copies both ways until either side ends, and returns the octets that
// went to the client.
func join(client io.WriteCloser, buffered *bufio.Reader, origin io.ReadWriteCloser) (sent int64) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = copyBuffered(origin, buffered) // either side may leave at any time
		origin.Close()
	}()
	sent, _ = copyBuffered(client, origin)
	client.Close()
	<-done
	return sent
}
