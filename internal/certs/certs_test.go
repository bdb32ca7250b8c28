package certs_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"io/fs"
	"log/slog"
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
	if _, err := certs.Authorities(key); err == nil || !strings.Contains(err.Error(), "no certificate") {
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
	file := filepath.Join(dir, "clients.pem")
	if err := os.WriteFile(file, clients.PEM, 0o600); err != nil {
		t.Fatal(err)
	}
	pool, err := certs.Authorities(file)
	if err != nil {
		t.Fatal(err)
	}
	c := k.Config(pool)
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
