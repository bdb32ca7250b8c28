//go:build linux

// Disk measures hits on a disk: larder with a disk against nginx with its
// proxy_cache, in one run, taking turns.
//
//	go run ./bench/disk
//
// The working set is many times what larder may keep in memory. Requests are
// spread evenly over it, with the page cache warm, and with it dropped before
// each measurement. bench/README.md tells how to read the table.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/larderhq/larder/bench/rig"
)

// options is what the command line says.
type options struct {
	secs, rounds, conns int
	setMiB              int // all objects of a size together
	memory              string
	sizes               []string
	dir, larder         string
	serverCPU, loadCPU  string
	warmOnly, verbose   bool
	misses              float64 // the share of requests that may be
	timeout             time.Duration
}

// A workload is a working set of objects of one size.
type workload struct {
	name string
	size int // octets
}

var workloads = []workload{{"4KiB", 4 << 10}, {"64KiB", 64 << 10}, {"10MiB", 10 << 20}}

// count is how many objects make a set of so many MiB.
func (w workload) count(setMiB int) int { return max(setMiB<<20/w.size, 2) }

func main() {
	var o options
	flag.IntVar(&o.secs, "secs", 4, "`seconds` a measurement lasts")
	flag.IntVar(&o.rounds, "rounds", 5, "measurements a figure is the median of")
	flag.IntVar(&o.conns, "conns", 32, "connections of the load")
	flag.IntVar(&o.setMiB, "set", 512, "all objects of a size together, in `MiB`")
	flag.StringVar(&o.memory, "memory", "32MiB", "`SIZE` for larder's --memory")
	sizes := flag.String("sizes", "4KiB 64KiB 10MiB", "`sizes` to measure")
	flag.StringVar(&o.dir, "dir", "", "`folder` to make the scratch folder with both caches in; empty: $TMPDIR, or /tmp")
	flag.StringVar(&o.larder, "larder", "", "the `program`; empty: it is built from this checkout")
	flag.StringVar(&o.serverCPU, "server-cpu", "0", "`CPUs` of the server under test")
	flag.StringVar(&o.loadCPU, "load-cpu", "1", "`CPUs` of the load")
	flag.Float64Var(&o.misses, "misses", 0, "let so many in a hundred requests be misses; the row tells how many there were")
	flag.BoolVar(&o.warmOnly, "warm-only", false, "leave out the cold page cache")
	flag.BoolVar(&o.verbose, "v", false, "print each measurement")
	flag.DurationVar(&o.timeout, "timeout", time.Hour, "stop everything after this long")
	flag.Parse()
	o.sizes = strings.Fields(*sizes)
	if flag.NArg() > 0 || o.secs < 1 || o.rounds < 1 || o.conns < 1 || o.setMiB < 32 || len(chosen(&o)) != len(o.sizes) {
		fmt.Fprintln(os.Stderr, "disk: no arguments; numbers are at least 1 (-set 32), sizes are 4KiB 64KiB 10MiB; see -h")
		os.Exit(2)
	}
	rig.Run("disk", o.timeout, "timeout", func(ctx context.Context) error { return measure(ctx, &o) })
}

// chosen are the workloads that were asked for; nil: one is not there.
func chosen(o *options) []workload {
	return rig.Choose(o.sizes, workloads, func(w workload) string { return w.name })
}

// measure makes the whole table.
func measure(ctx context.Context, o *options) error {
	for _, tool := range []string{"nginx", "wrk", "taskset"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s is not installed; see bench/install-peers: %w", tool, err)
		}
	}
	l, err := newLab(ctx, o)
	if err != nil {
		return err
	}
	defer l.close()
	fmt.Printf("hits on a set of %d MiB, evenly spread; larder --memory %s; server on CPU %s, load on CPU %s, %d connections, median of %d rounds of %d s\n",
		o.setMiB, o.memory, o.serverCPU, o.loadCPU, o.conns, o.rounds, o.secs)
	fmt.Printf("a cold page cache: %s\n\n", l.dropper())
	fmt.Println(tableHead)
	var wrong []error
	for _, w := range chosen(o) {
		rows, err := l.workload(ctx, w)
		for _, r := range rows {
			fmt.Println(r)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", w.name, err))
		}
	}
	return errors.Join(wrong...)
}
