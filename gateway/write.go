package gateway

import (
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
)

const aFolder = "this is a folder, which is neither written nor deleted"

// guard judges the conditions of a request that changes name, and returns what must
// still hold when it is changed. It is not ok if the request was answered.
func (x *exchange) guard(name string) (only If, ok bool) {
	h := x.r.Header
	if h.Get("Origin") != "" || h.Get("Sec-Fetch-Site") != "" {
		x.refuse(http.StatusForbidden, "the request comes from a page in a browser (Origin), which may not write here")
		return only, false
	}
	c := readConditions(h)
	none := h.Values("If-None-Match")
	if c.match == nil && c.since == nil && none == nil {
		return only, true
	}
	info, err := x.look(name)
	switch {
	case err == nil:
		only.Version = info.Version
	case errors.Is(err, fs.ErrNotExist):
		only.Absent = true
	case errors.Is(err, errFolder):
		x.refuse(http.StatusConflict, aFolder)
		return only, false
	default:
		x.fail(err)
		return only, false
	}
	// RFC 9110 §13.2.2
	tag, _ := validators(&info)
	holds := c.hold(tag, info.Modified)
	if only.Absent {
		holds = c.match == nil
	}
	if unless := tags(none); holds && !only.Absent {
		holds = !slices.ContainsFunc(unless, func(t string) bool {
			return t == "*" || strings.TrimPrefix(t, "W/") == strings.TrimPrefix(tag, "W/")
		})
	}
	if !holds {
		x.fail(ErrConflict)
	}
	return only, holds
}

// kept are the fields of a PUT that belong to the object (RFC 9110 §9.3.4).
var kept = []string{"Content-Type", "Content-Encoding", "Content-Language", "Content-Disposition", "Cache-Control"}

// put writes an object.
func (x *exchange) put(name string) {
	if x.r.Header.Get("Content-Range") != "" { // RFC 9110 §14.5
		x.refuse(http.StatusBadRequest, "an object is written whole; leave Content-Range out")
		return
	}
	if c := x.r.Header.Get("Content-Encoding"); c != "" && !x.traits.Codings {
		x.refuse(http.StatusUnsupportedMediaType, "the storage cannot keep how content is coded; send it without Content-Encoding")
		return
	}
	only, ok := x.guard(name)
	if !ok {
		return
	}
	created := only.Absent
	if only == (If{}) {
		_, err := x.look(name)
		if errors.Is(err, errFolder) {
			x.refuse(http.StatusConflict, aFolder)
			return
		}
		created = errors.Is(err, fs.ErrNotExist)
	}
	fields := http.Header{}
	for _, f := range kept {
		if v := x.r.Header.Get(f); v != "" {
			fields.Set(f, v)
		}
	}
	content := &watched{r: x.r.Body}
	info, err := x.Handler.put(x.r.Context(), name, content, x.r.ContentLength, fields, only)
	x.wrote(name) // also after an error: who knows how far it came
	switch {
	case err != nil && content.failed.Load():
		x.refuse(http.StatusBadRequest, "the content broke off; nothing was written")
		return
	case errors.Is(err, fs.ErrNotExist):
		x.refuse(http.StatusConflict, "what should be a folder is an object")
		return
	case err != nil:
		x.fail(err)
		return
	}
	if tag, _ := validators(&info); tag != "" {
		x.w.Header().Set("ETag", tag)
	}
	if created {
		x.w.WriteHeader(http.StatusCreated)
		return
	}
	x.w.WriteHeader(http.StatusNoContent)
}

// watched tells whether it was the reading that failed. A Source may still read when
// it has returned, as http.Transport does.
type watched struct {
	r           io.Reader
	waits, goes func() // are called before and after each read; nil: nobody cares
	failed      atomic.Bool
}

func (w *watched) Read(p []byte) (int, error) {
	if w.waits != nil {
		w.waits()
		defer w.goes()
	}
	n, err := w.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		w.failed.Store(true)
	}
	return n, err
}

// remove deletes an object.
func (x *exchange) remove(name string) {
	only, ok := x.guard(name)
	if !ok {
		return
	}
	if only.Absent {
		x.fail(fs.ErrNotExist)
		return
	}
	err := x.delete(x.r.Context(), name, only)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			x.wrote(name) // who knows how far it came
		}
		if errors.Is(err, fs.ErrPermission) {
			if _, looked := x.look(name); errors.Is(looked, errFolder) {
				x.refuse(http.StatusConflict, aFolder)
				return
			}
		}
		x.fail(err)
		return
	}
	x.wrote(name)
	x.w.WriteHeader(http.StatusNoContent)
}

func (x *exchange) wrote(name string) {
	if x.opt.Wrote != nil {
		x.opt.Wrote(Change{Name: name})
	}
}

// Paths are the paths whose answers may be others after a change, escaped as requests
// have them: that of the object, that of the object of which it is a coded copy, and
// those of the folders that it is in, which may have come or gone with it. Of a change
// inside they are those that do not list folders: shows says whether some do.
func (c Change) Paths(shows bool) []string {
	var paths []string
	add := func(name string) {
		escaped := (&url.URL{Path: "/" + name}).EscapedPath()
		paths = append(paths, escaped)
		if name != "" {
			paths = append(paths, escaped+"/")
		}
	}
	plain := c.Name
	for _, end := range endings {
		if of, ok := strings.CutSuffix(c.Name, end); ok {
			plain = of
			add(plain)
		}
	}
	name := c.Name
	up := func() { name = name[:max(strings.LastIndexByte(name, '/'), 0)] }
	add(name)
	if c.Inside && !shows {
		if plain == indexName || strings.HasSuffix(plain, "/"+indexName) {
			up()
			add(name)
		}
		return paths
	}
	for name != "" {
		up()
		add(name)
	}
	return paths
}
