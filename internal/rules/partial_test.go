package rules_test

import (
	"math"
	"testing"

	"github.com/larderhq/larder/internal/rules"
)

func TestRNG18_ReadPart(t *testing.T) {
	none := rules.Part{}
	for _, c := range []struct {
		lines             []string
		kind              string
		length            int64
		strict, tolerated rules.Part
	}{
		{[]string{"bytes 2-4/10"}, "", 3, rules.Part{First: 2, Last: 4, Total: 10}, rules.Part{First: 2, Last: 4, Total: 10}},
		{[]string{"bytes 2-4/*"}, "text/plain", -1, rules.Part{First: 2, Last: 4, Total: -1}, rules.Part{First: 2, Last: 4, Total: -1}},
		{[]string{"bytes 0-0/1"}, "", 1, rules.Part{First: 0, Last: 0, Total: 1}, rules.Part{First: 0, Last: 0, Total: 1}},
		{nil, "", 3, none, none},
		{[]string{"bytes 2-4/10", "bytes 2-4/10"}, "", 3, none, none},
		{[]string{"bytes */10"}, "", 3, none, none},
		{[]string{"items 2-4/10"}, "", 3, none, none},
		{[]string{"bytes 4-2/10"}, "", 3, none, none},
		{[]string{"bytes 2-4/4"}, "", 3, none, none},
		{[]string{"bytes 0-9223372036854775807/*"}, "", -1, none, none},
		{[]string{"bytes 2-4/10"}, "multipart/byteranges; boundary=b", 3, none, none},
		{[]string{"bytes 2-4/10"}, "Multipart/BYTERANGES ;boundary=b;boundary=b", 3, none, none},
		// RNG-20: the declared span and the octets differ
		{[]string{"bytes 2-4/10"}, "", 2, none, rules.Part{First: 2, Last: 3, Total: 10}},
		{[]string{"bytes 2-4/10"}, "", 4, none, rules.Part{First: 2, Last: 5, Total: 10}},
		{[]string{"bytes 4-9/10"}, "", 5, none, rules.Part{First: 4, Last: 8, Total: 9}},
		{[]string{"bytes 4-8/10"}, "", 7, none, none}, // beyond the total
		{[]string{"bytes 2-4/10"}, "", 0, none, none},
		{[]string{"bytes 2-4/*"}, "", 9, none, rules.Part{First: 2, Last: 10, Total: -1}},
	} {
		h := rules.Header{"Content-Range": c.lines}
		if c.kind != "" {
			h["Content-Type"] = []string{c.kind}
		}
		if got := rules.ReadPart(h, c.length, &rules.Terms{}); got != c.strict {
			t.Errorf("%q %q, %d octets: %v, want %v", c.lines, c.kind, c.length, got, c.strict)
		}
		if got := rules.ReadPart(h, c.length, &rules.Terms{PartTolerance: true}); got != c.tolerated {
			t.Errorf("%q %q, %d octets, tolerant: %v, want %v", c.lines, c.kind, c.length, got, c.tolerated)
		}
	}
}

func TestRNG23_Union(t *testing.T) {
	const large = math.MaxInt64 - 1
	for _, c := range []struct {
		a, b, want rules.Part // none: there is no union
	}{
		{rules.Part{First: 0, Last: 4, Total: 10}, rules.Part{First: 5, Last: 9, Total: 10}, rules.Part{First: 0, Last: 9, Total: 10}},
		{rules.Part{First: 0, Last: 6, Total: 10}, rules.Part{First: 3, Last: 8, Total: 10}, rules.Part{First: 0, Last: 8, Total: 10}},
		{rules.Part{First: 0, Last: 9, Total: 10}, rules.Part{First: 3, Last: 5, Total: 10}, rules.Part{First: 0, Last: 9, Total: 10}},
		{rules.Part{First: 0, Last: 4, Total: -1}, rules.Part{First: 5, Last: 9, Total: 10}, rules.Part{First: 0, Last: 9, Total: 10}},
		{rules.Part{First: 0, Last: 4, Total: -1}, rules.Part{First: 5, Last: 9, Total: -1}, rules.Part{First: 0, Last: 9, Total: -1}},
		{rules.Part{First: 0, Last: 3, Total: 10}, rules.Part{First: 5, Last: 9, Total: 10}, rules.Part{}},
		{rules.Part{First: 0, Last: 4, Total: 10}, rules.Part{First: 5, Last: 9, Total: 11}, rules.Part{}},
		{rules.Part{First: 0, Last: 4, Total: 5}, rules.Part{First: 5, Last: 9, Total: -1}, rules.Part{}},
		{rules.Part{First: 0, Last: 1, Total: 3}, rules.Part{First: 1, Last: 4, Total: -1}, rules.Part{}},
		{rules.Part{First: 0, Last: large, Total: -1}, rules.Part{First: 5, Last: large, Total: -1}, rules.Part{First: 0, Last: large, Total: -1}},
	} {
		for _, p := range [][2]rules.Part{{c.a, c.b}, {c.b, c.a}} {
			if got, ok := rules.Union(p[0], p[1]); got != c.want || ok == c.want.IsZero() {
				t.Errorf("%v and %v make %v, %v; want %v", p[0], p[1], got, ok, c.want)
			}
		}
	}
}

func TestRNG25_Entire(t *testing.T) {
	plain := rules.ReadRequest("GET", rules.Header{"Range": {"bytes=0-"}})
	guarded := rules.ReadRequest("GET", rules.Header{"Range": {"bytes=0-"}, "If-Range": {`"1"`}})
	for part, want := range map[rules.Part]bool{
		{First: 0, Last: 9, Total: 10}: true,
		{First: 0, Last: 0, Total: 1}:  true,
		{First: 0, Last: 8, Total: 10}: false,
		{First: 1, Last: 9, Total: 10}: false,
		{First: 0, Last: 9, Total: -1}: false,
		{}:                             false,
	} {
		s := &rules.Stored{Status: 206, Part: part}
		if got := rules.Entire(&plain, s); got != want {
			t.Errorf("%v: %v", part, got)
		}
		if rules.Entire(&guarded, s) {
			t.Errorf("%v in reply to If-Range is taken for a 200", part)
		}
	}
}
