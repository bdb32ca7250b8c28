package s3

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/gateway/gatewaytest"
	"github.com/larderhq/larder/gateway/internal/conduit"
)

// sized is a body that can nothing but be read.
func sized(b []byte) io.Reader { return io.MultiReader(bytes.NewReader(b)) }

func (s *server) holds(t *testing.T, key string, want []byte) {
	t.Helper()
	o, err := s.mem.GetObject(testBucket, key, nil)
	if err != nil {
		t.Error(key, err)
		return
	}
	got, err := io.ReadAll(o.Contents)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%q has %d octets (%v), want %d", key, len(got), err, len(want))
	}
}

// absent checks that there is nothing, nor parts of anything.
func (s *server) absent(t *testing.T, key string) {
	t.Helper()
	if _, err := s.mem.HeadObject(testBucket, key); err == nil {
		t.Errorf("%q is there", key)
	}
	r, err := http.Get(s.URL + "/" + testBucket + "?uploads")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close() // read
	defer http.DefaultClient.CloseIdleConnections()
	text, err := io.ReadAll(r.Body)
	if err != nil || strings.Contains(string(text), "UploadId") {
		t.Errorf("parts of %q are there: %s, %v", key, text, err)
	}
}

func TestPutIsOneRequestThatAnyServerUnderstands(t *testing.T) {
	s := serve(t)
	src := s.opened(t)
	fields := http.Header{"Content-Type": {"text/css"}, "Content-Encoding": {"gzip"}, "Content-Language": {"de"}, "Content-Disposition": {"inline"}, "Cache-Control": {"no-cache"}, "Cookie": {"x"}, "X-Amz-Acl": {"public-read"}}
	for _, n := range []int{0, 1, 100_000, small, small + 1, 3 << 20} {
		b := gatewaytest.Octets(n, 1)
		s.requests()
		info, err := src.Put(t.Context(), "o", sized(b), int64(n), fields, gateway.If{})
		if err != nil || info.Size != int64(n) || info.Version == "" || !info.Certain {
			t.Errorf("%d octets: %+v, %v", n, info, err)
			continue
		}
		s.holds(t, "o", b)
		rs := s.requests()
		if len(rs) != 1 || rs[0].Method != "PUT" || rs[0].ContentLength != int64(n) || len(rs[0].TransferEncoding) > 0 {
			t.Errorf("%d octets: %d requests, the first of %d octets, %v", n, len(rs), rs[0].ContentLength, rs[0].TransferEncoding)
		}
		h := rs[0].Header
		if h.Get("Content-Type") != "text/css" || h.Get("Content-Encoding") != "gzip" || h.Get("Content-Language") != "de" ||
			h.Get("Content-Disposition") != "inline" || h.Get("Cache-Control") != "no-cache" || h.Get("Cookie") != "" || h.Get("X-Amz-Acl") != "" {
			t.Errorf("%v", h)
		}
		if h.Get("X-Amz-Trailer") != "" || h.Get("X-Amz-Sdk-Checksum-Algorithm") != "" || h.Get("X-Idempotency-Key") != "" {
			t.Errorf("%v", h)
		}
		if hashed := h.Get("X-Amz-Content-Sha256") != notHashed; hashed != (n <= small) {
			t.Errorf("%d octets: hashed is %t", n, hashed)
		}
	}
}

func TestALongBodyGoesInParts(t *testing.T) {
	s := serve(t)
	src := s.opened(t)
	src.partSize, src.maxPut = 100_000, 250_000
	for _, c := range []struct {
		n     int
		known bool
		sent  string
	}{
		{99_999, false, "PUT"},
		{100_000, false, "POST PUT POST"},
		{100_001, false, "POST PUT PUT POST"},
		{350_000, false, "POST PUT PUT PUT PUT POST"},
		{0, false, "PUT"},
		{250_000, true, "PUT"},
		{250_001, true, "POST PUT PUT PUT POST"},
		{300_000, true, "POST PUT PUT PUT POST"},
	} {
		b := gatewaytest.Octets(c.n, 2)
		size := int64(-1)
		if c.known {
			size = int64(c.n)
		}
		s.requests()
		// Real S3 gives the object the tag that it tells here; gofakes3 one of its own.
		info, err := src.Put(t.Context(), "o", iotest.HalfReader(sized(b)), size, http.Header{"Content-Type": {"text/css"}}, gateway.If{})
		if err != nil || info.Size != int64(c.n) || info.Version == "" {
			t.Errorf("%+v: %+v, %v", c, info, err)
			continue
		}
		s.holds(t, "o", b)
		if m := s.methods(); m != c.sent {
			t.Errorf("%+v: %s", c, m)
		}
		o := must(t, src, "o", gateway.Want{})
		if o.Info().Fields.Get("Content-Type") != "text/css" {
			t.Errorf("%+v: %v", c, o.Info().Fields)
		}
	}
	s.absent(t, "none")
}

func TestMorePartsThanThereMayBeAreNotBegun(t *testing.T) {
	src := serve(t).opened(t)
	u := &put{s: src, key: "o"}
	if _, err := u.part(t.Context(), "id", maxParts+1, request{}); err == nil || errors.Is(err, gateway.ErrUnavailable) {
		t.Error(err)
	}
}

func TestABodyThatFailsLeavesNothing(t *testing.T) {
	s := serve(t)
	src := s.opened(t)
	src.partSize, src.maxPut = 100_000, 2<<20
	b := gatewaytest.Octets(3<<20, 3)
	gone := errors.New("the client went away")
	for name, c := range map[string]struct {
		body io.Reader
		size int64
		want error
	}{
		"at once":            {iotest.ErrReader(gone), 10, gone},
		"at once, any size":  {iotest.ErrReader(gone), -1, gone},
		"streaming":          {io.MultiReader(sized(b[:1<<20]), iotest.ErrReader(gone)), 2 << 20, gone},
		"in unknown parts":   {io.MultiReader(sized(b), iotest.ErrReader(gone)), -1, gone},
		"in large parts":     {io.MultiReader(sized(b[:1<<20]), iotest.ErrReader(gone)), 3 << 20, gone},
		"cut off, unknown":   {io.MultiReader(sized(b[:5000]), iotest.ErrReader(io.ErrUnexpectedEOF)), -1, io.ErrUnexpectedEOF},
		"cut off, parts":     {io.MultiReader(sized(b[:150_000]), iotest.ErrReader(io.ErrUnexpectedEOF)), -1, io.ErrUnexpectedEOF},
		"cut off, part end":  {io.MultiReader(sized(b[:100_000]), iotest.ErrReader(io.ErrUnexpectedEOF)), -1, io.ErrUnexpectedEOF},
		"short":              {sized(b[:99]), 100, nil},
		"short, streaming":   {sized(b[:2<<20-1]), 2 << 20, nil},
		"short, large":       {sized(b[:3<<20-1]), 3 << 20, nil},
		"long":               {sized(b[:101]), 100, nil},
		"long, where empty":  {sized(b[:1]), 0, nil},
		"long, streaming":    {sized(b[:2<<20]), 2<<20 - 1, nil},
		"long, large":        {sized(b[:3<<20]), 3<<20 - 1, nil},
		"error after length": {io.MultiReader(sized(b[:100]), iotest.ErrReader(gone)), 100, gone},
	} {
		_, err := src.Put(t.Context(), "o", c.body, c.size, nil, gateway.If{})
		if err == nil || c.want != nil && !errors.Is(err, c.want) || errors.Is(err, gateway.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
		s.absent(t, "o")
	}
}

func TestAnUploadThatFailsLateIsRemoved(t *testing.T) {
	s := serve(t)
	src := s.opened(t)
	src.partSize = 1000
	for name, c := range map[string]struct {
		text string
		want error
	}{
		"InternalError": {`<Error><Code>InternalError</Code></Error>`, gateway.ErrUnavailable},
		"conflict":      {`<Error><Code>PreconditionFailed</Code></Error>`, gateway.ErrConflict},
		"another thing": {`<html/>`, nil},
		"nothing":       {``, nil},
	} {
		s.intercept(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPost || !r.URL.Query().Has("uploadId") {
				return false
			}
			_, _ = io.WriteString(w, "\n \n"+c.text) // the blanks that keep the connection
			return true
		})
		_, err := src.Put(t.Context(), "o", sized(make([]byte, 3000)), -1, nil, gateway.If{})
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		s.absent(t, "o")
	}

	// Also when the context ended: then Close waits.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut {
			_, _ = io.Copy(io.Discard, r.Body)
			cancel()
			<-r.Context().Done()
			return true
		}
		return false
	})
	if _, err := src.Put(ctx, "o", sized(make([]byte, 3000)), -1, nil, gateway.If{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	_ = src.Close()
	s.absent(t, "o")
}

// between puts an object after the Source looked, and before it writes or deletes.
func (s *server) between(t *testing.T, method, key string) {
	var once atomic.Bool
	s.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == method && r.URL.Path == "/"+testBucket+"/"+key && once.CompareAndSwap(false, true) {
			s.put(t, key, []byte("another writer's"), time.Time{})
		}
		return false
	})
}

func TestAnotherWriterDoesNotComeBetween(t *testing.T) {
	s := serve(t)
	src := s.opened(t)
	src.partSize = 1000
	for _, c := range []struct {
		size   int64
		method string // at which the other comes
	}{{3000, http.MethodPut}, {3 << 20, http.MethodPut}, {-1, http.MethodPost}} {
		n := max(c.size, 3000)
		for _, absent := range []bool{true, false} {
			s.intercept(nil)
			only := gateway.If{Absent: true}
			s.remove(t, "o")
			if !absent {
				s.put(t, "o", []byte("first"), time.Time{})
				only = gateway.If{Version: must(t, src, "o", gateway.Want{}).Info().Version}
			}
			s.between(t, c.method, "o")
			_, err := src.Put(t.Context(), "o", sized(make([]byte, n)), c.size, nil, only)
			if !errors.Is(err, gateway.ErrConflict) {
				t.Errorf("%+v, absent %t: %v", c, absent, err)
			}
			s.holds(t, "o", []byte("another writer's"))
			s.absent(t, "none")
		}
	}
	s.intercept(nil)
	version := must(t, src, "o", gateway.Want{}).Info().Version
	s.put(t, "o", []byte("first"), time.Time{})
	if err := src.Delete(t.Context(), "o", gateway.If{Version: version}); !errors.Is(err, gateway.ErrConflict) {
		t.Error(err)
	}
	version = must(t, src, "o", gateway.Want{}).Info().Version
	s.between(t, http.MethodDelete, "o")
	if err := src.Delete(t.Context(), "o", gateway.If{Version: version}); !errors.Is(err, gateway.ErrConflict) {
		t.Error(err)
	}
	s.holds(t, "o", []byte("another writer's"))
}

func TestAnEvidentConflictSendsNoBody(t *testing.T) {
	s := serve(t)
	src := s.opened(t)
	s.put(t, "o", []byte("first"), time.Time{})
	for _, c := range []struct {
		name string
		only gateway.If
	}{{"o", gateway.If{Absent: true}}, {"o", gateway.If{Version: "other"}}, {"o", gateway.If{Version: "a\"b"}}, {"none", gateway.If{Version: "v"}}} {
		s.requests()
		if _, err := src.Put(t.Context(), c.name, iotest.ErrReader(errors.New("read")), 10, nil, c.only); !errors.Is(err, gateway.ErrConflict) {
			t.Errorf("%+v: %v", c, err)
		}
		if m := s.methods(); m != "HEAD" {
			t.Errorf("%+v: %s", c, m)
		}
	}
}

func TestWhoMayOnlyWriteLeavesConditionsToTheServer(t *testing.T) {
	s := serve(t)
	src := s.opened(t)
	s.put(t, "o", []byte("first"), time.Time{})
	version := must(t, src, "o", gateway.Want{}).Info().Version
	s.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodHead {
			refuse(w, http.StatusForbidden, "AccessDenied")
			return true
		}
		return false
	})
	for _, only := range []gateway.If{{Absent: true}, {Version: "other"}, {Version: "a\"b"}} {
		if _, err := src.Put(t.Context(), "o", strings.NewReader("x"), 1, nil, only); !errors.Is(err, gateway.ErrConflict) {
			t.Errorf("%+v: %v", only, err)
		}
	}
	if _, err := src.Put(t.Context(), "o", strings.NewReader("x"), 1, nil, gateway.If{Version: version}); err != nil {
		t.Error(err)
	}
	s.holds(t, "o", []byte("x"))
}

func TestAVersionThatIsGoneIsAConflict(t *testing.T) {
	s := serve(t)
	src := s.opened(t)
	s.put(t, "o", []byte("first"), time.Time{})
	version := must(t, src, "o", gateway.Want{}).Info().Version
	s.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut { // as S3 says it
			refuse(w, http.StatusNotFound, "NoSuchKey")
			return true
		}
		return false
	})
	if _, err := src.Put(t.Context(), "o", strings.NewReader("x"), 1, nil, gateway.If{Version: version}); !errors.Is(err, gateway.ErrConflict) {
		t.Error(err)
	}
}

func TestAServerThatKnowsNoConditionalDelete(t *testing.T) {
	s := serve(t)
	src := s.opened(t)
	s.put(t, "o", []byte("first"), time.Time{})
	version := must(t, src, "o", gateway.Want{}).Info().Version
	s.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodDelete && r.Header.Get("If-Match") != "" {
			refuse(w, http.StatusNotImplemented, "NotImplemented")
			return true
		}
		return false
	})
	if err := src.Delete(t.Context(), "o", gateway.If{Version: version}); err != nil {
		t.Error(err)
	}
	s.absent(t, "o")
	if err := src.Delete(t.Context(), "o", gateway.If{}); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// A pooled connection that the server closes meanwhile costs no upload.
func TestAClosedConnectionCostsNoUpload(t *testing.T) {
	s := serve(t)
	src := s.opened(t)
	for _, n := range []int{10, small + 1} {
		b := gatewaytest.Octets(n, 4)
		if _, err := src.List(t.Context(), "none", 1); !errors.Is(err, fs.ErrNotExist) { // a connection for the pool
			t.Fatal(err)
		}
		var once atomic.Bool
		s.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPut && once.CompareAndSwap(false, true) {
				panic(http.ErrAbortHandler)
			}
			return false
		})
		if _, err := src.Put(t.Context(), "o", sized(b), int64(n), nil, gateway.If{}); err != nil {
			t.Errorf("%d octets: %v", n, err)
			continue
		}
		s.holds(t, "o", b)
	}
}

func TestWithoutAnEntityTagTheTimeIsTheCondition(t *testing.T) {
	s := serve(t)
	src := s.opened(t)
	s.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodHead {
			w.Header().Set("Content-Length", "5")
			w.Header().Set("Last-Modified", gatewaytest.Past().Format(http.TimeFormat))
			return true
		}
		if len(r.Header["If-Match"]) > 0 {
			t.Errorf("%s has If-Match: %q", r.Method, r.Header["If-Match"])
		}
		return false
	})
	version := must(t, src, "o", gateway.Want{}).Info().Version
	if _, err := src.Put(t.Context(), "o", strings.NewReader("x"), 1, nil, gateway.If{Version: "other"}); !errors.Is(err, gateway.ErrConflict) {
		t.Error(err)
	}
	if _, err := src.Put(t.Context(), "o", strings.NewReader("x"), 1, nil, gateway.If{Version: version}); err != nil {
		t.Error(err)
	}
	if err := src.Delete(t.Context(), "o", gateway.If{Version: "other"}); !errors.Is(err, gateway.ErrConflict) {
		t.Error(err)
	}
	if err := src.Delete(t.Context(), "o", gateway.If{Version: version}); err != nil {
		t.Error(err)
	}
}

// A stuck body has nothing to give until it is let go.
type stuck struct {
	begun, letGo chan struct{}
	inside       atomic.Bool
}

func (s *stuck) Read([]byte) (int, error) {
	s.inside.Store(true)
	defer s.inside.Store(false)
	close(s.begun)
	<-s.letGo
	return 0, io.EOF
}

// net/http may read on after it has an answer; here that is certain.
func TestABodyIsTheCallersAgainAfterPut(t *testing.T) {
	for _, size := range []int64{2 << 20, 4 << 20} { // in one, and in parts
		synctest.Test(t, func(t *testing.T) {
			var sent io.Reader
			body := &stuck{begun: make(chan struct{}), letGo: make(chan struct{})}
			src, err := Open(Options{Endpoint: "h", Bucket: testBucket, Anonymous: true, Transport: roundTrip(func(r *http.Request) *http.Response {
				resp := &http.Response{StatusCode: http.StatusServiceUnavailable, Body: http.NoBody, Request: r}
				switch r.Method {
				case http.MethodPut:
					sent = r.Body
					go func() { _, _ = r.Body.Read(make([]byte, 10)) }()
					<-body.begun
				case http.MethodPost:
					resp.StatusCode = http.StatusOK
					resp.Body = io.NopCloser(strings.NewReader("<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"))
				}
				return resp
			})})
			if err != nil {
				t.Fatal(err)
			}
			src.maxPut = 3 << 20
			put := func(ctx context.Context) *atomic.Bool {
				var over atomic.Bool
				go func() {
					_, err := src.Put(ctx, "o", body, size, nil, gateway.If{})
					if err == nil {
						t.Error("it went through")
					}
					over.Store(true)
				}()
				synctest.Wait()
				return &over
			}
			over := put(t.Context())
			if !body.inside.Load() || over.Load() {
				t.Errorf("%d octets: Put returned while the body was read", size)
			}
			close(body.letGo)
			synctest.Wait()
			if n, err := sent.Read(make([]byte, 10)); !over.Load() || n != 0 || !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("%d octets: after Put the body gives %d, %v", size, n, err)
			}

			// A context that ends is obeyed all the same.
			ctx, cancel := context.WithCancel(t.Context())
			body = &stuck{begun: make(chan struct{}), letGo: make(chan struct{})}
			over = put(ctx)
			cancel()
			synctest.Wait()
			if !over.Load() {
				t.Errorf("%d octets: Put goes on when its context ended", size)
			}
			close(body.letGo)
			synctest.Wait()
			if n, err := sent.Read(make([]byte, 10)); n != 0 || !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("%d octets: after the end of the context the body gives %d, %v", size, n, err)
			}
			_ = src.Close()
		})
	}
}

func ExampleParse() {
	opt, err := Parse("s3://photos/2024/?endpoint=http://127.0.0.1:9000&region=eu-west-1&style=path", func(string) string { return "" })
	fmt.Println(opt.Bucket, opt.Prefix, opt.Endpoint, opt.Region, opt.Style == Path, err)
	// Output: photos 2024 http://127.0.0.1:9000 eu-west-1 true <nil>
}

// TestAServerThatDoesNotTakeAllHasNotStoredIt checks a server that says so at once.
func TestAServerThatDoesNotTakeAllHasNotStoredIt(t *testing.T) {
	s := serve(t)
	src := s.opened(t, func(o *Options) { o.Anonymous, o.AccessKey, o.SecretKey = true, "", "" }) // or the server reads all for the hash
	src.partSize, src.maxPut = 2<<20, 4<<20
	s.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut {
			w.Header().Set("ETag", `"whole"`)
		}
		return r.Method == http.MethodPut
	})
	for name, size := range map[string]int64{"one": 3 << 20, "parts": 5 << 20, "parts in memory": -1} {
		_, err := src.Put(t.Context(), "o", io.LimitReader(endless{}, cmp.Or(max(size, 0), 5<<20)), size, nil, gateway.If{})
		if !errors.Is(err, conduit.ErrEarly) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
