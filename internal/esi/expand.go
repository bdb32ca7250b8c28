package esi

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// maxExpanded is how long an attribute may become by the values in it, in
// octets: what clients send may stand in it any number of times.
const maxExpanded = 16 << 10

var errExpanded = errors.New("an attribute becomes too long by its variables")

// expand replaces each reference in s by what replace makes of it and of the
// text between it and the one before.
func expand(s string, replace func(before string, r reference) (string, error)) (string, error) {
	var b strings.Builder
	last := 0 // where the text begins that is not in b
	for i := 0; i < len(s); {
		n := strings.Index(s[i:], "$(")
		if n < 0 {
			break
		}
		i += n
		r, n, ok := parseReference(s[i:])
		if !ok {
			i += len("$(")
			continue
		}
		text, err := replace(s[last:i], r)
		if err != nil {
			return "", err
		}
		b.WriteString(s[last:i])
		b.WriteString(text)
		i += n
		last = i
		if b.Len() > maxExpanded {
			return "", errExpanded
		}
	}
	b.WriteString(s[last:])
	return b.String(), nil
}

// uri replaces the references in the text of a URI. Values are percent-encoded
// but for letters, digits and - . _ ~ (RFC 3986, 2.3), HTTP_HOST also but for
// the : [ ] of a host. A value of dots alone, which would climb the path, is an
// error there.
func (v *variables) uri(s string) (string, error) {
	query := false // the path is over
	return expand(s, func(before string, r reference) (string, error) {
		query = query || strings.Contains(before, "?")
		text, ours := v.value(r)
		switch {
		case ours:
			query = query || strings.Contains(text, "?")
			return text, nil
		case !query && strings.Trim(text, ".") == "":
			return "", fmt.Errorf("%w: $(%s) is %q in its path", ErrRefused, r.name, text)
		case r.name == "HTTP_HOST":
			return escape(text, ":[]"), nil
		}
		return escape(text, ""), nil
	})
}

// literal replaces the references in a literal of an expression.
func (v *variables) literal(s string) (string, error) {
	return expand(s, func(_ string, r reference) (string, error) {
		text, _ := v.value(r)
		return text, nil
	})
}

// escape percent-encodes what is neither unreserved nor in keep.
func escape(s, keep string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0 || strings.IndexByte(keep, c) >= 0 {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
	return b.String()
}

// inURI are the octets that the author of a page may write in a URI as they
// are, beside the unreserved ones (RFC 3986, 2). All others are encoded.
const inURI = "%:/?#[]@!$&'()*+,;="

// parseURI reads a URI reference that an author wrote, after its references were
// replaced. Blanks around it do not count.
func parseURI(s string) (*url.URL, error) {
	return url.Parse(escape(strings.Trim(s, " \t\r\n\f"), inURI))
}
