package engine

import (
	"hash/maphash"
	"sync/atomic"
	"time"
)

const markSlots = 8192

// marks remembers for a while that something holds for a key. It forgets when
// two keys meet in a slot, and may in rare cases mistake one key for another:
// only what costs time, never what decides an answer, may depend on it. It is
// bounded and has no locks.
type marks struct {
	hash  maphash.Seed
	slots [markSlots]atomic.Uint64 // 32 bits of hash, 32 bits of seconds
}

func (m *marks) seed() { m.hash = maphash.MakeSeed() }

func (m *marks) slot(key []byte) (slot *atomic.Uint64, tag uint64) {
	h := maphash.Bytes(m.hash, key)
	return &m.slots[h%markSlots], h &^ (1<<32 - 1)
}

// set marks key from now on for span, or up to a second longer.
func (m *marks) set(key []byte, now time.Time, span time.Duration) {
	slot, tag := m.slot(key)
	slot.Store(tag | uint64(uint32(now.Add(span+time.Second-1).Unix())))
}

// clear takes the mark off key.
func (m *marks) clear(key []byte) {
	slot, tag := m.slot(key)
	if v := slot.Load(); v&^(1<<32-1) == tag {
		slot.CompareAndSwap(v, 0)
	}
}

// has tells whether key is marked at now.
func (m *marks) has(key []byte, now time.Time) bool {
	slot, tag := m.slot(key)
	v := slot.Load()
	return v != 0 && v&^(1<<32-1) == tag && uint32(now.Unix()) < uint32(v)
}
