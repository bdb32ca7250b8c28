//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/larderhq/larder/bench/rig"
)

// A bench holds an origin, a disk and what is known about both. One goroutine
// uses it, but for the tally and the resources.
type bench struct {
	opts      *options
	content   *rig.Content
	resources []*resource
	origin    *origin
	listener  net.Listener
	server    *http.Server
	scratch   string
	diskDir   string
	mounted   bool // a file system on diskDir
	random    *rand.Rand

	tally
	lives   int64
	starts  []time.Duration // from exec to the first answer
	late    int             // starts that took longer than they may
	unable  []string        // why it did not start, where it had to
	refused int             // starts that it refused, where it may
	told    map[fault]bool  // whether a refusal because of that is in notes
	notes   []string        // lines for the report
	check   string          // what larder check disk said last
}

// newBench starts the origin and makes a scratch folder.
func newBench(ctx context.Context, o *options) (b *bench, err error) {
	b = &bench{
		opts: o, resources: newResources(o.urls), content: rig.NewContent(o.seed, largest),
		random: rand.New(rand.NewPCG(o.seed, 0)),
	}
	b.origin = &origin{content: b.content, resources: map[string]*resource{}}
	for _, r := range b.resources {
		b.origin.resources[r.path] = r
	}
	if b.scratch, err = os.MkdirTemp(o.dir, "larder-crash-"); err != nil {
		return nil, err
	}
	b.diskDir = filepath.Join(b.scratch, "disk")
	if b.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, errors.Join(err, os.RemoveAll(b.scratch))
	}
	b.server = &http.Server{Handler: b.origin, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = b.server.Serve(b.listener) }() // it ends with close
	if o.larder == "" {
		if o.larder, err = rig.Build(ctx, b.scratch); err != nil {
			b.close()
			return nil, err
		}
	}
	if err := b.renew(); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

// renew gives the next life an empty disk.
func (b *bench) renew() error {
	if err := os.RemoveAll(b.diskDir); err != nil {
		return err
	}
	return os.Mkdir(b.diskDir, 0o755)
}

func (b *bench) close() {
	_ = b.server.Close()
	if err := b.unmount(); err != nil {
		fmt.Fprintln(os.Stderr, "crash:", err)
	}
	if b.opts.keep {
		fmt.Println("kept", b.scratch)
		return
	}
	if err := os.RemoveAll(b.scratch); err != nil {
		fmt.Fprintln(os.Stderr, "crash:", err)
	}
}

// start begins a life. What wrap holds goes before the command, as in
// strace larder serve.
func (b *bench) start(ctx context.Context, wrap ...string) (l *life, err error) {
	b.lives++
	b.origin.life.Store(b.lives)
	argv := append(slices.Clone(wrap), b.opts.larder, "serve", "http://"+b.listener.Addr().String(),
		"--listen", "127.0.0.1:0", "--log", "off", "--memory", b.opts.memory)
	if b.opts.disk != "" {
		argv = append(argv, "--disk", b.diskDir+":"+b.opts.disk)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	began := time.Now()
	running, err := rig.StartLarder(ctx, rig.Command{Argv: argv})
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{MaxIdleConnsPerHost: b.opts.clients, DisableCompression: true}
	l = &life{
		Larder: running, number: b.lives, transport: transport,
		client: &http.Client{Transport: transport, Timeout: 20 * time.Second},
	}
	if err := b.firstAnswer(ctx, l); err != nil {
		running.Kill()
		return nil, fmt.Errorf("no first answer: %w", err)
	}
	b.starts = append(b.starts, time.Since(began))
	return l, nil
}

// firstAnswer asks for something that is never stored.
func (b *bench) firstAnswer(ctx context.Context, l *life) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.URL+"/nothing", nil)
	if err != nil {
		return err
	}
	resp, err := l.client.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}

// load has all clients ask, n times each or until the life ends (n < 0). The
// caller waits for the result, after which none of them is left.
func (b *bench) load(ctx context.Context, l *life, n int) *sync.WaitGroup {
	var group sync.WaitGroup
	for i := range b.opts.clients {
		c := &client{
			bench: b, life: l, buf: make([]byte, 64<<10),
			random: rand.New(rand.NewPCG(b.opts.seed, uint64(l.number)<<16|uint64(i+1))),
		}
		group.Go(func() { c.run(ctx, n) })
	}
	return &group
}

// end kills larder and waits for the clients.
func (l *life) end(clients *sync.WaitGroup) {
	l.ending.Store(true)
	l.Kill()
	clients.Wait()
	l.transport.CloseIdleConnections()
}

// stop ends larder with SIGTERM while nobody asks.
func (l *life) stop() error {
	l.ending.Store(true)
	l.transport.CloseIdleConnections()
	return l.Stop(20 * time.Second)
}

// kills starts larder, loads it and kills it, again and again.
func kills(ctx context.Context, b *bench) error {
	told := time.Now()
	for n := range b.opts.kills {
		l, err := b.start(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			b.unable = append(b.unable, err.Error())
			if len(b.unable) > 3 {
				return errors.New("it does not start any more")
			}
			continue
		}
		if b.starts[len(b.starts)-1] > b.opts.limit {
			b.late++
		}
		clients := b.load(ctx, l, -1)
		err = rig.Pause(ctx, 20*time.Millisecond+time.Duration(b.random.Int64N(int64(380*time.Millisecond))))
		select {
		case <-l.Done():
			b.note(&b.failed, l, "larder ended by itself: %v", l.Err())
		default:
		}
		l.end(clients)
		if err != nil {
			return err
		}
		if time.Since(told) > 20*time.Second {
			told = time.Now()
			fmt.Fprintf(os.Stderr, "%d of %d kills, %d answers verified, %d wrong\n", n+1, b.opts.kills, b.verified.Load(), b.wrong.Load())
		}
	}
	return b.inspect(ctx, true)
}

// inspect runs larder check disk after the last life, and again after one that
// ended in peace. After that there must be no damage, or, if clean is false,
// none that larder check disk cannot repair.
func (b *bench) inspect(ctx context.Context, clean bool) error {
	if b.opts.disk == "" {
		return nil
	}
	before, _ := b.checkDisk(ctx)
	l, err := b.start(ctx)
	if err != nil {
		b.unable = append(b.unable, err.Error())
		return nil
	}
	b.load(ctx, l, 20).Wait()
	if err := l.stop(); err != nil {
		b.note(&b.failed, l, "larder ended with %v", err)
	}
	after, code := b.checkDisk(ctx)
	b.check = fmt.Sprintf("after the last kill: %s\n  after a clean end:   %s", before, after)
	if code == 1 && !clean {
		repaired, _ := b.checkDisk(ctx, "--repair")
		after, code = b.checkDisk(ctx)
		b.check += fmt.Sprintf("\n  with --repair:       %s\n  after that:          %s", repaired, after)
	}
	switch code {
	case 0:
		return nil
	case 1:
		return errors.New("larder check disk found damage where there must be none")
	}
	return fmt.Errorf("larder check disk failed: %s", after)
}

// checkDisk returns the last line that larder check disk printed, and its code.
func (b *bench) checkDisk(ctx context.Context, more ...string) (string, int) {
	cmd := exec.CommandContext(ctx, b.opts.larder, append([]string{"check", "disk", b.diskDir}, more...)...)
	out, err := cmd.CombinedOutput()
	code := cmd.ProcessState.ExitCode()
	lines := strings.Split(string(bytes.TrimSpace(out)), "\n")
	if err != nil && len(out) == 0 {
		return err.Error(), code
	}
	return fmt.Sprintf("%s (exit code %d)", lines[len(lines)-1], code), code
}

// report prints all there is to say.
func (b *bench) report(took time.Duration) {
	fmt.Printf("%d lives in %v: %d requests, %d answers verified, %d PUTs acknowledged, %d cut by a kill\n",
		b.lives, took.Round(time.Second), b.requests.Load(), b.verified.Load(), b.puts.Load(), b.cut.Load())
	fmt.Printf("hits %d, of which %d on what an earlier life stored: %.1f %% of all answers\n",
		b.hits.Load(), b.revived.Load(), 100*float64(b.revived.Load())/float64(max(b.verified.Load(), 1)))
	if slices.Sort(b.starts); len(b.starts) > 0 {
		fmt.Printf("from start to first answer: median %v, p99 %v, longest %v\n",
			b.starts[len(b.starts)/2].Round(time.Millisecond), b.starts[len(b.starts)*99/100].Round(time.Millisecond), b.starts[len(b.starts)-1].Round(time.Millisecond))
	}
	for _, n := range b.notes {
		fmt.Println(n)
	}
	if b.check != "" {
		fmt.Println("larder check disk:\n  " + b.check)
	}
	fmt.Printf("wrong octets %d, resurrected %d, client errors %d, failed starts %d, late starts %d, refused starts %d\n",
		b.wrong.Load(), b.resurrected.Load(), b.failed.Load(), len(b.unable), b.late, b.refused)
	if n := b.undone.Load(); n > 0 {
		fmt.Printf("excused: %d more came back where the disk refused, or lied about, what was written when the PUT was acknowledged\n", n)
	}
	for _, f := range slices.Concat(b.first[&b.wrong], b.first[&b.resurrected], b.first[&b.failed], b.unable[:min(len(b.unable), 6)]) {
		fmt.Println("  ", f)
	}
}

// verdict is an error unless everything was as it must be.
func (b *bench) verdict() error {
	if b.wrong.Load()+b.resurrected.Load()+b.failed.Load() > 0 || len(b.unable)+b.late > 0 {
		return fmt.Errorf("the promise is broken; -seed %d", b.opts.seed)
	}
	if b.verified.Load() == 0 {
		return errors.New("nothing was verified")
	}
	if b.opts.disk != "" && b.revived.Load() == 0 {
		return errors.New("no answer came from what an earlier life stored: this proves nothing")
	}
	return nil
}
