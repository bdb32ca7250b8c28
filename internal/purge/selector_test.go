package purge

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/larderhq/larder/internal/canon"
)

// target is what clients ask for by a URL.
func target(t testing.TB, text string) canon.Target {
	t.Helper()
	u, err := canon.ParseURL(text)
	if err != nil || u.Scheme == "" && !strings.HasPrefix(text, "/") {
		t.Fatalf("%q: %v", text, err)
	}
	return u
}

// purged publishes a Selector and tells which of some URLs are gone.
func purged(t testing.TB, s Selector, paths bool, urls ...string) (gone []string) {
	t.Helper()
	l := New(Options{Paths: paths})
	var subjects []*Subject
	for _, u := range urls {
		subjects = append(subjects, l.Subject(&Kept{Stamp: l.Stamp(), Target: target(t, u)}))
	}
	if _, err := l.Publish(Order{Selectors: []Selector{s}}); err != nil {
		t.Fatalf("%+v: %v", s, err)
	}
	for i, s := range subjects {
		if s.Verdict() == Gone {
			gone = append(gone, urls[i])
		}
	}
	return gone
}

func TestPRG03_SelectorsNameWhatTheySay(t *testing.T) {
	const a, b = "http://a.example", "https://a.example"
	for _, c := range []struct {
		s    Selector
		want string // of urls, by their first letters
	}{
		{Selector{URL: a + "/x"}, "0"},
		{Selector{URL: "HTTP://A.example:80/x"}, "0"},
		{Selector{URL: "//a.example/x"}, "0 1"},
		{Selector{URL: "/x"}, "0 1 2"},
		{Selector{URL: a + "/x?q=1"}, "3"},
		{Selector{URL: "/x?"}, ""},
		{Selector{URL: a + "/café"}, "6"},
		{Selector{URL: a}, "7"},
		{Selector{Prefix: a + "/x"}, "0 3 4 5"},
		{Selector{Prefix: "//a.example/x/"}, "4"},
		{Selector{Prefix: "/x"}, "0 1 2 3 4 5"},
		{Selector{Prefix: "//b.example"}, "2"},
		{Selector{Prefix: b}, "1"},
		{Selector{Prefix: a + "/caf"}, "6"},
		{Selector{Prefix: "/café"}, "6"},
		{Selector{Glob: "/x"}, "0 1 2 3"},
		{Selector{Glob: "/x?q=*"}, "3"},
		{Selector{Glob: "/*.png"}, "5"},
		{Selector{Glob: "/x*"}, "0 1 2 3 5"},
		{Selector{Glob: "/x/**"}, "0 1 2 3 4"},
		{Selector{Glob: "//a.example/x/*"}, "4"},
		{Selector{Glob: "http://a.example/[xy]"}, "0 3"},
		{Selector{Glob: "//*.example/{x,z}"}, "0 1 2 3"},
		{Selector{Glob: "//b.example"}, "2"},
		{Selector{Glob: "/caf?"}, ""}, // what follows is about the query
		{Selector{Glob: "/café"}, "6"},
		{Selector{Glob: "/caf\xc3\xa9"}, "6"},
		{Selector{Regex: `^https:`}, "1"},
		{Selector{Regex: `[?]q=\d$`}, "3"},
		{Selector{Regex: `\.png`}, "5"},
		{Selector{All: true}, "0 1 2 3 4 5 6 7"},
	} {
		urls := []string{a + "/x", b + "/x", "http://b.example/x", a + "/x?q=1", a + "/x/y", a + "/x.png", a + "/café", a + "/"}
		var want []string
		for _, n := range strings.Fields(c.want) {
			want = append(want, urls[n[0]-'0'])
		}
		if got := purged(t, c.s, false, urls...); strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("%+v is about %q, want %q", c.s, got, want)
		}
	}
	// Of storage there are paths alone.
	for s, want := range map[Selector]string{
		{URL: "http://any.example/x?q=1"}: "/x", {Prefix: "//any.example/x"}: "/x /x/y", {Glob: "//any.example/x/*"}: "/x/y", {Regex: "^/x$"}: "/x",
	} {
		if got := strings.Join(purged(t, s, true, "/x", "/x/y", "/z"), " "); got != want {
			t.Errorf("by paths, %+v is about %q, want %q", s, got, want)
		}
	}
}

func TestPRG03_TagsAndGroupsAreExact(t *testing.T) {
	kept := func(l *Ledger, origin string) *Subject {
		return l.Subject(&Kept{Stamp: l.Stamp(), Target: target(t, origin+"/x"), Tags: []string{"red", "Blue"}, Groups: []string{"g"}})
	}
	for _, c := range []struct {
		s    Selector
		want Verdict
	}{
		{Selector{Tag: "red"}, Gone},
		{Selector{Tag: "Red"}, Clean},
		{Selector{Tag: "re"}, Clean},
		{Selector{Tag: "g"}, Clean},
		{Selector{Group: "g", Origin: "http://a.example"}, Gone},
		{Selector{Group: "g", Origin: "http://A.EXAMPLE:80/"}, Gone},
		{Selector{Group: "g", Origin: "https://a.example"}, Clean},
		{Selector{Group: "G", Origin: "http://a.example"}, Clean},
		{Selector{Group: "red", Origin: "http://a.example"}, Clean},
	} {
		l := New(Options{})
		s := kept(l, "http://a.example")
		if _, err := l.Publish(Order{Selectors: []Selector{{Tag: "other"}, c.s}}); err != nil {
			t.Fatal(err)
		}
		if got := s.Verdict(); got != c.want {
			t.Errorf("%+v: verdict %d, want %d", c.s, got, c.want)
		}
	}
}

func TestBadSelectorsAreRefused(t *testing.T) {
	for _, s := range []Selector{
		{},
		{URL: "/x", Tag: "t"},
		{All: true, Prefix: "/x"},
		{URL: "x"},
		{URL: "ftp://a.example/x"},
		{URL: "http:///x"},
		{URL: "/x#y"},
		{Prefix: "/"},
		{Prefix: ""},
		{Glob: "/**"},
		{Glob: "x"},
		{Glob: "/[x"},
		{Glob: "/" + strings.Repeat("**/", 5) + "x"},
		{Glob: "/" + strings.Repeat("x", MaxPattern)},
		{Glob: "/" + strings.Repeat("{*,*,*,*,*,*,*}", 4)},
		{Regex: "("},
		{Regex: "x*"},
		{Regex: "\xff"},
		{Regex: strings.Repeat("x", MaxPattern+1)},
		{Tag: "ü"},
		{Tag: "a\nb"},
		{Tag: strings.Repeat("x", MaxTag+1)},
		{Group: "g"},
		{Origin: "http://a.example"},
		{Group: "g", Origin: "a.example"},
		{Group: "g", Origin: "http://a.example/x"},
	} {
		l := New(Options{})
		if _, err := l.Publish(Order{Selectors: []Selector{{All: true}, s}}); err == nil {
			t.Errorf("%+v was taken", s)
		}
		if len(l.Receipts()) > 0 || l.Concerns(l.Stamp()-1, nil) {
			t.Errorf("%+v: something was purged", s)
		}
	}
}

// Whatever is taken as a Selector means the same after it was written down, and a
// rule and a Query agree on what it is about.
func FuzzSelector(f *testing.F) {
	for i, text := range []string{"http://a.example/x?q", "//a.example", "/caf\xe9/", "/x/**/{a,b}[0-9]?*=1", `^https?://[^/]+/(x|y)`, "tag", "group", ""} {
		f.Add(uint8(i), text, "http://a.example/x?q")
		f.Add(uint8(i), text, "/caf%E9/y")
	}
	f.Fuzz(func(t *testing.T, kind uint8, text, url string) {
		u, err := canon.ParseURL(url)
		if err != nil {
			return
		}
		paths := kind&8 != 0
		if paths {
			u = canon.Target{Path: u.PlainPath()}
		}
		s := []Selector{{URL: text}, {Prefix: text}, {Glob: text}, {Regex: text}, {Tag: text}, {Group: text, Origin: "http://a.example"}, {Group: "g", Origin: text}, {All: true}}[kind&7]
		verdict := func(o Order) Verdict {
			l := New(Options{Paths: paths})
			k := l.Subject(&Kept{Stamp: l.Stamp(), Target: u, Tags: []string{text}, Groups: []string{text}})
			q, err := l.Query(o)
			if err != nil {
				return Clean
			}
			named := q.Names(k)
			if _, err := l.Publish(o); err != nil {
				t.Fatalf("%+v: %v", o, err)
			}
			if v := k.Verdict(); named != (v == Gone) {
				t.Fatalf("%+v: verdict %d of %v, named %v", o, v, u, named)
			}
			return k.Verdict()
		}
		o := Order{Selectors: []Selector{s}}
		want := verdict(o)
		l := New(Options{Paths: paths})
		r, err := l.Publish(o)
		if err != nil {
			return
		}
		written, err := json.Marshal(r.Order)
		if err != nil {
			t.Fatal(err)
		}
		var again Order
		if err := json.Unmarshal(written, &again); err != nil {
			t.Fatal(err)
		}
		if _, err := New(Options{Paths: paths}).Publish(again); err != nil {
			t.Fatalf("%s was taken, and is not after it was written down: %v", written, err)
		}
		if got := verdict(again); got != want {
			t.Fatalf("%s: verdict %d of %v after it was written down, %d before", written, got, u, want)
		}
	})
}
