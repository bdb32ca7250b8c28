package ftp

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/gateway/gatewaytest"
)

// A front is TLS before a server, on control and data connections. It takes none without, and
// data connections only that resume a session, as vsftpd does.
type front struct {
	t        *testing.T
	back     string
	config   *tls.Config
	security Security
	listener net.Listener
	wg       sync.WaitGroup

	mu      sync.Mutex
	wires   []io.Closer
	resumed int // data connections
}

func protect(t *testing.T, s *server, security Security) (*front, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AddCert(leaf)
	f := &front{t: t, back: s.addr, security: security, config: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}}
	if f.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	f.wg.Go(func() {
		for {
			c, err := f.listener.Accept()
			if err != nil {
				return
			}
			f.wg.Go(func() { f.control(f.closing(c)) })
		}
	})
	t.Cleanup(func() {
		_ = f.listener.Close()
		f.mu.Lock()
		for _, w := range f.wires {
			_ = w.Close()
		}
		f.mu.Unlock()
		f.wg.Wait()
	})
	return f, trusted
}

func (f *front) closing(c net.Conn) net.Conn {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wires = append(f.wires, c)
	return c
}

func (f *front) control(client net.Conn) {
	back, err := net.Dial("tcp", f.back)
	if err != nil {
		return
	}
	f.closing(back)
	defer back.Close()
	defer func() { _ = client.Close() }()
	secure := f.security == Implicit
	if secure {
		client = tls.Server(client, f.config)
	}
	replies := bufio.NewReader(back)
	greeting, _ := replies.ReadString('\n')
	fmt.Fprint(client, greeting)
	if !secure {
		if line, _ := bufio.NewReader(client).ReadString('\n'); strings.TrimSpace(line) != "AUTH TLS" {
			return // a password comes in the clear
		}
		fmt.Fprint(client, "234 go on\r\n")
		client = tls.Server(client, f.config)
	}
	f.wg.Go(func() {
		for {
			line, err := replies.ReadString('\n')
			if err != nil {
				return
			}
			var port int
			if _, err := fmt.Sscanf(line, "229 Entering Extended Passive Mode (|||%d|)", &port); err == nil {
				line = f.data(port)
			}
			fmt.Fprint(client, line)
		}
	})
	commands := bufio.NewReader(client)
	private := false
	for {
		line, err := commands.ReadString('\n')
		if err != nil {
			return
		}
		switch name := strings.TrimSpace(line); {
		case name == "PBSZ 0":
			fmt.Fprint(client, "200 fine\r\n")
		case name == "PROT P":
			private = true
			fmt.Fprint(client, "200 fine\r\n")
		case strings.HasPrefix(name, "EPSV") && !private:
			fmt.Fprint(client, "522 in the clear?\r\n")
		default:
			fmt.Fprint(back, line)
		}
	}
}

// data has a data connection pass, and returns the reply that tells of it.
func (f *front) data(port int) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Error(err)
		return ""
	}
	f.mu.Lock()
	f.wires = append(f.wires, l)
	f.mu.Unlock()
	f.wg.Go(func() {
		defer l.Close()
		raw, err := l.Accept()
		if err != nil {
			return
		}
		client := tls.Server(f.closing(raw), f.config)
		defer client.Close()
		back, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", fmt.Sprint(port)))
		if err != nil {
			return
		}
		f.closing(back)
		defer back.Close()
		if err := client.Handshake(); err != nil || !client.ConnectionState().DidResume {
			f.t.Errorf("a data connection of another session: %v", err)
			return
		}
		f.mu.Lock()
		f.resumed++
		f.mu.Unlock()
		f.wg.Go(func() { _, _ = io.Copy(back, client); _ = back.(*net.TCPConn).CloseWrite() })
		_, _ = io.Copy(client, back)
	})
	return fmt.Sprintf("229 Entering Extended Passive Mode (|||%d|)\r\n", l.Addr().(*net.TCPAddr).Port)
}

func TestTLSProtectsControlAndData(t *testing.T) {
	for _, security := range []Security{Explicit, Implicit} {
		s := serve(t)
		octets := gatewaytest.Octets(300_000, 1)
		s.put(t, "x", octets, gatewaytest.Past())
		f, trusted := protect(t, s, security)
		src := gatewaytest.Closing(t, s.source(t, func(o *Options) {
			o.Addr, o.Security, o.TLS = f.listener.Addr().String(), security, &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12}
		}))
		for range 3 {
			if got, err := gatewaytest.Read(t.Context(), src, "x", 0, -1); err != nil || !bytes.Equal(got, octets) {
				t.Errorf("%d: %d octets, %v", security, len(got), err)
			}
		}
		for _, text := range []string{"new", ""} {
			if _, err := src.Put(t.Context(), "y", strings.NewReader(text), int64(len(text)), nil, gateway.If{}); err != nil {
				t.Errorf("%d: %v", security, err)
			}
		}
		if l, err := src.List(t.Context(), "", 9); err != nil || len(l) != 2 {
			t.Errorf("%d: %v %v", security, l, err)
		}
		f.mu.Lock()
		if f.resumed != 6 {
			t.Errorf("%d: %d data connections", security, f.resumed)
		}
		f.mu.Unlock()
	}
}

func TestUntrustedCertificateIsRefused(t *testing.T) {
	s := serve(t)
	f, _ := protect(t, s, Implicit)
	src := gatewaytest.Closing(t, s.source(t, func(o *Options) { o.Addr, o.Security = f.listener.Addr().String(), Implicit }))
	_, err := src.Open(t.Context(), "x", gateway.Want{})
	if !errors.As(err, new(*tls.CertificateVerificationError)) || errors.Is(err, gateway.ErrUnavailable) {
		t.Error(err)
	}
	if s.count("PASS") > 0 {
		t.Error("it has the password")
	}
}
