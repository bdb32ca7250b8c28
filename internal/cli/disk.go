package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/larderhq/larder/internal/daemon"
	"github.com/larderhq/larder/internal/vfs"
)

// A diskPlace is a folder and how much of its disk may be used, written as
// DIR:SIZE.
type diskPlace struct {
	dir  string
	size size
}

// UnmarshalText reads a diskPlace. A folder may have colons in its name: the
// last one counts.
func (d *diskPlace) UnmarshalText(text []byte) error {
	at := strings.LastIndexByte(string(text), ':')
	if at <= 0 {
		return fmt.Errorf("%q names no size: write a folder and how much of it may be used, such as /var/cache/larder:100GiB", text)
	}
	n, err := parseSize(string(text[at+1:]))
	switch {
	case err != nil:
		return err
	case n < daemon.MinDisk:
		return fmt.Errorf("%s is too little for a disk: give %v or more", text[at+1:], size(daemon.MinDisk))
	}
	d.dir, d.size = string(text[:at]), size(n)
	return nil
}

// places are the disks of the command line, as the daemon wants them.
func places(disks []diskPlace) []daemon.Disk {
	out := make([]daemon.Disk, len(disks))
	for i, d := range disks {
		out[i] = daemon.Disk{Dir: d.dir, Size: int64(d.size)}
	}
	return out
}

// disksOf says what was given for people to read.
func disksOf(disks []diskPlace) string {
	var b strings.Builder
	for _, d := range disks {
		fmt.Fprintf(&b, ", disk %s %v", d.dir, d.size)
	}
	return b.String()
}

// explainDisk says what to do about a disk that cannot be had.
func explainDisk(err error) error {
	switch {
	case errors.Is(err, vfs.ErrLocked):
		return usagef("--disk: %v: another larder uses it: stop that one, or name another folder", err)
	case errors.Is(err, syscall.ENOSPC):
		return usagef("--disk: %v: there is less room than that: give a smaller size, or make room", err)
	case errors.Is(err, syscall.EFBIG):
		return usagef("--disk: %v: this file system has no files of that size: give a smaller size", err)
	case errors.Is(err, fs.ErrPermission):
		return usagef("--disk: %v: this user may not write there: name another folder, or change its owner", err)
	}
	return usagef("--disk: %v", err)
}
