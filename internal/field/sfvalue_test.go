package field

import (
	"strings"
	"testing"

	"github.com/dunglas/httpsfv"
)

func TestSTS02_String(t *testing.T) {
	for s, want := range map[string]string{
		"":            `""`,
		"a b":         `"a b"`,
		`say "hi" \o`: `"say \"hi\" \\o"`,
		"a\x00\n\x7f": `"a%00%0A%7F"`,
		"é":           `"%C3%A9"`,
		"100%":        `"100%"`,
	} {
		if got := string(AppendSFString([]byte("x="), s)); got != "x="+want {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
	}
}

func TestSTS02_Identifier(t *testing.T) {
	for s, want := range map[string]string{
		"larder":       "larder",
		"Cache-1.a:80": "Cache-1.a:80",
		"*a/b":         "*a/b",
		"":             `""`,
		"1cache":       `"1cache"`,
		"-a":           `"-a"`,
		"my cache":     `"my cache"`,
		`a"b`:          `"a\"b"`,
		"a,b":          `"a,b"`,
		"café":         `"caf%C3%A9"`,
		"@a":           `"@a"`,
		"[a":           `"[a"`,
	} {
		if got := string(AppendSFIdentifier(nil, s)); got != want {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
	}
}

func FuzzSFString(f *testing.F) {
	for _, s := range []string{"larder", "", `a"b\`, "é\x00", "*x/y", "1", "%22"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		item, err := httpsfv.UnmarshalItem([]string{string(AppendSFString(nil, s))})
		if err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		plain := true
		for i := range len(s) {
			plain = plain && ' ' <= s[i] && s[i] <= '~'
		}
		if text, ok := item.Value.(string); !ok || plain && text != s {
			t.Fatalf("%q comes back as %q", s, item.Value)
		}

		item, err = httpsfv.UnmarshalItem([]string{string(AppendSFIdentifier(nil, s))})
		if err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		if text, ok := text(item.Value); !ok || plain && text != s {
			t.Fatalf("%q comes back as %q", s, item.Value)
		}

		node := strings.Trim(string(AppendForwardedNode(nil, s)), `"[]`)
		if strings.Trim(node, "0123456789abcdef.:") != "" && node != "unknown" {
			t.Fatalf("%q: node %q", s, node)
		}
	})
}
