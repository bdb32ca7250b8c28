package field

import (
	"strings"
	"testing"
)

func testAge(t *testing.T, want Delta, cases ...[]string) {
	t.Helper()
	for _, lines := range cases {
		if got := ParseAge(lines); got != want {
			t.Errorf("%q: %v, want %v", lines, got, want)
		}
	}
}

func TestFRS09_FirstAgeCounts(t *testing.T) {
	testAge(t, span(7200), line("7200, 0"), line("7200,0"), []string{"7200", "0"}, line(", 7200, x"), []string{"", "7200"}, line("007200"))
	testAge(t, span(0), line("0, 7200"), []string{"0", "7200"}, line("0, 0"))
	testAge(t, Delta{}, nil, line(""), line(" , "))
}

func TestFRS10_InvalidAgeIsIgnored(t *testing.T) {
	testAge(t, Delta{}, line("abc"), line("-1"), line("+1"), line("7200.0"), line("7200;a=b"), line("7200;foo=111"),
		line(`"7200"`), line("7 200"), line("0x10"), line("abc, 7200"), []string{"-7200", "7200"})
}

func TestFRS11_HugeAgeSaturates(t *testing.T) {
	testAge(t, Delta{MaxDelta, true}, line("2147483648"), line("99999999999"), line(strings.Repeat("9", 40)), line("9223372036854775808"))
}

func FuzzAge(f *testing.F) {
	for _, s := range []string{"7200", "7200, 0", "-1", ", 5", "99999999999999999999", `"5"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := ParseAge([]string{s})
		if got.Value < 0 || got.Value > MaxDelta || !got.Present && got.Value != 0 {
			t.Fatalf("%q: %v", s, got)
		}
		var split []string
		for member := range Members([]string{s}) {
			split = append(split, member)
		}
		if other := ParseAge(split); other != got {
			t.Fatalf("%q: %v, split %v", s, got, other)
		}
		if first := ParseAge(split[:min(1, len(split))]); first != got {
			t.Fatalf("%q: %v, its first member %v", s, got, first)
		}
	})
}
