package gateway_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"github.com/larderhq/larder/gateway"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

// table is what large objects are made of, over and over. Its length is prime, so that
// octets at round distances differ.
var table = []byte(pattern(65521))

// octetsAt fills p with what is at off.
func octetsAt(p []byte, off int64) {
	for len(p) > 0 {
		n := copy(p, table[off%int64(len(table)):])
		p, off = p[n:], off+int64(n)
	}
}

// A counting Source has one object, of any size, which takes no room. It counts what
// is asked for, as remote storage does, which begins to send when it is asked.
type counting struct {
	size  int64
	sent  int64 // octets that were read
	asked int64 // octets that were asked for
}

func (c *counting) Traits() gateway.Traits { return gateway.Traits{Remote: true} }
func (c *counting) Close() error           { return nil }

func (c *counting) List(context.Context, string, int) ([]gateway.Info, error) {
	return nil, fs.ErrNotExist
}

func (c *counting) Open(_ context.Context, _ string, w gateway.Want) (gateway.Object, error) {
	o := &countingObject{c: c, off: w.Off, n: w.N}
	if w.Off < 0 {
		o.off = max(c.size+w.Off, 0)
	}
	if w.N < 0 || w.N > c.size-o.off {
		o.n = max(c.size-o.off, 0)
	}
	c.asked += o.n
	return o, nil
}

// A countingObject was asked for octets when it was opened, which cost nothing more.
type countingObject struct {
	c      *counting
	off, n int64
}

func (o *countingObject) Info() gateway.Info {
	return gateway.Info{Size: o.c.size, Version: "v", Certain: true, Modified: past, Fields: http.Header{"Content-Type": {"application/x-large"}}}
}
func (o *countingObject) Close() error { return nil }

func (o *countingObject) Range(_ context.Context, off, n int64) (io.ReadCloser, error) {
	if o.off != off || o.n != n {
		o.c.asked += n
	}
	return io.NopCloser(&countingReader{o.c, off, off + n}), nil
}

type countingReader struct {
	c       *counting
	at, end int64
}

func (r *countingReader) Read(p []byte) (int, error) {
	p = p[:min(int64(len(p)), r.end-r.at)]
	if len(p) == 0 {
		return 0, io.EOF
	}
	octetsAt(p, r.at)
	r.at += int64(len(p))
	r.c.sent += int64(len(p))
	return len(p), nil
}

// A judge is a client that takes octets and keeps none.
type judge struct {
	head   http.Header
	status int
	right  func(p []byte, at int64) bool
	at     int64 // of the object
	n      int64 // octets that came
	wrong  bool
	most   uint64 // of the heap, now and then
}

func (j *judge) Header() http.Header    { return j.head }
func (j *judge) WriteHeader(status int) { j.status = status }

func (j *judge) Write(p []byte) (int, error) {
	j.wrong = j.wrong || !j.right(p, j.at)
	if j.n>>27 != (j.n+int64(len(p)))>>27 { // each 128 MiB
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		j.most = max(j.most, m.HeapAlloc)
	}
	j.at += int64(len(p))
	j.n += int64(len(p))
	return len(p), nil
}

// asInTable tells whether p is what is at that place.
func asInTable() func(p []byte, at int64) bool {
	buf := make([]byte, 64<<10)
	return func(p []byte, at int64) bool {
		want := buf[:len(p)]
		octetsAt(want, at)
		return bytes.Equal(p, want)
	}
}

func asZeros() func(p []byte, at int64) bool {
	zeros := make([]byte, 64<<10)
	return func(p []byte, _ int64) bool { return bytes.Equal(p, zeros[:len(p)]) }
}

// stream makes a request and checks that it took no memory that counts.
func stream(t *testing.T, h http.Handler, j *judge, target string, fields ...string) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://example.com"+target, nil)
	check(t, err)
	for i := 0; i < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	j.head = http.Header{}
	h.ServeHTTP(j, req)
	runtime.ReadMemStats(&after)
	// What is used goes by the number of reads; the collector lets 4 MiB lie.
	if made := int64(after.TotalAlloc - before.TotalAlloc); made > 2*mib+j.n/100 {
		t.Errorf("%d octets of memory were used for %d of content", made, j.n)
	}
	if j.most > before.HeapAlloc+6*mib {
		t.Errorf("the heap grew from %d to %d octets", before.HeapAlloc, j.most)
	}
	if j.wrong {
		t.Error("the octets are wrong")
	}
}

// A file of 10 GiB, which takes no room on disk. The last quarter GiB of it is
// read, since all of it takes a minute.
func TestLargeFilesTakeNoMemory(t *testing.T) {
	dir := tree(t, nil)
	name := filepath.Join(dir, "large.bin")
	put(t, name, "")
	check(t, os.Truncate(name, 10*gib))
	check(t, os.Chtimes(name, past, past))
	h := serve(t, dir, gateway.Options{})
	tag := get(h, "HEAD", "/large.bin").Header().Get("ETag")
	for _, c := range []struct {
		fields []string
		status int
		n      int64
	}{
		{[]string{"Range", "bytes=-268435456"}, 206, gib / 4},
		{[]string{"Range", "bytes=-1048576"}, 206, mib},
		{[]string{"Range", "bytes=10736369664-", "If-Range", tag}, 206, mib},
		{[]string{"Range", "bytes=10737418239-", "If-Range", date}, 206, 1},
	} {
		j := &judge{right: asZeros()}
		stream(t, h, j, "/large.bin", c.fields...)
		if j.status != c.status || j.n != c.n || j.head.Get("Content-Length") != strconv.FormatInt(c.n, 10) {
			t.Errorf("%v: %d, %d octets, %v", c.fields, j.status, j.n, j.head)
		}
	}
}

// The whole is 1 GiB here, since to make and to judge octets takes time; nothing in
// between knows the difference.
func TestLargeObjectsTakeNoMemory(t *testing.T) {
	c := &counting{size: gib}
	h := gateway.New(c, gateway.Options{})
	j := &judge{right: asInTable()}
	stream(t, h, j, "/large.bin")
	if j.status != 200 || j.n != gib {
		t.Errorf("%d, %d octets, %v", j.status, j.n, j.head)
	}
	if c.sent != gib || c.asked != gib {
		t.Errorf("%d octets were sent, and %d asked for", c.sent, c.asked)
	}
}

func TestEndsOfLargeObjectsCostWhatTheyAre(t *testing.T) {
	const size = 10 * gib
	last := fmt.Sprintf("bytes=%d-", size-mib)
	for _, fields := range [][]string{
		{"Range", last},
		{"Range", "bytes=-1048576"},
		{"Range", fmt.Sprintf("bytes=%d-%d", size-mib, size-1)},
		{"Range", last, "If-Range", `"v"`},
		{"Range", last, "If-Range", date},
		{"Range", last, "If-Match", `"v"`},
		{"Range", last, "If-Unmodified-Since", date},
		{"Range", last, "If-None-Match", `"x", "y"`},
	} {
		c := &counting{size: size}
		h := gateway.New(c, gateway.Options{})
		j := &judge{right: asInTable(), at: size - mib}
		stream(t, h, j, "/large.bin", fields...)
		want := fmt.Sprintf("bytes %d-%d/%d", size-mib, size-1, size)
		if j.status != 206 || j.n != mib || j.head.Get("Content-Range") != want {
			t.Errorf("%v: %d, %d octets, %v", fields, j.status, j.n, j.head)
		}
		if c.sent > 2*mib || c.asked > 2*mib {
			t.Errorf("%v: %d octets were sent, and %d asked for", fields, c.sent, c.asked)
		}
	}
	// Where nothing is sent, nothing is read.
	for _, fields := range [][]string{
		{"Range", last, "If-Match", `"x"`},
		{"Range", last, "If-None-Match", `"v", "x"`},
		{"Range", fmt.Sprintf("bytes=%d-", size)},
	} {
		c := &counting{size: size}
		j := &judge{right: func(p []byte, _ int64) bool { return len(p) < 100 }} // an error in words
		stream(t, gateway.New(c, gateway.Options{}), j, "/large.bin", fields...)
		if c.sent != 0 || j.status < 300 {
			t.Errorf("%v: %d, %d octets were sent", fields, j.status, c.sent)
		}
	}
}
