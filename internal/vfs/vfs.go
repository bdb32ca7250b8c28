// Package vfs is the few file operations that the disk store needs, behind two
// interfaces: FS, a folder of plain files, and File.
//
// Dir is the real one. Mem is in memory and can show what a reboot would find
// after unsynced work was lost, torn or reordered. Faulty puts failures into
// any other. A contract test holds all three to the comments of this file.
package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// ErrLocked says that Lock found the name locked, by this process or another.
var ErrLocked = errors.New("vfs: locked by someone else")

// FS is a folder of plain files. A name is one path element: not empty, not
// "." or "..", without separators; any other name fails with fs.ErrInvalid.
//
// Any method may be called by any number of goroutines at once. Errors name
// the file and wrap what the system said, so errors.Is finds fs.ErrNotExist,
// fs.ErrExist, syscall.ENOSPC and the like.
type FS interface {
	// Open opens a plain file, and creates it with permissions 0o600. flag is
	// one of
	//
	//	os.O_RDONLY, os.O_RDWR               the file must be there
	//	os.O_RDWR|os.O_TRUNC                 the same, and loses what it holds
	//	os.O_RDWR|os.O_CREATE                made if it is missing
	//	os.O_RDWR|os.O_CREATE|os.O_TRUNC     the same, and loses what it holds
	//	os.O_RDWR|os.O_CREATE|os.O_EXCL      the file must not be there
	//
	// Others, and what is no plain file, fail with fs.ErrInvalid. A file that
	// was created has its name for certain only after FS.Sync. One that is
	// open for reading refuses to be changed. The caller closes.
	Open(name string, flag int) (File, error)

	// Rename gives a file another name, and takes the place of a file that
	// had that name, at one stroke: there is always one or the other. Open
	// Files go on with their own file. Without FS.Sync a reboot may find the
	// old names; what the file holds needs File.Sync before.
	Rename(from, to string) error

	// Remove takes the name from a file. Open Files go on with it.
	Remove(name string) error

	// List returns the names of the plain files, sorted. Others that are in
	// the folder, such as folders, are left out.
	List() ([]string, error)

	// Sync makes what was created, renamed and removed in this folder durable.
	Sync() error

	// Lock locks a name for this caller alone, between processes too, and
	// creates a file of that name, which stays; it holds nothing. The lock
	// ends with Close, or with the process however it dies. ErrLocked: held
	// by someone else; Lock does not wait.
	Lock(name string) (io.Closer, error)

	// Free returns how many octets could still be allocated by this user.
	Free() (int64, error)
}

// File is an open plain file. ReadAt, WriteAt and the rest may be called by
// any number of goroutines at once; a ReadAt beside a WriteAt of the same
// octets sees old or new ones in any mixture. After Close all of them fail
// with fs.ErrClosed.
type File interface {
	// ReadAt is as io.ReaderAt says. What was never written between the start
	// and Size reads as zeros.
	io.ReaderAt

	// WriteAt is as io.WriterAt says; a write beyond Size makes the file
	// longer. After an error any part of the octets may have been written.
	io.WriterAt

	io.Closer

	// Size returns the length in octets.
	Size() (int64, error)

	// Truncate sets the length: what was beyond is gone, what is new is zeros.
	Truncate(size int64) error

	// Allocate takes the room for the first size octets, so that writes there
	// do not fail for want of it, and makes the file that long if it is
	// shorter. It changes no octets. Where the file system cannot allocate
	// ahead, it only makes the file that long, and writes may still fail with
	// syscall.ENOSPC. After an error the file may have become longer.
	Allocate(size int64) error

	// Sync makes the octets and the length durable, but not the name: that is
	// FS.Sync. After an error nobody knows what is durable; the octets must
	// be written anew, to another place, since a second Sync may succeed
	// without having written anything.
	Sync() error

	// OS returns the operating system's file, for sendfile, or nil if there
	// is none. It stays owned by the File: the caller does not close it.
	OS() *os.File
}

// Prompt is what a File is too if it can tell at once what is in the system's
// memory. Files of a Folder are, on Linux and most of its machines, and those of
// a Mem; those of a Faulty are not, so that each read is a call that may fail.
type Prompt interface {
	// ReadNow is a ReadAt that does not wait for a disk: it reads the first n
	// octets of p and leaves the others to ReadAt, of which nothing is known.
	// It may be called by any number of goroutines at once. An error says why
	// it read less than all, which ReadAt may still do. If it wraps
	// errors.ErrUnsupported, ReadNow never reads anything of this file.
	ReadNow(p []byte, off int64) (n int, err error)
}

// checkOpen says what is wrong with the arguments of Open.
func checkOpen(name string, flag int) error {
	switch flag {
	case os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_TRUNC, os.O_RDWR | os.O_CREATE,
		os.O_RDWR | os.O_CREATE | os.O_TRUNC, os.O_RDWR | os.O_CREATE | os.O_EXCL:
		return checkName("open", name)
	}
	return &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
}

// checkName says what is wrong with the name of a plain file.
func checkName(op, name string) error {
	switch {
	case name == "", name == ".", name == "..", strings.ContainsAny(name, "/\\\x00"):
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	case len(name) > 255:
		return &fs.PathError{Op: op, Path: name, Err: syscall.ENAMETOOLONG}
	}
	return nil
}
