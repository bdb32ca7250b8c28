package s3

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larderhq/larder/gateway/gatewaytest"
)

func TestAListingHasManyPages(t *testing.T) {
	s := serve(t)
	src := s.opened(t)
	for i := range 1500 {
		s.put(t, fmt.Sprintf("f/%05d", i), []byte("x"), gatewaytest.Past())
		s.put(t, fmt.Sprintf("f/%05d.d/x", i), []byte("x"), gatewaytest.Past())
	}
	for _, limit := range []int{1, 999, 1000, 1001, 2999, 3000, 10_000} {
		s.requests()
		got, err := src.List(t.Context(), "f", limit)
		if want := min(limit, 3000); err != nil || len(got) != want {
			t.Errorf("limit %d: %d entries, %v", limit, len(got), err)
		}
		seen := map[string]bool{}
		for _, i := range got {
			if seen[i.Name] {
				t.Errorf("limit %d: %q twice", limit, i.Name)
			}
			seen[i.Name] = true
			if !i.Folder && (i.Size != 1 || i.Version == "" || !i.Certain || !i.Modified.Equal(gatewaytest.Past())) {
				t.Errorf("%+v", i)
			}
		}
		if n := len(s.requests()); n > limit/999+1 {
			t.Errorf("limit %d: %d requests", limit, n)
		}
	}
}

func TestMarkersOfFoldersAreNoEntries(t *testing.T) {
	s := serve(t)
	src := s.opened(t, func(o *Options) { o.Prefix = "root" })
	s.put(t, "root/", nil, time.Time{})
	s.put(t, "root/full/", nil, time.Time{})
	s.put(t, "root/full/x", []byte("x"), time.Time{})
	s.put(t, "root/empty/", nil, time.Time{})
	s.put(t, "rooted", []byte("x"), time.Time{})
	s.put(t, "root/a/../b", []byte("x"), time.Time{})
	// Real S3 has empty/ in the first, too: it rolls up each key that has the
	// delimiter. gofakes3 lists one that ends in it as an object.
	for folder, want := range map[string]string{"": "a/ full/", "full": "x", "empty": "", "a": ""} {
		got, err := src.List(t.Context(), folder, 10)
		var names []string
		for _, i := range got {
			n := i.Name
			if i.Folder {
				n += "/"
			}
			names = append(names, n)
		}
		if text := strings.Join(names, " "); err != nil || text != want {
			t.Errorf("%q: %q, %v", folder, text, err)
		}
	}
	if _, err := src.List(t.Context(), "none", 10); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// listing answers listings with the elements that f makes of a request.
func listing(f func(r *http.Request) string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		_, _ = io.WriteString(w, `<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">`+f(r)+`</ListBucketResult>`)
		return true
	}
}

func TestKeysOfAListingAreDecoded(t *testing.T) {
	s := serve(t)
	src := s.opened(t)
	s.intercept(listing(func(r *http.Request) string {
		if r.URL.Query().Get("encoding-type") != "url" || r.URL.Query().Get("prefix") != "a b/" {
			t.Errorf("%s", r.URL)
		}
		return `<EncodingType>url</EncodingType><Contents><Key>a+b/x%2By+z%252f</Key><Size>7</Size><ETag>&quot;e&quot;</ETag><LastModified>2024-05-06T07:08:09.000Z</LastModified></Contents>
			<Contents><Key>a+b/%01</Key><Size>7</Size><LastModified>2024-05-06T07:08:09.000Z</LastModified></Contents>
			<CommonPrefixes><Prefix>a+b/%C3%A9/</Prefix></CommonPrefixes>`
	}))
	got, err := src.List(t.Context(), "a b", 10)
	if err != nil || len(got) != 2 || got[0].Name != "x+y z%2f" || got[0].Version != "e" || got[1].Name != "é" || !got[1].Folder {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestWrongListingsAreErrors(t *testing.T) {
	s := serve(t)
	src := s.opened(t)
	entry := `<Contents><Key>%s</Key><Size>1</Size><LastModified>2024-05-06T07:08:09Z</LastModified></Contents>`
	n, one := 0, 0
	for name, f := range map[string]func(*http.Request) string{
		"another folder": func(*http.Request) string { return fmt.Sprintf(entry, "g/x") },
		"no token":       func(*http.Request) string { return `<IsTruncated>true</IsTruncated>` + fmt.Sprintf(entry, "f/x") },
		"one token": func(*http.Request) string {
			one++
			return `<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>`
		},
		"endless": func(*http.Request) string {
			n++
			return fmt.Sprintf(`<IsTruncated>true</IsTruncated><NextContinuationToken>%d</NextContinuationToken>`, n)
		},
		"too long":    func(*http.Request) string { return strings.Repeat(" ", maxXML) },
		"too deep":    func(*http.Request) string { return strings.Repeat("<a>", 1<<20) },
		"too many":    func(*http.Request) string { return strings.Repeat("<Contents/>", 1<<19) },
		"one too big": func(*http.Request) string { return "<Contents>" + strings.Repeat("<Key/>", 1<<19) },
		"half":        func(*http.Request) string { return `<Contents>` },
		"not encoded": func(*http.Request) string { return `<EncodingType>url</EncodingType>` + fmt.Sprintf(entry, "f/%zz") },
	} {
		s.intercept(listing(f))
		if got, err := src.List(t.Context(), "f", 10); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %d entries, %v", name, len(got), err)
		}
	}
	if n > 100 || one != 2 {
		t.Errorf("%d pages of an endless listing, %d of one that goes in a circle", n, one)
	}
	s.intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		_, _ = io.WriteString(w, "<html>log in</html>")
		return true
	})
	if _, err := src.List(t.Context(), "f", 10); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}

	// More than was asked for is cut.
	s.intercept(listing(func(*http.Request) string {
		var b strings.Builder
		for i := range 100 {
			fmt.Fprintf(&b, entry, fmt.Sprintf("f/%d", i))
		}
		return b.String()
	}))
	if got, err := src.List(t.Context(), "f", 10); err != nil || len(got) != 10 {
		t.Errorf("%d, %v", len(got), err)
	}
}

func TestAFolderThatIsToldTwiceIsOneEntry(t *testing.T) {
	s := serve(t)
	src := s.opened(t)
	s.intercept(listing(func(r *http.Request) string {
		more := "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
		if r.URL.Query().Get("continuation-token") == "t" {
			more = ""
		}
		return more + "<CommonPrefixes><Prefix>f/d/</Prefix></CommonPrefixes>"
	}))
	if got, err := src.List(t.Context(), "f", 10); err != nil || len(got) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestAListingLeavesItsConnectionToTheNext(t *testing.T) {
	s := serve(t)
	var dialled atomic.Int64
	src := s.opened(t, func(o *Options) { o.Transport = counting(t, &dialled) })
	for i := range 100 { // enough that it is sent in chunks
		s.put(t, fmt.Sprintf("f/%d", i), []byte("x"), gatewaytest.Past())
	}
	for range 3 {
		if _, err := src.List(t.Context(), "f", 1000); err != nil {
			t.Error(err)
		}
	}
	if n := dialled.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}
