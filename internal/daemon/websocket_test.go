package daemon

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/larderhq/larder/internal/h2"
)

// A WebSocket over HTTP/2 (RFC 8441) is an upgrade over HTTP/1.1 for the origin, and octets go
// both ways.
func TestHTTPS_WebSocketOverHTTP2(t *testing.T) {
	s := startHTTPSWith(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Sec-Websocket-Key") == "" || r.Header.Get("Sec-Websocket-Version") != "13" {
			t.Errorf("the origin is asked %s with %v", r.Method, r.Header)
		}
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n")
		_ = rw.Flush() // the client will miss it
		line, err := rw.ReadString('\n')
		if err != nil {
			t.Error(err)
		}
		fmt.Fprint(c, strings.ToUpper(line))
	}, HTTPS{}, func(o *Options) { o.Engine.Upgrades = []string{"websocket"} })
	trust := s.client(true, true).Transport.(*http.Transport).TLSClientConfig.Clone()
	trust.ServerName, trust.NextProtos = shop, []string{"h2"}
	nc, err := tls.Dial("tcp", strings.TrimPrefix(s.SecureURL(), "https://"), trust)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := nc.SetDeadline(time.Now().Add(20 * time.Second)); err != nil { // so that no failure hangs
		t.Fatal(err)
	}
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for _, f := range []hpack.HeaderField{
		{Name: ":method", Value: "CONNECT"},
		{Name: ":protocol", Value: "websocket"},
		{Name: ":scheme", Value: "https"},
		{Name: ":authority", Value: shop},
		{Name: ":path", Value: "/chat"},
		{Name: "sec-websocket-version", Value: "13"},
	} {
		if err := e.WriteField(f); err != nil {
			t.Fatal(err)
		}
	}
	f := http2.NewFramer(nc, nc)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if _, err := io.WriteString(nc, h2.Preface); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		f.WriteSettings(), f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true}), f.WriteData(1, false, []byte("hello\n")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	status, body := "", ""
	for over := false; !over; {
		frame, err := f.ReadFrame()
		if err != nil {
			t.Fatalf("%v, after %q %q", err, status, body)
		}
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			status = frame.PseudoValue("status")
		case *http2.DataFrame:
			body += string(frame.Data())
			over = frame.StreamEnded()
		}
	}
	if status != "200" || body != "HELLO\n" {
		t.Errorf("%q %q", status, body)
	}
}
