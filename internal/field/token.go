package field

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

// TokenOctets is what isTokenByte says of each octet, for loops over many.
var TokenOctets = func() (set [256]bool) {
	for c := range set {
		set[c] = isTokenByte(byte(c))
	}
	return set
}()

// IsToken reports whether s is a token (RFC 9110, 5.6.2), and thereby also whether
// it can be a field name (5.1).
func IsToken[T string | []byte](s T) bool {
	for i := range len(s) {
		if !TokenOctets[s[i]] {
			return false
		}
	}
	return len(s) > 0
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// EqualFold compares without regard to ASCII case. Letters beyond ASCII have none.
func EqualFold[T string | []byte](s T, want string) bool {
	if len(s) != len(want) {
		return false
	}
	for i := range len(s) {
		if lower(s[i]) != lower(want[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
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
