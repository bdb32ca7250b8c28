package field

import "slices"

// ParseVary reads the lines of a Vary field (RFC 9110, 12.5.5). names are the
// field names in canonical MIME form, sorted, each once; nil if there are none
// or any is set. any is set if `*` is among the members, or something that is
// no field name: nobody can tell whether a later request matches that.
func ParseVary(lines []string) (names []string, any bool) {
	for member := range Members(lines) {
		if member == "*" || !appendFieldName(&names, member) {
			return nil, true
		}
	}
	slices.Sort(names)
	return slices.Compact(names), false
}

// ListLimit is how many octets a list has that is compared by meaning. What is
// longer is nothing that a browser sends, and would cost more than it is worth.
const ListLimit = 1 << 10

// VaryValue returns the value of a request field in the form in which it is
// compared with that of another request (RFC 9111, 4.1). name is in canonical
// MIME form; present tells whether the request has the field at all and is
// given back, as an absent field equals only an absent one.
//
// Several lines become one, and blanks around commas go unless they are within
// a quoted string. Accept-Language and Accept-Encoding are compared by meaning:
// members lower-case, sorted and each once, weights in shortest form and left
// out if 1, x-gzip and x-compress under their proper names. All other values
// keep their case and order, and so does a list of more than ListLimit octets:
// the time it takes grows no faster than the field.
//
// The value of the normalised value is that value again.
func VaryValue(name string, lines []string, present bool) (value string, isPresent bool) {
	if !present {
		return "", false
	}
	switch name {
	case "Accept-Language":
		return listValue(lines, nil), true
	case "Accept-Encoding":
		return listValue(lines, codingAliases), true
	}
	return joinLines(lines), true
}

// listValue compares a list by meaning, or like any other field if it is longer
// than ListLimit even without the blanks around its commas.
func listValue(lines []string, aliases map[string]string) string {
	size := len(lines) - 1
	for _, line := range lines {
		size += len(line)
	}
	if size > ListLimit {
		if joined := joinLines(lines); len(joined) > ListLimit {
			return joined
		}
	}
	return preferences(lines, aliases)
}

// joinLines joins lines with commas and removes the blanks around commas
// outside quoted strings. A quoted string left open reaches into the next line,
// as it would if the sender had joined the lines (RFC 9110, 5.3).
func joinLines(lines []string) string {
	var small [128]byte
	buf := small[:0]
	quoted := false
	comma := true // only blanks since the last comma
	for i, line := range lines {
		if i > 0 {
			buf = appendComma(buf, quoted)
			comma = !quoted
		}
		for j := 0; j < len(line); j++ {
			c := line[j]
			switch {
			case !quoted && c == ',':
				buf = appendComma(buf, quoted)
				comma = true
				continue
			case comma && isBlank(c):
				continue
			case c == '"':
				quoted = !quoted
			case quoted && c == '\\' && j+1 < len(line):
				buf = append(buf, c)
				j++
				c = line[j]
			}
			buf = append(buf, c)
			comma = false
		}
	}
	if !quoted {
		buf = trimBlanksRight(buf)
	}
	if len(lines) == 1 && string(buf) == lines[0] {
		return lines[0]
	}
	return string(buf)
}

// appendComma appends a comma; outside quoted strings, blanks before it go.
func appendComma(buf []byte, quoted bool) []byte {
	if !quoted {
		buf = trimBlanksRight(buf)
	}
	return append(buf, ',')
}

func trimBlanksRight(buf []byte) []byte {
	for len(buf) > 0 && isBlank(buf[len(buf)-1]) {
		buf = buf[:len(buf)-1]
	}
	return buf
}
