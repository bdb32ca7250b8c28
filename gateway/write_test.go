package gateway_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/gateway"
)

func TestWriting(t *testing.T) {
	f := &fakeWriter{fake: holding(local, map[string]string{"f": "old", "dir/x": ""})}
	var wrote []string
	h := gateway.New(f, gateway.Options{Write: true, Wrote: func(c gateway.Change) { wrote = append(wrote, c.Name) }})
	put := func(target string, fields ...string) answer {
		return ask(h, "PUT", target, strings.NewReader("new"), fields...)
	}

	put("/new").is(t, 201, "ETag", `"new"`)
	put("/new").is(t, 204, "ETag", `"new"`)
	equal(t, "plain", f.asked(), "open new 0+0", "put new 3 absent=false version=", "open new 0+0", "close new", "put new 3 absent=false version=")
	put("/f", "If-Match", `"v1"`).is(t, 204)
	equal(t, "If-Match", f.asked(), "open f 0+0", "close f", "put f 3 absent=false version=v1")
	put("/f", "If-Match", `*`).is(t, 204)
	equal(t, "If-Match: *", f.asked(), "open f 0+0", "close f", "put f 3 absent=false version=new")
	put("/deep/er", "If-None-Match", `*`).is(t, 201)
	equal(t, "If-None-Match: *", f.asked(), "open deep/er 0+0", "put deep/er 3 absent=true version=")
	put("/f", "If-Unmodified-Since", date).is(t, 204)
	put("/absent", "If-Unmodified-Since", date).is(t, 201)
	put("/f", "If-None-Match", `"other"`).is(t, 204)
	f.asked()
	if want := []string{"new", "new", "f", "f", "deep/er", "f", "absent", "f"}; !slices.Equal(wrote, want) {
		t.Errorf("told of %q, want %q", wrote, want)
	}

	// What does not hold changes nothing.
	wrote = nil
	for _, fields := range [][]string{
		{"If-Match", `"v0"`},
		{"If-Match", `W/"new"`},
		{"If-Match", ``},
		{"If-Match", `new`},
		{"If-None-Match", `*`},
		{"If-None-Match", `"new"`},
		{"If-None-Match", `W/"new"`},
		{"If-None-Match", `"x"`, "If-None-Match", `"new"`},
		{"If-Unmodified-Since", dayEarly},
		{"If-Match", `"new"`, "If-None-Match", `*`},
	} {
		put("/f", fields...).is(t, 412)
		ask(h, "DELETE", "/f", nil, fields...).is(t, 412)
	}
	put("/none", "If-Match", `*`).is(t, 412)
	put("/none", "If-Match", `"new"`).is(t, 412)
	ask(h, "DELETE", "/none", nil, "If-Match", `"new"`).is(t, 412)
	put("/dir", "If-Match", `*`).is(t, 409)
	put("/dir/").is(t, 409)
	put("/").is(t, 409)
	ask(h, "DELETE", "/dir", nil, "If-Match", `*`).is(t, 409)
	put("/f", "Content-Range", "bytes 0-2/3").is(t, 400)
	put("/a/../f").is(t, 400)
	put("/.hidden").is(t, 404)
	for _, call := range f.asked() {
		if strings.HasPrefix(call, "put") || strings.HasPrefix(call, "delete") {
			t.Error(call)
		}
	}

	ask(h, "DELETE", "/f", nil, "If-Match", `"new"`).is(t, 204)
	equal(t, "DELETE", f.asked(), "open f 0+0", "close f", "delete f absent=false version=new")
	ask(h, "DELETE", "/new", nil).is(t, 204)
	ask(h, "DELETE", "/new", nil).is(t, 404)
	f.asked()
	ask(h, "DELETE", "/new", nil, "If-None-Match", "*").is(t, 404)
	equal(t, "DELETE of nothing", f.asked(), "open new 0+0") // which may have come meanwhile
	if want := []string{"f", "new"}; !slices.Equal(wrote, want) {
		t.Errorf("told of %q, want %q", wrote, want)
	}
}

// A browser may run a page of anybody's, also under the name of this very server, if that
// was made to point here.
func TestBrowsersDoNotWrite(t *testing.T) {
	f := &fakeWriter{fake: holding(local, map[string]string{"f": "old"})}
	h := gateway.New(f, gateway.Options{Write: true})
	for _, field := range []string{"Origin: http://evil.example", "Origin: http://example.com", "Origin: null", "Sec-Fetch-Site: same-origin"} {
		name, value, _ := strings.Cut(field, ": ")
		ask(h, "PUT", "/f", strings.NewReader("x"), name, value).is(t, 403)
		ask(h, "DELETE", "/f", nil, name, value).is(t, 403)
		ask(h, "GET", "/f", nil, name, value).is(t, 200)
	}
	if f.objects["f"].text != "old" {
		t.Error("it was written")
	}
}

func TestWritersThatRefuse(t *testing.T) {
	for err, want := range map[error]int{
		gateway.ErrConflict: 412, gateway.ErrFull: 507, fs.ErrPermission: 403, fs.ErrNotExist: 409, gateway.ErrUnavailable: 503, errors.New("else"): 500,
	} {
		f := &fakeWriter{fake: holding(local, nil)}
		f.onWrite = func(context.Context, string, io.Reader) error { return fmt.Errorf("%s: %w", secretWord, err) }
		told := 0
		h := gateway.New(f, gateway.Options{Write: true, Wrote: func(gateway.Change) { told++ }})
		ask(h, "PUT", "/f", strings.NewReader("x")).is(t, want, "ETag", "")
		if told != 1 { // who knows how far it came
			t.Errorf("PUT, %v: told %d times", err, told)
		}
		told = 0
		if errors.Is(err, fs.ErrNotExist) {
			want, told = 404, 1 // what is not there did not change
		}
		ask(h, "DELETE", "/f", nil).is(t, want)
		if told != 1 {
			t.Errorf("DELETE, %v: told %d times", err, told)
		}
	}
}

// brokenBody is content that breaks off.
type brokenBody struct{ text string }

func (b *brokenBody) Read(p []byte) (int, error) {
	n := copy(p, b.text)
	if b.text = b.text[n:]; n == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	return n, nil
}

func TestContentThatBreaksOff(t *testing.T) {
	f := &fakeWriter{fake: holding(local, map[string]string{"f": "old"})}
	h := gateway.New(f, gateway.Options{Write: true})
	for _, target := range []string{"/f", "/new"} {
		ask(h, "PUT", target, &brokenBody{"half"}).is(t, 400)
	}
	if f.objects["f"].text != "old" || len(f.objects) != 1 {
		t.Errorf("%v", f.objects)
	}
	// What was written was written, whatever the content did afterwards, and whoever
	// still reads it.
	reading := make(chan struct{})
	f.onWrite = func(_ context.Context, _ string, body io.Reader) error {
		b := make([]byte, 4)
		if _, err := io.ReadFull(body, b); err != nil {
			t.Error(err)
		}
		go func() {
			defer close(reading)
			_, _ = body.Read(b)
		}()
		return gateway.ErrFull
	}
	r := &slowBody{text: "half", end: make(chan struct{})}
	done := make(chan answer)
	go func() { done <- ask(h, "PUT", "/f", r) }()
	close(r.end)
	a := <-done
	<-reading
	if a.Code != 507 && a.Code != 400 {
		t.Errorf("%d", a.Code)
	}
}

// A slowBody breaks off when it is told to. As the server's own do, it bears several
// readers, once it has given its text.
type slowBody struct {
	text string
	end  chan struct{}
}

func (b *slowBody) Read(p []byte) (int, error) {
	if b.text == "" {
		<-b.end
		return 0, io.ErrUnexpectedEOF
	}
	n := copy(p, b.text)
	b.text = b.text[n:]
	return n, nil
}

func TestWhatIsWrittenCountsWhateverComesAfter(t *testing.T) {
	f := &fakeWriter{fake: holding(local, nil)}
	h := gateway.New(&tolerant{f}, gateway.Options{Write: true})
	ask(h, "PUT", "/f", &brokenBody{"whole"}).is(t, 201)
}

// A tolerant Writer has all that it needs before its last Read.
type tolerant struct{ *fakeWriter }

func (w *tolerant) Put(_ context.Context, _ string, body io.Reader, _ int64, _ http.Header, _ gateway.If) (gateway.Info, error) {
	_, _ = io.ReadAll(body)
	return gateway.Info{Version: "v", Certain: true}, nil
}

func TestFieldsOfAPut(t *testing.T) {
	f := &fakeWriter{fake: holding(local, nil)}
	h := gateway.New(f, gateway.Options{Write: true})
	ask(h, "PUT", "/f", strings.NewReader("x"), "Content-Encoding", "gzip").is(t, 415) // it would come back as plain
	if f.fields != nil {
		t.Error("it was written")
	}
	f = &fakeWriter{fake: holding(gateway.Traits{Codings: true}, nil)}
	h = gateway.New(f, gateway.Options{Write: true})
	ask(h, "PUT", "/f", strings.NewReader("x"), "Content-Type", "text/x", "Content-Encoding", "gzip", "Content-Language", "de", "Content-Disposition", "inline", "Cache-Control", "no-store",
		"Authorization", secretWord, "Cookie", secretWord, "Content-Length", "1", "Host", "x").is(t, 201)
	want := []string{"Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Type"}
	var got []string
	for name := range f.fields {
		got = append(got, name)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%v", f.fields)
	}
}

// The one who is told of a change has to know of it before the client does, or the
// client reads what it has replaced.
func TestChangesAreToldBeforeTheAnswer(t *testing.T) {
	f := &fakeWriter{fake: holding(local, nil)}
	rec := httptest.NewRecorder()
	rec.Code = 0
	told := 0
	h := gateway.New(f, gateway.Options{Write: true, Wrote: func(c gateway.Change) {
		told++
		if rec.Code != 0 || c.Name != "f" || c.Under {
			t.Errorf("told of %+v after %d", c, rec.Code)
		}
	}})
	for _, method := range []string{"PUT", "DELETE"} {
		rec.Code = 0
		h.ServeHTTP(rec, httptest.NewRequest(method, "/f", strings.NewReader("x")))
	}
	if told != 2 {
		t.Errorf("told %d times", told)
	}
}

func TestReadOnly(t *testing.T) {
	writer := &fakeWriter{fake: holding(local, map[string]string{"f": "old"})}
	reader := holding(local, map[string]string{"f": "old"})
	if !gateway.CanWrite(writer) || gateway.CanWrite(reader) {
		t.Error("CanWrite")
	}
	for name, c := range map[string]struct {
		h     *gateway.Handler
		allow string
	}{
		"not asked for": {gateway.New(writer, gateway.Options{}), "GET, HEAD, OPTIONS"},
		"not possible":  {gateway.New(reader, gateway.Options{Write: true}), "GET, HEAD, OPTIONS"},
		"possible":      {gateway.New(writer, gateway.Options{Write: true}), "GET, HEAD, PUT, DELETE, OPTIONS"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, method := range []string{"POST", "PATCH", "PROPFIND", "put", "CONNECT", "TRACE", ""} {
				ask(c.h, method, "/f", nil).is(t, map[bool]int{true: 200, false: 405}[method == ""])
			}
			ask(c.h, "OPTIONS", "/f", nil).is(t, 204, "Allow", c.allow)
			ask(c.h, "POST", "/f", nil).is(t, 405, "Allow", c.allow)
			if name != "possible" {
				ask(c.h, "PUT", "/f", nil).is(t, 405, "Allow", c.allow)
				ask(c.h, "DELETE", "/f", nil).is(t, 405, "Allow", c.allow)
			}
		})
	}
	if writer.objects["f"].text != "old" {
		t.Error("it was written to")
	}
}

func TestPathsOfChanges(t *testing.T) {
	for name, want := range map[string][]string{
		"":                  {"/"},
		"a.txt":             {"/", "/a.txt", "/a.txt/"},
		"a/b c/d?e":         {"/", "/a", "/a/", "/a/b%20c", "/a/b%20c/", "/a/b%20c/d%3Fe", "/a/b%20c/d%3Fe/"},
		"dir/index.html":    {"/", "/dir", "/dir/", "/dir/index.html", "/dir/index.html/"},
		"dir/index.html.gz": {"/", "/dir", "/dir/", "/dir/index.html", "/dir/index.html.gz", "/dir/index.html.gz/", "/dir/index.html/"},
		"x.zst":             {"/", "/x", "/x.zst", "/x.zst/", "/x/"},
		"a//b":              {"/", "/a", "/a/", "/a//", "/a//b", "/a//b/"},
		"100%":              {"/", "/100%25", "/100%25/"},
	} {
		got := gateway.Change{Name: name}.Paths(false)
		slices.Sort(got)
		if got = slices.Compact(got); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
	// What changed inside shows nowhere else, unless folders are listed or it is their index.
	for name, want := range map[string][]string{
		"a/b.txt":         {"/a/b.txt", "/a/b.txt/"},
		"a/b.txt.gz":      {"/a/b.txt", "/a/b.txt.gz", "/a/b.txt.gz/", "/a/b.txt/"},
		"a/index.html":    {"/a", "/a/", "/a/index.html", "/a/index.html/"},
		"index.html":      {"/", "/index.html", "/index.html/"},
		"index.html.br":   {"/", "/index.html", "/index.html.br", "/index.html.br/", "/index.html/"},
		"a/no-index.html": {"/a/no-index.html", "/a/no-index.html/"},
	} {
		got := gateway.Change{Name: name, Inside: true}.Paths(false)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("inside %q: %q, want %q", name, got, want)
		}
	}
	if got := (gateway.Change{Name: "a/b.txt", Inside: true}).Paths(true); !slices.Contains(got, "/a/") {
		t.Errorf("where folders are listed: %q", got)
	}
}

// Who asks before it sends content is answered before it has sent any.
func TestRefusedBeforeTheContentComes(t *testing.T) {
	f := &fakeWriter{fake: holding(local, map[string]string{"f": "old"})}
	srv := httptest.NewServer(gateway.New(f, gateway.Options{Write: true}))
	defer srv.Close()
	for _, c := range []struct{ field, want string }{
		{"If-None-Match: *", "412"}, {"Origin: http://evil.example", "403"}, {"Content-Range: bytes 0-0/5", "400"},
	} {
		conn, err := net.Dial("tcp", srv.Listener.Addr().String())
		check(t, err)
		defer conn.Close()
		check(t, conn.SetDeadline(time.Now().Add(3*time.Second)))
		_, err = fmt.Fprintf(conn, "PUT /f HTTP/1.1\r\nHost: example.com\r\nExpect: 100-continue\r\nContent-Length: 5\r\n%s\r\n\r\n", c.field)
		check(t, err)
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil || !strings.HasPrefix(line, "HTTP/1.1 "+c.want) {
			t.Errorf("%s: %q, %v", c.field, line, err)
		}
	}
}

// What comes with a request that is refused is no request.
func TestContentOfRefusedRequestsIsNoRequest(t *testing.T) {
	f := &fakeWriter{fake: holding(local, map[string]string{"f.txt": "old"})}
	srv := httptest.NewServer(gateway.New(f, gateway.Options{Write: true}))
	defer srv.Close()
	hidden := "DELETE /f.txt HTTP/1.1\r\nHost: example.com\r\n\r\n"
	for _, first := range []string{"PUT /f.txt HTTP/1.1\r\nIf-None-Match: *", "GET /f.txt HTTP/1.1", "GET /none HTTP/1.1", "POST /f.txt HTTP/1.1", "PUT /dir/ HTTP/1.1", "DELETE /f.txt HTTP/1.1\r\nIf-Match: \"x\"", "OPTIONS /f.txt HTTP/1.1"} {
		conn, err := net.Dial("tcp", srv.Listener.Addr().String())
		check(t, err)
		defer conn.Close()
		check(t, conn.SetDeadline(time.Now().Add(5*time.Second)))
		_, err = fmt.Fprintf(conn, "%s\r\nHost: example.com\r\nContent-Length: %d\r\n\r\n%sGET /f.txt HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n", first, len(hidden), hidden)
		check(t, err)
		b, err := io.ReadAll(conn)
		check(t, err)
		if n := strings.Count(string(b), "HTTP/1.1 "); n > 2 || f.objects["f.txt"].text != "old" {
			t.Errorf("%s: %d answers: %s", first, n, b)
		}
	}
	srv.Close()
	for _, call := range f.asked() {
		if strings.HasPrefix(call, "delete") {
			t.Error(call)
		}
	}
}
