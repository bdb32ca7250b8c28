package certs_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larderhq/larder/internal/certs"
	"github.com/larderhq/larder/internal/certs/certstest"
)

// given is the certificate that a client gets who asks for name, or why it gets none.
func given(t *testing.T, c *tls.Config, trust *tls.Config, name string) (serial string, err error) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", c)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		far, err := l.Accept()
		if err != nil {
			return
		}
		defer far.Close()
		_ = far.(*tls.Conn).Handshake() // the client says what came of it
		_, _ = io.Copy(io.Discard, far) // until it leaves
	}()
	trust = trust.Clone()
	trust.ServerName = name
	client, err := tls.Dial("tcp", l.Addr().String(), trust)
	if err != nil {
		return "", err
	}
	return client.ConnectionState().PeerCertificates[0].SerialNumber.String(), client.Close()
}

func serialOf(t *testing.T, cert, key string) string {
	t.Helper()
	c, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return c.Leaf.SerialNumber.String()
}

// Each client gets the certificate for the name it asks for; who asks for another one, or for
// none, gets the first.
func TestByName(t *testing.T) {
	a, dir := certstest.New(t), t.TempDir()
	var pairs []certs.Pair
	serials := map[string]string{}
	for name, names := range map[string][]string{"first": {"first.example"}, "wild": {"*.shop.example"}, "exact": {"de.shop.example", "fr.shop.example"}} {
		cert, key := a.Write(dir, name, names...)
		p := certs.Pair{Cert: cert, Key: key}
		serials[name] = serialOf(t, cert, key)
		if pairs = append(pairs, p); name == "first" {
			pairs[0], pairs[len(pairs)-1] = p, pairs[0]
		}
	}
	k, err := certs.Open(pairs, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"first.example": "first", "de.shop.example": "exact", "FR.shop.example": "exact", "it.shop.example": "wild",
		"shop.example": "first", "a.b.shop.example": "first", "other.example": "first", "": "first",
	} {
		trust := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}
		if got, err := given(t, k.Config(nil), trust, name); err != nil || got != serials[want] {
			t.Errorf("%q gets %s, %v; want %s", name, got, err, want)
		}
	}
	for _, c := range []struct {
		sni, host string
		want      bool
	}{
		{"de.shop.example", "de.shop.example", true},
		{"de.shop.example", "DE.shop.example.", true},
		{"de.shop.example", "fr.shop.example", true}, // of the same certificate: clients may coalesce
		{"de.shop.example", "it.shop.example", false},
		{"it.shop.example", "de.shop.example", true},
		{"first.example", "de.shop.example", false},
		{"unknown.example", "unknown.example", true},
		{"unknown.example", "first.example", true}, // whose certificate it was given
		{"unknown.example", "de.shop.example", false},
		{"", "de.shop.example", true},
	} {
		if got := k.Covers(c.sni, c.host); got != c.want {
			t.Errorf("Covers(%q, %q) is %v", c.sni, c.host, got)
		}
	}
}

// Files that change are read again; what cannot be used yet, or never, changes nothing.
func TestChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, dir := certstest.New(t), t.TempDir()
		cert, key := a.Write(dir, "c", "h.example")
		var notes bytes.Buffer
		k, err := certs.Open([]certs.Pair{{Cert: cert, Key: key}}, slog.New(slog.NewTextHandler(&notes, nil)))
		if err != nil {
			t.Fatal(err)
		}
		trust := &tls.Config{RootCAs: a.Pool, MinVersion: tls.VersionTLS12}
		holds := func(want string) {
			t.Helper()
			if got, err := given(t, k.Config(nil), trust, "h.example"); err != nil || got != want {
				t.Errorf("it is %s, %v; want %s (%s)", got, err, want, notes.String())
			}
		}
		before := serialOf(t, cert, key)
		holds(before)
		a.Write(dir, "c", "h.example")
		holds(before) // for a second
		time.Sleep(time.Second)
		after := serialOf(t, cert, key)
		holds(after)

		// The certificate of another key, as while both are being replaced.
		was, err := os.ReadFile(cert)
		if err != nil {
			t.Fatal(err)
		}
		other, _ := a.Issue(time.Now().Add(time.Hour), "h.example")
		for _, broken := range [][]byte{other, nil, []byte("no PEM")} {
			if err := os.WriteFile(cert, broken, 0o600); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				time.Sleep(time.Second)
				holds(after)
			}
		}
		if n := strings.Count(notes.String(), "stays in use"); n != 2 {
			t.Errorf("it was said %d times that something is wrong: %s", n, notes.String())
		}
		if err := errors.Join(os.Remove(cert), os.WriteFile(cert, was, 0o600)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		holds(after)

		// What was mended is wrong again: it is said again.
		if err := os.WriteFile(cert, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		holds(after)
		if n := strings.Count(notes.String(), "stays in use"); n != 3 {
			t.Errorf("it was said %d times that something is wrong: %s", n, notes.String())
		}
	})
}

// What cannot be used is said before anybody comes.
func TestOpenErrors(t *testing.T) {
	a, dir := certstest.New(t), t.TempDir()
	cert, key := a.Write(dir, "c", "h.example")
	_, otherKey := a.Write(dir, "d", "h.example")
	if _, err := certs.Open(nil, nil); err == nil {
		t.Error("no certificates are taken")
	}
	if _, err := certs.Open([]certs.Pair{{Cert: filepath.Join(dir, "none"), Key: key}}, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	if _, err := certs.Open([]certs.Pair{{Cert: cert, Key: otherKey}}, nil); err == nil || !strings.Contains(err.Error(), otherKey) {
		t.Errorf("another key: %v", err)
	}
	if _, err := certs.Open([]certs.Pair{{Cert: cert}}, nil); err == nil {
		t.Error("no key: nothing was said")
	}
	both := filepath.Join(dir, "both")
	c, k := a.Issue(time.Now().Add(-time.Minute), "h.example")
	if err := os.WriteFile(both, append(c, k...), 0o600); err != nil {
		t.Fatal(err)
	}
	var notes bytes.Buffer
	if _, err := certs.Open([]certs.Pair{{Cert: both}}, slog.New(slog.NewTextHandler(&notes, nil))); err != nil || !strings.Contains(notes.String(), "ended at") {
		t.Errorf("both in one file, and over: %v, %s", err, notes.String())
	}
	if _, err := certs.OpenTrust(key, nil); err == nil || !strings.Contains(err.Error(), "no certificate") {
		t.Errorf("authorities in a key: %v", err)
	}
}

// With authorities for clients nobody else gets in.
func TestClients(t *testing.T) {
	a, clients, dir := certstest.New(t), certstest.New(t), t.TempDir()
	cert, key := a.Write(dir, "c", "h.example")
	k, err := certs.Open([]certs.Pair{{Cert: cert, Key: key}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := k.Config(trusting(t, filepath.Join(dir, "clients.pem"), clients, nil))
	for name, test := range map[string]struct {
		certs []tls.Certificate
		ok    bool
	}{
		"none":     {nil, false},
		"of these": {[]tls.Certificate{clients.Pair("client")}, true},
		"of ours":  {[]tls.Certificate{a.Pair("client")}, false},
	} {
		trust := &tls.Config{RootCAs: a.Pool, MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12, Certificates: test.certs} // 1.3 would tell the client later
		if _, err := given(t, c, trust, "h.example"); (err == nil) != test.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// trusting has the file say that a is trusted.
func trusting(t *testing.T, file string, a *certstest.Authority, notes *slog.Logger) *certs.Trust {
	t.Helper()
	if err := os.WriteFile(file, a.PEM, 0o600); err != nil {
		t.Fatal(err)
	}
	trust, err := certs.OpenTrust(file, notes)
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

// meet has a client greet a server, and get its tickets. It tells whether an older one did for
// that, or why the client was not let in.
func meet(t *testing.T, server, client *tls.Config) (resumed bool, err error) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ended := make(chan error, 1)
	go func() {
		far, err := l.Accept()
		if err == nil {
			defer far.Close()
			_, err = far.Write([]byte("!")) // after the handshake, and the tickets
		}
		ended <- err
	}()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	c := tls.Client(near, client)
	n, rerr := c.Read(make([]byte, 1))
	if n == 1 {
		rerr = nil // what may have come with it is the end
	}
	if err := errors.Join(<-ended, rerr); err != nil {
		return false, err
	}
	return c.ConnectionState().DidResume, nil
}

// Who was let in by authorities that are trusted no more is not let in by a ticket either.
// Others go on by theirs.
func TestTrustChanges(t *testing.T) {
	for name, version := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, old, other, dir := certstest.New(t), certstest.New(t), certstest.New(t), t.TempDir()
				cert, key := a.Write(dir, "c", "h.example")
				k, err := certs.Open([]certs.Pair{{Cert: cert, Key: key}}, nil)
				if err != nil {
					t.Fatal(err)
				}
				var notes bytes.Buffer
				file := filepath.Join(dir, "clients.pem")
				server := k.Config(trusting(t, file, old, slog.New(slog.NewTextHandler(&notes, nil))))
				clients := map[*certstest.Authority]*tls.Config{}
				for _, from := range []*certstest.Authority{old, other} {
					clients[from] = &tls.Config{
						RootCAs: a.Pool, ServerName: "h.example", MinVersion: version, MaxVersion: version,
						Certificates: []tls.Certificate{from.Pair("client")}, ClientSessionCache: tls.NewLRUClientSessionCache(8),
					}
				}
				comes := func(from *certstest.Authority, in, resumed bool) {
					t.Helper()
					if r, err := meet(t, server, clients[from]); (err == nil) != in || r != resumed {
						t.Errorf("by ticket %v, %v; want by ticket %v, let in %v", r, err, resumed, in)
					}
				}
				say := func(text []byte) {
					t.Helper()
					if err := os.WriteFile(file, text, 0o600); err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Second)
				}
				comes(old, true, false)
				comes(old, true, true)
				comes(other, false, false)
				for range 2 {
					say(nil) // half a file, or none
					comes(old, true, true)
				}
				say(append(bytes.Clone(old.PEM), other.PEM...))
				comes(old, true, true)
				comes(other, true, false)
				say(other.PEM)
				comes(other, true, true)
				comes(old, false, false)
				if n := strings.Count(notes.String(), "stay in use"); n != 1 {
					t.Errorf("it was said %d times that something is wrong: %s", n, notes.String())
				}
			})
		})
	}
}

// A client shows the certificate that the server wants, as it is by now; or none.
func TestClientCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, clients, dir := certstest.New(t), certstest.New(t), t.TempDir()
		cert, key := clients.Write(dir, "client", "client")
		k, err := certs.Open([]certs.Pair{{Cert: cert, Key: key}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		var shown string
		server := &tls.Config{
			Certificates: []tls.Certificate{a.Pair("h.example")}, MinVersion: tls.VersionTLS12, ClientCAs: clients.Pool, ClientAuth: tls.VerifyClientCertIfGiven,
			VerifyConnection: func(s tls.ConnectionState) error {
				if shown = ""; len(s.PeerCertificates) > 0 {
					shown = s.PeerCertificates[0].SerialNumber.String()
				}
				return nil
			},
		}
		client := &tls.Config{RootCAs: a.Pool, ServerName: "h.example", MinVersion: tls.VersionTLS12, GetClientCertificate: k.GetClientCertificate}
		shows := func(want string) {
			t.Helper()
			if _, err := meet(t, server, client); err != nil || shown != want {
				t.Errorf("shown is %q, %v; want %q", shown, err, want)
			}
		}
		shows(serialOf(t, cert, key))
		clients.Write(dir, "client", "client")
		time.Sleep(time.Second)
		shows(serialOf(t, cert, key))
		server.ClientCAs = a.Pool // it asks for others, and is content with none
		shows("")
	})
}

// No ticket lets its client send a request before the handshake is over (RFC 8446 §2.3), where
// anybody could send it again (RFC 8470).
func TestDOS13_TicketsOfferNoEarlyData(t *testing.T) {
	a, dir := certstest.New(t), t.TempDir()
	cert, key := a.Write(dir, "c", "h.example")
	k, err := certs.Open([]certs.Pair{{Cert: cert, Key: key}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, tickets := k.Config(nil), 0
	c.WrapSession = func(state tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
		if tickets++; session.EarlyData {
			t.Error("a ticket offers early data")
		}
		return c.EncryptTicket(state, session)
	}
	trust := &tls.Config{RootCAs: a.Pool, ServerName: "h.example", MinVersion: tls.VersionTLS13, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	for _, want := range []bool{false, true} {
		if resumed, err := meet(t, c, trust); err != nil || resumed != want {
			t.Errorf("by ticket %v, %v", resumed, err)
		}
	}
	if tickets != 2 {
		t.Errorf("there were %d tickets", tickets)
	}
}
