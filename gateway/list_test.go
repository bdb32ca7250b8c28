package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/gateway"
)

func TestListingsForPrograms(t *testing.T) {
	f := holding(local, map[string]string{
		"a.txt": "hello", "dir/x": "", "<b>&\"'": "", "l\xe9gume": "", "sp ace": "", "javascript:alert(1)": "", ".hidden": "", "back\\slash": "", "new\nline": "", "http://x": "", "q?d#e%2f": "",
	}).with("timeless", "x", gateway.Info{Version: "v"})
	h := gateway.New(f, gateway.Options{Listing: true})
	for accept, json := range map[string]bool{
		"": false, "text/html": false, "application/json": true, "*/*": false, "text/html, application/json": false, "application/json, text/html;q=0.9": true,
		"application/json;q=0.1, */*;q=0": true, "application/json;q=0.5, */*": false, "application/json;q=0": false,
		"application/json;q=0.3, text/*;q=0.5": false, "application/*": true, "application/*;q=0.2, text/html;q=0.1": true, "APPLICATION/JSON": true,
	} {
		kind := "text/html; charset=utf-8"
		if json {
			kind = "application/json"
		}
		a := ask(h, "GET", "/", nil, "Accept", accept)
		a.is(t, 200, "Content-Type", kind, "Vary", "Accept", "X-Content-Type-Options", "nosniff")
	}
	a := ask(h, "GET", "/", nil, "Accept", "application/json")
	var all struct {
		Path      string
		Truncated bool
		Entries   []struct {
			Name, Href string
			Folder     bool
			Size       *int64
			Modified   *time.Time
		}
	}
	if err := json.Unmarshal(a.Body.Bytes(), &all); err != nil || all.Truncated || all.Path != "/" {
		t.Fatalf("%v: %s", err, a.Body)
	}
	var names []string
	for _, e := range all.Entries {
		names = append(names, e.Name)
		// Each can be had where it says.
		at, err := httptest.NewRequest("GET", "http://example.com/", nil).URL.Parse(e.Href)
		if err != nil || at.Host != "example.com" || at.Scheme != "http" {
			t.Errorf("%q leads to %v (%v)", e.Href, at, err)
			continue
		}
		if got := run(h, httptest.NewRequest("GET", at.String(), nil)); got.Code != 200 {
			t.Errorf("%q at %s: %d", e.Name, at, got.Code)
		}
		if e.Folder != (e.Size == nil) || e.Modified != nil && !e.Modified.Equal(past.Truncate(time.Second)) {
			t.Errorf("%+v", e)
		}
	}
	want := []string{"dir", "http:", "<b>&\"'", "a.txt", "javascript:alert(1)", "l\uFFFDgume", "q?d#e%2f", "sp ace", "timeless"}
	if !slices.Equal(names, want) {
		t.Errorf("listed are\n%q, want\n%q", names, want)
	}
	page := ask(h, "GET", "/", nil).Body.String()
	for _, bad := range []string{"<b>", `href="javascript`, `href="http`, "\xe9", "back", ".hidden"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page has %q:\n%s", bad, page)
		}
	}
	ask(gateway.New(f, gateway.Options{}), "GET", "/", nil).is(t, 404)
	// The tag is that of the form, and what must hold is judged.
	tag := a.Header().Get("ETag")
	ask(h, "GET", "/", nil, "Accept", "application/json", "If-None-Match", tag).is(t, 304, "Vary", "Accept", "ETag", tag)
	ask(h, "GET", "/", nil, "If-None-Match", tag).is(t, 200)
	ask(h, "GET", "/", nil, "If-Match", tag).is(t, 412)
	ask(h, "GET", "/", nil, "Accept", "application/json", "If-Match", tag).is(t, 200)
	ask(h, "GET", "/", nil, "Range", "bytes=0-3").is(t, 200, "Content-Range", "")
	ask(h, "HEAD", "/", nil).is(t, 200, "Content-Length", fmt.Sprint(len(page)))
}

func TestListingsOfHostileStorage(t *testing.T) {
	f := holding(bucket, nil)
	f.onList = func(context.Context, string) ([]gateway.Info, error) {
		return []gateway.Info{{Name: ""}, {Name: ".", Folder: true}, {Name: "..", Folder: true}, {Name: "a/b"}, {Name: "\x00"}, {Name: "\r\nSet-Cookie: a=b"}, {Name: "<script>alert(1)"}, {Name: "fine", Size: 1 << 40}, {Name: "back\\slash"}}, nil
	}
	h := gateway.New(f, gateway.Options{Listing: true, Dotfiles: true})
	page := ask(h, "GET", "/dir/", nil).Body.String()
	if n := strings.Count(page, "<tr>"); n != 5 { // the heads, the way up, and three entries
		t.Errorf("%d lines:\n%s", n, page)
	}
	for _, bad := range []string{"<script", "Set-Cookie", `href="./../"`, `href="././"`} {
		if strings.Contains(page, bad) {
			t.Errorf("the page has %q:\n%s", bad, page)
		}
	}
	if !strings.Contains(page, "1.0 TiB") {
		t.Errorf("no size:\n%s", page)
	}
}

func TestListingsAreBounded(t *testing.T) {
	f := holding(local, nil)
	h := gateway.New(f, gateway.Options{Listing: true})
	for i, end := range []int{10_000, 10_500} { // what is cut says so
		for n := range end {
			f.with(fmt.Sprintf("many/%05d", n), "", gateway.Info{})
		}
		var all struct {
			Truncated bool
			Entries   []any
		}
		if err := json.Unmarshal(ask(h, "GET", "/many/", nil, "Accept", "application/json").Body.Bytes(), &all); err != nil || len(all.Entries) != 10_000 || all.Truncated != (i == 1) {
			t.Errorf("%d entries, truncated %t (%v)", len(all.Entries), all.Truncated, err)
		}
		if page := ask(h, "GET", "/many/", nil).Body.String(); strings.Contains(page, "more than these 10000") != (i == 1) {
			t.Error("the page says otherwise")
		}
	}
	if calls := f.asked(); calls[len(calls)-1] != "list many 10001" {
		t.Errorf("%v", calls)
	}
}
