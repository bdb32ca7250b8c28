package daemon

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/larderhq/larder/internal/admin"
	"github.com/larderhq/larder/internal/certs"
	"github.com/larderhq/larder/internal/certs/certstest"
	"github.com/larderhq/larder/internal/purge"
)

// written is a file with this text.
func written(t *testing.T, text []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file.pem")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// A tier lets in another one by its certificate, and is believed by its own; what does not fit
// is the fault of the origin to the client.
func TestTiersKnowEachOther(t *testing.T) {
	edges, dir := certstest.New(t), t.TempDir()
	parent := startHTTPSWith(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		fmt.Fprint(w, "page")
	}, HTTPS{Clients: written(t, edges.PEM)}, nil)
	cert, key := edges.Write(dir, "edge", "edge.example")
	ours, ca := certs.Pair{Cert: cert, Key: key}, written(t, parent.authority.PEM)
	cert, key = parent.authority.Write(dir, "other", "edge.example")
	theirs := certs.Pair{Cert: cert, Key: key}
	c := clientOf(t)
	for name, test := range map[string]struct {
		cert   certs.Pair
		ca     string
		status int
	}{
		"both":                  {ours, ca, 200},
		"no certificate":        {certs.Pair{}, ca, 502},
		"another's certificate": {theirs, ca, 502},
		"not believed":          {ours, "", 502},
	} {
		t.Run(name, func(t *testing.T) {
			_, port, _ := strings.Cut(strings.TrimPrefix(parent.SecureURL(), "https://"), ":")
			edge := startWith(t, Options{Origin: "https://localhost:" + port, Host: shop, OriginCert: test.cert, OriginCA: test.ca}, nil)
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, edge.URL()+"/a", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			res, err := c.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != test.status {
				t.Errorf("%d, %v; want %d", res.StatusCode, res.Header, test.status)
			}
		})
	}
}

// answersByName tells whether the admin API answers who asks for it as admin.example.
func answersByName(t *testing.T, s *started, token string, trust *tls.Config) bool {
	t.Helper()
	c := clientOf(t)
	tr := c.Transport.(*http.Transport)
	tr.TLSClientConfig = trust.Clone()
	tr.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, strings.TrimPrefix(s.AdminAt(), "https://"))
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://admin.example/v1/purges", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// Who asks the admin API by https needs a certificate where one is asked for, and the token if
// there is one.
func TestAdminByHTTPS(t *testing.T) {
	ours, theirs, dir := certstest.New(t), certstest.New(t), t.TempDir()
	cert, key := ours.Write(dir, "c", "127.0.0.1", "admin.example")
	pair, clients := certs.Pair{Cert: cert, Key: key}, written(t, theirs.PEM)
	origin, _ := serveOrigin(t, func(http.ResponseWriter, *http.Request) {})
	for name, test := range map[string]struct {
		token, clients string
		asks           string // with this token
		shows          *certstest.Authority
		ok             bool
	}{
		"a token":                     {adminToken, "", adminToken, nil, true},
		"no token":                    {adminToken, "", "", nil, false},
		"a certificate":               {"", clients, "", theirs, true},
		"no certificate":              {"", clients, "", nil, false},
		"another's certificate":       {"", clients, "", ours, false},
		"a token without certificate": {adminToken, clients, adminToken, nil, false},
		"a certificate without token": {adminToken, clients, "", theirs, false},
		"both":                        {adminToken, clients, adminToken, theirs, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := startWith(t, Options{Origin: origin, Admin: "127.0.0.1:0", AdminToken: test.token, AdminCert: pair, AdminClients: test.clients}, nil)
			trust := &tls.Config{RootCAs: ours.Pool, MinVersion: tls.VersionTLS12}
			if test.shows != nil {
				trust.Certificates = []tls.Certificate{test.shows.Pair("client")}
			}
			c := admin.NewClient(s.AdminAt(), test.asks, trust)
			defer c.Close()
			if _, err := c.Purge(t.Context(), purge.Order{Selectors: []purge.Selector{{URL: "/a"}}}); (err == nil) != test.ok {
				t.Errorf("at %s: %v", s.AdminAt(), err)
			}
			if test.ok && !answersByName(t, s, test.asks, trust) {
				t.Error("it does not answer under another name that its certificate has")
			}
			plain := admin.NewClient(strings.TrimPrefix(s.AdminAt(), "https://"), test.asks, nil)
			defer plain.Close()
			if _, err := plain.Receipts(t.Context()); err == nil {
				t.Error("it answers by http")
			}
		})
	}
	for want, o := range map[string]Options{
		"Admin":        {Admin: "127.0.0.1:0", AdminCert: pair},
		"AdminCert":    {Admin: "127.0.0.1:0", AdminCert: certs.Pair{Cert: cert, Key: cert}, AdminClients: clients},
		"AdminClients": {Admin: "127.0.0.1:0", AdminCert: pair, AdminClients: key},
		"OriginCert":   {OriginCert: certs.Pair{Cert: cert, Key: cert}},
		"OriginCA":     {OriginCA: key},
	} {
		o.Origin, o.Listen, o.Memory = "https://127.0.0.1:1", "127.0.0.1:0", 8<<20
		_, err := New(o)
		if e, ok := err.(*Error); !ok || e.Option != want {
			t.Errorf("%s: %v", want, err)
		}
	}
}
