package engine

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/larderhq/larder/internal/rules"
	"github.com/larderhq/larder/internal/standing"
	"github.com/larderhq/larder/store"
)

// Decide says what stands for r, which must be what a standing.Request is, if that
// can be said without waiting for a disk or the origin: the context of r should be
// store.AtOnce. It fills in a, which is offered to the Table too. Nothing of r is
// kept, but in a.
func (e *Engine) Decide(r *http.Request, a *standing.Answer) standing.Verdict {
	if e.Standing == nil || e.bespoke() {
		return standing.Elsewhere
	}
	x := e.exchanges.Get().(*exchange)
	x.begin(e, x.fields, r)
	x.deciding = true
	defer x.release()
	if x.secure() {
		maps.Copy(x.fields, e.Secure)
	}
	if err := x.read(); err != nil || x.e.looped(r.Header) || x.passes() != "" {
		return standing.Elsewhere
	}
	x.lookup()
	if errors.Is(x.event.Fault, context.Canceled) {
		a.Key = append(a.Key[:0], x.key...)
		return standing.Unread
	}
	if !x.foresee(a) {
		return standing.Elsewhere
	}
	e.Standing.Offer(a, x.attach)
	return standing.Decided
}

// attach has the Ledger remember what a, which is to stand, is about.
func (x *exchange) attach(a *standing.Answer) {
	if a.Subject == nil && x.e.Ledger.Concerns(a.Stamp, nil) && (a.Grouped || !x.e.Ledger.Passes(a.Stamp, slices.Values(a.Labels))) {
		a.Subject = x.e.enroll(x.key, x.whole)
	}
}

// bespoke tells whether a decision depends on more of a request than an Answer names:
// on what functions of the operator find in it.
func (e *Engine) bespoke() bool {
	return e.PolicyFor != nil || e.KeyPart != nil || e.Version != nil || e.Touched != nil || e.Bypass != nil
}

// foresee fills in a with what would be answered, if that is what lookup found.
func (x *exchange) foresee(a *standing.Answer) bool {
	k := x.whole
	if k == nil || x.event.Fault != nil {
		return false
	}
	d := x.decide()
	if d.Action != rules.Serve {
		return false
	}
	x.note(&d)
	x.stands = d
	c, ok := x.slice(k)
	if !ok || len(c.spans) > 1 {
		return false
	}
	x.dress(k, k.reply, &c)
	return x.stand(k, &c, a) && x.serialise(a)
}

// fields is an http.ResponseWriter that has nothing but fields.
type fields http.Header

// Header implements http.ResponseWriter.
func (f fields) Header() http.Header { return http.Header(f) }

func (fields) Write([]byte) (int, error) { panic("engine: an answer that is being decided was sent") }

func (fields) WriteHeader(int) { panic("engine: an answer that is being decided was sent") }

// publish has it stand what is about to be answered with c of k, whose fields are
// set by now, if that may be said to others and is not yet.
func (x *exchange) publish(k *kept, c *slice) {
	a := &x.answer
	if !x.stand(k, c, a) || x.e.Standing.Stands(a, x.steady) { // and could not be replayed: the body is not at hand
		return
	}
	if x.serialise(a) {
		x.e.Standing.Publish(a.Clone())
	}
}

// stand fills in a with what is about to be answered with c of k, but for the head. It
// reports false if the decision depends on more than an Answer names.
func (x *exchange) stand(k *kept, c *slice, a *standing.Answer) bool {
	d, t := &x.stands, x.e.Standing
	if d.Action != rules.Serve || t == nil || d.TTL() <= 0 || x.e.bespoke() || !k.Part.IsZero() ||
		x.policy.Assembles && len(k.Header["Surrogate-Control"]) > 0 ||
		!bodyAllowed(c.status) && !c.notModified || !x.ordinary() || x.policy.Terms.HideAge || !x.brief(k) {
		return false
	}
	*a = standing.Answer{
		Host: x.r.Host, Target: x.r.RequestURI, Secure: x.r.TLS != nil, Fields: a.Fields[:0],
		Key: append(a.Key[:0], x.key...), ID: k.entry.ID, Rev: k.entry.Rev, Off: c.off, Size: c.n,
		Status: c.status, Why: d.Why,
		From: x.steady, Age: d.Age, TTL: d.TTL(), Head: a.Head[:0], Moment: x.moment,
		Ledger: x.e.Ledger, Stamp: k.Stamp, Subject: k.subject.Load(), Labels: slices.AppendSeq(a.Labels[:0], x.e.labels(k)), Grouped: len(k.Header["Cache-Groups"]) > 0,
	}
	if len(x.r.Header["Range"]) > 0 { // which HEAD does not heed (RFC 9110 §14.2)
		a.Method = x.r.Method
	}
	return x.shape(a)
}

// ordinary tells whether the request is one that an Answer can be about: see
// standing.Request.
func (x *exchange) ordinary() bool {
	r := x.r
	if !r.ProtoAtLeast(1, 1) || r.ContentLength != 0 || !strings.HasPrefix(r.RequestURI, "/") || r.Host == "" {
		return false
	}
	for name, lines := range r.Header {
		persistence := name == "Connection" && len(lines) == 1 && (strings.EqualFold(lines[0], "keep-alive") || strings.EqualFold(lines[0], "close"))
		if len(lines) > 0 && !persistence && x.e.Standing.Kind([]byte(name)) == standing.Deciding {
			return false
		}
	}
	return true
}

// shape lists in a the fields that the decision depended on: those that make the
// request conditional or partial, and those by which any of the candidates was
// chosen, or was not. It reports false if the origin is told another value of one
// of them than the client has sent (see Engine.view), and for Cookie, whose values
// are kept nowhere.
func (x *exchange) shape(a *standing.Answer) bool {
	names := append(x.names[:0], "If-Modified-Since", "If-None-Match", "Range")
	for _, s := range x.candidates {
		for i := range s.Selecting {
			names = append(names, s.Selecting[i].Name)
		}
	}
	slices.Sort(names)
	x.names = names
	for _, name := range slices.Compact(names) {
		lines := x.r.Header[name]
		want := standing.Want{Name: name, Absent: len(lines) == 0}
		if name == "Host" || name == "Cookie" || len(lines) > 1 || x.e.Standing.Kind([]byte(name)) == standing.Deciding {
			return false
		}
		if len(lines) == 1 {
			want.Value = lines[0]
		}
		a.Fields = append(a.Fields, want)
	}
	return true
}

// Fields that are left out of a serialised head: those that are filled in when it
// is replayed, and those that net/http leaves out of a 304.
var (
	filledIn = map[string]bool{"Age": true, "Cache-Status": true}
	unsent   = map[string]bool{"Age": true, "Cache-Status": true, "Content-Length": true, "Content-Type": true, "Transfer-Encoding": true}
)

// longestStanding is the longest head that stands, in octets: few are so long, and
// they would take the room of many.
const longestStanding = 16 << 10

// serialise writes the head of a as net/http does, without the seconds of Age and of
// the ttl in Cache-Status. It reports false where net/http would add to the fields.
func (x *exchange) serialise(a *standing.Answer) bool {
	h := x.w.Header()
	if len(h["Date"]) != 1 || len(h["Content-Type"]) > 1 || len(h["Connection"]) > 0 || len(h["Trailer"]) > 0 {
		return false
	}
	out := filledIn
	if a.Status == http.StatusNotModified {
		out = unsent
	}
	x.scratch.Reset()
	if err := h.WriteSubset(&x.scratch, out); err != nil {
		return false
	}
	lines := x.scratch.Bytes()
	if len(lines) > longestStanding {
		x.scratch = bytes.Buffer{}
		return false
	}
	age, member := behind(lines, "Age"), behind(lines, "Cache-Status")
	b := append(a.Head, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(a.Status), 10)
	if text := http.StatusText(a.Status); text != "" {
		b = append(append(b, ' '), text...)
	} else {
		b = strconv.AppendInt(append(b, " status code "...), int64(a.Status), 10)
	}
	b = append(append(append(b, "\r\n"...), lines[:age]...), "Age: "...)
	a.AgeAt = len(b)
	b = append(append(append(append(b, "\r\n"...), lines[age:member]...), "Cache-Status: "...), x.e.hit...)
	a.TTLAt = len(b)
	a.Head = append(append(b, "\r\n"...), lines[member:]...)
	return true
}

// behind returns the offset of the first of sorted field lines whose name comes
// after name.
func behind(lines []byte, name string) int {
	at := 0
	for line := range bytes.Lines(lines) {
		if string(line[:max(bytes.IndexByte(line, ':'), 0)]) > name {
			break
		}
		at += len(line)
	}
	return at
}

// changing is a store that tells the Table of what changes in it.
type changing struct {
	store.Store
	standing *standing.Table
}

func (c changing) Create(ctx context.Context, key store.Key, head store.Head, size int64) (store.Writer, error) {
	w, err := c.Store.Create(ctx, key, head, size)
	if err != nil {
		return nil, err
	}
	return &changingWriter{w, c.standing.Moment(key)}, nil
}

func (c changing) Amend(ctx context.Context, key store.Key, id store.ID, head store.Head) error {
	defer c.standing.Changed(key)
	return c.Store.Amend(ctx, key, id, head)
}

func (c changing) Remove(ctx context.Context, key store.Key, id store.ID) error {
	defer c.standing.Changed(key)
	return c.Store.Remove(ctx, key, id)
}

func (c changing) Forget(ctx context.Context, key store.Key) error {
	defer c.standing.Changed(key)
	return c.Store.Forget(ctx, key)
}

type changingWriter struct {
	store.Writer
	moment standing.Moment // of its key
}

func (w *changingWriter) Commit(ctx context.Context, replaces ...store.ID) (store.Entry, error) {
	defer w.moment.Pass()
	return w.Writer.Commit(ctx, replaces...)
}
