package engine

import (
	"context"
	"errors"
	"hash/maphash"
	"iter"
	"slices"
	"sync"

	"github.com/larderhq/larder/internal/canon"
	"github.com/larderhq/larder/internal/message"
	"github.com/larderhq/larder/internal/purge"
	"github.com/larderhq/larder/internal/rules"
	"github.com/larderhq/larder/store"
)

// verdict is what the Ledger says of k, which is kept under key.
func (k *kept) verdict(key []byte, e *Engine) purge.Verdict {
	if !e.Ledger.Concerns(k.Stamp, k.Marks) {
		return purge.Clean
	}
	s := k.subject.Load()
	if s == nil {
		if k.fleeting && len(k.Marks)+len(k.Header["Cache-Groups"]) == 0 && e.Ledger.Passes(k.Stamp, e.labels(k)) {
			return purge.Clean
		}
		s = e.enroll(key, k)
	}
	return s.Verdict()
}

// enroll has the Ledger remember what it says of k.
func (e *Engine) enroll(key []byte, k *kept) *purge.Subject {
	s := e.subject(key, k.Stored)
	k.subject.Store(s)
	return s
}

// labels are those of k, for the Ledger, but for groups.
func (e *Engine) labels(k *kept) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for tag := range k.EachTag(&e.labelling) {
			if !yield(purge.TagLabel(tag)) {
				return
			}
		}
	}
}

// subject is res, kept under key or about to be, for the Ledger to judge. What was purged
// of from, which it was made of and which may have other labels, it has too; nil is nothing.
func (e *Engine) subject(key []byte, res *rules.Stored, from ...*rules.Stored) *purge.Subject {
	k := e.describe(new(purge.Kept), key, res)
	for _, s := range from {
		if s != nil {
			e.label(k, s)
		}
	}
	return e.Ledger.Subject(k)
}

// describe makes k what the Ledger has to know of res, kept under key, in the room that k has.
func (e *Engine) describe(k *purge.Kept, key []byte, res *rules.Stored) *purge.Kept {
	target, _ := canon.ParseKey(key, e.Site)
	*k = purge.Kept{Stamp: res.Stamp, Marks: res.Marks, Target: target, Tags: k.Tags[:0], Groups: k.Groups[:0]}
	e.label(k, res)
	return k
}

// label adds the labels of s to k.
func (e *Engine) label(k *purge.Kept, s *rules.Stored) {
	k.Tags = slices.AppendSeq(k.Tags, s.EachTag(&e.labelling))
	k.Groups = append(k.Groups, s.Groups(&e.labelling)...)
}

// judged is res as it is to be kept under key now: with the marks of the purges that have made
// it stale since it was asked for. ok is false if one says that it is not to be kept. For from
// see subject.
//
// The caller has a Ticket since before it was asked for, and stores what it gets before
// the Ticket ends: so no purge is missed that leaves the Ledger meanwhile.
func (e *Engine) judged(key []byte, res *rules.Stored, from ...*rules.Stored) (_ *rules.Stored, ok bool) {
	if !e.Ledger.Concerns(res.Stamp, res.Marks) {
		return res, true
	}
	s := e.subject(key, res, from...)
	switch s.Verdict() {
	case purge.Gone:
		return nil, false
	case purge.Stale:
		marked := *res
		marked.Marks = e.Ledger.Find(s).Marks()
		return &marked, true
	}
	return res, true
}

// stored judges once more what the store shows by now as id: a walker that came by before
// has not seen it, and does not come again. res is what was stored. The caller has the
// Ticket of judged still.
func (e *Engine) stored(j *job, id store.ID, res *rules.Stored, from ...*rules.Stored) {
	ctx := context.WithoutCancel(e.ctx)
	kept, ok := e.judged(j.key, res, from...)
	switch {
	case ok && slices.Equal(kept.Marks, res.Marks):
		return
	case ok && e.Store.Amend(ctx, j.key, id, j.policy.head(rules.Kept(kept, &j.policy.Terms))) == nil:
		return
	}
	_ = e.Store.Remove(ctx, j.key, id) // an error: nobody can read it either
}

// outdone tells whether the store has something in the place of res that was asked for
// later.
func (e *Engine) outdone(ctx context.Context, j *job, res *rules.Stored) bool {
	return slices.ContainsFunc(e.entries(ctx, j.key, j.policy), func(k *kept) bool {
		return k.Stamp > res.Stamp && rules.SameVariant(k.Stored, res)
	})
}

// purged tells whether res, which is to be kept under key, was purged since it was asked for.
// For from see subject.
func (e *Engine) purged(key []byte, res *rules.Stored, from *rules.Stored) bool {
	return e.Ledger.Concerns(res.Stamp, res.Marks) && e.subject(key, res, from).Verdict() != purge.Clean
}

// overtook tells whether what another's fetch has brought was purged since it was asked for:
// what has left the Ledger since has marked the landing before.
func (x *exchange) overtook(l *landing) bool {
	return x.e.purged(x.key, l.res, l.from) || l.purged.Load()
}

// over ends the Ticket of j, which came to l. Some who have waited for l may look at it
// only when the purges that it lives with have left the Ledger.
func (e *Engine) over(j *job, l *landing) {
	if l.res != nil && e.purged(j.key, l.res, l.from) {
		l.purged.Store(true)
	}
	j.release()
}

// Purge takes an Order: see purge.Ledger.Publish. What it names by URLs alone is gone
// through before Purge returns.
func (e *Engine) Purge(ctx context.Context, o purge.Order) (purge.Receipt, error) {
	defer e.Ledger.Begin().End() // so that it is not over before all is counted
	r, err := e.Ledger.Publish(o)
	if r.State != purge.InForce {
		return r, err
	}
	if e.Settle(ctx, r.Order) {
		e.Ledger.Visited(r.ID)
	}
	if now, _, lost := e.Ledger.Receipt(r.ID); lost == nil {
		r = now
	}
	return r, err
}

// Settle goes through what is kept for the URLs that o names, which is in force. It reports
// false if there may be more that o is about.
func (e *Engine) Settle(ctx context.Context, o purge.Order) bool {
	targets, all := purge.Targets(o.Selectors, e.Paths)
	for i := range targets {
		key := e.key(&targets[i])
		e.flights.Forget(key, nil) // nobody is to wait for what would not do
		visited := e.visit(ctx, key)
		if o.Mode == purge.Refetch { // also what the store has not read since a restart
			visited = e.Store.Forget(ctx, key) == nil && visited
		} else {
			visited = visited && e.settled()
		}
		all = all && visited
	}
	return all
}

// Sync returns when what Walk has done outlasts a failure of power, if the store lasts.
func (e *Engine) Sync(ctx context.Context) error {
	if s, ok := e.keeper.(interface{ Sync(context.Context) error }); ok {
		return s.Sync(ctx)
	}
	return nil
}

// Walk goes through all that is kept, and forgets or marks what the Ledger has purged.
// An error says that it did not see everything.
func (e *Engine) Walk(ctx context.Context) error {
	if e.walker == nil {
		return errUnwalkable
	}
	pace, all := newPace(e.Recent), e.newSettlement(ctx)
	err := e.walker.Walk(ctx, func(key store.Key, entry store.Entry, head []byte) bool {
		if e.concerns(key, head) {
			all.settle(key, entry, head)
		}
		return pace.rest(ctx) && all.failed() == nil
	})
	return errors.Join(err, all.wait(), ctx.Err())
}

// atOnce is how many entries of a store that lasts are removed at the same time: each waits
// for the disk, and they wait together.
const atOnce = 256

// A settlement goes through many entries.
type settlement struct {
	e     *Engine
	ctx   context.Context
	room  chan struct{} // nil: one after the other
	going sync.WaitGroup

	mu  sync.Mutex
	err error
}

func (e *Engine) newSettlement(ctx context.Context) *settlement {
	s := &settlement{e: e, ctx: ctx}
	if _, lasts := e.keeper.(lasting); lasts {
		s.room = make(chan struct{}, atOnce)
	}
	return s
}

func (s *settlement) settle(key store.Key, entry store.Entry, head []byte) {
	if s.room == nil {
		s.note(s.e.settleEntry(s.ctx, key, entry, head))
		return
	}
	key, head = slices.Clone(key), slices.Clone(head)
	s.room <- struct{}{}
	s.going.Go(func() {
		defer func() { <-s.room }()
		s.note(s.e.settleEntry(s.ctx, key, entry, head))
	})
}

func (s *settlement) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
}

func (s *settlement) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// wait returns when all are settled.
func (s *settlement) wait() error {
	s.going.Wait()
	return s.failed()
}

var errUnwalkable = errors.New("engine: the store cannot show what it keeps")

// concerns tells whether the Ledger may have something to say of what is kept under key.
func (e *Engine) concerns(key store.Key, head []byte) bool {
	stamp, marks, err := message.Stamps(head)
	if err != nil || !e.Ledger.Concerns(stamp, marks) {
		return false // or it is not ours, or of another version: nobody is given it
	}
	return canon.Of(key, e.Site)
}

// lasting is a store that is still there after a restart, and may then be reading what it
// has until Ready is closed.
type lasting interface{ Ready() <-chan struct{} }

// settled tells whether the store shows all that it has.
func (e *Engine) settled() bool {
	s, ok := e.keeper.(lasting)
	if !ok {
		return true
	}
	select {
	case <-s.Ready():
		return true
	default:
		return false
	}
}

// visit goes through what is kept under one key. It reports false if that cannot be done.
func (e *Engine) visit(ctx context.Context, key []byte) bool {
	entries, err := e.Store.Lookup(ctx, key, nil)
	if err != nil {
		return false
	}
	for _, entry := range entries {
		head, err := e.headOf(ctx, key, entry)
		if err == nil && head != nil && e.concerns(key, head) {
			err = e.settleEntry(ctx, key, entry, head)
		}
		if err != nil {
			return false
		}
	}
	return true
}

// settleEntry does with an entry what the Ledger says of it.
func (e *Engine) settleEntry(ctx context.Context, key store.Key, entry store.Entry, head []byte) error {
	change := e.changes.of(key) // or two would count it
	change.begin()
	defer change.end()
	d := desks.Get().(*desk)
	defer desks.Put(d)
	const attempts = 16
	for range attempts {
		now, there, err := e.latest(ctx, key, entry, d)
		if err != nil || !there {
			return err
		}
		if now.Rev != entry.Rev { // it was refreshed meanwhile, or put in doubt
			entry = now
			if head, err = e.headOf(ctx, key, now); err != nil {
				return err
			}
		}
		if head != nil {
			err = e.settleHead(ctx, key, entry, head, d)
		}
		if head != nil && !errors.Is(err, store.ErrGone) {
			return err
		}
		entry.Rev-- // whatever it has now, it is another head
	}
	return errRestless
}

var errRestless = errors.New("engine: an entry changes faster than it can be gone through")

// rewrite gives an entry another head.
func (e *Engine) rewrite(ctx context.Context, key store.Key, id store.ID, head store.Head) error {
	change := e.changes.of(key)
	change.begin()
	defer change.end()
	return e.Store.Amend(ctx, key, id, head)
}

// commit has keep make visible what j has brought, unless its flight was forgotten.
func (e *Engine) commit(j *job, keep func()) bool {
	return j.f.Commit(func() {
		change := e.changes.of(j.key)
		change.begin()
		defer change.end()
		keep()
	})
}

// settleHead is settleEntry for an entry with this head. ErrGone: it has another one, or is
// no more.
func (e *Engine) settleHead(ctx context.Context, key store.Key, entry store.Entry, head []byte, d *desk) error {
	p := &e.Config.Policy
	res, err := d.decoder.Decode(head, &p.Terms)
	if err != nil {
		return nil // nobody is given it
	}
	s := &d.subject
	s.Become(e.Ledger, e.describe(&d.kept, key, res))
	v := s.Verdict()
	if v == purge.Clean {
		return nil
	}
	found := e.Ledger.Find(s)
	if v == purge.Gone {
		err = e.Store.Remove(ctx, key, entry.ID)
	} else {
		marks := found.Marks()
		if slices.Equal(marks, res.Marks) {
			return nil
		}
		marked := *res
		marked.Marks = marks
		d.head = message.Append(d.head[:0], &marked)
		err = e.Store.Amend(ctx, key, entry.ID, p.headOf(&marked, d.head))
	}
	if err == nil {
		found.Count(entry.Size)
	}
	return err
}

// A desk is the room that it takes to settle one entry. Garbage of a million would have the
// collector run beside requests.
type desk struct {
	decoder message.Decoder
	kept    purge.Kept
	subject purge.Subject
	entries []store.Entry
	head    []byte
}

var desks = sync.Pool{New: func() any { return new(desk) }}

// latest is entry as it is now. there is false if the store does not show it any more.
func (e *Engine) latest(ctx context.Context, key store.Key, entry store.Entry, d *desk) (now store.Entry, there bool, err error) {
	d.entries, err = e.Store.Lookup(ctx, key, d.entries[:0])
	for _, other := range d.entries {
		if other.ID == entry.ID {
			return other, true, err
		}
	}
	return entry, false, err
}

// changes let one after the other change what is kept under a key, which keys share: whoever
// looks at what is there, and decides by that what is to be there, must not be overtaken. Or of
// two refreshes the older one could come last, and what the walker has read take the place of
// what was confirmed meanwhile.
type changes [256]change

// A change is a lock on which goroutines wait as they do for anything else.
type change chan struct{}

func (c change) begin() { c <- struct{}{} }

func (c change) end() { <-c }

func (c *changes) init() {
	for i := range c {
		c[i] = make(change, 1)
	}
}

func (c *changes) of(key []byte) change { return c[maphash.Bytes(keySeed, key)%uint64(len(c))] }
