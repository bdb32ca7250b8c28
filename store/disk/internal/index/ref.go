package index

import (
	"fmt"
	"math/bits"
)

// Limits of what an entry can say.
const (
	MaxAddr  = 1<<40 - 1 // in units of 512 octets: 512 TiB
	MaxClass = 1<<6 - 1
	MaxHits  = 1<<3 - 1
)

// Flags are eight marks of an entry whose meaning is the owner's.
type Flags uint8

// A Ref says where a record lies, and what must be known without reading it.
type Ref struct {
	Addr  uint64 // in units of 512 octets across all disks, at most MaxAddr
	Class uint8  // of its size, see Class, at most MaxClass
	Hits  uint8  // uses since it was written, at most MaxHits, which is "or more"
	Flags Flags
}

// The second word of a slot holds the Ref. All that is above is zero.
const (
	addrMask   = MaxAddr
	classShift = 40
	hitsShift  = classShift + 6
	hitsOne    = 1 << hitsShift
	hitsMask   = MaxHits << hitsShift
	flagsShift = hitsShift + 3
	wordBits   = flagsShift + 8
)

func (r Ref) pack() uint64 {
	if r.Addr > MaxAddr || r.Class > MaxClass || r.Hits > MaxHits {
		panic(fmt.Sprintf("index: %+v is out of range", r))
	}
	return r.Addr | uint64(r.Class)<<classShift | uint64(r.Hits)<<hitsShift | uint64(r.Flags)<<flagsShift
}

func unpack(word uint64) Ref {
	return Ref{
		Addr:  word & addrMask,
		Class: uint8(word >> classShift & MaxClass),
		Hits:  uint8(word >> hitsShift & MaxHits),
		Flags: Flags(word >> flagsShift),
	}
}

// The first word of a slot holds the hash without what the partition says of
// it, and a one, so that zero is a free slot.
func keyOf(hash uint64) uint64 { return hash<<partitionBits | 1 }

func hashOf(partition int, key uint64) uint64 {
	return uint64(partition)<<(64-partitionBits) | key>>partitionBits
}

// Class returns the class of records of so many octets: the least whose
// ClassSize is enough for them, or MaxClass for what is larger than all.
func Class(octets int64) uint8 {
	if octets <= 512 {
		return 0
	}
	units := uint64(octets+255) / 256 // at least 3
	half := bits.Len64(units-1) - 2   // units are above 2<<half and at most 4<<half
	class := 2*half + 2
	if units <= 3<<half {
		class--
	}
	return uint8(min(class, MaxClass))
}

// ClassSize returns the octets of the largest records of a class. Two classes
// make one doubling: 512, 768, 1024, 1536 and so on, up to 1.5 TiB.
func ClassSize(class uint8) int64 {
	return (2 + int64(class&1)) << (class / 2) * 256
}
