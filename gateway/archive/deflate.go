package archive

import (
	"bufio"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"io"
	"sync"
)

// An inflater is what takes memory when a Deflate entry is read: some 80 KiB.
type inflater struct {
	in  *bufio.Reader
	out io.ReadCloser // a flate.Resetter
}

var inflaters = sync.Pool{New: func() any {
	in := bufio.NewReaderSize(nil, 32<<10)
	return &inflater{in, flate.NewReader(in)}
}}

// inflate makes r read what is compressed in raw.
func (r *reader) inflate(raw io.Reader) {
	i := inflaters.Get().(*inflater)
	i.in.Reset(raw)
	_ = i.out.(flate.Resetter).Reset(i.in, nil) // never fails
	r.r = i.out
	r.free = func() {
		r.r = ended{}
		i.in.Reset(nil)
		inflaters.Put(i)
	}
}

// An ended reader is what is left of one that was closed.
type ended struct{}

func (ended) Read([]byte) (int, error) { return 0, io.ErrClosedPipe }

// gzipHead begins a member (RFC 1952 §2.3): Deflate, no fields, no time, any system.
const gzipHead = "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"

// gzipSize is the size of an entry as NAME.gz.
func gzipSize(e entry) int64 { return int64(len(gzipHead)) + e.packed + 8 }

// gzip reads n octets of NAME.gz from off on.
func (o *object) gzip(off, n int64) io.Reader {
	var tail []byte
	tail = binary.LittleEndian.AppendUint32(tail, o.e.crc)
	tail = binary.LittleEndian.AppendUint32(tail, uint32(o.e.size)) // modulo 2³², as it should be
	var parts []io.Reader
	for _, p := range []struct {
		size int64
		at   func(off, n int64) io.Reader
	}{
		{int64(len(gzipHead)), func(off, n int64) io.Reader { return bytes.NewReader([]byte(gzipHead)[off : off+n]) }},
		{o.e.packed, o.raw},
		{int64(len(tail)), func(off, n int64) io.Reader { return bytes.NewReader(tail[off : off+n]) }},
	} {
		if part := min(n, p.size-off); part > 0 {
			parts = append(parts, p.at(off, part))
			n -= part
		}
		off = max(0, off-p.size)
	}
	return io.MultiReader(parts...)
}
