package encode

import (
	"errors"
	"io"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
)

// However a body ends, its coder is there for the next, and is given back once.
func TestCodersComeBack(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // which empties pools
	defer func(p *sync.Pool) { coders["gzip"] = p }(coders["gzip"])
	text := strings.Repeat("octets ", 10_000)
	for name, use := range map[string]func(b *body){
		"complete":             func(b *body) { io.Copy(io.Discard, b); b.Close() },
		"complete, not closed": func(b *body) { io.Copy(io.Discard, b) },
		"broken": func(b *body) {
			b.from.Body = io.NopCloser(iotest.ErrReader(errors.New("broken")))
			io.Copy(io.Discard, b)
			b.Close()
		},
		"cut short": func(b *body) { b.size = 1; io.Copy(io.Discard, b); b.Close() },
		"given up":  func(b *body) { b.Read(make([]byte, 1)); b.Close(); b.Close() },
	} {
		made := 0
		coders["gzip"] = &sync.Pool{New: func() any { made++; return &coder{compressor: newGzip()} }}
		for range 100 {
			use(&body{coding: "gzip", from: &http.Response{Body: io.NopCloser(strings.NewReader(text))}, to: &http.Response{}, size: -1, leave: func() {}})
		}
		// Under the race detector a pool loses every fourth on purpose.
		if made > 60 {
			t.Errorf("%s: 100 bodies took %d coders", name, made)
		}
		held := map[any]bool{}
		for range 100 {
			c := coders["gzip"].Get()
			if held[c] {
				t.Fatalf("%s: a coder was given back twice", name)
			}
			held[c] = true
		}
	}
}

// A body that is never read costs nothing.
func TestNoCoderBeforeTheFirstRead(t *testing.T) {
	defer func(p *sync.Pool) { coders["gzip"] = p }(coders["gzip"])
	coders["gzip"] = &sync.Pool{New: func() any { t.Error("a coder was taken"); return &coder{compressor: newGzip()} }}
	b := &body{coding: "gzip", from: &http.Response{Body: http.NoBody}, to: &http.Response{}, size: -1, leave: func() {}}
	b.Read(nil)
	b.Close()
}

// What one body left in its coder is nothing to the next.
func TestCodersBringNothingAlong(t *testing.T) {
	for coding, pool := range coders {
		fresh := pool.New().(*coder)
		fresh.Reset(&fresh.out)
		fresh.Close()
		for range 20 {
			given := &body{coding: coding, from: &http.Response{Body: io.NopCloser(strings.NewReader("secret"))}, to: &http.Response{}, size: -1, leave: func() {}}
			given.Read(make([]byte, 1))
			given.Close()
			next := &body{coding: coding, from: &http.Response{Body: http.NoBody}, to: &http.Response{}, size: -1, leave: func() {}}
			if b, err := io.ReadAll(next); string(b) != fresh.out.String() || err != nil {
				t.Fatalf("%s: no content became %q, %v", coding, b, err)
			}
		}
	}
}
