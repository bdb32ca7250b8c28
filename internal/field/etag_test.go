package field

import (
	"slices"
	"testing"
)

var malformedTags = []string{
	"", "abc", `w/"x"`, `W\"x"`, `W"x"`, `W/x`, `W/`, `"`, `W/"`, `"x`, `x"`, `'x'`, `"x"y`, `x"y"`, `"a b"`, "\"a\tb\"", "\"a\x7fb\"",
	"\"\x00\"", `"a"b"`, `W/ "x"`, ` "x"`, `"x" `, `"x","y"`, "*", `W/W/"x"`,
}

func TestCND12_MalformedTags(t *testing.T) {
	for _, s := range malformedTags {
		if tag, ok := ParseETag(s); ok || tag != (ETag{}) {
			t.Errorf("%q is %+v", s, tag)
		}
	}
	x := ETag{Opaque: `"x"`}
	for _, s := range []string{"x", `w/"x"`, `W\"x"`, `'x'`, `"x`, `x"`, `"x"y`, `W/ "x"`, `"a", "x`} {
		if MatchesETag(line(s), x) || ParseETags(line(s)).MatchWeak(x) {
			t.Errorf("%q matches %+v", s, x)
		}
	}
	// No tag is not a tag, even compared with itself.
	if MatchesETag(line("abc"), ETag{}) || (ETag{}).WeakEqual(ETag{}) || (ETag{}).StrongEqual(ETag{}) {
		t.Error("the zero tag matches")
	}
}

func TestCND12_WellFormedTags(t *testing.T) {
	for s, want := range map[string]ETag{
		`"x"`:       {Opaque: `"x"`},
		`W/"x"`:     {Opaque: `"x"`, Weak: true},
		`""`:        {Opaque: `""`},
		`W/""`:      {Opaque: `""`, Weak: true},
		`"a,b"`:     {Opaque: `"a,b"`},
		`"a\"`:      {Opaque: `"a\"`},
		`"!#~W/"`:   {Opaque: `"!#~W/"`},
		"\"\x80ÿ\"": {Opaque: "\"\x80ÿ\""},
	} {
		if got, ok := ParseETag(s); !ok || got != want {
			t.Errorf("%q: %+v %v", s, got, ok)
		}
	}
}

func TestCND13_ObsTextComparedUnchanged(t *testing.T) {
	tag, ok := ParseETag("\"caf\xe9\"")
	if !ok || tag.Opaque != "\"caf\xe9\"" {
		t.Fatalf("%+v %v", tag, ok)
	}
	if !MatchesETag([]string{"\"caf\xe9\""}, tag) {
		t.Error("no match for the same octets")
	}
	for _, s := range []string{"\"caf\xe8\"", `"café"`, `"caf?"`} {
		if MatchesETag(line(s), tag) {
			t.Errorf("%q matches", s)
		}
	}
}

// RFC 9110, 8.8.3.2, has this table.
func TestETag_Comparison(t *testing.T) {
	for _, c := range []struct {
		a, b         string
		strong, weak bool
	}{
		{`W/"1"`, `W/"1"`, false, true},
		{`W/"1"`, `W/"2"`, false, false},
		{`W/"1"`, `"1"`, false, true},
		{`"1"`, `"1"`, true, true},
		{`"a"`, `"A"`, false, false},
	} {
		a, _ := ParseETag(c.a)
		b, _ := ParseETag(c.b)
		if a.StrongEqual(b) != c.strong || b.StrongEqual(a) != c.strong || a.WeakEqual(b) != c.weak || b.WeakEqual(a) != c.weak {
			t.Errorf("%s %s", c.a, c.b)
		}
	}
}

func TestCND02_Lists(t *testing.T) {
	x := ETag{Opaque: `"x"`}
	for _, c := range []struct {
		lines []string
		want  ETags
		match bool
	}{
		{nil, ETags{}, false},
		{line(""), ETags{}, false},
		{line(" , "), ETags{}, false},
		{line(`"x"`), ETags{Tags: []ETag{x}}, true},
		{line(`"a", W/"x"`), ETags{Tags: []ETag{{Opaque: `"a"`}, {`"x"`, true}}}, true},
		{line(`"a",,"b"	,"x",`), ETags{Tags: []ETag{{Opaque: `"a"`}, {Opaque: `"b"`}, x}}, true},
		{[]string{`"a"`, "", `"x"`}, ETags{Tags: []ETag{{Opaque: `"a"`}, x}}, true},
		{line(`"a, "x", b"`), ETags{}, false},
		{line(`"a,"x",b"`), ETags{}, false},
		{line(`"\", "x"`), ETags{Tags: []ETag{{Opaque: `"\"`}, x}}, true},
		{line(`abc, "a b", w/"c", "x"`), ETags{Tags: []ETag{x}}, true},
		{line(`"a"b, "x"`), ETags{Tags: []ETag{x}}, true},
		{line(`"x"b, "c"`), ETags{Tags: []ETag{{Opaque: `"c"`}}}, false},
		{[]string{`"a`, `"x"`}, ETags{Tags: []ETag{x}}, true},
		{line("*"), ETags{Any: true}, true},
		{[]string{"", " * ,"}, ETags{Any: true}, true},
		{line(`*, "a"`), ETags{Tags: []ETag{{Opaque: `"a"`}}}, false},
		{[]string{"abc", "*"}, ETags{}, false},
		{line("**"), ETags{}, false},
		{line(`"*"`), ETags{Tags: []ETag{{Opaque: `"*"`}}}, false},
	} {
		got := ParseETags(c.lines)
		if got.Any != c.want.Any || !slices.Equal(got.Tags, c.want.Tags) {
			t.Errorf("%q: %+v, want %+v", c.lines, got, c.want)
		}
		if MatchesETag(c.lines, x) != c.match || (got.Any || got.MatchWeak(x)) != c.match {
			t.Errorf("%q: match is not %v", c.lines, c.match)
		}
	}
}

func FuzzETags(f *testing.F) {
	for _, s := range []string{`"a", W/"x"`, "*", `*, "x"`, `"a b", "x`, `W/"`, `"\", "x"`, `abc"x,"x"`, "\"\xff\","} {
		f.Add(s, `"x"`)
	}
	f.Fuzz(func(t *testing.T, s, single string) {
		got := ParseETags([]string{s})
		if got.Any && len(got.Tags) > 0 {
			t.Fatalf("%q: %+v", s, got)
		}
		var split []string
		for _, tag := range got.Tags {
			text := tag.Opaque
			if tag.Weak {
				text = "W/" + text
			}
			if again, ok := ParseETag(text); !ok || again != tag {
				t.Fatalf("%q: %+v read again is %+v %v", s, tag, again, ok)
			}
			if !MatchesETag([]string{s}, tag) {
				t.Fatalf("%q does not match its %+v", s, tag)
			}
			split = append(split, text)
		}
		if again := ParseETags(split); !slices.Equal(again.Tags, got.Tags) {
			t.Fatalf("%q: %+v, from %q %+v", s, got, split, again)
		}

		tag, ok := ParseETag(single)
		if ok != tag.WeakEqual(tag) {
			t.Fatalf("%q: %+v %v", single, tag, ok)
		}
		if MatchesETag([]string{s}, tag) != (got.Any || got.MatchWeak(tag)) {
			t.Fatalf("%q, %q: the two ways to match differ", s, single)
		}
		if ok && !MatchesETag([]string{s, single}, tag) && !got.Any {
			t.Fatalf("%q on a line of its own after %q does not match", single, s)
		}
	})
}

func BenchmarkETags(b *testing.B) {
	lines := line(`"aaaaaaaaaaaa", W/"bbbbbbbbbbbb", "cccccccccccc", "dddddddddddd"`)
	tag := ETag{Opaque: `"dddddddddddd"`}
	b.Run("match", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			MatchesETag(lines, tag)
		}
	})
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			ParseETags(lines)
		}
	})
}
