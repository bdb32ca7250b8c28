package rclone_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/gateway/gatewaytest"
	"github.com/larderhq/larder/gateway/rclone"
)

// read reads n octets of an object from off on, all of it if n is negative.
func read(ctx context.Context, s gateway.Source, name string, off, n int64) ([]byte, gateway.Info, error) {
	o, err := s.Open(ctx, name, gateway.Want{})
	if err != nil {
		return nil, gateway.Info{}, err
	}
	defer o.Close()
	if n < 0 {
		n = o.Info().Size
	}
	r, err := o.Range(ctx, off, n)
	if err != nil {
		return nil, o.Info(), err
	}
	b, err := io.ReadAll(r)
	return b, o.Info(), errors.Join(err, r.Close())
}

func TestRemotesAreThoseOfTheConfiguration(t *testing.T) {
	root := t.TempDir()
	put(t, filepath.Join(root, "a"), []byte("octets"), gatewaytest.Past())
	if got, _, err := read(t.Context(), closed(t, "named:"+root), "a", 0, -1); err != nil || string(got) != "octets" {
		t.Errorf("%q %v", got, err)
	}
	for remote, want := range map[string]string{
		"nowhere:x":                         "nowhere",
		":nonsense,pass=hushhush:x":         "nonsense",
		"named:" + filepath.Join(root, "a"): "file",
	} {
		_, err := rclone.Open(t.Context(), remote, rclone.Options{})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hushhush") {
			t.Errorf("%s: %v", remote, err)
		}
	}
}

// TestNamesForOthersAreRefused: rclone reads "．．" as "..", and hands that on if the
// backend is told to encode nothing.
func TestNamesForOthersAreRefused(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "secret"), []byte("secret"), gatewaytest.Past())
	put(t, filepath.Join(dir, "root", "sub", "a"), []byte("a"), gatewaytest.Past())
	put(t, filepath.Join(dir, "root", "l\ne"), []byte("a"), gatewaytest.Past())
	l := closed(t, ":local,encoding=None:"+filepath.Join(dir, "root"))
	b := newBucket(t)
	flat := closed(t, b.remote)
	b.came()
	for _, name := range []string{
		"．．/secret", "sub/．．/．．/secret", "sub／..／..／secret", "..／secret", "sub/．", "␀", "l␊e", "l\ne", "\x7f", "a//b", "/a", "a/",
	} {
		for _, s := range []*rclone.Source{l, flat} {
			if got, _, err := read(t.Context(), s, name, 0, -1); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%q: %q %v", name, got, err)
			}
			if _, err := s.List(t.Context(), name, 10); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("List %q: %v", name, err)
			}
			if _, err := s.Put(t.Context(), name, strings.NewReader("x"), 1, nil, gateway.If{}); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Put %q: %v", name, err)
			}
			if err := s.Delete(t.Context(), name, gateway.If{}); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Delete %q: %v", name, err)
			}
		}
	}
	if got := b.came(); len(got) > 0 {
		t.Errorf("sent: %q", got)
	}
	if got, err := l.List(t.Context(), "", 10); err != nil || len(got) != 1 || got[0].Name != "sub" {
		t.Errorf("what has no name is listed: %+v %v", got, err)
	}
}

func TestNamesAreEscapedOnce(t *testing.T) {
	b := newBucket(t)
	s := closed(t, b.remote)
	b.put(t, "100% é/a?b#c+d", []byte("octets"), nil)
	b.came()
	if got, _, err := read(t.Context(), s, "100% é/a?b#c+d", 0, -1); err != nil || string(got) != "octets" {
		t.Fatalf("%q %v", got, err)
	}
	const path = "/bucket/100%25%20%C3%A9/a%3Fb%23c%2Bd"
	want := []string{"HEAD " + path, "GET " + path + "?x-id=GetObject", "HEAD " + path}
	if got := b.came(); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestEmptySegmentsAreKeys(t *testing.T) {
	b := newBucket(t)
	s := closed(t, strings.Replace(b.remote, "provider=Other", "provider=AWS,force_path_style", 1))
	b.came()
	_, err := s.Open(t.Context(), "a//b", gateway.Want{})
	if got := b.came(); !errors.Is(err, fs.ErrNotExist) || !slices.Equal(got, []string{"HEAD /bucket/a//b"}) {
		t.Errorf("%q %v", got, err)
	}
}

func TestOnlyRegularFilesExist(t *testing.T) {
	root := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(root, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := closed(t, ":local:"+root)
	if _, err := s.Open(t.Context(), "pipe", gateway.Want{}); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if got, err := s.List(t.Context(), "", 10); err != nil || len(got) > 0 {
		t.Errorf("%+v %v", got, err)
	}
}

func TestListingAsksForNoMoreThanTheLimit(t *testing.T) {
	b := newBucket(t)
	for i := range 500 {
		b.put(t, strconv.Itoa(i), nil, nil)
	}
	s := closed(t, strings.Replace(b.remote, ":s3,", ":s3,list_chunk=50,", 1))
	b.came()
	got, err := s.List(t.Context(), "", 3)
	if n := len(b.came()); err != nil || len(got) != 3 || n > 3 { // rclone tells of a hundred at a time
		t.Errorf("%d entries by %d requests: %v", len(got), n, err)
	}
}

func TestEndOfAHugeObjectIsAllThatIsRead(t *testing.T) {
	b := newBucket(t)
	s := closed(t, b.remote)
	octets := gatewaytest.Octets(8<<20, 1)
	b.put(t, "huge", octets, nil)
	var asked string
	b.instead(func(_ http.ResponseWriter, r *http.Request) bool {
		asked = r.Header.Get("Range") + asked
		return false
	})
	got, _, err := read(t.Context(), s, "huge", 7<<20, 1<<20)
	if err != nil || !bytes.Equal(got, octets[7<<20:]) || asked != "bytes=7340032-8388607" {
		t.Errorf("%d octets, asked for %q: %v", len(got), asked, err)
	}
}

func TestFieldsAreKeptAndPartOfTheVersion(t *testing.T) {
	b := newBucket(t)
	s := closed(t, b.remote)
	sent, fields := http.Header{}, http.Header{
		"Content-Type": {"text/x-odd"}, "Content-Encoding": {"br"}, "Content-Language": {"de"},
		"Content-Disposition": {`attachment; filename="x"`}, "Cache-Control": {"max-age=5"},
	}
	b.instead(func(w http.ResponseWriter, r *http.Request) bool { // what gofakes3 forgets
		for name := range fields {
			if r.Method == http.MethodPut {
				sent.Set(name, r.Header.Get(name))
			}
			w.Header().Set(name, sent.Get(name))
		}
		return false
	})
	made, err := s.Put(t.Context(), "a", strings.NewReader("octets"), 6, fields, gateway.If{})
	if err != nil {
		t.Fatal(err)
	}
	_, first, err := read(t.Context(), s, "a", 0, -1)
	if err != nil || first.Version != made.Version {
		t.Errorf("%+v, and then %+v: %v", made, first, err)
	}
	if !maps.EqualFunc(first.Fields, fields, slices.Equal) {
		t.Errorf("%v", first.Fields)
	}
	fields.Set("Cache-Control", "max-age=6")
	second, err := s.Put(t.Context(), "a", strings.NewReader("octets"), 6, fields, gateway.If{})
	if err != nil || second.Version == first.Version {
		t.Errorf("other fields, and version %q again: %v", second.Version, err)
	}
}

// TestBodyOfUnknownSize is one request if it is short, and needs no backend that can
// do without a size.
func TestBodyOfUnknownSize(t *testing.T) {
	b := newBucket(t)
	s := closed(t, b.remote)
	b.came()
	if _, err := s.Put(t.Context(), "a", strings.NewReader("octets"), -1, nil, gateway.If{}); err != nil {
		t.Fatal(err)
	}
	if got := b.came(); len(got) != 2 || !strings.HasPrefix(got[0], "PUT /bucket/a") {
		t.Errorf("%q", got)
	}
	l := closed(t, ":local,override.disable=PutStream:"+t.TempDir())
	octets := gatewaytest.Octets(300_000, 2)
	if _, err := l.Put(t.Context(), "b", io.MultiReader(bytes.NewReader(octets)), -1, nil, gateway.If{}); err != nil {
		t.Fatal(err)
	}
	if got, _, err := read(t.Context(), l, "b", 0, -1); err != nil || !bytes.Equal(got, octets) {
		t.Errorf("%d octets, %v", len(got), err)
	}
}

// leaving reads until it cancels, and then goes on.
type leaving struct {
	left   int
	cancel func()
}

func (l *leaving) Read(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		l.cancel()
	}
	return len(p), nil
}

func TestUploadGivenUpLeavesNothing(t *testing.T) {
	root := t.TempDir()
	put(t, filepath.Join(root, "a"), []byte("before"), gatewaytest.Past())
	s := open(t, ":local:"+root)
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := s.Put(ctx, "a", &leaving{1 << 20, cancel}, 1<<30, nil, gateway.If{}); !errors.Is(err, context.Canceled) || errors.Is(err, gateway.ErrUnavailable) {
		t.Error(err)
	}
	if err := s.Close(); err != nil { // waits
		t.Error(err)
	}
	entries, err := os.ReadDir(root)
	if got, err2 := os.ReadFile(filepath.Join(root, "a")); string(got) != "before" || len(entries) != 1 || errors.Join(err, err2) != nil {
		t.Errorf("%q, %v: %v %v", got, entries, err, err2)
	}
}

// TestHostileAnswers: a server that gives other octets than it was asked for makes
// reading fail, and never an answer of wrong octets.
func TestHostileAnswers(t *testing.T) {
	octets := gatewaytest.Octets(300_000, 3)
	for name, answer := range map[string]func(w http.ResponseWriter){
		"the whole object": func(w http.ResponseWriter) { _, _ = w.Write(octets) },
		"another range": func(w http.ResponseWriter) {
			w.Header().Set("Content-Range", "bytes 0-199999/300000")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(octets[:200_000])
		},
		"less": func(w http.ResponseWriter) {
			w.Header().Set("Content-Range", "bytes 1000-100999/300000")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(octets[1000:2000])
		},
		"an end in the middle": func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "100000")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(octets[1000:2000])
			panic(http.ErrAbortHandler)
		},
		"nothing": func(w http.ResponseWriter) { w.WriteHeader(http.StatusPartialContent) },
		"no HTTP": func(w http.ResponseWriter) {
			c, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_, _ = c.Write([]byte("garbage\r\n\r\n"))
				_ = c.Close()
			}
		},
	} {
		b := newBucket(t)
		s := closed(t, b.remote)
		b.put(t, "a", octets, nil)
		b.instead(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodGet {
				w.Header().Set("Etag", `"0123456789abcdef0123456789abcdef"`)
				answer(w)
			}
			return r.Method == http.MethodGet
		})
		if got, _, err := read(t.Context(), s, "a", 1000, 100_000); err == nil {
			t.Errorf("%s: %d octets, equal: %t", name, len(got), bytes.Equal(got, octets[1000:101_000]))
		}
	}
}

func TestErrorsSayWhatTheyAre(t *testing.T) {
	b := newBucket(t)
	s := closed(t, b.remote)
	for code, want := range map[int]error{
		http.StatusForbidden:           fs.ErrPermission,
		http.StatusUnauthorized:        fs.ErrPermission,
		http.StatusNotFound:            fs.ErrNotExist,
		http.StatusServiceUnavailable:  gateway.ErrUnavailable,
		http.StatusTooManyRequests:     gateway.ErrUnavailable,
		http.StatusGatewayTimeout:      gateway.ErrUnavailable,
		http.StatusInsufficientStorage: gateway.ErrFull,
	} {
		b.instead(status(code))
		_, err := s.Open(t.Context(), "a", gateway.Want{})
		if !errors.Is(err, want) || strings.Contains(err.Error(), "hushhush") || !strings.Contains(err.Error(), `"a"`) {
			t.Errorf("%d: %v", code, err)
		}
	}
	b.instead(func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) })
	if _, err := s.Open(t.Context(), "a", gateway.Want{}); !errors.Is(err, gateway.ErrUnavailable) {
		t.Error(err)
	}
}

// TestContextsAreObeyed where the server says nothing.
func TestContextsAreObeyed(t *testing.T) {
	b := newBucket(t)
	s := closed(t, b.remote)
	b.put(t, "a", gatewaytest.Octets(300_000, 4), nil)
	o, err := s.Open(t.Context(), "a", gateway.Want{})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	reached := make(chan bool, 9)
	b.instead(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet {
			w.Header().Set("Content-Length", "300000")
			_, _ = w.Write(make([]byte, 1000))
			_ = http.NewResponseController(w).Flush()
		}
		reached <- true
		<-r.Context().Done()
		return true
	})
	for name, f := range map[string]func(ctx context.Context) error{
		"Open":   func(ctx context.Context) error { _, err := s.Open(ctx, "a", gateway.Want{}); return err },
		"List":   func(ctx context.Context) error { _, err := s.List(ctx, "", 1); return err },
		"Delete": func(ctx context.Context) error { return s.Delete(ctx, "a", gateway.If{}) },
		"Range": func(ctx context.Context) error {
			r, err := o.Range(ctx, 0, 300_000)
			if err == nil {
				_, err = io.ReadAll(r)
				_ = r.Close() // it failed already
			}
			return err
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-reached
			cancel()
		}()
		began := time.Now()
		if err := f(ctx); !errors.Is(err, context.Canceled) || time.Since(began) > 3*time.Second {
			t.Errorf("%s: %v after %v", name, err, time.Since(began))
		}
	}
}
