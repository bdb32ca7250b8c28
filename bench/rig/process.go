//go:build linux

// Package rig starts, watches and ends the processes that the measuring
// commands beside it need, larder first of all, and makes the octets that they
// send around.
package rig

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Context returns a context that ends at SIGINT, SIGTERM or SIGHUP, and when
// the process that started this one is gone, which is how `go run` and make
// tell that they were killed. The caller calls stop.
func Context() (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	ctx, release := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	parent := os.Getppid()
	go func() {
		for os.Getppid() == parent && Pause(ctx, 500*time.Millisecond) == nil {
		}
		cancel(errors.New("whoever started this is gone"))
	}()
	return ctx, func() { release(); cancel(nil) }
}

// Run is the main function of a measuring command called name: it calls do, whose
// context is that of Context and ends after limit, too, which the flag of that name
// has set. If do fails it says so and ends the process with exit code 1.
func Run(name string, limit time.Duration, flag string, do func(ctx context.Context) error) {
	ctx, stop := Context()
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("out of time after %v (-%s)", limit, flag))
	err := do(ctx)
	cancel()
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// Choose returns those of all whose names are in names, in that order; unless each is
// there, nil.
func Choose[T any](names []string, all []T, nameOf func(T) string) []T {
	var some []T
	for _, name := range names {
		i := slices.IndexFunc(all, func(one T) bool { return nameOf(one) == name })
		if i < 0 {
			return nil
		}
		some = append(some, all[i])
	}
	return some
}

// FreeAddress returns an address of 127.0.0.1 that nothing listens at.
func FreeAddress() (netip.AddrPort, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort(), nil
}

// Pause waits for d. The error is the cause of ctx if that ended first.
func Pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// Build compiles this repository's larder into dir and returns its path. The
// working directory has to be inside the repository.
func Build(ctx context.Context, dir string) (string, error) {
	program := filepath.Join(dir, "larder")
	out, err := exec.CommandContext(ctx, "go", "build", "-o", program, "github.com/larderhq/larder/cmd/larder").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return program, nil
}

// A Command is a process to be started.
type Command struct {
	Argv []string
	Env  []string // NAME=VALUE, besides our own environment
	CPUs string   // where it may run, as taskset takes them; empty: anywhere

	// Line receives what it prints to stderr, line by line, on one goroutine.
	// Nil: that is dropped.
	Line func(string)
}

// A Process is a child of ours in a process group of its own. The kernel ends
// it when we die. Its methods may be called by any goroutine.
type Process struct {
	Pid  int
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of Wait; set before done is closed

	mu   sync.Mutex
	last string // the last line it printed
}

// Start runs c. The caller ends it with Kill or Stop.
func Start(c Command) (*Process, error) {
	argv := c.Argv
	if c.CPUs != "" {
		argv = append([]string{"taskset", "-c", c.CPUs}, argv...)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), c.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = w
	err = cmd.Start()
	w.Close()
	if err != nil {
		r.Close()
		return nil, err
	}
	p := &Process{Pid: cmd.Process.Pid, cmd: cmd, done: make(chan struct{})}
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer r.Close()
		p.listen(r, c.Line)
	}()
	go func() {
		p.err = cmd.Wait()
		select { // what it said last is known, unless a descendant still has the pipe
		case <-read:
		case <-time.After(time.Second):
		}
		close(p.done)
	}()
	return p, nil
}

// listen passes on what is printed.
func (p *Process) listen(r io.Reader, line func(string)) {
	in := bufio.NewReader(r)
	for {
		text, err := in.ReadString('\n')
		if text = strings.TrimSpace(text); text != "" {
			p.mu.Lock()
			p.last = text
			p.mu.Unlock()
			if line != nil {
				line(text)
			}
		}
		if err != nil {
			return
		}
	}
}

// Done is closed once the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err waits for the end of the process and says how it ended: nil for exit
// code 0, otherwise the error of os/exec with the last line that it printed.
func (p *Process) Err() error {
	<-p.done
	if p.err == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return fmt.Errorf("%w (%s)", p.err, p.last)
}

// Kill ends the process at once with SIGKILL, and whatever it started, and
// returns when it is gone.
func (p *Process) Kill() {
	_ = syscall.Kill(-p.Pid, syscall.SIGKILL) // fails only if all is gone
	<-p.done
}

// Stop sends SIGTERM, and SIGKILL after patience. The error is that of Err.
func (p *Process) Stop(patience time.Duration) error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // fails only if it is gone
	select {
	case <-p.done:
	case <-time.After(patience):
	}
	p.Kill()
	return p.Err()
}

// CPU is the user and system time that the process and its process group have
// used so far, in steps of 10 ms. Members that have ended do not count.
func (p *Process) CPU() time.Duration {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is well-formed
	var ticks int64
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it ended since
		}
		// Field 2, the name in parentheses, may hold anything; see proc(5).
		f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(f) < 13 || f[2] != strconv.Itoa(p.Pid) {
			continue
		}
		user, err1 := strconv.ParseInt(f[11], 10, 64)
		system, err2 := strconv.ParseInt(f[12], 10, 64)
		if err1 == nil && err2 == nil {
			ticks += user + system
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// A Larder is a larder serve that runs.
type Larder struct {
	*Process
	URL    string // such as http://127.0.0.1:4711
	Secure string // such as https://127.0.0.1:4712; empty if it serves no https
}

// serves finds in what larder says where it listens: for https, if it does, and http.
var serves = regexp.MustCompile(` at (?:(https://127\.0\.0\.1:\d+) and )?(http://127\.0\.0\.1:\d+)`)

// StartLarder runs c, which has to be a larder serve, and returns as soon as it
// says where it listens. The error tells what it said instead.
func StartLarder(ctx context.Context, c Command) (*Larder, error) {
	greeting := make(chan Larder, 1)
	line := c.Line
	c.Line = func(text string) {
		if m := serves.FindStringSubmatch(text); m != nil {
			select {
			case greeting <- Larder{URL: m[2], Secure: m[1]}:
			default:
			}
		}
		if line != nil {
			line(text)
		}
	}
	p, err := Start(c)
	if err != nil {
		return nil, err
	}
	select {
	case l := <-greeting:
		l.Process = p
		return &l, nil
	case <-p.Done():
		if err := p.Err(); err != nil {
			return nil, fmt.Errorf("larder did not start: %w", err)
		}
		return nil, errors.New("larder ended without saying where it listens")
	case <-ctx.Done():
		p.Kill()
		return nil, context.Cause(ctx)
	}
}
