package h2

import (
	"io"
	"net"
	"testing"

	"golang.org/x/net/http2"
)

// A sink is a connection that has the same octets come as often as it is asked, and takes all.
type sink struct {
	net.Conn
	batches chan []byte
	wrote   int
	writes  int
}

func (s *sink) Read(p []byte) (int, error) {
	b, ok := <-s.batches
	if !ok {
		return 0, io.EOF
	}
	return copy(p, b), nil
}

func (s *sink) Write(p []byte) (int, error) {
	s.wrote += len(p)
	s.writes++
	return len(p), nil
}

// hits makes a connection on which ten requests are to be answered at once, for /small, and
// returns what has them come and waits for their answers.
func hits(t testing.TB) (s *sink, c *conn, batch func()) {
	f := &shelf{bodies: map[string][]byte{"/small": []byte(text(1000))}}
	here, _ := net.Pipe()
	s = &sink{Conn: here}
	c = newConn(New(f.prompt(options(nil))), s, nil)
	in := append([]byte(Preface), appendFrameHeader(nil, 0, frameSettings, 0, 0)...)
	in = appendWindowUpdate(in, 0, 1<<30)
	take := func(in []byte) {
		c.in = in
		if used, err := c.batch(); used != len(in) || err != nil {
			t.Fatalf("%d of %d octets are used: %v", used, len(in), err)
		}
	}
	for len(in) > 0 { // the preface is a batch of its own
		take(in)
		in = nil
	}
	id := uint32(1)
	block := appendField(appendField([]byte{0x82, 0x87, 0x41, 9, 'h', '.', 'e', 'x', 'a', 'm', 'p', 'l', 'e'}, ":path", "/small"), "user-agent", "a browser")
	block = appendField(appendField(block, "cookie", "a=b"), "cookie", "c=d")
	var room []byte
	return s, c, func() {
		room = room[:0]
		for range 10 {
			room = appendHeaders(room, id, block, true)
			id += 2
		}
		room = appendWindowUpdate(room, 0, 10*1000)
		take(room)
	}
}

// What is at hand is answered with no allocation, and ten such answers in one write.
func TestHitsAllocate(t *testing.T) {
	s, _, batch := hits(t)
	batch()
	before := s.wrote
	writes := s.writes
	if n := testing.AllocsPerRun(100, batch); n > lost {
		t.Errorf("ten hits allocate %v times", n)
	}
	const runs = 101 // one is for warming up
	if got := s.wrote - before; got < runs*10*1000 || s.writes-writes != runs {
		t.Errorf("%d octets went out in %d writes", got, s.writes-writes)
	}
}

// Also where more is answered than one write takes.
func TestManyHitsAllocate(t *testing.T) {
	_, _, batch := hits(t)
	six := func() {
		for range 6 {
			batch()
		}
	}
	six()
	if n := testing.AllocsPerRun(20, six); n > 12*lost {
		t.Errorf("sixty hits allocate %v times", n)
	}
}

// BenchmarkHits is of one hit, of ten that come together.
func BenchmarkHits(b *testing.B) {
	_, _, batch := hits(b)
	b.ReportAllocs()
	for range b.N/10 + 1 {
		batch()
	}
}

// BenchmarkLoopback is of one hit by a loopback connection, of ten that were asked together.
func BenchmarkLoopback(b *testing.B) {
	f := &shelf{bodies: map[string][]byte{"/small": []byte(text(1000))}}
	nc, err := net.Dial("tcp", serveLoopback(b, f.prompt(options(nil))))
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	fr := http2.NewFramer(nc, nc)
	in := append([]byte(Preface), appendFrameHeader(nil, 0, frameSettings, 0, 0)...)
	in = appendWindowUpdate(in, 0, 1<<30)
	block := appendField([]byte{0x82, 0x87, 0x41, 9, 'h', '.', 'e', 'x', 'a', 'm', 'p', 'l', 'e'}, ":path", "/small")
	b.ReportAllocs()
	id := uint32(1)
	for n := 0; n < b.N; n += 10 {
		for range 10 {
			in = appendHeaders(in, id, block, true)
			id += 2
		}
		if _, err := nc.Write(appendWindowUpdate(in, 0, 10_000)); err != nil {
			b.Fatal(err)
		}
		in = in[:0]
		for ended := 0; ended < 10; {
			h, err := fr.ReadFrame()
			if err != nil {
				b.Fatal(err)
			}
			if d, ok := h.(*http2.DataFrame); ok && d.StreamEnded() {
				ended++
			}
		}
	}
}
