package h2

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http2"
)

// An extended CONNECT is an upgrade for the Handler, and a tunnel for the client once that is
// accepted (RFC 8441): octets go both ways as they come, until either side ends.
func TestTunnel(t *testing.T) {
	over := make(chan string, 1)
	c := dial(t, options(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "GET" || r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Connection") != "Upgrade" || len(r.Header.Get("Sec-Websocket-Key")) != 24 || r.URL.Path != "/chat" {
			t.Errorf("it is %s %s %v", r.Method, r.URL, r.Header)
		}
		nc, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer nc.Close()
		fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n", "Sec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: chat\r\n\r\nhello")
		if err := rw.Flush(); err != nil {
			t.Error(err)
			return
		}
		said, err := io.ReadAll(io.TeeReader(rw, nc)) // what is said is said again
		over <- fmt.Sprint(string(said), err)
	}))
	c.must(c.fr.WriteHeaders(connect(c, 1, "websocket")))
	c.until("hello", func() bool { return string(c.of(1).body) == "hello" })
	a := c.of(1)
	if a.status != 200 || a.fields.Get("Sec-Websocket-Protocol") != "chat" || a.fields.Get("Sec-Websocket-Accept") != "" || a.fields.Get("Upgrade") != "" {
		t.Errorf("%d %v", a.status, a.fields)
	}
	for _, word := range []string{"one", "two"} {
		before := string(a.body)
		c.must(c.fr.WriteData(1, false, []byte(word)))
		c.until(word, func() bool { return string(a.body) == before+word })
	}
	c.must(c.fr.WriteData(1, true, nil))
	if c.answer(1); !a.whole || a.reset {
		t.Errorf("the end: whole %v, reset %v", a.whole, a.reset)
	}
	if got := <-over; got != "onetwo<nil>" {
		t.Errorf("the Handler heard %q", got)
	}
}

func connect(c *client, id uint32, protocol string) http2.HeadersFrameParam {
	block := c.head(":method", "CONNECT", ":protocol", protocol, ":scheme", "https", ":authority", "h", ":path", "/chat", "sec-websocket-version", "13")
	return http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true}
}

// What is answered otherwise than by an upgrade is no tunnel, and no success.
func TestTunnelRefused(t *testing.T) {
	for status, want := range map[int]int{200: 501, 206: 501, 302: 302, 404: 404, 502: 502} {
		c := dial(t, options(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "4")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "body")
		}))
		c.must(c.fr.WriteHeaders(connect(c, 1, "websocket")))
		if a := c.answer(1); a.status != want || (want == 501) != (len(a.body) == 0) {
			t.Errorf("%d becomes %d, %q", status, a.status, a.body)
		}
	}
	for _, protocol := range []string{"", "a b"} {
		c := dial(t, options(func(http.ResponseWriter, *http.Request) { t.Error("it is handled") }))
		c.must(c.fr.WriteHeaders(connect(c, 1, protocol)))
		c.answer(1).wasReset(t, http2.ErrCodeProtocol)
	}
	// Handlers that write no good head, and then go.
	for _, head := range []string{"HTTP/1.1 200 OK\r\n\r\n", "nonsense\r\n\r\n", strings.Repeat("x", mostUpgrade+1), "HTTP/1.1 101 Sw"} {
		c := dial(t, options(func(w http.ResponseWriter, _ *http.Request) {
			nc, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(nc, head)
			nc.Close()
		}))
		c.must(c.fr.WriteHeaders(connect(c, 1, "websocket")))
		if a := c.answer(1); a.status == 200 {
			t.Errorf("%.40q is taken for a tunnel", head)
		}
	}
}
