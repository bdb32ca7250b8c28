package gateway_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/gateway/file"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const outside = "OUTSIDE"

// past is when the files of tests were written, unless a test says otherwise.
var past = time.Date(2024, 5, 6, 7, 8, 9, 123456789, time.UTC)

// tree makes a folder with files, and a file next to it that must stay unseen.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	top := t.TempDir()
	dir := filepath.Join(top, "root")
	put(t, filepath.Join(top, "secret"), outside)
	put(t, filepath.Join(dir, "placeholder"), "")
	for name, text := range files {
		put(t, filepath.Join(dir, name), text)
	}
	return dir
}

func put(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(name, past, past); err != nil {
		t.Fatal(err)
	}
}

// later is a clock by which all files of tests have settled.
func later() time.Time { return time.Now().Add(time.Hour) }

func serve(t *testing.T, dir string, o gateway.Options) *gateway.Handler {
	t.Helper()
	return serveAt(t, dir, later, o)
}

func serveAt(t *testing.T, dir string, now func() time.Time, o gateway.Options) *gateway.Handler {
	t.Helper()
	src, err := file.Options{Now: now}.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	h := gateway.New(src, o)
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func get(h http.Handler, method, target string, fields ...string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(method, target, nil)
	for i := 0; i < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	return rec
}

func TestFG01_Paths(t *testing.T) {
	h := serve(t, tree(t, map[string]string{
		"a/b.txt": "b", ".hidden": outside, "a/.git/config": outside, ".well-known/x": "wk",
		"a/.well-known/x": outside, "back\\slash": outside, "..c": outside, "q?d#e": "odd",
	}), gateway.Options{Listing: true})
	for target, want := range map[string]int{
		"/a/b.txt": 200, "/a/%62.txt": 200, "/.well-known/x": 200, "/q%3Fd%23e": 200,
		"/../secret": 400, "/a/../../secret": 400, "/%2e%2e/secret": 400, "/%2e%2e%2fsecret": 404,
		"/..%2fsecret": 404, "/..%5csecret": 400, "/a/./b.txt": 400, "/a/..": 400, "/a/../": 400,
		"//etc/passwd": 404, "/a//b.txt": 404, "//": 404, "/a/b.txt/": 404, "/a%2fb.txt": 404,
		"/a%00": 400, "/back%5Cslash": 400, "/.hidden": 404, "/a/.git/config": 404, "/a/.git/": 404,
		"/a/.well-known/x": 404, "/..c": 404, "/...": 404,
		"/" + strings.Repeat("a", 5000): 404, "/" + strings.Repeat("a", 300): 404,
		"/none": 404, "/a/b.txt/c": 404, "/etc/passwd": 404,
	} {
		rec := get(h, "GET", "http://h"+target)
		if rec.Code != want || strings.Contains(rec.Body.String(), outside) {
			t.Errorf("%.40s: %d %q, want %d", target, rec.Code, rec.Body, want)
		}
	}
	req := httptest.NewRequest("GET", "/", nil)
	for _, path := range []string{"", "a", "*"} {
		req.URL.Path = path
		rec := httptest.NewRecorder()
		if h.ServeHTTP(rec, req); rec.Code != 400 {
			t.Errorf("%q: %d", path, rec.Code)
		}
	}
}

func TestFG02_Links(t *testing.T) {
	dir := tree(t, map[string]string{"a/b": "inside", "a/.h": "hidden"})
	for name, to := range map[string]string{
		"in": "a/b", "dir": "a", "out": "../secret", "far": "../../../../../../etc/passwd", "abs": filepath.Join(dir, "..", "secret"),
		"abs-in": filepath.Join(dir, "a", "b"), "up": "..", "loop": "loop", "dangling": "none", "slash": "../secret/",
	} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	h := serve(t, dir, gateway.Options{Listing: true})
	for target, want := range map[string]int{
		"/in": 200, "/dir/b": 200, "/dir/": 200, "/dir": 301,
		"/out": 404, "/far": 404, "/abs": 404, "/abs-in": 404, "/up": 404, "/up/": 404, "/up/secret": 404,
		"/loop": 404, "/dangling": 404, "/slash": 404, "/slash/": 404, "/out/": 404,
	} {
		rec := get(h, "GET", target)
		if rec.Code != want || strings.Contains(rec.Body.String(), outside) {
			t.Errorf("%s: %d %q, want %d", target, rec.Code, rec.Body, want)
		}
	}
	list := get(h, "GET", "/").Body.String()
	for name, want := range map[string]bool{"in": true, "dir/": true, "out": false, "up": false, "loop": false, "dangling": false} {
		if strings.Contains(list, `">`+name+`<`) != want {
			t.Errorf("listing has %s: %t\n%s", name, !want, list)
		}
	}
}

func TestFG02_SwappedBetweenLookAndOpen(t *testing.T) {
	dir := tree(t, map[string]string{"x": "inside"})
	h := serve(t, dir, gateway.Options{})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			_ = os.Symlink("../secret", filepath.Join(dir, "s"))
			_ = os.Rename(filepath.Join(dir, "s"), filepath.Join(dir, "x"))
			_ = os.WriteFile(filepath.Join(dir, "t"), []byte("inside"), 0o644)
			_ = os.Rename(filepath.Join(dir, "t"), filepath.Join(dir, "x"))
		}
	})
	seen := map[int]int{}
	for range 2000 {
		rec := get(h, "GET", "/x")
		seen[rec.Code]++
		if strings.Contains(rec.Body.String(), outside) {
			t.Fatal("an octet from outside")
		}
		if rec.Code != 200 && rec.Code != 404 {
			t.Errorf("%d", rec.Code)
		}
	}
	close(stop)
	wg.Wait()
	t.Log(seen)
}

func TestFG03_HugeFiles(t *testing.T) {
	dir := tree(t, nil)
	sparse := filepath.Join(dir, "sparse")
	put(t, sparse, "")
	if err := os.Truncate(sparse, 1<<40); err != nil {
		t.Fatal(err)
	}
	h := serve(t, dir, gateway.Options{Listing: true})
	if rec := get(h, "HEAD", "/sparse"); rec.Code != 200 || rec.Header().Get("Content-Length") != "1099511627776" {
		t.Errorf("sparse: %d %v", rec.Code, rec.Header())
	}
	if rec := get(h, "GET", "/sparse", "Range", "bytes=-3"); rec.Code != 206 || rec.Body.String() != "\x00\x00\x00" {
		t.Errorf("sparse: %d %q", rec.Code, rec.Body)
	}
}

// A changer runs a change at the first Write of an answer.
type changer struct {
	http.ResponseWriter
	once   sync.Once
	change func()
}

func (c *changer) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.once.Do(c.change)
	return n, err
}

func TestFG04_ChangedWhileSent(t *testing.T) {
	old := strings.Repeat("old ", 50000)
	for name, c := range map[string]struct {
		change func(t *testing.T, f string)
		aborts bool
	}{
		"nothing":   {func(*testing.T, string) {}, false},
		"truncated": {func(t *testing.T, f string) { check(t, os.Truncate(f, 100)) }, true},
		"grown":     {func(t *testing.T, f string) { check(t, os.Truncate(f, 1<<20)) }, true},
		"rewritten": {func(t *testing.T, f string) {
			check(t, os.WriteFile(f, []byte(strings.Repeat("new ", 50000)), 0o644))
		}, true},
		"replaced": {func(t *testing.T, f string) {
			check(t, os.WriteFile(f+".new", []byte("new"), 0o644))
			check(t, os.Rename(f+".new", f))
		}, false},
		"removed": {func(t *testing.T, f string) { check(t, os.Remove(f)) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tree(t, map[string]string{"f": old})
			h := serve(t, dir, gateway.Options{})
			for _, field := range []string{"", "bytes=10-199999"} {
				put(t, filepath.Join(dir, "f"), old)
				rec := httptest.NewRecorder()
				req := httptest.NewRequest("GET", "/f", nil)
				if field != "" {
					req.Header.Set("Range", field)
				}
				var aborted any
				func() {
					defer func() { aborted = recover() }()
					h.ServeHTTP(&changer{ResponseWriter: rec, change: func() { c.change(t, filepath.Join(dir, "f")) }}, req)
				}()
				if (aborted == http.ErrAbortHandler) != c.aborts {
					t.Errorf("ended in %v", aborted)
				}
				if got := rec.Body.String(); strings.Contains(got, "new") || !strings.HasPrefix(old, got) && field == "" || !c.aborts && field == "" && got != old {
					t.Errorf("%d octets, mixed or missing", len(got))
				}
			}
		})
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestFG04_ValidatorsAreTrue(t *testing.T) {
	dir := tree(t, map[string]string{"f.txt": "hello"})
	h := serve(t, dir, gateway.Options{})
	rec := get(h, "GET", "/f.txt")
	tag, date := rec.Header().Get("ETag"), rec.Header().Get("Last-Modified")
	if !strings.HasPrefix(tag, `"`) || date != "Mon, 06 May 2024 07:08:09 GMT" {
		t.Errorf("ETag %s, Last-Modified %s", tag, date)
	}
	if got := rec.Header().Get("Content-Type"); got != "text/plain; charset=utf-8" {
		t.Errorf("Content-Type %s", got)
	}
	if v, ok := rec.Header()["Cache-Control"]; ok {
		t.Errorf("Cache-Control %v", v)
	}
	for _, f := range [][]string{{"If-None-Match", tag}, {"If-None-Match", "W/" + tag}, {"If-Modified-Since", date}} {
		rec = get(h, "GET", "/f.txt", f...)
		if rec.Code != 304 || rec.Header().Get("ETag") != tag || rec.Body.Len() > 0 {
			t.Errorf("%v: %d %v", f, rec.Code, rec.Header())
		}
		for _, name := range []string{"Content-Length", "Content-Type"} {
			if rec.Header().Get(name) != "" {
				t.Errorf("%v: 304 with %s", f, name)
			}
		}
	}
	// Same size, and the time of modification set back: another version all the same.
	put(t, filepath.Join(dir, "f.txt"), "HELLO")
	if rec = get(h, "GET", "/f.txt", "If-None-Match", tag); rec.Code != 200 || rec.Body.String() != "HELLO" {
		t.Errorf("rewritten: %d %q %v", rec.Code, rec.Body, rec.Header())
	}
}

func TestFG04_FreshFilesHaveNoValidator(t *testing.T) {
	dir := tree(t, map[string]string{"f": "hello"})
	settled := get(serve(t, dir, gateway.Options{}), "GET", "/f").Header().Get("ETag")
	for _, age := range []time.Duration{0, time.Second, -time.Hour} {
		h := serveAt(t, dir, func() time.Time { return time.Now().Add(age) }, gateway.Options{})
		rec := get(h, "GET", "/f")
		if rec.Header().Get("ETag") != "" || rec.Header().Get("Last-Modified") != "" {
			t.Errorf("age %v: %v", age, rec.Header())
		}
		// Nothing confirms what was kept then, or from before: it may be gone.
		for _, f := range [][]string{{"If-None-Match", settled}, {"If-Modified-Since", "Mon, 06 May 2024 07:08:09 GMT"}, {"Range", "bytes=0-0", "If-Range", settled}} {
			if rec = get(h, "GET", "/f", f...); rec.Code != 200 {
				t.Errorf("age %v, %v: %d", age, f, rec.Code)
			}
		}
	}
}

func TestFG_Methods(t *testing.T) {
	h := serve(t, tree(t, map[string]string{"f": "hello"}), gateway.Options{Default: 90*time.Second + 1})
	for method, want := range map[string]int{
		"GET": 200, "HEAD": 200, "OPTIONS": 204, "POST": 405, "PUT": 405, "DELETE": 405, "TRACE": 405, "get": 405, "PROPFIND": 405,
	} {
		rec := get(h, method, "/f")
		if rec.Code != want {
			t.Errorf("%s: %d, want %d", method, rec.Code, want)
		}
		if allow := rec.Header().Get("Allow"); (want == 405 || want == 204) != (allow == "GET, HEAD, OPTIONS") {
			t.Errorf("%s: Allow %q", method, allow)
		}
		if cc := rec.Header().Get("Cache-Control"); (want == 200) != (cc == "max-age=90") {
			t.Errorf("%s: Cache-Control %q", method, cc)
		}
	}
	if rec := get(h, "HEAD", "/f"); rec.Body.Len() != 0 || rec.Header().Get("Content-Length") != "5" {
		t.Errorf("HEAD: %q %v", rec.Body, rec.Header())
	}
	if rec := get(h, "OPTIONS", "*"); rec.Code != 204 {
		t.Errorf("OPTIONS *: %d", rec.Code)
	}
}

func TestFG_Folders(t *testing.T) {
	dir := tree(t, map[string]string{
		"site/index.html": "<p>hi", "a:b/f": "", "<i>\"&/f": "", "odd/index.html/f": "", "sp ace/f": "", "é/%/f": "", ".git/f": "",
	})
	quiet, loud := serve(t, dir, gateway.Options{}), serve(t, dir, gateway.Options{Listing: true})
	for _, h := range []http.Handler{quiet, loud} {
		rec := get(h, "GET", "/site/")
		if rec.Code != 200 || rec.Body.String() != "<p>hi" || rec.Header().Get("Content-Type") != "text/html; charset=utf-8" {
			t.Errorf("index: %d %q %v", rec.Code, rec.Body, rec.Header())
		}
		for target, want := range map[string]string{
			"/site?a=b":       "./site/",
			"/a:b":            "./a:b/",
			"/sp%20ace":       "./sp%20ace/",
			"/%3Ci%3E%22&":    "./%3Ci%3E%22&/",
			"/%C3%A9/%25":     "./%25/",
			"/odd":            "./odd/",
			"/odd/index.html": "./index.html/",
		} {
			if rec := get(h, "GET", target); rec.Code != 301 || rec.Header().Get("Location") != want {
				t.Errorf("%s: %d to %q, want %q", target, rec.Code, rec.Header().Get("Location"), want)
			}
		}
	}
	for _, target := range []string{"/", "/odd/", "/a:b/"} {
		if rec := get(quiet, "GET", target); rec.Code != 404 {
			t.Errorf("%s without Listing: %d", target, rec.Code)
		}
		if rec := get(loud, "GET", target); rec.Code != 200 {
			t.Errorf("%s with Listing: %d", target, rec.Code)
		}
	}
	rec := get(loud, "GET", "/")
	page := rec.Body.String()
	for _, want := range []string{
		`<a href="./a:b/">a:b/</a>`, `<a href="./%3Ci%3E%22&amp;/">&lt;i&gt;&#34;&amp;/</a>`, `<a href="./sp%20ace/">sp ace/</a>`, `<a href="./placeholder">`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the listing lacks %s:\n%s", want, page)
		}
	}
	if strings.Contains(page, ".git") || strings.Contains(page, "../") || strings.Contains(page, "<i>") {
		t.Errorf("the listing:\n%s", page)
	}
	if got := rec.Header().Get("Content-Security-Policy"); got != "default-src 'none'; style-src 'unsafe-inline'" {
		t.Errorf("policy %q", got)
	}
	tag := rec.Header().Get("ETag")
	if rec = get(loud, "GET", "/", "If-None-Match", tag); rec.Code != 304 {
		t.Errorf("%d", rec.Code)
	}
	put(t, filepath.Join(dir, "new"), "")
	if rec = get(loud, "GET", "/", "If-None-Match", tag); rec.Code != 200 {
		t.Errorf("%d", rec.Code)
	}
	if rec = get(loud, "GET", "/%C3%A9/"); !strings.Contains(rec.Body.String(), `<a href="../">../</a>`) {
		t.Errorf("no way up:\n%s", rec.Body)
	}
}

func TestFG_OverTheNetwork(t *testing.T) {
	h := serve(t, tree(t, map[string]string{"f.css": "a{}"}), gateway.Options{})
	srv := httptest.NewServer(h)
	defer srv.Close()
	resp, err := srv.Client().Get(srv.URL + "/f.css")
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || string(b) != "a{}" || resp.Header.Get("Accept-Ranges") != "bytes" {
		t.Errorf("%q %v %v", b, err, resp.Header)
	}
	srv.Client().CloseIdleConnections()
}
