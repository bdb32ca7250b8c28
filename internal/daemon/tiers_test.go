package daemon

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/local"
	"github.com/larderhq/larder/internal/sim"
	"github.com/larderhq/larder/store/memory"
)

// Two tiers: an edge whose origin is a parent, which is a cache of the same kind. What
// depends on octets and sockets is tested with two Daemons, and what depends on time
// with two engines in one small world.

// shop is the host that clients ask for.
const shop = "shop.example"

// tiers are an edge before a parent before an origin, until the test ends.
type tiers struct {
	t            *testing.T
	edge, parent *started
	client       *http.Client
}

// A started Daemon runs until stop.
type started struct {
	*Daemon
	stop func()
}

// newTiers starts both before the origin at a URL. configure, if there is one, adapts them.
func newTiers(t *testing.T, origin string, configure func(edge, parent *engine.Config)) *tiers {
	t.Helper()
	edge, parent := engine.Config{Name: "edge"}, engine.Config{Name: "parent"}
	if configure != nil {
		configure(&edge, &parent)
	}
	c := &tiers{t: t}
	c.parent = startTier(t, origin, parent)
	c.edge = startTier(t, c.parent.URL(), edge)
	c.client = clientOf(t) // whose connections are closed first, so that nobody waits for them
	return c
}

// clientOf is a client that takes answers as they are.
func clientOf(t *testing.T) *http.Client {
	tr := &http.Transport{DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func startTier(t *testing.T, origin string, c engine.Config) *started {
	t.Helper()
	return startWith(t, Options{Origin: origin, Engine: c}, nil)
}

// startWith starts a Daemon that listens on any port; change, if there is one, adapts it.
func startWith(t *testing.T, o Options, change func(*Options)) *started {
	t.Helper()
	t.Setenv("GOGC", "100") // a Daemon leaves the collector alone then
	o.Listen, o.Memory, o.Drain, o.Notes = "127.0.0.1:0", 8<<20, time.Minute, slog.New(slog.DiscardHandler)
	if change != nil {
		change(&o)
	}
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	s := &started{Daemon: d, stop: sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})}
	t.Cleanup(s.stop)
	return s
}

// An answer is what a client received.
type answer struct {
	status int
	header http.Header
	body   string
	broken error // the transfer broke off
}

// ask asks whoever listens at url. Lines of header are "Name: value".
func (c *tiers) ask(url, method, path, content string, header ...string) answer {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), method, url+path, strings.NewReader(content))
	if err != nil {
		return answer{broken: err}
	}
	r.Host = shop
	addTo(r.Header, header)
	res, err := c.client.Do(r)
	if err != nil {
		return answer{broken: err}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, string(body), err}
}

// addTo adds lines, each "Name: value".
func addTo(h http.Header, lines []string) {
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		h.Add(name, value)
	}
}

// get asks the edge.
func (c *tiers) get(path string, header ...string) answer {
	c.t.Helper()
	return c.ask(c.edge.URL(), "GET", path, "", header...)
}

// want fails the test unless the answer is whole and has this status and body.
func (c *tiers) want(a answer, status int, body string) answer {
	c.t.Helper()
	if a.broken != nil || a.status != status || a.body != body {
		c.t.Fatalf("%d, %d octets %.80q (%v), want %d, %d octets %.80q; %q", a.status, len(a.body), a.body, a.broken, status, len(body), body, a.header)
	}
	return a
}

// wantField fails the test unless the field has exactly these lines; none means that it
// is absent.
func (c *tiers) wantField(a answer, name string, lines ...string) {
	c.t.Helper()
	if got := a.header.Values(name); strings.Join(got, "\n") != strings.Join(lines, "\n") || len(got) != len(lines) {
		c.t.Fatalf("%s is %q, want %q", name, got, lines)
	}
}

// serveOrigin has h answer until the test ends, and counts how often.
func serveOrigin(t *testing.T, h http.HandlerFunc) (url string, seen *arrivals) {
	t.Helper()
	seen = new(arrivals)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.add(r)
		h(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL, seen
}

// arrivals are the requests that have come to an origin.
type arrivals struct {
	mu  sync.Mutex
	all []*http.Request
}

func (s *arrivals) add(r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, r.Clone(context.Background()))
}

func (s *arrivals) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all)
}

func (s *arrivals) last() *http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[len(s.all)-1]
}

// serveOctets is an origin that answers each request with the octets that say returns,
// and then closes the connection.
func serveOctets(t *testing.T, say func(n int, r *http.Request) string) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for n := 0; ; n++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if r, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				_, _ = io.WriteString(conn, say(n, r)) // who is gone is told nothing
			}
			conn.Close()
		}
	})
	t.Cleanup(func() {
		l.Close()
		serving.Wait()
	})
	return "http://" + l.Addr().String()
}

// A pair is a world in which time passes only when everybody waits: its engine is the
// edge, before another that asks the scripted origin.
type pair struct {
	*sim.World
	t      *testing.T
	parent *engine.Engine
}

// inPair runs body in a pair. configure, if there is one, adapts both engines.
func inPair(t *testing.T, configure func(edge, parent *engine.Config), body func(p *pair)) {
	t.Helper()
	p := &pair{t: t}
	var kept *memory.Store
	sim.RunWith(t, func(edge *engine.Config) {
		kept = memory.New(memory.Options{Budget: 16 << 20})
		parent := engine.Config{Store: kept, Forward: edge.Forward, Name: "parent", Pseudonym: "parent"}
		edge.Name, edge.Pseudonym = "edge", "edge"
		if configure != nil {
			configure(edge, &parent)
		}
		p.parent = engine.New(parent)
		edge.Forward = local.RoundTripper(p.parent)
	}, func(w *sim.World) {
		defer kept.Close()
		defer p.parent.Close()
		p.World = w
		body(p)
		w.Settle()
	})
}

// up asks the parent past the edge, as another edge would.
func (p *pair) up(target string, header ...string) *http.Response {
	w := httptest.NewRecorder()
	p.parent.ServeHTTP(w, sim.Request("GET", target, "", header...))
	return w.Result()
}

// wantFields fails the test unless the named fields of an answer have these values, each
// as "Name: value"; without a value the field is absent.
func (p *pair) wantFields(h http.Header, fields ...string) {
	p.t.Helper()
	for _, line := range fields {
		name, want, _ := strings.Cut(line, ":")
		if got := strings.Join(h.Values(name), ", "); got != strings.TrimSpace(want) {
			p.t.Fatalf("%s is %q, want %q", name, got, strings.TrimSpace(want))
		}
	}
}

// A document is an origin of one resource in versions, which the test raises. Each answer,
// 304 as well, has a number of its own in Round.
type document struct {
	version, round int
	lifetime       string // Cache-Control
}

var documentDate = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

func (d *document) tag() string { return fmt.Sprintf("%q", fmt.Sprint("v", d.version)) }
func (d *document) body() string {
	return strings.Repeat(fmt.Sprintf("this is version %d. ", d.version), 20)
}

func (d *document) modified() string {
	return documentDate.AddDate(0, d.version, 0).Format(http.TimeFormat)
}

func (d *document) answer(r *http.Request) sim.Reply {
	d.round++
	reply := sim.Reply{Status: 304, Header: []string{
		"Cache-Control: " + d.lifetime, "ETag: " + d.tag(), "Last-Modified: " + d.modified(), fmt.Sprint("Round: ", d.round),
	}}
	switch tag, date := r.Header.Get("If-None-Match"), r.Header.Get("If-Modified-Since"); {
	case tag != "" && tag == d.tag():
	case tag == "" && date != "" && date == d.modified():
	default:
		reply.Status, reply.Body = 200, d.body()
	}
	return reply
}
