package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/vfs"
	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/storetest"
)

func BenchmarkStore(b *testing.B) {
	storetest.Bench(b, func(b *testing.B) store.Store { return &patient{mustOpen(b, roomy(folder(b)))} })
}

// BenchmarkHit is what a response costs that is on disk and in the page cache:
// to look it up, to read its head, and to copy its body to where it costs
// nothing, or to a client on this machine.
func BenchmarkHit(b *testing.B) {
	for _, size := range []int{4 << 10, 64 << 10, 10 << 20} {
		for _, to := range []string{"nowhere", "socket"} {
			b.Run(fmt.Sprintf("%dKiB/%s", size>>10, to), func(b *testing.B) {
				benchHit(b, size, to == "socket")
			})
		}
	}
}

func benchHit(b *testing.B, size int, toSocket bool) {
	s := mustOpen(b, Options{Disks: []Disk{{FS: folder(b), Size: 512 << 20}}, Buffer: 64 << 20})
	keys := make([]store.Key, min(64, 80<<20/size))
	for i := range keys {
		keys[i] = fmt.Appendf(nil, "site\x00https://www.example.com/a/path/of/usual/length/%d", i)
		stock(b, &patient{s}, keys[i], size)
	}
	to := io.Discard
	if toSocket {
		to = drain(b)
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := serve(s, keys[i%len(keys)], to); err != nil {
			b.Fatal(err)
		}
	}
}

// stock commits size octets under key.
func stock(b *testing.B, s *patient, key store.Key, size int) {
	w, err := s.Create(ctx, key, store.Head{Octets: make([]byte, 500)}, int64(size))
	if err != nil {
		b.Fatal(err)
	}
	defer w.Abort(nil)
	for left := size; left > 0; left -= min(left, blockLen) {
		if _, err := w.Write(make([]byte, min(left, blockLen))); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := w.Commit(ctx); err != nil {
		b.Fatal(err)
	}
	if err := s.Flush(ctx); err != nil {
		b.Fatal(err)
	}
}

// serve copies what is under key to a client.
func serve(s *Store, key store.Key, to io.Writer) error {
	var room [1]store.Entry
	es, err := s.Lookup(ctx, key, room[:0])
	if err != nil || len(es) != 1 {
		return fmt.Errorf("%d entries, %w", len(es), err)
	}
	if _, err := s.Head(ctx, key, es[0].ID, es[0].Rev); err != nil {
		return err
	}
	r, err := s.Open(ctx, key, es[0].ID, 0, -1)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = r.(io.WriterTo).WriteTo(to)
	return err
}

// drain returns a connection to somebody who reads all and does nothing with it.
func drain(b *testing.B) io.Writer {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		b.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		room := make([]byte, 1<<20)
		for {
			if _, err := client.Read(room); err != nil {
				return
			}
		}
	}()
	b.Cleanup(func() { server.Close(); client.Close(); <-ended })
	return onlyWriter{server}
}

// A patient store waits with what it begins until the disk has come on: so that
// what is measured is the disk, and not how quickly it refuses.
type patient struct{ *Store }

func (p *patient) Create(ctx context.Context, key store.Key, head store.Head, size int64) (store.Writer, error) {
	v := p.volumeOf(0)
	for {
		v.mu.Lock()
		ok := v.log.octets < v.log.room/2 && len(v.places.free) > 0
		moved := v.log.moved
		v.mu.Unlock()
		if ok {
			return p.Store.Create(ctx, key, head, size)
		}
		<-moved
	}
}

// folder is a disk in the system's folder for temporary files.
func folder(t testing.TB) vfs.FS {
	dir, err := vfs.Dir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return dir
}

// BenchmarkRestart opens a disk of a million small entries: after a run that
// ended in peace, and after one that was killed before it had saved its index.
func BenchmarkRestart(b *testing.B) {
	const entries = 1_000_000
	opts := Options{Disks: []Disk{{FS: folder(b), Size: 2 << 30}}, CheckpointEvery: time.Hour}
	s := mustOpen(b, opts)
	began := time.Now()
	o := &store.Object{Head: store.Head{Octets: make([]byte, 100)}, Size: 100, Body: zeros{}}
	for n := range entries {
		o.Key, o.ID = fmt.Append(o.Key[:0], "http://example.com/", n), s.NextID()
		for err := s.Put(o); err != nil; err = s.Put(o) {
			if !errors.Is(err, store.ErrFull) {
				b.Fatal(err)
			}
			if err := s.Flush(ctx); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Logf("Put: %v an entry; the index has %.1f octets for each",
		time.Since(began)/entries, float64(s.Stats().IndexBytes)/entries)
	if err := s.Flush(ctx); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		for _, peace := range []bool{true, false} {
			if peace {
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
			} else {
				slay(b, s)
			}
			began := time.Now()
			var err error
			if s, err = Open(opts); err != nil {
				b.Fatal(err)
			}
			opened := time.Since(began)
			<-s.Ready()
			ready := time.Since(began)
			if got := s.Stats().Objects; got != entries {
				b.Fatalf("%d entries are there", got)
			}
			b.ReportMetric(float64(opened.Milliseconds()), fmt.Sprintf("ms-open-peace-%t", peace))
			b.ReportMetric(float64(ready.Milliseconds()), fmt.Sprintf("ms-ready-peace-%t", peace))
		}
	}
	s.Close()
}

type zeros struct{}

func (zeros) ReadAt(p []byte, _ int64) (int, error) { clear(p); return len(p), nil }

// slay ends s as if its process had died, and with no saved index left.
func slay(t testing.TB, s *Store) {
	v := s.volumeOf(0)
	if err := v.removeCheckpoints(""); err != nil {
		t.Fatal(err)
	}
	s.die()
	s.tending.Wait()
	v.mu.Lock()
	v.stopped = true
	v.mu.Unlock()
	v.die()
	signal(v.log.wake)
	v.work.Wait()
	v.release()
	if err := s.disks[0].lock.Close(); err != nil {
		t.Fatal(err)
	}
}
