//go:build linux

// Crash kills larder again and again while it works, and proves that what it
// says afterwards is true.
//
//	go run ./bench/crash -kills 1000
//
// An origin in this process serves bodies that follow from the URL and from a
// generation that a PUT raises. Clients read whole and in part, and write,
// through a larder with a disk, which is killed at a random moment and started
// again on the same disk. Each octet of each response is compared, and no
// response may be of a generation older than that of a PUT which was
// acknowledged before it was asked for. bench/README.md tells more.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/larderhq/larder/bench/rig"
)

// options is what the command line says.
type options struct {
	mode    string
	kills   int
	seed    uint64
	clients int
	urls    int
	memory  string
	disk    string // its size; empty: none
	dir     string
	limit   time.Duration // from the start to the first answer
	calls   []string      // that are made to fail
	most    int           // how many calls of a kind are made to fail, one a run
	larder  string
	keep    bool
}

// modes are the ways to make life hard, and what they need to know.
var modes = map[string]func(context.Context, *bench) error{
	"kill":   kills,
	"full":   full,
	"strace": sweep,
	"eio":    fails,
}

func main() {
	var o options
	flag.StringVar(&o.mode, "mode", "kill", "`kill` at random moments; full: the folder of the disk fills up; strace: single system calls fail or kill; eio: all calls on the disk fail from some moment on")
	flag.IntVar(&o.kills, "kills", 1000, "how many lives there are, in modes kill, full and eio")
	flag.Uint64Var(&o.seed, "seed", 0, "of everything random; 0: a new one, which is printed")
	flag.IntVar(&o.clients, "clients", 16, "how many ask at the same time")
	flag.IntVar(&o.urls, "urls", 600, "how many URLs there are, of about 100 KiB each")
	flag.StringVar(&o.memory, "memory", "4MiB", "`SIZE` for --memory")
	flag.StringVar(&o.disk, "disk", "512MiB", "`SIZE` of the disk; empty: none, which proves only that this command works")
	flag.StringVar(&o.dir, "dir", "", "`folder` to make the scratch folder with the disk in; empty: $TMPDIR, or /tmp")
	flag.DurationVar(&o.limit, "limit", time.Second, "most `time` from a start to the first answer, in modes kill and full")
	calls := flag.String("calls", "pwrite64 pread64 fdatasync fsync openat renameat unlinkat ftruncate fallocate", "system `calls` that fail, in mode strace")
	flag.IntVar(&o.most, "calls-each", 12, "how many calls of a kind fail, one a life, in mode strace")
	flag.StringVar(&o.larder, "larder", "", "the `program`; empty: it is built from this checkout")
	flag.BoolVar(&o.keep, "keep", false, "keep the scratch folder")
	flag.Parse()
	o.calls = strings.Fields(*calls)
	run, ok := modes[o.mode]
	if !ok || flag.NArg() > 0 || o.kills < 1 || o.clients < 1 || o.urls < 1 {
		fmt.Fprintf(os.Stderr, "crash: the modes are %v, and numbers start at 1; see -h\n", slices.Sorted(maps.Keys(modes)))
		os.Exit(2)
	}
	if o.seed == 0 {
		o.seed = uint64(time.Now().UnixNano())
	}
	ctx, stop := rig.Context()
	err := prove(ctx, &o, run)
	stop()
	var not unable
	switch {
	case errors.As(err, &not):
		fmt.Fprintln(os.Stderr, "crash: skipped:", err)
		os.Exit(3)
	case err != nil:
		fmt.Fprintln(os.Stderr, "crash:", err)
		os.Exit(1)
	}
}

// unable says that a mode cannot be run here.
type unable struct{ error }

// prove sets everything up, runs a mode, and prints what came of it.
func prove(ctx context.Context, o *options, run func(context.Context, *bench) error) error {
	b, err := newBench(ctx, o)
	if err != nil {
		return err
	}
	defer b.close()
	fmt.Printf("mode %s, seed %d, %d URLs, %d clients, memory %s, disk %s\n", o.mode, o.seed, o.urls, o.clients, o.memory, cmpOr(o.disk, "none"))
	began := time.Now()
	err = run(ctx, b)
	var not unable
	if errors.As(err, &not) {
		return err
	}
	b.report(time.Since(began))
	return errors.Join(err, b.verdict())
}

func cmpOr(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
