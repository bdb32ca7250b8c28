package front

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/certs/certstest"
	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/local"
	"github.com/larderhq/larder/store/memory"
)

// A vault answers by TLS what an engine keeps.
type vault struct {
	*secureDoor
	replayed tally
}

func newVault(t *testing.T, l Limits) *vault {
	t.Helper()
	v := new(vault)
	store := memory.New(memory.Options{Budget: 64 << 20})
	c := engine.Config{Store: store, Forward: local.RoundTripper(http.HandlerFunc(variety)), Clock: twoClocks, Standing: engine.Standing(nil)}
	e := engine.New(c)
	a := certstest.New(t)
	config := &tls.Config{Certificates: []tls.Certificate{a.Pair("h")}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v.secureDoor = &secureDoor{
		Server: New(Options{
			Handler: e, Limits: l, TLS: &TLS{Config: config}, Standing: c.Standing, Store: store, Clock: twoClocks, Sink: &v.replayed, Decide: e.Decide,
		}), t: t, addr: listener.Addr().String(), trust: &tls.Config{RootCAs: a.Pool, ServerName: "h"}, done: make(chan error, 1),
	}
	go func() { v.done <- v.ServeTLS(listener) }()
	t.Cleanup(func() {
		v.end()
		e.Close()
		store.Close()
	})
	return v
}

// dial makes a connection with HTTP/1.1.
func (v *vault) dial(version uint16) *tls.Conn {
	v.t.Helper()
	config := v.trust.Clone()
	config.MinVersion, config.MaxVersion = version, version
	c, err := tls.Dial("tcp", v.addr, config)
	if err != nil {
		v.t.Fatal(err)
	}
	v.t.Cleanup(func() { c.Close() })
	return c
}

// Whoever answers by TLS, in whatever order, the answers are those without it: standing ones
// small and large, what has to be made, and what net/http has. The client sends as much at once
// as it likes, in records cut anywhere, and takes it as slowly.
func TestLoopsByTLS(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		v := newVault(t, Limits{})
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		chance := rand.New(rand.NewPCG(seed, 0))
		for range 20 {
			const count = 40
			var stream strings.Builder
			methods := make([]string, count)
			paths := make([]int, count)
			for i := range count {
				methods[i], paths[i] = []string{"GET", "GET", "GET", "HEAD", "POST"}[chance.IntN(5)], chance.IntN(30)
				fields := []string{"Accept-Encoding: gzip"}
				if methods[i] == "POST" {
					fields = append(fields, "Content-Length: 0")
				}
				stream.WriteString(request(fmt.Sprintf("%s /%d", methods[i], paths[i]), fields...))
			}
			c := v.dial(version)
			go func() {
				for _, piece := range cut(chance, stream.String()) {
					if _, err := io.WriteString(c, piece); err != nil {
						return
					}
				}
			}()
			in := bufio.NewReaderSize(c, 16)
			for i := range count {
				got, err := http.ReadResponse(in, &http.Request{Method: methods[i]})
				if err != nil {
					t.Fatalf("answer %d: %v", i, err)
				}
				body, err := io.ReadAll(got.Body)
				if err != nil {
					t.Fatalf("answer %d, %s /%d: after %d octets: %v", i, methods[i], paths[i], len(body), err)
				}
				if want := sizes[paths[i]%len(sizes)]; methods[i] != "HEAD" && hasBody(got.StatusCode) && len(body) != want {
					t.Fatalf("answer %d, %s /%d: %d octets of %d", i, methods[i], paths[i], len(body), want)
				}
			}
			c.Close()
		}
		if v.replayed.Load() == 0 {
			t.Error("no loop has answered")
		}
	}
}

// A client by TLS that takes nothing is given up, and its body with it.
func TestStalledByTLS(t *testing.T) {
	v := newVault(t, Limits{StallTimeout: 200 * time.Millisecond})
	large := slices.Index(sizes, slices.Max(sizes))
	c := v.dial(tls.VersionTLS13)
	for n := range 200 { // in all more than the system keeps for a client that does not read
		if _, err := io.WriteString(c, request(fmt.Sprintf("GET /%d", large), "X: "+fmt.Sprint(n))); err != nil {
			return // given up
		}
	}
	for late := time.Now().Add(20 * time.Second); len(v.places) > 0; runtime.Gosched() {
		if time.Now().After(late) {
			t.Fatal("it is served for ever")
		}
	}
}

// A client by TLS that net/http has had, and has waited for in vain, is its loop's again and
// goes on.
func TestLentByTLS(t *testing.T) {
	v := newVault(t, Limits{})
	c := v.dial(tls.VersionTLS13)
	in := bufio.NewReader(c)
	for n := range 3 {
		for _, line := range []string{"POST /1", "GET /2"} {
			if _, err := io.WriteString(c, request(line, "Content-Length: 0")); err != nil {
				t.Fatal(err)
			}
			a, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatalf("round %d, %s: %v", n, line, err)
			}
			if _, err := io.Copy(io.Discard, a.Body); err != nil {
				t.Fatal(err)
			}
			for late := time.Now().Add(10 * time.Second); v.lent.Load() > 0; runtime.Gosched() {
				if time.Now().After(late) {
					t.Fatal("it is not given back")
				}
			}
		}
	}
}
