// Package sftp is a gateway.Source and Writer over the files of an SSH server.
//
// It holds a few SSH connections, made when first needed, and shares each among
// many requests: SFTP carries them side by side. An object is a handle on the
// server, so that a file that is replaced while it is read is read to its end as it
// was; a file that is changed in place is gateway.ErrChanged. Versions are made
// of size and time of modification, the best that version 3 of the protocol has;
// times have seconds.
//
// Symbolic links are resolved by the server. What is opened is first looked at
// segment by segment, its REALPATH has to be inside that of the root, and no link
// may be left in it; all else is fs.ErrNotExist. That is as strict as the protocol
// allows: whoever can make links on the server may swap a folder for one between
// the look and the opening. Only a chroot on the server closes that gap.
//
// Only regular files and folders exist here, and names of at most 100 segments.
package sftp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/larderhq/larder/gateway"
)

// Options say which folder of which server is served, and how to get in.
type Options struct {
	// Addr is host:port.
	Addr string

	// User is who logs in.
	User string

	// Root is a folder on the server. A relative one is below the user's home
	// folder; "" is the home folder. It has to be there, and is resolved
	// once for each connection.
	Root string

	// Password, Keys and Agent are what the user has; keys are tried first, then those
	// of the agent, then the password. Agent is the path of the agent's
	// socket. All may be empty.
	Password string
	Keys     []ssh.Signer
	Agent    string

	// HostKey accepts or refuses the server's key. It must not be nil: KnownHosts
	// makes one. If its errors are those of x/crypto's knownhosts, the server
	// is asked for keys of the types that are known; to learn them, it is asked
	// about a key of the type "none" first, which it must refuse.
	HostKey ssh.HostKeyCallback

	// Conns is how many connections there are at most. Zero: 4.
	Conns int

	// Now is the clock that ages of files are told by. Nil: time.Now.
	Now func() time.Time
}

// A Source is a folder of an SFTP server. It comes from Open. Any number of goroutines may use it.
type Source struct {
	opt   Options
	conns *pool
	beat  time.Duration // heartbeat
	idle  time.Duration // idleTime
}

var _ gateway.Writer = (*Source)(nil)

// Open returns the Source that o says. It asks the network nothing: a server that
// is not there is an error of the first request. The caller closes the Source.
func Open(o Options) (*Source, error) {
	if _, _, err := net.SplitHostPort(o.Addr); err != nil {
		return nil, fmt.Errorf("sftp: %q is not host:port: %w", o.Addr, err)
	}
	switch {
	case o.User == "":
		return nil, fmt.Errorf("sftp %s: there is no user; name one: sftp://user@host/path", o.Addr)
	case o.HostKey == nil:
		return nil, fmt.Errorf("sftp %s: nothing says which host key is right", o.Addr)
	case strings.ContainsRune(o.Root, 0):
		return nil, fmt.Errorf("sftp %s: there is a NUL in the root %q", o.Addr, o.Root)
	case o.Conns < 0:
		return nil, fmt.Errorf("sftp %s: %d connections are none", o.Addr, o.Conns)
	case o.Conns == 0:
		o.Conns = 4
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Source{opt: o, beat: heartbeat, idle: idleTime}
	s.conns = newPool(o.Conns, s.dial)
	return s, nil
}

// Traits implements gateway.Source.
func (s *Source) Traits() gateway.Traits { return gateway.Traits{Remote: true} }

// Close hangs up. What is open fails.
func (s *Source) Close() error {
	s.conns.close()
	return nil
}

// get returns a connection to ask about name, which the caller puts back.
func (s *Source) get(ctx context.Context, name string) (*conn, error) {
	if err := check(name); err != nil {
		return nil, s.failed(name, err)
	}
	c, err := s.conns.get(ctx)
	return c, s.failed(name, err)
}

// failed says where err comes from. Nil stays nil.
func (s *Source) failed(name string, err error) error {
	var said *saidError
	if err == nil || errors.As(err, &said) {
		return err
	}
	return &saidError{fmt.Errorf("sftp %s: %q: %w", s.opt.Addr, name, meaning(err))}
}

// A saidError tells where it comes from already.
type saidError struct{ error }

func (e *saidError) Unwrap() error { return e.error }
