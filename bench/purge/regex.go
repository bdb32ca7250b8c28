//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/larderhq/larder/internal/purge"
)

// regexBar is how much CPU a hit may take with many regular expressions in force, as a
// share of what it takes without.
const regexBar = 1.10

// expressions are as an operator writes them, one for each section of a site, and none of
// them is found in anything that is asked for.
func expressions(n int) []purge.Selector {
	forms := []string{`^https?://[^/]+/section-%d/.*\.html$`, `/images/%d/[0-9]+\.(png|jpe?g)$`, `[?&]campaign=%d(&|$)`, `^http://bench/news/%d/`}
	all := make([]purge.Selector, n)
	for i := range all {
		all[i].Regex = fmt.Sprintf(forms[i%len(forms)], i)
	}
	return all
}

// measureRegex measures hits of a hot set with many regular expressions in force. They
// stay that because one answer, which was asked for before, does not end: see hold.
func measureRegex(ctx context.Context, o *options, r *report) error {
	l, err := newLab(ctx, o, "--memory", "512MiB")
	if err != nil {
		return err
	}
	defer l.close()
	if err := l.fill(ctx, hot, o.hot); err != nil {
		return err
	}
	p := plan{Kind: hot, Set: o.hot}
	var without, with, times figure
	for round := range o.rounds {
		before, err := l.warm(ctx, p)
		if err != nil {
			return err
		}
		after, err := l.besideExpressions(ctx, round, p)
		if err != nil {
			return err
		}
		without, with, times = append(without, before), append(with, after), append(times, after/before)
	}
	r.note(fmt.Sprintf("CPU of a hit, %d URLs in turn", o.hot), "us", without)
	r.note(fmt.Sprintf("  with %d regular expressions in force", o.jobs), "us", with)
	r.most("  times as much", "", times, regexBar)
	return nil
}

// warm asks for everything a few times, and then measures.
func (l *lab) warm(ctx context.Context, p plan) (float64, error) {
	again := p
	again.Conns, again.Count = 32, 4*p.Set
	if _, err := l.do(ctx, again); err != nil {
		return 0, err
	}
	return l.cost(ctx, p)
}

// besideExpressions measures with all of them in force, and then lets them go.
func (l *lab) besideExpressions(ctx context.Context, round int, p plan) (float64, error) {
	release, err := l.hold(ctx, round)
	if err != nil {
		return 0, err
	}
	if _, _, err := l.publish(ctx, purge.Refetch, expressions(l.opts.jobs)...); err != nil {
		return 0, err
	}
	us, err := l.warm(ctx, p)
	if err != nil {
		return 0, err
	}
	if err := l.allInForce(ctx, l.opts.jobs+1); err != nil {
		return 0, err
	}
	return us, errors.Join(l.drop(ctx), release(), l.rest(ctx))
}
