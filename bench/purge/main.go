//go:build linux

// Purge measures what purging costs: how long an order takes, what lookups cost
// afterwards, and what hits have to wait while everything is gone through.
//
//	go run ./bench/purge
//
// It needs about 4 GiB of memory. Some of it is measured in this process, where
// nanoseconds can be told apart; all else asks a larder serve, which has one CPU, and
// whatever asks or answers it another.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime/pprof"
	"strconv"
	"strings"
	"time"

	"github.com/larderhq/larder/bench/rig"
)

// options is what the command line says.
type options struct {
	parts              []part
	objects, hot       int
	jobs               int
	secs, rounds       int
	rate, conns        int // of hits
	clients, purges    int // of purges; and how many a second beside hits
	larder             string
	serverCPU, loadCPU string
	profile            string
	timeout            time.Duration
}

// A part is something that can be measured by itself.
type part struct {
	name string
	do   func(context.Context, *options, *report) error
}

var parts = []part{
	{"publish", measurePublish},
	{"lookup", measureLookup},
	{"tags", measureTags},
	{"regex", measureRegex},
	{"rate", measureRate},
	{"million", measureMillion},
}

func partNames() string {
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	return strings.Join(names, " ")
}

func main() {
	if text := os.Getenv(planName); text != "" {
		os.Exit(probe(text)) // we are the process that this command starts to ask for hits
	}
	if os.Getenv(preferName) != "" { // or that it starts to become another one
		fmt.Fprintln(os.Stderr, "purge:", prefer(os.Args[1:]))
		os.Exit(1)
	}
	var o options
	names := flag.String("parts", partNames(), "what to `measure`")
	flag.IntVar(&o.objects, "objects", 1_000_000, "`objects` under one tag")
	flag.IntVar(&o.hot, "hot", 10_000, "`objects` that hits of one tag are measured on, beside them")
	flag.IntVar(&o.jobs, "jobs", 1000, "regular expressions in force")
	flag.IntVar(&o.secs, "secs", 2, "`seconds` that a measurement takes, unless it is over when something is done")
	flag.IntVar(&o.rounds, "rounds", 3, "times that each is measured; a figure is the median")
	flag.IntVar(&o.rate, "rate", 2000, "hits asked for in a `second` where times are measured")
	flag.IntVar(&o.conns, "conns", 16, "connections that they take turns on")
	flag.IntVar(&o.clients, "clients", 8, "clients that purge as fast as they can")
	flag.IntVar(&o.purges, "purges", 100, "purges beside hits, in a `second`")
	flag.StringVar(&o.larder, "larder", "", "the `program`, as a path; empty: it is built from this checkout")
	flag.StringVar(&o.serverCPU, "server-cpu", "0", "`CPUs` of larder")
	flag.StringVar(&o.loadCPU, "load-cpu", "1", "`CPUs` of clients and origin")
	flag.StringVar(&o.profile, "profile", "", "write a CPU profile of what is measured in this process to this `file`")
	flag.DurationVar(&o.timeout, "timeout", 20*time.Minute, "stop everything after this `long`")
	flag.Parse()
	o.parts = rig.Choose(strings.Fields(*names), parts, func(p part) string { return p.name })
	if err := o.check(); err != nil {
		fmt.Fprintln(os.Stderr, "purge:", err)
		os.Exit(2)
	}
	rig.Run("purge", o.timeout, "timeout", func(ctx context.Context) error { return measure(ctx, &o) })
}

// check says what is wrong with the command line.
func (o *options) check() error {
	switch {
	case flag.NArg() > 0:
		return errors.New("no arguments, flags alone; see -h")
	case min(o.objects, o.hot, o.jobs, o.secs, o.rounds, o.rate, o.conns, o.clients, o.purges) < 1:
		return errors.New("numbers are at least 1; see -h")
	case o.jobs > mostPatterns:
		return fmt.Errorf("-jobs: at most %d, which a ledger has room for", mostPatterns)
	case o.parts == nil:
		return fmt.Errorf("-parts: there are %s", partNames())
	}
	return nil
}

// mostPatterns is how many expressions can be in force.
const mostPatterns = 5000

// measure makes the whole table. The error says which bars are missed.
func measure(ctx context.Context, o *options) error {
	if _, err := exec.LookPath("taskset"); err != nil {
		return fmt.Errorf("taskset is not installed; on Debian it is in util-linux: %w", err)
	}
	if o.profile != "" {
		f, err := os.Create(o.profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	if o.larder == "" {
		dir, err := os.MkdirTemp("", "larder-purge-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		if o.larder, err = rig.Build(ctx, dir); err != nil {
			return err
		}
	}
	// From here on we are part of the load.
	if out, err := exec.Command("taskset", "-a", "-c", "-p", o.loadCPU, strconv.Itoa(os.Getpid())).CombinedOutput(); err != nil {
		return fmt.Errorf("-load-cpu %s: taskset: %w: %s", o.loadCPU, err, out)
	}
	fmt.Printf("%d objects of 1 KiB under one tag; larder on CPU %s, all else on CPU %s; medians of %d rounds (in brackets: least and most)\n\n",
		o.objects, o.serverCPU, o.loadCPU, o.rounds)
	var r report
	for _, p := range o.parts {
		r.part(p.name)
		err := p.do(ctx, o, &r)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx) // which is why it failed, if it did
		case err != nil:
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return r.verdict()
}
