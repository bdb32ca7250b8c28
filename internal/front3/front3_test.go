package front3

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"go.uber.org/goleak"

	"github.com/larderhq/larder/internal/certs/certstest"
	"github.com/larderhq/larder/internal/front"
)

func TestMain(m *testing.M) {
	_ = os.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true") // never fails for such a name
	goleak.VerifyTestMain(m)
}

// long is how long a test waits for what should come soon.
const long = 20 * time.Second

// A door serves HTTP/3.
type door struct {
	*Server
	t     *testing.T
	addr  *net.UDPAddr
	trust *tls.Config
	done  chan error
}

func serve(t *testing.T, h http.HandlerFunc, l front.Limits) *door {
	t.Helper()
	a := certstest.New(t)
	config := &tls.Config{Certificates: []tls.Certificate{a.Pair("h.example", "other.example")}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"}}
	covers := func(sni, host string) bool { return sni == host || host == "other.example" }
	f := front.New(front.Options{Handler: h, Limits: l, Log: slog.New(slog.DiscardHandler), TLS: &front.TLS{Config: config, Covers: covers}})
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(socket, Options{Front: f, TLS: config, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	d := &door{
		Server: s, t: t, addr: socket.LocalAddr().(*net.UDPAddr), done: make(chan error, 1),
		trust: &tls.Config{RootCAs: a.Pool, ServerName: "h.example", MinVersion: tls.VersionTLS13, NextProtos: []string{http3.NextProtoH3}},
	}
	go func() { d.done <- s.Serve() }()
	return d
}

// end drains the Front, which has to go well.
func (d *door) end() {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), long)
	defer cancel()
	if err := errors.Join(d.front.Drain(ctx), <-d.done); err != nil {
		d.t.Error(err)
	}
}

// dial connects to the door without HTTP.
func (d *door) dial(c *quic.Config) (*quic.Conn, error) {
	ctx, cancel := context.WithTimeout(d.t.Context(), long)
	defer cancel()
	return quic.DialAddr(ctx, d.addr.String(), d.trust, c)
}

// settle waits until n connections are there.
func (d *door) settle(n int) {
	d.t.Helper()
	there := func() int {
		d.mu.Lock()
		defer d.mu.Unlock()
		return len(d.guests)
	}
	for deadline := time.Now().Add(long); there() != n; runtime.Gosched() {
		if time.Now().After(deadline) {
			d.t.Fatalf("%d are there, want %d", there(), n)
		}
	}
}

// client asks by HTTP/3, over one connection.
func (d *door) client() *http.Client {
	t := &http3.Transport{
		TLSClientConfig: d.trust.Clone(), DisableCompression: true,
		Dial: func(ctx context.Context, _ string, trust *tls.Config, c *quic.Config) (*quic.Conn, error) {
			return quic.DialAddrEarly(ctx, d.addr.String(), trust, c)
		},
	}
	d.t.Cleanup(func() { _ = t.Close() }) // nobody asks any more
	return &http.Client{Transport: t}
}

// An answer is what a client got.
type answer struct {
	status int
	header http.Header
	body   string
	err    error
}

func (d *door) do(c *http.Client, method, host, path string, content io.Reader, lines ...string) answer {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), long)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "https://h.example"+path, content)
	if err != nil {
		d.t.Fatal(err)
	}
	r.Host = host
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	res, err := c.Do(r)
	if err != nil {
		return answer{err: err}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, string(body), err}
}

func (a answer) want(t *testing.T, status int, body string) {
	t.Helper()
	if a.err != nil || a.status != status || a.body != body {
		t.Errorf("%d, %d octets %.60q, %v; want %d, %d octets %.60q", a.status, len(a.body), a.body, a.err, status, len(body), body)
	}
}

// Requests are answered as by the other doors: with the host checked, with content in both
// directions, and without where there is none.
func TestHTTP3(t *testing.T) {
	large := strings.Repeat("0123456789abcdef", 256<<10)
	d := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/large":
			_, _ = io.WriteString(w, large)
		case "/echo":
			_, _ = io.Copy(w, r.Body)
		default:
			fmt.Fprintf(w, "%s %s %s %v %d %v %s", r.Proto, r.Host, r.RequestURI, r.TLS.HandshakeComplete, r.ContentLength, r.Body == http.NoBody, r.Header.Get("Expect"))
		}
	}, front.Limits{})
	c := d.client()
	d.do(c, "GET", "h.example", "/a%2Fb?c", nil).want(t, 200, "HTTP/3.0 h.example /a%2Fb?c true 0 true ")
	d.do(c, "GET", "other.example", "/", nil).want(t, 200, "HTTP/3.0 other.example / true 0 true ")
	d.do(c, "DELETE", "h.example", "/", nil).want(t, 200, "HTTP/3.0 h.example / true 0 true ")
	d.do(c, "POST", "h.example", "/", strings.NewReader("x"), "Expect: 100-continue").want(t, 200, "HTTP/3.0 h.example / true 1 false 100-continue")
	if a := d.do(c, "GET", "third.example", "/", nil); a.status != 421 || a.err != nil {
		t.Errorf("another's host: %d, %v", a.status, a.err)
	}
	if a := d.do(c, "HEAD", "h.example", "/large", nil); a.status != 200 || a.body != "" || a.err != nil {
		t.Errorf("HEAD: %d %q, %v", a.status, a.body, a.err)
	}
	d.do(c, "GET", "h.example", "/large", nil).want(t, 200, large)
	d.do(c, "POST", "h.example", "/echo", strings.NewReader(large)).want(t, 200, large)
	d.do(c, "GET", "h.example", "/echo", io.MultiReader(strings.NewReader("content of "), strings.NewReader("a GET"))).want(t, 200, "content of a GET")
	d.end()
}

// Who asks before the drain gets its answer, who comes after it none; a client that does not go
// is sent away.
func TestDrain(t *testing.T) {
	started, release := make(chan struct{}, 20), make(chan struct{})
	d := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		started <- struct{}{}
		<-release
		_, _ = io.WriteString(w, strings.Repeat("done", 64<<10))
	}, front.Limits{})
	var asking sync.WaitGroup
	for range 2 {
		c := d.client()
		for range 10 {
			asking.Go(func() { d.do(c, "GET", "h.example", "/", nil).want(t, 200, strings.Repeat("done", 64<<10)) })
		}
	}
	for range 20 {
		<-started
	}
	idle, err := d.dial(nil)
	if err != nil {
		t.Fatal(err)
	}
	d.settle(3)
	ended := make(chan struct{})
	go func() { defer close(ended); d.end() }()
	<-idle.Context().Done()
	if cause := new(quic.ApplicationError); !errors.As(context.Cause(idle.Context()), &cause) || cause.ErrorCode != quic.ApplicationErrorCode(http3.ErrCodeNoError) {
		t.Errorf("it was sent away: %v", context.Cause(idle.Context()))
	}
	if c, err := d.dial(&quic.Config{HandshakeIdleTimeout: 100 * time.Millisecond}); err == nil {
		t.Error("somebody is let in")
		_ = c.CloseWithError(0, "")
	}
	select {
	case <-ended:
		t.Error("it did not wait for who had asked")
	default:
	}
	close(release)
	asking.Wait()
	<-ended
}

// What does not end in time is cut off.
func TestDrain_Cut(t *testing.T) {
	started := make(chan struct{})
	d := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		close(started)
		<-r.Context().Done()
	}, front.Limits{})
	c, asked := d.client(), make(chan answer, 1)
	go func() { asked <- d.do(c, "GET", "h.example", "/", nil) }()
	<-started
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := d.front.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Drain: %v", err)
	}
	if err := <-d.done; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if a := <-asked; a.err == nil {
		t.Errorf("%+v", a)
	}
}

// A head may be as large as by HTTP/2, unpacked (DOS-11), and have as many lines; so may trailers.
func TestDOS11_HeadsAndTrailers(t *testing.T) {
	d := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			w.WriteHeader(400)
		}
	}, front.Limits{})
	c := d.client()
	lines := func(n, size int) (all []string) {
		for i := range n {
			all = append(all, fmt.Sprintf("x-%d: %s", i, strings.Repeat("y", size)))
		}
		return all
	}
	for name, test := range map[string]struct {
		lines  []string
		status int
	}{
		"some":      {lines(50, 100), 200},
		"large":     {lines(1, 30<<10), 200},
		"too large": {lines(1, 33<<10), 431},
		"too many":  {lines(101, 1), 431},
	} {
		if a := d.do(c, "GET", "h.example", "/", nil, test.lines...); a.status != test.status || a.err != nil {
			t.Errorf("%s: %d, %v; want %d", name, a.status, a.err, test.status)
		}
	}
	for size, status := range map[int]int{1: 200, 33 << 10: 400} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://h.example/", io.MultiReader(strings.NewReader("content")))
		if err != nil {
			t.Fatal(err)
		}
		r.Trailer = http.Header{"X-Trailer": {strings.Repeat("y", size)}}
		a, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		a.Body.Close()
		if a.StatusCode != status {
			t.Errorf("trailers of %d octets: %d", size, a.StatusCode)
		}
	}
	d.end()
}

// get and post are fields that every decoder knows (RFC 9204 A): :method.
const get, post = 0xc0 | 17, 0xc0 | 20

// headers is a HEADERS frame with the pseudo fields of a request for /, and then rest.
func headers(method byte, rest []byte) []byte {
	block := append([]byte{0, 0, method, 0xc0 | 23, 0xc0 | 1, 0x50, 9}, "h.example"...) // https, /, :authority
	block = append(block, rest...)
	return append([]byte{1, 0x80 | byte(len(block)>>24), byte(len(block) >> 16), byte(len(block) >> 8), byte(len(block))}, block...)
}

// Two octets stand for a hundred: what they come to is counted before it is kept (DOS-11).
func TestDOS11_Expansion(t *testing.T) {
	came := make(chan int, 1)
	d := serve(t, func(_ http.ResponseWriter, r *http.Request) { came <- len(r.Header["Content-Security-Policy"]) }, front.Limits{})
	c, err := d.dial(nil)
	if err != nil {
		t.Fatal(err)
	}
	policy := []byte{0xff, 85 - 63} // content-security-policy: script-src 'none'; …
	for n, ok := range map[int]bool{10: true, 12 << 10: false} {
		s, err := c.OpenStreamSync(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_ = s.SetDeadline(time.Now().Add(long)) // never fails
		if _, err := s.Write(headers(get, bytes.Repeat(policy, n))); err != nil {
			t.Fatal(err)
		}
		s.Close()
		if answered, err := io.ReadAll(s); len(answered) == 0 || err != nil {
			t.Errorf("%d lines: %q, %v", n, answered, err)
		}
		select {
		case got := <-came:
			if !ok || got != n {
				t.Errorf("%d lines came, of %d", got, n)
			}
		default:
			if ok {
				t.Errorf("%d lines did not come", n)
			}
		}
	}
	_ = c.CloseWithError(0, "")
	d.end()
}

// There is a place for each connection, as by the other doors, and none for more.
func TestPlaces(t *testing.T) {
	d := serve(t, func(http.ResponseWriter, *http.Request) {}, front.Limits{Conns: 1}) // and one for the listener of the others, which is not there
	var in []*quic.Conn
	for range 2 {
		c, err := d.dial(nil)
		if err != nil {
			t.Fatal(err)
		}
		in = append(in, c)
	}
	refused := new(quic.TransportError)
	if _, err := d.dial(nil); !errors.As(err, &refused) || refused.ErrorCode != quic.ConnectionRefused {
		t.Errorf("another one: %v", err)
	}
	_ = in[0].CloseWithError(0, "")
	for deadline := time.Now().Add(long); ; { // until the other end has heard of it
		c, err := d.dial(nil)
		if err == nil {
			_ = c.CloseWithError(0, "")
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("there is no place again: %v", err)
		}
	}
	_ = in[1].CloseWithError(0, "")
	d.end()

	d = serve(t, func(http.ResponseWriter, *http.Request) {}, front.Limits{Conns: 8, ClientConns: 1})
	c, err := d.dial(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.dial(nil); !errors.As(err, &refused) {
		t.Errorf("another one of the same client: %v", err)
	}
	_ = c.CloseWithError(0, "")
	d.end()
}

// A client may have so many requests running, and so much on its way that nobody has read.
func TestStreams(t *testing.T) {
	d := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, front.Limits{})
	c, err := d.dial(nil)
	if err != nil {
		t.Fatal(err)
	}
	sent, full := 0, false // full: nothing more goes into any
	for n := range maxStreams + 1 {
		s, err := c.OpenStream()
		if n == maxStreams {
			if err == nil {
				t.Errorf("there is room for more than %d requests", n)
			}
			break
		}
		if err != nil {
			t.Fatalf("%d: %v", n, err)
		}
		if full {
			continue
		}
		_ = s.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))                              // never fails
		content := append(headers(post, nil), 0, 0x80|2*streamWindow>>24, 2*streamWindow>>16, 0, 0) // a DATA frame
		got, err := s.Write(append(content, make([]byte, 2*streamWindow)...))
		if err == nil || got > streamWindow {
			t.Errorf("%d octets go into a stream", got)
		}
		sent, full = sent+got, got == 0
	}
	if sent < streamWindow || sent > connWindow {
		t.Errorf("%d octets go into a connection", sent)
	}
	_ = c.CloseWithError(0, "")
	d.end()
}

// Who asks for nothing, does not end a head, does not end a request, or takes nothing of an
// answer, is let go (DOS-03, DOS-09).
func TestStalled(t *testing.T) {
	failed := make(chan error, 1)
	d := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		_, err := io.WriteString(w, strings.Repeat("x", 64<<20))
		failed <- err
	}, front.Limits{HeadTimeout: 2 * time.Second, IdleTimeout: 500 * time.Millisecond, StallTimeout: 500 * time.Millisecond})
	alive := &quic.Config{KeepAlivePeriod: 50 * time.Millisecond} // or its own silence would end it
	for name, says := range map[string][]byte{"nothing": nil, "half a head": headers(get, nil)[:8]} {
		c, err := d.dial(alive)
		if err != nil {
			t.Fatal(err)
		}
		if says != nil {
			s, err := c.OpenStreamSync(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Write(says); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case <-c.Context().Done():
		case <-time.After(long):
			t.Errorf("%s: it is still there", name)
			_ = c.CloseWithError(0, "")
		}
	}
	for name, ends := range map[string]bool{"no end": false, "takes nothing": true} {
		c, err := d.dial(alive)
		if err != nil {
			t.Fatal(err)
		}
		s, err := c.OpenStreamSync(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write(headers(get, nil)); err != nil {
			t.Fatal(err)
		}
		if ends {
			s.Close()
			if err := <-failed; err == nil {
				t.Errorf("%s: the answer ends well", name)
			}
		}
		_ = s.SetReadDeadline(time.Now().Add(long)) // never fails
		if _, err := io.Copy(io.Discard, s); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
		_ = c.CloseWithError(0, "")
	}
	d.end()
}

// Nobody may ask before the handshake is over, not even who has been here (DOS-13).
func TestDOS13_NoEarlyData(t *testing.T) {
	d := serve(t, func(http.ResponseWriter, *http.Request) {}, front.Limits{})
	d.trust.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	d.do(d.client(), "GET", "h.example", "/", nil).want(t, 200, "") // so that there is a ticket
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	c, err := quic.DialAddrEarly(ctx, d.addr.String(), d.trust, nil)
	if err != nil {
		t.Fatal(err)
	}
	<-c.HandshakeComplete()
	if s := c.ConnectionState(); !s.TLS.DidResume || s.Used0RTT {
		t.Errorf("by ticket %v, with early data %v", s.TLS.DidResume, s.Used0RTT)
	}
	_ = c.CloseWithError(0, "")
	d.end()
}

// A deaf sends the first datagrams of a handshake, and never hears an answer: as one that says
// that it is somebody else. It returns what was sent and what came back.
func (d *door) deaf(back func([]byte) (enough bool)) (sent, got int) {
	d.t.Helper()
	pipe, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		d.t.Fatal(err)
	}
	defer pipe.Close()
	out, err := net.DialUDP("udp", nil, d.addr)
	if err != nil {
		d.t.Fatal(err)
	}
	defer out.Close()
	ctx, cancel := context.WithCancel(d.t.Context())
	dialled := make(chan struct{})
	go func() {
		defer close(dialled)
		_, _ = quic.DialAddr(ctx, pipe.LocalAddr().String(), d.trust, nil) // nobody answers it
	}()
	octets := make([]byte, 64<<10)
	_ = pipe.SetReadDeadline(time.Now().Add(long)) // never fails
	n, err := pipe.Read(octets)
	if err != nil {
		d.t.Fatal(err)
	}
	cancel()
	<-dialled
	if _, err := out.Write(octets[:n]); err != nil {
		d.t.Fatal(err)
	}
	for sent = n; ; {
		_ = out.SetReadDeadline(time.Now().Add(d.limits.HeadTimeout + time.Second)) // it gives up before
		n, err := out.Read(octets)
		if err != nil {
			return sent, got
		}
		if got += n; back(octets[:n]) {
			return sent, got
		}
	}
}

// Who did not show that it is where it says gets no more than three times what it sent; and where
// many did not, no more than the question whether it is (DOS-12).
func TestDOS12_Amplification(t *testing.T) {
	d := serve(t, func(http.ResponseWriter, *http.Request) {}, front.Limits{HeadTimeout: time.Second})
	if sent, got := d.deaf(func([]byte) bool { return false }); got == 0 || got > 3*sent {
		t.Errorf("%d octets came back for %d", got, sent)
	}
	if n := d.greeting.Load(); n != 0 {
		t.Errorf("%d are still expected", n)
	}
	d.end()

	d = serve(t, func(http.ResponseWriter, *http.Request) {}, front.Limits{HeadTimeout: time.Minute})
	for range unproven {
		d.deaf(func([]byte) bool { return true })
	}
	asked := 0
	isRetry := func(p []byte) bool { // RFC 9000 §17.2.5
		if asked++; p[0]&0xf0 != 0xf0 {
			t.Errorf("it gets %x", p[0])
		}
		return true
	}
	if sent, got := d.deaf(isRetry); asked != 1 || got > sent {
		t.Errorf("%d datagrams, %d octets came back for %d", asked, got, sent)
	}
	d.do(d.client(), "GET", "h.example", "/", nil).want(t, 200, "") // who is there gets in all the same
	d.end()
}
