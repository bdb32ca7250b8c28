package daemon

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/field"
)

// A thing is what an origin has at one path: its content never changes.
type thing struct {
	content  string
	lifetime string // Cache-Control; empty: none
	tag      string // ETag; empty: none
	modified time.Time
}

// contentOf is text of n octets that tells its offsets apart.
func contentOf(n int) string {
	var b strings.Builder
	for b.Len() < n {
		fmt.Fprintf(&b, "[%d]", b.Len())
	}
	return b.String()[:n]
}

// serve answers as any origin of files does. Range counts for GET alone, and if it is one
// (RFC 9110 14.2).
func (o *thing) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/plain")
	for name, value := range map[string]string{"Cache-Control": o.lifetime, "ETag": o.tag} {
		if value != "" {
			h.Set(name, value)
		}
	}
	if _, ok := field.ParseRange(r.Header.Get("Range")); !ok || r.Method == http.MethodHead {
		r.Header.Del("Range")
	}
	http.ServeContent(w, r, "", o.modified, strings.NewReader(o.content))
}

// agrees tells how an answer by the tiers differs from that of the origin itself, or is
// wrong about what is there; empty: it does not.
func (o *thing) agrees(r *http.Request, got, want answer) string {
	switch {
	case got.broken != nil:
		return got.broken.Error()
	case got.status == 206 || want.status == 206:
		return o.agreesOnRange(r, got, want)
	case got.status != want.status:
		return fmt.Sprintf("status %d, want %d", got.status, want.status)
	case got.status != 416 && got.body != want.body: // of an error, each has words of its own
		return fmt.Sprintf("%d octets, want %d: %.60q", len(got.body), len(want.body), got.body)
	}
	for _, name := range []string{"ETag", "Last-Modified", "Content-Range"} {
		if g, w := got.header.Get(name), want.header.Get(name); g != w && !(got.status == 304 && w == "") { // which need not say all
			return fmt.Sprintf("%s %q, want %q", name, g, w)
		}
	}
	if g, w := got.header.Get("Content-Length"), want.header.Get("Content-Length"); got.status == 200 && g != w {
		return fmt.Sprintf("Content-Length %q, want %q", g, w)
	}
	return ""
}

// agreesOnRange is agrees where one of them has sent a part. Of several ranges, the
// answer may be one part, several, or everything (RFC 9110 14.2, 15.3.7.2).
func (o *thing) agreesOnRange(r *http.Request, got, want answer) string {
	specs, _ := field.ParseRange(r.Header.Get("Range"))
	several := len(specs) > 1
	if !several && (got.status != want.status || got.header.Get("Content-Range") != want.header.Get("Content-Range")) {
		return fmt.Sprintf("%d %q, want %d %q", got.status, got.header.Get("Content-Range"), want.status, want.header.Get("Content-Range"))
	}
	if got.header.Get("ETag") != want.header.Get("ETag") {
		return fmt.Sprintf("ETag %q, want %q", got.header.Get("ETag"), want.header.Get("ETag"))
	}
	if got.status == 200 && several {
		if got.body != o.content {
			return "not all that is there"
		}
		return ""
	}
	sent, err := parts(got)
	if err != nil || got.status != 206 {
		return fmt.Sprintf("%d: %v", got.status, err)
	}
	has := make([]bool, len(o.content))
	for cr, body := range sent {
		if cr.Total != int64(len(o.content)) || cr.Last >= cr.Total || o.content[cr.First:cr.Last+1] != body {
			return fmt.Sprintf("%v has the octets %.60q", cr, body)
		}
		for i := cr.First; i <= cr.Last; i++ {
			has[i] = true
		}
	}
	for _, s := range field.ResolveRanges(specs, int64(len(o.content))) {
		if !has[s.First] || !has[s.Last] {
			return fmt.Sprintf("%v is not all there", s)
		}
	}
	return ""
}

// parts are the parts of a 206.
func parts(a answer) (map[field.ContentRange]string, error) {
	all := map[field.ContentRange]string{}
	add := func(header, body string) error {
		cr, ok := field.ParseContentRange(header)
		if !ok || cr.Last-cr.First+1 != int64(len(body)) {
			return fmt.Errorf("Content-Range %q of %d octets", header, len(body))
		}
		all[cr] = body
		return nil
	}
	kind, params, _ := mime.ParseMediaType(a.header.Get("Content-Type"))
	if kind != "multipart/byteranges" {
		return all, add(a.header.Get("Content-Range"), a.body)
	}
	for m := multipart.NewReader(strings.NewReader(a.body), params["boundary"]); ; {
		p, err := m.NextRawPart()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		var b bytes.Buffer
		if _, err := b.ReadFrom(p); err != nil {
			return nil, err
		}
		if err := add(p.Header.Get("Content-Range"), b.String()); err != nil {
			return nil, err
		}
	}
}

// A range gets the same octets as without tiers, whoever has the object, or parts of it.
func TestTiersRanges(t *testing.T) {
	o := &thing{content: contentOf(5000), lifetime: "max-age=600", tag: `"1"`, modified: documentDate}
	origin, seen := serveOrigin(t, o.serve)
	c := newTiers(t, origin, nil)
	date := documentDate.Format(http.TimeFormat)
	ranges := [][]string{
		{"Range: bytes=0-0"},
		{"Range: bytes=100-199"},
		{"Range: bytes=4000-"},
		{"Range: bytes=-100"},
		{"Range: bytes=-9000"},
		{"Range: bytes=4999-9999"},
		{"Range: bytes=0-4999"},
		{"Range: bytes=0-9,100-109"},
		{"Range: bytes=4990-,0-9,-20"},
		{"Range: bytes=5000-"},
		{"Range: bytes=9000-9001,7000-"},
		{"Range: lines=1-2"},
		{"Range: bytes=9-1"},
		{"Range: bytes=100-199", `If-Range: "1"`},
		{"Range: bytes=100-199", `If-Range: "2"`},
		{"Range: bytes=100-199", `If-Range: W/"1"`},
		{"Range: bytes=100-199", "If-Range: " + date},
		{"Range: bytes=100-199", "If-Range: Wed, 01 Jan 2020 00:00:01 GMT"},
		{"Range: bytes=100-199", `If-None-Match: "1"`},
		{"Range: bytes=100-199", `If-None-Match: "2"`},
		{"Range: bytes=5000-", `If-Range: "2"`},
		{"Range: bytes=100-199", "If-Modified-Since: " + date},
		{"Range: bytes=100-199", `If-Match: "2"`},
		{"Range: bytes=100-199", `If-Match: "1"`},
	}
	whole := func(url, path string) { c.want(c.ask(url, "GET", path, ""), 200, o.content) }
	part := func(url, path, spec string) { c.ask(url, "GET", path, "", "Range: bytes="+spec) }
	for name, prepare := range map[string]func(path string){
		"neither":         func(string) {},
		"parent":          func(path string) { whole(c.parent.URL(), path) },
		"both":            func(path string) { whole(c.edge.URL(), path) },
		"part-of-edge":    func(path string) { part(c.edge.URL(), path, "50-150") },
		"part-of-parent":  func(path string) { part(c.parent.URL(), path, "0-149") },
		"different-parts": func(path string) { part(c.parent.URL(), path, "150-4999"); part(c.edge.URL(), path, "0-149") },
		"all-in-parts":    func(path string) { part(c.edge.URL(), path, "0-2499"); part(c.edge.URL(), path, "2400-4999") },
	} {
		for i, header := range ranges {
			path := fmt.Sprintf("/%s/%d", name, i)
			want := c.ask(origin, "GET", path, "", header...)
			prepare(path)
			before := seen.count()
			for round := range 2 {
				r := &http.Request{Header: http.Header{}}
				r.Header.Set("Range", strings.TrimPrefix(header[0], "Range: "))
				if why := o.agrees(r, c.get(path, header...), want); why != "" {
					t.Errorf("%s, %q, round %d: %s", name, header, round, why)
				}
			}
			if n := seen.count(); n > before && (name == "both" || name == "parent" || name == "all-in-parts") && !strings.Contains(strings.Join(header, " "), "If-Match") {
				t.Errorf("%s, %q: the origin was asked %d times for what was there", name, header, n-before)
			}
			whole(c.edge.URL(), path)
			whole(c.parent.URL(), path)
		}
	}
}
