package field

import (
	"iter"
	"slices"
	"strings"

	"github.com/dunglas/httpsfv"
)

// ParseTags reads the tags in the lines of a field, in which the octets of separators
// stand between them. Each comes once, in the order found. dropped counts those that are
// no printable ASCII or longer than longest octets: nobody could ask for them.
func ParseTags(lines []string, separators string, longest int) (tags []string, dropped int) {
	var known map[string]bool // where there are many
	seen := func(tag string) bool {
		if known == nil && len(tags) <= few {
			return slices.Contains(tags, tag)
		}
		if known == nil {
			known = make(map[string]bool, 2*few)
			for _, t := range tags {
				known[t] = true
			}
		}
		was := known[tag]
		known[tag] = true
		return was
	}
	for tag := range Tokens(lines, separators) {
		switch {
		case len(tag) > longest || !printable(tag):
			dropped++
		case !seen(tag):
			tags = append(tags, tag)
		}
	}
	return tags, dropped
}

// Tokens yields what stands between the octets of separators in lines, without the blanks
// around it, unless that is nothing.
func Tokens(lines []string, separators string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, line := range lines {
			for more := true; more; {
				token := line
				if i := strings.IndexAny(line, separators); i >= 0 {
					token, line = line[:i], line[i+1:]
				} else {
					more = false
				}
				if token = strings.Trim(token, " \t"); token != "" && !yield(token) {
					return
				}
			}
		}
	}
}

// few is how many tags are compared one by one.
const few = 8

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
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
