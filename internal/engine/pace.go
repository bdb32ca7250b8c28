package engine

import (
	"context"
	"runtime"
	"time"
)

const (
	// stretch is how long work in the background goes on before it rests, and rest how
	// many times as long it rests then: requests come first.
	stretch = 50 * time.Microsecond
	resting = 5
)

// A pace keeps work in the background from taking a whole core.
type pace struct {
	since time.Time
	n     int
}

func newPace() *pace { return &pace{since: time.Now()} }

// rest is called after each piece of work. It reports false if ctx has ended.
func (p *pace) rest(ctx context.Context) bool {
	if p.n++; p.n%4 != 0 { // pieces are small
		return ctx.Err() == nil
	}
	runtime.Gosched() // to whoever has come meanwhile and has no other processor
	worked := time.Since(p.since)
	if worked < stretch {
		return ctx.Err() == nil
	}
	t := time.NewTimer(resting * min(worked, 100*stretch))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return false
	}
	p.since = time.Now()
	return true
}
