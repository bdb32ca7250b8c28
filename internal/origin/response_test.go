package origin

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"syscall"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/field"
	"github.com/larderhq/larder/internal/interim"
)

// A canned is a connection on which octets wait, and then its end. It hands out at
// most piece at once.
type canned struct {
	net.Conn // none: nothing else is asked of it
	octets   []byte
	piece    int
}

func (c *canned) Read(p []byte) (int, error) {
	n := copy(p[:min(len(p), c.piece)], c.octets)
	if n == 0 {
		return 0, io.EOF
	}
	c.octets = c.octets[n:]
	return n, nil
}

func (c *canned) Write(p []byte) (int, error)      { return len(p), nil }
func (c *canned) Close() error                     { return nil }
func (c *canned) SetReadDeadline(time.Time) error  { return nil }
func (c *canned) SetWriteDeadline(time.Time) error { return nil }

// An outcome is what an Upstream makes of octets.
type outcome struct {
	kind   Kind // of the error of either
	head   *http.Response
	body   string
	pooled bool
	left   int // octets that were not read
}

// receive has a request by method answered with octets, in pieces.
func receive(t *testing.T, method string, octets []byte, piece int) (o outcome) {
	t.Helper()
	c := &canned{octets: octets, piece: piece}
	u, err := New(Options{
		URL:          &url.URL{Scheme: "http", Host: "h"},
		MaxHeadBytes: 1 << 10,
		Dial:         func(context.Context, string, string) (net.Conn, error) { return c, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := u.RoundTrip(&http.Request{Method: method, URL: &url.URL{Path: "/"}})
	if err == nil {
		var b []byte
		b, err = io.ReadAll(resp.Body)
		o.head, o.body = resp, string(b)
	}
	var own *Error
	switch {
	case errors.As(err, &own):
		o.kind = own.Kind
	case err != nil:
		t.Fatalf("an error of no kind: %v", err)
	}
	u.pool.mu.Lock()
	defer u.pool.mu.Unlock()
	o.pooled, o.left = len(u.pool.idle) > 0, len(c.octets)
	return o
}

var seeds = []string{
	"HTTP/1.1 103 x\r\nCache-Control: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nCache-Control: b\r\n\r\n3;x=y\r\nabc\r\n0\r\nA: b\r\n\r\nrest",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A, B\r\n\r\n3\r\nabc\r\n0\r\nA: b\r\na:c\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
	"HTTP/1.0 200 OK\nConnection: close\n\nuntil the end",
	"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nConnection: close, x\r\nPragma: no-cache\r\nA:\r\n b\r\nA: c\r\n\td\r\nContent-Length: 1\r\n\r\nx",
	"HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\nabc",
	"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
	"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab",
	"HTTP/1.1 101 x\r\n\r\n",
	"HTTP/1.1 200 OK\r\nA: \x00\r\n\r\n",
	"\r\n\r\n",
}

// However the network cuts an answer into pieces, the same comes of it.
func FuzzMSG14_PiecesDoNotMatter(f *testing.F) {
	for _, s := range seeds {
		for _, piece := range []int{1, 2, 3, 7} {
			f.Add([]byte(s), piece)
		}
	}
	f.Fuzz(func(t *testing.T, octets []byte, piece int) {
		whole := receive(t, http.MethodGet, octets, max(1, len(octets)))
		cut := receive(t, http.MethodGet, octets, min(max(1, piece), 1<<20))
		if cut.kind != whole.kind || cut.body != whole.body || !alike(cut.head, whole.head) {
			t.Errorf("whole: %+v; in pieces of %d: %+v", whole, piece, cut)
		}
		// What comes after a message may be seen at once, or by the next request.
		if whole.pooled && !cut.pooled {
			t.Errorf("whole: it may serve again; in pieces of %d it may not", piece)
		}
	})
}

// alike tells whether two responses say the same.
func alike(a, b *http.Response) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Status == b.Status && a.StatusCode == b.StatusCode && a.Proto == b.Proto && a.ProtoMajor == b.ProtoMajor && a.ProtoMinor == b.ProtoMinor &&
		a.ContentLength == b.ContentLength && reflect.DeepEqual(a.TransferEncoding, b.TransferEncoding) && a.Close == b.Close &&
		a.Uncompressed == b.Uncompressed && reflect.DeepEqual(a.Header, b.Header) && reflect.DeepEqual(a.Trailer, b.Trailer)
}

// reference reads the final response as net/http does, and tells how many octets
// are left.
func reference(method string, octets []byte) (resp *http.Response, body string, left int, err error) {
	in := bytes.NewReader(octets)
	r := bufio.NewReaderSize(in, 16<<10) // which bounds trailer sections
	for n := 0; ; n++ {
		resp, err = http.ReadResponse(r, &http.Request{Method: method})
		if err != nil || n > interim.Max {
			return nil, "", 0, errors.Join(err, errors.New("no final response"))
		}
		if resp.StatusCode >= 200 {
			b, err := io.ReadAll(resp.Body)
			return resp, string(b), r.Buffered() + in.Len(), err
		}
	}
}

// Whatever is accepted, net/http takes for the same response, and for as many octets
// if the connection may serve again.
func FuzzRS21_AcceptsWhatNetHTTPReads(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s), false, 5)
		f.Add([]byte(s), true, 1<<10)
	}
	f.Fuzz(func(t *testing.T, octets []byte, head bool, piece int) {
		method := http.MethodGet
		if head {
			method = http.MethodHead
		}
		got := receive(t, method, octets, min(max(1, piece), 1<<20))
		if got.kind != "" {
			return // being stricter is what it is for
		}
		want, body, left, err := reference(method, octets)
		if err != nil {
			t.Fatalf("accepted: %+v; net/http: %v", got.head, err)
		}
		// Names announced for trailers that are none cannot come; net/http has them.
		maps.DeleteFunc(want.Trailer, func(name string, _ []string) bool { return !field.IsToken(name) })
		if len(want.Trailer) == 0 {
			want.Trailer = nil
		}
		// net/http adds Cache-Control for Pragma, which RFC 9110 §7.7 forbids, and
		// removes Connection, which still names fields, if it has close.
		if got.head.Header["Cache-Control"] == nil && len(want.Header["Pragma"]) > 0 && want.Header["Pragma"][0] == "no-cache" {
			delete(want.Header, "Cache-Control")
		}
		if want.Header["Connection"] == nil && want.Close {
			delete(got.head.Header, "Connection")
		}
		if !alike(got.head, want) || got.body != body {
			t.Errorf("got %+v %q\nwant %+v %q", got.head, got.body, want, body)
		}
		if got.pooled && (got.left != left || got.head.Close) {
			t.Errorf("may serve again with %d octets to come, net/http leaves %d", got.left, left)
		}
	})
}

func TestMSG20_IdleConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for name, then := range map[string]func(net.Conn) error{
		"octets": func(c net.Conn) error { _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n"); return err },
		"end":    func(c net.Conn) error { return c.(*net.TCPConn).CloseWrite() },
		"reset":  func(c net.Conn) error { return errors.Join(c.(*net.TCPConn).SetLinger(0), c.Close()) },
	} {
		here, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		there, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c := newConn(here, nil, nil)
		if !c.quiet() {
			t.Errorf("%s: not quiet before", name)
		}
		if err := then(there); err != nil {
			t.Fatal(err)
		}
		// Loopback has delivered by the time that a read would return.
		raw, err := here.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var b [1]byte
		_ = raw.Read(func(fd uintptr) bool {
			_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
			return err != syscall.EAGAIN
		})
		if c.quiet() {
			t.Errorf("%s: quiet", name)
		}
		_ = there.Close()
		_ = here.Close()
	}
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

// Where no more may be open, a new connection takes the place of an idle one.
func TestFWD09_FreshInPlaceOfAnIdleOne(t *testing.T) {
	u, err := New(Options{
		URL:      &url.URL{Scheme: "http", Host: "h"},
		MaxConns: 1,
		Dial:     func(context.Context, string, string) (net.Conn, error) { return &canned{}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	old, err := u.pool.get(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	u.pool.put(old)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if c, err := u.pool.get(ctx, true); err != nil || c == old || u.pool.open != 1 {
		t.Errorf("%v, the old one: %t, %d open", err, c == old, u.pool.open)
	}
}

func TestORG_AddressAndHost(t *testing.T) {
	for raw, want := range map[string][2]string{
		"http://h":                   {"h:80", "h"},
		"https://h/app":              {"h:443", "h"},
		"http://127.0.0.1:81":        {"127.0.0.1:81", "127.0.0.1:81"},
		"http://[::1]:81":            {"[::1]:81", "[::1]:81"},
		"http://[fe80::1%25eth0]/":   {"[fe80::1%eth0]:80", "[fe80::1]"},
		"http://b\u00fccher.example": {"xn--bcher-kva.example:80", "xn--bcher-kva.example"},
	} {
		in, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		u, err := New(Options{URL: in})
		if err != nil {
			t.Fatal(err)
		}
		if host, err := u.host(""); u.addr != want[0] || host != want[1] || err != nil {
			t.Errorf("%s: %q, Host: %q, %v, want %q", raw, u.addr, host, err, want)
		}
	}
	u := &Upstream{opt: Options{URL: &url.URL{}}}
	for _, host := range []string{"a b", "a\r\nb: c", "a\x00"} {
		if got, err := u.host(host); err == nil {
			t.Errorf("%q is sent as %q", host, got)
		}
	}
}
