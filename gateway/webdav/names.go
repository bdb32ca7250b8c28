package webdav

import (
	"fmt"
	"io/fs"
	"net/url"
	"slices"
	"strings"
)

// check refuses names that could lead out of the root, or that HTTP cannot carry. A
// backslash is a slash to some servers.
func check(name string) error {
	if name == "" {
		return nil
	}
	if !slices.ContainsFunc(strings.Split(name, "/"), bad) {
		return nil
	}
	return fmt.Errorf("no object has such a name: %w", fs.ErrNotExist)
}

// bad tells whether a segment, decoded, is none that a name can have.
func bad(segment string) bool {
	if segment == "" || strings.ContainsFunc(segment, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return true
	}
	for s := range strings.SplitSeq(segment, `\`) {
		if s == "." || s == ".." {
			return true
		}
	}
	return false
}

// encode makes a path of segments, with everything in them escaped that is not
// unreserved (RFC 3986 §2.3): so no server can read it in two ways.
func encode(segments ...string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for _, s := range segments {
		b.WriteByte('/')
		for i := range len(s) {
			switch c := s[i]; {
			case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_', c == '~':
				b.WriteByte(c)
			default:
				b.Write([]byte{'%', hex[c>>4], hex[c&15]})
			}
		}
	}
	return b.String()
}

// decode takes an escaped path without slashes at its ends apart. It is not ok if a
// segment is none that a name can have, such as one with an escaped slash in it.
func decode(path string) (segments []string, ok bool) {
	for raw := range strings.SplitSeq(path, "/") {
		s, err := url.PathUnescape(raw)
		if err != nil || bad(s) || strings.Contains(s, "/") {
			return nil, false
		}
		segments = append(segments, s)
	}
	return segments, true
}

// segments of a name, from the root of the server on.
func (s *Source) segments(name string) []string {
	if name == "" {
		return s.base
	}
	return append(slices.Clone(s.base), strings.Split(name, "/")...)
}

// url is where name is. A folder has a slash after it: without one many servers
// redirect.
func (s *Source) url(name string, folder bool) *url.URL {
	segments := s.segments(name)
	u := &url.URL{Scheme: s.scheme, Host: s.host, Path: "/" + strings.Join(segments, "/"), RawPath: encode(segments...)}
	if folder && len(segments) > 0 {
		u.Path += "/"
		u.RawPath += "/"
	}
	return u
}

// parent is the name of the folder that name is in.
func parent(name string) string {
	return name[:max(0, strings.LastIndexByte(name, '/'))]
}
