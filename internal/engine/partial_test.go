package engine_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/rules"
	"github.com/larderhq/larder/internal/sim"
)

// bytesRange is the line that asks for a range.
func bytesRange(spec string) string { return "Range: bytes=" + spec }

// fetched asks for a range and waits until what came of it is kept.
func fetched(w *sim.World, spec string, header ...string) *sim.Answer {
	a := w.Get("/a", append([]string{bytesRange(spec)}, header...)...)
	w.Settle()
	return a
}

func TestRNG18_APartIsKeptAndServed(t *testing.T) {
	for _, total := range []string{"10", "*"} {
		sim.Run(t, func(w *sim.World) {
			w.Origin(sim.Reply{Status: 206, Header: []string{"Cache-Control: max-age=60", "Content-Range: bytes 2-6/" + total, "X-Other: y"}, Body: "23456"})
			wantPart(t, fetched(w, "2-6").WantMiss("uri-miss"), "23456", 2, 6, total)
			w.Advance(30 * time.Second)
			a := fetched(w, "3-4").WantHit()
			wantPart(t, a, "34", 3, 4, total)
			a.WantField("X-Other", "y").WantField("Age", "30").WantField("Date", sim.Date(-30*time.Second))
			wantPart(t, fetched(w, "2-6").WantHit(), "23456", 2, 6, total)
			w.WantCount(1)
		})
	}
}

func TestRNG18_WhatIsNoSoundPartIsNotKept(t *testing.T) {
	fresh := []string{"Cache-Control: max-age=60", `ETag: "1"`}
	for name, reply := range map[string]sim.Reply{
		"no Content-Range":   {Header: fresh},
		"two of them":        {Header: append([]string{"Content-Range: bytes 2-4/10", "Content-Range: bytes 2-4/10"}, fresh...)},
		"other unit":         {Header: append([]string{"Content-Range: lines 2-4/10"}, fresh...)},
		"nonsense":           {Header: append([]string{"Content-Range: bytes 2-4"}, fresh...)},
		"no range in it":     {Header: append([]string{"Content-Range: bytes */10"}, fresh...)},
		"no-store":           {Header: []string{"Cache-Control: no-store", `ETag: "1"`, "Content-Range: bytes 2-4/10"}},
		"private":            {Header: []string{"Cache-Control: private, max-age=60", `ETag: "1"`, "Content-Range: bytes 2-4/10"}},
		"no freshness":       {Header: []string{"Content-Range: bytes 2-4/10"}},
		"end before start":   {Header: append([]string{"Content-Range: bytes 4-2/10"}, fresh...)}, // RNG-19
		"total is the end":   {Header: append([]string{"Content-Range: bytes 2-4/4"}, fresh...)},
		"total before start": {Header: append([]string{"Content-Range: bytes 2-4/1"}, fresh...)},
		"too many octets":    {Header: append([]string{"Content-Range: bytes 2-3/10"}, fresh...)}, // RNG-20
		"too few octets":     {Header: append([]string{"Content-Range: bytes 2-5/10"}, fresh...)},
		"too many, chunked":  {Header: append([]string{"Content-Range: bytes 2-3/10"}, fresh...), Length: -1},
		"too few, chunked":   {Header: append([]string{"Content-Range: bytes 2-5/10"}, fresh...), Length: -1},
	} {
		t.Run(name, func(t *testing.T) {
			sim.Run(t, func(w *sim.World) {
				reply.Status, reply.Body = 206, "234"
				w.Origin(reply)
				for n := range 2 {
					a := fetched(w, "2-4").Want(206, "234").WantMiss("uri-miss") // passed on as it came
					if got := a.Header["Content-Range"]; len(got) == 0 && name != "no Content-Range" {
						t.Errorf("Content-Range %q", got)
					}
					w.WantCount(n + 1)
				}
				// It is no beginning, and no part of a whole either.
				w.Handle(tenDigits.serve)
				w.Get("/a").Want(200, digits).WantMiss("uri-miss")
				if got := w.Last().Header["Range"]; got != nil {
					t.Errorf("the origin saw Range %q", got)
				}
			})
		})
	}
}

// What contradicts itself is not joined with what is kept.
func TestRNG19_ContradictionsAreNotJoined(t *testing.T) {
	for _, second := range []string{"bytes 5-3/10", "bytes 4-6/5", "bytes 4-7/10", "bytes 4-6/9999999999999999999999"} {
		sim.Run(t, func(w *sim.World) {
			w.Origin(part(0, 3, `ETag: "1"`), sim.Reply{Status: 206, Header: []string{"Cache-Control: max-age=60", `ETag: "1"`, "Content-Range: " + second}, Body: "456"})
			fetched(w, "0-3")
			fetched(w, "4-6").Want(206, "456").WantField("Content-Range", second)
			w.Handle(tenDigits.serve)
			wantPart(t, fetched(w, "0-3").WantHit(), "0123", 0, 3, "10")
			wantPart(t, fetched(w, "2-5"), "2345", 2, 5, "10")
		})
	}
}

func TestRNG20_ToleranceTrustsStartAndOctets(t *testing.T) {
	sim.RunWith(t, func(c *engine.Config) { c.Terms.PartTolerance = true }, func(w *sim.World) {
		w.Origin(sim.Reply{Status: 206, Header: []string{"Cache-Control: max-age=60", "Content-Range: bytes 4-9/10"}, Body: "01234"})
		w.Get("/a", "Range: bytes=-5").Want(206, "01234")
		w.Settle()
		wantPart(t, w.Get("/a", "Range: bytes=6-8").WantHit(), "234", 6, 8, "9")
		wantPart(t, w.Get("/a", "Range: bytes=-1").WantHit(), "4", 8, 8, "9")
		w.WantCount(1)
	})
}

func TestRNG21_APartAnswersWhatLiesWithin(t *testing.T) {
	for _, c := range []struct {
		first, last int
		total       string
		within      map[string]string // range to octets
		without     []string
	}{
		{2, 6, "10", map[string]string{"2-6": "23456", "2-2": "2", "6-6": "6", "-8,": ""}, []string{"1-3", "5-7", "0-9", "7-9", "2-", "6-", "-4", "-8", "3-99", "2-3,5-6", "0-0", "x", "6-2"}},
		{4, 9, "10", map[string]string{"4-9": "456789", "4-": "456789", "7-": "789", "-1": "9", "-6": "456789", "5-99": "56789", "9-9": "9"}, []string{"3-", "-7", "-11", "0-", "3-5", "4-5,7-8"}},
		{4, 9, "*", map[string]string{"4-9": "456789", "5-6": "56"}, []string{"4-", "9-", "-1", "-6", "4-10", "9-10"}},
		{0, 4, "*", map[string]string{"0-4": "01234", "0-0": "0"}, []string{"0-", "-5", "-1", "0-5", "5-"}},
	} {
		for _, etag := range []string{`ETag: "1"`, `ETag: W/"1"`, "X-No: validator"} {
			sim.Run(t, func(w *sim.World) {
				w.Origin(
					sim.Reply{Status: 206, Header: []string{"Cache-Control: max-age=60", etag, fmt.Sprintf("Content-Range: bytes %d-%d/%s", c.first, c.last, c.total)}, Body: digits[c.first : c.last+1]},
					sim.Reply{Status: 206, Header: []string{"Content-Range: bytes 0-0/1", "Cache-Control: no-store"}, Body: "o"},
				)
				fetched(w, fmt.Sprintf("%d-%d", c.first, c.last))
				for spec, body := range c.within {
					if body == "" {
						continue
					}
					at := strings.Index(digits, body)
					wantPart(t, w.Get("/a", bytesRange(spec)).WantHit(), body, at, at+len(body)-1, c.total)
				}
				w.WantCount(1)
				for i, spec := range c.without {
					w.Get("/a", bytesRange(spec)).Want(206, "o")
					w.WantCount(2 + i)
					if got := w.Last().Header.Get("Range"); got != "bytes="+spec {
						t.Errorf("the origin saw Range %q", got)
					}
				}
			})
		}
	}
}

func TestRNG11_IfRangeAgainstAStoredPart(t *testing.T) {
	for _, c := range []struct {
		validator, ifRange string
		part               bool
	}{
		{`ETag: "1"`, `"1"`, true},
		{`ETag: "1"`, `"2"`, false},
		{`ETag: "1"`, `W/"1"`, false},
		{`ETag: W/"1"`, `W/"1"`, false},
		{modified, "Tue, 15 Nov 1994 12:45:26 GMT", true},
		{modified, "Tue, 15 Nov 1994 12:45:27 GMT", false},
	} {
		sim.Run(t, func(w *sim.World) {
			w.Origin(part(2, 6, c.validator), sim.Reply{Header: []string{"Cache-Control: max-age=60", c.validator}, Body: digits})
			fetched(w, "2-6")
			a := fetched(w, "3-4", "If-Range: "+c.ifRange)
			if c.part {
				wantPart(t, a.WantHit(), "34", 3, 4, "10")
				w.WantCount(1)
				return
			}
			a.Want(200, digits)
			w.WantCount(2)
			if got := w.Last().Header; got.Get("Range") != "bytes=3-4" || got.Get("If-Range") != c.ifRange {
				t.Errorf("the origin saw %v", got)
			}
		})
	}
}

// A validation that moves Last-Modified takes the ground from an If-Range with
// the old date: the part is not the answer any more.
func TestRNG12_ValidationMovesTheDateOfIfRange(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(part(2, 6, `ETag: "1"`, modified),
			sim.Reply{Status: 304, Header: []string{`ETag: "1"`, "Last-Modified: Wed, 16 Nov 1994 12:45:26 GMT", "Cache-Control: max-age=60"}},
			sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "1"`, "Last-Modified: Wed, 16 Nov 1994 12:45:26 GMT"}, Body: digits})
		fetched(w, "2-6")
		w.Advance(time.Hour)
		fetched(w, "3-4", "If-Range: Tue, 15 Nov 1994 12:45:26 GMT").Want(200, digits)
	})
}

func TestRNG22_APartNeverAnswersForTheWhole(t *testing.T) {
	for name, reply := range map[string]sim.Reply{
		"middle": part(2, 6, `ETag: "1"`), "prefix": part(0, 6, `ETag: "1"`), "suffix": part(6, 9, `ETag: "1"`), "prefix without validator": part(0, 6),
	} {
		for _, method := range []string{"GET", "HEAD"} {
			t.Run(name+" "+method, func(t *testing.T) {
				sim.Run(t, func(w *sim.World) {
					w.Origin(reply)
					fetched(w, "x")
					w.Handle(tenDigits.serve)
					a := w.Do(method, "/a", "")
					body := digits
					if method == "HEAD" {
						body = ""
					}
					a.Want(200, body).WantField("Content-Range")
				})
			})
		}
		t.Run(name+" dead origin", func(t *testing.T) {
			sim.Run(t, func(w *sim.World) {
				w.Origin(reply, sim.Reply{Err: io.ErrUnexpectedEOF})
				fetched(w, "x")
				w.Advance(2 * time.Minute)
				if a := w.Get("/a"); a.Status < 500 {
					t.Errorf("status %d, body %q", a.Status, a.Body())
				}
			})
		})
		t.Run(name+" only-if-cached", func(t *testing.T) {
			sim.Run(t, func(w *sim.World) {
				w.Origin(reply)
				fetched(w, "x")
				if a := w.Get("/a", "Cache-Control: only-if-cached"); a.Status != 504 {
					t.Errorf("status %d, body %q", a.Status, a.Body())
				}
				w.WantCount(1)
			})
		})
	}
}

func TestRNG22_StalePartIsValidated(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(part(2, 6, `ETag: "1"`), sim.Reply{Status: 304, Header: []string{"Cache-Control: max-age=60", `ETag: "1"`, "X-New: y", "Content-Range: bytes 0-0/1"}})
		fetched(w, "2-6")
		w.Advance(time.Hour)
		a := fetched(w, "3-4").WantMiss("stale").WantField("X-New", "y")
		wantPart(t, a, "34", 3, 4, "10")
		if got := w.Last().Header; got.Get("Range") != "" || got.Get("If-None-Match") != `"1"` {
			t.Errorf("the validation was %v", got)
		}
		wantPart(t, fetched(w, "2-6").WantHit(), "23456", 2, 6, "10")
		w.WantCount(2)
	})
	sim.Run(t, func(w *sim.World) { // it has changed: the whole comes, and is cut
		w.Origin(part(2, 6, `ETag: "1"`), sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "2"`}, Body: "ABCDEFG"})
		fetched(w, "2-6")
		w.Advance(time.Hour)
		wantPart(t, fetched(w, "3-4"), "DE", 3, 4, "7")
		w.Get("/a").Want(200, "ABCDEFG").WantHit()
		w.WantCount(2)
	})
	sim.Run(t, func(w *sim.World) { // the origin is dead, the part stands in
		w.Origin(part(2, 6, `ETag: "1"`), sim.Reply{Err: io.ErrUnexpectedEOF})
		fetched(w, "2-6")
		w.Advance(time.Hour)
		wantPart(t, fetched(w, "3-4").WantField("Age", "3600"), "34", 3, 4, "10")
	})
}

// parts lets the origin give these parts of digits, one after the other, and
// asks for each of them.
func parts(w *sim.World, replies ...sim.Reply) {
	for _, r := range replies {
		w.Origin(r)
		w.Get("/a", "Range: bytes=any") // the origin does as it likes
		w.Settle()
	}
}

func TestRNG23_PartsAreJoinedUnderOneStrongTag(t *testing.T) {
	const tag = `ETag: "1"`
	for name, c := range map[string]struct {
		parts    []sim.Reply
		spec     string
		within   bool
		first    int
		lastPart int
	}{
		"side by side":      {[]sim.Reply{part(2, 4, tag), part(5, 7, tag)}, "3-6", true, 3, 6},
		"other order":       {[]sim.Reply{part(5, 7, tag), part(2, 4, tag)}, "2-7", true, 2, 7},
		"overlapping":       {[]sim.Reply{part(2, 5, tag), part(4, 7, tag)}, "2-7", true, 2, 7},
		"one in another":    {[]sim.Reply{part(2, 8, tag), part(4, 6, tag)}, "2-8", true, 2, 8},
		"other in one":      {[]sim.Reply{part(4, 6, tag), part(2, 8, tag)}, "2-8", true, 2, 8},
		"same twice":        {[]sim.Reply{part(2, 8, tag), part(2, 8, tag)}, "2-8", true, 2, 8},
		"gap":               {[]sim.Reply{part(2, 3, tag), part(5, 7, tag)}, "2-7", false, 2, 7},
		"gap is filled":     {[]sim.Reply{part(2, 3, tag), part(6, 8, tag), part(4, 5, tag)}, "2-8", true, 2, 8},
		"bridge":            {[]sim.Reply{part(1, 3, tag), part(6, 8, tag), part(2, 7, tag)}, "1-8", true, 1, 8},
		"four":              {[]sim.Reply{part(1, 2, tag), part(5, 6, tag), part(7, 8, tag), part(3, 4, tag)}, "1-8", true, 1, 8},
		"weak":              {[]sim.Reply{part(2, 4, `ETag: W/"1"`), part(5, 7, `ETag: W/"1"`)}, "3-6", false, 3, 6},
		"weak and strong":   {[]sim.Reply{part(2, 4, `ETag: W/"1"`), part(5, 7, tag)}, "3-6", false, 3, 6},
		"strong and weak":   {[]sim.Reply{part(2, 4, tag), part(5, 7, `ETag: W/"1"`)}, "3-6", false, 3, 6},
		"none":              {[]sim.Reply{part(2, 4), part(5, 7)}, "3-6", false, 3, 6},
		"only a date":       {[]sim.Reply{part(2, 4, modified), part(5, 7, modified)}, "3-6", false, 3, 6},
		"other tag":         {[]sim.Reply{part(2, 4, tag), part(5, 7, `ETag: "2"`)}, "3-6", false, 3, 6},
		"malformed tag":     {[]sim.Reply{part(2, 4, "ETag: 1"), part(5, 7, "ETag: 1")}, "3-6", false, 3, 6},
		"other coding":      {[]sim.Reply{part(2, 4, tag), part(5, 7, tag, "Content-Encoding: gzip")}, "3-6", false, 3, 6}, // RNG-14
		"coding has ended":  {[]sim.Reply{part(2, 4, tag, "Content-Encoding: gzip"), part(5, 7, tag)}, "3-6", false, 3, 6},
		"same coding":       {[]sim.Reply{part(2, 4, tag, "Content-Encoding: gzip"), part(5, 7, tag, "Content-Encoding: gzip")}, "3-6", true, 3, 6},
		"other length":      {[]sim.Reply{part(2, 4, tag), {Status: 206, Header: []string{"Cache-Control: max-age=60", tag, "Content-Range: bytes 5-7/11"}, Body: "567"}}, "3-6", false, 3, 6},
		"length too short":  {[]sim.Reply{{Status: 206, Header: []string{"Cache-Control: max-age=60", tag, "Content-Range: bytes 2-4/*"}, Body: "234"}, {Status: 206, Header: []string{"Cache-Control: max-age=60", tag, "Content-Range: bytes 0-1/3"}, Body: "01"}}, "1-3", false, 1, 3},
		"length is unknown": {[]sim.Reply{{Status: 206, Header: []string{"Cache-Control: max-age=60", tag, "Content-Range: bytes 2-4/*"}, Body: "234"}, part(5, 7, tag)}, "3-6", true, 3, 6},
	} {
		t.Run(name, func(t *testing.T) {
			sim.Run(t, func(w *sim.World) {
				parts(w, c.parts...)
				w.WantCount(len(c.parts))
				w.Handle(tenDigits.serve)
				a := fetched(w, c.spec)
				wantPart(t, a, digits[c.first:c.lastPart+1], c.first, c.lastPart, "10")
				if a.Hit() != c.within {
					t.Errorf("Cache-Status %q", a.CacheStatus())
				}
			})
		})
	}
}

// Parts of different variants stay apart, whatever their tags.
func TestRNG14_PartsOfVariantsAreNotJoined(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		vary := []string{"Vary: Accept-Encoding", `ETag: "1"`}
		w.Origin(part(0, 4, vary...))
		fetched(w, "0-4")
		coded := part(5, 9, append(vary, "Content-Encoding: gzip")...)
		coded.Body = "coded"
		w.Origin(coded)
		fetched(w, "5-9", "Accept-Encoding: gzip")
		w.Handle(func(r *http.Request) sim.Reply { return sim.Reply{Status: 416} })
		fetched(w, "4-5").Want(416, "")
		fetched(w, "4-5", "Accept-Encoding: gzip").Want(416, "")
		wantPart(t, fetched(w, "5-9", "Accept-Encoding: gzip").WantHit(), "coded", 5, 9, "10")
		wantPart(t, fetched(w, "0-4").WantHit(), "01234", 0, 4, "10")
	})
}

func TestRNG24_FieldsOfTheNewerPartWin(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		parts(w, part(5, 9, `ETag: "1"`, "X-Both: old", "X-Old: old", "Age: 7", "Expires: Sat, 01 Jan 2000 00:00:30 GMT"))
		w.Advance(10 * time.Second)
		w.Origin(sim.Reply{Status: 206, Header: []string{"Cache-Control: max-age=100", `ETag: "1"`, "X-Both: new", "X-New: new", "Content-Range: bytes 3-4/10"}, Body: "34"})
		fetched(w, "3-4")
		w.Advance(5 * time.Second)
		a := fetched(w, "4-5").WantHit()
		wantPart(t, a, "45", 4, 5, "10")
		a.WantField("X-Both", "new").WantField("X-Old", "old").WantField("X-New", "new").WantField("Cache-Control", "max-age=100").
			WantField("Age", "5").WantField("Date", sim.Date(-5*time.Second))
		w.Advance(94 * time.Second)
		fetched(w, "4-5").WantHit()
		w.Advance(time.Second)
		w.Origin(sim.Reply{Status: 304})
		fetched(w, "4-5").WantMiss("stale")
	})
}

func TestRNG25_AllPartsMakeA200(t *testing.T) {
	const tag = `ETag: "1"`
	for name, replies := range map[string][]sim.Reply{
		"two":         {part(0, 4, tag), part(5, 9, tag)},
		"backwards":   {part(6, 9, tag), part(3, 5, tag), part(0, 2, tag)},
		"overlapping": {part(0, 6, tag), part(4, 9, tag)},
		"one":         {part(0, 9, tag)},
		"one of weak": {part(0, 9, `ETag: W/"1"`)},
		"last tells the length": {
			{Status: 206, Header: []string{"Cache-Control: max-age=60", tag, "Content-Range: bytes 0-4/*"}, Body: "01234"},
			part(5, 9, tag),
		},
	} {
		t.Run(name, func(t *testing.T) {
			sim.Run(t, func(w *sim.World) {
				parts(w, replies...)
				w.Get("/a").Want(200, digits).WantHit().WantField("Content-Length", "10").WantField("Content-Range")
				w.Do("HEAD", "/a", "").Want(200, "").WantHit().WantField("Content-Length", "10").WantField("Content-Range")
				wantPart(t, fetched(w, "-3").WantHit(), "789", 7, 9, "10")
				wantPieces(t, fetched(w, "0-0,9-9").WantHit(), piece{"", "bytes 0-0/10", "0"}, piece{"", "bytes 9-9/10", "9"})
				w.WantCount(len(replies))
				// It is validated like any other.
				w.Advance(time.Hour)
				w.Origin(sim.Reply{Status: 304})
				w.Get("/a").Want(200, digits).WantMiss("stale")
			})
		})
	}
}

// A response that was cut short of fields because of If-Range cannot stand for
// a 200.
func TestRNG25_AnswerToIfRangeIsNo200(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(part(0, 9, `ETag: "1"`))
		fetched(w, "0-", `If-Range: "1"`)
		w.Handle(tenDigits.serve)
		w.Get("/a").Want(200, digits).WantField("Content-Type", "text/plain")
	})
}

// whole26 is what a request for the whole comes to with 0-3 stored under
// validator, and the origin answering script to it.
func whole26(t *testing.T, validator string, script []sim.Reply, check func(w *sim.World, a *sim.Answer)) {
	t.Helper()
	sim.Run(t, func(w *sim.World) {
		w.Origin(part(0, 3, validator, "X-Old: old", "Age: 7", "X-Both: old"))
		fetched(w, "0-3")
		w.Advance(5 * time.Second)
		w.Origin(script...)
		a := w.Get("/a")
		w.Settle()
		check(w, a)
	})
}

func TestRNG26_RestIsAskedForAndJoined(t *testing.T) {
	rest := part(4, 9, `ETag: "1"`, "X-Both: new")
	whole26(t, `ETag: "1"`, []sim.Reply{rest}, func(w *sim.World, a *sim.Answer) {
		w.WantCount(2)
		if got := w.Last().Header; got.Get("Range") != "bytes=4-" || got.Get("If-Range") != `"1"` || got.Get("If-None-Match") != "" {
			t.Errorf("the origin saw %v", got)
		}
		for _, a := range []*sim.Answer{a.WantMiss("partial"), w.Get("/a").WantHit()} {
			a.Want(200, digits).WantField("Content-Range").WantField("Content-Length", "10").WantField("X-Both", "new").WantField("X-Old", "old")
		}
		a.WantField("Age")
		w.WantCount(2)
	})
}

// The client's own fields do not go along; they are judged afterwards.
func TestRNG26_ConditionsOfTheClientStayHere(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		parts(w, part(0, 3, `ETag: "1"`))
		w.Origin(part(4, 9, `ETag: "1"`))
		w.Get("/a", `If-None-Match: "0"`, `If-Range: "0"`).Want(200, digits).WantMiss("partial")
		if got := w.Last().Header; got.Get("Range") != "bytes=4-" || got.Get("If-Range") != `"1"` || got.Get("If-None-Match") != "" {
			t.Errorf("the origin saw %v", got)
		}
	})
}

func TestRNG26_OtherAnswersToTheRest(t *testing.T) {
	fresh := sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "2"`}, Body: "changed"}
	for name, c := range map[string]struct {
		validator string
		script    []sim.Reply
		requests  int
	}{
		"200 is used":         {`ETag: "1"`, []sim.Reply{fresh}, 2},
		"200, no strong tag":  {`ETag: W/"1"`, []sim.Reply{fresh}, 2},
		"200, no validator":   {"X-No: validator", []sim.Reply{fresh}, 2},
		"206 of another tag":  {`ETag: "1"`, []sim.Reply{part(4, 9, `ETag: "2"`), fresh}, 3},
		"206 without a tag":   {`ETag: "1"`, []sim.Reply{part(4, 9), fresh}, 3},
		"206 of a weak tag":   {`ETag: "1"`, []sim.Reply{part(4, 9, `ETag: W/"1"`), fresh}, 3},
		"206 for a weak one":  {`ETag: W/"1"`, []sim.Reply{part(4, 9, `ETag: W/"1"`), fresh}, 3},
		"206 for no tag":      {"X-No: validator", []sim.Reply{part(4, 9), fresh}, 3},
		"206 not to the end":  {`ETag: "1"`, []sim.Reply{part(4, 8, `ETag: "1"`), fresh}, 3},
		"206 that overlaps":   {`ETag: "1"`, []sim.Reply{part(3, 9, `ETag: "1"`), fresh}, 3},
		"206 from elsewhere":  {`ETag: "1"`, []sim.Reply{part(5, 9, `ETag: "1"`), fresh}, 3},
		"206 without a range": {`ETag: "1"`, []sim.Reply{{Status: 206, Header: []string{`ETag: "1"`}, Body: "456789"}, fresh}, 3},
		"206 of other length": {`ETag: "1"`, []sim.Reply{{Status: 206, Header: []string{`ETag: "1"`, "Content-Range: bytes 4-6/7"}, Body: "456"}, fresh}, 3},
		"206 otherwise coded": {`ETag: "1"`, []sim.Reply{part(4, 9, `ETag: "1"`, "Content-Encoding: gzip"), fresh}, 3},
		"416":                 {`ETag: "1"`, []sim.Reply{{Status: 416, Header: []string{"Content-Range: bytes */4"}}, fresh}, 3},
		"304":                 {`ETag: "1"`, []sim.Reply{{Status: 304}, fresh}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			whole26(t, c.validator, c.script, func(w *sim.World, a *sim.Answer) {
				a.Want(200, "changed").WantField("Content-Range").WantField("ETag", `"2"`).WantField("X-Old")
				w.WantCount(c.requests)
				guard := "" // only a strong tag can be one
				if c.validator == `ETag: "1"` {
					guard = `"1"`
				}
				if r := w.Seen()[1]; r.Header.Get("Range") != "bytes=4-" || r.Header.Get("If-Range") != guard {
					t.Errorf("the origin saw %v", r.Header)
				}
				if got := w.Last().Header; c.requests == 3 && (got.Get("Range") != "" || got.Get("If-Range") != "") {
					t.Errorf("the full fetch was %v", got)
				}
				w.Get("/a").Want(200, "changed").WantHit()
				wantPart(t, fetched(w, "0-3").WantHit(), "chan", 0, 3, "7")
			})
		})
	}
}

// A 200 that may not be kept ends what it replaces, so that one client does not
// see the old and the new in turns.
func TestRNG26_OutdatedPrefixEnds(t *testing.T) {
	private := sim.Reply{Header: []string{"Cache-Control: no-store", `ETag: "2"`}, Body: "changed"}
	for name, script := range map[string][]sim.Reply{"at once": {private}, "after a 206": {part(4, 9, `ETag: "2"`), private}} {
		t.Run(name, func(t *testing.T) {
			whole26(t, `ETag: "1"`, script, func(w *sim.World, a *sim.Answer) {
				a.Want(200, "changed")
				w.Origin(sim.Reply{Status: 206, Header: []string{"Content-Range: bytes 0-3/7"}, Body: "chan"})
				wantPart(t, fetched(w, "0-3").WantMiss("uri-miss"), "chan", 0, 3, "7")
			})
		})
	}
}

// A rest that forbids keeping is delivered with the prefix, and nothing of it
// is kept.
func TestRNG26_RestThatMayNotBeKept(t *testing.T) {
	for _, forbids := range []string{"no-store", "private"} {
		rest := part(4, 9, `ETag: "1"`)
		rest.Header[0] = "Cache-Control: " + forbids
		whole26(t, `ETag: "1"`, []sim.Reply{rest}, func(w *sim.World, a *sim.Answer) {
			a.Want(200, digits).WantField("Content-Length", "10").WantField("Content-Range").WantField("Cache-Control", forbids)
			w.Handle(tenDigits.serve)
			w.Get("/a").Want(200, digits).WantMiss("uri-miss")
		})
	}
}

func TestRNG26_FailureOfTheRestIsDelivered(t *testing.T) {
	whole26(t, `ETag: "1"`, []sim.Reply{{Status: 503, Body: "busy"}}, func(w *sim.World, a *sim.Answer) {
		a.Want(503, "busy")
		wantPart(t, fetched(w, "0-3").WantHit(), "0123", 0, 3, "10")
	})
	whole26(t, `ETag: "1"`, []sim.Reply{{Err: io.ErrUnexpectedEOF}}, func(w *sim.World, a *sim.Answer) {
		if a.Status < 500 {
			t.Errorf("status %d, body %q", a.Status, a.Body())
		}
	})
	short := part(4, 9, `ETag: "1"`)
	short.Body, short.Length, short.BodyErr = "4567", 6, io.ErrUnexpectedEOF
	whole26(t, `ETag: "1"`, []sim.Reply{short}, func(w *sim.World, a *sim.Answer) {
		if !a.Aborted || a.Body() != "01234567" {
			t.Errorf("aborted %v, body %q", a.Aborted, a.Body())
		}
		w.Handle(tenDigits.serve)
		w.Get("/a").Want(200, digits).WantMiss("partial")
	})
}

// Those who ask while the rest is under way share it, ranges of it too.
func TestRNG26_RestIsSharedWhileItComes(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		parts(w, part(0, 3, `ETag: "1"`))
		r, pipe := io.Pipe()
		rest := part(4, 9, `ETag: "1"`)
		rest.Stream, rest.Length = r, 6
		w.Origin(rest)
		leader := w.Start("GET", "/a", "")
		w.Settle()
		second := w.Start("GET", "/a", "")
		middle := w.Start("GET", "/a", "", "Range: bytes=2-5")
		within := w.Start("GET", "/a", "", "Range: bytes=0-3")
		w.Settle()
		if leader.Body() != "0123" || !within.Done() {
			t.Errorf("the prefix waits for the rest: %q, %v", leader.Body(), within.Done())
		}
		wantPart(t, within.WantHit(), "0123", 0, 3, "10")
		io.WriteString(pipe, "456789")
		pipe.Close()
		for _, a := range []*sim.Answer{leader, second, middle} {
			a.Wait()
		}
		leader.Want(200, digits)
		second.Want(200, digits)
		if middle.Status == 206 {
			wantPart(t, middle, "2345", 2, 5, "10")
		} else {
			t.Errorf("status %d", middle.Status)
		}
		w.Get("/a").Want(200, digits).WantHit()
	})
}

func TestRNG27_PartsThatDifferAreAllDiscarded(t *testing.T) {
	const tag = `ETag: "1"`
	other := func(first, last int, body string) sim.Reply {
		r := part(first, last, tag)
		r.Body = body
		return r
	}
	for name, replies := range map[string][]sim.Reply{
		"overlap":       {part(0, 5, tag), other(3, 7, "34X67")},
		"last octet":    {part(0, 5, tag), other(5, 7, "X67")},
		"other order":   {other(3, 7, "3456X"), part(7, 9, tag)},
		"same span":     {part(2, 5, tag), other(2, 5, "234X")},
		"within":        {part(0, 8, tag), other(3, 5, "3X5")},
		"around":        {other(3, 5, "3X5"), part(0, 8, tag)},
		"would be all":  {part(0, 5, tag), other(5, 9, "X6789")},
		"third differs": {part(0, 3, tag), other(6, 8, "X78"), part(3, 6, tag)},
	} {
		t.Run(name, func(t *testing.T) {
			sim.Run(t, func(w *sim.World) {
				parts(w, replies...)
				w.Handle(func(*http.Request) sim.Reply { return sim.Reply{Status: 416} })
				for first := range 10 {
					fetched(w, fmt.Sprintf("%d-%d", first, first)).Want(416, "")
				}
				w.Get("/a").Want(416, "")
				if got := w.Last().Header["Range"]; got != nil {
					t.Errorf("Range %q", got)
				}
			})
		})
	}
}

// Larger than one buffer, so that octets are compared to the end.
func TestRNG27_LargeOverlap(t *testing.T) {
	const size, cut, overlap = 300_000, 100_000, 90_000
	body := make([]byte, size)
	for i := range body {
		body[i] = byte(i * i >> 7)
	}
	for _, wrong := range []int{-1, cut - overlap, cut - overlap/2, cut - 1} {
		second := append([]byte(nil), body[cut-overlap:]...)
		if wrong >= 0 {
			second[wrong-(cut-overlap)] ^= 1
		}
		sim.Run(t, func(w *sim.World) {
			header := []string{"Cache-Control: max-age=60", `ETag: "1"`}
			parts(w,
				sim.Reply{Status: 206, Header: append([]string{fmt.Sprintf("Content-Range: bytes 0-%d/%d", cut-1, size)}, header...), Body: string(body[:cut])},
				sim.Reply{Status: 206, Header: append([]string{fmt.Sprintf("Content-Range: bytes %d-%d/%d", cut-overlap, size-1, size)}, header...), Body: string(second)},
			)
			w.Origin(sim.Reply{Body: "from the origin"})
			a := w.Get("/a")
			if wrong < 0 {
				a.WantHit().Want(200, string(body))
			} else {
				a.Want(200, "from the origin")
			}
		})
	}
}

// The representation changes between two parts: the older part goes, and is
// never mixed with the newer.
func TestRNG23_ChangeBetweenTwoParts(t *testing.T) {
	for _, tags := range [][2]string{{`ETag: "1"`, `ETag: "2"`}, {`ETag: W/"1"`, `ETag: W/"2"`}, {"X-No: tag", "X-No: tag"}, {`ETag: "1"`, "X-No: tag"}} {
		sim.Run(t, func(w *sim.World) {
			second := part(5, 9, tags[1])
			second.Body = "FGHIJ"
			parts(w, part(0, 4, tags[0]), second)
			w.Handle(file{body: "ABCDEFGHIJ", header: []string{"Cache-Control: max-age=60", tags[1]}}.serve)
			wantPart(t, fetched(w, "5-9").WantHit(), "FGHIJ", 5, 9, "10")
			wantPart(t, fetched(w, "0-9"), "ABCDEFGHIJ", 0, 9, "10")
			w.Get("/a").Want(200, "ABCDEFGHIJ")
		})
	}
}

// A retry for everything asks for everything: the If-Range that kept the range
// honest is gone, so the range must go too.
func TestRNG17_RetryWithoutConditionsHasNoRange(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(sim.Reply{Status: 304}, sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "2"`}, Body: "changed"})
		fetched(w, "2-4", `If-Range: "1"`).Want(200, "changed")
		if got := w.Last().Header; got.Get("Range") != "" || got.Get("If-Range") != "" {
			t.Errorf("the second request was %v", got)
		}
	})
}

// range-mode: serve-only keeps no parts, and pass forwards every range.
func TestRNG18_RangeModes(t *testing.T) {
	sim.RunWith(t, func(c *engine.Config) { c.Terms.Ranges = rules.RangesServe }, func(w *sim.World) {
		w.Handle(tenDigits.serve)
		for range 2 {
			wantPart(t, fetched(w, "2-4").WantMiss("uri-miss"), "234", 2, 4, "10")
		}
		w.Get("/a")
		wantPart(t, fetched(w, "2-4").WantHit(), "234", 2, 4, "10")
		w.WantCount(3)
	})
	sim.RunWith(t, func(c *engine.Config) { c.Terms.Ranges = rules.RangesPass }, func(w *sim.World) {
		w.Handle(tenDigits.serve)
		w.Get("/a")
		for range 2 {
			wantPart(t, fetched(w, "2-4").WantMiss("bypass"), "234", 2, 4, "10")
		}
		w.WantCount(3)
		w.Get("/a").WantHit()
	})
}

// Two parts that arrive at the same time are joined all the same.
func TestRNG25_PartsThatArriveTogether(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		slow := tenDigits
		slow.slow = time.Second
		w.Handle(slow.serve)
		var answers []*sim.Answer
		for _, spec := range []string{"0-2", "3-5", "6-7", "8-9"} {
			answers = append(answers, w.Start("GET", "/a", "", bytesRange(spec)))
		}
		for i, a := range answers {
			a.Wait()
			if a.Status != 206 || !slices.Contains([]string{"012", "345", "67", "89"}, a.Body()) {
				t.Errorf("%d: status %d, body %q", i, a.Status, a.Body())
			}
		}
		w.Settle()
		w.Get("/a").Want(200, digits).WantHit()
		w.WantCount(4)
	})
}

// A stored part is being validated for one range. Those who ask for the whole,
// or for what the part does not hold, cannot share what comes of it.
func TestRNG22_ValidationOfAPartIsNotSharedWithOthers(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(part(2, 6, `ETag: "1"`))
		fetched(w, "2-6")
		w.Advance(time.Hour)
		slow := tenDigits
		slow.slow = time.Second
		w.Handle(func(r *http.Request) sim.Reply {
			if r.Header.Get("If-None-Match") != "" {
				return sim.Reply{Status: 304, Header: []string{"Cache-Control: max-age=60"}, Delay: time.Second}
			}
			return slow.serve(r)
		})
		leader := w.Start("GET", "/a", "", "Range: bytes=3-4")
		w.Settle()
		within := w.Start("GET", "/a", "", "Range: bytes=5-6")
		beyond := w.Start("GET", "/a", "", "Range: bytes=5-7")
		end := w.Start("GET", "/a", "", "Range: bytes=5-")
		whole := w.Start("GET", "/a", "")
		known := w.Start("GET", "/a", "", `If-None-Match: "1"`)
		for _, a := range []*sim.Answer{leader, within, beyond, end, whole, known} {
			a.Wait()
		}
		wantPart(t, leader, "34", 3, 4, "10")
		wantPart(t, within, "56", 5, 6, "10")
		wantPart(t, beyond, "567", 5, 7, "10")
		wantPart(t, end, "56789", 5, 9, "10")
		whole.Want(200, digits)
		known.Want(304, "")
	})
}
