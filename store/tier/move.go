package tier

import (
	"context"
	"io"
	"slices"

	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/disk"
)

// leaving is told of an entry that memory lets go, while it is still there and
// nobody can remove it. It must not wait: memory waits for it.
//
// It may run at the same time as any change to this key, and before that change
// reaches memory: whoever changes something does so in memory first, which waits
// for us, and then on disk, where it finds what we have left.
func (s *Store) leaving(o *store.Object) {
	if o.Mark != 0 && s.disk.Return(o.Key, o.Mark) {
		return
	}
	_ = s.disk.Put(o) // refused: it is gone, which a cache may do
}

// served is told that the disk serves id. What it served before comes back to
// memory: as long as there is room everything does, and then what it served within
// about as many others as memory holds. What comes later than that would be gone
// again before it is asked for.
func (s *Store) served(key store.Key, id store.ID, r disk.Served) {
	if r.Size() > s.maxRaised || !s.echoes.again(id, s.memory) || r.Served() < promotable {
		return
	}
	if o, ok := r.Whole(key); ok {
		s.lift(&o)
	} else {
		s.promote(key, id)
	}
}

// lift takes o into memory, which somebody is reading anyway, unless that would
// take time: it will be asked for again if it matters.
func (s *Store) lift(o *store.Object) {
	if !s.closing.TryRLock() {
		return
	}
	defer s.closing.RUnlock()
	st := s.stripeOf(o.Key)
	if s.closed || !st.mu.TryLock() {
		return
	}
	defer st.mu.Unlock()
	s.settle(st, o)
}

// promote brings id back to memory in the background, unless others are at it.
func (s *Store) promote(key store.Key, id store.ID) {
	s.closing.RLock()
	defer s.closing.RUnlock()
	if s.closed {
		return
	}
	select {
	case s.promoting <- struct{}{}:
	default:
		return // it will be asked for again if it matters
	}
	if _, begun := s.wanted.LoadOrStore(id, struct{}{}); begun {
		<-s.promoting
		return
	}
	key = slices.Clone(key)
	s.moving.Go(func() {
		s.raise(key, id)
		s.wanted.Delete(id)
		<-s.promoting
	})
}

// raise brings id back to memory.
func (s *Store) raise(key store.Key, id store.ID) {
	kept, err := s.disk.Get(context.Background(), key, id)
	if err != nil {
		return
	}
	defer kept.Close()
	o := &kept.Object
	// All that may take time comes before the lock.
	body := make([]byte, o.Size)
	if _, err := io.ReadFull(io.NewSectionReader(o.Body, 0, o.Size), body); err != nil {
		return
	}
	o.Body = store.Octets(body)
	st := s.stripeOf(key)
	st.mu.Lock()
	defer st.mu.Unlock()
	s.settle(st, o)
}

// settle takes o, which is on disk, into memory, if both agree. The caller holds
// the stripe.
func (s *Store) settle(st *stripe, o *store.Object) {
	defer s.walks.raise(o.Key, o.ID)()
	st.turns.Add(1)
	defer st.turns.Add(1)
	if !s.disk.Lend(o.Key, o.Mark) {
		return // removed or amended meanwhile
	}
	if s.memory.Put(o) != nil {
		s.disk.Return(o.Key, o.Mark)
	}
}
