//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/larderhq/larder/internal/purge"
)

// waitBar is how many times longer hits may take while everything is gone through.
const waitBar = 1.5

// randomly are requests for all objects, none of which is asked for often.
func randomly(o *options) plan { return plan{Kind: million, Set: o.objects, Random: true} }

// measureMillion measures a larder that has all objects.
func measureMillion(ctx context.Context, o *options, r *report) error {
	l, err := newLab(ctx, o, "--memory", fmt.Sprint(2048*int64(o.objects)+256<<20))
	if err != nil {
		return err
	}
	defer l.close()
	if err := l.fill(ctx, hot, 1000); err != nil {
		return err
	}
	began := time.Now()
	if err := l.fill(ctx, million, o.objects); err != nil {
		return err
	}
	r.note("filled over 32 connections", "s", figure{time.Since(began).Seconds()})
	r.note("memory that larder has", "MiB", figure{l.rss()})
	if err := l.publishOften(ctx, r); err != nil {
		return err
	}
	var costs figure
	for range o.rounds {
		us, err := l.cost(ctx, randomly(o))
		if err != nil {
			return err
		}
		costs = append(costs, us)
	}
	r.note("CPU of a hit on any of them", "us", costs)
	if err := l.scan(ctx, r); err != nil {
		return err
	}
	if err := l.sweep(ctx, r, purge.Refresh, o.rounds); err != nil {
		return err
	}
	return l.sweep(ctx, r, purge.Refetch, 1)
}

// publishOften measures purges by tag over the socket.
func (l *lab) publishOften(ctx context.Context, r *report) error {
	took, last, err := l.publish(ctx, purge.Refetch, tags("nothing-", orders)...)
	if err != nil {
		return err
	}
	r.most("one purge by tag over the socket, median of 1,000", "us", took.typical(), publishBar)
	r.note("  the slowest of them", "us", took.greatest())
	_, err = l.settled(ctx, last.ID)
	return err
}

// scan measures hits on all objects at random with regular expressions in force: what was
// said of an object the last time is not remembered any more.
func (l *lab) scan(ctx context.Context, r *report) error {
	release, err := l.hold(ctx, 0)
	if err != nil {
		return err
	}
	all := expressions(l.opts.jobs)
	in := 0
	for n := 0; n <= len(all); n = max(1, 10*n) {
		if _, _, err := l.publish(ctx, purge.Refetch, all[in:n]...); err != nil {
			return err
		}
		in = n
		var costs figure
		for range l.opts.rounds {
			us, err := l.cost(ctx, randomly(l.opts))
			if err != nil {
				return err
			}
			costs = append(costs, us)
		}
		if err := l.allInForce(ctx, n+1); err != nil {
			return err
		}
		r.note(fmt.Sprintf("CPU of a hit on any of them, a tag and %d expressions in force", n), "us", costs)
	}
	return errors.Join(l.drop(ctx), release(), l.rest(ctx))
}

// sweep purges all objects, and measures hits on others until all has been gone through.
func (l *lab) sweep(ctx context.Context, r *report, mode purge.Mode, rounds int) error {
	var idle, busy, times, took, used, longest, late figure
	objects := int64(0)
	for range rounds {
		before := l.larder.CPU()
		quiet, err := l.idle(ctx)
		if err != nil {
			return err
		}
		share := (l.larder.CPU() - before).Seconds() / quiet.Took.Seconds()
		beside, receipt, err := l.sweepOnce(ctx, mode, share, &took, &used)
		if err != nil {
			return err
		}
		objects = receipt.Objects
		idle, busy = append(idle, micro(quiet.P99)), append(busy, micro(beside.P99))
		longest, late = append(longest, micro(beside.Max)), append(late, micro(max(beside.Late, quiet.Late)))
		times = append(times, float64(beside.P99)/float64(quiet.P99))
	}
	name := map[purge.Mode]string{purge.Refetch: "hard", purge.Refresh: "soft"}[mode]
	r.note(fmt.Sprintf("%d hits/s, p99, idle", l.opts.rate), "us", idle)
	r.note(fmt.Sprintf("  p99 while a %s purge of %d is gone through", name, objects), "us", busy)
	if late.middle() < busy.middle()/2 {
		r.most("  times as long", "", times, waitBar)
	} else {
		r.note("  times as long, which says nothing: the loader had to wait, too", "", times)
	}
	r.note("  the slowest hit meanwhile", "us", longest)
	r.note("  the loader itself is late, p99", "us", late)
	r.note("  going through them takes", "s", took)
	r.note("  CPU for that, hits not counted", "s", used)
	return nil
}

// sweepOnce does it once. Hits take that share of a CPU when nothing else goes on.
func (l *lab) sweepOnce(ctx context.Context, mode purge.Mode, share float64, took, used *figure) (beside answer, receipt purge.Receipt, err error) {
	p := l.hits()
	p.Port = l.port
	a, err := ask(ctx, p, l.opts.loadCPU)
	if err != nil {
		return beside, receipt, err
	}
	defer a.end()
	before, began := l.larder.CPU(), time.Now()
	if _, receipt, err = l.publish(ctx, mode, purge.Selector{Tag: million}); err != nil {
		return beside, receipt, err
	}
	if receipt, err = l.settled(ctx, receipt.ID); err != nil {
		return beside, receipt, err
	}
	secs := time.Since(began).Seconds()
	*took, *used = append(*took, secs), append(*used, (l.larder.CPU()-before).Seconds()-share*secs)
	a.end()
	beside, err = a.answer()
	return beside, receipt, err
}
