package warm

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// list reads a list: a URL a line. Lines end with LF or CRLF.
func (s *Sources) list(in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine+len("\r\n"))
	n := 0
	for lines.Scan() {
		n++
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		if err := s.take(string(line)); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return fmt.Errorf("line %d: it is longer than %d KiB", n+1, maxLine>>10)
	} else if err != nil {
		return err
	}
	return nil
}
