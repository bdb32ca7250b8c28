package field

import (
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestVRY03_Star(t *testing.T) {
	for _, lines := range [][]string{
		line("*"), line("*, *"), {"*", "*"}, line(", *"), {"", "*"}, line("*, Foo"), line("Foo, *"), {"Foo", "Bar, *"}, line("Foo,*,"),
	} {
		if names, any := ParseVary(lines); !any || names != nil {
			t.Errorf("%q: %q %v", lines, names, any)
		}
	}
}

// A member that is no field name could stand for anything.
func TestVRY03_MalformedMembers(t *testing.T) {
	for _, s := range []string{"Foo Bar", `"Foo"`, "Foo;q=1", "Foo, Bär", "**, Foo bar", `"a, b`} {
		if _, any := ParseVary(line(s)); !any {
			t.Errorf("%q is taken for names", s)
		}
	}
}

func TestVRY04_Names(t *testing.T) {
	for _, c := range []struct {
		lines, want []string
	}{
		{nil, nil},
		{line(""), nil},
		{line(" , "), nil},
		{line("accept-ENCODING"), []string{"Accept-Encoding"}},
		{line("foo, Accept,, FOO ,bar"), []string{"Accept", "Bar", "Foo"}},
		{[]string{"foo", "", "Accept, foo"}, []string{"Accept", "Foo"}},
	} {
		if names, any := ParseVary(c.lines); any || !slices.Equal(names, c.want) {
			t.Errorf("%q: %q %v", c.lines, names, any)
		}
	}
}

// same and differ compare values of one field given as lines.
func same(t *testing.T, name string, values ...[]string) {
	t.Helper()
	first, _ := VaryValue(name, values[0], true)
	for _, lines := range values[1:] {
		if got, ok := VaryValue(name, lines, true); got != first || !ok {
			t.Errorf("%s %q is %q, but %q is %q", name, values[0], first, lines, got)
		}
	}
}

func differ(t *testing.T, name string, values ...[]string) {
	t.Helper()
	seen := map[string][]string{}
	for _, lines := range values {
		got, _ := VaryValue(name, lines, true)
		if other, ok := seen[got]; ok {
			t.Errorf("%s %q and %q are both %q", name, other, lines, got)
		}
		seen[got] = lines
	}
}

func TestVRY02_AbsentIsNotEmpty(t *testing.T) {
	for _, name := range []string{"Foo", "Accept-Language", "Accept-Encoding"} {
		if v, ok := VaryValue(name, nil, false); v != "" || ok {
			t.Errorf("%s absent: %q %v", name, v, ok)
		}
		if v, ok := VaryValue(name, line(""), true); v != "" || !ok {
			t.Errorf("%s empty: %q %v", name, v, ok)
		}
	}
}

func TestVRY05_SeveralLines(t *testing.T) {
	same(t, "Foo", []string{"1", "2"}, line("1, 2"), line("1,2"), []string{" 1 ", "\t2"})
	differ(t, "Foo", line("1, 2"), line("2, 1"), line("1 2"), line("12"), line("1"), line("1,,2"), line(""), []string{"", ""})
}

func TestVRY06_BlanksAroundCommas(t *testing.T) {
	same(t, "Foo", line("1,2"), line(" 1, 2 "), line("1\t,\t2"), line("1 ,2\t"))
	same(t, "Foo", line(`"a , b",c`), line(`"a , b" , c`))
	differ(t, "Foo", line(`"a,b"`), line(`"a, b"`), line(`"a ,b"`), line(`" a,b"`), line(`"a,b "`))
	differ(t, "Foo", line(`"\" , "`), line(`"\","`), line(`"\" ,"`))
	differ(t, "Foo", line("a b"), line("a  b"), line("ab"), line("A b"))
	// An open quote keeps what follows as it is.
	differ(t, "Foo", line(`"a , b`), line(`"a, b`), line(`"a,b`))
	same(t, "Foo", []string{`"a`, `b , c" , d`}, line(`"a,b , c",d`))
}

func TestVRY11_AcceptLanguage(t *testing.T) {
	const name = "Accept-Language"
	same(t, name, line("en, de"), line("de,en"), line("DE , eN"), line("en;q=1, de;q=1.000"), line("en ; Q=1., de"), []string{"de", "", "en"}, line("de,en,de"))
	same(t, name, line("en;q=0.50"), line("EN;q=0.5"), line("en ;\tq=0.500"))
	same(t, name, line("en;q=0"), line("en;q=0.000"), line("en;q=0."))
	differ(t, name, line("en, de"), line("en"), line("en, de;q=0.5"), line("en, de;q=0.51"), line("en, de;q=0.501"), line("en, de;q=0"), line("en, de-at"), line("en, *"))
	if got, _ := VaryValue(name, line("en ; q=1.0,DE;q=0.50, *;Q=0"), true); got != "*;q=0,de;q=0.5,en" {
		t.Errorf("normal form is %q", got)
	}
	// Members that are not understood are left as they are.
	differ(t, name, line("en"), line("en;q=2"), line("en;q=1.001"), line("en;q=0.5000"), line("en;q=x"), line("en;level=1"), line("en;q=0.5;a"), line("en;"), line("en;q="), line("EN;q=2"), line(`"en"`), line("e n"))
}

func TestVRY12_AcceptEncoding(t *testing.T) {
	const name = "Accept-Encoding"
	same(t, name, line("gzip, br"), line("BR,GZip"), line("br;q=1.0, x-gzip"), []string{"br", "X-GZIP;q=1"})
	same(t, name, line("x-gzip;q=0.50"), line("gzip; q=0.5"))
	same(t, name, line("compress"), line("x-compress"))
	differ(t, name, line("gzip"), line("gzip;q=0.5"), line("gzip, br"), line("identity"), line("*"), line("gzip;q=0"))
	// The alias is one of codings only.
	differ(t, "Accept-Language", line("x-gzip"), line("gzip"))
}

// A list of any length was taken apart and sorted, which a client can make as
// dear as it likes.
func TestVRY12_HugeListsAreNotSorted(t *testing.T) {
	var members []string
	for i := range 6000 {
		members = append(members, strconv.FormatInt(int64(i*7919%6000), 36))
	}
	listed := strings.Join(members, ",")
	slices.Reverse(members)
	reversed := strings.Join(members, ",")
	for _, name := range []string{"Accept-Language", "Accept-Encoding"} {
		differ(t, name, line(listed), line(reversed), line(strings.ToUpper(listed)))
		// It is a field like any other then.
		same(t, name, line(listed), line(" "+strings.ReplaceAll(listed, ",", "\t, ")), strings.SplitN(listed, ",", 3))
		if got, _ := VaryValue(name, line(listed), true); got != listed {
			t.Errorf("%s: %d octets became %d", name, len(listed), len(got))
		}
		// The limit is one of what the list says: where blanks are and where
		// lines end does not move it.
		most := strings.Repeat("y,", ListLimit/2-1) + "de"
		same(t, name, line(most), line("de,y"), line(strings.ReplaceAll(most, ",", " , ")), strings.Split(most, ","))
		differ(t, name, line("e"+most), line("de,y,ey"), line("y,"+most))
		same(t, name, line("e"+most), line(strings.ReplaceAll("e"+most, ",", " , ")), strings.Split("e"+most, ","))
	}
}

func TestVRY11_OtherFieldsKeepCaseAndOrder(t *testing.T) {
	differ(t, "Cookie", line("a=1"), line("A=1"))
	differ(t, "Accept", line("text/html, text/plain"), line("text/plain, text/html"), line("text/html;q=1, text/plain"))
	for _, s := range []string{"Mozilla/5.0 (X11; Linux x86_64) Gecko", `W/"x"`, "a=1; b=2"} {
		if got, _ := VaryValue("Foo", line(s), true); got != s {
			t.Errorf("%q became %q", s, got)
		}
	}
}

func TestPOL25_LanguageSelects(t *testing.T) {
	for _, c := range []struct {
		accept, content string
		want            bool
	}{
		{"fr;q=0.5, de;q=1.0", "de", true},
		{",fr;q=0.5,, DE ,", "de", true},
		{"de", "De", true},
		{"fr;q=0.5, de;q=0.6", "de", true},
		{"fr;q=0.5, de;q=0.4, fr;q=0.1", "fr", true},
		{"en, de", "de", false},
		{"de, en", "de", false},
		{"fr;q=0.5, de", "fr", false},
		{"de", "de-AT", false},
		{"de-AT", "de", false},
		{"de", "de, en", false},
		{"de", "", false},
		{"", "de", false},
		{"*", "de", false},
		{"*", "*", false},
		{"de;q=0", "de", false},
		{"de, fr;q=x", "de", false},
		{"de;q=0.9, *", "de", false},
		{"", "", false},
	} {
		if got := LanguageSelects(line(c.accept), line(c.content)); got != c.want {
			t.Errorf("Accept-Language %q, Content-Language %q: %v", c.accept, c.content, got)
		}
	}
	if LanguageSelects(nil, nil) || LanguageSelects(nil, line("de")) || LanguageSelects(line("de"), []string{"de", "en"}) {
		t.Error("absent or repeated fields select")
	}
	if !LanguageSelects([]string{"fr;q=0.5", "de"}, line("de")) {
		t.Error("the second line does not count")
	}
}

func FuzzVary(f *testing.F) {
	for _, s := range []string{"Accept, foo", "*", `"a , b" , c`, "en;q=0.50, DE", "x-gzip;q=1.0,br", "a,\"b , c\\\" ,", "en;q=2"} {
		f.Add(s, "x, y")
	}
	long := strings.Repeat("b , a;q=0.50,", 90) // on both sides of ListLimit
	f.Add(long, "x, y")
	f.Add(long, long)
	f.Add(long[:700]+strings.Repeat(" ", 700), `"`+long[:300])
	f.Fuzz(func(t *testing.T, s, second string) {
		names, any := ParseVary([]string{s})
		if !slices.IsSorted(names) || any && names != nil || len(slices.Compact(slices.Clone(names))) != len(names) {
			t.Fatalf("%q: %q %v", s, names, any)
		}
		if again, anyAgain := ParseVary(names); !any && (anyAgain || !slices.Equal(names, again)) {
			t.Fatalf("%q: %q, read again %q", s, names, again)
		}

		for _, name := range []string{"Foo", "Accept-Language", "Accept-Encoding"} {
			value, ok := VaryValue(name, []string{s, second}, true)
			if again, _ := VaryValue(name, []string{value}, true); !ok || again != value {
				t.Fatalf("%s %q, %q: %q, normalised again %q", name, s, second, value, again)
			}
			joined, _ := VaryValue(name, []string{s + "," + second}, true)
			if !strings.ContainsAny(s, `"`) && joined != value {
				t.Fatalf("%s %q, %q: %q, on one line %q", name, s, second, value, joined)
			}
		}

		LanguageSelects([]string{s}, []string{second})
		if LanguageSelects([]string{s, second}, []string{"de"}) != LanguageSelects([]string{s + "," + second}, []string{"de"}) {
			t.Fatalf("%q, %q: splitting matters", s, second)
		}
	})
}

func BenchmarkVary(b *testing.B) {
	for name, s := range map[string]string{
		"Accept-Encoding": "gzip, deflate, br, zstd",
		"Accept-Language": "en-US,en;q=0.9,de;q=0.8",
		"User-Agent":      "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
		"Foo":             "1, 2, 3",
	} {
		lines := []string{s}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				VaryValue(name, lines, true)
			}
		})
	}
	b.Run("parse", func(b *testing.B) {
		lines := []string{"Accept-Encoding, Accept-Language, Cookie"}
		b.ReportAllocs()
		for b.Loop() {
			ParseVary(lines)
		}
	})
}
