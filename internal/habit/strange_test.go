package habit

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/larderhq/larder/internal/canon"
)

// A purge that was to be of tags, or soft, is not one of a page or a host because the field
// that says so has another name.
func TestFieldsThatAreNotUnderstood(t *testing.T) {
	for _, method := range []string{"PURGE", "BAN"} {
		for _, name := range []string{
			"X-Surrogate-Key", "Surrogate-Keys", "X-Tags", "X-Key", "X-Xkey", "X-Purge-Tags", "Ban-Tags", "Edge-Cache-Tag", "Cache-Groups", "X-Drupal-Cache-Tags",
			"X-Ban", "X-Ban-Expression", "Purge-Soft", "X-Soft-Purge",
		} {
			r := httptest.NewRequest(method, "http://example.org/a", nil)
			r.Header.Set(name, "1")
			target, err := canon.Parse(r, false)
			if err != nil {
				t.Fatal(err)
			}
			if o, err := Order(r, &target); err == nil {
				t.Errorf("%s with %s purges %v", method, name, o.Selectors)
			}
		}
	}
	for _, name := range []string{"Authorization", "X-Purge-Token", "Fastly-Key", "User-Agent", "X-Api-Key", "Idempotency-Key", "Accept-Encoding", "X-Request-Id"} {
		if err := strange(http.Header{name: {"1"}}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCacheTagNamesTags(t *testing.T) {
	r := httptest.NewRequest("PURGE", "http://example.org/", nil)
	r.Header.Set("Cache-Tag", "a b, c")
	target, err := canon.Parse(r, false)
	if err != nil {
		t.Fatal(err)
	}
	o, err := Order(r, &target)
	if err != nil || len(o.Selectors) != 2 || o.Selectors[0].Tag != "a b" || o.Selectors[1].Tag != "c" {
		t.Errorf("%+v, %v", o.Selectors, err)
	}
}
