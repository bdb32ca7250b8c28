package purge

import (
	"iter"
	"slices"
	"sync/atomic"

	"github.com/larderhq/larder/internal/canon"
)

// A Verdict is what a Ledger says of something that is kept. The greater one counts.
type Verdict uint8

const (
	// Clean: nobody has purged it.
	Clean Verdict = iota
	// Stale: a Refresh is about it.
	Stale
	// Gone: a Refetch is about it.
	Gone
)

// A Subject is one response that is kept, as it was at one moment, for a Ledger to judge.
// It remembers what was said of it, so that each job looks at it once. Any number of
// goroutines may use it. Make one with Ledger.Subject.
type Subject struct {
	ledger *Ledger
	stamp  uint64
	marks  []uint64
	target canon.Target
	labels []uint64

	// state is the version of the Ledger that was looked at, and the Verdict in the
	// last two bits.
	state atomic.Uint64
}

const verdictBits = 2

// A Kept is what a Subject is made of.
type Kept struct {
	// Stamp is what the Ledger's was when the response was asked for, and Marks are the
	// jobs that have marked it since.
	Stamp uint64
	Marks []uint64

	// Target is what clients ask for it by; without Scheme and Host if they do not matter.
	Target canon.Target

	// Tags and Groups may hold what is none, and one twice.
	Tags, Groups []string
}

// Subject makes a Subject of k.
func (l *Ledger) Subject(k *Kept) *Subject {
	s := new(Subject)
	s.Become(l, k)
	return s
}

// Become makes s what l.Subject returns for k, in the room that s has. Nobody may use s
// meanwhile.
func (s *Subject) Become(l *Ledger, k *Kept) {
	s.ledger, s.stamp, s.marks, s.target = l, k.Stamp, k.Marks, k.Target
	s.labels = slices.Grow(s.labels[:0], len(k.Tags)+len(k.Groups))
	for _, tag := range k.Tags {
		s.labels = append(s.labels, hashTag(tag))
	}
	for _, group := range k.Groups {
		s.labels = append(s.labels, hashGroup(originOf(&s.target), group))
	}
	s.state.Store(0)
}

// urls are the hashes of the URL: as it is, without the scheme, and without the host.
func (s *Subject) urls() (hashes [3]uint64) {
	t := s.target
	hashes[0] = hashURL(textOf(&t))
	t.Scheme = ""
	hashes[1] = hashURL(textOf(&t))
	t.Host = ""
	hashes[2] = hashURL(textOf(&t))
	return hashes
}

// Verdict is what is said of s now.
func (s *Subject) Verdict() Verdict {
	state := s.state.Load()
	if state>>verdictBits == s.ledger.version.Load() {
		return Verdict(state & (1<<verdictBits - 1))
	}
	return s.judge(state)
}

// judge looks at what has come into force since state.
func (s *Subject) judge(state uint64) Verdict {
	l := s.ledger
	l.mu.RLock()
	version, seen, v := l.version.Load(), state>>verdictBits, Verdict(state&(1<<verdictBits-1))
	if seen == 0 || v != Clean && seen < l.reset { // something was undone, which may have been why
		seen, v = 0, l.marked(s.marks)
	}
	for r := range l.leading(s) {
		if r.version > seen && s.stamp < r.seq {
			v = max(v, r.verdict)
		}
	}
	if s.stamp < l.bumped {
		v = Gone
	}
	patterns := l.patterns // which others only add to, or replace
	l.mu.RUnlock()
	text := ""
	for i := len(patterns) - 1; i >= 0 && patterns[i].version > seen && v != Gone; i-- {
		r := patterns[i]
		if s.stamp >= r.seq || r.verdict <= v || r.off.Load() {
			continue
		}
		if text == "" {
			text = textOf(&s.target)
		}
		if r.match(&s.target, text) {
			v = r.verdict
		}
	}
	s.state.Store(version<<verdictBits | uint64(v))
	return v
}

// Since is the Stamp that something needs to be newer than all purges in force that are about
// s. What is on its way when a purge leaves the Ledger is newer than that one.
func (s *Subject) Since() uint64 {
	jobs := s.ledger.naming(s)
	if len(jobs) == 0 {
		return 0
	}
	return jobs[len(jobs)-1].seq
}

// Passes tells whether nothing in force is about a response with this Stamp and without
// Marks, by its labels alone: in no time, for what nobody has asked for in a while. It is
// asked for the labels, by TagLabel, if they matter; it has no groups. False says nothing.
func (l *Ledger) Passes(stamp uint64, labels iter.Seq[uint64]) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	n := len(l.patterns)
	if stamp < l.bumped || len(l.urls) > 0 || len(l.all) > 0 || n > 0 && stamp < l.patterns[n-1].seq {
		return false
	}
	if len(l.labels) == 0 {
		return true
	}
	for label := range labels {
		if len(l.labels[label]) > 0 {
			return false
		}
	}
	return true
}

// TagLabel is what Ledgers know a tag by.
func TagLabel(tag string) uint64 { return hashTag(tag) }

// A rule is one Selector of a job that is in force.
type rule struct {
	job     *job
	seq     uint64
	version uint64 // of the Ledger that has it first
	verdict Verdict
	match   matcher     // of patterns
	off     atomic.Bool // it is in force no more
}

// names tells whether p is about s, whatever the stamps.
func (p *compiled) names(s *Subject) bool {
	switch {
	case p.all:
		return true
	case p.match != nil:
		return p.match(&s.target, textOf(&s.target))
	case p.label != 0:
		return slices.Contains(s.labels, p.label)
	}
	hashes := s.urls()
	return slices.Contains(hashes[:], p.url)
}
