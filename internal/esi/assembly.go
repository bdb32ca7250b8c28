package esi

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// An assembly is one run of Assemble. Each document is read by a goroutine of
// its own into a queue; the goroutine of Assemble alone walks through the queues
// in the order of the page and writes it.
type assembly struct {
	page      *Page
	limits    Limits
	variables func() *variables

	ctx      context.Context // of the page
	stop     context.CancelCauseFunc
	fetching context.Context // of all fragments
	expire   context.CancelCauseFunc

	running sync.WaitGroup
	places  chan struct{} // what may be fetched, or wait for its turn, at one time
	tried   atomic.Int64  // sources, in the order of the document

	// Of the goroutine of Assemble.
	out      output
	left     time.Duration // of Limits.Time
	attempts int           // that the walk is in
}

func newAssembly(ctx context.Context, p *Page, dst io.Writer) *assembly {
	limits := p.Limits.withDefaults()
	a := &assembly{page: p, limits: limits, places: make(chan struct{}, limits.Parallel), out: output{dst: dst, limits: limits}, left: limits.Time}
	a.variables = sync.OnceValue(func() *variables { return newVariables(p.Request, p.Cookies) })
	a.ctx, a.stop = context.WithCancelCause(ctx)
	a.fetching, a.expire = context.WithCancelCause(a.ctx)
	return a
}

// walk moves the parts of q into the page, up to the mark last, or to the end
// if last is the zero part.
func (a *assembly) walk(q *queue, last part) error {
	for {
		p, err := a.take(q)
		switch {
		case err == io.EOF && last.mark == none:
			return nil
		case err != nil:
			return err
		case p.include != nil:
			err = a.include(p.include)
		case p.mark == none:
			err = a.out.write(p.text)
		case p.mark == last.mark && p.level == last.level:
			return nil
		case p.mark == attempt:
			err = a.try(q, p.level)
		}
		if a.out.unusable != nil {
			a.stop(a.out.unusable)
		}
		if err != nil {
			return err
		}
	}
}

// skip drops the parts of q up to the mark last.
func (a *assembly) skip(q *queue, last part) error {
	for {
		p, err := a.take(q)
		if err != nil || p.mark == last.mark && p.level == last.level {
			return err
		}
		if p.include != nil {
			p.include.release()
		}
	}
}

// try walks through an attempt and, if any of it fails, through what stands for
// it in except (W3C ESI, 3.4). What ends the page or the document fails again in
// skip, so that no except hides it.
func (a *assembly) try(q *queue, level int) error {
	attemptEnd, tryEnd := part{mark: attemptEnd, level: level}, part{mark: tryEnd, level: level}
	from := a.out.hold()
	a.attempts++
	failure := a.walk(q, attemptEnd)
	a.attempts--
	if failure == nil {
		if err := a.out.keep(); err != nil {
			return err
		}
		return a.skip(q, tryEnd)
	}
	a.out.undo(from)
	if err := a.skip(q, attemptEnd); err != nil {
		return err
	}
	return a.walk(q, tryEnd)
}

// include moves the fragment of i into the page, or deals with its failure.
func (a *assembly) include(i *include) error {
	defer i.release()
	close(i.turn)
	if i.late {
		a.start(i)
	}
	if err := a.await(i.text); err != nil {
		return err
	}
	rest := i.sources[i.tried:]
	// What was written can be mended only if it was held back.
	held := (i.proceed || len(rest) > 0) && (i.asks || a.out.holds > 0)
	from := 0
	if held {
		from = a.out.hold()
	}
	err := a.walk(i.text, part{})
	switch {
	case err == nil && held:
		return a.out.keep()
	case err == nil:
		return nil
	case held:
		a.out.undo(from)
	}
	if errors.Is(err, ErrIncludes) {
		a.stop(err)
	}
	switch {
	case a.ctx.Err() != nil:
		return context.Cause(a.ctx)
	case i.came && !held:
		return err
	case len(rest) > 0:
		i.release()
		if second := a.include(newInclude(i.in, rest, i.proceed, true)); second != nil {
			return also(err, second)
		}
		return nil
	case i.proceed, a.page.Drop && a.attempts == 0:
		return nil
	}
	return err
}

// take returns the next part of q, for which it waits.
func (a *assembly) take(q *queue) (part, error) {
	for {
		if a.ctx.Err() != nil {
			return part{}, context.Cause(a.ctx)
		}
		if p, err, ok := q.take(); ok {
			return p, err
		}
		if err := a.await(q); err != nil {
			return part{}, err
		}
	}
}

// patience is how long a wait must be to be worth a flush.
const patience = time.Millisecond

// await returns once there is something in q.
func (a *assembly) await(q *queue) error {
	began := time.Now()
	for !q.ready() {
		var soon, late <-chan time.Time
		if a.out.unsent {
			soon = time.After(patience)
		}
		if q.counts && a.fetching.Err() == nil {
			late = time.After(a.left - time.Since(began))
		}
		select {
		case <-q.more:
		case <-soon:
			if err := a.out.flush(); err != nil {
				a.stop(err)
				return err
			}
		case <-late:
			a.expire(ErrTime)
		case <-a.ctx.Done():
			return context.Cause(a.ctx)
		}
	}
	if q.counts {
		a.left -= time.Since(began)
	}
	return nil
}
