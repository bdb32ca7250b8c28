package habit_test

import (
	"bufio"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/larderhq/larder/internal/canon"
	"github.com/larderhq/larder/internal/habit"
	"github.com/larderhq/larder/internal/purge"
)

// order reads a request, as it is on the wire, and what it asks for.
func order(t testing.TB, lines ...string) (purge.Order, error) {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(strings.Join(lines, "\r\n") + "\r\n\r\n")))
	if err != nil {
		t.Fatalf("%q: %v", lines, err)
	}
	r.RemoteAddr = "192.0.2.7:4711"
	target, err := canon.Parse(r, false)
	if err != nil {
		t.Fatalf("%q: %v", lines, err)
	}
	return habit.Order(r, &target)
}

// Constructors of Selectors, as a person would write them.
func url(text string) purge.Selector    { return purge.Selector{URL: text} }
func prefix(text string) purge.Selector { return purge.Selector{Prefix: text} }
func regex(text string) purge.Selector  { return purge.Selector{Regex: text} }

func tags(names ...string) (all []purge.Selector) {
	for _, name := range names {
		all = append(all, purge.Selector{Tag: name})
	}
	return all
}

func one(s purge.Selector) []purge.Selector { return []purge.Selector{s} }

var everything = one(purge.Selector{All: true})

const (
	refetch = purge.Refetch
	refresh = purge.Refresh
)

// A case is a request, and what it asks for; why, if it is refused.
type habitCase struct {
	sent []string
	want []purge.Selector
	mode purge.Mode
	why  string
}

func sent(lines ...string) []string { return lines }

func check(t *testing.T, cases []habitCase) {
	t.Helper()
	for _, c := range cases {
		o, err := order(t, c.sent...)
		switch {
		case c.why != "":
			if err == nil || !strings.Contains(err.Error(), c.why) {
				t.Errorf("%q: %v, %v; want it refused with %q", c.sent, o.Selectors, err, c.why)
			}
			continue
		case err != nil:
			t.Errorf("%q: %v", c.sent, err)
			continue
		}
		if !slices.Equal(o.Selectors, c.want) || o.Mode != c.mode {
			t.Errorf("%q:\n %s %v, want\n %s %v", c.sent, o.Mode, o.Selectors, c.mode, c.want)
		}
		if method, _, _ := strings.Cut(c.sent[0], " "); o.By != method+" from 192.0.2.7" {
			t.Errorf("%q is by %q", c.sent, o.By)
		}
	}
}

func TestMethods(t *testing.T) {
	for _, method := range []string{"PURGE", "BAN", "URIBAN", "REFRESH", "PURGEKEYS", "PURGETAGS", "PURGEALL", "FULLBAN"} {
		if !habit.Is(method) {
			t.Errorf("%s does not purge", method)
		}
	}
	for _, method := range []string{"", "GET", "HEAD", "POST", "DELETE", "purge", "Ban", "PURGED"} {
		if habit.Is(method) {
			t.Errorf("%s purges", method)
		}
		r := &http.Request{Method: method}
		if o, err := habit.Order(r, &canon.Target{Scheme: "http", Host: "example.com", Path: "/"}); err == nil || len(o.Selectors) > 0 {
			t.Errorf("%s asks for %v", method, o)
		}
	}
}

// The secret by which a client may purge is not in what others get to see.
func TestBySaysNoSecret(t *testing.T) {
	o, err := order(t, "PURGE /a?token=s3cret HTTP/1.1", "Host: example.com", "Authorization: Bearer s3cret", "Fastly-Key: s3cret", "X-Purge-Token: s3cret")
	if err != nil || o.By != "PURGE from 192.0.2.7" {
		t.Errorf("by %q, %v", o.By, err)
	}
}
