package front

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/certs/certstest"
	"github.com/larderhq/larder/internal/standing"
)

// A secureDoor serves by TLS at addr.
type secureDoor struct {
	*Server
	t     *testing.T
	addr  string
	trust *tls.Config
	done  chan error
}

func serveTLS(t *testing.T, h http.HandlerFunc, l Limits) *secureDoor {
	t.Helper()
	a := certstest.New(t)
	config := &tls.Config{Certificates: []tls.Certificate{a.Pair("h.example", "other.example")}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	covers := func(sni, host string) bool { return sni == host || host == "other.example" }
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Handler: h, Limits: l, TLS: &TLS{Config: config, Covers: covers}}
	if byLoops {
		o.Standing, o.Clock = standing.New(nil), twoClocks
	}
	d := &secureDoor{
		Server: New(o), t: t, addr: listener.Addr().String(),
		trust: &tls.Config{RootCAs: a.Pool, ServerName: "h.example", MinVersion: tls.VersionTLS12}, done: make(chan error, 1),
	}
	go func() { d.done <- d.ServeTLS(listener) }()
	return d
}

// end drains, which has to go well.
func (d *secureDoor) end() {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := errors.Join(d.Drain(ctx), <-d.done); err != nil {
		d.t.Error(err)
	}
}

// client asks with HTTP/2, or HTTP/1.1.
func (d *secureDoor) client(second bool) *http.Client {
	p := new(http.Protocols)
	p.SetHTTP1(!second)
	p.SetHTTP2(second)
	t := &http.Transport{
		TLSClientConfig: d.trust.Clone(), Protocols: p, DisableCompression: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, d.addr)
		},
	}
	d.t.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t}
}

func (d *secureDoor) get(c *http.Client, host, path string) (int, string, error) {
	r, err := http.NewRequestWithContext(d.t.Context(), http.MethodGet, "https://h.example"+path, http.NoBody)
	if err != nil {
		return 0, "", err
	}
	r.Host = host
	a, err := c.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer a.Body.Close()
	body, err := io.ReadAll(a.Body)
	return a.StatusCode, string(body), err
}

// Over TLS both versions are served, and requests for other servers are not (RFC 9110 §7.4).
func TestTLS(t *testing.T) {
	d := serveTLS(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s %v %s", r.Proto, r.Host, r.TLS != nil && r.TLS.HandshakeComplete, r.TLS.ServerName)
	}, Limits{})
	for second, proto := range map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"} {
		c := d.client(second)
		for host, status := range map[string]int{"h.example": 200, "other.example": 200, "third.example": 421, "h.example:8443": 200} {
			got, body, err := d.get(c, host, "/")
			if err != nil || got != status || got == 200 && body != fmt.Sprintf("%s %s true h.example", proto, host) {
				t.Errorf("%s: %s gets %d %q, %v; want %d", proto, host, got, body, err, status)
			}
		}
	}
	d.end()
	if _, _, err := d.get(d.client(true), "h.example", "/"); err == nil {
		t.Error("it answers though it was drained")
	}
}

// Requests that are running when the Server is drained are answered, in both versions.
func TestTLS_Drain(t *testing.T) {
	started, release := make(chan struct{}, 40), make(chan struct{})
	d := serveTLS(t, func(w http.ResponseWriter, _ *http.Request) {
		started <- struct{}{}
		<-release
		_, _ = io.WriteString(w, "done")
	}, Limits{})
	var asking sync.WaitGroup
	for _, second := range []bool{false, true} {
		c := d.client(second)
		for range 20 {
			asking.Go(func() {
				if status, body, err := d.get(c, "h.example", "/"); status != 200 || body != "done" || err != nil {
					t.Errorf("%d %q, %v", status, body, err)
				}
			})
		}
	}
	for range 40 {
		<-started
	}
	ended := make(chan struct{})
	go func() { defer close(ended); d.end() }()
	<-d.greeting.Done() // nobody is let in any more
	close(release)
	asking.Wait()
	<-ended
}

// Who does not go on with a handshake, or says something else than TLS, is let go (DOS-03).
func TestTLS_StalledHandshake(t *testing.T) {
	d := serveTLS(t, func(http.ResponseWriter, *http.Request) { t.Error("somebody was served") }, Limits{HeadTimeout: 100 * time.Millisecond})
	for name, says := range map[string]string{"nothing": "", "half a record": "\x16\x03\x01\x02\x00\x01", "HTTP": "GET / HTTP/1.1\r\nHost: h.example\r\n\r\n"} {
		c, err := net.Dial("tcp", d.addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, says); err != nil {
			t.Error(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: it is still there", name)
		}
		c.Close()
	}
	d.end()
}

// A client that has a Host beside another :authority is refused (RFC 9113 §8.3.1); one that
// takes nothing of an answer loses that, and nothing else (DOS-09).
func TestHTTP2_Streams(t *testing.T) {
	failed := make(chan error, 1)
	d := serveTLS(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/large" {
			_, _ = io.WriteString(w, "small")
			return
		}
		_, err := io.WriteString(w, strings.Repeat("x", 64<<20))
		failed <- err
	}, Limits{StallTimeout: 200 * time.Millisecond})
	c := d.client(true)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://h.example/large", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	a, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	if err := <-failed; err == nil {
		t.Error("an answer that nobody takes ends well")
	}
	if status, body, err := d.get(c, "h.example", "/"); status != 200 || body != "small" || err != nil {
		t.Errorf("another request gets %d %q, %v", status, body, err)
	}
	d.end()
}
