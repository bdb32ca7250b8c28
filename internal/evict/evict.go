// Package evict decides who leaves when room is short. It names victims and
// deletes nothing; it holds no keys, no bodies and no clock.
//
// SHD is what Larder's stores use. LRU, SIEVE and S3-FIFO are here so that a
// simulation can compare, and for nothing else.
package evict

// random is a splitmix64 generator: chance that is the same for the same seed.
type random uint64

func (r *random) next() uint64 {
	*r += 0x9e3779b97f4a7c15
	return mix(uint64(*r))
}

// below returns a number in [0, n). It is biased by less than n/2^32.
func (r *random) below(n uint32) uint32 {
	return uint32(r.next() >> 32 * uint64(n) >> 32)
}

// mix spreads every bit of x over all bits of the result.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
