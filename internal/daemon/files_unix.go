//go:build unix

package daemon

import (
	"math"
	"syscall"
)

// openFiles is how many files this process may open, or 0 if nobody knows.
func openFiles() int {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0
	}
	return int(min(uint64(l.Cur), math.MaxInt32))
}
