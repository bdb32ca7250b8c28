package field

import "time"

// MaxDelta is the largest span a Delta holds, about 68 years (RFC 9111, 1.2.2).
// Anything longer is cut to it, so that several added up still fit into a
// time.Duration.
const MaxDelta = (1 << 31) * time.Second

// Delta is a span in whole seconds taken from a field, as in `max-age=60`. The
// zero Delta means that nothing was sent, which differs from a span of zero.
type Delta struct {
	// Value is at least 0 and at most MaxDelta.
	Value time.Duration
	// Present is false if the field or directive is absent.
	Present bool
}

// Covers reports whether something overdue for that long, 0 or more, is still
// within the span. An absent span covers nothing and neither does one of zero.
func (d Delta) Covers(overdue time.Duration) bool {
	return d.Present && overdue < d.Value
}

// limit takes in one more occurrence of a span that permits something. Of
// differing values the first stands if it is the smallest, otherwise nothing is
// permitted: a sender that contradicts itself gets no benefit from the doubt.
func (d *Delta) limit(v time.Duration) {
	switch {
	case !d.Present:
		*d = Delta{v, true}
	case v < d.Value:
		d.Value = 0
	}
}

// demand takes in one more occurrence of a span that demands something: the
// longest one stands.
func (d *Delta) demand(v time.Duration) {
	*d = Delta{max(d.Value, v), true}
}

// parseSeconds reads delta-seconds: digits only, at least one. Large numbers
// yield MaxDelta.
func parseSeconds(s string) (time.Duration, bool) {
	const limit = int64(MaxDelta / time.Second)
	var n int64
	for i := range len(s) {
		if !isDigit(s[i]) {
			return 0, false
		}
		n = min(n*10+int64(s[i]-'0'), limit)
	}
	return time.Duration(n) * time.Second, s != ""
}
