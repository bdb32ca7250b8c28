package esi

import (
	"io"
	"strings"
	"testing"
	"time"
)

// hostile are pieces that, many times over, could make a scanner look at the
// same octets again and again; each with what stands before them.
var hostile = [][2]string{
	{"", "<"},
	{"", "<esi:"},
	{"", "</esi:"},
	{"", "<esi:a "},
	{"", "<!--"},
	{"", "<!--esi"},
	{"", "<!--esi "},
	{"<!--esi ", "-->"},
	{"<!--esi ", "--"},
	{"", `<esi:a b="`},
	{"", `<esi:a b='"`},
	{"", `<esi:a b="<`},
	{`<esi:a b="`, "<"},
	{`<esi:a b="`, `" b="`},
	{"<esi:a ", `a="" `},
	{"<esi:a ", " "},
	{"<esi:", "a"},
	{"", "<esi:remove "},
	{"", "<esi:remove>"},
	{"", "</esi:remove>"},
	{"", "<esi:remove x='"},
	{"<esi:remove>", "</esi:remove "},
	{"", "<esi:comment>"},
	{"<esi:vars>", "$("},
	{"<esi:vars>", "$('"},
	{"<esi:vars>", "$(HTTP_HOST|'"},
	{"<esi:vars>", "$(A{"},
	{"<esi:vars>$(A|'", "x"},
	{"<esi:vars>", "$(HTTP_HOST)"},
	{"<esi:vars>", "$"},
	{"<esi:vars><!--esi ", "-$<"},
	{"", "<esi:include src='/a' "},
	{`<esi:include onerror="continue" src="`, "$("},
	{`<esi:include onerror="continue" src="`, "$(A{"},
	{`<esi:include onerror="continue" src="`, "$(A|'"},
	{`<esi:include onerror="continue" src="`, "$(HTTP_HOST)"},
	{`<esi:include onerror="continue" src="`, "../"},
	{"", `<esi:choose><esi:when test="1==1"></esi:when></esi:choose>`},
	{"", "<esi:try><esi:attempt/><esi:except/></esi:try>"},
	{"", "<esi:vars></esi:vars>"},
	{`<esi:choose><esi:when test="`, "("},
	{`<esi:choose><esi:when test="`, "!"},
	{`<esi:choose><esi:when test="1`, "==1"},
	{`<esi:choose><esi:when test="1==1`, "&1==1"},
	{`<esi:choose><esi:when test="'`, "$(HTTP_HOST)"},
	{`<esi:choose><esi:when test="`, "1"},
	{`<esi:choose><esi:when test="`, "&lt;"},
	{"<esi:choose>", "<p>"},
}

// 128 KiB of anything is read in a moment, even where one tag may
// be as long: were the time not linear, it would be 10^10 steps and not 10^6.
func TestESI18_LinearTime(t *testing.T) {
	for _, h := range hostile {
		for _, after := range []string{"", `"/>x</esi:when>`} {
			p := pageIn(worldOf(nil))
			p.Limits.Markup = 1 << 17
			began := time.Now()
			_ = p.Assemble(t.Context(), io.Discard, strings.NewReader(h[0]+strings.Repeat(h[1], 1<<17/len(h[1])-100)+after))
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("%q and many %q took %v", h[0], h[1], took)
			}
		}
	}
}

func TestESI18_FourMegabytesOfTags(t *testing.T) {
	template := strings.Repeat("<esi:", 4<<20/5)
	if got, err := assemble(t, pageIn(worldOf(nil)), template); got != template || err != nil {
		t.Errorf("%d octets, %v", len(got), err)
	}
}

// A tag that is too long is so at the same octet however it arrives.
func TestESI18_LongestMarkup(t *testing.T) {
	for n, want := range map[int]string{100: "A", 101: `<esi:include src="/a"`} {
		p := pageIn(worldOf(fragments()))
		p.Limits.Markup = 100
		head, tail := `<esi:include src="/a"`, `/>`
		if got, err := assemble(t, p, head+strings.Repeat(" ", n-len(head)-len(tail))+tail+strings.Repeat("/", 100_000)); strings.TrimRight(got, " />") != want || err != nil {
			t.Errorf("%d: %q, %v", n, got, err)
		}
	}
}
