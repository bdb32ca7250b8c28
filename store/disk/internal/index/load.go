package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
)

// Load adds what Save wrote to r, as far as keep wants it; nil wants all. Others
// go on using the index: they find what was loaded when all of it was read and
// found whole, not before. What they have inserted by then stays as it is, and
// what they have removed since Load was called stays away (this takes 16 octets
// for each removal until Load returns).
//
// Load reads exactly what Save wrote and leaves what follows in r. If it returns
// an error, nothing was loaded. The error wraps ErrRefused if r is not the whole
// of what one Save wrote, in this version of the format; otherwise it is that of
// r. Load needs memory for the entries that it has read and that keep wanted, as
// the index has it for them, and for one partition as Save does.
//
// keep is called by the goroutine that called Load, without a lock. Two Loads run
// one after the other.
func (x *Index) Load(r io.Reader, keep func(Ref) bool) error {
	x.loading.Lock()
	defer x.loading.Unlock()
	for i := range x.partitions {
		x.partitions[i].beginLoad()
	}
	l := loader{r: r, keep: keep, mem: &x.pool}
	err := l.load()
	for i := range x.partitions {
		if err != nil {
			l.partitions[i].n = 0 // as if it had brought none
		}
		x.entries.Add(x.partitions[i].endLoad(&x.pool, &l.partitions[i]))
	}
	if err != nil {
		return fmt.Errorf("index: load: %w", err)
	}
	return nil
}

// beginLoad has removals remembered until endLoad.
func (p *partition) beginLoad() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken = &taken{}
}

// endLoad adds what was loaded, which nobody else has seen, and returns how many
// entries that made more.
func (p *partition) endLoad(mem *pool, loaded *partition) (more int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	taken := p.taken
	p.taken = nil
	if loaded.n == 0 {
		mem.release(loaded.table.Load())
		return 0
	}
	for _, e := range taken.entries {
		loaded.remove(e.key, e.addr)
	}
	for _, s := range taken.spans {
		loaded.removeSpan(s.lo, s.hi)
	}
	for key, word := range p.table.Load().all {
		loaded.put(mem, key, word)
	}
	loaded.trim(mem)
	more = int64(loaded.n - p.n)
	p.n = loaded.n
	p.install(mem, loaded.table.Load())
	return more
}

// pieceOctets is the most that is read at once.
const pieceOctets = 64 << 10

// A loader collects what it reads in partitions of its own.
type loader struct {
	r    io.Reader
	keep func(Ref) bool
	mem  *pool

	partitions [partitionCount]partition
	buf        []byte
	tail       [sumOctets]byte
	sum        uint32
	where      string // what is being read, for errors
}

func (l *loader) load() error {
	l.where = "header"
	head, err := l.sealed(len(magic) + 4)
	if err != nil {
		return err
	}
	if string(head[:len(magic)]) != magic {
		return l.refuse("it is not a saved index")
	}
	if v := binary.LittleEndian.Uint32(head[len(magic):]); v != version {
		return l.refuse("format version %d, want %d", v, version)
	}
	total := uint64(0)
	for i := range l.partitions {
		n, err := l.block(i)
		if err != nil {
			return err
		}
		total += uint64(n)
	}
	l.where = "end mark"
	end, err := l.sealed(len(tagDone) + 8)
	if err != nil {
		return err
	}
	if n := binary.LittleEndian.Uint64(end[len(tagDone):]); string(end[:len(tagDone)]) != tagDone || n != total {
		return l.refuse("%q and %d entries, want %q and %d", end[:len(tagDone)], n, tagDone, total)
	}
	return nil
}

// block reads the block of partition i and returns the entries in it.
func (l *loader) block(i int) (int, error) {
	l.where = fmt.Sprintf("block %d", i)
	head, err := l.sealed(blockOctets - sumOctets)
	if err != nil {
		return 0, err
	}
	tag, of, n := string(head[:4]), binary.LittleEndian.Uint32(head[4:]), int(binary.LittleEndian.Uint32(head[8:]))
	if tag != tagPart || of != uint32(i) {
		return 0, l.refuse("%q of partition %d, want %q of %d", tag, of, tagPart, i)
	}
	if n == 0 {
		return 0, nil
	}
	b, err := l.sealed(n * entryOctets)
	if err != nil {
		return 0, err
	}
	return n, l.entries(i, b)
}

// entries adds entries to partition i.
func (l *loader) entries(i int, b []byte) error {
	p := &l.partitions[i]
	p.reserve(l.mem, len(b)/entryOctets)
	for ; len(b) > 0; b = b[entryOctets:] {
		hash, word := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
		if hash>>(64-partitionBits) != uint64(i) || word>>wordBits != 0 {
			return l.refuse("no entry of it can be %016x %016x", hash, word)
		}
		if l.keep != nil && !l.keep(unpack(word)) {
			continue
		}
		if !p.put(l.mem, keyOf(hash), word) {
			return l.refuse("entry %016x at %d is there twice", hash, word&addrMask)
		}
	}
	return nil
}

// sealed reads n octets and their sum. The octets are valid until the next call.
// So many are said to come, but memory is taken only as they do.
func (l *loader) sealed(n int) ([]byte, error) {
	l.buf = l.buf[:0]
	for len(l.buf) < n {
		from := len(l.buf)
		l.buf = slices.Grow(l.buf, min(n-from, pieceOctets))[:from+min(n-from, pieceOctets)]
		if err := l.fill(l.buf[from:]); err != nil {
			return nil, err
		}
	}
	if err := l.fill(l.tail[:]); err != nil {
		return nil, err
	}
	l.sum = crc32.Update(l.sum, castagnoli, l.buf)
	if said := binary.LittleEndian.Uint32(l.tail[:]); said != l.sum {
		return nil, l.refuse("its sum is %08x, that of what was read %08x", said, l.sum)
	}
	return l.buf, nil
}

func (l *loader) fill(b []byte) error {
	_, err := io.ReadFull(l.r, b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return l.refuse("it ends too early")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", l.where, err)
	}
	return nil
}

func (l *loader) refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %s: %s", ErrRefused, l.where, fmt.Sprintf(format, args...))
}
