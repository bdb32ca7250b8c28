package s3

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/gateway/internal/conduit"
)

const (
	maxPage    = 1000    // entries that a server gives at once
	maxEntries = 10_000  // of an answer; some servers have another idea of maxPage
	maxPages   = 1 << 20 // more than a folder with any use has
	maxXML     = 8 << 20 // octets of an answer: a key has 3 KiB at most, encoded
)

// A page is one answer to ListObjectsV2.
type page struct {
	IsTruncated           bool
	NextContinuationToken string
	EncodingType          string
	Contents              []content
	CommonPrefixes        []commonPrefix
}

type content struct {
	Key, ETag    string
	Size         int64
	LastModified time.Time
}

type commonPrefix struct{ Prefix string }

// List asks for a folder, 1000 entries at a time. An object of no octets whose key
// is that of the folder, with its slash, makes a folder exist; it is no entry. Nor
// are keys that Open refuses.
func (s *Source) List(ctx context.Context, folder string, limit int) ([]gateway.Info, error) {
	infos, err := s.list(ctx, folder, limit)
	if err != nil {
		return nil, s.wrap(folder, err)
	}
	return infos, nil
}

func (s *Source) list(ctx context.Context, folder string, limit int) ([]gateway.Info, error) {
	under, err := s.under(folder)
	if err != nil {
		return nil, err
	}
	l := &lister{s: s, under: under, limit: limit, folders: map[string]bool{}}
	// The folder's own key takes a place. A page may have nothing that counts, but
	// not each of them.
	token := ""
	for range min(limit, maxPages) + 16 {
		p, err := s.page(ctx, under, token, min(limit, maxPage-1)+1)
		if err != nil {
			return nil, err
		}
		if err := l.add(p); err != nil {
			return nil, err
		}
		if len(l.infos) >= limit || !p.IsTruncated {
			if !l.found {
				return nil, fs.ErrNotExist
			}
			return l.infos, nil
		}
		if p.NextContinuationToken == "" || p.NextContinuationToken == token {
			return nil, errors.New("the server says that there is more, and not where")
		}
		token = p.NextContinuationToken
	}
	return nil, errors.New("the server says again and again that there is more")
}

// page asks for one.
func (s *Source) page(ctx context.Context, under, token string, n int) (*page, error) {
	query := url.Values{"list-type": {"2"}, "delimiter": {"/"}, "prefix": {under}, "max-keys": {strconv.Itoa(n)}, "encoding-type": {"url"}}
	if token != "" {
		query.Set("continuation-token", token)
	}
	resp, err := s.send(ctx, request{method: http.MethodGet, query: query})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() // read as far as it is wanted
	if resp.StatusCode != http.StatusOK {
		return nil, s.refusal(resp)
	}
	s.exists.Store(true)
	d := conduit.NewDocument(resp.Body, maxXML)
	p, err := read(d)
	switch failed := d.Failed(); {
	case errors.Is(failed, conduit.ErrLarge):
		return nil, errTooLong
	case failed != nil:
		return nil, unreachable(ctx, failed)
	case err != nil:
		return nil, fmt.Errorf("the answer is no listing: %w", err)
	}
	return p, nil
}

// read reads a page, one of its entries at a time, to the end of the answer, so that its
// connection can be used again.
func read(d *conduit.Document) (*page, error) {
	p := &page{}
	begun, ended := false, false
	for {
		t, err := d.Token()
		if ended && errors.Is(err, io.EOF) {
			return p, nil
		}
		if err != nil {
			return nil, err
		}
		switch t := t.(type) {
		case xml.EndElement:
			ended = true // of the root: others end where they are decoded
		case xml.StartElement:
			if begun {
				err = p.take(d, t)
			} else if t.Name.Local != "ListBucketResult" {
				err = fmt.Errorf("it is %.40q", t.Name.Local)
			}
			if begun = true; err != nil {
				return nil, err
			}
		}
	}
}

// take reads a child of the root.
func (p *page) take(d *conduit.Document, start xml.StartElement) error {
	if len(p.Contents)+len(p.CommonPrefixes) > maxEntries {
		return fmt.Errorf("it has more than %d entries", maxEntries)
	}
	switch start.Name.Local {
	case "IsTruncated":
		return d.DecodeElement(&p.IsTruncated, &start)
	case "NextContinuationToken":
		return d.DecodeElement(&p.NextContinuationToken, &start)
	case "EncodingType":
		return d.DecodeElement(&p.EncodingType, &start)
	case "Contents":
		p.Contents = append(p.Contents, content{})
		return d.DecodeElement(&p.Contents[len(p.Contents)-1], &start)
	case "CommonPrefixes":
		p.CommonPrefixes = append(p.CommonPrefixes, commonPrefix{})
		return d.DecodeElement(&p.CommonPrefixes[len(p.CommonPrefixes)-1], &start)
	}
	return d.Skip()
}

// A lister gathers entries.
type lister struct {
	s       *Source
	under   string
	limit   int
	infos   []gateway.Info
	folders map[string]bool // those in infos: some servers repeat one on the next page
	found   bool            // anything at all
}

func (l *lister) add(p *page) error {
	for _, c := range p.Contents {
		name, err := l.name(p, c.Key)
		if err != nil {
			return err
		}
		if name == "" || strings.Contains(name, "/") || !valid(name) {
			continue
		}
		info := gateway.Info{Name: name, Size: c.Size, Modified: c.LastModified}
		_, info.Version, info.Certain = l.s.version(c.ETag, c.Size, c.LastModified)
		l.entry(info)
	}
	for _, c := range p.CommonPrefixes {
		name, err := l.name(p, c.Prefix)
		if err != nil {
			return err
		}
		name, ok := strings.CutSuffix(name, "/")
		if !ok || name == "" || strings.Contains(name, "/") || !valid(name) || l.folders[name] {
			continue
		}
		l.folders[name] = true
		l.entry(gateway.Info{Name: name, Folder: true})
	}
	return nil
}

func (l *lister) entry(i gateway.Info) {
	if len(l.infos) < l.limit {
		l.infos = append(l.infos, i)
	}
}

// name is what a key has more than the folder; empty for the folder's own key.
func (l *lister) name(p *page, key string) (string, error) {
	if p.EncodingType == "url" {
		var err error
		if key, err = url.QueryUnescape(key); err != nil {
			return "", errors.New("the listing has a key that cannot be decoded")
		}
	}
	name, ok := strings.CutPrefix(key, l.under)
	if !ok {
		return "", errors.New("the listing has a key from outside the folder")
	}
	l.found = true
	return name, nil
}
