//go:build linux

package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// report prints what came of all origins. The error says what must not be.
func (l *lab) report(rows []row) error {
	fmt.Printf("\n%-8s %-8s %8s %8s %8s %6s %8s %8s %7s %8s %7s %6s %5s %8s\n",
		"", "", "", "requests", "", "", "refused", "by the", "", "not", "de-", "", "cut", "")
	fmt.Printf("%-8s %-8s %8s %8s %8s %6s %8s %8s %7s %8s %7s %6s %5s %8s\n",
		"origin", "version", "streams", "sent", "accepted", "hits", "by larder", "origin", "failed", "reached", "syncs", "hangs", "off", "time")
	var sum row
	sum.name, sum.ledger = "all", newLedger()
	for i := range rows {
		r := &rows[i]
		r.print()
		sum.add(r)
	}
	if len(rows) > 1 {
		sum.print()
	}
	for i := range rows {
		l.explain(&rows[i])
	}
	return l.verdict(&sum)
}

func (r *row) print() {
	b := r.ledger
	answered := b.accepted.Load() + b.byLarder.Load() + b.byOrigin.Load() + b.failed.Load()
	fmt.Printf("%-8s %-8s %8d %8d %8d %6d %9d %8d %7d %8d %7d %6d %5d %8s\n",
		r.name, r.version, r.streams, b.sent.Load(), b.accepted.Load(), b.hits.Load(), b.byLarder.Load(), b.byOrigin.Load(), b.failed.Load(),
		max(0, b.sent.Load()-answered), b.count[desync], b.count[hang], b.count[cut], r.took.Round(100*time.Millisecond))
}

// add sums up.
func (r *row) add(o *row) {
	r.streams += o.streams
	r.took += o.took
	a, b := r.ledger, o.ledger
	a.sent.Add(b.sent.Load())
	a.accepted.Add(b.accepted.Load())
	a.hits.Add(b.hits.Load())
	a.byLarder.Add(b.byLarder.Load())
	a.byOrigin.Add(b.byOrigin.Load())
	a.failed.Add(b.failed.Load())
	for kind, n := range b.count {
		a.count[kind] += n
	}
}

// explain prints what a table cannot hold: what was seen at the tap and at the origin, why
// requests were refused, and the findings.
func (l *lab) explain(r *row) {
	b := r.ledger
	b.mu.Lock()
	defer b.mu.Unlock()
	fmt.Printf("\n%s: %d requests on the wire, %d seen by the origin (%d answered before their body came, %d broken off)\n",
		r.name, b.wired.Load(), b.understood.Load(), b.early.Load(), b.broken.Load())
	for _, who := range slices.Sorted(maps.Keys(b.reasons)) {
		fmt.Printf("  refused by %s: %s\n", who, b.why(who))
	}
	if l.verbose {
		for _, key := range slices.Sorted(maps.Keys(b.examples)) {
			fmt.Printf("  %s: %s\n", key, b.examples[key])
		}
	}
	for _, f := range b.findings {
		fmt.Printf("  %s: %s\n", f.kind, f.what)
		if f.stream != nil {
			fmt.Printf("    again: go run ./bench/desync -origins %s -seed %d -first %d -streams 1\n    cut at %v: %q\n",
				r.name, l.seed, f.stream.number, f.stream.cuts, f.stream.octets)
		}
	}
}

// total is how many findings there are.
func (l *ledger) total() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failures()
}

// hangs is how many of them there are.
func (l *ledger) hangs() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count[hang]
}

// verdict is the error of the run.
func (l *lab) verdict(sum *row) error {
	b := sum.ledger
	var wrong error
	if b.failures() > 0 {
		wrong = fmt.Errorf("%d streams with desynchronisations, %d that hang, %d cut off (must be 0); the seed is %d", b.count[desync], b.count[hang], b.count[cut], l.seed)
	}
	if sent := b.sent.Load(); sent > 300 && 3*b.accepted.Load() < sent {
		wrong = errors.Join(wrong, fmt.Errorf("only %d of %d requests got through: fewer than a third prove little", b.accepted.Load(), sent))
	}
	return wrong
}
