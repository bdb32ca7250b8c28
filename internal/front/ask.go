package front

import (
	"crypto/tls"
	"log/slog"
	"net/http"
	"slices"

	"github.com/larderhq/larder/internal/standing"
	"github.com/larderhq/larder/store"
)

// An asker asks what stands for plain requests. It is one goroutine's.
type asker struct {
	decide func(*http.Request, *standing.Answer) standing.Verdict
	log    *slog.Logger
	tls    *tls.ConnectionState // of whom asks; nil: there is none

	// Used again for each request.
	r      *http.Request
	answer standing.Answer
	octets []byte   // of the request
	lines  []string // of its fields
}

func newAsker(o *Options) *asker {
	r := &http.Request{Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: http.NoBody}
	return &asker{decide: o.Decide, log: o.Log, r: r.WithContext(store.AtOnce)}
}

// ask has it decided what p, from the client at addr, is answered with. The Answer
// is good until the next call. What panics is for net/http, which ends one
// connection for it and not all.
func (k *asker) ask(p *plain, addr string) (a *standing.Answer, said standing.Verdict) {
	a = &k.answer
	if k.decide == nil {
		return a, standing.Elsewhere
	}
	defer func() {
		if v := recover(); v != nil {
			k.log.Error("a decision failed; please report it", "panic", v)
			said = standing.Elsewhere
		}
	}()
	k.r.RemoteAddr, k.r.TLS = addr, k.tls
	k.translate(p)
	return a, k.decide(k.r, a)
}

// translate makes r of p.
func (k *asker) translate(p *plain) {
	clear(k.r.Header)
	k.octets, k.lines = p.fill(k.r, k.octets[:0], k.lines[:0])
}

// fill makes p what r asks, but for its URL. It uses the room of octets and lines, and returns
// it for the next time.
func (p *plain) fill(r *http.Request, octets []byte, lines []string) ([]byte, []string) {
	octets = append(append(octets, p.Host...), p.Target...)
	for _, f := range p.Fields {
		octets = append(append(octets, f.Name...), f.Value...)
	}
	text := string(octets) // one for all
	next := func(b []byte) string {
		s := text[:len(b)]
		text = text[len(b):]
		return s
	}
	r.Method, r.Host, r.RequestURI = http.MethodGet, next(p.Host), next(p.Target)
	if p.Head {
		r.Method = http.MethodHead
	}
	lines = slices.Grow(lines, len(p.Fields))
	for _, f := range p.Fields {
		name, value := http.CanonicalHeaderKey(next(f.Name)), next(f.Value)
		if before, ok := r.Header[name]; ok {
			r.Header[name] = append(before, value) // which has no room in lines
			continue
		}
		lines = append(lines, value)
		n := len(lines)
		r.Header[name] = lines[n-1 : n : n]
	}
	return octets, lines
}
