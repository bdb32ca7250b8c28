//go:build soak

package engine_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/interim"
	"github.com/larderhq/larder/internal/rules"
	"github.com/larderhq/larder/store/memory"
)

// TestProject_Soak lets many clients do everything at once against an origin
// that does everything badly, and holds every answer to this:
//
//   - it is, octet for octet, what the origin made for that URL, that variant,
//     that user and that version, or a part of it, or visibly broken off;
//   - head and body are of one version;
//   - nobody gets what was private to another;
//   - after the answer to an unsafe request, also to one that failed on the
//     way, nobody gets a version from before it;
//   - 304 only to who asked, and only for a tag that was named;
//   - at the end no body of the origin is open, no octet of the store is
//     charged, and no goroutine is left.
//
// SOAK_SECONDS is how long (60), SOAK_SEED which run (random, and printed). It is
// a command of its own: make soak.
func TestProject_Soak(t *testing.T) {
	seconds := 60.0
	if s, err := strconv.ParseFloat(os.Getenv("SOAK_SECONDS"), 64); err == nil {
		seconds = s
	}
	seed := rand.Uint64()
	if s, err := strconv.ParseUint(os.Getenv("SOAK_SEED"), 10, 64); err == nil {
		seed = s
	}
	modes := []struct {
		name  string
		speed int64 // of the engine's clock
		terms rules.Terms
	}{
		{"standard", 20, rules.Terms{CollapseTimeout: 4 * time.Second}},
		{"impatient", 20, rules.Terms{CollapseTimeout: 200 * time.Millisecond, RevalidateTimeout: 100 * time.Millisecond, RevalidateBackoff: time.Second, UncacheableMemory: time.Second}},
		{"fill", 1, rules.Terms{FillConditionals: true, SoftTTL: time.Second, Requests: rules.HonorRequests, UncacheableMemory: 100 * time.Millisecond}},
	}
	for i, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			span := time.Duration(seconds / float64(len(modes)) * float64(time.Second))
			soak(t, seed+uint64(i), m.speed, m.terms, span)
		})
	}
}

func soak(t *testing.T, seed uint64, speed int64, terms rules.Terms, span time.Duration) {
	t.Logf("SOAK_SEED=%d", seed)
	base := runtime.NumGoroutine()
	o := &soakOrigin{t: t, versions: map[string]int{}, floors: map[string]int{}}
	o.rng.Store(seed)
	st := memory.New(memory.Options{Budget: 3 << 20, MaxObject: 64 << 10})
	start := time.Now()
	e := engine.New(engine.Config{
		Store: st, Forward: o, Pseudonym: "soak",
		Policy: engine.Policy{Terms: terms, KeyPart: func(r *http.Request) string { return r.Header.Get("X-Part") }},
		Clock: func() (steady, wall time.Time) {
			now := start.Add(time.Since(start) * time.Duration(speed))
			return now, now
		},
	})
	stop := time.Now().Add(span)
	var clients sync.WaitGroup
	for i := range 48 {
		clients.Go(func() {
			c := &soakClient{o: o, e: e, r: rand.New(rand.NewPCG(seed, uint64(i))), user: "u" + strconv.Itoa(i), tags: map[string]string{}}
			for time.Now().Before(stop) && !t.Failed() {
				c.step()
			}
		})
	}
	clients.Wait()
	closed := make(chan struct{})
	go func() { e.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(20 * time.Second):
		buf := make([]byte, 1<<20)
		t.Fatalf("Engine.Close hangs:\n%s", buf[:runtime.Stack(buf, true)])
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for runtime.NumGoroutine() > base || o.open.Load() != 0 || st.Stats().Bytes != 0 {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines (%d before), %d origin bodies open, %d octets charged\n%s", runtime.NumGoroutine(), base, o.open.Load(),
				st.Stats().Bytes, buf[:runtime.Stack(buf, true)])
		}
		<-time.After(10 * time.Millisecond) // the runtime has no event for it
	}
	t.Logf("%d answers (%d whole, %d broken off, %d from the store, %d collapsed, %d parts, %d not modified), %d asked of the origin",
		o.answers.Load(), o.whole.Load(), o.broken.Load(), o.hits.Load(), o.collapsed.Load(), o.parts.Load(), o.notModified.Load(), o.asked.Load())
}

// A soakOrigin makes a body of its URL, its version, and those request fields
// that it says it varies on.
type soakOrigin struct {
	t   *testing.T
	rng atomic.Uint64

	mu       sync.Mutex
	versions map[string]int // by URL: bumped by unsafe requests, and now and then
	floors   map[string]int // by URL: what clients may count on

	open, asked                                                 atomic.Int64
	answers, whole, broken, hits, collapsed, parts, notModified atomic.Int64
}

func (o *soakOrigin) rand() *rand.Rand { return rand.New(rand.NewPCG(o.rng.Add(1), 7)) }

// version is that of target, and by more higher than before.
func (o *soakOrigin) version(target string, more int) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.versions[target] += more
	return o.versions[target]
}

func soakSum(s string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(s))
	return h.Sum64()
}

// soakBody is what X-Id stands for.
func soakBody(target, id string) []byte {
	sum := soakSum(target + "\n" + id)
	size := int(sum>>8) % 3000
	switch {
	case strings.HasPrefix(target, "/big"):
		size = 40<<10 + int(sum>>8&0xffff) // about as many are kept as are not
	case size < 100:
		size = 0
	}
	b := make([]byte, size+8)
	for i := 0; i < size; i += 8 {
		binary.BigEndian.PutUint64(b[i:], (sum^uint64(i))*0x9e3779b97f4a7c15)
	}
	return b[:size]
}

var errSoak = errors.New("soak: the origin has gone")

func (o *soakOrigin) RoundTrip(req *http.Request) (*http.Response, error) {
	o.asked.Add(1)
	r := o.rand()
	ctx := req.Context()
	target := req.URL.Opaque
	if req.Body != nil {
		_, err := io.Copy(io.Discard, req.Body)
		req.Body.Close()
		if err != nil {
			return nil, err
		}
	}
	pause := func() bool {
		d := time.Duration(0)
		switch n := r.IntN(100); {
		case n < 50:
			return ctx.Err() == nil
		case n < 97:
			d = time.Duration(r.IntN(3000)) * time.Microsecond
		default:
			d = time.Duration(r.IntN(100)) * time.Millisecond
		}
		select {
		case <-time.After(d):
			return true
		case <-ctx.Done():
			return false
		}
	}
	if r.IntN(10) == 0 {
		if fn := interim.From(ctx); fn != nil {
			for range r.IntN(4) {
				if err := fn(103, http.Header{"Link": {"</x>"}, "X-Id": {"interim"}}); err != nil {
					return nil, err
				}
			}
		}
	}
	if req.Method == "POST" || req.Method == "DELETE" {
		if !pause() {
			return nil, ctx.Err()
		}
		if r.IntN(4) == 0 {
			return o.response(req, 409, http.Header{"X-Id": {"refused"}}, soakBody(target, "refused"), r), nil
		}
		v := o.version(target, 1)
		if p, ok := ctx.Value(soakPost{}).(*atomic.Int64); ok {
			p.Store(int64(v))
		}
		if !pause() {
			return nil, ctx.Err()
		}
		if r.IntN(5) == 0 {
			return nil, errSoak
		}
		h := http.Header{"X-Id": {"posted"}}
		id := "posted"
		if r.IntN(3) == 0 && req.Method == "POST" { // it answers a later GET
			id = o.id(req, target, v, h, r)
			h.Set("Content-Location", target)
			if !strings.Contains(id, "user=") {
				h.Set("Cache-Control", "max-age=5")
			}
		}
		return o.response(req, 200, h, soakBody(target, id), r), nil
	}

	if !pause() {
		return nil, ctx.Err()
	}
	bump := 0
	if r.IntN(40) == 0 {
		bump = 1
	}
	v := o.version(target, bump)
	if !pause() {
		return nil, ctx.Err()
	}
	switch r.IntN(40) {
	case 0:
		return nil, errSoak
	case 1:
		select { // it hangs for a while
		case <-time.After(time.Duration(r.IntN(300)) * time.Millisecond):
			return nil, errSoak
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	case 2, 3:
		h := http.Header{"X-Id": {"error"}}
		if r.IntN(3) == 0 {
			h.Set("Cache-Control", "max-age=1")
		}
		return o.response(req, 500+r.IntN(5), h, soakBody(target, "error"), r), nil
	case 4: // what nobody asked for
		if r.IntN(2) == 0 {
			return o.response(req, 304, http.Header{"Etag": {`"other"`}}, nil, r), nil
		}
		if req.Header["Range"] == nil {
			return o.response(req, 206, http.Header{"Content-Range": {"bytes 0-4/10"}, "X-Id": {"part"}}, []byte("wrong"), r), nil
		}
	}
	h := http.Header{}
	id := o.id(req, target, v, h, r)
	body := soakBody(target, id)
	tag := fmt.Sprintf(`"%x"`, soakSum(id))
	status := 200
	switch kind := soakSum(target) % 4; {
	case kind == 0: // no validator
	case kind == 1: // weak ones only
		tag = "W/" + tag
		h.Set("Etag", tag)
	default:
		h.Set("Etag", tag)
	}
	if h.Get("Etag") != "" {
		for _, line := range req.Header["If-None-Match"] {
			if strings.Contains(strings.ReplaceAll(line, "W/", ""), strings.TrimPrefix(tag, "W/")) {
				return o.response(req, 304, h, nil, r), nil
			}
		}
		if m := req.Header["If-Match"]; len(m) > 0 && !strings.Contains(m[0], tag) {
			return o.response(req, 412, http.Header{"X-Id": {"failed"}}, soakBody(target, "failed"), r), nil
		}
	}
	if soakSum(id)%7 == 0 {
		status = 404
	}
	if lines := req.Header["Range"]; len(lines) == 1 && status == 200 && r.IntN(8) > 0 && req.Method == "GET" {
		var a, b int
		ok := true
		if len(req.Header["If-Range"]) > 0 {
			ok = req.Header["If-Range"][0] == h.Get("Etag") && !strings.HasPrefix(tag, "W/")
		}
		n, _ := fmt.Sscanf(lines[0], "bytes=%d-%d", &a, &b)
		if n == 1 {
			b = len(body) - 1
		}
		b = min(b, len(body)-1)
		switch {
		case !ok || n == 0 || strings.Contains(lines[0], ","):
		case a >= len(body):
			h.Set("Content-Range", fmt.Sprintf("bytes */%d", len(body)))
			h.Set("X-Id", "unsatisfiable")
			return o.response(req, 416, h, soakBody(target, "unsatisfiable"), r), nil
		default:
			h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", a, b, len(body)))
			return o.response(req, 206, h, body[a:b+1], r), nil
		}
	}
	return o.response(req, status, h, body, r), nil
}

// id chooses how target may be kept, and what its body depends on.
func (o *soakOrigin) id(req *http.Request, target string, v int, h http.Header, r *rand.Rand) string {
	id := "v" + strconv.Itoa(v)
	cc := []string{"max-age=1", "max-age=2, stale-while-revalidate=3", "max-age=0", "max-age=5, stale-if-error=5", "no-cache", "max-age=1, must-revalidate", "s-maxage=2", "max-age=60"}[r.IntN(8)]
	switch class := strings.SplitN(target, "/", 3)[1]; {
	case class == "user", class == "mix" && r.IntN(3) == 0:
		cc = []string{"private, max-age=60", "no-store", "private", "max-age=60, private"}[r.IntN(4)]
		id += " user=" + req.Header.Get("X-User")
	case class == "auth" && req.Header["Authorization"] != nil:
		cc = "max-age=60" // RFC 9111 §3.5 keeps it to this user
		id += " user=" + req.Header.Get("X-User")
	case class == "vary":
		names := []string{"Foo"}
		if soakSum(target)>>4%2 == 0 || r.IntN(4) == 0 {
			names = append(names, "Bar")
		}
		for _, name := range names {
			h.Add("Vary", name)
			id += " " + name + "=" + req.Header.Get(name)
		}
	}
	if part := req.Header.Get("X-Part"); part != "" {
		id += " part=" + part
	}
	h.Set("Cache-Control", cc)
	h.Set("X-Id", id)
	return id
}

func (o *soakOrigin) response(req *http.Request, status int, h http.Header, body []byte, r *rand.Rand) *http.Response {
	res := &http.Response{
		StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: h, Request: req, ContentLength: int64(len(body)),
	}
	b := &soakStream{o: o, ctx: req.Context(), left: body, r: r, cut: -1}
	switch {
	case req.Method == "HEAD":
		b.left = nil
		h.Set("Content-Length", strconv.Itoa(len(body)))
	case status == 304:
		res.ContentLength = 0
	case len(body) > 0 && r.IntN(20) == 0:
		b.cut = r.IntN(len(body))
		fallthrough
	case r.IntN(3) == 0:
		if r.IntN(2) == 0 {
			res.ContentLength = -1
		}
	}
	if res.ContentLength >= 0 && req.Method != "HEAD" && status != 304 {
		h.Set("Content-Length", strconv.FormatInt(res.ContentLength, 10))
	}
	o.open.Add(1)
	res.Body = b
	return res
}

// A soakStream is a body that arrives in pieces.
type soakStream struct {
	o      *soakOrigin
	ctx    context.Context
	left   []byte
	r      *rand.Rand
	cut    int // octets until it breaks off, or negative
	closed atomic.Bool
}

func (b *soakStream) Read(p []byte) (int, error) {
	if b.closed.Load() {
		return 0, errors.New("soak: read after Close")
	}
	if b.r.IntN(6) == 0 {
		select {
		case <-time.After(time.Duration(b.r.IntN(2000)) * time.Microsecond):
		case <-b.ctx.Done():
		}
	}
	switch {
	case b.ctx.Err() != nil:
		return 0, b.ctx.Err()
	case b.cut == 0:
		return 0, io.ErrUnexpectedEOF
	case len(b.left) == 0:
		return 0, io.EOF
	}
	n := min(len(p), len(b.left), 1+b.r.IntN(40<<10))
	if b.cut > 0 {
		n = min(n, b.cut)
		b.cut -= n
	}
	copy(p, b.left[:n])
	b.left = b.left[n:]
	return n, nil
}

func (b *soakStream) Close() error {
	if b.closed.CompareAndSwap(false, true) {
		b.o.open.Add(-1)
	}
	return nil
}

type soakPost struct{}

// A soakClient does one thing after the other.
type soakClient struct {
	o    *soakOrigin
	e    *engine.Engine
	r    *rand.Rand
	user string
	tags map[string]string // by URL: one that was seen
}

func (c *soakClient) step() {
	r := c.r
	class := []string{"plain", "plain", "vary", "vary", "user", "mix", "auth", "big"}[r.IntN(8)]
	target := fmt.Sprintf("/%s/%d", class, r.IntN(6))
	h := http.Header{"X-User": {c.user}}
	method := "GET"
	switch n := r.IntN(100); {
	case n < 8:
		method = "HEAD"
	case n < 12:
		method = "POST"
	case n < 13:
		method = "DELETE"
	}
	if class == "vary" {
		h.Set("Foo", strconv.Itoa(r.IntN(3)))
		h.Set("Bar", strconv.Itoa(r.IntN(3)))
	}
	if class == "auth" && r.IntN(2) == 0 {
		h.Set("Authorization", "Basic "+c.user)
	}
	if class == "plain" && r.IntN(5) == 0 {
		h.Set("X-Part", strconv.Itoa(r.IntN(2)))
	}
	ranged, conditional := false, false
	if method == "GET" || method == "HEAD" {
		if r.IntN(4) == 0 {
			ranged = method == "GET"
			size := 1500
			if class == "big" {
				size = 60 << 10
			}
			a := r.IntN(size)
			h.Set("Range", []string{fmt.Sprintf("bytes=%d-%d", a, a+r.IntN(size)), fmt.Sprintf("bytes=%d-", a), fmt.Sprintf("bytes=0-%d", a), fmt.Sprintf("bytes=0-1,%d-%d", a+10, a+40)}[r.IntN(4)])
			if tag := c.tags[target]; tag != "" && r.IntN(3) == 0 {
				h.Set("If-Range", tag)
			}
		}
		if tag := c.tags[target]; tag != "" && r.IntN(4) == 0 {
			conditional = true
			h.Set([]string{"If-None-Match", "If-None-Match", "If-None-Match", "If-Match"}[r.IntN(4)], tag)
		}
		if r.IntN(12) == 0 {
			h.Set("Cache-Control", []string{"no-store", "no-cache", "only-if-cached", "max-stale=100", "max-age=0"}[r.IntN(5)])
		}
	}
	c.o.mu.Lock()
	floor := c.o.floors[target]
	c.o.mu.Unlock()

	var bumped atomic.Int64
	ctx, cancel := context.WithCancel(context.WithValue(context.Background(), soakPost{}, &bumped))
	defer cancel()
	u, _ := url.ParseRequestURI(target)
	req := (&http.Request{
		Method: method, URL: u, RequestURI: target, Host: "soak.example", Header: h, Body: http.NoBody,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RemoteAddr: "192.0.2.1:1234",
	}).WithContext(ctx)
	asked := h.Clone()
	w := &soakWriter{header: http.Header{}, r: r}
	if r.IntN(8) == 0 {
		timer := time.AfterFunc(time.Duration(r.IntN(4000))*time.Microsecond, cancel)
		defer timer.Stop()
	}
	w.slow = r.IntN(25) == 0
	w.ctx = ctx
	aborted := c.serve(w, req)
	w.over.Store(true)
	left := ctx.Err() != nil
	c.o.answers.Add(1)

	if strings.Contains(w.sent.Get("Cache-Status"), "; hit") {
		c.o.hits.Add(1)
	}
	if strings.Contains(w.sent.Get("Cache-Status"), "; collapsed") {
		c.o.collapsed.Add(1)
	}
	if err := c.check(w, method, target, asked, floor, ranged, conditional, aborted, left); err != nil {
		c.o.t.Errorf("%s %s %v by %s (version >= %d): %v\n  status %d, %d octets, aborted %v, left %v, %v", method, target, asked, c.user, floor, err,
			w.status, len(w.body), aborted, left, w.sent)
	}
	if v := int(bumped.Load()); v > 0 && !left && !aborted && (method == "POST" || method == "DELETE") {
		c.o.mu.Lock()
		c.o.floors[target] = max(c.o.floors[target], v)
		c.o.mu.Unlock()
	}
}

func (c *soakClient) serve(w *soakWriter, req *http.Request) (aborted bool) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler:
			aborted = true
		default:
			panic(p)
		}
	}()
	c.e.ServeHTTP(w, req)
	return false
}

func (c *soakClient) check(w *soakWriter, method, target string, asked http.Header, floor int, ranged, conditional, aborted, left bool) error {
	h := w.sent
	if w.fault != nil {
		return w.fault
	}
	if aborted {
		c.o.broken.Add(1)
	}
	if w.status == 0 {
		if aborted {
			return nil
		}
		return errors.New("no answer")
	}
	id := h.Get("X-Id")
	switch {
	case w.status == 304:
		c.o.notModified.Add(1)
		if !conditional || asked.Get("If-None-Match") == "" {
			return errors.New("304 that nobody asked for")
		}
		if len(w.body) > 0 || h.Get("Content-Length") != "" {
			return errors.New("304 with content")
		}
		if tag := h.Get("Etag"); strings.TrimPrefix(tag, "W/") != strings.TrimPrefix(asked.Get("If-None-Match"), "W/") {
			if tag == `"other"` { // the origin's own, to a condition that was forwarded
				return nil
			}
			return fmt.Errorf("304 with the tag %s", tag)
		}
	case id == "":
		if h.Get("Proxy-Status") == "" && w.status != 504 && w.status != 416 {
			return errors.New("an answer of unknown origin")
		}
		return nil
	}
	var version int
	if strings.HasPrefix(id, "v") {
		if _, err := fmt.Sscanf(id, "v%d", &version); err != nil {
			return err
		}
		if version < floor {
			return fmt.Errorf("version %d is over since the answer to an unsafe request", version)
		}
		for _, word := range strings.Fields(id)[1:] {
			name, value, _ := strings.Cut(word, "=")
			field := map[string]string{"user": "X-User", "Foo": "Foo", "Bar": "Bar", "part": "X-Part"}[name]
			if asked.Get(field) != value {
				return fmt.Errorf("made for another: %s", id)
			}
		}
		if strings.Contains(id, "part=") != (asked.Get("X-Part") != "") {
			return fmt.Errorf("made for another part: %s", id)
		}
		if tag := h.Get("Etag"); tag != "" {
			if want := fmt.Sprintf(`"%x"`, soakSum(id)); strings.TrimPrefix(tag, "W/") != want {
				return fmt.Errorf("the tag %s is not that of %s", tag, id)
			}
			c.tags[target] = tag
		}
	}
	if w.status == 304 {
		return nil
	}
	want := soakBody(target, id)
	total := len(want)
	if method == "HEAD" {
		if len(w.body) > 0 {
			return errors.New("HEAD with content")
		}
		if l := h.Get("Content-Length"); l != "" && l != strconv.Itoa(total) {
			return fmt.Errorf("HEAD says %s octets of %d", l, total)
		}
		return nil
	}
	if w.status == 206 {
		c.o.parts.Add(1)
		if !ranged {
			return errors.New("206 that nobody asked for")
		}
		if id == "part" {
			return errors.New("a part that is none")
		}
		var a, b, n int
		if strings.HasPrefix(h.Get("Content-Type"), "multipart/") {
			if !bytes.Contains(w.body, want[:1]) && !aborted {
				return errors.New("multipart without octets")
			}
			return nil
		}
		if _, err := fmt.Sscanf(h.Get("Content-Range"), "bytes %d-%d/%d", &a, &b, &n); err != nil {
			return fmt.Errorf("Content-Range %q: %v", h.Get("Content-Range"), err)
		}
		if n != total || a > b || b >= total {
			return fmt.Errorf("Content-Range %q of %d", h.Get("Content-Range"), total)
		}
		if !rangeFits(asked.Get("Range"), a, b, total) {
			return fmt.Errorf("Content-Range %q is not what was asked for", h.Get("Content-Range"))
		}
		if tag := asked.Get("If-Range"); tag != "" && h.Get("Etag") != "" && tag != h.Get("Etag") {
			return fmt.Errorf("206 of %s to If-Range %s", h.Get("Etag"), tag)
		}
		want = want[a : b+1]
	}
	if l := h.Get("Content-Length"); l != "" && l != strconv.Itoa(len(want)) {
		return fmt.Errorf("Content-Length %s of %d", l, len(want))
	}
	switch {
	case !bytes.HasPrefix(want, w.body):
		i := 0
		for i < len(w.body) && i < len(want) && w.body[i] == want[i] {
			i++
		}
		return fmt.Errorf("wrong octets from %d on: %q, want %q", i, clip(w.body[i:]), clip(want[i:]))
	case !aborted && len(w.body) != len(want) && !(left && w.failed):
		return fmt.Errorf("%d octets of %d, as if they were all", len(w.body), len(want))
	case !aborted:
		c.o.whole.Add(1)
	}
	return nil
}

func clip(b []byte) []byte { return b[:min(len(b), 40)] }

func rangeFits(asked string, a, b, total int) bool {
	var first, last int
	switch n, _ := fmt.Sscanf(asked, "bytes=%d-%d", &first, &last); {
	case strings.Contains(asked, ","):
		return true // they may have been merged
	case n == 1:
		return a == first && b == total-1
	default:
		return a == first && b == min(last, total-1)
	}
}

// A soakWriter is the way to a client.
type soakWriter struct {
	ctx    context.Context
	header http.Header
	sent   http.Header
	status int
	body   []byte
	slow   bool
	failed bool
	fault  error
	r      *rand.Rand
	over   atomic.Bool
}

func (w *soakWriter) Header() http.Header { return w.header }

func (w *soakWriter) WriteHeader(status int) {
	switch {
	case w.over.Load():
		panic("WriteHeader after the end of the exchange")
	case status < 200:
		if w.status != 0 {
			w.fault = errors.New("an interim answer after the final one")
		}
	case w.status != 0:
		w.fault = fmt.Errorf("a second head, %d after %d", status, w.status)
	default:
		w.status, w.sent = status, w.header.Clone()
		for _, name := range []string{"X-Id", "Age", "Content-Length", "Content-Range", "Etag"} {
			if len(w.sent[name]) > 1 {
				w.fault = fmt.Errorf("%s is there twice", name)
			}
		}
		if w.sent.Get("X-Id") == "interim" || w.sent.Get("Link") != "" {
			w.fault = errors.New("fields of an interim answer in the final one")
		}
	}
}

func (w *soakWriter) Write(p []byte) (int, error) {
	if w.over.Load() {
		panic("Write after the end of the exchange")
	}
	if w.status == 0 {
		w.WriteHeader(200)
	}
	if w.slow {
		<-time.After(time.Duration(w.r.IntN(3000)) * time.Microsecond) // a slow client
	}
	if w.ctx.Err() != nil {
		w.failed = true
		return 0, w.ctx.Err()
	}
	w.body = append(w.body, p...)
	return len(p), nil
}

func (w *soakWriter) Flush() {}
