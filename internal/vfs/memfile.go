package vfs

import (
	"io"
	"io/fs"
	"os"
	"syscall"
)

// A memFile is an open file of a Mem.
type memFile struct {
	mem      *Mem
	inode    *inode
	name     string // when it was opened
	writable bool
	closed   bool // guarded by Mem.mu
}

// ReadAt is as File says.
func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.mem.mu.RLock()
	defer f.mem.mu.RUnlock()
	if err := f.usable(off); err != nil {
		return 0, f.wrap("read", err)
	}
	c := &f.inode.live
	n := int(max(min(int64(len(p)), c.size-off), 0))
	c.read(p[:n], off)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// ReadNow is as Prompt says.
func (f *memFile) ReadNow(p []byte, off int64) (int, error) { return f.ReadAt(p, off) }

// WriteAt is as File says.
func (f *memFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.change("write", off, int64(len(p)), func() (err error) {
		n, err = f.mem.write(f.inode, p, off)
		return err
	})
	return n, err
}

// Truncate is as File says.
func (f *memFile) Truncate(size int64) error {
	return f.change("truncate", size, 0, func() error {
		f.mem.resize(f.inode, size)
		return nil
	})
}

// Allocate is as File says. If there is no room it changes nothing.
func (f *memFile) Allocate(size int64) error {
	return f.change("allocate", size, 0, func() error { return f.mem.allocate(f.inode, size) })
}

// change calls do if n octets at off may be changed.
func (f *memFile) change(op string, off, n int64, do func() error) error {
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	err := f.usable(off)
	switch {
	case err != nil:
	case !f.writable:
		err = syscall.EBADF
	case off > maxLen-n:
		err = syscall.EFBIG
	default:
		err = do()
	}
	return f.wrap(op, err)
}

// Size is as File says.
func (f *memFile) Size() (int64, error) {
	f.mem.mu.RLock()
	defer f.mem.mu.RUnlock()
	if err := f.usable(0); err != nil {
		return 0, f.wrap("stat", err)
	}
	return f.inode.live.size, nil
}

// Sync is as File says.
func (f *memFile) Sync() error {
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	if err := f.usable(0); err != nil {
		return f.wrap("sync", err)
	}
	f.inode.sync()
	return nil
}

// failSync is a Sync that fails.
func (f *memFile) failSync() {
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	f.inode.forsake()
}

// OS returns nil.
func (f *memFile) OS() *os.File { return nil }

func (f *memFile) Close() error {
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	return f.close()
}

func (f *memFile) close() error {
	if err := f.usable(0); err != nil {
		return f.wrap("close", err)
	}
	f.closed = true
	f.mem.unlink(f.inode)
	return nil
}

// usable says why nothing can be done at off.
func (f *memFile) usable(off int64) error {
	switch {
	case f.closed, f.mem.crashed:
		return fs.ErrClosed
	case off < 0:
		return syscall.EINVAL
	}
	return nil
}

func (f *memFile) wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: f.name, Err: err}
}
