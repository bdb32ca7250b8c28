//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/larderhq/larder/bench/rig"
)

// storageName is the variable by which a process of this program knows that it is S3.
const storageName = "LARDER_BENCH_STORAGE"

const bucket = "bench"

// What is in the bucket.
var (
	hotSets = []set{{"hot4KiB", 4 << 10, 100}, {"hot64KiB", 64 << 10, 100}}

	// The first object of a cold set is only there to begin with.
	coldSets = []set{{"cold4KiB", 4 << 10, 4001}, {"cold64KiB", 64 << 10, 2001}, {"cold16MiB", 16 << 20, 25}}
)

// askedPath is where S3 tells how often somebody asked: no bucket can have that name.
const askedPath = "/-"

// serveStorage is S3, until it is killed.
func serveStorage() {
	err := func() error {
		backend, content := s3mem.New(), rig.NewContent(seed, largest)
		if err := backend.CreateBucket(bucket); err != nil {
			return err
		}
		kind := map[string]string{"Content-Type": "application/octet-stream"}
		for _, s := range append(hotSets, coldSets...) {
			for i := range s.count {
				body := content.Body(s.path(i), int64(s.size))
				if _, err := backend.PutObject(bucket, s.path(i)[1:], kind, bytes.NewReader(body), int64(s.size), nil); err != nil {
					return err
				}
			}
		}
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, "http://"+listener.Addr().String())
		var mu sync.Mutex
		asked := map[string]int{} // by who asked
		s3 := gofakes3.New(backend).Server()
		return (&http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == askedPath {
				mu.Lock()
				defer mu.Unlock()
				fmt.Fprint(w, asked[r.FormValue("by")])
				return
			}
			mu.Lock()
			asked[r.UserAgent()]++
			mu.Unlock()
			s3.ServeHTTP(w, r)
		})}).Serve(listener)
	}()
	fmt.Fprintln(os.Stderr, "gateway: S3:", err)
	os.Exit(1)
}

// A storage is S3 in a process of its own, beside the load.
type storage struct {
	*rig.Process
	url string
}

// startStorage starts S3, unless it runs.
func (l *lab) startStorage(ctx context.Context) error {
	if l.s3 != nil {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	said := make(chan string, 1)
	p, err := rig.Start(rig.Command{Argv: []string{self}, Env: []string{storageName + "=1"}, CPUs: l.opts.loadCPU, Line: func(text string) {
		select {
		case said <- text:
		default:
		}
	}})
	if err != nil {
		return err
	}
	select {
	case url := <-said:
		if strings.HasPrefix(url, "http") {
			l.s3 = &storage{p, url}
			return nil
		}
		p.Kill()
		return errors.New(url)
	case <-p.Done():
		return p.Err()
	case <-ctx.Done():
		p.Kill()
		return context.Cause(ctx)
	}
}

// asked is how many requests a contender has made so far. It may be nil: none.
func (s *storage) asked(ctx context.Context, client *http.Client, name string) (n int64, err error) {
	if s == nil {
		return 0, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+askedPath+"?by="+url.QueryEscape(name), nil)
	if err != nil {
		return 0, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil {
		_, err = fmt.Sscan(string(text), &n)
	}
	return n, err
}
