package sftp

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Env is what Parse finds around it.
type Env struct {
	// Get returns a variable of the environment, "" for none. Nil: os.Getenv.
	Get func(string) string
	// Home is the folder that .ssh is in. "": the user's.
	Home string
}

// Parse makes Options of sftp://user:password@host:port/path, as OpenSSH would fill
// them in: keys of the agent (SSH_AUTH_SOCK) and of id_ed25519, id_ecdsa and id_rsa in
// ~/.ssh, host keys of ~/.ssh/known_hosts, the user of the variable USER. Key files with a
// passphrase are left to the agent. A password that is not in the URL is that of
// LARDER_STORAGE_PASSWORD.
//
// The path is absolute; /~/x is x in the user's home folder on the server, and no path
// or / is the home folder itself. Errors do not contain the password.
func Parse(rawURL string, env Env) (Options, error) {
	if env.Get == nil {
		env.Get = os.Getenv
	}
	if env.Home == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return Options{}, fmt.Errorf("sftp: where is ~/.ssh? %w", err)
		}
		env.Home = home
	}
	u, err := url.Parse(rawURL)
	if err != nil {
		var e *url.Error
		if errors.As(err, &e) {
			err = e.Err // the rest has the URL in it, with the password
		}
		return Options{}, fmt.Errorf("sftp: the URL is malformed: %w", err)
	}
	switch {
	case u.Scheme != "sftp" || u.Hostname() == "" || u.Opaque != "":
		return Options{}, fmt.Errorf("%q is not sftp://user@host/path", u.Redacted())
	case u.RawQuery != "" || u.Fragment != "":
		return Options{}, fmt.Errorf("%q: a query or fragment means nothing here; escape ? as %%3F and # as %%23", u.Redacted())
	}
	o := Options{
		Addr:     net.JoinHostPort(u.Hostname(), either(u.Port(), "22")),
		User:     either(u.User.Username(), env.Get("USER")),
		Root:     root(u.Path),
		Password: env.Get("LARDER_STORAGE_PASSWORD"),
		Agent:    env.Get("SSH_AUTH_SOCK"),
		HostKey:  KnownHosts(filepath.Join(env.Home, ".ssh", "known_hosts")),
	}
	if p, ok := u.User.Password(); ok {
		o.Password = p
	}
	o.Keys, err = keys(filepath.Join(env.Home, ".ssh"))
	return o, err
}

func either(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// root is the folder that the path of a URL names.
func root(path string) string {
	if path == "/~" || path == "/" {
		return ""
	}
	if below, ok := strings.CutPrefix(path, "/~/"); ok {
		return below
	}
	return path
}

// keys reads the usual files. One that is not there, or has a passphrase, is left out.
func keys(folder string) ([]ssh.Signer, error) {
	var all []ssh.Signer
	for _, name := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
		path := filepath.Join(folder, name)
		pem, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, fmt.Errorf("sftp: a key cannot be read: %w", err)
		}
		signer, err := ssh.ParsePrivateKey(pem)
		if errors.As(err, new(*ssh.PassphraseMissingError)) {
			continue
		} else if err != nil {
			return nil, fmt.Errorf("sftp: %s is no private key: %w", path, err)
		}
		all = append(all, signer)
	}
	return all, nil
}
