package tier

import (
	"math/bits"
	"sync/atomic"

	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/memory"
)

const (
	// echoOctets is how much memory there is to one echo, which takes 8 octets.
	echoOctets = 16 << 10

	// leastEchoes and mostEchoes are how many there are in any case, and at most.
	leastEchoes, mostEchoes = 64, 1 << 20

	// echoSpan is after how many calls memory is looked at again.
	echoSpan = 256
)

// echoes tell what the disk served lately. One fades when others come, after about
// as many as memory has entries, or half of that. Any number of goroutines may use them.
type echoes struct {
	ids   []atomic.Uint64
	calls atomic.Uint64
	width atomic.Int64 // how many of ids are in use; zero: memory has room
}

// init makes room for the echoes that suit a memory of budget octets.
func (e *echoes) init(budget int64) {
	e.ids = make([]atomic.Uint64, min(max(budget/echoOctets, leastEchoes), mostEchoes))
}

// again reports whether id should come back to m: there is room, or it was served
// lately, and has not come back since. It counts as served now.
func (e *echoes) again(id store.ID, m *memory.Store) bool {
	if e.calls.Add(1)%echoSpan == 1 {
		e.look(m.Stats())
	}
	width := uint64(e.width.Load())
	if width == 0 {
		return true
	}
	at, _ := bits.Mul64(uint64(id)*0x9e3779b97f4a7c15, width)
	echo := &e.ids[at]
	if echo.CompareAndSwap(uint64(id), 0) {
		return true
	}
	echo.Store(uint64(id))
	return false
}

// look adapts the width. Powers of two do not change with every entry, for then
// all echoes would be looked for where they are not; they are rounded down, since
// what comes back in vain costs more than what comes back later.
func (e *echoes) look(st memory.Stats) {
	if st.Used < st.Budget-st.Budget/16 {
		e.width.Store(0)
		return
	}
	width := int64(1) << bits.Len(uint(st.Objects)) / 2
	e.width.Store(min(max(width, leastEchoes), int64(len(e.ids))))
}
