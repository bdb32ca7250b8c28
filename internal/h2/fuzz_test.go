package h2

import (
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// FuzzConn sends any octets after the Preface. Whatever they are, the connection ends once the
// client does, with all Handlers and all bodies.
func FuzzConn(f *testing.F) {
	frame := func(kind, flags byte, id uint32, p string) string {
		return string(append(appendFrameHeader(nil, len(p), kind, flags, id), p...))
	}
	get := string(wideHead())
	settings := frame(frameSettings, 0, 0, "")
	f.Add([]byte(settings + frame(frameHeaders, flagEndHeaders|flagEndStream, 1, get)))
	f.Add([]byte(settings + frame(frameHeaders, flagEndHeaders, 1, get) + frame(frameData, flagEndStream, 1, "some")))
	f.Add([]byte(settings + frame(frameHeaders, flagEndHeaders, 1, get) + frame(frameData, flagPadded, 1, "\x03some\x00\x00\x00") + frame(frameHeaders, flagEndHeaders|flagEndStream, 1, "")))
	f.Add([]byte(settings + frame(frameHeaders, flagEndStream, 1, get[:3]) + frame(frameContinuation, flagEndHeaders, 1, get[3:]) + frame(frameReset, 0, 1, "\x00\x00\x00\x08")))
	large := string(appendField([]byte{0x82, 0x86, 0x44, 6, '/', 'l', 'a', 'r', 'g', 'e'}, ":authority", "h"))
	f.Add([]byte(settings + frame(frameHeaders, flagEndHeaders|flagEndStream, 1, large) + frame(frameWindowUpdate, 0, 1, "\x00\x01\x00\x00") + frame(framePriorityUpdate, 0, 0, "\x00\x00\x00\x01u=1, i")))
	f.Add([]byte(frame(frameSettings, 0, 0, "\x00\x04\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00") + frame(frameHeaders, flagEndHeaders|flagEndStream, 1, large) + frame(frameSettings, 0, 0, "\x00\x04\x00\x01\x00\x00")))
	f.Add([]byte(settings + frame(framePing, 0, 0, "12345678") + frame(frameGoAway, 0, 0, "\x00\x00\x00\x00\x00\x00\x00\x00") + frame(framePriority, 0, 3, "\x00\x00\x00\x00\x01")))
	f.Fuzz(func(t *testing.T, in []byte) {
		var running atomic.Int32
		files := &shelf{bodies: map[string][]byte{"/large": []byte(text(100_000)), "/small": []byte("small")}}
		c := begin(t, files.prompt(options(func(w http.ResponseWriter, r *http.Request) {
			running.Add(1)
			defer running.Add(-1)
			n, err := io.Copy(io.Discard, r.Body)
			w.Header().Set("Trailer", "X-Sum")
			if err != nil {
				w.WriteHeader(400)
			}
			_, _ = io.WriteString(w, text(int(n%3)*30_000))
			w.Header().Set("X-Sum", strconv.FormatInt(n, 10))
		})))
		written := make(chan struct{})
		go func() {
			defer close(written)
			_, _ = c.nc.Write([]byte(Preface))
			_, _ = c.nc.Write(in)
			_ = http2.NewFramer(c.nc, nil).WritePing(false, [8]byte{})
		}()
		select {
		case <-written:
		case <-time.After(10 * time.Second):
			t.Fatal("the server does not read any more")
		}
		for done := false; !done; { // some of what it says
			select {
			case _, more := <-c.came:
				done = !more
			default:
				done = true
			}
		}
		_ = c.nc.Close()
		select {
		case <-c.served:
		case <-time.After(10 * time.Second):
			t.Fatal("the server does not end")
		}
		if files.open != 0 {
			t.Fatalf("%d bodies are open", files.open)
		}
		for limit := time.After(10 * time.Second); running.Load() > 0; {
			select {
			case <-limit:
				t.Fatalf("%d Handlers are running", running.Load())
			case <-time.After(time.Millisecond):
			}
		}
	})
}
