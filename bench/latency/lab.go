//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/larderhq/larder/bench/rig"
)

// host is whom all requests name: it is part of what a response is stored under.
const host = "bench"

// seed is that of the bodies.
const seed = 1

// A lab holds what all measurements share.
type lab struct {
	opts    *options
	scratch string
	origin  *rig.Origin
	larder  *rig.Larder
	port    int // of larder
	client  *http.Client
	fresh   atomic.Int64 // misses that were asked for
}

// newLab starts the origin and larder, and has larder store what hits are to be.
func newLab(ctx context.Context, o *options) (l *lab, err error) {
	l = &lab{opts: o, client: &http.Client{
		Timeout:   10 * time.Second,
		Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64},
	}}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if l.scratch, err = os.MkdirTemp("", "larder-latency-"); err != nil {
		return l, err
	}
	if o.larder == "" {
		if o.larder, err = rig.Build(ctx, l.scratch); err != nil {
			return l, err
		}
	}
	// From here on we are part of the load.
	if out, err := exec.Command("taskset", "-a", "-c", "-p", o.loadCPU, strconv.Itoa(os.Getpid())).CombinedOutput(); err != nil {
		return l, fmt.Errorf("-load-cpu %s: taskset: %w: %s", o.loadCPU, err, out)
	}
	if l.origin, err = rig.StartOrigin(seed, 10*mib); err != nil {
		return l, err
	}
	c, err := preferred(rig.Command{
		Argv: []string{o.larder, "serve", l.origin.URL, "--listen", "127.0.0.1:0", "--log", "off", "--memory", o.memory},
		CPUs: o.serverCPU,
	})
	if err != nil {
		return l, err
	}
	if l.larder, err = rig.StartLarder(ctx, c); err != nil {
		return l, err
	}
	if l.port, err = portOf(l.larder.URL); err != nil {
		return l, err
	}
	return l, l.warm(ctx)
}

func (l *lab) close() {
	if l.larder != nil {
		_ = l.larder.Stop(20 * time.Second) // all that was to be learnt from it was
	}
	if l.origin != nil {
		l.origin.Close()
	}
	if err := os.RemoveAll(l.scratch); err != nil {
		fmt.Fprintln(os.Stderr, "latency:", err)
	}
}

func portOf(server string) (int, error) {
	u, err := url.Parse(server)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(u.Port())
}

// warm asks for everything until it is a hit.
func (l *lab) warm(ctx context.Context) error {
	var names []string
	for i := range l.opts.set {
		names = append(names, hitPath(i))
	}
	for i := range l.opts.large {
		names = append(names, largePath(i))
	}
	for i := range purgeSet {
		names = append(names, purgePath(i))
	}
	buf := make([]byte, 64<<10)
	for _, name := range names {
		if err := l.warmOne(ctx, name, buf); err != nil {
			return err
		}
	}
	return nil
}

// warmOne asks for name until it is a hit, but not for ever.
func (l *lab) warmOne(ctx context.Context, name string, buf []byte) error {
	for range 50 {
		status, err := l.get(ctx, name, buf)
		if err != nil || strings.Contains(status, "; hit") {
			return err
		}
		if err := rig.Pause(ctx, time.Millisecond); err != nil { // it is stored after it was sent
			return err
		}
	}
	return fmt.Errorf("GET %s is no hit after 50 times; is --memory %s too little?", name, l.opts.memory)
}

// get asks for name, compares all of it and returns its Cache-Status.
func (l *lab) get(ctx context.Context, name string, buf []byte) (string, error) {
	resp, err := l.do(ctx, http.MethodGet, name)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	status := resp.Header.Get("Cache-Status")
	if resp.StatusCode != http.StatusOK {
		return status, fmt.Errorf("GET %s: %s, Cache-Status %q", name, resp.Status, status)
	}
	want, err := l.origin.Body(name)
	if err != nil {
		return status, err
	}
	if err := rig.Compare(resp.Body, want, buf); err != nil {
		return status, fmt.Errorf("GET %s: %w", name, err)
	}
	return status, nil
}

func (l *lab) do(ctx context.Context, method, name string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, l.larder.URL+name, nil)
	if err != nil {
		return nil, err
	}
	r.Host = host
	return l.client.Do(r)
}

// phase makes one measurement: hits, with what belongs to p beside them.
func (l *lab) phase(ctx context.Context, p phase) (figure, error) {
	beside, cancel := context.WithCancel(ctx)
	defer cancel()
	running := l.start(beside, cancel, p)
	const settle = 300 * time.Millisecond
	err := rig.Pause(beside, settle)
	began, cpu, before := time.Now(), l.larder.CPU(), running.count()
	var f figure
	if err == nil {
		o := l.opts
		f.answer, err = ask(beside, plan{Port: l.port, Conns: o.conns, Rate: o.rate, Secs: o.secs, Set: o.set, Check: true}, o.loadCPU)
	}
	took, used, after := time.Since(began).Seconds(), l.larder.CPU()-cpu, running.count()
	cancel()
	if failed := running.wait(); failed != nil {
		return f, failed // which is why err is none of its own
	}
	f.beside, f.octets = float64(after.requests-before.requests)/took, float64(after.octets-before.octets)/took
	f.cpu = 100 * used.Seconds() / took
	return f, err
}

// self measures a server that does nothing but answer, in place of larder: what
// is left is the loader's own time, and the kernel's.
func (l *lab) self(ctx context.Context) (figure, error) {
	source := filepath.Join("bench", "floor", "floor.c")
	floor := filepath.Join(l.scratch, "floor")
	if out, err := exec.CommandContext(ctx, "cc", "-O2", "-o", floor, source).CombinedOutput(); err != nil {
		return figure{}, fmt.Errorf("cc %s, in the root of the repository: %w: %s", source, err, out)
	}
	address, err := rig.FreeAddress()
	if err != nil {
		return figure{}, err
	}
	port := int(address.Port())
	c, err := preferred(rig.Command{Argv: []string{floor, strconv.Itoa(port), "1024"}, CPUs: l.opts.serverCPU})
	if err != nil {
		return figure{}, err
	}
	p, err := rig.Start(c)
	if err != nil {
		return figure{}, err
	}
	defer p.Kill()
	if err := answering(ctx, port); err != nil {
		return figure{}, err
	}
	o := l.opts
	began, cpu := time.Now(), p.CPU()
	a, err := ask(ctx, plan{Port: port, Conns: o.conns, Rate: o.rate, Secs: o.secs, Set: o.set}, o.loadCPU)
	return figure{answer: a, cpu: 100 * (p.CPU() - cpu).Seconds() / time.Since(began).Seconds()}, err
}

// answering waits until somebody listens.
func answering(ctx context.Context, port int) error {
	var err error
	for range 100 {
		var c net.Conn
		if c, err = net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return c.Close()
		}
		if perr := rig.Pause(ctx, 20*time.Millisecond); perr != nil {
			return perr
		}
	}
	return errors.Join(errors.New("the floor does not listen"), err)
}

// middle is the median of one of the figures.
func middle[T cmp.Ordered](all []figure, of func(figure) T) T {
	var sorted []T
	for _, f := range all {
		sorted = append(sorted, of(f))
	}
	slices.Sort(sorted)
	return sorted[len(sorted)/2]
}
