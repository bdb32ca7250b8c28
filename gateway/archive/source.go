package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/larderhq/larder/gateway"
)

// Options are the same for all kinds of archives. The zero value will do.
type Options struct {
	// Now is the clock that the age of the archive file is told by. Nil: time.Now.
	Now func() time.Time
}

// A Source serves one archive file. It is a gateway.Source, and no Writer. Any number
// of goroutines may use it. Make one with Zip or Tar.
//
// It holds one open file, and one more for each former archive that something
// is still read from.
type Source struct {
	path   string
	format format
	now    func() time.Time
	most   int           // entries
	skips  chan struct{} // one for each range whose beginning is being looked for

	ctx    context.Context // ends with the Source
	cancel context.CancelFunc

	mu     sync.Mutex
	cur    *archive // as last read
	making *flight  // the reading of an index that is under way, if any
}

var _ gateway.Source = (*Source)(nil)

// Zip opens the ZIP file at path, which must be a regular file, and reads its
// directory. The caller closes the Source. Damage is zip.ErrFormat.
func Zip(path string, o Options) (*Source, error) { return open(path, o, readZip, maxEntries) }

// Tar opens the tar file at path, which must be a regular file that is not compressed
// and has its end, two blocks of zeros; and reads all headers. The caller closes the
// Source. Damage is tar.ErrHeader or io.ErrUnexpectedEOF.
func Tar(path string, o Options) (*Source, error) { return open(path, o, readTar, maxEntries) }

func open(path string, o Options, f format, most int) (*Source, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Source{path: path, format: f, now: o.Now, most: most, skips: make(chan struct{}, runtime.GOMAXPROCS(0))}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	a, err := s.load(s.ctx)
	if err == nil && a.broken != nil {
		a.release()
		err = a.broken
	}
	if err != nil {
		s.cancel()
		return nil, fmt.Errorf("archive %s: %w", path, err)
	}
	s.cur = a
	return s, nil
}

// Traits says that this is a tree of folders on this machine.
func (s *Source) Traits() gateway.Traits { return gateway.Traits{} }

// Skipped returns how many entries of the archive as last read are not served
// for their names or kinds.
func (s *Source) Skipped() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cur.index.skipped
}

// Open finds the entry or folder called name. It reads at most the header that a ZIP
// file has in front of the entry; want is ignored.
func (s *Source) Open(ctx context.Context, name string, _ gateway.Want) (gateway.Object, error) {
	if name != "" && !valid(name) {
		return nil, s.about(name, fs.ErrNotExist)
	}
	a, err := s.current(ctx)
	if err != nil {
		return nil, err
	}
	o, err := a.open(name)
	if err != nil {
		a.release()
		return nil, s.about(name, err)
	}
	o.skips, o.about = s.skips, func(err error) error { return s.about(name, err) }
	return o, nil
}

// List tells what is in a folder, in the order of names. It sets all of Info.
func (s *Source) List(ctx context.Context, folder string, limit int) ([]gateway.Info, error) {
	if folder != "" && !valid(folder) {
		return nil, s.about(folder, fs.ErrNotExist)
	}
	a, err := s.current(ctx)
	if err != nil {
		return nil, err
	}
	defer a.release()
	list, ok := a.list(folder, limit)
	if !ok {
		return nil, s.about(folder, fs.ErrNotExist)
	}
	return list, nil
}

// Close lets go of the archive. The files of open objects are closed with the last
// of these.
func (s *Source) Close() error {
	s.cancel()
	s.mu.Lock()
	f := s.making
	s.mu.Unlock()
	if f != nil {
		<-f.done
	}
	s.cur.release()
	return nil
}

// about says which entry of which archive an error is about. What a file system says of
// the archive is nothing about the entry.
func (s *Source) about(name string, err error) error {
	if system := (*fs.PathError)(nil); errors.As(err, &system) {
		return fmt.Errorf("archive %s: %q: %v: %w", s.path, name, err, gateway.ErrUnavailable)
	}
	return fmt.Errorf("archive %s: %q: %w", s.path, name, err)
}

// open makes an Object of the entry or folder called name, which takes over the
// caller's hold on a.
func (a *archive) open(name string) (*object, error) {
	if e, ok := a.index.file(name); ok {
		return a.object(e, false)
	}
	if a.index.folder(name) {
		return &object{a: a, info: gateway.Info{Folder: true}}, nil
	}
	if plain, ok := strings.CutSuffix(name, ".gz"); ok && valid(plain) {
		if e, ok := a.index.file(plain); ok && e.kind == zipFile && e.method == methodDeflate && e.packed > 0 {
			return a.object(e, true)
		}
	}
	return nil, fs.ErrNotExist
}

// list tells of at most limit entries of a folder; false if there is none.
func (a *archive) list(folder string, limit int) ([]gateway.Info, bool) {
	if !a.index.folder(folder) {
		return nil, false
	}
	var infos []gateway.Info
	for name, e := range a.index.in(folder) {
		if len(infos) >= limit {
			break
		}
		info := gateway.Info{Folder: true}
		if e.kind != folderEntry {
			info = a.info(e, false)
		}
		info.Name = name
		infos = append(infos, info)
	}
	return infos, true
}

// regular says what a file is that cannot be an archive.
func regular(info os.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("it is no regular file but %v", info.Mode().Type())
	}
	return nil
}
