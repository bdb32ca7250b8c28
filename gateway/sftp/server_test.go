package sftp

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"github.com/larderhq/larder/gateway/gatewaytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const password = "open sesame" //nolint:gosec // of the server below

// A server is a real SFTP server over a temporary folder.
type server struct {
	t      *testing.T
	dir    string
	addr   string
	config *ssh.ServerConfig
	hosts  []ssh.Signer

	// hook sees each request: its type and what follows that, the id first. It may answer
	// in place of the server: the type of the reply and what follows the id. Type 255
	// leaves the request without answer.
	hook func(kind byte, payload []byte) (byte, []byte)

	// mute leaves global requests without answer. beats, if any, gets one octet for each.
	mute  bool
	beats chan byte

	mu       sync.Mutex
	listener net.Listener
	wires    map[net.Conn]bool
	accepted int
	requests map[byte]int
	wg       sync.WaitGroup
}

// More types of packets.
const (
	opWrite    = 6
	opRename   = 18
	opExtended = 200
	reData     = 103
	never      = 255
)

func key(t *testing.T) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// serve starts a server with the password; more keys are configured by prepare.
func serve(t *testing.T, prepare ...func(*server)) *server {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, dir: dir, addr: "127.0.0.1:0", wires: map[net.Conn]bool{}, requests: map[byte]int{}, hosts: []ssh.Signer{key(t)}}
	s.config = &ssh.ServerConfig{PasswordCallback: func(m ssh.ConnMetadata, p []byte) (*ssh.Permissions, error) {
		if m.User() != "me" || string(p) != password {
			return nil, errors.New("no")
		}
		return nil, nil
	}}
	for _, f := range prepare {
		f(s)
	}
	for _, k := range s.hosts {
		s.config.AddHostKey(k)
	}
	s.up(t)
	t.Cleanup(func() { s.down(t); s.wg.Wait() })
	return s
}

func (s *server) up(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	s.listener, s.addr = l, l.Addr().String()
	s.mu.Unlock()
	s.wg.Go(func() {
		for {
			wire, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.accepted++
			s.wires[wire] = true
			s.mu.Unlock()
			s.wg.Go(func() { s.session(wire) })
		}
	})
}

func (s *server) down(*testing.T) {
	_ = s.listener.Close()
	s.hangUp()
}

func (s *server) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.wires {
		_ = w.Close()
	}
}

func (s *server) count(kind byte) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests[kind]
}

func (s *server) dials() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accepted
}

func (s *server) session(wire net.Conn) {
	defer func() {
		_ = wire.Close()
		s.mu.Lock()
		delete(s.wires, wire)
		s.mu.Unlock()
	}()
	_, channels, requests, err := ssh.NewServerConn(wire, s.config)
	if err != nil {
		return
	}
	s.wg.Go(func() {
		for r := range requests {
			if !s.mute {
				_ = r.Reply(false, nil)
			}
			if s.beats != nil {
				s.beats <- 1
			}
		}
	})
	for c := range channels {
		channel, requests, err := c.Accept()
		if err != nil {
			return
		}
		s.wg.Go(func() {
			for r := range requests {
				_ = r.Reply(r.Type == "subsystem", nil)
			}
		})
		s.wg.Go(func() {
			defer channel.Close()
			real, err := sftp.NewServer(&tap{ReadWriteCloser: channel, server: s}, sftp.WithServerWorkingDirectory(s.dir))
			if err == nil {
				_ = real.Serve()
			}
		})
	}
}

// A tap stands between a client and the real server.
type tap struct {
	io.ReadWriteCloser
	server *server
	in     []byte // for the real server

	mu  sync.Mutex // of writing
	out []byte     // the beginning of a packet
}

func (p *tap) Read(b []byte) (int, error) {
	for len(p.in) == 0 {
		packet := make([]byte, 4)
		if _, err := io.ReadFull(p.ReadWriteCloser, packet); err != nil {
			return 0, io.EOF
		}
		packet = append(packet, make([]byte, binary.BigEndian.Uint32(packet))...)
		if _, err := io.ReadFull(p.ReadWriteCloser, packet[4:]); err != nil {
			return 0, io.EOF
		}
		kind, payload := packet[4], packet[5:]
		p.server.mu.Lock()
		p.server.requests[kind]++
		p.server.mu.Unlock()
		var reply byte
		var answer []byte
		if h := p.server.hook; h != nil {
			reply, answer = h(kind, payload)
		}
		switch reply {
		case 0:
			p.in = packet
		case never:
		default:
			p.mu.Lock()
			_, err := p.ReadWriteCloser.Write(framed(reply, append(payload[:4:4], answer...)))
			p.mu.Unlock()
			if err != nil {
				return 0, err
			}
		}
	}
	n := copy(b, p.in)
	p.in = p.in[n:]
	return n, nil
}

func framed(kind byte, payload []byte) []byte {
	return append(append(binary.BigEndian.AppendUint32(nil, uint32(len(payload)+1)), kind), payload...)
}

// Write passes whole packets on, so that answers of the tap do not come between.
func (p *tap) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out = append(p.out, b...)
	for len(p.out) >= 4 {
		n := 4 + int(binary.BigEndian.Uint32(p.out))
		if len(p.out) < n {
			break
		}
		if _, err := p.ReadWriteCloser.Write(p.out[:n]); err != nil {
			return 0, err
		}
		p.out = p.out[n:]
	}
	return len(b), nil
}

func text(s string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(s))), s...)
}

// status is what follows the id in SSH_FXP_STATUS.
func status(code uint32) []byte {
	return append(append(binary.BigEndian.AppendUint32(nil, code), text("said the server")...), text("en")...)
}

// source opens a Source of the server's folder.
func (s *server) source(t *testing.T, change ...func(*Options)) *Source {
	t.Helper()
	o := Options{Addr: s.addr, User: "me", Password: password, Root: s.dir, HostKey: ssh.FixedHostKey(s.hosts[0].PublicKey())}
	for _, c := range change {
		c(&o)
	}
	src, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// put changes a file in place, as the worst of writers do.
func (s *server) put(t *testing.T, name string, octets []byte, at time.Time) {
	t.Helper()
	gatewaytest.WriteFile(t, filepath.Join(s.dir, filepath.FromSlash(name)), octets, at)
}

func TestContract(t *testing.T) {
	gatewaytest.Run(t, func(t *testing.T) *gatewaytest.Storage {
		s := serve(t)
		return &gatewaytest.Storage{
			Source: s.source(t),
			Put:    s.put,
			Remove: func(t *testing.T, name string) {
				if err := os.Remove(filepath.Join(s.dir, name)); err != nil {
					t.Fatal(err)
				}
			},
			Down: s.down,
			Up:   s.up,
		}
	})
}
