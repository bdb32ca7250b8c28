//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larderhq/larder/bench/rig"
)

// largest is the longest body, in octets.
const largest = 20 * mib

// headFill is what a long head has in one field, in octets.
const headFill = 60 << 10

// An object is one URL, /NUMBER.
type object struct {
	size     int32
	longHead bool
}

// A world is the objects, the origin that has them, and what clients saw.
type world struct {
	opts     *options
	objects  []object
	content  *rig.Content
	url      string // of the origin
	server   *http.Server
	fillHead string

	requests, hits, octets, hitOctets atomic.Int64
	longHeads, failed, wrong          atomic.Int64

	mu    sync.Mutex
	first []string // the first faults, in words
}

// newWorld makes as many objects as the set holds, and starts the origin.
func newWorld(o *options) (*world, error) {
	w := &world{opts: o, content: rig.NewContent(o.seed, largest), fillHead: strings.Repeat("fill", headFill/4)}
	random := rand.New(rand.NewPCG(o.seed, 0))
	for total := int64(0); total < o.set; {
		n := logUniform(random, 1<<10, 100<<10)
		if random.IntN(70) == 0 {
			n = logUniform(random, mib, largest)
		}
		total += int64(n)
		w.objects = append(w.objects, object{size: n, longHead: random.IntN(200) == 0})
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w.url = "http://" + listener.Addr().String()
	w.server = &http.Server{Handler: w, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = w.server.Serve(listener) }() // it ends with close
	return w, nil
}

func (w *world) close() { _ = w.server.Close() }

// logUniform spreads sizes so that each doubling is as likely as another.
func logUniform(r *rand.Rand, from, to float64) int32 {
	return int32(from * math.Pow(to/from, r.Float64()))
}

// body is what an object consists of.
func (w *world) body(number int) []byte {
	return w.content.Body(strconv.Itoa(number), int64(w.objects[number].size))
}

// ServeHTTP is the origin.
func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	number, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
	if err != nil || number < 0 || number >= len(w.objects) {
		http.NotFound(rw, r)
		return
	}
	h := rw.Header()
	h.Set("Cache-Control", "max-age=100000")
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Length", strconv.Itoa(int(w.objects[number].size)))
	if w.objects[number].longHead {
		h.Set("X-Fill", w.fillHead)
	}
	_, _ = rw.Write(w.body(number)) // who left is counted by the client
}

// ask is one client: it asks until ctx ends, on a connection of its own.
func (w *world) ask(ctx context.Context, url string, number uint64, ended *atomic.Bool) {
	random := rand.New(rand.NewPCG(w.opts.seed, number+1))
	ranks := rand.NewZipf(random, w.opts.skew, 1, uint64(len(w.objects)-1))
	transport := &http.Transport{DisableCompression: true, ReadBufferSize: 64 << 10}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: time.Minute}
	buf := make([]byte, 64<<10)
	for !ended.Load() && ctx.Err() == nil {
		n := int(ranks.Uint64())
		// A request that runs when the time is over is let go on.
		if err := w.get(client, url, n, buf); err != nil {
			w.fail("GET /%d: %w", n, err)
			_ = rig.Pause(ctx, 10*time.Millisecond) // so that a dead larder is no busy loop
		}
	}
}

// get asks for an object and compares all of it.
func (w *world) get(client *http.Client, url string, number int, buf []byte) error {
	w.requests.Add(1)
	resp, err := client.Get(url + "/" + strconv.Itoa(number))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	want := w.body(number)
	if resp.StatusCode != http.StatusOK || resp.ContentLength != int64(len(want)) {
		_, _ = io.Copy(io.Discard, resp.Body) // the status is the error
		return fmt.Errorf("status %d with %d octets instead of %d, Proxy-Status %q", resp.StatusCode, resp.ContentLength, len(want), resp.Header.Get("Proxy-Status"))
	}
	if w.objects[number].longHead {
		w.longHeads.Add(1)
		if resp.Header.Get("X-Fill") != w.fillHead {
			return fmt.Errorf("%w in the head", rig.ErrWrong)
		}
	}
	if err := rig.Compare(resp.Body, want, buf); err != nil {
		return err
	}
	w.octets.Add(int64(len(want)))
	if strings.Contains(resp.Header.Get("Cache-Status"), "; hit") {
		w.hits.Add(1)
		w.hitOctets.Add(int64(len(want)))
	}
	return nil
}

// fail counts a fault and keeps the first few in words.
func (w *world) fail(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	if errors.Is(err, rig.ErrWrong) {
		w.wrong.Add(1)
	} else {
		w.failed.Add(1)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.first) < 10 {
		w.first = append(w.first, err.Error())
	}
}

// hitShare is the hits in a hundred requests.
func (w *world) hitShare() float64 {
	return 100 * float64(w.hits.Load()) / float64(max(w.requests.Load(), 1))
}
