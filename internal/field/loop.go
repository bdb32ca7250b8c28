package field

import "strings"

// CountVia returns how many members of Via (RFC 9110, 7.6.3) were left by
// pseudonym, compared without regard to case. An empty pseudonym has none.
func CountVia(lines []string, pseudonym string) int {
	return countMembers(lines, pseudonym, func(member string) string {
		// received-protocol RWS received-by [RWS comment]
		i := strings.IndexAny(member, " \t")
		if i < 0 {
			return ""
		}
		by := trimBlanks(member[i:])
		if i = strings.IndexAny(by, " \t"); i >= 0 {
			by = by[:i]
		}
		return by
	})
}

// CountCDNLoop returns how many members of CDN-Loop (RFC 8586, 2) are id,
// whatever their parameters, compared without regard to case. An empty id has
// none.
func CountCDNLoop(lines []string, id string) int {
	return countMembers(lines, id, func(member string) string {
		member, _, _ = strings.Cut(member, ";")
		return trimBlanks(member)
	})
}

// countMembers counts the members whose part names node. Every comma separates,
// even in comments and quoted strings: an opening quote or parenthesis sent by
// a client must not hide the members added after it, else it could defeat the
// detection of loops.
func countMembers(lines []string, node string, part func(member string) string) int {
	count := 0
	for _, line := range lines {
		for line != "" && node != "" {
			var member string
			member, line, _ = strings.Cut(line, ",")
			if EqualFold(part(trimBlanks(member)), node) {
				count++
			}
		}
	}
	return count
}
