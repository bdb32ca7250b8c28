package rules_test

import (
	"testing"
	"time"

	"github.com/larderhq/larder/internal/rules"
)

var benchRequest = rules.Header{
	"Accept": {"text/html"}, "Accept-Encoding": {"gzip, br"}, "Accept-Language": {"en"}, "User-Agent": {"Mozilla/5.0"}, "Cookie": {"a=b"},
}

func benchResponse() rules.Header {
	return rules.Header{
		"Cache-Control": {"public, max-age=3600, stale-while-revalidate=60"}, "Etag": {`"v1"`}, "Date": {"Sat, 21 Nov 2026 22:00:00 GMT"},
		"Last-Modified": {"Tue, 15 Nov 2022 12:45:26 GMT"}, "Content-Type": {"text/html"}, "Vary": {"Accept-Encoding"},
	}
}

// BenchmarkReceive is what a response costs the rules when it arrives: all its
// fields read, and whether it may be stored.
func BenchmarkReceive(b *testing.B) {
	now := time.Date(2026, 11, 21, 22, 0, 0, 0, time.UTC)
	var terms rules.Terms
	req := rules.ReadRequest("GET", benchRequest)
	header := benchResponse()
	b.ReportAllocs()
	for b.Loop() {
		s := rules.Receive(&req, 200, header, rules.Receipt{Asked: now, Arrived: now, Wall: now}, &terms)
		if !rules.Storable(&req, s, nil, &terms).Store {
			b.Fatal("not storable")
		}
	}
}

// BenchmarkReuse is what a hit costs the rules: the request read, the variant
// selected, the decision made.
func BenchmarkReuse(b *testing.B) {
	now := time.Date(2026, 11, 21, 22, 0, 0, 0, time.UTC)
	var terms rules.Terms
	req := rules.ReadRequest("GET", benchRequest)
	stored := []*rules.Stored{rules.Receive(&req, 200, benchResponse(), rules.Receipt{Asked: now, Arrived: now, Wall: now}, &terms)}
	b.ReportAllocs()
	for b.Loop() {
		req := rules.ReadRequest("GET", benchRequest)
		c := rules.Select(&req, stored, &terms)
		if d := rules.Reuse(&req, stored[c.Whole], &terms, now.Add(time.Minute), false); d.Action != rules.Serve {
			b.Fatal(d.Why)
		}
	}
}
