// Package purge knows what is to be forgotten. Whoever purges adds a line to a Ledger,
// which takes no longer for a million responses than for one; whoever finds something
// in the store asks the Ledger whether it still counts; and a walker goes through the
// store behind them, so that lines can leave the Ledger again.
//
// What counts is the order of events as this process saw them: a response is older than
// a purge if it was asked for before the purge came into force. The clocks and dates of
// others mean nothing.
package purge

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// MaxRules is how many Selectors are in force at most, and maxPatterns how many of
	// them are prefixes, globs and expressions, which are compared one by one.
	MaxRules    = 100_000
	maxPatterns = 5000

	// maxScheduled is how many jobs wait for their start at most.
	maxScheduled = 1000

	// maxMarks is how many purges that have made a response stale are told apart: it stays
	// stale then, if the others are undone. lasting is a mark that nobody undoes.
	maxMarks = 16
	lasting  = 1

	// maxOctets is how long the Selectors are together that are in force or scheduled at
	// most, in octets, and maxRemembered those of jobs that are neither.
	maxOctets     = 32 << 20
	maxRemembered = 8 << 20

	// maxUndone is how many purges that were undone are known at most: what others had marked
	// is stale again.
	maxUndone = 10_000

	// selectorLen is what a Selector is counted for beside its octets.
	selectorLen = 200

	// history is how many jobs are remembered that are in force no more.
	history = 1000
)

var (
	// ErrFull says that there is no room for another job before what is kept has been
	// gone through, or a scheduled one has begun.
	ErrFull = errors.New("too many purges are in force: wait until the walker has done some, or purge everything")

	// ErrUnknown says that there is no job of that name, or no more.
	ErrUnknown = errors.New("there is no such purge: it may have left the list, which keeps the last thousand")
)

// Options are what a Ledger is made of. The zero value is a Ledger in memory.
type Options struct {
	// Journal keeps the Ledger over restarts. Nil: it ends with the process. The Ledger
	// closes it.
	Journal *Journal

	// Paths says that resources are known by their paths alone.
	Paths bool

	// Plain says that clients come by http alone, as behind somebody who has TLS for us:
	// https in URLs is taken for it.
	Plain bool

	// Shared says that what is kept outlasts the process without a Journal, or that others
	// keep there too: then what is older is told by the time of day, to the second, and what
	// others asked for in the second of a purge counts as older.
	Shared bool

	// Now is the time of day, by which jobs begin and end. Nil: the machine's.
	Now func() time.Time
}

// A Ledger knows what was purged. Any number of goroutines may use it. Make one with New.
type Ledger struct {
	opt Options

	// newest is the sequence number of the last rule in force: what was asked for since
	// is about none of them. last is that of the last job.
	newest, last atomic.Uint64

	// left counts the times that jobs have left the Ledger because they were done.
	left atomic.Uint64

	// version counts the changes of what Subjects are told. It changes with mu held.
	version atomic.Uint64

	// publishing is held while a job changes, and is written down.
	publishing sync.Mutex

	mu       sync.RWMutex
	reset    uint64 // the version of the last change that took something back
	bumped   uint64 // what was asked for before is Gone: see Bump
	all      []*rule
	urls     map[uint64][]*rule
	labels   map[uint64][]*rule
	patterns []*rule
	held     load   // what is in force or scheduled
	waiting  int    // scheduled jobs
	force    []*job // those in force, as they came
	jobs     map[ID]*job
	order    []ID        // of jobs, in the order they were made
	undone   map[ID]bool // whose marks mean nothing
	issued   uint64      // the last number that was given to a job or a moment

	wake, clock chan struct{} // there is something for the walker, or by the clock
	tokens      tickets
}

// New makes a Ledger, with what the Journal has.
func New(opt Options) *Ledger {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	l := &Ledger{
		opt: opt, urls: map[uint64][]*rule{}, labels: map[uint64][]*rule{}, jobs: map[ID]*job{}, undone: map[ID]bool{},
		issued: 1 << runBits, wake: make(chan struct{}, 1), clock: make(chan struct{}, 1),
	}
	l.version.Store(1)
	l.tokens.init()
	if j := opt.Journal; j != nil {
		l.issued = j.run << runBits
		for _, id := range j.undone {
			l.undone[id] = true
		}
		l.load(j.jobs)
		j.jobs, j.undone = nil, nil
	}
	l.last.Store(l.issued)
	return l
}

// Close lets go of the Journal. Nothing may be published any more.
func (l *Ledger) Close() error {
	if l.opt.Journal == nil {
		return nil
	}
	return l.opt.Journal.Close()
}

// Stamp is what a response has that is asked for now.
func (l *Ledger) Stamp() uint64 {
	if l.opt.Shared {
		return max(l.last.Load(), l.second())
	}
	return l.last.Load()
}

func (l *Ledger) second() uint64 { return uint64(l.opt.Now().Unix()) << runBits }

// issue returns a number that is greater than all before. The caller holds mu.
func (l *Ledger) issue() uint64 {
	l.issued++
	if l.opt.Shared {
		l.issued = max(l.issued, l.second()+1)
	}
	return l.issued
}

// Concerns tells whether anything in the Ledger can be about a response with this Stamp
// and these Marks: if not, there is no need for a Subject.
func (l *Ledger) Concerns(stamp uint64, marks []uint64) bool {
	return stamp < l.newest.Load() || len(marks) > 0
}

// Left tells how often jobs have left the Ledger because all that was kept has been gone through.
// What was looked up before that may be as it was before, and is to be looked up again.
func (l *Ledger) Left() uint64 { return l.left.Load() }

// marked is what marks say. The caller holds mu.
func (l *Ledger) marked(marks []uint64) Verdict {
	for _, m := range marks {
		if !l.undone[ID(m)] {
			return Stale
		}
	}
	return Clean
}

// An OrderError says what is wrong with an Order. Nothing was purged.
type OrderError struct{ Err error }

func (e *OrderError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *OrderError) Unwrap() error { return e.Err }

// compileAll finds out what o means, and whether it can be.
func (l *Ledger) compileAll(o *Order) ([]compiled, error) {
	o.Selectors = legible(o.Selectors)
	if l.opt.Plain {
		plain(o.Selectors)
	}
	parts, err := compileSelectors(o.Selectors, l.opt.Paths)
	now := l.opt.Now()
	_, start := o.Start.MarshalText()
	_, end := o.End.MarshalText()
	switch {
	case err != nil:
	case start != nil || end != nil:
		err = fmt.Errorf("it starts or ends at a time that cannot be written down: %w", errors.Join(start, end))
	case !o.End.IsZero() && !o.Start.IsZero() && !o.End.After(o.Start):
		err = fmt.Errorf("it would end before it starts: the end, %s, has to come after the start, %s", o.End.Format(time.RFC3339), o.Start.Format(time.RFC3339))
	case !o.End.IsZero() && !o.End.After(now):
		err = fmt.Errorf("it would end before it starts: the end, %s, has passed", o.End.Format(time.RFC3339))
	case o.Mode > Refresh:
		err = errors.New("the mode is neither refetch nor refresh")
	}
	if err != nil {
		return nil, &OrderError{err}
	}
	return parts, nil
}

func compileSelectors(selectors []Selector, paths bool) ([]compiled, error) {
	if len(selectors) == 0 {
		return nil, errors.New("nothing is named: give at least one selector")
	}
	if len(selectors) > MaxSelectors {
		return nil, fmt.Errorf("%d selectors: at most %d at a time", len(selectors), MaxSelectors)
	}
	parts := make([]compiled, len(selectors))
	for i, s := range selectors {
		c, err := s.compile(paths)
		if err != nil {
			return nil, err
		}
		parts[i] = c
	}
	return parts, nil
}

// Publish takes an Order. When it returns, every lookup obeys it, unless it starts later.
// *OrderError: there is something wrong with it; ErrFull: there is no room. Then nothing
// was purged. Any other error is the Journal's: it is in force, and a restart may forget it.
func (l *Ledger) Publish(o Order) (Receipt, error) {
	parts, err := l.compileAll(&o)
	if err != nil {
		return Receipt{}, err
	}
	j := &job{order: o, parts: parts, created: l.opt.Now(), state: Scheduled, changed: make(chan struct{})}
	written, err := l.take(j)
	if err != nil {
		return Receipt{}, err
	}
	err = l.settle(j, written)
	prompt(l.wake)
	prompt(l.clock)
	return l.receipt(j), err
}

// take puts j into the Ledger, and into the Journal as far as this takes no time.
func (l *Ledger) take(j *job) (written uint64, err error) {
	l.publishing.Lock()
	defer l.publishing.Unlock()
	starts := !j.order.Start.After(j.created)
	if err := l.room(j, !starts); err != nil {
		return 0, err
	}
	l.mu.Lock()
	j.id = ID(l.issue())
	l.jobs[j.id] = j
	l.order = append(l.order, j.id)
	l.hold(j, 1)
	if starts {
		l.enforce(j, uint64(j.id))
	} else {
		l.waiting++
	}
	l.mu.Unlock()
	return l.write(j), nil
}

// A load is how much Selectors take.
type load struct{ rules, patterns, octets int }

// load is how much the Selectors of j take.
func (j *job) load() (n load) {
	for i := range j.parts {
		n.rules++
		if j.parts[i].match != nil {
			n.patterns++
		}
	}
	for _, s := range j.order.Selectors {
		n.octets += selectorLen + len(s.URL) + len(s.Prefix) + len(s.Glob) + len(s.Regex) + len(s.Tag) + len(s.Group) + len(s.Origin)
	}
	return n
}

// hold adds j to what is in force or scheduled, or with -1 takes it out again. The caller
// holds mu.
func (l *Ledger) hold(j *job, times int) {
	n := j.load()
	l.held.rules += times * n.rules
	l.held.patterns += times * n.patterns
	l.held.octets += times * n.octets
}

// room tells whether there is any for j. The caller holds publishing.
func (l *Ledger) room(j *job, scheduled bool) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	n := j.load()
	whole := slices.ContainsFunc(j.parts, func(c compiled) bool { return c.all })
	full := l.held.rules+n.rules > MaxRules || l.held.patterns+n.patterns > maxPatterns || l.held.octets+n.octets > maxOctets
	if full && !whole || scheduled && l.waiting >= maxScheduled {
		return ErrFull
	}
	return nil
}

// enforce has lookups obey j from now on. The caller holds mu.
func (l *Ledger) enforce(j *job, seq uint64) {
	j.seq, j.state = seq, InForce
	l.force = append(l.force, j)
	version := l.version.Load() + 1
	for i := range j.parts {
		c := &j.parts[i]
		r := &rule{job: j, seq: j.seq, version: version, verdict: j.verdict(), match: c.match}
		switch {
		case c.all:
			l.all = append(l.all, r)
		case c.match != nil:
			l.patterns = append(l.patterns, r)
		case c.label != 0:
			l.labels[c.label] = append(l.labels[c.label], r)
		default:
			l.urls[c.url] = append(l.urls[c.url], r)
		}
	}
	// The stamp last: who asks for something with it finds the rules, and what was asked for
	// before is judged by them already.
	l.newest.Store(j.seq)
	l.version.Store(version)
	l.last.Store(j.seq)
	j.tell()
	if slices.ContainsFunc(j.parts, func(c compiled) bool { return c.all }) && j.order.Mode == Refetch && j.order.End.IsZero() {
		l.cover(j)
	}
}

// cover ends the jobs before j, which leaves nothing for them to find. The caller holds mu.
func (l *Ledger) cover(j *job) {
	earlier := slices.DeleteFunc(slices.Clone(l.force), func(other *job) bool { return other == j })
	for _, other := range earlier {
		j.covers, other.walked = true, true
	}
	l.retire(Done, earlier...)
	l.trim()
}

// Bump has everything that was asked for until now be Gone. It takes no time and no room,
// is no job, and ends with the process.
func (l *Ledger) Bump() {
	l.publishing.Lock()
	defer l.publishing.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bumped = l.issue()
	l.newest.Store(l.bumped)
	l.version.Add(1)
	l.last.Store(l.bumped) // last, as in enforce
}

// release has lookups obey j no more, and makes room in the history for it. The caller
// holds mu.
func (l *Ledger) release(j *job, state State) {
	l.retire(state, j)
	l.trim()
}

// retire has lookups obey j no more. Unless it was done, what it was about may count
// again. The caller holds mu, and calls trim when it has retired all.
func (l *Ledger) retire(state State, jobs ...*job) {
	if state == Done {
		l.left.Add(1) // first: who judges without them must find that they have left
	}
	going := make(map[*job]bool, len(jobs))
	matching := false
	for _, j := range jobs {
		if j.state == InForce || j.state == Scheduled {
			going[j] = true
			matching = matching || j.load().patterns > 0
			l.hold(j, -1)
		}
		if j.state == Scheduled {
			l.waiting--
		}
	}
	l.force = slices.DeleteFunc(l.force, func(j *job) bool { return going[j] })
	theirs := func(r *rule) bool {
		if going[r.job] {
			r.off.Store(true)
		}
		return going[r.job]
	}
	l.all = slices.DeleteFunc(l.all, theirs)
	if matching {
		l.patterns = slices.DeleteFunc(slices.Clone(l.patterns), theirs) // Subjects may be reading the old ones
	}
	for j := range going {
		for i := range j.parts {
			without(l.urls, j.parts[i].url, theirs)
			without(l.labels, j.parts[i].label, theirs)
		}
		j.parts = nil // they can be large, and the list is long
	}
	if state != Done {
		l.reset = l.version.Add(1)
	}
	newest := l.bumped
	if n := len(l.force); n > 0 {
		newest = max(newest, l.force[n-1].seq)
	}
	l.newest.Store(newest)
	for _, j := range jobs {
		j.state = state
		j.tell()
	}
}

// without takes those that are mine out of the rules at a hash.
func without(rules map[uint64][]*rule, at uint64, mine func(*rule) bool) {
	switch left := slices.DeleteFunc(rules[at], mine); {
	case len(left) > 0:
		rules[at] = left
	case left != nil:
		delete(rules, at)
	}
}

// trim forgets the oldest jobs of which nothing is to come. The caller holds mu.
func (l *Ledger) trim() {
	over := func(j *job) bool { return j.state != InForce && j.state != Scheduled }
	number, octets := 0, 0
	for _, id := range l.order {
		if j := l.jobs[id]; over(j) {
			number, octets = number+1, octets+j.load().octets
		}
	}
	l.order = slices.DeleteFunc(l.order, func(id ID) bool {
		j := l.jobs[id]
		if number <= history && octets <= maxRemembered || !over(j) {
			return false
		}
		number, octets = number-1, octets-j.load().octets
		delete(l.jobs, id)
		return true
	})
	for id := range l.undone { // their marks outlast them
		if len(l.undone) <= maxUndone {
			break
		}
		delete(l.undone, id)
	}
}

// tell wakes who waits for j to change.
func (j *job) tell() {
	close(j.changed)
	j.changed = make(chan struct{})
}

func (l *Ledger) receipt(j *job) Receipt {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return j.receipt()
}

// Receipt is what the job has come to, and a channel that is closed when its State
// changes. ErrUnknown: there is none of that name.
func (l *Ledger) Receipt(id ID) (Receipt, <-chan struct{}, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	j := l.jobs[id]
	if j == nil {
		return Receipt{}, nil, ErrUnknown
	}
	return j.receipt(), j.changed, nil
}

// Receipts are those of all jobs that are remembered, the last one first.
func (l *Ledger) Receipts() []Receipt {
	l.mu.RLock()
	defer l.mu.RUnlock()
	all := make([]Receipt, 0, len(l.order))
	for _, id := range slices.Backward(l.order) {
		all = append(all, l.jobs[id].receipt())
	}
	return all
}

// A StateError says that a job is not where it would have to be.
type StateError struct {
	State State
	Why   string
}

func (e *StateError) Error() string { return "it is " + string(e.State) + ": " + e.Why }

// Cancel ends a job that is Scheduled or InForce. What it has reached stays as it is.
func (l *Ledger) Cancel(id ID) (Receipt, error) {
	return l.change(id, func(j *job) error {
		if j.state != Scheduled && j.state != InForce {
			return &StateError{j.state, "there is nothing left to cancel"}
		}
		if j.covers {
			return &StateError{j.state, "earlier purges have ended with it, and what they were about would come back"}
		}
		l.release(j, Cancelled)
		return nil
	})
}

// Undo has what a Refresh made stale be as fresh as it was, unless it was refreshed
// meanwhile. A Refetch cannot be undone.
func (l *Ledger) Undo(id ID) (Receipt, error) {
	return l.change(id, func(j *job) error {
		switch {
		case j.order.Mode != Refresh:
			return &StateError{j.state, "only a refresh (soft purge) can be undone; what was refetched is gone"}
		case j.state != InForce && j.state != Done && j.state != Ended && j.state != Cancelled || j.seq == 0:
			return &StateError{j.state, "it has done nothing that could be undone"}
		}
		l.undone[j.id] = true
		l.release(j, Undone)
		return nil
	})
}

// change does something to a job, and writes it down.
func (l *Ledger) change(id ID, do func(*job) error) (Receipt, error) {
	j, written, err := l.alter(id, do)
	if err != nil {
		return Receipt{}, err
	}
	err = l.settle(j, written)
	return l.receipt(j), err
}

func (l *Ledger) alter(id ID, do func(*job) error) (j *job, written uint64, err error) {
	l.publishing.Lock()
	defer l.publishing.Unlock()
	l.mu.Lock()
	j, err = l.jobs[id], ErrUnknown
	if j != nil {
		err = do(j)
	}
	l.mu.Unlock()
	if err != nil {
		return nil, 0, err
	}
	return j, l.write(j), nil
}

// A Finding is what is in force about a Subject.
type Finding struct {
	subject *Subject
	jobs    []*job // that have not marked it, as they came
}

// Find finds out what is in force about s.
func (l *Ledger) Find(s *Subject) Finding {
	return Finding{s, slices.DeleteFunc(l.naming(s), func(j *job) bool { return slices.Contains(s.marks, uint64(j.id)) })}
}

// Count notes that the jobs have found the Subject, with so many octets.
func (f Finding) Count(bytes int64) {
	for _, j := range f.jobs {
		j.objects.Add(1)
		j.bytes.Add(bytes)
	}
}

// naming are the jobs in force that are about s, as they came. It looks only at rules that
// lead there: there may be many more in force.
func (l *Ledger) naming(s *Subject) (jobs []*job) {
	add := func(r *rule) {
		if s.stamp < r.seq {
			jobs = append(jobs, r.job)
		}
	}
	l.mu.RLock()
	for r := range l.leading(s) {
		add(r)
	}
	patterns := l.patterns // which others only add to, or replace
	l.mu.RUnlock()
	text := ""
	if len(patterns) > 0 {
		text = textOf(&s.target)
	}
	for _, r := range patterns {
		if !r.off.Load() && r.match(&s.target, text) {
			add(r)
		}
	}
	slices.SortFunc(jobs, func(a, b *job) int { return cmp.Compare(a.seq, b.seq) })
	return slices.Compact(jobs)
}

// leading yields the rules that s leads to by its URL or labels, and those about everything:
// all that can be about it but for patterns. The caller holds mu meanwhile.
func (l *Ledger) leading(s *Subject) iter.Seq[*rule] {
	return func(yield func(*rule) bool) {
		lists := [...][]*rule{l.all, nil, nil, nil}
		if len(l.urls) > 0 {
			for i, hash := range s.urls() {
				lists[1+i] = l.urls[hash]
			}
		}
		for _, list := range lists {
			for _, r := range list {
				if !yield(r) {
					return
				}
			}
		}
		if len(l.labels) == 0 {
			return
		}
		for _, hash := range s.labels {
			for _, r := range l.labels[hash] {
				if !yield(r) {
					return
				}
			}
		}
	}
}

// Marks are those of the Subject, and the jobs that have made it stale: what is kept with
// it, so that they need not be in force any more.
func (f Finding) Marks() []uint64 {
	l := f.subject.ledger
	l.mu.RLock()
	marks := slices.DeleteFunc(slices.Clone(f.subject.marks), func(m uint64) bool { return l.undone[ID(m)] })
	l.mu.RUnlock()
	for _, j := range f.jobs {
		if j.order.Mode == Refresh {
			marks = append(marks, uint64(j.id))
		}
	}
	if over := len(marks) - maxMarks; over > 0 { // nobody asks for it, or it would have been refreshed
		marks = append(marks[:0], marks[over:]...)
		marks[0] = lasting
	}
	return marks
}
