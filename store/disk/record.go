package disk

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/larderhq/larder/store"
)

// Lengths in octets.
const (
	unit       = 512      // records begin at multiples of it
	blockLen   = 64 << 10 // what one sum of a body covers
	headerLen  = 120
	killLen    = 24
	pieceLen   = 24
	chunkTable = (unit - headerLen) / 4 // sums that fit behind the header of a chunk
)

const (
	recordMagic   = 0x6472614c // "Lard"
	recordVersion = 1
)

// Kinds of records.
const (
	kindObject    = 1 // an entry: its head, and its body or a list of its pieces
	kindChunk     = 2 // a piece of a large body, which means nothing by itself
	kindTombstone = 3 // entries that were removed
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func sumOf(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// padded rounds n octets up to whole units.
func padded(n int64) int64 { return (n + unit - 1) &^ (unit - 1) }

// blocksOf returns how many blocks n octets of a body have.
func blocksOf(n int64) int64 { return (n + blockLen - 1) / blockLen }

// A header begins each record. On disk it is sealed by a keyed hash, which
// covers where and in which life of its segment it stands: what is left over
// from a former life, what was moved, and what a client sent as a body, does
// not pass.
//
// An object is: header, key, kills, pieces, sums of the blocks, head, body. A
// chunk is one unit of header and sums, then the octets.
type header struct {
	kind byte
	seq  uint64 // of the segment
	addr uint64 // of the record, in units from the start of the file
	hash uint64 // of the key
	id   store.ID
	rev  uint32

	until int64
	size  int64 // of the body, or of a chunk

	// The oldest segment that has a piece of the body, and an address in it;
	// zero if the body is in this record.
	bodySeq, bodyAddr uint64

	keyLen, headLen       uint32
	kills, pieces, blocks uint32 // lengths of the lists
	tableSum, headSum     uint32 // of the three lists, of the head
}

// put writes h to the first headerLen octets of b.
func (h *header) put(b []byte, k secret) {
	le := binary.LittleEndian
	le.PutUint32(b, recordMagic)
	b[4], b[5], b[6], b[7] = h.kind, recordVersion, 0, 0
	le.PutUint64(b[8:], h.seq)
	le.PutUint64(b[16:], h.addr)
	le.PutUint64(b[24:], h.hash)
	le.PutUint64(b[32:], uint64(h.id))
	le.PutUint64(b[40:], uint64(h.until))
	le.PutUint64(b[48:], uint64(h.size))
	le.PutUint64(b[56:], h.bodySeq)
	le.PutUint64(b[64:], h.bodyAddr)
	le.PutUint32(b[72:], h.rev)
	le.PutUint32(b[76:], h.keyLen)
	le.PutUint32(b[80:], h.headLen)
	le.PutUint32(b[84:], h.kills)
	le.PutUint32(b[88:], h.pieces)
	le.PutUint32(b[92:], h.blocks)
	le.PutUint32(b[96:], h.tableSum)
	le.PutUint32(b[100:], h.headSum)
	le.PutUint64(b[104:], 0)
	le.PutUint64(b[112:], k.sum(b[:112]))
}

// parseHeader reads what put wrote. It reports false for anything else, and for
// lengths that no record of at most limit octets has.
func parseHeader(b []byte, k secret, limit int64) (header, bool) {
	le := binary.LittleEndian
	if len(b) < headerLen || le.Uint32(b) != recordMagic || b[5] != recordVersion || le.Uint64(b[112:]) != k.sum(b[:112]) {
		return header{}, false
	}
	h := header{
		kind: b[4],
		seq:  le.Uint64(b[8:]), addr: le.Uint64(b[16:]), hash: le.Uint64(b[24:]),
		id: store.ID(le.Uint64(b[32:])), until: int64(le.Uint64(b[40:])), size: int64(le.Uint64(b[48:])),
		bodySeq: le.Uint64(b[56:]), bodyAddr: le.Uint64(b[64:]),
		rev: le.Uint32(b[72:]), keyLen: le.Uint32(b[76:]), headLen: le.Uint32(b[80:]),
		kills: le.Uint32(b[84:]), pieces: le.Uint32(b[88:]), blocks: le.Uint32(b[92:]),
		tableSum: le.Uint32(b[96:]), headSum: le.Uint32(b[100:]),
	}
	return h, h.sane(limit)
}

// sane says whether a record of at most limit octets can have these lengths.
func (h *header) sane(limit int64) bool {
	inline := h.pieces == 0
	switch {
	case h.size < 0:
		return false
	case h.kind == kindChunk:
		return h.size > 0 && h.size <= limit && h.blocks <= chunkTable && int64(h.blocks) == blocksOf(h.size)
	case h.kind == kindTombstone:
		return h.kills > 0 && h.pieces|h.blocks|h.keyLen|h.headLen == 0 && h.size == 0 && h.octets() <= limit
	case h.kind != kindObject:
		return false
	case inline && (h.size > limit || int64(h.blocks) != blocksOf(h.size)):
		return false
	case !inline && h.blocks != 0:
		return false
	}
	return h.octets() <= limit
}

// Offsets of the parts of an object, from the start of the record.
func (h *header) killsAt() int64  { return headerLen + int64(h.keyLen) }
func (h *header) piecesAt() int64 { return h.killsAt() + int64(h.kills)*killLen }
func (h *header) sumsAt() int64   { return h.piecesAt() + int64(h.pieces)*pieceLen }
func (h *header) headAt() int64   { return h.sumsAt() + int64(h.blocks)*4 }
func (h *header) bodyAt() int64 {
	if h.kind == kindChunk {
		return unit
	}
	return h.headAt() + int64(h.headLen)
}

// octets is the length of the record without what fills it up.
func (h *header) octets() int64 {
	if h.pieces > 0 {
		return h.bodyAt()
	}
	return h.bodyAt() + h.size
}

// at is the offset in the file of what lies n octets into the record.
func (h *header) at(n int64) int64 { return int64(h.addr)*unit + n }

// A kill says that an entry is gone since: replaced, amended, moved or removed.
type kill struct {
	hash uint64
	id   store.ID
	addr uint64 // where its record lay; zero: wherever there is one of this ID
}

func (k kill) put(b []byte) {
	binary.LittleEndian.PutUint64(b, k.hash)
	binary.LittleEndian.PutUint64(b[8:], uint64(k.id))
	binary.LittleEndian.PutUint64(b[16:], k.addr)
}

func parseKill(b []byte) kill {
	le := binary.LittleEndian
	return kill{le.Uint64(b), store.ID(le.Uint64(b[8:])), le.Uint64(b[16:])}
}

// A piece is a run of octets of a body that lies in a record of its own.
type piece struct {
	addr uint64 // of that record
	seq  uint64 // of its segment
	size int64
}

func (p piece) put(b []byte) {
	binary.LittleEndian.PutUint64(b, p.addr)
	binary.LittleEndian.PutUint64(b[8:], p.seq)
	binary.LittleEndian.PutUint64(b[16:], uint64(p.size))
}

// parsePieces returns the pieces of a body of size octets, or false if these
// are none.
func parsePieces(b []byte, size int64) ([]piece, bool) {
	le := binary.LittleEndian
	var all []piece
	for ; len(b) >= pieceLen; b = b[pieceLen:] {
		p := piece{le.Uint64(b), le.Uint64(b[8:]), int64(le.Uint64(b[16:]))}
		if p.size <= 0 || p.size > size {
			return nil, false
		}
		size -= p.size
		all = append(all, p)
	}
	return all, size == 0
}

// A draft is a record in the making: all but its place.
type draft struct {
	header
	octets []byte // padded; the header is not in it yet
}

// newDraft lays out an object or a tombstone. The body is in the record if there
// are no pieces, and must have h.size octets then.
func newDraft(h header, key, head []byte, kills []kill, pieces []piece, body []byte) *draft {
	h.keyLen, h.headLen = uint32(len(key)), uint32(len(head))
	h.kills, h.pieces = uint32(len(kills)), uint32(len(pieces))
	if len(pieces) == 0 {
		h.blocks = uint32(blocksOf(h.size))
	} else {
		oldest := pieces[0]
		for _, p := range pieces {
			if p.seq < oldest.seq {
				oldest = p
			}
		}
		h.bodySeq, h.bodyAddr = oldest.seq, oldest.addr
	}
	d := &draft{header: h}
	d.octets = make([]byte, padded(d.header.octets()))
	copy(d.octets[headerLen:], key)
	for i, k := range kills {
		k.put(d.octets[h.killsAt()+int64(i)*killLen:])
	}
	for i, p := range pieces {
		p.put(d.octets[h.piecesAt()+int64(i)*pieceLen:])
	}
	putSums(d.octets[h.sumsAt():], body)
	copy(d.octets[h.headAt():], head)
	copy(d.octets[h.bodyAt():], body)
	d.tableSum = sumOf(d.octets[h.killsAt():h.headAt()])
	d.headSum = sumOf(head)
	return d
}

// putSums writes the sums of the blocks of body.
func putSums(b, body []byte) {
	for ; len(body) > 0; b = b[4:] {
		n := min(len(body), blockLen)
		binary.LittleEndian.PutUint32(b, sumOf(body[:n]))
		body = body[n:]
	}
}

// settle gives the record its place.
func (d *draft) settle(addr, seq uint64, k secret) {
	d.addr, d.seq = addr, seq
	d.put(d.octets, k)
}

func parseSums(b []byte) []uint32 {
	sums := make([]uint32, len(b)/4)
	for i := range sums {
		sums[i] = binary.LittleEndian.Uint32(b[i*4:])
	}
	return sums
}
