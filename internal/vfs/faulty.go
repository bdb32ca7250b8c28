package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"sync/atomic"
)

// ErrCrashed is what every call says from the one that CrashNth names.
var ErrCrashed = errors.New("vfs: crashed, as the test wants it")

// A Kind is a method of FS, File, or what Lock returned.
type Kind string

// The kinds of calls that a Hook is asked about. File.OS is not one of them.
const (
	OpOpen     Kind = "open"
	OpRename   Kind = "rename"
	OpRemove   Kind = "remove"
	OpList     Kind = "list"
	OpSyncDir  Kind = "syncdir"
	OpLock     Kind = "lock"
	OpUnlock   Kind = "unlock"
	OpFree     Kind = "free"
	OpReadAt   Kind = "read"
	OpWriteAt  Kind = "write"
	OpSize     Kind = "size"
	OpTruncate Kind = "truncate"
	OpAllocate Kind = "allocate"
	OpSync     Kind = "sync"
	OpClose    Kind = "close"
)

// An Op is one call that is about to be made.
type Op struct {
	N    int64 // the running number of the call in its Faulty, from 1
	Kind Kind
	Name string // of the file when it was opened; from, of Rename; empty for the folder
	To   string // of Rename
	Off  int64  // of ReadAt and WriteAt, in octets
	Len  int64  // of ReadAt and WriteAt; the length of Truncate and Allocate
}

// failed names the file in an error, as the system's errors do.
func (op Op) failed(err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: string(op.Kind), Path: op.Name, Err: err}
}

// A Fault is what goes wrong with a call. The zero Fault is nothing.
type Fault struct {
	err    error
	done   int // octets that a write does in spite of err
	hidden bool
	late   bool
	flip   int64 // bit that a read turns, from 1; 0: none
	wait   <-chan struct{}
}

// Fail fails a call with err before it does anything; Close closes all the
// same. On a Mem, a Sync that fails, unless with ErrCrashed, gives up what it
// should have made durable, as Linux does: it stays readable, but a later Sync
// that succeeds does not bring it to the disk.
func Fail(err error) Fault { return Fault{err: err} }

// Short lets a write do its first n octets and say so, with err. Other calls
// Fail.
func Short(n int, err error) Fault { return Fault{err: err, done: n} }

// Torn lets a write do its first n octets and say that it did none, with err.
// Other calls Fail.
func Torn(n int, err error) Fault { return Fault{err: err, done: n, hidden: true} }

// Late does the whole call and then says that it failed with err. A file that
// it opened or a lock that it took is closed again.
func Late(err error) Fault { return Fault{err: err, late: true} }

// FlipBit turns one bit in what a read returns: the one of that number from
// its first octet on, and again from 0 where the read ends. Nothing says so.
// Other calls are done as if nothing were wrong.
func FlipBit(bit int64) Fault { return Fault{flip: bit + 1} }

// After makes the call wait until the channel is closed, before anything else:
// Fault{}.After(c) is a disk that is slow, or hangs.
func (f Fault) After(c <-chan struct{}) Fault {
	f.wait = c
	return f
}

// FailNth is a Hook: the n-th call, from 1, fails with err.
func FailNth(n int64, err error) func(Op) Fault {
	return func(op Op) Fault {
		if op.N == n {
			return Fail(err)
		}
		return Fault{}
	}
}

// CrashNth is a Hook: the n-th call, from 1, and all after it fail with
// ErrCrashed. A test that has one Mem under it loops over n from 1 until Count
// stays below n, and each time goes on with Mem.Crash.
func CrashNth(n int64) func(Op) Fault {
	return func(op Op) Fault {
		if op.N >= n {
			return Fail(ErrCrashed)
		}
		return Fault{}
	}
}

// Faulty is an FS that asks Hook before each call on it, on its Files and on
// its locks, what is to go wrong. Hook is called by all goroutines that call;
// nil is no fault ever. Neither field may change while a call is being made.
//
// OS of its Files is nil, so that no octet is read without asking.
type Faulty struct {
	FS   FS
	Hook func(Op) Fault

	count atomic.Int64
}

// Count returns how many calls there were so far.
func (d *Faulty) Count() int64 { return d.count.Load() }

// ask numbers the call, and returns what goes wrong with it once it may begin.
func (d *Faulty) ask(op Op) Fault {
	op.N = d.count.Add(1)
	if d.Hook == nil {
		return Fault{}
	}
	fault := d.Hook(op)
	if fault.wait != nil {
		<-fault.wait
	}
	return fault
}

// do makes a call that gives nothing but an error.
func (d *Faulty) do(op Op, call func() error) error {
	fault := d.ask(op)
	if fault.err != nil && !fault.late {
		return op.failed(fault.err)
	}
	if err := call(); err != nil {
		return err
	}
	return op.failed(fault.err)
}

// get makes a call that gives a value.
func get[T any](d *Faulty, op Op, call func() (T, error)) (value T, err error) {
	err = d.do(op, func() (err error) {
		value, err = call()
		return err
	})
	return value, err
}

// open makes a call that gives something to close, which is closed if the call
// is to have failed.
func open[T io.Closer](d *Faulty, op Op, call func() (T, error)) (T, error) {
	var none T
	opened := false
	value, err := get(d, op, func() (T, error) {
		value, err := call()
		opened = err == nil
		return value, err
	})
	if err != nil && opened {
		return none, errors.Join(err, value.Close())
	}
	return value, err
}

// Open is as FS says.
func (d *Faulty) Open(name string, flag int) (File, error) {
	f, err := open(d, Op{Kind: OpOpen, Name: name}, func() (File, error) { return d.FS.Open(name, flag) })
	if err != nil {
		return nil, err
	}
	return &faultyFile{d, f, name}, nil
}

// Rename is as FS says.
func (d *Faulty) Rename(from, to string) error {
	return d.do(Op{Kind: OpRename, Name: from, To: to}, func() error { return d.FS.Rename(from, to) })
}

// Remove is as FS says.
func (d *Faulty) Remove(name string) error {
	return d.do(Op{Kind: OpRemove, Name: name}, func() error { return d.FS.Remove(name) })
}

// List is as FS says.
func (d *Faulty) List() ([]string, error) { return get(d, Op{Kind: OpList}, d.FS.List) }

// Sync is as FS says.
func (d *Faulty) Sync() error { return d.do(Op{Kind: OpSyncDir}, d.FS.Sync) }

// Lock is as FS says.
func (d *Faulty) Lock(name string) (io.Closer, error) {
	l, err := open(d, Op{Kind: OpLock, Name: name}, func() (io.Closer, error) { return d.FS.Lock(name) })
	if err != nil {
		return nil, err
	}
	return &faultyLock{d, l, name}, nil
}

// Free is as FS says.
func (d *Faulty) Free() (int64, error) { return get(d, Op{Kind: OpFree}, d.FS.Free) }

// release closes c whatever goes wrong, since nobody closes a second time.
func (d *Faulty) release(op Op, c io.Closer) error {
	fault := d.ask(op)
	if err := c.Close(); err != nil {
		return err
	}
	return op.failed(fault.err)
}

type faultyLock struct {
	dir  *Faulty
	lock io.Closer
	name string
}

func (l *faultyLock) Close() error { return l.dir.release(Op{Kind: OpUnlock, Name: l.name}, l.lock) }

// A faultyFile is an open file of a Faulty.
type faultyFile struct {
	dir  *Faulty
	file File
	name string
}

// ReadAt is as File says.
func (f *faultyFile) ReadAt(p []byte, off int64) (int, error) {
	op := Op{Kind: OpReadAt, Name: f.name, Off: off, Len: int64(len(p))}
	fault := f.dir.ask(op)
	if fault.err != nil {
		return 0, op.failed(fault.err)
	}
	n, err := f.file.ReadAt(p, off)
	if fault.flip > 0 && n > 0 {
		bit := (fault.flip - 1) % (8 * int64(n))
		p[bit/8] ^= 1 << (bit % 8)
	}
	return n, err
}

// WriteAt is as File says.
func (f *faultyFile) WriteAt(p []byte, off int64) (int, error) {
	op := Op{Kind: OpWriteAt, Name: f.name, Off: off, Len: int64(len(p))}
	fault := f.dir.ask(op)
	n, err := f.file.WriteAt(p[:fault.part(len(p))], off)
	if err == nil {
		err = op.failed(fault.err)
	}
	if fault.hidden || fault.late {
		n = 0
	}
	return n, err
}

// part is how many of n octets a write does.
func (f Fault) part(n int) int {
	if f.err == nil || f.late {
		return n
	}
	return min(max(f.done, 0), n)
}

// Size is as File says.
func (f *faultyFile) Size() (int64, error) {
	return get(f.dir, Op{Kind: OpSize, Name: f.name}, f.file.Size)
}

// Truncate is as File says.
func (f *faultyFile) Truncate(size int64) error {
	return f.dir.do(Op{Kind: OpTruncate, Name: f.name, Len: size}, func() error { return f.file.Truncate(size) })
}

// Allocate is as File says.
func (f *faultyFile) Allocate(size int64) error {
	return f.dir.do(Op{Kind: OpAllocate, Name: f.name, Len: size}, func() error { return f.file.Allocate(size) })
}

// Sync is as File says.
func (f *faultyFile) Sync() error {
	called := false
	err := f.dir.do(Op{Kind: OpSync, Name: f.name}, func() error {
		called = true
		return f.file.Sync()
	})
	if mem, ok := f.file.(*memFile); ok && !called && !errors.Is(err, ErrCrashed) {
		mem.failSync()
	}
	return err
}

// OS returns nil.
func (f *faultyFile) OS() *os.File { return nil }

func (f *faultyFile) Close() error {
	return f.dir.release(Op{Kind: OpClose, Name: f.name}, f.file)
}
