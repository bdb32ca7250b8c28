package front

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// fast is what a Server needs to answer by loops.
type fast struct {
	loops   []*loop
	clients clients
	loans   chan *conn  // what net/http is to answer
	replies chan *reply // what a goroutine is to answer that has none
	looping sync.WaitGroup
	lent    atomic.Int32 // clients that are lent

	mu        sync.Mutex     // guards listening
	listening []*os.File     // nil: there are no loops
	doors     sync.WaitGroup // those who accept from them

	closing  chan struct{} // closed when no client is accepted any more
	draining atomic.Bool   // no client has another request after the next
	stopped  atomic.Bool   // nor that
	accepted atomic.Bool   // no client comes any more
	looped   chan struct{} // closed when the loops have ended
	ended    chan struct{} // closed when net/http takes nothing any more
	ending   sync.Once
}

func (f *fast) init(conns int) {
	f.loans, f.replies = make(chan *conn, conns), make(chan *reply)
	f.closing, f.ended, f.looped = make(chan struct{}), make(chan struct{}), make(chan struct{})
}

// isListening tells whether there are loops.
func (s *Server) isListening() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.listening != nil
}

func (s *Server) isDraining() bool { return s.draining.Load() }

// serveFast is Serve, or ServeTLS, by loops. ok is false if l is none that they can have.
func (s *Server) serveFast(l net.Listener, welcome func(fd int, peer netip.AddrPort, local net.Addr)) (ok bool, err error) {
	tcp, is := l.(*net.TCPListener)
	if !is || s.opt.Standing == nil {
		return false, nil
	}
	defer l.Close()
	f, err := s.listen(tcp)
	if err != nil || f == nil {
		return true, err
	}
	defer f.Close()
	defer s.doors.Done()
	return true, s.accept(f, func(fd int, peer netip.AddrPort) { welcome(fd, peer, l.Addr()) })
}

// listen has loops run. Nil: the Server was drained already.
func (s *Server) listen(l *net.TCPListener) (*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining.Load() {
		return nil, nil
	}
	f, err := l.File()
	if err != nil {
		return nil, err
	}
	if s.listening == nil {
		if err := s.start(); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	s.listening = append(s.listening, f)
	s.doors.Add(1)
	return f, nil
}

// start starts the loops.
func (s *Server) start() error {
	for range runtime.NumCPU() {
		l, err := newLoop(s)
		if err != nil {
			return err
		}
		s.loops = append(s.loops, l)
	}
	for _, l := range s.loops {
		s.looping.Go(l.run)
	}
	go func() { _ = s.http.Serve(lender{s}) }() // until Drain
	go s.tick()
	go func() {
		s.looping.Wait()
		close(s.looped)
	}()
	return nil
}

// prepare sets what net sets of its connections: small answers go at once, and a
// client that is gone without a word is noticed. The listener cannot be told:
// clients may have come before it was ours.
func prepare(fd int) error {
	for _, o := range [...][3]int{
		{syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1},
		{syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1},
		{syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, 15},
		{syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, 15},
		{syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, 9},
	} {
		if err := syscall.SetsockoptInt(fd, o[0], o[1], o[2]); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return nil
}

// accept gives clients to the loops until closing. Where the system has nothing
// left for another one, it tries again, a little later each time.
func (s *Server) accept(f *os.File, welcome func(fd int, peer netip.AddrPort)) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	for patience := (patience{log: s.opt.Log}); ; {
		var fd int
		var from syscall.Sockaddr
		var err error
		closed := raw.Read(func(l uintptr) bool {
			fd, from, err = syscall.Accept4(int(l), syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
			return err != syscall.EAGAIN
		})
		if closed != nil {
			return nil
		}
		if err == nil {
			patience.renew()
			if peer := peerOf(from); !s.admits(clientOf(peer.Addr())) {
				_ = syscall.Close(fd) // nothing was said
			} else if s.place(s.closing) {
				welcome(fd, peer)
			} else {
				s.crowd.leave(clientOf(peer.Addr()))
				return os.NewSyscallError("close", syscall.Close(fd))
			}
			continue
		}
		if err == syscall.ECONNABORTED || err == syscall.EINTR {
			continue
		}
		if err == syscall.EMFILE || err == syscall.ENFILE {
			s.wantRoom()
		}
		if !patience.wait(err, s.closing) {
			return nil
		}
	}
}

// callLoops has the loops make room.
func (s *Server) callLoops() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.loops {
		l.crowded.Store(true)
	}
	s.wake()
}

// newClient makes a client of a connection that has a place, and gives it to the loop that has
// the fewest, which does not hear of it yet. Nil: it cannot be one.
func (s *Server) newClient(fd int, peer netip.AddrPort, local net.Addr) *client {
	least := s.loops[0]
	for _, l := range s.loops[1:] {
		if l.load.Load() < least.load.Load() {
			least = l
		}
	}
	c := &client{fd: fd, loop: least, addr: peer.String(), from: clientOf(peer.Addr()), local: local}
	c.active, _ = s.opt.Clock()
	if fd >= len(s.clients)*pageClients || prepare(fd) != nil {
		_ = syscall.Close(fd)
		s.crowd.leave(c.from)
		<-s.places
		return nil
	}
	least.load.Add(1)
	c.lent.Store(true)
	return c
}

// welcome has the loop of a new client hear of it.
func (s *Server) welcome(fd int, peer netip.AddrPort, local net.Addr) {
	c := s.newClient(fd, peer, local)
	if c == nil {
		return
	}
	s.clients.at(fd).Store(c)
	if c.listen(syscall.EPOLL_CTL_ADD, toRead) != nil {
		c.close()
		return
	}
	c.lent.Store(false)
}

// drainFast lets every client have the answer it waits for, until ctx ends: then the
// error is that of ctx.
func (s *Server) drainFast(ctx context.Context) error {
	s.mu.Lock()
	s.draining.Store(true)
	doors := s.listening
	s.mu.Unlock()
	if doors == nil {
		return nil
	}
	close(s.closing)
	for _, f := range doors {
		_ = f.Close() // which ends accept
	}
	s.doors.Wait()
	s.accepted.Store(true)
	s.wake()
	select {
	case <-s.looped:
		return nil
	case <-ctx.Done():
		s.stopped.Store(true)
		s.wake()
		return ctx.Err()
	}
}

// endFast returns when the loops have ended, once net/http has let go of all
// connections, or patience is over.
func (s *Server) endFast(patience <-chan time.Time) {
	if !s.isListening() {
		return
	}
	for {
		select {
		case c := <-s.loans:
			c.loan.client.close()
			s.wake()
		case <-s.looped:
			return
		case <-patience:
			return
		}
	}
}
