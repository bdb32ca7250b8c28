package engine_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/sim"
)

// The answer to a POST was made before another POST, and arrived after it.
func TestINV08_AnOlderPostDoesNotComeBack(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		fields := []string{"Cache-Control: max-age=60", "Content-Location: /x"}
		posts, version := 0, "v1"
		w.Handle(func(r *http.Request) sim.Reply {
			if r.Method == http.MethodGet {
				return sim.Reply{Header: fields, Body: version}
			}
			if posts++; posts == 1 {
				return sim.Reply{Header: fields, Body: "v2", Delay: time.Second}
			}
			version = "v3"
			return sim.Reply{Body: "done"}
		})
		slow := w.Start("POST", "/x", "a")
		w.Settle()
		w.Do("POST", "/x", "b").Want(200, "done")
		w.Get("/x").Want(200, "v3")
		slow.Wait()
		slow.Want(200, "v2")
		w.Get("/x").Want(200, "v3")
	})
}

// The prefix goes while its rest is on the way, and what is asked for instead
// is answered by a part that nobody asked for.
func TestRNG17_NoPartAfterThePrefixHasGone(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		part := func(span, tag, body string, delay time.Duration) sim.Reply {
			return sim.Reply{
				Status: 206, Delay: delay, Body: body,
				Header: []string{"Cache-Control: max-age=60", "ETag: " + tag, "Content-Range: bytes " + span + "/10"},
			}
		}
		first := true
		w.Handle(func(r *http.Request) sim.Reply {
			switch {
			case r.Method == http.MethodPost:
				return sim.Reply{Body: "ok"}
			case first:
				first = false
				return part("0-4", `"a"`, "01234", 0)
			case r.Header.Get("Range") == "bytes=5-":
				return part("5-9", `"a"`, "56789", time.Second)
			}
			return part("0-4", `"b"`, "wrong", 0)
		})
		w.Get("/x", "Range: bytes=0-4").Want(206, "01234")
		whole := w.Start("GET", "/x", "")
		w.Settle()
		w.Do("POST", "/x", "b").Want(200, "ok")
		whole.Wait()
		if whole.Status != http.StatusBadGateway || strings.Contains(whole.Body(), "wrong") {
			t.Errorf("status %d, body %q", whole.Status, whole.Body())
		}
	})
}

// A client's own fields go along with a validation. What they come to must not
// end what others use.
func TestCP10_OneClientsErrorLeavesTheEntry(t *testing.T) {
	for _, status := range []int{400, 408, 412, 413, 414, 416, 417, 421, 425, 426, 428, 429, 431} {
		sim.Run(t, func(w *sim.World) {
			w.Origin(minute, sim.Reply{Status: status, Body: "no"}, sim.Reply{Err: errors.New("down")})
			w.Get("/a").Want(200, "page")
			w.Advance(2 * time.Minute)
			w.Get("/a", "X-Large: "+strings.Repeat("x", 100), "Early-Data: 1").Want(status, "no") // or a 425 would be no answer
			w.Get("/a").Want(200, "page")
		})
	}
}

func TestREQ02_NoStoreOfOneClientLeavesTheEntry(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(minute, sim.Reply{Header: minute.Header, Body: "new"}, sim.Reply{Err: errors.New("down")})
		w.Get("/a").Want(200, "page")
		w.Advance(2 * time.Minute)
		w.Get("/a", "Cache-Control: no-store").Want(200, "new")
		w.Get("/a").Want(200, "page") // stale while the origin is down, as it would have been
	})
}

// If-Match is no condition that a 304 answers.
func TestCP11_UnaskedNotModifiedAfterIfMatch(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(sim.Reply{Status: 304})
		a := w.Get("/a", `If-Match: "1"`)
		if a.Status != http.StatusBadGateway {
			t.Errorf("status %d", a.Status)
		}
	})
}
