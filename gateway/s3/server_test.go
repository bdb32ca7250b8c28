package s3

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testBucket = "larder-test"
	testKey    = "AKIATESTTESTTEST"
	testSecret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY" // of the documentation
)

// A clock is what time the storage takes it for. It is the TimeSource of gofakes3.
type clock struct{ at atomic.Pointer[time.Time] }

func (c *clock) set(at time.Time) {
	if at.IsZero() {
		at = time.Now()
	}
	c.at.Store(&at)
}
func (c *clock) Now() time.Time                  { return *c.at.Load() }
func (c *clock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

// A server is gofakes3 in memory, behind what real S3 does and gofakes3 does not.
type server struct {
	*httptest.Server
	mem   *s3mem.Backend
	clock *clock
	fake  http.Handler
	down  atomic.Bool

	mu     sync.Mutex
	seen   []*http.Request // without bodies
	before func(w http.ResponseWriter, r *http.Request) (answered bool)
}

func serve(t *testing.T) *server {
	s := &server{clock: &clock{}}
	s.clock.set(time.Time{})
	s.mem = s3mem.New(s3mem.WithTimeSource(s.clock))
	if err := s.mem.CreateBucket(testBucket); err != nil {
		t.Fatal(err)
	}
	s.fake = gofakes3.New(s.mem, gofakes3.WithTimeSource(s.clock), gofakes3.WithTimeSkewLimit(0)).Server()
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // gofakes3 writes 304s with a body
	s.Start()
	t.Cleanup(s.Server.Close)
	return s
}

// open makes a Source with credentials.
func (s *server) open(t *testing.T, change ...func(*Options)) *Source {
	opt := Options{Endpoint: s.URL, Bucket: testBucket, Region: "eu-test-1", AccessKey: testKey, SecretKey: testSecret}
	for _, c := range change {
		c(&opt)
	}
	src, err := Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// opened is open, closed at the end.
func (s *server) opened(t *testing.T, change ...func(*Options)) *Source {
	src := s.open(t, change...)
	t.Cleanup(func() {
		if err := src.Close(); err != nil {
			t.Error(err)
		}
	})
	return src
}

// put stores an object behind every Source's back.
func (s *server) put(t *testing.T, key string, octets []byte, at time.Time) {
	t.Helper()
	s.clock.set(at)
	defer s.clock.set(time.Time{})
	meta := map[string]string{"Last-Modified": s.clock.Now().UTC().Format(http.TimeFormat), "Content-Type": "text/x-test"}
	if _, err := s.mem.PutObject(testBucket, key, meta, bytes.NewReader(octets), int64(len(octets)), nil); err != nil {
		t.Fatal(err)
	}
}

func (s *server) remove(t *testing.T, key string) {
	t.Helper()
	if _, err := s.mem.DeleteObject(testBucket, key); err != nil {
		t.Fatal(err)
	}
}

// intercept answers requests before the server does.
func (s *server) intercept(f func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = f
}

// requests returns what came since the last call.
func (s *server) requests() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.seen
	s.seen = nil
	return seen
}

// methods are those of requests.
func (s *server) methods() string {
	var all []string
	for _, r := range s.requests() {
		all = append(all, r.Method)
	}
	return strings.Join(all, " ")
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.down.Load() {
		panic(http.ErrAbortHandler) // hangs up
	}
	s.mu.Lock()
	s.seen = append(s.seen, r.Clone(r.Context()))
	before := s.before
	s.mu.Unlock()
	if r.Header.Get("Authorization") != "" {
		if err := verify(r); err != nil {
			refuse(w, http.StatusForbidden, "SignatureDoesNotMatch")
			return
		}
	}
	if before != nil && before(w, r) {
		return
	}
	if s.real(w, r) {
		return
	}
	s.fake.ServeHTTP(w, r)
}

// real does what S3 does and gofakes3 1.2 does not: If-Match on GET, HEAD and DELETE,
// and conditions on CompleteMultipartUpload (412 PreconditionFailed).
func (s *server) real(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodPut {
		return false // gofakes3 knows
	}
	is := ""
	key := strings.TrimPrefix(r.URL.Path, "/"+testBucket+"/")
	if o, err := s.mem.HeadObject(testBucket, key); err == nil {
		is = `"` + hex.EncodeToString(o.Hash) + `"`
	}
	match, none := r.Header.Get("If-Match"), r.Header.Get("If-None-Match")
	if match != "" && is != "" && match != is || none == "*" && is != "" {
		refuse(w, http.StatusPreconditionFailed, "PreconditionFailed")
		return true
	}
	if match != "" && is == "" {
		refuse(w, http.StatusNotFound, "NoSuchKey")
		return true
	}
	return false
}

// refuse answers as S3 does.
func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>%s</Message></Error>`, code, testSecret)
}

// verify checks the signature of a request (version 4) over what came on the wire.
func verify(r *http.Request) error {
	var access, date, region, names, sig string
	auth := strings.NewReplacer(",", " ", "/", " ").Replace(r.Header.Get("Authorization"))
	if _, err := fmt.Sscanf(auth, "AWS4-HMAC-SHA256 Credential=%s %s %s s3 aws4_request SignedHeaders=%s Signature=%s", &access, &date, &region, &names, &sig); err != nil {
		return err
	}
	var head strings.Builder
	for name := range strings.SplitSeq(names, ";") {
		v := r.Header.Get(name)
		switch name {
		case "host":
			v = r.Host
		case "content-length":
			v = fmt.Sprint(r.ContentLength)
		}
		head.WriteString(name + ":" + v + "\n")
	}
	for _, name := range []string{"Range", "If-Match", "If-None-Match", "X-Amz-Content-Sha256", "X-Amz-Date", "X-Amz-Security-Token"} {
		if r.Header.Get(name) != "" && !slices.Contains(strings.Split(names, ";"), strings.ToLower(name)) {
			return fmt.Errorf("%s is not signed", name)
		}
	}
	path, query, _ := strings.Cut(r.RequestURI, "?")
	canonical := strings.Join([]string{r.Method, path, query, head.String(), names, r.Header.Get("X-Amz-Content-Sha256")}, "\n")
	sum := sha256.Sum256([]byte(canonical))
	key := []byte("AWS4" + testSecret)
	for _, part := range []string{date, region, "s3", "aws4_request", "AWS4-HMAC-SHA256\n" + r.Header.Get("X-Amz-Date") + "\n" + date + "/" + region + "/s3/aws4_request\n" + hex.EncodeToString(sum[:])} {
		m := hmac.New(sha256.New, key)
		m.Write([]byte(part))
		key = m.Sum(nil)
	}
	if access != testKey || region != "eu-test-1" || sig != hex.EncodeToString(key) {
		return fmt.Errorf("the signature is wrong")
	}
	if h := r.Header.Get("X-Amz-Content-Sha256"); h != notHashed {
		body, err := io.ReadAll(r.Body)
		if sum := sha256.Sum256(body); err != nil || h != hex.EncodeToString(sum[:]) {
			return fmt.Errorf("the hash of the body is wrong: %w", err)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	return nil
}
