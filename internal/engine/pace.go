package engine

import (
	"context"
	"runtime"
	"time"

	"github.com/larderhq/larder/internal/observe"
)

const (
	// stretch is how long work in the background goes on before it rests, and resting how
	// many times as long it rests then: requests come first.
	stretch = 25 * time.Microsecond
	resting = 10

	// leisure is the stretch when nobody has asked for anything for quiet. A process that
	// does nothing else is woken late, and would spend its time resting.
	leisure = time.Millisecond
	quiet   = time.Second
)

// A pace keeps work in the background from taking a whole core.
type pace struct {
	recent *observe.Recent // nil: nobody knows what is asked for
	asked  time.Time       // when somebody last asked for something
	since  time.Time       // when it rested last
	timer  *time.Timer
}

func newPace(recent *observe.Recent) *pace {
	now := time.Now()
	p := &pace{recent: recent, asked: now, since: now, timer: time.NewTimer(0)}
	p.timer.Stop()
	return p
}

// rest is called after each piece of work. It reports false if ctx has ended.
func (p *pace) rest(ctx context.Context) bool {
	runtime.Gosched() // to whoever has come meanwhile and has no other processor
	now := time.Now()
	worked := now.Sub(p.since)
	if worked < p.stretch(now) {
		return ctx.Err() == nil
	}
	p.timer.Reset(resting * min(worked, 200*stretch))
	select {
	case <-p.timer.C:
	case <-ctx.Done():
		return false
	}
	p.since = time.Now()
	return true
}

func (p *pace) stretch(now time.Time) time.Duration {
	if p.recent == nil || p.recent.Stirred() {
		p.asked = now
	}
	if now.Sub(p.asked) > quiet {
		return leisure
	}
	return stretch
}
