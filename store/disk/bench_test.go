package disk

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/vfs"
	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/storetest"
)

func BenchmarkStore(b *testing.B) {
	storetest.Bench(b, func(b *testing.B) store.Store { return &patient{mustOpen(b, roomy(folder(b)))} })
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
