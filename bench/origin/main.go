// Origin is a cheap origin server to measure caches with.
//
//	GET /SIZE/ANYTHING          answers SIZE bytes, fresh for an hour
//	GET /SIZE/ANYTHING?ma=SECS  the same, fresh for SECS
//	GET /count                  how many requests it served so far, and how
//	                            many of them with 304, as two numbers
//
// Answers carry an ETag and a Last-Modified; a matching If-None-Match gets 304.
// The body is "0123456789abcdef" again and again.
package main

import (
	"flag"
	"fmt"
	"log"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// maxSize bounds the bodies asked for, in bytes.
const maxSize = 64 << 20

// pattern repeats to make a body.
const pattern = "0123456789abcdef"

// origin answers requests and counts them; its zero value has no body to give.
type origin struct {
	blob                []byte // maxSize bytes, shared by all answers
	delay               time.Duration
	served, notModified atomic.Int64
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("origin: ")
	addr := flag.String("addr", "127.0.0.1:8090", "listen on `ADDRESS`")
	delay := flag.Duration("delay", 0, "wait this long before every answer")
	flag.Parse()

	o := &origin{blob: []byte(strings.Repeat(pattern, maxSize/len(pattern))), delay: *delay}
	server := &http.Server{Addr: *addr, Handler: o, ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}

// ServeHTTP answers one request; see the package comment.
func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	if r.URL.Path == "/count" {
		h.Set("Cache-Control", "no-store")
		fmt.Fprintln(w, o.served.Load(), o.notModified.Load())
		return
	}
	o.served.Add(1)
	if o.delay > 0 {
		time.Sleep(o.delay)
	}

	segment, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	size, err := strconv.Atoi(segment)
	if err != nil || size < 0 || size > len(o.blob) {
		http.Error(w, "ask for /SIZE/ANYTHING, SIZE being 0 to "+strconv.Itoa(len(o.blob))+" bytes", http.StatusBadRequest)
		return
	}
	age := "3600"
	if r.URL.RawQuery != "" {
		if ma := r.URL.Query().Get("ma"); ma != "" {
			age = ma
		}
	}
	tag := `"v1-` + strconv.Itoa(size) + `"`
	h.Set("Cache-Control", "public, max-age="+age)
	h.Set("ETag", tag)
	h.Set("Last-Modified", "Tue, 15 Nov 2022 12:45:26 GMT")
	if r.Header.Get("If-None-Match") == tag {
		o.notModified.Add(1)
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Length", strconv.Itoa(size))
	_, _ = w.Write(o.blob[:size]) // a client that left is not our concern
}
