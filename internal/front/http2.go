package front

import (
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	maxStreams = 100 // requests that a client may have running on one HTTP/2 connection

	// What a client may send on one connection, and for one of its requests, before
	// somebody has read it, in octets.
	connWindow   = 1 << 20
	streamWindow = 256 << 10
)

// answer2 is answer for HTTP/2.
func (s *Server) answer2(w http.ResponseWriter, r *http.Request) {
	defer s.leave(1)
	if s.running.Add(1) < 0 {
		panic(http.ErrAbortHandler)
	}
	if hosts, ok := r.Header["Host"]; ok {
		if len(hosts) != 1 || !strings.EqualFold(hosts[0], r.Host) {
			s.refuse(w, r, http.StatusBadRequest, "Host is not what :authority says (RFC 9113 8.3.1)")
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

// A stream is the answer to a request in HTTP/2. It gives up on a client that leaves no room
// for any of it in StallTimeout, however the rest of its connection fares.
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
