// Package file is a folder of this machine as a gateway.Source. Nothing outside the
// folder can be reached, whatever links lead there and whoever swaps them meanwhile
// (os.Root).
package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/larderhq/larder/gateway"
)

// settled is how long a file must have been left alone before its times identify its
// octets: within the granularity of a file system's clock (2 s on FAT) it can change
// and keep them.
const settled = 2 * time.Second

// A Source is a folder. Make one with Open. Any number of goroutines may use it.
//
// A version is made of inode, size, and the times of modification and of change.
// Only regular files are served.
type Source struct {
	path string
	root *os.Root
	now  func() time.Time

	// writing has one change of a name at a time. Other programs may come between
	// looking and renaming.
	writing sync.Mutex
}

// Options are for tests; the zero value is right.
type Options struct {
	Now func() time.Time // nil: time.Now
}

// Open opens the folder at path. It stays the same one if it is renamed.
func Open(path string) (*Source, error) { return Options{}.Open(path) }

// Open opens the folder at path.
func (o Options) Open(path string) (*Source, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("folder %q does not exist; create it or name another: %w", path, err)
	case err != nil:
		return nil, fmt.Errorf("folder %q cannot be used; check its permissions: %w", path, err)
	case !info.IsDir():
		return nil, fmt.Errorf("%q is a file, not a folder; name the folder that it is in", path)
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("folder %q cannot be opened; check its permissions: %w", path, err)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Source{path: path, root: root, now: o.Now}, nil
}

// Holds tells whether a path of this machine, which need not exist yet, is inside the folder.
func (s *Source) Holds(name string) bool {
	top, err := real(s.path)
	inner, err2 := real(name)
	rel, err3 := filepath.Rel(top, inner)
	return errors.Join(err, err2, err3) == nil && filepath.IsLocal(rel)
}

// real is a path without links, as far as it exists.
func real(name string) (string, error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	for rest := ""; ; {
		p, err := filepath.EvalSymlinks(abs)
		if !errors.Is(err, fs.ErrNotExist) || abs == filepath.Dir(abs) {
			return filepath.Join(p, rest), err
		}
		abs, rest = filepath.Dir(abs), filepath.Join(filepath.Base(abs), rest)
	}
}

// Close implements gateway.Source. Files that are open can be read to their end.
func (s *Source) Close() error { return s.root.Close() }

// Traits implements gateway.Source.
func (s *Source) Traits() gateway.Traits { return gateway.Traits{} }

// local is a name as the folder knows it.
func local(name string) (string, error) {
	if !gateway.ValidName(name, false) || strings.Contains("/"+name, "/"+gateway.Draft) {
		return "", fmt.Errorf("%q is no name of a file: %w", name, fs.ErrNotExist)
	}
	return path.Clean(name), nil // "" is "."
}

// Open implements gateway.Source. The hint is of no use: looking costs nothing.
func (s *Source) Open(_ context.Context, name string, _ gateway.Want) (gateway.Object, error) {
	name, err := local(name)
	if err != nil {
		return nil, err
	}
	f, info, err := s.open(name)
	if err != nil {
		return nil, absent(err)
	}
	return &object{f: f, was: info, info: s.describe(info)}, nil
}

// errKind is the error for what is neither file nor folder.
var errKind = fmt.Errorf("neither a regular file nor a folder: %w", fs.ErrNotExist)

// open opens a regular file or a folder. What name leads to may change at any time, so
// that what counts is the opened file; looking before keeps devices from being opened
// at all, and not blocking is for those that come between.
func (s *Source) open(name string) (*os.File, fs.FileInfo, error) {
	info, err := s.root.Stat(name)
	if err == nil && !serveable(info) {
		err = errKind
	}
	if err != nil {
		return nil, nil, err
	}
	f, err := s.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err = f.Stat()
	if err == nil && !serveable(info) {
		err = errKind
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, info, nil
}

func serveable(info fs.FileInfo) bool { return info.Mode().IsRegular() || info.IsDir() }

// absent has errors say what a Handler understands: what leads nowhere, or outside, is
// not there.
func absent(err error) error {
	var no syscall.Errno
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission), errors.Is(err, fs.ErrClosed):
		return err
	case errors.As(err, &no):
		switch no {
		case syscall.ENOTDIR, syscall.ELOOP, syscall.ENAMETOOLONG, syscall.EINVAL, syscall.EXDEV:
			return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
		case syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG:
			return fmt.Errorf("%w: %w", gateway.ErrFull, err)
		case syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ESTALE, syscall.EINTR:
			return fmt.Errorf("%w: %w", gateway.ErrUnavailable, err)
		case syscall.EISDIR:
			return fmt.Errorf("%w: %w", fs.ErrPermission, err)
		}
		return err
	}
	var path *fs.PathError
	var link *os.LinkError
	if errors.As(err, &path) || errors.As(err, &link) {
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err) // os.Root: the name leads outside
	}
	return err
}

// describe tells of a file or folder.
func (s *Source) describe(info fs.FileInfo) gateway.Info {
	if info.IsDir() {
		return gateway.Info{Folder: true}
	}
	version, since := identity(info)
	return gateway.Info{Size: info.Size(), Modified: info.ModTime(), Version: version, Certain: s.now().Sub(since) >= settled}
}

// List implements gateway.Source. What a link leads to counts.
func (s *Source) List(_ context.Context, folder string, limit int) ([]gateway.Info, error) {
	folder, err := local(folder)
	if err != nil {
		return nil, err
	}
	dir, info, err := s.open(folder)
	if err != nil {
		return nil, absent(err)
	}
	defer dir.Close() // opened for reading
	if !info.IsDir() {
		return nil, fmt.Errorf("%q is no folder: %w", folder, fs.ErrNotExist)
	}
	var infos []gateway.Info
	for len(infos) < limit {
		entries, err := dir.ReadDir(min(limit, 1000))
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), gateway.Draft) {
				continue
			}
			info, err := s.root.Stat(path.Join(folder, e.Name())) // follows links
			if err == nil && serveable(info) && len(infos) < limit {
				i := s.describe(info)
				i.Name = e.Name()
				infos = append(infos, i)
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	return infos, nil
}

// An object is an open file or folder.
type object struct {
	f    *os.File
	was  fs.FileInfo
	info gateway.Info
}

func (o *object) Info() gateway.Info { return o.info }
func (o *object) Close() error       { return o.f.Close() }

func (o *object) Range(_ context.Context, off, n int64) (io.ReadCloser, error) {
	return &reader{o: o, at: off, end: off + n}, nil
}

// A reader reads a file as it was when it was opened, and fails before it gives an
// octet that may be of a newer version.
type reader struct {
	o       *object
	at, end int64
}

func (r *reader) Read(p []byte) (int, error) {
	if r.at == r.end {
		return 0, io.EOF
	}
	n, err := r.o.f.ReadAt(p[:min(int64(len(p)), r.end-r.at)], r.at)
	now, statErr := r.o.f.Stat()
	switch {
	case statErr != nil:
		return 0, statErr
	case !same(r.o.was, now):
		return 0, gateway.ErrChanged
	case n == 0 && errors.Is(err, io.EOF):
		return 0, gateway.ErrChanged // it is shorter than it says
	case n == 0 && err != nil:
		return 0, err
	}
	r.at += int64(n)
	return n, nil
}

func (*reader) Close() error { return nil }

// same tells whether the octets of an open file are the same as before.
func same(was, now fs.FileInfo) bool {
	return now.Size() == was.Size() && now.ModTime().Equal(was.ModTime()) && undisturbed(was, now)
}
