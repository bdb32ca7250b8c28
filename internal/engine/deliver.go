package engine

import (
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"strconv"

	"github.com/larderhq/larder/internal/field"
	"github.com/larderhq/larder/internal/rules"
)

type span = field.Span

// cut decides which octets of a stored response the request gets: none named
// means all of it. ok is false if there are no such octets.
func (x *exchange) cut(k *kept) (spans []span, status int, ok bool) {
	if !x.req.Ranged() {
		return nil, k.Status, true
	}
	if !k.Part.IsZero() {
		s, ok := rules.CutPart(&x.req, k.Stored)
		return []span{s}, http.StatusPartialContent, ok
	}
	c := rules.CutRange(&x.req, k.Stored, k.entry.Size, &x.policy.Terms)
	if len(c.Spans) == 0 {
		return nil, k.Status, !c.Unsatisfiable
	}
	return c.Spans, http.StatusPartialContent, true
}

// total is the length of the whole representation, or negative.
func (x *exchange) total(k *kept) int64 {
	if k.Part.IsZero() {
		return k.entry.Size
	}
	return k.Part.Total
}

func contentRange(s span, total int64) string {
	return string(field.ContentRange{First: s.First, Last: s.Last, Total: total}.AppendTo(nil))
}

// unsatisfiable answers 416 (RFC 9110 §15.5.17) to who asked for a range of res.
func (x *exchange) unsatisfiable(res *rules.Stored, size int64) {
	if lines := res.Header["Surrogate-Control"]; x.policy.Assembles && lines != nil {
		x.w.Header()["Surrogate-Control"] = lines // of a template, ranges do not count
	}
	x.w.Header()["Content-Range"] = []string{"bytes */" + strconv.FormatInt(size, 10)}
	x.status()
	x.plain(http.StatusRequestedRangeNotSatisfiable, "no octet of the range exists")
}

// openParts opens each of several spans: what is open stays, whatever becomes of
// the entry. The caller closes them, also after an error.
func (x *exchange) openParts(k *kept, spans []span) ([]io.ReadCloser, error) {
	bodies := make([]io.ReadCloser, 0, len(spans))
	for _, s := range spans {
		body, err := x.e.Store.Open(x.r.Context(), x.key, k.entry.ID, s.First, s.Last-s.First+1)
		if err != nil {
			return bodies, err
		}
		bodies = append(bodies, body)
	}
	return bodies, nil
}

// multipart sends several spans as multipart/byteranges (RFC 9110 §15.3.7.2).
func (x *exchange) multipart(k *kept, spans []span, bodies []io.ReadCloser) {
	h := x.w.Header()
	boundary := rand.Text()
	kind := ""
	if lines := k.Header["Content-Type"]; len(lines) > 0 {
		kind = "Content-Type: " + lines[0] + "\r\n"
	}
	heads := make([]string, len(spans))
	end := "\r\n--" + boundary + "--\r\n"
	size := int64(len(end))
	for i, s := range spans {
		heads[i] = "\r\n--" + boundary + "\r\n" + kind + "Content-Range: " + contentRange(s, k.entry.Size) + "\r\n\r\n"
		size += int64(len(heads[i])) + s.Last - s.First + 1
	}
	h["Content-Type"] = []string{"multipart/byteranges; boundary=" + boundary}
	delete(h, "Content-Range") // one that the origin sent with its 200 (RFC 9110 §15.3.7.2)
	h["Content-Length"] = []string{strconv.FormatInt(size, 10)}
	x.respond(http.StatusPartialContent)
	for i, s := range spans {
		if _, err := io.WriteString(x.w, heads[i]); err != nil {
			x.abort(err)
		}
		x.copyKept(k, bodies[i], s.First, s.Last-s.First+1)
	}
	_, _ = io.WriteString(x.w, end) // all that was asked for has been sent
}

// deliverSpool answers with a response that is on its way into the store. For
// the leader, d is its decision; for one who waited it is nil, and the response
// is one from the store. It returns false if the beginning is gone already.
func (x *exchange) deliverSpool(l *landing, d *rules.Decision) bool {
	waited := d == nil
	var off int64
	n := int64(-1)
	status := l.res.Status
	notModified := false
	if !l.judged || waited {
		notModified = x.req.Conditional() && rules.NotModified(&x.req, l.res)
		if l.length >= 0 && !notModified && (waited || !x.forwardsRange(d)) {
			c := rules.CutRange(&x.req, l.res, l.length, &x.policy.Terms)
			if c.Unsatisfiable {
				if !waited {
					l.body.carryOn()
					l.discard()
				}
				x.unsatisfiable(l.res, l.length)
				return true
			}
			if len(c.Spans) == 1 { // several are left to answers from the store
				off, n, status = c.Spans[0].First, c.Spans[0].Last-c.Spans[0].First+1, http.StatusPartialContent
			}
		}
	}
	if notModified || n >= 0 {
		l.body.carryOn() // a client who gets less than all does not give up the rest
	}
	body := &steadyBody{x: x, res: l.res, end: l.length}
	if n >= 0 {
		body.end = off + n
	}
	if waited {
		var err error
		if body.body, err = l.body.open(x.r.Context(), off); err != nil {
			return false
		}
		body.at = off
		defer body.Close()
	} else {
		body.body, l.first = l.first, body // which is the leader's alone
		defer l.discard()
		if off > 0 {
			if _, err := io.CopyN(io.Discard, body, off); err != nil {
				x.abort(err)
			}
		}
	}
	h := x.w.Header()
	res := l.res
	age := res.InitialAge
	if waited {
		res = rules.Kept(res, &x.policy.Terms)
	}
	for name, lines := range x.e.outward(x.policy, res.Header) {
		h[name] = lines
	}
	if waited {
		for _, name := range res.Policy.NoCacheFields {
			delete(h, name)
		}
		steady, _ := x.e.Clock()
		delete(h, "Age")
		switch age = res.Age(steady); {
		case !x.policy.Terms.HideAge:
			h["Age"] = []string{strconv.FormatInt(seconds(age), 10)}
		case x.policy.Terms.DateNow:
			redate(h, x.wall)
		}
	}
	x.event.HasTTL, x.event.TTL = true, seconds(res.Lifetime-age)
	length := l.length
	if status == http.StatusPartialContent && n >= 0 {
		h["Content-Range"] = []string{contentRange(span{First: off, Last: off + n - 1}, l.length)}
		length = n
	}
	if length >= 0 && bodyAllowed(status) {
		h["Content-Length"] = []string{strconv.FormatInt(length, 10)}
	}
	x.event.Status, x.event.Overruled = status, res.Overruled.String()
	x.status()
	if notModified {
		delete(h, "Content-Length")
		if !res.Part.IsZero() {
			delete(h, "Content-Range")
		}
		x.respond(http.StatusNotModified)
		return true
	}
	x.respond(status)
	var from io.Reader = body
	if n >= 0 {
		from = io.LimitReader(body, n)
	}
	x.copyLive(from, length)
	return true
}

// deliverOrigin answers with a response that is for this client alone.
func (x *exchange) deliverOrigin(l *landing) {
	defer l.discard()
	h := x.w.Header()
	for name, lines := range x.e.outward(x.policy, l.res.Header) {
		h[name] = lines
	}
	if l.length >= 0 && bodyAllowed(l.res.Status) {
		h["Content-Length"] = []string{strconv.FormatInt(l.length, 10)}
	}
	x.event.Status, x.event.Overruled = l.res.Status, l.res.Overruled.String()
	x.status()
	x.announce(l)
	x.respond(l.res.Status)
	if x.r.Method != http.MethodHead && bodyAllowed(l.res.Status) {
		x.copyLive(l.origin, l.length)
		x.trail(l)
	}
}

// copyLive sends a body as it arrives: what is there goes out before more is
// waited for. length is negative if nobody knows it. A body that ends early
// breaks the transfer.
func (x *exchange) copyLive(body io.Reader, length int64) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	control := http.NewResponseController(x.w)
	for {
		n, err := body.Read(*buf)
		if left := length - x.event.Sent; length >= 0 && int64(n) > left {
			n, err = int(left), io.EOF // RFC 9112 §6.3: what follows is not ours to pass on
		}
		if n > 0 {
			sent, werr := x.w.Write((*buf)[:n])
			x.event.Sent += int64(sent)
			if werr != nil {
				x.abort(werr)
			}
			if err == nil && x.event.Sent != length {
				// A writer that cannot flush is one that does not hold back.
				if ferr := control.Flush(); ferr != nil && !errors.Is(ferr, http.ErrNotSupported) {
					x.abort(ferr)
				}
			}
		}
		switch {
		case err == io.EOF && length >= 0 && x.event.Sent != length:
			x.abort(io.ErrUnexpectedEOF)
		case err == io.EOF, err != nil && x.event.Sent == length:
			return // the client has everything, and may be gone already
		case err != nil:
			x.abort(err)
		}
	}
}
