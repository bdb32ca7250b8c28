package front

import (
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Limits bound what clients may take. Every zero stands for its default.
type Limits struct {
	// Conns is how many connections may be open at once; more wait in the
	// kernel's queue. One that net/http has takes some 20 KiB, one that a loop has
	// a few hundred octets; while its client does not take what it asked for, up
	// to 32 KiB, and where that comes from a disk a block of 64 KiB.
	Conns int

	// ClientConns is how many of them one client may have: an address, or in IPv6
	// the 64 bits of its network. More are closed at once. The default is half of
	// Conns, and all of them for this machine itself, where what comes may have
	// come through another server.
	ClientConns int

	// Head is the longest request head in octets, and Fields the most lines it may
	// have. What has more is answered with 431.
	Head   int
	Fields int

	// HeadTimeout is how long a request head may take, and IdleTimeout how long a
	// connection may wait for the next one.
	HeadTimeout time.Duration
	IdleTimeout time.Duration

	// StallTimeout is how long a client may leave us waiting for an octet of
	// its request body, and over which Pace is measured.
	StallTimeout time.Duration

	// Pace is how many octets a second a client has to send of a body that we wait
	// for, and to take of an answer that waits for it.
	Pace int
}

// Defaults are the Limits that zeros stand for.
func Defaults() Limits {
	return Limits{
		Conns: 10000, ClientConns: 5000,
		Head: 32 << 10, Fields: 100, // twice the longest target that is served
		HeadTimeout: 10 * time.Second, IdleTimeout: 120 * time.Second, StallTimeout: 60 * time.Second,
		Pace: 256,
	}
}

func (l Limits) complete() Limits {
	d := Defaults()
	or(&l.Conns, d.Conns)
	or(&l.ClientConns, max(l.Conns/2, 1))
	or(&l.Head, d.Head)
	or(&l.Fields, d.Fields)
	or(&l.HeadTimeout, d.HeadTimeout)
	or(&l.IdleTimeout, d.IdleTimeout)
	or(&l.StallTimeout, d.StallTimeout)
	or(&l.Pace, d.Pace)
	return l
}

func or[T ~int | ~int64](v *T, standard T) {
	if *v <= 0 {
		*v = standard
	}
}

// least is how many octets a client has to give or take in one StallTimeout.
func (l *Limits) least() int64 {
	return max(int64(float64(l.Pace)*l.StallTimeout.Seconds()), 1)
}

// lines tells how many lines a header section has.
func lines(h http.Header) (n int) {
	for _, values := range h {
		n += len(values)
	}
	return n
}

// A crowd counts the connections that each client has. The zero crowd lets nobody
// in. Any number of goroutines may use it.
type crowd struct {
	most  int  // of one client
	local bool // this machine itself may have as many as it likes

	mu   sync.Mutex
	from map[netip.Addr]int
}

// clientOf is the client that an address belongs to.
func clientOf(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() && !a.IsLoopback() {
		p, _ := a.Prefix(64) // which every such address has
		return p.Addr()
	}
	return a
}

func (c *crowd) counts(client netip.Addr) bool {
	return client.IsValid() && !(c.local && client.IsLoopback())
}

// enter counts a connection, or reports false if its client has too many. Who has
// no address is not counted.
func (c *crowd) enter(client netip.Addr) bool {
	if !c.counts(client) {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.from[client]
	if n >= c.most {
		return false
	}
	if c.from == nil {
		c.from = make(map[netip.Addr]int)
	}
	c.from[client] = n + 1
	return true
}

// leave takes back an enter that was let in.
func (c *crowd) leave(client netip.Addr) {
	if !c.counts(client) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.from[client] - 1; n > 0 {
		c.from[client] = n
	} else {
		delete(c.from, client)
	}
}
