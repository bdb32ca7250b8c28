//go:build linux

package memory

import (
	"errors"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"
)

// mappable says whether this platform can keep memory outside the Go heap. Its
// pages have to be those that the budget counts in, and its addresses long.
func mappable() bool { return os.Getpagesize() == pageSize && strconv.IntSize == 64 }

const (
	madvRemove     = 9
	madvNoHugePage = 15
)

// reserve returns n octets of address space that take memory page by page as
// they are written.
func reserve(n int64) ([]byte, error) {
	mem, err := syscall.Mmap(-1, 0, int(n), syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_NORESERVE)
	if err != nil {
		return nil, err
	}
	small(mem)
	return mem, nil
}

// reserveFile does the same in a file without a name, which can be sent to
// sockets from within the kernel.
func reserveFile(n int64) ([]byte, *os.File, error) {
	fd, err := memfd("larder")
	if err != nil {
		return nil, nil, err
	}
	file := os.NewFile(uintptr(fd), "larder")
	if err := file.Truncate(n); err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	mem, err := syscall.Mmap(fd, 0, int(n), syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_SHARED|syscall.MAP_NORESERVE)
	if err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	small(mem)
	return mem, file, nil
}

// small keeps mem in small pages: a large one would take 2 MiB where 4 KiB
// were written, and the budget counts what was written. A kernel without
// large pages refuses, and needs nothing.
func small(mem []byte) { _ = syscall.Madvise(mem, madvNoHugePage) }

// memfd makes a file in memory. The number of the call is not in package
// syscall; platforms that are not listed keep all bodies in anonymous memory.
func memfd(name string) (int, error) {
	var call uintptr
	switch runtime.GOARCH {
	case "amd64":
		call = 319
	case "arm64", "riscv64", "loong64":
		call = 279
	default:
		return 0, syscall.ENOSYS
	}
	const closeOnExec = 1
	octets, err := syscall.BytePtrFromString(name)
	if err != nil {
		return 0, err
	}
	fd, _, errno := syscall.Syscall(call, uintptr(unsafe.Pointer(octets)), closeOnExec, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(fd), nil
}

// discard gives the memory of mem back. Whoever reads it then reads zeros.
func discard(mem []byte, file bool) {
	if len(mem) == 0 {
		return
	}
	advice := syscall.MADV_DONTNEED
	if file {
		advice = madvRemove
	}
	if err := syscall.Madvise(mem, advice); err != nil {
		clear(mem) // kept, but free of what was in it
	}
}

func unmap(mem []byte) {
	if mem != nil {
		_ = syscall.Munmap(mem)
	}
}
