package field

import "strings"

// EarlyLinks returns those members of Link (RFC 8288, 3) that are of use to a
// client before the response that they belong to (RFC 8297): links of that
// response itself, without anchor, by which something else is fetched or
// connected to. They are as they were sent, in that order. nil means none.
func EarlyLinks(lines []string) (early []string) {
	for _, rest := range lines {
		for rest != "" {
			var link string
			if link, rest = cutLink(rest); isEarlyLink(link) {
				early = append(early, link)
			}
		}
	}
	return early
}

// cutLink slices s around the first comma that is neither in a URI nor in a
// quoted string.
func cutLink(s string) (link, rest string) {
	s = strings.TrimLeft(s, " \t,")
	uri := 0
	if strings.HasPrefix(s, "<") {
		if uri = strings.IndexByte(s, '>'); uri < 0 {
			return "", "" // it has no end
		}
	}
	params, rest, _ := cutQuoted(s[uri:], ',')
	return trimBlanks(s[:uri+len(params)]), rest
}

// isEarlyLink tells whether link is one for EarlyLinks. Of several parameters
// that are called rel the first counts (RFC 8288, 3.3).
func isEarlyLink(link string) bool {
	uri, rest, ok := strings.Cut(link, ">")
	if !ok || !strings.HasPrefix(uri, "<") || strings.ContainsAny(uri[1:], "<\" \t") {
		return false
	}
	related, early := false, false
	for rest != "" {
		var param string
		param, rest, _ = cutQuoted(rest, ';')
		name, value, _ := strings.Cut(param, "=")
		switch name = trimBlanks(name); {
		case EqualFold(name, "anchor"):
			return false // of something else than the response
		case EqualFold(name, "rel") && !related:
			related = true
			types, _ := unquote(trimBlanks(value))
			early = hasEarlyType(types)
		}
	}
	return early
}

// hasEarlyType tells whether one of several relation types is of those that
// browsers heed in a 103.
func hasEarlyType(types string) bool {
	for t := range strings.FieldsSeq(types) {
		if EqualFold(t, "preload") || EqualFold(t, "modulepreload") || EqualFold(t, "preconnect") {
			return true
		}
	}
	return false
}
