package gateway_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/larderhq/larder/gateway"
)

// A verdict is what RFC 9110 makes of a condition.
type verdict int

const (
	none  verdict = iota // there is none, or it has to be ignored
	holds                // If-None-Match and If-Modified-Since: none matches, it was modified
	fails
)

// A field is one way to send a header field, and what it comes to.
type field struct {
	lines   []string
	verdict verdict
}

// A ranging is a way to send Range. spans says what it comes to for a size: nil for
// something to be ignored, and empty for something that cannot be satisfied.
type ranging struct {
	lines []string
	spans func(size int) [][2]int // first and last
}

// The ranges of one spec: pairs of first and last, -1 for open; a first of -1 is a
// suffix.
func exactly(pairs ...[2]int) func(int) [][2]int {
	return func(size int) [][2]int {
		spans := [][2]int{}
		for _, p := range pairs {
			first, last := p[0], p[1]
			if first < 0 {
				first, last = max(size-last, 0), size-1
			}
			if last < 0 || last >= size {
				last = size - 1
			}
			if first <= last && first < size {
				spans = append(spans, [2]int{first, last})
			}
		}
		return spans
	}
}

func ignored(int) [][2]int { return nil }

// rangings are all ways to ask for ranges that make a difference.
func rangings() []ranging {
	list := func(n, step, length int) (string, [][2]int) {
		var b strings.Builder
		var pairs [][2]int
		for i := range n {
			fmt.Fprintf(&b, ",%d-%d", i*step, i*step+length-1)
			pairs = append(pairs, [2]int{i * step, i*step + length - 1})
		}
		return "bytes=" + b.String()[1:], pairs
	}
	disjoint, pairs := list(16, 60, 10)
	touching, touchingPairs := list(16, 10, 10)
	overlapping, _ := list(16, 10, 11)
	seventeen, _ := list(17, 50, 3)
	thousand, _ := list(1000, 1, 1)
	// Where ranges overlap for some sizes only, for others one of them is left.
	unlessOverlapping := func(pairs ...[2]int) func(int) [][2]int {
		return func(size int) [][2]int {
			spans := exactly(pairs...)(size)
			for i, a := range spans {
				for _, b := range spans[:i] {
					if a[0] <= b[1] && b[0] <= a[1] {
						return nil
					}
				}
			}
			return spans
		}
	}
	var overlappingPairs [][2]int
	for i := range 16 {
		overlappingPairs = append(overlappingPairs, [2]int{i * 10, i*10 + 10})
	}
	const huge = "99999999999999999999" // does not fit 64 bits
	return []ranging{
		{nil, ignored},
		{[]string{"bytes=0-0"}, exactly([2]int{0, 0})},
		{[]string{"bytes=0-"}, exactly([2]int{0, -1})},
		{[]string{"bytes=500-599"}, exactly([2]int{500, 599})},
		{[]string{"bytes=999-999"}, exactly([2]int{999, 999})},
		{[]string{"bytes=-1"}, exactly([2]int{-1, 1})},
		{[]string{"bytes=-0"}, exactly()},
		{[]string{"bytes=-5000"}, exactly([2]int{-1, 5000})},
		{[]string{"bytes=1000-"}, exactly([2]int{1000, -1})},
		{[]string{"bytes=5000-6000"}, exactly([2]int{5000, 6000})},
		{[]string{"bytes=990-5000"}, exactly([2]int{990, 5000})},
		{[]string{"bytes=0-5000"}, exactly([2]int{0, 5000})},
		{[]string{"bytes=007-008"}, exactly([2]int{7, 8})},
		{[]string{"bytes=5-2"}, ignored},
		{[]string{"bytes=0-0,5-2"}, ignored},
		{[]string{"bytes=a-b"}, ignored},
		{[]string{"bytes=0-0x"}, ignored},
		{[]string{"bytes=+1-2"}, ignored},
		{[]string{"bytes=-+1"}, ignored},
		{[]string{"bytes=--1"}, ignored},
		{[]string{"bytes=-"}, ignored},
		{[]string{"bytes=5"}, ignored},
		{[]string{"bytes=0 - 5"}, ignored},
		{[]string{"bytes"}, ignored},
		{[]string{"bytes="}, ignored},
		{[]string{"=0-5"}, ignored},
		{[]string{"0-5"}, ignored},
		{[]string{"lines=0-5"}, ignored},
		{[]string{"none=0-5"}, ignored},
		{[]string{"BYTES=1-3"}, exactly([2]int{1, 3})},
		{[]string{"bytes= 1-3 "}, exactly([2]int{1, 3})},
		{[]string{"bytes=\t1-3"}, exactly([2]int{1, 3})},
		{[]string{"bytes=,, 1-3 ,,"}, exactly([2]int{1, 3})},
		{[]string{"bytes=1-3, 10-12"}, exactly([2]int{1, 3}, [2]int{10, 12})},
		{[]string{"bytes=10-12,1-3"}, exactly([2]int{10, 12}, [2]int{1, 3})},
		{[]string{"bytes=0-0,-1"}, unlessOverlapping([2]int{0, 0}, [2]int{-1, 1})},
		{[]string{"bytes=0-0,2000-"}, exactly([2]int{0, 0}, [2]int{2000, -1})},
		{[]string{"bytes=1-3,2-4"}, unlessOverlapping([2]int{1, 3}, [2]int{2, 4})},
		{[]string{"bytes=0-,0-"}, unlessOverlapping([2]int{0, -1}, [2]int{0, -1})},
		{[]string{disjoint}, exactly(pairs...)},
		{[]string{touching}, exactly(touchingPairs...)},
		{[]string{overlapping}, unlessOverlapping(overlappingPairs...)},
		{[]string{seventeen}, ignored},
		{[]string{thousand}, ignored},
		{[]string{"bytes=0-" + huge}, exactly([2]int{0, -1})},
		{[]string{"bytes=-" + huge}, exactly([2]int{0, -1})},
		{[]string{"bytes=" + huge + "-"}, exactly()},
		{[]string{"bytes=9223372036854775807-"}, exactly()},
		{[]string{"bytes=0-9223372036854775807"}, exactly([2]int{0, -1})},
		{[]string{"bytes=-9223372036854775807"}, exactly([2]int{0, -1})},
		{[]string{"bytes=0-9223372036854775806,1-18446744073709551616"}, unlessOverlapping([2]int{0, -1}, [2]int{1, -1})},
		{[]string{"bytes=0-0", "bytes=2-2"}, ignored},
	}
}

// conditionsOf are the ways to send each condition to an object of this tag, of past.
func conditionsOf(tag string) map[string][]field {
	return map[string][]field{
		"If-Match": {
			{nil, none},
			{[]string{tag}, holds},
			{[]string{"*"}, holds},
			{[]string{`"x", ` + tag}, holds},
			{[]string{`"x"`, tag}, holds},
			{[]string{"W/" + tag}, fails}, // strong comparison
			{[]string{`"x","y"`}, fails},
			{[]string{strings.Trim(tag, `"`)}, fails},
			{[]string{""}, fails},
		},
		"If-None-Match": {
			{nil, none},
			{[]string{tag}, fails},
			{[]string{"W/" + tag}, fails}, // weak comparison
			{[]string{"*"}, fails},
			{[]string{`"x", W/"y",` + tag}, fails},
			{[]string{`"x"`, tag}, fails},
			{[]string{`"x"`, `"y"`}, holds},
			{[]string{`"x"`}, holds},
			{[]string{`W/"x", ,"y"`}, holds},
			{[]string{strings.Trim(tag, `"`)}, holds},
			{[]string{`"unfinished`}, holds},
			{[]string{""}, holds},
		},
		"If-Modified-Since": {
			{nil, none},
			{[]string{date}, fails},
			{[]string{dayLater}, fails},
			{[]string{dayEarly}, holds},
			{[]string{"yesterday"}, none},
			{[]string{date, date}, none},
			{[]string{"Monday, 06-May-24 07:08:09 GMT"}, fails},
		},
		"If-Unmodified-Since": {
			{nil, none},
			{[]string{date}, holds},
			{[]string{dayLater}, holds},
			{[]string{dayEarly}, fails},
			{[]string{"2024-05-06"}, none},
			{[]string{dayEarly, dayEarly}, none},
			{[]string{"Mon May  6 07:08:09 2024"}, holds},
		},
		"If-Range": {
			{nil, none},
			{[]string{tag}, holds},
			{[]string{"W/" + tag}, fails},
			{[]string{`"x"`}, fails},
			{[]string{date}, holds},
			{[]string{dayLater}, fails},
			{[]string{dayEarly}, fails},
			{[]string{"garbage"}, fails},
		},
	}
}

// A probe is one request of the matrix.
type probe struct {
	method string
	fields map[string]field
	ranges ranging
}

// header is what it sends.
func (p *probe) header() http.Header {
	h := http.Header{}
	for name, f := range p.fields {
		if f.lines != nil {
			h[name] = f.lines
		}
	}
	if p.ranges.lines != nil {
		h["Range"] = p.ranges.lines
	}
	return h
}

// An outcome is what has to be the same of two answers.
type outcome struct {
	status                                                               int
	contentRange, contentLength, contentType, etag, modified, acceptance string
	body                                                                 string
}

const boundary = "BOUNDARY" // in place of the one that chance chose

func beyond(size int) string {
	return fmt.Sprintf("Requested Range Not Satisfiable: the object has %d octets\n", size)
}

// expected is what RFC 9110 §13.2.2 and §14 say.
func (p *probe) expected(text, tag string) outcome {
	verdict := func(name string) verdict { return p.fields[name].verdict }
	if m := verdict("If-Match"); m == fails || m == none && verdict("If-Unmodified-Since") == fails {
		return outcome{
			status: 412, etag: tag, contentType: "text/plain; charset=utf-8",
			body: "Precondition Failed: the object is not as the request's conditions say\n",
		}
	}
	if n := verdict("If-None-Match"); n == fails || n == none && verdict("If-Modified-Since") == fails {
		return outcome{status: 304, etag: tag}
	}
	o := outcome{
		status: 200, etag: tag, modified: date, contentType: "text/plain; charset=utf-8", acceptance: "bytes",
		contentLength: strconv.Itoa(len(text)), body: text,
	}
	spans := p.ranges.spans(len(text))
	if p.method != "GET" || spans == nil || verdict("If-Range") == fails || len(text) == 0 {
		return o
	}
	switch len(spans) {
	case 0:
		return outcome{status: 416, contentRange: fmt.Sprintf("bytes */%d", len(text)), contentType: o.contentType, body: beyond(len(text))}
	case 1:
		o.status = 206
		o.contentRange = fmt.Sprintf("bytes %d-%d/%d", spans[0][0], spans[0][1], len(text))
		o.body = text[spans[0][0] : spans[0][1]+1]
		o.contentLength = strconv.Itoa(len(o.body))
		return o
	}
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, s := range spans {
		part, err := w.CreatePart(textproto.MIMEHeader{
			"Content-Range": {fmt.Sprintf("bytes %d-%d/%d", s[0], s[1], len(text))}, "Content-Type": {o.contentType},
		})
		if err == nil {
			_, err = io.WriteString(part, text[s[0]:s[1]+1])
		}
		if err != nil {
			panic(err) // a Buffer takes all
		}
	}
	_ = w.Close() // of a Buffer
	o.status, o.contentType = 206, "multipart/byteranges; boundary="+boundary
	o.contentLength = strconv.Itoa(b.Len())
	o.body = strings.ReplaceAll(b.String(), w.Boundary(), boundary)
	return o
}

// got reads an outcome off an answer.
func got(rec *httptest.ResponseRecorder) outcome {
	h := rec.Header()
	o := outcome{
		status: rec.Code, contentRange: h.Get("Content-Range"), contentLength: h.Get("Content-Length"), contentType: h.Get("Content-Type"),
		etag: h.Get("ETag"), modified: h.Get("Last-Modified"), acceptance: h.Get("Accept-Ranges"), body: rec.Body.String(),
	}
	if kind, params, err := mime.ParseMediaType(o.contentType); err == nil && kind == "multipart/byteranges" {
		o.contentType = strings.ReplaceAll(o.contentType, params["boundary"], boundary)
		o.body = strings.ReplaceAll(o.body, params["boundary"], boundary)
	}
	return o
}

// A deviation is where http.FileServer does not do what RFC 9110 says, or what is
// safe where that leaves a choice.
type deviation struct {
	section string // of RFC 9110
	what    string
	applies func(p *probe, size int, reference outcome) bool
	seen    int
}

// deviations are all there are. What differs and is not here is a fault, and so is what
// is here and does not differ.
func deviations() []*deviation {
	ranged := func(p *probe) bool { return p.ranges.lines != nil }
	ignores := func(p *probe, size int) bool { return ranged(p) && p.ranges.spans(size) == nil }
	lines := func(p *probe, names ...string) bool {
		for _, name := range names {
			if len(p.fields[name].lines) > 1 {
				return true
			}
		}
		return false
	}
	empty := func(p *probe, name string) bool { l := p.fields[name].lines; return len(l) == 1 && l[0] == "" }
	has := func(p *probe, what ...string) bool {
		for _, w := range what {
			if ranged(p) && strings.Contains(p.ranges.lines[0], w) {
				return true
			}
		}
		return false
	}
	return []*deviation{
		{section: "15.5.13", what: "412 says in its body what it is", applies: func(_ *probe, _ int, ref outcome) bool { return ref.status == 412 }},
		{section: "14.2", what: "Range is for GET alone", applies: func(p *probe, _ int, ref outcome) bool {
			return p.method == "HEAD" && ranged(p) && (ref.status == 206 || ref.status == 416)
		}},
		{section: "14.2", what: "an unknown unit or malformed ranges are ignored, not refused", applies: func(p *probe, size int, ref outcome) bool {
			return ref.status == 416 && ignores(p, size)
		}},
		{section: "14.2", what: "17 ranges, and such that overlap, are ignored", applies: func(p *probe, size int, ref outcome) bool {
			return ref.status == 206 && ignores(p, size) && strings.Contains(p.ranges.lines[0], ",")
		}},
		{section: "14.1.1", what: "positions are digits", applies: func(p *probe, _ int, ref outcome) bool {
			return has(p, "+", " - ") && ref.status != 416
		}},
		{section: "14.1.1", what: "positions may have any number of digits", applies: func(p *probe, _ int, ref outcome) bool {
			return has(p, "99999999999999999999", "18446744073709551616") && ref.status == 416
		}},
		{section: "14.1", what: "names of units know no case", applies: func(p *probe, _ int, ref outcome) bool {
			return has(p, "BYTES") && ref.status == 416
		}},
		{section: "14.1.2", what: "no octets are not satisfiable, and not a part either", applies: func(_ *probe, _ int, ref outcome) bool {
			return ref.status == 206 && ref.contentLength == "0"
		}},
		{section: "14.2", what: "several Range lines are none", applies: func(p *probe, _ int, ref outcome) bool {
			return len(p.ranges.lines) > 1 && ref.status != 200
		}},
		{section: "5.3", what: "the lines of If-Match and If-None-Match are one list", applies: func(p *probe, _ int, _ outcome) bool {
			return lines(p, "If-Match", "If-None-Match")
		}},
		{section: "13.1.3, 13.1.4", what: "several dates are none", applies: func(p *probe, _ int, _ outcome) bool {
			return lines(p, "If-Modified-Since", "If-Unmodified-Since")
		}},
		{section: "13.1.1", what: "an empty If-Match matches nothing", applies: func(p *probe, _ int, _ outcome) bool { return empty(p, "If-Match") }},
		{section: "13.1.3", what: "If-Modified-Since is ignored beside an If-None-Match, if empty", applies: func(p *probe, _ int, ref outcome) bool {
			return empty(p, "If-None-Match") && ref.status == 304
		}},
	}
}

// probes are the combinations that can make a difference: all conditions with all, over a
// few ranges; all ranges with all forms of If-Range, over the outcomes that conditions
// can have.
func probes(tag string) (list []*probe) {
	ways := conditionsOf(tag)
	ranges := rangings()
	for _, method := range []string{"GET", "HEAD"} {
		for _, match := range ways["If-Match"] {
			for _, unmodified := range ways["If-Unmodified-Since"] {
				for _, noneMatch := range ways["If-None-Match"] {
					for _, modified := range ways["If-Modified-Since"] {
						r := ranges[len(list)%2] // none, and one octet
						list = append(list, &probe{method, map[string]field{
							"If-Match": match, "If-Unmodified-Since": unmodified, "If-None-Match": noneMatch, "If-Modified-Since": modified,
						}, r})
					}
				}
			}
		}
		for _, r := range ranges {
			for _, ifRange := range ways["If-Range"] {
				for name, fields := range ways {
					if name == "If-Range" {
						fields = fields[:1] // no condition
					} else {
						fields = fields[1:4]
					}
					for _, f := range fields {
						p := &probe{method, map[string]field{name: f}, r}
						p.fields["If-Range"] = ifRange
						list = append(list, p)
					}
				}
			}
		}
	}
	return list
}

func TestMatrix(t *testing.T) {
	files := map[string]string{"0.txt": "", "1.txt": "x", "1000.txt": pattern(1000)}
	dir := tree(t, files)
	h := serve(t, dir, gateway.Options{})
	reference := http.FileServer(http.Dir(dir))
	known := deviations()
	total, statuses := 0, map[int]int{}
	for name, text := range files {
		tag := get(h, "GET", "/"+name).Header().Get("ETag")
		for _, p := range probes(tag) {
			total++
			req := &http.Request{Method: p.method, URL: &url.URL{Path: "/" + name}, Header: p.header(), Host: "example.com"}
			rec, ref := httptest.NewRecorder(), httptest.NewRecorder()
			h.ServeHTTP(rec, req.WithContext(t.Context()))
			ref.Header().Set("ETag", tag)
			reference.ServeHTTP(ref, req)

			a, want := got(rec), p.expected(text, tag)
			if p.method == "HEAD" && want.status == 200 {
				want.body = "" // of errors the recorder sees a body that net/http leaves out
			}
			statuses[a.status]++
			describe := func() string { return fmt.Sprintf("%s %s %.200v", p.method, name, p.header()) }
			if a != want {
				t.Errorf("%s:\n%+v, want\n%+v", describe(), a, want)
			}
			b, deviates := got(ref), false
			if b.status == 416 {
				b.body = beyond(len(text)) // it says so in words of its own
			}
			for _, d := range known {
				if d.applies(p, len(text), b) {
					deviates = true
					if a != b {
						d.seen++
					}
				}
			}
			if a != b && !deviates {
				t.Errorf("%s:\n%+v, but http.FileServer\n%+v", describe(), a, b)
			}
			if t.Failed() {
				t.FailNow() // thousands would follow
			}
		}
	}
	for _, d := range known {
		if d.seen == 0 {
			t.Errorf("RFC 9110 §%s, %s: http.FileServer does the same", d.section, d.what)
		}
		t.Logf("RFC 9110 §%s: %s (%d)", d.section, d.what, d.seen)
	}
	t.Logf("%d combinations, by status %v", total, statuses)
}

// A part is one of several ranges in an answer.
type part struct{ field, text string }

// multi reads the parts of a multipart/byteranges body.
func multi(t *testing.T, body, boundary string) (parts []part) {
	t.Helper()
	r := multipart.NewReader(strings.NewReader(body), boundary)
	for {
		p, err := r.NextPart()
		if errors.Is(err, io.EOF) {
			return parts
		}
		if err != nil {
			t.Errorf("part %d: %v", len(parts), err)
			return nil
		}
		b, err := io.ReadAll(p)
		if err != nil {
			t.Errorf("part %d: %v", len(parts), err)
		}
		parts = append(parts, part{p.Header.Get("Content-Range"), string(b)})
	}
}

// isPart tells whether got are the octets of text that a Content-Range says.
func isPart(field, got, text string) bool {
	var first, last, size int
	if n, err := fmt.Sscanf(field, "bytes %d-%d/%d", &first, &last, &size); n != 3 || err != nil {
		return false
	}
	return size == len(text) && first >= 0 && first <= last && last < size && got == text[first:last+1]
}
