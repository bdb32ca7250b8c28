package origin

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// A pool has the connections to an origin that no exchange has. Any number of
// goroutines may use it.
type pool struct {
	up *Upstream

	mu      sync.Mutex
	idle    []*conn // the one that came back last is used first
	open    int     // connections that are idle, in use or being opened
	waiting []*waiter
	tidying bool // tidy is going to run
	shut    bool // nobody has asked for a connection since closeIdle
}

// A waiter waits for a connection.
type waiter struct {
	fresh   bool            // for one that has not served
	ctx     context.Context // of a connection that is opened for it
	opening context.CancelFunc
	got     chan delivery // has room for the one that comes
}

// A delivery is what came of waiting.
type delivery struct {
	c   *conn
	err error
}

// get returns a connection on which nothing has come since it was used last, and that
// was not used before if fresh. Waiting ends with ctx.
func (p *pool) get(ctx context.Context, fresh bool) (*conn, error) {
	var queue <-chan time.Time
	for {
		c, w := p.take(ctx, fresh)
		if w != nil {
			if queue == nil {
				t := time.NewTimer(p.up.opt.QueueTimeout)
				defer t.Stop()
				queue = t.C
			}
			select {
			case d := <-w.got:
				if d.err != nil {
					return nil, d.err
				}
				c = d.c
			case <-ctx.Done():
				p.leave(w)
				return nil, context.Cause(ctx)
			case <-queue:
				p.leave(w)
				return nil, p.up.fault(ConnectionLimit, fmt.Errorf("no connection free for %v, %d at most", p.up.opt.QueueTimeout, p.up.opt.MaxConns))
			}
		}
		// What comes on a new one is for the exchange to judge.
		if !c.served && c.since.IsZero() || c.quiet() {
			return c, nil
		}
		p.drop(c)
	}
}

// take returns an idle connection, or who waits for one.
func (p *pool) take(ctx context.Context, fresh bool) (*conn, *waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shut = false
	if n := len(p.idle) - 1; n >= 0 && !fresh {
		c := p.idle[n]
		p.idle[n], p.idle = nil, p.idle[:n]
		return c, nil
	}
	w := &waiter{fresh: fresh, ctx: context.WithoutCancel(ctx), got: make(chan delivery, 1)}
	p.waiting = append(p.waiting, w)
	p.grow()
	return nil, w
}

// grow opens connections for those who wait, as many as there may be. The caller
// has the lock.
func (p *pool) grow() {
	for _, w := range p.waiting {
		if w.opening != nil {
			continue
		}
		if p.open >= p.up.opt.MaxConns {
			if !w.fresh || len(p.idle) == 0 {
				return
			}
			p.discard(1) // whose place is needed
		}
		p.open++
		var ctx context.Context
		ctx, w.opening = context.WithTimeout(w.ctx, p.up.opt.ConnectTimeout)
		go p.dial(ctx, w)
	}
}

// dial opens a connection for w, who may have got another meanwhile.
func (p *pool) dial(ctx context.Context, w *waiter) {
	defer w.opening()
	c, err := p.up.dial(ctx)
	if err == nil {
		p.offer(c, w)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.waiting, w); i >= 0 {
		p.deliver(i, delivery{err: err})
	}
	p.open--
	p.grow()
}

// deliver ends the waiting of one of those who do.
func (p *pool) deliver(i int, d delivery) {
	w := p.waiting[i]
	p.waiting = slices.Delete(p.waiting, i, i+1)
	w.got <- d
}

// leave has w wait no more.
func (p *pool) leave(w *waiter) {
	p.mu.Lock()
	i := slices.Index(p.waiting, w)
	if i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
		if w.opening != nil {
			w.opening()
		}
	}
	p.mu.Unlock()
	if i < 0 {
		if d := <-w.got; d.err == nil {
			p.offer(d.c, nil)
		}
	}
}

// offer gives c to first, which may be nil, if it still waits, or to who has waited
// longest, or keeps it.
func (p *pool) offer(c *conn, first *waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := -1
	if first != nil {
		i = slices.Index(p.waiting, first)
	}
	if i < 0 {
		i = slices.IndexFunc(p.waiting, func(w *waiter) bool { return !w.fresh || !c.served })
	}
	if i >= 0 {
		p.deliver(i, delivery{c: c})
		return
	}
	c.since = time.Now()
	p.idle = append(p.idle, c)
	switch {
	case p.shut:
		p.discard(len(p.idle))
	case len(p.idle) > p.up.opt.MaxIdle:
		p.discard(1)
	}
	if !p.tidying && len(p.idle) > 0 {
		p.tidying = true
		time.AfterFunc(p.up.opt.IdleTimeout, p.tidy)
	}
}

// put takes back a connection on which an exchange has ended well.
func (p *pool) put(c *conn) {
	c.served = true
	p.offer(c, nil)
}

// drop closes a connection that is of no more use.
func (p *pool) drop(c *conn) {
	c.close()
	p.release()
}

// release makes room for another connection in place of one that is closed, or a
// tunnel now.
func (p *pool) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open--
	p.grow()
}

// tidy closes what has been idle for too long.
func (p *pool) tidy() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, n := time.Now(), 0
	for n < len(p.idle) && now.Sub(p.idle[n].since) >= p.up.opt.IdleTimeout {
		n++
	}
	p.discard(n)
	if p.tidying = len(p.idle) > 0; p.tidying {
		time.AfterFunc(p.up.opt.IdleTimeout-now.Sub(p.idle[0].since), p.tidy)
	}
}

// closeIdle closes the idle connections, and those that come back before anybody
// asks for one.
func (p *pool) closeIdle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shut = true
	p.discard(len(p.idle))
}

// discard closes the n connections that have been idle for longest. The caller has
// the lock.
func (p *pool) discard(n int) {
	for _, c := range p.idle[:n] {
		go c.stream.Close() // TLS may take a moment to say goodbye
	}
	p.idle = slices.Delete(p.idle, 0, n)
	p.open -= n
}
