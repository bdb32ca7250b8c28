package front

import (
	"os"
	"syscall"
	"unsafe"
)

// The calls below do not wait for anybody, for their descriptors do not (but where
// memory is swapped, or short), and copy no more than a turn: so the scheduler need
// not be told of them. That costs as much as a lookup, and where it finds one of them
// under way it has another thread take over, which costs more than the call.

// pollNow is epoll_wait without waiting. It fails only if interrupted.
func pollNow(ep int, events []syscall.EpollEvent) int {
	n, _, e := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(ep), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
	if e != 0 {
		return 0
	}
	return int(n)
}

// readNow reads into b, which is not empty.
func readNow(fd int, b []byte) (int, error) {
	n, _, e := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	return result(n, e)
}

// writeNow writes b, which is not empty.
func writeNow(fd int, b []byte) (int, error) {
	n, _, e := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	return result(n, e)
}

// writeTwo writes a and then b, of which b is not empty.
func writeTwo(fd int, a, b []byte) (int, error) { return writeThree(fd, &[3][]byte{a, b}) }

// writeThree writes parts, of which one is not empty.
func writeThree(fd int, parts *[3][]byte) (int, error) {
	var iov [3]syscall.Iovec
	n := 0
	for _, p := range parts {
		if len(p) > 0 {
			iov[n].Base = &p[0]
			iov[n].SetLen(len(p))
			n++
		}
	}
	m, _, e := syscall.RawSyscall(syscall.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&iov[0])), uintptr(n))
	return result(m, e)
}

// nothingCame tells whether there is nothing to be read.
func nothingCame(fd int) bool {
	var b [1]byte
	_, _, err := syscall.Recvfrom(fd, b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return err == syscall.EAGAIN
}

// sendMore writes b, after which more comes at once.
func sendMore(fd int, b []byte) (int, error) {
	n, _, e := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), syscall.MSG_MORE|syscall.MSG_NOSIGNAL, 0, 0)
	return result(n, e)
}

// sendFile sends n octets of f from off.
func sendFile(fd int, f *os.File, off, n int64) (sent int64, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	cerr := raw.Control(func(from uintptr) {
		m, _, e := syscall.RawSyscall6(syscall.SYS_SENDFILE, uintptr(fd), from, uintptr(unsafe.Pointer(&off)), uintptr(n), 0, 0)
		if e != 0 {
			err = e
		} else {
			sent = int64(m)
		}
	})
	if cerr != nil {
		return 0, cerr
	}
	return sent, err
}

func result(n uintptr, e syscall.Errno) (int, error) {
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}
