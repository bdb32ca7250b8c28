//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larderhq/larder/bench/rig"
)

// A tally counts what clients saw.
type tally struct {
	requests, verified, puts, cut atomic.Int64
	hits, revived                 atomic.Int64 // revived: hits on what an earlier life stored
	wrong, resurrected, failed    atomic.Int64
	undone                        atomic.Int64 // resurrected, but the disk could not be told

	mu    sync.Mutex
	first map[*atomic.Int64][]string // the first faults of each kind, in words
}

// note counts a fault of a kind and keeps the first few for the report.
func (t *tally) note(count *atomic.Int64, l *life, format string, args ...any) {
	count.Add(1)
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.first[count]) >= 6 {
		return
	}
	if t.first == nil {
		t.first = map[*atomic.Int64][]string{}
	}
	where := fmt.Sprintf("life %d", l.number)
	if l.fault != "" {
		where += " (" + l.fault + ")"
	}
	t.first[count] = append(t.first[count], where+": "+fmt.Sprintf(format, args...))
}

// A life is one run of larder, from its start to its end.
type life struct {
	*rig.Larder
	number    int64
	client    *http.Client
	transport *http.Transport

	// ending is set before larder is told to end. What fails after that was
	// cut by the end.
	ending atomic.Bool

	// fault says what is done to it, if it is; shaky, that the disk may not take
	// what is written then.
	fault string
	shaky bool

	// mortal says that it may end by itself, by a signal that is part of the
	// experiment.
	mortal bool
}

// excuses tells whether a request failed because larder ended.
func (l *life) excuses() bool {
	if l.ending.Load() || !l.mortal {
		return l.ending.Load()
	}
	select {
	case <-l.Done():
		return true
	case <-time.After(2 * time.Second):
		return l.ending.Load()
	}
}

// host is whom all requests name, whichever port larder has in this life: it is
// part of what a response is stored under.
const host = "crash"

// A client asks one thing after the other.
type client struct {
	bench  *bench
	life   *life
	random *rand.Rand
	buf    []byte
}

// errCut says that the answer was cut by the end of larder.
var errCut = errors.New("cut by the end of larder")

// run asks until larder ends, or n times; n < 0 means for ever.
func (c *client) run(ctx context.Context, n int) {
	for begun := false; n != 0 && ctx.Err() == nil && !c.life.ending.Load(); n, begun = n-1, true {
		// Some URLs are asked for far more often than others.
		u := c.random.Float64()
		res := c.bench.resources[int(u*u*float64(len(c.bench.resources)))]
		var err error
		switch dice := c.random.IntN(100); {
		case dice < 4 || !begun:
			// Also at once, when what is on disk may not be known yet.
			err = c.put(ctx, res)
		case dice < 25:
			err = c.get(ctx, res, true)
		default:
			err = c.get(ctx, res, false)
		}
		if errors.Is(err, errCut) {
			return
		}
	}
}

// fault says what went wrong with a request, unless larder was ending.
func (c *client) fault(err error, what string) error {
	t := &c.bench.tally
	if errors.Is(err, rig.ErrWrong) {
		t.note(&t.wrong, c.life, "%s: %v", what, err)
		return nil
	}
	if c.life.excuses() {
		t.cut.Add(1)
		return errCut
	}
	t.note(&t.failed, c.life, "%s: %v", what, err)
	return nil
}

// put raises the generation of a resource at the origin. Once the answer is
// there, nothing older may be served.
func (c *client) put(ctx context.Context, res *resource) error {
	t := &c.bench.tally
	t.requests.Add(1)
	what := "PUT " + res.path
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, c.life.URL+res.path, strings.NewReader("next"))
	if err != nil {
		return err
	}
	req.Host = host
	resp, err := c.life.client.Do(req)
	if err != nil {
		return c.fault(err, what)
	}
	defer resp.Body.Close()
	generation, err := strconv.ParseInt(resp.Header.Get(generationField), 10, 64)
	if err != nil || resp.StatusCode != http.StatusNoContent {
		return c.fault(fmt.Errorf("status %d, Proxy-Status %q", resp.StatusCode, resp.Header.Get("Proxy-Status")), what)
	}
	t.puts.Add(1)
	if c.life.shaky {
		raise(&res.shaky, generation)
	}
	raise(&res.acknowledged, generation)
	return nil
}

// raise makes v at least n.
func raise(v *atomic.Int64, n int64) {
	for old := v.Load(); old < n && !v.CompareAndSwap(old, n); {
		old = v.Load()
	}
}

// get reads a resource, or a part of it, and judges the answer.
func (c *client) get(ctx context.Context, res *resource, part bool) error {
	t := &c.bench.tally
	t.requests.Add(1)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.life.URL+res.path, nil)
	if err != nil {
		return err
	}
	req.Host = host
	variant := ""
	if res.kind == varying {
		variant = variants[c.random.IntN(len(variants))]
		req.Header.Set(variantField, variant)
	}
	what := "GET " + res.path + " " + variant
	floor := res.acknowledged.Load()
	var asked *span
	if part {
		s := c.spanOf(size(res.name(floor, variant)))
		asked = &s
		req.Header.Set("Range", s.String())
		what += " " + s.String()
	}
	resp, err := c.life.client.Do(req)
	if err != nil {
		return c.fault(err, what)
	}
	defer resp.Body.Close()
	what += fmt.Sprintf(" (%d, ETag %s, Cache-Status %s, its life %s)",
		resp.StatusCode, resp.Header.Get("ETag"), resp.Header.Get("Cache-Status"), resp.Header.Get(lifeField))
	generation, err := c.judge(resp, res, variant, asked)
	if err != nil {
		return c.fault(err, what)
	}
	if generation < floor && floor == res.shaky.Load() {
		t.undone.Add(1)
	} else if generation < floor {
		t.note(&t.resurrected, c.life, "%s: generation %d was acknowledged before", what, floor)
	}
	t.verified.Add(1)
	c.count(resp)
	return nil
}

// A span is a range that was asked for: from an octet to another, which may be
// the end (to < 0), or the last few (last > 0).
type span struct{ from, to, last int64 }

// spanOf chooses a span of a body that may have n octets.
func (c *client) spanOf(n int64) span {
	n = max(n, 2)
	from := c.random.Int64N(n)
	switch c.random.IntN(4) {
	case 0:
		return span{last: n - from}
	case 1:
		return span{from: from, to: -1}
	}
	return span{from: from, to: from + c.random.Int64N(n-from)}
}

func (s span) String() string {
	switch {
	case s.last > 0:
		return fmt.Sprintf("bytes=-%d", s.last)
	case s.to < 0:
		return fmt.Sprintf("bytes=%d-", s.from)
	}
	return fmt.Sprintf("bytes=%d-%d", s.from, s.to)
}

// of returns what the span selects of n octets: none if to < from.
func (s span) of(n int64) (from, to int64) {
	switch {
	case s.last > 0:
		return max(n-s.last, 0), n - 1
	case s.to < 0:
		return s.from, n - 1
	}
	return s.from, min(s.to, n-1)
}

// judge compares a whole answer with what it has to be, and returns of which
// generation it is.
func (c *client) judge(resp *http.Response, res *resource, variant string, asked *span) (int64, error) {
	if asked != nil && resp.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		return res.generation.Load(), c.unsatisfiable(resp, *asked)
	}
	if resp.StatusCode != http.StatusOK && (asked == nil || resp.StatusCode != http.StatusPartialContent) {
		return 0, fmt.Errorf("an error of the cache: Proxy-Status %q", resp.Header.Get("Proxy-Status"))
	}
	generation, of, err := parseTag(resp.Header.Get("ETag"))
	switch {
	case err != nil:
		return 0, errors.Join(rig.ErrWrong, err)
	case of != variant:
		return 0, fmt.Errorf("%w: variant %q instead of %q", rig.ErrWrong, of, variant)
	case generation > res.generation.Load():
		return 0, fmt.Errorf("%w: a generation that never was", rig.ErrWrong)
	}
	name := res.name(generation, variant)
	want := c.bench.content.Body(name, size(name))
	if resp.StatusCode == http.StatusPartialContent {
		from, to := asked.of(int64(len(want)))
		field := resp.Header.Get("Content-Range")
		if to < from || field != fmt.Sprintf("bytes %d-%d/%d", from, to, len(want)) {
			return 0, fmt.Errorf("%w: Content-Range %q for %d octets", rig.ErrWrong, field, len(want))
		}
		want = want[from : to+1]
	}
	if n := resp.ContentLength; n >= 0 && n != int64(len(want)) {
		return 0, fmt.Errorf("%w: length %d instead of %d", rig.ErrWrong, n, len(want))
	}
	return generation, rig.Compare(resp.Body, want, c.buf)
}

// unsatisfiable judges a 416: the span that was asked for was thought out for
// another generation, which was longer.
func (c *client) unsatisfiable(resp *http.Response, asked span) error {
	var n int64
	field := resp.Header.Get("Content-Range")
	if _, err := fmt.Sscanf(field, "bytes */%d", &n); err != nil {
		return fmt.Errorf("%w: 416 with Content-Range %q", rig.ErrWrong, field)
	}
	if from, to := asked.of(n); from <= to {
		return fmt.Errorf("%w: 416 for %d octets", rig.ErrWrong, n)
	}
	_, err := io.Copy(io.Discard, resp.Body)
	return err
}

// count tells hits, and hits that outlived a restart.
func (c *client) count(resp *http.Response) {
	if !strings.Contains(resp.Header.Get("Cache-Status"), "; hit") {
		return
	}
	t := &c.bench.tally
	t.hits.Add(1)
	if stored, err := strconv.ParseInt(resp.Header.Get(lifeField), 10, 64); err == nil && stored < c.life.number {
		t.revived.Add(1)
	}
}
