package local_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/larderhq/larder/internal/interim"
	"github.com/larderhq/larder/internal/local"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func request(ctx context.Context, method, target string, body io.Reader) *http.Request {
	req, err := http.NewRequestWithContext(ctx, method, "http://h.example"+target, body)
	if err != nil {
		panic(err)
	}
	return req
}

// ask has h answer a request and reads the body.
func ask(t *testing.T, method string, h http.HandlerFunc) (*http.Response, string, error) {
	t.Helper()
	resp, err := local.RoundTripper(h).RoundTrip(request(t.Context(), method, "/", nil))
	if err != nil {
		return nil, "", err
	}
	b, err := io.ReadAll(resp.Body)
	if cerr := resp.Body.Close(); cerr != nil {
		t.Error(cerr)
	}
	return resp, string(b), err
}

func TestORG_HandlerSeesAServersRequest(t *testing.T) {
	req := request(t.Context(), "PUT", "/a%2Fb?c=d", strings.NewReader("up"))
	req.Header.Set("A", "b")
	rt := local.RoundTripper(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		r.Header.Set("A", "changed")
		_, _ = fmt.Fprint(w, r.Method, r.Host, r.RequestURI, r.URL, r.URL.Path, r.Proto, r.ContentLength, string(b), err)
	}))
	resp, err := rt.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if want := "PUTh.example/a%2Fb?c=d/a%2Fb?c=d/a/bHTTP/1.12up<nil>"; string(b) != want && err == nil {
		// Fprint puts blanks between operands that are no strings.
		if strings.ReplaceAll(string(b), " ", "") != want {
			t.Errorf("got %q, want %q", b, want)
		}
	}
	if req.Header.Get("A") != "b" || resp.Request != req {
		t.Error("the request was changed")
	}
	in, err := rt.RoundTrip(&http.Request{URL: &url.URL{Opaque: "/x%zz"}})
	var r interface{ Status() int }
	if in != nil || !errors.As(err, &r) || r.Status() != 400 {
		t.Errorf("a target that no server takes: %v", err)
	}
}

func TestORG_HeadOfShortResponses(t *testing.T) {
	for name, c := range map[string]struct {
		method, want string
		h            http.HandlerFunc
	}{
		"nothing":       {"GET", `200 0 map[Content-Length:[0]] ""`, func(http.ResponseWriter, *http.Request) {}},
		"short":         {"GET", `200 2 map[Content-Length:[2] Content-Type:[text/plain; charset=utf-8]] "hi"`, write("hi")},
		"short, HEAD":   {"HEAD", `200 2 map[Content-Length:[2] Content-Type:[text/plain; charset=utf-8]] ""`, write("hi")},
		"nothing, HEAD": {"HEAD", `200 -1 map[] ""`, func(http.ResponseWriter, *http.Request) {}},
		"flushed": {"GET", `200 -1 map[Content-Type:[text/plain; charset=utf-8]] "hi"`, func(w http.ResponseWriter, r *http.Request) {
			write("hi")(w, r)
			w.(http.Flusher).Flush()
		}},
		"204": {"GET", `204 0 map[] ""`, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "3")
			w.WriteHeader(204)
			if _, err := w.Write([]byte("x")); err != http.ErrBodyNotAllowed {
				t.Errorf("204: %v", err)
			}
		}},
		"304": {"GET", `304 0 map[Etag:["a"]] ""`, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("ETag", `"a"`)
			w.WriteHeader(304)
		}},
		"declared": {"GET", `404 2 map[Content-Length:[2] Content-Type:[a/b]] "hi"`, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "2")
			w.Header().Set("Content-Type", "a/b")
			w.Header().Set("Transfer-Encoding", "chunked")
			w.WriteHeader(404)
			w.WriteHeader(500)
			w.Header().Set("Late", "x")
			write("hi")(w, r)
			if _, err := w.Write([]byte("x")); err != http.ErrContentLength {
				t.Errorf("beyond the declared length: %v", err)
			}
		}},
		"declared, HEAD": {"HEAD", `200 20 map[Content-Length:[20]] ""`, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "20")
		}},
		"encoded, no type": {"GET", `200 1 map[Content-Encoding:[br] Content-Length:[1]] "x"`, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "br")
			write("x")(w, r)
		}},
		"type suppressed": {"GET", `200 1 map[Content-Length:[1]] "x"`, func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Content-Type"] = nil
			write("x")(w, r)
		}},
	} {
		resp, body, err := ask(t, c.method, c.h)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := fmt.Sprintf("%d %d %v %q", resp.StatusCode, resp.ContentLength, resp.Header, body); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, c.want)
		}
	}
}

func write(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, s) }
}

func TestFWD16_LongBodies(t *testing.T) {
	long := strings.Repeat("0123456789", 50000)
	for name, h := range map[string]http.HandlerFunc{
		"one write": write(long),
		"many writes": func(w http.ResponseWriter, r *http.Request) {
			for i := 0; i < len(long); i += 1000 {
				n, err := io.WriteString(w, long[i:i+1000])
				if (n != 1000 || err != nil) && r.Method == "GET" { // HEAD has its answer and closes
					t.Error(n, err)
				}
			}
		},
		"ReadFrom": func(w http.ResponseWriter, r *http.Request) {
			n, err := io.Copy(w, struct{ io.Reader }{strings.NewReader(long)})
			if (n != int64(len(long)) || err != nil) && r.Method == "GET" {
				t.Error(n, err)
			}
		},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			resp, body, err := ask(t, method, h)
			want := long
			if method == "HEAD" {
				want = ""
			}
			if err != nil || body != want || resp.ContentLength != -1 || resp.Header.Get("Content-Type") == "" {
				t.Errorf("%s %s: %d octets, %v, %v", method, name, len(body), err, resp)
			}
		}
	}
}

func TestFWD16_StreamsBothWays(t *testing.T) {
	up, down := io.Pipe()
	echo := local.RoundTripper(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		if err := errors.Join(c.EnableFullDuplex(), c.Flush()); err != nil {
			t.Error(err)
		}
		if err := c.SetReadDeadline(time.Time{}); !errors.Is(err, http.ErrNotSupported) {
			t.Error(err)
		}
		if err := c.SetWriteDeadline(time.Time{}); !errors.Is(err, http.ErrNotSupported) {
			t.Error(err)
		}
		_, _ = io.Copy(w, r.Body)
	}))
	resp, err := echo.RoundTrip(request(t.Context(), "POST", "/", up))
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 3)
	for _, s := range []string{"one", "two"} {
		_, _ = io.WriteString(down, s)
		if _, err := io.ReadFull(resp.Body, b); err != nil || string(b) != s {
			t.Fatalf("%q, %v", b, err)
		}
	}
	_ = down.Close()
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) != 0 {
		t.Fatalf("%q, %v", rest, err)
	}
	_ = resp.Body.Close()
}

func TestFWD16_BoundedAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		written := 0
		var failed error
		resp, err := local.RoundTripper(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for failed == nil {
				var n int
				n, failed = w.Write(make([]byte, 1000))
				written += n
			}
			if r.Context().Err() == nil {
				t.Error("the handler's context goes on")
			}
		})).RoundTrip(request(t.Context(), "GET", "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if written > 32<<10 {
			t.Errorf("%d octets ahead of the reader", written)
		}
		_ = resp.Body.Close()
		synctest.Wait()
		if !errors.Is(failed, io.ErrClosedPipe) {
			t.Errorf("after Close, Write says %v", failed)
		}
		if _, err := resp.Body.Read(make([]byte, 1)); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("after Close, Read says %v", err)
		}
	})
}

func TestSTO20_BrokenOff(t *testing.T) {
	type handler = http.HandlerFunc
	begin := func(w http.ResponseWriter) {
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
	}
	cause := errors.New("cause")
	for name, c := range map[string]struct {
		h     handler
		body  string
		early bool // before the head
		panic any
	}{
		"abort early": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "", true, http.ErrAbortHandler},
		"panic held back": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "half")
			panic(cause)
		}, "", true, cause},
		"abort late": {func(w http.ResponseWriter, _ *http.Request) { begin(w); panic(http.ErrAbortHandler) }, "half", false, http.ErrAbortHandler},
		"panic late": {func(w http.ResponseWriter, _ *http.Request) { begin(w); panic(cause) }, "half", false, cause},
		"goexit":     {func(w http.ResponseWriter, _ *http.Request) { begin(w); runtime.Goexit() }, "half", false, nil},
		"too short": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "5")
			begin(w)
		}, "half", false, nil},
		"empty, declared": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "5") }, "", true, nil},
		"abort when complete": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "4")
			begin(w)
			panic(http.ErrAbortHandler)
		}, "half", false, http.ErrAbortHandler},
	} {
		t.Run(name, func(t *testing.T) {
			resp, body, err := ask(t, "GET", c.h)
			if (resp == nil) != c.early || body != c.body {
				t.Errorf("response %v, body %q", resp, body)
			}
			var e *local.Error
			if !errors.Is(err, io.ErrUnexpectedEOF) || !errors.As(err, &e) {
				t.Fatalf("got %v, want io.ErrUnexpectedEOF", err)
			}
			if e.Panic != c.panic || (e.Stack != nil) != (c.panic == cause) {
				t.Errorf("panic %v, stack %d", e.Panic, len(e.Stack))
			}
			if p, ok := c.panic.(error); ok && !errors.Is(err, p) {
				t.Errorf("%v is not %v", err, p)
			}
			if e.ProxyError() != "http_response_incomplete" || e.Status() != 502 || !e.Unreachable() {
				t.Errorf("%s, %d, %t", e.ProxyError(), e.Status(), e.Unreachable())
			}
		})
	}
}

func TestGO07_Cancel(t *testing.T) {
	cause := errors.New("nobody waits")
	t.Run("before the head", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		_, err := local.RoundTripper(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			cancel(cause)
			<-r.Context().Done()
			panic("a panic then is not the answer")
		})).RoundTrip(request(ctx, "GET", "/", nil))
		if err != cause {
			t.Errorf("got %v, want the cause", err)
		}
	})
	t.Run("after the head", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		writing := make(chan error, 1)
		resp, err := local.RoundTripper(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).Flush()
			for {
				if _, err := w.Write(make([]byte, 1<<10)); err != nil {
					writing <- err
					return
				}
			}
		})).RoundTrip(request(ctx, "GET", "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		cancel(cause)
		if err := <-writing; err != cause {
			t.Errorf("Write says %v", err)
		}
		if _, err := io.ReadAll(resp.Body); err != cause {
			t.Errorf("Read says %v", err)
		}
		_ = resp.Body.Close()
	})
	t.Run("before it began", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		_, err := local.RoundTripper(write("x")).RoundTrip(request(ctx, "GET", "/", strings.NewReader("x")))
		if err != cause {
			t.Errorf("got %v, want the cause", err)
		}
	})
	t.Run("HEAD closed while the handler goes on", func(t *testing.T) {
		ended := make(chan struct{})
		resp, err := local.RoundTripper(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			close(ended)
		})).RoundTrip(request(t.Context(), "HEAD", "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		if n, err := resp.Body.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("%d, %v", n, err)
		}
		_ = resp.Body.Close()
		<-ended
	})
}

func TestFWD15_Trailers(t *testing.T) {
	resp, body, err := ask(t, "GET", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "A, Content-Length")
		w.Header().Set(http.TrailerPrefix+"Early", "set before the head")
		write("x")(w, r)
		w.Header().Set("A", "1")
		w.Header().Set(http.TrailerPrefix+"B", "2")
	})
	if err != nil || body != "x" {
		t.Fatal(body, err)
	}
	if got := fmt.Sprint(resp.Trailer); got != "map[A:[1] B:[2] Early:[set before the head]]" {
		t.Errorf("trailer %s", got)
	}
	if got := fmt.Sprint(resp.Header); got != "map[Content-Type:[text/plain; charset=utf-8]]" || resp.ContentLength != -1 {
		t.Errorf("header %s, length %d", got, resp.ContentLength)
	}
}

func TestINT01_Interims(t *testing.T) {
	var got []string
	ctx := interim.With(t.Context(), func(status int, h http.Header) error {
		got = append(got, fmt.Sprint(status, h))
		return nil
	})
	resp, err := local.RoundTripper(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(100)
		w.Header().Set("Link", "a")
		w.WriteHeader(103)
		w.Header().Set("Link", "b")
		w.WriteHeader(102)
		w.WriteHeader(200)
		w.WriteHeader(103) // too late
	})).RoundTrip(request(ctx, "GET", "/", nil))
	if err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}
	_ = resp.Body.Close()
	if fmt.Sprint(got) != "[103 map[Link:[a]] 102 map[Link:[b]]]" {
		t.Errorf("got %v", got)
	}
}

func TestINT03_Limit(t *testing.T) {
	for n, want := range map[int]int{interim.Max: 200, interim.Max + 1: 0} {
		resp, _, err := ask(t, "GET", func(w http.ResponseWriter, _ *http.Request) {
			for range n {
				w.WriteHeader(103)
			}
		})
		var e *local.Error
		if want == 200 && (err != nil || resp.StatusCode != want) ||
			want == 0 && (!errors.As(err, &e) || e.ProxyError() != "http_protocol_error" || e.Unreachable()) {
			t.Errorf("%d: %v, %v", n, resp, err)
		}
	}
	stop := errors.New("stop")
	ctx := interim.With(t.Context(), func(int, http.Header) error { return stop })
	_, err := local.RoundTripper(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(103)
		if _, err := w.Write([]byte("x")); err != stop {
			t.Errorf("Write says %v", err)
		}
	})).RoundTrip(request(ctx, "GET", "/", nil))
	if err != stop {
		t.Errorf("got %v, want %v", err, stop)
	}
}

func TestFWD14_NoUpgrade(t *testing.T) {
	_, _, err := ask(t, "GET", func(w http.ResponseWriter, _ *http.Request) {
		if _, _, err := http.NewResponseController(w).Hijack(); !errors.Is(err, http.ErrNotSupported) {
			t.Errorf("Hijack: %v", err)
		}
		w.WriteHeader(101)
	})
	var e *local.Error
	if !errors.As(err, &e) || e.Status() != 502 {
		t.Errorf("101: %v", err)
	}
}

func BenchmarkShort(b *testing.B) {
	rt := local.RoundTripper(write("hello"))
	req := request(b.Context(), "GET", "/", nil)
	b.ReportAllocs()
	for b.Loop() {
		resp, err := rt.RoundTrip(req)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
}
