//go:build unix

package origin

import (
	"net"
	"syscall"
)

// A probe looks at a socket without waiting. One goroutine uses it.
type probe struct {
	raw   syscall.RawConn
	look  func(fd uintptr) // made once
	found error
}

// newProbe returns nil if there is no socket below c.
func newProbe(c net.Conn) *probe {
	s, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return nil
	}
	p := &probe{raw: raw}
	p.look = func(fd uintptr) {
		var b [1]byte
		// It cannot wait: sockets of the net package never do.
		_, _, p.found = syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
	}
	return p
}

// quiet tells whether the connection is open at both ends, and nothing waits to be read.
func (p *probe) quiet() bool {
	p.found = nil
	return p.raw.Control(p.look) == nil && p.found == syscall.EAGAIN
}
