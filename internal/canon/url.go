package canon

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
)

// ParseURL reads a URL as an operator writes it, to find what clients asked for under
// it: http://host/path?query, //host/path for both schemes, or /path for all hosts;
// then Scheme, or Scheme and Host, are empty. The octets of path and query stay as they
// are, but for blanks and what is beyond ASCII, which are escaped as a client does.
func ParseURL(text string) (Target, error) {
	var t Target
	scheme, rest, hosted := strings.Cut(text, "//")
	switch {
	case hosted && scheme == "":
	case hosted && (strings.EqualFold(scheme, "http:") || strings.EqualFold(scheme, "https:")):
		t.Scheme = strings.ToLower(scheme[:len(scheme)-1])
	case strings.HasPrefix(text, "/"):
		rest, hosted = text, false
	default:
		return t, fmt.Errorf("%q is no URL to find something by: write http://host/path, //host/path for http and https, or /path for all hosts", text)
	}
	if hosted {
		end := strings.IndexAny(rest, "/?")
		if end < 0 {
			end = len(rest)
		}
		host := rest[:end]
		if t.Scheme == "" { // a port of either scheme is none
			host = strings.TrimSuffix(strings.TrimSuffix(host, ":80"), ":443")
		}
		var ok bool
		if t.Host, ok = authority(host, t.Scheme); !ok {
			return t, fmt.Errorf("%q names no host: write http://host/path, or /path for all hosts", text)
		}
		rest = rest[end:]
	}
	switch rest = Escape(rest); {
	case len(rest) > MaxTarget:
		return t, fmt.Errorf("the URL has %d octets: more than the %d that a request may have", len(rest), MaxTarget)
	case rest != "" && !clean(rest):
		return t, fmt.Errorf("%q can be no URL that was asked for: it has a fragment, a backslash or control octets", text)
	}
	t.Path, t.Query, t.HasQuery = strings.Cut(rest, "?")
	if t.Path == "" {
		t.Path = "/"
	}
	return t, nil
}

// Escape writes blanks and octets beyond ASCII in a URL, or a part of one, as a client has to.
func Escape(s string) string {
	odd := func(c byte) bool { return c == ' ' || c >= 0x80 }
	for i := 0; i < len(s); i++ {
		if !odd(s[i]) {
			continue
		}
		b := []byte(s[:i])
		for ; i < len(s); i++ {
			if c := s[i]; odd(c) {
				b = append(b, '%', upperHex[c>>4], upperHex[c&15])
			} else {
				b = append(b, c)
			}
		}
		return string(b)
	}
	return s
}

// Of tells whether AppendKey or AppendPathKey made key for the site.
func Of(key []byte, site string) bool {
	n, size := binary.Uvarint(key)
	return size > 0 && n == uint64(len(site)) && bytes.HasPrefix(key[size:], []byte(site))
}

// ParseKey is what AppendKey or AppendPathKey made key of. It reports false for a key of
// another site, or none of ours. Of a key by path alone, Scheme and Host are empty.
func ParseKey(key []byte, site string) (Target, bool) {
	rest := string(key)
	var parts [4]string
	for i := range parts {
		n, size := binary.Uvarint([]byte(rest[:min(len(rest), binary.MaxVarintLen64)]))
		if size <= 0 || n > uint64(len(rest)-size) {
			return Target{}, false
		}
		parts[i], rest = rest[size:size+int(n)], rest[size+int(n):]
		if i == 0 && parts[0] != site {
			return Target{}, false
		}
	}
	t := Target{Scheme: parts[1], Host: parts[2], Path: parts[3]}
	if rest != "" {
		if rest[0] != '?' {
			return Target{}, false
		}
		t.Query, t.HasQuery = rest[1:], true
	}
	return t, true
}
