package esi

import (
	"bytes"
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
)

func TestESI10_Time(t *testing.T) {
	hang := func(ctx context.Context, u *url.URL) (*http.Response, error) {
		if ctx.Err() != nil {
			t.Errorf("%s is fetched in vain", u)
		}
		if u.Path == "/a" {
			return slow(0)(ctx, u)
		}
		return slow(time.Hour)(ctx, u)
	}
	for _, c := range []struct {
		template, want string
		ok             bool
	}{
		{`1<esi:include src="/x"/>2`, "1", false},
		{`1<esi:include src="/x" alt="/y"/>2`, "1", false},
		{`1<esi:include src="/x" onerror="continue"/>2<esi:include src="/y" alt="/z" onerror="continue"/>3`, "123", true},
		{`1<esi:include src="/x" onerror="continue"/>2<esi:include src="/a"/>3`, "12/a3", true},
		{`1<esi:try><esi:attempt>2<esi:include src="/x"/></esi:attempt><esi:except>e</esi:except></esi:try>3`, "1e3", true},
		{`1<esi:try><esi:attempt>2<esi:include src="/x"/></esi:attempt><esi:except><esi:include src="/y"/></esi:except></esi:try>3`, "1", false},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := pageIn(nil)
			p.Fetch = hang
			began := time.Now()
			got, err := assemble(t, p, c.template)
			if got != c.want || c.ok != (err == nil) || err != nil && !errors.Is(err, ErrTime) {
				t.Errorf("%s: %q, %v", c.template, got, err)
			}
			if took := time.Since(began); took != 10*time.Second {
				t.Errorf("%s took %v", c.template, took)
			}
		})
	}
}

// Only what fragments hold up counts, added up.
func TestESI10_TimeOfOthersDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pageIn(nil)
		p.Fetch = slow(3 * time.Second)
		p.Limits = Limits{Parallel: 1}
		template, more := io.Pipe()
		go func() {
			fmt.Fprint(more, "1")
			time.Sleep(time.Minute)
			fmt.Fprint(more, strings.Repeat(`<esi:include src="/x"/>`, 4))
			more.Close()
		}()
		client := &late{}
		began := time.Now()
		err := p.Assemble(t.Context(), client, template)
		if got := client.String(); got != "1/x/x/x" || !errors.Is(err, ErrTime) {
			t.Errorf("%q, %v after %v", got, err, time.Since(began))
		}
	})
}

// late is a slow client.
type late struct{ strings.Builder }

func (l *late) Write(b []byte) (int, error) {
	time.Sleep(20 * time.Second)
	return l.Builder.Write(b)
}

func TestESI10_Cancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("client left")
		ctx, cancel := context.WithCancelCause(t.Context())
		p := pageIn(nil)
		p.Fetch = slow(time.Hour)
		p.Drop = true
		before := inBubble()
		time.AfterFunc(time.Second, func() { cancel(cause) })
		template, _ := numbered(100)
		began := time.Now()
		var b strings.Builder
		err := p.Assemble(ctx, &b, strings.NewReader(`1<esi:try><esi:attempt>`+template+`</esi:attempt><esi:except>e</esi:except></esi:try>2`))
		if b.String() != "1" || !errors.Is(err, cause) || time.Since(began) != time.Second {
			t.Errorf("%q, %v", b.String(), err)
		}
		synctest.Wait()
		if left := inBubble() - before; left > 0 {
			t.Errorf("%d goroutines were left", left)
		}
	})
}

// inBubble counts the goroutines of the test's bubble. runtime.NumGoroutine
// counts the runtime's own too, while they run finalizers or cleanups.
func inBubble() int {
	stacks := make([]byte, 1<<20)
	return bytes.Count(stacks[:runtime.Stack(stacks, true)], []byte("synctest bubble"))
}

// A flusher counts how often it is flushed.
type flusher struct {
	io.Writer
	calls int
}

func (f *flusher) Flush() { f.calls++ }

type failingFlusher struct {
	io.Writer
	err error
}

func (f failingFlusher) FlushError() error { return f.err }

func TestESI16_Flush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pageIn(nil)
		p.Fetch = slow(time.Second)
		assembleTo := func(dst io.Writer) error {
			return p.Assemble(t.Context(), dst, strings.NewReader(`1<esi:include src="/a" onerror="continue"/><esi:include src="/b" onerror="continue"/>2`))
		}
		f := &flusher{Writer: io.Discard}
		if err := assembleTo(f); err != nil || f.calls != 1 {
			t.Errorf("%d flushes, %v", f.calls, err)
		}
		if err := assembleTo(failingFlusher{io.Discard, http.ErrNotSupported}); err != nil {
			t.Error(err)
		}
		if err := assembleTo(failingFlusher{io.Discard, errRefusing}); !errors.Is(err, errRefusing) {
			t.Error(err)
		}
	})
}
