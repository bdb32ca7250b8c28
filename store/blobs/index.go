package blobs

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	mathrand "math/rand/v2"
	"slices"
	"sync"

	"github.com/larderhq/larder/store"
)

// A place is where the values of a key are.
type place struct {
	label []byte
	index string // name of the index
	lock  *sync.Mutex
}

// indexName is how long the name of an index is, without the prefix.
const indexName = 2 * sha256.Size

func (s *Store) place(key store.Key) *place {
	label := labelOf(s.prefix, key)
	hash := sha256.Sum256(label)
	return &place{
		label: label,
		index: s.prefix + hex.EncodeToString(hash[:]),
		lock:  &s.locks[hash[0]],
	}
}

// body returns the name of the body of r.
func (p *place) body(r *record) string { return p.index + "." + hex.EncodeToString(r.nonce[:]) }

// read returns the records of the index, the last committed first. It reports
// false if there is none, or none that is whole.
func (s *Store) read(p *place) ([]record, bool) {
	value, ok := s.cache.Get(p.index)
	if !ok {
		return nil, false
	}
	return unsealIndex(value, p.label)
}

// write makes list the records of the index. The caller holds p.lock, here and
// below.
func (s *Store) write(p *place, list []record) {
	if len(list) == 0 {
		s.cache.Delete(p.index)
		return
	}
	s.cache.Set(p.index, sealIndex(p.label, list))
}

// settle writes list, and makes sure that no record is there for which past is
// true: a Set may fail without a word, and an entry that comes back is worse than
// one that was lost. So where Set does not help, all that is under the key goes.
func (s *Store) settle(p *place, list []record, past func(*record) bool) error {
	s.write(p, list)
	for range 3 {
		if s.over(p, past) {
			return nil
		}
		s.cache.Delete(p.index)
	}
	return errStuck
}

// over tells whether all records for which past is true have gone from the index.
// One that is damaged may be whole when it is read again.
func (s *Store) over(p *place, past func(*record) bool) bool {
	value, ok := s.cache.Get(p.index)
	if !ok {
		return true
	}
	list, whole := unsealIndex(value, p.label)
	return whole && !slices.ContainsFunc(list, func(r record) bool { return past(&r) })
}

// discard deletes the bodies of list.
func (s *Store) discard(p *place, list []record) {
	for i := range list {
		s.cache.Delete(p.body(&list[i]))
	}
}

// find returns where id is in list; negative: nowhere.
func find(list []record, id store.ID) int {
	return slices.IndexFunc(list, func(r record) bool { return r.id == id })
}

// part divides list in those that stay and those for which leaves is true.
func part(list []record, leaves func(*record) bool) (stay, left []record) {
	for _, r := range list {
		if leaves(&r) {
			left = append(left, r)
		} else {
			stay = append(stay, r)
		}
	}
	return stay, left
}

// idBits is how many bits of an ID are chosen at random.
const idBits = 21

// id names the next entry of a key whose last one is floor: by the time in
// 1.05 ms since 1970 and 21 random bits, so that other processes and former lives
// give other names. Where the clock was set back, or many came at once, a random
// step leads on from the highest name known. It takes 63 bits until 2116.
func (s *Store) id(floor store.ID) store.ID {
	for {
		last := s.named.Load()
		id := uint64(max(s.now().UnixNano(), 0))>>20<<idBits | mathrand.Uint64N(1<<idBits)
		if least := max(last, uint64(floor)); id <= least {
			id = least + 1 + mathrand.Uint64N(1<<16)
		}
		if s.named.CompareAndSwap(last, id) {
			return store.ID(id)
		}
	}
}

// add commits the body of w.
func (s *Store) add(w *writer, replaces []store.ID) (store.Entry, error) {
	p := w.place
	p.lock.Lock()
	defer p.lock.Unlock()
	list, _ := s.read(p)
	r := record{until: w.until, head: w.head}
	if len(list) > 0 {
		r.id = list[0].id
	}
	r.id = s.id(r.id)
	rand.Read(r.nonce[:])
	s.cache.Set(p.body(&r), w.seal(&r))

	past := func(r *record) bool { return slices.Contains(replaces, r.id) }
	list, left := part(list, past)
	list, more := s.fit(p, slices.Insert(list, 0, r), r.id)
	if len(replaces) == 0 {
		s.write(p, list) // if that fails, what was there is there still, and may be
	} else if err := s.settle(p, list, past); err != nil {
		s.cache.Delete(p.body(&r))
		return store.Entry{}, err
	}
	s.discard(p, left)
	s.discard(p, more)
	return r.entry(), nil
}

// fit lets records of list go until it is an index, but never that of keep.
func (s *Store) fit(p *place, list []record, keep store.ID) (stay, left []record) {
	n := indexLen(p.label)
	for i := range list {
		n += list[i].length()
	}
	now := s.now().Unix()
	for len(list) > store.MaxVariants || n > s.maxValue && len(list) > 1 {
		i := superfluous(list, keep, now)
		n -= list[i].length()
		left = append(left, list[i])
		list = slices.Delete(list, i, i+1)
	}
	return list, left
}

// superfluous chooses the record that leaves: one that expired, or the oldest.
// Who is used is not known, as nothing is written for that. There are two.
func superfluous(list []record, keep store.ID, now int64) int {
	oldest := 0
	for i := range list {
		r := &list[i]
		switch {
		case r.id == keep:
			continue
		case r.until != 0 && r.until <= now:
			return i
		}
		oldest = i
	}
	return oldest
}

// amend gives the entry id another head.
func (s *Store) amend(p *place, id store.ID, h store.Head) error {
	p.lock.Lock()
	defer p.lock.Unlock()
	list, _ := s.read(p)
	i := find(list, id)
	if i < 0 {
		return store.ErrGone
	}
	was := list[i].rev
	list[i].rev++
	list[i].head, list[i].until = h.Octets, h.Until
	list, left := s.fit(p, list, id)
	err := s.settle(p, list, func(r *record) bool { return r.id == id && r.rev <= was })
	s.discard(p, left)
	return err
}

// remove forgets the entries under key for which leaves is true. The bodies go
// first: whatever becomes of the index, in a crash or by another process, they
// are not served.
func (s *Store) remove(ctx context.Context, key store.Key, leaves func(*record) bool) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	p := s.place(key)
	p.lock.Lock()
	defer p.lock.Unlock()
	list, whole := s.read(p)
	stay, left := part(list, leaves)
	if whole && len(left) == 0 {
		return nil
	}
	s.discard(p, left)
	return s.settle(p, stay, leaves)
}

// lose forgets an entry whose body is lost, if it is there yet.
func (s *Store) lose(p *place, lost *record) {
	p.lock.Lock()
	defer p.lock.Unlock()
	s.cache.Delete(p.body(lost))
	list, _ := s.read(p)
	stay, left := part(list, func(r *record) bool { return r.nonce == lost.nonce })
	if len(left) > 0 {
		s.write(p, stay)
	}
}
