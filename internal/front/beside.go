package front

import (
	"context"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// Beside has Drain call drain too, and wait for it, before it takes the Server for idle. It is
// for another door whose clients the Server counts and answers (Enter, Answer), and is called
// before Drain, once.
func (s *Server) Beside(drain func(context.Context) error) { s.beside = drain }

func (s *Server) drainBeside(ctx context.Context) error {
	if s.beside == nil {
		return nil
	}
	return s.beside(ctx)
}

// Limits are those that the Server keeps to.
func (s *Server) Limits() Limits { return s.opt.Limits }

// Enter takes a place for a connection of a client that comes by another door, unless there is
// none, or the client has too many. Whoever is let in calls leave in the end, once.
func (s *Server) Enter(client netip.Addr) (leave func(), ok bool) {
	select {
	case s.places <- struct{}{}:
	default:
		s.wantRoom()
		return nil, false
	}
	if client = clientOf(client); !s.admits(client) {
		<-s.places
		return nil, false
	}
	return func() { s.crowd.leave(client); <-s.places }, true
}

// Answer answers a request that came by another door: by TLS, framed soundly, and with a
// w that has deadlines (http.ResponseController).
func (s *Server) Answer(w http.ResponseWriter, r *http.Request) {
	defer s.leave(1)
	if s.running.Add(1) < 0 {
		panic(http.ErrAbortHandler)
	}
	if hosts, ok := r.Header["Host"]; ok {
		if len(hosts) != 1 || !strings.EqualFold(hosts[0], r.Host) {
			s.refuse(w, r, http.StatusBadRequest, "another host in the Host field than in :authority (RFC 9114 4.3.1)")
			return
		}
		delete(r.Header, "Host")
	}
	t := &stream{ResponseWriter: w, control: http.NewResponseController(w), limits: &s.opt.Limits}
	if r.Body != http.NoBody {
		r.Body = &streamBody{r.Body, t, time.Time{}}
	}
	s.admit(t, r)
}

// A stream is the answer to a request that came by another door. It gives up on a client that
// leaves no room for any of it in StallTimeout, however the rest of its connection fares.
type stream struct {
	http.ResponseWriter
	control *http.ResponseController
	limits  *Limits
	armed   time.Time // when the write deadline was last set
}

// Unwrap is for http.ResponseController.
func (t *stream) Unwrap() http.ResponseWriter { return t.ResponseWriter }

func (t *stream) Write(p []byte) (int, error) {
	const piece = 64 << 10 // or the deadline would be for all that is written
	written := 0
	for {
		_ = t.limits.arm(&t.armed, t.control.SetWriteDeadline) // fails on a stream that is over only
		n, err := t.ResponseWriter.Write(p[written:min(written+piece, len(p))])
		if written += n; err != nil || written == len(p) {
			return written, err
		}
	}
}

// FlushError implements what http.ResponseController looks for.
func (t *stream) FlushError() error {
	_ = t.limits.arm(&t.armed, t.control.SetWriteDeadline)
	return t.control.Flush()
}

// A streamBody gives up on a client that sends nothing for StallTimeout.
type streamBody struct {
	io.ReadCloser
	stream *stream
	armed  time.Time
}

func (b *streamBody) Read(p []byte) (int, error) {
	_ = b.stream.limits.arm(&b.armed, b.stream.control.SetReadDeadline)
	return b.ReadCloser.Read(p)
}
