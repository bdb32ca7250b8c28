package rig

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// A Certificate is one that those trust who are given it, for a month: larder warns of what ends within days.
type Certificate struct {
	File string // it and its key, in PEM, as larder's --cert takes them
	*x509.Certificate
}

// NewCertificate makes a Certificate for localhost, 127.0.0.1 and names, in a file.
func NewCertificate(file string, names ...string) (*Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    append([]string{"localhost"}, names...), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})...)
	return &Certificate{file, cert}, os.WriteFile(file, text, 0o600)
}

// StartSecure builds larder and starts it in front of the origin at url, by http and https, where
// cpus says; it and its certificate are in dir. The caller calls Kill.
func StartSecure(ctx context.Context, dir, cpus, url string) (*Larder, *Certificate, error) {
	cert, err := NewCertificate(filepath.Join(dir, "certificate.pem"))
	if err != nil {
		return nil, nil, err
	}
	program, err := Build(ctx, dir)
	if err != nil {
		return nil, nil, err
	}
	l, err := StartLarder(ctx, Command{CPUs: cpus, Argv: []string{
		program, "serve", url, "--listen", "127.0.0.1:0", "--https", "127.0.0.1:0", "--cert", cert.File, "--admin", "none", "--log", "off",
	}})
	return l, cert, err
}

// Pool has the Certificate alone.
func (c *Certificate) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(c.Certificate)
	return pool
}
