package index

import (
	"sync"
	"sync/atomic"
)

// minSlab is the least that is asked for at once, in octets. More than that is
// asked for in steps of 1/64 of what there is, so that the number of slabs stays
// small and the share of spare memory too.
const minSlab = 256 << 10

// A pool gives chunks to tables, and takes them back to give them to others.
type pool struct {
	alloc func(octets int) []uint64

	mu    sync.Mutex
	fresh []uint64 // rest of the newest slab; zero
	free  []*chunk // used before; may still be read by those who came late
	slabs int64    // octets of all slabs
	lists int64    // octets of the lists of chunks that tables have
}

// table returns an empty table.
func (p *pool) table(chunks int) *table {
	t := &table{chunks: make([]*chunk, chunks), buckets: uint64(chunks) * chunkBuckets}
	p.mu.Lock()
	used := copy(t.chunks, p.free[max(0, len(p.free)-chunks):])
	p.free = p.free[:len(p.free)-used]
	for i := used; i < chunks; i++ {
		t.chunks[i] = p.newChunk()
	}
	p.lists += int64(chunks) * 8
	p.mu.Unlock()

	for _, c := range t.chunks[:used] {
		for i := 0; i < chunkWords; i += 2 {
			atomic.StoreUint64(&c[i], 0)
		}
	}
	return t
}

func (p *pool) newChunk() *chunk {
	if len(p.fresh) < chunkWords {
		octets := max(minSlab, int(p.slabs/64)&^(chunkOctets-1))
		if p.fresh = nil; p.alloc != nil {
			p.fresh = p.alloc(octets)
		}
		if len(p.fresh) < octets/8 {
			p.fresh = make([]uint64, octets/8)
		}
		p.fresh = p.fresh[:octets/8]
		p.slabs += int64(octets)
	}
	c := (*chunk)(p.fresh)
	p.fresh = p.fresh[chunkWords:]
	return c
}

// release takes back what t is made of. Nobody may write to t any more. A nil
// table is made of nothing.
func (p *pool) release(t *table) {
	if t == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, t.chunks...)
	p.lists -= int64(len(t.chunks)) * 8
}

func (p *pool) held() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.slabs + p.lists + int64(cap(p.free))*8
}
