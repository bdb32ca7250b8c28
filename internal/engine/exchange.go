package engine

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/larderhq/larder/internal/canon"
	"github.com/larderhq/larder/internal/field"
	"github.com/larderhq/larder/internal/observe"
	"github.com/larderhq/larder/internal/purge"
	"github.com/larderhq/larder/internal/rules"
	"github.com/larderhq/larder/internal/standing"
	"github.com/larderhq/larder/store"
)

// An exchange is one request on its way. One goroutine has it; what outlives
// the request gets copies.
type exchange struct {
	*room
	e      *Engine
	policy *Policy
	w      http.ResponseWriter
	r      *http.Request
	over   *atomic.Bool // where fetches have a lease of its context

	came         time.Time // steady
	steady, wall time.Time // when the request came, or came round again
	target       canon.Target
	req          rules.Request
	event        observe.Event
	counted      countedWriter

	// whole and part point at the candidates to use, or are nil.
	whole *kept
	part  *kept
	miss  rules.Reason
	// softened says that somebody has purged it, and wants it validated.
	softened bool

	// moment is when the store was looked at, and stands what was decided then, if
	// that may be said to others: which is to Serve.
	moment standing.Moment
	stands rules.Decision

	// deciding says that nothing is sent: see Decide.
	deciding bool

	// refreshes says that what is served is to be validated in the background.
	refreshes bool
	// hinted says that the client knows links of what is stored.
	hinted bool
	// alone says that sharing was tried, and did not work for this request.
	alone bool
	// unconditional says that a stored response that was being validated
	// vanished: the next fetch asks for everything.
	unconditional bool
	// failures counts the fetches of others that failed while we waited, and
	// outdated those of another version (Policy.Version).
	failures, outdated int
	// vary are the fields that decide the variant, learnt from a response
	// that was not for us.
	vary []string
}

// A room is what exchanges use again, one after the other.
type room struct {
	key     []byte
	scratch bytes.Buffer

	// entries are what is stored under the key, and candidates those that
	// could be read.
	entries    []store.Entry
	candidates []*rules.Stored
	kept       []*kept
	verdicts   []purge.Verdict // of the Ledger, on each

	// For what is decided, and not sent.
	slate  slate
	fields fields
	names  []string
	answer standing.Answer
}

// clear keeps nothing but the room.
func (m *room) clear() {
	clear(m.candidates)
	clear(m.kept)
	clear(m.fields)
	m.key, m.entries, m.candidates, m.kept = m.key[:0], m.entries[:0], m.candidates[:0], m.kept[:0]
	m.slate.wipe()
}

func (x *exchange) begin(e *Engine, w http.ResponseWriter, r *http.Request) {
	*x = exchange{room: x.room, e: e, policy: e.policy(r), w: w, r: r}
	x.steady, x.wall = e.Clock()
	x.came = x.steady
	x.event = observe.Event{
		Start: x.wall, Client: r.RemoteAddr, Method: r.Method, Host: r.Host, Target: r.RequestURI, Proto: r.Proto,
	}
}

// end tells the Sink, whatever happened, and gives the exchange back.
func (x *exchange) end() {
	if x.over != nil {
		x.over.Store(true)
	}
	if x.e.Recent != nil {
		x.e.Recent.Saw(x.r.Host, x.r.RequestURI, x.wall)
	}
	if sink := x.e.Sink; sink != nil {
		steady, _ := x.e.Clock()
		x.event.Duration = steady.Sub(x.came)
		sink.Observe(&x.event)
	}
	x.release()
}

// release gives the exchange back.
func (x *exchange) release() {
	e := x.e
	x.clear()
	*x = exchange{room: x.room}
	e.exchanges.Put(x)
}

func (x *exchange) serve() {
	if x.r.Method == http.MethodConnect { // whose target has a form of its own
		x.last() // what follows may be meant for the other end of a tunnel
		x.unserved()
		return
	}
	if err := x.read(); err != nil {
		x.refuse(err)
		return
	}
	if x.e.looped(x.r.Header) {
		x.fault(&fault{status: http.StatusBadGateway, token: "proxy_loop_detected", err: errLoop})
		return
	}
	switch method := x.r.Method; {
	case method == http.MethodTrace:
		x.unserved()
	case x.lastHop():
		x.w.Header()["Allow"] = []string{methods}
		x.respond(http.StatusOK)
	case x.upgrading() != "":
		x.pass(rules.Bypass, "upgrade (RFC 9110 7.8)")
	case method != http.MethodGet && method != http.MethodHead:
		x.pass(rules.Method, "method (RFC 9111 4)")
	case x.r.ContentLength != 0:
		x.pass(rules.Bypass, "content in "+method+" (RFC 9110 9.3.1)")
	default:
		if why := x.passes(); why != "" {
			x.pass(rules.Bypass, why)
			return
		}
		x.cached()
	}
}

// last has the answer be the last of its connection (RFC 9112 §9.6).
func (x *exchange) last() {
	if x.r.ProtoMajor == 1 {
		x.w.Header()["Connection"] = []string{"close"}
	}
}

// read finds out what the request is about.
func (x *exchange) read() (err error) {
	if x.target, err = canon.Parse(x.r, x.secure()); err != nil {
		return err
	}
	x.key = x.e.appendKey(x.key[:0], &x.target)
	x.req = rules.ReadRequest(x.r.Method, x.e.view(x.r, &x.target))
	x.req.Marks = x.policy.marks(x.r)
	return nil
}

// marks are what p says of r.
func (p *Policy) marks(r *http.Request) rules.Marks {
	m := rules.Marks{Lane: p.Label}
	if p.KeyPart != nil {
		if part := p.KeyPart(r); part != "" {
			m.Extra = p.Terms.Conceal(p.Label + "\x00" + part)
		}
	}
	if p.Version != nil {
		m.Version = p.Version(r)
	}
	if p.Touched != nil {
		m.Touched = p.Touched(r)
	}
	return m
}

// passes is why the operator keeps a GET or HEAD from the cache; empty: it is not.
func (x *exchange) passes() string {
	switch {
	case x.req.Ranged() && x.policy.Terms.Ranges == rules.RangesPass:
		return "range-mode: pass"
	case x.req.Conditional() && x.policy.Terms.PassConditionals:
		return "conditional-mode: pass"
	case x.policy.Bypass != nil:
		return x.policy.Bypass(x.r)
	}
	return ""
}

func (x *exchange) secure() bool { return x.r.TLS != nil }

// cached is the way of GET and HEAD: as often around as others' fetches turn
// out not to be for us, and at last on our own.
func (x *exchange) cached() {
	for round := 0; ; round++ {
		x.lookup()
		d := x.decide()
		x.note(&d)
		switch d.Action {
		case rules.Serve:
			x.stands = d
			if x.deliverStored(x.chosen(), &d) {
				return
			}
			x.stands = rules.Decision{}
			continue // gone between Lookup and Open
		case rules.ServeThenValidate:
			x.refreshes = true
			if x.deliverStored(x.chosen(), &d) {
				return
			}
			x.refreshes = false // it was replaced meanwhile, perhaps by something fresh
			continue
		case rules.Refuse:
			x.uncached()
			return
		}
		x.alone = x.alone || round >= 3
		if x.ask(&d) {
			return
		}
		x.steady, x.wall = x.e.Clock()
	}
}

// onlyCached tells whether the client wants no answer of the origin (RFC 9111
// §5.2.1.7). Methods that are never answered from the store go there anyway.
func (x *exchange) onlyCached() bool {
	return x.req.Directives.OnlyIfCached && x.policy.Terms.Heeds(rules.RequestOnlyIfCached) &&
		(x.r.Method == http.MethodGet || x.r.Method == http.MethodHead)
}

// uncached answers what asks for nothing but what is stored.
func (x *exchange) uncached() {
	x.event.Forward = ""
	x.plain(http.StatusGatewayTimeout, "not in the cache, and the request asks for nothing else (only-if-cached)")
}

// lookup finds what is stored for the request. A store that fails is a store
// that has nothing.
func (x *exchange) lookup() {
	for {
		left := x.e.Ledger.Left()
		x.find()
		if x.e.Ledger.Left() == left {
			return
		}
		// What was found may be of before a walker came by, and was judged after the
		// purge had left the Ledger with it.
	}
}

// find is lookup, while no purge leaves the Ledger.
func (x *exchange) find() {
	x.candidates, x.kept, x.verdicts = x.candidates[:0], x.kept[:0], x.verdicts[:0]
	x.whole, x.part = nil, nil
	if x.e.Standing != nil {
		x.moment = x.e.Standing.Moment(x.key)
	}
	var err error
	x.entries, err = x.e.Store.Lookup(x.r.Context(), x.key, x.entries[:0])
	if err != nil {
		x.event.Fault = err
	}
	for _, entry := range x.entries {
		k, err := x.decode(entry)
		if err != nil {
			x.event.Fault = err
		}
		if k == nil {
			continue
		}
		if v := k.verdict(x.key, x.e); v != purge.Gone {
			x.candidates = append(x.candidates, k.Stored)
			x.kept = append(x.kept, k)
			x.verdicts = append(x.verdicts, v)
		}
	}
	c := rules.Select(&x.req, x.candidates, &x.policy.Terms)
	x.miss = c.Miss
	if c.Whole >= 0 {
		x.whole = x.kept[c.Whole]
	}
	if c.Part >= 0 {
		x.part = x.kept[c.Part]
	}
	chosen := c.Whole
	if chosen < 0 {
		chosen = c.Part
	}
	x.softened = chosen >= 0 && x.verdicts[chosen] == purge.Stale
}

// decode returns entry with its head decoded, or nil: see heads.decode.
func (x *exchange) decode(entry store.Entry) (*kept, error) {
	if !x.deciding {
		return x.e.heads.decode(x.r.Context(), x.key, entry, x.e, x.policy)
	}
	if k := x.e.heads.recall(entry, x.policy); k != nil {
		return k, nil
	}
	return x.slate.decode(x.r.Context(), x.key, entry, x.e, x.policy)
}

// chosen is the stored response that a decision is about.
func (x *exchange) chosen() *kept {
	if x.whole != nil {
		return x.whole
	}
	return x.part
}

// decide says what to do with what lookup found.
func (x *exchange) decide() rules.Decision {
	k := x.chosen()
	if x.req.GuardsState() && !x.onlyCached() {
		return rules.Decision{Action: rules.Fetch, Forward: rules.ByClient, Why: "If-Match or If-Unmodified-Since (RFC 9110 13.1)"}
	}
	if k == nil || x.unconditional || x.req.GuardsState() || x.whole == nil && x.r.Method == http.MethodHead {
		return rules.Absent(&x.req, x.miss, &x.policy.Terms)
	}
	d := rules.Reuse(&x.req, k.Stored, &x.policy.Terms, x.steady, x.softened)
	if x.whole == nil && !x.req.Ranged() && d.Action != rules.Refuse {
		// A fresh prefix helps, but does not do; a stale one does not help.
		if fresh := d.Action == rules.Serve; !fresh || !rules.NotModified(&x.req, k.Stored) {
			d = rules.Absent(&x.req, rules.Partial, &x.policy.Terms)
			if d.Action == rules.Fetch {
				d.Why = "only a part is stored (RFC 9111 3.3)"
			}
			if !fresh {
				x.part = nil
			}
		}
	}
	return d
}

// note writes a decision into the Event. What happens later may add to it.
func (x *exchange) note(d *rules.Decision) {
	ev := &x.event
	ev.Hit = d.Action == rules.Serve || d.Action == rules.ServeThenValidate
	ev.Forward = string(d.Forward)
	ev.Why = d.Why
	ev.HasTTL = ev.Hit
	ev.TTL = seconds(d.TTL())
}

// seconds rounds down, so that what is over is negative.
func seconds(d time.Duration) int64 {
	s := int64(d / time.Second)
	if d < 0 && d%time.Second != 0 {
		s--
	}
	return s
}

// deliverStored answers from the store without validation. It returns false if
// the entry has gone, and nothing was sent.
func (x *exchange) deliverStored(k *kept, d *rules.Decision) bool {
	return x.deliverKept(k, k.reply, seconds(d.Age))
}

// A slice is what a request gets of a stored response.
type slice struct {
	status      int
	notModified bool
	spans       []span // of the representation; none: all of it
	off, n      int64  // octets of the stored body, if it is one run of them
}

// slice decides what the request gets of k. ok is false if there is no such thing.
func (x *exchange) slice(k *kept) (c slice, ok bool) {
	c = slice{status: k.Status, n: k.entry.Size}
	if c.notModified = x.req.Conditional() && rules.NotModified(&x.req, k.Stored); c.notModified {
		c.status, c.n = http.StatusNotModified, 0
		return c, true
	}
	if c.spans, c.status, ok = x.cut(k); ok && len(c.spans) == 1 {
		c.off, c.n = c.spans[0].First-k.Part.First, c.spans[0].Last-c.spans[0].First+1
	}
	return c, ok
}

// deliverKept answers from the store with the fields of reply, which it does
// not change. Age is left out if it is negative: the origin has just confirmed
// the response. It returns false if the entry has gone, and nothing was sent.
func (x *exchange) deliverKept(k *kept, reply []replyField, age int64) bool {
	c, ok := x.slice(k)
	switch {
	case !ok && !k.Part.IsZero():
		x.unconditional = true // a validation has moved the date of If-Range
		return false
	case !ok:
		x.unsatisfiable(k.Stored, k.entry.Size)
		return true
	}
	n := c.n
	if x.r.Method == http.MethodHead || len(c.spans) > 1 {
		n = 0
	}
	body, err := x.e.Store.Open(x.r.Context(), x.key, k.entry.ID, c.off, n)
	if err != nil {
		return x.lost(err)
	}
	defer body.Close()
	var parts []io.ReadCloser
	if len(c.spans) > 1 {
		parts, err = x.openParts(k, c.spans)
		defer func() {
			for _, part := range parts {
				part.Close()
			}
		}()
		if err != nil {
			return x.lost(err)
		}
	}
	if x.refreshes {
		// Not before: what it brings may take the place of what is served.
		x.refreshes = false
		x.refresh()
	}
	x.dress(k, reply, &c)
	x.tell(k, age)
	if len(c.spans) > 1 {
		x.multipart(k, c.spans, parts)
		return true
	}
	x.publish(k, &c)
	x.respond(c.status)
	if x.r.Method != http.MethodHead && bodyAllowed(c.status) {
		x.copyKept(k, body, c.off+k.Part.First, c.n)
	}
	return true
}

// dress sets the fields of an answer with what c has of k, but for those of tell.
func (x *exchange) dress(k *kept, reply []replyField, c *slice) {
	x.event.Status = c.status // known now, as Cache-Status compares it with the origin's
	x.event.Overruled = k.Overruled.String()
	h := x.w.Header()
	for _, f := range reply {
		h[f.name] = f.lines
	}
	switch {
	case c.notModified:
		delete(h, "Content-Length")
	case len(c.spans) == 1:
		h["Content-Range"] = []string{contentRange(c.spans[0], x.total(k))}
		h["Content-Length"] = []string{strconv.FormatInt(c.n, 10)}
	}
}

// lost notes that a body could not be opened, and returns false.
func (x *exchange) lost(err error) bool {
	if !errors.Is(err, store.ErrGone) {
		x.event.Fault = err
		x.unconditional = true // a store that fails is passed by
	}
	return false
}

// brief tells whether Cache-Status says no more of k than that this is a hit, and
// its ttl.
func (x *exchange) brief(k *kept) bool {
	return x.event.Hit && !x.e.Explain && k.Overruled == 0 && len(k.Header["Cache-Status"]) == 0
}

// tell sets Age and Cache-Status.
func (x *exchange) tell(k *kept, age int64) {
	h := x.w.Header()
	switch {
	case age < 0:
		x.status()
	case x.policy.Terms.HideAge:
		delete(h, "Age") // one that was received is out of date
		if x.policy.Terms.DateNow {
			redate(h, x.wall)
		}
		x.status()
	case x.brief(k):
		x.rendered(k, age)
	default:
		h["Age"] = []string{strconv.FormatInt(age, 10)}
		x.status()
	}
}

// redate has a response look as if it was made now: Expires moves with Date.
func redate(h http.Header, now time.Time) {
	date, dated := field.ParseDate(h.Get("Date"), now)
	if lines := h["Expires"]; dated && len(lines) > 0 {
		if expires, ok := field.ParseDate(lines[0], now); ok {
			h["Expires"] = []string{string(field.AppendDate(nil, now.Add(expires.Sub(date))))}
		}
	}
	h["Date"] = []string{string(field.AppendDate(nil, now))}
}

// rendered sets Age and a brief Cache-Status, which look the same for a second.
func (x *exchange) rendered(k *kept, age int64) {
	h := x.w.Header()
	r := k.rendered.Load()
	if r == nil || r.age != age || r.ttl != x.event.TTL {
		r = &rendered{age: age, ttl: x.event.TTL, ageLines: []string{strconv.FormatInt(age, 10)}}
		r.statusLines = []string{string(x.event.AppendCacheStatus(nil, observe.Detail{Name: x.e.Name}))}
		k.rendered.Store(r)
	}
	h["Age"], h["Cache-Status"] = r.ageLines, r.statusLines
}

// status appends our member to Cache-Status, after those of caches before us
// (RFC 9211 §2).
func (x *exchange) status() {
	if !x.event.Cached() {
		return
	}
	d := observe.Detail{Name: x.e.Name}
	if x.e.Explain {
		d.Key, d.Why = x.target.String(), true
		if x.e.Paths {
			d.Key = x.target.PlainPath()
		}
	}
	var room [128]byte
	h := x.w.Header()
	lines := h["Cache-Status"]
	h["Cache-Status"] = append(lines[:len(lines):len(lines)], string(x.event.AppendCacheStatus(room[:0], d)))
}

// respond sends the header section.
func (x *exchange) respond(status int) {
	h := x.w.Header()
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // or net/http would guess one
	}
	x.event.Status = status
	x.w.WriteHeader(status)
}

// copyKept sends size octets of the stored body of k, the first of which has
// the offset off in the representation. What the store loses midway comes from
// the origin, if that can be done without a doubt; otherwise the transfer
// breaks.
func (x *exchange) copyKept(k *kept, body io.Reader, off, size int64) {
	x.counted = countedWriter{w: x.w}
	var err error
	if to, ok := body.(io.WriterTo); ok {
		_, err = to.WriteTo(&x.counted)
	} else {
		_, err = copyBuffered(&x.counted, body)
	}
	if sent := x.counted.n; x.counted.err == nil && sent < size {
		err = x.mend(k, off+sent, size-sent, err)
	}
	if x.event.Sent += x.counted.n; x.counted.n != size {
		x.abort(err)
	}
}

// abort breaks a transfer that has begun.
func (x *exchange) abort(err error) {
	if x.event.Fault == nil {
		x.event.Fault = err
	}
	if report, ok := x.r.Context().Value(reportKey{}).(func(error)); ok && err != nil {
		report(err)
	}
	panic(http.ErrAbortHandler)
}

// countedWriter counts what the client took.
type countedWriter struct {
	w   io.Writer
	n   int64
	err error // the client's, not the store's
}

func (c *countedWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	c.err = err
	return n, err
}
