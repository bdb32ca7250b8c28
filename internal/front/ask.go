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
	k.octets = append(append(k.octets[:0], p.Host...), p.Target...)
	for _, f := range p.Fields {
		k.octets = append(append(k.octets, f.Name...), f.Value...)
	}
	text := string(k.octets) // one for all
	next := func(b []byte) string {
		s := text[:len(b)]
		text = text[len(b):]
		return s
	}
	r := k.r
	r.Method, r.Host, r.RequestURI = http.MethodGet, next(p.Host), next(p.Target)
	if p.Head {
		r.Method = http.MethodHead
	}
	clear(r.Header)
	k.lines = slices.Grow(k.lines[:0], len(p.Fields))
	for _, f := range p.Fields {
		name, value := http.CanonicalHeaderKey(next(f.Name)), next(f.Value)
		if lines, ok := r.Header[name]; ok {
			r.Header[name] = append(lines, value) // which has no room in lines
			continue
		}
		k.lines = append(k.lines, value)
		n := len(k.lines)
		r.Header[name] = k.lines[n-1 : n : n]
	}
}
