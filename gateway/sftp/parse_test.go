package sftp

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func environment(home string, vars map[string]string) Env {
	return Env{Home: home, Get: func(k string) string { return vars[k] }}
}

func TestURLIsUnderstoodAsOpenSSHWould(t *testing.T) {
	env := environment(t.TempDir(), map[string]string{"USER": "jo", "SSH_AUTH_SOCK": "/run/agent", "LARDER_STORAGE_PASSWORD": "from env"})
	for url, want := range map[string]Options{
		"sftp://host":                     {Addr: "host:22", User: "jo", Root: "", Password: "from env"},
		"sftp://host/":                    {Addr: "host:22", User: "jo", Root: "", Password: "from env"},
		"sftp://me@host:2222/srv/a%20b":   {Addr: "host:2222", User: "me", Root: "/srv/a b", Password: "from env"},
		"sftp://me:p%40ss@host/~/x/y":     {Addr: "host:22", User: "me", Root: "x/y", Password: "p@ss"},
		"sftp://me@host/~":                {Addr: "host:22", User: "me", Root: "", Password: "from env"},
		"sftp://me@[2001:db8::1]:23//srv": {Addr: "[2001:db8::1]:23", User: "me", Root: "//srv", Password: "from env"},
	} {
		got, err := Parse(url, env)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		if got.Addr != want.Addr || got.User != want.User || got.Root != want.Root || got.Password != want.Password || got.Agent != "/run/agent" || got.HostKey == nil {
			t.Errorf("%s: %+v", url, got)
		}
	}
}

func TestBadURLIsRefusedWithoutItsPassword(t *testing.T) {
	for _, url := range []string{"", "host", "http://me:secret@host/x", "sftp:///x", "sftp://me:secret@host:port/x", "sftp://me:secret@host/x?y", "sftp://me:secret@host/%zz", "sftp:x", "sftp://me:secret@ho st/", "sftp:me:secret@host/", "sftp://me:secret/x@host/", "sftp://me:secret?@host/", "sftp://me:secret#@host/", "me:secret@host/", "sftp://me@host:0/", "sftp://me@host:99999/"} {
		_, err := Parse(url, environment(t.TempDir(), nil))
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", url, err)
		}
	}
	o, err := Parse("sftp://host/x", environment(t.TempDir(), nil))
	if err == nil {
		_, err = Open(o)
	}
	if err == nil || !strings.Contains(err.Error(), "user@host") {
		t.Errorf("nobody: %v", err)
	}
}

// private writes a key file.
func private(t *testing.T, path, passphrase string) ssh.PublicKey {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if passphrase != "" {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestKeysOfTheUserAreRead(t *testing.T) {
	home := t.TempDir()
	want := private(t, filepath.Join(home, ".ssh", "id_ecdsa"), "")
	private(t, filepath.Join(home, ".ssh", "id_ed25519"), "locked")
	o, err := Parse("sftp://me@host/", environment(home, nil))
	if err != nil {
		t.Fatal(err)
	}
	if len(o.Keys) != 1 || string(o.Keys[0].PublicKey().Marshal()) != string(want.Marshal()) {
		t.Errorf("%d keys", len(o.Keys))
	}
	broken := filepath.Join(home, ".ssh", "id_rsa")
	if err := os.WriteFile(broken, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Parse("sftp://me@host/", environment(home, nil)); err == nil || !strings.Contains(err.Error(), broken) {
		t.Errorf("a file that is no key: %v", err)
	}
}
