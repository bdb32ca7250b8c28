package warm

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"
)

// What is read is bounded, so that no file takes all memory.
const (
	// maxURLs and maxText are how many URLs there may be together, and how many
	// octets they may take.
	maxURLs = 1_000_000
	maxText = 256 << 20
	// maxLine is the longest line of a list, and the longest URL of a sitemap, in
	// octets. It is the longest target that Larder takes.
	maxLine = 16 << 10
	// maxList is the largest list, in octets, with its comments.
	maxList = 256 << 20
)

// Sources collects URLs from lists and sitemaps, each once, in the order in which
// they are named: at most 1,000,000, of 256 MiB together. What a source is, its
// content says, and what is packed with gzip is unpacked:
//
//   - A list is a URL a line, of at most 16 KiB. Blank lines, and lines that begin
//     with #, are ignored. It has at most 256 MiB.
//   - A sitemap (sitemaps.org) has at most 50,000 URLs and 50 MiB. An index has at
//     most 500 sitemaps of its own host, and no other index.
//
// The zero value works. It is for one goroutine. After an error what it has is of
// no use.
type Sources struct {
	// Stdin is what the source - means. Nil: nothing is in it.
	Stdin io.Reader
	// Timeout is how long the download of a source may take. Zero: as long as it takes.
	Timeout time.Duration
	// UserAgent is sent to where sources are downloaded from. Empty: net/http's.
	UserAgent string
	// Note is told, in one line, of what was left out. Nil: nobody is.
	Note func(line string)
	// Progress is told after each file how many URLs there are. Nil: nobody is.
	Progress func(urls int)

	urls []string
	seen map[string]struct{} // what stands after the scheme, which is not sent
	text int                 // octets of urls
}

// URLs are those that were read, clean: with http or https, a host, a path, and
// no fragment. They belong to the Sources.
func (s *Sources) URLs() []string { return s.urls }

// Add reads a source: the name of a file, - for stdin, or a URL with http:// or
// https://, which is downloaded. An error of the file system is an *os.PathError;
// others say in which line of which file something is wrong.
func (s *Sources) Add(ctx context.Context, source string) error {
	d := newDownloads(s.Timeout, s.UserAgent)
	defer d.close()
	var index []*url.URL
	var err error
	var home *url.URL // where the source is from; nil for files
	switch {
	case source == "-":
		index, err = s.read("stdin", s.Stdin)
	case isWeb(source):
		if home, err = url.Parse(source); err != nil || home.Hostname() == "" {
			return fmt.Errorf("%q is no URL: write it as https://example.org/sitemap.xml", source)
		}
		index, err = s.download(ctx, d, home)
	default:
		index, err = s.open(source)
	}
	if err != nil {
		return err
	}
	if home != nil {
		source = home.Redacted()
	}
	for _, u := range s.own(source, home, index) {
		switch deeper, err := s.download(ctx, d, u); {
		case err != nil:
			return err
		case deeper != nil:
			return fmt.Errorf("%s: it is an index, and so is %s, which names it: name the sitemaps themselves", u.Redacted(), source)
		}
	}
	return nil
}

// isWeb tells what is downloaded from what is a file.
func isWeb(source string) bool {
	scheme, _, ok := strings.Cut(source, "://")
	return ok && (strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https"))
}

// own returns those of index that are of the same host as the index, which was
// read from home. A sitemap must not have us ask hosts of its choice, which may be
// such that it cannot reach itself. An index from a file says by its first sitemap
// whose it is.
func (s *Sources) own(source string, home *url.URL, index []*url.URL) (own []*url.URL) {
	var foreign []*url.URL
	for _, u := range index {
		if home == nil {
			home = u
		}
		if sameHost(home, u) {
			own = append(own, u)
		} else {
			foreign = append(foreign, u)
		}
	}
	if len(foreign) > 0 && s.Note != nil {
		s.Note(fmt.Sprintf("%s: %d of its sitemaps are left out, for they are not of %s as it is; the first is %s",
			source, len(foreign), home.Host, foreign[0].Redacted()))
	}
	return own
}

func (s *Sources) open(name string) ([]*url.URL, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return s.read(name, f)
}

func (s *Sources) download(ctx context.Context, d *downloads, u *url.URL) ([]*url.URL, error) {
	body, err := d.get(ctx, u)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", u.Redacted(), err)
	}
	defer body.Close()
	return s.read(u.Redacted(), body)
}

// read takes all URLs of in, which messages call name. If it is an index it
// returns the sitemaps, which is not nil then.
func (s *Sources) read(name string, in io.Reader) (index []*url.URL, err error) {
	if in == nil {
		in = strings.NewReader("")
	}
	text, err := unpack(in)
	if err == nil {
		if isXML(text) {
			index, err = s.sitemap(limit(text, maxSitemap))
		} else {
			err = s.list(limit(text, maxList))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, plain(err))
	}
	if s.Progress != nil {
		s.Progress(len(s.urls))
	}
	return index, nil
}

// unpack returns the text of in, without the mark of UTF-8 that some put first.
func unpack(in io.Reader) (*bufio.Reader, error) {
	text := bufio.NewReader(in)
	head, err := text.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if bytes.Equal(head, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(text)
		if err != nil {
			return nil, fmt.Errorf("it begins like gzip and is none: %w", err)
		}
		text = bufio.NewReader(z)
	}
	if head, _ := text.Peek(3); string(head) == "\ufeff" { // an error comes again
		_, _ = text.Discard(3)
	}
	return text, nil
}

// isXML tells a sitemap from a list: no URL begins with <.
func isXML(text *bufio.Reader) bool {
	head, _ := text.Peek(512) // an error comes again
	return bytes.HasPrefix(bytes.TrimLeft(head, " \t\r\n"), []byte("<"))
}

// limit returns a reader that fails where in has more than most octets.
func limit(in io.Reader, most int64) *bufio.Reader {
	return bufio.NewReader(&limited{in, most, most})
}

type limited struct {
	in         io.Reader
	left, most int64
}

func (l *limited) Read(p []byte) (int, error) {
	n, err := l.in.Read(p[:min(int64(len(p)), l.left+1)])
	if l.left -= int64(n); l.left < 0 {
		return 0, fmt.Errorf("it has more than %d MiB, unpacked: split it", l.most>>20)
	}
	return n, err
}

// take adds a URL, once.
func (s *Sources) take(text string) error {
	u, err := clean(text)
	if err != nil {
		return err
	}
	clean := u.String()
	_, key, _ := strings.Cut(clean, "://")
	if _, ok := s.seen[key]; ok {
		return nil
	}
	if len(s.urls) == maxURLs || s.text+len(clean) > maxText {
		return fmt.Errorf("with it there are more than %d URLs, or %d MiB of them: split the sources", maxURLs, maxText>>20)
	}
	if s.seen == nil {
		s.seen = map[string]struct{}{}
	}
	s.seen[key] = struct{}{}
	s.urls = append(s.urls, clean)
	s.text += len(clean)
	return nil
}
