package cli

import (
	"crypto/tls"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/larderhq/larder/internal/admin"
	"github.com/larderhq/larder/internal/certs"
	"github.com/larderhq/larder/internal/certs/certstest"
	"github.com/larderhq/larder/internal/daemon"
)

// Those who are certified purge by https without a token, also at another one first, and see
// what they did; others learn what is missing.
func TestPurgeByHTTPS(t *testing.T) {
	ours, theirs, dir := certstest.New(t), certstest.New(t), t.TempDir()
	t.Setenv("LARDER_ADMIN_TOKEN", "")
	cert, key := ours.Write(dir, "server", "127.0.0.1")
	ca, clients := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "clients.pem")
	for file, text := range map[string][]byte{ca: ours.PEM, clients: theirs.PEM} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	open := func() *shop {
		return openShop(t, daemon.Options{Admin: "127.0.0.1:0", AdminCert: certs.Pair{Cert: cert, Key: key}, AdminClients: clients})
	}
	parent, edge := open(), open()
	shown, secret := theirs.Write(dir, "client", "client")
	keys := []string{"--ca", ca, "--cert", shown + "," + secret}
	first := []string{parent.ask("/a"), edge.ask("/a")}
	code, out, msg := try(append([]string{"purge", "/a", "--via", parent.socket, "--admin", edge.socket}, keys...)...)
	if code != 0 || strings.Count(out, " of /a: done; 1 object") != 2 {
		t.Fatalf("exit code %d, stdout %q, stderr %q", code, out, msg)
	}
	for i, s := range []*shop{parent, edge} {
		if got := s.ask("/a"); got == first[i] {
			t.Errorf("%s: %q is still there", s.socket, got)
		}
	}
	if code, out, msg := try(append([]string{"purges", "--admin", edge.socket}, keys...)...); code != 0 || strings.Count(out, "\n") != 1 {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, out, msg)
	}
	for args, want := range map[string]string{
		"--cert " + shown + "," + secret:             "certificate signed by unknown authority",
		"--ca " + ca:                                 "over TCP the admin API needs a token",
		"--ca " + ca + " --cert " + cert + "," + key: "--cert one of ours", // not of those that it trusts
	} {
		code, _, msg := try(append([]string{"purges", "--admin", edge.socket}, strings.Fields(args)...)...)
		if code == 0 || !strings.Contains(msg, want) {
			t.Errorf("%s: exit code %d, stderr %q", args, code, msg)
		}
	}
	plain := strings.TrimPrefix(edge.socket, "https://")
	t.Setenv("LARDER_ADMIN_TOKEN", strings.Repeat("t", admin.LeastToken))
	if code, _, msg := try("purges", "--admin", plain); code == 0 {
		t.Errorf("by http: exit code %d, stderr %q", code, msg)
	}
}

// What is about https, and of no use as it is, is said to be so.
func TestServeKeysMistakes(t *testing.T) {
	t.Setenv("LARDER_ADMIN_TOKEN", strings.Repeat("t", admin.LeastToken))
	a, dir := certstest.New(t), t.TempDir()
	cert, key := a.Write(dir, "c", "h.example")
	for args, want := range map[string]string{
		". --origin-ca ca.pem":                                                               "--origin-ca is for an https origin; . is none: leave it out",
		"http://127.0.0.1:1 --origin-cert c.pem":                                             "--origin-cert is for an https origin; http://127.0.0.1:1 is none: leave it out",
		"https://127.0.0.1:1 --origin-cert /none/c.pem":                                      "--origin-cert: open /none/c.pem: no such file or directory",
		"https://127.0.0.1:1 --origin-cert ,k":                                               `--origin-cert ",k": name the file of a certificate and that of its key, as in cert.pem,key.pem`,
		"https://127.0.0.1:1 --origin-ca " + key:                                             "--origin-ca: " + key + ": there is no certificate in it (PEM, with BEGIN CERTIFICATE)",
		". --admin-cert c.pem":                                                               "--admin-cert is for an admin API at host:port: name that with --admin",
		". --admin ./s --admin-cert c.pem":                                                   "--admin-cert is for an admin API at host:port: name that with --admin",
		". --admin 127.0.0.1:0 --admin-clients c.pem":                                        "--admin-clients is about https: give a certificate too, with --admin-cert FILE,KEY",
		". --admin 127.0.0.1:0 --admin-cert /none/c.pem":                                     "--admin-cert: open /none/c.pem: no such file or directory",
		". --admin 127.0.0.1:0 --admin-clients /none/c.pem --admin-cert " + cert + "," + key: "--admin-clients: open /none/c.pem: no such file or directory",
	} {
		code, out, msg := try(append(strings.Fields("serve --listen 127.0.0.1:0 --log off"), strings.Fields(args)...)...)
		if code != 2 || out != "" || !strings.HasSuffix(msg, "larder: "+want+"\n") {
			t.Errorf("%s: exit code %d, stdout %q, stderr\n%s\nwant\n%s", args, code, out, msg, want)
		}
	}
}

// By https a Larder is warmed as by http, if both ends know each other.
func TestWarmByHTTPS(t *testing.T) {
	a, dir := certstest.New(t), t.TempDir()
	cert, key := a.Write(dir, "c", "a.example")
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, a.PEM, 0o600); err != nil {
		t.Fatal(err)
	}
	s := openShop(t, daemon.Options{HTTPS: &daemon.HTTPS{Listen: "127.0.0.1:0", Certs: []certs.Pair{{Cert: cert, Key: key}}, Clients: ca}})
	list := write(t, "list", "http://a.example/1\nhttps://a.example/2\n")
	for _, test := range []struct {
		args string
		code int
		want string
	}{
		{"", 1, "certificate signed by unknown authority"},
		{"--ca " + ca, 1, "0 fetched"},
		{"--ca " + ca + " --cert " + cert + "," + key, 0, "2 fetched, 0 were there already, 0 failed"},
		{"--ca " + ca + " --cert " + cert + "," + key, 0, "0 fetched, 2 were there already, 0 failed"},
	} {
		code, _, msg := try(append([]string{"warm", list, "--to", s.secure}, strings.Fields(test.args)...)...)
		if code != test.code || !strings.Contains(msg, test.want) {
			t.Errorf("%q: exit code %d, stderr %q", test.args, code, msg)
		}
	}
}

// The flags of serve reach what serves: HTTP/3 is announced, and who is certified purges as it
// says.
func TestServeByHTTPS(t *testing.T) {
	t.Setenv("LARDER_ADMIN_TOKEN", "")
	a, dir := certstest.New(t), t.TempDir()
	cert, key := a.Write(dir, "c", "localhost", "127.0.0.1")
	pair, ca := cert+","+key, filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, a.PEM, 0o600); err != nil {
		t.Fatal(err)
	}
	p, lines := greeted(t, ".", "--listen", "127.0.0.1:0", "--https", "127.0.0.1:0", "--cert", pair, "--http3",
		"--admin", "127.0.0.1:0", "--admin-cert", pair, "--admin-clients", ca)
	said := regexp.MustCompile(`(?s) at (https://[0-9.:]+) and .*purge: larder (purge --admin https://[0-9.:]+);`).FindStringSubmatch(strings.Join(lines, "\n"))
	if said == nil {
		t.Fatalf("it says %q", lines)
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: a.Pool, MinVersion: tls.VersionTLS12}}
	defer tr.CloseIdleConnections()
	r, err := (&http.Client{Transport: tr}).Get(said[1])
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if got := r.Header.Get("Alt-Svc"); !strings.HasPrefix(got, `h3=":`) {
		t.Errorf("Alt-Svc is %q", got)
	}
	if code, _, msg := try(append(strings.Fields(said[2]), "/a", "--ca", ca, "--cert", pair)...); code != 0 {
		t.Errorf("%s: exit code %d, %s", said[2], code, msg)
	}
	p.stop(t)
}
