package engine

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/larderhq/larder/internal/rules"
	"github.com/larderhq/larder/internal/standing"
	"github.com/larderhq/larder/store"
)

// Decide returns what stands for r, which must be what a standing.Request is, if
// that can be said without waiting for a disk or the origin: the context of r
// should be store.AtOnce. Nil: it cannot. The Answer is offered to the Table. r
// is not kept.
func (e *Engine) Decide(r *http.Request) *standing.Answer {
	if e.KeyPart != nil || e.Standing == nil {
		return nil
	}
	x := e.exchanges.Get().(*exchange)
	x.begin(e, fields{}, r)
	defer x.release()
	if err := x.read(); err != nil || x.e.looped(r.Header) || x.passes() != "" {
		return nil
	}
	x.lookup()
	k := x.whole
	if k == nil || x.event.Fault != nil {
		return nil
	}
	d := x.decide()
	if d.Action != rules.Serve {
		return nil
	}
	x.note(&d)
	x.stands = d
	c, ok := x.slice(k)
	if !ok || len(c.spans) > 1 {
		return nil
	}
	x.dress(k, k.reply, seconds(d.Age), &c)
	a := x.standing(k, &c)
	if a != nil {
		e.Standing.Offer(a)
	}
	return a
}

// fields is an http.ResponseWriter that has nothing but fields.
type fields http.Header

// Header implements http.ResponseWriter.
func (f fields) Header() http.Header { return http.Header(f) }

func (fields) Write([]byte) (int, error) { panic("engine: an answer that is being decided was sent") }

func (fields) WriteHeader(int) { panic("engine: an answer that is being decided was sent") }

// standing returns what is about to be answered with c of k, whose fields are set
// by now, as an Answer. Nil: the decision depends on more than an Answer names.
func (x *exchange) standing(k *kept, c *slice) *standing.Answer {
	d, t := &x.stands, x.e.Standing
	if d.Action != rules.Serve || t == nil || d.TTL() <= 0 || x.e.KeyPart != nil || x.e.Terms.Version != nil || !k.Part.IsZero() ||
		!bodyAllowed(c.status) && !c.notModified || !x.ordinary() {
		return nil
	}
	fields, ok := x.shape()
	if !ok {
		return nil
	}
	a := &standing.Answer{
		Host: x.r.Host, Target: x.r.RequestURI, Fields: fields,
		Key: slices.Clone(store.Key(x.key)), ID: k.entry.ID, Rev: k.entry.Rev, Off: c.off, Size: c.n,
		Status: c.status, Why: d.Why,
		From: x.steady, Age: d.Age, TTL: d.TTL(), Moment: x.moment,
	}
	if len(x.r.Header["Range"]) > 0 { // which HEAD does not heed (RFC 9110 §14.2)
		a.Method = x.r.Method
	}
	if t.Stands(a, x.steady) { // and could not be replayed: the body is not at hand
		return nil
	}
	if a.Head, ok = x.serialise(c.status); !ok {
		return nil
	}
	return a
}

// ordinary tells whether the request is one that an Answer can be about: see
// standing.Request.
func (x *exchange) ordinary() bool {
	r := x.r
	if r.ProtoMajor != 1 || r.ProtoMinor != 1 || r.TLS != nil || r.ContentLength != 0 || !strings.HasPrefix(r.RequestURI, "/") || r.Host == "" {
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

// shape lists the fields that the decision depended on: those that make the
// request conditional or partial, and those by which any of the candidates was
// chosen, or was not. ok is false if the origin is told another value of one of
// them than the client has sent (see Engine.view), and for Cookie, whose values are
// kept nowhere.
func (x *exchange) shape() (fields []standing.Want, ok bool) {
	names := []string{"If-Modified-Since", "If-None-Match", "Range"}
	for _, s := range x.candidates {
		for i := range s.Selecting {
			names = append(names, s.Selecting[i].Name)
		}
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		lines := x.r.Header[name]
		want := standing.Want{Name: strings.ToLower(name), Absent: len(lines) == 0}
		if name == "Host" || name == "Cookie" || len(lines) > 1 || x.e.Standing.Kind([]byte(name)) == standing.Deciding {
			return nil, false
		}
		if len(lines) == 1 {
			want.Value = lines[0]
		}
		fields = append(fields, want)
	}
	return fields, true
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

// serialise writes the head as net/http does, and cuts it at Age and at the ttl of
// Cache-Status. It reports false where that cannot be done: where net/http would
// add to the fields, or Cache-Status says more than that this is a hit.
func (x *exchange) serialise(status int) (head [3]string, ok bool) {
	h := x.w.Header()
	if len(h["Date"]) != 1 || len(h["Age"]) != 1 || len(h["Cache-Status"]) != 1 || h["Cache-Status"][0] != x.e.hit+strconv.FormatInt(x.event.TTL, 10) ||
		len(h["Content-Type"]) > 1 || len(h["Connection"]) > 0 || len(h["Trailer"]) > 0 {
		return head, false
	}
	out := filledIn
	if status == http.StatusNotModified {
		out = unsent
	}
	x.scratch.Reset()
	if err := h.WriteSubset(&x.scratch, out); err != nil {
		return head, false
	}
	lines := x.scratch.Bytes()
	if len(lines) > longestStanding {
		x.scratch = bytes.Buffer{}
		return head, false
	}
	age, member := behind(lines, "Age"), behind(lines, "Cache-Status")

	text := http.StatusText(status)
	if text == "" {
		text = "status code " + strconv.Itoa(status)
	}
	var b strings.Builder
	b.Grow(len(lines) + len(text) + len(x.e.hit) + 64)
	write := func(parts ...string) int {
		for _, part := range parts {
			b.WriteString(part)
		}
		return b.Len()
	}
	write("HTTP/1.1 ", strconv.Itoa(status), " ", text, "\r\n")
	b.Write(lines[:age])
	first := write("Age: ")
	write("\r\n")
	b.Write(lines[age:member])
	second := write("Cache-Status: ", x.e.hit)
	write("\r\n")
	b.Write(lines[member:])
	all := b.String()
	return [3]string{all[:first], all[first:second], all[second:]}, true
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
