package field

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

const maxInt64 = math.MaxInt64

func TestRNG02_Forms(t *testing.T) {
	for _, c := range []struct {
		value string
		specs []RangeSpec
		spans []Span // of a representation with 10 octets
	}{
		{"bytes=0-4", []RangeSpec{{0, 4}}, []Span{{0, 4}}},
		{"bytes=5-", []RangeSpec{{5, -1}}, []Span{{5, 9}}},
		{"bytes=-3", []RangeSpec{{-1, 3}}, []Span{{7, 9}}},
		{"bytes=5-99", []RangeSpec{{5, 99}}, []Span{{5, 9}}},
		{"bytes=-99", []RangeSpec{{-1, 99}}, []Span{{0, 9}}},
		{"bytes=-10", []RangeSpec{{-1, 10}}, []Span{{0, 9}}},
		{"bytes=9-9", []RangeSpec{{9, 9}}, []Span{{9, 9}}},
		{"bytes=0-", []RangeSpec{{0, -1}}, []Span{{0, 9}}},
		{"BYTES=0-4", []RangeSpec{{0, 4}}, []Span{{0, 4}}},
		{"bytes=007-008", []RangeSpec{{7, 8}}, []Span{{7, 8}}},
	} {
		specs, ok := ParseRange(c.value)
		if !ok || !slices.Equal(specs, c.specs) {
			t.Errorf("%q: %v %v", c.value, specs, ok)
		}
		if spans := ResolveRanges(specs, 10); !slices.Equal(spans, c.spans) {
			t.Errorf("%q: %v, want %v", c.value, spans, c.spans)
		}
	}
}

func TestRNG03_Unsatisfiable(t *testing.T) {
	for _, value := range []string{"bytes=10-", "bytes=10-20", "bytes=-0", "bytes=10-,-0, 11-11", "bytes=9223372036854775807-"} {
		specs, ok := ParseRange(value)
		if spans := ResolveRanges(specs, 10); !ok || len(spans) != 0 {
			t.Errorf("%q: %v %v", value, spans, ok)
		}
	}
	for _, value := range []string{"bytes=0-", "bytes=-1", "bytes=0-0"} {
		specs, _ := ParseRange(value)
		if spans := ResolveRanges(specs, 0); len(spans) != 0 {
			t.Errorf("%q of nothing: %v", value, spans)
		}
	}
	// What is satisfiable stays.
	specs, _ := ParseRange("bytes=10-, 2-3")
	if spans := ResolveRanges(specs, 10); !slices.Equal(spans, []Span{{2, 3}}) {
		t.Error(spans)
	}
}

func TestRNG04_MalformedOrUnknownUnit(t *testing.T) {
	for _, value := range []string{
		"", "bytes", "bytes=", "bytes=,", "bytes=5-2", "bytes=a-b", "bytes 0-4", "0-4", "=0-4", "bytes=-", "bytes=--5", "bytes=0--1",
		"bytes=0-4-5", "bytes=4", "bytes=0-4,x", "bytes=0-4, 5-2", "items=0-4", "bytes =0-4", " bytes=0-4", "bytes=0 -4", "bytes=0- 4",
		"bytes=+0-4", "bytes=0x1-4", "bytes=1.0-4", "bytes=0-4;q=1", `bytes="0-4"`, "bytes=bytes=0-4", "bytes=-5-",
	} {
		if specs, ok := ParseRange(value); ok || specs != nil {
			t.Errorf("%q: %v", value, specs)
		}
	}
}

func TestRNG06_LargeNumbers(t *testing.T) {
	for _, c := range []struct {
		value string
		want  RangeSpec
	}{
		{"bytes=9223372036854775806-9223372036854775807", RangeSpec{maxInt64 - 1, maxInt64}},
		{"bytes=0-9223372036854775808", RangeSpec{0, maxInt64}},
		{"bytes=0-" + strings.Repeat("9", 60), RangeSpec{0, maxInt64}},
		{"bytes=" + strings.Repeat("9", 60) + "-", RangeSpec{maxInt64, -1}},
		{"bytes=-92233720368547758080", RangeSpec{-1, maxInt64}},
	} {
		specs, ok := ParseRange(c.value)
		if !ok || len(specs) != 1 || specs[0] != c.want {
			t.Errorf("%q: %v %v", c.value, specs, ok)
		}
	}
	specs, _ := ParseRange("bytes=0-, -5, 9223372036854775806-9223372036854775807, 9223372036854775807-")
	want := []Span{{0, maxInt64 - 1}, {maxInt64 - 5, maxInt64 - 1}, {maxInt64 - 1, maxInt64 - 1}}
	if spans := ResolveRanges(specs, maxInt64); !slices.Equal(spans, want) {
		t.Errorf("%v", spans)
	}
}

func TestRNG07_AskedOrderIsKept(t *testing.T) {
	specs, ok := ParseRange("bytes=8-9,\t0-1 ,, -3 , 4-4,")
	if !ok || !slices.Equal(specs, []RangeSpec{{8, 9}, {0, 1}, {-1, 3}, {4, 4}}) {
		t.Fatal(specs, ok)
	}
	if spans := ResolveRanges(specs, 10); !slices.Equal(spans, []Span{{8, 9}, {0, 1}, {7, 9}, {4, 4}}) {
		t.Error(spans)
	}
}

func TestRNG09_BoundedWork(t *testing.T) {
	for _, c := range []struct {
		spans []Span
		limit int
		ok    bool
	}{
		{nil, 3, true},
		{[]Span{{0, 9}}, 1, true},
		{[]Span{{0, 9}}, 0, false},
		{[]Span{{0, 1}, {2, 3}, {8, 9}}, 3, true},
		{[]Span{{8, 9}, {0, 1}, {2, 3}}, 3, true},
		{[]Span{{0, 1}, {2, 3}, {8, 9}}, 2, false},
		{[]Span{{0, 5}, {5, 9}}, 3, false},
		{[]Span{{5, 9}, {0, 5}}, 3, false},
		{[]Span{{0, 9}, {2, 3}, {5, 6}}, 3, false},
		{[]Span{{1, 1}, {1, 1}}, 3, false},
	} {
		asked := slices.Clone(c.spans)
		out, ok := CoalesceRanges(c.spans, c.limit)
		if ok != c.ok || ok && !slices.Equal(out, asked) || !ok && out != nil || !slices.Equal(c.spans, asked) {
			t.Errorf("%v, limit %d: %v %v", asked, c.limit, out, ok)
		}
	}

	most := "bytes=" + strings.Repeat("0-0,", maxRangeSpecs)
	if specs, ok := ParseRange(most); !ok || len(specs) != maxRangeSpecs {
		t.Errorf("%d members refused", maxRangeSpecs)
	}
	if _, ok := ParseRange(most + "0-0"); ok {
		t.Errorf("%d members accepted", maxRangeSpecs+1)
	}
}

func TestRNG18_ContentRange(t *testing.T) {
	for s, want := range map[string]ContentRange{
		"bytes 0-4/10": {0, 4, 10},
		"bytes 0-9/10": {0, 9, 10},
		"bytes 4-4/*":  {4, 4, -1},
		"bytes */10":   {-1, -1, 10},
		"bytes */0":    {-1, -1, 0},
		"bytes 0-0/1":  {0, 0, 1},
		"bytes 0-9223372036854775805/9223372036854775806": {0, maxInt64 - 2, maxInt64 - 1},
	} {
		got, ok := ParseContentRange(s)
		if !ok || got != want {
			t.Errorf("%q: %+v %v", s, got, ok)
		}
		if text := string(got.AppendTo(nil)); text != s {
			t.Errorf("%q comes back as %q", s, text)
		}
	}
	if got, ok := ParseContentRange("Bytes 0-4/10"); !ok || got != (ContentRange{0, 4, 10}) {
		t.Errorf("%+v %v", got, ok)
	}
	for _, s := range []string{
		"", "bytes", "bytes ", "bytes 0-4", "bytes 0-4/", "bytes=0-4/10", "bytes  0-4/10", "bytes 0-4 /10", "bytes 0-4/10 ", "bytes 0 - 4/10",
		"items 0-4/10", "bytes 4/10", "bytes -4/10", "bytes 0-/10", "bytes */*", "bytes */", "bytes /10", "bytes 0-4/10/10", "bytes 0-4/-1",
		"bytes a-b/c", "bytes 0-4,6-7/10", "bytes +0-4/10", "bytes 0-4/10, bytes 0-4/10", "bytes\t0-4/10",
		"bytes 0-9223372036854775807/*", "bytes 0-4/9223372036854775807", "bytes 0-4/99999999999999999999", "bytes */9223372036854775808",
	} {
		if got, ok := ParseContentRange(s); ok || got != (ContentRange{}) {
			t.Errorf("%q: %+v", s, got)
		}
	}
}

func TestRNG19_ContradictoryContentRange(t *testing.T) {
	for _, s := range []string{"bytes 5-4/10", "bytes 5-4/*", "bytes 0-10/10", "bytes 0-9/5", "bytes 0-0/0"} {
		if got, ok := ParseContentRange(s); ok {
			t.Errorf("%q: %+v", s, got)
		}
	}
}

func FuzzRange(f *testing.F) {
	for _, s := range []string{"bytes=0-4", "bytes=5-,-3", "bytes=8-9, 0-1", "bytes=5-2", "bytes=-0", "BYTES=,,1-99999999999999999999,"} {
		f.Add(s, int64(10))
	}
	f.Fuzz(func(t *testing.T, s string, size int64) {
		specs, ok := ParseRange(s)
		if ok != (len(specs) > 0) || len(specs) > maxRangeSpecs {
			t.Fatalf("%q: %v %v", s, specs, ok)
		}
		var text []string
		for _, spec := range specs {
			switch {
			case spec.First < 0:
				text = append(text, fmt.Sprintf("-%d", spec.Last))
			case spec.Last < 0:
				text = append(text, fmt.Sprintf("%d-", spec.First))
			case spec.Last < spec.First:
				t.Fatalf("%q: %v", s, spec)
			default:
				text = append(text, fmt.Sprintf("%d-%d", spec.First, spec.Last))
			}
		}
		if again, _ := ParseRange("bytes=" + strings.Join(text, ", ")); !slices.Equal(again, specs) {
			t.Fatalf("%q: %v, written %q, read %v", s, specs, text, again)
		}

		spans := ResolveRanges(specs, size)
		if len(spans) > len(specs) {
			t.Fatalf("%q of %d: %v", s, size, spans)
		}
		for _, span := range spans {
			if span.First < 0 || span.Last < span.First || span.Last >= size {
				t.Fatalf("%q of %d: %v", s, size, spans)
			}
		}

		out, ok := CoalesceRanges(spans, 16)
		if !ok {
			return
		}
		if len(out) > 16 || !slices.Equal(out, spans) {
			t.Fatalf("%v became %v", spans, out)
		}
		total := int64(0)
		for i, a := range out {
			total += a.Last - a.First + 1
			for _, b := range out[:i] {
				if a.First <= b.Last && b.First <= a.Last {
					t.Fatalf("%v and %v overlap", a, b)
				}
			}
		}
		if total > max(size, 0) {
			t.Fatalf("%v are %d octets of %d", out, total, size)
		}
	})
}

func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-4/10", "bytes 4-4/*", "bytes */10", "bytes 5-4/10", "bytes 0-9223372036854775807/*"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, ok := ParseContentRange(s)
		if !ok {
			if c != (ContentRange{}) {
				t.Fatalf("%q: %+v", s, c)
			}
			return
		}
		if c.First < 0 && (c.Last >= 0 || c.Total < 0) || c.First >= 0 && c.Last-c.First+1 <= 0 || c.Total >= 0 && c.Last >= c.Total {
			t.Fatalf("%q: %+v", s, c)
		}
		text := string(c.AppendTo(nil))
		if again, ok := ParseContentRange(text); !ok || again != c {
			t.Fatalf("%q: %+v, written %q, read %+v", s, c, text, again)
		}
	})
}

func BenchmarkRange(b *testing.B) {
	for name, s := range map[string]string{"single": "bytes=1000-1999", "several": "bytes=0-99, 200-299, 400-499, -100"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				specs, _ := ParseRange(s)
				CoalesceRanges(ResolveRanges(specs, 10000), 16)
			}
		})
	}
}
