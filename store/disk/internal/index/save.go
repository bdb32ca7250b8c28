package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
)

// A saved index is a header, a block for each partition in their order, and an
// end mark. Numbers are little-endian.
//
//	header     "larderix", version u32, sum u32
//	block      "part", partition u32, entries u32, sum u32, then if there are
//	           entries, for each: hash u64, word u64, and in the end sum u32
//	end mark   "done", entries in all u64, sum u32
//
// A sum is the CRC-32C of all that stands before it from the beginning, save the
// sums. So a block of another save, as a file may have that was written over
// and not synced, is found out even though it is whole.
const (
	magic   = "larderix"
	version = 1

	tagPart = "part"
	tagDone = "done"

	entryOctets = 16
	sumOctets   = 4
	blockOctets = 12 + sumOctets // before the entries
)

// ErrRefused is in the errors of Load that are the fault of what was saved, as
// opposed to those of reading it.
var ErrRefused = errors.New("the saved index is not whole")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Save writes what is there to w, for Load: 16 octets an entry and about 5 KiB,
// in one Write a partition. Others go on using the index; what they change
// during a Save may be in it or not, though each partition is saved as it was at
// one time. Save needs memory for one partition, which is 1/256 of the index.
func (x *Index) Save(w io.Writer) error {
	s := saver{buf: make([]byte, 0, entryOctets<<10)}
	s.buf = append(s.buf, magic...)
	s.buf = binary.LittleEndian.AppendUint32(s.buf, version)
	s.seal(0)
	total := 0
	for i := range x.partitions {
		total += s.block(i, &x.partitions[i])
		if _, err := w.Write(s.buf); err != nil {
			return fmt.Errorf("index: save: %w", err)
		}
		s.buf = s.buf[:0]
	}
	s.buf = append(s.buf, tagDone...)
	s.buf = binary.LittleEndian.AppendUint64(s.buf, uint64(total))
	s.seal(0)
	if _, err := w.Write(s.buf); err != nil {
		return fmt.Errorf("index: save: %w", err)
	}
	return nil
}

// A saver collects what is to be written.
type saver struct {
	buf []byte
	sum uint32
}

// seal appends the sum after what was appended from offset from on.
func (s *saver) seal(from int) {
	s.sum = crc32.Update(s.sum, castagnoli, s.buf[from:])
	s.buf = binary.LittleEndian.AppendUint32(s.buf, s.sum)
}

// block appends the block of a partition, whose lock is held only while it is
// copied, and returns its entries.
func (s *saver) block(i int, p *partition) int {
	p.mu.Lock()
	n := p.n
	s.buf = slices.Grow(s.buf, blockOctets+n*entryOctets+sumOctets)
	head := len(s.buf)
	s.buf = s.buf[:head+blockOctets]
	for key, word := range p.table.Load().all {
		s.buf = binary.LittleEndian.AppendUint64(s.buf, hashOf(i, key))
		s.buf = binary.LittleEndian.AppendUint64(s.buf, word)
	}
	p.mu.Unlock()

	end := len(s.buf)
	s.buf = append(s.buf[:head], tagPart...)
	s.buf = binary.LittleEndian.AppendUint32(s.buf, uint32(i))
	s.buf = binary.LittleEndian.AppendUint32(s.buf, uint32(n))
	s.seal(head)
	s.buf = s.buf[:end]
	if n > 0 {
		s.seal(head + blockOctets)
	}
	return n
}
