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
)

// A pipes is a listener without a network.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// dial returns the client's end of a connection that was accepted.
func (p *pipes) dial() net.Conn {
	ours, theirs := net.Pipe()
	p.conns <- theirs
	return ours
}

// A world is a Server that runs, and where to reach it.
type world struct {
	*pipes
	server *Server
	served chan error
}

func serve(h http.HandlerFunc, l Limits, refused func(client, why string)) *world {
	w := &world{pipes: newPipes(), served: make(chan error, 1)}
	w.server = New(Options{Handler: h, Limits: l, Refused: refused})
	go func() { w.served <- w.server.Serve(w.pipes) }()
	return w
}

// end drains the server, which must have nothing left to do.
func (w *world) end(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
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
