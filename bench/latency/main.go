//go:build linux

// Latency measures how long hits of 1 KiB take while other things run beside
// them: misses, large bodies, invalidations, and all of these together.
//
//	go run ./bench/latency
//
// Hits are asked for at a fixed rate, whatever becomes of them, and the time of
// each counts from when it was due: who has to wait because others wait is not
// hidden. Larder has one CPU, and everything that asks or answers it another.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/larderhq/larder/bench/rig"
)

// mib is octets.
const mib = 1 << 20

// options is what the command line says.
type options struct {
	secs, rounds       int
	rate, conns, set   int     // of the hits that are measured
	misses, purges     int     // a second
	large              int     // clients
	largeRate          float64 // octets a second, of all of them; 0: as fast as it goes
	bar                float64
	phases             []phase
	memory, larder     string
	serverCPU, loadCPU string
	self, verbose      bool
	timeout            time.Duration
}

func main() {
	if text := os.Getenv(planName); text != "" {
		os.Exit(probe(text)) // we are the process that this command starts to ask for hits
	}
	if os.Getenv(preferName) != "" { // or that it starts to become another one
		fmt.Fprintln(os.Stderr, "latency:", prefer(os.Args[1:]))
		os.Exit(1)
	}
	var o options
	flag.IntVar(&o.secs, "secs", 5, "`seconds` a phase lasts")
	flag.IntVar(&o.rounds, "rounds", 3, "times that each phase is measured; a figure is the median")
	flag.IntVar(&o.rate, "rate", 2000, "hits asked for in a `second`")
	flag.IntVar(&o.conns, "conns", 16, "connections that they take turns on")
	flag.IntVar(&o.set, "set", 1000, "objects of 1 KiB that are asked for")
	flag.IntVar(&o.misses, "misses", 200, "beside them: requests for 4 KiB that nobody asked for before, in a `second`")
	flag.IntVar(&o.large, "large", 4, "beside them: clients that ask for hits of 10 MiB, again and again")
	largeRate := flag.Float64("large-rate", 400, "what these take together, in `MiB` a second; 0: as much as they get")
	flag.IntVar(&o.purges, "purges", 50, "beside them: DELETE of other URLs, each then asked for again, in a `second`")
	flag.Float64Var(&o.bar, "bar", 2, "fail where p99 is more than so many times that of the idle phase")
	names := flag.String("phases", strings.Join(phaseNames(), " "), "`phases` to measure; idle is always among them")
	flag.StringVar(&o.memory, "memory", "512MiB", "`SIZE` for larder's --memory")
	flag.StringVar(&o.larder, "larder", "", "the `program`, as a path; empty: it is built from this checkout")
	flag.StringVar(&o.serverCPU, "server-cpu", "0", "`CPUs` of larder")
	flag.StringVar(&o.loadCPU, "load-cpu", "1", "`CPUs` of clients and origin")
	flag.BoolVar(&o.self, "self", false, "measure the measuring, too: bench/floor, which answers canned octets, in place of larder (needs cc)")
	flag.BoolVar(&o.verbose, "v", false, "print each measurement")
	flag.DurationVar(&o.timeout, "timeout", 10*time.Minute, "stop everything after this `long`")
	flag.Parse()
	o.largeRate, o.phases = *largeRate*mib, choose(strings.Fields(*names))
	if err := o.check(); err != nil {
		fmt.Fprintln(os.Stderr, "latency:", err)
		os.Exit(2)
	}
	rig.Run("latency", o.timeout, "timeout", func(ctx context.Context) error { return measure(ctx, &o) })
}

// check says what is wrong with the command line.
func (o *options) check() error {
	switch {
	case flag.NArg() > 0:
		return errors.New("no arguments, flags alone; see -h")
	case min(o.secs, o.rounds, o.rate, o.conns, o.set, o.misses, o.large, o.purges) < 1 || o.largeRate < 0 || o.bar <= 0:
		return errors.New("numbers are at least 1, -large-rate at least 0, -bar above 0; see -h")
	case o.phases == nil:
		return fmt.Errorf("-phases: there are %s", strings.Join(phaseNames(), " "))
	}
	return nil
}

// measure makes the whole table. The error says which phases miss the bar.
func measure(ctx context.Context, o *options) error {
	if _, err := exec.LookPath("taskset"); err != nil {
		return fmt.Errorf("taskset is not installed; on Debian it is in util-linux: %w", err)
	}
	l, err := newLab(ctx, o)
	if err != nil {
		return err
	}
	defer l.close()
	fmt.Printf("hits of 1 KiB, %d/s over %d connections, %d objects; larder on CPU %s, the rest on CPU %s, median of %d rounds of %d s, times in us\n\n%s\n",
		o.rate, o.conns, o.set, o.serverCPU, o.loadCPU, o.rounds, o.secs, tableHead)
	floors, all, err := l.rounds(ctx)
	if err != nil {
		return err
	}
	if floors != nil {
		fmt.Println(median(floors).row("floor", 0))
	}
	return report(o, all)
}

// rounds measures each phase as often as it was asked for, and the floor if it was
// asked for. All is by phase, and then by round.
func (l *lab) rounds(ctx context.Context) (floors []figure, all [][]figure, err error) {
	all = make([][]figure, len(l.opts.phases))
	for round := range l.opts.rounds {
		if l.opts.self {
			f, err := l.note(ctx, "floor", l.self)
			if err != nil {
				return nil, nil, fmt.Errorf("-self: %w", err)
			}
			floors = append(floors, f)
		}
		for turn := range l.opts.phases {
			i := (turn + round) % len(all) // none always follows the same one
			p := l.opts.phases[i]
			f, err := l.note(ctx, p.name, func(ctx context.Context) (figure, error) { return l.phase(ctx, p) })
			if err != nil {
				return nil, nil, fmt.Errorf("phase %s: %w", p.name, err)
			}
			all[i] = append(all[i], f)
		}
	}
	return floors, all, nil
}

// note makes a measurement, and prints it if that is wanted.
func (l *lab) note(ctx context.Context, name string, do func(context.Context) (figure, error)) (figure, error) {
	f, err := do(ctx)
	switch {
	case ctx.Err() != nil:
		return f, context.Cause(ctx) // which is why it failed, if it did
	case err == nil && l.opts.verbose:
		fmt.Fprintf(os.Stderr, "%s   %s\n", f.row(name, 0), f.asked)
	}
	return f, err
}

// report prints the table. The error says which phases miss the bar.
func report(o *options, all [][]figure) error {
	var missed []string
	var late time.Duration
	idle := median(all[0]).at[2]
	for i, p := range o.phases {
		f := median(all[i])
		times := float64(f.at[2]) / float64(max(idle, 1))
		fmt.Println(f.row(p.name, times))
		late = max(late, f.late)
		if times > o.bar {
			missed = append(missed, p.name)
		}
	}
	fmt.Printf("\nThe loader (%s) sent 99 in 100 requests at most %d us after they were due; that is part of the times above.\n", all[0][0].priority, late.Microseconds())
	if missed != nil {
		return fmt.Errorf("p99 is more than %g times that of the idle phase: %s", o.bar, strings.Join(missed, ", "))
	}
	return nil
}

// A figure is what one measurement says, or the median of several.
type figure struct {
	answer
	beside float64 // requests a second
	octets float64 // of their answers, a second
	cpu    float64 // of larder, in percent of one
}

const tableHead = `phase        beside/s   MiB/s   CPU % |    p50    p90    p99  p99.9     max | p99 / idle`

// row is a line of the table. Times is not printed if it is 0.
func (f figure) row(name string, times float64) string {
	line := fmt.Sprintf("%-12s %8.0f %7.0f %7.0f |", name, f.beside, f.octets/mib, f.cpu)
	for _, d := range f.at[:4] {
		line += fmt.Sprintf(" %6d", d.Microseconds())
	}
	line += fmt.Sprintf(" %7d |", f.at[4].Microseconds())
	if times > 0 {
		line += fmt.Sprintf(" %10s", strconv.FormatFloat(times, 'f', 2, 64))
	}
	return line
}

// median takes each figure by itself.
func median(all []figure) figure {
	m := all[0]
	for i := range m.at {
		m.at[i] = middle(all, func(f figure) time.Duration { return f.at[i] })
	}
	m.late = middle(all, func(f figure) time.Duration { return f.late })
	m.beside = middle(all, func(f figure) float64 { return f.beside })
	m.octets = middle(all, func(f figure) float64 { return f.octets })
	m.cpu = middle(all, func(f figure) float64 { return f.cpu })
	return m
}
