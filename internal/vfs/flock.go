//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd

package vfs

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// flock locks f until it is closed, here and in every process that inherited
// it; Go lets none inherit it.
func flock(f *os.File) error {
	err := control(f, func(fd int) error { return syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB) })
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrLocked
	}
	return err
}

// control calls do with the descriptor of f, which stays open meanwhile, until
// no signal interrupts it.
func control(f *os.File, do func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var said error
	err = raw.Control(func(fd uintptr) {
		for said = syscall.EINTR; errors.Is(said, syscall.EINTR); {
			said = do(int(fd))
		}
	})
	if err != nil { // its only reason, with an error that os does not export
		return fs.ErrClosed
	}
	return said
}
