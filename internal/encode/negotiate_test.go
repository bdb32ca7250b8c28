package encode

import (
	"net/http"
	"reflect"
	"testing"
)

func TestNegotiate(t *testing.T) {
	const date = "Sat, 01 Jan 2000 00:00:00 GMT"
	negotiate := Negotiate(nil)
	for _, c := range []struct{ in, want http.Header }{
		{nil, http.Header{"Accept-Encoding": {"identity"}}},
		{http.Header{"Accept-Encoding": {"gzip, deflate, br;q=1.0", "zstd"}}, http.Header{"Accept-Encoding": {"br"}}},
		{http.Header{"Accept-Encoding": {"deflate"}, "X": {"y"}}, http.Header{"Accept-Encoding": {"identity"}, "X": {"y"}}},
		{http.Header{"Accept-Encoding": {"gzip"}, "Cache-Control": {"no-transform"}}, http.Header{"Accept-Encoding": {"identity"}, "Cache-Control": {"no-transform"}}},
		{
			http.Header{"Accept-Encoding": {"gzip, dcb"}, "Available-Dictionary": {":x:"}},
			http.Header{"Accept-Encoding": {"gzip, dcb"}, "Available-Dictionary": {":x:"}},
		},
		{http.Header{"Accept-Encoding": {"gzip"}, "Range": {"bytes=1-"}, "If-Range": {date}}, http.Header{"Accept-Encoding": {"gzip"}}},
		{
			http.Header{"Accept-Encoding": {"gzip"}, "Range": {"bytes=1-"}, "If-Range": {`"x"`}},
			http.Header{"Accept-Encoding": {"gzip"}, "Range": {"bytes=1-"}, "If-Range": {`"x"`}},
		},
		{
			http.Header{"Accept-Encoding": {"identity"}, "Range": {"bytes=1-"}, "If-Range": {date}},
			http.Header{"Accept-Encoding": {"identity"}, "Range": {"bytes=1-"}, "If-Range": {date}},
		},
	} {
		before := c.in.Clone()
		if got := negotiate(c.in); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q becomes %q, want %q", c.in, got, c.want)
		}
		if !reflect.DeepEqual(c.in, before) {
			t.Errorf("%q was changed to %q", before, c.in)
		}
	}
}
