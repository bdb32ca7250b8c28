package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/gateway/gatewaytest"
)

func must(t *testing.T, src *Source, name string, want gateway.Want) gateway.Object {
	t.Helper()
	o, err := src.Open(t.Context(), name, want)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = o.Close() })
	return o
}

func octets(t *testing.T, o gateway.Object, off, n int64) ([]byte, error) {
	t.Helper()
	r, err := o.Range(t.Context(), off, n)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}

func TestOneRequestForWhatIsWanted(t *testing.T) {
	s := serve(t)
	src := s.opened(t)
	all := gatewaytest.Octets(100_000, 1)
	s.put(t, "o", all, time.Time{})
	for _, c := range []struct {
		want       gateway.Want
		off, n     int64
		asked      string // Range of the first request
		sent, more string
	}{
		{gateway.Want{}, 0, 0, "", "HEAD", ""},
		{gateway.Want{}, 5, 10, "", "HEAD", "GET"},
		{gateway.Want{N: -1}, 0, 100_000, "", "GET", ""},
		{gateway.Want{Off: 7, N: -1}, 7, 99_993, "bytes=7-", "GET", ""},
		{gateway.Want{Off: 7, N: 9}, 7, 9, "bytes=7-15", "GET", ""},
		{gateway.Want{Off: 7, N: 9}, 8, 3, "bytes=7-15", "GET", ""},
		{gateway.Want{Off: 7, N: 9}, 8, 9, "bytes=7-15", "GET", "GET"},
		{gateway.Want{Off: 99_999, N: 50}, 99_999, 1, "bytes=99999-100048", "GET", ""},
		{gateway.Want{Off: 7, N: math.MaxInt64}, 7, 99_993, "bytes=7-", "GET", ""},
		{gateway.Want{Off: -10, N: -1}, 99_990, 10, "bytes=-10", "GET", ""},
		{gateway.Want{N: -1}, 99_000, 10, "", "GET", "GET"}, // too far to read up to it
		{gateway.Want{Off: 100_000, N: 1}, 0, 0, "bytes=100000-100000", "GET HEAD", ""},
	} {
		s.requests()
		o := must(t, src, "o", c.want)
		first := s.requests()
		var sent []string
		for _, r := range first {
			sent = append(sent, r.Method)
		}
		if got := first[0].Header.Get("Range"); strings.Join(sent, " ") != c.sent || got != c.asked {
			t.Errorf("%+v: %s with range %q", c.want, sent, got)
		}
		if c.n > 0 {
			if got, err := octets(t, o, c.off, c.n); err != nil || !bytes.Equal(got, all[c.off:c.off+c.n]) {
				t.Errorf("%+v, read %d from %d: %d, %v", c.want, c.n, c.off, len(got), err)
			}
		}
		later := s.requests()
		if c.more == "" && len(later) > 0 || c.more != "" && len(later) != 1 {
			t.Errorf("%+v, read %d from %d: %d requests more", c.want, c.n, c.off, len(later))
		}
		for _, r := range later {
			if r.Header.Get("If-Match") != `"`+o.Info().Version+`"` || r.Header.Get("Range") != fmt.Sprintf("bytes=%d-%d", c.off, c.off+c.n-1) {
				t.Errorf("the later request has %v", r.Header)
			}
		}
	}
}

func TestNamesAreEncodedOnce(t *testing.T) {
	s := serve(t)
	src := s.opened(t, func(o *Options) { o.Prefix = "p r" })
	for name, path := range map[string]string{
		"a?b#c":     "a%3Fb%23c",
		"a%2fb":     "a%252fb",
		"a+b c":     "a%2Bb%20c",
		"é–ü":       "%C3%A9%E2%80%93%C3%BC",
		"a//b":      "a//b",
		"~-_.x":     "~-_.x",
		"a&b=c;d,e": "a%26b%3Dc%3Bd%2Ce",
		"\\..\\x":   "%5C..%5Cx",
		"a:b@c!$'*": "a%3Ab%40c%21%24%27%2A",
	} {
		if _, err := src.Put(t.Context(), name, strings.NewReader(name), int64(len(name)), nil, gateway.If{}); err != nil {
			t.Errorf("Put %q: %v", name, err)
			continue
		}
		o := must(t, src, name, gateway.Want{N: -1})
		if got, err := octets(t, o, 0, o.Info().Size); err != nil || string(got) != name {
			t.Errorf("%q: %q, %v", name, got, err)
		}
		if _, err := s.mem.HeadObject(testBucket, "p r/"+name); err != nil {
			t.Errorf("the server has no key %q", "p r/"+name)
		}
		for _, r := range s.requests() {
			if r.RequestURI != "/larder-test/p%20r/"+path {
				t.Errorf("%q is asked for as %s", name, r.RequestURI)
			}
		}
	}
}

func TestNamesThatAreNoKeysAreNotSent(t *testing.T) {
	s := serve(t)
	src := s.opened(t)
	for _, name := range []string{"", ".", "..", "a/../b", "a/./b", "/a", "a/", "a\x00", "a\r\nb", "\x7f", "\xff", strings.Repeat("n", maxKey+1)} {
		if _, err := src.Open(t.Context(), name, gateway.Want{}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Open %q: %v", name, err)
		}
		if _, err := src.Put(t.Context(), name, strings.NewReader("x"), 1, nil, gateway.If{}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Put %q: %v", name, err)
		}
		if err := src.Delete(t.Context(), name, gateway.If{}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Delete %q: %v", name, err)
		}
		if name == "" {
			continue
		}
		if _, err := src.List(t.Context(), name, 10); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("List %q: %v", name, err)
		}
	}
	if n := len(s.requests()); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestWhatTheClientHasIsNotSentAgain(t *testing.T) {
	s := serve(t)
	src := s.opened(t)
	s.put(t, "o", []byte("octets"), gatewaytest.Past())
	info := must(t, src, "o", gateway.Want{}).Info()
	for _, w := range []gateway.Want{
		{Unless: info.Version},
		{Unless: info.Version, N: -1},
		{Unless: info.Version, Off: 1, N: 2},
		{UnlessSince: info.Modified, N: -1},
		{UnlessSince: info.Modified},
	} {
		s.requests()
		got := must(t, src, "o", w).Info()
		if !got.Unchanged || got.Version != info.Version {
			t.Errorf("%+v: %+v", w, got)
		}
		if n := len(s.requests()); n != 1 {
			t.Errorf("%+v: %d requests", w, n)
		}
	}
	// What is no entity tag is not sent as one.
	if got := must(t, src, "o", gateway.Want{Unless: "a\"\r\nX: y", N: -1}).Info(); got.Unchanged {
		t.Errorf("%+v", got)
	}
}

// reply answers GETs by itself: with a status, fields in pairs, and octets.
func reply(status int, body []byte, fields ...string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet {
			return false
		}
		for i := 0; i < len(fields); i += 2 {
			w.Header().Set(fields[i], fields[i+1])
		}
		w.WriteHeader(status)
		_, _ = w.Write(body)
		return true
	}
}

func TestFieldsAreThoseStored(t *testing.T) {
	s := serve(t)
	unpacks := &http.Transport{} // where the server packed because it was asked to
	t.Cleanup(unpacks.CloseIdleConnections)
	src := s.opened(t, func(o *Options) { o.Transport = unpacks })
	packed := []byte("\x1f\x8b no gzip, and nobody should look")
	s.intercept(reply(200, packed, "ETag", `"e"`, "Content-Type", "text/css", "Content-Encoding", "gzip", "Content-Language", "de",
		"Content-Disposition", "inline", "Cache-Control", "max-age=5", "X-Amz-Meta-Secret", "x", "Server", "S3"))
	o := must(t, src, "o", gateway.Want{N: -1})
	if f := o.Info().Fields; len(f) != 5 || f.Get("Content-Type") != "text/css" || f.Get("Content-Encoding") != "gzip" || f.Get("Content-Language") != "de" ||
		f.Get("Content-Disposition") != "inline" || f.Get("Cache-Control") != "max-age=5" {
		t.Errorf("%v", f)
	}
	if got, err := octets(t, o, 0, int64(len(packed))); err != nil || !bytes.Equal(got, packed) {
		t.Errorf("%q, %v", got, err)
	}
	if h := s.requests()[0].Header; h.Get("Accept-Encoding") != "identity" {
		t.Errorf("%v", h)
	}
	s.intercept(reply(200, nil, "ETag", `"e"`, "Content-Type", "binary/octet-stream"))
	if f := must(t, src, "o", gateway.Want{N: -1}).Info().Fields; f != nil {
		t.Errorf("%v, which nobody stored", f)
	}
}

// hostile answers that must not become octets.
func TestWrongAnswersAreErrors(t *testing.T) {
	s := serve(t)
	src := s.opened(t)
	all := gatewaytest.Octets(1000, 1)
	s.put(t, "o", all, gatewaytest.Past())
	opened := must(t, src, "o", gateway.Want{})
	tag := `"` + opened.Info().Version + `"`
	part := all[100:200]
	for name, answer := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"other range":        reply(206, part, "ETag", tag, "Content-Range", "bytes 0-99/1000"),
		"shorter range":      reply(206, part[:50], "ETag", tag, "Content-Range", "bytes 100-149/1000"),
		"longer range":       reply(206, all[100:300], "ETag", tag, "Content-Range", "bytes 100-299/1000"),
		"no range":           reply(206, part, "ETag", tag),
		"range of another":   reply(206, part, "ETag", tag, "Content-Range", "bytes 100-199/99"),
		"range without size": reply(206, part, "ETag", tag, "Content-Range", "bytes 100-199/*"),
		"range upside down":  reply(206, part, "ETag", tag, "Content-Range", "bytes 199-100/1000"),
		"range with signs":   reply(206, part, "ETag", tag, "Content-Range", "bytes +100-+199/+1000"),
		"huge range":         reply(206, part, "ETag", tag, "Content-Range", "bytes 100-99999999999999999999/1000"),
		"more than it says":  reply(206, all[100:250], "ETag", tag, "Content-Range", "bytes 100-199/1000"),
		"more, no length": func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("ETag", tag)
			w.Header().Set("Content-Range", "bytes 100-199/1000")
			w.WriteHeader(http.StatusPartialContent)
			_ = http.NewResponseController(w).Flush()
			_, _ = w.Write(all)
			return true
		},
		"range and length":     reply(206, part[:99], "ETag", tag, "Content-Range", "bytes 100-199/1000"),
		"several ranges":       reply(206, part, "ETag", tag, "Content-Type", "multipart/byteranges; boundary=x"),
		"no octets":            reply(204, nil, "ETag", tag),
		"redirect":             reply(307, nil, "Location", s.URL+"/larder-test/secret"),
		"unasked 304":          reply(304, nil, "ETag", tag),
		"short body":           reply(206, part[:40], "ETag", tag, "Content-Range", "bytes 100-199/1000", "Content-Length", "100"),
		"garbage":              func(w http.ResponseWriter, _ *http.Request) bool { return raw(w, "\x00\x01SMTP ready\r\n\r\n") },
		"hung up":              func(w http.ResponseWriter, _ *http.Request) bool { return raw(w, "") },
		"hung up after status": func(w http.ResponseWriter, _ *http.Request) bool { return raw(w, "HTTP/1.1 206 Partial") },
	} {
		s.intercept(answer)
		if got, err := octets(t, opened, 100, 100); err == nil {
			t.Errorf("%s: Range gives %d octets", name, len(got))
		}
		o, err := src.Open(t.Context(), "o", gateway.Want{Off: 100, N: 100})
		if err != nil {
			continue
		}
		got, err := octets(t, o, 100, 100)
		if err == nil {
			t.Errorf("%s: Open and Range give %d octets", name, len(got))
		}
		_ = o.Close()
	}

	// It may be the same version, so that to open the object again would not help.
	s.intercept(reply(206, part, "Content-Range", "bytes 100-199/1000"))
	if got, err := octets(t, opened, 100, 100); err == nil || errors.Is(err, gateway.ErrChanged) {
		t.Errorf("no tag: %d octets, %v", len(got), err)
	}

	// All of it, where a part was asked for: not wrong, and only its beginning is used.
	s.intercept(reply(200, all, "ETag", tag))
	if got, err := octets(t, opened, 0, 100); err != nil || !bytes.Equal(got, all[:100]) {
		t.Errorf("200 for the beginning: %d, %v", len(got), err)
	}
	if got, err := octets(t, opened, 100, 100); err == nil {
		t.Errorf("200 for a part: %d octets", len(got))
	}
	o := must(t, src, "o", gateway.Want{Off: 100, N: 100})
	if got, err := octets(t, o, 100, 100); err != nil || !bytes.Equal(got, part) {
		t.Errorf("200 at first: %d, %v", len(got), err)
	}

	// If-Match is ignored.
	for name, answer := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"other tag":  reply(206, part, "ETag", `"other"`, "Content-Range", "bytes 100-199/1000"),
		"weak tag":   reply(206, part, "ETag", "W/"+tag, "Content-Range", "bytes 100-199/1000"),
		"other size": reply(206, part, "ETag", tag, "Content-Range", "bytes 100-199/2000"),
		"smaller":    reply(416, nil),
		"all of it":  reply(200, all, "ETag", `"other"`),
	} {
		s.intercept(answer)
		if got, err := octets(t, opened, 100, 100); !errors.Is(err, gateway.ErrChanged) {
			t.Errorf("%s: %d octets, %v", name, len(got), err)
		}
	}
}

// raw answers with octets that net/http would not.
func raw(w http.ResponseWriter, text string) bool {
	c, buf, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	_, _ = buf.WriteString(text)
	_ = buf.Flush()
	_ = c.Close()
	return true
}

func TestWithoutAnEntityTagTheTimeIsTheVersion(t *testing.T) {
	s := serve(t)
	now := gatewaytest.Past().Add(time.Hour)
	src := s.opened(t, func(o *Options) { o.Now = func() time.Time { return now } })
	all := gatewaytest.Octets(1000, 1)
	at := gatewaytest.Past().Format(http.TimeFormat)
	for _, tag := range []string{"", `W/"weak"`, "unquoted", `""`, "\"\xe9\""} {
		s.intercept(reply(200, all, "ETag", tag, "Last-Modified", at))
		o := must(t, src, "o", gateway.Want{N: -1})
		want, _ := gateway.ByTime(1000, gatewaytest.Past(), now, gateway.Grain)
		if i := o.Info(); i.Version != want || !i.Certain {
			t.Errorf("%q: %+v", tag, i)
		}
		s.intercept(reply(206, all[:10], "Content-Range", "bytes 0-9/1000", "Last-Modified", at))
		if got, err := octets(t, o, 990, 10); err != nil || !bytes.Equal(got, all[990:]) { // of the first answer
			t.Errorf("%q: %d, %v", tag, len(got), err)
		}
		if got, err := octets(t, o, 0, 10); err != nil || !bytes.Equal(got, all[:10]) {
			t.Errorf("%q: %d, %v", tag, len(got), err)
		}
		s.intercept(reply(206, all[:10], "Content-Range", "bytes 0-9/1000", "Last-Modified", now.Format(http.TimeFormat)))
		if _, err := octets(t, o, 0, 10); !errors.Is(err, gateway.ErrChanged) {
			t.Errorf("%q: %v", tag, err)
		}
	}
	s.intercept(reply(200, all, "Last-Modified", now.Add(-time.Second).Format(http.TimeFormat)))
	if i := must(t, src, "o", gateway.Want{N: -1}).Info(); i.Version == "" || i.Certain {
		t.Errorf("one second old: %+v", i)
	}
	s.intercept(reply(200, all))
	o := must(t, src, "o", gateway.Want{N: -1})
	if got, err := octets(t, o, 0, 500); err != nil || len(got) != 500 || o.Info().Version != "" {
		t.Errorf("first answer: %d, %v", len(got), err)
	}
	if _, err := octets(t, o, 0, 500); err == nil {
		t.Error("two answers of nobody knows which versions")
	}
}

func TestTheEndOfAHugeObjectIsOneSmallAnswer(t *testing.T) {
	s := serve(t)
	src := s.opened(t)
	const size = 5 << 40
	end := gatewaytest.Octets(1<<20, 9)
	s.intercept(reply(206, end, "ETag", `"huge"`, "Content-Range", fmt.Sprintf("bytes %d-%d/%d", size-len(end), size-1, int64(size))))
	o := must(t, src, "huge", gateway.Want{Off: -1 << 20, N: -1})
	if got, err := octets(t, o, size-1<<20, 1<<20); err != nil || !bytes.Equal(got, end) || o.Info().Size != size {
		t.Errorf("%d octets of %d, %v", len(got), o.Info().Size, err)
	}
	if m := s.methods(); m != "GET" {
		t.Errorf("requests: %s", m)
	}
}

func TestConnectionsAreUsedAgainUnlessHalfRead(t *testing.T) {
	s := serve(t)
	var opened atomic.Int64
	src := s.opened(t, func(o *Options) {
		o.Transport = counting(t, &opened)
	})
	s.put(t, "o", gatewaytest.Octets(8<<20, 1), time.Time{})
	for range 3 {
		if _, err := octets(t, must(t, src, "o", gateway.Want{N: 1000}), 0, 1000); err != nil {
			t.Fatal(err)
		}
		if _, err := src.Open(t.Context(), "none", gateway.Want{N: -1}); !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if _, err := src.List(t.Context(), "", 10); err != nil {
			t.Fatal(err)
		}
	}
	if n := opened.Load(); n != 1 {
		t.Errorf("%d connections for nine requests in turn", n)
	}
	o := must(t, src, "o", gateway.Want{N: -1})
	_ = o.Close() // 8 MiB on their way
	if _, err := octets(t, must(t, src, "o", gateway.Want{N: 1000}), 0, 1000); err != nil {
		t.Fatal(err)
	}
	if n := opened.Load(); n != 2 {
		t.Errorf("%d connections after one was left half-read", n)
	}
}

// counting is a pool that counts what it opens.
func counting(t *testing.T, n *atomic.Int64) *http.Transport {
	p := pool()
	dial := p.DialContext
	p.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		n.Add(1)
		return dial(ctx, network, addr)
	}
	t.Cleanup(p.CloseIdleConnections)
	return p
}

func TestTheEndOfAContextEndsEverything(t *testing.T) {
	s := serve(t)
	src := s.opened(t)
	all := gatewaytest.Octets(4<<20, 1)
	s.put(t, "o", all, time.Time{})
	came := make(chan struct{}, 1)
	s.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		came <- struct{}{}
		_, _ = io.Copy(io.Discard, r.Body) // net/http notices that a client went only behind the body
		<-r.Context().Done()
		return true
	})
	for name, f := range map[string]func(context.Context) error{
		"Open":   func(ctx context.Context) error { _, err := src.Open(ctx, "o", gateway.Want{N: -1}); return err },
		"Head":   func(ctx context.Context) error { _, err := src.Open(ctx, "o", gateway.Want{}); return err },
		"List":   func(ctx context.Context) error { _, err := src.List(ctx, "", 1); return err },
		"Delete": func(ctx context.Context) error { return src.Delete(ctx, "o", gateway.If{}) },
		"Put": func(ctx context.Context) error {
			_, err := src.Put(ctx, "p", bytes.NewReader(all), int64(len(all)), nil, gateway.If{})
			return err
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-came; cancel() }()
		if err := f(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, gateway.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
	}

	// In the middle of the octets, of a first answer and of a later one.
	s.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("ETag", `"e"`)
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write(make([]byte, 10))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		return true
	})
	o := must(t, src, "o", gateway.Want{N: -1})
	for _, which := range []string{"first", "later"} {
		ctx, cancel := context.WithCancel(t.Context())
		r, err := o.Range(ctx, 0, 1000)
		if err != nil {
			t.Fatal(which, err)
		}
		if _, err := io.ReadFull(r, make([]byte, 10)); err != nil {
			t.Fatal(which, err)
		}
		cancel()
		if _, err := r.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) || errors.Is(err, gateway.ErrUnavailable) {
			t.Errorf("%s: %v", which, err)
		}
		_ = r.Close()
	}
}

// TestA304OfSomethingElseIsNotBelieved checks that it is asked again without the
// condition.
func TestA304OfSomethingElseIsNotBelieved(t *testing.T) {
	s := serve(t)
	src := s.opened(t)
	s.put(t, "o", []byte("octets"), gatewaytest.Past())
	s.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("If-None-Match") == "" && r.Header.Get("If-Modified-Since") == "" {
			return false
		}
		w.Header().Set("ETag", `"new"`)
		w.Header().Set("Last-Modified", gatewaytest.Past().Format(http.TimeFormat))
		w.WriteHeader(http.StatusNotModified)
		return true
	})
	for _, n := range []int64{0, -1} {
		for _, want := range []gateway.Want{{N: n, Unless: "old"}, {N: n, UnlessSince: gatewaytest.Past().Add(-time.Hour)}} {
			if i := must(t, src, "o", want).Info(); i.Unchanged || i.Size != 6 {
				t.Errorf("%+v: %+v", want, i)
			}
		}
		if i := must(t, src, "o", gateway.Want{N: n, Unless: "new"}).Info(); !i.Unchanged {
			t.Errorf("as the client has it: %+v", i)
		}
	}
}
