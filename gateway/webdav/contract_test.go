package webdav_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	dav "golang.org/x/net/webdav"

	"github.com/larderhq/larder/gateway/gatewaytest"
	"github.com/larderhq/larder/gateway/webdav"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A server is golang.org/x/net/webdav with a record of what it was asked.
type server struct {
	*httptest.Server
	down atomic.Bool

	mu    sync.Mutex
	asked []*http.Request
}

// serve starts a WebDAV server of fs. before may answer in its place.
func serve(t *testing.T, fs dav.FileSystem, before func(http.ResponseWriter, *http.Request) bool) *server {
	t.Helper()
	s := &server{}
	h := &dav.Handler{FileSystem: fs, LockSystem: dav.NewMemLS()}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.down.Load() {
			panic(http.ErrAbortHandler)
		}
		s.mu.Lock()
		s.asked = append(s.asked, r)
		s.mu.Unlock()
		if before == nil || !before(w, r) {
			h.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// requests are the methods and targets since the last call.
func (s *server) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, r := range s.asked {
		all = append(all, r.Method+" "+r.RequestURI)
	}
	s.asked = nil
	return all
}

func open(t *testing.T, o webdav.Options) *webdav.Source {
	t.Helper()
	s, err := webdav.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// write replaces a file at once, as careful programs do.
func write(t *testing.T, root, name string, octets []byte, at time.Time) {
	t.Helper()
	path := filepath.Join(root, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.CreateTemp(filepath.Dir(root), "new")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(octets); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if !at.IsZero() {
		if err := os.Chtimes(f.Name(), at, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(f.Name(), path); err != nil {
		t.Fatal(err)
	}
}

func TestContract(t *testing.T) {
	gatewaytest.Run(t, func(t *testing.T) *gatewaytest.Storage {
		root := filepath.Join(t.TempDir(), "root")
		if err := os.Mkdir(root, 0o755); err != nil {
			t.Fatal(err)
		}
		server := serve(t, dav.Dir(root), nil)
		return &gatewaytest.Storage{
			Source: open(t, webdav.Options{URL: server.URL}),
			Put: func(t *testing.T, name string, octets []byte, at time.Time) {
				write(t, root, name, octets, at)
			},
			Remove: func(t *testing.T, name string) {
				if err := os.Remove(filepath.Join(root, filepath.FromSlash(name))); err != nil {
					t.Fatal(err)
				}
			},
			Down: func(*testing.T) { server.down.Store(true) },
			Up:   func(*testing.T) { server.down.Store(false) },
		}
	})
}
