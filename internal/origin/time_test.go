package origin_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larderhq/larder/internal/origin"
)

// bubble runs f in a bubble of its own time, with an origin in memory that
// plays serve on each connection.
func bubble(t *testing.T, serve func(c net.Conn, r *bufio.Reader), f func(t *testing.T, inMemory func(*origin.Options))) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f(t, func(o *origin.Options) {
			o.Dial = func(context.Context, string, string) (net.Conn, error) {
				here, there := net.Pipe()
				go func() {
					defer there.Close()
					serve(there, bufio.NewReader(there))
				}()
				return here, nil
			}
		})
	})
}

// took checks how long something took.
func took(t *testing.T, begin time.Time, want time.Duration) {
	t.Helper()
	if got := time.Since(begin); got != want {
		t.Errorf("took %v, want %v", got, want)
	}
}

func TestSTS11_ConnectTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := upstream(t, "http://h", func(o *origin.Options) {
			o.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
				<-ctx.Done()
				return nil, &net.OpError{Op: "dial", Err: ctx.Err()}
			}
		})
		begin := time.Now()
		_, _, err := fetch(t, up, "GET")
		wantError(t, err, "connection_timeout", 504, true)
		took(t, begin, 10*time.Second)
	})
}

func TestSTS11_HandshakeTimeout(t *testing.T) {
	serve := func(_ net.Conn, r *bufio.Reader) { _, _ = io.Copy(io.Discard, r) }
	bubble(t, serve, func(t *testing.T, inMemory func(*origin.Options)) {
		begin := time.Now()
		_, _, err := fetch(t, upstream(t, "https://h", inMemory), "GET")
		wantError(t, err, "connection_timeout", 504, true)
		took(t, begin, 10*time.Second)
	})
}

func TestSTS11_StalledHead(t *testing.T) {
	for _, start := range []string{"", "HTTP/1.1 200 OK\r\nA:", "HTTP/1.1 103 x\r\n\r\n"} {
		serve := func(c net.Conn, r *bufio.Reader) {
			if _, _, ok := readHead(r); ok {
				_, _ = io.WriteString(c, start)
			}
			_, _ = io.Copy(io.Discard, r)
		}
		bubble(t, serve, func(t *testing.T, inMemory func(*origin.Options)) {
			begin := time.Now()
			_, _, err := fetch(t, upstream(t, "http://h", inMemory), "GET")
			wantError(t, err, "connection_read_timeout", 504, true)
			took(t, begin, time.Minute)
		})
	}
}

func TestSTS11_StalledBody(t *testing.T) {
	serve := func(c net.Conn, r *bufio.Reader) {
		if _, _, ok := readHead(r); !ok {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nha")
		time.Sleep(59 * time.Second) // of the bubble
		_, _ = io.WriteString(c, "lf")
		_, _ = io.Copy(io.Discard, r)
	}
	bubble(t, serve, func(t *testing.T, inMemory func(*origin.Options)) {
		begin := time.Now()
		_, body, err := fetch(t, upstream(t, "http://h", inMemory), "GET")
		wantError(t, err, "connection_read_timeout", 504, true)
		took(t, begin, 119*time.Second)
		if body != "half" {
			t.Errorf("%q", body)
		}
	})
}

func TestORG_SlowReaderIsNoStall(t *testing.T) {
	serve := func(c net.Conn, r *bufio.Reader) {
		for {
			if _, _, ok := readHead(r); !ok {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 40000\r\n\r\n"+strings.Repeat("x", 40000))
		}
	}
	bubble(t, serve, func(t *testing.T, inMemory func(*origin.Options)) {
		up := upstream(t, "http://h", inMemory, func(o *origin.Options) { o.IdleTimeout = time.Hour })
		for range 2 { // the second over a connection that waited for long
			resp, err := up.RoundTrip(request(t, t.Context(), "GET", "/", nil))
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Minute) // of the bubble
			if b, err := io.ReadAll(resp.Body); len(b) != 40000 || err != nil {
				t.Fatalf("%d, %v", len(b), err)
			}
			_ = resp.Body.Close()
			time.Sleep(10 * time.Minute)
		}
	})
}

func TestSTS11_StalledUpload(t *testing.T) {
	serve := func(_ net.Conn, r *bufio.Reader) {
		_, _, _ = readHead(r)
		time.Sleep(time.Hour) // of the bubble
	}
	bubble(t, serve, func(t *testing.T, inMemory func(*origin.Options)) {
		begin := time.Now()
		_, err := upstream(t, "http://h", inMemory).RoundTrip(request(t, t.Context(), "POST", "/", io.NopCloser(endless{})))
		wantError(t, err, "connection_write_timeout", 504, true)
		took(t, begin, time.Minute)
		time.Sleep(time.Hour) // the origin wakes
	})
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestFWD14_TunnelHasNoStall(t *testing.T) {
	serve := func(c net.Conn, r *bufio.Reader) {
		if _, _, ok := readHead(r); !ok {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: y\r\n\r\n")
		time.Sleep(time.Hour) // of the bubble
		_, _ = io.WriteString(c, "late")
	}
	bubble(t, serve, func(t *testing.T, inMemory func(*origin.Options)) {
		req := request(t, t.Context(), "GET", "/", nil)
		req.Header.Set("Connection", "upgrade")
		req.Header.Set("Upgrade", "y")
		resp, err := upstream(t, "http://h", inMemory).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(resp.Body); string(b) != "late" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		_ = resp.Body.Close()
	})
}

func TestSTS11_QueueLimit(t *testing.T) {
	serve := func(c net.Conn, r *bufio.Reader) {
		if _, _, ok := readHead(r); ok {
			time.Sleep(45 * time.Second) // of the bubble
			_, _ = io.WriteString(c, "HTTP/1.1 204 x\r\n\r\n")
		}
	}
	bubble(t, serve, func(t *testing.T, inMemory func(*origin.Options)) {
		up := upstream(t, "http://h", inMemory, func(o *origin.Options) { o.MaxConns = 1 })
		first := make(chan error)
		go func() {
			_, _, err := fetch(t, up, "GET")
			first <- err
		}()
		synctest.Wait()
		begin := time.Now()
		_, _, err := fetch(t, up, "GET")
		wantError(t, err, "connection_limit_reached", 503, true)
		took(t, begin, 30*time.Second)
		if err := <-first; err != nil {
			t.Error(err)
		}
	})
}
