//go:build darwin || dragonfly || freebsd

package vfs

import (
	"os"
	"syscall"
)

// free returns the room that is left on the file system of f, in octets.
func free(f *os.File) (int64, error) {
	var st syscall.Statfs_t
	err := control(f, func(fd int) error { return syscall.Fstatfs(fd, &st) })
	return int64(st.Bavail) * int64(st.Bsize), err
}
