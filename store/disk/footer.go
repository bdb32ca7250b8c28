package disk

import (
	"encoding/binary"

	"github.com/larderhq/larder/store"
)

// A line of a footer says what one record did to the index. A record has one
// for each kill, and then one for itself if it is an object.
type line struct {
	kind  byte // kindObject, or kindTombstone for a kill
	class uint8
	hash  uint64
	id    store.ID
	addr  uint64 // of the object, or of what was killed
}

const (
	lineLen    = 24
	footerMark = 0x746f6f46 // "Foot"
	trailerLen = 64
)

func (l line) put(b []byte) {
	le := binary.LittleEndian
	le.PutUint64(b, l.hash)
	le.PutUint64(b[8:], uint64(l.id))
	le.PutUint64(b[16:], uint64(l.kind)<<56|uint64(l.class)<<48|l.addr)
}

func parseLine(b []byte) line {
	le := binary.LittleEndian
	word := le.Uint64(b[16:])
	return line{byte(word >> 56), uint8(word >> 48), le.Uint64(b), store.ID(le.Uint64(b[8:])), word & (1<<48 - 1)}
}

// linesOf is what the record h, with these kills, did.
func linesOf(h *header, kills []kill, class uint8) []line {
	lines := make([]line, 0, len(kills)+1)
	for _, k := range kills {
		lines = append(lines, line{kindTombstone, 0, k.hash, k.id, k.addr})
	}
	if h.kind == kindObject {
		lines = append(lines, line{kindObject, class, h.hash, h.id, h.addr})
	}
	return lines
}

// footerLen is the length of a footer of n lines. It stands at the end of its
// segment; the trailer, its last octets, says how far it reaches back.
func footerLen(n int) int64 { return padded(int64(n)*lineLen + trailerLen) }

// newFooter returns the footer of the segment seq. used is where its records
// end, in octets from its start.
func newFooter(lines []line, seq uint64, used int64, k secret) []byte {
	b := make([]byte, footerLen(len(lines)))
	at := len(b) - trailerLen - len(lines)*lineLen
	for i, l := range lines {
		l.put(b[at+i*lineLen:])
	}
	t := b[len(b)-trailerLen:]
	le := binary.LittleEndian
	le.PutUint32(t, footerMark)
	le.PutUint32(t[4:], recordVersion)
	le.PutUint64(t[8:], seq)
	le.PutUint64(t[16:], uint64(len(lines)))
	le.PutUint64(t[24:], uint64(used))
	le.PutUint32(t[32:], sumOf(b[at:len(b)-trailerLen]))
	le.PutUint64(t[56:], k.sum(t[:56]))
	return b
}

// parseTrailer reads the last octets of segment seq, and returns how many lines
// stand before them and where the records end.
func parseTrailer(t []byte, seq uint64, segment int64, k secret) (lines int, used int64, sum uint32, ok bool) {
	le := binary.LittleEndian
	if len(t) != trailerLen || le.Uint32(t) != footerMark || le.Uint32(t[4:]) != recordVersion ||
		le.Uint64(t[8:]) != seq || le.Uint64(t[56:]) != k.sum(t[:56]) {
		return 0, 0, 0, false
	}
	n, end := le.Uint64(t[16:]), le.Uint64(t[24:])
	if n > uint64(segment)/lineLen || end > uint64(segment) || footerLen(int(n))+int64(end) > segment {
		return 0, 0, 0, false
	}
	return int(n), int64(end), le.Uint32(t[32:]), true
}

// parseLines reads the lines that stand before a trailer.
func parseLines(b []byte, sum uint32) ([]line, bool) {
	if sumOf(b) != sum {
		return nil, false
	}
	lines := make([]line, 0, len(b)/lineLen)
	for ; len(b) >= lineLen; b = b[lineLen:] {
		lines = append(lines, parseLine(b))
	}
	return lines, true
}
