package rules_test

import (
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/rules"
)

func TestCCP10_SumsSaturate(t *testing.T) {
	now := time.Date(2026, time.October, 18, 12, 0, 0, 0, time.UTC)
	huge := strings.Repeat("9", 40)
	for _, age := range []string{"2147483647", "2147483648", "99999999999", huge} {
		for _, lifetime := range []string{"max-age=" + huge, "max-age=2147483648", "s-maxage=" + huge + ", stale-while-revalidate=" + huge} {
			req := rules.ReadRequest("GET", rules.Header{})
			at := rules.Receipt{Asked: now.Add(-290 * 365 * 24 * time.Hour), Arrived: now, Wall: now}
			header := rules.Header{"Age": {age}, "Cache-Control": {lifetime}, "Date": {"Mon, 01 Jan 0001 00:00:00 GMT"}, "Etag": {`"1"`}}
			s := rules.Receive(&req, 200, header, at, &rules.Terms{})
			for _, later := range []time.Duration{0, time.Second, 1<<63 - 1} {
				d := rules.Reuse(&req, s, &rules.Terms{}, now.Add(later), false)
				if d.Age < 68*365*24*time.Hour || d.Lifetime < 68*365*24*time.Hour {
					t.Errorf("Age %s, %s, %v later: age %v, lifetime %v", age, lifetime, later, d.Age, d.Lifetime)
				}
				if d.Action == rules.Serve {
					t.Errorf("Age %s, %s, %v later: served as fresh", age, lifetime, later)
				}
			}
		}
	}
}
