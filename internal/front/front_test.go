package front

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// In these tests time is that of a bubble, and no test waits.

// A client that reads nothing does not hold an answer for ever (DOS-05); one
// that is slow, but reads, gets all of it.
func TestStalledReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 1 << 20
		failed := make(chan error, 1)
		w := piped(func(rw http.ResponseWriter, _ *http.Request) {
			_, err := io.Copy(rw, strings.NewReader(strings.Repeat("a", size)))
			failed <- err
		}, Limits{}, nil)
		defer w.end(t)

		c := w.dial()
		begun := time.Now()
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("an answer that nobody reads ends with %v", err)
		}
		if waited := time.Since(begun); waited > time.Minute {
			t.Errorf("it took %v", waited)
		}
		c.Close()

		c = w.dial()
		defer c.Close()
		begun = time.Now()
		go func() { _, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n") }()
		got := int64(0)
		for {
			n, err := io.CopyN(io.Discard, c, 20<<10)
			if got += n; err != nil {
				break
			}
			time.Sleep(40 * time.Second)
		}
		if err := <-failed; err != nil || got < size {
			t.Errorf("a slow reader got %d octets, %v, after %v", got, err, time.Since(begun))
		}
	})
}

// A client that does not go on with its body is not waited for; one that is
// done with it is never disturbed.
func TestStalledBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		read := make(chan error, 1)
		w := piped(func(_ http.ResponseWriter, r *http.Request) {
			_, err := io.ReadAll(r.Body)
			read <- err
			time.Sleep(time.Hour)
			if err == nil && r.Context().Err() != nil {
				t.Error("the request was cancelled after its body had come")
			}
		}, Limits{}, nil)
		defer w.end(t)

		for _, head := range []string{"Content-Length: 5\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc"} {
			c := w.dial()
			begun := time.Now()
			if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: h\r\n"+head); err != nil {
				t.Fatal(err)
			}
			if err := <-read; !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begun) != time.Minute {
				t.Errorf("%q: %v after %v", head, err, time.Since(begun))
			}
			c.Close()
		}
		for _, body := range []string{"Content-Length: 5\r\n\r\n|abc|de", "Transfer-Encoding: chunked\r\n\r\n|3\r\nab|c\r\n0\r\n|\r\n"} {
			c := w.dial()
			for part := range strings.SplitSeq("POST / HTTP/1.1\r\nHost: h\r\n"+body, "|") {
				if _, err := io.WriteString(c, part); err != nil {
					t.Fatal(err)
				}
				time.Sleep(25 * time.Second)
			}
			if err := <-read; err != nil {
				t.Errorf("%q, slowly: %v", body, err)
			}
			a, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil || a.StatusCode != http.StatusOK {
				t.Errorf("%q, slowly: %v, %v", body, a, err)
			}
			c.Close()
		}
	})
}

// However often the rest of a body is asked for, a client that does not send it
// is waited for once.
func TestStalledBodyIsWaitedForOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := piped(func(rw http.ResponseWriter, r *http.Request) {
			for range 3 {
				if _, err := io.ReadAll(r.Body); !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("the body ends with %v", err)
				}
			}
			rw.WriteHeader(http.StatusRequestTimeout)
		}, Limits{}, nil)
		defer w.end(t)
		for _, body := range []string{"Content-Length: 5\r\n\r\n", "Content-Length: 5\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nab", "Transfer-Encoding: chunked\r\n\r\n3"} {
			c := w.dial()
			begun := time.Now()
			go func() { _, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: h\r\n"+body) }()
			answers := hear(t, c)
			if waited := time.Since(begun); waited >= 2*time.Minute || len(answers) != 1 || answers[0].StatusCode != http.StatusRequestTimeout {
				t.Errorf("%q: answers %v after %v", body, statuses(answers), waited)
			}
			c.Close()
		}
	})
}

// Neither a head nor the next request is waited for without end.
func TestSilentClients(t *testing.T) {
	for name, test := range map[string]struct {
		say   string
		after time.Duration
	}{
		"nothing":     {"", 10 * time.Second},
		"half a head": {"GET / HTTP/1.1\r\nHo", 10 * time.Second},
		"no more":     {"GET / HTTP/1.1\r\nHost: h\r\n\r\n", 120 * time.Second},
		"half a next": {"GET / HTTP/1.1\r\nHost: h\r\n\r\nGE", 120 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := piped(func(http.ResponseWriter, *http.Request) {}, Limits{}, nil)
				defer w.end(t)
				c := w.dial()
				defer c.Close()
				begun := time.Now()
				go func() { _, _ = io.WriteString(c, test.say) }()
				_, _ = io.Copy(io.Discard, c)
				if waited := time.Since(begun); waited > test.after {
					t.Errorf("the connection ended after %v, want %v", waited, test.after)
				}
			})
		})
	}
}

// No more connections are open than there are places; who comes later waits.
func TestPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := piped(func(http.ResponseWriter, *http.Request) {}, Limits{Conns: 2}, nil)
		defer w.end(t)
		first, second := w.dial(), w.dial()
		var third atomic.Pointer[net.Conn]
		go func() {
			c := w.dial()
			third.Store(&c)
		}()
		synctest.Wait()
		if third.Load() != nil {
			t.Fatal("a third connection was accepted")
		}
		first.Close()
		synctest.Wait()
		if third.Load() == nil {
			t.Fatal("no connection was accepted after one had ended")
		}
		(*third.Load()).Close()
		second.Close()
	})
}

// Drain lets running requests end and tells their clients that it is over.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := make(chan struct{})
		w := piped(func(rw http.ResponseWriter, _ *http.Request) {
			close(begun)
			time.Sleep(5 * time.Second)
			fmt.Fprint(rw, "done")
		}, Limits{}, nil)
		c := w.dial()
		defer c.Close()
		go func() { _, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n") }()
		<-begun
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if err := w.server.Drain(ctx); err != nil {
				t.Errorf("Drain: %v", err)
			}
			w.served <- nil
		}()
		answers := hear(t, c)
		if len(answers) != 1 || !answers[0].Close || answers[0].ContentLength != 4 {
			t.Errorf("got %v, want one whole answer with Connection: close", answers)
		}
		<-w.served
		<-w.served
	})
}

// After its time Drain cuts off what is left, and waits for the handlers.
func TestDrainCutsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := make(chan struct{})
		ended := false
		w := piped(func(_ http.ResponseWriter, r *http.Request) {
			close(begun)
			<-r.Context().Done()
			time.Sleep(time.Second)
			ended = true
		}, Limits{}, nil)
		c := w.dial()
		defer c.Close()
		go func() { _, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n") }()
		<-begun
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := w.server.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Drain: %v", err)
		}
		if !ended {
			t.Error("Drain did not wait for the handler")
		}
		if n, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("read %d octets from a connection that was to be cut", n)
		}
		if err := <-w.served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

// A refused client over a real network gets to read why, although it goes on
// sending.
func TestRefusalArrives(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{served: make(chan error, 1), server: New(Options{Handler: http.NotFoundHandler()})}
	go func() { w.served <- w.server.Serve(l) }()
	defer w.end(t)
	for range 20 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		// The rest of it is unread when the server closes.
		answers := say(t, c, 1<<16, "GET / HTTP/1.1\r\nHost: h\r\nX: a\n"+strings.Repeat("a", 40<<10))
		if len(answers) != 1 || answers[0].StatusCode != http.StatusBadRequest {
			t.Fatalf("got %v", statuses(answers))
		}
	}
}

// BenchmarkHead measures what the door adds to a request.
func BenchmarkHead(b *testing.B) {
	octets := []byte("GET /images/logo.png?v=12 HTTP/1.1\r\nHost: www.example.org\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n" +
		"Accept: image/avif,image/webp,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\nConnection: keep-alive\r\nReferer: https://www.example.org/\r\nCookie: a=b\r\n\r\n")
	s := scanner{maxHead: 40 << 10}
	b.SetBytes(int64(len(octets)))
	b.ReportAllocs()
	for b.Loop() {
		if ok, _, do := s.accept(octets); ok != len(octets) || do != pass {
			b.Fatal("refused")
		}
	}
}
