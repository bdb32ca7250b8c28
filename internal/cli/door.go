package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/larderhq/larder/internal/daemon"
	"github.com/larderhq/larder/internal/front"
	"github.com/larderhq/larder/internal/observe"
)

// door is what all commands that serve have in common.
type door struct {
	Listen string `placeholder:"ADDR" default:"127.0.0.1:8000" help:"Listen at host:port (127.0.0.1:8000). Port 0 is any free one,\n:8000 means all addresses of this machine."`
	H2C    bool   `name:"h2c" help:"At --listen, speak HTTP/2 without TLS, too, with clients that begin with it,\nsuch as a load balancer."`
	secure
	Limit []string `placeholder:"NAME=VALUE" sep:"none" help:"Change what clients may take; may be repeated. larder limits lists\nwhat there is."`
	Log   string   `placeholder:"FORM" default:"auto" help:"Access log on stdout: text, json, off, or auto (text on a\nterminal, json elsewhere), which is the default."`
	Drain span     `placeholder:"TIME" default:"10s" help:"At SIGTERM, let running requests go on for so long (10s)."`
}

var logModes = []string{"auto", "text", "json", "off"}

func isLogMode(s string) bool { return slices.Contains(logModes, s) }

// apply checks the choices, and makes them in o.
func (s *door) apply(std *streams, o *daemon.Options) error {
	if !isLogMode(s.Log) {
		return usagef("--log %s: give one of %s", s.Log, strings.Join(logModes, ", "))
	}
	var most front.Limits
	if err := limits.apply(&most, s.Limit); err != nil {
		return err
	}
	https, err := s.https()
	if err != nil {
		return err
	}
	o.HTTPS, o.H2C, o.Listen, o.Drain, o.Limits, o.Notes = https, s.H2C, s.Listen, time.Duration(s.Drain), most, slog.New(notes{std.err})
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
	return nil
}

// addresses are where d listens, for people.
func addresses(d *daemon.Daemon) string {
	if at := d.SecureURL(); at != "" {
		return at + " and " + d.URL()
	}
	return d.URL()
}

// run serves until a signal comes.
func (s *door) run(std *streams, o *daemon.Options, explain func(error) error, greet func(*daemon.Daemon)) error {
	d, err := daemon.New(*o)
	if err != nil {
		return errors.Join(explain(err), closeLog(o.Log))
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	greet(d)

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

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// explainListen says what to do about an address that cannot be had.
func (s *door) explainListen(err error) error { return explainAddress("--listen", s.Listen, 8000, err) }

// explainAddress says what to do about an address that cannot be had, which a flag names and
// whose port is usually another one.
func explainAddress(flag, text string, port int, err error) error {
	var addr *net.AddrError
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return usagef("%s %s: the port is taken: stop what has it, or name another, such as 127.0.0.1:%d (port 0 is any free one)", flag, text, port+1)
	case errors.Is(err, syscall.EACCES):
		return usagef("%s %s: this user may not have the port: take one above 1023, such as 127.0.0.1:%d", flag, text, port)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return usagef("%s %s: this machine does not have the address: take 127.0.0.1:%d, or :%[3]d for all it has", flag, text, port)
	case errors.As(err, &dns) && dns.Name != "" && !strings.Contains(dns.Err, "unknown port"):
		return usagef("%s %s: the name %q cannot be found: give an address, such as 127.0.0.1:%d", flag, text, dns.Name, port)
	case errors.As(err, &addr), errors.As(err, &dns):
		return usagef("%s %q is no address: write host:port, such as 127.0.0.1:%d or :%[3]d", flag, text, port)
	}
	return usagef("%s %s: %v: name another address, such as 127.0.0.1:%d", flag, text, err, port)
}

// visible keeps what others had us say from moving a terminal's cursor.
func visible(r rune) rune {
	if r < ' ' && r != '\t' || r >= 0x7f && r < 0xa0 {
		return '?'
	}
	return r
}

// notes is a slog.Handler for people: a line says what, and nothing else.
type notes struct{ w io.Writer }

func (n notes) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

func (n notes) Handle(_ context.Context, r slog.Record) error {
	_, err := fmt.Fprintf(n.w, "larder: %s\n", strings.Map(visible, r.Message))
	return err
}

func (n notes) WithAttrs([]slog.Attr) slog.Handler { return n }
func (n notes) WithGroup(string) slog.Handler      { return n }
