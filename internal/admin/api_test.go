package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/internal/purge"
)

const token = "a-token-of-enough-octets"

// ledgerPurges are the Purges of a Ledger over nothing.
type ledgerPurges struct{ *purge.Ledger }

func (p ledgerPurges) Purge(_ context.Context, o purge.Order) (purge.Receipt, error) {
	return p.Publish(o)
}

func (p ledgerPurges) Preview(_ context.Context, o purge.Order) (purge.Preview, error) {
	_, err := p.Query(o)
	return purge.Preview{Examples: []string{}}, err
}

// An api is the API of a Ledger, over TCP and over a socket, until the test ends.
type api struct {
	t       *testing.T
	ledger  *purge.Ledger
	tcp     string
	socket  string
	changes atomic.Int64 // that were told
}

func newAPI(t *testing.T) *api {
	t.Helper()
	a := &api{t: t, ledger: purge.New(purge.Options{}), socket: filepath.Join(t.TempDir(), "s")}
	o := Options{
		Purges:  ledgerPurges{a.ledger},
		Events:  func([]byte) ([]gateway.Change, error) { return make([]gateway.Change, 1), nil },
		Changed: func(gateway.Change) { a.changes.Add(1) },
	}
	a.serve(a.socket, o)
	o.Token, o.Host = token, "admin.example"
	a.tcp = a.serve("127.0.0.1:0", o)
	return a
}

func (a *api) serve(where string, o Options) (addr string) {
	a.t.Helper()
	l, err := Listen(where, o.Token, false)
	if err != nil {
		a.t.Fatal(err)
	}
	server := &http.Server{Handler: Handler(o), DisableGeneralOptionsHandler: true, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(l) }() // until it is closed
	a.t.Cleanup(func() { _ = server.Close() })
	return l.Addr().String()
}

// state is all that a request can have changed.
func (a *api) state() string {
	text, err := json.Marshal(a.ledger.Receipts())
	if err != nil {
		a.t.Fatal(err)
	}
	return fmt.Sprintf("%d %s", a.changes.Load(), text)
}

// A raw request is written as it stands here.
type raw struct {
	method, target, version string
	lines                   []string // of the head, each "Name: value"
	body                    string
}

// with is r with other lines for those of the same name, and without those that have no value.
func (r raw) with(lines ...string) raw {
	r.lines = slices.Clone(r.lines)
	for _, line := range lines {
		name, _, _ := strings.Cut(line, ":")
		r.lines = slices.DeleteFunc(r.lines, func(old string) bool { return strings.HasPrefix(old, name+":") })
	}
	for _, line := range lines {
		if strings.Contains(line, ": ") {
			r.lines = append(r.lines, line)
		}
	}
	return r
}

// An answer is what came of a raw request.
type answerTo struct {
	status int
	header http.Header
	body   []byte
}

// send writes r over TCP, or to the socket.
func (a *api) send(network string, r raw) answerTo {
	a.t.Helper()
	addr := a.tcp
	if network == "unix" {
		addr = a.socket
	}
	c, err := net.Dial(network, addr)
	if err != nil {
		a.t.Fatal(err)
	}
	defer c.Close()
	text := r.method + " " + r.target + " " + r.version + "\r\n" + strings.Join(r.lines, "\r\n") + "\r\nConnection: close\r\n"
	if r.body != "" {
		text += fmt.Sprintf("Content-Length: %d\r\n", len(r.body))
	}
	go func() { _, _ = io.WriteString(c, text+"\r\n"+r.body) }() // it may be refused before it is read
	res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: r.method})
	if err != nil {
		a.t.Fatalf("%s %s: %v", r.method, r.target, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		a.t.Fatalf("%s %s: %v", r.method, r.target, err)
	}
	return answerTo{res.StatusCode, res.Header, body}
}

// good is a request for a route that is right, with all that TCP asks for. Only purges that
// there are can be named.
func (a *api) good(pattern string) raw {
	a.t.Helper()
	method, path, _ := strings.Cut(pattern, " ")
	if strings.Contains(path, "{id}") {
		r, err := a.ledger.Publish(purge.Order{Selectors: []purge.Selector{{Tag: "t"}}, Mode: purge.Refresh})
		if err != nil {
			a.t.Fatal(err)
		}
		path = strings.Replace(path, "{id}", r.ID.String(), 1)
	}
	r := raw{method, path, "HTTP/1.1", []string{"Host: " + a.tcp, "Authorization: Bearer " + token}, ""}
	if method == http.MethodPost {
		r.body = `{"selectors":[{"url":"/a"}]}`
		r.lines = append(r.lines, "Content-Type: application/json")
	}
	return r
}

// patterns are all routes.
func patterns() (all []string) {
	for pattern := range new(Options).routes() {
		all = append(all, pattern)
	}
	slices.Sort(all)
	return all
}
