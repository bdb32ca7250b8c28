//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/larderhq/larder/bench/rig"
)

// fileSets are the files that nginx and larder serve.
var fileSets = []set{
	{"1KiB", 1 << 10, 1000}, {"4KiB", 4 << 10, 1000}, {"64KiB", 64 << 10, 1000}, {"1MiB", 1 << 20, 250},
}

// files measures nginx and larder with the same folder.
func (l *lab) files(ctx context.Context) error {
	folder, err := l.writeFiles(ctx)
	if err != nil {
		return err
	}
	running, stop, err := all(ctx, []start{
		func(ctx context.Context) (*contender, error) { return l.startNginx(ctx, folder, "on") },
		func(ctx context.Context) (*contender, error) { return l.startNginx(ctx, folder, "off") },
		func(ctx context.Context) (*contender, error) { return l.startLarder(ctx, "larder", folder, nil) },
	})
	defer stop()
	if err != nil {
		return err
	}
	t := &table{l: l, names: []string{"nginx", "nginx, nopush off", "larder"}, bar: 1, third: wrkCPU}
	t.head(fmt.Sprintf("Files: nginx (sendfile, open_file_cache, one worker; tcp_nopush on and off) and larder serve FOLDER, from its cache.\n"+
		"wrk, %d connections, %d s each", l.opts.conns, l.opts.secs))
	for _, s := range l.opts.wanted(fileSets) {
		for _, c := range running {
			if err := l.fill(ctx, c, s); err != nil {
				return err
			}
		}
		for _, s := range []set{s, {s.folder, s.size, 1}} {
			err := t.rounds(ctx, s, func(ctx context.Context, who, round int) (figure, error) {
				return l.hitsOf(ctx, running[who], s, round)
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// writeFiles makes the folder. Files that were just written have no strong tags.
func (l *lab) writeFiles(ctx context.Context) (string, error) {
	folder := filepath.Join(l.scratch, "files")
	for _, s := range fileSets {
		if err := os.MkdirAll(filepath.Join(folder, s.folder), 0o755); err != nil {
			return "", err
		}
		for i := range s.count {
			if err := os.WriteFile(filepath.Join(folder, s.path(i)), l.content.Body(s.path(i), int64(s.size)), 0o644); err != nil {
				return "", err
			}
		}
	}
	return folder, rig.Pause(ctx, 3*time.Second)
}

// nginxConf is nginx as it serves files fastest.
const nginxConf = `%[1]s
worker_processes 1;
daemon off;
pid %[2]s/pid;
error_log %[2]s/error.log;
events { worker_connections 1024; }
http {
  access_log off;
  keepalive_requests 100000000;
  default_type application/octet-stream;
  sendfile on;
  tcp_nopush %[3]s;
  tcp_nodelay on;
  open_file_cache max=10000 inactive=1h;
  open_file_cache_valid 1h;
  client_body_temp_path %[2]s/body;
  proxy_temp_path %[2]s/proxy;
  fastcgi_temp_path %[2]s/fastcgi;
  uwsgi_temp_path %[2]s/uwsgi;
  scgi_temp_path %[2]s/scgi;
  server {
    listen %[4]s reuseport backlog=4096;
    root %[5]s;
  }
}
`

func (l *lab) startNginx(ctx context.Context, folder, nopush string) (*contender, error) {
	address, err := rig.FreeAddress()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(l.scratch, "nginx-")
	if err != nil {
		return nil, err
	}
	user := ""
	if os.Getuid() == 0 {
		user = "user root;" // so that it may read the folder
	}
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, nginxConf, user, dir, nopush, address, folder), 0o644); err != nil {
		return nil, err
	}
	argv := []string{"nginx", "-p", dir, "-e", filepath.Join(dir, "error.log"), "-c", file}
	return l.startPeer(ctx, "nginx", "http://"+address.String(), fileSets[0], argv, nil)
}
