package esi

import (
	"errors"
	"strings"
	"testing"
)

func TestESI04_RemoveCommentMarkers(t *testing.T) {
	testSamples(t, fragments, []sample{
		{`1<esi:remove>x</esi:remove>2`, `12`},
		{`1<esi:remove/>2`, `12`},
		{`1<esi:remove />2`, `12`},
		{`1<esi:remove><a href="x">y</a><esi:include src="/none"/></esi:remove >2`, `12`},
		{`1<esi:remove>x<esi:remove>y</esi:remove>z</esi:remove>2`, `12`},
		{`1<esi:comment text="x"/>2`, `12`},
		{`1<esi:comment text="say "x" and > y"/>2`, `12`},
		{`1<esi:comment>x</esi:comment>2`, `12`},
		{`1<!--esi 2 -->3`, `1 2 3`},
		{`1<!--esi-->2`, `12`},
		{`<!--esi <esi:include src="/a"/><!-- x -->`, ` A<!-- x `},
		{`1<!--esi <esi:remove>x</esi:remove>-->2`, `1 2`},
		{`1<!--esi <esi:remove>-->x</esi:remove>-->2`, `1 2`},
		{`1-->2<!-- 3 -->`, `1-->2<!-- 3 -->`},
		{`<!--esix-->`, `<!--esix-->`},
		{`<!-- <esi:include src="/a"/> -->`, `<!-- A -->`},
	})
}

func TestESI06_Choose(t *testing.T) {
	testSamples(t, fragments, []sample{
		{`1<esi:choose> x <esi:when test="1==1">a</esi:when> y <esi:otherwise>b</esi:otherwise> z </esi:choose>2`, `1a2`},
		{`1<esi:choose><esi:when test="1==2">a</esi:when><esi:when test="2==2">b</esi:when><esi:when test="3==3">c</esi:when></esi:choose>2`, `1b2`},
		{`1<esi:choose><esi:when test="1==2">a</esi:when><esi:otherwise>b</esi:otherwise></esi:choose>2`, `1b2`},
		{`1<esi:choose><esi:when test="1==2">a</esi:when></esi:choose>2`, `12`},
		{`1<esi:choose><esi:when test="1==1"/><esi:otherwise>b</esi:otherwise></esi:choose>2`, `12`},
		{`1<esi:choose><esi:when>a</esi:when><esi:otherwise>b</esi:otherwise></esi:choose>2`, `1b2`},
		{`1<esi:choose><esi:when test="=">a</esi:when><esi:otherwise>b</esi:otherwise></esi:choose>2`, `1b2`},
		{`1<esi:choose><esi:when test="1==1"><esi:choose><esi:when test="1==2">a</esi:when><esi:otherwise>b</esi:otherwise></esi:choose></esi:when></esi:choose>2`, `1b2`},
		{`1<esi:choose><esi:when test="1==2"><esi:choose><esi:when test="1==1">a</esi:when></esi:choose></esi:when></esi:choose>2`, `12`},
		{`1<esi:choose><esi:when test="'a&amp;' == 'a&' &amp;&amp; 1 &lt; 2">a</esi:when></esi:choose>2`, `1a2`},
		{`1<esi:choose><esi:when test="1==2"><esi:try><esi:attempt>a</esi:attempt></esi:try></esi:when></esi:choose>2`, `12`},
	})
}

func TestESI06_OtherBranchesAreNotFetched(t *testing.T) {
	w := worldOf(fragments())
	template := `<esi:choose><esi:include src="/x"/><esi:when test="1==2"><esi:include src="/x"/></esi:when><esi:when test="1==1"><esi:include src="/a"/></esi:when>` +
		`<esi:when test="1==1"><esi:include src="/x"/></esi:when><esi:otherwise><esi:include src="/x"/></esi:otherwise></esi:choose>`
	if got, err := assemble(t, pageIn(w), template); got != "A" || err != nil || w.took() != "/a" {
		t.Errorf("%q, %v, asked %s", got, err, w.took())
	}
}

const manyAttributes = ` a="" b="" c="" d="" e="" f="" g="" h="" i="" j="" k="" l="" m="" n="" o="" p=""`

// malformed are templates that are passed on as text, or fail.
var malformed = []sample{
	{`1<esi:include src="/a>2`, `1<esi:include src="/a>2`},
	{`1<esi:include src="/a>2<esi:include src="/b"/>`, `1<esi:include src="/a>2B`},
	{`1<esi:include src=/a/>2`, `1<esi:include src=/a/>2`},
	{`1<esi:include src="/a"alt="/b"/>2`, `1<esi:include src="/a"alt="/b"/>2`},
	{`1<esi:include src="/a" src="/b"/>2`, `1<esi:include src="/a" src="/b"/>2`},
	{`1<esi:include/>2`, `1<esi:include/>2`},
	{`1<esi:include src="/a"`, `1<esi:include src="/a"`},
	{`1<esi:include <p>2`, `1<esi:include <p>2`},
	{`1<esi:>2`, `1<esi:>2`},
	{`1<esi:`, `1<esi:`},
	{`1<esi:inline name="x"/>2`, `1<esi:inline name="x"/>2`},
	{`1<esi:Include src="/a"/>2`, `1<esi:Include src="/a"/>2`},
	{`1</esi:vars>2`, `1</esi:vars>2`},
	{`1</esi:vars x>2`, `1</esi:vars x>2`},
	{`1<esi:when test="1==1">a</esi:when>2`, `1<esi:when test="1==1">a</esi:when>2`},
	{`1<esi:attempt>a</esi:attempt>2`, `1<esi:attempt>a</esi:attempt>2`},
	{`1<esi:except>a</esi:except>2`, `1<esi:except>a</esi:except>2`},
	{`<esi:choose><esi:when test="1==1">a</esi:choose>2`, `a</esi:choose>2`},
	{`<esi:choose><esi:when test="1==2">a</esi:choose>2`, ``},
	{`<esi:choose><esi:when test="(">a</esi:when></esi:choose>2`, `2`},
	{`<esi:vars>$(HTTP_HOST`, `$(HTTP_HOST`},
	{`<esi:vars>$(HTTP_HOST $(HTTP_HOST)</esi:vars>`, `$(HTTP_HOST site`},
	{`<esi:vars>$(http_host)$()$(HTTP_HOST|'x)</esi:vars>`, `$(http_host)$()$(HTTP_HOST|'x)`},
	{`<esi:vars>1`, `1`},
	{`<!--esi 1`, ` 1`},
	{`1<esi:remove>2`, `1`},
	{`1<esi:remove "x>y</esi:remove>2`, `12`},
	{`1<esi:remove x>y</esi:remove>2`, `12`},
	{`1<esi:remove <b>y</esi:remove>2`, `12`},
	{`1<esi:remove x='>y</esi:remove>2`, `12`},
	{`1<esi:remove`, `1`},
	{`1<esi:comment text="x`, `1<esi:comment text="x`},
	{`1<esi:comment>2`, `1`},
	{`1</esi:remove>2`, `12`},
	{`1<esi:include src="` + strings.Repeat("x", 8<<10) + `"/>2`, `1<esi:include src="` + strings.Repeat("x", 8<<10) + `"/>2`},
	{`1<esi:include src="/a"` + manyAttributes + `/>2`, `1<esi:include src="/a"` + manyAttributes + `/>2`},
}

func TestESI18_MalformedIsText(t *testing.T) { testSamples(t, fragments, malformed) }

func TestESI18_MalformedFails(t *testing.T) {
	for _, c := range malformed {
		p := pageIn(worldOf(fragments()))
		p.Strict = true
		got, err := assemble(t, p, c.template)
		if !errors.Is(err, ErrMarkup) || !strings.Contains(err.Error(), "http://site/dir/page") || !strings.Contains(err.Error(), "octet") {
			t.Errorf("%s: %q, %v", c.template, got, err)
		}
	}
	// In a fragment it is the fragment that fails.
	p := pageIn(worldOf(map[string]reply{"/bad": asking(`x<esi:foo/>`), "/b": says("B")}))
	p.Strict = true
	if got, err := assemble(t, p, `1<esi:include src="/bad" alt="/b"/>2`); got != "1B2" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestESI18_WellFormedIsStrict(t *testing.T) {
	p := pageIn(worldOf(fragments()))
	p.Strict = true
	template := `<!--esi <esi:vars>$(HTTP_HOST)$5</esi:vars>--><esi:remove>x</esi:remove><esi:comment text="x"/><esi:include src="/a"></esi:include>` +
		`<esi:choose><esi:when test="1==1">b</esi:when><esi:otherwise/></esi:choose><esi:try><esi:attempt>c</esi:attempt><esi:except/></esi:try>`
	if got, err := assemble(t, p, template); got != " site$5Abc" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// Whatever surrounds a remove, and whatever is in it, its content never shows.
func TestESI18_RemoveNeverShows(t *testing.T) {
	pieces := []string{
		``, `<esi:remove>`, `<esi:remove`, `<esi:remove a="`, `<esi:comment>`, `<esi:comment text="`, `</esi:comment>`, `<!--esi`, `<!--esi `, `-->`, `<`, `</`,
		`<esi:include src="/a`, `<esi:include src='`, `<esi:vars>$(HTTP_HOST|'`, `<esi:vars>$(`, `<esi:choose>`, `<esi:choose><esi:when test="1==1`, `<esi:try>`,
		`<esi:try><esi:attempt>`, `</esi:remove`, `</esi:remove x>`, `"`, `'`, `<esi:foo>`, strings.Repeat("<esi:vars>", 70), strings.Repeat("x", 9000) + "<esi:a b='",
	}
	for _, before := range pieces {
		for _, in := range pieces {
			for _, after := range pieces {
				template := before + `<esi:remove>` + in + `SECRET` + `</esi:remove>` + after
				got, _ := assemble(t, pageIn(worldOf(fragments())), template)
				if strings.Contains(got, "SECRET") {
					t.Errorf("%s\nshows %q", template, got)
				}
			}
		}
	}
}

// Elements lie in each other only so deep.
func TestESI18_TooManyElements(t *testing.T) {
	for n, ok := range map[int]bool{maxElements: true, maxElements + 1: false} {
		_, err := assemble(t, pageIn(worldOf(nil)), strings.Repeat("<esi:vars>", n)+strings.Repeat("</esi:vars>", n))
		if ok != (err == nil) || !ok && !errors.Is(err, ErrMarkup) {
			t.Errorf("%d: %v", n, err)
		}
	}
}
