package front

import (
	"crypto/tls"
	"math/rand/v2"
	"net"
	"net/http"
	"time"

	"github.com/larderhq/larder/internal/field"
	"github.com/larderhq/larder/internal/h2"
	"github.com/larderhq/larder/internal/standing"
	"github.com/larderhq/larder/store"
)

// newHTTP2 makes what serves HTTP/2.
func (s *Server) newHTTP2() *h2.Server {
	l := &s.opt.Limits
	o := h2.Options{
		Handler: http.HandlerFunc(s.answer2), Head: l.Head, Fields: l.Fields,
		HeadTimeout: l.HeadTimeout, IdleTimeout: l.IdleTimeout, StallTimeout: l.StallTimeout, Least: l.least(),
		Refused: s.opt.Refused, Log: s.opt.Log,
	}
	if s.opt.Standing != nil {
		o.Prompt = func(addr string, state *tls.ConnectionState) h2.Prompt { return s.newPrompter(addr, state) }
	}
	return h2.New(o)
}

// serve2 serves a connection on which both ends have agreed on HTTP/2.
func (s *Server) serve2(c net.Conn, state *tls.ConnectionState) { s.http2.Serve(c, state) }

// answer2 is answer for HTTP/2.
func (s *Server) answer2(w http.ResponseWriter, r *http.Request) {
	defer s.leave(1)
	if s.running.Add(1) < 0 {
		panic(http.ErrAbortHandler)
	}
	s.admit(w, r)
}

// A prompter answers what stands, on one connection with HTTP/2.
type prompter struct {
	s       *Server
	addr    string
	asker   *asker
	tell    teller
	request plain
	head    []byte

	scope scope

	// The answer that was found last.
	answer *standing.Answer
	size   int64 // of the body that follows
}

func (s *Server) newPrompter(addr string, state *tls.ConnectionState) *prompter {
	p := &prompter{s: s, addr: addr, asker: newAsker(&s.opt)}
	p.asker.tls = state
	p.tell = teller{sink: s.opt.Sink, recent: s.opt.Recent, proto: "HTTP/2.0", seen: rand.Uint32()} // few are asked much
	return p
}

// Answer implements h2.Prompt.
func (p *prompter) Answer(r *h2.Request) (head []byte, size int64, ok bool) {
	if !p.read(r) {
		return nil, 0, false
	}
	p.tell.now, p.tell.wall = p.s.opt.Clock()
	a, said := p.s.opt.Standing.Find(&p.request.Request, p.tell.now), standing.Decided
	if a == nil {
		a, said = p.asker.ask(&p.request, p.addr)
	}
	if said != standing.Decided {
		return nil, 0, false
	}
	p.answer, p.size = a, a.Size
	if p.request.Head {
		p.size = 0
	}
	p.head = append(a.AppendHead(p.head[:0], p.tell.now), "\r\n"...)
	return p.head, p.size, true
}

// read makes a plain request of r. It reports false if nothing can stand for it.
func (p *prompter) read(r *h2.Request) bool {
	q := &p.request
	q.Reset()
	q.Head, q.Secure, q.Host, q.Target = string(r.Method) == http.MethodHead, p.asker.tls != nil, r.Authority, r.Path
	if len(r.Fields) >= min(p.s.opt.Limits.Fields, maxFields) || !p.scope.covers(p.s, p.asker.tls, q.Host) {
		return false
	}
	for _, f := range r.Fields {
		if field.EqualFold(f.Name, "te") { // trailers, which no answer has that stands
			continue
		}
		if p.s.opt.Standing.Add(&q.Request, f.Name, f.Value) == standing.Deciding {
			return false
		}
	}
	return true
}

// Append implements h2.Prompt.
func (p *prompter) Append(dst []byte) ([]byte, bool) {
	a := p.answer
	dst, ok := p.s.prompt.AppendNow(dst, a.Key, a.ID, a.Rev, a.Off, p.size)
	if ok {
		p.tell.observe(a, p.addr, p.request.Head, p.size, p.tell.now, nil)
	}
	return dst, ok
}

// Open implements h2.Prompt.
func (p *prompter) Open() (h2.Body, bool) {
	a := p.answer
	pinned, ok := p.s.prompt.OpenNow(a.Key, a.ID, a.Rev, a.Off, p.size)
	if !ok {
		return nil, false
	}
	return &standingBody{Pinned: pinned, p: p, answer: a.Clone(), began: p.tell.now}, true
}

// A standingBody is the body of a standing answer.
type standingBody struct {
	store.Pinned
	p      *prompter
	answer *standing.Answer
	began  time.Time
}

// Close implements h2.Body.
func (b *standingBody) Close(sent int64, fault error) {
	_ = b.Pinned.Close()
	t := &b.p.tell
	t.now, t.wall = b.p.s.opt.Clock()
	t.observe(b.answer, b.p.addr, false, sent, b.began, fault)
}
