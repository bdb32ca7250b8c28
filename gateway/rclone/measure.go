package rclone

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/larderhq/larder/gateway"
)

// small is how much of a body of unknown size is held in memory to see its end: the
// upload of unknown size costs most backends several requests.
const small = 64 << 10

// maxSpooled is how many octets all bodies of a Source that wait in files have.
const maxSpooled = 5 << 30

// A measured body has a size, or the backend does without: that is negative, then.
type measured struct {
	io.Reader
	size  int64
	from  *lent
	spool *spool // nil: it is not in a file
}

// Close is needed once, and only for the file.
func (m *measured) Close() error {
	if m.spool == nil {
		return nil
	}
	return m.spool.Close()
}

// measured finds out how long a body of unknown size is, where the backend must know
// or it costs little.
func (s *Source) measured(from *lent) (*measured, error) {
	if from.left >= 0 {
		return &measured{Reader: from, size: from.left, from: from}, nil
	}
	start, err := io.ReadAll(io.LimitReader(from, small))
	switch {
	case err != nil:
		return nil, ours{err}
	case len(start) < small:
		return &measured{Reader: bytes.NewReader(start), size: int64(len(start)), from: from}, nil
	}
	m := &measured{Reader: io.MultiReader(bytes.NewReader(start), from), size: -1, from: from}
	if s.f.Features().PutStream == nil {
		err = s.fill(m)
	}
	return m, err
}

// fill makes m a body in a file without a name.
func (s *Source) fill(m *measured) error {
	f, err := os.CreateTemp("", "larder-rclone-")
	if err != nil {
		return err
	}
	p := &spool{file: f, room: &s.room}
	err = os.Remove(f.Name())
	if err == nil {
		_, err = io.Copy(p, m.Reader)
	}
	if broken := m.from.broken(); broken != nil {
		err = broken
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return errors.Join(err, p.Close())
	}
	m.Reader, m.size, m.spool = f, p.size, p
	return nil
}

// A spool is a file that takes no more than there is room for.
type spool struct {
	file *os.File
	room *atomic.Int64
	size int64
}

var errRoom = fmt.Errorf("bodies of unknown size that wait for their end have more than %d octets: %w", int64(maxSpooled), gateway.ErrFull)

func (p *spool) Write(b []byte) (int, error) {
	n := int64(len(b))
	if p.room.Add(-n) < 0 {
		p.room.Add(n)
		return 0, errRoom
	}
	p.size += n
	return p.file.Write(b)
}

func (p *spool) Close() error {
	p.room.Add(p.size)
	return p.file.Close()
}
