package sftp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/larderhq/larder/gateway"
)

// enters tries to log in.
func enters(t *testing.T, s *Source) error {
	t.Helper()
	defer s.Close()
	o, err := s.Open(t.Context(), "", gateway.Want{})
	if err == nil {
		_ = o.Close()
	}
	return err
}

func onlyKey(want ssh.PublicKey) func(*server) {
	return func(s *server) {
		s.config.PasswordCallback = nil
		s.config.PublicKeyCallback = func(_ ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
			if !bytes.Equal(k.Marshal(), want.Marshal()) {
				return nil, errors.New("no")
			}
			return nil, nil
		}
	}
}

func TestLogsInByKey(t *testing.T) {
	right, wrong := key(t), key(t)
	s := serve(t, onlyKey(right.PublicKey()))
	if err := enters(t, s.source(t, func(o *Options) { o.Keys = []ssh.Signer{wrong, right} })); err != nil {
		t.Error(err)
	}
	err := enters(t, s.source(t, func(o *Options) { o.Keys = []ssh.Signer{wrong} }))
	if !errors.Is(err, fs.ErrPermission) || errors.Is(err, gateway.ErrUnavailable) || strings.Contains(err.Error(), password) {
		t.Errorf("the wrong key: %v", err)
	}
}

func TestLogsInByAgent(t *testing.T) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keyring := agent.NewKeyring()
	if err := keyring.Add(agent.AddedKey{PrivateKey: private}); err != nil {
		t.Fatal(err)
	}
	signers, err := keyring.Signers()
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "agent")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = agent.ServeAgent(keyring, c) // until the client hangs up
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	s := serve(t, onlyKey(signers[0].PublicKey()))
	if err := enters(t, s.source(t, func(o *Options) { o.Agent, o.Keys = socket, []ssh.Signer{key(t)} })); err != nil {
		t.Error(err)
	}
	if err := enters(t, s.source(t, func(o *Options) { o.Agent = socket + "none" })); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("no agent: %v", err)
	}
}

func TestAnswersTheQuestionForThePassword(t *testing.T) {
	s := serve(t, func(s *server) {
		s.config.PasswordCallback = nil
		s.config.KeyboardInteractiveCallback = func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
			answers, err := ask("", "", []string{"your nickname", "Password:"}, []bool{true, false})
			if err != nil || answers[0] != "" || answers[1] != password {
				return nil, fmt.Errorf("%q %v", answers, err)
			}
			return nil, nil
		}
	})
	if err := enters(t, s.source(t)); err != nil {
		t.Error(err)
	}
}

func TestWrongPasswordIsNoPermission(t *testing.T) {
	s := serve(t)
	err := enters(t, s.source(t, func(o *Options) { o.Password = "guess1234" }))
	if !errors.Is(err, fs.ErrPermission) || strings.Contains(err.Error(), "guess1234") {
		t.Error(err)
	}
}

func TestUnknownHostIsRefusedWithAdvice(t *testing.T) {
	s := serve(t)
	file := filepath.Join(t.TempDir(), "known_hosts")
	known := s.source(t, func(o *Options) { o.HostKey = KnownHosts(file) })
	defer known.Close()
	for _, create := range []bool{false, true} {
		if create {
			if err := os.WriteFile(file, []byte("# nothing\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_, err := known.Open(t.Context(), "", gateway.Want{})
		if err == nil {
			t.Fatal("went through")
		}
		for _, want := range []string{"add this line to " + file + ": " + knownhosts.Line([]string{s.addr}, s.hosts[0].PublicKey()), ssh.FingerprintSHA256(s.hosts[0].PublicKey())} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%v: without %q", err, want)
			}
		}
		if errors.Is(err, gateway.ErrUnavailable) || !errors.As(err, new(*knownhosts.KeyError)) {
			t.Errorf("of another kind: %v", err)
		}
	}
	// The file is mended while the Source is open.
	if err := os.WriteFile(file, []byte(knownhosts.Line([]string{s.addr}, s.hosts[0].PublicKey())+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if o, err := known.Open(t.Context(), "", gateway.Want{}); err != nil {
		t.Error(err)
	} else {
		_ = o.Close()
	}
}

func TestChangedHostKeyIsRefusedLoudly(t *testing.T) {
	s := serve(t)
	file := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(file, []byte(knownhosts.Line([]string{s.addr}, key(t).PublicKey())+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := enters(t, s.source(t, func(o *Options) { o.HostKey = KnownHosts(file) }))
	if err == nil || !strings.Contains(err.Error(), "CHANGED") || !strings.Contains(err.Error(), ssh.FingerprintSHA256(s.hosts[0].PublicKey())) {
		t.Error(err)
	}
}

// TestAsksForTheKeyThatIsKnown has a server with two keys, of which known_hosts has the
// one that is offered last, by a hashed name.
func TestAsksForTheKeyThatIsKnown(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	second, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for _, known := range []int{0, 1} {
		s := serve(t, func(s *server) { s.hosts = append(s.hosts, second) })
		file := filepath.Join(t.TempDir(), "known_hosts")
		line := knownhosts.HashHostname(knownhosts.Normalize(s.addr)) + " " + string(ssh.MarshalAuthorizedKey(s.hosts[known].PublicKey()))
		if err := os.WriteFile(file, []byte(line), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := enters(t, s.source(t, func(o *Options) { o.HostKey = KnownHosts(file) })); err != nil {
			t.Errorf("key %d is known: %v", known, err)
		}
	}
}

func TestHostKeySignedByAuthorityIsAccepted(t *testing.T) {
	authority := key(t)
	s := serve(t, func(s *server) {
		plain := s.hosts[0]
		cert := &ssh.Certificate{Key: plain.PublicKey(), CertType: ssh.HostCert, ValidPrincipals: []string{"127.0.0.1"}, ValidBefore: ssh.CertTimeInfinity}
		if err := cert.SignCert(rand.Reader, authority); err != nil {
			t.Fatal(err)
		}
		signed, err := ssh.NewCertSigner(cert, plain)
		if err != nil {
			t.Fatal(err)
		}
		s.hosts = append(s.hosts, signed)
	})
	file := filepath.Join(t.TempDir(), "known_hosts")
	line := "@cert-authority " + knownhosts.Line([]string{s.addr}, authority.PublicKey()) + "\n"
	if err := os.WriteFile(file, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := enters(t, s.source(t, func(o *Options) { o.HostKey = KnownHosts(file) })); err != nil {
		t.Error(err)
	}
}
