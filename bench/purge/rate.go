//go:build linux

package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larderhq/larder/bench/rig"
	"github.com/larderhq/larder/internal/admin"
	"github.com/larderhq/larder/internal/purge"
)

// measureRate measures how many purges there can be, with and without a disk.
func measureRate(ctx context.Context, o *options, r *report) error {
	if err := rates(ctx, o, r, "in memory"); err != nil {
		return err
	}
	return rates(ctx, o, r, "with a disk", "--disk", "SCRATCH/disk:1GiB")
}

func rates(ctx context.Context, o *options, r *report, where string, args ...string) error {
	l, err := newLab(ctx, o, append(args, "--memory", "256MiB")...)
	if err != nil {
		return err
	}
	defer l.close()
	if err := l.fill(ctx, hot, o.hot); err != nil {
		return err
	}
	var most, idle, beside, times figure
	for round := range o.rounds {
		quiet, err := l.idle(ctx)
		if err != nil {
			return err
		}
		paced, err := l.besidePurges(ctx, round)
		if err != nil {
			return err
		}
		n, err := l.throng(ctx, round)
		if err == nil {
			err = l.rest(ctx)
		}
		if err != nil {
			return err
		}
		most, idle, beside = append(most, n), append(idle, micro(quiet.P99)), append(beside, micro(paced.P99))
		times = append(times, float64(paced.P99)/float64(quiet.P99))
	}
	r.note(fmt.Sprintf("%s: purges by tag, %d clients at the socket", where, o.clients), "a second", most)
	r.note(fmt.Sprintf("  %d hits/s, p99, idle", o.rate), "us", idle)
	r.note(fmt.Sprintf("  p99 beside %d purges a second", o.purges), "us", beside)
	r.note("  times as long", "", times)
	return nil
}

// throng purges as fast as all clients can, and returns how many that are a second.
func (l *lab) throng(ctx context.Context, round int) (float64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var done atomic.Int64
	var over atomic.Bool
	var clients sync.WaitGroup
	began := time.Now()
	for i := range l.opts.clients {
		clients.Go(func() {
			c := admin.NewClient(l.socket, "", nil)
			defer c.Close()
			for n := 0; !over.Load(); n++ {
				if _, err := c.Purge(ctx, purge.Order{Selectors: []purge.Selector{{Tag: fmt.Sprint("rate-", round, "-", i, "-", n)}}}); err != nil {
					cancel(err)
					return
				}
				done.Add(1)
			}
		})
	}
	_ = rig.Pause(ctx, time.Duration(l.opts.secs)*time.Second) // the context says the same below
	over.Store(true)
	took := time.Since(began)
	n := done.Load()
	clients.Wait()
	return float64(n) / took.Seconds(), context.Cause(ctx)
}

// besidePurges is how long hits take beside purges at a fixed rate.
func (l *lab) besidePurges(ctx context.Context, round int) (answer, error) {
	p := l.hits()
	p.Port, p.Time = l.port, time.Duration(l.opts.secs)*time.Second
	a, err := ask(ctx, p, l.opts.loadCPU)
	if err != nil {
		return answer{}, err
	}
	defer a.end()
	began := time.Now()
	for n := 0; time.Since(began) < p.Time; n++ {
		if _, _, err := l.publish(ctx, purge.Refetch, purge.Selector{Tag: fmt.Sprint("paced-", round, "-", n)}); err != nil {
			return answer{}, err
		}
		if err := rig.Pause(ctx, time.Until(began.Add(time.Duration(n+1)*time.Second/time.Duration(l.opts.purges)))); err != nil {
			return answer{}, err
		}
	}
	return a.answer()
}
