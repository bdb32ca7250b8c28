package canon_test

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/larderhq/larder/internal/canon"
)

// parse reads a target as it came in a request line, with a Host field.
func parse(target, host string, secure bool) (canon.Target, error) {
	return canon.Parse(&http.Request{Method: "GET", RequestURI: target, Host: host, URL: &url.URL{}}, secure)
}

func must(t *testing.T, target, host string, secure bool) canon.Target {
	t.Helper()
	got, err := parse(target, host, secure)
	if err != nil {
		t.Fatalf("%q at %q: %v", target, host, err)
	}
	return got
}

func key(t canon.Target) string { return string(t.AppendKey(nil, "site")) }

// forwarded is what an origin sees of a target, and to whom it goes.
func forwarded(t canon.Target) string {
	u := t.Outgoing()
	line := u.Opaque
	if line == "" {
		line = u.Path
	}
	if u.RawQuery != "" || u.ForceQuery {
		line += "?" + u.RawQuery
	}
	return u.Scheme + " " + u.Host + " " + line
}

type asked struct {
	target, host string
	secure       bool
}

func TestKEY02_OneResourceInManySpellings(t *testing.T) {
	for _, same := range [][]asked{
		{
			{"/", "ex.com", false},
			{"/", "EX.com:80", false},
			{"/", "ex.com:", false},
			{"http://ex.com/", "ex.com", false},
			{"HTTP://EX.com:80", "other", false},
			{"http://ex.com", "ex.com:443", false},
			{"hTTp://eX.cOm:", "ex.com", false},
		},
		{{"/a?b", "ex.com:443", true}, {"/a?b", "EX.COM", true}, {"https://ex.com:443/a?b", "ex.com", true}},
		{{"http://ex.com?q", "x", false}, {"/?q", "ex.com", false}, {"http://ex.com:80/?q", "x", false}},
		{{"/", "[2001:DB8::1]", false}, {"/", "[2001:db8::1]:80", false}},
	} {
		first := must(t, same[0].target, same[0].host, same[0].secure)
		for _, a := range same[1:] {
			if other := must(t, a.target, a.host, a.secure); key(other) != key(first) || forwarded(other) != forwarded(first) {
				t.Errorf("%v is not %v: %q, %q", a, same[0], key(other), key(first))
			}
		}
	}
}

func TestKEY01_EveryPartCounts(t *testing.T) {
	seen := map[string]asked{}
	for _, a := range []asked{
		{"/a?b", "ex.com", false},
		{"/a?b", "ex.com", true},
		{"/a?b", "ex.com:443", false},
		{"/a?b", "ex.com:80", true},
		{"/a?b", "ex.com:8080", false},
		{"/a?b", "ex.org", false},
		{"/a?b", "www.ex.com", false},
		{"/a?b", "[::1]", false},
		{"/a?c", "ex.com", false},
		{"/a", "ex.com", false},
		{"/a?", "ex.com", false},
		{"/", "ex.com", false},
		{"//", "ex.com", false},
		{"//a", "ex.com", false},
		{"/a/", "ex.com", false},
		{"/a//", "ex.com", false},
		{"/a/.", "ex.com", false},
		{"/a?b?", "ex.com", false},
		{"/a?b&", "ex.com", false},
		{"/a?b=", "ex.com", false},
	} {
		k := key(must(t, a.target, a.host, a.secure))
		if other, ok := seen[k]; ok {
			t.Errorf("%v and %v are one entry", a, other)
		}
		seen[k] = a
	}
	if a := must(t, "/", "ex.com", false); string(a.AppendKey(nil, "a")) == string(a.AppendKey(nil, "b")) {
		t.Error("two sites share a key")
	}
	// No part can pretend to be two, whatever octets it has.
	a, b := canon.Target{Scheme: "c", Host: "d", Path: "/"}, canon.Target{Scheme: "b\x00c", Host: "d", Path: "/"}
	if string(a.AppendKey(nil, "a\x00b")) == string(b.AppendKey(nil, "a")) {
		t.Error("two splits of one text share a key")
	}
}

func TestKEY03_PathAndQueryCompareExactly(t *testing.T) {
	seen := map[string]string{}
	for _, target := range []string{
		"/path", "/Path", "/p%61th", "/p%2Fath", "/p%2fath", "/p/ath", "/path?q=A", "/path?q=a", "/path?Q=a", "/path?q=%41",
		"/path?a=1&b=2", "/path?b=2&a=1", "/path?a=1&a=1&b=2", "/path?a=1;b=2", "/path%3Fa=1", "/~u", "/%7Eu", "/%7eu",
		"/x/../path", "/x/%2e%2e/path", "/path;v=1", "/path;v=2", "/+", "/%20", "/path%00", "/path%23",
	} {
		k := key(must(t, target, "ex.com", false))
		if other, ok := seen[k]; ok {
			t.Errorf("%q and %q are one entry", target, other)
		}
		seen[k] = target
	}
}

func TestKEY05_TargetGoesOnAsItCame(t *testing.T) {
	for _, target := range []string{
		"/", "/?", "/a?", "//", "//a", "//a//b", "/a/../b", "/./a", "/%7Eu", "/~u", "/%2F", "/%2f?%2F", "/%zz", "/100%", "/%", "/a%00b",
		`/a"b`, "/a<b>", "/a|b^c`{}", "/a?b?c", "/a?b/c", "/a?q=%zz", "/a?a=1&a=2", "/:80", "/@", "/http://other/",
	} {
		want := "http ex.com " + target
		if got := forwarded(must(t, target, "ex.com", false)); got != want {
			t.Errorf("%q goes on as %q", target, got)
		}
		if got := forwarded(must(t, "http://EX.com"+target, "other", false)); got != want {
			t.Errorf("absolute %q goes on as %q", target, got)
		}
	}
}

func TestKEY06_HostOfAnAbsoluteTargetCounts(t *testing.T) {
	for _, a := range []asked{
		{"http://ex.com/a", "evil.example", false},
		{"http://ex.com/a", "", false},
		{"http://ex.com/a", "not a host", false},
	} {
		got, want := must(t, a.target, a.host, a.secure), must(t, "/a", "ex.com", false)
		if got != want {
			t.Errorf("%v is %v", a, got)
		}
	}
}

// Who speaks in clear does not get, store or change what is behind https, nor
// the other way round (RFC 9110 §7.4).
func TestKEY06_SchemeIsThatOfTheConnection(t *testing.T) {
	for _, a := range []asked{
		{"https://ex.com/a", "ex.com", false},
		{"hTTps://ex.com:443", "ex.com", false},
		{"https://ex.com:80/a", "ex.com:80", false},
		{"http://ex.com/a", "ex.com", true},
		{"HTTP://ex.com:443/a", "ex.com", true},
	} {
		got, err := parse(a.target, a.host, a.secure)
		var e *canon.Error
		if !errors.As(err, &e) || e.Status != http.StatusMisdirectedRequest {
			t.Errorf("%v gives %v, %v", a, got, err)
		}
	}
	if got, want := must(t, "https://ex.com/a", "other", true), must(t, "/a", "ex.com", true); got != want {
		t.Errorf("over TLS it is %v", got)
	}
}

func TestKEY12_TargetsThatAreRefused(t *testing.T) {
	bad := []string{
		"/a#b", "/#", "#", "http://ex.com/#b", "http://ex.com#b", "/a?b#c",
		"a", "*", "ex.com:80", "http:/a", "http:a", "://a", "ftp://ex.com/", "javascript://a/",
		"http:///a", "http://", "http://user@ex.com/", "http://u:p@ex.com/", "http://ex.com:99999999/", "http://ex.com:8a/",
		"http://[::1/", "http://::1/", "http://ex.com\\@evil/", "/a\\b",
	}
	for c := range 0x21 {
		bad = append(bad, "/a"+string(rune(c))+"b")
	}
	for c := 0x7f; c < 0x100; c++ {
		bad = append(bad, "/a"+string([]byte{byte(c)})+"b", "/a?"+string([]byte{byte(c)}))
	}
	for _, target := range bad {
		got, err := parse(target, "ex.com", false)
		var e *canon.Error
		if !errors.As(err, &e) || e.Status != http.StatusBadRequest {
			t.Errorf("%q gives %v, %v", target, got, err)
		}
	}
	for _, host := range []string{"", "a b", "a/b", "a\\b", "a@b", "a:b", "a:80:80", "a:999999", "::1", "[::1", "[]", "a#", "a?", "ä", "a\x00", "a\r\nb", strings.Repeat("a", 256)} {
		if got, err := parse("/", host, false); err == nil {
			t.Errorf("Host %q gives %v", host, got)
		}
	}
	var e *canon.Error
	if _, err := parse("/"+strings.Repeat("a", canon.MaxTarget), "ex.com", false); !errors.As(err, &e) || e.Status != http.StatusRequestURITooLong {
		t.Errorf("a long target gives %v", err)
	}
}

// OPTIONS * is about the server, and goes on as such.
func TestKEY05_Asterisk(t *testing.T) {
	got, err := canon.Parse(&http.Request{Method: "OPTIONS", RequestURI: "*", Host: "ex.com", URL: &url.URL{Path: "*"}}, false)
	if err != nil || got.Path != "*" {
		t.Fatal(got, err)
	}
	if u := got.Outgoing(); u.Opaque != "" || u.Path != "*" || u.RequestURI() != "*" {
		t.Errorf("goes on as %#v", u)
	}
}

// The parts of which random requests are made. They are few, so that near
// misses are many.
var (
	hostParts   = []string{"a", "A", "a.b", "b", "a:80", "a:443", "a:8", "a:", "a:080", "[::1]", "[::1]:80", "[::a]", "[::A]:443", "1", "80", "a.", "%41", "a%2Fb"}
	schemeParts = []string{"", "", "", "http://", "HTTP://", "https://", "hTTps://"}
	pathParts   = []string{"/", "//", "a", "A", "b", "?", "%2F", "%2f", "%41", "%61", "%", ":", "80", ".", "..", ";", "=", "&", "*", "@", "http:", "\x04", "~", "%7E", "!"}
)

func pick(r *rand.Rand, from []string) string { return from[r.IntN(len(from))] }

func randomTarget(r *rand.Rand) asked {
	a := asked{host: pick(r, hostParts), secure: r.IntN(2) == 0}
	a.target = pick(r, schemeParts)
	if a.target != "" {
		a.target += pick(r, hostParts)
	}
	if a.target == "" || r.IntN(4) > 0 {
		a.target += "/"
	}
	for range r.IntN(4) {
		a.target += pick(r, pathParts)
	}
	return a
}

// Threat R-08: all pairs of 20,000 requests, which is 200 million pairs.
func TestKEY01_EqualKeyIsEqualForwarding(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	byKey, byForward := map[string]asked{}, map[string]asked{}
	accepted := 0
	for range 20000 {
		a := randomTarget(r)
		target, err := parse(a.target, a.host, a.secure)
		if err != nil {
			continue
		}
		accepted++
		k, f := key(target), forwarded(target)
		first, known := byKey[k]
		other, sent := byForward[f]
		if !known {
			byKey[k] = a
		} else if x := must(t, first.target, first.host, first.secure); forwarded(x) != f {
			t.Fatalf("%+v and %+v share a key and go on as %q and %q", first, a, forwarded(x), f)
		}
		if !sent {
			byForward[f] = a
		} else if x := must(t, other.target, other.host, other.secure); key(x) != k {
			t.Fatalf("%+v and %+v both go on as %q and have two keys", other, a, f)
		}
	}
	if accepted < 10000 || len(byKey) < 1000 || len(byKey) > accepted*9/10 {
		t.Fatalf("%d requests of %d resources prove little", accepted, len(byKey))
	}
}

// FuzzTarget: two targets that forward differently never share a key, and what
// KEY-02 calls equal has one key. What a server behind us could read in two
// ways is refused.
func FuzzTarget(f *testing.F) {
	f.Add("/a?b", "ex.com", "HTTP://EX.com:80/a?b", "other", false)
	f.Add("http://ex.com", "", "/", "ex.com:80", false)
	f.Add("/a", "ex.com:443", "https://ex.com/a", "ex.com", true)
	f.Add("/a", "ex.com", "https://ex.com/a", "ex.com", false)
	f.Add("//a", "ex.com", "/a", "ex.com", false)
	f.Add("/?", "[::1]:80", "/", "[::1]", false)
	f.Add("*", "a", "/*", "a", false)
	f.Add("/a#b", "a", "/a", "a", false)
	f.Fuzz(func(t *testing.T, one, hostOne, two, hostTwo string, secure bool) {
		a, err := parse(one, hostOne, secure)
		if err != nil {
			return
		}
		sent := forwarded(a)
		if strings.ContainsAny(sent, "\x00\r\n\t#\\") || strings.Count(sent, " ") != 2 || strings.Contains(a.Host, "@") {
			t.Fatalf("%q at %q goes on as %q", one, hostOne, sent)
		}
		if strings.ToLower(a.Host) != a.Host || a.Path == "" || a.Path[0] != '/' {
			t.Fatalf("%q at %q is %+v", one, hostOne, a)
		}
		// The same once more, in the absolute form and in capitals.
		port := ":80"
		if a.Scheme == "https" {
			port = ":443"
		}
		rest := a.Path
		if a.HasQuery {
			rest += "?" + a.Query
		}
		loud := strings.ToUpper(a.Scheme) + "://" + strings.ToUpper(a.Host)
		if !strings.Contains(strings.TrimPrefix(a.Host, "["), ":") || strings.HasSuffix(a.Host, "]") {
			loud += port
		}
		if len(loud+rest) <= canon.MaxTarget {
			again, err := parse(loud+rest, "other", secure)
			if err != nil || again != a {
				t.Fatalf("%q at %q is %+v, but %q is %+v, %v", one, hostOne, a, loud+rest, again, err)
			}
		}
		b, err := parse(two, hostTwo, secure)
		if err != nil {
			return
		}
		if (key(a) == key(b)) != (sent == forwarded(b)) {
			t.Fatalf("%q at %q and %q at %q go on as %q and %q, with keys %q and %q", one, hostOne, two, hostTwo, sent, forwarded(b), key(a), key(b))
		}
		// Sites never meet, whatever their names are.
		if string(a.AppendKey(nil, hostOne)) == string(b.AppendKey(nil, hostTwo)) && (hostOne != hostTwo || key(a) != key(b)) {
			t.Fatalf("sites %q and %q share a key", hostOne, hostTwo)
		}
	})
}
