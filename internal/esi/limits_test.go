package esi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// endless answers any source with a fragment that includes another.
func endless(_ context.Context, u *url.URL) (*http.Response, error) {
	r := asking(fmt.Sprintf(`<esi:include src="%sx"/>`, u.Path))
	return &http.Response{StatusCode: 200, Header: r.header, Body: io.NopCloser(r.body)}, nil
}

func TestESI10_Depth(t *testing.T) {
	p := pageIn(nil)
	p.Fetch = endless
	if _, err := assemble(t, p, `<esi:include src="/x"/>`); !errors.Is(err, ErrDepth) || !strings.Contains(err.Error(), `"/xxxx"`) {
		t.Errorf("%v", err)
	}
	nested := func() map[string]reply {
		return map[string]reply{"/1": asking(`1<esi:include src="/2"/>`), "/2": asking(`2<esi:include src="/3"/>`), "/3": says("3")}
	}
	testSamples(t, nested, []sample{{`<esi:include src="/1"/>`, "123"}})
	p = pageIn(worldOf(nested()))
	p.Limits.Depth = 2
	if got, err := assemble(t, p, `<esi:include src="/1"/>`); got != "12" || !errors.Is(err, ErrDepth) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestESI10_Includes(t *testing.T) {
	p := pageIn(nil)
	p.Limits.Includes = 3
	p.Fetch = func(context.Context, *url.URL) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader("F"))}, nil
	}
	if got, err := assemble(t, p, strings.Repeat(`<esi:include src="/f"/>`, 3)); got != "FFF" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	// Nothing mends the excess.
	include := `<esi:include src="/f" alt="/g" onerror="continue"/>`
	for _, template := range []string{
		strings.Repeat(include, 4) + "end",
		strings.Repeat(include, 3) + `<esi:try><esi:attempt>` + include + `</esi:attempt><esi:except>e</esi:except></esi:try>end`,
	} {
		p.Drop = true
		if got, err := assemble(t, p, template); got != "FFF" || !errors.Is(err, ErrIncludes) {
			t.Errorf("%s: %q, %v", template, got, err)
		}
	}
	// Alternatives count.
	w := worldOf(fragments())
	p = pageIn(w)
	p.Limits.Includes = 1
	if got, err := assemble(t, p, `<esi:include src="/500" alt="/a" onerror="continue"/>`); got != "" || !errors.Is(err, ErrIncludes) || w.took() != "/500" {
		t.Errorf("%q, %v, asked %s", got, err, w.took())
	}
}

func TestESI10_Sizes(t *testing.T) {
	replies := func() map[string]reply {
		return map[string]reply{"/a": says(strings.Repeat("a", 100)), "/b": says("B")}
	}
	for _, c := range []struct {
		template string
		limits   Limits
		length   int
		want     error
	}{
		{`<esi:include src="/a"/>`, Limits{Fragment: 100, Size: 100}, 100, nil},
		{`<esi:include src="/a"/>`, Limits{Fragment: 99}, 0, ErrFragment},
		{`<esi:include src="/a" alt="/b"/>`, Limits{Fragment: 99}, 1, nil},
		{`<esi:include src="/a" onerror="continue"/>`, Limits{Size: 99}, 0, ErrSize},
		{`<esi:try><esi:attempt><esi:include src="/a"/></esi:attempt></esi:try>x`, Limits{Size: 99}, 0, ErrSize},
		{strings.Repeat("x", 101), Limits{Size: 100}, 0, ErrSize},
	} {
		p := pageIn(worldOf(replies()))
		p.Limits = c.limits
		if got, err := assemble(t, p, c.template); len(got) != c.length || !errors.Is(err, c.want) {
			t.Errorf("%s: %d octets, %v", c.template, len(got), err)
		}
	}
}

// A length that is too long is refused before the body is read.
func TestESI10_ContentLength(t *testing.T) {
	p := pageIn(nil)
	p.Fetch = func(context.Context, *url.URL) (*http.Response, error) {
		return &http.Response{StatusCode: 200, ContentLength: 17 << 20, Body: io.NopCloser(failing{})}, nil
	}
	if _, err := assemble(t, p, `<esi:include src="/a"/>`); !errors.Is(err, ErrFragment) {
		t.Errorf("%v", err)
	}
}

func TestESI11_OnlyAllowedHosts(t *testing.T) {
	for source, want := range map[string]string{
		"http://site/a": "/a", "http://site:80/a": ":80/a", "https://site/a": "", "http://site:81/a": "", "http://other/a": "", "//other/a": "", "/\\other/a": "/%5Cother/a",
		"http://site@other/a": "", "http://user@site/a": "", "http://127.0.0.1/a": "", "http://169.254.169.254/": "", "file:///etc/passwd": "", "ftp://site/a": "",
		"http:a": "", "javascript:1": "", "http:///a": "",
	} {
		w := worldOf(nil)
		_, err := assemble(t, pageIn(w), `<esi:include src="`+source+`"/>`)
		if w.took() != want || want == "" && !errors.Is(err, ErrRefused) {
			t.Errorf("%s: asked %q, %v", source, w.took(), err)
		}
	}
	w := worldOf(map[string]reply{"http://other/x": asking(`<esi:include src="y"/>`), "http://other/y": says("Y"), "/a": says("A")})
	p := pageIn(w)
	p.Allowed = func(u *url.URL) bool {
		u.Host = "changed" // u is the callee's
		return u.Path != "/a"
	}
	got, err := assemble(t, p, `<esi:include src="http://other/x"/><esi:include src="/a"/>`)
	if got != "Y" || !errors.Is(err, ErrRefused) || w.took() != "http://other/x http://other/y" {
		t.Errorf("%q, %v, asked %s", got, err, w.took())
	}
}

// A redirect is a failure, wherever it leads, and is not followed.
func TestESI11_RedirectsAreRefused(t *testing.T) {
	for _, code := range []int{301, 302, 303, 307, 308, 304} {
		w := worldOf(map[string]reply{"/r": {status: code, header: http.Header{"Location": {"http://internal/"}}, body: strings.NewReader("moved")}})
		if _, err := assemble(t, pageIn(w), `<esi:include src="/r"/>`); !errors.Is(err, ErrResponse) || w.took() != "/r" {
			t.Errorf("%d: asked %s, %v", code, w.took(), err)
		}
	}
}

// What reflected input could do (threats, SS-02).
func TestSS02_SelfInclude(t *testing.T) {
	for _, self := range []string{"/dir/page", "page", "", "HTTP://SITE:80/dir/page#x", "/dir/x/../page", "/dir/p%61ge"} {
		w := worldOf(map[string]reply{})
		_, err := assemble(t, pageIn(w), `<esi:include src="`+self+`"/>`)
		if loop := errors.Is(err, ErrLoop); loop == strings.Contains(self, "%") {
			t.Errorf("%q: %v", self, err)
		}
	}
	w := worldOf(map[string]reply{"/1": asking(`1<esi:include src="/2"/>`), "/2": asking(`2<esi:include src="/1"/>`)})
	if got, err := assemble(t, pageIn(w), `<esi:include src="/1"/>`); got != "12" || !errors.Is(err, ErrLoop) {
		t.Errorf("%q, %v", got, err)
	}
	// The same fragment twice is no loop.
	w = worldOf(map[string]reply{"/1": asking(`1<esi:include src="/2"/>`), "/2": says("2")})
	p := pageIn(w)
	p.Fetch = func(_ context.Context, u *url.URL) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(u.Path))}, nil
	}
	if got, err := assemble(t, p, strings.Repeat(`<esi:include src="/1"/>`, 2)); got != "/1/1" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestSS02_TenThousandIncludes(t *testing.T) {
	p := pageIn(nil)
	fetched := 0
	p.Limits.Parallel = 1 // so that fetched needs no lock
	p.Fetch = func(context.Context, *url.URL) (*http.Response, error) {
		fetched++
		return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader("F"))}, nil
	}
	template := strings.Repeat(`<esi:include src="/f" onerror="continue"/>`, 10_000)
	got, err := assemble(t, p, template)
	if len(got) != 256 || fetched != 256 || !errors.Is(err, ErrIncludes) || !strings.Contains(err.Error(), "256") {
		t.Errorf("%d octets, %d fetched, %v", len(got), fetched, err)
	}
	p.Limits.Includes = 10_000
	if got, err := assemble(t, p, template); len(got) != 10_000 || err != nil {
		t.Errorf("%d octets, %v", len(got), err)
	}
}

// zeros is a long body.
type zeros struct{ left int64 }

func (z *zeros) Read(p []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), z.left)
	z.left -= n
	clear(p[:n])
	return int(n), nil
}

func TestSS02_GiganticFragment(t *testing.T) {
	body := &zeros{left: 1 << 30}
	p := pageIn(worldOf(map[string]reply{"/big": {body: body}}))
	if err := p.Assemble(t.Context(), io.Discard, strings.NewReader(`<esi:include src="/big"/>`)); !errors.Is(err, ErrFragment) {
		t.Errorf("%v", err)
	}
	if read := 1<<30 - body.left; read != 16<<20+1 {
		t.Errorf("%d octets were read", read)
	}
}
