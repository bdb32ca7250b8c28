package ftp

import (
	"maps"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	real "goftp.io/server/v2"
	"goftp.io/server/v2/driver/file"

	"github.com/larderhq/larder/gateway/gatewaytest"
)

func TestMain(m *testing.M) {
	time.Local = time.UTC // the server tells times of its own zone
	goleak.VerifyTestMain(m)
}

// A server is a real FTP server over a temporary folder.
type server struct {
	dir      string
	addr     string
	commands map[string]real.Command
	driver   real.Driver
	public   string

	mu       sync.Mutex
	listener net.Listener
	wires    []net.Conn
	counts   map[string]int
	wg       sync.WaitGroup
}

// serve starts a server; prepare may change its commands.
func serve(t *testing.T, prepare ...func(*server)) *server {
	t.Helper()
	s := &server{dir: t.TempDir(), addr: "127.0.0.1:0", commands: maps.Clone(real.DefaultCommands()), counts: map[string]int{}}
	var err error
	if s.driver, err = file.NewDriver(s.dir); err != nil {
		t.Fatal(err)
	}
	// What it has, but does not tell in FEAT.
	s.commands["MDTM"] = extension{s.commands["MDTM"]}
	for _, p := range prepare {
		p(s)
	}
	s.up(t)
	t.Cleanup(func() { s.down(t); s.wg.Wait() })
	return s
}

type extension struct{ real.Command }

func (extension) IsExtend() bool { return true }

// A command that does what the test says.
type command struct {
	real.Command
	execute func(sess *real.Session, param string)
}

func (c command) Execute(sess *real.Session, param string) { c.execute(sess, param) }

// replace has f done in place of a command, which it may call.
func (s *server) replace(name string, f func(sess *real.Session, param string, original real.Command)) {
	original := s.commands[name]
	s.commands[name] = command{original, func(sess *real.Session, param string) { f(sess, param, original) }}
}

// counted is a log that counts commands.
type counted struct {
	*real.DiscardLogger
	server *server
}

func (c counted) PrintCommand(_, name, _ string) {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	c.server.counts[name]++
}

func (s *server) count(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[name]
}

func (s *server) dials() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.wires)
}

// Accept remembers the connections.
func (s *server) Accept() (net.Conn, error) {
	c, err := s.listener.Accept()
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.wires = append(s.wires, c)
	}
	return c, err
}

func (s *server) Close() error   { return s.listener.Close() }
func (s *server) Addr() net.Addr { return s.listener.Addr() }

const (
	user     = "me"
	password = "open sesame" //nolint:gosec // of the server below
)

func (s *server) up(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	s.listener, s.addr = l, l.Addr().String()
	srv, err := real.NewServer(&real.Options{
		Commands: s.commands, Driver: s.driver, PublicIP: s.public, Logger: counted{&real.DiscardLogger{}, s},
		Auth: &real.SimpleAuth{Name: user, Password: password}, Perm: real.NewSimplePerm("o", "g"),
	})
	if err != nil {
		t.Fatal(err)
	}
	s.wg.Go(func() { _ = srv.Serve(s) }) // until it is closed
}

func (s *server) down(*testing.T) {
	_ = s.listener.Close()
	s.hangUp()
}

func (s *server) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.wires {
		_ = w.Close()
	}
}

// source opens a Source of the server's folder.
func (s *server) source(t *testing.T, change ...func(*Options)) *Source {
	t.Helper()
	o := Options{Addr: s.addr, User: user, Password: password}
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

// old takes from the server what RFC 3659 brought it, but SIZE and MDTM.
func old(s *server) {
	delete(s.commands, "MLST")
	delete(s.commands, "MLSD")
	delete(s.commands, "EPSV")
}

func contract(t *testing.T, prepare ...func(*server)) {
	gatewaytest.Run(t, func(t *testing.T) *gatewaytest.Storage {
		s := serve(t, prepare...)
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

func TestContract(t *testing.T) { contract(t) }

func TestContractOfAnOldServer(t *testing.T) { contract(t, old) }
