package disk

import (
	"context"
	"slices"

	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/disk/internal/index"
)

// A change is a new record for a key, and what it takes the place of.
type change struct {
	key      store.Key
	hash     uint64
	head     store.Head
	id       store.ID // zero: give it one
	rev      uint32
	size     int64
	body     []byte  // the whole, if there are no pieces
	pieces   []piece // must be pinned by the caller
	replaces []store.ID
}

// commit appends a record and changes the index, in one step as others see it.
// What it replaces is gone for good, also after a kill of the process, when
// commit returns. ErrFull: there is no room at this moment, and nothing changed.
func (v *volume) commit(ctx context.Context, c *change, next func() store.ID) (store.Entry, error) {
	e, ticket, err := v.change(ctx, c, next)
	if err == nil && len(c.replaces) > 0 {
		ticket = max(ticket, v.lastKill(c.hash)) // of what proved unreadable
	}
	if err == nil {
		err = v.wait(context.WithoutCancel(ctx), ticket, false)
	}
	return e, err
}

// change is commit without the wait for what the ticket stands for.
func (v *volume) change(ctx context.Context, c *change, next func() store.ID) (store.Entry, uint64, error) {
	defer v.enterChange()()
	for {
		all, seen, err := v.rivals(ctx, c)
		if err != nil {
			return store.Entry{}, 0, err
		}
		stripe := v.lock(c.hash)
		if all != nil || seen != nil {
			var room [8]index.Ref
			if !sameAddrs(v.index.Find(c.hash, room[:0]), seen) {
				stripe.Unlock()
				continue
			}
		}
		e, ticket, err := v.commitLocked(c, all, next)
		stripe.Unlock()
		return e, ticket, err
	}
}

// rivals returns the records that c may take the place of: none without reading
// if it replaces nobody and there are few.
func (v *volume) rivals(ctx context.Context, c *change) ([]record, []uint64, error) {
	var room [8]index.Ref
	if len(c.replaces) == 0 && len(v.index.Find(c.hash, room[:0])) < store.MaxVariants {
		return nil, nil, nil
	}
	all, seen, err := v.find(ctx, c.hash, c.key)
	if err == nil && seen == nil {
		seen = []uint64{}
	}
	return all, seen, err
}

// sameAddrs says whether refs are at these addresses.
func sameAddrs(refs []index.Ref, addrs []uint64) bool {
	if len(refs) != len(addrs) {
		return false
	}
	for _, r := range refs {
		if !slices.Contains(addrs, r.Addr) {
			return false
		}
	}
	return true
}

// commitLocked does the work of commit under the stripe of c.hash, for the
// records all. The ticket is zero if nothing was replaced.
func (v *volume) commitLocked(c *change, all []record, next func() store.ID) (store.Entry, uint64, error) {
	for _, p := range c.pieces {
		if v.seqAt(p.addr) != p.seq {
			return store.Entry{}, 0, store.ErrFull // the log came round before the end
		}
	}
	kills := v.killsOf(c, all)
	h := header{kind: kindObject, hash: c.hash, id: c.id, rev: c.rev, until: c.head.Until, size: c.size}
	if h.id == 0 {
		h.id = next()
	}
	d := newDraft(h, c.key, c.head.Octets, kills, c.pieces, c.body)
	class := index.Class(int64(len(d.octets)))
	ticket, err := v.append(d, kills, class)
	if err != nil {
		return store.Entry{}, 0, err
	}
	v.place(c.hash, index.Ref{Addr: d.addr, Class: class}, kills)
	if len(kills) == 0 {
		ticket = 0
	}
	return store.Entry{ID: h.id, Rev: c.rev, Size: c.size}, ticket, nil
}

// killsOf names the records that c takes the place of: those it says, and the
// oldest if the key has too many variants. An entry may have several records: an
// older revision that was lent, or a copy that a crash left.
func (v *volume) killsOf(c *change, all []record) []kill {
	gone := slices.Clone(c.replaces)
	variants := newest(slices.Clone(all))
	variants = slices.DeleteFunc(variants, func(r record) bool { return slices.Contains(gone, r.id) || r.id == c.id })
	for len(variants) >= store.MaxVariants {
		gone = append(gone, variants[len(variants)-1].id)
		variants = variants[:len(variants)-1]
	}
	var kills []kill
	for _, r := range all {
		if slices.Contains(gone, r.id) {
			kills = append(kills, kill{c.hash, r.id, r.addr})
		}
	}
	if !v.recovering() {
		return kills
	}
	for _, id := range gone {
		if id != c.id { // there may be more records of it than were found
			kills = append(kills, kill{c.hash, id, 0})
		}
	}
	return kills
}

// place puts ref into the index where the killed were: whoever looks finds the
// one or the others. The caller holds the stripe.
func (v *volume) place(hash uint64, ref index.Ref, kills []kill) {
	placed := false
	for _, k := range kills {
		switch {
		case k.addr == 0:
		case placed:
			v.index.Remove(hash, k.addr)
		default:
			placed = v.index.Replace(hash, k.addr, ref)
		}
	}
	if !placed {
		v.index.Insert(hash, ref)
	}
	if v.recovering() {
		v.late.add(kills)
	}
}

// amend gives the entry of id another head. A short body is written again with
// it, a longer one stays where it is.
func (v *volume) amend(ctx context.Context, hash uint64, key store.Key, id store.ID, head store.Head) error {
	defer v.enterChange()()
	for {
		r, err := v.entry(ctx, hash, key, id)
		if err != nil {
			return err
		}
		done, err := v.amendRecord(ctx, &r, key, head)
		if done || err != nil {
			return err
		}
	}
}

// amendRecord amends r. It reports false if r is not what it was any more.
func (v *volume) amendRecord(ctx context.Context, r *record, key store.Key, head store.Head) (bool, error) {
	if !v.pin(r.addr, r.seq) {
		return false, nil
	}
	defer v.unpin(r.seq)
	c := &change{key: key, hash: r.hash, head: head, id: r.id, rev: r.rev + 1, size: r.size}
	if err := v.copyBody(ctx, c, r); err != nil {
		return false, err
	}
	stripe := v.lock(r.hash)
	defer stripe.Unlock()
	if !v.current(r) {
		return false, nil
	}
	c.replaces = []store.ID{r.id}
	_, _, err := v.commitLocked(c, []record{*r}, nil)
	return true, err
}

// current says whether the index still leads to r. The caller holds the stripe.
func (v *volume) current(r *record) bool {
	var room [8]index.Ref
	return v.seqAt(r.addr) == r.seq && slices.ContainsFunc(v.index.Find(r.hash, room[:0]), func(f index.Ref) bool { return f.Addr == r.addr })
}

// copyBody gives c the body of r: its octets if that is one block, or where they
// are.
func (v *volume) copyBody(ctx context.Context, c *change, r *record) error {
	b, err := v.bodyOf(ctx, r)
	if err != nil || r.size == 0 {
		return err
	}
	if r.pieces == 0 && r.size <= blockLen {
		c.body, err = b.block(ctx, 0, nil)
		if err != nil {
			return v.loseBody(ctx, r, err)
		}
		return nil
	}
	for _, p := range b.parts {
		c.pieces = append(c.pieces, piece{p.addr, p.seq, p.size})
	}
	return nil
}

// loseBody says that the body of r could not be read.
func (v *volume) loseBody(ctx context.Context, r *record, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if v.isOut() {
		return errOut
	}
	v.drop(r.hash, r.addr, r.seq, damaged)
	_ = err // what it was is the disk's affair; the entry is gone
	return store.ErrGone
}
