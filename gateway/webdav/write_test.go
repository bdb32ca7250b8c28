package webdav_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	dav "golang.org/x/net/webdav"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/gateway/gatewaytest"
	"github.com/larderhq/larder/gateway/webdav"
)

// names are the random parts of temporary names.
var names = regexp.MustCompile(`\.larder-\w+`)

func TestPutMovesIntoPlace(t *testing.T) {
	var seen []string
	memory := dav.NewMemFS()
	server := serve(t, memory, func(_ http.ResponseWriter, r *http.Request) bool {
		line := r.Method + " " + names.ReplaceAllString(r.RequestURI, "TEMP")
		for _, f := range []string{"Content-Length", "Content-Type", "Expect", "Destination", "Overwrite"} {
			if v := r.Header.Get(f); v != "" && r.Method != "PROPFIND" {
				line += " " + f + "=" + v
			}
		}
		if r.Method == http.MethodPut && r.ContentLength < 0 {
			line += " chunked"
		}
		seen = append(seen, line)
		return false
	})
	s := open(t, webdav.Options{URL: server.URL})
	defer s.Close()
	for _, c := range []struct {
		name, body string
		size       int64
		only       gateway.If
		want       []string
	}{
		{"d/e/x +", "abc", 3, gateway.If{Absent: true}, []string{
			"PROPFIND /d/e/x%20%2B", "MKCOL /d/e/", "MKCOL /d/", "MKCOL /d/e/",
			"PUT /d/e/TEMP Content-Length=3 Content-Type=image/x Expect=100-continue",
			"MOVE /d/e/TEMP Destination=" + server.URL + "/d/e/x%20%2B Overwrite=F", "HEAD /d/e/x%20%2B",
		}},
		{"d/e/x +", "abcd", -1, gateway.If{}, []string{
			"PROPFIND /d/e/x%20%2B",
			"PUT /d/e/TEMP Content-Type=image/x Expect=100-continue chunked",
			"MOVE /d/e/TEMP Destination=" + server.URL + "/d/e/x%20%2B Overwrite=T", "HEAD /d/e/x%20%2B",
		}},
	} {
		seen = nil
		info, err := s.Put(t.Context(), c.name, strings.NewReader(c.body), c.size, http.Header{"Content-Type": {"image/x"}}, c.only)
		if err != nil || info.Version == "" || info.Size != int64(len(c.body)) {
			t.Errorf("%+v, %v", info, err)
		}
		var got []string
		for _, l := range seen {
			if !strings.HasPrefix(l, "PROPFIND /d/e/x%20%2B") || len(got) == 0 {
				got = append(got, l) // the HEAD of a type that is unknown is followed by one
			}
		}
		if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
			t.Errorf("%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
		}
	}
}

// TestPutThatFailsLeavesTheOldObject checks each step that a server may refuse.
func TestPutThatFailsLeavesTheOldObject(t *testing.T) {
	for _, c := range []struct {
		method string
		status int
		is     error
	}{
		{http.MethodPut, 507, gateway.ErrFull},
		{http.MethodPut, 403, fs.ErrPermission},
		{http.MethodPut, 503, gateway.ErrUnavailable},
		{http.MethodPut, 201, nil}, // before it had the body
		{"MOVE", 412, gateway.ErrConflict},
		{"MOVE", 423, gateway.ErrUnavailable},
		{"MOVE", 207, nil},
		{"PROPFIND", 500, gateway.ErrUnavailable},
	} {
		root := filepath.Join(t.TempDir(), "root")
		write(t, root, "d/a.bin", []byte("old"), gatewaytest.Past())
		server := serve(t, dav.Dir(root), func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == c.method {
				w.WriteHeader(c.status)
			}
			return r.Method == c.method
		})
		s := open(t, webdav.Options{URL: server.URL})
		_, err := s.Put(t.Context(), "d/a.bin", strings.NewReader(strings.Repeat("new", 100_000)), 300_000, nil, gateway.If{})
		if err == nil || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%+v: %v", c, err)
		}
		if b, err := os.ReadFile(filepath.Join(root, "d/a.bin")); err != nil || string(b) != "old" {
			t.Errorf("%+v: %q, %v", c, b, err)
		}
		if left, err := os.ReadDir(filepath.Join(root, "d")); err != nil || len(left) != 1 {
			t.Errorf("%+v: %v, %v", c, left, err)
		}
		s.Close()
	}
}

// TestAWriterThatComesBetween checks that what another writes during an upload is not
// replaced if a condition says so.
func TestAWriterThatComesBetween(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	between := func() {}
	server := serve(t, dav.Dir(root), func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut || r.Method == http.MethodDelete && !strings.Contains(r.URL.Path, ".larder-") {
			between()
		}
		return false
	})
	s := open(t, webdav.Options{URL: server.URL})
	defer s.Close()
	write(t, root, "a.bin", []byte("old"), gatewaytest.Past())
	o, err := s.Open(t.Context(), "a.bin", gateway.Want{})
	if err != nil {
		t.Fatal(err)
	}
	o.Close()
	between = func() { write(t, root, "a.bin", []byte("other"), gatewaytest.Past()) }
	if _, err := s.Put(t.Context(), "a.bin", strings.NewReader("new"), 3, nil, gateway.If{Version: o.Info().Version}); !errors.Is(err, gateway.ErrConflict) {
		t.Errorf("replaced: %v", err)
	}
	if err := os.Remove(filepath.Join(root, "a.bin")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), "a.bin", strings.NewReader("new"), 3, nil, gateway.If{Absent: true}); !errors.Is(err, gateway.ErrConflict) {
		t.Errorf("made: %v", err)
	}
	if b, err := os.ReadFile(filepath.Join(root, "a.bin")); err != nil || string(b) != "other" {
		t.Errorf("%q, %v", b, err)
	}
	if left, err := os.ReadDir(root); err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}
}

func TestDeleteIsOfObjects(t *testing.T) {
	var match []string
	root := filepath.Join(t.TempDir(), "root")
	write(t, root, "d/a.bin", []byte("old"), gatewaytest.Past())
	server := serve(t, dav.Dir(root), func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodDelete {
			match = append(match, r.Header.Get("If-Match"))
		}
		return false
	})
	s := open(t, webdav.Options{URL: server.URL})
	defer s.Close()
	for _, name := range []string{"", "d"} {
		if err := s.Delete(t.Context(), name, gateway.If{}); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if len(match) > 0 {
		t.Errorf("DELETE of a folder was sent")
	}
	o, err := s.Open(t.Context(), "d/a.bin", gateway.Want{})
	if err != nil {
		t.Fatal(err)
	}
	o.Close()
	if err := s.Delete(t.Context(), "d/a.bin", gateway.If{Absent: true}); !errors.Is(err, gateway.ErrConflict) {
		t.Errorf("%v", err)
	}
	if err := s.Delete(t.Context(), "d/a.bin", gateway.If{Version: o.Info().Version}); err != nil || len(match) != 1 || match[0] != `"`+o.Info().Version+`"` {
		t.Errorf("%v, If-Match %q", err, match)
	}
}

// A stuck body never comes. It tells when it is waited for.
type stuck struct{ asked, end chan struct{} }

func (b stuck) Read([]byte) (int, error) {
	close(b.asked)
	<-b.end
	return 0, io.EOF
}

func TestABodyThatDoesNotComeIsNotWaitedFor(t *testing.T) {
	server := serve(t, dav.NewMemFS(), nil)
	s := open(t, webdav.Options{URL: server.URL})
	defer s.Close()
	body := stuck{make(chan struct{}), make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-body.asked
		cancel()
	}()
	if _, err := s.Put(ctx, "a", body, 3, nil, gateway.If{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	close(body.end)
}

// TestTheVersionOfAnotherWriterIsNotOurs checks what Put tells if another writes before
// it can look.
func TestTheVersionOfAnotherWriterIsNotOurs(t *testing.T) {
	memory := dav.NewMemFS()
	between := false
	server := serve(t, memory, func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodHead && between {
			f, err := memory.OpenFile(r.Context(), "/a", os.O_RDWR|os.O_TRUNC, 0o600)
			if err == nil {
				_, err = io.WriteString(f, "another's")
				err = errors.Join(err, f.Close())
			}
			if err != nil {
				t.Error(err)
			}
		}
		return false
	})
	s := open(t, webdav.Options{URL: server.URL})
	defer s.Close()
	for _, between = range []bool{false, true} {
		i, err := s.Put(t.Context(), "a", strings.NewReader("ours"), 4, nil, gateway.If{})
		if err != nil || (i.Version == "") != between || between && i.Size != 0 {
			t.Errorf("another comes between %t: %+v, %v", between, i, err)
		}
	}
}

func TestAcceptedIsNotDeleted(t *testing.T) {
	for _, gone := range []bool{true, false} {
		deleted := false
		s := scripted(t, func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Method == http.MethodDelete:
				deleted = true
				w.WriteHeader(http.StatusAccepted)
			case deleted && gone:
				w.WriteHeader(http.StatusNotFound)
			default:
				multistatus(w, "/dav/a", false, 1)
			}
		})
		if err := s.Delete(t.Context(), "a", gateway.If{}); gone && err != nil || !gone && !errors.Is(err, gateway.ErrUnavailable) {
			t.Errorf("gone %t: %v", gone, err)
		}
	}
}
