package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"mime"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/gateway"
)

var (
	local  = gateway.Traits{}
	remote = gateway.Traits{Remote: true}
	bucket = gateway.Traits{Flat: true, Remote: true}
)

const (
	date     = "Mon, 06 May 2024 07:08:09 GMT" // past
	dayLater = "Tue, 07 May 2024 07:08:09 GMT"
	dayEarly = "Sun, 05 May 2024 07:08:09 GMT"
)

func TestStorageIsAskedForWhatIsWanted(t *testing.T) {
	f := holding(remote, map[string]string{"f.txt": "0123456789"})
	h := gateway.New(f, gateway.Options{})
	all := []string{"open f.txt 0+-1", "range f.txt 0+10", "close f.txt"}
	for _, c := range []struct {
		method string
		fields []string
		status int
		asked  []string
	}{
		{"GET", nil, 200, all},
		{"HEAD", nil, 200, []string{"open f.txt 0+0", "close f.txt"}},
		{"HEAD", []string{"Range", "bytes=1-2"}, 200, []string{"open f.txt 0+0", "close f.txt"}},
		{"GET", []string{"Range", "bytes=1-2"}, 206, []string{"open f.txt 1+2", "range f.txt 1+2", "close f.txt"}},
		{"GET", []string{"Range", "bytes=3-"}, 206, []string{"open f.txt 3+-1", "range f.txt 3+7", "close f.txt"}},
		{"GET", []string{"Range", "bytes=-4"}, 206, []string{"open f.txt -4+-1", "range f.txt 6+4", "close f.txt"}},
		{"GET", []string{"Range", "bytes=-0"}, 416, []string{"open f.txt 0+0", "close f.txt"}},
		{"GET", []string{"Range", "bytes=70-90"}, 416, []string{"open f.txt 70+21", "close f.txt"}},
		{"GET", []string{"Range", "bytes=5-2"}, 200, all},
		{"GET", []string{"Range", "lines=1-2"}, 200, all},
		{"GET", []string{"Range", "bytes=0-1,5-6"}, 206, []string{"open f.txt 0+2", "range f.txt 0+2", "range f.txt 5+2", "close f.txt"}},
		// A resumed download is one question, too, if nothing changed.
		{"GET", []string{"Range", "bytes=7-", "If-Range", `"v1"`}, 206, []string{"open f.txt 7+-1", "range f.txt 7+3", "close f.txt"}},
		{"GET", []string{"Range", "bytes=7-", "If-Range", `"v0"`}, 200, []string{"open f.txt 7+-1", "range f.txt 0+10", "close f.txt"}},
		{"GET", []string{"Range", "bytes=7-", "If-Match", `"v1"`}, 206, []string{"open f.txt 7+-1", "range f.txt 7+3", "close f.txt"}},
		{"GET", []string{"Range", "bytes=7-", "If-Match", `"v0"`}, 412, []string{"open f.txt 7+-1", "close f.txt"}},
		{"GET", []string{"If-None-Match", `"v1"`}, 304, []string{"open f.txt 0+-1 unless v1", "close f.txt"}},
		{"GET", []string{"If-None-Match", `W/"v1"`}, 304, []string{"open f.txt 0+-1 unless v1", "close f.txt"}},
		{"GET", []string{"If-None-Match", `"v0"`}, 200, []string{"open f.txt 0+-1 unless v0", "range f.txt 0+10", "close f.txt"}},
		{"HEAD", []string{"If-None-Match", `"v1"`}, 304, []string{"open f.txt 0+0 unless v1", "close f.txt"}},
		// What storage can be asked is one tag. Several are judged here, and so is *.
		{"GET", []string{"If-None-Match", `"v0", "v1"`}, 304, []string{"open f.txt 0+-1", "close f.txt"}},
		{"GET", []string{"If-None-Match", `"v0"`, "If-None-Match", `"v1"`}, 304, []string{"open f.txt 0+-1", "close f.txt"}},
		{"GET", []string{"If-None-Match", `*`}, 304, []string{"open f.txt 0+-1", "close f.txt"}},
		{"GET", []string{"If-Modified-Since", date}, 304, []string{"open f.txt 0+-1 unless since 07:08:09", "close f.txt"}},
		{"GET", []string{"If-Modified-Since", dayEarly}, 200, []string{"open f.txt 0+-1 unless since 07:08:09", "range f.txt 0+10", "close f.txt"}},
		// A tag goes before a date, and what must hold before both.
		{"GET", []string{"If-None-Match", `"v0"`, "If-Modified-Since", date}, 200, []string{"open f.txt 0+-1 unless v0", "range f.txt 0+10", "close f.txt"}},
		{"GET", []string{"If-None-Match", `"v1"`, "If-Match", `"v0"`}, 412, []string{"open f.txt 0+-1", "close f.txt"}},
		{"GET", []string{"If-None-Match", `"v1"`, "If-Match", `"v1"`}, 304, []string{"open f.txt 0+-1", "close f.txt"}},
		{"GET", []string{"If-None-Match", `"v1"`, "If-Unmodified-Since", dayEarly}, 412, []string{"open f.txt 0+-1", "close f.txt"}},
		{"GET", []string{"If-Modified-Since", date, "If-Unmodified-Since", dayLater}, 304, []string{"open f.txt 0+-1", "close f.txt"}},
		{"GET", []string{"If-Modified-Since", date, "If-Modified-Since", date}, 200, all},
	} {
		a := ask(h, c.method, "/f.txt", nil, c.fields...)
		a.is(t, c.status)
		equal(t, fmt.Sprint(c.method, c.fields), f.asked(), c.asked...)
	}
}

func TestTypesAreFoundWithFewOctets(t *testing.T) {
	f := holding(remote, map[string]string{"page": "<!DOCTYPE html>" + strings.Repeat(" ", 2000)})
	h := gateway.New(f, gateway.Options{})
	for _, c := range []struct {
		method, field string
		asked         []string
	}{
		{"GET", "", []string{"open page 0+-1", "range page 0+2015", "close page"}},
		{"HEAD", "", []string{"open page 0+0", "range page 0+512", "close page"}},
		{"GET", "bytes=100-199", []string{"open page 100+100", "range page 0+512", "close page"}},
		{"GET", "bytes=-3", []string{"open page -3+-1", "range page 0+512", "range page 2012+3", "close page"}},
	} {
		fields := []string{"Range", c.field}
		a := ask(h, c.method, "/page", nil, fields[:2*min(len(c.field), 1)]...)
		if got := a.Header().Get("Content-Type"); got != "text/html; charset=utf-8" || a.aborted != nil {
			t.Errorf("%s %s: %s", c.method, c.field, got)
		}
		equal(t, c.method+" "+c.field, f.asked(), c.asked...)
	}
}

func TestUnchangedTellsWhatTheWholeWouldHave(t *testing.T) {
	kept := gateway.Info{Version: "v1", Certain: true, Modified: past, Fields: http.Header{"Cache-Control": {"private"}}}
	f := holding(remote, nil).with("f.txt", "hello", kept).with("page.html", "hello", kept)
	h := gateway.New(f, gateway.Options{Default: time.Minute, Fresh: []gateway.Rule{{"*.html", time.Hour}}})
	for target, lifetime := range map[string]string{"/f.txt": "private", "/page.html": "max-age=3600"} {
		whole := ask(h, "GET", target, nil)
		whole.is(t, 200, "ETag", `"v1"`, "Cache-Control", lifetime, "Content-Length", "5")
		for _, fields := range [][]string{{"If-None-Match", `"v1"`}, {"If-Modified-Since", date}, {"If-None-Match", `"v0","v1"`}} {
			for _, method := range []string{"GET", "HEAD"} {
				a := ask(h, method, target, nil, fields...)
				a.is(t, 304, "ETag", `"v1"`, "Content-Length", "", "Content-Type", "", "Last-Modified", "")
				// The storage need not tell its own fields along with that nothing changed. A
				// lifetime made up instead would replace what caches have (RFC 9111 §4.3.4).
				if got := a.Header().Get("Cache-Control"); got != lifetime && (got != "" || target != "/f.txt") {
					t.Errorf("%s %s: Cache-Control %q", target, fields, got)
				}
				if a.Body.Len() > 0 {
					t.Errorf("%s %s: 304 with %q", target, fields, a.Body)
				}
			}
		}
	}
	nameless := holding(remote, nil).with("f", "x", gateway.Info{Modified: past})
	ask(gateway.New(nameless, gateway.Options{}), "GET", "/f", nil, "If-Modified-Since", date).
		is(t, 304, "ETag", "", "Last-Modified", date)
}

// What may yet change within one tick has no validator that is strong, and what is known
// to have changed has changed all the same.
func TestUncertainVersions(t *testing.T) {
	for _, version := range []string{"v1", ""} {
		f := holding(local, nil).with("f.txt", "0123456789", gateway.Info{Version: version, Modified: past})
		h := gateway.New(&fakeWriter{fake: f}, gateway.Options{Write: true})
		ask(h, "GET", "/f.txt", nil).is(t, 200, "ETag", "", "Last-Modified", map[string]string{"": date}[version])
		ask(h, "GET", "/f.txt", nil, "If-None-Match", `"v1"`).is(t, 200)
		for _, only := range []string{`"v1"`, `W/"v1"`, date} {
			ask(h, "GET", "/f.txt", nil, "Range", "bytes=1-2", "If-Range", only).is(t, 200, "Content-Range", "")
		}
		ask(h, "GET", "/f.txt", nil, "Range", "bytes=1-2").is(t, 206)
		ask(h, "GET", "/f.txt", nil, "If-Unmodified-Since", dayEarly).is(t, 412)
		ask(h, "GET", "/f.txt", nil, "If-Unmodified-Since", dayLater).is(t, 200)
		ask(h, "GET", "/f.txt", nil, "If-Match", `"v1"`).is(t, 412)
		ask(h, "PUT", "/f.txt", strings.NewReader("x"), "If-Unmodified-Since", dayEarly).is(t, 412)
		ask(h, "PUT", "/f.txt", strings.NewReader("x"), "If-Match", `"v1"`).is(t, 412)
	}
}

func TestDatesBeforeAllDatesAreDates(t *testing.T) {
	h := gateway.New(holding(local, map[string]string{"f.txt": "x"}), gateway.Options{})
	for _, old := range []string{"Mon, 01 Jan 0001 00:00:00 GMT", "Thu, 01 Jan 1970 00:00:00 GMT"} {
		ask(h, "GET", "/f.txt", nil, "If-Unmodified-Since", old).is(t, 412)
		ask(h, "GET", "/f.txt", nil, "If-Modified-Since", old).is(t, 200)
	}
}

// errDown is an error of storage that may work when tried again.
var errDown = fmt.Errorf("%s: %w", secretWord, gateway.ErrUnavailable)

func TestErrorsAndWhatClientsSeeOfThem(t *testing.T) {
	wrap := func(err error) error { return fmt.Errorf("%s: %w", secretWord, err) }
	for _, c := range []struct {
		err    error
		status int
	}{
		{wrap(fs.ErrNotExist), 404},
		{wrap(fs.ErrPermission), 403},
		{wrap(gateway.ErrConflict), 412},
		{wrap(gateway.ErrFull), 507},
		{wrap(gateway.ErrUnavailable), 503},
		{wrap(gateway.ErrChanged), 503},
		{wrap(context.Canceled), 503},
		{wrap(context.DeadlineExceeded), 504},
		{wrap(errors.ErrUnsupported), 501},
		{wrap(fs.ErrClosed), 500},
		{errors.New(secretWord), 500},
	} {
		f := &fakeWriter{fake: holding(local, map[string]string{"f.txt": "x"})}
		f.onOpen = func(context.Context, string) error { return c.err }
		f.onWrite = func(context.Context, string, io.Reader) error { return c.err }
		told := 0
		h := gateway.New(f, gateway.Options{
			Write: true, Default: time.Hour,
			Failed: func(_ *http.Request, err error) {
				if told++; !errors.Is(err, c.err) {
					t.Errorf("told %v, want %v", err, c.err)
				}
			},
		})
		for _, method := range []string{"GET", "HEAD", "PUT", "DELETE"} {
			told = 0
			want := c.status
			if method == "PUT" && want == 404 {
				want = 409 // something is in the way
			}
			lifetime := map[bool]string{true: "no-store"}[want >= 500]
			if want == 404 {
				lifetime = "max-age=5"
			}
			a := ask(h, method, "/f.txt", strings.NewReader("y"))
			a.is(t, want, "Cache-Control", lifetime, "Content-Type", "text/plain; charset=utf-8", "X-Content-Type-Options", "nosniff", "ETag", "", "Last-Modified", "")
			if !strings.HasPrefix(a.Body.String(), http.StatusText(want)+": ") {
				t.Errorf("%s: %q", method, a.Body)
			}
			if (told == 1) != (want >= 500) {
				t.Errorf("%s %v: told %d times", method, c.err, told)
			}
		}
	}
}

func TestBodiesOfErrors(t *testing.T) {
	h := gateway.New(&fakeWriter{fake: holding(local, map[string]string{"f.txt": "hello", "dir/x": ""})}, gateway.Options{Write: true})
	for _, c := range []struct {
		method, target string
		fields         []string
		status         int
	}{
		{"GET", "/none", nil, 404},
		{"GET", "/dir/", nil, 404},
		{"GET", "/dir/../f.txt", nil, 400},
		{"POST", "/f.txt", nil, 405},
		{"GET", "/f.txt", []string{"If-Match", `"no"`}, 412},
		{"GET", "/f.txt", []string{"Range", "bytes=5-"}, 416},
		{"PUT", "/f.txt", []string{"If-Match", `"no"`}, 412},
		{"PUT", "/f.txt", []string{"Content-Range", "bytes 0-0/5"}, 400},
		{"PUT", "/f.txt", []string{"Origin", "https://evil.example"}, 403},
		{"DELETE", "/dir/", nil, 409},
	} {
		a := ask(h, c.method, c.target, strings.NewReader("x"), c.fields...)
		a.is(t, c.status, "Content-Type", "text/plain; charset=utf-8", "Cache-Control", "")
		if len(a.Body.String()) < 20 || strings.Contains(a.Body.String(), "hello") {
			t.Errorf("%s %s: %q", c.method, c.target, a.Body)
		}
	}
	ask(h, "GET", "/f.txt", nil, "Range", "bytes=5-").is(t, 416, "Content-Range", "bytes */5", "ETag", "", "Content-Encoding", "")
}

func TestLifetimes(t *testing.T) {
	kept := gateway.Info{Version: "v", Certain: true, Fields: http.Header{"Cache-Control": {"private, max-age=7"}}}
	f := holding(local, map[string]string{"a.css": "", "assets/a.css": "", "assets/b/c.js": "", "x.txt": "", "dir/index.html": "", "Assets/x": "", "robots.txt": "", "d/robots.txt": ""}).
		with("kept.txt", "", kept).with("kept.css", "", kept)
	rules := []gateway.Rule{{"assets/b/**", time.Hour}, {"*.css", time.Minute}, {"/assets/**", 0}, {"/robots.txt", 30 * time.Second}, {"dir/*", 1500 * time.Millisecond}, {"x.txt", -time.Second}, {"x.*", time.Hour}, {"[", time.Hour}}
	for fallback, unruled := range map[time.Duration]string{0: "", -1: "no-cache", time.Second: "max-age=1", 500 * time.Millisecond: "no-cache", 1 << 62: "max-age=4611686018"} {
		h := gateway.New(f, gateway.Options{Fresh: rules, Default: fallback})
		for target, want := range map[string]string{
			"/a.css": "max-age=60", "/assets/a.css": "max-age=60", "/assets/b/c.js": "max-age=3600", "/x.txt": "no-cache",
			"/robots.txt": "max-age=30", "/d/robots.txt": unruled, "/dir/": "max-age=1", "/dir/index.html": "max-age=1", "/Assets/x": unruled,
			"/kept.txt": "private, max-age=7", "/kept.css": "max-age=60",
		} {
			ask(h, "GET", target, nil).is(t, 200, "Cache-Control", want)
			ask(h, "HEAD", target, nil).is(t, 200, "Cache-Control", want)
		}
		ask(h, "GET", "/kept.txt", nil, "Range", "bytes=0-").is(t, 200, "Cache-Control", "private, max-age=7")
		// Absence is told for 5 s at most.
		want := unruled
		if fallback > 5*time.Second {
			want = "max-age=5"
		}
		for _, target := range []string{"/none", "/none/", "/none.css", "/assets/none"} {
			ask(h, "GET", target, nil).is(t, 404, "Cache-Control", want)
		}
		ask(h, "GET", "/dir", nil).is(t, 301, "Cache-Control", unruled)
	}
}

func TestPatterns(t *testing.T) {
	for pattern, want := range map[string]bool{
		"*": true, "*.css": true, "/a": true, "a/**": true, "{a,b}": true, "[a-z]": true, "": false, "[": false, "{a": false, "/[": false, `a\`: false,
	} {
		if gateway.ValidPattern(pattern) != want {
			t.Errorf("%q: %t", pattern, !want)
		}
	}
}

func TestFieldsOfTheStorage(t *testing.T) {
	f := holding(local, nil).with("f.html", "hello", gateway.Info{Version: "v", Certain: true, Modified: past, Fields: http.Header{
		"Content-Type": {"text/x-special"}, "Content-Language": {"de"}, "Content-Disposition": {"inline"}, "Content-Encoding": {"gzip"},
		"Set-Cookie": {"a=b"}, "Location": {"/x"}, "X-Amz-Meta-Secret": {secretWord},
	}})
	h := gateway.New(f, gateway.Options{Download: []string{"*.bin"}})
	for _, method := range []string{"GET", "HEAD"} {
		ask(h, method, "/f.html", nil).is(t, 200,
			"Content-Type", "text/x-special", "Content-Language", "de", "Content-Disposition", "inline", "Content-Encoding", "gzip",
			"Set-Cookie", "", "Location", "", "X-Amz-Meta-Secret", "",
			// Without it, an answer that breaks off looks whole to HTTP/1.0.
			"Content-Length", "5",
			"X-Content-Type-Options", "nosniff", "Last-Modified", date, "ETag", `"v"`)
	}
	ask(h, "GET", "/f.html", nil, "Range", "bytes=1-2").is(t, 206, "Content-Encoding", "gzip", "Content-Length", "2")
	ask(h, "GET", "/f.html", nil, "Range", "bytes=9-").is(t, 416, "Content-Encoding", "")
	ask(h, "GET", "/f.html", nil, "If-None-Match", `"w", "v"`).is(t, 304, "Content-Encoding", "", "Content-Length", "")
}

func TestTypes(t *testing.T) {
	png := "\x89PNG\r\n\x1a\n" + strings.Repeat("\x00", 1000)
	f := holding(local, map[string]string{
		"a.html": "<p>", "A.HTML": "<p>", "a.js": "x", "a.wasm": "\x00asm", "a.unknown-end": "text", "png": png, "page": "  <!DOCTYPE HTML>x", "empty": "", "a.tar.gz": "x", "octets": "\x00\x01\x02\x03",
	}).with("coded", png, gateway.Info{Fields: http.Header{"Content-Encoding": {"gzip"}}})
	h := gateway.New(f, gateway.Options{})
	for target, want := range map[string]string{
		"/a.html": "text/html; charset=utf-8", "/A.HTML": "text/html; charset=utf-8", "/a.js": "text/javascript; charset=utf-8", "/a.wasm": "application/wasm",
		"/a.unknown-end": "text/plain; charset=utf-8", "/png": "image/png", "/page": "text/html; charset=utf-8", "/empty": "text/plain; charset=utf-8",
		"/a.tar.gz": "application/gzip", "/octets": "application/octet-stream",
		"/coded": "application/octet-stream", // what is coded does not tell what it is
	} {
		for _, c := range []struct {
			method, field string
		}{{"GET", ""}, {"HEAD", ""}, {"GET", "bytes=0-0"}, {"GET", "bytes=-1"}, {"GET", "bytes=0-"}, {"HEAD", "bytes=0-0"}} {
			var fields []string
			if c.field != "" {
				fields = []string{"Range", c.field}
			}
			a := ask(h, c.method, target, nil, fields...)
			if got := a.Header().Get("Content-Type"); got != want || a.Code >= 300 || a.Header().Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s %s %s: %d %s, want %s", c.method, target, c.field, a.Code, got, want)
			}
			if a.Code == 200 && c.method == "GET" && a.Body.String() != f.objects[target[1:]].text {
				t.Errorf("%s %s: %d octets", target, c.field, a.Body.Len())
			}
		}
	}
}

func TestDownloads(t *testing.T) {
	f := holding(local, map[string]string{"a.bin": "", "d/a.exe": "", "x": "", "d/é \"q\"; x.bin": "", "bad\xff.bin": "", "save/x.html": ""}).
		with("kept.bin", "", gateway.Info{Fields: http.Header{"Content-Disposition": {"inline"}}})
	h := gateway.New(f, gateway.Options{Download: []string{"*.bin", "d/*.exe", "/save/**"}})
	for target, want := range map[string]string{
		"/a.bin": "a.bin", "/d/a.exe": "a.exe", "/d/é \"q\"; x.bin": "é \"q\"; x.bin", "/bad\xff.bin": "bad_.bin", "/save/x.html": "x.html", "/kept.bin": "kept.bin", "/x": "",
	} {
		a := ask(h, "GET", target, nil)
		v := a.Header().Get("Content-Disposition")
		kind, params, err := mime.ParseMediaType(v)
		if want == "" && v == "" {
			continue
		}
		if err != nil || kind != "attachment" || params["filename"] != want || strings.ContainsAny(v, "\r\n") {
			t.Errorf("%s: %q (%v)", target, v, err)
		}
	}
}

func TestPrecompressedCopies(t *testing.T) {
	at := func(version string, days int) gateway.Info {
		return gateway.Info{Version: version, Certain: true, Modified: past.AddDate(0, 0, days)}
	}
	kept := at("plain", 0)
	kept.Fields = http.Header{"Content-Type": {"text/x-kept"}, "Cache-Control": {"max-age=9"}, "Content-Language": {"fr"}}
	f := holding(local, nil).
		with("all.txt", "plain octets", at("same", 0)).with("all.txt.br", "br octets", at("same", 0)).with("all.txt.zst", "zstd octets", at("same", 1)).with("all.txt.gz", "gzip octets", at("same", 0)).
		with("old.txt", "plain octets", at("p", 2)).with("old.txt.gz", "gzip octets", at("g", 1)).
		with("none.txt", "plain octets", at("p", 0)).
		with("gz.txt", "plain octets", at("p", 0)).with("gz.txt.gz", "gzip octets", at("g", 0)).
		with("dir/index.html", "plain octets", at("p", 0)).with("dir/index.html.gz", "gzip octets", at("g", 0)).
		with("kept", "plain octets", kept).with("kept.gz", "gzip octets", at("g", 0)).
		with("sniffed", "plain octets", at("p", 0)).with("sniffed.gz", "gzip octets", at("g", 0)).
		with("folder.txt", "plain octets", at("p", 0)).with("folder.txt.gz/x", "", at("g", 0))
	coded := at("c", 0)
	coded.Fields = http.Header{"Content-Encoding": {"gzip"}}
	f.with("coded.txt", "coded octets", coded).with("coded.txt.br", "br octets", at("b", 0))
	h := gateway.New(f, gateway.Options{Precompressed: gateway.Codings()})
	for _, c := range []struct{ target, accept, coding, vary string }{
		{"/all.txt", "", "", "Accept-Encoding"},
		{"/all.txt", "identity", "", "Accept-Encoding"},
		{"/all.txt", "gzip", "gzip", "Accept-Encoding"},
		{"/all.txt", "GZIP ; q=0.3", "gzip", "Accept-Encoding"},
		{"/all.txt", "gzip, deflate, br, zstd", "br", "Accept-Encoding"},
		{"/all.txt", "gzip, zstd", "zstd", "Accept-Encoding"},
		{"/all.txt", "gzip;q=1, br;q=0.9, zstd;q=0.8", "gzip", "Accept-Encoding"},
		{"/all.txt", "*", "br", "Accept-Encoding"},
		{"/all.txt", "*;q=0.1, br;q=0, zstd;q=0.000", "gzip", "Accept-Encoding"},
		{"/all.txt", "br;q=0, *", "zstd", "Accept-Encoding"},
		{"/all.txt", "gzip;q=0", "", "Accept-Encoding"},
		{"/all.txt", "gzip;q=NaN, br;q=2, zstd;q=-1", "", "Accept-Encoding"},
		{"/all.txt", "gzip;q=x", "", "Accept-Encoding"},
		{"/all.txt", "identity, gzip;q=0.5", "", "Accept-Encoding"}, // RFC 9110 §12.5.3
		{"/all.txt", "identity;q=0.5, gzip", "gzip", "Accept-Encoding"},
		{"/all.txt", "identity, gzip", "gzip", "Accept-Encoding"},
		{"/all.txt", "gzipx, xgzip", "", "Accept-Encoding"},
		{"/old.txt", "gzip", "", ""},
		{"/none.txt", "gzip", "", ""},
		{"/gz.txt", "br", "", "Accept-Encoding"},
		{"/gz.txt", "br, gzip;q=0.1", "gzip", "Accept-Encoding"},
		{"/dir/", "gzip", "gzip", "Accept-Encoding"},
		{"/kept", "gzip", "gzip", "Accept-Encoding"},
		{"/sniffed", "gzip", "", ""}, // coded octets do not tell a type
		{"/folder.txt", "gzip", "", ""},
		{"/gz.txt.gz", "gzip", "", ""},
	} {
		octets := "plain octets"
		if c.coding != "" || strings.HasSuffix(c.target, ".gz") {
			octets = strings.TrimSpace(c.coding + " octets")
		}
		if c.target == "/gz.txt.gz" {
			octets = "gzip octets"
		}
		for _, method := range []string{"GET", "HEAD"} {
			var fields []string
			if c.accept != "" {
				fields = []string{"Accept-Encoding", c.accept}
			}
			a := ask(h, method, c.target, nil, fields...)
			a.is(t, 200, "Content-Encoding", c.coding, "Vary", c.vary, "Content-Length", fmt.Sprint(len(octets)))
			if method == "GET" && a.Body.String() != octets {
				t.Errorf("%s %s: %q", c.target, c.accept, a.Body)
			}
			// Ranges are of the coded octets, and the tag is that of this coding.
			tag := a.Header().Get("ETag")
			r := ask(h, "GET", c.target, nil, append(fields, "Range", "bytes=1-3", "If-Range", tag)...)
			r.is(t, 206, "Content-Encoding", c.coding, "Vary", c.vary, "Content-Range", fmt.Sprintf("bytes 1-3/%d", len(octets)), "ETag", tag)
			if r.Body.String() != octets[1:4] {
				t.Errorf("%s %s: %q", c.target, c.accept, r.Body)
			}
			ask(h, method, c.target, nil, append(fields, "If-None-Match", tag)...).is(t, 304, "Vary", c.vary, "ETag", tag)
		}
		if t.Failed() {
			t.Fatalf("%+v", c)
		}
	}
	ask(h, "GET", "/coded.txt", nil, "Accept-Encoding", "br").is(t, 200, "Content-Encoding", "gzip")
	// All codings are described alike, and none has the tag of another.
	tags := map[string]bool{}
	for _, accept := range []string{"identity", "gzip", "br", "zstd"} {
		a := ask(h, "GET", "/all.txt", nil, "Accept-Encoding", accept)
		a.is(t, 200, "Content-Type", "text/plain; charset=utf-8")
		tags[a.Header().Get("ETag")] = true
	}
	if len(tags) != 4 {
		t.Errorf("tags %v", tags)
	}
	for _, accept := range []string{"identity", "gzip"} {
		ask(h, "GET", "/kept", nil, "Accept-Encoding", accept).is(t, 200, "Content-Type", "text/x-kept", "Cache-Control", "max-age=9", "Content-Language", "fr")
	}
	// Several lines are one list.
	ask(h, "GET", "/all.txt", nil, "Accept-Encoding", "zstd;q=0.1", "Accept-Encoding", "gzip").is(t, 200, "Content-Encoding", "gzip")
	// Nobody asked for it.
	ask(gateway.New(f, gateway.Options{}), "GET", "/all.txt", nil, "Accept-Encoding", "gzip").is(t, 200, "Content-Encoding", "", "Vary", "")
	// The order is that of the options.
	ask(gateway.New(f, gateway.Options{Precompressed: []string{"gzip", "br"}}), "GET", "/all.txt", nil, "Accept-Encoding", "gzip, br, zstd").is(t, 200, "Content-Encoding", "gzip")
}

// What will soon have a validator is not fresh for an hour without one.
func TestUncertainAnswersAreBrief(t *testing.T) {
	for version, want := range map[string]string{"v1": "max-age=3600", "": "max-age=5"} {
		f := holding(local, nil).with("f.txt", "x", gateway.Info{Version: version, Certain: version != ""})
		h := gateway.New(f, gateway.Options{Fresh: []gateway.Rule{{Pattern: "**", For: time.Hour}}})
		ask(h, "GET", "/f.txt", nil).is(t, 200, "Cache-Control", want)
		h = gateway.New(f, gateway.Options{Default: time.Hour})
		ask(h, "GET", "/f.txt", nil).is(t, 200, "Cache-Control", want)
	}
}

func TestFlatStorage(t *testing.T) {
	f := holding(bucket, map[string]string{
		"a.txt": "a", "dir/index.html": "index", "dir/sub/x.txt": "x", "both": "object", "both/x": "", "a//b": "empty within", "/lead": "lead", "back\\slash": "back", "q?d#e": "odd", "pct%2fx": "pct", "a b+c": "blank",
		".git/config": secretWord, "..": secretWord, "x/../y": secretWord, "index.html": "root",
	})
	h := gateway.New(f, gateway.Options{Listing: true})
	for target, want := range map[string]string{
		"/a.txt": "200 a", "/dir": "301 ./dir/", "/dir/": "200 index", "/dir/sub": "301 ./sub/", "/both": "200 object",
		"/a//b": "200 empty within", "//lead": "200 lead", "/back%5Cslash": "200 back", "/q%3Fd%23e": "200 odd", "/pct%252fx": "200 pct", "/a%20b+c": "200 blank",
		"/q?d#e": "404", "/a%2F%2Fb": "404", "/a%2f/b": "404", "/pct%2fx": "404", "/.git/config": "404", "/.git": "404", "/.git/": "404",
		"/..": "400", "/x/../y": "400", "/x/%2e%2e/y": "400", "/x/./y": "400", "/": "200 root",
		"//": "404", "///": "404", // the root has one path
		"/a": "301 ./a/", "/none": "404", "/none/": "404", "/a.txt/": "404", "/x": "301 ./x/",
	} {
		req := httptest.NewRequest("GET", "http://example.com"+target, nil)
		a := run(h, req)
		got := fmt.Sprint(a.Code)
		switch a.Code {
		case 200:
			got += " " + a.Body.String()
		case 301:
			got += " " + a.Header().Get("Location")
		}
		if got != want {
			t.Errorf("%s: %s, want %s", target, got, want)
		}
	}
	// Where no folder can be known it is asked for once.
	f.asked()
	ask(h, "GET", "/none", nil).is(t, 404)
	equal(t, "absent", f.asked(), "open none 0+-1", "list none 1")
	ask(h, "GET", "/a.txt", nil).is(t, 200)
	equal(t, "present", f.asked(), "open a.txt 0+-1", "range a.txt 0+1", "close a.txt")
	// Storage that forbids to list has told all that it tells.
	f.onList = func(context.Context, string) ([]gateway.Info, error) { return nil, fs.ErrPermission }
	ask(h, "GET", "/none", nil).is(t, 404)
	// An empty bucket has an empty root.
	empty := gateway.New(holding(bucket, nil), gateway.Options{Listing: true})
	ask(empty, "GET", "/", nil).is(t, 200)
	ask(empty, "GET", "/dir/", nil).is(t, 404)
}

func TestOtherStorageHasNoOddNames(t *testing.T) {
	f := holding(local, map[string]string{"a": "x", "back\\slash": secretWord, "x//y": secretWord})
	h := gateway.New(f, gateway.Options{Dotfiles: true})
	for target, want := range map[string]int{"/back\\slash": 400, "/x//y": 404, "//a": 404, "/..": 400, "/a/..": 400, "/a\x00": 400, "/a\nb": 404, "/a\x7f": 404, "/\x01/b": 404, "": 400, "a": 400, "/" + strings.Repeat("x", 4096): 404} {
		ask(h, "GET", target, nil).is(t, want)
	}
	if calls := f.asked(); len(calls) > 0 {
		t.Errorf("the storage was asked %q", calls)
	}
}

// The Source is the Handler's from New on.
func TestCloseClosesTheSource(t *testing.T) {
	f := holding(local, nil)
	if err := gateway.New(f, gateway.Options{}).Close(); err != nil {
		t.Error(err)
	}
	equal(t, "Close", f.asked(), "close source")
}

// What is opened is closed, whatever comes of it.
func TestAllIsClosed(t *testing.T) {
	for _, traits := range []gateway.Traits{local, remote, bucket} {
		f := &fakeWriter{fake: holding(traits, map[string]string{"f.txt": "hello", "broken.txt": "hello", "broken": "hello", "dir/x": "", "index/index.html/x": "", "f.txt.br": "br"})}
		f.onRange = func(_ context.Context, name string, _, _ int64) (io.ReadCloser, error) {
			if strings.HasPrefix(name, "broken") {
				return nil, gateway.ErrChanged
			}
			return nil, nil
		}
		for _, codings := range [][]string{nil, gateway.Codings()} {
			h := gateway.New(f, gateway.Options{Write: true, Listing: true, Precompressed: codings})
			for _, target := range []string{"/f.txt", "/broken.txt", "/broken", "/dir", "/dir/", "/index", "/index/", "/none"} {
				for _, fields := range [][]string{nil, {"If-Match", `"x"`}, {"If-None-Match", `"v1"`}, {"Range", "bytes=9-"}, {"Range", "bytes=0-0,2-2"}, {"Accept-Encoding", "br"}} {
					for _, method := range []string{"GET", "HEAD", "PUT", "DELETE"} {
						before := f.objects
						f.objects = maps.Clone(before)
						ask(h, method, target, strings.NewReader("x"), fields...)
						f.objects = before
						if f.open != 0 {
							t.Fatalf("%s %s %v: %d are open", method, target, fields, f.open)
						}
					}
				}
			}
		}
	}
}
