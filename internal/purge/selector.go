package purge

import (
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/larderhq/larder/internal/canon"
)

// Limits of what a Selector may be.
const (
	// MaxPattern is how many octets a glob or an expression has at most.
	MaxPattern = 1024
	// MaxTag is how many octets a tag or the name of a group has at most.
	MaxTag = 1024
	// maxStars is how many ** and braces a glob has at most, and maxChoices how many ways
	// there are through its braces: each multiplies the work.
	maxStars   = 4
	maxChoices = 1000
	// maxSteps is how many steps an expression compiles to at most: some 100 octets each.
	maxSteps = 2000
)

// A Selector names responses. One of its fields is set, but for Group, which goes with
// Origin.
//
// URL, Prefix and Glob begin with http://host/path, with //host/path for http and https,
// or with /path for all hosts. Storage, which knows resources by their paths alone, is
// asked by the path of any of them.
type Selector struct {
	// URL is exactly this one, query included, with all its variants.
	URL string `json:"url,omitempty"`

	// Prefix is all whose URL begins with these octets. A host alone is that host.
	Prefix string `json:"prefix,omitempty"`

	// Glob is all whose URL fits: * stands for anything but a slash, /**/ for any
	// folders, [a-z] and {png,jpg} for one of several. What follows a ? is about the query,
	// where * stands for anything; without one the query does not matter.
	Glob string `json:"glob,omitempty"`

	// Regex is all in whose URL, http://host/path?query, the expression (RE2) is found.
	Regex string `json:"regex,omitempty"`

	// Tag is all that the origin has labelled so, to the letter.
	Tag string `json:"tag,omitempty"`

	// Group is all that is in this group (Cache-Groups, RFC 9875) of Origin, which is
	// written http://host.
	Group  string `json:"group,omitempty"`
	Origin string `json:"origin,omitempty"`

	// All is everything.
	All bool `json:"all,omitempty"`
}

// Valid tells what is wrong with s; nil: nothing.
func (s Selector) Valid() error {
	_, err := s.compile(false)
	return err
}

// String is s as a person reads it.
func (s Selector) String() string {
	switch {
	case s.URL != "":
		return s.URL
	case s.Prefix != "":
		return "prefix " + s.Prefix
	case s.Glob != "":
		return "glob " + s.Glob
	case s.Regex != "":
		return "regex " + s.Regex
	case s.Tag != "":
		return "tag " + s.Tag
	case s.Group != "":
		return "group " + s.Group + " of " + s.Origin
	case s.All:
		return "everything"
	}
	return "nothing"
}

// A matcher tells whether a URL is meant. The text is the whole of t.
type matcher func(t *canon.Target, text string) bool

// A compiled Selector is one of: all, by a hash of its own, or by a matcher.
type compiled struct {
	all   bool
	url   uint64 // of the text of an exact URL
	label uint64 // of a tag or a group
	match matcher
}

var (
	errNone = errors.New("the selector names nothing: give one of url, prefix, glob, regex, tag, group with origin, or all")
	errMany = errors.New("the selector names several things: make one selector of each")
)

// seed is of the hashes of one process.
var seed = maphash.MakeSeed()

// compile finds out what s means. paths says that resources are known by their paths
// alone.
func (s Selector) compile(paths bool) (c compiled, err error) {
	given := 0
	for _, is := range []bool{s.URL != "", s.Prefix != "", s.Glob != "", s.Regex != "", s.Tag != "", s.Group != "" || s.Origin != "", s.All} {
		if is {
			given++
		}
	}
	switch {
	case given == 0:
		return c, errNone
	case given > 1:
		return c, errMany
	case s.All:
		return compiled{all: true}, nil
	case s.Tag != "":
		c.label, err = hashTag(s.Tag), checkLabel("tag", s.Tag)
	case s.Group != "" || s.Origin != "":
		c.label, err = s.group()
	case s.URL != "":
		var t canon.Target
		t, err = s.exact(paths)
		c.url = hashURL(textOf(&t))
	case s.Prefix != "":
		c.match, err = prefix(s.Prefix, paths)
	case s.Glob != "":
		c.match, err = glob(canon.Escape(s.Glob), paths)
	default:
		c.match, err = expression(s.Regex, paths)
	}
	return c, err
}

// legible are selectors that a Journal can keep as they are: text is UTF-8 there.
func legible(selectors []Selector) []Selector {
	selectors = slices.Clone(selectors)
	for i := range selectors {
		s := &selectors[i]
		for _, text := range []*string{&s.URL, &s.Prefix, &s.Glob} {
			if !utf8.ValidString(*text) {
				*text = canon.Escape(*text)
			}
		}
	}
	return selectors
}

// plain has selectors name what clients ask for by http.
func plain(selectors []Selector) {
	const from, to = "https://", "http://"
	for i := range selectors {
		s := &selectors[i]
		for _, text := range []*string{&s.URL, &s.Prefix, &s.Glob, &s.Origin} {
			if len(*text) < len(from) || !strings.EqualFold((*text)[:len(from)], from) {
				continue
			}
			host, path, _ := strings.Cut((*text)[len(from):], "/")
			*text = to + strings.TrimSuffix(host, ":443") + "/" + path
		}
	}
}

func checkLabel(kind, label string) error {
	switch {
	case len(label) > MaxTag:
		return fmt.Errorf("the %s has %d octets: none that was kept has more than %d", kind, len(label), MaxTag)
	case strings.ContainsFunc(label, func(r rune) bool { return r < ' ' || r > '~' }):
		return fmt.Errorf("%s %q: tags and groups are printable ASCII, so nothing has this one", kind, label)
	}
	return nil
}

func hashTag(tag string) uint64 { return maphash.String(seed, tag) }

// A group has an octet in it that no tag has.
func hashGroup(origin, name string) uint64 { return maphash.String(seed, origin+"\x00"+name) }

func hashURL(text string) uint64 { return maphash.String(seed, text) }

func (s Selector) group() (uint64, error) {
	if s.Group == "" || s.Origin == "" {
		return 0, errors.New("a group is one of an origin: give both group and origin, such as http://example.org")
	}
	t, err := canon.ParseURL(s.Origin)
	if err != nil || t.Scheme == "" || t.Path != "/" || t.HasQuery {
		return 0, fmt.Errorf("origin %q: write it as http://host or https://host:port", s.Origin)
	}
	return hashGroup(originOf(&t), s.Group), checkLabel("group", s.Group)
}

func originOf(t *canon.Target) string { return t.Scheme + "://" + t.Host }

// exact is the target that URL names, or as much of it as it says.
func (s Selector) exact(paths bool) (canon.Target, error) {
	t, err := canon.ParseURL(s.URL)
	if paths {
		t = canon.Target{Path: t.PlainPath()}
	}
	return t, err
}

// textOf is a target, or as much of it as there is.
func textOf(t *canon.Target) string {
	s := t.Path
	if t.HasQuery {
		s += "?" + t.Query
	}
	switch {
	case t.Scheme != "":
		return t.Scheme + "://" + t.Host + s
	case t.Host != "":
		return "//" + t.Host + s
	}
	return s
}

// place is where in a text the part begins that like has: its scheme, its host, or its
// path.
func place(like *canon.Target, t *canon.Target) int {
	switch {
	case like.Scheme != "" || t.Scheme == "":
		return 0
	case like.Host != "":
		return len(t.Scheme) + 1
	}
	return len(t.Scheme) + len("://") + len(t.Host)
}

func prefix(text string, paths bool) (matcher, error) {
	like, err := canon.ParseURL(text)
	switch {
	case err != nil:
		return nil, err
	case like.Path == "/" && !like.HasQuery && (like.Host == "" || paths):
		return nil, fmt.Errorf("prefix %q: everything begins with it; say all if that is what you mean", text)
	case paths:
		like = canon.Target{Path: like.PlainPath()}
	}
	want := textOf(&like)
	return func(t *canon.Target, text string) bool { return strings.HasPrefix(text[place(&like, t):], want) }, nil
}

func glob(text string, paths bool) (matcher, error) {
	if len(text) > MaxPattern {
		return nil, fmt.Errorf("the glob has %d octets: at most %d", len(text), MaxPattern)
	}
	path, query, asks := strings.Cut(text, "?")
	var like canon.Target
	switch scheme, rest, hosted := strings.Cut(path, "//"); {
	case hosted && (scheme == "http:" || scheme == "https:"):
		like.Scheme, like.Host, path = scheme[:len(scheme)-1], "host", rest
	case hosted && scheme == "":
		like.Host, path = "host", rest
	case !strings.HasPrefix(path, "/"):
		return nil, fmt.Errorf("glob %q: begin with http://host/, with //host/ for http and https, or with / for all hosts", text)
	}
	if like.Host != "" && !strings.Contains(path, "/") {
		path += "/**"
	}
	if paths && like.Host != "" {
		path, like = path[strings.IndexByte(path, '/'):], canon.Target{}
	}
	bare := strings.Trim(path, "/*")
	switch {
	case strings.Count(path, "**")+strings.Count(path, "{") > maxStars:
		return nil, fmt.Errorf("glob %q: at most %d of ** and braces; a regex can say more", text, maxStars)
	case choices(path) > maxChoices:
		return nil, fmt.Errorf("glob %q: its braces can be read in more than %d ways; a regex can say more", text, maxChoices)
	case !doublestar.ValidatePattern(path):
		return nil, fmt.Errorf("glob %q: a bracket or brace is not closed", text)
	case bare == "" && !asks && strings.Contains(path, "**"):
		return nil, fmt.Errorf("glob %q: everything fits; say all if that is what you mean", text)
	}
	var inQuery func(string) bool
	if asks {
		pieces := strings.Split(query, "*")
		for i := range pieces {
			pieces[i] = regexp.QuoteMeta(pieces[i])
		}
		inQuery = regexp.MustCompile("^(?:" + strings.Join(pieces, ".*") + ")$").MatchString
	}
	return func(t *canon.Target, _ string) bool {
		if like.Scheme != "" && like.Scheme != t.Scheme || asks && !(t.HasQuery && inQuery(t.Query)) {
			return false
		}
		subject := t.Path
		if like.Host != "" {
			subject = t.Host + t.Path
		}
		return doublestar.MatchUnvalidated(path, subject)
	}, nil
}

// choices is about how many ways there are through the braces of a glob, or more.
func choices(glob string) float64 {
	braces := float64(strings.Count(glob, "{"))
	if braces == 0 {
		return 1
	}
	return math.Pow(1+float64(strings.Count(glob, ","))/braces, braces)
}

// probes are so different that what is found in each of them is found everywhere.
var probes, pathProbes = []string{"http://a.example/", "https://b.test:8443/x/y.z?q=1", "http://[::1]/%20-_~"}, []string{"/", "/x/y.z", "/%20-_~"}

func expression(text string, paths bool) (matcher, error) {
	if len(text) > MaxPattern {
		return nil, fmt.Errorf("the regex has %d octets: at most %d", len(text), MaxPattern)
	}
	re, err := regexp.Compile(text)
	like := probes
	if paths {
		like = pathProbes
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("regex %q: %w", text, err)
	case steps(text) > maxSteps:
		return nil, fmt.Errorf("regex %q: its repetitions make it too large; write it in several, or with * and +", text)
	case re.MatchString("") || !slices.ContainsFunc(like, func(u string) bool { return !re.MatchString(u) }):
		return nil, fmt.Errorf("regex %q: it is found in everything; say all if that is what you mean", text)
	case strings.HasPrefix(text, "^/") && !paths:
		return nil, fmt.Errorf("regex %q: no URL begins so; write ^https?://[^/]+/ in place of ^/", text)
	}
	return func(_ *canon.Target, text string) bool { return re.MatchString(text) }, nil
}

// steps is how many steps a valid expression compiles to: what it takes.
func steps(text string) int {
	re, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return 0
	}
	p, err := syntax.Compile(re.Simplify())
	if err != nil {
		return 0
	}
	return len(p.Inst)
}

// Targets are all that selectors can be about, if all of them are URLs of known hosts. The
// selectors are those of an Order that was published.
func Targets(selectors []Selector, paths bool) (targets []canon.Target, all bool) {
	all = true
	for _, s := range selectors {
		t, err := s.exact(paths)
		switch {
		case s.URL == "" || err != nil || !paths && t.Host == "":
			all = false
		case paths, t.Scheme != "":
			targets = append(targets, t)
		default:
			for _, t.Scheme = range []string{"http", "https"} {
				targets = append(targets, t)
			}
		}
	}
	return targets, all
}
