package engine

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"

	"github.com/larderhq/larder/internal/canon"
	"github.com/larderhq/larder/internal/flight"
	"github.com/larderhq/larder/internal/interim"
	"github.com/larderhq/larder/internal/message"
	"github.com/larderhq/larder/internal/rules"
)

// interimRoom is how many interim responses wait for a slow client; more are
// dropped.
const interimRoom = 128

type interimResponse struct {
	status int
	header http.Header
}

// A job is one fetch: all it needs of the request that caused it.
type job struct {
	f      *flight.Flight[*landing]
	key    []byte
	target canon.Target
	out    *http.Request // to be cloned for each attempt
	req    rules.Request

	// stored is the entry that may stand in if the origin fails, or nil.
	stored *kept
	// validating is the entry whose validators are sent, or nil.
	validating *kept
	// replacing is the entry that was to be validated before everything was
	// asked for instead, or nil.
	replacing *kept
	// prefix is the part whose rest is asked for, or nil.
	prefix *kept
	// clientConditions says that the client's own conditions go along.
	clientConditions bool

	background bool
	interim    chan interimResponse
}

// A landing is what a fetch came to. At most one of fault, refreshed, body and
// origin is set. It is shared by all who waited, but origin is the leader's.
type landing struct {
	// status is the origin's, or 0.
	status int
	why    string
	// res is the response as it was received.
	res *rules.Stored
	// length is the length of the content, or negative.
	length int64
	// judged says that the origin has seen the client's own conditions.
	judged bool

	fault     *fault
	refreshed *kept
	body      *spool
	origin    io.ReadCloser
}

// failure tells whether a stale response may be the better answer.
func (l *landing) failure() bool { return l.fault != nil || l.status >= 500 }

func (l *landing) asFailure() rules.Failure {
	return rules.Failure{Status: l.status, Unreachable: l.fault != nil && l.fault.unreachable}
}

// discard ends the body that was for the leader alone.
func (l *landing) discard() {
	if l.origin != nil {
		l.origin.Close()
	}
}

// job describes the fetch that the exchange needs. It shares nothing that
// changes.
func (x *exchange) job(f *flight.Flight[*landing], d *rules.Decision) *job {
	j := &job{f: f, key: bytes.Clone(x.key), target: x.target, interim: make(chan interimResponse, interimRoom)}
	j.req = x.req
	j.req.Header = maps.Clone(x.req.Header)
	if k := x.chosen(); k != nil && !x.unconditional {
		j.stored = k
	}
	header := x.e.outbound(j.req.Header, x.r)
	get := x.r.Method == http.MethodGet
	switch {
	case get && d.Action == rules.Validate && j.stored != nil:
		j.validating = j.stored
	case get && d.Forward == rules.Partial && j.stored != nil:
		j.prefix = j.stored
	}
	if j.validating != nil || j.prefix != nil {
		clearConditions(header)
		delete(header, "Range")
	} else if get && !x.req.GuardsState() && (x.e.Terms.FillConditionals || j.stored != nil || f.Shared()) {
		delete(header, "If-None-Match")
		delete(header, "If-Modified-Since")
	} else {
		j.clientConditions = x.req.Conditional() || x.req.GuardsState()
	}
	j.out = &http.Request{
		Method: x.r.Method, URL: x.target.Outgoing(), Host: x.target.Host, Header: header, Body: http.NoBody,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RemoteAddr: x.r.RemoteAddr,
	}
	return j
}

func clearConditions(header http.Header) {
	for _, name := range []string{"If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since", "If-Range"} {
		delete(header, name)
	}
}

// fly runs a job on its own. It ends with ctx, or with the Engine.
func (e *Engine) fly(ctx context.Context, j *job) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(e.ctx, cancel)
	e.background.Go(func() {
		defer j.f.End()
		l, fill := e.fetch(ctx, j)
		if l.origin != nil {
			l.origin = &lastBody{ReadCloser: l.origin, done: func() { stop(); cancel() }}
		}
		if j.background {
			e.settle(j, l)
			l.discard()
		}
		j.f.Land(l)
		if l.origin == nil {
			defer cancel()
			defer stop()
		}
		if fill != nil {
			fill()
		}
	})
}

// settle notes how a background validation went.
func (e *Engine) settle(j *job, l *landing) {
	if l.failure() {
		steady, _ := e.Clock()
		e.backoff.set(j.key, steady, e.Terms.Backoff())
	}
}

// lastBody is a body whose end ends the exchange with the origin.
type lastBody struct {
	io.ReadCloser
	done func()
}

func (b *lastBody) Close() error {
	err := b.ReadCloser.Close()
	b.done()
	return err
}

// An arrival is a response whose head was read.
type arrival struct {
	*http.Response
	stored *rules.Stored
}

// fetch asks the origin, twice if its first answer is of no use, and decides
// what becomes of the answer. fill, if there is one, carries the body into the
// store; it runs after the landing.
func (e *Engine) fetch(ctx context.Context, j *job) (l *landing, fill func()) {
	a, f := e.attempt(ctx, j)
	if again, why := j.useless(a, f, &e.Terms); again {
		if a != nil {
			a.Body.Close()
		}
		j.replacing, j.validating, j.prefix = j.validating, nil, nil
		clearConditions(j.out.Header)
		a, f = e.attempt(ctx, j)
		if f != nil {
			f.why = why
		}
	}
	if f != nil {
		return &landing{fault: f}, nil
	}
	switch {
	case a.StatusCode == http.StatusNotModified && j.validating != nil:
		a.Body.Close()
		return e.freshen(ctx, j, a), nil
	case a.StatusCode == http.StatusNotModified && !j.clientConditions:
		a.Body.Close()
		return &landing{status: a.StatusCode, fault: &fault{status: http.StatusBadGateway, token: "http_protocol_error", err: errUnasked}}, nil
	case a.StatusCode == http.StatusPartialContent && j.prefix != nil:
		return e.complete(ctx, j, a)
	case j.req.Method == http.MethodHead:
		e.afterHead(ctx, j, a)
	}
	return e.keep(ctx, j, a)
}

// useless tells whether a response is none to what was asked, so that asking
// once more, for everything, is the way on.
func (j *job) useless(a *arrival, f *fault, terms *rules.Terms) (bool, string) {
	switch {
	case f != nil:
		// An answer that no HTTP client can frame, such as a 304 with a garbled
		// Content-Length. What it answered was a question of ours.
		return j.validating != nil && f.token == "http_protocol_error", "unreadable answer to a validation (RFC 9112 6.3)"
	case a.StatusCode == http.StatusNotModified && j.validating != nil:
		_, ok, why := rules.Freshen(j.validating.Stored, &j.req, a.stored, terms)
		return !ok, why
	case a.StatusCode == http.StatusNotModified:
		return !j.clientConditions, "304 that nobody asked for (RFC 9110 15.4.5)"
	case j.prefix == nil:
		return false, ""
	case a.StatusCode == http.StatusPartialContent:
		_, ok := j.joined(a, terms)
		return !ok, "206 that does not fit the stored part (RFC 9111 3.4)"
	}
	return a.StatusCode == http.StatusRequestedRangeNotSatisfiable, "416 for the rest of a stored part (RFC 9111 3.3)"
}

// joined is the whole that the stored prefix makes with a, if it does.
func (j *job) joined(a *arrival, terms *rules.Terms) (*rules.Stored, bool) {
	rest := a.stored.Part
	whole, ok := rules.Union(j.prefix.Part, rest)
	if !ok || rest.IsZero() || rest.First != j.prefix.Part.Last+1 || whole.Total != whole.Last+1 || !rules.Joinable(j.prefix.Stored, a.stored) {
		return nil, false
	}
	return rules.Join(j.prefix.Stored, a.stored, whole, terms), true
}

// attempt sends the request once and reads the head of the answer.
func (e *Engine) attempt(ctx context.Context, j *job) (*arrival, *fault) {
	out := j.out.Clone(interim.With(ctx, func(status int, header http.Header) error {
		select {
		case j.interim <- interimResponse{status, message.EndToEnd(header)}:
		default: // the client is gone or far behind
		}
		return nil
	}))
	if j.validating != nil {
		rules.Conditional(j.validating.Stored, out.Header)
	}
	if j.prefix != nil {
		rules.Rest(j.prefix.Stored, out.Header)
	}
	return e.send(out, &j.req)
}

// send asks the origin and reads the head of the answer.
func (e *Engine) send(out *http.Request, req *rules.Request) (*arrival, *fault) {
	asked, _ := e.Clock()
	res, err := e.Forward.RoundTrip(out)
	if err != nil {
		return nil, asFault(err)
	}
	at := rules.Receipt{Asked: asked}
	at.Arrived, at.Wall = e.Clock()
	a := &arrival{Response: res}
	a.stored = rules.Receive(req, res.StatusCode, message.EndToEnd(res.Header), at, &e.Terms)
	if res.StatusCode == http.StatusPartialContent {
		a.stored.Part = rules.ReadPart(a.stored.Header, res.ContentLength, &e.Terms)
	}
	return a, nil
}

// freshen applies a 304 to the entry it confirms (RFC 9111 §4.3.4).
func (e *Engine) freshen(ctx context.Context, j *job, a *arrival) *landing {
	old := j.validating
	updated, _, why := rules.Freshen(old.Stored, &j.req, a.stored, &e.Terms)
	j.f.Commit(func() {
		if rules.Storable(&j.req, updated, nil, &e.Terms).Store {
			// ErrGone: whoever delivers will notice, and fetch.
			_ = e.Store.Amend(ctx, old.entry.ID, message.Encode(updated))
		}
	})
	if !rules.Storable(&j.req, updated, nil, &e.Terms).Store {
		why = "validated for the last time (RFC 9111 3.2)"
	}
	return &landing{status: a.StatusCode, why: why, res: updated, refreshed: e.prepare(old.entry, updated)}
}

// keep stores the response if it may be stored, and lands it.
func (e *Engine) keep(ctx context.Context, j *job, a *arrival) (*landing, func()) {
	l := &landing{status: a.StatusCode, res: a.stored, length: a.ContentLength, judged: j.clientConditions}
	verdict := rules.Storable(&j.req, a.stored, nil, &e.Terms)
	steady, _ := e.Clock()
	if verdict.Store && j.stored != nil && rules.AfterError(&j.req, j.stored.Stored, l.asFailure(), &e.Terms, steady).Store {
		verdict = rules.Verdict{Why: "an error while stale is usable (RFC 5861 4)"}
	}
	if l.why = verdict.Why; verdict.Store {
		size := a.ContentLength
		if p := a.stored.Part; !p.IsZero() {
			size = p.Size()
		}
		fill, err := e.spool(ctx, j, l, a.stored, a.Body, size)
		if err == nil {
			return l, fill
		}
		l.why = "not kept: " + reason(err)
	}
	if !verdict.Store {
		e.endEntry(ctx, j, a)
	}
	l.origin = a.Body
	return l, nil
}

// endEntry forgets the entry that was validated and got another answer, none
// that takes its place (RFC 9111 §4.3.3), and remembers not to wait for what
// cannot be shared.
func (e *Engine) endEntry(ctx context.Context, j *job, a *arrival) {
	for _, k := range []*kept{j.validating, j.replacing} {
		if k != nil && rules.EndsEntry(a.StatusCode) {
			_ = e.Store.Remove(ctx, k.entry.ID)
		}
	}
	if j.f.Shared() && a.StatusCode < 500 {
		steady, _ := e.Clock()
		e.uncacheable.set(j.key, steady, e.Terms.RememberUncacheable())
	}
}

// spool begins an entry for res and returns what carries the body into it.
func (e *Engine) spool(ctx context.Context, j *job, l *landing, res *rules.Stored, body io.ReadCloser, size int64) (fill func(), err error) {
	w, err := e.Store.Create(ctx, j.key, message.Encode(rules.Kept(res, &e.Terms)), size)
	if err != nil {
		return nil, err
	}
	l.body = newSpool(w)
	if res.Policy.NoCache || res.Lifetime == 0 {
		steady, _ := e.Clock()
		e.uncacheable.set(j.key, steady, e.Terms.RememberUncacheable())
	} else {
		e.uncacheable.clear(j.key)
	}
	return func() { e.fill(ctx, j, l.body, res, body) }, nil
}

// fill carries a body from the origin into the store, and makes the entry
// visible if all of it came.
func (e *Engine) fill(ctx context.Context, j *job, s *spool, res *rules.Stored, body io.ReadCloser) {
	defer body.Close()
	if _, err := copyBuffered(s, body); err != nil {
		s.end(err)
		return
	}
	if !s.kept() {
		s.end(nil)
		return
	}
	committed := j.f.Commit(func() {
		if _, err := s.w.Commit(ctx, e.replaced(ctx, j, res)...); err != nil {
			// The origin's octets contradict what it declared. Its own client
			// has them; the store has not.
			s.w.Abort(nil)
		}
	})
	if !committed {
		s.w.Abort(nil)
		return
	}
	if !res.Part.IsZero() {
		e.joinParts(ctx, j, res)
	}
}

// errUnasked blames an origin.
var errUnasked = errors.New("the origin answered 304 to a request without conditions")
