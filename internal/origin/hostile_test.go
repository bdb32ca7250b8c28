package origin_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/interim"
	"github.com/larderhq/larder/internal/origin"
)

// A fate is what is to become of an answer.
type fate int

const (
	whole   fate = iota // complete, and the connection serves again
	last                // complete, and the connection does not
	refused             // never complete
)

// An attack is an answer of a hostile origin, and what it is to be taken for.
type attack struct {
	name, octets string
	closes       bool // the origin closes behind it
	body         string
	fate         fate // of an answer to GET
	head         fate // and to HEAD
}

// A fake is what must not be taken for the answer to anything.
const fake = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nFAKE"

// attacks are those of RS-21, and what surrounds them.
func attacks() (all []attack) {
	const ok = "HTTP/1.1 200 OK\r\n"
	add := func(name, octets, body string, get, head fate) {
		all = append(all, attack{name, octets, false, body, get, head})
	}
	ends := func(name, octets, body string, get, head fate) {
		all = append(all, attack{name, octets, true, body, get, head})
	}
	// The innocent, or the rest would prove nothing.
	add("length", ok+"Content-Length: 4\r\n\r\nbody", "body", whole, last)
	add("chunks", ok+"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n", "body", whole, last)
	add("no content", "HTTP/1.1 204 No Content\r\n\r\n", "", whole, whole)
	add("zero length", ok+"Content-Length: 0\r\n\r\n", "", whole, whole)
	add("hints", "HTTP/1.1 103 x\r\n\r\n"+ok+"Content-Length: 0\r\n\r\n", "", whole, whole)
	add("HTTP/1.0 kept", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", "", whole, whole)
	ends("until close", ok+"\r\nbody", "body", last, last)
	add("asks for the end", ok+"Connection: x, CLOSE\r\nContent-Length: 0\r\n\r\n", "", last, last)
	add("HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", "", last, last)

	// Two ways to frame, two messages, or more than was framed.
	add("CL+TE", ok+"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n", "body", last, last)
	add("TE+CL", ok+"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n4\r\nbody\r\n0\r\n\r\n", "body", last, last)
	add("two answers", ok+"Content-Length: 4\r\n\r\nbody"+fake, "body", last, last)
	add("two after chunks", ok+"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"+fake, "body", last, last)
	add("two after nothing", ok+"Content-Length: 0\r\n\r\n"+fake, "", last, last)
	add("more than the length", ok+"Content-Length: 4\r\n\r\nbodyX", "body", last, last)
	add("line end behind", ok+"Content-Length: 4\r\n\r\nbody\r\n", "body", last, last)
	add("body on 204", "HTTP/1.1 204 x\r\nContent-Length: 4\r\n\r\nFAKE", "", last, last)
	add("chunks on 204", "HTTP/1.1 204 x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "", last, last)
	add("body on 304", "HTTP/1.1 304 x\r\nContent-Length: 4\r\n\r\nFAKE", "", last, last)
	add("answer on 304", "HTTP/1.1 304 x\r\n\r\n"+fake, "", last, last)
	add("hint behind", ok+"Content-Length: 0\r\n\r\nHTTP/1.1 103 x\r\n\r\n", "", last, last)

	// Interim answers, and changes of protocol.
	add("flood of 1xx", strings.Repeat("HTTP/1.1 103 x\r\n\r\n", interim.Max+1)+fake, "", refused, refused)
	add("body on 1xx", "HTTP/1.1 103 x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"+fake, "", refused, refused)
	add("length on 1xx", "HTTP/1.1 103 x\r\nContent-Length: 4\r\n\r\nFAKE"+fake, "", refused, refused)
	add("unasked 101", "HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"+fake, "", refused, refused)
	ends("1xx alone", "HTTP/1.1 103 x\r\n\r\n", "", refused, refused)

	// Ends where none should be.
	ends("nothing", "", "", refused, refused)
	ends("half a status line", "HTTP/1.1 20", "", refused, refused)
	ends("half a head", ok+"Content-Length: 4\r\n", "", refused, refused)
	ends("half a body", ok+"Content-Length: 4\r\n\r\nbo", "", refused, last)
	ends("half a size", ok+"Transfer-Encoding: chunked\r\n\r\n1", "", refused, last)
	ends("half a chunk", ok+"Transfer-Encoding: chunked\r\n\r\n4\r\nbo", "", refused, last)
	ends("no last chunk", ok+"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n", "", refused, last)
	ends("no last line", ok+"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n", "", refused, last)
	ends("half a trailer", ok+"Transfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n", "", refused, last)

	// Lengths, codings and chunks that are none.
	for _, length := range []string{"-1", "+4", "0x4", "4 4", "4, 4", "", "18446744073709551620", "9223372036854775808", "4_0", "4\r\nContent-Length: 5", "5\r\nContent-Length: 4", "4\r\nContent-Length: 04"} {
		add("length "+length, ok+"Content-Length: "+length+"\r\n\r\nbody", "", refused, refused)
	}
	for _, coding := range []string{"gzip", "identity", "gzip, chunked", "chunked, chunked", "xchunked", "chunked;q=1", "\"chunked\"", "", "chunked\r\nTransfer-Encoding: chunked", "chunked\r\nTransfer-Encoding: identity", "\r\n chunked"} {
		add("coding "+coding, ok+"Transfer-Encoding: "+coding+"\r\n\r\n4\r\nbody\r\n0\r\n\r\n", "", refused, refused)
	}
	for _, size := range []string{"-4", "+4", "0x4", " 4", "4 ", "", ";a", "G", "4;a\rb", "4;a\x00", "8000000000000000", "FFFFFFFFFFFFFFFFF", "00000000000000004", "4;" + strings.Repeat("x", 5000)} {
		add("size "+size[:min(20, len(size))], ok+"Transfer-Encoding: chunked\r\n\r\n"+size+"\r\nbody\r\n0\r\n\r\n", "", refused, last)
	}
	for _, bad := range []string{"4\nbody\r\n0\r\n\r\n", "4\r\nbody\n0\r\n\r\n", "4\r\nbody0\r\n\r\n", "4\r\nbodyX\r\n0\r\n\r\n", "4\r\nbody\r\n0\r\nA: b\n\r\n", "0\r\n\n", "0\nA: b\r\n\r\n", "0\r\nA b\r\n\r\n", "0\r\n A: b\r\n\r\n", "0\r\nA: \x00\r\n\r\n"} {
		add("chunks "+bad, ok+"Transfer-Encoding: chunked\r\n\r\n"+bad, "", refused, last)
	}
	add("far more framing than data", ok+"Transfer-Encoding: chunked\r\n\r\n"+strings.Repeat("1;"+strings.Repeat("x", 1000)+"\r\nx\r\n", 20)+"0\r\n\r\n", "", refused, last)
	add("HTTP/1.0 with a coding", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n", "", refused, refused)

	// Lines that are none.
	for _, line := range []string{"A: b\x00c", "A: b\rc", "A: b\r\r", "A: \x01", "A : b", ": b", "A", " A: b", "\tA: b", "A\x00: b", "A(: b", "Content-Length: 4\r\n 5", "Content-Length: 4\r\n\t"} {
		add("line "+line, ok+line+"\r\nContent-Length: 4\r\n\r\nbody", "", refused, refused)
	}
	for _, status := range []string{"HTTP/1.1 099 x", "HTTP/1.1 000 x", "HTTP/1.1 20 x", "HTTP/1.1 2000 x", "HTTP/1.1 -20 x", "HTTP/1.1  200", "HTTP/2.0 200 x", "HTTP/11 200 x", "http/1.1 200 x", "HTTP/1.1\t200 x", " HTTP/1.1 200 x", "\r\nHTTP/1.1 200 x", "ICY 200 OK", "HTTP/1.1 200 \x00"} {
		add("status "+status, status+"\r\nContent-Length: 4\r\n\r\nbody", "", refused, refused)
	}
	add("folded", ok+"A: b\r\n c\r\nContent-Length: 4\r\n\r\nbody", "body", whole, last)
	add("bare LF", "HTTP/1.1 200 OK\nContent-Length: 4\n\nbody", "body", whole, last)
	add("bare LF and another", "HTTP/1.1 200 OK\nContent-Length: 4\n\nbody"+fake, "body", last, last)
	add("head too long", ok+"A: "+strings.Repeat("x", 70<<10)+"\r\n\r\n", "", refused, refused)
	return all
}

// A foe is an origin that answers what is asked for at /attack with an attack, and
// the rest as it should. It tells each request which connection it came by.
type foe struct {
	listener net.Listener
	attack   atomic.Pointer[attack]
	conns    atomic.Int64
	serving  sync.WaitGroup
}

func (f *foe) serve() {
	for {
		c, err := f.listener.Accept()
		if err != nil {
			return
		}
		nth := f.conns.Add(1)
		f.serving.Go(func() { defer c.Close(); f.answer(c, nth) })
	}
}

func (f *foe) answer(c net.Conn, nth int64) {
	r := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return
		}
		if req.URL.Path != "/attack" {
			_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nX-Connection: %d\r\nContent-Length: %d\r\n\r\n%s", nth, len(req.URL.Path), req.URL.Path)
			continue
		}
		a := f.attack.Load()
		_, _ = io.WriteString(c, a.octets)
		if a.closes {
			return
		}
	}
}

// A cutter is a connection on which the octets of an answer come in two parts.
type cutter struct {
	*net.TCPConn
	left *atomic.Int64 // octets of the first
}

func (c *cutter) Read(p []byte) (int, error) {
	left := c.left.Load()
	if left > 0 && int64(len(p)) > left {
		p = p[:left]
	}
	n, err := c.TCPConn.Read(p)
	if left > 0 {
		c.left.Add(-int64(n))
	}
	return n, err
}

// Whatever a hostile origin answers, however it is cut, nothing is taken for complete
// that is not, and no connection serves again that cannot be trusted.
func TestRS21_HostileOrigin(t *testing.T) {
	methods := []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"}
	const cuts = 4 // of each, beside some that matter
	all := attacks()
	work := make(chan attack)
	var cases atomic.Int64
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Error(err)
				return
			}
			f := &foe{listener: l}
			f.serving.Go(f.serve)
			defer f.serving.Wait()
			defer l.Close()
			for a := range work {
				f.attack.Store(&a)
				for _, method := range methods {
					for _, cut := range cutsOf(&a, cuts) {
						for _, warm := range []bool{false, true} {
							f.try(t, &a, method, cut, warm)
							cases.Add(1)
						}
					}
				}
			}
		})
	}
	for _, a := range all {
		work <- a
	}
	close(work)
	workers.Wait()
	if n := cases.Load(); n < 10_000 {
		t.Errorf("%d cases, want 10,000", n)
	}
}

// cutsOf are places to cut an answer: the ends of its head and of its first message,
// and n others.
func cutsOf(a *attack, n int) []int64 {
	size := len(a.octets)
	cuts := []int64{int64(size)}
	if end := strings.Index(a.octets, "\r\n\r\n"); end > 0 {
		cuts = append(cuts, int64(end+2), int64(end+4), int64(min(end+8, size)))
	}
	if second := strings.Index(a.octets, fake); second > 0 {
		cuts = append(cuts, int64(second))
	}
	random := rand.New(rand.NewPCG(21, uint64(size)))
	for range n {
		cuts = append(cuts, 1+random.Int64N(int64(max(size, 1))))
	}
	return cuts
}

// try asks for an attack, on a connection that has served before if warm, and then for
// something else.
func (f *foe) try(t *testing.T, a *attack, method string, cut int64, warm bool) {
	var first atomic.Int64
	up, err := origin.New(origin.Options{
		URL:                   &url.URL{Scheme: "http", Host: f.listener.Addr().String()},
		ResponseHeaderTimeout: 5 * time.Second, // nothing here has to be waited for
		StallTimeout:          5 * time.Second,
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			var d net.Dialer
			c, err := d.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return &cutter{c.(*net.TCPConn), &first}, nil
		},
	})
	if err != nil {
		t.Error(err)
		return
	}
	defer up.CloseIdle()
	name := fmt.Sprintf("%s %q, cut at %d, warm %t", method, a.name, cut, warm)
	if warm {
		if _, body, err := ask(up, "GET", "/warm"); err != nil || body != "/warm" {
			t.Errorf("%s: %q, %v", name, body, err)
		}
	}
	first.Store(cut)
	before := f.conns.Load()
	_, body, err := ask(up, method, "/attack")
	used := max(before, f.conns.Load()) // the last that was opened
	want := a.fate
	if method == "HEAD" {
		want = a.head
	}
	switch {
	case want == refused && err == nil:
		t.Errorf("%s: taken for complete: %q", name, body)
	case want != refused && err != nil:
		t.Errorf("%s: %v", name, err)
	case want != refused && method != "HEAD" && body != a.body:
		t.Errorf("%s: body %q", name, body)
	}
	first.Store(0)
	resp, body, err := ask(up, "GET", "/next")
	if err != nil || body != "/next" {
		t.Errorf("%s: the next request: %q, %v", name, body, err)
		return
	}
	if again := resp.Header.Get("X-Connection") == fmt.Sprint(used); again != (want == whole) {
		t.Errorf("%s: its connection served again: %t", name, again)
	}
}

// ask sends a request and reads the response to its end.
func ask(up *origin.Upstream, method, path string) (*http.Response, string, error) {
	var content io.Reader
	if method == "POST" || method == "PUT" {
		content = strings.NewReader("content")
	}
	req, err := http.NewRequest(method, "http://h"+path, content)
	if err != nil {
		return nil, "", err
	}
	resp, err := up.RoundTrip(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp, string(b), err
}
