package front

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larderhq/larder/internal/standing"
)

// A client that sends a body too slowly is not waited for, although it never stops;
// one that keeps the pace is, however long it takes (DOS-04).
func TestPaceOfBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		read := make(chan error, 1)
		w := piped(func(_ http.ResponseWriter, r *http.Request) {
			_, err := io.Copy(io.Discard, r.Body)
			read <- err
		}, Limits{Pace: 100}, nil)
		defer w.end(t)
		for _, c := range []struct {
			piece int // octets every ten seconds
			end   error
		}{{999, os.ErrDeadlineExceeded}, {1001, nil}, {5000, nil}} {
			conn := w.dial()
			begun := time.Now()
			const size = 30_000
			go func() {
				fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n", size)
				for sent := 0; sent < size; sent += c.piece {
					time.Sleep(10 * time.Second)
					if _, err := io.WriteString(conn, strings.Repeat("x", min(c.piece, size-sent))); err != nil {
						return // it was refused
					}
				}
			}()
			if err := <-read; !errors.Is(err, c.end) {
				t.Errorf("%d octets every ten seconds: %v after %v, want %v", c.piece, err, time.Since(begun), c.end)
			}
			if waited := time.Since(begun); c.end != nil && waited > 2*time.Minute {
				t.Errorf("%d octets every ten seconds were waited for for %v", c.piece, waited)
			}
			conn.Close()
		}
	})
}

// A head has so many lines and no more, Host and all; what has more reaches nobody,
// and is the last of its connection (DOS-14).
func TestFieldLimit(t *testing.T) {
	var handled atomic.Int64
	w := serve(func(http.ResponseWriter, *http.Request) { handled.Add(1) }, Limits{Fields: 10}, nil)
	defer w.end(t)
	for lines, status := range map[int]int{9: 200, 10: 200, 11: 431, 500: 431} {
		before := handled.Load()
		c := w.dial()
		answers := say(t, c, 1000, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"+strings.Repeat("X: y\r\n", lines-2)+"\r\n")
		if len(answers) != 1 || answers[0].StatusCode != status || !answers[0].Close || handled.Load()-before != map[int]int64{200: 1}[status] {
			t.Errorf("%d lines: %v, handled %d times", lines, statuses(answers), handled.Load()-before)
		}
	}
}

// A client has no more connections than its share; what it gives back it may have
// again, and others are not concerned.
func TestClientConns(t *testing.T) {
	for name, portable := range map[string]bool{"portable": true, "loops": false} {
		t.Run(name, func(t *testing.T) {
			w := serveOptions(Options{
				Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), Limits: Limits{Conns: 10, ClientConns: 2},
				Standing: standing.New(nil), Clock: twoClocks, Log: slog.New(slog.DiscardHandler),
			}, portable)
			defer w.end(t)
			takeTurns(t, w)
		})
	}
}

// takeTurns has more connections to w than one client may have, which is two.
func takeTurns(t *testing.T, w *world) {
	ask := func(c net.Conn) error {
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
			return err
		}
		_, err := http.ReadResponse(bufio.NewReader(c), nil)
		return err
	}
	first, second, third := w.dial(), w.dial(), w.dial()
	if err := errors.Join(ask(first), ask(second)); err != nil {
		t.Error(err)
	}
	if ask(third) == nil {
		t.Error("a third connection was served")
	}
	third.Close()
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	other, err := from.DialContext(t.Context(), "tcp", second.RemoteAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := ask(other); err != nil {
		t.Errorf("another client: %v", err)
	}
	other.Close()
	first.Close()
	for late := time.Now().Add(10 * time.Second); ; {
		again := w.dial()
		err := ask(again)
		again.Close()
		if err == nil {
			break
		}
		if time.Now().After(late) {
			t.Fatal("a place that was given back cannot be had again")
		}
	}
	second.Close()
}

func TestCrowd(t *testing.T) {
	c := crowd{most: 2}
	at := func(s string) netip.Addr { return clientOf(netip.MustParseAddr(s)) }
	for _, step := range []struct {
		addr string
		in   bool
	}{
		{"192.0.2.1", true},
		{"::ffff:192.0.2.1", true}, // the same
		{"192.0.2.1", false},
		{"192.0.2.2", true},
		{"2001:db8::1", true},
		{"2001:db8::2", true},
		{"2001:db8::ffff:1", false}, // one network
		{"2001:db8:0:1::1", true},
		{"fe80::1%eth0", true},
		{"fe80::2%eth1", true},
		{"fe80::3", false},
	} {
		if c.enter(at(step.addr)) != step.in {
			t.Errorf("%s: let in %t", step.addr, !step.in)
		}
	}
	if c.leave(at("192.0.2.1")); !c.enter(at("192.0.2.1")) || c.enter(at("192.0.2.1")) {
		t.Error("what left does not count any more, once")
	}
	for range 3 {
		if !c.enter(netip.Addr{}) {
			t.Error("who has no address is counted")
		}
	}
	for _, a := range []string{"192.0.2.1", "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::1", "2001:db8:0:1::1", "fe80::1", "fe80::1"} {
		c.leave(at(a))
	}
	if len(c.from) != 0 {
		t.Errorf("%v are remembered", c.from)
	}
}

// Where there is no place left, who waits for nothing makes room for who comes;
// nobody else does.
func TestIdleMakeRoom(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	w := serveOptions(Options{
		Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/long" {
				close(begun)
				<-release
			}
		}),
		Limits: Limits{Conns: 3, ClientConns: 9}, Standing: standing.New(nil), Clock: twoClocks,
	})
	defer w.end(t)
	ask := func(c net.Conn, path string) {
		if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	idle, long, half := w.dial(), w.dial(), w.dial()
	defer idle.Close()
	defer long.Close()
	defer half.Close()
	ask(idle, "/")
	if _, err := http.ReadResponse(bufio.NewReader(idle), nil); err != nil {
		t.Fatal(err)
	}
	ask(long, "/long")
	<-begun
	if _, err := io.WriteString(half, "GET / HTTP/1.1\r\nHost"); err != nil {
		t.Fatal(err)
	}
	another := w.dial()
	defer another.Close()
	ask(another, "/")
	if _, err := http.ReadResponse(bufio.NewReader(another), nil); err != nil {
		t.Errorf("who comes later: %v", err)
	}
	if n, err := idle.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("who waits for nothing reads %d octets, %v", n, err)
	}
	close(release)
	if _, err := io.WriteString(half, ": h\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]net.Conn{"a long answer": long, "half a head": half} {
		if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
