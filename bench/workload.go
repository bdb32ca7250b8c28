//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
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

// A kind is what the cache has to do for the requests of a workload.
type kind int

const (
	hit kind = iota
	miss
	revalidate
)

// A workload is one way to load a cache.
type workload struct {
	name, title string
	kind        kind
	size        int    // bytes of a body
	keys        int    // how many URLs hits are spread over; 1: one URL
	query       string // what is added to the URL

	// alpn is the protocol that is spoken by TLS 1.3, over so many connections
	// with so many requests at a time on each. Empty: HTTP/1.1 without TLS, over as
	// many connections as the options say, one request at a time.
	alpn           string
	conns, streams int
}

// secure reports whether w is about TLS.
func (w workload) secure() bool { return w.alpn != "" }

// workloads lists all there are, in the order they are run.
var workloads = []workload{
	{name: "one1k", title: "hits on one key of 1 KiB", kind: hit, size: 1 << 10, keys: 1},
	{name: "many4k", title: "hits on 10,000 keys of 4 KiB, Zipf-like", kind: hit, size: 4 << 10, keys: 10_000},
	{name: "64k", title: "hits on one key of 64 KiB", kind: hit, size: 64 << 10, keys: 1},
	{name: "1m", title: "hits on one key of 1 MiB", kind: hit, size: 1 << 20, keys: 1},
	{name: "miss", title: "misses of 4 KiB, each URL new, stored", kind: miss, size: 4 << 10},
	{name: "reval", title: "one key of 1 KiB that the origin makes stale at once (max-age=0)", kind: revalidate, size: 1 << 10, keys: 1, query: "?ma=0"},
	{name: "tls1k", title: "hits on one key of 1 KiB by TLS 1.3 over HTTP/1.1, 32 connections", kind: hit, size: 1 << 10, keys: 1, alpn: alpnHTTP1, conns: 32, streams: 1},
	{name: "h2", title: "hits on one key of 1 KiB by TLS 1.3 over HTTP/2, 32 connections of 10 streams", kind: hit, size: 1 << 10, keys: 1, alpn: alpnHTTP2, conns: 32, streams: 10},
}

// named returns the workload of that name, which there must be.
func named(name string) workload { return workloads[slices.Index(names(workloads), name)] }

func names(ws []workload) []string {
	var s []string
	for _, w := range ws {
		s = append(s, w.name)
	}
	return s
}

// path is the URL of key k, which for a workload of one key is the only one.
func (w workload) path(k int) string {
	if w.keys == 1 {
		return fmt.Sprintf("/%d/hot%s", w.size, w.query)
	}
	return fmt.Sprintf("/%d/k%d%s", w.size, k, w.query)
}

// script returns what wrk.lua is to ask for: its MODE SIZE KEYS SALT.
func (w workload) script(salt string) []string {
	mode := "same"
	switch {
	case w.kind == miss:
		mode = "unique"
	case w.keys > 1:
		mode = "many"
	}
	return []string{mode, strconv.Itoa(w.size), strconv.Itoa(w.keys), salt}
}

// pattern repeats to make the bodies of origin and floor.
const pattern = "0123456789abcdef"

// A lab holds what all measurements share. It is used by one goroutine.
type lab struct {
	opts       options
	dir        string // this folder, with up, wrk.lua and the sources
	scratch    string // binaries and logs; removed at the end
	peerFiles  string // what peers keep; removed at the end
	progress   io.Writer
	origin     *process
	originPort int
	client     *http.Client     // to the origin
	identity   *rig.Certificate // of all servers by TLS
	salt       int              // makes the URLs of each run of misses new
}

// newLab builds and starts the origin.
func newLab(ctx context.Context, o options, scratch string, progress io.Writer) (*lab, error) {
	l := &lab{opts: o, scratch: scratch, progress: progress, client: newClient(nil)}
	text, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", modulePath+"/bench").Output()
	if err != nil {
		return nil, fmt.Errorf("finding the sources (run this inside the repository): %w", err)
	}
	l.dir = strings.TrimSpace(string(text))
	if l.identity, err = rig.NewCertificate(filepath.Join(scratch, "identity.pem")); err != nil {
		return nil, fmt.Errorf("making a certificate: %w", err)
	}
	binary := filepath.Join(scratch, "origin")
	if err := l.tool(ctx, "go", "build", "-o", binary, modulePath+"/bench/origin"); err != nil {
		return nil, fmt.Errorf("building the origin: %w", err)
	}
	if l.originPort, err = freePort(); err != nil {
		return nil, err
	}
	address := "127.0.0.1:" + strconv.Itoa(l.originPort)
	if l.origin, err = startProcess(o.loadCPU, filepath.Join(scratch, "origin.log"), nil, binary, "-addr", address); err != nil {
		return nil, err
	}
	s := server{process: l.origin, scheme: "http", port: l.originPort, client: l.client}
	if err := s.ready(ctx, "/count"); err != nil {
		l.close()
		return nil, fmt.Errorf("the origin %w", err)
	}
	return l, nil
}

func (l *lab) close() { l.origin.stop() }

// counts asks the origin what it served so far, and how much of it with 304.
func (l *lab) counts(ctx context.Context) (served, notModified int64, err error) {
	s := server{scheme: "http", port: l.originPort, client: l.client}
	a, err := s.get(ctx, "/count")
	if err != nil {
		return 0, 0, err
	}
	_, err = fmt.Sscan(string(a.body), &served, &notModified)
	return served, notModified, err
}

// measure runs w with all contenders, one after the other, round by round, and
// returns a row for each in their order. Those that cannot do it are left out.
func (l *lab) measure(ctx context.Context, w workload, all []contender) (table, error) {
	t := table{work: w.name}
	var contenders []contender
	for _, c := range all {
		if w.secure() && !c.secure {
			t.leftOut = append(t.leftOut, c.name)
			continue
		}
		contenders = append(contenders, c)
	}
	servers := make([]*server, len(contenders))
	samples := make([][]sample, len(contenders))
	problems := make([]string, len(contenders))
	defer func() {
		for _, s := range servers {
			if s != nil {
				s.stop()
			}
		}
	}()
	for round := range l.opts.rounds {
		for turn := range contenders {
			i := (turn + round) % len(contenders) // nobody always follows the same one
			if problems[i] != "" {
				continue
			}
			if ctx.Err() != nil {
				return table{}, context.Cause(ctx)
			}
			fmt.Fprintf(l.progress, "\r\033[K%s, round %d of %d: %s ", w.name, round+1, l.opts.rounds, contenders[i].name)
			got, err := l.turn(ctx, w, contenders[i], &servers[i])
			if err != nil {
				problems[i] = err.Error()
				continue
			}
			samples[i] = append(samples[i], got)
			if l.opts.verbose {
				fmt.Fprintf(l.progress, "%s\n", got)
			}
		}
	}
	fmt.Fprint(l.progress, "\r\033[K")
	for i, c := range contenders {
		t.rows = append(t.rows, newRow(c.name, samples[i], problems[i]))
	}
	return t, nil
}

// turn makes one measurement of c, starting it and filling it if need be.
// Misses get a new server every time: otherwise they would pile up in memory.
func (l *lab) turn(ctx context.Context, w workload, c contender, running **server) (sample, error) {
	if *running == nil {
		s, err := l.startServer(ctx, c, w)
		if err != nil {
			return sample{}, err
		}
		*running = s
		if err := l.prepare(ctx, w, c, s); err != nil {
			return sample{}, err
		}
	}
	got, err := l.load(ctx, w, c, *running)
	if w.kind == miss {
		(*running).stop()
		*running = nil
	}
	return got, err
}

// load loads s for the set time and reads the meters around that.
func (l *lab) load(ctx context.Context, w workload, c contender, s *server) (sample, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(l.opts.secs)*time.Second+15*time.Second)
	defer cancel()

	s.client.CloseIdleConnections() // only the load's are left
	served0, notModified0, err := l.counts(ctx)
	if err != nil {
		return sample{}, fmt.Errorf("origin: %w", err)
	}
	generate := l.wrk
	if w.secure() {
		generate = l.h2load
	}
	r, used, err := generate(ctx, w, s)
	if err != nil {
		return sample{}, err
	}
	served1, notModified1, err := l.counts(ctx)
	if err != nil {
		return sample{}, fmt.Errorf("origin: %w", err)
	}
	got := sample{
		report:      r,
		ticks:       used.ticks,
		memory:      used.memory,
		served:      served1 - served0,
		notModified: notModified1 - notModified0,
	}
	select {
	case <-s.exited:
		return got, fmt.Errorf("ended under load: %s", s.lastWords())
	default:
	}
	return got, got.check(w, c.name == nameFloor)
}

// wrk runs the program of that name against s for the set time, and returns
// what s has used meanwhile.
func (l *lab) wrk(ctx context.Context, w workload, s *server) (report, meter, error) {
	l.salt++
	argv := []string{
		"-c", l.opts.loadCPU, "wrk", "-t1", "-c" + strconv.Itoa(l.opts.conns), "-d" + strconv.Itoa(l.opts.secs) + "s",
		"--timeout", "5s", "-s", filepath.Join(l.dir, "wrk.lua"), s.url(w.path(0)), "--",
	}
	argv = append(argv, w.script(strconv.FormatInt(time.Now().Unix(), 36)+"-"+strconv.Itoa(l.salt))...)
	before := s.meter()
	text, err := exec.CommandContext(ctx, "taskset", argv...).CombinedOutput()
	used := s.meter()
	used.ticks -= before.ticks
	if err != nil {
		return report{}, used, fmt.Errorf("wrk: %w: %s", err, lastLine(text))
	}
	r, err := parseReport(string(text))
	return r, used, err
}

// prepare fills the cache for w and makes sure that it then does what w is
// there to measure, with the right bytes.
func (l *lab) prepare(ctx context.Context, w workload, c contender, s *server) error {
	if c.name == nameFloor {
		return s.expect(ctx, w.path(0), w.size)
	}
	switch w.kind {
	case hit:
		return l.untilHits(ctx, w, s)
	case miss:
		return l.untilStored(ctx, w, s)
	case revalidate:
		for range 3 {
			if err := s.expect(ctx, w.path(0), w.size); err != nil {
				return err
			}
		}
	}
	return nil
}

// untilHits asks for all keys until a whole pass reached the origin not once.
func (l *lab) untilHits(ctx context.Context, w workload, s *server) error {
	const passes = 6
	var moved int64
	for pass := range passes {
		before, _, err := l.counts(ctx)
		if err != nil {
			return err
		}
		if err := s.expectAll(ctx, w); err != nil {
			return err
		}
		after, _, err := l.counts(ctx)
		if err != nil {
			return err
		}
		if moved = after - before; moved == 0 && pass > 0 {
			return nil
		}
		if err := pause(ctx, 50*time.Millisecond<<pass); err != nil { // some store in their own time
			return err
		}
	}
	return fmt.Errorf("not hits: when asked again, %d of %d keys went to the origin", moved, w.keys)
}

// untilStored makes sure that a new URL goes to the origin once and is stored.
func (l *lab) untilStored(ctx context.Context, w workload, s *server) error {
	before, _, err := l.counts(ctx)
	if err != nil {
		return err
	}
	path := fmt.Sprintf("/%d/stored", w.size)
	const tries = 6
	var last int64
	for try := range tries {
		if err := s.expect(ctx, path, w.size); err != nil {
			return err
		}
		now, _, err := l.counts(ctx)
		if err != nil {
			return err
		}
		if try == 0 && now == before {
			return fmt.Errorf("not misses: a new URL did not reach the origin")
		}
		if try > 0 && now == last {
			return nil
		}
		last = now
		if err := pause(ctx, 50*time.Millisecond<<try); err != nil {
			return err
		}
	}
	return fmt.Errorf("not stored: a URL asked for %d times went to the origin each time", tries)
}

// pause waits, unless ctx ends first.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// newClient returns a client that asks for plain bytes and keeps connections. It
// speaks HTTP/2 if secure, its TLS, offers that; secure may be nil.
func newClient(secure *tls.Config) *http.Client {
	return &http.Client{
		Timeout: 10 * time.Second,
		Transport: &http.Transport{
			DisableCompression: true, MaxIdleConnsPerHost: warmers,
			TLSClientConfig: secure, ForceAttemptHTTP2: secure != nil && slices.Contains(secure.NextProtos, alpnHTTP2),
		},
	}
}

// warmers is how many connections fill a cache.
const warmers = 8

// A reply is a response that was read to its end.
type reply struct {
	status int
	body   []byte
}

// get asks for path and reads the whole answer.
func (s *server) get(ctx context.Context, path string) (reply, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url(path), nil)
	if err != nil {
		return reply{}, err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, body}, err
}

// expect asks for path and makes sure of status, length and bytes.
func (s *server) expect(ctx context.Context, path string, size int) error {
	r, err := s.get(ctx, path)
	switch {
	case err != nil:
		return err
	case r.status != http.StatusOK:
		return fmt.Errorf("GET %s: status %d", path, r.status)
	case len(r.body) != size:
		return fmt.Errorf("GET %s: %d bytes instead of %d", path, len(r.body), size)
	case !bytes.Equal(r.body, bytes.Repeat([]byte(pattern), size/len(pattern))):
		return fmt.Errorf("GET %s: wrong bytes", path)
	}
	return nil
}

// expectAll asks for every key of w; it returns the first error.
func (s *server) expectAll(ctx context.Context, w workload) error {
	var next atomic.Int64
	var group sync.WaitGroup
	errs := make([]error, warmers)
	for i := range errs {
		group.Go(func() {
			for k := next.Add(1) - 1; k < int64(w.keys) && errs[i] == nil; k = next.Add(1) - 1 {
				errs[i] = s.expect(ctx, w.path(int(k)), w.size)
			}
		})
	}
	group.Wait()
	if i := slices.IndexFunc(errs, func(err error) bool { return err != nil }); i >= 0 {
		return errs[i]
	}
	return nil
}
