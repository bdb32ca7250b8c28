package habit_test

import (
	"bufio"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/canon"
	"github.com/larderhq/larder/internal/habit"
	"github.com/larderhq/larder/internal/purge"
)

// What is no request of anybody's is refused, soon, with what is wrong with it, and without
// anything to purge.
func TestHostileRequests(t *testing.T) {
	example := canon.Target{Scheme: "http", Host: "example.com", Path: "/"}
	long := func(s string, n int) string { return strings.Repeat(s, n) }
	for _, c := range []struct {
		method string
		header http.Header
		why    string
	}{
		{"BAN", http.Header{"X-Url": {"^/a\r\nX-Host: .*"}}, "no printable ASCII"},
		{"BAN", http.Header{"X-Url": {"^/caf\xe9"}}, "no printable ASCII"},
		{"BAN", http.Header{"X-Host": {"\x00"}}, "no printable ASCII"},
		{"PURGE", http.Header{"Xkey": {"a\x7fb"}}, "no printable ASCII"},
		{"PURGE", http.Header{"X-Purge-Method": {"regex\x1b[2J"}}, "no printable ASCII"},
		{"BAN", http.Header{"X-Url": {"^/a", ".*"}}, "2 times"},
		{"BAN", http.Header{"X-Host": {"a", "b", "c"}}, "3 times"},
		{"PURGE", http.Header{"X-Purge-Method": {"exact", "regex"}}, "2 times"},
		{"PURGE", http.Header{"Fastly-Soft-Purge": {"1", "0"}}, "2 times"},
		{"BAN", http.Header{"X-Url": {""}}, "X-Url is empty"},
		{"BAN", http.Header{"X-Url": {"^/(a"}}, "missing closing )"},
		{"BAN", http.Header{"X-Url": {`^/(a)\1`}}, "no backreferences"},
		{"BAN", http.Header{"X-Url": {`\bfoo`}}, `\b and \B are not supported`},
		{"BAN", http.Header{"X-Url": {"^/"}, "X-Host": {"^$"}}, "no URL fits it"},
		{"BAN", http.Header{"X-Url": {"^foo"}}, "no URL fits it"},
		{"BAN", http.Header{"X-Host": {"a/b"}}, "no URL fits it"},
		{"BAN", http.Header{"X-Url": {"^/" + long("a", purge.MaxPattern)}}, "at most 1024"},
		{"BAN", http.Header{"X-Url": {"^/" + long("a", 1000)}, "X-Host": {long("b", 100)}}, "too long"},
		{"BAN", http.Header{"X-Url": {"^/(a{1000}){1000}"}}, "invalid repeat count"},
		{"BAN", http.Header{"X-Url": {long("a?b?", 200) + "c"}}, "too much at once"},
		{"BAN", http.Header{"X-Url": {"^/"}, "X-Host": {long("(a?|^b)", 140) + "$"}}, "too much at once"},
		{"PURGE", http.Header{"X-Magento-Tags-Pattern": {long("(a|b)", 40)}}, "too much"},
		{"PURGE", http.Header{"X-Magento-Tags-Pattern": {long("[^a]", 4)}}, "too much"},
		{"PURGE", http.Header{"X-Magento-Tags-Pattern": {long("a", 20_000) + long("(a|b)", 12)}}, "too much"},
		{"PURGE", http.Header{"X-Magento-Tags-Pattern": {"cat_.*"}}, "no list of tags"},
		{"PURGE", http.Header{"X-Magento-Tags-Pattern": {".*p_1(,|$)"}}, "no list of tags"},
		{"PURGE", http.Header{"X-Magento-Tags-Pattern": {"(^|,)(,|$)"}}, "no list of tags"},
		{"PURGE", http.Header{"X-Magento-Tags-Pattern": {"(^|,)a,b(,|$)"}}, "no list of tags"},
		{"PURGE", http.Header{"X-Magento-Tags-Pattern": {"(^|,)[a-c]+(,|$)"}}, "no list of tags"},
		{"PURGE", http.Header{"X-Magento-Tags-Pattern": {"(^|,)cat_p_(?i:x)(,|$)"}}, "no list of tags"},
		{"PURGE", http.Header{"Xkey": {" , ,"}}, "names no tag"},
		{"PURGE", http.Header{"Xkey": {long("a", purge.MaxTag+1)}}, "none that was kept has more"},
		{"PURGE", http.Header{"Xkey": {long("a ", 40_000)}}, "at most 32768"},
		{"PURGE", http.Header{"Xkey": {"a"}, "Surrogate-Key": {"b"}}, "both name tags"},
		{"PURGEKEYS", http.Header{"Xkey-Purge": {""}}, "names no tag"},
	} {
		began := time.Now()
		o, err := habit.Order(&http.Request{Method: c.method, Header: c.header, RemoteAddr: "192.0.2.7:1"}, &example)
		if err == nil || !strings.Contains(err.Error(), c.why) || len(err.Error()) > 4096 {
			t.Errorf("%s %.200q: %v, %.300v; want %q", c.method, c.header, o.Selectors, err, c.why)
		}
		if len(o.Selectors) > 0 {
			t.Errorf("%s %.200q: refused, and to purge %v", c.method, c.header, o.Selectors)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s %.200q took %v", c.method, c.header, took)
		}
	}
}

// As many lines as anybody likes are one list.
func TestManyLines(t *testing.T) {
	header := http.Header{}
	for i := range purge.MaxSelectors {
		header.Add("Xkey-Softpurge", fmt.Sprint("k", i%900))
	}
	o, err := habit.Order(&http.Request{Method: "PURGEKEYS", Header: header}, &canon.Target{Host: "example.com", Path: "/"})
	if err != nil || len(o.Selectors) != 900 || o.Mode != purge.Refresh {
		t.Errorf("%d, %v, %v", len(o.Selectors), o.Mode, err)
	}
}

// hostFields name other hosts than the one that was asked, by habit.
var hostFields = []string{"X-Host", "X-Ban-Host", "X-Purge-Host", "X-Vc-Purge-Host"}

// allFields may ask for everything.
var allFields = []string{
	"Clear-Cache", "X-Varnish-Purge-All", "X-Ban-All", "Varnish-Ban-All", "X-Magento-Tags-Pattern", "X-Cache-Tags", "X-Cache-Tags-Pattern",
	"Apiplatform-Ban-Regex", "X-Ban-Tags", "Cache-Tags", "Purge-Cache-Tags",
}

// Whatever is sent: no panic; what is to be purged is valid; and it is of this host, unless the
// request says otherwise in one of the ways in which it can.
func FuzzOrder(f *testing.F) {
	f.Add("PURGE", "/a?b", "example.com", "X-Purge-Method: default")
	f.Add("PURGE", "/.*", "example.com", "X-Purge-Method: regex")
	f.Add("PURGE", "/.*", "example.com", "")
	f.Add("PURGE", "/", "varnish", "X-Magento-Tags-Pattern: ((^|,)cat_p_1(,|$))|((^|,)cat_p_2(,|$))")
	f.Add("PURGE", "/a", "h", "X-Purge-Regex: .*\r\nX-Purge-Host: .*")
	f.Add("PURGE", "/a", "h", "X-VC-Purge-Method: default\r\nX-VC-Purge-Host: example.com")
	f.Add("BAN", "/", "127.0.0.1", "X-Host: ^(a|b)$\r\nX-Url: ^/foo$|\\.png$\r\nX-Content-Type: .*")
	f.Add("BAN", "/", "h", "X-Host: .*\r\nX-Url: .*\r\nX-Cache-Tags: (^|,)(a|b\\-c)(,|$)")
	f.Add("BAN", "/news/*", "example.com", "X-Acquia-Purge: s")
	f.Add("BAN", "/(^|a)*b?c", "[::1]:8080", "")
	f.Add("BAN", "/", "h", "Varnish-Ban-TYPO3-Pid: 4\r\nVarnish-Ban-TYPO3-Sitename: s")
	f.Add("PURGEKEYS", "/", "h", "xkey-softpurge: a b")
	f.Add("PURGETAGS", "/", "h", "X-Cache-Tags: a,b")
	f.Add("REFRESH", "/", "h", "Fastly-Soft-Purge: 1")
	f.Fuzz(func(t *testing.T, method, target, host, fields string) {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(method + " " + target + " HTTP/1.1\r\nHost: " + host + "\r\n" + fields + "\r\n\r\n")))
		if err != nil {
			return
		}
		to, err := canon.Parse(r, false)
		if err != nil {
			return
		}
		o, err := habit.Order(r, &to)
		if err != nil {
			if len(o.Selectors) > 0 {
				t.Fatalf("refused (%v), and to purge %v", err, o.Selectors)
			}
			return
		}
		if len(o.Selectors) == 0 || len(o.Selectors) > purge.MaxSelectors {
			t.Fatalf("%d selectors", len(o.Selectors))
		}
		here := !given(r, hostFields)
		for _, s := range o.Selectors {
			if err := s.Valid(); err != nil {
				t.Fatalf("%+v: %v", s, err)
			}
			switch {
			case !here, s.Tag != "":
			case s.All:
				if r.Method != "PURGEALL" && r.Method != "FULLBAN" && !given(r, allFields) {
					t.Fatal("everything, and nobody has said so")
				}
			default:
				ofHost(t, s, &to)
			}
		}
	})
}

func given(r *http.Request, names []string) bool {
	for _, name := range names {
		if len(r.Header[name]) > 0 {
			return true
		}
	}
	return false
}

// ofHost fails if s is about others than the host of to.
func ofHost(t *testing.T, s purge.Selector, to *canon.Target) {
	t.Helper()
	if s.Regex == "" {
		named, err := canon.ParseURL(s.URL + s.Prefix)
		if err != nil || named.Host != to.Host {
			t.Fatalf("%v is of %s, and %s was asked: %v", s, named.Host, to.Host, err)
		}
		return
	}
	is := regexp.MustCompile(s.Regex)
	for _, other := range []string{"other.example", "x" + to.Host, "x." + to.Host, to.Host + ".x", to.Host + "x", "x"} {
		for _, path := range []string{"/", to.Path, "/a/b.png?c=d", "/" + to.Host + "/", "/http://" + to.Host + "/"} {
			if url := "http://" + other + path; other != to.Host && is.MatchString(url) {
				t.Fatalf("%v is about %s, and %s was asked", s, url, to.Host)
			}
		}
	}
}
