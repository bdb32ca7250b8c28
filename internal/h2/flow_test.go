package h2

import (
	"bytes"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/http2"
)

// text has n octets, no 251 of which are the next ones.
func text(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(' ' + i%251%94)
	}
	return string(b)
}

func writer(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }
}

// send sends content as the windows allow, in frames of n octets with so much padding.
func (c *client) send(id uint32, body string, n, padding int) {
	c.t.Helper()
	stream, conn := streamWindow, connWindow
	base, sbase := c.of(0).window, c.of(id).window
	if base == 0 {
		base = connWindow - defaultWindow // which is part of connWindow
	}
	for len(body) > 0 || n == 0 {
		p := body[:min(n, len(body))]
		cost := len(p)
		if padding > 0 {
			cost += padding + 1
		}
		c.until("there is room for content", func() bool {
			return c.of(id).over() || stream+c.of(id).window-sbase >= cost && conn+c.of(0).window-base >= cost
		})
		if c.of(id).over() {
			return
		}
		stream, conn = stream-cost, conn-cost
		body = body[len(p):]
		if padding > 0 {
			c.must(c.fr.WriteDataPadded(id, len(body) == 0, []byte(p), make([]byte, padding)))
		} else {
			c.must(c.fr.WriteData(id, len(body) == 0, []byte(p)))
		}
	}
}

// An upload is longer than all windows, also in small frames and such that are mostly padding.
func TestUpload(t *testing.T) {
	for name, test := range map[string]struct{ size, frame, padding int }{
		"long":   {3*connWindow + 77, frameLen, 0},
		"small":  {100_000, 7, 0},
		"padded": {20_000, 10, 255},
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, options(echo))
			body := text(test.size)
			c.ask(1, false, "POST", "/", "content-length", strconv.Itoa(len(body)))
			c.send(1, body, test.frame, test.padding)
			c.answer(1).wants(t, 200, body)
			if n := c.of(1).updates + c.of(0).updates; n > 100 {
				t.Errorf("%d octets of content were worth %d WINDOW_UPDATEs", test.size, n)
			}
		})
	}
}

// Each octet of content that came is given back on the connection, whatever became of its
// stream: padding, what nobody reads, what comes for streams that were reset.
func TestCredit(t *testing.T) {
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		ask     func(c *client, id uint32)
	}{
		"unread":  {func(w http.ResponseWriter, _ *http.Request) {}, func(c *client, id uint32) { c.ask(id, false, "POST", "/") }},
		"closed":  {func(w http.ResponseWriter, r *http.Request) { r.Body.Close() }, func(c *client, id uint32) { c.ask(id, false, "POST", "/") }},
		"read":    {echo, func(c *client, id uint32) { c.ask(id, false, "POST", "/") }},
		"part":    {func(w http.ResponseWriter, r *http.Request) { _, _ = io.CopyN(w, r.Body, 100) }, func(c *client, id uint32) { c.ask(id, false, "POST", "/") }},
		"refused": {echo, func(c *client, id uint32) { c.ask(id, false, "POST", "no path") }},
		"too long": {echo, func(c *client, id uint32) {
			c.ask(id, false, "POST", "/", "content-length", "3")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, options(test.handler))
			given := c.of(0).window
			sent := 0
			for id := uint32(1); id < 60; id += 2 {
				test.ask(c, id)
				for range 9 {
					c.must(c.fr.WriteDataPadded(id, false, make([]byte, 5000), make([]byte, 200)))
					sent += 5000 + 201
					c.until("there is room on the connection", func() bool { return sent-(c.of(0).window-given) < connWindow-6000 })
				}
				c.must(c.fr.WriteData(id, true, nil))
			}
			c.until("all is given back but what is not worth a frame", func() bool { return sent-(c.of(0).window-given) < connWindow/4 })
			if more := c.of(0).window - given - sent; more > 0 {
				t.Errorf("%d octets were given back that were not sent", more)
			}
		})
	}
}

// A Handler that reads its content after its stream has ended is not told that it was whole if
// a part was thrown away.
func TestUploadCut(t *testing.T) {
	read := make(chan error, 1)
	come := make(gate)
	c := dial(t, options(func(w http.ResponseWriter, r *http.Request) {
		<-come // all of the content, and the end of the stream
		_, err := io.ReadAll(r.Body)
		read <- err
	}))
	c.ask(1, false, "POST", "/")
	c.must(c.fr.WriteData(1, true, []byte("some")))
	c.must(c.fr.WriteRSTStream(1, http2.ErrCodeCancel))
	c.pong()
	close(come)
	if err := <-read; err == nil {
		t.Error("the content seemed whole to its reader, who got nothing of it")
	}
}

// Who closes the content is done with it: a Read that waits comes back, and none finds it whole.
func TestUploadClosed(t *testing.T) {
	reads := make(chan error, 2)
	c := dial(t, options(func(w http.ResponseWriter, r *http.Request) {
		one := make([]byte, 1)
		_, _ = r.Body.Read(one)
		began := make(chan struct{})
		go func() {
			close(began)
			_, err := r.Body.Read(one)
			reads <- err
		}()
		<-began
		_ = r.Body.Close()
		reads <- <-reads
		_, err := r.Body.Read(one)
		reads <- err
	}))
	c.ask(1, false, "POST", "/")
	c.must(c.fr.WriteData(1, false, []byte("1")))
	c.answer(1)
	for range 2 {
		if err := <-reads; err == nil || err == io.EOF {
			t.Errorf("a Read of closed content: %v", err)
		}
	}
}

// Downloads keep to windows of any size, for the stream and the connection.
func TestDownload(t *testing.T) {
	body := text(50_000)
	files := &shelf{bodies: map[string][]byte{"/file": []byte(body)}}
	for _, window := range []uint32{0, 1, 1000, 200_000} {
		for _, path := range []string{"/file", "/handler"} {
			c := begin(t, files.prompt(options(writer(body))))
			c.credit = false
			c.preface(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})
			c.get(1, path)
			a := c.of(1)
			given := int(window)
			for step := 1; !a.whole; step = min(2*step, 9000) {
				c.until("the window is full", func() bool { return a.status != 0 && len(a.body) >= min(given, len(body)) })
				c.pong()
				if len(a.body) > given {
					t.Fatalf("%s, window %d: %d octets came, and %d are allowed", path, window, len(a.body), given)
				}
				if given < len(body) {
					c.must(c.fr.WriteWindowUpdate(1, uint32(step)))
					given += step
				}
			}
			a.wants(t, 200, body)
		}
	}
	if files.open != 0 {
		t.Errorf("%d bodies are open", files.open)
	}
}

// The window of the connection bounds all streams together.
func TestDownloadConnection(t *testing.T) {
	c := begin(t, options(writer(text(40_000))))
	c.credit = false
	c.preface(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	for id := uint32(1); id < 6; id += 2 {
		c.get(id, "/")
	}
	n := 0
	came := func() int {
		n = 0
		for _, a := range c.answers {
			n += len(a.body)
		}
		return n
	}
	c.until("the window is full", func() bool { return came() >= defaultWindow })
	c.pong()
	if came() != defaultWindow {
		t.Fatalf("%d octets came, %d were allowed", n, defaultWindow)
	}
	c.must(c.fr.WriteWindowUpdate(0, 1))
	c.pong()
	if came() != defaultWindow+1 {
		t.Fatalf("%d octets came, %d were allowed", n, defaultWindow+1)
	}
	c.must(c.fr.WriteWindowUpdate(0, 100_000))
	for id := uint32(1); id < 6; id += 2 {
		c.answer(id).wants(t, 200, text(40_000))
	}
}

// SETTINGS change the windows of streams that are there, also below nothing (RFC 9113 §6.9.2).
func TestWindowShrinks(t *testing.T) {
	c := begin(t, options(writer(text(9000))))
	c.credit = false
	c.preface(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 5000})
	c.get(1, "/")
	a := c.of(1)
	c.until("the window is full", func() bool { return len(a.body) == 5000 })
	c.must(c.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1000})) // 4000 below
	c.must(c.fr.WriteWindowUpdate(1, 4000))
	c.pong()
	if len(a.body) != 5000 {
		t.Errorf("%d octets came through a window of 0", len(a.body))
	}
	c.must(c.fr.WriteWindowUpdate(1, 10))
	c.pong()
	if len(a.body) != 5010 {
		t.Errorf("%d octets came, 5010 were allowed", len(a.body))
	}
	c.must(c.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 9000}))
	c.answer(1).wants(t, 200, text(9000))
}

// A window that grows past 2^31-1 ends its stream, or the connection (RFC 9113 §6.9.1).
func TestWindowTooLarge(t *testing.T) {
	hold := make(gate)
	defer close(hold)
	c := dial(t, options(func(_ http.ResponseWriter, r *http.Request) { hold.pass(r) }))
	c.get(1, "/")
	c.must(c.fr.WriteWindowUpdate(1, largestWindow))
	c.answer(1).wasReset(t, http2.ErrCodeFlowControl)
	c.get(3, "/")
	c.must(c.fr.WriteWindowUpdate(3, 1000))
	c.must(c.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: largestWindow}))
	if e := c.gone(); e.code != http2.ErrCodeFlowControl {
		t.Errorf("the connection ended with %v", e.code)
	}
}

// A client that sends more than it may has its stream ended, or the connection.
func TestUploadPastWindow(t *testing.T) {
	hold := make(gate)
	defer close(hold)
	c := dial(t, options(func(_ http.ResponseWriter, r *http.Request) { hold.pass(r) }))
	c.ask(1, false, "POST", "/")
	frame := make([]byte, frameLen)
	for range streamWindow / frameLen {
		c.must(c.fr.WriteData(1, false, frame))
	}
	c.pong()
	if c.of(1).over() {
		t.Fatal("the stream was ended within its window")
	}
	c.must(c.fr.WriteData(1, false, frame[:1]))
	c.answer(1).wasReset(t, http2.ErrCodeFlowControl)
	const streams, frames = connWindow/streamWindow + 1, streamWindow / frameLen // one stream too many
	for i := range uint32(streams) {
		c.ask(3+2*i, false, "POST", "/")
	}
	for i := range uint32(streams * frames) {
		_ = c.fr.WriteData(3+2*(i/frames), false, frame) // the connection ends meanwhile
	}
	if e := c.gone(); e.code != http2.ErrCodeFlowControl {
		t.Errorf("the connection ended with %v", e.code)
	}
}

// Many streams at once have their answers, each its own.
func TestMany(t *testing.T) {
	files := &shelf{bodies: map[string][]byte{"/small": []byte("small"), "/large": []byte(text(70_000))}}
	c := dial(t, files.prompt(options(echo)))
	const rounds = 5
	for round := range uint32(rounds) {
		first := 1 + round*2*Streams
		for i := range uint32(Streams) {
			switch id := first + 2*i; i % 4 {
			case 0:
				c.get(id, "/small")
			case 1:
				c.get(id, "/large", "priority", "i")
			case 2:
				c.ask(id, false, "POST", "/")
				c.must(c.fr.WriteData(id, true, []byte(strconv.Itoa(int(id)))))
			case 3:
				c.ask(id, true, "HEAD", "/large")
			}
		}
		for i := range uint32(Streams) {
			id := first + 2*i
			want := [...]string{"small", text(70_000), strconv.Itoa(int(id)), ""}[i%4]
			c.answer(id).wants(t, 200, want)
		}
	}
	if files.open != 0 {
		t.Errorf("%d bodies are open", files.open)
	}
}

// first is which of the streams a and b have their first frame and their last one first.
func (c *client) first(a, b uint32) (first, last uint32) {
	i, j := slices.Index(c.order, a), slices.Index(c.order, b)
	rest := slices.Clone(c.order)
	slices.Reverse(rest)
	k, l := slices.Index(rest, a), slices.Index(rest, b)
	first, last = a, b
	if j < i {
		first = b
	}
	if k < l {
		last = a
	}
	return first, last
}

// What is urgent overtakes; of two that are equal, those share that are of use in parts, and
// the others come one after the other (RFC 9218 §10).
func TestPriorities(t *testing.T) {
	body := text(300_000)
	files := &shelf{bodies: map[string][]byte{"/f": []byte(body)}}
	for name, test := range map[string]struct {
		a, b   string
		update string // of the second one, once both run
		first  uint32 // that has its end first
		shared bool
	}{
		"as they come":   {"", "", "", 1, false},
		"urgent":         {"", "u=1", "", 3, false},
		"urgent, mixed":  {"i", "u=1, i", "", 3, false},
		"less urgent":    {"u=2", "u=5", "", 1, false},
		"shared":         {"u=2, i", "u=2, i", "", 1, true},
		"updated":        {"u=3", "u=5", "u=0", 3, false},
		"updated, mixed": {"u=3, i", "u=5", "u=3, i", 1, true},
	} {
		for _, path := range []string{"/f", "/handler"} {
			t.Run(name+path, func(t *testing.T) {
				c := begin(t, files.prompt(options(writer(body))))
				c.credit = false
				c.preface(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
				c.must(c.fr.WriteWindowUpdate(0, 1)) // together 64 KiB, which is gone before all is there
				c.get(1, path, "priority", test.a)
				c.until("the window is full", func() bool { return len(c.of(1).body) == 64<<10 })
				c.order = nil
				c.get(3, path, "priority", test.b)
				c.until("it is answered", func() bool { return c.of(3).status == 200 })
				if test.update != "" {
					c.must(c.fr.WriteRawFrame(framePriorityUpdate, 0, 0, append([]byte{0, 0, 0, 3}, test.update...)))
				}
				c.must(c.fr.WriteWindowUpdate(0, 1<<20))
				c.answer(1).wants(t, 200, body)
				c.answer(3).wants(t, 200, body)
				_, last := c.first(1, 3)
				if shared := last == 3 && slices.Index(c.order, 3) < len(c.order)/3 || last == 1 && test.shared; shared != test.shared {
					t.Errorf("they shared: %v; the frames came for %v", shared, c.order)
				} else if !shared && 4-last != test.first {
					t.Errorf("%d was the last; the frames came for %v", last, c.order)
				}
			})
		}
	}
}

// A small answer that is at hand waits for one that is more urgent, and not for others.
func TestPromptOvertakes(t *testing.T) {
	files := &shelf{bodies: map[string][]byte{"/f": []byte(text(200_000)), "/small": []byte("small")}}
	for _, urgency := range []string{"u=1", "u=5"} {
		c := begin(t, files.prompt(options(nil)))
		c.credit = false
		c.preface(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
		c.get(1, "/f", "priority", urgency)
		c.until("the window is full", func() bool { return len(c.of(1).body) == defaultWindow })
		c.order = nil
		c.get(3, "/small")
		c.pong()
		c.must(c.fr.WriteWindowUpdate(0, 1<<20))
		c.answer(1).wants(t, 200, text(200_000))
		c.answer(3).wants(t, 200, "small")
		if first, _ := c.first(1, 3); (first == 1) != (urgency == "u=1") {
			t.Errorf("%s: the frames came for %v", urgency, c.order)
		}
	}
}

// The fields after the content are told to the Handler when it has read all of it, those that
// it was told to expect. Nobody else touches what is the Handler's.
func TestUploadTrailers(t *testing.T) {
	come := make(chan struct{})
	c := dial(t, options(func(w http.ResponseWriter, r *http.Request) {
		<-come // all of the request
		one := make([]byte, 1)
		_, _ = io.ReadFull(r.Body, one)
		if lines, announced := r.Trailer["X-Sum"]; !announced || len(r.Trailer) != 1 || len(lines) > 0 {
			t.Errorf("before the content was read there is %v", r.Trailer)
		}
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, strings.Join(append(r.Trailer["X-Sum"], r.Trailer["X-Other"]...), ","))
	}))
	c.ask(1, false, "POST", "/", "trailer", "X-Sum, Content-Length")
	c.must(c.fr.WriteData(1, false, []byte("12")))
	c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndStream: true, EndHeaders: true, BlockFragment: c.head("x-sum", "5", "x-other", "6", "content-length", "7")}))
	c.pong()
	close(come)
	c.answer(1).wants(t, 200, "5")
}

// A client is told to go on exactly if somebody reads what it waits to send.
func TestContinue(t *testing.T) {
	for path, want := range map[string]int{"/read": 1, "/ignore": 0, "/said": 1, "/status": 0} {
		c := dial(t, options(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/said":
				w.WriteHeader(100)
			case "/status":
				w.WriteHeader(202)
			}
			if r.URL.Path != "/ignore" {
				_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, 1))
			}
		}))
		c.ask(1, false, "POST", path, "expect", "100-continue")
		if path == "/status" {
			c.must(c.fr.WriteData(1, true, []byte("x")))
		} else if want > 0 {
			c.until("it is told to go on", func() bool { return len(c.of(1).interim) > 0 })
			c.must(c.fr.WriteData(1, true, []byte("x")))
		}
		if a := c.answer(1); len(a.interim) != want || !a.whole {
			t.Errorf("%s: interim %v, whole %v", path, a.interim, a.whole)
		}
	}
}

// A Handler may answer while another goroutine of its own reads the content.
func TestEarlyAnswer(t *testing.T) {
	c := dial(t, options(func(w http.ResponseWriter, r *http.Request) {
		read := make(chan struct{})
		go func() {
			defer close(read)
			_, _ = io.Copy(io.Discard, r.Body)
		}()
		for range len(r.URL.Path) % 8 { // so that either may be the first
			runtime.Gosched()
		}
		w.WriteHeader(http.StatusAccepted)
		w.(http.Flusher).Flush()
		<-read
	}))
	for i := range uint32(50) {
		id := 1 + 2*i
		c.ask(id, false, "POST", "/"+strings.Repeat("x", int(i)), "expect", "100-continue")
		c.until("it is answered", func() bool { return c.of(id).status == http.StatusAccepted })
		c.must(c.fr.WriteData(id, true, []byte("late")))
		c.answer(id).wants(t, http.StatusAccepted, "")
	}
}

// Content that is not as long as it was said to be is no request (RFC 9113 §8.1.1).
func TestUploadLength(t *testing.T) {
	c := dial(t, options(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	c.ask(1, false, "POST", "/", "content-length", "3")
	c.must(c.fr.WriteData(1, true, []byte("12")))
	c.answer(1).wasReset(t, http2.ErrCodeProtocol)
	c.ask(3, false, "POST", "/", "content-length", "3")
	c.must(c.fr.WriteData(3, false, []byte("1234")))
	c.answer(3).wasReset(t, http2.ErrCodeProtocol)
	c.ask(5, true, "POST", "/", "content-length", "3")
	c.answer(5).wasReset(t, http2.ErrCodeProtocol)
	c.ask(7, false, "POST", "/", "content-length", "3")
	c.must(c.fr.WriteData(7, false, bytes.Repeat([]byte("1"), 2)))
	c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 7, EndStream: true, EndHeaders: true, BlockFragment: c.head("x", "y")}))
	c.answer(7).wasReset(t, http2.ErrCodeProtocol)
}
