package field

import (
	"slices"
	"strings"
	"testing"
)

func TestCCP03_Members(t *testing.T) {
	for _, c := range []struct {
		lines, want []string
	}{
		{nil, nil},
		{[]string{"", " , ,\t"}, nil},
		{line(" a ,\tb\t,, c d "), []string{"a", "b", "c d"}},
		{[]string{"a,b", "", "c"}, []string{"a", "b", "c"}},
		{line(`"a,b" , c="d,\",e",f`), []string{`"a,b"`, `c="d,\",e"`, "f"}},
		{[]string{`a="b, c`, "d"}, []string{`a="b, c`, "d"}},
		{line(`a="\`), []string{`a="\`}},
	} {
		if got := slices.Collect(Members(c.lines)); !slices.Equal(got, c.want) {
			t.Errorf("%q: %q", c.lines, got)
		}
	}
	for member := range Members(line("a, b")) {
		if member != "a" {
			t.Error("goes on after break")
		}
		break
	}
}

func TestHasToken(t *testing.T) {
	for _, c := range []struct {
		lines []string
		want  bool
	}{
		{line("close"), true},
		{line("keep-alive, Close"), true},
		{[]string{"a", "CLOSE"}, true},
		{line("closed, xclose"), false},
		{line(`x="close", "close"`), false},
		{line("close;a"), false},
		{line("clo\u017fe"), false},
		{nil, false},
	} {
		if got := HasToken(c.lines, "close"); got != c.want {
			t.Errorf("%q: %v", c.lines, got)
		}
	}
}

func TestFWD01_ConnectionNames(t *testing.T) {
	got := ConnectionNames([]string{"close, x-FOO", `, "bar", b z, te`})
	if want := []string{"Close", "X-Foo", "Te"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := ConnectionNames(nil); got != nil {
		t.Errorf("%q", got)
	}
}

func TestFWD04_CountVia(t *testing.T) {
	for _, c := range []struct {
		lines []string
		want  int
	}{
		{nil, 0},
		{line("1.1 larder"), 1},
		{line("HTTP/1.1 larder (Larder 1.0)"), 1},
		{line("1.0 fred, 1.1\tLARDER , 2 larder:80, 1.1 larder2, larder"), 1},
		{[]string{"1.1 larder", "1.1 x, 2  larder"}, 2},
		// Nothing sent by a client hides what was added after it.
		{line(`1.1 x (", 1.1 larder`), 1},
		{line(`1.1 x (a, 1.1 larder`), 1},
	} {
		if got := CountVia(c.lines, "larder"); got != c.want {
			t.Errorf("%q: %d, want %d", c.lines, got, c.want)
		}
	}
	if got := CountVia(line("1.1 , x, 1.1"), ""); got != 0 {
		t.Errorf("empty pseudonym found %d times", got)
	}
}

func TestFWD04_CountCDNLoop(t *testing.T) {
	for _, c := range []struct {
		lines []string
		want  int
	}{
		{nil, 0},
		{line("larder"), 1},
		{line(`foo.example; a="b", Larder ; v=1;w="x"`), 1},
		{[]string{"larder,larder", "x, larder"}, 3},
		{line("larder2, x;larder, lar der"), 0},
		{line(`x; a=", larder`), 1},
	} {
		if got := CountCDNLoop(c.lines, "larder"); got != c.want {
			t.Errorf("%q: %d, want %d", c.lines, got, c.want)
		}
	}
	if got := CountCDNLoop(line(";a, x"), ""); got != 0 {
		t.Errorf("empty id found %d times", got)
	}
}

func FuzzMembers(f *testing.F) {
	for _, s := range []string{"a, b", `"a,b",c`, `a="\",",`, `"`, ",,\t,", "1.1 larder (x, y)", "larder;a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		members := slices.Collect(Members([]string{s}))
		rest := s
		for _, member := range members {
			if member == "" || member != trimBlanks(member) {
				t.Fatalf("%q: member %q", s, member)
			}
			i := strings.Index(rest, member)
			if i < 0 || strings.Trim(rest[:i], " \t,") != "" {
				t.Fatalf("%q: %q skips something before %q", s, members, member)
			}
			rest = rest[i+len(member):]
			if !HasToken([]string{s}, member) && IsToken(member) {
				t.Fatalf("%q: %q not found", s, member)
			}
		}
		if strings.Trim(rest, " \t,") != "" {
			t.Fatalf("%q: %q leaves %q", s, members, rest)
		}
		if again := slices.Collect(Members(members)); !slices.Equal(again, members) {
			t.Fatalf("%q: %q, one a line %q", s, members, again)
		}
		for _, name := range ConnectionNames([]string{s}) {
			if !IsToken(name) || !HasToken([]string{s}, name) {
				t.Fatalf("%q: nominates %q", s, name)
			}
		}
		for _, count := range []func([]string, string) int{CountVia, CountCDNLoop} {
			n := count([]string{s}, "larder")
			if got := count([]string{s, "1.1 larder", "larder"}, "larder"); got != n+1 {
				t.Fatalf("%q: %d, with one more line %d", s, n, got)
			}
			if got := count([]string{s + ",1.1 larder,larder"}, "larder"); got != n+1 {
				t.Fatalf("%q: %d, with one more member %d", s, n, got)
			}
		}
	})
}

func BenchmarkHasToken(b *testing.B) {
	lines := line("keep-alive, close")
	b.ReportAllocs()
	for b.Loop() {
		HasToken(lines, "close")
	}
}
