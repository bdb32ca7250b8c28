package field

// ParseAge reads the lines of an Age field (RFC 9111, 5.1). Only the first
// member counts, over however many lines. The result is absent if that member
// is not a plain non-negative integer; huge ones are MaxDelta.
func ParseAge(lines []string) Delta {
	for member := range Members(lines) {
		v, ok := parseSeconds(member)
		return Delta{v, ok}
	}
	return Delta{}
}
