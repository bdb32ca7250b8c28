package h2

import (
	"context"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/http2"
)

// plays answers as the number in the path says, at random.
func plays(w http.ResponseWriter, r *http.Request) {
	seed, err := strconv.ParseUint(r.URL.Path[1:], 10, 64)
	if err != nil {
		panic(err)
	}
	rng := rand.New(rand.NewPCG(seed, 7))
	h := w.Header()
	h["Content-Type"] = []string{"text/x-script"}
	left := -1 // octets of a declared length
	trailers := false
	switch rng.IntN(8) {
	case 0:
		h.Set("Trailer", "X-Sum, X-Never")
		trailers = true
	case 1:
		left = rng.IntN(40_000)
		h.Set("Content-Length", strconv.Itoa(left))
	case 2:
		h.Add("X-Odd", "a\tb")
		h.Add("X-Odd", "")
		h.Set("Connection", "keep-alive")
		h.Set("Transfer-Encoding", "chunked")
	}
	bodiless, deaf := r.Method == http.MethodHead, false
	for range rng.IntN(12) {
		switch rng.IntN(13) {
		case 0, 1, 2, 3:
			n := []int{0, 1, 9, 100, 4095, 4096, 4097, 16383, 16384, 16385, 30_000, 70_000}[rng.IntN(12)]
			if left >= 0 {
				n = min(n, left)
				left -= n
			}
			_, _ = io.WriteString(w, text(n))
		case 4:
			w.(http.Flusher).Flush()
		case 5:
			if left < 0 {
				w.WriteHeader([]int{200, 203, 204, 304, 404, 503}[rng.IntN(6)])
				deaf = true // Go's client sends no more after some of these
			} else {
				w.WriteHeader(201)
			}
		case 6:
			h.Add("X-Late", "1") // counts only before the status
		case 7:
			if deaf {
				continue
			}
			_, _ = io.CopyN(io.Discard, r.Body, int64(rng.IntN(100_000)))
		case 8:
			if deaf {
				continue
			}
			_, _ = io.Copy(io.Discard, r.Body)
		case 9:
			h.Set("Link", "</x>")
			w.WriteHeader([]int{102, 103, 110}[rng.IntN(3)])
		case 10:
			if rng.IntN(6) == 0 && !bodiless { // whose head may be out or not
				panic(http.ErrAbortHandler)
			}
		case 11:
			if rng.IntN(3) == 0 {
				return
			}
		case 12:
			_ = r.Body.Close()
		}
	}
	if trailers {
		h.Set("X-Sum", "1")
	}
	if !bodiless && rng.IntN(5) == 0 {
		h.Set(http.TrailerPrefix+"X-More", "2")
	}
	if left > 0 && rng.IntN(3) > 0 {
		_, _ = io.WriteString(w, text(left))
	}
}

// A result is what a client makes of an answer.
type result struct {
	interim string
	status  int
	fields  string
	body    string
	trailer string
	failed  bool
}

// play asks for a script. Fields that a server adds by itself are left out: Date, and the
// length of what it happened to have whole.
func play(t *testing.T, c *http.Client, addr string, seed uint64) (res result) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 8))
	method, body := []string{"GET", "HEAD", "POST", "POST"}[rng.IntN(4)], io.Reader(nil)
	if method == "POST" {
		body = strings.NewReader(text(rng.IntN(300_000)))
		if rng.IntN(2) == 0 {
			body = io.MultiReader(body) // of no known length
		}
	}
	var interim []int
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
		interim = append(interim, code)
		return nil
	}})
	r, err := http.NewRequestWithContext(ctx, method, "http://"+addr+"/"+strconv.FormatUint(seed, 10), body)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := c.Do(r)
	if err != nil {
		return result{failed: true}
	}
	defer answer.Body.Close()
	all, err := io.ReadAll(answer.Body)
	if err != nil {
		return result{failed: true} // how much came before depends on what was buffered where
	}
	if method != http.MethodHead && answer.ContentLength > int64(len(all)) {
		return result{failed: true} // Go's client does not mind if there is no octet at all
	}
	answer.Header.Del("Date")
	if answer.StatusCode != 201 {
		answer.Header.Del("Content-Length")
	}
	return result{fmt.Sprint(interim), answer.StatusCode, fmt.Sprint(answer.Header), string(all), fmt.Sprint(answer.Trailer), false}
}

// serveLoopback serves by o at an address.
func serveLoopback(t testing.TB, o Options) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(o)
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go s.Serve(nc, nil)
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		if err := s.Drain(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func clear2(t testing.TB) *http.Client {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: p, DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// Handlers find the ResponseWriter that they know from net/http.
func TestAsNetHTTP(t *testing.T) {
	addr := serveLoopback(t, options(plays))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	reference := &http.Server{Handler: http.HandlerFunc(plays), Protocols: p, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = reference.Serve(l) }()
	defer reference.Close()
	one, other := clear2(t), clear2(t)
	const scripts = 2000
	seen := make(map[string]int)
	for seed := range uint64(scripts) {
		got, want := play(t, one, addr, seed), play(t, other, l.Addr().String(), seed)
		if got != want {
			got.body, want.body = fmt.Sprintf("%d octets", len(got.body)), fmt.Sprintf("%d octets", len(want.body))
			t.Errorf("script %d:\n%+v\nnet/http:\n%+v", seed, got, want)
		}
		seen[fmt.Sprintf("%v %d", got.failed, got.status)]++
	}
	if len(seen) < 8 {
		t.Errorf("the scripts had only these ends: %v", seen)
	}
}

// What a Handler says of the length is heeded, or not passed on.
func TestAnswerLength(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		length []string
		writes []int
		want   []string
		whole  bool
	}{
		"none":       {200, nil, []int{5}, []string{"5"}, true},
		"right":      {200, []string{"5"}, []int{5}, []string{"5"}, true},
		"too few":    {200, []string{"5"}, []int{4}, nil, false},
		"too many":   {200, []string{"5"}, []int{4, 2}, nil, false},
		"then right": {200, []string{"5"}, []int{4, 2, 1}, []string{"5"}, true},
		"no number":  {200, []string{"x"}, []int{5}, []string{"5"}, true},
		"two":        {200, []string{"5", "5"}, []int{5}, []string{"5"}, true},
		"with 204":   {204, []string{"5"}, nil, nil, true},
		"with 304":   {304, []string{"5"}, nil, []string{"5"}, true},
	} {
		c := dial(t, options(func(w http.ResponseWriter, _ *http.Request) {
			if test.length != nil {
				w.Header()["Content-Length"] = test.length
			}
			w.WriteHeader(103)
			w.WriteHeader(test.status)
			for _, n := range test.writes {
				_, _ = io.WriteString(w, text(n))
			}
		}))
		c.get(1, "/")
		a := c.answer(1)
		if a.whole != test.whole || test.whole && fmt.Sprint(a.fields["Content-Length"]) != fmt.Sprint(test.want) {
			t.Errorf("%s: whole %v, Content-Length %q", name, a.whole, a.fields["Content-Length"])
		}
	}
}

// An interim response has no length (RFC 9110 §8.6), and no field that a Handler sets can be
// more than a field.
func TestAnswerFields(t *testing.T) {
	c := begin(t, options(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h["Content-Length"] = []string{"2"}
		h[":status"] = []string{"299"}
		h["x y"], h[""], h["a\r\nb"] = []string{"1"}, []string{"2"}, []string{"3"}
		h["connection"], h["X-Low"] = []string{"close"}, []string{"a\r\nSet-Cookie: b\x00\x01\x7fc "}
		h["Trailer"] = []string{"Content-Length, X-Sum"}
		h[http.TrailerPrefix+":status"] = []string{"1"}
		w.WriteHeader(103)
		_, _ = w.Write([]byte("ok"))
		h["X-Sum"] = []string{"3"}
	}))
	var heads []map[string]string
	c.fr.ReadMetaHeaders = nil // which refuses what it does not like
	c.raw([]byte(Preface))
	c.must(c.fr.WriteSettings())
	c.get(1, "/")
	d := wide()
	whole := false
	for !whole {
		e, more := c.nextRaw()
		if !more {
			t.Fatal("the connection ended")
		}
		if e.Type == http2.FrameHeaders {
			if err := d.decode(e.data); err != nil {
				t.Fatal(err)
			}
			m := make(map[string]string)
			for _, f := range d.fields() {
				m[f.Name] += f.Value
			}
			delete(m, "date")
			heads = append(heads, m)
			whole = e.StreamEnded()
		}
	}
	low := "a  Set-Cookie: b   c"
	want := []map[string]string{
		{":status": "103", "x-low": low, "trailer": "Content-Length, X-Sum"},
		{":status": "200", "x-low": low, "trailer": "Content-Length, X-Sum", "content-length": "2"},
		{"x-sum": "3"},
	}
	if fmt.Sprint(heads) != fmt.Sprint(want) {
		t.Errorf("%q\nwant %q", heads, want)
	}
}

// nextRaw is next, and looks at nothing.
func (c *client) nextRaw() (event, bool) {
	e, ok := <-c.came
	return e, ok && e.fault == nil
}

// A Handler that panics ends its stream, and no other.
func TestPanic(t *testing.T) {
	c := dial(t, options(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/panic" {
			_, _ = io.WriteString(w, "half")
			panic("on purpose")
		}
	}))
	c.get(1, "/panic")
	c.get(3, "/")
	c.answer(1).wasReset(t, http2.ErrCodeInternal)
	c.answer(3).wants(t, 200, "")
}

// Requests that none are end their stream (RFC 9113 §8.1.1), and no Handler hears of them.
func TestMalformed(t *testing.T) {
	good := []string{":method", "GET", ":scheme", "https", ":authority", "h.example:8443", ":path", "/a?b"}
	without := func(name string, more ...string) []string {
		var lines []string
		for i := 0; i < len(good); i += 2 {
			if good[i] != name {
				lines = append(lines, good[i], good[i+1])
			}
		}
		return append(lines, more...)
	}
	with := func(lines ...string) []string { return append(without("", nil...), lines...) }
	for name, lines := range map[string][]string{
		"no method":            without(":method"),
		"no scheme":            without(":scheme"),
		"no path":              without(":path"),
		"no authority":         without(":authority"),
		"empty path":           without(":path", ":path", ""),
		"path of no slash":     without(":path", ":path", "a"),
		"path with a blank":    without(":path", ":path", "/a b"),
		"path with a CR":       without(":path", ":path", "/a\rb"),
		"path with a fragment": without(":path", ":path", "/#"),
		"method with a blank":  without(":method", ":method", "GET /"),
		"userinfo":             without(":authority", ":authority", "u@h.example"),
		"authority and path":   without(":authority", ":authority", "h.example/x"),
		"authority and blank":  without(":authority", ":authority", "h. example"),
		"ftp":                  without(":scheme", ":scheme", "ftp"),
		"two paths":            with(":path", "/b"),
		"unknown pseudo":       with(":version", "2"),
		"protocol":             with(":protocol", "websocket"),
		"status":               with(":status", "200"),
		"pseudo after field":   append([]string{"a", "b"}, good...),
		"pseudo after host":    append([]string{"host", "h.example:8443"}, good...),
		"pseudo after cookie":  append([]string{"cookie", ""}, good...),
		"other host":           with("host", "other.example"),
		"two hosts":            with("host", "h.example:8443", "host", "h.example:8443"),
		"capitals":             with("Name", "v"),
		"colon":                with("a:b", "v"),
		"blank in a name":      with("a b", "v"),
		"empty name":           with("", "v"),
		"LF in a value":        with("a", "b\nc: d"),
		"NUL in a value":       with("a", "b\x00"),
		"blank before a path":  without(":path", ":path", " /a"),
		"connection":           with("connection", "close"),
		"transfer-encoding":    with("transfer-encoding", "chunked"),
		"upgrade":              with("upgrade", "h2c"),
		"te":                   with("te", "gzip"),
		"length +1":            with("content-length", "+1"),
		"length 00":            with("content-length", "00"),
		"length empty":         with("content-length", ""),
		"length of 20 digits":  with("content-length", "99999999999999999999"),
		"two lengths":          with("content-length", "0", "content-length", "0"),
		"tunnel with a path":   without(":method", ":method", "CONNECT"),
	} {
		c := dial(t, options(func(http.ResponseWriter, *http.Request) { t.Errorf("%s: it was handled", name) }))
		c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.head(lines...), EndHeaders: true, EndStream: true}))
		if a := c.answer(1); !a.reset || a.code != http2.ErrCodeProtocol {
			t.Errorf("%s: reset %v with %v, status %d", name, a.reset, a.code, a.status)
		}
	}
}

// What a Handler sees of a request is what net/http would show it.
func TestRequest(t *testing.T) {
	var got *http.Request
	c := dial(t, options(func(_ http.ResponseWriter, r *http.Request) { got = r }))
	c.ask(1, true, "GET", "/a%20b?c", "cookie", "a=b", "x", "1", "cookie", "c=d", "x", "2", "te", "trailers", "host", "H.example", "x-sent-twice", "")
	c.answer(1)
	want := http.Header{"Cookie": {"a=b; c=d"}, "X": {"1", "2"}, "Te": {"trailers"}, "X-Sent-Twice": {""}}
	if fmt.Sprint(got.Header) != fmt.Sprint(want) || got.Host != "h.example" || got.RequestURI != "/a%20b?c" || got.URL.Path != "/a b" || got.ContentLength != 0 || got.Body != http.NoBody || got.Proto != "HTTP/2.0" {
		t.Errorf("%+v", got)
	}
	c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: c.head(":method", "CONNECT", ":authority", "h.example:1"), EndHeaders: true}))
	c.answer(3)
	if got.Method != "CONNECT" || got.Host != "h.example:1" || got.URL.Host != "h.example:1" || got.ContentLength != -1 {
		t.Errorf("%+v", got)
	}
	c.ask(5, true, "OPTIONS", "*")
	c.answer(5)
	if got.RequestURI != "*" || got.URL.Path != "*" {
		t.Errorf("%+v", got)
	}
}
