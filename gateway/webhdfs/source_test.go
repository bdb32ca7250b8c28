package webhdfs_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/gateway/gatewaytest"
	"github.com/larderhq/larder/gateway/webhdfs"
)

// part reads a range of an object that is opened for it.
func part(ctx context.Context, s gateway.Source, name string, off, n int64) ([]byte, error) {
	o, err := s.Open(ctx, name, gateway.Want{N: -1})
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

// cleared is a Source of c, with what it was asked forgotten.
func cleared(t *testing.T, c *cluster) *webhdfs.Source {
	s := open(t, webhdfs.Options{URL: c.name.URL})
	t.Cleanup(func() { _ = s.Close() })
	c.requests()
	return s
}

func TestWhatIsAsked(t *testing.T) {
	c := newCluster(t)
	c.put("/d/x%2Fy ?#+é", []byte("0123456789"), gatewaytest.Past())
	s := cleared(t, c)
	const x = "/d/x%252Fy%20%3F%23%2B%C3%A9"
	const seen = "/d/x%252Fy%20%3F%23+%C3%A9" // as the name node writes it in Location
	if b, err := part(t.Context(), s, "d/x%2Fy ?#+é", 2, 5); err != nil || string(b) != "23456" {
		t.Errorf("%q, %v", b, err)
	}
	want := []string{"name GET GETFILESTATUS " + x, "name GET OPEN " + x, "data GET OPEN " + seen, "name GET GETFILESTATUS " + x}
	if got := c.requests(); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if _, err := s.List(t.Context(), "d", 10); err != nil {
		t.Error(err)
	}
	if got := c.requests(); !slices.Equal(got, []string{"name GET LISTSTATUS /d"}) {
		t.Errorf("%q", got)
	}
	if _, err := s.Put(t.Context(), "d/x%2Fy ?#+é", strings.NewReader("new"), 3, nil, gateway.If{}); err != nil {
		t.Error(err)
	}
	got := strings.Join(c.requests(), "\n")
	for _, op := range []string{"name GET GETFILESTATUS " + x, "name PUT CREATE /d/.larder-", "data PUT CREATE /d/.larder-", "name GET GETFILESTATUS /d/.larder-", "name PUT RENAME /d/.larder-"} {
		_, rest, ok := strings.Cut(got, op)
		if !ok {
			t.Fatalf("no %s in %s", op, got)
		}
		got = rest
	}
	if all := c.below("/d"); !slices.Equal(all, []string{"/d/x%2Fy ?#+é"}) {
		t.Errorf("%q", all)
	}
	c.requests()
	for _, name := range []string{"..", "a/../b", ".", "a//b", "/a", "a/", "a\x00", "a\r\nb", "a:b", "hdfs://other/x"} {
		_, err := s.Open(t.Context(), name, gateway.Want{})
		_, err2 := s.List(t.Context(), name, 1)
		_, err3 := s.Put(t.Context(), name, strings.NewReader(""), 0, nil, gateway.If{})
		err4 := s.Delete(t.Context(), name, gateway.If{})
		for _, err := range []error{err, err2, err3, err4} {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%q: %v", name, err)
			}
		}
	}
	if got := c.requests(); len(got) > 0 {
		t.Errorf("%q", got)
	}
}

func TestCredentialsAreSentAndNeverShown(t *testing.T) {
	var query url.Values
	c := newCluster(t)
	c.put("/a", []byte("abc"), gatewaytest.Past())
	c.before = func(_ http.ResponseWriter, r *http.Request) bool {
		query = r.URL.Query()
		return false
	}
	for _, o := range []webhdfs.Options{{User: "ann"}, {Token: "hush"}, {}} {
		o.URL = c.name.URL
		s := open(t, o)
		if _, err := part(t.Context(), s, "a", 0, 3); err != nil {
			t.Error(err)
		}
		if query.Get("user.name") != o.User || query.Get("delegation") != o.Token {
			t.Errorf("%v", query)
		}
		s.Close()
	}
	c.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("op") == "GETFILESTATUS" {
			return false
		}
		w.Header().Set("Location", "ftp://host/?delegation=hush")
		w.WriteHeader(http.StatusTemporaryRedirect)
		return true
	}
	s := open(t, webhdfs.Options{URL: c.name.URL, Token: "hush"})
	_, err := part(t.Context(), s, "a", 0, 3)
	c.setDown(true)
	_, err2 := s.Open(t.Context(), "a", gateway.Want{})
	for _, err := range []error{err, err2} {
		if err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%v", err)
		}
	}
	s.Close()
}

// TestRedirects checks that one is followed, to http and https only, and never from
// https to http.
func TestRedirects(t *testing.T) {
	c := newCluster(t)
	c.put("/a", []byte("abc"), gatewaytest.Past())
	var location string
	c.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("op") != "OPEN" || location == "" {
			return false
		}
		w.Header().Set("Location", location)
		w.WriteHeader(http.StatusTemporaryRedirect)
		return true
	}
	s := cleared(t, c)
	for _, location = range []string{c.data.URL + "/webhdfs/v1/a?op=OPEN", "ftp://host/x", "file:///etc/passwd", "//[", "http://ann:pw@host/", "http:///x"} {
		if b, err := part(t.Context(), s, "a", 0, 3); err == nil {
			t.Errorf("%s: %q", location, b)
		}
	}
	tls := httptest.NewTLSServer(c.name.Config.Handler)
	defer tls.Close()
	secure := open(t, webhdfs.Options{URL: tls.URL, Transport: tls.Client().Transport})
	c.requests()
	location = ""
	if b, err := part(t.Context(), secure, "a", 0, 3); err == nil {
		t.Errorf("from https to http: %q", b)
	}
	if got := c.requests(); strings.Contains(strings.Join(got, " "), "data") {
		t.Errorf("%q", got)
	}
	tls.Client().CloseIdleConnections()
}

func TestExceptions(t *testing.T) {
	c := newCluster(t)
	var e *exception
	c.before = func(w http.ResponseWriter, _ *http.Request) bool {
		e.send(w)
		return true
	}
	s := cleared(t, c)
	for _, x := range []struct {
		e  exception
		is error
	}{
		{exception{404, "FileNotFoundException", "File does not exist"}, fs.ErrNotExist},
		{exception{403, "AccessControlException", "Permission denied: user=ann"}, fs.ErrPermission},
		{exception{403, "AccessControlException", "/a/b (is not a directory)"}, fs.ErrNotExist},
		{exception{403, "ParentNotDirectoryException", "/a/b (is not a directory)"}, fs.ErrNotExist},
		{exception{401, "SecurityException", "Failed to obtain user group information"}, fs.ErrPermission},
		{exception{403, "InvalidToken", "token is expired"}, fs.ErrPermission},
		{exception{403, "StandbyException", "Operation category READ is not supported in state standby"}, gateway.ErrUnavailable},
		{exception{403, "SafeModeException", "Name node is in safe mode"}, gateway.ErrUnavailable},
		{exception{403, "RetriableException", ""}, gateway.ErrUnavailable},
		{exception{500, "RuntimeException", ""}, gateway.ErrUnavailable},
		{exception{403, "NSQuotaExceededException", ""}, gateway.ErrFull},
		{exception{403, "DSQuotaExceededException", ""}, gateway.ErrFull},
		{exception{403, "QuotaByStorageTypeExceededException", ""}, gateway.ErrFull},
		{exception{503, "", ""}, gateway.ErrUnavailable},
		{exception{401, "", ""}, fs.ErrPermission},
		{exception{404, "", ""}, fs.ErrNotExist},
		{exception{403, "IOException", "anything\n\tat java"}, nil},
	} {
		e = &x.e
		_, err := s.Open(t.Context(), "a", gateway.Want{})
		_, err2 := s.List(t.Context(), "a", 1)
		_, err3 := s.Put(t.Context(), "a", strings.NewReader("x"), 1, nil, gateway.If{Version: "v"})
		for i, err := range []error{err, err2, err3} {
			switch {
			case i == 2 && x.is == fs.ErrNotExist: // that is a condition that does not hold
				if !errors.Is(err, gateway.ErrConflict) {
					t.Errorf("%+v: %v", x.e, err)
				}
			case err == nil || x.is != nil && !errors.Is(err, x.is) || !strings.Contains(err.Error(), x.e.name) || strings.Contains(err.Error(), "\n"):
				t.Errorf("%+v: %v", x.e, err)
			case x.is == nil && (errors.Is(err, fs.ErrPermission) || errors.Is(err, gateway.ErrUnavailable) || errors.Is(err, fs.ErrNotExist)):
				t.Errorf("%+v: %v", x.e, err)
			}
		}
	}
}

// TestWrongAnswersAreNoOctets checks what data nodes and name nodes may send instead of
// four octets.
func TestWrongAnswersAreNoOctets(t *testing.T) {
	send := func(status int, length, coding, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if length != "" {
				w.Header().Set("Content-Length", length)
			}
			if coding != "" {
				w.Header().Set("Content-Encoding", coding)
			}
			w.WriteHeader(status)
			if _, err := io.WriteString(w, body); err == nil && length == "" {
				_ = http.NewResponseController(w).Flush()
			}
		}
	}
	for what, x := range map[string]struct {
		data http.HandlerFunc
		is   error
	}{
		"fewer":        {send(200, "3", "", "234"), gateway.ErrChanged},
		"more":         {send(200, "10", "", "0123456789"), nil},
		"short":        {send(200, "4", "", "23"), gateway.ErrUnavailable},
		"short, chunk": {send(200, "", "", "23"), gateway.ErrUnavailable},
		"long, chunk":  {send(200, "", "", "2345678"), nil},
		"part":         {send(206, "4", "", "2345"), nil},
		"coded":        {send(200, "4", "gzip", "2345"), nil},
		"nothing":      {send(204, "", "", ""), nil},
		"a page":       {send(502, "", "", "<html>"), gateway.ErrUnavailable},
		"truncated": {func(w http.ResponseWriter, _ *http.Request) {
			(&exception{403, "IOException", "Offset=2 out of the range [0, 1); OPEN, path=/a"}).send(w)
		}, gateway.ErrChanged},
		"missing block": {func(w http.ResponseWriter, _ *http.Request) {
			(&exception{403, "BlockMissingException", "Could not obtain block"}).send(w)
		}, gateway.ErrUnavailable},
	} {
		for _, node := range []string{"name", "data"} {
			c := newCluster(t)
			c.put("/a", []byte("0123456789"), gatewaytest.Past())
			c.before = func(w http.ResponseWriter, r *http.Request) bool {
				here := r.Host == strings.TrimPrefix(c.data.URL, "http://") == (node == "data")
				if q := r.URL.Query(); here && q.Get("op") == "OPEN" && q.Get("offset") == "2" {
					x.data(w, r)
					return true
				}
				return false
			}
			b, err := part(t.Context(), cleared(t, c), "a", 2, 4)
			if err == nil || !strings.HasPrefix("2345", string(b)) || x.is != nil && !errors.Is(err, x.is) {
				t.Errorf("%s of the %s node: %q, %v", what, node, b, err)
			}
		}
	}
}

// TestAServerThatDoesNotTellItsLength checks that octets of another place are never
// given where nothing but their number would show it.
func TestAServerThatDoesNotTellItsLength(t *testing.T) {
	for what, x := range map[string]struct {
		ignored string // parameter
		off     int64
		want    string // "" for an error
	}{
		"obeys":             {"", 2, "2345"},
		"ignores offset":    {"offset", 2, ""},
		"ignores length":    {"length", 2, ""},
		"from the begin":    {"offset", 0, "0123"},
		"length, from then": {"length", 0, ""},
	} {
		c := newCluster(t)
		c.put("/a", []byte("0123456789"), gatewaytest.Past())
		c.before = func(w http.ResponseWriter, r *http.Request) bool {
			q := r.URL.Query()
			if q.Get("op") != "OPEN" {
				return false
			}
			q.Del(x.ignored)
			rest := "0123456789"
			if off, err := strconv.Atoi(q.Get("offset")); err == nil {
				rest = rest[off:]
			}
			if n, err := strconv.Atoi(q.Get("length")); err == nil {
				rest = rest[:min(n, len(rest))]
			}
			_ = http.NewResponseController(w).Flush() // so that no length is told
			_, _ = io.WriteString(w, rest)
			return true
		}
		b, err := part(t.Context(), cleared(t, c), "a", x.off, 4)
		if string(b) != x.want || (err == nil) != (x.want != "") || errors.Is(err, gateway.ErrUnavailable) {
			t.Errorf("%s: %q, %v", what, b, err)
		}
	}
}

func TestACertificateThatIsNotTrustedIsNotTriedAgain(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	s := open(t, webhdfs.Options{URL: server.URL})
	defer s.Close()
	if _, err := s.Open(t.Context(), "a", gateway.Want{}); err == nil || errors.Is(err, gateway.ErrUnavailable) {
		t.Error(err)
	}
}

// TestChangedWhileRead checks that a file that is truncated and appended to, or
// replaced, while it is read is not taken for whole.
func TestChangedWhileRead(t *testing.T) {
	for what, change := range map[string]func(*cluster){
		"appended": func(c *cluster) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.files["/a"].mtime++
		},
		"replaced": func(c *cluster) { c.put("/a", []byte("0123456789"), gatewaytest.Past()) },
		"removed":  func(c *cluster) { c.remove("/a") },
	} {
		c := newCluster(t)
		c.put("/a", []byte("0123456789"), gatewaytest.Past())
		c.before = func(_ http.ResponseWriter, r *http.Request) bool {
			if r.URL.Query().Has("namenoderpcaddress") {
				defer change(c) // it is opened by then
				c.before = nil
			}
			return false
		}
		b, err := part(t.Context(), cleared(t, c), "a", 0, 10)
		if !errors.Is(err, gateway.ErrChanged) && !errors.Is(err, fs.ErrNotExist) || len(b) > 0 {
			t.Errorf("%s: %q, %v", what, b, err)
		}
	}
}

func TestVersions(t *testing.T) {
	now := gatewaytest.Past()
	c := newCluster(t)
	s := open(t, webhdfs.Options{URL: c.name.URL, Now: func() time.Time { return now }})
	defer s.Close()
	info := func() gateway.Info {
		t.Helper()
		o, err := s.Open(t.Context(), "a", gateway.Want{})
		if err != nil {
			t.Fatal(err)
		}
		defer o.Close()
		return o.Info()
	}
	c.put("/a", []byte("abc"), now.Add(-2*time.Second))
	first := info()
	if !first.Certain || first.Size != 3 || !first.Modified.Equal(now.Add(-2*time.Second)) {
		t.Errorf("%+v", first)
	}
	c.put("/a", []byte("abd"), now.Add(-2*time.Second))
	if second := info(); second.Version == first.Version || !second.Certain {
		t.Errorf("%+v after %+v", second, first)
	}
	c.put("/a", []byte("abd"), now.Add(-1999*time.Millisecond))
	if young := info(); young.Certain {
		t.Errorf("%+v", young)
	}
	c.mu.Lock()
	c.files["/a"].id = 0
	c.mu.Unlock()
	if want, _ := gateway.ByTime(3, now.Add(-1999*time.Millisecond), now, 0); info().Version != want || info().Certain {
		t.Errorf("%+v, want %s", info(), want)
	}
}

// instead is a Source of a name node that answers everything by h.
func instead(t *testing.T, h http.HandlerFunc) *webhdfs.Source {
	server := httptest.NewServer(h)
	s := open(t, webhdfs.Options{URL: server.URL})
	t.Cleanup(func() { // first the connections, or the server waits for them
		_ = s.Close()
		server.Close()
	})
	return s
}

func TestListings(t *testing.T) {
	const one = `{"fileId":1,"length":3,"modificationTime":1,"pathSuffix":"%s","type":"%s"}`
	for what, x := range map[string]struct {
		body, want string
		fails      bool
		is         error
	}{
		"fine": {body: fmt.Sprintf(`{"FileStatuses":{"FileStatus":[`+one+`,`+one+`]}}`, "é b", "FILE", "d", "DIRECTORY"), want: "é b 3|d/"},
		"no names": {body: fmt.Sprintf(`{"FileStatuses":{"FileStatus":[`+one+`,`+one+`,`+one+`,`+one+`,`+one+`]}}`,
			"..", "FILE", "a/b", "FILE", `a\u0000`, "FILE", "link", "SYMLINK", "x", "FILE"), want: "x 3"},
		"empty":     {body: `{"FileStatuses":{"FileStatus":[]}}`},
		"a file":    {body: fmt.Sprintf(`{"FileStatuses":{"FileStatus":[`+one+`]}}`, "", "FILE"), fails: true, is: fs.ErrNotExist},
		"no JSON":   {body: `<html>`, fails: true},
		"other":     {body: `{"FileStatus":{}}`, fails: true},
		"no object": {body: `[]`, fails: true},
		"no number": {body: `{"FileStatuses":{"FileStatus":[{"length":"x"}]}}`, fails: true},
		"not all":   {body: fmt.Sprintf(`{"FileStatuses":{"FileStatus":[`+one, "x", "FILE"), fails: true, is: gateway.ErrUnavailable},
		"nothing":   {fails: true},
	} {
		s := instead(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, x.body) })
		list, err := s.List(t.Context(), "d", 10)
		var got []string
		for _, i := range list {
			if i.Folder {
				got = append(got, i.Name+"/")
			} else {
				got = append(got, fmt.Sprint(i.Name, " ", i.Size))
			}
		}
		if !x.fails && (err != nil || strings.Join(got, "|") != x.want) || x.fails && (err == nil || x.is != nil && !errors.Is(err, x.is)) {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
}

// TestAnswersWithoutEndEnd checks that they take a bounded amount of memory.
func TestAnswersWithoutEndEnd(t *testing.T) {
	s := instead(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"FileStatuses":{"FileStatus":[{"pathSuffix":"`)
		for {
			if _, err := io.WriteString(w, strings.Repeat("x", 100_000)); err != nil {
				return
			}
		}
	})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if list, err := s.List(t.Context(), "d", 10); err == nil {
		t.Errorf("%v", list)
	}
	if o, err := s.Open(t.Context(), "d", gateway.Want{}); err == nil {
		t.Errorf("%v", o)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 128<<20 {
		t.Errorf("%d octets allocated", n)
	}
	s = instead(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"FileStatuses":{"FileStatus":[`)
		for {
			if _, err := io.WriteString(w, `{"pathSuffix":"x","type":"FILE"},`); err != nil {
				return
			}
		}
	})
	if list, err := s.List(t.Context(), "d", 10); err != nil || len(list) != 10 {
		t.Errorf("%d entries, %v", len(list), err)
	}
}

// TestContextsAreObeyed checks that calls that wait for a server end with their context.
func TestContextsAreObeyed(t *testing.T) {
	c := newCluster(t)
	c.put("/a", []byte("0123456789"), gatewaytest.Past())
	waiting := make(chan struct{}, 1)
	var blocked string
	c.before = func(w http.ResponseWriter, r *http.Request) bool {
		data := r.URL.Query().Has("namenoderpcaddress")
		if op := r.URL.Query().Get("op"); op != blocked || op == "OPEN" && !data {
			return false
		}
		_, _ = io.Copy(io.Discard, r.Body)
		if blocked == "OPEN" {
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "012")
			_ = http.NewResponseController(w).Flush()
		}
		waiting <- struct{}{}
		<-r.Context().Done()
		return true
	}
	s := cleared(t, c)
	for op, call := range map[string]func(context.Context) error{
		"GETFILESTATUS": func(ctx context.Context) error { _, err := s.Open(ctx, "a", gateway.Want{}); return err },
		"LISTSTATUS":    func(ctx context.Context) error { _, err := s.List(ctx, "", 1); return err },
		"OPEN":          func(ctx context.Context) error { _, err := part(ctx, s, "a", 0, 10); return err },
		"CREATE": func(ctx context.Context) error {
			_, err := s.Put(ctx, "a", strings.NewReader("x"), 1, nil, gateway.If{})
			return err
		},
	} {
		blocked = op
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-waiting
			cancel()
		}()
		if err := call(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, gateway.ErrUnavailable) {
			t.Errorf("%s: %v", op, err)
		}
	}
}

func TestParse(t *testing.T) {
	env := map[string]string{webhdfs.EnvUser: "eve"}
	token := map[string]string{webhdfs.EnvToken: "tok"}
	for _, x := range []struct {
		url  string
		env  map[string]string
		want webhdfs.Options
	}{
		{"hdfs://host:9870/a%20b/", nil, webhdfs.Options{URL: "http://host:9870", Root: "/a b/"}},
		{"hdfs://host:9870", env, webhdfs.Options{URL: "http://host:9870", User: "eve"}},
		{"hdfs://host:9871/?tls=on&user=ann", env, webhdfs.Options{URL: "https://host:9871", Root: "/", User: "ann"}},
		{"hdfs://host:9870/x?tls=off", token, webhdfs.Options{URL: "http://host:9870", Root: "/x", Token: "tok"}},
	} {
		got, err := webhdfs.Parse(x.url, func(name string) string { return x.env[name] })
		if err != nil || got.URL != x.want.URL || got.Root != x.want.Root || got.User != x.want.User || got.Token != x.want.Token {
			t.Errorf("%s: %+v, %v", x.url, got, err)
		}
	}
	for _, u := range []string{
		"", "hdfs:", "hdfs:///x", "http://host/", "hdfs://ann:hush@host/", "hdfs://ann:hush@ho st/", "hdfs://host/#f", "hdfs://host/?tls=maybe",
		"hdfs://host/?user=a&user=b", "hdfs://host/?other=1", "hdfs://host/a/../b", "hdfs://host/a//b", "hdfs://host/a:b",
	} {
		if got, err := webhdfs.Parse(u, func(string) string { return "" }); err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %+v, %v", u, got, err)
		}
	}
	for _, o := range []webhdfs.Options{{}, {URL: "host:9870"}, {URL: "http://ann:hush@host"}, {URL: "http://host/path"}, {URL: "http://host", User: "a", Token: "hush"}, {URL: "http://host", Root: "/a/../b"}} {
		if _, err := webhdfs.Open(o); err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
