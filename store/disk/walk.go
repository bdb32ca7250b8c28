package disk

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/disk/internal/index"
)

const (
	// walkLeads is how many records are looked for together, and at most about as
	// many more: they are read in the order in which they lie on the disk.
	walkLeads = 1 << 10

	// walkRounds is how often Walk looks again for what has moved while it was
	// looked for. Each time a whole segment was reclaimed meanwhile.
	walkRounds = 8
)

var _ store.Walker = (*Store)(nil)

// Walk implements store.Walker. What is lent is not shown: memory has it. What
// proves damaged or unreadable is forgotten, as when it is looked up. A disk that
// is out shows nothing, and that is no error.
//
// It reads a page or so of each entry, one after the other, as fast as the disk
// gives them: visit may slow it down. It takes some 4 MiB of memory at the most,
// and what the head takes that is shown.
func (s *Store) Walk(ctx context.Context, visit func(key store.Key, e store.Entry, head []byte) bool) error {
	for _, d := range s.disks {
		v, err := s.borrow(d)
		if err != nil {
			return err
		}
		w := &walk{s: s, v: v, ctx: ctx, visit: visit}
		err = w.all()
		v.release()
		if w.ended {
			return nil
		}
		if err != nil && !errors.Is(err, errOut) {
			return err
		}
	}
	return nil
}

// borrow returns the volume of d, whose files stay open until it is released.
func (s *Store) borrow(d *slot) (*volume, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return nil, store.ErrClosed
	}
	v := d.volume.Load()
	v.hold()
	return v, nil
}

// A walk is a Walk of one volume. It goes through the index by hash: a record
// that moves keeps its hash, so it is found under it, wherever it is by then.
type walk struct {
	s     *Store
	v     *volume
	ctx   context.Context
	visit func(key store.Key, e store.Entry, head []byte) bool
	ended bool // by visit
}

// all shows all there is.
func (w *walk) all() error {
	select {
	case <-w.v.ready:
	case <-w.v.out:
	case <-w.v.stop:
	case <-w.ctx.Done():
	}
	if err := w.alive(); err != nil {
		return err
	}
	var hashes []uint64
	for from, more := uint64(0), true; more; {
		var leads []lead
		for more && len(leads) < walkLeads {
			hashes, from, more = w.v.index.Hashes(from, hashes[:0])
			leads = w.leads(hashes, leads)
		}
		for round := 1; len(leads) > 0; round++ {
			again, err := w.round(leads, round == walkRounds)
			if err != nil || w.ended {
				return err
			}
			leads = w.leads(again, nil)
		}
	}
	return nil
}

// alive says why the walk cannot go on.
func (w *walk) alive() error {
	switch {
	case w.s.closed.Load():
		return store.ErrClosed
	case w.v.isOut():
		return errOut
	}
	return w.ctx.Err()
}

// A group is the records of one hash. All have to be seen before one is shown, for
// several may be of the same entry: see newest.
type group struct {
	hash  uint64
	left  int // not read yet
	found []record
	again bool // some are not where they were
}

// let gives back what was read.
func (g *group) let() {
	for i := range g.found {
		g.found[i].let()
	}
	g.found = nil
}

// A lead is where a record of a group should be.
type lead struct {
	index.Ref
	group *group
}

// leads appends to all where the records of hashes are. There are none of a hash of
// which all is lent.
func (w *walk) leads(hashes []uint64, all []lead) []lead {
	var room [8]index.Ref
	for _, hash := range hashes {
		refs := w.v.refs(hash, room[:0])
		if !slices.ContainsFunc(refs, func(r index.Ref) bool { return r.Flags&w.v.lent == 0 }) {
			continue
		}
		g := &group{hash: hash, left: len(refs)}
		for _, ref := range refs {
			all = append(all, lead{ref, g})
		}
	}
	return all
}

// round shows what leads lead to, and returns the hashes that have to be looked at
// again; none if it is the last round.
func (w *walk) round(leads []lead, last bool) (again []uint64, err error) {
	slices.SortFunc(leads, func(a, b lead) int { return cmp.Compare(a.Addr, b.Addr) })
	for _, l := range leads {
		if err := w.alive(); err != nil {
			return nil, err
		}
		g := l.group
		if err := w.read(g, l.Ref); err != nil {
			return nil, err
		}
		if g.left > 0 {
			continue
		}
		if !g.again || last {
			if err := w.show(g); err != nil || w.ended {
				return nil, err
			}
		}
		if g.let(); g.again && !last {
			again = append(again, g.hash)
		}
	}
	return again, nil
}

// read adds what lies at ref to its group. What cannot be used any more leaves the
// index.
func (w *walk) read(g *group, ref index.Ref) error {
	g.left--
	seq := w.v.seqAt(ref.Addr)
	if seq == 0 {
		g.again = true
		return nil
	}
	r, said, err := w.v.startOf(w.ctx, ref, min(index.ClassSize(ref.Class), peekLen))
	if err != nil && said != unread {
		return err
	}
	if err == nil {
		said = w.v.parse(&r, seq, g.hash)
	}
	switch said {
	case mine:
		if g.left > 0 || len(g.found) > 0 { // it may be long before the last is read
			r.shorten()
		}
		g.found = append(g.found, r)
		return nil
	case stale:
		g.again = true
	default:
		g.again = !w.v.drop(g.hash, ref.Addr, seq, said) || g.again
	}
	r.let()
	return nil
}

// shorten keeps of r what comes before the body, and no room.
func (r *record) shorten() {
	start := slices.Clone(r.start[:min(int64(len(r.start)), r.bodyAt())])
	r.let()
	r.start = start
}

// show shows the entries of g, as far as they are not lent.
func (w *walk) show(g *group) error {
	for _, r := range newest(slices.Clone(g.found)) {
		if r.ref.Flags&w.v.lent != 0 {
			continue
		}
		err := w.showRecord(&r)
		if errors.Is(err, store.ErrGone) {
			g.again = true // it may have moved
		} else if err != nil || w.ended {
			return err
		}
	}
	return nil
}

// showRecord shows the entry of r. ErrGone: it is not there any more.
func (w *walk) showRecord(r *record) error {
	v := w.v
	key, said, err := v.partOf(w.ctx, r, headerLen, int64(r.keyLen))
	if err != nil || v.key.sum(key) != r.hash {
		return v.lose(r, said, err)
	}
	if !v.counts(v, key, r.id) {
		return nil
	}
	head, said, err := v.partOf(w.ctx, r, r.headAt(), int64(r.headLen))
	if err != nil || sumOf(head) != r.headSum {
		return v.lose(r, said, err)
	}
	if err := w.alive(); err != nil {
		return err
	}
	w.ended = !w.visit(key, store.Entry{ID: r.id, Rev: r.rev, Size: r.size}, head)
	return nil
}
