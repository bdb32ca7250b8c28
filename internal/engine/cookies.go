package engine

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Cookies is a Policy.KeyPart: the values of the cookies called names, so that
// requests for which they differ have responses of their own. All other cookies make
// no difference. A cookie that is absent differs from one that is empty, and one that
// comes twice from one that comes once.
//
// Values are compared as they were sent, whatever octets they have, and all of them:
// origins read cookies in many ways, and what one of them can tell apart must be told
// apart here.
func Cookies(names []string) func(*http.Request) string {
	return func(r *http.Request) string {
		var b []byte
		for _, line := range r.Header["Cookie"] {
			for pair := range strings.SplitSeq(line, ";") {
				name, value, _ := strings.Cut(strings.Trim(pair, " \t"), "=")
				if name = strings.Trim(name, " \t"); slices.Contains(names, name) {
					b = append(append(b, name...), '=')
					b = append(strconv.AppendInt(b, int64(len(value)), 10), ' ')
					b = append(b, value...)
				}
			}
		}
		return string(b)
	}
}
