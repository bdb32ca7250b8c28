package field

import (
	"slices"
	"strings"
	"testing"
)

func TestTAG02_ParseTags(t *testing.T) {
	for _, c := range []struct {
		lines      []string
		separators string
		tags       []string
		dropped    int
	}{
		{[]string{"a b  c"}, " ", []string{"a", "b", "c"}, 0},
		{[]string{"a", "", " b "}, " ", []string{"a", "b"}, 0},
		{[]string{"a b, c ,,d"}, ",", []string{"a b", "c", "d"}, 0},
		{[]string{"a A a", "a"}, " ", []string{"a", "A"}, 0},
		{[]string{"caf\xc3\xa9 x\x7fy \x01 ok"}, " ", []string{"ok"}, 3},
		{[]string{strings.Repeat("x", 5) + " " + strings.Repeat("y", 4)}, " ", []string{"yyyy"}, 1},
		{nil, " ", nil, 0},
	} {
		tags, dropped := ParseTags(c.lines, c.separators, 4)
		if !slices.Equal(tags, c.tags) || dropped != c.dropped {
			t.Errorf("%q by %q: %q, %d dropped; want %q, %d", c.lines, c.separators, tags, dropped, c.tags, c.dropped)
		}
	}
}

func FuzzTags(f *testing.F) {
	f.Add("a b,c", " ,")
	f.Add("\"a\", \"b\";x", ",")
	f.Fuzz(func(t *testing.T, line, separators string) {
		separators = separators[:min(len(separators), 4)] // which are ours
		tags, _ := ParseTags([]string{line}, separators, 64)
		again, _ := ParseTags([]string{line, line}, separators, 64)
		if !slices.Equal(tags, again) {
			t.Errorf("%q by %q: %q once, %q twice", line, separators, tags, again)
		}
		for _, tag := range tags {
			if tag == "" || len(tag) > 64 || strings.Trim(tag, " \t") != tag || !strings.Contains(line, tag) {
				t.Errorf("%q by %q: a tag %q", line, separators, tag)
			}
		}
		for _, group := range ParseGroups([]string{line}) {
			if strings.ContainsFunc(group, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Errorf("%q: a group %q", line, group)
			}
		}
	})
}
