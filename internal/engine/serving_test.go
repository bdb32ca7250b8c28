package engine_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/rules"
	"github.com/larderhq/larder/internal/sim"
)

func TestSRV02_HeadFromAStoredGet(t *testing.T) {
	for _, reply := range []sim.Reply{
		{Header: []string{"Cache-Control: max-age=60", `ETag: "1"`, "Content-Type: text/plain", "X-A: b", "X-A: c", "Set-Cookie: d=e"}, Body: "page"},
		{Header: []string{"Cache-Control: max-age=60"}, Body: "chunked", Length: -1},
		{Header: []string{"Cache-Control: max-age=60"}},
		{Status: 404, Header: []string{"Cache-Control: max-age=60"}, Body: "none"},
		{Status: 204, Header: []string{"Cache-Control: max-age=60"}},
	} {
		sim.Run(t, func(w *sim.World) {
			w.Origin(reply)
			w.Get("/a")
			w.Advance(7 * time.Second)
			get, head := w.Get("/a").WantHit(), w.Do("HEAD", "/a", "").WantHit()
			if head.Status != get.Status || head.Body() != "" || fmt.Sprint(head.Header) != fmt.Sprint(get.Header) {
				t.Errorf("HEAD gives %d %v %q, GET %d %v", head.Status, head.Header, head.Body(), get.Status, get.Header)
			}
			w.WantCount(1)
		})
	}
}

func TestSRV03_NoCacheIsValidatedOnEachUse(t *testing.T) {
	for _, lines := range [][]string{
		{"Cache-Control: no-cache, max-age=60"},
		{"Cache-Control: max-age=60", "Cache-Control: no-cache"},
		{"Cache-Control: no-cache, s-maxage=60"},
		{"Cache-Control: no-cache, max-age=60, stale-while-revalidate=600, stale-if-error=600"},
		{"Cache-Control: no-cache, public, immutable, max-age=60"},
		{`Cache-Control: no-cache="x", no-cache, max-age=60`},
		{"CDN-Cache-Control: no-cache, max-age=60", "Cache-Control: max-age=60"},
	} {
		configure := func(c *engine.Config) {
			c.Terms.SoftTTL = time.Hour
			c.Terms.StaleOnErrorMax = time.Hour
			c.Terms.RevalidateTimeout = time.Second
		}
		sim.RunWith(t, configure, func(w *sim.World) {
			w.Origin(
				sim.Reply{Header: append(lines, `ETag: "1"`), Body: "page"},
				sim.Reply{Status: 304},
				sim.Reply{Status: 304, Delay: 5 * time.Second},
				sim.Reply{Status: 304},
				sim.Reply{Status: 304},
				refusing,
			)
			w.Get("/a").Want(200, "page")
			for i, ask := range []string{"X: y", "X: y", "Cache-Control: max-stale", "Cache-Control: max-stale=100"} {
				w.Get("/a", ask).Want(200, "page").WantMiss("stale").WantField("Age")
				w.WantCount(2 + i)
				if w.Last().Header.Get("If-None-Match") != `"1"` {
					t.Errorf("%q: asked without the validator", lines)
				}
			}
			if a := w.Get("/a"); a.Status != 504 || strings.Contains(a.Body(), "page") {
				t.Errorf("%q, origin down: %d %q", lines, a.Status, a.Body())
			}
			if a := w.Get("/a", "Cache-Control: only-if-cached"); a.Status != 504 {
				t.Errorf("%q, only-if-cached: %d", lines, a.Status)
			}
		})
	}
}

func TestSRV04_QualifiedNoCache(t *testing.T) {
	for _, directive := range []string{`no-cache="a, Set-Cookie"`, `no-cache="A,set-cookie"`, `no-cache="set-cookie", no-cache=a`} {
		sim.Run(t, func(w *sim.World) {
			page := []string{"Cache-Control: max-age=60, " + directive, `ETag: "1"`}
			slow := sim.Reply{Header: append([]string{"A: 1", "B: 1", "Set-Cookie: one"}, page...), Body: "page", Delay: time.Second}
			w.Origin(
				slow,
				sim.Reply{Status: 304, Header: []string{"A: 2", "B: 2"}},
				sim.Reply{Status: 304},
				sim.Reply{Header: append([]string{"A: 3", "Set-Cookie: three"}, page...), Body: "new"},
				refusing,
			)
			waits := w.Start("GET", "/a", "")
			other := w.Start("GET", "/a", "")
			waits.Wait()
			other.Wait()
			if waits.Header["A"] == nil {
				waits, other = other, waits
			}
			waits.Want(200, "page").WantField("A", "1").WantField("Set-Cookie", "one").WantField("B", "1")
			other.Want(200, "page").WantField("A").WantField("Set-Cookie").WantField("B", "1")
			fresh := func(b ...string) {
				t.Helper()
				w.Get("/a").WantHit().WantField("A").WantField("Set-Cookie").WantField("B", b...)
				w.Do("HEAD", "/a", "").WantHit().WantField("A").WantField("Set-Cookie").WantField("B", b...)
				w.Get("/a", "Range: bytes=0-1").WantHit().WantField("A").WantField("Set-Cookie").WantField("B", b...)
				w.Get("/a", `If-None-Match: "1"`).WantHit().WantField("A").WantField("Set-Cookie")
			}
			w.WantCount(1)
			fresh("1")
			w.Advance(time.Minute)
			w.Get("/a").Want(200, "page").WantMiss("stale").WantField("A", "2").WantField("Set-Cookie", "one").WantField("B", "2")
			fresh("2")
			w.Advance(time.Minute)
			w.Get("/a").Want(200, "page").WantMiss("stale").WantField("A", "2") // validated, so the stored one holds
			fresh("2")
			w.Advance(time.Minute)
			w.Get("/a").Want(200, "new").WantMiss("stale").WantField("A", "3").WantField("Set-Cookie", "three").WantField("B")
			fresh()
			w.Advance(time.Minute)
			w.Get("/a").Want(200, "new").WantField("A").WantField("Set-Cookie") // stale, and nobody validated it
		})
	}
}

func TestSRV05_UnsafeMethodsGetTheOriginsAnswer(t *testing.T) {
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "UNKNOWN"} {
		sim.Run(t, func(w *sim.World) {
			w.Origin(minute)
			w.Get("/a")
			w.Get("/a").WantHit()
			for i, reply := range []sim.Reply{
				{Status: 200, Body: "done"}, {Status: 403, Body: "no"}, {Status: 500, Body: "sorry"}, {Status: 503, Header: []string{"Retry-After: 1"}}, {Status: 201, Header: []string{"Location: /a"}},
			} {
				w.Origin(reply)
				w.Do(method, "/a", "content", "If-None-Match: *", "Range: bytes=0-0", "Cache-Control: max-stale, only-if-cached").
					Want(reply.Status, reply.Body).WantMiss("method")
				w.WantCount(2 + i)
				if seen := w.Last(); seen.Method != method || seen.Content != "content" {
					t.Errorf("the origin saw %s %q", seen.Method, seen.Content)
				}
			}
			w.Origin(refusing)
			if a := w.Do(method, "/a", "content"); a.Status != 502 && a.Status != 504 || strings.Contains(a.Body(), "page") {
				t.Errorf("%s, origin down: %d %q", method, a.Status, a.Body())
			}
		})
	}
}

func TestSRV06_CookieMakesNoDifference(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(minute)
		w.Get("/a").WantMiss("uri-miss")
		w.Get("/a", "Cookie: a=b").Want(200, "page").WantHit()
		w.Get("/a", "Cookie: c=d", "Cookie: e=f").Want(200, "page").WantHit()
		w.Get("/b", "Cookie: a=b").WantMiss("uri-miss")
		w.Get("/b").Want(200, "page").WantHit()
		w.WantCount(2)
	})
	sim.Run(t, func(w *sim.World) {
		varying(w, "Cookie")
		w.Get("/a", "Cookie: a=b").Want(200, `["a=b"];`)
		w.Get("/a", "Cookie: a=c").Want(200, `["a=c"];`).WantMiss("vary-miss")
		w.Get("/a").Want(200, `[];`).WantMiss("vary-miss")
		w.Get("/a", "Cookie: a=b").Want(200, `["a=b"];`).WantHit()
	})
}

func TestSRV07_AttachmentsAndQueriesAreLikeAnyOther(t *testing.T) {
	for _, lines := range [][]string{{"Cache-Control: max-age=60"}, {"Expires: {60}"}, {"Last-Modified: {-600}"}} {
		sim.Run(t, func(w *sim.World) {
			w.Origin(sim.Reply{Header: []string{dated(lines[0]), `Content-Disposition: attachment; filename="a.txt"`}, Body: "page"})
			for _, target := range []string{"/a", "/a?b=c", "/cgi-bin/a.php?x"} {
				w.Get(target).Want(200, "page").WantMiss("uri-miss")
				w.Advance(10 * time.Second)
				w.Get(target).Want(200, "page").WantHit().WantField("Content-Disposition", `attachment; filename="a.txt"`)
			}
		})
	}
}

// As the engine hands them to a server, whichever that is; TestSRV08 on the wire
// sees what Go's makes of it.
func TestSRV08_NoContentWithoutFraming(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		bare := func(a *sim.Answer, status int) {
			t.Helper()
			a.Want(status, "").WantField("Content-Length").WantField("Transfer-Encoding")
		}
		none := sim.Reply{Status: 204, Header: []string{"Cache-Control: max-age=60", `ETag: "1"`, "Content-Length: 0", "Transfer-Encoding: chunked"}}
		w.Origin(none)
		bare(w.Get("/204"), 204)
		bare(w.Get("/204").WantHit(), 204)
		bare(w.Do("HEAD", "/204", "").WantHit(), 204)
		bare(w.Do("PUT", "/204", ""), 204)
		w.Origin(minute)
		w.Get("/200")
		bare(w.Get("/200", `If-None-Match: "1"`).WantHit(), 304)
		bare(w.Do("HEAD", "/200", "", `If-None-Match: "1"`).WantHit(), 304)
		w.Advance(time.Minute)
		w.Origin(sim.Reply{Status: 304, Header: []string{"Content-Length: 45"}})
		bare(w.Get("/200", `If-None-Match: "1"`).WantMiss("stale"), 304)
		bare(w.Get("/none", `If-None-Match: "1"`).WantMiss("uri-miss"), 304)
		bare(w.Do("POST", "/none", "", `If-None-Match: "1"`), 304)
	})
	// Two who wait for one answer.
	sim.Run(t, func(w *sim.World) {
		w.Origin(sim.Reply{Status: 204, Header: []string{"Cache-Control: max-age=60", "Content-Length: 0"}, Delay: time.Second})
		one, other := w.Start("GET", "/204", ""), w.Start("GET", "/204", "")
		for _, a := range []*sim.Answer{one, other} {
			a.Wait()
			a.Want(204, "").WantField("Content-Length")
		}
		w.WantCount(1)
	})
}

// A slowReader takes what it is sent only when it is let.
type slowReader struct {
	header http.Header
	status int
	may    chan struct{}
	gone   bool // it takes nothing more
	body   strings.Builder
}

func (s *slowReader) Header() http.Header    { return s.header }
func (s *slowReader) WriteHeader(status int) { s.status = status }

func (s *slowReader) Write(p []byte) (int, error) {
	for _, c := range p { // octet after octet, one wait for every 64 KiB
		if s.body.Len()%(64<<10) == 0 {
			<-s.may
		}
		if s.gone {
			return 0, io.ErrClosedPipe
		}
		s.body.WriteByte(c)
	}
	return len(p), nil
}

func TestSRV11_SlowReadersHoldUpNobody(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		old, other := strings.Repeat("old ", 128<<10), strings.Repeat("new ", 128<<10)
		w.Origin(
			sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "old"`}, Body: old},
			sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "new"`}, Body: other},
		)
		start := func() (*slowReader, chan struct{}) {
			s, done := &slowReader{header: http.Header{}, may: make(chan struct{})}, make(chan struct{})
			go func() {
				defer close(done)
				w.Engine.ServeHTTP(s, sim.Request("GET", "/a", ""))
			}()
			w.Settle()
			return s, done
		}
		finish := func(s *slowReader, done chan struct{}) {
			t.Helper()
			close(s.may)
			<-done
			if s.status != 200 || s.body.String() != old {
				t.Errorf("a slow reader got %d and %d octets, not all of them old", s.status, s.body.Len())
			}
		}
		first, firstDone := start() // while it arrives
		w.Get("/a").Want(200, old).WantHit()
		second, secondDone := start() // from the store
		second.may <- struct{}{}
		w.Get("/a").Want(200, old).WantHit()
		w.Advance(time.Minute)
		w.Get("/a").Want(200, other).WantMiss("stale")
		w.Get("/a").Want(200, other).WantHit()
		second.may <- struct{}{}
		w.Do("DELETE", "/a", "") // nothing is left of either
		w.Get("/a").Want(200, other)
		finish(second, secondDone)
		finish(first, firstDone)
	})
}

// Several ranges are one answer from one version as well, and an answer that is
// broken off holds on to nothing.
func TestSRV11_SeveralRangesOfOneVersion(t *testing.T) {
	for _, leaves := range []bool{false, true} {
		sim.Run(t, func(w *sim.World) {
			old := strings.Repeat("old ", 64<<10)
			w.Origin(
				sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "old"`}, Body: old},
				sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "new"`}, Body: "new"},
			)
			w.Get("/a")
			s, done := &slowReader{header: http.Header{}, may: make(chan struct{})}, make(chan struct{})
			go func() {
				defer close(done)
				defer func() {
					if p := recover(); p != nil && !leaves {
						t.Errorf("broken off: %v", p)
					}
				}()
				w.Engine.ServeHTTP(s, sim.Request("GET", "/a", "", "Range: bytes=0-99999,200000-200003"))
			}()
			w.Settle()
			w.Do("DELETE", "/a", "")
			w.Get("/a").Want(200, "new")
			s.gone = leaves
			close(s.may)
			<-done
			if got := s.body.String(); !leaves && (!strings.Contains(got, old[:100000]+"\r\n") || !strings.Contains(got, "\r\n\r\nold \r\n--")) {
				t.Errorf("a slow reader got %d, %d octets of the two ranges", s.status, len(got))
			}
			w.Do("DELETE", "/a", "")
			if stats := w.Store.Stats(); stats.Bytes > 64<<10 {
				t.Errorf("%d octets are held by nobody", stats.Bytes)
			}
		})
	}
}

func TestSRV12_ImmutableWithstandsAReload(t *testing.T) {
	configure := func(c *engine.Config) { c.Terms.Requests = rules.HonorRequests }
	sim.RunWith(t, configure, func(w *sim.World) {
		w.Origin(
			sim.Reply{Header: []string{"Cache-Control: max-age=60, immutable", `ETag: "1"`}, Body: "page"},
			sim.Reply{Status: 304},
		)
		w.Get("/a")
		w.Advance(10 * time.Second)
		w.Get("/a", "Cache-Control: max-age=0").Want(200, "page").WantHit()
		w.WantCount(1)
		w.Get("/a", "Cache-Control: no-cache").Want(200, "page").WantMiss("request")
		w.Advance(10 * time.Second)
		w.Get("/a", "Pragma: no-cache").Want(200, "page").WantMiss("request")
		w.Advance(time.Minute)
		w.Get("/a").Want(200, "page").WantMiss("stale")
		w.Advance(time.Minute)
		w.Get("/a", "Cache-Control: max-age=0").Want(200, "page")
		w.WantCount(5)
	})
}
