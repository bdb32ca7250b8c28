//go:build linux

package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/larderhq/larder/bench/rig"
)

// What ALPN calls the protocols that are measured by TLS (RFC 7301).
const (
	alpnHTTP1 = "http/1.1"
	alpnHTTP2 = "h2"
)

// suite is the one that the load offers, so that all servers encrypt alike: left
// to choose, some take AES of 256 bits.
const suite = "TLS_AES_128_GCM_SHA256"

// settle is how long the load runs before its measurement begins: time for the
// handshakes, which are not what is measured.
const settle = 500 * time.Millisecond

// trust is the TLS of a client that speaks alpn with whoever has that certificate.
func trust(c *rig.Certificate, alpn string) *tls.Config {
	return &tls.Config{RootCAs: c.Pool(), MinVersion: tls.VersionTLS13, NextProtos: []string{alpn}}
}

// h2load runs the program of that name against s, for settle and the set time,
// and reads the meter of s where settle ends and at the end. The report is of
// the answers between these moments.
func (l *lab) h2load(ctx context.Context, w workload, s *server) (report, meter, error) {
	answers := filepath.Join(l.scratch, "answers")
	argv := []string{
		"-c", l.opts.loadCPU, "h2load", "-t1", "-c" + strconv.Itoa(w.conns), "-m" + strconv.Itoa(w.streams), "--npn-list=" + w.alpn,
		"--tls13-ciphers=" + suite, "-N5s", "-D" + strconv.Itoa(l.opts.secs+1), "--log-file=" + answers, s.url(w.path(0)),
	}
	if err := os.Remove(answers); err != nil && !errors.Is(err, os.ErrNotExist) {
		return report{}, meter{}, err // h2load would add to it
	}
	cmd := exec.CommandContext(ctx, "taskset", argv...)
	var text strings.Builder
	cmd.Stdout, cmd.Stderr = &text, &text
	if err := cmd.Start(); err != nil {
		return report{}, meter{}, err
	}
	// If ctx ends, then h2load does too, and says so.
	_ = pause(ctx, settle)
	first := s.meter()
	_ = pause(ctx, time.Duration(l.opts.secs)*time.Second)
	last := s.meter()
	if err := cmd.Wait(); err != nil {
		return report{}, meter{}, fmt.Errorf("h2load: %w: %s", err, lastLine([]byte(text.String())))
	}
	total, err := parseH2load(text.String(), w.alpn)
	if err != nil {
		return report{}, meter{}, err
	}
	f, err := os.Open(answers)
	if err != nil {
		return report{}, meter{}, err
	}
	defer f.Close()
	r, err := total.between(f, first.at, last.at)
	last.ticks -= first.ticks
	return r, last, err
}

// h2loadLines are the lines of h2load's output that count, as fmt.Sscanf reads them.
const (
	h2loadRequests = "requests: %d total, %d started, %d done, %d succeeded, %d failed, %d errored, %d timeout"
	h2loadStatuses = "status codes: %d 2xx, %d 3xx, %d 4xx, %d 5xx"
	h2loadSlowest  = "req/s : %f"
)

// parseH2load reads what h2load prints of a run by TLS. It refuses what was not
// spoken by TLS 1.3, suite and alpn, which h2load tells of its first connection and
// offers on all, a run in which a connection had no answer at all, and counts that do not
// add up. Latencies and duration are not in the report.
func parseH2load(text, alpn string) (report, error) {
	var r report
	var total, started, done, failed, errored int64
	var statuses [4]int64
	var slowest float64
	seen := map[string]int{}
	for line := range strings.Lines(text) {
		line = strings.Join(strings.Fields(line), " ")
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		var err error
		switch name {
		case "TLS Protocol":
			err = same(value, "TLSv1.3")
		case "Cipher":
			err = same(value, suite)
		case "Application protocol":
			err = same(value, alpn)
		case "requests":
			_, err = fmt.Sscanf(line, h2loadRequests, &total, &started, &done, &r.requests, &failed, &errored, &r.timeout)
		case "status codes":
			_, err = fmt.Sscanf(line, h2loadStatuses, &statuses[0], &statuses[1], &statuses[2], &statuses[3])
		case "traffic":
			r.bytes, err = h2loadData(value)
		case "req/s":
			_, err = fmt.Sscanf(line, h2loadSlowest, &slowest)
		default:
			continue
		}
		if err != nil {
			return report{}, fmt.Errorf("h2load: %q: %w", line, err)
		}
		seen[name]++
	}
	for _, name := range []string{"requests", "status codes", "traffic", "req/s", "TLS Protocol", "Cipher", "Application protocol"} {
		if seen[name] != 1 {
			return report{}, fmt.Errorf("h2load told %q %d times: %s", name, seen[name], lastLine([]byte(text)))
		}
	}
	r.status = statuses[1] + statuses[2] + statuses[3]
	r.read = max(errored, failed-r.status)
	switch {
	case r.status+r.read+r.timeout > 0:
		// What went wrong is in the report, which tells it.
	case slowest == 0:
		return report{}, errors.New("h2load: a connection had no answer")
	case done != r.requests || statuses[0] != r.requests || total != done || started < done:
		return report{}, fmt.Errorf("h2load: %d total, %d started, %d done, %d succeeded, %d with 2xx: that does not add up", total, started, done, r.requests, statuses[0])
	}
	return r, nil
}

// same is an error if what is there is not what is wanted.
func same(got, want string) error {
	if got != want {
		return fmt.Errorf("it should be %s", want)
	}
	return nil
}

// h2loadData finds how many octets of bodies there were in what h2load says of
// the traffic, "89.32MB (93658272) total, ... 75.21MB (78868480) data".
func h2loadData(value string) (int64, error) {
	_, rest, ok := cutLast(value, ", ")
	count, ok2 := strings.CutSuffix(rest, ") data")
	_, count, ok3 := cutLast(count, "(")
	if !ok || !ok2 || !ok3 {
		return 0, errors.New("no data")
	}
	return strconv.ParseInt(count, 10, 64)
}

// cutLast is strings.Cut at the last place.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// between is the part of r, the report of a whole run, that lies between two
// moments, by h2load's log of all answers: when it asked, in microseconds since 1970,
// the status, and after how many microseconds the answer was there. It is an error
// if the log is not of that run.
func (r report) between(log io.Reader, from, to time.Time) (report, error) {
	var all int64
	var latencies []int64
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		var asked, status, took int64
		if n, err := fmt.Sscanf(lines.Text(), "%d\t%d\t%d", &asked, &status, &took); n != 3 {
			return report{}, fmt.Errorf("h2load's log: %q: %w", lines.Text(), err)
		}
		all++
		if end := asked + took; end > from.UnixMicro() && end <= to.UnixMicro() {
			latencies = append(latencies, took)
		}
	}
	if err := lines.Err(); err != nil {
		return report{}, err
	}
	if r.status+r.read+r.timeout == 0 && all != r.requests {
		return report{}, fmt.Errorf("h2load's log has %d answers of %d", all, r.requests)
	}
	part := r
	part.requests, part.duration = int64(len(latencies)), to.Sub(from)
	part.bytes = part.requests * (r.bytes / max(1, r.requests)) // each answer is as long as all of them are
	if len(latencies) > 0 {
		slices.Sort(latencies)
		part.p50 = time.Duration(latencies[len(latencies)/2]) * time.Microsecond
		part.p99 = time.Duration(latencies[len(latencies)*99/100]) * time.Microsecond
	}
	return part, nil
}
