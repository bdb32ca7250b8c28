//go:build linux

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/larderhq/larder/bench/rig"
)

// bodySize is how long all bodies are, in octets.
const bodySize = 1 << 10

// Kinds of objects, by the first segment of their path.
const (
	million   = "million" // what is purged by that tag
	hot       = "hot"     // what hits are measured on beside that
	excess    = "excess"  // what has too many tags
	ceaseless = "slow"    // what does not end before it is told to
)

// manyTags is how many tags an object of kind excess has.
const manyTags = 100_000

// tagsOf are those of an object, as many as a page of a shop would have.
func tagsOf(kind string, number int) string {
	return fmt.Sprintf("%s site page-type-%d category-%d item-%d", kind, number%7, number%1000, number)
}

// excessTags are those of one of kind excess.
func excessTags() string {
	var b strings.Builder
	for i := range manyTags {
		fmt.Fprintf(&b, "t%d ", i)
	}
	return b.String()
}

// head is how the origin answers for an object.
func head(tags string) string {
	return "HTTP/1.1 200 OK\r\nDate: " + time.Now().UTC().Format(http.TimeFormat) + "\r\nCache-Control: max-age=86400\r\nContent-Type: text/html\r\nEtag: \"v1\"\r\nSurrogate-Key: " +
		tags + "\r\nContent-Length: 1024\r\n\r\n"
}

// An origin answers GET /KIND/NUMBER. A million misses are not to take long because
// of it, so it does little more than read and write.
type origin struct {
	url      string
	listener net.Listener
	body     []byte
	excess   string // the head of kind excess

	mu    sync.Mutex
	let   chan struct{} // closed when those that are slow may end
	conns []net.Conn
}

// startOrigin starts an origin. The caller calls close.
func startOrigin() (*origin, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	o := &origin{url: "http://" + listener.Addr().String(), listener: listener, body: rig.NewContent(1, bodySize).Body("", bodySize), excess: head(excessTags()), let: make(chan struct{})}
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return // it ends with close
			}
			o.mu.Lock()
			o.conns = append(o.conns, c)
			o.mu.Unlock()
			go func() {
				defer c.Close()
				_ = o.serve(c) // who left has another connection, or ends
			}()
		}
	}()
	return o, nil
}

func (o *origin) close() {
	_ = o.listener.Close() // it has nothing to lose
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range o.conns {
		_ = c.Close()
	}
}

// serve answers on one connection, one request after the other.
func (o *origin) serve(c net.Conn) error {
	in := bufio.NewReader(c)
	var out []byte
	for {
		first, err := in.ReadString('\n')
		for line := first; err == nil && line != "\r\n"; {
			line, err = in.ReadString('\n')
		}
		if err != nil {
			return err
		}
		var kind string
		var number int
		if _, err := fmt.Sscanf(strings.ReplaceAll(first, "/", " "), "GET %s %d HTTP", &kind, &number); err != nil {
			return err
		}
		top := o.excess
		if kind != excess {
			top = head(tagsOf(kind, number))
		}
		out = append(append(out[:0], top...), o.body...)
		if kind == ceaseless {
			if _, err = c.Write(out[:len(top)]); err == nil {
				out, err = o.dribble(c, out[len(top):])
			}
			if err != nil {
				return err
			}
		}
		if _, err := c.Write(out); err != nil {
			return err
		}
	}
}

// dribble sends body, an octet a second, so that nobody takes it for dead, until the rest
// may follow, which it returns.
func (o *origin) dribble(c io.Writer, body []byte) (rest []byte, err error) {
	o.mu.Lock()
	let := o.let
	o.mu.Unlock()
	every := time.NewTicker(time.Second)
	defer every.Stop()
	for {
		if _, err := c.Write(body[:1]); err != nil || len(body) == 1 {
			return nil, err
		}
		body = body[1:]
		select {
		case <-let:
			return body, nil
		case <-every.C:
		}
	}
}

// release lets all slow answers end that are under way.
func (o *origin) release() {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.let)
	o.let = make(chan struct{})
}
