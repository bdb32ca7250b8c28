package origin

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"syscall"
	"testing"
)

// begun returns a witness whose request is out.
func begun(c net.Conn) *witness {
	x := &exchange{
		up:     &Upstream{opt: Options{MaxHeadBytes: 1 << 10}, name: "http://h"},
		caller: context.Background(),
		method: "GET",
		cancel: func(error) {},
		sent:   1,
	}
	w := &witness{Conn: c, up: x.up, ex: x, begun: true}
	w.newHead()
	return w
}

func TestMSG20_IdleConnection(t *testing.T) {
	here, there := net.Pipe()
	defer here.Close()
	go func() {
		_, _ = io.WriteString(there, "HTTP/1.1 200 OK\r\n\r\n")
		_ = there.Close()
	}()
	w := begun(here)
	w.phase, w.ex = idle, nil
	if n, err := w.Read(make([]byte, 100)); n != 0 || err != io.EOF {
		t.Errorf("octets on an idle connection: %d, %v", n, err)
	}
	w.arm(&exchange{up: w.up, method: "GET"}, true)
	if n, err := w.Write([]byte("GET")); n != 0 || !errors.Is(err, errSpoilt) {
		t.Errorf("a request after them: %d, %v", n, err)
	}
}

// outcome feeds octets to a fresh witness in pieces and tells what it made of
// them.
func outcome(octets []byte, piece int) (handed string, kind Kind, caching bool) {
	w := begun(nil)
	for len(octets) > 0 {
		p := octets[:min(piece, len(octets))]
		octets = octets[len(p):]
		n, err := w.take(p)
		handed += string(p[:n])
		if err != nil {
			break
		}
	}
	if w.ex.failed != nil {
		kind = w.ex.failed.Kind
	}
	return handed, kind, w.ex.caching
}

var seeds = []string{
	"HTTP/1.1 103 x\r\nCache-Control: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nCache-Control: b\r\n\r\n3;x=y\r\nabc\r\n0\r\nA: b\r\n\r\nrest",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n",
	"HTTP/1.0 200 OK\nConnection: close\n\nuntil the end",
	"HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\nabc",
	"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
	"HTTP/1.1 101 x\r\n\r\n",
	"HTTP/1.1 200 OK\r\nA: \x00\r\n\r\n",
	"\r\n\r\n",
}

// However the network cuts an answer into pieces, the witness makes the same
// of it.
func FuzzMSG14_PiecesDoNotMatter(f *testing.F) {
	for _, s := range seeds {
		for _, piece := range []int{1, 2, 3, 7} {
			f.Add([]byte(s), piece)
		}
	}
	f.Fuzz(func(t *testing.T, octets []byte, piece int) {
		whole, kind, caching := outcome(octets, max(1, len(octets)))
		handed, k, c := outcome(octets, min(max(1, piece), 1<<20))
		if k != kind || c != caching {
			t.Errorf("whole: %q, %t; in pieces of %d: %q, %t", kind, caching, piece, k, c)
		}
		// What fails may have let out more octets of the head before.
		if kind == "" && handed != whole {
			t.Errorf("whole: %q; in pieces of %d: %q", whole, piece, handed)
		}
	})
}

func TestSTS11_DialKinds(t *testing.T) {
	for _, c := range []struct {
		err    error
		want   Kind
		status int
	}{
		{syscall.ECONNREFUSED, ConnectionRefused, 502},
		{syscall.ECONNRESET, ConnectionTerminated, 502},
		{syscall.ENETUNREACH, DestinationUnroutable, 502},
		{syscall.EHOSTUNREACH, DestinationUnroutable, 502},
		{syscall.ETIMEDOUT, ConnectionTimeout, 504},
		{syscall.EADDRNOTAVAIL, DestinationUnavailable, 503},
		{&net.DNSError{IsTimeout: true}, DNSTimeout, 504},
		{&net.DNSError{IsNotFound: true}, DNSError, 502},
	} {
		kind := dialKind(&net.OpError{Op: "dial", Err: c.err})
		e := &Error{Kind: kind, Err: c.err}
		if kind != c.want || e.Status() != c.status || !e.Unreachable() || e.Timeout() != (c.status == 504) {
			t.Errorf("%v: %s, %d, want %s, %d", c.err, kind, e.Status(), c.want, c.status)
		}
	}
	for _, k := range []Kind{
		DNSTimeout, DNSError, DestinationUnavailable, DestinationUnroutable, ConnectionRefused, ConnectionTerminated,
		ConnectionTimeout, ConnectionReadTimeout, ConnectionWriteTimeout, ConnectionLimit, TLSProtocolError,
		TLSCertificateError, TLSAlertReceived, RequestError, ResponseIncomplete, ResponseHeaderSize,
		ResponseTrailerSize, ResponseTransferCoding, UpgradeFailed, ProtocolError,
	} {
		if _, ok := meanings[k]; !ok {
			t.Errorf("%s has no meaning", k)
		}
	}
}

func TestKEY05_Targets(t *testing.T) {
	u := &Upstream{}
	for want, in := range map[string]url.URL{
		"/":      {},
		"/a%2fb": {Path: "/a/b", RawPath: "/a%2fb"},
		"/b":     {Path: "/b", RawPath: "/stale"}, // RawPath no longer stands for Path
		"/%20":   {Path: "/ "},
		"/?":     {Path: "/", ForceQuery: true},
		"/o?q":   {Opaque: "/o", Path: "/ignored", RawQuery: "q"},
	} {
		if got, err := u.target(&in); got != want || err != nil {
			t.Errorf("%+v: %q, %v, want %q", in, got, err, want)
		}
	}
}
