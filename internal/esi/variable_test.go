package esi

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// client is a request with all that variables can show.
func client() *http.Request {
	r, _ := http.NewRequest("GET", `http://site/dir/page?q=a%20b&q=2&x=<i>&e=`, nil)
	r.Header = http.Header{
		"Cookie":          {`id=7; name="A B"; id=8`, "secret=42; dots=..; html=<b>&'; url=/x?y=z%2F#"},
		"Accept-Language": {"de, en-GB;q=0.8", "fr;q=0"},
		"User-Agent":      {"Mozilla/5.0 (X11; Linux x86_64)"},
		"Referer":         {`http://from/"><script>`},
	}
	return r
}

func pageFor(r *http.Request, w *world) *Page {
	p := pageIn(w)
	p.Request = r
	p.Cookies = []string{"id", "name", "dots", "html", "url", "none"}
	return p
}

func TestESI07_Variables(t *testing.T) {
	for in, want := range map[string]string{
		"$(HTTP_HOST)":                       "site",
		"$(HTTP_COOKIE{id})":                 "7",
		"$(HTTP_COOKIE{name})":               "A B",
		"$(HTTP_COOKIE{none})":               "",
		"$(HTTP_COOKIE{none}|x)":             "x",
		"$(HTTP_COOKIE{none}|'a \"b\" <i>')": `a "b" <i>`,
		"$(HTTP_COOKIE{none}|)":              "",
		"$(HTTP_COOKIE{id}|x)":               "7",
		"$(HTTP_COOKIE{ID}|x)":               "x",
		"$(HTTP_ACCEPT_LANGUAGE)":            "de, en-GB;q=0.8, fr;q=0",
		"$(HTTP_ACCEPT_LANGUAGE{en-gb})":     "true",
		"$(HTTP_ACCEPT_LANGUAGE{DE})":        "true",
		"$(HTTP_ACCEPT_LANGUAGE{en})":        "",
		"$(HTTP_ACCEPT_LANGUAGE{fr}|no)":     "no",
		"$(HTTP_USER_AGENT{browser})":        "MOZILLA",
		"$(HTTP_USER_AGENT{version})":        "5.0",
		"$(HTTP_USER_AGENT{os})":             "UNIX",
		"$(HTTP_USER_AGENT)":                 "Mozilla/5.0 (X11; Linux x86_64)",
		"$(QUERY_STRING{q})":                 "a b",
		"$(QUERY_STRING{e}|empty)":           "empty",
		"$(QUERY_STRING{none})":              "",
		"$(REMOTE_ADDR)|$(HTTP_HOST{x})":     "|",
		"$(REMOTE_ADDR|x)":                   "x",
		"$5 $ $$(HTTP_HOST)$":                "$5 $ $site$",
	} {
		p := pageFor(client(), worldOf(nil))
		if got, err := assemble(t, p, "<esi:vars>"+in+"</esi:vars>"+in); got != want+in || err != nil {
			t.Errorf("%s: %q, %v", in, got, err)
		}
	}
}

func TestESI07_Agents(t *testing.T) {
	for s, want := range map[string]string{
		"Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1)": "MSIE 6.0 WIN",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X)":            "MOZILLA 5.0 MAC",
		"curl/8": "OTHER  OTHER",
		"":       "  ",
	} {
		k := agent(s)
		if got := k["browser"] + " " + k["version"] + " " + k["os"]; got != want {
			t.Errorf("%q: %q", s, got)
		}
	}
}

func TestESI07_WithoutARequest(t *testing.T) {
	p := pageIn(worldOf(nil))
	p.Request = nil
	if got, err := assemble(t, p, `<esi:vars>$(HTTP_HOST)$(HTTP_COOKIE{a}|b)$(QUERY_STRING)</esi:vars>`); got != "b" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// In vars ESI goes on, and beyond it variables are text.
func TestESI07_Vars(t *testing.T) {
	testSamples(t, fragments, []sample{
		{`$(HTTP_HOST)<esi:vars>$(HTTP_HOST)<esi:include src="/a"/><esi:vars/>$(HTTP_HOST)</esi:vars>$(HTTP_HOST)`, `$(HTTP_HOST)siteAsite$(HTTP_HOST)`},
		{`<esi:vars><a href="http://$(HTTP_HOST)/">x</a></esi:vars>`, `<a href="http://site/">x</a>`},
		{`<esi:include src="http://$(HTTP_HOST)/a"/>`, `A`},
		{`<esi:include src="/$(QUERY_STRING{none}|a)"/>`, `A`},
	})
}

func TestESI09_EscapedInText(t *testing.T) {
	for in, want := range map[string]string{
		"$(HTTP_COOKIE{html})": "&lt;b&gt;&amp;&#39;",
		"$(HTTP_REFERER)":      "http://from/&#34;&gt;&lt;script&gt;",
		"$(QUERY_STRING)":      "q=a%20b&amp;q=2&amp;x=&lt;i&gt;&amp;e=",
		"$(QUERY_STRING{x})":   "&lt;i&gt;",
	} {
		if got, err := assemble(t, pageFor(client(), worldOf(nil)), "<esi:vars>"+in+"</esi:vars>"); got != want || err != nil {
			t.Errorf("%s: %q, %v", in, got, err)
		}
	}
}

func TestESI09_EncodedInURIs(t *testing.T) {
	for src, want := range map[string]string{
		"/$(HTTP_COOKIE{html})":                 "/%3Cb%3E%26%27",
		"/$(HTTP_COOKIE{url})/x":                "/%2Fx%3Fy%3Dz%252F%23/x",
		"/f?u=$(HTTP_COOKIE{url})":              "/f?u=%2Fx%3Fy%3Dz%252F%23",
		"/f?$(QUERY_STRING)":                    "/f?q%3Da%2520b%26q%3D2%26x%3D%3Ci%3E%26e%3D",
		"/f?q=$(QUERY_STRING{q})":               "/f?q=a%20b",
		"/f?v=$(HTTP_COOKIE{dots})":             "/f?v=..",
		"/f$(HTTP_COOKIE{none}|?)v=1":           "/f?v=1",
		"/f?v=$(FOO|'$(HTTP_HOST)')":            "/f?v=$(FOO%7C'site')",
		"/f?v=$(HTTP_COOKIE{none}|'a b&c=d/é')": "/f?v=a%20b&c=d/%C3%A9",
		"/x.$(HTTP_COOKIE{id}).$(HTTP_HOST)":    "/x.7.site",
		"/$(HTTP_COOKIE{id":                     "/$(HTTP_COOKIE%7Bid",
		"$(HTTP_REFERER)":                       "/dir/http%3A%2F%2Ffrom%2F%22%3E%3Cscript%3E",
	} {
		w := worldOf(nil)
		_, err := assemble(t, pageFor(client(), w), `<esi:include src="`+src+`" onerror="continue"/>`)
		if err != nil || w.took() != want {
			t.Errorf("%s: asked %q, want %q, %v", src, w.took(), want, err)
		}
	}
}

func TestESI09_Hosts(t *testing.T) {
	r := client()
	r.Host = "site:8080"
	w := worldOf(nil)
	p := pageFor(r, w)
	p.URL, _ = url.Parse("http://site:8080/")
	if _, err := assemble(t, p, `<esi:include src="http://$(HTTP_HOST)/a" onerror="continue"/>`); err != nil || w.took() != ":8080/a" {
		t.Errorf("asked %q, %v", w.took(), err)
	}
}

// A client cannot climb the path.
func TestESI09_DotsInPaths(t *testing.T) {
	for _, src := range []string{"/a/$(HTTP_COOKIE{dots})/b", "$(HTTP_COOKIE{dots})", "/a/.$(HTTP_COOKIE{dots})"} {
		w := worldOf(nil)
		if _, err := assemble(t, pageFor(client(), w), `<esi:include src="`+src+`"/>`); !errors.Is(err, ErrRefused) || w.took() != "" {
			t.Errorf("%s: asked %q, %v", src, w.took(), err)
		}
	}
}

// Values are not read as ESI, nor as expressions or variables.
func TestESI09_NotReadAgain(t *testing.T) {
	r := client()
	evil := `<esi:include src="/a"/>$(HTTP_HOST)' == 'x`
	r.URL.RawQuery = "q=" + url.QueryEscape(evil)
	template := `<esi:vars>$(QUERY_STRING{q})</esi:vars><esi:choose><esi:when test="'$(QUERY_STRING{q})' == '1' | $(QUERY_STRING{q}) == '1'">when</esi:when></esi:choose>`
	w := worldOf(fragments())
	got, err := assemble(t, pageFor(r, w), template)
	want := `&lt;esi:include src=&#34;/a&#34;/&gt;$(HTTP_HOST)&#39; == &#39;x`
	if got != want || err != nil || w.took() != "" {
		t.Errorf("%q, %v, asked %q", got, err, w.took())
	}
	// Nor are the entities in them undone.
	r.URL.RawQuery = "q=%26lt%3B"
	if got, _ := assemble(t, pageFor(r, w), `<esi:choose><esi:when test="$(QUERY_STRING{q}) == '&amp;lt;'">y</esi:when></esi:choose>`); got != "y" {
		t.Errorf("%q", got)
	}
}

// What a client sends cannot make an attribute as long as it likes.
func TestESI09_LongValues(t *testing.T) {
	r := client()
	r.URL.RawQuery = strings.Repeat("x", 9000)
	w := worldOf(nil)
	src := strings.Repeat("$(QUERY_STRING)", 100)
	if _, err := assemble(t, pageFor(r, w), `<esi:include src="/?`+src+`"/>`); !errors.Is(err, errExpanded) || w.took() != "" {
		t.Errorf("%v", err)
	}
	if ok, err := holds("'"+src+"' == 'x'", newVariables(r, nil)); ok || err == nil {
		t.Errorf("%v, %v", ok, err)
	}
}

func TestESI12_OnlyNamedCookies(t *testing.T) {
	p := pageFor(client(), worldOf(nil))
	p.Cookies = []string{"id", "name"}
	template := `<esi:vars>$(HTTP_COOKIE)|$(HTTP_COOKIE{secret})|$(HTTP_COOKIE{id})</esi:vars><esi:choose><esi:when test="$(HTTP_COOKIE{secret}) == 42">leak</esi:when></esi:choose>`
	if got, err := assemble(t, p, template); got != "id=7; name=A B||7" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	p.Cookies = nil
	if got, err := assemble(t, p, template); got != "||" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestESI12_SameOrigin(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"http://a/", "http://a/x?y", true},
		{"http://a/", "HTTP://A:80/", true},
		{"https://a", "https://a:443/", true},
		{"http://a/", "https://a/", false},
		{"http://a/", "http://a:81/", false},
		{"http://a/", "http://a:443/", false},
		{"http://a/", "http://b.a/", false},
		{"http://[::1]/", "http://[::1]:80/", true},
	} {
		a, _ := url.Parse(c.a)
		b, _ := url.Parse(c.b)
		if SameOrigin(a, b) != c.want || SameOrigin(b, a) != c.want {
			t.Errorf("%s and %s: not %v", c.a, c.b, c.want)
		}
	}
}
