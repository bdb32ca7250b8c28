package sftp

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"github.com/larderhq/larder/gateway"
)

const (
	// heartbeat is how often a connection is asked for a sign of life, and how
	// long an answer may take before it is given up.
	heartbeat = 15 * time.Second
	// idleTime is how long a connection is kept that nobody uses.
	idleTime = 2 * time.Minute
)

// A conn is one SSH connection with one SFTP session on it. Any number of
// goroutines may use it.
type conn struct {
	ssh  *ssh.Client
	sftp *sftp.Client
	root string // REALPATH of the root
	meter

	patience time.Duration // how long an answer may come late that nobody waits for
	once     sync.Once
	dead     chan struct{}

	// of the pool, under its lock
	users int
	since time.Time
}

// dial makes a connection, logs in and finds the root.
func (s *Source) dial(ctx context.Context) (*conn, error) {
	var d net.Dialer
	wire, err := d.DialContext(ctx, "tcp", s.opt.Addr)
	if err != nil {
		return nil, ended(ctx, err)
	}
	hangUp := context.AfterFunc(ctx, func() { _ = wire.Close() }) // it is over
	c, err := guarded(func() { _ = wire.Close() }, func() (*conn, error) { return s.handshake(ctx, wire) })
	if err != nil {
		hangUp()
		_ = wire.Close() // the error says more
		return nil, ended(ctx, err)
	}
	if !hangUp() {
		c.kill()
		return nil, ctx.Err()
	}
	go c.watch()
	go c.keepAlive(s.conns, s.beat, s.idle)
	return c, nil
}

// ended returns the context's error if that ended, for then err only follows from it.
func ended(ctx context.Context, err error) error {
	if e := ctx.Err(); e != nil {
		return e
	}
	return err
}

func (s *Source) handshake(ctx context.Context, wire net.Conn) (*conn, error) {
	client, err := s.logIn(ctx, wire)
	if err != nil {
		return nil, err
	}
	c := &conn{ssh: client, meter: meter{listing: make(chan struct{}, 1), data: map[uint32]bool{}}, patience: s.beat, dead: make(chan struct{}), since: time.Now()}
	if err := c.start(s.opt.Root); err != nil {
		c.kill()
		return nil, err
	}
	return c, nil
}

// start begins the SFTP session.
func (c *conn) start(root string) error {
	session, err := c.ssh.NewSession()
	if err != nil {
		return err
	}
	in, err := session.StdinPipe()
	if err != nil {
		return err
	}
	out, err := session.StdoutPipe()
	if err != nil {
		return err
	}
	noise, err := session.StderrPipe()
	if err != nil {
		return err
	}
	if err := session.RequestSubsystem("sftp"); err != nil {
		return err
	}
	go func() { _, _ = io.Copy(io.Discard, noise) }() // what nobody reads fills the window
	c.meter.r, c.meter.w = out, in
	if c.sftp, err = sftp.NewClientPipe(&c.meter, &c.meter); err != nil {
		return err
	}
	if root == "" {
		root = "."
	}
	c.root, err = c.sftp.RealPath(root)
	return err
}

// watch hangs up when the session ended.
func (c *conn) watch() {
	_ = c.sftp.Wait() // whoever waits for an answer has the error
	c.kill()
}

// keepAlive asks for a sign of life with each beat, so that a peer that vanished is
// noticed, and hangs up what nobody used for so long as idle says.
func (c *conn) keepAlive(p *pool, beat, idle time.Duration) {
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		select {
		case <-c.dead:
			return
		case <-tick.C:
		}
		if p.retire(c, idle) {
			return
		}
		late := time.AfterFunc(beat, c.kill)
		_, _, err := c.ssh.SendRequest("keepalive@openssh.com", true, nil) // a refusal is a sign of life
		late.Stop()
		if err != nil {
			c.kill()
		}
	}
}

// kill hangs up. All that waits for an answer fails.
func (c *conn) kill() {
	c.once.Do(func() {
		close(c.dead)
		_ = c.ssh.Close() // nothing is left to be lost
	})
}

func (c *conn) isDead() bool {
	select {
	case <-c.dead:
		return true
	default:
		return false
	}
}

// call runs f, which knows no contexts, and returns when f does or ctx ends. Then
// what f returns late goes to undo, which may be nil. A connection that broke is killed.
func call[T any](ctx context.Context, c *conn, f func() (T, error), undo func(T)) (T, error) {
	var none T
	if err := ctx.Err(); err != nil {
		return none, err
	}
	type answer struct {
		value T
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		v, err := guarded(c.kill, f)
		if fatal(err) {
			c.kill()
		}
		answers <- answer{v, err}
	}()
	select {
	case a := <-answers:
		return a.value, a.err
	case <-ctx.Done():
		c.later(func() {
			if a := <-answers; a.err == nil && undo != nil {
				undo(a.value)
			}
		})
		return none, ctx.Err()
	}
}

// later runs f, which waits for answers, behind the caller's back. A server that
// does not give them is left.
func (c *conn) later(f func()) {
	late := time.AfterFunc(c.patience, c.kill)
	go func() {
		defer late.Stop()
		_, _ = guarded(c.kill, func() (struct{}, error) { f(); return struct{}{}, nil })
	}()
}

// guarded runs f. Should the library panic, for what a server sent, it kills the connection and returns
// an error. Each goroutine that calls the library does so in here.
func guarded[T any](kill func(), f func() (T, error)) (v T, err error) {
	defer func() {
		if p := recover(); p != nil {
			kill()
			err = fmt.Errorf("the answer is malformed (%v): %w", p, gateway.ErrUnavailable)
		}
	}()
	return f()
}
