package daemon

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/larderhq/larder/internal/engine"
)

// aged is an origin whose answers are stale as soon as they come, but for /fresh. What
// is below /must must not be used stale.
func aged(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("ETag", `"1"`)
	h.Set("Cache-Control", "max-age=60")
	if r.URL.Path != "/fresh" {
		h.Set("Age", "100")
	}
	if r.URL.Path == "/must" {
		h.Set("Cache-Control", "max-age=60, must-revalidate")
	}
	io.WriteString(w, "page")
}

// While the parent is down the edge gives what is fresh, what is stale where that is
// allowed, and an error of its own otherwise.
func TestTiersParentDown(t *testing.T) {
	origin, _ := serveOrigin(t, aged)
	c := newTiers(t, origin, nil)
	for _, path := range []string{"/fresh", "/stale", "/must"} {
		c.want(c.get(path), 200, "page")
	}
	c.parent.stop()
	for range 2 {
		c.want(c.get("/fresh"), 200, "page")
		a := c.want(c.get("/stale"), 200, "page")
		if lines := a.header["Cache-Status"]; len(lines) != 2 || !strings.HasPrefix(lines[0], "parent; fwd=uri-miss") || !strings.HasPrefix(lines[1], "edge; fwd=stale; ttl=-") {
			t.Errorf("Cache-Status is %q", lines)
		}
		if age := a.header.Get("Age"); len(age) != 3 || a.header["Proxy-Status"] != nil {
			t.Errorf("Age is %q, Proxy-Status %q", age, a.header["Proxy-Status"])
		}
		c.want(c.get("/stale", `If-None-Match: "1"`), 304, "")
		for path, status := range map[string]int{"/must": 504, "/unknown": 502} {
			a := c.get(path)
			if a.status != status || a.header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s: %d %q", path, a.status, a.header)
			}
			c.wantField(a, "Proxy-Status", "edge; error=connection_refused")
		}
	}
}

// While the origin is down behind the parent, either tier may have something stale, and
// an error has one member of Proxy-Status, from the tier that met it.
func TestTiersOriginDown(t *testing.T) {
	for name, configure := range map[string]func(edge, parent *engine.Config){
		"both have it": nil,
		"the edge alone has it": func(_, parent *engine.Config) {
			parent.Terms.Statuses = []int{599}
		},
		"the parent alone has it": func(edge, _ *engine.Config) {
			edge.Terms.Statuses = []int{599}
		},
	} {
		t.Run(name, func(t *testing.T) {
			origin := httptest.NewServer(http.HandlerFunc(aged))
			defer origin.Close()
			c := newTiers(t, origin.URL, configure)
			for _, path := range []string{"/fresh", "/stale", "/must"} {
				c.want(c.get(path), 200, "page")
			}
			origin.Close()
			for range 2 {
				c.want(c.get("/fresh"), 200, "page")
				a := c.want(c.get("/stale"), 200, "page")
				if age := a.header.Get("Age"); len(age) != 3 || a.header["Proxy-Status"] != nil {
					t.Errorf("Age is %q, Proxy-Status %q", age, a.header["Proxy-Status"])
				}
				if lines := a.header["Cache-Status"]; len(lines) != 2 || !strings.HasPrefix(lines[0], "parent; ") || !strings.HasPrefix(lines[1], "edge; ") {
					t.Errorf("Cache-Status is %q", lines)
				}
				for path, status := range map[string]int{"/must": 504, "/unknown": 502} {
					a := c.get(path)
					if path == "/must" && name == "the edge alone has it" {
						status = 502 // as the parent says it
					}
					if a.status != status || a.header.Get("Cache-Control") != "no-store" {
						t.Errorf("%s: %d %q", path, a.status, a.header)
					}
					c.wantField(a, "Proxy-Status", "parent; error=connection_refused")
				}
			}
		})
	}
}

// A body that breaks off does so for the client, through both, and is kept by neither.
func TestTiersTruncatedBodies(t *testing.T) {
	content := contentOf(1000)
	const head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nETag: \"1\"\r\nConnection: close\r\n"
	for name, broken := range map[string]string{
		"by length":  head + "Content-Length: 1000\r\n\r\n" + content[:500],
		"no octet":   head + "Content-Length: 1000\r\n\r\n",
		"in chunks":  head + "Transfer-Encoding: chunked\r\n\r\n1f4\r\n" + content[:500] + "\r\n",
		"in a chunk": head + "Transfer-Encoding: chunked\r\n\r\n3e8\r\n" + content[:500],
		"a part": "HTTP/1.1 206 Partial Content\r\nCache-Control: max-age=60\r\nETag: \"1\"\r\nConnection: close\r\n" +
			"Content-Range: bytes 0-999/1000\r\nContent-Length: 1000\r\n\r\n" + content[:500],
	} {
		t.Run(name, func(t *testing.T) {
			asked := make(chan int, 100)
			origin := serveOctets(t, func(n int, _ *http.Request) string {
				asked <- n
				if n < 2 {
					return broken
				}
				return head + "Content-Length: 1000\r\n\r\n" + content
			})
			c := newTiers(t, origin, nil)
			var header []string
			if name == "a part" {
				header = []string{"Range: bytes=0-1999"}
			}
			for range 2 {
				a := c.get("/a", header...)
				if name == "no octet" && a.status == 502 {
					continue // the parent had not begun yet, so that the edge could say it
				}
				if a.broken == nil || !strings.HasPrefix(content, a.body) {
					t.Fatalf("%d, %d octets, and no error: %q", a.status, len(a.body), a.header)
				}
			}
			c.want(c.get("/a"), 200, content)
			c.want(c.get("/a"), 200, content)
			c.want(c.ask(c.parent.URL(), "GET", "/a", ""), 200, content)
			if n := len(asked); n != 3 {
				t.Errorf("the origin was asked %d times, want 3", n)
			}
		})
	}
}

// What the origin says of an error of its own passes both as it is.
func TestTiersErrorsOfTheOrigin(t *testing.T) {
	origin, seen := serveOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Proxy-Status", "backend; error=dns_error")
		w.WriteHeader(http.StatusBadGateway)
		fmt.Fprint(w, "sorry")
	})
	c := newTiers(t, origin, nil)
	for n := range 2 {
		a := c.want(c.get("/"), 502, "sorry")
		c.wantField(a, "Proxy-Status", "backend; error=dns_error")
		c.wantField(a, "Cache-Status", "parent; fwd=uri-miss", "edge; fwd=uri-miss")
		if seen.count() != n+1 {
			t.Errorf("the origin was asked %d times", seen.count())
		}
	}
}
