package engine_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/field"
	"github.com/larderhq/larder/internal/purge"
	"github.com/larderhq/larder/internal/sim"
	"github.com/larderhq/larder/internal/standing"
	"github.com/larderhq/larder/internal/vfs"
	"github.com/larderhq/larder/store"
)

// The origin of the model has four resources. Its bodies are blocks that tell what they
// are of: the resource, the variant, the version, and the era, which is how many purges
// there had been of the resource when it was asked. A tag names a version, and knows
// nothing of eras: so whoever keeps octets over a purge is found out even if the origin
// says that they are the same.
const (
	blocks   = 6
	blockLen = 16
	lasting  = 60 * time.Second

	// backoff is how long nothing is refreshed after that has failed, by default and a
	// second more.
	backoff = 6 * time.Second
)

var resources = []struct {
	host, path string
	vary       bool
	tags       [2]string // of even versions, and of odd ones
	group      string
}{
	{"shop.example", "/a", true, [2]string{"t1 t2", "t1 t2"}, "g1"},
	{"shop.example", "/a/b", false, [2]string{"t2", "t2"}, ""},
	{"shop.example", "/c?q=1", false, [2]string{"t1", "t3"}, "g1"},
	{"other.example", "/a", false, [2]string{"t1", "t1"}, "g1"},
}

// A want is a Selector, and what it is about in the words of the test: all versions of
// some resources, or those with a tag.
type want struct {
	purge.Selector
	about []int
	tag   string
}

var wants = []want{
	{purge.Selector{URL: "http://shop.example/a"}, []int{0}, ""},
	{purge.Selector{URL: "//shop.example/c?q=1"}, []int{2}, ""},
	{purge.Selector{URL: "/a"}, []int{0, 3}, ""},
	{purge.Selector{URL: "http://shop.example/none"}, nil, ""},
	{purge.Selector{Prefix: "http://shop.example/a"}, []int{0, 1}, ""},
	{purge.Selector{Prefix: "//other.example"}, []int{3}, ""},
	{purge.Selector{Prefix: "/a/"}, []int{1}, ""},
	{purge.Selector{Glob: "//shop.example/*/b"}, []int{1}, ""},
	{purge.Selector{Glob: "/c?q=*"}, []int{2}, ""},
	{purge.Selector{Regex: "/a$"}, []int{0, 3}, ""},
	{purge.Selector{Regex: `\?q=`}, []int{2}, ""},
	{purge.Selector{Tag: "t1"}, nil, "t1"},
	{purge.Selector{Tag: "t2"}, nil, "t2"},
	{purge.Selector{Tag: "t3"}, nil, "t3"},
	{purge.Selector{Group: "g1", Origin: "http://shop.example"}, []int{0, 2}, ""},
	{purge.Selector{All: true}, []int{0, 1, 2, 3}, ""},
}

// is tells whether w is about a version of a resource; negative: about any of them.
func (w *want) is(res, version int) bool {
	if slices.Contains(w.about, res) {
		return true
	}
	for i, tags := range resources[res].tags {
		if w.tag != "" && slices.Contains(strings.Fields(tags), w.tag) && (version < 0 || version%2 == i) {
			return true
		}
	}
	return false
}

// A fact is a purge that was acknowledged, or that is about to be, or an answer to an
// unsafe request.
type fact struct {
	wants []want
	hard  bool
	id    purge.ID // zero: of an unsafe request
	start time.Time
	began int   // event; zero: it has not
	acked int   // event; zero: it was not
	eras  []int // of the resources, from when it began
}

func (f *fact) is(res, version int) bool {
	return slices.ContainsFunc(f.wants, func(w want) bool { return w.is(res, version) })
}

// precedes tells whether q was asked when f had begun.
func (f *fact) precedes(q *query) bool {
	return q.at > f.began || !f.start.IsZero() && q.when.After(f.start)
}

// A query is a request that has reached the origin.
type query struct {
	n, at   int // its number from 1, and the event
	when    time.Time
	res     int
	variant string
	version int
	era     int
	ranged  bool
	get     bool
	posting *fact
	said    chan string // what to answer: ok, fail or break
	step    chan struct{}
	quick   bool // all pieces at once
	replied bool
	status  int // of the answer, or 0
	over    bool
	failed  time.Time
	tainted bool // it will not be kept, or not as fresh
	landed  int  // event; 0: it has not
	seen    bool // it has landed, or never will
}

// A visit is a request of a client.
type visit struct {
	*sim.Answer
	at      int
	res     int
	variant string
	method  string
	posting *fact
	must    bool // it must not reach the origin
	asked   int  // queries that there had been
	newest  int  // event at which was asked for what had been kept last
	what    string
}

type purgeModel struct {
	t      *testing.T
	seed   uint64
	rnd    *rand.Rand
	w      *sim.World
	folder *vfs.Mem
	ledger *purge.Ledger
	table  *standing.Table
	site   string
	stop   func() // ends what tends the ledger

	mu       sync.Mutex
	clock    int
	versions [4]int
	eras     [4]int
	facts    []*fact
	queries  []*query
	visits   []*visit
	holds    map[string]time.Time // until when what must be in the store is fresh
	wholes   map[string]string    // by version and era
	newest   map[string]int       // event at which what must be in the store was asked for
	gating   bool
	gates    []chan struct{}
	auto     bool // the origin answers at once
	busy     int  // requests that the origin has not answered in full

	log                 []string
	failed              bool
	hits, purged, fresh int
}

func (m *purgeModel) tick() int { m.clock++; return m.clock }

func (m *purgeModel) logf(format string, args ...any) {
	m.log = append(m.log, fmt.Sprintf("%3d  ", m.clock)+fmt.Sprintf(format, args...))
}

func (m *purgeModel) errorf(format string, args ...any) {
	m.t.Helper()
	if !m.failed {
		m.failed = true
		for _, r := range slices.Backward(m.ledger.Receipts()) {
			m.logf("purge %s: %s, walked %v, from %v to %v", r.ID, r.State, r.Complete, r.Start, r.End)
		}
		m.logf("now it is %v", time.Now())
		m.t.Errorf("seed %d: %s\nafter\n%s", m.seed, fmt.Sprintf(format, args...), strings.Join(m.log, "\n"))
	}
}

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
	m.mu.Lock()
	defer m.mu.Unlock()
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
	q.res = slices.IndexFunc(resources[:], func(res struct {
		host, path string
		vary       bool
		tags       [2]string
		group      string
	},
	) bool {
		return res.host == r.Host && res.path == r.URL.RequestURI()
	})
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
	auto := m.auto
	m.mu.Unlock()
	if auto {
		q.said <- "ok"
		q.quick = true
	}
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
	if !s.q.quick {
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

// boot begins a run of the cache over what there is.
func (m *purgeModel) boot() {
	j, err := purge.OpenJournal([]purge.Folder{{FS: m.folder, Name: "mem"}}, func(note string) { m.logf("note: %s", note) })
	if err != nil {
		m.t.Fatal(err)
	}
	if m.site != "" && j.Lineage() != m.site {
		m.logf("another lineage")
		m.facts = slices.DeleteFunc(m.facts, func(f *fact) bool { return f.began == 0 })
		for _, f := range m.facts { // nobody can take it back any more
			f.id = 0
		}
		m.holds, m.newest, m.wholes = map[string]time.Time{}, map[string]int{}, map[string]string{}
	}
	m.site = j.Lineage()
	m.ledger = purge.New(purge.Options{Journal: j})
	c := m.w.Engine.Config
	c.Ledger, c.Site, c.Store = m.ledger, m.site, gated{m.w.Store, m}
	if c.Standing = nil; m.table != nil {
		m.table = engine.Standing(nil)
		c.Standing = m.table
	}
	m.w.Engine = engine.New(c)
	ctx, cancel := context.WithCancel(context.Background())
	var tending sync.WaitGroup
	e := m.w.Engine
	tending.Go(func() {
		m.ledger.Tend(ctx, func(ctx context.Context) error { return e.Walk(context.WithValue(ctx, walking{}, true)) })
	})
	m.stop = func() {
		m.ungate()
		cancel()
		tending.Wait()
		for _, v := range m.visits {
			v.Leave()
			v.Wait()
		}
		m.visits = nil
		e.Close()
		if err := m.ledger.Close(); err != nil {
			m.errorf("Close: %v", err)
		}
	}
}

func (m *purgeModel) restart() {
	mode := []vfs.CrashMode{vfs.ProcessDied, vfs.UnsyncedLost, vfs.PowerCut}[m.rnd.IntN(3)]
	m.logf("restart (%d)", mode)
	m.stop()
	for _, q := range m.queries {
		q.tainted = q.tainted || q.landed == 0
	}
	m.folder = m.folder.Crash(m.rnd, mode)
	m.boot()
	m.settle()
}

// settle waits until all that can go on has, and draws conclusions.
func (m *purgeModel) settle() {
	m.w.Settle()
	m.mu.Lock()
	for _, f := range m.facts {
		if f.began > 0 || f.id == 0 {
			continue
		}
		if r, _, err := m.ledger.Receipt(f.id); err == nil && (r.State == purge.InForce || r.State == purge.Done) {
			if f.start.After(time.Now()) {
				m.errorf("purge %s began %v too early", f.id, time.Until(f.start))
			}
			m.begin(f)
			f.acked = m.tick()
			m.logf("purge %s has begun", f.id)
		} else if !f.start.After(time.Now()) && r.State == purge.Scheduled {
			m.errorf("purge %s is late", f.id)
		}
	}
	if len(m.gates) == 0 {
		m.land()
	}
	m.mu.Unlock()
	m.visits = slices.DeleteFunc(m.visits, func(v *visit) bool {
		if !v.Done() {
			return false
		}
		m.check(v)
		return true
	})
}

// land notes what is kept by now, if it must be: what was answered last, unless others
// came with it, of which nobody knows which was first.
func (m *purgeModel) land() {
	for i := range resources {
		for _, variant := range []string{"--", "de", "en"} {
			m.landOne(i, variant)
		}
	}
}

func (m *purgeModel) landOne(res int, variant string) {
	var last *query
	for _, q := range m.queries {
		switch {
		case q.res != res:
		case !q.over:
			return
		case q.seen || q.variant != variant:
		case last != nil:
			last.tainted = true
			fallthrough
		default:
			q.tainted = q.tainted || last != nil
			last = q
		}
	}
	if last == nil {
		return
	}
	for _, q := range m.queries {
		q.seen = q.seen || q.res == res && q.variant == variant
	}
	key := fmt.Sprint(res, variant)
	tag := fmt.Sprintf("%d %d", last.version, m.eras[res])
	if last.status == 200 && !last.tainted && last.get {
		m.wholes[key] = tag
	}
	if last.tainted || !last.get || last.ranged || last.status != 200 && (last.status != 304 || m.wholes[key] != tag) {
		return
	}
	last.landed = m.tick()
	m.newest[key], m.holds[key] = last.at, last.when.Add(lasting)
}

// begin has a purge count from now on for what the origin is asked.
func (m *purgeModel) begin(f *fact) {
	for res := range resources {
		if f.is(res, -1) {
			if f.hard {
				m.eras[res]++
			}
			m.touch(res)
		}
	}
	f.began, f.eras = m.tick(), slices.Clone(m.eras[:])
	m.purged++
}

// touch forgets what must be in the store of a resource, now or soon.
func (m *purgeModel) touch(res int) {
	for _, variant := range []string{"--", "de", "en"} {
		delete(m.holds, fmt.Sprint(res, variant))
		delete(m.newest, fmt.Sprint(res, variant))
	}
	for _, q := range m.queries {
		if q.res == res && q.landed == 0 {
			q.tainted = true
		}
	}
}

// ended tells whether a purge was taken back, as far as it had not been done.
func (m *purgeModel) ended(f *fact) bool {
	if f.id == 0 {
		return false
	}
	r, _, err := m.ledger.Receipt(f.id)
	return err == nil && (r.State == purge.Cancelled || r.State == purge.Ended || r.State == purge.Undone)
}

// check holds an answer against the model.
func (m *purgeModel) check(v *visit) {
	v.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.logf("%s: status %d, %q, asked %q, %s%v", v.what, v.Status, v.Body(), v.Header.Get("X-Asked"), v.CacheStatus(), map[bool]string{true: ", broken off"}[v.Aborted])
	if v.posting != nil {
		if v.Status == 204 {
			v.posting.acked = m.tick()
		}
		return
	}
	if v.must && len(m.queries) > v.asked && slices.ContainsFunc(m.queries[v.asked:], func(q *query) bool { return q.res == v.res && q.variant == v.variant }) {
		m.errorf("%s went to the origin, though nobody has purged what is kept", v.what)
	}
	if v.Status != 200 && v.Status != 206 {
		return
	}
	if v.Hit() {
		m.hits++
	}
	m.judge(v, v.Header, v.Body(), v.Aborted)
}

// judge holds what a client has got against the model.
func (m *purgeModel) judge(v *visit, header http.Header, body string, broken bool) {
	version, _ := strconv.Atoi(header.Get("X-Version"))
	first := 0
	if cr, ok := field.ParseContentRange(header.Get("Content-Range")); ok {
		first = int(cr.First / blockLen)
	}
	if v.method == http.MethodHead {
		era, _ := strconv.Atoi(header.Get("X-Era"))
		m.hard(v, version, era)
	}
	for i := 0; len(body) >= blockLen; i++ {
		var res, ver, era, n int
		var variant string
		if _, err := fmt.Sscanf(body[:blockLen], "<%d %s %d %d %d>", &res, &variant, &ver, &era, &n); err != nil || res != v.res || n != first+i || variant != v.variant || ver != version {
			m.errorf("%s: block %d of version %d is %q", v.what, first+i, version, body[:blockLen])
			return
		}
		m.hard(v, ver, era)
		body = body[blockLen:]
	}
	if n := blocks; header.Get("Content-Range") == "" && v.method == http.MethodGet && !broken && len(v.Body())/blockLen != n && v.Answer != nil && v.Status == 200 {
		m.errorf("%s: %d octets", v.what, len(v.Body()))
	}
	if n, _ := strconv.Atoi(header.Get("X-Asked")); n > 0 {
		m.soft(v, version, m.queries[n-1])
	}
}

// hard says that nothing comes back that is gone.
func (m *purgeModel) hard(v *visit, version, era int) {
	for _, f := range m.facts {
		if f.hard && f.acked > 0 && f.acked < v.at && f.is(v.res, version) && era < f.eras[v.res] && !m.ended(f) {
			m.errorf("%s: version %d of era %d is back: purge %s (event %d) began era %d", v.what, version, era, f.id, f.acked, f.eras[v.res])
		}
	}
}

// soft says that nothing that was made stale is served as if it was not: q is when it was
// asked for.
func (m *purgeModel) soft(v *visit, version int, q *query) {
	for _, f := range m.facts {
		if f.hard || f.acked == 0 || f.acked >= v.at || !f.is(v.res, version) || f.precedes(q) || m.ended(f) {
			continue
		}
		refreshing := slices.ContainsFunc(m.queries, func(other *query) bool {
			recently := other.failed.Add(backoff).After(time.Now())
			return other.res == v.res && (other.variant == v.variant && f.precedes(other) || recently)
		})
		if !refreshing {
			m.errorf("%s: version %d, asked for at %d, although purge %s (event %d) made it stale, and nobody refreshes it", v.what, version, q.at, f.id, f.acked)
		}
		if v.newest > f.acked {
			m.errorf("%s: version %d, asked for at %d, although purge %s (event %d) made it stale, and it was refreshed at %d", v.what, version, q.at, f.id, f.acked, v.newest)
		}
		m.fresh++
	}
}

// ask begins a request.
func (m *purgeModel) ask(method string) *visit {
	v := &visit{at: m.tick(), res: m.rnd.IntN(len(resources)), variant: "--", method: method}
	res := &resources[v.res]
	header := []string{"Host: " + res.host}
	if res.vary {
		v.variant = []string{"de", "en"}[m.rnd.IntN(2)]
		header = append(header, "Accept-Language: "+v.variant)
	}
	if method == http.MethodGet && m.rnd.IntN(4) == 0 {
		from := m.rnd.IntN(blocks)
		till := from + m.rnd.IntN(blocks-from)
		header = append(header, fmt.Sprintf("Range: bytes=%d-%d", from*blockLen, (till+1)*blockLen-1))
	}
	v.what = fmt.Sprintf("%s %s%s %q, begun at %d", method, res.host, res.path, header[1:], v.at)
	m.mu.Lock()
	hold := m.holds[fmt.Sprint(v.res, v.variant)]
	v.must = hold.After(time.Now()) && method == http.MethodGet && len(m.gates) == 0
	v.asked, v.newest = len(m.queries), m.newest[fmt.Sprint(v.res, v.variant)]
	for _, q := range m.queries {
		v.must = v.must && (q.res != v.res || q.over)
	}
	m.mu.Unlock()
	m.logf("%s, must %v", v.what, v.must)
	if method == http.MethodPost {
		v.posting = &fact{hard: true, wants: []want{{about: []int{v.res}}}}
		m.touch(v.res)
		header = append(header, fmt.Sprintf("X-Visit: %d", v.at))
	}
	content := ""
	if method == http.MethodPost {
		content = "x"
	}
	r := sim.Request(method, res.path, content, header...)
	if m.replay(v, r) {
		return nil
	}
	m.mu.Lock()
	m.visits = append(m.visits, v)
	v.Answer = m.w.Send(r)
	m.mu.Unlock()
	return v
}

// replay answers as a loop of the front does, if it can.
func (m *purgeModel) replay(v *visit, r *http.Request) bool {
	if m.table == nil || v.method == http.MethodPost || m.rnd.IntN(4) == 0 {
		return false
	}
	req := standing.Request{Head: v.method == http.MethodHead, Host: []byte(r.Host), Target: []byte(r.RequestURI)}
	for name, lines := range r.Header {
		if m.table.Add(&req, []byte(name), []byte(lines[0])) == standing.Deciding {
			return false
		}
	}
	a := m.table.Find(&req, time.Now())
	if a == nil {
		a = &standing.Answer{}
		if m.w.Engine.Decide(r.WithContext(store.AtOnce), a) != standing.Decided {
			return false
		}
	}
	size := a.Size
	if req.Head {
		size = 0
	}
	body, ok := m.w.Store.AppendNow(nil, a.Key, a.ID, a.Rev, a.Off, size)
	if !ok {
		return false
	}
	header := http.Header{}
	for _, line := range strings.Split(string(a.Head), "\r\n")[1:] {
		name, value, _ := strings.Cut(line, ": ")
		header.Add(name, value)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hits++
	m.logf("%s: stands: %q, asked %q", v.what, body, header.Get("X-Asked"))
	m.judge(&visit{at: v.at, res: v.res, variant: v.variant, method: v.method, newest: v.newest, what: v.what + " (standing)", Answer: nil}, header, string(body), true)
	return true
}

// purge publishes an Order.
func (m *purgeModel) purge() {
	f := &fact{hard: m.rnd.IntN(2) == 0}
	o := purge.Order{Mode: purge.Refresh}
	if f.hard {
		o.Mode = purge.Refetch
	}
	urls := false
	for range 1 + max(0, m.rnd.IntN(6)-4) {
		w := wants[m.rnd.IntN(len(wants))]
		f.wants = append(f.wants, w)
		o.Selectors = append(o.Selectors, w.Selector)
		urls = urls || w.URL != ""
	}
	waiting := slices.ContainsFunc(m.facts, func(f *fact) bool { return f.id != 0 && f.began == 0 })
	switch n := m.rnd.IntN(8); {
	case n == 0 && !waiting:
		o.Start = time.Now().Add(time.Duration(1+m.rnd.IntN(30))*time.Second + 7*time.Millisecond)
		f.start = o.Start
	case n == 1:
		o.End = time.Now().Add(time.Duration(1+m.rnd.IntN(30))*time.Second + 13*time.Millisecond)
	}
	if m.rnd.IntN(3) > 0 {
		m.change()
	}
	if urls { // which waits for those who commit
		m.ungated(func() { m.publish(f, o) })
		return
	}
	m.publish(f, o)
}

func (m *purgeModel) publish(f *fact, o purge.Order) {
	m.mu.Lock()
	if o.Start.IsZero() {
		m.begin(f)
	}
	m.facts = append(m.facts, f)
	m.logf("purge %v, %v, start %v, end %v", o.Selectors, o.Mode, o.Start.IsZero(), o.End.IsZero())
	m.mu.Unlock()
	r, err := m.w.Engine.Purge(context.Background(), o)
	if err != nil || !r.Durable {
		m.errorf("%v: %+v, %v", o, r, err)
	}
	f.id = r.ID
	if o.Start.IsZero() {
		f.acked = m.tick()
	}
	m.logf("purge %s is %s", f.id, r.State)
}

// ungated does something while no gate is shut.
func (m *purgeModel) ungated(do func()) {
	was := m.gating
	m.ungate()
	m.w.Settle()
	do()
	m.w.Settle()
	m.gating = was
}

// retract undoes, cancels or repeats a purge.
func (m *purgeModel) retract() {
	var known []*fact
	for _, f := range m.facts {
		if f.id != 0 {
			known = append(known, f)
		}
	}
	if len(known) == 0 {
		return
	}
	f := known[m.rnd.IntN(len(known))]
	var err error
	was, _, _ := m.ledger.Receipt(f.id)
	again := false
	switch m.rnd.IntN(3) {
	case 0:
		m.logf("undo %s, which is %s", f.id, was.State)
		_, err = m.ledger.Undo(f.id)
	case 1:
		m.logf("cancel %s, which is %s", f.id, was.State)
		_, err = m.ledger.Cancel(f.id)
	case 2:
		again = true
		other := &fact{wants: f.wants, hard: f.hard}
		m.ungated(func() {
			m.logf("repeat %s", f.id)
			m.mu.Lock()
			m.begin(other)
			m.facts = append(m.facts, other)
			m.mu.Unlock()
			var r purge.Receipt
			r, err = m.ledger.Repeat(f.id)
			other.id, other.acked = r.ID, m.tick()
		})
	}
	var refused *purge.StateError
	if err != nil && !errors.As(err, &refused) {
		m.errorf("%v", err)
	}
	m.logf("so: %v", err)
	if err == nil && !again {
		if f.began == 0 { // it never will
			m.facts = slices.DeleteFunc(m.facts, func(other *fact) bool { return other == f })
		}
		for res := range resources {
			if f.is(res, -1) {
				m.touch(res)
			}
		}
	}
}

func (m *purgeModel) change() {
	res := m.rnd.IntN(len(resources))
	m.versions[res]++
	m.logf("%d has version %d", res, m.versions[res])
}

// waiting are the queries that wait for their answer, or for the next piece of it.
func (m *purgeModel) waiting(replied bool) *query {
	var some []*query
	for _, q := range m.queries {
		if !q.over && q.replied == replied && (replied || len(q.said) == 0) {
			some = append(some, q)
		}
	}
	if len(some) == 0 {
		return nil
	}
	return some[m.rnd.IntN(len(some))]
}

func (m *purgeModel) answer() {
	q := m.waiting(false)
	if q == nil {
		return
	}
	how := "ok"
	switch n := m.rnd.IntN(20); {
	case n == 0:
		how = "fail"
	case n == 1:
		how = "break"
	}
	q.quick = m.rnd.IntN(3) == 0
	m.let(q, how)
}

// let has the origin answer. An answer to an unsafe request purges.
func (m *purgeModel) let(q *query, how string) {
	f := q.posting
	say := func() {
		m.logf("origin: %d: %s, quick %v", q.n, how, q.quick)
		q.said <- how
	}
	switch {
	case f == nil:
		say()
		return
	case how != "ok": // nobody knows what has changed
		m.touch(q.res)
		m.ungated(say)
		return
	}
	m.ungated(func() {
		if m.rnd.IntN(2) == 0 && resources[q.res].host == "shop.example" {
			how = "group"
			f.wants = append(f.wants, want{about: []int{0, 2}})
		}
		m.mu.Lock()
		m.begin(f)
		for res := range resources { // its groups go with it
			m.touch(res)
		}
		m.facts = append(m.facts, f)
		m.mu.Unlock()
		say()
	})
}

func (m *purgeModel) step() {
	switch n := m.rnd.IntN(100); {
	case n < 28:
		m.ask(http.MethodGet)
	case n < 31:
		m.ask(http.MethodHead)
	case n < 34:
		m.ask(http.MethodPost)
	case n < 54:
		m.answer()
	case n < 68:
		if q := m.waiting(true); q != nil {
			for range 1 + 8*m.rnd.IntN(2) {
				q.step <- struct{}{}
			}
		}
	case n < 81:
		m.purge()
	case n < 85:
		m.retract()
	case n < 87:
		m.change()
	case n < 94:
		m.mu.Lock()
		if n := len(m.gates); n > 0 {
			i := m.rnd.IntN(n)
			m.logf("gate %d of %d", i, n)
			close(m.gates[i])
			m.gates = slices.Delete(m.gates, i, i+1)
		}
		m.mu.Unlock()
	case n < 97:
		d := []time.Duration{time.Second, 4 * time.Second, 20 * time.Second, 70 * time.Second}[m.rnd.IntN(4)]
		m.logf("%v pass", d)
		m.w.Advance(d)
	case n < 98 && len(m.visits) > 0:
		v := m.visits[m.rnd.IntN(len(m.visits))]
		m.logf("%s leaves", v.what)
		if v.posting != nil {
			m.touch(v.res)
			m.ungated(v.Leave)
		}
		v.Leave()
	default:
		m.restart()
	}
	m.settle()
}

// finish has all that is under way come to its end, and then looks at everything, before
// and after a restart.
func (m *purgeModel) finish() {
	m.logf("finish")
	m.ungate()
	m.settle()
	m.mu.Lock()
	m.auto = true
	m.mu.Unlock()
	for m.busy > 0 {
		for _, q := range m.queries {
			if !q.over {
				q.quick = true
				if !q.replied && len(q.said) == 0 {
					m.let(q, "ok")
				}
				select {
				case q.step <- struct{}{}:
				default:
				}
			}
		}
		m.settle()
	}
	m.restartOrNot()
}

func (m *purgeModel) restartOrNot() {
	for round := range 2 {
		for range 2 * len(resources) {
			m.ask(http.MethodGet)
			m.settle()
		}
		m.w.Advance(time.Second) // the walker rests now and then
		m.settle()
		for _, r := range m.ledger.Receipts() {
			if r.State == purge.InForce {
				m.errorf("purge %s is in force although all was gone through", r.ID)
			}
		}
		if round == 0 {
			m.restart()
		}
	}
}

// badSeeds have failed once.
var badSeeds = []uint64{61797091806485772, 1572174693460408281, 3409764981175197049}

// Whatever is fetched, stored, joined, validated, purged, taken back and forgotten in a
// crash, in whatever order: what is acknowledged as purged does not come back, and what
// nobody has purged stays.
func TestPRG05_NothingPurgedComesBack(t *testing.T) {
	seeds := slices.Clone(badSeeds)
	start := rand.Uint64()
	if s, err := strconv.ParseUint(os.Getenv("PURGE_SEED"), 10, 64); err == nil {
		start = s
	}
	for i := range uint64(purgeScripts) {
		seeds = append(seeds, start+i)
	}
	hits, purged, fresh := 0, 0, 0
	for _, seed := range seeds {
		sim.Run(t, func(w *sim.World) {
			m := playPurges(t, w, seed)
			hits, purged, fresh = hits+m.hits, purged+m.purged, fresh+m.fresh
		})
		if t.Failed() {
			return
		}
	}
	t.Logf("%d scripts from seed %d: %d hits, %d purges, %d answers that were stale by them", len(seeds), start, hits, purged, fresh)
}

func playPurges(t *testing.T, w *sim.World, seed uint64) *purgeModel {
	m := &purgeModel{t: t, seed: seed, rnd: rand.New(rand.NewPCG(seed, 13)), w: w, folder: &vfs.Mem{}, holds: map[string]time.Time{}, newest: map[string]int{}, wholes: map[string]string{}}
	w.Handle(m.serve)
	if m.rnd.IntN(2) == 0 {
		m.table = engine.Standing(nil)
	}
	m.gating = m.rnd.IntN(2) == 0
	m.boot()
	for n := 0; n < 40 && !m.failed; n++ {
		m.step()
	}
	if !m.failed {
		m.finish()
	}
	for _, q := range m.queries {
		q.quick = true
	}
	m.stop()
	return m
}
