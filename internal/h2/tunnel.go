package h2

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"time"
)

// An extended CONNECT (RFC 8441) comes to the Handler as HTTP/1.1 asks for the same: GET with
// Upgrade. Its ResponseWriter is an http.Hijacker then; what is written to the connection that
// it gives begins with a response to the upgrade.

// asUpgrade makes q the request for an upgrade to protocol.
func asUpgrade(q *http.Request, protocol string) {
	q.Method = http.MethodGet
	q.Header["Connection"], q.Header["Upgrade"] = []string{"Upgrade"}, []string{protocol}
	if protocol == "websocket" { // RFC 8441 §5.1, RFC 6455 §4.1
		key := make([]byte, 16)
		_, _ = rand.Read(key) // it never fails
		q.Header["Sec-Websocket-Key"] = []string{base64.StdEncoding.EncodeToString(key)}
	}
}

// Hijack implements http.Hijacker, for an extended CONNECT alone.
func (st *stream) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if !st.tunnels || st.status != 0 {
		return nil, nil, http.ErrNotSupported
	}
	t := &tunnel{st: st}
	return t, bufio.NewReadWriter(bufio.NewReader(t), bufio.NewWriter(t)), nil
}

// A tunnel is a stream as a connection on which the protocol has changed. One goroutine reads
// and one writes; any may close it.
type tunnel struct {
	st   *stream
	head []byte // of the response, until its end has come
	open bool   // it was one that accepts
}

var errNoUpgrade = errors.New("the response to an upgrade is none")

// mostUpgrade is the longest head of a response to an upgrade, in octets.
const mostUpgrade = 32 << 10

// Read implements net.Conn.
func (t *tunnel) Read(p []byte) (int, error) { return (*uploadBody)(t.st).Read(p) }

// Write implements net.Conn.
func (t *tunnel) Write(p []byte) (int, error) {
	if t.open {
		if len(p) == 0 {
			return 0, nil
		}
		return t.st.out(p, false)
	}
	t.head = append(t.head, p...)
	end := bytes.Index(t.head, []byte("\r\n\r\n"))
	switch {
	case end < 0 && len(t.head) > mostUpgrade:
		return 0, errNoUpgrade
	case end < 0:
		return len(p), nil
	}
	r, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(t.head)), nil)
	if err != nil {
		return 0, err
	}
	if r.StatusCode != http.StatusSwitchingProtocols {
		return 0, errNoUpgrade
	}
	t.open = true
	st := t.st
	st.header = r.Header // appendFields leaves out what is the connection's
	delete(st.header, "Sec-Websocket-Accept")
	st.tunnels = false // which is done
	st.WriteHeader(http.StatusOK)
	if _, err := st.out(t.head[end+len("\r\n\r\n"):], false); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close implements net.Conn: nothing more is read, and the other end hears that nothing
// follows once the Handler has returned.
func (t *tunnel) Close() error { return (*uploadBody)(t.st).Close() }

// LocalAddr implements net.Conn.
func (t *tunnel) LocalAddr() net.Addr { return t.st.c.nc.LocalAddr() }

// RemoteAddr implements net.Conn.
func (t *tunnel) RemoteAddr() net.Addr { return t.st.c.nc.RemoteAddr() }

// SetDeadline implements net.Conn, for reading.
func (t *tunnel) SetDeadline(d time.Time) error { return t.st.SetReadDeadline(d) }

// SetReadDeadline implements net.Conn.
func (t *tunnel) SetReadDeadline(d time.Time) error { return t.st.SetReadDeadline(d) }

// SetWriteDeadline does nothing: a client that takes nothing is given up as others are.
func (t *tunnel) SetWriteDeadline(time.Time) error { return nil }
