package blobs

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"

	"github.com/larderhq/larder/store"
)

// A value is sealed, all numbers big-endian:
//
//	8 octets  magic: what kind of value this is, and of which version
//	4         CRC-32C of all that follows
//	4         length of the label
//	...       label: length of the prefix in 4 octets, prefix, key
//
// Whose value it is and of which kind is compared in full, so that no name of a
// backend that cuts names short, folds their case or hashes them weakly leads to
// octets of another. That it is whole only the checksum tells: CRC-32C finds any
// three flipped bits and any burst of 32, overlooks other damage at odds of 1 in
// 4 billion, and costs less than a tenth of what SHA-256 does. Neither helps against those
// who write to the backend on purpose.
//
// Then there follow, in an index, its records; in a body:
//
//	8         ID
//	16        nonce of the record
//	...       octets, to the end
const (
	indexMagic = "larderI\x01"
	bodyMagic  = "larderB\x01"

	sumAt   = 8
	labelAt = 16
	ownLen  = 8 + nonceLen
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// labelOf returns what the values of a key carry: the key in full.
func labelOf(prefix string, key []byte) []byte {
	label := make([]byte, 0, 4+len(prefix)+len(key))
	label = binary.BigEndian.AppendUint32(label, uint32(len(prefix)))
	label = append(label, prefix...)
	return append(label, key...)
}

// keyIn returns the key that a value claims to carry behind such a prefix. Whether it
// does, and is whole, unseal tells.
func keyIn(value []byte, prefix string) (key []byte, ok bool) {
	front := labelAt + 4 + len(prefix)
	if len(value) < front {
		return nil, false
	}
	end := labelAt + int64(binary.BigEndian.Uint32(value[labelAt-4:]))
	if end < int64(front) || end > int64(len(value)) {
		return nil, false
	}
	return value[front:end:end], true
}

// appendSeal appends what a value begins with, but for its checksum.
func appendSeal(value []byte, magic string, label []byte) []byte {
	value = append(value, magic...)
	value = append(value, 0, 0, 0, 0)
	value = binary.BigEndian.AppendUint32(value, uint32(len(label)))
	return append(value, label...)
}

// sum fills in the checksum of a value that is complete.
func sum(value []byte) {
	binary.BigEndian.PutUint32(value[sumAt:], crc32.Checksum(value[sumAt+4:], castagnoli))
}

// unseal returns what follows the seal, if value is whole, and is what magic and
// label say.
func unseal(value []byte, magic string, label []byte) ([]byte, bool) {
	if len(value) < labelAt+len(label) || string(value[:sumAt]) != magic {
		return nil, false
	}
	n := binary.BigEndian.Uint32(value[labelAt-4:])
	if uint64(n) != uint64(len(label)) || !bytes.Equal(value[labelAt:][:n], label) {
		return nil, false
	}
	if binary.BigEndian.Uint32(value[sumAt:]) != crc32.Checksum(value[sumAt+4:], castagnoli) {
		return nil, false
	}
	return value[labelAt+len(label):], true
}

// nonceLen is how long a nonce is, in octets.
const nonceLen = 16

// A nonce is chosen at random for each body. It keeps two bodies apart even
// where two processes gave the same ID.
type nonce [nonceLen]byte

// bodyAt returns where the octets of a body begin in its value.
func bodyAt(label []byte) int64 { return labelAt + int64(len(label)) + ownLen }

// appendBodySeal appends what the value of a body begins with, but for what
// sealBody fills in.
func appendBodySeal(value, label []byte) []byte {
	return append(appendSeal(value, bodyMagic, label), make([]byte, ownLen)...)
}

// sealBody fills in whose body it is.
func sealBody(value, label []byte, r *record) {
	own := value[labelAt+len(label):][:ownLen]
	binary.BigEndian.PutUint64(own, uint64(r.id))
	copy(own[8:], r.nonce[:])
	sum(value)
}

// unsealBody returns the octets of the body of r, if value is that.
func unsealBody(value, label []byte, r *record) ([]byte, bool) {
	rest, ok := unseal(value, bodyMagic, label)
	if !ok || int64(len(rest)) != ownLen+r.size {
		return nil, false
	}
	if store.ID(binary.BigEndian.Uint64(rest)) != r.id || nonce(rest[8:ownLen]) != r.nonce {
		return nil, false
	}
	return rest[ownLen:len(rest):len(rest)], true
}

// A record is an entry as the index has it:
//
//	8 octets  ID
//	4         revision
//	8         length of the body, in octets
//	8         until, as in store.Head
//	16        nonce
//	4         length of the head
//	...       head
type record struct {
	id    store.ID
	rev   uint32
	size  int64
	until int64
	nonce nonce
	head  []byte // of the value it was read from: not to be changed
}

// recordLen is the length of a record without its head, in octets.
const recordLen = 8 + 4 + 8 + 8 + nonceLen + 4

func (r *record) length() int64 { return recordLen + int64(len(r.head)) }

func (r *record) entry() store.Entry { return store.Entry{ID: r.id, Rev: r.rev, Size: r.size} }

// indexLen returns the length of an index without its records, in octets.
func indexLen(label []byte) int64 { return labelAt + int64(len(label)) }

// sealIndex returns an index of list.
func sealIndex(label []byte, list []record) []byte {
	n := indexLen(label)
	for i := range list {
		n += list[i].length()
	}
	value := appendSeal(make([]byte, 0, n), indexMagic, label)
	for i := range list {
		r := &list[i]
		value = binary.BigEndian.AppendUint64(value, uint64(r.id))
		value = binary.BigEndian.AppendUint32(value, r.rev)
		value = binary.BigEndian.AppendUint64(value, uint64(r.size))
		value = binary.BigEndian.AppendUint64(value, uint64(r.until))
		value = append(value, r.nonce[:]...)
		value = binary.BigEndian.AppendUint32(value, uint32(len(r.head)))
		value = append(value, r.head...)
	}
	sum(value)
	return value
}

// unsealIndex returns the records of an index, the last committed first. It
// reports false if value is anything else.
func unsealIndex(value, label []byte) ([]record, bool) {
	rest, ok := unseal(value, indexMagic, label)
	if !ok {
		return nil, false
	}
	var list []record
	for len(rest) > 0 {
		var r record
		if rest, ok = r.take(rest); !ok || len(list) == store.MaxVariants {
			return nil, false
		}
		if last := len(list) - 1; last >= 0 && list[last].id <= r.id {
			return nil, false
		}
		list = append(list, r)
	}
	return list, true
}

// take reads a record from the beginning of b, and returns what follows.
func (r *record) take(b []byte) (rest []byte, ok bool) {
	if len(b) < recordLen {
		return nil, false
	}
	r.id = store.ID(binary.BigEndian.Uint64(b))
	r.rev = binary.BigEndian.Uint32(b[8:])
	r.size = int64(binary.BigEndian.Uint64(b[12:]))
	r.until = int64(binary.BigEndian.Uint64(b[20:]))
	r.nonce = nonce(b[28:])
	n := binary.BigEndian.Uint32(b[recordLen-4:])
	b = b[recordLen:]
	if r.id == 0 || r.size < 0 || r.size > mostMaxValue || uint64(n) > uint64(len(b)) {
		return nil, false
	}
	r.head = b[:n:n]
	return b[n:], true
}
