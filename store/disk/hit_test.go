package disk

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larderhq/larder/internal/vfs"
	"github.com/larderhq/larder/store"
)

// What one request asks of an entry is read from the disk once: all of it if it
// is short, and otherwise its start and its body.
func TestReadsOfAHit(t *testing.T) {
	var reads atomic.Int64
	disk := &vfs.Faulty{FS: vfs.NewMem(1 << 30), Hook: func(op vfs.Op) vfs.Fault {
		if op.Kind == vfs.OpReadAt && op.Name == segmentsName {
			reads.Add(1)
		}
		return vfs.Fault{}
	}}
	s := mustOpen(t, roomy(disk))
	defer s.Close()
	<-s.Ready()
	for _, c := range []struct {
		size int
		want int64
	}{{0, 1}, {4 << 10, 1}, {20 << 10, 2}, {64 << 10, 2}, {256 << 10, 3}} {
		put(t, s, "k", c.size, ids(t, s, "k")...)
		if err := s.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		reads.Store(0)
		if got := content(t, s, "k"); !bytes.Equal(got, pattern("k", 0, c.size)) {
			t.Fatalf("%d octets are %d others", c.size, len(got))
		}
		if got := reads.Load(); got != c.want {
			t.Errorf("a hit of %d octets takes %d reads, want %d", c.size, got, c.want)
		}
	}
}

// ids returns what is under key.
func ids(t *testing.T, s *Store, key string) (all []store.ID) {
	t.Helper()
	es, err := s.Lookup(ctx, store.Key(key), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range es {
		all = append(all, e.ID)
	}
	return all
}

// content does what a hit does.
func content(t *testing.T, s *Store, key string) []byte {
	t.Helper()
	es, err := s.Lookup(ctx, store.Key(key), nil)
	if err != nil || len(es) != 1 {
		t.Fatalf("%d entries, %v", len(es), err)
	}
	if _, err := s.Head(ctx, store.Key(key), es[0].ID, es[0].Rev); err != nil {
		t.Fatal(err)
	}
	r, err := s.Open(ctx, store.Key(key), es[0].ID, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// What was looked up may change before it is opened: what is served is what is
// there then.
func TestKeptIsAskedAgain(t *testing.T) {
	for what, change := range map[string]func(s *Store, k store.Key, e store.Entry) error{
		"removed": func(s *Store, k store.Key, e store.Entry) error { return s.Remove(ctx, k, e.ID) },
		"retired": func(s *Store, _ store.Key, _ store.Entry) error {
			v := s.volumeOf(0)
			v.mu.Lock()
			place := v.places.current
			v.mu.Unlock()
			v.seqs[place].Add(1) // as if it lived again
			return nil
		},
	} {
		s := mustOpen(t, quiet(tiny(vfs.NewMem(1<<30))))
		<-s.Ready()
		key := store.Key("k")
		put(t, s, "k", 100)
		es, err := s.Lookup(ctx, key, nil)
		if err != nil || len(es) != 1 {
			t.Fatalf("%d entries, %v", len(es), err)
		}
		if err := change(s, key, es[0]); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Head(ctx, key, es[0].ID, es[0].Rev); !errors.Is(err, store.ErrGone) {
			t.Errorf("Head of what was %s: %v, want ErrGone", what, err)
		}
		if _, err := s.Open(ctx, key, es[0].ID, 0, -1); !errors.Is(err, store.ErrGone) {
			t.Errorf("Open of what was %s: %v, want ErrGone", what, err)
		}
		s.Close()
	}
}

// A read that was left behind does not write to what others read by now.
func TestReadLeftBehind(t *testing.T) {
	hang, begun := make(chan struct{}), make(chan struct{}, 1)
	var hangs atomic.Bool
	disk := &vfs.Faulty{FS: vfs.NewMem(1 << 30), Hook: func(op vfs.Op) vfs.Fault {
		if op.Kind == vfs.OpReadAt && op.Len > startLen && hangs.CompareAndSwap(true, false) {
			begun <- struct{}{}
			return vfs.Fault{}.After(hang)
		}
		return vfs.Fault{}
	}}
	s := mustOpen(t, roomy(disk))
	defer s.Close()
	const size = 60_000
	entries := map[string]store.ID{}
	for _, key := range []string{"a", "b"} {
		entries[key] = put(t, s, key, size).ID
	}
	if err := s.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	limited, cancel := context.WithCancel(ctx)
	hangs.Store(true)
	go func() { <-begun; cancel() }()
	if _, err := s.Open(limited, store.Key("a"), entries["a"], 0, -1); !errors.Is(err, context.Canceled) {
		t.Fatalf("Open: %v, want Canceled", err)
	}
	var readers []io.ReadCloser
	for range 10 {
		r, err := s.Open(ctx, store.Key("b"), entries["b"], 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		readers = append(readers, r)
	}
	close(hang)
	for s.volumeOf(0).watch.longest() > 0 {
		runtime.Gosched() // to who reads yet
	}
	for _, r := range readers {
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, pattern("b", 0, size)) {
			t.Fatalf("%d octets that are not those of b, or %v", len(got), err)
		}
	}
}

// A prompt FS has files whose ReadNow is now.
type prompt struct {
	vfs.FS
	now func(f vfs.File, p []byte, off int64) (int, error)
}

type promptFile struct {
	vfs.File
	fs *prompt
}

func (f *prompt) Open(name string, flag int) (vfs.File, error) {
	file, err := f.FS.Open(name, flag)
	if err != nil {
		return nil, err
	}
	return promptFile{file, f}, nil
}

func (f promptFile) ReadNow(p []byte, off int64) (int, error) { return f.fs.now(f.File, p, off) }

// What the system has in memory may be a part of what is wanted, or nothing.
func TestReadNowMayGiveLess(t *testing.T) {
	asked := 0
	disk := &prompt{vfs.NewMem(1 << 30), func(f vfs.File, p []byte, off int64) (int, error) {
		asked++
		return f.ReadAt(p[:len(p)*(asked%4)/3], off)
	}}
	s := mustOpen(t, roomy(disk))
	defer s.Close()
	put(t, s, "k", 300_000)
	if err := s.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if got := content(t, s, "k"); !bytes.Equal(got, pattern("k", 0, 300_000)) {
			t.Fatalf("%d octets are others", len(got))
		}
	}
	if asked < 20 {
		t.Errorf("ReadNow was asked %d times", asked)
	}
}

// A file system that cannot tell is asked once.
func TestReadNowUnsupported(t *testing.T) {
	asked := 0
	disk := &prompt{vfs.NewMem(1 << 30), func(vfs.File, []byte, int64) (int, error) {
		asked++
		return 0, syscall.EOPNOTSUPP
	}}
	s := mustOpen(t, roomy(disk))
	defer s.Close()
	<-s.Ready()
	put(t, s, "k", 100_000)
	if err := s.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if got := content(t, s, "k"); !bytes.Equal(got, pattern("k", 0, 100_000)) {
		t.Fatalf("%d octets are others", len(got))
	}
	if asked != 1 {
		t.Errorf("ReadNow was asked %d times", asked)
	}
}

// A disk that keeps somebody waiting is not asked what it has in memory: that may
// take as long, and nobody could be called back from it.
func TestReadNowNotOfOneThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		var broken atomic.Bool
		var asked atomic.Int64
		under := &vfs.Faulty{FS: vfs.NewMem(1 << 30), Hook: func(op vfs.Op) vfs.Fault {
			if broken.Load() && op.Kind == vfs.OpReadAt {
				return vfs.Fault{}.After(hang)
			}
			return vfs.Fault{}
		}}
		opts := tiny(&prompt{under, func(vfs.File, []byte, int64) (int, error) {
			asked.Add(1)
			return 0, nil
		}})
		opts.Patience = 8 * time.Second
		s := mustOpen(t, opts)
		e := put(t, s, "k", 40_000)
		if err := s.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		open := func() {
			if _, err := s.Open(ctx, store.Key("k"), e.ID, 0, -1); !errors.Is(err, store.ErrGone) {
				t.Errorf("Open: %v, want ErrGone", err)
			}
		}
		broken.Store(true)
		go open()
		<-time.After(2 * time.Second)
		if n := asked.Swap(0); n == 0 {
			t.Error("ReadNow was never asked")
		}
		open()
		if n := asked.Load(); n > 0 {
			t.Errorf("ReadNow was asked %d times", n)
		}
		s.Close()
		close(hang)
	})
}
