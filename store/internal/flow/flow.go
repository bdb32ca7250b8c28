// Package flow is what readers of bodies have in common, whatever store the
// octets are in: they come piece by piece, and perhaps are still being written.
package flow

import (
	"context"
	"errors"
	"io"
)

var errCount = errors.New("store: the receiver of a body returned an impossible count")

// A Source gives octets piece by piece, to one goroutine.
type Source interface {
	// Next returns octets that follow, at least one, without moving on. They
	// belong to the Source. It returns io.EOF at the end.
	Next() ([]byte, error)

	// Advance moves on by n octets of what Next returned.
	Advance(n int)
}

// Read is io.Reader.Read over src.
func Read(src Source, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	piece, err := src.Next()
	if err != nil {
		return 0, err
	}
	n := copy(p, piece)
	src.Advance(n)
	return n, nil
}

// WriteTo is io.WriterTo.WriteTo over src.
func WriteTo(src Source, to io.Writer) (total int64, err error) {
	for {
		piece, err := src.Next()
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
		n, err := to.Write(piece)
		if n < 0 || n > len(piece) {
			return total, errCount
		}
		src.Advance(n)
		total += int64(n)
		if err != nil {
			return total, err
		}
		if n < len(piece) {
			return total, io.ErrShortWrite
		}
	}
}

// A Progress is how a body in the making gets on, for those who follow it. It is
// guarded by a lock of its owner's, which every call needs. The zero Progress has
// just begun.
type Progress struct {
	moved chan struct{} // nil if nobody waits
	over  error         // nil until it has ended
}

// Move wakes those who wait: there is more.
func (p *Progress) Move() {
	if p.moved != nil {
		close(p.moved)
		p.moved = nil
	}
}

// End wakes those who wait for the last time: with cause, or if that is nil with
// io.EOF. It reports false, and changes nothing, if all was over before.
func (p *Progress) End(cause error) bool {
	if p.over != nil {
		return false
	}
	if p.over = cause; cause == nil {
		p.over = io.EOF
	}
	p.Move()
	return true
}

// Over returns what End was told, io.EOF in place of nil; nil before that.
func (p *Progress) Over() error { return p.over }

// Moved returns a channel that is closed by the next Move or End.
func (p *Progress) Moved() <-chan struct{} {
	if p.moved == nil {
		p.moved = make(chan struct{})
	}
	return p.moved
}

// Follow returns what from has of a body in the making: octets, an error, or, without
// either, a channel that is closed when that may have changed, for which it waits. It
// fails with the error of ctx once that has ended.
func Follow(ctx context.Context, from func() (piece []byte, moved <-chan struct{}, err error)) ([]byte, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		piece, moved, err := from()
		if moved == nil {
			return piece, err
		}
		select {
		case <-moved:
		case <-ctx.Done():
		}
	}
}
