package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/larderhq/larder/internal/daemon"
	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/front"
	"github.com/larderhq/larder/internal/observe"
)

type serve struct {
	Origin string `arg:"" name:"origin" help:"A URL such as http://127.0.0.1:8080, or a folder."`

	Listen  string      `placeholder:"ADDR" default:"127.0.0.1:8000" help:"Listen at host:port (127.0.0.1:8000). Port 0 is any free one,\n:8000 means all addresses of this machine."`
	Memory  size        `placeholder:"SIZE" default:"256MiB" help:"Keep at most so much (256MiB). The process needs up to 64MiB more."`
	Disk    []diskPlace `placeholder:"DIR:SIZE" sep:"none" help:"Keep more in this folder, also over restarts: at most so much.\nMay be repeated, once for each disk. Takes 24 octets of memory\nfor each response on disk, beside --memory."`
	Host    string      `placeholder:"NAME" help:"Ask the origin for this host, not for the one that the client\nasked for. Most https origins want their own name here."`
	Set     []string    `placeholder:"SWITCH=VALUE" sep:"none" help:"Turn a policy switch; may be repeated. larder switches lists them."`
	Limit   []string    `placeholder:"NAME=VALUE" sep:"none" help:"Change what clients may take; may be repeated. larder limits lists\nwhat there is."`
	Log     string      `placeholder:"FORM" default:"auto" help:"Access log on stdout: text, json, off, or auto (text on a\nterminal, json elsewhere), which is the default."`
	Explain bool        `help:"Say in Cache-Status which key was used and why. For debugging:\nclients learn how the site is built."`
	Drain   span        `placeholder:"TIME" default:"10s" help:"At SIGTERM, let running requests go on for so long (10s)."`
}

func (*serve) examples() [][2]string {
	return [][2]string{
		{"larder serve http://127.0.0.1:8080", "before a web server on this machine"},
		{"larder serve https://example.org --host example.org", "before one elsewhere"},
		{"larder serve .", "before the files in this folder"},
		{"larder serve . --set soft-ttl=10s --memory 1GiB", "with other choices"},
		{"larder serve http://127.0.0.1:8080 --disk /var/cache/larder:100GiB", "keep what memory has no room for"},
	}
}

func (*serve) more() string {
	return `An origin that is down is no error: Larder asks it when it has to.
SIGTERM or Ctrl-C stops it; a second one at once.`
}

var logModes = []string{"auto", "text", "json", "off"}

func isLogMode(s string) bool { return slices.Contains(logModes, s) }

// Run serves until a signal comes.
func (s *serve) Run(std *streams) error {
	o, err := s.options(std)
	if err != nil {
		return err
	}
	d, err := daemon.New(*o)
	if err != nil {
		return errors.Join(s.explain(err), closeLog(o.Log))
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	s.greet(std.err, d.URL())

	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	select {
	case err := <-ended:
		return err
	case <-signals:
		fmt.Fprintf(std.err, "larder: stopping; running requests may take %v more, a second signal stops at once\n", time.Duration(s.Drain))
		stop()
	}
	select {
	case err := <-ended:
		return err
	case <-signals:
		return errors.New("stopped at once; running requests were cut off")
	}
}

func closeLog(l *observe.Log) error {
	if l == nil {
		return nil
	}
	return l.Close(context.Background())
}

// options checks what was asked for.
func (s *serve) options(std *streams) (*daemon.Options, error) {
	if !isLogMode(s.Log) {
		return nil, usagef("--log %s: give one of %s", s.Log, strings.Join(logModes, ", "))
	}
	c := choices{Config: engine.Config{Explain: s.Explain}}
	if err := applySwitches(&c, s.Set); err != nil {
		return nil, err
	}
	if s.Host != "" {
		if !daemon.IsURL(s.Origin) {
			return nil, usagef("--host %s: a folder knows no hosts; leave it out", s.Host)
		}
		if !isHost(s.Host) {
			return nil, usagef("--host %q is no host: write it as example.org or example.org:8080", s.Host)
		}
	}
	var most front.Limits
	if err := limits.apply(&most, s.Limit); err != nil {
		return nil, err
	}
	o := &daemon.Options{
		Origin: s.Origin, Host: s.Host, Listen: s.Listen, Memory: int64(s.Memory), Disks: places(s.Disk), Drain: time.Duration(s.Drain),
		Engine: c.Config, Pages: c.pages, Limits: most, Notes: slog.New(notes{std.err}),
	}
	mode := s.Log
	if mode == "auto" {
		mode = "json"
		if isTerminal(std.out) {
			mode = "text"
		}
	}
	switch mode {
	case "text":
		o.Log = observe.NewLog(std.out, observe.Text)
	case "json":
		o.Log = observe.NewLog(std.out, observe.JSON)
	}
	return o, nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// greet says where it listens and what to try.
func (s *serve) greet(w io.Writer, url string) {
	what, but := s.Origin, "if it may be kept"
	if !daemon.IsURL(what) {
		what, but = "the folder "+what, fmt.Sprintf("for %v", daemon.FolderMaxAge)
	}
	fmt.Fprintf(w, "larder %s serves %s at %s (memory %v%s)\n", release, what, url, s.Memory, disksOf(s.Disk))
	fmt.Fprintf(w, "try: curl -i %s/   twice: the second answer says Cache-Status: larder; hit, %s\n", url, but)
}

// explain says what to do about a choice that cannot be carried out.
func (s *serve) explain(err error) error {
	var e *daemon.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Option {
	case "Listen":
		return s.explainListen(e.Err)
	case "Disks":
		return explainDisk(e.Err)
	}
	if _, port, perr := net.SplitHostPort(s.Origin); perr == nil && port != "" && errors.Is(err, fs.ErrNotExist) {
		return usagef("%q is neither a URL nor a folder: for a web server write http://%s", s.Origin, s.Origin)
	}
	msg := e.Error()
	if cause := errors.Unwrap(e.Err); cause != nil {
		msg = strings.TrimSuffix(msg, ": "+cause.Error()) // the system's words add nothing
	}
	return usagef("%s", msg)
}

// explainListen says what to do about an address that cannot be had.
func (s *serve) explainListen(err error) error {
	var addr *net.AddrError
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return usagef("--listen %s: the port is taken: stop what has it, or name another, such as 127.0.0.1:8001 (port 0 is any free one)", s.Listen)
	case errors.Is(err, syscall.EACCES):
		return usagef("--listen %s: this user may not have the port: take one above 1023, such as 127.0.0.1:8000", s.Listen)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return usagef("--listen %s: this machine does not have the address: take 127.0.0.1:8000, or :8000 for all it has", s.Listen)
	case errors.As(err, &dns) && dns.Name != "" && !strings.Contains(dns.Err, "unknown port"):
		return usagef("--listen %s: the name %q cannot be found: give an address, such as 127.0.0.1:8000", s.Listen, dns.Name)
	case errors.As(err, &addr), errors.As(err, &dns):
		return usagef("--listen %q is no address: write host:port, such as 127.0.0.1:8000 or :8000", s.Listen)
	}
	return usagef("--listen %s: %v: name another address, such as 127.0.0.1:8000", s.Listen, err)
}

// isHost tells whether s can be a Host field (RFC 9110 §7.2).
func isHost(s string) bool {
	u, err := url.Parse("http://" + s + "/")
	return err == nil && u.Host == s && u.Hostname() != "" && u.User == nil && u.Path == "/" &&
		!strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`"<>\^{|}`+"`", r) })
}

// notes is a slog.Handler for people: a line says what, and nothing else.
type notes struct{ w io.Writer }

func (n notes) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

func (n notes) Handle(_ context.Context, r slog.Record) error {
	_, err := fmt.Fprintf(n.w, "larder: %s\n", r.Message)
	return err
}

func (n notes) WithAttrs([]slog.Attr) slog.Handler { return n }
func (n notes) WithGroup(string) slog.Handler      { return n }
