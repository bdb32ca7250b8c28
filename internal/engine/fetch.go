package engine

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/larderhq/larder/internal/canon"
	"github.com/larderhq/larder/internal/flight"
	"github.com/larderhq/larder/internal/interim"
	"github.com/larderhq/larder/internal/message"
	"github.com/larderhq/larder/internal/purge"
	"github.com/larderhq/larder/internal/rules"
)

// interimRoom is how many interim responses wait for a slow client; more are
// dropped.
const interimRoom = 128

type interimResponse struct {
	status int
	header http.Header
}

// interims are interim responses on their way to a client. Nil: there is none, and they
// are dropped.
type interims struct {
	came chan struct{} // says that some wait; has room for one

	mu      sync.Mutex
	waiting []interimResponse
}

func newInterims() *interims { return &interims{came: make(chan struct{}, 1)} }

func (q *interims) put(m interimResponse) {
	if q == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == interimRoom { // the client is gone or far behind
		return
	}
	q.waiting = append(q.waiting, m)
	select {
	case q.came <- struct{}{}:
	default:
	}
}

// take returns those that wait.
func (q *interims) take() []interimResponse {
	q.mu.Lock()
	defer q.mu.Unlock()
	some := q.waiting
	q.waiting = nil
	return some
}

// A job is one fetch: all it needs of the request that caused it.
type job struct {
	f *flight.Flight[*landing]
	// ticket is held until release, which may be called again: nothing can be kept any
	// more. A client may take its time to read what is not.
	ticket   purge.Ticket
	released atomic.Bool
	policy   *Policy
	key      []byte
	target   canon.Target
	out      *http.Request // to be copied for each attempt
	req      rules.Request

	// stored is the entry that may stand in if the origin fails, or nil.
	stored *kept
	// validating is the entry whose validators are sent, or nil.
	validating *kept
	// replacing is the entry in whose place everything is asked for, because
	// it cannot be validated, or nil.
	replacing *kept
	// prefix is the part whose rest is asked for, or nil.
	prefix *kept
	// clientConditions says that the client's own conditions go along.
	clientConditions bool

	// client ends when the client goes away; nil: there is none.
	client context.Context
	// attached says that the fetch is of use to this client alone, until it
	// turns out that its response is kept.
	attached bool
	// interim carries 1xx to the client; nil if there is none.
	interim *interims
}

// A landing is what a fetch came to. At most one of calledOff, fault, refreshed,
// body and origin is set. It is shared by all who waited, but for what is the leader's:
// first, origin and last.
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

	// calledOff says that nothing was fetched: the store had it already.
	calledOff bool
	fault     *fault
	refreshed *kept
	// common is refreshed as it is kept, for all who waited; nil if it is not.
	common *kept
	body   *spool
	// first reads body from the beginning.
	first  io.ReadCloser
	origin io.ReadCloser
	// response is what origin is the body of, or nil.
	response *http.Response
	// last is what is to be done once the leader has answered.
	last func()

	// from is what res was made of beside what the origin has sent, or nil.
	from *rules.Stored
	// purged says that res was purged while it was fetched.
	purged atomic.Bool
}

// failure tells whether a stale response may be the better answer.
func (l *landing) failure() bool { return l.fault != nil || l.status >= 500 }

func (l *landing) asFailure() rules.Failure {
	return rules.Failure{Status: l.status, Unreachable: l.fault != nil && l.fault.unreachable}
}

// discard ends what is for the leader alone. Only the leader calls it, or
// whoever takes its place.
func (l *landing) discard() {
	for _, body := range []io.ReadCloser{l.first, l.origin} {
		if body != nil {
			body.Close()
		}
	}
	if l.last != nil {
		l.last()
	}
}

// job describes the fetch that the exchange needs, in the background or for its
// client. It shares nothing that changes.
func (x *exchange) job(f *flight.Flight[*landing], d *rules.Decision, background bool) *job {
	j := &job{f: f, policy: x.policy, key: bytes.Clone(x.key), target: x.target}
	method := x.r.Method
	if background {
		method = http.MethodGet
	} else {
		j.client = x.r.Context()
		j.interim = newInterims()
		j.attached = !f.Shared() && d.Action != rules.Validate
	}
	if k := x.chosen(); k != nil && !x.unconditional {
		j.stored = k
	}
	get := method == http.MethodGet
	switch {
	case get && d.Action == rules.Validate && j.stored != nil:
		j.validating = j.stored
	case get && d.Forward == rules.Partial && j.stored != nil:
		j.prefix = j.stored
	case get && j.stored != nil && !x.req.GuardsState() && (background || !x.req.Ranged()):
		j.replacing = j.stored // it has no validators
	}
	asked := maps.Clone(x.req.Header)
	delete(asked, "Expect") // RFC 9110 §10.1.1: about content, of which there is none
	switch {
	case background || j.validating != nil || j.prefix != nil:
		clearConditions(asked) // RFC 9111 §4.3.2: they are judged afterwards
		delete(asked, "Range")
	case get && !x.req.GuardsState() && (x.policy.Terms.FillConditionals || j.stored != nil || f.Shared()):
		delete(asked, "If-None-Match")
		delete(asked, "If-Modified-Since")
	default:
		j.clientConditions = x.req.Conditional() || x.req.GuardsState()
	}
	j.req = rules.ReadRequest(method, asked)
	j.req.Marks = x.req.Marks
	j.out = &http.Request{
		Method: method, URL: x.target.Outgoing(), Host: x.target.Host, Header: x.e.outbound(x.policy, asked, x.r), Body: http.NoBody,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RemoteAddr: x.r.RemoteAddr,
	}
	return j
}

// release ends the use of the ticket.
func (j *job) release() {
	if !j.released.Swap(true) {
		j.ticket.End()
	}
}

// mark is what the marks know the key by: what holds for one policy need not for
// another.
func (j *job) mark() []byte { return marked(j.key, j.req.Lane) }

func marked(key []byte, lane string) []byte {
	if lane == "" {
		return key
	}
	return append(append(bytes.Clone(key), 0), lane...)
}

// from is what is stored that the response to j is made of too, or nil.
func (j *job) from() *rules.Stored {
	if j.prefix == nil {
		return nil
	}
	return j.prefix.Stored
}

func clearConditions(header http.Header) {
	for _, name := range []string{"If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since", "If-Range"} {
		delete(header, name)
	}
}

// fly runs a job on its own. It ends with the Engine, and with its client as
// long as nobody but the client would miss it: others wait for a shared fetch,
// and so does the store.
func (e *Engine) fly(ctx context.Context, j *job) {
	j.ticket = e.Ledger.Begin()
	j.f.Since.Store(j.ticket.Stamp)
	for _, k := range []**kept{&j.stored, &j.validating, &j.replacing, &j.prefix} {
		if *k != nil && (*k).verdict(j.key, e) == purge.Gone { // since it was looked up: a validation would bring it back
			*k = nil
		}
	}
	ctx, cancel := context.WithCancel(tied{e.ctx, ctx})
	detach := func() bool { return true }
	if j.attached {
		detach = context.AfterFunc(j.client, cancel)
	}
	e.spawn(func() {
		l, fill := e.fetch(ctx, j)
		defer e.over(j, l)
		defer j.f.End()
		detach()
		if l.origin == nil {
			defer cancel()
		} else {
			l.origin = &lastBody{ReadCloser: l.origin, done: cancel}
		}
		if j.client == nil {
			e.settle(j, l)
			l.discard()
		} else if l.origin != nil {
			context.AfterFunc(j.client, cancel) // a body for this client alone
		}
		if fill == nil {
			j.f.End() // before anybody knows: who comes now asks anew
		}
		j.f.Land(l)
		if fill != nil {
			fill()
		}
	})
}

// settle notes how a background validation went.
func (e *Engine) settle(j *job, l *landing) {
	if l.failure() {
		steady, _ := e.Clock()
		e.backoff.set(j.mark(), steady, j.policy.Terms.Backoff())
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

	// updated is what a 304 makes of the entry that it confirms, and why it does; nil: none.
	updated *rules.Stored
	why     string
}

// fetch asks the origin, twice if its first answer is of no use, and decides
// what becomes of the answer. fill, if there is one, carries the body into the
// store; it runs after the landing.
func (e *Engine) fetch(ctx context.Context, j *job) (l *landing, fill func()) {
	a, f := e.attempt(ctx, j)
	if again, why := j.useless(a, f, &j.policy.Terms); again {
		if a != nil {
			a.Body.Close()
		}
		if j.replacing == nil {
			j.replacing = cmp.Or(j.validating, j.prefix)
		}
		j.validating, j.prefix = nil, nil
		clearConditions(j.out.Header)
		delete(j.out.Header, "Range") // which only its If-Range made safe
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
	case a.StatusCode == http.StatusNotModified && !j.req.Conditional():
		a.Body.Close()
		return &landing{status: a.StatusCode, fault: &fault{status: http.StatusBadGateway, token: "http_protocol_error", err: errUnasked}}, nil
	case a.StatusCode == http.StatusPartialContent && j.prefix != nil:
		return e.complete(ctx, j, a)
	case a.StatusCode == http.StatusPartialContent && len(j.out.Header["Range"]) == 0:
		a.Body.Close()
		return &landing{status: a.StatusCode, fault: &fault{status: http.StatusBadGateway, token: "http_protocol_error", err: errUnaskedPart}}, nil
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
		var ok bool
		if a.updated, ok, a.why = rules.Freshen(j.validating.Stored, &j.req, a.stored, terms); !ok {
			a.updated = nil
		}
		return !ok, a.why
	case a.StatusCode == http.StatusNotModified:
		return !j.req.Conditional(), "304 that nobody asked for (RFC 9110 15.4.5)"
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
	out := j.out.WithContext(interim.With(ctx, func(status int, header http.Header) error {
		j.interim.put(interimResponse{status, message.EndToEnd(header)})
		return nil
	}))
	if j.validating != nil || j.prefix != nil {
		out.Header = maps.Clone(out.Header)
	}
	if j.validating != nil {
		rules.Conditional(j.validating.Stored, out.Header)
	}
	if j.prefix != nil {
		rules.Rest(j.prefix.Stored, out.Header)
	}
	a, f := e.send(out, &j.req, j.policy)
	if a != nil {
		a.stored.Stamp = j.ticket.Stamp
	}
	return a, f
}

// send asks the origin and reads the head of the answer.
func (e *Engine) send(out *http.Request, req *rules.Request, p *Policy) (*arrival, *fault) {
	asked, _ := e.Clock()
	res, err := e.Forward.RoundTrip(out)
	if err == nil && neverEarly(out, res.StatusCode) {
		res.Body.Close()
		asked, _ = e.Clock()
		res, err = e.Forward.RoundTrip(out)
	}
	if err != nil {
		return nil, asFault(err)
	}
	at := rules.Receipt{Asked: asked}
	at.Arrived, at.Wall = e.Clock()
	a := &arrival{Response: res}
	a.stored = rules.Receive(req, res.StatusCode, message.EndToEnd(res.Header), at, &p.Terms)
	a.stored.ToClose = res.ContentLength < 0 && res.Close && len(res.TransferEncoding) == 0 && res.ProtoMajor == 1
	if res.StatusCode == http.StatusPartialContent {
		a.stored.Part = rules.ReadPart(a.stored.Header, res.ContentLength, &p.Terms)
	}
	return a, nil
}

// neverEarly tells whether an origin that answers with status takes for early data what was
// none, and may be asked once more (RFC 8470 §5.2): nothing goes to it before a handshake is
// over, and the client says nothing of that kind.
func neverEarly(out *http.Request, status int) bool {
	return status == http.StatusTooEarly && len(out.Header["Early-Data"]) == 0 && rules.Safe(out.Method) && out.Body == http.NoBody
}

// freshen applies a 304 to the entry it confirms (RFC 9111 §4.3.4).
func (e *Engine) freshen(ctx context.Context, j *job, a *arrival) *landing {
	old, updated := j.validating, a.updated
	l := &landing{status: a.StatusCode, why: a.why, res: updated, from: old.Stored, refreshed: e.prepare(old.entry, updated, j.policy)}
	e.remember(j, updated.Lasts())
	switch {
	case updated.Ended(&j.policy.Terms):
		l.why = "validated for the last time (RFC 9111 3.2)"
		l.last = func() { _ = e.Store.Remove(context.WithoutCancel(ctx), j.key, old.entry.ID) }
		e.remember(j, false)
		return l
	case !rules.Storable(&j.req, updated, nil, &j.policy.Terms).Store:
		return l // for this request; the entry stays as it is for others
	}
	common := rules.Kept(updated, &j.policy.Terms)
	if l.common = l.refreshed; common != updated {
		l.common = e.prepare(old.entry, common, j.policy)
	}
	e.counted(j.key, old)
	e.commit(j, func() {
		kept, ok := e.judged(j.key, common, old.Stored)
		if !ok || kept != common && e.outdone(ctx, j, common) {
			return
		}
		// ErrGone: whoever delivers will notice, and fetch.
		if e.Store.Amend(ctx, j.key, old.entry.ID, j.policy.head(kept)) == nil {
			e.stored(j, old.entry.ID, kept, old.Stored)
		}
	})
	return l
}

// keep stores the response if it may be stored, and lands it.
func (e *Engine) keep(ctx context.Context, j *job, a *arrival) (*landing, func()) {
	l := &landing{status: a.StatusCode, res: a.stored, length: a.ContentLength, judged: j.clientConditions}
	verdict := rules.Storable(&j.req, a.stored, nil, &j.policy.Terms)
	steady, _ := e.Clock()
	if verdict.Store && j.stored != nil && rules.AfterError(&j.req, j.stored.Stored, l.asFailure(), &j.policy.Terms, steady).Store {
		verdict = rules.Verdict{Why: "an error while stale is usable (RFC 5861 4)"}
	}
	if l.why = verdict.Why; verdict.Store {
		res, size := a.stored, a.ContentLength
		if p := res.Part; !p.IsZero() {
			size = p.Size()
		}
		if rules.Entire(&j.req, res) {
			res = rules.Join(res, res, res.Part, &j.policy.Terms)
		}
		fill, err := e.spool(ctx, j, l, res, a.Body, size)
		if err == nil {
			return l, fill
		}
		l.why = "not kept: " + reason(err)
	}
	if anyone := j.req.Impersonal(); verdict.Store || !rules.Storable(&anyone, a.stored, nil, &j.policy.Terms).Store {
		e.supersede(ctx, j, a.StatusCode)
	} else {
		e.question(ctx, j)
	}
	if j.f.Shared() && a.StatusCode < 500 && a.StatusCode != http.StatusPartialContent && a.StatusCode != http.StatusRequestedRangeNotSatisfiable {
		e.remember(j, false) // what a range came to says nothing of the whole
	}
	l.origin, l.response = a.Body, a.Response
	return l, nil
}

// supersede forgets the entry that was validated, or could not be, and got
// another answer, none that takes its place in the store (RFC 9111 §4.3.3).
func (e *Engine) supersede(ctx context.Context, j *job, status int) {
	for _, k := range []*kept{j.validating, j.replacing, j.prefix} {
		if k != nil && rules.EndsEntry(status) {
			_ = e.Store.Remove(ctx, j.key, k.entry.ID)
		}
	}
}

// question has the entry that a request found wanting, and whose successor this
// one request forbids to keep, validated before its next use. What is stale is
// validated anyway, and may yet stand in for an origin that fails.
func (e *Engine) question(ctx context.Context, j *job) {
	steady, _ := e.Clock()
	if k := j.stored; k != nil && k.Age(steady) < k.Lifetime {
		e.commit(j, func() { e.amend(ctx, j, k, rules.Doubt(k.Stored)) })
	}
}

// spool begins an entry for res and returns what carries the body into it.
func (e *Engine) spool(ctx context.Context, j *job, l *landing, res *rules.Stored, body io.ReadCloser, size int64) (fill func(), err error) {
	kept := rules.Kept(res, &j.policy.Terms)
	d := desks.Get().(*desk)
	d.head = message.Append(d.head[:0], kept)
	w, err := e.Store.Create(ctx, j.key, j.policy.headOf(kept, d.head), size)
	desks.Put(d)
	if err != nil {
		return nil, err
	}
	l.body = newSpool(w, size)
	l.body.dropped = j.release
	if j.policy.Terms.Private { // the cache is its client's, who wants no more of it
		l.body.forsaken = callOff(body)
	}
	if j.client != nil {
		// Opened now: the beginning of a body too large to keep is soon gone.
		if l.first, err = l.body.open(j.client, 0); err != nil {
			w.Abort(err)
			l.body = nil
			return nil, err
		}
	}
	e.remember(j, res.Lasts())
	return func() { e.fill(ctx, j, l.body, res, body, size) }, nil
}

// callOff ends a Read of body that waits for the origin. What of body is in the store is
// who reads it's to close.
func callOff(body io.ReadCloser) func() {
	if b, ok := body.(*joinedBody); ok {
		body = b.fetched
	}
	return func() { _ = body.Close() } // fill learns of it by reading
}

// remember notes whether a response to j can be shared, so that it is of use to
// wait for another's fetch.
func (e *Engine) remember(j *job, shareable bool) {
	if shareable {
		e.uncacheable.clear(j.mark())
		return
	}
	steady, _ := e.Clock()
	e.uncacheable.set(j.mark(), steady, j.policy.Terms.RememberUncacheable())
}

// fill carries a body from the origin into the store, and makes the entry
// visible if all of it came: size octets, unless that is negative.
func (e *Engine) fill(ctx context.Context, j *job, s *spool, res *rules.Stored, body io.ReadCloser, size int64) {
	defer body.Close()
	s.ctx = ctx
	_, err := copyBuffered(s, body)
	if s.unbind != nil {
		s.unbind()
	}
	if err == nil {
		err = s.brokenOff() // a body that was closed meanwhile may pretend to be at its end
	}
	if err == nil && !s.kept() || errors.Is(err, errNobody) {
		e.supersede(ctx, j, res.Status) // it came, and is too large to keep
		e.remember(j, false)
	}
	if err != nil || !s.kept() {
		j.f.End() // who comes now is not to join what has failed
		s.end(err)
		return
	}
	if size >= 0 && s.written.Load() != size {
		// The origin's octets contradict what it declared. Its own client has
		// them; the store has not.
		s.end(nil)
		return
	}
	committed := e.commit(j, func() {
		kept, ok := e.judged(j.key, res, j.from())
		if !ok || kept != res && e.outdone(ctx, j, res) {
			s.w.Abort(nil) // it was purged since it was asked for
			return
		}
		entry, err := s.w.Commit(ctx, e.replaced(ctx, j, res)...)
		if err != nil {
			s.w.Abort(nil) // a store that failed: the clients must not notice
			return
		}
		e.stored(j, entry.ID, res, j.from())
	})
	if !committed {
		s.end(nil)
		return
	}
	if !res.Part.IsZero() {
		e.joinParts(context.WithoutCancel(ctx), j, res)
	}
}

// They blame an origin.
var (
	errUnasked     = errors.New("the origin answered 304 to a request without conditions")
	errUnaskedPart = errors.New("the origin answered 206 to a request without a range")
)
