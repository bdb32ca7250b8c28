package file

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"io/fs"
	"syscall"
	"time"
)

// identity is the version of a file, and when what it is made of was last touched. The
// inode tells of a file that was put in place of another, and the time of change, which no
// program can set, of octets whose time of modification was set back. It is a hash,
// since nobody needs to know the numbers.
func identity(info fs.FileInfo) (version string, since time.Time) {
	since = info.ModTime()
	b := binary.LittleEndian.AppendUint64(nil, uint64(info.Size()))
	b = binary.LittleEndian.AppendUint64(b, uint64(since.UnixNano()))
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		changed := time.Unix(sys.Ctim.Unix())
		b = binary.LittleEndian.AppendUint64(b, uint64(sys.Dev))
		b = binary.LittleEndian.AppendUint64(b, sys.Ino)
		b = binary.LittleEndian.AppendUint64(b, uint64(changed.UnixNano()))
		if changed.After(since) {
			since = changed
		}
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:12]), since
}

// undisturbed tells whether nothing was done to an open file that could have been a
// change of its octets. Its name may go; other links may not.
func undisturbed(was, now fs.FileInfo) bool {
	a, ok := was.Sys().(*syscall.Stat_t)
	b, also := now.Sys().(*syscall.Stat_t)
	return !ok || !also || a.Ctim == b.Ctim || b.Nlink < a.Nlink
}

// links is how many names a file has.
func links(info fs.FileInfo) uint64 {
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(sys.Nlink)
	}
	return 1
}
