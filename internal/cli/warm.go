package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/larderhq/larder/internal/field"
	"github.com/larderhq/larder/internal/warm"
)

type warmCmd struct {
	Source []string `arg:"" name:"source" help:"Lists and sitemaps: files, URLs, or - for stdin."`

	To          string    `placeholder:"URL" default:"http://127.0.0.1:8000" help:"Where the Larder is (http://127.0.0.1:8000). Each request names the\nhost of its URL, but goes there."`
	Concurrency workers   `placeholder:"NUMBER" default:"8" help:"Ask for so many URLs at the same time (8)."`
	Rate        perSecond `placeholder:"NUMBER" help:"Begin at most so many requests a second (no limit)."`
	Header      []string  `placeholder:"FIELD" sep:"none" help:"Send this with each request, as in --header 'Accept-Encoding: gzip'.\nMay be repeated."`
	Timeout     span      `placeholder:"TIME" default:"30s" help:"Give up on a request that takes longer, its body included (30s)."`
	trust
	Quiet bool `help:"Say nothing unless something fails."`
}

func (*warmCmd) examples() [][2]string {
	return [][2]string{
		{"larder warm https://example.org/sitemap.xml", "all of a site"},
		{"larder warm urls.txt --rate 50", "a list, gently"},
		{"larder warm urls.txt --header 'Accept-Encoding: zstd, br, gzip'", "what browsers ask for"},
		{"grep -v /private/ urls.txt | larder warm - --to http://10.0.0.5:8000", "some of it, elsewhere"},
	}
}

func (*warmCmd) more() string {
	return `A list has a URL a line; what begins with # is ignored. The hottest come first:
that order is kept. Of sitemaps (XML) indexes are followed within their host.
Both may be packed with gzip. All is read before anything is asked for, and each
URL is asked for once. https URLs go to an http --to as they are.

The exit code is 1 if a URL has no answer, or one with a status from 400 on.`
}

// workers is how many do something at the same time.
type workers int

const maxWorkers = 1000

// UnmarshalText reads a number of workers.
func (w *workers) UnmarshalText(text []byte) error {
	n, err := strconv.Atoi(string(text))
	if err != nil || n < 1 || n > maxWorkers {
		return fmt.Errorf("%q is not for it: give a number from 1 to %d", text, maxWorkers)
	}
	*w = workers(n)
	return nil
}

// perSecond is how often something happens.
type perSecond float64

const maxRate = 1e6

// UnmarshalText reads a perSecond.
func (p *perSecond) UnmarshalText(text []byte) error {
	v, err := strconv.ParseFloat(string(text), 64)
	if err != nil || !(v >= 0.001 && v <= maxRate) {
		return fmt.Errorf("%q is not for it: give a number above 0, such as 50 or 0.5", text)
	}
	*p = perSecond(v)
	return nil
}

// Run reads the sources, asks for their URLs, and tells.
func (c *warmCmd) Run(std *streams) error {
	o, err := c.options()
	if err != nil {
		return err
	}
	urls, err := c.read(std)
	if err != nil {
		return err
	}
	var bar *warmBar
	if !c.Quiet && len(urls) > 0 && isTerminal(std.err) {
		bar = newWarmBar(std.err, len(urls))
		o.Progress = bar.show
	}
	ctx, stop := interrupted()
	defer stop()
	began := time.Now()
	report, err := warm.Run(ctx, urls, *o)
	bar.close()
	return c.tell(std.err, report, time.Since(began), err)
}

// options checks what was asked for, before anything is read.
func (c *warmCmd) options() (*warm.Options, error) {
	if i := slices.Index(c.Source, "-"); i >= 0 && slices.Contains(c.Source[i+1:], "-") {
		return nil, usagef("-: stdin can be read once only: leave one out")
	}
	to, err := url.Parse(c.To)
	if err != nil || to.Scheme != "http" && to.Scheme != "https" || to.Hostname() == "" || strings.Trim(to.Path, "/") != "" || to.RawQuery != "" || to.User != nil {
		return nil, usagef("--to %q is no place of a Larder: write it as http://127.0.0.1:8000", c.To)
	}
	if c.Timeout == 0 {
		return nil, usagef("--timeout 0s: nothing answers in no time: give more, such as 30s")
	}
	trust, err := c.config(to.Scheme == "https")
	if err != nil {
		return nil, err
	}
	o := &warm.Options{
		To: to, TLS: trust, Concurrency: int(c.Concurrency), Rate: float64(c.Rate), Timeout: time.Duration(c.Timeout),
		Header: http.Header{"User-Agent": {userAgent}},
	}
	given := http.Header{}
	for _, line := range c.Header {
		name, value, ok := strings.Cut(line, ":")
		if !ok || !field.IsToken(name) || strings.ContainsFunc(value, isControl) {
			return nil, usagef("--header %q is no field: write it as 'Accept-Encoding: gzip'", line)
		}
		switch name = http.CanonicalHeaderKey(name); name {
		case "Host":
			return nil, usagef("--header %s: each URL names its host: leave it out", line)
		case "Content-Length", "Transfer-Encoding", "Trailer":
			return nil, usagef("--header %s: the requests have no body: leave it out", line)
		}
		given.Add(name, strings.TrimSpace(value))
	}
	for name, values := range given {
		o.Header[name] = values
	}
	return o, nil
}

const userAgent = "larder-warm/" + release

func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

// read returns the URLs of all sources.
func (c *warmCmd) read(std *streams) ([]string, error) {
	says := patience{w: std.err, last: time.Now()}
	sources := warm.Sources{Stdin: std.in, Timeout: time.Duration(c.Timeout), UserAgent: userAgent}
	if !c.Quiet {
		sources.Note = func(line string) { fmt.Fprintf(std.err, "larder: %s\n", strings.Map(visible, line)) }
		if isTerminal(std.err) {
			sources.Progress = func(n int) { says.say("%d URLs are read", n) }
		}
	}
	for _, name := range c.Source {
		if info, err := os.Stat(name); err == nil && info.IsDir() {
			return nil, usagef("%s is a folder: name the lists and sitemaps in it", name)
		}
		err := sources.Add(context.Background(), name)
		var path *os.PathError
		switch {
		case errors.As(err, &path) && path.Op == "open":
			return nil, usagef("%s cannot be opened: %v: name a list or a sitemap, or - for stdin", name, path.Err)
		case err != nil:
			return nil, errors.New(strings.Map(visible, err.Error()))
		}
	}
	return sources.URLs(), nil
}

// tell says what came of it: in the last line all, and before it what failed. If
// something did, the last line is the error.
func (c *warmCmd) tell(w io.Writer, r warm.Report, took time.Duration, err error) error {
	var unreachable *warm.Unreachable
	if errors.As(err, &unreachable) {
		return fmt.Errorf("nothing answers at %s: %w: start larder serve, or name with --to where it is", c.To, unreachable)
	}
	for _, f := range r.Failures {
		fmt.Fprintf(w, "larder: %s: %s\n", f.URL, strings.Map(visible, f.Err.Error()))
	}
	if more := r.Failed - len(r.Failures); more > 0 {
		fmt.Fprintf(w, "larder: and %d more failed\n", more)
	}
	sum := summary(r, took)
	switch {
	case err != nil:
		return fmt.Errorf("stopped: %s; %d were left", sum, r.Left)
	case r.Failed > 0:
		return errors.New(sum)
	case !c.Quiet:
		fmt.Fprintf(w, "larder: %s\n", sum)
	}
	return nil
}

// summary is a report in a line.
func summary(r warm.Report, took time.Duration) string {
	var b strings.Builder
	n, urls := r.Fetched+r.Hits+r.Failed, "URLs"
	if n == 1 {
		urls = "URL"
	}
	fmt.Fprintf(&b, "%d %s in %v: %d fetched", n, urls, took.Round(roundTo(took)), r.Fetched)
	if r.Unkept > 0 {
		fmt.Fprintf(&b, " (%d of them not kept)", r.Unkept)
	}
	fmt.Fprintf(&b, ", %d were there already, %d failed; %s", r.Hits, r.Failed, approximate(r.Octets))
	return b.String()
}

// roundTo is as exact as people want to know it.
func roundTo(d time.Duration) time.Duration {
	switch {
	case d > time.Minute:
		return time.Second
	case d > time.Second:
		return 100 * time.Millisecond
	}
	return time.Millisecond
}

// approximate is a size for people.
func approximate(octets int64) string {
	v, unit := float64(octets), "B"
	for _, next := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if v < 1024 {
			break
		}
		v, unit = v/1024, next
	}
	if unit == "B" {
		return fmt.Sprintf("%d B", octets)
	}
	return fmt.Sprintf("%.1f %s", v, unit)
}

// A warmBar is a line on a terminal that says how far it is.
type warmBar struct {
	*progressbar.ProgressBar
	began time.Time
}

func newWarmBar(w io.Writer, urls int) *warmBar {
	return &warmBar{progressbar.NewOptions(
		urls,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetWidth(30),
		progressbar.OptionShowCount(),
		progressbar.OptionSetPredictTime(false), // rate and time left are in the description
		progressbar.OptionSetElapsedTime(false),
		progressbar.OptionShowDescriptionAtLineEnd(),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionUseANSICodes(os.Getenv("TERM") != "dumb"),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionSetRenderBlankState(true),
	), time.Now()}
}

// show draws the line anew; that a terminal cannot be written to stops nothing.
func (b *warmBar) show(r warm.Report) {
	b.Describe(pace(r, time.Since(b.began)))
	_ = b.Add(1)
}

// pace says how fast it goes, and how long it will take at that.
func pace(r warm.Report, took time.Duration) string {
	done := r.Fetched + r.Hits + r.Failed
	rate := float64(done) / max(took.Seconds(), 1e-3)
	digits := 0
	if rate < 10 {
		digits = 1
	}
	left := time.Duration(float64(r.Left) / rate * float64(time.Second)).Round(time.Second)
	says := fmt.Sprintf("%.*f/s, %v left", digits, rate, left)
	if r.Failed > 0 {
		says += fmt.Sprintf(", %d failed", r.Failed)
	}
	return says
}

// close takes the line away.
func (b *warmBar) close() {
	if b != nil {
		_ = b.Exit()
		_ = b.Clear()
	}
}
