package rclone

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/gateway"
	"github.com/rclone/rclone/fs"
)

// A faulty backend is one with faults.
type faulty struct {
	fs.Fs
	newObject func(ctx context.Context, name string) (fs.Object, error) // nil: the backend's own
	put       func() (fs.Object, error)                                 // nil: the backend's own
}

func (f *faulty) NewObject(ctx context.Context, name string) (fs.Object, error) {
	if f.newObject != nil {
		return f.newObject(ctx, name)
	}
	return f.Fs.NewObject(ctx, name)
}

func (f *faulty) Put(ctx context.Context, in io.Reader, src fs.ObjectInfo, options ...fs.OpenOption) (fs.Object, error) {
	if f.put != nil {
		return f.put()
	}
	return f.Fs.Put(ctx, in, src, options...)
}

// faults makes a Source of a folder, in which there is "a".
func faults(t *testing.T) (s *Source, f *faulty, root string) {
	t.Helper()
	root = t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "a"), []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), ":local:"+root, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	f = &faulty{Fs: s.f}
	s.f = f
	return s, f, root
}

func put(ctx context.Context, s *Source, text string, size int64) error {
	_, err := s.Put(ctx, "a", strings.NewReader(text), size, nil, gateway.If{})
	return err
}

// holds fails unless "a" has that text and there are n files.
func holds(t *testing.T, root, text string, n int) {
	t.Helper()
	entries, err := os.ReadDir(root)
	got, missing := os.ReadFile(filepath.Join(root, "a"))
	if string(got) != text || len(entries) != n || errors.Join(err, missing) != nil {
		t.Errorf("%q in %v: %v %v", got, entries, err, missing)
	}
}

// A panicking object cannot be read.
type panicking struct{ fs.Object }

func (panicking) Open(context.Context, ...fs.OpenOption) (io.ReadCloser, error) {
	return panicking{}, nil
}
func (panicking) Read([]byte) (int, error) { panic("a fault") }
func (panicking) Close() error             { panic("another fault") }

// TestFaultOfABackendIsAnError, and not the end of the process.
func TestFaultOfABackendIsAnError(t *testing.T) {
	s, f, root := faults(t)
	for name, fault := range map[string]func() (fs.Object, error){
		"panic":   func() (fs.Object, error) { panic("a fault") },
		"nothing": func() (fs.Object, error) { return nil, nil },
	} {
		f.put = fault
		if err := put(t.Context(), s, "after", 5); !errors.Is(err, gateway.ErrUnavailable) {
			t.Errorf("Put, %s: %v", name, err)
		}
		holds(t, root, "before", 1)
		f.newObject = func(context.Context, string) (fs.Object, error) { return fault() }
		if _, err := s.Open(t.Context(), "a", gateway.Want{}); !errors.Is(err, gateway.ErrUnavailable) {
			t.Errorf("Open, %s: %v", name, err)
		}
		f.newObject = nil
	}
	o, err := s.Open(t.Context(), "a", gateway.Want{})
	if err != nil {
		t.Fatal(err)
	}
	o.(*object).o = panicking{}
	r, err := o.Range(t.Context(), 0, 6)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); !errors.Is(err, gateway.ErrUnavailable) {
		t.Error(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// A standing body tells that it is read, and gives nothing until it is free.
type standing struct{ reached, free chan bool }

func (b standing) Read([]byte) (int, error) {
	b.reached <- true
	<-b.free
	return 0, errors.New("the end")
}

// TestPutEndsWithItsContext while the body stands still, and reads no more of it.
func TestPutEndsWithItsContext(t *testing.T) {
	s, _, root := faults(t)
	for _, size := range []int64{-1, 10} {
		body := standing{make(chan bool, 9), make(chan bool)}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := s.Put(ctx, "a", body, size, nil, gateway.If{})
			done <- err
		}()
		<-body.reached
		cancel()
		select {
		case err := <-done:
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("%d octets: it waits for the body", size)
		}
		close(body.free)
		s.wait()
		if len(body.reached) > 0 {
			t.Errorf("%d octets: the body is read again", size)
		}
	}
	holds(t, root, "before", 1)
}

// TestBodiesInFilesAreBounded together, and what one took is free afterwards.
func TestBodiesInFilesAreBounded(t *testing.T) {
	s, _, root := faults(t)
	s.f.Features().PutStream = nil
	s.room.Store(100_000)
	for range 2 {
		if err := put(t.Context(), s, strings.Repeat("x", 100_001), -1); !errors.Is(err, gateway.ErrFull) {
			t.Error(err)
		}
		holds(t, root, "before", 1)
	}
	for range 2 {
		text := strings.Repeat("y", 100_000)
		if err := put(t.Context(), s, text, -1); err != nil {
			t.Error(err)
		}
		holds(t, root, text, 1)
	}
}

// A stuck object cannot be removed.
type stuck struct{ fs.Object }

func (stuck) Remove(context.Context) error { return errors.New("it is stuck") }

// TestRenamingThatBreaksLosesNothing: of a remote that cannot rename over an object. The
// moves are: the new object over the old one, which is refused; the old one aside; the new
// one in; and what follows after one that failed.
func TestRenamingThatBreaksLosesNothing(t *testing.T) {
	lost := errors.New("connection lost")
	for name, c := range map[string]struct {
		fails   func(n int) bool // tells of the nth that it fails
		happens bool             // it is done all the same
		want    string
		ok      bool
	}{
		"aside, not done":         {func(n int) bool { return n == 2 }, false, "before", false},
		"aside, done":             {func(n int) bool { return n == 2 }, true, "after", true},
		"in, not done":            {func(n int) bool { return n == 3 }, false, "after", true},
		"in, done":                {func(n int) bool { return n == 3 }, true, "after", true},
		"in, never":               {func(n int) bool { return n == 3 || n == 4 }, false, "before", false},
		"over, done":              {func(n int) bool { return n == 1 }, true, "after", true},
		"over, without an answer": {func(n int) bool { return n == 1 }, false, "before", false},
	} {
		t.Run(name, func(t *testing.T) {
			s, _, root := faults(t)
			has, n := s.f.Features(), 0
			rename := has.Move
			has.Move = func(ctx context.Context, o fs.Object, remote string) (fs.Object, error) {
				n++
				broken := c.fails(n)
				if _, err := os.Stat(filepath.Join(root, remote)); err == nil && !broken {
					return nil, errors.New("there is something")
				}
				if broken && !c.happens {
					return nil, lost
				}
				o, err := rename(ctx, o, remote)
				if broken {
					return nil, lost
				}
				return o, err
			}
			if err := put(t.Context(), s, "after", 5); (err == nil) != c.ok {
				t.Error(err)
			}
			holds(t, root, c.want, 1)
		})
	}
}

// TestNothingIsRemovedWhileNothingIsThere: both are kept if neither gets the name back.
func TestNothingIsRemovedWhileNothingIsThere(t *testing.T) {
	s, _, root := faults(t)
	has, n := s.f.Features(), 0
	rename := has.Move
	has.Move = func(ctx context.Context, o fs.Object, remote string) (fs.Object, error) {
		if n++; n != 2 {
			return nil, errors.New("it cannot be renamed")
		}
		return rename(ctx, o, remote)
	}
	err := put(t.Context(), s, "after", 5)
	if err == nil {
		t.Fatal("nothing is said")
	}
	drafts, failed := filepath.Glob(filepath.Join(root, gateway.Draft+"*"))
	var all []byte
	for _, d := range drafts {
		b, _ := os.ReadFile(d)
		all = append(all, b...)
		if !strings.Contains(err.Error(), filepath.Base(d)) {
			t.Errorf("%s is not in %v", d, err)
		}
	}
	if len(drafts) != 2 || !bytes.Contains(all, []byte("before")) || !bytes.Contains(all, []byte("after")) || failed != nil {
		t.Errorf("%q in %v: %v", all, drafts, failed)
	}
	if list, err := s.List(t.Context(), "", 9); len(list) > 0 || err != nil {
		t.Errorf("drafts are shown: %+v %v", list, err)
	}
	if _, err := s.Open(t.Context(), filepath.Base(drafts[0]), gateway.Want{}); !none(err) {
		t.Errorf("a draft is there: %v", err)
	}
}

// TestPutIsDoneThoughTheOldObjectStays, for nobody sees that; and goes on without its
// client once the old one is moved.
func TestPutIsDoneThoughTheOldObjectStays(t *testing.T) {
	s, f, root := faults(t)
	has := s.f.Features()
	rename := has.Move
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	gone := func() {}
	has.Move = func(ctx context.Context, o fs.Object, remote string) (fs.Object, error) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if _, err := os.Stat(filepath.Join(root, remote)); err == nil {
			return nil, errors.New("there is something")
		}
		if remote != "a" {
			gone()
		}
		return rename(ctx, o, remote)
	}
	f.newObject = func(ctx context.Context, name string) (fs.Object, error) {
		o, err := f.Fs.NewObject(ctx, name)
		if err == nil && name != "a" {
			o = stuck{o}
		}
		return o, err
	}
	if err := put(ctx, s, "after", 5); err != nil {
		t.Error(err)
	}
	holds(t, root, "after", 2)
	f.newObject, gone = nil, cancel
	if err := put(ctx, s, "later", 5); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	s.wait()
	holds(t, root, "later", 2)
}
