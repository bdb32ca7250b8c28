//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/larderhq/larder/bench/rig"
)

// host is whom all requests name: it is part of what a response is stored under.
const host = "bench"

// What is asked for.
const (
	smallPath = "/1024/hit"
	largePath = "/1048576/hit"
)

// A lab holds what all measurements share.
type lab struct {
	opts   *options
	origin *rig.Origin
	limits bool   // larder has --limit
	room   int    // clients that there can be at most
	bound  string // why not more
}

// kind measures what clients of one kind cost.
func (l *lab) kind(ctx context.Context, k kind) (figure, error) {
	f := figure{name: k.name, wanted: min(l.opts.slow, l.room)}
	if k.idle {
		f.wanted = min(l.opts.idle, l.room)
	}
	larder, err := l.start(ctx, f.wanted+spare)
	if err != nil {
		return f, err
	}
	defer func() { _ = larder.Stop(20 * time.Second) }() // all that was to be learnt from it was
	address := strings.TrimPrefix(larder.URL, "http://")
	good := &behaved{address: address}
	if err := good.warm(ctx); err != nil {
		return f, err
	}
	stop := good.start(ctx)
	defer func() { _ = stop() }() // where that matters it has been called already
	if f.before, err = l.settle(ctx, larder); err != nil {
		return f, err
	}
	began := time.Now()
	c, err := l.open(ctx, k, address, f.wanted)
	defer c.leave()
	if err != nil {
		return f, err
	}
	f.took = time.Since(began)
	// That they all came at once is not what is to be measured, and the kernel has
	// more to do with it for a moment than larder.
	if err := rig.Pause(ctx, time.Second); err != nil {
		return f, err
	}
	good.forget()
	if f.most, err = l.hold(ctx, larder); err != nil {
		return f, err
	}
	f.there = c.there(k)
	f.kept, f.anew = good.times()
	c.leave()
	f.after, err = l.settle(ctx, larder)
	return f, errors.Join(err, stop())
}

// start starts larder for so many clients.
func (l *lab) start(ctx context.Context, clients int) (*rig.Larder, error) {
	argv := []string{l.opts.larder, "serve", l.origin.URL, "--listen", "127.0.0.1:0", "--log", "off"}
	if l.limits {
		// Where all is emulated they take longer to come than an idle one may stay.
		argv = append(argv, "--limit", "connections="+strconv.Itoa(clients), "--limit", "idle-timeout=1h")
	}
	return rig.StartLarder(ctx, rig.Command{Argv: argv, Line: func(text string) {
		if l.opts.verbose {
			fmt.Fprintln(os.Stderr, text)
		}
	}})
}

// A sample is what larder has at one moment.
type sample struct {
	anon   int64 // memory of its own, in octets: without files and what it shares with the kernel
	kernel int64 // what the kernel has in sockets of the whole machine, in octets
	files  int   // open files
}

func sampleOf(pid int) (sample, error) {
	var s sample
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return s, fmt.Errorf("larder is gone: %w", err)
	}
	if s.anon, err = number(string(status), "RssAnon:", 0); err != nil {
		return s, err
	}
	s.anon *= kib
	if s.files, err = openFiles(pid); err != nil {
		return s, err
	}
	sockets, _ := os.ReadFile("/proc/net/sockstat") // where there is none, the column has no figures
	pages, _ := number(string(sockets), "TCP:", 9)
	s.kernel = pages * int64(os.Getpagesize())
	return s, nil
}

// openFiles counts the open files of a process.
func openFiles(pid int) (int, error) {
	folder, err := os.Open(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return 0, err
	}
	defer folder.Close()
	names, err := folder.Readdirnames(-1) // which costs least: this CPU is wanted elsewhere
	return len(names), err
}

// number is field n after name, on the line that begins with name.
func number(text, name string, n int) (int64, error) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			if f := strings.Fields(rest); n < len(f) {
				return strconv.ParseInt(f[n], 10, 64)
			}
		}
	}
	return 0, fmt.Errorf("the kernel does not tell %s", name)
}

// settle waits until larder's memory and open files stay the same, but not for ever.
func (l *lab) settle(ctx context.Context, larder *rig.Larder) (sample, error) {
	const same, steps, longest = 64 * kib, 6, 60
	last, err := sampleOf(larder.Pid)
	for quiet, i := 0, 0; err == nil && quiet < steps && i < longest; i++ {
		if err := rig.Pause(ctx, 250*time.Millisecond); err != nil {
			return last, err
		}
		var s sample
		s, err = sampleOf(larder.Pid)
		if quiet++; max(s.anon-last.anon, last.anon-s.anon) > same || max(s.files-last.files, last.files-s.files) > 4 {
			quiet = 0
		}
		last = s
	}
	l.print(last)
	return last, err
}

// hold watches larder for as long as clients stay, and returns the most of each figure.
func (l *lab) hold(ctx context.Context, larder *rig.Larder) (sample, error) {
	var most sample
	for until := time.Now().Add(l.opts.hold); time.Now().Before(until); {
		s, err := sampleOf(larder.Pid)
		if err != nil {
			return most, err
		}
		l.print(s)
		most = sample{max(most.anon, s.anon), max(most.kernel, s.kernel), max(most.files, s.files)}
		if err := rig.Pause(ctx, 500*time.Millisecond); err != nil {
			return most, err
		}
	}
	return most, nil
}

func (l *lab) print(s sample) {
	if l.opts.verbose {
		fmt.Fprintf(os.Stderr, "own memory %.1f MiB, kernel's sockets %.1f MiB, %d open files\n", inMiB(s.anon), inMiB(s.kernel), s.files)
	}
}
