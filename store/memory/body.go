package memory

import "slices"

// Chunk lengths in octets. A body of known length is cut into wide chunks
// and a rest of exactly what is left; one of unknown length doubles.
const (
	firstChunk = 4 << 10
	lastChunk  = 256 << 10
	wideChunk  = 1 << 20
)

// chunkLen returns the length of the chunk after have octets of capacity, of
// which need more are wanted at once. The body is declared long, or unknown
// if that is negative, and at most limit.
func chunkLen(have, need, declared, limit int64) int64 {
	if declared >= 0 {
		return min(declared-have, wideChunk)
	}
	return min(max(have, need, firstChunk), lastChunk, limit-have)
}

// allot returns the most that the heap takes for n octets. The allocator
// rounds up to its size classes, or to pages beyond the largest.
func allot(n int) int64 {
	const page, largest = 8 << 10, 32 << 10
	if n > largest-page/4 {
		return (int64(n) + page - 1) &^ (page - 1)
	}
	return int64(n + n/4 + 16)
}

// newChunk returns an empty chunk with room for n octets and with all the
// capacity that the allocator gave for them, which is what it is charged.
func newChunk(n int) []byte {
	c := slices.Grow([]byte(nil), n)
	return c[:0:min(cap(c), int(allot(n)))]
}

// wasteful says whether more than an eighth of the last chunk is unused.
func wasteful(chunks [][]byte) bool {
	if len(chunks) == 0 {
		return false
	}
	tail := chunks[len(chunks)-1]
	unused := cap(tail) - int(allot(len(tail)))
	return unused > cap(tail)/8
}
