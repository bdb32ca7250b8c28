package webdav_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	dav "golang.org/x/net/webdav"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/gateway/gatewaytest"
	"github.com/larderhq/larder/gateway/webdav"
)

// scripted starts a server that answers as h does.
func scripted(t *testing.T, h http.HandlerFunc) *webdav.Source {
	t.Helper()
	server := httptest.NewServer(h)
	s := open(t, webdav.Options{URL: server.URL + "/dav/"})
	t.Cleanup(func() { // first the connections, or the server waits for them
		_ = s.Close()
		server.Close()
	})
	return s
}

// part reads a range of an object that is opened for it.
func part(ctx context.Context, s gateway.Source, name string, want gateway.Want, off, n int64) ([]byte, error) {
	o, err := s.Open(ctx, name, want)
	if err != nil {
		return nil, err
	}
	defer o.Close()
	r, err := o.Range(ctx, off, n)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// multistatus answers a PROPFIND: path is a folder, or an object of size octets.
func multistatus(w http.ResponseWriter, path string, folder bool, size int) {
	kind := ""
	if folder {
		kind = "<D:collection/>"
	}
	w.WriteHeader(http.StatusMultiStatus)
	fmt.Fprintf(w, `<?xml version="1.0"?><D:multistatus xmlns:D="DAV:"><D:response><D:href>%s</D:href><D:propstat><D:prop>`+
		`<D:resourcetype>%s</D:resourcetype><D:getcontentlength>%d</D:getcontentlength></D:prop><D:status>HTTP/1.1 200 OK</D:status>`+
		`</D:propstat></D:response></D:multistatus>`, path, kind, size)
}

func TestAnObjectIsOneRequest(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	write(t, root, "a.css", []byte("body{}"), gatewaytest.Past())
	write(t, root, "a.html", []byte("<p>"), gatewaytest.Past())
	server := serve(t, dav.Dir(root), nil)
	s := open(t, webdav.Options{URL: server.URL})
	defer s.Close()
	known, err := s.Open(t.Context(), "a.css", gateway.Want{})
	if err != nil {
		t.Fatal(err)
	}
	known.Close()
	if got := server.requests(); !slices.Equal(got, []string{"HEAD /a.css"}) {
		t.Errorf("nothing wanted: %q", got)
	}
	for _, c := range []struct {
		name      string
		want      gateway.Want
		off, n    int64
		unchanged bool
		requests  []string
	}{
		{name: "a.css", want: gateway.Want{N: -1}, n: 6, requests: []string{"GET /a.css"}},
		{name: "a.css", want: gateway.Want{Off: 2, N: 3}, off: 2, n: 3, requests: []string{"GET /a.css"}},
		{name: "a.css", want: gateway.Want{Off: -2, N: -1}, off: 4, n: 2, requests: []string{"GET /a.css"}},
		{name: "a.css", want: gateway.Want{N: -1}, off: 3, n: 3, requests: []string{"GET /a.css"}},
		{name: "a.css", want: gateway.Want{N: 2}, off: 3, n: 3, requests: []string{"GET /a.css", "GET /a.css"}},
		{name: "a.css", want: gateway.Want{N: -1, Unless: known.Info().Version}, unchanged: true, requests: []string{"GET /a.css"}},
		{name: "a.css", want: gateway.Want{Unless: known.Info().Version}, unchanged: true, requests: []string{"HEAD /a.css"}},
		{name: "a.css", want: gateway.Want{N: -1, UnlessSince: gatewaytest.Past()}, unchanged: true, requests: []string{"GET /a.css"}},
		{name: "a.html", want: gateway.Want{N: -1}, n: 3, requests: []string{"GET /a.html", "PROPFIND /a.html"}},
	} {
		o, err := s.Open(t.Context(), c.name, c.want)
		if err != nil {
			t.Fatal(err)
		}
		if o.Info().Unchanged != c.unchanged {
			t.Errorf("%+v: %+v", c, o.Info())
		}
		if c.n > 0 {
			r, err := o.Range(t.Context(), c.off, c.n)
			if err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(r); err != nil || int64(len(b)) != c.n {
				t.Errorf("%+v: %q %v", c, b, err)
			}
			r.Close()
		}
		o.Close()
		if got := server.requests(); !slices.Equal(got, c.requests) {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

func TestAFolderIsNeverAnObject(t *testing.T) {
	const listing = "<html>a b c</html>"
	for what, get := range map[string]http.HandlerFunc{
		"a page": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, listing)
		},
		"a page with validators": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"listing"`)
			w.Header().Set("Content-Type", "Text/HTML; charset=utf-8")
			http.ServeContent(w, r, "", gatewaytest.Past(), strings.NewReader(listing))
		},
		"octets without validators": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/octet-stream")
			fmt.Fprint(w, listing)
		},
		"octets without a length": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/octet-stream")
			w.Header().Set("ETag", `"listing"`)
			_ = http.NewResponseController(w).Flush()
			fmt.Fprint(w, listing)
		},
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.EscapedPath()+"/", http.StatusMovedPermanently)
		},
		"207":           func(w http.ResponseWriter, _ *http.Request) { multistatus(w, "/dav/d%20r/", true, 0) },
		"forbidden":     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) },
		"not allowed":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusMethodNotAllowed) },
		"not supported": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotImplemented) },
	} {
		for _, strict := range []bool{false, true} { // whether PROPFIND without a slash is redirected
			s := scripted(t, func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.Method != "PROPFIND":
					get(w, r)
				case strict && !strings.HasSuffix(r.URL.Path, "/"):
					http.Redirect(w, r, r.URL.EscapedPath()+"/", http.StatusMovedPermanently)
				default:
					multistatus(w, "http://inside.example/dav/d%20r/", true, 0)
				}
			})
			for _, want := range []gateway.Want{{}, {N: -1}, {Off: 2, N: 3}, {Off: -2, N: -1}} {
				o, err := s.Open(t.Context(), "d r", want)
				if err != nil {
					t.Errorf("%s, strict %t, %+v: %v", what, strict, want, err)
					continue
				}
				if i := o.Info(); !i.Folder || i.Size != 0 {
					t.Errorf("%s, strict %t, %+v: %+v", what, strict, want, i)
				}
				if _, err := o.Range(t.Context(), 0, 1); err == nil {
					t.Errorf("%s: octets of a folder", what)
				}
				o.Close()
			}
		}
	}
}

func TestNamesArriveEncodedOnce(t *testing.T) {
	var got string
	s := scripted(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.RequestURI
		w.WriteHeader(http.StatusNotFound)
	})
	for name, want := range map[string]string{
		"a/b":      "/dav/a/b",
		"x%2Fy":    "/dav/x%252Fy",
		"c:d/e:f":  "/dav/c%3Ad/e%3Af",
		"?#%&=;+ ": "/dav/%3F%23%25%26%3D%3B%2B%20",
		"é–ü~_-.x": "/dav/%C3%A9%E2%80%93%C3%BC~_-.x",
		"\xff":     "/dav/%FF",
		"..a/b..":  "/dav/..a/b..",
	} {
		if _, err := s.Open(t.Context(), name, gateway.Want{N: -1}); !errors.Is(err, fs.ErrNotExist) || got != want {
			t.Errorf("%q arrives as %s, want %s (%v)", name, got, want, err)
		}
	}
	got = ""
	for _, name := range []string{"..", "a/../b", "./a", "a//b", "/a", "a/", "a\x00", "a\r\nb", "a\x7f", `a\..\b`, `..\a`} {
		_, err := s.Open(t.Context(), name, gateway.Want{N: -1})
		_, err2 := s.List(t.Context(), name, 1)
		_, err3 := s.Put(t.Context(), name, strings.NewReader(""), 0, nil, gateway.If{})
		err4 := s.Delete(t.Context(), name, gateway.If{})
		for _, err := range []error{err, err2, err3, err4} {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%q: %v", name, err)
			}
		}
	}
	if got != "" {
		t.Errorf("something was asked for %s", got)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("asked elsewhere for %s, authorization %q", r.URL, r.Header.Get("Authorization"))
	}))
	defer elsewhere.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL+"/other/place?secret=1", http.StatusTemporaryRedirect)
	}))
	defer server.Close()
	s := open(t, webdav.Options{URL: server.URL, User: "ann", Password: "hush"})
	defer s.Close()
	_, err := s.Open(t.Context(), "a", gateway.Want{N: -1})
	if err == nil || !strings.Contains(err.Error(), elsewhere.URL+"/other/place") || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
	if _, err := s.List(t.Context(), "", 1); err == nil || !strings.Contains(err.Error(), elsewhere.URL) {
		t.Errorf("%v", err)
	}
}

// An answer is what a server says instead of what it should.
type answer struct {
	status int
	header string // fields, "A: b|C: d"
	body   string
}

func (a answer) send(w http.ResponseWriter) {
	for f := range strings.SplitSeq(a.header, "|") {
		if name, value, ok := strings.Cut(f, ": "); ok {
			w.Header().Set(name, value)
		}
	}
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.body)
}

// TestWrongAnswersAreNoOctets checks that what does not fit is an error, and that no
// octet is ever given that is not where it should be.
func TestWrongAnswersAreNoOctets(t *testing.T) {
	const octets = "0123456789"
	const fields = "Content-Type: image/png|ETag: \"1\"|"
	for what, c := range map[string]struct {
		answer
		is error
	}{
		"another range":          {answer{206, fields + "Content-Range: bytes 1-4/10", "1234"}, nil},
		"more than asked":        {answer{206, fields + "Content-Range: bytes 0-9/10", octets}, nil},
		"less than asked":        {answer{206, fields + "Content-Range: bytes 2-3/10", "23"}, nil},
		"another size":           {answer{206, fields + "Content-Range: bytes 2-5/11", "2345"}, gateway.ErrChanged},
		"another tag":            {answer{206, "Content-Type: image/png|ETag: \"2\"|Content-Range: bytes 2-5/10", "2345"}, gateway.ErrChanged},
		"no tag":                 {answer{206, "Content-Type: image/png|Content-Range: bytes 2-5/10", "2345"}, gateway.ErrChanged},
		"coded":                  {answer{206, fields + "Content-Encoding: gzip|Content-Range: bytes 2-5/10", "2345"}, gateway.ErrChanged},
		"no Content-Range":       {answer{206, fields, "2345"}, nil},
		"garbage":                {answer{206, fields + "Content-Range: bytes 2--5/x", "2345"}, nil},
		"an impossible range":    {answer{206, fields + "Content-Range: bytes 2-9223372036854775807/10", "2345"}, nil},
		"another unit":           {answer{206, fields + "Content-Range: lines 2-5/10", "2345"}, nil},
		"two parts":              {answer{206, "Content-Type: multipart/byteranges; boundary=x|ETag: \"1\"", "--x"}, nil},
		"Content-Length differs": {answer{206, fields + "Content-Range: bytes 2-5/10|Content-Length: 3", "234"}, nil},
		"short":                  {answer{206, fields + "Content-Range: bytes 2-5/10|Content-Length: 4", "23"}, gateway.ErrUnavailable},
		"another whole":          {answer{200, "Content-Type: image/png|ETag: \"2\"", octets}, gateway.ErrChanged},
		"whole of another size":  {answer{200, fields, octets + "x"}, gateway.ErrChanged},
		"precondition":           {answer{412, "", ""}, gateway.ErrChanged},
		"no such range":          {answer{416, "Content-Range: bytes */4", ""}, gateway.ErrChanged},
		"not modified":           {answer{304, "", ""}, nil},
		"gone":                   {answer{404, "", ""}, fs.ErrNotExist},
		"busy":                   {answer{503, "", ""}, gateway.ErrUnavailable},
		"no content":             {answer{204, "", ""}, nil},
	} {
		s := scripted(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				answer{200, fields + "Content-Length: 10", ""}.send(w)
				return
			}
			if r.Header.Get("Range") != "bytes=2-5" || r.Header.Get("If-Match") != `"1"` || r.Header.Get("Accept-Encoding") != "identity" {
				t.Errorf("%s: asked by %v", what, r.Header)
			}
			c.send(w)
		})
		b, err := part(t.Context(), s, "a.png", gateway.Want{}, 2, 4)
		if err == nil || !strings.HasPrefix("2345", string(b)) || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %q, %v", what, b, err)
		}
	}
}

func TestOpenRefusesWhatDoesNotFit(t *testing.T) {
	for what, c := range map[string]struct {
		answer
		is error
	}{
		"not modified, unasked":   {answer{304, `ETag: "1"`, ""}, nil},
		"no such range, unasked":  {answer{416, "", ""}, nil},
		"coded on the fly":        {answer{200, "Content-Type: image/png|ETag: \"1\"|Content-Encoding: gzip", "abc"}, nil},
		"a part without a range":  {answer{206, "Content-Type: image/png|ETag: \"1\"", "abc"}, nil},
		"a part, another length":  {answer{206, "Content-Type: image/png|Content-Range: bytes 0-1/9|Content-Length: 3", "abc"}, nil},
		"unauthorized":            {answer{401, "Www-Authenticate: Basic", ""}, fs.ErrPermission},
		"not without another way": {answer{401, "Www-Authenticate: Digest realm=x", ""}, fs.ErrPermission},
		"gone":                    {answer{410, "", ""}, fs.ErrNotExist},
		"busy":                    {answer{429, "", ""}, gateway.ErrUnavailable},
		"locked":                  {answer{423, "", ""}, gateway.ErrUnavailable},
		"broken":                  {answer{500, "", ""}, gateway.ErrUnavailable},
		"full":                    {answer{507, "", ""}, gateway.ErrFull},
	} {
		s := scripted(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "PROPFIND" {
				multistatus(w, "/dav/a", false, 10) // as long as it is uncoded
				return
			}
			c.send(w)
		})
		for _, want := range []gateway.Want{{}, {N: -1}} {
			o, err := s.Open(t.Context(), "a", want)
			if err == nil {
				t.Errorf("%s: %+v", what, o.Info())
				o.Close()
			} else if c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("%s: %v", what, err)
			}
			if strings.Contains(c.header, "Digest") && !strings.Contains(fmt.Sprint(err), "Digest, which is not supported") {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
}

func TestACodingOfTheObjectIsKept(t *testing.T) {
	s := scripted(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "PROPFIND" {
			multistatus(w, "/dav/a.tgz", false, 3)
			return
		}
		answer{200, "Content-Type: application/x-tar|ETag: \"1\"|Content-Encoding: gzip|X-Other: 1|Content-Length: 3", "abc"}.send(w)
	})
	o, err := s.Open(t.Context(), "a.tgz", gateway.Want{N: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if f := o.Info().Fields; f.Get("Content-Encoding") != "gzip" || f.Get("Content-Type") != "application/x-tar" || len(f) != 2 {
		t.Errorf("%v", f)
	}
}

// TestWithoutRanges checks a server that always sends the whole object: a little is
// skipped, more is an error.
func TestWithoutRanges(t *testing.T) {
	octets := gatewaytest.Octets(3<<20, 1)
	s := scripted(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "image/png")
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Content-Length", fmt.Sprint(len(octets)))
		_, _ = w.Write(octets)
	})
	for _, want := range []gateway.Want{{}, {Off: 1000, N: 50}} {
		if b, err := part(t.Context(), s, "a", want, 1000, 50); err != nil || !bytes.Equal(b, octets[1000:1050]) {
			t.Errorf("%+v: %d octets, %v", want, len(b), err)
		}
		if b, err := part(t.Context(), s, "a", want, 2<<20, 50); err == nil || len(b) > 0 {
			t.Errorf("%+v: %d octets, %v", want, len(b), err)
		}
	}
}

func TestTheEndOfAHugeObjectIsLittle(t *testing.T) {
	root := t.TempDir()
	f, err := os.Create(filepath.Join(root, "huge.bin"))
	if err != nil {
		t.Fatal(err)
	}
	const size = 1 << 40
	if _, err := f.WriteAt([]byte("end"), size-3); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	server := serve(t, dav.Dir(root), nil)
	s := open(t, webdav.Options{URL: server.URL})
	defer s.Close()
	for _, want := range []gateway.Want{{}, {N: -1}, {Off: -1 << 20, N: -1}} {
		b, err := part(t.Context(), s, "huge.bin", want, size-1<<20, 1<<20)
		if err != nil || len(b) != 1<<20 || !bytes.HasSuffix(b, []byte("\x00end")) {
			t.Errorf("%+v: %d octets, %v", want, len(b), err)
		}
	}
}

// TestWrittenInPlace checks that an object that a server overwrites while it
// sends it is not taken for whole.
func TestWrittenInPlace(t *testing.T) {
	for what, c := range map[string]struct {
		before, after string
		size          int
	}{
		"strong": {`ETag: "1"`, `ETag: "2"`, 2 << 20},
		"weak":   {`ETag: W/"1"|Last-Modified: Mon, 06 May 2024 07:08:09 GMT`, `ETag: W/"2"|Last-Modified: Mon, 06 May 2024 07:08:09 GMT`, 100},
		"dates":  {`Last-Modified: Mon, 06 May 2024 07:08:09 GMT`, `Last-Modified: Mon, 06 May 2024 07:08:10 GMT`, 100},
	} {
		fields := "Content-Type: image/png|Content-Length: " + fmt.Sprint(c.size) + "|"
		s := scripted(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				answer{200, fields + c.after, ""}.send(w)
			} else {
				answer{200, fields + c.before, strings.Repeat("x", c.size)}.send(w)
			}
		})
		b, err := part(t.Context(), s, "a.png", gateway.Want{N: -1}, 0, int64(c.size))
		if !errors.Is(err, gateway.ErrChanged) || len(b) == c.size {
			t.Errorf("%s: %d octets, %v", what, len(b), err)
		}
	}
}

func TestVersions(t *testing.T) {
	const old, date = "Last-Modified: Mon, 06 May 2024 07:08:09 GMT", "Date: Mon, 06 May 2024 07:08:"
	now := time.Date(2024, 5, 6, 7, 8, 30, 0, time.UTC)
	byTime, _ := gateway.ByTime(3, now.Add(-21*time.Second), now, gateway.Grain)
	for _, c := range []struct {
		fields  string
		version string
		certain bool
	}{
		{`ETag: "abc"`, "abc", true},
		{`ETag: "abc"|` + old + "|" + date + "11 GMT", "abc", true},
		{`ETag: "abc"|` + old + "|" + date + "10 GMT", "abc", false},
		{`ETag: "abc"|` + old + "|Date: never", "abc", false},
		{`ETag: W/"abc"|` + old, byTime, false},
		{`ETag: abc|` + old, byTime, false},
		{`ETag: ""|` + old, byTime, false},
		{"ETag: \"\xe9\"|" + old, byTime, false},
		{old, byTime, false},
		{"", "", false},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "PROPFIND" {
				multistatus(w, "/a", false, 3)
				return
			}
			answer{200, "Content-Type: image/png|Content-Length: 3|" + c.fields, ""}.send(w)
		}))
		s := open(t, webdav.Options{URL: server.URL, Now: func() time.Time { return now }})
		o, err := s.Open(t.Context(), "a", gateway.Want{})
		if err != nil {
			t.Fatal(err)
		}
		if i := o.Info(); i.Version != c.version || i.Certain != c.certain {
			t.Errorf("%q: %+v", c.fields, i)
		}
		o.Close()
		s.Close()
		server.Close()
	}
}

// TestContextsAreObeyed checks that calls that wait for a server end with their context.
func TestContextsAreObeyed(t *testing.T) {
	var waiting chan struct{}
	s := scripted(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // or the server does not see that the client left
		if r.URL.Path == "/dav/slow" {
			w.Header().Set("Content-Type", "image/png")
			w.Header().Set("ETag", `"1"`)
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "begin")
			_ = http.NewResponseController(w).Flush()
		}
		waiting <- struct{}{}
		<-r.Context().Done()
	})
	for what, call := range map[string]func(context.Context) error{
		"Open": func(ctx context.Context) error { _, err := s.Open(ctx, "a", gateway.Want{N: -1}); return err },
		"List": func(ctx context.Context) error { _, err := s.List(ctx, "a", 1); return err },
		"Put": func(ctx context.Context) error {
			_, err := s.Put(ctx, "a", strings.NewReader("x"), 1, nil, gateway.If{})
			return err
		},
		"Delete": func(ctx context.Context) error { return s.Delete(ctx, "a", gateway.If{}) },
		"Range": func(ctx context.Context) error {
			o, err := s.Open(t.Context(), "slow", gateway.Want{N: -1})
			if err != nil {
				return err
			}
			defer o.Close()
			r, err := o.Range(ctx, 0, 100)
			if err != nil {
				return err
			}
			defer r.Close()
			_, err = io.ReadAll(r)
			return err
		},
	} {
		waiting = make(chan struct{}, 1)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-waiting
			cancel()
		}()
		if err := call(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, gateway.ErrUnavailable) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestAPartIsAsLongAsItSays checks a 206 that does not tell its length: more octets
// than its range has are of something else.
func TestAPartIsAsLongAsItSays(t *testing.T) {
	for body, want := range map[string]string{"89ab": "89ab", "0123456789abcdef": "", "89": ""} {
		s := scripted(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"v"`)
			w.Header().Set("Content-Type", "text/css")
			if r.Method == http.MethodHead {
				w.Header().Set("Content-Length", "16")
				return
			}
			w.Header().Set("Content-Range", "bytes 8-11/16")
			w.WriteHeader(http.StatusPartialContent)
			_ = http.NewResponseController(w).Flush() // so that no length is told
			_, _ = io.WriteString(w, body)
		})
		for _, opened := range []gateway.Want{{}, {Off: 8, N: 4}} {
			b, err := part(t.Context(), s, "a.css", opened, 8, 4)
			if (err == nil) != (want != "") || err == nil && string(b) != want || len(body) > 4 && errors.Is(err, gateway.ErrUnavailable) {
				t.Errorf("%q: %q, %v", body, b, err)
			}
		}
	}
}

// TestA304OfSomethingElseIsNotBelieved checks that it is asked again without the
// condition.
func TestA304OfSomethingElseIsNotBelieved(t *testing.T) {
	s := scripted(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"new"`)
		w.Header().Set("Last-Modified", "Mon, 06 May 2024 07:08:09 GMT")
		if r.Header.Get("If-None-Match") != "" || r.Header.Get("If-Modified-Since") != "" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("Content-Type", "text/css")
		_, _ = io.WriteString(w, "body{}")
	})
	for _, n := range []int64{0, -1} {
		for _, want := range []gateway.Want{{N: n, Unless: "old"}, {N: n, UnlessSince: gatewaytest.Past().AddDate(-30, 0, 0)}} {
			o, err := s.Open(t.Context(), "a.css", want)
			if err != nil {
				t.Fatal(err)
			}
			if i := o.Info(); i.Unchanged || i.Version != "new" || i.Size != 6 {
				t.Errorf("%+v: %+v", want, i)
			}
			o.Close()
		}
		if o, err := s.Open(t.Context(), "a.css", gateway.Want{N: n, Unless: "new"}); err != nil || !o.Info().Unchanged {
			t.Errorf("as the client has it: %v", err)
		}
	}
}

func TestACertificateThatIsNotTrustedIsNotTriedAgain(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	s := open(t, webdav.Options{URL: server.URL})
	defer s.Close()
	if _, err := s.Open(t.Context(), "a", gateway.Want{}); err == nil || errors.Is(err, gateway.ErrUnavailable) {
		t.Error(err)
	}
}
