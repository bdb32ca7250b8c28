//go:build linux

package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/larderhq/larder/bench/rig"
)

// An origin is a server whose parser is put to the test.
type origin struct {
	name    string
	version []string // the command that prints it; empty: it is in this process
	start   func(ctx context.Context, dir string, l *ledger) (*running, error)
}

// origins are all, in the order of the table.
var origins = []origin{
	{"go", nil, startGo},
	{"node", []string{"node", "--version"}, startNode},
	{"nginx", []string{"nginx", "-v"}, behind(nginxConf, "nginx", "-e", "stderr", "-p", "DIR", "-c", "CONF")},
	{"apache", []string{"apache2", "-v"}, behind(apacheConf, "apache2", "-f", "CONF", "-X", "-DFOREGROUND")},
	{"haproxy", []string{"haproxy", "-v"}, behind(haproxyConf, "haproxy", "-db", "-f", "CONF")},
	{"varnish", []string{"varnishd", "-V"}, behind(varnishConf, "varnishd", "-F", "-j", "none", "-n", "DIR/n", "-T", "none",
		"-a", "ADDRESS", "-f", "CONF", "-s", "malloc,64M")},
}

// errAbsent says that an origin is not installed.
var errAbsent = errors.New("not installed")

// about is the version of an origin, as it prints it.
func (o *origin) about(ctx context.Context) (string, error) {
	if o.version == nil {
		return strings.TrimPrefix(runtime.Version(), "go"), nil
	}
	program, err := find(o.version[0])
	if err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, program, o.version[1:]...).CombinedOutput()
	number := regexp.MustCompile(`[0-9]+\.[0-9]+\.[0-9]+`).Find(out)
	if err != nil || number == nil {
		return "", fmt.Errorf("%s does not say its version: %q, %w", program, out, err)
	}
	return string(number), nil
}

// find looks for a program also where servers are.
func find(program string) (string, error) {
	for _, candidate := range []string{program, "/usr/sbin/" + program, "/usr/local/sbin/" + program} {
		if path, err := exec.LookPath(candidate); err == nil {
			return path, nil
		}
	}
	if program == "apache2" {
		return find("httpd")
	}
	return "", errAbsent
}

// A running is an origin that runs.
type running struct {
	address string
	echo    *echo        // nil: there is none
	process *rig.Process // nil: it is in this process
}

// stop ends it. When it returns, all that it saw was told.
func (r *running) stop() {
	if r.process != nil {
		_ = r.process.Stop(5 * time.Second) // how it ends is of no interest
	}
	if r.echo != nil {
		_ = r.echo.Close() // likewise
	}
}

func startGo(_ context.Context, _ string, l *ledger) (*running, error) {
	e, err := newEcho(l.saw)
	if err != nil {
		return nil, err
	}
	return &running{address: e.address, echo: e}, nil
}

//go:embed echo.js
var script []byte

// startNode runs echo.js, which says on stderr where it listens and what it saw.
func startNode(ctx context.Context, dir string, l *ledger) (*running, error) {
	file := filepath.Join(dir, "echo.js")
	if err := os.WriteFile(file, script, 0o644); err != nil {
		return nil, err
	}
	port := make(chan string, 1)
	p, err := rig.Start(rig.Command{Argv: []string{"node", file}, Line: func(line string) {
		if at, ok := strings.CutPrefix(line, "listening "); ok {
			port <- at
			return
		}
		r, err := parseRecord(line)
		if err != nil {
			l.find(desync, nil, "node said %v", err)
			return
		}
		l.saw(r)
	}})
	if err != nil {
		return nil, err
	}
	select {
	case at := <-port:
		return &running{address: "127.0.0.1:" + at, process: p}, nil
	case <-p.Done():
		return nil, fmt.Errorf("node ended: %w", p.Err())
	case <-ctx.Done():
	case <-time.After(10 * time.Second):
	}
	p.Kill()
	return nil, fmt.Errorf("node did not say within 10 s where it listens: %w", ctx.Err())
}

// behind starts a proxy with an echo behind it. In conf and argv, DIR, CONF,
// ADDRESS and ECHO stand for what they say, and USER for who may read the folder.
func behind(conf string, argv ...string) func(context.Context, string, *ledger) (*running, error) {
	return func(ctx context.Context, dir string, l *ledger) (*running, error) {
		e, err := newEcho(l.saw)
		if err != nil {
			return nil, err
		}
		r, err := startProxy(ctx, dir, e.address, conf, argv)
		if err != nil {
			_ = e.Close() // the other error says more
			return nil, err
		}
		r.echo = e
		return r, nil
	}
}

func startProxy(ctx context.Context, dir, echo, conf string, argv []string) (*running, error) {
	free, err := rig.FreeAddress()
	if err != nil {
		return nil, err
	}
	address := free.String()
	host, port, err := net.SplitHostPort(echo)
	if err != nil {
		return nil, err
	}
	user := ""
	if os.Getuid() == 0 {
		user = "user root;" // nginx would take another, which may not read our folder
	}
	file := filepath.Join(dir, "conf")
	fill := strings.NewReplacer("DIR", dir, "CONF", file, "ADDRESS", address, "ECHOHOST", host, "ECHOPORT", port, "ECHO", echo, "USER;", user)
	if err := os.WriteFile(file, []byte(fill.Replace(conf)), 0o644); err != nil {
		return nil, err
	}
	full := make([]string, len(argv))
	for i, a := range argv {
		full[i] = fill.Replace(a)
	}
	if full[0], err = find(full[0]); err != nil {
		return nil, err
	}
	p, err := rig.Start(rig.Command{Argv: full})
	if err != nil {
		return nil, err
	}
	for range 200 {
		if c, err := net.Dial("tcp", address); err == nil {
			_ = c.Close() // it listens, which is all we wanted
			return &running{address: address, process: p}, nil
		}
		select {
		case <-p.Done():
			return nil, fmt.Errorf("%s ended: %w", argv[0], p.Err())
		case <-ctx.Done():
			p.Kill()
			return nil, context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
	p.Kill()
	return nil, fmt.Errorf("%s does not listen at %s after 10 s", argv[0], address)
}

// What the proxies are told: to pass everything on as they understood it, over
// connections that many clients share, and to keep nothing.
const (
	nginxConf = `USER;
worker_processes 2;
daemon off;
pid DIR/pid;
error_log DIR/error.log crit;
events { worker_connections 1024; }
http {
  access_log off;
  keepalive_requests 100000000;
  keepalive_timeout 600s;
  underscores_in_headers on;
  client_max_body_size 0;
  client_body_temp_path DIR/body;
  proxy_temp_path DIR/proxy;
  fastcgi_temp_path DIR/fastcgi;
  uwsgi_temp_path DIR/uwsgi;
  scgi_temp_path DIR/scgi;
  upstream o { server ECHO; keepalive 64; }
  server {
    listen ADDRESS;
    location / {
      proxy_pass http://o;
      proxy_http_version 1.1;
      proxy_request_buffering off;
      proxy_next_upstream off;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
    }
  }
}
`

	apacheConf = `ServerRoot DIR
ServerName 127.0.0.1
Listen ADDRESS
PidFile DIR/pid
ErrorLog DIR/error.log
LogLevel crit
DefaultRuntimeDir DIR
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
LoadModule proxy_http_module /usr/lib/apache2/modules/mod_proxy_http.so
KeepAlive On
KeepAliveTimeout 600
MaxKeepAliveRequests 0
ServerLimit 1
ThreadLimit 128
ThreadsPerChild 128
MaxRequestWorkers 128
AllowEncodedSlashes NoDecode
ProxyPreserveHost On
ProxyPass "/" "http://ECHO/" nocanon
`

	haproxyConf = `global
  nbthread 2
  maxconn 2000
defaults
  mode http
  timeout connect 5s
  timeout client 10m
  timeout server 1m
  timeout http-keep-alive 10m
  http-reuse always
frontend fe
  bind ADDRESS
  default_backend be
backend be
  server s1 ECHO
`

	varnishConf = `vcl 4.1;
backend default { .host = "ECHOHOST"; .port = "ECHOPORT"; }
sub vcl_recv { return (pass); }
sub vcl_backend_fetch { return (fetch); }
`
)
