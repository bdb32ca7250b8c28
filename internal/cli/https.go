package cli

import (
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
		case s.HSTS != nil:
			return nil, usagef("--hsts is about https: give a certificate too, with --cert FILE,KEY")
		}
		return nil, nil
	}
	h := &daemon.HTTPS{Listen: s.HTTPS, Clients: s.Clients, Redirect: s.Redirect}
	if s.HSTS != nil {
		if h.HSTS = time.Duration(*s.HSTS); h.HSTS < time.Second {
			return nil, usagef("--hsts %v: give a second or more, or leave it out", *s.HSTS)
		}
	}
	for _, text := range s.Cert {
		cert, key, _ := strings.Cut(text, ",")
		if cert == "" {
			return nil, usagef("--cert %q: name the file of a certificate and that of its key, as in cert.pem,key.pem", text)
		}
		h.Certs = append(h.Certs, certs.Pair{Cert: cert, Key: key})
	}
	return h, nil
}

// explain says what to do about a choice that cannot be carried out, or returns nil if it is
// about something else.
func (s *secure) explain(e *daemon.Error) error {
	switch e.Option {
	case "HTTPS":
		return explainAddress("--https", s.HTTPS, 8443, e.Err)
	case "Certs":
		return usagef("--cert: %v", e.Err)
	case "Clients":
		return usagef("--clients: %v", e.Err)
	}
	return nil
}
