package field

import "strings"

// cutQuoted slices s around the first sep outside quoted strings. If a quoted
// string is not terminated, it reaches to the end of s and open is set.
func cutQuoted(s string, sep byte) (before, after string, open bool) {
	end := strings.IndexByte(s, sep)
	if end < 0 {
		end = len(s)
	}
	if strings.IndexByte(s[:end], '"') < 0 {
		return s[:end], s[min(end+1, len(s)):], false
	}
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case quoted && s[i] == '\\':
			i++ // the escaped octet ends nothing
		case !quoted && s[i] == sep:
			return s[:i], s[i+1:], false
		}
	}
	return s, "", quoted
}

// unquote returns the text of an argument that is a token or a quoted string,
// with escapes undone (RFC 9110, 5.6.4). ok is false if s is neither.
func unquote(s string) (text string, ok bool) {
	if IsToken(s) {
		return s, true
	}
	if s == "" || s[0] != '"' {
		return "", false
	}
	plain := true
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			plain = false
			i++
		case '"':
			if i != len(s)-1 {
				return "", false
			}
			if plain {
				return s[1:i], true
			}
			return unescape(s[1:i]), true
		}
	}
	return "", false
}

// unescape drops the backslashes of quoted pairs; s does not end in a lone one.
func unescape(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
