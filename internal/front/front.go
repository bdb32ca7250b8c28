// Package front is the door: it owns the sockets, reads HTTP/1 more strictly
// than net/http does, and sees to it that no client holds on to anything for
// ever. Where the system allows it, loops replay what stands (package standing)
// and net/http gets the rest; elsewhere net/http gets all, which is the reference:
// the octets are the same.
package front

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larderhq/larder/internal/observe"
	"github.com/larderhq/larder/internal/standing"
	"github.com/larderhq/larder/store"
)

// Options are what a Server is made of.
type Options struct {
	// Handler answers the requests. Required.
	Handler http.Handler

	Limits Limits

	// Refused, where set, is told of a client whose octets are not HTTP as it
	// is spoken here, and why: RFC and section, no octet of the client. It is
	// called by many goroutines and must not block.
	Refused func(client string, status int, why string)

	// Standing, where set, has what is answered without the Handler: where the
	// system allows that, and the listener is one for TCP. Store has to be what
	// its Answers are about, Clock what they are dated by, and Sink is told of
	// each. A Store that is no store.Prompt has nothing at hand.
	Standing *standing.Table
	Store    store.Store
	Clock    func() (steady, wall time.Time)
	Sink     observe.Sink

	// Recent, where set, gets to see a sample of what is answered without the Handler.
	Recent *observe.Recent

	// Decide, where set, says what is answered to a request for which nothing
	// stands yet, if it can say so at once: the context of the request is
	// store.AtOnce. It fills in the Answer, using the room that is there. The
	// request is not the callee's to keep.
	Decide func(*http.Request, *standing.Answer) standing.Verdict

	// TLS, where set, is for ServeTLS.
	TLS *TLS

	// H2C has Serve speak HTTP/2 with those who begin with it, too, without TLS (RFC 9113 §3.3).
	H2C bool

	// Log gets what is wrong with single connections, at debug level. Nil:
	// slog.Default.
	Log *slog.Logger
}

// A Server serves HTTP/1, and HTTP/2 by TLS, from listeners. Make one with New.
type Server struct {
	opt  Options
	http http.Server

	// running counts the requests that are being answered, less gone after
	// Drain; idle is closed when only gone is left.
	running atomic.Int64
	idle    chan struct{}
	once    sync.Once
	crowd   crowd
	places  chan struct{} // one for each client
	prompt  store.Prompt  // of the store
	noted   atomic.Int64  // when it last turned a client away, in Unix nanoseconds

	beside func(context.Context) error // drains the door for HTTP/3, or nil

	fast // the way that needs no net/http
	encrypted
}

// gone is more than there can be requests.
const gone = 1 << 62

// New makes a Server. It listens nowhere yet.
func New(o Options) *Server {
	local := o.Limits.ClientConns <= 0
	o.Limits = o.Limits.complete()
	if o.Log == nil {
		o.Log = slog.Default()
	}
	s := &Server{opt: o, idle: make(chan struct{}), crowd: crowd{most: o.Limits.ClientConns, local: local}}
	room := o.Limits.Conns
	if o.TLS != nil {
		room++ // for the next one, that ServeTLS waits for
	}
	s.places = make(chan struct{}, room)
	s.init(o.Limits.Conns)
	var ok bool
	if s.prompt, ok = o.Store.(store.Prompt); !ok {
		s.prompt = store.Unprepared{}
	}
	s.initTLS()
	s.http = http.Server{
		Handler:                      http.HandlerFunc(s.answer),
		Protocols:                    new(http.Protocols),
		ReadHeaderTimeout:            o.Limits.HeadTimeout,
		IdleTimeout:                  o.Limits.IdleTimeout,
		MaxHeaderBytes:               o.Limits.Head,
		DisableGeneralOptionsHandler: true, // OPTIONS * is the origin's
		ErrorLog:                     log.New(debugLog{o.Log}, "", 0),
		ConnState:                    turned,
		ConnContext:                  func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
	}
	s.http.Protocols.SetHTTP1(true)
	return s
}

// connKey is what a request's context has its connection under.
type connKey struct{}

// turned tells the door of a connection that a handler has taken over, and of one
// on which net/http has answered and waits for another request.
func turned(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateHijacked:
		if c := c.(*conn); !c.hijacked.Swap(true) && c.loan != nil {
			c.loan.tunnel()
		}
	case http.StateIdle:
		c.(*conn).idle.Store(true)
	}
}

// debugLog is an io.Writer that logs each write.
type debugLog struct{ *slog.Logger }

func (l debugLog) Write(p []byte) (int, error) {
	l.Debug("connection", "what", string(p))
	return len(p), nil
}

// Serve answers what comes to l until Drain or a failure of l, and closes it.
// It returns nil after Drain.
func (s *Server) Serve(l net.Listener) error {
	if ok, err := s.serveFast(l, s.welcome); ok {
		return err
	}
	return s.serveHTTP(l)
}

// serveHTTP is Serve by net/http alone.
func (s *Server) serveHTTP(l net.Listener) error {
	g := s.guard(l)
	if s.opt.H2C {
		g = s.sorted(g)
	}
	err := s.http.Serve(g)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Drain stops listening and lets requests that are running end, until ctx
// does. What runs then is cut off, and the error is that of ctx. When it
// returns no request is running, save those that go on for 2 s after their
// client was cut off. It is called once.
func (s *Server) Drain(ctx context.Context) error {
	secure, beside := make(chan error, 1), make(chan error, 1)
	go func() { secure <- s.drainTLS(ctx) }()
	go func() { beside <- s.drainBeside(ctx) }()
	err := s.drainFast(ctx)
	if serr := s.http.Shutdown(ctx); err == nil {
		err = serr
	}
	if err != nil {
		_ = s.http.Close() // the connections are cut, whatever it says
	}
	for _, other := range []chan error{secure, beside} {
		if oerr := <-other; err == nil {
			err = oerr
		}
	}
	const grace = 2 * time.Second
	s.leave(gone)
	patience := time.NewTimer(grace)
	defer patience.Stop()
	select {
	case <-s.idle:
		s.endFast(patience.C)
	case <-patience.C:
	}
	return err
}

// sweepTime is how often it is looked for those who have taken too long, or are to make room.
const sweepTime = 250 * time.Millisecond

// place takes a place for another client. If there is none, those make room that
// wait for nothing. It reports false if no more clients are wanted.
func (s *Server) place(stop <-chan struct{}) bool {
	select {
	case s.places <- struct{}{}:
		return true
	default:
	}
	for {
		s.wantRoom()
		select {
		case s.places <- struct{}{}:
			return true
		case <-stop:
			return false
		case <-time.After(sweepTime):
		}
	}
}

// wantRoom has those make room that wait for nothing.
func (s *Server) wantRoom() {
	s.callLoops()
	s.http2.MakeRoom()
}

// A patience tries again, a little later each time, where the system has nothing left for
// another connection.
type patience struct {
	log   *slog.Logger
	pause time.Duration
}

func (p *patience) renew() { p.pause = 0 }

// wait waits after err, and reports false if stop is closed meanwhile.
func (p *patience) wait(err error, stop <-chan struct{}) bool {
	const longest = time.Second
	p.pause = min(max(2*p.pause, 5*time.Millisecond), longest)
	p.log.Warn("no connection can be accepted for a moment", "error", err, "pause", p.pause)
	select {
	case <-time.After(p.pause):
		return true
	case <-stop:
		return false
	}
}

// crowdPause is how often it is noted at most that a client has too many
// connections.
const crowdPause = time.Minute

// admits counts a connection of client, unless it has too many.
func (s *Server) admits(client netip.Addr) bool {
	if s.crowd.enter(client) {
		return true
	}
	now := time.Now().UnixNano()
	if last := s.noted.Load(); now-last > int64(crowdPause) && s.noted.CompareAndSwap(last, now) {
		s.opt.Log.Warn(fmt.Sprintf("%v has %d connections, and gets no more: raise --limit connections-per-client if it speaks for many", client, s.opt.Limits.ClientConns))
	}
	return false
}

// leave takes n from running.
func (s *Server) leave(n int64) {
	if s.running.Add(-n) == -gone {
		s.once.Do(func() { close(s.idle) })
	}
}

// answer does what net/http leaves undone before a request is answered.
func (s *Server) answer(w http.ResponseWriter, r *http.Request) {
	defer s.leave(1)
	if s.running.Add(1) < 0 {
		panic(http.ErrAbortHandler) // too late: all that follows may be closed
	}
	c := r.Context().Value(connKey{}).(*conn)
	if !c.passed.next(r) {
		if c.tell != nil {
			c.tell(r.RemoteAddr, http.StatusBadRequest, "a request where none began (RFC 9112 11.2)")
		}
		panic(http.ErrAbortHandler)
	}
	if s.isDraining() {
		w.Header()["Connection"] = []string{"close"}
	}
	h := r.Header
	if _, ok := h["Pragma"]; ok {
		unmark(h)
	}
	// A request with Upgrade is the last that the door lets pass, and the client
	// may know; and HTTP/1.0 gets no persistent one (RFC 9112 §9.3).
	if _, ok := h["Upgrade"]; ok || r.ProtoMajor == 1 && r.ProtoMinor == 0 {
		w.Header()["Connection"] = []string{"close"}
	}
	r.TLS = c.secure
	s.admit(w, r)
}

// admit has a request answered that is sound, unless nobody is to have it.
func (s *Server) admit(w http.ResponseWriter, r *http.Request) {
	h := r.Header
	if lines(h) >= s.opt.Limits.Fields { // and Host, which net/http has taken out
		s.refuse(w, r, http.StatusRequestHeaderFieldsTooLarge, "the head has too many lines (RFC 6585 5)")
		return
	}
	if s.misdirected(r) {
		s.refuse(w, r, http.StatusMisdirectedRequest, "this connection was made for another host (RFC 9110 7.4)")
		return
	}
	if lines, ok := h["Expect"]; ok && (len(lines) != 1 || !strings.EqualFold(lines[0], "100-continue")) {
		s.refuse(w, r, http.StatusExpectationFailed, "the only expectation is 100-continue (RFC 9110 10.1.1)")
		return
	}
	s.opt.Handler.ServeHTTP(w, r)
}

// refuse answers a request that goes nowhere, as the last one of its connection in HTTP/1.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, status int, why string) {
	if s.opt.Refused != nil {
		s.opt.Refused(r.RemoteAddr, status, why)
	}
	if r.ProtoMajor < 2 { // others may be running on it
		w.Header()["Connection"] = []string{"close"}
	}
	http.Error(w, fmt.Sprintf("%d %s: %s", status, http.StatusText(status), why), status)
}
