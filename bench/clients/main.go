//go:build linux

// Clients measures what clients cost in memory who hold on to their connections:
// idle ones, and slow ones of several kinds. While they are there another client,
// who behaves, asks for hits, and must not notice.
//
//	go run ./bench/clients
//
// Each kind has a larder of its own. bench/README.md tells how to read what is printed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/larderhq/larder/bench/rig"
)

// kib is octets.
const kib = 1 << 10

// options is what the command line says. Sizes are in octets.
type options struct {
	idle, slow       int // clients
	hold             time.Duration
	kinds            []kind
	head, longHead   int // what comes of a request
	body             int
	window           int // of who does not read
	idleBar, slowBar int64
	prompt           time.Duration
	larder           string
	verbose          bool
	timeout          time.Duration
}

func main() {
	var o options
	flag.IntVar(&o.idle, "idle", 50000, "idle `clients`, or as many as open files allow")
	flag.IntVar(&o.slow, "slow", 10000, "slow `clients` of each kind, or as many as open files allow")
	flag.DurationVar(&o.hold, "hold", 4*time.Second, "how long they stay once all are there; larder waits 10s for a head")
	names := flag.String("kinds", strings.Join(kindNames(), " "), "`kinds` of clients to measure")
	head := flag.Int("head", 1, "what comes of a request head that does not go on, in `KiB`")
	longHead := flag.Int("long-head", 15, "the same of a long one, in `KiB`; larder takes 32")
	body := flag.Int("body", 32, "what comes of a request body that does not go on, in `KiB`; it is half of it")
	window := flag.Int("window", 4, "SO_RCVBUF of those who do not read, in `KiB`")
	idleBar := flag.Int64("idle-bar", 4, "fail where an idle client costs more, in `KiB`")
	slowBar := flag.Int64("slow-bar", 32, "fail where a slow client costs more, in `KiB`")
	flag.DurationVar(&o.prompt, "prompt", 100*time.Millisecond, "fail where 99 in 100 hits for the one who behaves take `longer`")
	flag.StringVar(&o.larder, "larder", "", "the `program`; empty: it is built from this checkout")
	flag.BoolVar(&o.verbose, "v", false, "print what larder says, and each sample of its memory")
	flag.DurationVar(&o.timeout, "timeout", 10*time.Minute, "stop everything after this `long`")
	flag.Parse()
	o.head, o.longHead, o.body, o.window, o.idleBar, o.slowBar = *head*kib, *longHead*kib, *body*kib, *window*kib, *idleBar*kib, *slowBar*kib
	o.kinds = choose(strings.Fields(*names))
	if flag.NArg() > 0 || min(o.idle, o.slow, o.head, o.longHead, o.body, o.window) < 1 || min(o.idleBar, o.slowBar) < 1 || min(o.hold, o.prompt) <= 0 || o.kinds == nil {
		fmt.Fprintf(os.Stderr, "clients: no arguments; numbers and times are above 0, kinds are %s; see -h\n", strings.Join(kindNames(), " "))
		os.Exit(2)
	}
	rig.Run("clients", o.timeout, "timeout", func(ctx context.Context) error { return measure(ctx, &o) })
}

// measure measures each kind. The error says which bars are missed.
func measure(ctx context.Context, o *options) error {
	scratch, err := os.MkdirTemp("", "larder-clients-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	if o.larder == "" {
		if o.larder, err = rig.Build(ctx, scratch); err != nil {
			return err
		}
	}
	origin, err := rig.StartOrigin(1, 1<<20)
	if err != nil {
		return err
	}
	defer origin.Close()
	l := &lab{opts: o, origin: origin}
	if err := l.findRoom(ctx); err != nil {
		return err
	}
	fmt.Printf("at most %d clients: %s\n\n%s\n", l.room, l.bound, tableHead)
	var missed []error
	for _, k := range o.kinds {
		f, err := l.kind(ctx, k)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			missed = append(missed, fmt.Errorf("%s: %w", k.name, err))
			continue
		}
		fmt.Println(f)
		missed = append(missed, f.judge(o, k))
	}
	return errors.Join(missed...)
}

// findRoom finds how many clients there can be, and why not more.
func (l *lab) findRoom(ctx context.Context) error {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return os.NewSyscallError("getrlimit", err)
	}
	help, err := exec.CommandContext(ctx, l.opts.larder, "serve", "--help").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s serve --help: %w: %s", l.opts.larder, err, help)
	}
	l.limits = strings.Contains(string(help), "--limit")
	// Larder keeps 320 open files for the origin and itself. Our own process has the
	// other ends of up to 256 of these, besides its clients.
	const kept, standard = 320, 10000
	l.room = int(min(files.Cur, 1<<24)) - kept - spare
	l.bound = fmt.Sprintf("a process may have %d open files (ulimit -Hn), of which larder keeps %d", files.Cur, kept)
	if !l.limits && l.room > standard-spare {
		l.room = standard - spare
		l.bound = fmt.Sprintf("larder takes %d connections, and this one has no --limit to change that", standard)
	}
	if l.room < 1 {
		return fmt.Errorf("no room for clients: a process may have %d open files; raise it with ulimit -n", files.Cur)
	}
	return nil
}

// spare is how many connections are left for the client who behaves.
const spare = 16

// A figure is what one kind costs.
type figure struct {
	name                string
	wanted, there       int           // clients: at first, and still there at the end
	took                time.Duration // until all had come
	before, most, after sample
	kept, anew          []time.Duration // what hits took on one connection, and each on its own
}

const tableHead = `         clients  of them  opened |    larder's own memory, MiB    KiB for | kernel, KiB |  p99 of hits, ms (longest) beside them | open files
kind      opened   stayed    in s |  before     most      after      each |    for each |      one connection     new for each | before  most after`

// String is a row of the table.
func (f figure) String() string {
	line := fmt.Sprintf("%-8s %7d %8d %7.1f |", f.name, f.wanted, f.there, f.took.Seconds())
	line += fmt.Sprintf(" %7.1f  %7.1f    %7.1f   %7.2f |", inMiB(f.before.anon), inMiB(f.most.anon), inMiB(f.after.anon), float64(f.each())/kib)
	line += fmt.Sprintf(" %11.1f |", float64(f.most.kernel-f.before.kernel)/kib/float64(max(f.there, 1)))
	line += fmt.Sprintf(" %19s %16s |", delays(f.kept), delays(f.anew))
	return line + fmt.Sprintf(" %6d %5d %5d", f.before.files, f.most.files, f.after.files)
}

// each is what a client costs, in octets.
func (f figure) each() int64 { return (f.most.anon - f.before.anon) / int64(max(f.there, 1)) }

func inMiB(octets int64) float64 { return float64(octets) / (1 << 20) }

// delays writes the 99th of 100 and the longest, in milliseconds.
func delays(all []time.Duration) string {
	ms := func(q float64) float64 { return float64(rig.Quantile(all, q)) / 1e6 }
	return fmt.Sprintf("%.1f (%.1f)", ms(0.99), ms(1))
}

// judge says which bars f misses.
func (f figure) judge(o *options, k kind) error {
	var missed []error
	bar := o.slowBar
	if k.idle {
		bar = o.idleBar
	}
	if f.each() > bar {
		missed = append(missed, fmt.Errorf("%s: %.2f KiB for each client, more than %d", f.name, float64(f.each())/kib, bar/kib))
	}
	if f.there < f.wanted-f.wanted/100 {
		missed = append(missed, fmt.Errorf("%s: %d of %d clients were sent away within %v; see -hold", f.name, f.wanted-f.there, f.wanted, o.hold+f.took))
	}
	for _, all := range [][]time.Duration{f.kept, f.anew} {
		if p99 := rig.Quantile(all, 0.99); p99 > o.prompt || len(all) == 0 {
			missed = append(missed, fmt.Errorf("%s: the client who behaves had %d answers, p99 %v, more than %v", f.name, len(all), p99, o.prompt))
		}
	}
	return errors.Join(missed...)
}
