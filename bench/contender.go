//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/larderhq/larder/bench/rig"
)

// The two contenders that every ratio refers to.
const (
	nameFloor = "floor"
	nameOurs  = "ours"
)

// peerNames lists the peers that up knows, in the order of the tables.
var peerNames = []string{"varnish", "nginx", "squid", "ats", "haproxy", "apache"}

// A contender is a server that can be started and measured.
type contender struct {
	name    string
	version string // empty if not known
	env     map[string]string
	argv    func(port, origin int) []string
	wrapped bool // the process started is a script; only its children serve
	secure  bool // it serves by TLS too, where it is told to
}

// shellContender is a contender that a shell command line starts. It serves by
// TLS if the line says at which port.
func shellContender(name, command string) contender {
	return contender{
		name:   name,
		env:    map[string]string{},
		argv:   func(int, int) []string { return []string{"sh", "-c", "exec " + command} },
		secure: strings.Contains(command, "SECURE_PORT"),
	}
}

// A process is a child of ours in a process group of its own.
type process struct {
	cmd     *exec.Cmd
	log     string        // path of what it printed
	exited  chan struct{} // closed once it was waited for
	wrapped bool
}

// startProcess runs argv on the given CPUs. The kernel ends it if we die first.
func startProcess(cpus, log string, env map[string]string, argv ...string) (*process, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command("taskset", append([]string{"-c", cpus}, argv...)...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = os.Environ()
	for k, v := range env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, log: log, exited: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(p.exited)
	}()
	return p, nil
}

// stop ends the process and everything below it: kindly, then not.
func (p *process) stop() {
	pids := tree(processes(), p.cmd.Process.Pid)
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // fails only when it is gone
	select {
	case <-p.exited:
	case <-time.After(5 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
	now := processes()
	for _, child := range pids[1:] {
		// Only if that number still means the process that it meant before.
		if q, ok := now[child.pid]; ok && q.started == child.started {
			_ = syscall.Kill(child.pid, syscall.SIGKILL)
		}
	}
}

// stopKindly asks a process to end, if it is there.
func stopKindly(pid int) { _ = syscall.Kill(pid, syscall.SIGTERM) }

// A meter is what a server's processes have used of CPU up to a moment, in clock
// ticks of 10 ms, and the memory they hold then, in bytes.
type meter struct {
	at            time.Time
	ticks, memory int64
}

// meter reads the meter now.
func (p *process) meter() meter {
	m := meter{at: time.Now()}
	pids := tree(processes(), p.cmd.Process.Pid)
	if p.wrapped && len(pids) > 0 {
		pids = pids[1:]
	}
	for _, q := range pids {
		m.ticks += q.ticks
		m.memory += residentBytes(q.pid)
	}
	return m
}

// lastWords is the end of what the process printed, for an error message.
func (p *process) lastWords() string {
	text, err := os.ReadFile(p.log)
	if err != nil || len(bytes.TrimSpace(text)) == 0 {
		return "it printed nothing"
	}
	return lastLine(text)
}

// A procStat is what /proc/PID/stat says, as far as it is needed here.
type procStat struct {
	pid, parent int
	ticks       int64 // user and system time
	started     int64 // since boot, in ticks: with pid, it names a process for good
}

// processes returns all processes there are.
func processes() map[int]procStat {
	all := map[int]procStat{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is well-formed
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it ended since
		}
		if s, ok := parseStat(string(text)); ok {
			all[s.pid] = s
		}
	}
	return all
}

// parseStat reads a line of /proc/PID/stat, see proc(5). The second field is
// the command's name in parentheses, and may itself hold blanks and those.
func parseStat(line string) (procStat, bool) {
	open, shut := strings.IndexByte(line, '('), strings.LastIndexByte(line, ')')
	if open < 0 || shut < open {
		return procStat{}, false
	}
	f := strings.Fields(line[shut+1:]) // from field 3, the state
	if len(f) < 20 {
		return procStat{}, false
	}
	pid, err1 := strconv.Atoi(strings.TrimSpace(line[:open]))
	parent, err2 := strconv.Atoi(f[1])
	user, err3 := strconv.ParseInt(f[11], 10, 64)
	system, err4 := strconv.ParseInt(f[12], 10, 64)
	started, err5 := strconv.ParseInt(f[19], 10, 64)
	ok := errors.Join(err1, err2, err3, err4, err5) == nil
	return procStat{pid: pid, parent: parent, ticks: user + system, started: started}, ok
}

// tree returns the process root and all its descendants, root first; root is
// there even when it has ended.
func tree(all map[int]procStat, root int) []procStat {
	first, ok := all[root]
	if !ok {
		first.pid = root
	}
	found := []procStat{first}
	for i := 0; i < len(found); i++ {
		for _, p := range all {
			if p.parent == found[i].pid {
				found = append(found, p)
			}
		}
	}
	return found
}

// residentBytes is the memory that a process holds, pages which it shares with
// others counted in part, or in full where the kernel does not tell the parts.
func residentBytes(pid int) int64 {
	dir := "/proc/" + strconv.Itoa(pid)
	if text, err := os.ReadFile(dir + "/smaps_rollup"); err == nil {
		if n, ok := kilobytes(string(text), "Pss:"); ok {
			return n
		}
	}
	text, err := os.ReadFile(dir + "/status")
	if err != nil {
		return 0 // it ended since
	}
	n, _ := kilobytes(string(text), "VmRSS:")
	return n
}

// kilobytes finds a line "LABEL  N kB" in text and returns it in bytes.
func kilobytes(text, label string) (int64, bool) {
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == label {
			n, err := strconv.ParseInt(f[1], 10, 64)
			return n << 10, err == nil
		}
	}
	return 0, false
}

// A server is a contender that is running.
type server struct {
	*process
	scheme string
	port   int
	client *http.Client
}

// startServer starts c in front of the origin and waits until it answers as w needs it.
func (l *lab) startServer(ctx context.Context, c contender, w workload) (*server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	env := map[string]string{"PORT": strconv.Itoa(port), "ORIGIN": strconv.Itoa(l.originPort), "SIZE": strconv.Itoa(w.size)}
	s := &server{scheme: "http", port: port, client: newClient(nil)}
	if w.secure() {
		if s.port, err = freePort(); err != nil {
			return nil, err
		}
		s.scheme, s.client = "https", newClient(trust(l.identity, w.alpn))
		env["SECURE_PORT"], env["SECURE_PEM"] = strconv.Itoa(s.port), l.identity.File
	}
	for k, v := range c.env {
		env[k] = v
	}
	s.process, err = startProcess(l.opts.serverCPU, filepath.Join(l.scratch, c.name+".log"), env, c.argv(port, l.originPort)...)
	if err != nil {
		return nil, err
	}
	s.wrapped = c.wrapped
	if err := s.ready(ctx, fmt.Sprintf("/%d/ready", w.size)); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// stop ends the server and drops the connections to it.
func (s *server) stop() {
	s.client.CloseIdleConnections()
	s.process.stop()
}

func (s *server) url(path string) string {
	return s.scheme + "://127.0.0.1:" + strconv.Itoa(s.port) + path
}

// ready waits until a GET of path is answered with 200, at most 20 seconds.
func (s *server) ready(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		resp, err := s.get(ctx, path)
		if err == nil && resp.status == http.StatusOK {
			return nil
		}
		select {
		case <-s.exited:
			return fmt.Errorf("ended at once: %s", s.lastWords())
		case <-ctx.Done():
			return fmt.Errorf("does not answer: %s", s.lastWords())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// freePort returns a TCP port of 127.0.0.1 that nothing listens on.
func freePort() (int, error) {
	a, err := rig.FreeAddress()
	return int(a.Port()), err
}
