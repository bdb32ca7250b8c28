package disk

import "sync"

// Lengths of rooms in octets: for the start of a record, for one of usual length,
// for one with a block, and for several blocks. Readers may stay for long, so none
// has much more than it needs.
var roomLens = [...]int{startLen, 24 << 10, blockLen + peekLen, windowLen}

var rooms [len(roomLens)]sync.Pool

// A room is what octets are read to. It is given back after use, unless a read
// failed that may still be writing to it: then it is left to the collector.
type room struct {
	octets []byte
	pool   int
}

// takeRoom returns a room for n octets, at most windowLen. What is in there is
// of no meaning.
func takeRoom(n int64) *room {
	pool := 0
	for int64(roomLens[pool]) < n {
		pool++
	}
	if r, ok := rooms[pool].Get().(*room); ok {
		return r
	}
	return &room{make([]byte, roomLens[pool]), pool}
}

// give gives r back, if it is one. Nobody may use its octets any more.
func (r *room) give() {
	if r != nil {
		rooms[r.pool].Put(r)
	}
}
