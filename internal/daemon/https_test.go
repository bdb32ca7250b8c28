package daemon

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/larderhq/larder/internal/certs"
	"github.com/larderhq/larder/internal/certs/certstest"
	"github.com/larderhq/larder/internal/purge"
)

// A secured is a Daemon that serves https for the shop.
type secured struct {
	*started
	t         *testing.T
	authority *certstest.Authority
	folder    string
	origin    *arrivals
}

func startHTTPS(t *testing.T, h http.HandlerFunc, o HTTPS) *secured {
	t.Helper()
	return startHTTPSWith(t, h, o, nil)
}

// startHTTPSWith is startHTTPS for a Daemon that change, if there is one, adapts.
func startHTTPSWith(t *testing.T, h http.HandlerFunc, o HTTPS, change func(*Options)) *secured {
	t.Helper()
	s := &secured{t: t, authority: certstest.New(t), folder: t.TempDir()}
	cert, key := s.authority.Write(s.folder, "c", shop, "localhost")
	o.Listen, o.Certs = "127.0.0.1:0", []certs.Pair{{Cert: cert, Key: key}}
	var at string
	at, s.origin = serveOrigin(t, h)
	s.started = startWith(t, Options{Origin: at, HTTPS: &o}, change)
	return s
}

// client asks in HTTP/2 or HTTP/1.1, over new connections if it is not to keep them.
func (s *secured) client(second, keep bool) *http.Client {
	p := new(http.Protocols)
	p.SetHTTP1(!second)
	p.SetHTTP2(second)
	c := clientOf(s.t)
	tr := c.Transport.(*http.Transport)
	tr.TLSClientConfig, tr.Protocols, tr.DisableKeepAlives = &tls.Config{RootCAs: s.authority.Pool, MinVersion: tls.VersionTLS12}, p, !keep
	tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		to := s.URL()
		if strings.HasSuffix(addr, ":443") {
			to = s.SecureURL()
		}
		u, err := url.Parse(to)
		if err != nil {
			return nil, err
		}
		return new(net.Dialer).DialContext(ctx, network, u.Host)
	}
	return c
}

func (s *secured) ask(c *http.Client, u string) answer {
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, u, http.NoBody)
	if err != nil {
		return answer{broken: err}
	}
	return heard(c, r)
}

// heard is what r is answered with.
func heard(c *http.Client, r *http.Request) answer {
	res, err := c.Do(r)
	if err != nil {
		return answer{broken: err}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, string(body), err}
}

func (s *secured) want(a answer, status int, body string, hit bool) {
	s.t.Helper()
	if a.broken != nil || a.status != status || a.body != body || strings.Contains(a.header.Get("Cache-Status"), "; hit") != hit {
		s.t.Errorf("%d %q %v %q, want %d %q, hit %v", a.status, a.body, a.broken, a.header, status, body, hit)
	}
}

// What is kept is served by https as well, in both versions; what came by http is another
// resource (RFC 9110 §4.2.2), also for whoever purges.
func TestHTTPS(t *testing.T) {
	n := new(counts)
	s := startHTTPS(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		if r.URL.Path == "/own" {
			w.Header().Set("Strict-Transport-Security", "max-age=1")
		}
		fmt.Fprintf(w, "%s %d", r.URL.Path, n.next(r.URL.Path))
	}, HTTPS{HSTS: time.Hour})
	one, two := s.client(false, true), s.client(true, true)
	s.want(s.ask(one, "https://"+shop+"/a"), 200, "/a 1", false)
	s.want(s.ask(two, "https://"+shop+"/a"), 200, "/a 1", true)
	s.want(s.ask(one, "https://"+shop+"/a"), 200, "/a 1", true)
	s.want(s.ask(one, "http://"+shop+"/a"), 200, "/a 2", false)
	for path, want := range map[string]string{"/a": "max-age=3600", "/own": "max-age=1"} {
		if got := strings.Join(s.ask(two, "https://"+shop+path).header.Values("Strict-Transport-Security"), ", "); got != want {
			t.Errorf("%s: Strict-Transport-Security is %q, want %q", path, got, want)
		}
	}
	for range 5 { // by now loops answer
		for _, c := range []*http.Client{one, two} {
			a := s.ask(c, "https://"+shop+"/a")
			if s.want(a, 200, "/a 1", true); a.header.Get("Strict-Transport-Security") != "max-age=3600" {
				t.Errorf("a hit has Strict-Transport-Security %q", a.header.Values("Strict-Transport-Security"))
			}
		}
		a := s.ask(one, "http://"+shop+"/a")
		if s.want(a, 200, "/a 2", true); len(a.header["Strict-Transport-Security"]) > 0 {
			t.Errorf("http: Strict-Transport-Security is %q (RFC 6797 7.2)", a.header["Strict-Transport-Security"])
		}
	}
	if _, err := s.engine.Purge(t.Context(), purge.Order{Selectors: []purge.Selector{{URL: "https://" + shop + "/a"}}}); err != nil {
		t.Fatal(err)
	}
	s.want(s.ask(one, "http://"+shop+"/a"), 200, "/a 2", true)
	s.want(s.ask(two, "https://"+shop+"/a"), 200, "/a 3", false)
}

// Who comes by http is sent to the same URL with https, and nothing of it goes to the origin.
func TestHTTPS_Redirect(t *testing.T) {
	s := startHTTPS(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "body") }, HTTPS{Redirect: true})
	c := s.client(false, true)
	u, err := url.Parse(s.SecureURL())
	if err != nil {
		t.Fatal(err)
	}
	a := s.ask(c, "http://"+shop+"/a%2Fb?c=d&e")
	if want := "https://" + shop + ":" + u.Port() + "/a%2Fb?c=d&e"; a.status != 308 || a.header.Get("Location") != want {
		t.Errorf("%d, Location %q, %v; want %q", a.status, a.header.Get("Location"), a.broken, want)
	}
	s.want(s.ask(c, "https://"+shop+"/a"), 200, "body", false)
	if n := len(s.origin.all); n != 1 {
		t.Errorf("the origin was asked %d times", n)
	}
}

// What the origin is asked for a client alone ends when the client takes it back, while its
// connection goes on (DOS-06). A GET that may be kept is for the store as well, and goes on.
func TestHTTPS_TakenBack(t *testing.T) {
	asked, cancelled := make(chan struct{}), make(chan struct{})
	s := startHTTPS(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			return
		}
		asked <- struct{}{}
		<-r.Context().Done()
		cancelled <- struct{}{}
	}, HTTPS{})
	c := s.client(true, true)
	ctx, leave := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodDelete, "https://"+shop+"/a", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	go func() {
		a, err := c.Do(r)
		if err == nil {
			a.Body.Close()
		}
		failed <- err
	}()
	<-asked
	leave()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	select {
	case <-cancelled:
	case <-time.After(20 * time.Second):
		t.Error("the origin is still at work")
	}
	s.want(s.ask(c, "https://"+shop+"/b"), 200, "", false)
}

// While certificates are replaced nobody fails to come in, and each comes to be used.
func TestHTTPS_Replaced(t *testing.T) {
	s := startHTTPS(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		_, _ = io.WriteString(w, "body")
	}, HTTPS{})
	over, stop := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	for n := range 4 {
		c := s.client(n%2 == 0, n < 2)
		asking.Go(func() {
			for over.Err() == nil {
				if a := s.ask(c, "https://"+shop+"/a"); a.broken != nil || a.status != 200 {
					t.Errorf("%d, %v", a.status, a.broken)
					return
				}
			}
		})
	}
	served := func() *x509.Certificate {
		c, err := tls.Dial("tcp", strings.TrimPrefix(s.SecureURL(), "https://"), &tls.Config{RootCAs: s.authority.Pool, ServerName: shop, MinVersion: tls.VersionTLS12})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0]
	}
	for range replacements {
		before := served()
		s.authority.Write(s.folder, "c", shop, "localhost")
		for served().Equal(before) {
		}
	}
	stop()
	asking.Wait()
}

// third asks by HTTP/3.
func (s *secured) third() *http.Client {
	t := &http3.Transport{
		TLSClientConfig: &tls.Config{RootCAs: s.authority.Pool, MinVersion: tls.VersionTLS13}, DisableCompression: true,
		Dial: func(ctx context.Context, _ string, trust *tls.Config, c *quic.Config) (*quic.Conn, error) {
			return quic.DialAddrEarly(ctx, s.datagrams.LocalAddr().String(), trust, c)
		},
	}
	s.t.Cleanup(func() { _ = t.Close() }) // nobody asks any more
	return &http.Client{Transport: t}
}

// What is kept is served by HTTP/3 as well, hits, ranges and early hints too; those who come
// otherwise by https learn of it, and those who come by http do not.
func TestHTTP3(t *testing.T) {
	t.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true")
	n := new(counts)
	s := startHTTPS(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		if r.URL.Path == "/own" {
			w.Header().Set("Alt-Svc", "clear")
		}
		if r.URL.Path == "/hints" {
			w.Header().Set("Link", "</a.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
		}
		if r.Method == http.MethodPost {
			_, _ = io.Copy(w, r.Body)
			return
		}
		fmt.Fprintf(w, "%s %d", r.URL.Path, n.next(r.URL.Path))
	}, HTTPS{HTTP3: true, HSTS: time.Hour})
	one, two, three := s.client(false, true), s.client(true, true), s.third()
	s.want(s.ask(three, "https://"+shop+"/a"), 200, "/a 1", false)
	s.want(s.ask(three, "https://"+shop+"/a"), 200, "/a 1", true)
	s.want(s.ask(one, "https://"+shop+"/a"), 200, "/a 1", true)
	s.want(s.ask(two, "https://"+shop+"/b"), 200, "/b 1", false)
	s.want(s.ask(three, "https://"+shop+"/b"), 200, "/b 1", true)
	hints := 0
	s.want(s.askHinted(three, "https://"+shop+"/hints", func(status int, h http.Header) {
		if hints++; status != http.StatusEarlyHints || h.Get("Link") == "" || h.Get("Alt-Svc") != "" {
			t.Errorf("%d with %v", status, h)
		}
	}), 200, "/hints 1", false)
	if hints != 1 {
		t.Errorf("%d early hints", hints)
	}
	r, err := three.Post("https://"+shop+"/a", "text/plain", strings.NewReader("content"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if body, err := io.ReadAll(r.Body); string(body) != "content" || err != nil {
		t.Errorf("POST gets %q, %v", body, err)
	}
	s.want(s.ask(three, "https://"+shop+"/a"), 200, "/a 2", false) // the POST has changed it

	_, port, _ := net.SplitHostPort(s.datagrams.LocalAddr().String())
	told := `h3=":` + port + `"`
	for _, c := range []*http.Client{one, two, three} {
		for path, want := range map[string]string{"/b": told, "/new": told, "/own": "clear"} {
			if got := strings.Join(s.ask(c, "https://"+shop+path).header.Values("Alt-Svc"), ", "); got != want {
				t.Errorf("%s: Alt-Svc is %q, want %q", path, got, want)
			}
		}
	}
	if got := s.ask(one, "http://"+shop+"/b").header.Get("Alt-Svc"); got != "" {
		t.Errorf("http: Alt-Svc is %q", got)
	}
}

// Without being asked for there is no HTTP/3, and nobody is told of it.
func TestHTTP3_Off(t *testing.T) {
	s := startHTTPS(t, func(http.ResponseWriter, *http.Request) {}, HTTPS{})
	if a := s.ask(s.client(true, true), "https://"+shop+"/"); s.datagrams != nil || a.status != 200 || a.header.Get("Alt-Svc") != "" {
		t.Errorf("%v, %d with Alt-Svc %q", s.datagrams, a.status, a.header.Get("Alt-Svc"))
	}
}

// Choices that cannot be carried out are said to be so, and nothing is left behind.
func TestHTTPS_Errors(t *testing.T) {
	a, dir := certstest.New(t), t.TempDir()
	cert, key := a.Write(dir, "c", shop)
	pair := []certs.Pair{{Cert: cert, Key: key}}
	for want, h := range map[string]*HTTPS{
		"Certs":   {Listen: "127.0.0.1:0", Certs: []certs.Pair{{Cert: cert, Key: cert}}},
		"Clients": {Listen: "127.0.0.1:0", Certs: pair, Clients: key},
		"HTTPS":   {Listen: "no address", Certs: pair},
	} {
		_, err := New(Options{Origin: "http://127.0.0.1:1", Listen: "127.0.0.1:0", Memory: 8 << 20, HTTPS: h})
		if e, ok := err.(*Error); !ok || e.Option != want {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// The same where somebody else has the port by UDP.
func TestHTTP3_Taken(t *testing.T) {
	a := certstest.New(t)
	cert, key := a.Write(t.TempDir(), "c", shop)
	for range 100 {
		taken, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer taken.Close()
		_, err = New(Options{
			Origin: "http://127.0.0.1:1", Listen: "127.0.0.1:0", Memory: 8 << 20,
			HTTPS: &HTTPS{Listen: taken.LocalAddr().String(), Certs: []certs.Pair{{Cert: cert, Key: key}}, HTTP3: true},
		})
		e, ok := err.(*Error)
		if ok && e.Option == "HTTPS" {
			continue // somebody has it by TCP, too
		}
		if !ok || e.Option != "HTTP3" {
			t.Errorf("%v", err)
		}
		return
	}
	t.Error("no port is free by TCP")
}
