package front

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/h2"
	"github.com/larderhq/larder/internal/standing"
)

// The same listener serves both kinds of clients, however the first octets are cut, if it is
// told to; otherwise HTTP/2 is refused.
func TestH2C(t *testing.T) {
	for _, portable := range []bool{false, true} {
		o := Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) }), H2C: true, Standing: standing.New(nil), Clock: twoClocks}
		w := serveOptions(o, portable)
		for cut := range len(h2.Preface) {
			for _, second := range []bool{true, false} {
				p := new(http.Protocols)
				p.SetHTTP1(!second)
				p.SetUnencryptedHTTP2(second)
				way := &http.Transport{Protocols: p, DialContext: func(context.Context, string, string) (net.Conn, error) { return &cutConn{w.dial(), cut}, nil }}
				want := map[bool]string{true: "HTTP/2.0", false: "HTTP/1.1"}[second]
				for range 2 {
					a, err := (&http.Client{Transport: way}).Get("http://h/")
					if err != nil {
						t.Fatalf("portable %v, cut at %d: %v", portable, cut, err)
					}
					if body, err := io.ReadAll(a.Body); string(body) != want || err != nil {
						t.Errorf("portable %v, cut at %d: %q, %v; want %s", portable, cut, body, err, want)
					}
					a.Body.Close()
				}
				way.CloseIdleConnections()
			}
		}
		w.end(t)

		o.H2C = false
		w = serveOptions(o, portable)
		c := w.dial()
		if _, err := io.WriteString(c, h2.Preface); err != nil {
			t.Fatal(err)
		}
		if answers := hear(t, c); len(answers) != 1 || answers[0].StatusCode < 400 {
			t.Errorf("portable %v: HTTP/2 gets %v though it is off", portable, statuses(answers))
		}
		c.Close()
		w.end(t)
	}
}

// A cutConn sends its first octets apart.
type cutConn struct {
	net.Conn
	first int
}

func (c *cutConn) Write(p []byte) (n int, err error) {
	if k := min(c.first, len(p)); k > 0 {
		c.first = 0
		if n, err = c.Conn.Write(p[:k]); err != nil {
			return n, err
		}
	}
	m, err := c.Conn.Write(p[n:])
	return n + m, err
}

// A client that is told that it does not speak HTTP/2 hears that, however much it has said
// meanwhile: the connection is not reset under it (RFC 9113 §5.4.1).
func TestH2C_Farewell(t *testing.T) {
	for _, portable := range []bool{false, true} {
		w := serveOptions(Options{Handler: http.NotFoundHandler(), H2C: true, Standing: standing.New(nil), Clock: twoClocks}, portable)
		c := w.dial()
		settings, push := "\x00\x00\x00\x04\x00\x00\x00\x00\x00", "\x00\x00\x04\x05\x04\x00\x00\x00\x01\x00\x00\x00\x02"
		if _, err := io.WriteString(c, h2.Preface+settings+push+strings.Repeat("x", 200<<10)); err != nil {
			t.Fatal(err)
		}
		if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil { // so that no failure hangs
			t.Fatal(err)
		}
		said, err := io.ReadAll(c)
		if goAway := "\x00\x00\x08\x07\x00\x00\x00\x00\x00"; err != nil || !strings.Contains(string(said), goAway) {
			t.Errorf("portable %v: %q, %v", portable, said, err)
		}
		c.Close()
		w.end(t)
	}
}
