package disk

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/disk/internal/index"
)

// Put keeps an entry that has its ID and revision already, as when memory lets it
// go. It never waits for the disk. ErrFull: it is not worth writing, too large, or
// the disk does not keep up; a body that is larger than Options.Buffer never
// goes through, nor does one more variant of a key that has store.MaxVariants on
// disk. An older revision of the same entry disappears behind this one.
func (s *Store) Put(o *store.Object) error {
	if s.closed.Load() {
		return store.ErrClosed
	}
	v, hash := s.home(o.Key)
	if v == nil || o.Size > s.maxObject {
		return store.ErrFull
	}
	if !v.admit.admits(hash, o.Size, v.full()) {
		v.tally.refused.Add(1)
		return store.ErrFull
	}
	if o.Size > v.bodyMax {
		return s.putLarge(v, hash, o)
	}
	var room [8]index.Ref
	if len(v.index.Find(hash, room[:0])) >= store.MaxVariants {
		return store.ErrFull // to choose who leaves for it would need the disk
	}
	c := &change{key: o.Key, hash: hash, head: o.Head, id: o.ID, rev: o.Rev, size: o.Size, body: make([]byte, o.Size)}
	if int64(len(c.key)+len(c.head.Octets)) > v.segment/4 {
		return store.ErrFull
	}
	if n, err := o.Body.ReadAt(c.body, 0); n < len(c.body) {
		return fmt.Errorf("store/disk: the body given to Put: %w", err)
	}
	_, _, err := v.change(context.Background(), c, nil)
	return full(err)
}

// putLarge is Put for a body that is written in chunks.
func (s *Store) putLarge(v *volume, hash uint64, o *store.Object) error {
	w, err := s.newWriter(v, hash, o.Key, o.Head, o.Size)
	if err != nil {
		return err
	}
	defer w.Abort(nil)
	w.hasty = true
	w.id, w.rev = o.ID, o.Rev
	if _, err := io.CopyBuffer(onlyWriter{w}, io.NewSectionReader(o.Body, 0, o.Size), make([]byte, blockLen)); err != nil {
		return err
	}
	_, err = w.Commit(context.Background())
	return err
}

type onlyWriter struct{ io.Writer }

// full says whether the volume has no segments left but those it is reclaiming.
func (v *volume) full() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.places.free) <= spare(len(v.seqs))
}

// Flush waits until all that was appended so far was handed to the operating
// system, so that as much as Options.Buffer can be Put again. It fails if ctx
// ends.
func (s *Store) Flush(ctx context.Context) error { return s.settle(ctx, false) }

// Sync returns when all that was changed before outlasts a failure of power, on the
// disks that work. It fails only with the error of ctx.
func (s *Store) Sync(ctx context.Context) error { return s.settle(ctx, true) }

func (s *Store) settle(ctx context.Context, durable bool) error {
	for _, d := range s.disks {
		v := d.volume.Load()
		v.mu.Lock()
		ticket := v.log.given
		v.mu.Unlock()
		if err := v.wait(ctx, ticket, durable); err != nil && ctx.Err() != nil {
			return err
		}
	}
	return nil
}

// Kept is an entry as it is on disk, to be taken into memory. It is readable
// until Close, whatever happens to the entry. Body verifies what it returns.
type Kept struct {
	store.Object

	// Served is how often the entry was opened since it was last written, up
	// to 7.
	Served int

	done func()
}

// Close ends the use of the body. It may be called more than once.
func (k *Kept) Close() error {
	if k.done != nil {
		k.done()
		k.done = nil
	}
	return nil
}

// Get returns the entry of id. It does not count as a use. Its Mark names this
// very record, for Lend and Return. The caller closes. ErrGone: forgotten since
// Lookup.
func (s *Store) Get(ctx context.Context, key store.Key, id store.ID) (*Kept, error) {
	v, hash, err := s.homeOf(key)
	if err != nil {
		return nil, err
	}
	r, err := v.entry(ctx, hash, key, id)
	if err != nil {
		return nil, lost(err)
	}
	k, err := v.get(ctx, &r, key)
	if errors.Is(err, store.ErrGone) {
		if r, err = v.elsewhere(ctx, &r, key); err == nil {
			k, err = v.get(ctx, &r, key)
		}
	}
	return k, lost(err)
}

func (v *volume) get(ctx context.Context, r *record, key store.Key) (*Kept, error) {
	if !v.pin(r.addr, r.seq) {
		return nil, store.ErrGone
	}
	defer v.unpin(r.seq)
	head, err := v.head(ctx, r)
	if err != nil {
		return nil, err
	}
	b, err := v.bodyOf(ctx, r)
	if err != nil {
		return nil, err
	}
	unpin, ok := b.pin(0, r.size)
	if !ok {
		return nil, store.ErrGone
	}
	v.hold()
	return &Kept{
		Object: store.Object{
			Key: key, ID: r.id, Rev: r.rev, Head: store.Head{Octets: head, Until: r.until},
			Size: r.size, Body: b, Mark: mark(r.addr, r.seq),
		},
		Served: int(r.ref.Hits),
		done:   func() { unpin(); v.release() },
	}, nil
}

// mark names a record: its address, and enough of its segment's number to tell it
// from others that had the address before.
func mark(addr, seq uint64) uint64 {
	return addr | (seq^seq>>seqShift<<16)<<40
}

// Lend hides the entry of key in the record that mark names from Lookup, because
// memory has the very same revision now and answers for it; a restart shows it
// again. It reports false if the record is not there.
func (s *Store) Lend(key store.Key, mark uint64) bool { return s.setLent(key, mark, true) }

// Return shows what was lent, when memory lets it go unchanged. It reports false
// if the disk has reclaimed it meanwhile: then it can be Put anew.
func (s *Store) Return(key store.Key, mark uint64) bool { return s.setLent(key, mark, false) }

func (s *Store) setLent(key store.Key, word uint64, lent bool) bool {
	v, hash, err := s.homeOf(key)
	if err != nil {
		return false
	}
	addr := word & index.MaxAddr
	defer v.lock(hash).Unlock()
	if seq := v.seqAt(addr); seq == 0 || mark(addr, seq) != word {
		return false
	}
	if lent {
		return v.index.Update(hash, addr, v.lent, 0)
	}
	return v.index.Update(hash, addr, 0, ^index.Flags(0))
}

// Stats are the figures of a Store at about one moment. Octets are counted since
// Open unless it says otherwise.
type Stats struct {
	Objects    int   // entries in the index, lent ones included
	IndexBytes int64 // memory of the index, in octets
	Size       int64 // octets of all disks that work
	Used       int64 // octets of their segments that hold something
	Pending    int64 // octets that wait to be written
	Written    int64 // octets written, or about to be
	Reclaimed  int64 // segments reclaimed
	Moved      int64 // entries written again because they were used
	Hits       int64 // entries opened
	Damaged    int64 // entries dropped because they were not as they were written, or unreadable
	Refused    int64 // appends refused: no room, too much pending, or not worth it
	Disks, Out int   // of these disks, so many are out of use
}

// Stats returns the figures of s. It also works after Close.
func (s *Store) Stats() Stats {
	var st Stats
	for _, d := range s.disks {
		d.volume.Load().addTo(&st)
	}
	return st
}

func (v *volume) addTo(st *Stats) {
	c := &v.tally
	st.Written += c.written.Load()
	st.Reclaimed += c.reclaimed.Load()
	st.Moved += c.moved.Load()
	st.Hits += c.hits.Load()
	st.Damaged += c.damaged.Load()
	st.Refused += c.refused.Load()
	st.IndexBytes += v.index.Bytes()
	st.Disks++
	if v.isOut() {
		st.Out++
		return
	}
	st.Objects += v.index.Len()
	v.mu.Lock()
	defer v.mu.Unlock()
	st.Size += int64(len(v.seqs)) * v.segment
	st.Used += int64(len(v.seqs)-len(v.places.free)) * v.segment
	st.Pending += v.log.octets
}
