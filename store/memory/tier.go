package memory

import (
	"io"

	"github.com/larderhq/larder/store"
)

// Put keeps an entry that has its name already: ID, Rev and Mark. It takes its
// place among those of its key by ID. If it is there with the same Rev or a
// later one nothing happens; an earlier one is replaced.
//
// ErrFull: it is longer than what is kept, there is no room, or it is worth
// less than who would leave for it. Errors of o.Body are returned.
func (s *Store) Put(o *store.Object) error {
	if s.closed.Load() {
		return store.ErrClosed
	}
	if o.Size > s.maxObject || !s.fits(o.Key, o.Head.Octets) {
		return store.ErrFull
	}
	sh, hash := s.locate(o.Key)
	a := &arrival{
		claim: claim{shard: sh, hash: hash, size: o.Size},
		key:   o.Key, head: o.Head.Octets, until: o.Head.Until, mark: o.Mark,
		id: o.ID, rev: o.Rev,
	}
	sh.mu.Lock()
	if !sh.closed {
		sh.policy.Miss(hash)
	}
	sh.mu.Unlock()
	w := &writer{claim: a.claim, declared: o.Size}
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.done = true
		w.giveAll()
	}()
	if octets, ok := o.Body.(store.Octets); ok && int64(len(octets)) == o.Size && o.Size <= smallBody {
		a.body = octets
	} else {
		if err := w.fill(o); err != nil {
			return err
		}
		a.body, a.run, _ = w.final()
	}
	s.above(o.ID)
	a.admitted, a.refused = w.admitted, w.refused
	var closed error
	err := s.keep(&a.claim, func() bool {
		if sh.closed {
			closed = store.ErrClosed
			return true
		}
		if _, e := sh.of(hash, o.Key, o.ID); e != nil && e.rev >= o.Rev {
			return true
		}
		if !sh.add(a) {
			return false
		}
		w.hand(a)
		return true
	})
	if err == nil {
		err = closed
	}
	return err
}

// fill writes the body of o, in pieces that are not worth counting.
func (w *writer) fill(o *store.Object) error {
	buffer := takeBuffer(min(o.Size, copyLimit))
	defer buffer.give()
	for off := int64(0); off < o.Size; {
		p := buffer.octets[:min(o.Size-off, int64(len(buffer.octets)))]
		n, err := o.Body.ReadAt(p, off)
		if n < len(p) {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		if _, err := w.Write(p); err != nil {
			return err
		}
		off += int64(n)
	}
	return nil
}

// above makes sure that the next ID is above id.
func (s *Store) above(id store.ID) {
	for {
		named := s.named.Load()
		if named >= uint64(id) || s.named.CompareAndSwap(named, uint64(id)) {
			return
		}
	}
}

// Each calls visit with every entry, in no order, until it returns false. It
// is called under locks, and must not call the store: meanwhile nothing is
// stored. The Object is valid until visit returns, and nothing in it may be
// changed. After Close there are none.
func (s *Store) Each(visit func(*store.Object) bool) {
	for i := range s.shards {
		if !s.shards[i].each(visit) {
			return
		}
	}
}

// object is e as it leaves. The lock is held for as long as it is used.
func (sh *shard) object(e *entry) store.Object {
	record := sh.record(e)
	key, head := e.key(), int64(e.head)
	b := body{tail: record[4+key+head:][:tail(e.size())]}
	if pages := runPages(e.size()); pages > 0 {
		b.run = sh.store.runs(pages).bytes(e.run, e.size()-int64(len(b.tail)))
	}
	return store.Object{
		Key:  record[4 : 4+key : 4+key],
		ID:   e.id,
		Rev:  e.rev,
		Head: store.Head{Octets: record[4+key : 4+key+head : 4+key+head], Until: e.until()},
		Size: e.size(),
		Body: b,
		Mark: e.mark,
	}
}

// A body is read where it lies.
type body struct{ run, tail []byte }

// ReadAt implements io.ReaderAt.
func (b body) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errOffset
	}
	if off < int64(len(b.run)) {
		n = copy(p, b.run[off:])
	}
	if rest := max(off-int64(len(b.run)), 0); rest < int64(len(b.tail)) {
		n += copy(p[n:], b.tail[rest:])
	}
	if n < len(p) {
		err = io.EOF
	}
	return n, err
}

// each visits the entries of the shard, as long as visit wants more.
func (sh *shard) each(visit func(*store.Object) bool) bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	more := true
	sh.book.all(func(_ uint32, e *entry) bool {
		if e.hash != 0 {
			o := sh.object(e)
			more = visit(&o)
		}
		return more
	})
	return more
}
