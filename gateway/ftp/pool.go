package ftp

import (
	"context"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/larderhq/larder/gateway"
)

// idleTime is how long a connection is kept that nobody uses. Servers hang up after
// about a minute, without a word.
const idleTime = 30 * time.Second

// A pool is a few connections, each of which one request has at a time.
type pool struct {
	dial   func(context.Context) (*conn, error)
	places chan struct{} // one for each connection that may be in use

	mu     sync.Mutex
	idle   []*conn // the last one was used last
	closed bool
}

func newPool(most int, dial func(context.Context) (*conn, error)) *pool {
	return &pool{dial: dial, places: make(chan struct{}, most)}
}

// A lease is a place in the pool with a connection on it, until end. All that waits
// on the connection fails when ctx ends.
type lease struct {
	*conn
	ctx    context.Context
	cancel func() // of ctx, if that is its own; else nil
	pool   *pool
	stop   func() bool
	once   sync.Once
}

// lease waits for a place.
func (p *pool) lease(ctx context.Context) (*lease, error) {
	select {
	case p.places <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	l := &lease{ctx: ctx, pool: p}
	if err := l.occupy(); err != nil {
		<-p.places
		return nil, err
	}
	return l, nil
}

// occupy takes the connection that was used last, or makes one.
func (l *lease) occupy() error {
	if err := l.ctx.Err(); err != nil {
		return err
	}
	c, err := l.pool.last()
	if c == nil && err == nil {
		c, err = l.pool.dial(l.ctx)
	}
	if err != nil {
		return err
	}
	l.conn = c
	l.watch()
	return nil
}

// watch has the connection killed when the context ends.
func (l *lease) watch() {
	l.conn.ctx = l.ctx
	l.stop = context.AfterFunc(l.ctx, l.conn.kill)
}

// outlive gives the lease a context of its own, of length d, in place of the one that it had.
func (l *lease) outlive(d time.Duration) {
	if !l.stop() {
		l.kill()
	}
	if l.cancel != nil {
		l.cancel()
	}
	l.ctx, l.cancel = context.WithTimeout(context.WithoutCancel(l.ctx), d)
	l.watch()
}

// guarded is guarded of the connection that there is.
func (l *lease) guarded(f func() error) error { return guarded(func() { l.kill() }, f) }

// awake has a connection on which the server listens. It hangs up on idle ones without a word.
func (l *lease) awake() error {
	for l.isDead() || l.used && fatal(l.NoOp()) {
		if err := l.renew(); err != nil {
			return err
		}
	}
	return nil
}

// renew hangs up, and has another connection on the same place. After an error there is none.
func (l *lease) renew() error {
	l.stop()
	l.kill()
	return l.occupy()
}

// explain returns err, or that the context ended, from which err follows then. The
// connection is given up if it is of no use after err; those that wait idle are not
// likely to be better.
func (l *lease) explain(err error) error {
	if err == nil {
		return nil
	}
	if e := l.ctx.Err(); e != nil && l.cancel != nil {
		return fmt.Errorf("no reply came: %w", gateway.ErrUnavailable)
	} else if e != nil {
		return e
	}
	if fatal(err) {
		l.kill()
		l.pool.clear()
	}
	return err
}

// end gives the place back, and the connection if it can be used again.
func (l *lease) end() {
	l.once.Do(func() {
		if !l.stop() {
			l.kill()
		}
		if l.cancel != nil {
			l.cancel()
		}
		l.pool.keep(l.conn)
		<-l.pool.places
	})
}

// last takes the connection that was used last, nil if there is none.
func (p *pool) last() (*conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, fs.ErrClosed
	}
	n := len(p.idle) - 1
	if n < 0 {
		return nil, nil
	}
	c := p.idle[n]
	p.idle = p.idle[:n]
	c.expiry.Stop()
	return c, nil
}

// keep has c wait for its next use.
func (p *pool) keep(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		c.kill()
	}
	if c.isDead() {
		return
	}
	c.used = true
	p.idle = append(p.idle, c)
	c.expiry = time.AfterFunc(idleTime, func() { p.expire(c) })
}

// expire hangs up, unless c is in use again.
func (p *pool) expire(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, other := range p.idle {
		if other == c {
			p.idle = append(p.idle[:i], p.idle[i+1:]...)
			c.kill()
			return
		}
	}
}

// clear hangs up all that are idle.
func (p *pool) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.idle {
		c.expiry.Stop()
		c.kill()
	}
	p.idle = nil
}

func (p *pool) close() {
	p.clear()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
}
