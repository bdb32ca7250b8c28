package purge

import (
	"context"
	"slices"
	"sync"
	"time"
)

// tickets count those who read something that is kept and store something made of it
// later: a rule stays as long as one of them began before all that is kept had been gone
// through.
type tickets struct {
	mu     sync.Mutex
	turn   uint64
	held   map[uint64]int // by turn
	passed chan struct{}  // closed when one is given back; nil: nobody waits for that
}

func (t *tickets) init() { t.held = map[uint64]int{} }

// A Ticket is one of those. Exactly one of its holders calls End, once.
type Ticket struct {
	ledger *Ledger
	turn   uint64

	// Stamp is that of what is asked for from now on.
	Stamp uint64
}

// Begin is called before something is asked for that may be stored, and before anything
// is read that it may be made of.
func (l *Ledger) Begin() Ticket {
	t := &l.tokens
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held[t.turn]++
	return Ticket{l, t.turn, l.Stamp()}
}

// End says that nothing more will be stored. The zero Ticket has nothing to end.
func (k Ticket) End() {
	if k.ledger == nil {
		return
	}
	t := &k.ledger.tokens
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held[k.turn]--; t.held[k.turn] == 0 {
		delete(t.held, k.turn)
		if t.passed != nil {
			close(t.passed)
			t.passed = nil
		}
	}
}

// await returns when all tickets have been given back that were given before.
func (t *tickets) await(ctx context.Context) error {
	t.mu.Lock()
	before := t.turn
	t.turn++
	t.mu.Unlock()
	for {
		t.mu.Lock()
		if t.passed == nil {
			t.passed = make(chan struct{})
		}
		passed, open := t.passed, false
		for turn := range t.held {
			open = open || turn <= before
		}
		t.mu.Unlock()
		if !open {
			return nil
		}
		select {
		case <-passed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

const (
	// retry is how long nothing is gone through after that has failed.
	retry = time.Minute

	// tick is how often the clock is looked at for starts and ends: it may have been set.
	tick = time.Minute
)

// A Keeper is what is gone through.
type Keeper interface {
	// Walk goes through all that is kept, and forgets or marks what was purged.
	Walk(context.Context) error
	// Sync returns when all that was forgotten and marked stays so, whatever happens.
	Sync(context.Context) error
}

// Tend begins and ends jobs when it is time to, and has k go through what is kept for
// those in force, until ctx ends.
func (l *Ledger) Tend(ctx context.Context, k Keeper) {
	var tending sync.WaitGroup
	tending.Go(func() { l.keepTime(ctx) })
	defer tending.Wait()
	for {
		visited, due := l.due()
		if len(visited)+len(due) == 0 {
			select {
			case <-l.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		if l.tend(ctx, k, visited, due) == nil {
			continue
		}
		select {
		case <-time.After(retry):
		case <-ctx.Done():
			return
		}
	}
}

// tend ends the jobs that were visited, and those due after a walk.
func (l *Ledger) tend(ctx context.Context, k Keeper, visited, due []ID) error {
	var failed error
	if len(due) > 0 {
		if failed = k.Walk(ctx); failed == nil {
			visited = append(visited, due...)
		}
	}
	if err := l.tokens.await(ctx); err != nil {
		return err
	}
	if err := k.Sync(ctx); err != nil {
		return err
	}
	l.Walked(visited...)
	return failed
}

// due are the jobs in force: those about which all was gone through that is kept, and the
// others.
func (l *Ledger) due() (visited, due []ID) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, j := range l.force {
		if j.walked {
			visited = append(visited, j.id)
		} else {
			due = append(due, j.id)
		}
	}
	return visited, due
}

// Visited says that all that was kept was gone through that the job can be about.
func (l *Ledger) Visited(id ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if j := l.jobs[id]; j != nil {
		j.walked = true
	}
}

// Walked says that all was gone through that was kept when these jobs had come into force,
// and that what was asked for before is stored by now, or never will be.
func (l *Ledger) Walked(ids ...ID) {
	l.publishing.Lock()
	defer l.publishing.Unlock()
	for some := range slices.Chunk(ids, 256) { // lookups get their turn in between
		l.write(l.walked(some)...) // or it is gone through once more after a restart
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trim()
}

// walked ends those of these jobs that are in force, and returns them.
func (l *Ledger) walked(ids []ID) (done []*job) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		if j := l.jobs[id]; j != nil && j.state == InForce {
			j.walked = true
			done = append(done, j)
		}
	}
	l.retire(Done, done...)
	return done
}

// prompt wakes who waits for c, or will.
func prompt(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// keepTime begins and ends jobs when it is time to.
func (l *Ledger) keepTime(ctx context.Context) {
	for {
		timer := time.NewTimer(l.Tick())
		select {
		case <-timer.C:
		case <-l.clock:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// Tick begins and ends the jobs whose time has come, and tells how long nothing more
// will.
func (l *Ledger) Tick() time.Duration {
	now := l.opt.Now()
	next := tick
	var begin, end []ID
	l.mu.RLock()
	for _, id := range l.order {
		j := l.jobs[id]
		late := !j.order.End.IsZero() && !j.order.End.After(now)
		switch {
		case (j.state == Scheduled || j.state == InForce) && late:
			end = append(end, id)
		case j.state == Scheduled && !j.order.Start.After(now):
			begin = append(begin, id)
		case j.state == Scheduled:
			next = min(next, j.order.Start.Sub(now))
		case j.state == InForce && !j.order.End.IsZero():
			next = min(next, j.order.End.Sub(now))
		}
	}
	l.mu.RUnlock()
	for _, id := range slices.Concat(begin, end) {
		_, _ = l.change(id, func(j *job) error { // it may have been cancelled meanwhile
			switch {
			case j.state == Scheduled && slices.Contains(begin, id):
				l.waiting--
				l.enforce(j, l.issue())
			case j.state == Scheduled || j.state == InForce:
				l.release(j, Ended)
			default:
				return &StateError{State: j.state}
			}
			return nil
		})
	}
	if len(begin) > 0 {
		prompt(l.wake)
	}
	return max(next, time.Millisecond)
}
