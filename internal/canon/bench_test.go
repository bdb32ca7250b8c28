package canon_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/larderhq/larder/internal/canon"
)

// BenchmarkKey is a request target parsed, checked and made a key, as each
// request has it done.
func BenchmarkKey(b *testing.B) {
	r := &http.Request{
		Method: "GET", Host: "shop.example:8080", RequestURI: "/catalogue/shoes/42?size=9&colour=green",
		URL: &url.URL{Path: "/catalogue/shoes/42", RawQuery: "size=9&colour=green"},
	}
	var key []byte
	b.ReportAllocs()
	for b.Loop() {
		t, err := canon.Parse(r, false)
		if err != nil {
			b.Fatal(err)
		}
		key = t.AppendKey(key[:0], "site")
	}
}
