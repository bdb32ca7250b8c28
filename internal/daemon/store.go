package daemon

import (
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"runtime/debug"
	"time"

	"github.com/larderhq/larder/internal/vfs"
	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/disk"
	"github.com/larderhq/larder/store/memory"
	"github.com/larderhq/larder/store/tier"
)

const (
	// MinDisk is the least that a Disk may take, in octets.
	MinDisk = 16 << 20

	// leastSegment and mostSegment bound the segments of a disk, in octets: a
	// small disk has small ones, or it would forget too much at a time.
	leastSegment = 1 << 20
	mostSegment  = 64 << 20
	segments     = 64

	// mostRaised is the longest body that is kept in memory where there is a
	// disk, in octets: what is longer is as well read from there.
	mostRaised = 4 << 20

	// settling is how long the start waits for the index of the disks: that of
	// a small cache is complete by then, and no request of ours meets a part of
	// it. A large one is read on while we serve.
	settling = 250 * time.Millisecond

	// collectAt is how much the heap may grow over what is in use before the
	// collector runs, in percent. What is kept lies outside the heap; that is
	// small, and so are the collections.
	collectAt = 50
)

// A Disk is a folder that the Daemon may use up to a size.
type Disk struct {
	Dir  string
	Size int64 // octets, at least MinDisk
}

// openStore makes the store of o, and finds the secret that what is on disk was
// kept with; nil without a disk.
func openStore(o *Options) (s store.Store, secret []byte, err error) {
	upper := memory.Options{Budget: o.Memory, Now: func() int64 { return time.Now().Unix() }}
	if len(o.Disks) == 0 {
		return memory.New(upper), nil, nil
	}
	upper.MaxObject = min(o.Memory/8, mostRaised)
	lower := disk.Options{Segment: mostSegment, Notes: func(line string) { o.Notes.Warn(line) }}
	for _, d := range o.Disks {
		folder, err := vfs.Dir(d.Dir)
		if err != nil {
			return nil, nil, &Error{Option: "Disks", Err: err}
		}
		if secret == nil {
			if secret, err = lasting(folder); err != nil {
				return nil, nil, &Error{Option: "Disks", Err: err}
			}
		}
		lower.Disks = append(lower.Disks, disk.Disk{FS: folder, Size: d.Size, Name: d.Dir})
		lower.Segment = min(lower.Segment, max(d.Size/segments&^(leastSegment-1), leastSegment))
	}
	d, err := disk.Open(lower)
	if err != nil {
		return nil, nil, &Error{Option: "Disks", Err: err}
	}
	select {
	case <-d.Ready():
	case <-time.After(settling):
	}
	return tier.New(upper, d), secret, nil
}

const (
	secretName   = "secret"
	secretOctets = 32
)

// lasting returns the secret of a disk, and makes one on a new disk: what varies
// by a cookie or by credentials is found by a hash under it (rules.Terms). One
// that was cut short is made anew, and what was kept under it is not found.
func lasting(folder vfs.FS) ([]byte, error) {
	secret := make([]byte, secretOctets)
	f, err := folder.Open(secretName, os.O_RDONLY)
	switch {
	case err == nil:
		n, err := f.ReadAt(secret, 0)
		if cerr := f.Close(); n == secretOctets || err != io.EOF {
			return secret, errors.Join(err, cerr)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	const draft = secretName + ".new"
	if f, err = folder.Open(draft, os.O_RDWR|os.O_CREATE|os.O_TRUNC); err != nil {
		return nil, err
	}
	_, _ = rand.Read(secret) // never fails
	_, err = f.WriteAt(secret, 0)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, err
	}
	return secret, errors.Join(folder.Rename(draft, secretName), folder.Sync())
}

// calmCollector bounds the garbage, unless the operator has a wish of his own.
func calmCollector() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
}
