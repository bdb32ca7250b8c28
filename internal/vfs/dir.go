package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// A Folder is an FS of the operating system. Dir makes one.
//
// On systems other than Linux, Allocate only makes a file longer. Where the
// system has no flock, Lock fails with errors.ErrUnsupported; where it has no
// statfs, Free does.
type Folder struct {
	root *os.Root
	self *os.File // the folder, to sync it and to ask for room
}

// Dir opens the folder at path, and creates it and those above if they are
// missing, with permissions 0o700. No name leads out of it, symbolic links
// included. The caller closes.
func Dir(path string) (*Folder, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	self, err := root.Open(".")
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return &Folder{root, self}, nil
}

// Close lets go of the folder; calls after it fail with fs.ErrClosed. Files
// and locks stay open.
func (d *Folder) Close() error { return errors.Join(d.self.Close(), d.root.Close()) }

// Open is as FS says.
func (d *Folder) Open(name string, flag int) (File, error) {
	f, err := d.open(name, flag)
	if err != nil {
		return nil, err
	}
	return fileOf(f)
}

func (d *Folder) open(name string, flag int) (*os.File, error) {
	if err := checkOpen(name, flag); err != nil {
		return nil, err
	}
	f, err := d.root.OpenFile(name, flag, 0o600)
	if err != nil {
		return nil, d.wrap("open", name, err)
	}
	switch info, err := f.Stat(); {
	case err != nil:
		return nil, d.wrap("open", name, errors.Join(err, f.Close()))
	case !info.Mode().IsRegular():
		return nil, d.wrap("open", name, errors.Join(fs.ErrInvalid, f.Close()))
	}
	return f, nil
}

// Rename is as FS says.
func (d *Folder) Rename(from, to string) error {
	for _, name := range []string{from, to} {
		if err := checkName("rename", name); err != nil {
			return err
		}
	}
	if err := d.root.Rename(from, to); err != nil {
		return &os.LinkError{Op: "rename", Old: d.path(from), New: d.path(to), Err: cause(err)}
	}
	return nil
}

// Remove is as FS says.
func (d *Folder) Remove(name string) error {
	if err := checkName("remove", name); err != nil {
		return err
	}
	return d.wrap("remove", name, d.root.Remove(name))
}

// List is as FS says.
func (d *Folder) List() ([]string, error) {
	self, err := d.root.Open(".") // reading a folder moves its position: one for each
	if err != nil {
		return nil, d.wrap("list", "", err)
	}
	entries, err := self.ReadDir(-1)
	if err := errors.Join(err, self.Close()); err != nil {
		return nil, d.wrap("list", "", err)
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// Sync is as FS says. It does not reach the folder's own name in the one above.
func (d *Folder) Sync() error { return d.self.Sync() }

// Lock is as FS says.
func (d *Folder) Lock(name string) (io.Closer, error) {
	f, err := d.open(name, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	if err := flock(f); err != nil {
		return nil, d.wrap("lock", name, errors.Join(err, f.Close()))
	}
	return f, nil
}

// Free is as FS says.
func (d *Folder) Free() (int64, error) {
	n, err := free(d.self)
	return n, d.wrap("statfs", "", err)
}

func (d *Folder) path(name string) string { return filepath.Join(d.root.Name(), name) }

// wrap names the file in full: what Root says has only the last element.
func (d *Folder) wrap(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: d.path(name), Err: cause(err)}
}

// cause is what the system said, without the names that os put around it.
func cause(err error) error {
	var path *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &path):
		return path.Err
	case errors.As(err, &link):
		return link.Err
	}
	return err
}

// An osFile is a File of the operating system.
type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f osFile) Allocate(size int64) error {
	return f.wrap("allocate", f.allocate(size))
}

func (f osFile) allocate(size int64) error {
	if size < 0 {
		return syscall.EINVAL
	}
	if size == 0 {
		return nil
	}
	err := fallocate(f.File, size)
	if !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return f.lengthen(size)
}

// lengthen makes the file size octets long if it is shorter.
func (f osFile) lengthen(size int64) error {
	old, err := f.Size()
	if err != nil || old >= size {
		return err
	}
	return f.Truncate(size)
}

func (f osFile) Sync() error { return f.wrap("sync", datasync(f.File)) }

func (f osFile) OS() *os.File { return f.File }

func (f osFile) wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: f.Name(), Err: cause(err)}
}
