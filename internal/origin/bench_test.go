package origin_test

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/larderhq/larder/internal/origin"
)

// canned gives one answer to whatever comes in one piece, on a connection of its own
// for each client.
func canned(b *testing.B, answer string) (addr string) {
	b.Helper()
	octets := []byte(answer)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for buf := make([]byte, 4<<10); ; {
					if _, err := c.Read(buf); err != nil {
						return
					}
					if _, err := c.Write(octets); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// BenchmarkRoundTrip is a response of 4 KiB over loopback: by an Upstream, and by
// net/http for comparison.
func BenchmarkRoundTrip(b *testing.B) {
	addr := canned(b, "HTTP/1.1 200 OK\r\nDate: Tue, 15 Nov 2022 12:45:26 GMT\r\nCache-Control: max-age=3600\r\nETag: \"1\"\r\n"+
		"Content-Type: text/plain\r\nContent-Length: 4096\r\n\r\n"+strings.Repeat("x", 4<<10))
	run := func(b *testing.B, rt http.RoundTripper) {
		buf := make([]byte, 64<<10)
		b.ReportAllocs()
		for b.Loop() {
			req, err := http.NewRequestWithContext(b.Context(), "GET", "http://"+addr+"/", nil)
			if err != nil {
				b.Fatal(err)
			}
			resp, err := rt.RoundTrip(req)
			if err != nil {
				b.Fatal(err)
			}
			n := 0
			for err == nil {
				var m int
				m, err = resp.Body.Read(buf)
				n += m
			}
			if n != 4<<10 || err != io.EOF {
				b.Fatal(n, err)
			}
			_ = resp.Body.Close()
		}
	}
	b.Run("Upstream", func(b *testing.B) {
		req, _ := http.NewRequest("GET", "http://"+addr+"/", nil)
		up, err := origin.New(origin.Options{URL: req.URL})
		if err != nil {
			b.Fatal(err)
		}
		defer up.CloseIdle()
		run(b, up)
	})
	b.Run("net-http", func(b *testing.B) {
		tr := &http.Transport{DisableCompression: true}
		defer tr.CloseIdleConnections()
		run(b, tr)
	})
}
