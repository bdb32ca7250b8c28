package cli

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/larderhq/larder/internal/evict"
	"github.com/larderhq/larder/internal/simulate"
)

type simulateCmd struct {
	Trace []string `arg:"" optional:"" name:"trace" help:"Access logs or traces, in the order of time; - is stdin."`

	Memory      []size   `placeholder:"SIZE,..." help:"Try caches of these sizes, as in --memory 256MiB,1GiB."`
	Share       []share  `placeholder:"PERCENT,..." help:"Try these shares of what all objects take, as in --share 1%,5%.\nWith no --memory either: 0.1%,0.3%,1%,2%,5%,10%."`
	Policy      []string `placeholder:"NAME,..." help:"Try these (all): shd, which is Larder's, and, to compare, lru,\nsieve and s3-fifo."`
	Overhead    octets   `placeholder:"SIZE" default:"512B" help:"What an object costs beside its body: key, head, bookkeeping (512B)."`
	MaxObject   octets   `placeholder:"SIZE" help:"Keep no body larger than this (a quarter of the memory, as serve does)."`
	Alpha       exponent `placeholder:"NUMBER" default:"0.5" help:"How much size counts in shd (0.5): from 0, which spares the\norigin the most bytes, to 1, which spares it the most requests."`
	UnknownSize octets   `placeholder:"SIZE" default:"10KiB" help:"The size of objects for which none is known (10KiB)."`
	Format      string   `placeholder:"FORM" help:"The form of the logs: combined, json, text or u32x3. By default\neach file is asked for its own."`
	Field       []string `placeholder:"WHAT=NAME" sep:"none" help:"Where to find something in JSON, as in --field target=req.path;\nWHAT is host, method, target, status or bytes. May be repeated."`
	Chart       string   `placeholder:"FILE.svg" help:"Draw the curves, too."`
	JSON        bool     `name:"json" help:"Print JSON in place of tables."`
}

func (*simulateCmd) examples() [][2]string {
	return [][2]string{
		{"larder simulate access.log", "hit ratios over a ladder of sizes"},
		{"larder simulate access.log.2.gz access.log.1 access.log", "several logs are one"},
		{"larder simulate access.log --memory 1GiB,4GiB --chart hits.svg", "these sizes, and a drawing"},
		{"larder simulate access.json --field target=req.path", "JSON with names of its own"},
	}
}

func (*simulateCmd) more() string {
	return `It reads the Common and the Combined Log Format, JSON (an object a line, with
the names of Larder, nginx, Caddy, Traefik, Envoy and others), Larder's own
text, and records of three 32-bit numbers (time, object, size); gzip or not.

What counts is GET and HEAD with a status that is kept without being told to:
200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501, and 304, which is
one more request for what is known. An object is as large as the largest body
that was sent of it. A log knows nothing of Cache-Control, Vary and cookies:
figures are what memory allows, not what the rules will.`
}

// A share is a part of something, from above 0 to 1, written as 0.3%.
type share float64

// UnmarshalText reads a share.
func (s *share) UnmarshalText(text []byte) error {
	number, percent := strings.CutSuffix(string(text), "%")
	v, err := strconv.ParseFloat(number, 64)
	if err != nil || !percent || !(v > 0 && v <= 100) {
		return fmt.Errorf("%q is no share: write a number up to 100 and a percent sign, such as 0.3%%", text)
	}
	*s = share(v / 100)
	return nil
}

// octets is a number of octets above 0, however small.
type octets int64

// UnmarshalText reads a number of octets.
func (o *octets) UnmarshalText(text []byte) error {
	n, err := parseSize(string(text))
	if err == nil && n == 0 {
		err = errors.New("0 is too little: give 1B or more")
	}
	*o = octets(n)
	return err
}

// An exponent is a number from 0 to 1.
type exponent float64

// UnmarshalText reads an exponent.
func (e *exponent) UnmarshalText(text []byte) error {
	v, err := strconv.ParseFloat(string(text), 64)
	if err != nil || !(v >= 0 && v <= 1) {
		return fmt.Errorf("%q is not for it: give a number from 0 to 1", text)
	}
	*e = exponent(v)
	return nil
}

// Run reads, tries and tells.
func (s *simulateCmd) Run(std *streams) error {
	opts, plan, err := s.plan()
	if err != nil {
		return err
	}
	says := patience{w: std.err, last: time.Now()}
	opts.Progress = func(n int64) { says.say("%d requests are read", n) }
	r := simulate.NewReader(opts)
	for _, name := range s.Trace {
		if err := s.add(r, name, std.in); err != nil {
			return err
		}
	}
	trace, reading, err := r.Trace()
	if err != nil {
		return err
	}
	facts := trace.Facts()
	plan.Memory = s.sizes(facts.Footprint)
	plan.Progress = func(done float64) { says.say("%.0f %% is tried", 100*done) }
	report := simulate.Report{Name: s.name(), Facts: facts, Reading: reading, Plan: plan}
	if report.Results, err = trace.Run(plan); err != nil {
		return err
	}
	if s.Chart != "" {
		if err := draw(s.Chart, &report); err != nil {
			return err
		}
	}
	if s.JSON {
		return report.WriteJSON(std.out)
	}
	return report.WriteText(std.out)
}

// plan checks what was asked for, before anything is read.
func (s *simulateCmd) plan() (simulate.Options, simulate.Plan, error) {
	opts := simulate.Options{Format: simulate.Format(s.Format), UnknownSize: int64(s.UnknownSize)}
	plan := simulate.Plan{
		Overhead: int64(s.Overhead), MaxObject: int64(s.MaxObject), Alpha: evict.AlphaOf(float64(s.Alpha)),
		Workers: runtime.GOMAXPROCS(0), Now: time.Now,
	}
	if len(s.Trace) == 0 {
		return opts, plan, usagef("simulate needs a log: name one, as in larder simulate access.log")
	}
	if i := slices.Index(s.Trace, "-"); i >= 0 && slices.Contains(s.Trace[i+1:], "-") {
		return opts, plan, usagef("-: stdin can be read once only: leave one out")
	}
	if forms := simulate.Formats(); s.Format != "" && !slices.Contains(forms, opts.Format) {
		return opts, plan, usagef("--format %s: give one of %s", s.Format, list(forms))
	}
	for _, name := range s.Policy {
		switch {
		case !slices.Contains(simulate.Policies(), name):
			return opts, plan, usagef("--policy %s: there is no such policy: give some of %s", name, list(simulate.Policies()))
		case !slices.Contains(plan.Policies, name):
			plan.Policies = append(plan.Policies, name)
		}
	}
	for _, field := range s.Field {
		if err := setField(&opts.Fields, field); err != nil {
			return opts, plan, err
		}
	}
	if s.Chart != "" && len(s.Memory)+len(s.Share) == 1 {
		return opts, plan, usagef("--chart %s: one size makes no curve: name two or more, as in --memory 256MiB,1GiB, or none", s.Chart)
	}
	return opts, plan, nil
}

func list[T ~string](names []T) string {
	text := make([]string, len(names))
	for i, name := range names {
		text[i] = string(name)
	}
	return strings.Join(text, ", ")
}

// setField reads a --field.
func setField(f *simulate.Fields, text string) error {
	what, name, ok := strings.Cut(text, "=")
	if !ok || name == "" {
		return usagef("--field %s: no name: write it as --field target=NAME", text)
	}
	switch what {
	case "host":
		f.Host = name
	case "method":
		f.Method = name
	case "target":
		f.Target = name
	case "status":
		f.Status = name
	case "bytes":
		f.Octets = name
	default:
		return usagef("--field %s: %q is not needed: give one of host, method, target, status, bytes", text, what)
	}
	return nil
}

// add reads one trace.
func (s *simulateCmd) add(r *simulate.Reader, name string, stdin io.Reader) error {
	if name == "-" {
		return r.Add("stdin", stdin)
	}
	f, err := os.Open(name)
	if err != nil {
		var path *os.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return usagef("%s cannot be opened: %v: name an access log, or - for stdin", name, err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return usagef("%s is a folder: name the logs in it, the oldest first", name)
	}
	return r.Add(name, f)
}

// ladder is what is tried if nothing is asked for.
var ladder = []share{0.001, 0.003, 0.01, 0.02, 0.05, 0.10}

// sizes are the memory to try, each once, the least first.
func (s *simulateCmd) sizes(footprint int64) (sizes []int64) {
	shares := s.Share
	if len(s.Memory) == 0 && len(shares) == 0 {
		shares = ladder
	}
	for _, m := range s.Memory {
		sizes = append(sizes, int64(m))
	}
	for _, part := range shares {
		sizes = append(sizes, max(int64(math.Round(float64(part)*float64(footprint))), 1))
	}
	slices.Sort(sizes)
	return slices.Compact(sizes)
}

// name is what the whole of the traces is called.
func (s *simulateCmd) name() string {
	name := filepath.Base(s.Trace[0])
	switch {
	case len(s.Trace) > 1:
		return fmt.Sprintf("%s and %d more", name, len(s.Trace)-1)
	case name == "-":
		return "stdin"
	}
	return name
}

// draw writes the drawing.
func draw(name string, report *simulate.Report) error {
	f, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("--chart: %w: name a file in a folder that you may write to", err)
	}
	return errors.Join(report.WriteSVG(f), f.Close())
}

// patience tells who waits what goes on: every few seconds, so that what is
// quick says nothing.
type patience struct {
	w    io.Writer
	mu   sync.Mutex
	last time.Time // guarded by mu
}

func (p *patience) say(form string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); now.Sub(p.last) >= patienceSpan {
		p.last = now
		fmt.Fprintf(p.w, "larder: "+form+"\n", args...)
	}
}

const patienceSpan = 3 * time.Second
