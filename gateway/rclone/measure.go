package rclone

import (
	"bytes"
	"errors"
	"io"
	"os"
)

// small is how much of a body of unknown size is held in memory to see its end: the
// upload of unknown size costs most backends several requests.
const small = 64 << 10

// A measured body has a size, or the backend does without.
type measured struct {
	io.Reader
	size int64
	file *os.File // nil: it is not in a file
}

// Close is needed once, and only for the file.
func (m measured) Close() error {
	if m.file == nil {
		return nil
	}
	return m.file.Close()
}

// measured finds out how long a body of unknown size is, where the backend must know
// or it costs little.
func (s *Source) measured(body io.Reader) (measured, error) {
	start, err := io.ReadAll(io.LimitReader(body, small))
	switch {
	case err != nil:
		return measured{}, ours{err}
	case len(start) < small:
		return measured{Reader: bytes.NewReader(start), size: int64(len(start))}, nil
	}
	body = io.MultiReader(bytes.NewReader(start), body)
	if s.f.Features().PutStream != nil {
		return measured{Reader: body, size: -1}, nil
	}
	return spooled(body)
}

// spooled is a body in a file without a name.
func spooled(body io.Reader) (measured, error) {
	f, err := os.CreateTemp("", "larder-rclone-")
	if err != nil {
		return measured{}, err
	}
	from := &lent{r: body, left: -1}
	n, err := io.Copy(f, from)
	if broken := from.broken(); broken != nil {
		err = broken
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err = errors.Join(err, os.Remove(f.Name())); err != nil {
		return measured{}, errors.Join(err, f.Close())
	}
	return measured{Reader: f, size: n, file: f}, nil
}
