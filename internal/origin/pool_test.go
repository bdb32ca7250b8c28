package origin_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larderhq/larder/internal/origin"
)

// A yard is an origin in memory that answers with the number of the connection, from
// 1. Those for which hangs is true take until they are called off to open.
type yard struct {
	hangs func(nth int) bool

	mu     sync.Mutex
	opened int
	over   []int
}

// open counts a connection.
func (y *yard) open() int {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.opened++
	return y.opened
}

func (y *yard) end(nth int) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.over = append(y.over, nth)
}

// ended are the connections that have ended, once all is quiet.
func (y *yard) ended() string {
	synctest.Wait()
	y.mu.Lock()
	defer y.mu.Unlock()
	slices.Sort(y.over)
	return fmt.Sprint(y.over)
}

func (y *yard) upstream(t *testing.T, change ...func(*origin.Options)) *origin.Upstream {
	return upstream(t, "http://h", append(change, func(o *origin.Options) {
		o.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			nth := y.open()
			if y.hangs != nil && y.hangs(nth) {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			here, there := net.Pipe()
			go func() {
				defer there.Close()
				for r := bufio.NewReader(there); ; {
					if _, _, ok := readHead(r); !ok {
						y.end(nth)
						return
					}
					_, _ = fmt.Fprintf(there, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d", nth)
				}
			}()
			return here, nil
		}
	})...)
}

// hold begins a request and returns its response, whose body holds the connection.
func hold(t *testing.T, up *origin.Upstream) *http.Response {
	t.Helper()
	resp, err := up.RoundTrip(request(t, t.Context(), "GET", "/", nil))
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// release reads a response to its end.
func release(t *testing.T, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	_ = resp.Body.Close()
	return string(b)
}

func TestORG_LastUsedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := new(yard).upstream(t)
		one, two, three := hold(t, up), hold(t, up), hold(t, up)
		release(t, three)
		release(t, one)
		release(t, two)
		one = hold(t, up)
		two = hold(t, up)
		if a, b := release(t, one), release(t, two); a != "2" || b != "1" {
			t.Errorf("came by %s and %s, want 2 and 1", a, b)
		}
	})
}

func TestORG_IdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := new(yard)
		up := y.upstream(t, func(o *origin.Options) { o.IdleTimeout = 30 * time.Second })
		one, two := hold(t, up), hold(t, up)
		release(t, one)
		time.Sleep(20 * time.Second) // of the bubble, as all here
		release(t, two)
		time.Sleep(9 * time.Second)
		if got := y.ended(); got != "[]" {
			t.Errorf("%s ended too early", got)
		}
		time.Sleep(2 * time.Second)
		if got := y.ended(); got != "[1]" {
			t.Errorf("%s ended, want 1", got)
		}
		time.Sleep(20 * time.Second)
		if got := y.ended(); got != "[1 2]" {
			t.Errorf("%s ended, want 1 and 2", got)
		}
	})
}

func TestORG_MaxIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := new(yard)
		up := y.upstream(t, func(o *origin.Options) { o.MaxIdle = 1 })
		one, two := hold(t, up), hold(t, up)
		release(t, one)
		release(t, two)
		if got := y.ended(); got != "[1]" {
			t.Errorf("%s ended, want the one that was idle for longer", got)
		}
	})
}

func TestORG_CloseIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := new(yard)
		up := y.upstream(t)
		one, two := hold(t, up), hold(t, up)
		release(t, one)
		up.CloseIdle()
		if got := release(t, two); got != "2" {
			t.Errorf("disturbed: %q", got)
		}
		if got := y.ended(); got != "[1 2]" {
			t.Errorf("%s ended, want both", got)
		}
		release(t, hold(t, up))
		if got := y.ended(); got != "[1 2]" {
			t.Errorf("%s ended: the Upstream keeps none any more", got)
		}
	})
}

func TestSEC06_WaitsForAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := new(yard)
		up := y.upstream(t, func(o *origin.Options) { o.MaxConns = 1 })
		one := hold(t, up)
		got := make(chan string)
		for range 2 {
			go func() { got <- release(t, hold(t, up)) }()
		}
		cause := errors.New("nobody waits")
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := make(chan error)
		go func() {
			_, err := up.RoundTrip(request(t, ctx, "GET", "/", nil))
			gone <- err
		}()
		synctest.Wait()
		cancel(cause)
		if err := <-gone; err != cause {
			t.Errorf("got %v, want the cause", err)
		}
		release(t, one)
		if a, b := <-got, <-got; a != "1" || b != "1" || y.open() != 2 {
			t.Errorf("came by %s and %s, or by more than one", a, b)
		}
	})
}

// Who waits for a connection to open takes one that comes back before.
func TestORG_SlowToOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := &yard{hangs: func(nth int) bool { return nth == 2 }}
		up := y.upstream(t)
		one := hold(t, up)
		got := make(chan string)
		go func() { got <- release(t, hold(t, up)) }()
		synctest.Wait()
		begin := time.Now()
		release(t, one)
		if by := <-got; by != "1" {
			t.Errorf("came by %s", by)
		}
		took(t, begin, 0)
		time.Sleep(time.Minute) // the other is given up
	})
}

// What broke is asked for again on a new connection, also where no more may be open.
func TestFWD09_FreshAmongMaxConns(t *testing.T) {
	var conns atomic.Int64
	serve := func(c net.Conn, r *bufio.Reader) {
		first := conns.Add(1) <= 2
		for n := 0; n == 0 || !first; n++ {
			if _, _, ok := readHead(r); !ok {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
		}
		_, _, _ = readHead(r) // and hangs up
	}
	bubble(t, serve, func(t *testing.T, inMemory func(*origin.Options)) {
		up := upstream(t, "http://h", inMemory, func(o *origin.Options) { o.MaxConns = 2 })
		one, two := hold(t, up), hold(t, up)
		release(t, one)
		release(t, two)
		release(t, hold(t, up))
		if n := conns.Load(); n != 3 {
			t.Errorf("%d connections, want 3", n)
		}
	})
}
