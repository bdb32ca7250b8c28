//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/larderhq/larder/bench/rig"
	"github.com/larderhq/larder/internal/admin"
	"github.com/larderhq/larder/internal/purge"
)

// host is whom all requests name.
const host = "bench"

// A lab is a larder serve, with an origin behind it.
type lab struct {
	opts    *options
	scratch string
	origin  *origin
	larder  *rig.Larder
	socket  string
	port    int
	admin   *admin.Client
}

// newLab starts a larder with these arguments beside the usual ones. The caller calls close.
func newLab(ctx context.Context, o *options, args ...string) (l *lab, err error) {
	l = &lab{opts: o}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if l.scratch, err = os.MkdirTemp("", "larder-purge-"); err != nil {
		return l, err
	}
	if l.origin, err = startOrigin(); err != nil {
		return l, err
	}
	l.socket = filepath.Join(l.scratch, "admin.sock")
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "SCRATCH", l.scratch)
	}
	c, err := preferred(rig.Command{
		Argv: append([]string{o.larder, "serve", l.origin.url, "--listen", "127.0.0.1:0", "--log", "off", "--admin", l.socket}, args...),
		CPUs: o.serverCPU,
	})
	if err != nil {
		return l, err
	}
	if l.larder, err = rig.StartLarder(ctx, c); err != nil {
		return l, err
	}
	u, err := url.Parse(l.larder.URL)
	if err != nil {
		return l, err
	}
	l.admin = admin.NewClient(l.socket, "", nil)
	l.port, err = strconv.Atoi(u.Port())
	return l, err
}

func (l *lab) close() {
	if l.admin != nil {
		l.admin.Close()
	}
	if l.origin != nil {
		l.origin.close()
	}
	if l.larder != nil {
		_ = l.larder.Stop(20 * time.Second) // all that was to be learnt from it was
	}
	if err := os.RemoveAll(l.scratch); err != nil {
		fmt.Fprintln(os.Stderr, "purge:", err)
	}
}

// do carries out a plan, of which it sets the port.
func (l *lab) do(ctx context.Context, p plan) (answer, error) {
	p.Port = l.port
	a, err := ask(ctx, p, l.opts.loadCPU)
	if err != nil {
		return answer{}, err
	}
	defer a.end()
	return a.answer()
}

// fill has all of a kind stored, up to a number.
func (l *lab) fill(ctx context.Context, kind string, n int) error {
	all := plan{Kind: kind, Set: n, Conns: 32, Count: n, Misses: true}
	if _, err := l.do(ctx, all); err != nil {
		return err
	}
	all.Misses = false // which the last ones may still be for a moment
	var err error
	for range 50 {
		if _, err = l.do(ctx, plan{Kind: kind, Set: n, Conns: 1, Count: min(n, 100)}); err == nil {
			break
		}
		if err := rig.Pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return err
}

// hits are those whose times are measured.
func (l *lab) hits() plan {
	return plan{Kind: hot, Set: 1000, Conns: l.opts.conns, Rate: l.opts.rate}
}

// idle is how long hits take when nothing else goes on.
func (l *lab) idle(ctx context.Context) (answer, error) {
	p := l.hits()
	p.Time = time.Duration(l.opts.secs) * time.Second
	return l.do(ctx, p)
}

// cost is the CPU time of larder for each request of a plan that asks as fast as it
// can, in microseconds.
func (l *lab) cost(ctx context.Context, p plan) (float64, error) {
	p.Conns, p.Time = 32, time.Duration(l.opts.secs)*time.Second
	before := l.larder.CPU()
	a, err := l.do(ctx, p)
	return micro(l.larder.CPU()-before) / float64(max(a.Asked, 1)), err
}

// publish purges by selectors of one order each, and tells how long each took.
func (l *lab) publish(ctx context.Context, mode purge.Mode, selectors ...purge.Selector) (took figure, last purge.Receipt, err error) {
	for _, s := range selectors {
		began := time.Now()
		if last, err = l.admin.Purge(ctx, purge.Order{Mode: mode, Selectors: []purge.Selector{s}}); err != nil {
			return took, last, err
		}
		took = append(took, micro(time.Since(began)))
	}
	return took, last, nil
}

// settled waits until a purge has gone through everything.
func (l *lab) settled(ctx context.Context, id purge.ID) (purge.Receipt, error) {
	for {
		r, err := l.admin.Receipt(ctx, id, 10)
		if err != nil || r.State != purge.InForce {
			return r, err
		}
	}
}

// hold has one client wait for an answer that does not end. What is purged from then on
// stays in force, and the walker waits: that answer is older, and is not kept yet.
func (l *lab) hold(ctx context.Context, number int) (release func() error, err error) {
	release, err = l.linger(ctx, number)
	if err != nil {
		return nil, err
	}
	// This one the walker goes through everything for, before it waits.
	if _, _, err := l.publish(ctx, purge.Refetch, tags("before-", 1)...); err != nil {
		return nil, err
	}
	return release, l.rest(ctx)
}

// rest waits until larder does nothing.
func (l *lab) rest(ctx context.Context) error {
	const look = 300 * time.Millisecond
	for {
		before := l.larder.CPU()
		if err := rig.Pause(ctx, look); err != nil {
			return err
		}
		if l.larder.CPU()-before < look/20 {
			return nil
		}
	}
}

// drop cancels all that is in force.
func (l *lab) drop(ctx context.Context) error {
	all, err := l.admin.Receipts(ctx)
	for i := range all {
		if all[i].State == purge.InForce {
			if _, err := l.admin.Cancel(ctx, all[i].ID); err != nil {
				return err
			}
		}
	}
	return err
}

// linger asks for what does not end before release.
func (l *lab) linger(ctx context.Context, number int) (release func() error, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/%s/%d", l.larder.URL, ceaseless, number), nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	return func() error {
		defer res.Body.Close()
		l.origin.release()
		_, err := io.Copy(io.Discard, res.Body)
		return err
	}, nil
}

// allInForce checks that n purges have been in force until now, the one of hold included.
func (l *lab) allInForce(ctx context.Context, n int) error {
	all, err := l.admin.Receipts(ctx)
	for i := range all {
		if all[i].State == purge.InForce {
			n--
		}
	}
	if err == nil && n != 0 {
		err = fmt.Errorf("%d purges too few are in force", n)
	}
	return err
}

// rss is the memory of larder, in MiB.
func (l *lab) rss() float64 {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", l.larder.Pid)) // if it has ended, others say so
	for line := range strings.Lines(string(status)) {
		if kib, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, _ := strconv.ParseFloat(strings.Fields(kib)[0], 64) // the kernel writes numbers
			return n / 1024
		}
	}
	return 0
}

// tags are selectors of so many tags that nothing has.
func tags(prefix string, n int) []purge.Selector {
	all := make([]purge.Selector, n)
	for i := range all {
		all[i].Tag = prefix + strconv.Itoa(i)
	}
	return all
}

// greatest is the greatest of all, as a figure of its own.
func (f figure) greatest() figure { return figure{slices.Max(f)} }

// typical is the median of all, as a figure of its own.
func (f figure) typical() figure { return figure{f.middle()} }
