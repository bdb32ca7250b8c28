package origin_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/certs/certstest"
	"github.com/larderhq/larder/internal/interim"
	"github.com/larderhq/larder/internal/origin"
)

// report is how the engine sees errors.
type report interface {
	error
	ProxyError() string
	Status() int
	Unreachable() bool
}

func wantError(t *testing.T, err error, token string, status int, unreachable bool) {
	t.Helper()
	var r report
	if !errors.As(err, &r) {
		t.Fatalf("got %v (%T), want %s", err, err, token)
	}
	if r.ProxyError() != token || r.Status() != status || r.Unreachable() != unreachable {
		t.Fatalf("got %s, %d, unreachable %t; want %s, %d, %t: %v",
			r.ProxyError(), r.Status(), r.Unreachable(), token, status, unreachable, err)
	}
	if !strings.Contains(err.Error(), token) {
		t.Errorf("the text lacks %s: %v", token, err)
	}
}

func TestSTS11_AnswersThatAreNone(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	for name, c := range map[string]struct {
		answer, token string
		unreachable   bool
	}{
		"nothing":                  {"", "connection_terminated", true},
		"half a status line":       {"HTTP/1.1 2", "http_response_incomplete", true},
		"half a head":              {ok + "A: b\r\n", "http_response_incomplete", true},
		"interim only":             {"HTTP/1.1 103 x\r\n\r\n", "http_response_incomplete", true},
		"garbage":                  {"SSH-2.0-x\r\n\r\n", "http_protocol_error", false},
		"HTTP/2":                   {"HTTP/2.0 200 OK\r\n\r\n", "http_protocol_error", false},
		"status 099":               {"HTTP/1.1 099 x\r\n\r\n", "http_protocol_error", false},
		"status 2000":              {"HTTP/1.1 2000 x\r\n\r\n", "http_protocol_error", false},
		"no colon":                 {ok + "field\r\n\r\n", "http_protocol_error", false},
		"MSG-09 blank at colon":    {ok + "A : b\r\n\r\n", "http_protocol_error", false},
		"MSG-11 blank-led":         {ok + " A: b\r\n\r\n", "http_protocol_error", false},
		"MSG-12 CR":                {ok + "A: b\rc\r\n\r\n", "http_protocol_error", false},
		"MSG-12 NUL":               {ok + "A: b\x00c\r\n\r\n", "http_protocol_error", false},
		"MSG-10 folded length":     {ok + "Content-Length: 1\r\n 2\r\n\r\n", "http_protocol_error", false},
		"MSG-07 length +5":         {ok + "Content-Length: +5\r\n\r\nhello", "http_protocol_error", false},
		"MSG-07 length list":       {ok + "Content-Length: 5, 5\r\n\r\nhello", "http_protocol_error", false},
		"MSG-07 length empty":      {ok + "Content-Length:\r\n\r\nhello", "http_protocol_error", false},
		"MSG-07 lengths differ":    {ok + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "http_protocol_error", false},
		"MSG-07 length huge":       {ok + "Content-Length: 9223372036854775808\r\n\r\nhello", "http_protocol_error", false},
		"MSG-08 gzip":              {ok + "Transfer-Encoding: gzip\r\n\r\nx", "http_response_transfer_coding", false},
		"MSG-08 gzip, chunked":     {ok + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "http_response_transfer_coding", false},
		"MSG-08 twice":             {ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "http_response_transfer_coding", false},
		"MSG-08 HTTP/1.0":          {"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "http_response_transfer_coding", false},
		"head too large":           {ok + "A: " + strings.Repeat("x", 70<<10) + "\r\n\r\n", "http_response_header_section_size", false},
		"many fields":              {ok + strings.Repeat("A: b\r\n", 12<<10) + "\r\n", "http_response_header_section_size", false},
		"unasked 101":              {"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: y\r\n\r\n", "http_protocol_error", false},
		"interim with coding":      {"HTTP/1.1 103 x\r\nTransfer-Encoding: chunked\r\n\r\n", "http_protocol_error", false},
		"INT-03 too many interims": {strings.Repeat("HTTP/1.1 103 x\r\n\r\n", interim.Max+1) + ok + "\r\n", "http_protocol_error", false},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := fetch(t, answer(t, c.answer).upstream(t), "GET")
			wantError(t, err, c.token, 502, c.unreachable)
		})
	}
}

func TestSTS11_SpeaksFirst(t *testing.T) {
	s := play(t, func(c net.Conn, r *bufio.Reader, _ int) {
		_, _ = io.WriteString(c, "SSH-2.0-x\r\n")
		_, _, _ = readHead(r)
	})
	_, _, err := fetch(t, s.upstream(t), "GET")
	wantError(t, err, "http_protocol_error", 502, false)
	if n := s.conns.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

func TestGO07_CancelledBefore(t *testing.T) {
	s := answer(t, "HTTP/1.1 204 x\r\n\r\n", "HTTP/1.1 204 x\r\n\r\n")
	up := s.upstream(t)
	if _, _, err := fetch(t, up, "GET"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := up.RoundTrip(request(t, ctx, "GET", "/", nil)); err != context.Canceled {
		t.Errorf("got %v", err)
	}
	if _, _, err := fetch(t, up, "GET"); err != nil || s.conns.Load() != 1 {
		t.Errorf("%v, %d connections: the idle one is gone", err, s.conns.Load())
	}
}

func TestSTO20_CutBodies(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	for name, c := range map[string]struct{ answer, body, token string }{
		"length":              {ok + "Content-Length: 5\r\n\r\nhell", "hell", "http_response_incomplete"},
		"no chunk":            {ok + "Transfer-Encoding: chunked\r\n\r\n", "", "http_response_incomplete"},
		"in a size":           {ok + "Transfer-Encoding: chunked\r\n\r\n1", "", "http_response_incomplete"},
		"in a chunk":          {ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhell", "hell", "http_response_incomplete"},
		"no last chunk":       {ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "hello", "http_response_incomplete"},
		"no final line":       {ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", "hello", "http_response_incomplete"},
		"half a trailer":      {ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n", "hello", "http_response_incomplete"},
		"MSG-14 overflow":     {ok + "Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\nhello", "", "http_protocol_error"},
		"MSG-14 beyond int64": {ok + "Transfer-Encoding: chunked\r\n\r\n8000000000000000\r\nhello", "", "http_protocol_error"},
		"MSG-14 sign":         {ok + "Transfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n", "", "http_protocol_error"},
		"MSG-14 0x":           {ok + "Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", "", "http_protocol_error"},
		"MSG-14 blank":        {ok + "Transfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n", "", "http_protocol_error"},
		"MSG-14 bare LF":      {ok + "Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n", "", "http_protocol_error"},
		"MSG-14 long chunk":   {ok + "Transfer-Encoding: chunked\r\n\r\n4\r\nhello\r\n0\r\n\r\n", "hell", "http_protocol_error"},
		"MSG-14 extension":    {ok + "Transfer-Encoding: chunked\r\n\r\n5;" + strings.Repeat("x", 5000) + "\r\nhello\r\n0\r\n\r\n", "", "http_protocol_error"},
		"empty size":          {ok + "Transfer-Encoding: chunked\r\n\r\n;a\r\nhello\r\n0\r\n\r\n", "", "http_protocol_error"},
		"bad trailer":         {ok + "Transfer-Encoding: chunked\r\n\r\n0\r\nA b\r\n\r\n", "", "http_protocol_error"},
		"long trailer":        {ok + "Transfer-Encoding: chunked\r\n\r\n0\r\nA: " + strings.Repeat("x", 9000) + "\r\n\r\n", "", "http_response_trailer_section_size"},
	} {
		t.Run(name, func(t *testing.T) {
			resp, body, err := fetch(t, answer(t, c.answer).upstream(t), "GET")
			if resp == nil {
				t.Fatal(err)
			}
			if body != c.body {
				t.Errorf("body %q, want %q", body, c.body)
			}
			wantError(t, err, c.token, 502, c.token == "http_response_incomplete")
			if c.token == "http_response_incomplete" && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%v is no io.ErrUnexpectedEOF", err)
			}
		})
	}
}

func TestMSG22_ResetIsNoEnd(t *testing.T) {
	sent := make(chan struct{})
	s := play(t, func(c net.Conn, r *bufio.Reader, _ int) {
		if _, _, ok := readHead(r); !ok {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\nhalf")
		<-sent
		_ = c.(*net.TCPConn).SetLinger(0) // close resets
	})
	resp, err := s.upstream(t).RoundTrip(request(t, t.Context(), "GET", "/", nil))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.ReadFull(resp.Body, make([]byte, 4))
	close(sent)
	_, err = io.ReadAll(resp.Body)
	wantError(t, err, "http_response_incomplete", 502, true)
	_ = resp.Body.Close()
}

func TestMSG22_CleanCloseIsAnEnd(t *testing.T) {
	for _, version := range []string{"HTTP/1.0", "HTTP/1.1"} {
		_, body, err := fetch(t, answer(t, version+" 200 OK\r\n\r\nall of it").upstream(t), "GET")
		if err != nil || body != "all of it" {
			t.Errorf("%s: %q, %v", version, body, err)
		}
	}
}

func TestORG_LenientWhereHarmless(t *testing.T) {
	for name, a := range map[string]string{
		"bare LF":       "HTTP/1.1 200 OK\nContent-Length: 1\n\nx",
		"no reason":     "HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx",
		"folded":        "HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 1\r\n\r\nx",
		"equal lengths": "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
		"extension":     "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n01;a=\"b\"\r\nx\r\n0\r\n\r\n",
		"status 999":    "HTTP/1.1 999 x\r\nContent-Length: 1\r\n\r\nx",
	} {
		resp, body, err := fetch(t, answer(t, a).upstream(t), "GET")
		if err != nil || body != "x" {
			t.Errorf("%s: %q, %v", name, body, err)
		} else if name == "equal lengths" && len(resp.Header["Content-Length"]) != 1 {
			t.Errorf("MSG-05: %v", resp.Header)
		}
	}
}

func TestFWD15_Trailers(t *testing.T) {
	for _, announce := range []string{"", "Trailer: Digest\r\n"} {
		resp, body, err := fetch(t, answer(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"+announce+
			"\r\n1\r\nx\r\n0\r\nDigest: d\r\n\r\n").upstream(t), "GET")
		if err != nil || body != "x" || resp.Trailer.Get("Digest") != "d" {
			t.Errorf("%q, %v, trailer %v", body, err, resp.Trailer)
		}
	}
}

func TestINT01_InterimsInOrder(t *testing.T) {
	const final = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"
	s := answer(t, "HTTP/1.1 100 Continue\r\n\r\n"+
		"HTTP/1.1 103 Early Hints\r\nLink: a\r\nPragma: no-cache\r\n\r\n"+
		"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 199 x\r\nCache-Control: b\r\n\r\n"+final,
		strings.Repeat("HTTP/1.1 103 x\r\n\r\n", interim.Max)+final,
		strings.Repeat("HTTP/1.1 103 x\r\n\r\n", interim.Max)+final)
	up := s.upstream(t)
	var got []string
	ctx := interim.With(t.Context(), func(status int, h http.Header) error {
		got = append(got, fmt.Sprint(status, h))
		return nil
	})
	for i, want := range []string{"[103 map[Link:[a] Pragma:[no-cache]] 102 map[] 199 map[Cache-Control:[b]]]", "100"} {
		resp, err := up.RoundTrip(request(t, ctx, "GET", "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if text := fmt.Sprint(got); i == 0 && text != want {
			t.Errorf("got %s, want %s", text, want)
		}
		if i == 1 && fmt.Sprint(len(got)) != want {
			t.Errorf("got %d, want %s", len(got), want)
		}
		got = nil
	}
	if _, body, err := fetch(t, up, "GET"); err != nil || body != "x" {
		t.Errorf("dropped: %q, %v", body, err)
	}
}

func TestINT03_EndlessInterims(t *testing.T) {
	s := play(t, func(c net.Conn, r *bufio.Reader, _ int) {
		if _, _, ok := readHead(r); !ok {
			return
		}
		for {
			if _, err := io.WriteString(c, "HTTP/1.1 103 x\r\n\r\n"); err != nil {
				return
			}
		}
	})
	n := 0
	ctx := interim.With(t.Context(), func(int, http.Header) error { n++; return nil })
	_, err := s.upstream(t).RoundTrip(request(t, ctx, "GET", "/", nil))
	wantError(t, err, "http_protocol_error", 502, false)
	if n > interim.Max {
		t.Errorf("%d passed", n)
	}
}

func TestINT01_CallersErrorEndsTheExchange(t *testing.T) {
	stop := errors.New("stop")
	ctx := interim.With(t.Context(), func(int, http.Header) error { return stop })
	s := answer(t, "HTTP/1.1 103 x\r\n\r\nHTTP/1.1 204 x\r\n\r\n")
	if _, err := s.upstream(t).RoundTrip(request(t, ctx, "GET", "/", nil)); err != stop {
		t.Errorf("got %v, want %v", err, stop)
	}
}

func TestINT04_ExpectContinue(t *testing.T) {
	s := play(t, func(c net.Conn, r *bufio.Reader, _ int) {
		if _, _, ok := readHead(r); !ok {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
		b := make([]byte, 4)
		_, _ = io.ReadFull(r, b)
		_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n%s", b)
	})
	req := request(t, t.Context(), "POST", "/", strings.NewReader("body"))
	req.Header.Set("Expect", "100-continue")
	resp, err := s.upstream(t).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if string(b) != "body" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}

func TestFWD14_Upgrade(t *testing.T) {
	s := play(t, func(c net.Conn, r *bufio.Reader, _ int) {
		if _, _, ok := readHead(r); !ok {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello")
		_, _ = io.Copy(c, r)
	})
	ctx, cancel := context.WithCancel(t.Context())
	req := request(t, ctx, "GET", "/", nil)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "echo")
	resp, err := s.upstream(t).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	cancel() // the tunnel outlives it
	rwc := resp.Body.(io.ReadWriteCloser)
	_, _ = io.WriteString(rwc, " world")
	b := make([]byte, 11)
	if _, err := io.ReadFull(rwc, b); err != nil || string(b) != "hello world" {
		t.Errorf("%q, %v", b, err)
	}
	if err := rwc.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Error(err)
	}
	if rest, err := io.ReadAll(rwc); err != nil || len(rest) != 0 {
		t.Errorf("%q, %v", rest, err)
	}
	_ = rwc.Close()

	s = answer(t, "HTTP/1.1 101 x\r\n\r\n")
	_, err = s.upstream(t).RoundTrip(req.WithContext(t.Context()))
	wantError(t, err, "http_upgrade_failed", 502, false)
}

func TestCONNECTRefused(t *testing.T) {
	_, err := upstream(t, "http://127.0.0.1:1").RoundTrip(request(t, t.Context(), "CONNECT", "/", nil))
	wantError(t, err, "http_request_error", 400, false)
}

func TestSTS11_RequestThatCannotBeSent(t *testing.T) {
	req := request(t, t.Context(), "GET", "/", nil)
	req.Method = "GE T"
	_, err := upstream(t, "http://127.0.0.1:1").RoundTrip(req)
	wantError(t, err, "http_request_error", 400, false)
	req = request(t, t.Context(), "GET", "/", nil)
	req.Header["A"] = []string{"b\nc"}
	_, err = upstream(t, "http://127.0.0.1:1").RoundTrip(req)
	wantError(t, err, "http_request_error", 400, false)
}

func TestSTS11_Refused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	_, _, err = fetch(t, upstream(t, "http://"+addr), "GET")
	wantError(t, err, "connection_refused", 502, true)
	_, _, err = fetch(t, upstream(t, "https://"+addr), "GET")
	wantError(t, err, "connection_refused", 502, true)
}

// nameServer answers every question with code, or never if code is negative.
func nameServer(t *testing.T, code int) *net.Resolver {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 512)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			if code < 0 || n < 12 {
				continue
			}
			q := 12
			for q < n && buf[q] != 0 {
				q += int(buf[q]) + 1
			}
			q = min(n, q+5)                           // the end of the question
			buf[2], buf[3] = 0x81, 0x80|byte(code)    // an answer
			copy(buf[6:12], []byte{0, 0, 0, 0, 0, 0}) // without records
			_, _ = pc.WriteTo(buf[:q], from)
		}
	}()
	var (
		mu    sync.Mutex
		asked []net.Conn
		over  bool
	)
	t.Cleanup(func() {
		_ = pc.Close()
		<-done
		mu.Lock()
		defer mu.Unlock()
		over = true
		for _, c := range asked { // the resolver would wait for seconds
			_ = c.Close()
		}
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		if over {
			return nil, net.ErrClosed
		}
		var d net.Dialer
		c, err := d.DialContext(ctx, "udp", pc.LocalAddr().String())
		if err == nil {
			asked = append(asked, c)
		}
		return c, err
	}}
}

func TestSTS11_Names(t *testing.T) {
	const nameError = 3
	_, _, err := fetch(t, upstream(t, "http://nowhere.invalid", func(o *origin.Options) {
		o.Resolver = nameServer(t, nameError)
	}), "GET")
	wantError(t, err, "dns_error", 502, true)
	_, _, err = fetch(t, upstream(t, "http://slow.invalid", func(o *origin.Options) {
		o.Resolver = nameServer(t, -1)
		o.ConnectTimeout = 50 * time.Millisecond
	}), "GET")
	wantError(t, err, "dns_timeout", 504, true)
}

// certificate makes one for 127.0.0.1 that is valid until end, and those who trust it.
func certificate(t *testing.T, end time.Time) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	a := certstest.New(t)
	c, err := tls.X509KeyPair(a.Issue(end, "127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	return c, a.Pool
}

func TestSTS11_TLS(t *testing.T) {
	good, trusted := certificate(t, time.Now().Add(12*time.Hour))
	expired, trustedToo := certificate(t, time.Now().Add(-time.Hour))
	for name, c := range map[string]struct {
		config *tls.Config
		roots  *x509.CertPool
		server string
		token  string
	}{
		"good":        {&tls.Config{Certificates: []tls.Certificate{good}}, trusted, "", ""},
		"self-signed": {&tls.Config{Certificates: []tls.Certificate{good}}, x509.NewCertPool(), "", "tls_certificate_error"},
		"expired":     {&tls.Config{Certificates: []tls.Certificate{expired}}, trustedToo, "", "tls_certificate_error"},
		"other name":  {&tls.Config{Certificates: []tls.Certificate{good}}, trusted, "other.example", "tls_certificate_error"},
		"alert": {
			&tls.Config{Certificates: []tls.Certificate{good}, ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12},
			trusted, "", "tls_alert_received",
		},
		"too old": {&tls.Config{Certificates: []tls.Certificate{good}, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}, trusted, "", "tls_alert_received"},
		"no TLS":  {nil, trusted, "", "tls_protocol_error"},
	} {
		t.Run(name, func(t *testing.T) {
			s := play(t, func(conn net.Conn, r *bufio.Reader, _ int) {
				if c.config == nil {
					_, _ = r.ReadByte()
					_, _ = io.WriteString(conn, "HTTP/1.0 400 Bad Request\r\n\r\n")
					return
				}
				tc := tls.Server(conn, c.config)
				defer tc.Close()
				if _, _, ok := readHead(bufio.NewReader(tc)); ok {
					_, _ = io.WriteString(tc, "HTTP/1.1 200 OK\r\nPragma: no-cache\r\n\r\nx")
				}
			})
			up := upstream(t, "https://"+s.addr, func(o *origin.Options) { o.RootCAs, o.ServerName = c.roots, c.server })
			resp, body, err := fetch(t, up, "GET")
			if c.token != "" {
				wantError(t, err, c.token, 502, true)
				return
			}
			if err != nil || body != "x" || resp.TLS == nil || resp.TLS.NegotiatedProtocol != "" || resp.Header["Cache-Control"] != nil {
				t.Errorf("%q, %v, %+v", body, err, resp)
			}
		})
	}
}

// What TLS has read ahead is seen as well: in the record of the answer, and in the next.
func TestMSG20_OctetsThatAnswerNothingByTLS(t *testing.T) {
	cert, roots := certificate(t, time.Now().Add(12*time.Hour))
	const truth = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue"
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for name, c := range map[string]struct {
			records []string
			conns   int64
		}{
			"nothing more":      {[]string{truth}, 1},
			"in the record":     {[]string{truth + fake}, 2},
			"in the next":       {[]string{truth, fake}, 2},
			"part of a message": {[]string{truth, "H"}, 2},
		} {
			s := play(t, func(conn net.Conn, _ *bufio.Reader, _ int) {
				under := &corked{Conn: conn}
				tc := tls.Server(under, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: version, MaxVersion: version})
				for r := bufio.NewReader(tc); ; {
					if _, _, ok := readHead(r); !ok {
						return
					}
					under.cork()
					for _, record := range c.records {
						_, _ = io.WriteString(tc, record)
					}
					under.flush()
				}
			})
			up := upstream(t, "https://"+s.addr, func(o *origin.Options) { o.RootCAs = roots })
			for range 2 {
				if _, body, err := fetch(t, up, "GET"); body != "true" || err != nil {
					t.Errorf("%s: %q, %v", name, body, err)
				}
			}
			if n := s.conns.Load(); n != c.conns {
				t.Errorf("%s: %d connections, want %d", name, n, c.conns)
			}
		}
	}
}

// A corked connection writes what comes in one piece.
type corked struct {
	net.Conn
	on   bool
	held []byte
}

func (c *corked) cork() { c.on = true }

func (c *corked) flush() {
	_, _ = c.Conn.Write(c.held)
	c.on, c.held = false, nil
}

func (c *corked) Write(p []byte) (int, error) {
	if !c.on {
		return c.Conn.Write(p)
	}
	c.held = append(c.held, p...)
	return len(p), nil
}

func TestMSG22_TLSNeedsItsAlert(t *testing.T) {
	cert, roots := certificate(t, time.Now().Add(12*time.Hour))
	for _, polite := range []bool{true, false} {
		s := play(t, func(conn net.Conn, _ *bufio.Reader, _ int) {
			tc := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}})
			if _, _, ok := readHead(bufio.NewReader(tc)); !ok {
				return
			}
			_, _ = io.WriteString(tc, "HTTP/1.1 200 OK\r\n\r\nall?")
			if polite {
				_ = tc.Close()
			}
		})
		up := upstream(t, "https://"+s.addr, func(o *origin.Options) { o.RootCAs = roots })
		_, body, err := fetch(t, up, "GET")
		if body != "all?" {
			t.Fatalf("%q, %v", body, err)
		}
		if polite {
			if err != nil {
				t.Errorf("with alert: %v", err)
			}
		} else {
			wantError(t, err, "http_response_incomplete", 502, true)
		}
	}
}
