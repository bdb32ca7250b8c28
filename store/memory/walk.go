package memory

import (
	"context"
	"math"
	"math/bits"

	"github.com/larderhq/larder/store"
)

// What Walk does under a lock is bounded by the entries and octets that it copies
// and by the pages of entries that it looks at. It takes some 20 microseconds; a
// record that is longer than all the others may come on top.
const (
	walkEntries = 64
	walkOctets  = 32 << 10
	walkPages   = 4 << 10
)

var _ store.Walker = (*Store)(nil)

// Walk implements store.Walker. An entry that Put brings in a later revision has
// replaced the one before.
func (s *Store) Walk(ctx context.Context, visit func(key store.Key, e store.Entry, head []byte) bool) error {
	b := batch{entries: make([]shownEntry, 0, walkEntries), octets: make([]byte, 0, 2*walkOctets)}
	for i := range s.shards {
		for rest := uint32(math.MaxUint32); rest > 0; {
			var err error
			if rest, err = s.shards[i].copyBelow(rest, &b); err != nil {
				return err
			}
			if more, err := s.show(ctx, &b, visit); !more || err != nil {
				return err
			}
		}
	}
	return nil
}

// show calls visit with all of b, and reports false if it has seen enough. No
// lock is held.
func (s *Store) show(ctx context.Context, b *batch, visit func(store.Key, store.Entry, []byte) bool) (more bool, err error) {
	octets := b.octets
	for _, e := range b.entries {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if s.closed.Load() {
			return false, store.ErrClosed
		}
		end := e.key + e.head
		if !visit(octets[:e.key:e.key], e.Entry, octets[e.key:end:end]) {
			return false, nil
		}
		octets = octets[end:]
	}
	return true, nil
}

// A batch is a copy of entries, for when the lock is not held any more.
type batch struct {
	entries []shownEntry
	octets  []byte // of each its key and its head
}

// A shownEntry is one of a batch, with the lengths of its key and its head.
type shownEntry struct {
	store.Entry
	key, head int
}

// copyBelow makes b a copy of entries with numbers below n, the greatest first,
// and returns the number below which all others are that b does not have.
//
// An entry that stays keeps its number, or moves to a lower one in one step under
// the lock (see renumber). So who comes down may meet it twice, and meets it once
// for certain: as long as it was not copied, it is below.
func (sh *shard) copyBelow(n uint32, b *batch) (rest uint32, err error) {
	b.entries, b.octets = b.entries[:0], b.octets[:0]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.closed {
		return 0, store.ErrClosed
	}
	n = min(n, sh.book.top)
	for looks := 0; n > 0 && looks < walkPages && len(b.entries) < walkEntries && len(b.octets) < walkOctets; looks++ {
		page := (n - 1) / perPage
		used := ^sh.book.free[0][page] << (perPage - 1 - (n-1)%perPage) // those from n on are out
		if used == 0 {
			n = page * perPage
			continue
		}
		n -= 1 + uint32(bits.LeadingZeros64(used))
		if e := sh.book.at(n); e.hash != 0 {
			b.add(e, sh.record(e))
		}
	}
	return n, nil
}

// add copies e, which has this record.
func (b *batch) add(e *entry, record []byte) {
	key, head := int(e.key()), int(e.head)
	b.entries = append(b.entries, shownEntry{store.Entry{ID: e.id, Rev: e.rev, Size: e.size()}, key, head})
	b.octets = append(b.octets, record[4:4+key+head]...)
}
