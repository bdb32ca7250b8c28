//go:build linux

// Gateway measures storage served over HTTP, in one run, taking turns: files beside
// nginx, and S3 beside rclone serve http.
//
//	go run ./bench/gateway
//
// bench/README.md tells how to read the tables. A bar that was not reached is marked
// LOST; the exit code says only whether it could be measured.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/larderhq/larder/bench/rig"
)

// options is what the command line says.
type options struct {
	secs, rounds, conns int
	parts, sizes        []string
	dir, larder         string
	serverCPU, loadCPU  string
	anonymous, verbose  bool
	limit               time.Duration
}

// A part is one table.
type part struct {
	name  string
	tools []string // what it needs
	do    func(*lab, context.Context) error
}

var parts = []part{
	{"files", []string{"nginx", "wrk"}, (*lab).files},
	{"hits", []string{"rclone", "wrk"}, (*lab).hits},
	{"cold", []string{"rclone"}, (*lab).cold},
}

func main() {
	if os.Getenv(storageName) != "" {
		serveStorage() // we are the process that this command starts to be S3
	}
	var o options
	flag.IntVar(&o.secs, "secs", 3, "`seconds` a measurement lasts; a cold pass lasts until all was asked for")
	flag.IntVar(&o.rounds, "rounds", 5, "measurements a figure is the median of")
	flag.IntVar(&o.conns, "conns", 32, "connections of wrk")
	names := flag.String("parts", "files hits cold", "`tables` to make")
	sizes := flag.String("sizes", "1KiB 4KiB 64KiB 1MiB 16MiB", "`sizes` to measure, where a table has them")
	flag.StringVar(&o.dir, "dir", "", "`folder` to make the scratch folder with the files in; empty: $TMPDIR, or /tmp")
	flag.StringVar(&o.larder, "larder", "", "the `program`; empty: it is built from this checkout")
	flag.StringVar(&o.serverCPU, "server-cpu", "0", "`CPUs` of the server under test")
	flag.StringVar(&o.loadCPU, "load-cpu", "1", "`CPUs` of the load, and of S3")
	flag.BoolVar(&o.anonymous, "anonymous", false, "neither rclone nor larder signs what it asks S3")
	flag.BoolVar(&o.verbose, "v", false, "print each measurement")
	flag.DurationVar(&o.limit, "limit", 30*time.Minute, "stop everything after this long")
	flag.Parse()
	o.parts, o.sizes = strings.Fields(*names), strings.Fields(*sizes)
	if flag.NArg() > 0 || o.secs < 1 || o.rounds < 1 || o.conns < 1 || chosen(&o) == nil || !known(o.sizes) {
		fmt.Fprintln(os.Stderr, "gateway: no arguments; numbers are at least 1, -parts are files hits cold, -sizes 1KiB 4KiB 64KiB 1MiB 16MiB; see -h")
		os.Exit(2)
	}
	rig.Run("gateway", o.limit, "limit", func(ctx context.Context) error { return measure(ctx, &o) })
}

// known tells whether there is a set of each of sizes, and whether there are any.
func known(sizes []string) bool {
	var all []string
	for _, s := range slices.Concat(fileSets, hotSets, coldSets) {
		all = append(all, s.label())
	}
	return len(sizes) > 0 && !slices.ContainsFunc(sizes, func(size string) bool { return !slices.Contains(all, size) })
}

// chosen are the parts that were asked for; nil: one is not there, or none was.
func chosen(o *options) []part {
	return rig.Choose(o.parts, parts, func(p part) string { return p.name })
}

// measure makes the tables.
func measure(ctx context.Context, o *options) error {
	for _, p := range chosen(o) {
		for _, tool := range append(p.tools, "taskset") {
			if _, err := exec.LookPath(tool); err != nil {
				return fmt.Errorf("%s is not installed; see bench/install-peers: %w", tool, err)
			}
		}
	}
	l, err := newLab(ctx, o)
	if err != nil {
		return err
	}
	defer l.close()
	fmt.Printf("%s\nserver on CPU %s, load and S3 on CPU %s, medians of %d rounds (in brackets: each); CPU is user and system time of all processes\n"+
		"of the server; each object was compared octet by octet before it was measured\n",
		strings.Join(versions(ctx, o.larder), ", "), o.serverCPU, o.loadCPU, o.rounds)
	var wrong []error
	for _, p := range chosen(o) {
		err := p.do(l, ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", p.name, err))
		}
	}
	fmt.Printf("\nbars LOST: %d\n", l.lost)
	return errors.Join(wrong...)
}

// versions names who is measured, as far as it is there.
func versions(ctx context.Context, larder string) []string {
	var all []string
	for _, argv := range [][]string{{larder, "--version"}, {"nginx", "-v"}, {"rclone", "version"}, {"wrk", "-v"}} {
		out, _ := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput() // wrk -v fails
		line, _, _ := strings.Cut(string(out), "\n")
		line = strings.TrimPrefix(line, "nginx version: ")
		if line, _, _ = strings.Cut(line, " ["); line != "" {
			all = append(all, strings.TrimSpace(line))
		}
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if strings.HasSuffix(m.Path, "/gofakes3") {
				all = append(all, "gofakes3 "+m.Version)
			}
		}
	}
	return all
}
