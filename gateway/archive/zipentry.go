package archive

import (
	"cmp"
	"iter"
	"slices"
	"time"
)

// Flags of an entry (§4.4.4).
const (
	flagEncrypted  = 1<<0 | 1<<6 | 1<<13 // any of them
	flagDescriptor = 1 << 3              // sum and sizes come after the octets
)

// Systems whose file types the external attributes have (§4.4.2), and these.
const (
	madeByUnix   = 3
	madeByDarwin = 19

	typeMask    = 0o170000
	typeRegular = 0o100000
	typeFolder  = 0o040000
)

// Extra fields (§4.5).
const (
	fieldZip64 = 0x0001
	fieldTime  = 0x5455 // of Info-ZIP: times of UTC, in seconds
)

// parse makes an entry of a record of the directory. Its numbers may be anything.
func parse(b, extra []byte) (entry, error) {
	e := entry{
		kind:     kindOf(b),
		method:   u16(b, 10),
		modified: dosTime(u16(b, 14), u16(b, 12)),
		crc:      u32(b, 16),
		packed:   int64(u32(b, 20)),
		size:     int64(u32(b, 24)),
		offset:   int64(u32(b, 42)),
	}
	wide := e.packed == in64x32 || e.offset == in64x32 // a size may also just be that
	for id, f := range fields(extra) {
		switch {
		case id == fieldTime && len(f) >= 5 && f[0]&1 != 0:
			e.modified = int64(int32(u32(f, 1)))
		case id == fieldZip64:
			wide = !e.widen(f)
		}
	}
	if wide {
		return e, damaged("an entry has no ZIP64 field, or a short one")
	}
	return e, nil
}

// widen takes from a ZIP64 field what has no room in the record, which is there in
// this order. It is false if something is missing.
func (e *entry) widen(field []byte) bool {
	for _, n := range []*int64{&e.size, &e.packed, &e.offset} {
		if *n != in64x32 {
			continue
		}
		if len(field) < 8 {
			return false
		}
		*n, field = int64(u64(field, 0)), field[8:]
	}
	return true
}

// kindOf tells what the entry of a record is, by its flags and by the file type that
// some systems give.
func kindOf(b []byte) kind {
	if b[5] == madeByUnix || b[5] == madeByDarwin {
		switch u16(b, 40) & typeMask {
		case 0, typeRegular:
		case typeFolder:
			return folderEntry
		default:
			return nothing
		}
	}
	if u16(b, 8)&flagEncrypted != 0 {
		return encryptedFile
	}
	return zipFile
}

// fields gives the extra fields by their IDs, as far as they are well formed.
func fields(extra []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(extra) >= 4 {
			id, n := u16(extra, 0), int(u16(extra, 2))
			extra = extra[4:]
			if n > len(extra) || !yield(id, extra[:n]) {
				return
			}
			extra = extra[n:]
		}
	}
}

// dosTime tells the seconds since 1970 of a time that has no zone, and is taken for UTC.
func dosTime(date, clock uint16) int64 {
	if date == 0 {
		return 0
	}
	return time.Date(1980+int(date>>9), time.Month(date>>5&15), int(date&31),
		int(clock>>11), int(clock>>5&63), int(clock&31)*2, 0, time.UTC).Unix()
}

// limit tells each entry where the next one begins, the last that the directory is at
// end. None may reach beyond that: entries that share octets are made to
// have few of them inflate to many.
func (x *index) limit(end int64) error {
	slices.SortFunc(x.entries, func(a, b entry) int { return cmp.Compare(a.offset, b.offset) })
	for i := range x.entries {
		e := &x.entries[i]
		e.limit = end
		if i+1 < len(x.entries) {
			e.limit = x.entries[i+1].offset
		}
		if e.offset < 0 || e.packed < 0 || e.size < 0 || e.packed > e.limit-e.offset-lenLocal {
			return damaged("%q reaches into another entry or out of the file", x.of(e))
		}
	}
	return nil
}

// locate returns where the octets of an entry begin, if its local header says the same
// as the directory.
func (a *archive) locate(e entry) (int64, error) {
	if e.method == methodStored && e.packed != e.size || e.size == 0 && e.crc != 0 {
		return 0, damaged("its size does not agree with itself")
	}
	b := make([]byte, lenLocal)
	if _, err := a.file.ReadAt(b, e.offset); err != nil {
		return 0, err
	}
	name := make([]byte, u16(b, 26))
	data := e.offset + lenLocal + int64(len(name)) + int64(u16(b, 28))
	switch flags := u16(b, 6); {
	case string(b[:4]) != sigLocal:
		return 0, damaged("it is not where the directory says")
	case data > e.limit-e.packed:
		return 0, damaged("it reaches into another entry or out of the file")
	case u16(b, 8) != e.method, flags&flagEncrypted != 0,
		flags&flagDescriptor == 0 && (u32(b, 14) != e.crc || !agrees(u32(b, 18), e.packed) || !agrees(u32(b, 22), e.size)):
		return 0, damaged("its header does not agree with the directory")
	}
	if _, err := a.file.ReadAt(name, e.offset+lenLocal); err != nil {
		return 0, err
	}
	if local, _ := clean(string(name)); key(local) != string(a.index.of(&e)) {
		return 0, damaged("its header has another name than the directory")
	}
	return data, nil
}

// agrees tells whether a size of a local header can be the true one.
func agrees(local uint32, size int64) bool { return local == in64x32 || int64(local) == size }
