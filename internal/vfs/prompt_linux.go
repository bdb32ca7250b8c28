//go:build linux && (amd64 || arm64 || riscv64 || loong64)

package vfs

import (
	"io/fs"
	"os"
	"syscall"
	"unsafe"
)

// nowait is RWF_NOWAIT of preadv2(2).
const nowait = 8

// A promptFile is an osFile and a Prompt.
type promptFile struct {
	osFile
	raw syscall.RawConn
}

func fileOf(f *os.File) (File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	return promptFile{osFile{f}, raw}, nil
}

// ReadNow is as Prompt says.
func (f promptFile) ReadNow(p []byte, off int64) (n int, err error) {
	switch {
	case off < 0:
		return 0, f.wrap("read", syscall.EINVAL)
	case len(p) == 0:
		return 0, nil
	}
	var got uintptr
	var said syscall.Errno
	if f.raw.Control(func(fd uintptr) {
		v := syscall.Iovec{Base: &p[0]}
		v.SetLen(len(p))
		// A word has 64 bits on these machines: the offset is all in the first. It
		// does not wait, so the scheduler need not be told.
		got, _, said = syscall.RawSyscall6(preadv2, fd, uintptr(unsafe.Pointer(&v)), 1, uintptr(off), 0, nowait)
	}) != nil { // its only reason, with an error that os does not export
		return 0, f.wrap("read", fs.ErrClosed)
	}
	if said != 0 {
		return 0, f.wrap("read", said)
	}
	return int(got), nil
}
