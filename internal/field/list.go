package field

import (
	"iter"
	"net/textproto"
)

// Members yields the members of a comma-separated list spread over lines
// (RFC 9110, 5.6.1) in the order received. Commas within quoted strings do not
// separate, blanks around members are removed and empty members are left out.
// An unterminated quoted string makes the rest of its line part of one member,
// but does not reach into the next line.
func Members(lines []string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, rest := range lines {
			for rest != "" {
				var member string
				member, rest, _ = cutQuoted(rest, ',')
				if member = trimBlanks(member); member != "" && !yield(member) {
					return
				}
			}
		}
	}
}

// HasToken reports whether token, which must be ASCII, is a member of the list,
// without regard to case. Members with parameters are compared as a whole, so
// `gzip;q=1` is not `gzip`.
func HasToken(lines []string, token string) bool {
	for member := range Members(lines) {
		if EqualFold(member, token) {
			return true
		}
	}
	return false
}

// ConnectionNames returns the names that Connection nominates (RFC 9110,
// 7.6.1) in canonical MIME form, options such as Close and Keep-Alive included.
// Members that cannot be field names are left out. nil means none.
func ConnectionNames(lines []string) []string {
	var names []string
	for member := range Members(lines) {
		appendFieldName(&names, member)
	}
	return names
}

// appendFieldName adds name in canonical MIME form; it reports false and adds
// nothing if name cannot be a field name.
func appendFieldName(names *[]string, name string) bool {
	if !IsToken(name) {
		return false
	}
	*names = append(*names, textproto.CanonicalMIMEHeaderKey(name))
	return true
}
