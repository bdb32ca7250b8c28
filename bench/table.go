//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// ticksPerSecond is the unit of /proc/PID/stat: USER_HZ, which Linux fixes at
// 100 on every architecture that Go runs on.
const ticksPerSecond = 100

// A report is what the load generator tells at the end of a run: wrk.lua, or h2load.
type report struct {
	requests, bytes int64
	duration        time.Duration
	p50, p99        time.Duration

	// What went wrong: connections refused, failed reads and writes, statuses
	// above 399, answers later than 5 s.
	connect, read, write, status, timeout int64
}

// parseReport finds and reads the line "result name=value..." in wrk's output.
func parseReport(text string) (report, error) {
	var r report
	var duration, p50, p99 int64
	fields := map[string]*int64{
		"requests": &r.requests, "bytes": &r.bytes, "duration_us": &duration, "p50_us": &p50, "p99_us": &p99,
		"connect": &r.connect, "read": &r.read, "write": &r.write, "status": &r.status, "timeout": &r.timeout,
	}
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, "result ")
		if !ok {
			continue
		}
		for _, pair := range strings.Fields(rest) {
			name, value, _ := strings.Cut(pair, "=")
			into, known := fields[name]
			if !known {
				return report{}, fmt.Errorf("wrk: unknown or repeated result %q", pair)
			}
			if _, err := fmt.Sscanf(value, "%d", into); err != nil {
				return report{}, fmt.Errorf("wrk: result %q: %w", pair, err)
			}
			delete(fields, name)
		}
		if len(fields) > 0 {
			return report{}, fmt.Errorf("wrk: incomplete result %q", strings.TrimSpace(line))
		}
		r.duration = time.Duration(duration) * time.Microsecond
		r.p50, r.p99 = time.Duration(p50)*time.Microsecond, time.Duration(p99)*time.Microsecond
		return r, nil
	}
	return report{}, fmt.Errorf("wrk gave no result: %s", lastLine([]byte(text)))
}

// A sample is one measurement of one contender.
type sample struct {
	report
	ticks               int64 // CPU time of the server
	memory              int64 // bytes
	served, notModified int64 // answers of the origin, and those of them with 304
}

func (s sample) rate() float64 {
	return float64(s.requests) / s.duration.Seconds()
}

// cpu returns the CPU microseconds a request.
func (s sample) cpu() float64 {
	return float64(s.ticks) * (1e6 / ticksPerSecond) / float64(s.requests)
}

// originShare is how many requests the origin got for each of the clients'.
func (s sample) originShare() float64 {
	return float64(s.served) / float64(s.requests)
}

func (s sample) String() string {
	return fmt.Sprintf("%.0f requests/s, %.2f us CPU, p50 %v, p99 %v", s.rate(), s.cpu(), s.p50, s.p99)
}

// check is an error when the sample is not a measurement of w: something
// failed, or the cache did other work than w is there to measure.
func (s sample) check(w workload, floor bool) error {
	var wrong []string
	for _, e := range []struct {
		n    int64
		what string
	}{{s.status, "non-2xx"}, {s.connect, "failed connects"}, {s.read, "failed reads"}, {s.write, "failed writes"}, {s.timeout, "time-outs"}} {
		if e.n > 0 {
			wrong = append(wrong, fmt.Sprintf("%d %s", e.n, e.what))
		}
	}
	switch {
	case s.requests == 0:
		wrong = append(wrong, "no request was answered")
	case s.bytes/s.requests < int64(w.size):
		wrong = append(wrong, fmt.Sprintf("%d bytes an answer instead of %d", s.bytes/s.requests, w.size))
	case floor:
	case w.kind == hit && s.originShare() > 0.001:
		wrong = append(wrong, fmt.Sprintf("not hits: %d of %d went to the origin", s.served, s.requests))
	case w.kind == miss && s.originShare() < 0.99:
		wrong = append(wrong, fmt.Sprintf("not misses: only %d of %d went to the origin", s.served, s.requests))
	}
	if len(wrong) == 0 {
		return nil
	}
	return errors.New(strings.Join(wrong, ", "))
}

// A row is what a table says about a contender: medians of its samples.
type row struct {
	name        string
	problem     string // not empty: the figures, if any, are not valid
	rounds      int
	rate        float64 // requests a second
	cpu         float64 // CPU microseconds a request
	spread      float64 // of cpu: half of highest minus lowest, as a share of the median
	p50, p99    time.Duration
	memory      int64   // bytes; the highest
	origin      float64 // requests to the origin, for each request
	notModified float64 // answers of 304, for each request to the origin
}

// newRow sums up the samples of a contender. A problem that came up in any
// round makes the row invalid.
func newRow(name string, samples []sample, problem string) row {
	r := row{name: name, problem: problem, rounds: len(samples)}
	if len(samples) == 0 {
		return r
	}
	of := func(f func(sample) float64) float64 {
		var v []float64
		for _, s := range samples {
			v = append(v, f(s))
		}
		return median(v)
	}
	r.rate = of(sample.rate)
	r.cpu = of(sample.cpu)
	r.p50 = time.Duration(of(func(s sample) float64 { return float64(s.p50) }))
	r.p99 = time.Duration(of(func(s sample) float64 { return float64(s.p99) }))
	r.origin = of(sample.originShare)
	r.notModified = of(func(s sample) float64 { return float64(s.notModified) / float64(max(1, s.served)) })
	low, high := samples[0].cpu(), samples[0].cpu()
	for _, s := range samples {
		low, high = min(low, s.cpu()), max(high, s.cpu())
		r.memory = max(r.memory, s.memory)
	}
	r.spread = (high - low) / 2 / r.cpu
	return r
}

// median returns the middle one of v, or the mean of the middle two; of none, 0.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	m := len(v) / 2
	if len(v)%2 == 1 {
		return v[m]
	}
	return (v[m-1] + v[m]) / 2
}

// A table is what was measured of one workload.
type table struct {
	work    string
	rows    []row
	leftOut []string // contenders that cannot do it
}

// cpuOf returns the CPU a request of a contender; false if it is not known.
func (t table) cpuOf(name string) (float64, bool) {
	for _, r := range t.rows {
		if r.name == name {
			return r.cpu, r.problem == "" && r.rounds > 0 && r.cpu > 0
		}
	}
	return 0, false
}

// ratio returns a's CPU a request divided by b's, as text; "-" if not known.
func (t table) ratio(a, b string) string {
	x, ok1 := t.cpuOf(a)
	y, ok2 := t.cpuOf(b)
	if !ok1 || !ok2 {
		return "-"
	}
	return fmt.Sprintf("%.2f", x/y)
}

// print writes the table, a line for each contender.
func (t table) print(w io.Writer) {
	cells := [][]string{{"", "requests/s", "CPU us/req", "±", "× ours", "× floor", "p50", "p99", "RSS MiB", "origin/req", ""}}
	for _, r := range t.rows {
		if r.problem != "" {
			cells = append(cells, []string{r.name, "-", "-", "-", "-", "-", "-", "-", "-", "-", "INVALID: " + r.problem})
			continue
		}
		cells = append(cells, []string{
			r.name,
			fmt.Sprintf("%.0f", r.rate),
			fmt.Sprintf("%.2f", r.cpu),
			percent(r.spread, r.rounds),
			t.ratio(r.name, nameOurs),
			t.ratio(r.name, nameFloor),
			latency(r.p50),
			latency(r.p99),
			fmt.Sprintf("%.0f", float64(r.memory)/(1<<20)),
			fmt.Sprintf("%.2f", r.origin),
			t.note(r),
		})
	}
	align(w, cells)
	if len(t.leftOut) > 0 {
		fmt.Fprintln(w, "left out, not set up for TLS here:", strings.Join(t.leftOut, ", "))
	}
}

// note says in which way a valid row is not like the others.
func (t table) note(r row) string {
	switch {
	case t.work != "reval" || r.name == nameFloor:
		return ""
	case r.origin < 0.5:
		return "shares validations, or skips them"
	case r.notModified < 0.5:
		return "fetches it whole again"
	}
	return ""
}

// summarize writes the ratios of all tables: ours to the floor, the rest to ours.
func summarize(w io.Writer, tables []table) {
	if len(tables) == 0 {
		return
	}
	// The widest table has the peers of all in their order, as contenders are
	// left out of a table and never put in.
	var peers []string
	for _, t := range tables {
		var some []string
		for _, r := range t.rows {
			if r.name != nameOurs && r.name != nameFloor {
				some = append(some, r.name)
			}
		}
		if len(some) > len(peers) {
			peers = some
		}
	}
	head := []string{"", "ours ÷ floor"}
	for _, p := range peers {
		head = append(head, p+" ÷ ours")
	}
	cells := [][]string{head}
	for _, t := range tables {
		line := []string{t.work, t.ratio(nameOurs, nameFloor)}
		for _, p := range peers {
			line = append(line, t.ratio(p, nameOurs))
		}
		cells = append(cells, line)
	}
	for i := range cells {
		cells[i] = append(cells[i], "")
	}
	fmt.Fprintln(w, "\nCPU per request, as ratios (a peer ÷ ours above 1: the peer spends more than ours)")
	align(w, cells)
}

// percent prints a spread, which takes two rounds to have.
func percent(share float64, rounds int) string {
	if rounds < 2 {
		return "-"
	}
	return fmt.Sprintf("%.0f%%", 100*share)
}

// latency prints d in the unit that suits it.
func latency(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%dus", d.Microseconds())
	case d < time.Second:
		return fmt.Sprintf("%.2fms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%.2fs", d.Seconds())
}

// align writes cells in columns: the first and the last to the left, the rest
// to the right.
func align(w io.Writer, cells [][]string) {
	width := make([]int, len(cells[0]))
	for _, line := range cells {
		for i, c := range line {
			width[i] = max(width[i], len([]rune(c)))
		}
	}
	for _, line := range cells {
		var b strings.Builder
		for i, c := range line {
			gap := strings.Repeat(" ", width[i]-len([]rune(c)))
			switch i {
			case 0:
				b.WriteString(c + gap)
			case len(line) - 1:
				b.WriteString("  " + c)
			default:
				b.WriteString("  " + gap + c)
			}
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}
