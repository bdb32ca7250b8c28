package warm

import (
	"bufio"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
)

const (
	// maxSitemap and maxEntries are the largest sitemap, in octets when it is
	// unpacked, and the most URLs in it (sitemaps.org).
	maxSitemap = 50 << 20
	maxEntries = 50_000
	// maxMembers is the most sitemaps of an index. sitemaps.org allows 50,000; with
	// so many, 500 have 25 million URLs.
	maxMembers = 500
	// maxPiece is the largest tag, text or comment, in octets.
	maxPiece = 64 << 10
	// maxDepth is how deep elements may stand in each other; extensions take five.
	maxDepth = 16
)

// sitemap reads a sitemap, or an index, whose sitemaps it returns.
func (s *Sources) sitemap(in *bufio.Reader) (index []*url.URL, err error) {
	pieces := &pieces{in: in}
	d := xml.NewDecoder(pieces)
	m := sitemap{take: s.take}
	for {
		pieces.left = maxPiece
		t, err := d.Token()
		if err == nil {
			err = m.token(t)
		}
		switch {
		case err == nil:
			continue
		case errors.Is(err, io.EOF):
			if !m.done {
				return nil, errors.New("it ends before it begins: it is no sitemap")
			}
			return m.index, nil
		}
		line, _ := d.InputPos()
		var syntax *xml.SyntaxError
		if errors.As(err, &syntax) {
			line, err = syntax.Line, errors.New(syntax.Msg)
		}
		return nil, fmt.Errorf("line %d: %w", line, err)
	}
}

// pieces reads for an xml.Decoder, which asks it for each octet and reads nothing
// ahead: so no token is larger than what is left before it.
type pieces struct {
	in   *bufio.Reader
	left int
}

// ReadByte makes it an io.ByteReader.
func (p *pieces) ReadByte() (byte, error) {
	if p.left--; p.left < 0 {
		return 0, fmt.Errorf("a piece of it is longer than %d KiB", maxPiece>>10)
	}
	return p.in.ReadByte()
}

func (p *pieces) Read([]byte) (int, error) { return 0, errors.ErrUnsupported } // as said above

// A sitemap is one that is being read.
type sitemap struct {
	take  func(url string) error
	index []*url.URL // not nil if it is an index

	path    []xml.Name      // the open elements
	loc     strings.Builder // the text of the open loc
	entries int
	done    bool // the root was closed
}

func (m *sitemap) token(t xml.Token) error {
	switch t := t.(type) {
	case xml.StartElement:
		return m.open(t.Name)
	case xml.CharData:
		if !m.inLoc() {
			return nil
		}
		if m.loc.Len()+len(t) > maxLine {
			return fmt.Errorf("a loc is longer than %d KiB", maxLine>>10)
		}
		m.loc.Write(t)
	case xml.EndElement:
		entry := m.inLoc()
		m.path = m.path[:len(m.path)-1]
		m.done = len(m.path) == 0
		if entry {
			loc := strings.TrimSpace(m.loc.String())
			m.loc.Reset()
			return m.entry(loc)
		}
	}
	return nil
}

func (m *sitemap) open(name xml.Name) error {
	switch {
	case m.done:
		return fmt.Errorf("after its end there is more: <%s>", name.Local)
	case len(m.path) == maxDepth:
		return fmt.Errorf("its elements are more than %d deep in each other", maxDepth)
	case len(m.path) > 0:
	case name.Local == "sitemapindex":
		m.index = []*url.URL{}
	case name.Local != "urlset":
		return fmt.Errorf("it is <%s>, which is no sitemap: those are <urlset> and <sitemapindex>", name.Local)
	}
	m.path = append(m.path, name)
	return nil
}

// inLoc tells whether a loc is open, and not one of an extension, as of an image.
func (m *sitemap) inLoc() bool {
	entry := "url"
	if m.index != nil {
		entry = "sitemap"
	}
	return len(m.path) == 3 && m.path[1] == xml.Name{Space: m.path[0].Space, Local: entry} &&
		m.path[2] == xml.Name{Space: m.path[0].Space, Local: "loc"}
}

// entry takes what a loc says.
func (m *sitemap) entry(loc string) error {
	m.entries++
	if m.index == nil {
		if m.entries > maxEntries {
			return fmt.Errorf("it has more than %d URLs, which no sitemap may (sitemaps.org): split it", maxEntries)
		}
		return m.take(loc)
	}
	if m.entries > maxMembers {
		return fmt.Errorf("the index has more than %d sitemaps: name them in several runs", maxMembers)
	}
	u, err := clean(loc)
	m.index = append(m.index, u)
	return err
}
