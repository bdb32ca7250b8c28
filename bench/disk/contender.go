//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/larderhq/larder/bench/rig"
)

// A contender is a cache with a disk that runs.
type contender struct {
	name string
	*rig.Process
	url   string
	dir   string // where it keeps bodies
	asHit func(http.Header) bool
}

// names are those of the contenders, in the order of the table.
var names = []string{"nginx", "nginx aio", "larder"}

// start runs a contender with an empty disk.
func (l *lab) start(ctx context.Context, name string, w workload) (*contender, error) {
	dir, err := os.MkdirTemp(l.scratch, strings.ReplaceAll(name, " ", "-")+"-")
	if err != nil {
		return nil, err
	}
	if name == "larder" {
		return l.startLarder(ctx, dir)
	}
	return l.startNginx(ctx, name, dir, w)
}

func (l *lab) startLarder(ctx context.Context, dir string) (*contender, error) {
	// Room for the set twice: a log that is cut in segments is never quite full.
	argv := []string{
		l.opts.larder, "serve", l.origin.URL, "--listen", "127.0.0.1:0", "--log", "off", "--memory", l.opts.memory,
		"--disk", fmt.Sprintf("%s:%dMiB", dir, 2*l.opts.setMiB+256),
	}
	running, err := rig.StartLarder(ctx, rig.Command{Argv: argv, CPUs: l.opts.serverCPU})
	if err != nil {
		return nil, err
	}
	return &contender{"larder", running.Process, running.URL, dir, func(h http.Header) bool {
		return strings.Contains(h.Get("Cache-Status"), "; hit")
	}}, nil
}

// nginxConf is nginx as it serves hits from disk fastest: sendfile, as many files
// kept open as it may, no log. Workers: two, so that one may wait for the disk.
const nginxConf = `%[1]s
worker_processes 2;
daemon off;
pid %[2]s/pid;
error_log %[2]s/error.log;
events { worker_connections 1024; }
http {
  access_log off;
  keepalive_requests 100000000;
  sendfile on;
  aio %[3]s;
  tcp_nodelay on;
  open_file_cache max=%[6]d inactive=1h;
  open_file_cache_valid 1h;
  client_body_temp_path %[2]s/body;
  proxy_temp_path %[2]s/proxy;
  fastcgi_temp_path %[2]s/fastcgi;
  uwsgi_temp_path %[2]s/uwsgi;
  scgi_temp_path %[2]s/scgi;
  proxy_cache_path %[2]s/cache levels=1:2 keys_zone=c:128m max_size=8g inactive=600m use_temp_path=off;
  upstream o { server %[4]s; keepalive 64; }
  server {
    listen %[5]s reuseport backlog=4096;
    location / {
      proxy_pass http://o;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_cache c;
      proxy_cache_key $request_uri;
      add_header X-Cache $upstream_cache_status;
    }
  }
}
`

func (l *lab) startNginx(ctx context.Context, name, dir string, w workload) (*contender, error) {
	address, err := rig.FreeAddress()
	if err != nil {
		return nil, err
	}
	user, aio := "", "off"
	if os.Getuid() == 0 {
		user = "user root;" // so that it needs no folders of its own
	}
	if name == "nginx aio" {
		aio = "threads"
	}
	if err := os.Mkdir(filepath.Join(dir, "cache"), 0o755); err != nil {
		return nil, err
	}
	conf := fmt.Sprintf(nginxConf, user, dir, aio, strings.TrimPrefix(l.origin.URL, "http://"), address, mayOpen()*8/10)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		return nil, err
	}
	p, err := rig.Start(rig.Command{
		Argv: []string{"nginx", "-p", dir, "-e", filepath.Join(dir, "error.log"), "-c", file}, CPUs: l.opts.serverCPU,
	})
	if err != nil {
		return nil, err
	}
	c := &contender{name, p, "http://" + address.String(), filepath.Join(dir, "cache"), func(h http.Header) bool { return h.Get("X-Cache") == "HIT" }}
	for range 100 {
		if _, err = l.get(c, w, 0, make([]byte, 64<<10)); err == nil {
			return c, nil
		}
		select {
		case <-p.Done():
			return nil, fmt.Errorf("%s: %w", name, p.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
	p.Kill()
	return nil, fmt.Errorf("%s: %w", name, err)
}

// mayOpen is how many files a process of ours may have open.
func mayOpen() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 1024
	}
	return int(min(limit.Cur, 400_000))
}

// get asks for an object, compares its octets and tells whether it was a hit.
func (l *lab) get(c *contender, w workload, number int, buf []byte) (hit bool, err error) {
	path := fmt.Sprintf("/%d/%d", w.size, number)
	req, err := http.NewRequest(http.MethodGet, c.url+path, nil)
	if err != nil {
		return false, err
	}
	req.Host = host
	resp, err := l.client.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return false, fmt.Errorf("GET %s: status %d", path, resp.StatusCode)
	}
	want, err := l.origin.Body(path)
	if err != nil {
		return false, err
	}
	if err := rig.Compare(resp.Body, want, buf); err != nil {
		return false, fmt.Errorf("GET %s: %w", path, err)
	}
	return c.asHit(resp.Header), nil
}

// fill asks for every object until a whole pass over them was hits alone, or has
// as many as -misses wants.
func (l *lab) fill(ctx context.Context, c *contender, w workload) error {
	const passes = 8
	var misses atomic.Int64
	for pass := range passes {
		misses.Store(0)
		var next atomic.Int64
		var group sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			group.Go(func() {
				buf := make([]byte, 64<<10)
				for n := next.Add(1) - 1; n < int64(w.count(l.opts.setMiB)) && errs[i] == nil && ctx.Err() == nil; n = next.Add(1) - 1 {
					hit, err := l.get(c, w, int(n), buf)
					if errs[i] = err; !hit {
						misses.Add(1)
					}
				}
			})
		}
		group.Wait()
		if err := errors.Join(append(errs, context.Cause(ctx))...); err != nil {
			return err
		}
		if 100*float64(misses.Load()) <= l.opts.misses*float64(w.count(l.opts.setMiB)) {
			return nil
		}
		if l.opts.verbose {
			fmt.Fprintf(os.Stderr, "%s %s: pass %d, %d misses of %d\n", w.name, c.name, pass+1, misses.Load(), w.count(l.opts.setMiB))
		}
		if err := rig.Pause(ctx, 500*time.Millisecond); err != nil { // what is written may take a moment
			return err
		}
	}
	return fmt.Errorf("%s does not keep the set: asked %d times, %d of %d were misses", c.name, passes, misses.Load(), w.count(l.opts.setMiB))
}
