package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/larderhq/larder/gateway/file"
	"github.com/larderhq/larder/internal/admin"
	"github.com/larderhq/larder/internal/daemon"
	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/storage"
)

type serve struct {
	Origin string `arg:"" name:"origin" help:"A URL such as http://127.0.0.1:8080, a folder, or storage such as s3://bucket."`

	Memory size        `placeholder:"SIZE" default:"256MiB" help:"Keep at most so much (256MiB). The process needs up to 64MiB more."`
	Disk   []diskPlace `placeholder:"DIR:SIZE" sep:"none" help:"Keep more in this folder, also over restarts: at most so much.\nMay be repeated, once for each disk. Takes 24 octets of memory\nfor each response on disk, beside --memory."`
	Host   string      `placeholder:"NAME" help:"Ask the origin for this host, not for the one that the client\nasked for. Most https origins want their own name here."`
	Set    []string    `placeholder:"SWITCH=VALUE" sep:"none" help:"Turn a policy switch; may be repeated. larder switches lists them."`
	door
	storageFlags
	OriginCert   string   `placeholder:"FILE[,KEY]" help:"Show an https origin this certificate if it asks for one (PEM). Files\nthat change are read again."`
	OriginCA     string   `name:"origin-ca" placeholder:"FILE" help:"Believe an https origin by a certificate of the authorities in this file,\nnot by those of the system."`
	Admin        string   `placeholder:"ADDR" help:"Take purges, and notifications of storage, at this socket, as in\n/run/larder.sock, or at host:port with the token in the environment\nas LARDER_ADMIN_TOKEN; none: nowhere. By default at a socket of this\nuser's, where larder purge looks for it."`
	AdminCert    string   `placeholder:"FILE[,KEY]" help:"Have the admin API at host:port asked by https, by this certificate."`
	AdminClients string   `placeholder:"FILE" help:"Let in there only who has a certificate of the authorities in this file;\na token is then needed only if there is one."`
	PurgeFrom    []string `placeholder:"ADDRS" sep:"none" help:"Let clients at these addresses, as 10.0.0.0/8, purge by PURGE, BAN and\nthe like (docs/habits.md). May be repeated. With a token in the\nenvironment as LARDER_PURGE_TOKEN, whoever sends that may, too."`
	Hot          string   `placeholder:"FILE" help:"At the end, write the URLs of what was kept to this file, for larder\nwarm."`
	Explain      bool     `help:"Say in Cache-Status which key was used and why. For debugging:\nclients learn how the site is built."`

	kinds storage.Kinds
}

func (*serve) examples() [][2]string {
	return [][2]string{
		{"larder serve http://127.0.0.1:8080", "before a web server on this machine"},
		{"larder serve https://example.org --host example.org", "before one elsewhere"},
		{"larder serve http://127.0.0.1:8080 --cert cert.pem,key.pem --https :443", "by https too; docs/https.md"},
		{"larder serve .", "before the files in this folder"},
		{"larder serve s3://bucket/prefix", "before storage; docs/gateway.md has all kinds"},
		{"larder serve . --set soft-ttl=10s --memory 1GiB", "with other choices"},
		{"larder serve http://127.0.0.1:8080 --disk /var/cache/larder:100GiB", "keep what memory has no room for"},
	}
}

func (*serve) more() string {
	return `An origin that is down is no error: Larder asks it when it has to.
SIGTERM or Ctrl-C stops it; a second one at once.

` + kindsOfStorage
}

// Run serves until a signal comes.
func (s *serve) Run(std *streams, kinds storage.Kinds) error {
	s.kinds = kinds
	o, err := s.options(std)
	if err != nil {
		return err
	}
	return s.run(std, o, s.explain, func(d *daemon.Daemon) { s.greet(std.err, d) })
}

// options checks what was asked for.
func (s *serve) options(std *streams) (*daemon.Options, error) {
	c := choices{Config: engine.Config{Explain: s.Explain}}
	if err := applySwitches(&c, s.Set); err != nil {
		return nil, err
	}
	if s.Host != "" {
		if !storage.IsOrigin(s.Origin) {
			return nil, usagef("--host %s: storage knows no hosts; leave it out", s.Host)
		}
		if !isHost(s.Host) {
			return nil, usagef("--host %q is no host: write it as example.org or example.org:8080", s.Host)
		}
	}
	o := &daemon.Options{
		Origin: s.Origin, Host: s.Host, Memory: int64(s.Memory), Disks: places(s.Disk), Engine: c.Config, Pages: c.pages,
	}
	if err := s.authenticate(o); err != nil {
		return nil, err
	}
	if storage.IsOrigin(s.Origin) {
		if name := s.used(); name != "" {
			return nil, usagef("--%s is for storage; %s is a web server, which decides by itself", name, s.Origin)
		}
	} else if err := s.open(s.Origin, s.kinds, o); err != nil {
		return nil, err
	}
	if f, ok := o.Storage.(*file.Source); ok {
		for _, d := range s.Disk {
			if f.Holds(d.dir) {
				return nil, errors.Join(usagef("--disk %s: it is inside the folder that is served, and would be served with it; name one outside of %s", d.dir, s.Origin), f.Close())
			}
		}
	}
	err := s.control(o)
	if err == nil {
		err = s.apply(std, o) // last, for it starts the log
	}
	if err != nil {
		if o.Storage != nil {
			err = errors.Join(err, o.Storage.Close())
		}
		return nil, err
	}
	return o, nil
}

// control says who may purge, and where.
func (s *serve) control(o *daemon.Options) error {
	switch o.Admin, o.AdminToken = s.Admin, os.Getenv("LARDER_ADMIN_TOKEN"); s.Admin {
	case "":
		o.Admin = daemon.Usual
	case "none":
		o.Admin = ""
	}
	if err := s.controlKeys(o); err != nil {
		return err
	}
	var from []netip.Prefix
	for _, text := range s.PurgeFrom {
		p, ok := network(text)
		if !ok {
			return usagef("--purge-from %q is no address: write it as 127.0.0.1, 10.0.0.0/8 or fd00::/8", text)
		}
		from = append(from, p)
	}
	if from != nil {
		o.PurgeFrom = among(from)
	}
	switch o.PurgeToken = os.Getenv("LARDER_PURGE_TOKEN"); {
	case o.PurgeToken != "" && len(o.PurgeToken) < admin.LeastToken:
		return usagef("LARDER_PURGE_TOKEN: it can be guessed: give %d characters or more, as from openssl rand -hex 16", admin.LeastToken)
	case !admin.Sendable(o.PurgeToken):
		return usagef("LARDER_PURGE_TOKEN: no client can send it: it has a blank in it, or what is not ASCII; take one as from openssl rand -hex 16")
	}
	o.Hot = s.Hot
	return s.checkHot()
}

// network reads addresses, or one. A zone, and IPv4 written as IPv6, would be compared with
// nothing, or with too much.
func network(text string) (p netip.Prefix, ok bool) {
	p, err := netip.ParsePrefix(text)
	if a, single := netip.ParseAddr(text); single == nil && a.Zone() == "" {
		p, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	return p.Masked(), err == nil && !p.Addr().Is4In6()
}

// checkHot finds out before hours have passed whether the file can be written.
func (s *serve) checkHot() error {
	if s.Hot == "" {
		return nil
	}
	dir := filepath.Dir(s.Hot)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return usagef("--hot %s: there is no folder %s: create it, or name a file elsewhere", s.Hot, dir)
	}
	if info, err := os.Stat(s.Hot); err == nil && !info.Mode().IsRegular() {
		return usagef("--hot %s: it is there, and no file: name another", s.Hot)
	}
	return nil
}

// greet says where it listens and what to try.
func (s *serve) greet(w io.Writer, d *daemon.Daemon) {
	what, but := s.Origin, "if it may be kept"
	if !storage.IsOrigin(what) {
		what, but = storage.Show(what), "as long as it is fresh"
	}
	fmt.Fprintf(w, "larder %s serves %s at %s (memory %v%s)\n", release, what, addresses(d), s.Memory, disksOf(s.Disk))
	if !storage.IsOrigin(s.Origin) {
		fmt.Fprintln(w, s.tell())
	}
	if at := d.AdminAt(); at != "" {
		fmt.Fprintf(w, "purge: larder purge%s; the admin API is at %s\n", s.adminHint(at), at)
	}
	fmt.Fprintf(w, "try: curl -i %s/   twice: the second answer says Cache-Status: larder; hit, %s\n", cmp.Or(d.SecureURL(), d.URL()), but)
}

// adminHint is what larder purge has to be told to find us.
func (s *serve) adminHint(at string) string {
	if usual, err := admin.Place("8000", false); err == nil && usual == at {
		return ""
	}
	return " --admin " + at
}

// explain says what to do about a choice that cannot be carried out.
func (s *serve) explain(err error) error {
	var e *daemon.Error
	if !errors.As(err, &e) {
		return err
	}
	if err := s.secure.explain(e); err != nil {
		return err
	}
	if err := s.explainKeys(e); err != nil {
		return err
	}
	switch e.Option {
	case "Listen":
		return s.explainListen(e.Err)
	case "Disks":
		return explainDisk(e.Err)
	case "Admin":
		if errors.Is(e.Err, syscall.EADDRINUSE) {
			return usagef("--admin %s: the port is taken: stop what has it, or name another", s.Admin)
		}
		return usagef("--admin %s: %v", s.Admin, e.Err)
	}
	return explainSource(s.Origin, e.Err)
}

// isHost tells whether s can be a Host field (RFC 9110 §7.2).
func isHost(s string) bool {
	u, err := url.Parse("http://" + s + "/")
	return err == nil && u.Host == s && u.Hostname() != "" && u.User == nil && u.Path == "/" &&
		!strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`"<>\^{|}`+"`", r) })
}
