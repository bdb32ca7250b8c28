package tier

import (
	"bytes"
	"context"
	"io"
	"slices"

	"github.com/larderhq/larder/store"
)

// leaving is told of an entry that memory lets go, while it is still there and
// nobody can remove it. It must not wait: memory waits for it.
//
// It may run at the same time as any change to this key, and before that change
// reaches memory: whoever changes something does so in memory first, which waits
// for us, and then on disk, where it finds what we have left.
func (s *Store) leaving(o *store.Object) {
	if o.Mark != 0 && s.disk.Return(o.Key, o.ID, o.Mark) {
		return
	}
	_ = s.disk.Put(o) // refused: it is gone, which a cache may do
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
	if o.Size > maxPromoted {
		return
	}
	// All that may take time comes before the lock.
	body := make([]byte, o.Size)
	if _, err := io.ReadFull(io.NewSectionReader(o.Body, 0, o.Size), body); err != nil {
		return
	}
	o.Body = bytes.NewReader(body)

	st := s.stripeOf(key)
	st.mu.Lock()
	defer st.mu.Unlock()
	st.turns.Add(1)
	defer st.turns.Add(1)
	if !s.disk.Lend(key, id, o.Mark) {
		return // removed or amended meanwhile
	}
	if s.memory.Put(o) != nil {
		s.disk.Return(key, id, o.Mark)
	}
}
