package s3

import (
	"fmt"
	"io/fs"
	"strings"
	"unicode/utf8"
)

// maxKey is how many octets a key has at most.
const maxKey = 1024

// valid tells whether a name can be part of a key. Segments "." and ".." could: but
// proxies and some servers resolve them. Keys are UTF-8.
func valid(name string) bool {
	if !utf8.ValidString(name) || strings.HasPrefix(name, "/") || strings.HasSuffix(name, "/") {
		return false
	}
	if strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return false
	}
	for s := range strings.SplitSeq(name, "/") {
		if s == "." || s == ".." {
			return false
		}
	}
	return true
}

// key is the key of an object.
func (s *Source) key(name string) (string, error) {
	if name == "" || !valid(name) || len(s.prefix)+len(name) > maxKey {
		return "", fmt.Errorf("no key can be made of the name: %w", fs.ErrNotExist)
	}
	return s.prefix + name, nil
}

// under is what the keys in a folder begin with.
func (s *Source) under(folder string) (string, error) {
	if folder == "" {
		return s.prefix, nil
	}
	key, err := s.key(folder)
	return key + "/", err
}
