package field

import (
	"slices"
	"testing"
)

func TestINT05_EarlyLinks(t *testing.T) {
	for _, c := range []struct {
		lines, want []string
	}{
		{nil, nil},
		{line(`</a.css>; rel=preload; as=style`), []string{`</a.css>; rel=preload; as=style`}},
		{
			[]string{`</a,b>; rel="x PRELOAD", <https://cdn.example>;rel=preconnect`, ` , </m.js> ; as="a,b;c" ; Rel=modulepreload ,`},
			[]string{`</a,b>; rel="x PRELOAD"`, `<https://cdn.example>;rel=preconnect`, `</m.js> ; as="a,b;c" ; Rel=modulepreload`},
		},
		{line(`</p2>; rel=next, </a>; rel="stylesheet prefetch", </b>, </c>; title="rel=preload"`), nil},
		{line(`</a>; rel=next; rel=preload`), nil},
		{line(`</a>; rel=preload; rel=next`), []string{`</a>; rel=preload; rel=next`}},
		{line(`</a>; rel=preload; anchor="/other"`), nil},
		{line(`</a>; rel="preload`), nil},
		{line(`</a; rel=preload, </b>; rel=preload`), nil}, // all of it is one URI, and none
		{line(`/a; rel=preload, </b>; rel=preload`), []string{`</b>; rel=preload`}},
		{line(`</a; rel=preload`), nil},
		{line(`,, ,`), nil},
	} {
		if got := EarlyLinks(c.lines); !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, want %q", c.lines, got, c.want)
		}
	}
}
