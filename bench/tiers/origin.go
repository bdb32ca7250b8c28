//go:build linux

package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Entity tags, lifetimes and bodies of the page's messages: #3 has the first version, #5
// the second one, and #6 says that nothing has changed. Its Content-Length of 45 and 49 are
// those of these bodies, without the DOCTYPE that it prints in front of them.
var (
	tags   = []string{1: `"1aa008f-2d-50a3559482cc0"`, 2: `"1aa008f-2d-50aa00feadd"`}
	bodies = []string{1: "<html><body>This is a fun file</body></html>\n", 2: "<html><body>This is NOT a fun file</body></html>\n"}
)

const (
	firstLife = 86400 * time.Second // of #3
	laterLife = 604800 * time.Second
)

// An origin answers as the page says.
type origin struct {
	net.Listener
	serving sync.WaitGroup

	mu      sync.Mutex
	version int               // of all it has: 1 or 2
	left    time.Duration     // of the lifetime of what it answers; zero: all
	more    map[string]string // fields that it sends besides, whole lines, by path
	gate    chan struct{}     // where not nil, answers wait until it is closed
}

func newOrigin() (*origin, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	o := &origin{Listener: l, version: 1, more: map[string]string{}}
	o.serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			o.serving.Go(func() { o.serve(c) })
		}
	})
	return o, nil
}

// close ends the origin. Its clients have ended before.
func (o *origin) close() {
	_ = o.Close() // nobody comes any more, whatever it says
	o.release()
	o.serving.Wait()
}

func (o *origin) serve(c net.Conn) {
	defer c.Close()
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return
	}
	o.mu.Lock()
	message, gate := o.message(r), o.gate
	o.mu.Unlock()
	if gate != nil {
		<-gate
	}
	fmt.Fprint(c, message) // who left needs no answer
}

// hold has answers wait until release.
func (o *origin) hold() { o.change(func(o *origin) { o.gate = make(chan struct{}) }) }

// release lets those go that wait.
func (o *origin) release() {
	o.change(func(o *origin) {
		if o.gate != nil {
			close(o.gate)
			o.gate = nil
		}
	})
}

// message is what r is answered with. The caller holds mu.
func (o *origin) message(r *http.Request) string {
	tag, body := tags[o.version], bodies[o.version]
	unchanged := r.Header.Get("If-None-Match") == tag
	life := laterLife // of #5 and #6
	if o.version == 1 && !unchanged {
		life = firstLife
	}
	date := time.Now()
	if o.left != 0 {
		date = date.Add(o.left - life)
	}
	var b strings.Builder
	switch {
	case r.Method == http.MethodPost:
		b.WriteString("HTTP/1.1 204 No Content\r\n")
	case unchanged:
		b.WriteString("HTTP/1.1 304 Not Modified\r\n")
	default:
		b.WriteString("HTTP/1.1 200 OK\r\n")
	}
	fmt.Fprintf(&b, "Date: %s\r\nServer: Apache/2.2.15 (Red Hat)\r\n", date.UTC().Format(http.TimeFormat))
	if r.Method == http.MethodGet {
		fmt.Fprintf(&b, "Last-Modified: Sun, 14 Dec 2014 23:18:51 GMT\r\nETag: %s\r\nCache-Control: max-age=%d\r\n", tag, life/time.Second)
	}
	b.WriteString(o.more[r.URL.Path])
	if r.Method == http.MethodGet && !unchanged {
		fmt.Fprintf(&b, "Content-Length: %d\r\nConnection: close\r\nContent-Type: text/html; charset=UTF-8\r\n\r\n%s", len(body), body)
	} else {
		b.WriteString("Connection: close\r\n\r\n")
	}
	return b.String()
}

// change has the origin answer otherwise from now on.
func (o *origin) change(how func(o *origin)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	how(o)
}
