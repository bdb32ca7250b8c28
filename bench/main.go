//go:build linux

// Bench measures Larder against other caches and against the floor of what
// one read and one write cost on this machine, in one run, and prints ratios.
// README.md tells how to read what it prints.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const usage = `usage: go run ./bench [flags] [LABEL:COMMAND...]

Measures each workload with each contender: the floor, ours, the peers, and any
LABEL:COMMAND, which a shell runs with $PORT (listen on 127.0.0.1:$PORT), $ORIGIN
(the origin's port) and $SIZE (bytes of a body) set, and which must stay in the
foreground. If it names $SECURE_PORT, it is measured by TLS too: there it listens
with HTTP/1.1 and HTTP/2, with certificate and key from the file $SECURE_PEM. Where
TLS is not measured, both are not set. Every flag can also be given as a variable of the environment:
SECS=1 ROUNDS=1 WORK="one1k miss" PEERS=nginx make bench

`

// ours is how this repository's own server is started; $LARDER is its binary.
const ours = `$LARDER serve http://127.0.0.1:$ORIGIN --listen 127.0.0.1:$PORT --memory 2GiB --log off ${SECURE_PORT:+--https 127.0.0.1:$SECURE_PORT --cert $SECURE_PEM}`

// modulePath names the module whose tools and server are built.
const modulePath = "github.com/larderhq/larder"

// options is what the command line and the environment say.
type options struct {
	secs, rounds, conns  int // seconds a measurement, measurements a row, connections
	work, peers          []string
	ours                 string // a shell command, or none
	floor                bool
	serverCPU, loadCPU   string // as taskset takes them
	peerDir              string // where peers keep their files
	timeout              time.Duration
	extra                []string // LABEL:COMMAND
	document             string   // where the tables go too, or empty
	calls                bool     // count system calls
	verbose, keepScratch bool
}

func main() {
	opts, err := parseOptions(os.Args[1:], os.Getenv, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	ctx, stop := context.WithCancelCause(context.Background())
	go endWithParent(ctx, stop)
	ctx, release := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer release()
	ctx, cancel := context.WithTimeoutCause(ctx, opts.timeout, fmt.Errorf("out of time after %v (-timeout)", opts.timeout))
	defer cancel()

	if err := run(ctx, opts, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// endWithParent stops the run when the process that started it is gone, which
// is how `go run` or make tell us that they were killed.
func endWithParent(ctx context.Context, stop context.CancelCauseFunc) {
	parent := os.Getppid()
	for os.Getppid() == parent {
		select {
		case <-ctx.Done():
			return
		case <-time.After(500 * time.Millisecond):
		}
	}
	stop(errors.New("whoever started this is gone"))
}

// parseOptions reads flags, whose defaults are taken from the environment.
func parseOptions(args []string, getenv func(string) string, out io.Writer) (options, error) {
	var o options
	var wrong error
	text := func(name, fallback string) string {
		if v := getenv(name); v != "" {
			return v
		}
		return fallback
	}
	number := func(name string, fallback int) int {
		n, err := strconv.Atoi(text(name, strconv.Itoa(fallback)))
		if err != nil {
			wrong = errors.Join(wrong, fmt.Errorf("%s=%q is not a number", name, getenv(name)))
		}
		return n
	}
	allWork := strings.Join(names(workloads), " ")
	server, load := pickCPUs()
	timeout, err := time.ParseDuration(text("TIMEOUT", "15m"))
	if err != nil {
		wrong = fmt.Errorf("TIMEOUT: %w", err)
	}

	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(out)
	f.Usage = func() { fmt.Fprint(out, usage); f.PrintDefaults() }
	f.IntVar(&o.secs, "secs", number("SECS", 2), "seconds a measurement lasts (SECS)")
	f.IntVar(&o.rounds, "rounds", number("ROUNDS", 3), "measurements a row is the median of (ROUNDS)")
	f.IntVar(&o.conns, "conns", number("CONNS", 64), "connections of the load, where the workload does not say (CONNS)")
	work := f.String("work", text("WORK", allWork), "`workloads` to run (WORK)")
	peers := f.String("peers", text("PEERS", strings.Join(peerNames, " ")), "`peers` to measure, or none (PEERS)")
	f.StringVar(&o.ours, "ours", text("OURS", ours), "shell `command` that starts ours, or none (OURS)")
	floor := f.String("floor", text("FLOOR", "yes"), "measure the floor: `yes` or none (FLOOR)")
	f.StringVar(&o.serverCPU, "server-cpu", text("SERVER_CPU", server), "`CPUs` of the server under test (SERVER_CPU)")
	f.StringVar(&o.loadCPU, "load-cpu", text("LOAD_CPU", load), "`CPUs` of the load and the origin (LOAD_CPU)")
	f.StringVar(&o.peerDir, "peer-dir", text("PEER_DIR", memoryDir()), "`folder` for the caches of peers that keep files (PEER_DIR)")
	f.DurationVar(&o.timeout, "timeout", timeout, "stop everything after this long (TIMEOUT)")
	f.StringVar(&o.document, "write", getenv("WRITE"), "write the ratios into this `document`, such as docs/performance.md, where it says so (WRITE)")
	f.BoolVar(&o.calls, "calls", getenv("CALLS") != "", "count the system calls of ours too, with strace (CALLS)")
	f.BoolVar(&o.verbose, "v", getenv("VERBOSE") != "", "tell each measurement as it is made (VERBOSE)")
	f.BoolVar(&o.keepScratch, "keep", getenv("KEEP") != "", "keep the scratch folder with the servers' logs (KEEP)")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.work, o.peers, o.extra = list(*work), list(*peers), f.Args()
	o.floor = *floor != "none"
	if o.secs < 1 || o.rounds < 1 || o.conns < 1 {
		wrong = errors.Join(wrong, errors.New("secs, rounds and conns must be at least 1"))
	}
	for _, w := range o.work {
		if !slices.Contains(names(workloads), w) {
			wrong = errors.Join(wrong, fmt.Errorf("no workload %q; there are: %s", w, allWork))
		}
	}
	for _, p := range o.peers {
		if !slices.Contains(peerNames, p) {
			wrong = errors.Join(wrong, fmt.Errorf("no peer %q; there are: %s", p, strings.Join(peerNames, " ")))
		}
	}
	taken := map[string]bool{nameFloor: true, nameOurs: true}
	for _, p := range peerNames {
		taken[p] = true
	}
	for _, e := range o.extra {
		label, command, ok := strings.Cut(e, ":")
		if !ok || label == "" || command == "" || strings.ContainsAny(label, "/ ") {
			wrong = errors.Join(wrong, fmt.Errorf("%q is not LABEL:COMMAND (flags go before those)", e))
		}
		if taken[label] {
			wrong = errors.Join(wrong, fmt.Errorf("the label %q is taken", label))
		}
		taken[label] = true
	}
	return o, wrong
}

// list splits a list at blanks and commas; "none" is the empty list.
func list(s string) []string {
	if s == "none" {
		return nil
	}
	return strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == ',' })
}

// pickCPUs returns the first two CPUs this process may use, for the server and
// for the load. With only one, they share it, and the figures say little.
func pickCPUs() (server, load string) {
	status, _ := os.ReadFile("/proc/self/status") // unreadable: as if there were two
	cpus := allowedCPUs(string(status))
	switch len(cpus) {
	case 0:
		return "0", "1"
	case 1:
		return cpus[0], cpus[0]
	}
	return cpus[0], cpus[1]
}

// allowedCPUs reads the list of CPUs from the text of /proc/PID/status.
func allowedCPUs(status string) []string {
	var cpus []string
	for line := range strings.Lines(status) {
		set, ok := strings.CutPrefix(line, "Cpus_allowed_list:")
		if !ok {
			continue
		}
		for _, span := range strings.Split(strings.TrimSpace(set), ",") {
			from, to, isSpan := strings.Cut(span, "-")
			if !isSpan {
				to = from
			}
			first, err1 := strconv.Atoi(from)
			last, err2 := strconv.Atoi(to)
			if err1 != nil || err2 != nil {
				return nil
			}
			for n := first; n <= last; n++ {
				cpus = append(cpus, strconv.Itoa(n))
			}
		}
	}
	return cpus
}

// run measures everything that o asks for. Its error says that there is no
// comparison to read: what was asked for did not run, or not correctly.
func run(ctx context.Context, o options, out, progress io.Writer) error {
	tools := map[string]string{"wrk": "wrk", "taskset": "util-linux"}
	if slices.ContainsFunc(o.work, func(name string) bool { return named(name).secure() }) {
		tools["h2load"] = "nghttp2-client"
	}
	for tool, pkg := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s is not installed; run bench/install-peers, or: apt-get install --no-install-recommends %s", tool, pkg)
		}
	}
	scratch, err := os.MkdirTemp("", "larder-bench-")
	if err != nil {
		return err
	}
	if o.keepScratch {
		defer fmt.Fprintln(out, "kept", scratch)
	} else {
		defer os.RemoveAll(scratch)
	}
	peerFiles, err := os.MkdirTemp(o.peerDir, "larder-bench-peers-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(peerFiles)
	// Some peers drop to another account, which must get to its folder.
	if err := os.Chmod(peerFiles, 0o755); err != nil {
		return err
	}

	if info, err := os.Stderr.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		progress = io.Discard // it overwrites its own line, for eyes only
	}
	lab, err := newLab(ctx, o, scratch, progress)
	if err != nil {
		return err
	}
	defer lab.close()
	lab.peerFiles = peerFiles
	contenders, skipped := lab.contenders(ctx)
	for _, s := range skipped {
		fmt.Fprintln(out, "skipped:", s)
	}
	if len(contenders) == 0 {
		return errors.New("nothing to measure")
	}
	describe(out, o, contenders)

	var tables []table
	defer func() { summarize(out, tables) }() // of what there is, if it is cut short
	for _, name := range o.work {
		w := named(name)
		t, err := lab.measure(ctx, w, contenders)
		if cause := context.Cause(ctx); cause != nil {
			return fmt.Errorf("stopped during %s: %w", w.name, cause)
		}
		if err != nil {
			return err
		}
		tables = append(tables, t)
		fmt.Fprintf(out, "\n%s: %s\n", w.name, w.title)
		t.print(out)
	}
	calls, err := lab.oursCalls(ctx, contenders)
	if err != nil {
		return fmt.Errorf("counting system calls: %w", err)
	}
	if calls != "" {
		fmt.Fprintf(out, "\nsystem calls of ours for each hit of 1 KiB: %s\n", calls)
	}
	if err := verdict(tables, skipped); err != nil || o.document == "" {
		return err
	}
	return writeDocument(o.document, o, contenders, tables, calls)
}

// oursCalls counts the calls of ours, if that is wanted, and tells them in a line.
func (l *lab) oursCalls(ctx context.Context, contenders []contender) (string, error) {
	i := slices.IndexFunc(contenders, func(c contender) bool { return c.name == nameOurs })
	if !l.opts.calls || i < 0 {
		return "", nil
	}
	all, err := l.calls(ctx, workloads[0], contenders[i])
	return tellCalls(all), err
}

// describe writes under which conditions the figures were taken.
func describe(out io.Writer, o options, contenders []contender) {
	fmt.Fprintf(out, "server on CPU %s, load and origin on CPU %s, %d connections if not said otherwise, median of %d rounds of %d s, peers' files in %s\n",
		o.serverCPU, o.loadCPU, o.conns, o.rounds, o.secs, o.peerDir)
	var versions []string
	for _, c := range contenders {
		if c.version != "" {
			versions = append(versions, c.name+" "+c.version)
		}
	}
	if len(versions) > 0 {
		fmt.Fprintln(out, "peers:", strings.Join(versions, ", "))
	}
	if o.serverCPU == o.loadCPU {
		fmt.Fprintf(out, "warning: server and load share CPU %s: read nothing but the CPU per request\n", o.serverCPU)
	}
	var load float64
	text, _ := os.ReadFile("/proc/loadavg") // unreadable: nothing to warn of
	if _, err := fmt.Sscan(string(text), &load); err == nil && load > 1 {
		fmt.Fprintf(out, "warning: this machine is busy with other things (load %.1f): trust ratios, not figures\n", load)
	}
}

// memoryDir is a folder in memory with room for the peers' files, so that no
// contender is measured by its disk; if there is none, that for temporary files.
func memoryDir() string {
	const dir, room = "/dev/shm", 4 << 30
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil || fs.Bavail*uint64(fs.Bsize) < room {
		return os.TempDir()
	}
	if f, err := os.CreateTemp(dir, "larder-bench-"); err == nil {
		f.Close()
		os.Remove(f.Name())
		return dir
	}
	return os.TempDir()
}

// verdict is an error when the floor or ours, or everything, has no figures.
func verdict(tables []table, skipped []skip) error {
	var bad []error
	for _, s := range skipped {
		if s.name == nameFloor || s.name == nameOurs {
			bad = append(bad, fmt.Errorf("%s was not measured", s.name))
		}
	}
	for _, t := range tables {
		valid := 0
		for _, r := range t.rows {
			if r.problem == "" {
				valid++
			} else if r.name == nameFloor || r.name == nameOurs {
				bad = append(bad, fmt.Errorf("%s, %s: %s", t.work, r.name, r.problem))
			}
		}
		if valid == 0 {
			bad = append(bad, fmt.Errorf("%s: no valid row", t.work))
		}
	}
	return errors.Join(bad...)
}

// A skip is a contender that cannot be measured here, and why.
type skip struct{ name, why string }

func (s skip) String() string { return s.name + ": " + s.why }

// contenders finds out who can be measured, building what has to be built.
func (l *lab) contenders(ctx context.Context) (found []contender, skipped []skip) {
	add := func(c contender, err error) {
		if err != nil {
			skipped = append(skipped, skip{c.name, err.Error()})
			return
		}
		found = append(found, c)
	}
	if l.opts.floor {
		binary := filepath.Join(l.scratch, "floor")
		err := l.tool(ctx, "cc", "-O2", "-D_GNU_SOURCE", "-o", binary, filepath.Join(l.dir, "floor/floor.c"))
		add(shellContender(nameFloor, binary+" $PORT $SIZE"), err)
	}
	if l.opts.ours != "none" {
		env := map[string]string{}
		var err error
		if strings.Contains(l.opts.ours, "$LARDER") {
			env["LARDER"] = filepath.Join(l.scratch, "larder")
			err = l.tool(ctx, "go", "build", "-o", env["LARDER"], modulePath+"/cmd/larder")
		}
		c := shellContender(nameOurs, l.opts.ours)
		maps.Copy(c.env, env)
		add(c, err)
	}
	for _, p := range l.opts.peers {
		c := contender{name: p, wrapped: true, env: map[string]string{"TMPDIR": l.peerFiles}}
		up := filepath.Join(l.dir, "up")
		c.argv = func(port, origin int) []string {
			return []string{up, p, strconv.Itoa(origin), strconv.Itoa(port), "speed"}
		}
		check := func(env ...string) (string, error) {
			cmd := exec.CommandContext(ctx, up, p, "1", "1")
			cmd.Env = append(append(os.Environ(), "UP_CHECK=1"), env...)
			text, err := cmd.CombinedOutput()
			return lastLine(text), err
		}
		var err error
		if c.version, err = check(); err != nil {
			err = errors.New(strings.TrimPrefix(c.version, "up: "))
		}
		_, noTLS := check("SECURE_PORT=1", "SECURE_PEM="+l.identity.File)
		c.secure = noTLS == nil
		add(c, err)
	}
	for _, e := range l.opts.extra {
		label, command, _ := strings.Cut(e, ":")
		add(shellContender(label, command), nil)
	}
	return found, skipped
}

// tool runs a command of a build; its error holds the start of what it said.
func (l *lab) tool(ctx context.Context, argv ...string) error {
	c := exec.CommandContext(ctx, argv[0], argv[1:]...)
	c.Dir = l.dir
	text, err := c.CombinedOutput()
	if err != nil && len(text) > 0 {
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		return fmt.Errorf("%s: %w: %s", argv[0], err, strings.Join(lines[:min(3, len(lines))], " | "))
	}
	return err
}

// lastLine returns the last line of text that is not blank, trimmed.
func lastLine(text []byte) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
