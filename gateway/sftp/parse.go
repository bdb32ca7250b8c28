package sftp

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
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
	// No part of the URL is told: any may be one of a password that was not escaped.
	switch {
	case err != nil || u.Scheme != "sftp" || u.Hostname() == "" || u.Opaque != "":
		return Options{}, errors.New("sftp: the URL is not sftp://user@host/path, or a character in it is not escaped, like / as %2F")
	case u.RawQuery != "" || u.Fragment != "":
		return Options{}, errors.New("sftp: a query or fragment of the URL means nothing; escape ? as %3F and # as %23")
	}
	port := either(u.Port(), "22")
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return Options{}, errors.New("sftp: the port of the URL is not one of 1 to 65535")
	}
	o := Options{
		Addr:     net.JoinHostPort(u.Hostname(), port),
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
