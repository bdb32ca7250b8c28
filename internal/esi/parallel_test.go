package esi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// slow answers after d with the path.
func slow(d time.Duration) func(context.Context, *url.URL) (*http.Response, error) {
	return func(ctx context.Context, u *url.URL) (*http.Response, error) {
		select {
		case <-time.After(d):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(u.Path))}, nil
	}
}

func numbered(n int) (template, page string) {
	var t, p strings.Builder
	for i := range n {
		fmt.Fprintf(&t, `<p><esi:include src="/%d"/></p>`, i)
		fmt.Fprintf(&p, `<p>/%d</p>`, i)
	}
	return t.String(), p.String()
}

func TestESI16_InParallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pageIn(nil)
		p.Fetch = slow(20 * time.Millisecond)
		template, want := numbered(50)
		began := time.Now()
		got, err := assemble(t, p, template)
		if got != want || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		if took := time.Since(began); took >= 100*time.Millisecond {
			t.Errorf("took %v", took)
		}
	})
}

// Nested fragments are fetched ahead too.
func TestESI16_NestedInParallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pageIn(nil)
		wait := slow(20 * time.Millisecond)
		p.Fetch = func(ctx context.Context, u *url.URL) (*http.Response, error) {
			r, err := wait(ctx, u)
			if err == nil && !strings.Contains(u.Path, "sub") {
				r.Header = asking("").header
				r.Body = io.NopCloser(strings.NewReader(strings.Repeat(`<esi:include src="/sub`+u.Path+`"/>`, 3)))
			}
			return r, err
		}
		began := time.Now()
		got, err := assemble(t, p, strings.Repeat(`<esi:include src="/x"/>`, 8))
		if got != strings.Repeat("/sub/x", 24) || err != nil || time.Since(began) != 40*time.Millisecond {
			t.Errorf("%q, %v after %v", got, err, time.Since(began))
		}
	})
}

// A recorder is a client that can be asked what has reached it.
type recorder struct {
	mu      sync.Mutex
	b       strings.Builder
	flushed int // octets
}

func (r *recorder) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.Write(b)
}

func (r *recorder) FlushError() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flushed = r.b.Len()
	return nil
}

func (r *recorder) sent() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.String()[:r.flushed]
}

// Text before a slow include goes out at once, and so does what is between
// includes that are slower one after the other.
func TestESI16_TextIsNotHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pageIn(nil)
		p.Fetch = func(ctx context.Context, u *url.URL) (*http.Response, error) {
			d, _ := time.ParseDuration(strings.TrimPrefix(u.Path, "/"))
			return slow(d)(ctx, u)
		}
		client := &recorder{}
		done := make(chan error)
		template, more := io.Pipe()
		go func() { done <- p.Assemble(t.Context(), client, template) }()
		reaches := func(after time.Duration, want string) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			if got := client.sent(); got != want {
				t.Errorf("%q was sent, want %q", got, want)
			}
		}
		fmt.Fprint(more, `head<esi:include src="/1s"/>middle<esi:include src="/2s"/>tail<`)
		reaches(10*time.Millisecond, "head")
		reaches(time.Second, "head/1smiddle")
		reaches(time.Second, "head/1smiddle/2stail")
		fmt.Fprint(more, `p>end`)
		reaches(10*time.Millisecond, "head/1smiddle/2stail<p>end")
		more.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// What stands after a slow include is fetched meanwhile, in document order and
// never more at a time than there are places.
func TestESI16_PlacesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var under, most int
		var order []string
		p := pageIn(nil)
		p.Limits.Parallel = 4
		p.Fetch = func(ctx context.Context, u *url.URL) (*http.Response, error) {
			mu.Lock()
			under++
			most = max(most, under)
			order = append(order, u.Path)
			mu.Unlock()
			r, err := slow(time.Second)(ctx, u)
			mu.Lock()
			under--
			mu.Unlock()
			return r, err
		}
		template, want := numbered(16)
		began := time.Now()
		got, err := assemble(t, p, template)
		if got != want || err != nil || most != 4 || time.Since(began) != 4*time.Second {
			t.Errorf("%q, %v; %d at a time, %v", got, err, most, time.Since(began))
		}
		for i, path := range order {
			var n int
			fmt.Sscanf(path, "/%d", &n)
			if n/4 != i/4 {
				t.Errorf("fetched in the order %v", order)
				break
			}
		}
	})
}

// With one place only, nested fragments still get their turn.
func TestESI16_NoDeadlock(t *testing.T) {
	for _, parallel := range []int{1, 2, 3} {
		synctest.Test(t, func(t *testing.T) {
			p := pageIn(nil)
			p.Limits.Parallel = parallel
			p.Fetch = func(ctx context.Context, u *url.URL) (*http.Response, error) {
				r, err := slow(time.Millisecond)(ctx, u)
				if err == nil && len(u.Path) < 4 {
					r.Header = asking("").header
					part := `<esi:include src="` + u.Path + `x" onerror="continue"/>`
					r.Body = io.NopCloser(strings.NewReader(part + `<esi:try><esi:attempt>` + part + `<esi:include src="http://no/"/></esi:attempt><esi:except>` + part + `</esi:except></esi:try>`))
				}
				return r, err
			}
			got, err := assemble(t, p, strings.Repeat(`<esi:include src="/x" alt="/y"/>`, 5))
			if want := strings.Repeat("/xxx", 20); got != want || err != nil {
				t.Errorf("%d places: %q, %v", parallel, got, err)
			}
		})
	}
}

// A fragment whose turn has not come is read up to 64 KiB only, and one that is
// being sent no faster than the client takes it.
func TestESI10_BoundedAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var read atomic.Int64
		p := pageIn(nil)
		p.Limits = Limits{Fragment: 1 << 40, Size: 1 << 40}
		p.Fetch = func(ctx context.Context, u *url.URL) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Header: http.Header{"Surrogate-Control": {u.RawQuery}}, Body: io.NopCloser(counting{&read})}, nil
		}
		for _, query := range []string{"", "content=ESI/1.0"} {
			read.Store(0)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() {
				done <- p.Assemble(ctx, stuck{ctx}, strings.NewReader(strings.Repeat(`<esi:include src="/?`+query+`"/>`, 10_000)))
			}()
			synctest.Wait()
			if n := read.Load(); n < 32*fragmentAhead || n > 33*3*fragmentAhead {
				t.Errorf("%q: %d KiB were read", query, n>>10)
			}
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
	})
}

// counting is an endless body.
type counting struct{ n *atomic.Int64 }

func (c counting) Read(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}

// stuck is a client that takes nothing.
type stuck struct{ ctx context.Context }

func (s stuck) Write([]byte) (int, error) {
	<-s.ctx.Done()
	return 0, context.Cause(s.ctx)
}
