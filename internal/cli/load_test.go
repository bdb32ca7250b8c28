//go:build linux

package cli

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/certs/certstest"
)

// peak is the largest memory that the process has used so far, in octets.
func (p *process) peak(t *testing.T) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	number, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	kib, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// A gigabyte passes through a cache of 256 MiB that is full already: with its
// length declared and without, in the memory that was promised, and the first
// octet leaves long before the last has come.
func TestGigabyteThroughASmallCache(t *testing.T) {
	const gigabyte, budget, beside = 1 << 30, 256 << 20, 64 << 20
	block := []byte(strings.Repeat("0123456789abcdef", 64<<10/16))
	begun := make(chan time.Time, 1)
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		size, _ := strconv.Atoi(r.URL.Query().Get("size"))
		w.Header().Set("Cache-Control", "max-age=600")
		if strings.HasPrefix(r.URL.Path, "/declared") {
			w.Header().Set("Content-Length", strconv.Itoa(size))
		}
		if size == gigabyte {
			begun <- time.Now()
		}
		for ; size > 0; size -= len(block) {
			if _, err := w.Write(block[:min(size, len(block))]); err != nil {
				return
			}
		}
	}))
	defer origin.Close()
	p := start(t, origin.URL, "--memory", "256MiB", "--log", "off")
	for i := range budget/len(block) + 500 {
		resp, err := http.Get(p.url + fmt.Sprintf("/declared/%d?size=%d", i, len(block)))
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"/declared", "/chunked"} {
		resp, err := http.Get(p.url + fmt.Sprintf("%s?size=%d", path, gigabyte))
		if err != nil {
			t.Fatal(err)
		}
		one := make([]byte, 1)
		if _, err := io.ReadFull(resp.Body, one); err != nil {
			t.Fatal(err)
		}
		first := time.Since(<-begun)
		n, err := io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if n != gigabyte-1 || err != nil {
			t.Errorf("%s: %d octets, %v", path, n+1, err)
		}
		t.Logf("%s: first octet %v after the origin began; peak so far %d MiB", path, first, p.peak(t)>>20)
		if first > 2*time.Second { // a bound against buffering; the figure is in the log
			t.Errorf("%s: the first octet took %v", path, first)
		}
	}
	if peak := p.peak(t); peak > budget+beside {
		t.Errorf("the process used %d MiB, which is more than %d + %d", peak>>20, budget>>20, beside>>20)
	}
	p.stop(t)
}

// A thousand clients at once on one cold slow URL are one request to the
// origin; a hundred on an uncacheable one each get their own answer, and do not
// wait for each other.
func TestManyClientsAtOnce(t *testing.T) {
	var asked atomic.Int64
	const pause = time.Second
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := asked.Add(1)
		select {
		case <-time.After(pause):
		case <-r.Context().Done():
		}
		if r.URL.Path == "/own" {
			w.Header().Set("Cache-Control", "no-store")
		} else {
			w.Header().Set("Cache-Control", "max-age=60")
		}
		fmt.Fprint(w, n)
	}))
	defer origin.Close()
	p := start(t, origin.URL, "--log", "off")
	for _, c := range []struct {
		path            string
		clients, asking int64
	}{{"/cold", 1000, 1}, {"/own", 100, 100}} {
		asked.Store(0)
		began := time.Now()
		var group sync.WaitGroup
		var answers sync.Map
		for range c.clients {
			group.Go(func() {
				_, body := get(t, p.url+c.path)
				answers.Store(body, true)
			})
		}
		group.Wait()
		different := int64(0)
		answers.Range(func(any, any) bool { different++; return true })
		if asked.Load() != c.asking || different != c.asking {
			t.Errorf("%s: %d clients made %d requests and got %d different answers, want %d", c.path, c.clients, asked.Load(), different, c.asking)
		}
		took := time.Since(began)
		t.Logf("%s: %d clients, %d requests to the origin, %v", c.path, c.clients, asked.Load(), took)
		if took > time.Duration(c.clients)*pause/4 && c.asking > 1 {
			t.Errorf("%s: took %v, as if one after the other", c.path, took)
		}
	}
	p.stop(t)
}

// With far fewer descriptors than there are clients, who is there is answered, and
// so is who comes once the others are gone.
func TestFewDescriptors(t *testing.T) {
	const clients = 2000
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		fmt.Fprint(w, "hello")
	}))
	defer origin.Close()
	p := startUnder(t, []string{"sh", "-c", `ulimit -n 256 && exec "$0" "$@"`}, origin.URL, "--log", "off")
	regular := http.Client{Transport: &http.Transport{}}
	ask := func() {
		t.Helper()
		resp, err := regular.Get(p.url)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if resp.Body.Close(); string(body) != "hello" || err != nil {
			t.Fatalf("%q, %v", body, err)
		}
	}
	ask()
	var crowd []net.Conn
	for i := range clients {
		c, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		if err != nil {
			t.Fatalf("client %d: %v", i, err)
		}
		crowd = append(crowd, c)
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
			t.Fatalf("client %d: %v", i, err)
		}
		if i%10 == 0 {
			ask() // on a connection that has its place
		}
	}
	for _, c := range crowd {
		c.Close()
	}
	regular.CloseIdleConnections()
	began := time.Now()
	ask()
	if took := time.Since(began); took > 10*time.Second { // a bound against hangs; the figure is in the log
		t.Errorf("once all had left, an answer took %v", took)
	} else {
		t.Logf("once all had left, an answer took %v", took)
	}
	p.stop(t)
}

// Clients that are at work when SIGTERM comes get every answer whole, hits, misses
// and uploads, until one says that it is the last.
func TestStopUnderLoad(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("an upload: %v", err)
		}
		w.Header().Set("Cache-Control", "max-age=600")
		fmt.Fprint(w, strings.Repeat("x", 20_000+len(body)))
	}))
	defer origin.Close()
	for round := range 20 {
		p := start(t, origin.URL, "--log", "off")
		var group sync.WaitGroup
		var answered atomic.Int64
		busy := make(chan struct{})
		for i := range 8 {
			group.Go(func() {
				n := atWork(t, p.url, i, func() {
					if answered.Add(1) == 400 {
						close(busy)
					}
				})
				if n == 0 {
					t.Errorf("round %d: client %d got nothing", round, i)
				}
			})
		}
		<-busy
		p.signal(t)
		group.Wait()
		if err := <-p.exited; err != nil {
			t.Errorf("round %d: after SIGTERM: %v", round, err)
		}
	}
}

// atWork asks on one connection until an answer says that it is the last, and
// returns how many there were.
func atWork(t *testing.T, url string, client int, answered func()) (n int) {
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Error(err)
		return 0
	}
	defer c.Close()
	in := bufio.NewReader(c)
	for ; ; n++ {
		line, fields, body := "GET /hit", "", ""
		switch (n + client) % 10 {
		case 0:
			line = fmt.Sprintf("GET /miss/%d/%d", client, n)
		case 1:
			line, fields, body = "POST /", "Content-Length: 5000\r\n", strings.Repeat("y", 5000)
		}
		if _, err := fmt.Fprintf(c, "%s HTTP/1.1\r\nHost: h\r\n%s\r\n%s", line, fields, body); err != nil {
			t.Errorf("client %d, request %d: %v", client, n, err)
			return n
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Errorf("client %d, request %d: %v", client, n, err)
			return n
		}
		if size, err := io.Copy(io.Discard, resp.Body); err != nil || size != int64(20_000+len(body)) || resp.StatusCode != http.StatusOK {
			t.Errorf("client %d, request %d: status %d, %d octets, %v", client, n, resp.StatusCode, size, err)
		}
		answered()
		if resp.Close {
			return n + 1
		}
	}
}

// The same in HTTP/2, where one connection has many requests running: those that the server takes
// are answered whole, and of the others, which it says that it did not take, nothing has come to
// the origin, so that a client may send them elsewhere (R-21, RFC 9113 §6.8).
func TestStopUnderLoad_HTTP2(t *testing.T) {
	var taken sync.Map // queries that came to the origin
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		taken.Store(r.URL.RawQuery, true)
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("an upload: %v", err)
		}
		w.Header().Set("Cache-Control", "max-age=600")
		fmt.Fprint(w, strings.Repeat("x", 20_000+len(body)))
	}))
	defer origin.Close()
	authority := certstest.New(t)
	cert, key := authority.Write(t.TempDir(), "c", "127.0.0.1")
	for round := range 20 {
		p := start(t, origin.URL, "--log", "off", "--https", "127.0.0.1:0", "--cert", cert+","+key)
		var asking sync.WaitGroup
		var answered, left atomic.Int64
		busy := make(chan struct{})
		for client := range 4 {
			c := once(&tls.Config{RootCAs: authority.Pool, MinVersion: tls.VersionTLS12})
			for n := range 8 {
				name := fmt.Sprintf("round %d, client %d, loop %d", round, client, n)
				asking.Go(func() {
					defer left.Add(1)
					for i := 0; ; i++ {
						id := fmt.Sprintf("%d/%d/%d/%d", round, client, n, i)
						err := askLarge(t.Context(), c, p.url, id, (i+n)%10)
						if errors.Is(err, errSecond) {
							if _, ok := taken.Load(id); ok {
								t.Errorf("%s, request %d came to the origin, and the client is told that it was not taken", name, i)
							}
							return
						}
						if err != nil {
							t.Errorf("%s, request %d: %v", name, i, err)
							return
						}
						if answered.Add(1) == 400 {
							close(busy)
						}
					}
				})
			}
		}
		<-busy
		if n := left.Load(); n > 0 {
			t.Errorf("round %d: %d loops had ended before the signal", round, n)
		}
		p.signal(t)
		asking.Wait()
		if err := <-p.exited; err != nil {
			t.Errorf("round %d: after SIGTERM: %v", round, err)
		}
	}
}

// errSecond is what a client of once gets instead of a second connection.
var errSecond = errors.New("the server wants no more of this client")

// once makes a client that speaks HTTP/2 over one connection. What the server does not take there it
// would send again over another one, and fails with errSecond.
func once(trust *tls.Config) *http.Client {
	second := new(http.Protocols)
	second.SetHTTP2(true)
	var dialed atomic.Bool
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: trust, Protocols: second, MaxConnsPerHost: 1,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if dialed.Swap(true) {
				return nil, errSecond
			}
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	}}
}

// askLarge asks for what is stored, or, in two of ten kinds, has the origin asked for something
// called id, and wants all of it.
func askLarge(ctx context.Context, c *http.Client, url, id string, kind int) error {
	method, path, upload := http.MethodGet, "/hit", ""
	switch kind {
	case 0:
		path = "/miss?" + id
	case 1:
		method, path, upload = http.MethodPost, "/?"+id, strings.Repeat("y", 5000)
	}
	r, err := http.NewRequestWithContext(ctx, method, url+path, strings.NewReader(upload))
	if err != nil {
		return err
	}
	a, err := c.Do(r)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	if size, err := io.Copy(io.Discard, a.Body); err != nil || size != int64(20_000+len(upload)) || a.StatusCode != http.StatusOK {
		return fmt.Errorf("%s, %d octets, %v", a.Status, size, err)
	}
	return nil
}
