package archive

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"io/fs"
	"time"

	"github.com/larderhq/larder/gateway"
)

// Methods of compression that can be read.
const (
	methodStored  = zip.Store
	methodDeflate = zip.Deflate
)

// An object is an entry of an archive that it holds; or a folder, which has no octets.
type object struct {
	a       *archive
	e       entry
	info    gateway.Info
	data    int64 // where the octets begin in the archive
	gzipped bool  // it is NAME.gz
	closed  bool
	skips   chan struct{}
	about   func(error) error
}

// object makes an Object of an entry, if it can be read at all.
func (a *archive) object(e entry, gzipped bool) (*object, error) {
	o := &object{a: a, e: e, info: a.info(e, gzipped), data: e.offset, gzipped: gzipped}
	switch {
	case e.kind == encryptedFile:
		return nil, fmt.Errorf("it is encrypted: %w", fs.ErrPermission)
	case e.kind == sparseFile:
		return nil, fmt.Errorf("it is a sparse file; make the archive without --sparse: %w", errors.ErrUnsupported)
	case e.kind == tarFile:
		return o, nil
	case e.method != methodStored && e.method != methodDeflate:
		return nil, fmt.Errorf("it is compressed by method %d, and only 0 and 8 can be read: %w: %w", e.method, zip.ErrAlgorithm, errors.ErrUnsupported)
	}
	var err error
	o.data, err = a.locate(e)
	if changed := a.unchanged(); changed != nil {
		err = changed // rather than damaged
	}
	if err != nil {
		return nil, err
	}
	return o, nil
}

// info tells what the index knows of an entry.
func (a *archive) info(e entry, gzipped bool) gateway.Info {
	id := fmt.Appendf(nil, "%s %d %d %d %d %d", a.identity, e.offset, e.packed, e.size, e.modified, e.crc)
	sum := sha256.Sum256(id)
	i := gateway.Info{
		Size:     e.size,
		Modified: time.Unix(e.modified, 0),
		Version:  fmt.Sprintf("%x", sum[:12]),
		Certain:  a.state.sure,
	}
	if e.modified == 0 {
		i.Modified = a.state.info.ModTime()
	}
	i.Sequential = !gzipped && e.kind == zipFile && e.method == methodDeflate
	if gzipped {
		i.Size = gzipSize(e)
		i.Version += "-gz"
	}
	return i
}

func (o *object) Info() gateway.Info { return o.info }

func (o *object) Close() error {
	if !o.closed {
		o.closed = true
		o.a.release()
	}
	return nil
}

// Range reads a Stored entry, one of a tar file and NAME.gz from off on; a Deflate
// entry from its beginning.
func (o *object) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if off < 0 || n <= 0 || off > o.info.Size || n > o.info.Size-off {
		return nil, o.about(fmt.Errorf("%d octets from %d on are not in it", n, off))
	}
	r := &reader{ctx: ctx, o: o}
	switch {
	case o.gzipped:
		r.r = o.gzip(off, n)
	case o.e.kind == zipFile && o.e.method == methodDeflate:
		r.inflate(o.raw(0, o.e.packed))
		r.sum = crc32.NewIEEE()
		if err := r.skip(off); err != nil {
			return nil, errors.Join(err, r.Close())
		}
	default:
		r.r = o.raw(off, n)
		if o.e.kind == zipFile && off == 0 {
			r.sum = crc32.NewIEEE()
		}
	}
	return gateway.Reader(r, n, r.still), nil
}

// raw reads n octets of the archive's as they are, from off on in the entry.
func (o *object) raw(off, n int64) io.Reader {
	return &unmodified{o.a, io.NewSectionReader(o.a.file, o.data+off, n)}
}

// An unmodified reader gives no octet read after the file was written to.
type unmodified struct {
	a *archive
	r io.Reader
}

func (u *unmodified) Read(p []byte) (int, error) {
	n, err := u.r.Read(p)
	if changed := u.a.unchanged(); changed != nil {
		return 0, changed
	}
	return n, err
}

// A reader reads an object until its context ends, and sums up what it read.
type reader struct {
	ctx  context.Context
	o    *object
	r    io.Reader
	free func()      // gives what inflates back; nil if nothing does
	sum  hash.Hash32 // of all from the entry's beginning on; nil if not known
	read int64       // octets in sum
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, r.o.about(err)
	}
	n, err := r.r.Read(p)
	if r.sum != nil {
		_, _ = r.sum.Write(p[:n]) // never fails
		r.read += int64(n)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = r.o.about(err)
	}
	return n, err
}

// skip reads n octets for nobody. As there may be many, and processors are few, it waits
// until others have done so.
func (r *reader) skip(n int64) error {
	if n == 0 {
		return nil
	}
	select {
	case r.o.skips <- struct{}{}:
		defer func() { <-r.o.skips }()
	case <-r.ctx.Done():
		return r.o.about(r.ctx.Err())
	}
	_, err := io.CopyN(io.Discard, r, n)
	if errors.Is(err, io.EOF) {
		err = r.o.about(io.ErrUnexpectedEOF)
	}
	return err
}

// still is asked before the last octets are given. If they are the entry's last
// ones, the entry must end there and have the right sum.
func (r *reader) still() error {
	if r.sum != nil && r.read == r.o.e.size {
		sum := r.sum.Sum32()
		switch _, err := io.ReadFull(r, make([]byte, 1)); {
		case err == nil:
			return r.o.about(fmt.Errorf("it has more octets than the %d that the directory says: %w", r.o.e.size, zip.ErrFormat))
		case !errors.Is(err, io.EOF):
			return err
		case sum != r.o.e.crc:
			return r.o.about(zip.ErrChecksum)
		}
	}
	if err := r.o.a.unchanged(); err != nil {
		return r.o.about(err)
	}
	return nil
}

func (r *reader) Close() error {
	if r.free != nil {
		r.free()
		r.free = nil
	}
	return nil
}
