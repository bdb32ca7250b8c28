package front

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/standing"
)

// A pipes is a listener without a network.
type pipes struct{ *queue }

func newPipes() pipes { return pipes{newQueue()} }

// dial returns the client's end of a connection that was accepted.
func (p pipes) dial() net.Conn {
	ours, theirs := net.Pipe()
	p.conns <- theirs
	return ours
}

// byLoops says that serve makes worlds with a network, where the system has loops
// for them. TestMain runs all tests both ways.
var byLoops bool

// A world is a Server that runs, and where to reach it.
type world struct {
	dial   func() net.Conn // the client's end of a new connection
	server *Server
	served chan error
}

func serve(h http.HandlerFunc, l Limits, refused func(client, why string)) *world {
	if byLoops {
		return serveOptions(Options{Handler: h, Limits: l, Refused: reasons(refused), Standing: standing.New(nil), Clock: twoClocks})
	}
	return piped(h, l, refused)
}

// piped makes a world without a network, whose time may be a bubble's.
func piped(h http.HandlerFunc, l Limits, refused func(client, why string)) *world {
	return serveOptions(Options{Handler: h, Limits: l, Refused: reasons(refused)})
}

// reasons has refused told of reasons alone.
func reasons(refused func(client, why string)) func(client string, status int, why string) {
	return func(client string, _ int, why string) {
		if refused != nil {
			refused(client, why)
		}
	}
}

func twoClocks() (steady, wall time.Time) {
	now := time.Now()
	return now, now
}

// serveOptions makes a world with a network if o has what loops need; portable ones
// do without all the same.
func serveOptions(o Options, portable ...bool) *world {
	w := &world{server: New(o), served: make(chan error, 1)}
	if o.Standing == nil {
		pipes := newPipes()
		w.dial = pipes.dial
		go func() { w.served <- w.server.Serve(pipes) }()
		return w
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	w.dial = func() net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			panic(err)
		}
		return c
	}
	served := l
	if len(portable) > 0 && portable[0] {
		served = struct{ net.Listener }{l} // which is none for TCP, as far as anybody can see
	}
	go func() { w.served <- w.server.Serve(served) }()
	return w
}

// end drains the server, which must have nothing left to do.
func (w *world) end(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	if err := w.server.Drain(ctx); err != nil {
		t.Errorf("Drain: %v", err)
	}
	if err := <-w.served; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// say writes in pieces of n octets, and returns all that is answered until the
// connection ends.
func say(t *testing.T, c net.Conn, n int, octets string) []*http.Response {
	t.Helper()
	var writing sync.WaitGroup
	writing.Go(func() {
		for len(octets) > 0 {
			k := min(n, len(octets))
			if _, err := io.WriteString(c, octets[:k]); err != nil {
				return // refused
			}
			octets = octets[k:]
		}
	})
	answers := hear(t, c)
	c.Close()
	writing.Wait()
	return answers
}

func hear(t *testing.T, c io.Reader) (answers []*http.Response) {
	t.Helper()
	r := bufio.NewReader(c)
	for {
		if _, err := r.Peek(1); err != nil {
			return answers
		}
		a, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Errorf("answer %d: %v", len(answers), err)
			return answers
		}
		if _, err := io.Copy(io.Discard, a.Body); err != nil {
			t.Errorf("answer %d: %v", len(answers), err)
			return answers
		}
		answers = append(answers, a)
	}
}
