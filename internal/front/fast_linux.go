package front

import (
	"context"
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
	addr    net.Addr
	loans   chan *conn  // what net/http is to answer
	replies chan *reply // what a goroutine is to answer that has none
	looping sync.WaitGroup
	lent    atomic.Int32 // clients that are lent

	mu        sync.Mutex // guards listening
	listening *os.File   // nil: nowhere, or no longer

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

// serveFast is Serve by loops.
func (s *Server) serveFast(l *net.TCPListener) error {
	defer l.Close()
	f, err := s.listen(l)
	if err != nil || f == nil {
		return err
	}
	defer f.Close()
	go func() { _ = s.http.Serve(lender{s}) }() // until Drain
	err = s.accept(f)
	s.accepted.Store(true)
	s.wake()
	return err
}

// listen starts the loops. Nil: the Server was drained already.
func (s *Server) listen(l *net.TCPListener) (*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining.Load() {
		return nil, nil
	}
	for range runtime.NumCPU() {
		l, err := newLoop(s)
		if err != nil {
			return nil, err
		}
		s.loops = append(s.loops, l)
	}
	f, err := l.File()
	if err != nil {
		return nil, err
	}
	s.addr, s.listening = l.Addr(), f
	for _, l := range s.loops {
		s.looping.Go(l.run)
	}
	go s.tick()
	go func() {
		s.looping.Wait()
		close(s.looped)
	}()
	return f, nil
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
func (s *Server) accept(f *os.File) error {
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
				s.welcome(fd, peer)
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

// welcome gives a connection, which has a place, to the loop that has the fewest.
func (s *Server) welcome(fd int, peer netip.AddrPort) {
	least := s.loops[0]
	for _, l := range s.loops[1:] {
		if l.load.Load() < least.load.Load() {
			least = l
		}
	}
	c := &client{fd: fd, loop: least, addr: peer.String(), from: clientOf(peer.Addr())}
	c.active, _ = s.opt.Clock()
	if fd >= len(s.clients)*pageClients || prepare(fd) != nil {
		_ = syscall.Close(fd)
		s.crowd.leave(c.from)
		<-s.places
		return
	}
	least.load.Add(1)
	c.lent.Store(true) // until the loop is told of it
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
	f := s.listening
	s.mu.Unlock()
	if f == nil {
		return nil
	}
	close(s.closing)
	_ = f.Close() // which ends accept
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
