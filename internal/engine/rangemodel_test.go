package engine_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"mime/multipart"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/field"
	"github.com/larderhq/larder/internal/rules"
	"github.com/larderhq/larder/internal/sim"
)

// A model is what is true at the origin, and was: versions[n] is the
// representation whose answers say "X-Version: n". Versions never share a tag.
type model struct {
	t        *testing.T
	rnd      *rand.Rand
	w        *sim.World
	versions []string

	// How the origin behaves from now on.
	tag     int // 0: strong, 1: weak, 2: none, 3: only a date
	ignores bool
	short   bool // sends less than it is asked for
	open    bool // does not tell the total
	chunked bool
	policy  string
	slow    time.Duration

	log    []string
	failed bool
}

func (m *model) logf(format string, args ...any) { m.log = append(m.log, fmt.Sprintf(format, args...)) }

func (m *model) errorf(format string, args ...any) {
	m.t.Helper()
	if !m.failed {
		m.t.Errorf("%s\nafter\n%s", fmt.Sprintf(format, args...), strings.Join(m.log, "\n"))
	}
	m.failed = true
}

// change makes a new version.
func (m *model) change() {
	size := []int{0, 1, 2, 10, 300, 70_000, 140_000}[m.rnd.IntN(7)]
	body := make([]byte, size)
	for i := range body {
		body[i] = byte(m.rnd.Uint32())
	}
	m.versions = append(m.versions, string(body))
	m.tag = m.rnd.IntN(6) // most have strong tags
	m.logf("version %d: %d octets, tag %d", len(m.versions)-1, size, m.tag)
}

func (m *model) behave() {
	m.ignores, m.short, m.open, m.chunked = m.rnd.IntN(6) == 0, m.rnd.IntN(5) == 0, m.rnd.IntN(5) == 0, m.rnd.IntN(3) == 0
	m.policy = []string{"max-age=60", "max-age=60", "max-age=60", "max-age=2", "max-age=2, stale-while-revalidate=5", "no-cache", "no-store"}[m.rnd.IntN(7)]
	m.slow = time.Duration(m.rnd.IntN(2)) * time.Second
	m.logf("origin: ignores %v, short %v, open %v, chunked %v, %s, slow %v", m.ignores, m.short, m.open, m.chunked, m.policy, m.slow)
}

// serve is the origin. It is called by one goroutine at a time that draws
// nothing at random, so that a seed tells the whole story.
func (m *model) serve(r *http.Request) sim.Reply {
	n := len(m.versions) - 1
	body := m.versions[n]
	reply := sim.Reply{Header: []string{"Cache-Control: " + m.policy, fmt.Sprintf("X-Version: %d", n)}, Delay: m.slow}
	tag := ""
	switch m.tag {
	case 1:
		tag = fmt.Sprintf(`W/"%d"`, n)
	case 2:
	case 3:
		reply.Header = append(reply.Header, "Last-Modified: "+time.Unix(int64(n)*1000, 0).UTC().Format(http.TimeFormat))
	default:
		tag = fmt.Sprintf(`"%d"`, n)
	}
	if tag != "" {
		reply.Header = append(reply.Header, "ETag: "+tag)
	}
	reply.Body = body
	if m.chunked {
		reply.Length = -1
	}
	switch lines := r.Header["Range"]; {
	case r.Method == http.MethodPost:
		return sim.Reply{Status: 204}
	case tag != "" && slices.Contains(r.Header["If-None-Match"], tag):
		reply.Status, reply.Body, reply.Length = 304, "", 0
	case r.Method == http.MethodGet && len(lines) == 1 && !m.ignores && (len(r.Header["If-Range"]) == 0 || r.Header.Get("If-Range") == tag && m.tag != 1):
		specs, ok := field.ParseRange(lines[0])
		if !ok || len(specs) != 1 {
			break
		}
		spans := field.ResolveRanges(specs, int64(len(body)))
		if len(spans) == 0 {
			return sim.Reply{Status: 416, Header: []string{fmt.Sprintf("Content-Range: bytes */%d", len(body)), fmt.Sprintf("X-Version: %d", n)}}
		}
		s := spans[0]
		if m.short {
			s.Last = s.First + (s.Last-s.First)/2
		}
		total := strconv.Itoa(len(body))
		if m.open {
			total = "*"
		}
		reply.Status, reply.Body = 206, body[s.First:s.Last+1]
		reply.Header = append(reply.Header, fmt.Sprintf("Content-Range: bytes %d-%d/%s", s.First, s.Last, total))
	}
	return reply
}

// spec draws one range, near the ends more often than elsewhere.
func (m *model) spec() string {
	size := len(m.versions[len(m.versions)-1])
	at := func() int {
		switch m.rnd.IntN(4) {
		case 0:
			return m.rnd.IntN(4)
		case 1:
			return max(0, size-3+m.rnd.IntN(6))
		}
		return m.rnd.IntN(size + 1)
	}
	switch m.rnd.IntN(5) {
	case 0:
		return fmt.Sprintf("%d-", at())
	case 1:
		return fmt.Sprintf("-%d", at())
	}
	a, b := at(), at()
	return fmt.Sprintf("%d-%d", min(a, b), max(a, b))
}

// An asked is a request that is under way.
type asked struct {
	answer  *sim.Answer
	method  string
	ranges  []string
	ifRange string
	short   bool
}

func (m *model) ask() asked {
	q := asked{method: "GET", short: m.short}
	var header []string
	if m.rnd.IntN(4) > 0 {
		for range 1 + max(0, m.rnd.IntN(8)-5) {
			q.ranges = append(q.ranges, m.spec())
		}
		header = append(header, "Range: bytes="+strings.Join(q.ranges, ","))
		if m.rnd.IntN(5) == 0 {
			q.ifRange = fmt.Sprintf(`"%d"`, len(m.versions)-1-m.rnd.IntN(2))
			header = append(header, "If-Range: "+q.ifRange)
		}
	}
	if m.rnd.IntN(10) == 0 {
		q.method = "HEAD"
	}
	m.logf("%s %q", q.method, header)
	q.answer = m.w.Start(q.method, "/a", "", header...)
	return q
}

// check holds an answer against the model.
func (m *model) check(q asked) {
	a := q.answer
	a.Wait()
	n, err := strconv.Atoi(a.Header.Get("X-Version"))
	if a.Status == 416 && a.Header.Get("X-Version") == "" { // ours
		n, err = len(m.versions)-1, nil
	}
	if err != nil || n >= len(m.versions) || a.Aborted {
		m.errorf("%+v: status %d, fields %v, aborted %v", q, a.Status, a.Header, a.Aborted)
		return
	}
	body := m.versions[n]
	where := fmt.Sprintf("%s %q If-Range %s: status %d, version %d, %s", q.method, q.ranges, q.ifRange, a.Status, n, a.CacheStatus())
	var want []field.Span
	if len(q.ranges) > 0 {
		specs, _ := field.ParseRange("bytes=" + strings.Join(q.ranges, ","))
		want = field.ResolveRanges(specs, int64(len(body)))
	}
	switch {
	case q.method == "HEAD":
		if a.Status != 200 || a.Body() != "" || a.Header.Get("Content-Length") != "" && a.Header.Get("Content-Length") != strconv.Itoa(len(body)) {
			m.errorf("%s: Content-Length %q of %d", where, a.Header["Content-Length"], len(body))
		}
	case a.Status == 200:
		if a.Body() != body || a.Header.Get("Content-Range") != "" {
			m.errorf("%s: %d octets that are not the %d of the whole", where, len(a.Body()), len(body))
		}
	case a.Status == 416:
		// Versions without a tag may have been validated by nobody: any of them
		// may have been the one that was measured.
		if total := a.Header.Get("Content-Range"); len(q.ranges) == 0 || !slices.ContainsFunc(m.versions, func(v string) bool { return total == fmt.Sprintf("bytes */%d", len(v)) }) {
			m.errorf("%s: Content-Range %q", where, total)
		}
	case a.Status == 206 && len(q.ranges) == 0, q.ifRange != "" && a.Status == 206 && a.Header.Get("ETag") != q.ifRange:
		m.errorf("%s: a part for one who did not ask, or not for this one", where)
	case a.Status == 206 && a.Header.Get("Content-Range") != "":
		cr, ok := field.ParseContentRange(a.Header.Get("Content-Range"))
		if !ok || cr.Last >= int64(len(body)) || cr.Total >= 0 && cr.Total != int64(len(body)) {
			m.errorf("%s: Content-Range %q of %d", where, a.Header["Content-Range"], len(body))
			return
		}
		if a.Body() != body[cr.First:cr.Last+1] {
			m.errorf("%s: wrong octets for %q", where, a.Header["Content-Range"])
		}
		if exact := len(want) == 1 && want[0] == (field.Span{First: cr.First, Last: cr.Last}); !exact && (a.Hit() || !q.short) {
			m.errorf("%s: %q for %v", where, a.Header["Content-Range"], want)
		}
	case a.Status == 206:
		m.multipart(a, body, want, where)
	default:
		m.errorf("%s", where)
	}
}

func (m *model) multipart(a *sim.Answer, body string, want []field.Span, where string) {
	kind, params, err := mime.ParseMediaType(a.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/byteranges" || len(want) < 2 || a.Header.Get("Content-Length") != strconv.Itoa(len(a.Body())) {
		m.errorf("%s: %v", where, a.Header)
		return
	}
	r := multipart.NewReader(strings.NewReader(a.Body()), params["boundary"])
	for _, s := range want {
		p, err := r.NextRawPart()
		if err != nil {
			m.errorf("%s: %v", where, err)
			return
		}
		content, err := io.ReadAll(p)
		if err != nil || string(content) != body[s.First:s.Last+1] || p.Header.Get("Content-Range") != fmt.Sprintf("bytes %d-%d/%d", s.First, s.Last, len(body)) {
			m.errorf("%s: part %v with %v, %v", where, s, p.Header, err)
		}
	}
	if _, err := r.NextRawPart(); err != io.EOF {
		m.errorf("%s: more parts than asked for (%v)", where, err)
	}
}

// Whatever parts are kept, joined, completed, validated and cut, and however
// the origin behaves within the protocol: each answer holds the octets of one
// version, and those that it says it holds.
func TestRNG23_AnswersEqualAPlainModel(t *testing.T) {
	seeds := []uint64{rand.Uint64()}
	for seed := range uint64(60) {
		seeds = append(seeds, seed)
	}
	hits := 0
	for _, seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			// A HEAD without validators must not pass old octets off as new ones.
			terms := rules.Terms{HeadFreshening: rules.HeadValidators}
			sim.RunWith(t, func(c *engine.Config) { c.Terms = terms }, func(w *sim.World) {
				m := &model{t: t, rnd: rand.New(rand.NewPCG(seed, 11)), w: w}
				m.change()
				m.behave()
				w.Handle(m.serve)
				for n := 0; n < 80 && !m.failed; n++ {
					switch m.rnd.IntN(16) {
					case 0:
						m.change()
					case 1:
						m.change()
						w.Do("POST", "/a", "x")
					case 2:
						m.behave()
					case 3:
						m.logf("time passes")
						w.Advance(time.Duration(m.rnd.IntN(20)) * time.Second)
					default:
						var under []asked
						for range 1 + max(0, m.rnd.IntN(8)-4) {
							under = append(under, m.ask())
						}
						for _, q := range under {
							m.check(q)
							if q.answer.Hit() {
								hits++
							}
						}
						w.Settle()
					}
				}
			})
		})
	}
	if hits < 10*len(seeds) {
		t.Errorf("only %d hits: the test asks the wrong questions", hits)
	}
}
