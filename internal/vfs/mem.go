package vfs

import (
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"slices"
	"sync"
	"syscall"
)

// Mem is an FS in memory, for tests. It remembers what was not synced, and
// Crash shows what a reboot may find. The zero Mem is empty and has all the
// room there is.
//
// A file takes memory for the pages of 4096 octets that were written, and once
// more for each write since its last Sync. A file that was removed stays in
// memory until FS.Sync, since a crash may bring it back. No file is longer
// than 16 TiB.
//
// Any method may be called by any number of goroutines at once.
type Mem struct {
	mu       sync.RWMutex // guards everything below, and all inodes
	capacity int64        // octets; 0: no limit
	used     int64        // octets, in whole pages
	names    map[string]*inode
	durable  map[string]*inode // names as at the last Sync
	renames  []renaming        // what was done to names since
	crashed  bool
}

// An inode is a file, whatever its name.
type inode struct {
	live    content
	durable content
	changes []change // from durable to live
	strayed bool     // a Sync failed: changes no longer lead to live
	links   int      // names, open Files and locks
	locked  bool
}

// A change is a write, or a new length if data is nil.
type change struct {
	off  int64
	data []byte
	size int64 // of the file afterwards
}

// A renaming is a file created (from is empty), removed (to is empty) or
// renamed.
type renaming struct {
	from, to string
	file     *inode
}

func (r renaming) apply(names map[string]*inode) {
	if r.from != "" {
		delete(names, r.from)
	}
	if r.to != "" {
		names[r.to] = r.file
	}
}

// NewMem returns an empty Mem with room for capacity octets, counted in pages
// of 4096; calls beyond it fail with syscall.ENOSPC. Zero or less is no limit.
func NewMem(capacity int64) *Mem { return &Mem{capacity: capacity} }

// Open is as FS says.
func (m *Mem) Open(name string, flag int) (File, error) {
	if err := checkOpen(name, flag); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	f, err := m.open(name, flag)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return &memFile{mem: m, inode: f, name: name, writable: flag != os.O_RDONLY}, nil
}

// open returns the file with one more link.
func (m *Mem) open(name string, flag int) (*inode, error) {
	f := m.names[name]
	switch {
	case m.crashed:
		return nil, fs.ErrClosed
	case f == nil && flag&os.O_CREATE == 0:
		return nil, fs.ErrNotExist
	case f == nil:
		f = &inode{}
		m.rename(renaming{to: name, file: f})
	case flag&os.O_EXCL != 0:
		return nil, fs.ErrExist
	case flag&os.O_TRUNC != 0:
		m.resize(f, 0)
	}
	f.links++
	return f, nil
}

// rename does r and remembers it.
func (m *Mem) rename(r renaming) {
	if m.names == nil {
		m.names, m.durable = map[string]*inode{}, map[string]*inode{}
	}
	replaced := m.names[r.to]
	r.apply(m.names)
	m.renames = append(m.renames, r)
	if r.from == "" {
		r.file.links++
	}
	if r.to == "" {
		m.unlink(r.file)
	} else if replaced != nil {
		m.unlink(replaced)
	}
}

// unlink takes one link from f, and gives its room back with the last.
func (m *Mem) unlink(f *inode) {
	f.links--
	if f.links == 0 {
		m.used -= f.live.pages() * pageLen
	}
}

// Rename is as FS says.
func (m *Mem) Rename(from, to string) error {
	for _, name := range []string{from, to} {
		if err := checkName("rename", name); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	f, err := m.named(from)
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	if from != to {
		m.rename(renaming{from, to, f})
	}
	return nil
}

// Remove is as FS says.
func (m *Mem) Remove(name string) error {
	if err := checkName("remove", name); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	f, err := m.named(name)
	if err != nil {
		return &fs.PathError{Op: "remove", Path: name, Err: err}
	}
	m.rename(renaming{from: name, file: f})
	return nil
}

func (m *Mem) named(name string) (*inode, error) {
	switch f := m.names[name]; {
	case m.crashed:
		return nil, fs.ErrClosed
	case f == nil:
		return nil, fs.ErrNotExist
	default:
		return f, nil
	}
}

// List is as FS says.
func (m *Mem) List() ([]string, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if err := m.alive("list"); err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(m.names)), nil
}

// Sync is as FS says.
func (m *Mem) Sync() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.alive("sync"); err != nil {
		return err
	}
	for _, r := range m.renames {
		r.apply(m.durable)
	}
	m.renames = nil
	return nil
}

// Lock is as FS says. Between Mems there is nothing in common to lock.
func (m *Mem) Lock(name string) (io.Closer, error) {
	if err := checkName("lock", name); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	f, err := m.open(name, os.O_RDWR|os.O_CREATE)
	if err == nil && f.locked {
		m.unlink(f)
		err = ErrLocked
	}
	if err != nil {
		return nil, &fs.PathError{Op: "lock", Path: name, Err: err}
	}
	f.locked = true
	return &memLock{memFile{mem: m, inode: f, name: name}}, nil
}

// A memLock is an open file that is locked.
type memLock struct{ file memFile }

func (l *memLock) Close() error {
	l.file.mem.mu.Lock()
	defer l.file.mem.mu.Unlock()
	if err := l.file.close(); err != nil {
		return err
	}
	l.file.inode.locked = false
	return nil
}

// Free is as FS says.
func (m *Mem) Free() (int64, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if err := m.alive("statfs"); err != nil {
		return 0, err
	}
	return m.room() * pageLen, nil
}

// room is how many pages are free.
func (m *Mem) room() int64 {
	if m.capacity <= 0 {
		return (math.MaxInt64 - m.used) / pageLen
	}
	return max(m.capacity-m.used, 0) / pageLen
}

func (m *Mem) alive(op string) error {
	if m.crashed {
		return &fs.PathError{Op: op, Path: ".", Err: fs.ErrClosed}
	}
	return nil
}

// write writes what there is room for, and remembers it.
func (m *Mem) write(f *inode, p []byte, off int64) (n int, err error) {
	before := f.live.pages()
	n = f.live.write(p, off, m.room())
	m.used += (f.live.pages() - before) * pageLen
	if n > 0 {
		f.changes = append(f.changes, change{off, slices.Clone(p[:n]), f.live.size})
	}
	if n < len(p) {
		err = syscall.ENOSPC
	}
	return n, err
}

// resize sets the length, and remembers it.
func (m *Mem) resize(f *inode, size int64) {
	if size == f.live.size {
		return
	}
	before := f.live.pages()
	f.live.resize(size)
	m.used += (f.live.pages() - before) * pageLen
	f.changes = append(f.changes, change{size: size})
}

// allocate puts pages of zeros where the first size octets have none. That
// they are there needs no remembering, since they change nothing but room.
func (m *Mem) allocate(f *inode, size int64) error {
	full := f.live.fork()
	full.fill(pagesOf(size))
	more := full.pages() - f.live.pages()
	if more > m.room() {
		return syscall.ENOSPC
	}
	f.live = full
	m.used += more * pageLen
	if size > f.live.size {
		m.resize(f, size)
	}
	return nil
}

// sync makes live durable.
func (f *inode) sync() {
	switch {
	case f.strayed:
		for _, c := range f.changes {
			c.apply(&f.durable)
		}
	case len(f.changes) > 0:
		f.durable = f.live.fork()
	}
	f.changes = nil
}

// forsake gives up what was not synced: it stays readable, but no Sync makes
// it durable any more.
func (f *inode) forsake() {
	f.strayed = f.strayed || len(f.changes) > 0
	f.changes = nil
}

// apply does c to to.
func (c change) apply(to *content) {
	if c.data == nil {
		to.resize(c.size)
		return
	}
	to.write(c.data, c.off, math.MaxInt64)
}
