package sftp

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// KnownHosts accepts the host keys in the file at path, which has the format of
// OpenSSH's known_hosts. It is read for every connection, so that it can be mended
// while the Source is open. A file that does not exist knows no hosts. Errors tell
// the key that the server has and what to do, and wrap those of x/crypto's knownhosts.
func KnownHosts(path string) ssh.HostKeyCallback {
	return func(host string, remote net.Addr, key ssh.PublicKey) error {
		known, err := knownhosts.New(path)
		if errors.Is(err, fs.ErrNotExist) {
			known, err = func(string, net.Addr, ssh.PublicKey) error { return &knownhosts.KeyError{} }, nil
		}
		if err != nil {
			return fmt.Errorf("the host keys in %s cannot be read: %w", path, err)
		}
		return advise(known(host, remote, key), path, host, key)
	}
}

// advice ends with what to do, not with what came before.
type advice struct {
	text string
	err  error
}

func (a *advice) Error() string { return a.text }
func (a *advice) Unwrap() error { return a.err }

// advise says what to do about an error of knownhosts.
func advise(err error, path, addr string, key ssh.PublicKey) error {
	var unknown *knownhosts.KeyError
	if !errors.As(err, &unknown) {
		return err
	}
	shown := fmt.Sprintf("its %s key is %s", key.Type(), ssh.FingerprintSHA256(key))
	if len(unknown.Want) > 0 {
		w := unknown.Want[0]
		return fmt.Errorf("THE HOST KEY OF %s CHANGED: %s, but %s has another in line %d. "+
			"Somebody may be between you and the server. Only if you know that its key was replaced, "+
			"remove the old one by \"ssh-keygen -R '%s'\": %w",
			addr, shown, w.Filename, w.Line, knownhosts.Normalize(addr), err)
	}
	return &advice{fmt.Sprintf("the host %s is not known: %s. If that is the fingerprint that its owner tells you, "+
		"add this line to %s: %s", addr, shown, path, knownhosts.Line([]string{addr}, key)), err}
}

// algorithms are those of the host keys that check knows for the host; nil if it
// knows none, or does not tell. A server asked for others might show a key
// that nobody knows, though it has one that is known.
func algorithms(check ssh.HostKeyCallback, addr string, remote net.Addr) []string {
	var e *knownhosts.KeyError
	if !errors.As(check(addr, remote, nobody{}), &e) {
		return nil
	}
	var all []string
	for _, k := range e.Want {
		if authority(k) {
			// It may have signed keys of any type. The server's own are known too, perhaps.
			all = append(all, ssh.CertAlgoED25519v01, ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01, ssh.CertAlgoECDSA521v01, ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01)
			continue
		}
		if t := k.Key.Type(); t == ssh.KeyAlgoRSA {
			all = append(all, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
		} else {
			all = append(all, t)
		}
	}
	return all
}

// authority tells whether k is the key of one who signs host keys. The library knows, but
// does not tell.
func authority(k knownhosts.KnownKey) bool {
	f, err := os.Open(k.Filename)
	if err != nil {
		return false
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		if n == k.Line {
			return strings.HasPrefix(strings.TrimSpace(lines.Text()), "@cert-authority")
		}
	}
	return false
}

// nobody is a key that no host has.
type nobody struct{}

func (nobody) Type() string                            { return "none" }
func (nobody) Marshal() []byte                         { return nil }
func (nobody) Verify(_ []byte, _ *ssh.Signature) error { return errors.New("nobody signs") }
