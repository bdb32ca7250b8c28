package field

import "strings"

// isTokenByte reports whether c may occur in a token (RFC 9110, 5.6.2).
func isTokenByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	switch c {
	case '!', '#', '$', '%', '&', '\'', '*', '+', '-', '.', '^', '_', '`', '|', '~':
		return true
	}
	return false
}

// isToken reports whether s is a token, and thereby also whether it can be a
// field name.
func isToken(s string) bool {
	for i := range len(s) {
		if !isTokenByte(s[i]) {
			return false
		}
	}
	return s != ""
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// equalFold compares without regard to ASCII case; want must be ASCII. The
// length check keeps out the few letters beyond ASCII that Unicode folds to
// ASCII ones, as those take more octets.
func equalFold(s, want string) bool {
	return len(s) == len(want) && strings.EqualFold(s, want)
}

// trimBlanks removes blanks and tabs, the only whitespace HTTP knows within a
// line, at both ends.
func trimBlanks(s string) string {
	for s != "" && isBlank(s[0]) {
		s = s[1:]
	}
	for s != "" && isBlank(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }
