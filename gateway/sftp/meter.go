package sftp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"sync"
)

// longest is more octets than the entry of a folder takes: its name twice, and what
// ls -l tells.
const longest = 1 << 10

// A meter stands between the library and a server, and makes up for what the library does not look at.
//
// It watches how much is told of a folder: the library collects all that comes, and a server need
// not come to an end. It ends the session when a request for something is answered by a
// status of success, which the library takes for something: a nil, or the end of a folder. And
// it lets no RMDIR through, which the library sends after a REMOVE that was refused.
type meter struct {
	r io.Reader
	w io.WriteCloser

	// listing has room for the one who reads a folder.
	listing chan struct{}

	header [13]byte // length, type and id of the packet that is read, and the code of a status
	had    int64    // octets of header that were read
	left   int64    // octets of the packet that follow it
	unsent int64    // octets of the packet that is written

	mu     sync.Mutex
	data   map[uint32]bool // ids of requests under way that success is no answer to
	budget int64           // octets of names until stop is called
	stop   func()          // nil: nobody reads a folder
}

// Types of packets, those of replies with re before them.
const (
	opOpen     = 3
	opRead     = 5
	opLstat    = 7
	opFstat    = 8
	opOpendir  = 11
	opReaddir  = 12
	opRmdir    = 15
	opRealpath = 16
	opStat     = 17
	reStatus   = 101
	reName     = 104
)

// errFolder is what the library hears of an RMDIR.
var errFolder = fmt.Errorf("folders stay: %w", fs.ErrPermission)

// errSuccess ends a session.
var errSuccess = errors.New("the server answers with success, and with nothing else")

// stopAfter has stop called once so many octets of entries were read. Nil ends that.
func (m *meter) stopAfter(octets int64, stop func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.budget, m.stop = octets, stop
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	if wrong := m.count(p[:n]); wrong != nil {
		return 0, wrong
	}
	return n, err
}

// count follows the packets in b.
func (m *meter) count(b []byte) error {
	for len(b) > 0 {
		if m.left > 0 {
			n := min(m.left, int64(len(b)))
			m.left -= n
			b = b[n:]
			continue
		}
		n := copy(m.header[m.had:m.wanted()], b)
		b = b[n:]
		if m.had += int64(n); m.had < m.wanted() {
			continue
		}
		m.left, m.had = m.length()-m.had, 0
		if err := m.heard(); err != nil {
			return err
		}
	}
	return nil
}

// length is that of the whole packet that is read, of which there is a header.
func (m *meter) length() int64 { return 4 + int64(binary.BigEndian.Uint32(m.header[:])) }

// wanted is how much of header there has to be.
func (m *meter) wanted() int64 {
	switch {
	case m.had < 5:
		return 5
	case m.header[4] == reStatus:
		return min(13, m.length())
	}
	return min(9, m.length())
}

// heard looks at the header of a packet.
func (m *meter) heard() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := binary.BigEndian.Uint32(m.header[5:])
	data := m.data[id]
	delete(m.data, id)
	switch m.header[4] {
	case reStatus:
		if data && binary.BigEndian.Uint32(m.header[9:]) == 0 {
			return errSuccess
		}
	case reName:
		if m.budget -= m.length(); m.budget < 0 && m.stop != nil {
			m.stop()
		}
	}
	return nil
}

// Write is given whole packets, or beginnings of packets with at least the id, and the rest.
func (m *meter) Write(p []byte) (int, error) {
	if m.unsent == 0 {
		switch p[4] {
		case opRmdir:
			return 0, errFolder
		case opOpen, opRead, opLstat, opFstat, opOpendir, opReaddir, opRealpath, opStat:
			m.mu.Lock()
			m.data[binary.BigEndian.Uint32(p[5:])] = true
			m.mu.Unlock()
		}
		m.unsent = 4 + int64(binary.BigEndian.Uint32(p))
	}
	n, err := m.w.Write(p)
	m.unsent -= int64(n)
	if errors.Is(err, io.EOF) {
		err = net.ErrClosed // io.EOF would be taken for the end of a file
	}
	return n, err
}

// Close implements io.Closer.
func (m *meter) Close() error { return m.w.Close() }
