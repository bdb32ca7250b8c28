package gateway

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	indexName  = "index.html"
	maxListing = 10000 // entries of a folder that are shown
)

// folder answers with the index of a folder, or a listing.
func (x *exchange) folder(name string) {
	index := indexName
	if name != "" {
		index = name + "/" + indexName
	}
	c := readConditions(x.r.Header)
	switch o, err := x.pick(index, c); {
	case err == nil:
		defer o.Close()
		x.send(index, o, c)
		return
	case !errors.Is(err, errFolder) && !errors.Is(err, fs.ErrNotExist):
		x.fail(err)
		return
	}
	if !x.opt.Listing {
		x.refuse(http.StatusNotFound, "there is nothing of this name that can be shown")
		return
	}
	infos, err := x.list(x.r.Context(), name, maxListing+1)
	if err != nil && (name != "" || !errors.Is(err, fs.ErrNotExist)) {
		x.fail(err)
		return
	}
	x.listing(name, infos)
}

// A folderList is a listing as programs get it. Truncated: there is more than that.
type folderList struct {
	Path      string  `json:"path"`
	Truncated bool    `json:"truncated"`
	Entries   []entry `json:"entries"`
}

// An entry is a line of a listing.
type entry struct {
	Name     string     `json:"name"`
	Folder   bool       `json:"folder,omitempty"`
	Size     *int64     `json:"size,omitempty"`
	Modified *time.Time `json:"modified,omitempty"`
	Ref      string     `json:"href"`
}

// listing shows the entries of a folder that could be served.
func (x *exchange) listing(name string, infos []Info) {
	all := folderList{Path: "/", Entries: make([]entry, 0, len(infos)), Truncated: len(infos) > maxListing}
	if name != "" {
		all.Path += strings.ToValidUTF8(name, "\uFFFD") + "/"
	}
	for _, i := range infos[:min(len(infos), maxListing)] {
		if i.Name == "" || strings.Contains(i.Name, "/") || !ValidName(i.Name, false) || x.opt.hides(1, i.Name) || !x.traits.Flat && strings.Contains(i.Name, `\`) {
			continue // it has no path
		}
		e := entry{Name: strings.ToValidUTF8(i.Name, "\uFFFD"), Folder: i.Folder, Ref: reference(i.Name, i.Folder)}
		if !i.Folder {
			e.Size = &i.Size
			if !i.Modified.IsZero() {
				t := i.Modified.UTC().Truncate(time.Second)
				e.Modified = &t
			}
		}
		all.Entries = append(all.Entries, e)
	}
	slices.SortFunc(all.Entries, func(a, b entry) int {
		if a.Folder != b.Folder {
			return map[bool]int{true: -1, false: 1}[a.Folder]
		}
		return cmp.Or(strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)), strings.Compare(a.Name, b.Name))
	})

	var b bytes.Buffer
	head := x.w.Header()
	head.Set("Vary", "Accept")
	var err error
	if prefersJSON(x.r.Header) {
		head.Set("Content-Type", "application/json")
		err = json.NewEncoder(&b).Encode(all)
	} else {
		head.Set("Content-Type", "text/html; charset=utf-8")
		head.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
		err = page.Execute(&b, all)
	}
	if err != nil {
		x.fail(err)
		return
	}
	x.fresh(name+"/", &Info{Certain: true})
	head.Set("ETag", fmt.Sprintf(`"%x"`, sha256.Sum256(b.Bytes())))
	c := readConditions(x.r.Header)
	if !c.hold(head.Get("ETag"), time.Time{}) {
		head.Del("Cache-Control")
		x.refuse(http.StatusPreconditionFailed, "the listing is not as the request's conditions say")
		return
	}
	r := c.withoutGuards(x.r)
	r.Header.Del("Range")
	http.ServeContent(x.w, r, "", time.Time{}, bytes.NewReader(b.Bytes()))
}

// octets writes a size for people.
func octets(n *int64) string {
	f, unit := float64(*n), 0
	for ; f >= 1024 && unit < 5; unit++ {
		f /= 1024
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", *n)
	}
	return fmt.Sprintf("%.1f %ciB", f, "KMGTP"[unit-1])
}

var page = template.Must(template.New("").Funcs(template.FuncMap{"octets": octets, "url": func(s string) template.URL { return template.URL(s) }}).Parse(`<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>Files in {{.Path}}</title>
<style>
body { font: 1rem/1.6 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { width: 100%; border-collapse: collapse }
td, th { padding: .1rem .5rem; border-bottom: 1px solid color-mix(in srgb, currentcolor 15%, transparent); overflow-wrap: anywhere; text-align: left }
td + td, th + th { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; opacity: .7 }
th { font-weight: 600; opacity: .7 }
@media (max-width: 30rem) { td:nth-child(3), th:nth-child(3) { display: none } }
a { text-decoration: none } a:hover { text-decoration: underline }
</style>
<h1>{{.Path}}</h1>
<table>
<tr><th>Name<th>Size<th>Changed (UTC)
{{if ne .Path "/"}}<tr><td><a href="../">../</a><td><td>
{{end}}{{range .Entries}}<tr><td><a href="{{url .Ref}}">{{.Name}}{{if .Folder}}/{{end}}</a><td>{{with .Size}}{{octets .}}{{end}}<td>{{with .Modified}}{{.Format "2006-01-02 15:04"}}{{end}}
{{end}}</table>
{{if not .Entries}}<p>Nothing in here.
{{end}}{{if .Truncated}}<p>There is more than these {{len .Entries}}.
{{end}}</html>
`))
