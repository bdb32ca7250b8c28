package encode_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"

	"github.com/larderhq/larder"
	"github.com/larderhq/larder/internal/encode"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// An origin answers requests as it likes.
type origin func(r *http.Request) (*http.Response, error)

func (o origin) RoundTrip(r *http.Request) (*http.Response, error) { return o(r) }

// fields makes a header of `Name: value` lines.
func fields(lines ...string) http.Header {
	h := http.Header{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		h.Add(name, value)
	}
	return h
}

// says is an origin that always says the same; a negative length is unknown.
func says(status int, body string, length int64, lines ...string) origin {
	h := fields(lines...)
	return func(r *http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode: status, Header: h, ContentLength: length, Request: r,
			Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Body: io.NopCloser(strings.NewReader(body)),
		}, nil
	}
}

func request(method string, lines ...string) *http.Request {
	r := httptest.NewRequest(method, "http://example.org/", nil)
	r.Header = fields(lines...)
	return r
}

// ask sends one request through a layer over o.
func ask(t *testing.T, o http.RoundTripper, options encode.Options, method string, lines ...string) *http.Response {
	t.Helper()
	res, err := encode.RoundTripper(o, options).RoundTrip(request(method, lines...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return res
}

// decode undoes a coding, gzip by another library than the one that did it.
func decode(coding string, r io.Reader) (io.Reader, error) {
	switch coding {
	case "gzip":
		return gzip.NewReader(r)
	case "br":
		return brotli.NewReader(r), nil
	case "zstd":
		return zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
	}
	return r, nil
}

// content is what a client makes of a response.
func content(t *testing.T, res *http.Response) string {
	t.Helper()
	r, err := decode(res.Header.Get("Content-Encoding"), res.Body)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func wantFields(t *testing.T, what string, got http.Header, want ...string) {
	t.Helper()
	if h := fields(want...); !maps.EqualFunc(got, h, slices.Equal) {
		t.Errorf("%s: the header is %q, not %q", what, got, h)
	}
}

var page = strings.Repeat("Lorem ipsum dolor sit amet, consetetur. ", 100)

// html is the header of page.
var html = []string{"Content-Type: text/html", "Cache-Control: max-age=60"}

func TestENC02_EachCoding(t *testing.T) {
	for _, coding := range all {
		o := says(200, page, int64(len(page)), "Content-Type: text/html; charset=utf-8", `Etag: "x"`, "Content-Length: 4000",
			"Content-Md5: a", "Digest: b", "Content-Digest: c", "Repr-Digest: d", "Accept-Ranges: bytes", "Last-Modified: e", "Vary: Origin")
		res := ask(t, o, encode.Options{}, "GET", "Accept-Encoding: "+coding)
		wantFields(t, coding, res.Header, "Content-Type: text/html; charset=utf-8", `Etag: W/"x-`+coding+`"`, "Content-Encoding: "+coding,
			"Last-Modified: e", "Vary: Origin", "Vary: Accept-Encoding")
		if !slices.Equal(res.TransferEncoding, []string{"chunked"}) { // a connection that ends is no longer what ends it
			t.Errorf("%s: the transfer is %q", coding, res.TransferEncoding)
		}
		if res.ContentLength != -1 || res.Uncompressed || res.StatusCode != 200 || res.Request == nil {
			t.Errorf("%s: the response is %+v", coding, res)
		}
		sent, err := io.ReadAll(res.Body)
		if err != nil || len(sent) >= len(page)/4 {
			t.Errorf("%s: %d octets became %d (%v)", coding, len(page), len(sent), err)
		}
		res.Body = io.NopCloser(bytes.NewReader(sent))
		if got := content(t, res); got != page {
			t.Errorf("%s: %d octets were decoded, not those of the page", coding, len(got))
		}
	}
}

func TestENC01_OnlyWhatTheClientAccepts(t *testing.T) {
	o := says(200, page, -1, html...)
	for _, accept := range [][]string{
		nil,
		{"Accept-Encoding: "},
		{"Accept-Encoding: identity"},
		{"Accept-Encoding: deflate"},
		{"Accept-Encoding: br;q=0, gzip;q=0, zstd;q=0, *"},
		{"Accept-Encoding: *;q=0"},
		{"Accept-Encoding: gzip;q=0.5, identity"},
	} {
		res := ask(t, o, encode.Options{}, "GET", accept...)
		wantFields(t, strings.Join(accept, ""), res.Header, append(slices.Clone(html), "Vary: Accept-Encoding")...)
		if content(t, res) != page {
			t.Errorf("%q: the page is another", accept)
		}
	}
	res := ask(t, o, encode.Options{Codings: []string{"gzip", "nonsense"}}, "GET", "Accept-Encoding: br, gzip;q=0.1, nonsense")
	if got := res.Header.Get("Content-Encoding"); got != "gzip" || content(t, res) != page {
		t.Errorf("the coding is %q", got)
	}
}

// Another client must not get from the store what it excludes, hence Vary.
func TestENC03_LeftAlone(t *testing.T) {
	small, known := int64(255), int64(len(page))
	for _, c := range []struct {
		name   string
		status int
		length int64
		header string
		asked  string
		vary   bool
	}{
		{"encoded", 200, known, "Content-Type: text/html|Content-Encoding: gzip", "", true},
		{"encoded, of a type that does not pay", 200, known, "Content-Type: application/zip|Content-Encoding: gzip", "", true},
		{"by a dictionary", 200, known, "Content-Type: text/html|Content-Encoding: dcb|Vary: accept-encoding, available-dictionary", "", true},
		{"no-transform", 200, known, "Content-Type: text/html|Cache-Control: public, No-Transform", "", true},
		{"client's no-transform", 200, known, "Content-Type: text/html", "Cache-Control: no-transform", true},
		{"part", 206, known, "Content-Type: text/html|Content-Range: bytes 0-3999/9000", "Range: bytes=0-3999", true},
		{"part without Content-Range", 206, known, "Content-Type: text/html", "", true},
		{"Content-Range", 416, -1, "Content-Type: text/html|Content-Range: bytes */9", "", true},
		{"no content", 204, 0, "Content-Type: text/html", "", true},
		{"no content, nor length", 204, -1, "Content-Type: text/html", "", true},
		{"reset", 205, -1, "Content-Type: text/html", "", true},
		{"difference", 226, known, "Content-Type: text/html", "", true},
		{"small", 200, small, "Content-Type: text/html", "", true},
		{"image", 200, known, "Content-Type: image/png", "", false},
		{"woff2", 200, known, "Content-Type: font/woff2", "", false},
		{"events", 200, -1, "Content-Type: Text/Event-Stream; charset=utf-8", "", false},
		{"no type", 200, known, "", "", false},
		{"two types", 200, known, "Content-Type: text/html|Content-Type: text/plain", "", false},
		{"varies on all", 200, small, "Content-Type: text/html|Vary: *", "", true},
	} {
		header := append(slices.DeleteFunc(strings.Split(c.header, "|"), func(s string) bool { return s == "" }), `Etag: "x"`, "Content-Length: 1", "Repr-Digest: a")
		asked := append(slices.DeleteFunc([]string{c.asked}, func(s string) bool { return s == "" }), "Accept-Encoding: br")
		res := ask(t, says(c.status, page, c.length, header...), encode.Options{}, "GET", asked...)
		if c.vary && !strings.Contains(strings.ToLower(c.header), "vary") {
			header = append(header, "Vary: Accept-Encoding")
		}
		wantFields(t, c.name, res.Header, header...)
		if b, err := io.ReadAll(res.Body); string(b) != page || err != nil || res.ContentLength != c.length {
			t.Errorf("%s: %d octets, %v, length %d", c.name, len(b), err, res.ContentLength)
		}
	}
}

func TestENC03_Statuses(t *testing.T) {
	for status, want := range map[int]string{200: "br", 203: "br", 404: "br", 410: "br", 500: "br", 503: "br", 201: "", 206: "", 302: "", 304: ""} {
		res := ask(t, says(status, page, -1, html...), encode.Options{}, "GET", "Accept-Encoding: br")
		if got := res.Header.Get("Content-Encoding"); got != want {
			t.Errorf("%d: %q, not %q", status, got, want)
		}
	}
}

func TestENC03_OtherMethods(t *testing.T) {
	for _, method := range []string{"POST", "PUT", "OPTIONS", "QUERY"} {
		res := ask(t, says(200, page, -1, html...), encode.Options{}, method, "Accept-Encoding: br")
		wantFields(t, method, res.Header, html...)
	}
}

func TestTypes(t *testing.T) {
	for kind, want := range map[string]bool{
		"text/plain": true, "TEXT/CSS ;charset=x": true, "application/json": true, "application/ld+json": true, "image/svg+xml": true,
		"application/wasm": true, "font/ttf": true, "application/javascript": true,
		"image/jpeg": false, "video/mp4": false, "application/zip": false, "application/octet-stream": false, "multipart/mixed": false,
		"application/jsonx": false, "texting/plain": false, "": false,
	} {
		res := ask(t, says(200, page, -1, "Content-Type: "+kind), encode.Options{}, "GET", "Accept-Encoding: gzip")
		if got := res.Header.Get("Content-Encoding") != ""; got != want {
			t.Errorf("%q: compressed is %v", kind, got)
		}
	}

	own := encode.Options{MinSize: 10, Types: func(kind string) bool { return kind == "application/x-own" || kind == "text/event-stream" }}
	for _, c := range []struct {
		kind   string
		length int64
		want   bool
	}{{"Application/X-Own;a=b", 10, true}, {"application/x-own", 9, false}, {"text/html", 99, false}, {"text/event-stream", 99, false}} {
		res := ask(t, says(200, page, c.length, "Content-Type: "+c.kind), own, "GET", "Accept-Encoding: gzip")
		if got := res.Header.Get("Content-Encoding") != ""; got != c.want {
			t.Errorf("%q of %d octets: compressed is %v", c.kind, c.length, got)
		}
	}
}

func TestNoCodingsNoLayer(t *testing.T) {
	base := http.NewFileTransport(http.Dir("."))
	if got := encode.RoundTripper(base, encode.Options{Codings: []string{}}); got != base {
		t.Error("there is a layer that does nothing")
	}
}

func TestENC02_HeadIsAsGet(t *testing.T) {
	header := append(slices.Clone(html), `Etag: W/"x"`, "Content-Length: 4000", "Accept-Ranges: bytes")
	for _, length := range []int64{4000, 200, -1} {
		o := says(200, "", length, header...)
		get := ask(t, o, encode.Options{}, "GET", "Accept-Encoding: zstd")
		head := ask(t, o, encode.Options{}, "HEAD", "Accept-Encoding: zstd")
		if !reflect.DeepEqual(get.Header, head.Header) || get.ContentLength != head.ContentLength {
			t.Errorf("length %d: HEAD has %q and %d, GET %q and %d", length, head.Header, head.ContentLength, get.Header, get.ContentLength)
		}
		if b, err := io.ReadAll(head.Body); len(b) > 0 || err != nil {
			t.Errorf("HEAD has content: %q %v", b, err)
		}
		if coded := head.Header.Get("Etag") == `W/"x~zstd"`; coded != (length != 200) {
			t.Errorf("length %d: the tag is %q", length, head.Header.Get("Etag"))
		}
	}
}

func TestENC02_Tags(t *testing.T) {
	for tag, want := range map[string]string{
		`"x"`: `W/"x-br"`, `W/"x"`: `W/"x~br"`, `""`: `W/"-br"`, `"a-br"`: `W/"a-br-br"`, `W/"a-br"`: `W/"a-br~br"`, "x": "", `"x`: "", `w/"x"`: "",
	} {
		res := ask(t, says(200, page, -1, append(html, "Etag: "+tag)...), encode.Options{}, "GET", "Accept-Encoding: br")
		if got := res.Header.Get("Etag"); got != want {
			t.Errorf("%q became %q, not %q", tag, got, want)
		}
	}
	two := ask(t, says(200, page, -1, append(html, `Etag: "x"`, `Etag: "y"`)...), encode.Options{}, "GET", "Accept-Encoding: br")
	if got := two.Header["Etag"]; got != nil {
		t.Errorf("two tags became %q", got)
	}
}

// What the origin is asked, and what its answer becomes.
func TestENC02_Validation(t *testing.T) {
	for _, c := range []struct {
		name                         string
		method, accept, asked, heard string
		status                       int
		tag, want                    string
	}{
		{"ours", "GET", "br", `W/"x-br"`, `"x"`, 304, `"x"`, `W/"x-br"`},
		{"ours, once weak", "GET", "br", `W/"x~br"`, `W/"x"`, 304, `W/"x"`, `W/"x~br"`},
		{"weak by now", "GET", "br", `W/"x-br"`, `"x"`, 304, `W/"x"`, `W/"x-br"`},
		{"HEAD", "HEAD", "br", `W/"x-br"`, `"x"`, 304, `"x"`, `W/"x-br"`},
		{"among others", "GET", "gzip, br", `"y", W/"x-br", W/"x-gzip", z`, `"y", "x", W/"x-gzip"`, 304, `"x"`, `W/"x-br"`},
		{"another was confirmed", "GET", "br", `"y", W/"x-br"`, `"y", "x"`, 304, `"y"`, `"y"`},
		{"not ours", "GET", "br", `"x-br"`, `"x-br"`, 304, `"x-br"`, `"x-br"`},
		{"not ours, weak", "GET", "br", `W/"x-gz"`, `W/"x-gz"`, 304, `W/"x-gz"`, `W/"x-gz"`},
		{"of another coding", "GET", "br", `W/"x-gzip"`, `W/"x-gzip"`, 200, `"x"`, `W/"x-br"`},
		{"of no coding any more", "GET", "identity", `W/"x-br"`, `W/"x-br"`, 200, `"x"`, `"x"`},
		{"any", "GET", "br", `*`, `*`, 304, `"x"`, `"x"`},
		{"malformed", "GET", "br", `x, "y`, `x, "y`, 304, `"x"`, `"x"`},
		{"changed", "GET", "br", `W/"x-br"`, `"x"`, 200, `"y"`, `W/"y-br"`},
		{"the uncoded of another time", "GET", "br", `"x"`, `"x"`, 304, `"x"`, `"x"`},
		{"no tag in the answer", "GET", "br", `W/"x-br"`, `"x"`, 304, ``, ``},
		{"unsafe", "PUT", "", `W/"x-br", W/"y~gzip"`, `"x", W/"y"`, 412, `"x"`, `"x"`},
		{"looks like ours", "GET", "identity", `W/"x-br~identity"`, `W/"x-br"`, 304, `W/"x-br"`, `W/"x-br~identity"`},
		{"looks like ours, again", "GET", "br", `W/"x-br~identity~identity"`, `W/"x-br~identity"`, 304, `W/"x-br~identity"`, `W/"x-br~identity~identity"`},
	} {
		var heard []string
		o := origin(func(r *http.Request) (*http.Response, error) {
			heard = r.Header["If-None-Match"]
			lines := []string{"Content-Type: text/html"}
			if c.tag != "" {
				lines = append(lines, "Etag: "+c.tag)
			}
			return says(c.status, "", -1, lines...)(r)
		})
		sent := request(c.method, "Accept-Encoding: "+c.accept, "If-None-Match: "+c.asked)
		before := sent.Header.Clone()
		res, err := encode.RoundTripper(o, encode.Options{}).RoundTrip(sent)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if !slices.Equal(heard, []string{c.heard}) {
			t.Errorf("%s: the origin is asked %q, not %q", c.name, heard, c.heard)
		}
		if got := res.Header.Get("Etag"); got != c.want {
			t.Errorf("%s: the answer has %q, not %q", c.name, got, c.want)
		}
		if !reflect.DeepEqual(sent.Header, before) || res.Request != sent {
			t.Errorf("%s: the request was changed to %q", c.name, sent.Header)
		}
	}
}

// As behind another layer of this kind, whose tags are not for us to undo.
func TestENC02_TagsThatLookLikeOurs(t *testing.T) {
	for tag, want := range map[string]string{
		`W/"x-br"`: `W/"x-br~identity"`, `W/"x~gzip"`: `W/"x~gzip~identity"`, `W/"x-br~identity"`: `W/"x-br~identity~identity"`,
		`"x-br"`: `"x-br"`, `W/"x-y"`: `W/"x-y"`, `W/"br"`: `W/"br"`, `x`: `x`,
	} {
		for _, method := range []string{"GET", "PUT"} {
			res := ask(t, says(200, page, -1, "Content-Encoding: br", "Etag: "+tag), encode.Options{}, method, "Accept-Encoding: br")
			if got := res.Header.Get("Etag"); got != want {
				t.Errorf("%s: %q became %q, not %q", method, tag, got, want)
			}
		}
	}
}

// The fields of a 304 take the place of those that are stored with the octets.
func TestENC02_NotModifiedIsOfTheSameForm(t *testing.T) {
	const about = "Repr-Digest: a|Digest: b|Content-Length: 7|Accept-Ranges: bytes|Expires: 0"
	for _, c := range []struct{ name, asked, accept, header, want string }{
		{"coded", `W/"x-br"`, "br", `Etag: "x"|` + about, `Etag: W/"x-br"|Expires: 0|Vary: Accept-Encoding`},
		{"coded, with Vary", `W/"x-br"`, "br", `Etag: "x"|Vary: Cookie|` + about, `Etag: W/"x-br"|Vary: Cookie|Vary: Accept-Encoding|Expires: 0`},
		{"coded by another", `W/"x-br~identity"`, "br", `Etag: W/"x-br"|Content-Length: 7`, `Etag: W/"x-br~identity"|Content-Length: 7`},
		{"not coded", `"x"`, "br", `Etag: "x"|` + about, `Etag: "x"|` + about},
		{"not coded, with Vary", `"x"`, "br", `Etag: "x"|Vary: Cookie`, `Etag: "x"|Vary: Cookie|Vary: Accept-Encoding`},
		{"not coded, of a type that pays", `"x"`, "identity", `Etag: "x"|Content-Type: text/css`, `Etag: "x"|Content-Type: text/css|Vary: Accept-Encoding`},
		{"perhaps coded", "", "br", about, "Expires: 0"},
		{"perhaps coded, with Vary", "", "br", "Vary: Cookie|" + about, "Vary: Cookie|Vary: Accept-Encoding|Expires: 0"},
		{"for nobody's coding", "", "identity", about, about},
	} {
		asked := []string{"Accept-Encoding: " + c.accept, "If-Modified-Since: Tue, 01 Jul 2025 00:00:00 GMT"}
		if c.asked != "" {
			asked = append(asked, "If-None-Match: "+c.asked)
		}
		res := ask(t, says(304, "", 0, strings.Split(c.header, "|")...), encode.Options{}, "GET", asked...)
		wantFields(t, c.name, res.Header, strings.Split(c.want, "|")...)
	}
}

func TestENC02_OtherConditionsGoOn(t *testing.T) {
	for _, c := range []struct{ asked, heard string }{
		{`If-Match: W/"x-br"|Accept-Encoding: br`, ""},
		{`If-Modified-Since: Tue, 01 Jul 2025 00:00:00 GMT|Accept-Encoding: br`, ""},
		{`Range: bytes=5-|Accept-Encoding: br`, ""},
		{`Range: bytes=5-|If-Range: "x"|Accept-Encoding: br`, ""},
		{`Range: bytes=5-|If-Range: W/"x-br"|Accept-Encoding: br`, ""},
		{`Range: bytes=5-|If-Range: Tue, 01 Jul 2025 00:00:00 GMT|Accept-Encoding: br`, "Accept-Encoding: br"},
		{`Range: bytes=5-|If-Range: nonsense|Accept-Encoding: br`, "Accept-Encoding: br"},
		{`Range: bytes=5-|If-Range: Tue, 01 Jul 2025 00:00:00 GMT|Accept-Encoding: identity`, ""},
		{`Accept-Encoding: br, dcb, dcz|Available-Dictionary: :a:|Dictionary-Id: "b"`, ""},
	} {
		var heard http.Header
		o := origin(func(r *http.Request) (*http.Response, error) {
			heard = r.Header
			return says(200, "", 0)(r)
		})
		ask(t, o, encode.Options{}, "GET", strings.Split(c.asked, "|")...)
		if c.heard == "" {
			c.heard = c.asked
		}
		wantFields(t, c.asked, heard, strings.Split(c.heard, "|")...)
	}
}

func TestENC05_DictionariesPassThrough(t *testing.T) {
	dictionary := `Use-As-Dictionary: match="/a*"`
	res := ask(t, says(200, page, -1, append(html, dictionary)...), encode.Options{}, "GET", "Accept-Encoding: br, dcb")
	wantFields(t, "coded", res.Header, append(html, dictionary, "Content-Encoding: br", "Vary: Accept-Encoding")...)
}

func TestHeaderOfTheOriginIsNotTouched(t *testing.T) {
	h := fields("Content-Type: text/html", `Etag: "x"`, "Vary: Origin", "Content-Length: 4000")
	h["Vary"] = append(make([]string, 0, 4), h["Vary"]...)
	before := h.Clone()
	o := origin(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: h, ContentLength: -1, Body: io.NopCloser(strings.NewReader(page))}, nil
	})
	for _, accept := range []string{"br", "identity"} {
		ask(t, o, encode.Options{}, "GET", "Accept-Encoding: "+accept)
		if !reflect.DeepEqual(h, before) || h["Vary"][:2][1] != "" {
			t.Fatalf("%s: it is %q", accept, h)
		}
	}
}

func TestErrorsOfTheOriginPass(t *testing.T) {
	broken := errors.New("broken")
	_, err := encode.RoundTripper(origin(func(*http.Request) (*http.Response, error) { return nil, broken }), encode.Options{}).RoundTrip(request("GET"))
	if err != broken {
		t.Errorf("it is %v", err)
	}
}

// A serving origin, asked over the network, as it will be.
func serve(t *testing.T, h http.HandlerFunc) http.RoundTripper {
	t.Helper()
	server := httptest.NewServer(h)
	base := &http.Transport{DisableCompression: true}
	t.Cleanup(func() { base.CloseIdleConnections(); server.Close() })
	return origin(func(r *http.Request) (*http.Response, error) {
		out := r.Clone(r.Context())
		out.RequestURI, out.URL.Scheme, out.URL.Host = "", "http", strings.TrimPrefix(server.URL, "http://")
		return base.RoundTrip(out)
	})
}

func TestENC02_ServeContentConfirmsOurTag(t *testing.T) {
	for _, tag := range []string{`"v1"`, `W/"v1"`} {
		base := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Etag"] = []string{tag}
			http.ServeContent(w, r, "page.html", time.Time{}, strings.NewReader(page))
		})
		first := ask(t, base, encode.Options{}, "GET", "Accept-Encoding: br")
		ours := first.Header.Get("Etag")
		if content(t, first) != page || ours == "" {
			t.Fatalf("%s: the first answer is %+v", tag, first)
		}
		second := ask(t, base, encode.Options{}, "GET", "Accept-Encoding: br", "If-None-Match: "+ours)
		if second.StatusCode != 304 || second.Header.Get("Etag") != ours || second.Header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%s: the second answer is %+v", tag, second)
		}
		third := ask(t, base, encode.Options{}, "GET", "Accept-Encoding: gzip", "If-None-Match: "+ours)
		if third.StatusCode != 200 || content(t, third) != page {
			t.Errorf("%s: another coding was confirmed: %+v", tag, third)
		}
	}
}

// The layer where it belongs: what a cache above it stores and serves.
func TestENC02_UnderACache(t *testing.T) {
	asked := map[string]int{}
	base := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked[r.URL.Path+" "+r.Header.Get("Accept-Encoding")]++
		w.Header().Set("Etag", `"v1"`)
		w.Header().Set("Cache-Control", map[string]string{"/kept": "max-age=600", "/checked": "no-cache"}[r.URL.Path])
		http.ServeContent(w, r, "page.html", time.Time{}, strings.NewReader(page))
	})
	var cache larder.Cache
	defer cache.Close()
	handler := cache.Proxy(encode.RoundTripper(base, encode.Options{}))
	get := func(path string, lines ...string) *http.Response {
		r := httptest.NewRequest("GET", "http://example.org"+path, nil)
		r.Header = fields(lines...)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w.Result()
	}

	for _, path := range []string{"/kept", "/checked"} {
		for range 3 {
			for _, coding := range []string{"br", "identity", "gzip"} {
				res := get(path, "Accept-Encoding: "+coding)
				if got := res.Header.Get("Content-Encoding"); res.StatusCode != 200 || got != strings.TrimPrefix(coding, "identity") || content(t, res) != page {
					t.Fatalf("%s for %s: %+v", path, coding, res)
				}
			}
		}
	}
	if n := asked["/kept br"]; n != 1 {
		t.Errorf("a stored object was asked for %d times", n)
	}
	if n := asked["/checked br"]; n != 3 {
		t.Errorf("an object to be checked was asked for %d times", n)
	}
	if got := get("/checked", "Accept-Encoding: br").Header.Get("Cache-Status"); !strings.Contains(got, "fwd-status=304") {
		t.Errorf("the coded form was not confirmed: %s", got)
	}

	whole, _ := io.ReadAll(get("/kept", "Accept-Encoding: br").Body)
	part := get("/kept", "Accept-Encoding: br", "Range: bytes=3-9")
	if b, _ := io.ReadAll(part.Body); part.StatusCode != 206 || !bytes.Equal(b, whole[3:10]) ||
		part.Header.Get("Content-Range") != "bytes 3-9/"+strconv.Itoa(len(whole)) || part.Header.Get("Content-Encoding") != "br" {
		t.Errorf("the range is not one of the coded octets: %+v", part)
	}
	if res := get("/kept", "Accept-Encoding: br", "Range: bytes=3-9", `If-Range: W/"v1-br"`); res.StatusCode != 200 {
		t.Errorf("a weak tag joins octets: %d", res.StatusCode)
	}
	if res := get("/kept", "Accept-Encoding: br", `If-None-Match: W/"v1-br"`); res.StatusCode != 304 {
		t.Errorf("the client's copy was not confirmed: %d", res.StatusCode)
	}
}

func TestENC03_RangesFromTheOriginAreNotCoded(t *testing.T) {
	base := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Etag", `"v1"`)
		http.ServeContent(w, r, "page.html", time.Time{}, strings.NewReader(page))
	})
	res := ask(t, base, encode.Options{}, "GET", "Accept-Encoding: br", "Range: bytes=0-999", `If-Range: "v1"`)
	if res.StatusCode != 206 || res.Header.Get("Etag") != `"v1"` || res.Header.Get("Vary") != "Accept-Encoding" || content(t, res) != page[:1000] {
		t.Errorf("it is %+v", res)
	}
}

// Digests in trailers, announced or not, are of the uncoded form as well.
func TestENC02_Trailers(t *testing.T) {
	base := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("Trailer", "Repr-Digest, X-Announced")
		io.WriteString(w, page)
		w.Header().Set("Repr-Digest", "a")
		w.Header().Set("X-Announced", "b")
		w.Header().Set(http.TrailerPrefix+"X-Sudden", "c")
		w.Header().Set(http.TrailerPrefix+"Digest", "d")
		w.Header().Set(http.TrailerPrefix+"Etag", `"x"`)
	})
	res := ask(t, base, encode.Options{}, "GET", "Accept-Encoding: gzip")
	if names := slices.Collect(maps.Keys(res.Trailer)); !slices.Equal(names, []string{"X-Announced"}) {
		t.Errorf("announced are %q", names)
	}
	if content(t, res) != page {
		t.Error("the page is another")
	}
	wantFields(t, "trailers", res.Trailer, "X-Announced: b", "X-Sudden: c")
}

func TestEarlyAnswersAndCancellationPass(t *testing.T) {
	begun := make(chan struct{})
	base := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</a>")
		w.WriteHeader(103)
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, page)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		close(begun)
	})
	ctx, cancel := context.WithCancel(t.Context())
	early := 0
	ctx = withEarly(ctx, func() { early++ })
	res, err := encode.RoundTripper(base, encode.Options{}).RoundTrip(request("GET", "Accept-Encoding: zstd").WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if n, err := res.Body.Read(make([]byte, 1<<10)); n == 0 || err != nil || early != 1 {
		t.Errorf("%d octets, %v, %d early answers", n, err, early)
	}
	cancel()
	if _, err := io.ReadAll(res.Body); !errors.Is(err, context.Canceled) {
		t.Errorf("a body that was called off ends with %v", err)
	}
	<-begun
}

// No more bodies are compressed at a time than there are places; one that finds none
// in time is left as it is, and one that has ended makes room.
func TestPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		layer := encode.RoundTripper(origin(func(r *http.Request) (*http.Response, error) {
			return &http.Response{
				StatusCode: 200, Header: http.Header{"Content-Type": {"text/plain"}}, ContentLength: 1000,
				Body: io.NopCloser(strings.NewReader(strings.Repeat("x", 1000))), Request: r,
			}, nil
		}), encode.Options{Bodies: 2})
		ask := func() (*http.Response, bool) {
			res, err := layer.RoundTrip(request("GET", "Accept-Encoding: gzip"))
			if err != nil {
				t.Fatal(err)
			}
			return res, res.Header.Get("Content-Encoding") == "gzip"
		}
		first, one := ask()
		second, two := ask()
		began := time.Now()
		third, three := ask()
		if waited := time.Since(began); !one || !two || three || waited != time.Second || third.Header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("compressed %t, %t, %t after %v: %q", one, two, three, waited, third.Header)
		}
		if _, err := io.Copy(io.Discard, first.Body); err != nil { // read to its end
			t.Error(err)
		}
		if _, is := ask(); !is {
			t.Error("one that was read keeps its place")
		}
		second.Body.Close() // unread
		second.Body.Close()
		if _, is := ask(); !is {
			t.Error("one that was closed keeps its place")
		}
		if _, is := ask(); is {
			t.Error("closing twice makes room twice")
		}
	})
}
