//go:build linux

// Ceiling proves that larder stays within the memory that it was given, with a
// working set that is far larger.
//
//	go run ./bench/ceiling -time 10m
//
// Larder runs in a memory cgroup, which kills it where it takes too much. An
// origin and clients in this process ask for 10 GiB of mixed objects, and
// compare each octet. bench/README.md tells how to read what is printed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larderhq/larder/bench/rig"
)

// mib is octets.
const mib = 1 << 20

// beside is how much larder may use besides what --memory says, in octets.
const beside = 64 * mib

// options is what the command line says. Sizes are in octets.
type options struct {
	time                     time.Duration
	limit, memory, disk, set int64
	clients                  int
	seed                     uint64
	skew                     float64
	dir, larder              string
	verbose                  bool
}

func main() {
	var o options
	flag.DurationVar(&o.time, "time", 10*time.Minute, "how long clients ask; 20s for a try")
	limit := flag.Int64("limit", 512, "of the cgroup, in `MiB`")
	memory := flag.Int64("memory", 384, "for --memory, in `MiB`")
	disk := flag.Int64("disk", 8<<10, "for --disk, in `MiB`; 0: no disk")
	set := flag.Int64("set", 10<<10, "all objects together, in `MiB`")
	flag.IntVar(&o.clients, "clients", 64, "how many ask at the same time")
	flag.Uint64Var(&o.seed, "seed", 1, "of sizes, bodies and requests")
	flag.Float64Var(&o.skew, "skew", 1.01, "how much more often popular objects are asked for: the s of Zipf's law, above 1")
	flag.StringVar(&o.dir, "dir", "", "`folder` to make the scratch folder with the disk in; empty: $TMPDIR, or /tmp")
	flag.StringVar(&o.larder, "larder", "", "the `program`; empty: it is built from this checkout")
	flag.BoolVar(&o.verbose, "v", false, "print each sample")
	flag.Parse()
	o.limit, o.memory, o.disk, o.set = *limit*mib, *memory*mib, *disk*mib, *set*mib
	if flag.NArg() > 0 || o.time <= 0 || o.clients < 1 || o.skew <= 1 || *set < 1 {
		fmt.Fprintln(os.Stderr, "ceiling: no arguments; times and numbers are above 0, -skew is above 1; see -h")
		os.Exit(2)
	}
	ctx, stop := rig.Context()
	err := prove(ctx, &o)
	stop()
	var not noCgroup
	switch {
	case errors.As(err, &not):
		fmt.Fprintln(os.Stderr, "ceiling: skipped:", err)
		os.Exit(3)
	case err != nil:
		fmt.Fprintln(os.Stderr, "ceiling:", err)
		os.Exit(1)
	}
}

// prove sets everything up, runs it, and prints what came of it.
func prove(ctx context.Context, o *options) error {
	scratch, err := os.MkdirTemp(o.dir, "larder-ceiling-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	if o.larder == "" {
		if o.larder, err = rig.Build(ctx, scratch); err != nil {
			return err
		}
	}
	group, err := newCgroup(o.limit)
	if err != nil {
		return noCgroup{err}
	}
	defer group.remove()
	w, err := newWorld(o)
	if err != nil {
		return err
	}
	defer w.close()
	argv := []string{
		"serve", w.url, "--listen", "127.0.0.1:0", "--log", "off",
		"--memory", fmt.Sprintf("%dMiB", o.memory/mib),
	}
	if o.disk > 0 {
		dir := filepath.Join(scratch, "disk")
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		argv = append(argv, "--disk", fmt.Sprintf("%s:%dMiB", dir, o.disk/mib))
	}
	var gc collector
	larder, err := rig.StartLarder(ctx, rig.Command{
		Argv: group.wrap(append([]string{o.larder}, argv...)),
		Env:  []string{"GODEBUG=gctrace=1"},
		Line: gc.line,
	})
	if err != nil {
		return err
	}
	fmt.Printf("%d objects, %d MiB together, %d clients, for %v; --memory %d MiB, --disk %d MiB, cgroup %s with %d MiB, seed %d\n",
		len(w.objects), o.set/mib, o.clients, o.time, o.memory/mib, o.disk/mib, group.version, o.limit/mib, o.seed)
	peaks, began := run(ctx, o, w, larder, group), time.Now()
	if err := larder.Stop(30 * time.Second); err != nil {
		w.fail("larder ended with %w", err)
	}
	fmt.Fprintf(os.Stderr, "larder took %v to stop\n", time.Since(began).Round(time.Millisecond))
	return report(o, w, peaks, group.killed(), &gc)
}

// run has clients ask until the time is over, and watches the memory.
func run(ctx context.Context, o *options, w *world, larder *rig.Larder, group *cgroup) peaks {
	ctx, cancel := context.WithTimeout(ctx, o.time)
	defer cancel()
	var ended atomic.Bool
	var clients sync.WaitGroup
	for i := range o.clients {
		clients.Go(func() { w.ask(ctx, larder.URL, uint64(i), &ended) })
	}
	var p peaks
	began := time.Now()
	for rig.Pause(ctx, time.Second) == nil {
		s := sampleOf(larder.Pid, group)
		p.add(s)
		if o.verbose {
			fmt.Printf("%4.0f s  %s  %d requests, hits %.1f %%\n", time.Since(began).Seconds(), s, w.requests.Load(), w.hitShare())
		}
		select {
		case <-larder.Done():
			w.fail("larder ended: %w", larder.Err())
			cancel()
		default:
		}
	}
	ended.Store(true)
	clients.Wait()
	p.add(sampleOf(larder.Pid, group))
	return p
}

// report prints the figures. The error says which promise is broken.
func report(o *options, w *world, p peaks, killed int64, gc *collector) error {
	bound := o.memory + beside
	fmt.Printf("RSS: peak %d MiB, bound %d MiB (%d + %d); at most %d MiB anonymous, %d of files, %d shared\n",
		p.most.rssPeak/mib, bound/mib, o.memory/mib, int64(beside/mib), p.most.anon/mib, p.most.file/mib, p.most.shared/mib)
	fmt.Printf("cgroup: at most %d MiB with the page cache, %d MiB without; killed for want of memory: %d\n", p.most.usage/mib, p.most.usageAnon/mib, killed)
	fmt.Printf("requests %d, hits %.1f %%, octets %d MiB, of which hits %.1f %%, heads near 60 KiB %d\n",
		w.requests.Load(), w.hitShare(), w.octets.Load()/mib, 100*float64(w.hitOctets.Load())/float64(max(w.octets.Load(), 1)), w.longHeads.Load())
	gc.print()
	fmt.Printf("errors %d, wrong answers %d\n", w.failed.Load(), w.wrong.Load())
	for _, f := range w.first {
		fmt.Println("  ", f)
	}
	var broken []error
	if p.most.rssPeak > bound {
		broken = append(broken, fmt.Errorf("RSS was %d MiB above the bound", (p.most.rssPeak-bound)/mib))
	}
	if killed > 0 {
		broken = append(broken, errors.New("larder was killed for want of memory"))
	}
	if w.wrong.Load() > 0 {
		broken = append(broken, errors.New("wrong octets"))
	}
	if w.failed.Load() > 0 || w.requests.Load() == 0 {
		broken = append(broken, errors.New("requests failed, or there were none"))
	}
	return errors.Join(broken...)
}
