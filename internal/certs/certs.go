// Package certs keeps the certificates that a server has in files. Each client gets
// the one for the name that it asks for, and files that others replace are read again
// while connections go on.
package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// every is how often files are looked at again, at most: when a client comes.
const every = time.Second

// A Pair is a certificate, with those that lead to its root behind it, and its key: PEM
// files. Without a Key it is in the file of the certificate.
type Pair struct{ Cert, Key string }

// A Keeper has certificates. Any number of goroutines may use it. Make one with Open.
type Keeper struct {
	files []*files
	notes *slog.Logger

	current atomic.Pointer[set]
	watch
}

// A watch says when files are to be looked at again. The zero watch says so at once.
type watch struct {
	looked  atomic.Int64 // when, in Unix nanoseconds
	looking sync.Mutex
}

// again has look called if that was not done for a while. One client sees to it, and the others
// go on with what there is.
func (w *watch) again(look func()) {
	now := time.Now().UnixNano()
	if now-w.looked.Load() < int64(every) || !w.looking.TryLock() {
		return
	}
	defer w.looking.Unlock()
	w.looked.Store(now)
	look()
}

// files are a Pair, and what was in there the last time.
type files struct {
	Pair
	cert, key []byte
	read      *tls.Certificate // the last that could be used
	fault     fault
}

// A fault is what was said of files that cannot be used: once, until they can.
type fault string

func (f *fault) note(notes *slog.Logger, err error, but string) {
	if err.Error() != string(*f) {
		*f = fault(err.Error())
		notes.Warn(fmt.Sprintf("%v: %s", err, but))
	}
}

// A set does not change.
type set struct {
	all    []*tls.Certificate
	byName map[string][]*tls.Certificate // exact, or *.example.org
}

// Open reads pairs, of which there is at least one. The first is for clients that ask for no
// name, or for one that none has. notes gets what a person should know; it may be nil.
func Open(pairs []Pair, notes *slog.Logger) (*Keeper, error) {
	if notes == nil {
		notes = slog.New(slog.DiscardHandler)
	}
	k := &Keeper{notes: notes}
	for _, p := range pairs {
		f := &files{Pair: p}
		if _, err := f.look(); err != nil {
			return nil, err
		}
		k.files = append(k.files, f)
		k.remark(f)
	}
	if len(k.files) == 0 {
		return nil, errors.New("there is no certificate")
	}
	k.publish()
	k.looked.Store(time.Now().UnixNano())
	return k, nil
}

// look reads the files, and reports whether there is something else in there than before. An
// error leaves what was read before.
func (f *files) look() (changed bool, err error) {
	cert, err := os.ReadFile(f.Cert)
	if err != nil {
		return false, err
	}
	key, from := cert, f.Cert
	if f.Key != "" {
		if key, err = os.ReadFile(f.Key); err != nil {
			return false, err
		}
		from = f.Key
	}
	if f.read != nil && bytes.Equal(cert, f.cert) && bytes.Equal(key, f.key) {
		return false, nil
	}
	read, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return false, fmt.Errorf("%s, with the key in %s: %w", f.Cert, from, err)
	}
	f.cert, f.key, f.read = cert, key, &read
	return true, nil
}

// remark tells of a certificate that clients will not take.
func (k *Keeper) remark(f *files) {
	const soon = 3 * 24 * time.Hour
	leaf, now := f.read.Leaf, time.Now()
	switch left := leaf.NotAfter.Sub(now); {
	case left <= 0:
		k.notes.Warn(fmt.Sprintf("%s: the certificate ended at %s: clients will not take it", f.Cert, leaf.NotAfter.Format(time.RFC3339)))
	case left < soon:
		k.notes.Warn(fmt.Sprintf("%s: the certificate ends at %s", f.Cert, leaf.NotAfter.Format(time.RFC3339)))
	case now.Before(leaf.NotBefore):
		k.notes.Warn(fmt.Sprintf("%s: the certificate begins at %s: clients will not take it before", f.Cert, leaf.NotBefore.Format(time.RFC3339)))
	}
}

// publish has clients get what was read last.
func (k *Keeper) publish() {
	s := &set{byName: make(map[string][]*tls.Certificate)}
	for _, f := range k.files {
		s.all = append(s.all, f.read)
		for _, name := range f.read.Leaf.DNSNames {
			name = strings.ToLower(name)
			s.byName[name] = append(s.byName[name], f.read)
		}
	}
	k.current.Store(s)
}

// refresh reads the files again.
func (k *Keeper) refresh() {
	changed := false
	for _, f := range k.files {
		newer, err := f.look()
		if err != nil {
			f.fault.note(k.notes, err, "the certificate that was read before stays in use") // half of it may be there so far
			continue
		}
		f.fault = ""
		if newer {
			changed = true
			k.notes.Info(fmt.Sprintf("%s: another certificate is in use, until %s", f.Cert, f.read.Leaf.NotAfter.Format(time.RFC3339)))
			k.remark(f)
		}
	}
	if changed {
		k.publish()
	}
}

// of returns the certificates that clients get one of who ask for name, or nil.
func (s *set) of(name string) []*tls.Certificate {
	if exact := s.byName[name]; exact != nil {
		return exact
	}
	_, domain, _ := strings.Cut(name, ".")
	return s.byName["*."+domain]
}

// legible is name as it is in a set.
func legible(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// GetCertificate is for tls.Config.
func (k *Keeper) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	k.again(k.refresh)
	s := k.current.Load()
	for _, c := range s.of(legible(hello.ServerName)) {
		if hello.SupportsCertificate(c) == nil {
			return c, nil
		}
	}
	anyName := *hello
	anyName.ServerName = ""
	for _, c := range s.all {
		if anyName.SupportsCertificate(c) == nil {
			return c, nil
		}
	}
	return s.all[0], nil
}

// Covers tells whether a client that was given a certificate for the name sni may ask for
// host on the same connection: it is the same, or the certificate is for that too (RFC 9110
// §7.4, RFC 9113 §9.1.1). Who asked for no name may ask for any. host has no port.
func (k *Keeper) Covers(sni, host string) bool {
	sni, host = legible(sni), legible(host)
	if sni == "" || sni == host {
		return true
	}
	s := k.current.Load()
	given := s.of(sni)
	if given == nil {
		given = s.all[:1]
	}
	return slices.ContainsFunc(given, func(c *tls.Certificate) bool { return c.Leaf.VerifyHostname(host) == nil })
}

// GetClientCertificate is for tls.Config, where it is a server that asks for a certificate: it
// gets the first that it takes, or else none.
func (k *Keeper) GetClientCertificate(asked *tls.CertificateRequestInfo) (*tls.Certificate, error) {
	k.again(k.refresh)
	for _, c := range k.current.Load().all {
		if asked.SupportsCertificate(c) == nil {
			return c, nil
		}
	}
	return new(tls.Certificate), nil
}

// Config is for a server that speaks TLS with these certificates, from version 1.2 on. With
// clients, only those get in who have a certificate that leads there, and none by a ticket that
// was given to whom others had let in. Session tickets have keys of this Config alone, which
// change each day.
func (k *Keeper) Config(clients *Trust) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: k.GetCertificate, NextProtos: []string{"h2", "http/1.1"}}
	if clients != nil {
		// crypto/tls compares the authority behind a ticket with these, too.
		c.ClientAuth = tls.RequireAndVerifyClientCert
		each := c.Clone() // has no ticket keys, so that those of c count
		c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
			now := each.Clone()
			now.ClientCAs = clients.Pool()
			return now, nil
		}
	}
	return c
}

// A Trust is the authorities in a file, which is read again when it changes. Any number of
// goroutines may use it. Make one with OpenTrust.
type Trust struct {
	file  string
	notes *slog.Logger

	pool atomic.Pointer[x509.CertPool]
	text []byte // what pool was made of
	fault
	watch
}

// OpenTrust reads the certificates in a PEM file, to which those of others must lead. notes gets
// what a person should know; it may be nil.
func OpenTrust(file string, notes *slog.Logger) (*Trust, error) {
	if notes == nil {
		notes = slog.New(slog.DiscardHandler)
	}
	t := &Trust{file: file, notes: notes}
	if _, err := t.look(); err != nil {
		return nil, err
	}
	t.looked.Store(time.Now().UnixNano())
	return t, nil
}

// look reads the file, and reports whether there is something else in it than before. An error
// leaves what was read before.
func (t *Trust) look() (changed bool, err error) {
	text, err := os.ReadFile(t.file)
	if err != nil || t.text != nil && bytes.Equal(text, t.text) {
		return false, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return false, fmt.Errorf("%s: there is no certificate in it (PEM, with BEGIN CERTIFICATE)", t.file)
	}
	t.text = text
	t.pool.Store(pool)
	return true, nil
}

// Pool is what is trusted now. It does not change.
func (t *Trust) Pool() *x509.CertPool {
	t.again(func() {
		changed, err := t.look()
		if err != nil {
			t.note(t.notes, err, "the authorities that were read before stay in use")
			return
		}
		t.fault = ""
		if changed {
			t.notes.Info(t.file + ": other authorities are in use")
		}
	})
	return t.pool.Load()
}
