package habit

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/larderhq/larder/internal/purge"
)

// fits is what a Selector that within made says of URLs.
func fits(s purge.Selector) func(url string) bool {
	switch {
	case s.All:
		return func(string) bool { return true }
	case s.Prefix != "":
		return func(url string) bool { return strings.HasPrefix(url, "https:"+s.Prefix+"/") }
	}
	return regexp.MustCompile(s.Regex).MatchString
}

// Others look for one expression in the host and for another in the path with its query. What
// is made of the two is about the same URLs, whatever the anchors.
func TestWithinMeansTheSame(t *testing.T) {
	letters := []string{"a", "b", "a", "b", "/", ".", "^", "$", "(a|b)", "(^|/)", "(a|^b)", "(b$|a)", "(/|$)", "[ab]", "[^a]", "[^/]", `\.`, "a?", "b*", ".*", ".+", "(^a)*", "(a$)?", "(?:^|b){2}", "/+", "a|^b", "b|a$", "^(", ")$", "|"}
	chance := rand.New(rand.NewPCG(9875, 9111))
	expression := func() string {
		var b strings.Builder
		for range 1 + chance.IntN(5) {
			b.WriteString(letters[chance.IntN(len(letters))])
		}
		return b.String()
	}
	names := []string{"a", "ab", "b.a", "aab.b"}
	paths := []string{"/", "/a", "/ba", "/a/b", "/b/a/", "//", "/a.b", "/?a/b"}
	compared := 0
	for range 2000 {
		inHost, inPath := expression(), expression()
		hostRE, err := regexp.Compile(inHost)
		if err != nil {
			continue
		}
		pathRE, err := regexp.Compile(inPath)
		if err != nil {
			continue
		}
		is := func(string) bool { return false }
		s, err := within(hosts{like: inHost}, inPath)
		switch {
		case err == nil:
			is = fits(s)
		case !strings.Contains(err.Error(), "no URL fits it"):
			t.Fatalf("%s with %s: %v", inHost, inPath, err)
		}
		for _, host := range names {
			for _, path := range paths {
				want := hostRE.MatchString(host) && pathRE.MatchString(path)
				if got := is("https://" + host + path); got != want {
					t.Fatalf("host %s with path %s is %v: of %s%s it says %v, and is %v", inHost, inPath, s, host, path, got, want)
				}
				compared++
			}
		}
	}
	if compared < 20_000 {
		t.Errorf("only %d were compared", compared)
	}
}

func TestWithinReadsWell(t *testing.T) {
	for _, c := range []struct {
		like, path string
		want       purge.Selector
	}{
		{".*", ".*", purge.Selector{All: true}},
		{"", "^/", purge.Selector{All: true}},
		{`^example\.com$`, "^/foo", purge.Selector{Regex: `^https?://example\.com/foo`}},
		{`^(www\.)?Example\.com$`, `\.(png|jpe?g)$`, purge.Selector{Regex: `^https?://(?:www\.)?example\.com/.*\.(?:png|jpe?g)$`}},
		{`^(a\.org|b\.org)$`, ".*", purge.Selector{Regex: `^https?://(?:a\.org|b\.org)/`}},
		{`example\.com`, "^/a/?$", purge.Selector{Regex: `^https?://[^/]*example\.com[^/]*/a/?$`}},
		{".*", "/foo", purge.Selector{Regex: `^https?://[^/]+/(?:.*/foo|foo)`}},
		{".*", "^/(foo|bar/.*)$", purge.Selector{Regex: `^https?://[^/]+/(?:foo|bar/.*)$`}},
		{".*", "^(?:/|a){1,3}b$", purge.Selector{Regex: `^https?://[^/]+/[/a]{0,2}b$`}},
		{".*", `^/[^/?]+/(?i:A)\?.{2}[\]^-]`, purge.Selector{Regex: `^https?://[^/]+/[^/?]+/(?i:A)\?.{2}[\-\]\^]`}},
	} {
		got, err := within(hosts{like: c.like}, c.path)
		if err != nil || got != c.want {
			t.Errorf("%s and %s: %+v, %v; want %+v", c.like, c.path, got, err, c.want)
		}
	}
}
