package engine

import (
	"net/http"
	"strconv"
)

// Cookies is a Policy.KeyPart: the values of the cookies called names, so that
// requests for which they differ have responses of their own. All other cookies make
// no difference. A cookie that is absent differs from one that is empty.
func Cookies(names []string) func(*http.Request) string {
	return func(r *http.Request) string {
		if len(r.Header["Cookie"]) == 0 {
			return ""
		}
		var b []byte
		for i, name := range names {
			for _, c := range r.CookiesNamed(name) {
				b = strconv.AppendInt(b, int64(i), 10)
				b = strconv.AppendQuote(b, c.Value)
			}
		}
		return string(b)
	}
}
