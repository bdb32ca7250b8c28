package origin

import (
	"io"
	"strconv"
	"time"
)

const (
	// settling is how long a response that is complete waits for the end of its
	// request to be noted, before the connection is given up.
	settling = 50 * time.Millisecond

	sizeRoom  = len("4000\r\n") // for the line before a chunk
	lastChunk = "0\r\n\r\n"
)

// An upload sends the content of a request while the answer may be coming already.
// Its goroutine ends with the content or with the connection; but who waits for the
// content's reader waits on.
type upload struct {
	x    *exchange
	body io.ReadCloser
	left int64 // octets to come; negative: nobody knows

	begin chan bool     // whether to send it; nil: at once
	done  chan struct{} // closed at the end; all guards
	all   bool          // all of it was sent
}

func newUpload(x *exchange) *upload {
	u := &upload{x: x, body: x.out.content, left: x.out.length, done: make(chan struct{})}
	if x.out.patient {
		u.begin = make(chan bool, 1)
	}
	return u
}

// blame notes that the content broke off.
func (x *exchange) blame(err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.client = err
}

// run sends the content.
func (u *upload) run() {
	defer close(u.done)
	defer u.body.Close()
	if !u.wanted() {
		return
	}
	x, buf := u.x, windows.Get().(*[]byte)
	defer windows.Put(buf)
	for !u.all {
		p, last, err := u.next(*buf)
		if err != nil {
			x.blame(err)
			x.c.close()
			return
		}
		if err := x.c.write(p, x.up.opt.StallTimeout); err != nil {
			if err = x.unsent(err); isTimeout(err) {
				x.c.close()
				return
			}
			break // the origin may have said why it takes no more
		}
		u.all = last
	}
	x.sent()
}

// next reads content, and returns what to send of it, in buf, which is a window.
func (u *upload) next(buf []byte) (p []byte, last bool, err error) {
	if u.left >= 0 {
		n, err := u.read(buf[:min(u.left, window)])
		switch u.left -= int64(n); {
		case u.left == 0:
			return buf[:n], true, nil
		case err == io.EOF:
			return nil, false, io.ErrUnexpectedEOF
		}
		return buf[:n], false, err
	}
	n, err := u.read(buf[sizeRoom : window-len("\r\n"+lastChunk)])
	if err != nil && err != io.EOF {
		return nil, false, err
	}
	from, to := sizeRoom, sizeRoom
	if n > 0 {
		var line [sizeRoom]byte
		text := append(strconv.AppendInt(line[:0], int64(n), 16), "\r\n"...)
		from -= len(text)
		copy(buf[from:], text)
		to += n + copy(buf[to+n:], "\r\n")
	}
	if err == io.EOF {
		to += copy(buf[to:], lastChunk)
	}
	return buf[from:to], err == io.EOF, nil
}

// read reads content.
func (u *upload) read(p []byte) (int, error) {
	out := &u.x.out
	if len(out.ahead) > 0 {
		n := copy(p, out.ahead)
		out.ahead = out.ahead[n:]
		return n, nil
	}
	return u.body.Read(p)
}

// wanted waits until the content is to be sent, and tells whether it is (RFC 9110
// §10.1.1).
func (u *upload) wanted() bool {
	if u.begin == nil {
		return true
	}
	t := time.NewTimer(expectContinueTimeout)
	defer t.Stop()
	select {
	case yes := <-u.begin:
		return yes
	case <-t.C:
		return true
	}
}

// proceed has the content sent that waits for it, or never sent. The first word counts.
func (u *upload) proceed(yes bool) {
	select {
	case u.begin <- yes: // nil: it did not wait
	default:
	}
}

// whole tells whether all of the content was sent.
func (u *upload) whole() bool {
	t := time.NewTimer(settling)
	defer t.Stop()
	select {
	case <-u.done:
		return u.all
	case <-t.C:
		return false
	}
}
