package cli

import (
	"crypto/tls"
	"strings"
	"time"

	"github.com/larderhq/larder/internal/certs"
	"github.com/larderhq/larder/internal/daemon"
)

// secure is how clients are served by https.
type secure struct {
	Cert     []string `placeholder:"FILE[,KEY]" sep:"none" help:"Serve https too, by this certificate and its key (PEM). May be repeated:\neach client gets the one for the name that it asks for. Files that change\nare read again."`
	HTTPS    string   `name:"https" placeholder:"ADDR" default:"127.0.0.1:8443" help:"Where, with --cert (127.0.0.1:8443)."`
	Clients  string   `placeholder:"FILE" help:"Let in by https only who has a certificate of the authorities in this file."`
	Redirect bool     `help:"Send clients that come by http to https."`
	HTTP3    bool     `name:"http3" help:"Serve HTTP/3 too, with --cert: at the address of --https, by UDP."`
	HSTS     *span    `name:"hsts" placeholder:"TIME" help:"Tell clients to come by https alone, for so long, as in 365d."`
}

// https is what was chosen, or nil for no https.
func (s *secure) https() (*daemon.HTTPS, error) {
	if len(s.Cert) == 0 {
		switch {
		case s.Clients != "":
			return nil, usagef("--clients is about https: give a certificate too, with --cert FILE,KEY")
		case s.Redirect:
			return nil, usagef("--redirect leads to https: give a certificate too, with --cert FILE,KEY")
		case s.HTTP3:
			return nil, usagef("--http3 needs https: give a certificate too, with --cert FILE,KEY")
		case s.HSTS != nil:
			return nil, usagef("--hsts is about https: give a certificate too, with --cert FILE,KEY")
		}
		return nil, nil
	}
	h := &daemon.HTTPS{Listen: s.HTTPS, Clients: s.Clients, Redirect: s.Redirect, HTTP3: s.HTTP3}
	if s.HSTS != nil {
		if h.HSTS = time.Duration(*s.HSTS); h.HSTS < time.Second {
			return nil, usagef("--hsts %v: give a second or more, or leave it out", *s.HSTS)
		}
	}
	for _, text := range s.Cert {
		p, err := pair("cert", text)
		if err != nil {
			return nil, err
		}
		h.Certs = append(h.Certs, p)
	}
	return h, nil
}

// explain says what to do about a choice that cannot be carried out, or returns nil if it is
// about something else.
func (s *secure) explain(e *daemon.Error) error {
	switch e.Option {
	case "HTTPS":
		return explainAddress("--https", s.HTTPS, 8443, e.Err)
	case "HTTP3":
		return explainAddress("--http3 at --https", s.HTTPS, 8443, e.Err)
	case "Certs":
		return usagef("--cert: %v", e.Err)
	case "Clients":
		return usagef("--clients: %v", e.Err)
	}
	return nil
}

// pair reads FILE[,KEY], which a flag has.
func pair(flag, text string) (certs.Pair, error) {
	cert, key, _ := strings.Cut(text, ",")
	if cert == "" {
		return certs.Pair{}, usagef("--%s %q: name the file of a certificate and that of its key, as in cert.pem,key.pem", flag, text)
	}
	return certs.Pair{Cert: cert, Key: key}, nil
}

// authenticate says how the origin and we know each other.
func (s *serve) authenticate(o *daemon.Options) (err error) {
	for flag, value := range map[string]string{"origin-cert": s.OriginCert, "origin-ca": s.OriginCA} {
		if value != "" && !strings.HasPrefix(s.Origin, "https://") {
			return usagef("--%s is for an https origin; %s is none: leave it out", flag, s.Origin)
		}
	}
	o.OriginCA = s.OriginCA
	if s.OriginCert != "" {
		o.OriginCert, err = pair("origin-cert", s.OriginCert)
	}
	return err
}

// controlKeys says how those who use the admin API and we know each other.
func (s *serve) controlKeys(o *daemon.Options) (err error) {
	switch {
	case s.AdminClients != "" && s.AdminCert == "":
		return usagef("--admin-clients is about https: give a certificate too, with --admin-cert FILE,KEY")
	case s.AdminCert == "":
		return nil
	case s.Admin == "" || s.Admin == "none" || strings.Contains(s.Admin, "/"):
		return usagef("--admin-cert is for an admin API at host:port: name that with --admin")
	}
	o.AdminClients = s.AdminClients
	o.AdminCert, err = pair("admin-cert", s.AdminCert)
	return err
}

// explainKeys is explain for what else has certificates.
func (s *serve) explainKeys(e *daemon.Error) error {
	switch e.Option {
	case "OriginCert":
		return usagef("--origin-cert: %v", e.Err)
	case "OriginCA":
		return usagef("--origin-ca: %v", e.Err)
	case "AdminCert":
		return usagef("--admin-cert: %v", e.Err)
	case "AdminClients":
		return usagef("--admin-clients: %v", e.Err)
	}
	return nil
}

// trust is how a command knows a Larder by https, and is known to it.
type trust struct {
	CA   string `name:"ca" placeholder:"FILE" help:"Believe an https:// address by a certificate of the authorities in this\nfile (PEM), not by those of the system."`
	Cert string `placeholder:"FILE[,KEY]" help:"Show this certificate where an https:// address asks for one."`
}

// config is what was chosen, or nil for what is usual. used says whether it is of any use.
func (t *trust) config(used bool) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	switch {
	case t.CA == "" && t.Cert == "":
		return nil, nil
	case !used:
		return nil, usagef("--ca and --cert are for an address that begins with https://; leave them out, or write it so")
	}
	if t.CA != "" {
		authorities, err := certs.OpenTrust(t.CA, nil)
		if err != nil {
			return nil, usagef("--ca: %v", err)
		}
		c.RootCAs = authorities.Pool()
	}
	if t.Cert != "" {
		p, err := pair("cert", t.Cert)
		if err != nil {
			return nil, err
		}
		keeper, err := certs.Open([]certs.Pair{p}, nil)
		if err != nil {
			return nil, usagef("--cert: %v", err)
		}
		c.GetClientCertificate = keeper.GetClientCertificate
	}
	return c, nil
}
