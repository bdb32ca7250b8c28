package storetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/larderhq/larder/store"
)

// inBubble runs test where synctest.Wait says when everybody waits.
func inBubble(t *testing.T, open func(t *testing.T) store.Store, test func(t *testing.T, s store.Store)) {
	synctest.Test(t, func(t *testing.T) { test(t, open(t)) })
}

// A tail collects what a reader gives, in the background.
type tail struct {
	mu   sync.Mutex
	got  bytes.Buffer
	err  error
	done bool
}

// collect reads r to its end, by Read or, if whole, as io.Copy does.
func collect(r io.ReadCloser, whole bool) *tail {
	c := &tail{}
	go func() {
		var err error
		if whole {
			_, err = io.Copy(c, r)
		} else {
			_, err = io.Copy(c, struct{ io.Reader }{r})
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.err, c.done = err, true
	}()
	return c
}

func (c *tail) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.got.Write(p)
}

// waits says that c has received want and is not at an end.
func (c *tail) waits(t *testing.T, want []byte) {
	t.Helper()
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	wantSame(t, c.got.Bytes(), want)
	if c.done {
		t.Fatalf("the reader ended with %v instead of waiting", c.err)
	}
}

// ended says that c has received want and then err; nil means io.EOF.
func (c *tail) ended(t *testing.T, want []byte, err error) {
	t.Helper()
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	wantSame(t, c.got.Bytes(), want)
	if !c.done {
		t.Fatal("the reader still waits")
	}
	wantErr(t, "the end of the reader", c.err, err)
}

// At the end of what is there, a Read waits for more. It ends with io.EOF once
// the entry is committed.
func followWaits(t *testing.T, s store.Store) {
	body := pattern("k", 0, 300_000)
	for _, size := range []int64{-1, int64(len(body))} {
		w := create(t, s, "k", size)
		readers := []io.ReadCloser{follow(t, w, 0), follow(t, w, 0)}
		copies := []*tail{collect(readers[0], false), collect(readers[1], true)}
		for cut, next := 0, 1; cut < len(body); cut, next = next, min(3*next, len(body)) {
			for _, c := range copies {
				c.waits(t, body[:cut])
			}
			write(t, w, body[cut:next])
		}
		for _, c := range copies {
			c.waits(t, body) // complete, but not committed
		}
		wantIDs(t, s, "k")
		e, err := w.Commit(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range copies {
			c.ended(t, body, nil)
			closeBody(t, readers[i])
		}
		wantIDs(t, s, "k", e.ID)
		if err := s.Remove(t.Context(), store.Key("k"), e.ID); err != nil {
			t.Fatal(err)
		}
	}
}

// Open reads the body from offset off, also one that is not there yet.
func followOffset(t *testing.T, s store.Store) {
	body := pattern("k", 0, 20_000)
	w := create(t, s, "k", -1)
	var readers []io.ReadCloser
	var copies []*tail
	offsets := []int64{0, 1, 4096, 9999, 10_000, 10_001, 19_999, 20_000, 20_001, 1 << 40}
	for _, off := range offsets {
		r := follow(t, w, off)
		readers = append(readers, r)
		copies = append(copies, collect(r, off%2 == 0))
	}
	from := func(off, end int64) []byte { return body[min(off, end):end] }
	for _, c := range copies {
		c.waits(t, nil)
	}
	write(t, w, body[:10_000])
	for i, off := range offsets {
		copies[i].waits(t, from(off, 10_000))
	}
	write(t, w, body[10_000:])
	if _, err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, off := range offsets {
		copies[i].ended(t, from(off, 20_000), nil)
		closeBody(t, readers[i])
	}
}

// It ends with the cause once the writer is aborted.
func followAborted(t *testing.T, s store.Store) {
	body := pattern("k", 0, 5000)
	for _, cause := range []error{errors.New("the origin went away"), nil} {
		w := create(t, s, "k", 10_000)
		r, beyond := follow(t, w, 0), follow(t, w, 7000)
		c, b := collect(r, false), collect(beyond, true)
		write(t, w, body)
		c.waits(t, body)
		b.waits(t, nil)
		w.Abort(cause)
		c.ended(t, body, cause)
		b.ended(t, nil, cause)
		closeBody(t, r)
		closeBody(t, beyond)
	}
}

// It ends with the context's error when ctx ends; nobody else is disturbed.
func followContext(t *testing.T, s store.Store) {
	body := pattern("k", 0, 6000)
	w := create(t, s, "k", -1)
	ctx, cancel := context.WithCancel(t.Context())
	leaving, err := w.Open(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := w.Open(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	staying := follow(t, w, 0)
	l, h, c := collect(leaving, false), collect(whole, true), collect(staying, false)
	write(t, w, body[:3000])
	l.waits(t, body[:3000])
	h.waits(t, body[:3000])
	cancel()
	l.ended(t, body[:3000], context.Canceled)
	h.ended(t, body[:3000], context.Canceled)
	closeBody(t, leaving)
	closeBody(t, whole)
	c.waits(t, body[:3000])
	write(t, w, body[3000:])
	c.waits(t, body)
	e, err := w.Commit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.ended(t, body, nil)
	closeBody(t, staying)
	wantBody(t, openBody(t, s, "k", e.ID, 0, -1), body)
}

// Calls after Close fail with ErrClosed: nobody waits for ever.
func followClosed(t *testing.T, s store.Store) {
	body := pattern("k", 0, 5000)
	w := create(t, s, "k", -1)
	r := follow(t, w, 0)
	c := collect(r, false)
	write(t, w, body)
	c.waits(t, body)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	c.ended(t, body, store.ErrClosed)
	closeBody(t, r)
	w.Abort(nil)
}

// Any number may read it meanwhile, at their own pace, and go when they like.
func followMany(t *testing.T, s store.Store) {
	body := pattern("k", 0, 1<<20)
	w := create(t, s, "k", -1)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			off := i * 1000
			r, err := w.Open(t.Context(), int64(off))
			if err != nil {
				t.Error(err)
				return
			}
			defer closeBody(t, r)
			p := make([]byte, 1<<(i+1))
			for at := off; ; {
				n, err := r.Read(p)
				if !bytes.Equal(p[:n], body[at:at+n]) {
					t.Errorf("reader %d received foreign octets at %d", i, at)
					return
				}
				at += n
				switch {
				case err == io.EOF && at != len(body):
					t.Errorf("reader %d ended at %d of %d octets", i, at, len(body))
					return
				case err == io.EOF:
					// Committed means visible.
					if es, err := s.Lookup(t.Context(), store.Key("k"), nil); err != nil || len(es) != 1 {
						t.Errorf("Lookup after io.EOF returned %d entries and the error %v", len(es), err)
					}
					return
				case err != nil:
					t.Error(err)
					return
				}
				if i == 3 && at > len(body)/2 {
					return // leaves early
				}
			}
		})
	}
	for rest := body; len(rest) > 0; rest = rest[min(10_007, len(rest)):] {
		write(t, w, rest[:min(10_007, len(rest))])
	}
	if _, err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
}

// The octets stay readable also after the entry is committed, replaced or
// removed; a follower may come late.
func followLate(t *testing.T, s store.Store) {
	body := pattern("k", 0, 70_000)
	w := create(t, s, "k", -1)
	write(t, w, body)
	e, err := w.Commit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wantReader(t, func() io.ReadCloser { return follow(t, w, 10) }, body[10:])
	r := follow(t, w, 0)
	if err := s.Remove(t.Context(), store.Key("k"), e.ID); err != nil {
		t.Fatal(err)
	}
	wantBody(t, r, body)
}
