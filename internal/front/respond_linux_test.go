package front

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/standing"
)

// script is a handler that does what the seed in the path says.
func script(w http.ResponseWriter, r *http.Request) {
	seed, _ := strconv.ParseUint(strings.TrimPrefix(r.URL.Path, "/"), 10, 64)
	chance := rand.New(rand.NewPCG(seed, 1))
	h := w.Header()
	h["Content-Type"] = nil // as the engine has it: nothing is guessed
	pieces := make([][]byte, chance.IntN(4))
	total := 0
	for i := range pieces {
		pieces[i] = bytes.Repeat([]byte{byte('a' + i)}, []int{0, 1, 100, 600, 5000, 70_000}[chance.IntN(6)])
		total += len(pieces[i])
	}
	if chance.IntN(4) == 0 {
		h["Link"] = []string{"</a>; rel=preload"}
		w.WriteHeader(http.StatusEarlyHints)
	}
	h["X-Two"] = []string{"a", " b\r\nX-Three: c "}
	if chance.IntN(2) == 0 {
		h["Content-Length"] = []string{strconv.Itoa(total)}
	}
	if chance.IntN(5) == 0 {
		h["Connection"] = []string{"close"}
	}
	announced := chance.IntN(4) == 0
	if announced {
		h["Trailer"] = []string{"X-Sum"}
	}
	if chance.IntN(3) > 0 {
		w.WriteHeader([]int{200, 204, 206, 299, 304, 404, 503, 777}[chance.IntN(8)])
		h["X-Late"] = []string{"not to be seen"}
	}
	for _, p := range pieces {
		_, _ = w.Write(p) // some statuses have no body
		if chance.IntN(4) == 0 {
			_ = http.NewResponseController(w).Flush()
		}
	}
	if announced {
		h["X-Sum"] = []string{"1"}
	} else if chance.IntN(8) == 0 {
		_ = http.NewResponseController(w).Flush() // or net/http may forget them
		h[http.TrailerPrefix+"X-Other"] = []string{"2"}
	}
	if chance.IntN(10) == 0 && r.Method != http.MethodHead { // of which it may have sent more or less
		panic(http.ErrAbortHandler)
	}
}

// heard is what a client makes of what came for its request: interim responses, the head, the
// body and the trailers.
func heard(t *testing.T, octets, method string) string {
	t.Helper()
	r := bufio.NewReader(strings.NewReader(octets))
	var b strings.Builder
	for {
		answer, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			fmt.Fprintf(&b, "end: %v\n", err)
			return b.String()
		}
		body, err := io.ReadAll(answer.Body)
		if len(answer.Header["Date"]) != 1 && answer.StatusCode >= 200 {
			t.Errorf("of %d Dates", len(answer.Header["Date"]))
		}
		delete(answer.Header, "Date")
		fmt.Fprintf(&b, "%s %v length %d %v close %v body %d %v trailer %v\n", answer.Status, answer.Header, answer.ContentLength, answer.TransferEncoding, answer.Close, len(body), err, answer.Trailer)
		b.Write(body)
		b.WriteByte('\n')
	}
}

// served makes a world that loops answer, which have nothing at hand.
func served(h http.HandlerFunc, l Limits) *world {
	return serveOptions(Options{Handler: h, Limits: l, Standing: standing.New(nil), Clock: twoClocks})
}

// What a Handler says comes to the client as net/http would have it. Only between 2 and 4 KiB without a length
// net/http has chunks, and loops still say how long it is.
func TestRepliesAreTheSame(t *testing.T) {
	fast, slow := served(script, Limits{}), serveOptions(Options{Handler: http.HandlerFunc(script), Standing: standing.New(nil), Clock: twoClocks}, true)
	defer fast.end(t)
	defer slow.end(t)
	seed := rand.Uint64() >> 1
	t.Logf("from seed %d", seed)
	for n := range uint64(1000) {
		method := "GET"
		if n%4 == 0 {
			method = "HEAD"
		}
		ask := request(fmt.Sprintf("%s /%d", method, seed+n), "Connection: close")
		got, want := heard(t, exchange(t, fast, []string{ask}), method), heard(t, exchange(t, slow, []string{ask}), method)
		if got != want {
			t.Fatalf("of %s the loops made\n%s\nand net/http\n%s", ask, shortened(got), shortened(want))
		}
	}
}

// A Handler whose client has gone is told so.
func TestReplyToNobody(t *testing.T) {
	begun, told := make(chan struct{}), make(chan struct{})
	w := served(func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
		close(told)
	}, Limits{})
	defer w.end(t)
	c := w.dial()
	if _, err := io.WriteString(c, request("GET /")); err != nil {
		t.Fatal(err)
	}
	<-begun
	c.Close()
	<-told
}

// A client that takes nothing of an answer is given up, and so is one that a drain has no time
// for.
func TestReplyToTheSlow(t *testing.T) {
	for _, drained := range []bool{false, true} {
		begun, gave := make(chan struct{}), make(chan error, 1)
		l := Limits{StallTimeout: 300 * time.Millisecond}
		if drained {
			l = Limits{}
		}
		w := served(func(w http.ResponseWriter, _ *http.Request) {
			close(begun)
			piece := make([]byte, 1<<20)
			for {
				if _, err := w.Write(piece); err != nil {
					gave <- err
					return
				}
			}
		}, l)
		c := w.dial()
		if _, err := io.WriteString(c, request("GET /")); err != nil {
			t.Fatal(err)
		}
		<-begun
		if drained {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if w.server.Drain(ctx) == nil {
				t.Error("a drain without time has let everybody end")
			}
		}
		if err := <-gave; err == nil {
			t.Error("all was written")
		}
		c.Close()
		if !drained {
			w.end(t)
		}
	}
}

// Answers come in the order of the requests, whoever answers, and a client that takes little at a time gets
// all.
func TestRepliesInTurn(t *testing.T) {
	w := served(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(bytes.Repeat([]byte(r.URL.Path), 100_000))
	}, Limits{})
	defer w.end(t)
	c := w.dial()
	go func() {
		for n := range 20 {
			line := "GET"
			if n%3 == 2 {
				line = "POST" // which net/http answers
			}
			if _, err := io.WriteString(c, request(fmt.Sprintf("%s /%02d", line, n))); err != nil {
				return
			}
		}
	}()
	in := bufio.NewReaderSize(c, 512)
	for n := range 20 {
		a, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(a.Body)
		if want := strings.Repeat(fmt.Sprintf("/%02d", n), 100_000); err != nil || string(body) != want {
			t.Fatalf("answer %d: %d octets, %v", n, len(body), err)
		}
	}
	c.Close()
}

// An interim response is there before the final one is made.
func TestReplyEarlyHints(t *testing.T) {
	hinted := make(chan struct{})
	w := served(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</a>")
		w.WriteHeader(http.StatusEarlyHints)
		<-hinted
		w.Header().Del("Link")
	}, Limits{})
	defer w.end(t)
	trace := &httptrace.ClientTrace{Got1xxResponse: func(status int, h textproto.MIMEHeader) error {
		if status == http.StatusEarlyHints && slices.Equal(h["Link"], []string{"</a>"}) {
			close(hinted)
		}
		return nil
	}}
	r, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodGet, "http://h/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	way := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return w.dial(), nil }}
	defer way.CloseIdleConnections()
	a, err := way.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	if a.StatusCode != http.StatusOK || len(a.Header["Link"]) > 0 {
		t.Errorf("the answer is %d with Link %q", a.StatusCode, a.Header["Link"])
	}
}

// Who has said that nothing follows still gets all of an answer that takes long to send.
func TestReplyToTheHalfClosed(t *testing.T) {
	const size = 16 << 20
	w := served(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, size))
	}, Limits{})
	defer w.end(t)
	c := w.dial()
	defer c.Close()
	if _, err := io.WriteString(c, request("GET /")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.(*net.TCPConn).CloseWrite(), c.SetReadDeadline(time.Now().Add(20*time.Second))); err != nil {
		t.Fatal(err)
	}
	a, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, a.Body); n != size || err != nil {
		t.Errorf("%d octets of %d, %v", n, size, err)
	}
}

// The time that a Handler takes for itself is not the client's.
func TestReplyAfterAWhile(t *testing.T) {
	const size = 8 << 20
	full, idle := make(chan struct{}), make(chan struct{})
	w := served(func(w http.ResponseWriter, _ *http.Request) {
		close(full)
		_, _ = w.Write(make([]byte, size))
		<-idle
		_, _ = w.Write(make([]byte, size))
	}, Limits{StallTimeout: 300 * time.Millisecond})
	defer w.end(t)
	c := w.dial()
	defer c.Close()
	if _, err := io.WriteString(c, request("GET /")); err != nil {
		t.Fatal(err)
	}
	<-full
	a, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, a.Body, size); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(time.Second, func() { close(idle) }) // what is waited for is that nothing happens
	if n, err := io.Copy(io.Discard, a.Body); n != size || err != nil {
		t.Errorf("%d octets of %d, %v", n, size, err)
	}
}
