package esi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"
)

// canned answers by the last letter of the path, and anew each time.
func canned(_ context.Context, u *url.URL) (*http.Response, error) {
	r := says("F(" + u.EscapedPath() + ")")
	if u.Path != "" {
		switch u.Path[len(u.Path)-1] {
		case 'n':
			r = asking(`N<esi:include src="x"/><esi:vars>$(QUERY_STRING{q})</esi:vars>`)
		case 'o':
			r = asking(`O<esi:include src="n" onerror="continue"/><esi:try><esi:attempt>a<esi:include src="e"/></esi:attempt><esi:except>b</esi:except></esi:try>`)
		case 'e':
			return nil, errors.New("unreachable")
		case 's':
			r = status(503)
		case 'l':
			r = reply{body: io.MultiReader(strings.NewReader(strings.Repeat("l", fragmentAhead+1)), failing{})}
		}
	}
	code := r.status
	if code == 0 {
		code = 200
	}
	return &http.Response{StatusCode: code, Header: r.header, Body: io.NopCloser(r.body)}, nil
}

// FuzzAssemble takes any template around something that is to be removed.
func FuzzAssemble(f *testing.F) {
	for _, c := range append(malformed, []sample{
		{`<esi:include src="n"/>1<esi:include src="o" alt="x"/>`, `<esi:include src="l" onerror="continue"/>`},
		{`<esi:try><esi:attempt><esi:include src="l"/></esi:attempt><esi:except>`, `e</esi:except></esi:try>`},
		{`<esi:choose><esi:when test="$(QUERY_STRING{q}) != 'x'">`, `<esi:include src="/$(QUERY_STRING)"/></esi:when><esi:otherwise>`},
		{`<!--esi <esi:vars>$(HTTP_HOST|'`, `')$(QUERY_STRING{q})</esi:vars>-->`},
		{`<esi:comment text="`, `"/><esi:comment>`},
	}...) {
		f.Add(c.template, "x", c.want, "<i>", false)
	}
	f.Fuzz(func(t *testing.T, before, in, after, q string, strict bool) {
		const secret = "S3CR3T"
		if strings.Contains(before+in+after+q, "S3CR") || strings.Contains(in, "</esi:remove") || len(before+in+after) > 16<<10 {
			return // not what this is about
		}
		template := before + "<esi:remove>" + in + secret + "</esi:remove>" + after
		p := &Page{
			Request: &http.Request{Host: "site", URL: &url.URL{RawQuery: "q=" + url.QueryEscape(q)}},
			Fetch:   canned, Strict: strict, Drop: len(q)%2 == 0,
			// Depth alone keeps the number of includes from depending on what is fetched first.
			Limits: Limits{Markup: 100, Parallel: 3, Includes: 1 << 20},
		}
		p.URL, _ = url.Parse("http://site/dir/page")
		var whole, cut strings.Builder
		err := p.Assemble(t.Context(), &whole, strings.NewReader(template))
		errCut := p.Assemble(t.Context(), &cut, iotest.OneByteReader(strings.NewReader(template)))
		if whole.String() != cut.String() || (err == nil) != (errCut == nil) || err != nil && err.Error() != errCut.Error() {
			t.Fatalf("%q\nwhole %q, %v\n cut  %q, %v", template, whole.String(), err, cut.String(), errCut)
		}
		if strings.Contains(whole.String(), secret) {
			t.Fatalf("%q\nshows %q", template, whole.String())
		}
		// What is not marked up is passed on as it is.
		if !strings.Contains(before, "<") && !strings.HasPrefix(whole.String(), before) {
			t.Fatalf("%q\nbecomes %q", template, whole.String())
		}
	})
}

// BenchmarkPage50 is a page of 50 fragments of 1 KiB that are there at once.
func BenchmarkPage50(b *testing.B) {
	body := strings.Repeat("x", 1<<10)
	p := pageIn(nil)
	p.Fetch = func(context.Context, *url.URL) (*http.Response, error) {
		return &http.Response{StatusCode: 200, ContentLength: 1 << 10, Body: io.NopCloser(strings.NewReader(body))}, nil
	}
	template, _ := numbered(50)
	b.ReportAllocs()
	b.SetBytes(50 << 10)
	for b.Loop() {
		if err := p.Assemble(b.Context(), io.Discard, strings.NewReader(template)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkText is a megabyte without markup of ours.
func BenchmarkText(b *testing.B) {
	p := pageIn(nil)
	template := strings.Repeat(`<p class="x">Some text, and an <a href="/y">anchor</a>.</p>`+"\n", 1<<20/60)
	b.ReportAllocs()
	b.SetBytes(int64(len(template)))
	for b.Loop() {
		if err := p.Assemble(b.Context(), io.Discard, strings.NewReader(template)); err != nil {
			b.Fatal(err)
		}
	}
}
