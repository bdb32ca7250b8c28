//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// noCgroup says that no memory cgroup can be made here.
type noCgroup struct{ error }

func (e noCgroup) Unwrap() error { return e.error }

// A cgroup bounds the memory of the processes in it.
type cgroup struct {
	version string // v1 or v2
	dir     string
}

// newCgroup makes a cgroup with so many octets, of whichever version there is.
func newCgroup(limit int64) (*cgroup, error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	all := []error{errors.New("there is no memory cgroup that we may divide; be root, or in a delegated one")}
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line) // device, folder, type, options
		if len(f) < 4 {
			continue
		}
		g := &cgroup{dir: filepath.Join(f[1], "larder-ceiling-"+strconv.Itoa(os.Getpid()))}
		var file string
		switch options := "," + f[3] + ","; {
		case f[2] == "cgroup" && strings.Contains(options, ",memory,"):
			g.version, file = "v1", "memory.limit_in_bytes"
		case f[2] == "cgroup2":
			g.version, file = "v2", "memory.max"
			// Where the controller is on already, this says so again.
			_ = os.WriteFile(filepath.Join(f[1], "cgroup.subtree_control"), []byte("+memory"), 0o644)
		default:
			continue
		}
		if err := g.make(file, limit); err != nil {
			all = append(all, fmt.Errorf("cgroup %s at %s: %w", g.version, f[1], err))
			continue
		}
		return g, nil
	}
	return nil, errors.Join(all...)
}

func (g *cgroup) make(file string, limit int64) error {
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		return err
	}
	err := os.WriteFile(filepath.Join(g.dir, file), []byte(strconv.FormatInt(limit, 10)), 0o644)
	if err != nil {
		g.remove()
	}
	return err
}

// remove takes the cgroup away, once the last process has left it.
func (g *cgroup) remove() {
	for range 50 {
		if err := os.Remove(g.dir); err == nil || errors.Is(err, os.ErrNotExist) {
			return
		}
		time.Sleep(20 * time.Millisecond) // the kernel tidies up in its own time
	}
	fmt.Fprintln(os.Stderr, "ceiling: cannot remove", g.dir)
}

// wrap is argv, run inside the cgroup from its first octet on.
func (g *cgroup) wrap(argv []string) []string {
	return append([]string{"sh", "-c", `echo $$ >"$0"/cgroup.procs && exec "$@"`, g.dir}, argv...)
}

// number reads a file that holds a number, or one behind a name.
func (g *cgroup) number(file, name string) int64 {
	text, err := os.ReadFile(filepath.Join(g.dir, file))
	if err != nil {
		return 0 // the other version has it
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) == 1 && name == "" || len(f) == 2 && f[0] == name {
			n, _ := strconv.ParseInt(f[len(f)-1], 10, 64) // the kernel writes numbers
			return n
		}
	}
	return 0
}

// killed is how many processes were killed because the limit was reached.
func (g *cgroup) killed() int64 {
	if g.version == "v1" {
		return g.number("memory.oom_control", "oom_kill")
	}
	return g.number("memory.events", "oom_kill")
}

// A sample is the memory in use at one moment, in octets.
type sample struct {
	rss, rssPeak, anon, file, shared int64 // of larder
	usage, usageAnon                 int64 // of the cgroup: all, and what cannot be dropped
}

// sampleOf measures. What is not there is 0.
func sampleOf(pid int, g *cgroup) sample {
	var s sample
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) // if it has ended, others say so
	for line := range strings.Lines(string(status)) {
		var to *int64
		name, rest, _ := strings.Cut(line, ":")
		switch name {
		case "VmRSS":
			to = &s.rss
		case "VmHWM":
			to = &s.rssPeak
		case "RssAnon":
			to = &s.anon
		case "RssFile":
			to = &s.file
		case "RssShmem":
			to = &s.shared
		default:
			continue
		}
		kib, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64) // the kernel writes numbers
		*to = kib << 10
	}
	if g.version == "v1" {
		s.usage, s.usageAnon = g.number("memory.usage_in_bytes", ""), g.number("memory.stat", "rss")+g.number("memory.stat", "shmem")
	} else {
		s.usage, s.usageAnon = g.number("memory.current", ""), g.number("memory.stat", "anon")+g.number("memory.stat", "shmem")
	}
	return s
}

func (s sample) String() string {
	return fmt.Sprintf("RSS %d MiB (peak %d; anonymous %d, files %d, shared %d), cgroup %d MiB (%d without the page cache)",
		s.rss/mib, s.rssPeak/mib, s.anon/mib, s.file/mib, s.shared/mib, s.usage/mib, s.usageAnon/mib)
}

// peaks holds the largest value of each figure.
type peaks struct{ most sample }

func (p *peaks) add(s sample) {
	m := &p.most
	for _, v := range []struct {
		to  *int64
		now int64
	}{
		{&m.rss, s.rss},
		{&m.rssPeak, s.rssPeak},
		{&m.anon, s.anon},
		{&m.file, s.file},
		{&m.shared, s.shared},
		{&m.usage, s.usage},
		{&m.usageAnon, s.usageAnon},
	} {
		*v.to = max(*v.to, v.now)
	}
}
