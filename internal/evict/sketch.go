package evict

import "math/bits"

const (
	blockWords  = 8  // a block is 64 octets: one cache line
	firstBlocks = 4  // a first chunk of 256 octets
	perBlock    = 16 // residents that a block is meant for: 4 to 8 octets each
	maxCount    = 15 // of a 4-bit counter
	agePeriod   = 10 // the sketch is halved after so many misses per resident
	rows        = 2
	rowWords    = blockWords / rows
	rowMask     = 63 // counters of a row in a block, less one
	halves      = 0x7777777777777777
	maxChunks   = 27 // enough for 2^32 residents
)

// A sketch remembers about how often keys were asked for, long after they
// have left: count-min with 2 rows of 4-bit counters, both of a key in one
// cache line. More rows would be better only if there were more counters than
// keys; here there are fewer. It doubles as residents grow, chunk by chunk, and
// never shrinks.
//
// It errs only upwards, until it is halved. It is guarded by the owner's lock.
type sketch struct {
	words  func(n int) []uint64
	chunks [maxChunks][]uint64 // chunk 0 has firstBlocks blocks, each other as many as all before it
	blocks uint64              // a power of two, or 0 if there was no room for any
	misses uint64              // since the counters were halved
}

// fit makes room for the history of n residents. Without memory for it, the
// sketch stays as small as it is: it errs more.
func (s *sketch) fit(n int) {
	for s.blocks*perBlock < uint64(n) || s.blocks == 0 {
		have := max(s.blocks, firstBlocks)
		i := bits.Len64(s.blocks / firstBlocks)
		if i == maxChunks {
			return
		}
		chunk := s.words(int(have * blockWords))
		if uint64(len(chunk)) < have*blockWords {
			return
		}
		at := 0
		for _, old := range s.chunks[:i] { // a key's block is now here or there: it finds its counts in both
			at += copy(chunk[at:], old)
		}
		s.chunks[i] = chunk
		s.blocks += have
	}
}

// block returns the block of a mixed hash.
func (s *sketch) block(h uint64) []uint64 {
	b := h >> 32 & (s.blocks - 1)
	i := bits.Len64(b / firstBlocks)
	if i > 0 {
		b -= firstBlocks << (i - 1)
	}
	return s.chunks[i][b*blockWords:][:blockWords]
}

// counter returns word and shift of the counter of a mixed hash in a row.
func counter(h uint64, row int) (word int, shift uint) {
	n := h >> (6 * row) & rowMask
	return row*rowWords + int(n>>4), uint(n&15) * 4
}

// count returns how often a key was seen, at most 15.
func (s *sketch) count(hash uint64) uint8 {
	if s.blocks == 0 {
		return 0
	}
	h := mix(hash)
	return least(s.block(h), h)
}

func least(block []uint64, h uint64) uint8 {
	n := uint64(maxCount)
	for row := range rows {
		w, shift := counter(h, row)
		n = min(n, block[w]>>shift&maxCount)
	}
	return uint8(n)
}

// miss adds one to a key. After agePeriod misses per resident all counts are
// halved first.
func (s *sketch) miss(hash uint64, residents int) {
	if s.blocks == 0 {
		return
	}
	if s.misses++; s.misses > agePeriod*uint64(max(residents, firstBlocks*perBlock)) {
		s.misses = 0
		s.halve()
	}
	h := mix(hash)
	block := s.block(h)
	raise(block, h, min(least(block, h)+1, maxCount))
}

// atLeast raises the count of a key to n if it is below.
func (s *sketch) atLeast(hash uint64, n uint8) {
	if s.blocks == 0 {
		return
	}
	h := mix(hash)
	raise(s.block(h), h, min(n, maxCount))
}

func raise(block []uint64, h uint64, n uint8) {
	for row := range rows {
		w, shift := counter(h, row)
		if uint8(block[w]>>shift&maxCount) < n {
			block[w] = block[w]&^(maxCount<<shift) | uint64(n)<<shift
		}
	}
}

func (s *sketch) halve() {
	for _, chunk := range s.chunks {
		for i, w := range chunk {
			chunk[i] = w >> 1 & halves
		}
	}
}
