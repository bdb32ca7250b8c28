package front_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/larderhq/larder/internal/front"
)

// Requests that are taken back at once are no more work than the others: never more than a
// hundred run, each is cancelled, and who does it again and again is cut off (DOS-06).
func TestHTTP2_RapidReset(t *testing.T) {
	var w work
	d := serveSecurely(t, w.asked, front.Limits{})
	c := d.rogue()
	c.runs = true
	c.listen()
	block := request("/long")
	c.flood(100_000, func(i int) error {
		id := uint32(2*i + 1)
		return errors.Join(c.head(id, true, block), c.frames.WriteRSTStream(id, http2.ErrCodeCancel))
	})
	c.ends(soon)
	c.conn.Close()
	d.end()
	t.Logf("%d requests, %d at once", w.all.Load(), w.most.Load())
	if w.most.Load() > atOnce || w.running.Load() != 0 || w.cancelled.Load() != w.all.Load() {
		t.Errorf("%d requests, %d at once, of which %d were cancelled and %d still run", w.all.Load(), w.most.Load(), w.cancelled.Load(), w.running.Load())
	}
}

// Work that does not end when it is cancelled still counts: what a client takes back makes no room
// for more of it (DOS-06).
func TestHTTP2_RapidReset_Deaf(t *testing.T) {
	var w work
	release := make(chan struct{})
	d := serveSecurely(t, func(http.ResponseWriter, *http.Request) {
		defer w.begin()()
		<-release
	}, front.Limits{})
	c := d.rogue()
	c.runs = true
	c.listen()
	block := request("/long")
	c.flood(10_000, func(i int) error {
		id := uint32(2*i + 1)
		return errors.Join(c.head(id, true, block), c.frames.WriteRSTStream(id, http2.ErrCodeCancel))
	})
	c.ends(soon)
	close(release)
	c.conn.Close()
	d.end()
	if w.most.Load() > atOnce {
		t.Errorf("%d requests run at once", w.most.Load())
	}
}

// Who asks for more at once than it may is refused that, and loses nothing of the rest (RFC 9113
// §5.1.2); what it takes back is cancelled (DOS-06).
func TestHTTP2_MoreStreams(t *testing.T) {
	var w work
	d := serveSecurely(t, w.asked, front.Limits{})
	c := d.rogue()
	c.listen()
	const asked = atOnce + 20
	for i := range uint32(asked) {
		c.must(c.head(2*i+1, true, request("/long")))
	}
	c.must(c.out.Flush())
	if !c.until(soon, func() bool { return c.count((*heard).isReset) == asked-atOnce }) {
		t.Errorf("%d streams are reset, %v", c.tally((*heard).isReset), c.fault())
	}
	c.mu.Lock()
	for id, h := range c.streams {
		if h.reset != nil && *h.reset != http2.ErrCodeRefusedStream && *h.reset != http2.ErrCodeProtocol {
			t.Errorf("stream %d is reset with %v", id, h.reset)
		}
	}
	c.mu.Unlock()
	for i := range uint32(atOnce) {
		c.must(c.frames.WriteRSTStream(2*i+1, http2.ErrCodeCancel))
	}
	c.answered(2*asked + 1) // and those before it are cancelled, or it would have no room
	c.conn.Close()
	d.end()
	if w.most.Load() > atOnce || w.cancelled.Load() != w.all.Load() {
		t.Errorf("%d requests, %d at once, of which %d were cancelled", w.all.Load(), w.most.Load(), w.cancelled.Load())
	}
}

// A browser whose user moves on takes back all that it asked for, and is served as before.
func TestHTTP2_Leave(t *testing.T) {
	var w work
	d := serveSecurely(t, w.asked, front.Limits{})
	c := d.rogue()
	c.listen()
	id := uint32(1)
	for range 2 { // pages
		for range atOnce {
			c.must(c.head(id, true, request("/long")))
			id += 2
		}
		for back := id - 2*atOnce; back < id; back += 2 {
			c.must(c.frames.WriteRSTStream(back, http2.ErrCodeCancel))
		}
		c.answered(id)
		id += 2
	}
	c.conn.Close()
	d.end()
}

// A client that has the server reset its requests, by what it sends after them, gets no further
// than one that resets them itself (DOS-07).
func TestHTTP2_MadeYouReset(t *testing.T) {
	block, long := request("/long"), upload("/long", hpack.HeaderField{Name: "content-length", Value: "1"})
	for name, offend := range map[string]func(c *rogue, id uint32) error{
		"WINDOW_UPDATE of nothing": func(c *rogue, id uint32) error {
			return errors.Join(c.head(id, true, block), c.frames.WriteWindowUpdate(id, 0))
		},
		"WINDOW_UPDATE beyond the end": func(c *rogue, id uint32) error {
			return errors.Join(c.head(id, true, block), c.frames.WriteWindowUpdate(id, 1<<31-1))
		},
		"DATA after END_STREAM": func(c *rogue, id uint32) error {
			return errors.Join(c.head(id, true, block), c.frames.WriteData(id, false, []byte("x")))
		},
		"HEADERS after END_STREAM": func(c *rogue, id uint32) error {
			return errors.Join(c.head(id, true, block), c.head(id, true, block))
		},
		"PRIORITY of itself": func(c *rogue, id uint32) error {
			return errors.Join(c.head(id, true, block), c.frames.WritePriority(id, http2.PriorityParam{StreamDep: id}))
		},
		"PRIORITY that is too short": func(c *rogue, id uint32) error {
			return errors.Join(c.head(id, true, block), c.frames.WriteRawFrame(http2.FramePriority, 0, id, []byte("xxxx")))
		},
		"more DATA than was said": func(c *rogue, id uint32) error {
			return errors.Join(c.head(id, false, long), c.frames.WriteData(id, false, []byte("xx")))
		},
		"a head without a path": func(c *rogue, id uint32) error {
			return c.head(id, true, encode([]hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"}}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			var w work
			d := serveSecurely(t, w.asked, front.Limits{})
			c := d.rogue()
			c.runs = true
			c.listen()
			c.flood(20_000, func(i int) error { return offend(c, uint32(2*i+1)) })
			c.ends(soon)
			c.conn.Close()
			d.end()
			if w.most.Load() > atOnce || w.cancelled.Load() != w.all.Load() {
				t.Errorf("%d requests, %d at once, of which %d were cancelled", w.all.Load(), w.most.Load(), w.cancelled.Load())
			}
		})
	}
}

// A head that does not end is the end of the connection, soon after it is longer than one may be
// (DOS-08), also where nothing comes of what is in it.
func TestHTTP2_EndlessHead(t *testing.T) {
	const most = 32 << 10
	field := encode([]hpack.HeaderField{{Name: "x", Value: strings.Repeat("y", 1000)}})
	tiny := encode([]hpack.HeaderField{{Name: "x", Value: "y"}})
	for name, a := range map[string]struct {
		piece []byte
		times int
	}{
		"long fields":  {bytes.Repeat(field, 16), 8 * most / (16 * len(field))},
		"short frames": {tiny, 8 * most / len(tiny)},
		"empty frames": {nil, 20_000},
	} {
		t.Run(name, func(t *testing.T) {
			var w work
			d := serveSecurely(t, w.asked, front.Limits{Head: most})
			c := d.rogue()
			c.listen()
			c.must(c.frames.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: request("/long"), EndStream: true}))
			c.flood(a.times, func(int) error { return c.frames.WriteContinuation(1, false, a.piece) })
			c.ends(soon)
			c.conn.Close()
			d.end()
			if w.all.Load() != 0 {
				t.Error("it was handled")
			}
		})
	}
}

// A flood is frames that bring no request any further.
type flood struct {
	begin func(c *rogue) error
	frame func(c *rogue, i int) error
}

// floods are about stream 1, whose request nobody answers.
var floods = map[string]flood{
	"SETTINGS": {nil, func(c *rogue, _ int) error { return c.frames.WriteSettings() }},
	"SETTINGS that change": {nil, func(c *rogue, i int) error {
		return c.frames.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(i % 2)}, http2.Setting{ID: http2.SettingHeaderTableSize, Val: uint32(i % 4096)})
	}},
	"SETTINGS acknowledged": {nil, func(c *rogue, _ int) error { return c.frames.WriteSettingsAck() }},
	"PING":                  {nil, func(c *rogue, _ int) error { return c.frames.WritePing(false, [8]byte{}) }},
	"PING answered":         {nil, func(c *rogue, _ int) error { return c.frames.WritePing(true, [8]byte{}) }},
	"PRIORITY": {nil, func(c *rogue, i int) error {
		return c.frames.WritePriority(uint32(2*i+3), http2.PriorityParam{StreamDep: uint32(2*i + 1)})
	}},
	"PRIORITY_UPDATE": {nil, func(c *rogue, i int) error {
		return c.frames.WriteRawFrame(http2.FrameType(0x10), 0, 0, append(binary.BigEndian.AppendUint32(nil, uint32(2*i+3)), "u=1"...))
	}},
	"unknown frames": {nil, func(c *rogue, _ int) error { return c.frames.WriteRawFrame(http2.FrameType(0xee), 0, 0, nil) }},
	"empty DATA": {
		func(c *rogue) error { return c.head(1, false, upload("/long")) },
		func(c *rogue, _ int) error { return c.frames.WriteData(1, false, nil) },
	},
	"padding": {
		func(c *rogue) error { return c.head(1, false, upload("/long")) },
		func(c *rogue, _ int) error { return c.frames.WriteDataPadded(1, false, nil, make([]byte, 1)) },
	},
	"WINDOW_UPDATE": {nil, func(c *rogue, _ int) error { return c.frames.WriteWindowUpdate(0, 1) }},
	"WINDOW_UPDATE of a stream": {
		func(c *rogue) error { return c.head(1, true, request("/long")) },
		func(c *rogue, _ int) error { return c.frames.WriteWindowUpdate(1, 1) },
	},
	"WINDOW_UPDATE of what has ended": {
		func(c *rogue) error { return c.head(1, true, request("/small")) },
		func(c *rogue, _ int) error { return c.frames.WriteWindowUpdate(1, 1) },
	},
	"RST_STREAM of what has ended": {
		func(c *rogue) error { return c.head(1, true, request("/small")) },
		func(c *rogue, _ int) error { return c.frames.WriteRSTStream(1, http2.ErrCodeCancel) },
	},
}

// Frames that bring no request any further are taken up to a number, and that is the end of the
// connection; also where the client takes nothing of what they have to be answered with (DOS-09).
func TestHTTP2_Floods(t *testing.T) {
	const stall = time.Second
	for name, a := range floods {
		for _, deaf := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/deaf %v", name, deaf), func(t *testing.T) {
				var w work
				d := serveSecurely(t, w.asked, front.Limits{StallTimeout: stall})
				c := d.rogue()
				if !deaf {
					c.listen()
				}
				if a.begin != nil {
					c.must(a.begin(c))
				}
				c.must(c.conn.SetWriteDeadline(time.Now().Add(20 * time.Second))) // the server may have stopped reading
				c.flood(100_000, func(i int) error { return a.frame(c, i) })
				c.ends(soon)
				c.conn.Close()
				d.end()
			})
		}
	}
}

// What a client has not taken yet is not waiting in memory, however many requests there are, and
// however much it says that it would take (DOS-09).
func TestHTTP2_Deaf(t *testing.T) {
	const stall = time.Second
	piece := make([]byte, 32<<10)
	var w work
	d := serveSecurely(t, func(rw http.ResponseWriter, _ *http.Request) {
		defer w.begin()()
		for range 64 << 20 / len(piece) {
			if _, err := rw.Write(piece); err != nil {
				return
			}
		}
	}, front.Limits{StallTimeout: stall})
	c := d.rogue(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
	c.runs = true
	c.must(c.frames.WriteWindowUpdate(0, 1<<31-1-65535))
	s := c.weigh()
	for i := range uint32(atOnce) {
		c.must(c.head(2*i+1, true, request("/large")))
	}
	c.must(c.out.Flush())
	for late := time.Now().Add(soon); w.running.Load() < atOnce && time.Now().Before(late); {
		s.look()
	}
	s.look()
	s.judge()
	wait(t, 2*stall+soon, func() bool { return w.running.Load() == 0 }) // nobody has read anything so far
	c.ends(soon)
	d.end()
}

// wait waits until something is so.
func wait(t *testing.T, limit time.Duration, so func() bool) {
	t.Helper()
	beat := time.NewTicker(10 * time.Millisecond)
	defer beat.Stop()
	for late := time.After(limit); !so(); {
		select {
		case <-late:
			t.Error("it is not so in time")
			return
		case <-beat.C:
		}
	}
}

// A hundred answers for which the client leaves no room are given up when it is time, large or
// small; its connection lives on (DOS-09, DOS-10).
func TestHTTP2_NoRoom(t *testing.T) {
	const stall = 500 * time.Millisecond
	for name, size := range map[string]int{"small": 100, "large": 10 << 20} {
		t.Run(name, func(t *testing.T) {
			body := make([]byte, size)
			d := serveSecurely(t, func(rw http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/small" {
					return
				}
				_, _ = rw.Write(body)
			}, front.Limits{StallTimeout: stall})
			c := d.rogue(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
			c.runs = true
			c.listen()
			s := c.weigh()
			for i := range uint32(atOnce) {
				c.must(c.head(2*i+1, true, request("/stalled")))
			}
			c.must(c.out.Flush())
			s.look()
			s.judge()
			begun := time.Now()
			if !c.until(stall+soon, func() bool { return c.count((*heard).isReset) == atOnce }) {
				t.Errorf("%d streams are reset, %v", c.tally((*heard).isReset), c.fault())
			}
			if waited := time.Since(begun); waited < stall/2 {
				t.Errorf("they are reset after %v", waited)
			}
			c.answered(2*atOnce + 1) // which has no body
			c.conn.Close()
			d.end()
		})
	}
}

// Room that comes octet by octet keeps nobody busy for ever (DOS-09).
func TestHTTP2_Dribble(t *testing.T) {
	body := make([]byte, 10<<20)
	d := serveSecurely(t, func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(body) }, front.Limits{})
	c := d.rogue(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	c.listen()
	c.must(c.frames.WriteWindowUpdate(0, 1<<20))
	c.must(c.head(1, true, request("/large")))
	c.flood(100_000, func(int) error { return c.frames.WriteWindowUpdate(1, 1) })
	if !c.until(soon, func() bool { return c.of(1).isReset() || c.err != nil }) {
		t.Errorf("it is still served, and has %d octets", c.said(1).octets)
	}
	c.conn.Close()
	d.end()
}

// A client that takes much, or sends much, needs many frames to say so, and is served.
func TestHTTP2_Busy(t *testing.T) {
	const size = 32 << 20
	d := serveSecurely(t, func(rw http.ResponseWriter, r *http.Request) {
		if n, err := io.Copy(io.Discard, r.Body); err != nil || r.Method == http.MethodPost && n != size/4 {
			t.Errorf("of an upload come %d octets, %v", n, err)
		}
		if r.Method == http.MethodGet {
			_, _ = rw.Write(make([]byte, size))
		}
	}, front.Limits{})
	second := new(http.Protocols)
	second.SetHTTP2(true)
	tr := &http.Transport{TLSClientConfig: d.trust, Protocols: second}
	for _, method := range []string{http.MethodGet, http.MethodGet, http.MethodPost} {
		var upload io.Reader
		want := int64(size)
		if method == http.MethodPost {
			upload, want = pieces{io.LimitReader(zeros{}, size/4)}, 0
		}
		r, err := http.NewRequestWithContext(t.Context(), method, "https://"+d.addr, upload)
		if err != nil {
			t.Fatal(err)
		}
		a, err := tr.RoundTrip(r)
		if err != nil {
			t.Errorf("%s: %v", method, err)
			continue
		}
		if n, err := io.Copy(io.Discard, a.Body); err != nil || n != want || a.StatusCode != http.StatusOK || a.ProtoMajor != 2 {
			t.Errorf("%s: %s, %d octets, %v", method, a.Status, n, err)
		}
		a.Body.Close()
	}
	tr.CloseIdleConnections()
	d.end()
}

// zeros is an endless body.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// pieces is a body that comes in pieces of 512 octets, each of which makes a frame.
type pieces struct{ io.Reader }

func (p pieces) Read(b []byte) (int, error) { return p.Reader.Read(b[:min(512, len(b))]) }

// What a few octets stand for is counted as what it is, before anybody gets to see it (DOS-10,
// DOS-14). The client learns why, or loses the connection.
func TestHTTP2_Bombs(t *testing.T) {
	large := strings.Repeat("y", 4000)
	repeat := func(name, value string, times int) []byte { // of one entry in the dynamic table
		block := append(request("/long"), 0x40, byte(len(name)))
		block = append(block, name...)
		n := len(value) - 127
		block = append(block, 0x7f, byte(n)|0x80, byte(n>>7))
		block = append(block, value...)
		return append(block, bytes.Repeat([]byte{0x80 | 62}, times)...)
	}
	tiny := make([]hpack.HeaderField, 10_000)
	for i := range tiny {
		tiny[i] = hpack.HeaderField{Name: fmt.Sprint("x", i), Value: "y"}
	}
	for name, block := range map[string][]byte{
		"one entry 25,000 times":       repeat("x", large, 25_000),
		"one cookie 25,000 times":      repeat("cookie", large, 25_000),
		"10,000 fields":                request("/long", tiny...),
		"a mebibyte of cookies":        request("/long", hpack.HeaderField{Name: "cookie", Value: strings.Repeat("a=;", 1<<20/3)}),
		"25,000 crumbs of a cookie":    append(request("/long"), bytes.Repeat([]byte{0x10 | 0x0f, 32 - 15, 2, 'a', '='}, 25_000)...),
		"25,000 empty values":          append(request("/long"), bytes.Repeat([]byte{0x80 | 19}, 25_000)...),
		"25,000 fields without a name": append(request("/long"), bytes.Repeat([]byte{0, 0, 0}, 25_000)...),
		"a field of 40,000 octets":     request("/long", hpack.HeaderField{Name: "x", Value: strings.Repeat("y", 40_000)}),
		"a path of 40,000 octets":      request("/" + strings.Repeat("y", 40_000)),
	} {
		t.Run(name, func(t *testing.T) {
			var w work
			d := serveSecurely(t, w.asked, front.Limits{})
			c := d.rogue()
			c.listen()
			const times = 20
			c.flood(times, func(i int) error { return c.head(uint32(2*i+1), true, block) })
			if !c.until(soon, func() bool {
				return c.err != nil || c.count((*heard).isOver) == times
			}) {
				t.Errorf("of %d requests %d are over", times, c.tally((*heard).isOver))
			}
			c.conn.Close()
			<-c.over
			for id, h := range c.streams {
				if h.status != "" && h.status != "431" && h.status != "400" && h.status != "414" {
					t.Errorf("stream %d: %+v", id, *h)
				}
			}
			t.Logf("of %d requests %d are over, %v", times, c.count((*heard).isOver), c.err)
			d.end()
			if w.all.Load() != 0 {
				t.Errorf("%d were handled", w.all.Load())
			}
		})
	}
}

// The dynamic table is no larger than was offered, and what stands in it for many requests that
// are held up is held once (DOS-10).
func TestHTTP2_BombsAtRest(t *testing.T) {
	var w work
	d := serveSecurely(t, w.asked, front.Limits{})
	c := d.rogue(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	c.runs = true
	c.listen()
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	s := c.weigh()
	for i := range uint32(atOnce) {
		block.Reset()
		for _, f := range []hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: "h.example"}, {Name: ":path", Value: "/long"}} {
			_ = e.WriteField(f)
		}
		for range 7 { // 28 KB, in one octet each but for the first
			_ = e.WriteField(hpack.HeaderField{Name: "x", Value: strings.Repeat("y", 3900)})
		}
		c.must(c.head(2*i+1, true, block.Bytes()))
	}
	c.must(c.out.Flush())
	for late := time.Now().Add(soon); w.running.Load() < atOnce && time.Now().Before(late); {
		s.look()
	}
	s.look()
	if w.running.Load() != atOnce {
		t.Errorf("%d requests run, %v", w.running.Load(), c.fault())
	}
	s.judge()
	c.conn.Close()
	d.end()
}

// The crumbs of one cookie are one field, as browsers send it (RFC 9113 §8.2.3).
func TestHTTP2_Crumbs(t *testing.T) {
	got := make(chan []string, 1)
	d := serveSecurely(t, func(_ http.ResponseWriter, r *http.Request) { got <- r.Header["Cookie"] }, front.Limits{Fields: 100})
	c := d.rogue()
	crumbs, want := make([]hpack.HeaderField, 150), make([]string, 150)
	for i := range crumbs {
		want[i] = fmt.Sprintf("c%d=v", i)
		crumbs[i] = hpack.HeaderField{Name: "cookie", Value: want[i]}
	}
	c.must(c.head(1, true, request("/small", crumbs...)))
	c.must(c.out.Flush())
	if !c.until(soon, func() bool { return c.of(1).isOver() }) || c.said(1).status != "200" {
		t.Fatalf("%+v, %v", c.said(1), c.fault())
	}
	if cookies := <-got; len(cookies) != 1 || cookies[0] != strings.Join(want, "; ") {
		t.Errorf("the handler gets %q", cookies)
	}
	c.conn.Close()
	d.end()
}

// A head has so long, however it comes, and whatever else runs on its connection (DOS-03).
func TestHTTP2_SlowHeads(t *testing.T) {
	const patience = 500 * time.Millisecond
	var frame bytes.Buffer
	_ = http2.NewFramer(&frame, nil).WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: request("/long"), EndStream: true, EndHeaders: true})
	for name, drip := range map[string]func(c *rogue, i int) error{
		"CONTINUATION that never ends": func(c *rogue, i int) error {
			if i == 0 {
				return c.frames.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: request("/long"), EndStream: true})
			}
			return c.frames.WriteContinuation(3, false, []byte{0x80 | 19})
		},
		"HEADERS, and no more": func(c *rogue, i int) error {
			if i == 0 {
				return c.frames.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: request("/long"), EndStream: true})
			}
			return nil
		},
		"octet by octet": func(c *rogue, i int) error {
			if i >= frame.Len()-1 {
				return nil // all but the last
			}
			return c.out.WriteByte(frame.Bytes()[i])
		},
	} {
		for _, busy := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/busy %v", name, busy), func(t *testing.T) {
				var w work
				d := serveSecurely(t, w.asked, front.Limits{HeadTimeout: patience, IdleTimeout: time.Minute})
				c := d.rogue()
				if busy {
					c.must(c.head(1, true, request("/long")))
				} else {
					c.answered(1)
				}
				c.drip(patience/10, func(i int) error { return drip(c, i) })
				c.conn.Close()
				d.end()
				if n := w.all.Load(); n > 1 || n == 1 && !busy {
					t.Error("it was handled")
				}
			})
		}
	}
}

// drip writes again and again, which the server has to put an end to.
func (c *rogue) drip(every time.Duration, write func(i int) error) {
	c.t.Helper()
	c.listen()
	begun, beat := time.Now(), time.NewTicker(every)
	defer beat.Stop()
	for i, late := 0, time.After(soon); ; i++ {
		_ = errors.Join(write(i), c.out.Flush()) // it fails when the connection has ended
		select {
		case <-c.over:
			c.t.Logf("ended after %v", time.Since(begun))
			return
		case <-late:
			c.t.Errorf("after %v the connection is still there", time.Since(begun))
			return
		case <-beat.C:
		}
	}
}

// Who is let in and then says nothing, or half of something, is let go when its time is over, be
// that HTTP/2 that does not begin or a record of TLS that does not end (DOS-03).
func TestTLS_Stalled(t *testing.T) {
	const patience = 300 * time.Millisecond
	for name, says := range map[string]string{
		"nothing": "", "half a preface": http2.ClientPreface[:10], "a preface": http2.ClientPreface,
		"half of SETTINGS": http2.ClientPreface + "\x00\x00\x00\x04",
	} {
		t.Run(name, func(t *testing.T) {
			d := serveSecurely(t, func(http.ResponseWriter, *http.Request) { t.Error("somebody was served") }, front.Limits{HeadTimeout: patience, IdleTimeout: patience})
			c := d.connect()
			if _, err := io.WriteString(c, says); err != nil {
				t.Fatal(err)
			}
			letGo(t, c)
			d.end()
		})
	}
	for name, drip := range map[string]bool{"half a record": false, "a record octet by octet": true} {
		t.Run(name, func(t *testing.T) {
			d := serveSecurely(t, func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "small") }, front.Limits{HeadTimeout: patience, IdleTimeout: patience})
			c := d.rogue()
			c.answered(1)
			raw := c.conn.NetConn()
			record := append([]byte{23, 3, 3, 0x40, 0}, make([]byte, 0x4000)...)
			begun, beat := time.Now(), time.NewTicker(patience/10)
			defer beat.Stop()
			_, _ = raw.Write(record[:100])
			for i := 100; ; i++ {
				select {
				case <-c.over:
				case <-beat.C:
					if drip {
						_, _ = raw.Write(record[i : i+1]) // it fails when the connection has ended
					}
					if time.Since(begun) < patience+soon {
						continue
					}
					t.Error("the connection is still there")
				}
				break
			}
			c.conn.Close()
			d.end()
		})
	}
}

// letGo waits until the server has ended a connection.
func letGo(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(soon))
	if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is still there")
	}
}

// A request that comes before both have agreed on keys could be anybody's, sent again: who offers
// to send some is not let in (DOS-13).
func TestTLS_EarlyData(t *testing.T) {
	var served atomic.Bool
	d := serveSecurely(t, func(http.ResponseWriter, *http.Request) { served.Store(true) }, front.Limits{HeadTimeout: time.Second})
	hello := d.hello()
	early := withExtension(hello, 42) // early_data (RFC 8446 §4.2.10)
	const handshake, alert = 22, 21
	for name, says := range map[string]struct {
		octets []byte
		answer byte
	}{"a hello": {hello, handshake}, "a hello with early data": {append(early, 23, 3, 3, 0, 5, 'h', 'e', 'l', 'l', 'o'), alert}} {
		c, err := net.Dial("tcp", d.addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(says.octets); err != nil {
			t.Error(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(soon))
		if kind, err := bufio.NewReader(c).ReadByte(); kind != says.answer || err != nil {
			t.Errorf("%s is answered with a record of type %d, %v; want %d", name, kind, err, says.answer)
		}
		c.Close()
	}
	d.end()
	if served.Load() {
		t.Error("something was served")
	}
}

// hello is the first record that a client sends.
func (s *secureServer) hello() []byte {
	here, there := net.Pipe()
	ctx, cancel := context.WithTimeout(s.t.Context(), soon)
	defer cancel()
	go func() { _ = tls.Client(here, s.trust).HandshakeContext(ctx) }() // it ends with the pipe
	defer here.Close()
	head := make([]byte, 5)
	if _, err := io.ReadFull(there, head); err != nil {
		s.t.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint16(head[3:]))
	if _, err := io.ReadFull(there, body); err != nil {
		s.t.Fatal(err)
	}
	return append(head, body...)
}

// withExtension adds an empty extension to a hello: record, message, version, random, session,
// ciphers, compressions, extensions (RFC 8446 §4.1.2).
func withExtension(hello []byte, kind uint16) []byte {
	h := bytes.Clone(hello)
	at := 5 + 4 + 2 + 32
	at += 1 + int(h[at])
	at += 2 + int(binary.BigEndian.Uint16(h[at:]))
	at += 1 + int(h[at])
	h = binary.BigEndian.AppendUint16(h, kind)
	h = binary.BigEndian.AppendUint16(h, 0)
	for _, length := range []int{3, 7, at} { // the message has three octets, of which the first is 0
		binary.BigEndian.PutUint16(h[length:], binary.BigEndian.Uint16(h[length:])+4)
	}
	return h
}
