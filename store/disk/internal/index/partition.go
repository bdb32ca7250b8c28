package index

import (
	"sync"
	"sync/atomic"
)

// A table is grown when more than maxFill sixteenths of its slots would be in
// use, and made smaller when fewer than minFill are; a new size leaves them about
// three quarters full. The least fill of a growing index is maxFill*8/9: 72 per
// cent, which is 22.2 octets an entry.
const (
	maxFill = 13
	minFill = 9
)

// A partition is the part of the index that one lock guards. What readers look
// at and what only writers change have a cache line each.
type partition struct {
	seq   atomic.Uint64         // odd while entries move; changed by writers
	table atomic.Pointer[table] // nil as long as nothing was inserted
	_     [64 - 16]byte

	mu    sync.Mutex // of writers
	n     int        // entries
	taken *taken     // while a Load runs
	_     [64 - 24]byte
}

// taken are removals that a Load heeds which may bring what they removed.
type taken struct {
	entries []struct{ key, addr uint64 }
	spans   []struct{ lo, hi uint64 }
}

// note remembers a removal as long as a Load runs.
func (p *partition) note(key, addr uint64) {
	if p.taken != nil {
		p.taken.entries = append(p.taken.entries, struct{ key, addr uint64 }{key, addr})
	}
}

func (p *partition) noteSpan(lo, hi uint64) {
	if p.taken != nil {
		p.taken.spans = append(p.taken.spans, struct{ lo, hi uint64 }{lo, hi})
	}
}

// seek is table.seek, with a slot or none at all.
func (p *partition) seek(key, addr uint64) (line *bucket, i int, found bool) {
	if t := p.table.Load(); t != nil {
		return t.seek(key, addr)
	}
	return nil, 0, false
}

// put adds an entry or changes it, and reports whether it was added.
func (p *partition) put(mem *pool, key, word uint64) bool {
	p.reserve(mem, p.n+1)
	added := p.table.Load().put(key, word)
	if added {
		p.n++
	}
	return added
}

// remove takes an entry out and reports whether it was there.
func (p *partition) remove(key, addr uint64) bool {
	t := p.table.Load()
	if t == nil {
		return false
	}
	b, i, found := t.locate(key, addr)
	if found {
		p.seq.Add(1)
		t.remove(b, i)
		p.seq.Add(1)
		p.n--
	}
	return found
}

// merge takes the entry at old out and makes the one that is at the address of
// word be word, so that readers see no state between.
func (p *partition) merge(key, old, word uint64) {
	t := p.table.Load()
	p.seq.Add(1)
	t.put(key, word)
	b, i, _ := t.locate(key, old)
	t.remove(b, i)
	p.seq.Add(1)
	p.n--
}

// removeSpan takes out what lies in [lo,hi), and returns how many these were.
func (p *partition) removeSpan(lo, hi uint64) (removed int) {
	t := p.table.Load()
	if t == nil {
		return 0
	}
	for b := range t.buckets {
		line := t.bucket(b)
		for i := 0; i < bucketWords && atomic.LoadUint64(&line[i]) != 0; {
			if addr := atomic.LoadUint64(&line[i+1]) & addrMask; addr < lo || addr >= hi {
				i += 2
				continue
			}
			p.seq.Add(1)
			t.remove(b, i) // which may bring another to here
			p.seq.Add(1)
			removed++
		}
	}
	p.n -= removed
	return removed
}

// reserve sees to it that n entries fit.
func (p *partition) reserve(mem *pool, n int) {
	chunks := 0
	if t := p.table.Load(); t != nil {
		chunks = len(t.chunks)
	}
	if n*16 > chunks*chunkSlots*maxFill {
		p.resize(mem, max(chunks+max(1, chunks/8), chunksFor(n)))
	}
}

// trim makes the table smaller if it has become too large.
func (p *partition) trim(mem *pool) {
	t := p.table.Load()
	if t != nil && p.n*16 < t.slots()*minFill && chunksFor(p.n) < len(t.chunks) {
		p.resize(mem, chunksFor(p.n))
	}
}

// chunksFor returns the chunks of which n entries fill three quarters.
func chunksFor(n int) int {
	const fill = chunkSlots * 3 / 4
	return max(1, (n+fill-1)/fill)
}

// resize copies all to a table of another size while readers use the old one.
// Uses that are counted there meanwhile are lost.
func (p *partition) resize(mem *pool, chunks int) {
	t := mem.table(chunks)
	for key, word := range p.table.Load().all {
		t.add(key, word)
	}
	p.install(mem, t)
}

// install puts t in the place of the table.
func (p *partition) install(mem *pool, t *table) {
	p.seq.Add(1)
	old := p.table.Swap(t)
	p.seq.Add(1)
	mem.release(old)
}
