package front

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/observe"
	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/memory"
)

// A shelf is a store whose octets are at hand only while it is open, as if they were
// on a disk.
type shelf struct {
	*memory.Store
	open    atomic.Bool
	nothing atomic.Bool // there is nothing to be read
	asked   atomic.Int64
	reading chan func() // what ends the reads that were begun
}

func (s *shelf) Lookup(ctx context.Context, key store.Key, into []store.Entry) ([]store.Entry, error) {
	if err := ctx.Err(); err != nil && !s.open.Load() {
		return into, err
	}
	return s.Store.Lookup(context.WithoutCancel(ctx), key, into)
}

func (s *shelf) AppendNow(dst []byte, key store.Key, id store.ID, rev uint32, off, n int64) ([]byte, bool) {
	if !s.open.Load() {
		return dst, false
	}
	return s.Store.AppendNow(dst, key, id, rev, off, n)
}

func (s *shelf) OpenNow(key store.Key, id store.ID, rev uint32, off, n int64) (store.Pinned, bool) {
	if !s.open.Load() {
		return nil, false
	}
	return s.Store.OpenNow(key, id, rev, off, n)
}

func (s *shelf) Prepare(_ store.Key, done func()) bool {
	if s.asked.Add(1); s.nothing.Load() {
		return false
	}
	s.reading <- done
	return true
}

// newShelf makes a twin over a shelf that is open. What its origin answers is as
// long as the path says.
func newShelf(t *testing.T, l Limits) (*twin, *shelf) {
	s := &shelf{reading: make(chan func(), 1)}
	tw := newTwin(t, l, func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(strings.Trim(r.URL.Path, "/"))
		w.Header().Set("Cache-Control", "max-age=60")
		fmt.Fprint(w, strings.Repeat("x", n))
	}, func(c *engine.Config) {
		s.Store = c.Store.(*memory.Store)
		c.Store = s
	})
	s.open.Store(true)
	return tw, s
}

// begin sends a request whose answer has to be read first, and returns what ends
// that.
func (s *shelf) begin(t *testing.T, c net.Conn, octets string) (done func()) {
	t.Helper()
	s.open.Store(false)
	if _, err := io.WriteString(c, octets); err != nil {
		t.Fatal(err)
	}
	return <-s.reading
}

// wantAnswer reads an answer with n octets.
func wantAnswer(t *testing.T, in *bufio.Reader, n int) {
	t.Helper()
	a, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(a.Body); err != nil || len(body) != n || a.StatusCode != http.StatusOK {
		t.Fatalf("status %d, %d octets of %d, %v", a.StatusCode, len(body), n, err)
	}
}

// What is on a disk is read beside the loop, and then answered by it, whatever else
// the client sends meanwhile; whether it was decided before or not.
func TestPrepared(t *testing.T) {
	tw, s := newShelf(t, Limits{})
	for _, size := range []int{0, 100, copyLen, copyLen + 1, store.PromptLen} {
		stands, stored := "GET /"+strconv.Itoa(size), "GET /"+strconv.Itoa(size)+"?"
		tw.warm(t, stands)
		objects := tw.store.Stats().Objects
		for tw.one(t, stored); tw.store.Stats().Objects == objects; {
			runtime.Gosched() // the commit may take a moment after the answer
		}
		for _, line := range []string{stored, stands} {
			c := tw.fast.dial()
			in := bufio.NewReader(c)
			before := tw.replayed.Load()
			done := s.begin(t, c, request(line))
			if _, err := io.WriteString(c, request(line)[:20]); err != nil {
				t.Fatal(err)
			}
			s.open.Store(true)
			done()
			wantAnswer(t, in, size)
			if _, err := io.WriteString(c, request(line)[20:]); err != nil {
				t.Fatal(err)
			}
			wantAnswer(t, in, size)
			c.Close()
			for late := time.Now().Add(10 * time.Second); tw.replayed.Load() < before+2; runtime.Gosched() { // told of when it was sent
				if time.Now().After(late) {
					t.Fatalf("%s: loops gave %d answers of 2", line, tw.replayed.Load()-before)
				}
			}
		}
	}
}

// What could not be brought to hand is answered the other way, once it was tried,
// or at once if there is nothing to try.
func TestNotPrepared(t *testing.T) {
	tw, s := newShelf(t, Limits{})
	tw.warm(t, "GET /100")
	before := tw.replayed.Load()
	c := tw.fast.dial()
	defer c.Close()
	in := bufio.NewReader(c)
	s.begin(t, c, request("GET /100"))()
	wantAnswer(t, in, 100)
	s.nothing.Store(true)
	asked := s.asked.Load()
	for range 5 {
		if _, err := io.WriteString(c, request("GET /100")); err != nil {
			t.Fatal(err)
		}
		wantAnswer(t, in, 100)
	}
	if tw.replayed.Load() != before {
		t.Error("a loop has answered with what is not at hand")
	}
	if n := s.asked.Load() - asked; n > 1 {
		t.Errorf("it was tried %d times in vain", n)
	}
}

// targets is an observe.Sink that remembers what was asked for.
type targets struct {
	mu  sync.Mutex
	got []string
}

func (s *targets) Observe(e *observe.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, fmt.Sprint(e.Target, " ", e.Sent))
}

// What is told of an answer that takes long is told of that one, whatever the loop
// decides meanwhile.
func TestLongAnswersAreToldOf(t *testing.T) {
	const size = 8_000_000
	tw, _ := newShelf(t, Limits{})
	for _, path := range []string{"/8000000", "/100", "/200"} {
		objects := tw.store.Stats().Objects
		for tw.one(t, "GET "+path); tw.store.Stats().Objects == objects; {
			runtime.Gosched() // the commit may take a moment after the answer
		}
	}
	o, log := tw.fast.server.opt, &targets{}
	o.Sink = log
	w := serveOptions(o)
	var slow []net.Conn
	for range 2 * runtime.NumCPU() { // on each loop
		c := w.dial()
		defer c.Close()
		if err := c.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, request("GET /8000000", "Connection: close")); err != nil {
			t.Fatal(err)
		}
		slow = append(slow, c)
	}
	for range 2 * runtime.NumCPU() {
		for _, n := range []int{100, 200} {
			c := w.dial()
			if _, err := io.WriteString(c, request("GET /"+strconv.Itoa(n), "X-Nothing: decides this")); err != nil {
				t.Fatal(err)
			}
			wantAnswer(t, bufio.NewReader(c), n)
			c.Close()
		}
	}
	for _, c := range slow {
		wantAnswer(t, bufio.NewReaderSize(c, 1<<20), size)
		c.Close()
	}
	w.end(t)
	long := 0
	for _, got := range log.got {
		if got == fmt.Sprint("/8000000 ", size) {
			long++
		}
	}
	if long != len(slow) {
		t.Errorf("told of %q", log.got)
	}
}

// A client that leaves while something is read for it gives its place back then,
// and not before: its descriptor must not become another's.
func TestPreparedForNobody(t *testing.T) {
	tw, s := newShelf(t, Limits{Conns: 1})
	tw.warm(t, "GET /100")
	for range 10 {
		c := tw.fast.dial()
		done := s.begin(t, c, request("GET /100"))
		c.Close()
		next := tw.fast.dial() // and waits for the place
		s.open.Store(true)
		done()
		if _, err := io.WriteString(next, request("GET /100")); err != nil {
			t.Fatal(err)
		}
		wantAnswer(t, bufio.NewReader(next), 100)
		next.Close()
	}
}

// Drain waits for what is being read.
func TestDrainWhilePreparing(t *testing.T) {
	tw, s := newShelf(t, Limits{})
	tw.warm(t, "GET /100")
	w := serveOptions(tw.fast.server.opt)
	c := w.dial()
	done := s.begin(t, c, request("GET /100"))
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		w.end(t)
	}()
	<-w.server.closing
	w.server.wake()
	s.open.Store(true)
	done()
	wantAnswer(t, bufio.NewReader(c), 100)
	c.Close()
	<-drained
}
