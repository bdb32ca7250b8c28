// Package front3 is the door for HTTP/3 (RFC 9114). It has the connections; places, limits and
// answers are those of the door for all others (package front).
package front3

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/larderhq/larder/internal/front"
)

const (
	maxStreams = 100 // requests that a client may have running on one connection
	maxControl = 8   // streams beside them: three, and what a client tries that we do not know

	// What a client may send on one connection, and for one of its requests, before somebody
	// has read it, in octets.
	connWindow   = 1 << 20
	streamWindow = 256 << 10

	// unproven is how many connections may be in the making whose clients have not shown that
	// they are where they say. Others have to show it first (Retry, RFC 9000 §8.1.2).
	unproven = 64

	// farewell is how long a connection is kept after its last answer, for what got lost on
	// the way, where it is to be closed.
	farewell = time.Second

	// sweepTime is how often it is looked for connections that are to be closed.
	sweepTime = 250 * time.Millisecond
)

// Options are what a Server is made of.
type Options struct {
	// Front has the places and the limits, and answers the requests. Its Drain drains the
	// Server too.
	Front *front.Server

	// TLS is what is agreed with clients. The protocols in it do not count.
	TLS *tls.Config

	// Log gets what is wrong with single connections, at debug level. Nil: slog.Default.
	Log *slog.Logger
}

// A Server serves HTTP/3 from a socket. Make one with New.
type Server struct {
	front     *front.Server
	limits    front.Limits
	socket    net.PacketConn
	transport quic.Transport
	listener  *quic.Listener
	http      http3.Server

	greeting atomic.Int64 // guests that are not here yet
	unproven int64

	mu     sync.Mutex
	guests map[*guest]struct{} // those that are here
}

// New makes a Server that lets clients in, but answers none before Serve. It takes the socket,
// also if it fails.
func New(socket net.PacketConn, o Options) (*Server, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	s := &Server{front: o.Front, limits: o.Front.Limits(), socket: socket, unproven: unproven, guests: make(map[*guest]struct{})}
	s.transport = quic.Transport{
		Conn:                socket,
		ConnContext:         s.enter,
		VerifySourceAddress: func(net.Addr) bool { return s.greeting.Load() >= s.unproven },
	}
	s.http = http3.Server{Handler: http.HandlerFunc(s.answer), MaxHeaderBytes: s.limits.Head, Logger: o.Log}
	var err error
	s.listener, err = s.transport.Listen(http3.ConfigureTLSConfig(o.TLS), &quic.Config{
		HandshakeIdleTimeout:           s.limits.HeadTimeout / 2, // twice as long for all of it
		MaxIdleTimeout:                 s.limits.IdleTimeout,
		InitialStreamReceiveWindow:     streamWindow,
		MaxStreamReceiveWindow:         streamWindow,
		InitialConnectionReceiveWindow: connWindow,
		MaxConnectionReceiveWindow:     connWindow,
		MaxIncomingStreams:             maxStreams,
		MaxIncomingUniStreams:          maxControl,
		Allow0RTT:                      false, // anybody could send it again (RFC 8470)
	})
	if err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	s.front.Beside(s.drain)
	return s, nil
}

// Serve answers what comes until the Front is drained, and returns nil then.
func (s *Server) Serve() error {
	over := make(chan struct{})
	defer close(over)
	go func() {
		for tick := time.NewTicker(sweepTime); ; {
			select {
			case <-tick.C:
				s.dismiss(s.limits.IdleTimeout)
			case <-over:
				tick.Stop()
				return
			}
		}
	}()
	if err := s.http.ServeListener(arrivals{s.listener, s}); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Close lets go of a Server that does not serve.
func (s *Server) Close() error {
	return errors.Join(s.listener.Close(), s.transport.Close(), s.socket.Close())
}

// drain lets nobody in any more, tells clients to ask for nothing else (GOAWAY, RFC 9114 §5.2),
// and lets requests that are running end, until ctx does: then they are cut off, and the error is
// that of ctx.
func (s *Server) drain(ctx context.Context) error {
	_ = s.listener.Close() // never fails
	ended := make(chan error, 1)
	go func() { ended <- s.http.Shutdown(ctx) }()
	tick := time.NewTicker(sweepTime)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.dismiss(farewell)
		case err := <-ended:
			return errors.Join(err, s.transport.Close(), s.socket.Close())
		}
	}
}

// arrivals are the connections that are there.
type arrivals struct {
	*quic.Listener
	s *Server
}

func (a arrivals) Accept(ctx context.Context) (*quic.Conn, error) {
	c, err := a.Listener.Accept(ctx)
	if err == nil {
		c.Context().Value(guestKey{}).(*guest).arrive(c)
	}
	return c, err
}

// A guest is a connection.
type guest struct {
	server *Server
	conn   *quic.Conn // once it is here

	here    atomic.Bool // or gone
	running atomic.Int64
	since   atomic.Int64 // when it last had something to do, in Unix nanoseconds
}

type guestKey struct{}

var errFull = errors.New("there is no place for another connection")

// enter lets in a connection, which may come from another client than it says.
func (s *Server) enter(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
	from, _ := netip.ParseAddrPort(info.RemoteAddr.String()) // no address is nobody's
	leave, ok := s.front.Enter(from.Addr())
	if !ok {
		return nil, errFull
	}
	g := &guest{server: s}
	s.greeting.Add(1)
	context.AfterFunc(ctx, func() {
		g.greeted()
		s.mu.Lock()
		delete(s.guests, g)
		s.mu.Unlock()
		leave()
	})
	return context.WithValue(ctx, guestKey{}, g), nil
}

// greeted ends the handshake, however it went.
func (g *guest) greeted() {
	if !g.here.Swap(true) {
		g.server.greeting.Add(-1)
	}
}

func (g *guest) arrive(c *quic.Conn) {
	g.greeted()
	g.conn = c
	g.touch()
	s := g.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.Context().Err() == nil {
		s.guests[g] = struct{}{}
	}
}

func (g *guest) touch() { g.since.Store(time.Now().UnixNano()) }

// dismiss closes the connections that have had nothing to do for so long. Requests whose heads
// do not end are nothing.
func (s *Server) dismiss(idle time.Duration) {
	before := time.Now().Add(-idle).UnixNano()
	s.mu.Lock()
	defer s.mu.Unlock()
	for g := range s.guests {
		if g.running.Load() == 0 && g.since.Load() <= before {
			_ = g.conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "") // it is gone either way
		}
	}
}

// answer has a request answered as all others.
func (s *Server) answer(w http.ResponseWriter, r *http.Request) {
	g := r.Context().Value(guestKey{}).(*guest)
	g.running.Add(1)
	control := http.NewResponseController(w)
	defer func() {
		_ = control.SetWriteDeadline(time.Now().Add(s.limits.StallTimeout)) // for what is sent last; it may be over
		g.touch()
		g.running.Add(-1)
	}()
	if err := s.measure(control, r); err != nil {
		panic(http.ErrAbortHandler)
	}
	if strings.EqualFold(r.Header.Get("Expect"), "100-continue") && r.ContentLength != 0 {
		w.WriteHeader(http.StatusContinue)
	}
	s.front.Answer(w, r)
}

// measure finds out whether a request has content that does not say how long it is. Of methods
// that usually have none the end comes with the head.
func (s *Server) measure(control *http.ResponseController, r *http.Request) error {
	if r.ContentLength < 0 {
		switch r.Method {
		case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodDelete:
		default:
			return nil
		}
		if err := control.SetReadDeadline(time.Now().Add(s.limits.HeadTimeout)); err != nil {
			return err
		}
		first := make([]byte, 1)
		switch _, err := io.ReadFull(r.Body, first); {
		case err == io.EOF:
			r.ContentLength = 0
		case err != nil:
			return err
		default:
			r.Body = &content{io.MultiReader(strings.NewReader(string(first)), r.Body), r.Body}
		}
		if err := control.SetReadDeadline(time.Time{}); err != nil {
			return err
		}
	}
	if r.ContentLength == 0 {
		r.Body = http.NoBody
	}
	return nil
}

// content is a body of which the beginning was read.
type content struct {
	io.Reader
	io.Closer
}
