//go:build linux

// Floods measures how long hits of 1 KiB take over TLS and HTTP/2 while other clients flood larder
// with frames that bring nothing any further, each kind on its own, and fails where their p99 is too
// much above that without (DOS-06 to DOS-10).
//
//	go run ./bench/floods
//
// Hits are asked for at a fixed rate, and the time of each counts from when it was due. Larder has
// one CPU; who asks and who floods share another, where who asks goes first. Whoever floods comes
// back a tenth of a second after it was cut off.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/larderhq/larder/bench/rig"
)

// taskName is the variable that says what a process which this command starts is to do.
const taskName = "LARDER_FLOODS_TASK"

// A task is for a process of its own.
type task struct {
	Flood string // to send; empty: hits are asked for
	Conns int
	Rate  int           // hits a second, of all connections
	Time  time.Duration // for how long
	At    string        // host and port
	Cert  string        // the file
}

// A result is what came of hits.
type result struct {
	P50, P99 time.Duration
	Late     int // hits that nobody could ask for when they were due
	Failed   int
}

type options struct {
	secs, rounds, rate, conns int
	bar                       float64
	floods                    []string
	serverCPU, loadCPU        string
}

func main() {
	if text := os.Getenv(taskName); text != "" {
		rig.Run("floods", time.Minute, "secs", func(ctx context.Context) error { return work(ctx, text) })
		return
	}
	var o options
	flag.IntVar(&o.secs, "secs", 3, "`seconds` that each measurement takes")
	flag.IntVar(&o.rounds, "rounds", 3, "times that each flood is measured; a figure is the median")
	flag.IntVar(&o.rate, "rate", 500, "hits asked for in a `second`")
	flag.IntVar(&o.conns, "conns", 4, "connections that flood")
	flag.Float64Var(&o.bar, "bar", 2, "fail where p99 is more than so many times that without a flood")
	names := flag.String("floods", strings.Join(floodNames(), " "), "which of them")
	flag.StringVar(&o.serverCPU, "server-cpu", "0", "`CPUs` of larder")
	flag.StringVar(&o.loadCPU, "load-cpu", "1", "`CPUs` of clients and origin")
	limit := flag.Duration("timeout", 10*time.Minute, "stop everything after this `long`")
	flag.Parse()
	o.floods = strings.Fields(*names)
	for _, name := range o.floods {
		if floods[name] == nil {
			fmt.Fprintf(os.Stderr, "floods: there is no flood %s; there are %s\n", name, strings.Join(floodNames(), " "))
			os.Exit(2)
		}
	}
	rig.Run("floods", *limit, "timeout", func(ctx context.Context) error { return measure(ctx, &o) })
}

func floodNames() []string {
	var names []string
	for name := range floods {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func measure(ctx context.Context, o *options) error {
	dir, err := os.MkdirTemp("", "larder-floods-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	origin := httptest.NewServer(http.HandlerFunc(answer))
	defer origin.Close()
	l, cert, err := rig.StartSecure(ctx, dir, o.serverCPU, origin.URL)
	if err != nil {
		return err
	}
	defer l.Kill()
	base := task{Conns: o.conns, Rate: o.rate, Time: time.Duration(o.secs) * time.Second, At: strings.TrimPrefix(l.Secure, "https://"), Cert: cert.File}
	idle, err := o.median(ctx, base, "")
	if err != nil {
		return err
	}
	fmt.Printf("%-20s %10s %10s %10s %6s %6s\n", "flood", "p50", "p99", "p99 / idle", "late", "failed")
	show("none", idle, idle)
	var worse []string
	for _, name := range o.floods {
		r, err := o.median(ctx, base, name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		show(name, r, idle)
		if float64(r.P99) > o.bar*float64(idle.P99) || r.Failed > 0 {
			worse = append(worse, name)
		}
	}
	if len(worse) > 0 {
		return fmt.Errorf("p99 is more than %v times that without, or hits failed: %s", o.bar, strings.Join(worse, ", "))
	}
	return nil
}

func show(name string, r, idle result) {
	fmt.Printf("%-20s %10v %10v %10.2f %6d %6d\n", name, r.P50.Round(time.Microsecond), r.P99.Round(time.Microsecond), float64(r.P99)/float64(idle.P99), r.Late, r.Failed)
}

// answer is what the origin says: /hit may be kept, and all else it takes its time for.
func answer(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/hit" {
		select {
		case <-r.Context().Done():
		case <-time.After(10 * time.Second):
		}
		return
	}
	w.Header().Set("Cache-Control", "max-age=3600")
	_, _ = w.Write(make([]byte, 1<<10)) // whoever asks may be gone
}

// median measures a flood in several rounds, and returns the one whose p99 is in the middle; all
// failures are in it.
func (o *options) median(ctx context.Context, t task, flood string) (result, error) {
	var all []result
	failed := 0
	for range o.rounds {
		r, err := o.once(ctx, t, flood)
		if err != nil {
			return r, err
		}
		failed += r.Failed
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b result) int { return int(a.P99 - b.P99) })
	r := all[len(all)/2]
	r.Failed = failed
	return r, nil
}

// once asks for hits while somebody floods.
func (o *options) once(ctx context.Context, t task, flood string) (r result, err error) {
	if flood != "" {
		f := t
		f.Flood = flood
		p, err := o.start(f, nil, "nice", "-n", "19")
		if err != nil {
			return r, err
		}
		defer p.Kill()
	}
	results := make(chan string, 1)
	p, err := o.start(t, func(line string) {
		select {
		case results <- line:
		default: // it says one thing only
		}
	})
	if err != nil {
		return r, err
	}
	defer p.Kill()
	select {
	case text := <-results:
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			return r, errors.New(text)
		}
		return r, nil
	case <-p.Done():
		return r, errors.Join(errors.New("it ended without a result"), p.Err())
	case <-ctx.Done():
		return r, context.Cause(ctx)
	}
}

// start starts this command again for a task.
func (o *options) start(t task, line func(string), under ...string) (*rig.Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	return rig.Start(rig.Command{CPUs: o.loadCPU, Argv: append(under, self), Env: []string{taskName + "=" + string(text)}, Line: line})
}
