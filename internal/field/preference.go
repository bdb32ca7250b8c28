package field

import (
	"slices"
	"strings"
)

// fullWeight is the weight of a member without `q`, in thousandths.
const fullWeight = 1000

// codingAliases are content codings with a second name (RFC 9110, 8.4.1).
var codingAliases = map[string]string{"x-gzip": "gzip", "x-compress": "compress"}

// LanguageSelects reports whether the client would pick a response with that
// Content-Language: it names exactly one language, and that is the one member
// of Accept-Language with the highest weight (RFC 9110, 12.5.4). Ties, a best
// member `*`, weight 0 and malformed members of Accept-Language give false.
func LanguageSelects(accept, contentLanguage []string) bool {
	language := ""
	for member := range Members(contentLanguage) {
		if language != "" {
			return false
		}
		language = member
	}
	if !IsToken(language) || language == "*" {
		return false
	}

	best, weight, tie := "", 0, false
	for _, line := range accept {
		for line != "" {
			var member string
			member, line, _ = strings.Cut(line, ",")
			if member = trimBlanks(member); member == "" {
				continue
			}
			name, q, ok := parseWeighted(member)
			switch {
			case !ok:
				return false
			case q > weight:
				best, weight, tie = name, q, false
			case q == weight:
				tie = true
			}
		}
	}
	return weight > 0 && !tie && EqualFold(best, language)
}

// preferences puts a list of weighted tokens into the form VaryValue describes.
// Members that are not of that kind are kept as they are. The lists in question
// know no quoted strings, so that every comma separates.
func preferences(lines []string, aliases map[string]string) string {
	var few [16]string
	members := few[:0]
	for _, line := range lines {
		for line != "" {
			var member string
			member, line, _ = strings.Cut(line, ",")
			if member = trimBlanks(member); member != "" {
				members = append(members, preference(member, aliases))
			}
		}
	}
	slices.Sort(members)
	return strings.Join(slices.Compact(members), ",")
}

// preference is the normal form of one member.
func preference(member string, aliases map[string]string) string {
	name, q, ok := parseWeighted(member)
	if !ok {
		return member
	}
	name = strings.ToLower(name)
	if alias, ok := aliases[name]; ok {
		name = alias
	}
	if q == fullWeight {
		return name
	}
	var small [64]byte
	buf := append(small[:0], name...)
	buf = append(buf, ";q="...)
	buf = appendWeight(buf, q)
	if string(buf) == member {
		return member // most members are in normal form already
	}
	return string(buf)
}

// parseWeighted reads a token with an optional weight (RFC 9110, 12.4.2), in
// thousandths.
func parseWeighted(member string) (name string, q int, ok bool) {
	name, param, found := strings.Cut(member, ";")
	if found {
		name, param = trimBlanks(name), trimBlanks(param)
		if len(param) < 2 || !EqualFold(param[:2], "q=") {
			return "", 0, false
		}
		q, ok = parseWeight(param[2:])
		return name, q, ok && IsToken(name)
	}
	return name, fullWeight, IsToken(name)
}

// parseWeight reads a qvalue: 0 to 1 with up to three decimals.
func parseWeight(s string) (q int, ok bool) {
	if s == "" || len(s) > len("0.123") || len(s) > 1 && s[1] != '.' {
		return 0, false
	}
	unit := fullWeight
	for i := range len(s) {
		if i == 1 {
			continue
		}
		if !isDigit(s[i]) {
			return 0, false
		}
		q += int(s[i]-'0') * unit
		unit /= 10
	}
	return q, q <= fullWeight
}

// appendWeight appends a qvalue below 1 without needless zeros.
func appendWeight(dst []byte, q int) []byte {
	dst = append(dst, '0')
	if q == 0 {
		return dst
	}
	dst = append(dst, '.')
	for unit := fullWeight / 10; q > 0; unit /= 10 {
		dst = append(dst, byte('0'+q/unit))
		q %= unit
	}
	return dst
}
