//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larderhq/larder/bench/rig"
)

// rcloneAs is what rclone runs as: as it comes, and with what makes it fastest, which
// is above all not to compare the hash of what it reads.
var rcloneAs = []struct {
	name  string
	flags []string
}{
	{"rclone", nil},
	{"rclone, tuned", []string{"--no-checksum", "--no-modtime", "--use-server-modtime", "--buffer-size", "0", "--vfs-read-chunk-size", "0"}},
}

// remotes are who serves S3: rclone, and larder with a cache and without.
func (l *lab) remotes(s set) (names []string, starts []start) {
	for _, as := range rcloneAs {
		names = append(names, as.name)
		starts = append(starts, func(ctx context.Context) (*contender, error) { return l.startRclone(ctx, as.name, s, as.flags) })
	}
	what, env := "s3://"+bucket+"?endpoint="+l.s3.url, []string{"AWS_ACCESS_KEY_ID=x", "AWS_SECRET_ACCESS_KEY=x"}
	if l.opts.anonymous {
		what, env = what+"&anonymous=true", nil
	}
	for _, name := range []string{"larder gateway", "larder"} {
		names = append(names, name)
		starts = append(starts, func(ctx context.Context) (*contender, error) { return l.startLarder(ctx, name, what, env) })
	}
	return names, starts
}

// startRclone runs rclone serve http, which keeps no octets (--vfs-cache-mode off).
func (l *lab) startRclone(ctx context.Context, name string, s set, flags []string) (*contender, error) {
	address, err := rig.FreeAddress()
	if err != nil {
		return nil, err
	}
	keys := "access_key_id=x,secret_access_key=x"
	if l.opts.anonymous {
		keys = "access_key_id=,secret_access_key="
	}
	remote := fmt.Sprintf(":s3,provider=Other,endpoint='%s',env_auth=false,%s:%s", l.s3.url, keys, bucket)
	argv := append([]string{"rclone", "serve", "http", remote, "--addr", address.String(), "--vfs-cache-mode", "off", "--read-only", "--user-agent", name}, flags...)
	env := []string{
		"RCLONE_CONFIG=" + filepath.Join(l.scratch, "rclone.conf"), "RCLONE_CACHE_DIR=" + filepath.Join(l.scratch, "rclone"),
		"AWS_CA_BUNDLE=", // with one, it does not start
	}
	return l.startPeer(ctx, name, "http://"+address.String(), s, argv, env)
}

// signed tells whether requests to S3 are.
func (l *lab) signed() string {
	if l.opts.anonymous {
		return "unsigned"
	}
	return "signed"
}

// hits measures what is asked for again and again.
func (l *lab) hits(ctx context.Context) error {
	if err := l.startStorage(ctx); err != nil {
		return err
	}
	names, starts := l.remotes(hotSets[0])
	running, stop, err := all(ctx, starts)
	defer stop()
	if err != nil {
		return err
	}
	t := &table{l: l, names: names, bar: 3, third: s3Asked}
	t.head(fmt.Sprintf("S3, the same objects again: rclone serve http --vfs-cache-mode off (its default), tuned by\n%s, and larder serve s3://….\n"+
		"wrk, %d connections, %d s each; S3 is gofakes3, what it is asked is %s", strings.Join(rcloneAs[1].flags, " "), l.opts.conns, l.opts.secs, l.signed()))
	for _, s := range l.opts.wanted(hotSets) {
		for _, c := range running {
			if err := l.fill(ctx, c, s); err != nil {
				return err
			}
		}
		err := t.rounds(ctx, s, func(ctx context.Context, who, round int) (figure, error) {
			return l.hitsOf(ctx, running[who], s, round)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// workers is how many ask at a time for what was never asked for.
const workers = 16

// cold measures what is asked for once: each pass begins with a server that has just
// started, and was asked for one object of the folder, so that it knows the folder.
func (l *lab) cold(ctx context.Context) error {
	if err := l.startStorage(ctx); err != nil {
		return err
	}
	names, _ := l.remotes(coldSets[0])
	t := &table{l: l, names: names, bar: 1, third: s3Asked}
	t.head(fmt.Sprintf("S3, each object once, %d at a time, into an empty cache: rclone and larder as above (requests %s); every answer compared.\n"+
		"S3 and the client have the other CPU, which may be what bounds req/s", workers, l.signed()))
	for _, s := range l.opts.wanted(coldSets) {
		_, starts := l.remotes(s)
		err := t.rounds(ctx, set{s.folder, s.size, s.count - 1}, func(ctx context.Context, who, _ int) (figure, error) {
			c, err := starts[who](ctx)
			if err != nil {
				return figure{}, err
			}
			defer func() { _ = c.Stop(20 * time.Second) }() // all that was to be learnt from it was
			return l.pass(ctx, c, s)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// pass asks for all objects of a set but the first, which comes before.
func (l *lab) pass(ctx context.Context, c *contender, s set) (figure, error) {
	if _, err := l.get(ctx, c, s, 0, make([]byte, 64<<10)); err != nil {
		return figure{}, err
	}
	l.client.CloseIdleConnections()
	before, err := l.s3.asked(ctx, l.client, c.agent)
	if err != nil {
		return figure{}, err
	}
	var next atomic.Int64
	var group sync.WaitGroup
	errs := make([]error, workers)
	began, cpu := time.Now(), c.CPU()
	for i := range errs {
		group.Go(func() { errs[i] = l.once(ctx, c, s, &next) })
	}
	group.Wait()
	took, used := time.Since(began), c.CPU()-cpu
	if err := errors.Join(append(errs, context.Cause(ctx))...); err != nil {
		return figure{}, err
	}
	after, err := l.s3.asked(ctx, l.client, c.agent)
	n := float64(s.count - 1)
	return figure{cpu: used.Seconds() / n, rate: n / took.Seconds(), asked: float64(after-before) / n}, err
}

// once asks for one object after the other over one connection. It is no http.Client,
// since the CPU that it takes is missing to S3.
func (l *lab) once(ctx context.Context, c *contender, s set, next *atomic.Int64) error {
	host := strings.TrimPrefix(c.url, "http://")
	conn, err := net.Dial("tcp", host)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	in, buf := bufio.NewReaderSize(conn, 64<<10), make([]byte, 256<<10)
	for n := next.Add(1); n < int64(s.count); n = next.Add(1) {
		path := s.path(int(n))
		if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, host); err != nil {
			return err
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return fmt.Errorf("%s: GET %s: %w", c.name, path, err)
		}
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: GET %s: status %d", c.name, path, resp.StatusCode)
		}
		if err := rig.Compare(resp.Body, l.content.Body(path, int64(s.size)), buf); err != nil {
			return fmt.Errorf("%s: GET %s: %w", c.name, path, err)
		}
		if resp.Close {
			return fmt.Errorf("%s closes connections", c.name)
		}
	}
	return nil
}
