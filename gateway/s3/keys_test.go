package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/larderhq/larder/gateway"
)

// bare takes away what the machine of the test has.
func bare(t *testing.T) (home string) {
	home = t.TempDir()
	for _, e := range os.Environ() {
		if name, _, _ := strings.Cut(e, "="); strings.HasPrefix(name, "AWS_") || strings.HasPrefix(name, "MINIO_") {
			t.Setenv(name, "")
		}
	}
	t.Setenv("HOME", home)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	return home
}

func write(t *testing.T, home, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(home, ".aws"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, ".aws", "credentials"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func searching(o *Options) { o.AccessKey, o.SecretKey = "", "" }

func TestCredentialsAreFoundWhereTheyUsuallyAre(t *testing.T) {
	s := serve(t)
	s.put(t, "o", []byte("x"), time.Time{})
	file := fmt.Sprintf("[other]\naws_access_key_id = %s\naws_secret_access_key = %s\naws_session_token = tok\n[default]\naws_access_key_id = a\naws_secret_access_key = b\n", testKey, testSecret)
	for name, c := range map[string]struct {
		env   map[string]string
		file  string
		token string
	}{
		"AWS":            {map[string]string{"AWS_ACCESS_KEY_ID": testKey, "AWS_SECRET_ACCESS_KEY": testSecret}, "", ""},
		"with a token":   {map[string]string{"AWS_ACCESS_KEY_ID": testKey, "AWS_SECRET_ACCESS_KEY": testSecret, "AWS_SESSION_TOKEN": "tok"}, file, "tok"},
		"MinIO":          {map[string]string{"MINIO_ACCESS_KEY": testKey, "MINIO_SECRET_KEY": testSecret}, "", ""},
		"MinIO's root":   {map[string]string{"MINIO_ROOT_USER": testKey, "MINIO_ROOT_PASSWORD": testSecret}, file, ""},
		"file":           {map[string]string{"AWS_PROFILE": "other"}, file, "tok"},
		"AWS over MinIO": {map[string]string{"AWS_ACCESS_KEY_ID": testKey, "AWS_SECRET_ACCESS_KEY": testSecret, "MINIO_ACCESS_KEY": "a", "MINIO_SECRET_KEY": "b"}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			home := bare(t)
			for k, v := range c.env {
				t.Setenv(k, v)
			}
			if c.file != "" {
				write(t, home, c.file)
			}
			s.requests()
			must(t, s.opened(t, searching), "o", gateway.Want{})
			r := s.requests()[0]
			if r.Header.Get("Authorization") == "" || r.Header.Get("X-Amz-Security-Token") != c.token {
				t.Errorf("%v", r.Header)
			}
		})
	}
}

func TestWithoutCredentialsRequestsAreNotSigned(t *testing.T) {
	s := serve(t)
	s.put(t, "o", []byte("x"), time.Time{})
	bare(t)
	must(t, s.opened(t, searching), "o", gateway.Want{N: -1})
	t.Setenv("AWS_ACCESS_KEY_ID", testKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", testSecret)
	must(t, s.opened(t, searching, func(o *Options) { o.Anonymous = true }), "o", gateway.Want{N: -1})
	must(t, s.opened(t, func(o *Options) { o.Anonymous = true }), "o", gateway.Want{N: -1})
	for _, r := range s.requests() {
		if len(r.Header["Authorization"]) > 0 || len(r.Header["X-Amz-Security-Token"]) > 0 {
			t.Errorf("%v", r.Header)
		}
	}
}

func TestAProfileThatIsNotThereIsNoAnonymity(t *testing.T) {
	s := serve(t)
	home := bare(t)
	t.Setenv("AWS_PROFILE", "typo")
	for _, file := range []string{"", "[default]\naws_access_key_id = a\naws_secret_access_key = " + testSecret + "\n", "[typo]\n" + testSecret + "\n"} {
		if file != "" {
			write(t, home, file)
		}
		_, err := s.opened(t, searching).Open(t.Context(), "o", gateway.Want{})
		if err == nil || !strings.Contains(err.Error(), "typo") || strings.Contains(err.Error(), testSecret) {
			t.Error(err)
		}
	}
	if n := len(s.requests()); n > 0 {
		t.Errorf("%d requests", n)
	}
}

// metadata is the service that a machine at Amazon has.
func metadata(t *testing.T, until func() time.Time) (*httptest.Server, *atomic.Int64) {
	var asked atomic.Int64
	m := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token":
			asked.Add(1)
			if until == nil {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			fmt.Fprint(w, "session")
		case r.Header.Get("X-Aws-Ec2-Metadata-Token") != "session":
			w.WriteHeader(http.StatusUnauthorized)
		case strings.HasSuffix(r.URL.Path, "/security-credentials/"):
			fmt.Fprint(w, "role")
		default:
			fmt.Fprintf(w, `{"Code":"Success","AccessKeyId":%q,"SecretAccessKey":%q,"Token":"tok%d","Expiration":%q}`, testKey, testSecret, asked.Load(), until().UTC().Format(time.RFC3339))
		}
	}))
	t.Cleanup(m.Close)
	return m, &asked
}

func TestTheRoleOfTheMachineIsUsedAndRenewed(t *testing.T) {
	s := serve(t)
	s.put(t, "o", []byte("x"), time.Time{})
	bare(t)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "")
	now := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	m, asked := metadata(t, func() time.Time { return now.Add(time.Hour) })
	src := s.opened(t, searching, func(o *Options) { o.Now = func() time.Time { return now } })
	src.keys.metadata = m.URL
	for _, c := range []struct {
		later time.Duration
		asked int64
	}{{0, 1}, {40 * time.Minute, 1}, {9 * time.Minute, 2}, {40 * time.Minute, 2}} {
		now = now.Add(c.later)
		must(t, src, "o", gateway.Want{})
		if r := s.requests()[0]; r.Header.Get("X-Amz-Security-Token") != fmt.Sprintf("tok%d", c.asked) || asked.Load() != c.asked {
			t.Errorf("%v later: asked %d times, %v", c.later, asked.Load(), r.Header)
		}
	}

	// What was a role is not nobody when it cannot be renewed.
	m.Close()
	now = now.Add(time.Hour)
	if _, err := src.Open(t.Context(), "o", gateway.Want{}); err == nil {
		t.Error("it went on without credentials")
	}
}

func TestThatThereIsNoRoleIsRemembered(t *testing.T) {
	s := serve(t)
	s.put(t, "o", []byte("x"), time.Time{})
	bare(t)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "")
	now := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	m, asked := metadata(t, nil)
	src := s.opened(t, searching, func(o *Options) { o.Now = func() time.Time { return now } })
	src.keys.metadata = m.URL
	for _, c := range []struct {
		later time.Duration
		asked int64
	}{{0, 1}, {0, 1}, {14 * time.Minute, 1}, {2 * time.Minute, 2}} {
		now = now.Add(c.later)
		must(t, src, "o", gateway.Want{})
		if asked.Load() != c.asked {
			t.Errorf("%v later: asked %d times", c.later, asked.Load())
		}
	}
}

func TestAMachineWithoutMetadataDelaysOnce(t *testing.T) {
	s := serve(t)
	s.put(t, "o", []byte("x"), time.Time{})
	bare(t)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "")
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(silent.Close)
	src := s.opened(t, searching)
	src.keys.metadata = silent.URL
	start := time.Now()
	var wg sync.WaitGroup
	for range 5 { // at the same time: one waits, and the others for it
		wg.Go(func() {
			o, err := src.Open(t.Context(), "o", gateway.Want{})
			if err != nil {
				t.Error(err)
				return
			}
			_ = o.Close()
		})
	}
	wg.Wait()
	if d := time.Since(start); d > 2*patience {
		t.Errorf("it took %v", d)
	}
}

func TestARoleThatIsConfiguredAndFailsIsNoAnonymity(t *testing.T) {
	s := serve(t)
	bare(t)
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", s.URL+"/no/such/thing")
	s.intercept(func(w http.ResponseWriter, _ *http.Request) bool { refuse(w, http.StatusNotFound, "x"); return true })
	if _, err := s.opened(t, searching).Open(t.Context(), "o", gateway.Want{}); err == nil || !strings.Contains(err.Error(), "role") {
		t.Error(err)
	}
}

// TestKeysThatWereReplacedAreReadAgain checks a file that another program renews: at
// once when it changed, and when the server says that it does not take them any more.
func TestKeysThatWereReplacedAreReadAgain(t *testing.T) {
	s := serve(t)
	s.put(t, "o", []byte("x"), time.Time{})
	home := bare(t)
	now := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	src := s.opened(t, searching, func(o *Options) { o.Now = func() time.Time { return now } })
	text := "[default]\naws_access_key_id = %s\naws_secret_access_key = %s\naws_session_token = %s\n"
	write(t, home, fmt.Sprintf(text, testKey, testSecret, "one"))
	must(t, src, "o", gateway.Want{})
	write(t, home, fmt.Sprintf(text, testKey, testSecret, "another"))
	now = now.Add(pause)
	s.requests()
	must(t, src, "o", gateway.Want{})
	if got := s.requests()[0].Header.Get("X-Amz-Security-Token"); got != "another" {
		t.Errorf("token %q", got)
	}

	t.Setenv("AWS_ACCESS_KEY_ID", testKey) // what no file shows
	t.Setenv("AWS_SECRET_ACCESS_KEY", testSecret)
	t.Setenv("AWS_SESSION_TOKEN", "third")
	now = now.Add(pause)
	s.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		expired := r.Header.Get("X-Amz-Security-Token") != "third"
		if expired {
			refuse(w, http.StatusBadRequest, "ExpiredToken")
		}
		return expired
	})
	if _, err := src.Open(t.Context(), "o", gateway.Want{N: -1}); !errors.Is(err, gateway.ErrUnavailable) {
		t.Error(err)
	}
	must(t, src, "o", gateway.Want{N: -1})
}

func TestAProcessThatFailsIsNoAnonymity(t *testing.T) {
	s := serve(t)
	home := bare(t)
	write(t, home, "[default]\ncredential_process = /bin/false "+testSecret+"\n")
	for range 2 {
		_, err := s.opened(t, searching).Open(t.Context(), "o", gateway.Want{})
		if !errors.Is(err, gateway.ErrUnavailable) || strings.Contains(err.Error(), testSecret) {
			t.Error(err)
		}
	}
	if n := len(s.requests()); n > 0 {
		t.Errorf("%d requests", n)
	}
	write(t, home, "[other]\naws_access_key_id = a\naws_secret_access_key = b\n") // no such section
	s.put(t, "o", []byte("x"), time.Time{})
	must(t, s.opened(t, searching), "o", gateway.Want{})
}

// TestAProcessThatHangsHoldsNobody checks that contexts end while credentials are searched
// for, and that what comes in the end is used.
func TestAProcessThatHangsHoldsNobody(t *testing.T) {
	s := serve(t)
	s.put(t, "o", []byte("x"), time.Time{})
	home := bare(t)
	pipe := filepath.Join(home, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	write(t, home, "[default]\ncredential_process = /bin/cat "+pipe+"\n")
	src := s.opened(t, searching)
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error)
	for range 2 {
		go func() {
			_, err := src.Open(ctx, "o", gateway.Want{})
			over <- err
		}()
	}
	f, err := os.OpenFile(pipe, os.O_WRONLY, 0) // returns when the process reads
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	for range 2 {
		if err := <-over; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	fmt.Fprintf(f, `{"Version": 1, "AccessKeyId": %q, "SecretAccessKey": %q}`, testKey, testSecret)
	f.Close()
	must(t, src, "o", gateway.Want{})
	if r := s.requests()[0]; r.Header.Get("Authorization") == "" {
		t.Errorf("%v", r.Header)
	}
}
