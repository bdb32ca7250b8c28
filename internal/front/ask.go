package front

import (
	"log/slog"
	"net/http"

	"github.com/larderhq/larder/internal/standing"
	"github.com/larderhq/larder/store"
)

// An asker asks what stands for plain requests. It is one goroutine's.
type asker struct {
	decide func(*http.Request) *standing.Answer
	log    *slog.Logger
	r      *http.Request // used again for each
	lines  []string      // those of its fields
}

func newAsker(o *Options) *asker {
	r := &http.Request{Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: http.NoBody}
	return &asker{decide: o.Decide, log: o.Log, r: r.WithContext(store.AtOnce)}
}

// ask has it decided what p, from the client at addr, is answered with. Nil: not
// here. What panics is for net/http, which ends one connection for it and not all.
func (k *asker) ask(p *plain, addr string) (a *standing.Answer) {
	if k.decide == nil {
		return nil
	}
	defer func() {
		if v := recover(); v != nil {
			k.log.Error("a decision failed; please report it", "panic", v)
			a = nil
		}
	}()
	r := k.r
	r.Method, r.Host, r.RequestURI, r.RemoteAddr = http.MethodGet, string(p.Host), string(p.Target), addr
	if p.Head {
		r.Method = http.MethodHead
	}
	clear(r.Header)
	k.lines = k.lines[:0]
	for _, f := range p.Fields {
		name := http.CanonicalHeaderKey(string(f.Name))
		if lines, ok := r.Header[name]; ok {
			r.Header[name] = append(lines, string(f.Value)) // which has no room in lines
			continue
		}
		k.lines = append(k.lines, string(f.Value))
		n := len(k.lines)
		r.Header[name] = k.lines[n-1 : n : n]
	}
	return k.decide(r)
}
