package webhdfs

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// check refuses names that could lead out of the root, or that HDFS cannot have.
func check(name string) error {
	if name != "" && slices.ContainsFunc(strings.Split(name, "/"), bad) {
		return fmt.Errorf("no object has such a name: %w", fs.ErrNotExist)
	}
	return nil
}

// bad tells whether a segment is none that a name can have.
func bad(segment string) bool {
	return segment == "" || segment == "." || segment == ".." || strings.ContainsAny(segment, ":/") ||
		strings.ContainsFunc(segment, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// path is where name is in HDFS.
func (s *Source) path(name string) string {
	p := "/" + strings.Join(s.base, "/")
	switch {
	case name == "":
		return p
	case p == "/":
		return p + name
	}
	return p + "/" + name
}

// encode escapes a path but for slashes and what is unreserved (RFC 3986 §2.3).
func encode(path string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(path) {
		switch c := path[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_', c == '~', c == '/':
			b.WriteByte(c)
		default:
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
	return b.String()
}

// parent is the name of the folder that name is in.
func parent(name string) string {
	return name[:max(0, strings.LastIndexByte(name, '/'))]
}
