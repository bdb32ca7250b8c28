package encode_test

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/larderhq/larder/internal/encode"
)

var all = []string{"br", "zstd", "gzip"}

func TestENC01_Choose(t *testing.T) {
	for _, c := range []struct{ accept, want string }{
		{"gzip, deflate, br, zstd", "br"},
		{"gzip, zstd", "zstd"},
		{"GZip", "gzip"},
		{"x-gzip", "gzip"},
		{"X-GZIP;q=0.5", "gzip"},
		{"deflate", ""},
		{"", ""},
		{" , ,", ""},
		{"identity", ""},
		// Weights come before our order.
		{"br;q=0.5, gzip", "gzip"},
		{"br;q=0.5, gzip;q=0.501", "gzip"},
		{"br;q=0.50, gzip;q=0.5", "br"},
		{"br ;\tQ=0.2 , gzip; q=0.3", "gzip"},
		{"gzip;q=0.001", "gzip"},
		{"br;q=1.000, gzip;q=1.", "br"},
		// What is excluded.
		{"br;q=0, gzip", "gzip"},
		{"br;q=0.000", ""},
		{"*;q=0", ""},
		{"*;q=0, gzip", "gzip"},
		{"identity;q=0", ""},
		{"identity;q=0, gzip;q=0.1", "gzip"},
		{"br;q=0, *", "zstd"},
		{"br, br;q=0", ""},
		{"gzip, x-gzip;q=0", ""},
		{"*, *;q=0", ""},
		// Any is any.
		{"*", "br"},
		{"*;q=0.1", "br"},
		{"gzip, *;q=0.1", "gzip"},
		{"zstd, *", "br"},
		// Identity may be liked better.
		{"gzip;q=0.5, identity", ""},
		{"gzip;q=0.5, identity;q=0.6", ""},
		{"gzip;q=0.5, identity;q=0.5", "gzip"},
		{"gzip;q=0.5, *", "br"},
		{"br;q=0.5, zstd;q=0.5, gzip;q=0.5, *", ""},
		{"gzip;q=0.5, identity;q=0.6, *", "br"},
		{"br;q=0.2, zstd;q=0, gzip;q=0.2, *;q=0.3", ""},
		// What is in doubt is not sent.
		{"br;q=2, gzip", "gzip"},
		{"br;q=1.001, gzip", "gzip"},
		{"br;q=0.1234, gzip", "gzip"},
		{"br;q=, gzip", "gzip"},
		{"br;, gzip", "gzip"},
		{"br;q=-1, gzip", "gzip"},
		{"br;q=x, *", "zstd"},
		{"br;level=3, gzip", "gzip"},
		{"br;q=0.5;a=b, gzip;q=0.1", "gzip"},
		{"b r, gzip", "gzip"},
		{`"br, gzip;q=0, zstd"`, ""},
		{"brotli", ""},
	} {
		if got := encode.Choose([]string{c.accept}, all); got != c.want {
			t.Errorf("%q gets %q, not %q", c.accept, got, c.want)
		}
		lines := strings.Split(c.accept, ",")
		if got := encode.Choose(lines, all); got != c.want {
			t.Errorf("%q on several lines gets %q, not %q", c.accept, got, c.want)
		}
		if got := encode.Choose(lines, nil); got != c.want {
			t.Errorf("%q, by the order of the house, gets %q, not %q", c.accept, got, c.want)
		}
	}
}

func TestENC01_ChooseAmongWhatIsOffered(t *testing.T) {
	accept := []string{"gzip, br, zstd"}
	for _, c := range []struct {
		offered []string
		want    string
	}{
		{[]string{"gzip", "br"}, "gzip"},
		{[]string{"zstd"}, "zstd"},
		{[]string{}, ""},
		{[]string{"dcb", "gzip"}, "gzip"},
		{strings.Split("a b c d e f g h i j zstd", " "), "zstd"},
	} {
		if got := encode.Choose(accept, c.offered); got != c.want {
			t.Errorf("of %q: %q, not %q", c.offered, got, c.want)
		}
	}
	if got := encode.Choose(nil, all); got != "" {
		t.Errorf("without Accept-Encoding: %q", got)
	}
}

func TestChooseAllocatesNothing(t *testing.T) {
	lines := []string{"gzip, deflate, br;q=0.9, zstd", "*;q=0.1"}
	if n := testing.AllocsPerRun(100, func() { encode.Choose(lines, all) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

var (
	memberForm = regexp.MustCompile(`^[ \t]*([^; \t]*)[ \t]*(?:;[ \t]*[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)[ \t]*)?$`)
	nameForm   = regexp.MustCompile(`^[ \t]*([^;]*?)[ \t]*(?:;|$)`)
)

// reading is what lines say of one name in plain words: the least weight among
// the members of that name, 0 for those that cannot be read; negative if none.
func reading(lines []string, names ...string) float64 {
	least := -1.0
	for member := range strings.SplitSeq(strings.Join(lines, ","), ",") {
		if m := nameForm.FindStringSubmatch(member); m == nil || !slices.Contains(names, strings.ToLower(m[1])) {
			continue
		}
		q := 0.0
		if m := memberForm.FindStringSubmatch(member); m != nil {
			if q = 1; m[2] != "" {
				q, _ = strconv.ParseFloat(m[2], 64)
			}
		}
		if least < 0 || q < least {
			least = q
		}
	}
	return least
}

// Without ASCII there is more than one lower case.
func ascii(s string) bool { return strings.IndexFunc(s, func(r rune) bool { return r > 0x7E }) < 0 }

func FuzzChoose(f *testing.F) {
	for _, s := range []string{"gzip, deflate, br;q=0.5", "*;q=0, x-gzip", "identity;q=0.7,*;q=0.6", "br;q=2,*", `"br,gzip"`, ";q=1,,;", "x-gzip;q=0, gzip"} {
		f.Add(s, "zstd;q=0.1")
	}
	f.Fuzz(func(t *testing.T, s, second string) {
		lines := []string{s, second}
		got := encode.Choose(lines, all)
		if !ascii(s + second) {
			return
		}
		others := reading(lines, "*")
		weight := func(names ...string) float64 {
			if q := reading(lines, names...); q >= 0 {
				return q
			}
			return others
		}
		want, most := "", max(weight("identity"), 0)
		for _, coding := range all {
			q := weight(coding)
			if coding == "gzip" {
				q = weight("gzip", "x-gzip")
			}
			if coding == got && q <= 0 {
				t.Fatalf("%q: %q is not acceptable", lines, got)
			}
			if q > most || q > 0 && q == most && want == "" {
				want, most = coding, q
			}
		}
		if got != want {
			t.Fatalf("%q: %q, not %q", lines, got, want)
		}
	})
}

func BenchmarkChoose(b *testing.B) {
	lines := []string{"gzip, deflate, br, zstd"}
	b.ReportAllocs()
	for b.Loop() {
		encode.Choose(lines, all)
	}
}
