package field

import (
	"reflect"
	"testing"
)

type surrogateCase struct {
	value string
	want  Surrogate
	ok    bool
}

func testSurrogate(t *testing.T, device string, cases []surrogateCase) {
	t.Helper()
	for _, c := range cases {
		got, ok := ParseSurrogate(line(c.value), device)
		if ok != c.ok || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: ok %v\n got %+v\nwant %+v", c.value, ok, got, c.want)
		}
	}
}

func lifetime(seconds int) Surrogate {
	return Surrogate{Directives: Directives{MaxAge: span(seconds)}}
}

func extended(seconds, stale int) Surrogate {
	return Surrogate{Directives: Directives{MaxAge: span(seconds), StaleWhileRevalidate: span(stale)}}
}

var notStored = Surrogate{Directives: Directives{NoStore: true}}

func TestSUR01_Directives(t *testing.T) {
	testSurrogate(t, "us", []surrogateCase{
		{"max-age=3600", lifetime(3600), true},
		{`max-age="3600"`, lifetime(3600), true},
		{"MaX-aGe=3600", lifetime(3600), true},
		{"foobar, max-age=3600", lifetime(3600), true},
		{"max-age=0", lifetime(0), true},
		{"max-age=99999999999", Surrogate{Directives: Directives{MaxAge: Delta{MaxDelta, true}}}, true},
		{"max-age=60+30", extended(60, 30), true},
		{`max-age="60+30"`, extended(60, 30), true},
		{"No-Store", notStored, true},
		{"no-store=1", notStored, true},
		{"no-store, max-age=60", Surrogate{Directives: Directives{NoStore: true, MaxAge: span(60)}}, true},
		{`max-age=60, content="ESI/1.0"`, Surrogate{Directives: Directives{MaxAge: span(60)}, Content: "ESI/1.0"}, true},
	})
}

func TestSUR01_InvalidLifetimes(t *testing.T) {
	for _, s := range []string{
		"max-age", "max-age=", "max-age =60", "max-age= 60", "max-age=x", "max-age=-1", "max-age=60+", "max-age=+30", "max-age=60+x",
		"max-age=60+30+10", `max-age="60`, "max-age=1.5",
	} {
		got, ok := ParseSurrogate(line(s), "us")
		if !ok || got.MaxAge != span(0) || got.StaleWhileRevalidate.Value != 0 {
			t.Errorf("%q: ok %v, %+v", s, ok, got)
		}
	}
}

func TestSUR01_Duplicates(t *testing.T) {
	testSurrogate(t, "us", []surrogateCase{
		{"max-age=60, max-age=60", lifetime(60), true},
		{"max-age=60, max-age=30", lifetime(0), true},
		{"max-age=30, max-age=60", lifetime(30), true},
		{"max-age=60+5, max-age=60+5", extended(60, 5), true},
		{"max-age=60+5, max-age=60+3", extended(60, 0), true},
		{"max-age=60+5, max-age=60", extended(60, 0), true},
		{"max-age=60, max-age=60+5", extended(60, 0), true},
	})
}

// Fields that say nothing about storing leave the lifetime to Cache-Control.
func TestSUR01_NothingAboutStoring(t *testing.T) {
	testSurrogate(t, "us", []surrogateCase{
		{"", Surrogate{}, false},
		{"foo", Surrogate{}, false},
		{"no-store-remote", Surrogate{}, false},
		{"no-store-remote, max-age=60", lifetime(60), true},
		{`content="ESI/1.0"`, Surrogate{Content: "ESI/1.0"}, false},
		{`content="ESI/1.0, x;y";us`, Surrogate{Content: "ESI/1.0, x;y"}, false},
		{`content=ESI/1.0`, Surrogate{Content: "ESI/1.0"}, false},
		{`content="ESI/1.0`, Surrogate{}, false},
		{`x="max-age=60, no-store"`, Surrogate{}, false},
	})
	if _, ok := ParseSurrogate(nil, "us"); ok {
		t.Error("absent field is ok")
	}
}

func TestSUR02_Addressees(t *testing.T) {
	testSurrogate(t, "us", []surrogateCase{
		{"max-age=60;us", lifetime(60), true},
		{"max-age=60 ; us", lifetime(60), true},
		{"max-age=60;not-us", Surrogate{}, false},
		{"max-age=60;US", Surrogate{}, false},
		{"no-store;other", Surrogate{}, false},
		{"max-age=60, max-age=600;us", lifetime(600), true},
		{"max-age=600;us, max-age=60", lifetime(600), true},
		{"max-age=60, max-age=600;us, max-age=5;other, no-store;other", lifetime(600), true},
		{"max-age=60+30, max-age=600;us", lifetime(600), true},
		{"max-age=60, max-age=600+7;us", extended(600, 7), true},
		{"no-store;us, max-age=60", Surrogate{Directives: Directives{NoStore: true, MaxAge: span(60)}}, true},
		{"max-age=60;", lifetime(60), true},
		{`content="a", content="b";us, content="c";other`, Surrogate{Content: "b"}, false},
	})
	testSurrogate(t, "", []surrogateCase{
		{"max-age=60;us", Surrogate{}, false},
		{"max-age=60", lifetime(60), true},
	})
}

func FuzzSurrogate(f *testing.F) {
	for _, s := range []string{
		"max-age=60+30;us", "no-store, max-age=5", `content="ESI/1.0;x";us, max-age="6\0"`, "max-age=1, max-age=2, max-age=3;us", "no-store;other",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := ParseSurrogate([]string{s}, "us")
		var split []string
		for member := range Members([]string{s}) {
			split = append(split, member)
		}
		other, okOther := ParseSurrogate(split, "us")
		if ok != okOther || !reflect.DeepEqual(got, other) {
			t.Fatalf("%q: %v %+v\n%q: %v %+v", s, ok, got, split, okOther, other)
		}
		for _, d := range []Delta{got.MaxAge, got.StaleWhileRevalidate} {
			if d.Value < 0 || d.Value > MaxDelta || !d.Present && d.Value != 0 {
				t.Fatalf("%q: %+v", s, got)
			}
		}
		if ok != (got.NoStore || got.MaxAge.Present) || got.StaleWhileRevalidate.Present && !got.MaxAge.Present {
			t.Fatalf("%q: ok %v %+v", s, ok, got)
		}
	})
}
