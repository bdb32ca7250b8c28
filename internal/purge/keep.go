package purge

import (
	"maps"
	"slices"
)

// load takes over what the Journal has: what was in force still is, under the same
// numbers, so that nothing is purged twice.
func (l *Ledger) load(lines []jobLine) {
	for i := range lines {
		j, in := &job{}, &lines[i]
		j.id, j.order, j.created, j.walked, j.covers, j.durable = in.ID, in.Order, in.Created, in.Walked, in.Covers, true
		j.seq, j.state, j.changed = in.Seq, in.State, make(chan struct{})
		j.objects.Store(in.Objects)
		j.bytes.Store(in.Bytes)
		if j.state == InForce || j.state == Scheduled {
			var err error
			if j.parts, err = compileSelectors(in.Order.Selectors, l.opt.Paths); err != nil {
				j.parts = []compiled{{all: true}} // written by another version: better too much than too little
			}
			l.hold(j, 1)
		}
		if j.state == Scheduled {
			l.waiting++
		}
		l.jobs[j.id] = j
		l.order = append(l.order, j.id)
		if in.Undone {
			l.undone[j.id] = true
		}
	}
	slices.Sort(l.order)
	var force []*job
	for _, id := range l.order {
		if j := l.jobs[id]; j.state == InForce {
			force = append(force, j)
		}
	}
	slices.SortFunc(force, func(a, b *job) int { return int(int64(a.seq - b.seq)) })
	for _, j := range force {
		l.enforce(j, j.seq)
	}
}

// line is j as it is written. The caller holds mu for reading.
func (l *Ledger) line(j *job) *jobLine {
	return &jobLine{
		ID: j.id, Order: j.order, Created: j.created, Seq: j.seq, State: j.state, Walked: j.walked,
		Objects: j.objects.Load(), Bytes: j.bytes.Load(), Undone: l.undone[j.id], Covers: j.covers,
	}
}

// write writes jobs into the Journal, where there is one, and returns what settle waits
// for. The caller holds publishing.
func (l *Ledger) write(jobs ...*job) uint64 {
	if l.opt.Journal == nil || len(jobs) == 0 {
		return 0
	}
	l.mu.RLock()
	lines := make([]*jobLine, 0, len(jobs))
	for _, j := range jobs {
		lines = append(lines, l.line(j))
	}
	needed := len(l.order)
	l.mu.RUnlock()
	written := l.opt.Journal.append(lines...)
	if l.opt.Journal.bloated(needed) {
		l.rewrite()
	}
	return written
}

// rewrite has the Journal hold what is known now, and nothing else. The caller holds
// publishing. If it fails, settle does.
func (l *Ledger) rewrite() {
	l.mu.RLock()
	lines := make([]*jobLine, 0, len(l.order))
	for _, id := range l.order {
		lines = append(lines, l.line(l.jobs[id]))
	}
	undone := slices.Sorted(maps.Keys(l.undone))
	l.mu.RUnlock()
	j := l.opt.Journal
	j.syncing.Lock()
	defer j.syncing.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	_ = j.rewrite(lines, undone)
}

// settle waits until what was written is durable.
func (l *Ledger) settle(j *job, written uint64) error {
	if l.opt.Journal == nil {
		return nil
	}
	if err := l.opt.Journal.wait(written); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	j.durable = true
	return nil
}
