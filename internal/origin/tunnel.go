package origin

import "errors"

// A tunnel is a connection that no longer carries HTTP. One goroutine reads and one
// writes; any may close it.
type tunnel struct{ c *conn }

// Read implements io.Reader. What came with the 101 comes first.
func (t *tunnel) Read(p []byte) (int, error) {
	c := t.c
	if c.buf == nil {
		return c.stream.Read(p)
	}
	n := copy(p, c.pending())
	if c.r += n; c.r == c.w {
		c.settle()
	}
	if n == 0 && len(p) > 0 {
		return c.stream.Read(p)
	}
	return n, nil
}

// Write implements io.Writer.
func (t *tunnel) Write(p []byte) (int, error) { return t.c.stream.Write(p) }

// Close implements io.Closer.
func (t *tunnel) Close() error { return t.c.stream.Close() }

// CloseWrite ends our side, if the transport can.
func (t *tunnel) CloseWrite() error {
	if c, ok := t.c.stream.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return errors.ErrUnsupported
}
