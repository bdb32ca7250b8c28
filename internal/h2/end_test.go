package h2

import (
	"context"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Whatever state a stream is in when its client gives it up, its Handler hears of it, and the
// next request is answered.
func TestResetByClient(t *testing.T) {
	for name, test := range map[string]struct {
		end     bool
		handler func(w http.ResponseWriter, r *http.Request) error
		before  func(c *client)
	}{
		"running": {true, func(_ http.ResponseWriter, r *http.Request) error { <-r.Context().Done(); return r.Context().Err() }, nil},
		"reading": {false, func(_ http.ResponseWriter, r *http.Request) error { _, err := io.ReadAll(r.Body); return err }, nil},
		"writing": {true, func(w http.ResponseWriter, _ *http.Request) error {
			_, err := io.WriteString(w, text(100_000))
			return err
		}, func(c *client) {
			c.until("the window is full", func() bool { return len(c.of(1).body) == defaultWindow })
		}},
		"flushed": {true, func(w http.ResponseWriter, r *http.Request) error {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			_, err := io.WriteString(w, text(100_000))
			return err
		}, func(c *client) { c.until("the head is there", func() bool { return c.of(1).status == 200 }) }},
	} {
		t.Run(name, func(t *testing.T) {
			fault := make(chan error, 1)
			began := make(chan struct{}, 1)
			c := dial(t, options(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/1" {
					began <- struct{}{}
					fault <- test.handler(w, r)
				}
			}))
			c.credit = false
			c.ask(1, test.end, "POST", "/1")
			<-began
			if test.before != nil {
				test.before(c)
			}
			c.must(c.fr.WriteRSTStream(1, http2.ErrCodeCancel))
			if err := <-fault; err == nil {
				t.Error("its Handler noticed nothing")
			}
			c.get(3, "/3")
			c.answer(3).wants(t, 200, "")
			if a := c.of(1); a.over() {
				t.Errorf("a stream that was given up was ended again: whole %v, reset %v", a.whole, a.reset)
			}
		})
	}
}

// A Body is closed once, whatever ends its stream.
func TestBodiesClosed(t *testing.T) {
	for name, end := range map[string]func(c *client, f *shelf){
		"sent":   func(c *client, _ *shelf) { c.must(c.fr.WriteWindowUpdate(0, 1<<20)); c.answer(1) },
		"reset":  func(c *client, _ *shelf) { c.must(c.fr.WriteRSTStream(1, http2.ErrCodeCancel)); c.pong() },
		"closed": func(c *client, _ *shelf) { _ = c.nc.Close() },
		"not ours": func(c *client, _ *shelf) {
			c.must(c.fr.WriteData(1, true, nil))
			c.answer(1).wasReset(c.t, http2.ErrCodeStreamClosed)
		},
		"not HTTP2": func(c *client, _ *shelf) { c.must(c.fr.WriteWindowUpdate(0, 0)); c.gone() },
	} {
		t.Run(name, func(t *testing.T) {
			f := &shelf{bodies: map[string][]byte{"/f": []byte(text(200_000))}}
			c := begin(t, f.prompt(options(nil)))
			c.credit = false
			c.preface(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
			c.get(1, "/f")
			c.until("the window is full", func() bool { return len(c.of(1).body) == defaultWindow })
			end(c, f)
			c.end()
			if f.open != 0 || len(f.ended) != 1 || (f.ended[0] == nil) != (name == "sent") {
				t.Errorf("%d bodies are open; one was closed for %v", f.open, f.ended)
			}
		})
	}
}

// A Body that cannot be read to its end does not look as if it could, and hears why.
func TestBodyBroken(t *testing.T) {
	f := &shelf{bodies: map[string][]byte{"/f": []byte(text(50_000))}, broken: true}
	c := dial(t, f.prompt(options(nil)))
	c.get(1, "/f")
	c.answer(1).wasReset(t, http2.ErrCodeInternal)
	c.pong()
	if len(f.ended) != 1 || f.ended[0] != errBody {
		t.Errorf("it was closed for %v", f.ended)
	}
}

// Frames on streams that are over for us alone are nothing wrong, also when all streams were
// reset at once: clients send what they have begun before they know.
func TestLateFrames(t *testing.T) {
	c := dial(t, options(func(http.ResponseWriter, *http.Request) {})) // which reads no content
	for id := uint32(1); id < 2*Streams; id += 2 {
		c.ask(id, false, "POST", "/")
	}
	for id := uint32(1); id < 2*Streams; id += 2 {
		c.until("it is answered and reset", func() bool { return c.of(id).reset })
	}
	for range 4 {
		for id := uint32(1); id < 2*Streams; id += 2 {
			c.must(c.fr.WriteData(id, false, []byte("late")))
			c.must(c.fr.WriteWindowUpdate(id, 1))
		}
	}
	for id := uint32(1); id < 2*Streams; id += 2 {
		c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndStream: true, EndHeaders: true, BlockFragment: c.head("x", "y")}))
	}
	c.get(2*Streams+1, "/")
	c.answer(2*Streams+1).wants(t, 200, "")
	if len(c.goAway) > 0 {
		t.Errorf("the connection ended for %v", c.goAway)
	}
}

// drain has the Server drain, and takes its first GOAWAY in.
func (c *client) drain() (drained chan error, cut context.CancelFunc) {
	c.t.Helper()
	ctx, cut := context.WithCancel(context.Background())
	drained = make(chan error, 1)
	go func() { drained <- c.s.Drain(ctx) }()
	c.until("it goes away", func() bool { return len(c.goAway) > 0 })
	if last := c.goAway[0].last; last != highestStream {
		c.t.Errorf("the first GOAWAY is for all after %d", last)
	}
	return drained, cut
}

func (c *client) ackDrain() { _ = c.fr.WritePing(true, leaving) } // it may be over already

// A drain has all be answered that was asked, also what crosses the first GOAWAY, and then
// the connection ends.
func TestDrain(t *testing.T) {
	hold := make(gate)
	c := dial(t, options(func(w http.ResponseWriter, r *http.Request) {
		if hold.pass(r) {
			_, _ = io.WriteString(w, "whole")
		}
	}))
	c.get(1, "/")
	c.pong()
	drained, cut := c.drain()
	defer cut()
	c.get(3, "/")
	c.ackDrain()
	c.until("it says what is the last", func() bool { return len(c.goAway) > 1 })
	if last := c.goAway[1].last; last != 3 {
		t.Errorf("the last request that is answered is said to be %d", last)
	}
	close(hold)
	c.answer(1).wants(t, 200, "whole")
	c.answer(3).wants(t, 200, "whole")
	if err := <-drained; err != nil {
		t.Error(err)
	}
	if e := c.gone(); e.code != http2.ErrCodeNo {
		t.Errorf("the connection ended with %v", e.code)
	}
}

// Requests that come after the last GOAWAY was sent are nobody's, with all that belongs to
// them, and do no harm to those that are answered.
func TestDrainTooLate(t *testing.T) {
	hold := make(gate)
	var asked atomic.Int32
	c := dial(t, options(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if hold.pass(r) {
			_, _ = io.WriteString(w, "whole")
		}
	}))
	c.get(1, "/")
	c.pong()
	drained, cut := c.drain()
	defer cut()
	c.ackDrain()
	c.until("it says what is the last", func() bool { return len(c.goAway) > 1 })
	c.ask(3, false, "POST", "/")
	c.must(c.fr.WriteData(3, false, []byte("late")))
	c.must(c.fr.WriteWindowUpdate(3, 1))
	c.must(c.fr.WriteRSTStream(3, http2.ErrCodeCancel))
	c.pong()
	close(hold)
	c.answer(1).wants(t, 200, "whole")
	if err := <-drained; err != nil || asked.Load() != 1 {
		t.Errorf("%v; %d requests were handled", err, asked.Load())
	}
}

// A drain that takes too long cuts off what runs, and says so.
func TestDrainCut(t *testing.T) {
	heard := make(chan struct{})
	c := dial(t, options(func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		close(heard)
	}))
	c.get(1, "/")
	c.pong()
	drained, cut := c.drain()
	cut()
	if err := <-drained; err != context.Canceled {
		t.Error(err)
	}
	<-heard
	c.gone()
}

// The server's settings come first, also when it is about to go.
func TestDrainAtOnce(t *testing.T) {
	o := options(nil)
	o.Prompt = func(string, *tls.ConnectionState) Prompt { return nil }
	s := New(o)
	here, _ := net.Pipe()
	c := newConn(s, here, nil)
	c.writing = true // nothing goes out
	c.drain()
	if h := readFrameHeader(c.out); h.kind != frameSettings {
		t.Errorf("the first frame is %+v", h)
	}
}

// A client that never answers is not waited for.
func TestDrainWithoutAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dial(t, options(nil))
		began := time.Now()
		drained, cut := c.drain()
		defer cut()
		if err := <-drained; err != nil || time.Since(began) > 2*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// A stall is one of these, on its own in a bubble. It returns how long it took until the
// server gave up.
func stall(t *testing.T, o Options, what func(c *client) (over func() bool)) (took time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		c := begin(t, o)
		c.credit = false
		over := what(c)
		began := time.Now()
		for !over() {
			time.Sleep(tick)
			synctest.Wait()
			c.settle()
			if took = time.Since(began); took > time.Hour {
				t.Fatal("nobody gives up")
			}
		}
	})
	return took
}

func (c *client) isClosed() bool {
	select {
	case <-c.served:
		return true
	default:
		return false
	}
}

// Nobody is waited for longer than the limits say: with a head, with content, with windows.
func TestStalls(t *testing.T) {
	read := func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			w.WriteHeader(http.StatusRequestTimeout)
		}
	}
	drip := func(c *client, each time.Duration, p []byte) {
		go func() {
			for {
				if _, err := c.nc.Write(p); err != nil {
					return
				}
				select {
				case <-time.After(each):
				case <-c.served:
					return
				}
			}
		}()
	}
	one := []byte{0, 0, 1, frameData, 0, 0, 0, 0, 1, 'x'}
	for name, test := range map[string]struct {
		what   func(c *client) func() bool
		within time.Duration
	}{
		"no Preface": {func(c *client) func() bool { return c.isClosed }, 10 * time.Second},
		"half a Preface": {func(c *client) func() bool {
			c.raw([]byte(Preface)[:15])
			return c.isClosed
		}, 10 * time.Second},
		"half a head": {func(c *client) func() bool {
			c.preface()
			c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.head(":method", "GET"), EndStream: true}))
			return c.isClosed
		}, 10 * time.Second},
		"a head in small pieces": {func(c *client) func() bool {
			c.preface()
			c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.head(":method", "GET"), EndStream: true}))
			drip(c, 3*time.Second, []byte{0, 0, 1, frameContinuation, 0, 0, 0, 0, 1, 0x82})
			return c.isClosed
		}, 10 * time.Second},
		"nothing asked": {func(c *client) func() bool {
			c.preface()
			return c.isClosed
		}, 120 * time.Second},
		"nothing but PINGs": {func(c *client) func() bool {
			c.preface()
			drip(c, time.Second, []byte{0, 0, 8, framePing, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8})
			return c.isClosed
		}, 120 * time.Second},
		"no content": {func(c *client) func() bool {
			c.preface()
			c.ask(1, false, "POST", "/")
			return func() bool { return c.of(1).status == http.StatusRequestTimeout }
		}, 60 * time.Second},
		"little content": {func(c *client) func() bool {
			c.preface()
			c.ask(1, false, "POST", "/")
			drip(c, 500*time.Millisecond, one)
			return func() bool { return c.of(1).status == http.StatusRequestTimeout }
		}, 60 * time.Second},
		"no content any more": {func(c *client) func() bool {
			c.preface()
			c.ask(1, false, "POST", "/")
			for range 4 {
				c.must(c.fr.WriteData(1, false, make([]byte, frameLen)))
			}
			return func() bool { return c.of(1).status == http.StatusRequestTimeout }
		}, 120 * time.Second},
		"no window": {func(c *client) func() bool {
			c.preface(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
			c.get(1, "/f")
			return func() bool { return c.of(1).reset }
		}, 60 * time.Second},
		"a small window": {func(c *client) func() bool {
			c.preface(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
			c.get(1, "/f")
			drip(c, time.Second, []byte{0, 0, 4, frameWindowUpdate, 0, 0, 0, 0, 1, 0, 0, 0, 200})
			return func() bool { return c.of(1).reset }
		}, 60 * time.Second},
		"no window of the connection": {func(c *client) func() bool {
			c.preface(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
			c.get(1, "/f")
			c.get(3, "/f")
			return func() bool { return c.of(1).reset && c.of(3).reset }
		}, 120 * time.Second}, // after the first 64 KiB
	} {
		t.Run(name, func(t *testing.T) {
			f := &shelf{bodies: map[string][]byte{"/f": []byte(text(200_000))}}
			took := stall(t, f.prompt(options(read)), test.what)
			if slack := time.Second; took < min(test.within, 60*time.Second)-slack || took > test.within+slack {
				t.Errorf("given up after %v; the limit is %v", took, test.within)
			}
			if f.open != 0 {
				t.Errorf("%d bodies are open", f.open)
			}
		})
	}
}

// Who takes and sends as much as is wanted is waited for, however long it takes; also for what
// has its turn later.
func TestSlowAndSteady(t *testing.T) {
	const most = 3 << 20
	f := &shelf{bodies: map[string][]byte{"/f": []byte(text(most))}}
	synctest.Test(t, func(t *testing.T) {
		c := begin(t, f.prompt(options(echo)))
		c.credit = false
		c.preface(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 16 << 20})
		c.get(1, "/f")
		c.get(3, "/f") // which is not sent before the first one is
		c.ask(5, false, "POST", "/")
		for n := 0; !c.of(3).over() && !c.of(1).reset; n++ {
			c.must(c.fr.WriteWindowUpdate(0, 10_000))
			if n < 600 {
				c.must(c.fr.WriteData(5, n == 599, make([]byte, 300)))
			}
			time.Sleep(time.Second)
			synctest.Wait()
			c.settle()
		}
		c.must(c.fr.WriteWindowUpdate(0, 1<<20))
		c.answer(1).wants(t, 200, text(most))
		c.answer(3).wants(t, 200, text(most))
		c.answer(5).wants(t, 200, strings.Repeat("\x00", 600*300))
	})
}

// A client is not taken for one that does not finish its head as long as it is us who keep the
// rest of it waiting.
func TestSlowReader(t *testing.T) {
	f := &shelf{bodies: map[string][]byte{"/f": []byte(text(frameLen))}}
	synctest.Test(t, func(t *testing.T) {
		o := f.prompt(options(nil))
		here, there := net.Pipe()
		s := New(o)
		served := make(chan struct{})
		go func() { defer close(served); s.Serve(there, nil) }()
		c := &client{t: t}
		c.enc = hpack.NewEncoder(&c.block)
		asked := []byte(Preface)
		asked = append(appendFrameHeader(asked, settingLen, frameSettings, 0, 0), appendSetting(nil, settingWindow, 1<<20)...)
		asked = appendWindowUpdate(asked, 0, 1<<24)
		const n = 30
		for id := uint32(1); id < 2*n; id += 2 {
			asked = appendHeaders(asked, id, c.head(":method", "GET", ":scheme", "http", ":authority", "h", ":path", "/f"), true)
		}
		go func() { _, _ = here.Write(asked) }()
		octets := 0
		for b := make([]byte, frameLen); octets < n*frameLen; {
			m, err := here.Read(b)
			if octets += m; err != nil {
				t.Fatalf("given up after %d octets: %v", octets, err)
			}
			time.Sleep(time.Second) // so it takes half a minute
		}
		_ = here.Close()
		<-served
		if err := s.Drain(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// A slowClosing connection takes its time to close, as TLS does whose client takes nothing.
type slowClosing struct {
	net.Conn
	hold   chan struct{}
	broken bool // nothing can be written
}

func (c slowClosing) Write(p []byte) (int, error) {
	if c.broken {
		return 0, os.ErrDeadlineExceeded
	}
	return c.Conn.Write(p)
}

func (c slowClosing) Close() error {
	<-c.hold
	return c.Conn.Close()
}

// Nobody waits for a connection to be closed who has others to look after.
func TestSlowClosing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(options(nil))
		hold, left := make(chan struct{}), make(chan bool, 16)
		for i := range cap(left) {
			here, there := net.Pipe()
			go func() { _, _ = io.Copy(io.Discard, here) }()
			slow := i%2 == 0
			if slow {
				there = slowClosing{there, hold, i%4 == 0}
			}
			go func() {
				s.Serve(there, nil)
				left <- slow
			}()
		}
		time.Sleep(15 * time.Second) // none has a preface
		synctest.Wait()
		if n := len(left); n != cap(left)/2 {
			t.Errorf("%d of %d connections have ended", n, cap(left))
		}
		ctx, cut := context.WithCancel(context.Background())
		cut()
		if err := s.Drain(ctx); err != context.Canceled {
			t.Error(err)
		}
		close(hold)
		for range cap(left) {
			<-left
		}
	})
}

// Many ask at once, and some give up, at any moment, each answer that
// seems whole is, and who does not give up has one.
func TestStorm(t *testing.T) {
	f := &shelf{bodies: map[string][]byte{}} // each connection has one of its own
	for _, n := range []int{0, 1, 1000, frameLen, 100_000} {
		f.bodies["/"+strconv.Itoa(n)] = []byte(text(n))
	}
	o := options(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, text(int(n)))
	})
	o.Prompt = func(string, *tls.ConnectionState) Prompt { return &shelf{bodies: f.bodies} }
	addr := serveLoopback(t, o)
	c := clear2(t)
	var asking sync.WaitGroup
	var whole atomic.Int32
	for seed := range uint64(20) {
		asking.Go(func() {
			rng := rand.New(rand.NewPCG(seed, 9))
			for range 100 {
				ctx, cancel := context.WithCancel(t.Context())
				n := []int{0, 1, 1000, frameLen, 100_000}[rng.IntN(5)]
				method, body := "GET", io.Reader(nil)
				if rng.IntN(2) == 0 {
					method, body = "POST", strings.NewReader(text(n))
				}
				r, err := http.NewRequestWithContext(ctx, method, "http://"+addr+"/"+strconv.Itoa(n), body)
				if err != nil {
					t.Error(err)
				}
				if rng.IntN(8) == 0 {
					pause := rng.IntN(1000)
					go func() {
						for range pause {
							runtime.Gosched()
						}
						cancel()
					}()
				}
				answer, err := c.Do(r)
				if err == nil {
					var all []byte
					all, err = io.ReadAll(answer.Body)
					_ = answer.Body.Close()
					if err == nil && string(all) != text(n) {
						t.Errorf("%s %d: %d octets", method, n, len(all))
					}
				}
				if err == nil {
					whole.Add(1)
				} else if ctx.Err() == nil {
					t.Errorf("%s %d: %v", method, n, err)
				}
				cancel()
			}
		})
	}
	asking.Wait()
	if n := whole.Load(); n < 1500 {
		t.Errorf("%d of 2000 were answered", n)
	}
}

// When all is over no goroutine is left.
func TestNoGoroutines(t *testing.T) {
	before := goleak.IgnoreCurrent()
	for range 5 {
		hold := make(gate)
		c := dial(t, options(func(w http.ResponseWriter, r *http.Request) {
			hold.pass(r)
			_, _ = io.WriteString(w, text(100_000))
		}))
		c.credit = false
		for id := uint32(1); id < 50; id += 2 {
			c.ask(id, id%4 == 1, "POST", "/")
		}
		c.pong()
		close(hold)
		c.end()
	}
	goleak.VerifyNone(t, before)
}
