//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larderhq/larder/bench/rig"
)

// script has wrk ask for /FOLDER/0.bin to /FOLDER/COUNT-1.bin at random, all equally often, or
// for what the command line says if COUNT is 1, and report.
const script = `
function init(args)
  local folder, count = args[1], tonumber(args[2])
  math.randomseed(tonumber(args[3]))
  if count == 1 then return end
  local requests = {}
  for i = 1, count do requests[i] = wrk.format("GET", "/" .. folder .. "/" .. (i - 1) .. ".bin") end
  request = function() return requests[math.random(count)] end
end
function done(summary)
  local e = summary.errors
  io.write(string.format("result %d %d %d %d\n", summary.requests, summary.bytes, summary.duration,
    e.connect + e.read + e.write + e.status + e.timeout))
end
`

// A set is objects of one size. Their octets follow from their paths.
type set struct {
	folder string // has no slash
	size   int    // octets
	count  int
}

// path names an object. Without a suffix rclone would open it twice, to guess its type.
func (s set) path(i int) string { return "/" + s.folder + "/" + strconv.Itoa(i) + ".bin" }

// label writes the size of an object.
func (s set) label() string {
	if s.size >= 1<<20 {
		return strconv.Itoa(s.size>>20) + "MiB"
	}
	return strconv.Itoa(s.size>>10) + "KiB"
}

// wanted are those of sets whose size was asked for.
func (o *options) wanted(sets []set) []set {
	return slices.DeleteFunc(slices.Clone(sets), func(s set) bool { return !slices.Contains(o.sizes, s.label()) })
}

// Bodies are those of rig.NewContent.
const (
	seed    = 1
	largest = 16 << 20
)

// A lab holds what all measurements share.
type lab struct {
	opts    *options
	scratch string
	script  string
	content *rig.Content
	client  *http.Client
	s3      *storage // nil: not needed yet
	lost    int      // bars
}

// newLab makes a scratch folder and larder. From then on we are part of the load.
func newLab(ctx context.Context, o *options) (l *lab, err error) {
	l = &lab{
		opts: o, content: rig.NewContent(seed, largest),
		client: &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 16}},
	}
	if l.scratch, err = os.MkdirTemp(o.dir, "larder-gateway-"); err != nil {
		return nil, err
	}
	l.script = filepath.Join(l.scratch, "wrk.lua")
	err = os.WriteFile(l.script, []byte(script), 0o644)
	if err == nil && o.larder == "" {
		o.larder, err = rig.Build(ctx, l.scratch)
	}
	if err == nil {
		var out []byte
		if out, err = exec.CommandContext(ctx, "taskset", "-a", "-c", "-p", o.loadCPU, strconv.Itoa(os.Getpid())).CombinedOutput(); err != nil {
			err = fmt.Errorf("-load-cpu %s: taskset: %w: %s", o.loadCPU, err, out)
		}
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *lab) close() {
	if l.s3 != nil {
		l.s3.Kill()
	}
	if err := os.RemoveAll(l.scratch); err != nil {
		fmt.Fprintln(os.Stderr, "gateway:", err)
	}
}

// A contender is a server that runs.
type contender struct {
	name string
	*rig.Process
	url   string
	agent string // what it calls itself when it asks S3
	keeps bool   // it answers from a cache, and says so in Cache-Status
}

// A start makes a contender.
type start func(context.Context) (*contender, error)

// all starts contenders. The caller calls stop in any case.
func all(ctx context.Context, starts []start) (running []*contender, stop func(), err error) {
	stop = func() {
		for _, c := range running {
			_ = c.Stop(20 * time.Second) // all that was to be learnt from it was
		}
	}
	for _, s := range starts {
		c, err := s(ctx)
		if err != nil {
			return running, stop, err
		}
		running = append(running, c)
	}
	return running, stop, nil
}

// startLarder runs larder serve, or larder gateway, which keeps nothing.
func (l *lab) startLarder(ctx context.Context, name, what string, env []string) (*contender, error) {
	keeps := name == "larder"
	argv := []string{l.opts.larder, "gateway", what}
	if keeps {
		argv = []string{l.opts.larder, "serve", what, "--memory", "2GiB"}
	}
	argv = append(argv, "--fresh", "**=1h", "--log", "off", "--listen", "127.0.0.1:0")
	running, err := rig.StartLarder(ctx, rig.Command{Argv: argv, Env: env, CPUs: l.opts.serverCPU})
	if err != nil {
		return nil, err
	}
	return &contender{name, running.Process, running.URL, "larder", keeps}, nil
}

// startPeer runs another server, which is there once it answers for an object.
func (l *lab) startPeer(ctx context.Context, name, url string, s set, argv, env []string) (*contender, error) {
	p, err := rig.Start(rig.Command{Argv: argv, Env: env, CPUs: l.opts.serverCPU})
	if err != nil {
		return nil, err
	}
	c := &contender{name, p, url, name, false}
	for range 200 {
		if _, err = l.get(ctx, c, s, 0, make([]byte, 64<<10)); err == nil {
			return c, nil
		}
		select {
		case <-p.Done():
			return nil, fmt.Errorf("%s ended: %w", name, errors.Join(err, p.Err()))
		case <-ctx.Done():
			p.Kill()
			return nil, context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
	p.Kill()
	return nil, fmt.Errorf("%s: %w", name, err)
}

// get asks for an object, compares its octets and tells whether it came from a cache.
func (l *lab) get(ctx context.Context, c *contender, s set, i int, buf []byte) (hit bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+s.path(i), nil)
	if err != nil {
		return false, err
	}
	resp, err := l.client.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return false, fmt.Errorf("%s: GET %s: status %d", c.name, s.path(i), resp.StatusCode)
	}
	if err := rig.Compare(resp.Body, l.content.Body(s.path(i), int64(s.size)), buf); err != nil {
		return false, fmt.Errorf("%s: GET %s: %w", c.name, s.path(i), err)
	}
	return strings.Contains(resp.Header.Get("Cache-Status"), "; hit"), nil
}

// fill asks for every object of a set, and where there is a cache until a whole pass was
// hits alone.
func (l *lab) fill(ctx context.Context, c *contender, s set) error {
	const passes = 5
	for range passes {
		var next, misses atomic.Int64
		var group sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			group.Go(func() {
				buf := make([]byte, 64<<10)
				for n := next.Add(1) - 1; n < int64(s.count) && errs[i] == nil; n = next.Add(1) - 1 {
					var hit bool
					if hit, errs[i] = l.get(ctx, c, s, int(n), buf); !hit {
						misses.Add(1)
					}
				}
			})
		}
		group.Wait()
		if err := errors.Join(append(errs, context.Cause(ctx))...); err != nil {
			return err
		}
		if !c.keeps || misses.Load() == 0 {
			return nil
		}
	}
	return fmt.Errorf("%s does not keep all of /%s: asked %d times", c.name, s.folder, passes)
}

// hitsOf measures how wrk is answered for a set that was filled.
func (l *lab) hitsOf(ctx context.Context, c *contender, s set, round int) (figure, error) {
	l.client.CloseIdleConnections()
	// Others are not yet done with what wrk asked them for last.
	if err := rig.Pause(ctx, 300*time.Millisecond); err != nil {
		return figure{}, err
	}
	before, err := l.s3.asked(ctx, l.client, c.agent)
	if err != nil {
		return figure{}, err
	}
	cpu := c.CPU()
	cmd := exec.CommandContext(ctx, "taskset", "-c", l.opts.loadCPU, "wrk", "-t1", "-c"+strconv.Itoa(l.opts.conns),
		"-d"+strconv.Itoa(l.opts.secs)+"s", "--timeout", "20s", "-s", l.script, c.url+s.path(0), "--",
		s.folder, strconv.Itoa(s.count), strconv.Itoa(round+1))
	out, err := cmd.CombinedOutput()
	cpu = c.CPU() - cpu
	if err != nil {
		return figure{}, fmt.Errorf("wrk: %w: %s", err, out)
	}
	after, err := l.s3.asked(ctx, l.client, c.agent)
	if err != nil {
		return figure{}, err
	}
	_, result, _ := strings.Cut(string(out), "result ")
	var requests, octets, micros, failed int64
	if _, err := fmt.Sscan(result, &requests, &octets, &micros, &failed); err != nil || requests == 0 {
		return figure{}, fmt.Errorf("wrk said %q", out)
	}
	switch {
	case failed > 0:
		return figure{}, fmt.Errorf("%s: %d of %d requests failed", c.name, failed, requests)
	case octets < requests*int64(s.size):
		return figure{}, fmt.Errorf("%s: %d octets for %d requests are too few", c.name, octets, requests)
	case c.keeps && after > before:
		return figure{}, fmt.Errorf("%s: %d of %d requests reached S3", c.name, after-before, requests)
	}
	if c.keeps { // it still has all that it had
		for i := range min(s.count, 20) {
			if hit, err := l.get(ctx, c, s, i*s.count/20%s.count, make([]byte, 64<<10)); err != nil || !hit {
				return figure{}, errors.Join(fmt.Errorf("%s: not hits alone", c.name), err)
			}
		}
	}
	load := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return figure{
		cpu: cpu.Seconds() / float64(requests), rate: float64(requests) / (float64(micros) / 1e6),
		load: load.Seconds() / float64(requests), asked: float64(after-before) / float64(requests),
	}, nil
}
