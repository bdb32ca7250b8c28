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
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

type options struct {
	memory  int64
	unknown uint32
	divide  uint32
	most    int
	larder  string
	extra   []string
	trace   string
}

func main() {
	var o options
	memory := flag.Int64("memory", 64<<20, "octets that larder may keep (--memory)")
	unknown := flag.Uint("unknown-size", 10<<10, "octets of a body whose size the trace does not tell")
	divide := flag.Uint("divide", 1, "divide all sizes by this, to spare time (divide -memory as well)")
	flag.IntVar(&o.most, "requests", 0, "stop after so many requests; 0: the whole trace")
	flag.StringVar(&o.larder, "larder", "", "the program; empty: it is built from this checkout")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: go run ./bench/replay [flags] TRACE.u32x3[.gz] [flags of larder serve...]")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() == 0 || *divide == 0 {
		flag.Usage()
		os.Exit(2)
	}
	o.memory, o.unknown, o.divide = *memory, uint32(*unknown), uint32(*divide)
	o.trace, o.extra = flag.Arg(0), flag.Args()[1:]
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := replay(ctx, &o); err != nil {
		fmt.Fprintln(os.Stderr, "replay:", err)
		os.Exit(1)
	}
}

// replay runs the whole trace and prints what came of it.
func replay(ctx context.Context, o *options) error {
	requests, err := read(o.trace)
	if err != nil {
		return err
	}
	if o.most > 0 && o.most < len(requests) {
		requests = requests[:o.most]
	}
	origin, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() { _ = http.Serve(origin, http.HandlerFunc(answer)) }()
	defer origin.Close()
	port, stop, err := start(ctx, o, origin.Addr())
	if err != nil {
		return err
	}
	defer stop()

	conn, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		return err
	}
	defer conn.Close()
	c := client{conn: conn, in: bufio.NewReaderSize(conn, 256<<10)}
	var hits, octets, hitOctets int64
	begun, told := time.Now(), time.Now()
	for i, r := range requests {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		size := max(r.size, 1)
		if r.size == 0 {
			size = o.unknown
		}
		size = max(size/o.divide, 1)
		hit, err := c.get(r.object, size)
		if err != nil {
			return fmt.Errorf("request %d: %w", i, err)
		}
		octets += int64(size)
		if hit {
			hits++
			hitOctets += int64(size)
		}
		if time.Since(told) > 10*time.Second {
			told = time.Now()
			fmt.Fprintf(os.Stderr, "%d of %d requests, %.1f %% hits\n", i+1, len(requests), 100*float64(hits)/float64(i+1))
		}
	}
	fmt.Printf("%s  memory %d  requests %d  object hits %.2f %%  byte hits %.2f %%  in %v\n", filepath.Base(o.trace), o.memory, len(requests),
		100*float64(hits)/float64(len(requests)), 100*float64(hitOctets)/float64(octets), time.Since(begun).Round(time.Second))
	return nil
}

// A request is one line of a trace.
type request struct{ object, size uint32 }

// read loads a trace: little-endian records of time, object and size.
func read(name string) ([]request, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var in io.Reader = bufio.NewReader(f)
	if head, _ := in.(*bufio.Reader).Peek(2); bytes.Equal(head, []byte{0x1f, 0x8b}) {
		if in, err = gzip.NewReader(in); err != nil {
			return nil, err
		}
		in = bufio.NewReader(in)
	}
	var all []request
	for {
		var rec [12]byte
		if _, err := io.ReadFull(in, rec[:]); errors.Is(err, io.EOF) {
			return settled(all), nil
		} else if err != nil {
			return nil, fmt.Errorf("%s: record %d: %w", name, len(all), err)
		}
		all = append(all, request{binary.LittleEndian.Uint32(rec[4:]), binary.LittleEndian.Uint32(rec[8:])})
	}
}

// settled gives each object one size, the largest that was sent of it, as larder
// simulate does.
func settled(all []request) []request {
	sizes := map[uint32]uint32{}
	for _, r := range all {
		sizes[r.object] = max(sizes[r.object], r.size)
	}
	for i := range all {
		all[i].size = sizes[all[i].object]
	}
	return all
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

// start runs larder and returns its port once it listens.
func start(ctx context.Context, o *options, origin net.Addr) (port string, stop func(), err error) {
	program := o.larder
	if program == "" {
		dir, err := os.MkdirTemp("", "replay")
		if err != nil {
			return "", nil, err
		}
		defer os.RemoveAll(dir) // once started it is not needed
		program = filepath.Join(dir, "larder")
		if out, err := exec.CommandContext(ctx, "go", "build", "-o", program, "github.com/larderhq/larder/cmd/larder").CombinedOutput(); err != nil {
			return "", nil, fmt.Errorf("go build: %w: %s", err, out)
		}
	}
	args := append([]string{"serve", "http://" + origin.String(), "--listen", "127.0.0.1:0", "--log", "off", "--memory", strconv.FormatInt(o.memory, 10)}, o.extra...)
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	words, err := cmd.StderrPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}
	lines := bufio.NewReader(words)
	first, err := lines.ReadString('\n')
	_, rest, ok := strings.Cut(first, " at http://127.0.0.1:")
	if !ok {
		stop()
		return "", nil, fmt.Errorf("larder did not start: %s %w", first, err)
	}
	go io.Copy(os.Stderr, lines)
	port, _, _ = strings.Cut(rest, " ")
	return port, stop, nil
}

// A client asks over one connection.
type client struct {
	conn net.Conn
	in   *bufio.Reader
	out  []byte
}

// get asks for an object and tells whether it came from the cache.
func (c *client) get(object, size uint32) (hit bool, err error) {
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
			if !strings.HasPrefix(status, "HTTP/1.1 200") || length != int64(size) {
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
