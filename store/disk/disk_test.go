package disk

import (
	"context"
	"testing"

	"go.uber.org/goleak"

	"github.com/larderhq/larder/internal/vfs"
	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/storetest"
)

// ctx is for calls that have no use for one.
var ctx = context.Background()

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// mustOpen opens a store or fails the test, waits until it is ready, and closes
// it at the end.
func mustOpen(t testing.TB, opts Options) *Store {
	t.Helper()
	if opts.Notes == nil {
		opts.Notes = func(line string) { t.Log(line) }
	}
	s, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	<-s.Ready()
	return s
}

// roomy are options of a store within the bounds of storetest.
func roomy(fsys ...vfs.FS) Options {
	opts := Options{Segment: 1 << 20, MaxObject: 8 << 20, Buffer: 64 << 20}
	for _, f := range fsys {
		opts.Disks = append(opts.Disks, Disk{FS: f, Size: 64 << 20})
	}
	return opts
}

func TestStoreInFolder(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		dir, err := vfs.Dir(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { dir.Close() })
		return mustOpen(t, roomy(dir))
	})
}
