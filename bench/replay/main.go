//go:build linux

// Replay asks a real larder for every request of a trace, one after the other,
// and prints how many came from the cache, by number and by octets: what
// larder simulate foretells, measured over HTTP.
//
//	go run ./bench/replay -memory 87900000 TRACE.u32x3.gz
//
// The origin runs in this process and answers with as many octets as the trace
// says; larder is built and started beside it. Both listen on 127.0.0.1 alone
// and end with this process.
package main

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/larderhq/larder/bench/rig"
	"github.com/larderhq/larder/internal/simulate"
)

type options struct {
	memory  int64
	unknown int64
	divide  int64
	most    int64
	larder  string
	extra   []string
	trace   string
}

func main() {
	var o options
	flag.Int64Var(&o.memory, "memory", 64<<20, "octets that larder may keep (--memory)")
	flag.Int64Var(&o.unknown, "unknown-size", 10<<10, "octets of a body whose size the trace does not tell")
	flag.Int64Var(&o.divide, "divide", 1, "divide all sizes by this, to spare time (divide -memory as well)")
	flag.Int64Var(&o.most, "requests", math.MaxInt64, "stop after so many")
	flag.StringVar(&o.larder, "larder", "", "the program; empty: it is built from this checkout")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: go run ./bench/replay [flags] TRACE [flags of larder serve...]")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() == 0 || o.divide < 1 {
		flag.Usage()
		os.Exit(2)
	}
	o.trace, o.extra = flag.Arg(0), flag.Args()[1:]
	ctx, stop := rig.Context()
	defer stop()
	if err := replay(ctx, &o); err != nil {
		fmt.Fprintln(os.Stderr, "replay:", err)
		os.Exit(1)
	}
}

// replay runs the whole trace and prints what came of it.
func replay(ctx context.Context, o *options) error {
	trace, err := read(o)
	if err != nil {
		return err
	}
	origin, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() { _ = http.Serve(origin, http.HandlerFunc(answer)) }()
	defer origin.Close()
	larder, err := start(ctx, o, origin.Addr())
	if err != nil {
		return err
	}
	defer larder.Stop(10 * time.Second)

	conn, err := net.Dial("tcp", strings.TrimPrefix(larder.URL, "http://"))
	if err != nil {
		return err
	}
	defer conn.Close()
	c := client{conn: conn, in: bufio.NewReaderSize(conn, 256<<10)}
	var requests, hits, octets, hitOctets int64
	begun, told := time.Now(), time.Now()
	for object, size := range trace.All() {
		if requests == o.most {
			break
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		size = max(size/o.divide, 1)
		hit, err := c.get(object, size)
		if err != nil {
			return fmt.Errorf("request %d: %w", requests, err)
		}
		requests++
		octets += size
		if hit {
			hits++
			hitOctets += size
		}
		if time.Since(told) > 10*time.Second {
			told = time.Now()
			fmt.Fprintf(os.Stderr, "%d requests, %.1f %% hits\n", requests, 100*float64(hits)/float64(requests))
		}
	}
	fmt.Printf("%s  memory %d  requests %d  object hits %.2f %%  byte hits %.2f %%  in %v\n", filepath.Base(o.trace), o.memory, requests,
		100*float64(hits)/float64(requests), 100*float64(hitOctets)/float64(octets), time.Since(begun).Round(time.Second))
	return nil
}

// read loads a trace, or a log.
func read(o *options) (*simulate.Trace, error) {
	f, err := os.Open(o.trace)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := simulate.NewReader(simulate.Options{UnknownSize: o.unknown})
	if err := r.Add(o.trace, f); err != nil {
		return nil, err
	}
	trace, _, err := r.Trace()
	return trace, err
}

var filler = make([]byte, 1<<20)

// answer is the origin: /OBJECT/SIZE has that many octets, for ever.
func answer(w http.ResponseWriter, r *http.Request) {
	size, err := strconv.ParseInt(r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:], 10, 64)
	if err != nil {
		http.Error(w, "no size", http.StatusBadRequest)
		return
	}
	h := w.Header()
	h.Set("Cache-Control", "max-age=10000000")
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Length", strconv.FormatInt(size, 10))
	for size > 0 {
		n, err := w.Write(filler[:min(size, int64(len(filler)))])
		if err != nil {
			return
		}
		size -= int64(n)
	}
}

// start runs larder, and returns as soon as it listens.
func start(ctx context.Context, o *options, origin net.Addr) (*rig.Larder, error) {
	program := o.larder
	if program == "" {
		dir, err := os.MkdirTemp("", "replay")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir) // once started it is not needed
		if program, err = rig.Build(ctx, dir); err != nil {
			return nil, err
		}
	}
	argv := append([]string{program, "serve", "http://" + origin.String(), "--listen", "127.0.0.1:0", "--log", "off", "--memory", strconv.FormatInt(o.memory, 10)}, o.extra...)
	return rig.StartLarder(ctx, rig.Command{Argv: argv, Line: func(text string) { fmt.Fprintln(os.Stderr, text) }})
}

// A client asks over one connection.
type client struct {
	conn net.Conn
	in   *bufio.Reader
	out  []byte
}

// get asks for an object and tells whether it came from the cache.
func (c *client) get(object uint32, size int64) (hit bool, err error) {
	c.out = fmt.Appendf(c.out[:0], "GET /%d/%d HTTP/1.1\r\nHost: replay\r\n\r\n", object, size)
	if _, err := c.conn.Write(c.out); err != nil {
		return false, err
	}
	length, status := int64(-1), ""
	for first := true; ; first = false {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return false, err
		}
		line = bytes.TrimRight(line, "\r\n")
		switch {
		case first:
			status = string(line)
			continue
		case len(line) == 0:
			if !strings.HasPrefix(status, "HTTP/1.1 200") || length != size {
				return false, fmt.Errorf("%q with %d octets, want %d", status, length, size)
			}
			_, err := io.CopyN(io.Discard, c.in, length)
			return hit, err
		}
		name, value, _ := bytes.Cut(line, []byte(": "))
		switch string(name) {
		case "Content-Length":
			length, err = strconv.ParseInt(string(value), 10, 64)
		case "Cache-Status":
			hit = bytes.Contains(value, []byte("; hit"))
		}
		if err != nil {
			return false, err
		}
	}
}
