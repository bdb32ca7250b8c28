package page

import (
	"errors"
	"net/http"
	"sync"
	"time"
)

const (
	// heldBack is how much of a page is held back, in octets, and patience for how
	// long, so that one that fails early is answered with an error, and not broken off.
	heldBack = 16 << 10
	patience = 100 * time.Millisecond
)

// An output is where a page goes. The assembly writes, and a timer may send what it
// waits with.
type output struct {
	mu     sync.Mutex // guards the rest, and w once there is a page
	w      http.ResponseWriter
	status int
	held   []byte // while the head was not sent
	begun  bool   // it was
	over   bool   // nothing more is sent
	timer  *time.Timer
	err    error // of w
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.begun {
		if o.held = append(o.held, p...); len(o.held) > heldBack {
			o.begin()
		}
		return len(p), o.err
	}
	return o.w.Write(p)
}

// FlushError sends what there is: at once, or soon.
func (o *output) FlushError() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.begun:
		o.flush()
	case o.timer == nil && len(o.held) > 0:
		o.timer = time.AfterFunc(patience, o.late)
	}
	return o.err
}

// late sends what was held back long enough.
func (o *output) late() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.over {
		o.begin()
		o.flush()
	}
}

// begin sends the head and what was held back.
func (o *output) begin() {
	if o.begun {
		return
	}
	o.begun = true
	o.w.WriteHeader(o.status)
	_, o.err = o.w.Write(o.held)
	o.held = nil
}

func (o *output) flush() {
	if err := http.NewResponseController(o.w).Flush(); o.err == nil && !errors.Is(err, http.ErrNotSupported) {
		o.err = err
	}
}

// end sends the rest of a page that is complete.
func (o *output) end() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.begin()
	return o.err
}

// stop has nothing more be sent, and tells whether anything was.
func (o *output) stop() (begun bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.over = true
	if o.timer != nil {
		o.timer.Stop()
	}
	return o.begun
}
