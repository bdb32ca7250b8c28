package tier

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"

	"github.com/larderhq/larder/internal/vfs"
	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/memory"
)

// A watchedFS calls write before each write to its files, and read before each
// read.
type watchedFS struct {
	vfs.FS
	write, read atomic.Pointer[func()]
}

type watchedFile struct {
	vfs.File
	fs *watchedFS
}

func (fs *watchedFS) Open(name string, flag int) (vfs.File, error) {
	f, err := fs.FS.Open(name, flag)
	if err != nil {
		return nil, err
	}
	return watchedFile{f, fs}, nil
}

func (f watchedFile) WriteAt(p []byte, off int64) (int, error) {
	if do := f.fs.write.Load(); do != nil {
		(*do)()
	}
	return f.File.WriteAt(p, off)
}

func (f watchedFile) ReadAt(p []byte, off int64) (int, error) {
	if do := f.fs.read.Load(); do != nil {
		(*do)()
	}
	return f.File.ReadAt(p, off)
}

// crowd fills memory, so that all that was there leaves.
func crowd(t *testing.T, s *Store, name string) {
	t.Helper()
	for i := range 200 {
		mustPut(t, s, fmt.Sprint(name, i), 1, 20_000)
	}
}

// What leaves memory while what replaces it is committed on disk does not stay
// there.
func TestReplacedWhileItLeaves(t *testing.T) {
	fs := &watchedFS{FS: vfs.NewMem(1 << 30)}
	s := over(t, fs, 1<<20)
	old := mustPut(t, s, "k", 1, 20_000)
	crowd(t, s, "before ")
	s.raise(store.Key("k"), old.ID)                                                       // the disk lends it
	w, err := s.Create(ctx, store.Key("k"), store.Head{Octets: make([]byte, 8)}, 100_000) // too long for memory
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 100_000)); err != nil {
		t.Fatal(err)
	}
	if err := s.disk.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if es, _ := s.memory.Lookup(ctx, store.Key("k"), nil); len(es) != 1 {
		t.Fatal("the old one is not in memory")
	}
	began, goOn := make(chan struct{}), make(chan struct{})
	hold := func() {
		fs.write.Store(nil)
		close(began)
		<-goOn
	}
	fs.write.Store(&hold)
	var e store.Entry
	done := make(chan error)
	go func() {
		var err error
		e, err = w.Commit(ctx, old.ID)
		done <- err
	}()
	<-began
	for es := []store.Entry(nil); len(es) == 0; { // until it is in the index
		es, _ = s.disk.Lookup(ctx, store.Key("k"), nil)
	}
	for i := range 300 { // into memory, past the stripes
		o := &store.Object{Key: fmt.Appendf(nil, "during %d", i), ID: s.disk.NextID(), Size: 20_000, Body: bytes.NewReader(make([]byte, 20_000))}
		s.memory.Put(o) // refused at first
		s.memory.Put(o)
	}
	if es, _ := s.memory.Lookup(ctx, store.Key("k"), nil); len(es) != 0 {
		t.Fatal("the old one has not left memory")
	}
	close(goOn)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if es, err := s.Lookup(ctx, store.Key("k"), nil); err != nil || len(es) != 1 || es[0].ID != e.ID {
		t.Errorf("there is %+v, %v; want %d alone, without %d", es, err, e.ID, old.ID)
	}
}

// A commit that cannot make sure of what it replaces leaves nothing, also where
// its entry has left memory meanwhile.
func TestUndone(t *testing.T) {
	fs := &watchedFS{FS: vfs.NewMem(1 << 30)}
	s := over(t, fs, 1<<20)
	old := mustPut(t, s, "k", 1, 20_000)
	crowd(t, s, "before ")
	w, err := s.Create(ctx, store.Key("k"), store.Head{Octets: make([]byte, 8)}, 20_000)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 20_000)); err != nil {
		t.Fatal(err)
	}
	if w.(*writer).onDisk {
		t.Fatal("it is not in memory")
	}
	if err := s.disk.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	dying, die := context.WithCancel(ctx)
	hold := func() { // the disk takes its time to remove the old one
		fs.write.Store(nil)
		for i := range 100 {
			o := &store.Object{Key: fmt.Appendf(nil, "during %d", i), ID: s.disk.NextID(), Size: 20_000, Body: bytes.NewReader(make([]byte, 20_000))}
			s.memory.Put(o)
			s.memory.Put(o)
		}
		die()
	}
	fs.write.Store(&hold)
	e, err := w.Commit(dying, old.ID)
	w.Abort(err)
	if err == nil {
		return // it was quick enough
	}
	if !errors.Is(err, context.Canceled) {
		t.Fatal(e, err)
	}
	if es, err := s.Lookup(ctx, store.Key("k"), nil); err != nil || len(es) != 0 {
		t.Errorf("there is %+v, %v after a commit that failed", es, err)
	}
}

// A late reader of a writer finds the body wherever it is by then.
func TestOpenOfCommitted(t *testing.T) {
	s := over(t, vfs.NewMem(1<<30), 1<<20)
	whole := body("k", 1, 20_000)
	w, err := s.Create(ctx, store.Key("k"), store.Head{}, 20_000)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(whole)
	if _, err := w.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	crowd(t, s, "other ")
	r, err := w.Open(ctx, 5)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, whole[5:]) {
		t.Errorf("%d octets, %v", len(got), err)
	}
}

// A late is a writer that does something before it is opened.
type late struct {
	store.Writer
	before func()
}

func (l *late) Open(ctx context.Context, off int64) (io.ReadCloser, error) {
	if do := l.before; do != nil {
		l.before = nil
		do()
	}
	return l.Writer.Open(ctx, off)
}

// Who opens a body that goes over to disk at this moment reads it there.
func TestOpenWhileItMoves(t *testing.T) {
	s := New(memory.Options{Budget: 4 << 20, MaxObject: 1 << 20}, lower(t, vfs.NewMem(1<<30), 128<<20))
	defer s.Close()
	for _, size := range []int{1000, 100_000} {
		whole := body("k", 1, size)
		made, err := s.Create(ctx, store.Key("k"), store.Head{}, -1)
		if err != nil {
			t.Fatal(err)
		}
		w := made.(*writer)
		if _, err := w.Write(whole); err != nil {
			t.Fatal(err)
		}
		w.inner = &late{w.inner, func() {
			if !w.move() {
				t.Error("it did not move")
			}
		}}
		r, err := w.Open(ctx, 0)
		if err != nil {
			t.Fatalf("of %d octets: %v", size, err)
		}
		if _, err := w.Commit(ctx); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		r.Close()
		if err != nil || !bytes.Equal(got, whole) {
			t.Errorf("%d octets of %d, %v", len(got), size, err)
		}
	}
}

// Changes to other keys keep nobody from looking up, however slow the disk is.
func TestLookupAmongChanges(t *testing.T) {
	fs := &watchedFS{FS: vfs.NewMem(1 << 30)}
	s := over(t, fs, 1<<20)
	e := mustPut(t, s, "k", 1, 20_000)
	crowd(t, s, "other ")
	if err := s.disk.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	st := s.stripeOf(store.Key("k"))
	var reads atomic.Int64
	change := func() {
		if reads.Add(1) < 1000 && st.mu.TryLock() { // as one of a key that shares the stripe
			st.turns.Add(2)
			st.mu.Unlock()
		}
	}
	fs.read.Store(&change)
	es, err := s.Lookup(ctx, store.Key("k"), nil)
	fs.read.Store(nil)
	if err != nil || len(es) != 1 || es[0].ID != e.ID {
		t.Errorf("there is %+v, %v", es, err)
	}
	if n := reads.Load(); n == 0 || n > 100 {
		t.Errorf("it took %d reads", n)
	}
}
