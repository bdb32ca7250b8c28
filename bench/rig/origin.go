//go:build linux

package rig

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// An Origin is a web server in this process.
//
//	GET /SIZE/ANYTHING    answers SIZE octets, fresh for a day, which follow from
//	                      the path
//	any other method      has its body read to the end, and is answered with 204
type Origin struct {
	URL     string // such as http://127.0.0.1:4711
	content *Content
	asked   atomic.Int64
	largest int64
	server  *http.Server
}

// StartOrigin starts an Origin whose bodies have at most largest octets. Equal
// seeds make equal bodies, those of NewContent. The caller calls Close.
func StartOrigin(seed uint64, largest int) (*Origin, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	o := &Origin{URL: "http://" + listener.Addr().String(), content: NewContent(seed, largest), largest: int64(largest)}
	o.server = &http.Server{Handler: o, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = o.server.Serve(listener) }() // it ends with Close
	return o, nil
}

// Close ends the Origin, and cuts off what it answers just then.
func (o *Origin) Close() { _ = o.server.Close() } // a listener on this machine has nothing to lose

// Asked is how many requests have come so far.
func (o *Origin) Asked() int64 { return o.asked.Load() }

// Body is what GET path answers. The error says why that is nothing.
func (o *Origin) Body(path string) ([]byte, error) {
	size, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	n, err := strconv.ParseInt(size, 10, 64)
	if err != nil || n < 0 || n > o.largest {
		return nil, fmt.Errorf("%s: ask for /SIZE/ANYTHING, SIZE being 0 to %d octets", path, o.largest)
	}
	return o.content.Body(path, n), nil
}

// ServeHTTP answers one request.
func (o *Origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.asked.Add(1)
	if r.Method != http.MethodGet {
		_, _ = io.Copy(io.Discard, r.Body) // who left is counted by the client
		w.WriteHeader(http.StatusNoContent)
		return
	}
	body, err := o.Body(r.URL.Path)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	h := w.Header()
	h.Set("Cache-Control", "max-age=86400")
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // as above
}

// Quantile is the value that a share q of all is not above, q being 0 to 1. It
// sorts all in place. Of none it is 0.
func Quantile(all []time.Duration, q float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[min(int(float64(len(all))*q), len(all)-1)]
}
