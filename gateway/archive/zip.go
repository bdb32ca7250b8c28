package archive

import (
	"archive/zip"
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Records of a ZIP file (APPNOTE.TXT 6.3.10, §4.3): signatures and lengths.
const (
	sigLocal     = "PK\x03\x04"
	sigDirectory = "PK\x01\x02"
	sigEnd       = "PK\x05\x06"
	sigEnd64     = "PK\x06\x06"
	sigLocator64 = "PK\x06\x07"

	lenLocal     = 30
	lenDirectory = 46
	lenEnd       = 22
	lenEnd64     = 56
	lenLocator64 = 20

	maxComment = 1<<16 - 1
)

// Fields of records that a ZIP64 field has instead.
const (
	in64x32 = 1<<32 - 1
	in64x16 = 1<<16 - 1
)

func u16(b []byte, at int) uint16 { return binary.LittleEndian.Uint16(b[at:]) }
func u32(b []byte, at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
func u64(b []byte, at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }

// damaged says what is wrong with a ZIP file.
func damaged(what string, args ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(what, args...), zip.ErrFormat)
}

// readZip is the format of ZIP files. It does not use zip.Reader, which takes more than
// twice the memory, has no limit, and does not tell where an entry begins, so that one
// could not see whether entries overlap.
func readZip(ctx context.Context, r io.ReaderAt, size int64, x *index) error {
	d, err := findDirectory(r, size)
	if err != nil {
		return err
	}
	x.entries = make([]entry, 0, min(d.records, uint64((d.end-d.begin)/lenDirectory), uint64(x.most)))
	if err := d.read(ctx, r, x); err != nil {
		return err
	}
	if err := x.limit(d.begin); err != nil {
		return err
	}
	x.finish()
	return nil
}

// A directory is where the central directory is.
type directory struct {
	begin, end int64
	base       int64  // what offsets count from
	records    uint64 // modulo 2¹⁶ at least
}

// findDirectory looks for the central directory from the end of the file on.
func findDirectory(r io.ReaderAt, size int64) (directory, error) {
	tail := make([]byte, min(size, lenEnd+maxComment))
	if _, err := r.ReadAt(tail, size-int64(len(tail))); err != nil {
		return directory{}, err
	}
	at := len(tail) - lenEnd
	for ; at >= 0; at-- {
		if b := tail[at:]; string(b[:4]) == sigEnd && lenEnd+int(u16(b, 20)) <= len(b) {
			break
		}
	}
	if at < 0 {
		return directory{}, damaged("it is no ZIP file, or is cut off")
	}
	b := tail[at:]
	d := directory{end: size - int64(len(b)), records: uint64(u16(b, 10))}
	length, offset := uint64(u32(b, 12)), uint64(u32(b, 16))
	disk := uint32(u16(b, 4)) | uint32(u16(b, 6))
	if d.records == in64x16 || length == in64x32 || offset == in64x32 {
		wide, at, err := findEnd64(r, d.end)
		if err != nil {
			return directory{}, err
		}
		if wide != nil {
			d.end, d.records = at, u64(wide, 32)
			length, offset = u64(wide, 40), u64(wide, 48)
			disk = u32(wide, 16) | u32(wide, 20)
		}
	}
	if disk != 0 {
		return directory{}, damaged("it is one of several parts")
	}
	if length > uint64(d.end) || offset > uint64(d.end)-length {
		return directory{}, damaged("the directory is not inside the file")
	}
	d.begin = d.end - int64(length)
	d.base = d.begin - int64(offset)
	err := d.rebase(r, int64(offset))
	return d, err
}

// rebase takes an offset at its word where that has a directory. Otherwise offsets
// are taken to count from the end of what was put in front of the archive.
func (d *directory) rebase(r io.ReaderAt, offset int64) error {
	if d.base == 0 {
		return nil
	}
	var sig [len(sigDirectory)]byte
	if _, err := r.ReadAt(sig[:], offset); err != nil {
		return err
	}
	if string(sig[:]) == sigDirectory {
		d.begin, d.base = offset, 0
	}
	return nil
}

// findEnd64 returns the ZIP64 record of a directory, and where it is; nil if the record
// at end has no such thing before it.
func findEnd64(r io.ReaderAt, end int64) (record []byte, at int64, err error) {
	if end < lenLocator64 {
		return nil, 0, nil
	}
	b := make([]byte, lenLocator64)
	if _, err := r.ReadAt(b, end-lenLocator64); err != nil {
		return nil, 0, err
	}
	if string(b[:4]) != sigLocator64 {
		return nil, 0, nil
	}
	if offset := u64(b, 8); offset <= uint64(end) {
		at = int64(offset)
	}
	record = make([]byte, lenEnd64)
	if at == 0 || at > end-lenLocator64-lenEnd64 {
		return nil, 0, damaged("the end of the directory is not inside the file")
	}
	if _, err := r.ReadAt(record, at); err != nil {
		return nil, 0, err
	}
	if string(record[:4]) != sigEnd64 {
		return nil, 0, damaged("the directory has no end where it is said to be")
	}
	return record, at, nil
}

// read takes all entries of the directory into an index.
func (d directory) read(ctx context.Context, r io.ReaderAt, x *index) error {
	in := bufio.NewReaderSize(io.NewSectionReader(r, d.begin, d.end-d.begin), 64<<10)
	var b [lenDirectory]byte
	var rest []byte
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		_, err := io.ReadFull(in, b[:])
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || err == nil && string(b[:4]) != sigDirectory {
			break // something else, or nothing; the number tells
		}
		if err != nil {
			return err
		}
		name, extra, comment := int(u16(b[:], 28)), int(u16(b[:], 30)), int(u16(b[:], 32))
		rest = slices.Grow(rest[:0], name+extra+comment)[:name+extra+comment]
		if _, err := io.ReadFull(in, rest); err != nil {
			return fmt.Errorf("after %d entries: %w: %w", x.seen, err, zip.ErrFormat)
		}
		e, err := parse(b[:], rest[name:name+extra])
		e.offset += d.base // which limit looks at
		if err == nil {
			err = x.add(string(rest[:name]), e)
		}
		if err != nil {
			return fmt.Errorf("after %d entries: %w", x.seen, err)
		}
	}
	if uint16(x.seen) != uint16(d.records) { // some writers know no more than 16 bits
		return damaged("the directory has %d entries and should have %d", x.seen, d.records)
	}
	return nil
}
