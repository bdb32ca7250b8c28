package memory

import (
	"context"
	"io"
	"sync/atomic"
)

// nothing reads a body of no octets.
type nothing struct{}

func (nothing) Read([]byte) (int, error)         { return 0, io.EOF }
func (nothing) WriteTo(io.Writer) (int64, error) { return 0, nil }
func (nothing) Close() error                     { return nil }

// A reader reads a part of a committed body. Its chunks never change.
type reader struct {
	object *object
	chunks [][]byte // the first begins at the next octet
	skip   int      // but for these
	left   int64
	closed atomic.Bool
}

func newReader(o *object, chunks [][]byte, off, n int64) *reader {
	for off >= int64(len(chunks[0])) {
		off -= int64(len(chunks[0]))
		chunks = chunks[1:]
	}
	return &reader{object: o, chunks: chunks, skip: int(off), left: n}
}

// next returns octets that follow, without moving on. It returns io.EOF at
// the end.
func (r *reader) next() ([]byte, error) {
	if r.closed.Load() {
		return nil, errClosed
	}
	if r.left == 0 {
		return nil, io.EOF
	}
	piece := r.chunks[0][r.skip:]
	if int64(len(piece)) > r.left {
		piece = piece[:r.left]
	}
	return piece[:len(piece):len(piece)], nil
}

// advance moves on by n octets of what next returned.
func (r *reader) advance(n int) {
	r.left -= int64(n)
	if r.skip += n; r.skip == len(r.chunks[0]) {
		r.chunks, r.skip = r.chunks[1:], 0
	}
}

func (r *reader) Read(p []byte) (int, error) { return read(r, p) }

func (r *reader) WriteTo(to io.Writer) (int64, error) { return writeTo(r, to) }

func (r *reader) Close() error {
	if r.closed.CompareAndSwap(false, true) {
		r.object.shard.unpin(r.object)
	}
	return nil
}

// A follower reads a body from its writer, and waits at the end for more.
type follower struct {
	ctx    context.Context
	writer *writer
	off    int64 // of the next octet
	index  int   // of the chunk that off is in, as far as it was looked for
	start  int64 // offset of that chunk
	closed atomic.Bool
}

func (f *follower) next() ([]byte, error) {
	w := f.writer
	for {
		if f.closed.Load() {
			return nil, errClosed
		}
		if err := f.ctx.Err(); err != nil {
			return nil, err
		}
		w.mu.Lock()
		if f.off < w.size {
			piece := f.seek(w.object.chunks)
			w.mu.Unlock()
			return piece[:len(piece):len(piece)], nil
		}
		if w.ended {
			cause := w.cause
			w.mu.Unlock()
			if cause == nil {
				cause = io.EOF
			}
			return nil, cause
		}
		if w.wake == nil {
			w.wake = make(chan struct{})
		}
		wake := w.wake
		w.mu.Unlock()
		select {
		case <-wake:
		case <-f.ctx.Done():
		}
	}
}

// seek returns what follows f.off in its chunk. There is at least one octet.
func (f *follower) seek(chunks [][]byte) []byte {
	for {
		chunk := chunks[f.index]
		if at := f.off - f.start; at < int64(len(chunk)) {
			return chunk[at:]
		}
		f.start += int64(len(chunk)) // only the last chunk can still grow
		f.index++
	}
}

func (f *follower) advance(n int) { f.off += int64(n) }

func (f *follower) Read(p []byte) (int, error) { return read(f, p) }

func (f *follower) WriteTo(to io.Writer) (int64, error) { return writeTo(f, to) }

func (f *follower) Close() error {
	if f.closed.CompareAndSwap(false, true) {
		o := f.writer.object
		o.shard.unpin(o)
	}
	return nil
}

// A source gives stored octets piece by piece.
type source interface {
	next() ([]byte, error)
	advance(n int)
}

// read is io.Reader.Read over src.
func read(src source, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	piece, err := src.next()
	if err != nil {
		return 0, err
	}
	n := copy(p, piece)
	src.advance(n)
	return n, nil
}

// writeTo is io.WriterTo.WriteTo over src.
func writeTo(src source, to io.Writer) (total int64, err error) {
	for {
		piece, err := src.next()
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
		src.advance(n)
		total += int64(n)
		if err != nil {
			return total, err
		}
		if n < len(piece) {
			return total, io.ErrShortWrite
		}
	}
}
