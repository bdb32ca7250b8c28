package h2

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"golang.org/x/net/http2"
)

// Of more requests at once than were allowed, the others are refused, and can be asked again.
func TestTooManyStreams(t *testing.T) {
	hold := make(gate)
	c := dial(t, options(func(_ http.ResponseWriter, r *http.Request) { hold.pass(r) }))
	for i := range uint32(Streams) {
		c.get(1+2*i, "/")
	}
	c.get(1001, "/")
	c.answer(1001).wasReset(t, http2.ErrCodeRefusedStream)
	close(hold)
	for i := range uint32(Streams) {
		c.answer(1+2*i).wants(t, 200, "")
	}
	c.get(1003, "/")
	c.answer(1003).wants(t, 200, "")
}

// A client that has as many requests running as it may asks the next one as soon as one is
// answered.
func TestNextStream(t *testing.T) {
	hold := make(gate)
	defer close(hold)
	c := dial(t, options(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hold":
			hold.pass(r)
		case "/trailers":
			w.Header().Set("Trailer", "X")
			w.(http.Flusher).Flush()
			w.Header().Set("X", "y")
		case "/body":
			_, _ = io.WriteString(w, "body")
		case "/flushed":
			_, _ = io.WriteString(w, "body")
			w.(http.Flusher).Flush()
		}
	}))
	id := uint32(1)
	for range Streams - 1 {
		c.get(id, "/hold")
		id += 2
	}
	for range 200 {
		for _, path := range []string{"/", "/body", "/flushed", "/trailers"} {
			c.get(id, path)
			if a := c.answer(id); !a.whole {
				t.Fatalf("%s, stream %d was reset: %v", path, id, a.code)
			}
			id += 2
		}
	}
}

// A client that gives all of its requests up may ask others at once, though the Handlers of the
// first ones have not noticed. Handlers do not get more and more by that.
func TestOrphans(t *testing.T) {
	var running, most, all atomic.Int32
	hold := make(chan struct{})
	c := dial(t, options(func(http.ResponseWriter, *http.Request) {
		if all.Add(1); running.Add(1) > most.Load() {
			most.Store(running.Load())
		}
		<-hold // whatever the client wants
		running.Add(-1)
	}))
	id := uint32(1)
	for range 2 {
		for i := range uint32(Streams) {
			c.get(id+2*i, "/")
		}
		for range Streams {
			c.must(c.fr.WriteRSTStream(id, http2.ErrCodeCancel))
			id += 2
		}
	}
	c.get(id, "/")
	c.pong()
	if len(c.goAway) > 0 || c.of(id).reset {
		t.Fatal("who asks again is refused")
	}
	if n := all.Load(); n > Streams {
		t.Errorf("%d Handlers run", n)
	}
	close(hold)
	if status := c.answer(id).status; status != 200 {
		t.Errorf("the answer is %d", status)
	}
	if n, m := all.Load(), most.Load(); n != Streams+1 || m > Streams {
		t.Errorf("%d Handlers ran, %d at once", n, m)
	}
}

// Floods end the connection: of what asks for nothing, and of streams that come to nothing.
func TestFloods(t *testing.T) {
	cancel := []byte{0, 0, 0, 8}
	frame := func(kind, flags byte, id uint32, p []byte) []byte {
		return append(appendFrameHeader(nil, len(p), kind, flags, id), p...)
	}
	block := wideHead()
	for name, test := range map[string]struct {
		frames func(i uint32) []byte
		most   int // of them that are taken
	}{
		"PING":            {func(uint32) []byte { return frame(framePing, 0, 0, make([]byte, 8)) }, 10_000},
		"PING answers":    {func(uint32) []byte { return frame(framePing, flagAck, 0, make([]byte, 8)) }, 10_000},
		"SETTINGS":        {func(uint32) []byte { return frame(frameSettings, 0, 0, nil) }, 10_000},
		"PRIORITY":        {func(uint32) []byte { return frame(framePriority, 0, 7, make([]byte, 5)) }, 10_000},
		"PRIORITY_UPDATE": {func(uint32) []byte { return frame(framePriorityUpdate, 0, 0, []byte{0, 0, 0, 1}) }, 10_000},
		"unknown":         {func(uint32) []byte { return frame(0x77, 0, 0, nil) }, 10_000},
		"WINDOW_UPDATE":   {func(uint32) []byte { return frame(frameWindowUpdate, 0, 0, []byte{0, 0, 0, 1}) }, 10_000},
		"empty DATA":      {func(uint32) []byte { return frame(frameData, 0, 1, nil) }, 1000},
		"padding":         {func(uint32) []byte { return frame(frameData, flagPadded, 1, []byte{2, 0, 0}) }, 1000},
		"empty CONTINUATION": {func(i uint32) []byte {
			if i == 0 {
				return frame(frameHeaders, 0, 3, nil)
			}
			return frame(frameContinuation, 0, 3, nil)
		}, 101},
		"long CONTINUATION": {func(i uint32) []byte {
			if i == 0 {
				return frame(frameHeaders, 0, 3, nil)
			}
			return frame(frameContinuation, 0, 3, make([]byte, 9000))
		}, 8},
		"rapid reset": {func(i uint32) []byte {
			return append(frame(frameHeaders, flagEndHeaders|flagEndStream, 3+2*i, block), frame(frameReset, 0, 3+2*i, cancel)...)
		}, 200},
		"made you reset by WINDOW_UPDATE": {func(i uint32) []byte {
			return append(frame(frameHeaders, flagEndHeaders|flagEndStream, 3+2*i, block), frame(frameWindowUpdate, 0, 3+2*i, make([]byte, 4))...)
		}, 200},
		"made you reset by DATA": {func(i uint32) []byte {
			return append(frame(frameHeaders, flagEndHeaders|flagEndStream, 3+2*i, block), frame(frameData, 0, 3+2*i, []byte{1})...)
		}, 200},
		"made you reset by PRIORITY": {func(i uint32) []byte {
			return append(frame(frameHeaders, flagEndHeaders|flagEndStream, 3+2*i, block), frame(framePriority, 0, 3+2*i, []byte{1})...)
		}, 200},
		"malformed": {func(i uint32) []byte { return frame(frameHeaders, flagEndHeaders|flagEndStream, 3+2*i, nil) }, 200},
		"too large": {func(i uint32) []byte {
			return frame(frameHeaders, flagEndHeaders|flagEndStream, 3+2*i, bytes.Repeat([]byte{0x82}, 1100))
		}, 200},
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, options(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
			c.ask(1, false, "POST", "/")
			c.pong()
			taken := 0
			for i := range uint32(20_000) {
				if _, err := c.nc.Write(test.frames(i)); err != nil {
					break
				}
				taken++
			}
			if e := c.gone(); e.code != http2.ErrCodeEnhanceYourCalm {
				t.Errorf("the connection ended with %v", e.code)
			}
			if taken > test.most+3*Streams || taken < test.most/2 { // what is refused for other reasons, and a tick or two
				t.Errorf("%d were taken", taken)
			}
		})
	}
}

// wideHead is the block of a plain request.
func wideHead() []byte {
	b := []byte{0x82, 0x86, 0x84}
	return appendField(b, ":authority", "h.example")
}

// A browser that leaves a page gives a hundred images up, and those of the next one.
func TestManyImages(t *testing.T) {
	c := dial(t, options(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/image" {
			<-r.Context().Done()
		}
	}))
	id := uint32(1)
	for range 2 {
		first := id
		for range Streams - 1 {
			c.get(id, "/image")
			id += 2
		}
		c.pong()
		for ; first < id; first += 2 {
			c.must(c.fr.WriteRSTStream(first, http2.ErrCodeCancel))
		}
		c.get(id, "/")
		c.answer(id).wants(t, 200, "")
		id += 2
	}
}

// A client may say of each 4 KiB that it has them, to both windows, as Go's does whose body is
// read through a small buffer.
func TestManyWindowUpdates(t *testing.T) {
	const size = 60 << 20
	zeros := make([]byte, 64<<10)
	c := begin(t, options(func(w http.ResponseWriter, _ *http.Request) {
		for range size / len(zeros) {
			_, _ = w.Write(zeros)
		}
	}))
	c.credit = false
	c.preface()
	c.get(1, "/")
	a, had := c.of(1), 0
	for !a.over() {
		if _, more := c.next(); !more {
			t.Fatalf("the connection ended after %d octets: %v", had+len(a.body), c.goAway)
		}
		for ; len(a.body) >= 4096; had += 4096 {
			a.body = a.body[4096:]
			_ = c.fr.WriteWindowUpdate(0, 4096)
			_ = c.fr.WriteWindowUpdate(1, 4096)
		}
	}
	if !a.whole || had+len(a.body) != size {
		t.Errorf("whole %v, %d octets", a.whole, had)
	}
}

// A head that is cut where a frame has to end costs no more than another one.
func TestLongHeads(t *testing.T) {
	c := dial(t, options(func(http.ResponseWriter, *http.Request) {}))
	cookie := strings.Repeat("c", frameLen)
	for i := range uint32(300) {
		block := appendField(bytes.Clone(wideHead()), "cookie", cookie)
		c.raw(appendHeaders(nil, 1+2*i, block, true))
		c.answer(1+2*i).wants(t, 200, "")
	}
}

// A head that is too long, or has too many lines, is answered; what follows is served.
func TestTooLarge(t *testing.T) {
	c := dial(t, options(echo))
	c.get(1, "/", "x", strings.Repeat("v", 33<<10))
	c.answer(1).wants(t, 431, "")
	var lines []string
	for range 101 {
		lines = append(lines, "x", "")
	}
	c.get(3, "/", lines...)
	c.answer(3).wants(t, 431, "")
	c.ask(5, false, "POST", "/", lines...)
	a := c.answer(5)
	c.until("the rest is not wanted", func() bool { return a.reset })
	if a.status != 431 || a.code != http2.ErrCodeNo {
		t.Errorf("status %d, reset with %v", a.status, a.code)
	}
	c.get(7, "/", lines[:200]...)
	c.answer(7).wants(t, 200, "")
}

// Heads are kept for so many octets; then requests are refused until some are answered.
func TestHeldHeads(t *testing.T) {
	hold := make(gate)
	c := dial(t, options(func(_ http.ResponseWriter, r *http.Request) { hold.pass(r) }))
	large := strings.Repeat("v", 10_000)
	for i := range uint32(60) {
		c.get(1+2*i, "/", "x", large, "y", large, "z", large)
	}
	c.pong()
	refused := 0
	for _, a := range c.answers {
		if a.reset && a.code == http2.ErrCodeRefusedStream {
			refused++
		}
	}
	if most := mostHeld / 30_000; refused < 60-most || refused == 60 {
		t.Errorf("%d of 60 were refused", refused)
	}
	close(hold)
	c.answer(1).wants(t, 200, "")
	c.pong()
	c.get(1001, "/", "x", large)
	c.answer(1001).wants(t, 200, "")
}

// A client that does not read has a Handler wait that says much, not all of it kept.
func TestUnreadInterim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said atomic.Int32
		c := begin(t, options(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X", text(1000))
			for r.Context().Err() == nil && said.Load() < 100_000 {
				w.WriteHeader(103)
				said.Add(1)
			}
		}))
		c.preface()
		<-c.ears
		c.get(1, "/")
		c.get(3, "/")
		synctest.Wait()
		if n := said.Load(); n > 200 {
			t.Errorf("%d interim responses are kept", n)
		}
		c.ears <- struct{}{}
	})
}

// hostile has a connection hold as much as it can.
func hostile(c *client) {
	c.credit = false
	c.must(c.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}))
	var lines []string
	for i := range 95 {
		lines = append(lines, "x"+strconv.Itoa(i), "")
	}
	id := uint32(1)
	for left := connWindow; left > 0; left -= streamWindow { // as much content as there is room for, which nobody reads
		c.ask(id, false, "POST", "/", lines...)
		for range min(left, streamWindow) / frameLen {
			c.must(c.fr.WriteData(id, false, make([]byte, frameLen)))
		}
		id += 2
	}
	for ; id < 2*Streams; id += 2 { // heads of many lines that cost next to nothing
		c.get(id, "/", lines...)
	}
	for range 3 { // a table that is full, and a head that is not whole
		c.get(id, "/", "n", text(3000))
		id += 2
	}
	c.pong()
	c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: make([]byte, 0)}))
	for range 2 {
		c.must(c.fr.WriteContinuation(id, false, bytes.Repeat([]byte{0x82}, 16<<10)))
	}
}

// A connection holds no more than a mebibyte, whatever its client does.
func TestMemory(t *testing.T) {
	const n = 8
	inUse := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc) + int64(m.StackInuse)
	}
	var clients []*client
	for range n {
		clients = append(clients, dial(t, options(func(_ http.ResponseWriter, r *http.Request) {
			_, _ = r.Body.Read(make([]byte, 1))
			<-r.Context().Done()
		})))
	}
	before := inUse()
	for _, c := range clients {
		hostile(c)
	}
	each := (inUse() - before) / n
	t.Logf("%d KiB for each connection", each>>10)
	if each > mostMiBs<<20 {
		t.Errorf("%d KiB for each connection", each>>10)
	}
	runtime.KeepAlive(clients)
}

// Octets that are no HTTP/2 yet are not taken for the length of a frame.
func TestHalfPreface(t *testing.T) {
	here, _ := net.Pipe()
	c := newConn(New(options(nil)), here, nil)
	c.writing = true // nothing goes out
	c.in = []byte(Preface)[:15]
	if used, err := c.batch(); used != 0 || err != nil || c.need(c.in) != 0 {
		t.Errorf("used %d, %v; it needs %d octets", used, err, c.need(c.in))
	}
}
