package vfs

import (
	"os"
	"syscall"
)

// fallocate takes room for the first size octets of f.
func fallocate(f *os.File, size int64) error {
	return control(f, func(fd int) error { return syscall.Fallocate(fd, 0, 0, size) })
}

// datasync makes the octets and the length of f durable, but not its times.
func datasync(f *os.File) error {
	return control(f, syscall.Fdatasync)
}

// free returns the room that is left on the file system of f, in octets.
func free(f *os.File) (int64, error) {
	var st syscall.Statfs_t
	err := control(f, func(fd int) error { return syscall.Fstatfs(fd, &st) })
	unit := st.Frsize
	if unit == 0 {
		unit = st.Bsize
	}
	return int64(st.Bavail) * int64(unit), err
}
