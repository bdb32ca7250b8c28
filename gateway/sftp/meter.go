package sftp

import (
	"encoding/binary"
	"io"
	"sync"
)

// longest is more octets than the entry of a folder takes: its name twice, and what
// ls -l tells.
const longest = 1 << 10

// A meter reads the answers of a server for the library, and watches how much they tell
// of a folder: the library collects all that comes, and a server need not come to an end.
type meter struct {
	r io.Reader

	// listing has room for the one who reads a folder.
	listing chan struct{}

	header [5]byte // length and type of the packet
	had    int     // octets of header that were read
	left   int64   // octets of the packet that follow it

	mu     sync.Mutex
	budget int64  // octets of names until stop is called
	stop   func() // nil: nobody reads a folder
}

// names is the type of the packets that tell of entries: SSH_FXP_NAME.
const names = 104

// stopAfter has stop called once so many octets of entries were read. Nil ends that.
func (m *meter) stopAfter(octets int64, stop func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.budget, m.stop = octets, stop
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.count(p[:n])
	return n, err
}

// count follows the packets in b.
func (m *meter) count(b []byte) {
	for len(b) > 0 {
		if m.left > 0 {
			n := min(m.left, int64(len(b)))
			m.left -= n
			b = b[n:]
			continue
		}
		n := copy(m.header[m.had:], b)
		b = b[n:]
		if m.had += n; m.had == len(m.header) {
			m.had, m.left = 0, int64(binary.BigEndian.Uint32(m.header[:]))-1
			if m.header[4] == names {
				m.spend(m.left)
			}
		}
	}
}

func (m *meter) spend(octets int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stop == nil {
		return
	}
	if m.budget -= octets; m.budget < 0 {
		m.stop()
	}
}
