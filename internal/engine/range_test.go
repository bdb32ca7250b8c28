package engine_test

import (
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/field"
	"github.com/larderhq/larder/internal/rules"
	"github.com/larderhq/larder/internal/sim"
)

const digits = "0123456789"

// A file is what an origin keeps that knows ranges.
type file struct {
	body   string
	header []string // of every answer
	status int      // of an answer without a range; 200 if it is 0
	slow   time.Duration
}

// serve answers as the origin.
func (f file) serve(r *http.Request) sim.Reply {
	whole := sim.Reply{Status: f.status, Header: f.header, Body: f.body, Delay: f.slow}
	lines := r.Header["Range"]
	if len(lines) != 1 || r.Method != http.MethodGet {
		return whole
	}
	if ifRange := r.Header["If-Range"]; len(ifRange) == 1 && !slices.Contains(f.header, "ETag: "+ifRange[0]) && !slices.Contains(f.header, "Last-Modified: "+ifRange[0]) {
		return whole
	}
	specs, ok := field.ParseRange(lines[0])
	if !ok || len(specs) != 1 {
		return whole
	}
	spans := field.ResolveRanges(specs, int64(len(f.body)))
	if len(spans) == 0 {
		return sim.Reply{Status: 416, Header: []string{fmt.Sprintf("Content-Range: bytes */%d", len(f.body))}}
	}
	s := spans[0]
	return sim.Reply{
		Status: 206, Delay: f.slow, Body: f.body[s.First : s.Last+1],
		Header: append([]string{fmt.Sprintf("Content-Range: bytes %d-%d/%d", s.First, s.Last, len(f.body))}, f.header...),
	}
}

// part is an answer of an origin with some octets of digits.
func part(first, last int, header ...string) sim.Reply {
	return sim.Reply{
		Status: 206, Body: digits[first : last+1],
		Header: append([]string{"Cache-Control: max-age=60", fmt.Sprintf("Content-Range: bytes %d-%d/10", first, last)}, header...),
	}
}

// wantPart fails the test unless the answer is this one part of this whole.
func wantPart(t *testing.T, a *sim.Answer, body string, first, last int, total string) {
	t.Helper()
	a.Want(206, body).WantField("Content-Range", fmt.Sprintf("bytes %d-%d/%s", first, last, total)).WantField("Content-Length", strconv.Itoa(len(body)))
}

// A piece is one part of a multipart answer.
type piece struct{ contentType, contentRange, body string }

// wantPieces reads a multipart/byteranges answer to the last octet.
func wantPieces(t *testing.T, a *sim.Answer, want ...piece) {
	t.Helper()
	kind, params, err := mime.ParseMediaType(a.Header.Get("Content-Type"))
	if a.Status != 206 || a.Aborted || kind != "multipart/byteranges" || err != nil {
		t.Fatalf("status %d, aborted %v, Content-Type %q, %v", a.Status, a.Aborted, a.Header["Content-Type"], err)
	}
	a.WantField("Content-Range").WantField("Content-Length", strconv.Itoa(len(a.Body())))
	body := strings.NewReader(a.Body())
	m := multipart.NewReader(body, params["boundary"])
	var got []piece
	for {
		p, err := m.NextRawPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("part %d of %q: %v", len(got), a.Body(), err)
		}
		content, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		fields := 1
		if p.Header.Get("Content-Type") != "" {
			fields = 2
		}
		if len(p.Header) != fields {
			t.Errorf("a part has the fields %v", p.Header)
		}
		got = append(got, piece{p.Header.Get("Content-Type"), p.Header.Get("Content-Range"), string(content)})
	}
	if !slices.Equal(got, want) {
		t.Fatalf("got the parts %q, want %q", got, want)
	}
}

var tenDigits = file{body: digits, header: []string{"Cache-Control: max-age=60", `ETag: "1"`, "Content-Type: text/plain"}}

func TestRNG01_RangeOfACompleteEntry(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Handle(tenDigits.serve)
		w.Get("/a").Want(200, digits).WantField("Content-Range")
		for _, c := range []struct {
			spec        string
			first, last int
		}{
			{"0-0", 0, 0},
			{"3-6", 3, 6},
			{"9-9", 9, 9},
			{"0-9", 0, 9},
			// RNG-02
			{"0-", 0, 9},
			{"4-", 4, 9},
			{"9-", 9, 9},
			{"-1", 9, 9},
			{"-4", 6, 9},
			{"-10", 0, 9},
			{"-11", 0, 9},
			{"-99999", 0, 9},
			{"8-10", 8, 9},
			{"8-99999", 8, 9},
			// RNG-06
			{"2-9223372036854775807", 2, 9},
			{"2-9223372036854775808", 2, 9},
			{"-9223372036854775807", 0, 9},
			{"-" + strings.Repeat("9", 40), 0, 9},
			// RNG-08
			{"3-6,", 3, 6},
			{"3-6,20-", 3, 6},
			{"-0,3-6", 3, 6},
		} {
			a := w.Get("/a", "Range: bytes="+c.spec).WantHit()
			wantPart(t, a, digits[c.first:c.last+1], c.first, c.last, "10")
			a.WantField("Content-Type", "text/plain")
		}
		w.WantCount(1)
	})
}

func TestRNG03_NoOctetOfTheRangeExists(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Handle(tenDigits.serve)
		w.Get("/a")
		for _, spec := range []string{"10-", "10-12", "99-", "-0", "10-,-0,11-20", "9223372036854775807-", strings.Repeat("9", 40) + "-"} {
			a := w.Get("/a", "Range: bytes="+spec).WantHit()
			if a.Status != 416 {
				t.Errorf("%s: status %d", spec, a.Status)
			}
			a.WantField("Content-Range", "bytes */10").WantField("ETag").WantField("Content-Length", strconv.Itoa(len(a.Body())))
		}
		// What follows the failed If-Range is the whole, not an error.
		w.Get("/a", "Range: bytes=10-", `If-Range: "0"`).Want(200, digits).WantHit()
		w.WantCount(1)
	})
}

// What was validated and has changed is cut by its new length.
func TestRNG03_AfterTheRepresentationHasShrunk(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(minute, sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "2"`}, Body: "ab"})
		w.Get("/a").Want(200, "page")
		w.Advance(time.Hour)
		a := w.Get("/a", "Range: bytes=2-3").WantField("Content-Range", "bytes */2")
		w.Settle()
		if a.Status != 416 {
			t.Errorf("status %d", a.Status)
		}
		wantPart(t, w.Get("/a", "Range: bytes=1-3").WantHit(), "b", 1, 1, "2")
	})
}

func TestRNG04_MalformedRangeOrOtherUnitIsIgnored(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Handle(tenDigits.serve)
		w.Get("/a")
		for _, value := range []string{
			"bytes=5-2", "bytes=a-b", "bytes=", "bytes", "bytes 0-1", "0-1", "bytes=-", "bytes=1", "bytes=0-1,5-2", "bytes=0-1;q=1", "lines=0-1", "octets=0-1", "", "none",
		} {
			w.Get("/a", "Range: "+value).Want(200, digits).WantHit().WantField("Content-Range").WantField("Content-Length", "10")
		}
		w.Get("/a", "Range: bytes=0-1", "Range: bytes=4-5").Want(200, digits).WantHit()
		w.WantCount(1)
	})
}

func TestRNG05_RangeCountsOnGETOnly(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Handle(tenDigits.serve)
		w.Get("/a")
		w.Do("HEAD", "/a", "", "Range: bytes=0-1").Want(200, "").WantHit().WantField("Content-Length", "10").WantField("Content-Range")
		w.Do("HEAD", "/a", "", "Range: bytes=20-").Want(200, "").WantHit()
		w.WantCount(1)
		w.Do("OPTIONS", "/a", "", "Range: bytes=0-1").Want(200, digits)
		w.WantCount(2)
	})
	sim.Run(t, func(w *sim.World) { // cut from the response to a POST: never
		w.Origin(sim.Reply{Header: append([]string{"Content-Location: /a"}, tenDigits.header...), Body: digits})
		w.Do("POST", "/a", "x", "Range: bytes=0-1").Want(200, digits).WantField("Content-Range")
		wantPart(t, w.Get("/a", "Range: bytes=0-1").WantHit(), "01", 0, 1, "10")
	})
}

func TestRNG07_SeveralRangesInTheOrderAsked(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Handle(file{body: digits, header: append([]string{"X-Other: y", "Content-Range: bytes 0-1/7"}, tenDigits.header...)}.serve)
		w.Get("/a")
		a := w.Get("/a", "Range: bytes=7-8, 0-1,-1,3-3").WantHit()
		wantPieces(t, a,
			piece{"text/plain", "bytes 7-8/10", "78"}, piece{"text/plain", "bytes 0-1/10", "01"},
			piece{"text/plain", "bytes 9-9/10", "9"}, piece{"text/plain", "bytes 3-3/10", "3"})
		a.WantField("X-Other", "y").WantField("ETag", `"1"`).WantField("Age", "0")
		// Those that no octet belongs to are left out.
		wantPieces(t, w.Get("/a", "Range: bytes=99-,0-0,-0,2-2").WantHit(), piece{"text/plain", "bytes 0-0/10", "0"}, piece{"text/plain", "bytes 2-2/10", "2"})
		w.WantCount(1)
	})
}

// The octets themselves: nothing before the first boundary and after the last
// but what the grammar has (RFC 2046 §5.1.1), also where they look like one.
func TestRNG07_OctetsOfTheMultipartBody(t *testing.T) {
	body := "--\r\n\r\n--x\r\n\x00\xff--"
	sim.Run(t, func(w *sim.World) {
		w.Handle(file{body: body, header: []string{"Cache-Control: max-age=60"}}.serve)
		w.Get("/a")
		a := w.Get("/a", "Range: bytes=0-5,9-").WantHit()
		wantPieces(t, a, piece{"", fmt.Sprintf("bytes 0-5/%d", len(body)), body[:6]}, piece{"", fmt.Sprintf("bytes 9-%d/%d", len(body)-1, len(body)), body[9:]})
		_, boundary, _ := strings.Cut(a.Header.Get("Content-Type"), "multipart/byteranges; boundary=")
		want := fmt.Sprintf("\r\n--%[1]s\r\nContent-Range: bytes 0-5/%[2]d\r\n\r\n%[3]s\r\n--%[1]s\r\nContent-Range: bytes 9-%[4]d/%[2]d\r\n\r\n%[5]s\r\n--%[1]s--\r\n",
			boundary, len(body), body[:6], len(body)-1, body[9:])
		if a.Body() != want {
			t.Errorf("got  %q\nwant %q", a.Body(), want)
		}
		if again := w.Get("/a", "Range: bytes=0-5,9-"); again.Header.Get("Content-Type") == a.Header.Get("Content-Type") {
			t.Error("the boundary can be foretold")
		}
	})
}

func TestRNG08_OneRangeIsNeverMultipart(t *testing.T) {
	for _, value := range []string{"bytes=2-4", "bytes=,2-4,,", "bytes=2-4,50-60", "bytes=-0,2-4"} {
		sim.Run(t, func(w *sim.World) {
			w.Handle(tenDigits.serve)
			w.Get("/a")
			a := w.Get("/a", "Range: "+value).WantHit()
			wantPart(t, a, "234", 2, 4, "10")
			a.WantField("Content-Type", "text/plain")
		})
	}
}

func TestRNG09_TooManyOrOverlapping(t *testing.T) {
	body := strings.Repeat("x", 100)
	ranges := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "%d-%d,", 2*i, 2*i)
		}
		return "Range: bytes=" + b.String()
	}
	for _, limit := range []int{0, 3} {
		sim.RunWith(t, func(c *engine.Config) { c.Terms.MaxRanges = limit }, func(w *sim.World) {
			allowed := max(limit, 3)
			if limit == 0 {
				allowed = 16
			}
			w.Handle(file{body: body, header: tenDigits.header}.serve)
			w.Get("/a")
			var want []piece
			for i := range allowed {
				want = append(want, piece{"text/plain", fmt.Sprintf("bytes %d-%d/100", 2*i, 2*i), "x"})
			}
			wantPieces(t, w.Get("/a", ranges(allowed)).WantHit(), want...)
			w.Get("/a", ranges(allowed+1)).Want(200, body).WantHit()
			w.Get("/a", ranges(40)).Want(200, body).WantHit()
			for _, overlapping := range []string{"0-5,5-9", "0-,0-", "5-9,0-5", "-1,99-", "0-0,0-0"} {
				w.Get("/a", "Range: bytes="+overlapping).Want(200, body).WantHit()
			}
			w.Get("/a", "Range: bytes="+strings.Repeat("0-,", 5000)).Want(200, body).WantHit()
			w.WantCount(1)
		})
	}
}

func TestRNG10_RangeComesAfterTheOtherConditions(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Handle(file{body: digits, header: append([]string{modified}, tenDigits.header...)}.serve)
		w.Get("/a")
		for _, value := range []string{"bytes=2-4", "bytes=50-", "bytes=0-1,4-5", "nonsense"} {
			w.Get("/a", "Range: "+value, `If-None-Match: "1"`).Want(304, "").WantHit().WantField("Content-Range")
			w.Get("/a", "Range: "+value, sinceThen).Want(304, "").WantHit()
			w.Get("/a", "Range: "+value, `If-None-Match: "1"`, `If-Range: "0"`).Want(304, "").WantHit()
		}
		wantPart(t, w.Get("/a", "Range: bytes=2-4", `If-None-Match: "0"`).WantHit(), "234", 2, 4, "10")
		wantPart(t, w.Get("/a", "Range: bytes=2-4", sinceEarly).WantHit(), "234", 2, 4, "10")
		w.WantCount(1)
	})
}

func TestRNG11_IfRangeWithATag(t *testing.T) {
	for _, c := range []struct {
		stored, ifRange string
		part            bool
	}{
		{`"1"`, `"1"`, true},
		{`"1"`, `"2"`, false},
		{`"1"`, `W/"1"`, false},
		{`W/"1"`, `W/"1"`, false},
		{`W/"1"`, `"1"`, false},
		{`"1"`, `1`, false},
		{`"1"`, `"1", "2"`, false},
		{`"1"`, `*`, false},
		{`"1"`, ``, false},
		{`nonsense`, `nonsense`, false},
		{`"1"`, `"1"|"1"`, false}, // two lines
	} {
		sim.Run(t, func(w *sim.World) {
			w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=60", "ETag: " + c.stored, modified}, Body: digits})
			w.Get("/a")
			for _, value := range []string{"bytes=2-4", "bytes=20-", "bytes=0-1,4-5"} {
				header := []string{"Range: " + value}
				for _, line := range strings.Split(c.ifRange, "|") {
					header = append(header, "If-Range: "+line)
				}
				a := w.Get("/a", header...).WantHit()
				if whole := a.Status == 200 && a.Body() == digits; whole == c.part {
					t.Errorf("stored %s, If-Range %s, %s: status %d, body %q", c.stored, c.ifRange, value, a.Status, a.Body())
				}
			}
			w.WantCount(1)
		})
	}
}

func TestRNG12_IfRangeWithADate(t *testing.T) {
	const date = "Tue, 15 Nov 1994 12:45:26 GMT"
	for _, c := range []struct {
		ifRange, date string
		part          bool
	}{
		{date, "Sat, 01 Jan 2000 00:00:00 GMT", true},
		{"Tuesday, 15-Nov-94 12:45:26 GMT", "Sat, 01 Jan 2000 00:00:00 GMT", true},
		{"Tue Nov 15 12:45:26 1994", "Sat, 01 Jan 2000 00:00:00 GMT", true},
		{"Tue, 15 Nov 1994 12:45:27 GMT", "Sat, 01 Jan 2000 00:00:00 GMT", false},
		{"Tue, 15 Nov 1994 12:45:25 GMT", "Sat, 01 Jan 2000 00:00:00 GMT", false},
		{"nonsense", "Sat, 01 Jan 2000 00:00:00 GMT", false},
		{date, "Tue, 15 Nov 1994 12:45:27 GMT", true},  // a second later: strong
		{date, "Tue, 15 Nov 1994 12:45:26 GMT", false}, // in the same second: weak
		{date, "Tue, 15 Nov 1994 12:45:25 GMT", false},
	} {
		sim.Run(t, func(w *sim.World) {
			w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=999999999", modified, "Date: " + c.date}, Body: digits})
			w.Get("/a")
			a := w.Get("/a", "Range: bytes=2-4", "If-Range: "+c.ifRange).WantHit()
			if c.part {
				wantPart(t, a, "234", 2, 4, "10")
			} else {
				a.Want(200, digits)
			}
		})
	}
	sim.Run(t, func(w *sim.World) { // no Last-Modified: Date does not stand in
		now := sim.Date(0)
		w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=60", "Date: " + now}, Body: digits})
		w.Get("/a")
		w.Get("/a", "Range: bytes=2-4", "If-Range: "+now).Want(200, digits).WantHit()
	})
}

func TestRNG13_IfRangeWithoutRange(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Handle(tenDigits.serve)
		w.Get("/a")
		for _, value := range []string{`"1"`, `"2"`, "nonsense"} {
			w.Get("/a", "If-Range: "+value).Want(200, digits).WantHit()
			w.Get("/a", "If-Range: "+value, `If-None-Match: "1"`).Want(304, "").WantHit()
			w.Do("HEAD", "/a", "", "If-Range: "+value).Want(200, "").WantHit()
		}
		w.WantCount(1)
	})
}

func TestRNG14_RangesCountTheCodedOctets(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Handle(func(r *http.Request) sim.Reply {
			header := []string{"Cache-Control: max-age=60", "Vary: Accept-Encoding"}
			if r.Header.Get("Accept-Encoding") == "gzip" {
				return sim.Reply{Header: append(header, "Content-Encoding: gzip", `ETag: "1-gzip"`), Body: "\x1f\x8bzip"}
			}
			return sim.Reply{Header: append(header, `ETag: "1"`), Body: digits}
		})
		w.Get("/a", "Accept-Encoding: gzip")
		w.Get("/a")
		a := w.Get("/a", "Accept-Encoding: gzip", "Range: bytes=0-2").WantHit()
		wantPart(t, a, "\x1f\x8bz", 0, 2, "5")
		a.WantField("Content-Encoding", "gzip")
		a = w.Get("/a", "Range: bytes=0-2").WantHit()
		wantPart(t, a, "012", 0, 2, "10")
		a.WantField("Content-Encoding")
		w.Get("/a", "Range: bytes=0-2", `If-Range: "1-gzip"`).Want(200, digits).WantHit()
	})
}

func TestRNG15_206CarriesWhatThe200Would(t *testing.T) {
	fields := []string{
		"Cache-Control: max-age=60", "Content-Location: /a.en", "Date: Sat, 01 Jan 2000 00:00:00 GMT", `Etag: "1"`, "Expires: Sat, 01 Jan 2000 00:01:00 GMT", "Vary: Accept-Language",
		"Content-Type: text/plain", "Content-Language: en", "Last-Modified: Tue, 15 Nov 1994 12:45:26 GMT", "X-Unknown: y",
	}
	check := func(a *sim.Answer) {
		t.Helper()
		for _, f := range fields {
			name, value, _ := strings.Cut(f, ": ")
			a.WantField(name, value)
		}
	}
	sim.Run(t, func(w *sim.World) {
		w.Handle(file{body: digits, header: fields, slow: time.Second}.serve)
		first := w.Start("GET", "/a", "")
		w.Settle()
		waited := w.Start("GET", "/a", "", "Range: bytes=2-4")
		first.Wait()
		waited.Wait()
		w.Get("/part", "Range: bytes=0-5")
		w.Settle()
		for _, a := range []*sim.Answer{
			waited, w.Get("/a", "Range: bytes=2-4").WantHit(), w.Get("/a", "Range: bytes=2-4", `If-Range: "1"`).WantHit(), w.Get("/part", "Range: bytes=2-4").WantHit(),
		} {
			wantPart(t, a, "234", 2, 4, "10")
			check(a)
		}
		w.WantCount(2)
	})
}

func TestRNG16_OnlyA200IsCut(t *testing.T) {
	for _, status := range []int{203, 300, 301, 404, 410, 501} {
		sim.Run(t, func(w *sim.World) {
			w.Origin(sim.Reply{Status: status, Header: []string{"Cache-Control: max-age=60"}, Body: digits})
			w.Get("/a")
			for _, value := range []string{"bytes=2-4", "bytes=20-", "bytes=0-1,4-5"} {
				w.Get("/a", "Range: "+value).Want(status, digits).WantHit().WantField("Content-Range")
			}
			w.WantCount(1)
		})
	}
}

func TestRNG17_WithoutAnEntryTheRangeIsForwarded(t *testing.T) {
	for _, value := range []string{"bytes=2-4", "bytes=-3", "bytes=0-1,4-5", "bytes=5-2", "lines=1-2"} {
		sim.Run(t, func(w *sim.World) {
			w.Origin(sim.Reply{Status: 206, Header: []string{"Content-Range: bytes 2-4/10"}, Body: "234"})
			wantPart(t, w.Get("/a", "Range: "+value, `If-Range: "1"`).WantMiss("uri-miss"), "234", 2, 4, "10")
			if got := w.Last().Header; got.Get("Range") != value || got.Get("If-Range") != `"1"` {
				t.Errorf("the origin saw %v", got)
			}
		})
	}
}

// An origin that answers 206 to a request without Range breaks the protocol.
// What it sent must not reach a client that would take it for the whole.
func TestRNG17_NobodyGetsAPartUnasked(t *testing.T) {
	unasked := part(2, 5, `ETag: "1"`)
	for name, before := range map[string][]sim.Reply{"cold": nil, "stale": {minute}} {
		for _, method := range []string{"GET", "HEAD"} {
			t.Run(name+" "+method, func(t *testing.T) {
				sim.Run(t, func(w *sim.World) {
					if before != nil {
						w.Origin(before...)
						w.Get("/a")
						w.Advance(48 * time.Hour)
					}
					w.Origin(unasked)
					if a := w.Do(method, "/a", ""); a.Status != 502 || strings.Contains(a.Body(), "2345") {
						t.Errorf("status %d, body %q", a.Status, a.Body())
					}
					w.Handle(tenDigits.serve)
					w.Get("/a").Want(200, digits)
				})
			})
		}
	}
}

func TestRNG28_OriginIgnoresRange(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(sim.Reply{Header: tenDigits.header, Body: digits})
		a := w.Get("/a", "Range: bytes=2-4")
		if whole, cut := a.Status == 200 && a.Body() == digits, a.Status == 206 && a.Body() == "234"; !whole && !cut {
			t.Errorf("status %d, body %q", a.Status, a.Body())
		}
		w.Get("/a").Want(200, digits).WantHit()
		wantPart(t, w.Get("/a", "Range: bytes=2-4").WantHit(), "234", 2, 4, "10")
		w.WantCount(1)
	})
}

func TestRNG29_MultipartOfTheOriginIsNotKept(t *testing.T) {
	body := "--b\r\nContent-Range: bytes 0-1/10\r\n\r\n01\r\n--b\r\nContent-Range: bytes 4-5/10\r\n\r\n45\r\n--b--\r\n"
	for _, kind := range []string{
		"multipart/byteranges; boundary=b", "Multipart/ByteRanges;boundary=b", "multipart/byteranges", `multipart/byteranges; boundary="b`,
		"multipart/byteranges; boundary=b; boundary=b", "multipart/byteranges ; boundary = b",
	} {
		for _, wrong := range []string{"X-Nothing: wrong", fmt.Sprintf("Content-Range: bytes 0-%d/%d", len(body)-1, len(body))} {
			sim.Run(t, func(w *sim.World) {
				w.Origin(sim.Reply{Status: 206, Header: []string{"Cache-Control: max-age=60", `ETag: "1"`, "Content-Type: " + kind, wrong}, Body: body})
				for _, spec := range []string{"0-1,4-5", "0-1"} {
					w.Get("/a", "Range: bytes="+spec).Want(206, body).WantField("Content-Type", kind).WantMiss("uri-miss")
				}
				w.WantCount(2)
			})
		}
	}
}

func TestRNG30_ContentRangeOnOtherStatuses(t *testing.T) {
	for _, status := range []int{200, 404} {
		sim.Run(t, func(w *sim.World) {
			w.Origin(sim.Reply{Status: status, Header: append([]string{"Content-Range: bytes 0-4/100"}, tenDigits.header...), Body: digits})
			for range 2 {
				w.Get("/a").Want(status, digits).WantField("Content-Range", "bytes 0-4/100").WantField("Content-Length", "10")
			}
			if status == 200 {
				wantPart(t, w.Get("/a", "Range: bytes=5-7").WantHit(), "567", 5, 7, "10")
				a := w.Get("/a", "Range: bytes=20-").WantHit().WantField("Content-Range", "bytes */10")
				if a.Status != 416 {
					t.Errorf("status %d", a.Status)
				}
			}
			w.WantCount(1)
		})
	}
	sim.Run(t, func(w *sim.World) { // nor in a 304
		w.Origin(minute, sim.Reply{Status: 304, Header: []string{"Content-Range: bytes 0-1/4", "Cache-Control: max-age=60"}})
		w.Get("/a")
		w.Advance(time.Hour)
		w.Get("/a").Want(200, "page")
		w.Get("/a").Want(200, "page").WantHit()
	})
}

// Clients with a Range wait for a slow fetch of the whole and get what they
// asked for, each of them.
func TestRNG01_RangesOfWhatIsBeingFetched(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		r, pipe := io.Pipe()
		w.Origin(sim.Reply{Header: tenDigits.header, Stream: r, Length: 10})
		whole := w.Start("GET", "/a", "")
		w.Settle()
		start := w.Start("GET", "/a", "", "Range: bytes=0-2")
		end := w.Start("GET", "/a", "", "Range: bytes=-2")
		beyond := w.Start("GET", "/a", "", "Range: bytes=10-")
		other := w.Start("GET", "/a", "", "Range: bytes=0-2", `If-Range: "0"`)
		same := w.Start("GET", "/a", "", "Range: bytes=3-4", `If-Range: "1"`)
		known := w.Start("GET", "/a", "", "Range: bytes=3-4", `If-None-Match: "1"`)
		gone := w.Start("GET", "/a", "", "Range: bytes=3-4")
		w.Settle()
		gone.Leave()
		io.WriteString(pipe, "0123")
		w.Settle()
		if !start.Done() || !beyond.Done() || !known.Done() || end.Done() || same.Done() {
			t.Error("an answer waits for octets that are not its own, or does not wait for its own")
		}
		wantPart(t, start, "012", 0, 2, "10")
		io.WriteString(pipe, "456789")
		pipe.Close()
		for _, a := range []*sim.Answer{whole, end, other, same} {
			a.Wait()
		}
		whole.Want(200, digits)
		wantPart(t, end, "89", 8, 9, "10")
		wantPart(t, same, "34", 3, 4, "10")
		other.Want(200, digits)
		known.Want(304, "")
		if beyond.WantField("Content-Range", "bytes */10"); beyond.Status != 416 {
			t.Errorf("status %d", beyond.Status)
		}
		w.WantCount(1)
	})
}

// While nobody knows the length, a range that needs it cannot be answered from
// what is on its way: the client gets the whole.
func TestRNG01_RangeOfWhatHasNoLengthYet(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		r, pipe := io.Pipe()
		w.Origin(sim.Reply{Header: tenDigits.header, Stream: r})
		whole := w.Start("GET", "/a", "")
		w.Settle()
		end := w.Start("GET", "/a", "", "Range: bytes=-2")
		w.Settle()
		io.WriteString(pipe, digits)
		pipe.Close()
		whole.Wait()
		end.Wait()
		whole.Want(200, digits)
		end.Want(200, digits)
		wantPart(t, w.Get("/a", "Range: bytes=-2").WantHit(), "89", 8, 9, "10")
		w.WantCount(1)
	})
}

// A fetch that breaks off breaks the answers that need what is missing, and no
// others; nothing of it is kept.
func TestRNG01_RangeOfAFetchThatBreaksOff(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		r, pipe := io.Pipe()
		w.Origin(sim.Reply{Header: tenDigits.header, Stream: r, Length: 10})
		whole := w.Start("GET", "/a", "")
		w.Settle()
		start := w.Start("GET", "/a", "", "Range: bytes=0-2")
		end := w.Start("GET", "/a", "", "Range: bytes=2-5")
		w.Settle()
		io.WriteString(pipe, "0123")
		w.Settle()
		pipe.CloseWithError(io.ErrUnexpectedEOF)
		whole.Wait()
		end.Wait()
		wantPart(t, start, "012", 0, 2, "10")
		if !end.Aborted || !whole.Aborted || end.Body() != "23" {
			t.Errorf("aborted: %v %v; body %q", end.Aborted, whole.Aborted, end.Body())
		}
		w.Handle(tenDigits.serve)
		w.Get("/a").Want(200, digits).WantMiss("uri-miss")
	})
}

// What comes of a range does not keep others from sharing one fetch of the
// whole: a client could spoil that with a range that does not exist.
func TestRNG17_RangesDoNotEndSharing(t *testing.T) {
	for _, spec := range []string{"0-3", "99-"} {
		sim.RunWith(t, func(c *engine.Config) { c.Terms.Ranges = rules.RangesServe }, func(w *sim.World) {
			slow := tenDigits
			slow.slow = time.Second
			w.Handle(slow.serve)
			w.Get("/a", "Range: bytes="+spec).WantMiss("uri-miss")
			var answers []*sim.Answer
			for range 20 {
				answers = append(answers, w.Start("GET", "/a", ""))
			}
			for _, a := range answers {
				a.Wait()
				a.Want(200, digits)
			}
			w.WantCount(2)
		})
	}
}

// Requests for one and the same range share a fetch; other ranges have one of
// their own.
func TestRNG17_SameRangeIsFetchedOnce(t *testing.T) {
	slow := tenDigits
	slow.slow = time.Second
	sim.Run(t, func(w *sim.World) {
		w.Handle(slow.serve)
		var same, other []*sim.Answer
		for range 20 {
			same = append(same, w.Start("GET", "/a", "", "Range: bytes=2-4"))
			other = append(other, w.Start("GET", "/a", "", "Range: bytes=6-8"))
			w.Settle()
		}
		for i := range same {
			same[i].Wait()
			other[i].Wait()
			wantPart(t, same[i], "234", 2, 4, "10")
			wantPart(t, other[i], "678", 6, 8, "10")
		}
		w.WantCount(2)
	})
}
