package esi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A reply is what a source answers.
type reply struct {
	status int // 200 if 0
	header http.Header
	body   io.Reader
	err    error
}

func says(body string) reply { return reply{body: strings.NewReader(body)} }

// asking is a fragment that is to be assembled itself.
func asking(body string) reply {
	return reply{header: http.Header{"Surrogate-Control": {`content="ESI/1.0"`}}, body: strings.NewReader(body)}
}

func status(code int) reply { return reply{status: code, body: strings.NewReader("error page")} }

// A world answers by URL, or by path and query for http://site. Each reply is
// given once.
type world struct {
	mu      sync.Mutex
	replies map[string]reply
	asked   []string // in the order of the calls
	open    int      // bodies
}

func worldOf(replies map[string]reply) *world { return &world{replies: replies} }

func (w *world) fetch(ctx context.Context, u *url.URL) (*http.Response, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	name := strings.TrimPrefix(u.String(), "http://site")
	w.asked = append(w.asked, name)
	u.Host, u.Path = "changed", "changed" // u is the callee's
	r, ok := w.replies[name]
	if !ok {
		r = status(404)
	}
	if r.err != nil {
		return nil, r.err
	}
	if r.status == 0 {
		r.status = 200
	}
	w.open++
	return &http.Response{StatusCode: r.status, Header: r.header, ContentLength: -1, Body: &body{r.body, w}}, nil
}

// took returns what was asked for, sorted.
func (w *world) took() string {
	slices.Sort(w.asked)
	return strings.Join(w.asked, " ")
}

type body struct {
	io.Reader
	w *world
}

func (b *body) Close() error {
	b.w.mu.Lock()
	defer b.w.mu.Unlock()
	b.w.open--
	return nil
}

// pageIn returns a page at http://site/dir/page in w.
func pageIn(w *world) *Page {
	r, _ := http.NewRequest("GET", "http://site/dir/page", nil)
	return &Page{Request: r, URL: r.URL, Fetch: w.fetch}
}

func assemble(t *testing.T, p *Page, template string) (string, error) {
	t.Helper()
	var b strings.Builder
	err := p.Assemble(t.Context(), &b, strings.NewReader(template))
	return b.String(), err
}

// A sample is a template and the page it becomes.
type sample struct{ template, want string }

// testSamples assembles each sample; replies makes the world anew each time.
func testSamples(t *testing.T, replies func() map[string]reply, samples []sample) {
	t.Helper()
	for _, c := range samples {
		w := worldOf(replies())
		got, err := assemble(t, pageIn(w), c.template)
		if err != nil || got != c.want {
			t.Errorf("%s\n got %q, %v\nwant %q", c.template, got, err, c.want)
		}
		if w.open != 0 {
			t.Errorf("%s: %d bodies left open", c.template, w.open)
		}
	}
}

func fragments() map[string]reply {
	return map[string]reply{
		"/a": says("A"), "/b": says("B"), "/dir/a": says("dA"), "/dir/page?q": says("Q"), "/x?a=1&b=2": says("X"), "/empty": {status: 204, body: http.NoBody},
		"/raw": says(`<esi:include src="/a"/>`), "/%20%22": says("blank"), "/203": {status: 203, body: strings.NewReader("203")},
		"/deep": asking(`<esi:include src="dir/sub"/>!`), "/dir/sub": asking(`[<esi:include src="a"/>]`),
		"/500": status(500), "/302": {status: 302, header: http.Header{"Location": {"/a"}}, body: strings.NewReader("moved")}, "/206": status(206),
		"/gzip": {header: http.Header{"Content-Encoding": {"gzip"}}, body: strings.NewReader("zip")}, "/broken": {err: errors.New("no route")},
		"/short": {body: io.MultiReader(strings.NewReader("short"), failing{})},
	}
}

// failing is a body that breaks off.
type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestESI02_Include(t *testing.T) {
	testSamples(t, fragments, []sample{
		{``, ``},
		{`text`, `text`},
		{`1<esi:include src="/a"/>2`, `1A2`},
		{`<esi:include src='/a'/><esi:include src="/b" />`, `AB`},
		{"<esi:include\n src = \"/a\"\n>x", `Ax`},
		{`<esi:include src="/a"></esi:include>x`, `Ax`},
		{`<esi:include src="a"/>`, `dA`},
		{`<esi:include src="../a"/>`, `A`},
		{`<esi:include src="?q"/>`, `Q`},
		{`<esi:include src="http://site/a"/>`, `A`},
		{`<esi:include src="/a#part"/>`, `A`},
		{`<esi:include src=" /a "/>`, `A`},
		{`<esi:include src="/x?a=1&b=2"/>`, `X`},
		{`<esi:include src="/x?a=1&amp;b=2"/>`, `X`},
		{`<esi:include src='/ &quot;'/>`, `blank`},
		{`<esi:include src="/empty"/>`, ``},
		{`<esi:include src="/203"/>`, `203`},
		{`<esi:include src="/a" maxwait="5"/>`, `A`},
		{`<esi:include src="/deep"/>`, `[dA]!`},
		{`<html><p class="x">a &amp; b</p><!-- c --><esi</html>`, `<html><p class="x">a &amp; b</p><!-- c --><esi</html>`},
	})
}

// Only the body of a fragment is used: what else its response says stays here.
func TestESI17_OnlyTheBody(t *testing.T) {
	w := worldOf(map[string]reply{"/a": {header: http.Header{"Set-Cookie": {"id=1"}, "X-Secret": {"2"}}, body: strings.NewReader("A")}})
	got, err := assemble(t, pageIn(w), `<esi:include src="/a"/>`)
	if got != "A" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// A fragment that does not ask is passed on as it is.
func TestESI01_FragmentsThatDoNotAsk(t *testing.T) {
	testSamples(t, fragments, []sample{{`<esi:include src="/raw"/>`, `<esi:include src="/a"/>`}})
}

// Assemble may be called by many at a time.
func TestPage_Shared(t *testing.T) {
	p := pageIn(nil)
	p.Fetch = func(context.Context, *url.URL) (*http.Response, error) {
		return &http.Response{StatusCode: 200, ContentLength: 1, Body: io.NopCloser(strings.NewReader("F"))}, nil
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if got, err := assemble(t, p, strings.Repeat(`<esi:include src="f"/>`, 50)); got != strings.Repeat("F", 50) || err != nil {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	all.Wait()
}

func TestPage_TemplateBreaksOff(t *testing.T) {
	w := worldOf(fragments())
	var b strings.Builder
	err := pageIn(w).Assemble(t.Context(), &b, io.MultiReader(strings.NewReader(`1<esi:try><esi:attempt>2<esi:include src="/a"/>`), failing{}))
	if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "http://site/dir/page") || b.String() != "1" {
		t.Errorf("%q, %v", b.String(), err)
	}
}

type refusing struct{ after int }

var errRefusing = errors.New("client is gone")

func (r *refusing) Write(b []byte) (int, error) {
	if r.after--; r.after < 0 {
		return 0, errRefusing
	}
	return len(b), nil
}

func TestPage_ClientIsGone(t *testing.T) {
	for after := range 4 {
		w := worldOf(fragments())
		template := `1<esi:include src="/a" onerror="continue"/><esi:try><esi:attempt>2</esi:attempt><esi:except>3</esi:except></esi:try><esi:include src="/deep" alt="/b"/>`
		if err := pageIn(w).Assemble(t.Context(), &refusing{after}, strings.NewReader(template)); !errors.Is(err, errRefusing) {
			t.Errorf("after %d writes: %v", after, err)
		}
	}
}

// idle is a template that gives nothing and does not end.
type idle struct{}

func (idle) Read([]byte) (int, error) { return 0, nil }

func TestPage_TemplateWithoutProgress(t *testing.T) {
	if err := pageIn(nil).Assemble(t.Context(), io.Discard, idle{}); !errors.Is(err, io.ErrNoProgress) {
		t.Error(err)
	}
}
