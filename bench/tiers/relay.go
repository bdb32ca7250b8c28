//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A relay stands between two tiers, passes on what they say to each other, a message at a
// time, and has the wire know it.
type relay struct {
	net.Listener
	client, server string // who talks, by name
	to             atomic.Pointer[string]
	wire           *wire
	joined         sync.WaitGroup
}

// newRelay listens for client, and passes on to server, which is at the address to.
func newRelay(client, server, to string, w *wire) (*relay, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &relay{Listener: l, client: client, server: server, wire: w}
	r.to.Store(&to)
	r.joined.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			r.joined.Go(func() { r.join(c) })
		}
	})
	return r, nil
}

// close ends the relay. Its clients have ended before.
func (r *relay) close() {
	_ = r.Close() // nobody comes any more, whatever it says
	r.joined.Wait()
}

func (r *relay) url() string { return "http://" + r.Addr().String() }

// join passes on what comes on one connection. A tier sends no request before the last one
// is answered: so what was read when a message is over is that message.
func (r *relay) join(c net.Conn) {
	defer c.Close()
	var request bytes.Buffer
	for in := bufio.NewReader(io.TeeReader(c, &request)); ; request.Reset() {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return
		}
		r.wire.pass(r.client, r.server, request.String())
		if last, err := r.answer(c, req, request.Bytes()); last || err != nil {
			return
		}
	}
}

// answer has the server answer a request on a connection of its own, for the server may be
// another process by the next one. last says that the client may not send any more.
func (r *relay) answer(client net.Conn, req *http.Request, request []byte) (last bool, err error) {
	s, err := net.Dial("tcp", *r.to.Load())
	if err != nil {
		return true, err
	}
	defer s.Close()
	if _, err := s.Write(request); err != nil {
		return true, err
	}
	var response bytes.Buffer
	res, err := http.ReadResponse(bufio.NewReader(io.TeeReader(s, &response)), req)
	if err != nil {
		return true, err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return true, err
	}
	r.wire.pass(r.server, r.client, response.String())
	_, err = client.Write(response.Bytes())
	return res.Close, err
}

// A wire is what has passed between the tiers, each message in a few words.
type wire struct {
	mu       sync.Mutex
	messages []string
	more     chan struct{} // there may be more of them
}

func newWire() *wire { return &wire{more: make(chan struct{}, 1)} }

// pass prints a message, and notes it.
func (w *wire) pass(from, to, message string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Printf("   %s -> %s\n", from, to)
	for line := range strings.Lines(message) {
		fmt.Println(strings.TrimRight("      "+line, " \r\n"))
	}
	w.messages = append(w.messages, from+": "+inShort(message))
	select {
	case w.more <- struct{}{}:
	default:
	}
}

// inShort is the method of a request and its condition, or the status of an answer.
func inShort(message string) string {
	words := strings.Fields(message)
	if strings.HasPrefix(message, "HTTP/") {
		return words[1]
	}
	head, _, _ := strings.Cut(message, "\r\n\r\n")
	if _, tag, ok := strings.Cut(head, "If-None-Match: "); ok {
		tag, _, _ = strings.Cut(tag, "\r\n")
		return words[0] + " if not " + tag
	}
	return words[0]
}

// patience is how long a message may take that has to come.
const patience = 10 * time.Second

// expect takes the messages that have passed, of which there have to be just these. It
// waits for those that come behind an answer.
func (w *wire) expect(ctx context.Context, want []string) error {
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		w.mu.Lock()
		got := w.messages
		if len(got) >= len(want) {
			w.messages = nil
			w.mu.Unlock()
			return same(got, want)
		}
		w.mu.Unlock()
		select {
		case <-w.more:
		case <-late.C:
			return same(got, want)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// quiet fails if something has passed that nobody has expected.
func (w *wire) quiet() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return same(w.messages, nil)
}

func same(got, want []string) error {
	g, w := strings.Join(got, "; "), strings.Join(want, "; ")
	if g != w {
		return fmt.Errorf("between the tiers passed [%s], and should have: [%s]", g, w)
	}
	return nil
}
