package warm

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func packed(t testing.TB, text string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := io.WriteString(z, text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// ofText reads what stands in a text.
func ofText(t *testing.T, text string) ([]string, error) {
	s := Sources{Stdin: strings.NewReader(text)}
	err := s.Add(t.Context(), "-")
	return s.URLs(), err
}

const ns = ` xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"`

// urlset is a sitemap of n URLs.
func urlset(n int) string {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n<urlset" + ns + ">")
	for i := range n {
		fmt.Fprintf(&b, "<url><loc>http://example.org/%d</loc></url>\n", i)
	}
	b.WriteString("</urlset>")
	return b.String()
}

func TestFormsOfSources(t *testing.T) {
	list := "# hot: 2\r\n\r\nhttps://example.org/b\r\n  http://EXAMPLE.org:80/a#part \r\nhttp://example.org/b\nhttp://example.org"
	fromList := []string{"https://example.org/b", "http://example.org/a", "http://example.org/"}
	sitemap := "\ufeff \n<?xml version='1.0'?><!-- made by hand --><urlset" + ns + ` xmlns:image="http://www.google.com/schemas/sitemap-image/1.1">
		<url><loc>
			https://example.org/?a=1&amp;b=ü&#x26;c </loc><lastmod>2020-01-01</lastmod>
			<image:image><image:loc>https://example.org/picture</image:loc></image:image></url>
		<loc>https://example.org/nowhere</loc><more><loc>https://example.org/other</loc></more>
		<url><image:loc>https://example.org/picture</image:loc></url>
		<url><loc><![CDATA[https://example.org/ö&]]><!-- --><b>bold</b></loc></url></urlset>`
	fromSitemap := []string{"https://example.org/?a=1&b=%C3%BC&c", "https://example.org/%C3%B6&"}
	for name, test := range map[string]struct {
		text string
		want []string
	}{
		"list":             {list, fromList},
		"list with a mark": {"\ufeff" + list, fromList},
		"packed list":      {packed(t, list), fromList},
		"sitemap":          {sitemap, fromSitemap},
		"packed sitemap":   {packed(t, sitemap), fromSitemap},
		"nothing":          {"", nil},
		"comments":         {"# nothing is hot", nil},
		"empty sitemap":    {"<urlset/>", nil},
		"longest line":     {"http://h/" + strings.Repeat("a", maxLine-9) + "\r\n", []string{"http://h/" + strings.Repeat("a", maxLine-9)}},
	} {
		got, err := ofText(t, test.text)
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, %v, want %q", name, got, err, test.want)
		}
	}
	if got, err := ofText(t, urlset(maxEntries)); err != nil || len(got) != maxEntries {
		t.Errorf("%d URLs, %v", len(got), err)
	}
}

// endless is a text without an end.
type endless struct {
	head, again string
	at          int
}

func (e *endless) Read(p []byte) (n int, err error) {
	for n < len(p) {
		text := e.head
		if e.at >= len(text) {
			text, e.head, e.at = e.again, e.again, 0
		}
		k := copy(p[n:], text[e.at:])
		n, e.at = n+k, e.at+k
	}
	return n, nil
}

// What is wrong is told with its place, and what is too large is never read to its
// end.
func TestBadSources(t *testing.T) {
	for name, test := range map[string]struct {
		text io.Reader
		want string
	}{
		"relative URL":      {strings.NewReader("http://h/\n\n/page"), `stdin: line 3: "/page" is no URL: write it as https://example.org/page`},
		"other scheme":      {strings.NewReader("ftp://h/"), `stdin: line 1: "ftp://h/" is no URL: write it as https://example.org/page`},
		"no host":           {strings.NewReader("http:///a"), `stdin: line 1: "http:///a" is no URL: write it as https://example.org/page`},
		"control character": {strings.NewReader("http://h/\x1b[2J"), `stdin: line 1: "http://h/\x1b[2J" is no URL: write it as https://example.org/page`},
		"columns":           {strings.NewReader("http://h/ 17"), `stdin: line 1: "http://h/ 17" has a blank in it: write that as %20`},
		"password":          {strings.NewReader("http://me:secret@h/"), `stdin: line 1: the URL has the name of a user in it, or a password: leave them out`},
		"long line":         {strings.NewReader("http://h/\nhttp://h/" + strings.Repeat("a", maxLine)), `stdin: line 2: it is longer than 16 KiB`},
		"endless line":      {&endless{again: "http://h/"}, `stdin: line 1: it is longer than 16 KiB`},
		"endless comments":  {&endless{again: "#" + strings.Repeat("-", maxLine-2) + "\n"}, `stdin: it has more than 256 MiB, unpacked: split it`},
		"cut gzip":          {strings.NewReader(packed(t, urlset(1000))[:1000]), "unexpected EOF"},
		"no gzip":           {strings.NewReader("\x1f\x8bgarbage---"), "stdin: it begins like gzip and is none: gzip: invalid header"},
		"page":              {strings.NewReader("<!doctype html>\n<html>"), `stdin: line 2: it is <html>, which is no sitemap: those are <urlset> and <sitemapindex>`},
		"feed":              {strings.NewReader("<rss/>"), `stdin: line 1: it is <rss>, which is no sitemap: those are <urlset> and <sitemapindex>`},
		"garbage":           {strings.NewReader("<urlset>\n<url><loc>http://h/</url>"), "stdin: line 2: element <loc> closed by </url>"},
		"cut sitemap":       {strings.NewReader("<urlset>\n<url>"), "stdin: line 2: unexpected EOF"},
		"only a comment":    {strings.NewReader("<!-- -->"), "stdin: it ends before it begins: it is no sitemap"},
		"two sitemaps":      {strings.NewReader("<urlset></urlset>\n<urlset></urlset>"), "stdin: line 2: after its end there is more: <urlset>"},
		"URL of a sitemap":  {strings.NewReader("<urlset>\n<url><loc>/page</loc></url></urlset>"), `stdin: line 2: "/page" is no URL: write it as https://example.org/page`},
		"entities": {
			strings.NewReader(`<!DOCTYPE urlset [<!ENTITY a "http://h/"><!ENTITY b "&a;&a;">]>` + "\n<urlset><url><loc>&b;</loc></url></urlset>"),
			"stdin: line 2: invalid character entity &b;",
		},
		"external entity": {
			strings.NewReader(`<!DOCTYPE urlset [<!ENTITY x SYSTEM "file:///etc/passwd">]><urlset><url><loc>http://h/&x;</loc></url></urlset>`),
			"stdin: line 1: invalid character entity &x;",
		},
		"other charset": {strings.NewReader(`<?xml version="1.0" encoding="latin1"?><urlset/>`), "stdin: line 1: xml: encoding"},
		"too many":      {strings.NewReader(urlset(maxEntries + 1)), "it has more than 50000 URLs, which no sitemap may (sitemaps.org): split it"},
		"deep":          {&endless{head: "<urlset>", again: "<url>"}, "stdin: line 1: its elements are more than 16 deep in each other"},
		"endless loc":   {&endless{head: "<urlset><url><loc>", again: "<![CDATA[a]]>"}, "stdin: line 1: a loc is longer than 16 KiB"},
		"endless text":  {&endless{head: "<urlset><url><loc>", again: "a"}, "stdin: line 1: a loc is longer than 16 KiB"},
		"endless tag":   {&endless{head: "<urlset", again: ` a=""`}, "stdin: line 1: a piece of it is longer than 64 KiB"},
		"endless name":  {&endless{head: "<", again: "urlset"}, "stdin: line 1: a piece of it is longer than 64 KiB"},
	} {
		s := Sources{Stdin: test.text}
		if err := s.Add(t.Context(), "-"); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %s", name, err, test.want)
		}
	}
}

// What is unpacked is what counts, and the rest of it is never unpacked.
func TestBombs(t *testing.T) {
	for name, text := range map[string]io.Reader{
		"filler": &endless{head: "<urlset>", again: "<!-- -->"},
		"zeros":  strings.NewReader(packed(t, "<urlset>"+strings.Repeat("<url></url>", 200_000))),
	} {
		in, err := unpack(text)
		if err != nil {
			t.Fatal(err)
		}
		var s Sources
		if _, err := s.sitemap(limit(in, 1<<20)); err == nil || err.Error() != "line 1: it has more than 1 MiB, unpacked: split it" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// All sources together are bounded, and what is in several counts once.
func TestAllSourcesTogether(t *testing.T) {
	s := Sources{urls: make([]string, maxURLs-1)}
	for _, u := range []string{"http://h/last", "https://h/last"} {
		if err := s.take(u); err != nil {
			t.Errorf("%s: %v", u, err)
		}
	}
	if err := s.take("http://h/more"); err == nil || !strings.Contains(err.Error(), "more than 1000000 URLs") {
		t.Errorf("one more: %v", err)
	}
	s = Sources{text: maxText - 10}
	if err := s.take("http://h/more"); err == nil || !strings.Contains(err.Error(), "256 MiB") {
		t.Errorf("too long together: %v", err)
	}
}

// A site serves sitemaps, and counts what is asked for.
func site(t *testing.T, files map[string]string) (url string, asked *[]string) {
	t.Helper()
	asked = new([]string)
	var server *httptest.Server
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked = append(*asked, r.URL.Path)
		text, ok := files[r.URL.Path]
		switch to, redirect := strings.CutPrefix(text, "-> "); {
		case !ok:
			http.NotFound(w, r)
		case redirect:
			http.Redirect(w, r, strings.ReplaceAll(to, "SITE", server.URL), http.StatusFound)
		default:
			fmt.Fprint(w, strings.ReplaceAll(text, "SITE", server.URL))
		}
	}))
	t.Cleanup(server.Close)
	return server.URL, asked
}

// index is an index of sitemaps.
func index(locs ...string) string {
	text := "<sitemapindex" + ns + ">"
	for _, loc := range locs {
		text += "<sitemap><loc>" + loc + "</loc></sitemap>\n"
	}
	return text + "</sitemapindex>"
}

// The sitemaps of an index are downloaded if they are of its host, be they packed,
// moved within it, or lists.
func TestIndex(t *testing.T) {
	other, others := site(t, nil)
	url, asked := site(t, map[string]string{
		"/sitemap.xml": index("SITE/1.xml", other+"/2.xml", "SITE/3", "SITE/4.txt", "http://127.0.0.1:1/admin"),
		"/1.xml":       "<urlset><url><loc>http://h/1</loc></url></urlset>",
		"/3":           "-> /3.xml",
		"/3.xml":       packed(t, "<urlset><url><loc>http://h/3</loc></url><url><loc>http://h/1</loc></url></urlset>"),
		"/4.txt":       "http://h/4",
	})
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent()) // while the site would keep connections
	var notes []string
	var progress []int
	s := Sources{
		Timeout: time.Minute, Note: func(line string) { notes = append(notes, line) },
		Progress: func(n int) { progress = append(progress, n) },
	}
	if err := s.Add(t.Context(), url+"/sitemap.xml"); err != nil {
		t.Fatal(err)
	}
	if want := []string{"http://h/1", "http://h/3", "http://h/4"}; !slices.Equal(s.URLs(), want) || !slices.Equal(progress, []int{0, 1, 2, 3}) {
		t.Errorf("%q, want %q; progress %v", s.URLs(), want, progress)
	}
	want := fmt.Sprintf("%s/sitemap.xml: 2 of its sitemaps are left out, for they are not of %s as it is; the first is %s/2.xml", url, url[len("http://"):], other)
	if len(notes) != 1 || notes[0] != want {
		t.Errorf("notes: %q, want %q", notes, want)
	}
	if len(*others) > 0 {
		t.Errorf("another host was asked for %q", *others)
	}
	if want := []string{"/sitemap.xml", "/1.xml", "/3", "/3.xml", "/4.txt"}; !slices.Equal(*asked, want) {
		t.Errorf("asked for %q, want %q", *asked, want)
	}
}

// An index in a file says by its first sitemap whose it is.
func TestIndexInAFile(t *testing.T) {
	other, others := site(t, nil)
	url, _ := site(t, map[string]string{"/1.xml": "<urlset><url><loc>http://h/1</loc></url></urlset>"})
	name := filepath.Join(t.TempDir(), "index.xml")
	if err := os.WriteFile(name, []byte(index(url+"/1.xml", other+"/2.xml")), 0o600); err != nil {
		t.Fatal(err)
	}
	var s Sources
	if err := s.Add(t.Context(), name); err != nil || !slices.Equal(s.URLs(), []string{"http://h/1"}) || len(*others) > 0 {
		t.Errorf("%q, %v; the other host was asked for %q", s.URLs(), err, *others)
	}
}

func TestBadDownloads(t *testing.T) {
	other, others := site(t, nil)
	many := slices.Repeat([]string{"SITE/1.xml"}, maxMembers+1)
	url, asked := site(t, map[string]string{
		"/elsewhere": "-> " + other + "/secret",
		"/round":     "-> /round",
		"/leads.xml": index("SITE/elsewhere"),
		"/deep.xml":  index("SITE/empty.xml"),
		"/empty.xml": index(),
		"/many.xml":  index(many...),
		"/lacks.xml": index("SITE/nothing.xml"),
		"/bad.xml":   index("SITE/1.xml", "/2.xml"),
		"/list":      "http://h/\n{}",
	})
	for path, want := range map[string]string{
		"/nothing":   "SITE/nothing: it answers 404 Not Found",
		"/elsewhere": "SITE/elsewhere: it redirects to another host: name " + other + "/secret, if that is meant",
		"/round":     "SITE/round: it redirects more than 5 times",
		"/leads.xml": "SITE/elsewhere: it redirects to another host: name " + other + "/secret, if that is meant",
		"/deep.xml":  "SITE/empty.xml: it is an index, and so is SITE/deep.xml, which names it: name the sitemaps themselves",
		"/many.xml":  "SITE/many.xml: line 501: the index has more than 500 sitemaps: name them in several runs",
		"/lacks.xml": "SITE/nothing.xml: it answers 404 Not Found",
		"/bad.xml":   `SITE/bad.xml: line 2: "/2.xml" is no URL: write it as https://example.org/page`,
		"/list":      `SITE/list: line 2: "{}" is no URL: write it as https://example.org/page`,
	} {
		var s Sources
		want = strings.ReplaceAll(want, "SITE", url)
		if err := s.Add(t.Context(), url+path); err == nil || err.Error() != want {
			t.Errorf("%s: %v\nwant %s", path, err, want)
		}
	}
	if len(*others) > 0 || slices.Contains(*asked, "/1.xml") {
		t.Errorf("asked for %q, and another host for %q", *asked, *others)
	}
}

// A source that never comes to its end is given up.
func TestSlowDownload(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "http://h/")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	defer server.Close()
	s := Sources{Timeout: 100 * time.Millisecond}
	if err := s.Add(t.Context(), server.URL+"/list"); err == nil || err.Error() != server.URL+"/list: it takes too long: give it more time" {
		t.Errorf("%v", err)
	}
}

func TestMissingFile(t *testing.T) {
	var s Sources
	err := s.Add(t.Context(), filepath.Join(t.TempDir(), "nothing"))
	var path *os.PathError
	if !errors.As(err, &path) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if err := s.Add(t.Context(), "http:///sitemap.xml"); err == nil || !strings.Contains(err.Error(), "is no URL") {
		t.Errorf("%v", err)
	}
}

// Whatever is read, URLs are clean and each comes once: written as a list they are
// the same again.
func FuzzSources(f *testing.F) {
	f.Add("# hot\nhttp://example.org/a?b#c\r\nhttps://Example.org:443")
	f.Add("http://h:/?%C3\xbc\nhttp://[::1%25eth0]:80/ä")
	f.Add(urlset(2))
	f.Add(packed(f, urlset(2)))
	f.Add(index("http://example.org/a.xml", "https://example.org/b.xml"))
	f.Add(`<a:urlset xmlns:a="x"><a:url><a:loc><![CDATA[http://h/]]>&lt;</a:loc></a:url></a:urlset>`)
	f.Fuzz(func(t *testing.T, text string) {
		var s Sources
		index, err := s.read("it", strings.NewReader(text))
		if err != nil {
			return
		}
		for _, u := range index {
			if u == nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
				t.Fatalf("a sitemap at %v", u)
			}
		}
		var again Sources
		if _, err := again.read("again", strings.NewReader(strings.Join(s.URLs(), "\n"))); err != nil || !slices.Equal(again.URLs(), s.URLs()) {
			t.Fatalf("%q are %q, %v", s.URLs(), again.URLs(), err)
		}
	})
}
