package daemon

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"github.com/larderhq/larder/internal/purge"
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

	// decoded is what of Memory is left for decoded heads, for the answers that
	// stand, and what else is kept for those that are used most, in octets; less
	// of a small Memory.
	decoded = 32 << 20

	// leastBuffer and mostBuffer bound what may wait to be written to one disk,
	// in octets. It comes out of Memory, and twice as much for what is on its
	// way to the disk and from there; no more than a quarter of Memory in all.
	leastBuffer = 1 << 20
	mostBuffer  = 8 << 20

	// settling is how long the start waits for the index of the disks: that of
	// a small cache is complete by then, and no request of ours meets a part of
	// it. A large one is read on while we serve.
	settling = 250 * time.Millisecond

	// collectAt is how much the heap may grow over what is in use before the
	// collector runs, in percent. What is kept lies outside the heap; that is
	// small, and so are the collections.
	collectAt = 50

	// ballastLen is what counts as in use besides, in octets, and is never touched,
	// so that it takes no memory: the collector runs once in 12 MiB of garbage and
	// not once in two, which on misses was a fifth of the work.
	ballastLen = 24 << 20
)

// A Disk is a folder that the Daemon may use up to a size.
type Disk struct {
	Dir  string
	Size int64 // octets, at least MinDisk
}

// A larder is what is kept, and what has to be known of it.
type larder struct {
	store store.Store

	// secret is what it was kept with; nil without a disk.
	secret []byte

	// ledger knows what was purged of it, and lineage names what it knows of.
	ledger  *purge.Ledger
	lineage string
}

// openStore makes the store of o. A disk that fails for no fault of the operator's is
// noted, and done without.
func openStore(o *Options) (l larder, err error) {
	upper := memory.Options{Budget: o.Memory - min(o.Memory/16, decoded), Now: func() int64 { return time.Now().Unix() }}
	lower := disk.Options{Segment: mostSegment, Buffer: max(leastBuffer, min(o.Memory/16, mostBuffer)), Notes: func(line string) { o.Notes.Warn(line) }}
	for _, d := range o.Disks {
		folder, err := openFolder(d.Dir, vfs.Dir)
		switch {
		case err != nil && ailing(err):
			o.Notes.Warn(fmt.Sprintf("disk %s: not used until the next start: %v", d.Dir, err))
			continue
		case err != nil:
			return l, &Error{Option: "Disks", Err: err}
		}
		lower.Disks = append(lower.Disks, disk.Disk{FS: folder, Size: d.Size, Name: d.Dir})
		lower.Segment = min(lower.Segment, max(d.Size/segments&^(leastSegment-1), leastSegment))
	}
	ledger := purge.Options{Paths: o.Storage != nil, Plain: o.HTTPS == nil}
	if len(lower.Disks) == 0 {
		return larder{store: memory.New(upper), ledger: purge.New(ledger)}, nil
	}
	upper.Budget -= min(3*int64(len(lower.Disks))*lower.Buffer, o.Memory/4)
	upper.MaxObject = min(o.Memory/4, mostRaised)
	used := inUse(lower.Disks)
	d, err := disk.Open(lower)
	if err != nil {
		return l, &Error{Option: "Disks", Err: err}
	}
	select {
	case <-d.Ready():
	case <-time.After(settling):
	}
	ledger.Journal, l.lineage = openJournal(lower.Disks, lower.Notes)
	if used && ledger.Journal != nil && ledger.Journal.Fresh() {
		lower.Notes("the disks have no journal of purges that can be read: all that was kept there counts as purged, and scheduled purges are forgotten")
	}
	l.store, l.secret, l.ledger = tier.New(upper, d), lasting(lower.Disks, lower.Notes), purge.New(ledger)
	return l, nil
}

// inUse tells whether there is anything on the disks.
func inUse(disks []disk.Disk) bool {
	return slices.ContainsFunc(disks, func(d disk.Disk) bool {
		names, err := d.FS.List()
		return err == nil && len(names) > 0
	})
}

// openJournal opens the journal of purges on the disks. Without one nobody knows what was
// purged of what they have, so that it is not used.
func openJournal(disks []disk.Disk, note func(string)) (j *purge.Journal, lineage string) {
	folders := make([]purge.Folder, len(disks))
	for i, d := range disks {
		folders[i] = purge.Folder{FS: d.FS, Name: d.Name}
	}
	j, err := purge.OpenJournal(folders, note)
	if err != nil {
		note(fmt.Sprintf("the journal of purges cannot be written: %v; what is kept now will not be found after a restart", err))
		return nil, rand.Text()
	}
	return j, j.Lineage()
}

// openFolder opens a folder, at the second attempt if the first one failed.
func openFolder(dir string, open func(string) (*vfs.Folder, error)) (*vfs.Folder, error) {
	folder, err := open(dir)
	if err != nil {
		folder, err = open(dir)
	}
	return folder, err
}

// ailing says whether err is of a device that fails, or of a system that is short
// of something, and not of a wrong name or a missing right.
func ailing(err error) bool {
	for _, is := range []error{
		syscall.EIO, syscall.ENXIO, syscall.ENODEV, syscall.ETIMEDOUT, syscall.ESTALE,
		syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EINTR,
	} {
		if errors.Is(err, is) {
			return true
		}
	}
	return false
}

const (
	secretName   = "secret"
	secretOctets = 32
)

// lasting returns the secret of the disks: what varies by a cookie or by
// credentials is found by a hash under it (rules.Terms). The first disk that has
// one gives it to those that have none. If none has one that can be read, there is
// a new one, and what was kept under another is not found, which is noted.
func lasting(disks []disk.Disk, note func(string)) (secret []byte) {
	var lacking []disk.Disk // and it can be mended
	unread := false
	for _, d := range disks {
		found, err := readSecret(d.FS)
		switch {
		case err != nil:
			note(fmt.Sprintf("disk %s: its secret cannot be read: %v", d.Name, err))
			unread = true
		case found == nil:
			lacking = append(lacking, d)
		case secret == nil:
			secret = found
		}
	}
	if secret == nil {
		secret = make([]byte, secretOctets)
		_, _ = rand.Read(secret) // never fails
		if unread {
			note("a new secret is used: what was kept and varies by cookies or credentials is not found")
		}
	}
	for _, d := range lacking {
		if err := writeSecret(d.FS, secret); err != nil {
			note(fmt.Sprintf("disk %s: its secret cannot be written: %v; what is kept and varies by cookies or credentials will not be found after a restart", d.Name, err))
		}
	}
	return secret
}

// readSecret returns the secret that a disk has, nil if it has none or one that
// was cut short.
func readSecret(folder vfs.FS) ([]byte, error) {
	f, err := folder.Open(secretName, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	secret := make([]byte, secretOctets)
	switch n, err := f.ReadAt(secret, 0); {
	case n == secretOctets:
		return secret, nil
	case err == io.EOF:
		return nil, nil
	default:
		return nil, err
	}
}

// writeSecret makes a secret that of a disk, at one stroke.
func writeSecret(folder vfs.FS, secret []byte) error {
	const draft = secretName + ".new"
	f, err := folder.Open(draft, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(secret, 0)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return errors.Join(folder.Rename(draft, secretName), folder.Sync())
}

// calmCollector bounds the garbage, unless the operator has a wish of his own. The
// caller keeps what is returned for as long as that is to hold.
func calmCollector() (ballast []byte) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
		ballast = make([]byte, ballastLen)
	}
	return ballast
}
