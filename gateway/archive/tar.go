package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// sparseField begins the PAX fields of a sparse file of GNU tar.
const sparseField = "GNU.sparse."

// compressions are how compressed files begin, by the programs that unpack them.
var compressions = []struct{ magic, program string }{
	{"\x1f\x8b", "gunzip"},
	{"\x28\xb5\x2f\xfd", "unzstd"},
	{"BZh", "bunzip2"},
	{"\xfd7zXZ\x00", "unxz"},
	{"\x04\x22\x4d\x18", "unlz4"},
	{"LZIP", "lzip -d"},
	{"\x1f\x9d", "uncompress"},
}

// readTar is the format of tar files that are not compressed.
func readTar(ctx context.Context, r io.ReaderAt, size int64, x *index) error {
	if err := uncompressed(r); err != nil {
		return err
	}
	w := &window{r: io.NewSectionReader(r, 0, size)}
	in := tar.NewReader(w)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) { // add looks at the names
			return fmt.Errorf("after %d entries: %w", x.seen, err)
		}
		if err := x.addHeader(h, w.pos, size); err != nil {
			return err
		}
	}
	if w.last == 0 {
		return fmt.Errorf("it ends without two blocks of zeros: it is cut off, or not written yet: %w", io.ErrUnexpectedEOF)
	}
	x.finish()
	return nil
}

// uncompressed fails for a compressed file.
func uncompressed(r io.ReaderAt) error {
	head := make([]byte, 8)
	n, err := r.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	for _, c := range compressions {
		if bytes.HasPrefix(head[:n], []byte(c.magic)) {
			return fmt.Errorf("it is compressed, and has no random access; decompress it first, with %s: %w", c.program, tar.ErrHeader)
		}
	}
	return nil
}

// addHeader takes in the entry of a header that ends at offset.
func (x *index) addHeader(h *tar.Header, offset, size int64) error {
	e := entry{offset: offset, limit: size, packed: h.Size, size: h.Size, modified: h.ModTime.Unix()}
	switch h.Typeflag {
	case tar.TypeXGlobalHeader:
		return nil // about other entries
	case tar.TypeLink:
		return x.addLink(h.Name, h.Linkname, e.modified)
	case tar.TypeDir:
		e.kind = folderEntry
	case tar.TypeGNUSparse:
		e.kind = sparseFile
	case tar.TypeReg, tar.TypeCont:
		e.kind = tarFile
		for field := range h.PAXRecords {
			if strings.HasPrefix(field, sparseField) {
				e.kind = sparseFile
			}
		}
	}
	if e.kind == tarFile && e.size > size-offset {
		return fmt.Errorf("after %d entries: %w", x.seen, io.ErrUnexpectedEOF)
	}
	return x.add(h.Name, e)
}

// A window reads a file a bit ahead, for headers are short and near each other. It
// seeks as archive/tar does.
type window struct {
	r     io.ReaderAt
	pos   int64
	ahead []byte // from pos on
	last  int    // octets that the last Read gave
	buf   [8 << 10]byte
}

func (w *window) Read(p []byte) (int, error) {
	w.last = 0
	if len(w.ahead) == 0 {
		n, err := w.r.ReadAt(w.buf[:], w.pos)
		if n == 0 {
			return 0, err
		}
		w.ahead = w.buf[:n]
	}
	w.last = copy(p, w.ahead)
	w.ahead = w.ahead[w.last:]
	w.pos += int64(w.last)
	return w.last, nil
}

// Seek moves by offset octets forward.
func (w *window) Seek(offset int64, whence int) (int64, error) {
	if whence != io.SeekCurrent || offset < 0 || w.pos+offset < w.pos {
		return 0, errors.ErrUnsupported
	}
	w.ahead = w.ahead[min(offset, int64(len(w.ahead))):]
	w.pos += offset
	return w.pos, nil
}
