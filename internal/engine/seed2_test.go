package engine_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/sim"
)

// The walk-through of the second seed, sample by sample, with its samples put
// right: the lengths are those of the bodies, the dates have their weekdays,
// and the condition on Last-Modified is If-Modified-Since.
const (
	seed2Target   = "/foo/bar/fun.html"
	seed2Modified = "Sun, 14 Dec 2014 23:18:51 GMT"
	seed2OldTag   = `"1aa008f-2d-50a3559482cc0"`
	seed2NewTag   = `"1aa008f-2d-50aa00feadd"`
	seed2OldBody  = "<!DOCTYPE html><html><body>This is a fun file</body></html>"
	seed2NewBody  = "<!DOCTYPE html><html><body>This is NOT a fun file</body></html>"
	seed2Day      = 86400 * time.Second
	seed2Week     = 604800 * time.Second
)

var (
	seed2First = time.Date(2014, 12, 14, 23, 22, 44, 0, time.UTC)
	seed2Again = time.Date(2014, 12, 18, 3, 22, 44, 0, time.UTC)
)

// seed2Head is what the samples have in common.
func seed2Head(tag string, maxAge time.Duration) []string {
	return []string{
		"Date: " + sim.Date(0), "Server: Apache/2.2.15 (Red Hat)", "Last-Modified: " + seed2Modified, "ETag: " + tag,
		"Cache-Control: max-age=" + strconv.Itoa(int(maxAge/time.Second)), "Connection: close",
	}
}

func seed2Reply(tag string, maxAge time.Duration, body string) sim.Reply {
	return sim.Reply{Header: append(seed2Head(tag, maxAge), "Content-Type: text/html; charset=UTF-8"), Body: body}
}

// seed2Store plays sample 3, and lets time go on until sample 4 is due.
func seed2Store(w *sim.World) {
	w.Advance(time.Until(seed2First))
	w.Origin(seed2Reply(seed2OldTag, seed2Day, seed2OldBody))
	w.Get(seed2Target, "Host: www.origin.com").Want(200, seed2OldBody).WantMiss("uri-miss").WantField("Connection")
	w.Advance(seed2Day - time.Second)
	w.Get(seed2Target, "Host: www.origin.com").Want(200, seed2OldBody).WantHit().WantField("Age", "86399").
		WantField("Content-Length", strconv.Itoa(len(seed2OldBody)))
	w.WantCount(1)
	w.Advance(time.Until(seed2Again))
}

// seed2Asked is sample 4.
func seed2Asked(t *testing.T, w *sim.World, tag string) {
	t.Helper()
	h := w.Last().Header
	if w.Last().Host != "www.origin.com" || w.Last().Target != seed2Target ||
		h.Get("If-None-Match") != tag || len(h["If-None-Match"]) != 1 || h.Get("If-Modified-Since") != seed2Modified {
		t.Errorf("the origin was asked for %s at %s with %v", w.Last().Target, w.Last().Host, h)
	}
}

func TestSeed2_ModifiedContentTakesThePlaceOfTheOld(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		seed2Store(w)
		w.Origin(seed2Reply(seed2NewTag, seed2Week, seed2NewBody)) // sample 5
		// The client has the old page: the new tag outweighs the old date.
		w.Get(seed2Target, "Host: www.origin.com", "If-None-Match: "+seed2OldTag, "If-Modified-Since: "+seed2Modified).
			Want(200, seed2NewBody).WantMiss("stale").WantField("ETag", seed2NewTag)
		seed2Asked(t, w, seed2OldTag)
		w.Advance(seed2Week - time.Second)
		w.Get(seed2Target, "Host: www.origin.com").Want(200, seed2NewBody).WantHit().WantField("Age", "604799")
		w.WantCount(2)
		w.Advance(time.Second)
		w.Get(seed2Target, "Host: www.origin.com").WantMiss("stale")
		seed2Asked(t, w, seed2NewTag)
	})
}

func TestSeed2_UnmodifiedContentGetsTheNewLifetime(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		seed2Store(w)
		w.Origin(sim.Reply{Status: 304, Header: seed2Head(seed2OldTag, seed2Week)}) // sample 6
		w.Get(seed2Target, "Host: www.origin.com").Want(200, seed2OldBody).WantMiss("stale").WantField("Age").
			WantField("Content-Type", "text/html; charset=UTF-8").WantField("Cache-Control", "max-age=604800").WantField("Connection")
		seed2Asked(t, w, seed2OldTag)
		w.Advance(seed2Day) // the old lifetime is over for the second time
		w.Get(seed2Target, "Host: www.origin.com").Want(200, seed2OldBody).WantHit().WantField("Age", "86400")
		w.Advance(seed2Week - seed2Day - time.Second)
		w.Get(seed2Target, "Host: www.origin.com").Want(200, seed2OldBody).WantHit().WantField("Cache-Control", "max-age=604800")
		w.WantCount(2)
		w.Advance(time.Second)
		w.Get(seed2Target, "Host: www.origin.com").WantMiss("stale")
		w.WantCount(3)
	})
}

// Sample 5 sent as a 304: Last-Modified alone would let the old page pass for
// the new one.
func TestSeed2_ANewTagUnderTheSameDateIsFetchedAnew(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		seed2Store(w)
		w.Origin(
			sim.Reply{Status: 304, Header: seed2Head(seed2NewTag, seed2Week)},
			seed2Reply(seed2NewTag, seed2Week, seed2NewBody))
		w.Get(seed2Target, "Host: www.origin.com").Want(200, seed2NewBody).WantField("ETag", seed2NewTag)
		w.WantCount(3)
		if h := w.Last().Header; h["If-None-Match"] != nil || h["If-Modified-Since"] != nil {
			t.Errorf("asked once more with conditions: %v", h)
		}
		w.Get(seed2Target, "Host: www.origin.com").Want(200, seed2NewBody).WantHit()
	})
}
