package webdav

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/gateway/internal/conduit"
)

// maxAnswer is how many octets of a PROPFIND are read. One entry is some 500.
const maxAnswer = 16 << 20

const properties = `<?xml version="1.0" encoding="utf-8"?><propfind xmlns="DAV:"><prop><resourcetype/><getcontentlength/><getlastmodified/></prop></propfind>`

// An entry is what the server says of one name.
type entry struct {
	name     string // the last segment
	self     bool   // it is what was asked for; otherwise it is in it
	folder   bool
	size     int64 // -1: unknown
	modified time.Time
}

// A response is DAV:response (RFC 4918 §14.24), as far as it is of interest.
type response struct {
	Href     string `xml:"DAV: href"`
	Status   string `xml:"DAV: status"`
	Propstat []struct {
		Status string `xml:"DAV: status"`
		Prop   struct {
			Type struct {
				Collection *struct{} `xml:"DAV: collection"`
			} `xml:"DAV: resourcetype"`
			Length   string `xml:"DAV: getcontentlength"`
			Modified string `xml:"DAV: getlastmodified"`
		} `xml:"DAV: prop"`
	} `xml:"DAV: propstat"`
}

// errRewritten is when no entry is of what was asked for.
var errRewritten = errors.New("the answer to PROPFIND is of other names; does a proxy rewrite paths?")

// stat asks whether name is a folder: its DAV:resourcetype. slash says that it
// is already known to be asked for with a slash after it.
func (s *Source) stat(ctx context.Context, name string, slash bool) (entry, error) {
	resp, err := s.propfind(ctx, name, slash, "0")
	if err == nil && !slash && slashed(resp) {
		done(resp)
		resp, err = s.propfind(ctx, name, true, "0")
	}
	if err != nil {
		return entry{}, err
	}
	defer done(resp)
	self := entry{}
	err = s.entries(resp, name, func(e entry) bool {
		self = e
		return !e.self
	})
	if err == nil && !self.self {
		err = errRewritten
	}
	return self, err
}

// propfind asks for what is to be known of name, and with depth 1 of what is in it.
func (s *Source) propfind(ctx context.Context, name string, slash bool, depth string) (*http.Response, error) {
	return s.do(ctx, ask{
		method: "PROPFIND", name: name, folder: slash, body: strings.NewReader(properties), size: int64(len(properties)),
		header: http.Header{
			"Depth": {depth}, "Content-Type": {"application/xml; charset=utf-8"},
			"Idempotency-Key": {}, // not sent: net/http asks again where a connection turns out to be closed
		},
	})
}

// entries reads an answer, until each returns false. Those of names neither asked
// for nor directly in it are left out. One is in memory at a time.
func (s *Source) entries(resp *http.Response, name string, each func(entry) bool) error {
	if resp.StatusCode != http.StatusMultiStatus {
		if resp.StatusCode/100 == 2 {
			return fmt.Errorf("the server answers %d to PROPFIND: it does not speak WebDAV here", resp.StatusCode)
		}
		return refused(resp)
	}
	asked := s.segments(name)
	d := conduit.NewDocument(resp.Body, maxAnswer)
	for {
		t, err := d.Token()
		if errors.Is(err, io.EOF) && d.Failed() == nil {
			return nil
		}
		if err != nil {
			return unreadable(d, err)
		}
		start, ok := t.(xml.StartElement)
		if !ok || start.Name != (xml.Name{Space: "DAV:", Local: "response"}) {
			continue
		}
		var r response
		if err := d.DecodeElement(&r, &start); err != nil {
			return unreadable(d, err)
		}
		if e, ok := r.entry(asked); ok && !each(e) {
			return nil
		}
	}
}

// unreadable tells a document that is wrong from one that did not all come.
func unreadable(d *conduit.Document, err error) error {
	switch failed := d.Failed(); {
	case errors.Is(failed, conduit.ErrLarge):
		return fmt.Errorf("the answer to PROPFIND: %w", failed)
	case failed != nil:
		return conduit.Unavailable(failed)
	}
	return fmt.Errorf("the answer to PROPFIND is not XML: %w", err)
}

// entry makes sense of a response to a PROPFIND of asked.
func (r *response) entry(asked []string) (entry, bool) {
	segments, ok := located(strings.TrimSpace(r.Href))
	if !ok || r.Status != "" && !succeeded(r.Status) {
		return entry{}, false
	}
	e := entry{size: -1}
	switch n := len(asked); {
	case slices.Equal(segments, asked):
		e.self = true
	case len(segments) == n+1 && slices.Equal(segments[:n], asked):
		e.name = segments[n]
	default:
		return entry{}, false
	}
	for _, p := range r.Propstat {
		if p.Status != "" && !succeeded(p.Status) {
			continue
		}
		e.folder = e.folder || p.Prop.Type.Collection != nil
		if n, err := strconv.ParseInt(strings.TrimSpace(p.Prop.Length), 10, 64); err == nil && n >= 0 {
			e.size = n
		}
		if t, err := http.ParseTime(strings.TrimSpace(p.Prop.Modified)); err == nil {
			e.modified = t
		}
	}
	return e, true
}

// located takes the path of a DAV:href apart: an absolute path, or a URL, whose host is
// not looked at, for behind a proxy the server has another one.
func located(href string) (segments []string, ok bool) {
	if strings.ContainsAny(href, "?#") {
		return nil, false
	}
	if !strings.HasPrefix(href, "/") {
		u, err := url.Parse(href)
		if err != nil || u.Host == "" {
			return nil, false
		}
		href = u.EscapedPath()
	}
	path := strings.TrimSuffix(strings.TrimPrefix(href, "/"), "/")
	if path == "" {
		return nil, true
	}
	return decode(path)
}

// succeeded reads a DAV:status, which is a status line of HTTP/1.1.
func succeeded(status string) bool {
	f := strings.Fields(status)
	return len(f) > 1 && strings.HasPrefix(f[1], "2")
}

// list reads what is in a folder: limit entries at most.
func (s *Source) list(ctx context.Context, folder string, limit int) ([]gateway.Info, error) {
	resp, err := s.propfind(ctx, folder, true, "1")
	if err != nil {
		return nil, err
	}
	defer done(resp)
	var self entry
	var list []gateway.Info
	err = s.entries(resp, folder, func(e entry) bool {
		switch {
		case e.self:
			self = e
		case len(list) < limit && e.folder:
			list = append(list, gateway.Info{Name: e.name, Folder: true})
		case len(list) < limit:
			list = append(list, gateway.Info{Name: e.name, Size: max(0, e.size), Modified: e.modified})
		}
		return !self.self || self.folder && len(list) < limit
	})
	switch {
	case err != nil:
		return nil, err
	case !self.self:
		return nil, errRewritten
	case !self.folder:
		return nil, errNoFolder
	}
	return list, nil
}
