package front

import (
	"bytes"
	"errors"
	"io"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/larderhq/larder/internal/observe"
	"github.com/larderhq/larder/internal/standing"
	"github.com/larderhq/larder/store"
)

const (
	readLen   = 4 << 10   // octets that are read at once: whoever has a body lent holds no more of it
	flushLen  = 8 << 10   // octets of answers after which they are sent
	copyLen   = 8 << 10   // the longest body that is copied to its head
	turnLen   = 1 << 20   // octets that are sent before it is others' turn,
	shortTurn = 128 << 10 // and while there are others whose answers are short
	shortTime = 10 * time.Millisecond

	// What the loop waits for.
	toRead  = syscall.EPOLLIN | syscall.EPOLLRDHUP
	toWrite = syscall.EPOLLOUT
)

// A loop answers what stands on the connections it has, and lends the others to
// net/http for one request at a time. One goroutine runs it, and never waits but
// for its epoll.
type loop struct {
	s       *Server
	ep      int
	poller  *os.File // ep, as Go's own poller knows it: who waits there leaves the processor to others
	waiting syscall.RawConn
	poll    func(uintptr) bool
	came    int          // events that poll found
	load    atomic.Int32 // clients, lent ones included
	crowded atomic.Bool  // another client waits for a place
	now     time.Time    // steady: when the events came
	swept   time.Time
	request plain
	asker   *asker
	in      []byte
	out     []byte // answers to one client, until they are sent
	sealed  []byte // the same by TLS
	unread  store.Key
	turns   uint64    // that clients had so far
	short   time.Time // when there last was an answer that goes in one piece
	tell    teller
	flushed func() // gives the teller's sink what it has gathered
	events  [128]syscall.EpollEvent
}

func newLoop(s *Server) (*loop, error) {
	ep, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := syscall.SetNonblock(ep, true); err != nil { // or the poller will not have it
		return nil, os.NewSyscallError("fcntl", errors.Join(err, syscall.Close(ep)))
	}
	l := &loop{s: s, ep: ep, asker: newAsker(&s.opt), poller: os.NewFile(uintptr(ep), "epoll"), in: make([]byte, maxPlain+readLen), out: make([]byte, 0, flushLen+2*copyLen)}
	if l.waiting, err = l.poller.SyscallConn(); err != nil {
		return nil, errors.Join(err, l.poller.Close())
	}
	l.tell, l.flushed = teller{sink: s.opt.Sink, recent: s.opt.Recent, proto: "HTTP/1.1"}, func() {}
	if log, ok := s.opt.Sink.(*observe.Log); ok {
		batch := log.Batch()
		l.tell.sink, l.flushed = batch, batch.Flush
	}
	l.poll = func(uintptr) bool {
		l.came = pollNow(l.ep, l.events[:])
		return l.came > 0
	}
	return l, nil
}

// await changes what c waits for.
func (l *loop) await(c *client, events uint32) {
	if c.events != events {
		// It fails only if c is not there, or memory is short.
		if c.listen(syscall.EPOLL_CTL_MOD, events) != nil {
			l.drop(c)
		}
	}
}

// run answers until the server is stopped.
func (l *loop) run() {
	defer l.poller.Close()
	for {
		l.came = 0
		if l.waiting.Read(l.poll) != nil { // tick wants the loop to look around
			_ = l.poller.SetReadDeadline(time.Time{}) // as it did before
		}
		l.now, l.tell.wall = l.s.opt.Clock()
		l.tell.now = l.now
		l.serveAll(l.events[:l.came])
		if l.s.stopped.Load() || l.now.Sub(l.swept) >= sweepTime {
			l.swept = l.now
			l.sweep()
		}
		if l.crowded.Swap(false) {
			l.makeRoom()
		}
		l.flushed()
		if l.s.accepted.Load() && l.load.Load() == 0 {
			return
		}
		if l.s.lent.Load() > 0 {
			runtime.Gosched() // others are at work for clients, too
		}
	}
}

// serveAll does what can be done for those who are ready, and of those who take what
// they are being sent for one alone, whose turn it is: the others are ready still
// when the loop looks again, and so may somebody be whose answer is short.
func (l *loop) serveAll(events []syscall.EpollEvent) {
	var next *client
	var ready uint32
	for i := range events {
		e := &events[i]
		c := l.s.clients.find(int(e.Fd))
		switch {
		case c == nil || c.loop != l:
		case c.lent.Load():
			if w := c.reply.Load(); w != nil {
				w.hear(e.Events)
			}
		case c.sending == nil:
			l.serve(c, e.Events)
		case next == nil || c.turn < next.turn:
			next, ready = c, e.Events
		}
	}
	if next != nil {
		l.turns++
		next.turn = l.turns
		l.serve(next, ready)
	}
}

// tick has the loop look around now and then, until the server has ended.
func (s *Server) tick() {
	every := time.NewTicker(sweepTime)
	defer every.Stop()
	for {
		select {
		case <-every.C:
		case <-s.looped:
			return
		}
		s.wake()
	}
}

// wake has the loops look around.
func (s *Server) wake() {
	for _, l := range s.loops {
		_ = l.poller.SetReadDeadline(time.Unix(1, 0)) // fails once the loop has ended
	}
}

// serve does what can be done for c without waiting.
func (l *loop) serve(c *client, events uint32) {
	c.active = l.now
	if c.wire != nil {
		c.wire.dry, c.wire.spent = false, false
	}
	l.step(c, events)
	for !c.lent.Load() && c.wire != nil && !c.wire.spent && !c.gone && c.sending == nil && c.events == toRead {
		l.receive(c) // what epoll does not know of
	}
}

// step does one thing for c.
func (l *loop) step(c *client, events uint32) {
	switch {
	case c.sending != nil:
		if l.send(c, c.sending) {
			l.resume(c)
		}
	case c.held != nil && events&(toRead|syscall.EPOLLERR|syscall.EPOLLHUP) == 0:
		l.resume(c) // it came back with more than it was lent for
	default:
		l.receive(c)
	}
}

// resume answers what came before there was room for the answers.
func (l *loop) resume(c *client) {
	in := c.held
	c.held = nil
	if l.await(c, toRead); len(in) > 0 && !c.gone {
		l.process(c, in)
	}
}

func (l *loop) receive(c *client) {
	if len(c.held) > maxPlain {
		l.resume(c)
		return
	}
	if l.await(c, toRead); c.gone {
		return
	}
	held := copy(l.in, c.held)
	n, err := c.read(l.in[held : held+readLen])
	switch {
	case err == syscall.EAGAIN || err == syscall.EINTR:
		return
	case err != nil || n == 0:
		l.drop(c)
		return
	case c.leaving:
		return // whatever it is, it comes too late
	case c.unended && held+n <= maxPlain && bytes.IndexByte(l.in[held:held+n], '\n') < 0:
		c.held = append(c.held, l.in[held:held+n]...) // which cannot be its end
		return
	}
	c.held, c.unended = nil, false
	l.process(c, l.in[:held+n])
}

// process answers the requests that in begins with, and keeps the rest.
func (l *loop) process(c *client, in []byte) {
	l.out = l.out[:0]
	turn := int64(turnLen)
	if l.s.opt.H2C && !c.known && c.wire == nil {
		is, perhaps := knows(in)
		if is {
			l.s.lend2(c, in)
			return
		}
		if c.known = !perhaps; perhaps {
			c.unended = true
			l.keep(c, in)
			return
		}
	}
	for len(in) > 0 {
		n, is := l.request.read(l.s.opt.Standing, in)
		if is == begun {
			c.unended = true
			break
		}
		said, sound := standing.Elsewhere, is == entire && n <= l.s.opt.Limits.Head && len(l.request.Fields) < l.s.opt.Limits.Fields // and Host
		if sound && !l.request.special {
			said = l.answer(c, &l.request)
		}
		if said != standing.Decided {
			if !l.flush(c) {
				l.keep(c, in)
			} else if said == standing.Elsewhere || !l.prepare(c, in) {
				if !sound || !l.respond(c, &l.request, in[n:]) {
					l.s.lend(c, in)
				}
			}
			return
		}
		c.awaited = false
		if in = in[n:]; c.leaving { // and nobody hears what follows
			in = nil
		}
		if c.sending != nil {
			turn -= c.sending.size
		}
		if (len(l.out) >= flushLen || c.sending != nil) && !l.flush(c) {
			l.keep(c, in)
			return
		}
		if turn <= 0 && len(in) > 0 { // it is others' turn; all that was answered is sent
			l.keep(c, in)
			l.await(c, toWrite) // which it is; to be read there may be the end
			return
		}
	}
	if l.flush(c) && c.leaving {
		l.bid(c)
	} else {
		l.keep(c, in)
	}
}

// keep holds on to octets that are not answered yet.
func (l *loop) keep(c *client, in []byte) {
	if len(in) == 0 || c.gone {
		return
	}
	if c.sending == nil && c.begun.IsZero() {
		c.begun = l.now
	}
	c.held = append([]byte(nil), in...)
}

// vain is for how many answers nothing is read any more for a client once that was in vain.
const vain = 64

// prepare has it read what answer said is not at hand. It reports false if that
// cannot be done, or was done.
func (l *loop) prepare(c *client, in []byte) bool {
	if c.awaited {
		c.awaited, c.vain = false, vain
		return false
	}
	if c.vain > 0 {
		c.vain--
		return false
	}
	c.held, c.awaited, c.begun = append([]byte(nil), in...), true, time.Time{}
	c.lent.Store(true)
	l.s.lent.Add(1)
	const nothing = syscall.EPOLLONESHOT // and even its end only once
	if c.listen(syscall.EPOLL_CTL_MOD, nothing) == nil && l.s.prompt.Prepare(l.unread, c.prepared) {
		return true
	}
	l.s.lent.Add(-1)
	c.lent.Store(false)
	c.held, c.awaited = nil, false
	return false
}

// prepared gives c back to its loop, for another try.
func (c *client) prepared() {
	c.loop.s.lent.Add(-1)
	c.active, _ = c.loop.s.opt.Clock()
	if c.listen(syscall.EPOLL_CTL_MOD, toWrite) != nil { // which it is: so the loop looks at once
		c.close()
		return
	}
	c.lent.Store(false) // until then the loop does not heed what it is told
}

// answer appends what stands for r to out, or has it sent. Otherwise it does
// nothing; if the answer may be on a disk, its key is in unread.
func (l *loop) answer(c *client, r *plain) standing.Verdict {
	if r.Secure = c.state != nil; r.Secure && !c.wire.scope.covers(l.s, c.state, r.Host) {
		return standing.Elsewhere
	}
	a, said := l.s.opt.Standing.Find(&r.Request, l.now), standing.Decided
	if a == nil {
		l.asker.tls = c.state
		a, said = l.asker.ask(r, c.addr)
	}
	if l.unread = a.Key; said != standing.Decided {
		return said
	}
	size := a.Size
	if r.Head {
		size = 0
	}
	before, closes := len(l.out), r.close || l.s.draining.Load()
	l.out = a.AppendHead(l.out, l.now)
	if closes {
		l.out = append(l.out, "Connection: close\r\n"...)
	}
	l.out = append(l.out, "\r\n"...)
	if size > copyLen {
		body, ok := l.s.prompt.OpenNow(a.Key, a.ID, a.Rev, a.Off, size)
		if !ok {
			l.out = l.out[:before]
			return standing.Unread
		}
		c.sending = &sending{body: body, answer: a, left: size, size: size}
	} else {
		var ok bool
		if l.out, ok = l.s.prompt.AppendNow(l.out, a.Key, a.ID, a.Rev, a.Off, size); !ok {
			l.out = l.out[:before]
			return standing.Unread
		}
		l.short = l.now
		l.tell.observe(a, c.addr, r.Head, size, l.now, nil)
	}
	c.begun = time.Time{}
	c.leaving = closes
	return standing.Decided
}

// flush sends out, and what c is being sent after it. It reports true if all of it
// went; otherwise the rest is kept, or c is gone.
func (l *loop) flush(c *client) bool {
	if c.sending == nil {
		if len(l.out) == 0 {
			return true
		}
		out := l.seal(c, l.out)
		n, err := writeNow(c.fd, out)
		if n == len(out) {
			l.out = l.out[:0]
			return true
		}
		if err != nil && err != syscall.EAGAIN && err != syscall.EINTR {
			l.drop(c)
			return false
		}
		c.sending = &sending{first: append([]byte(nil), out[max(n, 0):]...), since: l.now}
		l.out = l.out[:0]
		l.await(c, toWrite)
		return false
	}
	s := c.sending
	s.first, s.since, s.began = l.seal(c, l.out), l.now, l.now
	done := l.send(c, s)
	if !done && !c.gone {
		s.answer = s.answer.Clone() // it is used again
	}
	l.out = l.out[:0]
	return done
}

// A sending is what a client has not taken yet.
type sending struct {
	first  []byte // comes before the body
	body   store.Pinned
	left   int64 // octets of the body
	answer *standing.Answer
	size   int64
	began  time.Time

	// since is when the pace was last measured, and taken how much the client
	// has taken from then on.
	since time.Time
	taken int64
}

// send sends as much of s as c takes, in its turn. It reports true once that is
// all of it; otherwise c is watched, or gone.
func (l *loop) send(c *client, s *sending) bool {
	turn := int64(turnLen)
	if l.now.Sub(l.short) < shortTime {
		turn = shortTurn
	}
	for turn > 0 {
		n, err := l.write(c, s, turn)
		if err == syscall.EINTR {
			continue
		}
		if err == syscall.EAGAIN {
			break
		}
		if err != nil {
			l.drop(c)
			return false
		}
		turn -= n
		s.taken += n
		if len(s.first) == 0 && s.left == 0 {
			l.finish(c, nil)
			if c.leaving {
				l.bid(c)
				return false
			}
			return true
		}
	}
	s.first = append([]byte(nil), s.first...) // its room is used again
	l.await(c, toWrite)
	return false
}

// finish ends what c is being sent.
func (l *loop) finish(c *client, fault error) {
	s := c.sending
	if c.sending = nil; s == nil || s.body == nil {
		return
	}
	s.body.Close()
	l.tell.observe(s.answer, c.addr, false, s.size-s.left, s.began, fault)
}

// seal returns p as c gets it, until the next call.
func (l *loop) seal(c *client, p []byte) []byte {
	if c.wire == nil {
		return p
	}
	l.sealed, _ = c.wire.seal(l.sealed[:0], p) // a TLS that has ended has nothing to say: the client is dropped when it is read
	return l.sealed
}

// sealLen is how much of a body is sealed at once, in octets.
const sealLen = 32 << 10

// write sends the next octets, about most of the body at once.
func (l *loop) write(c *client, s *sending, most int64) (int64, error) {
	if c.wire == nil {
		return s.write(c.fd, most)
	}
	if s.left > 0 && len(s.first) < copyLen {
		piece, err := s.body.Next()
		if err != nil {
			return 0, err
		}
		room := s.first
		if len(room) == 0 {
			room = l.sealed[:0]
		}
		piece = piece[:min(int64(len(piece)), s.left, sealLen)]
		if s.first, err = c.wire.seal(room, piece); err != nil {
			return 0, err
		}
		if cap(s.first) > cap(l.sealed) {
			l.sealed = s.first[:0]
		}
		s.advance(int64(len(piece)))
	}
	n, err := writeNow(c.fd, s.first)
	s.first = s.first[max(n, 0):]
	return int64(n), err
}

// write sends the next octets, about most of the body at once.
func (s *sending) write(fd int, most int64) (int64, error) {
	if s.left == 0 {
		n, err := writeNow(fd, s.first)
		s.first = s.first[max(n, 0):]
		return int64(n), err
	}
	if f, off, n := s.body.File(); f != nil {
		if len(s.first) > 0 {
			n, err := sendMore(fd, s.first)
			s.first = s.first[max(n, 0):]
			return int64(n), err
		}
		m, err := sendFile(fd, f, off, min(n, s.left, most))
		s.advance(m)
		return m, err
	}
	piece, err := s.body.Next()
	if err != nil {
		return 0, err
	}
	n, err := writeTwo(fd, s.first, piece[:min(int64(len(piece)), s.left, most)])
	if n <= len(s.first) {
		s.first = s.first[max(n, 0):]
	} else {
		s.advance(int64(n - len(s.first)))
		s.first = nil
	}
	return int64(n), err
}

func (s *sending) advance(n int64) {
	if n > 0 {
		s.body.Advance(int(n))
		s.left -= n
	}
}

// bid ends a connection after its last answer. Until the client has closed it too,
// or has had a moment for that, what it sends is read: or the answer could be lost
// (RFC 9112 §9.6).
func (l *loop) bid(c *client) {
	c.leaving, c.held, c.begun = true, nil, l.now
	if c.shut() != nil {
		l.drop(c)
		return
	}
	l.await(c, toRead)
}

// drop closes a connection at once.
func (l *loop) drop(c *client) {
	if c.gone {
		return
	}
	l.finish(c, io.ErrUnexpectedEOF)
	c.close()
}

// makeRoom ends a share of the connections that wait for another request, those that
// have waited longest.
func (l *loop) makeRoom() {
	const share = 16 // one of so many, so that not each new client costs a look at all
	var idle []*client
	for c := range l.s.clients.all() {
		if c.loop == l && !c.lent.Load() && c.idle() && l.now.Sub(c.active) > sweepTime {
			idle = append(idle, c)
		}
	}
	slices.SortFunc(idle, func(a, b *client) int { return a.active.Compare(b.active) })
	most := (len(idle) + share - 1) / share
	for _, c := range idle {
		if most > 0 && nothingCame(c.fd) { // or it has asked for something since the loop last looked
			most--
			l.drop(c)
		}
	}
}

// sweep ends the connections that have taken too long.
func (l *loop) sweep() {
	lim := &l.s.opt.Limits
	stopped, draining := l.s.stopped.Load(), l.s.draining.Load()
	for c := range l.s.clients.all() {
		if w := c.reply.Load(); w != nil && c.loop == l {
			if w.look(l.now, lim); stopped {
				w.giveUp()
			}
		}
		if c.loop != l || c.lent.Load() {
			continue
		}
		quiet := l.now.Sub(c.active)
		switch s := c.sending; {
		case stopped,
			s == nil && c.leaving && l.now.Sub(c.begun) > linger,
			s == nil && !c.begun.IsZero() && l.now.Sub(c.begun) > lim.HeadTimeout,
			s == nil && quiet > lim.IdleTimeout,
			draining && c.idle() && quiet > sweepTime && nothingCame(c.fd): // a loop may have been late to read
			l.drop(c)
		case s != nil && l.now.Sub(s.since) > lim.StallTimeout && s.taken < lim.least():
			l.drop(c)
		case s != nil && l.now.Sub(s.since) > lim.StallTimeout:
			s.since, s.taken = l.now, 0
		}
	}
}
