//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
)

// A figure is what one measurement says, or the median of several.
type figure struct {
	cpu   float64 // seconds of the server for each request
	rate  float64 // requests a second
	load  float64 // seconds of wrk for each
	asked float64 // requests to S3 for each
}

// The last column of figures.
const (
	s3Asked = "S3/req"
	wrkCPU  = "wrk CPU"
)

// A table compares contenders, the last of which is larder.
type table struct {
	l     *lab
	names []string
	bar   float64 // how many times better than each of the others it is to be
	third string  // s3Asked, or wrkCPU, with which both ends are compared together, too
}

// head prints the head, after what is measured.
func (t *table) head(text string) {
	both := ""
	if t.third == wrkCPU {
		both = "both ends"
	}
	fmt.Printf("\n%s\n\n%-8s%-7s%-18s   CPU us/req     req/s  %7s   larder is better by, in CPU     in req/s          %s\n",
		text, "size", "names", "", t.third, strings.TrimSpace(fmt.Sprintf("%-10s bar %.1f", both, t.bar)))
}

// rounds measures each contender as often as it is to be, and prints a row for each.
func (t *table) rounds(ctx context.Context, s set, measure func(ctx context.Context, who, round int) (figure, error)) error {
	samples := make([][]figure, len(t.names))
	for round := range t.l.opts.rounds {
		for turn := range t.names {
			i := (turn + round) % len(t.names) // nobody always follows the same one
			f, err := measure(ctx, i, round)
			if err != nil {
				return err
			}
			if t.l.opts.verbose {
				fmt.Fprintf(os.Stderr, "%s x %d, %s: %.1f us, %.0f requests/s\n", s.label(), s.count, t.names[i], f.cpu*1e6, f.rate)
			}
			samples[i] = append(samples[i], f)
		}
	}
	what := fmt.Sprintf("%-8s%-7d", s.label(), s.count)
	for i, all := range samples {
		m := median(all)
		third := fmt.Sprintf("%.2f", m.asked)
		if t.third == wrkCPU {
			third = fmt.Sprintf("%.1f", m.load*1e6)
		}
		line := fmt.Sprintf("%-15s%-18s %12.1f %9.0f  %7s", what, t.names[i], m.cpu*1e6, m.rate, third)
		if !strings.HasPrefix(t.names[i], "larder") {
			line += "   " + t.verdict(all, samples[len(samples)-1])
		}
		fmt.Println(strings.TrimRight(line, " "))
		what = ""
	}
	return nil
}

// verdict is how many times better ours is than a peer: by medians, and in each round.
func (t *table) verdict(peer, ours []figure) string {
	var cpus, rates []float64
	for round := range peer {
		cpus = append(cpus, peer[round].cpu/ours[round].cpu)
		rates = append(rates, ours[round].rate/peer[round].rate)
	}
	p, o := median(peer), median(ours)
	cpu, rate := p.cpu/o.cpu, o.rate/p.rate
	var lost []string
	if cpu < t.bar {
		lost = append(lost, "CPU")
	}
	if rate < t.bar {
		lost = append(lost, "req/s")
	}
	t.l.lost += len(lost)
	text := fmt.Sprintf("%7.2f %-17s %7.2f %-17s", cpu, spread(cpus), rate, spread(rates))
	if t.third == wrkCPU {
		text += fmt.Sprintf(" %9.2f ", (p.cpu+p.load)/(o.cpu+o.load))
	}
	if lost != nil {
		text += " LOST: " + strings.Join(lost, ", ")
	}
	return text
}

func spread(all []float64) string {
	return fmt.Sprintf("(%.2f-%.2f)", slices.Min(all), slices.Max(all))
}

// median takes each figure by itself.
func median(all []figure) figure {
	middle := func(of func(figure) float64) float64 {
		var sorted []float64
		for _, f := range all {
			sorted = append(sorted, of(f))
		}
		slices.Sort(sorted)
		return sorted[len(sorted)/2]
	}
	return figure{
		cpu:   middle(func(f figure) float64 { return f.cpu }),
		rate:  middle(func(f figure) float64 { return f.rate }),
		load:  middle(func(f figure) float64 { return f.load }),
		asked: middle(func(f figure) float64 { return f.asked }),
	}
}
