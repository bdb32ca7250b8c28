//go:build linux

package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/bench/rig"
)

// h2loadSaid is what h2load 1.52 prints of a run, by HTTP/2.
const h2loadSaid = `starting benchmark...
spawning thread #0: 32 total client(s). Timing-based test with 0s of warm-up time and 2s of main duration for measurements.
Warm-up started for thread #0.
progress: 93% of clients started
TLS Protocol: TLSv1.3
Cipher: TLS_AES_128_GCM_SHA256
Server Temp Key: X25519 253 bits
Application protocol: h2
Main benchmark duration is over for thread #0. Stopping all clients.
Stopped all clients for thread #0

finished in 2.01s, 38510.00 req/s, 44.66MB/s
requests: 77020 total, 77340 started, 77020 done, 77020 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 77020 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 89.32MB (93658272) total, 12.78MB (13401480) headers (space savings 21.62%), 75.21MB (78868480) data
                     min         max         mean         sd        +/- sd
time for request:      129us    267.94ms      4.44ms     16.99ms    96.96%
time for connect:     7.66ms     43.78ms     24.91ms     11.37ms    59.38%
time to 1st byte:    46.99ms     48.81ms     47.96ms       509us    59.38%
req/s           :    1171.47     1240.97     1200.11       13.32    78.13%
`

func TestParseH2load(t *testing.T) {
	got, err := parseH2load(h2loadSaid, alpnHTTP2)
	if want := (report{requests: 77020, bytes: 78868480}); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	edit := func(pairs ...string) string {
		for i := 0; i < len(pairs); i += 2 {
			if !strings.Contains(h2loadSaid, pairs[i]) {
				t.Fatalf("there is no %q", pairs[i])
			}
		}
		return strings.NewReplacer(pairs...).Replace(h2loadSaid)
	}

	// What went wrong is reported, for sample.check to tell.
	for name, c := range map[string]struct {
		text string
		want report
	}{
		"statuses": {
			edit("77020 succeeded, 0 failed", "77000 succeeded, 20 failed", "77020 2xx, 0 3xx, 0 4xx, 0 5xx", "77000 2xx, 0 3xx, 12 4xx, 8 5xx"),
			report{requests: 77000, bytes: 78868480, status: 20},
		},
		"redirects": {edit("77020 2xx, 0 3xx", "77000 2xx, 20 3xx"), report{requests: 77020, bytes: 78868480, status: 20}},
		"errors":    {edit("77020 succeeded, 0 failed, 0 errored", "77000 succeeded, 20 failed, 20 errored"), report{requests: 77000, bytes: 78868480, read: 20}},
		"failures":  {edit("77020 succeeded, 0 failed", "77000 succeeded, 20 failed"), report{requests: 77000, bytes: 78868480, read: 20}},
		"time-outs": {edit("0 timeout", "3 timeout"), report{requests: 77020, bytes: 78868480, timeout: 3}},
	} {
		got, err := parseH2load(c.text, alpnHTTP2)
		if err != nil || got != c.want {
			t.Errorf("%s: got %+v, %v; want %+v", name, got, err, c.want)
		}
		if err := (sample{report: got}).check(named("h2"), false); err == nil {
			t.Errorf("%s: that is a valid sample", name)
		}
	}

	for name, text := range map[string]string{
		"TLS 1.2":        edit("TLSv1.3", "TLSv1.2"),
		"another cipher": edit("AES_128_GCM_SHA256", "AES_256_GCM_SHA384"),
		"another ALPN":   edit("protocol: h2", "protocol: http/1.1"),
		"no ALPN":        edit("Application protocol: h2", "No protocol negotiated. Fallback behaviour may be activated"),
		"no TLS":         edit("TLS Protocol: TLSv1.3\n", ""),
		"silent":         edit("1171.47", "0.00"),
		"not done":       edit("77020 done", "77019 done"),
		"not 2xx":        edit("77020 2xx", "77019 2xx"),
		"never started":  edit("77340 started", "77019 started"),
		"total":          edit("77020 total", "77021 total"),
		"no number":      edit("77020 done", "many done"),
		"no data":        edit("(78868480) data", "(78868480) of it"),
		"twice":          h2loadSaid + h2loadSaid,
		"cut off":        h2loadSaid[:strings.Index(h2loadSaid, "traffic")],
		"nothing":        "h2load: cannot connect\n",
	} {
		if got, err := parseH2load(text, alpnHTTP2); err == nil {
			t.Errorf("%s: got %+v, want an error", name, got)
		}
	}
}

// Only answers that were there between the two moments count, whenever they were asked for.
func TestBetween(t *testing.T) {
	from := time.UnixMicro(1795414587000000)
	to := from.Add(2 * time.Second)
	var log strings.Builder
	row := func(end time.Time, took int64) { fmt.Fprintf(&log, "%d\t200\t%d\n", end.UnixMicro()-took, took) }
	row(from.Add(-time.Microsecond), 5) // too early
	row(from, 7)                        // of what was before
	for i := range int64(100) {
		row(from.Add(time.Duration(1+i)*time.Millisecond), 100-i)
	}
	row(to.Add(time.Microsecond), 1_000_000) // too late

	whole := report{requests: 103, bytes: 103 * 1024}
	got, err := whole.between(strings.NewReader(log.String()), from, to)
	want := report{requests: 100, bytes: 100 * 1024, duration: 2 * time.Second, p50: 51 * time.Microsecond, p99: 100 * time.Microsecond}
	if err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	if got, err := whole.between(strings.NewReader(""), from, to); err == nil {
		t.Errorf("no log: got %+v, want an error", got)
	}
	for _, bad := range []string{"1795414587885530\t200\n", "x\t200\t5\n", "\n"} {
		if got, err := (report{requests: 1}).between(strings.NewReader(bad), from, to); err == nil {
			t.Errorf("%q: got %+v, want an error", bad, got)
		}
	}
	short := report{requests: 103, bytes: 103*1024 - 1}
	if got, err := short.between(strings.NewReader(log.String()), from, to); err != nil || (sample{report: got}).check(named("h2"), false) == nil {
		t.Errorf("an octet is missing in %+v, %v", got, err)
	}
}

// Clients get what a workload names: TLS 1.3 and its protocol, from who has the
// certificate, in one file with its key.
func TestIdentity(t *testing.T) {
	id, err := rig.NewCertificate(filepath.Join(t.TempDir(), "identity.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(id.File, id.File)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s", tls.VersionName(r.TLS.Version), r.TLS.NegotiatedProtocol)
	}))
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{alpnHTTP2, alpnHTTP1}}
	server.StartTLS()
	defer server.Close()
	for _, alpn := range []string{alpnHTTP1, alpnHTTP2} {
		client := newClient(trust(id, alpn))
		resp, err := client.Get(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		said, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		client.CloseIdleConnections()
		if want := "TLS 1.3 " + alpn; err != nil || string(said) != want {
			t.Errorf("%s: got %q, %v; want %q", alpn, said, err, want)
		}
	}
}

func TestSecureContender(t *testing.T) {
	for command, want := range map[string]bool{ours: true, "old --listen 127.0.0.1:$PORT": false} {
		if got := shellContender("x", command).secure; got != want {
			t.Errorf("%q: got %t, want %t", command, got, want)
		}
	}
}
