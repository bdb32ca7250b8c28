package s3

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/gateway"
)

func TestRefusalsAreToldApart(t *testing.T) {
	s := serve(t)
	src := s.opened(t)
	for _, c := range []struct {
		status int
		code   string
		want   error
	}{
		{404, "NoSuchKey", fs.ErrNotExist},
		{404, "", fs.ErrNotExist},
		{400, "KeyTooLongError", fs.ErrNotExist},
		{403, "AccessDenied", fs.ErrPermission},
		{401, "", fs.ErrPermission},
		{403, "InvalidAccessKeyId", fs.ErrPermission},
		{400, "ExpiredToken", fs.ErrPermission},
		{503, "SlowDown", gateway.ErrUnavailable},
		{400, "RequestTimeout", gateway.ErrUnavailable},
		{409, "OperationAborted", gateway.ErrUnavailable},
		{429, "", gateway.ErrUnavailable},
		{500, "InternalError", gateway.ErrUnavailable},
		{502, "", gateway.ErrUnavailable},
		{504, "", gateway.ErrUnavailable},
		{509, "", gateway.ErrUnavailable},
		{520, "", gateway.ErrUnavailable},
		{522, "", gateway.ErrUnavailable},
		{505, "", nil},
		{507, "XMinioStorageFull", gateway.ErrFull},
		{403, "QuotaExceeded", gateway.ErrFull},
		{409, "ConditionalRequestConflict", gateway.ErrConflict},
		{412, "PreconditionFailed", gateway.ErrConflict},
		{400, "AuthorizationHeaderMalformed", nil},
		{501, "NotImplemented", nil},
	} {
		s.intercept(func(w http.ResponseWriter, _ *http.Request) bool { refuse(w, c.status, c.code); return true })
		_, put := src.Put(t.Context(), "o", strings.NewReader("x"), 1, nil, gateway.If{})
		_, list := src.List(t.Context(), "o", 1)
		_, get := src.Open(t.Context(), "o", gateway.Want{N: -1})
		for verb, err := range map[string]error{"Put": put, "List": list, "Open": get} {
			for _, kind := range []error{fs.ErrNotExist, fs.ErrPermission, gateway.ErrUnavailable, gateway.ErrFull, gateway.ErrConflict} {
				if errors.Is(err, kind) != (kind == c.want) {
					t.Errorf("%s, %d %s: %v", verb, c.status, c.code, err)
				}
			}
			if text := err.Error(); strings.Contains(text, testSecret) || strings.Contains(text, testKey) || !strings.Contains(text, `"o"`) || !strings.Contains(text, testBucket) {
				t.Errorf("%s, %d %s: %s", verb, c.status, c.code, text)
			}
		}
	}
}

func TestABucketThatDoesNotExistIsNoMissingObject(t *testing.T) {
	s := serve(t)
	for _, f := range []func(*Source) error{
		func(src *Source) error { _, err := src.Open(t.Context(), "o", gateway.Want{}); return err },
		func(src *Source) error { _, err := src.Open(t.Context(), "o", gateway.Want{N: -1}); return err },
		func(src *Source) error { _, err := src.List(t.Context(), "", 1); return err },
		func(src *Source) error { return src.Delete(t.Context(), "o", gateway.If{}) },
		func(src *Source) error {
			_, err := src.Put(t.Context(), "o", strings.NewReader("x"), 1, nil, gateway.If{Absent: true})
			return err
		},
	} {
		err := f(s.opened(t, func(o *Options) { o.Bucket = "no-such-bucket" }))
		if err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "bucket does not exist") {
			t.Error(err)
		}
	}
	// Once it was seen, a missing object is one request.
	src := s.opened(t)
	for _, want := range []string{"HEAD HEAD", "HEAD", "HEAD"} {
		s.requests()
		if _, err := src.Open(t.Context(), "o", gateway.Want{}); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		if m := s.methods(); m != want {
			t.Errorf("%s, want %s", m, want)
		}
	}
}

func TestAnotherRegionIsTold(t *testing.T) {
	s := serve(t)
	src := s.opened(t)
	s.intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("X-Amz-Bucket-Region", "ap-south-7")
		refuse(w, http.StatusMovedPermanently, "PermanentRedirect")
		return true
	})
	for _, w := range []gateway.Want{{}, {N: -1}} {
		if _, err := src.Open(t.Context(), "o", w); err == nil || !strings.Contains(err.Error(), "ap-south-7") {
			t.Error(err)
		}
	}
}

func TestRedirectsLeadNowhere(t *testing.T) {
	s, other := serve(t), serve(t)
	other.put(t, "o", []byte("of another server"), time.Time{})
	src := s.opened(t)
	s.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, other.URL+r.RequestURI, http.StatusTemporaryRedirect)
		return true
	})
	for _, w := range []gateway.Want{{}, {N: -1}} {
		if o, err := src.Open(t.Context(), "o", w); err == nil {
			t.Errorf("%+v", o.Info())
		}
	}
	if n := len(other.requests()); n > 0 {
		t.Errorf("%d requests to where it leads", n)
	}
}

func TestNoServerIsUnavailable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close() // nobody listens there now
	src, err := Open(Options{Endpoint: addr, Insecure: true, Bucket: testBucket, Anonymous: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := src.Open(t.Context(), "o", gateway.Want{}); !errors.Is(err, gateway.ErrUnavailable) {
		t.Error(err)
	}
	_ = src.Close()
}

func TestACertificateThatIsNotTrustedIsNotTriedAgain(t *testing.T) {
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	p := pool()
	p.TLSClientConfig = &tls.Config{} // knows nothing of the test's
	defer p.CloseIdleConnections()
	src, err := Open(Options{Endpoint: s.URL, Bucket: testBucket, Anonymous: true, Transport: p})
	if err != nil {
		t.Fatal(err)
	}
	_, err = src.Open(context.Background(), "o", gateway.Want{})
	if err == nil || errors.Is(err, gateway.ErrUnavailable) {
		t.Error(err)
	}
}
