package front

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// both runs the tests without loops, and then with them.
type both struct{ *testing.M }

func (m both) Run() int {
	code := m.M.Run()
	for _, once := range []string{"test.list", "test.fuzz", "test.bench"} {
		if flag.Lookup(once).Value.String() != "" {
			return code
		}
	}
	byLoops = true
	return max(code, m.M.Run())
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(both{m}) }

// crlf makes of line ends those of HTTP.
func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

const last = "GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"

// seen is what a handler got of a request.
func seen(r *http.Request) string {
	b, err := io.ReadAll(r.Body)
	s := fmt.Sprintf("%s %s %q", r.Method, r.RequestURI, b)
	if lines, ok := r.Header["Cache-Control"]; ok {
		s += fmt.Sprintf(" cc=%q", lines)
	}
	if err != nil {
		s += " broken"
	}
	return s
}

// Requests come through whole, wherever the network cuts them, and no
// Cache-Control is there that the client did not send (CCP-19, GO-05).
var sound = []struct {
	name, octets string
	want         []string
}{
	{
		"pragma alone", crlf("GET / HTTP/1.1\nHost: h\nPragma: no-cache\n\n"),
		[]string{`GET / ""`},
	},
	{
		"pragma with Cache-Control", crlf("GET / HTTP/1.1\nHost: h\nPragma: no-cache\nCache-Control: no-cache\n\n"),
		[]string{`GET / "" cc=["no-cache"]`},
	},
	{
		"other order, other case", crlf("GET / HTTP/1.1\ncache-CONTROL: max-age=0\npragma:no-cache\nHost: h\n\n"),
		[]string{`GET / "" cc=["max-age=0"]`},
	},
	{
		"an empty Cache-Control is one", crlf("GET / HTTP/1.1\nHost: h\nPragma: no-cache\nCache-Control:\n\n"),
		[]string{`GET / "" cc=[""]`},
	},
	{
		"each request for itself", crlf("GET /1 HTTP/1.1\nHost: h\nPragma: no-cache\n\n" +
			"GET /2 HTTP/1.1\nHost: h\nPragma: no-cache\nCache-Control: no-cache\n\n" +
			"GET /3 HTTP/1.1\nHost: h\n\n" +
			"GET /4 HTTP/1.1\nHost: h\nPragma: no-cache\n\n"),
		[]string{`GET /1 ""`, `GET /2 "" cc=["no-cache"]`, `GET /3 ""`, `GET /4 ""`},
	},
	{
		"a body that looks like a head", crlf("POST /1 HTTP/1.1\nHost: h\nPragma: no-cache\nContent-Length: 25\n\n") +
			"Cache-Control: no-cache\n\n" + crlf("GET /2 HTTP/1.1\nHost: h\nPragma: no-cache\n\n"),
		[]string{`POST /1 "Cache-Control: no-cache\n\n"`, `GET /2 ""`},
	},
	{
		"chunks that look like heads", crlf("POST /1 HTTP/1.1\nHost: h\nTransfer-Encoding: Chunked\n\n" +
			"1B;name=\"value\"\nCache-Control: no-cache\n\n\n02\n\n\n0\nCache-Control: no-cache\n\n" +
			"GET /2 HTTP/1.1\nHost: h\nPragma: no-cache\n\n"),
		[]string{`POST /1 "Cache-Control: no-cache\r\n\r\n\r\n"`, `GET /2 ""`},
	},
	{
		"an empty line before a request", crlf("\nGET /1 HTTP/1.1\nHost: h\n\n\nGET /2 HTTP/1.1\nHost: h\n\n"),
		[]string{`GET /1 ""`, `GET /2 ""`},
	},
	{
		"an empty line after a body", crlf("POST /1 HTTP/1.1\nHost: h\nContent-Length: 2\n\nab\nGET /2 HTTP/1.1\nHost: h\n\n"),
		[]string{`POST /1 "ab"`, `GET /2 ""`},
	},
	{
		"a length of nothing", crlf("POST /1 HTTP/1.1\nHost: h\nContent-Length: 0\n\n"),
		[]string{`POST /1 ""`},
	},
	{
		"OPTIONS *", crlf("OPTIONS * HTTP/1.1\nHost: h\n\n"),
		[]string{`OPTIONS * ""`},
	},
}

func TestSoundRequests(t *testing.T) {
	for _, test := range sound {
		t.Run(test.name, func(t *testing.T) {
			octets := test.octets + last
			want := append(slices.Clone(test.want), `GET /last ""`)
			for _, pieces := range []int{1, 2, 3, 7, 4096, len(octets)} {
				check(t, pieces, octets, want)
			}
			for cut := 1; cut < len(octets); cut++ {
				checkCut(t, cut, octets, want)
			}
		})
	}
}

// recorder is a handler that remembers.
type recorder struct {
	mu  sync.Mutex
	got []string
}

func (rec *recorder) ServeHTTP(_ http.ResponseWriter, r *http.Request) { rec.note(r) }

// note remembers r, and returns what seen says of it.
func (rec *recorder) note(r *http.Request) string {
	s := seen(r)
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.got = append(rec.got, s)
	return s
}

// all returns what was asked so far.
func (rec *recorder) all() []string {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return slices.Clone(rec.got)
}

func check(t *testing.T, pieces int, octets string, want []string) {
	t.Helper()
	var rec recorder
	w := serve(rec.ServeHTTP, Limits{}, nil)
	defer w.end(t)
	answers := say(t, w.dial(), pieces, octets)
	if !slices.Equal(rec.all(), want) || len(answers) != len(want) {
		t.Errorf("in pieces of %d: %d answers, requests\n%q, want\n%q", pieces, len(answers), rec.all(), want)
	}
}

func checkCut(t *testing.T, cut int, octets string, want []string) {
	t.Helper()
	var rec recorder
	w := serve(rec.ServeHTTP, Limits{}, nil)
	defer w.end(t)
	c := w.dial()
	var first sync.WaitGroup
	first.Go(func() {
		if _, err := io.WriteString(c, octets[:cut]); err == nil {
			_, _ = io.WriteString(c, octets[cut:]) // what arrives is checked
		}
	})
	answers := hear(t, c)
	c.Close()
	first.Wait()
	if !slices.Equal(rec.all(), want) || len(answers) != len(want) {
		t.Errorf("cut at %d: %d answers, requests\n%q, want\n%q", cut, len(answers), rec.all(), want)
	}
}

// What is no HTTP gets its status in its turn and ends the connection, and
// nothing after it is taken for a request.
var unsound = []struct {
	name, octets string
	status       int
	why          string // part of what the front says; empty: net/http refused
}{
	{"MSG-01 length and chunked", "POST / HTTP/1.1\nHost: h\nContent-Length: 5\nTransfer-Encoding: chunked\n\n0\n\n", 400, "Content-Length with"},
	{"MSG-01 other order", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\nContent-Length: 5\n\n0\n\n", 400, "Content-Length with"},
	{"MSG-02 chunked in HTTP/1.0", "POST / HTTP/1.0\nTransfer-Encoding: chunked\n\n0\n\n", 400, "HTTP/1.0"},
	{"MSG-02 kept alive", "POST / HTTP/1.0\nConnection: keep-alive\nTransfer-Encoding: chunked\n\n0\n\n", 400, "HTTP/1.0"},
	{"MSG-03 chunked not last", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked, gzip\n\n0\n\n", 400, "does not end in chunked"},
	{"MSG-03 identity", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: identity\n\n", 400, "does not end in chunked"},
	{"MSG-03 unknown coding", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: gzip, chunked\n\n0\n\n", 501, ""},
	{"MSG-04 chunked twice", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked, chunked\n\n0\n\n", 400, "twice"},
	{"MSG-04 chunked on two lines", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\nTransfer-Encoding: chunked\n\n0\n\n", 400, "twice"},
	{"MSG-04 parameters", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked;a=b\n\n0\n\n", 400, "does not end in chunked"},
	{"RS-03 empty member", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: ,chunked\n\n0\n\n", 400, "empty member"},
	{"RS-03 vertical tab", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: \x0bchunked\n\n0\n\n", 400, "does not end in chunked"},
	{"RS-03 empty", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding:\n\n0\n\n", 400, "does not end in chunked"},
	{"MSG-05 sign", "POST / HTTP/1.1\nHost: h\nContent-Length: +1\n\na", 400, "no plain number"},
	{"MSG-05 negative", "POST / HTTP/1.1\nHost: h\nContent-Length: -1\n\na", 400, "no plain number"},
	{"MSG-05 hexadecimal", "POST / HTTP/1.1\nHost: h\nContent-Length: 0x1\n\na", 400, "no plain number"},
	{"MSG-05 underscore", "POST / HTTP/1.1\nHost: h\nContent-Length: 1_0\n\na", 400, "no plain number"},
	{"MSG-05 empty", "POST / HTTP/1.1\nHost: h\nContent-Length:\n\na", 400, "no plain number"},
	{"MSG-05 list", "POST / HTTP/1.1\nHost: h\nContent-Length: 1, 1\n\na", 400, "no plain number"},
	{"MSG-05 leading zero", "POST / HTTP/1.1\nHost: h\nContent-Length: 01\n\na", 400, "no plain number"},
	{"MSG-05 too large", "POST / HTTP/1.1\nHost: h\nContent-Length: 9223372036854775808\n\na", 400, "no plain number"},
	{"MSG-05 same twice", "POST / HTTP/1.1\nHost: h\nContent-Length: 1\nContent-Length: 1\n\na", 400, "twice"},
	{"MSG-05 differing", "POST / HTTP/1.1\nHost: h\nContent-Length: 1\nContent-Length: 2\n\na", 400, "twice"},
	{"MSG-09 blank before colon", "POST / HTTP/1.1\nHost: h\nContent-Length : 1\n\na", 400, ""},
	{"MSG-10 fold", "GET / HTTP/1.1\nHost: h\nX: a\n b\n\n", 400, "folded"},
	{"MSG-10 fold by tab", "GET / HTTP/1.1\nHost: h\nX: a\n\tb\n\n", 400, "folded"},
	{"MSG-10 fold hides a field", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding:\n chunked\n\n0\n\n", 400, "does not end in chunked"},
	{"MSG-11 blank before the first field", "GET / HTTP/1.1\n Host: h\n\n", 400, "folded"},
	{"MSG-12 NUL", "GET / HTTP/1.1\nHost: h\nX: a\x00b\n\n", 400, ""},
	{"RS-12 bare CR", "GET / HTTP/1.1\nHost: h\nX: a\rb\n\n", 400, "CR without LF"},
	{"RS-12 bare CR in the request line", "GET /\r HTTP/1.1\nHost: h\n\n", 400, "CR without LF"},
	{"MSG-13 no Host", "GET / HTTP/1.1\n\n", 400, ""},
	{"MSG-17 two empty lines", "\n\nGET / HTTP/1.1\nHost: h\n\n", 400, "empty lines"},
	{"MSG-23 doubled blank", "GET  / HTTP/1.1\nHost: h\n\n", 400, ""},
	{"MSG-23 tab", "GET\t/ HTTP/1.1\nHost: h\n\n", 400, ""},
	{"MSG-23 TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\n", 400, "not HTTP/1"},
	{"HTTP/0.9", "GET /\n\n", 400, "not HTTP/1"},
	{"HTTP/2", "PRI * HTTP/2.0\n\nSM\n\n", 400, "not HTTP/1"},
}

func TestUnsoundRequests(t *testing.T) {
	for _, test := range unsound {
		t.Run(test.name, func(t *testing.T) {
			refusedEverywhere(t, crlf(test.octets), test.status, test.why)
		})
	}
	for name, octets := range map[string]string{
		"line end LF": "GET / HTTP/1.1\nHost: h\r\n\r\n", "field end LF": "GET / HTTP/1.1\r\nHost: h\n\r\n",
		"empty line LF": "GET / HTTP/1.1\r\nHost: h\r\n\n", "empty line before LF": "\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
	} {
		t.Run("RS-12 "+name, func(t *testing.T) { refusedEverywhere(t, octets, 400, "LF without CR") })
	}
}

// refusedEverywhere sends octets between two sound requests, in pieces of all
// kinds.
func refusedEverywhere(t *testing.T, octets string, status int, why string) {
	t.Helper()
	all := crlf("GET /first HTTP/1.1\nHost: h\n\n") + octets + last
	for _, pieces := range []int{1, 2, 5, len(all)} {
		var rec recorder
		told := ""
		w := serve(rec.ServeHTTP, Limits{}, func(_, why string) { told += why })
		answers := say(t, w.dial(), pieces, all)
		w.end(t)
		if len(answers) != 2 || answers[0].StatusCode != 200 || answers[1].StatusCode != status || !answers[1].Close {
			t.Errorf("in pieces of %d: answers %v, want 200 and a last %d", pieces, statuses(answers), status)
		}
		if len(rec.all()) != 1 {
			t.Errorf("in pieces of %d: the handler got %q", pieces, rec.all())
		}
		if !strings.Contains(told, why) || (why == "") != (told == "") {
			t.Errorf("in pieces of %d: told %q, want %q", pieces, told, why)
		}
	}
}

func statuses(answers []*http.Response) (codes []int) {
	for _, a := range answers {
		codes = append(codes, a.StatusCode)
	}
	return codes
}

// A body that is no chunked one fails for the handler too (MSG-14).
func TestUnsoundChunks(t *testing.T) {
	for name, chunks := range map[string]string{
		"no size": "\n\n", "sign": "+1\na\n0\n\n", "blank before": " 1\na\n0\n\n", "blank after": "1 \na\n0\n\n",
		"0x": "0x1\na\n0\n\n", "underscore": "0_1\na\n0\n\n", "17 digits": "00000000000000001\na\n0\n\n", "not hexadecimal": "1g\na\n0\n\n",
		"overflow": "ffffffffffffffff\na\n0\n\n", "more data than said": "1\nab\n0\n\n", "less data than said": "3\nab\n0\n\n",
		"bare CR in an extension": "1;a\rb\na\n0\n\n", "NUL in an extension": "1;a\x00\na\n0\n\n",
		"long extension": "1;" + strings.Repeat("a", maxChunkLine) + "\na\n0\n\n", "endless extension": "1;" + strings.Repeat("a", 8*maxChunkLine),
		"folded trailer": "0\nX: a\n b\n\n", "long trailer": "0\nX: " + strings.Repeat("a", 2*maxTrailer) + "\n\n", "trailer without colon": "0\nX\n\n",
		"bare LF after a chunk": "1\na\x00LF0\n\n", "bare LF in a trailer": "0\nX: a\x00LF\n",
	} {
		t.Run(name, func(t *testing.T) {
			chunks := strings.ReplaceAll(crlf(chunks), "\x00LF", "\n")
			all := crlf("POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n") + chunks + last
			for _, pieces := range []int{1, 3, len(all)} {
				var rec recorder
				w := serve(rec.ServeHTTP, Limits{}, nil)
				answers := say(t, w.dial(), pieces, all)
				w.end(t)
				if len(rec.all()) != 1 || !strings.HasSuffix(rec.all()[0], " broken") || len(answers) != 1 || !answers[0].Close {
					t.Errorf("in pieces of %d: requests %q, answers %v", pieces, rec.all(), statuses(answers))
				}
			}
		})
	}
}

// Heads past the limit get 431 (MSG-15), in many lines or in one.
func TestHeadLimit(t *testing.T) {
	for name, fields := range map[string]string{
		"one line":        "X: " + strings.Repeat("a", 60<<10) + "\r\n",
		"one endless":     "X: " + strings.Repeat("a", 60<<10),
		"many lines":      strings.Repeat("X: "+strings.Repeat("a", 100)+"\r\n", 600),
		"a long one last": strings.Repeat("X: a\r\n", 5000) + "X: " + strings.Repeat("a", 20<<10) + "\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			var rec recorder
			w := serve(rec.ServeHTTP, Limits{}, nil)
			answers := say(t, w.dial(), 1000, "GET / HTTP/1.1\r\nHost: h\r\n"+fields)
			w.end(t)
			if len(answers) != 1 || answers[0].StatusCode != 431 || len(rec.all()) > 0 {
				t.Errorf("answers %v, requests %q", statuses(answers), rec.all())
			}
		})
	}
	var rec recorder
	w := serve(rec.ServeHTTP, Limits{}, nil)
	defer w.end(t)
	fits := "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nX: " + strings.Repeat("a", 31<<10) + "\r\n\r\n"
	if answers := say(t, w.dial(), len(fits), fits); len(answers) != 1 || answers[0].StatusCode != 200 {
		t.Errorf("31 KiB of head: %v", statuses(answers))
	}
}

// No connection with an HTTP/1.0 client is kept (MSG-21), and none on which
// the client asked for another protocol: the door does not follow it further.
func TestConnectionEnds(t *testing.T) {
	for name, head := range map[string]string{
		"HTTP/1.0": "GET / HTTP/1.0\nHost: h\nConnection: keep-alive\n\n",
		"Upgrade":  "GET / HTTP/1.1\nHost: h\nConnection: upgrade\nUpgrade: websocket\n\n",
		"h2c":      "GET / HTTP/1.1\nHost: h\nConnection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\n\n",
	} {
		t.Run(name, func(t *testing.T) {
			for _, pieces := range []int{1, 4096} {
				var rec recorder
				w := serve(rec.ServeHTTP, Limits{}, nil)
				answers := say(t, w.dial(), pieces, crlf(head)+last)
				w.end(t)
				if len(answers) != 1 || !answers[0].Close || len(rec.all()) != 1 {
					t.Errorf("answers %v, requests %q", statuses(answers), rec.all())
				}
			}
		})
	}
}

// What follows a request with Upgrade is never taken for a request, whatever the
// handler makes of the fields that tell the client so (MSG-01).
func TestNothingAfterUpgrade(t *testing.T) {
	const smuggled = "POST /evil HTTP/1.1\nHost: h\nContent-Length: 44\nTransfer-Encoding: chunked\n\n0\n\nGET /smuggled HTTP/1.1\nHost: h\n\n"
	for name, head := range map[string]string{
		"no content": "GET / HTTP/1.1\nHost: h\nUpgrade: x\n\n",
		"h2c":        "GET / HTTP/1.1\nHost: h\nConnection: Upgrade\nUpgrade: h2c\nPragma: no-cache\n\n",
		"length":     "POST / HTTP/1.1\nHost: h\nUpgrade: x\nContent-Length: 2\n\nab",
		"chunked":    "POST / HTTP/1.1\nHost: h\nUpgrade: x\nTransfer-Encoding: chunked\n\n2\nab\n0\nA: b\n\n",
	} {
		t.Run(name, func(t *testing.T) {
			for _, after := range []string{crlf(smuggled), last, "\r\n" + last} {
				for _, pieces := range []int{1, 3, 4096} {
					var rec recorder
					w := serve(func(rw http.ResponseWriter, r *http.Request) {
						if clear(rw.Header()); r.URL.Path != "/" {
							rw.Header().Set("Connection", "close") // one that should not be here, let alone wait
						}
						rec.ServeHTTP(rw, r)
						if r.Context().Err() != nil {
							t.Error("the request was cancelled by what follows it")
						}
					}, Limits{}, nil)
					answers := say(t, w.dial(), pieces, crlf(head)+after)
					w.end(t)
					if len(answers) != 1 || answers[0].StatusCode != http.StatusOK || len(rec.all()) != 1 || strings.HasSuffix(rec.all()[0], "broken") {
						t.Errorf("in pieces of %d: answers %v, requests %q", pieces, statuses(answers), rec.all())
					}
				}
			}
		})
	}
}

// The content of a request with Upgrade is checked like any other.
func TestUnsoundContentWithUpgrade(t *testing.T) {
	var rec recorder
	w := serve(rec.ServeHTTP, Limits{}, nil)
	answers := say(t, w.dial(), 1, crlf("POST / HTTP/1.1\nHost: h\nUpgrade: x\nTransfer-Encoding: chunked\n\n")+"1\r\na\r\n0\r\nA: b\nB: c\r\n\r\n"+last)
	w.end(t)
	if len(rec.all()) != 1 || !strings.HasSuffix(rec.all()[0], " broken") || len(answers) != 1 || !answers[0].Close {
		t.Errorf("requests %q, answers %v", rec.all(), statuses(answers))
	}
}

// An expectation that is not 100-continue, and that alone, cannot be met (RS-07).
func TestExpectations(t *testing.T) {
	for fields, status := range map[string]int{
		"Expect: 100-continue\n":                          200,
		"Expect: 100-Continue\n":                          200,
		"Expect: y 100-continue\n":                        417,
		"Expect: 100-continue, 100-continue\n":            417,
		"Expect: 100-continue;a=b\n":                      417,
		"Expect: 100-continue\nExpect: 100-continue\n":    417,
		"Expect: 100-continue\nExpect: something-else\n":  417,
		"Expect:\nExpect: 100-continue\n":                 417,
		"Expect:\n":                                       417,
		"Expect: something-else\n":                        417,
		"Expect: 100-continue\nX: a\nexpect: 200-maybe\n": 417,
	} {
		var rec recorder
		w := serve(rec.ServeHTTP, Limits{}, nil)
		answers := say(t, w.dial(), 4096, crlf("GET / HTTP/1.1\nHost: h\nConnection: close\n"+fields+"\n"))
		w.end(t)
		if len(answers) != 1 || answers[0].StatusCode != status || (len(rec.all()) == 1) != (status == 200) {
			t.Errorf("%q: answers %v, requests %q; want %d", fields, statuses(answers), rec.all(), status)
		}
	}
}

// A tunnel carries octets that are no HTTP.
func TestTunnel(t *testing.T) {
	const noise = "\n\n\x00 folded\n\xff"
	w := serve(func(rw http.ResponseWriter, _ *http.Request) {
		c, buffered, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		got := make([]byte, len(noise))
		if _, err := io.ReadFull(buffered, got); err != nil {
			t.Error(err)
		}
		_, _ = c.Write(got) // checked where it arrives
	}, Limits{}, func(_, why string) { t.Error(why) })
	defer w.end(t)
	c := w.dial()
	defer c.Close()
	go func() {
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"+noise)
	}()
	if got, err := io.ReadAll(c); string(got) != noise || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

// segments is a connection that reads as it was cut.
type segments struct {
	net.Conn
	octets []byte
	cuts   []byte // length of the next segments, over and over
	n      int
}

func (s *segments) Read(p []byte) (int, error) {
	if len(s.octets) == 0 {
		return 0, io.EOF
	}
	k := len(s.octets)
	if len(s.cuts) > 0 {
		k = min(k, int(s.cuts[s.n%len(s.cuts)])+1)
		s.n++
	}
	k = copy(p, s.octets[:k])
	s.octets = s.octets[k:]
	return k, nil
}

func (*segments) RemoteAddr() net.Addr { return &net.TCPAddr{} }

// checkedConn puts the door before octets cut by cuts.
func checkedConn(octets, cuts []byte, refused *bool) *conn {
	l := Limits{}.complete()
	return &conn{
		Conn: deadlineless{&segments{octets: octets, cuts: cuts}}, limits: &l, release: func() {},
		tell: func(string, int, string) { *refused = true }, scan: scanner{maxHead: l.Head + 2*windowed},
	}
}

// FuzzSegments holds the door to two things. What it lets pass does not depend
// on where the network cuts. And net/http finds in it the requests that the
// door found, neither more nor others.
func FuzzSegments(f *testing.F) {
	for _, s := range sound {
		f.Add([]byte(s.octets+last), []byte{0}, uint8(0))
	}
	for _, u := range unsound {
		f.Add([]byte(crlf(u.octets)+last), []byte{2, 0, 5}, uint8(3))
	}
	f.Add([]byte(crlf("GET / HTTP/1.1\nHost: h\nUpgrade: x\n\n")+last), []byte{3}, uint8(0))
	f.Add([]byte(crlf("POST / HTTP/1.1\nHost: h\nUpgrade: x\nContent-Length: 1\n\na")+last), []byte{3}, uint8(0))
	f.Add([]byte(crlf("POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n3;a\nabc\n0\nA: b\n\n")+last), []byte{9}, uint8(60))
	f.Fuzz(func(t *testing.T, octets, cuts []byte, reads uint8) {
		var whole, cut bool
		a, aerr := io.ReadAll(checkedConn(slices.Clone(octets), nil, &whole))
		b, berr := io.ReadAll(&smallReads{checkedConn(slices.Clone(octets), cuts, &cut), int(reads) + 1})
		if !bytes.Equal(a, b) || whole != cut || aerr != nil || berr != nil {
			t.Fatalf("whole: %q %v %v\ncut:   %q %v %v", a, whole, aerr, b, cut, berr)
		}
		var s scanner
		s.maxHead = Limits{}.complete().Head + 2*windowed
		compare(t, &s, a, whole)
	})
}

// smallReads reads at most n octets at a time.
type smallReads struct {
	io.Reader
	n int
}

func (s *smallReads) Read(p []byte) (int, error) { return s.Reader.Read(p[:min(len(p), s.n)]) }

var errEnd = errors.New("the octets end")

// follow has the scanner read one request, and returns where it ends.
func follow(s *scanner, octets []byte) (n int, err error) {
	begun := false
	for {
		if begun && s.state == start {
			return n, nil
		}
		if n == len(octets) {
			return n, errEnd
		}
		k, do := s.next(octets[n:])
		if do != pass || s.state == blind || s.state == beyond && !s.head.upgrades {
			return n, errEnd
		}
		begun = true
		n += k
		if s.state == beyond {
			return n, nil
		}
	}
}

// deadlineless takes deadlines for granted.
type deadlineless struct{ *segments }

func (deadlineless) SetReadDeadline(time.Time) error { return nil }

// compare has net/http read what the door let pass, request by request, and
// wants each to end where the door says it does.
func compare(t *testing.T, s *scanner, octets []byte, refused bool) {
	t.Helper()
	for len(octets) > 0 {
		n, err := follow(s, octets)
		in := bytes.NewReader(octets)
		r := bufio.NewReaderSize(in, 16)
		req, rerr := http.ReadRequest(r)
		if rerr != nil {
			return // answered by 400 and close
		}
		_, berr := io.Copy(io.Discard, req.Body)
		if err != nil || berr != nil {
			if err == nil && !errors.Is(berr, io.ErrUnexpectedEOF) {
				return // net/http is the stricter one
			}
			if berr == nil && s.state != blind && s.state != beyond && !refused {
				t.Fatalf("net/http finds a whole request in %q, the door does not", octets)
			}
			return
		}
		if end := len(octets) - in.Len() - r.Buffered(); end != n {
			t.Fatalf("the request in %q ends at %d for net/http, at %d for the door", octets, end, n)
		}
		octets = octets[n:]
	}
}

// Where net/http would give up within content, the door has refused it already: no
// request is found in there (RS-08, RS-10, RS-15).
func TestNothingIsHiddenInContent(t *testing.T) {
	var seen atomic.Int64
	w := serve(func(rw http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(rw).EnableFullDuplex() // after which net/http goes on behind broken content
		if r.URL.Path != "/own" {
			seen.Add(1)
		}
		_, _ = io.Copy(io.Discard, r.Body)
	}, Limits{}, nil)
	defer w.end(t)
	smuggled := "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
	chunk := fmt.Sprintf("%x;%s\r\n%s\r\n", len(smuggled), strings.Repeat("e", 1000), smuggled)
	for name, content := range map[string]string{
		"chunks of extensions":  strings.Repeat(chunk, 20) + "0\r\n\r\n",
		"a trailer line":        "1\r\na\r\n0\r\nX\r\n" + smuggled,
		"a blank in a name":     "1\r\na\r\n0\r\nX : a\r\n" + smuggled,
		"an octet in a trailer": "1\r\na\r\n0\r\nX: a\x00\r\n" + smuggled,
		"long trailers":         "1\r\na\r\n0\r\n" + strings.Repeat("X: "+strings.Repeat("x", 2000)+"\r\n", 2) + smuggled,
		"a long trailer":        "1\r\na\r\n0\r\nX: " + strings.Repeat("x", 5000) + "\r\n" + smuggled,
	} {
		for _, pieces := range []int{1, 100, 1 << 20} {
			answers := say(t, w.dial(), pieces, "POST /own HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"+content)
			if len(answers) > 1 { // this handler does not mind what it could not read
				t.Errorf("%s in pieces of %d: %v", name, pieces, statuses(answers))
			}
		}
	}
	if n := seen.Load(); n > 0 {
		t.Errorf("%d requests were found in content", n)
	}
}

// Whatever net/http takes for a request goes nowhere, unless it began where the
// door saw one begin.
func TestRequestsThatNeverBegan(t *testing.T) {
	handled := false
	told := make(chan string, 1)
	s := New(Options{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { handled = true }), Refused: func(_ string, _ int, why string) { told <- why }})
	ours, theirs := net.Pipe()
	c := &conn{Conn: theirs, release: func() {}}
	c.watch(&s.opt)
	c.scan.state = blind // which lets everything pass
	pipes := newPipes()
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(pipes) }()
	pipes.conns <- c
	go func() { _, _ = io.WriteString(ours, "GET / HTTP/1.1\r\nHost: h\r\n\r\n") }()
	if n, err := ours.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Errorf("it is answered: %d octets, %v", n, err)
	}
	if why := <-told; !strings.Contains(why, "RFC 9112") || handled {
		t.Errorf("refused because %q, handled %t", why, handled)
	}
	if err := s.http.Close(); err != nil {
		t.Error(err)
	}
	<-served

	var p passed
	ask := func(line string) *http.Request {
		f := strings.Fields(line)
		return &http.Request{Method: f[0], RequestURI: f[1], Proto: f[2]}
	}
	p.begin([]byte("GET /a HTTP/1.1"))
	p.begin([]byte("GET /b HTTP/1.1"))
	for _, step := range []struct {
		line string
		next bool
	}{{"GET /b HTTP/1.1", false}, {"GET /a HTTP/1.1", true}, {"GET /a HTTP/1.1", false}, {"POST /b HTTP/1.1", false}, {"GET /b HTTP/1.1", true}, {"GET /b HTTP/1.1", false}} {
		if p.next(ask(step.line)) != step.next {
			t.Errorf("%s is next: %t", step.line, !step.next)
		}
	}
}
