package h2

import (
	"errors"

	"golang.org/x/net/http2/hpack"
)

// tableSize is the most that a client may have us remember of its fields, in octets
// as RFC 7541 §4.1 counts them: the size that both sides begin with.
const tableSize = 4096

// fieldOverhead is what every field counts besides its octets (RFC 7541 §4.1, RFC 9113 §6.5.2).
const fieldOverhead = 32

// errBomb says that a block stands for so much more than is kept that it is read no further.
var errBomb = errors.New("a few octets that stand for a very long head (RFC 9113 10.5.1)")

// bombSize is how many times as long as a head may be it is read to its end, for what follows
// depends on it.
const bombSize = 4

var errCompression = errors.New("the header block is not as HPACK has it (RFC 7541)")

// A decoder reads header blocks (RFC 7541). It keeps what it has read in octets, and
// allocates only where it has to grow. It is one goroutine's.
type decoder struct {
	table  table
	octets []byte // names and values of the block
	spans  []span

	// What is beyond these is read, as what follows depends on it, and not kept.
	mostOctets int
	mostFields int
	size       int // of the block, as it counts; more than mostOctets: something was not kept
	crumbs     int // fields that are Cookie, which are one in the end
}

// A span is a field in the decoder's octets.
type span struct {
	at, name, value int
	entry           entryID
}

// over tells whether there is more in the block than is kept.
func (d *decoder) over() bool {
	return d.size > d.mostOctets || len(d.spans)-d.crumbs > d.mostFields
}

// field returns a field of the block, until the next one is decoded.
func (d *decoder) field(s span) (name, value []byte) {
	return d.octets[s.at : s.at+s.name], d.octets[s.at+s.name : s.at+s.name+s.value]
}

// decode reads a whole header block.
func (d *decoder) decode(b []byte) error {
	d.octets, d.spans, d.size, d.crumbs = d.octets[:0], d.spans[:0], 0, 0
	var ok bool
	for began := false; len(b) > 0; {
		first := b[0]
		switch {
		case first&0x80 != 0: // RFC 7541 §6.1
			var i int
			if i, b, ok = readInt(b, 7); !ok || !d.indexed(i) {
				return errCompression
			}
		case first&0xe0 == 0x20: // §6.3, and §4.2
			var n int
			if n, b, ok = readInt(b, 5); !ok || n > tableSize || began {
				return errCompression
			}
			d.table.resize(n)
			continue
		default: // §6.2
			bits := 4
			if first&0x40 != 0 {
				bits = 6
			}
			if b, ok = d.literal(b, bits); !ok {
				return errCompression
			}
		}
		if began = true; d.size > bombSize*d.mostOctets {
			return errBomb
		}
	}
	return nil
}

// indexed takes a field from the tables.
func (d *decoder) indexed(i int) bool {
	name, value, ok := d.table.at(i)
	if !ok {
		return false
	}
	at := len(d.octets)
	if d.count(name, len(value)) {
		d.octets = append(append(d.octets, name...), value...)
		d.spans = append(d.spans, span{at, len(name), len(value), d.table.id(i)})
	}
	return true
}

// literal reads a field that is not in the tables, or whose name alone is. bits is how long
// the prefix of its index is: with 6 it is remembered.
func (d *decoder) literal(b []byte, bits int) (rest []byte, ok bool) {
	i, b, ok := readInt(b, bits)
	if !ok {
		return nil, false
	}
	at := len(d.octets)
	if i > 0 {
		name, _, ok := d.table.at(i)
		if !ok {
			return nil, false
		}
		d.octets = append(d.octets, name...)
	} else if b, ok = d.text(b); !ok {
		return nil, false
	}
	middle := len(d.octets)
	if b, ok = d.text(b); !ok {
		return nil, false
	}
	s := span{at: at, name: middle - at, value: len(d.octets) - middle}
	if bits == 6 && d.table.add(d.field(s)) {
		s.entry = d.table.id(len(static))
	}
	if d.count(d.octets[at:middle], s.value) {
		d.spans = append(d.spans, s)
	} else {
		d.octets = d.octets[:at]
	}
	return b, true
}

// count takes a field into account, and tells whether it is kept. The crumbs of a Cookie are
// no lines of their own (RFC 9113 §8.2.3); their octets bound them.
func (d *decoder) count(name []byte, value int) bool {
	if d.size += len(name) + value + fieldOverhead; d.size > d.mostOctets {
		return false
	}
	if string(name) == "cookie" {
		d.crumbs++
		return true
	}
	return len(d.spans)-d.crumbs <= d.mostFields // one more shows that there are too many
}

// text reads a string (RFC 7541 §5.2) and appends it to octets.
func (d *decoder) text(b []byte) (rest []byte, ok bool) {
	if len(b) == 0 {
		return nil, false
	}
	packed := b[0]&0x80 != 0
	n, b, ok := readInt(b, 7)
	if !ok || n > len(b) {
		return nil, false
	}
	if packed {
		_, err := hpack.HuffmanDecode((*appender)(&d.octets), b[:n])
		return b[n:], err == nil
	}
	d.octets = append(d.octets, b[:n]...)
	return b[n:], true
}

// An appender is an io.Writer that appends.
type appender []byte

func (a *appender) Write(p []byte) (int, error) {
	*a = append(*a, p...)
	return len(p), nil
}

// readInt reads an integer whose first bits are the last ones of b's first octet
// (RFC 7541 §5.1). None that is of use here has more than 28 bits.
func readInt(b []byte, bits int) (n int, rest []byte, ok bool) {
	if len(b) == 0 {
		return 0, nil, false
	}
	most := 1<<bits - 1
	if n = int(b[0]) & most; n < most {
		return n, b[1:], true
	}
	b = b[1:]
	for shift := 0; len(b) > 0 && shift < 28; shift += 7 {
		octet := b[0]
		b = b[1:]
		n += int(octet&0x7f) << shift
		if octet&0x80 == 0 {
			return n, b, true
		}
	}
	return 0, nil, false
}

// A table is what is remembered of the fields that came before (RFC 7541 §2.3.2). The zero
// table is empty, and may grow to tableSize.
type table struct {
	*tableRoom        // nil: nothing was added yet
	first, n   int    // the oldest entry, and how many there are
	base, end  uint32 // where the room begins and what is in it ends, counted from the beginning of the connection
	size       int
	shrunk     int // how much less than tableSize it may have
}

// A tableRoom has room for the most entries that a table may have, and for their octets
// twice, so that they are seldom moved.
type tableRoom struct {
	entries [tableSize / fieldOverhead]tableEntry
	octets  [2 * tableSize]byte
	texts   [tableSize / fieldOverhead]*entryText // of entries; nil: nobody has asked
}

// An entryID names an entry of the dynamic table. The zero entryID is none.
type entryID struct {
	slot int
	end  uint32 // where it ends, counted from the beginning of the connection
}

// An entryText is an entry as Handlers get it: once, for as many requests as refer to it.
type entryText struct{ name, value string }

// id names the entry i of both tables, or none if it is static.
func (t *table) id(i int) entryID {
	if i -= len(static); i < 0 {
		return entryID{}
	}
	slot := (t.first + t.n - 1 - i) % len(t.entries)
	return entryID{slot, t.entries[slot].end()}
}

// text returns the text of an entry, or nil if there is no such one any more.
func (t *table) text(id entryID) *entryText {
	if id == (entryID{}) || t.entries[id.slot].end() != id.end || (id.slot-t.first+len(t.entries))%len(t.entries) >= t.n {
		return nil
	}
	if t.texts[id.slot] == nil {
		t.texts[id.slot] = new(entryText)
	}
	return t.texts[id.slot]
}

type tableEntry struct {
	at          uint32
	name, value uint16
}

func (e tableEntry) end() uint32 { return e.at + uint32(e.name) + uint32(e.value) }

func (e tableEntry) size() int { return int(e.name) + int(e.value) + fieldOverhead }

// at returns the entry i of both tables (RFC 7541 §2.3.3), until the next one is added.
func (t *table) at(i int) (name, value []byte, ok bool) {
	if i < len(static) {
		s := &static[i]
		return s.name, s.value, i > 0
	}
	if i -= len(static); i >= t.n {
		return nil, nil, false
	}
	e := t.entries[(t.first+t.n-1-i)%len(t.entries)]
	b := t.octets[e.at-t.base:]
	return b[:e.name], b[e.name : int(e.name)+int(e.value)], true
}

// resize changes what it may have.
func (t *table) resize(n int) {
	t.shrunk = tableSize - n
	t.evict(0)
}

// evict makes room for need (RFC 7541 §4.3).
func (t *table) evict(need int) {
	for t.n > 0 && t.size+need > tableSize-t.shrunk {
		t.size -= t.entries[t.first].size()
		t.first = (t.first + 1) % len(t.entries)
		t.n--
	}
}

// add remembers a field (RFC 7541 §4.4). It reports false if it has no room for that.
func (t *table) add(name, value []byte) bool {
	need := len(name) + len(value) + fieldOverhead
	t.evict(need)
	if need > tableSize-t.shrunk {
		return false
	}
	if t.tableRoom == nil {
		t.tableRoom = new(tableRoom)
	}
	if int(t.end-t.base)+len(name)+len(value) > len(t.octets) {
		live := t.end
		if t.n > 0 {
			live = t.entries[t.first].at
		}
		copy(t.octets[:], t.octets[live-t.base:t.end-t.base])
		t.base = live
	}
	at := int(t.end - t.base)
	copy(t.octets[at:], name)
	copy(t.octets[at+len(name):], value)
	slot := (t.first + t.n) % len(t.entries)
	t.entries[slot], t.texts[slot] = tableEntry{t.end, uint16(len(name)), uint16(len(value))}, nil
	t.n++
	t.end += uint32(len(name) + len(value))
	t.size += need
	return true
}

// Header blocks that we write refer to the static table alone. So they can be written in any
// order, and nothing is remembered for a client.

// appendInt writes n behind flags, with its first bits in the same octet.
func appendInt(dst []byte, flags byte, bits, n int) []byte {
	most := 1<<bits - 1
	if n < most {
		return append(dst, flags|byte(n))
	}
	dst = append(dst, flags|byte(most))
	for n -= most; n >= 0x80; n >>= 7 {
		dst = append(dst, byte(n)|0x80)
	}
	return append(dst, byte(n))
}

// appendStatus writes :status, which has three digits.
func appendStatus(dst []byte, status int) []byte {
	switch status {
	case 200:
		return append(dst, 0x80|8)
	case 204:
		return append(dst, 0x80|9)
	case 206:
		return append(dst, 0x80|10)
	case 304:
		return append(dst, 0x80|11)
	case 400:
		return append(dst, 0x80|12)
	case 404:
		return append(dst, 0x80|13)
	case 500:
		return append(dst, 0x80|14)
	}
	return append(dst, 8, 3, byte('0'+status/100%10), byte('0'+status/10%10), byte('0'+status%10))
}

// appendField writes a field, and its name in lower case.
func appendField[T ~string | ~[]byte](dst []byte, name, value T) []byte {
	var room [64]byte
	lower := room[:0]
	for i := range len(name) {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		lower = append(lower, c)
	}
	if i := staticNames[string(lower)]; i > 0 {
		dst = appendInt(dst, 0, 4, i)
	} else {
		dst = append(appendInt(append(dst, 0), 0, 7, len(lower)), lower...)
	}
	return append(appendInt(dst, 0, 7, len(value)), value...)
}
