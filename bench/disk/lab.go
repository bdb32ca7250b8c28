//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/larderhq/larder/bench/rig"
)

// host is whom all requests name: it is part of what a response is stored under.
const host = "bench"

// script has wrk ask for /SIZE/NUMBER, NUMBER being any below COUNT, and report.
const script = `
local size, count
function init(args)
  size, count = args[1], tonumber(args[2])
  math.randomseed(tonumber(args[3]))
end
function request()
  return "GET /" .. size .. "/" .. math.random(0, count - 1) .. " HTTP/1.1\r\nHost: ` + host + `\r\n\r\n"
end
function done(summary)
  local e = summary.errors
  io.write(string.format("result %d %d %d %d\n", summary.requests, summary.bytes, summary.duration,
    e.connect + e.read + e.write + e.status + e.timeout))
end
`

// A lab holds what all measurements share.
type lab struct {
	opts     *options
	scratch  string
	script   string
	origin   *rig.Origin
	client   *http.Client
	dropsAll bool // we may drop the whole page cache
}

// newLab starts the origin and makes a scratch folder.
func newLab(ctx context.Context, o *options) (*lab, error) {
	l := &lab{
		opts:     o,
		client:   &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 16}},
		dropsAll: os.Getuid() == 0,
	}
	var err error
	if l.scratch, err = os.MkdirTemp(o.dir, "larder-disk-"); err != nil {
		return nil, err
	}
	if l.origin, err = rig.StartOrigin(1, 10<<20); err != nil {
		return nil, errors.Join(err, os.RemoveAll(l.scratch))
	}
	l.script = filepath.Join(l.scratch, "wrk.lua")
	err = os.WriteFile(l.script, []byte(script), 0o644)
	if err == nil && o.larder == "" {
		o.larder, err = rig.Build(ctx, l.scratch)
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *lab) close() {
	l.origin.Close()
	if err := os.RemoveAll(l.scratch); err != nil {
		fmt.Fprintln(os.Stderr, "disk:", err)
	}
}

// A figure is what one measurement says, or the median of several.
type figure struct {
	perSecond float64       // requests
	cpu       time.Duration // for each request
	misses    float64       // in a hundred requests
}

// workload measures one size with all contenders, warm and cold.
func (l *lab) workload(ctx context.Context, w workload) ([]string, error) {
	running := make([]*contender, len(names))
	defer func() {
		for _, c := range running {
			if c != nil {
				_ = c.Stop(20 * time.Second)
				os.RemoveAll(filepath.Join(l.scratch, filepath.Base(c.dir)))
			}
		}
	}()
	for i, name := range names {
		c, err := l.start(ctx, name, w)
		if err != nil {
			return nil, err
		}
		running[i] = c
		if err := l.fill(ctx, c, w); err != nil {
			return nil, err
		}
	}
	var rows []string
	for _, cold := range []bool{false, true} {
		if cold && l.opts.warmOnly {
			break
		}
		samples := make([][]figure, len(names))
		for round := range l.opts.rounds {
			for turn := range running {
				i := (turn + round) % len(running) // nobody always follows the same one
				f, err := l.hits(ctx, running[i], w, cold, round)
				if err != nil {
					return rows, fmt.Errorf("%s: %w", names[i], err)
				}
				samples[i] = append(samples[i], f)
			}
		}
		rows = append(rows, row(w, cold, samples))
	}
	return rows, nil
}

// errMiss says that a measurement is none, because something was no hit.
var errMiss = errors.New("not hits")

// hits makes one measurement of nothing but hits. A cache may forget: then it is
// filled again and measured again, but not for ever.
func (l *lab) hits(ctx context.Context, c *contender, w workload, cold bool, round int) (figure, error) {
	for try := 1; ; try++ {
		f, err := l.turn(ctx, c, w, cold, round)
		if !errors.Is(err, errMiss) || try == 4 {
			return f, err
		}
		fmt.Fprintf(os.Stderr, "%s %s: measured again: %v\n", w.name, c.name, err)
		if err := l.fill(ctx, c, w); err != nil {
			return figure{}, err
		}
	}
}

// turn makes one measurement. errMiss: not all were hits.
func (l *lab) turn(ctx context.Context, c *contender, w workload, cold bool, round int) (figure, error) {
	if cold {
		if err := l.drop(c); err != nil {
			return figure{}, err
		}
	} else if err := l.warm(c); err != nil {
		return figure{}, err
	}
	l.client.CloseIdleConnections()
	before, cpu := l.origin.Asked(), c.CPU()
	probed := make(chan probes, 1)
	probing, stop := context.WithCancel(ctx)
	go func() { probed <- l.probe(probing, c, w, uint64(round)) }()
	cmd := exec.CommandContext(ctx, "taskset", "-c", l.opts.loadCPU, "wrk", "-t1", "-c"+strconv.Itoa(l.opts.conns),
		"-d"+strconv.Itoa(l.opts.secs)+"s", "--timeout", "20s", "-s", l.script, c.url, "--",
		strconv.Itoa(w.size), strconv.Itoa(w.count(l.opts.setMiB)), strconv.Itoa(round+1))
	out, err := cmd.CombinedOutput()
	cpu = c.CPU() - cpu
	stop()
	p := <-probed
	if err != nil {
		return figure{}, fmt.Errorf("wrk: %w: %s", err, out)
	}
	_, result, _ := strings.Cut(string(out), "result ")
	var requests, octets, micros, failed int64
	if _, err := fmt.Sscan(result, &requests, &octets, &micros, &failed); err != nil || requests == 0 {
		return figure{}, fmt.Errorf("wrk said %q", out)
	}
	reached := l.origin.Asked() - before
	misses := 100 * float64(max(reached, p.misses)) / float64(requests+p.seen)
	switch {
	case failed > 0 || p.err != nil:
		return figure{}, errors.Join(fmt.Errorf("%d of %d requests failed", failed, requests), p.err)
	case octets < requests*int64(w.size):
		return figure{}, fmt.Errorf("%d octets for %d requests are too few", octets, requests)
	case misses > l.opts.misses:
		return figure{}, fmt.Errorf("%w: %d of %d answers looked at were none, %d of %d requests reached the origin", errMiss, p.misses, p.seen, reached, requests)
	}
	f := figure{float64(requests) / (float64(micros) / 1e6), cpu / time.Duration(requests+p.seen), misses}
	if l.opts.verbose {
		fmt.Fprintf(os.Stderr, "%s %s cold=%v: %.0f requests/s, %v, %d answers looked at\n", w.name, c.name, cold, f.perSecond, f.cpu, p.seen)
	}
	return f, nil
}

// probes is what was seen of answers while wrk, which does not look at them,
// made the load.
type probes struct {
	seen, misses int64
	err          error
}

// probe asks for one object after the other, with pauses, compares it and sees
// whether it was a hit.
func (l *lab) probe(ctx context.Context, c *contender, w workload, seed uint64) probes {
	random := rand.New(rand.NewPCG(seed, 1))
	buf := make([]byte, 64<<10)
	var p probes
	for rig.Pause(ctx, 50*time.Millisecond) == nil && p.err == nil {
		hit, err := l.get(c, w, random.IntN(w.count(l.opts.setMiB)), buf)
		p.seen++
		if p.err = err; !hit {
			p.misses++
		}
	}
	return p
}

// row is one line of the table.
func row(w workload, cold bool, samples [][]figure) string {
	cache := "warm"
	if cold {
		cache = "cold"
	}
	line := fmt.Sprintf("%-7s%-6s", w.name, cache)
	var all []figure
	var misses float64
	for _, s := range samples {
		for _, f := range s {
			misses = max(misses, f.misses)
		}
		f := median(s)
		all = append(all, f)
		line += fmt.Sprintf(" |%9.0f %9.1f", f.perSecond, float64(f.cpu)/1e3)
	}
	ours, peers := all[len(all)-1], all[:len(all)-1]
	fastest := slices.MaxFunc(peers, func(a, b figure) int { return cmp.Compare(a.perSecond, b.perSecond) })
	leanest := slices.MinFunc(peers, func(a, b figure) int { return cmp.Compare(a.cpu, b.cpu) })
	line += fmt.Sprintf(" |%8.2f %8.2f", ours.perSecond/fastest.perSecond, float64(ours.cpu)/float64(leanest.cpu))
	if misses > 0 {
		line += fmt.Sprintf("   up to %.2f %% misses", misses)
	}
	return line
}

const tableHead = `             |       nginx         |      nginx aio      |       larder        | larder/best nginx
size   cache |     req/s CPU us/req |    req/s CPU us/req |    req/s CPU us/req |   req/s      CPU`

// median takes each figure by itself.
func median(s []figure) figure {
	middle := func(less func(a, b figure) int) figure {
		sorted := slices.SortedFunc(slices.Values(s), less)
		return sorted[len(sorted)/2]
	}
	return figure{
		perSecond: middle(func(a, b figure) int { return cmp.Compare(a.perSecond, b.perSecond) }).perSecond,
		cpu:       middle(func(a, b figure) int { return cmp.Compare(a.cpu, b.cpu) }).cpu,
	}
}

// dropper says how the page cache is made cold.
func (l *lab) dropper() string {
	if l.dropsAll {
		return "sync, and 3 written to /proc/sys/vm/drop_caches"
	}
	return "posix_fadvise(POSIX_FADV_DONTNEED) on the files, since we are not root; inodes and folders stay"
}

// drop makes the page cache cold for c.
func (l *lab) drop(c *contender) error {
	if !l.dropsAll {
		return eachFile(c.dir, func(f *os.File) error {
			const dontNeed = 4
			_, _, errno := syscall.Syscall6(syscall.SYS_FADVISE64, f.Fd(), 0, 0, dontNeed, 0, 0)
			if errno != 0 {
				return errno
			}
			return nil
		})
	}
	syscall.Sync()
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0o200)
}

// warm reads all that c keeps into the page cache.
func (l *lab) warm(c *contender) error {
	buf := make([]byte, 1<<20)
	return eachFile(c.dir, func(f *os.File) error {
		for {
			if n, err := f.Read(buf); n == 0 || err != nil {
				return nil // the load tells what cannot be read
			}
		}
	})
}

// eachFile opens every file below dir.
func eachFile(dir string, do func(*os.File) error) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // it was let go meanwhile, or is no file
		}
		f, err := os.Open(path)
		if err != nil {
			return nil
		}
		defer f.Close()
		return do(f)
	})
}
