//go:build linux

// H2spec has the program of that name go through HTTP/2 and HPACK against larder serve, case by
// case, once for what is stored and once for what the origin is asked for. It fails if a case does.
//
//	go run ./conformance/h2spec bin/h2spec
//
// The argument is h2spec itself, which tools/go.mod pins.
package main

import (
	"context"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/larderhq/larder/bench/rig"
)

// paths are what is asked for, and what Cache-Status says of it, the second time.
var paths = map[string]string{"/hit": "larder; hit", "/pass": "larder; fwd="}

func main() {
	limit := flag.Duration("limit", 3*time.Minute, "how long all of it may take")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "h2spec: which program? As in go run ./conformance/h2spec bin/h2spec")
		os.Exit(2)
	}
	rig.Run("h2spec", *limit, "limit", func(ctx context.Context) error { return run(ctx, flag.Arg(0)) })
}

func run(ctx context.Context, tool string) error {
	dir, err := os.MkdirTemp("", "larder-h2spec-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l, stop, err := serve(ctx, dir)
	if err != nil {
		return err
	}
	defer stop()
	var wrong []error
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		s := suite{tool: tool, path: path, at: strings.TrimPrefix(l.Secure, "https://"), report: filepath.Join(dir, "report.xml")}
		if err := s.pass(ctx); err != nil {
			wrong = append(wrong, err)
		}
	}
	return errors.Join(wrong...)
}

// serve starts larder in front of an origin that answers everything, and makes sure of what paths
// says.
func serve(ctx context.Context, dir string) (l *rig.Larder, stop func(), err error) {
	body := strings.Repeat("0123456789", 100) // less than a hundred octets would leave cases out
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hit" {
			w.Header().Set("Cache-Control", "max-age=3600")
		} else {
			w.Header().Set("Cache-Control", "no-store")
		}
		_, _ = io.Copy(io.Discard, r.Body) // whoever breaks off is the client
		_, _ = io.WriteString(w, body)
	}))
	l, cert, err := rig.StartSecure(ctx, dir, "", origin.URL)
	if err != nil {
		origin.Close()
		return nil, nil, err
	}
	stop = func() { l.Kill(); origin.Close() }
	if err := look(ctx, l, cert); err != nil {
		stop()
		return nil, nil, err
	}
	return l, stop, nil
}

// look asks twice for each of paths. Hits are stored then.
func look(ctx context.Context, l *rig.Larder, cert *rig.Certificate) error {
	for path, want := range paths {
		for again := range 2 {
			status, err := ask(ctx, l.Secure+path, cert)
			if err != nil {
				return err
			}
			if again == 1 && !strings.HasPrefix(status, want) {
				return fmt.Errorf("%s: Cache-Status is %q, want %s", path, status, want)
			}
		}
	}
	return nil
}

func ask(ctx context.Context, u string, cert *rig.Certificate) (status string, err error) {
	client := rig.Client2(cert)
	defer client.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u, http.NoBody)
	if err != nil {
		return "", err
	}
	a, err := client.Do(r)
	if err != nil {
		return "", err
	}
	defer a.Body.Close()
	if _, err := io.Copy(io.Discard, a.Body); err != nil {
		return "", err
	}
	if a.StatusCode != http.StatusOK || a.ProtoMajor != 2 {
		return "", fmt.Errorf("GET %s: %s in %s", u, a.Status, a.Proto)
	}
	return a.Header.Get("Cache-Status"), nil
}

// A suite is all cases about one path.
type suite struct{ tool, path, at, report string }

// pass runs all cases, and those again that failed: each waits two seconds at most for what it
// wants to see, which a busy machine can make too short.
func (s *suite) pass(ctx context.Context) error {
	all, err := s.run(ctx)
	if err != nil {
		return err
	}
	if bad := failed(all); len(bad) > 0 {
		fmt.Printf("%s: once more: %s\n", s.path, strings.Join(bad, ", "))
		again, err := s.run(ctx, sections(bad)...)
		if err != nil {
			return err
		}
		maps.Copy(all, again)
	}
	bad := failed(all)
	fmt.Printf("%s: %d of %d cases pass\n", s.path, len(all)-len(bad), len(all))
	var wrong []error
	for _, c := range bad {
		wrong = append(wrong, fmt.Errorf("%s: %s: %s", s.path, c, all[c]))
	}
	return errors.Join(wrong...)
}

// failed are the cases that did.
func failed(all map[string]string) (cases []string) {
	for c, failure := range all {
		if failure != "" {
			cases = append(cases, c)
		}
	}
	slices.Sort(cases)
	return cases
}

// sections are those of some cases.
func sections(cases []string) (list []string) {
	for _, c := range cases {
		section, _, _ := strings.Cut(c, " ")
		list = append(list, section)
	}
	return slices.Compact(list) // which are sorted
}

// run runs the cases of some sections, or of all, and tells why they failed: empty, they did not. A
// case that was left out has failed.
func (s *suite) run(ctx context.Context, sections ...string) (map[string]string, error) {
	host, port, err := net.SplitHostPort(s.at)
	if err != nil {
		return nil, err
	}
	_ = os.Remove(s.report) // of another run
	args := []string{"--tls", "--insecure", "--strict", "--host", host, "--port", port, "--path", (&url.URL{Path: s.path}).String(), "--junit-report", s.report}
	out, ended := exec.CommandContext(ctx, s.tool, append(args, sections...)...).CombinedOutput()
	text, err := os.ReadFile(s.report)
	if err != nil {
		return nil, fmt.Errorf("%s: %w, %w: %s", s.tool, ended, err, out)
	}
	cases, err := read(text)
	if err != nil {
		return nil, err
	}
	if len(cases) == 0 || len(sections) == 0 && len(cases) < fewest {
		return nil, fmt.Errorf("%s ran %d cases: %s", s.tool, len(cases), out)
	}
	return cases, nil
}

// fewest is how many cases there are in h2spec 2.2.1.
const fewest = 146

// read reads a report in JUnit's format.
func read(text []byte) (map[string]string, error) {
	type outcome struct {
		Text string `xml:",chardata"`
	}
	var report struct {
		Cases []struct {
			Section string   `xml:"package,attr"`
			Title   string   `xml:"classname,attr"`
			Failure *outcome `xml:"failure"`
			Error   *outcome `xml:"error"`
			Skipped *outcome `xml:"skipped"`
		} `xml:"testsuite>testcase"`
	}
	if err := xml.Unmarshal(text, &report); err != nil {
		return nil, err
	}
	cases := map[string]string{}
	for _, c := range report.Cases {
		failure := ""
		switch {
		case c.Failure != nil:
			failure = words("failed", c.Failure.Text)
		case c.Error != nil:
			failure = words("failed", c.Error.Text)
		case c.Skipped != nil:
			failure = words("was left out", c.Skipped.Text)
		}
		cases[c.Section+" "+c.Title] = failure
	}
	return cases, nil
}

// words has all of a text on one line, behind what it is about.
func words(what, text string) string {
	return what + ": " + strings.Join(strings.Fields(text), " ")
}
