package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/purge"
)

func newClient(t *testing.T, where string) *Client {
	t.Helper()
	c := NewClient(where, token, nil)
	t.Cleanup(c.Close)
	return c
}

// What the client says is what the ledger has, over both ways in.
func TestClient(t *testing.T) {
	a := newAPI(t)
	_, port, _ := net.SplitHostPort(a.tcp)
	for _, where := range []string{a.tcp, a.socket, "localhost:" + port, ":" + port, "0.0.0.0:" + port, "[::]:" + port} {
		c, ctx := newClient(t, where), t.Context()
		start := time.Now().Add(time.Hour)
		for _, o := range []purge.Order{
			{Selectors: []purge.Selector{{URL: "/<a>&é"}}},
			{Selectors: []purge.Selector{{Group: "g", Origin: "http://h"}, {Tag: "t"}}, Mode: purge.Refresh},
			{Selectors: []purge.Selector{{All: true}}, Start: start, End: start.Add(time.Second)},
		} {
			r, err := c.Purge(ctx, o)
			if err != nil {
				t.Fatalf("%s: %v", where, err)
			}
			o.By = "admin"
			now, _, err := a.ledger.Receipt(r.ID)
			if err != nil || !same(r, now) || !same(purge.Receipt{Order: r.Order}, purge.Receipt{Order: o}) {
				t.Errorf("%s: %+v\n%+v\n%+v %v", where, o, r, now, err)
			}
			if again, err := c.Receipt(ctx, r.ID, 0); err != nil || !same(again, now) {
				t.Errorf("%s: %+v\n%+v %v", where, again, now, err)
			}
		}
		all, err := c.Receipts(ctx)
		if want := a.ledger.Receipts(); err != nil || len(all) != len(want) || !same(all[0], want[0]) {
			t.Errorf("%s: %+v\n%+v %v", where, all, want, err)
		}
		if r, err := c.Cancel(ctx, all[0].ID); err != nil || r.State != purge.Cancelled {
			t.Errorf("%s: %+v %v", where, r, err)
		}
		if r, err := c.Undo(ctx, all[1].ID); err != nil || r.State != purge.Undone {
			t.Errorf("%s: %+v %v", where, r, err)
		}
		if r, err := c.Repeat(ctx, all[2].ID); err != nil || r.ID <= all[0].ID || r.Selectors[0].URL != "/<a>&é" {
			t.Errorf("%s: %+v %v", where, r, err)
		}
		if p, err := c.Preview(ctx, all[2].Order); err != nil || p.Examples == nil {
			t.Errorf("%s: %+v %v", where, p, err)
		}
		var refusal *Refusal
		if _, err := c.Undo(ctx, all[2].ID); !errors.As(err, &refusal) || refusal.Status != http.StatusConflict || !strings.Contains(err.Error(), "only a refresh") {
			t.Errorf("%s: %v", where, err)
		}
	}
}

// same tells whether two receipts say the same; their times have been through JSON.
func same(a, b purge.Receipt) bool {
	if !a.Start.Equal(b.Start) || !a.End.Equal(b.End) || !a.Created.Equal(b.Created) {
		return false
	}
	a.Start, a.End, a.Created = b.Start, b.End, b.Created
	return reflect.DeepEqual(a, b)
}

// Who waits learns of the change, and not before.
func TestClientWaits(t *testing.T) {
	a := newAPI(t)
	r, err := a.ledger.Publish(purge.Order{Selectors: []purge.Selector{{Tag: "t"}}})
	if err != nil {
		t.Fatal(err)
	}
	var states []purge.State
	done := make(chan error, 1)
	c := newClient(t, a.socket)
	go func() {
		r, err := c.Receipt(t.Context(), r.ID, maxWait)
		states = append(states, r.State)
		done <- err
	}()
	if now, err := c.Receipt(t.Context(), r.ID, 0); err != nil || now.State != purge.InForce {
		t.Errorf("%+v %v", now, err)
	}
	a.ledger.Walked(r.ID)
	if err := <-done; err != nil || states[0] != purge.Done {
		t.Errorf("%v %v", states, err)
	}
}

// The token is for whom it is meant: not for whoever has put a socket there, nor for where an
// answer leads.
func TestTheTokenStaysAtHome(t *testing.T) {
	var seen []string
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.URL.Path+" "+r.Header.Get("Authorization"))
		http.Redirect(w, r, "http://"+r.Host+"/elsewhere", http.StatusTemporaryRedirect)
	})
	for _, where := range []string{filepath.Join(t.TempDir(), "s"), "127.0.0.1:0"} {
		seen = nil
		l, err := Listen(where, token, false)
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
		go func() { _ = server.Serve(l) }() // until it is closed
		_, err = newClient(t, l.Addr().String()).Receipts(t.Context())
		want := "/v1/purges "
		if l.Addr().Network() == "tcp" {
			want += "Bearer " + token
		}
		if len(seen) != 1 || seen[0] != want || err == nil || !strings.Contains(err.Error(), "307") {
			t.Errorf("%q %v", seen, err)
		}
		server.Close()
	}
}

// Nobody there, and nobody of ours, are told apart.
func TestClientOfNobody(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	for where, cause := range map[string]error{l.Addr().String(): syscall.ECONNREFUSED, filepath.Join(t.TempDir(), "s"): syscall.ENOENT} {
		var none *Unreachable
		if _, err := newClient(t, where).Receipts(t.Context()); !errors.As(err, &none) || !errors.Is(err, cause) || !strings.HasPrefix(err.Error(), "no Larder answers at "+where+": connect: ") {
			t.Errorf("%s: %v", where, err)
		}
	}
	a := newAPI(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newClient(t, a.socket).Receipts(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	for answer, want := range map[string]string{
		"200 {}x":                               "answers what is no answer of the admin API",
		"200 <html>":                            "answers what is no answer of the admin API",
		"200 ":                                  "answers what is no answer of the admin API",
		"502 <html>":                            "502 Bad Gateway",
		"409 {}":                                "409 Conflict",
		`409 {"status":409,"detail":"not now"}`: "not now",
	} {
		var status int
		rest := strings.TrimSpace(answer[3:])
		_, _ = fmt.Sscan(answer, &status) // it is one
		socket := filepath.Join(t.TempDir(), "s")
		l, err := Listen(socket, "", false)
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(rest))
		})}
		go func() { _ = server.Serve(l) }() // until it is closed
		if _, err := newClient(t, socket).Receipts(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", answer, err)
		}
		server.Close()
	}
}
