package observe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2026, 7, 1, 12, 0, 0, 250_000_000, time.UTC)

// everyOctet puts s into each field that a peer has a part in.
func everyOctet(s string) *Event {
	return &Event{
		Start: noon, Duration: 1234567 * time.Nanosecond, Client: s, Method: s, Host: s, Target: s, Proto: s,
		Status: 200, Sent: 5, Forward: "stale", ForwardStatus: 304, TTL: -3, HasTTL: true, Stored: true, Collapsed: true,
		Why: s, Fault: errors.New(s),
	}
}

// One request is one line of valid JSON or of printable text, whatever octets
// the peer sent (SS-10, R-33).
func TestEveryOctet(t *testing.T) {
	for c := range 256 {
		for _, s := range []string{string([]byte{byte(c)}), "a" + string([]byte{byte(c)}) + "b", strings.Repeat(string([]byte{byte(c)}), 64<<10)} {
			checkLines(t, s)
		}
	}
	for _, s := range []string{"", "é", "\u202e", "\u0085", "😀", "\xed\xa0\x80", "\xf4\x90\x80\x80", strings.Repeat("😀", 9999), `\`, `"`} {
		checkLines(t, s)
	}
}

func FuzzLines(f *testing.F) {
	f.Add("GET")
	f.Add("\x1b[2J\r\n\x00\xff\"\\")
	f.Fuzz(checkLines)
}

func checkLines(t *testing.T, s string) {
	t.Helper()
	e := everyOctet(s)
	line := e.AppendJSON(nil)
	var got map[string]any
	if err := json.Unmarshal(line, &got); err != nil {
		t.Fatalf("%.20q: %v in %.200q", s, err, line)
	}
	for _, name := range []string{"client", "method", "host", "target", "proto", "why", "error"} {
		if v, ok := got[name].(string); len(v) > maxField || ok == (s == "") && name == "why" || s != "" && v == "" {
			t.Fatalf("%.20q: %s is %.200q", s, name, v)
		}
	}
	for kind, line := range map[string][]byte{"JSON": line, "text": e.AppendText(nil)} {
		if len(line) > maxLine || bytes.IndexByte(line, '\n') != len(line)-1 {
			t.Fatalf("%.20q: %s is no line: %.200q", s, kind, line)
		}
		for _, c := range line[:len(line)-1] {
			if c < ' ' || c > '~' {
				t.Fatalf("%.20q: %s has octet %#x: %.200q", s, kind, c, line)
			}
		}
	}
}

// What is plain comes back as it was.
func TestJSON(t *testing.T) {
	e := &Event{
		Start: noon, Duration: 1234567 * time.Nanosecond, Client: "192.0.2.1:1234", Method: "GET", Host: "example.org",
		Target: "/a?b=\"c\"", Proto: "HTTP/1.1", Status: 200, Sent: 5, Hit: true, TTL: 59, HasTTL: true, Why: "fresh",
	}
	const want = `{"time":"2026-07-01T12:00:00.250Z","client":"192.0.2.1:1234","method":"GET","host":"example.org",` +
		`"target":"/a?b=\"c\"","proto":"HTTP/1.1","status":200,"bytes":5,"duration_ms":1.234,"cache":"hit","hit":true,"ttl":59,"why":"fresh"}` + "\n"
	if got := string(e.AppendJSON(nil)); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	e = everyOctet("x")
	const more = `"cache":"joined","fwd":"stale","fwd_status":304,"ttl":-3,"stored":true,"collapsed":true,"why":"x","error":"x"}`
	if got := string(e.AppendJSON(nil)); !strings.Contains(got, more) {
		t.Errorf("got\n%swant in it\n%s", got, more)
	}
}

func TestText(t *testing.T) {
	for _, test := range []struct {
		event Event
		want  string
	}{
		{
			Event{Method: "GET", Target: "/", Status: 200, Sent: 436, Duration: 225 * time.Microsecond, Hit: true, HasTTL: true, TTL: 4, Why: "fresh (RFC 9111 4.2)"},
			"12:00:00.250  200  hit      GET   /                            436 B   0.23 ms  fresh (RFC 9111 4.2)\n",
		},
		{
			Event{Method: "OPTIONS", Target: "/a b", Status: 502, Sent: 5 << 20, Duration: 83 * time.Second, Fault: errors.New("down\nand out")},
			"12:00:00.250  502  error    OPTIONS  /a\\x20b                   5.00 MiB    83.0 s  down\\x0aand out\n",
		},
		{
			Event{Duration: 300 * time.Minute, Why: "no HTTP"},
			"12:00:00.250  ---  -        -     -                              0 B   300 min  no HTTP\n",
		},
	} {
		test.event.Start = noon
		if got := string(test.event.AppendText(nil)); got != test.want {
			t.Errorf("got\n%swant\n%s", got, test.want)
		}
	}
}

func TestSizes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.00 KiB", 10234: "9.99 KiB", 10240: "10.0 KiB", 1022976: "999 KiB", 1023488: "0.98 MiB",
		1 << 30: "1.00 GiB", 1<<63 - 1: "8.00 EiB",
	} {
		if got := string(appendSize(nil, n)); got != want {
			t.Errorf("%d octets are %s, want %s", n, got, want)
		}
	}
}

func TestWord(t *testing.T) {
	for want, e := range map[string]Event{
		"hit": {Hit: true, HasTTL: true}, "stale": {Hit: true, HasTTL: true, TTL: -1}, "miss": {Forward: "uri-miss"},
		"pass": {Forward: "method"}, "reload": {Forward: "request"}, "partial": {Forward: "partial"},
		"renewed": {Forward: "stale", ForwardStatus: http.StatusNotModified}, "expired": {Forward: "stale", ForwardStatus: 200},
		"joined": {Forward: "uri-miss", Collapsed: true}, "error": {Fault: errors.New("x")}, "-": {},
	} {
		if got := e.Word(); got != want {
			t.Errorf("%+v is %q, want %q", e, got, want)
		}
	}
}

// gate is a writer that waits until it is opened.
type gate struct {
	mu      sync.Mutex
	open    chan struct{}
	entered chan struct{}
	once    sync.Once
	got     bytes.Buffer
}

func newGate() *gate { return &gate{open: make(chan struct{}), entered: make(chan struct{})} }

func (g *gate) Write(p []byte) (int, error) {
	g.once.Do(func() { close(g.entered) })
	<-g.open
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.got.Write(p)
}

// A writer that does not take lines costs lines, never a request (DOS-23), and
// the log says how many.
func TestDropped(t *testing.T) {
	for _, format := range []Format{Text, JSON} {
		g := newGate()
		l := NewLog(g, format)
		e := everyOctet("x")
		l.Observe(e)
		<-g.entered
		const n = 60000
		for range n {
			l.Observe(e) // would never return if it waited for g
		}
		dropped := l.Dropped()
		if dropped == 0 || dropped == n {
			t.Fatalf("%d of %d lines were dropped", dropped, n)
		}
		close(g.open)
		if err := l.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		out := g.got.String()
		lines := strings.Count(out, "\n")
		if want := n + 1 - int(dropped) + 1; lines != want {
			t.Errorf("%d lines were written, want %d", lines, want)
		}
		if !strings.Contains(out, fmt.Sprint(dropped)) {
			t.Errorf("nothing says that %d lines are missing: …%s", dropped, out[len(out)-200:])
		}
	}
}

// Close does not wait for a writer longer than it is told to.
func TestCloseGivesUp(t *testing.T) {
	g := newGate()
	l := NewLog(g, Text)
	l.Observe(everyOctet("x"))
	<-g.entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Close: %v", err)
	}
	close(g.open)
	if err := l.Close(t.Context()); err != nil {
		t.Errorf("Close: %v", err)
	}
	l.Observe(everyOctet("x")) // nobody is told, nothing happens
	if n := strings.Count(g.got.String(), "\n"); n != 1 {
		t.Errorf("%d lines were written, want 1", n)
	}
}

// full is a disk that is full for the first writes.
type full struct {
	left int // writes that fail
	got  bytes.Buffer
	more chan struct{}
}

func (f *full) Write(p []byte) (int, error) {
	defer func() { f.more <- struct{}{} }()
	if f.left--; f.left >= 0 {
		n := len(p) / 2
		f.got.Write(p[:n])
		return n, errors.New("disk full")
	}
	return f.got.Write(p)
}

// After a failure the next line begins on a line of its own.
func TestWriterFails(t *testing.T) {
	f := &full{left: 1, more: make(chan struct{}, 10)}
	l := NewLog(f, JSON)
	e := everyOctet("x")
	l.Observe(e)
	<-f.more
	l.Observe(e)
	<-f.more
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if l.Dropped() != 1 {
		t.Errorf("%d lines count as dropped, want 1", l.Dropped())
	}
	lines := strings.Split(strings.TrimSuffix(f.got.String(), "\n"), "\n")
	for _, line := range lines[1:] {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
	if !strings.Contains(f.got.String(), `"dropped":1}`) {
		t.Errorf("nothing says that a line is missing: %s", f.got.String())
	}
}

func TestManyWriters(t *testing.T) {
	var got bytes.Buffer
	l := NewLog(&got, JSON)
	var all sync.WaitGroup
	const n, each = 8, 200
	for range n {
		all.Go(func() {
			for range each {
				l.Observe(everyOctet("x"))
			}
		})
	}
	all.Wait()
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if lines := bytes.Count(got.Bytes(), []byte("\n")); lines != n*each || l.Dropped() != 0 {
		t.Errorf("%d lines, %d dropped, want %d", lines, l.Dropped(), n*each)
	}
}

// What is gathered in batches comes as a whole, once, and what finds no room is
// counted.
func TestBatches(t *testing.T) {
	var got bytes.Buffer
	l := NewLog(&got, JSON)
	var all sync.WaitGroup
	const n, each = 8, 500
	for range n {
		all.Go(func() {
			b := l.Batch()
			for i := range each {
				if b.Observe(everyOctet("x")); i%7 == 0 {
					b.Flush()
				}
			}
			b.Flush()
			b.Flush() // nothing
		})
	}
	all.Wait()
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(got.String(), "\n"), "\n")
	if uint64(len(lines))+l.Dropped() < n*each || l.Dropped() == 0 && len(lines) != n*each {
		t.Errorf("%d lines, %d dropped, want %d", len(lines), l.Dropped(), n*each)
	}
	for _, line := range lines {
		if !json.Valid([]byte(line)) {
			t.Fatalf("not JSON: %s", line)
		}
	}

	gate, wrote := make(chan struct{}), make(chan int, 1000)
	l = NewLog(writerFunc(func(p []byte) (int, error) {
		<-gate
		wrote <- bytes.Count(p, []byte("\n")) - bytes.Count(p, []byte(`"dropped":`))
		return len(p), nil
	}), JSON)
	b := l.Batch()
	given := 0
	for ; l.Dropped() == 0; given++ {
		b.Observe(everyOctet("x"))
	}
	b.Flush()
	close(gate)
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(wrote)
	written := 0
	for n := range wrote {
		written += n
	}
	if written+int(l.Dropped()) != given || written == 0 {
		t.Errorf("%d written, %d dropped of %d", written, l.Dropped(), given)
	}
	b.Observe(everyOctet("x"))
	b.Flush() // after Close: nothing happens
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func BenchmarkObserve(b *testing.B) {
	e := &Event{
		Start: noon, Duration: 225 * time.Microsecond, Client: "192.0.2.1:12345", Method: "GET", Host: "www.example.org",
		Target: "/images/logo.png?v=12", Proto: "HTTP/1.1", Status: 200, Sent: 4096, Hit: true, TTL: 59, HasTTL: true, Why: "fresh (RFC 9111 4.2)",
	}
	for name, write := range map[string]func([]byte) []byte{"text": e.AppendText, "json": e.AppendJSON} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var line []byte
			for b.Loop() {
				line = write(line[:0])
			}
		})
	}
	b.Run("log", func(b *testing.B) {
		l := NewLog(discard{}, JSON)
		b.ReportAllocs()
		for b.Loop() {
			l.Observe(e)
		}
		if err := l.Close(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(l.Dropped())/float64(b.N), "dropped/op")
	})
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
