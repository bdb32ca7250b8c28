package engine

import (
	"context"
	"errors"

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
		s = e.subject(key, k.Stored, &k.policy.Terms)
		k.subject.Store(s)
	}
	return s.Verdict()
}

// subject is res, kept under key or about to be, for the Ledger to judge.
func (e *Engine) subject(key []byte, res *rules.Stored, terms *rules.Terms) *purge.Subject {
	target, _ := canon.ParseKey(key, e.Site)
	tags, _ := res.Tags(terms)
	return e.Ledger.Subject(&purge.Kept{Stamp: res.Stamp, Marks: res.Marks, Target: target, Tags: tags, Groups: res.Groups(terms)})
}

// judged is res as it is to be kept under key now: with the marks of the purges that have made
// it stale since it was asked for. ok is false if one says that it is not to be kept.
//
// The caller has a Ticket since before it was asked for, and stores what it gets before
// the Ticket ends: so no purge is missed that leaves the Ledger meanwhile.
func (e *Engine) judged(key []byte, res *rules.Stored, terms *rules.Terms) (_ *rules.Stored, ok bool) {
	if !e.Ledger.Concerns(res.Stamp, res.Marks) {
		return res, true
	}
	s := e.subject(key, res, terms)
	switch s.Verdict() {
	case purge.Gone:
		return nil, false
	case purge.Stale:
		marked := *res
		marked.Marks = e.Ledger.Marks(s)
		return &marked, true
	}
	return res, true
}

// overtook tells whether res, which another's fetch has brought, was purged since it was asked
// for.
func (x *exchange) overtook(res *rules.Stored) bool {
	return x.e.Ledger.Concerns(res.Stamp, res.Marks) && x.e.subject(x.key, res, &x.policy.Terms).Verdict() != purge.Clean
}

// Purge takes an Order: see purge.Ledger.Publish. What it names by URLs alone is gone
// through before Purge returns.
func (e *Engine) Purge(ctx context.Context, o purge.Order) (purge.Receipt, error) {
	r, err := e.Ledger.Publish(o)
	if r.State != purge.InForce {
		return r, err
	}
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
	if all {
		e.Ledger.Visited(r.ID)
	}
	now, _, lost := e.Ledger.Receipt(r.ID)
	if lost == nil {
		r = now
	}
	return r, err
}

// Walk goes through all that is kept, and forgets or marks what the Ledger has purged.
// An error says that it did not see everything.
func (e *Engine) Walk(ctx context.Context) error {
	if e.walker == nil {
		return errUnwalkable
	}
	pace := newPace()
	var failed error
	err := e.walker.Walk(ctx, func(key store.Key, entry store.Entry, head []byte) bool {
		if e.concerns(key, head) {
			failed = errors.Join(failed, e.settleEntry(ctx, key, entry, head))
		}
		return pace.rest(ctx) && failed == nil
	})
	return errors.Join(err, failed, ctx.Err())
}

var errUnwalkable = errors.New("engine: the store cannot show what it keeps")

// concerns tells whether the Ledger may have something to say of what is kept under key.
func (e *Engine) concerns(key store.Key, head []byte) bool {
	stamp, marks, err := message.Stamps(head)
	if err != nil || !e.Ledger.Concerns(stamp, marks) {
		return false // or it is not ours, or of another version: nobody is given it
	}
	_, ours := canon.ParseKey(key, e.Site)
	return ours
}

// settled tells whether the store shows all that it has: one that lasts may still be
// reading what it had before a restart.
func (e *Engine) settled() bool {
	s, ok := e.keeper.(interface{ Ready() <-chan struct{} })
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
	p := &e.Config.Policy
	res, err := message.Decode(head, &p.Terms)
	if err != nil {
		return nil // nobody is given it
	}
	s := e.subject(key, res, &p.Terms)
	switch s.Verdict() {
	case purge.Gone:
		err = e.Store.Remove(ctx, key, entry.ID)
	case purge.Stale:
		marks := e.Ledger.Marks(s)
		if len(marks) == len(res.Marks) {
			return nil
		}
		// What has changed since the head was read is lost, and will be validated once more.
		marked := *res
		marked.Marks = marks
		err = e.Store.Amend(ctx, key, entry.ID, p.head(&marked))
	default:
		return nil
	}
	if errors.Is(err, store.ErrGone) {
		return nil
	}
	e.Ledger.Count(s, entry.Size)
	return err
}
