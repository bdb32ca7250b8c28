package origin_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/larderhq/larder/internal/origin"
)

// hangUp answers the first request of each connection and hangs up on the
// second once it has read it, counting what it reads.
func hangUp(t *testing.T, after string) (*script, *atomic.Int64) {
	t.Helper()
	var seen atomic.Int64
	return play(t, func(c net.Conn, r *bufio.Reader, nth int) {
		for i := 0; ; i++ {
			line, head, ok := readHead(r)
			if !ok {
				return
			}
			for _, f := range head {
				if f == "Content-Length: 4" {
					_, _ = io.CopyN(io.Discard, r, 4)
				}
			}
			if strings.Contains(line, "/again") {
				seen.Add(1)
				if i > 0 || nth > 1 {
					_, _ = io.WriteString(c, after)
					return
				}
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	}), &seen
}

func TestFWD09_NeverTwiceUnlessIdempotent(t *testing.T) {
	for _, c := range []struct {
		method, body, field string
		replay              bool
		after               string
		want                int64
		token               string
	}{
		{"GET", "", "", false, "", 2, "connection_terminated"},
		{"HEAD", "", "", false, "", 2, "connection_terminated"},
		{"OPTIONS", "", "", false, "", 2, "connection_terminated"},
		{"GET", "", "", false, "H", 1, "http_response_incomplete"},
		{"GET", "", "", false, "HTTP/1.1 103 x\r\n\r\n", 1, "http_response_incomplete"},
		{"POST", "", "", false, "", 1, "connection_terminated"},
		{"POST", "", "Idempotency-Key", false, "", 1, "connection_terminated"},
		{"POST", "body", "", true, "", 1, "connection_terminated"},
		{"POST", "body", "X-Idempotency-Key", true, "", 1, "connection_terminated"},
		{"PATCH", "body", "Idempotency-Key", true, "", 1, "connection_terminated"},
		{"PUT", "body", "", false, "", 1, "connection_terminated"},
		{"DELETE", "", "", false, "", 1, "connection_terminated"},
		{"BREW", "", "", false, "", 1, "connection_terminated"},
		{"GET", "body", "", true, "", 2, "connection_terminated"},
	} {
		name := c.method + " " + c.body + " " + c.field + " " + strings.TrimSpace(c.after)
		t.Run(name, func(t *testing.T) {
			s, seen := hangUp(t, c.after)
			up := s.upstream(t)
			// Three connections that have served before.
			warm(t, up, 3)
			before := s.conns.Load()
			var body io.Reader
			if c.body != "" {
				body = strings.NewReader(c.body)
			}
			req := request(t, t.Context(), c.method, "/again", body)
			if !c.replay {
				req.GetBody = nil
			}
			if c.field != "" {
				req.Header.Set(c.field, "1")
			}
			_, err := up.RoundTrip(req)
			wantError(t, err, c.token, 502, true)
			if got := seen.Load(); got != c.want {
				t.Errorf("sent %d times, want %d", got, c.want)
			}
			if c.want == 2 && s.conns.Load() != before+1 {
				t.Errorf("the second time must have a connection of its own")
			}
		})
	}
}

// warm opens n connections at once and leaves them idle.
func warm(t *testing.T, up *origin.Upstream, n int) {
	t.Helper()
	var writers []*io.PipeWriter
	for range n {
		r, w := io.Pipe() // holds the connection until closed
		req := request(t, t.Context(), "POST", "/warm", io.NopCloser(r))
		req.ContentLength = 4
		done := make(chan struct{})
		go func() {
			defer close(done)
			resp, err := up.RoundTrip(req)
			if err != nil {
				t.Error(err)
				return
			}
			_ = resp.Body.Close()
		}()
		_, _ = io.WriteString(w, "bo") // taken: the connection is there
		writers = append(writers, w)
		defer func() { <-done }()
	}
	for _, w := range writers {
		_, _ = io.WriteString(w, "dy")
		_ = w.Close()
	}
}

func TestFWD09_RepeatsOnceAndSucceeds(t *testing.T) {
	var seen atomic.Int64
	s := play(t, func(c net.Conn, r *bufio.Reader, nth int) {
		for i := range 2 {
			if _, _, ok := readHead(r); !ok {
				return
			}
			seen.Add(1)
			if nth == 1 && i == 1 {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
		}
	})
	up := s.upstream(t)
	for range 2 {
		if _, body, err := fetch(t, up, "GET"); err != nil || body != "x" {
			t.Fatalf("%q, %v", body, err)
		}
	}
	if seen.Load() != 3 {
		t.Errorf("the origin saw %d requests, want 3", seen.Load())
	}
}

func TestMSG20_OctetsThatAnswerNothing(t *testing.T) {
	const fake = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nFAKE"
	for name, first := range map[string]string{
		"length":  "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nreal" + fake,
		"zero":    "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" + fake,
		"chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nreal\r\n0\r\n\r\n" + fake,
		"204":     "HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n" + fake,
		"304":     "HTTP/1.1 304 Not Modified\r\n\r\n" + fake,
	} {
		t.Run(name, func(t *testing.T) {
			s := play(t, func(c net.Conn, r *bufio.Reader, nth int) {
				for {
					if _, _, ok := readHead(r); !ok {
						return
					}
					out := first
					if nth > 1 {
						out = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue"
					}
					_, _ = io.WriteString(c, out)
				}
			})
			up := s.upstream(t)
			if _, body, err := fetch(t, up, "GET"); err != nil || body != "" && body != "real" {
				t.Fatalf("%q, %v", body, err)
			}
			if _, body, err := fetch(t, up, "GET"); err != nil || body != "true" {
				t.Fatalf("after octets that answer nothing: %q, %v", body, err)
			}
		})
	}
}

func TestMSG06_BothFramingsEndTheConnection(t *testing.T) {
	s := answer(t, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n", "never")
	up := s.upstream(t)
	for range 2 {
		resp, body, err := fetch(t, up, "GET")
		if err != nil || body != "body" || resp.ContentLength != -1 || resp.Header["Content-Length"] != nil {
			t.Fatalf("%q, %v, %v", body, err, resp)
		}
	}
	if n := s.conns.Load(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

func TestRS16_UnsentContentEndsTheConnection(t *testing.T) {
	s := play(t, func(c net.Conn, r *bufio.Reader, _ int) {
		for {
			if _, _, ok := readHead(r); !ok {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx") // early
		}
	})
	up := s.upstream(t)
	r, w := io.Pipe()
	defer w.Close()
	req := request(t, t.Context(), "POST", "/", r)
	req.ContentLength = 10
	resp, err := up.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(resp.Body); string(b) != "x" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	_ = resp.Body.Close()
	if _, body, err := fetch(t, up, "GET"); body != "x" || err != nil {
		t.Errorf("%q, %v", body, err)
	}
	if n := s.conns.Load(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

// An origin that refuses content closes without reading it, and its answer is there.
func TestFWD16_EarlyRefusal(t *testing.T) {
	s := play(t, func(c net.Conn, r *bufio.Reader, _ int) {
		if _, _, ok := readHead(r); ok {
			_, _ = io.WriteString(c, "HTTP/1.1 413 x\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx")
			_ = c.(*net.TCPConn).CloseRead()
		}
	})
	req := request(t, t.Context(), "POST", "/", io.NopCloser(endless{}))
	resp, err := s.upstream(t).RoundTrip(req)
	if err != nil || resp.StatusCode != 413 {
		t.Fatalf("%v, %v", resp, err)
	}
	_ = resp.Body.Close()
}

func TestGO07_UploadFailureIsTheClients(t *testing.T) {
	s := play(t, func(_ net.Conn, r *bufio.Reader, _ int) {
		_, _ = io.Copy(io.Discard, r)
	})
	up := s.upstream(t)
	broken := errors.New("client went away")
	for _, body := range []io.Reader{
		io.MultiReader(strings.NewReader("half"), failing{broken}),
		failing{broken},
	} {
		req := request(t, t.Context(), "POST", "/", io.NopCloser(body))
		_, err := up.RoundTrip(req)
		if !errors.Is(err, broken) || isOriginError(err) {
			t.Errorf("got %v, want the client's error as it is", err)
		}
	}
	req := request(t, t.Context(), "POST", "/", io.NopCloser(strings.NewReader("short")))
	req.ContentLength = 10
	if _, err := up.RoundTrip(req); !errors.Is(err, io.ErrUnexpectedEOF) || isOriginError(err) {
		t.Errorf("short upload: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func isOriginError(err error) bool {
	var e *origin.Error
	return errors.As(err, &e)
}

func TestGO07_CancelIsTheCallers(t *testing.T) {
	got := make(chan struct{}, 2)
	s := play(t, func(_ net.Conn, r *bufio.Reader, _ int) {
		if _, _, ok := readHead(r); ok {
			got <- struct{}{}
		}
		_, _ = io.Copy(io.Discard, r)
	})
	up := s.upstream(t)
	cause := errors.New("nobody waits")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() { <-got; cancel(cause) }()
	if _, err := up.RoundTrip(request(t, ctx, "GET", "/", nil)); !errors.Is(err, cause) || isOriginError(err) {
		t.Errorf("got %v, want the cause", err)
	}
}

func TestFWD16_StreamsBothWays(t *testing.T) {
	s := play(t, func(c net.Conn, r *bufio.Reader, _ int) {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
		_, _ = io.Copy(c, req.Body) // echoes as it comes
	})
	up := s.upstream(t)
	r, w := io.Pipe()
	resp, err := func() (*http.Response, error) {
		go func() { _, _ = io.WriteString(w, "one") }()
		return up.RoundTrip(request(t, t.Context(), "POST", "/", r))
	}()
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 3)
	if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != "one" {
		t.Fatalf("%q, %v", buf, err)
	}
	_, _ = io.WriteString(w, "two")
	if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != "two" {
		t.Fatalf("%q, %v", buf, err)
	}
	_ = w.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || len(b) != 0 {
		t.Fatalf("%q, %v", b, err)
	}
	_ = resp.Body.Close()
}

// What has come of a body is handed out before more is waited for.
func TestFWD16_NothingIsKeptBack(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	for name, parts := range map[string][]string{
		"length":            {ok + "Content-Length: 10\r\n\r\nhello", "world"},
		"until close":       {ok + "\r\nhello", "world"},
		"within a chunk":    {ok + "Transfer-Encoding: chunked\r\n\r\na\r\nhello", "world\r\n0\r\n\r\n"},
		"behind a chunk":    {ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello", "\r\n5\r\nworld\r\n0\r\n\r\n"},
		"within a line end": {ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r", "\n5\r\nworld\r\n0\r\n\r\n"},
		"behind a size":     {ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\n", "world\r\n0\r\n\r\n"},
		"before the last":   {ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "5\r\nworld\r\n0\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got := make(chan struct{})
			s := play(t, func(c net.Conn, r *bufio.Reader, _ int) {
				if _, _, ok := readHead(r); ok {
					_, _ = io.WriteString(c, parts[0])
					<-got
					_, _ = io.WriteString(c, parts[1])
				}
			})
			resp, err := s.upstream(t).RoundTrip(request(t, t.Context(), "GET", "/", nil))
			if err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 64<<10)
			n, err := resp.Body.Read(buf)
			if string(buf[:n]) != "hello" || err != nil {
				t.Errorf("%q, %v", buf[:n], err)
			}
			close(got)
			if b, err := io.ReadAll(resp.Body); string(b) != "world" || err != nil {
				t.Errorf("%q, %v", b, err)
			}
			_ = resp.Body.Close()
		})
	}
}

func TestORG_LargeBodyKeepsConnection(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	s := play(t, func(c net.Conn, r *bufio.Reader, _ int) {
		for {
			if _, _, ok := readHead(r); !ok {
				return
			}
			resp := &http.Response{ProtoMajor: 1, ProtoMinor: 1, StatusCode: 200, ContentLength: -1, TransferEncoding: []string{"chunked"}, Body: io.NopCloser(bytes.NewReader(big))}
			_ = resp.Write(c)
		}
	})
	up := s.upstream(t)
	for range 3 {
		if _, body, err := fetch(t, up, "GET"); err != nil || body != string(big) {
			t.Fatalf("%d octets, %v", len(body), err)
		}
	}
	if n := s.conns.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}
