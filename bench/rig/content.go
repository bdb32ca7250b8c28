//go:build linux

package rig

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
)

// A Content is what bodies are cut from: each name has a body of its own, any
// stretch of which can be told without making it. It is never written to, and
// can be used by any number of goroutines.
type Content struct{ octets []byte }

// spread is how many octets the beginnings of bodies are spread over: two names
// have the same body once in so many times.
const spread = 8 << 20

// NewContent makes a Content for bodies of at most largest octets. It holds
// 8 MiB more than that. Equal seeds make equal contents.
func NewContent(seed uint64, largest int) *Content {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	c := &Content{make([]byte, spread+largest)}
	_, _ = rand.NewChaCha8(key).Read(c.octets) // it never fails
	return c
}

// Hash spreads names evenly over all numbers.
func Hash(name string) uint64 {
	h := fnv.New64a()
	_, _ = io.WriteString(h, name) // it never fails
	x := h.Sum64()
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	x ^= x >> 32
	return x
}

// Body is the body of name if it has size octets. It must not be changed.
func (c *Content) Body(name string, size int64) []byte {
	from := Hash(name) % spread
	return c.octets[from:][:size:size]
}

// ErrWrong says that octets are not those that they should be, or that there
// are more of them.
var ErrWrong = errors.New("wrong octets")

// Compare reads r to its end and compares it with want, through the memory of
// buf. ErrWrong: it is something else, or less. Other errors are those of r,
// which has been right so far.
func Compare(r io.Reader, want, buf []byte) error {
	for at := 0; ; {
		n, err := r.Read(buf)
		if n > len(want)-at {
			return fmt.Errorf("%w: more than %d", ErrWrong, len(want))
		}
		if got := buf[:n]; !bytes.Equal(got, want[at:at+n]) {
			for i := range got {
				if got[i] != want[at+i] {
					return fmt.Errorf("%w from octet %d of %d", ErrWrong, at+i, len(want))
				}
			}
		}
		at += n
		switch {
		case errors.Is(err, io.EOF) && at < len(want):
			return fmt.Errorf("%w: %d instead of %d", ErrWrong, at, len(want))
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}
