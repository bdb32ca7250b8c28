package engine_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"go.uber.org/goleak"

	"github.com/larderhq/larder/internal/sim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A page that the origin lets everybody keep for a minute.
var minute = sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "1"`}, Body: "page"}

func TestSRV01_FreshIsServedWithoutTheOrigin(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(minute)
		w.Get("/a").Want(200, "page").WantMiss("uri-miss")
		w.Advance(59 * time.Second)
		w.Get("/a").Want(200, "page").WantHit().WantField("Age", "59")
		w.WantCount(1)
		w.Advance(time.Second)
		w.Origin(sim.Reply{Status: 304})
		w.Get("/a").Want(200, "page").WantMiss("stale").WantField("Age")
		w.WantCount(2)
	})
}

// The story of the first seed: a proxy that sends Content-Length: 0 with every
// 304 emptied the cache's next answers.
func TestSeed0_ContentLengthOf304NeverFramesTheBody(t *testing.T) {
	body := strings.Repeat("x", 45)
	stored := map[string]sim.Reply{
		"by length":         {Body: body},
		"chunked":           {Body: body, Length: -1},
		"coded":             {Body: body, Header: []string{"Content-Encoding: gzip"}},
		"chunked and coded": {Body: body, Length: -1, Header: []string{"Content-Encoding: gzip"}},
	}
	for how, page := range stored {
		for _, length := range []string{"0", "10", "45", "46", "90", "garbage", "-1"} {
			for _, validator := range []string{`ETag: "v"`, "Last-Modified: Fri, 31 Dec 1999 00:00:00 GMT"} {
				t.Run(how+" "+length+" "+validator[:4], func(t *testing.T) {
					sim.Run(t, func(w *sim.World) {
						page := page
						page.Header = append([]string{"Cache-Control: max-age=1", validator}, page.Header...)
						w.Origin(page, sim.Reply{Status: 304, Header: []string{"Cache-Control: max-age=60", validator, "Content-Length: " + length}})
						w.Get("/f").Want(200, body)
						w.Advance(2 * time.Second)
						w.Get("/f").Want(200, body).WantMiss("stale").WantField("Content-Length", "45")
						w.Get("/f").Want(200, body).WantHit().WantField("Content-Length", "45")
						w.Get("/f", "Range: bytes=40-").Want(206, body[40:]).WantHit().WantField("Content-Range", "bytes 40-44/45")
						w.Do("HEAD", "/f", "").Want(200, "").WantHit().WantField("Content-Length", "45")
						w.WantCount(2)
					})
				})
			}
		}
	}
}

func TestCOL01_OneFetchForAThousandClients(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		slow := minute
		slow.Delay = 3 * time.Second
		w.Origin(slow)
		var answers []*sim.Answer
		for range 1000 {
			answers = append(answers, w.Start("GET", "/cold", ""))
		}
		collapsed := 0
		for _, a := range answers {
			a.Wait()
			a.Want(200, "page")
			if strings.Contains(a.CacheStatus(), "collapsed") {
				collapsed++
			}
		}
		w.WantCount(1)
		if collapsed != 999 {
			t.Errorf("%d answers say collapsed, want 999", collapsed)
		}
	})
}

func TestCOL03_UncacheableIsNotServedOneAfterTheOther(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		n := make(chan int, 200)
		for i := range 200 {
			n <- i
		}
		w.Handle(func(*http.Request) sim.Reply {
			return sim.Reply{Header: []string{"Cache-Control: no-store"}, Body: fmt.Sprint("answer ", <-n), Delay: time.Second}
		})
		start := time.Now()
		var answers []*sim.Answer
		for range 100 {
			answers = append(answers, w.Start("GET", "/own", ""))
		}
		seen := map[string]bool{}
		for _, a := range answers {
			a.Wait()
			if a.Status != 200 || seen[a.Body()] {
				t.Fatalf("status %d, body %q, given twice: %v", a.Status, a.Body(), seen[a.Body()])
			}
			seen[a.Body()] = true
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("took %v: they waited for each other", took)
		}
		// From now on nobody waits at all.
		start = time.Now()
		w.Get("/own")
		if took := time.Since(start); took > time.Second {
			t.Errorf("a later request took %v", took)
		}
	})
}

func TestSTL05_StaleWhileTheOriginIsDown(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(minute, sim.Reply{Err: errors.New("refused")})
		w.Get("/a").Want(200, "page")
		w.Advance(2 * time.Minute)
		w.Get("/a").Want(200, "page").WantField("Age", "120")
	})
}

// slow is a client that stops in the middle of its content.
type slow struct{ error }

func (slow) Timeout() bool { return true }

func TestBrokenUploadIsTheClientsFault(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
	}{{errors.New("chunk without a size"), 400}, {slow{errors.New("stalled")}, 408}} {
		sim.Run(t, func(w *sim.World) {
			w.Origin(minute)
			w.Get("/a").Want(200, "page")
			r := sim.Request("POST", "/a", "content")
			r.Body = io.NopCloser(iotest.ErrReader(c.err))
			a := w.Send(r)
			a.Wait()
			if a.Status != c.status || !strings.Contains(a.Header.Get("Proxy-Status"), "http_request_error") {
				t.Errorf("%v: status %d, Proxy-Status %q", c.err, a.Status, a.Header.Get("Proxy-Status"))
			}
			// Nobody knows how far the origin has come with it (RFC 9111 §4.4).
			w.Get("/a").WantMiss("stale")
		})
	}
}

// What is said of one client's haste does not end an entry for all.
func TestVAL_TooManyRequestsLeavesTheEntry(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(minute, sim.Reply{Status: 429, Body: "later"}, sim.Reply{Status: 304})
		w.Get("/a").Want(200, "page")
		w.Advance(2 * time.Minute)
		w.Get("/a").Want(429, "later")
		w.Get("/a").Want(200, "page").WantMiss("stale")
		if w.Last().Header.Get("If-None-Match") != `"1"` {
			t.Error("the entry is gone")
		}
	})
}

// The header is sent before anybody knows; the log is written after it.
func TestSTS07_TheLogKnowsWhatWasNotStored(t *testing.T) {
	for name, reply := range map[string]sim.Reply{
		"too large": {Header: minute.Header, Stream: strings.NewReader(strings.Repeat("x", 8<<20))},
		"cut short": {Header: minute.Header, Body: "half", Length: 8, BodyErr: io.ErrUnexpectedEOF},
	} {
		sim.Run(t, func(w *sim.World) {
			w.Origin(reply)
			w.Get("/a")
			w.Settle()
			if e := w.Events()[0]; e.Stored || !strings.HasPrefix(e.Why, "not kept: ") {
				t.Errorf("%s: stored %v, why %q", name, e.Stored, e.Why)
			}
		})
	}
}

func TestSTL05_TheLogSaysWhatStaleHides(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		down := errors.New("refused")
		w.Origin(minute, sim.Reply{Err: down})
		w.Get("/a")
		w.Advance(2 * time.Minute)
		w.Get("/a").Want(200, "page").WantField("Proxy-Status")
		if e := w.Events()[1]; !errors.Is(e.Fault, down) {
			t.Errorf("the log says %v", e.Fault)
		}
	})
}
