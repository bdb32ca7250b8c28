package front

import (
	"crypto/tls"
	"iter"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"
)

// A client is a connection. Its loop has it, but while it is lent: to a reply, to net/http,
// or to who reads for it what the loop does not have at hand.
type client struct {
	fd   int // has another number after each loan
	loop *loop
	addr string // host:port of the other end
	from netip.Addr
	lent atomic.Bool

	reply atomic.Pointer[reply] // that has it, or nil
	state *tls.ConnectionState  // nil: there is no TLS
	wire  *wire                 // of its TLS
	local net.Addr              // where it came in

	events  uint32    // that the loop waits for
	active  time.Time // when something last happened
	begun   time.Time // when the head that held begins with began to come; zero: none did
	held    []byte    // octets that came and are not answered yet, or nil
	unended bool      // held is a head whose end did not come yet
	sending *sending
	turn    uint64 // when it was last its turn to be sent more
	awaited bool   // what held begins with was to be read for it
	vain    int    // for so many answers nothing is read, for the last time that was in vain
	known   bool   // to speak HTTP/1
	leaving bool   // the last answer was given
	gone    bool
	tunnel  bool // a handler has it; the loop does not count it any more
}

// idle tells whether the client has asked for nothing that it has not got.
func (c *client) idle() bool {
	return c.sending == nil && c.begun.IsZero() && len(c.held) == 0 && !c.leaving
}

// listen has the loop told of events from now on: op adds c to its epoll, or changes
// what c is there for.
func (c *client) listen(op int, events uint32) error {
	c.events = events
	return syscall.EpollCtl(c.loop.ep, op, c.fd, &syscall.EpollEvent{Events: events, Fd: int32(c.fd)})
}

// read reads what has come, without waiting.
func (c *client) read(p []byte) (int, error) {
	if c.wire != nil {
		return c.wire.read(p)
	}
	return readNow(c.fd, p)
}

// shut says to the client that nothing follows.
func (c *client) shut() error {
	c.bow()
	return syscall.Shutdown(c.fd, syscall.SHUT_WR)
}

// bow ends TLS (RFC 8446 §6.1), if there is room for that.
func (c *client) bow() {
	if w := c.wire; w != nil && w.file == nil {
		_ = w.tls.CloseWrite()
		if len(w.out) > 0 { // it was not said yet
			_, _ = writeNow(c.fd, w.out)
			w.out = nil
		}
	}
}

// close lets go of the connection. Whoever has it calls this, once.
func (c *client) close() {
	c.bow()
	c.loop.s.clients.at(c.fd).Store(nil)
	_ = syscall.Close(c.fd) // all that could be lost is what the client did not take
	c.leave()
}

// leave gives the place back, once the descriptor is closed.
func (c *client) leave() {
	c.gone, c.held = true, nil
	if !c.tunnel {
		c.loop.load.Add(-1)
	}
	c.loop.s.crowd.leave(c.from)
	<-c.loop.s.places
}

// clients are all connections by descriptor, in pages that come as they are
// needed.
type clients [1 << 10]atomic.Pointer[[pageClients]atomic.Pointer[client]]

const pageClients = 1 << 10

// at is the place of a descriptor, which must be less than all places there are.
func (t *clients) at(fd int) *atomic.Pointer[client] {
	page := &t[fd/pageClients]
	if page.Load() == nil {
		page.CompareAndSwap(nil, new([pageClients]atomic.Pointer[client]))
	}
	return &page.Load()[fd%pageClients]
}

// find returns the client of a descriptor that was given to at, or nil.
func (t *clients) find(fd int) *client { return t[fd/pageClients].Load()[fd%pageClients].Load() }

// all yields the clients that are there.
func (t *clients) all() iter.Seq[*client] {
	return func(yield func(*client) bool) {
		for i := range t {
			page := t[i].Load()
			if page == nil {
				continue
			}
			for j := range page {
				if c := page[j].Load(); c != nil && !yield(c) {
					return
				}
			}
		}
	}
}

// peerOf is the address of the other end.
func peerOf(sa syscall.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *syscall.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *syscall.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return netip.AddrPort{}
}
