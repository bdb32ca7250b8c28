package front

import (
	"context"
	"net/http"
	"net/url"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/larderhq/larder/internal/canon"
	"github.com/larderhq/larder/internal/h2"
)

const (
	replyLen = 4 << 10         // octets of an answer that are gathered before they are sent
	workTime = 5 * time.Second // for which a goroutine waits for another request
)

// A reply is the answer of the Handler to a plain request, and the Handler's
// http.ResponseWriter. It writes what net/http would write, straight to the socket, and has
// the client to itself but for what says otherwise.
type reply struct {
	s      *Server
	c      *client
	r      *http.Request
	cancel context.CancelFunc

	header http.Header
	sealed http.Header // as it was when the status was said
	status int         // 0: nothing was said yet
	length int64       // of the body, as the Handler has promised; negative: it has not
	wrote  int64
	head   bool  // the request is HEAD
	closes bool  // it is the last answer of the connection
	began  bool  // the head is out
	chunks bool  // RFC 9112 §7.1
	err    error // why nothing is sent any more

	replyRoom // octets of the body that wait, what goes before and behind them, and all of it by TLS
	room      *replyRoom

	// Shared with the loop.
	wake  chan struct{} // there may be room for more octets, or there never will be
	waits atomic.Bool   // for the client
	since atomic.Int64  // since when taken is measured, steady nanoseconds; 0: it is not; the loop's alone
	taken atomic.Int64  // octets
	quiet atomic.Bool   // the client says no more
	gone  atomic.Bool   // nor does it take any
}

// A replyRoom is what a reply writes into.
type replyRoom struct{ body, pre, post, secret []byte }

// keep takes what is not too large to be kept.
func (r *replyRoom) keep(used *replyRoom) {
	*r = replyRoom{body: used.body[:0], pre: used.pre[:0], post: used.post[:0], secret: used.secret[:0]}
	if cap(r.pre) > 2*sealLen {
		r.pre = nil
	}
	if cap(r.secret) > 2*sealLen {
		r.secret = nil
	}
}

var replyRooms = sync.Pool{New: func() any { return &replyRoom{body: make([]byte, 0, replyLen)} }}

// respond has the Handler answer the request that l has just read, after which rest came. It
// reports false if that is for net/http.
func (l *loop) respond(c *client, p *plain, rest []byte) bool {
	if !canon.Host(string(p.Host)) {
		return false
	}
	r := &http.Request{Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: make(http.Header, len(p.Fields)), Body: http.NoBody, RemoteAddr: c.addr, TLS: c.state}
	p.fill(r, nil, nil)
	var err error
	if r.URL, err = url.ParseRequestURI(r.RequestURI); err != nil {
		return false
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &reply{s: l.s, c: c, cancel: cancel, head: p.Head, closes: p.close, length: -1, header: make(http.Header), wake: make(chan struct{}, 1)}
	w.room = replyRooms.Get().(*replyRoom)
	w.replyRoom = *w.room
	w.r = r.WithContext(ctx)
	c.held, c.begun = slices.Clone(rest), time.Time{}
	c.reply.Store(w)
	c.lent.Store(true)
	if c.listen(syscall.EPOLL_CTL_MOD, syscall.EPOLLRDHUP|syscall.EPOLLONESHOT) != nil {
		c.reply.Store(nil)
		c.lent.Store(false)
		l.drop(c)
		return true
	}
	l.s.lent.Add(1)
	select {
	case l.s.replies <- w:
	default:
		go l.s.work(w)
	}
	return true
}

// work answers requests, first w, until there have been none for a while. A goroutine that
// has answered one has the stack that it takes.
func (s *Server) work(w *reply) {
	idle := time.NewTimer(workTime)
	defer idle.Stop()
	for {
		w.run()
		idle.Reset(workTime)
		select {
		case w = <-s.replies:
		case <-idle.C:
			return
		case <-s.looped:
			return
		}
	}
}

// run has the Handler answer, and gives the client back to its loop.
func (w *reply) run() {
	well := w.serve() && w.conclude()
	c := w.c
	w.cancel()
	w.room.keep(&w.replyRoom)
	replyRooms.Put(w.room)
	c.reply.Store(nil)
	c.takeBack(w.closes || !well, w.err)
}

// takeBack gives c back to its loop, which a reply had. err says that nothing can be sent to it.
func (c *client) takeBack(closes bool, err error) {
	l := c.loop
	l.s.lent.Add(-1)
	c.active, _ = l.s.opt.Clock()
	events := uint32(toRead)
	switch {
	case err != nil, !closes && c.wire != nil && !c.wire.ahead():
		c.close()
		return
	case closes:
		c.leaving, c.held, c.begun = true, nil, c.active
		if c.shut() != nil {
			c.close()
			return
		}
	case len(c.held) > 0:
		events = toWrite // which it is: so the loop looks at once
	}
	if c.listen(syscall.EPOLL_CTL_MOD, events) != nil {
		c.close()
		return
	}
	c.lent.Store(false) // until then the loop does not heed what it is told
}

// serve calls the Handler. It reports false if that gave the answer up.
func (w *reply) serve() (well bool) {
	defer w.s.leave(1)
	if w.s.running.Add(1) < 0 {
		return false // too late: all that follows may be closed
	}
	defer func() {
		if v := recover(); v != nil && v != http.ErrAbortHandler {
			w.s.opt.Log.Error("a handler panicked; please report it", "panic", v, "stack", string(debug.Stack()))
		}
	}()
	w.s.admit(w, w.r)
	return true
}

// hear is what the loop has to say of the client meanwhile.
func (w *reply) hear(events uint32) {
	if events&(syscall.EPOLLRDHUP|syscall.EPOLLHUP|syscall.EPOLLERR) != 0 {
		w.quiet.Store(true)
		w.cancel()
	}
	w.call()
}

// call wakes who waits for the client.
func (w *reply) call() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// giveUp says that the client has had its time.
func (w *reply) giveUp() {
	w.gone.Store(true)
	w.cancel()
	w.call()
}

// look gives a client up that takes less than it has to while it is waited for, as of now.
func (w *reply) look(now time.Time, l *Limits) {
	switch since := w.since.Load(); {
	case !w.waits.Load():
		w.since.Store(0)
	case since == 0:
		w.taken.Store(0)
		w.since.Store(now.UnixNano())
	case now.UnixNano()-since < int64(l.StallTimeout):
	case w.taken.Load() < l.least():
		w.giveUp()
	default:
		w.since.Store(0)
	}
}

// Header implements http.ResponseWriter.
func (w *reply) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter. An interim response goes out at once.
func (w *reply) WriteHeader(status int) {
	switch {
	case w.status != 0 || status == http.StatusSwitchingProtocols:
	case status < 200:
		w.line(status)
		w.fields(w.header, without204)
		w.pre = append(w.pre, "\r\n"...)
		w.send(nil)
	default:
		w.status, w.sealed = status, w.header.Clone()
		if lines := w.sealed["Content-Length"]; len(lines) == 1 {
			if n, err := strconv.ParseUint(lines[0], 10, 63); err == nil {
				w.length = int64(n)
			}
		}
	}
}

// line begins a head.
func (w *reply) line(status int) {
	w.pre = strconv.AppendInt(append(w.pre, "HTTP/1.1 "...), int64(status), 10)
	if text := http.StatusText(status); text != "" {
		w.pre = append(append(w.pre, ' '), text...)
	} else {
		w.pre = strconv.AppendInt(append(w.pre, " status code "...), int64(status), 10)
	}
	w.pre = append(w.pre, "\r\n"...)
}

// What goes without some fields (RFC 9112 §6.2, RFC 9110 §15.4.5), as net/http has it.
var (
	without304 = map[string]bool{"Content-Length": true, "Content-Type": true}
	without204 = map[string]bool{"Content-Length": true}
)

// fields adds those of h in order, but for unsent, those of the connection, which are ours to
// say, and those that come after the content.
func (w *reply) fields(h http.Header, unsent map[string]bool) {
	var room [32]string
	names := room[:0]
	for name := range h {
		if !unsent[name] && name != "Connection" && name != "Transfer-Encoding" && httpguts.ValidHeaderFieldName(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		for _, value := range h[name] {
			w.pre = appendLine(w.pre, name, value)
		}
	}
}

// appendLine writes a field, without line ends within its value and blanks around it.
func appendLine(dst []byte, name, value string) []byte {
	if strings.ContainsAny(value, "\r\n") {
		value = strings.NewReplacer("\r", " ", "\n", " ").Replace(value)
	}
	return append(append(append(append(dst, name...), ": "...), strings.Trim(value, " \t")...), "\r\n"...)
}

// begin writes the head. done: there is nothing to come but what is at hand.
func (w *reply) begin(done bool) {
	w.began = true
	var unsent map[string]bool
	sized := false // by us
	switch _, said := w.sealed["Content-Length"]; {
	case w.status == http.StatusNotModified:
		unsent = without304
	case w.status == http.StatusNoContent:
		unsent = without204
	case w.length >= 0:
	case done && !said && (!w.head || w.wrote > 0 && w.wrote <= replyLen) && len(w.trailers()) == 0 && len(w.sealed["Trailer"]) == 0:
		sized = true
	case !w.head:
		w.chunks, unsent = true, without204
	}
	w.line(w.status)
	w.fields(w.sealed, unsent)
	if _, said := w.sealed["Date"]; !said {
		w.pre = append(time.Now().UTC().AppendFormat(append(w.pre, "Date: "...), http.TimeFormat), "\r\n"...)
	}
	if sized {
		w.pre = append(strconv.AppendInt(append(w.pre, "Content-Length: "...), w.wrote, 10), "\r\n"...)
	}
	if lines := w.sealed["Connection"]; len(lines) > 0 && strings.EqualFold(lines[0], "close") || w.s.draining.Load() {
		w.closes = true
	}
	if w.closes {
		w.pre = append(w.pre, "Connection: close\r\n"...)
	}
	if w.chunks {
		w.pre = append(w.pre, "Transfer-Encoding: chunked\r\n"...)
	}
	w.pre = append(w.pre, "\r\n"...)
}

// Write implements http.ResponseWriter.
func (w *reply) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if !hasBody(w.status) {
		return 0, http.ErrBodyNotAllowed
	}
	w.wrote += int64(len(p))
	switch {
	case w.length >= 0 && w.wrote > w.length:
		return 0, http.ErrContentLength
	case w.head:
		return len(p), nil
	case len(w.body)+len(p) > replyLen:
		if err := w.flush(false); err != nil {
			return 0, err
		}
		if len(p) > replyLen {
			return len(p), w.out(p, false)
		}
	}
	w.body = append(w.body, p...)
	return len(p), nil
}

func hasBody(status int) bool {
	return status != http.StatusNoContent && status != http.StatusNotModified
}

// Flush implements http.Flusher.
func (w *reply) Flush() { _ = w.FlushError() }

// FlushError is Flush, and says whether it was of use.
func (w *reply) FlushError() error {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	return w.flush(false)
}

// flush sends what is gathered. done: nothing follows.
func (w *reply) flush(done bool) error {
	err := w.out(w.body, done)
	w.body = w.body[:0]
	return err
}

// out sends p, and what has to be around it. done: nothing follows.
func (w *reply) out(p []byte, done bool) error {
	if !w.began {
		w.begin(done)
	}
	if w.chunks && len(p) > 0 {
		w.pre = append(strconv.AppendInt(w.pre, int64(len(p)), 16), "\r\n"...)
		w.post = append(w.post, "\r\n"...)
	}
	if w.chunks && done {
		w.post = append(w.post, "0\r\n"...)
		for name, lines := range w.trailers() {
			for _, value := range lines {
				w.post = appendLine(w.post, name, value)
			}
		}
		w.post = append(w.post, "\r\n"...)
	}
	return w.send(p)
}

// trailers are the fields that come after the content: those that were announced, and those
// with http.TrailerPrefix.
func (w *reply) trailers() http.Header { return h2.Trailers(w.sealed, w.header) }

// conclude sends what is left of the answer, and reports whether that is all that was promised.
func (w *reply) conclude() bool {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.wrote < w.length && !w.head && hasBody(w.status) {
		return false
	}
	return w.flush(true) == nil
}

// send sends pre, p and post.
func (w *reply) send(p []byte) error {
	parts := [3][]byte{w.pre, p, w.post}
	if w.c.wire != nil {
		w.seal(&parts)
	}
	for w.err == nil && len(parts[0])+len(parts[1])+len(parts[2]) > 0 {
		n, err := writeThree(w.c.fd, &parts)
		switch {
		case err == syscall.EAGAIN:
			w.await()
		case err != nil && err != syscall.EINTR:
			w.err = err
		}
		w.taken.Add(int64(max(n, 0)))
		for i := range parts {
			k := min(max(n, 0), len(parts[i]))
			parts[i], n = parts[i][k:], n-k
		}
	}
	w.pre, w.post = w.pre[:0], w.post[:0]
	return w.err
}

// seal makes one part of all, as the client gets them.
func (w *reply) seal(parts *[3][]byte) {
	sealed := w.secret[:0]
	joined := *parts
	if len(parts[1]) < sealLen { // in as few records as can be
		w.pre = append(append(w.pre, parts[1]...), parts[2]...)
		joined = [3][]byte{w.pre}
	}
	for _, p := range joined {
		if len(p) > 0 && w.err == nil {
			sealed, w.err = w.c.wire.seal(sealed, p)
		}
	}
	w.secret = sealed
	*parts = [3][]byte{sealed}
}

// await waits for the client to take something, and for the loop to notice.
func (w *reply) await() {
	w.waits.Store(true)
	defer w.waits.Store(false)
	events := uint32(toWrite | syscall.EPOLLRDHUP | syscall.EPOLLONESHOT)
	if w.quiet.Load() { // which it would be told again and again
		events &^= syscall.EPOLLRDHUP
	}
	if err := w.c.listen(syscall.EPOLL_CTL_MOD, events); err != nil {
		w.err = err
		return
	}
	<-w.wake
	if w.gone.Load() {
		w.err = os.ErrDeadlineExceeded
	}
}
