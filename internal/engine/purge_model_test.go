package engine_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/field"
	"github.com/larderhq/larder/internal/purge"
	"github.com/larderhq/larder/internal/sim"
	"github.com/larderhq/larder/internal/standing"
	"github.com/larderhq/larder/internal/vfs"
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

type resource struct {
	host, path string
	vary       bool
	tags       [2]string // of even versions, and of odd ones
	group      string
}

var resources = []resource{
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

	// mu is held by the script, but for while others go on.
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

// others has what else there is go on while do waits for it.
func (m *purgeModel) others(do func()) {
	m.mu.Unlock()
	defer m.mu.Lock()
	do()
}

// settle waits until all that can go on has, and draws conclusions.
func (m *purgeModel) settle() {
	m.others(m.w.Settle)
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
	if v.Status == 200 && v.method == http.MethodGet && !v.Aborted && len(v.Body()) != blocks*blockLen {
		m.errorf("%s: %d octets", v.what, len(v.Body()))
	}
	m.judge(v, v.Header, v.Body())
}

// judge holds what a client has got against the model.
func (m *purgeModel) judge(v *visit, header http.Header, body string) {
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
