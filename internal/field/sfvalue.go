package field

// AppendSFString appends s to dst as a structured-field string (RFC 9651,
// 3.3.3). Octets such a string cannot hold are percent-encoded, which makes the
// result valid for every s; a percent sign in s stays as it is.
func AppendSFString(dst []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	dst = append(dst, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ' || c > '~':
			dst = append(dst, '%', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

// AppendSFIdentifier appends s to dst as a structured-field token (RFC 9651,
// 3.3.4) if it is one, otherwise like AppendSFString. Members of Cache-Status
// and Proxy-Status are named that way (RFC 9211, 2; RFC 9209, 2).
func AppendSFIdentifier(dst []byte, s string) []byte {
	if !isSFToken(s) {
		return AppendSFString(dst, s)
	}
	return append(dst, s...)
}

func isSFToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if i == 0 && !letter && c != '*' {
			return false
		}
		if !isTokenByte(c) && c != ':' && c != '/' {
			return false
		}
	}
	return s != ""
}
