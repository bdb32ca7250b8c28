//go:build linux

// Browser has a browser load a page with 200 images from larder serve, over HTTP/2, and fails if one
// does not come, if one comes otherwise, or if it takes more than one connection.
//
//	go run ./conformance/browser chromium-headless-shell
//
// The argument is the browser, headless Chromium under any name. The page is loaded twice, by two
// users: for the first one all of it comes from the origin, and for the second one from the store.
package main

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larderhq/larder/bench/rig"
)

// images is how many the page has.
const images = 200

//go:embed page.html
var page string

// picture is one of them, 12 KB.
var picture = `<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"><desc>` + strings.Repeat("0123456789", 1200) + `</desc></svg>`

func main() {
	limit := flag.Duration("limit", 2*time.Minute, "how long all of it may take")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "browser: which one? As in go run ./conformance/browser chromium-headless-shell")
		os.Exit(2)
	}
	rig.Run("browser", *limit, "limit", func(ctx context.Context) error { return run(ctx, flag.Arg(0)) })
}

func run(ctx context.Context, browser string) error {
	dir, err := os.MkdirTemp("", "larder-browser-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	o := &origin{reports: make(chan report, 1)}
	web := httptest.NewServer(o)
	defer web.Close()
	l, cert, err := rig.StartSecure(ctx, dir, "", web.URL)
	if err != nil {
		return err
	}
	defer l.Kill()
	d, err := newDoor(strings.TrimPrefix(l.Secure, "https://"))
	if err != nil {
		return err
	}
	defer d.close()
	for user := range 2 {
		r, err := visit(ctx, browser, filepath.Join(dir, fmt.Sprint("user", user)), "https://"+d.Addr().String()+"/", cert, o)
		if err != nil {
			return err
		}
		connections := d.passed.Swap(0)
		fmt.Printf("user %d: %d images, %d transfers, %d connections, %d requests to the origin so far\n", user+1, r.Loaded, len(r.Protocols), connections, o.asked.Load())
		if err := r.judge(connections); err != nil {
			return fmt.Errorf("user %d: %w", user+1, err)
		}
	}
	if n := o.asked.Load(); n != images+1 {
		return fmt.Errorf("the origin was asked %d times for %d objects", n, images+1)
	}
	return nil
}

// A report is what the page says once it is there.
type report struct {
	Loaded    int
	Protocols []string
}

func (r *report) judge(connections int64) error {
	counts := map[string]int{}
	for _, p := range r.Protocols {
		counts[p]++
	}
	switch {
	case r.Loaded != images:
		return fmt.Errorf("%d of %d images were loaded", r.Loaded, images)
	case len(counts) != 1 || counts["h2"] != images+1:
		return fmt.Errorf("of %d transfers so many came by each protocol: %v", images+1, counts)
	case connections != 1:
		return fmt.Errorf("it took %d connections", connections)
	}
	return nil
}

// An origin has the page and takes its reports.
type origin struct {
	asked   atomic.Int64 // for what the page is made of
	reports chan report
}

func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "max-age=3600")
	switch {
	case r.Method == http.MethodPost:
		var got report
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		select {
		case o.reports <- got:
		default: // one is enough
		}
	case r.URL.Path == "/":
		o.asked.Add(1)
		h.Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, page) // the browser may be gone
	case strings.HasPrefix(r.URL.Path, "/image/"):
		o.asked.Add(1)
		h.Set("Content-Type", "image/svg+xml")
		_, _ = io.WriteString(w, picture) // as above
	default:
		http.NotFound(w, r)
	}
}

// visit has a new user look at a page, and returns what that reports.
func visit(ctx context.Context, browser, profile, at string, cert *rig.Certificate, o *origin) (r report, err error) {
	key := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	p, err := rig.Start(rig.Command{Argv: []string{
		browser, "--headless", "--no-sandbox", "--disable-gpu", "--user-data-dir=" + profile,
		"--ignore-certificate-errors-spki-list=" + base64.StdEncoding.EncodeToString(key[:]), "--remote-debugging-port=0", at,
	}})
	if err != nil {
		return r, err
	}
	defer p.Kill()
	select {
	case r = <-o.reports:
		return r, nil
	case <-p.Done():
		return r, fmt.Errorf("the browser ended: %w", p.Err())
	case <-ctx.Done():
		return r, context.Cause(ctx)
	}
}

// A door is where the browser comes in: it counts the connections on the way to larder.
type door struct {
	net.Listener
	to     string
	passed atomic.Int64
	busy   sync.WaitGroup
}

func newDoor(to string) (*door, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d := &door{Listener: l, to: to}
	d.busy.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // it is closed
			}
			d.passed.Add(1)
			d.busy.Go(func() { d.pass(c) })
		}
	})
	return d, nil
}

// pass connects c with larder until one of them leaves.
func (d *door) pass(c net.Conn) {
	defer c.Close()
	s, err := net.Dial("tcp", d.to)
	if err != nil {
		return // and so does the browser's connection
	}
	d.busy.Go(func() {
		_, _ = io.Copy(c, s) // either side may leave when it likes
		c.Close()
	})
	_, _ = io.Copy(s, c) // as above
	s.Close()
}

// close waits until all connections have ended: the browsers are gone.
func (d *door) close() {
	_ = d.Close() // a listener on this machine has nothing to lose
	d.busy.Wait()
}
