package engine_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/larderhq/larder/internal/field"
	"github.com/larderhq/larder/internal/sim"
	"github.com/larderhq/larder/store"
)

// A gated store waits for the script before it changes something, so that what the
// Ledger is told in between comes in between.
type gated struct {
	store.Store
	m *purgeModel
}

func (g gated) Create(ctx context.Context, key store.Key, head store.Head, size int64) (store.Writer, error) {
	w, err := g.Store.Create(ctx, key, head, size)
	if err != nil {
		return nil, err
	}
	return gatedWriter{w, g.m}, nil
}

type gatedWriter struct {
	store.Writer
	m *purgeModel
}

func (g gatedWriter) Commit(ctx context.Context, replaces ...store.ID) (store.Entry, error) {
	g.m.gate()
	defer g.m.gate()
	return g.Writer.Commit(ctx, replaces...)
}

func (g gated) Amend(ctx context.Context, key store.Key, id store.ID, head store.Head) error {
	if ctx.Value(walking{}) == nil {
		g.m.gate()
		defer g.m.gate()
	}
	return g.Store.Amend(ctx, key, id, head)
}

// walking is what the context of a walk has. What it reads and changes is one thing.
type walking struct{}

func (g gated) Walk(ctx context.Context, visit func(store.Key, store.Entry, []byte) bool) error {
	return g.Store.(store.Walker).Walk(ctx, func(key store.Key, e store.Entry, head []byte) bool {
		g.m.gate()
		return visit(key, e, head)
	})
}

func (m *purgeModel) gate() {
	m.mu.Lock()
	if !m.gating {
		m.mu.Unlock()
		return
	}
	open := make(chan struct{})
	m.gates = append(m.gates, open)
	m.mu.Unlock()
	<-open
}

// ungate opens all gates, and has them stay open.
func (m *purgeModel) ungate() {
	m.gating = false
	for _, open := range m.gates {
		close(open)
	}
	m.gates = nil
}

// era is how many purges there were of a resource by now.
func (m *purgeModel) era(res int) int {
	n := m.eras[res]
	for _, f := range m.facts { // those that have begun by the clock
		if f.began == 0 && f.hard && f.is(res, -1) && !f.start.After(time.Now()) {
			n++
		}
	}
	return n
}

// serve is the origin.
func (m *purgeModel) serve(r *http.Request) sim.Reply {
	q := &query{said: make(chan string, 1), step: make(chan struct{}, 99), get: r.Method == http.MethodGet, ranged: len(r.Header["Range"]) > 0}
	q.res = slices.IndexFunc(resources, func(res resource) bool { return res.host == r.Host && res.path == r.URL.RequestURI() })
	m.mu.Lock()
	for _, v := range m.visits {
		if v.posting != nil && r.Header.Get("X-Visit") == strconv.Itoa(v.at) {
			q.posting = v.posting
		}
	}
	q.when = time.Now()
	q.at, q.version, q.era, q.variant = m.tick(), m.versions[q.res], m.era(q.res), "--"
	if resources[q.res].vary {
		q.variant = cmp.Or(r.Header.Get("Accept-Language"), "--")
	}
	m.queries = append(m.queries, q)
	q.n = len(m.queries)
	m.busy++
	m.logf("origin: %d: %s %s%s (%s) version %d era %d %q %q", q.n, r.Method, r.Host, r.URL.RequestURI(), q.variant, q.version, q.era, r.Header["If-None-Match"], r.Header["Range"])
	if m.auto {
		q.said <- "ok"
		q.quick = true
	}
	m.mu.Unlock()
	select {
	case how := <-q.said:
		return m.reply(q, r, how)
	case <-r.Context().Done():
		m.done(q)
		return sim.Reply{Err: r.Context().Err()}
	}
}

func (m *purgeModel) done(q *query) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !q.over {
		q.over = true
		m.busy--
	}
}

func block(res int, variant string, version, era, i int) string {
	return fmt.Sprintf("<%d %s %03d %03d %d>", res, variant, version%1000, era%1000, i)
}

func (m *purgeModel) reply(q *query, r *http.Request, how string) sim.Reply {
	m.mu.Lock()
	defer m.mu.Unlock()
	res := &resources[q.res]
	finish := func(reply sim.Reply) sim.Reply {
		q.over = true
		m.busy--
		q.status = max(200, reply.Status)
		return reply
	}
	q.replied = true
	if !q.get { // HEAD may put in doubt what is kept
		m.touch(q.res)
	}
	tag := fmt.Sprintf(`"%d-%s"`, q.version, q.variant)
	reply := sim.Reply{Header: []string{
		"Cache-Control: max-age=60, stale-while-revalidate=30, stale-if-error=30", "ETag: " + tag, "Cache-Tag: " + strings.ReplaceAll(res.tags[q.version%2], " ", ","),
		fmt.Sprintf("X-Asked: %d", q.n), fmt.Sprintf("X-Era: %d", q.era), fmt.Sprintf("X-Version: %d", q.version),
	}}
	if res.vary {
		reply.Header = append(reply.Header, "Vary: Accept-Language")
	}
	if res.group != "" {
		reply.Header = append(reply.Header, fmt.Sprintf("Cache-Groups: %q", res.group))
	}
	switch {
	case how != "ok" && how != "group":
		q.failed, q.tainted = time.Now(), true
		return finish(map[string]sim.Reply{"fail": {Status: 503}, "break": {Err: io.ErrUnexpectedEOF}}[how])
	case r.Method == http.MethodPost:
		reply.Header = []string{"Cache-Control: no-store"}
		if how == "group" {
			reply.Header = append(reply.Header, `Cache-Group-Invalidation: "g1"`)
		}
		reply.Status = 204
		return finish(reply)
	case slices.Contains(r.Header["If-None-Match"], tag):
		reply.Status = 304
		return finish(reply)
	}
	var text strings.Builder
	for i := range blocks {
		text.WriteString(block(q.res, q.variant, q.version, q.era, i))
	}
	body := text.String()
	if lines := r.Header["Range"]; len(lines) == 1 && (len(r.Header["If-Range"]) == 0 || r.Header.Get("If-Range") == tag) {
		if specs, ok := field.ParseRange(lines[0]); ok && len(specs) == 1 {
			if spans := field.ResolveRanges(specs, int64(len(body))); len(spans) == 1 {
				s := spans[0]
				reply.Status = 206
				reply.Header = append(reply.Header, fmt.Sprintf("Content-Range: bytes %d-%d/%d", s.First, s.Last, len(body)))
				body = body[s.First : s.Last+1]
			}
		}
	}
	reply.Body = body
	if r.Method == http.MethodHead {
		return finish(reply)
	}
	q.status = max(200, reply.Status)
	if q.n%2 == 0 {
		reply.Length = int64(len(body))
	}
	reply.Stream = &stepped{m: m, q: q, rest: body, closed: make(chan struct{})}
	return reply
}

// stepped is a body that comes piece by piece as the script wants it.
type stepped struct {
	m      *purgeModel
	q      *query
	rest   string
	once   sync.Once
	closed chan struct{}
}

func (s *stepped) Read(p []byte) (int, error) {
	s.m.mu.Lock()
	quick := s.q.quick
	s.m.mu.Unlock()
	if !quick {
		select {
		case <-s.q.step:
		case <-s.closed:
			return 0, io.ErrClosedPipe
		}
	}
	if s.rest == "" {
		s.m.done(s.q)
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), 2*blockLen)], s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func (s *stepped) Close() error {
	s.once.Do(func() {
		close(s.closed)
		s.m.mu.Lock()
		if !s.q.over { // it was called off
			s.q.tainted = true
		}
		s.m.mu.Unlock()
		s.m.done(s.q)
	})
	return nil
}
