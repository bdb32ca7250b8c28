package webdav_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/gateway/webdav"
)

// listed answers each PROPFIND by the document of responses.
func listed(responses string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusMultiStatus)
		_, _ = io.WriteString(w, `<?xml version="1.0" encoding="utf-8"?><d:multistatus xmlns:d="DAV:" xmlns:x="other">`+responses+`</d:multistatus>`)
	}
}

// said is one response.
func said(href, props, status string) string {
	return "<d:response><d:href>" + href + "</d:href><d:propstat><d:prop>" + props + "</d:prop><d:status>" + status + "</d:status></d:propstat></d:response>"
}

const (
	collection = "<d:resourcetype><d:collection/></d:resourcetype>"
	file       = "<d:resourcetype/><d:getcontentlength>5</d:getcontentlength><d:getlastmodified>Mon, 06 May 2024 07:08:09 GMT</d:getlastmodified>"
	fine       = "HTTP/1.1 200 OK"
)

// TestListUnderstandsServers checks the ways in which servers write names, and that
// what is not in the folder is not listed.
func TestListUnderstandsServers(t *testing.T) {
	s := scripted(t, listed(
		said("/dav/a%62/", collection, fine)+
			said("/dav/ab/plain", file, fine)+
			said("http://other.example:99/dav/%61b/far%20off", file, fine)+
			said(" \n/dav/ab/&#233; +%2b \n", file, fine)+
			said("/dav/ab/sub/", collection, fine)+
			said("/dav/ab/bare", collection, "HTTP/1.1 404 Not Found")+
			said("/dav/ab/fake", "<x:resourcetype><x:collection/></x:resourcetype>", fine)+
			`<x:response><x:href>/dav/ab/other</x:href></x:response>`+
			`<d:response><d:href>/dav/ab/gone</d:href><d:status>HTTP/1.1 404 Not Found</d:status></d:response>`+
			said("/dav/ab/sub/deep", file, fine)+
			said("/dav/", collection, fine)+
			said("/dav/abc", file, fine)+
			said("/elsewhere/x", file, fine)+
			said("/dav/ab/../../etc/passwd", file, fine)+
			said("/dav/ab/%2e%2e", file, fine)+
			said("/dav/ab/x%2Fy", file, fine)+
			said("/dav/ab/%00", file, fine)+
			said("/dav/ab/%zz", file, fine)+
			said("/dav/ab/q?x=y", file, fine)+
			said("relative", file, fine),
	))
	got, err := s.List(t.Context(), "ab", 100)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, i := range got {
		n := fmt.Sprintf("%s %d", i.Name, i.Size)
		if i.Folder {
			n = i.Name + "/"
		} else if i.Size > 0 && !i.Modified.Equal(time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)) {
			t.Errorf("%+v", i)
		}
		names = append(names, n)
	}
	if want := "plain 5|far off 5|é ++ 5|sub/|bare 0|fake 0"; strings.Join(names, "|") != want {
		t.Errorf("%s, want %s", strings.Join(names, "|"), want)
	}
}

func TestListOfWhatIsNoListing(t *testing.T) {
	for what, c := range map[string]struct {
		handler http.HandlerFunc
		is      error
	}{
		"an object":   {listed(said("/dav/ab", file, fine)), fs.ErrNotExist},
		"other names": {listed(said("/ab/", collection, fine) + said("/ab/x", file, fine)), nil},
		"nothing":     {listed(""), nil},
		"no WebDAV":   {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, nil},
		"no XML":      {func(w http.ResponseWriter, _ *http.Request) { answer{207, "", "{}<"}.send(w) }, nil},
		"another charset": {func(w http.ResponseWriter, _ *http.Request) {
			answer{207, "", `<?xml version="1.0" encoding="ebcdic"?>`}.send(w)
		}, nil},
		"not all": {func(w http.ResponseWriter, _ *http.Request) {
			answer{207, "Content-Length: 1000", `<multistatus xmlns="DAV:"><response>`}.send(w)
		}, gateway.ErrUnavailable},
		"a document that reads files": {func(w http.ResponseWriter, _ *http.Request) {
			answer{207, "", `<?xml version="1.0"?><!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/hostname">]><multistatus xmlns="DAV:">` +
				`<response><href>/dav/ab/</href><propstat><prop><resourcetype><collection/></resourcetype></prop></propstat></response>` +
				`<response><href>/dav/ab/&x;</href></response></multistatus>`}.send(w)
		}, nil},
	} {
		got, err := scripted(t, c.handler).List(t.Context(), "ab", 10)
		if err == nil || len(got) > 0 || c.is != nil && !errors.Is(err, c.is) || c.is == nil && errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v, %v", what, got, err)
		}
	}
}

// TestAnEndlessListingEnds checks that an entry without end takes a bounded amount of
// memory, and that entries without end are read only as far as they are wanted.
func TestAnEndlessListingEnds(t *testing.T) {
	endless := func(first, again string) *webdav.Source {
		return scripted(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusMultiStatus)
			_, _ = io.WriteString(w, `<d:multistatus xmlns:d="DAV:">`+said("/dav/ab/", collection, fine)+first)
			for {
				if _, err := io.WriteString(w, again); err != nil {
					return
				}
			}
		})
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if got, err := endless("<d:response><d:href>", strings.Repeat("x", 100_000)).List(t.Context(), "ab", 10); err == nil {
		t.Errorf("%v", got)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 256<<20 {
		t.Errorf("%d octets allocated", n)
	}
	s := endless("", said("/dav/ab/x", file, fine))
	if got, err := s.List(t.Context(), "ab", 10); err != nil || len(got) != 10 {
		t.Errorf("%d entries, %v", len(got), err)
	}
}

// TestAHostileListingTakesLittle checks what is short on the wire and much in memory.
func TestAHostileListingTakesLittle(t *testing.T) {
	for _, unit := range []string{"<d:response>", "<d:propstat/>", "<d:href/>"} {
		s := scripted(t, listed("<d:response>"+strings.Repeat(unit, 1<<20)))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := s.List(t.Context(), "", 10)
		runtime.ReadMemStats(&after)
		if err == nil || errors.Is(err, gateway.ErrUnavailable) || after.TotalAlloc-before.TotalAlloc > 64<<20 {
			t.Errorf("%s: %v, %d MiB", unit, err, (after.TotalAlloc-before.TotalAlloc)>>20)
		}
	}
}
