package rclone_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/larderhq/larder/gateway/gatewaytest"
	"github.com/larderhq/larder/gateway/rclone"
	_ "github.com/rclone/rclone/backend/local"
	_ "github.com/rclone/rclone/backend/s3"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "larder-rclone-test-")
	if err != nil {
		panic(err)
	}
	conf := filepath.Join(dir, "rclone.conf")
	if err := os.WriteFile(conf, []byte("[named]\ntype = local\n"), 0o600); err != nil {
		panic(err)
	}
	_ = os.Setenv("RCLONE_CONFIG", conf) // a valid name and value
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir)
		os.Exit(code)
	}), goleak.IgnoreAnyFunction(pacing))
}

// pacing is what ends by itself two seconds after the last failure at the latest.
const pacing = "github.com/rclone/rclone/lib/pacer.(*Pacer).beginCall.func1"

func open(t *testing.T, remote string) *rclone.Source {
	t.Helper()
	s, err := rclone.Open(t.Context(), remote, rclone.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// closed is an open that is closed at the end of the test.
func closed(t *testing.T, remote string) *rclone.Source {
	t.Helper()
	s := open(t, remote)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func local(t *testing.T) *gatewaytest.Storage {
	root := filepath.Join(t.TempDir(), "root")
	return &gatewaytest.Storage{
		Source: open(t, ":local:"+root),
		Put: func(t *testing.T, name string, octets []byte, at time.Time) {
			put(t, filepath.Join(root, name), octets, at)
		},
		Remove: func(t *testing.T, name string) {
			if err := os.Remove(filepath.Join(root, name)); err != nil {
				t.Fatal(err)
			}
		},
	}
}

// put makes a file that replaces another at once.
func put(t *testing.T, path string, octets []byte, at time.Time) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", octets, 0o600); err != nil {
		t.Fatal(err)
	}
	if !at.IsZero() {
		if err := os.Chtimes(path+".new", at, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// A bucket is one of an S3 server.
type bucket struct {
	*s3mem.Backend
	remote string

	// answer answers in place of the server where it returns true.
	answer atomic.Pointer[func(w http.ResponseWriter, r *http.Request) bool]

	mu       sync.Mutex
	requests []string // "GET /bucket/key" as they came
}

func newBucket(t *testing.T) *bucket {
	b := &bucket{Backend: s3mem.New()}
	if err := b.CreateBucket("bucket"); err != nil {
		t.Fatal(err)
	}
	s3 := gofakes3.New(b.Backend).Server()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		b.requests = append(b.requests, r.Method+" "+r.RequestURI)
		b.mu.Unlock()
		if answer := b.answer.Load(); answer != nil && (*answer)(w, r) {
			return
		}
		s3.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	b.remote = fmt.Sprintf(":s3,provider=Other,access_key_id=key,secret_access_key=hushhush,endpoint='%s':bucket", server.URL)
	return b
}

func (b *bucket) put(t *testing.T, name string, octets []byte, fields map[string]string) {
	t.Helper()
	meta := map[string]string{"Last-Modified": gatewaytest.Past().Format(http.TimeFormat)}
	for k, v := range fields {
		meta[k] = v
	}
	if _, err := b.PutObject("bucket", name, meta, bytes.NewReader(octets), int64(len(octets)), nil); err != nil {
		t.Fatal(err)
	}
}

// came returns the requests since it was called last, those for the bucket excepted.
func (b *bucket) came() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := slices.DeleteFunc(b.requests, func(s string) bool { return strings.HasSuffix(s, " /bucket") })
	b.requests = nil
	return r
}

func (b *bucket) instead(answer func(w http.ResponseWriter, r *http.Request) bool) {
	b.answer.Store(&answer)
}

// status answers as what is in front of a storage may. 502 is none of those after which
// rclone waits longer and longer before each call.
func status(code int) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(code)
		return true
	}
}

func s3(t *testing.T) *gatewaytest.Storage {
	b := newBucket(t)
	return &gatewaytest.Storage{
		Source: open(t, b.remote),
		Put: func(t *testing.T, name string, octets []byte, _ time.Time) {
			b.put(t, name, octets, nil)
		},
		Remove: func(t *testing.T, name string) {
			if _, err := b.DeleteObject("bucket", name); err != nil {
				t.Fatal(err)
			}
		},
		Down: func(*testing.T) { b.instead(status(http.StatusBadGateway)) },
		Up:   func(*testing.T) { b.answer.Store(nil) },
	}
}

func TestContractOfLocal(t *testing.T) {
	t.Parallel()
	gatewaytest.Run(t, local)
}

func TestContractOfS3(t *testing.T) {
	t.Parallel()
	gatewaytest.Run(t, s3)
}
