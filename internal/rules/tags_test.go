package rules_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/rules"
)

// numbered are n tags of width octets each, with a blank between them.
func numbered(n, width int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%0*d ", width, i)
	}
	return strings.TrimSuffix(b.String(), " ")
}

func TestTAG03_MoreTagsThanCanBeKeptAreNotStored(t *testing.T) {
	const width = 7 // and a blank: 4,096 of them take MaxTagBytes
	for _, test := range []struct {
		what   string
		header rules.Header
		stored bool
	}{
		{"as many as may be", rules.Header{"Surrogate-Key": {numbered(rules.MaxTags, width)}}, true},
		{"one more", rules.Header{"Surrogate-Key": {numbered(rules.MaxTags+1, width)}}, false},
		{"one more, in another line", rules.Header{"Surrogate-Key": {numbered(rules.MaxTags, width), "x"}}, false},
		{"one more, in another field", rules.Header{"Surrogate-Key": {numbered(rules.MaxTags, width)}, "Cache-Tag": {"x"}}, false},
		{"the same one, again and again", rules.Header{"Surrogate-Key": {strings.Repeat("x ", 2*rules.MaxTags)}}, true},
		{"as many octets as may be", rules.Header{"Surrogate-Key": {numbered(rules.MaxTagBytes/1000, 999)}, "Cache-Tag": {strings.Repeat("x", rules.MaxTagBytes-32*1000+1)}}, true},
		{"one octet more", rules.Header{"Surrogate-Key": {numbered(rules.MaxTagBytes/1000, 999)}, "Cache-Tag": {strings.Repeat("x", rules.MaxTagBytes-32*1000+2)}}, false},
		{"a hundred thousand", rules.Header{"Surrogate-Key": {numbered(100_000, width)}}, false},
		{"as many, of no field for tags", rules.Header{"X-Tags": {numbered(100_000, width)}}, true},
	} {
		test.header["Cache-Control"] = []string{"max-age=60"}
		now := time.Date(2026, time.October, 18, 12, 0, 0, 0, time.UTC)
		req := rules.ReadRequest("GET", rules.Header{})
		res := rules.Receive(&req, 200, test.header, rules.Receipt{Asked: now, Arrived: now, Wall: now}, &rules.Terms{})
		if d := rules.Storable(&req, res, &url.URL{Scheme: "http", Host: "h", Path: "/"}, &rules.Terms{}); d.Store != test.stored {
			t.Errorf("%s: stored %v (%s), not %v", test.what, d.Store, d.Why, test.stored)
		}
	}
}

func TestTAG03_TooManyTagsAreNotEvenRead(t *testing.T) {
	res := &rules.Stored{Header: rules.Header{"Surrogate-Key": {numbered(100_000, 7)}}}
	if n := testing.AllocsPerRun(10, func() { res.Tags(&rules.Terms{}) }); n > 0 {
		t.Errorf("%v allocations for tags that are too many", n)
	}
}
