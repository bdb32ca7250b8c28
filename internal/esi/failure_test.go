package esi

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestESI03_AltAndContinue(t *testing.T) {
	testSamples(t, fragments, []sample{
		{`1<esi:include src="/500" alt="/b"/>2`, `1B2`},
		{`1<esi:include src="/302" alt="/b"/>2`, `1B2`},
		{`1<esi:include src="/206" alt="/b"/>2`, `1B2`},
		{`1<esi:include src="/broken" alt="b" onerror="continue"/>2`, `12`},
		{`1<esi:include src="/short" alt="/b"/>2`, `1B2`},
		{`1<esi:include src="/gzip" alt="/b"/>2`, `1B2`},
		{`1<esi:include src="http://other/" alt="/b"/>2`, `1B2`},
		{`1<esi:include src="/a" alt="/b"/>2`, `1A2`},
		{`1<esi:include src="/500" alt="/302" onerror="continue"/>2`, `12`},
		{`1<esi:include src="/500" onerror="continue"/>2`, `12`},
		{`1<esi:include src="/short" onerror="continue"/>2`, `12`},
		{`1<esi:include src="http://[" onerror="continue"/>2`, `12`},
		{`1<esi:include src="/%zz" onerror="continue"/>2`, `12`},
		{`1<esi:include src="" onerror="continue"/>2`, `12`},
	})
}

func TestESI03_AltIsNotFetchedWithoutNeed(t *testing.T) {
	w := worldOf(fragments())
	if _, err := assemble(t, pageIn(w), `<esi:include src="/a" alt="/b"/>`); err != nil || w.took() != "/a" {
		t.Errorf("%v, %s", err, w.took())
	}
}

func TestESI03_PageFails(t *testing.T) {
	for source, want := range map[string]error{
		"/500": ErrResponse, "/302": ErrResponse, "/206": ErrResponse, "/gzip": ErrResponse, "/missing": ErrResponse,
		"/short": io.ErrUnexpectedEOF, "http://other/": ErrRefused, "/page": ErrResponse,
	} {
		for _, c := range []struct {
			template string
			drop     bool
			want     string
		}{
			{`1<esi:include src="` + source + `"/>2`, false, "1"},
			{`1<esi:include src="` + source + `" onerror="stop"/>2`, false, "1"},
			{`1<esi:include src="` + source + `" alt="/500"/>2`, false, "1"},
			{`1<esi:include src="` + source + `"/>2`, true, "12"},
		} {
			p := pageIn(worldOf(fragments()))
			p.Drop = c.drop
			got, err := assemble(t, p, c.template)
			if got != c.want || c.drop != (err == nil) {
				t.Errorf("%s: %q, %v", c.template, got, err)
			}
			var include *IncludeError
			if !c.drop && (!errors.Is(err, want) || !errors.As(err, &include) || include.Source != source || include.Document != "http://site/dir/page") {
				t.Errorf("%s: %v, %+v", c.template, err, include)
			}
		}
	}
}

// What fails before any text leaves the page unwritten: the status can still
// be chosen.
func TestESI03_NothingIsWrittenBeforeTheFirstText(t *testing.T) {
	got, err := assemble(t, pageIn(worldOf(fragments())), `<esi:remove>x</esi:remove><esi:include src="/500"/>text`)
	if got != "" || err == nil {
		t.Errorf("%q, %v", got, err)
	}
}

// A body that breaks off late cannot be mended, unless it is held back.
func TestESI03_LateFailure(t *testing.T) {
	long := strings.Repeat("x", fragmentAhead+1000)
	replies := func() map[string]reply {
		return map[string]reply{"/late": {body: io.MultiReader(strings.NewReader(long), failing{})}, "/b": says("B")}
	}
	p := pageIn(worldOf(replies()))
	p.Drop = true
	got, err := assemble(t, p, `<esi:include src="/late" alt="/b" onerror="continue"/>2`)
	if got != long || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%d octets, %v", len(got), err)
	}
	testSamples(t, replies, []sample{
		{`1<esi:try><esi:attempt>2<esi:include src="/late"/></esi:attempt><esi:except>E</esi:except></esi:try>`, `1E`},
		{`1<esi:try><esi:attempt>2<esi:include src="/late" onerror="continue"/>3</esi:attempt><esi:except>E</esi:except></esi:try>`, `123`},
		{`1<esi:try><esi:attempt>2<esi:include src="/late" alt="/b"/>3</esi:attempt><esi:except>E</esi:except></esi:try>`, `12B3`},
	})
}

// A fragment fails if what it includes fails.
func TestESI03_FailureWithinAFragment(t *testing.T) {
	replies := func() map[string]reply {
		return map[string]reply{
			"/outer": asking(`(<esi:include src="/inner"/>)`), "/inner": asking(`<i><esi:include src="/none"/></i>`), "/b": says("B"),
			"/kind": asking(`(<esi:include src="/none" onerror="continue"/>)`),
		}
	}
	testSamples(t, replies, []sample{
		{`1<esi:include src="/outer" alt="/b"/>2`, `1B2`},
		{`1<esi:include src="/outer" onerror="continue"/>2`, `12`},
		{`1<esi:include src="/outer" alt="/none" onerror="continue"/>2`, `12`},
		{`1<esi:include src="/kind"/>2`, `1()2`},
		{`1<esi:try><esi:attempt>2<esi:include src="/outer"/></esi:attempt><esi:except>E</esi:except></esi:try>`, `1E`},
	})
	for drop, want := range map[bool]string{false: "1(<i>", true: "1(<i></i>)2"} {
		p := pageIn(worldOf(replies()))
		p.Drop = drop
		got, err := assemble(t, p, `1<esi:include src="/outer"/>2`)
		if got != want || drop != (err == nil) {
			t.Errorf("Drop %v: %q, %v", drop, got, err)
		}
	}
}

// Both failures are told, with the place of each.
func TestESI03_ErrorSaysAll(t *testing.T) {
	_, err := assemble(t, pageIn(worldOf(fragments())), `<esi:include src="/500" alt="http://other/x"/>`)
	if err == nil || !errors.Is(err, ErrResponse) || !errors.Is(err, ErrRefused) {
		t.Fatal(err)
	}
	for _, want := range []string{`"/500"`, "status 500", `"http://other/x"`, `"http://other:80"`, `"http://site/dir/page"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v says nothing of %s", err, want)
		}
	}
}

func TestESI05_Try(t *testing.T) {
	try := func(attempt, except string) string {
		return `1<esi:try> x <esi:attempt>` + attempt + `</esi:attempt> y <esi:except>` + except + `</esi:except> z </esi:try>2`
	}
	testSamples(t, fragments, []sample{
		{try(`a`, `e`), `1a2`},
		{try(`a<esi:include src="/a"/><esi:include src="/b"/>`, `e`), `1aAB2`},
		{try(`a<esi:include src="/a"/>b<esi:include src="/500"/>c<esi:include src="/b"/>`, `e`), `1e2`},
		{try(`<esi:include src="/500"/><esi:include src="/302"/>`, `e<esi:include src="/b"/>`), `1eB2`},
		{try(`<esi:include src="/500" alt="/b"/>`, `e`), `1B2`},
		{try(`a<esi:include src="/500" onerror="continue"/>`, `e`), `1a2`},
		{try(try(`<esi:include src="/500"/>`, `i`), `e`), `11i22`},
		{try(`a`+try(`b<esi:include src="/500"/>`, `c<esi:include src="/302"/>`), `e`), `1e2`},
		{try(`<esi:include src="/500"/>`+try(`b`, `c`), `e`+try(`<esi:include src="/500"/>`, `f`)), `1e1f22`},
		{try(try(`a`, `b`)+`<esi:include src="/500"/>`, `e`), `1e2`},
		{try(`<esi:choose><esi:when test="1==2"><esi:include src="/500"/></esi:when></esi:choose>a`, `e`), `1a2`},
		{`1<esi:try><esi:attempt>a<esi:include src="/500"/></esi:attempt></esi:try>2`, `12`},
		{`1<esi:try><esi:except>e</esi:except><esi:attempt>a</esi:attempt></esi:try>2`, `1a2`},
		{`1<esi:try><esi:attempt>a</esi:attempt><esi:attempt>b</esi:attempt></esi:try>2`, `1a2`},
		{`1<esi:try><esi:attempt><esi:include src="/500"/></esi:attempt><esi:except>e</esi:except><esi:except>f</esi:except></esi:try>2`, `1e2`},
		{`1<esi:try>a<esi:include src="/a"/></esi:try>2`, `12`},
		{`1<esi:try><esi:attempt/></esi:try>2`, `12`},
		{`1<esi:try><esi:attempt>a<esi:include src="/a"/>`, `1aA`},
	})
	// The page's Drop does not make a failing attempt work.
	p := pageIn(worldOf(fragments()))
	p.Drop = true
	if got, err := assemble(t, p, try(`a<esi:include src="/500"/>`, `e`)); got != "1e2" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := assemble(t, pageIn(worldOf(fragments())), try(`<esi:include src="/500"/>`, `<esi:include src="/302"/>`)); !errors.Is(err, ErrResponse) {
		t.Errorf("except fails: %v", err)
	}
}

// What except includes is fetched only if it is needed.
func TestESI05_ExceptIsNotFetchedWithoutNeed(t *testing.T) {
	w := worldOf(fragments())
	template := `<esi:try><esi:attempt><esi:include src="/a"/></esi:attempt><esi:except><esi:include src="/b"/></esi:except></esi:try>`
	if got, err := assemble(t, pageIn(w), template); got != "A" || err != nil || w.took() != "/a" {
		t.Errorf("%q, %v, asked %s", got, err, w.took())
	}
}

// An attempt is held back up to a limit.
func TestESI05_AttemptTooLong(t *testing.T) {
	p := pageIn(worldOf(map[string]reply{"/a": says(strings.Repeat("x", 600)), "/b": says(strings.Repeat("x", 600))}))
	p.Limits.Fragment = 1000
	template := `1<esi:try><esi:attempt><esi:include src="/a"/><esi:include src="/b"/></esi:attempt><esi:except>e</esi:except></esi:try>`
	if got, err := assemble(t, p, template); got != "1e" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestESI03_Encodings(t *testing.T) {
	for coding, ok := range map[string]bool{"gzip": false, "identity": true, "Identity": true, "identity, br": false, "": true} {
		w := worldOf(map[string]reply{"/a": {header: http.Header{"Content-Encoding": {coding}}, body: strings.NewReader("A")}})
		if got, err := assemble(t, pageIn(w), `<esi:include src="/a"/>`); ok != (err == nil) || ok != (got == "A") {
			t.Errorf("%q: %q, %v", coding, got, err)
		}
	}
}
