//go:build linux

package main

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/larderhq/larder/bench/rig"
)

// A kind is how a resource is sent.
type kind int

const (
	plain     kind = iota // fresh for long, its length declared
	chunked               // its length not declared
	varying               // one body for each value of a request field
	validated             // stale at once, so that each use of it asks the origin
	kindCount
)

var kindNames = [kindCount]string{"plain", "chunked", "varying", "validated"}

// variantField is what varying resources depend on.
const variantField = "X-Variant"

var variants = []string{"a", "b", "c"}

// A resource is one URL.
type resource struct {
	path string
	kind kind

	// generation is what the origin has; a PUT raises it.
	generation atomic.Int64

	// acknowledged is the last generation that a client was told of. Who asks
	// after that must not receive an older one.
	acknowledged atomic.Int64

	// shaky is the last generation that was acknowledged while the disk refused
	// what was written, or lied: the disk may not know of it.
	shaky atomic.Int64
}

// newResources makes n of them, with every kind in its share.
func newResources(n int) []*resource {
	all := make([]*resource, n)
	for i := range all {
		k := plain
		switch i % 20 {
		case 3, 4, 5:
			k = chunked
		case 8, 9, 10:
			k = varying
		case 15:
			k = validated
		}
		all[i] = &resource{path: fmt.Sprintf("/%s/%d", kindNames[k], i), kind: k}
	}
	return all
}

// name tells a body from all others.
func (r *resource) name(generation int64, variant string) string {
	return r.path + " " + strconv.FormatInt(generation, 10) + " " + variant
}

// largest is the longest body, in octets.
const largest = 12 << 20

// size is the length of a body: most have a few KiB, some a few hundred, and one
// in a hundred is too large to be written in one go.
func size(name string) int64 {
	h := rig.Hash("size of " + name)
	dice, n := h%100, int64(h>>8&0x7fffffff)
	switch {
	case dice == 0:
		return 1<<20 + n%(largest-1<<20)
	case dice == 1:
		return n % 2 // nothing, or next to it
	case dice < 12:
		return n % (600 << 10)
	}
	return n % (40 << 10)
}

// An origin serves resources. Life is written into what it sends, so that a
// client sees whether a hit is older than the process that serves it.
type origin struct {
	content   *rig.Content
	resources map[string]*resource
	life      atomic.Int64
	asked     atomic.Int64
}

// Fields of its responses.
const (
	lifeField       = "X-Life"
	generationField = "X-Generation" // of a PUT
)

func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.asked.Add(1)
	res, ok := o.resources[r.URL.Path]
	switch {
	case !ok:
		http.NotFound(w, r)
	case r.Method == http.MethodPut:
		w.Header().Set(generationField, strconv.FormatInt(res.generation.Add(1), 10))
		w.WriteHeader(http.StatusNoContent)
	default:
		o.get(w, r, res)
	}
}

func (o *origin) get(w http.ResponseWriter, r *http.Request, res *resource) {
	generation, variant, h := res.generation.Load(), "", w.Header()
	h.Set("Cache-Control", "max-age=3600")
	switch res.kind {
	case varying:
		h.Set("Vary", variantField)
		variant = r.Header.Get(variantField)
	case validated:
		h.Set("Cache-Control", "max-age=0")
	}
	h.Set("Content-Type", "application/octet-stream")
	h.Set("ETag", fmt.Sprintf(`"%d-%s"`, generation, variant))
	h.Set(lifeField, strconv.FormatInt(o.life.Load(), 10))
	name := res.name(generation, variant)
	body := o.content.Body(name, size(name))
	if len(body) == 0 {
		r.Header.Del("Range") // which ServeContent gets wrong for nothing
	}
	if res.kind != chunked {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
		return
	}
	for len(body) > 0 {
		n, err := w.Write(body[:min(len(body), 100_000)])
		if err != nil {
			return // whoever asked is gone
		}
		body = body[n:]
		_ = http.NewResponseController(w).Flush() // an error comes with the next Write
	}
}

// parseTag reads what get wrote.
func parseTag(tag string) (generation int64, variant string, err error) {
	digits, variant, ok := strings.Cut(strings.Trim(tag, `"`), "-")
	if !ok {
		return 0, "", fmt.Errorf("ETag %q is none of the origin's", tag)
	}
	generation, err = strconv.ParseInt(digits, 10, 64)
	return generation, variant, err
}
