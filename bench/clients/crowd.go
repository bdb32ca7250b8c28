//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/larderhq/larder/bench/rig"
)

// A kind is a way of holding on to a connection.
type kind struct {
	name   string
	idle   bool // for which the other bar holds
	begin  func(o *options, c net.Conn) error
	answer bool // there is one that is not read
	narrow bool // with a small receive buffer
}

var kinds = []kind{
	{name: "idle", idle: true, begin: func(_ *options, c net.Conn) error { return askHit(c, bufio.NewReader(c)) }},
	{name: "head", begin: func(o *options, c net.Conn) error { return halfHead(o.head, c) }},
	{name: "longhead", begin: func(o *options, c net.Conn) error { return halfHead(o.longHead, c) }},
	{name: "body", begin: halfBody},
	{name: "reader", begin: neverRead, answer: true, narrow: true},
}

func kindNames() []string {
	var names []string
	for _, k := range kinds {
		names = append(names, k.name)
	}
	return names
}

// choose finds kinds by name. Nil: one is not there.
func choose(names []string) []kind {
	return rig.Choose(names, kinds, func(k kind) string { return k.name })
}

// halfHead sends size octets of what could be the beginning of a request.
func halfHead(size int, c net.Conn) error {
	text := "GET " + smallPath + " HTTP/1.1\r\nHost: " + host + "\r\nX-Slow: "
	_, err := io.WriteString(c, text+strings.Repeat("x", max(size-len(text), 0)))
	return err
}

// halfBody sends a request that has to be forwarded, and half of its body.
func halfBody(o *options, c net.Conn) error {
	_, err := fmt.Fprintf(c, "POST /upload HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s", host, 2*o.body, strings.Repeat("x", o.body))
	return err
}

// neverRead asks for a long hit.
func neverRead(_ *options, c net.Conn) error {
	_, err := io.WriteString(c, "GET "+largePath+" HTTP/1.1\r\nHost: "+host+"\r\n\r\n")
	return err
}

// askHit asks for the short hit and reads it.
func askHit(c net.Conn, in *bufio.Reader) error {
	return askFor(c, in, smallPath, "; hit")
}

// askFor asks for path, and reads an answer whose Cache-Status has to contain status.
func askFor(c net.Conn, in *bufio.Reader, path, status string) error {
	if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: "+host+"\r\n\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if got := resp.Header.Get("Cache-Status"); err == nil && (resp.StatusCode != http.StatusOK || !strings.HasPrefix(path, fmt.Sprintf("/%d/", n)) || !strings.Contains(got, status)) {
		err = fmt.Errorf("GET %s: %s with %d octets, Cache-Status %q, which should say %q", path, resp.Status, n, got, status)
	}
	return err
}

// A crowd is the clients of one kind.
type crowd struct {
	mu    sync.Mutex
	conns []net.Conn
}

// perSource is how many of a crowd have the same address: the kernel has some 28,000
// ports for each, and does not use one again for a minute.
const perSource = 5000

// open brings n clients to address. Those that have come are in the crowd also if
// there is an error.
func (l *lab) open(ctx context.Context, k kind, address string, n int) (*crowd, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c := &crowd{conns: make([]net.Conn, 0, n)}
	var next atomic.Int64
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for i := int(next.Add(1)); i <= n && ctx.Err() == nil; i = int(next.Add(1)) {
				if err := c.enter(ctx, l.opts, k, address, i); err != nil {
					cancel(fmt.Errorf("client %d of %d: %w", i, n, err))
				}
			}
		})
	}
	workers.Wait()
	return c, context.Cause(ctx)
}

// enter brings one client.
func (c *crowd) enter(ctx context.Context, o *options, k kind, address string, number int) error {
	source := number / perSource
	d := net.Dialer{
		Timeout:   5 * time.Second,
		LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, byte(source/250), byte(1+source%250))},
		Control: func(_, _ string, raw syscall.RawConn) error {
			return prepare(raw, o, k)
		},
	}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.conns = append(c.conns, conn)
	c.mu.Unlock()
	// Where larder takes no more clients it lets them wait, so there is an end to it.
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if err := k.begin(o, conn); err != nil {
		return err
	}
	return conn.SetDeadline(time.Time{})
}

// prepare sets what has to be set before a connection is made.
func prepare(raw syscall.RawConn, o *options, k kind) error {
	const bindAddressNoPort = 24 // IP_BIND_ADDRESS_NO_PORT: the kernel may choose the port as late as it can
	var err error
	cerr := raw.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, bindAddressNoPort, 1)
		if err == nil && k.narrow {
			err = narrow(int(fd), o.window)
		}
	})
	return errors.Join(cerr, err)
}

// narrow sees to it that little is on its way to a client. Segments are those of an
// Ethernet: with those of this machine's own network, of 64 KiB, the kernel takes
// more than a MiB from larder at once, which then has nothing left to hold.
func narrow(fd, window int) error {
	const ethernet = 1460
	return errors.Join(
		syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, window),
		syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, ethernet),
	)
}

// there is how many clients larder has not sent away.
func (c *crowd) there(k kind) int {
	n := 0
	for _, conn := range c.conns {
		raw, err := conn.(*net.TCPConn).SyscallConn()
		if err != nil {
			continue
		}
		_ = raw.Control(func(fd uintptr) { // a connection that is closed is not there
			if established(int(fd)) && readable(int(fd)) == k.answer {
				n++
			}
		})
	}
	return n
}

// established tells whether neither end of a connection has closed it.
func established(fd int) bool {
	const tcpEstablished = 1
	var info [256]byte // struct tcp_info begins with the state
	size := uint32(len(info))
	_, _, errno := syscall.Syscall6(syscall.SYS_GETSOCKOPT, uintptr(fd), syscall.IPPROTO_TCP, syscall.TCP_INFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	return errno == 0 && info[0] == tcpEstablished
}

// readable tells whether something came that was not read.
func readable(fd int) bool {
	var b [1]byte
	n, _, err := syscall.Recvfrom(fd, b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return err == nil && n > 0
}

// leave has all clients go. It may be called again.
func (c *crowd) leave() {
	for _, conn := range c.conns {
		_ = conn.Close() // they do not care what becomes of it
	}
	c.conns = nil
}
