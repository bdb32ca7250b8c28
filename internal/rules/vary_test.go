package rules_test

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/rules"
)

// asking is a request with these lines of header.
func asking(lines ...string) *rules.Request {
	h := rules.Header{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ":")
		name = http.CanonicalHeaderKey(name)
		h[name] = append(h[name], strings.TrimSpace(value))
	}
	req := rules.ReadRequest("GET", h)
	return &req
}

// answered is a response to req that took no time.
func answered(req *rules.Request, terms *rules.Terms, lines ...string) *rules.Stored {
	h := rules.Header{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ":")
		name = http.CanonicalHeaderKey(name)
		h[name] = append(h[name], strings.TrimSpace(value))
	}
	return rules.Receive(req, 200, h, rules.Receipt{Asked: arrival, Arrived: arrival, Wall: arrival}, terms)
}

func TestVRY01_Matches(t *testing.T) {
	for _, c := range []struct {
		vary        string
		made, asked []string
		want        bool
	}{
		{"", []string{"Foo: 1"}, []string{"Foo: 2"}, true},
		{"Foo", []string{"Foo: 1"}, []string{"Foo: 1"}, true},
		{"Foo", []string{"Foo: 1"}, []string{"Foo: 2"}, false},
		{"Foo", []string{"Foo: a"}, []string{"Foo: A"}, false},
		{"Foo", []string{"Foo: 1"}, nil, false},
		{"Foo", nil, []string{"Foo: 1"}, false},
		{"Foo", nil, nil, true},
		{"Foo", nil, []string{"Foo: "}, false},
		{"Foo", []string{"Foo: "}, nil, false},
		{"Foo", []string{"Foo: "}, []string{"Foo: "}, true},
		{"Accept-Language", nil, []string{"Accept-Language: "}, false},
		{"Accept-Encoding", []string{"Accept-Encoding: "}, nil, false},
		{"Foo, Bar", []string{"Foo: 1", "Bar: 2"}, []string{"Bar: 2", "Foo: 1", "Baz: 3"}, true},
		{"Foo, Bar", []string{"Foo: 1", "Bar: 2"}, []string{"Foo: 1"}, false},
		{"Foo, Bar", []string{"Foo: 1", "Bar: 2"}, []string{"Foo: 2", "Bar: 1"}, false},
		{"Foo, Bar", []string{"Foo: 1, Bar: 2"}, []string{"Foo: 1", "Bar: 2"}, false},
		{"fOO", []string{"Foo: 1"}, []string{"Foo: 2"}, false},
		{",, foo,", []string{"Foo: 1"}, []string{"Foo: 2"}, false},
		{"Foo", []string{"Foo: 1", "Foo: 2"}, []string{"Foo: 1, 2"}, true},
		{"Foo", []string{"Foo: 1", "Foo: 2"}, []string{"Foo: 1"}, false},
		{"Foo", []string{"Foo: 1"}, []string{"Foo: 1", "Foo: 1"}, false},
		{"Foo", []string{"Foo: 1,2"}, []string{"Foo:  1, 2 "}, true},
		{"Foo", []string{`Foo: "1,2"`}, []string{`Foo: "1, 2"`}, false},
		{"*", []string{"Foo: 1"}, []string{"Foo: 1"}, false},
		{"Foo, *", []string{"Foo: 1"}, []string{"Foo: 1"}, false},
	} {
		req := asking(c.made...)
		s := answered(req, &rules.Terms{}, "Vary: "+c.vary)
		if got := s.Matches(asking(c.asked...), &rules.Terms{}); got != c.want {
			t.Errorf("Vary: %s, made for %q, asked by %q: %v", c.vary, c.made, c.asked, got)
		}
	}
	// vary-ignore takes a name out.
	terms := &rules.Terms{VaryIgnore: []string{"User-Agent"}}
	s := answered(asking("User-Agent: a", "Foo: 1"), terms, "Vary: user-agent, foo")
	if !s.Matches(asking("User-Agent: b", "Foo: 1"), terms) || s.Matches(asking("User-Agent: a", "Foo: 2"), terms) {
		t.Error("vary-ignore ignores the wrong name")
	}
}

func TestVRY09_TheLatestDateCounts(t *testing.T) {
	req := asking("Foo: 1")
	made := func(date time.Duration, received time.Duration, vary string) *rules.Stored {
		s := *answered(req, &rules.Terms{}, "Date: "+at(date), "Vary: "+vary)
		s.Received = arrival.Add(received)
		return &s
	}
	other := answered(asking("Foo: 2"), &rules.Terms{}, "Date: "+at(time.Hour), "Vary: Foo")
	for name, c := range map[string]struct {
		candidates []*rules.Stored // committed last first
		want       int
	}{
		"none":                                 {nil, -1},
		"no match":                             {[]*rules.Stored{other}, -1},
		"the later":                            {[]*rules.Stored{made(1*time.Second, 9, "Foo"), made(2*time.Second, 5, "Foo"), other}, 1},
		"the later, first":                     {[]*rules.Stored{other, made(2*time.Second, 5, "Foo"), made(1*time.Second, 9, "Foo")}, 1},
		"tie: received last":                   {[]*rules.Stored{made(0, 9, "Foo"), made(0, 5, "Foo")}, 0},
		"tie: received last, committed before": {[]*rules.Stored{made(0, 5, "Foo"), made(0, 9, "Foo")}, 1},
		"tie in all: committed last":           {[]*rules.Stored{nil, made(0, 5, "Foo"), made(0, 5, "Foo")}, 1},
		"other lists":                          {[]*rules.Stored{made(0, 9, "Foo"), made(time.Second, 5, "Foo, Bar")}, 1},
		// VRY-10: what has a Vary goes before what has none.
		"with Vary, though older":  {[]*rules.Stored{made(time.Hour, 9, ""), made(0, 5, "Foo")}, 1},
		"with Vary, first":         {[]*rules.Stored{made(0, 5, "Foo"), made(time.Hour, 9, "")}, 0},
		"the later of two with":    {[]*rules.Stored{made(0, 5, "Foo"), made(time.Hour, 9, ""), made(time.Second, 1, "Bar")}, 2},
		"without, as none matches": {[]*rules.Stored{other, made(0, 5, "")}, 1},
		"star never":               {[]*rules.Stored{made(time.Hour, 9, "*"), made(0, 5, "")}, 1},
		"only empty members":       {[]*rules.Stored{made(0, 5, ", ,"), made(1*time.Second, 5, "")}, 1},
	} {
		if got := rules.Select(req, c.candidates, &rules.Terms{}).Whole; got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestVRY11_LanguagesByMeaning(t *testing.T) {
	s := answered(asking("Accept-Language: en, de;q=0.5"), &rules.Terms{}, "Vary: Accept-Language", "Content-Language: en")
	for value, want := range map[string]bool{
		"en, de;q=0.5": true, "EN,De;q=0.5": true, "de;q=0.500 , en;q=1": true, " en ;Q=1.0,  de; q=0.5,": true,
		"en, de;q=0.4": false, "en, de": false, "en": false, "en-gb, de;q=0.5": false, "en, de;q=0.5, *;q=0.1": false,
	} {
		if got := s.Matches(asking("Accept-Language: "+value), &rules.Terms{}); got != want {
			t.Errorf("%q: %v", value, got)
		}
	}
}

func TestVRY12_CodingsByMeaning(t *testing.T) {
	s := answered(asking("Accept-Encoding: gzip, br;q=0.5"), &rules.Terms{}, "Vary: Accept-Encoding")
	for value, want := range map[string]bool{
		"gzip,br;q=0.5": true, "br;q=0.5, GZIP": true, "x-gzip, br;q=0.50": true, "X-Gzip;q=1, br;q=0.5": true,
		"gzip, br": false, "gzip": false, "gzip;q=0, br;q=0.5": false, "identity": false, "": false,
	} {
		if got := s.Matches(asking("Accept-Encoding: "+value), &rules.Terms{}); got != want {
			t.Errorf("%q: %v", value, got)
		}
	}
}

func TestVRY13_ContentLanguageDecidesNothing(t *testing.T) {
	s := answered(asking("Accept-Language: en, de"), &rules.Terms{}, "Vary: Accept-Language", "Content-Language: de")
	for _, value := range []string{"fr;q=0.5, de;q=1.0", "de", "de, en;q=0.1"} {
		req := asking("Accept-Language: " + value)
		if s.Matches(req, &rules.Terms{}) {
			t.Errorf("%q gets what was made for another", value)
		}
		if !s.Matches(req, &rules.Terms{LanguageSelect: true}) {
			t.Errorf("%q does not get it with language-select", value)
		}
	}
	if s.Matches(asking("Accept-Language: de, fr"), &rules.Terms{LanguageSelect: true}) {
		t.Error("language-select settles a tie")
	}
}

// manyVariants are responses to requests with these values of a field.
func manyVariants(name string, n int, terms *rules.Terms) []*rules.Stored {
	var stored []*rules.Stored
	for i := range n {
		stored = append(stored, answered(asking(name+": a"+strconv.Itoa(i)), terms, "Vary: "+name))
	}
	return stored
}

// Each candidate had the field of the request normalised, and concealed, anew.
func TestVRY01_OneValueForAllCandidates(t *testing.T) {
	terms := &rules.Terms{Secret: []byte("key"), LanguageSelect: true}
	for name, value := range map[string]string{
		"Accept-Encoding": "BR , x-gzip;q=0.50", "Accept-Language": "DE , en;q=0.50", "Cookie": "a , b", "Foo": "a , b",
	} {
		few, many := manyVariants(name, 1, terms), manyVariants(name, 64, terms)
		for _, value := range []string{value, strings.Repeat(value+",", 2000)} {
			header := asking(name + ": " + value).Header
			allocs := func(candidates []*rules.Stored) float64 {
				return testing.AllocsPerRun(5, func() {
					req := rules.ReadRequest("GET", header)
					if c := rules.Select(&req, candidates, terms); c.Whole >= 0 {
						t.Fatalf("%s of %d octets chose %d", name, len(value), c.Whole)
					}
				})
			}
			if one, all := allocs(few), allocs(many); all > one+8 { // some for the runtime's own
				t.Errorf("%s of %d octets: %v allocations with one candidate, %v with %d", name, len(value), one, all, len(many))
			}
		}
	}
	// What is equal to the letter needs none at all.
	header := asking("Accept-Encoding: gzip , br").Header
	s := []*rules.Stored{answered(asking("Accept-Encoding: gzip , br"), terms, "Vary: Accept-Encoding")}
	if n := testing.AllocsPerRun(5, func() {
		req := rules.ReadRequest("GET", header)
		rules.Select(&req, s, terms)
	}); n > 0 {
		t.Errorf("a hit to the letter allocates %v times", n)
	}
}

// What is remembered of a secret field is not what others may see, and the
// other way round.
func TestVRY01_ValuesInClearAndConcealedAreApart(t *testing.T) {
	terms := &rules.Terms{Secret: []byte("key")}
	s := answered(asking("Cookie: a"), terms, "Vary: Cookie")
	req := asking("Cookie: a")
	plain := req.Variant([]string{"Cookie"})
	if !s.Matches(req, terms) {
		t.Error("no match after the value was used in clear")
	}
	if got := req.Variant([]string{"Cookie"}); got != plain {
		t.Errorf("the variant is %q, and after a match %q", plain, got)
	}
	if got := answered(req, terms, "Vary: Cookie").Selecting[0]; got != s.Selecting[0] || got.Value == "a" {
		t.Errorf("kept as %+v, and after use in clear as %+v", s.Selecting[0], got)
	}
}

// Copies of a request go to other goroutines.
func TestVRY01_CopiesOfARequestAreApart(t *testing.T) {
	var names, lines []string
	for i := range 40 { // more than are remembered
		names = append(names, "F"+strconv.Itoa(i))
		lines = append(lines, names[i]+": v"+strconv.Itoa(i))
	}
	want := make([]string, len(names))
	for i, name := range names {
		want[i] = asking(lines...).Variant([]string{name})
	}
	for used := range 12 { // of which some leave room to append
		req := asking(lines...)
		req.Variant(names[:used])
		var all sync.WaitGroup
		for n := range 3 {
			own := *req
			all.Go(func() {
				for i := range names {
					i = (i + used + 9*n) % len(names)
					if got := own.Variant(names[i : i+1]); got != want[i] {
						t.Errorf("%s is %q, want %q", names[i], got, want[i])
					}
				}
			})
		}
		all.Wait()
	}
}
