package tier

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/larderhq/larder/store"
)

// notesKept is how many entries a walk remembers that come back to memory before
// it shows them. One takes its key and some 100 octets.
const notesKept = 8 << 10

var _ store.Walker = (*Store)(nil)

// Walk implements store.Walker: it shows what is in memory, then what is on disk,
// and in between what came back to memory meanwhile.
//
// No entry that stays is missed. Say that one is shown neither by memory nor by the
// disk. When the walk through memory ended it was on disk: otherwise it had been in
// memory all the time, or had come back there. And since then it was not on disk,
// unlent, all the time, or the disk had shown it. So it has come back to memory
// since the walk began: all that comes back is noted before it does, by settle, and
// what was noted is looked up and shown, wherever it is by then. What leaves memory
// need not be noted, and waits for nobody: it is on disk before it is gone from
// memory, and as long as it does not come back the disk will show it, or memory has.
func (s *Store) Walk(ctx context.Context, visit func(key store.Key, e store.Entry, head []byte) bool) error {
	w := &walk{s: s, ctx: ctx, visit: visit, raised: map[store.ID]store.Key{}}
	s.walks.begin(w)
	defer s.walks.end(w)
	select { // now, so that the notes do not pile up while the disk lets it wait
	case <-s.disk.Ready():
	case <-ctx.Done():
		return ctx.Err()
	}
	for more := true; more; more = w.again() {
		if err := w.round(); err != nil || w.ended {
			return err
		}
	}
	return nil
}

// A walk is a Walk under way. One goroutine walks; any note.
type walk struct {
	s     *Store
	ctx   context.Context
	visit func(key store.Key, e store.Entry, head []byte) bool
	ended bool  // visit has seen enough, or err is one
	err   error // of showRaised

	mu     sync.Mutex
	raised map[store.ID]store.Key // not shown since
	lost   bool                   // some are missing in raised
}

// round shows all, save what was lost.
func (w *walk) round() error {
	err := w.s.memory.Walk(w.ctx, w.show)
	if err == nil && !w.ended {
		err = w.s.disk.Walk(w.ctx, w.show)
	}
	if err == nil && !w.ended {
		w.showRaised()
	}
	if err == nil {
		err = w.err
	}
	return err
}

// show shows an entry that a tier shows, and what was noted if that is much.
func (w *walk) show(key store.Key, e store.Entry, head []byte) bool {
	if !w.visit(key, e, head) {
		w.ended = true
	} else if w.crowded() {
		w.showRaised()
	}
	return !w.ended
}

// showRaised shows what was noted.
func (w *walk) showRaised() {
	for id, key := range w.take() {
		if w.err = w.showOne(key, id); w.err != nil {
			w.ended = true
		}
		if w.ended {
			return
		}
	}
}

// showOne shows the entry id, if it is there.
func (w *walk) showOne(key store.Key, id store.ID) error {
	var room [4]store.Entry
	for {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		found, err := w.s.Lookup(w.ctx, key, room[:0])
		if err != nil {
			return err
		}
		i := slices.IndexFunc(found, func(e store.Entry) bool { return e.ID == id })
		if i < 0 {
			return nil
		}
		head, err := w.s.Head(w.ctx, key, id, found[i].Rev)
		switch {
		case errors.Is(err, store.ErrGone):
			continue // it was removed or amended, or came back to memory, in between
		case err != nil:
			return err
		}
		w.ended = !w.visit(key, found[i], head)
		return nil
	}
}

// note notes that the entry id comes back to memory.
func (w *walk) note(key store.Key, id store.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, noted := w.raised[id]; noted {
		return
	}
	if len(w.raised) == notesKept {
		w.lost = true
		return
	}
	w.raised[id] = slices.Clone(key)
}

// crowded says whether it is time to show what was noted.
func (w *walk) crowded() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.raised) > notesKept/2
}

// take returns what was noted, which is forgotten.
func (w *walk) take() map[store.ID]store.Key {
	w.mu.Lock()
	defer w.mu.Unlock()
	raised := w.raised
	w.raised = map[store.ID]store.Key{}
	return raised
}

// again says whether it takes another round, for what could not be noted.
func (w *walk) again() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	lost := w.lost
	w.lost = false
	return lost
}

// walks are the walks under way.
type walks struct {
	// mu is held for reading while an entry comes back to memory, from before it
	// is noted until it is there: a walk that does not know of it begins later.
	mu  sync.RWMutex
	all map[*walk]struct{}
}

func (ws *walks) begin(w *walk) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.all == nil {
		ws.all = map[*walk]struct{}{}
	}
	ws.all[w] = struct{}{}
}

func (ws *walks) end(w *walk) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	delete(ws.all, w)
}

// raise notes that the entry id comes back to memory, until the result is called.
func (ws *walks) raise(key store.Key, id store.ID) (raised func()) {
	ws.mu.RLock()
	for w := range ws.all {
		w.note(key, id)
	}
	return ws.mu.RUnlock
}
