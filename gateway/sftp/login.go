package sftp

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// logIn makes an SSH connection of wire.
func (s *Source) logIn(ctx context.Context, wire net.Conn) (*ssh.Client, error) {
	auth, done := s.credentials(ctx)
	defer done()
	conn, chans, reqs, err := ssh.NewClientConn(wire, s.opt.Addr, &ssh.ClientConfig{
		User: s.opt.User,
		Auth: auth,
		HostKeyCallback: func(host string, remote net.Addr, key ssh.PublicKey) error {
			if err := s.opt.HostKey(host, remote, key); err != nil {
				return &hostKeyError{err}
			}
			return nil
		},
		HostKeyAlgorithms: algorithms(s.opt.HostKey, s.opt.Addr, wire.RemoteAddr()),
	})
	if err != nil {
		if strings.Contains(err.Error(), "unable to authenticate") { // the library has no type for it
			err = fmt.Errorf("%w: user %q: %w", fs.ErrPermission, s.opt.User, err)
		}
		return nil, err
	}
	return ssh.NewClient(conn, chans, reqs), nil
}

// A hostKeyError is a refusal of a host key. To try again would not help.
type hostKeyError struct{ error }

func (e *hostKeyError) Unwrap() error { return e.error }

// credentials are all ways to log in. done is called when that is over.
func (s *Source) credentials(ctx context.Context) (auth []ssh.AuthMethod, done func()) {
	signers, done := s.opt.Keys, func() {}
	if s.opt.Agent != "" {
		// An agent that is not there is as good as one without keys.
		var d net.Dialer
		if wire, err := d.DialContext(ctx, "unix", s.opt.Agent); err == nil {
			hangUp := context.AfterFunc(ctx, func() { _ = wire.Close() }) // its answer is of no use any more
			done = func() {
				hangUp()
				_ = wire.Close() // nothing was written that could be lost
			}
			if more, err := agent.NewClient(wire).Signers(); err == nil {
				signers = append(signers[:len(signers):len(signers)], more...)
			}
		}
	}
	if len(signers) > 0 {
		auth = append(auth, ssh.PublicKeys(signers...))
	}
	if p := s.opt.Password; p != "" {
		auth = append(auth, ssh.Password(p), ssh.KeyboardInteractive(func(_, _ string, questions []string, echos []bool) ([]string, error) {
			answers := make([]string, len(questions))
			for i := range questions {
				if !echos[i] { // a question for a secret
					answers[i] = p
				}
			}
			return answers, nil
		}))
	}
	return auth, done
}
