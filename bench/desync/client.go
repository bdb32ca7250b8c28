//go:build linux

package main

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	// patience is how long a refusal of what is unsound may take before the
	// client says that nothing follows: Larder may be waiting for more.
	patience = 500 * time.Millisecond
	maxEcho  = 64 << 10 // octets of an answer: more than any has
)

// A client sends one stream and judges the answers.
type client struct {
	ledger  *ledger
	stream  *stream
	conn    *net.TCPConn
	in      *bufio.Reader
	timeout time.Duration

	half   bool // we said that nothing follows
	closed bool // the last answer said so
	early  bool // the last answer came before Larder could know of the end
	last   string
}

// An answerRead is one that came, with its body.
type answerRead struct {
	*http.Response
	body []byte
}

// send sends a stream to address and hears it out.
func send(l *ledger, s *stream, address string, timeout time.Duration) {
	raw, err := net.DialTimeout("tcp", address, timeout)
	if err != nil {
		l.find(hang, s, "no connection to Larder: %v", err)
		return
	}
	conn, ok := raw.(*net.TCPConn)
	if !ok {
		panic("desync: a TCP connection is none")
	}
	c := client{ledger: l, stream: s, conn: conn, in: bufio.NewReader(conn), timeout: timeout}
	l.expect(s)
	_ = conn.SetDeadline(time.Now().Add(timeout)) // fails on a closed connection only
	var writing sync.WaitGroup
	writing.Go(c.write)
	c.hear()
	_ = conn.Close() // it has served
	writing.Wait()
}

// write writes the stream as it is cut. Larder may close before it is through.
func (c *client) write() {
	at := 0
	for _, next := range append(c.stream.cuts, len(c.stream.octets)) {
		if _, err := c.conn.Write(c.stream.octets[at:next]); err != nil {
			return
		}
		if at = next; next < len(c.stream.octets) && next%3 == 0 {
			time.Sleep(time.Duration(next%5) * 200 * time.Microsecond) // or the kernel joins the pieces
		}
	}
}

// hear reads answers until Larder closes.
func (c *client) hear() {
	for i := 0; ; i++ {
		m := &message{state: unsound, why: "there is none"}
		if i < len(c.stream.messages) {
			m = &c.stream.messages[i]
		}
		a, err := c.next(m)
		if err != nil {
			c.ended(i, m, err)
			return
		}
		if i >= len(c.stream.messages) {
			c.ledger.find(desync, c.stream, "an answer to no request: %s %q", a.Status, a.Header)
			return
		}
		if c.closed {
			c.ledger.find(desync, c.stream, "an answer after Connection: close: %s %q", a.Status, a.Header)
			return
		}
		c.closed, c.early = a.Close, strings.Contains(m.target, asEarly)
		c.last = fmt.Sprintf("%s %q", a.Status, a.Header)
		c.judge(m, a)
	}
}

// next reads the answer to m, if there is one.
func (c *client) next(m *message) (a answerRead, err error) {
	if m.state == whole && !c.closed {
		return c.read(m)
	}
	if !m.short && m.start < m.end && !c.closed && c.peek(patience) {
		return c.read(m)
	}
	// Nothing is due any more. What Larder does with the rest shows once it
	// knows that this is all.
	if !c.half {
		c.half = true
		_ = c.conn.CloseWrite() // fails if Larder has closed
	}
	return c.read(m)
}

// peek waits for an octet.
func (c *client) peek(d time.Duration) bool {
	_ = c.conn.SetReadDeadline(time.Now().Add(d)) // fails on a closed connection only
	_, err := c.in.Peek(1)
	_ = c.conn.SetReadDeadline(time.Now().Add(c.timeout)) // likewise
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

// read reads one answer. io.EOF: Larder closed before it.
func (c *client) read(m *message) (a answerRead, err error) {
	_ = c.conn.SetReadDeadline(time.Now().Add(c.timeout)) // fails on a closed connection only
	for {
		if _, err := c.in.Peek(1); err != nil {
			return a, err
		}
		resp, err := http.ReadResponse(c.in, &http.Request{Method: m.method})
		if err != nil {
			return a, fmt.Errorf("no answer: %w", err)
		}
		if resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			body, err := io.ReadAll(io.LimitReader(resp.Body, maxEcho))
			if err != nil {
				return a, fmt.Errorf("half an answer (%s %q): %w", resp.Status, resp.Header, err)
			}
			return answerRead{resp, body}, nil
		}
	}
}

// ended judges how a connection ended before answer i.
func (c *client) ended(i int, m *message, err error) {
	var broken net.Error
	due := i < len(c.stream.messages) && m.state == whole
	switch {
	case errors.As(err, &broken) && broken.Timeout():
		c.ledger.find(hang, c.stream, "nothing came for %v, neither answer %d of %d nor an end of the connection; the one before is %s",
			c.timeout, i+1, len(c.stream.messages), cmp.Or(c.last, "none"))
	case c.closed:
		// net/http writes its own refusals with a body, to HEAD too.
		rest, _ := io.ReadAll(io.LimitReader(c.in, maxEcho)) // as much as there is
		if text := err.Error() + string(rest); strings.Contains(text, "HTTP/1.") || strings.Contains(text, "Echo") {
			c.ledger.find(desync, c.stream, "octets after the last answer: %v, then %.300q", err, rest)
		}
	case due && !c.early:
		c.ledger.find(cut, c.stream, "answer %d did not come, and nothing told that it would not: %v; the one before is %s", i+1, err, cmp.Or(c.last, "none"))
	case !errors.Is(err, io.EOF) && strings.Contains(err.Error(), "answer"):
		c.ledger.find(desync, c.stream, "octets that are no answer after answer %d: %v", i, err)
	}
}

// judge tells whether an answer is the one to m.
func (c *client) judge(m *message, a answerRead) {
	l := c.ledger
	if line := a.Header.Get("Echo"); line != "" {
		c.accepted(m, a, line)
		return
	}
	state := a.Header.Get("Cache-Status")
	ours := a.Header.Get("Proxy-Status") != "" || !strings.Contains(state, "fwd=")
	switch {
	case m.target == "*" && m.state == whole && !ours:
		l.accepted.Add(1) // apache answers that itself
	case a.StatusCode < 400:
		l.find(desync, c.stream, "an answer %s that no origin gave: %q", a.Status, a.Header)
	case !ours:
		l.byOrigin.Add(1)
		l.refused("the origin", fmt.Sprint(a.StatusCode), c.stream, m)
		if m.state == unsound {
			l.find(desync, c.stream, "the origin was asked what is no request (%s), and answered %s", m.why, a.Status)
		}
	case a.StatusCode == http.StatusBadGateway || a.StatusCode == http.StatusGatewayTimeout:
		l.failed.Add(1)
		l.refused("failing", a.Status+" "+a.Header.Get("Proxy-Status"), c.stream, m)
	default:
		l.byLarder.Add(1)
		if m.state == whole {
			l.soundRefused.Add(1)
			l.refused("Larder, though sound", fmt.Sprint(a.StatusCode), c.stream, m)
		} else {
			l.refused("Larder", fmt.Sprint(a.StatusCode), c.stream, m)
		}
	}
}

// accepted judges an answer of the echo.
func (c *client) accepted(m *message, a answerRead, line string) {
	l := c.ledger
	l.accepted.Add(1)
	r, err := parseRecord(line)
	if err != nil {
		l.find(desync, c.stream, "an answer that the echo did not write: %v", err)
		return
	}
	hit := strings.Contains(a.Header.Get("Cache-Status"), "; hit")
	if hit {
		l.hits.Add(1)
	}
	why := ""
	switch e := (&expectation{message: m}); {
	case m.state == unsound || m.state == partial && r.state != stateEarly:
		why = "is to a request that is " + stateNames[m.state] + " (" + m.why + ")"
	case r.target != l.told(m.target):
		why = fmt.Sprintf("is not to %s %s", m.method, m.target)
	case hit && r.method == http.MethodGet && m.method == http.MethodHead:
	case r.state == stateEarly:
		why = e.differs(r.method, r.host, len(m.body), m.sum)
	default:
		why = e.differs(r.method, r.host, r.length, r.sum)
	}
	if why == "" && m.method != http.MethodHead && !bytes.Equal(a.body, []byte(line+"\n")) {
		why = fmt.Sprintf("has another body: %.300q", a.body)
	}
	if why != "" {
		l.find(desync, c.stream, "the answer %q %s", line, why)
	}
}
