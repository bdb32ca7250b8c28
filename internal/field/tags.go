package field

import (
	"strings"

	"github.com/dunglas/httpsfv"
)

// ParseTags reads the tags in the lines of a field, in which the octets of separators
// stand between them. Each comes once, in the order found. dropped counts those that are
// no printable ASCII or longer than longest octets: nobody could ask for them.
func ParseTags(lines []string, separators string, longest int) (tags []string, dropped int) {
	known := map[string]bool{}
	for _, line := range lines {
		for tag := range strings.FieldsFuncSeq(line, func(r rune) bool { return strings.ContainsRune(separators, r) }) {
			tag = strings.Trim(tag, " \t")
			switch {
			case tag == "" || known[tag]:
			case len(tag) > longest || strings.ContainsFunc(tag, func(r rune) bool { return r < ' ' || r > '~' }):
				dropped++
			default:
				known[tag] = true
				tags = append(tags, tag)
			}
		}
	}
	return tags, dropped
}

// ParseGroups reads Cache-Groups or Cache-Group-Invalidation: a list of strings, whose
// parameters mean nothing (RFC 9875 §2, RFC 9651 §4.2). What does not parse, or has other
// members, is no list at all.
func ParseGroups(lines []string) []string {
	if len(lines) == 0 {
		return nil
	}
	list, err := httpsfv.UnmarshalList(lines)
	if err != nil {
		return nil
	}
	groups := make([]string, 0, len(list))
	for _, member := range list {
		item, ok := member.(httpsfv.Item)
		name, isString := item.Value.(string)
		if !ok || !isString {
			return nil
		}
		groups = append(groups, name)
	}
	return groups
}
