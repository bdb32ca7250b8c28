package front

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/local"
	"github.com/larderhq/larder/internal/observe"
	"github.com/larderhq/larder/internal/rules"
	"github.com/larderhq/larder/store/memory"
)

// A twin is one cache behind two fronts: fast answers by loops, slow by net/http
// alone.
type twin struct {
	fast, slow *world
	store      *memory.Store
	replayed   tally        // what loops have answered
	ahead      atomic.Int64 // nanoseconds that the cache's clocks are ahead
}

// A tally is an observe.Sink that counts.
type tally struct{ atomic.Int64 }

func (n *tally) Observe(*observe.Event) { n.Add(1) }

func newTwin(t *testing.T, limits Limits, origin http.HandlerFunc, more ...func(*engine.Config)) *twin {
	tw := &twin{store: memory.New(memory.Options{Budget: 64 << 20})}
	base := time.Now()
	clock := func() (steady, wall time.Time) {
		now := base.Add(time.Duration(tw.ahead.Load()))
		return now, now
	}
	c := engine.Config{
		Store: tw.store, Forward: local.RoundTripper(origin), Clock: clock, Standing: engine.Standing(nil),
	}
	for _, change := range more {
		change(&c)
	}
	e := engine.New(c)
	tw.slow = serveOptions(Options{Handler: e, Limits: limits})
	tw.fast = serveOptions(Options{Handler: e, Limits: limits, Standing: c.Standing, Store: c.Store, Clock: clock, Sink: &tw.replayed, Decide: e.Decide})
	t.Cleanup(func() {
		tw.slow.end(t)
		tw.fast.end(t)
		e.Close()
		tw.store.Close()
	})
	return tw
}

func (tw *twin) advance(d time.Duration) { tw.ahead.Add(int64(d)) }

// exchange sends octets in pieces, and returns what is answered until the
// connection ends.
func exchange(t *testing.T, w *world, pieces []string) string {
	t.Helper()
	c := w.dial()
	defer c.Close()
	go func() {
		for _, p := range pieces {
			if _, err := io.WriteString(c, p); err != nil {
				return // what arrives is checked
			}
		}
	}()
	if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil { // so that no failure hangs
		t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	if err != nil {
		t.Errorf("after %d octets: %v", len(b), err)
	}
	return string(b)
}

// one asks for a plain request on a connection of its own.
func (tw *twin) one(t *testing.T, line string, fields ...string) string {
	t.Helper()
	return exchange(t, tw.fast, []string{request(line, append(fields, "Connection: close")...)})
}

func request(line string, fields ...string) string {
	return line + " HTTP/1.1\r\nHost: h\r\n" + strings.Join(append(fields, ""), "\r\n") + "\r\n"
}

// warm asks until a loop answers, and returns that answer.
func (tw *twin) warm(t *testing.T, line string, fields ...string) string {
	t.Helper()
	for range 1000 { // the commit may take a moment after the first answer
		before := tw.replayed.Load()
		if answer := tw.one(t, line, fields...); tw.replayed.Load() > before {
			return answer
		}
	}
	t.Fatalf("%s %q is never answered by a loop", line, fields)
	return ""
}

// sizes are those of variety's bodies.
var sizes = []int{0, 1, 4095, copyLen, copyLen + 1, 65 << 10, 200 << 10}

// variety is an origin with a little of everything. Its pages last for a minute
// each, and the first digit of a path says how long they are.
func variety(w http.ResponseWriter, r *http.Request) {
	n, _ := strconv.Atoi(strings.Trim(r.URL.Path, "/"))
	h := w.Header()
	h["Cache-Control"] = []string{"max-age=60"}
	h["Content-Type"] = []string{"text/plain"}
	h["X-Empty"], h["a-lower"], h["Zz"] = []string{""}, []string{"1", "2"}, []string{"last"}
	switch n % 5 {
	case 1:
		h["Etag"], h["Vary"] = []string{`"one"`}, []string{"Accept-Encoding"}
	case 2:
		h["Last-Modified"], h["Vary"] = []string{"Mon, 01 Jan 2024 00:00:00 GMT"}, []string{"Accept-Language, X-Foo"}
	case 3:
		h["Etag"], h["Cache-Status"] = []string{`W/"three"`}, []string{"other; hit"}
	case 4:
		h["Etag"], h["Set-Cookie"] = []string{`"four"`}, []string{"a=b"}
	}
	status := []int{200, 200, 200, 404, 301, 204, 410}[n%7]
	if status == 204 {
		w.WriteHeader(status)
		return
	}
	body := bytes.Repeat([]byte(r.Header.Get("Accept-Encoding")+r.Header.Get("X-Foo")+"0123456789"), sizes[n%len(sizes)]/10+1)[:sizes[n%len(sizes)]]
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	_, _ = w.Write(body) // to a client of the test's
}

// chosenFields are put into requests at random, up to three of them.
var chosenFields = []string{
	"Accept-Encoding: gzip", "Accept-Encoding: br, gzip;q=0.5", "accept-encoding:  gzip ", "Accept-Language: de", "X-Foo: 1", "X-FOO: 2",
	"If-None-Match: \"one\"", "If-None-Match: \"no\", \"four\"", "If-None-Match: *", "If-Modified-Since: Mon, 01 Jan 2024 00:00:00 GMT",
	"If-Modified-Since: Sun, 01 Jan 2023 00:00:00 GMT", "Range: bytes=0-0", "Range: bytes=100-9000", "Range: bytes=-10", "Range: bytes=99999999-",
	"Range: bytes=0-1,4-5", "Range: nonsense", "If-Range: \"one\"", "Cache-Control: max-age=30", "Cache-Control: no-cache", "Pragma: no-cache",
	"Cookie: a=b", "User-Agent: x", "Connection: keep-alive", "X-Forwarded-For: 1.2.3.4", "Authorization: x",
}

// The loops give the very octets that net/http and the engine give (the portable
// way is the reference), however requests are cut and follow each other.
func TestSameOctets(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	tw := newTwin(t, Limits{}, variety)
	rounds := 3000
	if testing.Short() {
		rounds = 500
	}
	compared := 0
	for range rounds {
		var stream string
		count := 1 + r.IntN(3)
		for i := range count {
			var fields []string
			for range r.IntN(3) {
				fields = append(fields, chosenFields[r.IntN(len(chosenFields))])
			}
			if i == count-1 {
				fields = append(fields, "Connection: close")
			}
			method := "GET"
			if r.IntN(4) == 0 {
				method = "HEAD"
			}
			stream += request(method+" /"+strconv.Itoa(r.IntN(20)), fields...)
		}
		if r.IntN(10) == 0 {
			tw.advance(time.Duration(r.IntN(20)) * time.Second)
		}
		// What was committed between the two may have changed the answer, once.
		for attempt := range 2 {
			before := tw.replayed.Load()
			got := exchange(t, tw.fast, cut(r, stream))
			if tw.replayed.Load() != before+int64(count) {
				break // not by the loops alone
			}
			want := exchange(t, tw.slow, []string{stream})
			compared++
			if got == want {
				break
			}
			if attempt == 1 {
				t.Fatalf("of\n%s\nthe loop made\n%s\nand net/http\n%s", stream, shortened(got), shortened(want))
			}
		}
	}
	t.Logf("%d streams of %d answered by loops alone", compared, rounds)
	if compared < rounds/20 {
		t.Errorf("only %d streams of %d were answered by loops alone", compared, rounds)
	}
}

// cut cuts a stream at random.
func cut(r *rand.Rand, stream string) (pieces []string) {
	for len(stream) > 0 {
		n := len(stream)
		if r.IntN(2) == 0 {
			n = 1 + r.IntN(n)
		}
		pieces = append(pieces, stream[:n])
		stream = stream[n:]
	}
	return pieces
}

func shortened(s string) string { return s[:min(len(s), 2000)] }

// All that an answer depends on is named in it: a change of any field of a request
// either keeps the answer as it is for the engine, too, or is not answered by the
// loop. TestSameOctets looks at many; this one at those that matter most.
func TestLoopsKeepOff(t *testing.T) {
	tw := newTwin(t, Limits{}, variety)
	tw.warm(t, "GET /1", "Accept-Encoding: gzip")
	for _, field := range []string{
		"Accept-Encoding: br", "Accept-Encoding:", "Cache-Control: max-age=0", "Pragma: no-cache", "Authorization: a", "If-Match: \"one\"",
		"If-Range: \"one\"", "Via: 1.1 a", "X-Forwarded-Host: other", "X_Forwarded_Host: other", "Transfer-Encoding: chunked", "Content-Length: 0", "TE: trailers",
		"Expect: x", "Upgrade: x", "Connection: x", "Connection: upgrade",
	} {
		before := tw.replayed.Load()
		exchange(t, tw.fast, []string{request("GET /1", field, "Connection: close") + "0\r\n\r\n"})
		if tw.replayed.Load() != before {
			t.Errorf("a loop has answered a request with %s", field)
		}
	}
	tw.warm(t, "GET /1", "Accept-Encoding: gzip")
	before := tw.replayed.Load()
	if tw.one(t, "GET /1", "Accept-Encoding: gzip", "Cookie: a", "User-Agent: b"); tw.replayed.Load() != before+1 {
		t.Error("what chooses nothing kept a loop from answering")
	}
}

// What the operator keeps from the cache is not answered by loops either, and no
// client gets what another one's address has chosen.
func TestLoopsHeedTheOperator(t *testing.T) {
	tw := newTwin(t, Limits{}, variety, func(c *engine.Config) {
		c.Terms.Ranges, c.Terms.PassConditionals = rules.RangesPass, true
	})
	tw.warm(t, "GET /1")
	before := tw.replayed.Load()
	for _, field := range []string{"Range: bytes=0-0", "If-None-Match: \"one\""} {
		for range 3 {
			if tw.one(t, "GET /1", field); tw.replayed.Load() != before {
				t.Fatalf("a loop has answered a request with %s", field)
			}
		}
	}
	tw = newTwin(t, Limits{}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Vary", "Cookie")
	})
	for range 5 {
		if tw.one(t, "GET /", "Cookie: secret"); tw.replayed.Load() > 0 {
			t.Fatal("a loop knows a cookie")
		}
	}
	for _, mode := range []engine.ForwardedMode{engine.ForwardStandard, engine.ForwardX} {
		tw = newTwin(t, Limits{}, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("Vary", "Forwarded, X-Forwarded-For")
			fmt.Fprint(w, r.Header["Forwarded"], r.Header["X-Forwarded-For"])
		}, func(c *engine.Config) { c.Forwarded = mode })
		for range 5 {
			if tw.one(t, "GET /"); tw.replayed.Load() > 0 {
				t.Fatal("a loop has answered what depends on the address of the client")
			}
		}
	}
}

// After an unsafe request was answered, no loop gives what was stored before.
func TestInvalidationEndsReplays(t *testing.T) {
	var version atomic.Int64
	tw := newTwin(t, Limits{}, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			version.Add(1)
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.Header().Set("Cache-Control", "max-age=60")
		fmt.Fprintf(w, "version %d", version.Load())
	})
	for i := range 30 {
		if got := tw.warm(t, "GET /"); !strings.HasSuffix(got, fmt.Sprint("version ", i)) {
			t.Fatalf("after %d changes: %s", i, got)
		}
		tw.one(t, "DELETE /")
		if got := tw.one(t, "GET /"); !strings.HasSuffix(got, fmt.Sprint("version ", i+1)) {
			t.Fatalf("right after change %d: %s", i+1, got)
		}
	}
}

// A stored response that is preferred to the one that loops give ends that, though
// both stay stored.
func TestBetterVariantEndsReplays(t *testing.T) {
	var asked atomic.Int64
	tw := newTwin(t, Limits{}, func(w http.ResponseWriter, _ *http.Request) {
		n := asked.Add(1)
		h := w.Header()
		h.Set("Cache-Control", "max-age=60")
		h.Set("Vary", []string{"X-Foo", "X-Bar"}[n-1])
		fmt.Fprintf(w, "answer %d", n)
	})
	if got := tw.warm(t, "GET /", "X-Foo: 1"); !strings.HasSuffix(got, "answer 1") {
		t.Fatal(got)
	}
	tw.advance(2 * time.Second) // of two that fit, the newer is the better
	tw.one(t, "GET /", "X-Foo: 2")
	for range 1000 { // it may be stored a moment after it was answered
		if strings.HasSuffix(tw.warm(t, "GET /", "X-Foo: 1"), "answer 2") {
			return
		}
	}
	t.Error("loops go on with what was stored before")
}

// A replay ends in the second in which the response is no longer fresh, and what
// it says of its age is right until then.
func TestReplaysAge(t *testing.T) {
	tw := newTwin(t, Limits{}, variety)
	tw.warm(t, "GET /0")
	for s := range 59 {
		tw.advance(time.Second)
		before := tw.replayed.Load()
		got := tw.one(t, "GET /0")
		if tw.replayed.Load() == before || !strings.Contains(got, fmt.Sprintf("Age: %d\r\n", s+1)) || !strings.Contains(got, fmt.Sprintf("ttl=%d\r\n", 58-s)) {
			t.Fatalf("after %d s, by a loop %t: %s", s+1, tw.replayed.Load() > before, got)
		}
	}
	tw.advance(time.Second)
	before := tw.replayed.Load()
	if tw.one(t, "GET /0"); tw.replayed.Load() != before {
		t.Error("a loop gives what is stale")
	}
}

// What leaves the store is not answered by a loop, though its decision stands.
func TestReplaysNeedTheStore(t *testing.T) {
	tw := newTwin(t, Limits{}, variety)
	tw.warm(t, "GET /0")
	tw.warm(t, "GET /2")
	tw.store.Close()
	before := tw.replayed.Load()
	for _, line := range []string{"GET /0", "HEAD /0", "HEAD /2"} {
		if got := tw.one(t, line); !strings.HasPrefix(got, "HTTP/1.1 200") || tw.replayed.Load() != before {
			t.Errorf("%s without a store, by a loop %t: %s", line, tw.replayed.Load() != before, shortened(got))
		}
	}
}

// A thousand requests in one go are answered in turn, whether loops know the
// answer or not.
func TestPipelines(t *testing.T) {
	tw := newTwin(t, Limits{}, variety)
	want := map[int]string{}
	for n := range 7 {
		if n%5 != 3 && n%5 != 4 && n != 5 { // which are not for loops
			want[n] = strings.ReplaceAll(tw.warm(t, "GET /"+strconv.Itoa(n)), "Connection: close\r\n", "")
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	var stream, answers strings.Builder
	for i := range 1000 {
		n := []int{0, 1, 2, 6}[r.IntN(4)]
		if n == 6 && i%20 > 0 {
			n = 0 // it is long
		}
		if i%50 == 49 {
			stream.WriteString(request("OPTIONS /"))
			answers.WriteString("OPTIONS")
		}
		stream.WriteString(request("GET /" + strconv.Itoa(n)))
		answers.WriteString(want[n])
	}
	stream.WriteString(request("GET /0", "Connection: close"))
	for range 5 {
		got := exchange(t, tw.fast, cut(r, stream.String()))
		rest := got
		for i, part := range strings.Split(answers.String(), "OPTIONS") {
			if i > 0 { // what the origin has to say to OPTIONS
				end := strings.Index(rest, "\r\n\r\n")
				if end < 0 || !strings.Contains(rest[:end], "fwd=method") {
					t.Fatalf("part %d begins with %s", i, shortened(rest))
				}
				length, _, _ := strings.Cut(rest[strings.Index(rest, "Content-Length: ")+len("Content-Length: "):], "\r")
				n, _ := strconv.Atoi(length)
				rest = rest[end+4+n:]
			}
			if !strings.HasPrefix(rest, part) {
				t.Fatalf("part %d begins with %s", i, shortened(rest))
			}
			rest = rest[len(part):]
		}
		if !strings.Contains(rest, "Connection: close\r\n") {
			t.Errorf("at the end there is %s", shortened(rest))
		}
	}
}

// Clients that read a little at a time get everything, each its own.
func TestSlowReaders(t *testing.T) {
	tw := newTwin(t, Limits{}, variety)
	answers := map[string]string{}
	for _, n := range []string{"1", "2", "6", "11"} {
		answers[n] = strings.ReplaceAll(tw.warm(t, "GET /"+n), "Connection: close\r\n", "")
	}
	const times = 50 // more than the system takes in
	before := tw.replayed.Load()
	var reading sync.WaitGroup
	for _, order := range [][]string{{"6", "2", "11"}, {"1", "6", "1"}, {"11", "6", "2"}, {"2", "1", "6"}} {
		stream, want := "", ""
		for _, n := range order {
			want += answers[n]
			stream += request("GET /" + n)
		}
		reading.Go(func() {
			readSlowly(t, tw.fast.dial().(*net.TCPConn), strings.Repeat(stream, times), strings.Repeat(want, times))
		})
	}
	reading.Wait()
	if n := tw.replayed.Load() - before; n != 4*3*times {
		t.Errorf("loops answered %d of %d", n, 4*3*times)
	}
}

func readSlowly(t *testing.T, c *net.TCPConn, stream, want string) {
	defer c.Close()
	if err := c.SetReadBuffer(64 << 10); err != nil {
		t.Error(err)
	}
	if _, err := io.WriteString(c, stream); err != nil {
		t.Error(err)
	}
	if err := c.CloseWrite(); err != nil { // half closed, it still hears
		t.Error(err)
	}
	b := make([]byte, 10_000)
	for {
		n, err := c.Read(b)
		if !strings.HasPrefix(want, string(b[:n])) {
			t.Errorf("%d octets before the end came others than were asked for", len(want))
			return
		}
		if want = want[n:]; err == io.EOF {
			break
		}
		if err != nil {
			t.Error(err)
			return
		}
	}
	if want != "" {
		t.Errorf("%d octets are missing", len(want))
	}
}

// Whoever is asking while the server drains gets every answer whole, the last of
// which says that it is the last.
func TestDrainUnderLoad(t *testing.T) {
	tw := newTwin(t, Limits{}, variety)
	tw.warm(t, "GET /1")
	for range 20 {
		w := serveOptions(tw.fast.server.opt)
		var asking sync.WaitGroup
		var answered atomic.Int64
		enough := make(chan struct{})
		for i := range 8 {
			asking.Go(func() {
				c := w.dial()
				defer c.Close()
				in := bufio.NewReader(c)
				for n := 0; ; n++ {
					// Some for a loop, some for net/http.
					if _, err := io.WriteString(c, request("GET /"+strconv.Itoa(1+(n+i)%2*9), []string{"X: y", "Cache-Control: x"}[n%2])); err != nil {
						t.Error(err)
						return
					}
					a, err := http.ReadResponse(in, nil)
					if err != nil {
						t.Errorf("request %d: %v", n, err)
						return
					}
					if _, err := io.Copy(io.Discard, a.Body); err != nil {
						t.Errorf("request %d: %v", n, err)
					}
					if answered.Add(1) == 500 {
						close(enough)
					}
					if a.Close {
						return
					}
				}
			})
		}
		<-enough
		w.end(t)
		asking.Wait()
	}
}

// Those who ask for more than they read hold little memory, and their place no
// longer than is allowed; so do those who take too long over a head, and who are
// idle.
func TestPatience(t *testing.T) {
	const patience = 300 * time.Millisecond
	tw := newTwin(t, Limits{}, variety)
	clock := func() (steady, wall time.Time) { return time.Now(), time.Now() }
	tw.warm(t, "GET /6")
	w := serveOptions(Options{
		Handler: http.NotFoundHandler(), Limits: Limits{HeadTimeout: patience, IdleTimeout: patience, StallTimeout: patience},
		Standing: tw.fast.server.opt.Standing, Store: tw.store, Clock: clock,
	})
	for name, octets := range map[string]string{
		"idle": "", "half a head": "GET / HTTP/1.1\r\nHost: h\r\n", "idle after an answer": request("GET /6"),
	} {
		c := w.dial()
		if _, err := io.WriteString(c, octets); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, c); err != nil { // until it ends
			t.Errorf("%s: %v", name, err)
		}
		c.Close()
	}
	c := w.dial().(*net.TCPConn)
	defer c.Close()
	if err := c.SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	for range 100 { // 20 MB, of which the system takes some
		if _, err := io.WriteString(c, request("GET /6")); err != nil {
			break
		}
	}
	w.end(t) // which waits until nobody is left
}

// Nobody waits for a tunnel when the server drains.
func TestDrainWithATunnel(t *testing.T) {
	tunnelled := make(chan net.Conn, 1)
	tw := newTwin(t, Limits{}, variety)
	o := tw.fast.server.opt
	o.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
		}
		tunnelled <- c
	})
	w := serveOptions(o)
	c := w.dial()
	defer c.Close()
	if _, err := io.WriteString(c, request("GET /", "Connection: upgrade", "Upgrade: x")); err != nil {
		t.Fatal(err)
	}
	theirs := <-tunnelled
	begun := time.Now()
	w.end(t)
	if d := time.Since(begun); d > 10*time.Second { // of the minute that Drain had
		t.Errorf("it waited for %v", d)
	}
	go func() { _, _ = io.WriteString(theirs, "still there") }()
	b := make([]byte, 11)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "still there" {
		t.Errorf("the tunnel brought %q, %v", b, err)
	}
	theirs.Close()
}

// A client that asks for two things and says that it will not ask again gets both,
// whoever answers the first.
func TestHalfClosed(t *testing.T) {
	tw := newTwin(t, Limits{}, variety)
	tw.warm(t, "GET /1")
	for _, first := range []string{"GET /1", "OPTIONS /"} {
		c := tw.fast.dial().(*net.TCPConn)
		if _, err := io.WriteString(c, request(first)+request("GET /1")); err != nil {
			t.Fatal(err)
		}
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(c)
		if n := strings.Count(string(b), "HTTP/1.1 "); n != 2 || err != nil {
			t.Errorf("after %s: %d answers, %v", first, n, err)
		}
		c.Close()
	}
}

// Nobody keeps a loop busy, or a place for ever, with heads that do not end.
func TestEndlessHeads(t *testing.T) {
	const patience = 300 * time.Millisecond
	tw := newTwin(t, Limits{}, variety)
	o := tw.fast.server.opt
	o.Limits, o.Clock = Limits{HeadTimeout: patience, IdleTimeout: patience, StallTimeout: patience}, twoClocks
	w := serveOptions(o)
	defer w.end(t)
	for name, octets := range map[string][]string{
		"of a full buffer":      {"GET /" + strings.Repeat("a", readLen-9) + " HTT", "P"},
		"after one for another": {request("GET /1", "Cache-Control: max-age=1"), "G"},
		"of many fields":        {"GET / HTTP/1.1\r\nHost: h\r\n" + strings.Repeat("a:\r\n", 2000)},
	} {
		c := w.dial()
		in := bufio.NewReader(c)
		for i, part := range octets {
			if _, err := io.WriteString(c, part); err != nil {
				t.Fatal(err)
			}
			if i == 0 && strings.HasSuffix(part, "\r\n\r\n") {
				a, err := http.ReadResponse(in, nil)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, a.Body); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil { // a bound against hanging for ever
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, in); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a head %s is waited for", name)
		}
		c.Close()
	}
}

// What loops are sending is cut off when the time to drain is over, and Drain says so.
func TestDrainCutsOffLoops(t *testing.T) {
	tw := newTwin(t, Limits{}, variety)
	tw.warm(t, "GET /6")
	o := tw.fast.server.opt
	o.Clock = twoClocks
	w := serveOptions(o)
	c := w.dial().(*net.TCPConn)
	defer c.Close()
	if err := c.SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, strings.Repeat(request("GET /6"), 100)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := w.server.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Drain: %v", err)
	}
	select {
	case <-w.server.looped:
	default:
		t.Error("a loop goes on after Drain")
	}
	if err := <-w.served; err != nil {
		t.Error(err)
	}
}

// What stands is not answered by a loop either if the head has too many lines, or too
// many octets.
func TestFieldLimitOfLoops(t *testing.T) {
	tw := newTwin(t, Limits{Fields: 10, Head: 8 << 10}, variety)
	tw.warm(t, "GET /0", "X: 1")
	for _, fields := range [][]string{slices.Repeat([]string{"X-Y: z"}, 9), {"X-Y: " + strings.Repeat("z", 30<<10)}} {
		before := tw.replayed.Load()
		if got := tw.one(t, "GET /0", fields...); !strings.HasPrefix(got, "HTTP/1.1 431 ") || tw.replayed.Load() != before {
			t.Errorf("%d lines are answered with %s", len(fields)+2, shortened(got))
		}
	}
}
