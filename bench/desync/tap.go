//go:build linux

package main

import (
	"errors"
	"io"
	"net"
	"sync"
)

// A tap stands between Larder and an origin, passes on what comes, and reads
// Larder's side of it with the reference.
type tap struct {
	net.Listener
	origin string
	ledger *ledger // nil: nothing is read
	wg     sync.WaitGroup

	mu    sync.Mutex
	open  map[net.Conn]bool
	ended bool
}

// newTap listens in the place of origin, which is an address.
func newTap(origin string, l *ledger) (*tap, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	t := &tap{Listener: listener, origin: origin, ledger: l, open: map[net.Conn]bool{}}
	t.wg.Go(t.accept)
	return t, nil
}

func (t *tap) accept() {
	for {
		c, err := t.Accept()
		if err != nil {
			return // closed
		}
		t.wg.Go(func() { t.join(c) })
	}
}

// join passes octets on both ways until both are done.
func (t *tap) join(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", t.origin)
	if err != nil {
		return // Larder answers 502, which is counted
	}
	defer server.Close()
	if !t.keep(client, server) {
		return
	}
	defer t.drop(client, server)
	var back sync.WaitGroup
	back.Go(func() {
		pass(client, server, nil)
	})
	look := reading{ledger: t.ledger}
	if t.ledger == nil {
		pass(server, client, nil)
	} else {
		pass(server, client, look.take)
	}
	back.Wait()
}

// keep has close end the connections. It returns false if that was already.
func (t *tap) keep(all ...net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range all {
		t.open[c] = true
	}
	return !t.ended
}

func (t *tap) drop(all ...net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range all {
		delete(t.open, c)
	}
}

// close ends the tap and its connections.
func (t *tap) close() {
	_ = t.Close() // nobody comes any more, whatever it says
	t.mu.Lock()
	t.ended = true
	for c := range t.open {
		_ = c.Close() // as above
	}
	t.mu.Unlock()
	t.wg.Wait()
}

// pass copies from one connection to the other, and tells the end on.
func pass(to, from net.Conn, look func([]byte)) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if look != nil {
				look(buf[:n])
			}
			if _, err := to.Write(buf[:n]); err != nil {
				_ = from.Close() // so that who writes there learns of it
				return
			}
		}
		if errors.Is(err, io.EOF) {
			if half, ok := to.(*net.TCPConn); ok {
				_ = half.CloseWrite() // fails if it is gone
			}
			return
		}
		if err != nil {
			_ = to.Close() // it broke, and so does the other side
			return
		}
	}
}

// A reading is what has come on one connection and is not a whole request yet.
type reading struct {
	ledger *ledger
	octets []byte
	lost   bool // what came was no request: nothing after it is one
}

// take reads on.
func (r *reading) take(octets []byte) {
	if r.lost {
		return
	}
	r.octets = append(r.octets, octets...)
	for len(r.octets) > 0 {
		m := readMessage(r.octets)
		if m.short {
			return
		}
		r.ledger.wire(&m, append([]byte(nil), r.octets[:m.end]...))
		if m.state != whole {
			r.lost = true
			return
		}
		r.octets = append([]byte(nil), r.octets[m.end:]...)
	}
}
