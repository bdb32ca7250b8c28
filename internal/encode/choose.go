package encode

import (
	"strings"

	"github.com/larderhq/larder/internal/field"
)

// fullWeight is the weight of a member without `q`, in thousandths; unnamed is
// that of what no member names.
const (
	fullWeight = 1000
	unnamed    = -1
)

// Choose returns the content coding for a client that sent these lines of
// Accept-Encoding (RFC 9110, 12.5.3): of those offered, in lower case and in the
// order of our preference, the one the client gives the highest weight, or the
// first of these. nil offers what nil Options.Codings do. "" is none: the client
// accepts none that is offered, or likes identity better.
//
// It never returns what the client excludes or does not name, by itself or by
// `*`. No Accept-Encoding at all, which allows everything, gets none: who sends
// none can rarely decode. A member whose weight is malformed, or that has other
// parameters, counts as excluded, and of members that name one coding, x-gzip
// and gzip being the same, the lowest weight counts. Identity is worth what the
// client says, `*` included, and less than any coding where it says nothing;
// "" also goes to who excludes both it and all that is offered, as 415 and 406
// would help nobody.
//
// The time it takes is linear in the lines.
func Choose(lines, offered []string) string {
	if offered == nil {
		offered = preferred
	}
	var few [8]int
	weights := few[:0]
	for range offered {
		weights = append(weights, unnamed)
	}
	identity, others := unnamed, unnamed
	for _, rest := range lines {
		for rest != "" {
			var member string
			// No quoted strings here: every comma separates.
			member, rest, _ = strings.Cut(rest, ",")
			name, q := weigh(member)
			switch {
			case name == "*":
				lower(&others, q)
			case field.EqualFold(name, asIs):
				lower(&identity, q)
			default:
				for i := range offered {
					if names(name, offered[i]) {
						lower(&weights[i], q)
					}
				}
			}
		}
	}
	return best(offered, weights, identity, others)
}

// best picks the coding of the highest weight, which others is for those that
// the client did not name.
func best(offered []string, weights []int, identity, others int) string {
	if identity == unnamed {
		identity = others
	}
	chosen, most := "", max(identity, 1)
	for i, q := range weights {
		if q == unnamed {
			q = others
		}
		if q > most || chosen == "" && q == most {
			chosen, most = offered[i], q
		}
	}
	return chosen
}

func names(name, coding string) bool {
	return field.EqualFold(name, coding) || coding == "gzip" && field.EqualFold(name, "x-gzip")
}

func lower(weight *int, q int) {
	if *weight == unnamed || q < *weight {
		*weight = q
	}
}

// weigh reads one member, with its weight in thousandths (RFC 9110, 12.4.2).
func weigh(member string) (name string, q int) {
	name, param, found := strings.Cut(member, ";")
	name = strings.Trim(name, " \t")
	if !found {
		return name, fullWeight
	}
	param = strings.Trim(param, " \t")
	if len(param) < 2 || !field.EqualFold(param[:2], "q=") {
		return name, 0
	}
	return name, weight(param[2:])
}

// weight reads a qvalue, 0 to 1 with up to three decimals; others are 0.
func weight(s string) int {
	if s == "" || len(s) > len("0.123") || len(s) > 1 && s[1] != '.' {
		return 0
	}
	q, unit := 0, fullWeight
	for i := range len(s) {
		if i == 1 {
			continue
		}
		if s[i] < '0' || s[i] > '9' {
			return 0
		}
		q += int(s[i]-'0') * unit
		unit /= 10
	}
	if q > fullWeight {
		return 0
	}
	return q
}
