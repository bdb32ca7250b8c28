package esi

import (
	"bytes"
	"context"
	"io"
	"sync"
)

// How much of the page may be known before its turn comes, in octets: of the
// template, and of each fragment.
const (
	templateAhead = 256 << 10
	fragmentAhead = 64 << 10
)

// smallText is how long a text must be, in octets, for the next one not to be
// put to it: a part for each word would cost more than the copy.
const smallText = 4 << 10

// A mark is a part that structures those around it.
type mark uint8

const (
	none       mark = iota
	attempt         // what follows counts if all of it works
	attemptEnd      // what follows takes its place if it did not
	tryEnd
)

// A part is a piece of a page: one of text, an include, or a mark. The zero
// part is none of them.
type part struct {
	text    []byte
	include *include
	mark    mark
	level   int // of marks: how many attempts of the document they lie in
}

// weight is what p counts against the bound of a queue: about what it holds.
func (p *part) weight() int {
	const overhead = 512 // of an include or mark
	if p.text != nil {
		return len(p.text)
	}
	n := overhead
	if p.include != nil {
		for _, s := range p.include.sources {
			n += len(s)
		}
	}
	return n
}

// A queue takes the parts of one document from who reads it to who writes the
// page. There is one of each.
type queue struct {
	limit      int           // of the weight; one part is taken in any case
	counts     bool          // waiting for it counts against Limits.Time
	more, room chan struct{} // something was put, something was taken

	mu     sync.Mutex
	parts  []part
	weight int
	err    error // io.EOF after the last part, or why there are no more
}

func newQueue(limit int, counts bool) *queue {
	return &queue{limit: limit, counts: counts, more: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// put adds p, of whose text it keeps a copy, as soon as there is room.
func (q *queue) put(ctx context.Context, p part) error {
	for weight := p.weight(); ; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if q.add(p, weight) {
			notify(q.more)
			return nil
		}
		select {
		case <-q.room:
		case <-ctx.Done():
		}
	}
}

func (q *queue) add(p part, weight int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.weight > 0 && q.weight+weight > q.limit {
		return false
	}
	q.weight += weight
	if last := len(q.parts) - 1; p.text != nil && last >= 0 && q.parts[last].text != nil && len(q.parts[last].text) < smallText {
		q.parts[last].text = append(q.parts[last].text, p.text...)
		return true
	}
	p.text = bytes.Clone(p.text)
	q.parts = append(q.parts, p)
	return true
}

// end says that there are no more parts, because of err if it is not nil.
func (q *queue) end(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.err = err
	if err == nil {
		q.err = io.EOF
	}
	notify(q.more)
}

// take returns the next part, whose text is the caller's, or the reason why
// there are no more. ok is false if that is not known yet.
func (q *queue) take() (p part, err error, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.parts) == 0 {
		return part{}, q.err, q.err != nil
	}
	p = q.parts[0]
	q.parts[0] = part{}
	q.parts = q.parts[1:]
	q.weight -= p.weight()
	notify(q.room)
	return p, nil, true
}

// ready tells whether take would return something.
func (q *queue) ready() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.parts) > 0 || q.err != nil
}

// notify leaves a message for who waits, or will, if there is none yet.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
